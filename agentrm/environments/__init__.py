"""Environments: the contract, the registry and the hosting with deadlines. Engines are imported on first use only."""

from agentrm.environments.base import SPLITS, Environment, Grade, Observation, Task
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
