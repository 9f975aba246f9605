"""What every environment must do, whatever its engine."""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import jsonschema
import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentrm.core.actions import ActionFormat, parse, read, render
from agentrm.core.errors import UserError
from agentrm.core.messages import checked_tools
from agentrm.core.task import SPLITS, Task
from agentrm.environments.base import Environment
from agentrm.environments.registry import environment_class, make, names

KINDS_TESTED = 4
# A perturbed environment is one, too.
NAMES = [*names(), "alfworld+all", "babyai+all"]
JUNK = [
    "",
    "   ",
    "xyzzy",
    "a" * 10_000,
    "go to \x00\x1b[31m\x07",
    "go to\n\nthe door\t\r\n",
    "\ud800 lone surrogate",
    "去红球那里",
    "اذهب إلى الباب",
    "🙂" * 20,
    "None",
    "{agent.name}",
    "'; drop table",
]


WALK = 6
# Nothing here can be a word of any environment: no letters or digits of ASCII.
FOREIGN = st.text(st.characters(min_codepoint=1, exclude_categories=()).filter(lambda c: not c.isascii()), max_size=40)
MALFORMED = st.sampled_from(
    [
        "{",
        "[]",
        "null",
        '{"action": "unknown_tool"}',
        '{"name": null, "arguments": []}',
        'unknown_tool with Action Input: {"a": 1}',
        'unknown_tool with Action Input: {"a": ',
        'unknown_tool({"a": [[[[1e999]]]]})',
        'Action: unknown_tool\nAction Input: {"a": NaN}',
        "<tool_call>{}</tool_call>",
        "%s %d {0} \\x00 \\",
        "[" * 5_000,
        '{"a":' * 5_000,
    ]
)
LONG = st.builds(lambda text: (text * 10_000)[:10_000], st.sampled_from(["qx", "( ", "\x07", "é", "\n", "\udfff", '"']))
DAMAGES: list[Callable[[str, int], str]] = [
    lambda action, at: action[:at] + action[at + 1 :],
    lambda action, at: action[:at] + action[at - 1 :],
    lambda action, at: action[:at] + "\x00" + action[at:],
    lambda action, at: action[:at] + "\ud800" + action[at:],
    lambda action, at: action[:at],
    lambda action, at: action[at:] + action[:at],
    lambda action, at: action.replace('"', "'"),
    lambda action, at: re.sub(r'"[^"]*"', "[1, null]", action[at:]) + action[:at],
    lambda action, at: re.sub(r'(: *)"[^"]*"', r"\1 -1e400", action),
    lambda action, at: re.sub(r"[0-9]+", "99999999999999999999", action),
    lambda action, at: re.sub(r"[0-9]+", '{"x": "y"}', action),
    lambda action, at: action.upper(),
    lambda action, at: f"{action}\n{action}",
]
FUZZ = settings(
    max_examples=12, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Environment, Environment]]:
    """Two instances of each environment."""
    try:
        first, second = make(request.param), make(request.param)
    except UserError as error:
        pytest.skip(str(error))
    yield first, second
    first.close()
    second.close()


