"""The native library: pipelines run by libremotemedia, over cffi.

Nothing is loaded before it is needed. The library is the one in this package, or the file that the
environment variable ``REMOTEMEDIA_LIBRARY`` names.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from marshal import loads
from operator import is_
from typing import Any, Callable, Optional, Union, cast
from weakref import ref

from remotemedia import marshal
from remotemedia.errors import (
    LibraryNotFoundError,
    ManifestError,
    MarshalError,
    MarshalTypeError,
    MarshalValueError,
    RemoteMediaError,
    from_details,
)
from remotemedia.inputs import normalise_input, normalise_timeout
from remotemedia.result import Result

__all__ = [
    "Prepared",
    "build_info",
    "execute_pipeline",
    "execute_pipeline_with_input",
    "handles",
    "is_available",
    "library_path",
    "list_nodes",
    "node_schema",
    "prepare",
    "run_manifest",
    "run_manifest_async",
    "set_log_level",
    "stats",
    "version",
]

#: A manifest: JSON text, the same as a dict, or the path of a file.
Manifest = Union[str, bytes, Mapping[str, Any], "os.PathLike[str]"]
#: Items for every source node, or a mapping from ids of source nodes to items.
Input = Union[Iterable[Any], Mapping[str, Iterable[Any]], None]
#: Is told how many items are done, of how many.
ProgressFn = Callable[[int, int], None]

_ABI_MAJOR = 1
_ABI_MINOR = 0
_RM_OK = 0
_RM_AGAIN = 1
_RM_NO_PTS = -(2**63)
_RM_MARSHAL = 16
_RM_MARSHAL_PLAIN = 17
_RM_WRITABLE = 1
_RM_DETACH = 1
_RM_INLINE = 2
_RM_ESCAPED = 2
_RM_UNCHANGED = 4
_RM_HELD = 32
_OBJECTS = ("error", "data", "pipeline", "run", "queue")
_KINDS = {"bytes": 2, "tensor": 3, "audio": 4, "video": 5}
#: How long the library works before Python gets to look for signals.
SLICE_US = 20_000
#: How long it may work on the thread of an event loop, in microseconds, unless somebody says so.
INLINE_US = 100
#: How long the text of a manifest may be: the library's limit.
_MANIFEST_BYTES = 1 << 20
#: How many bytes of outputs a call gives without a run that holds them, and an exchange.
_ROOM = 4096
_ROOM_FOR_EXCHANGE = 32_768
#: How many tags of released arrays a place has room for.
_RELEASED = 128
#: How many tasks for nodes written in Python are taken at a time.
TASKS = 64
#: How many shapes of arrays are remembered.
_SHAPES = 256
#: How many places for calls are kept for the next ones, and views in each of them.
_CALLS = 16
_VIEWS = 1_024

#: Makes a result without a call of its constructor.
new_result = Result.__new__


class _Template:
    """What views of arrays of one element type and shape have in common."""

    __slots__ = ("dtype", "held", "shape", "view")

    def __init__(self, dtype: Any, shape: Any, view: Any, held: Any) -> None:
        self.dtype = dtype
        self.shape = shape
        self.view = view
        #: What the view points to.
        self.held = held


#: Of a view of which nothing is known.
_UNKNOWN = _Template(None, None, None, None)


class _Library:
    """The loaded library, with what every call needs."""

    def __init__(self) -> None:
        self.path = library_path()
        try:
            from remotemedia._ffi import ffi
        except ImportError as error:
            raise LibraryNotFoundError(
                f"the package was not built completely: {error}",
                hint="install it with: pip install .",
            ) from error
        try:
            self.lib = cast(Any, ffi.dlopen(self.path, ffi.RTLD_NOW | ffi.RTLD_LOCAL))
        except OSError as error:
            raise LibraryNotFoundError(
                f"the native library cannot be loaded: {error}",
                hint="install a wheel for this platform, or set REMOTEMEDIA_LIBRARY to the file",
            ) from error
        self.ffi: Any = ffi
        try:
            abi = self.lib.rm_abi_version()
        except (AttributeError, ffi.error) as error:
            raise LibraryNotFoundError(
                f"{self.path} is not the native library: {error}",
                hint="set REMOTEMEDIA_LIBRARY to libremotemedia, or unset it",
            ) from error
        if abi >> 16 != _ABI_MAJOR or abi & 0xFFFF < _ABI_MINOR:
            raise LibraryNotFoundError(
                f"{self.path} has the ABI version {abi >> 16}.{abi & 0xFFFF}, "
                f"this package needs {_ABI_MAJOR}.{_ABI_MINOR}",
                hint="install library and package from the same release",
            )
        # Parsed once; a slot is made for every call, since a signal handler or a finaliser may call
        # the library while another call of the same thread is going on.
        self._types = {name: ffi.typeof(f"rm_{name} **") for name in _OBJECTS}
        self._clear = self.lib.rm_clear
        #: Shapes of arrays, as most come again.
        self._shapes: dict[tuple[int, ...], Any] = {}
        self._view = ffi.typeof("rm_view *")
        self._views = ffi.typeof("rm_view[]")
        self._shape = ffi.typeof("int64_t[]")
        self._view_size = ffi.sizeof("rm_view")
        #: What views of arrays have in common, by their element type and shape, as most come again.
        self.templates: dict[Any, _Template] = {}
        #: Places for calls that nobody uses now.
        self.calls: deque[_Call] = deque(maxlen=_CALLS)
        self.call = self.lib.rm_call_run
        self.exchange = self.lib.rm_call_exchange
        self.from_buffer = ffi.from_buffer
        self.log_level = 2
        self._open_log()

    def _open_log(self) -> None:
        """A queue for the library's log. No callback: nothing may call into an interpreter that
        is going away."""
        queue = self._queue = self.out("queue")
        log = self.ffi.addressof(self.lib, "rm_queue_log")
        self.check(self.lib.rm_queue_new, queue)
        self.check(self.lib.rm_set_log, log, queue[0], self.log_level)
        self.queue = queue[0]
        #: How many messages wait, to be looked at without a call.
        self.pending = self.lib.rm_queue_pending(self.queue)

    def failure(self, error: Any, kind: type[RemoteMediaError]) -> RemoteMediaError:
        """The exception for an error object."""
        length = self.ffi.new("size_t *")
        text = self.lib.rm_error_json(error, length)
        details = json.loads(bytes(self.ffi.buffer(text, length[0])))
        return from_details(details, kind)

    def check(
        self,
        function: Callable[..., int],
        *arguments: Any,
        kind: type[RemoteMediaError] = RemoteMediaError,
    ) -> int:
        """Calls a function of the library; a failure is raised."""
        error = self.out("error")
        status = function(*arguments, error)
        if status < 0:
            raise self.failure(error[0], kind)
        return status

    def out(self, kind: str) -> Any:
        """A place for an object, which is freed with the place. So it is owned from the moment
        that the library hands it over: an exception of a signal handler's cannot come between."""
        return self.ffi.gc(self.ffi.new(self._types[kind]), self._clear)

    def drain_log(self) -> None:
        """Hands what the library has logged to ``logging``."""
        ffi = self.ffi
        events = ffi.new("rm_event[16]")
        count = ffi.new("uint32_t *")
        while True:
            events[0].struct_size = ffi.sizeof("rm_event")
            status = self.lib.rm_queue_next(self.queue, 0, events, 16, count, ffi.NULL)
            if status < 0:
                # After a fork the queue belongs to the parent.
                self._open_log()
                return
            if status != _RM_OK:
                return
            slots = [self.adopt(event.data) for event in events[0 : count[0]]]
            for message in map(self.take, slots):
                _log(message["level"], message["target"], message["message"], message["dropped"])

    # -- values ----------------------------------------------------------------------------------

    def views(self, parts: list[marshal.Part]) -> tuple[Any, dict[int, Any]]:
        """Views of binary parts; and, by address, what has to stay for as long as they are used:
        the memory, and the part it is of."""
        ffi = self.ffi
        null = ffi.NULL
        keep: dict[int, Any] = {}
        views = []
        for index, part in enumerate(parts):
            kind, memory, (code, bits), dims, text, pts = part
            data = ffi.from_buffer(memory)
            size = len(data)
            start = ffi.cast("void *", data)
            shape = self._shapes.get(dims)
            if shape is None:
                if len(self._shapes) >= _SHAPES:
                    self._shapes.clear()
                shape = self._shapes[dims] = ffi.new(self._shape, dims)
            meta, length = null, 0
            if text:
                meta, length = ffi.from_buffer(text), len(text)
            address = self.address(start)
            if not size or address in keep:
                # Arrays without elements may all have the same one; others may share their memory.
                address = -1 - index
            keep[address] = data, part, shape, meta
            # fmt: off
            views.append((
                self._view_size, _KINDS[kind], _RM_NO_PTS if pts is None else pts, meta, length,
                start, size, shape, null, len(dims) if bits else 0, 1, 0, code, bits, 1, null, 0, 0,
            ))
            # fmt: on
        return ffi.new(self._views, views), keep

    def view(self) -> Any:
        view = self.ffi.new(self._view)
        view.struct_size = self._view_size
        return view

    def template(self, array: Any) -> Optional[_Template]:
        """The view of a NumPy array but for where it lies; None if its elements need a look."""
        if array.dtype not in marshal.codes[type(array)]:
            return None
        if len(self.templates) >= _SHAPES:
            self.templates.clear()
        views, held = self.views([marshal.part(array)])
        views[0].data = self.ffi.NULL
        dtype, shape = array.dtype, array.shape
        template = _Template(dtype, shape, views[0], (views, [kept[2:] for kept in held.values()]))
        self.templates[dtype, shape] = template
        return template

    def address(self, data: Any) -> int:
        return int(self.ffi.cast("intptr_t", data))

    def place(self) -> _Call:
        """A new place for exchanges."""
        call = _Call(self, tags=False, room=_ROOM_FOR_EXCHANGE)
        call.struct.flags = _RM_INLINE
        return call

    def lending_place(self) -> _Call:
        """One that also says which of the arrays that were lent are not used any more."""
        call = self.place()
        call.released = self.ffi.new("uint32_t[]", _RELEASED)
        call.struct.released, call.struct.released_len = call.released, _RELEASED
        return call

    def adopt(self, data: Any) -> Any:
        """The place for an rm_data that is ours."""
        slot = self.out("data")
        slot[0] = data
        return slot

    def take(self, slot: Any, keep: Any = None) -> Any:
        """The Python value of the rm_data in a slot. Arrays are views on its memory and keep it
        alive, and ``keep`` as well."""
        ffi = self.ffi
        view = self.view()
        self.check(self.lib.rm_data_view, slot[0], view)
        kind = view.kind
        if kind == 0:
            text = str(ffi.buffer(view.json, view.json_len), "utf-8")
            children = view.children
            return marshal.decode_json(text, lambda index: self._child(children[index], keep))
        if kind == 1:
            return str(ffi.buffer(view.data, view.byte_len), "utf-8")
        return self.memory(view, (slot, keep))

    def memory(self, view: Any, keep: Any, given: Optional[dict[int, Any]] = None) -> Any:
        """The bytes, the array, the audio or the frame of a view. All but bytes are views on the
        same memory, for as long as which they keep ``keep``. An array that is one of ``given`` as
        it was is a view of the same object."""
        ffi = self.ffi
        if view.kind == 2:
            return bytes(ffi.buffer(view.data, view.byte_len))
        shape = tuple(ffi.unpack(view.shape, view.ndim)) if view.ndim else ()
        dtype = (view.dtype_code, view.dtype_bits)
        if given is not None and view.kind == 3:
            known = given.get(self.address(view.data))
            if known is not None:
                part = known[1]
                if part.shape == shape and part.dtype == dtype:
                    return marshal.same(part)
        # Holds what the memory belongs to until nobody refers to it any more. Not a function in
        # Python: an exception of a signal handler's would be lost in it.
        holder = partial(is_, keep)
        owner = ffi.gc(ffi.cast("char *", view.data), holder, view.byte_len)
        memory: Any = memoryview(ffi.buffer(owner, view.byte_len))
        if not view.flags & _RM_WRITABLE:
            # Somebody else reads it as well.
            memory = memory.toreadonly()
        if view.kind == 3:
            return marshal.tensor(memory, dtype, shape)
        meta = bytes(ffi.buffer(view.json, view.json_len))
        pts_us = None if view.pts_us == _RM_NO_PTS else view.pts_us
        return marshal.media(memory, dtype, shape, meta, pts_us)

    def _child(self, child: Any, keep: Any) -> Any:
        # Borrowed from its parent, so it gets a reference of its own.
        return self.take(self.adopt(self.lib.rm_data_retain(child)), keep)


