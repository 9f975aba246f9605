"""The measures of benchmarks of reward models on small files in their form, worked out by hand."""

from __future__ import annotations

import csv
import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from agentrm.core.errors import UserError
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards import (
    agent_process_bench,
    agent_reward_bench,
    plan_reward_bench,
    reward_bench_2,
    trbench_bfcl,
    web_reward_bench,
)
from agentrm.evaluation.rewards.agent_process_bench import gains, label_of, thresholds
from agentrm.evaluation.rewards.agent_reward_bench import threshold
from agentrm.evaluation.rewards.benchmark import Case, Measure, Scores, baselines
from agentrm.evaluation.rewards.suite import find, measured

SETTINGS = Settings(resamples=200)


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def cases_of(directory: Path) -> list[Case]:
    (cases,) = find(directory).cases.values()
    return cases


def values(measures: list[Measure]) -> dict[tuple[str, str], float]:
    return {(each.group, each.name): each.figure.value for each in measures}


def plan(chosen: list[dict], reject: list[dict]) -> dict[str, Any]:
    return {
        "query": "go",
        "tools": [],
        "uuid": "u",
        "chosen": {"messages": [{"role": "user", "content": "go"}, *chosen]},
        "reject": {"messages": [{"role": "user", "content": "go"}, *reject]},
    }


def test_plan_reward_bench_compares_pairs_and_halves_ties(tmp_path: Path) -> None:
    call = {"role": "tool_call", "content": "{'name': 'f', 'arguments': '{}'}"}
    answer = {"role": "tool_response", "content": "1234"}
    said = {"role": "assistant", "content": "done"}
    lines(tmp_path / "easy.jsonl", plan([said], [call, answer, said]), plan([call, answer], [said]))
    lines(tmp_path / "hard.jsonl", plan([said], [said]))
    cases = cases_of(tmp_path)
    # Contents as they are stored, the text of the call among them.
    assert [[each.lengths for each in case.candidates] for case in cases] == [
        [[6], [2 + 32 + 4 + 4]],
        [[2 + 32 + 4], [6]],
        [[6], [6]],
    ]
    (first, second) = cases[0].candidates[1].conversation.messages[1:3]
    assert first["tool_calls"][0]["function"]["name"] == "f" and second["role"] == "tool"
    scores: list[Scores] = [[[2.0], [1.0]], [[1.0], [2.0]], [[-inf], [-inf]]]
    assert values(plan_reward_bench.measure(cases, scores, SETTINGS)) == {
        ("easy", "accuracy"): 0.5,
        ("hard", "accuracy"): 0.5,
    }
    told = measured("Plan-RewardBench", cases, None, SETTINGS)
    assert values(told["shorter wins"]) == {("easy", "accuracy"): 0.5, ("hard", "accuracy"): 0.5}
    assert set(told) == {"constant", "shorter wins", "random"}


def test_trbench_compares_the_answers(tmp_path: Path) -> None:
    row = {
        "chat_history": [{"role": "user", "content": "weather?"}],
        "chosen_response": "[f()]",
        "reject_response": {"role": "assistant", "content": "I do not know"},
    }
    lines(tmp_path / "bfcl.jsonl", row, row | {"chat_history": "weather?"})
    cases = cases_of(tmp_path)
    assert [[each.lengths for each in case.candidates] for case in cases] == [[[5], [13]]] * 2
    assert values(trbench_bfcl.measure(cases, [[[1.0], [0.0]], [[0.0], [1.0]]], SETTINGS)) == {
        ("bfcl", "accuracy"): 0.5
    }


