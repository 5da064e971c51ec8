"""Nodes written in Python in the native engine, where the library asks for what they have to do."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from threading import Event, Thread
from time import sleep
from typing import Any, Optional
from weakref import ref

import pytest
from conftest import needed

from remotemedia import Audio, Node, NodeError, Pipeline, RunCancelledError, RunTimeoutError, native
from remotemedia.core.host import Host
from remotemedia.core.hosted import HostedBatch, HostedStream
from remotemedia.core.pipeline import _Turn
from remotemedia.core.session import Session
from remotemedia.nodes import MultiplyNode, PassThroughNode

numpy = needed("numpy")

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")


class Hands(Node):
    def process(self, value: Any) -> Any:
        return value


class Endless(Node):
    """Generates without end; at its tenth value something happens."""

    run: Optional[Session] = None
    act = ""

    def initialize(self) -> None:
        self.acted = Event()

    def process(self, value: Any) -> Iterator[Any]:
        if value != "endless":
            yield value
            return
        number = 0
        while True:
            number += 1
            if number == 10 and self.run is not None:
                getattr(self.run, self.act)()
                self.acted.set()
            yield number


class EndlessAside(Endless, thread=True):
    pass


@pytest.mark.parametrize("kind", [Endless, EndlessAside])
def test_what_generates_without_end_ends_with_the_time_of_the_run(kind: type[Node]) -> None:
    pipeline = Pipeline("endless", [kind()])
    with pytest.raises(RunTimeoutError, match="the run was not complete"):
        pipeline.run_sync(["endless"], timeout=0.02)
    with pytest.raises(RunTimeoutError, match="the run was not complete"):
        asyncio.run(pipeline.run(["endless"], timeout=0.02))

    def streamed() -> None:
        # On a busy machine the time is over before it is pulled.
        with pipeline.open(timeout=0.02) as run:
            run.push("endless")
            run.pull()

    with pytest.raises(RunTimeoutError, match="the run was not complete"):
        streamed()


@pytest.mark.parametrize("kind", [Endless, EndlessAside])
def test_what_generates_without_end_ends_when_the_run_is_cancelled(kind: type[Endless]) -> None:
    endless = kind()
    with Pipeline("endless", [endless]).open() as run:
        endless.run, endless.act = run, "cancel"
        run.push("endless")
        with pytest.raises(RunCancelledError):
            run.pull()


@pytest.mark.parametrize("kind", [Endless, EndlessAside])
def test_what_generates_without_end_ends_when_it_is_interrupted(kind: type[Endless]) -> None:
    endless = kind()
    with Pipeline("endless", [endless]).open() as run:
        endless.run, endless.act = run, "interrupt"
        run.push("endless")
        assert endless.acted.wait(60)
        run.push("next")
        assert run.pull().value == "next"


class Fails(Node):
    """Fails once with each of some values, and says in the end what came."""

    def __init__(self, *, once: list[int], name: Optional[str] = None) -> None:
        super().__init__(name)
        self.once = once

    def initialize(self) -> None:
        self.left = set(self.once)
        self.came: list[int] = []

    def process(self, value: int) -> int:
        self.came.append(value)
        if value in self.left:
            self.left.discard(value)
            raise ValueError(value)
        return value

    def flush(self) -> list[int]:
        return self.came


@pytest.mark.parametrize("backoff", [0, 0.001])
@pytest.mark.parametrize("use_rust", [True, False])
def test_nothing_comes_before_what_is_tried_again(backoff: float, use_rust: bool) -> None:
    node = Fails(once=[2, 5]).options(on_error={"retry": 1, "backoff": backoff})
    pipeline = Pipeline("again", [node])
    came = [0, 1, 2, 2, 3, 4, 5, 5]
    assert pipeline.run_sync(range(6), use_rust=use_rust) == [*range(6), came]
    with pipeline.open(use_rust=use_rust) as run:
        run.push_many(range(6))
        run.end()
        assert [output.value for output in run] == [*range(6), came]


def test_whoever_pushes_is_told_of_the_exception_and_so_is_whoever_pulls() -> None:
    with Pipeline("fails", [Fails(once=[0])]).open() as run:
        run.push(0)
        for act in (lambda: run.push(1), lambda: run.push([1]), run.pull):
            with pytest.raises(NodeError) as caught:
                act()
            assert isinstance(caught.value.__cause__, ValueError)


class FailsAtTheEnd(Hands):
    def flush(self) -> None:
        raise ValueError("the flush")

    def cleanup(self) -> None:
        raise ValueError("the cleanup")


def test_an_error_keeps_its_exception_when_the_cleanup_fails_as_well() -> None:
    with pytest.raises(NodeError, match="the flush") as caught:
        Pipeline("fails", [FailsAtTheEnd()]).run_sync([1])
    assert str(caught.value.__cause__) == "the flush"


class Twice(Node):
    def process(self, value: Any) -> Iterator[Any]:
        yield from (value, value + 1)


class Refuses(Node):
    def process(self, value: Any) -> Any:
        raise ValueError(value)


def test_an_error_keeps_its_exception_when_more_of_the_item_fails() -> None:
    with pytest.raises(NodeError, match="ValueError: 1") as caught:
        Pipeline("refuses", [Twice(), Refuses()]).run_sync([1])
    assert str(caught.value.__cause__) == "1"


class Unreadable(Node):
    def process(self, value: Any) -> Any:
        raise ValueError("no such file: \udcff.wav")


def test_an_exception_may_say_what_is_no_unicode() -> None:
    with pytest.raises(NodeError, match=r"no such file: \\udcff.wav") as caught:
        Pipeline("unreadable", [Unreadable()]).run_sync([1])
    assert isinstance(caught.value.__cause__, ValueError)
    skips = Pipeline("unreadable", [Unreadable().options(on_error="skip")])
    assert skips.run_sync([1]) == []


class Returns(Hands):
    """Its methods hand back what is of no use to anybody."""

    def initialize(self) -> Any:
        return self

    def interrupt(self) -> Any:
        return self

    def cleanup(self) -> Any:
        return self


class ReturnsLater(Hands):
    async def initialize(self) -> Any:
        return self

    async def cleanup(self) -> Any:
        return self


@pytest.mark.parametrize("kind", [Returns, ReturnsLater])
def test_what_is_no_output_need_not_cross(kind: type[Node]) -> None:
    pipeline = Pipeline("returns", [kind()])
    assert pipeline.run_sync([1]) == [1]
    with pipeline.open() as run:
        run.interrupt()
        run.push(2)
        run.end()
        assert [output.value for output in run] == [2]


class Aside(Hands, thread=True):
    pass


def test_an_event_loop_forgets_a_run_before_its_descriptor_is_gone() -> None:
    told: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for _ in range(50):
            assert await Pipeline("aside", [Aside(), Aside()]).run(range(20)) == [*range(20)]

    asyncio.run(main())
    assert not told


class Waits(Node):
    async def process(self, value: Any) -> Any:
        await asyncio.sleep(60)


@pytest.mark.parametrize("kind", [PassThroughNode, Hands, Waits])
def test_a_session_in_a_cycle_is_closed_by_the_garbage_collector(kind: type[Node]) -> None:
    gc.collect()
    before = native.handles()["rm_run"]
    for _ in range(20):
        opening = Pipeline("cycle", [kind()]).open()
        session: Any = opening.__enter__()
        session.push(1)
        session.try_pull()
        session.itself, opening._session = session, None
        del session, opening
        gc.collect()
    assert native.handles()["rm_run"] == before


class Closes(Node):
    """Closes the session that it is part of."""

    run: Any = None

    async def process(self, value: Any) -> Any:
        self.run.close()
        return value


def test_a_node_that_waits_may_close_its_session() -> None:
    closes = Closes()
    with Pipeline("closes", [closes]).open() as run:
        closes.run = run
        run.push(1)
        with pytest.raises(RunCancelledError):
            run.pull()


def test_a_pipeline_runs_after_ctrl_c_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline("returns", [Returns()])
    assert pipeline.run_sync([1]) == [1]

    def interrupted(self: native.Run, given: Any = None) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(native.Run, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_sync([2])
    assert pipeline.run_sync([3], timeout=10) == [3]


class Reuses(Node):
    """Gives the same array again and again, with something else in it."""

    def initialize(self) -> None:
        self.buffer = numpy.zeros(4, "float32")

    def process(self, value: Any) -> Any:
        self.buffer[:] = value
        return self.buffer


class ReusesAPart(Reuses):
    def process(self, value: Any) -> Any:
        return super().process(value)[:2]


class ReusesAndYields(Reuses):
    def process(self, value: Any) -> Any:
        yield super().process(value)
        yield super().process(-value)


class ReusesAndWaits(Reuses):
    async def process(self, value: Any) -> Any:
        return super().process(value)


class ReusesBytes(Reuses):
    def initialize(self) -> None:
        self.bytes = bytearray(4)

    def process(self, value: Any) -> Any:
        self.bytes[0] = value
        return self.bytes


class First(Node):
    def process(self, value: Any) -> Any:
        return int(value[0])


@pytest.mark.parametrize(
    "kind", [Reuses, ReusesAPart, ReusesAndYields, ReusesAndWaits, ReusesBytes]
)
@pytest.mark.parametrize("how", ["batch", "awaited batch", "session"])
def test_memory_that_a_node_uses_again(kind: Any, how: str) -> None:
    numbers = range(1, 101)
    expected = [
        sign * n for n in numbers for sign in ((1, -1) if kind is ReusesAndYields else (1,))
    ]
    for nodes in ([kind()], [kind(), First()]):
        pipeline = Pipeline("p", nodes)
        if how == "batch":
            values = list(pipeline.run_sync(numbers))
        elif how == "awaited batch":
            values = list(asyncio.run(pipeline.run(numbers)))
        else:
            with pipeline.open(window=1000) as run:
                run.push_many(numbers)
                run.end()
                values = [output.value for output in run]
        assert [v if isinstance(v, int) else int(v[0]) for v in values] == expected


def test_what_nobody_keeps_is_not_copied() -> None:
    class Fresh(Node):
        def process(self, value: Any) -> Any:
            made = value * 2
            addresses.append(made.ctypes.data)
            return made

    addresses: list[int] = []
    given = [numpy.ones(5000) for _ in range(3)]
    result = Pipeline("p", [PassThroughNode(), Fresh(), PassThroughNode()]).run_sync(given)
    if hasattr(sys, "getrefcount"):
        assert [array.ctypes.data for array in result] == addresses
    assert all((array == 2).all() for array in result)
    same = Pipeline("p", [PassThroughNode(), Same(), PassThroughNode()]).run_sync(given)
    assert [array.ctypes.data for array in same] == [array.ctypes.data for array in given]


class Same(Node):
    def process(self, value: Any) -> Any:
        return value


class Waits(Node):
    async def process(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("item", [1, numpy.zeros(960, "float32")])
def test_a_batch_of_one_item_crosses_twice(item: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline("p", [PassThroughNode(), Same(), PassThroughNode()])
    pipeline.run_sync([item])
    library, crossings = native._load(), []

    def counted(name: str) -> Any:
        cross = getattr(library, name)
        return lambda *args: (crossings.append(name), cross(*args))[1]

    for name in ("call", "exchange"):
        monkeypatch.setattr(library, name, counted(name))
    assert len(pipeline.run_sync([item])) == 1
    assert len(asyncio.run(pipeline.run([item]))) == 1
    assert crossings == ["call", "exchange"] * 2


def test_a_crossing_takes_as_long_as_its_run_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the place for it was used by a run of the other kind."""
    pipeline, library = Pipeline("p", [PassThroughNode(), Same()]), native._load()
    cross, slices = library.exchange, []

    def watched(struct: Any, text: bytes, length: int) -> int:
        slices.append(struct.slice_us)
        return int(cross(struct, text, length))

    monkeypatch.setattr(library, "exchange", watched)
    for _ in range(2):
        pipeline.run_sync([1])
        asyncio.run(pipeline.run([1]))
    assert slices == [native.SLICE_US, native.INLINE_US] * 2


