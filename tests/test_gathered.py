"""Items that go in together: while there are outputs to be pulled, what is pushed is gathered, and
small arrays that are alike go in and come out as the rows of one."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections import deque
from time import perf_counter
from typing import Any

import pytest
from conftest import needed

from remotemedia import NodeError, Pipeline, RunCancelledError, RunEndedError, native
from remotemedia.core.node import Node
from remotemedia.nodes import AddNode, CalculatorNode, DelayNode, MultiplyNode, PassThroughNode

numpy = needed("numpy")
hypothesis = needed("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

if not native.is_available():
    pytest.skip("needs the native library", allow_module_level=True)
if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
    pytest.skip("nothing is gathered where signals come everywhere", allow_module_level=True)


def open_(*nodes: Node, **options: Any) -> Any:
    options.setdefault("stall", None)
    return Pipeline("p", nodes or [PassThroughNode()]).open(**options)


def same(one: Any, other: Any) -> bool:
    if isinstance(other, numpy.ndarray):
        return (
            isinstance(one, numpy.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and (one == other or (one != one and other != other))


def crossings(run: Any, monkeypatch: Any) -> list[int]:
    """How many crossings there were from here on."""
    count = [0]
    backend = run._backend
    cross, exchange = backend._cross, backend._library.exchange

    def counted(function: Any) -> Any:
        def call(*args: Any) -> Any:
            count[0] += 1
            return function(*args)

        return call

    monkeypatch.setattr(backend, "_cross", counted(cross))
    monkeypatch.setattr(backend._library, "exchange", counted(exchange))
    return count


ROW = numpy.arange(12, dtype="float32")
KINDS = pytest.mark.parametrize(
    "make",
    [int, float, lambda n: ROW + n, lambda n: ROW.reshape(3, 4) * n],
    ids=["ints", "floats", "rows", "tables"],
)


@KINDS
def test_pushed_while_outputs_are_left_they_cross_together(monkeypatch: Any, make: Any) -> None:
    with open_(window=64) as run:
        for number in range(64):
            assert run.push(make(number)) == number
        count = crossings(run, monkeypatch)
        for number in range(64, 64 + 640):
            output = run.pull()
            assert output.item == number - 64
            assert same(output.value, make(number - 64))
            assert run.push(make(number)) == number
        assert count[0] <= 12


@pytest.mark.parametrize("nodes", [[DelayNode(seconds=0.001)], [PassThroughNode()]])
def test_only_where_nobody_works_meanwhile(monkeypatch: Any, nodes: list[Node]) -> None:
    with open_(*nodes) as run:
        run.push(0)
        assert run._backend.work("output", perf_counter() + 30)
        run._backend._fetched or run._backend._fetch(1)
        count = crossings(run, monkeypatch)
        run.push(1)
        assert bool(count[0]) == isinstance(nodes[0], DelayNode)


def test_a_queue_of_its_own_gathers_nothing(monkeypatch: Any) -> None:
    nodes = PassThroughNode(), PassThroughNode()
    pipeline = Pipeline("p", nodes).connect(*nodes, queue={"items": 2})
    with pipeline.open(stall=None) as run:
        run.push(0)
        run._backend._fetched or run._backend._fetch(1)
        count = crossings(run, monkeypatch)
        run.push(1)
        assert count[0] == 1


numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=3),
)


@st.composite
def arrays(draw: Any) -> Any:
    shape = draw(st.sampled_from([(3,), (3,), (4,), (2, 2), (), (0,), (1, 3), (5_000,)]))
    dtype = draw(st.sampled_from(["f4", "f4", "f8", "i2", ">f4", "?"]))
    size = int(numpy.prod(shape))
    array = (numpy.arange(size) + draw(st.integers(0, 9))).astype(dtype).reshape(shape)
    how = draw(st.integers(0, 3))
    if how == 1 and array.ndim == 1:
        return array[::-1]
    if how == 2 and array.ndim == 2:
        return numpy.asfortranarray(array)
    if how == 3:
        array.setflags(write=False)
    return array


@settings(deadline=None, max_examples=200)
@given(
    window=st.sampled_from([1, 2, 5, 64]),
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.one_of(numbers, arrays())),
            st.tuples(st.just("push_many"), st.lists(st.one_of(numbers, arrays()), max_size=5)),
            st.tuples(st.just("pull"), st.integers(1, 3)),
            st.tuples(st.just("metrics"), st.none()),
        ),
        max_size=60,
    ),
)
def test_whatever_goes_in_comes_out(window: int, acts: list[Any]) -> None:
    inside: deque[Any] = deque()
    pushed = 0
    with open_(window=window) as run:

        def pull(most: int) -> None:
            for output in run.pull_many(most):
                item, value = inside.popleft()
                assert output.item == item
                if isinstance(value, numpy.ndarray):
                    value = value.astype(value.dtype.newbyteorder("="))
                    assert same(output.value, value)
                    assert output.value.flags.writeable
                    output.value[...] = 0
                else:
                    assert same(output.value, value)

        def push(value: Any) -> None:
            nonlocal pushed
            if len(inside) == window:
                pull(1)
            inside.append((pushed, value.copy() if hasattr(value, "copy") else value))

        for act, what in acts:
            if act == "push":
                push(what)
                given = what.copy() if isinstance(what, numpy.ndarray) else what
                assert run.push(given) == pushed
                pushed += 1
                if isinstance(given, numpy.ndarray):
                    # It is the caller's again.
                    given[...] = 1
            elif act == "push_many" and len(inside) + len(what) <= window:
                for value in what:
                    push(value)
                    pushed += 1
                assert run.push_many(what) == len(what)
            elif act == "pull" and inside:
                pull(what)
            elif act == "metrics":
                assert run.metrics["items"] == pushed
        run.end()
        while inside:
            pull(64)
        assert list(run) == []


@KINDS
@pytest.mark.parametrize("way", ["end", "metrics", "diagnose", "set", "push", "push_many", "pull"])
def test_what_was_gathered_counts(make: Any, way: str) -> None:
    node = MultiplyNode(factor=1, name="m")
    with open_(node) as run:
        for number in range(3):
            run.push(make(number))
        last = 3
        if way == "end":
            run.end()
            with pytest.raises(RunEndedError):
                run.push(make(3))
        elif way == "metrics":
            assert run.metrics["nodes"]["m_0"]["items_in"] == 3
        elif way == "diagnose":
            assert run.diagnose()["outputs"] == 3
        elif way == "set":
            run.set("m_0", factor=2)
            run.push(make(3))
            last = 4
        elif way == "push":
            run.push("a")
        elif way == "push_many":
            run.push_many([make(3), make(4)])
            last = 5
        for number in range(last):
            output = run.pull(timeout=30)
            twice = 2 if way == "set" and number == 3 else 1
            assert output.item == number
            assert same(output.value, make(number) * twice)


@KINDS
def test_interrupt_discards_what_was_gathered(make: Any) -> None:
    with open_() as run:
        for number in range(4):
            run.push(make(number))
        run.pull()
        run.interrupt()
        assert run.try_pull() is None
        assert run.push(make(4)) == 4
        assert run.push(make(5)) == 5
        assert [run.pull().item, run.pull().item] == [4, 5]


def test_the_window_is_kept() -> None:
    with open_(window=4) as run:
        assert all(run.try_push(number) for number in range(4))
        assert not run.try_push(4)
        assert run.diagnose()["inside"] == 4
        assert run.pull().item == 0
        assert run.try_push(4)
        assert not run.try_push(5)
        assert [run.pull().item for _ in range(4)] == [1, 2, 3, 4]


def test_an_error_comes_in_its_place() -> None:
    nodes = CalculatorNode(operation="divide", operand=1, name="d"), AddNode(addend=0)
    with open_(*nodes) as run:
        for number in range(3):
            run.push(number)
        run.set("d_0", operand=0)
        for number in range(3, 6):
            run.push(number)
        assert [run.pull().item for _ in range(3)] == [0, 1, 2]
        with pytest.raises(NodeError, match="item 3"):
            run.pull()
        with pytest.raises(NodeError, match="item 3"):
            run.push(6)


@KINDS
@pytest.mark.parametrize("crossed", [False, True], ids=["before", "after"])
def test_a_signal_while_they_go_in_loses_and_doubles_nothing(
    monkeypatch: Any, make: Any, crossed: bool
) -> None:
    with open_() as run:
        for number in range(5):
            run.push(make(number))
        assert run.pull().item == 0
        backend = run._backend
        cross = backend._cross

        def interrupted(*args: Any) -> Any:
            monkeypatch.undo()
            if crossed:
                cross(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(backend, "_cross", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.pull_many(5)
        assert run.push(make(5)) == 5
        outputs = [run.pull(timeout=30) for _ in range(5)]
        assert [output.item for output in outputs] == [1, 2, 3, 4, 5]
        assert all(same(output.value, make(output.item)) for output in outputs)
        assert run.try_pull() is None


@KINDS
def test_who_waits_is_not_forgotten(make: Any) -> None:
    with open_() as run:
        run.push(make(0))
        run.push(make(1))
        backend = run._backend
        assert backend._next - backend._pushed == 1
        # Somebody else takes the only output that is there, as somebody begins to wait.
        backend._fetched.popleft()
        assert backend.work("output", perf_counter() + 30)
        assert same(run.pull().value, make(1))


def test_nothing_is_gathered_while_somebody_waits(monkeypatch: Any) -> None:
    with open_() as run:
        run.push(0)
        # As if it waited in the library while another thread has fetched something.
        run._backend._waiting["output"].append(object())
        count = crossings(run, monkeypatch)
        run.push(1)
        assert count[0] == 1


def test_what_is_pushed_before_the_end_is_in(monkeypatch: Any) -> None:
    with open_() as run:
        run.push(0)
        backend = run._backend
        inside, ends = threading.Event(), threading.Event()

        class Slow(list):  # type: ignore[type-arg]
            def __setitem__(self, at: Any, value: Any) -> None:
                inside.set()
                assert ends.wait(30)
                super().__setitem__(at, value)

        backend._gathered = Slow(backend._gathered)
        pushing = threading.Thread(target=run.push, args=[1])
        pushing.start()
        assert inside.wait(30)
        ending = threading.Thread(target=run.end)
        ending.start()
        ending.join(0.1)
        ends.set()
        for thread in (pushing, ending):
            thread.join(30)
        assert [output.item for output in run] == [0, 1]


@KINDS
def test_threads_that_push_and_pull_lose_nothing(make: Any) -> None:
    count, pulled = 3_000, []
    with open_(window=8) as run:

        def pull() -> None:
            for output in run:
                pulled.append(output)

        threads = [threading.Thread(target=pull) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(count):
            run.push(make(number))
        run.end()
        for thread in threads:
            thread.join(60)
    pulled.sort(key=lambda output: output.item)
    assert [output.item for output in pulled] == list(range(count))
    assert all(same(output.value, make(output.item)) for output in pulled)


@KINDS
def test_in_an_event_loop(make: Any) -> None:
    async def main() -> None:
        async with open_(window=16) as run:
            outputs: list[Any] = []

            async def pull() -> None:
                async for output in run:
                    outputs.append(output)
                    if len(outputs) % 7 == 0:
                        await asyncio.sleep(0)

            task = asyncio.ensure_future(pull())
            for number in range(500):
                await run.send(make(number))
            run.end()
            await asyncio.wait_for(task, 60)
            assert [output.item for output in outputs] == list(range(500))
            assert all(same(output.value, make(output.item)) for output in outputs)

    asyncio.run(main())


def test_rows_have_memory_of_their_own() -> None:
    with open_() as run:
        run.push_many([ROW, ROW + 1, ROW + 2])
        one, two, three = (output.value for output in run.pull_many(3))
        one[...] = -1
        assert same(two, ROW + 1)
        assert same(three, ROW + 2)
        assert not any(numpy.shares_memory(one, other) for other in (two, three, ROW))
        assert all(array.base is None or array.base.size == array.size for array in (one, two))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("call", ["metrics", "diagnose", "push", "try_pull"])
def test_handlers_of_signals_may_use_the_session(call: str) -> None:
    count, numbers, outputs = 20_000, dict[int, int](), list[Any]()
    more = iter(range(count, 10**9))
    with open_(window=10**6) as run:

        def handler(*_: Any) -> None:
            if call == "metrics":
                assert run.metrics
            elif call == "diagnose":
                assert run.diagnose()
            elif call == "push":
                value = next(more)
                numbers[run.push(value)] = value
            elif output := run.try_pull():
                outputs.append(output)

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
            for value in range(count):
                numbers[run.push(value)] = value
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        run.end()
        outputs += run
    assert len(numbers) == len(outputs) >= count
    assert all(numbers[output.item] == output.value for output in outputs)


class _Stop(BaseException):
    """What a signal's handler raises."""


