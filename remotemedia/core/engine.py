"""The Python engine: runs a plan whose nodes are all written in Python.

The twin of ``rust-core/runtime/src/run.rs``: the same order, the same lifecycle, the same errors.
It is one coroutine. As long as no node waits, whoever drives it gets by with one ``send(None)``;
at the first node that waits it asks for an event loop, and only then asyncio is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Generator
from contextlib import suppress
from itertools import starmap
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from remotemedia import marshal
from remotemedia.core.manifest import Plan
from remotemedia.core.node import Node, is_builtin
from remotemedia.core.schema import did_you_mean, escaped
from remotemedia.errors import (
    MarshalTypeError,
    MarshalValueError,
    NodeError,
    RemoteMediaError,
    RunTimeoutError,
)
from remotemedia.inputs import kind
from remotemedia.log import logger
from remotemedia.result import Result

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Run", "described", "drive"]

Input = Union[list[Any], dict[str, list[Any]]]

#: How many values one item may have become at any moment, between the nodes and in the result.
MAX_VALUES = 1_000_000
#: How long other tasks of an event loop may wait for nodes that compute, in seconds.
_SLICE = 0.005
#: How long a task that was cancelled may take to end, in seconds.
_GRACE = 1.0


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

    loop = asyncio.new_event_loop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work, loop)
    # Somebody called synchronous code from a coroutine. A loop cannot run inside another one.
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    with ThreadPoolExecutor(1, "remotemedia") as executor:
        future = executor.submit(copy_context().run, _run, work, loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C, for one; or the run's own error, and the loop is closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(cancel)
            raise


def _run(work: Coroutine[Any, Any, Result], loop: AbstractEventLoop) -> Result:
    """Like ``asyncio.run``; but what does not want to end is left behind after a while."""
    import asyncio

    async def rest() -> Result:
        return await _Rest(work)

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        tasks = (await asyncio.wait(tasks, timeout=_GRACE))[1] if tasks else tasks
        if not tasks:
            tasks = {loop.create_task(loop.shutdown_asyncgens())}
            tasks = (await asyncio.wait(tasks, timeout=_GRACE))[1]
        for task in tasks:
            logger().warning("a task did not end when it was cancelled: %r", task)
            # Or asyncio would write to stderr.
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    try:
        if sys.version_info >= (3, 11):
            # Ctrl-C cancels the task, rather than to break out of the loop.
            return asyncio.Runner(loop_factory=lambda: loop).run(rest())
        return loop.run_until_complete(rest())
    finally:
        try:
            loop.run_until_complete(end())
        finally:
            loop.close()


class _Loop:
    """Awaited once by a run that needs an event loop from there on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _Rest:
    """What remains of a coroutine that has begun, to be awaited."""

    def __init__(self, work: Coroutine[Any, Any, Result]) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Result]:
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
            result: Result = end.value
            return result


class _Slot:
    """What a run knows of a node."""

    __slots__ = ("initialized", "items_in", "items_out", "out", "results", "seconds", "user")

    def __init__(self, node: Node) -> None:
        self.user = not is_builtin(node)
        #: Not empty once the node is initialized.
        self.initialized: list[Any] = []
        #: What the node gave for the item in work.
        self.out: list[Any] = []
        #: For a sink: everything it gave.
        self.results: list[Any] = []
        self.items_in = 0
        self.items_out = 0
        self.seconds = 0.0


