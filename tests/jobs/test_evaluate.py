"""What is run on a task: the searches that were asked for, the baselines of every table, and only what is missing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.searcher import TaskSearcher
from agentrm.config.loading import load
from agentrm.config.schema import Aggregate, Baseline, Evaluate, Method
from agentrm.core.errors import AgentRMError, EnvironmentFailure, InputRefused, ModelError, ModelUnavailable, UserError
from agentrm.core.state import Proposal, State
from agentrm.core.task import Observation, Task
from agentrm.evaluation.evaluator import Evaluator, methods
from agentrm.evaluation.metrics import BASELINE, Settings, summarise
from agentrm.evaluation.results import Results
from agentrm.failures import Failures
from agentrm.run import RunDirectory
from jobs import pipeline
from jobs.evaluate import Work, evaluate, in_turn, reward_model_for
from tests.agentrm.search.toy import BARE, TASK, EvenPolicy, ToyGrader, ToySessions, TrueValue

SETTINGS = Evaluate(n=4, width=2, branches=2, max_depth=9)
TODAY = [
    "greedy",
    "sampled mean",
    "best of 4",
    "shortest of 4",
    "likeliest of 4",
    "majority of 4",
    "oracle best of 4",
    "beam 2x2",
    "beam 2x2, random scores",
    "beam 2x2, log-probability",
]


class Inclined(EvenPolicy):
    """Draws as evenly, but says that one of the two actions was likely."""

    def __init__(self, seed: int, likely: str) -> None:
        super().__init__(seed)
        self.likely = likely

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        proposals = await super().propose(state, n, seed=seed, greedy=greedy)
        return [replace(each, logprob=-0.1 if each.action == self.likely else -2.3) for each in proposals]


class LovesTheRight:
    """A judge that names the attempt that turned right most often, and none that are alike."""

    async def complete(self, question: str) -> str:
        turns = [attempt.count("> right") for attempt in question.split("Attempt ")[1:]]
        best = max(turns)
        return f"Best: {turns.index(best) + 1}" if turns.count(best) == 1 else "I cannot tell."


def evaluator(settings: Evaluate, policy: EvenPolicy) -> Evaluator:
    return Evaluator(settings, BARE, 0, policy, ToySessions(), ToyGrader(), TrueValue(), LovesTheRight())


def rows(settings: Evaluate, policy: EvenPolicy, stored: dict[str, Any] | None = None) -> dict[str, Any]:
    return asyncio.run(evaluator(settings, policy).rows("held-in", TASK, stored or {}))


def test_the_default_table() -> None:
    assert methods(SETTINGS) == TODAY


def test_baselines_are_chosen() -> None:
    alone = replace(SETTINGS, baselines=[])
    assert methods(alone) == ["greedy", "best of 4", "beam 2x2"]
    policy = EvenPolicy(3)
    assert sorted(rows(alone, policy)) == sorted(methods(alone))
    some = replace(SETTINGS, methods=[Method.beam], baselines=[Baseline.oracle, Baseline.random])
    assert methods(some) == ["oracle best of 4", "beam 2x2", "beam 2x2, random scores"]
    assert sorted(rows(some, policy)) == sorted(methods(some))


def test_what_needs_no_reward_model_is_evaluated_without_one() -> None:
    untrained = [method for method in Method if not method.scored]
    settings = replace(SETTINGS, methods=untrained)
    without = Evaluator(settings, BARE, 0, EvenPolicy(3), ToySessions(), ToyGrader(), None, LovesTheRight())
    found = asyncio.run(without.rows("held-in", TASK, {}))
    assert set(found) == set(methods(settings)) and {"greedy", "majority of 4", "likeliest of 4"} <= set(found)


def test_a_reward_model_that_is_not_there_is_named_with_who_needs_it(tmp_path: Path) -> None:
    config = load("quickstart", [f"run={tmp_path / 'run'}", "tasks.trees=[]"])
    directory = RunDirectory.open(config)
    assert reward_model_for(directory, [Method.greedy, Method.majority, Method.judge]) is None
    told = r"reward_model is not there, by which best_of_n, beam of evaluate\.methods .*`agentrm train`.* among greedy"
    with pytest.raises(UserError, match=told):
        reward_model_for(directory, config.evaluate.methods)
    # Before anything is cloned: without trees none will come.
    with pytest.raises(UserError, match=told):
        pipeline.run(config)


def test_the_baselines_stand_beside_any_method() -> None:
    chosen = Evaluate(methods=[Method.mcts_puct, Method.sample, Method.majority], n=3, iterations=8, max_tokens=50)
    assert methods(chosen) == [
        "sampled mean",
        "majority of 3, 50 tokens",
        "shortest of 3",
        "likeliest of 3",
        "majority of 3",
        "oracle best of 3",
        "mcts puct 8x5, 50 tokens",
        "mcts puct 8x5, 50 tokens, random scores",
        "mcts puct 8x5, 50 tokens, log-probability",
    ]


def test_groups_take_turns() -> None:
    todo = [
        (Task("toy", "any", "test", index), group)
        for group, size in (("a", 3), ("b", 1), ("c", 2))
        for index in range(size)
    ]
    taken = [(group, task.index) for task, group in in_turn(todo)]
    assert taken == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2)]
    assert in_turn([]) == []


def test_one_row_per_method() -> None:
    policy = EvenPolicy(3)
    found = rows(SETTINGS, policy)
    assert sorted(found) == sorted(TODAY)
    assert found["greedy"]["outcome"] == 0 and found["beam 2x2"]["outcome"] == 1
    assert found["oracle best of 4"]["outcome"] == found["best of 4"]["outcome"] > found[BASELINE]["outcome"]
    assert found["best of 4"]["policy_tokens"] == found["oracle best of 4"]["policy_tokens"] == 12
    assert found[BASELINE]["policy_tokens"] == found[BASELINE]["environment_steps"] == 3
    assert all(row["finished"] == 1 and row["cut"] == 0 for row in found.values())


def test_only_what_is_missing_is_run() -> None:
    first = rows(SETTINGS, EvenPolicy(3))
    policy = EvenPolicy(3)
    assert rows(SETTINGS, policy, first) == first and policy.sampled == 0
    more = Evaluate(methods=[*SETTINGS.methods, Method.stepwise], n=4, width=2, branches=2, max_depth=9)
    found = rows(more, policy, first)
    searched = "stepwise of 4"
    assert set(found) - set(first) == {searched, f"{searched}, random scores", f"{searched}, log-probability"}
    assert {label: found[label] for label in first} == first


def test_the_policy_prefers_what_it_finds_likely() -> None:
    left, right = (rows(SETTINGS, Inclined(3, likely)) for likely in ("left", "right"))
    for method in ("likeliest of 4", "beam 2x2, log-probability"):
        assert left[method]["outcome"] < right[method]["outcome"]
    for method in ("best of 4", "shortest of 4", "beam 2x2", "beam 2x2, random scores"):
        assert left[method]["outcome"] == right[method]["outcome"]


def test_budgets_bind_searches_but_no_baselines() -> None:
    found = rows(Evaluate(n=4, width=2, branches=2, max_depth=9, max_tokens=7), EvenPolicy(3))
    assert found["best of 4, 7 tokens"]["cut"] == 1 and found["best of 4, 7 tokens"]["policy_tokens"] == 7
    assert found["oracle best of 4"]["policy_tokens"] == 12 and found["greedy"]["cut"] == 0


@pytest.mark.parametrize("method", Method)
def test_every_method_can_be_evaluated(method: Method) -> None:
    chosen = Evaluate(methods=[method], n=3, width=2, branches=2, iterations=12, max_depth=9)
    found = rows(chosen, EvenPolicy(1))
    assert set(found) == set(methods(chosen))
    assert all(0 <= row["outcome"] <= 1 for row in found.values())


def test_a_judge_chooses_whole_episodes_and_its_verdicts_are_counted() -> None:
    settings = Evaluate(
        methods=[Method.judge, Method.best_of_n], n=4, max_depth=9, max_scores=1, aggregate=Aggregate.min
    )
    found = rows(settings, EvenPolicy(3))
    judged, others = found.pop("judged best of 4"), found
    assert judged["outcome"] == found["oracle best of 4"]["outcome"] and judged["cut"] == 0
    assert (judged["asked"], judged["malformed"], judged["overflows"], judged["swayed"]) == (2, 0, 0, 0)
    assert all(row["asked"] is None for row in others.values())
    undecided = rows(settings, EvenPolicy(1))["judged best of 4"]
    assert (undecided["asked"], undecided["malformed"]) == (2, 2)


def test_best_of_n_with_the_tokens_of_a_search() -> None:
    chosen = Evaluate(methods=[Method.beam], n=1, width=2, branches=2, max_depth=9, equal_tokens=True)
    found = rows(chosen, EvenPolicy(3))
    label = "best of N, tokens of beam 2x2"
    assert methods(chosen)[-4:] == ["beam 2x2", "beam 2x2, random scores", "beam 2x2, log-probability", label]
    # Beam takes 4 + 2 * 2 + 2 * 2 tokens, an episode 3.
    assert found["beam 2x2"]["policy_tokens"] == found[label]["policy_tokens"] == 12
    assert found[label]["scored_states"] <= 4 and found[label]["finished"] == 1
    stored = {name: row for name, row in found.items() if name != label}
    assert rows(chosen, EvenPolicy(3), stored)[label]["policy_tokens"] == 12


class Refusing(EvenPolicy):
    """Raises an error after the first step of one task."""

    def __init__(self, error: AgentRMError) -> None:
        super().__init__(3)
        self.error = error

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        if state.task.index == 1 and state.steps:
            raise self.error
        return await super().propose(state, n, seed=seed, greedy=greedy)


def evaluated(judged: Evaluator, settings: Evaluate, folder: Path, todo: list[Work], lanes: int) -> Failures:
    results, failures = Results(folder / "done", methods(settings)), Failures(folder / "failures")
    asyncio.run(evaluate(todo, TaskSearcher(judged, results).work, lanes, results, failures))
    return failures


def refused(error: AgentRMError, folder: Path) -> list[Path]:
    todo = [(replace(TASK, index=index), "held-in") for index in range(3)]
    try:
        evaluated(evaluator(SETTINGS, Refusing(error)), SETTINGS, folder, todo, 1)
    finally:
        written = sorted((folder / "done").glob("*.json"))
        assert len(written) == {ModelError: 2, ModelUnavailable: 1, InputRefused: 3}[type(error)]
    return written


def test_a_task_that_the_model_does_not_answer_is_left_for_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 tasks failed for a model; run again to retry: no answer"):
        refused(ModelError("no answer"), tmp_path)


def test_a_model_that_answers_nobody_ends_the_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="wrong key"):
        refused(ModelUnavailable("wrong key"), tmp_path)


def test_refused_states_are_counted_in_every_row(tmp_path: Path) -> None:
    written = refused(InputRefused("filtered"), tmp_path)
    rows = [row for file in written for row in json.loads(file.read_text())]
    assert len(rows) == 3 * len(TODAY)
    assert all((row["refusals"] > 0) == row["task"].split(".")[3].startswith("1") for row in rows)


class Failing(ToySessions):
    """An environment whose tasks of some indices never work, or work the second time."""

    def __init__(self, never: set[int], once: set[int] = frozenset()) -> None:
        super().__init__()
        self.never, self.once, self.starts = never, once, Counter[int]()

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        if not actions:
            self.starts[task.index] += 1
        if task.index in self.never or (task.index in self.once and self.starts[task.index] == 1):
            raise EnvironmentFailure(f"crash {task.index}")
        return await super().observe(task, actions)


FEW = Evaluate(methods=[Method.greedy], n=2, max_depth=9)


def failing(folder: Path, sessions: Failing, todo: list[Work]) -> Failures:
    judged = Evaluator(FEW, BARE, 0, EvenPolicy(3), sessions, ToyGrader(), TrueValue(), LovesTheRight())
    return evaluated(judged, FEW, folder, todo, 2)


def test_a_task_that_fails_for_ever_is_counted_and_the_others_are_compared(tmp_path: Path) -> None:
    todo = [(replace(TASK, index=index), "held-in") for index in range(4)]
    failures = failing(tmp_path, Failing(never={0}, once={2}), todo)
    assert failures.given_up == {todo[0][0].id: "crash 0"}
    assert Failures(tmp_path / "failures").given_up == failures.given_up
    labels = methods(FEW)
    results = Results(tmp_path / "done", labels)
    assert results.missing(todo) == todo[:1] and results.finished() == {task.id for task, _ in todo[1:]}
    episodes = results.table(todo, failures.given_up)
    assert episodes["error"].to_pylist() == ["crash 0"] * len(labels) + [""] * 3 * len(labels)
    table = summarise(episodes, ["group"], Settings(resamples=10)).to_pylist()
    assert [row["method"] for row in table] == labels
    assert {(row["tasks"], row["failed"]) for row in table} == {(3, 1)}


def test_what_was_found_is_one_table_however_many_tasks_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(FEW, methods=[Method.greedy, Method.judge])
    todo = [(replace(TASK, index=index), "held-in") for index in range(5)]
    evaluated(evaluator(settings, EvenPolicy(3)), settings, tmp_path, todo, 5)
    found = Results(tmp_path / "done", methods(settings))
    whole = found.table(todo, {})
    assert whole.num_rows == 5 * len(methods(settings)) and whole["asked"].null_count == whole.num_rows - 5
    monkeypatch.setattr("agentrm.evaluation.results._TASKS", 2)
    assert found.table(todo, {}).equals(whole)


def test_an_environment_that_fails_on_everything_is_an_error_and_no_result(tmp_path: Path) -> None:
    todo = [(replace(TASK, index=index), "held-in") for index in range(2)]
    with pytest.raises(EnvironmentFailure, match="all 2 tasks failed in their environment: crash"):
        failing(tmp_path, Failing(never={0, 1}), todo)
    assert failing(tmp_path, Failing(never=set()), todo).given_up == {}