def test_a_second_signal_at_once_loses_and_doubles_nothing(monkeypatch: Any) -> None:
    with open_() as run:
        assert [run.push(number) for number in range(3)] == [0, 1, 2]
        backend = run._backend
        cross = backend._cross

        def interrupted(*args: Any) -> Any:
            cross(*args)
            monkeypatch.undo()
            monkeypatch.setattr(type(backend), "_settle", again)
            raise _Stop

        def again(*_: Any) -> Any:
            monkeypatch.undo()
            raise _Stop

        monkeypatch.setattr(backend, "_cross", interrupted)
        for _ in range(2):
            with pytest.raises(_Stop):
                run.pull_many(5)
        assert run.push(3) == 3
        run.end()
        assert [(output.item, output.value) for output in run] == [(n, n) for n in range(4)]


def test_an_end_that_was_broken_off_may_be_called_again(monkeypatch: Any) -> None:
    from remotemedia.core import native_stream

    def interrupted(*_: Any) -> Any:
        monkeypatch.undo()
        raise _Stop

    with open_() as run:
        assert [run.push(number) for number in range(3)] == [0, 1, 2]
        monkeypatch.setattr(native_stream, "dumps", interrupted)
        with pytest.raises(_Stop):
            run.end()
        run.end()
        assert [output.value for output in run] == [0, 1, 2]


