"""A task names one episode for ever; what an environment says of it to the agent, and in secret to who measures."""

from __future__ import annotations

from dataclasses import dataclass, field

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, order=True, slots=True)
class Task:
    """One episode, for ever: the same task gives the same first observation on any machine.

    `kind` is the level or task type, the unit of "held-out"; `index` counts within (kind, split); `seed` chooses the
    universe of generated instances. An official task has the identity of its `data` in the seed's place.
    """

    environment: str
    kind: str
    split: str
    index: int
    seed: int = 0
    # Names of made stories and digests of states hold the text of a generated task, which is to stay what it was.
    data: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """A name that is safe in a path: `babyai.goto_local.train.12.0`, `pddl.barman.test.3.official-0c5e17d2`."""
        return f"{self.environment}.{self.kind}.{self.split}.{self.index}.{self.data or self.seed}"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent reads after `reset` or `step`; `done` when the environment ended it (not a step limit)."""

    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class Grade:
    """The hidden truth of a state, in [0, 1]: `outcome` is the reward in the metric that the paper reports for this
    environment, `progress` the share of subgoals reached so far; `success` when the task is solved.
    """

    outcome: float
    progress: float
    success: bool
