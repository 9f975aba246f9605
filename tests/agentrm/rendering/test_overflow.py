"""What exceeds a context is shortened by one rule: it fits, ends in the same turn, keeps the task and the tools, and is
the same in training as where it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrm.config.schema import End, Evaluate, Labels, Overflow
from agentrm.core.errors import ContextOverflow, ModelError
from agentrm.core.messages import AGENT, Conversation, Message, runs
from agentrm.core.protocols import CostedValue
from agentrm.core.state import State
from agentrm.core.task import Task
from agentrm.core.tree import Node, Tree
from agentrm.data.states import samples
from agentrm.models.baselines import score_what_fits
from agentrm.rendering.overflow import shortened
from agentrm.rendering.renderer import Renderer, settle_overflow
from agentrm.search.beam import Beam
from agentrm.search.result import Result
from agentrm.search.strategy import search
from tests.agentrm.rendering.test_renderer import TEMPLATES, tokenizer
from tests.agentrm.search.toy import BARE, EvenPolicy, ToySessions
from tests.agentrm.search.toy import TASK as TOY

RULES = [Overflow.truncate_observations, Overflow.drop_middle]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
TASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Find the ball."}]


def said(*turns: tuple[str, str]) -> list[Message]:
    """Turns of the agent with the answers to them, "" for none."""
    made: list[Message] = []
    for turn, answer in turns:
        made.append({"role": AGENT, "content": turn})
        made += [{"role": "user", "content": answer}] if answer else []
    return made


def letters(most: int, asked: list[int] | None = None):
    """Whether a conversation has so many letters at most."""

    def fits(each: Conversation) -> bool:
        length = sum(len(message["content"]) for message in each.messages)
        if asked is not None:
            asked.append(length)
        return length <= most

    return fits


def test_the_earliest_turns_go_as_few_as_have_to() -> None:
    whole = Conversation([*TASK, *said(("a" * 10, "b" * 10), ("c" * 10, "d" * 10), ("e" * 10, "f" * 10))], [TOOL])
    opening = len(TASK[0]["content"]) + len("Find the ball.\n[1 turns left out]")
    found = shortened(whole, Overflow.drop_middle, letters(opening + 40))
    assert found == Conversation(
        [
            TASK[0],
            {"role": "user", "content": "Find the ball.\n[1 turns left out]"},
            *said(("c" * 10, "d" * 10), ("e" * 10, "f" * 10)),
        ],
        [TOOL],
    )
    last = shortened(whole, Overflow.drop_middle, letters(opening + 39))
    assert last is not None and last.messages[2:] == said(("e" * 10, "f" * 10))
    assert shortened(whole, Overflow.drop_middle, letters(opening + 19)) is None


def test_answers_are_cut_in_their_middle_to_one_length() -> None:
    whole = Conversation([*TASK, *said(("go", "0123456789"), ("up", "abc"), ("on", ""))], [TOOL])
    rest = len("Be brief.Find the ball.goupon") + len("abc")
    found = shortened(whole, Overflow.truncate_observations, letters(rest + 9))
    assert found == Conversation([*TASK, *said(("go", "01[...]89"), ("up", "abc"), ("on", ""))], [TOOL])
    assert shortened(whole, Overflow.truncate_observations, letters(len("Be brief.Find the ball.goupon"))) is None
    assert shortened(Conversation(TASK), Overflow.truncate_observations, letters(5)) is None


def test_a_long_conversation_takes_few_looks() -> None:
    asked: list[int] = []
    whole = Conversation([*TASK, *said(*[("x" * 10, "y" * 10)] * 1000)])
    found = shortened(whole, Overflow.drop_middle, letters(500, asked))
    assert found is not None and len(asked) <= 12


def reader(template: str, rule: Overflow, context: int, actions: bool = False) -> Renderer:
    special, text = TEMPLATES[template]
    return Renderer(tokenizer(special, text), context, actions=actions, overflow=rule)


WORDS = st.text(st.sampled_from("ab cd.\n"), min_size=1, max_size=120).filter(str.strip)
EPISODES = st.lists(st.tuples(st.sampled_from(["go on", "up", "turn left"]), WORDS), min_size=1, max_size=6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("template", ["quickstart", "zephyr", "forgetful", "channels"])
@given(turns=EPISODES, context=st.integers(60, 300), acts=st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_is_read_fits_and_ends_in_the_same_turn(
    template: str, rule: Overflow, turns: list[tuple[str, str]], context: int, acts: bool
) -> None:
    messages = [TASK[1], *said(*turns)][: -1 if acts else None]
    whole = reader(template, rule, 10**6).ids(messages)
    model = reader(template, rule, context)
    try:
        ids, left_out = model.fitted(messages)
    except ContextOverflow:
        assert len(whole) > context
        return
    assert len(ids) <= context and left_out == len(whole) - len(ids) and (left_out > 0) == (len(whole) > context)
    assert ids == reader(template, rule, context).render(messages).ids, "the same whoever reads it"
    text = model.tokenizer.decode(ids)
    assert "Find the ball." in text and turns[-1][0] in text
    alone = reader(template, rule, 10**6)
    last = alone.ids([TASK[1], *said(turns[-1])][: -1 if acts else None])
    if rule is Overflow.drop_middle and left_out:
        step = len(last) - len(alone.ids([TASK[1]]))
        assert ids[-step:] == last[-step:], "the last step is whole"
    assert ids[-1] == whole[-1]


def chain(turns: list[tuple[str, str]]) -> Tree:
    """A tree of one path."""
    nodes = [Node(-1, 0, observation="Find the ball.", action="", visits=1, value=0.0)]
    for depth, (turn, answer) in enumerate(turns, 1):
        nodes[-1].children.append(depth)
        nodes.append(Node(depth - 1, depth, observation=answer, action=turn, text=turn, visits=1, value=depth / 10))
    return Tree(Task("toy", "kind", "train", 0), nodes)


@pytest.mark.parametrize("rule", [*RULES, Overflow.refuse])
@pytest.mark.parametrize("template", ["quickstart", "forgetful"])
@given(turns=EPISODES, context=st.integers(60, 300))
@settings(max_examples=25, deadline=None)
def test_training_reads_what_is_scored(
    template: str, rule: Overflow, turns: list[tuple[str, str]], context: int
) -> None:
    tree, model = chain(turns), reader(template, rule, context, actions=True)
    made = samples([tree], model, Labels(at=[End.state, End.action]))
    expected, refused = {}, 0
    for index in range(len(tree.nodes)):
        conversation = tree.state(index).conversation()
        for at, messages in ((End.state, conversation.messages), (End.action, conversation.messages[:-1])):
            try:
                if at is End.state or index:
                    expected[index, at] = model.fitted(messages)
            except ContextOverflow:
                refused += at is End.state
    read, label = {}, 0
    for row, count in enumerate(made.sequences.label_counts):
        ids = made.sequences.ids[made.sequences.starts[row] : made.sequences.starts[row + 1]].tolist()
        assert len(ids) <= context
        for _ in range(count):
            owner = made.owners[label]
            read[owner.node, owner.at] = ids[: made.sequences.positions[label] + 1]
            label += 1
    assert all(ids == expected[owner][0] for owner, ids in read.items())
    states = {index for index, at in expected if at is End.state}
    assert {index for index, at in read if at is End.state} == states
    assert made.overflows == refused
    long = sum(left_out > 0 for (_, at), (_, left_out) in expected.items() if at is End.state)
    assert (made.shortened > 0) == (long > 0) and made.shortened >= long


def test_an_action_before_a_shortened_state_is_read_as_it_is_scored() -> None:
    tree = chain([("go on", "a" * 80), ("up", "b" * 80)])
    conversation = tree.state(2).conversation().messages
    whole = reader("quickstart", Overflow.drop_middle, 10**6)
    context = len(whole.ids(conversation)) - 1
    made = samples(
        [tree],
        reader("quickstart", Overflow.drop_middle, context, actions=True),
        Labels(at=[End.state, End.action]),
    )
    found = [(owner.node, owner.at) for owner in made.owners]
    assert sorted(found) == sorted([(0, End.state), *((n, at) for n in (1, 2) for at in (End.state, End.action))])
    assert made.shortened == 1 and made.overflows == 0


def test_a_beginning_that_cannot_be_shortened_enough_is_counted() -> None:
    tree = chain([("go on", "a" * 200), ("up", "b")])
    made = samples([tree], reader("quickstart", Overflow.drop_middle, 80))
    assert [(owner.node, owner.at) for owner in made.owners] == [(2, End.state), (0, End.state)]
    assert (made.overflows, made.shortened) == (1, 1)


class Lengths:
    """A reward model that counts tokens."""

    async def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        return [CostedValue(float(len(each)), len(each), 0) for each in ids]


class Drawn:
    """Scores what a search asks for by `Lengths`, as the service does."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    async def score(self, states: Sequence[State]) -> list[float]:
        return await score_what_fits(Lengths().score_ids, self.renderer, [state.conversation() for state in states])


