"""The contenders: what each does, in its own words.

A peer is a function that gives its version and, by contender and workload, the work. It imports
what it needs itself, so where that is not installed it fails with an ImportError. All get the same
input, a list of items, and give the list of what came out, as arrays where arrays went in; three
nodes are three things of the peer's own kind that pass on what they get. Here a call has all its
items; what streams is in streams.py.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import sys
from typing import Any, Callable

import numpy as np
from harness import Works, awaited, repeated

ITEMS = 10_000


def inputs() -> dict[str, list[Any]]:
    """By workload the items."""
    numbers = list(range(ITEMS))
    batch = np.random.default_rng(1).standard_normal((1_000, 960), dtype=np.float32)
    return {
        "array": [np.arange(960, dtype=np.float32)],
        "large array": [np.arange(960_000, dtype=np.float32)],
        "numbers": [1, 2, 3],
        "list": [[number / 7 for number in range(100_000)]],
        "batch": list(batch),
        "3 nodes": numbers,
        "33 nodes": numbers,
    }


def expected(workload: str, items: list[Any]) -> list[Any]:
    return [item + 5 for item in items] if workload == "numbers" else items


# --- here ---------------------------------------------------------------------------------------


def remotemedia(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """Ours: run_sync, await run, and the same manifest as text without a Pipeline object."""
    from remotemedia import Pipeline, native
    from remotemedia.nodes import CalculatorNode, PassThroughNode

    loop = asyncio.new_event_loop()
    works: Works = {}
    for workload, items in given.items():
        count = 33 if workload == "33 nodes" else 3
        nodes: list[Any] = [PassThroughNode() for _ in range(count)]
        if workload == "numbers":
            nodes[1] = CalculatorNode(operation="add", operand=5)
        pipeline = Pipeline(workload, nodes)
        text = pipeline.serialize()

        def sync(pipeline: Any = pipeline, items: Any = items) -> Any:
            return pipeline.run_sync(items)

        def run(pipeline: Any = pipeline, items: Any = items) -> Any:
            return pipeline.run(items)

        works["ours, sync", workload] = repeated(sync)
        if count == 3 and workload != "3 nodes":
            works["ours, await", workload] = awaited(loop, run)
        if workload == "numbers":
            works["ours, manifest as text", workload] = repeated(
                lambda text=text, items=items: native.run_manifest(text, items)
            )
    return native.version(), works


def layers(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """What a run of the numbers consists of, from the inside to the outside. What is inside of
    PyO3's reference comes from there."""
    import marshal

    from remotemedia._ffi import ffi

    from remotemedia import Pipeline, native
    from remotemedia.nodes import CalculatorNode, PassThroughNode

    items = given["numbers"]
    nodes = [PassThroughNode(), CalculatorNode(operation="add", operand=5), PassThroughNode()]
    pipeline = Pipeline("numbers", nodes)
    manifest = pipeline.serialize()
    prepared = native.prepare(manifest)

    # The C ABI and nothing else.
    lib: Any = ffi.dlopen(native.library_path())
    opened = ffi.new("rm_pipeline **")
    text = manifest.encode()
    assert lib.rm_pipeline_new(ffi.NULL, text, len(text), opened, ffi.NULL) == lib.RM_OK
    written = marshal.dumps(items, 2)
    room = ffi.new("char[]", 4096)
    given_text = ffi.buffer(room)
    it = ffi.new("rm_call *")
    it.struct_size = ffi.sizeof("rm_call")
    it.flags, it.kind = lib.RM_DETACH, lib.RM_MARSHAL_PLAIN
    it.pipeline, it.buffer, it.buffer_len = opened[0], room, 4096
    it.slice_us = it.timeout_ms = -1

    def call() -> Any:
        assert lib.rm_call_run(it, written, len(written)) == lib.RM_OK
        return given_text

    assert marshal.loads(call())[0] == expected("numbers", items)
    return native.version(), {
        ("a call into the library that does nothing", "layers"): repeated(lib.rm_abi_version),
        ("marshal.dumps and loads of the items", "layers"): repeated(
            lambda: marshal.loads(marshal.dumps(items, 2))
        ),
        ("rm_call_run", "layers"): repeated(call),
        ("Prepared.run", "layers"): repeated(lambda: prepared.run(items)),
        ("Pipeline.run_sync", "layers"): repeated(lambda: pipeline.run_sync(items)),
    }


class Pass:
    def process(self, value: Any) -> Any:
        return value


class Add:
    def __init__(self, operand: Any) -> None:
        self.operand = operand

    def process(self, value: Any) -> Any:
        return value + self.operand


def chain(workload: str) -> list[Any]:
    if workload == "numbers":
        return [Pass(), Add(5), Pass()]
    return [Pass() for _ in range(33 if workload == "33 nodes" else 3)]


