"""Nodes that run in a process of their own.

In the run a :class:`Worker` stands for the node. It starts the process, with ``spawn`` and so
without anything of this process's threads and locks, sends the node over as a pickle, and asks it
for one thing after the other: a call and its answer go over a pipe. Values are text
(``marshal.py``); arrays, audio and bytes go through one piece of shared memory, from which each
side copies what is for it. Only this side makes and removes that, so nothing is left behind
whatever becomes of the process.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from remotemedia import marshal
from remotemedia.core.engine import GRACE, Several, described, part_value
from remotemedia.core.node import Node
from remotemedia.errors import NodeError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.shared_memory import SharedMemory

__all__ = ["RemoteTraceback", "Worker"]

#: Parts begin at multiples of this many bytes, as arrays like it.
_ALIGN = 64
_GUARD = 'put what starts the run under: if __name__ == "__main__":'


class RemoteTraceback(Exception):
    """Where an exception of another process came from: the ``__cause__`` of that exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Worker(Node):
    """Stands for a node that runs in a process of its own.

    Its methods block; they are called in one thread, but for :meth:`kill`.
    """

    runs_in = "process"

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self._node = node
        self._process: Optional[BaseProcess] = None
        self._pipe: Optional[Connection] = None
        self._memory: Optional[SharedMemory] = None
        self._killed = False
        if hasattr(node, "interrupt"):
            self.interrupt = partial(self._ask, "interrupt")

    @property
    def params(self) -> Mapping[str, Any]:
        return self._node.params

    @property
    def node_type(self) -> str:
        return self._node.node_type

    def initialize(self) -> None:
        try:
            self._start()
            self._ask("initialize")
        except BaseException:
            self._stop()
            raise

    def process(self, value: Any) -> Several:
        return self._ask("process", value)

    def flush(self) -> Several:
        return self._ask("flush")

    def _set_params(self, params: dict[str, Any]) -> None:
        self._send(_pickled(params, f"what is set of {self.node_type}", "set what can be pickled"))
        self._answer()
        # For the next process.
        self._node._set_params(params)

    def cleanup(self) -> None:
        try:
            if self._is_alive():
                self._ask("cleanup")
        finally:
            self._stop()

    def kill(self) -> None:
        """Ends the process in the middle of whatever it does; from any thread."""
        self._killed = True
        process = self._process
        if process is not None:
            # It may have been closed this very moment.
            with suppress(ValueError):
                process.kill()

    # --- the process ------------------------------------------------------------------------------

    def _start(self) -> None:
        import multiprocessing

        self._killed = False
        pickled = self._pickled_node()
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise NodeError("a process that is only starting cannot start another", hint=_GUARD)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs,), name=f"remotemedia-{self.name}", daemon=True
        )
        with theirs, _WithoutCtrlC():
            process.start()
        self._process = process
        if self._killed:
            process.kill()
        self._send(pickled)
        self._answer()

    def _pickled_node(self) -> bytes:
        node = self._node
        main = sys.modules.get("__main__")
        if type(node).__module__ == "__main__" and not hasattr(main, "__file__"):
            raise NodeError(
                f"{node.node_type} cannot go to another process: it is defined where no other "
                "process can import it from",
                hint="define it in a module of its own, and import it from there",
            )
        return _pickled(
            node,
            node.node_type,
            "define it at the module level, give it parameters that can be pickled, and make "
            "everything else in initialize()",
        )

    def _is_alive(self) -> bool:
        return not self._killed and self._process is not None and self._process.is_alive()

    def _revive(self) -> None:
        if not self._is_alive():
            self._stop()
            self.initialize()

    def _ask(self, method: str, *values: Any) -> Several:
        text, parts = marshal.encode(list(values), "input", 1)
        size = _size(parts)
        memory = self._room(size) if size else None
        self._send((method, text, _copied_in(parts, self._memory), memory))
        text, parts = self._answer()
        return Several(_decoded(text, parts, self._memory))

    def _send(self, message: Any) -> None:
        assert self._pipe is not None
        # If it has ended, waiting for the answer will tell.
        with suppress(OSError):
            self._pipe.send(message)

    def _answer(self) -> tuple[bytes, list[marshal.Part]]:
        """Waits for the process, until it has answered."""
        from multiprocessing.connection import wait

        assert self._pipe is not None
        assert self._process is not None
        while True:
            wait([self._pipe, self._process.sentinel])
            try:
                # What it said before it ended comes first.
                kind, *answer = self._pipe.recv() if self._pipe.poll() else ("ended",)
            except (EOFError, OSError):
                kind, answer = "ended", []
            if kind == "done":
                return answer[0], answer[1]
            if kind == "room":
                self._send(self._room(answer[0]))
            elif kind == "error":
                raise _raised(*answer)
            else:
                raise self._died()

    def _died(self) -> NodeError:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        how = f"ended with exit code {code}"
        if code < 0:
            import signal

            with suppress(ValueError):
                how = f"was killed by {signal.Signals(-code).name}"
        return NodeError(
            f"the process of the node {how}",
            hint=f"stderr may say why; if it has not even begun, {_GUARD}",
        )

    def _stop(self) -> None:
        """Ends the process if it has not ended, and releases everything. Can be called again."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        memory, self._memory = self._memory, None
        try:
            if pipe is not None:
                # The end of the pipe tells the process to end.
                pipe.close()
            if process is not None:
                if not self._killed:
                    process.join(GRACE)
                process.kill()
                process.join()
                process.close()
        finally:
            _remove(memory)

    # --- shared memory ----------------------------------------------------------------------------

    def _room(self, size: int) -> str:
        """Makes the shared memory at least so large; its name. What was in it is gone."""
        if self._memory is None or self._memory.size < size:
            from multiprocessing.shared_memory import SharedMemory

            memory, self._memory = self._memory, None
            _remove(memory)
            self._memory = SharedMemory(create=True, size=max(size, 1 << 16))
            descriptor = getattr(self._memory, "_fd", -1)
            if descriptor >= 0 and hasattr(os, "posix_fallocate"):
                try:
                    # Or writing to it would end the process where there is not enough.
                    os.posix_fallocate(descriptor, 0, size)
                except OSError as error:
                    memory, self._memory = self._memory, None
                    _remove(memory)
                    raise NodeError(
                        f"no shared memory for {size} bytes: {error.strerror}",
                        hint="make /dev/shm larger (docker run --shm-size), "
                        "or give the node smaller values",
                    ) from error
        return self._memory.name


class _WithoutCtrlC:
    """A process that is started in this block does not get Ctrl-C, which is for the parent."""

    def __enter__(self) -> None:
        self._before: Any = None
        if hasattr(os, "fork"):
            import signal
            from multiprocessing import resource_tracker

            # Starting it would undo the mask.
            resource_tracker.ensure_running()
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import signal

            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def _remove(memory: Optional[SharedMemory]) -> None:
    if memory is not None:
        memory.close()
        with suppress(FileNotFoundError):
            memory.unlink()


def _pickled(value: Any, what: str, hint: str) -> bytes:
    """What goes to the process as it is: the node, and parameters that are set."""
    try:
        return pickle.dumps(value)
    except Exception as error:
        text = f"{what} cannot go to another process: {described(error)}"
        raise NodeError(text, hint=hint) from error


def _size(parts: list[marshal.Part]) -> int:
    """How much shared memory the parts take."""
    return sum(-(-memoryview(part.memory).nbytes // _ALIGN) * _ALIGN for part in parts)


def _copied_in(parts: list[marshal.Part], memory: Optional[SharedMemory]) -> list[marshal.Part]:
    """The parts with their places in the shared memory, to which they are copied."""
    placed = []
    start = 0
    for part in parts:
        size = memoryview(part.memory).nbytes
        if size:
            assert memory is not None
            assert memory.buf is not None
            with memory.buf[start : start + size] as target:
                target[:] = memoryview(part.memory).cast("B")
        placed.append(part._replace(memory=(start, size)))
        start += -(-size // _ALIGN) * _ALIGN
    return placed


def _decoded(text: bytes, parts: list[marshal.Part], memory: Optional[SharedMemory]) -> Any:
    """The values, with copies of what is in the shared memory."""

    def part(index: int) -> Any:
        start, size = parts[index].memory
        copy = bytearray()
        if size:
            assert memory is not None
            assert memory.buf is not None
            with memory.buf[start : start + size] as source:
                copy = bytearray(source)
        return part_value(parts[index]._replace(memory=copy))

    return marshal.decode(text, part)


def _raised(pickled: Optional[bytes], text: str, traceback: str) -> BaseException:
    """The exception that was raised in the process."""
    error: BaseException = NodeError(text)
    if pickled is not None:
        # Its class may be one that only the process can import.
        with suppress(Exception):
            error = pickle.loads(pickled)  # noqa: S301  of our own making
    error.__cause__ = RemoteTraceback(traceback)
    return error


# --- in the process -------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    """What the process does, until the other end of the pipe is closed."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _Server(pipe).serve()
    _leave()


