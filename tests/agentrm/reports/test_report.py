"""The report says what the metrics say, in every form, and needs nothing but itself."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tensorboardX import SummaryWriter

from agentrm.config.schema import Config, Intervals, Model
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.evaluation.metrics import Settings, summarise
from agentrm.evaluation.quality import quality
from agentrm.reports.curves import read_curves
from agentrm.reports.plots import uses_reward_model
from agentrm.reports.report import write_report
from agentrm.run import RunDirectory
from jobs.terminal.tables import print_results

METHODS = (
    "greedy",
    "sampled mean",
    "best of 5",
    "shortest of 5",
    "oracle best of 5",
    "beam 5x5",
    "beam 5x5, random scores",
    "beam 5x5, log-probability",
)
OUTCOMES = {
    "held-in": {"a": (0, 0.2, 1, 0, 1, 1, 0, 0), "b": (1, 0.4, 0, 0, 1, 1, 0, 1), "c": (0, 0.0, 1, 1, 1, 0, 1, 0)},
    "held-out <kinds>": {"d": (0, 0.1, 0, 0, 0.5, 0.25, 0, 0), "e": (1, 0.5, 1, 1, 1, 1, 1, 1)},
}


def episodes() -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "group": group,
                "environment": "toy",
                "kind": f"kind-{task}",
                "task": task,
                "method": method,
                "outcome": float(outcome),
                "progress": float(outcome),
                "success": float(outcome == 1),
                "error": "",
                "policy_tokens": 100.0 * (number + 1),
                "scored_states": float(number),
                "reward_tokens": 20.0,
                "cached_tokens": 80.0,
                "environment_steps": 12_345.0,
                "seconds": 1.25,
            }
            for group, tasks in OUTCOMES.items()
            for task, outcomes in tasks.items()
            for number, (method, outcome) in enumerate(zip(METHODS, outcomes, strict=True))
        ]
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(run=str(tmp_path / "a-run"), model=Model(source="scratch"), intervals=Intervals(500, 0.9))


@pytest.fixture
def directory(config: Config) -> RunDirectory:
    run = RunDirectory(config.run, config)
    Path(config.run).mkdir()
    run.write_metrics("train", {"pairwise_accuracy": 0.8125, "note": "text"})
    return run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.mkdir()
    return path


def test_markdown_and_parquet_hold_the_metrics(config: Config, directory: RunDirectory, output: Path) -> None:
    metrics = write_report(episodes(), output, config, directory)
    assert json.loads(json.dumps(metrics)) == metrics
    # By hand: best of 5 on a, b, c gives 1, 0, 1; the sampled mean 0.2; the oracle 1.
    best = metrics["held-in"]["best of 5"]
    assert best["outcome"] == pytest.approx(2 / 3)
    assert best["closed"] == pytest.approx((2 / 3 - 0.2) / 0.8)
    table = pq.read_table(output / "table.parquet")
    expected = summarise(episodes(), ["group"], Settings(500, 0.9, config.seed))
    assert table.schema.equals(expected.schema)
    pd.testing.assert_frame_equal(table.to_pandas(), expected.to_pandas(), check_exact=True)
    assert pq.read_table(output / "episodes.parquet").equals(episodes())
    assert pq.read_table(output / "environments.parquet").num_rows == 5 * len(METHODS)
    lines = (output / "report.md").read_text().splitlines()
    cells, beam = (
        [cell.strip() for cell in next(line for line in lines if line.startswith(f"| {name} |")).strip("|").split("|")]
        for name in ("best of 5", "beam 5x5")
    )
    assert cells[1] == f"0.667 [{best['outcome_low']:.3f}, {best['outcome_high']:.3f}]"
    assert cells[2].startswith("67% [")
    assert cells[3].startswith("+0.467 [")
    assert cells[4].startswith("58% [")
    # Greedy has 0, 1, 0, which is the best of what needs no reward model beside the shortest; the first counts.
    assert cells[5] == "–" and cells[6].startswith("+0.333 [") and cells[6].endswith("] greedy")
    assert cells[7:] == ["300", "2", "20", "80", "12,345", "1.2"]
    assert beam[5].startswith("+0.333 [")


def test_the_papers_rows_are_in_every_form(config: Config, directory: RunDirectory, output: Path) -> None:
    tested = episodes().to_pandas()
    write_report(pa.Table.from_pandas(tested), output, config, directory)
    assert "The paper's rows" not in (output / "report.md").read_text()
    tested["environment"] = "maze"
    write_report(pa.Table.from_pandas(tested), output, config, directory)
    row = next(line for line in (output / "report.md").read_text().splitlines() if line.startswith("| greedy | –"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # Greedy solves b and e of the five tasks.
    assert cells[1:3] == cells[4:5] * 2 == ["–", "–"]
    assert cells[3] == cells[5]
    assert cells[3].startswith("40.0 [")
    text = (output / "report.html").read_text()
    assert "The paper&#x27;s rows, in percent" in text or "The paper's rows, in percent" in text
    assert "<td>40.0 <small>[" in text


class Reader(HTMLParser):
    """Collects the texts of cells, all attributes, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.cells and "td" in self.open:
            self.cells[-1] += data


