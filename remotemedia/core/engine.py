"""The Python engine: runs a plan whose nodes are all written in Python.

The twin of ``rust-core/runtime/src/run.rs``: the same order, the same lifecycle, the same errors.
A run is one coroutine, a sequence of sweeps: one for each item, and a last one that flushes. Where
the items come from and where the outputs go is its :class:`Feed`: all at once in a batch, one by
one in a session (``stream.py``).

As long as no node waits, whoever drives the coroutine gets by with ``send(None)``; at the first
node that waits, or has a thread or a process of its own, it asks for an event loop, and only then
asyncio is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from itertools import starmap
from threading import current_thread, get_ident, main_thread
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, TypeVar, Union

from remotemedia import marshal
from remotemedia.core.join import join
from remotemedia.core.manifest import Plan
from remotemedia.core.node import Node, is_builtin
from remotemedia.core.schema import did_you_mean, escaped
from remotemedia.errors import (
    MarshalTypeError,
    MarshalValueError,
    NodeError,
    RemoteMediaError,
    RunCancelledError,
    RunTimeoutError,
)
from remotemedia.inputs import kind
from remotemedia.log import logger
from remotemedia.result import Result

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from concurrent.futures import ThreadPoolExecutor
    from types import FrameType

__all__ = ["Batch", "Feed", "Run", "Sweep", "described", "drive", "waited"]

Input = Union[list[Any], dict[str, list[Any]]]
#: The number of an item, and the item by the places of the source nodes that get it.
Sweep = tuple[int, dict[int, Any]]
T = TypeVar("T")
E = TypeVar("E", bound=RemoteMediaError)

#: How many values one item may have become at any moment, between the nodes and in the result.
MAX_VALUES = 1_000_000
#: How long other tasks of an event loop may wait for nodes that compute, in seconds.
_SLICE = 0.005
#: How long a task that was cancelled may take to end, in seconds.
GRACE = 1.0
_END = object()


def drive(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs :meth:`Run.execute` to its end, with an event loop of its own if there is need."""
    try:
        work.send(None)
        # It stands at its request for a loop.
        return _in_loop(work)
    except StopIteration as end:
        result: Result = end.value
        return result
    except BaseException:
        # It may have been interrupted between two steps.
        with suppress(RuntimeError, ValueError):
            work.close()
        raise


def _in_loop(work: Coroutine[Any, Any, Result]) -> Result:
    import asyncio

    loop: Optional[AbstractEventLoop] = None
    try:
        with ctrl_c_later():
            loop = asyncio.new_event_loop()
    except BaseException:
        if loop is not None:
            loop.close()
        raise

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    def run() -> Result:
        try:
            return until_complete(loop, lambda: rest_of(work))
        finally:
            close_loop(loop)

    return outside_of_loops(run, loop, cancel)


def outside_of_loops(
    function: Callable[[], T], loop: AbstractEventLoop, cancel: Callable[[], object]
) -> T:
    """Calls a function that runs an event loop; in a thread if there runs one in this thread, as a
    loop cannot run inside another one. Ctrl-C calls ``cancel`` in the loop."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    # Somebody called synchronous code from a coroutine.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "remotemedia") as executor:
        future = executor.submit(copy_context().run, function)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C, for one; or the run's own error, and the loop is closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(cancel)
            raise


def until_complete(loop: AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a loop until what ``make`` makes is complete. Ctrl-C is raised in the code of users, if
    that is what runs just then, as it would be without a loop. In that of asyncio it would leave
    half of something behind: so it cancels the work there, and the second one stops the loop."""
    import signal

    count = 0
    tasks: list[Task[T]] = []
    results: list[T] = []

    def ctrl_c(_: int, frame: Optional[FrameType]) -> None:
        nonlocal count
        count += 1
        if _is_of_users(frame):
            raise KeyboardInterrupt
        if count == 1 and tasks:
            tasks[0].cancel()
        elif loop.is_running():
            loop.stop()
        # Wakes it.
        loop.call_soon_threadsafe(lambda: None)

    here = _has_ctrl_c()
    if here:
        signal.signal(signal.SIGINT, ctrl_c)
    try:
        with _woken_by_signals(loop):
            tasks.append(loop.create_task(make()))
            if count:
                tasks[0].cancel()
            try:
                results.append(loop.run_until_complete(tasks[0]))
            except RuntimeError:
                if count or tasks[0].done():
                    raise
                # What an exception in the code of users broke off had told the loop to stop.
                results.append(loop.run_until_complete(tasks[0]))
    except KeyboardInterrupt:
        raise
    except BaseException:
        if not count:
            raise
    finally:
        if here:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # Its exception has this frame in its traceback.
        tasks.clear()
    if count:
        raise KeyboardInterrupt
    return results[0]


