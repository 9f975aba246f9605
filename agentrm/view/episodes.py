"""Episodes as the viewer shows them: a conversation with what each of its steps is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from agentrm.core.tree import Origin, Tree
from agentrm.episodes.export.episodes import Ended, episodes
from agentrm.evaluation.rewards.table import check, episodes_at
from agentrm.evaluation.rewards.values import lengths
from agentrm.view import trees

Values = list[float | None]

_OF_NODE = ("visits", "value", "outcome", "label", "reward")


class ScoredFile:
    """The values in a file that `agentrm score` wrote. Raises UserError for one that is not there or holds no such."""

    def __init__(self, path: Path) -> None:
        check(path)
        self.name = path.name
        self._path = path

    def of(self, tree: Tree) -> dict[int, Values]:
        """The values of a tree's episodes, by the node where each ended, as far as the file has them: one after the
        opening and one after each step. An episode is known by where it was stored or by the id that `agentrm export`
        gave it, and by how much it says up to each step. Raises UserError.
        """
        ended = list(episodes(tree))
        lines = {origin.line for episode in ended for origin in _origins(episode)}
        scored: dict[tuple[Any, ...], dict[str, Values]] = defaultdict(dict)
        for rows in episodes_at(self._path, lines, {episode.id for episode in ended}):
            first, said = rows[0], tuple(row["characters"] for row in rows)
            place = _place(first["file"], first["line"], first["id"], first["side"])
            for name in (place, (first["id"],)):
                scored[*name, said][first["file"]] = [row["value"] for row in rows]
        values = {}
        for episode in ended:
            said = tuple(lengths(episode.messages()))
            names = [
                (origin.file, _place(origin.file, origin.line, origin.id, origin.side)) for origin in _origins(episode)
            ]
            for file, name in [*names, ("", (episode.id,))]:
                held = scored.get((*name, said), {})
                # A directory may have another name since: then only one of the files may fit.
                if file in held or len(held) == 1:
                    values[episode.path[-1]] = held.get(file) or next(iter(held.values()))
                    break
        return values


def listed(of_task: Iterable[Tree], scored: Mapping[str, Mapping[int, Values]]) -> list[dict[str, Any]]:
    """A row per episode of a task's trees. `scored` has by tree what `ScoredFile.of` gives."""
    rows = []
    for tree in of_task:
        for episode in episodes(tree):
            values = scored.get(tree.id, {}).get(episode.path[-1])
            rows.append(
                {
                    "id": episode.id,
                    "name": _name(episode),
                    "model": episode.model,
                    "side": next((origin.side for origin in _origins(episode) if origin.side), ""),
                    "steps": len(episode.path) - 1,
                    "outcome": episode.outcome,
                    "value": None if values is None else values[-1],
                }
            )
    return rows


def shown(tree: Tree, node: int, values: Values | None) -> dict[str, Any]:
    """An episode: who played it and where it was stored, its tools, and its steps with the figures of their nodes."""
    ended = Ended(tree, tree.path(node))
    return {
        "id": ended.id,
        "tree": tree.id,
        "name": _name(ended),
        "outcome": ended.outcome,
        "stored": [
            {name: getattr(origin, name) for name in ("file", "line", "id", "model", "outcome", "side")}
            for origin in _origins(ended)
        ],
        "tools": list(tree.tools),
        "values": values,
        "steps": [
            step | {name: getattr(tree.nodes[step["node"]], name) for name in _OF_NODE}
            for step in trees.steps(tree, node)
        ],
    }


def _origins(ended: Ended) -> Sequence[Origin]:
    return ended.tree.nodes[ended.path[-1]].origins


def _name(ended: Ended) -> str:
    """What people call an episode: its own id, else where it was stored, else where it ended."""
    for origin in _origins(ended):
        return origin.id or f"{PurePath(origin.file).name}:{origin.line}"
    return f"node {ended.path[-1]}"


def _place(file: str, line: int, identity: str, side: str) -> tuple[Any, ...]:
    return PurePath(file).name, line, identity, side
