"""AgentRM: reward models that make LLM agents better on tasks that nobody trained them for (arXiv 2502.18407)."""

__version__ = "0.1.0"