#: Top-level modules from which event loops are made, and what serves them.
_OF_LOOPS = getattr(
    sys,
    "stdlib_module_names",
    {"_weakrefset", "asyncio", "concurrent", "contextlib", "logging", "selectors", "threading"},
) | {"remotemedia"}


def _is_of_users(frame: Optional[FrameType]) -> bool:
    """Whether there is code of users between this frame and the event loop that runs it."""
    while frame is not None and frame.f_code is not until_complete.__code__:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _OF_LOOPS:
            return True
        frame = frame.f_back
    return False


@contextmanager
def _woken_by_signals(loop: AbstractEventLoop) -> Generator[None, None, None]:
    """A signal that comes when the loop is about to wait, but does not wait yet, would not be seen
    before something else happens. So the signal itself is written to where the loop is woken from
    other threads, as it is in a loop that has signal handlers."""
    import signal

    waker = getattr(loop, "_csock", None)
    if waker is None or current_thread() is not main_thread():
        yield
        return
    before = -1
    try:
        before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        if before != -1:
            # Somebody else's.
            signal.set_wakeup_fd(before)
        yield
    finally:
        if before == -1:
            signal.set_wakeup_fd(-1)


class ctrl_c_later:
    """Ctrl-C comes when the block has ended, which is of code that it would leave half done. A mask
    of signals would not do, as any thread may take one for Python's."""

    def __enter__(self) -> None:
        import signal

        self._came = False
        self._here = _has_ctrl_c()
        if self._here:
            signal.signal(signal.SIGINT, self._comes)

    def _comes(self, *_: object) -> None:
        self._came = True

    def __exit__(self, *_: object) -> None:
        if self._here:
            import signal

            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._came:
                raise KeyboardInterrupt


def _has_ctrl_c() -> bool:
    """Whether Ctrl-C is raised in this thread, wherever it is."""
    if current_thread() is not main_thread():
        return False
    # That of signal itself makes an enum of every handler, and text of what is none: of the task
    # that asyncio.run cancels, for one. It takes longer than all the rest of this.
    import _signal  # type: ignore[import-not-found]

    handler: Any = _signal.getsignal(_signal.SIGINT)
    return handler is _signal.default_int_handler


def close_loop(loop: AbstractEventLoop) -> None:
    """Like the end of ``asyncio.run``; but what does not want to end is left behind after a
    while."""
    import asyncio

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        tasks = (await asyncio.wait(tasks, timeout=GRACE))[1] if tasks else tasks
        if not tasks:
            tasks = {loop.create_task(loop.shutdown_asyncgens())}
            tasks = (await asyncio.wait(tasks, timeout=GRACE))[1]
        for task in tasks:
            logger().warning("a task did not end when it was cancelled: %r", task)
            # Or asyncio would write to stderr.
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    try:
        until_complete(loop, end)
    finally:
        loop.close()


async def rest_of(work: Coroutine[Any, Any, T]) -> T:
    """What remains of a coroutine that has begun."""
    result: T = await _Rest(work)
    return result


class Request:
    """Awaited by a run to hand control back to whoever drives it by hand."""

    def __await__(self) -> Generator[Request, None, None]:
        yield self


#: From here on it needs an event loop.
LOOP = Request()
#: It stands between two items.
BETWEEN = Request()
#: It stands between two steps, as the time of whoever drives it is over.
PAUSE = Request()


