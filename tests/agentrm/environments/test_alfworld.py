import os
import random
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentrm.environments import Task, make

if find_spec("alfworld") is None:  # not importorskip: the bare import sets ALFWORLD_DATA
    pytest.skip("ALFWorld is not installed", allow_module_level=True)

SMALL = [Task("alfworld", kind, "train", 3) for kind in ("pick_heat_then_place_in_recep_small", "look_at_obj_in_light")]


def walk(state, step, seed: int) -> list[tuple[str, list[str]]]:
    """Texts and admissible commands along a random walk; `step` maps a command to the next state."""
    rng = random.Random(seed)
    seen = [(state.feedback, list(state.admissible_commands))]
    for _ in range(6):
        state = step(rng.choice([*state.admissible_commands, "nonsense"]))
        seen.append((state.feedback, list(state.admissible_commands)))
    return seen


@pytest.mark.parametrize("task", SMALL, ids=lambda task: task.kind)
def test_it_plays_as_plain_textworld_does(task: Task) -> None:
    make("alfworld").close()  # installs the speed-up
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    from agentrm.environments import alfworld as module
    from agentrm.environments import alfworld_engine, alfworld_games

    game = alfworld_games.generated_game(task)
    fast = alfworld_engine.Engine()
    ours = [walk(fast.start(game), lambda command: fast.step(command)[0], seed) for seed in range(1)]

    assert module._undo_speed_up is not None
    module._undo_speed_up()
    try:
        data = Path(alfworld_engine._DATA)
        grammar = (data / "alfred.twl2").read_text().replace("UNKNOWN GOAL", game.goal)
        plain = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)), shuffle=False)
        domain = (data / "alfred.pddl").read_text()
        plain.load({"pddl_domain": domain, "grammar": grammar, "pddl_problem": game.problem})
        theirs = [walk(plain.reset(), lambda command: plain.step(command)[0], seed) for seed in range(1)]
    finally:
        module._undo_speed_up = alfworld_engine.speed_up()
    assert ours == theirs
    fast.close()


def test_import_leaves_the_data_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    make("alfworld").close()
    assert "ALFWORLD_DATA" not in os.environ


def test_small_games_are_small() -> None:
    environment = make("alfworld")
    for kind in environment.kinds:
        if kind.endswith("_small"):
            first = environment.reset(Task("alfworld", kind, "test", 1)).text
            actions = environment.expert_actions()
            assert len(first.split()) < 90
            assert 3 <= len(actions) <= environment.max_steps // 2
    environment.close()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few official games, unpacked from the archive that AGENTRM_TEST_DATA holds."""
    archive = Path(os.environ.get("AGENTRM_TEST_DATA", "")) / "alfworld_games.tar.xz"
    if not archive.is_file():
        pytest.skip("set AGENTRM_TEST_DATA to a directory with alfworld_games.tar.xz")
    target = tmp_path_factory.mktemp("official")
    with tarfile.open(archive) as games:
        members = [member for member in games if "/valid_seen/" in member.name and member.name.endswith(".tw-pddl")]
        games.extractall(target, members, filter="data")
    return target


def test_official_games_load_and_their_walkthroughs_win(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(official))
    environment = make("alfworld")
    kinds = [kind for kind in environment.kinds if not kind.endswith("_small")]
    assert sum(environment.size(kind, "valid") for kind in kinds) == 140
    for kind in kinds:
        assert environment.reset(Task("alfworld", kind, "valid", 0)).text.count("Your task is to: ") == 1
        actions = environment.expert_actions()
        assert actions, kind
        for action in actions:
            observation = environment.step(action)
        assert observation.done
        assert environment.grade().success
    environment.close()


def test_the_scripted_oracle_wins_official_games(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(official))
    environment = make("alfworld")
    from agentrm.environments.alfworld_games import scripted_plan

    for kind in environment.kinds[2:6:2]:
        environment.reset(Task("alfworld", kind, "valid", 1))
        for action in scripted_plan(environment._game.problem, environment._engine.names):
            observation = environment.step(action)
            if observation.done:
                break
        assert observation.done, kind
    environment.close()


def test_milestones_of_heating() -> None:
    environment = make("alfworld")
    environment.reset(Task("alfworld", "pick_heat_then_place_in_recep_small", "train", 0))
    actions = environment.expert_actions()
    by_verb = {}
    for action in actions:
        environment.step(action)
        by_verb[action.split()[0]] = environment.grade().progress
    assert by_verb["take"] == pytest.approx(1 / 3)
    assert by_verb["heat"] == pytest.approx(2 / 3)
    assert by_verb["move"] == 1
    environment.close()
