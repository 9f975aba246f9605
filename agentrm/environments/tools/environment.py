"""What ToolQuery and ToolOperation share: an episode of typed calls on a toolkit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from agentrm.core.messages import Tool, ToolCall
from agentrm.core.task import Observation, Task
from agentrm.environments.official import OfficialData, OfficialEnvironment
from agentrm.environments.tools.toolkit import ACTION_FORM, ToolError, Toolkit, read_call, write_action, write_result


class Drawn(Protocol):
    """A drawn task: what is asked for and the reference calls that do it."""

    @property
    def goal(self) -> str: ...

    @property
    def actions(self) -> tuple[str, ...]: ...


Episode = TypeVar("Episode", bound=Drawn)
Kit = TypeVar("Kit", bound=Toolkit)


def first_text(toolkit: type[Toolkit], goal: str) -> str:
    """What the agent reads first."""
    return f"{_listed(toolkit)}Goal: {goal}"


def _listed(toolkit: type[Toolkit]) -> str:
    return f"Tools:\n{toolkit.manual()}\n\n"


class ToolEnvironment(OfficialEnvironment, Generic[Episode, Kit]):
    """An agent that calls tools. The first observation lists the tools of the kind and the goal.

    Subclasses draw an episode, put its toolkit up, and take note of every call that went well.
    """

    kinds: ClassVar[tuple[str, ...]]
    max_steps: ClassVar[int] = 20
    action_form: ClassVar[str] = f"An action calls one tool: {ACTION_FORM}."
    official: ClassVar[tuple[OfficialData, ...]] = ()
    snapshots: ClassVar[bool] = True

    def __init__(self) -> None:
        self._task: Task | None = None
        self._episode: Episode | None = None
        self._kit: Kit | None = None

    @classmethod
    def tools(cls, kind: str) -> tuple[Tool, ...]:
        return cls.toolkit(kind).schemas()

    @classmethod
    def observation_for_calls(cls, kind: str, first: str) -> str:
        return first.removeprefix(_listed(cls.toolkit(kind)))

    @classmethod
    def action(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return write_action(name, arguments)

    @classmethod
    def call(cls, action: str) -> ToolCall:
        return read_call(action)

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task = task
        self._episode = self._draw(task)
        self._begin(self._episode)
        return Observation(first_text(type(self._toolkit), self._drawn.goal))

    def step(self, action: str) -> Observation:
        # Lone surrogates are no text to a database or a workbook.
        action = action.encode("utf-8", "replace").decode()
        try:
            name, arguments = self._toolkit.parse(action)
            result = self._toolkit.run(name, arguments)
        except ToolError as error:
            return Observation(f"ERROR | {error}")
        text = write_result(result)
        return Observation(text, done=self._note(name, arguments, text))

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self.reset(self._task)
        return list(self._drawn.actions)

    def thought(self, plan: Sequence[str]) -> str:
        name, arguments = self._toolkit.parse(plan[0])
        if name == "finish":
            answer = arguments.get("answer")
            return "That is all." if answer is None else f"Now I know the answer: {write_result(answer)}."
        return self._toolkit.purpose(name, arguments)

    def admissible_actions(self) -> list[str]:
        return self._toolkit.calls()

    @classmethod
    @abstractmethod
    def toolkit(cls, kind: str) -> type[Toolkit]:
        """The tools of a kind."""

    @abstractmethod
    def _draw(self, task: Task) -> Episode:
        """The episode of a task, always the same."""

    @abstractmethod
    def _begin(self, episode: Episode) -> None:
        """Put the toolkit of an episode into its first state."""

    @abstractmethod
    def _note(self, name: str, arguments: dict[str, Any], text: str) -> bool:
        """Take note of a call and what it returned; true when the episode has ended."""

    @property
    def _drawn(self) -> Episode:
        assert self._episode is not None, "reset(task) comes first"
        return self._episode

    @property
    def _toolkit(self) -> Kit:
        assert self._kit is not None, "reset(task) comes first"
        return self._kit
