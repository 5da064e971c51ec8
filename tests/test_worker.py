"""Nodes in a process of their own: values, errors, death, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import atexit
import glob
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, Optional

import pytest

from remotemedia import (
    Audio,
    MarshalError,
    Node,
    NodeError,
    Pipeline,
    RunTimeoutError,
    node,
)

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")


@node(process=True)
def where(value: Any) -> Any:
    return os.getpid()


@node(process=True)
def same(value: Any) -> Any:
    return value


@node(process=True)
def pairs(value: Any) -> Any:
    yield value
    yield None
    yield [value]


@node(process=True)
async def waits(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value + 1


@node(process=True)
async def drips(value: Any) -> Any:
    yield value
    await asyncio.sleep(0.001)
    yield value + 1


@node(process=True)
def larger(value: Any) -> Any:
    import numpy

    return [numpy.repeat(value, 100), {"a": value + 1}]


class Custom(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Unreadable(Exception):
    def __init__(self, code: int, more: int) -> None:
        super().__init__("cannot be made anew")


@node(process=True)
def fails(value: Any) -> Any:
    if value == "custom":
        raise Custom(7)
    if value == "unreadable":
        raise Unreadable(1, 2)
    if value == "node":
        raise NodeError("no", hint="say yes", code="RM_E_DENIED")
    if value == "output":
        return object()
    if value == "exit":
        os._exit(3)
    if value == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "system":
        raise SystemExit(4)
    if value == "keyboard":
        raise KeyboardInterrupt
    if value == "sleep":
        time.sleep(60)
    return value


class Life(Node, process=True):
    """Writes down what happens to it, in a file."""

    def __init__(self, path: str, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.path = path
        self.by = 0

    def note(self, what: str) -> None:
        with open(self.path, "a") as file:
            file.write(f"{what}\n")

    def initialize(self) -> None:
        self.held: list[Any] = []
        self.note("initialize")

    def process(self, value: Any) -> None:
        if value == "sleep":
            time.sleep(60)
        if value == "fail":
            raise ValueError("told to")
        self.held.append(value)

    def flush(self) -> Any:
        return self.held

    def interrupt(self) -> None:
        self.note("interrupt")

    def cleanup(self) -> None:
        self.note("cleanup")


class Departs(Node, process=True):
    """Leaves all kinds of things for the end of its process."""

    def __init__(self, path: str, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.path = path

    def note(self, what: str) -> None:
        with open(self.path, "a") as file:
            file.write(f"{what}\n")

    def work_on(self) -> None:
        self.cleaned_up.wait()
        self.note("thread")

    def initialize(self) -> None:
        self.cleaned_up = threading.Event()
        atexit.register(self.note, "atexit")
        threading.Thread(target=self.work_on).start()

    def process(self, value: Any) -> Any:
        # A file is written to in large pieces.
        sys.stdout = open(f"{self.path}.out", "w")  # noqa: SIM115  the end of the process closes it
        print("written")
        return value

    def cleanup(self) -> None:
        self.cleaned_up.set()


@node(process=True)
def scale(value: Any, factor: int = 1) -> Any:
    return value * factor


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Any:
    threads = threading.active_count()
    # Shared memory of this process only: others may run the same tests.
    prefix = f"/rm{os.getpid()}"
    monkeypatch.setattr(shared_memory, "_SHM_NAME_PREFIX", prefix)
    yield
    assert multiprocessing.active_children() == []
    assert glob.glob(f"/dev/shm{prefix}*") == []
    # A thread that was told to end may still be ending.
    for thread in threading.enumerate():
        if thread.name.startswith("remotemedia"):
            thread.join(10)
    assert threading.active_count() == threads


def run(items: Any, *nodes: Node, **options: Any) -> Any:
    return Pipeline("p", nodes).run_sync(items, use_rust=False, **options)


def test_one_process_per_node_and_run() -> None:
    [first, again], [other, _] = run([1, 2], where()), run([1, 2], where())
    assert first == again != os.getpid()
    assert other not in (first, os.getpid())
    a, b = run([1], where()), run([1], where())
    assert a != b
    assert len({*run([1], where()), *run([1], where())}) == 2


def test_values_cross() -> None:
    numpy = pytest.importorskip("numpy")
    audio = Audio(numpy.arange(6, dtype="float32").reshape(3, 2), 8000, pts=0.5)
    given = [
        None, True, 1, -(2**63), 2**64 - 1, 1.5, float("inf"), "text", "\u00fc", b"bytes", b"",
        [1, [2]], {"a": {"$rm": 1}}, {"$rm": [b"x"]}, audio, [audio, b"y", audio],
    ]  # fmt: skip
    [*plain] = run(given, same())
    # None is nothing where it is returned.
    assert plain == given[1:]
    arrays = [
        numpy.ones(shape, dtype)
        for dtype in ("bool", "int8", "uint64", "float16", "float64", "complex64", ">i4")
        for shape in ((), (0,), (3,), (2, 3), (2, 0, 3))
    ]
    arrays.append(numpy.arange(12).reshape(3, 4)[:, ::2])
    for array, result in zip(arrays, run(arrays, same())):
        assert result.dtype == array.dtype.newbyteorder("=")
        assert result.shape == array.shape
        assert (result == array).all()
        assert result.flags.writeable or not result.size


def test_arrays_of_any_size() -> None:
    numpy = pytest.importorskip("numpy")
    sizes = [10, 10_000, 3, 30_000]
    outputs = run([numpy.arange(size) for size in sizes], larger())
    for size, (long, more) in zip(sizes, outputs):
        assert (long == numpy.repeat(numpy.arange(size), 100)).all()
        assert (more["a"] == numpy.arange(size) + 1).all()


def test_arrays_are_not_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    from multiprocessing.reduction import ForkingPickler

    sizes = []
    dumps = ForkingPickler.dumps

    def noted(value: Any, *rest: Any) -> Any:
        made = dumps(value, *rest)
        sizes.append(len(made))
        return made

    monkeypatch.setattr(ForkingPickler, "dumps", noted)
    [result] = run([numpy.zeros(1_000_000)], same())
    assert result.shape == (1_000_000,)
    assert sizes
    assert max(sizes) < 10_000


@pytest.mark.parametrize("kind", [pairs, waits, drips])
def test_every_kind_of_method(kind: Any) -> None:
    expected = {
        "pairs": [1, None, [1], 2, None, [2]],
        "waits": [2, 3],
        "drips": [1, 2, 2, 3],
    }
    assert run([1, 2], kind()) == expected[kind.__name__]

    async def main() -> Any:
        return await Pipeline("p", [kind()]).run([1, 2], use_rust=False)

    assert asyncio.run(main()) == expected[kind.__name__]


@pytest.mark.parametrize("fail", [False, True])
def test_life(fail: bool, tmp_path: Path) -> None:
    path = tmp_path / "log"
    life = Life(str(path))
    if fail:
        with pytest.raises(NodeError, match="ValueError: told to"):
            run([1, "fail"], life)
    else:
        assert run([1, 2], life) == [[1, 2]]
    assert path.read_text().split() == ["initialize", "cleanup"]
    # What it collects stays in the other process.
    assert not hasattr(life, "held")


@pytest.mark.parametrize("rust", [False, True])
def test_its_process_does_what_is_left_for_its_end(rust: bool, tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert Pipeline("p", [Departs(str(path))]).run_sync([1], use_rust=rust) == [1]
    assert path.read_text().split() == ["thread", "atexit"]
    assert (tmp_path / "log.out").read_text() == "written\n"


# --- errors ---------------------------------------------------------------------------------------


def test_exceptions_come_back() -> None:
    with pytest.raises(NodeError, match="Custom: 7") as caught:
        run([1, "custom"], fails(name="f"))
    assert (caught.value.node, caught.value.item) == ("f_0", 1)
    cause = caught.value.__cause__
    assert isinstance(cause, Custom)
    assert cause.code == 7
    assert "raise Custom(7)" in str(cause.__cause__)
    with pytest.raises(NodeError, match="Unreadable: cannot be made anew") as caught:
        run(["unreadable"], fails())
    assert "raise Unreadable(1, 2)" in str(caught.value.__cause__)
    with pytest.raises(NodeError) as caught:
        run(["node"], fails(name="f"))
    error = caught.value
    assert (error.message, error.hint, error.code) == ("no", "say yes", "RM_E_DENIED")
    assert (error.node, error.item) == ("f_0", 0)
    with pytest.raises(NodeError, match="output") as caught:
        run(["output"], fails())
    assert isinstance(caught.value.__cause__, MarshalError)


@posix
@pytest.mark.parametrize(
    ("how", "message"),
    [("exit", "ended with exit code 3"), ("kill", "was killed by SIGKILL")],
)
def test_a_process_that_dies_is_an_error_at_once(how: str, message: str) -> None:
    with pytest.raises(NodeError, match=message) as caught:
        run([1, how, 2], fails(name="f"), timeout=60)
    assert (caught.value.node, caught.value.item) == ("f_0", 1)
    # If the run does not mind, there is a new process for the next value.
    result = run([1, how, 2], fails(name="f").options(on_error="skip"))
    assert result == [1, 2]
    assert result.metrics["nodes"]["f_0"]["errors"] == 1


@pytest.mark.parametrize(("how", "kind"), [("system", SystemExit), ("keyboard", KeyboardInterrupt)])
def test_interrupts_keep_their_meaning(how: str, kind: Any) -> None:
    with pytest.raises(kind) as caught:
        run([how], fails())
    assert kind is KeyboardInterrupt or caught.value.code == 4


def test_what_cannot_be_pickled() -> None:
    @node(process=True)
    def local(value: Any) -> Any:
        return value

    with pytest.raises(NodeError, match="local cannot go to another process") as caught:
        run([1], local(name="l"))
    assert caught.value.node == "l_0"
    assert "at the module level" in str(caught.value.hint)
    with pytest.raises(NodeError, match="Life cannot go to another process"):
        run([1], Life(threading.Lock()))  # type: ignore[arg-type]


MAIN = """
    import time
    from remotemedia import NodeError, Pipeline, node

    @node(process=True)
    def double(value):
        if value == "sleep":
            print("asleep", flush=True)
            time.sleep(60)
        return value * 2

    def main():
        print(Pipeline("p", [double()]).run_sync([{value}], use_rust=False))
