"""Runs of the native engine with nodes that are written in Python.

A :class:`HostedStream` is a native session whose :class:`~remotemedia.core.host.Host` does what the
library asks of the user's nodes. It has no thread. Who pushes, pulls or waits works on it, one
thread at a time, the driver; in an event loop it is the loop, woken through the run's descriptor. A
node that waits needs an event loop; in a session without one, whoever drives runs one of the
session's own.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from marshal import loads
from threading import Lock, RLock, get_ident
from threading import enumerate as enumerate_threads
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Optional, Protocol, Union

from remotemedia import marshal, native
from remotemedia.core.engine import (
    GRACE,
    close_loop,
    ctrl_c_later,
    outside_of_loops,
    until_complete,
    waited,
)
from remotemedia.core.host import METHODS, TURN, Host, HostNode, waits
from remotemedia.core.native_stream import (
    AGAIN,
    END,
    ESCAPED,
    FETCH,
    HELD,
    SLICE,
    SLICE_US,
    WANT_END,
    WANT_TASK,
    WANTS,
    NativeStream,
    reader,
)
from remotemedia.core.schema import did_you_mean
from remotemedia.core.session import Want, in_work
from remotemedia.errors import (
    ManifestError,
    MarshalError,
    RemoteMediaError,
    RunCancelledError,
)
from remotemedia.log import logger
from remotemedia.native import TASKS
from remotemedia.result import Result

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Hosted", "HostedBatch", "HostedStream"]

#: The result of a batch, together with the end of it.
_WANT_RESULT = 32
#: How long the tasks of an event loop may wait for nodes that compute, in seconds.
_TURN_IN_LOOP = 0.005
#: How long the library may work at a time while an event loop waits for it, in microseconds.
_INLINE_US = 100
#: How long somebody who waits for room waits before looking up, if it is for others to make it.
_PAUSE = 0.005


class Turn(Protocol):
    """A run's turn to use nodes, which belong to one run at a time."""

    def begin(self, run: HostedStream) -> None:
        """It is the turn of this run."""
        ...

    @property
    def block(self) -> AbstractContextManager[Any]:
        """Within this block it is that of a run on this thread."""
        ...

    def has_come(self) -> bool:
        """Whether it is the run's; raises what prevents it for ever."""
        ...

    def go_into(self) -> None:
        """From here on this code is part of the run."""
        ...

    def go_out(self) -> None:
        """It is not any more."""
        ...

    def leave(self) -> None:
        """The run has ended."""
        ...


