"""What an agent of its own gets from OpenAI's API: live episodes, in which no state is visited twice.

The agent knows an address and a model's name, no more of AgentRM: at a gateway's it plays by the best of several turns.
Beside it stand the choices among as many turns that need no reward model.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import monotonic
from typing import TYPE_CHECKING, Any

from agentrm.config.schema import Sampling
from agentrm.core.actions import ActionFormat, read
from agentrm.core.errors import ModelError, reason
from agentrm.core.protocols import Grader, Sessions
from agentrm.core.task import Task
from agentrm.evaluation.evaluator import Row, Rows
from agentrm.evaluation.metrics import BASELINE, BEST, COSTS, LIKELIEST, MAJORITY
from agentrm.models.endpoint import overflows, seed_of
from agentrm.search.episode import Opening, step_limit

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat.chat_completion import Choice

Pick = Callable[[Sequence["Choice"]], "Choice"]


def first(choices: Sequence[Choice]) -> Choice:
    """The one that came first."""
    return choices[0]


def likeliest(choices: Sequence[Choice]) -> Choice:
    """The one with the highest log-probability."""

    def logprob(choice: Choice) -> float:
        return sum(token.logprob for token in choice.logprobs.content or ()) if choice.logprobs else 0.0

    return max(choices, key=logprob)


def most_frequent(form: ActionFormat) -> Pick:
    """Chooses the first one of the most frequent action."""

    def pick(choices: Sequence[Choice]) -> Choice:
        actions = [read(choice.message.content or "", form).action for choice in choices]
        ((action, _),) = Counter(actions).most_common(1)
        return choices[actions.index(action)]

    return pick


@dataclass(frozen=True, slots=True)
class Player:
    """Plays a task `episodes` times; each turn is picked among `n` choices of one request to `model` at `client`."""

    client: AsyncOpenAI
    model: str
    n: int = 1
    pick: Pick = first
    episodes: int = 1


def players(
    direct: AsyncOpenAI, through: AsyncOpenAI, model: str, ks: Sequence[int], form: ActionFormat
) -> dict[str, Player]:
    """By method: the best of so many turns by the gateway that a client goes `through`, and beside them, `direct` at
    the policy's own endpoint, the likeliest and the most frequent of as many, and one alone, which is what a random
    choice among any number is worth.
    """
    by_method = {BASELINE: Player(direct, model, episodes=max(ks))}
    for k in ks:
        by_method[f"{LIKELIEST} {k} turns"] = Player(direct, model, k, likeliest)
        by_method[f"{MAJORITY} {k} turns"] = Player(direct, model, k, most_frequent(form))
        by_method[f"{BEST} {k} turns"] = Player(through, f"{model}@best-of-{k}")
    return by_method


class LiveEvaluator:
    """All players on one task. What is sampled in a turn depends on the task, the episode's number and the turn's, so
    that players choose among the same while they have done the same.
    """

    def __init__(
        self,
        players: dict[str, Player],
        sampling: Sampling,
        opening: Opening,
        max_depth: int,
        sessions: Sessions,
        grader: Grader,
    ) -> None:
        self._players = players
        self._opening = opening
        self._form = opening.action_format
        self._max_depth = max_depth
        self._sessions = sessions
        self._grader = grader
        self._options: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }

    async def rows(self, group: str, task: Task, stored: Rows) -> Rows:
        """Those that are stored, and the missing ones. Raises EnvironmentFailure and ModelError."""
        missing = [method for method in self._players if method not in stored]
        rows = await asyncio.gather(*(self._row(self._players[method], task) for method in missing))
        shared = {"group": group, "environment": task.environment, "kind": task.kind, "task": task.id, "error": ""}
        return stored | {method: shared | {"method": method} | row for method, row in zip(missing, rows, strict=True)}

    async def _row(self, player: Player, task: Task) -> Row:
        """The means over the player's episodes."""
        rows = await asyncio.gather(*(self._play(player, task, number) for number in range(player.episodes)))
        return {name: fmean(row[name] for row in rows) for name in rows[0]}

    async def _play(self, player: Player, task: Task, episode: int) -> Row:
        started, actions, tokens = monotonic(), list[str](), 0
        answer = await self._sessions.observe(task, ())
        messages: list[Any] = list(self._opening(task, answer).opening)
        while not answer.done and len(actions) < step_limit(task, self._max_depth):
            completion = await self._asked(player, messages, f"{task.id}|{episode}|{len(actions)}")
            if completion is None:
                break
            tokens += completion.usage.completion_tokens if completion.usage else 0
            said = player.pick(completion.choices).message.content or ""
            actions.append(read(said, self._form).action)
            answer = await self._sessions.observe(task, tuple(actions))
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": answer.text}]
        grade = await self._grader.grade(task, tuple(actions))
        return {
            **dict.fromkeys(COSTS, 0.0),
            "outcome": grade.outcome,
            "progress": grade.progress,
            "success": float(grade.success),
            "policy_tokens": float(tokens),
            "environment_steps": float(len(actions)),
            "seconds": monotonic() - started,
        }

    async def _asked(self, player: Player, messages: list[Any], turn: str) -> Any:
        """The completion; None where the model's context does not hold the episode, which ends there."""
        from openai import BadRequestError, OpenAIError

        try:
            return await player.client.chat.completions.create(
                model=player.model,
                messages=messages,
                n=player.n,
                logprobs=player.pick is likeliest,
                seed=seed_of(turn),
                **self._options,
            )
        except OpenAIError as error:
            if isinstance(error, BadRequestError) and overflows(error.response.text):
                return None
            raise ModelError(f"{player.model} did not answer: {reason(error)}") from error
