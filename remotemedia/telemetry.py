"""Spans and metrics of runs and sessions, through OpenTelemetry.

Off until :func:`instrument` is called, or a program is started with ``opentelemetry-instrument``;
so it costs nothing where nobody wants it. Then every run has a span, as has every session, and what
the nodes count goes into instruments::

    from remotemedia import telemetry

    telemetry.instrument()

There is one span for a run, with an event for each node at its end, and not one for each item and
node: a span costs more than most nodes do with an item, and their counts and times are known. A
span that a node of yours makes is a child of the run's; in a process of its own it is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import iscoroutinefunction
from threading import RLock
from time import perf_counter
from types import TracebackType
from typing import Any, Optional, cast
from weakref import WeakKeyDictionary

try:
    from opentelemetry import context, metrics, trace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "remotemedia.telemetry needs opentelemetry-api; "
        'install it with: pip install "remotemedia[otel]"',
        name=error.name,
    ) from error

import remotemedia
from remotemedia import native
from remotemedia.core import session
from remotemedia.core.pipeline import Pipeline
from remotemedia.errors import NodeError, RemoteMediaError, RunCancelledError

__all__ = ["Instrumentor", "instrument", "uninstrument"]

_SCOPE = "remotemedia"
_PIPELINE = "remotemedia.pipeline.name"
_KIND = "remotemedia.run.kind"
_NODE, _NODE_TYPE = "remotemedia.node.id", "remotemedia.node.type"
_FROM, _TO = "remotemedia.queue.from", "remotemedia.queue.to"

#: What is counted of a node: the instrument, its unit and what it says, the key in the report, and
#: how many of the unit one in the report is.
_COUNTED = (
    ("remotemedia.node.items", "{item}", "Values that nodes took", "items_in", 1),
    ("remotemedia.node.outputs", "{output}", "Values that nodes gave", "items_out", 1),
    ("remotemedia.node.errors", "{error}", "Values that nodes failed with", "errors", 1),
    ("remotemedia.node.retries", "{retry}", "Values that were tried again", "retries", 1),
    ("remotemedia.node.dropped", "{item}", "Values that found no partner", "dropped", 1),
    ("remotemedia.node.time", "s", "Time in nodes, with their waiting", "time_us", 1e-6),
)
_ERRORS = [key for *_, key, _ in _COUNTED].index("errors")
#: What else the native library knows of a node: the attribute, and the key in the report.
_TIMES = (("remotemedia.node.time_p50", "p50_us"), ("remotemedia.node.time_p99", "p99_us"))
#: What is looked up of a session that is open: the key of ``Session.diagnose``, the unit and what
#: the instrument says.
_INSIDE = (
    ("queued", "{item}", "Items that wait to be processed"),
    ("inside", "{item}", "Items inside the windows of sessions"),
    ("window", "{item}", "Items that the windows of sessions have room for"),
    ("outputs", "{output}", "Outputs that have not been pulled"),
)
#: Runs take from microseconds to an hour: seconds.
_BUCKETS = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600, 3600)

_Attributes = dict[str, Any]


def instrument(
    tracer_provider: Optional[trace.TracerProvider] = None,
    meter_provider: Optional[metrics.MeterProvider] = None,
) -> None:
    """Lets every run and session from now on have a span, and be counted.

    These are what ``Pipeline.run``, ``run_sync`` and ``open`` start, ``native.run_manifest`` and
    ``run_manifest_async``; not those of a :class:`remotemedia.native.Prepared`. Calling it again
    replaces the providers.

    Args:
        tracer_provider: what makes the spans; None is the one that is set for all of OpenTelemetry.
        meter_provider: the same for the metrics.
    """
    uninstrument()
    version = remotemedia.__version__
    tracer = trace.get_tracer(_SCOPE, version, tracer_provider)
    # The module stands for the provider that is set for all, which may be set later.
    provider: Any = metrics if meter_provider is None else meter_provider
    if provider not in _counts:
        _counts[provider] = _Counts(metrics.get_meter(_SCOPE, version, meter_provider))
    telemetry = _Telemetry(tracer, _counts[provider])
    for owner, name, wrap in (
        (Pipeline, "run", telemetry.around_run),
        (Pipeline, "run_sync", telemetry.around_run),
        (Pipeline, "open", telemetry.around_open),
        (native, "run_manifest", telemetry.around_manifest),
        (native, "run_manifest_async", telemetry.around_manifest),
        (session._Base, "_stalled", telemetry.around_stalled),
    ):
        original = getattr(owner, name)
        _wrapped.append((owner, name, original))
        setattr(owner, name, wraps(original)(wrap(original)))


def uninstrument() -> None:
    """Ends that. Sessions that are open keep their span until they are closed."""
    while _wrapped:
        setattr(*_wrapped.pop())


class Instrumentor:
    """What ``opentelemetry-instrument`` calls; the same as the functions."""

    def instrument(
        self,
        tracer_provider: Optional[trace.TracerProvider] = None,
        meter_provider: Optional[metrics.MeterProvider] = None,
        **_: Any,
    ) -> None:
        """Calls :func:`remotemedia.telemetry.instrument`."""
        instrument(tracer_provider, meter_provider)

    def uninstrument(self, **_: Any) -> None:
        """Calls :func:`remotemedia.telemetry.uninstrument`."""
        uninstrument()


#: What was replaced: where, by which name, and what was there.
_wrapped: list[tuple[Any, str, Any]] = []


class _Counts:
    """The instruments of a meter, and what they tell when they are asked.

    A run that is over pays for a few additions, and those that go on are looked up when somebody
    asks. A meter keeps the first instrument of a name, so the counts of a meter are never made
    anew.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        self.duration = meter.create_histogram(
            "remotemedia.run.duration",
            unit="s",
            description="Duration of runs and sessions",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        #: A session may be collected, and so left, by whichever thread, in the middle of this.
        self.lock = RLock()
        #: What is counted of runs that are over: by pipeline, node and its type, and of queues by
        #: pipeline and both their ends.
        self.nodes: dict[tuple[str, str, str], list[float]] = {}
        self.drops: dict[tuple[str, str, str], int] = {}
        #: Sessions that are open, and the pipelines that had some.
        self.open: set[_Session] = set()
        self.pipelines: dict[str, None] = {}
        for place, (name, unit, description, _, scale) in enumerate(_COUNTED):
            meter.create_observable_counter(
                name, [partial(self.observe_nodes, place, scale)], unit, description
            )
        for key, unit, description in _INSIDE:
            meter.create_observable_up_down_counter(
                f"remotemedia.session.{key}", [partial(self.observe_open, key)], unit, description
            )
        for name, unit, description, callback in (
            ("session.count", "{session}", "Sessions that are open", self.observe_count),
            ("queue.fill", "{packet}", "What waits between nodes of sessions", self.observe_fill),
        ):
            meter.create_observable_up_down_counter(
                f"remotemedia.{name}", [callback], unit, description
            )
        meter.create_observable_counter(
            "remotemedia.queue.dropped",
            [self.observe_drops],
            "{item}",
            "Values that queues dropped, as they were full",
        )

    def add(self, pipeline: str, report: Any, failed: Optional[BaseException] = None) -> None:
        """Takes the report of a run that is over. A batch that failed has none: of it only the
        value counts that a node failed with."""
        with self.lock:
            if report is not None:
                _sum(self.nodes, self.drops, pipeline, report)
            elif isinstance(failed, NodeError) and failed.node and failed.item is not None:
                key = pipeline, failed.node, failed.node_type or ""
                self.nodes.setdefault(key, [0.0] * len(_COUNTED))[_ERRORS] += 1

    def begin(self, opened: _Session) -> None:
        with self.lock:
            self.open.add(opened)
            self.pipelines[opened.pipeline] = None

    def end(self, closed: _Session, report: Any) -> None:
        """One step, so that nothing is counted twice, or not at all."""
        with self.lock:
            self.open.discard(closed)
            self.add(closed.pipeline, report)

    def forget(self) -> None:
        """In a forked child: the sessions are the parent's, and the lock may be anybody's."""
        self.lock = RLock()
        self.open = set()

    # --- what is asked ----------------------------------------------------------------------------

    def now(self) -> tuple[dict[tuple[str, str, str], list[float]], dict[Any, int], list[_Session]]:
        """The counts, without those of the sessions that are open; and these."""
        with self.lock:
            nodes = {key: list(counts) for key, counts in list(self.nodes.items())}
            return nodes, dict(self.drops), list(self.open)

    def everything(self) -> tuple[dict[tuple[str, str, str], list[float]], dict[Any, int]]:
        nodes, drops, opened = self.now()
        for one in opened:
            _sum(nodes, drops, one.pipeline, one.report())
        return nodes, drops

    def observe_nodes(
        self, place: int, scale: float, _: metrics.CallbackOptions
    ) -> Iterable[metrics.Observation]:
        for (pipeline, node, kind), counts in self.everything()[0].items():
            number = counts[place] * scale if scale != 1 else int(counts[place])
            yield metrics.Observation(number, {_PIPELINE: pipeline, _NODE: node, _NODE_TYPE: kind})

    def observe_drops(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for (pipeline, start, end), dropped in self.everything()[1].items():
            yield metrics.Observation(dropped, {_PIPELINE: pipeline, _FROM: start, _TO: end})

    def observe_fill(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        fills = dict.fromkeys(self.drops, 0)
        for one in self.now()[2]:
            for queue in one.report().get("queues", ()):
                key = one.pipeline, queue["from"], queue["to"]
                fills[key] = fills.get(key, 0) + queue["fill"]
        for (pipeline, start, end), fill in fills.items():
            yield metrics.Observation(fill, {_PIPELINE: pipeline, _FROM: start, _TO: end})

    def observe_count(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return self.by_pipeline(lambda _: 1)

    def observe_open(self, key: str, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return self.by_pipeline(lambda one: one.diagnose()[key])

    def by_pipeline(self, value: Callable[[_Session], int]) -> Iterable[metrics.Observation]:
        values = dict.fromkeys(list(self.pipelines), 0)
        for one in self.now()[2]:
            values[one.pipeline] += value(one)
        for pipeline, number in values.items():
            yield metrics.Observation(number, {_PIPELINE: pipeline})


def _sum(nodes: Any, drops: Any, pipeline: str, report: Any) -> None:
    """Adds what a report says to the counts."""
    for node, found in report["nodes"].items():
        key = pipeline, node, found["node_type"]
        counts = nodes.setdefault(key, [0.0] * len(_COUNTED))
        for place, (*_, name, _) in enumerate(_COUNTED):
            counts[place] += found[name]
    for queue in report.get("queues", ()):
        key = pipeline, queue["from"], queue["to"]
        drops[key] = drops.get(key, 0) + queue["dropped"]


#: The counts for every provider of meters that there was.
_counts: WeakKeyDictionary[Any, _Counts] = WeakKeyDictionary()


def _after_fork() -> None:
    for counts in list(_counts.values()):
        counts.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Telemetry:
    """What makes the spans, and what counts."""

    def __init__(self, tracer: trace.Tracer, counts: _Counts) -> None:
        self.tracer = tracer
        self.counts = counts

    # --- around what starts a run -----------------------------------------------------------------

    def around_run(self, run: Any) -> Any:
        if iscoroutinefunction(run):

            async def run_async(pipeline: Pipeline, *args: Any, **kwargs: Any) -> Any:
                with _Batch(self, pipeline.name) as batch:
                    batch.result = result = await run(pipeline, *args, **kwargs)
                return result

            return run_async

        def run_sync(pipeline: Pipeline, *args: Any, **kwargs: Any) -> Any:
            with _Batch(self, pipeline.name) as batch:
                batch.result = result = run(pipeline, *args, **kwargs)
            return result

        return run_sync

    def around_manifest(self, run: Any) -> Any:
        def read(manifest: native.Manifest) -> tuple[bytes, str]:
            # The library remembers it, so reading it once more costs little.
            prepared = native.prepare(manifest)
            return prepared.manifest, prepared.info["name"] or "pipeline"

        if iscoroutinefunction(run):

            async def run_async(manifest: native.Manifest, *args: Any, **kwargs: Any) -> Any:
                text, name = read(manifest)
                with _Batch(self, name) as batch:
                    batch.result = result = await run(text, *args, **kwargs)
                return result

            return run_async

        def run_sync(manifest: native.Manifest, *args: Any, **kwargs: Any) -> Any:
            text, name = read(manifest)
            with _Batch(self, name) as batch:
                batch.result = result = run(text, *args, **kwargs)
            return result

        return run_sync

    def around_open(self, open_: Any) -> Any:
        def opened(pipeline: Pipeline, *args: Any, **kwargs: Any) -> session.Opening:
            opening: session.Opening = open_(pipeline, *args, **kwargs)
            start, name = opening._start, pipeline.name
            assert start is not None

            def start_watched(loop: bool) -> session.Backend:
                return cast(session.Backend, _Session(self, name, partial(start, loop)))

            opening._start = start_watched
            return opening

        return opened

    def around_stalled(self, stalled: Any) -> Any:
        def told(of: session._Base, words: str) -> None:
            if isinstance(of._own, _Session):
                of._own.span.add_event(
                    "remotemedia.stall",
                    {"remotemedia.stall.time": of._stall or 0.0, "remotemedia.stall.words": words},
                )
            stalled(of, words)

        return told

    # --- the span ---------------------------------------------------------------------------------

    def begin(self, pipeline: str, kind: str, verb: str) -> tuple[trace.Span, context.Context]:
        span = self.tracer.start_span(
            f"{verb} {pipeline}", attributes={_PIPELINE: pipeline, _KIND: kind}
        )
        return span, trace.set_span_in_context(span)

    def end(
        self,
        span: trace.Span,
        around: context.Context,
        about: _Attributes,
        seconds: float,
        report: Any,
        error: Optional[BaseException],
        complete: bool,
    ) -> None:
        """Says how a run went, in its span and the histogram."""
        # As OpenTelemetry has it, what is no Exception is no error; and who cancels wants that.
        failed = isinstance(error, Exception) and not isinstance(error, RunCancelledError)
        about["remotemedia.run.outcome"] = (
            "failed" if failed else "completed" if complete else "cancelled"
        )
        if failed:
            kind = type(error)
            module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
            about["error.type"] = module + kind.__qualname__
        if span.is_recording():
            if report is None:
                span.set_attributes(about)
            else:
                _describe(span, about, report)
            if failed:
                _blame(span, cast(Exception, error))
        span.end()
        self.counts.duration.record(seconds, about, around)


def _describe(span: trace.Span, about: _Attributes, report: Any) -> None:
    """The counts of a run: of the whole with its attributes, and of each node as an event, without
    what did not happen."""
    span.set_attributes(
        {
            **about,
            "remotemedia.run.items": report["items"],
            "remotemedia.run.items_done": report["items_done"],
            "remotemedia.run.outputs": sum(report["sinks"].values()),
        }
    )
    for node, found in report["nodes"].items():
        attributes: _Attributes = {_NODE: node, _NODE_TYPE: found["node_type"]}
        for name, _, _, key, scale in _COUNTED:
            if found[key]:
                attributes[name] = found[key] * scale
        for name, key in _TIMES:
            if found.get(key):
                attributes[name] = found[key] * 1e-6
        span.add_event("remotemedia.node", attributes)


def _blame(span: trace.Span, error: Exception) -> None:
    """What has failed, where, and why."""
    span.record_exception(error)
    span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
    if isinstance(error, RemoteMediaError):
        for name, value in (
            ("remotemedia.error.code", error.code),
            (_NODE, error.node),
            (_NODE_TYPE, error.node_type),
            ("remotemedia.item.index", error.item),
        ):
            if value is not None:
                span.set_attribute(name, value)


class _Batch:
    """The block in which a batch runs."""

    def __init__(self, telemetry: _Telemetry, pipeline: str) -> None:
        self.telemetry, self.pipeline = telemetry, pipeline
        self.result: Optional[remotemedia.Result] = None

    def __enter__(self) -> _Batch:
        self.span, self.around = self.telemetry.begin(self.pipeline, "batch", "run")
        self.token = context.attach(self.around)
        self.began = perf_counter()
        return self

    def __exit__(
        self,
        _: Optional[type[BaseException]],
        error: Optional[BaseException],
        __: Optional[TracebackType],
    ) -> None:
        seconds = perf_counter() - self.began
        # A coroutine that is collected may be in any context.
        if not isinstance(error, GeneratorExit):
            context.detach(self.token)
        about: _Attributes = {_PIPELINE: self.pipeline, _KIND: "batch"}
        report, result = None, self.result
        if result is not None:
            report, about["remotemedia.engine"] = result.metrics, result.engine
        done = result is not None
        self.telemetry.end(self.span, self.around, about, seconds, report, error, done)
        self.telemetry.counts.add(self.pipeline, report, error)


def _within(name: str) -> Any:
    """A method of the backend's, within the context of the session's span: whoever calls it may
    thereby run nodes."""

    def method(self: _Session, *args: Any) -> Any:
        token = context.attach(self.around)
        try:
            return getattr(self.backend, name)(*args)
        finally:
            context.detach(token)

    return method


def _awaited_within(name: str) -> Any:
    async def method(self: _Session, *args: Any) -> Any:
        token = context.attach(self.around)
        collected = False
        try:
            return await getattr(self.backend, name)(*args)
        except GeneratorExit:
            # A coroutine that is collected may be in any context.
            collected = True
            raise
        finally:
            if not collected:
                context.detach(token)

    return method


class _Session:
    """The backend of a session, with its span, which ends when the session is closed."""

    def __init__(
        self, telemetry: _Telemetry, pipeline: str, start: Callable[[], session.Backend]
    ) -> None:
        self.telemetry, self.pipeline = telemetry, pipeline
        self.about: _Attributes = {_PIPELINE: pipeline, _KIND: "session"}
        self.span, self.around = telemetry.begin(pipeline, "session", "session")
        self.began = perf_counter()
        self.closed = False
        token = context.attach(self.around)
        try:
            self.backend = start()
        except BaseException as error:
            self._finish(None, error, complete=False)
            raise
        finally:
            context.detach(token)
        self.about["remotemedia.engine"] = self.backend.engine
        telemetry.counts.begin(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    push = _within("push")
    try_push = _within("try_push")
    try_push_many = _within("try_push_many")
    end = _within("end")
    try_pull = _within("try_pull")
    take = _within("take")
    work = _within("work")
    ready = _awaited_within("ready")
    turn = _within("turn")
    cancel = _within("cancel")
    interrupt = _within("interrupt")
    set = _within("set")

    _close = _within("close")
    _aclose = _awaited_within("aclose")
    _abandon = _within("abandon")

    def close(self) -> None:
        with self._leaving():
            self._close()

    async def aclose(self) -> None:
        with self._leaving():
            await self._aclose()

    def abandon(self) -> None:
        with self._leaving():
            self._abandon()

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        # Closing cancels a run that has not ended by itself.
        over = self.closed or self.backend.diagnose()["over"]
        try:
            yield
        finally:
            counts = self.telemetry.counts
            with counts.lock:
                first, self.closed = not self.closed, True
                report = self.backend.report()
                if first:
                    counts.end(self, report)
            if first:
                error = self.backend._error
                self._finish(report, error, complete=over and error is None)

    def _finish(self, report: Any, error: Optional[BaseException], complete: bool) -> None:
        seconds = perf_counter() - self.began
        self.telemetry.end(self.span, self.around, self.about, seconds, report, error, complete)
