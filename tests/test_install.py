"""The installation: uv looks where pip looks, and what is shown of a long command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import install


def test_uv_is_told_of_pips_settings_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_CERT", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a.invalid/simple\nextra-index-url =\n    https://b.invalid/s\n    file:///c/s\n"
        "find-links = /global\n[install]\nfind-links = ~/install\n[download]\nno-index = true\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "b.invalid d.invalid")
    monkeypatch.setenv("HOME", str(tmp_path))

    def pairs() -> list[tuple[str, str]]:
        options = install._as_uv(install._pip_settings())
        return list(zip(options[2::2], options[3::2], strict=True))

    # The machine's own files are read as well, and may name a certificate.
    assert [pair for pair in pairs() if pair[0] != "--cert"] == [
        ("--default-index", "https://a.invalid/simple"),
        ("--index", "https://b.invalid/s"),
        ("--index", "file:///c/s"),
        ("--find-links", f"{tmp_path}/install"),
        ("--allow-insecure-host", "b.invalid"),
        ("--allow-insecure-host", "d.invalid"),
    ]
    monkeypatch.setenv("PIP_FIND_LINKS", "/variable")
    assert ("--find-links", "/variable") in pairs() and ("--find-links", f"{tmp_path}/install") not in pairs()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "--no-index" in install._as_uv(install._pip_settings())


def test_a_long_command_is_never_silent_and_noise_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "_TOLD_S", 0.1)
    noise = "WARNING: Location 'file:///x/' is ignored: it is neither a file nor a directory."
    script = f"import time; print('Built jericho', flush=True); time.sleep(0.5); print({noise!r}); print(' + a==1')"
    assert install._run([sys.executable, "-c", script])
    shown = capsys.readouterr().out.splitlines()
    # On a slow machine it is told of before it says anything.
    shown.remove("Built jericho")
    assert len(shown) > 1
    assert all(line.endswith(f"{install._placed()} of {len(install._PINS)} packages are in place") for line in shown)
    assert install._placed() > 0
    assert not install._run([sys.executable, "-c", "raise SystemExit(3)"])
