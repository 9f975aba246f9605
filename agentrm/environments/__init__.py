"""Environments: the contract, the registry and the hosting with deadlines. Engines are imported on first use only."""

from agentrm.core.task import SPLITS, Grade, Observation, Task
from agentrm.environments.base import Environment
from agentrm.environments.registry import base_name, data_variables, environment_class, find_task, make, names

__all__ = [
    "SPLITS",
    "Environment",
    "Grade",
    "Observation",
    "Task",
    "base_name",
    "data_variables",
    "environment_class",
    "find_task",
    "make",
    "names",
]