def _leave() -> NoReturn:
    """Ends the process as Python does: threads, what was registered with ``atexit``, streams. But
    not by taking the interpreter to pieces, which takes far longer, while the run waits for it."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            # There may be none, or nobody who reads it.
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
    finally:
        os._exit(0)


class _Server:
    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.memory: Optional[SharedMemory] = None
        self.node: Any = None
        self.loop: Any = None

    def serve(self) -> None:
        while True:
            message = self.pipe.recv()
            try:
                if isinstance(message, bytes):
                    self.take(pickle.loads(message))  # noqa: S301  of our own making
                    answer: Any = ("done", marshal.encode([])[0], [])
                else:
                    answer = self.call(*message)
            except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
                answer = ("error", *_told(error))
            self.pipe.send(answer)

    def take(self, sent: Any) -> None:
        """Takes the node, or new parameters for it."""
        if self.node is None:
            self.node = sent
        else:
            self.node._set_params(sent)

    def call(
        self, method: str, text: bytes, parts: list[marshal.Part], memory: Optional[str]
    ) -> Any:
        self.attach(memory)
        values = _decoded(text, parts, self.memory)
        outputs = self.collected(getattr(self.node, method)(*values))
        text, parts = marshal.encode(outputs, "output", 1)
        size = _size(parts)
        if size > (self.memory.size if self.memory else 0):
            self.pipe.send(("room", size))
            self.attach(self.pipe.recv())
        return "done", text, _copied_in(parts, self.memory)

    def attach(self, name: Optional[str]) -> None:
        """Uses the shared memory of this name."""
        if name is not None and (self.memory is None or self.memory.name != name):
            from multiprocessing.shared_memory import SharedMemory

            if self.memory is not None:
                self.memory.close()
            self.memory = SharedMemory(name)

    def collected(self, result: Any) -> list[Any]:
        """What a method gave, as values one by one."""
        if isinstance(result, GeneratorType):
            return list(result)
        if isinstance(result, AsyncGeneratorType):
            return self.waited(_collected(result))  # type: ignore[no-any-return]
        if hasattr(result, "__await__"):
            return self.collected(self.waited(_awaited(result)))
        return [] if result is None else [result]

    def waited(self, work: Any) -> Any:
        if self.loop is None:
            import asyncio

            self.loop = asyncio.new_event_loop()
        return self.loop.run_until_complete(work)


async def _collected(values: AsyncGeneratorType[Any, Any]) -> list[Any]:
    return [value async for value in values]


async def _awaited(result: Any) -> Any:
    return await result


def _told(error: BaseException) -> tuple[Optional[bytes], str, str]:
    """The exception as a pickle if it can be one, in one line, and with its traceback."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    line = described(error) if isinstance(error, Exception) else type(error).__name__
    try:
        pickled: Optional[bytes] = pickle.dumps(error)
        # Some can be written, but not read.
        pickle.loads(pickled)  # type: ignore[arg-type]  # noqa: S301
    except Exception:  # noqa: BLE001  users' code may raise anything
        pickled = None
    return pickled, line, text
