"""The environment contract: what an engine must offer so that any policy can act and any search can branch in it.

An environment is a deterministic function of a task and a sequence of actions. What the policy may see (`reset`,
`step`) is apart from what only tree building and evaluation may read (`grade`), so that no search can reach the true
reward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from agentrm.core.errors import UserError
from agentrm.core.messages import Tool, ToolCall
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.calls import text_argument, text_tool, write_call
from agentrm.environments.rewriting import Rewriting

SPLITS = ("train", "valid", "test")
OFFICIAL = "official"
"""How the identity of official data begins."""

_TEXT = (text_tool("act", "Take one action.", "command", "The action, as the environment writes it."),)


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of an in-context example: what the agent read, what it thought and what it did."""

    observation: str
    thought: str
    action: str


class Environment(ABC):
    """One live episode at a time on a real engine.

    Contract: `reset` may be called any number of times; `step` takes any text at all and answers in the engine's own
    words (an unknown action is a normal observation, never an exception); after `done` no further `step` is made;
    `close` leaves no process, thread or file behind and may be called twice.
    """

    name: ClassVar[str]
    engine: ClassVar[str]
    licence: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    published_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds beside `kinds` that have tasks only where their project's official data is."""
    max_steps: ClassVar[int]
    instruction: ClassVar[str]
    action_form: ClassVar[str] = ""
    """The part of `instruction` that says how an action is written: left out for an agent that calls `tools`."""
    example: ClassVar[tuple[Turn, ...]] = ()
    """One solved episode in our own words, shown after the instruction; its last action solves it."""
    perturbations: ClassVar[Mapping[str, tuple[Rewriting, ...]]] = MappingProxyType({})
    """Other wordings by name, each some rewritings one after the other: `NAME+using` is this environment in `using`."""
    generated: ClassVar[bool] = True
    """Whether `Task.seed` chooses among universes of tasks; an engine with tasks of its own ignores it."""
    snapshots: ClassVar[bool] = False
    max_live: ClassVar[int | None] = None
    """How many live engines one process holds at most, where one is heavy; None: as many as `hosts.sessions` allows."""

    @classmethod
    @abstractmethod
    def size(cls, kind: str, split: str) -> int:
        """The number of tasks of one kind in one split. Raises UserError for an unknown kind or split."""

    @classmethod
    def data(cls, kind: str, split: str) -> str:
        """The identity of the official data that these tasks are of here; "" where they are not: see `official`."""
        return ""

    @classmethod
    def every_kind(cls) -> tuple[str, ...]:
        """All that a task's kind can be, whether or not its data is here."""
        return cls.kinds + cls.published_kinds

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        """The kinds of a set of tasks that names none: official ones where this split has any here, else the others;
        never both.
        """
        return cls.kinds

    @classmethod
    def require(cls, kind: str, split: str, official: bool) -> None:
        """Raise UserError, with the way to get it, where a kind's data is not here, or it must be `official`."""
        if official:
            raise UserError(f"{cls.name} has no official data: leave the key official out")

    @classmethod
    def task(cls, kind: str, split: str, index: int, seed: int = 0) -> Task:
        """The task of this index here: an official one, or that of a universe of generated ones."""
        data = cls.data(kind, split)
        return Task(cls.name, kind, split, index, 0 if data else seed, data)

    @classmethod
    def tools(cls, kind: str) -> tuple[Tool, ...]:
        """The functions by whose calls an agent can act in a kind: `act(command)`, whose command is any action, unless
        the environment has typed ones. An environment that has also overrides `action` and `call`.
        """
        return _TEXT

    @classmethod
    def guide(cls, kind: str) -> tuple[str, tuple[Turn, ...]]:
        """The instruction and the solved example that stand before the tasks of a kind."""
        return cls.instruction, cls.example

    @classmethod
    def instruction_for_calls(cls, kind: str) -> str:
        """The instruction of a kind without the `action_form`."""
        instruction, _ = cls.guide(kind)
        if not cls.action_form:
            return instruction
        before, _, after = instruction.partition(cls.action_form)
        return f"{before.rstrip()} {after.lstrip()}".strip()

    @classmethod
    def observation_for_calls(cls, kind: str, first: str) -> str:
        """The first observation as an agent reads it that is offered the `tools` of a kind: without a list of them."""
        return first

    @classmethod
    def action(cls, name: str, arguments: Mapping[str, Any]) -> str:
        """The action that a call of one of the `tools` stands for. Raises ValueError where it stands for none."""
        return text_argument(arguments, "command")

    @classmethod
    def call(cls, action: str) -> ToolCall:
        """The call that stands for an action: what an oracle's action is in a demonstration, without an id."""
        return write_call("act", {"command": action})

    @classmethod
    def present_wording(cls, text: str) -> str:
        """A text of an older version of the engine, an action or an observation, as the present one has it."""
        return text

    @abstractmethod
    def reset(self, task: Task) -> Observation:
        """Start the task; the text holds goal and first observation. Raises UserError for an index out of range."""

    @abstractmethod
    def step(self, action: str) -> Observation:
        """Execute one action."""

    @abstractmethod
    def grade(self) -> Grade:
        """The true reward of the present state. Only tree building and evaluation call this."""

    @abstractmethod
    def expert_actions(self) -> list[str]:
        """Actions of the oracle from the first observation to success, or [] without one. Leaves the episode reset."""

    def thought(self, plan: Sequence[str]) -> str:
        """What the oracle, whose actions from the present state to success are `plan`, thinks here: one line, no more
        than follows from what the agent has read by now; "" where it says nothing.
        """
        return ""

    @abstractmethod
    def admissible_actions(self) -> list[str]:
        """Actions that the engine accepts now (for play and tests; policies never see them)."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of the engine's full state: equal states have equal fingerprints."""

    def snapshot(self) -> Any:
        """The engine's state, where `snapshots` is true; only `restore` of the same process may read it."""
        raise NotImplementedError(f"{self.name} has no snapshots: replay the actions")

    def restore(self, state: Any) -> None:
        """Return to a snapshot of the same task."""
        raise NotImplementedError(f"{self.name} has no snapshots: replay the actions")

    @abstractmethod
    def close(self) -> None:
        """Release the engine."""

    @classmethod
    def step_limit(cls, kind: str) -> int:
        """After how many actions an episode of a kind ends."""
        return cls.max_steps

    @classmethod
    def size_of(cls, task: Task) -> int:
        """The number of tasks beside which this one is counted. Raises UserError where its data is not here."""
        return cls.size(task.kind, task.split)

    @classmethod
    def check(cls, task: Task) -> None:
        """Raise UserError unless the task exists here."""
        size = cls.size_of(task)
        if not 0 <= task.index < size:
            raise UserError(
                f"task index {task.index} is out of range: {cls.name} {task.kind} has {size} tasks in {task.split}"
            )
