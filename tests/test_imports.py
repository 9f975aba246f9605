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
import gc, importlib, os, sys, traceback
from contextlib import suppress
packages, modules = sys.argv[1].split(), sys.argv[2].split()
children, failed = {}, []

def start(name, function, *arguments):
    child = os.fork()
    if not child:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children[child] = name

def end():
    child, status = os.wait()
    name = children.pop(child)
    if status:
        failed.append(name)

def tell():
    for name in modules:
        importlib.import_module(name)
    with open(sys.argv[3], "w") as file:
        file.write(" ".join(name for name in sys.modules if name.split(".")[0] not in packages))

start("all of them", tell)
end()
assert not failed
with open(sys.argv[3]) as file:
    others = file.read().split()
for name in others:
    with suppress(Exception):
        importlib.import_module(name)
assert not [name for name in sys.modules if name.split(".")[0] in packages]
# A child that looks for garbage among all of these would copy them.
gc.freeze()
for name in modules:
    if len(children) == os.cpu_count():
        end()
    start(name, importlib.import_module, name)
while children:
    end()
sys.exit(f"cannot be imported first: {failed}" if failed else 0)
"""


def test_every_module_can_be_imported_first(tmp_path: Path) -> None:
    assert {"agentrm.config", "agentrm.core.actions", "actors.serving", "jobs.trees"} <= set(MODULES)
    command = [sys.executable, "-c", SCRIPT, " ".join(PACKAGES), " ".join(MODULES), str(tmp_path / "others")]
    found = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
