"""Every form is recognised and read: messages, tools, outcome, task, labels and rewards of the steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrm.config.schema import Episodes
from agentrm.core.errors import InputRefused, UserError
from agentrm.core.messages import checked
from agentrm.episodes.columns import Columns
from agentrm.episodes.episode import Episode
from agentrm.episodes.forms import atif
from agentrm.episodes.recognise import FORMS, named, recognised
from tests.agentrm.episodes import records

NORWAY = checked(records.MESSAGES)
THOUGHT = [NORWAY[0], NORWAY[1] | {"reasoning_content": "It flies?"}, *NORWAY[2:]]
NO = [NORWAY[0], {"role": "assistant", "content": "No."}]


def read(record: dict[str, Any], **settings: Any) -> list[Episode]:
    return list(recognised(record).read(record, Columns(Episodes(**settings))))


CASES = {
    "atif": (records.ATIF, THOUGHT, 1.0, "", "m"),
    "openai": (records.OPENAI, NORWAY, 1.0, "7", "m"),
    "sharegpt": (records.SHAREGPT, records.SPOKEN, 1.0, "flights_7", ""),
    "verifiers": (records.VERIFIERS, NORWAY, 1.0, "7", "m"),
    "completion": (records.OLDER, NORWAY, 1.0, "7", ""),
    "trajectory": (records.TRAJECTORY, NORWAY, 1.0, "django__1", ""),
    "nemo_gym": (records.NEMO_GYM, THOUGHT, 1.0, "7", "m"),
    "pairs": (records.TRL, NORWAY, 1.0, "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_recognised_and_read(name: str) -> None:
    record, messages, outcome, task, model = CASES[name]
    record = json.loads(json.dumps(record))
    assert recognised(record).name == name
    episode = read(record)[0]
    assert list(episode.messages) == messages
    assert (episode.outcome, episode.model) == (outcome, model)
    assert episode.task == task if task else len(episode.task) == 24, (
        "what has no task is of the task that it opens with"
    )
    assert list(episode.tools) == ([] if name == "sharegpt" else records.TOOLS)


def test_messages_may_be_json_text_as_in_many_tables() -> None:
    (episode,) = read({"messages": json.dumps(records.MESSAGES), "tools": json.dumps(records.TOOLS), "success": True})
    assert list(episode.messages) == NORWAY and list(episode.tools) == records.TOOLS and episode.outcome == 1


def test_step_labels_are_those_of_the_messages_that_they_name() -> None:
    (episode,) = read(records.PROCESS_BENCH)
    assert list(episode.labels) == [-1, 1] and episode.outcome == 1
    assert (episode.task, episode.source) == ("3", "hotpotqa")
    with pytest.raises(InputRefused, match="message 2, which is no turn of the agent"):
        read(records.PROCESS_BENCH | {"step_labels": {"2": 1}})


def test_atif_has_the_rewards_of_its_steps_and_their_sum_unless_a_verifier_says_more() -> None:
    (episode,) = read(records.ATIF)
    assert list(episode.rewards) == [0.25, 0.75]
    trial = {"task_name": "flights", "trial_name": "flights__1", "verifier_result": {"rewards": {"reward": 0.5}}}
    (episode,) = read(records.ATIF | {atif.TRIAL: trial})
    assert (episode.outcome, episode.task, episode.id) == (0.5, "flights", "flights__1")
    trial["verifier_result"] = {"rewards": {"speed": 0.25, "tests": 1.0}}
    (episode,) = read(records.ATIF | {atif.TRIAL: trial}, outcome="verifier_result.rewards.speed")
    assert episode.outcome == 0.25


def test_a_newer_atif_is_refused() -> None:
    for change, told in (
        ({"schema_version": "ATIF-v2.0"}, "schema_version is 'ATIF-v2.0'"),
        ({"schema_version": "ATIF-v1.9"}, r"ATIF-v1\.8 is the newest"),
    ):
        with pytest.raises(InputRefused, match=told):
            read(records.ATIF | change)


def test_each_branch_of_a_verifiers_trace_is_an_episode() -> None:
    first, second = read(records.VERIFIERS)
    assert list(second.messages) == NO
    assert (first.id, second.id) == ("t1/0", "t1/1") and first.outcome == second.outcome == 1.0
    circle = [{"parent": 1, "message": records.MESSAGES[0]}, {"parent": 0, "message": records.MESSAGES[1]}]
    with pytest.raises(InputRefused, match=r"nodes\[0\]\.parent is 1"):
        read(records.VERIFIERS | {"nodes": circle})


@pytest.mark.parametrize("record", [records.TRL, records.TOOLRM, records.PLAN_REWARDBENCH])
def test_a_pair_is_two_episodes_of_one_task(record: dict[str, Any]) -> None:
    chosen, rejected = read(record)
    assert (chosen.side, chosen.outcome, rejected.side, rejected.outcome) == ("chosen", 1, "rejected", 0)
    assert chosen.task == rejected.task and list(rejected.messages) == NO


def test_plan_rewardbenchs_calls_belong_to_the_turn_before_them() -> None:
    chosen = read(records.PLAN_REWARDBENCH)[0]
    roles = [message["role"] for message in chosen.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    calls = chosen.messages[1]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"to": "Oslo"}', '{"to": "Bergen"}']
    assert [message["tool_call_id"] for message in chosen.messages if message["role"] == "tool"] == [
        "call_1",
        "call_2",
        "call_3",
    ]
    assert chosen.messages[4] == {"role": "assistant", "content": None, "tool_calls": chosen.messages[4]["tool_calls"]}


def test_a_pair_in_plain_text_and_one_whose_sides_begin_differently() -> None:
    chosen, _ = read({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"})
    assert list(chosen.messages) == [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    apart = {"chosen": NORWAY, "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No."}]}
    with pytest.raises(InputRefused, match="begin differently"):
        read(apart)
    assert {each.task for each in read(apart | {"uuid": "u"})} == {"u"}


def test_the_last_label_of_stepwise_supervision_is_the_outcome() -> None:
    (episode,) = read(records.STEPWISE)
    assert list(episode.labels) == [-1, 1] and episode.outcome == 1
    with pytest.raises(InputRefused, match="labels holds 1, but completions 2"):
        read(records.STEPWISE | {"labels": [True]})


def test_what_the_user_names_goes_first() -> None:
    record = records.OPENAI | {"info": {"solved": 0.5}, "question": {"a": 1}}
    (episode,) = read(record, outcome="info.solved", task="question")
    assert (episode.outcome, episode.task) == (0.5, '{"a": 1}')
    (episode,) = read(record | {"reward": -1}, scale=[-1.0, 3.0])
    assert episode.outcome == 0.0
    (episode,) = read({key: value for key, value in records.SHAREGPT.items() if key != "reward"}, outcome="1")
    assert episode.outcome == 1.0


def test_where_no_outcome_is_needed_there_may_be_none() -> None:
    record = {"messages": records.MESSAGES}
    (episode,) = recognised(record).read(record, Columns(Episodes(), required=False))
    assert episode.outcome is None


def test_forms_have_names_and_a_record_of_none_is_refused() -> None:
    assert all(named(form.name) is form for form in FORMS)
    with pytest.raises(UserError, match=r"no form 'parquet'.*openai"):
        named("parquet")
    with pytest.raises(InputRefused, match="no form fits its fields text, lang"):
        recognised({"text": "a", "lang": "en"})
