"""Every failure is attributed to one boundary: the user's input, an environment, or a model.

A failed rollout is data (it is counted under its boundary); a failed command ends with one line and `exit_code`.
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def reason(error: BaseException) -> str:
    """The last line of an error's text, or its type without one: Ray writes the remote traceback before it."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


class AgentRMError(Exception):
    """Base of all errors that AgentRM raises on purpose; its text is one line that names the thing and the fix."""

    exit_code = 1


class UserError(AgentRMError):
    """The configuration, a path, a task or a file that the user gave cannot be used."""

    exit_code = 2


class EnvironmentFailure(AgentRMError):
    """An environment crashed, hung past its deadline or could not start: never counted as the policy's reward."""

    exit_code = 3


class ModelError(AgentRMError):
    """A policy or reward model cannot be loaded, or answered with something unusable."""

    exit_code = 4


class ModelUnavailable(ModelError):
    """A model answers nobody: a wrong key, an unknown name, a dead address. Going on without it makes no sense."""


class InputRefused(ModelError):
    """A model cannot read what it was given."""


class ContextOverflow(InputRefused):
    """A conversation is longer than the model's context."""


def chosen(noun: str, name: str, among: Mapping[str, T], hint: str = "") -> T:
    """What a user chose by its name. Raises UserError with all names where it is empty or none of them."""
    known = f"{', '.join(among)}{hint}"
    if not name:
        raise UserError(f"which {noun}? Name one of {known}")
    if name not in among:
        raise UserError(f"no {noun} {name!r}: choose one of {known}")
    return among[name]