_library: Optional[_Library] = None


def _load() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


def _log(level: int, target: str, message: str, dropped: int) -> None:
    from remotemedia.log import logger

    log = logger()
    if dropped:
        log.warning("%d messages of the native library were lost", dropped)
    number = {1: 40, 2: 30, 3: 20, 4: 10}.get(level, 5)
    log.getChild(target.replace("::", ".")).log(number, "%s", message)


# --- what users call ----------------------------------------------------------------------------


def library_path() -> str:
    """Where the native library is, or should be."""
    override = os.environ.get("REMOTEMEDIA_LIBRARY")
    if override:
        return override
    name = {"darwin": "libremotemedia.1.dylib", "win32": "remotemedia.dll"}.get(
        sys.platform, "libremotemedia.so.1"
    )
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "_lib", name)


def is_available() -> bool:
    """Whether the native library can be loaded."""
    try:
        _load()
    except LibraryNotFoundError:
        return False
    return True


def version() -> str:
    """The version of the native library.

    Raises:
        LibraryNotFoundError: if there is none. So do all functions below.
    """
    return str(build_info()["version"])


def build_info() -> dict[str, Any]:
    """How the native library was built: ``version``, ``abi``, ``target``, ``profile``."""
    library = _load()
    return dict(json.loads(library.ffi.string(library.lib.rm_build_info())))


