from typing import Annotated, Literal

import pytest
from pydantic import Field

from agentrm.environments.tools.toolkit import ToolError, Toolkit, tool, write_action, write_result


class Bell(Toolkit):
    @tool
    def ring(self, times: Annotated[int, Field(ge=1)], tone: Literal["low", "high"] = "low") -> str:
        """ring the bell"""
        return f"{tone}!" * times

    @tool
    def finish(self) -> str:
        """go home"""
        return "Bye."

    def values(self):
        return {"times": [1, 2], "tone": ["low", "high", "low"]}


def call(action: str):
    bell = Bell()
    return bell.run(*bell.parse(action))


def test_a_call_is_parsed_and_run() -> None:
    assert call('ring with Action Input: {"times": 2}') == "low!low!"
    assert call('  ring  with Action Input:\n{"tone": "high",\n "times": "1"}  ') == "high!"
    assert call("check_valid_actions with Action Input: {}") == ["ring", "finish", "check_valid_actions"]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("ring", "an action has the form: tool_name with Action Input: {json arguments}"),
        ("sing with Action Input: {}", "there is no tool sing: choose one of ring, finish, check_valid_actions"),
        ("values with Action Input: {}", "there is no tool values: choose one of ring, finish, check_valid_actions"),
        ("ring with Action Input: {}", "ring: times: Field required"),
        (
            'ring with Action Input: {"times": "many", "tone": "mid"}',
            "ring: times: Input should be a valid integer, unable to parse string as an integer; "
            "tone: Input should be 'low' or 'high'",
        ),
        ('ring with Action Input: {"times": 0}', "ring: times: Input should be greater than or equal to 1"),
        ('ring with Action Input: {"times": 1, "loud": 1}', "ring: loud: Extra inputs are not permitted"),
        ('ring with Action Input: {"times": 1', "ring: Invalid JSON: EOF while parsing an object at line 1 column 11"),
        ("ring with Action Input: [1]", "ring: the arguments must be a JSON object"),
    ],
)
def test_what_is_wrong_is_said(action: str, text: str) -> None:
    with pytest.raises(ToolError) as caught:
        call(action)
    assert str(caught.value) == text


def test_the_manual_names_types_defaults_and_meaning() -> None:
    assert Bell.manual() == (
        '- ring(times: integer, tone: "low" or "high" = "low"): ring the bell\n'
        "- finish(): go home\n"
        "- check_valid_actions(): the names of all tools"
    )


def test_calls_take_the_values_of_the_world_together() -> None:
    assert Bell().calls() == [
        'ring with Action Input: {"times": 1, "tone": "low"}',
        'ring with Action Input: {"times": 2, "tone": "high"}',
        "finish with Action Input: {}",
        "check_valid_actions with Action Input: {}",
    ]


def test_writing() -> None:
    assert write_action("ring", {"tone": "höch"}) == 'ring with Action Input: {"tone": "höch"}'
    assert write_result("as it is") == "as it is"
    assert write_result([1, None, "é"]) == '[1, null, "é"]'
