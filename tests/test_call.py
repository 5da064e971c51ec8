"""What a run costs in crossings, objects and copies; and that the short ways give what the long
ones do."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest
from conftest import needed

from remotemedia import Pipeline, native, node
from remotemedia.core import pipeline as core
from remotemedia.nodes import CalculatorNode, MultiplyNode, PassThroughNode, TextProcessorNode

numpy = needed("numpy")
pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")


class Counting:
    """A library that counts the calls of its functions."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.lib, name)

        def counted(*arguments: Any) -> Any:
            self.calls.append(name)
            return function(*arguments)

        return counted


def three() -> Pipeline:
    return Pipeline("three", [PassThroughNode(), PassThroughNode(), PassThroughNode()])


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    library = native._load()
    counting = Counting(library.lib)
    monkeypatch.setattr(library, "lib", counting)
    monkeypatch.setattr(library, "call", counting.rm_call_run)
    return counting


@pytest.mark.parametrize(
    "items",
    [
        [1, 2, 3],
        [None, {"a": [1.5, "x"]}],
        [numpy.arange(960, dtype="float32")],
        [numpy.zeros((3, 4), "int16"), numpy.array(5.0)],
    ],
)
def test_a_run_is_one_crossing_and_leaves_no_object(counting: Counting, items: Any) -> None:
    pipeline = three()
    asyncio.run(pipeline.run(items))
    before = native.handles()
    for how in ("sync", "async"):
        counting.calls.clear()
        result = pipeline.run_sync(items) if how == "sync" else asyncio.run(pipeline.run(items))
        assert counting.calls == ["rm_call_run"]
        for out, item in zip(result, items):
            assert numpy.array_equal(out, item)
    assert native.handles() == before
    assert result.metrics["nodes"]["pass_through_2"]["items_out"] == len(items)


def test_arrays_come_back_where_they_were() -> None:
    pipeline = three()
    arrays = [numpy.arange(5).astype(kind) for kind in ("u1", "f4", "c16", "?")]
    empty = numpy.ones((2, 0, 3))
    for given in (arrays, arrays, [*arrays, empty]):
        result = pipeline.run_sync(given)
        for out, array in zip(result, given):
            assert out is not array and (out.dtype, out.shape) == (array.dtype, array.shape)
            if array is not empty:
                assert out.ctypes.data == array.ctypes.data and not out.flags.writeable
        assert all(array.flags.writeable for array in given)


def test_every_form_of_array_among_others() -> None:
    pipeline = three()
    base = numpy.arange(24, dtype="f8").reshape(4, 6)
    forms = [
        base,
        base.T,
        base[::2, ::-1],
        base.astype(">f4"),
        numpy.float32(2.5),
        numpy.broadcast_to(numpy.int16(3), (2, 2)),
        numpy.frombuffer(b"\0" + base.tobytes(), "f8", offset=1),
    ]
    for first in (base, 1, forms[2]):
        items = [first, *forms, {"inside": base.T}]
        for _ in range(3):
            out = pipeline.run_sync(items)
            assert numpy.array_equal(out[0], first)
            for one, form in zip(out[1:], forms):
                assert one.dtype == form.dtype.newbyteorder("=") and numpy.array_equal(one, form)
            assert numpy.array_equal(out[-1]["inside"], base.T)


def test_shapes_may_change_from_run_to_run() -> None:
    pipeline = three()
    for size in [*range(300), 7, 7, 3]:
        one, other = numpy.full(size, size), numpy.full((2, size), size, "f4")
        out = pipeline.run_sync([one, other][:: 1 if size % 2 else -1])
        out = out[:: 1 if size % 2 else -1]
        assert numpy.array_equal(out[0], one) and numpy.array_equal(out[1], other)


def test_an_input_that_is_changed_meanwhile() -> None:
    """The list is the caller's; what comes out is what went in."""
    pipeline = three()
    items: list[Any] = [numpy.arange(1_000, dtype="f8") for _ in range(50)]
    result = pipeline.run_sync(items)
    items.clear()
    assert len(result) == 50 and result[49][999] == 999
    assert result.by_node["pass_through_2"][0][1] == 1


def test_outputs_of_every_size() -> None:
    """Around the room that there is for outputs without a run."""
    pipeline = three()
    for size in [*range(3_900, 4_100), 100_000]:
        result = pipeline.run_sync(["x" * size])
        assert result == ["x" * size]
        assert result.metrics["items"] == 1
    numbers = [[number / 7 for number in range(1_000)] + [1, None, 2.5]]
    assert pipeline.run_sync(numbers) == numbers


