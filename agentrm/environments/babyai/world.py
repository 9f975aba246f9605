"""BabyAI as text: what the agent has seen, its high-level actions over the known part of the grid, and subgoals."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from minigrid.core.actions import Actions
from minigrid.core.constants import DIR_TO_VEC, IDX_TO_OBJECT
from minigrid.envs.babyai.core.verifier import AfterInstr, BeforeInstr, GoToInstr, OpenInstr, PickupInstr, PutNextInstr

Cell = tuple[int, int]

PRIMITIVES = {
    "turn left": Actions.left,
    "turn right": Actions.right,
    "move forward": Actions.forward,
    "toggle": Actions.toggle,
    "drop": Actions.drop,
}
OBJECT_ACTION = re.compile(r"(go to|pick up|put next to|go through|toggle and go through) (\w+ \w+ \d+)")
SIDES = ("forward", "left", "right")
_UNSEEN = next(index for index, name in IDX_TO_OBJECT.items() if name == "unseen")


def neighbours(cell: Cell) -> list[Cell]:
    return [(cell[0] + int(dx), cell[1] + int(dy)) for dx, dy in DIR_TO_VEC]


def shortest_path(start: Cell, goals: Iterable[Cell], passable: Callable[[Cell], bool]) -> list[Cell] | None:
    """Cells from `start` (left out) to the nearest of `goals`, or None; ties are broken by the order of directions."""
    wanted, before, queue = set(goals), {start: start}, deque([start])
    while queue:
        cell = queue.popleft()
        if cell in wanted:
            path = []
            while cell != start:
                path.append(cell)
                cell = before[cell]
            return path[::-1]
        for following in neighbours(cell):
            if following not in before and passable(following):
                before[following] = cell
                queue.append(following)
    return None


@cache
def _nearest_first(size: int) -> list[tuple[int, int]]:
    """The cells of a view as (ahead, to the side, left below 0), in the order in which they are described."""
    reach = size // 2
    sides = sorted(range(-reach, reach + 1), key=lambda side: (abs(side), side))
    return [(forward, side) for forward in range(size) for side in sides]


class World:
    """One episode of a BabyAI level.

    `names` gives every object that was seen a name, numbered by first sight; `seen` holds the cells that were in view.
    High-level actions know no more than that. The whole object can be pickled, which is the snapshot.
    """

    def __init__(self, engine: Any, view: Any) -> None:
        self.engine = engine
        self.names: dict[Any, str] = {}
        self.seen: set[Cell] = set()
        self.visible: list[tuple[Any, int, int]] = []
        self.walls: dict[str, int] = {}
        self.status = ""
        self._look(view)
        self.milestones = self._milestones()
        self._given = sum(self.milestones)

    # --- acting

    def act(self, action: str) -> str:
        """Execute one action, known or not, and return the observation."""
        before = self.describe()
        refusal = self._execute(" ".join(action.lower().split()))
        after = self.describe()
        unchanged = after == before and not self.status
        return f"{refusal or 'Nothing happens.'} {after}" if unchanged else after

    @property
    def goal(self) -> str:
        return self.engine.mission

    def possible(self) -> list[str]:
        """Actions that may do something now."""
        verbs = ["go to", "pick up", "put next to"]
        actions = list(PRIMITIVES)
        for thing, name in self.names.items():
            door_verbs = ["go through", "toggle and go through"] if thing.type == "door" else []
            actions += [f"{verb} {name}" for verb in verbs + door_verbs if (verb, thing.type) != ("pick up", "door")]
        return actions

    def content(self) -> object:
        """All that decides what follows."""
        here = {name: place for thing, place in self.positions().items() if (name := self.names.get(thing))}
        carried = self.names.get(self.engine.carrying)
        cells, direction = self.engine.grid.encode().tolist(), int(self.engine.agent_dir)
        known = sorted(here.items()), sorted(self.seen), carried
        return cells, self.position, direction, known, self.milestones, self.status

    def _execute(self, action: str) -> str | None:
        """Run an action's plan; a text says why there is none."""
        if action in PRIMITIVES:
            self._run(PRIMITIVES[action])
            return None
        match = OBJECT_ACTION.fullmatch(action)
        if not match:
            return "That is not an action."
        verb, name = match.groups()
        thing = next((thing for thing, known in self.names.items() if known == name), None)
        if thing is None or (thing is not self.engine.carrying and thing not in self.positions()):
            return f"You have not seen {name}."
        if verb.endswith("go through") and thing.type != "door":
            return f"{name} is not a door."
        if thing is self.engine.carrying:
            return f"You carry {name}."
        if verb == "put next to":
            return self._put_next_to(thing, name)
        if not self.known_way(thing):
            return f"You know no way to {name}."
        self._go_to(thing)
        if verb == "pick up":
            self._run(Actions.pickup)
        elif verb == "toggle and go through" and not thing.is_open:
            self._run(Actions.toggle)
        if verb.endswith("go through"):
            self._run(Actions.forward)
            self._run(Actions.forward)
        return None

    def _run(self, primitive: Actions) -> None:
        if self.status:
            return
        view, reward, terminated, _, _ = self.engine.step(primitive)
        if terminated:
            self.status = "success" if reward > 0 else "failure"
        self._look(view)
        self.milestones = [old or new for old, new in zip(self.milestones, self._milestones(), strict=True)]

    def known_way(self, thing: Any) -> bool:
        return self._path_to([self.positions()[thing]]) is not None

    def _path_to(self, targets: list[Cell]) -> list[Cell] | None:
        """The known way to stand next to one of the targets; () when the agent already does."""
        return shortest_path(self.position, [near for cell in targets for near in neighbours(cell)], self._walkable)

    def _walkable(self, cell: Cell) -> bool:
        if cell not in self.seen:
            return False
        content = self.engine.grid.get(*cell)
        return content is None or content.can_overlap()

    def _go_to(self, thing: Any) -> None:
        """Walk next to a thing by a known way and face it."""
        target = self.positions()[thing]
        for cell in [*(self._path_to([target]) or []), target]:
            self._face(cell)
            if cell != target:
                self._run(Actions.forward)
        # The verifier judges after a primitive only: one without effect lets it see an agent that already stood there.
        self._run(Actions.done)

    def _put_next_to(self, thing: Any, name: str) -> str | None:
        if self.engine.carrying is None:
            return "You carry nothing."
        spots = [cell for cell in neighbours(self.positions()[thing]) if self._empty(cell)]
        path = self._path_to(spots)
        if path is None:
            return f"You know no free place next to {name}."
        for cell in path:
            self._face(cell)
            self._run(Actions.forward)
        if not self.status:
            self._face(next(cell for cell in neighbours(self.position) if cell in spots))
            self._run(Actions.drop)
        return None

    def _empty(self, cell: Cell) -> bool:
        return cell in self.seen and self.engine.grid.get(*cell) is None

    def _face(self, cell: Cell) -> None:
        if self.status:  # the episode ended on the way, and with it the walk
            return
        wanted = neighbours(self.position).index(cell)
        turns = (wanted - self.engine.agent_dir) % len(DIR_TO_VEC)
        for primitive in [Actions.left] if turns == 3 else [Actions.right] * turns:
            self._run(primitive)

    # --- seeing

    @property
    def position(self) -> Cell:
        x, y = self.engine.agent_pos
        return int(x), int(y)

    def positions(self) -> dict[Any, Cell]:
        """Where each object lies (carried and boxed ones lie nowhere)."""
        grid = self.engine.grid
        return {
            thing: (index % grid.width, index // grid.width)
            for index, thing in enumerate(grid.grid)
            if thing is not None and thing.type != "wall"
        }

    def _look(self, view: Any) -> None:
        kinds, size = view["image"][:, :, 0].tolist(), self.engine.agent_view_size
        (x, y), ahead, right = self.position, self.engine.dir_vec.tolist(), self.engine.right_vec.tolist()
        self.visible, self.walls = [], {}
        for forward, side in _nearest_first(size):
            if kinds[side + size // 2][size - 1 - forward] == _UNSEEN:
                continue
            cell = x + forward * ahead[0] + side * right[0], y + forward * ahead[1] + side * right[1]
            self.seen.add(cell)
            thing = self.engine.grid.get(*cell)
            if thing is None or (forward, side) == (0, 0):
                continue
            if thing.type != "wall":
                self._name(thing)
                self.visible.append((thing, forward, side))
            elif 0 in (forward, side):
                direction = "forward" if forward else "left" if side < 0 else "right"
                self.walls.setdefault(direction, forward or abs(side))

    def _name(self, thing: Any) -> None:
        if thing not in self.names:
            kind = f"{thing.color} {thing.type}"
            self.names[thing] = f"{kind} {1 + sum(name.startswith(kind) for name in self.names.values())}"

    def describe(self) -> str:
        """What the agent sees, in distances from itself, and what it carries."""
        things = ", ".join(f"{self.names[thing]} ({_details(thing, *place)})" for thing, *place in self.visible)
        text = f"You see: {things}." if things else "You see nothing."
        if self.walls:
            text += f" Wall {', '.join(f'{self.walls[side]} {side}' for side in SIDES if side in self.walls)}."
        if self.engine.carrying is not None:
            text += f" You carry {self.names[self.engine.carrying]}."
        return text

    # --- judging

    def _milestones(self) -> list[bool]:
        """Which subgoals hold now: for each instruction of the mission its targets found, faced or carried; it done."""
        positions = self.positions()
        front = (int(self.engine.front_pos[0]), int(self.engine.front_pos[1]))

        def found(things: list[Any]) -> bool:
            return any(thing in self.names for thing in things)

        def of(instruction: Any, ready: bool, done: bool) -> list[bool]:
            if isinstance(instruction, GoToInstr | PickupInstr):
                flags = [found(instruction.desc.obj_set)]
            elif isinstance(instruction, OpenInstr):
                doors = instruction.desc.obj_set
                flags = [found(doors), ready and any(positions.get(door) == front for door in doors)]
            elif isinstance(instruction, PutNextInstr):
                move, fixed = instruction.desc_move.obj_set, instruction.desc_fixed.obj_set
                flags = [found(move), ready and self.engine.carrying in move, found(fixed)]
            else:
                first_done, second_done = instruction.a_done == "success", instruction.b_done == "success"
                first_ready = ready and (second_done or not isinstance(instruction, AfterInstr))
                second_ready = ready and (first_done or not isinstance(instruction, BeforeInstr))
                flags = of(instruction.instr_a, first_ready, first_done)
                return [flag or done for flag in flags + of(instruction.instr_b, second_ready, second_done)]
            return [flag or done for flag in [*flags, done]]

        return of(self.engine.instrs, ready=True, done=self.status == "success")

    def progress(self) -> float:
        """The share of subgoals reached so far among those that the start leaves open; 1 on success."""
        return (sum(self.milestones) - self._given) / (len(self.milestones) - self._given)


def _details(thing: Any, forward: int, side: int) -> str:
    places = [f"{forward} forward"] if forward else []
    if side:
        places.append(f"{abs(side)} {'left' if side < 0 else 'right'}")
    if thing.type == "door":
        places.insert(0, "open" if thing.is_open else "locked" if thing.is_locked else "closed")
    return ", ".join(places)
