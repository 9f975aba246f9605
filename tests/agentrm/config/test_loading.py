"""Configurations: presets load, overrides apply, and what cannot be used is named before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.config.files import presets
from agentrm.config.loading import changed, flatten, load, resolved, stored
from agentrm.config.schema import TaskSet, Trees
from agentrm.config.tasks import learned_sets, tasks
from agentrm.core.errors import UserError
from agentrm.environments.registry import environment_class


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_survives_saving(name: str, tmp_path: Path) -> None:
    config = load(name)
    (tmp_path / "saved.yaml").write_text(resolved(config))
    assert load(str(tmp_path / "saved.yaml")) == config


def test_the_presets_of_the_readme_are_there() -> None:
    assert {"quickstart", "smollm2", "smollm2-gpu", "llama3-8b-lora", "llama3-8b", "llama3-8b-cluster"} <= set(
        presets()
    )


def test_overrides_win_and_change_nothing_else() -> None:
    before = flatten(load("quickstart"))
    after = flatten(load("quickstart", ["clone.epochs=7", "model.action_format=bare", "serve.api_key=abc"]))
    assert {key for key in after if after[key] != before[key]} <= {
        "clone.epochs",
        "model.action_format",
        "serve.api_key",
    }
    assert after["clone.epochs"] == 7
    assert after["serve.api_key"] == "abc"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("clone.epoch=1", "clone.epoch"),
        ("colne.epochs=1", "colne"),
        ("tasks.trees=7", "tasks.trees"),
        ("clone.epochs=many", "clone.epochs"),
        ("model.action_format=prose", "model.action_format"),
        ("model.scratch.layers=0", "model.scratch.layers"),
        ("model.scratch.heads=0", "model.scratch.heads"),
        ("model.scratch={hidden: 192, heads: 4}", "hidden=192 and heads=4 give heads of 48"),
        ("model.scratch.kv_heads=3", "model.scratch.kv_heads is 3: it must divide heads=4"),
        ("model.scratch.kv_heads=0", "model.scratch.kv_heads"),
        ("clone.epochs=-1", "clone.epochs"),
        ("train.zero_stage=4", "train.zero_stage"),
        ("train.dtype=float16", "train.dtype"),
        ("train.epochs=-1", "train.epochs"),
        ("evaluate.likelihood=-0.1", "evaluate.likelihood"),
        ("train.lora.rank=-1", "train.lora.rank"),
        ("train.lora.alpha=0", "train.lora.alpha"),
        ("clone.lora.dropout=1", "clone.lora.dropout"),
        ("train.labels.min_visits=0", "train.labels.min_visits"),
        ("train.beta=0", "train.beta"),
        ("train.labels.share=0", "train.labels.share"),
        ("train.labels.environments=[babyai]", "train.labels.environments holds babyai"),
        ("train.labels.environments=[webshop.garden_small]", "webshop.beauty_small"),
        ("evaluate.judge.context=0", "evaluate.judge.context"),
        ("evaluate.methods=[]", "evaluate.methods is empty"),
        ("tasks.demonstrations=[{environment: maze}]", r"tasks.demonstrations[0].count is not set"),
        ("tasks.demonstrations=[{environment: maze, trees: a, file: b}]", r"tasks.demonstrations[0] names trees"),
        ("evaluate.judge.source=http://host/v1", "evaluate.judge.name"),
        ("evaluate.judge.name=gpt", "evaluate.judge.source"),
        ("train.kind=guess", "train.kind"),
        ("train.representation={thoughts: false, actions: false, observations: false}", "train.representation"),
        ("sampling.temperature=-1", "sampling.temperature"),
        ("sampling.top_p=0", "sampling.top_p"),
        ("intervals.confidence=1", "intervals.confidence"),
        ("evaluate.n=0", "evaluate.n"),
        ("evaluate.methods=[beam,bream]", "evaluate.methods"),
        ("evaluate.aggregate=median", "evaluate.aggregate"),
        ("evaluate.lookahead=0", "evaluate.lookahead"),
        ("evaluate.iterations=0", "evaluate.iterations"),
        ("evaluate.max_tokens=0", "evaluate.max_tokens"),
        ("evaluate.max_steps=-1", "evaluate.max_steps"),
        ("evaluate.max_scores=0", "evaluate.max_scores"),
        ("evaluate.max_seconds=0", "evaluate.max_seconds"),
        ("serve.host=0.0.0.0", "serve.host"),
        ("trees.selection=best", "trees.selection"),
        ("trees.widening=1.5", "trees.widening"),
        ("trees.discount=-0.1", "trees.discount"),
        ("trees.resamples=-1", "trees.resamples"),
        ("trees.max_seconds=0", "trees.max_seconds"),
        ("trees.rollout_steps=2", "trees.bootstrap"),
        ("trees.trees_per_task=0", "trees.trees_per_task"),
        ("reward_engine={replicas: 3, max_replicas: 2}", "reward_engine.max_replicas"),
        ("policy_engine={gpus: 1, tensor_parallel: 2}", "policy_engine.tensor_parallel"),
        ("epochs", "key=value"),
        ("run=???", "run=???"),
        ("tasks.trees[7].count=1", "tasks.trees[7]"),
        ("train.labels.environments=[maze", "train.labels.environments=[maze"),
    ],
)
def test_what_cannot_be_used_is_named(override: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        load("quickstart", [override])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_with_changes_is_checked_as_a_loaded_one() -> None:
    base = load("quickstart", ["seed=3"])
    assert changed(base, ["train.labels.share=0.5"]) == load("quickstart", ["seed=3", "train.labels.share=0.5"])
    assert base == load("quickstart", ["seed=3"])
    for override, told in (("train.beta=0", "train.beta"), ("train.bta=1", "train.bta"), ("seed", "key=value")):
        with pytest.raises(UserError, match=told):
            changed(base, [override])


NASTY = [
    *("0123", "12e4", "1e-5", "0x1f", "1_000", "1:30", "2024-01-01", "true", "no", "null", "~", "-", "=", ".inf", "<<"),
    *(
        "a #b",
        "#",
        " led ",
        "",
        "'quoted'",
        '"',
        "a: b",
        "{a: 1}",
        "[beam]",
        "- x",
        "&a",
        "*a",
        "!!int 3",
        "%",
        "@",
        "`",
    ),
    *("$", "${", "${}", "${seed}", "\\${seed}", "a\\", "\\\\${x}\\", "${oc.env:", "\\???", "?", "????"),
    *(
        "ä 日本語 עברית 👩‍🔬 e\u0301",
        "two\nlines\r\n",
        "\ttab",
        "\x7f\x85\u2028\ufeff",
        "\x85",
        "\u2029x",
        "~user",
        "--x",
        "a/b",
        "x" * 300,
    ),
]


KEYS = ("run", "reuse", "serve.api_key", "train.base", "clone.lora.targets")


def assert_taken(texts: Sequence[str]) -> None:
    """Each of as many texts as KEYS reaches its key as it is, and survives saving."""
    several = yaml.safe_dump([*texts, "x=1"], default_flow_style=True)
    config = load("quickstart", [*map("=".join, zip(KEYS, texts, strict=True)), f"evaluate.strong={several}"])
    assert [flatten(config)[key] for key in KEYS] == list(texts)
    assert config.evaluate.strong == [*texts, "x=1"]
    assert changed(config, ["seed=3"]) == replace(config, seed=3)
    assert stored(resolved(config), "config.yaml") == replace(config, serve=replace(config.serve, api_key=""))


@pytest.mark.parametrize("start", range(0, len(NASTY), len(KEYS)))
def test_text_is_text(start: int, tmp_path: Path) -> None:
    texts = (NASTY * 2)[start : start + len(KEYS)]
    assert_taken(texts)
    path = tmp_path / "saved.yaml"
    path.write_text(resolved(load("quickstart", list(map("=".join, zip(KEYS, texts, strict=True))))))
    assert [flatten(load(str(path)))[key] for key in KEYS if key != "serve.api_key"] == [*texts[:2], *texts[3:]]


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\\$${{}}?#:'\" \n"), max_size=20)


@settings(max_examples=10, deadline=None)
@given(st.lists(TEXT, min_size=len(KEYS), max_size=len(KEYS)))
def test_any_text_is_text(texts: list[str]) -> None:
    # These two mean something to the configuration.
    assert_taken(["x" if text == "???" or "oc.env" in text else text for text in texts])


def test_what_a_file_writes_without_quotes_is_text(tmp_path: Path) -> None:
    text = resolved(load("quickstart", ["run=x"]))
    path = tmp_path / "mine.yaml"
    for written, taken in (("0123", "0123"), ("12e4", "12e4"), ("2024-01-01", "2024-01-01"), ("yes # no", "yes")):
        path.write_text(text.replace("run: x\n", f"run: {written}\n").replace("strong: []", f"strong: [{written}\n]"))
        assert load(str(path)).run == taken
        assert load(str(path)).evaluate.strong == [taken]
    path.write_text(text.replace("run: x\n", "run: null\n"))
    with pytest.raises(UserError, match="key run"):
        load(str(path))
    path.write_text(f"{text}seed: 1\n")
    with pytest.raises(UserError, match=r"mine\.yaml .*seed is given twice"):
        load(str(path))
    path.write_text("- run\n")
    with pytest.raises(UserError, match=r"mine\.yaml holds no keys"):
        load(str(path))


def test_a_variable_of_the_environment_is_read_and_its_value_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a ${seed} #0")
    config = load(
        "quickstart", ["serve.api_key=${oc.env:MINE}", "run=/${oc.env:MINE}/${seed}", "reuse=${oc.env:NO,none}"]
    )
    assert config.serve.api_key == "a ${seed} #0"
    assert config.run == "/a ${seed} #0/${seed}"
    assert config.reuse == "none"
    assert stored(resolved(config), "config.yaml").run == config.run
    with pytest.raises(UserError, match=r"key serve\.api_key.*NOT_THERE"):
        load("quickstart", ["serve.api_key=${oc.env:NOT_THERE}"])


def test_numbers_choices_and_lists_are_yaml() -> None:
    config = load("quickstart", ["train.learning_rate=1e-5", "clone.epochs= 3", "evaluate.methods=[beam, greedy]"])
    assert (config.train.learning_rate, config.clone.epochs) == (1e-5, 3)
    assert [each.value for each in config.evaluate.methods] == ["beam", "greedy"]
    assert load("quickstart", ["tasks.trees[0].count=3"]).tasks.trees[0].count == 3
    several = ["clone.epochs=1", "clone={epochs: 2, dtype: bfloat16}", "clone.epochs=3"]
    assert load("quickstart", several).clone.epochs == 3


def test_an_implicit_reward_model_reads_whole_states() -> None:
    cut = ["train.kind=implicit", "train.representation.thoughts=false"]
    with pytest.raises(UserError) as caught:
        load("quickstart", cut)
    changes = str(caught.value).split(": add ")[1].split()
    assert sorted(changes) == [
        "train.representation.action_count=false",
        "train.representation.thoughts=true",
    ]
    load("quickstart", [*cut, *changes])


def test_a_key_in_the_open_needs_an_api_key() -> None:
    assert load("quickstart", ["serve.host=0.0.0.0", "serve.api_key=long"]).serve.host == "0.0.0.0"


def edited(tmp_path: Path, **groups: str) -> Path:
    """The quickstart with groups of tasks replaced."""
    text = "\n".join(f"  {name}: {value}" for name, value in groups.items())
    path = tmp_path / "mine.yaml"
    path.write_text(f"run: somewhere\nmodel: {{source: scratch}}\ntasks:\n{text}\n")
    return path


TRAIN = "[{environment: babyai, kinds: [goto_local, pickup_loc], count: 4}]"


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"held_in": "[{environment: chess, count: 1}]"}, "unknown environment 'chess'"),
        ({"held_in": "[{environment: babyai, kinds: [goto_mars], count: 1}]"}, "goto_mars"),
        ({"held_in": "[{environment: babyai, split: dev, count: 1}]"}, "split"),
        ({"held_in": "[{environment: babyai, count: 0}]"}, "tasks.held_in[0].count"),
        ({"held_out_kinds": "[{environment: babyai, kinds: [pickup_loc], count: 1}]"}, "babyai pickup_loc"),
        ({"held_out_environments": "[{environment: babyai, count: 1}]"}, "which tasks.trees trains on"),
        ({"held_out_environments": "[{environment: babyai+walk, count: 1}]"}, "holds babyai+walk, which tasks.trees"),
        ({"held_out_kinds": "[{environment: babyai+walk, kinds: [pickup_loc], count: 1}]"}, "babyai+walk pickup_loc"),
    ],
)
def test_tasks_that_do_not_exist_or_leak_are_refused(tmp_path: Path, groups: dict[str, str], told: str) -> None:
    usable = {"demonstrations": TRAIN, "trees": TRAIN, "held_in": TRAIN}
    assert load(str(edited(tmp_path, **usable))).tasks.trees[0].count == 4
    with pytest.raises(UserError) as caught:
        load(str(edited(tmp_path, **usable | groups)))
    assert told in str(caught.value)


def test_trees_of_other_splits_are_not_learned_from_and_may_be_of_held_out_tasks(tmp_path: Path) -> None:
    maze = "{environment: maze, kinds: [perfect_small], count: 2, split: "
    groups = {"demonstrations": TRAIN, "held_in": TRAIN, "held_out_environments": f"[{maze}test}}]"}
    config = load(str(edited(tmp_path, **groups, trees=f"{TRAIN[:-1]}, {maze}valid}}]")))
    assert [each.environment for each in learned_sets(config.tasks)] == ["babyai"]
    with pytest.raises(UserError, match=r"which tasks\.trees trains on"):
        load(str(edited(tmp_path, **groups, trees=f"{TRAIN[:-1]}, {maze}train}}]")))


IMPLICIT = ["train.kind=implicit", "train.representation.action_count=false"]


def test_labels_of_what_was_imported_are_for_the_fit_to_find() -> None:
    assert load("quickstart", ["train.labels.environments=[webshop,imported.web]"]).train.labels.weights == []
    with pytest.raises(UserError, match=r"train\.labels\.environments holds web"):
        load("quickstart", ["train.labels.environments=[web]"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.labels.at=[]"], r"train\.labels\.at is \[\]: give \[state\], \[action\] or both"),
        (["train.labels.at=[state,state]"], r"train\.labels\.at is"),
        (["train.labels.weights=[1]"], r"train\.labels\.weights is \[1\.0\]: .* are 0"),
        (["train.labels.environments=[webshop]", "train.labels.weights=[0]"], r"a number above 0"),
        (
            ["train.labels.environments=[webshop]", "train.labels.weights=[1]", "train.labels.balance=true"],
            r"without train\.labels\.balance",
        ),
        ([*IMPLICIT, "train.loss=bradley_terry"], r"train\.loss=bradley_terry is for train\.kind=explicit"),
        ([*IMPLICIT, "train.labels.of=steps"], r"train\.labels\.of=steps is for train\.kind=explicit"),
        ([*IMPLICIT, "train.labels.at=[action]"], r"train\.labels\.at is for train\.kind=explicit"),
        ([*IMPLICIT, "train.overflow=drop_middle"], r"train\.overflow=drop_middle is for train\.kind=explicit"),
        ([*IMPLICIT, "train.base=model"], r"train\.base=model is for train\.kind=explicit"),
    ],
)
def test_what_cannot_be_learned_is_refused_where_it_is_said(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load("quickstart", overrides)


def test_trees_that_measure_have_a_search_of_their_own() -> None:
    search = Trees(iterations=9, rollouts=1, discount=0.5)
    assert search.measuring == search
    search.test.rollouts = 8
    assert search.measuring == replace(search, rollouts=8)
    with pytest.raises(UserError, match=r"trees\.test\.iterations is 0"):
        load("quickstart", ["trees.test.iterations=0"])


def test_a_missing_value_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = edited(tmp_path, demonstrations=TRAIN, trees=TRAIN)
    with pytest.raises(UserError, match=r"tasks\.held_in"):
        load(str(path))
    with pytest.raises(UserError, match=r"quickstrat.*quickstart"):
        load("quickstrat")


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("run: [1, 2\n")
    with pytest.raises(UserError, match=r"broken\.yaml"):
        load(str(path))


def test_the_api_key_is_not_written_to_the_run_directory() -> None:
    config = load("quickstart", ["serve.api_key=hush-hush"])
    assert "hush" not in resolved(config)
    assert config.serve.api_key == "hush-hush"
    open_to_all = load("quickstart", ["serve.host=0.0.0.0", "serve.api_key=hush-hush"])
    assert stored(resolved(open_to_all), "config.yaml").serve.host == "0.0.0.0"


def test_task_sets_take_what_each_kind_has() -> None:
    few, many = "identify-life-stages-2", "find-plant"
    found = tasks([TaskSet("scienceworld", [few, many], "train", 12)], 0)
    assert len(found) == len(set(found)) == 12
    assert sum(task.kind == few for task in found) == environment_class("scienceworld").size(few, "train") < 6
