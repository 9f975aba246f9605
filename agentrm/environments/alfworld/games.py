"""ALFWorld games: PDDL problems drawn on the wheel's own domain, or read from the official data, and their oracle."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import alfworld.gen.constants as alfred
from alfworld.gen.goal_library import gdict

from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments import agentboard
from agentrm.environments.alfworld import TASK_TYPES
from agentrm.environments.official import Published, announce
from agentrm.environments.screening import Entry, screen
from agentrm.environments.support import derive_seed, split_of

SMALL = "_small"

# How many of each receptacle a room has: a fixed number or a range.
Room = dict[str, int | tuple[int, int]]
ROOMS: dict[str, Room] = {
    "kitchen": {
        "Cabinet": (4, 10), "CounterTop": (1, 3), "Drawer": (3, 8), "Fridge": 1, "Microwave": 1, "SinkBasin": 1,
        "StoveBurner": 4, "CoffeeMachine": 1, "Toaster": 1, "GarbageCan": 1, "DiningTable": (0, 2), "Shelf": (0, 3),
    },
    "bathroom": {
        "Cabinet": (2, 4), "CounterTop": 1, "Drawer": (0, 4), "SinkBasin": (1, 2), "Toilet": 1, "ToiletPaperHanger": 1,
        "TowelHolder": 1, "HandTowelHolder": (1, 2), "GarbageCan": 1, "BathtubBasin": (0, 1), "Shelf": (0, 2),
    },
    "bedroom": {
        "Bed": 1, "Desk": (1, 2), "Drawer": (3, 8), "Dresser": (0, 1), "Shelf": (1, 6), "SideTable": (1, 2),
        "GarbageCan": 1, "LaundryHamper": (0, 1), "Safe": (0, 1), "ArmChair": (0, 1),
    },
    "livingroom": {
        "Sofa": (1, 2), "CoffeeTable": (1, 2), "SideTable": (1, 3), "ArmChair": (1, 2), "Drawer": (0, 6),
        "Dresser": (0, 1), "DiningTable": (0, 1), "Shelf": (0, 4), "TVStand": (0, 1), "GarbageCan": 1,
        "Cabinet": (0, 3),
    },
}  # fmt: skip
SMALL_ROOMS: dict[str, Room] = {
    "kitchen": {"CounterTop": 1, "Fridge": 1, "Microwave": 1, "SinkBasin": 1, "Cabinet": (0, 1), "DiningTable": (0, 1)},
    "bathroom": {"CounterTop": 1, "SinkBasin": 1, "Toilet": 1, "Cabinet": 1, "GarbageCan": (0, 1), "Shelf": (0, 1)},
    "bedroom": {"Bed": 1, "Desk": 1, "Drawer": (1, 2), "Shelf": (0, 1), "SideTable": 1},
    "livingroom": {"Sofa": 1, "CoffeeTable": 1, "SideTable": 1, "ArmChair": (0, 1), "Drawer": (1, 2)},
}
OBJECTS = {
    "kitchen": "Apple Bread ButterKnife Bowl Cup DishSponge Egg Fork Knife Ladle Lettuce Mug Pan PepperShaker Plate "
    "Pot Potato SaltShaker Spatula Spoon Tomato SoapBottle Glassbottle WineBottle",
    "bathroom": "Candle Cloth SoapBar SoapBottle SprayBottle ToiletPaper TissueBox Towel HandTowel Plunger",
    "bedroom": "AlarmClock Book Bowl CD CellPhone CreditCard KeyChain Laptop Mug Pen Pencil Pillow TeddyBear "
    "BasketBall BaseballBat Cloth",
    "livingroom": "Book Box CreditCard KeyChain Laptop Newspaper Pillow RemoteControl Statue TissueBox Vase Watch "
    "Plate Pen Candle",
}
COPIES = (0, 1, 1, 2, 3)
SMALL_OBJECTS = (3, 5)
LAMPS = ("DeskLamp", "FloorLamp")
LAMP_STANDS = ("Desk", "SideTable", "Dresser", "Shelf", "DiningTable", "CoffeeTable")
TASK_ROOMS = {
    "pick_heat_then_place_in_recep": ("kitchen",),
    "pick_cool_then_place_in_recep": ("kitchen",),
    "pick_clean_then_place_in_recep": ("kitchen", "bathroom"),
    "look_at_obj_in_light": ("bedroom", "livingroom"),
}
TREATMENTS = {
    "cleanable": ("isclean", "clean", "sinkbasin"),
    "heatable": ("ishot", "heat", "microwave"),
    "coolable": ("iscool", "cool", "fridge"),
}
_TREATABLE = {name: frozenset(alfred.VAL_ACTION_OBJECTS[name.capitalize()]) for name in TREATMENTS}
_TREATMENT_OF = {
    "pick_clean_then_place_in_recep": "cleanable",
    "pick_heat_then_place_in_recep": "heatable",
    "pick_cool_then_place_in_recep": "coolable",
}
_FITTING = {
    receptacle: frozenset(name for name in names if "Sliced" not in name)
    for receptacle, names in alfred.VAL_RECEPTACLE_OBJECTS.items()
}

# What the engine calls `move X to Y` now.
_PUT = re.compile(r"^put (.+) (?:in/on|in|on) (.+)$")

OFFICIAL_SPLITS = {"train": "train", "valid": "valid_seen", "test": "valid_unseen"}


@dataclass(frozen=True)
class Game:
    """One game: its PDDL problem, the goal in words, and the official walkthrough (empty for a generated game)."""

    problem: str
    goal: str
    walkthrough: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What a generated game holds, before it gets coordinates: objects name their receptacle by index."""

    task_type: str
    receptacles: tuple[str, ...]
    objects: tuple[tuple[str, int], ...]
    target: str
    destination: str

    def content(self) -> str:
        """The scene without order and coordinates, which decides its split."""
        placed = sorted((name, self.receptacles[index]) for name, index in self.objects)
        return repr((self.task_type, self.target, self.destination, sorted(self.receptacles), placed))


