"""How fast states are trained on, side by side on the same trees, model, loss and process.

    agentrm benchmark train --preset quickstart --trees 8 --json

Ours reads all states of a trajectory in one causal pass; the padded way has one padded sequence per state; the limit is
the model's own forward and backward pass over dense rows of tokens. The run directory must hold a policy and trees.

On a CPU all seconds are the process's processor time in one thread, as a worker of the fit has, so that what else the
machine does counts for nothing; on a GPU they are wall time.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from agentrm import storage
from agentrm.config.schema import Config
from agentrm.data.sequences import Sequences, collate
from agentrm.data.states import samples
from agentrm.data.trees import TreeStore
from agentrm.models import explicit
from agentrm.rendering.renderer import Renderer
from agentrm.run import RunDirectory
from agentrm.training.losses import ValueSquaredError
from agentrm.training.packing import plan_epoch
from jobs.fitting import starting_model
from jobs.runtime import main

_HEAD_SCALE = 0.05

# The summed loss of a micro-batch, its states, and its tokens without padding.
MicroBatch = tuple[Callable[[], torch.Tensor], int, int]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way through the same states; `loss` is the mean squared error, None for the dense rows."""

    name: str
    seconds: float
    states: int
    tokens: int
    loss: float | None


def run(config: Config, trees: int = 8, as_json: bool = False) -> dict[str, Any]:
    """Measure on the first `trees` trees of the run, with `train.tokens_per_batch` tokens per micro-batch; prints and
    returns all figures. Raises UserError without a policy or trees.
    """
    directory = RunDirectory.open(config)
    policy = directory.require("policy", "clone")
    store = TreeStore(directory.require("trees", "trees"))
    device = torch.device("cuda" if config.train.gpus_per_worker else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = starting_model(folder, lambda target: explicit.build(storage.fetch(policy), target))
        model = AutoModelForSequenceClassification.from_pretrained(base, dtype=getattr(torch, config.train.dtype))
        renderer = Renderer.from_pretrained(base, config.model.context)
    # A head of zeros would make every way's loss equal, whatever it reads.
    torch.manual_seed(config.seed)
    torch.nn.init.normal_(model.get_submodule("score").weight, std=_HEAD_SCALE)
    objective = ValueSquaredError(model.to(device).train())
    sequences = samples(islice(store.trees(), trees), renderer).sequences
    budget = config.train.tokens_per_batch
    ways = {
        "ours": list(_ours(objective, sequences, budget, device)),
        "one padded sequence per state": list(_padded(objective, sequences, budget, device)),
        "dense rows": list(_dense(objective, sequences, budget, device)),
    }
    clock = time.process_time if device.type == "cpu" else time.monotonic
    arms = ours, padded, dense = _measure(ways, objective, clock)
    assert ours.loss is not None and padded.loss is not None
    figures = {
        "speedup_padded": (ours.states / ours.seconds) / (padded.states / padded.seconds),
        "of_dense": (ours.tokens / ours.seconds) / (dense.tokens / dense.seconds),
        "loss_difference": abs(ours.loss - padded.loss),
        "arms": [asdict(arm) for arm in arms],
    }
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures, arms)
    return figures


def _measure(
    ways: Mapping[str, Sequence[MicroBatch]], objective: ValueSquaredError, clock: Callable[[], float]
) -> list[Arm]:
    """Forward and backward through all micro-batches, the first of each way once more before, so that all start warm.

    The ways take turns, each at its own pace, so that what slows the machine slows all of them alike.
    """
    for batches in ways.values():
        batches[0][0]().backward()
    turns = sorted(
        (place / len(batches), name, place) for name, batches in ways.items() for place in range(len(batches))
    )
    seconds, losses = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for _, name, place in turns:
        started = clock()
        loss = ways[name][place][0]()
        loss.backward()
        # Reading the loss waits for the device.
        losses[name] += loss.item()
        seconds[name] += clock() - started
    objective.zero_grad()
    arms = []
    for name, batches in ways.items():
        states, tokens = sum(batch[1] for batch in batches), sum(batch[2] for batch in batches)
        arms.append(Arm(name, seconds[name], states, tokens, losses[name] / states if states else None))
    return arms


def _ours(
    objective: ValueSquaredError, sequences: Sequences, budget: int, device: torch.device
) -> Iterator[MicroBatch]:
    for (members,) in plan_epoch(sequences.lengths, budget, 1, 1, 0, 0):
        batch = collate(sequences, members, device)
        yield partial(objective.forward, *batch.inputs), len(batch.labels), batch.tokens


def _padded(
    objective: ValueSquaredError, sequences: Sequences, budget: int, device: torch.device
) -> Iterator[MicroBatch]:
    """As trainers of sequence classifiers do: a shuffled list of states, each a row, padded to the longest."""
    rows = [
        (sequences.ids[start : start + end + 1], label)
        for index, start in enumerate(sequences.starts[:-1])
        for end, label in zip(
            sequences.positions[sequences.label_starts[index] : sequences.label_starts[index + 1]],
            sequences.labels[sequences.label_starts[index] : sequences.label_starts[index + 1]],
            strict=True,
        )
    ]
    order = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    size = max(1, int(budget / np.mean([len(ids) for ids, _ in rows])))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        lengths = torch.tensor([len(ids) for ids, _ in chosen])
        ids = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.int64)
        for row, (tokens, _) in enumerate(chosen):
            ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        labels = torch.tensor([float(label) for _, label in chosen], device=device)
        ids, mask, last = ids.to(device), mask.to(device), (lengths - 1).to(device)

        def forward(
            ids: torch.Tensor = ids, mask: torch.Tensor = mask, last: torch.Tensor = last, labels: torch.Tensor = labels
        ) -> torch.Tensor:
            hidden = objective.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            values = objective.head(hidden[torch.arange(len(ids)), last]).float()
            return functional.mse_loss(values, labels, reduction="sum")

        yield forward, len(chosen), int(lengths.sum())


def _dense(
    objective: ValueSquaredError, sequences: Sequences, budget: int, device: torch.device
) -> Iterator[MicroBatch]:
    """As many tokens in rows of the mean length, nothing padded, the head at every token."""
    length = int(sequences.lengths.mean())
    rows = max(1, budget // length)
    count = max(1, round(len(sequences.ids) / (rows * length)))
    ids = torch.from_numpy(np.resize(sequences.ids, (count, rows, length)).astype(np.int64)).to(device)
    for block in ids:

        def forward(block: torch.Tensor = block) -> torch.Tensor:
            hidden = objective.model.base_model(input_ids=block, use_cache=False).last_hidden_state
            return objective.head(hidden).float().square().sum()

        yield forward, 0, rows * length


def _show(figures: dict[str, Any], arms: Iterable[Arm]) -> None:
    table = Table("", "states", "states/s", "tokens/s", "seconds", box=box.SIMPLE_HEAD)
    for arm in arms:
        rates = f"{arm.states / arm.seconds:,.1f}" if arm.states else "–", f"{arm.tokens / arm.seconds:,.0f}"
        table.add_row(arm.name, f"{arm.states:,}" if arm.states else "–", *rates, f"{arm.seconds:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{figures['speedup_padded']:.1f} times the states of the padded way, {figures['of_dense']:.0%} of the dense "
        f"rate; the losses differ by {figures['loss_difference']:.1e}"
    )


if __name__ == "__main__":
    main(run)
