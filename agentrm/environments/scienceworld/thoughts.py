"""What ScienceWorld's oracle thinks: what an action is for, as far as the task and the last answer say it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PREPARING = ("open door to", "go to", "teleport to", "look around")
_AIMS = (
    (r"focus on (.+)", "The task asks me to focus on what it is about: {0}."),
    (r"pick up (.+)", "I take the {0} along."),
    (r"(?:put down|drop) (.+)", "I do not need to hold the {0} any longer."),
    (r"move (.+?) to (.+)", "The {0} has to be in the {1}."),
    (r"pour (.+?) (?:in|into) (.+)", "What is in the {0} belongs into the {1}."),
    (r"dunk (.+?) (?:in|into) (.+)", "I get the {0} filled from the {1}."),
    (r"mix (.+)", "Everything is in the {0}, so I mix it."),
    (r"use thermometer\b.* on (.+)", "I measure how warm the {0} is now."),
    (r"use (.+?) on (.+)", "The {0} works on the {1}."),
    (r"connect (.+?) to (.+)", "The circuit needs the {0} at the {1}."),
    (r"disconnect (.+)", "I take the {0} out of the circuit."),
    (r"deactivate (.+)", "I turn the {0} off again."),
    (r"activate (.+)", "I turn the {0} on."),
    (r"open (.+)", "I want to see what is in the {0}."),
    (r"close (.+)", "The {0} can be shut."),
    (r"read (.+)", "The {0} may say what I need."),
    (r"(?:examine|look at|look in) (.+)", "I look how the {0} is now."),
    (r"eat (.+)", "I eat the {0}."),
    (r"flush (.+)", "I flush the {0}."),
    (r"wait\d*", "This takes time, so I wait."),
    (r"inventory", "I look what I carry."),
    (r"task", "I read the task again."),
)
_ROOM = re.compile(r"(?:open door to|go to|teleport to) (.+)")


def thought(plan: Sequence[str], told: str) -> str:
    """The thought before a plan; what is only known to the oracle, since `told` does not say it, is left out."""
    action = plan[0]
    if action == "look around":
        return "I look what is here."
    if room := _ROOM.fullmatch(action):
        purpose = next((step for step in plan if not step.startswith(_PREPARING)), "")
        known = _objects(purpose) and all(name in told.lower() for name in _objects(purpose))
        why = f" There I want to {purpose}." if known else ""
        if action.startswith("open door"):
            return f"The door to the {room[1]} is on my way.{why}"
        return f"I have to get to the {room[1]}.{why}"
    for pattern, sentence in _AIMS:
        if match := re.fullmatch(pattern, action):
            return sentence.format(*map(_plain, match.groups()))
    return ""


def _plain(name: str) -> str:
    return name.removesuffix(" in inventory").removeprefix("the ")


def _objects(action: str) -> list[str]:
    """The things that an action names."""
    for pattern, _ in _AIMS:
        if match := re.fullmatch(pattern, action):
            return [_plain(name).lower() for name in match.groups()]
    return []
