"""What must work wherever the wheel can be installed: every Python, no optional packages."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from array import array
from importlib.metadata import version
from pathlib import Path

import pytest

import remotemedia
from remotemedia import ManifestError, NodeError, Pipeline, native
from remotemedia.nodes.base import PassThroughNode
from remotemedia.nodes.calculator import CalculatorNode

PACKAGE = Path(remotemedia.__file__).resolve().parent


def sums() -> Pipeline:
    pipeline = Pipeline(name="test")
    pipeline.add_node(PassThroughNode(name="pass1"))
    pipeline.add_node(CalculatorNode(name="calc", operation="add", operand=5))
    pipeline.add_node(PassThroughNode(name="pass2"))
    return pipeline


def manifest(node_type: str, **params: object) -> dict[str, object]:
    node = {"id": "node", "node_type": node_type, "params": params}
    return {"version": "v1", "metadata": {"name": "one"}, "nodes": [node], "connections": []}


def test_the_library_is_the_wheels_own_and_of_the_same_version() -> None:
    assert native.is_available()
    assert Path(native.library_path()).parent == PACKAGE / "_lib"
    assert native.version() == version("remotemedia") == remotemedia.__version__


@pytest.mark.skipif("REMOTEMEDIA_WHEEL" not in os.environ, reason="not told which wheel it was")
def test_the_library_is_byte_for_byte_the_one_in_the_wheel() -> None:
    library = Path(native.library_path())
    with zipfile.ZipFile(os.environ["REMOTEMEDIA_WHEEL"]) as wheel:
        packed = wheel.read(f"remotemedia/_lib/{library.name}")
    installed = library.read_bytes()
    assert hashlib.sha256(installed).digest() == hashlib.sha256(packed).digest()


def test_a_pipeline_runs_natively() -> None:
    result = asyncio.run(sums().run(input_data=[1, 2, 3], use_rust=True))
    assert result == [6, 7, 8]
    assert result.engine == "native"
    assert sums().run_sync([]) == []


def test_both_engines_agree() -> None:
    result = sums().run_sync([1, 2.5, -7], use_rust=False)
    assert result == sums().run_sync([1, 2.5, -7])
    assert result.engine == "python"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**63), 2**64 - 1, 0.1, 5e-324, float("inf"), "", "\0 ü 🎧", b"\0\xff"),
        *([], {}, [[]], {"a": [1, {"b": b"x"}]}, {"z": 1, "a": 2}, [1, 2, 3]),
    ],
    ids=repr,
)
def test_values_cross_both_ways(value: object) -> None:
    (back,) = native.run_manifest(manifest("PassThrough"), [value])
    assert back == value
    assert type(back) is type(value)


def test_arrays_cross_both_ways() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed here")
    array = numpy.arange(12, dtype="int16").reshape(3, 4)
    (back,) = native.run_manifest(manifest("PassThrough"), [array])
    assert back.dtype == array.dtype
    assert (back == array).all()


def test_audio_and_frames_cross_both_ways() -> None:
    pixels = memoryview(bytearray(range(24))).cast("B", (2, 4, 3))
    frame = remotemedia.Frame(pixels, "bgr24", pts=0.04)
    audio = remotemedia.Audio(array("h", [1, -2, 3]), 8000, pts=1.5)
    for back in (
        native.run_manifest(manifest("PassThrough"), [frame, {"a": [audio]}]),
        Pipeline("p", [PassThroughNode()]).run_sync([frame, {"a": [audio]}], use_rust=False),
    ):
        assert back == [frame, {"a": [audio]}]
        assert (back[0].width, back[0].height, back[0].format) == (4, 2, "bgr24")
        assert pickle.loads(pickle.dumps(back[0])) == frame


def test_memory_lives_as_long_as_it_is_used() -> None:
    def collect() -> None:
        # What a finalizer frees may be found by the next round only; PyPy takes several.
        for _ in range(5):
            gc.collect()

    def kept(number: int) -> list[object]:
        samples = array("f", [float(number)] * 5000)
        pixels = memoryview(bytearray([number]) * 2400).cast("B", (20, 30, 4))
        frame = remotemedia.Frame(pixels, "rgba")
        items = [remotemedia.Audio(samples, 8000), frame, {"deep": [samples, b"x"]}]
        result = native.run_manifest(manifest("PassThrough"), items)
        return [*result, result] if number % 2 else list(result)

    def run(place: int) -> None:
        for number in range(place, 200, 4):
            values = kept(number)
            if number % 3 == 0:
                results[number] = values
            elif number % 3 == 1:
                values.append(values)  # for the collector

    native.run_manifest(manifest("PassThrough"), [])  # the default runtime exists from here on
    collect()
    before = native.handles()
    results: dict[int, list[object]] = {}
    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collect()
    assert len(results) == 67
    for number, (audio, frame, deep, *_) in results.items():
        assert memoryview(audio.samples).tobytes() == array("f", [number] * 5000).tobytes()
        assert memoryview(frame.pixels).tobytes() == bytes([number]) * 2400
        assert memoryview(deep["deep"][0]).tobytes() == array("f", [number] * 5000).tobytes()
    results.clear()
    del audio, frame, deep, _
    collect()
    assert native.handles() == before


def test_outputs_live_longer_than_their_session() -> None:
    """Whatever the collector does meanwhile, and whichever thread lets go of them."""

    def collect() -> None:
        for _ in range(5):
            gc.collect()

    def some() -> list[object]:
        views = []
        with Pipeline("p", [PassThroughNode()]).open() as run:
            for number in range(10):
                # Small ones come as copies, large ones as views of the library's memory.
                for count in (10, 20_000):
                    run.push({"deep": [array("i", [number]) * count, number]})
                    value = run.pull().value
                    cycle: list[object] = [value]
                    cycle.append(cycle)
                    views.append(memoryview(value["deep"][0])[number:])
        return views

    def others() -> None:
        while not over.wait(0.01):
            given.clear()
            gc.collect()

    native.run_manifest(manifest("PassThrough"), [])
    some()
    collect()
    before = native.handles()
    # PyPy has no thresholds.
    threshold = getattr(gc, "get_threshold", lambda: None)()
    if threshold:
        gc.set_threshold(1, 1, 1)
    given: list[object] = []
    over = threading.Event()
    thread = threading.Thread(target=others)
    thread.start()
    try:
        kept = []
        for _ in range(10):
            views = some()
            kept.extend(views[::7])
            given.extend(views)
            del views
    finally:
        over.set()
        thread.join()
        if threshold:
            gc.set_threshold(*threshold)
    collect()
    assert [view[0] for view in kept] == [0, 3, 7] * 10
    assert all(set(view.tolist()) == {view[0]} for view in kept)
    kept.clear()
    given.clear()
    collect()
    assert native.handles() == before


def test_a_bad_manifest_says_what_is_wrong() -> None:
    with pytest.raises(ManifestError) as caught:
        native.run_manifest(manifest("PasThrough"), [1])
    assert caught.value.code == "RM_E_MANIFEST"
    assert "PassThrough" in str(caught.value)


def test_an_error_in_a_node_says_where() -> None:
    divide = manifest("Calculator", operation="divide", operand=0)
    with pytest.raises(NodeError) as caught:
        native.run_manifest(divide, [1])
    assert (caught.value.code, caught.value.node, caught.value.item) == ("RM_E_NODE", "node", 0)


def test_audio_is_cut_into_chunks() -> None:
    chunker = manifest("AudioChunker", chunk_size=512)
    audio = remotemedia.Audio(array("f", [0.5] * 1300), 16000)
    chunks = native.run_manifest(chunker, [audio])
    assert [len(chunk.samples) for chunk in chunks] == [512, 512, 276]


def test_the_command_lists_the_nodes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "remotemedia", "nodes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "PassThrough" in done.stdout
    assert done.stderr == ""


def test_a_process_that_ran_a_pipeline_exits_cleanly(tmp_path: Path) -> None:
    code = f"""
from remotemedia import native
print(native.run_manifest({json.dumps(json.dumps(manifest("PassThrough")))}, [1]))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1]\n", "")
