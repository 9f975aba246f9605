"""The BabyAI oracle: knows the whole grid and the level's verifier, speaks the same actions as any policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrid.envs.babyai.core.verifier import AfterInstr, BeforeInstr, GoToInstr, OpenInstr, PickupInstr, PutNextInstr

from agentrm.environments.babyai.world import OBJECT_ACTION, Cell, World, neighbours, shortest_path
from agentrm.environments.support import at_least

_AT_HAND = {"toggle": "I toggle what is ahead of me.", "drop": "I put down what I carry."}


def solve(world: World, limit: int) -> list[str]:
    """Play `world` to the end and return the actions, or [] if it is not solved within `limit` of them."""
    actions: list[str] = []
    while not world.status and len(actions) < limit:
        action = _next(world, world.engine.instrs)
        if action is None:
            return []
        actions.append(action)
        world.act(action)
    return actions if world.status == "success" else []


def thought(world: World, plan: Sequence[str]) -> str:
    """What is to be done with the next two objects of the plan, and how many actions it takes at least; of objects
    that have not been seen, only those that the mission names.
    """
    if plan[0] in _AT_HAND:
        return _AT_HAND[plan[0]]
    places = {world.names[thing]: place for thing, place in world.positions().items() if thing in world.names}
    aims = []
    for verb, name in (match.groups() for match in map(OBJECT_ACTION.fullmatch, plan) if match):
        kind, _, _ = name.rpartition(" ")
        if name in places or kind in world.engine.mission:
            aims.append((name, f"{verb.replace('put', 'put it')} the {kind}"))
    if not aims:
        return "I look around."
    todo = ", then ".join(aim for _, aim in aims[:2])
    nearest, _ = aims[0]
    unseen = nearest not in places
    looking = " I have not seen it yet." if unseen else ""
    return f"I have to {todo}.{looking} {at_least(len(aims) + unseen)}"


def _next(world: World, instruction: Any) -> str | None:
    """The next action for an instruction, or None when no way is left."""
    if isinstance(instruction, GoToInstr):
        return _reach(world, instruction.desc.obj_set, "go to")
    if isinstance(instruction, PickupInstr):
        return _pick_up(world, instruction.desc.obj_set)
    if isinstance(instruction, OpenInstr):
        return _open(world, instruction.desc.obj_set)
    if isinstance(instruction, PutNextInstr):
        if world.engine.carrying in instruction.desc_move.obj_set:
            return _reach(world, instruction.desc_fixed.obj_set, "put next to")
        return _pick_up(world, instruction.desc_move.obj_set)
    first_is_due = instruction.a_done != "success"
    if isinstance(instruction, AfterInstr):
        first_is_due = instruction.b_done == "success"
    elif not isinstance(instruction, BeforeInstr) and instruction.b_done != "success":
        # Either order is right: whichever of the two has a way now.
        return (first_is_due and _next(world, instruction.instr_a)) or _next(world, instruction.instr_b)
    return _next(world, instruction.instr_a if first_is_due else instruction.instr_b)


def _pick_up(world: World, things: list[Any], shut: tuple[Any, ...] = ()) -> str | None:
    action = _reach(world, things, "pick up", shut)
    if world.engine.carrying is None or action is None or not action.startswith("pick up"):
        return action
    # Hands must be free, but a key was needed on the way: it is dropped at the last moment only.
    return "drop" if _front(world) is None else "turn left"


def _open(world: World, doors: list[Any]) -> str | None:
    ready = [door for door in doors if _has_key(world, door)]
    if not ready:
        return _fetch_key(world, doors[0], ())
    return "toggle" if _front(world) in ready else _reach(world, ready, "go to")


def _front(world: World) -> Any:
    return world.engine.grid.get(*world.engine.front_pos)


def _has_key(world: World, door: Any) -> bool:
    """Whether the agent can open the door as it stands."""
    carried = world.engine.carrying
    return not door.is_locked or (carried is not None and (carried.type, carried.color) == ("key", door.color))


def _fetch_key(world: World, door: Any, shut: tuple[Any, ...]) -> str | None:
    """The next action to get a locked door's key, without a way through that door or those in `shut`."""
    shut, things = (*shut, door), world.positions()
    keys = [thing for thing in things if (thing.type, thing.color) == ("key", door.color)]
    if keys:
        return _pick_up(world, keys, shut)
    boxes = [thing for thing in things if thing.type == "box" and getattr(thing.contains, "color", None) == door.color]
    if _front(world) in boxes:
        return "toggle"
    return _reach(world, boxes, "go to", shut)


def _reach(world: World, things: list[Any], verb: str, shut: tuple[Any, ...] = ()) -> str | None:
    """One action towards the nearest of the things, and `verb` on it as soon as the agent knows a way."""
    positions = world.positions()
    targets = {cell: thing for thing in things if (cell := positions.get(thing)) is not None}
    goals = [near for cell in targets for near in neighbours(cell)]
    grid = world.engine.grid

    def openable(cell: Cell) -> bool:
        content = grid.get(*cell)
        return content is None or (content.type == "door" and _has_key(world, content))

    def unlockable(cell: Cell) -> bool:
        content = grid.get(*cell)
        return content is None or (content.type == "door" and content not in shut)

    path = shortest_path(world.position, goals, openable)
    if path is None:
        path = shortest_path(world.position, goals, unlockable)
    if path is None:
        return None
    end = path[-1] if path else world.position
    target = targets[next(cell for cell in neighbours(end) if cell in targets)]
    if target in world.names and world.known_way(target):
        return f"{verb} {world.names[target]}"
    doors = [content for cell in path if (content := grid.get(*cell)) is not None]
    locked = next((door for door in doors if not _has_key(world, door)), None)
    if locked is not None:
        return _fetch_key(world, locked, shut)
    if doors and doors[0] in world.names and world.known_way(doors[0]):
        return f"{'go through' if doors[0].is_open else 'toggle and go through'} {world.names[doors[0]]}"
    turns = (neighbours(world.position).index((path or [positions[target]])[0]) - world.engine.agent_dir) % 4
    return "move forward" if turns == 0 else "turn left" if turns == 3 else "turn right"
