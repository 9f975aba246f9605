"""Reading an action out of a policy's turn, in the two forms that agents write."""

from __future__ import annotations

from agentrm.config.schema import ActionFormat


def parse(text: str, form: ActionFormat) -> tuple[str, str, bool]:
    """(thought, action, malformed) of one turn.

    `bare`: the whole turn is the action, which must be one line. `react`: the text after the last "Action:". A turn
    that holds no action in its form is malformed, and its whole text is the action, so that the environment answers it.
    """
    text = text.strip()
    if form is ActionFormat.bare:
        return "", text, not text or "\n" in text
    head, marker, tail = text.rpartition("Action:")
    action = tail.strip().partition("\n")[0].strip()
    if not marker or not action:
        return "", text, True
    return head.strip().removeprefix("Thought:").strip(), action, False


def render(thought: str, action: str, form: ActionFormat) -> str:
    """The turn that `parse` reads back."""
    if form is ActionFormat.bare:
        return action
    return f"Thought: {thought}\nAction: {action}" if thought else f"Action: {action}"
