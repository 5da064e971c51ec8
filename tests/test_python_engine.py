"""The Python engine: order, lifecycle, time, and that nothing is left behind."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from remotemedia import Node, NodeError, Pipeline, RunTimeoutError
from remotemedia.nodes import BufferNode, CalculatorNode, DelayNode, PassThroughNode

HOW = pytest.mark.parametrize("how", ["sync", "async"])


def run(pipeline: Pipeline, items: Any, how: str, timeout: Any = None) -> Any:
    if how == "sync":
        return pipeline.run_sync(items, use_rust=False, timeout=timeout)
    return asyncio.run(pipeline.run(items, use_rust=False, timeout=timeout))


class Noted(Node):
    """Writes down what happens to it, and fails where it is told to."""

    def __init__(
        self, log: list[str], fails: str = "", error: Any = None, name: Any = None
    ) -> None:
        super().__init__(name)
        self.log = log
        self.fails = fails
        self.error = error or ValueError("told to")

    def note(self, what: str) -> None:
        self.log.append(f"{what} {self.name}")
        if what in self.fails.split():
            raise self.error

    def initialize(self) -> Any:
        self.note("initialize")

    def process(self, value: Any) -> Any:
        self.note("process")
        return value

    def flush(self) -> Any:
        self.note("flush")

    def cleanup(self) -> Any:
        self.note("cleanup")


class AsyncNoted(Noted):
    async def initialize(self) -> Any:
        await asyncio.sleep(0)
        super().initialize()

    async def process(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return super().process(value)

    async def flush(self) -> Any:
        await asyncio.sleep(0)
        super().flush()

    async def cleanup(self) -> Any:
        await asyncio.sleep(0)
        super().cleanup()


KINDS = pytest.mark.parametrize("kind", [Noted, AsyncNoted])


def three(kind: type[Noted], fails: str = "", error: Any = None) -> tuple[Pipeline, list[str]]:
    """Three nodes; the one in the middle fails."""
    log: list[str] = []
    middle = kind(log, fails, error, name="b")
    return Pipeline("p", [kind(log, name="a"), middle, kind(log, name="c")]), log


@HOW
@KINDS
def test_life(how: str, kind: type[Noted]) -> None:
    pipeline, log = three(kind)
    assert run(pipeline, [1], how) == [1]
    steps = ["initialize", "process", "flush"]
    assert log == [f"{step} {node}" for step in steps for node in "abc"] + [
        "cleanup c",
        "cleanup b",
        "cleanup a",
    ]


@HOW
@KINDS
@pytest.mark.parametrize(
    ("fails", "cleaned", "item"),
    [
        ("initialize", ["a"], None),
        ("process", ["c", "b", "a"], 0),
        ("flush", ["c", "b", "a"], None),
        ("cleanup", ["c", "b", "a"], None),
    ],
)
def test_cleanup_after_an_error(
    fails: str, cleaned: list[str], item: Any, kind: type[Noted], how: str
) -> None:
    pipeline, log = three(kind, fails)
    with pytest.raises(NodeError, match="ValueError: told to") as caught:
        run(pipeline, [1], how)
    assert (caught.value.node, caught.value.item) == ("b_1", item)
    assert isinstance(caught.value.__cause__, ValueError)
    assert [line[-1] for line in log if line.startswith("cleanup")] == cleaned
    # The node is good for the next run.
    pipeline.nodes[1].fails = ""  # type: ignore[attr-defined]
    assert run(pipeline, [1], how) == [1]


@HOW
@KINDS
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3)])
@pytest.mark.parametrize("fails", ["initialize", "process", "flush", "cleanup"])
def test_interrupts_pass_after_cleanup(fails: str, error: Any, kind: type[Noted], how: str) -> None:
    pipeline, log = three(kind, fails, error)
    expected = error if isinstance(error, type) else type(error)
    with pytest.raises(expected) as caught:
        run(pipeline, [1], how)
    assert not isinstance(caught.value, Exception)
    cleaned = ["a"] if fails == "initialize" else ["c", "b", "a"]
    assert [line[-1] for line in log if line.startswith("cleanup")] == cleaned


@HOW
def test_an_error_in_cleanup_after_an_error(how: str, caplog: Any) -> None:
    pipeline, _ = three(Noted, "process cleanup")
    with caplog.at_level(logging.WARNING, "remotemedia"), pytest.raises(NodeError) as caught:
        run(pipeline, [1], how)
    assert caught.value.item == 0
    [cause] = caught.value.causes
    assert (cause.node, cause.item) == ("b_1", None)
    assert "cleanup after an error failed as well" in caplog.text


def test_the_log_does_not_reach_stderr() -> None:
    code = """
        from remotemedia import Node, NodeError, Pipeline

        class Fails(Node):
            def process(self, value):
                1 / 0

            def cleanup(self):
                1 / 0

        try:
            Pipeline("p", [Fails()]).run_sync([1], use_rust=False)
        except NodeError as error:
            assert len(error.causes) == 1
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""


