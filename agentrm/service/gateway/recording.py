"""Conversations that went through the gateway, as rows in OpenAI's form: a file per session, a row per conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from agentrm import storage
from agentrm.core.errors import UserError
from agentrm.service.gateway.forms import Body, Chosen, identity


class Recorder:
    """Keeps sessions in `SESSION.jsonl` below `location`, each file whole at any time.

    A row has `session`, `model`, `messages`, `tools`, `outcome` (null until it is told) and `turns`: for each message
    of the agent that the gateway gave, its number `at` in `messages`, the `candidates`, their `values` and which was
    `chosen`. A request that goes on from a row's conversation extends the row; one that asks for its last turn again
    replaces that turn.
    """

    def __init__(self, location: str) -> None:
        self._location = storage.absolute(location)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def turn(self, session: str, request: Body, chosen: Chosen) -> None:
        """Keep the turn that a request was answered with. Raises OSError."""
        turn = {
            "at": len(request["messages"]),
            "candidates": [candidate.message for candidate in chosen.candidates],
            "values": list(chosen.values),
            "chosen": chosen.best[0],
        }
        said = chosen.candidates[chosen.best[0]].message
        async with self._lock(session):
            await asyncio.to_thread(self._extend, session, request, said, turn)

    async def outcome(self, session: str, outcome: float) -> int:
        """Give the session's conversations their outcome, and say how many there are. Raises UserError for none."""
        async with self._lock(session):
            return await asyncio.to_thread(self._end, session, outcome)

    def _lock(self, session: str) -> asyncio.Lock:
        return self._locks.setdefault(session, asyncio.Lock())

    def _extend(self, session: str, request: Body, said: Body, turn: Body) -> None:
        rows = self._read(session)
        messages = [*request["messages"], said]
        asked = [identity(message) for message in request["messages"]]
        row = next((stored for stored in reversed(rows) if _continues(asked, stored["messages"])), None)
        if row is None:
            row = {"session": session, "model": request["model"], "turns": [], "outcome": None}
            rows.append(row)
        earlier = [past for past in row["turns"] if past["at"] < turn["at"]]
        row |= {"messages": messages, "tools": request.get("tools") or [], "turns": [*earlier, turn]}
        self._write(session, rows)

    def _end(self, session: str, outcome: float) -> int:
        rows = self._read(session)
        if not rows:
            raise UserError(f"nothing is recorded of the session {session}")
        for row in rows:
            row["outcome"] = outcome
        self._write(session, rows)
        return len(rows)

    def _read(self, session: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (storage.read_text(self._file(session)) or "").splitlines()]

    def _write(self, session: str, rows: Sequence[Body]) -> None:
        # Text of others may hold line separators and half characters, which JSON's escapes keep.
        storage.write_text(self._file(session), "".join(json.dumps(row) + "\n" for row in rows))

    def _file(self, session: str) -> str:
        return f"{self._location}/{session}.jsonl"


def _continues(asked: Sequence[str], recorded: Sequence[Body]) -> bool:
    """Whether messages begin with all that is recorded, or with all but its last turn and end there."""
    known = [identity(message) for message in recorded]
    return list(asked[: len(known)]) == known or list(asked) == known[:-1]
