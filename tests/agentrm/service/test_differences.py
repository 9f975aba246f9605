"""What the service keeps of conversations is bounded in number and in characters."""

from __future__ import annotations

import pytest

from agentrm.core.messages import Conversation
from agentrm.service import differences
from agentrm.service.differences import Continued, Kept, UnknownBeginning


def said(text: str) -> Conversation:
    return Conversation([{"role": "user", "content": text}])


@pytest.mark.parametrize(("name", "bound"), [("_KEPT", 2), ("_CHARACTERS", 8)])
def test_the_oldest_are_forgotten(name: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, name, bound)
    kept = Kept()
    names = [kept.keep(said(text)) for text in ("aaaa", "bbbb", "cccc")]
    more = [{"role": "assistant", "content": "d"}]
    assert kept.whole(Continued(names[2], more)).messages == [*said("cccc").messages, *more]
    with pytest.raises(UnknownBeginning):
        kept.whole(Continued(names[0], more))


def test_what_is_longer_than_all_that_is_kept_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "_CHARACTERS", 8)
    kept = Kept()
    name = kept.keep(Conversation([{"role": "assistant", "content": None, "reasoning_content": "a" * 9}]))
    with pytest.raises(UnknownBeginning):
        kept.whole(Continued(name, []))