@HOW
@KINDS
def test_what_was_initialized_too_late_is_cleaned_up(how: str, kind: type[Noted]) -> None:
    class Takes(kind):  # type: ignore[misc,valid-type]
        def note(self, what: str) -> None:
            if what == "initialize":
                time.sleep(0.03)
            super().note(what)

    log: list[str] = []
    with pytest.raises(RunTimeoutError):
        run(Pipeline("p", [Takes(log, name="a")]), [1], how, timeout=0.02)
    assert log == ["initialize a", "cleanup a"]


def test_ctrl_c_after_initialize_has_returned() -> None:
    log: list[str] = []
    node: Any = Noted(log, name="a")
    # In C, so that the interpreter gets to look for signals only when it has returned.
    node.initialize = _thread.interrupt_main
    with pytest.raises(KeyboardInterrupt):
        run(Pipeline("p", [node]), [1], "sync")
    assert log == ["cleanup a"]


def test_the_first_of_several_errors_in_cleanup() -> None:
    log: list[str] = []
    nodes = [Noted(log, "cleanup", ValueError(name), name=name) for name in "ab"]
    with pytest.raises(NodeError, match="ValueError: b"):
        run(Pipeline("p", nodes), [], "sync")
    assert log[-2:] == ["cleanup b", "cleanup a"]


def test_metrics() -> None:
    pipeline = Pipeline("p", [BufferNode(name="b", buffer_size=2), PassThroughNode(name="p")])
    result = pipeline.run_sync([1, 2, 3], use_rust=False)
    metrics = dict(result.metrics)
    nodes = metrics.pop("nodes")
    assert metrics.pop("time_us") >= sum(node.pop("time_us") for node in nodes.values()) > 0
    assert metrics == {"items": 3, "items_done": 3, "sinks": {"p_1": 2}}
    counts = {"errors": 0, "retries": 0, "dropped": 0}
    assert nodes == {
        "b_0": {"node_type": "BufferNode", "items_in": 3, "items_out": 2, **counts},
        "p_1": {"node_type": "PassThroughNode", "items_in": 2, "items_out": 2, **counts},
    }


# --- time -----------------------------------------------------------------------------------------


class Endless(Node):
    def process(self, value: Any) -> Any:
        while True:
            time.sleep(0.001)
            yield value


class AsyncEndless(Node):
    closed = False

    async def process(self, value: Any) -> Any:
        try:
            while True:
                await asyncio.sleep(0.001)
                yield value
        finally:
            self.closed = True


class Sleepy(Node):
    cancelled = False

    async def process(self, value: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Stubborn(Node):
    """Does not end when it is cancelled, and complains instead."""

    async def process(self, value: Any) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("no")


class Slow(Node):
    def process(self, value: Any) -> Any:
        time.sleep(0.03)
        return value


@HOW
@pytest.mark.parametrize("kind", [Endless, AsyncEndless, Sleepy, Stubborn, Slow])
def test_timeout(kind: type[Node], how: str) -> None:
    log: list[str] = []
    node = kind(name="slow")
    pipeline = Pipeline("p", [Noted(log, name="first"), node])
    started = time.perf_counter()
    with pytest.raises(RunTimeoutError) as caught:
        run(pipeline, [1] * 100, how, timeout=0.05)
    assert 0.05 <= time.perf_counter() - started < 1.0
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.message == "the run was not complete after 0.05 s"
    assert (error.node, error.node_type) == ("slow_1", kind.__name__)
    assert error.item is not None
    assert log[-1] == "cleanup first"
    assert getattr(node, "closed", True)
    assert getattr(node, "cancelled", True)


@HOW
def test_no_time_at_all(how: str) -> None:
    with pytest.raises(RunTimeoutError, match="after 0 s"):
        run(Pipeline("p", [PassThroughNode()]), [], how, timeout=0)


@HOW
def test_a_timeout_of_the_nodes_own_is_an_error_of_the_node(how: str) -> None:
    class Impatient(Node):
        async def process(self, value: Any) -> Any:
            await asyncio.wait_for(asyncio.sleep(60), 0.001)

    with pytest.raises(NodeError) as caught:
        run(Pipeline("p", [Impatient()]), [1], how, timeout=30)
    assert isinstance(caught.value.__cause__, (TimeoutError, asyncio.TimeoutError))


def test_enough_time() -> None:
    pipeline = Pipeline("p", [DelayNode(seconds=0.001)])
    assert run(pipeline, [1, 2], "sync", timeout=30) == [1, 2]
    assert run(pipeline, [1, 2], "async", timeout=1e9) == [1, 2]


class Deaf(Node):
    """Does not end when it is cancelled, nor when it is cancelled again."""

    async def process(self, value: Any) -> Any:
        for _ in range(600):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)


