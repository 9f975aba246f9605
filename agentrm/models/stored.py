"""Models as they lie in files, which can be copied and read in parts: no process need hold one whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME

from agentrm.model_directory import INDEX, tensor_files


def by_own_names(auto: Any, directory: Path) -> bool:
    """Whether the files of a directory hold every parameter of the model that the `auto` class makes under its own
    name: not where transformers joins several tensors to one, or there are other files than safetensors. Raises
    OSError and ValueError for what transformers knows no model of.
    """
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.from_pretrained(directory))
    return dict(model.named_parameters()).keys() <= tensor_files(directory).keys()


def copy(source: Path, directory: Path) -> None:
    """The weights of a model and its settings, as they are."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = [source / name for name in (CONFIG_NAME, GENERATION_CONFIG_NAME, INDEX)]
    for file in {*tensor_files(source).values(), *(file for file in settings if file.is_file())}:
        shutil.copyfile(file, directory / file.name)