def _query(what: str) -> Any:
    library = _load()
    out = library.out("data")
    raw = what.encode()
    library.check(library.lib.rm_runtime_query, library.ffi.NULL, raw, len(raw), out)
    return library.take(out)


def list_nodes() -> list[dict[str, Any]]:
    """The node types: for each ``name``, ``summary``, ``takes``, ``gives``, ``heavy``, ``params``
    (the JSON Schema of its parameters) and ``example``."""
    return list(_query("nodes"))


def node_schema(node_type: str) -> dict[str, Any]:
    """The JSON Schema of the parameters of a node type, named with or without ``Node``.

    Raises:
        RemoteMediaError: with a hint, if there is no such type.
    """
    return dict(_query(f"schema:{node_type}"))


def handles() -> dict[str, int]:
    """How many objects of the library are alive in this process, by type."""
    return dict(_query("handles"))


def stats() -> dict[str, int]:
    """Counts of the library: ``manifests_parsed`` (without those that were remembered)."""
    return dict(_query("stats"))


def set_log_level(level: int) -> None:
    """Sets what the native library sends to ``logging.getLogger("remotemedia")``.

    Args:
        level: a level of ``logging``: from ``logging.DEBUG`` (10) to ``logging.ERROR`` (40), above
            for nothing. At first it is ``logging.WARNING`` (30).
    """
    library = _load()
    number = next(
        (n for limit, n in ((5, 5), (10, 4), (20, 3), (30, 2), (40, 1)) if level <= limit), 0
    )
    log = library.ffi.addressof(library.lib, "rm_queue_log")
    library.log_level = number
    library.check(library.lib.rm_set_log, log, library.queue, number)