def test_metrics_after_many_other_runs() -> None:
    pipeline = Pipeline("sums", [PassThroughNode(), CalculatorNode(operation="add", operand=5)])
    first = pipeline.run_sync([1, 2, 3])
    held = [pipeline.run_sync([0] * size) for size in range(0, 3_000, 100)]
    assert first.metrics["items_done"] == 3 and first.by_node == {"calculator_1": [6, 7, 8]}
    assert [result.metrics["items"] for result in held] == list(range(0, 3_000, 100))
    del pipeline
    gc.collect()
    assert held[1].metrics["sinks"] == {"calculator_1": 100}


def test_changes_of_a_pipeline_are_seen() -> None:
    calculator = CalculatorNode(operation="add", operand=5)
    text = TextProcessorNode(operations=["uppercase"])
    pipeline = Pipeline("changing", [calculator])
    assert [pipeline.run_sync([1]) for _ in range(2)] == [[6], [6]]
    calculator.operand = 7
    assert pipeline.run_sync([1]) == [8]
    assert asyncio.run(pipeline.run([1])) == [8]
    with pytest.raises(TypeError):
        calculator.params["operand"] = 9
    pipeline.add_node(MultiplyNode(factor=10))
    assert pipeline.run_sync([1]) == [80]
    calculator.name = "other"
    assert list(pipeline.run_sync([1]).metrics["nodes"]) == ["other_0", "multiply_1"]

    words = Pipeline("words", [text])
    assert list(words.run_sync(["a b"])[0]["results"]) == ["uppercase"]
    text.operations.append("lowercase")
    assert list(words.run_sync(["a b"])[0]["results"]) == ["uppercase", "lowercase"]


