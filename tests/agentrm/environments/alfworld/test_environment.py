import json
import os
import random
import re
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentrm.core.task import Task
from agentrm.environments.registry import environment_class, make

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

    from agentrm.environments.alfworld import engine as alfworld_engine
    from agentrm.environments.alfworld import environment as module
    from agentrm.environments.alfworld import games as alfworld_games

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
        assert environment.reset(environment.task(kind, "valid", 0)).text.count("Your task is to: ") == 1
        actions = environment.expert_actions()
        assert actions, kind
        for action in actions:
            observation = environment.step(action)
        assert observation.done
        assert environment.grade().success
    environment.close()


KIND, HEAT = "pick_and_place_simple", "pick_heat_then_place_in_recep"


@pytest.fixture
def copied(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of two official games of two kinds, to be changed."""
    for kind in (KIND, HEAT):
        game = min((official / "json_2.1.1" / "valid_seen").glob(f"{kind}-*/*/game.tw-pddl"))
        target = tmp_path / game.relative_to(official)
        target.parent.mkdir(parents=True)
        target.write_bytes(game.read_bytes())
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    return tmp_path / "json_2.1.1" / "valid_seen"


@pytest.mark.parametrize("written", ["put {0} in/on {1}", "put {0} on {1}", "lay {0} down", None])
def test_demonstrations_of_games_with_old_walkthroughs(copied: Path, written: str | None) -> None:
    (path,) = copied.glob(f"{KIND}-*/*/*")
    game = json.loads(path.read_text())
    present = game["walkthrough"]
    assert sum(action.startswith("move ") for action in present) == 1
    game["walkthrough"] = written and [
        written.format(*match.groups()) if (match := re.match("move (.*) to (.*)", action)) else action
        for action in present
    ]
    path.write_text(json.dumps(game))
    environment = make("alfworld")
    environment.reset(environment.task(KIND, "valid", 0))
    actions = environment.expert_actions()
    assert (actions == present) == bool(written and written.startswith("put"))
    for action in actions:
        observation = environment.step(action)
    assert observation.done
    environment.close()


def test_games_count_by_the_rule_of_alfworld(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path,) = copied.glob(f"{KIND}-*/*/*")
    game = json.loads(path.read_text())

    def add(folder: str, text: str) -> None:
        (copied / folder).mkdir(parents=True)
        (copied / folder / "game.tw-pddl").write_text(text)

    add(f"{KIND}-a/1", json.dumps(game | {"solvable": False}))
    add(f"{KIND}-b/1", json.dumps({key: value for key, value in game.items() if key != "solvable"}))
    add(f"{KIND}-c/1", json.dumps(game)[:5000])
    add(f"{KIND}-d/1", json.dumps(game | {"grammar": "none"}))
    add(f"{KIND}-e/1", json.dumps({"solvable": True}))
    add(f"{KIND}-f/1", "[]")
    add(f"{KIND}-AppleSliced-g/1", json.dumps(game))
    add("pick_and_place_with_movable_recep-h/1", json.dumps(game))
    add(f"{KIND}-i/1", json.dumps(game))
    (copied / f"{KIND}-i/1/traj_data.json").write_text(json.dumps({"task_type": HEAT}))
    environment = environment_class("alfworld")
    assert [environment.size(kind, "valid") for kind in (KIND, HEAT)] == [1, 2]
    left_out = environment.official.find(KIND, "valid").left_out
    assert sorted(Path(name).parent.parent.name.split("-")[-1] for name in left_out) == list("abcdefgh")
    (told,) = caplog.messages
    assert "3 entries are used" in told
    assert "2 x not marked as solvable" in told
    assert "2 x with movable receptacles or sliced objects" in told


def test_the_scripted_oracle_wins_official_games(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(official))
    environment = make("alfworld")
    from agentrm.environments.alfworld.games import scripted_plan

    for kind in environment.kinds[2:6:2]:
        environment.reset(environment.task(kind, "valid", 1))
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
