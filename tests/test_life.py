"""Life and death of processes: exit, Ctrl-C, fork, a missing library, a clean import."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from remotemedia import native

available = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PASS = '{"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}'
SLOW = (
    '{"version": "v1", "nodes": [{"id": "n", "node_type": "Delay", "params": {"seconds": 0.01}}]}'
)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, away from the source tree."""
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        cwd=os.path.dirname(os.path.abspath(sys.executable)),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_import_is_light() -> None:
    done = python(
        """
        import sys
        import remotemedia
        heavy = {"numpy", "asyncio", "logging", "inspect", "dataclasses", "multiprocessing"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@available
def test_a_run_of_builtin_nodes_needs_no_other_way() -> None:
    """What belongs to the Python engine, to nodes in Python and to sessions comes with those."""
    done = python(
        """
        import sys
        from remotemedia import Pipeline
        from remotemedia.nodes import AddNode
        assert Pipeline("p", [AddNode(addend=1)]).run_sync([1]) == [2]
        others = ["engine", "host", "hosted", "join", "manifest", "session", "stream", "worker"]
        print([name for name in others if f"remotemedia.core.{name}" in sys.modules])
        import remotemedia
        assert {"Session", "AsyncSession", "Output"} < set(dir(remotemedia))
        from remotemedia import AsyncSession, Output, Session
        assert Output.__module__ == "remotemedia.core.session"
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@available
def test_a_sync_run_needs_neither_numpy_nor_asyncio() -> None:
    done = python(
        f"""
        import sys
        import remotemedia
        assert remotemedia.native.run_manifest({PASS!r}, [1, "a", b"b"]) == [1, "a", b"b"]
        print(sorted({{"numpy", "asyncio"}} & set(sys.modules)))
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@available
def test_a_hundred_processes_exit_cleanly() -> None:
    code = f"""
        from remotemedia import native
        prepared = native.prepare({PASS!r})
        kept = prepared.run([1, b"x", {{"a": [b"y"]}}])
        assert kept == [1, b"x", {{"a": [b"y"]}}]
    """
    waiting = []
    outcomes = []
    for number in range(100):
        command = [sys.executable, "-c", textwrap.dedent(code)]
        waiting.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        if len(waiting) == 4 or number == 99:
            for process in waiting:
                output, _ = process.communicate(timeout=60)
                outcomes.append((process.returncode, output))
            waiting = []
    assert outcomes == [(0, b"")] * 100


@available
@pytest.mark.parametrize("how", ["sys.exit(3)", "os._exit(3)", "raise SystemExit(3)"])
def test_exit_with_a_run_in_another_thread(how: str) -> None:
    done = python(
        f"""
        import os, sys, threading, time
        from remotemedia import native
        run = lambda: native.run_manifest({SLOW!r}, range(100_000))
        threading.Thread(target=run, daemon=True).start()
        time.sleep(0.1)
        {how}
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@available
@posix
def test_ctrl_c_ends_a_run() -> None:
    code = f"""
        from remotemedia import native
        print("begun", flush=True)
        try:
            native.run_manifest({SLOW!r}, range(100_000))
        except KeyboardInterrupt:
            print("interrupted", native.handles()["rm_run"])
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=30)
    assert output == "interrupted 0\n"
    assert time.monotonic() - begun < 5


@available
@posix
def test_ctrl_c_out_of_an_event_loop_does_not_hold_up_the_exit() -> None:
    code = f"""
        import asyncio
        from remotemedia import native
        print("begun", flush=True)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(native.run_manifest_async({SLOW!r}, range(100_000)))
        except KeyboardInterrupt:
            print("interrupted")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert output == "interrupted\n"


def _in_child(prepared: Any) -> list[Any]:
    return [list(prepared.run([1])), list(native.run_manifest(PASS, [2])), os.getpid()]


@available
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_work_after_use(method: str) -> None:
    prepared = native.prepare(PASS)
    assert prepared.run([0]) == [0]
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        results = pool.map_async(_in_child, [prepared] * 4).get(timeout=60)
    for first, second, pid in results:
        assert (first, second) == ([1], [2]) and pid != os.getpid()


@available
@posix
def test_a_result_from_before_a_fork_is_whole() -> None:
    done = python(
        f"""
        import os, pickle
        from remotemedia import native
        result = native.run_manifest({PASS!r}, [1, b"x"])
        child = os.fork()
        if child == 0:
            copy = pickle.loads(pickle.dumps(result))
            os._exit(0 if copy == result and result.by_node == {{"n": [1, b"x"]}} else 1)
        print(os.waitpid(child, 0)[1])
        """
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@available
@posix
def test_a_fork_in_the_middle_of_other_threads_runs() -> None:
    done = python(
        f"""
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from remotemedia import native
        prepared = native.prepare({PASS!r})
        stop = threading.Event()
        def work():
            while not stop.is_set():
                prepared.run(list(range(20)))
                native.prepare({SLOW!r})
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            child = os.fork()
            if child == 0:
                import signal
                signal.alarm(20)
                good = prepared.run([1]) == [1] and native.run_manifest({PASS!r}, [2]) == [2]
                os._exit(0 if good else 1)
            status = os.waitpid(child, 0)[1]
            assert status == 0, status
        stop.set()
        print("good")
        """
    )
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_without_the_library(tmp_path: Path) -> None:
    done = python(
        """
        import asyncio, warnings
        from remotemedia import LibraryNotFoundError, native
        from remotemedia.core.pipeline import Pipeline
        from remotemedia.nodes.base import PassThroughNode
        from remotemedia.nodes.calculator import CalculatorNode

        assert not native.is_available()
        for call in (native.version, native.list_nodes, lambda: native.run_manifest("{}")):
            try:
                call()
            except LibraryNotFoundError as error:
                assert isinstance(error, ImportError) and "REMOTEMEDIA_LIBRARY" in str(error)
            else:
                raise AssertionError(call)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                pipeline = Pipeline(name="test")
                pipeline.add_node(PassThroughNode(name="pass1"))
                pipeline.add_node(CalculatorNode(name="calc", operation="add", operand=5))
                pipeline.add_node(PassThroughNode(name="pass2"))
                result = asyncio.run(pipeline.run(input_data=[1, 2, 3], use_rust=True))
                assert result == [6, 7, 8] and result.engine == "python"
        print([str(warning.category.__name__) for warning in caught])
        """,
        REMOTEMEDIA_LIBRARY=str(tmp_path / "libmissing.so"),
    )
    assert (done.stdout, done.stderr) == ("['RuntimeWarning']\n", "")


def test_a_library_of_another_kind_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "libfake.so"
    fake.write_bytes(b"not a library")
    done = python(
        """
        from remotemedia import native
        try:
            native.version()
        except ImportError as error:
            print(type(error).__name__)
        """,
        REMOTEMEDIA_LIBRARY=str(fake),
    )
    assert (done.stdout, done.stderr) == ("LibraryNotFoundError\n", "")


def test_a_batch_whose_event_loop_was_closed_is_released() -> None:
    done = python("""
        import asyncio, gc
        from remotemedia import Node, Pipeline, native

        class Waits(Node):
            async def process(self, value):
                await asyncio.sleep(60)

        async def main():
            asyncio.ensure_future(Pipeline("p", [Waits()]).run([1, 2]))
            await asyncio.sleep(0.01)

        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            gc.collect()
        print(native.handles()["rm_run"])
    """)
    # asyncio itself says that its tasks were destroyed.
    assert (done.stdout, "RuntimeError" in done.stderr, done.returncode) == ("0\n", False, 0)