def test_web_reward_bench_counts_ties_against(tmp_path: Path) -> None:
    row = {
        "intent": "buy",
        "task_id": 1,
        "gt_checklist": "- find",
        "thought_history": ["look"],
        "action_history": ["click(1)"],
        "text_observation": "[2] Buy",
        "chosen": [{"thought": "buy", "action": "click(2)"}],
        "rejected": [{"thought": "no", "action": "stop()"}, {"thought": "", "action": "back()"}],
    }
    lines(tmp_path / "web.jsonl", row, row, row | {"task_id": 2})
    cases = cases_of(tmp_path)
    conversation = cases[0].candidates[0].conversation
    assert "Thought: look\nAction: click(1)" in conversation.messages[0]["content"]
    assert conversation.messages[1] == {"role": "assistant", "content": "Thought: buy\nAction: click(2)"}
    scores: list[Scores] = [[[3.0], [1.0], [2.0]], [[2.0], [2.0], [1.0]], [[2.0], [1.0], [1.0]]]
    found = values(web_reward_bench.measure(cases, scores, SETTINGS))
    assert found["web", "MRR"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["web", "step accuracy"] == pytest.approx(2 / 3)
    assert found["web", "trajectory accuracy"] == 0.5
    assert values(measured("WebRewardBench", cases, None, SETTINGS)["constant"])["web", "MRR"] == pytest.approx(1 / 3)


def reward_bench(id: str, subset: str, chosen: list[str], rejected: list[str]) -> dict[str, Any]:
    total = len(chosen) + len(rejected)
    return {
        "id": id,
        "prompt": "colour?",
        "chosen": chosen,
        "rejected": rejected,
        "num_correct": len(chosen),
        "total_completions": total,
        "subset": subset,
    }


def test_reward_bench_2_shares_credit_and_weighs_ties(tmp_path: Path) -> None:
    lines(
        tmp_path / "test.jsonl",
        reward_bench("1", "Math", ["a"], ["b", "c", "d"]),
        reward_bench("2", "Math", ["a"], ["b", "c", "d"]),
        reward_bench("ref:0", "Ties", ["red"], ["x"]),
        reward_bench("tied:0", "Ties", ["red", "blue"], ["x"]),
        reward_bench("ref:1", "Ties", ["red"], ["x"]),
        reward_bench("tied:1", "Ties", ["red", "blue"], ["x"]),
    )
    cases = cases_of(tmp_path)
    scores: list[Scores] = [
        [[1.0], [0.0], [0.0], [0.0]],
        [[1.0], [1.0], [0.0], [0.0]],
        [[2.0], [0.0]],
        [[3.0], [2.0], [0.0]],  # 1 apart, 2 above the wrong one; the reference too
        [[0.0], [1.0]],  # the reference is wrong, by 1
        [[2.0], [1.0], [0.5]],  # 1 apart, 0.5 above
    ]
    found = values(reward_bench_2.measure(cases, scores, SETTINGS))
    assert found["Math", "accuracy"] == 0.75
    # tanh(2 / 1 - 1) and tanh(-1 / 1 - 1)
    margin = (0.7615941559557649 - 0.9640275800758169) / 2
    ties = 0.3 * 1 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin
    assert found["Ties", "weighted score"] == pytest.approx(ties)
    assert found["all subsets", "score"] == pytest.approx((0.75 + ties) / 2)
    constant = values(measured("RewardBench 2", cases, None, SETTINGS)["constant"])
    assert constant["Math", "accuracy"] == 0.25 and constant["Ties", "weighted score"] == 0


def process(query: int, labels: list[int]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "who?"}]
    for _ in labels:
        messages += [{"role": "assistant", "content": "look"}, {"role": "user", "content": "seen"}]
    steps = {str(2 * number + 1): label for number, label in enumerate(labels)}
    return {
        "messages": messages,
        "tools": [],
        "step_labels": steps,
        "final_label": 1,
        "data_source": "qa",
        "query_index": query,
        "sample_index": 0,
    }


def test_agent_process_bench_labels_what_a_step_adds(tmp_path: Path) -> None:
    lines(tmp_path / "qa.jsonl", process(0, [1, 0, -1]), process(1, [1, -1]), process(2, [1, 1]), process(3, [1]))
    cases = cases_of(tmp_path)
    assert cases[0].truth == [1, 0, -1] and list(cases[0].candidates[0].lengths) == [4, 12, 20, 28]
    # All steps good, as a constant says: 5 of 8 steps, and the 2 of 4 episodes without a wrong step.
    constant = values(measured("AgentProcessBench", cases, None, SETTINGS)["constant"])
    assert constant == {("qa", "StepAcc"): 5 / 8, ("qa", "FirstErrAcc"): 0.5}
    # One half (tasks 0 and 2) puts the thresholds at 0 and 1, the other (1 and 3) both at 1.
    scores: list[Scores] = [[[0, 1, 1, -1]], [[0, 1, 0]], [[0, 1, 3]], [[0, 1.0]]]
    found = values(agent_process_bench.measure(cases, scores, SETTINGS))
    assert found["qa", "StepAcc"] == pytest.approx((2 + 2 + 2 + 1) / 8)
    assert found["qa", "FirstErrAcc"] == pytest.approx(3 / 4)