class _Rest:
    """What remains of a coroutine that has begun, to be awaited."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self.work.send
        given: Any = None
        try:
            while True:
                future = step(given)
                try:
                    step, given = self.work.send, (yield future)
                except BaseException as error:  # noqa: BLE001  it goes on to the coroutine
                    step, given = self.work.throw, error
        except StopIteration as end:
            return end.value


class Feed(Protocol):
    """Where the items of a run come from, and where its outputs go."""

    @property
    def items(self) -> int:
        """How many items there are, so far."""
        ...

    async def next(self) -> Optional[Sweep]:
        """The next item; None at the end of input."""
        ...

    def give(self, item: Optional[int], outputs: list[tuple[int, list[Any]]]) -> None:
        """Takes what the sinks gave for an item, or None for what was flushed, by their places."""
        ...

    def outputs(self) -> list[Any]:
        """What the result of the run is to hold."""
        ...


class Batch:
    """All items, and all outputs.

    Args:
        plan: what is to be run.
        items: a list, whose items go to every source node, or a dict from the ids of source nodes
            to lists.

    Raises:
        MarshalError: if an item is not a value that could cross to the native library, or the
            input does not fit the plan.
    """

    def __init__(self, plan: Plan, items: Input) -> None:
        # The batch itself, and a mapping around it, are not levels of the user's.
        self._input = _distribute(
            plan, crossed(items, "input", 2 if isinstance(items, dict) else 1)
        )
        self.items = max(map(len, self._input.values()), default=0)
        self._next = 0
        self._outputs: dict[int, list[Any]] = {
            place: [] for place, node in enumerate(plan.nodes) if node.consumers == 0
        }

    async def next(self) -> Optional[Sweep]:
        item = self._next
        if item == self.items:
            return None
        self._next += 1
        given = self._input.items()
        return item, {place: items[item] for place, items in given if item < len(items)}

    def give(self, item: Optional[int], outputs: list[tuple[int, list[Any]]]) -> None:
        for place, values in outputs:
            self._outputs[place] += values

    def outputs(self) -> list[Any]:
        """The outputs of all sinks, in the order in which the sinks stand in the manifest."""
        return [value for values in self._outputs.values() for value in values]


class _Slot:
    """What a run knows of a node."""

    __slots__ = (
        "abandoned",
        "errors",
        "executor",
        "initialized",
        "items_in",
        "items_out",
        "join",
        "out",
        "retries",
        "seconds",
        "threaded",
        "user",
    )

    def __init__(self, node: Node) -> None:
        self.user = not is_builtin(node)
        #: Not empty once the node is initialized.
        self.initialized: list[Any] = []
        #: What the node gave for the item in work.
        self.out: list[Any] = []
        #: What holds the values that wait for partners, if the node joins.
        self.join: Any = None
        #: Whether everything the node does is done in a thread of its own; the executor with that
        #: thread; and whether the run did not wait for the end of a call.
        self.threaded = node.runs_in is not None
        self.executor: Optional[ThreadPoolExecutor] = None
        self.abandoned = False
        self.items_in = 0
        self.items_out = 0
        self.errors = 0
        self.retries = 0
        self.seconds = 0.0


class Run:
    """One execution of a plan.

    Args:
        plan: what to run.
        nodes: a node object for every node of the plan.
        feed: where the items come from, and where the outputs go.
        timeout: the time for all of it, in seconds.
        loop: whether it is awaited in an event loop from the beginning.
    """

    def __init__(
        self,
        plan: Plan,
        nodes: list[Node],
        feed: Feed,
        timeout: Optional[float] = None,
        loop: bool = False,
    ) -> None:
        self.plan = plan
        self.nodes = [in_its_process(node) for node in nodes]
        self.feed = feed
        self.slots = [_Slot(node) for node in nodes]
        for slot, planned in zip(self.slots, plan.nodes):
            slot.join = join(planned.join, len(planned.inputs))
        self.sinks = [place for place, node in enumerate(plan.nodes) if node.consumers == 0]
        self.loop = loop
        self.process = os.getpid()
        self.started = self.clock = self.yielded = perf_counter()
        self.timeout = timeout
        self.deadline = None if timeout is None else self.started + timeout
        #: When the time for the value in work is over, and when to hand control back.
        self.value_deadline: Optional[float] = None
        self.pause_at: Optional[float] = None
        #: How many values there are for the item in work: yet to be processed, given, and in the
        #: results; and how many consumers have yet to take what a node gave.
        self.alive = 0
        self.unread = [0] * len(nodes)
        #: The item in work, or None before and after the items; and how many are done.
        self.item: Optional[int] = None
        self.given: dict[int, Any] = {}
        self.items_done = 0
        #: Which node is in work, with which method, since :attr:`clock`; None between the items.
        self.place: Optional[int] = None
        self.method = ""
        #: Set from outside: that it is to end, or to give up the item in work.
        self.cancelled = False
        self.interrupted = False
        #: Whether an item is in work, or what is flushed, which an interruption ends; whether the
        #: run awaits something of a node's, so that cancelling its task ends that; and whether it
        #: is cleaning up, which is not to be cancelled.
        self.sweeping = False
        self.waiting = False
        self.cleaning = False
        #: The threads, other than that of the run, in which a node is at work.
        self.threads: set[int] = set()

    def time_left(self) -> Optional[float]:
        """The time that is left in seconds, or None for as long as it takes."""
        return None if self.deadline is None else max(0.0, self.deadline - perf_counter())

    async def execute(self) -> Result:
        """Runs it."""
        self.clock = perf_counter()
        try:
            for place in self.plan.order:
                await self._call(place, "initialize")
            while True:
                self.item = self.place = None
                sweep = await self.feed.next()
                self.clock = perf_counter()
                if sweep is None:
                    break
                self.item, self.given = sweep
                if await self._sweep(flush=False):
                    self.items_done += 1
            self.given = {}
            await self._sweep(flush=True)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and os.getpid() != self.process:
                # Collected in a forked child: the nodes are the parent's.
                raise
            other = await self.clean_up()
            if other is not None:
                logger().warning("cleanup after an error failed as well: %s", other.message)
                if isinstance(error, RemoteMediaError):
                    error.causes += (other,)
            raise
        failure = await self.clean_up()
        if failure is not None:
            raise failure
        report = self.report()
        return Result(self.feed.outputs(), "python", lambda: report)

    async def attend(self) -> None:
        """Does what was asked for from outside; for a feed, between two items."""
        if self.cancelled:
            raise self.cancellation()
        if self._late():
            raise self._out_of_time()
        if self.interrupted:
            self.interrupted = False
            for slot in self.slots:
                slot.out = []
                if slot.join is not None:
                    slot.join.clear()
            for place in self.plan.order:
                if hasattr(self.nodes[place], "interrupt"):
                    await self._call(place, "interrupt")
            self.place = None

    async def set(self, place: int, params: dict[str, Any]) -> None:
        """Changes parameters of a node; for a feed, between two items.

        A built-in node is replaced by a fresh one, which is initialized before the old one is
        cleaned up. A node of the user's keeps its state, and gets attributes.
        """
        node, slot = self.nodes[place], self.slots[place]
        if slot.user:
            await self._call(place, "_set_params", params)
        else:
            before, slot.initialized = slot.initialized, []
            self.nodes[place] = type(node)(**{**node.params, **params})
            try:
                await self._call(place, "initialize")
            finally:
                if before:
                    await self._clean_up_node(place, node)
        self.place = None

    async def _sweep(self, flush: bool) -> bool:
        """Lets every node process what there is for the item in work, or after the last item, and
        gives what the sinks gave; unless it is interrupted."""
        self.alive = 0
        self.sweeping = True
        try:
            for place in self.plan.order:
                node, slot = self.plan.nodes[place], self.slots[place]
                values = self._gather(place, flush) if node.inputs else self._items(place)
                slot.out = []
                for value in values:
                    slot.items_in += 1
                    self.alive -= 1
                    had, alive = len(slot.out), self.alive
                    if node.timeout is not None:
                        self.value_deadline = perf_counter() + node.timeout
                    error = await self._attempt(place, "process", value)
                    if error is not None:
                        await self._failed(place, value, error, had, alive)
                if flush:
                    await self._call(place, "flush")
                self.unread[place] = node.consumers
        except _Interrupted:
            return False
        finally:
            self.sweeping = False
        self.feed.give(self.item, [(place, self.slots[place].out) for place in self.sinks])
        return True

    def _gather(self, place: int, flush: bool) -> list[Any]:
        """What the upstream nodes gave; the last of their consumers takes it, the others copy."""
        above = self.plan.nodes[place].inputs
        given = [self.slots[one].out for one in above]
        for one, values in zip(above, given):
            if self.unread[one] > 1:
                self.alive += len(values)
        self._check_values(place)
        for one in above:
            self.unread[one] -= 1
            if self.unread[one] == 0:
                self.slots[one].out = []
        joined = self.slots[place].join
        if joined is None:
            return [value for values in given for value in values]
        try:
            lists: list[Any] = joined.take(given)
        except NodeError as error:
            raise self._located(error, place) from None
        self.alive += len(lists) - sum(map(len, given))
        if joined.held() > MAX_VALUES:
            raise self._limit(place, f"more than {MAX_VALUES} values wait for their partners")
        if flush:
            joined.finish()
        return lists

    def _check_values(self, place: int) -> None:
        if self.alive > MAX_VALUES:
            raise self._limit(
                place,
                f"one item became more than {MAX_VALUES} values",
                "let fewer ways lead to one node, or give the item in parts",
            )

    def _limit(self, place: int, message: str, hint: Optional[str] = None) -> NodeError:
        error = NodeError(message, code="RM_E_LIMIT", hint=hint)
        return self._placed(error, place)

    def _items(self, place: int) -> list[Any]:
        """What the input has for a source node now: the item in work, or nothing."""
        if place not in self.given:
            return []
        self.alive += 1
        return [self.given[place]]

    async def _failed(
        self, place: int, value: Any, error: Optional[RemoteMediaError], had: int, alive: int
    ) -> None:
        """Does what is to be done when a node has failed with a value; ``had`` is how many values
        it had given for the item before, and ``alive`` how many there were."""
        planned, slot = self.plan.nodes[place], self.slots[place]
        then, retries, backoff = planned.on_error
        attempt = 0
        while error is not None:
            slot.errors += 1
            if attempt < retries or then != "fail":
                self._tell(place, error)
            # What it gave before it failed does not count.
            slot.items_out -= len(slot.out) - had
            del slot.out[had:]
            self.alive = alive
            if attempt == retries and then == "fail":
                raise error
            if slot.threaded:
                # Its thread may still be busy, or its process gone; the next value's time begins
                # after that.
                await self._call(place, "_revive")
            if attempt == retries:
                break
            slot.retries += 1
            await self._pause(place, backoff * 2**attempt)
            attempt += 1
            if planned.timeout is not None:
                self.value_deadline = perf_counter() + planned.timeout
            error = await self._attempt(place, "process", value)
        else:
            return
        if then == "passthrough":
            self._emit(place, value, emits=True)

    def _tell(self, place: int, error: RemoteMediaError) -> None:
        """Says why a node has failed that the run goes on without, or that is tried again: of a
        thousand times the first is heard."""
        then = {
            "skip": "the value is skipped",
            "passthrough": "the value goes on as it came",
            "fail": "is tried again",
        }[self.plan.nodes[place].on_error[0]]
        item = "" if error.item is None else f" with item {error.item}"
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        level = 30 if self.slots[place].errors == 1 else 10
        logger().log(level, 'node "%s" failed%s, and %s: %s', error.node, item, then, text)

    async def _pause(self, place: int, seconds: float) -> None:
        """Waits before a value is tried again."""
        if not self.loop:
            await LOOP
            self.loop = True
        from asyncio import sleep

        try:
            await self._wait(sleep(seconds))
        except _Over:
            raise self._out_of_time(place) from None
        self._book(place)

    async def _call(self, place: int, method: str, *args: Any) -> None:
        """A call that must not fail."""
        error = await self._attempt(place, method, *args)
        if error is not None:
            raise error

    async def _attempt(self, place: int, method: str, *args: Any) -> Optional[RemoteMediaError]:
        """One step: a call of a node's method, with everything that follows from it. Hands back
        the error if the node fails; raises what ends the run in any case."""
        failure: Optional[RemoteMediaError] = None
        slot = self.slots[place]
        self.place, self.method = place, method
        try:
            call = getattr(self.nodes[place], method)
            if method == "initialize":
                # Not in two steps: Ctrl-C cannot come between the return and the note of it.
                if slot.threaded:
                    await self._in_thread(place, slot.initialized.extend, starmap(call, [args]))
                else:
                    slot.initialized.extend(starmap(call, [args]))
                if slot.initialized[0] is not None:
                    await self._take(place, slot.initialized.pop(), emits=False)
                    slot.initialized.append(None)
            else:
                result = await self._in_thread(place, call, *args) if slot.threaded else call(*args)
                if result is not None:
                    await self._take(place, result, emits=method in ("process", "flush"))
                if self.value_deadline is not None:
                    self._check_value_time()
        except _Over:
            raise self._out_of_time(place) from None
        except _Full:
            pass
        except _TooLong:
            failure = self._too_long(place)
        except Exception as error:  # noqa: BLE001  users' code may raise anything
            failure = self._located(error, place)
            if failure is not error:
                failure.__cause__ = error
        self.value_deadline = None
        self._book(place)
        if failure is None and self.alive > MAX_VALUES:
            self._check_values(place)
        if self.loop:
            if self.clock - self.yielded > _SLICE:
                await self._yield()
                self.clock = self.yielded
        elif self.pause_at is not None and self.clock >= self.pause_at:
            await PAUSE
            self.clock = perf_counter()
        if self.cancelled:
            raise self.cancellation(place)
        if self.deadline is not None and self.clock >= self.deadline:
            raise self._out_of_time(place)
        if self.interrupted and self.sweeping:
            raise _Interrupted
        return failure

    async def _yield(self) -> None:
        """Lets other tasks of the event loop go on."""
        from asyncio import sleep

        await sleep(0)
        self.yielded = perf_counter()

    async def _take(self, place: int, result: Any, emits: bool = True) -> None:
        """Emits what a node's method returned: a value, or what yields or promises some."""
        if isinstance(result, GeneratorType):
            if self.slots[place].threaded:
                await self._take_in_thread(place, result, emits)
                return
            try:
                for value in result:
                    self._emit(place, value, emits)
                    self._check_time()
                    if self.loop and perf_counter() - self.yielded > _SLICE:
                        await self._yield()
                    if self.cancelled or (self.interrupted and self.sweeping):
                        return
            finally:
                result.close()
        elif isinstance(result, AsyncGeneratorType):
            try:
                while True:
                    try:
                        value = await self._wait(result.__anext__())
                    except StopAsyncIteration:
                        break
                    self._emit(place, value, emits)
                    self._check_time()
            except BaseException:
                # One that did not end when it was cancelled cannot be closed.
                with suppress(RuntimeError):
                    await result.aclose()
                raise
        elif hasattr(result, "__await__"):
            value = await self._wait(result)
            if value is not None:
                await self._take(place, value, emits)
        elif type(result) is Several:
            for value in result:
                self._emit(place, value, emits)
        else:
            self._emit(place, result, emits)

    async def _take_in_thread(
        self, place: int, result: GeneratorType[Any, Any, Any], emits: bool
    ) -> None:
        try:
            while True:
                value = await self._in_thread(place, next, result, _END)
                if value is _END:
                    return
                self._emit(place, value, emits)
                self._check_time()
        except BaseException:
            # One that still computes cannot be closed.
            if not self.slots[place].abandoned:
                await self._in_thread(place, result.close)
            raise

    def _emit(self, place: int, value: Any, emits: bool) -> None:
        if emits:
            slot = self.slots[place]
            if slot.user:
                value = crossed(value, "output")
            slot.out.append(value)
            slot.items_out += 1
            self.alive += 1
            if self.alive > MAX_VALUES:
                raise _Full

    async def _wait(self, awaitable: Any) -> Any:
        """Awaits, until the time of the run, or that for the value, is over."""
        if not self.loop:
            try:
                await LOOP
            except BaseException:
                # What was never awaited would complain.
                if hasattr(awaitable, "close"):
                    awaitable.close()
                raise
            self.loop = True
        import asyncio

        deadlines = [time for time in (self.deadline, self.value_deadline) if time is not None]
        self.waiting = True
        try:
            if not deadlines:
                return await awaitable

            async def waiting() -> Any:
                return await awaitable

            task = asyncio.ensure_future(waiting())
            try:
                await asyncio.wait({task}, timeout=max(0.0, min(deadlines) - perf_counter()))
                if task.done():
                    return task.result()
                raise _Over if self._late() else _TooLong
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait({task}, timeout=GRACE)
                if task.done() and not task.cancelled():
                    task.exception()  # Asked for, or asyncio would complain.
        except asyncio.CancelledError:
            if self.cancelled or not (self.interrupted and self.sweeping):
                raise
            # Ours, unless the task was cancelled once more.
            if sys.version_info >= (3, 11):
                current = asyncio.current_task()
                if current is not None and current.uncancel() > 0:
                    raise
            raise _Interrupted from None
        finally:
            self.waiting = False

    async def _in_thread(self, place: int, call: Callable[..., Any], *args: Any) -> Any:
        """What a call gives or raises that is done in the node's own thread."""
        if not self.loop:
            await LOOP
            self.loop = True
        slot = self.slots[place]
        future = self._submit(place, call, *args)
        try:
            value, error = await self._wait(future)
        except BaseException as error:
            # The thread cannot be made to end, but a process can; unless it is to go on with
            # another item.
            slot.abandoned = True
            if isinstance(error, _Interrupted):
                raise
            kill = getattr(self.nodes[place], "kill", None)
            if kill is not None and slot.user:
                kill()
                slot.abandoned = False
            raise
        slot.abandoned = False
        if error is not None:
            raise error
        return value

    def _submit(self, place: int, call: Callable[..., Any], *args: Any) -> Any:
        """Lets the node's own thread do something, after what it is doing."""
        from asyncio import get_running_loop

        slot = self.slots[place]
        if slot.executor is None:
            from concurrent.futures import ThreadPoolExecutor

            slot.executor = ThreadPoolExecutor(1, f"remotemedia-{self.plan.nodes[place].id}")

        def caught() -> tuple[Any, Optional[BaseException]]:
            # A future does not take every exception there is.
            self.threads.add(get_ident())
            try:
                return call(*args), None
            except BaseException as error:  # noqa: BLE001  it is raised where it is awaited
                return None, error
            finally:
                self.threads.discard(get_ident())

        return get_running_loop().run_in_executor(slot.executor, copy_context().run, caught)

    def _late(self) -> bool:
        return self.deadline is not None and perf_counter() >= self.deadline

    def _check_time(self) -> None:
        """Between the values of one call, as one that never ends must end."""
        if self._late():
            raise _Over
        self._check_value_time()

    def _check_value_time(self) -> None:
        if self.value_deadline is not None and perf_counter() >= self.value_deadline:
            raise _TooLong

    def _book(self, place: int) -> None:
        now = perf_counter()
        self.slots[place].seconds += now - self.clock
        self.clock = now

    def cancellation(self, place: Optional[int] = None) -> RunCancelledError:
        """The error of a run that was cancelled."""
        return self._placed(RunCancelledError("the run was cancelled"), place)

    def _out_of_time(self, place: Optional[int] = None) -> RunTimeoutError:
        error = RunTimeoutError(
            f"the run was not complete after {_seconds(self.timeout or 0)} s",
            hint="allow more time, or give it less to do",
        )
        return self._placed(error, place)

    def _too_long(self, place: int) -> RunTimeoutError:
        error = RunTimeoutError(
            f"the value took longer than {_seconds(self.plan.nodes[place].timeout or 0)} s",
            hint='allow more time with "timeout", or give the node less to do',
        )
        return self._placed(error, place)

    def _located(self, error: Exception, place: int) -> NodeError:
        """The error with the node and the item where it happened: the same object if it is a
        NodeError that has not got these yet, else a NodeError to be raised from it."""
        if isinstance(error, RemoteMediaError):
            # With a node it comes from another pipeline, which the node runs.
            if not isinstance(error, NodeError) or error.node is not None:
                error = NodeError(error.message, hint=error.hint)
        else:
            error = NodeError(described(error))
        return self._placed(error, place)

    def _placed(self, error: E, place: Optional[int]) -> E:
        """The same error, with the node and the item."""
        error.item = self.item
        if place is not None:
            node = self.plan.nodes[place]
            error.node, error.node_type = node.id, node.node_type
        return error

    async def clean_up(self) -> Optional[NodeError]:
        """Cleans up every node that was initialized, once; hands back the first failure."""
        self.item = self.place = None
        self.cleaning = True
        failure: Optional[NodeError] = None
        interrupt: Optional[BaseException] = None
        for place in reversed(self.plan.order):
            slot = self.slots[place]
            if not slot.initialized and slot.executor is None:
                continue
            try:
                await self._clean_up_node(place, self.nodes[place])
            except Exception as error:  # noqa: BLE001  users' code may raise anything
                located = self._located(error, place)
                if located is not error:
                    located.__cause__ = error
                failure = failure or located
            except BaseException as error:  # noqa: BLE001  the other nodes first
                interrupt = error
        self.place = None
        if interrupt is not None:
            raise interrupt
        return failure

    async def _clean_up_node(self, place: int, node: Node) -> None:
        slot = self.slots[place]
        self.place, self.method = place, "cleanup"
        if slot.executor is None:
            slot.initialized = []
            result = node.cleanup()
        else:
            result = await self._clean_up_in_thread(place, node)
        if hasattr(result, "__await__"):
            if not self.loop:
                await LOOP
                self.loop = True
            await result

    async def _clean_up_in_thread(self, place: int, node: Node) -> Any:
        """The node's thread does it when it is done with what it is doing."""
        from asyncio import wait

        slot = self.slots[place]

        def clean_up() -> Any:
            # Only now it is certain whether it is initialized.
            if slot.initialized:
                slot.initialized = []
                return node.cleanup()
            return None

        future = self._submit(place, clean_up)
        executor, slot.executor = slot.executor, None
        try:
            await wait({future}, timeout=GRACE if slot.abandoned else None)
        finally:
            if executor is not None:
                executor.shutdown(wait=False)
        if not future.done():
            logger().warning(
                "node %r is cleaned up when its thread is done with the value that it computes",
                self.plan.nodes[place].id,
            )
            return None
        value, error = future.result()
        if error is not None:
            raise error
        return value

    def report(self) -> dict[str, Any]:
        """Counts and times so far; see :attr:`Result.metrics`."""
        nodes = {
            node.id: {
                "node_type": node.node_type,
                "items_in": slot.items_in,
                "items_out": slot.items_out,
                "errors": slot.errors,
                "retries": slot.retries,
                "dropped": 0 if slot.join is None else slot.join.dropped,
                "time_us": slot.seconds * 1e6,
            }
            for node, slot in zip(self.plan.nodes, self.slots)
        }
        return {
            "items": self.feed.items,
            "items_done": self.items_done,
            "time_us": (self.clock - self.started) * 1e6,
            "sinks": {
                self.plan.nodes[place].id: self.slots[place].items_out for place in self.sinks
            },
            "nodes": nodes,
        }


