"""Sessions: pipelines that run while items come and outputs go.

A session is the same whichever engine runs it; that is its :class:`Backend`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sized
from contextlib import suppress
from itertools import islice
from threading import get_ident
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple, NoReturn, Optional, Protocol

from remotemedia.errors import ManifestError, RemoteMediaError, RunEndedError, RunTimeoutError
from remotemedia.inputs import normalise_timeout
from remotemedia.log import logger

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["AsyncSession", "Backend", "Opening", "Output", "Session", "Want"]

#: What somebody waits for: room for an item, an output, the nodes to be initialized, or the end.
Want = Literal["room", "output", "begin", "end"]


class Output(NamedTuple):
    """One output of a session."""

    value: Any
    #: Id of the sink that gave it.
    node: str
    #: Number of the item that it comes from; None for what was flushed at the end of input.
    item: Optional[int]
    #: Presentation time of the value in seconds, if it has one.
    pts: Optional[float]


class Backend(Protocol):
    """The engine's side of a session.

    Times are those of ``time.perf_counter()``, or None for as long as it takes. Nothing here is
    taken twice or lost by waiting: :meth:`work` and :meth:`ready` only wait.
    """

    #: ``"native"`` or ``"python"``.
    engine: str
    #: What has ended the run before its end, once that is known.
    _error: Optional[RemoteMediaError]

    def try_push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        """Takes an item, and hands back its number; None if the window is full."""
        ...

    def push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        """The same, and works as :meth:`turn`."""
        ...

    def try_push_many(self, items: list[Any]) -> int:
        """Takes as many of the items as there is room for, and says how many."""
        ...

    def end(self) -> None:
        """There is no more input."""
        ...

    def try_pull(self, most: int) -> list[Output]:
        """The outputs that are there; raises the run's error when those before it are gone."""
        ...

    def take(self) -> Optional[Output]:
        """The same for one output; None if there is none."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the run is over and its outputs are gone."""
        ...

    def work(self, want: Want, until: Optional[float]) -> bool:
        """Works, or waits for others who work, until there is what is wanted, or the run is over.
        False when the time is over."""
        ...

    async def ready(self, want: Want, until: Optional[float]) -> bool:
        """The same in an event loop, where the run works by itself."""
        ...

    def turn(self) -> None:
        """Works as far as it goes without waiting."""
        ...

    def cancel(self) -> None:
        """Ends the run, from any thread."""
        ...

    def interrupt(self) -> None:
        """Discards what is in flight, from any thread."""
        ...

    def set(self, node: str, params: dict[str, Any]) -> None:
        """Changes parameters of a node, before the next item that is pushed."""
        ...

    def report(self) -> dict[str, Any]:
        """Counts and times."""
        ...

    def diagnose(self) -> dict[str, Any]:
        """What is in work, and who waits for what, see :meth:`Session.diagnose`."""
        ...

    @property
    def progress(self) -> object:
        """Something that changes whenever the run gets on."""
        ...

    def close(self) -> None:
        """Ends the run, waits until everything is cleaned up and releases all."""
        ...

    async def aclose(self) -> None:
        """The same in an event loop."""
        ...

    def abandon(self) -> None:
        """The same when the session is collected; without waiting for the caller's event loop."""


class _this:
    """Which process this is: asking the system every time would cost more than much of the rest."""

    process = object()

    @classmethod
    def is_another(cls) -> None:
        cls.process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_this.is_another)