@KINDS
@pytest.mark.parametrize("point", ["place", "crossing", "keeping"])
def test_a_push_within_a_push(monkeypatch: Any, make: Any, point: str) -> None:
    """As from a handler of a signal's, at places where one may come."""
    with open_() as run:
        backend = run._backend
        numbers = {}
        if point == "keeping":
            # There is a place already.
            numbers[run.push(make(0))] = 0
            run.pull()

        def push(value: int) -> None:
            numbers[run.push(make(value))] = value

        def within(original: Any) -> Any:
            def call(*args: Any) -> Any:
                monkeypatch.undo()
                if point == "place":
                    push(10)
                    push(11)
                result = original(*args)
                if point != "place":
                    push(10)
                    push(11)
                return result

            return call

        where, name = {
            "place": (type(backend), "_place_to_push"),
            "crossing": (backend, "_cross"),
            "keeping": (type(backend), "_take"),
        }[point]
        monkeypatch.setattr(where, name, within(getattr(where, name)))
        push(1)
        push(2)
        run.end()
        outputs = list(run)
    assert len(numbers) == len(outputs) + (point == "keeping")
    assert [output.item for output in outputs] == sorted(output.item for output in outputs)
    assert all(same(output.value, make(numbers[output.item])) for output in outputs)


@pytest.mark.parametrize("way", ["close", "cancel", "forget"])
def test_what_was_gathered_ends_with_the_run(way: str, capfd: Any) -> None:
    run = open_().__enter__()
    for number in range(3):
        run.push(number)
    assert run._backend._next - run._backend._pushed == 2
    if way == "cancel":
        run.cancel()
        assert run.metrics["items"] == 1
        with pytest.raises(RunCancelledError):
            run.pull()
        with pytest.raises(RunCancelledError):
            run.push(3)
        run.end()
    if way != "forget":
        run.close()
    del run
    gc.collect()
    assert capfd.readouterr() == ("", "")
