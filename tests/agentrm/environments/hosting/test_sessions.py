import asyncio
import random
from collections.abc import Sequence

import pytest

from agentrm.config.schema import Evaluate, Scored
from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.state import Proposal, State, joined
from agentrm.core.task import Observation, Task
from agentrm.environments.hosting.sessions import LRU, SessionPool
from agentrm.environments.registry import make
from agentrm.search.stepwise import Stepwise
from agentrm.search.strategy import search
from tests.agentrm.search.toy import BARE

pytestmark = pytest.mark.usefixtures("tricky")
TASK = Task("tricky", "count", "train", 1)


def replayed_alone(task: Task, actions: tuple[str, ...]):
    """The observation and grade after these actions, without any pool."""
    environment = make(task.environment)
    observation = environment.reset(task)
    for action in actions:
        observation = environment.step(action)
    grade = environment.grade()
    environment.close()
    return observation, grade


def test_any_order_of_visits_gives_what_a_replay_gives() -> None:
    """A random walk over the trees of three BabyAI tasks, in a pool too small to hold it."""
    pytest.importorskip("minigrid")
    rng = random.Random(0)
    vocabulary = ["turn left", "turn right", "move forward", "toggle", "drop", "nonsense"]
    pool = SessionPool(max_sessions=2, max_snapshots=4, max_memories=8)
    states = [(Task("babyai", "goto_local", "train", index), ()) for index in range(3)]
    for _ in range(60):
        task, actions = rng.choice(states)
        actions = (*actions, rng.choice(vocabulary))
        observation, grade = replayed_alone(task, actions)
        assert pool.observe(task, actions) == observation
        assert pool.grade(task, actions) == grade
        if not observation.done:
            states.append((task, actions))
    pool.close()


def test_a_tree_with_snapshots_executes_each_edge_once() -> None:
    pytest.importorskip("minigrid")
    pool = SessionPool()
    task = Task("babyai", "goto_local", "train", 0)
    vocabulary = ["turn left", "turn right", "move forward"]
    edges = 0
    for first in vocabulary:
        for second in vocabulary:
            for third in vocabulary:
                pool.observe(task, (first, second, third))
    edges = 3 + 9 + 27
    assert pool.counters["steps"] == edges
    assert pool.counters["replayed"] == 0
    assert pool.counters["resets"] == 1
    pool.close()


def test_episodes_side_by_side_stay_on_their_engines() -> None:
    """Two branches in each of 100 tasks, a step of each at a time: a snapshot is restored only where they part."""
    pytest.importorskip("minigrid")
    pool = SessionPool(max_sessions=200)
    branches = [
        (Task("babyai", "goto_local", "train", index), first) for index in range(100) for first in ("drop", "toggle")
    ]
    for length in range(3):
        for task, first in branches:
            pool.observe(task, (first, *["turn left"] * length))
    assert len(pool.sessions) == 200
    assert pool.counters["restores"] == 100
    assert pool.counters["replayed"] == 0
    pool.close()


def test_memory_and_the_live_engine_are_used_before_a_replay() -> None:
    pool = SessionPool()
    pool.observe(TASK, ())
    pool.observe(TASK, ("add",))
    pool.observe(TASK, ("add", "wait"))
    assert pool.counters == {
        "steps": 2, "replayed": 0, "resets": 1, "restores": 0, "live_hits": 2, "memory_hits": 0,
    }  # fmt: skip
    pool.observe(TASK, ("add",))
    assert pool.counters["memory_hits"] == 1
    # A sibling: tricky has no snapshots, so one known step is executed again in a second engine.
    pool.observe(TASK, ("add", "add"))
    assert pool.counters["steps"] == 4
    assert pool.counters["replayed"] == 1
    assert pool.counters["resets"] == 2


def test_live_engines_are_bounded() -> None:
    pytest.importorskip("minigrid")
    pool = SessionPool(max_sessions=3)
    for index in range(5):
        pool.observe(Task("tricky", "count", "train", index), ())
        pool.observe(Task("babyai", "goto_obj", "train", index), ())
    live = [session.name for session in pool.sessions]
    assert len(live) == 3
    assert live.count("tricky") <= 2  # its max_live
    pool.close()
    assert pool.sessions == []


def test_an_engine_whose_episode_ended_serves_the_next_one() -> None:
    pool = SessionPool()
    for index in range(5):
        task = Task("tricky", "count", "train", index)
        for count in range(1, 4):
            pool.observe(task, ("add",) * count)
        assert pool.grade(task, ("add",) * 3).success
    assert len(pool.sessions) == 1
    assert pool.counters["steps"] == 15
    assert pool.counters["resets"] == 5