class Prepared:
    """A pipeline that the library has read and found good: runs any number of times.

    Made by :func:`prepare`. Any thread may run it, several at once; it also works in a forked
    child.
    """

    def __init__(self, manifest: bytes, host_types: Sequence[Any] = ()) -> None:
        self.manifest = manifest
        #: The node types that are implemented on this side, as rm_pipeline_new_hosted takes them.
        self.host_types = host_types
        self._library = _load()
        self._slot = self._open()
        #: Stands for what is in the slot.
        self._mark = object()

    def _open(self) -> Any:
        library = self._library
        out = library.out("pipeline")
        arguments = [library.ffi.NULL, self.manifest, len(self.manifest)]
        make = library.lib.rm_pipeline_new
        if self.host_types:
            types = json.dumps(self.host_types).encode()
            arguments += [types, len(types)]
            make = library.lib.rm_pipeline_new_hosted
        library.check(make, *arguments, out, kind=ManifestError)
        return out

    def __reduce__(self) -> Any:
        return Prepared, (self.manifest, self.host_types)

    @property
    def info(self) -> dict[str, Any]:
        """``{"name", "stages", "threaded", "nodes": [{"id", "node_type", "heavy", "source",
        "sink"}]}``: what it consists of, how many groups of nodes work beside each other, and
        whether any is on a thread of the library's."""
        library = self._library
        out = library.out("data")
        library.check(library.lib.rm_pipeline_info, self._slot[0], out)
        return dict(library.take(out))

    @cached_property
    def ids(self) -> list[str]:
        """The ids of the nodes, by their places."""
        return [node["id"] for node in self.info["nodes"]]

    @cached_property
    def heavy(self) -> bool:
        """Whether a node may take more than about 100 microseconds for a value."""
        return any(node["heavy"] for node in self.info["nodes"])

    @cached_property
    def is_plain(self) -> bool:
        """Whether items go through one after the other, on the thread that puts them in; so that
        it makes no difference who does that, and when."""
        info = self.info
        return not (self.host_types or info["threaded"]) and info["stages"] == 1

    def open(self, window: int, timeout: Optional[float]) -> tuple[_Library, Any]:
        """Opens a run that is fed piece by piece: the library, and the place of the ``rm_run``."""
        library = self._library
        out = library.out("run")

        def begin() -> None:
            library.check(
                library.lib.rm_run_open, self._slot[0], window, _milliseconds(timeout), out
            )

        try:
            begin()
        except RemoteMediaError as error:
            if error.code != "RM_E_FORKED":
                raise
            self._slot, self._mark = self._open(), object()
            begin()
        return library, out

    @property
    def library(self) -> _Library:
        """The library that has it."""
        return self._library

    def begin(self, items: Input, timeout: Optional[float]) -> Run:
        """A run on a whole input, on which nobody has worked yet."""
        run = self.start(items, timeout, 0)
        assert isinstance(run, Run)
        return run

    def start(self, items: Input, timeout: Optional[float], slice_us: int) -> Union[Result, Run]:
        """Begins a run, and works on it on this thread for so many microseconds.

        One crossing, and no object of the library's that would have to be freed, if the work is
        done by then and the outputs are small or are the arrays of the input.

        Returns:
            The result, or the run if it is not complete.
        """
        library = self._library
        try:
            call = library.calls.pop()
        except IndexError:
            call = _Call(library)
        text: Optional[bytes] = None
        plain = True
        parts: Sequence[marshal.Part] = ()
        arrays = held = None
        if type(items) is list and items:
            if type(items[0]) in marshal.codes:
                arrays = items.copy()
                held = call.lend_one(arrays[0]) if len(arrays) == 1 else call.lend(arrays)
                if held is not None:
                    text = b""
            else:
                text = marshal.guess(items)
                if call.count:
                    call.show([])
        while True:
            struct = call.struct
            if text is None:
                value = normalise_input(items)
                # The batch itself, and a mapping around it, are not levels of the user's.
                text, parts = marshal.encode(value, "input", 2 if type(value) is dict else 1)
                arrays, plain, call.mark = None, False, None
                held = call.show(parts)
            mark = self._mark
            if call.mark is not mark or call.slice_us != slice_us or call.timeout is not timeout:
                struct.pipeline = self._slot[0]
                struct.kind = _RM_MARSHAL_PLAIN if plain else _RM_MARSHAL
                struct.slice_us = call.slice_us = slice_us
                struct.timeout_ms = _milliseconds(timeout)
                call.mark, call.timeout = mark if plain else None, timeout
            status = library.call(struct, text, len(text))
            if library.pending[0]:
                library.drain_log()
            if status >= 0:
                break
            failure = library.failure(struct.error, MarshalValueError)
            if failure.code == "RM_E_FORKED":
                self._slot, self._mark = self._open(), object()
                held = None
            elif not plain or arrays is not None or not isinstance(failure, MarshalError):
                raise failure
            # The error stays in its place, and goes with it.
            call, text = _Call(library), None
        if status == _RM_AGAIN:
            return Run(self, call, held, arrays, parts)
        return self.result(call, held, arrays, parts)

    def result(
        self, call: _Call, held: Any, arrays: Any, parts: Sequence[marshal.Part], lent: Any = None
    ) -> Result:
        """What a call has given. The place is kept for the next ones, unless the outputs are in it:
        ``held``, ``arrays`` and ``parts`` are of its input, ``lent`` are arrays by their tags that
        were lent later."""
        given = call.struct.given
        # Marshalled by the library.
        outputs, counts = loads(call.text if given < _RM_HELD else call.long_text())  # noqa: S302
        if given:
            if given & _RM_UNCHANGED:
                if arrays is not None:
                    outputs = []
                    for array in arrays:
                        view = array.view()
                        view.setflags(False)
                        outputs.append(view)
                else:
                    outputs = [marshal.same(part) for part in parts]
            if given & _RM_ESCAPED:
                outputs = marshal.restore(outputs, call.reader(held, arrays, lent))
        if given < _RM_HELD and call.count <= _VIEWS:
            self._library.calls.append(call)
        result = new_result(Result)
        result += outputs
        result._made = outputs, "native", _report, self, counts
        return result

    def report(self, counts: bytes) -> dict[str, Any]:
        """What the packed counts of a run of this pipeline say."""
        library = self._library
        out = library.out("data")
        library.check(library.lib.rm_pipeline_report, self._slot[0], counts, len(counts), out)
        return dict(library.take(out))

    def run(
        self,
        items: Input = None,
        timeout: Optional[float] = None,
        progress: Optional[ProgressFn] = None,
    ) -> Result:
        """Runs it on these items and waits. See :func:`run_manifest`.

        ``progress(done, total)`` is called about every 20 ms.
        """
        done = self.start(items, timeout, SLICE_US)
        return done.finish(progress) if isinstance(done, Run) else done

    async def run_async(
        self, items: Input = None, timeout: Optional[float] = None, inline_us: int = INLINE_US
    ) -> Result:
        """Like :meth:`run`, for asyncio: short work is done at once, longer work in a thread.

        Cancelling the awaiting task cancels the run.

        Args:
            items: as for :meth:`run`.
            timeout: as for :meth:`run`.
            inline_us: for how many microseconds it may work on the thread of the event loop, about;
                0 for not at all. A pipeline with a heavy node never does.
        """
        done = self.start(items, timeout, 0 if self.heavy else inline_us)
        return await done.finish_async() if isinstance(done, Run) else done