class _Base:
    """What both kinds of session have."""

    def __init__(self, backend: Backend, stall: Optional[float]) -> None:
        self._process = _this.process
        self._own = backend
        self._stall = stall

    @property
    def _backend(self) -> Backend:
        if self._process is not _this.process:
            raise RemoteMediaError(
                "the session belongs to the process that opened it, which forked this one",
                code="RM_E_FORKED",
                hint="open another one in this process",
            )
        return self._own

    def _is_inherited(self) -> bool:
        """Whether this is a forked child, in which nothing of the session is to be touched: its
        thread may be missing, and its nodes are the parent's."""
        return self._process is not _this.process

    @property
    def engine(self) -> str:
        """Which engine runs it: ``"native"`` or ``"python"``."""
        return self._backend.engine

    @property
    def metrics(self) -> dict[str, Any]:
        """Counts and times so far, as :attr:`Result.metrics` has them."""
        return self._backend.report()

    def end(self) -> None:
        """Says that there is no more input: the nodes are flushed, and the outputs come to an
        end. Calling it again does nothing."""
        self._backend.end()

    def cancel(self) -> None:
        """Ends the run, from any thread. Whoever waits for it gets a ``RunCancelledError``, and
        outputs that were not pulled are gone."""
        self._backend.cancel()

    def interrupt(self) -> None:
        """Discards what is in flight, from any thread: items that were pushed, the one in work and
        outputs that were not pulled. The session goes on. A node that waits is cancelled; nodes
        keep their state, and those that have a method ``interrupt`` are told by it."""
        self._backend.interrupt()

    def set(self, node: str, **params: Any) -> None:
        """Changes parameters of a node, before the next item that is pushed.

        A built-in node is replaced by a fresh one with these parameters, and loses its state. A
        node of yours gets them as attributes.

        Raises:
            ManifestError: if there is no such node, or it cannot have such parameters.
        """
        self._backend.set(node, params)

    def diagnose(self) -> dict[str, Any]:
        """What the session is doing: ``node`` (the one in work, or None), its ``method``, ``item``
        and ``seconds``, and the ``stack`` of its code, as text, if it is written in Python and runs
        natively (else None); how many items are ``queued`` and ``inside`` the ``window``, and how
        many ``outputs`` have not been pulled; who is ``waiting``; what ``joins`` hold, by node and
        connection; whether the input has ``ended`` and the run is ``over``; and all that in
        ``words``."""
        return self._backend.diagnose()

    def _stalled(self, words: str) -> None:
        """Says that nothing moves, once."""
        logger().warning("a session has not moved for %g s: %s", self._stall, words)
        self._stall = None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a session cannot be pickled, as it belongs to the process that opened it: "
            "hand over its pipeline, and open another one there"
        )

    def __del__(self) -> None:
        if hasattr(self, "_own") and not self._is_inherited():
            self._own.abandon()


#: After which part of the time in which something should move somebody looks how far the run is.
_SHORT = 0.1


class _Wait:
    """A wait that warns once if nothing moves."""

    def __init__(self, session: _Base, what: str, timeout: Any) -> None:
        self.what = what
        self.backend = session._backend
        self.session = session
        timeout = normalise_timeout(timeout)
        began = perf_counter()
        self.until: Optional[float] = None if timeout is None else began + timeout
        stall = session._stall
        #: When the next look is due, unless nobody wants to know; and how far the run was at the
        #: last one, if there was one. To ask costs more than a short wait, so none is at first.
        self.due: Optional[float] = None if stall is None else began + stall * _SHORT
        self.progress: Any = None

    def limit(self) -> Optional[float]:
        """Until when to wait before looking up."""
        if self.until is None or self.due is None:
            return self.due if self.until is None else self.until
        return min(self.due, self.until)

    def look_up(self) -> None:
        """The time for waiting was over."""
        now = perf_counter()
        if self.until is not None and now >= self.until:
            raise RunTimeoutError(
                f"the time was over before there was {self.what}",
                hint="allow more time; nothing is lost",
            )
        if self.due is None or now < self.due:
            return
        before, self.progress = self.progress, self.backend.progress
        if before == self.progress and self.session._stall is not None:
            self.session._stalled(self.backend.diagnose()["words"])
        stall = self.session._stall
        self.due = None if stall is None else now + stall


