"""Nodes of the native library's and nodes written in Python in one pipeline."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from conftest import needed

from remotemedia import Audio, Node, NodeError, Pipeline, native, node
from remotemedia.errors import LibraryNotFoundError, ManifestError
from remotemedia.nodes import (
    AudioChunkerNode,
    AudioLevelNode,
    AudioResampleNode,
    PassThroughNode,
)

numpy = needed("numpy")
RATE = 16_000


def tones(count: int = 4) -> list[Audio]:
    times = numpy.arange(1600) / RATE
    return [
        Audio(numpy.sin(2 * numpy.pi * 220 * times).astype("float32"), RATE, pts=0.1 * n)
        for n in range(count)
    ]


@node
def louder(audio: Audio) -> Audio:
    return Audio(audio.samples * 2, audio.sample_rate, pts=audio.pts)


@node
async def louder_async(audio: Audio) -> Audio:
    await asyncio.sleep(0)
    return Audio(audio.samples * 2, audio.sample_rate, pts=audio.pts)


@node(thread=True)
def louder_in_thread(audio: Audio) -> Audio:
    return Audio(audio.samples * 2, audio.sample_rate, pts=audio.pts)


def run(pipeline: Pipeline, items: list[Any], how: str) -> list[Any]:
    if how == "sync":
        return list(pipeline.run_sync(items))
    if how == "async":
        return list(asyncio.run(pipeline.run(items)))
    with pipeline.open(window=2) as session:
        outputs = []
        for item in items:
            while not session.try_push(item):
                outputs.append(session.pull().value)
        session.end()
        return outputs + [output.value for output in session]


@pytest.mark.parametrize("how", ["sync", "async", "session"])
@pytest.mark.parametrize("made", [louder, louder_async, louder_in_thread])
def test_a_node_of_yours_among_native_ones(made: Any, how: str) -> None:
    """The same as the native nodes alone, but twice as loud."""
    quiet = Pipeline("quiet", [AudioResampleNode(target_rate=8000), AudioLevelNode()])
    loud = Pipeline("loud", [AudioResampleNode(target_rate=8000), made(), AudioLevelNode()])
    expected = quiet.run_sync(tones())
    # What other tests have left would go at any moment.
    gc.collect()
    before = None
    for _ in range(3):
        found = run(loud, tones(), how)
        assert len(found) == len(expected) == 4
        for one, other in zip(found, expected):
            assert one["rms_db"] - other["rms_db"] == pytest.approx(20 * numpy.log10(2), abs=1e-4)
        del found
        # From the first run on the pipeline is prepared.
        assert before in (None, native.handles())
        before = native.handles()


@pytest.mark.parametrize("how", ["sync", "async", "session"])
def test_a_native_node_gives_several_values_of_an_item(how: str) -> None:
    items = [Audio(tone.samples, RATE) for tone in tones(5)]
    alone = Pipeline("alone", [AudioChunkerNode(chunk_size=700)]).run_sync(items)
    mixed = run(Pipeline("mixed", [AudioChunkerNode(chunk_size=700), louder()]), items, how)
    assert len(mixed) == len(alone) == 15
    for one, other in zip(mixed, alone):
        assert numpy.array_equal(one.samples, other.samples * 2)
        assert one.pts == other.pts


def test_an_error_says_which_node_and_item() -> None:
    @node
    def number(audio: Audio) -> Any:
        return 7 if audio.pts else audio

    pipeline = Pipeline("p", [number(), AudioLevelNode(name="level")])
    with pytest.raises(NodeError, match="takes audio, got an integer") as caught:
        pipeline.run_sync(tones())
    assert (caught.value.node, caught.value.item) == ("level_1", 1)
    assert caught.value.node_type == "AudioLevelNode"
    assert len(pipeline.run_sync(tones(1))) == 1


def test_a_native_node_goes_on_after_a_value_that_is_skipped() -> None:
    @node
    def number(audio: Audio) -> Any:
        return 7 if audio.pts == pytest.approx(0.1) else audio

    level = AudioLevelNode().options(on_error="skip")
    result = Pipeline("p", [number(), level]).run_sync(tones())
    assert len(result) == 3
    assert result.metrics["nodes"]["audio_level_1"]["errors"] == 1


def test_parameters_can_be_set() -> None:
    pipeline = Pipeline("p", [louder(), AudioResampleNode(target_rate=8000)])
    with pipeline.open() as session:
        session.push(tones(1)[0])
        assert session.pull().value.sample_rate == 8000
        session.set("audio_resample_1", target_rate=4000)
        session.push(tones(1)[0])
        session.end()
        assert {output.value.sample_rate for output in session} == {4000}


def test_the_event_loop_is_free_while_a_heavy_node_works() -> None:
    async def main() -> int:
        pipeline = Pipeline("p", [louder(), AudioResampleNode(target_rate=44_100)])
        long = Audio(numpy.zeros(RATE * 60, "float32"), RATE)
        task = asyncio.ensure_future(pipeline.run([long]))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await task
        return turns

    assert asyncio.run(main()) > 10


@pytest.mark.parametrize("use_rust", [True, False])
def test_a_node_of_yours_has_no_parallelism(use_rust: bool) -> None:
    """Nobody knows whether it keeps something from one value to the next; both engines refuse it,
    also in the place of a built-in node that keeps nothing."""

    class AddNode(Node):
        def process(self, value: Any) -> Any:
            return value

    for made in (louder(), AddNode()):
        pipeline = Pipeline("p", [made.options(parallelism=2)])
        for check in (pipeline.validate, lambda p=pipeline: p.run_sync([1], use_rust=use_rust)):
            with pytest.raises(ManifestError, match="keep no state") as caught:
                check()
            assert caught.value.pointer == "/nodes/0/parallelism"


@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_queue_before_a_slow_node_drops_what_is_old(kind: str, in_loop: bool) -> None:
    """Whatever comes while the node is at work with the first value, all but the newest."""
    gate = threading.Event()

    @node(thread=True)
    def slow_in_thread(value: int) -> int:
        assert gate.wait(60)
        return value

    @node
    async def slow_async(value: int) -> int:
        assert await asyncio.to_thread(gate.wait, 60)
        return value

    slow = slow_in_thread() if kind == "thread" else slow_async()
    pipeline = Pipeline("live", [PassThroughNode(name="in"), slow])
    pipeline.connect("in_0", f"{slow.name}_1", queue={"items": 1, "policy": "drop_oldest"})

    def check(values: list[int], metrics: Any) -> None:
        [queue] = metrics["queues"]
        assert (len(values) + queue["dropped"], values[-1]) == (100, 99)
        # One was at work, and one waited.
        assert len(values) <= 3, values

    async def main() -> None:
        async with pipeline.open(window=1000) as run:
            for value in range(100):
                await run.send(value)
                await asyncio.sleep(0)
            for _ in range(10_000):
                if run.metrics["queues"][0]["dropped"] >= 97:
                    break
                await asyncio.sleep(0.001)
            gate.set()
            run.end()
            check([output.value async for output in run], run.metrics)

    if in_loop:
        asyncio.run(main())
        return
    with pipeline.open(window=1000) as run:
        for value in range(100):
            run.push(value)
        gate.set()
        run.end()
        check([output.value for output in run], run.metrics)


def test_the_python_engine_alone_has_no_media_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Node):
        def process(self, value: Any) -> Any:
            return value

    pipeline = Pipeline("p", [Mine(), AudioLevelNode()])
    pipeline.validate()
    with pytest.raises(ManifestError, match="only in the native library"):
        pipeline.run_sync(tones(1), use_rust=False)
    monkeypatch.setattr(native, "is_available", lambda: False)
    with pytest.raises(LibraryNotFoundError, match="only in the native library"):
        pipeline.run_sync(tones(1))
