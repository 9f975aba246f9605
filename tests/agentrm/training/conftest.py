"""A process group of one rank, as Ray Train makes it in each worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if distributed.is_initialized():
        # A vLLM engine in an earlier test has left its own.
        distributed.destroy_process_group()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setenv("LOCAL_RANK", "0")
        # DeepSpeed remembers the group of an earlier test.
        patch.setattr("deepspeed.utils.groups._WORLD_GROUP", None)
        store = tmp_path_factory.mktemp("store") / "file"
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        distributed.destroy_process_group()