def waited() -> RunTimeoutError:
    """The error of a run whose turn did not come in time."""
    return RunTimeoutError(
        "the run's time was over before another run of the pipeline was complete",
        hint="allow more time, or make a second pipeline, with nodes of its own",
    )


def described(error: Exception) -> str:
    """An exception in one line, whatever it is."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  users' code may raise anything
        text = ""
    return f"{name}: {text}" if text else name


class Several(list[Any]):
    """What a node gave in another process: values one by one."""


def in_its_process(node: Node) -> Node:
    """What stands for a node that runs in a process of its own."""
    if node.runs_in != "process":
        return node
    from remotemedia.core.worker import Worker

    return Worker(node)


class _Over(Exception):
    """The time of the run is over."""


class _TooLong(Exception):
    """The time for a value is over."""


class _Interrupted(BaseException):
    """The item in work is given up. Not an Exception, as it is no node's error."""


class _Full(Exception):
    """There are too many values."""


def crossed(value: Any, place: str, levels: int = 0) -> Any:
    """A value as it would arrive at a node behind the native library: a copy with lists for
    tuples and plain types for their subclasses; arrays share their memory.

    Raises:
        MarshalError: for what cannot cross.
    """
    text, parts = marshal.encode(value, place, levels)
    return marshal.decode(text, lambda index: part_value(parts[index]))


