"""Nodes written in Python, as nodes of a run in the native engine.

The library never calls them. What they have to do comes as tasks, many in a crossing, and goes back
as answers (``rm_call_exchange``); a :class:`Host` does them for one run. A plain method is called
where the task is taken: on the thread that waits for the run, or on that of the event loop. What
waits becomes a task of the event loop's, and nodes with a thread or a process of their own do it
there and answer from there. The library keeps the order, and sees to errors and limits of time; a
node gets one thing after the other.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import starmap
from marshal import dumps
from threading import get_ident
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Protocol, cast
from weakref import ref

from remotemedia import marshal
from remotemedia.core.engine import (
    GRACE,
    MAX_VALUES,
    Several,
    ctrl_c_later,
    described,
    in_its_process,
)
from remotemedia.core.node import Node
from remotemedia.core.session import in_work
from remotemedia.errors import NodeError, RemoteMediaError
from remotemedia.log import logger

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Host", "HostNode", "does", "waits"]

#: The kinds of tasks (RM_TASK_*) are the places of the methods here.
METHODS = ("initialize", "process", "flush", "interrupt", "_set_params", "cleanup")
_INITIALIZE, PROCESS, _FLUSH, _INTERRUPT, _SET, CLEANUP = range(6)
#: Flags of the code of coroutines and asynchronous generators (``inspect.CO_COROUTINE``,
#: ``CO_ASYNC_GENERATOR``), without the import.
_WAITS = 0x80 | 0x200
_GENERATORS = {GeneratorType, AsyncGeneratorType}
#: How long tasks are done before the answers are handed in, in seconds.
TURN = 0.001
#: How many exceptions of a node's are kept until it is known which one ends the run.
_RAISED = 256
#: What need not be looked into, and what stands for the rest.
_SCALARS, _ESCAPE = marshal.SCALARS, marshal.ESCAPE
_RM_E_TIMEOUT, _RM_E_LIMIT = -6, -13
#: `[items, answers, node]` without anything.
_NOTHING = b""

#: A task: the node's place, its number, the number of the item or -1, the kind, and the value.
Call = tuple[int, int, int, int, Any]


class HostNode(NamedTuple):
    """A node of the user's in a plan."""

    place: int
    id: str
    node_type: str
    #: The time for one value in seconds.
    timeout: Optional[float]
    #: Whether the run goes on after it has failed with a value.
    goes_on: bool
    node: Node


def does(node: Node) -> Iterator[str]:
    """Which tasks there are for a node, besides those that every node has."""
    for method in ("initialize", "flush", "cleanup"):
        if getattr(getattr(node, method), "__func__", None) is not getattr(Node, method):
            yield method
    if hasattr(node, "interrupt"):
        yield "interrupt"
    if node.runs_in is not None:
        # To begin with, and in the end, there is a thread or a process.
        yield from ("initialize", "cleanup")


def waits(planned: HostNode) -> bool:
    """Whether a node is known to wait, or to have a thread or a process of its own."""
    node = planned.node
    methods = (node.initialize, node.process, node.flush, node.cleanup)
    return node.runs_in is not None or any(
        getattr(getattr(method, "__code__", None), "co_flags", 0) & _WAITS for method in methods
    )


class _Lane:
    """A node, and what it has to do, one thing after the other."""

    __slots__ = (
        "begun",
        "busy",
        "cleaned_up",
        "executor",
        "failed",
        "future",
        "given_up",
        "inner",
        "item",
        "kind",
        "node",
        "planned",
        "process",
        "queue",
        "raised",
        "since",
        "task",
        "thread",
        "threaded",
        "timed",
    )

    def __init__(self, planned: HostNode) -> None:
        self.planned = planned
        self.node = in_its_process(planned.node)
        self.process: Callable[[Any], Any] = self.node.process
        #: What waits until it is done with what it is doing.
        self.queue: deque[Call] = deque()
        #: Whether something is under way that was not done at once: a task of the event loop's, or
        #: a call in the node's own thread.
        self.busy = False
        self.task: Optional[Task[None]] = None
        self.future: Optional[Future[None]] = None
        #: What that task waits for, if the time for the value is limited.
        self.inner: Any = None
        self.executor: Optional[ThreadPoolExecutor] = None
        #: Whether nobody waits for that any more.
        self.given_up = False
        #: Not empty once it is initialized.
        self.begun: list[Any] = []
        #: Whether it was asked to clean up.
        self.cleaned_up = False
        #: Whether it has failed with the last value, and is to go on.
        self.failed = False
        #: What it raised, by item.
        self.raised: dict[int, Exception] = {}
        #: What it is doing, since when and on which thread; None if nothing.
        self.kind: Optional[int] = None
        self.item = -1
        self.since = 0.0
        self.thread: Optional[int] = None
        self.timed = planned.timeout is not None
        self.threaded = self.node.runs_in is not None


