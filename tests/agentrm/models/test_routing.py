"""Requests of real episodes, with the environments' instructions, placed on engines that cache prefixes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random

import pytest

from agentrm.core.actions import ActionFormat, render
from agentrm.core.state import Proposal, State
from agentrm.core.task import Task
from agentrm.environments.registry import make
from agentrm.models.initial import train_tokenizer
from agentrm.models.routing import PrefixRouter
from agentrm.rendering.renderer import Renderer
from agentrm.search.episode import Opening

Prompt = list[int]
TASKS, EPISODES, STEPS, LANES = 20, 6, 10, 24
GENERATED = 60


def episodes(name: str) -> Iterator[list[list[State]]]:
    """The states of some episodes of each task: the oracle's, which from a random step on go astray."""
    random, opening = Random(name), Opening(True, ActionFormat.react)
    environment = make(name)
    for number in range(TASKS):
        kinds = environment.kinds
        task = Task(name, kinds[number % len(kinds)], "train", number // len(kinds))
        first = opening(task, environment.reset(task))
        plan = environment.expert_actions()
        found = []
        for _ in range(EPISODES):
            environment.reset(task)
            states, left = [first], deque(plan)
            while not states[-1].done and len(states) < STEPS:
                if random.random() < 0.2:
                    left.clear()
                action = left.popleft() if left else random.choice(environment.admissible_actions())
                turn = Proposal(render(f"I had better {action} now.", action, ActionFormat.react), action)
                states.append(states[-1].extend(turn, environment.step(action)))
            found.append([state for state in states if not state.done])
        yield found
    environment.close()


@pytest.fixture(scope="module")
def tasks() -> list[list[Prompt]]:
    """The prompts of each task's episodes, one after another; tasks of three environments in a random order."""
    found = [task for name in ("maze", "babyai", "pddl") for task in episodes(name)]
    texts = [message["content"] for task in found for message in task[0][-1].conversation().messages]
    renderer = Renderer(train_tokenizer(texts, 1024, phrases=False), 8192)
    prompts = [
        [renderer.prompt(state.conversation().messages) for episode in task for state in episode] for task in found
    ]
    Random(0).shuffle(prompts)
    return prompts


@dataclass
class Engine:
    """Counts the tokens that vLLM would compute, with its blocks of 16."""

    read: int = 0
    cached: int = 0
    work: int = 0
    blocks: set[int] = field(default_factory=set)

    def answer(self, ids: Prompt) -> None:
        block, new = 0, len(ids)
        for end in range(16, len(ids), 16):
            block = hash((block, *ids[end - 16 : end]))
            if block in self.blocks:
                new = len(ids) - end
            self.blocks.add(block)
        self.read += len(ids)
        self.cached += len(ids) - new
        self.work += new + GENERATED


class Clients:
    """Processes that grow trees, each with a router: `LANES` tasks at a time, whose requests run side by side."""

    def __init__(self, tasks: Sequence[Sequence[Prompt]], clients: int, lanes: int = LANES) -> None:
        self.engines: dict[str, Engine] = {}
        self._waiting = deque(deque(task) for task in tasks)
        self._routers = [PrefixRouter() for _ in range(clients)]
        self._lanes: list[deque[Prompt]] = [deque() for _ in range(lanes)]

    def run(self, names: Sequence[str], rounds: int | None = None) -> None:
        """Until all is done, or for some rounds of one request in each lane."""
        while rounds is None or rounds:
            with ExitStack() as under_way:
                for number, lane in enumerate(self._lanes):
                    if not lane and self._waiting:
                        lane.extend(self._waiting.popleft())
                    if lane:
                        self._ask(number, lane.popleft(), names, under_way)
            if not self._waiting and not any(self._lanes):
                return
            rounds = None if rounds is None else rounds - 1

    def _ask(self, lane: int, ids: Prompt, names: Sequence[str], under_way: ExitStack) -> None:
        request = under_way.enter_context(self._routers[lane % len(self._routers)].request(ids))
        self.engines.setdefault(request.place(names), Engine()).answer(ids)
        request.generated(GENERATED)

    @property
    def hits(self) -> float:
        """Percent of the prompts' tokens."""
        engines = self.engines.values()
        return 100 * sum(engine.cached for engine in engines) / sum(engine.read for engine in engines)

    def work(self, names: Sequence[str]) -> list[int]:
        """The tokens that each engine has computed."""
        return [self.engines[name].work if name in self.engines else 0 for name in names]

    def shares(self, names: Sequence[str], before: Sequence[int] | None = None) -> list[float]:
        """The work of each engine since `before`; an equal share is 1."""
        work = self.work(names)
        if before is not None:
            work = [now - then for now, then in zip(work, before, strict=True)]
        return [len(work) * each / sum(work) for each in work]


def names(count: int) -> list[str]:
    return [f"replica-{number}" for number in range(count)]


@pytest.fixture(scope="module")
def one(tasks: list[list[Prompt]]) -> float:
    """What a single engine has cached."""
    alone = Clients(tasks, 1)
    alone.run(names(1))
    return alone.hits


@pytest.mark.parametrize(("engines", "clients", "lanes"), [(6, 1, LANES), (6, 3, LANES), (6, 1, 1), (24, 1, LANES)])
def test_engines_have_equal_work_and_hardly_compute_anything_twice(
    tasks: list[list[Prompt]], one: float, engines: int, clients: int, lanes: int
) -> None:
    found = Clients(tasks, clients, lanes)
    found.run(names(engines))
    shares = found.shares(names(engines))
    assert min(shares) > 0.8 and max(shares) < 1.2
    assert found.hits > one - 2


def test_added_engines_soon_share_the_work_and_lost_ones_leave_it_to_all_others(
    tasks: list[list[Prompt]], one: float
) -> None:
    found = Clients(tasks, 2)
    found.run(names(3), 30)
    found.run(names(6), 10)
    before = found.work(names(6))
    found.run(names(6), 40)
    shares = found.shares(names(6), before)
    assert min(shares) > 0.8 and max(shares) < 1.2
    before = found.work(names(6)[2:])
    found.run(names(6)[2:])
    shares = found.shares(names(6)[2:], before)
    assert min(shares) > 0.8 and max(shares) < 1.2
    assert found.hits > one - 2


def test_an_engine_that_does_not_answer_gets_no_more_than_waits_for_it(tasks: list[list[Prompt]]) -> None:
    router, silent = PrefixRouter(), names(6)[0]
    with ExitStack() as under_way:
        placed = []
        for ids in tasks[0] + tasks[1] + tasks[2]:
            with ExitStack() as answered:
                request = answered.enter_context(router.request(ids))
                placed.append(request.place(names(6)))
                if placed[-1] == silent:
                    under_way.push(answered.pop_all())
        assert 1 <= placed.count(silent) < len(placed) / 12


def test_a_request_whose_engine_is_lost_waits_where_it_is_placed_again() -> None:
    router, ids = PrefixRouter(), list(range(2000))
    with router.request(ids) as request:
        lost = request.place(names(2))
        (left,) = {*names(2)} - {lost}
        request.place([left])
        with router.request(ids) as other:
            assert other.place([left, lost]) == lost, "what waits counts as much as what would be read again"
    with router.request([*ids, *ids]) as request:
        assert request.place([left, lost, "new"]) != "new"


@pytest.mark.parametrize("read", [list(range(1000)), "A text of some length. " * 200])
def test_what_begins_alike_goes_to_the_same_engine(read: list[int] | str) -> None:
    router = PrefixRouter()
    places = set()
    for length in range(len(read) // 2, len(read), len(read) // 10):
        with router.request(read[:length]) as request:
            places.add(request.place(names(6)))
    assert len(places) == 1
    with router.request(read[::-1]) as request:
        assert request.place(names(6)) not in places