def tasks(environment: Environment, split: str = "train") -> list[Task]:
    every = max(1, len(environment.kinds) // KINDS_TESTED)
    return [Task(environment.name, kind, split, 0) for kind in environment.kinds[::every]]


@pytest.fixture(scope="module")
def solved(pair: tuple[Environment, Environment]) -> list[tuple[Task, list[str]]]:
    """Tasks with the actions of the oracle."""
    environment, _ = pair
    found = []
    for task in tasks(environment):
        environment.reset(task)
        if actions := environment.expert_actions():
            found.append((task, actions))
    return found


def test_it_is_a_function_of_task_and_actions(pair: tuple[Environment, Environment]) -> None:
    first, second = pair
    for task in tasks(first):
        assert first.reset(task) == second.reset(task)
        admissible = first.admissible_actions()
        assert admissible == second.admissible_actions()
        for action in random.Random(0).choices(admissible, k=6):
            observation = first.step(action)
            assert observation == second.step(action)
            assert first.fingerprint() == second.fingerprint()
            assert first.grade() == second.grade()
            if observation.done:
                break


def test_nothing_is_carried_over_to_the_next_task(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    """Not even by an action that changes nothing, after an episode that was solved."""
    environment, _ = pair
    task = tasks(environment)[0]

    def start(engine: Environment, action: str) -> tuple[object, ...]:
        return engine.reset(task), engine.fingerprint(), engine.grade(), engine.step(action), engine.grade()

    fresh = make(environment.name)
    for action in ("look around", "inventory", *fresh_admissible(fresh, task)[:2]):
        expected = start(fresh, action)
        other, solution = solved[-1]
        environment.reset(other)
        for each in solution:
            environment.step(each)
        assert start(environment, action) == expected
    fresh.close()


def fresh_admissible(environment: Environment, task: Task) -> list[str]:
    environment.reset(task)
    return environment.admissible_actions()


def test_the_oracle_succeeds_and_progress_only_rises(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    environment, _ = pair
    assert len(solved) >= len(tasks(environment)) - 1
    for task, actions in solved:
        environment.reset(task)
        grades = [environment.grade()]
        for number, action in enumerate(actions):
            observation = environment.step(action)
            grades.append(environment.grade())
            assert observation.done == (number == len(actions) - 1)
        assert grades[0].outcome == 0
        assert not grades[0].success
        assert grades[-1].success
        assert grades[-1].outcome == pytest.approx(1)
        assert grades[-1].progress == pytest.approx(1)
        progress = [grade.progress for grade in grades]
        assert progress == sorted(progress)
        assert all(0 <= grade.progress <= 1 and 0 <= grade.outcome <= 1 for grade in grades)


def test_the_oracle_leaves_the_episode_reset(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    task = tasks(environment)[0]
    environment.reset(task)
    fresh = environment.fingerprint(), environment.grade()
    environment.expert_actions()
    assert (environment.fingerprint(), environment.grade()) == fresh


def test_what_the_oracle_thinks_is_read_back(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    environment, _ = pair
    for task, actions in solved:
        environment.reset(task)
        for t, action in enumerate(actions):
            here = environment.fingerprint(), environment.grade()
            thought = environment.thought(actions[t:])
            assert (environment.fingerprint(), environment.grade()) == here
            environment.step(action)
            assert parse(render(thought, action, ActionFormat.react), ActionFormat.react) == (thought, action, False)


def test_nothing_is_taken_off_an_action(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    environment, _ = pair
    oracle = {action for _, actions in solved for action in actions}
    for action in oracle | set(fresh_admissible(environment, tasks(environment)[0])):
        for form in (ActionFormat.bare, ActionFormat.react):
            turn = read(render("I see.", action, form), form)
            assert (turn.action, turn.malformed, turn.removed) == (action, False, "")


def test_an_action_is_a_call_and_back(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]
) -> None:
    """Word for word; the call is of a tool on offer, and its arguments are what the tool's schema asks for."""
    environment, _ = pair
    walked = dict(solved) | {task: fresh_admissible(environment, task) for task in tasks(environment)}
    for task, actions in walked.items():
        tools = environment.tools(task.kind)
        assert tools is environment.tools(task.kind), "renderers remember them"
        assert checked_tools(json.loads(json.dumps(tools))) == list(tools)
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
        for schema in schemas.values():
            jsonschema.Draft202012Validator.check_schema(schema)
        for action in {*actions, *dict(solved).get(task, [])}:
            call = environment.call(action)
            arguments = json.loads(call.arguments)
            jsonschema.validate(arguments, schemas[call.name])
            assert environment.action(call.name, arguments) == action


def test_a_call_that_is_no_action_is_refused_or_answered(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    for task in tasks(environment):
        environment.reset(task)
        for tool in environment.tools(task.kind):
            for arguments in ({}, {"command": 1, "keywords": None}, {"element": ["a"], "x": {}}):
                with suppress(ValueError):
                    assert environment.step(environment.action(tool["function"]["name"], arguments)).text.strip()


@FUZZ
@given(actions=st.lists(st.one_of(FOREIGN, MALFORMED, LONG, st.sampled_from(JUNK)), min_size=1, max_size=4))
@example(actions=JUNK)
def test_junk_is_a_normal_action(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]], actions: list[str]
) -> None:
    """It is answered, costs no progress and ends nothing, and the task can still be solved."""
    environment, _ = pair
    task, solution = min(solved, key=lambda each: len(each[1]))
    environment.reset(task)
    for junk in actions:
        observation = environment.step(junk)
        assert observation.text
        assert not observation.done
        assert 0 <= environment.grade().progress < 1
    for action in solution:
        observation = environment.step(action)
    assert observation.done
    assert environment.grade().success


@FUZZ
@given(data=st.data())
def test_a_damaged_action_is_answered(
    pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]], data: st.DataObject
) -> None:
    """Real actions with characters lost, doubled or replaced, and with values of other types."""
    environment, other = pair
    task, solution = min(solved, key=lambda each: len(each[1]))
    environment.reset(task)
    for action in solution:
        damaged = data.draw(st.sampled_from(DAMAGES))(action, data.draw(st.integers(0, len(action))))
        observation = environment.step(damaged)
        assert isinstance(observation.text, str) and observation.text
        grade = environment.grade()
        assert 0 <= grade.progress <= 1 and 0 <= grade.outcome <= 1
        if observation.done:
            break
    first = environment.reset(task), environment.fingerprint()
    assert first == (other.reset(task), other.fingerprint())


def test_a_state_can_be_had_again(pair: tuple[Environment, Environment], solved: list[tuple[Task, list[str]]]) -> None:
    """By replay and, where there are snapshots, by one, in this or another live engine; and it goes on as before."""
    environment, other = pair
    task, actions = sorted(solved, key=lambda solution: len(solution[1]))[len(solved) // 2]
    middle = len(actions) // 2

    def replay(engine: Environment) -> None:
        engine.reset(task)
        for action in actions[:middle]:
            engine.step(action)

    replay(environment)
    ways = [replay]
    if environment.snapshots:
        state = environment.snapshot()
        ways.append(lambda engine: engine.restore(state))
    expected = environment.fingerprint(), environment.grade(), environment.admissible_actions()
    rest = [environment.step(action) for action in actions[middle:]]
    other.reset(tasks(environment)[-1])
    for engine in (environment, other):
        for reach in ways:
            reach(engine)
            assert (engine.fingerprint(), engine.grade(), engine.admissible_actions()) == expected
            assert [engine.step(action) for action in actions[middle:]] == rest


def test_snapshots_of_a_walk_are_its_states(pair: tuple[Environment, Environment]) -> None:
    """Restored in any order, each is the state that it was taken in, also after an engine went on from it."""
    environment, other = pair
    if not environment.snapshots:
        pytest.skip("it has no snapshots")
    chance = random.Random(1)
    task = chance.choice(tasks(environment))
    environment.reset(task)
    taken = [(environment.fingerprint(), environment.grade(), environment.snapshot())]
    for _ in range(WALK):
        if environment.step(chance.choice(environment.admissible_actions())).done:
            break
        taken.append((environment.fingerprint(), environment.grade(), environment.snapshot()))
    for fingerprint, grade, state in chance.sample(taken * 2, k=2 * len(taken)):
        engine = chance.choice((environment, other))
        engine.restore(state)
        assert (engine.fingerprint(), engine.grade()) == (fingerprint, grade)
        engine.step(chance.choice(engine.admissible_actions()))


def test_without_snapshots_one_is_refused(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    if not environment.snapshots:
        with pytest.raises(NotImplementedError, match="replay"):
            environment.snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_tasks_that_do_not_exist_are_refused(name: str) -> None:
    cls = environment_class(name)
    for kind in cls.kinds:
        assert all(cls.size(kind, split) > 0 for split in SPLITS)
    with pytest.raises(UserError, match="no kind 'nonsense'"):
        cls.size("nonsense", "train")
    with pytest.raises(UserError, match="unknown split 'dev'"):
        cls.size(cls.kinds[0], "dev")


def test_an_index_out_of_range_is_refused(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    kind = environment.kinds[0]
    for index in (-1, environment.size(kind, "test")):
        with pytest.raises(UserError, match="out of range"):
            environment.reset(Task(environment.name, kind, "test", index))


def test_splits_start_differently(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    firsts = []
    for split in SPLITS:
        environment.reset(Task(environment.name, environment.kinds[0], split, 0))
        firsts.append(environment.fingerprint())
    assert len(set(firsts)) == len(SPLITS)


@pytest.mark.parametrize("name", NAMES)
def test_close_leaves_nothing_behind(name: str) -> None:
    def open_things() -> tuple[set[int], set[str], int]:
        processes = {child.pid for child in me.children(recursive=True)}
        return processes, {thread.name for thread in threading.enumerate()}, me.num_fds()

    def live_once() -> None:
        environment = make(name)
        environment.reset(tasks(environment)[0])
        environment.close()
        environment.close()

    me = psutil.Process()
    try:
        live_once()  # the first one may open what the engine's library keeps, once
    except UserError as error:
        pytest.skip(str(error))
    before, since = open_things(), time.monotonic()
    while time.monotonic() - since < 0.5:  # threads of that life, and of tests before this one, may still be ending
        time.sleep(0.05)
        if (now := open_things()) != before:
            before, since = now, time.monotonic()
    live_once()
    deadline = time.monotonic() + 5
    while open_things() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_things() == before


def test_generated_tasks_of_two_seeds_differ(pair: tuple[Environment, Environment]) -> None:
    environment, _ = pair
    if environment.name.startswith("scienceworld"):
        pytest.skip("its tasks are not generated")
    kind = environment.kinds[-1]
    texts = [environment.reset(Task(environment.name, kind, "train", 0, seed)).text for seed in range(4)]
    assert len(set(texts)) > 1
