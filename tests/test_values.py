"""Which values cross to the native library and back, and which are refused, and where."""

from __future__ import annotations

import array
import asyncio
import collections
import copy
import datetime
import decimal
import enum
import gc
import json
import marshal
import math
import pickle
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia import Audio, MarshalError, Node, Pipeline, native
from remotemedia.nodes import PassThroughNode

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")

PASS = {"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}


def cross(*items: Any) -> list[Any]:
    return list(native.run_manifest(PASS, list(items)))


def same(a: Any, b: Any) -> bool:
    """Equal in type, value, order and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


EXACT = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "i8 edge": 127,
    "i32 edges": [2**31 - 1, -(2**31)],
    "beyond 2**53": 2**53 + 1,
    "i64 max": 2**63 - 1,
    "i64 min": -(2**63),
    "just above i64": 2**63,
    "u64 max": 2**64 - 1,
    "float zero": 0.0,
    "minus zero": -0.0,
    "whole float": 3.0,
    "tenth": 0.1,
    "pi": math.pi,
    "float max": 1.7976931348623157e308,
    "float min": 2.2250738585072014e-308,
    "smallest subnormal": 5e-324,
    "epsilon above one": 1.0000000000000002,
    "large whole float": 1e22,
    "float beyond u64": 1.8446744073709552e19,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "nan in a list": [1.0, math.nan, 2.0],
    "infinity in a dict": {"rms_db": -math.inf},
    "empty text": "",
    "ascii": "hello",
    "latin": "café",
    "astral": "🎵 𝄞",
    "combining": "e\u0301",
    "nul in text": "a\0b",
    "controls": "\x01\x1f\x7f\u2028\u2029",
    "quotes and backslashes": '"\\/\n\r\t',
    "surrogate pair written out": "\U0001f600",
    "looks like json": '{"a": [1]}',
    "looks like the escape": '"$rm"',
    "long text": "x" * 100_000,
    "empty list": [],
    "empty dict": {},
    "nested empties": [[], {}, [[]], {"a": {}}],
    "small ints": [0, 1, 255, 256],
    "list of bytes-like ints": list(range(256)),
    "mixed list": [None, True, 1, 1.5, "x", [], {}],
    "bools are not ints": [True, 1, False, 0],
    "ints are not floats": [1, 1.0, 2, 2.0],
    "order of a dict": {"z": 1, "a": 2, "m": 3},
    "empty key": {"": 1},
    "odd keys": {"a/b": 1, "~": 2, "\0": 3, "🎵": 4},
    "numeric key": {"1": 1},
    "dict like a reference": {"$rm": 0},
    "dict like a reference in one": {"$rm": {"$rm": 0}},
    "dict like nan": {"$rm": "NaN"},
    "dict with the key and others": {"a": 1, "$rm": 2, "b": 3},
    "dict with the key and a list": {"$rm": [{"$rm": 1}]},
    "dict with a similar key": {"$rm2": 0, "rm": 1},
    "key beside bytes": {"$rm": b"x", "other": [b"y"]},
    "no bytes": b"",
    "bytes": b"hello",
    "all bytes": bytes(range(256)),
    "bytes that are not utf-8": b"\xff\xfe\x80",
    "bytes in a list": [b"a", [b"b"]],
    "bytes in a dict": {"data": b"\0\1"},
    "many parts": [bytes([i]) for i in range(100)],
    "long list": list(range(10_000)),
    "wide dict": {str(i): i for i in range(1_000)},
    "as deep as allowed": nested(100),
}


@pytest.mark.parametrize("name", EXACT)
def test_crosses_exactly(name: str) -> None:
    value = EXACT[name]
    (back,) = cross(value)
    assert same(back, value)
    # And as a part of others.
    (back,) = cross([value, {"k": value}] if name != "as deep as allowed" else value)
    assert same(back, [value, {"k": value}] if name != "as deep as allowed" else value)


#: How long a list of floats is that crosses as an array.
LONG = 8192


def floats(count: int) -> list[Any]:
    odd = [-0.0, math.inf, -math.inf, 5e-324, *struct.unpack("<dd", b"\1\2\3\4\5\6\xf8\x7f" * 2)]
    return [*odd, *(number / 7 for number in range(count - len(odd)))]


def with_one(other: Any, place: int) -> list[Any]:
    values = floats(LONG + 1)
    values[place] = other
    return values


LONG_LISTS: dict[str, Any] = {
    "one too few": floats(LONG - 1),
    "enough": floats(LONG),
    "one more": floats(LONG + 1),
    "far more": floats(100_000),
    "an int first": with_one(1, 0),
    "an int last": with_one(1, -1),
    "a bool among them": with_one(True, LONG // 2),
    "none among them": with_one(None, LONG // 2),
    "text among them": with_one("gggggggg", LONG // 2),
    "a list among them": with_one([1.0], LONG // 2),
    "bytes among them": with_one(b"1", LONG // 2),
    "several": [floats(LONG), floats(LONG + 1), floats(3)],
    "nested": [[[floats(LONG)]], [1.0, [floats(LONG), 2]]],
    "in a dict": {"a": floats(LONG), "b": {"c": [floats(LONG)]}, "$rm": floats(LONG)},
}


def test_long_lists_of_floats_keep_every_bit_on_every_way() -> None:
    class Same(Node):
        def process(self, value: Any) -> Any:
            return value

    pipelines = [Pipeline("p", [PassThroughNode()]), Pipeline("p", [PassThroughNode(), Same()])]
    for name, value in LONG_LISTS.items():
        # Marshal writes every type and every bit.
        right = marshal.dumps(value, 2)
        for pipeline in pipelines:
            backs = list(pipeline.run_sync([value, value]))
            with pipeline.open() as session:
                session.push(value)
                session.push_many([value])
                session.end()
                backs += [output.value for output in session]
            backs += asyncio.run(pipeline.run([[value]]))[0]
            assert len(backs) == 5, name
            for back in backs:
                assert marshal.dumps(back, 2) == right, name
                assert back is not value, name
    # As the items themselves.
    for pipeline in pipelines:
        back = list(pipeline.run_sync(floats(LONG)))
        assert marshal.dumps(back, 2) == marshal.dumps(floats(LONG), 2)


def test_a_float_of_another_class_in_a_long_list_is_a_float() -> None:
    liar = type("F", (float,), {"__float__": lambda self: 42.0})(1.5)
    (back,) = cross(with_one(liar, 5))
    assert marshal.dumps(back, 2) == marshal.dumps(with_one(1.5, 5), 2)
    with pytest.raises(MarshalError, match=r"input\[0\]\[5\]: decimal.Decimal"):
        cross(with_one(decimal.Decimal(1), 5))


def test_a_long_list_of_floats_belongs_to_nobody_else() -> None:
    given = floats(LONG)
    first, second = cross(given, given)
    first[7] = given[8] = "changed"
    assert second[7:9] == floats(LONG)[7:9]


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.python_implementation() != "CPython",
    reason="about the allocator of glibc",
)
def test_memory_for_long_texts_is_used_again() -> None:
    script = """
import marshal, resource
from remotemedia import Pipeline
from remotemedia.nodes import PassThroughNode

pipeline = Pipeline("p", [PassThroughNode()])
for count in (30_000, 100_000):
    items = [[number / 7 for number in range(count)]]
    for _ in range(5):
        pipeline.run_sync(items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        marshal.dumps(items, 2)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # The texts have 66 and 220 pages.
    assert all(float(line) < 20 for line in done.stdout.split()), done.stdout


def test_the_table_has_its_size() -> None:
    assert len(EXACT) >= 60
    assert len(REFUSED) + len(EXACT) >= 80


Colour = enum.IntEnum("Colour", "RED GREEN")
Point = collections.namedtuple("Point", "x y")

#: What crosses as something near to it, and as what.
AS = {
    "tuple": ((1, (2,)), [1, [2]]),
    "bytearray": (bytearray(b"ab"), b"ab"),
    "memoryview": (memoryview(b"abcd"), b"abcd"),
    "strided memoryview": (memoryview(b"abcd")[::2], b"ac"),
    "int subclass": (Colour.RED, 1),
    "namedtuple": (Point(1, 2), [1, 2]),
    "ordered dict": (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "default dict": (collections.defaultdict(int, a=1), {"a": 1}),
    "str subclass": (type("Name", (str,), {})("x"), "x"),
    "str enum": (enum.Enum("Hue", {"RED": "red"}, type=str).RED, "red"),
    "str enum as a key": ({enum.Enum("Hue", {"RED": "red"}, type=str).RED: 1}, {"red": 1}),
    "float that lies": (type("F", (float,), {"__float__": lambda self: 42.0})(1.5), 1.5),
    "int that lies": (type("I", (int,), {"__int__": lambda self: 42})(1), 1),
    "list that lies": (type("L", (list,), {"__iter__": lambda self: iter("ab")})([1]), [1]),
}


@pytest.mark.parametrize("name", AS)
def test_crosses_as(name: str) -> None:
    value, expected = AS[name]
    (back,) = cross(value)
    assert same(back, expected)


def looping_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def looping_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    return value


#: The value, the built-in exception, the place in the input, and a word of the message.
REFUSED: dict[str, tuple[Any, type[Exception], str, str]] = {
    "int above u64": (2**64, OverflowError, "/0", "input[0]: an int of 65 bits"),
    "int below i64": (-(2**63) - 1, OverflowError, "/0", "64 bits"),
    "huge int in a dict": ([{"n": 10**100}], OverflowError, "/0/0/n", "input[0][0]['n']"),
    "lone surrogate": ("a\ud800", ValueError, "/0", "lone surrogate at index 1"),
    "surrogate in a key": ({"\udfff": 1}, ValueError, "/0", "lone surrogate"),
    "deep surrogate": ([1, {"a": ["\udc00"]}], ValueError, "/0/1/a/0", "input[0][1]['a'][0]"),
    "int key": ({1: 2}, TypeError, "/0", "the dict key 1 is int, not str"),
    "none key": ({None: 2}, TypeError, "/0", "None"),
    "bool key": ({True: 2}, TypeError, "/0", "bool"),
    "tuple key below": ([{"a": {(1, 2): 3}}], TypeError, "/0/0/a", "input[0][0]['a']"),
    "bytes key": ({b"a": 2}, TypeError, "/0", "bytes"),
    "datetime": ({"user": {"when": datetime.datetime(2026, 1, 1)}}, TypeError,
                 "/0/user/when", "input[0]['user']['when']: datetime.datetime is not"),
    "object": (object(), TypeError, "/0", "object is not a value"),
    "set": ([{1, 2}], TypeError, "/0/0", "set"),
    "frozenset": (frozenset(), TypeError, "/0", "frozenset"),
    "complex": (1j, TypeError, "/0", "complex"),
    "decimal": ([__import__("decimal").Decimal(1)], TypeError, "/0/0", "decimal.Decimal"),
    "fraction": (__import__("fractions").Fraction(1, 2), TypeError, "/0", "Fraction"),
    "function": (len, TypeError, "/0", "builtin_function_or_method"),
    "class": (int, TypeError, "/0", "type"),
    "generator": ((i for i in range(3)), TypeError, "/0", "generator"),
    "range": (range(3), TypeError, "/0", "range"),
    "ellipsis": ([...], TypeError, "/0/0", "ellipsis"),
    "exception": (ValueError("x"), TypeError, "/0", "ValueError"),
    "uuid": (__import__("uuid").UUID(int=1), TypeError, "/0", "uuid.UUID"),
    "key with a slash": ({"a/b": {"~": ...}}, TypeError, "/0/a~1b/~0", "ellipsis"),
    "keys that become one": (
        {type("K", (str,), {"__hash__": lambda s: id(s), "__eq__": lambda s, o: s is o})("a"): 1,
         "a": 2}, ValueError, "/0", "two keys are the text 'a'"),
    "path": (Path("x"), TypeError, "/0", "Path"),
    "too deep": (nested(101), ValueError, "", "nested deeper than 100 levels"),
    "absurdly deep": (nested(10_000), ValueError, "", "nested deeper than 100 levels"),
    "list in itself": (looping_list(), ValueError, "", "contains itself"),
    "dict in itself": (looping_dict(), ValueError, "", "contains itself"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_its_place(name: str) -> None:
    value, kind, pointer, words = REFUSED[name]
    with pytest.raises(MarshalError) as caught:
        cross(value)
    error = caught.value
    assert isinstance(error, kind)
    assert words in str(error)
    assert error.code == "RM_E_ARGUMENT"
    assert error.hint
    if pointer:
        assert error.pointer == pointer
    else:
        assert error.pointer is not None and error.pointer.startswith("/0")


def test_refused_values_leave_nothing_behind() -> None:
    gc.collect()
    before = native.handles()
    for value, *_ in REFUSED.values():
        with pytest.raises(MarshalError):
            cross(b"a part that was made before", value)
    gc.collect()
    assert native.handles() == before


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$rm"), inner),
    max_leaves=20,
)


@given(st.lists(json_values, max_size=5))
@settings(max_examples=300, deadline=None)
def test_whatever_is_generated_crosses_exactly(items: list[Any]) -> None:
    assert same(cross(*items), items)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=500, deadline=None)
def test_floats_keep_every_bit(number: float) -> None:
    assert same(cross([number, -number]), [[number, -number]])


def test_audio_crosses() -> None:
    mono = Audio(array.array("f", [0.0, 0.5, -1.0]), 16_000, pts=1.25)
    stereo = Audio(memoryview(array.array("h", [1, -2, 3, -4])).cast("B").cast("h", (2, 2)), 44_100)
    back = cross(mono, {"clip": stereo})
    assert back[0] == mono
    assert back[1]["clip"] == stereo
    assert (back[1]["clip"].frames, back[1]["clip"].channels) == (2, 2)


def test_audio_is_copied_saved_and_pickled(tmp_path: Path) -> None:
    (mono,) = cross(Audio(array.array("f", [0.0, 0.5, -1.0]), 16_000, pts=1.25))
    pair = memoryview(array.array("h", [1, -2, 3, -4])).cast("B").cast("h", (2, 2))
    for audio in (mono, Audio(pair, 8000)):
        for same_audio in (copy.deepcopy(audio), pickle.loads(pickle.dumps(audio))):
            assert same_audio == audio
        audio.save(tmp_path / "x.wav")
        assert (tmp_path / "x.wav").stat().st_size > 44
    result = native.run_manifest(PASS, [mono])
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_released_memoryview_is_named() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(MarshalError, match="was released"):
        cross(1, view)


def test_a_result_is_an_input() -> None:
    first = native.run_manifest(PASS, [1, {"a": b"x"}])
    assert list(native.run_manifest(PASS, first)) == [1, {"a": b"x"}]


class TestArrays:
    numpy = pytest.importorskip("numpy")

    @pytest.mark.parametrize(
        "dtype",
        [
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float16",
            "float32",
            "float64",
            "complex64",
            "complex128",
        ],
    )
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (1, 2, 3, 4)])
    def test_every_dtype_and_shape(self, dtype: str, shape: tuple[int, ...]) -> None:
        numpy = self.numpy
        values = numpy.arange(math.prod(shape)).reshape(shape).astype(dtype)
        (back,) = cross(values)
        assert type(back) is numpy.ndarray
        assert back.dtype == values.dtype and back.shape == values.shape
        assert back.tobytes() == values.tobytes()

    def test_any_strides_and_either_byte_order(self) -> None:
        numpy = self.numpy
        values = numpy.arange(24, dtype="float32").reshape(2, 3, 4)
        for view in (
            values.T,
            values[:, ::-1],
            values[..., 1::2],
            numpy.broadcast_to(values, (2, 2, 3, 4)),
        ):
            (back,) = cross(view)
            assert numpy.array_equal(back, view) and back.flags.c_contiguous
        for order in "<>":
            (back,) = cross(values.astype(order + "f4"))
            assert numpy.array_equal(back, values) and back.dtype == values.dtype

    def test_nested_and_scalar(self) -> None:
        numpy = self.numpy
        values = numpy.arange(3)
        (back,) = cross({"a": [values, {"b": numpy.float32(1.5)}], "c": numpy.int8(-1)})
        assert numpy.array_equal(back["a"][0], values)
        assert back["a"][1]["b"].dtype == numpy.float32 and back["a"][1]["b"] == 1.5
        assert back["c"].shape == () and back["c"].dtype == numpy.int8

    def test_results_outlive_everything_and_cannot_be_written_to(self) -> None:
        numpy = self.numpy
        before = native.handles()
        (back,) = cross(numpy.arange(1000))
        view = back[10:20]
        del back
        assert view.sum() == sum(range(10, 20))
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        del view
        assert native.handles() == before

    @pytest.mark.parametrize("dtype", ["M8[s]", "O", "U3", "S3", "longdouble", "i4,f4"])
    def test_other_dtypes_are_refused(self, dtype: str) -> None:
        with pytest.raises(MarshalError, match="do not cross") as caught:
            cross([self.numpy.zeros(2, dtype)])
        assert isinstance(caught.value, TypeError) and caught.value.pointer == "/0/0"


def test_what_the_library_refuses_itself() -> None:
    # The check in Python is not the only one: other languages have none.
    from remotemedia.native import _load

    library = _load()
    out = library.out("data")
    view = library.view()
    text = json.dumps({"a": [{"$rm": 7}]}).encode()
    memory = library.ffi.from_buffer(text)
    view.json, view.json_len = memory, len(text)
    with pytest.raises(Exception, match="binary part 7") as caught:
        library.check(library.lib.rm_data_new, view, library.ffi.NULL, library.ffi.NULL, out)
    assert caught.value.pointer == "/a/0"
    assert out[0] == library.ffi.NULL
