import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from agentrm.core.errors import EnvironmentFailure, UserError
from agentrm.core.task import Task
from agentrm.environments.hosting.host import EnvironmentHost

pytestmark = pytest.mark.usefixtures("tricky")
TASK = Task("tricky", "count", "train", 1)
DEADLINE_S = 1.0


@contextlib.asynccontextmanager
async def hosting(deadline_s: float = DEADLINE_S) -> AsyncIterator[EnvironmentHost]:
    host = EnvironmentHost(deadline_s, max_sessions=4)
    try:
        yield host
    finally:
        await host.aclose()


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until_gone(pid: int) -> None:
    limit = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < limit, f"process {pid} is still there"
        time.sleep(0.02)


def test_an_episode_through_the_host() -> None:
    async def run() -> None:
        async with hosting() as host:
            assert (await host.observe(TASK, ())).text == "task 1: 0"
            actions = tuple(await host.expert_actions(TASK))
            assert await host.expert_thoughts(TASK, actions) == [""] * len(actions)
            assert (await host.observe(TASK, actions)).done
            assert (await host.grade(TASK, actions)).success
            tasks = [Task("tricky", "count", "train", index) for index in range(8)]
            observed = await asyncio.gather(*(host.observe(task, ()) for task in tasks))
            assert [observation.text for observation in observed] == [f"task {index}: 0" for index in range(8)]
            counters = await host.counters()
            assert counters["steps"] == 3
            assert counters["kills"] == 0

    asyncio.run(run())


def test_a_hanging_call_fails_alone_and_blocks_nothing() -> None:
    async def run() -> None:
        async with hosting() as host:
            await host.observe(TASK, ("add",))
            hanging = asyncio.create_task(host.observe(TASK, ("add", "hang")))
            await asyncio.sleep(0)
            others = [asyncio.create_task(host.observe(TASK, ("add", "add"))) for _ in range(3)]
            ticks = 0
            while not hanging.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks > 20  # the event loop went on all the while
            with pytest.raises(EnvironmentFailure, match=r"timed out after 1 s: task tricky.count.train.1.0, .*'hang'"):
                await hanging
            assert [(await other).text for other in others] == ["2"] * 3
            assert (await host.counters())["kills"] == 1

    asyncio.run(run())


def test_waiting_for_others_is_no_time_of_ones_own() -> None:
    """Two hanging calls one after the other take two deadlines; the call behind them still succeeds."""

    async def run() -> None:
        async with hosting() as host:
            calls = [("hang",), ("wait", "hang"), ("add",)]
            results = await asyncio.gather(*(host.observe(TASK, call) for call in calls), return_exceptions=True)
            assert [type(result) for result in results[:2]] == [EnvironmentFailure] * 2
            assert results[2].text == "1"

    asyncio.run(run())


def test_a_crash_fails_one_call() -> None:
    async def run() -> None:
        async with hosting() as host:
            with pytest.raises(EnvironmentFailure, match=r"process died: task tricky.count.train.1.0, action 'crash'"):
                await host.observe(TASK, ("add", "crash"))
            assert (await host.observe(TASK, ("add",))).text == "1"

    asyncio.run(run())


