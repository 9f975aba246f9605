"""Each broken record is one line that names file, line and field; the rest is read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrm.config.schema import Episodes
from agentrm.core.errors import UserError
from agentrm.data.trees import to_table
from agentrm.episodes import records as reading_records
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.export import openai
from agentrm.episodes.grouping import task, trees
from agentrm.episodes.reading import read
from agentrm.episodes.sources import found
from tests.agentrm.episodes import records

GOOD = json.dumps(records.OPENAI)
CALLED = records.MESSAGES[1]


def outcome_of(path: Path, **keys: Any) -> tuple[int, list[str]]:
    """How many episodes there are, and the problems in words, each of one line."""
    read_all = list(read(found([str(path)]), Episodes(**keys)))
    problems = [str(each) for each in read_all if isinstance(each, Problem)]
    assert all(len(each.splitlines()) == 1 and str(path) in each for each in problems)
    return len(read_all) - len(problems), problems


def row(**changes: Any) -> str:
    return json.dumps(records.OPENAI | changes)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            json.dumps({"messages": records.MESSAGES, "cost": 1}),
            "no outcome: name its column with outcome=COLUMN, of messages, cost",
        ),
        (row(reward=7), r"reward is 7, outside its scale [0, 1]: give scale=[low,high]"),
        (row(reward="good"), "reward is 'good', no number"),
        (row(reward=float("nan")), "reward is 'nan', no number"),
        (row(messages=[]), "messages is empty"),
        (row(messages=records.MESSAGES[:1]), "messages holds no turn of the agent"),
        (
            row(messages=[*records.MESSAGES[:1], *records.MESSAGES[2:]]),
            "messages[1] answers the call 'c1', which is not",
        ),
        (row(messages=[records.MESSAGES[3], {"role": "tool", "content": "x"}]), "messages[1] answers no call"),
        ('{"messages": [', "no JSON: "),
        ("[" * 100_000, "no JSON: "),
        ("7", "no object"),
        (
            row(messages=[{"role": "user", "content": "\ud800"}, CALLED]),
            "messages[0].content holds half of a surrogate pair",
        ),
        (row(task_id="\udfff"), "task_id holds half of a surrogate pair"),
        (row(messages=[{"role": "robot", "content": "x"}]), "messages[0].role is 'robot'"),
        (row(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages[0].content[0].type"),
        (row(messages="{"), "messages is text, but no JSON"),
        (row(tools=[{"type": "mcp", "name": "x"}]), "tools[0].type is 'mcp'"),
        (json.dumps(records.SHAREGPT), "not of the form openai, as the file is"),
    ],
)
def test_a_broken_record_is_told_and_the_rest_is_read(line: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(f"{GOOD}\n{line}\n\n{GOOD}\n".encode())
    count, problems = outcome_of(path)
    assert count == 2
    assert problems[0].startswith(f"{path}, line 2: ") and told in problems[0] and len(problems) == 1


def test_a_named_column_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(GOOD)
    _, problems = outcome_of(tmp_path / "log.jsonl", outcome="quality")
    assert "there is no quality: the fields are messages, tools, reward" in problems[0]
    _, problems = outcome_of(tmp_path / "log.jsonl", task="question")
    assert "there is no question" in problems[0]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"messages": "\xff"}\n' + GOOD.encode())
    count, problems = outcome_of(tmp_path / "log.jsonl")
    assert count == 1 and "line 1: no UTF-8" in problems[0]


def test_a_line_of_50_mb_is_passed_over_and_not_held(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        file.write(f'{GOOD}\n{{"messages": "{"x" * 50_000_000}"}}\n{GOOD}\n')
    count, problems = outcome_of(path)
    assert count == 2 and problems == [f"{path}, line 2: longer than 32 MiB: take it out or split it"]


def test_a_list_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.json"
    rows = [records.OPENAI | {"id": str(number), "note": '[,] \\" ' * 9} for number in range(50)]
    for chunk in (7, 1000, 1 << 20):
        monkeypatch.setattr(reading_records, "_CHUNK", chunk)
        for text in (json.dumps(rows), json.dumps(rows, indent=1), "\ufeff" + json.dumps(rows)):
            path.write_text(text)
            assert outcome_of(path) == (50, [])
        path.write_text(json.dumps(rows)[:-300])
        count, problems = outcome_of(path)
        assert count == 49 and "line 50: no JSON" in problems[0]
        path.write_text("[" + GOOD + ", nonsense, " + GOOD + "]")
        count, problems = outcome_of(path)
        assert count == 1 and "line 2: no JSON" in problems[0]


def test_a_document_alone_and_lines_that_end_in_json(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for text, count in ((GOOD, 1), (json.dumps(records.OPENAI, indent=2), 1), (f"{GOOD}\n{GOOD}\n", 2), ("", 0)):
        path.write_text(text)
        assert outcome_of(path) == (count, [])


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_compressed_file_that_is_cut_short(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    whole = gzip.compress(
        "".join(f"{row(id=str(number), note=str(number * 7919))}\n" for number in range(2000)).encode()
    )
    path.write_bytes(whole[: int(len(whole) * keep)])
    count, problems = outcome_of(path)
    assert 0 < count < 2000 or keep > 0.9
    assert len(problems) == 1 and f"cut short or damaged after line {count}" in problems[0]


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.jsonl.zst", "log.jsonl.xz", "log.parquet", "log.zip", "log.tar"])
def test_a_file_that_is_not_what_its_name_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind " * 50)
    count, problems = outcome_of(tmp_path / name)
    assert count == 0 and len(problems) == 1 and "cut short or damaged" in problems[0]


def test_links_and_paths_out_of_an_archive_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(GOOD)
    with tarfile.open(tmp_path / "log.tar.gz", "w:gz") as archive:
        for name in ("log.jsonl", "../log.jsonl", "/log.jsonl"):
            info = tarfile.TarInfo(name)
            info.size = len(GOOD)
            archive.addfile(info, io.BytesIO(GOOD.encode()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo("link.jsonl")
            info.type, info.linkname = kind, str(tmp_path / "secret.jsonl")
            archive.addfile(info)
    count, problems = outcome_of(tmp_path / "log.tar.gz")
    assert count == 1 and len(problems) == 4
    assert sum("leads out of the archive" in each for each in problems) == 2
    assert sum("a link" in each for each in problems) == 2
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("log.jsonl", GOOD)
        archive.writestr("a/../../log.jsonl", GOOD)
        link = zipfile.ZipInfo("link.jsonl")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path / "secret.jsonl"))
    count, problems = outcome_of(tmp_path / "log.zip")
    assert count == 1 and len(problems) == 2


def test_sources_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    for source, told in (
        (tmp_path / "none.jsonl", "there is no"),
        (tmp_path, "holds no episodes"),
        (tmp_path / "*.x", "holds no"),
    ):
        with pytest.raises(UserError, match=told):
            found([str(source)])
    with pytest.raises(UserError, match="no form 'json'"):
        list(read(found([__file__]), Episodes(form="json")))


EVERY = {
    name: value
    for name, value in vars(records).items()
    if name.isupper() and isinstance(value, dict) and name not in ("SEARCH", "CALL")
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["7", "assistant", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every field and item within a value, as what holds it and its key."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_field_is_an_episode_or_a_problem(data: st.DataObject, tmp_path: Path) -> None:
    record = json.loads(json.dumps(EVERY | {"EXPORTED": exported()}))[data.draw(st.sampled_from([*EVERY, "EXPORTED"]))]
    inner = "agentrm" in record
    if inner:
        record["agentrm"] = json.loads(record["agentrm"])
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(range(len(places(record)))).map(places(record).__getitem__))
        holder[key] = data.draw(JSON)
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n")
    for found_one in read(found([str(tmp_path / "log.jsonl")]), Episodes()):
        if isinstance(found_one, Problem):
            assert found_one.line == 1 and len(str(found_one).splitlines()) == 1
        else:
            made, problems = trees(task(found_one, "imported"), [found_one])
            assert made and not problems and [to_table(tree) for tree in made]


@cache
def exported() -> dict[str, Any]:
    """A row of `agentrm export --as openai`."""
    episode = Episode(records.MESSAGES, records.TOOLS, 1.0, "7", source="log", file="log", line=1)
    (tree,), _ = trees(task(episode, "imported"), [episode])
    return next(openai.rows([tree]))
