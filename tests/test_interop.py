"""Series and tables of pandas and pyarrow, through both engines."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Callable

import pytest
from conftest import PASS, Cross, needed

from remotemedia import MarshalError, Pipeline, native

numpy = needed("numpy")
pandas = needed("pandas")
arrow = needed("pyarrow")


def address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def refused(cross: Cross, value: Any, pointer: str, words: str, remedy: str) -> None:
    with pytest.raises(MarshalError, match=words) as caught:
        cross(1, {"it": value})
    error = caught.value
    assert isinstance(error, TypeError)
    assert error.pointer == "/1/it" + pointer
    assert remedy in str(error.hint)
    steps = "".join(f"[{step!r}]" for step in pointer.split("/")[1:])
    assert f"input[1]['it']{steps}: " in str(error)


NUMBERS = [
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
]  # fmt: skip

# --- pandas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", *NUMBERS, "complex128"])
def test_a_series_is_its_array_uncopied(dtype: str, cross: Cross) -> None:
    array = numpy.arange(5).astype(dtype)
    (back,) = cross({"it": pandas.Series(array, index=list("abcde"), copy=False)})
    assert back["it"].dtype == dtype and numpy.array_equal(back["it"], array)
    assert address(back["it"]) == address(array)


def test_a_table_is_a_dict_of_columns(cross: Cross) -> None:
    frame = pandas.DataFrame(
        {"id": [1, 2, 3], "score": [0.5, float("nan"), 1.5], "ok": [True, False, True],
         "name": ["a", "ü", ""]}
    )  # fmt: skip
    (back,) = cross(frame)
    assert list(back) == ["id", "score", "ok", "name"]
    for name in ("id", "score", "ok"):
        expected = frame[name].to_numpy()
        assert back[name].dtype == expected.dtype
        assert numpy.array_equal(back[name], expected, equal_nan=name == "score")
        assert address(back[name]) == address(expected)
    assert back["name"] == ["a", "ü", ""]
    assert cross(pandas.DataFrame()) == [{}]
    # A part of a table is strided, and so gathered.
    (back,) = cross(frame.iloc[::2])
    assert back["id"].tolist() == [1, 3] and back["name"] == ["a", ""]


@pytest.mark.parametrize("dtype", ["string", "object", "str"])
def test_a_series_of_text_is_a_list(dtype: str, cross: Cross) -> None:
    assert cross(pandas.Series(["a", "ü"], dtype=dtype)) == [["a", "ü"]]
    assert cross(pandas.Series([], dtype=dtype)) == [[]]


def test_series_of_types_of_pandas_own(cross: Cross) -> None:
    for dtype, plain in (("Int64", "int64"), ("UInt8", "uint8"), ("Float32", "float32"),
                         ("boolean", "bool")):  # fmt: skip
        (back,) = cross(pandas.Series([1, 0, 1], dtype=dtype))
        assert back.dtype == plain and back.tolist() == [1, 0, 1]
    of_arrow = pandas.ArrowDtype
    (back,) = cross(pandas.Series([1, 2], dtype=of_arrow(arrow.int16())))
    assert back.dtype == "int16" and back.tolist() == [1, 2]
    assert cross(pandas.Series(["a"], dtype=of_arrow(arrow.string()))) == [["a"]]


@pytest.mark.parametrize(
    ("make", "words", "remedy"),
    [
        (lambda: pandas.Series([1, None], dtype="Int64"), "1 value is missing", "fillna"),
        (lambda: pandas.Series([None, None, True], dtype="boolean"), "2 values are", "fillna"),
        (lambda: pandas.Series(["a", None]), "1 value is missing", "fillna"),
        (lambda: pandas.Series(["a", None], dtype="string"), "1 value is missing", "fillna"),
        (lambda: pandas.Series(["a", 1], dtype=object), "all are str, not int", "tolist"),
        (lambda: pandas.Series(["a"], dtype="category"), "category", "cat.codes"),
        (lambda: pandas.Series(pandas.date_range("2026", periods=2)), "datetime64", "int64"),
        (lambda: pandas.Series(pandas.date_range("2026", periods=2, tz="UTC")), "UTC", "int64"),
        (lambda: pandas.Series(pandas.to_timedelta([1])), "timedelta64", "int64"),
        (lambda: pandas.Series(pandas.period_range("2026", periods=2)), "period", "astype"),
        (lambda: pandas.Series(pandas.interval_range(0, 2)), "interval", "astype"),
        (lambda: pandas.Series([0, 1], dtype="Sparse[int]"), "Sparse", "to_dense"),
        (
            lambda: pandas.Series([1, None], dtype=pandas.ArrowDtype(arrow.int8())),
            "1 value is missing",
            "fill",
        ),
    ],
)
def test_other_series_are_refused_with_a_remedy(
    make: Callable[[], Any], words: str, remedy: str, cross: Cross
) -> None:
    refused(cross, make(), "", words, remedy)
    frame = pandas.DataFrame({"good": [1] * len(make()), "bad": make()})
    refused(cross, frame, "/bad", words, remedy)


def test_columns_have_names_of_their_own(cross: Cross) -> None:
    refused(cross, pandas.DataFrame([[1, 2]]), "", "the column label 0 is int, not str", "columns")
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    refused(cross, twice, "", "two columns are called 'a'", "columns")
    levels = pandas.DataFrame([[1]], columns=pandas.MultiIndex.from_tuples([("a", "b")]))
    refused(cross, levels, "", r"\('a', 'b'\) is tuple", "columns")


def test_what_else_pandas_has_is_no_value(cross: Cross) -> None:
    for value in (pandas.Timestamp("2026"), pandas.NaT, pandas.NA, pandas.Index([1])):
        with pytest.raises(MarshalError, match="is not a value that crosses"):
            cross(value)


# --- pyarrow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*NUMBERS, "float16"])
def test_an_array_crosses_uncopied(dtype: str, cross: Cross) -> None:
    numbers = numpy.arange(5).astype(dtype)
    array = arrow.array(numbers)
    (back,) = cross({"it": array})
    assert back["it"].dtype == dtype and numpy.array_equal(back["it"], numbers)
    assert address(back["it"]) == array.buffers()[1].address
    (back,) = cross(array[1:4])
    assert numpy.array_equal(back, numbers[1:4])
    assert address(back) == array.buffers()[1].address + numbers.itemsize
    (back,) = cross(arrow.array(numbers[:0]))
    assert back.dtype == dtype and back.shape == (0,)


def test_bits_become_booleans(cross: Cross) -> None:
    array = arrow.array([True, False, True] * 7)
    for part in (array, array[3:10]):
        (back,) = cross(part)
        assert back.dtype == bool and back.tolist() == part.to_pylist()


@pytest.mark.parametrize("make", ["string", "large_string", "string_view"])
def test_an_array_of_text_is_a_list(make: str, cross: Cross) -> None:
    if not hasattr(arrow, make):
        pytest.skip("this pyarrow has no such type")
    assert cross(arrow.array(["a", "ü", ""], getattr(arrow, make)())) == [["a", "ü", ""]]


def test_chunks_become_one_array(cross: Cross) -> None:
    numbers = numpy.arange(6, dtype="int32")
    one = arrow.chunked_array([arrow.array(numbers)])
    (back,) = cross(one)
    assert numpy.array_equal(back, numbers) and address(back) == one.chunk(0).buffers()[1].address
    (back,) = cross(arrow.chunked_array([arrow.array(numbers[:2]), arrow.array(numbers[2:])]))
    assert back.dtype == "int32" and numpy.array_equal(back, numbers)
    (back,) = cross(arrow.chunked_array([], arrow.float32()))
    assert back.dtype == "float32" and back.shape == (0,)
    assert cross(arrow.chunked_array([["a"], ["b"]])) == [["a", "b"]]


def test_tables_are_dicts_of_columns(cross: Cross) -> None:
    columns = {"id": arrow.array([1, 2]), "name": arrow.array(["a", "b"]),
               "ok": arrow.array([True, False])}  # fmt: skip
    for table in (arrow.table(columns), arrow.RecordBatch.from_pydict(columns)):
        (back,) = cross(table)
        assert list(back) == ["id", "name", "ok"] and back["name"] == ["a", "b"]
        assert back["ok"].dtype == bool and back["id"].tolist() == [1, 2]
        assert address(back["id"]) == columns["id"].buffers()[1].address
    assert cross(arrow.table({})) == [{}]


@pytest.mark.parametrize(
    ("make", "words", "remedy"),
    [
        (lambda: arrow.array([1, None, None]), "2 values are missing", "fill_null(0)"),
        (lambda: arrow.array(["a", None]), "1 value is missing", "fill_null('')"),
        (lambda: arrow.array([True, None]), "1 value is missing", "fill_null(False)"),
        (lambda: arrow.chunked_array([[1], [None]], arrow.int8()), "1 value", "fill_null(0)"),
        (lambda: arrow.array([None]), "an array of null", "type"),
        (lambda: arrow.array(["a"]).dictionary_encode(), "dictionary", "dictionary_decode"),
        (lambda: arrow.array([1], arrow.timestamp("us")), "timestamp", "cast('int64')"),
        (lambda: arrow.array([1], arrow.date32()), "date32", "cast"),
        (lambda: arrow.array([1], arrow.duration("s")), "duration", "cast"),
        (lambda: arrow.array([1], arrow.decimal128(5)), "decimal", "float64"),
        (lambda: arrow.array([[1, 2]]), "list", "to_pylist"),
        (lambda: arrow.array([{"a": 1}]), "struct", "to_pylist"),
        (lambda: arrow.array([b"a"]), "binary", "to_pylist"),
    ],
)
def test_other_arrays_are_refused_with_a_remedy(
    make: Callable[[], Any], words: str, remedy: str, cross: Cross
) -> None:
    refused(cross, make(), "", words, remedy)
    refused(cross, arrow.table({"good": [1] * len(make()), "bad": make()}), "/bad", words, remedy)


def test_two_columns_of_one_name(cross: Cross) -> None:
    twice = arrow.table([arrow.array([1]), arrow.array([2])], names=["a", "a"])
    refused(cross, twice, "", "two columns are called 'a'", "rename_columns")


# --- both -----------------------------------------------------------------------------------------


def test_they_are_items_and_no_batches() -> None:
    for batch in (pandas.DataFrame({"a": [1]}), pandas.Series([1]), arrow.array([1]),
                  arrow.table({"a": [1]}), arrow.chunked_array([[1]])):  # fmt: skip
        for run in (
            lambda batch: native.run_manifest(PASS, batch),
            lambda batch: Pipeline.from_manifest(PASS).run_sync(batch, use_rust=False),
        ):
            with pytest.raises(MarshalError, match="list of items") as caught:
                run(batch)
            assert "put the item in a list" in str(caught.value)


def test_neither_is_imported_unasked() -> None:
    code = (
        "import sys, remotemedia\n"
        "from remotemedia import Pipeline\n"
        "from remotemedia.nodes import PassThroughNode\n"
        "for use_rust in (True, False):\n"
        "    Pipeline('p', [PassThroughNode()]).run_sync([1, {'a': [b'x']}], use_rust=use_rust)\n"
        "found = {'numpy', 'pandas', 'pyarrow', 'ml_dtypes', 'ctypes', 'remotemedia.interop',\n"
        "         'remotemedia.dlpack'} & set(sys.modules)\n"
        "print(sorted(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
