"""What a run is given: the items, and what people call them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Set
from typing import Any, Optional, Union

from remotemedia.audio import Audio
from remotemedia.errors import MarshalTypeError, MarshalValueError
from remotemedia.frame import Frame
from remotemedia.media import Media

__all__ = ["is_array", "is_foreign", "kind", "normalise_input", "normalise_timeout"]

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a map",
    bytes: "bytes",
    bytearray: "bytes",
    Audio: "audio",
    Frame: "a frame",
}
#: Libraries whose series and tables cross.
_FOREIGN = ("pandas", "pyarrow")


def is_foreign(cls: type) -> bool:
    """Whether a class derives from one of pandas or pyarrow; without importing these."""
    loaded = [name for name in _FOREIGN if name in sys.modules]
    return bool(loaded) and any(base.__module__.partition(".")[0] in loaded for base in cls.__mro__)


def is_array(value: Any) -> bool:
    """Whether this is an array, or a number that is part of one, as NumPy, PyTorch and the
    standard library have them; without importing any of these."""
    cls = type(value)
    if cls in _KINDS or isinstance(value, Media):
        return False
    if hasattr(cls, "__array_interface__") or hasattr(cls, "__dlpack__"):
        return True
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        return False
    # A flat memoryview of bytes is bytes, and so is a subclass of bytes.
    return not isinstance(value, (bytes, bytearray)) and (
        cls is not memoryview or view.ndim != 1 or view.format not in ("B", "b", "c")
    )


def kind(value: Any) -> str:
    """What messages call a value, in the words of the native library: ``"an integer"``."""
    cls = type(value)
    if cls in _KINDS:
        return _KINDS[cls]
    if is_array(value):
        return "a tensor"
    if isinstance(value, memoryview):
        return "bytes"
    bases = (base for base in cls.__mro__ if base in _KINDS)
    return _KINDS.get(next(bases, object), cls.__name__)


def normalise_input(items: Any) -> Union[list[Any], dict[str, list[Any]]]:
    """The input of a run as a list of items, or as a dict of such lists by source node.

    Nothing is no items. Any iterable is a list of items, be it a range or a generator; but not
    what would surprise as one (text, bytes, arrays), nor what has no order (sets).

    Raises:
        MarshalTypeError: for anything else.
    """
    if items is None:
        return []
    if type(items) is list:
        return items
    if isinstance(items, Mapping):
        return {
            key: _items(
                value,
                f'the input for "{key}" is a list of items',
                "/" + str(key).replace("~", "~0").replace("/", "~1"),
                "put the item in a list",
            )
            for key, value in items.items()
        }
    return _items(
        items,
        "the input is a list of items",
        "",
        "put the item in a list; or pass a map from the ids of source nodes to lists",
    )


def _items(items: Any, what: str, pointer: str, hint: str) -> list[Any]:
    if isinstance(items, list):
        return items
    scalar = (
        isinstance(items, (str, bytes, bytearray, memoryview, Mapping))
        or is_array(items)
        or is_foreign(type(items))
    )
    if scalar or not isinstance(items, Iterable):
        if hasattr(items, "__aiter__"):
            hint = "collect it first: [item async for item in ...]"
        raise MarshalTypeError(f"{what}, not {kind(items)}", pointer=pointer, hint=hint)
    if isinstance(items, Set) and not isinstance(items, type({}.keys())):
        raise MarshalTypeError(
            f"{what}, not {kind(items)}, which has no order", pointer=pointer, hint="use a list"
        )
    return list(items)


def normalise_timeout(timeout: Any) -> Optional[float]:
    """The time for a run in seconds, or None for as long as it takes.

    Raises:
        MarshalTypeError: if it is not a number.
        MarshalValueError: if it is negative or NaN.
    """
    if timeout is None:
        return None
    hint = "pass seconds, or None for as long as it takes"
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        what = f"the timeout is a number of seconds, not {kind(timeout)}"
        raise MarshalTypeError(what, hint=hint)
    if not timeout >= 0:
        raise MarshalValueError(
            f"the timeout is a number of seconds from 0, not {timeout!r}", hint=hint
        )
    return None if timeout > 1e12 else float(timeout)