def test_the_page_is_whole_and_needs_no_network(config: Config, directory: RunDirectory, output: Path) -> None:
    metrics = write_report(episodes(), output, config, directory)
    page = (output / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(link.startswith("#") for link in reader.links)
    assert not re.search(r"<script|<link|@import|url\(\s*['\"]?http", page)
    beam = metrics["held-in"]["beam 5x5"]
    position = reader.cells.index("beam 5x5")
    assert reader.cells[position + 1] == f"0.667 [{beam['outcome_low']:.3f}, {beam['outcome_high']:.3f}]"
    assert "held-out <kinds>" not in page
    assert "held-out &lt;kinds&gt;" in page
    assert "pairwise accuracy 0.8125" in page


def test_figures_are_svg_in_the_pages_colours(config: Config, directory: RunDirectory, output: Path) -> None:
    write_report(episodes(), output, config, directory)
    figures = re.findall(r"<svg.*?</svg>", (output / "report.html").read_text(), re.DOTALL)
    assert len(figures) == 3
    for figure in figures[1:]:
        texts = {element.text for element in ElementTree.fromstring(figure).iter("{http://www.w3.org/2000/svg}text")}
        assert {"greedy", "beam 5x5, random scores"} <= texts
        assert "currentColor" in figure


def test_the_picture_is_a_file_that_needs_no_page(config: Config, directory: RunDirectory, output: Path) -> None:
    write_report(episodes(), output, config, directory)
    picture = (output / "outcomes.svg").read_text()
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("beam 5x5") == texts.count("one answer") == texts.count("oracle best of 5") == 2
    assert texts.count("best without:") == 2 and "greedy" in texts
    assert "beam 5x5, random scores" not in texts
    assert not re.search(r"currentColor|var\(", picture)


@pytest.mark.parametrize("place", ["work/train", "reward_model"])
def test_a_run_with_events_shows_its_losses(config: Config, directory: RunDirectory, output: Path, place: str) -> None:
    with SummaryWriter(str(Path(directory.location) / place / "tensorboard")) as writer:
        for step in range(1, 6):
            writer.add_scalar("loss", 1 / step, step)
    curves = read_curves(Path(directory.location) / place)
    assert [step for step, _ in curves["loss"]] == [1, 2, 3, 4, 5]
    assert [value for _, value in curves["loss"]] == pytest.approx([1 / step for step in range(1, 6)])
    write_report(episodes(), output, config, directory)
    page = (output / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "reward model, squared error" in page


def test_a_cut_event_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalar("loss", 1.0, step)
    path = next(tmp_path.glob("events*"))
    path.write_bytes(path.read_bytes()[:-7])
    assert len(read_curves(tmp_path)["loss"]) == 2


def test_a_failed_environment_is_said(config: Config, directory: RunDirectory, output: Path) -> None:
    rows = episodes().to_pylist()
    rows[0]["error"] = "the engine crashed"
    metrics = write_report(pa.Table.from_pylist(rows), output, config, directory)
    assert metrics["held-in"]["greedy"]["failed"] == 1
    assert "environment failed in some method: 1 in held-in" in (output / "report.md").read_text()


def test_what_environments_failed_and_which_data_was_used_is_said(
    config: Config, directory: RunDirectory, output: Path
) -> None:
    """Also of a group in which nothing is left to compare."""
    rows = [
        row | {"outcome": None, "error": "crash"} if row["group"] != "held-in" else row
        for row in episodes().to_pylist()
    ]
    directory.write_metrics(
        "demonstrations", {"toy.kind": {"kept": 3, "environment_failure": 2}, "toy.other": {"kept": 1}}
    )
    directory.write_metrics("trees", {"failed": 4})
    directory.write_metrics(
        "data", {"toy": {"folder": "TOY=/toys", "tasks": {"kind.test": "official-1"}, "left_out": {"broken": "empty"}}}
    )
    metrics = write_report(pa.Table.from_pylist(rows), output, config, directory)
    assert list(metrics) == ["held-in"]
    text = (output / "report.md").read_text()
    assert "environment failed in some method: 2 in held-out <kinds>" in text
    assert "- tasks that their environment failed: 2 for demonstrations, 4 for trees\n" in text
    assert re.search(r"^- data: toy official-[0-9a-f]{8} \(TOY=/toys, 1 entries left out\)$", text, re.MULTILINE)


def test_states_that_were_read_in_part_are_told(config: Config, directory: RunDirectory, output: Path) -> None:
    shortened = pa.array([2.0 if method == "beam 5x5" else 0.0 for method in episodes()["method"].to_pylist()])
    write_report(episodes().append_column("shortened_states", shortened), output, config, directory)
    # Five tasks of five scored states each.
    told = "read these states in part, since they exceed its context: 10 of 25 in beam 5x5."
    assert told in (output / "report.md").read_text()
    write_report(episodes().append_column("unread_states", shortened), output, config, directory)
    told = "read nothing of these states, which exceed its context, and preferred all others: 10 of 25 in beam 5x5."
    assert told in (output / "report.md").read_text()
    write_report(episodes(), output, config, directory)
    assert "exceed its context" not in (output / "report.md").read_text()


def test_the_console_shows_every_method(config: Config, directory: RunDirectory, output: Path) -> None:
    metrics = write_report(episodes(), output, config, directory)
    shown = io.StringIO()
    print_results(metrics, Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = [line.split() for line in lines]
    for method in METHODS:
        outcomes = [f"{metrics[group][method]['outcome']:.2f}" for group in OUTCOMES]
        assert sum(line == [*method.split(), *outcomes] for line in words) == 1
    best = words.index(["best", "of", "5", "0.67", "0.50"])
    # Over greedy: 1, -1, 1 on three tasks, of whose 27 resamples one has a mean of -1 and eight of 1; then 0, 0.
    assert words[best + 1] == ["lead", "over", "best", "without", "+.33", "[-.33,1.00]", "+.00", "[.00,.00]"]


def test_which_methods_the_reward_model_decides() -> None:
    methods = (*METHODS, "likeliest of 5", "beam 5x5, 50 tokens, log-probability", "judged best of 5")
    assert [method for method in methods if uses_reward_model(method)] == ["best of 5", "beam 5x5"]


def test_the_reward_models_quality_and_its_verdict_are_shown(
    config: Config, directory: RunDirectory, output: Path
) -> None:
    nodes = [Node(-1, 0, "", value=0.5), Node(0, 1, "", "a", value=0.9), Node(0, 1, "", "b", value=0.1)]
    trees = [Tree(Task("toy", "kind", "train", index), nodes) for index in range(3)]
    found = quality(trees, [{0: 0.9, 1: 0.8, 2: 0.7}] * 3, Settings(100, 0.9, 0), {"toy.kind"})
    directory.write_metrics("train", {"held_out": found})
    write_report(episodes(), output, config, directory)
    lines = (output / "report.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| toy (3) | reward model |"))
    # By hand: (a, root) is ordered wrongly, (root, b) and (a, b) rightly; length has 0.5 of each kind of pair.
    assert row.split(" | ")[2:5] == ["0.667 [0.667, 0.667]", "1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]"]
    assert row.endswith("| all |")
    page = (output / "report.html").read_text()
    assert page.count("<svg") == 4 and "value in the tree" in page
    assert "distrust" not in page
    found["toy"]["methods"]["reward model"]["beats"]["length"] = False
    directory.write_metrics("train", {"held_out": found})
    write_report(episodes(), output, config, directory)
    assert (
        "On the held-out trees of toy the reward model is not shown to beat length"
        in (output / "report.md").read_text()
    )