@lru_cache(maxsize=64)
def generated_game(task: Task) -> Game:
    """The game of a task of a generated kind."""
    return _as_game(*draw_scene(task))


def draw_scene(task: Task) -> tuple[Scene, random.Random]:
    """The first draw that is a sound scene and belongs to the task's split, and the generator for its coordinates."""
    draw = 0
    while True:
        rng = random.Random(derive_seed(task.seed, task.kind, task.split, task.index, draw))
        scene = _try_scene(task.kind.removesuffix(SMALL), task.kind.endswith(SMALL), rng)
        if scene is not None and split_of(scene.content()) == task.split:
            return scene, rng
        draw += 1


def official_games(data: Path, kind: str, split: str) -> Published:
    """The official games of a task type, sorted by name; the value of each are AgentBoard's subgoals for it, where its
    data is here. Raises UserError for a directory without `json_2.1.1`.
    """
    if not (data / "json_2.1.1").is_dir():
        raise UserError(f"ALFWORLD_DATA={data} holds no json_2.1.1: run `alfworld-download`, or unset the variable")
    games, left_out = _official_games(data, split)
    subgoals, broken = _board_subgoals() if split == "test" else ({}, {})
    entries = [
        Entry(game.path, subgoals.get(game.path.parent.name, []), game.content) for game in games if game.value == kind
    ]
    return Published.of(tuple(entries), left_out | broken)


def _board_subgoals() -> tuple[dict[str, list[str]], dict[str, str]]:
    """AgentBoard's subgoals, regular expressions, by the name of a game's folder, and why a line of its is left out."""
    if agentboard.lines_file("alfworld") is None:
        return {}, {}
    lines, left_out = agentboard.read_lines("alfworld", _board_game)
    return {name: list(line.patterns) for line, name in lines}, left_out


def _board_game(line: agentboard.Line) -> str:
    """The folder of the game that a line is about. Raises ValueError where it names none, or looks for no texts."""
    for pattern in line.patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"a subgoal is no regular expression ({error})") from None
    names = [part for value in line.info.values() if isinstance(value, str) for part in value.split("/")]
    folder = next((name for name in names if name.startswith("trial_")), None)
    if folder is None:
        raise ValueError("its additional_info names no game (a description with .../trial_...)")
    return folder


@cache
def _official_games(data: Path, split: str) -> tuple[tuple[Entry, ...], dict[str, str]]:
    paths = sorted((data / "json_2.1.1" / OFFICIAL_SPLITS[split]).rglob("game.tw-pddl"))
    games, left_out = screen(data, paths, f"{__name__}:solvable_game")
    announce("ALFWORLD_DATA", data, len(games), left_out)
    return games, left_out