class HostedStream(NativeStream):
    """The backend of a session in the native engine with nodes that are written in Python.

    Args:
        prepared: what is run.
        host: does what the library asks of the nodes that are written in Python.
        window: how many items may be inside at once.
        timeout: the time for all of it, in seconds.
        loop: whether it is for an event loop, which is running.
        turn: the run's turn to use the nodes.
    """

    _error: Optional[RemoteMediaError]

    def __init__(
        self,
        prepared: native.Prepared,
        host: Host,
        window: int,
        timeout: Optional[float],
        loop: bool,
        turn: Turn,
    ) -> None:
        self._host = host
        host.in_loop = loop
        host.begin(self)
        self._turn: Optional[Turn] = turn
        self._leave = turn.leave
        #: Whether somebody could not become the driver, who is to see to what was missed.
        self._missed = False
        self._own_loop = False
        self._soon = False
        #: For how long the caller's event loop has been kept since its last turn, in seconds.
        self._kept = 0.0
        #: How many who wait in the event loop do what there is to do, so that nobody else has to.
        self._busy = 0
        #: Whether the process is about to exit, and the last thread that waited and drove.
        self._exits = False
        self._driver: Optional[int] = None
        super().__init__(prepared, window, timeout, loop)
        # That of the driver, who has it while he waits.
        self._pulling: Any = RLock()
        native.end_at_exit(self)
        # Not before that of the library. A run that is taken over has one.
        if timeout is not None and host.deadline is None:
            host.deadline = perf_counter() + timeout
        self._deadline = host.deadline

    # --- crossings --------------------------------------------------------------------------------

    def hand_in(self, text: bytes, parts: list[marshal.Part]) -> None:
        self._ask(0, 0, text, parts)

    def end_run(self) -> None:
        self._stop()

    def _fetch(self, most: int, want: int = 0, slice_us: int = 0) -> int:
        """Answers go in, and outputs and tasks come; by the driver."""
        host, call = self._host, self._place
        self._place = None
        if call is None:
            call = self._library.place()
            call.struct.most_tasks = TASKS
        text, parts = host.outgoing(), host.parts
        status, error = self._exchange(call, text, parts, most, want, slice_us, keeps=True)
        host.sent()
        self._fetch_is_done(call, status, None if error is None else self._explained(error))
        if not call.kept:
            self._place = call
        return status

    def _take_tasks(self, tasks: list[Any], read: Optional[Callable[[int], Any]]) -> None:
        self._host.came(tasks, read)

    def _explained(self, error: RemoteMediaError) -> RemoteMediaError:
        cause = self._host.ended_by
        if cause is not None:
            error = RunCancelledError(f"the run was ended by {type(cause).__name__}")
            error.__cause__ = cause
            return error
        return self._host.explained(error)

    def _refusal(self, error: RemoteMediaError) -> RemoteMediaError:
        if error is not self._error and not isinstance(error, MarshalError):
            error = self._explained(error)
        return super()._refusal(error)

    # --- who drives -------------------------------------------------------------------------------

    def _is_itself(self) -> bool:
        """Whether this code is part of the run."""
        own = get_ident() in self._host.threads
        if not own and self._host.loop is not None and get_ident() == self._loop_thread:
            import asyncio

            with suppress(RuntimeError):
                task = asyncio.current_task()
                lanes = self._host.lanes.values()
                own = any(task in (lane.task, lane.inner) for lane in lanes if lane.task)
        return own

    def _refuse_itself(self) -> None:
        """Whoever is part of the run would wait for itself."""
        if self._is_itself():
            raise RemoteMediaError(
                "a node of the session waits for the session that it is part of",
                code="RM_E_BUSY",
                hint="return or yield what is to go on, and take what comes to process()",
            )

    def _step(self, want: int, seconds: float) -> int:
        """Does what there is to do, and crosses once, waiting for no longer than that; by the
        driver. Outputs are fetched whether or not he waits for them, as others may."""
        host, had = self._host, len(self._fetched)
        if self._turn is not None and not self._comes():
            return AGAIN
        began = perf_counter()
        host.work_off(TURN if self._loop is None else _TURN_IN_LOOP)
        over: bool = self._over
        if over:
            return END
        # Somebody has more to do than to wait.
        busy = bool(host.ready)
        if self._own_loop:
            # A node waits for its event loop to run.
            seconds = 0.0
        want = 0 if busy else want | WANT_TASK | WANTS["output"]
        status = self._fetch(FETCH, want, 0 if busy else round(seconds * 1e6))
        if self._over:
            self._clean_up()
        self._kept += perf_counter() - began
        # Who waits in the event loop for something else is woken through the descriptor.
        if self._bells or (self._futures and (self._over or len(self._fetched) != had)):
            self._ring()
        return AGAIN if busy or host.ready else status

    def _comes(self) -> bool:
        """Whether it is the run's turn; the time may be over before that."""
        if self._turn is None or self._turn.has_come():
            self._turn = None
            return True
        if self._deadline is not None and perf_counter() >= self._deadline:
            self._stop()
            self._error, self._over = waited(), True
        return self._over

    def _clean_up(self) -> None:
        """The run is over: what is left to do is to clean up."""
        host = self._host
        host.give_up()
        while True:
            while host.ready:
                host.work_off()
            call = self._library.place()
            call.struct.most_tasks = TASKS
            self._exchange(call, b"", [], 0, 0, 0, keeps=True)
            self._settle()
            if not host.ready:
                host.ask_to_clean_up()
            if not host.ready:
                return

    def _drive(self, want: Want, until: Optional[float]) -> bool:
        """Works until there is what is wanted, or the time is over; True if there may be it."""
        wanted = WANTS[want]
        while self._loop is None:
            left = SLICE if until is None else min(SLICE, max(until - perf_counter(), 0.0))
            full = want == "room" and self._room() <= 0
            if not self._comes():
                sleep(min(left, 0.001))
                status = AGAIN
            else:
                status = self._step(
                    WANT_END if full else wanted, min(left, _PAUSE) if full else left
                )
            if self._has(want) or (status != AGAIN and not (full and status == 0)):
                return True
            if full and self._room() > 0:
                return True
            if until is not None and perf_counter() >= until:
                return False
        return self._drive_loop(want, until)

    def work(self, want: Want, until: Optional[float]) -> bool:
        self._refuse_itself()
        waiter = object()
        try:
            self._waiting[want].append(waiter)
            while not self._has(want):
                left = SLICE if until is None else min(SLICE, max(until - perf_counter(), 0.0))
                if self._pulling.acquire(False):
                    try:
                        self._driver = get_ident()
                        if self._drive(want, until):
                            return True
                    except BaseException:
                        if self._host.ended_by is not None:
                            self._finish_up()
                        raise
                    finally:
                        self._leave_driving()
                        self._ring()
                elif self._until_rung(want, left):
                    return True
                if until is not None and perf_counter() >= until:
                    return False
            return True
        finally:
            self._waits_no_more(want, waiter)

    def _until_rung(self, want: Want, seconds: float) -> bool:
        """Waits for what the driver brings, or until there is none."""
        bell = Lock()
        bell.acquire()
        self._bells.append(bell)
        try:
            if self._has(want):
                return True
            if self._pulling.acquire(False):
                # He has left.
                self._pulling.release()
                return False
            bell.acquire(timeout=seconds)
            return want == "room" and self._room() > 0 and self._ask(WANTS[want], 0) != AGAIN
        finally:
            with suppress(ValueError):
                self._bells.remove(bell)

    def turn(self) -> None:
        if self._loop is not None and not self._own_loop:
            return
        self._missed = True
        if get_ident() in self._host.threads:
            # A node; who drives goes on when it is done.
            return
        while self._missed and self._pulling.acquire(False):
            try:
                self._missed = False
                if self._own_loop:
                    # Unless somebody has closed the session meanwhile.
                    if self._loop is not None and not self._loop.is_closed():
                        self._run_loop(self._once)
                    return
                while not self._over and self._loop is None:
                    if self._step(0, 0.0) == AGAIN and not self._host.ready:
                        break
                    if not self._host.ready and not self._host.answers:
                        break
            except BaseException:
                if self._host.ended_by is not None:
                    self._finish_up()
                raise
            finally:
                self._leave_driving()
                if self._bells or self._futures:
                    self._ring()

    def _leave_driving(self) -> None:
        """No node is at work in this thread any more, whatever has come in between."""
        self._host.threads.discard(get_ident())
        self._pulling.release()

    def try_push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        # It is for the driver to fetch.
        return self._push_slowly(value, node)

    def _put_many(self, items: list[Any]) -> Optional[int]:
        return None

    def _push_and_fetch(self, value: Any, node: Optional[str]) -> tuple[bool, Optional[int]]:
        """Puts an item in and does what there is to do for that, if nobody else is at work; whether
        that was so."""
        if not self._pulling.acquire(False):
            return False, None
        host = self._host
        try:
            if not self._pushing.acquire(False):
                return False, None
            try:
                item = super().try_push(value, node)
            finally:
                self._pushing.release()
            # As a rule there is a task, which came with the push.
            more = item is not None
            while (more or host.ready) and self._loop is None and not self._over:
                host.work_off()
                more = False
                self._fetch(FETCH, 0 if host.ready else WANT_TASK | WANTS["output"])
            if self._over:
                self._clean_up()
            return True, item
        except BaseException:
            if host.ended_by is not None:
                self._finish_up()
            raise
        finally:
            self._leave_driving()
            if self._bells or self._futures:
                self._ring()

    def _place_to_push(self, flags: int) -> Any:
        place = super()._place_to_push(flags)
        place.struct.most_tasks = TASKS
        return place

    def push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        host, done, item = self._host, False, None
        if self._loop is None and self._turn is None and not (host.threads or host.ready):
            # Nobody is at work, as a rule: then the tasks come with the same crossing.
            done, item = self._push_and_fetch(value, node)
        if not done:
            item = self.try_push(value, node)
        elif not (self._missed or host.ready or host.answers):
            return item
        if item is not None:
            self.turn()
        return item

    def try_pull(self, most: int) -> list[Any]:
        missing = len(self._fetched) < max(most, 1) and not self._over
        mine = self._loop_is_mine() and get_ident() not in self._host.threads
        if self._loop is not None and not self._own_loop and self._kept >= _TURN_IN_LOOP:
            # Others of the event loop come first: whoever wants more waits for it.
            mine = False
        if missing and mine and self._pulling.acquire(False):
            try:
                if most or self._is_over():
                    self._step(0, 0.0)
            finally:
                self._leave_driving()
        return self._pulled(most)

    def _check_open(self) -> None:
        if self._over:
            self._tell()
        super()._check_open()

    # --- for the session --------------------------------------------------------------------------

    def cancel(self) -> None:
        super().cancel()
        self.turn()

    def _stop(self) -> None:
        if self._slot is not None:
            self._host.cancelled = True
            super()._stop()
            self._in_loop(self._host.give_up)
            if self._loop is None:
                self._host.give_up()

    def interrupt(self) -> None:
        library, slot = self._library, self._slot
        if slot is None or self._state()["phase"] == "over":
            return
        with self._pushing:
            self._recount()
            floor = self._floor = self._host.floor = self._pushed
            library.check(library.lib.rm_run_interrupt, slot[0])
        self._fetched.clear()
        self._in_loop(self._host.interrupt, floor)
        if self._loop is None:
            self._host.interrupt(floor)
        self._ring()
        self.turn()

    def set(self, node: str, params: dict[str, Any]) -> None:
        lane = next((x for x in self._host.lanes.values() if x.planned.id == node), None)
        if lane is None:
            super().set(node, params)
            return
        known = lane.node.params
        for name in params:
            if name not in known:
                raise ManifestError(
                    f'there is no parameter "{name}"',
                    node=node,
                    node_type=lane.planned.node_type,
                    pointer=f"/nodes/{lane.planned.place}/params/{name}",
                    hint=did_you_mean(name, known, "this node has no parameters"),
                )
        # They may be anything, and so they do not cross.
        number = str(len(self._host.settings))
        self._host.settings[number] = params
        super().set(node, {"set": number})

    def diagnose(self) -> dict[str, Any]:
        found = super().diagnose()
        host = self._host
        lane = host.at_work()
        if lane is not None and lane.kind is not None:
            item = lane.item if lane.item >= 0 else None
            seconds, method = perf_counter() - lane.since, METHODS[lane.kind]
            before = found["words"]
            words = in_work(lane.planned.id, method, item, seconds)
            found.update(node=lane.planned.id, method=method, item=item, seconds=seconds)
            found["stack"] = host.stack(lane)
            found["words"] = words if before == "nothing waits" else f"{words}; {before}"
        elif self._turn is not None:
            found["words"] = (
                "the run has not begun: its nodes belong to another run of the pipeline"
            )
        return found

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._stop()
        if self._is_itself():
            return
        # Ctrl-C once more ends the waiting, not the releasing.
        try:
            with self._pulling:
                try:
                    self._finish_up()
                finally:
                    self._close_loop()
        finally:
            self._shut()

    def run_within(self, prepare: Callable[[], object]) -> None:
        """Does something in the context in which nodes are called."""
        self._host.context.run(prepare)

    def end_at_exit(self) -> None:
        """The process exits. Nodes are cleaned up, unless somebody is at work or waits: that would
        be told of an end that he has not asked for, or be waited for."""
        if self._closed:
            return
        self._exits = True
        if any(self._waiting.values()) or not self._pulling.acquire(False):
            daemons = [thread.ident for thread in enumerate_threads() if thread.daemon]
            if self._driver in daemons and sum(map(len, self._waiting.values())) == 1:
                # He ends with the process, which does not wait for what no node has begun with.
                self._host.cancelled = True
            return
        try:
            self._stop()
            if self._loop is not None and not self._own_loop:
                # It does not run any more.
                self._host.forget()
                self._loop, self._fd = None, -1
            self._finish_up()
            self._close_loop()
        except Exception:  # noqa: BLE001  nodes of the user's may do anything
            logger().warning("a session that was left open could not be cleaned up", exc_info=True)
        finally:
            self._host.quiet()
            self._pulling.release()

    def _close_loop(self) -> None:
        if self._own_loop:
            loop = self.need_loop()
            outside_of_loops(lambda: close_loop(loop), loop, lambda: None)

    def has_let_go(self) -> bool:
        """Whether it needs its nodes no more."""
        return self._closed or (self._over and not self._host.unfinished)

    def _finish_up(self) -> None:
        """Ends the run, which was cancelled, on this thread; by the driver."""
        self._turn = None
        if not self._cancelled:
            # A second Ctrl-C has prevented it.
            self._stop()
        while not (self._over or self._own_loop):
            self._step(WANT_END, SLICE)
        if not self._own_loop:
            self._clean_up()
        if self._own_loop:
            self._run_loop(self._end)
            return
        while lanes := self._host.unfinished:
            from concurrent.futures import wait

            futures = [lane.future for lane in lanes if lane.future is not None]
            limit = GRACE if any(lane.given_up for lane in lanes) else None
            if wait(futures, timeout=limit).not_done:
                self._host.leave_behind()
                return
            self._clean_up()

    def _shut(self) -> None:
        super()._shut()
        if not self._host.unfinished:
            self._leave()

    async def _end(self) -> None:
        """The same in an event loop."""
        import asyncio

        self._turn = None
        while not self._over:
            status = self._step(WANT_END, 0.0)
            if not self._over:
                # Nobody would be woken for what is there already.
                idle = status == AGAIN and not self._host.ready
                await self._woken(perf_counter() + (SLICE if idle else 0))
        host = self._host
        while True:
            self._clean_up()
            lanes = host.unfinished
            if not lanes:
                return
            work: list[Any] = [
                asyncio.wrap_future(lane.future) if lane.future is not None else lane.task
                for lane in lanes
            ]
            # To clean up takes as long as it takes.
            limit = GRACE if any(lane.given_up for lane in lanes) else None
            await asyncio.wait(work, timeout=limit)
            if any(lane in host.unfinished and lane.given_up for lane in lanes):
                host.leave_behind()
                if not host.ready:
                    return

    async def aclose(self) -> None:
        if self._closed:
            return
        self._stop()
        await self._end()
        self._shut()

    def abandon(self) -> None:
        if self._closed or self._exits:
            return
        self._forget_places()
        loop = self._loop
        if loop is None or self._own_loop:
            self.close()
        elif loop.is_closed():
            # What waited in it is gone.
            self._host.forget()
            self._loop, self._fd = None, -1
            self.close()
        else:
            self._stop()
            self._in_loop(self._close_soon)

    def _close_soon(self) -> None:
        assert self._loop is not None
        self._closing = self._loop.create_task(self.aclose())

    # --- in an event loop -------------------------------------------------------------------------

    def need_loop(self) -> AbstractEventLoop:
        """For a node that waits."""
        if self._loop is None:
            import asyncio

            # Half a loop would complain.
            with ctrl_c_later():
                self._loop, self._own_loop = asyncio.new_event_loop(), True
                self._read_descriptor()
        return self._loop

    def _loop_is_mine(self) -> bool:
        """Whether this is where nodes may be called: the thread of the caller's event loop."""
        return self._loop is None or self._own_loop or get_ident() == self._loop_thread

    def _run_loop(self, work: Callable[[], Any]) -> Any:
        """Runs a coroutine in the session's own loop."""
        loop = self._loop
        assert loop is not None
        tasks: list[Task[Any]] = []

        async def run() -> Any:
            import asyncio

            task = asyncio.current_task()
            if task is not None:
                tasks.append(task)
            return await work()

        def go() -> Any:
            self._loop_thread = get_ident()
            try:
                return until_complete(loop, run)
            finally:
                self._loop_thread = None

        return outside_of_loops(go, loop, lambda: [task.cancel() for task in tasks])

    def _drive_loop(self, want: Want, until: Optional[float]) -> bool:
        result: bool = self._run_loop(lambda: self._ready(want, until))
        return result

    async def _once(self) -> None:
        import asyncio

        self._serve()
        await asyncio.sleep(0)
        self._serve()

    def go_on(self) -> None:
        """There is something to do, in the event loop."""
        if not self._soon and self._loop is not None and not self._loop.is_closed():
            self._soon = True
            self._loop.call_soon(self._serve_again)

    def _serve_again(self) -> None:
        self._soon = False
        self._serve()
        self._resolve()

    def _serve(self) -> None:
        """Does what there is to do, and comes back soon if there is more."""
        if self._closed or self._slot is None or self._over or self._busy:
            return
        self._kept = 0.0
        self._step(0, 0.0)
        if self._host.ready or self._host.answers:
            self.go_on()

    def _wake(self) -> None:
        super()._wake()
        self._serve()

    async def ready(self, want: Want, until: Optional[float]) -> bool:
        self._refuse_itself()
        return await self._ready(want, until)

    async def _ready(self, want: Want, until: Optional[float]) -> bool:
        from asyncio import sleep

        while not self._has(want):
            full = want == "room" and self._room() <= 0
            if self._kept >= _TURN_IN_LOOP:
                await sleep(0)
                self._kept = 0.0
            elif not self._comes():
                await sleep(0.001)
            else:
                status = self._step(WANT_END if full else WANTS[want], 0.0)
                if self._has(want):
                    break
                if status != AGAIN and not (full and status == 0):
                    break
                if until is not None and perf_counter() >= until:
                    return False
                # With more outputs to fetch nobody would be woken.
                if self._host.ready or self._host.answers or status == 0:
                    self._busy += 1
                    try:
                        await sleep(0)
                    finally:
                        self._busy -= 1
                    continue
                waiter = object()
                try:
                    self._waiting[want].append(waiter)
                    await self._woken(until)
                finally:
                    self._waits_no_more(want, waiter)
                if full and self._room() > 0:
                    break
            if until is not None and perf_counter() >= until:
                return self._has(want)
        return True


