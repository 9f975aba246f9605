"""The tricky environments, offered as another package would: by an entry point of an installed distribution."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrm.environments import registry, screening


@pytest.fixture
def tricky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    metadata = tmp_path / "tricky-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tricky\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\ntricky = tricky_environment:Tricky\ncostly = tricky_environment:Costly\n"
        "once = tricky_environment:Once\n"
    )
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield
    forget()


@pytest.fixture(autouse=True)
def no_stored_answers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of official data is kept for the test, not for the user."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(screening, "user_cache_path", lambda _: cache)


def forget() -> None:
    registry._entries.cache_clear()
    registry._base_class.cache_clear()