def solvable_game(path: Path) -> str:
    """The task type of an official game that counts by ALFWorld's own rule (`AlfredTWEnv.collect_game_files`): not of a
    movable receptacle or something sliced, and found solvable. Raises ValueError for any other, and for no game.

    The type is `traj_data.json`'s where that lies beside the game, else its folder's.
    """
    folder = path.parent
    if any(word in name for name in (folder.name, folder.parent.name) for word in ("movable", "Sliced")):
        raise ValueError("with movable receptacles or sliced objects")
    trajectory = folder / "traj_data.json"
    kind = folder.parent.name.split("-")[0]
    if trajectory.is_file():
        kind = json.loads(trajectory.read_text(encoding="utf-8"))["task_type"]
    data = _data(path)
    if not data.get("solvable"):
        raise ValueError("not marked as solvable")
    if kind not in TASK_TYPES:
        raise ValueError("of another task type")
    Goal.of(_game(data).problem)
    return kind


@lru_cache(maxsize=64)
def read_official(path: Path) -> Game:
    """Read an official file; its own copies of domain and grammar are left, the wheel's take their place."""
    return _game(_data(path))


def _data(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError("no game")
    return data


def _game(data: dict[str, Any]) -> Game:
    goal = re.search(r'"Your task is to: (.*?)\.?"', data["grammar"])
    if goal is None:
        raise ValueError("names no goal")
    walkthrough = tuple(_PUT.sub(r"move \1 to \2", action) for action in data.get("walkthrough") or ())
    return Game(data["pddl_problem"], goal[1], walkthrough)


def _try_scene(task_type: str, small: bool, rng: random.Random) -> Scene | None:
    room = rng.choice(TASK_ROOMS.get(task_type, tuple(ROOMS)))
    counts = (SMALL_ROOMS if small else ROOMS)[room]
    receptacles = [
        name for name, count in counts.items() for _ in range(count if isinstance(count, int) else rng.randint(*count))
    ]

    def places(name: str) -> list[int]:
        return [index for index, receptacle in enumerate(receptacles) if name in _FITTING.get(receptacle, ())]

    names = [name for name in OBJECTS[room].split() for _ in range(rng.choice(COPIES)) if places(name)]
    if small:
        names = rng.sample(names, min(len(names), rng.randint(*SMALL_OBJECTS)))
    treatable = _TREATABLE.get(_TREATMENT_OF.get(task_type, ""))
    candidates = sorted({name for name in names if treatable is None or name in treatable})
    if not candidates:
        return None
    target = rng.choice(candidates)
    if task_type == "look_at_obj_in_light":
        destination = rng.choice(LAMPS)
        stands = [index for index, receptacle in enumerate(receptacles) if receptacle in LAMP_STANDS]
        lamps = [(destination, rng.choice(stands))] if stands else []
        if not lamps:
            return None
        free = {name: places(name) for name in names}
    else:
        destination = rng.choice(sorted({receptacles[index] for index in places(target)}))
        lamps = []
        # No target lies at its destination from the start.
        elsewhere = [index for index in places(target) if receptacles[index] != destination]
        free = {name: elsewhere if name == target else places(name) for name in names}
        if not elsewhere or (task_type == "pick_two_obj_and_place" and names.count(target) < 2):
            return None
    objects = [(name, rng.choice(free[name])) for name in names]
    return Scene(task_type, tuple(receptacles), tuple(objects + lamps), target, destination)


def _as_game(scene: Scene, rng: random.Random) -> Game:
    """Write a scene as ALFRED's PDDL, with names and locations in the form of the official files."""

    def name(kind: str) -> str:
        coordinates = [f"{rng.choice(('_plus_', '_minus_'))}{rng.uniform(0, 3):05.2f}" for _ in range(3)]
        return "_bar_".join([kind, *coordinates]).replace(".", "_dot_")

    receptacles = [name("Sink") + "_bar_SinkBasin" if kind == "SinkBasin" else name(kind) for kind in scene.receptacles]
    objects = [(name(kind), kind, index) for kind, index in scene.objects]
    spots = [
        f"loc_bar_{index}_bar_{rng.randint(1, 20)}_bar_{rng.randint(0, 3)}_bar_30"
        for index in range(len(receptacles) + 1)
    ]
    receptacle_types = sorted({kind for room in ROOMS.values() for kind in room})
    generated = {kind for names in OBJECTS.values() for kind in names.split()}
    object_types = sorted((set(alfred.OBJECTS) | generated | set(LAMPS)) - set(receptacle_types))
    present = sorted(set(scene.receptacles))

    declared = ["agent1 - agent", *(f"{kind}Type - otype" for kind in object_types)]
    declared += [f"{kind}Type - rtype" for kind in receptacle_types]
    declared += [f"{thing} - object" for thing, _, _ in objects] + [f"{thing} - receptacle" for thing in receptacles]
    declared += [f"{spot} - location" for spot in spots]
    facts = [f"atLocation agent1 {spots[-1]}"]
    for thing, kind, spot in zip(receptacles, scene.receptacles, spots, strict=False):
        facts += [f"receptacleType {thing} {kind}Type", f"receptacleAtLocation {thing} {spot}"]
        if kind in alfred.OPENABLE_CLASS_SET:
            facts.append(f"openable {thing}")
    facts += [
        f"canContain {receptacle}Type {kind}Type"
        for receptacle in present
        for kind in sorted(_FITTING.get(receptacle, ()))
        if kind in object_types
    ]
    for thing, kind, index in objects:
        facts += [f"objectType {thing} {kind}Type", f"objectAtLocation {thing} {spots[index]}"]
        facts += [f"inReceptacle {thing} {receptacles[index]}"]
        facts.append(f"toggleable {thing}" if kind in LAMPS else f"pickupable {thing}")
        facts += [f"{treatment} {thing}" for treatment, kinds in _TREATABLE.items() if kind in kinds]

    words = {"obj": scene.target, "recep": scene.destination, "toggle": scene.destination, "mrecep": ""}
    library = gdict[scene.task_type]
    goal = library["pddl"].replace("#", "-").format(**words)
    lines = ["(define (problem plan_generated)", "(:domain alfred)", "(:objects", *declared, ")", "(:init"]
    lines += [f"({fact})" for fact in facts] + [")"]
    template = rng.choice(library["templates"])
    return Game("\n".join(lines) + goal, template.format(**{key: word.lower() for key, word in words.items()}))


_WRONG_PLACES = 5
_LAMP_KINDS = {lamp.lower() for lamp in LAMPS}


@dataclass(frozen=True)
class Goal:
    """What a problem asks for: an object type, its destination's type ("" for a lamp's light), a state, a number."""

    target: str
    destination: str
    treatment: str
    count: int

    @classmethod
    def of(cls, problem: str) -> Goal:
        text = problem[problem.index("(:goal") :].lower()
        kinds = [kind for kind in re.findall(r"objecttype \?\S+ (\w+?)type\)", text) if kind not in _LAMP_KINDS]
        destinations = re.findall(r"receptacletype \?\S+ (\w+?)type\)", text)
        treatment = next((state for state, _, _ in TREATMENTS.values() if state in text), "")
        return cls(kinds[0], destinations[0] if destinations else "", treatment, len(kinds))


def scripted_plan(problem: str, names: dict[str, str]) -> list[str]:
    """The oracle: actions that reach the goal, from the problem's own facts; `names` maps ids to shown names.

    It does not know where things lie: it looks into receptacles in an order drawn from the problem, so that what it
    shows can be imitated, but into `_WRONG_PLACES` in vain at most, so that large rooms stay within the step limit.
    """
    start = problem[problem.index("(:init") : problem.index("(:goal")].lower()
    facts: dict[str, list[list[str]]] = defaultdict(list)
    for predicate, arguments in re.findall(r"\((\w+) ([^()]+)\)", start):
        facts[predicate].append(arguments.split())
    holder = dict(facts["inreceptacle"])
    openable = {thing for (thing,) in facts["openable"]}
    receptacle_of = {kind.removesuffix("type"): thing for thing, kind in sorted(facts["receptacletype"], reverse=True)}
    things = defaultdict(list)
    for thing, kind in sorted(facts["objecttype"]):
        if thing in holder:
            things[kind.removesuffix("type")].append(thing)
    goal = Goal.of(problem)
    plan: list[str] = []
    opened: set[str] = set()
    seen: set[str] = set()
    kind_of = {thing: kind.removesuffix("type") for thing, kind in facts["receptacletype"]}
    rng = random.Random(problem)
    unseen = rng.sample(sorted(kind_of), len(kind_of))
    here = ""

    def go_to(receptacle: str, opening: bool = True) -> None:
        nonlocal here
        if receptacle != here:
            plan.append(f"go to {names[receptacle]}")
        here = receptacle
        if opening and receptacle in openable and receptacle not in opened:
            plan.append(f"open {names[receptacle]}")
            opened.add(receptacle)
        if receptacle in opened or receptacle not in openable:
            seen.add(receptacle)

    def find(wanted: list[str]) -> str:
        """Look into one receptacle after another until one of the wanted things comes into sight, and go there."""
        places = {holder[thing] for thing in wanted}
        for place in [place for place in unseen if place not in seen | places][:_WRONG_PLACES]:
            if places & seen:
                break
            if rng.random() < len(places) / len(places | set(unseen) - seen):
                break
            go_to(place)
        chosen = next((thing for thing in wanted if holder[thing] in seen), wanted[0])
        go_to(holder[chosen])
        return chosen

    # Things already at a destination come last: two of a kind must end in one place, the one that the plan fills.
    targets = sorted(things[goal.target], key=lambda thing: kind_of[holder[thing]] == goal.destination)
    for number in range(goal.count):
        elsewhere = [thing for thing in targets[number:] if kind_of[holder[thing]] != goal.destination]
        thing = find(elsewhere or targets[number:])
        targets.remove(thing)
        targets.insert(number, thing)
        plan.append(f"take {names[thing]} from {names[holder[thing]]}")
        for state, verb, appliance in TREATMENTS.values():
            if state == goal.treatment:
                go_to(receptacle_of[appliance], opening=False)
                plan.append(f"{verb} {names[thing]} with {names[receptacle_of[appliance]]}")
        if goal.destination:
            go_to(receptacle_of[goal.destination])
            plan.append(f"move {names[thing]} to {names[receptacle_of[goal.destination]]}")
        else:
            lamp = find([lamp for kind in LAMPS for lamp in things[kind.lower()]])
            plan.append(f"use {names[lamp]}")
    return plan


_ACTION = re.compile(
    r"(?P<go>go to)|(?P<open>open)|(?P<close>close)|(?P<take>take)|(?P<treat>clean|heat|cool)|(?P<move>move)"
    r"|(?P<use>use)"
)


def thought(plan: Sequence[str], goal: Goal) -> str:
    """What the oracle thinks before a plan: what it looks for and what it holds; never where things lie that it has not
    seen.
    """
    action = plan[0]
    kind = match.lastgroup if (match := _ACTION.match(action)) else None
    verbs = [match.lastgroup for step in plan if (match := _ACTION.match(step))]
    article = "an" if goal.target[0] in "aeiou" else "a"
    wanted = f"{article} {goal.target}" if goal.count == 1 else f"one of two {goal.target}s"
    holding = "take" not in verbs or any(verb in verbs[: verbs.index("take")] for verb in ("treat", "move", "use"))
    following = next((step for step in plan[1:] if not step.startswith(("open ", "close "))), "")
    words = action.split()
    if kind == "go":
        place = action.removeprefix("go to ")
        if not holding:
            return f"I need {wanted}. It may be at {place}."
        if following.startswith(("clean ", "heat ", "cool ")):
            return f"I hold the {goal.target} and have to {following.split()[0]} it. {place} is made for that."
        if following.startswith("move "):
            return f"I hold the {goal.target}. It belongs in or on {place}."
        return f"I hold the {goal.target} and need a lamp. It may be at {place}."
    if kind == "open":
        place = action.removeprefix("open ")
        return f"{place} is closed, so I open it" + ("." if holding else " to see into it.")
    if kind == "close":
        return f"I close {action.removeprefix('close ')}."
    if kind == "take":
        thing, _, place = action.removeprefix("take ").partition(" from ")
        return f"Here is {thing}, at {place}. I need {wanted}, so I take it."
    if kind == "treat":
        thing, _, place = action.removeprefix(f"{words[0]} ").partition(" with ")
        return f"I stand at {place} and hold {thing}, so I can {words[0]} it now."
    if kind == "move":
        thing, _, place = action.removeprefix("move ").partition(" to ")
        return f"I am at {place} and put {thing} there, as the task asks."
    if kind == "use":
        return f"Here is {action.removeprefix('use ')}. I turn it on to look at the {goal.target} under it."
    return ""