class HostedBatch(HostedStream):
    """A run on a whole input, which has begun.

    Args:
        batch: the run.
        host: does what the library asks of the nodes that are written in Python.
        timeout: the time for all of it, in seconds.
        loop: whether it is for an event loop, which is running.
        turn: as for :class:`HostedStream`.
    """

    def __init__(
        self,
        batch: native.Run,
        host: Host,
        timeout: Optional[float],
        loop: bool,
        turn: Turn,
    ) -> None:
        self._batch = batch
        #: Goes on on the straight way until then, as long as nothing waits.
        self.straight: Optional[Callable[[float], Optional[Result]]] = None
        super().__init__(batch.prepared, host, 1, timeout, loop, turn)

    def _open(self, prepared: native.Prepared, timeout: Optional[float]) -> tuple[Any, Any]:
        return prepared.library, [self._batch.place]

    def _fetch(self, most: int, want: int = 0, slice_us: int = 0) -> int:
        status = super()._fetch(0, want, slice_us)
        if want and status == 0 and not self._host.ready:
            self._over = True
        return status

    def finish(self) -> Result:
        """Works on it to the end."""
        try:
            self.work("end", None)
            return self._result()
        finally:
            self.close()

    async def finish_async(self) -> Result:
        """The same in an event loop. Cancelling the awaiting task cancels the run."""
        try:
            result = await self._finish_straight()
            if result is None:
                await self.ready("end", None)
                result = self._result()
        except GeneratorExit:
            # Its event loop is closed, and who awaited it is collected: nothing can be awaited.
            self.abandon()
            raise
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        return result

    async def _finish_straight(self) -> Optional[Result]:
        """Works on it on the straight way, with a look at the event loop now and then; None if
        something waits."""
        from asyncio import sleep

        host, straight = self._host, self.straight
        if straight is None:
            return None
        self._busy += 1
        try:
            while True:
                await sleep(0)
                until = perf_counter() + _TURN_IN_LOOP
                host.work_off(_TURN_IN_LOOP)
                if host.unfinished:
                    return None
                if host.ready or perf_counter() >= until:
                    continue
                try:
                    host.threads.add(get_ident())
                    result = host.context.run(straight, until)
                finally:
                    host.threads.discard(get_ident())
                if host.unfinished:
                    return None
                if result is not None:
                    # The run, whose the descriptor is, may be gone with that.
                    self._leave_loop()
                    self._over = True
                    self._place = self._slot = None
                    return result
        finally:
            self._busy -= 1

    def _keeps(self) -> Any:
        return self._batch.kept()

    def _known(self, tag: int) -> Any:
        return self._batch.known(tag)

    def _raise_end(self) -> None:
        """What a node's thread has raised to end the process passes as it is."""
        cause = self._host.ended_by
        if isinstance(cause, (SystemExit, KeyboardInterrupt)):
            raise cause from None

    def _result(self) -> Result:
        if self._error is not None:
            self._raise_end()
            raise self._error
        # The run, whose the descriptor is, may be gone with that.
        self._leave_loop()
        try:
            self._batch.wait()
        except RemoteMediaError as error:
            self._raise_end()
            raise self._explained(error) from error.__cause__
        self._place = self._slot = None
        return self._batch.result()

    def _stop(self) -> None:
        if not self._over:
            super()._stop()

    def _clean_up(self) -> None:
        if self._slot is not None:
            super()._clean_up()

    def _shut(self) -> None:
        self._closed = True
        self._leave_loop()
        self._place = self._slot = None
        if not self._host.unfinished:
            self._leave()


