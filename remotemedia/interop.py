"""Series and tables of pandas and pyarrow as values: arrays, lists of text, dicts of columns.

Imported only when an object of theirs shows up. What has no exact counterpart is refused with a
remedy: nothing is filled in, cut off or converted unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from remotemedia.errors import Refused

__all__ = ["plain"]


def plain(value: Any) -> Optional[Any]:
    """What an object of pandas' or pyarrow's crosses as; None for one of another kind.

    A series or array crosses as a NumPy array (on its own memory where that is possible) or, if it
    holds text, as a list of str; a table as a dict from the names of its columns to these. An index
    is left behind.

    Raises:
        Refused: for missing values, and for types that have no counterpart.
    """
    for base in type(value).__mro__:
        convert = _KINDS.get((base.__module__.partition(".")[0], base.__name__))
        if convert is not None:
            return convert(value)
    return None


def _columns(names: Iterable[Any], columns: Iterable[Any], hint: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, column in zip(names, columns):
        if not isinstance(name, str):
            raise Refused(f"the column label {name!r} is {type(name).__name__}, not str", hint)
        if name in table:
            raise Refused(f"two columns are called {name!r}", hint)
        try:
            table[name] = plain(column)
        except Refused as error:
            error.steps = (name, *error.steps)
            raise
    return table


# --- pandas ---------------------------------------------------------------------------------------

#: By the class of a series' type, what cannot cross, and the remedy.
_PANDAS_REMEDIES = {
    "CategoricalDtype": ".astype(str) gives the names, .cat.codes the numbers",
    "DatetimeTZDtype": "count from 1970 with .astype('int64'), or make text with .astype(str)",
    "PeriodDtype": "make text of it with .astype(str)",
    "IntervalDtype": "make text of it with .astype(str)",
    "SparseDtype": "make it dense with .sparse.to_dense()",
}


def _frame(frame: Any) -> dict[str, Any]:
    columns = (frame.iloc[:, place] for place in range(frame.shape[1]))
    hint = "give each column a name of its own: frame.columns = [...]"
    return _columns(frame.columns, columns, hint)


def _series(series: Any) -> Any:
    dtype = series.dtype
    remedy = _PANDAS_REMEDIES.get(type(dtype).__name__)
    if remedy is not None:
        raise Refused(f"a series of {dtype} does not cross", remedy)
    if type(dtype).__name__ == "ArrowDtype":
        return _arrow(series.array.__arrow_array__())
    kind = dtype.kind
    if kind in "mM":
        remedy = "count in its unit with .astype('int64'), or make text with .astype(str)"
        raise Refused(f"a series of {dtype} does not cross", remedy)
    if kind in "biufc":
        own = getattr(dtype, "numpy_dtype", None)
        if own is None:
            return series.to_numpy()
        # Values, and beside them a mask of those that are missing.
        _check_missing(int(series.isna().sum()), "fill them with .fillna(...), or .dropna()")
        return series.to_numpy(dtype=own)
    if kind == "O":
        _check_missing(int(series.isna().sum()), "fill them with .fillna(''), or .dropna()")
        values = series.tolist()
        for item in values:
            if not isinstance(item, str):
                what = type(item).__name__
                raise Refused(
                    f"a series of objects crosses if all are str, not {what}",
                    "pass its values, if they cross: .tolist()",
                )
        return values
    raise Refused(f"a series of {dtype} does not cross", "convert it with .astype(...)")


def _check_missing(count: int, remedy: str) -> None:
    if count:
        raise Refused(f"{count} value{'s are' if count > 1 else ' is'} missing", remedy)


# --- pyarrow --------------------------------------------------------------------------------------


def _table(table: Any) -> dict[str, Any]:
    hint = "give each column a name of its own: table.rename_columns([...])"
    return _columns(table.schema.names, table.columns, hint)


def _chunked(array: Any) -> Any:
    import pyarrow

    chunks = array.chunks
    if len(chunks) == 1:
        return _arrow(chunks[0])
    return _arrow(pyarrow.concat_arrays(chunks) if chunks else pyarrow.array([], array.type))


def _arrow(array: Any) -> Any:
    from pyarrow import types

    if hasattr(array, "chunks"):
        return _chunked(array)
    kind = array.type
    # The names that older versions do not know count as types that are not there.
    is_view = getattr(types, "is_string_view", None)
    text = types.is_string(kind) or types.is_large_string(kind) or (is_view and is_view(kind))
    number = types.is_integer(kind) or types.is_floating(kind)
    if text or number or types.is_boolean(kind):
        missing = "''" if text else "False" if types.is_boolean(kind) else "0"
        _check_missing(array.null_count, f"fill them with .fill_null({missing}), or .drop_null()")
        if text:
            return array.to_pylist()
        # Uncopied but for booleans, which are bits there, and bytes everywhere else.
        return array.to_numpy(zero_copy_only=False)
    if types.is_dictionary(kind):
        remedy = "decode it with .dictionary_decode()"
    elif types.is_temporal(kind):
        remedy = "count in its unit with .cast('int64'), or make text with .cast('string')"
    elif types.is_decimal(kind):
        remedy = "convert it with .cast('float64')"
    elif types.is_null(kind):
        remedy = "give it a type, and fill its values"
    else:
        remedy = "pass its values, if they cross: .to_pylist()"
    raise Refused(f"an array of {kind} does not cross", remedy)


_KINDS = {
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("pyarrow", "Array"): _arrow,
    ("pyarrow", "ChunkedArray"): _chunked,
    ("pyarrow", "RecordBatch"): _table,
    ("pyarrow", "Table"): _table,
}
