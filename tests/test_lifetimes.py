"""Memory that crosses lives exactly as long as somebody refers to it, whoever goes first: the
input, the result, the pipeline, a thread, or the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from conftest import needed

from remotemedia import Audio, Frame, Pipeline, native
from remotemedia.nodes import AddNode, AudioChunkerNode, BufferNode, PassThroughNode

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")

numpy = needed("numpy")

PASS = {"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}
#: Large enough for the pool, and for memory of its own.
SIZE = 20_000


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    native.run_manifest(PASS, [])  # the default runtime exists from here on
    collect()
    before = native.handles()
    yield
    collect()
    assert native.handles() == before


def collect() -> None:
    # What a finalizer frees may be found by the next one only; PyPy takes several rounds.
    for _ in range(3):
        gc.collect()


def address(array: Any) -> int:
    return array.__array_interface__["data"][0]


class Watched(numpy.ndarray):  # type: ignore[misc, name-defined]
    """An array of which a weak reference tells whether it is still there."""


def watched(count: int = SIZE) -> Any:
    return numpy.arange(count, dtype="float32").view(Watched)


def media(array: Any) -> list[Any]:
    """An array, audio and a frame on this memory."""
    pixels = array.view("uint8").reshape(-1, 100, 4)
    return [array, Audio(array, 8_000), Frame(pixels, "rgba")]


def content(value: Any) -> Any:
    return value.samples if isinstance(value, Audio) else numpy.asarray(value)


# --- who goes first -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", range(3))
def test_results_outlive_inputs_results_and_pipelines(which: int) -> None:
    array = watched()
    expected = content(media(array)[which]).tobytes()
    alive = weakref.ref(array)
    pipeline = Pipeline("p", [PassThroughNode()])
    result = pipeline.run_sync([media(array)[which]])
    (back,) = result
    assert address(content(back)) == address(array)
    del array, result, pipeline
    collect()
    assert alive() is not None, "its memory is in use"
    part = content(back)[10:-10]
    shared = memoryview(part)
    del back, part
    collect()
    assert alive() is not None and shared.tobytes() in expected
    shared.release()
    del shared
    collect()
    assert alive() is None


@pytest.mark.parametrize("node", [AddNode(addend=1), BufferNode(buffer_size=1)])
def test_what_nodes_made_outlives_the_run(node: Any) -> None:
    pipeline = Pipeline("p", [node])
    result = pipeline.run_sync([numpy.arange(SIZE)])
    (back,) = result
    array = back if isinstance(node, AddNode) else back[0]
    expected = numpy.arange(SIZE) + isinstance(node, AddNode)
    del result, pipeline, back
    collect()
    assert numpy.array_equal(array, expected)


def test_an_input_is_let_go_with_its_last_result() -> None:
    arrays = [watched() for _ in range(4)]
    alive = [weakref.ref(array) for array in arrays]
    result = native.run_manifest(PASS, arrays)
    del arrays
    kept = result[2]
    del result
    collect()
    assert alive[2]() is not None and kept[5] == 5
    del kept
    collect()
    assert [reference() for reference in alive] == [None] * 4


def test_an_input_that_fails_is_let_go() -> None:
    array = watched()
    alive = weakref.ref(array)
    for bad in ({"x": ...}, "text"):
        with pytest.raises(Exception, match=r"ellipsis|takes|text"):
            Pipeline("p", [AddNode(addend=1)]).run_sync([array, bad])
    del array
    collect()
    assert alive() is None


def test_audio_in_parts_shares_one_memory() -> None:
    samples = watched()
    chunks = Pipeline("c", [AudioChunkerNode(chunk_size=1000)]).run_sync([Audio(samples, 8_000)])
    addresses = [address(chunk.samples) for chunk in chunks]
    assert addresses == [address(samples) + 4000 * i for i in range(20)]
    alive = weakref.ref(samples)
    last = chunks[-1]
    del samples, chunks
    collect()
    assert last.samples[-1] == SIZE - 1 and alive() is not None
    del last
    collect()
    assert alive() is None


# --- threads --------------------------------------------------------------------------------------


def in_threads(count: int, work: Any) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  told below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_results_are_freed_by_other_threads() -> None:
    made: SimpleQueue[Any] = SimpleQueue()
    prepared = native.prepare(PASS)
    adding = native.prepare({**PASS, "nodes": [{"id": "n", "node_type": "Add",
                                                "params": {"addend": 1}}]})  # fmt: skip

    def work(number: int) -> None:
        if number % 2:
            for i in range(200):
                array = numpy.full(SIZE // 4, i, "float32")
                (plain, sound, frame) = prepared.run(media(array))
                (more,) = adding.run([array])
                made.put((i, plain, sound, frame, more))
            made.put(None)
        else:
            while (got := made.get()) is not None:
                i, plain, sound, frame, more = got
                assert plain[0] == sound.samples[-1] == i and more[7] == i + 1
                assert frame.pixels.tobytes() == plain.tobytes()

    in_threads(4, work)


def test_one_result_in_many_threads() -> None:
    (back,) = Pipeline("p", [AddNode(addend=1)]).run_sync([numpy.arange(SIZE)])

    def work(number: int) -> None:
        for _ in range(200):
            part = back[number:]
            assert part[0] == number + 1
            del part

    in_threads(4, work)


# --- the garbage collector ------------------------------------------------------------------------


def test_the_collector_in_the_midst_of_runs() -> None:
    """It comes at every few allocations, and frees arrays of other runs from within a call."""
    prepared = native.prepare(PASS)
    threshold = gc.get_threshold() if hasattr(gc, "get_threshold") else None
    if threshold is not None and hasattr(gc, "set_threshold"):
        gc.set_threshold(3, 2, 2)
    try:
        for i in range(300):
            back = prepared.run([*media(numpy.full(400, i, "float32")), {"deep": [b"x", i]}])
            # Only the collector can free these.
            cycle: list[Any] = [back]
            cycle.append(cycle)
            assert back[0][0] == i and back[1].samples[399] == i and back[3] == {"deep": [b"x", i]}
            del cycle, back
            if i % 50 == 0:
                gc.collect()
    finally:
        if threshold is not None and hasattr(gc, "set_threshold"):
            gc.set_threshold(*threshold)


def test_results_in_cycles_are_freed() -> None:
    arrays = [watched() for _ in range(10)]
    alive = [weakref.ref(array) for array in arrays]
    for array in arrays:
        result = native.run_manifest(PASS, [array, Audio(array, 8_000)])
        holder: dict[str, Any] = {"result": result, "media": media(array)}
        holder["self"] = holder
        result.append(holder)
        del result, holder
    del arrays, array
    collect()
    assert [reference() for reference in alive] == [None] * 10


class Runs:
    """Runs a pipeline while it is freed, as a finalizer may."""

    results: list[Any]

    def __init__(self, results: list[Any]) -> None:
        self.results = results
        self.me = self

    def __del__(self) -> None:
        self.results.append(list(native.run_manifest(PASS, [numpy.arange(7), b"x"])))


def test_runs_from_within_finalizers() -> None:
    results: list[Any] = []
    for _ in range(50):
        Runs(results)
        native.run_manifest(PASS, [numpy.arange(5)])
    collect()
    assert len(results) == 50
    assert all(array.tolist() == list(range(7)) and raw == b"x" for array, raw in results)


# --- the pool -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1024, 5_000, 100_000])
def test_what_is_kept_stays_while_the_pool_is_used(size: int) -> None:
    adding = native.prepare({**PASS, "nodes": [{"id": "n", "node_type": "Add",
                                                "params": {"addend": 1}}]})  # fmt: skip
    kept = []
    for i in range(2_000 if size < 100_000 else 400):
        array = numpy.full(size, i, "int64")
        (back,) = adding.run([array])
        if i % 50 == 0:
            kept.append((i, back, numpy.array(back, copy=True)))
        elif back.flags.writeable:
            # It is nobody else's: whoever got its memory before does not see this.
            back[:] = -1
        array[:] = -2
    for i, back, copied in kept:
        assert back[0] == i + 1 and numpy.array_equal(back, copied)
    assert len({address(back) for _, back, _ in kept}) == len(kept)


def test_writing_to_a_result_is_seen_by_nobody_else() -> None:
    manifest = {
        "version": "v1",
        "nodes": [
            {"id": "start", "node_type": "Add", "params": {"addend": 0}},
            {"id": "same", "node_type": "PassThrough"},
            {"id": "more", "node_type": "Add", "params": {"addend": 1}},
        ],
        "connections": [{"from": "start", "to": "same"}, {"from": "start", "to": "more"}],
    }
    array = numpy.arange(SIZE)
    same, more = native.run_manifest(manifest, [array])
    for own in (same, more):
        if own.flags.writeable:
            own[:] = -1
    assert array.tolist() == list(range(SIZE))
    twice = native.run_manifest(PASS, [array, array])
    assert not any(back.flags.writeable for back in twice)


# --- asyncio --------------------------------------------------------------------------------------


def test_results_of_runs_that_were_cancelled_and_of_those_beside() -> None:
    waits = {**PASS, "nodes": [{"id": "n", "node_type": "Delay", "params": {"seconds": 30}}]}

    async def main() -> Any:
        array = watched()
        alive = weakref.ref(array)
        slow = asyncio.ensure_future(native.run_manifest_async(waits, [array]))
        (back,) = await native.run_manifest_async(PASS, [array])
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        del array, slow
        return back, alive

    back, alive = asyncio.run(main())
    collect()
    assert back[9] == 9 and alive() is not None
    del back
    collect()
    assert alive() is None
