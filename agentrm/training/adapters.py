"""LoRA: a fit that trains two thin matrices beside each linear layer, and the value head, and leaves the base alone.

The adapters are added up into the base's weights at the end, so that nothing downstream knows how a model was trained;
or they are kept, as PEFT keeps them.
peft is imported where it is used: a fit of all weights starts half a second sooner without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed
from transformers import PreTrainedModel
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME

from agentrm.config.schema import Lora
from agentrm.core.errors import UserError
from agentrm.training.export import save_config
from agentrm.training.importing import deepspeed

_ADAPTER, _HEAD = "default", "score"

ADAPTER_MARK = ".lora_"
"""What the names of the adapters' weights hold, and no others'."""


def adapt(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Freeze the model but for a value head, and add adapters, which change no output before they are trained.

    Raises UserError when `lora.targets` matches no linear layer of the backbone, or anything else.
    """
    from peft import LoraConfig, TaskType, inject_adapter_in_model
    from peft.tuners.lora import Linear, LoraLayer

    torch.manual_seed(seed)
    head = getattr(model, _HEAD, None)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        # So that `all-linear` leaves the value head out.
        task_type=None if head is None else TaskType.SEQ_CLS,
    )
    try:
        inject_adapter_in_model(config, model, _ADAPTER)
    except ValueError as error:
        raise UserError(
            f"lora.targets is {lora.targets!r}, which names no linear layer of the model: {error}"
        ) from error
    backbone = set(model.base_model.modules())
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and not (isinstance(module, Linear) and module in backbone):
            raise UserError(
                f"lora.targets is {lora.targets!r}, which names {name}: it is no linear layer of the backbone"
            )
    if head is not None:
        head.requires_grad_(True)


def merged(model: PreTrainedModel, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """The `weights` of an adapted model as those that it had without adapters, one after another.

    At ZeRO stage 3 the adapters are gathered, so all ranks must go through them together.
    """
    for name, weight in weights:
        if ADAPTER_MARK in name:
            continue
        owner, _, kind = name.rpartition(".base_layer.")
        if kind == "weight" and owner:
            module = model.get_submodule(owner)
            pair = [module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight]
            with torch.no_grad(), deepspeed.zero.GatheredParameters(pair):
                weight = weight + module.get_delta_weight(_ADAPTER).to(weight.dtype)
        yield name.replace(".base_layer.", "."), weight


def save_adapter(
    model: PreTrainedModel,
    weights: Iterable[tuple[str, torch.Tensor]],
    lora: Lora,
    dtype: torch.dtype,
    directory: Path,
) -> None:
    """Write the adapters and the head, which are the trained `weights`, in PEFT's form on rank 0, with the model's
    config.json; the base's name is still to be given. All ranks must call this.
    """
    from peft import LoraConfig, TaskType
    from peft.tuners.lora import Linear

    tensors = {
        # PEFT's names: in a wrapper, and without the adapter's own.
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": weight.to("cpu", dtype, copy=True).contiguous()
        for name, weight in weights
    }
    if distributed.get_rank():
        return
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / ADAPTER_SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[name for name, module in model.named_modules() if isinstance(module, Linear)],
        modules_to_save=[_HEAD],
        task_type=TaskType.SEQ_CLS,
        inference_mode=True,
    )
    config.save_pretrained(str(directory))
    save_config(model, dtype, directory)
