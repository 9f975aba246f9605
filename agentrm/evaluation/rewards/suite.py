"""All benchmarks of reward models, and which files of a directory are of which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentrm.core.errors import InputRefused, UserError
from agentrm.evaluation.metrics import Settings
from agentrm.evaluation.rewards import (
    agent_process_bench,
    agent_reward_bench,
    plan_reward_bench,
    reward_bench_2,
    trbench_bfcl,
    web_reward_bench,
)
from agentrm.evaluation.rewards.benchmark import Benchmark, Case, Measure, Scores, baselines, records

BENCHMARKS: tuple[Benchmark, ...] = tuple(
    module.BENCHMARK
    for module in (
        agent_process_bench,
        plan_reward_bench,
        web_reward_bench,
        agent_reward_bench,
        reward_bench_2,
        trbench_bfcl,
    )
)
_ANNOTATIONS = "annotations.csv"
_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Found:
    """The cases of each benchmark, by its name, and what could not be read, in words."""

    cases: dict[str, list[Case]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)


def find(directory: Path) -> Found:
    """All cases in a directory: the first record of a file says which benchmark it is of, and files of none are left.
    Raises UserError where there is none at all.
    """
    files = sorted(path for path in directory.rglob("*") if path.suffix in _SUFFIXES)
    annotated = {path.parent for path in files if path.name == _ANNOTATIONS}
    result = Found()
    for file in files:
        if file.suffix == ".json" and annotated & set(file.parents):
            continue
        benchmark = None
        for number, record in enumerate(records(file), 1):
            benchmark = benchmark or next((known for known in BENCHMARKS if known.fits(record)), None)
            if benchmark is None:
                break
            try:
                if not benchmark.fits(record):
                    raise InputRefused(f"not of {benchmark.name}, as the file is")
                result.cases[benchmark.name] += benchmark.read(record, file, number)
            except InputRefused as error:
                result.problems.append(f"{file}, record {number}: {error}")
    if not result.cases:
        told = f": {result.problems[0]}" if result.problems else ""
        names = ", ".join(known.name for known in BENCHMARKS)
        raise UserError(f"{directory} holds no cases of {names}{told}")
    return result


def measured(
    name: str, cases: Sequence[Case], scores: Sequence[Scores] | None, settings: Settings
) -> dict[str, list[Measure]]:
    """The measures of one benchmark, of a model's scores where there are some, and of what needs no model."""
    benchmark = next(known for known in BENCHMARKS if known.name == name)
    given = {} if scores is None else {"reward model": list(scores)}
    given |= baselines(cases, settings.seed)
    return {who: benchmark.measure(cases, own_scores, settings) for who, own_scores in given.items()}
