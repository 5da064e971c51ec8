"""The native library: pipelines run by libremotemedia, over cffi.

Nothing is loaded before it is needed. The library is the one in this package, or the file that the
environment variable ``REMOTEMEDIA_LIBRARY`` names.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Callable, Optional, Union, cast

from remotemedia import marshal
from remotemedia.audio import Audio
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
_OBJECTS = ("data", "pipeline", "run", "queue")
_KINDS = {"bytes": 2, "tensor": 3, "audio": 4}
#: How long the library works before Python gets to look for signals, in milliseconds.
_SLICE_MS = 50


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
        abi = self.lib.rm_abi_version()
        if abi >> 16 != _ABI_MAJOR or abi & 0xFFFF < _ABI_MINOR:
            raise LibraryNotFoundError(
                f"{self.path} has the ABI version {abi >> 16}.{abi & 0xFFFF}, "
                f"this package needs {_ABI_MAJOR}.{_ABI_MINOR}",
                hint="install library and package from the same release",
            )
        self.build_info: dict[str, Any] = json.loads(ffi.string(self.lib.rm_build_info()))
        # Parsed once; a slot is made for every call, since a signal handler or a finaliser may call
        # the library while another call of the same thread is going on.
        self._types = {name: ffi.typeof(f"rm_{name} **") for name in _OBJECTS}
        self._error_slot = ffi.typeof("rm_error **")
        self._view = ffi.typeof("rm_view *")
        self.log_level = 2
        self.queue = self._open_log()

    def _open_log(self) -> Any:
        """A queue for the library's log. No callback: nothing may call into an interpreter that
        is going away."""
        queue = self.out("queue")
        log = self.ffi.addressof(self.lib, "rm_queue_log")
        self.check(self.lib.rm_queue_new, queue)
        self.check(self.lib.rm_set_log, log, queue[0], self.log_level)
        return self.ffi.gc(queue[0], self.lib.rm_queue_free)

    def failure(self, error: Any, kind: type[RemoteMediaError]) -> RemoteMediaError:
        """The exception for an error object, which it frees."""
        length = self.ffi.new("size_t *")
        text = self.lib.rm_error_json(error, length)
        details = json.loads(bytes(self.ffi.buffer(text, length[0])))
        self.lib.rm_error_free(error)
        return from_details(details, kind)

    def check(
        self,
        function: Callable[..., int],
        *arguments: Any,
        kind: type[RemoteMediaError] = RemoteMediaError,
    ) -> int:
        """Calls a function of the library; a failure is raised."""
        error = self.ffi.new(self._error_slot)
        status = function(*arguments, error)
        if status < 0:
            raise self.failure(error[0], kind)
        return status

    def out(self, kind: str) -> Any:
        """A place for an object."""
        return self.ffi.new(self._types[kind])

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
                self.queue = self._open_log()
                return
            if status != _RM_OK:
                return
            fetched = [event.data for event in events[0 : count[0]]]
            for message in map(self.take, fetched):
                _log(message["level"], message["target"], message["message"], message["dropped"])

    # -- values ----------------------------------------------------------------------------------

    def data(self, value: Any, place: str, levels: int) -> Any:
        """An rm_data of a Python value; it is freed with the handle."""
        ffi = self.ffi
        text, parts = marshal.encode(value, place, levels)
        raw = text.encode()
        memory = ffi.from_buffer(raw)
        view = self.view()
        view.json = memory
        view.json_len = len(raw)
        if parts:
            children = [self._part(part) for part in parts]
            pointers = ffi.new("rm_data *[]", children)
            view.children = pointers
            view.child_count = len(children)
        return self._new(view)

    def view(self) -> Any:
        view = self.ffi.new(self._view)
        view.struct_size = self.ffi.sizeof(view[0])
        return view

    def _new(self, view: Any) -> Any:
        null = self.ffi.NULL
        out = self.out("data")
        self.check(self.lib.rm_data_new, view, null, null, out, kind=_Refused)
        return self.ffi.gc(out[0], self.lib.rm_data_free)

    def _part(self, part: marshal.Part) -> Any:
        ffi = self.ffi
        memory = ffi.from_buffer(part.memory)
        view = self.view()
        view.kind = _KINDS[part.kind]
        view.pts_us = _RM_NO_PTS if part.pts_us is None else part.pts_us
        view.data = ffi.cast("void *", memory)
        view.byte_len = len(memory)
        shape = ffi.new("int64_t[]", part.shape)
        meta = b'{"sample_rate": %d}' % part.sample_rate
        meta_text = ffi.from_buffer(meta)
        if part.kind != "bytes":
            view.shape = shape
            view.ndim = len(part.shape)
            view.dtype_code, view.dtype_bits = part.dtype
            view.dtype_lanes = 1
        if part.kind == "audio":
            view.json = meta_text
            view.json_len = len(meta)
        return self._new(view)

    def take(self, data: Any) -> Any:
        """The Python value of an rm_data that is ours, which is freed."""
        return self.value(self.ffi.gc(data, self.lib.rm_data_free))

    def value(self, data: Any) -> Any:
        """The Python value of an rm_data. Arrays are views on its memory and keep it alive."""
        ffi = self.ffi
        view = self.view()
        self.check(self.lib.rm_data_view, data, view)
        kind = view.kind
        if kind == 0:
            text = str(ffi.buffer(view.json, view.json_len), "utf-8")
            children = view.children
            return marshal.decode(text, lambda index: self._child(children[index]))
        if kind == 1:
            return str(ffi.buffer(view.data, view.byte_len), "utf-8")
        if kind == 2:
            return bytes(ffi.buffer(view.data, view.byte_len))

        # The memory lives as long as anything refers to it, and other values may share it: it
        # must not be written to.
        def release(_: Any, data: Any = data) -> None:
            """Keeps the value until its memory is not needed any more."""

        owner = ffi.gc(ffi.cast("char *", view.data), release, view.byte_len)
        memory: Any = memoryview(ffi.buffer(owner, view.byte_len)).toreadonly()
        shape = tuple(ffi.unpack(view.shape, view.ndim)) if view.ndim else ()
        dtype = (view.dtype_code, view.dtype_bits)
        if kind == 3:
            return marshal.tensor(memory, dtype, shape)
        meta = json.loads(str(ffi.buffer(view.json, view.json_len), "utf-8"))
        form = "f" if dtype == (2, 32) else "h"
        # A memoryview cannot be cast to a shape without elements, but NumPy has one.
        empty = 0 in shape
        samples = marshal.tensor(memory, dtype, shape) if empty else memory.cast(form, shape)
        pts = None if view.pts_us == _RM_NO_PTS else view.pts_us / 1_000_000
        return Audio(samples, meta["sample_rate"], pts)

    def _child(self, child: Any) -> Any:
        # Borrowed from its parent, so it gets a reference of its own.
        return self.take(self.lib.rm_data_retain(child))


class _Refused(MarshalError, ValueError):
    """A value that the library refused though this package let it pass."""


_library: Optional[_Library] = None


def _load() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


def _log(level: int, target: str, message: str, dropped: int) -> None:
    import logging

    logger = logging.getLogger("remotemedia")
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        # Without a handler anywhere, logging itself would write to stderr.
        logger.addHandler(logging.NullHandler())
    if dropped:
        logger.warning("%d messages of the native library were lost", dropped)
    number = {1: 40, 2: 30, 3: 20, 4: 10}.get(level, 5)
    logger.getChild(target.replace("::", ".")).log(number, "%s", message)


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
    info = _load().build_info
    return str(info["version"])


def build_info() -> dict[str, Any]:
    """How the native library was built: ``version``, ``abi``, ``target``, ``profile``."""
    return dict(_load().build_info)


def _query(what: str) -> Any:
    library = _load()
    out = library.out("data")
    raw = what.encode()
    library.check(library.lib.rm_runtime_query, library.ffi.NULL, raw, len(raw), out)
    return library.take(out[0])


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

    def __init__(self, manifest: bytes) -> None:
        self.manifest = manifest
        self._library = _load()
        self._handle = self._open()
        self._heavy: Optional[bool] = None

    def _open(self) -> Any:
        library = self._library
        out = library.out("pipeline")
        library.check(
            library.lib.rm_pipeline_new,
            library.ffi.NULL, self.manifest, len(self.manifest), out,
            kind=ManifestError,
        )  # fmt: skip
        return library.ffi.gc(out[0], library.lib.rm_pipeline_free)

    def __reduce__(self) -> Any:
        return prepare, (self.manifest,)

    @property
    def info(self) -> dict[str, Any]:
        """``{"name", "nodes": [{"id", "node_type", "heavy", "source", "sink"}]}``."""
        library = self._library
        out = library.out("data")
        library.check(library.lib.rm_pipeline_info, self._handle, out)
        return dict(library.take(out[0]))

    def _start(self, items: Input, timeout: Optional[float]) -> _Run:
        value = normalise_input(items)
        timeout = normalise_timeout(timeout)
        timeout_ms = -1 if timeout is None else round(timeout * 1000)
        # The batch itself, and a mapping around it, are not levels of the user's.
        data = self._library.data(value, "input", 2 if isinstance(value, dict) else 1)
        try:
            return _Run(self._library, self._handle, data, timeout_ms)
        except RemoteMediaError as error:
            if error.code != "RM_E_FORKED":
                raise
        self._handle = self._open()
        return _Run(self._library, self._handle, data, timeout_ms)

    def run(
        self,
        items: Input = None,
        timeout: Optional[float] = None,
        progress: Optional[ProgressFn] = None,
    ) -> Result:
        """Runs it on these items and waits. See :func:`run_manifest`.

        ``progress(done, total)`` is called about every 50 ms.
        """
        run = self._start(items, timeout)
        try:
            while run.wait(_SLICE_MS) == _RM_AGAIN:
                if progress is not None:
                    report = run.report()
                    progress(report["items_done"], report["items"])
        except BaseException:
            # Ctrl-C, for one: its nodes are cleaned up before it is reported.
            run.close()
            raise
        return run.result()

    async def run_async(self, items: Input = None, timeout: Optional[float] = None) -> Result:
        """Like :meth:`run`, for asyncio: short work is done at once, longer work in a thread.

        Cancelling the awaiting task cancels the run.
        """
        if self._heavy is None:
            self._heavy = any(node["heavy"] for node in self.info["nodes"])
        run = self._start(items, timeout)
        if self._heavy or run.wait(0) == _RM_AGAIN:
            from asyncio import get_running_loop

            try:
                await get_running_loop().run_in_executor(None, run.wait_in_thread)
            except BaseException:
                # The thread may still be at work; the run is freed when it has let go.
                run.cancel()
                raise
        return run.result()


class _Run:
    """One rm_run, and what it gave."""

    def __init__(self, library: _Library, pipeline: Any, data: Any, timeout_ms: int) -> None:
        self._library = library
        out = library.out("run")
        library.check(
            library.lib.rm_run_start, pipeline, data, timeout_ms, out, kind=MarshalValueError
        )
        self._handle = library.ffi.gc(out[0], library.lib.rm_run_free)
        self._outputs: Any = None

    def wait(self, milliseconds: int) -> int:
        """Works for that long; _RM_OK when it is complete, else _RM_AGAIN."""
        library = self._library
        out = library.out("data")
        try:
            status = library.check(
                library.lib.rm_run_wait, self._handle, milliseconds, out, library.ffi.NULL
            )
            if status == _RM_OK:
                self._outputs = library.take(out[0])
            return status
        finally:
            library.drain_log()

    def wait_in_thread(self) -> None:
        while self.wait(_SLICE_MS) == _RM_AGAIN:
            pass

    def report(self) -> dict[str, Any]:
        library = self._library
        out = library.out("data")
        library.check(library.lib.rm_run_report, self._handle, out)
        return dict(library.take(out[0]))

    def result(self) -> Result:
        """What it gave, once it is complete. The metrics are read when somebody asks."""
        return Result(self._outputs, "native", self.report)

    def cancel(self) -> None:
        self._library.lib.rm_run_cancel(self._handle)

    def close(self) -> None:
        """Ends the run now rather than with the last reference."""
        self._library.ffi.release(self._handle)


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

    A str is JSON text if it begins with a brace, or if there is no file of this name.
    """
    if isinstance(manifest, bytes):
        return manifest
    if isinstance(manifest, str):
        short = len(manifest) < 4096 and "\n" not in manifest and "\0" not in manifest
        if not (short and not manifest.lstrip().startswith("{") and os.path.isfile(manifest)):
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
    with open(manifest, "rb") as file:
        return file.read()


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
