"""Sessions of built-in nodes: both engines keep the same promises, with equal results."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import cancel_at_random, needed

from remotemedia import (
    Audio,
    Frame,
    ManifestError,
    MarshalError,
    NodeError,
    Pipeline,
    RemoteMediaError,
    RunCancelledError,
    RunEndedError,
    RunTimeoutError,
    native,
)
from remotemedia.core.node import Node
from remotemedia.nodes import (
    AddNode,
    AudioResampleNode,
    BufferNode,
    CalculatorNode,
    DelayNode,
    MultiplyNode,
    PassThroughNode,
)

numpy = needed("numpy")
hypothesis = needed("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

if not native.is_available():
    pytest.skip("needs the native library", allow_module_level=True)

ENGINES = pytest.mark.parametrize("rust", [True, False], ids=["native", "python"])


def open_(rust: bool, *nodes: Node, **options: Any) -> Any:
    # A stall that is told would wake who was forgotten.
    options.setdefault("stall", None)
    return Pipeline("p", nodes).open(use_rust=rust, **options)


def values(outputs: Any) -> list[Any]:
    return [output.value for output in outputs]


def divide() -> Node:
    return CalculatorNode(name="d", operation="divide", operand=0)


# --- items in, outputs out ------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("window", [1, 2, 7, 64])
@pytest.mark.parametrize("most", [1, 3, 33, 100])
def test_order_and_numbers(rust: bool, window: int, most: int) -> None:
    outputs: list[Any] = []

    def pull() -> None:
        while some := run.pull_many(most):
            assert len(some) <= most
            outputs.extend(some)

    with open_(rust, AddNode(name="a", addend=1), window=window) as run:
        assert run.engine == ("native" if rust else "python")
        thread = threading.Thread(target=pull)
        thread.start()
        assert run.push_many(range(200)) == 200
        assert run.push_many(iter(())) == 0
        run.end()
        thread.join(60)
        assert not thread.is_alive()
        assert outputs == [(item + 1, "a_0", item, None) for item in range(200)]
        assert run.metrics["items_done"] == 200
        assert run.metrics["sinks"] == {"a_0": 200}


def acts(rust: bool, pipeline: Pipeline, window: int, what: list[int]) -> list[Any]:
    """What a session says to these acts."""
    said: list[Any] = []
    number = 0
    with pipeline.open(use_rust=rust, window=window) as run:
        if rust:
            # Of what is gathered it can be told later only.
            run._backend._gathers = False
        for act in what:
            try:
                if act < 4:
                    said.append(run.try_push(number))
                    number += said[-1]
                elif act < 6:
                    said.append(run.try_pull())
                elif act == 6:
                    said.append(run.pull_many(3, timeout=0))
                elif act == 7:
                    found = run.diagnose()
                    keys = ["over", "inside", "outputs", "queued", "joins", "words"]
                    said.append([found[key] for key in keys if not found["over"] or key == "over"])
                elif act == 8:
                    run.interrupt()
                else:
                    run.end()
            except RemoteMediaError as error:
                said.append((type(error), error.message, error.node, error.item))
        said.append(without_times(run.metrics))
    return said


def without_times(metrics: Any) -> Any:
    if isinstance(metrics, dict):
        left = {key: value for key, value in metrics.items() if not key.endswith("_us")}
        return {key: without_times(value) for key, value in left.items() if key != "queues"}
    return metrics


@st.composite
def graphs(draw: Any) -> Pipeline:
    pipeline = Pipeline("random")
    for place in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["pass", "add", "buffer", "multiply", "fail"]))
        made: Node = PassThroughNode(name=f"n{place}")
        if kind == "add":
            made = AddNode(name=f"n{place}", addend=draw(st.integers(0, 3)))
        elif kind == "buffer":
            made = BufferNode(name=f"n{place}", buffer_size=draw(st.integers(1, 4)))
        elif kind == "multiply":
            made = MultiplyNode(name=f"n{place}", factor=2)
        elif kind == "fail":
            # Fails for zero, if numbers come.
            made = CalculatorNode(name=f"n{place}", operation="power", operand=-1)
            if draw(st.booleans()):
                made.options(on_error=draw(st.sampled_from(["skip", "passthrough"])))
        pipeline.add_node(made)
    nodes = pipeline.nodes
    pipeline._connections = []
    for end in range(1, len(nodes)):
        starts = draw(st.lists(st.integers(0, end - 1), max_size=3, unique=True))
        for start in starts:
            pipeline.connect(nodes[start], nodes[end])
        if len(starts) > 1:
            nodes[end].options(join=draw(st.sampled_from(["any", "zip", "latest"])))
    return pipeline


@given(graphs(), st.integers(1, 5), st.lists(st.integers(0, 7), max_size=40))
@settings(max_examples=150, deadline=None)
def test_the_engines_agree_at_every_step(pipeline: Pipeline, window: int, what: list[int]) -> None:
    what = [*what, 9, *[5] * 100]
    assert acts(True, pipeline, window, what) == acts(False, pipeline, window, what)


@given(graphs(), st.integers(1, 5), st.lists(st.booleans(), max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_engines_agree_on_what_comes_out(
    pipeline: Pipeline, window: int, pushes: list[bool]
) -> None:
    def pulled(rust: bool) -> list[Any]:
        found: list[Any] = []
        with pipeline.open(use_rust=rust, window=window) as run:
            try:
                for number, push in enumerate(pushes):
                    if push:
                        # What has ended the run comes in its place.
                        with suppress(NodeError):
                            run.try_push(number)
                    elif output := run.try_pull():
                        found.append(output)
                run.end()
                found += run
            except NodeError as error:
                found.append((error.message, error.node, error.item))
        return found

    assert pulled(True) == pulled(False)


@given(st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(0, 8), max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_engines_agree_on_interruptions(window: int, size: int, what: list[int]) -> None:
    pipeline = Pipeline("p", [AddNode(addend=1), BufferNode(buffer_size=size)])
    what = [*what, 9, 8, *[5] * 20]
    assert acts(True, pipeline, window, what) == acts(False, pipeline, window, what)


@given(graphs(), st.integers(1, 6), st.lists(st.integers(-3, 9), max_size=30), st.randoms())
@settings(max_examples=100, deadline=None)
def test_batch_and_session_agree(
    pipeline: Pipeline, window: int, items: list[int], generator: random.Random
) -> None:
    batch = outcome(lambda: pipeline.run_sync(items).by_node)

    def in_pieces() -> dict[str, list[Any]]:
        left, outputs = list(items), []
        with pipeline.open(window=window) as run:
            while left:
                wanted = left[: generator.randint(1, 4)]
                done = 0
                while done < len(wanted) and run.try_push(wanted[done]):
                    done += 1
                del left[:done]
                if not done or generator.random() < 0.5:
                    outputs += run.pull_many(generator.randint(1, 5), timeout=0)
            run.end()
            outputs += run
        by_node: dict[str, list[Any]] = {name: [] for name in run.metrics["sinks"]}
        for output in outputs:
            by_node[output.node].append(output.value)
        return by_node

    assert outcome(in_pieces) == batch


def outcome(what: Any) -> Any:
    """What it gives, or the error that it ends with."""
    try:
        return what()
    except NodeError as error:
        return error.message, error.node, error.item


@ENGINES
def test_what_was_fetched_ahead_fills_the_window(rust: bool) -> None:
    with open_(rust, PassThroughNode(), window=4) as run:
        assert run.push_many(range(4)) == 4
        assert run.pull().value == 0
        assert run.try_push(4)
        assert not run.try_push(5)
        with pytest.raises(RunTimeoutError, match="room for the item"):
            run.push(5, timeout=0.02)
        found = run.diagnose()
        assert (found["inside"], found["outputs"]) == (4, 4)
        assert found["words"] == (
            "push waits for room: 4 items are inside, of 4, and 4 outputs have not been pulled"
        )
        thread = threading.Thread(target=run.push_many, args=([5, 6, 7],))
        thread.start()
        assert values(run.pull(timeout=30) for _ in range(7)) == list(range(1, 8))
        thread.join(30)


@ENGINES
def test_flush_has_no_item_and_audio_its_time(rust: bool) -> None:
    with open_(rust, PassThroughNode(), window=2) as run:
        run.push(Audio(numpy.zeros(4, "float32"), 8000, pts=1.5))
        assert run.pull().pts == 1.5
    with open_(rust, BufferNode(name="b", buffer_size=3)) as run:
        run.push_many(range(4))
        run.end()
        assert list(run) == [([0, 1, 2], "b_0", 2, None), ([3], "b_0", None, None)]


@ENGINES
def test_errors_come_in_their_place_and_again(rust: bool, caplog: Any) -> None:
    inverse = CalculatorNode(name="i", operation="power", operand=-1)
    with open_(rust, PassThroughNode(), inverse) as run:
        run.push_many([1, 2])
        run.push(0)
        assert values([run.pull(), run.pull()]) == [1, 0.5]
        for _ in range(3):
            with pytest.raises(NodeError) as caught:
                run.pull()
            assert (caught.value.node, caught.value.item) == ("i_1", 2)
        for act in (
            lambda: run.push(1),
            lambda: run.push_many([1]),
            lambda: list(run),
            run.try_pull,
        ):
            with pytest.raises(NodeError):
                act()
    assert caplog.records == []
    with open_(rust, divide()) as run:
        run.push(1)
    assert "closed before it told of an error" in caplog.text


@ENGINES
def test_an_error_ends_a_push_that_waits_for_a_pull(rust: bool) -> None:
    inverse = CalculatorNode(name="i", operation="power", operand=-1)
    with open_(rust, inverse, window=3) as run:
        run.push_many([1, 2])
        assert run.try_pull().value == 1
        run.try_push(0)
        with pytest.raises(NodeError):
            run.push_many([1] * 5)
        assert run.pull().value == 0.5
        with pytest.raises(NodeError):
            run.pull()


@ENGINES
def test_after_the_end_and_after_close(rust: bool) -> None:
    with open_(rust, PassThroughNode(), window=2) as run:
        run.push_many([1, 2])
        run.end()
        run.end()
        with pytest.raises(RunEndedError, match="takes no more items"):
            run.push(3)
        with pytest.raises(RunEndedError, match="takes no more items"):
            run.push_many([3])
        assert values(run.pull_many()) == [1, 2]
        assert run.pull_many() == []
        assert list(run) == []
        for act in (run.pull, run.try_pull):
            with pytest.raises(RunEndedError, match="come to an end"):
                act()
    for _ in range(2):
        run.close()
        run.cancel()
        run.interrupt()
        run.end()
    for act in (run.pull, run.try_pull, lambda: run.push(1), lambda: run.push_many([1])):
        with pytest.raises(RunEndedError, match="closed"):
            act()
    assert run.metrics["items_done"] == 2
    assert run.diagnose()["over"]


@ENGINES
def test_timeouts_lose_nothing(rust: bool) -> None:
    with open_(rust, BufferNode(buffer_size=2), window=1) as run:
        for timeout in (0, 0.01):
            with pytest.raises(RunTimeoutError, match="an output"):
                run.pull(timeout=timeout)
            assert run.pull_many(timeout=timeout) == []
        run.push_many([1, 2])
        for timeout in (0, 0.01):
            with pytest.raises(RunTimeoutError):
                run.push(3, timeout=timeout)
        assert run.pull(timeout=0).value == [1, 2]
        run.push(3, timeout=0)
        run.end()
        assert values(run) == [[3]]


@ENGINES
def test_sources_and_sinks(rust: bool) -> None:
    pipeline = Pipeline("p", [AddNode(name="a", addend=1), AddNode(name="b", addend=2)])
    pipeline.add_node(PassThroughNode(name="c")).add_node(BufferNode(name="d", buffer_size=3))
    pipeline._connections = []
    pipeline.connect("a_0", "c_2").connect("b_1", "c_2").connect("b_1", "d_3")
    with pipeline.open(use_rust=rust, window=2) as run:
        run.push(10, node="b_1")
        for unknown in ("c_2", "x", "\ud800"):
            with pytest.raises((MarshalError, UnicodeError)):
                run.push(1, node=unknown)
        run.push(20)
        run.end()
        assert list(run) == [
            (12, "c_2", 0, None),
            (21, "c_2", 1, None),
            (22, "c_2", 1, None),
            ([12, 22], "d_3", None, None),
        ]


# --- values ---------------------------------------------------------------------------------------

GRID = numpy.arange(12, dtype="float32").reshape(3, 4)
FRAME = Frame(numpy.arange(48, dtype="uint8").reshape(4, 4, 3), "rgb24", pts=0.25)
SOUND = Audio(numpy.linspace(-1, 1, 10, dtype="float32"), 16_000, pts=2.0)
VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, float("inf"), "", "a",
    "\u00e9\U0001f600", b"", b"\x00\xff", bytearray(b"ab"), [], {}, [[[None]]],
    {"a": [1, {"b": None}], "": 2}, (1, (2,)),
    {"$rm": 1}, {"$rm": {"$rm": [0]}}, {"a": {"$rm": "NaN"}}, "x" * 10_000, list(range(5_000)),
    b"y" * 10_000, [b"a", GRID, {"f": FRAME}],
    GRID, GRID.T, GRID[:, ::2], GRID[::-1], numpy.array(5), numpy.zeros((0, 3)), numpy.float32(2.5),
    numpy.arange(100_000), numpy.array([True, False]), numpy.array([1 + 2j]), SOUND, FRAME,
]  # fmt: skip


def plain(value: Any) -> Any:
    if isinstance(value, Audio):
        return "audio", value.sample_rate, value.pts, numpy.asarray(value).tolist()
    if isinstance(value, Frame):
        return "frame", value.format, value.pts, numpy.asarray(value).tolist()
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return "array", str(value.dtype), value.shape, value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value).__name__, bytes(value) if isinstance(value, bytearray) else value


def expected(value: Any) -> Any:
    if isinstance(value, bytearray):
        return plain(bytes(value))
    return plain(numpy.asarray(value) if isinstance(value, numpy.generic) else value)


@ENGINES
@pytest.mark.parametrize("how", ["push", "push_many"])
def test_values_of_all_kinds(rust: bool, how: str) -> None:
    with open_(rust, PassThroughNode(), window=len(VALUES)) as run:
        if how == "push_many":
            run.push_many(VALUES)
        else:
            for value in VALUES:
                run.push(value)
        run.end()
        outputs = values(run)
    gc.collect()
    if rust:
        assert [plain(output) for output in outputs] == [expected(value) for value in VALUES]
    else:
        assert len(outputs) == len(VALUES)


BAD = [
    object(), 2**64, -(2**63) - 1, "a\ud800", {1: 2}, [1, {"a": object()}], {"a": 2**70},
    {"\ud800": 1},
]  # fmt: skip


@ENGINES
@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_values_that_do_not_cross(rust: bool, bad: Any) -> None:
    with open_(rust, PassThroughNode(), window=3) as run:
        with pytest.raises(MarshalError, match=r"^(/\S+: )?input") as caught:
            run.push(bad)
        assert caught.value.code != "RM_E_INTERNAL"
        with pytest.raises(MarshalError, match=r"^(/\S+: )?input"):
            run.push_many([7, bad, 8])
        # What stands before it is in.
        assert run.push(9) == 1
        run.end()
        assert [output[0:3:2] for output in run] == [(7, 0), (9, 1)]


def test_outputs_outlive_the_session() -> None:
    with open_(True, PassThroughNode(), window=4) as run:
        run.push_many([GRID, SOUND, FRAME, numpy.arange(10_000)])
        outputs = values(run.pull_many())
    del run
    gc.collect()
    for _ in range(20):
        Pipeline("p", [PassThroughNode()]).run_sync([numpy.zeros(10_000)])
    assert plain(outputs) == plain([GRID, SOUND, FRAME, numpy.arange(10_000)])


# --- interrupt, set, cancel -----------------------------------------------------------------------


@ENGINES
def test_interrupt(rust: bool) -> None:
    with open_(rust, BufferNode(name="b", buffer_size=2), window=4) as run:
        run.push_many(range(4))
        assert run.pull().item == 1
        run.push(4)
        run.interrupt()
        assert run.try_pull() is None
        assert run.diagnose()["inside"] == 0
        assert run.push(9) == 5
        assert run.pull() == ([4, 9], "b_0", 5, None)


@ENGINES
def test_interrupt_makes_room_for_a_push_that_waits(rust: bool) -> None:
    with open_(rust, PassThroughNode(), window=2) as run:
        run.push_many([0, 1])
        assert run.pull().value == 0
        run.push(2)
        thread = threading.Thread(target=run.push, args=(3,))
        thread.start()
        while not run.diagnose()["waiting"]["push"]:
            pass
        run.interrupt()
        thread.join(30)
        assert not thread.is_alive()
        assert run.pull(timeout=30) == (3, "pass_through_0", 3, None)


@ENGINES
def test_set(rust: bool) -> None:
    with open_(rust, MultiplyNode(name="m", factor=2), BufferNode(name="b", buffer_size=1)) as run:
        run.push(1)
        run.set("m_0", factor=10)
        run.push(1)
        assert values([run.pull(), run.pull()]) == [[2], [10]]
        for params, pointer in [({"factor": "x"}, "/factor"), ({"other": 1}, "/other")]:
            with pytest.raises(ManifestError) as caught:
                run.set("m_0", **params)
            assert (caught.value.pointer, caught.value.node) == (f"/nodes/0/params{pointer}", "m_0")
        with pytest.raises(ManifestError):
            run.set("m_0", factor=float("nan"))
        with pytest.raises(ManifestError) as caught:
            run.set("b_1", buffer_size=0)
        assert caught.value.pointer == "/nodes/1/params/buffer_size"
        with pytest.raises(ManifestError, match="no node") as caught:
            run.set("m_1", factor=1)
        assert caught.value.hint == 'did you mean "m_0"?'
        run.push(1)
        assert run.pull().value == [10]
        run.end()
        with pytest.raises(RunEndedError):
            run.set("m_0", factor=1)


@ENGINES
@pytest.mark.parametrize("node", [PassThroughNode(), DelayNode(seconds=60)], ids=["cheap", "waits"])
def test_cancel_from_another_thread(rust: bool, node: Node) -> None:
    with open_(rust, node, window=4) as run:
        if isinstance(node, DelayNode):
            run.push(1)
        timer = threading.Timer(0.02, run.cancel)
        timer.start()
        with pytest.raises(RunCancelledError):
            run.pull(timeout=30)
        timer.join()
        for act in (run.pull, lambda: run.push(1), lambda: run.push_many([1])):
            with pytest.raises(RunCancelledError):
                act()


@ENGINES
def test_cancel_takes_what_was_not_pulled(rust: bool) -> None:
    with open_(rust, PassThroughNode(), window=4) as run:
        run.push_many(range(4))
        run.pull()
        run.cancel()
        with pytest.raises(RunCancelledError):
            run.push(1)
        with pytest.raises(RunCancelledError):
            run.pull()
    with open_(rust, PassThroughNode(), window=4) as run:
        run.push_many(range(4))
        run.end()
        # It is over already.
        run.cancel()
        assert values(run) == list(range(4))


@ENGINES
@pytest.mark.parametrize("nodes", [1, 3])
def test_threads_push_and_pull_at_once(rust: bool, nodes: int) -> None:
    found: list[Any] = []

    def pull(most: int) -> None:
        while some := run.pull_many(most):
            found.extend(some)

    with open_(rust, *(AddNode(addend=1) for _ in range(nodes)), window=5) as run:
        pushers = [threading.Thread(target=run.push_many, args=(range(150),)) for _ in range(3)]
        pullers = [threading.Thread(target=pull, args=(most,)) for most in (1, 2, 50)]
        for thread in pushers + pullers:
            thread.start()
        for thread in pushers:
            thread.join(60)
        run.end()
        for thread in pushers + pullers:
            thread.join(60)
            assert not thread.is_alive()
    assert sorted(output.item for output in found) == list(range(450))
    assert sorted(values(found)) == sorted([item + nodes for item in range(150)] * 3)


@ENGINES
@pytest.mark.parametrize("way", ["collect", "error", "leave", "delay"])
def test_ways_out(rust: bool, way: str) -> None:
    # So that there is what every process has.
    Pipeline("p", [PassThroughNode()]).run_sync([])
    gc.collect()
    before = native.handles()
    node = DelayNode(seconds=60) if way == "delay" else PassThroughNode()
    with pytest.raises(ZeroDivisionError) if way == "error" else open_(rust, PassThroughNode()):
        run = open_(rust, node, window=4).__enter__()
        run.push_many([1, numpy.zeros(10_000)])
        if way == "error":
            with run:
                raise ZeroDivisionError
    if way == "leave":
        run.close()
    del run
    gc.collect()
    assert native.handles() == before


# --- what it says of itself -----------------------------------------------------------------------


@ENGINES
def test_diagnose(rust: bool) -> None:
    keys = {
        "node", "method", "item", "seconds", "queued", "outputs", "inside", "window", "ended",
        "over", "waiting", "joins", "words",
    }  # fmt: skip
    with open_(rust, DelayNode(name="d", seconds=60), window=2) as run:
        assert run.diagnose()["words"].startswith("pull waits for an item")
        run.push(1)
        run.push(2)
        assert run.pull_many(timeout=0.02) == []
        found = run.diagnose()
        assert keys <= set(found)
        assert (found["node"], found["method"], found["item"]) == ("d_0", "process", 0)
        assert found["seconds"] > 0
        assert (found["inside"], found["window"], found["queued"]) == (2, 2, 1)
        assert found["words"].startswith("node 'd_0' has been in process with item 0 for 0.")
        assert "1 items wait to be processed" in found["words"]
        assert "push waits for room: 2 items are inside, of 2" in found["words"]
        thread = threading.Thread(target=run.pull_many, kwargs={"timeout": 0.5})
        thread.start()
        while not run.diagnose()["waiting"]["pull"]:
            pass
        thread.join(30)


@ENGINES
def test_diagnose_joins(rust: bool) -> None:
    pipeline = Pipeline("p", [PassThroughNode(name="a"), PassThroughNode(name="b")])
    pipeline.add_node(PassThroughNode(name="j"), join="zip")
    pipeline.connect("a_0", "j_2").connect("b_1", "j_2")
    with pipeline.open(use_rust=rust) as run:
        assert run.diagnose()["joins"] == {"j_2": {"a_0": 0, "b_1": 0}}
        run.push(1, node="a_0")
        found = run.diagnose()
        assert found["joins"] == {"j_2": {"a_0": 1, "b_1": 0}}
        words = "node 'j_2' holds values that wait for partners: 1 of 'a_0', 0 of 'b_1'"
        assert words in found["words"]


@ENGINES
@pytest.mark.parametrize("how", ["push", "pull", "recv"])
def test_a_stall_is_told_once(rust: bool, how: str, caplog: Any) -> None:
    async def main() -> None:
        async with open_(rust, PassThroughNode(), window=1, stall=0.01) as run:
            with pytest.raises(RunTimeoutError):
                await run.recv(timeout=0.1)

    with caplog.at_level(logging.WARNING, "remotemedia"):
        if how == "recv":
            asyncio.run(main())
        else:
            with open_(rust, PassThroughNode(), window=1, stall=0.01) as run:
                if how == "push":
                    run.push(1)
                for _ in range(2):
                    with pytest.raises(RunTimeoutError):
                        run.push(2, timeout=0.1) if how == "push" else run.pull(timeout=0.1)
    [record] = caplog.records
    waits = "push waits for room" if how == "push" else "pull waits for an item"
    assert f"a session has not moved for 0.01 s: {waits}" in record.getMessage()


@ENGINES
def test_the_time_of_the_run(rust: bool) -> None:
    with open_(rust, PassThroughNode(), timeout=0.05, window=1) as run:
        run.push(1)
        for act in (lambda: run.push(2, timeout=30), lambda: run.push(1)):
            with pytest.raises(RunTimeoutError, match=r"not complete after 0\.05 s"):
                act()

    async def main() -> None:
        async with open_(rust, PassThroughNode(), timeout=0.05) as run:
            with pytest.raises(RunTimeoutError, match=r"not complete after 0\.05 s"):
                await run.recv(timeout=30)

    asyncio.run(main())


@ENGINES
def test_a_session_is_left_after_its_time_with_outputs_that_nobody_took(rust: bool) -> None:
    async def main() -> None:
        async with open_(rust, PassThroughNode(), timeout=0.05, window=1) as run:
            await run.send(1)
            await run.send(2, timeout=30)

    with pytest.raises(RunTimeoutError, match="not complete"):
        asyncio.run(asyncio.wait_for(main(), 60))


# --- nodes that take time -------------------------------------------------------------------------

SECOND = numpy.sin(numpy.arange(16_000) / 20).astype("float32")


def test_heavy_nodes() -> None:
    pipeline = Pipeline("p", [AudioResampleNode(target_rate=8_000), PassThroughNode()])
    sounds = [Audio(SECOND * level, 16_000) for level in (0.1, 0.5, 1.0)] * 5
    batch = pipeline.run_sync(sounds)
    with pipeline.open(window=3) as run:
        thread = threading.Thread(target=lambda: (run.push_many(sounds), run.end()))
        thread.start()
        outputs = list(run)
        thread.join(30)
    assert plain(values(outputs)) == plain(list(batch))


@ENGINES
def test_delay(rust: bool) -> None:
    with open_(rust, DelayNode(seconds=0.001), AddNode(addend=1), window=3) as run:
        thread = threading.Thread(target=lambda: (run.push_many(range(20)), run.end()))
        thread.start()
        assert values(run) == list(range(1, 21))
        thread.join(30)


# --- asyncio --------------------------------------------------------------------------------------


@ENGINES
def test_send_and_recv(rust: bool) -> None:
    async def main() -> None:
        async with open_(rust, PassThroughNode(), window=2) as run:
            assert run.try_recv() is None
            assert await run.recv_many(timeout=0.01) == []
            assert run.try_send(1)
            assert run.try_send(2)
            assert not run.try_send(3)
            with pytest.raises(RunTimeoutError, match="room for the item"):
                await run.send(3, timeout=0.01)
            sending = asyncio.ensure_future(run.send(3))
            assert (await run.recv()).value == 1
            assert await sending == 2
            sending = asyncio.ensure_future(run.send_many(range(4, 30)))
            for item in range(2, 30):
                assert (await run.recv(timeout=30)).value == item
            assert await sending == 26
            run.end()
            with pytest.raises(RunEndedError):
                await run.recv()
            assert await run.recv_many() == []
            with pytest.raises(RunEndedError):
                await run.send(1)
            assert [output async for output in run] == []

    asyncio.run(main())


@ENGINES
@pytest.mark.parametrize("seconds", [None, 0.0])
def test_cancelled_waiters_lose_nothing(rust: bool, seconds: Any) -> None:
    nodes = [PassThroughNode()] if seconds is None else [DelayNode(seconds=seconds)]

    asyncio.run(cancel_at_random(open_(rust, *nodes, window=2), 100))


@ENGINES
@pytest.mark.parametrize("seconds", [None, 0.0])
def test_many_sessions_in_one_loop(rust: bool, seconds: Any) -> None:
    async def one(number: int) -> None:
        nodes = [AddNode(addend=number)] if seconds is None else [DelayNode(seconds=seconds)]
        async with open_(rust, *nodes, window=3) as run:
            senders = [asyncio.ensure_future(run.send_many(range(20))) for _ in range(3)]
            found = [(await run.recv(timeout=60)).item for _ in range(60)]
            assert found == list(range(60))
            assert [await sender for sender in senders] == [20] * 3

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(30)))

    asyncio.run(main())


@ENGINES
@pytest.mark.parametrize("way", ["cancel", "thread", "interrupt", "collect"])
def test_ways_out_of_waiting(rust: bool, way: str) -> None:
    async def main() -> None:
        async with open_(rust, PassThroughNode(), window=2) as run:
            await run.send(0)
            await run.send(1)
            assert (await run.recv()).value == 0
            await run.send(2)
            send = asyncio.ensure_future(run.send(3))
            await asyncio.sleep(0.01)
            assert not send.done()
            if way == "interrupt":
                run.interrupt()
                assert await send == 3
                assert (await run.recv()).value == 3
            elif way == "collect":
                send.cancel()
            else:
                thread = threading.Thread(target=run.cancel)
                thread.start() if way == "thread" else run.cancel()
                with pytest.raises(RunCancelledError):
                    await send

    async def collect() -> None:
        run = await open_(rust, PassThroughNode()).__aenter__()
        await run.send(1)
        # Somebody else's thread collects it.
        box = [run]
        del run
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main() if way != "collect" else collect())


@ENGINES
def test_a_loop_is_closed_with_a_session_open(rust: bool, capfd: Any) -> None:
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete(open_(rust, PassThroughNode()).__aenter__())
    loop.run_until_complete(run.send(1))
    if rust:
        loop.close()
    else:
        run.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    del run
    gc.collect()
    assert "Exception ignored" not in capfd.readouterr().err


def test_the_loop_stays_responsive_while_a_heavy_node_works() -> None:
    sound = Audio(numpy.tile(SECOND, 120), 16_000)

    async def main() -> int:
        turns = 0
        async with open_(True, AudioResampleNode(target_rate=44_100), window=2) as run:
            await run.send(sound)
            recv = asyncio.ensure_future(run.recv())
            while not recv.done():
                await asyncio.sleep(0)
                turns += 1
            assert recv.result().value.sample_rate == 44_100
        return turns

    assert asyncio.run(main()) > 100


# --- processes ------------------------------------------------------------------------------------


def run_code(code: str, timeout: float = 60) -> tuple[list[str], str, int]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done.stdout.split(), done.stderr, done.returncode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("node", ["PassThroughNode()", "DelayNode(seconds=0.05)"])
def test_a_forked_child_leaves_the_session_alone(node: str) -> None:
    told = run_code(f"""
        import os, sys
        from remotemedia import Pipeline, RemoteMediaError
        from remotemedia.nodes import DelayNode, PassThroughNode
        with Pipeline("p", [{node}]).open() as run:
            run.push(1)
            child = os.fork()
            if child == 0:
                for act in (run.pull, run.end, run.cancel, lambda: run.push(1)):
                    try:
                        act()
                    except RemoteMediaError as error:
                        print(error.code, flush=True)
                with Pipeline("p", [PassThroughNode()]).open() as own:
                    own.push(7)
                    print(own.pull().value, flush=True)
                run.close()
                del run
                sys.exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            print(run.pull().value)
    """)
    assert told == ([*["RM_E_FORKED"] * 4, "7", "0", "1"], "", 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.parametrize("waits", ["push", "pull", "fetched", "inside"])
def test_ctrl_c_loses_nothing(waits: str) -> None:
    told = run_code(f"""
        import signal
        from remotemedia import Pipeline
        from remotemedia.nodes import DelayNode, PassThroughNode
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        node = DelayNode(seconds=0.3) if {waits == "inside"} else PassThroughNode()
        with Pipeline("p", [node]).open(window=2) as run:
            if {waits != "pull"}:
                run.push_many([0, 1])
            if {waits == "fetched"}:
                print(run.pull().value)
                run.push(2)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                run.{"pull()" if waits in ("pull", "inside") else "push(3)"}
            except KeyboardInterrupt:
                print("interrupted")
            run.end()
            print(*(output.value for output in run))
    """)
    expected = {"push": "interrupted 0 1", "pull": "interrupted", "inside": "interrupted 0 1"}
    assert told == (expected.get(waits, "0 interrupted 1 2").split(), "", 0)


def test_exit_with_sessions_open_in_threads() -> None:
    told = run_code("""
        import threading
        from remotemedia import Pipeline
        from remotemedia.nodes import DelayNode, PassThroughNode
        runs = [Pipeline("p", [node]).open(window=1).__enter__()
                for node in (PassThroughNode(), DelayNode(seconds=60)) for _ in range(4)]
        for run in runs:
            run.push(1)
            for wait in (lambda: run.push(2), run.pull):
                threading.Thread(target=wait, daemon=True).start()
        print("bye")
    """)
    assert told == (["bye"], "", 0)


@pytest.mark.parametrize("ways", ["run_sync(range(64))", "open()"])
def test_an_exit_does_not_wait_for_what_a_daemon_thread_waits_for(ways: str) -> None:
    told = run_code(f"""
        import threading, time
        from remotemedia import Pipeline, node

        begun = threading.Event()

        @node(thread=True)
        def slow(value):
            print(value, flush=True)
            begun.set()
            time.sleep(0.05)
            return value

        def work():
            session = Pipeline("p", [slow()]).{ways}
            with session as run:
                run.push_many(range(64))
                list(run)

        threading.Thread(target=work, daemon=True).start()
        begun.wait(60)
        time.sleep(0.1)
    """)
    assert 0 < len(told[0]) < 32 and told[1:] == ("", 0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_nothing_is_left_behind() -> None:
    async def in_loop() -> None:
        async with open_(True, PassThroughNode()) as run:
            await run.send(GRID)
            await run.recv()
            await run.send(1)

    def some(count: int) -> None:
        for number in range(count):
            node = DelayNode(seconds=60) if number % 3 == 0 else PassThroughNode()
            with open_(True, node) as run:
                run.push_many([GRID, 1, "a"])
        asyncio.run(main(count))

    async def main(count: int) -> None:
        for _ in range(count):
            await in_loop()

    some(5)
    gc.collect()
    before = native.handles(), len(os.listdir("/proc/self/fd"))
    some(150)
    gc.collect()
    assert (native.handles(), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.parametrize("size", [10, 5_000], ids=["small", "large"])
@pytest.mark.parametrize("window", [1, 8])
def test_outputs_are_freed_when_nobody_has_them(size: int, window: int) -> None:
    array = numpy.zeros(size)
    gc.collect()
    before = native.handles()["rm_data"]
    with open_(True, PassThroughNode(), window=window) as run:
        for value in (array, [array], 1, "a" * 10 * size):
            for _ in range(20):
                run.push(value)
                run.try_pull() or run.pull()
                assert run.try_pull() is None
            for _ in range(4):
                run.push_many([value] * window)
                while run.pull_many(3, timeout=0):
                    pass
            gc.collect()
            assert native.handles()["rm_data"] == before


@pytest.mark.parametrize("wrap", [str, lambda n: [n]], ids=["texts", "lists"])
def test_a_signal_between_crossing_and_counting_loses_nothing(monkeypatch: Any, wrap: Any) -> None:
    from remotemedia.core import native_stream

    def interrupted(*_: Any) -> Any:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with open_(True, PassThroughNode(), window=4) as run:
        run.push(wrap(0))
        backend = run._backend
        exchange = backend._cross

        def then_interrupted(*args: Any) -> Any:
            exchange(*args)
            return interrupted()

        monkeypatch.setattr(backend, "_cross", then_interrupted)
        monkeypatch.setattr(backend._library, "exchange", then_interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.push(wrap(1))
        assert run.push(wrap(2)) == 2
        monkeypatch.setattr(native_stream, "loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.pull_many()
        assert [output[0:3:2] for output in run.pull_many()] == [(wrap(n), n) for n in range(3)]
        monkeypatch.setattr(native_stream, "loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            # An item that is a number brings what there is with it.
            print(run.push(wrap(3)), run.pull())
        run.interrupt()
        assert run.try_pull() is None
        run.push_many([wrap(n) for n in (4, 5, 6, 7)])


@pytest.mark.parametrize("many", [False, True])
def test_a_signal_before_crossing_doubles_nothing(monkeypatch: Any, many: bool) -> None:
    def interrupted(*_: Any) -> Any:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with open_(True, PassThroughNode()) as run:
        push = (lambda item: run.push_many([item])) if many else run.push
        push(1)
        assert run.pull().value == 1
        monkeypatch.setattr(run._backend, "_cross", interrupted)
        with pytest.raises(KeyboardInterrupt):
            push(2)
        assert run.try_pull() is None
        push(3)
        assert run.pull()[0:3:2] == (3, 1)


def test_arrays_of_changing_shape_keep_theirs() -> None:
    small, big = numpy.arange(3.0), numpy.arange(2_000.0)
    with open_(True, PassThroughNode()) as run:
        for array in (big, big, small, big[::-1], small, big.reshape(40, 50), small, big):
            run.push(array)
            assert numpy.array_equal(run.pull().value, array)


def test_an_array_pushed_after_ctrl_c_has_its_shape() -> None:
    small, big = numpy.arange(3.0), numpy.arange(2_000.0)

    class Interrupted:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __setitem__(self, at: int, view: Any) -> None:
            self.array[at] = view
            raise KeyboardInterrupt

    with open_(True, PassThroughNode()) as run:
        for array in (small, big, small):
            run.push(array)
            run.pull()
        place = run._backend._lender
        array, place.array = place.array, Interrupted(place.array)
        with pytest.raises(KeyboardInterrupt):
            run.push(big)
        place.array = array
        run.push(small)
        assert numpy.array_equal(run.pull().value, small)


def test_many_arrays_after_ctrl_c_are_those_that_were_pushed() -> None:
    few = [numpy.full(5, float(number)) for number in range(3)]
    many = [numpy.full(7, float(number)) for number in range(10)]

    class Interrupted:
        """Room for views, in the midst of which Ctrl-C comes."""

        def __getitem__(self, at: int) -> Any:
            raise KeyboardInterrupt

    with open_(True, PassThroughNode()) as run:
        run.push_many(few)
        place = run._backend._sender
        library = place.library
        broken = SimpleNamespace(new=lambda *_: Interrupted())
        names = {name: getattr(library, name) for name in ("from_buffer", "templates", "template")}
        struct = place.struct
        place.struct = SimpleNamespace(parts=None, part_count=0)
        place.library = SimpleNamespace(ffi=broken, **names)
        with pytest.raises(KeyboardInterrupt):
            run.push_many(many)
        place.library, place.struct = library, struct
        for arrays in (few, many):
            run.push_many(arrays)
        pulled = [output.value for output in run.pull_many(64)]
        assert all(map(numpy.array_equal, pulled, [*few, *few, *many])) and len(pulled) == 16


def test_a_pull_of_what_was_fetched_wakes_who_sends() -> None:
    async def main() -> None:
        async with open_(True, PassThroughNode(), window=4) as run:
            await run.send_many(range(4))
            assert (await run.recv()).value == 0
            await run.send(4)
            sending = asyncio.ensure_future(run.send(5))
            await asyncio.sleep(0.01)
            assert not sending.done()
            assert (await run.recv()).value == 1
            assert await asyncio.wait_for(sending, 30) == 5

    asyncio.run(main())


def test_waiters_that_were_cancelled_are_forgotten() -> None:
    async def main() -> None:
        async with open_(True, PassThroughNode()) as run:
            for _ in range(5):
                task = asyncio.ensure_future(run.recv())
                while not run._backend._futures:  # noqa: ASYNC110  the list is no event
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
                assert run._backend._futures == []
            assert run.diagnose()["waiting"] == {"push": 0, "pull": 0}

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_pipeline_from_before_a_fork_opens_in_the_child() -> None:
    told = run_code("""
        import os, sys
        from remotemedia import Pipeline
        from remotemedia.nodes import DelayNode
        pipeline = Pipeline("p", [DelayNode(seconds=0.001)])
        assert pipeline.run_sync([1]) == [1]
        child = os.fork()
        with pipeline.open() as run:
            run.push(2)
            # At once, as two processes do so.
            os.write(1, f"{run.pull(timeout=30).value} ".encode())
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert told == (["2", "2", "0"], "", 0)
