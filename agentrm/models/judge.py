"""LLM as a judge (paper, section 3): training-free; it reads candidate trajectories of one task and names the best.

Judges favour what stands first, so every comparison is asked in both orders, and only what both agree on is a win. A
question that does not fit is shortened, see `forms`.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from agentrm.config.schema import Comparison
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

MOST_TOKENS = 512
"""Of a judge's answer, its reasons included."""

_CHARACTERS = (4096, 2048, 1024, 512, 256, 128, 64)
_STEPS = (32, 16, 8, 4, 2, 1)

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

    def __init__(self, url: str, model: str, api_key: str, *, concurrency: int = 16, retries: int = 2) -> None:
        self._endpoint = ChatEndpoint(url, model, api_key, concurrency=concurrency, retries=retries)

    async def complete(self, question: str) -> str:
        """See `Completer`."""
        messages = [{"role": "user", "content": question}]
        answer, *_ = await self._endpoint.chat(messages, temperature=0.0, max_tokens=MOST_TOKENS)
        return answer.text


class LocalCompleter:
    """An engine here as judge, the policy's or its own, which answers by `max_tokens` at most."""

    def __init__(self, generator: Generator, renderer: Renderer, max_tokens: int) -> None:
        self._generator = generator
        self._renderer = renderer
        self._max_tokens = max_tokens

    async def complete(self, question: str) -> str:
        """See `Completer`."""
        prompt = self._renderer.prompt([{"role": "user", "content": question}])
        if len(prompt) + self._max_tokens > self._renderer.context:
            raise ContextOverflow(f"{len(prompt)} tokens leave the judge no room for an answer")
        (completion,) = await self._generator.generate(prompt, 1, greedy=True, seed=0)
        return self._renderer.decode(completion.ids)


@dataclass(slots=True)
class Verdicts:
    """What a judge was asked so far: `asked` questions; `malformed` answers, which named no attempt or several;
    `shortened` questions, and `overflows`, those that did not fit its context even so; `refused`, those that it did not
    take otherwise; `swayed`, comparisons whose answer changed with the order.
    """

    asked: int = 0
    malformed: int = 0
    shortened: int = 0
    overflows: int = 0
    refused: int = 0
    swayed: int = 0


class Judge:
    """A `RewardModel` whose scores compare the states of one call, task by task: they mean nothing across calls.

    A comparison is asked in both orders: 1 for the state named in both, 0.5 each for two that were named once; where an
    answer is malformed in either order, none of them scores. `listwise` shows all states of a task at once; `pairwise`
    every two of them, where a state's score is the mean of its comparisons. `verdicts` counts.
    """

    def __init__(self, completer: Completer, compare: Comparison = Comparison.listwise) -> None:
        self._completer = completer
        self._comparison = compare
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
        if len(states) < 2:
            return [0.0] * len(states)
        size = 2 if self._comparison is Comparison.pairwise else len(states)
        groups = list(combinations(range(len(states)), size))
        scores = [0.0] * len(states)
        won = await asyncio.gather(*(self._won(states, members) for members in groups))
        for group, named in zip(groups, won, strict=True):
            for index in named:
                scores[group[index]] += 0.5 * (len(states) / size) / len(groups)
        return scores

    async def _won(self, states: Sequence[State], group: Sequence[int]) -> Sequence[int]:
        """The places in a group that were named in either order."""
        return await self._both_orders([states[index] for index in group]) or ()

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
            answer = await self._answer(states)
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

    async def _answer(self, states: Sequence[State]) -> str:
        """What it says to the first form of the question that fits. Raises ContextOverflow where none does."""
        shown = 0
        for text in forms(states):
            try:
                answer = await self._completer.complete(text)
            except ContextOverflow:
                shown += 1
                continue
            self.verdicts.shortened += shown > 0
            return answer
        raise ContextOverflow("not even the last step of each attempt fits the judge's context")


def forms(states: Sequence[State]) -> Iterator[str]:
    """What a judge is asked about states of one task, whole and then ever shorter, all attempts alike: the answers of
    the environment are cut in their middle, to 4096 characters each and half as many at a time, down to 64; then the
    earliest steps are left out, until the last 32, 16, 8, 4, 2 and 1 are there. Forms that are no shorter are passed
    over.
    """
    last = ""
    for characters, steps in (
        (None, None),
        *((length, None) for length in _CHARACTERS),
        *((64, count) for count in _STEPS),
    ):
        text = question(states, characters, steps)
        if text != last:
            yield text
        last = text


def question(states: Sequence[State], characters: int | None = None, steps: int | None = None) -> str:
    """One of these forms: so many `characters` of each of the environment's answers, and so many last `steps`."""
    return _QUESTION.format(
        task="\n\n".join(map(text_of, states[0].opening)),
        count=len(states),
        attempts="\n\n".join(_attempt(number, state, characters, steps) for number, state in enumerate(states, 1)),
    )


def _attempt(number: int, state: State, characters: int | None, steps: int | None) -> str:
    left_out = 0 if steps is None else max(len(state.steps) - steps, 0)
    shown = [f"> {step.proposal.text}\n{_cut(step.observation, characters)}" for step in state.steps[left_out:]]
    shown = [f"({left_out} steps)", *shown] if left_out else shown or ["(no step yet)"]
    return "\n".join([f"Attempt {number}, {'ended' if state.done else 'unfinished'}:", *shown])


def _cut(text: str, characters: int | None) -> str:
    if characters is None or len(text) <= characters:
        return text
    return f"{text[: characters // 2]} … {text[-(characters // 2) :]}"
