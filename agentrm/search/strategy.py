"""The one interface of all test-time searches, and how one is run on a task."""

from __future__ import annotations

from typing import Protocol

from agentrm.config.schema import Evaluate
from agentrm.core.protocols import Policy, RewardModel, Sessions
from agentrm.core.task import Task
from agentrm.search.episode import Opening
from agentrm.search.exploration import Exploration, Watch
from agentrm.search.result import Result


class Strategy(Protocol):
    """A test-time search. It holds its own numbers and no state, so many tasks can share one.

    `label` names it in tables. `guided`: the reward model's scores steer it on its way, beyond the choice among whole
    episodes.
    """

    @property
    def label(self) -> str:
        """Its name and numbers, such as `beam 3x3`."""
        ...

    @property
    def guided(self) -> bool:
        """Whether scores decide which states are continued."""
        ...

    async def choose(self, explored: Exploration) -> int:
        """Explore, and return the node of the state to answer with. Raises EnvironmentFailure."""
        ...


async def search(
    strategy: Strategy,
    task: Task,
    policy: Policy,
    sessions: Sessions,
    reward_model: RewardModel | None,
    settings: Evaluate,
    opening: Opening,
    watch: Watch | None = None,
) -> Result:
    """Run one search on one task; policy, sessions and reward model may be local or behind Ray.

    Many can run at a time: what they ask of an engine at once shares its batches. Raises EnvironmentFailure.
    """
    explored = await Exploration.begin(task, policy, sessions, reward_model, settings, opening, watch)
    return explored.result(await strategy.choose(explored))
