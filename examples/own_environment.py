"""An environment of one's own: a row of lamps, each of which switches its neighbours as well.

    python examples/own_environment.py

shows the oracle at work. With an entry point `lights = own_environment:Lights` in the group `agentrm.environments`,
`agentrm play lights` and every other command know it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

from agentrm import Environment, Grade, Observation, Task
from agentrm.environments.base import Turn
from agentrm.environments.support import check_kind, derive_seed, digest, split_of

LAMPS = {"nine": 9, "fifteen": 15}
SIZES = {"train": 1000, "valid": 100, "test": 100}


class Lights(Environment):
    """Switch all lamps off. Outcome is 1 when they are; progress is the share of lamps put out at best so far.

    With these numbers of lamps exactly one set of presses does it, in any order.
    """

    name: ClassVar[str] = "lights"
    engine: ClassVar[str] = "its own"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = tuple(LAMPS)
    max_steps: ClassVar[int] = 20
    snapshots: ClassVar[bool] = True
    instruction: ClassVar[str] = (
        "A row of lamps, numbered from 1. Pressing a lamp switches it and the lamps beside it. Switch all lamps off. "
        "Actions: press NUMBER."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn("Of lamps 1 to 9 these are on: 1, 2, 3, 6.", "Lamp 1 puts out 1 and 2.", "press 1"),
        Turn("Of lamps 1 to 9 these are on: 3, 6.", "Lamp 4 puts out 3, and 4 to 6 are left.", "press 4"),
        Turn("Of lamps 1 to 9 these are on: 4, 5, 6.", "These are lamp 5 and its neighbours.", "press 5"),
    )

    def __init__(self) -> None:
        self._task: Task | None = None
        self._presses: tuple[int, ...] = ()
        self._lit: tuple[bool, ...] = ()
        self._fewest = self._most = 0

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        return SIZES[split]

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task, self._presses = task, _solution(task)
        self._lit = (False,) * LAMPS[task.kind]
        for lamp in self._presses:
            self._lit = _pressed(self._lit, lamp)
        self._fewest = self._most = sum(self._lit)
        return Observation(self._describe())

    def step(self, action: str) -> Observation:
        words = " ".join(action.split())
        if words not in self.admissible_actions():
            return Observation(f"That is not an action: press 1 to {len(self._lit)}. {self._describe()}")
        self._lit = _pressed(self._lit, int(words.removeprefix("press ")))
        self._fewest = min(self._fewest, sum(self._lit))
        return Observation(self._describe(), done=not any(self._lit))

    def grade(self) -> Grade:
        solved = not any(self._lit)
        return Grade(outcome=float(solved), progress=1 - self._fewest / self._most, success=solved)

    def expert_actions(self) -> list[str]:
        assert self._task is not None, "reset(task) comes first"
        self.reset(self._task)
        return [f"press {lamp}" for lamp in self._presses]

    def thought(self, plan: Sequence[str]) -> str:
        return f"{len(plan)} more to press, from the left."

    def admissible_actions(self) -> list[str]:
        return [f"press {lamp}" for lamp in range(1, len(self._lit) + 1)]

    def fingerprint(self) -> str:
        return digest(self._presses, self._lit, self._fewest)

    def snapshot(self) -> Any:
        return self._task, self._presses, self._lit, self._fewest, self._most

    def restore(self, state: Any) -> None:
        self._task, self._presses, self._lit, self._fewest, self._most = state

    def close(self) -> None:
        self._lit = ()

    def _describe(self) -> str:
        lit = [str(lamp) for lamp, on in enumerate(self._lit, start=1) if on]
        return f"Of lamps 1 to {len(self._lit)} these are on: {', '.join(lit) or 'none'}."


def _pressed(lit: tuple[bool, ...], lamp: int) -> tuple[bool, ...]:
    return tuple(on != (abs(number - lamp) <= 1) for number, on in enumerate(lit, start=1))


def _solution(task: Task) -> tuple[int, ...]:
    """The lamps to press: the first draw whose content belongs to the task's split, so that no two splits share one."""
    draw = 0
    while True:
        chance = Random(derive_seed(task.environment, task.seed, task.kind, task.split, task.index, draw))
        lamps = range(1, LAMPS[task.kind] + 1)
        presses = tuple(sorted(chance.sample(lamps, k=chance.randint(2, len(lamps) // 2))))
        if split_of(repr((task.kind, presses))) == task.split:
            return presses
        draw += 1


def main() -> None:
    lights = Lights()
    print(lights.reset(Task("lights", "nine", "train", 0)).text)
    for action in lights.expert_actions():
        print(f"> {action}\n{lights.step(action).text}")
    print(lights.grade())
    lights.close()


if __name__ == "__main__":
    main()