def test_long_outputs_outlive_the_runs_that_follow() -> None:
    audio = Audio(numpy.arange(4000, dtype="float32"), 16_000)
    pipeline = Pipeline("p", [Same(), PassThroughNode()])
    pipeline.run_sync([0])
    gc.collect()
    results, before = [], native.handles()
    for number in range(30):
        items = [audio, number, "x" * 40_000] if number % 2 else [number]
        results.append((items, pipeline.run_sync(items)))
    for items, result in results:
        assert result[-1] == items[-1] and len(result) == len(items)
        if len(items) > 1:
            assert numpy.array_equal(result[0].samples, audio.samples)
    del results, result
    gc.collect()
    assert native.handles() == before


def test_what_a_node_has_made_is_its_takers_and_what_came_is_not() -> None:
    class Half(Node):
        def process(self, value: Any) -> Any:
            return value if value[0] % 2 else value + 1

    pipeline = Pipeline("p", [PassThroughNode(), Half(), PassThroughNode()])
    for count in (1, 200):
        given = [numpy.full(4, n) for n in range(count)]
        for n, array in enumerate(pipeline.run_sync(given)):
            assert array is not given[n] and array.flags.writeable == (n % 2 == 0)
            assert numpy.shares_memory(array, given[n]) == (n % 2 == 1)
        assert all(array.flags.writeable for array in given)
    # One that comes past the node.
    source, half, beside = PassThroughNode(name="in"), Half(), PassThroughNode(name="beside")
    fork = Pipeline("p", [source, half, beside]).connect(source, half).connect(source, beside)
    given = [numpy.full(4, 2)]
    made, same = fork.run_sync(given)
    assert made.flags.writeable and same is not given[0] and not same.flags.writeable
    assert numpy.shares_memory(same, given[0]) and given[0].flags.writeable


