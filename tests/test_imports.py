"""Every module can be the first one that is imported: no two of them need each other to begin with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("agentrm", "actors", "jobs")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]

# Other packages are imported once, and each module of ours in a process that has none of them.
SCRIPT = """
import importlib, os, sys, traceback
from contextlib import suppress
packages, modules = sys.argv[1].split(), sys.argv[2].split()

def alone(function):
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0

def tell():
    for name in modules:
        importlib.import_module(name)
    with open(sys.argv[3], "w") as file:
        file.write(" ".join(name for name in sys.modules if name.split(".")[0] not in packages))

assert alone(tell)
with open(sys.argv[3]) as file:
    others = file.read().split()
for name in others:
    with suppress(Exception):
        importlib.import_module(name)
assert not [name for name in sys.modules if name.split(".")[0] in packages]
failed = [name for name in modules if not alone(lambda: importlib.import_module(name))]
sys.exit(f"cannot be imported first: {failed}" if failed else 0)
"""


def test_every_module_can_be_imported_first(tmp_path: Path) -> None:
    assert {"agentrm.config", "agentrm.core.actions", "actors.serving", "jobs.trees"} <= set(MODULES)
    command = [sys.executable, "-c", SCRIPT, " ".join(PACKAGES), " ".join(MODULES), str(tmp_path / "others")]
    found = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
