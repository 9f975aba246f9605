"""A state: the conversation so far. What policies continue, reward models score and trees branch on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentrm.core.messages import Message
from agentrm.core.task import Observation, Task


@dataclass(frozen=True, slots=True)
class Proposal:
    """One sampled turn of the policy.

    `text` is the turn as it enters the conversation, `action` what the environment gets; `logprob` sums the natural-log
    probabilities of the `tokens` tokens that were sampled. `malformed`: the turn had no action in the asked format (its
    whole text is the action then). `removed`: what was cut from the turn or taken off its action, as it was sampled.
    """

    text: str
    action: str
    thought: str = ""
    logprob: float = 0.0
    tokens: int = 0
    malformed: bool = False
    removed: str = ""


ENDED = "The episode has ended."
"""Closes the last turn of a state that the environment ended: engines say so apart from their text, but a reward model
reads text alone, and success or failure is not in these words."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the agent and the environment's answer."""

    proposal: Proposal
    observation: str


@dataclass(frozen=True, slots=True)
class State:
    """s_t of the paper: the instruction, then all actions and observations so far.

    `done`: the environment ended the episode. `opening` is the first user turn.
    """

    task: Task
    opening: str
    steps: tuple[Step, ...] = ()
    done: bool = False

    @property
    def actions(self) -> tuple[str, ...]:
        """The key of this state for `Sessions`."""
        return tuple(step.proposal.action for step in self.steps)

    def messages(self) -> list[Message]:
        """The conversation in chat form; ends with the environment's turn, and that with `ENDED` when it is done."""
        messages: list[Message] = [{"role": "user", "content": self.opening}]
        for step in self.steps:
            messages.append({"role": "assistant", "content": step.proposal.text})
            messages.append({"role": "user", "content": step.observation})
        if self.done:
            messages[-1]["content"] = f"{messages[-1]['content']}\n{ENDED}".strip()
        return messages

    def extend(self, proposal: Proposal, observation: Observation) -> State:
        """The successor state after the environment answered."""
        return replace(self, steps=(*self.steps, Step(proposal, observation.text)), done=observation.done)
