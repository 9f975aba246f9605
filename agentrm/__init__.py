"""Reward models that make LLM agents better on tasks that nobody trained them for.

The names of `__all__` are the public face. Each is imported when it is first used, so that `import agentrm` costs
nothing; the test-time searches are the public names of `agentrm.search`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "agentrm.config.loading": ("load",),
    "agentrm.config.schema": ("Config",),
    "agentrm.core.errors": (
        "AgentRMError",
        "ContextOverflow",
        "EnvironmentFailure",
        "InputRefused",
        "ModelError",
        "UserError",
    ),
    "agentrm.core.messages": ("Conversation",),
    "agentrm.core.protocols": ("Grader", "Policy", "RewardModel", "Sessions"),
    "agentrm.core.state": ("Proposal", "State", "Step"),
    "agentrm.core.task": ("Grade", "Observation", "Task"),
    "agentrm.core.tree": ("Node", "Tree"),
    "agentrm.data.trees": ("TreeStore",),
    "agentrm.environments.base": ("Environment",),
    "agentrm.environments.hosting.host": ("EnvironmentHost",),
    "agentrm.environments.registry": ("make",),
    "agentrm.rendering.renderer": ("Renderer",),
    "agentrm.run": ("RunDirectory",),
    "agentrm.service.client": ("AsyncScoringClient", "ScoringClient", "ServiceError"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_MODULES)

if TYPE_CHECKING:
    from agentrm.config.loading import load as load
    from agentrm.config.schema import Config as Config
    from agentrm.core.errors import AgentRMError as AgentRMError
    from agentrm.core.errors import ContextOverflow as ContextOverflow
    from agentrm.core.errors import EnvironmentFailure as EnvironmentFailure
    from agentrm.core.errors import InputRefused as InputRefused
    from agentrm.core.errors import ModelError as ModelError
    from agentrm.core.errors import UserError as UserError
    from agentrm.core.messages import Conversation as Conversation
    from agentrm.core.protocols import Grader as Grader
    from agentrm.core.protocols import Policy as Policy
    from agentrm.core.protocols import RewardModel as RewardModel
    from agentrm.core.protocols import Sessions as Sessions
    from agentrm.core.state import Proposal as Proposal
    from agentrm.core.state import State as State
    from agentrm.core.state import Step as Step
    from agentrm.core.task import Grade as Grade
    from agentrm.core.task import Observation as Observation
    from agentrm.core.task import Task as Task
    from agentrm.core.tree import Node as Node
    from agentrm.core.tree import Tree as Tree
    from agentrm.data.trees import TreeStore as TreeStore
    from agentrm.environments.base import Environment as Environment
    from agentrm.environments.hosting.host import EnvironmentHost as EnvironmentHost
    from agentrm.environments.registry import make as make
    from agentrm.rendering.renderer import Renderer as Renderer
    from agentrm.run import RunDirectory as RunDirectory
    from agentrm.service.client import AsyncScoringClient as AsyncScoringClient
    from agentrm.service.client import ScoringClient as ScoringClient
    from agentrm.service.client import ServiceError as ServiceError
else:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
