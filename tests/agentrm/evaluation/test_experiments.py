"""The plans of the experiments: every variant is a valid configuration that differs only in what is compared."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from agentrm.config.loading import changed, load
from agentrm.config.schema import Config
from agentrm.core.errors import UserError
from agentrm.evaluation.evaluator import methods
from agentrm.evaluation.experiments import EXPERIMENTS, variants
from agentrm.run import alike

MODELS = ["demonstrations", "policy", "trees", "reward_model"]
SHARED = {
    "reward-kinds": [MODELS] + [MODELS[:3]] * 3 + [MODELS],
    "generalisation": [MODELS[:3]] * 2 + [MODELS],
    "policy-against-reward-model": [MODELS] + [[]] * 2 + [MODELS[:3]] * 2,
    "specialised": [MODELS] + [[]] * 3,
    "generalist": [MODELS, MODELS[:1]],
    "data-scaling": [MODELS[:3]] * 4 + [MODELS],
    "test-time-scaling": [MODELS] * 9,
    "state-ablation": [MODELS] + [MODELS[:3]] * 4,
    "perturbations": [MODELS] * 4,
    "weak-to-strong": [MODELS, MODELS[:1]],
    "equal-tokens": [MODELS] * 4,
}


@pytest.fixture(scope="module")
def base() -> Config:
    return load("quickstart")


def configs(name: str, base: Config) -> dict[str, Config]:
    return {variant: changed(base, overrides) for variant, overrides in variants(name, base).items()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_variant_is_valid_shares_what_it_does_not_change_and_has_a_reference(name: str, base: Config) -> None:
    if name == "generalist":
        base = changed(base, ["evaluate.strong=[model.source=/models/other]"])
    found = configs(name, base)
    assert [alike(base, config) for config in found.values()] == SHARED[name]
    assert all(PurePath(variant).name == variant for variant in found)
    distinct = {repr(config) for config in found.values()}
    assert len(distinct) == len(found)
    reference = EXPERIMENTS[name].reference
    for variant, config in found.items():
        labels = methods(config.evaluate)
        compared = [reference.of(variant, label) for label in labels]
        assert any(other in found and label in methods(found[other].evaluate) for other, label in compared)


def test_the_matrix_is_over_environments_where_there_are_several(base: Config) -> None:
    kinds = ["webshop.beauty_small", "webshop.electronics_small", "all"]
    assert list(variants("generalisation", base)) == kinds
    both = "[{environment: babyai, kinds: [goto_local], count: 8}, {environment: alfworld, count: 8}]"
    untested = "tasks.held_out_environments=[]"
    two = changed(base, [f"tasks.trees={both}", untested])
    assert list(variants("generalisation", two)) == ["babyai", "alfworld", "all"]
    one = changed(base, ["tasks.trees=[{environment: babyai, kinds: [goto_local], count: 8}]", untested])
    with pytest.raises(UserError, match=r"babyai\.goto_local alone"):
        variants("generalisation", one)


def test_policies_are_improved_by_their_own_successes(base: Config) -> None:
    found = configs("specialised", base)
    own = found["specialised-webshop.beauty_small"]
    assert own.model.source.endswith("runs/quickstart/policy") and own.clone.epochs == base.clone.epochs
    (given,) = own.tasks.demonstrations
    assert (given.environment, given.kinds) == ("webshop", ["beauty_small"])
    assert given.trees.endswith("runs/quickstart/trees")
    assert len(found["specialised-all"].tasks.demonstrations) == 2
    assert own.clone.learning_rate == pytest.approx(base.clone.learning_rate / 10)
    learned = configs("specialised", changed(base, ["model.source=/models/learned"]))["specialised-all"]
    assert learned.clone.learning_rate == base.clone.learning_rate
    alone = configs("policy-against-reward-model", base)
    untrained = {name for name, each in alone.items() if not any(method.scored for method in each.evaluate.methods)}
    assert untrained == {"general", "policy-webshop.beauty_small", "policy-webshop.electronics_small"}
    remote = changed(base, ["model.source=http://host:8000/v1", "model.name=large"])
    with pytest.raises(UserError, match="whose weights are not here to fine-tune"):
        variants("specialised", remote)


def test_a_generalist_is_a_policy_that_nobody_cloned(base: Config) -> None:
    with pytest.raises(UserError, match=r"generalist needs .*evaluate\.strong=\[model\.source"):
        variants("generalist", base)
    found = configs("generalist", load("smollm2"))["generalist"]
    assert found.model.source == "smollm2" and not found.clone.epochs
    named = changed(base, ["evaluate.strong=[model.source=http://host:8000/v1,model.name=large]"])
    assert configs("generalist", named)["generalist"].model.name == "large"


def test_thoughts_are_left_out_where_there_are_any(base: Config) -> None:
    bare = changed(base, ["model.action_format=bare"])
    assert "no-thoughts" not in variants("state-ablation", bare)
    found = {name: config.train.representation for name, config in configs("state-ablation", base).items()}
    alone = found["actions-alone"]
    assert (alone.thoughts, alone.actions, alone.observations) == (False, True, False)
    assert found["whole"].thoughts and not found["no-thoughts"].thoughts
    kinds = configs("reward-kinds", changed(base, ["train.representation.thoughts=false"]))
    assert not kinds["explicit"].train.representation.thoughts and kinds["implicit"].train.representation.thoughts


def test_only_environments_that_offer_a_wording_are_reworded(base: Config) -> None:
    tests = "[{environment: babyai, split: test, count: 3}, {environment: alfworld, split: test, count: 5}]"
    others = ["tasks.held_out_kinds=[]", "tasks.held_out_environments=[{environment: pddl, split: test, count: 3}]"]
    mixed = changed(base, [f"tasks.held_in={tests}", *others])
    found = configs("perturbations", mixed)
    named = {variant: [each.environment for each in config.tasks.held_in] for variant, config in found.items()}
    assert named["original"] == ["babyai", "alfworld"]
    assert named["walk"] == ["babyai+walk"] and named["using"] == ["alfworld+using"]
    assert named["all"] == ["babyai+all", "alfworld+all"]
    assert not any(config.tasks.held_out_environments for config in found.values())
    assert [each.count for each in found["all"].tasks.held_in] == [3, 5]
    mazes = changed(base, ["tasks.held_in=[{environment: maze, split: test, count: 3}]", *others])
    with pytest.raises(UserError, match="no environment of the tests has a perturbation"):
        variants("perturbations", mazes)


def test_a_pretrained_policy_needs_a_stronger_one_by_name() -> None:
    base = load("smollm2")
    with pytest.raises(UserError, match=r"evaluate\.strong=\[model\.source"):
        variants("weak-to-strong", base)
    named = changed(base, ["evaluate.strong=[model.source=http://host:8000/v1,model.name=large]"])
    found = configs("weak-to-strong", named)
    assert found["strong"].model.source == "http://host:8000/v1" and found["strong"].model.name == "large"
    assert alike(base, found["weak"]) == MODELS


def test_an_unknown_experiment_is_named(base: Config) -> None:
    with pytest.raises(UserError, match="no experiment 'data-scalign': choose one of reward-kinds"):
        variants("data-scalign", base)
