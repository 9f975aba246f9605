"""Rewriting text between two wordings, there and back by the same function."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{(\w+)\}")


class Rewriting:
    """Exchanges two wordings wherever a text holds one of them: what is in the first comes out in the second, and the
    other way round, so that twice is the text again.

    A wording is a form such as `take {object} from {receptacle}`; `slots` gives the pattern of each slot, which must
    have no groups. Forms match whole words; a space in a form stands for any white space and comes out as one space.
    """

    def __init__(self, *pairs: tuple[str, str], slots: Mapping[str, str], ignore_case: bool = False) -> None:
        exchanges = [exchange for first, second in pairs for exchange in ((first, second), (second, first))]
        self._templates = {f"form_{number}": template for number, (_, template) in enumerate(exchanges)}
        alternatives = []
        for (form, _), group in zip(exchanges, self._templates, strict=True):
            parts = _SLOT.split(form)
            literals = [re.escape(part).replace(r"\ ", r"\s+") for part in parts[::2]]
            fillings = [f"(?P<{group}_{name}>{slots[name]})" for name in parts[1::2]] + [""]
            pattern = "".join(piece for pair in zip(literals, fillings, strict=True) for piece in pair)
            alternatives.append(rf"(?P<{group}>(?<!\w){pattern}(?!\w))")
        self._pattern = re.compile("|".join(alternatives), re.IGNORECASE if ignore_case else 0)

    def __call__(self, text: str) -> str:
        """The text in the other wording."""
        return self._pattern.sub(self._exchange, text)

    def _exchange(self, match: re.Match[str]) -> str:
        # A form's own group closes after those of its slots, so it is the last.
        group = match.lastgroup
        assert group is not None
        return _SLOT.sub(lambda slot: match[f"{group}_{slot[1]}"], self._templates[group])
