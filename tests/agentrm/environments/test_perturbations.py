"""Each wording of each environment: the same game, played and told in other words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrm.config.loading import load
from agentrm.config.tasks import tasks
from agentrm.core.errors import UserError
from agentrm.core.task import Task
from agentrm.environments.base import Environment
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import environment_class, make

GAMES = {
    "alfworld": ("pick_clean_then_place_in_recep_small", "pick_cool_then_place_in_recep_small", "look_at_obj_in_light"),
    "babyai": ("key_in_box", "put_next_local", "goto_local"),
    "scienceworld": ("find-animal",),
}
# What no text of the wording may hold, and what some action must.
OLD = {
    "alfworld": {
        "using": (r"(clean|heat|cool) \S+ \S+ with", r"(clean|heat|cool) \S+ \S+ using"),
        "move": (r"go to [a-z<(]", r"move to [a-z]+ \d"),
        "from": (r"take \S+( \d+)? from", r"from \S+ \d+ take"),
        "nospace": (r"[a-z] \d", r"[a-z]\d"),
        "all": (
            r"go to [a-z<]|take \S+( \d+)? from|[a-z] \d|(clean|heat|cool) \S+ with",
            r"from [a-z]+\d take [a-z]+\d",
        ),
    },
    "babyai": {
        "walk": (r"(?i)go to", "walk to"),
        "nospace": (r"(ball|box|door|key) \d", r"(ball|box|door|key)\d"),
        "all": (r"(?i)go to|(ball|box|door|key) \d", r"walk to \w+ \w+\d"),
    },
    "scienceworld": {
        "proceed": (r"(?i)\bgo\b", "proceed to"),
        "fetch": (r"(?i)pick up", "fetch"),
        "all": (r"(?i)\bgo\b|pick up", "fetch"),
    },
}


@pytest.fixture(scope="module", params=list(OLD))
def base(request: pytest.FixtureRequest) -> Iterator[Environment]:
    try:
        environment = make(request.param)
    except UserError as error:
        pytest.skip(str(error))
    yield environment
    environment.close()


def test_every_wording_is_tested_here() -> None:
    for name, wordings in OLD.items():
        assert list(environment_class(name).perturbations) == list(wordings)


def test_the_oracle_wins_the_same_game_in_each_wording(base: Environment) -> None:
    for wording, (old, new) in OLD[base.name].items():
        perturbed = make(f"{base.name}+{wording}")
        texts, actions = [], []
        for kind in GAMES[base.name]:
            observation = base.reset(Task(base.name, kind, "train", 1))
            plan = base.expert_actions()
            shown = perturbed.reset(Task(perturbed.name, kind, "train", 1))
            assert perturbed.fingerprint() == base.fingerprint()
            rewritten = perturbed.expert_actions()
            for t, (plain, action) in enumerate(zip(plan, rewritten, strict=True)):
                assert perturbed.thought(rewritten[t:]) == perturbed.reword(base.thought(plan[t:]))
                assert shown.text == perturbed.reword(observation.text)
                texts.append(shown.text)
                if plain != action:
                    refusal = base.step("xyzzy").text.split(".")[0]
                    assert perturbed.step(plain).text.startswith(refusal), plain
                observation, shown = base.step(plain), perturbed.step(action)
                assert perturbed.grade() == base.grade()
            assert shown.done
            assert perturbed.grade().success
            texts.append(shown.text)
            actions += rewritten
        perturbed.close()
        for text in [*texts, *actions]:
            assert not re.search(old, text), text
        assert any(re.search(new, action) for action in actions)


@pytest.mark.parametrize(("name", "wording"), [(name, wording) for name in OLD for wording in OLD[name]])
def test_instruction_and_example_are_in_the_wording(name: str, wording: str) -> None:
    plain, perturbed = environment_class(name), environment_class(f"{name}+{wording}")
    old, _ = OLD[name][wording]
    assert not re.search(old, perturbed.instruction)
    assert len(perturbed.example) == len(plain.example)
    for turn in perturbed.example:
        assert not re.search(old, f"{turn.observation}|{turn.action}")
    assert (perturbed.instruction, perturbed.example) != (plain.instruction, plain.example)


def test_alfworlds_instruction_in_all_wordings_together() -> None:
    instruction = environment_class("alfworld+all").instruction
    for form in (
        "move to <receptacle>",
        "from <receptacle> take <object>",
        "move <object> to <receptacle>",
        "heat <object> using <receptacle>",
        "clean <object> using <receptacle>",
        "cool <object> using <receptacle>",
        "for example: move to desk1",
    ):
        assert form in instruction


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("alfworld+shouting", "alfworld has no perturbation 'shouting': choose from using, move, from, nospace, all"),
        ("alfworld+", "alfworld has no perturbation '': choose from"),
        ("alfworld+using+move", "alfworld has no perturbation 'using+move'"),
        ("chess+using", "unknown environment 'chess'"),
    ],
)
def test_an_unknown_wording_is_refused(name: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        environment_class(name)


@pytest.mark.usefixtures("tricky")
def test_an_environment_without_wordings_says_so() -> None:
    with pytest.raises(UserError, match="tricky has no perturbation 'using': it has none"):
        environment_class("tricky+using")


def test_a_task_set_may_name_a_wording(tmp_path: Path) -> None:
    overrides = [f"run={tmp_path}", "tasks.held_in=[{environment: babyai+walk, kinds: [goto_local], count: 2}]"]
    chosen = tasks(load("quickstart", overrides).tasks.held_in, seed=0)
    assert [task.id for task in chosen] == ["babyai+walk.goto_local.train.0.0", "babyai+walk.goto_local.train.1.0"]
    with pytest.raises(UserError, match="babyai has no perturbation 'fly'"):
        load("quickstart", [f"run={tmp_path}", "tasks.held_in=[{environment: babyai+fly, count: 2}]"])


def test_sessions_restore_a_wording_from_snapshots() -> None:
    pool = SessionPool(max_sessions=1)
    task = Task("babyai+all", "key_in_box", "train", 1)
    plan = tuple(pool.expert_actions(task))
    last = pool.observe(task, plan)
    assert last.done
    aside = pool.observe(task, (*plan[:2], "turn left"))
    assert not aside.done
    assert pool.counters["restores"] > 0
    assert pool.grade(task, plan).success
    pool.close()