class Run:
    """One execution of a plan.

    Args:
        plan: what to run.
        nodes: a node object for every node of the plan.
        items: a list, whose items go to every source node, or a dict from the ids of source nodes
            to lists.
        timeout: the time for all of it, in seconds.
        loop: whether it is awaited in an event loop from the beginning.

    Raises:
        MarshalError: if an item is not a value that could cross to the native library, or the
            input does not fit the plan.
    """

    def __init__(
        self,
        plan: Plan,
        nodes: list[Node],
        items: Input,
        timeout: Optional[float] = None,
        loop: bool = False,
    ) -> None:
        # The batch itself, and a mapping around it, are not levels of the user's.
        items = _crossed(items, "input", 2 if isinstance(items, dict) else 1)
        self.plan = plan
        self.nodes = nodes
        self.input = _distribute(plan, items)
        self.items = max(map(len, self.input.values()), default=0)
        self.slots = [_Slot(node) for node in nodes]
        self.loop = loop
        self.started = self.clock = self.yielded = perf_counter()
        self.timeout = timeout
        self.deadline = None if timeout is None else self.started + timeout
        #: How many values there are for the item in work: yet to be processed, given, and in the
        #: results; and how many consumers have yet to take what a node gave.
        self.alive = 0
        self.unread = [0] * len(nodes)
        #: The item in work, or None before and after the items; and how many are done.
        self.item: Optional[int] = None
        self.items_done = 0

    def time_left(self) -> Optional[float]:
        """The time that is left in seconds, or None for as long as it takes."""
        return None if self.deadline is None else max(0.0, self.deadline - perf_counter())

    async def execute(self) -> Result:
        """Runs it."""
        self.clock = perf_counter()
        try:
            await self._initialize()
            for item in range(self.items):
                self.item = item
                await self._sweep(flush=False)
                self.items_done = item + 1
            self.item = None
            await self._sweep(flush=True)
        except BaseException as error:
            other = await self._clean_up()
            if other is not None:
                logger().warning("cleanup after an error failed as well: %s", other.message)
                if isinstance(error, RemoteMediaError):
                    error.causes += (other,)
            raise
        failure = await self._clean_up()
        if failure is not None:
            raise failure
        outputs = [value for slot in self.slots for value in slot.results]
        report = self._report()
        return Result(outputs, "python", lambda: report)

    async def _initialize(self) -> None:
        for place in self.plan.order:
            await self._call(place, "initialize")

    async def _sweep(self, flush: bool) -> None:
        """Lets every node process what there is for the item in work, or after the last item."""
        self.alive = 0
        for place in self.plan.order:
            node, slot = self.plan.nodes[place], self.slots[place]
            values = self._gather(place) if node.inputs else self._items(place)
            slot.out = []
            for value in values:
                slot.items_in += 1
                self.alive -= 1
                await self._call(place, "process", value)
            if flush:
                await self._call(place, "flush")
            self.unread[place] = node.consumers
            if node.consumers == 0:
                slot.results += slot.out

    def _gather(self, place: int) -> list[Any]:
        """What the upstream nodes gave; the last of their consumers takes it, the others copy."""
        above = self.plan.nodes[place].inputs
        self.alive += sum(len(self.slots[one].out) for one in above if self.unread[one] > 1)
        self._check_values(place)
        values = [value for one in above for value in self.slots[one].out]
        for one in above:
            self.unread[one] -= 1
            if self.unread[one] == 0:
                self.slots[one].out = []
        return values

    def _check_values(self, place: int) -> None:
        if self.alive > MAX_VALUES:
            node = self.plan.nodes[place]
            raise NodeError(
                f"one item became more than {MAX_VALUES} values",
                code="RM_E_LIMIT",
                node=node.id,
                node_type=node.node_type,
                item=self.item,
                hint="let fewer ways lead to one node, or give the item in parts",
            )

    def _items(self, place: int) -> list[Any]:
        """What the input has for a source node now: the item in work, or nothing."""
        items = self.input.get(place, ())
        if self.item is None or self.item >= len(items):
            return []
        self.alive += 1
        return [items[self.item]]

    async def _call(self, place: int, method: str, *args: Any) -> None:
        """One step: a call of a node's method, with everything that follows from it."""
        try:
            call = getattr(self.nodes[place], method)
            if method == "initialize":
                # Not in two steps: Ctrl-C cannot come between the return and the note of it.
                initialized = self.slots[place].initialized
                initialized.extend(starmap(call, [args]))
                if initialized[0] is not None:
                    await self._take(place, initialized.pop(), emits=False)
                    initialized.append(None)
            else:
                result = call(*args)
                if result is not None:
                    await self._take(place, result)
        except _Over:
            raise self._out_of_time(place) from None
        except _Full:
            pass
        except Exception as error:
            self._book(place)
            located = self._located(error, place)
            if located is error:
                raise
            raise located from error
        self._book(place)
        self._check_values(place)
        if self._late():
            raise self._out_of_time(place)
        if self.loop and self.clock - self.yielded > _SLICE:
            from asyncio import sleep

            await sleep(0)
            self.yielded = perf_counter()

    async def _take(self, place: int, result: Any, emits: bool = True) -> None:
        """Emits what a node's method returned: a value, or what yields or promises some."""
        if isinstance(result, GeneratorType):
            try:
                for value in result:
                    self._emit(place, value, emits)
                    self._check_time()
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
        else:
            self._emit(place, result, emits)

    def _emit(self, place: int, value: Any, emits: bool) -> None:
        if emits:
            slot = self.slots[place]
            if slot.user:
                value = _crossed(value, "output")
            slot.out.append(value)
            slot.items_out += 1
            self.alive += 1
            if self.alive > MAX_VALUES:
                raise _Full

    async def _wait(self, awaitable: Any) -> Any:
        """Awaits, until the time of the run is over."""
        if not self.loop:
            await _Loop()
            self.loop = True
        if self.deadline is None:
            return await awaitable
        import asyncio

        async def waiting() -> Any:
            return await awaitable

        task = asyncio.ensure_future(waiting())
        try:
            await asyncio.wait({task}, timeout=self.time_left())
            if task.done():
                return task.result()
            raise _Over
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_GRACE)
            if task.done() and not task.cancelled():
                task.exception()  # Asked for, or asyncio would complain.

    def _late(self) -> bool:
        return self.time_left() == 0

    def _check_time(self) -> None:
        """Between the values of one call, as one that never ends must end."""
        if self._late():
            raise _Over

    def _book(self, place: int) -> None:
        now = perf_counter()
        self.slots[place].seconds += now - self.clock
        self.clock = now

    def _out_of_time(self, place: int) -> RunTimeoutError:
        node = self.plan.nodes[place]
        return RunTimeoutError(
            f"the run was not complete after {_seconds(self.timeout or 0)} s",
            node=node.id,
            node_type=node.node_type,
            item=self.item,
            hint="allow more time, or give it less to do",
        )

    def _located(self, error: Exception, place: int) -> NodeError:
        """The error with the node and the item where it happened: the same object if it is a
        NodeError that has not got these yet, else a NodeError to be raised from it."""
        if isinstance(error, RemoteMediaError):
            # With a node it comes from another pipeline, which the node runs.
            if not isinstance(error, NodeError) or error.node is not None:
                error = NodeError(error.message, hint=error.hint)
        else:
            error = NodeError(described(error))
        node = self.plan.nodes[place]
        error.node, error.node_type, error.item = node.id, node.node_type, self.item
        return error

    async def _clean_up(self) -> Optional[NodeError]:
        """Cleans up every node that was initialized, once; hands back the first failure."""
        self.item = None
        failure: Optional[NodeError] = None
        interrupt: Optional[BaseException] = None
        for place in reversed(self.plan.order):
            slot = self.slots[place]
            if not slot.initialized:
                continue
            slot.initialized = []
            try:
                result = self.nodes[place].cleanup()
                if hasattr(result, "__await__"):
                    if not self.loop:
                        await _Loop()
                        self.loop = True
                    await result
            except Exception as error:  # noqa: BLE001  users' code may raise anything
                located = self._located(error, place)
                if located is not error:
                    located.__cause__ = error
                failure = failure or located
            except BaseException as error:  # noqa: BLE001  the other nodes first
                interrupt = error
        if interrupt is not None:
            raise interrupt
        return failure

    def _report(self) -> dict[str, Any]:
        sinks = {}
        nodes = {}
        for node, slot in zip(self.plan.nodes, self.slots):
            if node.consumers == 0:
                sinks[node.id] = slot.items_out
            nodes[node.id] = {
                "node_type": node.node_type,
                "items_in": slot.items_in,
                "items_out": slot.items_out,
                "time_us": slot.seconds * 1e6,
            }
        return {
            "items": self.items,
            "items_done": self.items_done,
            "time_us": (self.clock - self.started) * 1e6,
            "sinks": sinks,
            "nodes": nodes,
        }


