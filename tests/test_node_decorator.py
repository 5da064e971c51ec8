"""Nodes made of functions, in threads, and what a pipeline may be told of its nodes."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from typing import Any

import pytest
from conftest import engine

from remotemedia import (
    Audio,
    ManifestError,
    Node,
    NodeError,
    Pipeline,
    RunTimeoutError,
    node,
)
from remotemedia.nodes import BufferNode, PassThroughNode

pytestmark = pytest.mark.usefixtures("either_engine")


@node
def double(value: Any) -> Any:
    """Doubles."""
    return value * 2


@node
def scale(value: Any, factor: int = 2, *, offset: int = 0) -> Any:
    return value * factor + offset


@node
def words(text: Any) -> Any:
    yield from text.split()


@node
async def later(value: Any, seconds: float) -> Any:
    await asyncio.sleep(seconds)
    return value


@node
async def twice(value: Any) -> Any:
    yield value
    await asyncio.sleep(0)
    yield value


@node
def free(value: Any, **more: Any) -> Any:
    return {"value": value, **more}


def run(items: Any, *nodes: Node, **options: Any) -> Any:
    return Pipeline("p", nodes).run_sync(items, use_rust=engine.rust, **options)


def test_every_kind_of_function() -> None:
    assert run([1], double()) == [2]
    assert run(["a b"], words()) == ["a", "b"]
    assert run([1], later(0.001)) == [1]
    assert run([1], twice()) == [1, 1]
    assert run([1], free(a=2)) == [{"value": 1, "a": 2}]
    assert run([1], node(lambda value: value + 1)()) == [2]


def test_parameters() -> None:
    assert run([1], scale()) == [2]
    assert run([1], scale(3)) == run([1], scale(factor=3)) == [3]
    made = scale(factor=3, offset=1, name="x")
    assert (made.name, made.params) == ("x", {"factor": 3, "offset": 1})
    assert (scale().name, scale().node_type) == ("scale", "scale")
    assert repr(made) == "scale(name='x', factor=3, offset=1)"
    for bad, why in (
        (lambda: scale(fact=3), "got an unexpected keyword argument 'fact'"),
        (lambda: scale(1, 2), "too many positional"),
        (later, "missing a required argument: 'seconds'"),
    ):
        with pytest.raises(TypeError, match=rf"(scale|later)\(\): {why}"):
            bad()


def test_it_is_a_class_like_others() -> None:
    kind: Any = double
    assert issubclass(kind, Node)
    assert (kind.__doc__, kind.__name__, kind.__module__) == ("Doubles.", "double", __name__)
    assert kind.function(4) == 8
    pipeline = Pipeline("p", [scale(factor=3, name="s"), free(a=[1])])
    text = pipeline.serialize()
    assert [entry["params"] for entry in json.loads(text)["nodes"]] == [
        {"factor": 3, "offset": 0},
        {"a": [1]},
    ]
    back = Pipeline.from_manifest(text, node_types=[scale, free])
    assert back.serialize() == text
    assert back.run_sync([1], use_rust=engine.rust) == [{"value": 3, "a": [1]}]
    for made in (scale(factor=3, name="s"), later(seconds=1).options(timeout=3)):
        other = pickle.loads(pickle.dumps(made))
        assert (other.params, other.name) == (made.params, made.name)
        assert other.__dict__ == made.__dict__


def test_what_makes_no_node() -> None:
    def nothing() -> Any: ...
    def several(*values: Any) -> Any: ...
    def more(value: Any, *values: Any) -> Any: ...
    def positional(value: Any, by: Any, /) -> Any: ...
    def named(value: Any, name: Any) -> Any: ...
    async def threaded(value: Any) -> Any: ...

    for function, why in (
        (nothing, "takes no value"),
        (several, "takes no value"),
        (more, r"takes \*values: .*"),
        (positional, "takes by"),
        (named, "takes 'name'"),
        (len, "not of <built-in"),
        (double, "not of <class"),
        (5, "not of 5"),
    ):
        with pytest.raises(TypeError, match=why):
            node(function)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is async, and needs no thread"):
        node(thread=True)(threaded)
    with pytest.raises(TypeError, match="not in both"):
        node(thread=True, process=True)(double.function)
    with pytest.raises(TypeError, match="not in both"):

        class Both(Node, thread=True, process=True):
            pass


# --- threads --------------------------------------------------------------------------------------


class Threaded(Node, thread=True):
    def __init__(self, name: Any = None, fails: bool = False) -> None:
        super().__init__(name)
        self.fails = fails
        self.log: list[Any] = []

    def note(self, what: Any) -> None:
        self.log.append((what, threading.get_ident()))

    def initialize(self) -> None:
        self.note("initialize")

    def process(self, value: Any) -> Any:
        self.note(value)
        yield value
        self.note("between")
        if self.fails:
            raise StopIteration if value == 2 else ValueError("told to")
        yield value

    def flush(self) -> Any:
        self.note("flush")

    def cleanup(self) -> None:
        self.note("cleanup")


@pytest.mark.parametrize("how", ["sync", "async", "session"])
def test_all_methods_are_called_in_one_thread_of_its_own(how: str) -> None:
    threaded, before = Threaded(), threading.active_count()
    pipeline = Pipeline("p", [threaded])
    if how == "sync":
        assert pipeline.run_sync([1], use_rust=engine.rust) == [1, 1]
    elif how == "async":
        assert asyncio.run(pipeline.run([1], use_rust=engine.rust)) == [1, 1]
    else:
        with pipeline.open(use_rust=engine.rust) as session:
            session.push(1)
            session.end()
            assert [output.value for output in session] == [1, 1]
    what, threads = zip(*threaded.log)
    assert what == ("initialize", 1, "between", "flush", "cleanup")
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    for thread in threading.enumerate():
        if thread.name.startswith("remotemedia"):
            thread.join(10)
    assert threading.active_count() == before


def test_errors_in_a_thread() -> None:
    threaded = Threaded(fails=True, name="t")
    with pytest.raises(NodeError, match="ValueError: told to") as caught:
        run([1], threaded)
    assert (caught.value.node, caught.value.item) == ("t_0", 0)
    assert threaded.log[-1][0] == "cleanup"

    @node(thread=True)
    def stops(value: Any) -> Any:
        raise StopIteration

    with pytest.raises(NodeError, match="StopIteration"):
        run([1], stops())


def test_the_event_loop_stays_free() -> None:
    entered, gate = threading.Event(), threading.Event()

    @node(thread=True)
    def blocks(value: Any) -> Any:
        entered.set()
        assert gate.wait(30)
        return value

    async def main() -> Any:
        task = asyncio.ensure_future(Pipeline("p", [blocks()]).run([1, 2], use_rust=engine.rust))
        while not entered.is_set():  # noqa: ASYNC110  it is set in a thread
            await asyncio.sleep(0)
        gate.set()
        return await task

    assert asyncio.run(main()) == [1, 2]


def test_a_thread_that_does_not_end_is_cleaned_up_when_it_does(caplog: Any) -> None:
    gate, cleaned = threading.Event(), threading.Event()

    class Blocks(Node, thread=True):
        def process(self, value: Any) -> Any:
            assert gate.wait(30)

        def cleanup(self) -> None:
            assert gate.is_set()
            cleaned.set()

    with pytest.raises(RunTimeoutError):
        run([1], Blocks(name="b"), timeout=0.05)
    assert "'b_0' is cleaned up when its thread is done" in caplog.text
    assert not cleaned.is_set()
    gate.set()
    assert cleaned.wait(30)


# --- options --------------------------------------------------------------------------------------


def test_options_are_written_and_read() -> None:
    pipeline = Pipeline("p", [double(name="a").options(on_error="skip", timeout=3)])
    pipeline.add_node(PassThroughNode(name="b"), on_error={"retry": 2, "backoff": 0.5})
    pipeline.add_node(scale(name="c"), join={"by_pts": 0.1}, parallelism=1)
    pipeline.connect("a_0", "b_1", queue={"items": 8, "policy": "drop_oldest"})
    pipeline.connect("a_0", "c_2").connect("b_1", "c_2")
    document = json.loads(pipeline.serialize())
    a, b, c = document["nodes"]
    assert (a["on_error"], a["timeout"]) == ("skip", 3)
    assert b["on_error"] == {"retry": 2, "backoff": 0.5}
    assert (c["join"], c["parallelism"]) == ({"by_pts": 0.1}, 1)
    assert document["connections"] == [
        {"from": "a_0", "to": "b_1", "queue": {"items": 8, "policy": "drop_oldest"}},
        {"from": "a_0", "to": "c_2"},
        {"from": "b_1", "to": "c_2"},
    ]
    back = Pipeline.from_manifest(document, [double, scale])
    assert json.loads(back.serialize()) == document
    back.validate()
    with pytest.raises(TypeError, match="on_eror"):
        back.add_node(double(), on_eror="skip")


def test_settings_are_those_that_were_given() -> None:
    retry: dict[str, Any] = {"retry": 1, "backoff": 0}
    queue: dict[str, Any] = {"items": 8}
    pipeline = Pipeline("p", [double(name="a").options(on_error=retry), double(name="b")])
    pipeline.connect("a_0", "b_1", queue=queue)
    before = pipeline.serialize()
    retry["retry"] = queue["items"] = 2
    assert pipeline.serialize() == before


def test_options_are_checked_and_changes_count() -> None:
    made = double(name="d")
    pipeline = Pipeline("p", [made])
    assert pipeline.run_sync([1], use_rust=engine.rust) == [2]
    made.options(on_error="skp")
    for act in (pipeline.validate, lambda: pipeline.run_sync([1], use_rust=engine.rust)):
        with pytest.raises(ManifestError, match='"on_error" cannot be "skp"') as caught:
            act()
        assert caught.value.hint == 'did you mean "skip"?'
        assert (caught.value.node, caught.value.pointer) == ("d_0", "/nodes/0/on_error")
    made.options(on_error="skip")
    assert pipeline.run_sync([None, 1], use_rust=engine.rust) == [2]
    other = Pipeline("q", [PassThroughNode(), BufferNode()])
    other.connect("pass_through_0", "buffer_1", queue={"items": 0})
    with pytest.raises(ManifestError, match='"items" is out of range'):
        other.run_sync([1], use_rust=engine.rust)


class Flaky(Node):
    """Fails with a value the first times that it comes."""

    def __init__(self, times: int = 1, name: Any = None) -> None:
        super().__init__(name)
        self.times = times
        self.tried: list[Any] = []

    def process(self, value: Any) -> Any:
        yield "too early"
        self.tried.append(value)
        if self.tried.count(value) <= self.times:
            raise ValueError("not yet")
        yield value


@pytest.mark.parametrize("how", ["sync", "async", "session"])
def test_retry(how: str) -> None:
    def go(times: int, retry: int) -> Any:
        flaky = Flaky(times, name="f").options(on_error={"retry": retry, "backoff": 0.001})
        pipeline = Pipeline("p", [flaky])
        if how == "session":
            with pipeline.open(use_rust=engine.rust) as session:
                session.push_many([1, 2])
                session.end()
                return [output.value for output in session], session.metrics["nodes"]["f_0"]
        if how == "async":
            result = asyncio.run(pipeline.run([1, 2], use_rust=engine.rust))
        else:
            result = pipeline.run_sync([1, 2], use_rust=engine.rust)
        return result, result.metrics["nodes"]["f_0"]

    result, metrics = go(times=2, retry=2)
    assert result == ["too early", 1, "too early", 2]
    counts = {key: metrics[key] for key in ("items_in", "items_out", "errors", "retries")}
    assert counts == {"items_in": 2, "items_out": 4, "errors": 4, "retries": 4}
    with pytest.raises(NodeError, match="not yet") as caught:
        go(times=3, retry=2)
    assert (caught.value.node, caught.value.item) == ("f_0", 0)


@pytest.mark.python_engine
def test_the_pause_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    run([1], Flaky(3).options(on_error={"retry": 3, "backoff": 0.25}))
    assert pauses == [0.25, 0.5, 1.0]


def test_the_time_of_the_run_counts_in_a_pause() -> None:
    with pytest.raises(RunTimeoutError, match="the run was not complete"):
        run([1], Flaky(9).options(on_error={"retry": 9, "backoff": 60}), timeout=0.05)


def test_flush_is_not_forgiven() -> None:
    class Broken(Node):
        def process(self, value: Any) -> Any:
            return value

        def flush(self) -> Any:
            raise ValueError("told to")

    with pytest.raises(NodeError, match="told to"):
        run([1], Broken().options(on_error="skip"))


@node
def plain_slow(value: Any) -> Any:
    if value == 1:
        time.sleep(0.05)
    return value


@node
def slow_in_parts(value: Any) -> Any:
    yield value
    if value == 1:
        time.sleep(0.05)
        yield value
        yield from iter(int, 1)


@node
async def async_slow(value: Any) -> Any:
    if value == 1:
        await asyncio.sleep(60)
    return value


@node(thread=True)
def thread_slow(value: Any) -> Any:
    if value == 1:
        time.sleep(0.05)
    return value


@pytest.mark.parametrize("kind", [plain_slow, slow_in_parts, async_slow, thread_slow])
def test_the_time_for_a_value(kind: Any) -> None:
    with pytest.raises(RunTimeoutError) as caught:
        run([2, 1], kind(name="s").options(timeout=0.02))
    error = caught.value
    assert (error.node, error.item, error.code) == ("s_0", 1, "RM_E_TIMEOUT")
    assert error.message == "the value took longer than 0.02 s"
    for on_error, expected in (("skip", [2, 3]), ("passthrough", [2, 1, 3])):
        made = kind(name="s").options(timeout=0.02, on_error=on_error)
        result = run([2, 1, 3], made)
        assert result == expected
        assert result.metrics["nodes"]["s_0"]["errors"] == 1


# --- joins ----------------------------------------------------------------------------------------


def joined(join: Any, *sources: str) -> Pipeline:
    pipeline = Pipeline("p", [PassThroughNode(name=name) for name in sources])
    pipeline.add_node(BufferNode(name="j", buffer_size=1), join=join)
    for place, name in enumerate(sources):
        pipeline.connect(f"{name}_{place}", pipeline.nodes[-1])
    return pipeline


def test_zip_holds_what_has_no_partner() -> None:
    pipeline = joined("zip", "a", "b")
    with pipeline.open(use_rust=engine.rust) as session:
        for name, value in (("a_0", 1), ("a_0", 2), ("b_1", 10), ("a_0", 3), ("b_1", 20)):
            session.push(value, node=name)
        session.end()
        outputs = [(output.value, output.item) for output in session]
        assert outputs == [([[1, 10]], 2), ([[2, 20]], 4)]
        assert session.metrics["nodes"]["j_2"]["dropped"] == 1
        assert session.metrics["nodes"]["j_2"]["items_in"] == 2


def test_latest() -> None:
    pipeline = joined("latest", "a", "b")
    with pipeline.open(use_rust=engine.rust) as session:
        for name, value in (("a_0", 1), ("b_1", 10), ("a_0", 2), ("a_0", 3), ("b_1", 20)):
            session.push(value, node=name)
        session.push(7)
        session.end()
        outputs = [output.value for output in session]
        assert outputs == [[[2, 10]], [[3, 10]], [[7, 7]]]
        assert session.metrics["nodes"]["j_2"]["dropped"] == 1


def test_by_pts() -> None:
    def at(pts: float) -> Any:
        return Audio(memoryview(bytes(4)).cast("f"), 8000, pts)

    pipeline = joined({"by_pts": 0.25}, "a", "b")
    with pipeline.open(use_rust=engine.rust) as session:
        for name, pts in (
            ("a_0", 0.0), ("b_1", 0.25), ("b_1", 0.5), ("b_1", 0.75), ("a_0", 1.0),
            ("a_0", 2.0), ("b_1", 2.5), ("b_1", 3.0), ("a_0", 2.75), ("a_0", 9.0),
        ):  # fmt: skip
            session.push(at(pts), node=name)
        session.end()
        pairs = [[value.pts for value in output.value[0]] for output in session]
        assert pairs == [[0.0, 0.25], [1.0, 0.75], [2.75, 2.5]]
        # 0.5 was too old, 2.0 had none near, 3.0 and 9.0 are left.
        assert session.metrics["nodes"]["j_2"]["dropped"] == 4
    with pytest.raises(NodeError, match='"by_pts" joins values that have a pts, got an integer'):
        pipeline.run_sync([1], use_rust=engine.rust)


@pytest.mark.python_engine
def test_a_limit_for_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from remotemedia.core import engine as python_engine

    monkeypatch.setattr(python_engine, "MAX_VALUES", 5)
    with pytest.raises(NodeError, match="more than 5 values wait for their partners") as caught:
        joined("zip", "a", "b").run_sync({"a_0": range(9)}, use_rust=engine.rust)
    assert (caught.value.code, caught.value.node, caught.value.item) == ("RM_E_LIMIT", "j_2", 5)