"""


def in_file(tmp_path: Path, value: str, ending: str) -> list[str]:
    path = tmp_path / "script.py"
    code = textwrap.dedent(MAIN).replace("{value}", value) + textwrap.dedent(ending)
    path.write_text(code)
    return [sys.executable, str(path)]


def test_main_with_a_guard(tmp_path: Path) -> None:
    command = in_file(tmp_path, "4", "if __name__ == '__main__':\n    main()\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[8]\n", "")


def test_main_without_a_guard(tmp_path: Path) -> None:
    command = in_file(tmp_path, "4", "main()\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a process that is only starting cannot start another" in done.stderr
    assert "the process of the node ended with exit code 1" in done.stderr
    assert done.stderr.rstrip().endswith('if __name__ == "__main__":')


def test_main_without_a_file() -> None:
    code = textwrap.dedent(MAIN).replace("{value}", "4") + "main()\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "it is defined where no other process can import it from" in done.stderr
    assert "define it in a module of its own" in done.stderr


# --- ways out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "value"])
def test_timeout(how: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    life = Life(str(path), name="l")
    if how == "run":
        # With time for the process to begin.
        with pytest.raises(RunTimeoutError, match="not complete") as caught:
            run(["sleep"], life, timeout=5)
        assert caught.value.node == "l_0"
        # It was ended in the middle of its work.
        assert path.read_text().split() == ["initialize"]
    else:
        assert run(["sleep", 1], life.options(timeout=0.05, on_error="skip")) == [[1]]
        assert path.read_text().split() == ["initialize", "initialize", "cleanup"]


def test_cancel_and_leave(tmp_path: Path) -> None:
    async def main(leave: bool) -> None:
        async with Pipeline("p", [fails()]).open(use_rust=False) as run:
            await run.send("sleep")
            with pytest.raises(RunTimeoutError):
                await run.recv(timeout=0.05)
            if not leave:
                raise ZeroDivisionError

    asyncio.run(main(leave=True))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main(leave=False))
    with Pipeline("p", [fails()]).open(use_rust=False) as run:
        run.push("sleep")
        assert run.pull_many(timeout=0.05) == []


def test_interrupt_and_set(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Pipeline("p", [Life(str(path)), scale(name="s")]).open(use_rust=False) as run:
        run.push("a")
        while not run.metrics["items_done"]:
            run.pull_many(timeout=0.01)
        run.set("s_1", factor=2)
        run.interrupt()
        run.push("b")
        run.end()
        # It is the same process, with what it holds.
        assert [output.value for output in run] == [["a", "b", "a", "b"]]
    assert path.read_text().split() == ["initialize", "interrupt", "cleanup"]


def test_set_is_for_the_process_and_for_the_next_one() -> None:
    scales = scale(name="s")
    pipeline = Pipeline("p", [scales])
    with pipeline.open(use_rust=False) as run:
        run.push(1)
        run.set("s_0", factor=5)
        run.push(1)
        assert [run.pull().value for _ in range(2)] == [1, 5]
        assert scales.params == {"factor": 5}
    # As in a node in this process, it stays.
    assert pipeline.run_sync([2], use_rust=False) == [10]


class Mortal(Node, process=True):
    def __init__(self, path: Any = None, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.path = path

    def process(self, value: Any) -> Any:
        if value == "exit":
            os._exit(3)
        return repr(self.path)


def test_what_was_set_survives_the_process() -> None:
    mortal = Mortal(name="m").options(on_error="skip")
    with Pipeline("p", [mortal]).open(use_rust=False) as run:
        # Like the arguments of the constructor it may be anything that can be pickled.
        run.set("m_0", path=(Path("a"), 1))
        run.push_many([1, "exit", 2])
        expected = repr((Path("a"), 1))
        assert [run.pull().value for _ in range(2)] == [expected, expected]
        assert mortal.params == {"path": (Path("a"), 1)}
        run.set("m_0", path=threading.Lock())
        run.push(1)
        with pytest.raises(NodeError, match="what is set of Mortal cannot go to another process"):
            run.pull()


@posix
@pytest.mark.parametrize("group", [False, True])
def test_ctrl_c(group: bool, tmp_path: Path) -> None:
    ending = """
        if __name__ == "__main__":
            try:
                main()
            except KeyboardInterrupt:
                import multiprocessing
                print("interrupted", multiprocessing.active_children())
    """
    command = in_file(tmp_path, '"sleep"', ending)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    # In a terminal every process of the group gets it.
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("interrupted []\n", "")


@posix
def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    ending = """
        if __name__ == "__main__":
            with Pipeline("p", [double()]).open(use_rust=False) as run:
                run.push(1)
                print(run.pull().value, flush=True)
                time.sleep(60)
    """
    command = in_file(tmp_path, "1", ending)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        process.kill()
        # It comes to an end when the last process has ended that has it.
        assert process.stdout.read() == ""


@posix
def test_a_forked_child_leaves_the_process_alone(tmp_path: Path) -> None:
    ending = """
        if __name__ == "__main__":
            import gc, os
            with Pipeline("p", [double()]).open(use_rust=False) as run:
                run.push(b"x")
                assert run.pull().value == b"xx"
                child = os.fork()
                if child:
                    print("child", os.waitpid(child, 0)[1], flush=True)
                    run.push(b"y")
                    print(run.pull().value, flush=True)
            if not child:
                del run
                gc.collect()
                os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *in_file(tmp_path, "1", ending)[1:]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("child 0\nb'yy'\n", "")


@posix
def test_no_room_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NodeError, match="no shared memory for 8000 bytes: No space left") as caught:
        run([numpy.zeros(1000)], same())
    assert "/dev/shm" in str(caught.value.hint)


def test_multiprocessing_is_imported_only_when_used() -> None:
    code = """
        import sys
        from remotemedia import Pipeline, node
        @node(thread=True)
        def double(value):
            return value * 2
        assert Pipeline("p", [double()]).run_sync([1], use_rust=False) == [2]
        assert "multiprocessing" not in sys.modules
        assert "remotemedia.core.worker" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