def described(error: Exception) -> str:
    """An exception in one line, whatever it is."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  users' code may raise anything
        text = ""
    return f"{name}: {text}" if text else name


class _Over(Exception):
    """The time of the run is over."""


class _Full(Exception):
    """There are too many values."""


def _crossed(value: Any, place: str, levels: int = 0) -> Any:
    """A value as it would arrive at a node behind the native library: a copy with lists for
    tuples and plain types for their subclasses; arrays share their memory.

    Raises:
        MarshalError: for what cannot cross.
    """
    text, parts = marshal.encode(value, place, levels)
    return marshal.decode(text, lambda index: _part(parts[index]))


def _part(part: marshal.Part) -> Any:
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
    sources = [node.id for node in plan.nodes if not node.inputs]
    if isinstance(items, list):
        return {place: items for place, node in enumerate(plan.nodes) if not node.inputs}
    places = {node.id: place for place, node in enumerate(plan.nodes)}
    found = {}
    for node_id, values in items.items():
        pointer = "/" + escaped(node_id)
        if node_id not in places:
            hint = did_you_mean(node_id, sources, "")
            raise MarshalValueError(
                f'the input names a node "{node_id}" that is not there',
                pointer=pointer,
                hint=f"{hint}; to pass one map as an item, put it in a list",
            )
        if node_id not in sources:
            raise MarshalValueError(
                f'the node "{node_id}" gets its values from other nodes, not from the input',
                pointer=pointer,
                hint="nodes that take input: " + ", ".join(sources),
            )
        if not isinstance(values, list):
            raise MarshalTypeError(
                f'the input for "{node_id}" is a list of items, not {kind(values)}',
                pointer=pointer,
                hint="put the item in a list",
            )
        found[places[node_id]] = values
    return found


def _seconds(timeout: float) -> str:
    """Seconds as the native library writes them, which counts milliseconds."""
    milliseconds = max(round(timeout * 1000), 1 if timeout > 0 else 0)
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")
