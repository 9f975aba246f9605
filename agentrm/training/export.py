"""Hugging Face directories out of a fit: the ranks write shards in turn, and none holds more than one of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import distributed
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

# One of several files is about so large; a model on many ranks is split among them down to the first.
_SMALLEST_BYTES, _LARGEST_BYTES = 2**26, 5 * 10**9


def save_model(
    model: PreTrainedModel,
    weights: Iterable[tuple[str, torch.Tensor]],
    sizes: dict[str, int],
    dtype: torch.dtype,
    directory: Path,
) -> None:
    """Write this rank's safetensors of a model, and on rank 0 its config.json and the index: what all ranks wrote is a
    directory as `save_pretrained` makes it.

    `weights` yields the parameters that `sizes` counts the numbers of, in the same order; each is read before the next
    is asked for. All ranks must call this.
    """
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    directory.mkdir(parents=True, exist_ok=True)
    largest = max(_SMALLEST_BYTES, min(_LARGEST_BYTES, -(-sum(sizes.values()) * dtype.itemsize // ranks)))
    plan = split_state_dict_into_shards_factory(
        sizes,
        get_storage_size=lambda count: count * dtype.itemsize,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=largest,
    )
    writers = {file: number % ranks for number, file in enumerate(plan.filename_to_tensors)}
    held: dict[str, dict[str, torch.Tensor]] = {file: {} for file, writer in writers.items() if writer == rank}
    written: dict[str, str] = {}
    for name, weight in weights:
        file = plan.tensor_to_filename[name]
        if file not in held:
            continue
        held[file][name] = weight.to("cpu", dtype, copy=True).contiguous()
        if len(held[file]) == len(plan.filename_to_tensors[file]):
            # The names and parts that the model's published files have, where transformers loads them as others.
            shard = revert_weight_conversion(model, held.pop(file))
            save_file(shard, directory / file, metadata={"format": "pt"})
            written |= dict.fromkeys(shard, file)
    weight_maps: list[dict[str, str]] = [{}] * ranks
    distributed.all_gather_object(weight_maps, written)
    if rank:
        return
    if plan.is_sharded:
        index = {
            "metadata": {"total_size": sum(sizes.values()) * dtype.itemsize},
            "weight_map": {name: file for weight_map in weight_maps for name, file in sorted(weight_map.items())},
        }
        (directory / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    save_config(model, dtype, directory)


def save_config(model: PreTrainedModel, dtype: torch.dtype, directory: Path) -> None:
    """Write what stands beside the weights of a model that were stored as `dtype`."""
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype
    model.config.save_pretrained(directory)
    if model.can_generate():
        model.generation_config.save_pretrained(directory)