#: What metrics are read with: bound to no pipeline, as that would cost every run.
_report = Prepared.report


def _milliseconds(timeout: Any) -> int:
    """A timeout as the library takes it: never 0 for more than nothing."""
    seconds = normalise_timeout(timeout)
    return -1 if seconds is None else round(seconds * 1000) or int(seconds > 0)


class _Call:
    """A place for a call, to be used again and again: an ``rm_call`` with all that it points to.

    It owns what a call leaves in it from the moment that the library hands it over. Who keeps that
    keeps the place; it is freed with it. What the struct says of the call stays from one to the
    next; only what differs is written again.
    """

    __slots__ = (
        "array",
        "count",
        "kept",
        "library",
        "mark",
        "released",
        "room",
        "slice_us",
        "struct",
        "tags",
        "templates",
        "text",
        "timeout",
        "views",
    )

    def __init__(self, library: _Library, tags: bool = True, room: int = _ROOM) -> None:
        ffi = library.ffi
        self.library = library
        #: Whether arrays that are lent have their places, from 1, as tags, and so are known when
        #: they come out as they went in.
        self.tags = tags
        self.struct = ffi.gc(ffi.new("rm_call *"), library.lib.rm_call_clear)
        self.room = ffi.new("char[]", room)
        #: Where the text of the outputs stands if there is no run.
        self.text = ffi.buffer(self.room)
        self.struct.struct_size = ffi.sizeof("rm_call")
        self.struct.flags = _RM_DETACH
        self.struct.kind = _RM_MARSHAL_PLAIN
        self.struct.timeout_ms = -1
        if tags:
            self.struct.most_tasks = TASKS
        #: Stands for the pipeline in the struct, if its text is plain. Not the pipeline itself, as
        #: that may go meanwhile.
        self.mark: object = None
        self.timeout: Optional[float] = None
        self.count = self.slice_us = 0
        #: Whether there are views of what it has given.
        self.kept = False
        self.struct.buffer = self.room
        self.struct.buffer_len = room
        self.templates: list[Any] = []
        self.views: list[Any] = []
        #: Room for the tags of what was released, where that is asked for.
        self.released: Any = None

    def lend(self, arrays: list[Any]) -> Optional[list[Any]]:
        """Puts views of NumPy arrays in the place; gives what has to stay for as long as they are
        used. None if there is one that has to be converted, or that is no array."""
        count = len(arrays)
        if count > len(self.templates):
            self._make_room(max(count, 4))
        if self.count != count:
            self.struct.part_count = self.count = count
        codes, from_buffer = marshal.codes, self.library.from_buffer
        held: list[Any] = []
        try:
            for array, view, known in zip(arrays, self.views, self.templates):
                if type(array) not in codes:
                    return None
                as_known = array.dtype is known.dtype and array.shape == known.shape
                if not (as_known or self._describe(array, len(held))):
                    return None
                data = view.data = from_buffer(array)
                held.append(data)
        except (BufferError, ValueError):
            # It is not C-contiguous.
            return None
        return held

    def _make_room(self, room: int) -> None:
        # Not known before it is complete, as Ctrl-C may come.
        self.templates = []
        self.array = self.library.ffi.new("rm_view[]", room)
        self.struct.parts = self.array
        self.views = [self.array[at] for at in range(room)]
        self.templates = [_UNKNOWN] * room

    def _describe(self, array: Any, at: int) -> bool:
        """Makes one of the views that of an array but for where it lies; False if its elements need
        a look."""
        library = self.library
        template = library.templates.get((array.dtype, array.shape)) or library.template(array)
        if template is None:
            return False
        # Nothing is known of the view while it changes, as Ctrl-C may come.
        self.templates[at] = _UNKNOWN
        self.array[at] = template.view
        if self.tags:
            self.views[at].tag = at + 1
        self.templates[at] = template
        return True

    def lend_one(self, array: Any) -> Any:
        """The same for one array, or what stands for it, at least cost."""
        known = self.templates[0] if self.count == 1 and self.templates else _UNKNOWN
        if array.dtype is not known.dtype or array.shape != known.shape:
            return self.lend([array])
        try:
            data = self.views[0].data = self.library.from_buffer(array)
        except (BufferError, ValueError):
            return None
        return [data]

    def put(self, parts: list[Any]) -> Any:
        """Puts views of binary parts, or of arrays that stand for them, in the place: gives what
        has to stay for as long as they are used."""
        if not parts:
            if self.count:
                self.struct.part_count = self.count = 0
            return None
        held = self.lend_one(parts[0]) if len(parts) == 1 else self.lend(parts)
        return self.show(list(map(marshal.as_part, parts))) if held is None else held

    def show(self, parts: list[marshal.Part]) -> Any:
        """Puts views of binary parts in the place; gives what :meth:`lend` gives."""
        held = None
        if parts:
            self.templates = []
            self.array, held = self.library.views(parts)
            self.struct.parts = self.array
        self.struct.part_count = self.count = len(parts)
        return held

    def long_text(self) -> Any:
        """The text of outputs that a run holds."""
        return self.library.ffi.buffer(self.struct.text, self.struct.len)

    def reader(self, held: Any, arrays: Any, lent: Any) -> Callable[[int], Any]:
        """What gives the binary part of the outputs with a number, or what was lent with a tag."""
        known: Any = held
        if arrays is not None:
            address = self.library.address
            known = {
                address(data): (data, marshal.part(array)) for data, array in zip(held, arrays)
            }
        views, keep = self.struct.given_parts, (self, held, lent)

        def read(index: int) -> Any:
            if index >= 0:
                return self.library.memory(views[index], keep, known)
            if arrays is not None and -index <= len(arrays):
                return marshal.read_only_view(arrays[-index - 1])
            return lent[-index]

        return read


