"""Episodes of one task as trees: those that begin alike share the nodes of their beginning."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from hashlib import blake2b

from agentrm.core.errors import InputRefused
from agentrm.core.messages import runs
from agentrm.core.state import State, observed
from agentrm.core.task import Task
from agentrm.core.tree import Node, Origin, Tree
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.exact import proposal_of, restored

SPLITS = (("train", 0.8), ("valid", 0.9), ("test", 1.0))
"""The share of all tasks below which a task is of a split."""


def task(episode: Episode, environment: str) -> Task:
    """The task of an episode: its id alone decides the split and the index. One that was exported keeps its own."""
    if episode.exact is not None:
        return Task(**{field.name: episode.exact["task"][field.name] for field in fields(Task)})
    kind = re.sub(r"[^A-Za-z0-9_-]+", "_", episode.source)
    share = _hash(episode.task) / 2**64
    split = next(name for name, end in SPLITS if share < end)
    identity = _hash(f"{kind}\0{episode.task}")
    return Task(environment, kind, split, identity % 2**31, data=f"{identity:016x}")


def trees(task: Task, episodes: Sequence[Episode]) -> tuple[list[Tree], list[Problem]]:
    """The trees of a task out of all its episodes, and the episodes that cannot be taken: an id was there before, or
    what they were exported with does not fit. Trees are numbered by how they begin.
    """
    kept, problems = _distinct(episodes)
    exported = defaultdict(list)
    begun = defaultdict(list)
    for episode in kept:
        if episode.exact is not None:
            exported[episode.exact["tree"]["number"]].append(episode)
        else:
            opening, _ = runs(episode.messages)
            begun[_key(opening, episode.tools)].append(episode)
    task_trees = []
    for _, same in sorted(exported.items()):
        try:
            task_trees.append(restored(task, [(part.messages, part.tools, part.exact or {}) for part in same]))
        except InputRefused as error:
            problems += [Problem(part.file, part.line, str(error)) for part in same]
    first = max((tree.number for tree in task_trees), default=-1) + 1
    task_trees += [_grown(task, first + number, begun[key]) for number, key in enumerate(sorted(begun))]
    return task_trees, problems


def _distinct(episodes: Iterable[Episode]) -> tuple[list[Episode], list[Problem]]:
    kept, problems, seen = [], [], dict[str, Episode]()
    for episode in sorted(episodes, key=lambda entry: (entry.file, entry.line)):
        before = seen.setdefault(episode.id, episode) if episode.id else episode
        if before is episode:
            kept.append(episode)
        else:
            told = f"the id {episode.id!r} was there before, in {before.file}, line {before.line}"
            problems.append(Problem(episode.file, episode.line, told))
    return kept, problems


def _grown(task: Task, number: int, episodes: Sequence[Episode]) -> Tree:
    """The tree of episodes with one opening. A state's value is the mean outcome of the episodes through it, `visits`
    their number.
    """
    opening, _ = runs(episodes[0].messages)
    tree = Tree.of(State(task, tuple(opening), tools=tuple(episodes[0].tools)), number)
    tree.iterations, tree.ended_by = len(episodes), "imported"
    children: dict[tuple[int, bytes], int] = {}
    given: dict[str, dict[int, list[float]]] = {"label": defaultdict(list), "reward": defaultdict(list)}
    ended: dict[int, list[Origin]] = defaultdict(list)
    for episode in episodes:
        place = 0
        for step, run in enumerate(runs(episode.messages)[1]):
            key = (place, _key(run.agent, run.answers))
            if key not in children:
                proposal = proposal_of(run.agent)
                words, answers = observed(proposal, run.answers)
                children[key] = len(tree.nodes)
                tree.nodes[place].children.append(len(tree.nodes))
                node = Node(place, tree.nodes[place].depth + 1, words, answers=answers)
                node.action, node.text = proposal.action, proposal.text
                node.reasoning, node.calls = proposal.reasoning, proposal.calls
                tree.nodes.append(node)
            place = children[key]
            for name, values in (("label", episode.labels), ("reward", episode.rewards)):
                if step < len(values) and (value := values[step]) is not None:
                    given[name][place].append(value)
        outcome = episode.outcome
        if outcome is not None:
            tree.back_up(place, outcome, 1.0)
        source = (episode.file, episode.line, episode.id, episode.model)
        ended[place].append(Origin(*source, outcome, episode.pair, episode.side))
    for index, node in enumerate(tree.nodes):
        node.merged = max(node.visits, 1)
        node.origins = tuple(ended.get(index, ()))
        outcomes = [origin.outcome for origin in node.origins if origin.outcome is not None]
        node.outcome = _mean(outcomes)
        node.label, node.reward = (_mean(given[name].get(index, ())) for name in ("label", "reward"))
    return tree


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _key(*parts: object) -> bytes:
    """What tells messages apart."""
    given = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return blake2b(given.encode(), digest_size=16).digest()


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"task").digest(), "big")
