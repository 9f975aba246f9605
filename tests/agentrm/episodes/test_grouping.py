"""Episodes of one task that begin alike are one tree, whose values are worked out by hand here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from agentrm.core.messages import checked
from agentrm.core.tree import Origin
from agentrm.data.trees import from_table, to_table
from agentrm.episodes.episode import Episode
from agentrm.episodes.grouping import task, trees
from tests.agentrm.episodes import records

USER = {"role": "user", "content": "A flight to Oslo?"}


def said(*turns: str) -> list[dict[str, str]]:
    """The agent and the environment in turn."""
    roles = ("assistant", "user")
    return [USER, *({"role": roles[index % 2], "content": turn} for index, turn in enumerate(turns))]


def episode(*turns: str, outcome: float = 0.0, line: int = 1, **fields: object) -> Episode:
    return Episode(said(*turns), outcome=outcome, task="7", source="flights", file="log", line=line, **fields)


def test_a_states_value_is_the_mean_outcome_of_the_episodes_through_it() -> None:
    some = [
        episode("look", "SK 1", "take", "taken", outcome=1.0, line=1, model="m", labels=[1, 1], rewards=[0.5, None]),
        episode("look", "SK 1", "leave", outcome=0.5, line=2, labels=[0, -1]),
        episode("look", "nothing", "leave", outcome=0.0, line=3),
        episode("look", "SK 1", "take", "taken", outcome=0.0, line=4, labels=[-1, 0]),
    ]
    its_task = task(some[0], "imported")
    ((tree,), problems) = trees(its_task, some)
    assert not problems and (tree.iterations, tree.ended_by, tree.task) == (4, "imported", its_task)
    nodes = [(node.parent, node.text, node.observation, node.visits, node.value, node.outcome) for node in tree.nodes]
    assert nodes == [
        (-1, "", USER["content"], 4, 0.375, None),
        (0, "look", "SK 1", 3, 0.5, None),
        (1, "take", "taken", 2, 0.5, 0.5),
        (1, "leave", "", 1, 0.5, 0.5),
        (0, "look", "nothing", 1, 0.0, None),
        (4, "leave", "", 1, 0.0, 0.0),
    ]
    assert [node.merged for node in tree.nodes] == [4, 3, 2, 1, 1, 1]
    assert [node.label for node in tree.nodes] == [None, 0.0, 0.5, -1.0, None, None]
    assert [node.reward for node in tree.nodes] == [None, 0.5, None, None, None, None]
    assert tree.nodes[2].origins == (Origin("log", 1, "", "m", 1.0), Origin("log", 4, "", "", 0.0))
    assert list(tree.state(3).conversation().messages) == said("look", "SK 1", "leave"), "no word is added"
    assert to_table(from_table(to_table(tree))) == to_table(tree)


def test_tools_calls_thoughts_and_several_answers_come_back_as_they_were() -> None:
    calls = [records.CALL, records.CALL | {"id": "c2"}]
    messages = checked(
        [
            {"role": "system", "content": "Help."},
            {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": calls},
            {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "search"},
            {"role": "tool", "content": "2", "tool_call_id": "c2"},
            {"role": "user", "content": "Well?"},
            {"role": "assistant", "content": "Both."},
            {"role": "assistant", "content": "Done."},
        ]
    )
    given = Episode(messages, records.TOOLS, 1.0, "7")
    ((tree,), _) = trees(task(given, "imported"), [given])
    conversation = from_table(to_table(tree)).state(3).conversation()
    assert list(conversation.messages) == messages and list(conversation.tools) == records.TOOLS
    assert tree.nodes[1].action == 'search({"to": "Oslo"})\nsearch({"to": "Oslo"})'


def test_episodes_that_begin_differently_are_trees_of_one_task() -> None:
    other = [{"role": "system", "content": "Help."}, *said("look")]
    some = [episode("look"), episode("go", line=2), replace(episode("look", line=3), messages=other)]
    some.append(replace(episode("look", line=4), tools=records.TOOLS))
    found, _ = trees(task(some[0], "imported"), some)
    assert [tree.number for tree in found] == [0, 1, 2]
    assert sorted(tree.nodes[0].visits for tree in found) == [1, 1, 2]
    again, _ = trees(task(some[0], "imported"), some[::-1])
    assert [to_table(tree) for tree in again] == [to_table(tree) for tree in found], "the order of reading is nothing"


def test_an_id_that_was_there_before_is_told() -> None:
    some = [episode("look", line=1, id="e1"), episode("go", line=2, id="e1"), episode("go", line=3, id="e2")]
    (tree,), (problem,) = trees(task(some[0], "imported"), some)
    assert tree.nodes[0].visits == 2
    assert str(problem) == "log, line 2: the id 'e1' was there before, in log, line 1"


def test_a_task_alone_decides_its_split_and_index() -> None:
    first = task(episode("look"), "imported")
    assert first == task(episode("go", line=9, outcome=1.0), "imported")
    assert (first.environment, first.kind, first.seed) == ("imported", "flights", 0)
    other = task(replace(episode("look"), source="my data/2"), "mine")
    assert (other.environment, other.kind) == ("mine", "my_data_2") and other.split == first.split and other != first
    many = [task(replace(episode("look"), task=str(number)), "imported") for number in range(2000)]
    splits = Counter(each.split for each in many)
    assert splits["train"] == pytest.approx(1600, abs=60) and splits["valid"] == pytest.approx(200, abs=45)
    assert len({each.id for each in many}) == 2000 and all(0 <= each.index < 2**31 for each in many)
