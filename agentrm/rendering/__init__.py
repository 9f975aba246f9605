"""Conversations to token ids: nothing else in AgentRM builds prompts."""
