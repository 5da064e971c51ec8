"""Sessions in the native engine.

A :class:`NativeStream` is a run of the library's that was opened. It has no thread: who pushes,
pulls or waits lends the library theirs, and nodes that are heavy or wait work on the library's. An
event loop is woken through a descriptor. One crossing takes items in and brings outputs, some
more than were asked for, which are kept for the next to ask.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import repeat, starmap
from marshal import dumps, loads
from threading import Lock, RLock, get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Optional
from weakref import finalize

from remotemedia import marshal, native
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
    MarshalError,
    MarshalValueError,
    RemoteMediaError,
    RunEndedError,
)
from remotemedia.log import logger
from remotemedia.marshal import SCALARS, codes, inline
from remotemedia.media import Media

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["NativeStream"]

AGAIN, END = 1, 2
WANTS: dict[Want, int] = {"room": 1, "output": 2, "end": 8, "begin": 16}
WANT_TASK, WANT_END = 4, 8
HELD, ESCAPED, ROWS, ITEM = 32, 2, 8, 16
#: How long the library works before Python gets to look for signals.
SLICE_US = native.SLICE_US
SLICE = SLICE_US / 1e6
#: How many outputs are fetched at a time, if there are as many.
FETCH = 64
#: For how long the items may be worked on that are put in together, about.
_PACE = 0.005
#: How many places for calls are kept for the next ones.
_CALLS = 8
#: Whether Python looks for signals at calls only, so that nothing comes between two of them. Where
#: it looks everywhere, a signal's handler could get at a session with an item half gathered.
_WHOLE = sys.implementation.name == "cpython" and sys.version_info >= (3, 11)
#: How long an event loop sleeps where there is no descriptor to be woken by (Windows).
_PAUSE = 0.001

# `[items, answers, node]` around items, as marshal writes it.
_MANY = b"[\x03\0\0\0"
_ALL = b"[\0\0\0\0N"

#: Makes an output without a call in Python.
_new = tuple.__new__


def reader(
    library: Any, call: Any, known: Callable[[int], Any], kept: Callable[[], Any]
) -> Callable[[int], Any]:
    """What gives the binary part of outputs with a number, as a view that keeps the place of the
    call, and the rest of what its memory may belong to; or what was lent with a tag."""
    views, keep = call.struct.given_parts, None

    def part(at: int) -> Any:
        nonlocal keep
        if at < 0:
            return known(-at)
        if keep is None:
            keep = call, kept()
        call.kept = True
        return library.memory(views[at], keep)

    return part


class NativeStream:
    """The backend of a session in the native engine, see :class:`remotemedia.core.session.Backend`.

    Args:
        prepared: what is run.
        window: how many items may be inside at once.
        timeout: the time for all of it, in seconds.
        loop: whether it is for an event loop, which is running.
    """

    # More than a dict that is shared has room for, and looked at for every item.
    __slots__ = (
        "__weakref__",
        "_base",
        "_bells",
        "_calls",
        "_cancelled",
        "_chunk",
        "_closed",
        "_cross",
        "_deadline",
        "_error",
        "_fd",
        "_fetched",
        "_floor",
        "_form",
        "_futures",
        "_gathered",
        "_gathers",
        "_ids",
        "_input_ended",
        "_last",
        "_left",
        "_lender",
        "_library",
        "_loop",
        "_loop_thread",
        "_next",
        "_over",
        "_pending",
        "_place",
        "_pulling",
        "_pushed",
        "_pusher",
        "_pushing",
        "_sender",
        "_slot",
        "_stacker",
        "_told",
        "_uncounted",
        "_waiting",
        "_window",
    )

    engine = "native"

    def __init__(
        self, prepared: native.Prepared, window: int, timeout: Optional[float], loop: bool
    ) -> None:
        self._window = window
        self._library, self._slot = self._open(prepared, timeout)
        # Where the garbage collector finds a session in a cycle, it would free the run first, and
        # then close the session. What is held from outside until then stays.
        finalize(self, list, (self._slot,)).atexit = False
        self._ids = prepared.ids
        self._cross, self._pending = self._library.exchange, self._library.pending
        #: Places for calls that nobody uses now.
        self._calls: list[Any] = []
        #: Places for items that are scalars, and for those that are arrays.
        self._pusher: Any = None
        self._lender: Any = None
        #: Places for many items, and for arrays that are rows; how many may go in together.
        self._sender: Any = None
        self._stacker: Any = None
        self._chunk = FETCH
        #: Items that were taken and are not in, as long as there are outputs to be pulled before
        #: what they give: numbers, or the rows of an array, whose dtype and shape these are; the
        #: number of the item at the first place; and whether items are gathered so.
        self._gathered: Any = [None] * FETCH
        self._form: Any = None
        self._base = 0
        self._gathers = _WHOLE and prepared.is_plain
        #: Held by who puts in items, and by who fetches outputs: the same, as who puts in fetches
        #: as well. If Ctrl-C comes just when somebody has it, he can have it again.
        self._pushing: Any = RLock()
        self._pulling: Any = self._pushing
        #: How many items are in, and were taken: with those that are gathered.
        self._pushed = 0
        self._next = 0
        #: Where outputs are fetched to.
        self._place: Any = None
        #: A place of a crossing from which nobody has come back yet: outputs that are not kept, and
        #: items that are not counted. What is left there when a signal's handler, or its exception,
        #: comes between is for the next who crosses, who may be called by that handler. Everything
        #: that is read there may be read again.
        self._left: Any = None
        #: The same of one that only puts in items.
        self._uncounted: Any = None
        #: Outputs that were fetched, and not pulled.
        self._fetched: deque[Output] = deque()
        #: Outputs of items below this one were discarded.
        self._floor = 0
        self._input_ended = False
        #: When the time of the run is over, about.
        self._deadline = None if timeout is None else perf_counter() + timeout
        #: Whether the run is over and everything of it was fetched, and what ended it; whether
        #: somebody was told.
        self._over = False
        self._error: Optional[RemoteMediaError] = None
        self._told = False
        self._cancelled = False
        self._closed = False
        #: What there is to say of it once it is closed.
        self._last: dict[str, Any] = {}
        #: Locks of those who wait until outputs that were fetched are pulled; futures of all who
        #: wait in the event loop; and how many wait, for what.
        self._bells: list[Any] = []
        self._futures: list[Future[None]] = []
        self._waiting: dict[Want, list[object]] = {
            "room": [], "output": [], "begin": [], "end": [],
        }  # fmt: skip
        self._loop: Optional[AbstractEventLoop] = None
        self._loop_thread: Optional[int] = None
        self._fd = -1
        if loop:
            self._begin_in_loop()

    def _open(self, prepared: native.Prepared, timeout: Optional[float]) -> tuple[Any, Any]:
        """The library, and the place of the run."""
        return prepared.open(self._window, timeout)

    # --- crossings --------------------------------------------------------------------------------

    def _run(self) -> Any:
        """The place of the run. Who has it keeps the run."""
        slot = self._slot
        if slot is None:
            raise closed()
        return slot

    def _exchange(
        self,
        call: Any,
        text: bytes,
        parts: list[marshal.Part],
        most: int,
        want: int,
        slice_us: int,
        keeps: bool = False,
        counts: bool = False,
    ) -> tuple[int, Optional[RemoteMediaError]]:
        """One crossing. What went wrong is handed back, since there may be outputs as well, which
        whoever ``keeps`` them has the lock for; whoever ``counts`` puts in items."""
        library, slot, struct = self._library, self._run(), call.struct
        held = call.put(parts) if parts or call.count else None
        struct.session, struct.most, struct.want = slot[0], most, want
        struct.slice_us = call.slice_us = slice_us
        exchange, length = library.exchange, len(text)
        # Nothing is called between these and the crossing: any call may be one of a signal handler.
        if keeps:
            while self._left is not None:
                self._settle()
            self._left = call
        elif counts:
            while self._uncounted is not None or self._next != self._pushed:
                self._recount()
                if self._next != self._pushed:
                    self._put_gathered()
            self._uncounted = call
        status = exchange(struct, text, length)
        if library.pending[0]:
            library.drain_log()
        del held
        # The error stays in its place, and goes with it.
        return status, library.failure(struct.error, MarshalValueError) if status < 0 else None

    def _ask(
        self,
        want: int,
        slice_us: int,
        text: bytes = b"",
        parts: Sequence[marshal.Part] = (),
    ) -> int:
        """One crossing without items and outputs, for its status; raises what went wrong."""
        call = self._calls.pop() if self._calls else self._library.place()
        status, error = self._exchange(call, text, list(parts), 0, want, slice_us)
        if error is not None:
            raise error
        self._use_again(call)
        return status

    def _use_again(self, call: Any) -> None:
        if len(self._calls) < _CALLS:
            self._calls.append(call)

    def _fetch(self, most: int, want: int = 0, slice_us: int = 0) -> int:
        """Fetches outputs that are there, under the lock; the status of the crossing, if there was
        one."""
        # Who fetches from within a signal's handler takes another one.
        call, self._place = self._place, None
        if call is None:
            call = self._library.place()
        struct = call.struct
        status, error = 0, None
        if most == struct.most and not want and not struct.want:
            # As it was the last time, but for the session, which may not change.
            library, slot = self._library, self._run()
            exchange = library.exchange
            while self._left is not None:
                self._settle()
            self._left = call
            status = exchange(struct, b"", 0)
            del slot
            if library.pending[0]:
                library.drain_log()
            if status < 0:
                error = library.failure(struct.error, MarshalValueError)
        else:
            status, error = self._exchange(call, b"", [], most, want, slice_us, keeps=True)
        self._fetch_is_done(call, status, error)
        if not call.kept:
            self._place = call
        return status

    def _fetch_is_done(self, call: Any, status: int, error: Optional[RemoteMediaError]) -> None:
        """Keeps what a crossing has brought, and what it has said of the run."""
        if call.struct.len and self._left is call:
            self._take(call)
        if self._left is call:
            self._left = None
        if error is not None:
            # The error stays in the place, and goes with it.
            call.kept = True
            self._error = error
        if error is not None or status == END:
            self._over, self._gathers = True, False
        if self._cancelled:
            self._fetched.clear()

    def _settle(self) -> None:
        """Keeps what a crossing has brought from which nobody has come back."""
        left = self._left
        if left is None:
            return
        struct = left.struct
        self._count_in(struct.number + struct.accepted)
        if struct.len and self._left is left:
            self._take(left)
        if self._left is left:
            self._left = None

    def _recount(self) -> None:
        """Counts the items that a crossing has put in."""
        left = self._uncounted
        if left is not None:
            self._count_in(left.struct.number + left.struct.accepted)
            if self._uncounted is left:
                self._uncounted = None

    def _count_in(self, number: int) -> None:
        """So many items are in, or more."""
        if number > self._pushed:
            self._pushed = number
        if self._next < self._pushed:
            self._next = self._pushed

    def _take(self, call: Any) -> None:
        """Keeps the outputs in the place that is left."""
        struct = call.struct
        given = struct.given
        text = loads(call.text if given < HELD else call.long_text())  # noqa: S302
        made: Any = None
        floor = self._floor
        if given & ROWS:
            items, nodes, rows = text
            made = self._outputs(items, nodes, marshal.rows(*rows), repeat(None))
        else:
            outputs, tasks = text
            # Most often it is one output, a scalar or a small array.
            if len(outputs) == 3 and not tasks:
                item, node, value = outputs
                is_array = given == ESCAPED and type(value) is tuple
                if (is_array or not given) and item >= floor:
                    value = inline(*value) if is_array else value
                    made = (_new(Output, (value, self._ids[node], item, None)),)
            elif tasks and not outputs:
                self._take_tasks(tasks, self._reader(call) if given & ESCAPED else None)
                made = ()
            if made is None:
                made = self._made(call, given, outputs, tasks)
        if self._left is not call:
            # A signal's handler did, meanwhile.
            return
        # Nothing comes between these.
        struct.len = 0
        self._left = None
        self._fetched.extend(made)
        if self._floor != floor:
            self._discard()
        if given >= HELD:
            self._let_go(call)

    def _discard(self) -> None:
        """Forgets outputs that were discarded while they were on their way."""
        fetched, floor = self._fetched, self._floor
        with suppress(IndexError):
            while (item := fetched[0].item) is not None and item < floor:
                fetched.popleft()

    def _made(self, call: Any, given: int, outputs: list[Any], tasks: list[Any]) -> list[Any]:
        """Outputs and tasks as the library wrote them."""
        items, values = outputs[::3], outputs[2::3]
        pts: Iterable[Optional[float]] = repeat(None)
        read = None
        if given & ESCAPED:
            read = self._reader(call)
            values = marshal.restore(values, read)
            pts = [value.pts if isinstance(value, Media) else None for value in values]
        if tasks:
            self._take_tasks(tasks, read)
        return self._outputs(items, outputs[1::3], values, pts)

    def _outputs(
        self, items: list[Any], nodes: list[int], values: Any, pts: Iterable[Optional[float]]
    ) -> list[Any]:
        if items and items[-1] < 0:
            # What was flushed comes last.
            items = [item if item >= 0 else None for item in items]
        ids = map(self._ids.__getitem__, nodes)
        made = list(map(_new, repeat(Output), zip(values, ids, items, pts)))
        floor = self._floor
        if floor:
            # What was discarded while it was on its way.
            made = [output for output in made if output.item is None or output.item >= floor]
        return made

    def _reader(self, call: Any) -> Callable[[int], Any]:
        call.kept = False
        return reader(self._library, call, self._known, self._keeps)

    def _let_go(self, call: Any) -> None:
        """The library keeps what the text and its parts lie in. If views need that, the place is
        not used again."""
        if not call.kept and not call.struct.error:
            self._library.lib.rm_call_clear(call.struct)

    def _explained(self, error: RemoteMediaError) -> RemoteMediaError:
        """What ended the run, with what there is to say of it on this side."""
        return error

    def _keeps(self) -> Any:
        """What values may lie in besides memory of the library's: nothing, as items are copied."""
        return None

    def _known(self, tag: int) -> Any:
        raise NotImplementedError("nothing is lent")

    def _take_tasks(self, tasks: list[Any], read: Optional[Callable[[int], Any]]) -> None:
        raise NotImplementedError("there are no nodes that this side implements")

    # --- for the session --------------------------------------------------------------------------

    def try_push(self, value: Any, node: Optional[str] = None) -> Optional[int]:
        # The usual way for the usual items, scalars and NumPy arrays, at little cost: what is there
        # to be pulled comes with the same crossing. What is unusual or wrong goes the other way.
        kind = type(value)
        if self._gathers and self._fetched and node is None:
            item = self._gather(kind, value)
            if item is not None:
                return item
        if node is None and kind in SCALARS:
            text = dumps(value, 2)
        elif node is None and kind in codes:
            text = b""
        else:
            return self._push_slowly(value, node)
        with self._pulling:
            # Who has it keeps the run.
            slot = self._slot
            if slot is None or self._left is not None or self._waiting["output"]:
                return self._push_slowly(value, node)
            if self._next != self._pushed:
                self._put_gathered()
                item = self._gather(kind, value) if self._fetched else None
                if item is not None:
                    return item
            if self._fetched and self._room() <= 0:
                self._check_open()
                return None
            # Who pushes from within a signal's handler takes another one.
            if text:
                place, self._pusher = self._pusher, None
            else:
                place, self._lender = self._lender, None
            if place is None:
                place = self._place_to_push(ITEM if text else 0)
            lent = True if text else place.lend_one(value)
            struct, length = place.struct, len(text)
            number: int = self._next
            # Nothing is called between these and the crossing.
            if (
                lent is None
                or number != self._pushed
                or self._left is not None
                or self._uncounted is not None
            ):
                self._put_back(place, text)
                return self._push_slowly(value, node)
            self._left = place
            status = self._cross(struct, text, length)
            if status or self._pending[0]:
                count = self._put_is_done(place, status)
                if count <= 0:
                    self._put_back(place, text)
                    return None if count == 0 else self._push_slowly(value, node)
            elif self._left is place:
                if self._pushed == number:
                    self._pushed = self._next = number + 1
                if struct.len:
                    self._take(place)
                else:
                    self._left = None
            # The library's word, whoever has pushed in between.
            number = struct.number
            self._put_back(place, text)
            if self._cancelled:
                self._fetched.clear()
        return number

    #: Who puts in items works.
    push = try_push

    def _gather(self, kind: type, value: Any) -> Optional[int]:
        """Takes an item that goes in with those after it: what it gives comes after outputs that
        nobody has pulled, and who finds none of these puts it in. None if it is to go in now."""
        if kind is float or (kind is int and marshal.MIN_INT <= value <= marshal.MAX_INT):
            form = None
        elif kind in codes:
            form = value.dtype, value.shape
        else:
            return None
        with self._pulling:
            if form != self._form and not self._gather_such(form, value):
                return None
            # Nothing is called from here on: a signal's handler may have pushed before.
            number = self._next
            if number == self._pushed:
                self._base = number
            at = number - self._base
            try:
                oldest = self._fetched[0].item
            except IndexError:
                return None
            if (
                oldest is None
                or number - oldest >= self._window
                or at >= self._chunk
                or self._waiting["output"]
                or self._left is not None
                or self._uncounted is not None
                or form != self._form
                or not self._gathers
            ):
                return None
            self._gathered[at] = value
            self._next = number + 1
        return number

    def _gather_such(self, form: Any, value: Any) -> bool:
        """Gathers what has this form from here on, if it can."""
        if form is not None and not marshal.is_small(value):
            return False
        gathered = [None] * FETCH if form is None else marshal.empty_rows(FETCH, value)
        if self._next != self._pushed:
            return False
        # Nothing has this form while it changes, as Ctrl-C may come.
        self._form = self
        self._gathered = gathered
        self._form = form
        return True

    def _put_gathered(self) -> None:
        """Puts in what was gathered, by who has the lock."""
        while True:
            if self._left is not None:
                self._settle()
            self._recount()
            # Who has the slot keeps the run.
            first, last, slot, form = self._pushed, self._next, self._slot, self._form
            if first == last or slot is None:
                return
            began = perf_counter()
            items = self._gathered[first - self._base : last - self._base]
            if form is None:
                text = b"".join((_MANY, dumps(items, 2), _ALL))
                accepted = self._cross_with([], text, False, first, last)
            else:
                accepted = self._cross_with([items], b"", True, first, last)
            if accepted is not None:
                break
        if accepted < 0:
            if self._state()["phase"] != "over":
                # Once more, for the reason. What ends the run everybody is told of in their turn.
                text, parts = marshal.encode(list(items), "input", 1)
                text, place = b"".join((_MANY, text, _ALL)), self._library.place()
                _, error = self._exchange(place, text, parts, 0, 0, 0)
                if isinstance(error, MarshalError) or (error and error.code == "RM_E_LIMIT"):
                    raise error
            self._count_in(last)
        self._keep_pace(last - first, began)

    def _put_in_gathered(self, wait: bool = True) -> None:
        """The same for who does not have it; unless he is to ``wait``, only if nobody else has."""
        if self._next != self._pushed and self._pulling.acquire(wait):
            try:
                self._put_gathered()
            finally:
                self._pulling.release()

    def _cross_with(
        self, arrays: list[Any], text: bytes, rows: bool, first: int, last: int
    ) -> Optional[int]:
        """Puts in many items, by who has the lock: what the text has, or arrays, or their rows. How
        many are in; -1 if they were refused, and None if there are not so many items any more as
        there were, in and taken."""
        name = "_stacker" if rows else "_sender"
        place = getattr(self, name)
        setattr(self, name, None)
        if place is None:
            place = self._place_to_push(ROWS if rows else 0)
        lent = place.lend(arrays)
        if lent is None:
            return -1
        struct, length = place.struct, len(text)
        # Nothing is called between these and the crossing.
        if self._pushed != first or self._next != last or self._left is not None:
            return None
        if self._uncounted is not None:
            return None
        self._left = place
        accepted = self._put_is_done(place, self._cross(struct, text, length))
        if not place.kept:
            setattr(self, name, place)
        return accepted

    def _put_is_done(self, place: Any, status: int) -> int:
        """Keeps what a crossing has brought that was to put in items: how many are in, -1 if they
        were refused."""
        library, struct = self._library, place.struct
        if library.pending[0]:
            library.drain_log()
        error = library.failure(struct.error, MarshalValueError) if status < 0 else None
        accepted: int = struct.accepted
        if error is not None and not accepted:
            # The error stays in the place, and goes with it.
            place.kept = True
            if self._left is place:
                self._left = None
            return -1
        self._count_in(struct.number + accepted)
        self._fetch_is_done(place, status, error and self._explained(error))
        return accepted

    def _place_to_push(self, flags: int) -> Any:
        place = self._library.place()
        place.struct.session, place.struct.most = self._run()[0], FETCH
        place.struct.flags |= flags
        return place

    def _put_back(self, place: Any, text: bytes) -> None:
        """The place may be used again, unless somebody keeps it."""
        if place.kept:
            return
        if text:
            self._pusher = place
        else:
            self._lender = place

    def _push_slowly(self, value: Any, node: Optional[str]) -> Optional[int]:
        text, parts = marshal.encode(value)
        head, tail = _MANY + b"[\x01\0\0\0", _ALL if node is None else _ALL[:-1] + dumps(node, 2)
        number, count = self._put(b"".join((head, text, tail)), parts, 1)
        return number if count else None

    def try_push_many(self, items: list[Any]) -> int:
        most = min(self._chunk, max(self._room(), 1))
        items = items[:most] if most < len(items) else items
        if not items:
            return 0
        began = perf_counter()
        count = self._put_many(items)
        if count is None:
            count = self._put_many_slowly(items)
        if count:
            self._keep_pace(count, began)
        return count

    def _keep_pace(self, count: int, began: float) -> None:
        """Whoever fetches while many items are put in does not wait for longer than that."""
        pace = count * _PACE / (perf_counter() - began + 1e-9)
        self._chunk = max(1, min(FETCH, int(pace)))

    def _put_many(self, items: list[Any]) -> Optional[int]:
        """The usual way for usual items, as in :meth:`try_push`; None for others."""
        arrays, text = items, b""
        if type(items[0]) not in codes:
            guess = marshal.guess(items)
            if guess is None:
                return None
            arrays, text = [], b"".join((_MANY, guess, _ALL))
        with self._pulling:
            slot = self._slot
            if slot is None or self._left is not None or self._waiting["output"]:
                return None
            if self._next != self._pushed:
                self._put_gathered()
            if self._room() < len(items):
                return None
            number = self._pushed
            count = self._cross_with(arrays, text, False, number, number)
        return None if count is None or count < 0 else count

    def _put_many_slowly(self, items: list[Any]) -> int:
        try:
            text, parts = marshal.encode(items, "input", 1)
        except MarshalError:
            # Those before it are in, and the error is that of the one.
            for count, item in enumerate(items):
                if self.try_push(item) is None:
                    return count
            raise
        return self._put(b"".join((_MANY, text, _ALL)), parts, len(items))[1]

    def _put(self, text: bytes, parts: Sequence[marshal.Part], most: int) -> tuple[int, int]:
        """Puts items in: the number of the first, and how many there was room for."""
        with self._pushing:
            try:
                if self._next != self._pushed:
                    self._put_gathered()
                self._recount()
                if self._room() < most:
                    self._check_open()
                    return 0, 0
                call = self._calls.pop() if self._calls else self._library.place()
                _, error = self._exchange(call, text, list(parts), 0, 0, 0, counts=True)
                if error is not None:
                    raise error
            except RemoteMediaError as error:
                refusal = self._refusal(error)
                raise refusal.with_traceback(None) from refusal.__cause__
            number, count = call.struct.number, call.struct.accepted
            self._recount()
            self._use_again(call)
        return number, count

    def _refusal(self, error: RemoteMediaError) -> RemoteMediaError:
        """The error for somebody who pushes."""
        if not isinstance(error, MarshalError):
            self._told = True
        return self._no_more() if error.code == "RM_E_CLOSED" else error

    def _no_more(self) -> RunEndedError:
        if self._closed:
            return closed()
        return RunEndedError("end() was called: the session takes no more items")

    def _room(self) -> int:
        """How much of the window is left by outputs that were fetched, and not pulled. The library
        believes that they are gone."""
        try:
            oldest = self._fetched[0].item
        except IndexError:
            return self._window
        if oldest is None:
            return self._window
        return self._window - (self._next - oldest)

    def _check_open(self) -> None:
        """Raises what there is to say to somebody who pushes, though the library is not asked."""
        if self._is_over():
            with self._pulling:
                while not self._over:
                    self._fetch(FETCH)
            self._tell()
            raise self._no_more()
        if self._input_ended:
            raise self._no_more()

    def _is_over(self) -> bool:
        """Whether the run is over, though outputs may be left."""
        return self._over or self._ask(WANT_END, 0) != AGAIN

    def end(self) -> None:
        library, slot = self._library, self._slot
        if self._gathers or self._next != self._pushed:
            with self._pulling:
                self._gathers = False
                self._put_gathered()
        self._input_ended = True
        if slot is not None:
            # What has ended the run is for those who push or pull.
            with suppress(RemoteMediaError):
                library.check(library.lib.rm_run_end, slot[0])

    def try_pull(self, most: int) -> list[Output]:
        fetched = self._fetched
        if len(fetched) < max(most, 1) and not self._over:
            with self._pulling:
                if self._next != self._pushed:
                    self._put_gathered()
                missing = most - len(fetched)
                if not self._over and (missing > 0 if most else self._is_over()):
                    # Who waits in the library is not to miss what he waits for.
                    more = 0 if self._waiting["output"] else min(FETCH, self._window)
                    self._fetch(max(missing, more))
        return self._pulled(most)

    def take(self) -> Optional[Output]:
        try:
            output = self._fetched.popleft()
        except IndexError:
            outputs = self.try_pull(1)
            return outputs[0] if outputs else None
        if self._bells or self._futures:
            self._ring()
        return output

    def _pulled(self, most: int) -> list[Output]:
        """Outputs that were fetched; raises the run's error when those before it are gone."""
        fetched = self._fetched
        if self._closed:
            raise closed()
        outputs: list[Output] = []
        # Somebody else may take the last ones at the same time.
        with suppress(IndexError):
            outputs.extend(starmap(fetched.popleft, repeat((), min(most, len(fetched)))))
        if outputs:
            if self._bells or self._futures:
                self._ring()
        elif not fetched:
            self._tell()
        return outputs

    def _tell(self) -> None:
        """Raises what has ended the run."""
        if self._error is not None:
            self._told = True
            # As it was: being raised again and again would make it longer.
            raise self._error.with_traceback(None)

    @property
    def ended(self) -> bool:
        # An error is raised by whoever pulls.
        return self._over and not self._fetched and self._error is None

    def _has(self, want: Want) -> bool:
        return self._over or self._closed or (want == "output" and bool(self._fetched))

    def work(self, want: Want, until: Optional[float]) -> bool:
        # Nobody fetches more than he needs from here on.
        waiter = object()
        try:
            with self._pulling:
                if self._next != self._pushed:
                    self._put_gathered()
                self._waiting[want].append(waiter)
            while not self._has(want):
                left = SLICE if until is None else min(SLICE, max(until - perf_counter(), 0.0))
                if want != "room" or self._room() > 0:
                    if self._ask(WANTS[want], int(left * 1e6)) != AGAIN:
                        return True
                elif self._until_pulled(left):
                    return True
                if left < SLICE and until is not None and perf_counter() >= until:
                    return False
            return True
        finally:
            self._waits_no_more(want, waiter)

    def _waits_no_more(self, want: Want, waiter: object) -> None:
        with suppress(ValueError):
            self._waiting[want].remove(waiter)

    def _until_pulled(self, seconds: float) -> bool:
        """Waits until somebody pulls what was fetched, or the run is over."""
        if self._deadline is not None:
            # Nobody would ring for that.
            seconds = min(seconds, max(self._deadline - perf_counter(), 0.0) + _PAUSE)
        bell = Lock()
        bell.acquire()
        self._bells.append(bell)
        try:
            return self._room() > 0 or bell.acquire(timeout=seconds) or self._is_over()
        finally:
            with suppress(ValueError):
                self._bells.remove(bell)

    def _ring(self) -> None:
        """Something has changed that the library does not know of."""
        bells, self._bells = self._bells, []
        for bell in bells:
            # Somebody else may have rung it.
            with suppress(RuntimeError):
                bell.release()
        if self._futures:
            self._in_loop(self._resolve)

    def _resolve(self) -> None:
        """In the event loop: whoever waits looks again."""
        futures, self._futures = self._futures, []
        for future in futures:
            resolve(future)

    def turn(self) -> None:
        # Who pushes and pulls works.
        return

    def cancel(self) -> None:
        if self._slot is not None and self._state()["phase"] != "over":
            self._stop()

    def _stop(self) -> None:
        slot = self._slot
        if slot is not None:
            self._library.lib.rm_run_cancel(slot[0])
            self._cancelled, self._gathers = True, False
            # What was gathered goes nowhere.
            self._count_in(self._next)
            self._fetched.clear()
            self._ring()

    def interrupt(self) -> None:
        library, slot = self._library, self._slot
        if slot is None or self._state()["phase"] == "over":
            return
        self._put_in_gathered()
        self._floor = self._state()["items"]
        library.check(library.lib.rm_run_interrupt, slot[0])
        self._fetched.clear()
        self._ring()

    def set(self, node: str, params: dict[str, Any]) -> None:
        library = self._library
        if node not in self._ids:
            from remotemedia.core.schema import did_you_mean

            raise ManifestError(
                f'there is no node with the id "{node}"',
                pointer="",
                hint=did_you_mean(node, self._ids, ""),
            )
        name, text = node.encode(), params_json(node, params)
        self._put_in_gathered()
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
            refusal = self._refusal(error)
            raise refusal from refusal.__cause__

    def report(self) -> dict[str, Any]:
        self._put_in_gathered(wait=False)
        return self._query(self._library.lib.rm_run_report, "report")

    def _state(self) -> dict[str, Any]:
        return self._query(self._library.lib.rm_run_diagnose, "state")

    def _query(self, function: Any, what: str) -> dict[str, Any]:
        library, slot = self._library, self._slot
        if slot is None:
            return dict(self._last[what])
        out = library.out("data")
        library.check(function, slot[0], out)
        return dict(library.take(out))

    @property
    def progress(self) -> object:
        nodes = self.report()["nodes"].values()
        counts = [(node["items_in"], node["items_out"], node["time_us"]) for node in nodes]
        return self._next, len(self._fetched), counts

    def diagnose(self) -> dict[str, Any]:
        self._put_in_gathered(wait=False)
        state, fetched = self._state(), len(self._fetched)
        at_work = [stage for stage in state["stages"] if stage["state"] == "running"]
        first: dict[str, Any] = at_work[0] if at_work else {}
        outputs = state["outputs"] + fetched
        found: dict[str, Any] = {
            "node": _node_of(first) if first else None,
            "method": _method_of(state, first) if first else None,
            "item": first.get("item"),
            "seconds": first["since_us"] / 1e6 if first else 0.0,
            "stack": None,
            "queued": state["queued"],
            "outputs": outputs,
            "inside": max(state["inside"], self._window - self._room()),
            "window": self._window,
            "ended": self._input_ended,
            "over": state["phase"] == "over",
            "waiting": {"push": len(self._waiting["room"]), "pull": len(self._waiting["output"])},
            "joins": state["joins"],
        }
        words = [_in_words(state, stage) for stage in at_work]
        found["words"] = "; ".join(words + words_for(found)) or "nothing waits"
        return found

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._stop()
        while not self._over:
            # Those who pull at the same time find that it is over, too.
            with self._pulling:
                self._fetch(FETCH, WANT_END, SLICE_US)
        self._shut()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._stop()
        while not self._over:
            with self._pulling:
                status = self._fetch(FETCH, WANT_END)
            # After outputs that were left the end comes at once, and nobody would be woken for it.
            if status == AGAIN and not self._over:
                await self._woken(None)
        self._shut()

    def _forget_places(self) -> None:
        """The garbage collector may have freed them, see above."""
        self._place = self._left = self._uncounted = None
        self._pusher = self._lender = self._sender = self._stacker = None
        self._calls.clear()

    def abandon(self) -> None:
        if not self._closed:
            self._forget_places()
            self._stop()
            self._shut()

    def _shut(self) -> None:
        error = self._error
        if error is not None and not self._told and error.code != "RM_E_CANCELLED":
            logger().warning("a session was closed before it told of an error: %s", error)
        self._last = {"report": self.report(), "state": self._state()}
        self._closed = True
        self._fetched.clear()
        self._leave_loop()
        self._place = self._left = self._uncounted = self._slot = None
        self._pusher = self._lender = self._sender = self._stacker = None
        self._ring()

    # --- in an event loop -------------------------------------------------------------------------

    def _begin_in_loop(self) -> None:
        import asyncio

        self._loop, self._loop_thread = asyncio.get_running_loop(), get_ident()
        self._read_descriptor()

    def _read_descriptor(self) -> None:
        """Lets the event loop be woken by the run."""
        assert self._loop is not None
        fd = self._library.lib.rm_run_fd(self._run()[0])
        if fd >= 0:
            # A loop of Windows has no readers.
            with suppress(NotImplementedError):
                self._loop.add_reader(fd, self._wake)
                self._fd = fd

    def _leave_loop(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._in_loop(self._remove_reader, fd, self._slot)

    def _remove_reader(self, fd: int, _: Any) -> None:
        """While the run is there, whose the descriptor is."""
        assert self._loop is not None
        self._loop.remove_reader(fd)

    def _in_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Calls something in the event loop, from whichever thread."""
        in_loop(self._loop, self._loop_thread, call, *args)

    def _wake(self) -> None:
        if self._fd >= 0:
            with suppress(BlockingIOError):
                os.read(self._fd, 4096)
        self._resolve()

    async def _woken(self, until: Optional[float]) -> None:
        """Returns when something may have happened, or the time is over."""
        import asyncio

        loop = self._loop
        assert loop is not None
        left = None if until is None else max(0.0, until - perf_counter())
        if self._fd < 0:
            await asyncio.sleep(_PAUSE if left is None else min(_PAUSE, left))
            return
        future: Future[None] = loop.create_future()
        self._futures.append(future)
        timer = None if left is None else loop.call_later(left, resolve, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            with suppress(ValueError):
                self._futures.remove(future)

    async def ready(self, want: Want, until: Optional[float]) -> bool:
        while not self._has(want):
            self._put_in_gathered()
            # Full with outputs that were fetched, it waits for somebody to pull, or for the end.
            full = want == "room" and self._room() <= 0
            if self._ask(WANT_END if full else WANTS[want], 0) != AGAIN:
                break
            if until is not None and perf_counter() >= until:
                return False
            waiter = object()
            try:
                self._waiting[want].append(waiter)
                await self._woken(until)
            finally:
                self._waits_no_more(want, waiter)
            if full and self._room() > 0:
                break
        return True


def _node_of(stage: dict[str, Any]) -> str:
    return str(stage["node"] or stage["nodes"][0])


def _method_of(state: dict[str, Any], stage: dict[str, Any]) -> str:
    phase = str(state["phase"])
    if phase == "work":
        return "flush" if stage["item"] is None else "process"
    return "cleanup" if phase == "over" else phase


def _in_words(state: dict[str, Any], stage: dict[str, Any]) -> str:
    method = _method_of(state, stage)
    return in_work(_node_of(stage), method, stage["item"], stage["since_us"] / 1e6)
