"""Sessions in the native engine.

A :class:`NativeStream` is a run of the library's that was opened. It has no thread: who pushes,
pulls or waits lends the library theirs, and nodes that are heavy or wait work on the library's. An
event loop is woken through a descriptor. One crossing takes items in and brings outputs, some
more than were asked for, which are kept for the next to ask.
"""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from marshal import dumps, loads
from threading import Lock
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Optional

from remotemedia import marshal, native
from remotemedia.core.session import Output, Want
from remotemedia.errors import (
    ManifestError,
    MarshalError,
    MarshalValueError,
    RemoteMediaError,
    RunEndedError,
)
from remotemedia.log import logger

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["NativeStream"]

_AGAIN, _END = 1, 2
_WANTS: dict[str, int] = {"room": 1, "output": 2, "begin": 8}
_WANT_END = 8
_HELD, _ESCAPED = 8, 2
#: How long the library works before Python gets to look for signals, in microseconds.
_SLICE_US = 50_000
#: How many outputs are fetched at a time, if there are as many.
_FETCH = 32
#: How long to sleep where there is nothing to be woken by.
_PAUSE = 0.001

# `[items, answers, node]` around one item, as marshal writes it.
_ONE = b"[\x03\0\0\0[\x01\0\0\0"
_ALL = b"[\0\0\0\0N"


#: Makes an output without a call in Python.
new_output = tuple.__new__