#: What is to end when the process exits, by its id. A reference calls nothing when that is gone: an
#: exception of a signal handler's, Ctrl-C for one, would be lost there.
_at_exit: dict[int, ref[Any]] = {}
_exit_hooked = False
#: From how many on those that are gone are forgotten.
_many_at_exit = 64


def end_at_exit(what: Any) -> None:
    """Sees to it that ``what.end_at_exit()`` is called when the process exits, before that waits
    for the threads of executors: as when Ctrl-C has ended the event loop, and nobody cancelled the
    task; or when a session was left open."""
    global _exit_hooked, _many_at_exit
    _at_exit[id(what)] = ref(what)
    if len(_at_exit) > _many_at_exit:
        for key, left in list(_at_exit.items()):
            if left() is None and _at_exit.get(key) is left:
                del _at_exit[key]
        _many_at_exit = max(64, 2 * len(_at_exit))
    if not _exit_hooked:
        _exit_hooked = True
        import concurrent.futures.thread  # noqa: F401  its own hook is to come after ours
        import threading

        def end() -> None:
            for left in list(_at_exit.values()):
                what = left()
                if what is not None:
                    what.end_at_exit()

        # Not atexit: its functions run after the threads were waited for.
        register: Any = getattr(threading, "_register_atexit", None)
        if register is not None:
            register(end)