def part_value(part: marshal.Part) -> Any:
    """The value of a binary part, on its memory."""
    if part.kind == "bytes":
        return bytes(part.memory)
    memory = memoryview(part.memory)
    # A view without elements cannot be cast.
    memory = memory.cast("B") if memory.nbytes else memoryview(b"")
    if part.meta:
        return marshal.media(memory, part.dtype, part.shape, part.meta, part.pts_us)
    return marshal.tensor(memory, part.dtype, part.shape)


def _distribute(plan: Plan, items: Input) -> dict[int, list[Any]]:
    """The items for every source node, by its place."""
    if isinstance(items, list):
        return {place: items for place, node in enumerate(plan.nodes) if not node.inputs}
    found = {}
    for node_id, values in items.items():
        place = source_place(plan, node_id, "; to pass one map as an item, put it in a list")
        if not isinstance(values, list):
            raise MarshalTypeError(
                f'the input for "{node_id}" is a list of items, not {kind(values)}',
                pointer="/" + escaped(node_id),
                hint="put the item in a list",
            )
        found[place] = values
    return found


def source_place(plan: Plan, node_id: str, more: str = "") -> int:
    """The place of a source node; ``more`` is added to the hint if there is no such node."""
    pointer = "/" + escaped(node_id)
    sources = [node.id for node in plan.nodes if not node.inputs]
    for place, node in enumerate(plan.nodes):
        if node.id == node_id:
            if not node.inputs:
                return place
            raise MarshalValueError(
                f'the node "{node_id}" gets its values from other nodes, not from the input',
                pointer=pointer,
                hint="nodes that take input: " + ", ".join(sources),
            )
    raise MarshalValueError(
        f'the input names a node "{node_id}" that is not there',
        pointer=pointer,
        hint=did_you_mean(node_id, sources, "") + more,
    )


def _seconds(timeout: float) -> str:
    """Seconds as the native library writes them, which counts milliseconds."""
    milliseconds = max(round(timeout * 1000), 1 if timeout > 0 else 0)
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")
