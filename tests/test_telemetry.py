"""Spans and metrics: what OpenTelemetry is told of runs and sessions, and that nothing is told, and
nothing imported, before somebody asks for it."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Callable, ClassVar, Optional

import pytest
from conftest import needed

from remotemedia import (
    ManifestError,
    NodeError,
    Pipeline,
    Result,
    RunTimeoutError,
    Session,
    native,
    node,
)
from remotemedia.core.session import Backend
from remotemedia.nodes import AddNode, BufferNode, DelayNode, MultiplyNode, PassThroughNode

trace = needed("opentelemetry.trace")
tracing = needed("opentelemetry.sdk.trace")
exporting = needed("opentelemetry.sdk.trace.export")
in_memory = needed("opentelemetry.sdk.trace.export.in_memory_span_exporter")
sampling = needed("opentelemetry.sdk.trace.sampling")
metering = needed("opentelemetry.sdk.metrics")
reading = needed("opentelemetry.sdk.metrics.export")
telemetry = needed("remotemedia.telemetry")

Run = Callable[..., Result]


class Seen:
    """What was told."""

    def __init__(self) -> None:
        self.exporter = in_memory.InMemorySpanExporter()
        self.reader = reading.InMemoryMetricReader()
        self.tracers = tracing.TracerProvider()
        self.tracers.add_span_processor(exporting.SimpleSpanProcessor(self.exporter))
        self.meters = metering.MeterProvider([self.reader])

    def spans(self, name: Optional[str] = None) -> list[Any]:
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if name is None or span.name == name]

    def span(self, name: str) -> Any:
        [span] = self.spans(name)
        return span

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            if scope.scope.name == "remotemedia"
            for metric in scope.metrics
            if metric.name == f"remotemedia.{name}"
        ]
        return [point for metric in found for point in metric.data.data_points]

    def of_nodes(self, name: str) -> dict[str, Any]:
        return {
            point.attributes["remotemedia.node.id"]: point.value
            for point in self.points(f"node.{name}")
        }

    def of_sessions(self, name: str) -> Any:
        [point] = self.points(f"session.{name}")
        return point.value


@pytest.fixture
def seen() -> Iterator[Seen]:
    told = Seen()
    telemetry.instrument(told.tracers, told.meters)
    yield told
    telemetry.uninstrument()
    told.meters.shutdown()
    told.tracers.shutdown()


def run_sync(pipeline: Pipeline, *args: Any, **kwargs: Any) -> Result:
    return pipeline.run_sync(*args, **kwargs)


def run_async(pipeline: Pipeline, *args: Any, **kwargs: Any) -> Result:
    return asyncio.run(pipeline.run(*args, **kwargs))


def session_sync(pipeline: Pipeline, items: list[Any], **kwargs: Any) -> list[Any]:
    with pipeline.open(**kwargs) as run:
        run.push_many(items)
        run.end()
        return [output.value for output in run]


def session_async(pipeline: Pipeline, items: list[Any], **kwargs: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with pipeline.open(**kwargs) as run:
            await run.send_many(items)
            run.end()
            return [output.value async for output in run]

    return asyncio.run(main())


BATCHES = pytest.mark.parametrize("run", [run_sync, run_async])
ALL = pytest.mark.parametrize("run", [run_sync, run_async, session_sync, session_async])
ENGINES = pytest.mark.parametrize("use_rust", [True, False])


def pairs() -> Pipeline:
    return Pipeline(
        "pairs", [AddNode(addend=1, name="add"), BufferNode(buffer_size=2, name="buffer")]
    )


def is_session(run: Any) -> bool:
    return run in (session_sync, session_async)


@ALL
@ENGINES
def test_span_of_a_run(seen: Seen, run: Any, use_rust: bool) -> None:
    kind, verb = ("session", "session") if is_session(run) else ("batch", "run")
    tracer = seen.tracers.get_tracer("test")
    with tracer.start_as_current_span("around") as around:
        assert list(run(pairs(), [1, 2, 3], use_rust=use_rust)) == [[2, 3], [4]]
        assert trace.get_current_span() is around
    span = seen.span(f"{verb} pairs")
    assert span.parent.span_id == around.get_span_context().span_id
    assert span.status.status_code is trace.StatusCode.UNSET
    attributes = dict(span.attributes)
    assert attributes.pop("remotemedia.engine") in ("native", "python")
    assert attributes == {
        "remotemedia.pipeline.name": "pairs",
        "remotemedia.run.kind": kind,
        "remotemedia.run.outcome": "completed",
        "remotemedia.run.items": 3,
        "remotemedia.run.items_done": 3,
        "remotemedia.run.outputs": 2,
    }
    nodes = [dict(event.attributes) for event in span.events]
    assert [event.name for event in span.events] == ["remotemedia.node"] * 2
    found = [(one["remotemedia.node.id"], one["remotemedia.node.type"]) for one in nodes]
    assert found == [("add_0", "AddNode"), ("buffer_1", "BufferNode")]
    assert [one["remotemedia.node.items"] for one in nodes] == [3, 3]
    assert [one["remotemedia.node.outputs"] for one in nodes] == [3, 2]
    assert all(0 < one["remotemedia.node.time"] < 60 for one in nodes)
    assert not any("remotemedia.node.errors" in one for one in nodes)
    assert span.instrumentation_scope.name == "remotemedia"


@ALL
@ENGINES
def test_metrics_of_runs(seen: Seen, run: Any, use_rust: bool) -> None:
    pipeline = pairs()
    for _ in range(2):
        run(pipeline, [1, 2, 3], use_rust=use_rust)
    assert seen.of_nodes("items") == {"add_0": 6, "buffer_1": 6}
    assert seen.of_nodes("outputs") == {"add_0": 6, "buffer_1": 4}
    for name in ("errors", "retries", "dropped"):
        assert seen.of_nodes(name) == {"add_0": 0, "buffer_1": 0}
    assert all(0 < seconds < 60 for seconds in seen.of_nodes("time").values())
    [duration] = seen.points("run.duration")
    assert duration.count == 2
    assert 0 < duration.sum < 60
    assert duration.attributes["remotemedia.run.outcome"] == "completed"
    assert duration.explicit_bounds[0] < 1e-4


def test_the_table_of_the_metrics(root: Path) -> None:
    class Meter:
        made: ClassVar[list[tuple[str, str]]] = []

        def create(self, name: str, *args: Any, unit: str = "", **_: Any) -> Any:
            self.made.append((name, args[1] if args else unit))

        create_histogram = create_observable_counter = create_observable_up_down_counter = create

    telemetry._Counts(Meter())
    text = (root / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(remotemedia\.[a-z._]+)` \| `(s|\{[a-z]+\})` \|", text, re.MULTILINE)
    assert rows == Meter.made
    assert all(unit == "s" or unit[0] == "{" for _, unit in rows)


@ENGINES
def test_metrics_of_an_open_session(seen: Seen, use_rust: bool) -> None:
    def inside() -> list[int]:
        return [seen.of_sessions(key) for key in ("count", "window", "inside", "outputs")]

    first, second = pairs(), pairs()
    with first.open(window=8, use_rust=use_rust) as one, second.open(use_rust=use_rust) as two:
        for item in range(4):
            one.push(item)
        two.push(1)
        assert one.pull().value == [1, 2]
        # What is inside depends on how far the run has got; here it is all through.
        while one.metrics["items_done"] < 4 or two.metrics["items_done"] < 1:
            one.try_pull()
        found = [each.diagnose() for each in (one, two)]
        sums = [sum(each[key] for each in found) for key in ("window", "inside", "outputs")]
        assert inside() == [2, *sums]
        assert sums[0] == 8 + 64
        assert seen.of_sessions("queued") == 0
        assert seen.of_nodes("items") == {"add_0": 5, "buffer_1": 5}
    assert inside() == [0, 0, 0, 0]
    assert seen.of_nodes("items") == {"add_0": 5, "buffer_1": 5}


def test_queues(seen: Seen) -> None:
    if not native.is_available():
        pytest.skip("only the native engine has queues")
    nodes = [PassThroughNode(name="in"), DelayNode(seconds=600, name="slow")]
    pipeline = Pipeline("queues", nodes)
    pipeline.connect("in_0", "slow_1", queue={"items": 1, "policy": "drop_newest"})
    ends = {"remotemedia.queue.from": "in_0", "remotemedia.queue.to": "slow_1"}
    with pipeline.open() as run:
        run.push(0)
        while run.diagnose()["node"] != "slow_1":
            run.try_pull()
        for item in range(1, 4):
            run.push(item)
        # One waits in the queue, the others found it full.
        while run.metrics["queues"][0]["dropped"] < 2:
            run.try_pull()
        [queue] = run.metrics["queues"]
        assert (queue["fill"], queue["dropped"]) == (1, 2)
        for name in ("fill", "dropped"):
            [point] = seen.points(f"queue.{name}")
            assert point.value == queue[name]
            assert dict(point.attributes) == {"remotemedia.pipeline.name": "queues", **ends}
    [point] = seen.points("queue.fill")
    assert point.value == 0
    [point] = seen.points("queue.dropped")
    assert point.value == 2


def test_counts_of_what_goes_wrong(seen: Seen) -> None:
    tried: list[int] = []

    @node
    def second_time(value: int) -> int:
        tried.append(value)
        if tried.count(value) < 2:
            raise ValueError("once more")
        return value

    again = second_time().options(on_error={"retry": 2})
    Pipeline("retry", [again]).run_sync([1, 2])
    assert seen.of_nodes("errors") == seen.of_nodes("retries") == {"second_time_0": 2}
    [event] = seen.span("run retry").events
    assert event.attributes["remotemedia.node.errors"] == 2

    split = Pipeline("join", [PassThroughNode(name="a"), PassThroughNode(name="b")])
    split.add_node(PassThroughNode(name="both"), join="zip")
    split.connect("a_0", "both_2").connect("b_1", "both_2")
    split.run_sync({"a_0": [1, 2, 3], "b_1": [1]})
    assert seen.of_nodes("dropped")["both_2"] == 2


@ALL
@ENGINES
def test_a_node_that_fails(seen: Seen, run: Any, use_rust: bool) -> None:
    pipeline = Pipeline("bad", [PassThroughNode(name="in"), MultiplyNode(factor=2, name="twice")])
    with pytest.raises(NodeError) as caught:
        run(pipeline, [1, {}, 3], use_rust=use_rust)
    [span] = seen.spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == str(caught.value)
    attributes = dict(span.attributes)
    assert attributes["error.type"] == "remotemedia.errors.NodeError"
    assert attributes["remotemedia.error.code"] == "RM_E_NODE"
    assert attributes["remotemedia.node.id"] == "twice_1"
    assert attributes["remotemedia.node.type"] == "MultiplyNode"
    assert attributes["remotemedia.item.index"] == 1
    assert attributes["remotemedia.run.outcome"] == "failed"
    [event] = [event for event in span.events if event.name == "exception"]
    assert event.attributes["exception.type"] == "remotemedia.errors.NodeError"
    assert seen.of_nodes("errors")["twice_1"] == 1
    [duration] = seen.points("run.duration")
    assert duration.attributes["error.type"] == "remotemedia.errors.NodeError"


def test_the_cause_of_a_failure(seen: Seen) -> None:
    @node
    def bad(value: Any) -> Any:
        raise LookupError("nothing there")

    with pytest.raises(NodeError):
        Pipeline("bad", [bad()]).run_sync([1])
    [event] = seen.span("run bad").events
    assert "LookupError: nothing there" in str(event.attributes["exception.stacktrace"])


def test_a_pipeline_that_cannot_run(seen: Seen) -> None:
    with pytest.raises(ManifestError):
        Pipeline("empty").run_sync([1])
    assert seen.span("run empty").status.status_code is trace.StatusCode.ERROR


@ALL
def test_a_node_that_cannot_begin(seen: Seen, run: Any) -> None:
    class Bad(PassThroughNode):
        def initialize(self) -> None:
            raise OSError("no such device")

        def process(self, value: Any) -> Any:
            return value

    with pytest.raises(NodeError):
        run(Pipeline("bad", [Bad()]), [1])
    [span] = seen.spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["remotemedia.node.id"] == "bad_0"
    # No value was tried.
    assert not any(seen.of_nodes("errors").values())
    if is_session(run):
        assert seen.of_sessions("count") == 0


def test_a_session_that_cannot_be_opened(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any) -> None:
        raise OSError("out of memory")

    monkeypatch.setattr("remotemedia.core.stream.Stream.__init__", made)
    with pytest.raises(OSError, match="out of memory"):
        session_sync(pairs(), [1], use_rust=False)
    assert seen.span("session pairs").attributes["error.type"] == "OSError"
    assert not seen.points("session.count")


@ENGINES
def test_out_of_time(seen: Seen, use_rust: bool) -> None:
    pipeline = Pipeline("slow", [DelayNode(seconds=60)])
    with pytest.raises(RunTimeoutError):
        pipeline.run_sync([1], timeout=0.01, use_rust=use_rust)
    attributes = seen.span("run slow").attributes
    assert attributes["error.type"] == "remotemedia.errors.RunTimeoutError"


@ENGINES
def test_a_run_that_is_cancelled(seen: Seen, use_rust: bool) -> None:
    async def main() -> None:
        slow = Pipeline("slow", [DelayNode(seconds=60)])
        task = asyncio.create_task(slow.run([1], use_rust=use_rust))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    span = seen.span("run slow")
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.attributes["remotemedia.run.outcome"] == "cancelled"
    assert not [event for event in span.events if event.name == "exception"]
    [duration] = seen.points("run.duration")
    assert duration.attributes["remotemedia.run.outcome"] == "cancelled"
    assert "error.type" not in duration.attributes


@ENGINES
@pytest.mark.parametrize("way", ["cancel", "leave"])
def test_a_session_that_is_cancelled(seen: Seen, way: str, use_rust: bool) -> None:
    with pairs().open(use_rust=use_rust) as run:
        run.push(1)
        if way == "cancel":
            run.cancel()
    span = seen.span("session pairs")
    assert span.status.status_code is trace.StatusCode.UNSET
    attributes = span.attributes
    assert attributes["remotemedia.run.outcome"] == "cancelled"
    assert attributes["remotemedia.run.items"] == 1
    assert [event.name for event in span.events] == ["remotemedia.node"] * 2


def test_a_session_that_is_left_behind(seen: Seen) -> None:
    opening: Any = pairs().open()
    run = opening.__enter__()
    run.push(1)
    assert seen.of_sessions("count") == 1
    del run, opening
    for _ in range(3):
        gc.collect()
    assert seen.span("session pairs").attributes["remotemedia.run.outcome"] == "cancelled"
    assert seen.of_sessions("count") == 0


@ALL
@ENGINES
@pytest.mark.parametrize("how", ["plain", "generator", "async", "thread"])
def test_span_of_a_node_of_the_users(seen: Seen, run: Any, use_rust: bool, how: str) -> None:
    tracer = seen.tracers.get_tracer("test")

    @node(thread=how == "thread")
    def plain(value: Any) -> Any:
        with tracer.start_as_current_span("inner"):
            return value

    @node
    def generator(value: Any) -> Any:
        with tracer.start_as_current_span("inner"):
            yield value

    @node
    async def waits(value: Any) -> Any:
        with tracer.start_as_current_span("inner"):
            await asyncio.sleep(0)
            return value

    made = {"generator": generator, "async": waits}.get(how, plain)
    with tracer.start_as_current_span("around") as around:
        pipeline = Pipeline("nested", [AddNode(addend=1), made(), PassThroughNode()])
        assert list(run(pipeline, [1, 2], use_rust=use_rust)) == [2, 3]
        assert trace.get_current_span() is around
    outer = seen.span("session nested" if is_session(run) else "run nested")
    inner = seen.spans("inner")
    assert len(inner) == 2
    for span in inner:
        assert span.parent.span_id == outer.get_span_context().span_id


def test_the_block_of_a_session_keeps_its_own_span(seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("test")
    with tracer.start_as_current_span("around") as around, pairs().open() as run:
        run.push(1)
        run.push(2)
        run.pull()
        assert trace.get_current_span() is around


@BATCHES
def test_a_manifest(seen: Seen, run: Any) -> None:
    if not native.is_available():
        pytest.skip("the native library is missing")
    text = pairs().serialize()
    if run is run_sync:
        assert native.run_manifest(text, [1, 2]) == [[2, 3]]
    else:
        assert asyncio.run(native.run_manifest_async(text, [1, 2])) == [[2, 3]]
    assert seen.span("run pairs").attributes["remotemedia.run.items"] == 2


@pytest.mark.parametrize("loop", [False, True])
def test_a_session_that_does_not_move(seen: Seen, loop: bool) -> None:
    async def main() -> None:
        async with pairs().open(stall=0.01) as run:
            with pytest.raises(RunTimeoutError):
                await run.recv(timeout=0.1)

    if loop:
        asyncio.run(main())
    else:
        with pairs().open(stall=0.01) as run, pytest.raises(RunTimeoutError):
            run.pull(timeout=0.1)
    [event] = [each for each in seen.span("session pairs").events if each.name.endswith("stall")]
    attributes = event.attributes
    assert event.name == "remotemedia.stall"
    assert attributes["remotemedia.stall.time"] == 0.01
    assert "pull waits for an item" in str(attributes["remotemedia.stall.words"])


def test_a_span_that_is_not_recorded(seen: Seen) -> None:
    telemetry.instrument(tracing.TracerProvider(sampler=sampling.ALWAYS_OFF), seen.meters)
    pairs().run_sync([1])
    assert not seen.spans()
    assert seen.of_nodes("items") == {"add_0": 1, "buffer_1": 1}


def test_nothing_is_told_after_uninstrument(seen: Seen) -> None:
    pipeline = pairs()
    with pipeline.open() as run:
        run.push(1)
        telemetry.uninstrument()
        pipeline.run_sync([1])
        session_sync(pipeline, [1])
        assert not seen.spans()
    assert [span.name for span in seen.spans()] == ["session pairs"]
    assert seen.of_nodes("items") == {"add_0": 1, "buffer_1": 1}
    telemetry.uninstrument()
    telemetry.instrument(seen.tracers, seen.meters)
    pipeline.run_sync([1])
    # One instrument, which goes on from where it was.
    assert seen.of_nodes("items") == {"add_0": 2, "buffer_1": 2}
    assert len(seen.spans()) == 2


def test_instrumenting_twice_is_not_twice(seen: Seen) -> None:
    before = Pipeline.run_sync.__wrapped__  # type: ignore[attr-defined]
    telemetry.instrument(seen.tracers, seen.meters)
    pairs().run_sync([1])
    assert len(seen.spans()) == 1
    assert seen.of_nodes("items") == {"add_0": 1, "buffer_1": 1}
    assert Pipeline.run_sync.__wrapped__ is before  # type: ignore[attr-defined]
    assert asyncio.iscoroutinefunction(Pipeline.run)
    telemetry.uninstrument()
    assert Pipeline.run_sync is before


def test_the_entry_point() -> None:
    found: Any = entry_points()
    group = "opentelemetry_instrumentor"
    found = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    [entry] = [entry for entry in found if entry.name == "remotemedia"]
    told = Seen()
    instrumentor = entry.load()()
    try:
        # As opentelemetry-instrument calls it.
        instrumentor.instrument(
            skip_dep_check=True, tracer_provider=told.tracers, meter_provider=told.meters
        )
        pairs().run_sync([1])
    finally:
        instrumentor.uninstrument()
    pairs().run_sync([1])
    assert len(told.spans()) == 1


@pytest.mark.parametrize("instrumented", [False, True])
@ALL
def test_a_warning_points_to_the_caller(
    run: Any, instrumented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "is_available", lambda: False)
    monkeypatch.setattr("remotemedia.core.pipeline._told_missing", False)
    if instrumented:
        telemetry.instrument()
    try:
        with pytest.warns(RuntimeWarning, match="run in the Python engine") as caught:
            run(pairs(), [1])
    finally:
        telemetry.uninstrument()
    [warning] = caught
    # A coroutine that is no part of another is called by the event loop.
    expected = asyncio.__path__[0] if run is run_async else __file__
    assert warning.filename.startswith(expected)


def test_every_method_of_a_backend_is_seen_to() -> None:
    # These only look. All others may run nodes, which belongs into the context of the span.
    looks = {"engine", "ended", "report", "diagnose", "progress", "_error"}
    methods = {name for name in vars(Backend) if not name.startswith("_")}
    assert methods | set(Backend.__annotations__) == looks | {
        name for name in vars(telemetry._Session) if not name.startswith("_")
    }


def script(code: str, *arguments: str) -> str:
    return subprocess.check_output(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)], text=True
    )


def test_nothing_is_imported_without_it() -> None:
    code = """
    import asyncio, sys
    from remotemedia import Pipeline
    from remotemedia.nodes import AddNode

    pipeline = Pipeline("sums", [AddNode(addend=1)])
    for use_rust in (True, False):
        pipeline.run_sync([1], use_rust=use_rust)
        asyncio.run(pipeline.run([1], use_rust=use_rust))
        with pipeline.open(use_rust=use_rust) as run:
            run.push(1)
    print([name for name in sys.modules if "telemetry" in name])
    """
    assert script(code) == "[]\n"


def test_without_opentelemetry() -> None:
    code = """
    import sys
    sys.modules["opentelemetry"] = None
    try:
        import remotemedia.telemetry
    except ImportError as error:
        print(error)
    """
    assert "opentelemetry-api" in script(code)
    assert 'pip install "remotemedia[otel]"' in script(code)


def test_without_a_provider() -> None:
    code = """
    from remotemedia import Pipeline, telemetry
    from remotemedia.nodes import AddNode

    telemetry.instrument()
    pipeline = Pipeline("sums", [AddNode(addend=1)])
    assert pipeline.run_sync([1]) == [2]
    with pipeline.open() as run:
        run.push(1)
        assert run.pull().value == 2

    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    # Providers that come later are found, and the counts are those of all runs.
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    metrics.set_meter_provider(MeterProvider([reader]))
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
    pipeline.run_sync([1])
    telemetry.uninstrument()
    telemetry.instrument()
    pipeline.run_sync([1])
    print([span.name for span in exporter.get_finished_spans()])
    scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = [one for scope in scopes for one in scope.metrics]
    [items] = [one for one in found if one.name == "remotemedia.node.items"]
    print([point.value for point in items.data.data_points])
    """
    assert script(code) == "['run sums', 'run sums']\n[4]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_none_of_the_sessions() -> None:
    code = """
    import os
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from remotemedia import Pipeline, telemetry
    from remotemedia.nodes import AddNode

    reader = InMemoryMetricReader()
    telemetry.instrument(meter_provider=MeterProvider([reader]))
    pipeline = Pipeline("sums", [AddNode(addend=1)])

    def told():
        scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
        found = [one for scope in scopes for one in scope.metrics]
        [count] = [one for one in found if one.name == "remotemedia.session.count"]
        print([point.value for point in count.data.data_points], flush=True)

    with pipeline.open() as run:
        run.push(1)
        pid = os.fork()
        if not pid:
            told()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        told()
    """
    assert script(code, "-W", "ignore::DeprecationWarning") == "[0]\n[1]\n"


def test_the_session_is_still_what_it_was(seen: Seen) -> None:
    with Pipeline("set", [MultiplyNode(factor=2, name="by")]).open() as run:
        assert isinstance(run, Session)
        assert run.try_push(1)
        run.set("by_0", factor=5)
        assert run.push(1) == 1
        run.end()
        assert [output.value for output in run] == [2, 5]
        assert run.metrics["items"] == 2
        assert run.engine in ("native", "python")
        run.interrupt()
