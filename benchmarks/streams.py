"""The contenders where items stream: they are sent and received one by one, by who has sent more
than he has received; where a node is written in Python; and where two cores have work.

The items are the arrays of a batch, over and over. As in peers.py a peer gives its version and the
works; the result is the last batch that came out.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Callable

import numpy as np
from harness import Timed, Works, awaited, paced, paced_in_loop, repeated
from peers import Pass, QueueChain, gst_chain

FOLDER = Path(__file__).resolve().parent
#: What streams.
ARRAYS, NUMBERS = "stream", "stream of numbers"
#: How many items a call of "stream" and "stream, many" has; so often the batch.
STREAM = 100_000
#: How many of them are inside at once.
WINDOW = 64
#: How long it is quiet before an item of "live", in seconds, and how many a sample has.
PAUSE, LIVE = 0.005, 10


def inputs() -> dict[str, list[Any]]:
    """By workload the items."""
    batch = list(np.random.default_rng(1).standard_normal((1_000, 960), dtype=np.float32))
    numbers = np.random.default_rng(2).standard_normal(1_000).tolist()
    return {
        "stream, one": batch[:1],
        "stream": batch,
        "stream, many": batch,
        "live": batch[:1],
        f"{NUMBERS}, one": numbers[:1],
        NUMBERS: numbers,
        f"{NUMBERS}, many": numbers,
        "python node": batch[:1],
        "python node, batch": batch,
    }


def expected(workload: str, items: list[Any]) -> list[Any]:
    return items


# --- the ways to stream ---------------------------------------------------------------------------


def streamed(push: Callable[[Any], Any], pull: Callable[[], Any], batch: list[Any]) -> list[Any]:
    """With WINDOW items inside."""
    last: deque[Any] = deque(maxlen=len(batch))
    items = itertools.islice(itertools.cycle(batch), STREAM)
    for item in itertools.islice(items, WINDOW):
        push(item)
    for item in items:
        last.append(pull())
        push(item)
    for _ in range(WINDOW):
        last.append(pull())
    return list(last)


async def astreamed(send: Any, receive: Any, batch: list[Any]) -> list[Any]:
    last: deque[Any] = deque(maxlen=len(batch))
    items = itertools.islice(itertools.cycle(batch), STREAM)
    for item in itertools.islice(items, WINDOW):
        await send(item)
    for item in items:
        last.append(await receive())
        await send(item)
    for _ in range(WINDOW):
        last.append(await receive())
    return list(last)


def batched(push: Callable[[Any], Any], pull: Callable[[], Any], batch: list[Any]) -> list[Any]:
    """A batch goes in, then it comes out."""
    for _ in range(STREAM // len(batch)):
        for item in batch:
            push(item)
        last = [pull() for _ in batch]
    return last


def synchronous(
    contender: str,
    push: Callable[[Any], Any],
    pull: Callable[[], Any],
    given: dict[str, list[Any]],
    kinds: Iterable[str] = (ARRAYS, NUMBERS),
) -> Works:
    works: Works = {}
    for kind in kinds:
        batch = given[kind]

        def one(batch: list[Any] = batch) -> list[Any]:
            push(batch[0])
            return [pull()]

        works[contender, f"{kind}, one"] = repeated(one)
        works[contender, kind] = repeated(lambda batch=batch: streamed(push, pull, batch))
        works[contender, f"{kind}, many"] = repeated(lambda batch=batch: batched(push, pull, batch))
        if kind == ARRAYS:
            works[contender, "live"] = paced(one, PAUSE)
    return works


def asynchronous(
    contender: str,
    loop: asyncio.AbstractEventLoop,
    send: Any,
    receive: Any,
    given: dict[str, list[Any]],
) -> Works:
    works: Works = {}
    for kind in (ARRAYS, NUMBERS):
        batch = given[kind]

        async def one(batch: list[Any] = batch) -> list[Any]:
            await send(batch[0])
            return [await receive()]

        works[contender, f"{kind}, one"] = awaited(loop, one)
        works[contender, kind] = awaited(loop, lambda batch=batch: astreamed(send, receive, batch))
        if kind == ARRAYS:
            works[contender, "live"] = paced_in_loop(loop, one, PAUSE)
    return works


# --- here -----------------------------------------------------------------------------------------


def remotemedia(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """Ours: push and pull, send and recv, push_many and pull_many."""
    from remotemedia import Pipeline, native
    from remotemedia.nodes import PassThroughNode

    loop = asyncio.new_event_loop()

    def opened(window: int) -> Any:
        pipeline = Pipeline("stream", [PassThroughNode() for _ in range(3)])
        run: Any = pipeline.open(window=window).__enter__()
        atexit.register(run.close)
        return run

    run, many = opened(WINDOW), opened(len(given[ARRAYS]))
    arun = loop.run_until_complete(
        Pipeline("stream", [PassThroughNode() for _ in range(3)]).open(window=WINDOW).__aenter__()
    )
    atexit.register(lambda: loop.run_until_complete(arun.aclose()))

    async def receive() -> Any:
        return (await arun.recv()).value

    def all_at_once(batch: list[Any]) -> list[Any]:
        for _ in range(STREAM // len(batch)):
            many.push_many(batch)
            last: list[Any] = []
            while len(last) < len(batch):
                last += many.pull_many(len(batch) - len(last))
        return [output.value for output in last]

    works = synchronous("ours, push and pull", run.push, lambda: run.pull().value, given)
    for kind in (ARRAYS, NUMBERS):
        del works["ours, push and pull", f"{kind}, many"]
        works["ours, push_many and pull_many", f"{kind}, many"] = repeated(
            lambda batch=given[kind]: all_at_once(batch)
        )
    works.update(asynchronous("ours, send and recv", loop, arun.send, receive, given))
    pipeline, live = Pipeline("run", [PassThroughNode() for _ in range(3)]), given["live"]
    works["ours, run_sync", "live"] = paced(lambda: pipeline.run_sync(live), PAUSE)
    works["ours, await run", "live"] = paced_in_loop(loop, lambda: pipeline.run(live), PAUSE)
    return native.version(), works


def python_nodes(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """Ours, with a node in Python between two native ones; and Python without a pipeline."""
    from remotemedia import Node, Pipeline, native
    from remotemedia.nodes import PassThroughNode

    class Identity(Node):
        def process(self, value: Any) -> Any:
            return value

    def plain(items: list[Any]) -> list[Any]:
        out = []
        for item in items:
            for node in nodes:
                item = node.process(item)
            out.append(item)
        return out

    nodes = [Pass(), Pass(), Pass()]
    pipeline = Pipeline("python", [PassThroughNode(), Identity(), PassThroughNode()])
    ours = "ours, sync"
    loop = asyncio.new_event_loop()
    works: Works = {}
    for workload in ("python node", "python node, batch"):
        items = given[workload]
        works[ours, workload] = repeated(lambda items=items: pipeline.run_sync(items))
        works[ours.replace("sync", "await"), workload] = awaited(
            loop, lambda items=items: pipeline.run(items)
        )
        works["plain Python calls", workload] = repeated(lambda items=items: plain(items))
    return native.version(), works


def threads(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """A thread per node, with a queue before each and one behind."""
    queues: list[Any] = [SimpleQueue() for _ in range(4)]

    def stage(process: Callable[[Any], Any], source: Any, sink: Any) -> None:
        while True:
            sink.put(process(source.get()))

    for at in range(3):
        arguments = Pass().process, *queues[at : at + 2]
        threading.Thread(target=stage, args=arguments, daemon=True).start()
    push, pull = queues[0].put, queues[-1].get
    return sys.version.split()[0], synchronous("threads, SimpleQueue", push, pull, given)


def asyncio_queues(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """A task per node, see peers.QueueChain."""
    loop = asyncio.new_event_loop()
    queues = QueueChain([Pass(), Pass(), Pass()], loop).queues
    send, receive = queues[0].put, queues[-1].get
    return sys.version.split()[0], asynchronous("asyncio.Queue chain", loop, send, receive, given)


def gstreamer_in_c(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """gst_stream.c, a process per sample that tells how long it streamed."""
    folder = tempfile.TemporaryDirectory()
    program = Path(folder.name, "gst_stream")
    version, flags = (
        subprocess.run(
            ["pkg-config", *wanted, "gstreamer-app-1.0"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for wanted in (["--modversion"], ["--cflags", "--libs"])
    )
    source = str(FOLDER / "gst_stream.c")
    subprocess.run(["cc", "-O2", source, "-o", program, *shlex.split(flags)], check=True)
    output = Path(folder.name, "output")

    def works(workload: str, count: int, window: int) -> Callable[[int], Any]:
        batch = np.stack(given[workload])
        content = Path(folder.name, workload)
        batch.tofile(content)

        def work(calls: int) -> Any:
            numbers = (str(n) for n in (calls * count, batch[0].nbytes, window))
            command = [str(program), *numbers, str(content), str(output)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result = np.fromfile(output, batch.dtype).reshape(batch.shape)
            return Timed(float(done.stdout), result.tolist() if batch.ndim == 1 else list(result))

        work.folder = folder  # type: ignore[attr-defined]
        return work

    name = "GStreamer, identity, in C"
    return version, {
        (name, f"{kind}{way}"): works(f"{kind}{way}", count, window)
        for kind in (ARRAYS, NUMBERS)
        for way, count, window in (
            (", one", 1, 1),
            ("", STREAM, WINDOW),
            (", many", STREAM, len(given[kind])),
        )
    }


# --- in a process of their own --------------------------------------------------------------------


def gstreamer(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """From Python: three times identity; and an element in Python between two of them."""
    native = "identity silent=true"
    push, pull = gst_chain(" ! ".join([native] * 3))
    works = synchronous("GStreamer, identity", push, pull, given, [ARRAYS])
    import gi

    gi.require_version("GstBase", "1.0")
    from gi.repository import Gst, GstBase

    def caps(name: str, direction: Any) -> Any:
        always = Gst.PadPresence.ALWAYS
        return Gst.PadTemplate.new(name, direction, always, Gst.Caps.new_any())

    def identity(array: Any) -> Any:
        return array

    class PythonIdentity(GstBase.BaseTransform):  # type: ignore[misc]
        __gstmetadata__ = ("Identity", "Filter", "Calls a function with an array", "benchmarks")
        __gsttemplates__ = (
            caps("src", Gst.PadDirection.SRC), caps("sink", Gst.PadDirection.SINK),
        )  # fmt: skip

        def do_transform_ip(self, buffer: Any) -> Any:
            good, mapped = buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE)
            array = np.frombuffer(mapped.data, np.float32)
            result = identity(array)
            if result is not array:
                array[:] = result
            buffer.unmap(mapped)
            return Gst.FlowReturn.OK if good else Gst.FlowReturn.ERROR

    Gst.Element.register(None, "pythonidentity", Gst.Rank.NONE, PythonIdentity)
    push_python, pull_python = gst_chain(f"{native} ! pythonidentity ! {native}")

    def run(items: list[Any]) -> list[Any]:
        for item in items:
            push_python(item)
        return [pull_python() for _ in items]

    for workload in ("python node", "python node, batch"):
        works["GStreamer, Python element", workload] = repeated(
            lambda items=given[workload]: run(items)
        )
    return Gst.version_string().split()[-1], works


def cores(contender: str) -> tuple[str, Works]:
    """Ours, with more work than one core has time for. Recordings of 10 seconds."""
    from remotemedia import Audio, Pipeline, native
    from remotemedia.nodes import AudioLevelNode, AudioResampleNode, PassThroughNode

    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 441_000)).astype(np.float32)
    items = [Audio(samples, 44_100) for samples in noise]
    branches = Pipeline("branches", [PassThroughNode()])
    for rate in (48_000, 32_000):
        resample, level = AudioResampleNode(target_rate=rate), AudioLevelNode()
        branches.add_node(resample).add_node(level)
        branches.connect("pass_through_0", resample).connect(resample, level)
    rates = (48_000, 44_100, 48_000, 44_100)
    stages = Pipeline("stages", [AudioResampleNode(target_rate=rate) for rate in rates])
    stages.add_node(AudioLevelNode())
    return native.version(), {
        (contender, "branches"): repeated(lambda: list(branches.run_sync(items))),
        (contender, "stages"): repeated(lambda: list(stages.run_sync(items))),
    }


def one_core(_: Any) -> tuple[str, Works]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return cores("ours, one core")


def all_cores(_: Any) -> tuple[str, Works]:
    return cores("ours, all cores")


HERE = [remotemedia, python_nodes, threads, asyncio_queues, gstreamer_in_c]
APART = [gstreamer, one_core, all_cores]
