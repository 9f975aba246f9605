"""No generated instance is in two splits, even where few instances exist."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest

from agentrm.core.task import SPLITS, Task
from agentrm.environments.registry import make
from agentrm.environments.support import GENERATED_SIZES, derive_seed, split_of

COUNT = 150


def contents(content: Callable[[Task], str], environment: str, kind: str) -> dict[str, set[str]]:
    return {
        split: {content(Task(environment, kind, split, index, seed)) for index in range(COUNT // 2) for seed in (0, 1)}
        for split in SPLITS
    }


def assert_disjoint(found: dict[str, set[str]]) -> None:
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not found[one] & found[other]


def test_babyai() -> None:
    pytest.importorskip("minigrid")
    environment = make("babyai")

    def content(task: Task) -> str:
        environment.reset(task)
        return environment.fingerprint()

    # About 5,000 instances exist, so that independent draws would share some.
    assert_disjoint(contents(content, "babyai", "goto_red_ball_no_dists"))


def test_alfworld() -> None:
    if find_spec("alfworld") is None:
        pytest.skip("ALFWorld is not installed")
    make("alfworld").close()
    from agentrm.environments.alfworld.games import draw_scene

    found = contents(lambda task: draw_scene(task)[0].content(), "alfworld", "pick_two_obj_and_place_small")
    assert_disjoint(found)
    assert all(split_of(content) == split for split, members in found.items() for content in members)


def test_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    assert derive_seed(0, "kind", "train", 1) == 2160313427
    parts = [(0, "kind", "train", 1), (1, "kind", "train", 1), (0, "kind", "test", 1), (0, "kind", "train", 2)]
    assert len({derive_seed(*part) for part in parts}) == len(parts)


def test_splits_have_about_half_a_quarter_and_a_quarter_of_all_instances() -> None:
    shares = {split: sum(split_of(str(number)) == split for number in range(4000)) / 4000 for split in GENERATED_SIZES}
    assert shares == pytest.approx({"train": 0.5, "valid": 0.25, "test": 0.25}, abs=0.03)