class NativeStream:
    """The backend of a session in the native engine, see :class:`remotemedia.core.session.Backend`.

    Args:
        prepared: what is run.
        window: how many items may be inside at once.
        timeout: the time for all of it, in seconds.
        loop: whether it is for an event loop, which is running.
    """

    engine = "native"

    def __init__(
        self, prepared: native.Prepared, window: int, timeout: Optional[float], loop: bool
    ) -> None:
        self._window = window
        self._library, self._slot = prepared.open(window, timeout)
        self._ids = [node["id"] for node in prepared.info["nodes"]]
        #: Places for calls that nobody uses now.
        self._calls: list[Any] = []
        #: Those for the two that are usual.
        self._pusher, self._puller = self._library.place(), self._library.place()
        self._puller.struct.most = min(_FETCH, window)
        self._pusher.struct.session = self._puller.struct.session = self._slot[0]
        self._pushing = Lock()
        self._pulling = Lock()
        self._pushed = 0
        #: Outputs that were fetched, and not pulled.
        self._fetched: deque[Output] = deque()
        self._input_ended = False
        self._over = False
        self._closed = False
        self._error: Optional[RemoteMediaError] = None
        self._told = False
        self._loop: Optional[AbstractEventLoop] = None
        self._fd = -1
        self._futures: list[Future[None]] = []
        if loop:
            self._begin_in_loop()

    # --- crossings --------------------------------------------------------------------------------

    def _run(self) -> Any:
        """The place of the run. Who has it keeps the run."""
        slot = self._slot
        if slot is None:
            raise _closed()
        return slot

    def _call(self) -> Any:
        try:
            return self._calls.pop()
        except IndexError:
            return self._library.place()

    def _exchange(
        self, call: Any, text: bytes, parts: list[marshal.Part], most: int, want: int, slice_us: int
    ) -> tuple[int, Optional[RemoteMediaError]]:
        """One crossing; outputs are appended to those that were fetched. What went wrong is handed
        back, since there may be outputs as well."""
        library, slot, struct = self._library, self._run(), call.struct
        if parts or call.count:
            held = call.show(parts)
        struct.session, struct.most, struct.want = slot[0], most, want
        struct.slice_us = call.slice_us = slice_us
        status = library.exchange(struct, text, len(text))
        if library.pending[0]:
            library.drain_log()
        if struct.len:
            self._take(call)
        error = None
        if status < 0:
            error = library.failure(struct.error, MarshalValueError)
            library.lib.rm_call_clear(struct)
        held = None  # noqa: F841  until here
        if len(self._calls) < 8:
            self._calls.append(call)
        return status, error

    def _take(self, call: Any) -> None:
        struct = call.struct
        given = struct.given
        outputs, _ = loads(call.text if given < _HELD else call.long_text())  # noqa: S302
        if given:
            library = self._library
            held = library.adopt(struct.held)
            struct.held = library.ffi.NULL
            if given & _ESCAPED:
                views = struct.given_parts
                outputs = marshal.restore(outputs, lambda at: library.memory(views[at], held))
        ids, append = self._ids, self._fetched.append
        rest = iter(outputs)
        for item, node, value in zip(rest, rest, rest):
            pts = None if type(value) in marshal.SCALARS else getattr(value, "pts", None)
            append(new_output(Output, (value, ids[node], item if item >= 0 else None, pts)))

    def _fetch(self, most: int, want: int = 0, slice_us: int = 0) -> None:
        """Fetches outputs that are there."""
        error: Optional[RemoteMediaError]
        if want or most > _FETCH:
            status, error = self._exchange(self._call(), b"", [], most, want, slice_us)
        else:
            # The usual way, under the lock of those who pull.
            # The slot is kept for as long as the call.
            library, slot, error = self._library, self._run(), None  # noqa: F841
            struct = self._puller.struct
            status = library.exchange(struct, b"", 0)
            if library.pending[0]:
                library.drain_log()
            if struct.len:
                self._take(self._puller)
            if status < 0:
                error = library.failure(struct.error, MarshalValueError)
                library.lib.rm_call_clear(struct)
        if error is not None:
            self._error = error
        if error is not None or status == _END:
            self._over = True

    # --- for the session --------------------------------------------------------------------------

    def try_push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        if node is None and type(value) in marshal.SCALARS:
            # The slot is kept for as long as the call.
            library, slot = self._library, self._slot
            if slot is None:
                raise _closed()
            text = _ONE + dumps(value, 2) + _ALL
            with self._pushing:
                if self._fetched and self._is_full():
                    return None
                struct = self._pusher.struct
                status = library.exchange(struct, text, len(text))
                if library.pending[0]:
                    library.drain_log()
                if status >= 0:
                    if not struct.accepted:
                        return None
                    number = self._pushed
                    self._pushed = number + 1
                    return number
                refusal = library.failure(struct.error, MarshalValueError)
                library.lib.rm_call_clear(struct)
            if not isinstance(refusal, MarshalError):
                raise self._refusal(refusal)
        # Where the value cannot cross, this says better why.
        text, parts = marshal.encode(value)
        tail = _ALL if node is None else b"[\0\0\0\0" + dumps(node, 2)
        with self._pushing:
            if self._is_full():
                return None
            call = self._call()
            _, error = self._exchange(call, b"".join((_ONE, text, tail)), parts, 0, 0, 0)
            if error is None:
                return self._accepted(call.struct)
        raise self._refusal(error)

    def _accepted(self, struct: Any) -> Optional[int]:
        if not struct.accepted:
            return None
        number = self._pushed
        self._pushed = number + 1
        return number

    def try_push_many(self, items: list[Any]) -> int:
        """Takes as many items as there is room for, and says how many."""
        text = marshal.guess(items)
        guessed = text is not None
        parts: list[marshal.Part] = []
        while True:
            if text is None:
                text, parts = marshal.encode(items, "input", 1)
            with self._pushing:
                if self._is_full():
                    return 0
                call = self._call()
                text = b"".join((b"[\x03\0\0\0", text, _ALL))
                _, error = self._exchange(call, text, parts, 0, 0, 0)
                if error is None:
                    count = int(call.struct.accepted)
                    self._pushed += count
                    return count
            assert error is not None
            if not guessed or not isinstance(error, MarshalError):
                raise self._refusal(error)
            text, guessed = None, False

    def _refusal(self, error: RemoteMediaError) -> RemoteMediaError:
        """The error for somebody who pushes."""
        if error.code == "RM_E_CLOSED":
            if self._input_ended and not self._closed:
                return RunEndedError("end() was called: the session takes no more items")
            return _closed() if self._closed else _at_end()
        return error

    def _is_full(self) -> bool:
        """Whether outputs that were fetched, and not pulled, fill the window. The library believes
        that they are gone."""
        try:
            oldest = self._fetched[0].item
        except IndexError:
            return False
        return oldest is not None and self._pushed - oldest >= self._window

    def end(self) -> None:
        library = self._library
        self._input_ended = True
        if self._closed:
            return
        # What has ended the run is for those who push or pull.
        with suppress(RemoteMediaError):
            library.check(library.lib.rm_run_end, self._run()[0])

    def try_pull(self, most: int) -> list[Output]:
        fetched = self._fetched
        if most and not fetched and not self._over:
            with self._pulling:
                if not fetched and not self._over:
                    self._fetch(max(most, min(_FETCH, self._window)))
        if self._closed:
            raise _closed()
        outputs: list[Output] = []
        try:
            while len(outputs) < most:
                outputs.append(fetched.popleft())
        except IndexError:
            pass
        if not outputs and self._error is not None and not fetched:
            self._told = True
            # As it was: being raised again and again would make it longer.
            raise self._error.with_traceback(None)
        return outputs

    @property
    def ended(self) -> bool:
        return self._over and not self._fetched

    def _has(self, want: Want) -> bool:
        if self._over or self._closed:
            return True
        return bool(self._fetched) if want == "output" else want == "begin" and self._has_begun()

    def _has_begun(self) -> bool:
        phase = self._state()["phase"]
        if phase in ("cleanup", "over"):
            # It has failed, or was cancelled.
            while not self._over:
                self._fetch(1, _WANT_END, _SLICE_US)
        return bool(phase != "initialize")

    def work(self, want: Want, until: Optional[float]) -> bool:
        while not self._has(want):
            left = None if until is None else until - perf_counter()
            if want == "room" and self._is_full():
                # Until another thread pulls.
                if left is not None and left <= 0:
                    return False
                sleep(_PAUSE)
                continue
            slice_us = _SLICE_US if left is None else int(min(max(left, 0) * 1e6, _SLICE_US))
            if want == "begin":
                slice_us = min(slice_us, 1_000)
            status, error = self._exchange(self._call(), b"", [], 0, _WANTS[want], slice_us)
            if error is not None:
                raise error
            if status != _AGAIN and want != "begin":
                return True
            if left is not None and left <= 0:
                return False
        return True

    def turn(self) -> None:
        # Who pushes and pulls works.
        return

    def cancel(self) -> None:
        slot = self._slot
        if slot is not None:
            self._fetched.clear()
            self._library.lib.rm_run_cancel(slot[0])

    def interrupt(self) -> None:
        library, slot = self._library, self._slot
        if slot is None:
            return
        with self._pulling:
            library.check(library.lib.rm_run_interrupt, slot[0])
            self._fetched.clear()

    def set(self, node: str, params: dict[str, Any]) -> None:
        library = self._library
        if node not in self._ids:
            from remotemedia.core.schema import did_you_mean

            raise ManifestError(
                f'there is no node with the id "{node}"',
                pointer="",
                hint=did_you_mean(node, self._ids, ""),
            )
        name = node.encode()
        try:
            text = json.dumps(params, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ManifestError(f"the parameters cannot be written as JSON: {error}") from error
        try:
            library.check(
                library.lib.rm_run_set, self._run()[0], name, len(name), text, len(text),
                kind=ManifestError,
            )  # fmt: skip
        except RemoteMediaError as error:
            if error.code == "RM_E_MANIFEST":
                place = self._ids.index(node)
                error.pointer = f"/nodes/{place}/params{error.pointer or ''}"
                raise
            raise self._refusal(error) from None

    def report(self) -> dict[str, Any]:
        return dict(self._query(self._library.lib.rm_run_report))

    def _state(self) -> dict[str, Any]:
        return dict(self._query(self._library.lib.rm_run_diagnose))

    def _query(self, function: Any) -> Any:
        library, slot = self._library, self._slot
        out = library.out("data")
        if slot is None:
            raise _closed()
        library.check(function, slot[0], out)
        return library.take(out)

    @property
    def progress(self) -> object:
        if self._slot is None:
            return None
        nodes = self.report()["nodes"].values()
        return self._pushed, [(node["items_in"], node["items_out"]) for node in nodes]

    def diagnose(self) -> dict[str, Any]:
        state = self._state()
        stages = state["stages"]
        at_work = [stage for stage in stages if stage["state"] == "running" and stage["nodes"]]
        first: dict[str, Any] = at_work[0] if at_work else {}
        words = []
        for stage in at_work:
            node = stage["node"] or stage["nodes"][0]
            item = "" if stage["item"] is None else f" item {stage['item']}"
            seconds = stage["since_us"] / 1e6
            words.append(
                f"node {node!r} has been at work on{item or ' nothing'} for {seconds:.3g} s"
            )
        for stage in stages:
            if stage["state"] == "waiting" and stage["for"] != "an item":
                words.append(f"node {stage['nodes'][0]!r} waits for {stage['for']}")
        inside, outputs = state["inside"], state["outputs"] + len(self._fetched)
        if inside >= self._window or self._is_full():
            words.append(
                f"push waits for room: {max(inside, self._window)} items are inside, of "
                f"{self._window}, and {outputs} outputs have not been pulled"
            )
        elif not words and not outputs and not self._input_ended:
            words.append("pull waits for an item: nothing is inside, and end() was not called")
        node = first.get("node") or (first["nodes"][0] if first else None)
        return {
            "node": node,
            "method": "process" if node else None,
            "item": first.get("item"),
            "seconds": first["since_us"] / 1e6 if first else 0.0,
            "queued": max(0, inside - outputs),
            "inside": inside,
            "window": self._window,
            "outputs": outputs,
            "waiting": [],
            "joins": {},
            "ended": self._input_ended,
            "over": self._over,
            "stages": stages,
            "words": "; ".join(words) or "nothing waits",
        }

    # --- for a node ------------------------------------------------------------------------------

    def process(self, value: Any) -> list[Any]:
        """Everything that comes of an item, with a window of 1."""
        self.try_push(value)
        values: list[Any] = []
        while not self._over:
            values.extend(output.value for output in self.try_pull(_FETCH))
            if self._fetched:
                continue
            # Room is there once the item is through.
            status, error = self._exchange(
                self._call(), b"", [], _FETCH, _WANTS["room"] | _WANTS["output"], _SLICE_US
            )
            if error is not None:
                self._over, self._error = True, error
            elif status != _AGAIN and not self._fetched:
                return values
        self.try_pull(1)
        return values

    def flush(self) -> list[Any]:
        """Everything that comes at the end of input."""
        self.end()
        values: list[Any] = []
        while not self.ended:
            values.extend(output.value for output in self.try_pull(_FETCH))
            if not self.ended:
                self.work("output", None)
        return values

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self.cancel()
        while not self._over:
            self._fetch(1, _WANT_END, _SLICE_US)
        self._shut()

    async def aclose(self) -> None:
        if self._closed:
            return
        self.cancel()
        while not self._over:
            self._fetch(1)
            if not self._over:
                await self._woken(None)
        self._shut()

    def abandon(self) -> None:
        if not self._closed:
            self.cancel()
            self._shut()

    def _shut(self) -> None:
        error = self._error
        if error is not None and not self._told and error.code != "RM_E_CANCELLED":
            logger().warning("a session was closed before it told of an error: %s", error)
        self._closed = True
        self._fetched.clear()
        self._leave_loop()
        self._slot = None

    # --- in an event loop -------------------------------------------------------------------------

    def _begin_in_loop(self) -> None:
        import asyncio

        self._loop = loop = asyncio.get_running_loop()
        self._fd = self._library.lib.rm_run_fd(self._run()[0])
        if self._fd >= 0:
            try:
                loop.add_reader(self._fd, self._wake)
            except NotImplementedError:
                self._fd = -1

    def _leave_loop(self) -> None:
        if self._loop is not None and self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._fd = -1
        self._wake()

    def _wake(self) -> None:
        if self._fd >= 0:
            with suppress(BlockingIOError):
                os.read(self._fd, 4096)
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)

    async def _woken(self, until: Optional[float]) -> None:
        """Returns when something has happened, or the time is over."""
        import asyncio

        assert self._loop is not None
        left = None if until is None else max(0.0, until - perf_counter())
        if self._fd < 0:
            await asyncio.sleep(_PAUSE if left is None else min(_PAUSE, left))
            return
        future: Future[None] = self._loop.create_future()
        self._futures.append(future)
        timer = None if left is None else self._loop.call_later(left, self._wake)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    async def ready(self, want: Want, until: Optional[float]) -> bool:
        while True:
            if want == "output" and not self._fetched and not self._over:
                self._fetch(min(_FETCH, self._window))
            if self._has(want):
                return True
            if until is not None and perf_counter() >= until:
                return False
            if want == "room":
                if not self._is_full():
                    status, error = self._exchange(self._call(), b"", [], 0, 1, 0)
                    if error is not None:
                        raise error
                    if status != _AGAIN:
                        return True
                await self._woken(until if until is not None else None)
            elif want == "begin":
                status, error = self._exchange(self._call(), b"", [], 0, _WANT_END, 0)
                if self._has(want):
                    return True
                await self._pause()
            else:
                await self._woken(until)

    async def _pause(self) -> None:
        import asyncio

        await asyncio.sleep(_PAUSE)


def _closed() -> RunEndedError:
    return RunEndedError("the session is closed", hint="open a new one")


def _at_end() -> RunEndedError:
    return RunEndedError("the outputs have come to an end")
