"""A state: the conversation so far. What policies continue, reward models score and trees branch on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrm.core.messages import AGENT, Conversation, Message, Tool, ToolCall, text_of
from agentrm.core.task import Observation, Task


@dataclass(frozen=True, slots=True)
class Proposal:
    """One sampled turn of the policy.

    `text` is the turn's content as it enters the conversation, with `reasoning` before it and `calls` of tools after
    it; `action` what the environment gets (see `joined` for several). `logprob` sums the natural-log probabilities of
    the `tokens` tokens that were sampled. `malformed`: the turn had no action in the asked format (its whole text is
    the action then). `removed`: what was cut from the turn or taken off its action, as it was sampled.
    """

    text: str
    action: str
    thought: str = ""
    logprob: float = 0.0
    tokens: int = 0
    malformed: bool = False
    removed: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()

    def message(self) -> Message:
        """The turn in a conversation."""
        message: Message = {"role": AGENT, "content": self.text or None if self.calls else self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [call.message() for call in self.calls]
        return message


SEPARATOR = "\x1e"
"""Stands between the actions of a turn that calls several tools, and between the answers to them."""

ENDED = "The episode has ended."
"""Closes the last turn of a state that the environment ended: engines say so apart from their text, but a reward model
reads text alone, and success or failure is not in these words."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the agent and the messages that answer it."""

    proposal: Proposal
    answers: tuple[Message, ...]

    @property
    def observation(self) -> str:
        """What the answers say."""
        return "\n".join(map(text_of, self.answers))


@dataclass(frozen=True, slots=True)
class State:
    """s_t of the paper: the instruction, then all actions and observations so far.

    `done`: the environment ended the episode. `opening` holds the messages before the agent's first; `tools` are those
    on offer.
    """

    task: Task
    opening: tuple[Message, ...]
    steps: tuple[Step, ...] = ()
    done: bool = False
    tools: tuple[Tool, ...] = ()

    @classmethod
    def begin(cls, task: Task, text: str, *, done: bool = False, tools: Sequence[Tool] = ()) -> State:
        """The state before the first action, whose opening is one turn of the user."""
        return cls(task, ({"role": "user", "content": text},), done=done, tools=tuple(tools))

    @property
    def actions(self) -> tuple[str, ...]:
        """The key of this state for `Sessions`."""
        return tuple(step.proposal.action for step in self.steps)

    def conversation(self) -> Conversation:
        """The messages and tools; ends with the environment's turn, and that with `ENDED` when it is done."""
        messages = list(self.opening)
        for step in self.steps:
            messages.append(step.proposal.message())
            messages += step.answers
        if self.done:
            messages[-1] = messages[-1] | {"content": f"{text_of(messages[-1])}\n{ENDED}".strip()}
        return Conversation(messages, self.tools)

    def extend(self, proposal: Proposal, observation: Observation) -> State:
        """The successor state after the environment answered."""
        step = Step(proposal, answers(proposal, observation.text))
        return replace(self, steps=(*self.steps, step), done=observation.done)


def answers(proposal: Proposal, observation: str) -> tuple[Message, ...]:
    """What the environment's words are in the conversation: an answer to each call of a tool, else the user's turn."""
    if not proposal.calls:
        return ({"role": "user", "content": observation},)
    # Calls behind the one that ended the episode have no answer.
    texts = observation.split(SEPARATOR, len(proposal.calls) - 1)
    texts += [""] * (len(proposal.calls) - len(texts))
    return tuple(
        {"role": "tool", "content": text, "tool_call_id": call.id, "name": call.name}
        for call, text in zip(proposal.calls, texts, strict=True)
    )


def observed(proposal: Proposal, messages: Sequence[Message]) -> tuple[str, tuple[Message, ...] | None]:
    """What an environment said in messages, and these where `answers` does not make them of its words, else None."""
    texts = [text_of(message) for message in messages]
    words = (SEPARATOR if proposal.calls else "\n").join(texts)
    # More answers than calls are none that `answers` could make.
    divided = words.count(SEPARATOR) >= len(proposal.calls) > 0
    if not divided and tuple(messages) == answers(proposal, words):
        return words, None
    return "\n".join(texts), tuple(messages)


def joined(actions: Sequence[str]) -> str:
    """Several actions, to be taken one after the other, as one; likewise what is observed after them."""
    return SEPARATOR.join(map(single, actions))


def single(action: str) -> str:
    """An action that is one, whatever its text."""
    return action.replace(SEPARATOR, " ")
