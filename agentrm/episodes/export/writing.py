"""Writing the trees of a run for other tools: a file per split, or with ATIF one per episode."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from agentrm import storage
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.episodes.export import atif, openai, pairs, process, stepwise
from agentrm.episodes.export.card import Feature, card

Rows = Callable[[list[Tree]], Iterator[dict[str, Any]]]
"""The rows of all trees of a task."""

ROWS: dict[str, tuple[Rows, dict[str, Feature]]] = {
    "openai": (openai.rows, openai.COLUMNS),
    "pairs": (pairs.rows, pairs.COLUMNS),
    "stepwise": (stepwise.rows, stepwise.COLUMNS),
    "verl": (process.verl, process.VERL),
    "skyrl": (process.skyrl, process.SKYRL),
}
FORMS = ("atif", *ROWS)


def write(trees: Iterable[Tree], form: str, directory: storage.Location) -> Counter[str]:
    """Write trees in a form to a directory that is not there yet, whole or not at all; returns how many rows each split
    has. The trees of a task stand together. Raises UserError for another form, a directory that is there, and trees of
    which there is nothing to write.
    """
    if form not in FORMS:
        raise UserError(f"there is no form {form!r} to export as: name one of {', '.join(FORMS)}")
    if storage.names(directory):
        raise UserError(f"{directory} is there already: name another directory")
    rows, columns = ROWS.get(form, (None, {}))
    counts = Counter[str]()
    tasks = ((task, list(some)) for task, some in groupby(trees, key=lambda tree: tree.task))
    with storage.writing(directory) as output, ExitStack() as stack:
        opened: dict[str, TextIO] = {}
        for task, some in tasks:
            if rows is None:
                counts[task.split] += _write_documents(output / task.split, some)
                continue
            for row in rows(some):
                if task.split not in opened:
                    path = output / f"{task.split}.jsonl"
                    opened[task.split] = stack.enter_context(path.open("w", encoding="utf-8"))
                opened[task.split].write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[task.split] += 1
        if rows is not None:
            (output / "README.md").write_text(card(columns))
        if not counts.total():
            raise UserError(
                f"the trees hold nothing to write as {form}: pairs need states with turns of several values"
            )
    return counts


def _write_documents(folder: Path, trees: list[Tree]) -> int:
    count = 0
    for name, document in atif.documents(trees):
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        count += 1
    return count