def test_a_run_that_is_taken_over_keeps_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no moment in which another could begin."""

    class Promises(Node):
        def process(self, value: Any) -> Any:
            async def later() -> Any:
                return value

            return later()

    begin, kept = _Turn.begin, []

    def watched(turn: _Turn, run: HostedStream) -> None:
        kept.append(turn.lasts())
        begin(turn, run)
        kept.append(turn.lasts())

    monkeypatch.setattr(_Turn, "begin", watched)
    pipeline = Pipeline("p", [Promises()])
    assert pipeline.run_sync([1, 2]) == asyncio.run(pipeline.run([1, 2])) == [1, 2]
    assert kept == [True] * 4


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
def test_what_the_library_is_done_with_is_forgotten_while_the_run_goes_on() -> None:
    made: list[ref[Any]] = []
    alive = []

    class Makes(Node):
        def process(self, value: Any) -> Any:
            alive.append(sum(known() is not None for known in made))
            array = numpy.full(1000, value, "float32")
            made.append(ref(array))
            return array

    result = Pipeline("p", [Makes(), MultiplyNode(factor=2)]).run_sync(range(1000))
    assert result[999][0] == 1998
    assert max(alive) < 300


def test_many_outputs_and_their_arrays_cross() -> None:
    class Adds(Node):
        def process(self, value: Any) -> Any:
            return value + 1 if value[0] % 2 else value

    given = [numpy.full(4, n, "float32") for n in range(3000)]
    nodes = [PassThroughNode(), Adds(), Same(), PassThroughNode()]
    for result in (
        Pipeline("p", nodes).run_sync(given),
        asyncio.run(Pipeline("p", nodes).run(given)),
    ):
        assert [int(array[0]) for array in result] == [n + n % 2 for n in range(3000)]
        assert result.metrics["items_done"] == 3000
    mixed = Pipeline("p", [PassThroughNode(), Same()]).run_sync([given[5], "text", {"a": given[7]}])
    assert (mixed[0][0], mixed[1], mixed[2]["a"][0]) == (5, "text", 7)


def test_values_that_wait_for_nothing_share_a_task() -> None:
    tasks = []

    async def main() -> Any:
        loop = asyncio.get_running_loop()

        def made(loop: Any, work: Any, **more: Any) -> Any:
            tasks.append(work)
            return asyncio.Task(work, loop=loop, **more)

        loop.set_task_factory(made)
        return await Pipeline("p", [Waits()]).run(range(1000))

    assert list(asyncio.run(main())) == list(range(1000))
    assert len(tasks) < 50


def test_nobody_waits_for_the_library_while_a_node_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    library, slices = native._load(), []
    exchange, begin = library.exchange, Host._begin_to_wait
    begun: list[Any] = []

    def begins(self: Host, *args: Any) -> None:
        begin(self, *args)
        begun.append(args)

    def noted(struct: Any, *args: Any) -> Any:
        if begun:
            slices.append(struct.slice_us)
        return exchange(struct, *args)

    monkeypatch.setattr(Host, "_begin_to_wait", begins)
    monkeypatch.setattr(library, "exchange", noted)
    assert Pipeline("p", [Waits()]).run_sync([1, 2]) == [1, 2]
    assert slices and not any(slices)


class Slow(Node):
    """Takes a while for a value; gives something else at the last ones."""

    def __init__(self, end: str = "") -> None:
        super().__init__()
        self.end = end
        self.cleaned_up = 0

    def process(self, value: Any) -> Any:
        sleep(0.002)
        if value >= 28 and self.end == "fails":
            raise ValueError(value)
        if value >= 28 and self.end == "waits":
            return asyncio.sleep(0, -value)
        return value

    def cleanup(self) -> None:
        self.cleaned_up += 1


async def beside(pipeline: Pipeline, ticks: list[int], cancel: int = -1) -> Any:
    """Runs it on 30 items, beside something else in the event loop."""
    run = asyncio.ensure_future(pipeline.run(range(30)))
    while not run.done():
        ticks.append(len(ticks))
        if len(ticks) == cancel:
            run.cancel()
        await asyncio.sleep(0)
    return await run


def test_a_long_awaited_batch_stays_on_the_straight_way(monkeypatch: pytest.MonkeyPatch) -> None:
    node, ticks = Slow(), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(HostedBatch, "ready", None)
        assert asyncio.run(beside(Pipeline("p", [node]), ticks)) == list(range(30))
    assert len(ticks) >= 5
    assert node.cleaned_up == 1


def test_a_long_awaited_batch_fails_is_cancelled_and_waits() -> None:
    node = Slow("fails")
    pipeline = Pipeline("p", [node])
    with pytest.raises(NodeError, match="28") as caught:
        asyncio.run(beside(pipeline, []))
    assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.item, node.cleaned_up) == (28, 1)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(beside(pipeline, [], cancel=3))
    assert node.cleaned_up == 2
    node.end = "waits"
    assert asyncio.run(beside(pipeline, [])) == [*range(28), -28, -29]
    assert node.cleaned_up == 3


def test_where_a_node_stands() -> None:
    entered, released = Event(), Event()

    class Stands(Node):
        def process(self, value: Any) -> Any:
            entered.set()
            released.wait(30)
            return value

    with Pipeline("p", [Stands(name="s")]).open() as run:
        assert run.diagnose()["stack"] is None
        thread = Thread(target=run.push, args=(1,))
        thread.start()
        entered.wait(30)
        found = run.diagnose()
        released.set()
        thread.join(30)
        assert (found["node"], found["method"], found["item"]) == ("s_0", "process", 0)
        assert "released.wait(30)" in found["stack"]
        assert run.pull(timeout=30).value == 1


def test_an_item_is_worked_on_when_it_is_pushed_whatever_it_is() -> None:
    ones = numpy.ones
    seen: list[Any] = []

    class Sees(Node):
        def process(self, value: Any) -> Any:
            seen.append(value)
            return value

    items = [1, "a", [1], {"a": None}, b"b", ones(3), ones(9_000), [ones(3)]]
    with Pipeline("p", [PassThroughNode(), Sees()]).open() as run:
        for count, item in enumerate(items, 1):
            run.push(item)
            assert len(seen) == count
        for item in items:
            assert repr(run.pull().value) == repr(item)


def test_the_event_loop_gets_its_turns_though_there_is_always_something_to_do() -> None:
    class Computes(Node):
        def process(self, value: int) -> int:
            sleep(0.006)
            return value

    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        async with Pipeline("p", [Computes()]).open() as run:
            await run.send_many(range(40))
            run.end()
            before = turns
            assert [output.value async for output in run] == list(range(40))
            counting.cancel()
            return turns - before

    assert asyncio.run(main()) >= 10


def test_two_who_wait_for_different_things_do_not_wake_each_other(monkeypatch: Any) -> None:
    steps = 0
    step = HostedStream._step

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return step(*args)

    async def main() -> None:
        go = asyncio.Event()

        class Waits(Node):
            async def process(self, value: int) -> int:
                await go.wait()
                return value

        async with Pipeline("p", [Waits()]).open(window=1) as run:
            await run.send(0)
            waiting = [asyncio.create_task(run.send(1)), asyncio.create_task(run.recv())]
            while run.diagnose()["waiting"] != {"push": 1, "pull": 1}:  # noqa: ASYNC110  no event
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)  # Until what they have stirred up has settled.
            monkeypatch.setattr(HostedStream, "_step", counted)
            await asyncio.sleep(0.2)
            assert steps < 20
            go.set()
            await asyncio.gather(*waiting)

    asyncio.run(main())


class Keeps(Node):
    """Keeps what it gets, and hands it on."""

    def initialize(self) -> None:
        self.kept: list[Any] = []

    def process(self, value: Any) -> Any:
        self.kept.append(value)
        return value


class KeepsLater(Keeps):
    async def process(self, value: Any) -> Any:
        return super().process(value)


@pytest.mark.parametrize("kind", [Keeps, KeepsLater])
@pytest.mark.parametrize("form", ["mixed", "nested", "reversed"])
def test_what_a_node_keeps_of_its_input_outlives_the_run(kind: type[Keeps], form: str) -> None:
    wanted = numpy.arange(300_000.0)
    array = wanted.copy()
    items = {"mixed": [0, array], "nested": [[array]], "reversed": [wanted[::-1].copy()[::-1]]}
    node = kind()
    result = list(Pipeline("p", [node]).run_sync(items.pop(form)))
    del array, items
    gc.collect()
    others = [numpy.full(300_000, 7.0) for _ in range(8)]
    for values in (result, node.kept):
        value = values[-1][0] if form == "nested" else values[-1]
        assert numpy.array_equal(value, wanted)
    assert others


@pytest.mark.parametrize(
    "shown",
    [
        numpy.from_dlpack,
        lambda state: numpy.frombuffer(memoryview(state)),
        lambda state: numpy.lib.stride_tricks.as_strided(state, state.shape),
        lambda state: state[:],
    ],
    ids=["dlpack", "memoryview", "as_strided", "slice"],
)
def test_what_a_node_may_write_to_again_is_copied_whatever_shows_it(shown: Any) -> None:
    class Reuses(Node):
        def initialize(self) -> None:
            self.state = numpy.zeros(4)

        def process(self, value: float) -> Any:
            self.state[:] = value
            return shown(self.state)

    pipeline = Pipeline("p", [Reuses(), PassThroughNode()])
    assert [value[0] for value in pipeline.run_sync([1.0, 2.0, 3.0])] == [1, 2, 3]
    with pipeline.open() as run:
        run.push_many([1.0, 2.0, 3.0])
        assert [output.value[0] for output in run.pull_many(3)] == [1, 2, 3]


def test_arrays_of_many_shapes_keep_them() -> None:
    class Gives(Node):
        def process(self, value: int) -> list[Any]:
            return [numpy.full((1, size), float(value)) for size in range(1, 400)]

    items = list(range(8))
    outputs = Pipeline("p", [PassThroughNode(), Gives(), PassThroughNode()]).run_sync(items)
    for item, arrays in zip(items, outputs):
        assert [array.shape for array in arrays] == [(1, size) for size in range(1, 400)]
        assert all((array == item).all() for array in arrays)


def test_an_array_that_goes_on_as_it_came_is_forgotten_with_its_run() -> None:
    class Same(Node):
        def process(self, value: Any) -> Any:
            return value

    pipeline = Pipeline("p", [MultiplyNode(factor=2), Same()])
    items = [numpy.zeros(5_000)] * 40
    pipeline.run_sync(items)
    gc.collect()
    before = native.handles()
    for _ in range(5):
        assert len(pipeline.run_sync(items)) == 40
    gc.collect()
    assert native.handles() == before
