"""Cases that every engine runs, with the same results and the same errors.

A case has a ``manifest``, or its text as ``text``, ``hex`` (bytes), ``repeat`` (``[before, what,
how often, after]``) or ``build`` (texts, and ``[what, how often]`` with the number from 00000 on in
the place of ``#``, separated by commas); an ``input``; and the ``output`` (and ``by_node``) or the
``error``, which may take some ``seconds``, else ten. Floats that JSON lacks stand as
``{"$rm": "NaN"}``, see ``rust-core/runtime/src/json.rs``. An error without a message may be told in
the engine's own words; everything else is exact.

The cases that have an input also run with nodes of the user's in the place of every second built-in
node, in the native engine: of classes that derive what they do from the built-in nodes' twins.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Callable

import pytest
from conftest import CI

from remotemedia import Node, Output, Pipeline, RemoteMediaError, Result, native
from remotemedia.nodes import (
    AddNode,
    BufferNode,
    CalculatorNode,
    DelayNode,
    MultiplyNode,
    PassThroughNode,
    TextProcessorNode,
)

FOLDER = Path(__file__).parent / "conformance"
Engine = Callable[[bytes, Any], Result]
#: The outputs by sink, and the metrics.
Found = tuple[dict[str, list[Any]], Any]
Way = Callable[[Pipeline, Any], Found]


def cases() -> dict[str, Any]:
    """The cases by their names."""
    return {
        f"{file.stem}: {case['name']}": case
        for file in sorted(FOLDER.glob("*.json"))
        for case in json.loads(file.read_text(encoding="utf-8"))
    }


@pytest.fixture(scope="module", params=["native", "python"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "python":
        return lambda text, items: Pipeline.from_manifest(text).run_sync(items, use_rust=False)
    need_native()
    return native.run_manifest


def need_native() -> None:
    if not native.is_available():
        (pytest.fail if CI else pytest.skip)("the native library is missing")


@pytest.mark.parametrize("case", cases().values(), ids=cases())
def test_case(engine: Engine, case: dict[str, Any]) -> None:
    text = manifest(case)
    items = restore(case.get("input"))
    started = time.perf_counter()
    if "error" in case:
        with pytest.raises(RemoteMediaError) as caught:
            engine(text, items)
        assert told(caught.value, case["error"]) == case["error"]
        assert time.perf_counter() - started < case.get("seconds", 10.0)
    else:
        result = engine(text, items)
        assert exact(list(result)) == exact(restore(case["output"]))
        if "by_node" in case:
            assert exact(result.by_node) == exact(case["by_node"])


def manifest(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "repeat" in case:
        before, what, times, after = case["repeat"]
        return f"{before}{what * times}{after}".encode()
    if "build" in case:
        return "".join(map(built, case["build"])).encode()
    if "text" in case:
        return str(case["text"]).encode()
    return json.dumps(case["manifest"]).encode()


def built(part: Any) -> str:
    """A part of a manifest that is too large to be written here."""
    if isinstance(part, str):
        return part
    return ",".join(part[0].replace("#", f"{number:05}") for number in range(part[1]))


def restore(value: Any) -> Any:
    """The value that JSON with escapes stands for."""
    if isinstance(value, list):
        return [restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$rm"}:
        if isinstance(value["$rm"], str):
            return float(value["$rm"].replace("Infinity", "inf"))
        value = value["$rm"]
    return {key: restore(item) for key, item in value.items()}


def exact(value: Any) -> str:
    """A text in which 1 is not 1.0 or True, 0.0 is not -0.0, NaN is NaN and order counts."""
    return json.dumps(value)


def told(error: RemoteMediaError, expected: dict[str, Any]) -> dict[str, Any]:
    """What the case asks of an error."""
    found = {key: getattr(error, key) for key in expected if key != "causes"}
    if error.causes or "causes" in expected:
        hoped = [*expected.get("causes", ()), *({} for _ in error.causes)]
        found["causes"] = [told(cause, hope) for cause, hope in zip(error.causes, hoped)]
    return found


def test_there_are_enough_bad_manifests() -> None:
    bad = json.loads((FOLDER / "bad_manifests.json").read_text(encoding="utf-8"))
    assert len(bad) >= 60
    assert all({"code", "pointer", "node", "hint"} <= set(case["error"]) for case in bad)


# --- nodes of the user's in the place of built-in ones --------------------------------------------


class Waiting(Node):
    """Before a twin in the order of bases: the same, but it waits before it gives what it gives."""

    async def process(self, value: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        found = super().process(value)
        if isinstance(found, AsyncGeneratorType):
            async for value in found:
                yield value
        elif isinstance(found, GeneratorType):
            for value in found:
                yield value
        elif found is not None:
            yield found


TWINS = (
    AddNode, BufferNode, CalculatorNode, DelayNode, MultiplyNode, PassThroughNode,
    TextProcessorNode,
)  # fmt: skip


def of_users(prefix: str, *bases: type[Node], thread: bool = False) -> list[type[Node]]:
    """A class of the user's for every twin, of the twin's name behind the prefix."""
    make: Any = type(Node)
    return [make(prefix + twin.__name__, (*bases, twin), {}, thread=thread) for twin in TWINS]


CLASSES = {
    "Plain": of_users("Plain"),
    "Waiting": of_users("Waiting", Waiting),
    "Threaded": of_users("Threaded", thread=True),
}


def in_batch(pipeline: Pipeline, items: Any) -> Found:
    result = pipeline.run_sync(items)
    return result.by_node, result.metrics


def in_batch_async(pipeline: Pipeline, items: Any) -> Found:
    result = asyncio.run(pipeline.run(items))
    return result.by_node, result.metrics


def in_session(pipeline: Pipeline, items: Any) -> Found:
    outputs: list[Output] = []
    with pipeline.open(window=3) as run:
        for item in items or ():
            while not run.try_push(item):
                # There may be none, of a node that collects.
                outputs += run.pull_many(timeout=0.001)
        run.end()
        outputs += run
        return by_node(outputs, run.metrics), run.metrics


def in_session_async(pipeline: Pipeline, items: Any) -> Found:
    async def main() -> Found:
        async with pipeline.open(window=3) as run:

            async def send() -> None:
                await run.send_many(items or ())
                run.end()

            sending = asyncio.ensure_future(send())
            try:
                outputs = [output async for output in run]
            finally:
                await asyncio.wait({sending})
                failure = sending.exception()
            assert failure is None
            return by_node(outputs, run.metrics), run.metrics

    return asyncio.run(main())


def by_node(outputs: list[Output], metrics: Any) -> dict[str, list[Any]]:
    """What a session gave, as a batch has it."""
    places = list(metrics["sinks"])
    # Item by item, what was flushed at last, and of an item in the order of the sinks.
    assert outputs == sorted(
        outputs,
        key=lambda output: (output.item is None, output.item or 0, places.index(output.node)),
    )
    return {
        sink: [output.value for output in outputs if output.node == sink]
        for sink in metrics["sinks"]
    }


BATCH, SESSION = (in_batch, in_batch_async), (in_session, in_session_async)


def cases_for_users() -> list[Any]:
    """Every case that has an input, for every kind of nodes and in every way that it can take."""
    found = []
    for name, case in cases().items():
        # A million values would take a minute.
        if "input" not in case or "build" in case:
            continue
        kinds, ways = list(CLASSES), BATCH + SESSION
        if not isinstance(case["input"], (list, type(None))):
            # In a session one item goes in after the other, and not one for every source at once.
            ways = BATCH
        if b"Delay" in manifest(case):
            # It is async, and what has a thread of its own is not.
            kinds.remove("Threaded")
        if name.startswith("nodes_"):
            # They are about values, which are the same for all.
            kinds, ways = ["Plain"], (in_batch,)
        for kind in kinds:
            for way in ways:
                found.append(pytest.param(case, kind, way, id=f"{name}-{kind}-{way.__name__}"))
    return found


@pytest.mark.parametrize(("case", "kind", "way"), cases_for_users())
def test_case_with_nodes_of_users(case: dict[str, Any], kind: str, way: Way) -> None:
    need_native()
    items = restore(case["input"])
    for first in (0, 1):
        document = json.loads(manifest(case))
        replaced = document["nodes"][first::2]
        if not replaced:
            continue
        for node in replaced:
            node["node_type"] = kind + node["node_type"]
        pipeline = Pipeline.from_manifest(document, CLASSES[kind])
        if "error" in case:
            expected = dict(case["error"])
            types = {node["id"]: node["node_type"] for node in document["nodes"]}
            if expected.get("node_type") is not None:
                expected["node_type"] = types[expected["node"]]
            with pytest.raises(RemoteMediaError) as caught:
                way(pipeline, items)
            assert told(caught.value, expected) == expected
            continue
        found, metrics = way(pipeline, items)
        outputs = [value for values in found.values() for value in values]
        assert exact(outputs) == exact(restore(case["output"]))
        if "by_node" in case:
            assert exact(found) == exact(case["by_node"])
        assert counts(metrics) == counts(native.run_manifest(manifest(case), items).metrics)


def counts(metrics: Any) -> dict[str, Any]:
    """What was counted."""
    keys = "items_in", "items_out", "errors", "retries", "dropped"
    return {
        "items": metrics["items"],
        "items_done": metrics["items_done"],
        "sinks": metrics["sinks"],
        "nodes": {
            node: {key: found[key] for key in keys} for node, found in metrics["nodes"].items()
        },
    }
