from random import Random

import pytest

from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import SessionPool
from agentrm.environments.registry import make

pytest.importorskip("minigrid")
LEVELS_WITHOUT_BLOCKED_WAYS = ("goto_red_ball", "goto_local", "open_door", "pickup_loc", "put_next_local", "key_in_box")


@pytest.fixture
def environment():
    found = make("babyai")
    yield found
    found.close()


def test_an_episode_by_hand(environment) -> None:
    """A game that was looked at once, and the engine's own grid: what is said is what is there."""
    observation = environment.reset(Task("babyai", "goto_local", "train", 3))
    world = environment._world
    assert observation.text.startswith(f"Your task: {world.engine.mission}. You see: ")
    ahead, right = world.engine.dir_vec, world.engine.right_vec
    for thing, forward, side in world.visible:
        assert world.engine.grid.get(*(world.engine.agent_pos + forward * ahead + side * right)) is thing
        assert world.names[thing] in observation.text


def test_turning_four_times_is_no_change(environment) -> None:
    environment.reset(Task("babyai", "goto_local", "train", 0))
    view = environment._world.describe()
    for _ in range(4):
        observation = environment.step("turn left")
    assert observation.text == view


def test_what_cannot_be_done_is_said(environment) -> None:
    environment.reset(Task("babyai", "goto_local", "train", 3))
    assert environment.step("go to pink ball 1").text.startswith("You have not seen pink ball 1. You see")
    assert environment.step("fly").text.startswith("That is not an action. You see")
    assert environment.step("drop").text.startswith("Nothing happens. You see")
    name = next(iter(environment._world.names.values()))
    assert environment.step(f"go through {name}").text.startswith(f"{name} is not a door.")
    assert environment.step(f"put next to {name}").text.startswith("You carry nothing.")


def test_hands_hold_one_thing_and_put_it_down_where_asked(environment) -> None:
    environment.reset(Task("babyai", "put_next_local", "train", 0))
    actions = environment.expert_actions()
    world = environment._world
    for action in actions[:-1]:
        environment.step(action)
    world = environment._world
    carried = world.engine.carrying
    assert f"You carry {world.names[carried]}." in environment.step("turn left").text
    environment.step("turn right")
    assert environment.step(actions[-1]).done
    fixed = next(thing for thing, name in world.names.items() if name == actions[-1].removeprefix("put next to "))
    (x, y), (u, v) = world.positions()[carried], world.positions()[fixed]
    assert abs(x - u) + abs(y - v) == 1


def test_the_oracle_speaks_of_what_was_seen_or_is_asked_for(environment) -> None:
    pool = SessionPool()
    task = Task("babyai", "unlock", "train", 0)  # "open a purple door", behind a blue one
    plan = tuple(pool.expert_actions(task))
    assert pool.expert_thoughts(task, plan) == [
        *["I have to go to the purple door. I have not seen it yet. At least 2 more actions."] * 5,
        "I have to toggle and go through the blue door, then go to the purple door. At least 2 more actions.",
        "I have to go to the purple door. At least 1 more action.",
        "I toggle what is ahead of me.",
    ]
    assert pool.observe(task, plan).done
    assert (pool.counters["steps"], pool.counters["replayed"]) == (len(plan), 0)
    environment.reset(Task("babyai", "pickup_dist", "train", 0))  # "pick up a grey object"
    assert environment.thought(environment.expert_actions()) == "I look around."


def test_progress_counts_the_subgoals_of_an_opened_door(environment) -> None:
    environment.reset(Task("babyai", "open_red_door", "train", 0))
    progress = []
    for action in environment.expert_actions():
        environment.step(action)
        progress.append(environment.grade().progress)
    assert progress[-2:] == pytest.approx([2 / 3, 1])  # found and faced; opened


@pytest.mark.parametrize("kind", LEVELS_WITHOUT_BLOCKED_WAYS)
def test_the_oracle_solves_levels_without_blocked_ways(environment, kind: str) -> None:
    for index in range(6):
        environment.reset(Task("babyai", kind, "valid", index))
        actions = environment.expert_actions()
        assert 0 < len(actions) <= environment.max_steps


def test_observations_are_short(environment) -> None:
    words = []
    for kind in environment.kinds[:10]:
        words.append(len(environment.reset(Task("babyai", kind, "train", 0)).text.split()))
        words += [len(environment.step(action).text.split()) for action in environment.expert_actions()]
    assert sum(words) / len(words) < 40


def test_a_walk_that_ends_the_episode_on_its_way_is_an_observation(environment) -> None:
    # `go to X` may face the target of the mission before it reaches X: the engine then ends the episode in mid-walk.
    rng = Random(0)
    verbs, colours, things = (
        ("go to", "pick up", "put next to"),
        ("red", "green", "purple", "grey"),
        ("ball", "box", "key"),
    )
    ended = 0
    for index in range(60):
        environment.reset(Task("babyai", "goto_local", "train", index))
        for _ in range(15):
            action = f"{rng.choice(verbs)} {rng.choice(colours)} {rng.choice(things)} 1"
            if environment.step(rng.choice([action, action, "turn left"])).done:
                ended += 1
                break
    assert ended
