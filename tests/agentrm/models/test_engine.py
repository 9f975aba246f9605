"""What can be seen of engines on GPUs without one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from agentrm.config.schema import Engine
from agentrm.models.engine import alone_on_gpu


def test_engines_that_share_a_gpu_start_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with alone_on_gpu(Engine(gpus=0.5)):
        second = alone_on_gpu(Engine(gpus=0.5))
        assert isinstance(second, FileLock)
        with pytest.raises(Timeout):
            second.acquire(timeout=0.05)
        for whole in (Engine(gpus=1), Engine(gpus=0)):
            with alone_on_gpu(whole):
                pass
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with alone_on_gpu(Engine(gpus=0.5)):
            pass
    with second:
        pass
