"""LLM as a judge (paper, section 3): training-free; it reads candidate trajectories of one task and names the best.

Judges favour what stands first, so every comparison is asked in both orders, and only what both agree on is a win.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrm.core.errors import ContextOverflow, InputRefused
from agentrm.core.messages import text_of
from agentrm.core.state import State
from agentrm.models.endpoint import ChatEndpoint
from agentrm.models.policy import Generator
from agentrm.rendering.renderer import Renderer

_QUESTION = """An agent was given this task:

{task}

Below are {count} attempts at it, some of them unfinished. Which one has made the most progress towards the task, or is
the most likely to get it done?

{attempts}

Reason briefly. Then end with one line that names one attempt by its number, in this form:
Best: <number>"""

_VERDICT = re.compile(r"^\W*Best:\W*(\d+)\W*$", re.MULTILINE)


class Completer(Protocol):
    """A chat model that answers one question, greedily. Raises ContextOverflow when the question does not fit, and
    InputRefused when the model does not take it for another reason.
    """

    async def complete(self, question: str) -> str:
        """The answer's text."""
        ...


class EndpointCompleter:
    """Any endpoint that speaks OpenAI chat completions, at `url` (".../v1"): see `ChatEndpoint`."""

    def __init__(
        self, url: str, model: str, api_key: str, *, max_tokens: int = 512, concurrency: int = 16, retries: int = 2
    ) -> None:
        self._endpoint = ChatEndpoint(url, model, api_key, concurrency=concurrency, retries=retries)
        self._max_tokens = max_tokens

    async def complete(self, question: str) -> str:
        """See `Completer`."""
        messages = [{"role": "user", "content": question}]
        answer, *_ = await self._endpoint.chat(messages, temperature=0.0, max_tokens=self._max_tokens)
        return answer.text


class PolicyCompleter:
    """A policy's own engine as judge."""

    def __init__(self, generator: Generator, renderer: Renderer) -> None:
        self._generator = generator
        self._renderer = renderer

    async def complete(self, question: str) -> str:
        """See `Completer`."""
        prompt = self._renderer.prompt([{"role": "user", "content": question}])
        (completion,) = await self._generator.generate(prompt, 1, greedy=True, seed=0)
        return self._renderer.decode(completion.ids)


@dataclass(slots=True)
class Verdicts:
    """What a judge was asked so far: `asked` questions; `malformed` answers, which named no attempt or several;
    `overflows`, questions that did not fit its context; `refused`, those that it did not take otherwise; `swayed`,
    comparisons whose answer changed with the order.
    """

    asked: int = 0
    malformed: int = 0
    overflows: int = 0
    refused: int = 0
    swayed: int = 0


class Judge:
    """A `RewardModel` whose scores compare the states of one call, task by task: they mean nothing across calls.

    It shows all states of a task at once, in both orders: 1 for the one named in both, 0.5 each for two that were named
    once. Where an answer is malformed in either order, none of them scores. `verdicts` counts.
    """

    def __init__(self, completer: Completer) -> None:
        self._completer = completer
        self.verdicts = Verdicts()

    async def score(self, states: Sequence[State]) -> list[float]:
        """One value per state, higher is better. Raises ModelError when the judge does not answer."""
        tasks: dict[str, list[int]] = defaultdict(list)
        for index, state in enumerate(states):
            tasks[state.task.id].append(index)
        compared = await asyncio.gather(*(self._compare([states[i] for i in group]) for group in tasks.values()))
        scores = [0.0] * len(states)
        for group, values in zip(tasks.values(), compared, strict=True):
            for index, value in zip(group, values, strict=True):
                scores[index] = value
        return scores

    async def _compare(self, states: Sequence[State]) -> list[float]:
        named = await self._both_orders(states) if len(states) > 1 else None
        return [0.0 if named is None else named.count(i) / 2 for i in range(len(states))]

    async def _both_orders(self, states: Sequence[State]) -> tuple[int, int] | None:
        """The index named in the given order and the one named in the reverse; None unless both could be read."""
        first, second = await asyncio.gather(self._ask(states), self._ask(states[::-1]))
        if first is None or second is None:
            return None
        second = len(states) - 1 - second
        self.verdicts.swayed += first != second
        return first, second

    async def _ask(self, states: Sequence[State]) -> int | None:
        self.verdicts.asked += 1
        try:
            answer = await self._completer.complete(question(states))
        except ContextOverflow:
            self.verdicts.overflows += 1
            return None
        except InputRefused:
            self.verdicts.refused += 1
            return None
        named = {int(number) for number in _VERDICT.findall(answer)}
        if len(named) != 1 or not named <= set(range(1, len(states) + 1)):
            self.verdicts.malformed += 1
            return None
        return named.pop() - 1


def question(states: Sequence[State]) -> str:
    """What a judge is asked about states of one task."""
    return _QUESTION.format(
        task="\n\n".join(map(text_of, states[0].opening)),
        count=len(states),
        attempts="\n\n".join(_attempt(number, state) for number, state in enumerate(states, 1)),
    )


def _attempt(number: int, state: State) -> str:
    steps = [f"> {step.proposal.text}\n{step.observation}" for step in state.steps]
    return "\n".join([f"Attempt {number}, {'ended' if state.done else 'unfinished'}:", *(steps or ["(no step yet)"])])
