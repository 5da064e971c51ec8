"""Arrays of every element type and every layout, through both engines, with NumPy as the oracle."""

from __future__ import annotations

import sys
from typing import Any, Callable

import pytest
from conftest import Cross, needed

from remotemedia import Audio, Frame, MarshalError

numpy = needed("numpy")

DTYPES = [
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128", "bfloat16"),
]
OTHER_ORDER = ">" if sys.byteorder == "little" else "<"


def dtype_of(name: str) -> Any:
    return numpy.dtype(needed("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def values(dtype: Any, *shape: int) -> Any:
    """Different bits everywhere, the sign and the last ones among them; no NaN."""
    count = int(numpy.prod(shape))
    numbers = numpy.arange(count) * 37 % 251 - 100
    if dtype.kind == "c":
        numbers = numbers * (1 - 0.3j)
    elif dtype.kind in "fV":
        numbers = numbers / 3
    return (
        numbers.astype("int64" if dtype.kind in "iu" else numbers.dtype)
        .astype(dtype)
        .reshape(shape)
    )


def unaligned(array: Any) -> Any:
    """The same array with every element on an odd address."""
    record = numpy.zeros(array.shape, [("odd", "u1"), ("it", array.dtype)])
    record["it"] = array
    view = record["it"]
    assert array.dtype.itemsize == 1 or not view.flags.aligned
    return view


def unaligned_in_order(array: Any) -> Any:
    """C-contiguous, but it begins on an odd address."""
    raw = numpy.empty(array.nbytes + 1, "uint8")[1:]
    raw[:] = numpy.frombuffer(array.tobytes(), "uint8")
    view = raw.view(array.dtype).reshape(array.shape)
    assert view.flags.c_contiguous
    return view


def read_only(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C order": lambda array: array,
    "read-only": read_only,
    "Fortran order": lambda array: numpy.asfortranarray(array),
    "transposed": lambda array: array.T,
    "backwards": lambda array: array[::-1, ::-1],
    "every other": lambda array: array[::2, 1::2],
    "one dimension": lambda array: array[1],
    "no dimension": lambda array: array[1, 2],
    "0-d": lambda array: array[1, 2, ...],
    "no elements": lambda array: array[:0],
    "no elements in the middle": lambda array: numpy.zeros((2, 0, 3), array.dtype),
    "the same row again": lambda array: numpy.broadcast_to(array[:1], array.shape),
    "the same number again": lambda array: numpy.broadcast_to(array[0, 0], (3, 4)),
    "not aligned": unaligned,
    "not aligned, in order": unaligned_in_order,
    "six dimensions": lambda array: array.reshape(1, 2, 2, 1, 5, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", DTYPES)
def test_every_type_in_every_layout(name: str, layout: str, cross: Cross) -> None:
    array = LAYOUTS[layout](values(dtype_of(name), 4, 5))
    before = numpy.array(array, copy=True)
    bare, nested = cross(array, {"a": [array]})
    for back in (bare, nested["a"][0]):
        assert type(back) is numpy.ndarray
        assert back.dtype == array.dtype and back.shape == array.shape
        assert back.tobytes() == array.tobytes()
        assert back.flags.c_contiguous
    assert array.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", [name for name in DTYPES if name != "bfloat16"])
def test_the_other_byte_order_is_converted(name: str, cross: Cross) -> None:
    array = values(dtype_of(name), 4, 5)
    for layout in ("C order", "transposed", "not aligned", "0-d", "no elements"):
        swapped = LAYOUTS[layout](array.astype(array.dtype.newbyteorder(OTHER_ORDER)))
        (back,) = cross(swapped)
        assert numpy.array_equal(back, swapped) and back.shape == swapped.shape
        assert back.dtype == array.dtype and back.dtype.isnative


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("layout", ["C order", "read-only", "one dimension", "six dimensions"])
def test_what_is_in_order_is_not_copied(name: str, layout: str, cross: Cross) -> None:
    array = LAYOUTS[layout](values(dtype_of(name), 4, 5))
    address = array.__array_interface__["data"][0]
    for back in cross(array, array):
        assert back.__array_interface__["data"][0] == address


def test_special_numbers_keep_their_bits(cross: Cross) -> None:
    for name in ("float16", "float32", "float64", "bfloat16"):
        dtype = dtype_of(name)
        bits = f"uint{8 * dtype.itemsize}"
        top = 1 << (8 * dtype.itemsize - 1)
        patterns = numpy.array([0, 1, top, top | 1, top - 1, 2 * top - 1], bits)
        (back,) = cross(patterns.view(dtype))  # zeros, subnormals, NaN with a payload
        assert back.dtype == dtype and back.view(bits).tolist() == patterns.tolist()


def test_shared_memory_is_told_apart(cross: Cross) -> None:
    """Parts that begin at one address differ in shape, type and meaning."""
    memory = numpy.arange(12, dtype="int16")
    given = [
        memory,
        memory.reshape(3, 4),
        memory.view("uint16"),
        memory[:5],
        Audio(memory, 8_000),
        Audio(memory, 44_100, pts=1.5),
        Audio(memory.reshape(6, 2), 16_000),
        Frame(memory.view("uint8").reshape(2, 4, 3), "bgr24"),
        Frame(memory.view("uint8").reshape(4, 6), "gray", pts=0.25),
    ]
    for _ in range(20):
        back = cross(*given)
        for one, other in zip(back, given):
            if isinstance(other, numpy.ndarray):
                assert one.dtype == other.dtype and one.shape == other.shape
                assert numpy.array_equal(one, other)
            else:
                assert one == other and type(one) is type(other)


def test_many_shapes_of_one_memory(cross: Cross) -> None:
    """More than are remembered from call to call."""
    memory = numpy.arange(600, dtype="uint8")
    given = [memory[:count].reshape(1, count) for count in range(1, 601)]
    for one, other in zip(cross(*given), given):
        assert one.shape == other.shape and numpy.array_equal(one, other)


@pytest.mark.parametrize(
    "dtype", ["M8[s]", "m8[s]", "O", "U3", "S3", "longdouble", "clongdouble", "i4,f4", "V2"]
)
def test_other_types_are_refused_with_their_place(dtype: str, cross: Cross) -> None:
    for array in (numpy.zeros(2, dtype), numpy.zeros((2, 3), dtype)[:, ::2]):
        with pytest.raises(MarshalError, match="do not cross") as caught:
            cross(1, {"a": [array]})
        assert isinstance(caught.value, TypeError)
        assert caught.value.pointer == "/1/a/0" and caught.value.hint


@pytest.mark.parametrize("name", ["float8_e4m3fn", "int4", "float8_e5m2"])
def test_other_types_of_ml_dtypes_are_refused(name: str, cross: Cross) -> None:
    array = numpy.zeros(3, getattr(needed("ml_dtypes"), name))
    with pytest.raises(MarshalError, match=f"arrays of {name} do not cross") as caught:
        cross(array)
    assert caught.value.pointer == "/0"


def test_bfloat16_that_nothing_can_show(cross: Cross, monkeypatch: pytest.MonkeyPatch) -> None:
    from remotemedia import marshal

    array = numpy.ones(3, needed("ml_dtypes").bfloat16)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.delitem(marshal._dtypes, (4, 16), raising=False)
    with pytest.raises(MarshalError, match="bfloat16") as caught:
        cross(array)
    assert "pip install ml_dtypes" in str(caught.value.hint)


def test_scalars_cross_as_arrays_without_dimensions(cross: Cross) -> None:
    for name in DTYPES:
        scalar = values(dtype_of(name), 4)[1]
        (back,) = cross(scalar)
        assert back.shape == () and back.dtype == scalar.dtype and back == scalar


def test_arrays_of_the_standard_library(cross: Cross) -> None:
    import array

    for code in "bBhHiIlLqQfd":
        given = array.array(code, [1, 2, 3])
        (back,) = cross(given)
        assert back.dtype == numpy.dtype(code) and back.tolist() == [1, 2, 3]


def test_masked_arrays_are_refused(cross: Cross) -> None:
    with pytest.raises(MarshalError, match="masked"):
        cross(numpy.ma.masked_array([1, 2], mask=[True, False]))