class Session(_Base):
    """A pipeline that runs while you push items and pull outputs. See :meth:`Pipeline.open`.

    Several threads may use it at once.
    """

    def end(self) -> None:
        super().end()
        self._backend.turn()

    def push(self, value: Any, timeout: Optional[float] = None, node: Optional[str] = None) -> int:
        """Puts in an item; waits while the window is full.

        Args:
            value: the item, which goes to every source node.
            timeout: how long to wait for room, in seconds.
            node: id of the only source node that is to get it.

        Returns:
            The item's number, counted from 0: the ``item`` of the outputs that come from it.

        Raises:
            MarshalError: if it is no value that can cross to the native library.
            RunTimeoutError: there was no room in time, and the item is not in.
            RunEndedError: after :meth:`end`, and when the session is closed.
            RemoteMediaError: what ended the run.
        """
        # Asked for here, as a property costs a call.
        backend = self._own if self._process is _this.process else self._backend
        wait = None if timeout is None else _Wait(self, "room for the item", timeout)
        while (item := backend.push(value, node)) is None:
            if wait is None:
                wait = _Wait(self, "room for the item", None)
            if not backend.work("room", wait.limit()):
                wait.look_up()
        return item

    def push_many(self, items: Iterable[Any]) -> int:
        """Puts in one item after the other, and says how many they were. What comes from an
        iterator goes in as it comes."""
        count = 0
        for chunk in _chunks(items):
            wait = _Wait(self, "room for the item", None)
            done = 0
            while done < len(chunk):
                taken = self._backend.try_push_many(chunk[done:] if done else chunk)
                done += taken
                self._backend.turn()
                if not taken and not self._backend.work("room", wait.limit()):
                    wait.look_up()
            count += done
        return count

    def try_push(self, value: Any, node: Optional[str] = None) -> bool:
        """Puts in an item if there is room at once; whether there was."""
        self._backend.turn()
        return self._backend.push(value, node) is not None

    def pull(self, timeout: Optional[float] = None) -> Output:
        """Takes the next output, and waits for it.

        Raises:
            RunTimeoutError: there was none in this time (seconds).
            RunEndedError: the outputs have come to an end, or the session is closed.
            RemoteMediaError: what ended the run, after the outputs that came before it.
        """
        backend = self._own if self._process is _this.process else self._backend
        wait = None if timeout is None else _Wait(self, "an output", timeout)
        while (output := backend.take()) is None:
            if backend.ended:
                raise _at_end()
            if wait is None:
                wait = _Wait(self, "an output", None)
            if not backend.work("output", wait.limit()):
                wait.look_up()
        return output

    def pull_many(self, max_items: int = 64, timeout: Optional[float] = None) -> list[Output]:
        """Takes all outputs that are there, up to ``max_items``, and waits for the first.

        Returns an empty list when the time (seconds) is over or the outputs have come to an end.
        """
        wait = _Wait(self, "an output", timeout)
        while True:
            outputs = self._backend.try_pull(max_items)
            if outputs or self._backend.ended:
                return outputs
            if not self._backend.work("output", wait.limit()):
                try:
                    wait.look_up()
                except RunTimeoutError:
                    return []

    def try_pull(self) -> Optional[Output]:
        """Takes the next output if there is one at once.

        Raises:
            RunEndedError: the outputs have come to an end.
        """
        for _ in range(2):
            output = self._backend.take()
            if output is not None:
                return output
            if self._backend.ended:
                raise _at_end()
            self._backend.turn()
        return None

    def close(self) -> None:
        """Cancels the run if it has not ended, and releases all. Calling it again does nothing; nor
        does calling it in a forked child."""
        if not self._is_inherited():
            self._own.close()

    def __iter__(self) -> Session:
        return self

    def __next__(self) -> Output:
        try:
            return self.pull()
        except RunEndedError:
            raise StopIteration from None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSession(_Base):
    """The same for asyncio; nothing in it blocks the event loop. See :meth:`Pipeline.open`.

    Cancelling one who waits in :meth:`send` or :meth:`recv` loses nothing.
    """

    async def send(
        self, value: Any, timeout: Optional[float] = None, node: Optional[str] = None
    ) -> int:
        """Puts in an item, as :meth:`Session.push`."""
        backend = self._own if self._process is _this.process else self._backend
        wait = None if timeout is None else _Wait(self, "room for the item", timeout)
        while (item := backend.try_push(value, node)) is None:
            if wait is None:
                wait = _Wait(self, "room for the item", None)
            if not await backend.ready("room", wait.limit()):
                wait.look_up()
        return item

    async def send_many(self, items: Iterable[Any]) -> int:
        """Puts in one item after the other, as :meth:`Session.push_many`."""
        count = 0
        for chunk in _chunks(items):
            wait = _Wait(self, "room for the item", None)
            done = 0
            while done < len(chunk):
                taken = self._backend.try_push_many(chunk[done:] if done else chunk)
                done += taken
                if not taken and not await self._backend.ready("room", wait.limit()):
                    wait.look_up()
            count += done
        return count

    def try_send(self, value: Any, node: Optional[str] = None) -> bool:
        """Puts in an item if there is room at once; whether there was."""
        return self._backend.try_push(value, node) is not None

    async def recv(self, timeout: Optional[float] = None) -> Output:
        """Takes the next output, as :meth:`Session.pull`."""
        backend = self._own if self._process is _this.process else self._backend
        wait = None if timeout is None else _Wait(self, "an output", timeout)
        while (output := backend.take()) is None:
            if backend.ended:
                raise _at_end()
            if wait is None:
                wait = _Wait(self, "an output", None)
            if not await backend.ready("output", wait.limit()):
                wait.look_up()
        return output

    async def recv_many(self, max_items: int = 64, timeout: Optional[float] = None) -> list[Output]:
        """Takes all outputs that are there, as :meth:`Session.pull_many`."""
        wait = _Wait(self, "an output", timeout)
        while True:
            outputs = self._backend.try_pull(max_items)
            if outputs or self._backend.ended:
                return outputs
            if not await self._backend.ready("output", wait.limit()):
                try:
                    wait.look_up()
                except RunTimeoutError:
                    return []

    def try_recv(self) -> Optional[Output]:
        """Takes the next output if there is one at once, as :meth:`Session.try_pull`."""
        output = self._backend.take()
        if output is None and self._backend.ended:
            raise _at_end()
        return output

    async def aclose(self) -> None:
        """Cancels the run if it has not ended, and waits until everything is released."""
        if not self._is_inherited():
            await self._own.aclose()

    def __aiter__(self) -> AsyncSession:
        return self

    async def __anext__(self) -> Output:
        try:
            return await self.recv()
        except RunEndedError:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Opening:
    """What :meth:`Pipeline.open` hands back: ``with`` makes a :class:`Session` of it, and
    ``async with`` an :class:`AsyncSession`; once.

    When the block begins the nodes are initialized.
    """

    def __init__(self, start: Callable[[bool], Backend], stall: Optional[float]) -> None:
        self._start: Optional[Callable[[bool], Backend]] = start
        self._stall = stall
        self._session: Optional[Session] = None
        self._async_session: Optional[AsyncSession] = None

    def __getattr__(self, name: str) -> NoReturn:
        how = f"with pipeline.open() as run: run.{name}"
        raise AttributeError(f"a session begins with its block: {how} (or async with)")

    def _begin(self, loop: bool) -> Backend:
        start, self._start = self._start, None
        if start is None:
            raise RunEndedError("this session was open already", hint="call open() again")
        return start(loop)

    def __enter__(self) -> Session:
        session = self._session = Session(self._begin(loop=False), self._stall)
        try:
            session._backend.work("begin", None)
            session._backend.try_pull(0)
        except BaseException:
            session.close()
            raise
        return session

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._session is not None:
            self._session.close()

    async def __aenter__(self) -> AsyncSession:
        session = self._async_session = AsyncSession(self._begin(loop=True), self._stall)
        try:
            await session._backend.ready("begin", None)
            session._backend.try_pull(0)
        except BaseException:
            await session.aclose()
            raise
        return session

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._async_session is not None:
            await self._async_session.aclose()


