"""ToolQuery: questions that take several calls of database tools, in the manner of AgentBoard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from agentrm.core.task import Grade, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, Published
from agentrm.environments.support import derive_seed, digest, split_of
from agentrm.environments.tools.academia import Academia, draw_academia
from agentrm.environments.tools.academia_questions import TEMPLATES as ACADEMIA_TEMPLATES
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.environment import ToolEnvironment, first_text
from agentrm.environments.tools.movie import Movie, draw_movies
from agentrm.environments.tools.movie_questions import TEMPLATES as MOVIE_TEMPLATES
from agentrm.environments.tools.query import QueryToolkit
from agentrm.environments.tools.recorded import SUFFIX, Recording, recordings
from agentrm.environments.tools.reference import Answer, Reference, Template, Unfit, same_answer
from agentrm.environments.tools.toolkit import Toolkit, write_action, write_result
from agentrm.environments.tools.weather import Weather, draw_weather
from agentrm.environments.tools.weather_questions import TEMPLATES as WEATHER_TEMPLATES

KINDS: dict[str, tuple[type[QueryToolkit], Callable[[Random], QueryToolkit], tuple[Template, ...]]] = {
    "weather": (Weather, draw_weather, WEATHER_TEMPLATES),
    "movie": (Movie, draw_movies, MOVIE_TEMPLATES),
    "academia": (Academia, draw_academia, ACADEMIA_TEMPLATES),
}
DRAWS_PER_WORLD, DRAWS_KEPT = 8, 256


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one world: `results` are what the reference calls return, without repetitions."""

    toolkit: type[QueryToolkit]
    world: bytes
    goal: str
    answer: Answer
    actions: tuple[str, ...]
    results: tuple[str, ...]


def _published(folder: Path, kind: str, split: str) -> Published:
    tool = kind.removesuffix(SUFFIX)
    return recordings(folder, "tool-query", tool, KINDS[tool][0])


