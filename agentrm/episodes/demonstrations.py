"""Recorded trajectories of experts as demonstrations: ETO's and AgentGym's files, and any other form of episodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from agentrm.config.schema import DemonstrationSet, Episodes
from agentrm.core.actions import ActionFormat, read, render
from agentrm.core.errors import UserError
from agentrm.core.messages import AGENT, Message, call_id, text_of
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.data.demonstrations import Collection, Demonstration
from agentrm.environments.registry import environment_class
from agentrm.episodes import reading
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.sources import found

KIND = "recorded"
"""The kind of their tasks."""

_YOUR_TURN = re.compile(r"^\s*now,? it'?s your turn[^\n]*\n+", re.IGNORECASE)
_OBSERVATION = re.compile(r"^\s*observation:\s*", re.IGNORECASE)

Opening = Callable[[Task, Observation], State]


def recorded(sets: Sequence[DemonstrationSet], opening: Opening, action_format: ActionFormat) -> Collection:
    """The demonstrations of the sets that name a file, in its order.

    Of an episode that begins with instructions and an answer to them, `opening` writes this environment's in their
    place; of any other the first turn stays as it is. Thoughts are kept, actions are written in `action_format`, both
    in the words of the present engine. Left out are episodes that are `unsuccessful` (an outcome below 1), have a turn
    `without_action` or are `unreadable`. Raises UserError for a file that is not there, or has too few.
    """
    collection, numbers = Collection(), count()
    for source in sets:
        counts = collection.counts.setdefault(f"{source.environment}.{KIND}", Counter())
        episodes = _readable(source, counts)
        kept = []
        for episode in episodes:
            task = Task(source.environment, KIND, "train", next(numbers), data=KIND)
            result = _demonstration(task, episode, opening, action_format)
            if isinstance(result, Demonstration):
                kept.append(result)
            else:
                counts[result] += 1
        chosen = kept[source.offset :][: source.count or None]
        if len(chosen) < (source.count or 1):
            left_out = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()) if reason != "kept")
            raise UserError(
                f"{source.file} holds {len(kept)} demonstrations of {source.environment}, too few for "
                f"offset={source.offset} and count={source.count or 1}"
                + (f" (left out: {left_out})" if left_out else "")
            )
        collection.demonstrations += chosen
        counts["kept"] += len(chosen)
    return collection


def _readable(source: DemonstrationSet, counts: Counter[str]) -> Iterator[Episode]:
    for episode in reading.read(found([source.file]), Episodes(environment=source.environment), required=False):
        if isinstance(episode, Problem):
            counts["unreadable"] += 1
        elif episode.outcome is not None and episode.outcome < 1:
            counts["unsuccessful"] += 1
        else:
            yield episode


def _demonstration(task: Task, episode: Episode, opening: Opening, form: ActionFormat) -> Demonstration | str:
    present = environment_class(task.environment).present_wording
    messages = [message for message in episode.messages if message["role"] != "system"]
    first = next((number for number, message in enumerate(messages) if message["role"] == AGENT), len(messages))
    instructed = len(messages) > first + 2 and read(text_of(messages[first]), ActionFormat.react).malformed
    if instructed:
        # Instructions, what the agent says to them, and only then the task.
        first += 2
    before = messages[first - 1] if first else None
    if before is None or before["role"] == AGENT or first >= len(messages):
        return "without_action"
    text = present(_YOUR_TURN.sub("", text_of(before)))
    state = opening(task, Observation(text)) if instructed else State.begin(task, text)
    for turn, answer in _turns(messages[first:]):
        proposal = read(text_of(turn), ActionFormat.react)
        if proposal.malformed:
            return "without_action"
        thought = "\n".join(filter(None, (turn.get("reasoning_content", ""), proposal.thought)))
        action = present(proposal.action)
        written = Proposal(render(thought, action, form), action, thought)
        if form is ActionFormat.tools:
            call = replace(environment_class(task.environment).call(action), id=call_id(len(state.steps)))
            written = replace(written, calls=(call,))
        last = answer is None
        said = "" if answer is None else present(_OBSERVATION.sub("", text_of(answer)))
        state = state.extend(written, Observation(said, done=last))
    return Demonstration(task, state.conversation())


def _turns(messages: Sequence[Message]) -> Iterator[tuple[Message, Message | None]]:
    """The agent's turns with what answers each, None at the end."""
    for number, message in enumerate(messages):
        if message["role"] == AGENT:
            following = messages[number + 1] if number + 1 < len(messages) else None
            yield message, following if following and following["role"] != AGENT else None