class Run:
    """A run that takes longer."""

    __slots__ = ("__weakref__", "_input", "_prepared", "call", "lent")

    def __init__(
        self, prepared: Prepared, call: _Call, held: Any, arrays: Any, parts: Sequence[marshal.Part]
    ) -> None:
        self._prepared = prepared
        #: The place of the rm_run, with the first tasks if there are any.
        self.call = call
        #: What the input is made of: its memory is used where it is.
        self._input = held, arrays, parts
        #: Arrays by their tags, which count from 1: those of the input, and those that were lent to
        #: it after that.
        self.lent: list[Any] = [None, *(arrays or ())]

    @property
    def prepared(self) -> Prepared:
        """What is run."""
        return self._prepared

    def kept(self) -> Any:
        """What has to stay for as long as there are views of values of the run that have come by
        now: they may lie in the memory of its input, or of what was lent to it since. Not the list
        of that, in which they may be themselves one day, where no collector would find it."""
        return self._input, tuple(self.lent)

    def known(self, tag: int) -> Any:
        """The array that was lent with this tag; it cannot be written to."""
        return self.read(-tag)

    def read(self, index: int) -> Any:
        """The same by what stands for it in a text: the tag, negated."""
        view = self.lent[-index].view()
        view.setflags(False)
        return view

    def lend(self, call: _Call, parts: list[Any]) -> Any:
        """Puts views of binary parts, or of arrays that stand for them, in a place for an exchange;
        gives what has to stay until that is over. Arrays are lent, until the library says that it
        is done with them, if there is nothing else; else all are copied."""
        held = call.put(parts)
        if call.templates:
            # They are arrays that have views of their own there.
            for tag, view in enumerate(call.views[: len(parts)], len(self.lent)):
                view.tag = tag
            self.lent += parts
        return held

    def forget_released(self, call: _Call) -> None:
        """Forgets what the library is done with."""
        struct, lent = call.struct, self.lent
        for tag in call.library.ffi.unpack(struct.released, struct.released_count):
            lent[tag] = None

    @property
    def place(self) -> Any:
        """The ``rm_run``, which lives as long as this."""
        return self.call.struct.run

    def finish(self, progress: Optional[ProgressFn]) -> Result:
        """Works on it to the end."""
        try:
            while True:
                if progress is not None:
                    report = self.report()
                    progress(report["items_done"], report["items"])
                if self.wait():
                    break
        except BaseException:
            # Ctrl-C, for one: its nodes are cleaned up before it is reported.
            self.call.library.lib.rm_call_clear(self.call.struct)
            raise
        return self.result()

    async def finish_async(self) -> Result:
        """The same in a thread. Cancelling the awaiting task cancels the run."""
        from asyncio import get_running_loop

        end_at_exit(self)
        try:
            await get_running_loop().run_in_executor(None, self.wait_in_thread)
        except BaseException:
            # The thread may still be at work; the run is freed when it has let go.
            self.cancel()
            raise
        finally:
            _at_exit.pop(id(self), None)
        return self.result()

    def wait(self) -> bool:
        """Works for a slice; true when it is complete."""
        call = self.call
        library, struct = call.library, call.struct
        call.slice_us = struct.slice_us = SLICE_US
        status = library.lib.rm_call_wait(struct)
        if library.pending[0]:
            library.drain_log()
        if status < 0:
            raise library.failure(struct.error, RemoteMediaError)
        return bool(status != _RM_AGAIN)

    def wait_in_thread(self) -> None:
        while not self.wait():
            pass

    def result(self, given: Optional[_Call] = None) -> Result:
        """What it gave, there or in the place of an exchange. Asked once, when nobody waits for it
        any more."""
        call = self.call
        library = call.library
        held, arrays, parts = self._input
        if given is None:
            if call.struct.given < _RM_HELD:
                # Nothing lies in the run, and the place is used again.
                library.lib.rm_call_clear(call.struct)
            return self._prepared.result(call, held, arrays, parts, self.lent)
        flags = given.struct.given
        outputs, counts = loads(given.text if flags < _RM_HELD else given.long_text())  # noqa: S302
        if flags & _RM_UNCHANGED:
            # Those of the input have the first tags.
            tags, outputs = outputs, []
            first = 0 if arrays is None else len(arrays)
            for tag in tags:
                outputs.append(self.lent[tag] if tag > first else self.known(tag))
        elif flags & _RM_ESCAPED:
            outputs = marshal.restore(outputs, given.reader(held, arrays, self.lent))
        library.lib.rm_call_clear(call.struct)
        if call.count <= _VIEWS:
            library.calls.append(call)
        result = new_result(Result)
        result += outputs
        result._made = outputs, "native", _report, self._prepared, counts
        return result

    def report(self) -> dict[str, Any]:
        """Counts and times, up to now or of all of it."""
        library = self.call.library
        out = library.out("data")
        library.check(library.lib.rm_run_report, self.call.struct.run, out)
        return dict(library.take(out))

    def cancel(self) -> None:
        self.call.library.lib.rm_run_cancel(self.call.struct.run)

    end_at_exit = cancel


