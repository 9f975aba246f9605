"""Perturbations: an environment in another wording, to measure how robust a policy or a reward model is to it.

`alfworld+using` is the environment `alfworld` in its wording `using`; every place that takes an environment's name
takes it. An environment offers wordings in its attribute `perturbations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from agentrm.core.errors import UserError
from agentrm.core.messages import Tool, ToolCall
from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment, Turn
from agentrm.environments.rewriting import Rewriting

MARK = "+"


class Perturbed(Environment):
    """The game of `base` with the same tasks, in another wording: actions go in and all texts come out rewritten.

    The unperturbed form of a rewritten action reaches the engine in the perturbed form, and is refused in its words.
    """

    base: ClassVar[type[Environment]]
    rewritings: ClassVar[tuple[Rewriting, ...]]

    def __init__(self) -> None:
        self._inner = self.base()

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        return cls.base.size(kind, split)

    @classmethod
    def data(cls, kind: str, split: str) -> str:
        return cls.base.data(kind, split)

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        return cls.base.usual_kinds(split)

    @classmethod
    def require(cls, kind: str, split: str, official: bool) -> None:
        cls.base.require(kind, split, official)

    @classmethod
    def step_limit(cls, kind: str) -> int:
        return cls.base.step_limit(kind)

    @classmethod
    def size_of(cls, task: Task) -> int:
        return cls.base.size_of(task)

    @classmethod
    def guide(cls, kind: str) -> tuple[str, tuple[Turn, ...]]:
        instruction, example = cls.base.guide(kind)
        return cls.reword(instruction), tuple(map(cls._reword_turn, example))

    @classmethod
    def _reword_turn(cls, turn: Turn) -> Turn:
        return Turn(cls.reword(turn.observation), cls.reword(turn.thought), cls.reword(turn.action))

    @classmethod
    def tools(cls, kind: str) -> tuple[Tool, ...]:
        return cls.base.tools(kind)

    @classmethod
    def action(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return cls.base.action(name, arguments)

    @classmethod
    def call(cls, action: str) -> ToolCall:
        return cls.base.call(action)

    def reset(self, task: Task) -> Observation:
        return self._show(self._inner.reset(replace(task, environment=self.base.name)))

    def step(self, action: str) -> Observation:
        return self._show(self._inner.step(self._plain(action)))

    def grade(self) -> Grade:
        return self._inner.grade()

    def expert_actions(self) -> list[str]:
        return [self.reword(action) for action in self._inner.expert_actions()]

    def thought(self, plan: Sequence[str]) -> str:
        return self.reword(self._inner.thought([*map(self._plain, plan)]))

    def admissible_actions(self) -> list[str]:
        return [self.reword(action) for action in self._inner.admissible_actions()]

    def fingerprint(self) -> str:
        return self._inner.fingerprint()

    def snapshot(self) -> Any:
        return self._inner.snapshot() if self.snapshots else super().snapshot()

    def restore(self, state: Any) -> None:
        self._inner.restore(state)

    def close(self) -> None:
        self._inner.close()

    @classmethod
    def reword(cls, text: str) -> str:
        """A text of the base environment in this wording."""
        for rewriting in cls.rewritings:
            text = rewriting(text)
        return text

    def _plain(self, action: str) -> str:
        for rewriting in reversed(self.rewritings):
            action = rewriting(action)
        return action

    def _show(self, observation: Observation) -> Observation:
        return replace(observation, text=self.reword(observation.text))


@cache
def perturbed(environment: type[Environment], perturbation: str) -> type[Environment]:
    """The class of an environment in one of its wordings. Raises UserError when it has no such wording."""
    wordings = environment.perturbations
    if perturbation not in wordings:
        known = f"choose from {', '.join(wordings)}" if wordings else "it has none"
        raise UserError(f"{environment.name} has no perturbation {perturbation!r}: {known}")

    class Wording(Perturbed):
        base = environment
        rewritings = wordings[perturbation]
        name = f"{environment.name}{MARK}{perturbation}"
        engine = environment.engine
        licence = environment.licence
        kinds = environment.kinds
        published_kinds = environment.published_kinds
        max_steps = environment.max_steps
        snapshots = environment.snapshots
        max_live = environment.max_live

    Wording.instruction = Wording.reword(environment.instruction)
    Wording.action_form = Wording.reword(environment.action_form)
    Wording.example = tuple(map(Wording._reword_turn, environment.example))
    return Wording