class _Rest(NamedTuple):
    """A plain generator that takes its time in an event loop, which gets its turns in between; with
    what it has given so far."""

    generator: GeneratorType[Any, Any, Any]
    values: list[Any]
    parts: list[marshal.Part]

    def close(self) -> None:
        self.generator.close()


#: In the place of a part that stands elsewhere.
_NO_PART = marshal.Part("bytes", b"", (0, 0), ())


class TooMany(Exception):
    """A node gave more values than one item may become."""


class TooLong(Exception):
    """The time for a value is over."""


class GivenUp(Exception):
    """Nobody waits for the answer: its item was discarded, or the run is over."""


class Owner(Protocol):
    """Whose run it is."""

    def hand_in(self, text: bytes, parts: list[marshal.Part]) -> None:
        """Hands an answer in, from any thread."""
        ...

    def end_run(self) -> None:
        """Cancels the run, from any thread."""
        ...

    def go_on(self) -> None:
        """In the event loop: there may be something to do."""
        ...

    def need_loop(self) -> AbstractEventLoop:
        """The event loop in which nodes wait; makes one if there is none."""
        ...


class Host:
    """Does the tasks of one run.

    Args:
        nodes: the nodes that are written in Python.
    """

    def __init__(self, nodes: list[HostNode]) -> None:
        self.lanes = {planned.place: _Lane(planned) for planned in nodes}
        #: Whose run it is. Not kept, so that a run is gone which an exception of a signal handler's
        #: has made everybody forget.
        self._owner: Callable[[], Optional[Owner]] = lambda: None
        #: What waits for an event loop, if there is no owner yet.
        self.waiting: list[tuple[_Lane, Call, Any]] = []
        #: Tasks that were taken and not begun.
        self.ready: deque[Call] = deque()
        #: Answers that were not handed in: `node, id, values` one after the other, and their parts.
        self.answers: list[Any] = []
        #: Arrays may stand for their parts.
        self.parts: list[Any] = []
        #: The first item with which a node has failed so that the run ends: later ones are idle.
        self.failed_at = sys.maxsize
        #: Items below this one were discarded, and so were tasks once the run was cancelled.
        self.floor = 0
        self.cancelled = False
        #: When the time of the run is over, which the library sees to but for nodes that generate
        #: without end.
        self.deadline: Optional[float] = None
        #: What is neither an error of a node's nor of the run's: Ctrl-C, the end of the process.
        self.ended_by: Optional[BaseException] = None
        #: Parameters that were set, by a number that crosses in their place.
        self.settings: dict[str, dict[str, Any]] = {}
        self.context = copy_context()
        #: The threads in which a node is at work.
        self.threads: set[int] = set()
        self.loop: Optional[AbstractEventLoop] = None
        #: The place of its crossings on the straight way.
        self.place: Any = None
        #: Whether tasks are done in an event loop of the caller's, which is to go on.
        self.in_loop = False

    def begin(self, owner: Owner) -> None:
        """Works for a run of this owner's."""
        self._owner = ref(owner)
        self.context = copy_context()

    def resume(self) -> None:
        """Goes on with what waited for an owner."""
        waiting, self.waiting = self.waiting, []
        for lane, call, result in waiting:
            self._begin_to_wait(lane, call, result)

    # --- crossings --------------------------------------------------------------------------------

    def outgoing(self) -> bytes:
        """The answers there are, as a text for the library, and binary parts in ``parts``."""
        answers = self.answers
        return dumps([[], answers, None], 2) if answers else _NOTHING

    def sent(self) -> None:
        """They are in. Those that a signal handler's exception kept from being forgotten go in
        again, and the library ignores them."""
        self.answers = []
        self.parts = []

    def came(self, tasks: list[Any], read: Optional[Callable[[int], Any]]) -> None:
        """Takes tasks as the library wrote them."""
        rest = iter(tasks)
        for task in zip(rest, rest, rest, rest, rest):
            self._came_one(task, read)

    # --- tasks ------------------------------------------------------------------------------------

    def work_off(self, seconds: float = TURN) -> None:
        """Does tasks that were taken, for that long."""
        if self.ready:
            self.context.run(self._work_off, perf_counter() + seconds)

    def work_off_here(self, until: Optional[float] = None) -> None:
        """Does the tasks that were taken, in the context of this code; as far as there is time."""
        ready, lanes, thread = self.ready, self.lanes, get_ident()
        within = thread in self.threads
        try:
            self.threads.add(thread)
            while ready and not self.waiting:
                if until is not None and perf_counter() >= until:
                    return
                call = ready.popleft()
                self._do(lanes[call[0]], call, thread)
        except BaseException as error:
            self._end_by(error)
            raise
        finally:
            if not within:
                self.threads.discard(thread)

    def _work_off(self, until: float) -> None:
        ready, lanes, thread = self.ready, self.lanes, get_ident()
        try:
            self.threads.add(thread)
            while ready:
                call = ready.popleft()
                lane = lanes[call[0]]
                if lane.task is not None:
                    lane.queue.append(call)
                else:
                    self._do(lane, call, thread)
                if perf_counter() >= until:
                    return
        except BaseException as error:
            self._end_by(error)
            raise
        finally:
            self.threads.discard(thread)

    def _do(self, lane: _Lane, call: Call, thread: int) -> None:
        """Does a task, or begins with it."""
        place, number, item, kind, value = call
        # What comes from no item has -1.
        usual = kind == PROCESS and self.floor <= item <= self.failed_at and not self.cancelled
        if not (usual and self.deadline is None) and self._is_idle(item, kind):
            return
        usual = usual and not (lane.failed or lane.timed)
        if lane.threaded:
            self._in_thread(lane, call)
            return
        lane.item, lane.thread, lane.since = item, thread, perf_counter()
        lane.kind = kind
        try:
            if kind == PROCESS:
                if lane.failed:
                    self._revive(lane)
                result = lane.process(value)
            else:
                result = self._other(lane, kind, value)
            # The task has what came as well.
            if usual and self._answer_at_once(place, number, value, result, 5):
                lane.kind = None
                return
        except Exception as error:  # noqa: BLE001  users' code may raise anything
            self._answer(lane, call, None, error)
        else:
            self._answer(lane, call, result)

    def _answer_at_once(self, place: int, number: int, value: Any, result: Any, held: int) -> bool:
        """Answers with one value of the usual kinds, at least cost; False if it is none. There are
        so many references to it, ``held``, if it is the one that came."""
        kind = type(result)
        if kind in _SCALARS:
            # Whoever gives nothing has filtered it.
            values = [] if result is None else [marshal.plain(result, self.parts, "output")]
            self.answers += (place, number, values)
            return True
        known = marshal.codes.get(kind)
        if known is None or result.dtype not in known:
            return False
        # What came as it is goes on as it is, if nobody can write to it.
        same = result is value
        if not (
            (same and not result.flags.writeable) or _is_own(result, held if same else 2, same)
        ):
            # The node may write to it before the library has it.
            result = result.copy()
        if not result.flags.c_contiguous:
            return False
        self.answers += (place, number, [{_ESCAPE: len(self.parts)}])
        self.parts.append(result)
        return True

    def _answer(
        self,
        lane: _Lane,
        call: Call,
        result: Any,
        error: Optional[Exception] = None,
    ) -> None:
        """Answers a task with what a method gave or raised, or waits for what it promises."""
        place, number, item, kind, _ = call
        had = len(self.parts)
        values: list[Any] = []
        try:
            if error is not None:
                raise error
            if result is not None:
                if hasattr(result, "__await__") or isinstance(result, AsyncGeneratorType):
                    self._begin_to_wait(lane, call, result)
                    return
                if self.in_loop and type(result) is GeneratorType:
                    if not self._take(lane, result, values, self.parts, perf_counter() + TURN):
                        rest = _Rest(result, values, [_NO_PART] * had + self.parts[had:])
                        del self.parts[had:]
                        self._begin_to_wait(lane, call, rest)
                        return
                else:
                    values = self._collected(lane, result, self.parts)
                if kind != PROCESS and kind != _FLUSH:
                    values = []
            if lane.timed:
                self._check_time(lane)
        except GivenUp:
            del self.parts[had:]
        except Exception as error:  # noqa: BLE001  users' code may raise anything
            del self.parts[had:]
            self.answers += (place, number, self._failure(lane, item, kind, error))
        else:
            self._succeeded(lane, kind)
            self.answers += (place, number, values)
        lane.kind = None

    def work_straight(
        self,
        tasks: list[Any],
        read: Optional[Callable[[int], Any]],
        until: Optional[float] = None,
    ) -> None:
        """Does tasks as the library wrote them, in the context of this code: the usual ones, a
        value in and one out, at least cost. What is left at the time ``until`` stays ``ready``."""
        lanes = self.lanes
        rest = iter(tasks)
        calls: Iterator[Call] = zip(rest, rest, rest, rest, rest)
        for place, number, item, kind, value in calls:
            lane = lanes[place]
            if kind != PROCESS or lane.failed or lane.timed or item > self.failed_at:
                self._came_one((place, number, item, kind, value), read)
                break
            if read is not None and type(value) not in _SCALARS:
                at = value.get(_ESCAPE) if type(value) is dict else None
                value = read(at) if type(at) is int else marshal.restore(value, read)
            lane.kind, lane.item = kind, item
            try:
                result = lane.process(value)
                if self._answer_at_once(place, number, value, result, 4):
                    lane.kind = None
                    if until is not None and perf_counter() >= until:
                        break
                    continue
            except Exception as error:  # noqa: BLE001  users' code may raise anything
                self._answer(lane, (place, number, item, kind, value), None, error)
                continue
            self._answer(lane, (place, number, item, kind, value), result)
            if self.waiting:
                break
            if until is not None and perf_counter() >= until:
                break
        else:
            return
        for task in calls:
            self._came_one(task, read)
        if not self.waiting:
            self.work_off_here(until)

    def _came_one(self, task: Call, read: Optional[Callable[[int], Any]]) -> None:
        place, number, item, kind, value = task
        if read is not None and type(value) not in marshal.SCALARS:
            value = marshal.restore(value, read)
        self.ready.append((place, number, item, kind, value))

    def _is_idle(self, item: int, kind: int) -> bool:
        """Whether nobody needs the answer."""
        if kind == CLEANUP:
            return False
        if self.cancelled or (self.deadline is not None and perf_counter() >= self.deadline):
            return True
        return kind == PROCESS and (_rank(item) > self.failed_at or _rank(item) < self.floor)

    def _other(self, lane: _Lane, kind: int, value: Any) -> Any:
        node = lane.node
        if kind == _SET:
            return node._set_params(self.settings[value["set"]])
        if kind == _INTERRUPT and not hasattr(node, "interrupt"):
            return None
        method = getattr(node, METHODS[kind])
        if kind == _INITIALIZE:
            # Not in two steps: Ctrl-C cannot come between the return and the note of it.
            lane.begun, lane.cleaned_up = [], False
            lane.begun.extend(starmap(method, ((),)))
            [result] = lane.begun
            if hasattr(result, "__await__") or type(result) in _GENERATORS:
                lane.begun = []
        elif kind == CLEANUP:
            lane.begun, lane.cleaned_up = [], True
            result = method()
        else:
            result = method()
        # What it gives by itself goes on only from flush.
        goes_on = kind == _FLUSH or hasattr(result, "__await__") or type(result) in _GENERATORS
        return result if goes_on else None

    def _succeeded(self, lane: _Lane, kind: int) -> None:
        if kind == _INITIALIZE:
            lane.begun, lane.cleaned_up = [True], False

    def _revive(self, lane: _Lane) -> None:
        lane.failed = False
        lane.node._revive()

    def _collected(
        self, lane: _Lane, result: Any, parts: list[marshal.Part], own: bool = False
    ) -> list[Any]:
        """What a plain method gave, as the library takes it."""
        if isinstance(result, GeneratorType):
            values: list[Any] = []
            self._take(lane, result, values, parts)
            return values
        if type(result) is Several:
            return [_given(lane, value, parts) for value in result]
        return [_given(lane, result, parts, own)]

    def _take(
        self,
        lane: _Lane,
        generator: GeneratorType[Any, Any, Any],
        values: list[Any],
        parts: list[marshal.Part],
        until: Optional[float] = None,
    ) -> bool:
        """Takes what a generator gives, until that time; whether it is all."""
        try:
            for value in generator:
                self._check(lane, len(values))
                values.append(_given(lane, value, parts))
                if until is not None and perf_counter() >= until:
                    return False
        except BaseException:
            generator.close()
            raise
        return True

    def _check(self, lane: _Lane, count: int) -> None:
        """Between the values of one call, as one that never ends must end."""
        if count >= MAX_VALUES:
            raise TooMany
        if self.cancelled or (lane.kind == PROCESS and _rank(lane.item) < self.floor):
            raise GivenUp
        if self.deadline is not None and perf_counter() >= self.deadline:
            # The library says so as soon as it is asked.
            raise GivenUp
        if lane.timed:
            self._check_time(lane)

    def _check_time(self, lane: _Lane) -> None:
        timeout = lane.planned.timeout
        if lane.kind == PROCESS and timeout is not None and perf_counter() - lane.since >= timeout:
            raise TooLong

    def _failure(self, lane: _Lane, item: int, kind: int, error: Exception) -> dict[str, Any]:
        """What the library is told of an exception."""
        if isinstance(error, TooMany):
            return {
                "code": _RM_E_LIMIT,
                "message": f"one item became more than {MAX_VALUES} values",
                "hint": "let fewer ways lead to one node, or give the item in parts",
            }
        if isinstance(error, TooLong):
            lane.failed = True
            seconds = f"{lane.planned.timeout:.3f}".rstrip("0").rstrip(".")
            return {
                "code": _RM_E_TIMEOUT,
                "message": f"the value took longer than {seconds} s",
                "hint": 'allow more time with "timeout", or give the node less to do',
            }
        if kind == PROCESS and not lane.planned.goes_on:
            self.failed_at = min(self.failed_at, _rank(item))
        lane.failed = kind == PROCESS
        if len(lane.raised) >= _RAISED:
            del lane.raised[next(iter(lane.raised))]
        if kind == PROCESS and lane.planned.goes_on:
            lane.raised[item] = error
        else:
            # The first one ends the run: not that of what was taken with it, or of the cleanup.
            lane.raised.setdefault(item, error)
        if kind == CLEANUP and (self.cancelled or self.ended_by is not None):
            logger().warning("cleanup after an error failed as well: %s", described(error))
        told = {"message": told_of(error)}
        if isinstance(error, RemoteMediaError) and error.hint is not None:
            told["hint"] = error.hint
        text: dict[str, Any] = marshal.plain(told, [], "output")
        return text

    def explained(self, error: RemoteMediaError) -> RemoteMediaError:
        """The run's error, with the exception that was its reason: the same object if that is a
        NodeError that has got no place yet, else an error that was raised from it."""
        for lane in self.lanes.values():
            if lane.planned.id != error.node:
                continue
            error.node_type = lane.planned.node_type
            if error.code in ("RM_E_TIMEOUT", "RM_E_CANCELLED"):
                break
            cause = lane.raised.get(-1 if error.item is None else error.item)
            if cause is None or error.message != told_of(cause):
                break
            if isinstance(cause, NodeError) and cause.node is None:
                cause.node, cause.node_type, cause.item = error.node, error.node_type, error.item
                cause.pointer, cause.causes = error.pointer, error.causes
                return cause
            error.__cause__ = cause
            break
        return error

    def _end_by(self, error: BaseException) -> None:
        """Ctrl-C came, or the end of the process."""
        if self.ended_by is None:
            self.ended_by = error
        self.give_up()
        owner = self._owner()
        if owner is not None:
            owner.end_run()

    def give_up(self) -> None:
        """The run was cancelled: what is under way is not waited for."""
        self.cancelled = True
        self._give_up(lambda _: True)

    def interrupt(self, floor: int) -> None:
        """Items below this one were discarded."""
        self.floor = floor
        self._give_up(lambda lane: lane.kind == PROCESS and _rank(lane.item) < floor)

    def _give_up(self, concerns: Callable[[_Lane], bool]) -> None:
        for lane in self.lanes.values():
            if lane.busy and lane.kind != CLEANUP and concerns(lane):
                lane.given_up = True
                if lane.task is not None:
                    # Its event loop may be closed.
                    with suppress(RuntimeError):
                        lane.task.cancel()
                if self.cancelled:
                    self._kill(lane)

    # --- what waits -------------------------------------------------------------------------------

    def _begin_to_wait(self, lane: _Lane, call: Call, result: Any) -> None:
        """Lets the event loop do the rest of a task."""
        owner = self._owner()
        if owner is None:
            self.waiting.append((lane, call, result))
            return
        try:
            with ctrl_c_later():
                loop = self.loop = owner.need_loop()
                lane.task = loop.create_task(self._wait(lane, call, result))
                lane.task.add_done_callback(partial(self._task_ended, lane, result))
                lane.busy, lane.given_up = True, False
        except BaseException:
            if lane.task is None:
                _closed(result)
            raise

    def _task_ended(self, lane: _Lane, result: Any, task: Task[None]) -> None:
        """One that was cancelled before its first step leaves everything to be done."""
        if not task.cancelled():
            # What it raised has gone its way; asked for, or asyncio would complain.
            task.exception()
        if lane.task is not task:
            return
        _closed(result)
        self._leave(lane)
        if not lane.given_up:
            from asyncio import CancelledError

            self._end_by(CancelledError())
        self._tell_owner()

    def _leave(self, lane: _Lane) -> None:
        """The lane is free for what it has to do next."""
        lane.busy, lane.kind, lane.task = False, None, None
        self.ready.extendleft(reversed(lane.queue))
        lane.queue.clear()

    def _tell_owner(self) -> None:
        owner = self._owner()
        if owner is not None:
            owner.go_on()

    async def _wait(self, lane: _Lane, call: Call, result: Any) -> None:
        """Waits for what a method has promised, and goes on with what the node has to process next:
        where nothing has to be waited for, a task of the event loop's does it all."""
        from asyncio import CancelledError, current_task

        promised: Optional[tuple[Call, Any]] = call, result
        try:
            while promised is not None:
                (place, number, item, kind, value), result = promised
                parts: list[marshal.Part] = []
                answer: Any = None
                # Its time begins when the event loop is there.
                lane.since = perf_counter()
                try:
                    values = await self._awaited(lane, kind, result, parts, value)
                    if lane.timed:
                        self._check_time(lane)
                    answer = values if kind in (PROCESS, _FLUSH) else []
                    self._succeeded(lane, kind)
                except GivenUp:
                    pass
                except Exception as error:  # noqa: BLE001  users' code may raise anything
                    answer = self._failure(lane, item, kind, error)
                if answer is not None:
                    self._put(place, number, answer, parts)
                # It may take long before the node is done with the next one.
                self._tell_owner()
                # Unless it was left behind.
                mine = lane.task is current_task()
                promised = self._next_promise(lane) if mine else None
        except CancelledError as error:
            if not lane.given_up:
                # The event loop is going away.
                lane.task = None
                self._end_by(error)
                raise
        except BaseException as error:
            lane.task = None
            self._end_by(error)
            raise
        finally:
            if lane.task is None or lane.task is current_task():
                self._leave(lane)
        self._tell_owner()

    def _next_promise(self, lane: _Lane) -> Optional[tuple[Call, Any]]:
        """Lets a node process what it has to do next, until it promises something."""
        queue = lane.queue
        while queue and queue[0][3] == PROCESS and not lane.given_up:
            call = queue.popleft()
            _, _, item, kind, value = call
            if self._is_idle(item, kind):
                continue
            lane.kind, lane.item, lane.since = kind, item, perf_counter()
            try:
                if lane.failed:
                    self._revive(lane)
                result = lane.process(value)
            except Exception as error:  # noqa: BLE001  users' code may raise anything
                self._answer(lane, call, None, error)
                continue
            if hasattr(result, "__await__") or isinstance(result, AsyncGeneratorType):
                return call, result
            if self.in_loop and type(result) is GeneratorType:
                return call, _Rest(result, [], [])
            self._answer(lane, call, result)
        return None

    def _put(self, place: int, number: int, answer: Any, parts: list[marshal.Part]) -> None:
        """Puts an answer, whose binary parts are these, to those that go in with the next
        crossing."""
        if not parts:
            self.answers += (place, number, answer)
        elif answer == [{_ESCAPE: 0}]:
            self.answers += (place, number, [{_ESCAPE: len(self.parts)}])
            self.parts += parts
        else:
            self._hand_in(place, number, answer, parts)

    def _hand_in(self, place: int, number: int, answer: Any, parts: list[marshal.Part]) -> None:
        """Hands in an answer by itself."""
        owner = self._owner()
        if owner is not None:
            with suppress(RemoteMediaError):
                # What has ended the run is for others.
                owner.hand_in(marshal.dump([[], [place, number, answer], None]), parts)

    async def _awaited(
        self, lane: _Lane, kind: int, result: Any, parts: list[marshal.Part], of: Any
    ) -> list[Any]:
        timeout = lane.planned.timeout if kind == PROCESS else None
        if type(result) is _Rest:
            from asyncio import sleep

            parts += result.parts
            values, through = result.values, False
            try:
                while not through:
                    await sleep(0)
                    through = self._take(
                        lane, result.generator, values, parts, perf_counter() + TURN
                    )
            finally:
                result.close()
            return values
        if isinstance(result, AsyncGeneratorType):
            values = []
            try:
                while True:
                    try:
                        value = await self._within(lane, timeout, result.__anext__())
                    except StopAsyncIteration:
                        return values
                    self._check(lane, len(values))
                    values.append(_given(lane, value, parts))
            finally:
                # One that did not end when it was cancelled cannot be closed.
                with suppress(RuntimeError):
                    await result.aclose()
        value = await self._within(lane, timeout, result)
        if value is None:
            return []
        if hasattr(value, "__await__") or isinstance(value, AsyncGeneratorType):
            return await self._awaited(lane, kind, value, parts, of)
        own = False
        if type(value) in marshal.codes:
            own = not value.flags.writeable if value is of else _is_own(value, 1)
        return self._collected(lane, value, parts, own)

    async def _within(self, lane: _Lane, timeout: Optional[float], work: Awaitable[Any]) -> Any:
        """Awaits, until the time for the value is over."""
        if timeout is None:
            return await work
        import asyncio

        task = lane.inner = asyncio.ensure_future(_coroutine(work))
        try:
            await asyncio.wait({task}, timeout=max(0.0, lane.since + timeout - perf_counter()))
            if task.done():
                return task.result()
            raise TooLong
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=GRACE)
            if task.done() and not task.cancelled():
                task.exception()  # Asked for, or asyncio would complain.

    # --- in a thread of its own -------------------------------------------------------------------

    def _in_thread(self, lane: _Lane, call: Call) -> None:
        """Lets the node's own thread do a task, after what it is doing."""
        if call[3] == CLEANUP:
            lane.cleaned_up = True
        if lane.executor is None:
            from concurrent.futures import ThreadPoolExecutor

            lane.executor = ThreadPoolExecutor(1, f"remotemedia-{lane.planned.id}")
        try:
            # Or a lock of the executor's would stay closed.
            with ctrl_c_later():
                lane.future = lane.executor.submit(
                    copy_context().run, self._do_in_thread, lane, call
                )
        except RuntimeError as error:
            if "shutdown" not in str(error):
                # No thread can be started.
                self._answer(lane, call, None, error)
            # Or the process exits, and nobody waits for the node any more.
            return
        if call[3] == CLEANUP:
            lane.executor.shutdown(wait=False)

    def _do_in_thread(self, lane: _Lane, call: Call) -> None:
        place, number, item, kind, value = call
        if self._is_idle(item, kind) or (kind == CLEANUP and not lane.begun):
            return
        parts: list[marshal.Part] = []
        thread = get_ident()
        timer: Any = None
        self.threads.add(thread)
        lane.item, lane.thread, lane.since, lane.given_up = item, thread, perf_counter(), False
        lane.kind, lane.busy = kind, True
        try:
            if kind == PROCESS and lane.failed:
                self._revive(lane)
            if kind == PROCESS and lane.timed:
                timer = self._watched(lane, call)
            result = lane.process(value) if kind == PROCESS else self._other(lane, kind, value)
            values = []
            if result is not None and kind in (PROCESS, _FLUSH):
                if hasattr(result, "__await__") or isinstance(result, AsyncGeneratorType):
                    raise TypeError("a node with a thread of its own has plain methods")
                values = self._collected(lane, result, parts)
            self._succeeded(lane, kind)
            if lane.timed:
                self._check_time(lane)
            answer: Any = values
        except GivenUp:
            return
        except Exception as error:  # noqa: BLE001  users' code may raise anything
            answer = self._failure(lane, item, kind, error)
        except BaseException as error:  # noqa: BLE001  it ends the run
            self._end_by(error)
            answer = []
        finally:
            if timer is not None:
                timer.cancel()
            lane.kind, lane.busy = None, False
            self.threads.discard(thread)
        if lane.given_up and kind != CLEANUP:
            return
        self._hand_in(place, number, answer, parts)

    def _watched(self, lane: _Lane, call: Call) -> Any:
        """Sees to it that a value which takes too long has failed when its time is over, though its
        thread goes on."""
        from threading import Timer

        def give_up() -> None:
            lane.given_up = True
            self._hand_in(call[0], call[1], self._failure(lane, call[2], call[3], TooLong()), [])
            self._kill(lane)

        timer = Timer(lane.planned.timeout or 0, give_up)
        timer.daemon = True
        timer.start()
        return timer

    def _kill(self, lane: _Lane) -> None:
        """A process can be made to end, other than a thread."""
        if lane.planned.node.runs_in == "process":
            cast("Any", lane.node).kill()

    # --- the end ----------------------------------------------------------------------------------

    @property
    def unfinished(self) -> list[_Lane]:
        """The nodes that are not cleaned up yet, or still at work."""
        return [
            lane
            for lane in self.lanes.values()
            if lane.busy or (lane.future is not None and not lane.future.done())
        ]

    def ask_to_clean_up(self) -> None:
        """Once the run is over: nodes that it does not know to be initialized, as its time was over
        before it was told."""
        for place, lane in self.lanes.items():
            if lane.begun and not lane.cleaned_up and lane.task is None:
                self.ready.append((place, 0, -1, CLEANUP, None))

    def forget(self) -> None:
        """The event loop is closed, with all that waited in it."""
        self.loop = None
        self.quiet()
        for lane in self.lanes.values():
            if lane.task is not None:
                self._leave(lane)

    def quiet(self) -> None:
        """Nothing is to be said of what did not end."""
        for lane in self.lanes.values():
            if lane.task is not None:
                # Or asyncio would write to stderr.
                lane.task._log_destroy_pending = False  # type: ignore[attr-defined]

    def leave_behind(self) -> None:
        """Says what did not end in time, and goes on without it."""
        for lane in self.unfinished:
            if not lane.given_up:
                continue
            lane.given_up = False
            if lane.task is None:
                logger().warning(
                    "node %r is cleaned up when its thread is done with the value that it computes",
                    lane.planned.id,
                )
                continue
            item = lane.item if lane.item >= 0 else None
            seconds = perf_counter() - lane.since
            words = in_work(lane.planned.id, METHODS[lane.kind or 0], item, seconds)
            logger().warning("a node did not end when it was cancelled: %s", words)
            self._leave(lane)

    def at_work(self) -> Optional[_Lane]:
        """A node that is at work."""
        for lane in self.lanes.values():
            if lane.kind is not None:
                return lane
        return None

    def stack(self, lane: _Lane) -> Optional[str]:
        """Where in its code a node is."""
        import traceback

        if lane.task is not None:
            frames = lane.task.get_stack()
            lines = [line for frame in frames for line in traceback.format_stack(frame, 1)]
            return "".join(lines) or None
        frame = sys._current_frames().get(lane.thread) if lane.thread is not None else None
        return None if frame is None else "".join(traceback.format_stack(frame))


