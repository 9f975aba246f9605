"""Expert demonstrations: collected from the environments' oracles into Parquet, and read as training sequences.

Behaviour cloning (paper, section 3) learns from successful episodes only; what was left out is counted by reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agentrm.core.actions import ActionFormat, render
from agentrm.core.errors import ContextOverflow, EnvironmentFailure, UserError
from agentrm.core.messages import Conversation, call_id
from agentrm.core.protocols import Grader, Sessions
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.data import messages as columns
from agentrm.data.sequences import Sequences
from agentrm.environments.registry import environment_class
from agentrm.rendering.renderer import Renderer

VERSION = "2"
SCHEMA = pa.schema(
    [
        ("environment", pa.string()),
        ("kind", pa.string()),
        ("split", pa.string()),
        ("index", pa.int32()),
        ("seed", pa.int32()),
        ("data", pa.string()),
        ("messages", columns.MESSAGES),
        ("tools", columns.TOOLS),
    ],
    metadata={"agentrm.demonstrations": VERSION},
)


class Expert(Protocol):
    """The oracle of each environment."""

    async def expert_actions(self, task: Task) -> list[str]:
        """Actions from the first observation to success, or [] when there is no oracle."""
        ...

    async def expert_thoughts(self, task: Task, actions: tuple[str, ...]) -> list[str]:
        """What it thinks before each of its `actions`; "" where it says nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One successful episode as a conversation that ends with the environment's last turn."""

    task: Task
    conversation: Conversation


@dataclass(slots=True)
class Collection:
    """`demonstrations` in the order of their tasks; `counts["environment.kind"]` holds `kept` and, where any were left
    out, `no_oracle`, `unsuccessful` and `environment_failure`.
    """

    demonstrations: list[Demonstration] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


async def collect(
    tasks: Sequence[Task],
    expert: Expert,
    sessions: Sessions,
    grader: Grader,
    opening: Callable[[Task, Observation], State],
    action_format: ActionFormat,
    concurrency: int,
    advance: Callable[[], None],
) -> Collection:
    """Play the oracle's actions of every task, `concurrency` tasks at a time; `advance` is called after each.

    `opening(task, first observation)` is the state before the first action.
    """
    lanes = asyncio.Semaphore(concurrency)

    async def play(task: Task) -> Demonstration | str:
        try:
            actions = tuple(await expert.expert_actions(task))
            if not actions:
                return "no_oracle"
            thoughts = [""] * len(actions)
            if action_format is not ActionFormat.bare:
                thoughts = await expert.expert_thoughts(task, actions)
            # The last state first: that executes all steps, and the earlier observations are then read from memory.
            last = await sessions.observe(task, actions)
            earlier = await asyncio.gather(*(sessions.observe(task, actions[:t]) for t in range(len(actions))))
            if not (await grader.grade(task, actions)).success:
                return "unsuccessful"
        except EnvironmentFailure:
            return "environment_failure"
        state = opening(task, earlier[0])
        for thought, action, observation in zip(thoughts, actions, [*earlier[1:], last], strict=True):
            proposal = Proposal(render(thought, action, action_format), action, thought)
            if action_format is ActionFormat.tools:
                call = replace(environment_class(task.environment).call(action), id=call_id(len(state.steps)))
                proposal = replace(proposal, calls=(call,))
            state = state.extend(proposal, Observation(observation.text))
        return Demonstration(task, state.conversation())

    async def one(task: Task) -> Demonstration | str:
        async with lanes:
            result = await play(task)
        advance()
        return result

    collection = Collection()
    for task, result in zip(tasks, await asyncio.gather(*map(one, tasks)), strict=True):
        counts = collection.counts.setdefault(f"{task.environment}.{task.kind}", Counter())
        if isinstance(result, Demonstration):
            collection.demonstrations.append(result)
            counts["kept"] += 1
        else:
            counts[result] += 1
    return collection


def write(demonstrations: Iterable[Demonstration], path: Path) -> None:
    """One Parquet file, a row per demonstration."""
    rows = [
        asdict(demonstration.task)
        | {
            "messages": columns.to_rows(demonstration.conversation.messages),
            "tools": columns.tools_to_text(demonstration.conversation.tools),
        }
        for demonstration in demonstrations
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def read(directory: Path) -> list[Demonstration]:
    """All demonstrations in a directory. Raises UserError when a file has another schema or none is there."""
    demonstrations = []
    for path in sorted(directory.glob("*.parquet")):
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not readable as demonstrations: delete {directory} and clone again") from error
        if (table.schema.metadata or {}).get(b"agentrm.demonstrations") != VERSION.encode():
            raise UserError(
                f"{path} holds no demonstrations of schema version {VERSION}: delete {directory} and clone again"
            )
        for row in table.to_pylist():
            messages, tools = columns.from_rows(row.pop("messages")), columns.tools_from_text(row.pop("tools"))
            demonstrations.append(Demonstration(Task(**row), Conversation(messages, tools)))
    if not demonstrations:
        raise UserError(f"{directory} holds no demonstrations: give tasks.demonstrations environments with an oracle")
    return demonstrations


def agent_turns(
    conversations: Iterable[Conversation], renderer: Renderer, observation_share: float, seed: int
) -> tuple[Sequences, int]:
    """The sequences that cloning trains on, and how many conversations exceed the model's context and were left out.

    A label stands before each token that the agent wrote (end of turn included): the token itself; and before a random
    `observation_share` of the others. What follows the agent's last token is cut off.
    """
    overflows = 0
    rng = np.random.default_rng(seed)
    rows = []
    for conversation in conversations:
        try:
            sequences = renderer.turns(conversation)
        except ContextOverflow:
            overflows += 1
            continue
        for rendered in sequences:
            last = int(np.flatnonzero(rendered.agent)[-1])
            chosen = np.asarray(rendered.agent) | (rng.random(len(rendered.ids)) < observation_share)
            learned = 1 + np.flatnonzero(chosen[1 : last + 1])
            ids = np.array(rendered.ids, np.int32)
            rows.append((ids[:last], learned - 1, ids[learned]))
    return Sequences.of(rows, np.int64), overflows
