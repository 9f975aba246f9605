"""Gains by hand from hand-made episodes, and reports that hold them."""

from __future__ import annotations

import io
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from agentrm.config.loading import load
from agentrm.config.schema import Config
from agentrm.evaluation.experiments import EXPERIMENTS
from agentrm.reports.comparison import compare, gather, shown, write
from agentrm.run import RunDirectory
from jobs.terminal.tables import print_comparison

GREEDY, BEST, BEAM = "greedy", "best of 5", "beam 3x3"


@pytest.fixture(scope="module")
def config() -> Config:
    return load("quickstart", ["intervals.resamples=200"])


def episode(variant: str, method: str, pair: str, outcome: float, **more: Any) -> dict[str, Any]:
    verdicts: dict[str, Any] = dict.fromkeys(("asked", "malformed", "overflows", "swayed"))
    columns = {"test": "held-in", "policy_tokens": 100.0, "states": 50.0} | verdicts
    return columns | {"variant": variant, "method": method, "pair": pair, "outcome": outcome} | more


def table(*variants: str, methods: tuple[str, ...] = (GREEDY, BEST, BEAM), **more: Any) -> pd.DataFrame:
    """Tasks a and b: greedy gets 0 and 1, the others 1 and 1; each later variant loses half on b."""
    rows = [
        episode(variant, method, pair, (0.0 if (method, pair) == (GREEDY, "a") else 1.0) * (0.5**step), **more)
        for variant in variants
        for method in (
            *methods,
            "sampled mean",
            "likeliest of 5",
            "beam 3x3, random scores",
            "beam 3x3, log-probability",
        )
        for pair, step in (("a", 0), ("b", variants.index(variant)))
    ]
    return pd.DataFrame(rows)


def cell(rows: list[dict[str, Any]], variant: str, method: str) -> dict[str, Any]:
    (row,) = (row for row in rows if (row["variant"], row["method"]) == (variant, method))
    return row


def test_gains_over_greedy_are_paired_by_task(config: Config) -> None:
    rows = compare(table("explicit", "implicit"), EXPERIMENTS["reward-kinds"], config)
    best = cell(rows, "implicit", BEST)
    # 1 and 0.5 against 0 and 0.5.
    assert (best["outcome"], best["reference"], best["gain"], best["tasks"]) == (0.75, 0.25, 0.5, 2)
    assert best["gain_low"] == 0 and best["gain_high"] == 1
    assert (best["n"], cell(rows, "explicit", BEAM)["n"]) == (5, 3)
    assert isnan(cell(rows, "explicit", GREEDY)["gain"]) and isnan(cell(rows, "explicit", GREEDY)["n"])
    visible = shown(rows, EXPERIMENTS["reward-kinds"])["held-in"]
    assert [row["method"] for row in visible] == [BEST, BEAM] * 2


def test_drops_are_over_the_tasks_that_both_have(config: Config) -> None:
    episodes = table("original", "walk")
    episodes = episodes[(episodes["variant"] == "original") | (episodes["pair"] == "b")]
    rows = compare(episodes, EXPERIMENTS["perturbations"], config)
    walk = cell(rows, "walk", BEST)
    assert (walk["tasks"], walk["outcome"], walk["reference"], walk["gain"]) == (1, 0.5, 1.0, -0.5)
    assert isnan(cell(rows, "original", BEST)["gain"])
    visible = shown(rows, EXPERIMENTS["perturbations"])["held-in"]
    assert [row["method"] for row in visible] == [GREEDY, BEST, BEAM] * 2


def test_beam_is_compared_with_best_of_n_of_its_tokens(config: Config) -> None:
    equal = f"best of N, tokens of {BEAM}"
    episodes = table("beam-3x3", methods=(BEAM, equal))
    episodes.loc[(episodes["method"] == equal) & (episodes["pair"] == "a"), "outcome"] = 0.5
    rows = compare(episodes, EXPERIMENTS["equal-tokens"], config)
    assert cell(rows, "beam-3x3", BEAM)["gain"] == 0.25
    assert isnan(cell(rows, "beam-3x3", equal)["gain"])


