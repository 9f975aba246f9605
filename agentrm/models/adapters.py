"""Reward models kept as adapters: two thin matrices beside each linear layer, a scalar head, and the base's name.

A directory holds them in PEFT's form, with the classifier's config.json and tokenizer. Engines and transformers want a
classifier beneath: `classifier` joins the base's own files to one, without a copy of its weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrm import storage
from agentrm.core.errors import ModelError, UserError
from agentrm.model_directory import INDEX, tensor_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONFIG = "adapter_config.json"
_BASE = "base_model_name_or_path"
_HEAD = "score.weight"
HEAD = f"base_model.model.{_HEAD}"
"""The scalar head's name in an adapter's file."""
_HEAD_FILE = "score.safetensors"


def kept(directory: Path) -> bool:
    """Whether a directory holds an adapter."""
    return (directory / _CONFIG).is_file()


def rank_of(directory: Path) -> int:
    """The rank of a directory's adapter. Raises ModelError as `base_of` does."""
    return int(_settings(directory)["r"])


def base_of(directory: Path) -> Path:
    """The directory, here, of the model that a kept adapter belongs to; a relative name is as seen from the adapter's.

    Raises ModelError when its adapter_config.json names none, or there is no model.
    """
    named = _settings(directory).get(_BASE)
    if not named:
        raise ModelError(f"{directory} holds an adapter whose {_CONFIG} names no {_BASE}")
    beside = directory / named
    base = beside if (beside / "config.json").is_file() else _elsewhere(named)
    if not (base / "config.json").is_file():
        raise ModelError(
            f"{directory} holds an adapter of {named}, which is not there: put it back, or name where it is as {_BASE} "
            f"in {_CONFIG}"
        )
    return base


def check_base(start: Path, base: Path) -> None:
    """Raise UserError unless the model that a fit of adapters starts from has all weights of its `base`."""
    if kept(base):
        raise UserError(
            f"train.base is {base}, an adapter, beside which no other can be kept: set train.lora.keep=false, or name "
            "its base"
        )
    from transformers import AutoConfig

    rows = [AutoConfig.from_pretrained(model).get_text_config().vocab_size for model in (start, base)]
    if rows[0] != rows[1]:
        raise UserError(
            f"train.lora.keep=true keeps adapters beside {base}, whose vocabulary of {rows[1]} has no token to "
            "spare for padding: set train.lora.keep=false"
        )


def name_base(directory: Path, base: str) -> None:
    """Say in an adapter's directory which model it belongs to."""
    (directory / _CONFIG).write_text(json.dumps(_settings(directory) | {_BASE: base}, indent=2) + "\n")


def one_base(directories: Sequence[Path]) -> Path | None:
    """The base that several models share, if all of them are adapters on it. Raises ModelError as `base_of` does."""
    if not all(map(kept, directories)):
        return None
    bases = {base_of(directory).resolve() for directory in directories}
    return bases.pop() if len(bases) == 1 else None


def classifier(directory: Path) -> Path:
    """A classifier's directory whose backbone is the adapter's base and whose head answers 0: the base's files by
    links, beside a config.json and a tokenizer as the adapter's. Raises ModelError as `base_of` does.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig

    base = base_of(directory)
    files = {
        name: file for name, file in tensor_files(base).items() if name != _HEAD and not name.startswith("lm_head")
    }
    if not files:
        raise ModelError(f"{base}, the base of the adapter in {directory}, holds no safetensors")
    told = [entry for entry in sorted(directory.iterdir()) if entry.is_file() and entry.suffix != ".safetensors"]
    seen = [(str(entry.resolve()), entry.stat().st_mtime_ns) for entry in (*told, *sorted(set(files.values())))]
    target = storage.cached(repr(seen))
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    output = Path(tempfile.mkdtemp(prefix="making-", dir=target.parent))
    for path in told:
        if path.name != _CONFIG:
            shutil.copy(path, output)
    for file in set(files.values()):
        # By another name: a `model.safetensors` would be taken for all there is.
        (output / f"base-{file.name}").symlink_to(file.resolve())
    width = AutoConfig.from_pretrained(output).get_text_config().hidden_size
    save_file({_HEAD: torch.zeros(1, width)}, output / _HEAD_FILE, metadata={"format": "pt"})
    index = {name: f"base-{file.name}" for name, file in files.items()} | {_HEAD: _HEAD_FILE}
    (output / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    with suppress(OSError):  # another process was faster
        output.rename(target)
        return target
    shutil.rmtree(output)
    return target


def load(directory: Path, dtype: Any = "auto") -> PreTrainedModel:
    """The classifier in a directory by plain transformers; an adapter is merged into its base. Raises ModelError as
    `base_of` does.
    """
    from transformers import AutoModelForSequenceClassification

    if not kept(directory):
        return AutoModelForSequenceClassification.from_pretrained(directory, dtype=dtype)
    from peft import PeftModel

    model = AutoModelForSequenceClassification.from_pretrained(classifier(directory), dtype=dtype)
    return PeftModel.from_pretrained(model, str(directory)).merge_and_unload()


def _settings(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / _CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory} holds an adapter whose {_CONFIG} cannot be read") from error
    return dict(config)


def _elsewhere(named: str) -> Path:
    """A directory by its path or location, or what the hub's cache has of a name."""
    path = storage.fetch(named)
    if path.is_dir() or storage.is_uri(named):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(named, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return path
