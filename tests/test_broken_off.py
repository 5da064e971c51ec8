"""Ctrl-C, timeouts and cancellations at chosen moments: control comes back at once, and nothing is
left half done. endurance.py does the same at random moments, many times."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from remotemedia import Node, Pipeline, RunTimeoutError, native
from remotemedia.core.session import resolve

needs_rust = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")
ENGINES = [pytest.param(True, marks=needs_rust), False]


class Waits(Node):
    async def process(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value


class Breaks(Node):
    """Presses Ctrl-C in the middle of a value."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[Any] = []
        self.alive = 0

    def initialize(self) -> None:
        self.alive += 1

    def cleanup(self) -> None:
        self.alive -= 1

    def ctrl_c(self, value: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        self.after.append(value)
        return value

    def process(self, value: Any) -> Any:
        return self.ctrl_c(value)


class BreaksGenerator(Breaks):
    def process(self, value: Any) -> Iterator[Any]:
        yield self.ctrl_c(value)


class BreaksAsync(Breaks):
    async def process(self, value: Any) -> Any:
        return self.ctrl_c(value)


class Aside(Node, thread=True):
    def process(self, value: Any) -> Any:
        return value


def batch(pipeline: Pipeline, rust: bool) -> None:
    pipeline.run_sync([1], use_rust=rust)


def session(pipeline: Pipeline, rust: bool) -> None:
    with pipeline.open(use_rust=rust) as run:
        run.push(1)
        run.pull()


@pytest.mark.parametrize("rust", ENGINES)
@pytest.mark.parametrize("way", [batch, session])
@pytest.mark.parametrize("kind", [Breaks, BreaksGenerator, BreaksAsync])
def test_ctrl_c_is_raised_in_a_node_beside_one_that_waits(
    kind: type[Breaks], way: Any, rust: bool, caplog: pytest.LogCaptureFixture
) -> None:
    node = kind()
    with pytest.raises(KeyboardInterrupt):
        way(Pipeline("breaks", [Waits(), node]), rust)
    # asyncio.run would have let it go on.
    assert node.after == []
    assert node.alive == 0
    gc.collect()
    assert caplog.records == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Pipeline("on", [Waits()]).run_sync([1], use_rust=rust) == [1]


class TwiceAwaiting(Waits):
    """Waits on after it was cancelled; Ctrl-C comes once more then."""

    async def process(self, value: Any) -> Any:
        for _ in range(2):
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
        return value


@pytest.mark.parametrize("rust", ENGINES)
@pytest.mark.parametrize("way", [batch, session])
def test_ctrl_c_again_ends_what_does_not_want_to_end(way: Any, rust: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        way(Pipeline("twice", [TwiceAwaiting()]), rust)
    assert Pipeline("on", [Waits()]).run_sync([1], use_rust=rust) == [1]


@pytest.mark.parametrize("rust", ENGINES)
@pytest.mark.parametrize("way", [batch, session])
@pytest.mark.parametrize("place", ["loop", "task", "thread"])
def test_ctrl_c_does_not_come_where_it_would_leave_half_of_something(
    place: str, way: Any, rust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, node = {
        "loop": (asyncio, "new_event_loop", Waits()),
        "task": (asyncio.BaseEventLoop, "create_task", Waits()),
        "thread": (concurrent.futures.ThreadPoolExecutor, "submit", Aside()),
    }[place]
    real = getattr(owner, name)
    made = []

    def broken(*args: Any, **options: Any) -> Any:
        if not made:
            signal.raise_signal(signal.SIGINT)
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(owner, name, broken)
    # It is not code of users', though it stands in a test.
    monkeypatch.setitem(globals(), "__name__", "asyncio.tests")
    with pytest.raises(KeyboardInterrupt):
        way(Pipeline("half", [node]), rust)
    assert made


@needs_rust
def test_a_future_that_ctrl_c_cancels_just_before_it_is_resolved() -> None:
    class Cancelled(asyncio.Future[None]):
        def set_result(self, result: None) -> None:
            self.cancel()
            super().set_result(result)

    loop = asyncio.new_event_loop()
    resolve(Cancelled(loop=loop))
    loop.close()


class Late(Node):
    """Takes longer for its first value than there is time."""

    def initialize(self) -> None:
        self.count = 0

    def process(self, value: Any) -> Any:
        self.count += 1
        if value == 0:
            time.sleep(0.05)
        return value


@pytest.mark.parametrize("rust", ENGINES)
@pytest.mark.parametrize("wait", [False, True])
def test_hardly_anything_is_begun_after_the_time(wait: bool, rust: bool) -> None:
    node = Late()
    pipeline = Pipeline("late", [node, Waits()] if wait else [node])
    with pytest.raises(RunTimeoutError):
        pipeline.run_sync(range(100), use_rust=rust, timeout=0.04)
    assert node.count < 4
    with pytest.raises(RunTimeoutError):
        asyncio.run(pipeline.run(range(100), use_rust=rust, timeout=0.04))
    assert node.count < 4


@needs_rust
def test_nobody_sleeps_while_there_is_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from remotemedia.core.hosted import HostedStream

    fetch, woken = HostedStream._fetch, HostedStream._woken
    slept = []

    def fetching(run: Any, most: int, want: int = 0, slice_us: int = 0) -> int:
        slept.append(bool(slice_us) and run._loop is not None)
        return fetch(run, most, want, slice_us)

    def waking(run: Any, until: Any) -> Any:
        slept.append(bool(run._host.ready) and (until is None or until > time.perf_counter()))
        return woken(run, until)

    monkeypatch.setattr(HostedStream, "_fetch", fetching)
    monkeypatch.setattr(HostedStream, "_woken", waking)
    # Its loop is made when the first value waits, in the middle of a turn.
    assert Pipeline("waits", [Waits()]).run_sync([1]) == [1]

    async def main() -> None:
        task = asyncio.ensure_future(Pipeline("late", [Late()]).run(range(1000)))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(main())
    assert slept
    assert not any(slept)


@needs_rust
def test_who_works_on_a_session_that_others_have_closed_does_nothing() -> None:
    with Pipeline("closed", [Waits()]).open() as run:
        run.push(1)
        assert run.pull().value == 1
    # As cancel() does in another thread, which has looked a moment before.
    run._backend.turn()


class Slow(Node):
    """A plain generator that never ends."""

    def process(self, value: Any) -> Iterator[Any]:
        self.count = 0
        self.closed = False
        try:
            while self.count < 20_000:
                self.count += 1
                time.sleep(0.001)
                yield value
        finally:
            self.closed = True


@pytest.mark.parametrize("rust", ENGINES)
@pytest.mark.parametrize("how", ["batch", "batch with a node that waits", "session"])
def test_an_endless_generator_ends_with_its_task(how: str, rust: bool) -> None:
    node = Slow()
    others = [Waits()] if "waits" in how else []

    async def main() -> None:
        pipeline = Pipeline("slow", [*others, node])
        if how != "session":
            await asyncio.wait_for(pipeline.run([1, 2], use_rust=rust), 0.02)
        async with pipeline.open(use_rust=rust) as run:
            await run.send(1)
            await asyncio.wait_for(run.recv(), 0.02)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(main())
    assert 0 < node.count < 20_000
    assert node.closed


class Arrays(Node):
    """Gives arrays, some of them slowly."""

    def process(self, value: Any) -> Any:
        import numpy

        def many() -> Iterator[Any]:
            for number in range(3):
                time.sleep(0.002)
                yield numpy.full(5, 10 * value + number)

        return many() if value % 2 else numpy.full(5, value)


@pytest.mark.parametrize("rust", ENGINES)
def test_what_a_slow_generator_gives_keeps_its_place(rust: bool) -> None:
    pytest.importorskip("numpy")
    expected = [0, 10, 11, 12, 2, 30, 31, 32, 4]
    result = asyncio.run(Pipeline("arrays", [Arrays()]).run(range(5), use_rust=rust))
    assert [array.tolist() for array in result] == [[number] * 5 for number in expected]


@needs_rust
def test_ctrl_c_again_while_the_run_is_being_ended_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from remotemedia.core.host import Host

    give_up, came = Host.give_up, []

    def broken(host: Host) -> None:
        if not came:
            came.append(host)
            raise KeyboardInterrupt
        give_up(host)

    monkeypatch.setattr(Host, "give_up", broken)
    node = Breaks()
    with pytest.raises(KeyboardInterrupt):
        session(Pipeline("again", [node]), True)
    assert came
    assert node.alive == 0


class Exits(Node, thread=True):
    def process(self, value: Any) -> Any:
        raise SystemExit(5)


@pytest.mark.parametrize("rust", ENGINES)
def test_the_exit_of_a_process_passes_from_a_thread_of_a_node(rust: bool) -> None:
    pipeline = Pipeline("exits", [Exits()])
    with pytest.raises(SystemExit, match="5"):
        pipeline.run_sync([1], use_rust=rust)
    with pytest.raises(SystemExit, match="5"):
        asyncio.run(pipeline.run([1], use_rust=rust))
