"""Fleets on a real cluster: they follow their load, and nothing asked of a lost member is lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import ray

from actors import scaling
from actors.fleet import Fleet, Size
from actors.scaling import scaled
from agentrm.core.errors import AgentRMError


@ray.remote(num_cpus=0.1, max_restarts=-1, max_task_retries=-1)
class Worker:
    """Sleeps on request."""

    def __init__(self) -> None:
        self._load = 0

    async def work(self, number: int, seconds: float) -> int:
        self._load += 1
        await asyncio.sleep(seconds)
        self._load -= 1
        return number

    async def hang(self) -> None:
        """Nothing of this process answers for a while."""
        time.sleep(6)

    async def load(self) -> int:
        return self._load


@ray.remote(num_cpus=0.1, max_restarts=-1, max_task_retries=-1)
class Tidy:
    """Has a file that it removes when it is told to end."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / ray.get_runtime_context().get_actor_id()
        self._file.touch()

    async def load(self) -> int:
        return 0

    async def close(self) -> None:
        self._file.unlink()


@ray.remote(num_cpus=0.1, max_restarts=-1, max_task_retries=-1)
class Broken:
    """Cannot start."""

    def __init__(self) -> None:
        raise RuntimeError("no memory is left")

    async def work(self, number: int, seconds: float) -> int:
        return number


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "TICK_S", 0.1)
    monkeypatch.setattr(scaling, "IDLE_S", 0.5)
    monkeypatch.setattr(scaling, "SILENCE_S", 2.0)


async def work(fleet: Fleet, number: int, seconds: float) -> int:
    async def ask(name: str) -> int:
        return await fleet.find(name).work.remote(number, seconds)

    return await fleet.ask(lambda: fleet.member(str(number)), ask)


async def until(sizes: set[int], fleet: Fleet) -> None:
    deadline = time.monotonic() + 300
    while len(fleet.names) not in sizes:
        assert time.monotonic() < deadline, f"{len(fleet.names)} members serve"
        await asyncio.sleep(0.05)


def test_a_fleet_grows_with_its_load_to_the_maximum_and_shrinks_when_idle() -> None:
    async def main(fleet: Fleet) -> None:
        async with scaled({fleet: None}):
            first = fleet.names
            asked = [asyncio.create_task(work(fleet, number, 4.0)) for number in range(40)]
            await until({3}, fleet)
            assert first[0] in fleet.names, "the oldest stays"
            late = await asyncio.gather(*(work(fleet, number, 0.1) for number in range(40, 60)))
            assert await asyncio.gather(*asked) == list(range(40)) and late == list(range(40, 60))
            names = set(fleet.names)
            await until({1}, fleet)
            assert fleet.names == first
            ended = names - set(fleet.names)
            deadline = time.monotonic() + 300
            while any(_lives(name) for name in ended):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert await work(fleet, 7, 0.0) == 7

    with Fleet.start(Worker, Size(1, 3, 4.0), {}) as fleet:
        asyncio.run(main(fleet))


def _lives(name: str) -> bool:
    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True


def test_what_a_silent_member_was_asked_is_asked_of_another_until_it_answers_again() -> None:
    async def main(fleet: Fleet) -> None:
        async with scaled({fleet: None}):
            both = set(fleet.names)
            await asyncio.gather(*(work(fleet, number, 0.0) for number in range(8)))
            silent = fleet.member("0")
            fleet.handle(silent).hang.remote()
            assert await work(fleet, 0, 0.0) == 0
            assert fleet.lost == [silent] and silent not in fleet.names
            await until({2}, fleet)
            assert set(fleet.names) == both

    with Fleet.start(Worker, Size.of(2, None, 4.0), {}) as fleet:
        asyncio.run(main(fleet))


def test_a_member_that_leaves_clears_away_what_it_has(tmp_path: Path) -> None:
    async def main(fleet: Fleet) -> None:
        load = 9.0
        async with scaled({fleet: lambda: load}):
            await until({3}, fleet)
            assert len(list(tmp_path.iterdir())) == 3
            started = set(fleet.names)
            load = 0.0
            deadline = time.monotonic() + 300
            while any(_lives(name) for name in started if name not in fleet.names) or len(fleet.names) > 1:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert len(list(tmp_path.iterdir())) == 1

    with Fleet.start(Tidy, Size(1, 3, 3.0), {}, tmp_path) as fleet:
        asyncio.run(main(fleet))
    assert not list(tmp_path.iterdir())


def test_why_a_member_cannot_start_is_one_line() -> None:
    with (
        Fleet.start(Broken, Size.of(1, None, 4.0), {}) as fleet,
        pytest.raises(AgentRMError, match=r"^an actor could not start: RuntimeError: no memory is left$"),
    ):
        asyncio.run(work(fleet, 1, 0.0))


def test_another_process_learns_of_removed_members_by_itself() -> None:
    with Fleet.start(Worker, Size.of(2, None, 4.0), {}) as fleet:
        elsewhere = Fleet(fleet.names)
        gone = elsewhere.member("3")
        asyncio.run(work(elsewhere, 3, 0.0))
        fleet.remove(gone)
        assert asyncio.run(work(elsewhere, 3, 0.0)) == 3
        assert asyncio.run(work(Fleet([gone, *elsewhere.names]), 3, 0.0)) == 3


def test_a_change_of_members_moves_only_their_keys() -> None:
    names = [f"member-{number}" for number in range(4)]
    fleet, larger = Fleet(names), Fleet([*names, "new"])
    keys = [str(number) for number in range(500)]
    moved = [key for key in keys if fleet.member(key) != larger.member(key)]
    assert all(larger.member(key) == "new" for key in moved) and 50 < len(moved) < 150
