"""What each worker of a reward model's fit holds at most, on a model with random weights.

    agentrm benchmark memory --tokens 256 --json train.workers=4 train.zero_stage=3 model.scratch.hidden=1024 \\
        model.scratch.layers=16 model.scratch.heads=16 model.scratch.vocabulary=8192

The model has the shape of `model.scratch` and lies in several files. `train.workers` plain processes of this machine,
without a cluster, read it and take one step over rows of `tokens` tokens, one for each group of workers that share
rows. `loading` and `fit` are the peaks of resident memory until the model is loaded, and until the fit has ended,
beyond what the process held before: of the worker with most, in float32 weights of the whole model. The run directory
is not touched.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from torch import distributed, multiprocessing
from transformers import LlamaConfig, LlamaForSequenceClassification

from agentrm.config.schema import Config, Train
from agentrm.data.sequences import Sequences
from agentrm.models.initial import scratch_shape
from jobs.runtime import main

_FILES = 8
_MIB = 2**20


def run(config: Config, tokens: int = 1024, as_json: bool = False) -> dict[str, Any]:
    """Measure; prints and returns all figures."""
    training = replace(config.train, epochs=1, accumulate=1, checkpoints=1, tokens_per_batch=tokens, trackers=[])
    with tempfile.TemporaryDirectory() as folder:
        shape = LlamaConfig(**scratch_shape(config.model.scratch), max_position_embeddings=tokens, pad_token_id=0)
        weights = _write(shape, Path(folder, "base"))
        multiprocessing.spawn(_rank, (folder, training, shape.vocab_size, tokens), nprocs=training.workers)
        ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(training.workers)]
    figures = {
        "weights_mb": weights / _MIB,
        "loading": max(rank["loaded"] - rank["before"] for rank in ranks) / weights,
        "fit": max(rank["ended"] - rank["before"] for rank in ranks) / weights,
        "fit_mb": max(rank["ended"] - rank["before"] for rank in ranks) / _MIB,
        "before_mb": max(rank["before"] for rank in ranks) / _MIB,
        "seconds": max(rank["seconds"] for rank in ranks),
        "workers": training.workers,
        "tokens": tokens,
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console(highlight=False).print(
            f"{training.workers} workers, {weights / _MIB:,.0f} MB of weights, rows of {tokens:,} tokens: beyond the "
            f"{figures['before_mb']:,.0f} MB before, {figures['loading']:.2f} of the weights while they are loaded and "
            f"{figures['fit']:.2f} ({figures['fit_mb']:,.0f} MB) in the fit, which took {figures['seconds']:.0f} s"
        )
    return figures


def _write(shape: LlamaConfig, directory: Path) -> int:
    """Store a model of random weights in several files; returns their bytes in float32."""
    shape.num_labels = 1
    model = LlamaForSequenceClassification(shape)
    size = 4 * model.num_parameters()
    model.save_pretrained(directory, max_shard_size=size // _FILES)
    return size


def _rank(rank: int, folder: str, training: Train, vocabulary: int, tokens: int) -> None:
    """One worker."""
    torch.set_num_threads(1)
    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": str(rank)}
    from agentrm.training.loading import load_objective
    from agentrm.training.loop import fit

    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=training.workers)
    before = psutil.Process().memory_info().rss
    objective = load_objective(Path(folder, "base"), training)
    loaded = _peak()
    random = np.random.default_rng(0)
    rows = [
        (random.integers(1, vocabulary, tokens), [tokens // 2, tokens - 1], [0.0, 1.0])
        for _ in range(training.workers // training.sequence_parallel)
    ]
    started = time.perf_counter()
    fit(
        objective,
        Sequences.of(rows, np.float32),
        None,
        training,
        seed=0,
        device=torch.device("cpu"),
        resume=None,
        checkpoint=lambda step, save: None,
        record=lambda progress: None,
    ).export(Path(folder, "made"))
    told = {"before": before, "loaded": loaded, "ended": _peak(), "seconds": time.perf_counter() - started}
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


def _peak() -> int:
    """The most resident bytes that this process has had; `getrusage` tells of the one that started it as well."""
    (line,) = (entry for entry in Path("/proc/self/status").read_text().splitlines() if entry.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main(run)
