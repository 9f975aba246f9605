"""Files, directories, patterns, archives, compressed files, Parquet, and Harbor's trial directories."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentrm.config.schema import Episodes
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.reading import read
from agentrm.episodes.sources import found
from tests.agentrm.episodes import records

LINE = json.dumps(records.OPENAI).encode() + b"\n"


def episodes(*sources: str | Path) -> list[Episode]:
    all_read = list(read(found([str(source) for source in sources]), Episodes()))
    assert all(isinstance(each, Episode) for each in all_read), all_read
    return all_read


def zstd(given: bytes) -> bytes:
    return pa.compress(given, codec="zstd", asbytes=True)


@pytest.mark.parametrize(
    ("ending", "compress"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)],
)
def test_lines_with_and_without_compression(ending: str, compress, tmp_path: Path) -> None:
    path = tmp_path / f"log.jsonl{ending}"
    path.write_bytes(compress(LINE * 3))
    read_from = episodes(path)
    assert [(each.file, each.line, each.source) for each in read_from] == [(str(path), n, "log") for n in (1, 2, 3)]


def test_parquet_and_what_its_nulls_stand_for(tmp_path: Path) -> None:
    other = {"id": "c2", "type": "function", "function": {"name": "book", "arguments": {"flight": "SK 1"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": {"to": "Oslo"}}}
    turns = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": None, "tool_calls": [call, other]}]
    rows = [records.TRAJECTORY | {"trajectory": turns}] + [records.TRAJECTORY] * 2
    rows = [{**each, "trajectory": [{"name": None, **turn} for turn in each["trajectory"]]} for each in rows]
    rows[1:] = [
        {**each, "trajectory": [{**turn, "tool_calls": None} for turn in each["trajectory"] if turn["role"] != "tool"]}
        for each in rows[1:]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-00000-of-00012.parquet")
    first, second, third = episodes(tmp_path / "train-00000-of-00012.parquet")
    assert [each.line for each in (first, second, third)] == [1, 2, 3] and first.source == "train"
    arguments = [each["function"]["arguments"] for each in first.messages[1]["tool_calls"]]
    assert arguments == ['{"to": "Oslo"}', '{"flight": "SK 1"}'], "a struct has the fields of all rows"
    assert list(second.messages[1]) == ["role", "content"] and list(second.tools) == records.TOOLS


def test_directories_patterns_and_uris(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/a.jsonl", "a/notes.txt", "a/.hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINE)
    names = [str(tmp_path / "a/a.jsonl"), str(tmp_path / "b.jsonl")]
    assert [each.file for each in episodes(tmp_path)] == names
    assert [each.file for each in episodes(f"{tmp_path}/*.jsonl")] == names
    assert [each.file for each in episodes(tmp_path / "b.jsonl", tmp_path)] == names[::-1], "no file is read twice"
    assert {each.source for each in episodes(tmp_path / "a")} == {"a"}
    assert [each.file for each in episodes(f"file://{tmp_path}/a")] == [f"file://{tmp_path}/a/a.jsonl"]


def trials(folder: Path) -> None:
    """Harbor's job directory: one trial that was verified, and one that was not."""
    for name in ("flights__1", "flights__2"):
        (folder / name / "agent").mkdir(parents=True)
        (folder / name / "agent" / "trajectory.json").write_text(json.dumps(records.ATIF, indent=2))
        (folder / name / "config.json").write_text("{}")
    result = {"task_name": "flights", "trial_name": "flights__1", "verifier_result": {"rewards": {"reward": 0.5}}}
    (folder / "flights__1" / "result.json").write_text(json.dumps(result))
    (folder / "result.json").write_text(json.dumps({"n_total_trials": 2}))


