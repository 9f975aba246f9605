"""What a gateway has recorded, as trees: a conversation is a path, and candidates that were not taken end beside it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as fs

from agentrm import storage
from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import AGENT, checked, checked_tools, runs
from agentrm.core.state import State, observed
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.episodes.conversation import linked
from agentrm.episodes.exact import proposal_of

_ID = re.compile(r"gateway\.(.+)\.recorded\.(\d+)\.0")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A conversation: its tree, the nodes of the `path` that was taken, and the candidates that were `untaken`. The
    `estimate` of a node is the value of its turn; values and visits are those of the outcome, once it is known.
    """

    tree: Tree
    path: list[int]
    untaken: list[int]


class Sessions:
    """The conversations below a `location`, as `agentrm.service.gateway.recording` writes them; "": there are none.

    Their ids are those of their trees' tasks: `gateway.SESSION.recorded.0.0` is a session's first conversation.
    """

    def __init__(self, location: storage.Location) -> None:
        self._location = storage.absolute(location) if location else ""
        self._counted: dict[str, tuple[tuple[int, int], int]] = {}

    def ids(self) -> list[str]:
        """Of all conversations. A file that has not changed since is not read again."""
        if not self._location:
            return []
        files, folder = storage.filesystem(self._location)
        ids = []
        for info in files.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.type != fs.FileType.File or info.extension != "jsonl" or info.base_name.startswith("."):
                continue
            session, stamp = info.base_name.removesuffix(".jsonl"), (info.size, info.mtime_ns or 0)
            if self._counted.get(session, (None, 0))[0] != stamp:
                self._counted[session] = stamp, len(self._lines(session))
            ids += [_task(session, number).id for number in range(self._counted[session][1])]
        return ids

    def holds(self, name: str) -> bool:
        """Whether a conversation of this id is recorded."""
        return bool(_ID.fullmatch(name)) and name in self.ids()

    def conversation(self, name: str) -> Recorded:
        """That of an id that is recorded. Raises UserError for what no tree can hold, such as images."""
        match = _ID.fullmatch(name)
        assert match is not None, "an id of `ids`"
        session, number = match[1], int(match[2])
        try:
            return _recorded(_task(session, number), json.loads(self._lines(session)[number]))
        except (InputRefused, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{name} cannot be shown: {error}") from error

    def _lines(self, session: str) -> list[str]:
        return (storage.read_text(f"{self._location}/{session}.jsonl") or "").splitlines()


def _task(session: str, number: int) -> Task:
    return Task("gateway", session, "recorded", number)


def _recorded(task: Task, row: Row) -> Recorded:
    opening, steps = runs(linked(checked(row["messages"])))
    places = [place for place, message in enumerate(row["messages"]) if message["role"] == AGENT]
    turns = {turn["at"]: turn for turn in row["turns"]}
    tree = Tree.of(State(task, tuple(opening), tools=tuple(checked_tools(row["tools"]))))
    tree.iterations, tree.ended_by = len(turns), "recorded"
    path, untaken = [0], list[int]()
    for place, step in zip(places, steps, strict=True):
        # A turn that the gateway did not give is there alone.
        turn = turns.get(place, {"candidates": [row["messages"][place]], "values": [None], "chosen": 0})
        parent = path[-1]
        for number, (said, value) in enumerate(zip(turn["candidates"], turn["values"], strict=True)):
            taken = number == turn["chosen"]
            # What the agent sent back is what it took the turn for.
            proposal = proposal_of(step.agent if taken else linked(checked([said | {"role": AGENT}]))[0])
            words, answers = observed(proposal, step.answers) if taken else ("", ())
            node = Node(parent, tree.nodes[parent].depth + 1, words, proposal.action, text=proposal.text)
            node.reasoning, node.calls, node.answers, node.estimate = proposal.reasoning, proposal.calls, answers, value
            (path if taken else untaken).append(len(tree.nodes))
            tree.nodes[parent].children.append(len(tree.nodes))
            tree.nodes.append(node)
    if row["outcome"] is not None:
        tree.nodes[path[-1]].outcome = tree.nodes[path[-1]].progress = row["outcome"]
        tree.back_up(path[-1], row["outcome"], 1.0)
    return Recorded(tree, path, untaken)