def test_thresholds_lie_between_different_gains() -> None:
    assert thresholds([0.0, 0.0, 0.0], [1, 1, -1]) == (-inf, -inf)
    assert thresholds([0.0, 0.0, 0.0], [-1, 1, -1]) == (inf, inf)
    low, high = thresholds([-1.0, 0.0, 2.0, 3.0], [-1, 0, 1, 1])
    assert [label_of(gain, low, high) for gain in (-1.0, 0.0, 2.0, 3.0)] == [-1, 0, 1, 1]
    assert thresholds([], []) == (-inf, -inf)
    assert gains([1.0, 2.0, -inf, 5.0]) == [1.0, None, 3.0]


def test_agent_reward_bench_takes_the_first_annotation_of_those_that_are_sure(tmp_path: Path) -> None:
    rows = []
    for task, success in (("a", "Successful"), ("b", "Unsuccessful"), ("c", "Successful"), ("d", "Unsuccessful")):
        rows.append({"benchmark": "shop", "task_id": task, "model_name": "m", "trajectory_success": success})
        folder = tmp_path / "cleaned" / "shop" / "m"
        folder.mkdir(parents=True, exist_ok=True)
        step = {"reasoning": "so", "action": "click", "axtree": f"page {task}"}
        (folder / f"{task}.json").write_text(json.dumps({"goal": "buy", "steps": [step, step]}))
    rows += [
        rows[0] | {"trajectory_success": "Unsuccessful"},
        rows[0] | {"task_id": "e", "trajectory_success": "Unsure"},
    ]
    rows.append(rows[0] | {"task_id": "f"})
    with (tmp_path / "annotations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    result = find(tmp_path)
    (cases,) = result.cases.values()
    assert len(cases) == 5 and len(result.problems) == 1 and "f.json" in result.problems[0]
    assert [message["content"] for message in cases[0].candidates[0].conversation.messages] == [
        "Your task: buy\n\n(a page)",
        "Thought: so\nAction: click",
        "page a",
        "Thought: so\nAction: click",
    ]
    # Tasks a and c (successes) measure each other's half: a, c | b, d sorted by name alternate as a, c and b, d.
    constant = values(measured("AgentRewardBench", cases, None, SETTINGS)["constant"])
    assert constant["all", "recall"] == 1 and constant["all", "precision"] == 0.5
    assert constant["shop", "F1"] == pytest.approx(2 / 3)
    # Fitted on b and d, which never succeed, all are successes; fitted on a and c, those from 0.6 on.
    scores: list[Scores] = [[[0.9]], [[0.7]], [[0.6]], [[0.1]], [[0.9]]]
    found = values(agent_reward_bench.measure(cases, scores, SETTINGS))
    assert found["all", "precision"] == pytest.approx(2 / 3) and found["all", "recall"] == 1
    assert threshold([0.1, 0.5, 0.7], [False, True, True]) == 0.5


def test_files_of_no_benchmark_are_left_and_none_at_all_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "other.jsonl", {"x": 1})
    with pytest.raises(UserError, match="holds no cases"):
        find(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json cannot be read"):
        find(tmp_path)


def test_random_is_the_same_again(tmp_path: Path) -> None:
    lines(tmp_path / "easy.jsonl", *[plan([{"role": "assistant", "content": "a"}], [])] * 5)
    cases = find(tmp_path).cases["Plan-RewardBench"]
    assert baselines(cases, 3)["random"] == baselines(cases, 3)["random"] != baselines(cases, 4)["random"]