def test_a_change_in_the_middle_of_a_run_is_seen_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when another thread makes it; the run that had begun may go either way."""
    pipeline = Pipeline("changing", [CalculatorNode(operation="add", operand=5)])
    more = MultiplyNode(factor=10)
    prepared = core._Ready.prepared

    def meanwhile(self: Any) -> Any:
        monkeypatch.undo()
        pipeline.add_node(more)
        return prepared(self)

    monkeypatch.setattr(core._Ready, "prepared", meanwhile)
    assert pipeline.run_sync([1]) in ([6], [60])
    assert pipeline.run_sync([1]) == [60]
    assert asyncio.run(pipeline.run([1])) == [60]


def test_a_large_batch_keeps_no_memory() -> None:
    """Places for calls are kept for the next ones, but not what only a large batch needs."""
    pipeline = three()
    pipeline.run_sync([numpy.ones(3)])
    library = native._load()
    assert library.calls
    for first in (numpy.ones(3), 1):
        assert len(pipeline.run_sync([first, *(numpy.ones(3) for _ in range(5_000))])) == 5_001
        views = (getattr(call, "array", ()) for call in library.calls)
        assert max(map(len, views), default=0) <= native._VIEWS


def test_how_long_the_loop_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = three()
    threads = []
    run_in_executor = asyncio.base_events.BaseEventLoop.run_in_executor

    def counted(self: Any, *arguments: Any) -> Any:
        threads.append(arguments)
        return run_in_executor(self, *arguments)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "run_in_executor", counted)
    assert asyncio.run(pipeline.run([1])) == [1]
    assert not threads
    pipeline.inline_us = 0
    assert asyncio.run(pipeline.run([numpy.ones(3)]))[0].tolist() == [1, 1, 1]
    assert len(threads) == 1
    pipeline.inline_us = 10_000_000
    assert len(asyncio.run(pipeline.run([list(range(1_000))] * 1_000))) == 1_000
    assert len(threads) == 1


@pytest.mark.parametrize(
    "items",
    [
        [1, 2, 3],
        ["x" * 10_000],
        [numpy.arange(960, dtype="float32") for _ in range(1_000)],
        [{"array": numpy.arange(5), "more": [1.5]}, None],
    ],
)
def test_what_moves_to_a_thread_comes_back_at_once(counting: Counting, items: Any) -> None:
    """However many outputs there are; and its place is used again."""
    pipeline = three()
    pipeline.inline_us = 0
    results: list[Any] = []

    async def run() -> None:
        # asyncio.run would make text of the result, were it the task's own.
        results.append(await pipeline.run(items))

    asyncio.run(run())
    results.clear()
    before = native.handles()
    kept = len(native._load().calls)
    counting.calls.clear()
    asyncio.run(run())
    result = results.pop()
    assert set(counting.calls) - {"rm_call_clear"} == {"rm_call_run", "rm_call_wait"}
    if not isinstance(items[0], (str, dict)):
        # Nothing lies in the run.
        assert len(native._load().calls) == kept > 0
    assert len(result) == len(items) and result.engine == "native"
    for out, item in zip(result, items):
        if isinstance(item, numpy.ndarray):
            assert out.ctypes.data == item.ctypes.data and not out.flags.writeable
        elif isinstance(item, dict):
            assert numpy.array_equal(out["array"], item["array"]) and out["more"] == item["more"]
        else:
            assert out == item
    assert result.metrics["nodes"]["pass_through_2"]["items_out"] == len(items)
    del result
    gc.collect()
    assert native.handles() == before


def test_many_threads_share_a_pipeline() -> None:
    pipeline = three()
    failures: list[Any] = []

    def work(seed: int) -> None:
        array = numpy.full(960, seed, "f4")
        for number in range(300):
            out = pipeline.run_sync([array, array + number])
            if not (out[0] == seed).all() or not (out[1] == seed + number).all():
                failures.append((seed, number))
            if pipeline.run_sync([seed, number]) != [seed, number]:
                failures.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_a_call_in_the_middle_of_a_call() -> None:
    """Finalisers and signal handlers may run pipelines whenever they like."""
    pipeline = three()
    seen = []

    class Runs:
        def __del__(self) -> None:
            seen.append(pipeline.run_sync([2, 3]))

    gc.disable()
    try:
        for number in range(100):
            cycle: list[Any] = [Runs()]
            cycle.append(cycle)
            del cycle
            gc.set_threshold(1)
            gc.enable()
            assert pipeline.run_sync([numpy.arange(number)])[0].tolist() == list(range(number))
            gc.disable()
    finally:
        gc.set_threshold(700, 10, 10)
        gc.enable()
    gc.collect()
    assert len(seen) == 100 and all(result == [2, 3] for result in seen)


@node
def doubled(value: Any) -> Any:
    return value * 2 if isinstance(value, numpy.ndarray) else value


@pytest.mark.parametrize("own", [False, True], ids=["built-in", "own node"])
def test_a_place_is_good_for_whatever_comes_next(own: bool) -> None:
    """What stays in it from one call to the next is never taken for what it is not."""
    nodes = [PassThroughNode(), doubled() if own else MultiplyNode(factor=2), PassThroughNode()]
    pipeline, other = Pipeline("either", nodes), three()
    one, square = numpy.arange(960, dtype="f4"), numpy.ones((3, 3), "f4")
    # Dicts with the key "$rm" are special in one kind of text only.
    batches: list[list[Any]] = [
        [one], [one, one], [square], [one], [1, 2], [one[::2]], [one], [one, square, one],
        [{"$rm": {"a": 1}}], [b"bytes"], [one.astype("f8")], [one] * 5, [one], [one, 1],
    ]  # fmt: skip
    for first in batches:
        for second in (*batches, first):
            which = other if isinstance(second[0], (dict, bytes)) else pipeline
            factor = 1 if which is other else 2
            for timeout in (None, 30):
                found = which.run_sync(second, timeout=timeout)
                assert len(found) == len(second)
                for out, item in zip(found, second):
                    if isinstance(item, numpy.ndarray):
                        assert out.dtype == item.dtype and numpy.array_equal(out, item * factor)
                    else:
                        assert out == (item * factor if which is pipeline and not own else item)


def test_slice_and_time_are_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often, and for how long, others were used in between."""
    found: list[tuple[int, int]] = []
    library = native._load()
    call = library.call

    def watched(struct: Any, text: bytes, length: int) -> int:
        found.append((struct.slice_us, struct.timeout_ms))
        return int(call(struct, text, length))

    monkeypatch.setattr(library, "call", watched)
    pipeline = three()
    long = [float(number) for number in range(300_000)]
    for items in ([1], long, [1]):
        for timeout in (None, 30):
            asyncio.run(pipeline.run(items, timeout=timeout))
            pipeline.run_sync(items, timeout=timeout)
    times = [-1, -1, 30_000, 30_000] * 3
    assert found == list(zip([native.INLINE_US, native.SLICE_US] * 6, times))
