"""The made-up data of the shop's benchmark is in WebShop's published form."""

from pathlib import Path

import pytest

for package in ("bm25s", "ijson", "rapidfuzz", "textblob"):
    pytest.importorskip(package)

from agentrm.environments.webshop.official import official_shop  # noqa: E402
from jobs.benchmarks import shop  # noqa: E402


def test_its_products_are_read_and_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "_VOCABULARY", 1000)
    shop.write_data(tmp_path, 100)
    found = official_shop(tmp_path)
    assert len(found.catalogue.products) == 100
    assert not found.left_out
    first, last = sorted(found.goals["sessions", "test"], key=lambda goal: goal.asin)
    assert (first.asin, last.asin) == ("B000000000", "B000000098")
    assert found.catalogue.search(last.title)[0] == last.asin
