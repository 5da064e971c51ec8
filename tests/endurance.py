"""Breaks runs and sessions off in every way there is, again and again, and ends processes in the
midst of them: control comes back at once, nothing is lost, and nothing is left behind.

    cd tests && ../.venv/bin/python endurance.py             # everything
    ../.venv/bin/python endurance.py "ctrl-c" --rounds 100   # what has this in its name
    ../.venv/bin/python endurance.py --list

test_endurance.py does the same in small. Everything here uses what the package offers to anybody,
and nothing depends on which engine runs a pipeline.
"""

# ruff: noqa: PT017  much of it runs in processes without pytest

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, ClassVar, NamedTuple, Optional

from conftest import cancel_at_random

from remotemedia import (
    Audio,
    Node,
    Pipeline,
    RemoteMediaError,
    RunCancelledError,
    RunTimeoutError,
    native,
)
from remotemedia.nodes import AddNode, AudioResampleNode, DelayNode, PassThroughNode

#: What a run gets before it is broken off.
SOON = 0.002
#: Longer than anything takes: who waits so long hangs.
HANG = 60.0
#: The value for which nodes take their time, those that wait until they are broken off.
WAIT = "wait"
DEEP = 10_000

# --- pipelines ------------------------------------------------------------------------------------


class Own(Node):
    """Hands on values; with WAIT it takes some time."""

    #: Those that are initialized and not cleaned up.
    alive: ClassVar[set[Own]] = set()

    def __init__(self, seconds: float = 0.001, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.seconds = seconds

    def initialize(self) -> None:
        try:
            Own.alive.add(self)
        except KeyboardInterrupt:
            # It came here, and so the node is not initialized.
            Own.alive.discard(self)
            raise

    def cleanup(self) -> None:
        Own.alive.discard(self)

    def process(self, value: Any) -> Any:
        if value == WAIT:
            time.sleep(self.seconds)
        return value


class Generates(Own):
    def process(self, value: Any) -> Any:
        yield from () if value == WAIT else (value,)
        if value == WAIT:
            time.sleep(self.seconds)
            yield value


class Awaits(Own):
    async def process(self, value: Any) -> Any:
        if value == WAIT:
            await asyncio.sleep(HANG)
        return value


class Aside(Own, thread=True):
    pass


class Apart(Node, process=True):
    def __init__(self, seconds: float = 0.001, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.seconds = seconds

    def process(self, value: Any) -> Any:
        if value == WAIT:
            time.sleep(self.seconds)
        return value


def among_native(kind: Any, seconds: float = 0.001) -> list[Node]:
    return [PassThroughNode(), kind(seconds), PassThroughNode()]


#: By name: the nodes, made anew.
KINDS: dict[str, Callable[..., list[Node]]] = {
    "native": lambda *_: [PassThroughNode(), PassThroughNode()],
    "waits": lambda *_: [PassThroughNode(), DelayNode(seconds=HANG)],
    "heavy": lambda *_: [AudioResampleNode(target_rate=44_100)],
    "plain": partial(among_native, Own),
    "generator": partial(among_native, Generates),
    "async": partial(among_native, Awaits),
    "thread": partial(among_native, Aside),
    "process": partial(among_native, Apart),
}

SOUNDS = {count: Audio(array("f", bytes(4 * count)), 16_000) for count in (160, 160_000)}


def pipeline(kind: str, *args: Any) -> Pipeline:
    return Pipeline(kind, KINDS[kind](*args))


def items(kind: str, count: int) -> list[Any]:
    """What fills a session: the first keeps a node busy."""
    if kind == "heavy":
        return [SOUNDS[160_000], *[SOUNDS[160]] * (count - 1)]
    return [WAIT, *range(1, count)]


# --- what is left ---------------------------------------------------------------------------------


def left() -> dict[str, Any]:
    """Everything of this process that could be left behind."""
    gc.collect()
    counts = {name: count for name, count in native.handles().items() if count}
    for what in ("fd", "task"):
        if Path(f"/proc/self/{what}").exists():
            counts[what] = len(os.listdir(f"/proc/self/{what}"))
    counts["threads"] = threading.active_count()
    counts["children"] = len(multiprocessing.active_children())
    counts["nodes"] = len(Own.alive)
    return counts


def same_as(before: dict[str, Any]) -> None:
    """Nothing more is left than before; threads may need a moment to end."""
    until = perf_counter() + 10
    while more(now := left(), before) and perf_counter() < until:
        time.sleep(0.01)
    assert not more(now, before), f"left behind: {now}, before: {before}"


def more(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return any(count > before.get(what, 0) for what, count in now.items())


# --- ways to break off ----------------------------------------------------------------------------


class Moment:
    """Something that is done soon, by somebody else; and when that began."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.at = float("inf")
        self.act = act
        self.error: Optional[BaseException] = None
        self.thread: Optional[threading.Thread] = None

    def begin(self) -> None:
        if self.act is ctrl_c:
            # What the garbage collector calls swallows every exception, so Ctrl-C as well.
            gc.collect()
            self.at = perf_counter() + SOON
            ctrl_c()
        else:
            self.thread = threading.Thread(target=self.run)
            self.thread.start()

    def run(self) -> None:
        time.sleep(SOON)
        self.at = perf_counter()
        try:
            self.act()
        except BaseException as error:  # noqa: BLE001  it is raised where it is asked for
            self.error = error

    def since(self) -> float:
        now = perf_counter()
        if self.thread is not None:
            self.thread.join(HANG)
        if self.error is not None:
            raise self.error
        return now - self.at


#: A process that sends SIGINT to this one, when it has been asked to. A thread would do it whenever
#: the main thread lets go of Python's lock, which is where Python itself may overlook a signal.
KICKS = f"import os, time\nwhile os.read(0, 1): time.sleep({SOON}); os.kill(os.getppid(), 2)"
kicking: list[subprocess.Popen[bytes]] = []


def ctrl_c() -> None:
    """Comes soon."""
    if not kicking:
        kicking.append(
            subprocess.Popen([sys.executable, "-c", KICKS], stdin=subprocess.PIPE, bufsize=0)
        )
    stdin = kicking[0].stdin
    assert stdin is not None
    stdin.write(b".")


def goes_on(kind: str, number: int, output: Any) -> None:
    """What comes first after an interruption is what was pushed after it."""
    assert (output.item, output.node) == (number, output.node), output
    assert kind == "heavy" or output.value == -1, output


def session(way: str, kind: str, window: int) -> float:
    """Fills a session, waits for room, and breaks that off; how long it took to get out of it."""
    fresh = SOUNDS[160] if kind == "heavy" else -1
    time_of_run = None if way != "deadline" else 0.005 if window == 1 else 0.1
    moment: Optional[Moment] = None
    begun = perf_counter()
    expected = {"cancel": RunCancelledError, "ctrl-c": KeyboardInterrupt}
    try:
        with pipeline(kind).open(window=window, timeout=time_of_run, stall=None) as run:
            assert run.push_many(items(kind, window)) == window
            if way == "timeout":
                begun = perf_counter()
                run.push(fresh, timeout=SOON)
            elif way == "deadline":
                run.push(fresh, timeout=HANG)
            else:
                acts = {"cancel": run.cancel, "interrupt": run.interrupt, "ctrl-c": ctrl_c}
                moment = Moment(acts[way])
                moment.begin()
                number = run.push(fresh, timeout=HANG)
                assert way == "interrupt", "there was room"
                took = moment.since()
                if kind != "waits":
                    goes_on(kind, number, run.pull(timeout=HANG))
                return took
    except expected.get(way, RunTimeoutError) as error:
        assert perf_counter() - begun < HANG, error
    if moment is not None:
        return moment.since()
    return perf_counter() - begun - (SOON if time_of_run is None else time_of_run)


def async_session(way: str, kind: str, window: int) -> float:
    """The same in an event loop."""
    fresh = SOUNDS[160] if kind == "heavy" else -1
    time_of_run = None if way != "deadline" else 0.005 if window == 1 else 0.1
    begun = perf_counter()
    moment: Optional[Moment] = None

    async def main() -> Optional[float]:
        nonlocal begun, moment
        loop = asyncio.get_running_loop()

        def soon(act: Callable[[], object]) -> None:
            nonlocal begun
            begun = perf_counter()
            act()

        opening = pipeline(kind).open(window=window, timeout=time_of_run, stall=None)
        async with opening as run:
            assert await run.send_many(items(kind, window)) == window
            if way == "timeout":
                begun = perf_counter() + SOON
                await run.send(fresh, timeout=SOON)
            elif way == "deadline":
                await run.send(fresh, timeout=HANG)
            elif way == "ctrl-c":
                moment = Moment(ctrl_c)
                moment.begin()
                await run.send(fresh, timeout=HANG)
            else:
                task = asyncio.ensure_future(run.send(fresh, timeout=HANG))
                acts = {"cancel": run.cancel, "interrupt": run.interrupt, "task": task.cancel}
                loop.call_later(SOON, soon, acts[way])
                number = await task
                assert way == "interrupt", "there was room"
                took = perf_counter() - begun
                if kind != "waits":
                    goes_on(kind, number, await run.recv(timeout=HANG))
                return took
        return None

    expected = {
        "cancel": RunCancelledError,
        "task": asyncio.CancelledError,
        "ctrl-c": KeyboardInterrupt,
    }
    opened = perf_counter()
    took: Optional[float] = None
    try:
        took = asyncio.run(main())
    except expected.get(way, RunTimeoutError) as error:
        assert perf_counter() - opened < HANG, error
    if took is not None:
        return took
    if moment is not None:
        return moment.since()
    return perf_counter() - (begun if time_of_run is None else opened + time_of_run)


def batch(way: str, kind: str, depth: int) -> float:
    """Runs a batch that would take long, and breaks it off."""
    values = [SOUNDS[160_000] if kind == "heavy" else WAIT] * depth
    made = pipeline(kind)
    moment: Optional[Moment] = None
    begun = perf_counter()
    try:
        if way == "timeout":
            made.run_sync(values, timeout=SOON)
        else:
            moment = Moment(ctrl_c)
            moment.begin()
            made.run_sync(values)
        raise AssertionError("it was complete before it could be broken off")
    except (RunTimeoutError, KeyboardInterrupt) as error:
        assert isinstance(error, KeyboardInterrupt) == (way == "ctrl-c")
    return perf_counter() - begun - SOON if moment is None else moment.since()


def async_batch(way: str, kind: str, depth: int) -> float:
    """The same in an event loop."""
    values = [SOUNDS[160_000] if kind == "heavy" else WAIT] * depth
    made = pipeline(kind)
    moment: Optional[Moment] = None
    begun = perf_counter()

    async def main() -> None:
        nonlocal moment, begun
        if way == "ctrl-c":
            moment = Moment(ctrl_c)
            moment.begin()
        task = asyncio.ensure_future(made.run(values, timeout=SOON if way == "timeout" else None))
        if way == "task":
            await asyncio.wait({task}, timeout=SOON)
            begun = perf_counter() - SOON
            task.cancel()
        await task

    try:
        asyncio.run(main())
        raise AssertionError("it was complete before it could be broken off")
    except (RunTimeoutError, KeyboardInterrupt, asyncio.CancelledError) as error:
        kinds = {"timeout": RunTimeoutError, "ctrl-c": KeyboardInterrupt}
        assert isinstance(error, kinds.get(way, asyncio.CancelledError))
    return perf_counter() - begun - SOON if moment is None else moment.since()


#: By name: how it is broken off, and in which ways.
SCENES: dict[str, tuple[Callable[[str, str, int], float], str]] = {
    "session": (session, "cancel timeout deadline interrupt ctrl-c"),
    "async session": (async_session, "cancel timeout deadline interrupt task ctrl-c"),
    "batch": (batch, "timeout ctrl-c"),
    "async batch": (async_batch, "timeout task ctrl-c"),
}


def break_off(scene: str, way: str, kind: str, rounds: int, size: int) -> list[float]:
    """Does it so often, and hands back how long it took each time."""
    once = SCENES[scene][0]
    for _ in range(3):
        once(way, kind, size)
    before = left()
    assert not before["nodes"], "a node was not cleaned up"
    took = [once(way, kind, size) for _ in range(rounds)]
    same_as(before)
    return took


# --- the end of processes -------------------------------------------------------------------------

ENDS: dict[str, int] = {"end": 0, "exit": 3, "error": 1, "SIGTERM": -15, "SIGINT": -2}
SHAPES = ["block", "left open", "threads", "daemons", "async", "async left open"]
#: What must not be on stderr, whatever else is.
BAD = ["ignored", "destroyed", "never awaited", "Fatal", "leaked", "panicked", "never retrieved"]


def come_to_an_end(end: str) -> None:
    if end == "exit":
        sys.exit(3)
    if end == "error":
        raise ZeroDivisionError("on purpose")
    if end.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, end))


def leave(shape: str, end: str, kind: str) -> None:
    """In a process of its own: opens sessions, puts in items, and comes to an end."""
    window = 20
    openings = [pipeline(kind, 0.05).open(window=window, stall=None) for _ in range(2)]

    def fill(run: Any) -> None:
        # Plain nodes work while somebody pushes.
        for item in items(kind, window):
            run.push(item)

    def wait(run: Any) -> None:
        try:
            while True:
                run.push(WAIT if kind != "heavy" else SOUNDS[160])
                run.pull()
        except RemoteMediaError:
            pass

    async def main(left_open: bool) -> None:
        runs = [await opening.__aenter__() for opening in openings]
        kept.extend(runs)
        for run in runs:
            await run.send_many(items(kind, window))
            tasks.extend(asyncio.ensure_future(wait()) for wait in (run.recv, run.recv_many))
        await asyncio.sleep(0.01)
        try:
            come_to_an_end(end)
            # Where the loop has to do what a signal asks for.
            await asyncio.sleep(HANG if end == "SIGINT" else 0)
        finally:
            if not left_open:
                for run in runs:
                    await run.aclose()
                await asyncio.gather(*tasks, return_exceptions=True)

    if shape.startswith("async"):
        asyncio.run(main("open" in shape))
        return
    if shape == "left open":
        for opening in openings:
            kept.append(opening.__enter__())
            fill(kept[-1])
        come_to_an_end(end)
        return
    with openings[0] as first:
        fill(first)
        if shape == "block":
            come_to_an_end(end)
            return
        second = openings[1].__enter__()
        kept.append(second)
        daemon = shape == "daemons"
        # Threads that the process waits for have a session that is closed.
        for run in (first, second) if daemon else (first, first):
            threading.Thread(target=wait, args=(run,), daemon=daemon).start()
        time.sleep(0.02)
        come_to_an_end(end)


def leave_loop(how: str, kind: str) -> None:
    """In a process of its own: the event loop is gone before the session."""
    opening = pipeline(kind, 0.05).open(window=20, stall=None)

    async def begin(wait: bool) -> Any:
        run = await opening.__aenter__()
        await run.send_many(items(kind, 20))
        if wait:
            tasks.extend(asyncio.ensure_future(wait()) for wait in (run.recv, run.recv_many))
        await asyncio.sleep(0.01)
        return run

    if how == "run ended":
        kept.append(asyncio.run(begin(True)))
    else:
        loop = asyncio.new_event_loop()
        kept.append(loop.run_until_complete(begin(False)))
        loop.close()
    if how == "closed, and cancelled":
        kept[0].cancel()
    elif how == "closed, and collected":
        kept.clear()
        gc.collect()


#: What lives until the process ends.
kept: list[Any] = []
tasks: list[Any] = []
LOOPS = ["run ended", "closed", "closed, and cancelled", "closed, and collected"]


def process(*words: str) -> tuple[int, str, str]:
    """Does this in a process of its own."""
    with subprocess.Popen(
        [sys.executable, __file__, "--do", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            # Their ends are reached when the last process has ended that has them.
            out, err = child.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)
            out, err = child.communicate()
            raise AssertionError(f"{words} did not end\n{out}\n{err}") from None
    return child.returncode, out, err


def clean(words: tuple[str, ...], code: int) -> None:
    """It ends with this exit code, and says nothing but what ended it."""
    got, out, err = process(*words)
    told = f"{words}: {got}\n{out}\n{err}"
    assert (got, out) == (code, ""), told
    assert not any(bad in err for bad in BAD), told
    lines = err.splitlines() or [""]
    last = {1: "ZeroDivisionError: on purpose", -2: "KeyboardInterrupt"}.get(code, "")
    assert lines[-1] == last, told
    assert lines[0] == ("Traceback (most recent call last):" if last else ""), told


def in_processes(work: Iterable[Callable[[], None]]) -> int:
    """Does all of it, two at a time, and says how much it was."""
    with ThreadPoolExecutor(2) as pool:
        return len([future.result() for future in [pool.submit(one) for one in work]])


def exits(shape: str, end: str, count: int) -> int:
    kinds = islice(cycle(KINDS), count)
    return in_processes(partial(clean, ("leave", shape, end, kind), ENDS[end]) for kind in kinds)


def loops(how: str, count: int) -> int:
    kinds = islice(cycle(KINDS), count)
    return in_processes(partial(clean, ("leave_loop", how, kind), 0) for kind in kinds)


# --- children -------------------------------------------------------------------------------------


def work_of_a_child(pipelines: list[Pipeline], prepared: Any) -> None:
    """What a child does with what it was given, and with what it has inherited."""
    for made in pipelines:
        assert made.run_sync([1, 2], timeout=HANG) == [1, 2]
        with made.open(stall=None) as run:
            run.push(3)
            assert run.pull(timeout=HANG).value == 3

        async def main(made: Pipeline) -> None:
            async with made.open(stall=None) as run:
                await run.send(4)
                assert (await run.recv(timeout=HANG)).value == 4

        asyncio.run(main(made))
    assert prepared.run([5]) == [5]
    # Only a fork has these.
    for run in kept:
        for act in (
            *(run.pull, run.try_pull, run.end, run.cancel, run.interrupt, run.diagnose),
            *(partial(run.push, 1), partial(getattr, run, "metrics"), partial(list, run)),
        ):
            try:
                act()
                raise AssertionError(f"{act} worked in a child")
            except RemoteMediaError as error:
                assert error.code == "RM_E_FORKED", error
        run.close()
    kept.clear()
    gc.collect()


def has_children(method: str) -> None:
    """In a process of its own: has children while sessions are open, in which threads wait."""
    kinds = ["native", "plain", "generator", "async", "thread", "process"]
    pipelines = [pipeline(kind) for kind in kinds]
    prepared = native.prepare(pipelines[0].serialize())
    assert prepared.run([0]) == [0]
    for made in pipelines:
        assert made.run_sync([0]) == [0]
    openings = [pipeline(kind).open(window=4, stall=None) for kind in [*kinds, "waits"]]
    kept.extend(opening.__enter__() for opening in openings)
    runs = list(kept)
    for run in runs:
        try:
            pickle.dumps(run)
            raise AssertionError("a session was pickled")
        except TypeError as error:
            assert "session" in str(error), error
    outputs: list[list[Any]] = [[] for _ in runs]

    def pull(run: Any, into: list[Any]) -> None:
        into.extend(output.value for output in run)

    def push(run: Any) -> None:
        while not stop.is_set():
            run.push(next(numbers[id(run)]))
            time.sleep(0.001)

    stop = threading.Event()
    numbers: dict[int, Iterator[int]] = {id(run): iter(range(10**9)) for run in runs}
    pullers = [threading.Thread(target=pull, args=pair) for pair in zip(runs, outputs)]
    pushers = [threading.Thread(target=push, args=(run,)) for run in runs[:-1]]
    runs[-1].push(WAIT)
    for thread in (*pullers[:-1], *pushers):
        thread.start()
    context = multiprocessing.get_context(method)
    # Two at once, one of which has a child of its own in turn.
    children = [
        context.Process(target=work_of_a_child, args=(some, prepared))
        for some in (pipelines[:-1], pipelines[-2:])
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(HANG)
        assert child.exitcode == 0, child.exitcode
    stop.set()
    for thread in pushers:
        thread.join(HANG)
    for run in runs[:-1]:
        run.end()
    for thread in pullers[:-1]:
        thread.join(HANG)
    for run, got in zip(runs[:-1], outputs):
        count = next(numbers[id(run)])
        assert got == list(range(count)) and count > 10, (run.engine, len(got), count)
    assert runs[-1].try_pull() is None
    for run in runs:
        run.close()


def children(method: str, count: int) -> int:
    return in_processes([partial(clean, ("has_children", method), 0)] * count)


# --- no memory that can be written and executed ---------------------------------------------------

#: The exit code where the kernel knows nothing of it.
REFUSED = 77
DENY = f"""
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    print(ctypes.get_errno())
    sys.exit({REFUSED})
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit("such memory is still to be had")
except PermissionError:
    pass
if __name__ == "__main__":
    import endurance
    endurance.everything_once()
"""


def everything_once() -> None:
    """A batch, a session and an interruption of every kind, and an array across the boundary."""
    for kind in KINDS:
        if kind not in ("waits", "heavy"):
            made = pipeline(kind)
            assert made.run_sync([1, "a"]) == asyncio.run(made.run([1, "a"])) == [1, "a"]
        for scene, (once, ways) in SCENES.items():
            for way in ways.split():
                if "batch" not in scene or kind != "native":
                    once(way, kind, 200 if "batch" in scene else 2)
    (more,) = Pipeline("add", [AddNode(addend=1)]).run_sync([array("d", [1, 2])])
    assert list(more) == [2, 3]


def denied(folder: Path) -> Optional[str]:
    """Runs everything where such memory is denied. Says why not, if the kernel cannot deny it."""
    script = folder / "denied.py"
    script.write_text(DENY)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=4 * HANG,
    )
    if done.returncode == REFUSED:
        return f"the kernel knows no PR_SET_MDWE: {os.strerror(int(done.stdout))}"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    return None


# --- the script -----------------------------------------------------------------------------------


class Check(NamedTuple):
    """Something that is done so often; and says how that went."""

    name: str
    run: Callable[[int], str]
    rounds: int


def told(took: list[float]) -> str:
    took = sorted(took)
    over = sum(time > 0.1 for time in took)
    at = [took[len(took) // 2], took[int(len(took) * 0.99)], took[-1]]
    return "  ".join(f"{1e3 * time:7.1f}" for time in at) + f"   {over or ''}"


def breaking(scene: str, way: str, kind: str, size: int) -> Check:
    rounds = 20 if kind == "process" else 1000 if size <= 200 else 30
    name = f"{scene}, {way}, {kind}, {size}"
    return Check(name, lambda count: told(break_off(scene, way, kind, count, size)), rounds)


def cancelling(kind: str) -> Check:
    def run(count: int) -> str:
        opening = pipeline(kind).open(window=2, stall=None)
        asyncio.run(cancel_at_random(opening, count))
        return "all came"

    return Check(f"cancelled waiters, {kind}", run, 200 if kind == "process" else 10_000)


def checks() -> Iterator[Check]:
    for scene, (_, ways) in SCENES.items():
        for way in ways.split():
            for kind in KINDS:
                # A batch of native nodes that do not wait is complete before anything happens.
                if "batch" not in scene:
                    yield breaking(scene, way, kind, 1)
                    yield breaking(scene, way, kind, DEEP)
                elif kind != "native":
                    yield breaking(scene, way, kind, 200)
                    yield breaking(scene, way, kind, DEEP)
    for shape in SHAPES:
        for end in ENDS:
            name = f"exit, {shape}, {end}"
            yield Check(name, lambda n, a=shape, b=end: f"{exits(a, b, n)} clean", 100)
    for how in LOOPS:
        yield Check(f"loop, {how}", lambda n, a=how: f"{loops(a, n)} clean", 20)
    for method in multiprocessing.get_all_start_methods():
        name = f"children, {method}"
        yield Check(name, lambda n, a=method: f"{children(a, n)} good", 10)
    for kind in KINDS:
        if kind not in ("waits", "heavy"):
            yield cancelling(kind)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the names of what is done; $ is the end")
    parser.add_argument("--rounds", type=int, help="how often, instead of what each has")
    parser.add_argument("--most", type=int, default=10**9, help="how often at most")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    options = parser.parse_args()
    failed = 0
    print(f"{'':46}  rounds  median      p99      max ms  over 100 ms")
    for check in checks():
        if all(name in f"{check.name}$" for name in options.names):
            rounds = min(options.rounds or check.rounds, options.most)
            print(f"{check.name:46}  {rounds:6}", end="  ", flush=True)
            try:
                print("" if options.list else check.run(rounds), flush=True)
            except Exception:  # noqa: BLE001  the others are done all the same
                failed += 1
                print(f"FAILED {traceback.format_exc()}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        globals()[sys.argv[2]](*sys.argv[3:])
    else:
        sys.exit(main())
