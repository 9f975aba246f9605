"""Costs by hand for a small configuration, and what moves them."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from agentrm.cluster.cost import Cost, cost
from agentrm.config.loading import load

# 64 steps at most: an episode has 32, of 50 + 100 tokens, after 200 without instructions.
SET = "{environment: babyai, kinds: [goto_obj], count: 10}"
TESTS = SET.replace("count", "split: test, count")
SMALL = [
    *(f"tasks.{name}=[{SET}]" for name in ("demonstrations", "trees")),
    f"tasks.held_in=[{TESTS}]",
    *("tasks.held_out_kinds=[]", "tasks.held_out_environments=[]", "model.instructions=false", "model.context=9999"),
    *("sampling.max_tokens=50", "trees.max_depth=20", "evaluate.max_depth=20", "train.held_out_trees=0"),
    *("trees.iterations=4", "trees.expansions=2", "trees.rollouts=3", "evaluate.n=5", "evaluate.width=2"),
    *("evaluate.branches=3", "evaluate.methods=[greedy,best_of_n,beam]", "clone.epochs=2", "train.epochs=3"),
]
ROLLOUTS = 10 * 4 * 2 * 3


def of(folder: str, *more: str) -> Cost:
    return cost(load("smollm2", [*SMALL, *more]), folder)


def test_each_stage_by_hand() -> None:
    whole = 200 + 10 * 150
    assert of("trees") == Cost(ROLLOUTS, 10 * 200 + ROLLOUTS * 5 * 100, ROLLOUTS * 5 * 50)
    assert of("reward_model") == Cost(trained=ROLLOUTS * whole * 3)
    assert of("policy").episodes == 10 and of("policy").trained == 2 * of("policy", "clone.epochs=1").trained
    # A greedy episode, five that Best-of-N and the baselines share, and a beam of six, thrice with its checks.
    found = of("evaluation")
    assert found.episodes == 10 * (1 + 5 + 3 * 6) and found.written == found.episodes * 10 * 50
    assert found.scored == 10 * (5 + 6) * 10 * 150 + 10 * 200
    assert found.gpu_hours == 0


def test_baselines_and_methods_that_are_left_out_cost_nothing() -> None:
    assert of("evaluation", "evaluate.baselines=[]").episodes == 10 * (1 + 5 + 6)
    greedy = of("evaluation", "evaluate.baselines=[]", "evaluate.methods=[greedy]")
    assert (greedy.episodes, greedy.scored) == (10, 0)
    assert of("policy", "clone.epochs=0") == Cost()
    assert of("reward_model", "train.labels.share=0.5").trained == of("reward_model").trained / 2
    assert of("reward_model", "train.labels.environments=[babyai.goto_obj]") == of("reward_model")


def test_gpus_are_counted_where_there_are_any() -> None:
    gpus = ["policy_engine.gpus=1", "reward_engine.gpus=1", "train.gpus_per_worker=1", "clone.gpus_per_worker=1"]
    for folder in ("policy", "trees", "reward_model", "evaluation"):
        plain, timed = of(folder), of(folder, *gpus)
        assert timed.gpu_hours > 0 and astuple(plain)[:-1] == astuple(timed)[:-1]
    kept = of("reward_model", *gpus).gpu_hours
    assert of("reward_model", *gpus, "train.gradient_checkpointing=true").gpu_hours == pytest.approx(kept * 8 / 6)


def test_the_paper_s_setting_takes_days_of_eight_gpus() -> None:
    config = load("llama3-8b")
    hours = {folder: cost(config, folder).gpu_hours for folder in ("policy", "trees", "reward_model", "evaluation")}
    assert 0.1 < sum(hours.values()) / 8 / 24 < 100, hours
