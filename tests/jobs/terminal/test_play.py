"""Playing in the terminal: hints that follow the player, and what else may be asked for."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentrm.core.task import Task
from agentrm.environments.registry import make
from jobs.cli import app

AGENTRM = Path(sys.executable).with_name("agentrm")


def plan_of(task: Task) -> list[str]:
    environment = make(task.environment)
    environment.reset(task)
    actions = environment.expert_actions()
    environment.close()
    return actions


def played(name: str, kind: str, *typed: str) -> str:
    """What the terminal shows, with index 1 of the train split."""
    lines = "".join(f"{line}\n" for line in typed)
    result = CliRunner().invoke(app, ["play", name, "--kind", kind, "--index", "1"], input=lines)
    assert result.exit_code == 0
    return result.stdout


PLAN = ["go to purple box 1", "toggle", "pick up purple key 1", "go to purple door 1", "toggle"]


def test_the_plan_that_the_other_tests_speak_of() -> None:
    assert plan_of(Task("babyai", "key_in_box", "train", 1)) == PLAN


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ([], PLAN[0]),
        (PLAN[:3], PLAN[3]),
        (["turn left", "dance"], PLAN[0]),
        ([PLAN[0], "turn left", "turn right"], PLAN[1]),
        ([PLAN[0], PLAN[1], "turn left"], PLAN[2]),
        ([*PLAN[:3], "drop"], PLAN[2]),
        (["turn left", *PLAN[:3], "turn left"], PLAN[3]),
    ],
    ids=["first", "on the plan", "aside", "aside and back", "turned away", "undone", "later"],
)
def test_a_hint_follows_the_player(typed: list[str], hint: str) -> None:
    shown = played("babyai", "key_in_box", *typed, "hint", "quit")
    assert shown.splitlines()[-2] == f"> {hint}"
    assert shown.splitlines()[-1].removeprefix("> ").startswith(f"not solved in {len(typed)} actions")


def test_steps_of_the_plan_that_are_no_longer_needed_are_left_out() -> None:
    task = Task("alfworld", "pick_clean_then_place_in_recep_small", "train", 1)
    searched = plan_of(task)[:3]
    assert searched == ["go to diningtable 1", "go to cabinet 1", "open cabinet 1"]
    shown = played(task.environment, task.kind, "look", "hint", "quit")
    assert "> go to sinkbasin 1\n" in shown


def test_where_the_plan_fails_it_is_shown_whole() -> None:
    plan = plan_of(Task("babyai", "put_next", "train", 1))
    assert plan[:2] == ["turn right", "turn right"]
    shown = " ".join(played("babyai", "put_next", "turn left", "hint").split())
    assert f"plan does not succeed from here. From the beginning it was: {', '.join(plan)}" in shown


def test_progress_and_actions_are_shown_and_cost_no_action() -> None:
    shown = played("babyai", "key_in_box", *PLAN[:4], "actions", "progress", "")
    assert "> progress 0.50\n" in shown  # the door, in view from the start, is faced and not opened
    assert "toggle and go through purple door 1\n" in shown
    assert "not solved in 4 actions: outcome 0.50" in shown


def test_a_wording_is_played_with_its_own_hints() -> None:
    task = Task("alfworld+all", "look_at_obj_in_light_small", "train", 1)
    plan = plan_of(task)
    shown = played(task.environment, task.kind, *[line for step in plan for line in ("hint", step)])
    for step in plan:
        assert f"> {step}\n" in shown
    assert f"solved in {len(plan)} actions: outcome 1.00, progress 1.00" in shown
    shown = played(task.environment, task.kind, "help", "go to sofa 1")
    assert "from (receptacle) take (object)" in shown
    assert "> Nothing happens." in shown


def test_in_a_real_terminal() -> None:
    """Typed keys, one after the other, as each prompt comes."""
    near, far = pty.openpty()
    command = [AGENTRM, "play", "babyai+walk", "--kind", "key_in_box", "--index", "1"]
    process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, close_fds=True)
    os.close(far)
    shown = ""
    try:
        for line in ("hint", "progress", "walk to purple box 1", "quit"):
            shown += read_until(near, "> ")
            os.write(near, f"{line}\n".encode())
        shown += read_until(near, "progress 0")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(near)
    assert "walk to purple box 1" in shown
    assert "purple box 1 (1 forward)" in shown
    assert "not solved in 1 actions" in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")


def read_until(terminal: int, expected: str) -> str:
    deadline, shown = time.monotonic() + 60, ""
    while expected not in shown.replace("\x1b[0m", ""):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown
