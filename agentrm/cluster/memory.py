"""How much memory a fit or an engine takes, before either is started: from the model's shape alone, in GiB.

Weights, gradients and optimizer state are DeepSpeed's own estimates; activations follow Korthikanti et al. 2022 (arXiv
2205.05198), for a gated MLP and attention that keeps no scores. All else is rounded up to what the code can take.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig

from agentrm import model_directory, storage
from agentrm.cluster.description import GIB
from agentrm.config.schema import Engine, Lora, Model, RewardKind, Train, Training
from agentrm.core.errors import ModelError, UserError
from agentrm.models.initial import scratch_shape

_KNOWN = Path(__file__).with_name("architectures.yaml")

# The CUDA context, NCCL's buffers and what fragmentation wastes; in a fit, whose batches have many shapes, 2.8 GiB were
# seen on one H200.
_ENGINE_GIB, _FIT_GIB = 1.5, 3.0

# A logit in bfloat16 and the float32 copy and log-softmax that cross entropy makes of it.
_LOGIT_BYTES = 10

# vLLM measures itself with as many tokens at once, by default on the largest GPUs, and caches in what is left.
_PROFILED_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as memory knows it: how many `parameters` it has without adapters, how many are `trained`, and are in the
    `largest` layer; widths of the hidden state and of the MLP; `cached` numbers per token in an engine's cache;
    `vocabulary` 0 where a scalar head is in its place.
    """

    parameters: int
    trained: int
    largest: int
    layers: int
    hidden: int
    intermediate: int
    cached: int
    vocabulary: int


def shape(model: Model, source: str, scalar_head: bool, lora: Lora | None = None) -> Shape:
    """The shape of the model `source`, a directory or name as in `model.source`. No weights are read or made.

    Raises UserError when its config.json cannot be read.
    """
    config = _architecture(model, source)
    config.num_labels = 1
    with torch.device("meta"):
        made = (AutoModelForSequenceClassification if scalar_head else AutoModelForCausalLM).from_config(config)
    parameters = sum(parameter.numel() for parameter in made.parameters())
    largest = max(sum(parameter.numel() for parameter in module.parameters(recurse=False)) for module in made.modules())
    if lora is not None and lora.rank:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        from agentrm.training.adapters import adapt

        adapt(made, lora, seed=0)
    text = config.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        parameters,
        sum(parameter.numel() for parameter in made.parameters() if parameter.requires_grad),
        largest,
        text.num_hidden_layers,
        text.hidden_size,
        getattr(text, "intermediate_size", 4 * text.hidden_size),
        2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width,
        0 if scalar_head else text.vocab_size,
    )


def of_training(shape: Shape, training: Training, context: int) -> float:
    """GiB of each worker's GPU. Stage 1, for which DeepSpeed has no estimate, counts as stage 0: that is more."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as stage3
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as stage2

    width = _width(training.dtype)
    frozen = shape.parameters if training.lora.rank else 0
    ranks, stage = training.workers, training.zero_stage
    settings = DeepSpeedZeroConfig(stage=stage)
    # Communication overlaps with computation, so there are two buckets.
    taken = 2 * settings.reduce_bucket_size * width if stage else 0
    if stage == 3:
        taken += stage3(shape.trained, shape.largest, ranks, 1, cpu_offload=False, cpu_offload_params=False)[1]
        taken += width * (frozen // ranks + min(shape.parameters, settings.max_live_parameters))
    else:
        taken += stage2(shape.trained, ranks if stage == 2 else 1, 1, cpu_offload=False)[1] + width * frozen
    # The estimates count weights of two bytes.
    taken += (width - 2) * shape.trained // (ranks if stage == 3 else 1)
    # A sequence longer than the budget has a micro-batch of its own.
    tokens = max(training.tokens_per_batch, -(-context // training.sequence_parallel))
    layer = width * (13 * shape.hidden + 4 * shape.intermediate)
    whole = 1 if training.gradient_checkpointing else shape.layers
    kept = width * shape.hidden * shape.layers if training.gradient_checkpointing else 0
    taken += tokens * (layer * whole + kept + _LOGIT_BYTES * shape.vocabulary)
    # A worker that does not read its part alone first holds the whole model.
    return max(taken, 0 if _in_parts(training) else width * shape.parameters) / GIB + _FIT_GIB


def of_preparing(shape: Shape) -> float:
    """GiB of the machine's memory in a process that prepares a model: float32 weights."""
    return 4 * shape.parameters / GIB


def of_loading(shape: Shape, training: Training) -> float:
    """GiB of the machine's memory in each worker that loads a model: float32 weights, or its part of them and one
    parameter.
    """
    if not _in_parts(training):
        return of_preparing(shape)
    return 4 * (shape.parameters / training.workers + shape.largest) / GIB


def _in_parts(training: Training) -> bool:
    """Whether each worker reads its part of the weights alone, see `agentrm.training.loading`."""
    implicit = isinstance(training, Train) and training.kind is not RewardKind.explicit
    return training.zero_stage == 3 and not implicit


def of_engine(shape: Shape, engine: Engine, context: int, adapters: int = 0) -> float:
    """GiB of each of an engine's GPUs with a cache of one context, and so many `adapters` as the shape trains."""
    width = _width(engine.dtype)
    numbers = (
        shape.parameters + adapters * shape.trained + shape.cached * context + 3 * shape.intermediate * _PROFILED_TOKENS
    )
    logits = 4 * engine.max_num_seqs * shape.vocabulary
    return (numbers * width + logits) / engine.tensor_parallel / GIB + _ENGINE_GIB


def _width(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _architecture(model: Model, source: str) -> PretrainedConfig:
    known = yaml.safe_load(_KNOWN.read_text()) | {"scratch": {"model_type": "llama", **scratch_shape(model.scratch)}}
    if source in known:
        return AutoConfig.for_model(**known[source])
    try:
        local = source.startswith("~") or storage.is_uri(source)
        path = storage.fetch(source) if local else Path(source)
        if path.is_dir():
            model_directory.settings(path)
        return AutoConfig.from_pretrained(path if local else source)
    except (OSError, ValueError, ModelError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the shape of {source} cannot be read: name a directory with its config.json ({reason})"
        ) from error
