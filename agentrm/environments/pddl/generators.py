"""Seeded PDDL problems for the four domains, as varied as AgentBoard's and small enough for thirty actions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from agentrm.core.task import Task
from agentrm.environments.support import derive_seed, split_of

DOMAIN_NAMES = {
    "gripper": "gripper-strips",
    "blocksworld": "blocksworld-4ops",
    "barman": "barman",
    "tyreworld": "tyreworld",
}


@dataclass(frozen=True)
class Draft:
    """A problem's parts, each in PDDL without brackets; `content` is what it asks for, whatever its names."""

    objects: tuple[str, ...]
    init: tuple[str, ...]
    goal: tuple[str, ...]
    content: object


def generated_problem(task: Task) -> str:
    """The PDDL text of a task: the first draw that asks for something and belongs to the task's split."""
    draw = 0
    while True:
        rng = random.Random(derive_seed(task.seed, task.kind, task.split, task.index, draw))
        draft = _DRAW[task.kind](rng)
        if not set(draft.goal) <= set(draft.init) and split_of(repr((task.kind, draft.content))) == task.split:
            return _pddl(task, draft)
        draw += 1


def _pddl(task: Task, draft: Draft) -> str:
    def bracketed(facts: tuple[str, ...]) -> str:
        return " ".join(f"({fact})" for fact in facts)

    return (
        f"(define (problem {task.kind}-{task.index})\n(:domain {DOMAIN_NAMES[task.kind]})\n"
        f"(:objects {' '.join(draft.objects)})\n(:init {bracketed(draft.init)})\n(:goal (and {bracketed(draft.goal)})))"
    )


def _gripper(rng: random.Random) -> Draft:
    """Two to four rooms and two to eight balls (six in four rooms); some balls have no goal, or lie there already."""
    rooms = [f"room{letter}" for letter in "abcd"[: rng.choice((2, 2, 2, 3, 3, 4))]]
    start = rng.choice(rooms)
    trips = []
    for _ in range(rng.randint(2, 8 if len(rooms) < 4 else 6)):
        origin, other = rng.sample(rooms, 2)
        trips.append((origin, rng.choice((other, other, other, other, origin, ""))))
    trips.sort()
    balls = [f"ball{number + 1}" for number in range(len(trips))]
    rng.shuffle(balls)
    hands = ("left", "right")
    init = [f"room {room}" for room in rooms] + [f"ball {ball}" for ball in balls]
    init += [f"gripper {hand}" for hand in hands] + [f"free {hand}" for hand in hands] + [f"at-robby {start}"]
    init += [f"at {ball} {origin}" for ball, (origin, _) in zip(balls, trips, strict=True)]
    goal = [f"at {ball} {target}" for ball, (_, target) in zip(balls, trips, strict=True) if target]
    return Draft((*rooms, *balls, *hands), tuple(init), tuple(goal), (rooms, start, trips))


def _blocksworld(rng: random.Random) -> Draft:
    """Four to seven blocks in towers, and all or some of the places of other towers."""
    count = rng.randint(4, 7)
    before = sorted(_towers(list(range(count)), rng), key=len)
    # Blocks are numbered as they stand, so that the names play no part in the content.
    number = {block: index for index, block in enumerate(block for tower in before for block in tower)}
    numbered = list(range(count))
    rng.shuffle(numbered)
    wanted = sorted((upper, lower) for tower in _towers(numbered, rng) for lower, upper in pairwise(tower))
    kept = sorted(rng.sample(wanted, rng.randint(min(2, len(wanted)), len(wanted))))
    names = [f"b{index + 1}" for index in range(count)]
    rng.shuffle(names)
    init = ["arm-empty"]
    for tower in before:
        blocks = [names[number[block]] for block in tower]
        init += [f"on-table {blocks[0]}", f"clear {blocks[-1]}"]
        init += [f"on {upper} {lower}" for lower, upper in pairwise(blocks)]
    goal = [f"on {names[upper]} {names[lower]}" for upper, lower in kept]
    return Draft(tuple(names), tuple(init), tuple(goal), ([len(tower) for tower in before], kept))


def _towers(blocks: list[int], rng: random.Random) -> list[list[int]]:
    """The blocks in towers, bottom first: each block goes on the table or on the tower before."""
    towers: list[list[int]] = []
    for block in blocks:
        if towers and rng.random() < 0.65:
            towers[-1].append(block)
        else:
            towers.append([block])
    return towers