class Threaded(Node):
    """Computes in a thread, which cannot be cancelled."""

    async def process(self, value: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, ended.wait, 60)


ended = threading.Event()


@pytest.mark.parametrize("kind", [Deaf, Threaded])
def test_a_timeout_does_not_wait_for_what_does_not_end(kind: type[Node], caplog: Any) -> None:
    ended.clear()
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING, "remotemedia"), pytest.raises(RunTimeoutError):
        run(Pipeline("p", [kind()]), [1], "sync", timeout=0.05)
    assert time.perf_counter() - started < 5
    assert ("did not end when it was cancelled" in caplog.text) == (kind is Deaf)
    ended.set()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.parametrize("inside", [False, True])
def test_ctrl_c_ends_a_run_that_waits(inside: bool) -> None:
    code = f"""
        import asyncio, signal, time
        from remotemedia import Node, Pipeline

        class Waits(Node):
            async def process(self, value):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                await asyncio.sleep(30)

            async def cleanup(self):
                await asyncio.sleep(0.01)
                print("cleaned up")

        def handler(*_):
            raise KeyboardInterrupt

        async def main():
            if {inside}:
                pipeline.run_sync([1], use_rust=False)

        signal.signal(signal.SIGALRM, handler)
        pipeline = Pipeline("p", [Waits()])
        started = time.perf_counter()
        try:
            asyncio.run(main())
            pipeline.run_sync([1], use_rust=False)
        except KeyboardInterrupt:
            print("interrupted")
        assert time.perf_counter() - started < 5
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("cleaned up\ninterrupted\n", "")


# --- asyncio --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 30])
def test_cancelling_the_task_cancels_the_run(timeout: Any) -> None:
    log: list[str] = []
    node = Sleepy(name="sleepy")
    pipeline = Pipeline("p", [Noted(log, name="first"), node])

    async def main() -> None:
        task = asyncio.ensure_future(pipeline.run([1], use_rust=False, timeout=timeout))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert node.cancelled
    assert log[-1] == "cleanup first"


def test_other_tasks_get_their_turn() -> None:
    class Busy(Node):
        def process(self, value: Any) -> Any:
            time.sleep(0.006)

    async def main() -> int:
        turns = 0
        task = asyncio.ensure_future(Pipeline("p", [Busy()]).run(range(10), use_rust=False))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(main()) >= 5


def test_a_loop_is_made_only_when_a_node_waits() -> None:
    seen: list[Any] = []

    class Asks(Node):
        def process(self, value: Any) -> Any:
            try:
                seen.append(asyncio.get_running_loop())
            except RuntimeError:
                seen.append(None)
            return value

    nodes = [Asks(name="before"), DelayNode(), Asks(name="after")]
    Pipeline("p", nodes).run_sync([1], use_rust=False)
    assert seen[0] is None
    assert seen[1] is not None


def test_context_variables_are_seen_everywhere() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")

    class Reads(Node):
        async def process(self, value: Any) -> Any:
            await asyncio.sleep(0)
            return variable.get()

    variable.set("set")
    pipeline = Pipeline("p", [Reads()])
    assert run(pipeline, [1], "sync") == run(pipeline, [1], "async", 30) == ["set"]

    async def main() -> Any:
        return pipeline.run_sync([1], use_rust=False)

    assert asyncio.run(main()) == ["set"]


def test_no_threads_and_no_tasks_are_left() -> None:
    before = threading.active_count()

    async def main() -> None:
        for timeout in (None, 30):
            await Pipeline("p", [DelayNode(), BufferNode()]).run([1, 2], False, timeout)
        Pipeline("p", [DelayNode()]).run_sync([1], False)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert threading.active_count() == before


def test_many_items_take_linear_time() -> None:
    pipeline = Pipeline("p", [CalculatorNode(operation="add", operand=1), BufferNode()])
    started = time.perf_counter()
    result = pipeline.run_sync(range(50_000), use_rust=False)
    assert len(result) == 5_000
    assert time.perf_counter() - started < 10


def test_a_signal_wakes_the_loop() -> None:
    class Looks(Node):
        async def process(self, value: Any) -> Any:
            found = signal.set_wakeup_fd(-1)
            if found != -1:
                signal.set_wakeup_fd(found, warn_on_full_buffer=False)
            return found

    pipeline = Pipeline("p", [Looks()])
    [found] = pipeline.run_sync([1], use_rust=False)
    assert found != -1
    assert signal.set_wakeup_fd(-1) == -1
    # One that is there already stays.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())
        try:
            assert pipeline.run_sync([1], use_rust=False) == [ours.fileno()]
        finally:
            assert signal.set_wakeup_fd(-1) == ours.fileno()