def children() -> list[psutil.Process]:
    """All processes that this one has started, but for Python's own trackers of what others' tests have shared."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if "multiprocessing.resource_tracker" not in " ".join(each.cmdline())]


def test_a_process_killed_between_calls_is_replaced_unnoticed() -> None:
    async def run() -> None:
        async with hosting() as host:
            await host.observe(TASK, ("add",))
            (child,) = children()
            child.kill()
            wait_until_gone(child.pid)
            assert (await host.observe(TASK, ("add", "add"))).text == "2"

    asyncio.run(run())


def test_errors_keep_their_kind_and_the_process() -> None:
    async def run() -> None:
        async with hosting() as host:
            with pytest.raises(EnvironmentFailure, match="out of order"):
                await host.observe(TASK, ("raise",))
            with pytest.raises(UserError, match="out of range: tricky count has 100 tasks in train"):
                await host.observe(Task("tricky", "count", "train", 100), ())
            with pytest.raises(UserError, match="unknown environment 'chess'"):
                await host.observe(Task("chess", "mate", "train", 0), ())
            assert (await host.counters())["kills"] == 0

    asyncio.run(run())


def test_what_an_environment_started_dies_with_it() -> None:
    async def run() -> None:
        async with hosting() as host:
            grandchild = int((await host.observe(TASK, ("spawn",))).text)
            assert is_running(grandchild)
            with pytest.raises(EnvironmentFailure):
                await host.observe(TASK, ("spawn", "hang"))
            wait_until_gone(grandchild)

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are kept together by Linux")
@pytest.mark.parametrize("end", ["close", "hang"])
def test_what_an_environment_left_is_gone_after_it(end: str) -> None:
    """A thread that never ends, a temporary file, and a process in a session of its own whose parent has ended."""

    async def run() -> None:
        async with hosting() as host:
            process, path = (await host.observe(TASK, ("leak",))).text.split()
            assert is_running(int(process))
            assert Path(path).exists()
            if end == "close":
                await host.aclose()
            else:
                with pytest.raises(EnvironmentFailure):
                    await host.observe(TASK, ("leak", "hang"))
            wait_until_gone(int(process))
            assert not Path(path).parent.exists()
        assert children() == []

    asyncio.run(run())


def test_many_calls_have_an_answer_each_in_order() -> None:
    """Of two environments; one call hangs, one crashes, one is wrong."""
    pytest.importorskip("minigrid")
    other = Task("babyai", "goto_obj", "train", 0)
    chains = [("add",), ("add", "crash"), ("add", "add"), ("hang",), ("add", "add", "add")]

    async def run() -> None:
        async with hosting() as host:
            calls = [("observe", TASK, chain) for chain in chains]
            calls += [("observe", other, ()), ("grade", TASK, ("add",) * 3), ("observe", TASK, ("add",) * 4)]
            answers = await host.answer(calls)
            errors = [error for error, _ in answers]
            assert errors == [None, EnvironmentFailure, None, EnvironmentFailure, None, None, None, UserError]
            assert [answers[index][1].text for index in (0, 2, 4)] == ["1", "2", "3"]
            assert "process died: task tricky.count.train.1.0, action 'crash'" in answers[1][1]
            assert "timed out after 1 s: task tricky.count.train.1.0, action 'hang'" in answers[3][1]
            assert answers[5][1].text.startswith("Your task: ")
            assert answers[6][1].success
            assert "ended after 3 of 4 actions" in answers[7][1]
            assert (await host.counters())["kills"] == 2

    asyncio.run(run())


def test_close_leaves_no_process_thread_or_descriptor() -> None:
    me = psutil.Process()

    async def run() -> None:
        async with hosting() as host:
            await asyncio.gather(*(host.observe(Task("tricky", "count", "train", index), ()) for index in range(6)))
            assert len(children()) == 1
            await host.aclose()
            with pytest.raises(EnvironmentFailure, match="closed"):
                await host.observe(TASK, ())

    asyncio.run(run())
    before = me.num_fds(), threading.active_count()
    asyncio.run(run())
    assert (me.num_fds(), threading.active_count()) == before
    assert children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is signalled by Linux")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Even in the middle of a hanging call, when they do not look at their connection."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, psutil\n"
        "from agentrm.environments import Task\n"
        "from agentrm.environments.hosting.host import EnvironmentHost\n"
        "async def run():\n"
        "    host = EnvironmentHost(1000, 4)\n"
        "    task = Task('tricky', 'count', 'train', 1)\n"
        "    await host.observe(task, ())\n"
        "    hanging = asyncio.create_task(host.observe(task, ('hang',)))\n"
        "    await asyncio.sleep(0.2)\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    await hanging\n"
        "asyncio.run(run())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(child)
