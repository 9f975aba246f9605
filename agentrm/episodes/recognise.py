"""Which form a record is of: the first that fits, or the one that the user named."""

from __future__ import annotations

from agentrm.core.errors import InputRefused, UserError
from agentrm.episodes.columns import Record, listed
from agentrm.episodes.forms import atif, nemo_gym, openai, pairs, sharegpt, stepwise, trajectory, verifiers
from agentrm.episodes.forms.form import Form

FORMS = (
    atif.FORM,
    nemo_gym.FORM,
    verifiers.FORM,
    sharegpt.FORM,
    trajectory.FORM,
    pairs.FORM,
    stepwise.FORM,
    verifiers.OLDER,
    openai.FORM,
)
"""In the order in which they are tried: rows of several forms have a column `messages` as well."""


def named(name: str) -> Form:
    """The form of a name. Raises UserError."""
    match = next((form for form in FORMS if form.name == name), None)
    if match is None:
        raise UserError(f"there is no form {name!r}: form= is one of {', '.join(form.name for form in FORMS)}")
    return match


def recognised(record: Record) -> Form:
    """The form of a record. Raises InputRefused."""
    match = next((form for form in FORMS if form.fits(record)), None)
    if match is None:
        forms = ", ".join(form.name for form in FORMS)
        raise InputRefused(f"no form fits its fields {listed(record)}: name one of {forms} with form=")
    return match
