"""What requirements-cpu.txt pins, and this package, into the environment of the Python that runs this.

uv fetches and builds packages side by side, and links those that it had before from its cache. It does not read pip's
settings, so it is told of them. Where it cannot be had or fails, pip does the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_REQUIREMENTS = _ROOT / "requirements-cpu.txt"
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
_UV = str(Path(sys.executable).with_name("uv"))
_UV_PIN = "uv==0.13.9"

# pip's settings and the options of uv that mean the same.
_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "cert": "--cert",
}

_PINS = [line for line in _REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
_TORCH = next(pin for pin in _PINS if pin.startswith("torch=="))

_TOLD_S = 10
_START = time.monotonic()


def main(torch_index: str = "") -> int:
    """Install everything; `torch_index` is one more index, for PyTorch's CPU build. Returns the exit status."""
    print(f"installing {len(_PINS)} packages into {sys.prefix}", flush=True)
    if not (_run([*_PIP, "install", "--only-binary", "uv", _UV_PIN]) and _install(_uv(torch_index))):
        print("uv could not install them: pip tries, which takes longer", flush=True)
        if not _install([*_PIP, "install", *(["--extra-index-url", torch_index] if torch_index else [])]):
            print(f"If {_TORCH} was not found: look up PyTorch's CPU wheel index, then", file=sys.stderr)
            print("make install TORCH_INDEX=<index>", file=sys.stderr)
            return 1
    print(f"{_placed()} packages are in {sys.prefix} after {time.monotonic() - _START:.0f} s")
    return 0


def _install(installer: list[str]) -> bool:
    # The package is built with the setuptools that is pinned, in place of one fetched for that.
    return _run([*installer, "--no-deps", "-r", str(_REQUIREMENTS)]) and _run(
        [*installer, "--no-deps", "--no-build-isolation", "-e", str(_ROOT)]
    )


def _uv(torch_index: str) -> list[str]:
    """The beginning of uv's command, which finds PyTorch's CPU build."""
    # Else each of the many processes of a run compiles all that it imports, where users let Python write no bytecode.
    command = [_UV, "pip", "install", "--compile-bytecode", "--python", sys.executable, *_as_uv(_pip_settings())]
    if torch_index:
        return [*command, "--index", torch_index]
    if subprocess.run([*command, "--no-deps", "--dry-run", _TORCH], capture_output=True).returncode == 0:
        return command
    print(f"{_TORCH} is at no index that pip is set up with: asking PyTorch's own", flush=True)
    return [*command, "--torch-backend", "cpu"]


def _pip_settings() -> dict[str, str]:
    """pip's settings for `pip install` by their names, from its files and its variables."""
    listed = subprocess.run([*_PIP, "config", "list"], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    settings = {}
    for section in ("global.", "install.", ":env:."):  # each goes before the one above
        for line in listed:
            name, _, value = line.partition("=")
            if name.startswith(section):
                settings[name.removeprefix(section)] = ast.literal_eval(value)
    return settings


def _as_uv(settings: dict[str, str]) -> list[str]:
    """The options that make uv look where pip looks, at all indexes alike."""
    options = ["--index-strategy", "unsafe-best-match"]
    if settings.get("no-index", "false").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    for name, option in _OPTIONS.items():
        for value in settings.get(name, "").split():
            options += [option, str(Path(value).expanduser()) if value.startswith("~") else value]
    return options


def _run(command: list[str]) -> bool:
    """Run a command and show what it does: uv's own display on a terminal, else its lines and now and then a count."""
    if command[0] == _UV and sys.stderr.isatty():
        return subprocess.run(command).returncode == 0
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(_TOLD_S):
            print(f"{time.monotonic() - _START:.0f} s: {_placed()} of {len(_PINS)} packages are in place", flush=True)

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    threading.Thread(target=count, daemon=True).start()
    assert process.stdout is not None
    for line in process.stdout:
        # uv lists all packages at its end, and pip every index on a disk that lacks one of them.
        if not line.startswith(" + ") and "is ignored: it is neither a file nor a directory" not in line:
            print(line, end="", flush=True)
    ended.set()
    return process.wait() == 0


def _placed() -> int:
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
