"""Models that no rank ever holds whole: at ZeRO stage 3 each reads its part of every tensor out of safetensors.

transformers' own way gathers the files of all shards in the memory of each rank before it partitions them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import GENERATION_CONFIG_NAME

from agentrm.model_directory import tensor_files
from agentrm.training.importing import deepspeed

# Of malloc.h: from how many bytes on a block is mapped alone, and the most that glibc itself raises this to.
_M_MMAP_THRESHOLD = -3
_SMALL, _LARGE = 2**20, 2**25


def load_partitioned(auto: Any, directory: Path, config: dict[str, Any]) -> PreTrainedModel:
    """The model in a directory whose tensors lie there `by_own_names`, in float32 and partitioned over the ranks by
    DeepSpeed's `config`. All ranks must call this. Beside its part a rank holds one parameter at a time.
    """
    with _given_back(), no_init_weights(), deepspeed.zero.Init(config_dict_or_path=config):
        model = auto.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for file in sorted(set(tensor_files(directory).values())):
        # Each is open alone, for the pages of a mapped file count as this process's memory.
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name in parameters:
                    _read_part(tensors.get_slice(name), parameters[name])
                elif name in buffers:
                    buffers[name].copy_(tensors.get_tensor(name))
    if model.can_generate() and (directory / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(directory)
    return model


@contextmanager
def _given_back() -> Iterator[None]:
    """A block in which what is freed is given back at once: else the parts of parameters come to lie between what whole
    ones have left, which is too small for the next one.
    """
    _map_from(_SMALL)
    try:
        yield
    finally:
        _map_from(_LARGE)


def _map_from(size: int) -> None:
    # Other C libraries have no such setting.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size)


@torch.no_grad()
def _read_part(tensor: Any, parameter: torch.nn.Parameter) -> None:
    """Fill this rank's partition: so many numbers of the flattened `tensor`, which is sliced by its first dimension."""
    part = parameter.ds_tensor
    start = part.numel() * parameter.ds_zero_partition_rank
    count = min(part.numel(), parameter.ds_numel - start)
    if count <= 0:
        return
    width = prod(tensor.get_shape()[1:])
    rows = tensor[start // width : -(-(start + count) // width)]
    part[:count].copy_(rows.reshape(-1)[start % width :][:count])