def test_harbors_trial_directories(tmp_path: Path) -> None:
    trials(tmp_path / "job")
    first, second = episodes(tmp_path / "job")
    assert (first.task, first.id, first.outcome, first.source) == ("flights", "flights__1", 0.5, "job")
    assert (second.id, second.outcome) == ("", 1.0)
    with tarfile.open(tmp_path / "job.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "job", "job")
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        for path in sorted((tmp_path / "job").rglob("*.json")):
            archive.write(path, str(path.relative_to(tmp_path)))
    for ending, mode in (("tar", "w"), ("tgz", "w:gz")):
        with tarfile.open(tmp_path / f"job.{ending}", mode) as archive:
            archive.add(tmp_path / "job", "job")
    (tmp_path / "job.tar.zst").write_bytes(zstd((tmp_path / "job.tar").read_bytes()))
    for name in ("job.tar.xz", "job.zip", "job.tar", "job.tgz", "job.tar.zst"):
        in_archive = sorted(episodes(tmp_path / name), key=lambda each: each.file)
        assert [(each.task, each.outcome) for each in in_archive] == [
            (each.task, each.outcome) for each in (first, second)
        ]
        assert in_archive[0].file == f"{tmp_path / name}/job/flights__1/agent/trajectory.json"


def continued(folder: Path) -> None:
    """A trial whose trajectory goes on in two files, the first of which repeats what was said before."""
    first, last = records.ATIF["steps"][:2], records.ATIF["steps"][2:]
    again = [step | {"is_copied_context": True} for step in first]
    asked = [{"step_id": 3, "source": "user", "message": "And back?"}]
    parts = {
        "trajectory.json": records.ATIF | {"steps": first, "continued_trajectory_ref": "trajectory.cont-1.json"},
        "trajectory.cont-1.json": records.ATIF
        | {"steps": again + last, "continued_trajectory_ref": "trajectory.cont-2.json"},
        "trajectory.cont-2.json": records.ATIF | {"steps": asked + last, "extra": {"outcome": 0.75}},
    }
    folder.mkdir(parents=True)
    for name, part in parts.items():
        (folder / name).write_text(json.dumps(part, indent=2))


def zipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for each in sorted(folder.rglob("*.json")):
            archive.write(each, str(each.relative_to(folder.parent)))
    return path


def test_a_trajectory_that_goes_on_in_other_files_is_one_episode(tmp_path: Path) -> None:
    continued(tmp_path / "job" / "flights__1" / "agent")
    (tmp_path / "log").mkdir()
    continued(tmp_path / "log" / "flat")
    for source in (tmp_path / "job", tmp_path / "log", zipped(tmp_path / "log.zip", tmp_path / "log" / "flat")):
        (episode,) = episodes(source)
        said = [(message["role"], message["content"]) for message in episode.messages]
        assert said == [
            ("user", "A flight to Oslo?"),
            ("assistant", "I look."),
            ("tool", "SK 1"),
            ("assistant", "Take SK 1."),
            ("user", "And back?"),
            ("assistant", "Take SK 1."),
        ]
        assert episode.file.endswith("/trajectory.json") and episode.outcome == 0.75
        assert list(episode.rewards) == [0.25, 0.75, 0.75]


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("trajectory.cont-9.json", "there is no trajectory.cont-9.json in the same folder"),
        ("../trajectory.json", "does not lie in the same folder"),
        ("s3://elsewhere/t.json", "does not lie in the same folder"),
        ("trajectory.json", "which was read before"),
        (7, "no file's name"),
        ("other.json", "schema_version is 'None'"),
        ("broken.json", "no JSON"),
    ],
)
def test_a_continuation_that_cannot_be_read_is_named(tmp_path: Path, reference: object, told: str) -> None:
    folder = tmp_path / "job" / "flights__1" / "agent"
    folder.mkdir(parents=True)
    (folder / "trajectory.json").write_text(json.dumps(records.ATIF | {"continued_trajectory_ref": reference}))
    (folder / "other.json").write_text("{}")
    (folder / "broken.json").write_text("{")
    (problem,) = read(found([str(tmp_path / "job")]), Episodes())
    assert isinstance(problem, Problem) and told in problem.reason
    assert problem.reason.startswith("continued_trajectory_ref is ") and "\n" not in problem.reason


def test_a_tar_archive_cannot_be_read_out_of_its_order(tmp_path: Path) -> None:
    continued(tmp_path / "job" / "flights__1" / "agent")
    with tarfile.open(tmp_path / "job.tar", "w") as archive:
        archive.add(tmp_path / "job", "job")
    (problem,) = read(found([str(tmp_path / "job.tar")]), Episodes())
    assert isinstance(problem, Problem) and "unpack it, or make a .zip of it" in problem.reason


def test_lines_in_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("a.jsonl", LINE * 2)
        archive.writestr("b/b.jsonl.gz", gzip.compress(LINE))
        archive.writestr("README.md", "notes")
    assert [each.file for each in episodes(tmp_path / "log.zip")] == [
        *[f"{tmp_path}/log.zip/a.jsonl"] * 2,
        f"{tmp_path}/log.zip/b/b.jsonl.gz",
    ]