def plain_python(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """A method call per node: what the interpreter takes for nothing at all."""

    def run(nodes: list[Any], items: list[Any]) -> list[Any]:
        out = []
        for item in items:
            for node in nodes:
                item = node.process(item)
            out.append(item)
        return out

    works: Works = {}
    for workload, items in given.items():
        nodes = chain(workload)
        works["plain Python calls", workload] = repeated(
            lambda nodes=nodes, items=items: run(nodes, items)
        )
    return sys.version.split()[0], works


class QueueChain:
    """A task per node with a queue before each and one behind: what one would write in asyncio."""

    END = object()

    def __init__(self, nodes: list[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.nodes = nodes
        self.loop = loop
        loop.run_until_complete(self.start())
        atexit.register(self.stop)

    async def start(self) -> None:
        self.queues: list[Any] = [asyncio.Queue() for _ in range(len(self.nodes) + 1)]
        self.tasks = [
            asyncio.ensure_future(self.stage(node.process, *self.queues[at : at + 2]))
            for at, node in enumerate(self.nodes)
        ]

    async def stage(self, process: Callable[[Any], Any], source: Any, sink: Any) -> None:
        while True:
            item = await source.get()
            await sink.put(item if item is self.END else process(item))

    async def run(self, items: list[Any]) -> list[Any]:
        for item in items:
            await self.queues[0].put(item)
        await self.queues[0].put(self.END)
        out = []
        while (item := await self.queues[-1].get()) is not self.END:
            out.append(item)
        return out

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))


def queues(given: dict[str, list[Any]]) -> tuple[str, Works]:
    loop = asyncio.new_event_loop()
    works: Works = {}
    for workload, items in given.items():
        if workload in ("list", "3 nodes", "33 nodes"):
            continue
        nodes = QueueChain(chain(workload), loop)
        works["asyncio.Queue chain", workload] = awaited(
            loop, lambda nodes=nodes, items=items: nodes.run(items)
        )
    return sys.version.split()[0], works


def json_text(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """No pipeline at all: a list as JSON text, both ways."""
    items = given["list"]
    return sys.version.split()[0], {
        ("json, both ways", "list"): repeated(lambda: json.loads(json.dumps(items)))
    }


def manifest(workload: str) -> str:
    """The chain as a manifest."""
    kinds = {
        Pass: {"node_type": "PassThrough"},
        Add: {"node_type": "Calculator", "params": {"operation": "add", "operand": 5}},
    }
    nodes = [{"id": f"n{at}", **kinds[type(node)]} for at, node in enumerate(chain(workload))]
    ends = zip(nodes, nodes[1:])
    connections = [{"from": source["id"], "to": target["id"]} for source, target in ends]
    return json.dumps({"version": "v1", "nodes": nodes, "connections": connections})


def pyo3(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """Behind PyO3 nodes that can do nothing else, and the same engine as ours; see
    pyo3_reference."""
    import pyo3_reference

    works: Works = {}
    for workload, items in given.items():
        nodes = ["5" if isinstance(node, Add) else "pass" for node in chain(workload)]
        bare = pyo3_reference.Pipeline(nodes)
        engine = pyo3_reference.Engine(manifest(workload))

        def run_bare(run: Any = bare.run, items: Any = items) -> Any:
            return run(items)

        def run_engine(run: Any = engine.run, items: Any = items) -> Any:
            return run(items).outputs

        works["PyO3, bare", workload] = repeated(run_bare)
        works["PyO3, same engine", workload] = repeated(run_engine)
        if workload == "numbers":
            works["the engine alone, called from Rust", "layers"] = (
                lambda calls, spin=engine.spin, items=items: spin(items, calls)
            )
            works["PyO3, bare", "layers"] = repeated(run_bare)
            works["PyO3, same engine", "layers"] = repeated(run_engine)
    return "built here", works


def pyav(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """A filter graph of FFmpeg's: abuffer, three times anull, abuffersink."""
    import av
    import av.filter

    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(sample_rate=48_000, format="flt", layout="mono"),
        *(graph.add("anull") for _ in range(3)),
        graph.add("abuffersink"),
    )
    graph.configure()

    def run(items: list[Any]) -> list[Any]:
        out = []
        for item in items:
            frame = av.AudioFrame.from_ndarray(item.reshape(1, -1), format="flt", layout="mono")
            frame.sample_rate = 48_000
            graph.push(frame)
            out.append(graph.pull().to_ndarray()[0])
        return out

    return av.__version__, {
        ("PyAV, anull", workload): repeated(lambda items=given[workload]: run(items))
        for workload in ("array", "large array", "batch")
    }


# --- in a process of their own --------------------------------------------------------------------


def gst_chain(nodes: str) -> tuple[Any, Any]:
    """A pipeline of GStreamer's between appsrc and appsink: the functions that push an array and
    pull one, with whatever way of getting the bytes in and out of the binding was the fastest."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp

    Gst.init(None)
    assert GstApp
    pipeline = Gst.parse_launch(
        f"appsrc name=in format=time ! {nodes} ! appsink name=out sync=false max-buffers=0"
    )
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    source.set_property("max-bytes", 0)
    source.set_property("caps", Gst.Caps.from_string("application/x-array"))
    pipeline.set_state(Gst.State.PLAYING)

    def push(array: Any) -> None:
        source.emit("push-buffer", Gst.Buffer.new_wrapped(array.tobytes()))

    def pull() -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        if buffer.get_size() < 1 << 16:
            return np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.float32)
        _, mapped = buffer.map(Gst.MapFlags.READ)
        array = np.frombuffer(mapped.data, np.float32)
        buffer.unmap(mapped)
        return array

    # Neither function keeps the pipeline, and it ends with its last reference.
    push.pipeline = pipeline  # type: ignore[attr-defined]
    return push, pull


def gstreamer(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """appsrc, three times identity, appsink. And identity by the dozen between fakesrc and
    fakesink, in C."""
    push, pull = gst_chain(" ! ".join(["identity silent=true"] * 3))
    from gi.repository import Gst

    def run(items: list[Any]) -> list[Any]:
        for item in items:
            push(item)
        return [pull() for _ in items]

    def stream(count: int) -> Any:
        nodes = "identity silent=true ! " * count
        streaming = Gst.parse_launch(f"fakesrc num-buffers={ITEMS} ! {nodes} fakesink sync=false")
        bus = streaming.get_bus()

        def call() -> Any:
            streaming.set_state(Gst.State.PLAYING)
            bus.timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS)
            streaming.set_state(Gst.State.NULL)
            return given["3 nodes"]

        return call

    works: Works = {
        ("GStreamer, identity", workload): repeated(lambda items=given[workload]: run(items))
        for workload in ("array", "large array", "batch")
    }
    works["GStreamer, identity", "3 nodes"] = repeated(stream(3))
    works["GStreamer, identity", "33 nodes"] = repeated(stream(33))
    return Gst.version_string().split()[-1], works


def mediapipe(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """A graph of three PassThroughCalculators, with matrices."""
    import mediapipe as mp
    from mediapipe.python import packet_creator, packet_getter
    from mediapipe.python._framework_bindings.calculator_graph import CalculatorGraph

    config = 'input_stream: "s0" output_stream: "s3" num_threads: 1 '
    for at in range(3):
        config += 'node { calculator: "PassThroughCalculator" '
        config += f'input_stream: "s{at}" output_stream: "s{at + 1}" }} '
    graph = CalculatorGraph(graph_config=config)
    out: list[Any] = []
    graph.observe_output_stream(
        "s3", lambda _, packet: out.append(packet_getter.get_matrix(packet).reshape(-1))
    )
    graph.start_run()
    times = itertools.count()

    def run(items: list[Any]) -> list[Any]:
        out.clear()
        for item in items:
            packet = packet_creator.create_matrix(item.reshape(1, -1)).at(next(times))
            graph.add_packet_to_input_stream("s0", packet)
        graph.wait_until_idle()
        return list(out)

    return mp.__version__, {
        ("MediaPipe, PassThrough", workload): repeated(lambda items=given[workload]: run(items))
        for workload in ("array", "large array", "batch")
    }


def pipecat(given: dict[str, list[Any]]) -> tuple[str, Works]:
    """Three processors that push on what they get, and a fourth that collects."""
    from dataclasses import dataclass
    from importlib.metadata import version

    from pipecat.frames.frames import DataFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.workers.runner import WorkerRunner

    @dataclass
    class Item(DataFrame):
        value: Any = None

    class PassOn(FrameProcessor):
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            await self.push_frame(frame, direction)

    class Collect(PassOn):
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, Item):
                out.put_nowait(frame.value)

    loop = asyncio.new_event_loop()

    async def start() -> tuple[Any, Any]:
        nodes = Pipeline([PassOn(), PassOn(), PassOn(), Collect()])
        worker = PipelineWorker(
            nodes, enable_rtvi=False, enable_turn_tracking=False, idle_timeout_secs=None
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.ensure_future(runner.run())
        return worker, running

    out: Any = asyncio.Queue()
    worker, running = loop.run_until_complete(start())

    async def run(items: list[Any]) -> list[Any]:
        for item in items:
            await worker.queue_frame(Item(value=item))
        return [await out.get() for _ in items]

    async def first() -> None:
        await asyncio.wait_for(run([0]), 30)
        assert not running.done()

    loop.run_until_complete(first())
    return version("pipecat-ai"), {
        ("Pipecat, FrameProcessor", workload): awaited(
            loop, lambda items=given[workload]: run(items)
        )
        for workload in ("array", "large array", "batch")
    }


#: In this process, and in one of their own. In this order the table of the layers shows them.
HERE = [pyo3, layers, remotemedia, plain_python, queues, json_text, pyav]
APART = [gstreamer, mediapipe, pipecat]