def prepare(manifest: Manifest) -> Prepared:
    """Reads and checks a manifest.

    The library remembers the last 64 texts, so preparing the same text again costs little.

    Raises:
        ManifestError: with every problem there is in ``causes``.
        LibraryNotFoundError: if there is no native library.
        OSError: if a manifest's file cannot be read.
    """
    return Prepared(manifest_text(manifest))


def manifest_text(manifest: Manifest) -> bytes:
    """The JSON text of a manifest in any form.

    A str is the path of a file if it ends in ``.json`` or if there is such a file, and otherwise
    JSON text; one that begins as JSON does is always that.
    """
    if isinstance(manifest, bytes):
        return manifest
    if isinstance(manifest, str):
        if not _is_path(manifest):
            try:
                return manifest.encode()
            except UnicodeEncodeError as error:
                raise ManifestError(
                    f"the manifest has a lone surrogate at index {error.start}",
                    code="RM_E_UTF8", pointer="",
                    hint="a manifest is JSON text (RFC 8259) in UTF-8",
                ) from error  # fmt: skip
    elif isinstance(manifest, Mapping):
        try:
            return json.dumps(manifest, allow_nan=False, default=_plain).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ManifestError(
                f"the manifest cannot be written as JSON: {error}",
                pointer="", hint="parameters are text, finite numbers, booleans, lists and dicts",
            ) from error  # fmt: skip
    elif not hasattr(manifest, "__fspath__"):
        raise MarshalTypeError(
            f"a manifest is JSON text, a dict or the path of a file, not {type(manifest).__name__}"
        )
    return read_file(manifest)


def read_file(path: Union[str, os.PathLike[str]]) -> bytes:
    """What a manifest's file holds, up to a little more than a manifest may have.

    Raises:
        OSError: if it cannot be read, or is no file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{os.fspath(path)} is not a regular file")
    with open(path, "rb") as file:
        return file.read(_MANIFEST_BYTES + 1)


def _is_path(text: str) -> bool:
    """Whether this is the path of a manifest rather than its text."""
    start = text.lstrip()[:1]
    if start in ("{", "[", '"', "") or len(text) > 4096 or "\n" in text or "\0" in text:
        return False
    return text.endswith(".json") or os.path.isfile(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is not a parameter")


def run_manifest(
    manifest: Manifest, inputs: Input = None, *, timeout: Optional[float] = None
) -> Result:
    """Runs a manifest with the native library and waits for the end.

    Args:
        manifest: JSON text, the same as a dict, or the path of a file.
        inputs: items, which go to every source node, or a mapping from the ids of source nodes to
            items. Nothing is no items.
        timeout: the time for all of it, in seconds.

    Returns:
        The outputs of all sinks, in the order in which the sinks stand in the manifest.

    Raises:
        ManifestError: the manifest does not describe a pipeline.
        MarshalError: an item is not a value that crosses.
        NodeError: a node failed; says which node, which item and why.
        RunTimeoutError: the time ran out.
        LibraryNotFoundError: there is no native library.
    """
    return prepare(manifest).run(inputs, timeout)


async def run_manifest_async(
    manifest: Manifest, inputs: Input = None, *, timeout: Optional[float] = None
) -> Result:
    """Like :func:`run_manifest`, for asyncio: short work is done at once, longer work in a
    thread. Cancelling the awaiting task cancels the run."""
    return await prepare(manifest).run_async(inputs, timeout)


def execute_pipeline(manifest_json: Manifest) -> Awaitable[Result]:
    """A coroutine that runs a manifest without input."""
    return run_manifest_async(manifest_json)


def execute_pipeline_with_input(manifest_json: Manifest, input_data: Input) -> Awaitable[Result]:
    """A coroutine that runs a manifest on these items."""
    return run_manifest_async(manifest_json, input_data)
