"""LoRA: a fit that trains two thin matrices beside each linear layer, and the value head, and leaves the base alone.

The adapters are added up into the base's weights at the end, so nothing downstream knows how a model was trained.
peft is imported where it is used: a fit of all weights starts half a second sooner without it.
"""

from __future__ import annotations

import deepspeed
import torch
from transformers import PreTrainedModel

from agentrm.config.schema import Lora
from agentrm.core.errors import UserError

_ADAPTER, _HEAD = "default", "score"


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


def merge(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that the model had without adapters, from its `weights` (rank 0) or {} (others).

    At ZeRO stage 3 the adapters are gathered, so all ranks must call this.
    """
    from peft.tuners.lora import Linear

    merged = {name.replace(".base_layer.", "."): weight for name, weight in weights.items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            adapter = [module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight]
            with torch.no_grad(), deepspeed.zero.GatheredParameters(adapter):
                change = module.get_delta_weight(_ADAPTER)
            if merged:
                merged[f"{name}.weight"] += change.to("cpu", merged[f"{name}.weight"].dtype)
    return merged
