"""HAProxy's configuration, as the installed Ray writes it, without the pages that face every network."""

from __future__ import annotations

import pytest
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from actors.haproxy import closed


def test_the_pages_of_the_installed_ray_are_left_out() -> None:
    binds = [line.strip() for line in closed(HAPROXY_CONFIG_TEMPLATE).splitlines() if line.strip().startswith("bind ")]
    assert binds
    assert all("frontend_host" in bind for bind in binds)


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="found 0 of its 2 pages"):
        closed("global\n    maxconn 4096\n")