class Hosted:
    """A prepared pipeline with nodes that are written in Python: runs any number of times, one run
    at a time.

    Args:
        prepared: what is run.
        nodes: the nodes that are written in Python.
        enter: gives a run its turn; whether it is awaited in an event loop is its argument.
    """

    def __init__(
        self,
        prepared: native.Prepared,
        nodes: list[HostNode],
        enter: Callable[[bool], Turn],
    ) -> None:
        self._prepared = prepared
        self._library = prepared.library
        self._nodes = nodes
        self._enter = enter
        #: What did the tasks of runs that are through, to do those of others.
        self._spare: list[Host] = []
        #: Whether a native node may take long over a value.
        self.heavy = prepared.heavy
        #: Whether no node is known to wait, or to have a thread or a process of its own.
        self._straight = not any(map(waits, nodes))

    def open(self, window: int, timeout: Optional[float], loop: bool) -> HostedStream:
        """Opens a session."""
        turn = self._enter(loop)
        stream = HostedStream(self._prepared, Host(self._nodes), window, timeout, loop, turn)
        turn.begin(stream)
        stream.run_within(turn.go_into)
        # Within its block another run would wait for its end.
        turn.go_into()
        return stream

    def start(
        self, items: Any, timeout: Optional[float], inline_us: int
    ) -> Union[Result, HostedBatch]:
        """Begins a run in an event loop, and works on it here, unless ``inline_us`` is 0, for as
        long as other tasks of the loop may wait, as its nodes are called here in any case; what it
        gives, or what goes on with it."""
        if not self._straight or inline_us <= 0:
            return self._begin(items, timeout, loop=True)
        return self._try(items, timeout, perf_counter() + _TURN_IN_LOOP)

    def _begin(self, items: Any, timeout: Optional[float], loop: bool) -> HostedBatch:
        turn = self._enter(loop)
        run = self._prepared.begin(items, timeout)
        batch = HostedBatch(run, Host(self._nodes), timeout, loop, turn)
        turn.begin(batch)
        batch.run_within(turn.go_into)
        return batch

    def run(self, items: Any, timeout: Optional[float]) -> Result:
        """Runs it on these items and waits."""
        if not self._straight:
            return self._begin(items, timeout, loop=False).finish()
        done = self._try(items, timeout, None)
        return done if isinstance(done, Result) else done.finish()

    def _try(
        self, items: Any, timeout: Optional[float], until: Optional[float]
    ) -> Union[Result, HostedBatch]:
        """Takes the straight way as far as it goes; what it gives, or what goes on from there."""
        in_loop = until is not None
        turn = self._enter(in_loop)
        run: Optional[native.Run] = None
        try:
            host = self._spare.pop()
        except IndexError:
            host = Host(self._nodes)
        host.deadline = None if timeout is None else perf_counter() + timeout
        host.in_loop = in_loop
        slice_us = _INLINE_US if in_loop else SLICE_US
        with turn.block:
            try:
                turn.go_into()
                comes = turn.has_come()
                begun = self._prepared.start(items, timeout, slice_us if comes else 0)
                if isinstance(begun, Result):
                    self._spare.append(host)
                    return begun
                run = begun
                if comes:
                    result = self._work_straight(run, host, slice_us, until)
                    if result is not None:
                        self._spare.append(host)
                        return result
                # Within the block: the turn lasts until what takes it over ends it.
                return self._take_over(run, host, turn, timeout, in_loop)
            except BaseException as error:
                # Ctrl-C may come when the host is among them already, which does nothing any more.
                self._spare.clear()
                # The nodes are cleaned up before it is reported.
                if run is not None and not isinstance(error, RemoteMediaError):
                    self._take_over(run, host, turn, timeout, False).close()
                raise
            finally:
                turn.go_out()

    def _take_over(
        self, run: native.Run, host: Host, turn: Turn, timeout: Optional[float], loop: bool
    ) -> HostedBatch:
        """What goes on with a run that is not as straight as most."""
        batch = HostedBatch(run, host, timeout, loop, turn)
        turn.begin(batch)
        batch.run_within(turn.go_into)
        # The host has the first tasks, if there were any.
        run.call.struct.len = 0
        if loop and self._straight and not host.waiting and turn.has_come():
            batch.straight = partial(self._work_straight, run, host, _INLINE_US)
        host.resume()
        return batch

    def _place(self) -> Any:
        call = self._library.lending_place()
        struct = call.struct
        struct.most_tasks, struct.want = TASKS, _WANT_RESULT | WANT_TASK
        return call

    def _work_straight(
        self, run: native.Run, host: Host, slice_us: int, until: Optional[float]
    ) -> Optional[Result]:
        """Works on a batch on this thread, at least cost, to its end; None if a node waits for
        something, or at the time ``until``."""
        library = self._library
        # Nodes do nothing more after the run's time; the library says so when it is asked.
        limit = deadline = host.deadline
        if until is not None:
            limit = until if deadline is None else min(until, deadline)
        # The first tasks came when it began.
        came = run.call
        struct = came.struct
        place = struct.run
        call: Any = host.place
        while True:
            if struct.len:
                given = struct.given
                _, tasks = loads(came.text if given < HELD else came.long_text())  # noqa: S302
                read: Optional[Callable[[int], Any]] = None
                if given & ESCAPED:
                    read = run.read if given < HELD else reader(library, came, run.known, run.kept)
                if given >= HELD:
                    # It keeps what the values of the tasks may be views of.
                    call = host.place = None
                if deadline is not None and perf_counter() >= deadline:
                    host.came(tasks, read)
                    return None
                host.work_straight(tasks, read, limit)
                if host.waiting or host.ready:
                    return None
            if came is not run.call and struct.released_count:
                # Not before the tasks, which may have what nobody else has any more.
                run.forget_released(came)
            if until is not None and perf_counter() >= until:
                return None
            if came is not call:
                if call is None:
                    call = host.place = self._place()
                came, struct = call, call.struct
                struct.session = place
                if call.slice_us != slice_us:
                    struct.slice_us = call.slice_us = slice_us
            held = None
            if host.parts:
                held = run.lend(call, host.parts)
            elif call.count:
                struct.part_count = call.count = 0
            text = host.outgoing()
            status = library.exchange(struct, text, len(text))
            del held
            if library.pending[0]:
                library.drain_log()
            if status < 0:
                error = library.failure(struct.error, RemoteMediaError)
                raise host.explained(error) from error.__cause__
            if text:
                host.sent()
            if status == END:
                if struct.given >= HELD:
                    # So do those of the outputs.
                    host.place = None
                return run.result(call)