def _closed(result: Any) -> None:
    """Closes a coroutine that has not begun, or it would complain."""
    if hasattr(result, "close"):
        result.close()


def _given(lane: _Lane, value: Any, parts: list[marshal.Part], own: bool = False) -> Any:
    """What a node has given, as the library takes it; None if it goes nowhere. Memory that the node
    may still write to is copied, as the library looks at it later; its ``own`` is nobody else's."""
    if lane.kind != PROCESS and lane.kind != _FLUSH:
        return None
    had = len(parts)
    plain = marshal.plain(value, parts, "output")
    if not own:
        for place in range(had, len(parts)):
            memory = parts[place].memory
            if type(memory) is not bytes:
                parts[place] = parts[place]._replace(memory=memoryview(memory).tobytes())
    return plain


def _is_own(array: Any, references: int, was_ours: bool = False) -> bool:
    """Whether a NumPy array belongs to who asks, who has this many references to it; it is known if
    its memory ``was_ours``."""
    if getrefcount is None or getrefcount(array) > _FEW + references:
        return False
    base = array.base
    if base is None:
        return True
    # Who has the memory of anything else, DLPack's or a view's, cannot be told.
    kind = type(base)
    owns = kind is bytes or kind is bytearray or (kind is type(array) and base.flags.owndata)
    return (owns or was_ours) and getrefcount(base) <= _FEW_OF_BASE


class _Probe:
    """What is asked for how many references an array has that belongs to one."""

    base: Any = None

    @classmethod
    def few(cls) -> tuple[int, int]:
        if getrefcount is None:
            return 0, 0
        array = cls()
        array.base = cls()

        def count(array: Any) -> tuple[int, int]:
            assert getrefcount is not None
            found = getrefcount(array)
            base = array.base
            return found, getrefcount(base)

        found, of_base = count(array)
        return found - 1, of_base


#: PyPy counts none.
getrefcount: Optional[Callable[[Any], int]] = getattr(sys, "getrefcount", None)
#: What ``getrefcount`` says in :func:`_is_own` besides the references of who asks; of Python's
#: version.
_FEW, _FEW_OF_BASE = _Probe.few()


def _rank(item: int) -> int:
    """A number by which what belongs to no item comes after all of them."""
    return item if item >= 0 else sys.maxsize


async def _coroutine(work: Awaitable[Any]) -> Any:
    return await work


def told_of(error: Exception) -> str:
    """The message of an exception."""
    told = error.message if isinstance(error, RemoteMediaError) else described(error)
    # It may have lone surrogates, such as names of files that are not UTF-8.
    return told.encode("utf-8", "backslashreplace").decode()