VARIANTS = {
    "state-ablation": ("whole", "no-actions"),
    "perturbations": ("original", "walk"),
    "generalisation": ("babyai.goto_local", "all"),
    "policy-against-reward-model": ("general", "reward-model-a"),
    "specialised": ("general", "specialised-a"),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_report_holds_table_and_plots(name: str, config: Config, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    names = VARIANTS.get(name, ("first", "second"))
    parts = [table(*names), table(*names, test="held-out <kinds>", states=200.0, policy_tokens=300.0)]
    rows = write(name, experiment, pd.concat(parts, ignore_index=True), config, tmp_path)
    assert pq.read_table(tmp_path / "results.parquet").num_rows == len(rows) == 2 * 2 * 7
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.count("<svg") == len(experiment.plots) and "held-out &lt;kinds&gt;" in page
    assert "data:image" not in page and experiment.paper in text
    lines = [line for line in text.splitlines() if line.startswith(f"| {names[1]} | {BEST} | 2 | 0.75 [")]
    assert len(lines) == 2
    console = Console(file=io.StringIO(), width=120)
    print_comparison(rows, experiment, console)
    assert names[1] in console.file.getvalue()


def test_the_heat_map_writes_every_gain_down(config: Config, tmp_path: Path) -> None:
    write("generalisation", EXPERIMENTS["generalisation"], table("babyai.goto_local", "all"), config, tmp_path)
    page = (tmp_path / "report.html").read_text()
    # Best-of-5 and beam search, each of both variants: 1 against 0 on a, no difference on b.
    assert page.count(">+0.50<") == 4
    assert "trained on" in page and "tested on" in page


def test_what_a_judge_could_not_answer_is_told(config: Config, tmp_path: Path) -> None:
    judged = pd.DataFrame(
        [
            episode("judge", "judged best of 5", pair, 1.0, asked=2, malformed=malformed, overflows=0, swayed=1)
            for pair, malformed in (("a", 2), ("b", 1))
        ]
    )
    episodes = pd.concat([table("explicit"), judged], ignore_index=True)
    write("reward-kinds", EXPERIMENTS["reward-kinds"], episodes, config, tmp_path)
    told = "judged best of 5: of 4 questions to the judge 3 had answers that name no single attempt, 0 did not fit"
    assert told in (tmp_path / "report.md").read_text()


def test_episodes_are_gathered_by_group_or_by_kind(config: Config, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, config)
    columns = {"group": "held-in", "environment": "babyai+walk", "kind": "goto_local", "method": GREEDY}
    with run.writing("evaluation") as output:
        rows = [
            columns | {"task": "babyai+walk.goto_local.test.3.0", "outcome": 1.0, "error": ""},
            columns | {"task": "babyai+walk.goto_local.test.4.0", "outcome": None, "error": "crash"},
        ]
        pq.write_table(pa.Table.from_pylist(rows), output / "episodes.parquet")
    run.write_metrics("train", {"states": 12})
    (row,) = gather({"walk": run}, config, by_kind=False).to_dict("records")
    assert (row["variant"], row["test"], row["states"]) == ("walk", "held-in", 12)
    assert row["pair"] == "babyai.goto_local.test.3.0"
    (row,) = gather({"walk": run}, config, by_kind=True).to_dict("records")
    # Its trees are of one environment, so that kinds tell its tests apart.
    assert row["test"] == "babyai+walk.goto_local"
    config.tasks.trees = config.tasks.trees[:1]
    (row,) = gather({"walk": run}, config, by_kind=True).to_dict("records")
    assert row["test"] == "babyai+walk.goto_local"


def test_the_mean_drop_over_wordings_and_its_spread_are_told(config: Config, tmp_path: Path) -> None:
    """Best of 5 gets 1 and 1 in the original, 1 and 0.5 in the second variant, 1 and 0.25 in the third."""
    rows = write("perturbations", EXPERIMENTS["perturbations"], table("original", "using", "move"), config, tmp_path)
    assert [round(row["gain"], 3) for row in rows if row["method"] == BEST] == [
        pytest.approx(float("nan"), nan_ok=True),
        -0.25,
        -0.375,
    ]
    said = "- held-in, best of 5: mean drop over 2 wordings 31.2 points, standard deviation 8.8."
    assert said in (tmp_path / "report.md").read_text().splitlines()
    assert "mean drop over 2 wordings 31.2 points" in (tmp_path / "report.html").read_text()
    write("reward-kinds", EXPERIMENTS["reward-kinds"], table("explicit", "implicit"), config, tmp_path)
    assert "mean drop" not in (tmp_path / "report.md").read_text()


def test_reward_models_are_set_against_policies_of_the_same_task_on_all_others(config: Config, tmp_path: Path) -> None:
    rows = [episode("general", GREEDY, pair, 0.5, test=pair[0]) for pair in ("a1", "a2", "b1")]
    for unit, others in (("a", ("b1",)), ("b", ("a1", "a2"))):
        rows += [episode(f"policy-{unit}", GREEDY, pair, 0.25, test=pair[0]) for pair in ("a1", "a2", "b1")]
        rows += [
            episode(f"reward-model-{unit}", method, pair, 0.75 if pair in others else 0.0, test=pair[0])
            for method in (BEST, f"{BEAM}, random scores")
            for pair in ("a1", "a2", "b1")
        ]
    experiment = EXPERIMENTS["policy-against-reward-model"]
    found = write("against", experiment, pd.DataFrame(rows), config, tmp_path)
    assert cell([row for row in found if row["test"] == "b"], "policy-a", GREEDY)["gain"] == -0.25
    text = (tmp_path / "report.md").read_text()
    assert (
        "best of 5: on tasks that neither has learned from, reward models lead over fine-tuned policies by +50.0"
        in text
    )
    assert "random scores" not in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("policy-a") > 1 and page.count("reward-model-b") > 1
