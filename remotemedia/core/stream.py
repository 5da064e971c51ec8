"""Sessions in the Python engine: the items of a run come one by one, and its outputs go likewise.

A :class:`Stream` is the feed of a :class:`~remotemedia.core.engine.Run` on one side and the backend
of a session on the other. It has no thread. In a session without an event loop the run is driven
by whoever pushes, pulls or waits: one thread at a time, the driver; the others wait until the
driver has something for them, or is done and one of them is the next. As long as no node waits,
driving is ``send(None)``; from then on it is running the session's own event loop. In an event
loop of the caller's the run is a task there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from threading import Lock, get_ident
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

from remotemedia.core.engine import (
    BETWEEN,
    GRACE,
    LOOP,
    Run,
    Sweep,
    close_loop,
    crossed,
    ctrl_c_later,
    outside_of_loops,
    rest_of,
    source_place,
    until_complete,
)
from remotemedia.core.join import pts_of
from remotemedia.core.manifest import Plan
from remotemedia.core.node import is_builtin
from remotemedia.core.schema import Problems, check, did_you_mean
from remotemedia.core.session import (
    Output,
    Want,
    closed,
    in_loop,
    in_work,
    params_json,
    resolve,
    words_for,
)
from remotemedia.errors import (
    ManifestError,
    RemoteMediaError,
    RunCancelledError,
    RunEndedError,
)
from remotemedia.log import logger
from remotemedia.result import Result

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task

__all__ = ["Stream"]


#: How long somebody waits before looking up, in seconds.
_PAUSE = 0.05


class _Set(NamedTuple):
    """Stands among the items, as it takes effect between them."""

    place: int
    params: dict[str, Any]


class Stream:
    """The backend of a session in the Python engine, see :class:`remotemedia.core.session.Backend`.

    Args:
        plan: what is run.
        window: how many items may be inside: pushed, and not processed or with outputs that were
            not pulled yet.
    """

    engine = "python"

    def __init__(self, plan: Plan, window: int) -> None:
        self._plan = plan
        self._window = window
        self._lock = Lock()
        #: What was pushed and is not in work yet.
        self._inbox: deque[Union[Sweep, _Set]] = deque()
        #: What was not pulled yet.
        self._held: deque[Output] = deque()
        #: How many items were pushed, and how many of them are processed.
        self._pushed = 0
        self._done = 0
        #: Whether the nodes are initialized; whether there is no more input; whether the run is
        #: over, and what ended it; and whether somebody was told.
        self._begun = False
        self._ended = False
        self._over = False
        self._error: Optional[RemoteMediaError] = None
        self._traceback: Optional[TracebackType] = None
        self._told = False
        self._closed = False
        #: The thread that drives the run, and locks and futures of those who wait.
        self._driver: Optional[int] = None
        self._bells: list[Lock] = []
        self._futures: list[Future[None]] = []
        self._waiting: dict[Want, int] = {"room": 0, "output": 0, "begin": 0}
        #: The event loop, whether it is the session's own, the thread that runs it at the moment,
        #: the run's task in it, and what the run awaits while there is nothing to do.
        self._loop: Optional[AbstractEventLoop] = None
        self._own_loop = False
        self._loop_thread: Optional[int] = None
        self._task: Optional[Task[Result]] = None
        self._rest: Optional[Future[None]] = None
        self._paused = False

    def begin(self, run: Run, work: Coroutine[Any, Any, Result]) -> None:
        """Takes the run, and the coroutine that executes it. In an event loop it begins there."""
        self._run = run
        self._work = work
        if run.loop:
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._loop_thread = get_ident()
            self._open_task(work)

    def _open_task(self, work: Coroutine[Any, Any, Result]) -> None:
        assert self._loop is not None
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._task_is_done)

    # --- for the run ------------------------------------------------------------------------------

    @property
    def items(self) -> int:
        return self._pushed

    async def next(self) -> Optional[Sweep]:
        run = self._run
        if not self._begun:
            with self._lock:
                self._begun = True
                self._ring()
        while True:
            if not run.loop:
                await BETWEEN
            await run.attend()
            setting: Optional[_Set] = None
            with self._lock:
                # What was pushed after an interruption is not for the sweep that it ends.
                if not run.interrupted and not run.cancelled:
                    if self._inbox:
                        entry = self._inbox.popleft()
                        if not isinstance(entry, _Set):
                            return entry
                        setting = entry
                    elif self._ended:
                        return None
            if setting is not None:
                await run.set(*setting)
            elif run.loop:
                await self._until_woken()

    async def _until_woken(self) -> None:
        run, loop = self._run, self._loop
        assert loop is not None
        with self._lock:
            if self._inbox or self._ended or run.interrupted or run.cancelled:
                return
            rest = self._rest = loop.create_future()
        left = run.time_left()
        timer = None if left is None else loop.call_later(left, resolve, rest)
        try:
            await rest
        finally:
            self._rest = None
            if timer is not None:
                timer.cancel()

    def give(self, item: Optional[int], outputs: list[tuple[int, list[Any]]]) -> None:
        made = [
            Output(value, self._plan.nodes[place].id, item, pts_of(value))
            for place, values in outputs
            for value in values
        ]
        with self._lock:
            if self._run.interrupted or self._run.cancelled:
                return
            if item is not None:
                self._done = item + 1
            self._held.extend(made)
            self._ring()

    def outputs(self) -> list[Any]:
        return []

    # --- for the session --------------------------------------------------------------------------

    def push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        item = self.try_push(value, node)
        if item is not None:
            self.turn()
        return item

    def try_push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        if node is None:
            places = [place for place, planned in enumerate(self._plan.nodes) if not planned.inputs]
        else:
            places = [source_place(self._plan, node)]
        with self._lock:
            self._check_open()
            if self._inside >= self._window:
                return None
        value = crossed(value, "input")
        with self._lock:
            self._check_open()
            if self._inside >= self._window:
                return None
            item = self._pushed
            self._pushed += 1
            self._inbox.append((item, dict.fromkeys(places, value)))
            self._wake()
        return item

    @property
    def _inside(self) -> int:
        """Under the lock: how many items there are from the oldest that is inside."""
        oldest = self._held[0].item if self._held else None
        return self._pushed - (self._done if oldest is None else min(oldest, self._done))

    def try_push_many(self, items: list[Any]) -> int:
        count = 0
        for item in items:
            if self.try_push(item) is None:
                break
            count += 1
        return count

    def _check_open(self) -> None:
        """Under the lock: raises what there is to say to somebody who pushes."""
        if self._closed:
            raise closed()
        self._tell()
        if self._run.cancelled:
            raise self._run.cancellation()
        if self._ended:
            raise RunEndedError("end() was called: the session takes no more items")

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._wake()

    def try_pull(self, most: int) -> list[Output]:
        taken: list[Output] = []
        with self._lock:
            if self._closed:
                raise closed()
            while self._held and len(taken) < most:
                taken.append(self._held.popleft())
            if taken:
                self._ring()
            else:
                self._tell()
        return taken

    def take(self) -> Optional[Output]:
        outputs = self.try_pull(1)
        return outputs[0] if outputs else None

    def _tell(self) -> None:
        """Under the lock: raises what ended the run."""
        if self._error is not None:
            self._told = True
            # As it was: being raised again and again would make it longer.
            raise self._error.with_traceback(self._traceback)

    @property
    def ended(self) -> bool:
        with self._lock:
            # An error is raised by whoever pulls.
            return self._over and not self._held and self._error is None

    def work(self, want: Want, until: Optional[float]) -> bool:
        first = True
        while True:
            late = until is not None and perf_counter() >= until
            bell: Optional[Lock] = None
            deadline: Optional[float] = None
            with self._lock:
                if self._has(want):
                    return True
                if late and not first:
                    return False
                self._refuse_itself()
                mine = self._driver is None and self._can_drive()
                if mine:
                    self._driver = get_ident()
                elif not late:
                    bell = Lock()
                    bell.acquire()
                    self._bells.append(bell)
                    self._waiting[want] += 1
                    # If somebody drives, it is for that one to find that the run's time is over.
                    deadline = self._run.deadline if self._driver is None else None
            first = False
            if mine:
                self._drive(want, until, once=late)
            elif bell is not None:
                # No longer than a slice: Windows does not break such a wait off for Ctrl-C.
                now = perf_counter()
                times = [time for time in (until, deadline, now + _PAUSE) if time is not None]
                try:
                    bell.acquire(timeout=max(0.0, min(times) - now))
                finally:
                    with self._lock:
                        self._waiting[want] -= 1
                        if bell in self._bells:
                            self._bells.remove(bell)

    def turn(self) -> None:
        with self._lock:
            if self._driver is not None or self._over or not self._can_drive():
                return
            self._driver = get_ident()
        self._drive(None, None, once=True)

    async def ready(self, want: Want, until: Optional[float]) -> bool:
        loop = self._loop
        assert loop is not None
        while True:
            with self._lock:
                if self._has(want):
                    return True
                if not self._own_loop:
                    self._refuse_itself()
                left = None if until is None else until - perf_counter()
                if left is not None and left <= 0:
                    return False
                future = loop.create_future()
                self._futures.append(future)
                self._waiting[want] += 1
            timer = None if left is None else loop.call_later(left, resolve, future)
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()
                with self._lock:
                    self._waiting[want] -= 1
                    if future in self._futures:
                        self._futures.remove(future)

    def cancel(self) -> None:
        with self._lock:
            if self._over:
                return
            self._run.cancelled = True
            self._inbox.clear()
            self._held.clear()
            self._ring()
            self._wake()
        self._in_loop(self._cancel_task)
        if self._own_loop or self._loop is None:
            self.turn()

    def interrupt(self) -> None:
        with self._lock:
            if self._over:
                return
            self._run.interrupted = True
            self._done = self._pushed
            # What was set stays set.
            settings = [entry for entry in self._inbox if isinstance(entry, _Set)]
            self._inbox.clear()
            self._inbox.extend(settings)
            self._held.clear()
            self._ring()
            self._wake()
        self._in_loop(self._interrupt_task)
        if self._own_loop or self._loop is None:
            self.turn()

    def set(self, node: str, params: dict[str, Any]) -> None:
        plan, run = self._plan, self._run
        ids = [planned.id for planned in plan.nodes]
        if node not in ids:
            raise ManifestError(
                f'there is no node with the id "{node}"',
                pointer="",
                hint=did_you_mean(node, ids, ""),
            )
        place = ids.index(node)
        object_ = run.nodes[place]
        if is_builtin(object_):
            from remotemedia.core.catalog import entry
            from remotemedia.core.manifest import from_problems

            params_json(node, params)
            known = entry(object_.node_type) or {}
            problems = Problems()
            check(known["params"], {**object_.params, **params}, f"/nodes/{place}/params", problems)
            for problem in problems.kept:
                problem.node, problem.node_type = node, plan.nodes[place].node_type
            if problems.count:
                raise from_problems(problems.kept, problems.count)
        else:
            for name in params:
                if name not in object_.params:
                    raise ManifestError(
                        f'there is no parameter "{name}"',
                        node=node,
                        node_type=plan.nodes[place].node_type,
                        pointer=f"/nodes/{place}/params/{name}",
                        hint=did_you_mean(name, object_.params, "this node has no parameters"),
                    )
        with self._lock:
            self._check_open()
            self._inbox.append(_Set(place, params))
            self._wake()

    def report(self) -> dict[str, Any]:
        return self._run.report()

    @property
    def progress(self) -> object:
        run = self._run
        return self._pushed, run.items_done, len(self._held), run.clock, run.alive

    def diagnose(self) -> dict[str, Any]:
        run, plan = self._run, self._plan
        with self._lock:
            place, now = run.place, perf_counter()
            found: dict[str, Any] = {
                "node": None if place is None else plan.nodes[place].id,
                "method": None if place is None else run.method,
                "item": run.item,
                "seconds": 0.0 if place is None else now - run.clock,
                "stack": None,
                "queued": sum(not isinstance(entry, _Set) for entry in self._inbox),
                "outputs": len(self._held),
                "inside": self._inside,
                "window": self._window,
                "ended": self._ended,
                "over": self._over,
                "waiting": {"push": self._waiting["room"], "pull": self._waiting["output"]},
                "joins": {
                    node.id: {
                        plan.nodes[above].id: len(values)
                        for above, values in zip(node.inputs, slot.join.waiting)
                    }
                    for node, slot in zip(plan.nodes, run.slots)
                    if slot.join is not None
                },
            }
            found["words"] = self._in_words(found)
        return found

    def _in_words(self, found: dict[str, Any]) -> str:
        words = []
        if found["node"] is not None:
            method = found["method"] if self._begun else "initialize"
            words.append(in_work(found["node"], method, found["item"], found["seconds"]))
        elif not self._begun and not self._over:
            words.append("the run has not begun: its nodes belong to another run of the pipeline")
        return "; ".join(words + words_for(found)) or "nothing waits"

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
        try:
            self._end()
        except BaseException:
            # Ctrl-C once more ends the waiting, not the releasing.
            if self._driver is None:
                self._let_go()
            raise
        self._shut()

    def _end(self) -> None:
        """Ends the run, and waits for that."""
        self.cancel()
        while True:
            with self._lock:
                if self._over or self._driver == get_ident():
                    return
                bell: Optional[Lock] = None
                if self._driver is None:
                    self._driver = get_ident()
                else:
                    bell = Lock()
                    bell.acquire()
                    self._bells.append(bell)
            if bell is None:
                self._drive(None, None, once=False)
            else:
                bell.acquire()

    def _let_go(self) -> None:
        """Releases everything, though the run has not ended."""
        loop = self._loop
        if loop is not None and self._own_loop and not loop.is_closed():
            outside_of_loops(lambda: close_loop(loop), loop, lambda: None)
        self._finish(self._run.cancellation())
        self._shut()

    async def aclose(self) -> None:
        with self._lock:
            if self._closed:
                return
        self.cancel()
        await self._end_task()
        self._shut()

    def abandon(self) -> None:
        """Like :meth:`close`, without waiting for the event loop of others."""
        if self._loop is None or self._own_loop:
            self.close()
        else:
            self.cancel()

    # --- who waits --------------------------------------------------------------------------------

    def _has(self, want: Optional[Want]) -> bool:
        """Under the lock: whether there is what somebody waits for, or nothing more to wait for."""
        if self._over or self._closed:
            return True
        if want == "room":
            return self._inside < self._window or self._ended or self._run.cancelled
        return bool(self._held) if want == "output" else want == "begin" and self._begun

    def _ring(self) -> None:
        """Under the lock: something has changed for those who wait."""
        bells, self._bells = self._bells, []
        for bell in bells:
            bell.release()
        if self._futures:
            futures, self._futures = self._futures, []
            for future in futures:
                self._in_loop(resolve, future)

    def _wake(self) -> None:
        """Under the lock: there is something for the run to do."""
        if self._rest is not None:
            self._in_loop(resolve, self._rest)
        elif self._driver is None and self._bells:
            # Somebody waits, who can do it.
            self._ring()

    def _in_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Calls something in the event loop, from whichever thread."""
        in_loop(self._loop, self._loop_thread, call, *args)

    def _cancel_task(self) -> None:
        task, run = self._task, self._run
        # Between two steps it looks by itself, and so there is no error in the wrong place.
        if task is not None and run.waiting and not run.cleaning:
            task.cancel()

    def _interrupt_task(self) -> None:
        task, run = self._task, self._run
        if task is not None and run.waiting and run.sweeping and run.interrupted:
            task.cancel()

    # --- who drives -------------------------------------------------------------------------------

    def _refuse_itself(self) -> None:
        """Whoever is part of the run would wait for itself."""
        here, task, own = get_ident(), self._task, False
        if task is not None and here == self._loop_thread:
            import asyncio

            # In the caller's loop it is only the run's task; a loop of its own runs nothing else.
            own = self._own_loop or asyncio.current_task() is task
        if own or here == self._driver or here in self._run.threads:
            raise RemoteMediaError(
                "a node of the session waits for the session that it is part of",
                code="RM_E_BUSY",
                hint="return or yield what is to go on, and take what comes to process()",
            )

    def _can_drive(self) -> bool:
        """Under the lock: whether driving leads anywhere."""
        if self._over:
            return False
        run = self._run
        return (
            self._loop is not None
            or self._paused
            or not self._begun
            or bool(self._inbox)
            or self._ended
            or run.interrupted
            or run.cancelled
            or run.time_left() == 0
        )

    def _drive(self, want: Optional[Want], until: Optional[float], once: bool) -> None:
        """Drives the run on this thread, which is the driver, until there is what is wanted, or
        nothing to do, or the time is over; once: as far as it goes without waiting, unless
        others wait, who can do it."""
        try:
            while True:
                if self._loop is None:
                    self._step(None if once else until)
                if self._loop is not None:
                    self._turn_loop(want, until, once)
                with self._lock:
                    late = until is not None and perf_counter() >= until
                    # What others push would keep this thread for ever; those who wait go on.
                    others = any(self._waiting.values())
                    left = once and (want is not None or self._loop is not None or others)
                    if self._has(want) or late or left or not self._can_drive():
                        self._driver = None
                        self._ring()
                        return
        except BaseException:
            with self._lock:
                self._driver = None
                self._ring()
            raise

    def _step(self, until: Optional[float]) -> None:
        """Drives it by hand, to the next place between two items."""
        self._run.pause_at = until
        self._paused = False
        try:
            request = self._work.send(None)
        except StopIteration:
            self._finish(None)
        except BaseException as error:
            self._finish(error)
            if not isinstance(error, Exception):
                raise
        else:
            if request is LOOP:
                self._open_loop()
            else:
                self._paused = request is not BETWEEN

    def _open_loop(self) -> None:
        import asyncio

        with ctrl_c_later():
            self._loop, self._own_loop = asyncio.new_event_loop(), True
            self._open_task(rest_of(self._work))

    def _turn_loop(self, want: Optional[Want], until: Optional[float], once: bool) -> None:
        import asyncio

        loop = self._loop
        assert loop is not None
        waits: list[Task[Any]] = []

        async def wait() -> None:
            task = asyncio.current_task()
            if task is not None:
                waits.append(task)
            if once:
                await asyncio.sleep(0)
            elif want is None:
                await self._end_task()
            else:
                await self.ready(want, until)

        def run() -> None:
            self._loop_thread = get_ident()
            try:
                until_complete(loop, wait)
            finally:
                self._loop_thread = None

        try:
            outside_of_loops(run, loop, lambda: [task.cancel() for task in waits])
        finally:
            task = self._task
            if task is not None and task.done() and not loop.is_closed():
                self._task_is_done(task)
                outside_of_loops(lambda: close_loop(loop), loop, lambda: None)

    async def _end_task(self) -> None:
        """Waits for the end of the run, which was cancelled; but not for a node that does not end
        when it is cancelled."""
        import asyncio

        task, run = self._task, self._run
        if task is None or task.done():
            return
        await asyncio.wait({task}, timeout=GRACE)
        if task.done():
            return
        if run.cleaning or not run.waiting:
            await asyncio.wait({task})
            return
        words = self.diagnose()["words"]
        logger().warning("a node did not end when it was cancelled: %s", words)
        failure = await run.clean_up()
        if failure is not None:
            logger().warning("cleanup after an error failed as well: %s", failure.message)
        self._finish(run.cancellation())

    def _task_is_done(self, task: Task[Result]) -> None:
        if task.cancelled():
            self._finish(RunCancelledError("the run's task was cancelled in its event loop"))
        else:
            self._finish(task.exception())

    def _finish(self, error: Optional[BaseException]) -> None:
        """The run is over."""
        with self._lock:
            if self._over:
                return
            if self._run.cancelled and not isinstance(error, RunCancelledError):
                error = self._run.cancellation()
            if error is not None and not isinstance(error, RemoteMediaError):
                # Ctrl-C, and the end of the process, are for whoever drove the run.
                cause = error
                error = RunCancelledError(f"the run was ended by {type(cause).__name__}")
                error.__cause__ = cause
            self._error = error
            self._traceback = None if error is None else error.__traceback__
            self._over = True
            self._inbox.clear()
            self._ring()

    def _shut(self) -> None:
        with self._lock:
            self._closed = True
            self._held.clear()
            self._ring()
            error = self._error
        if error is not None and not self._told and not isinstance(error, RunCancelledError):
            logger().warning("a session was closed before it told of an error: %s", error)