async def test_a_search_counts_the_states_that_are_read_in_part() -> None:
    settings = Evaluate(width=2, branches=2, max_depth=9)
    whole = reader("quickstart", Overflow.refuse, 10**6)
    opening = len(whole.ids([{"role": "user", "content": "after 0"}]))

    async def cost(rule: Overflow, context: int) -> Result:
        model = Drawn(reader("quickstart", rule, context))
        return await search(Beam(2, 2), TOY, EvenPolicy(3), ToySessions(), model, settings, BARE)

    long = await cost(Overflow.refuse, 10**6)
    assert long.cost.shortened_states == 0 and long.score is not None and long.score > opening
    assert (await cost(Overflow.drop_middle, 10**6)).cost.shortened_states == 0
    short = await cost(Overflow.drop_middle, int(long.score) - 1)
    assert 0 < short.cost.shortened_states < short.cost.scored_states and short.score is not None
    assert short.score < long.score and short.cost.unread_states == 0
    refused = await cost(Overflow.refuse, int(long.score) - 1)
    assert 0 < refused.cost.unread_states < refused.cost.scored_states and refused.cost.shortened_states == 0


def test_the_steps_that_stay_are_whole_runs() -> None:
    whole = Conversation([*TASK, *said(("a", "b"), ("c", "d"), ("e", "f"))])
    for most in range(20, 70):
        found = shortened(whole, Overflow.drop_middle, letters(most))
        if found is not None:
            opening, steps = runs(found.messages)
            kept = runs(whole.messages)[1]
            assert steps == kept[len(kept) - len(steps) :] and opening[0] == TASK[0]


def test_a_model_declares_its_rule_and_the_context_that_it_learned_with(tmp_path: Path) -> None:
    special, template = TEMPLATES["quickstart"]
    tokenizer(special, template).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    messages = [TASK[1], *said(*[("go on", "c" * 40)] * 6)]
    settle_overflow(tmp_path, Overflow.drop_middle, 150)
    learned, wide, narrow = (Renderer.from_pretrained(tmp_path, context).fitted(messages) for context in (150, 999, 99))
    assert learned == wide and learned[1] > 0 and len(narrow[0]) <= 99
    settle_overflow(tmp_path, Overflow.refuse, 150)
    with pytest.raises(ContextOverflow, match="the model's context is 150"):
        Renderer.from_pretrained(tmp_path, 150).ids(messages)
    assert Renderer.from_pretrained(tmp_path, 999).fitted(messages)[1] == 0
    for broken in ('"drop_middle"', '{"rule": "refuse", "context": 5}', '{"rule": "drop_middle"}'):
        (tmp_path / "config.json").write_text(f'{{"model_type": "llama", "agentrm_overflow": {broken}}}')
        with pytest.raises(ModelError, match=r"agentrm_overflow in the config\.json of"):
            Renderer.from_pretrained(tmp_path, 150)