def params_json(node: str, params: dict[str, Any]) -> bytes:
    """Parameters of a built-in node, as JSON text."""
    try:
        return json.dumps(params, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"the parameters cannot be written as JSON: {error}",
            node=node,
            hint="parameters are text, finite numbers, booleans, lists and dicts",
        ) from error


def in_work(node: str, method: str, item: Optional[int], seconds: float) -> str:
    """What :meth:`Session.diagnose` says of a node."""
    item_words = "after the last item" if item is None else f"with item {item}"
    if method in ("initialize", "cleanup"):
        item_words = ""
    return f"node {node!r} has been in {method} {item_words}".rstrip() + f" for {seconds:.1f} s"


def words_for(found: dict[str, Any]) -> list[str]:
    """What :meth:`Session.diagnose` says of the rest."""
    words = []
    if found["queued"]:
        words.append(f"{found['queued']} items wait to be processed")
    for node, held in found["joins"].items():
        if any(held.values()):
            counts = ", ".join(f"{count} of {above!r}" for above, count in held.items())
            words.append(f"node {node!r} holds values that wait for partners: {counts}")
    if found["inside"] >= found["window"] and not found["over"]:
        words.append(
            f"push waits for room: {found['inside']} items are inside, of {found['window']}, "
            f"and {found['outputs']} outputs have not been pulled"
        )
    elif not (found["node"] or found["queued"] or found["outputs"] or found["ended"]):
        words.append("pull waits for an item: nothing is inside, and end() was not called")
    return words


def _chunks(items: Iterable[Any]) -> Iterable[list[Any]]:
    """The items in lists of up to 64; of what may yet have to come, one by one."""
    rest, most = iter(items), 64 if isinstance(items, Sized) else 1
    while chunk := list(islice(rest, most)):
        yield chunk


def closed() -> RunEndedError:
    """What there is to say of a session that was closed."""
    return RunEndedError("the session is closed", hint="open a new one")


def resolve(future: Future[None]) -> None:
    """Wakes whoever awaits it, unless nobody does any more."""
    if not future.done():
        try:
            future.set_result(None)
        except Exception:
            # Ctrl-C, in between, may have cancelled it.
            if not future.done():
                raise


def in_loop(
    loop: Optional[AbstractEventLoop],
    thread: Optional[int],
    call: Callable[..., object],
    *args: Any,
) -> None:
    """Calls something in an event loop, which that thread runs, from whichever thread."""
    # There is nothing to tell to a loop that is closed.
    if loop is None or loop.is_closed():
        return
    if thread == get_ident():
        call(*args)
    else:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(call, *args)


def _at_end() -> RunEndedError:
    return RunEndedError("the outputs have come to an end")