class ToolQuery(ToolEnvironment[Question | Recording, QueryToolkit]):
    """Questions about the weather, movies and academia; every task has a small world of its own, drawn by seed.

    A question belongs to the split that its wording hashes to, so that no two splits ask the same; its answer can only
    come from the tools, for all names and figures are drawn. Outcome and progress are the share of the results of the
    reference calls that the agent has seen, the right answer being one more, as in AgentBoard. `finish` ends the
    episode; it is solved when the answer is right and every result was seen.

    Where AGENTBOARD_DATA names AgentBoard's data, each kind has its published questions beside it, such as
    `weather_recorded`: a call gets the answer that was recorded of the reference call, and any other is refused. A set
    of tasks has to name them: they take no other way than the reference's.
    """

    name: ClassVar[str] = "toolquery"
    engine: ClassVar[str] = "own, on SQLite"
    licence: ClassVar[str] = "Apache-2.0"
    kinds: ClassVar[tuple[str, ...]] = tuple(KINDS)
    published_kinds: ClassVar[tuple[str, ...]] = tuple(f"{kind}{SUFFIX}" for kind in KINDS)
    official: ClassVar[tuple[OfficialData, ...]] = (
        agentboard.official_tests(_published, lambda kind: kind.endswith(SUFFIX)),
    )
    instruction: ClassVar[str] = (
        f"You answer a question with the help of tools. {ToolEnvironment.action_form} Dates are written "
        "YYYY-MM-DD. What you need must come from the tools, also today's date and where the user is. When you know "
        "the answer, hand it in with finish: a number without unit (rounded to two decimals), a text exactly as the "
        "tools write it, or a list."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            first_text(
                Academia,
                'To which organisation does the last author of "Differentiable Segmentation in the Wild" belong?',
            ),
            "I need the authors of the paper first, and no graph is loaded yet, so I load the graph of papers.",
            "loadPaperNet with Action Input: {}",
        ),
        Turn(
            "PaperNet is loaded.",
            "Now the details of the paper will show its authors in order.",
            'paperNodeCheck with Action Input: {"node": "Differentiable Segmentation in the Wild"}',
        ),
        Turn(
            '{"authors": ["Ivan Keller", "Rosa Corrigan"], "year": 2008, "venue": "Workshop on Agents", '
            '"n_citation": 421, "keywords": ["kernels", "attention", "robustness", "planning", "embeddings"], '
            '"doc_type": "Conference"}',
            "The last author is Rosa Corrigan. Her organisation is in the graph of authors, which I have to load too.",
            "loadAuthorNet with Action Input: {}",
        ),
        Turn(
            "AuthorNet is loaded.",
            "I can look her up.",
            'authorNodeCheck with Action Input: {"node": "Rosa Corrigan"}',
        ),
        Turn(
            '{"name": "Rosa Corrigan", "org": "Laboratory of Falness"}',
            "That is the answer, and I hand it in as the tool writes it.",
            'finish with Action Input: {"answer": "Laboratory of Falness"}',
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self._database = Database()
        self._seen: frozenset[int] = frozenset()
        self._answered = False
        self._right = False

    @classmethod
    def toolkit(cls, kind: str) -> type[Toolkit]:
        return KINDS[kind.removesuffix(SUFFIX)][0]

    @classmethod
    def usual_kinds(cls, split: str) -> tuple[str, ...]:
        return cls.kinds

    def grade(self) -> Grade:
        reached, parts = len(self._seen) + self._right, len(self._drawn.results) + 1
        return Grade(outcome=reached / parts, progress=reached / parts, success=reached == parts)

    def fingerprint(self) -> str:
        return digest(self._task, sorted(self._toolkit.loaded), sorted(self._seen), self._answered, self._right)

    def snapshot(self) -> Any:
        marks = self._seen, self._answered, self._right
        return self._task, self._drawn, self._toolkit.loaded, marks

    def restore(self, state: Any) -> None:
        self._task, episode, loaded, marks = state
        if episode is not self._episode:
            self._episode = episode
            self._begin(episode)
        self._toolkit.loaded = loaded
        self._seen, self._answered, self._right = marks

    def close(self) -> None:
        self._database.close()

    def _draw(self, task: Task) -> Question | Recording:
        entry: Recording | None = self.entry(task)
        return entry or draw_question(task)

    def _begin(self, episode: Question | Recording) -> None:
        if isinstance(episode, Recording):
            self._kit = episode.kit()
        else:
            self._database.load(episode.world)
            self._kit = episode.toolkit(self._database)
        self._seen, self._answered, self._right = frozenset(), False, False

    def _note(self, name: str, arguments: dict[str, Any], text: str) -> bool:
        if name == "finish":
            self._answered = True
            self._right = self._drawn.answer is not None and same_answer(arguments["answer"], self._drawn.answer)
        elif text in self._drawn.results:
            self._seen |= {self._drawn.results.index(text)}
        return self._answered


@lru_cache(maxsize=DRAWS_KEPT)
def draw_question(task: Task) -> Question:
    """The question of a task: the first draw whose wording belongs to the task's split."""
    _, draw_world, templates = KINDS[task.kind]
    for number in count():
        random = Random(derive_seed(task.seed, task.environment, task.kind, task.split, task.index, number))
        toolkit = draw_world(random)
        for _ in range(DRAWS_PER_WORLD):
            call = Reference(toolkit)
            try:
                goal, answer = random.choice(templates)(call, random)
            except Unfit:
                continue
            if split_of(goal) == task.split:
                question = _write_question(toolkit, call, goal, answer)
                toolkit.database.close()
                return question
        toolkit.database.close()
    raise AssertionError("draws never end")


def _write_question(toolkit: QueryToolkit, call: Reference, goal: str, answer: Answer) -> Question:
    calls = dict.fromkeys(call.actions)
    results = dict.fromkeys(write_result(toolkit.run(*toolkit.parse(action))) for action in calls)
    last = write_action("finish", {"answer": answer})
    return Question(type(toolkit), toolkit.database.save(), goal, answer, (*calls, last), tuple(results))
