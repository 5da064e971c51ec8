"""Frames as values: what they let in, that they stay good, and that they cross."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from remotemedia import Frame, MarshalError, NodeError, Pipeline, native
from remotemedia.inputs import kind
from remotemedia.nodes import AddNode, CalculatorNode, TextProcessorNode

PASS = {"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}
needs_library = pytest.mark.skipif(
    not native.is_available(), reason="the native library is missing"
)


def pixels(*shape: int) -> Any:
    size = 1
    for side in shape:
        size *= side
    return memoryview(bytearray(i % 251 for i in range(size))).cast("B", shape)


def cross(engine: str, *items: Any) -> list[Any]:
    if engine == "native":
        return native.run_manifest(PASS, list(items))
    return Pipeline.from_manifest(PASS).run_sync(list(items), use_rust=False)


GOOD = {
    "rgb24": ((2, 4, 3), 3),
    "bgr24": ((4, 2, 3), 3),
    "rgba": ((2, 3, 4), 4),
    "bgra": ((1, 1, 4), 4),
    "gray": ((4, 6), 1),
}


@pytest.mark.parametrize("pts", [None, 0, -1.5, 0.04, 2**62 // 10**6])
@pytest.mark.parametrize("format", GOOD)
def test_good_ones(format: str, pts: Any) -> None:
    shape, channels = GOOD[format]
    frame = Frame(pixels(*shape), format, pts)
    assert (frame.height, frame.width, frame.channels) == (*shape[:2], channels)
    assert (frame.format, frame.pts) == (format, pts)
    for same in (copy.copy(frame), copy.deepcopy(frame), pickle.loads(pickle.dumps(frame))):
        assert same == frame and type(same) is Frame
    assert Frame(pixels(*shape), format, 7) != frame
    assert frame != 1 and frame is not None
    with pytest.raises(TypeError):
        hash(frame)


def test_the_default_is_rgb24_and_gray_may_have_its_channel() -> None:
    assert Frame(pixels(2, 4, 3)).format == "rgb24"
    assert Frame(pixels(2, 4, 1), "gray").channels == 1
    assert Frame(pixels(2, 4, 1), "gray") != Frame(pixels(2, 4), "gray")
    assert Frame(pixels(2, 4, 3)) != Frame(pixels(2, 4, 3), "bgr24")
    assert Frame(pixels(2, 4, 3)) != Frame(pixels(4, 2, 3))


def test_it_shows_what_it_is() -> None:
    assert repr(Frame(pixels(480, 640, 3), "bgr24")) == "Frame(640x480, bgr24)"
    assert repr(Frame(pixels(2, 4), "gray", 1.25)) == "Frame(4x2, gray, pts=1.250 s)"


@pytest.mark.parametrize(
    ("shape", "format", "words"),
    [
        ((4,), "gray", "shape"),
        ((1, 2, 3, 3), "rgb24", "shape"),
        ((2, 4), "rgb24", "rgb24 has 3 channels.*may be gray"),
        ((2, 4, 4), "rgb24", "rgb24 has 3 channels.*may be rgba or bgra"),
        ((2, 4, 3), "gray", "gray has 1 channel,.*may be rgb24 or bgr24"),
        ((2, 4, 2), "rgba", "rgba has 4 channels, and pixels of shape .* have 2$"),
        ((3, 6, 8), "rgb24", "moveaxis"),
        ((65_537, 1), "gray", "the height of a frame is 1 to 65536 pixels, not 65537"),
        ((1, 65_537, 3), "rgb24", "the width"),
    ],
)
def test_bad_shapes(shape: tuple[int, ...], format: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Frame(pixels(*shape), format)


def test_the_largest() -> None:
    assert Frame(pixels(65_536, 1), "gray").height == Frame(pixels(1, 65_536), "gray").width


@pytest.mark.parametrize("format", ["RGB24", "rgb", "gray8", "yuv420p", "", None, 3, ["rgb24"]])
def test_bad_formats(format: Any) -> None:
    with pytest.raises(ValueError, match="there is no pixel format") as caught:
        Frame(pixels(2, 4, 3), format)
    assert "did you mean" in str(caught.value) or "known are: gray, rgb24" in str(caught.value)


@pytest.mark.parametrize("given", [None, 1, "x", [[0]], object()])
def test_what_is_no_array(given: Any) -> None:
    with pytest.raises(TypeError, match="pixels are an array, not"):
        Frame(given)


@pytest.mark.parametrize("code", ["b", "h", "f", "d"])
def test_other_types(code: str) -> None:
    size = {"b": 1, "h": 2, "f": 4, "d": 8}[code]
    with pytest.raises(TypeError, match="pixels are uint8, not"):
        Frame(memoryview(bytearray(12 * size)).cast(code, (2, 2, 3)))


@pytest.mark.parametrize("pts", [float("nan"), float("inf"), 1e13, True, "0"])
def test_bad_times(pts: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="pts is"):
        Frame(pixels(2, 4, 3), pts=pts)


@pytest.mark.parametrize("name", ["pts", "format", "pixels", "width", "height", "channels"])
def test_it_stays_good(name: str) -> None:
    frame: Any = Frame(pixels(2, 4, 3))
    with pytest.raises(AttributeError):
        setattr(frame, name, 1)


def test_arrays_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(24, dtype="uint8").reshape(2, 4, 3)
    frame = Frame(array)
    assert frame.pixels is array
    assert frame == Frame(pixels(2, 4, 3))
    for view in (array[:, ::2], array[..., ::-1], numpy.asfortranarray(array)):
        with pytest.raises(ValueError, match="ascontiguousarray"):
            Frame(view)
    with pytest.raises(TypeError, match="scale them"):
        Frame(array / 255)
    with pytest.raises(ValueError, match="not 0"):
        Frame(numpy.zeros((0, 4, 3), "uint8"))


@pytest.mark.parametrize("engine", [pytest.param("native", marks=needs_library), "python"])
class TestCrossing:
    @pytest.mark.parametrize("pts", [None, 0, 1.25, -0.04, 1 / 3])
    @pytest.mark.parametrize("format", GOOD)
    def test_every_format(self, format: str, pts: Any, engine: str) -> None:
        frame = Frame(pixels(*GOOD[format][0]), format, pts)
        bare, nested = cross(engine, frame, {"shot": [frame, b"x"]})
        for back in (bare, nested["shot"][0]):
            assert type(back) is Frame and back.format == format
            assert back.pts == (None if pts is None else round(pts * 1e6) / 1e6)
            assert Frame(back.pixels, format, pts) == frame
            assert pickle.loads(pickle.dumps(back)) == back

    def test_uncopied(self, engine: str) -> None:
        numpy = pytest.importorskip("numpy")
        array = numpy.zeros((48, 64, 3), "uint8")
        (back,) = cross(engine, Frame(array, "bgr24"))
        assert type(back.pixels) is numpy.ndarray and back.pixels.shape == (48, 64, 3)
        assert back.pixels.ctypes.data == array.ctypes.data
        # And what has crossed crosses again.
        (again,) = cross(engine, back)
        assert again == back and again.pixels.ctypes.data == array.ctypes.data

    def test_nodes_that_take_something_else_say_so(self, engine: str) -> None:
        frame = Frame(pixels(2, 4, 3))
        for node in (AddNode(addend=1), CalculatorNode(operation="add", operand=1),
                     TextProcessorNode(operations=["uppercase"])):  # fmt: skip
            with pytest.raises(NodeError, match="a frame") as caught:
                Pipeline("p", [node]).run_sync([frame], use_rust=engine == "native")
            assert caught.value.item == 0

    def test_a_frame_is_no_batch(self, engine: str) -> None:
        pipeline = Pipeline.from_manifest(PASS)
        for batch in (Frame(pixels(2, 4, 3)), {"n": Frame(pixels(2, 4, 3))}):
            with pytest.raises(MarshalError, match="not a frame") as caught:
                pipeline.run_sync(batch, use_rust=engine == "native")
            assert "put the item in a list" in str(caught.value)


def test_what_people_call_it() -> None:
    class Still(Frame):
        pass

    assert kind(Frame(pixels(2, 4, 3))) == kind(Still(pixels(2, 4, 3))) == "a frame"


@needs_library
def test_the_library_checks_as_well() -> None:
    """Other languages have no class that does."""
    library = native._load()
    out, view = library.out("data"), library.view()
    memory, shape = bytearray(24), library.ffi.new("int64_t[]", (2, 4, 3))
    text = library.ffi.from_buffer(json.dumps({"format": "nv12"}).encode())
    view.kind, view.json, view.json_len = 5, text, len(text)
    view.data, view.byte_len = library.ffi.from_buffer(memory), 24
    view.shape, view.ndim = shape, 3
    view.dtype_code, view.dtype_bits, view.dtype_lanes = 1, 8, 1
    null = library.ffi.NULL
    with pytest.raises(Exception, match='no pixel format "nv12"') as caught:
        library.check(library.lib.rm_data_new, view, null, null, out)
    assert caught.value.hint == "known are: gray, rgb24, bgr24, rgba, bgra"


def test_the_command_describes_frames() -> None:
    from itertools import repeat

    from remotemedia.cli import _jsonable

    shown = _jsonable([Frame(pixels(2, 4, 3))], repeat(None))
    assert shown == [{"width": 4, "height": 2, "format": "rgb24"}]