def test_the_engine_of_a_graded_state_is_given_up_first() -> None:
    """Callers grade where they stop, so the other episode goes on without a replay."""
    pool = SessionPool(max_sessions=2)
    tasks = [Task("tricky", "count", "train", index) for index in range(3)]
    pool.observe(tasks[0], ("add",))
    pool.observe(tasks[1], ("add",))
    pool.grade(tasks[1], ("add",))
    pool.observe(tasks[2], ())
    pool.observe(tasks[0], ("add", "add"))
    assert pool.counters["replayed"] == 0


def test_steps_less_replays_are_the_distinct_edges() -> None:
    """Two children of a state, each reached by an engine of its own: three edges, and one of them executed twice."""
    pool = SessionPool()
    for second in ("add", "wait"):
        pool.observe(TASK, ("add", second))
    assert pool.counters["steps"] == 4
    assert pool.counters["steps"] - pool.counters["replayed"] == 3


def test_an_ended_episode_takes_no_more_actions() -> None:
    pool = SessionPool()
    assert pool.observe(TASK, ("add",) * 3).done
    with pytest.raises(UserError, match=r"ended after 3 of 4 actions: task tricky.count.train.1.0, action 'add'"):
        pool.observe(TASK, ("add",) * 4)
    assert pool.grade(TASK, ("add",) * 3).success


def test_a_turn_of_several_actions_takes_them_in_order_up_to_the_end() -> None:
    pool = SessionPool()
    both = joined(["add", "wait", "add"])
    assert pool.observe(TASK, (both,)).text == joined(["1", "1", "2"])
    assert pool.counters["steps"] == 3
    assert pool.fingerprint(TASK, (both,)) == pool.fingerprint(TASK, ("add", "add", "wait"))
    last = pool.observe(TASK, (both, joined(["add", "add"])))
    assert (last.text, last.done) == ("3", True), "what would follow the end is not taken"
    assert pool.grade(TASK, (both, joined(["add", "add"]))).success


def test_a_turn_of_several_actions_counts_as_many() -> None:
    pool, both = SessionPool(), joined(["add", "wait", "wait"])
    for actions in ((both,), (both, "wait"), (both, "add")):
        pool.observe(TASK, actions)
    assert (pool.counters["steps"], pool.counters["replayed"]) == (8, 3), "the last had to start again"


def test_a_failing_engine_is_replaced() -> None:
    pool = SessionPool()
    pool.observe(TASK, ("add",))
    with pytest.raises(EnvironmentFailure, match=r"out of order.*task tricky.count.train.1.0, action 'raise'"):
        pool.observe(TASK, ("add", "raise"))
    assert pool.sessions == []
    assert pool.observe(TASK, ("add", "add")).text == "2"


def test_the_oracle_of_a_task() -> None:
    pool = SessionPool()
    assert pool.expert_actions(TASK) == ["add"] * 3
    assert pool.observe(TASK, ("add",)).text == "1"


def test_fingerprints_tell_states_apart() -> None:
    pool = SessionPool()
    after = [pool.fingerprint(TASK, actions) for actions in ((), ("add",), ("wait",), ("add", "wait"), ("wait", "add"))]
    assert after[3] == after[4]
    assert after[1] != after[0]


def test_lru_keeps_what_was_used_last() -> None:
    lru: LRU[str, int] = LRU(2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.use("a") == 1
    lru.put("c", 3)
    assert list(lru) == ["a", "c"]
    assert lru.use("b") is None


class OfPool:
    """`Sessions` over a pool in this process."""

    def __init__(self, pool: SessionPool) -> None:
        self.pool = pool

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        return self.pool.observe(task, actions)


class Undecided:
    """Proposes to wait, to look and to add."""

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        return [Proposal(action, action, tokens=1) for action in ("wait", "look", "add")]


class Adds:
    async def score(self, states: Sequence[State]) -> list[float]:
        return [float(state.actions.count("add")) for state in states]


def played(index: int, scored: Scored) -> tuple[tuple[str, ...], SessionPool]:
    """What stepwise search of three candidates does in a world that cannot be reset."""
    pool = SessionPool()
    chosen = search(
        Stepwise(3, scored), Task("once", "count", "train", index), Undecided(), OfPool(pool), Adds(), Evaluate(), BARE
    )
    return asyncio.run(chosen).state.actions, pool


def test_stepwise_before_acting_plays_one_live_episode() -> None:
    actions, pool = played(0, Scored.before_acting)
    assert actions == ("add", "add", "add")
    assert len(pool.sessions) == 1
    wanted = {"steps": 3, "replayed": 0, "resets": 1, "restores": 0, "live_hits": 3}
    assert pool.counters | wanted == pool.counters


def test_stepwise_after_acting_needs_a_world_that_can_be_reset() -> None:
    with pytest.raises(EnvironmentFailure, match="cannot be reset"):
        played(1, Scored.after_acting)
