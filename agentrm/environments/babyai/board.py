"""BabyAI as AgentBoard plays it: what is in view in its wording, its actions, and its subgoals (its `babyai_env.py`).

An agent acts on what it sees at the moment alone: names count the things in view, and ways lead over cells in view.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from minigrid.core.actions import Actions
from minigrid.core.constants import DIR_TO_VEC, IDX_TO_COLOR, IDX_TO_OBJECT, STATE_TO_IDX

from agentrm.environments.babyai.world import Cell

# The ids of AgentBoard's levels 1 to 21, 24, 25, 27 to 29, 31 and 32 in minigrid 2.3.0, which it plays, each with
# today's id where that has changed: its 112 first states are the same in minigrid 3.2.0.
LEVELS = {
    "BabyAI-GoToRedBallGrey-v0": "",
    "BabyAI-GoToRedBall-v0": "",
    "BabyAI-GoToRedBallNoDists-v0": "",
    # Its room was of the size 4 there, by mistake.
    "BabyAI-GoToObjS6-v0": "BabyAI-GoToObjS4-v0",
    "BabyAI-GoToLocalS8N7-v0": "",
    "BabyAI-GoToObjMazeS7-v0": "",
    "BabyAI-GoToImpUnlock-v0": "",
    "BabyAI-GoToSeqS5R2-v0": "",
    "BabyAI-GoToRedBlueBall-v0": "",
    "BabyAI-GoToDoor-v0": "",
    "BabyAI-GoToObjDoor-v0": "",
    "BabyAI-Open-v0": "",
    "BabyAI-OpenRedDoor-v0": "",
    "BabyAI-OpenDoorLoc-v0": "",
    "BabyAI-OpenRedBlueDoorsDebug-v0": "",
    "BabyAI-OpenDoorsOrderN4Debug-v0": "",
    "BabyAI-Pickup-v0": "",
    "BabyAI-UnblockPickup-v0": "",
    "BabyAI-PickupLoc-v0": "",
    "BabyAI-PickupDistDebug-v0": "",
    "BabyAI-PickupAbove-v0": "",
    "BabyAI-Unlock-v0": "",
    "BabyAI-UnlockLocalDist-v0": "",
    "BabyAI-UnlockPickupDist-v0": "",
    "BabyAI-BlockedUnlockPickup-v0": "",
    "BabyAI-UnlockToUnlock-v0": "",
    "BabyAI-FindObjS7-v0": "",
    "BabyAI-KeyCorridorS6R3-v0": "",
}
FIRST_SEED, SEEDS = 1234, 4
CHECK = "check available actions"
_STATES = {number: name for name, number in STATE_TO_IDX.items()}
_SHOWN = ("door", "key", "ball", "box", "goal", "lava", "wall")
_SOLID = ("wall", "box", "lava", "ball", "key")
_TURNS = ((Actions.forward, 0), (Actions.left, -1), (Actions.right, 1))
_COMPLETED = "\n The task is completed."
_UNKNOWN = "The action is not recognized. Please check valid actions."
_UNCHANGED = "No change in state."


@dataclass(frozen=True, slots=True)
class Thing:
    """Something in view: its `name` as it is written, without a number, its cell, and how far it is ahead of the agent
    and to its right.
    """

    name: str
    kind: str
    cell: Cell
    forward: int
    right: int

    def place(self) -> str:
        if not self.right:
            return f"right in front of you {self.forward} steps away"
        side = "right" if self.right > 0 else "left"
        return f"{self.forward} steps in front of you and {abs(self.right)} steps to your {side}"


class Board:
    """One episode. Each observation that a move leads to counts for the first of the subgoals that are left and that it
    matches; it ends when the mission does and more than half of them were matched, or when all were (`status` is
    "success", or "failure" of a mission whose order was not kept). The whole object can be pickled, which is the
    snapshot.
    """

    primitives: ClassVar[dict[str, Actions]] = {
        "turn left": Actions.left,
        "turn right": Actions.right,
        "move forward": Actions.forward,
        "drop": Actions.drop,
        "toggle": Actions.toggle,
    }

    def __init__(self, engine: Any, view: Any, goal: str, subgoals: Iterable[str]) -> None:
        self.engine, self.goal, self.status = engine, goal, ""
        self.left = list(subgoals)
        self._count = len(self.left)
        self._image = view["image"]
        self._failed = False
        self._look()

    # --- acting

    def act(self, action: str) -> str:
        """Execute one action, known or not, and return the observation."""
        typed = action.lower().strip()
        if "check" in typed:
            return f"You can take the following actions: {', '.join(self.actions)}"
        if typed not in self.actions:
            return self._refusals.get(typed, _UNKNOWN) if typed else _UNCHANGED
        plan = self.actions[typed]
        if not plan:
            return _UNCHANGED
        done = False
        for primitive in plan:
            view, reward, terminated, _, _ = self.engine.step(primitive)
            done, self._failed = terminated, terminated and reward <= 0
            if (view["image"] == self._image).all():
                break
            self._image = view["image"]
        self._look()
        text = self.text + (_COMPLETED if done else "")
        if (reached := next((subgoal for subgoal in self.left if matches(text, subgoal)), None)) is not None:
            self.left.remove(reached)
        if done and self.progress() > 0.5:
            self.status = "failure" if self._failed else "success"
        elif self.progress() == 1:
            self.status = "success"
            text += _COMPLETED
        return text

    def describe(self) -> str:
        return self.text

    def progress(self) -> float:
        """The share of the subgoals that were matched so far."""
        return (self._count - len(self.left)) / self._count

    def possible(self) -> list[str]:
        return [*self.actions]

    def content(self) -> object:
        """All that decides what follows."""
        engine = self.engine
        carried = engine.carrying and (engine.carrying.type, engine.carrying.color)
        place = [int(number) for number in (*engine.agent_pos, engine.agent_dir)]
        return engine.grid.encode().tolist(), place, carried, self._image.tolist(), self.left, self.status

    # --- seeing

    def _look(self) -> None:
        """What is in view, and what can be done with it."""
        things = self._things()
        named: dict[str, Thing] = {}
        counts: dict[str, int] = {}
        for thing in things:
            if thing.kind != "wall":
                counts[thing.name] = counts.get(thing.name, 0) + 1
                named[f"{thing.name} {counts[thing.name]}"] = thing
        objects = "".join(f"There is a {name} {thing.place()}.  " for name, thing in named.items())
        seen = "In front of you in this room, you can see several objects: " if things else ""
        seen = seen or "You cannot see any objects within sight."
        ahead = [thing for thing in things if not thing.right and thing.kind in ("wall", "box")]
        barrier = min(ahead, key=lambda thing: thing.forward, default=None)
        facing = f"You are facing a {barrier.kind} {barrier.forward} steps away. " if barrier else ""
        carried = self.engine.carrying
        carries = f"You are carrying a {carried.color} {carried.type}." if carried else "You are not carrying anything."
        self.text = f"{seen}{objects}The room has walls around you. {facing}{carries}"
        self._offer(things, named, barrier)

    def _things(self) -> list[Thing]:
        """The nearest first; those that are equally near as the view has them, from afar and from the left."""
        size, things = self.engine.agent_view_size, []
        for down in range(size):
            for across in range(size):
                forward, right = size - 1 - down, across - size // 2
                kind, colour, state = (int(number) for number in self._image[across, down])
                cell = self._cell(forward, right)
                # In the agent's own cell the view has what it carries.
                if (forward, right) == (0, 0) or min(cell) < 0 or IDX_TO_OBJECT[kind] not in _SHOWN:
                    continue
                name = IDX_TO_OBJECT[kind]
                words = [IDX_TO_COLOR[colour], _STATES[state], name] if name == "door" else [IDX_TO_COLOR[colour], name]
                things.append(Thing(" ".join(words), name, cell, forward, right))
        return sorted(things, key=lambda thing: thing.forward + abs(thing.right))

    def _cell(self, forward: int, right: int) -> Cell:
        engine = self.engine
        x, y = engine.agent_pos + forward * engine.dir_vec + right * engine.right_vec
        return int(x), int(y)

    # --- what can be done

    def _offer(self, things: list[Thing], named: dict[str, Thing], barrier: Thing | None) -> None:
        """`actions` with the primitives of each, and why others are refused that look as if they could be done."""
        carried = self.engine.carrying
        self.actions: dict[str, list[Actions]] = {"turn left": [Actions.left], "turn right": [Actions.right]}
        self._refusals: dict[str, str] = {}
        if barrier is None or barrier.forward > 1:
            self.actions["move forward"] = [Actions.forward]
        else:
            self._refusals["move forward"] = "There is a barrier in front of you, you can't move forward."
        solid = {thing.cell for thing in things if thing.kind in _SOLID}
        facing = {name: self._way(thing.cell, solid, onto=False) for name, thing in named.items()}
        if carried is None:
            for name, thing in named.items():
                if thing.kind in ("key", "ball", "box"):
                    self._add("pickup", name, facing[name], [Actions.pickup])
            self._refusals["drop"] = "You cannot drop the object, as you are not carrying anything."
        elif self._cell(1, 0) in solid:
            self._refusals["drop"] = "You cannot drop the object, as there is already an object in front of you."
        else:
            self.actions["drop"] = [Actions.drop]
        for name, thing in named.items():
            if thing.kind == "door":
                self._offer_door(name, thing, facing[name], solid)
        for name in named:
            self._add("go to", name, facing[name], [])
        self.actions[CHECK] = []

    def _offer_door(self, name: str, door: Thing, way: list[Actions] | None, solid: set[Cell]) -> None:
        colour, state, _ = door.name.split()
        if state == "open":
            self._add("go through", name, self._way(door.cell, solid, onto=True), [])
            return
        carried = self.engine.carrying
        if state == "locked" and (carried is None or carried.type != "key"):
            self._refuse("toggle and go through", name, "you are not carrying a key")
            return
        if state == "locked" and carried.color != colour:
            reason = "the color of the key you are carrying does not match the color of door"
            self._refuse("toggle and go through", name, reason)
            return
        if state == "closed":
            refusal = f"You cannot go through {name}, as it is closed. You should toggle it first."
            self._refusals[f"go through {name}"] = refusal
        self._add("toggle and go through", name, way, [Actions.toggle, Actions.forward])
        if way == []:
            self.actions["toggle"] = [Actions.toggle]

    def _add(self, verb: str, name: str, way: list[Actions] | None, then: list[Actions]) -> None:
        if way is None:
            self._refuse(verb, name, "there is no path leading to it")
        else:
            self.actions[f"{verb} {name}"] = way + then

    def _refuse(self, verb: str, name: str, reason: str) -> None:
        self._refusals[f"{verb} {name}"] = f"You cannot {verb} {name}, as {reason}."

    def _way(self, goal: Cell, solid: set[Cell], onto: bool) -> list[Actions] | None:
        """The shortest way to stand before a cell and face it, or `onto` it; what is not in view is taken for free."""
        engine, size = self.engine, self.engine.agent_view_size
        corner, other = self._cell(size - 1, -(size // 2)), self._cell(-1, size - size // 2)
        # One line of cells beyond the view belongs to it where it lies towards the origin, as there.
        low = tuple(map(min, corner, other))
        high = tuple(b - 1 if b > a else a for a, b in zip(corner, other, strict=True))
        start = (self._cell(0, 0), int(engine.agent_dir))
        before: dict[tuple[Cell, int], tuple[tuple[Cell, int], Actions] | None] = {start: None}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            cell, direction = here
            ahead = (cell[0] + int(DIR_TO_VEC[direction][0]), cell[1] + int(DIR_TO_VEC[direction][1]))
            if (cell if onto else ahead) == goal:
                way: list[Actions] = []
                while (step := before[here]) is not None:
                    here, action = step
                    way.append(action)
                return way[::-1]
            for action, turn in _TURNS:
                following = (cell if turn else ahead, (direction + turn) % 4)
                x, y = following[0]
                inside = low[0] <= x <= high[0] and low[1] <= y <= high[1]
                if inside and following not in before and following[0] not in solid:
                    before[following] = here, action
                    queue.append(following)
        return None


def matches(observation: str, pattern: str) -> bool:
    """Whether one sentence of an observation holds all that stands between the `**` of a pattern."""
    pattern = pattern.strip()
    parts = [part.strip(".") for part in pattern.split("**" if "**" in pattern else "*")]
    return any(all(part in sentence for part in parts) for sentence in observation.split("."))