def _barman(rng: random.Random) -> Draft:
    """Two to four ingredients, one to five cocktails, and up to two cocktails and two ingredients to serve."""
    ingredients = [f"ingredient{index + 1}" for index in range(rng.randint(2, 4))]
    cocktails = [f"cocktail{index + 1}" for index in range(rng.randint(1, 5))]
    parts = {cocktail: rng.sample(ingredients, 2) for cocktail in cocktails}
    mixed, plain = rng.choice(((0, 2), (1, 0), (1, 0), (1, 1), (1, 1), (1, 2), (2, 0), (2, 0)))
    orders = rng.choices(cocktails, k=mixed) + rng.choices(ingredients, k=plain)
    shots = [f"shot{index + 1}" for index in range(rng.randint(len(orders) + 1, 5))]
    taps = [f"dispenser{index + 1}" for index in range(len(ingredients))]
    objects = ["shaker1 - shaker", "left right - hand", f"{' '.join(shots)} - shot"]
    objects += [f"{' '.join(ingredients)} - ingredient", f"{' '.join(cocktails)} - cocktail"]
    objects += [f"{' '.join(taps)} - dispenser", "l0 l1 l2 - level"]
    vessels = ["shaker1", *shots]
    init = [f"{fact} {vessel}" for fact in ("ontable", "clean", "empty") for vessel in vessels]
    init += ["handempty left", "handempty right", "shaker-empty-level shaker1 l0", "shaker-level shaker1 l0"]
    init += ["next l0 l1", "next l1 l2"]
    init += [f"dispenses {tap} {ingredient}" for tap, ingredient in zip(taps, ingredients, strict=True)]
    for cocktail, (first, second) in parts.items():
        init += [f"cocktail-part1 {cocktail} {first}", f"cocktail-part2 {cocktail} {second}"]
    goal = [f"contains {shot} {drink}" for shot, drink in zip(rng.sample(shots, len(orders)), orders, strict=True)]
    wanted = sorted((drink, tuple(sorted(parts.get(drink, ())))) for drink in orders)
    return Draft(tuple(objects), tuple(init), tuple(goal), (sorted(parts.items()), len(shots), wanted))


_TOOLS = ("jack", "pump", "wrench")


def _tyreworld(rng: random.Random) -> Draft:
    """One to three hubs with flat wheels. One wheel is replaced, wholly or in part; of the others less is asked."""
    hubs = rng.randint(1, 3)
    is_open = rng.random() < 0.3
    held = sorted(tool for tool in _TOOLS if rng.random() < 0.15)
    # Of each hub: whether its nuts are tight and its spare wheel is inflated, and what is asked.
    states = [(rng.random() < 0.75, rng.random() < 0.3) for _ in range(hubs)]
    replaced = rng.randrange(hubs)
    asked = []
    for number, (tight, inflated) in enumerate(states):
        if number == replaced:
            chances = {"on": 0.85, "tight": 0.4, "old": 0.7}
        else:
            chances = {"loose" if tight else "tight": 0.4, "old": 0.15}
        if not inflated:
            chances["inflated"] = 0.5
        asked.append([wish for wish, chance in chances.items() if rng.random() < chance])
    put_away = sorted(tool for tool in _TOOLS if rng.random() < 0.15)
    closed = rng.random() < 0.15

    objects = ["wrench jack pump - tool", "boot - container"]
    init = ["unlocked boot", "isopen boot" if is_open else "closed boot"]
    init += [f"have {tool}" if tool in held else f"in {tool} boot" for tool in _TOOLS]
    goal = [f"in {tool} boot" for tool in put_away] + (["closed boot"] if closed else [])
    order = list(range(hubs))
    rng.shuffle(order)
    for number, index in enumerate(order):
        hub, nuts, old, spare = f"the-hub{number + 1}", f"nuts{number + 1}", f"w{number + 1}", f"r{number + 1}"
        tight, inflated = states[index]
        objects += [f"{hub} - hub", f"{nuts} - nut", f"{old} {spare} - wheel"]
        init += [
            f"on {old} {hub}",
            f"on-ground {hub}",
            f"fastened {hub}",
            f"{'tight' if tight else 'loose'} {nuts} {hub}",
        ]
        init += [f"in {spare} boot", f"intact {spare}", f"{'inflated' if inflated else 'not-inflated'} {spare}"]
        fact_of = {
            "on": f"on {spare} {hub}",
            "tight": f"tight {nuts} {hub}",
            "loose": f"loose {nuts} {hub}",
            "old": f"in {old} boot",
            "inflated": f"inflated {spare}",
        }
        goal += [fact_of[wish] for wish in asked[index]]
    content = is_open, held, put_away, closed, sorted(zip(states, asked, strict=True))
    return Draft(tuple(objects), tuple(init), tuple(goal), content)


_DRAW: dict[str, Callable[[random.Random], Draft]] = {
    "gripper": _gripper,
    "blocksworld": _blocksworld,
    "barman": _barman,
    "tyreworld": _tyreworld,
}
