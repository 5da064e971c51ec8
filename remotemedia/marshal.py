"""Values as the native library takes and gives them: text with the binary parts beside it.

The text is Python's own marshal format, version 2, which every Python writes and reads in native
code and with every type told apart; results that take longer come as JSON. Neither has arrays,
audio and frames; those, bytes, and in JSON NaN and the infinities, stand in it as a dict with the
single key ``"$rm"``, and so does a dict of the user's that has this key.
``include/remotemedia.h`` has the rules, at ``rm_data``.
"""

from __future__ import annotations

import json
import marshal
import sys
from operator import methodcaller
from typing import Any, Callable, NamedTuple, Optional, Union

from remotemedia.audio import Audio
from remotemedia.errors import (
    MarshalError,
    MarshalOverflowError,
    MarshalTypeError,
    MarshalValueError,
    Refused,
)
from remotemedia.frame import Frame
from remotemedia.inputs import is_foreign
from remotemedia.media import Media

#: How deep lists and dicts in an item may be nested.
MAX_DEPTH = 100

ESCAPE = "$rm"
#: Which ints are values.
MIN_INT = -(2**63)
MAX_INT = 2**64 - 1
#: Up to how many bytes an array costs less to copy than to lend.
_SMALL = 16_384
_copied = methodcaller("copy")

Path = tuple[Any, ...]


class Part(NamedTuple):
    """A binary part: what an ``rm_view`` of it holds."""

    #: ``"bytes"``, ``"tensor"``, ``"audio"`` or ``"video"``.
    kind: str
    #: An object whose buffer is the memory, C-contiguous and in native byte order. Never a
    #: memoryview: the collector may clear one that cffi still has a buffer of, and then crash.
    memory: Any
    #: DLPack's type code and the bits of an element; (0, 0) for bytes.
    dtype: tuple[int, int]
    shape: tuple[int, ...]
    #: What else there is to know of audio and frames, as JSON.
    meta: bytes = b""
    #: Presentation time in microseconds.
    pts_us: Optional[int] = None


def guess(items: list[Any]) -> Optional[bytes]:
    """Text for items, one at least, that look as if they held no binary parts, at the cost of a
    look at two.

    The native library tells whether they did: marshal writes for every type what it is, and bytes
    for all that have a buffer. Then, and where this is None, :func:`encode` is right.
    """
    if not (type(items[0]) in SCALARS and type(items[-1]) in SCALARS):
        for place in (0, -1):
            value = items[place]
            depth = 1
            while (kind := type(value)) not in SCALARS:
                depth += 1
                if kind not in _CONTAINERS:
                    return None
                if not value or depth > 5:
                    break
                value = next(iter(value.values())) if kind is dict else value[place]
    try:
        return marshal.dumps(items, 2)
    except ValueError:
        return None


def encode(value: Any, place: str = "input", levels: int = 0) -> tuple[bytes, list[Part]]:
    """Text for a value, and its binary parts.

    Args:
        value: None, bool, int, float, str, bytes, bytearray, memoryview, arrays, Audio, Frame,
            series and tables of pandas and pyarrow, and lists, tuples and dicts with str keys of
            these.
        place: what error messages call the value.
        levels: how many outer levels are not the user's, and do not count for the depth.

    Raises:
        MarshalError: for anything else, naming where it stands.
    """
    parts: list[Part] = []
    return marshal.dumps(_walk(value, (), parts, place, levels), 2), parts


def plain(value: Any, parts: list[Part], place: str) -> Any:
    """What stands for a value in a text, see :func:`dump`; appends its binary parts.

    Raises:
        MarshalError: as :func:`encode`.
    """
    return _walk(value, (), parts, place, 0)


def dump(value: Any) -> bytes:
    """Text for what is plain."""
    return marshal.dumps(value, 2)


#: What the exact value of a subclass is, past all overrides.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (list, list.copy),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))),
    (dict, dict.copy),
)
SCALARS = {int, float, str, bool, type(None)}
_CONTAINERS = {list, tuple, dict}


def _where(path: Path, place: str) -> str:
    steps = [f"[{step!r}]" for step in path]
    if len(steps) > 8:
        steps[4:-3] = ["..."]
    return place + "".join(steps)


def _refuse(kind: type[MarshalError], path: Path, place: str, why: str, hint: str) -> MarshalError:
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return kind(f"{_where(path, place)}: {why}", pointer=pointer, hint=hint)


def _walk(value: Any, path: Path, parts: list[Part], place: str, levels: int) -> Any:
    """The value with everything replaced that the text does not have."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _unicode(value, path, place)
    if kind is bool or kind is float or value is None:
        return value
    if kind is int:
        if not MIN_INT <= value <= MAX_INT:
            raise _refuse(
                MarshalOverflowError,
                path,
                place,
                f"an int of {value.bit_length()} bits does not fit in 64 bits",
                "pass it as float, as str or as bytes",
            )
        return value
    if kind in codes:
        # An array of NumPy's in the common form needs no second look.
        code = codes[kind].get(value.dtype)
        if code is not None and value.flags.c_contiguous:
            parts.append(Part("tensor", value, code, value.shape))
            return {ESCAPE: len(parts) - 1}
    if kind is list or kind is tuple:
        _check_depth(path, place, levels)
        return [_walk(item, (*path, i), parts, place, levels) for i, item in enumerate(value)]
    if kind is dict:
        _check_depth(path, place, levels)
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refuse(
                    MarshalTypeError,
                    path,
                    place,
                    f"the dict key {key!r} is {_named(type(key))}, not str",
                    "convert the keys with str()",
                )
            name = str.__str__(key)
            name = name if name.isascii() else _unicode(name, path, place)
            if name in plain:
                raise _refuse(
                    MarshalValueError, path, place, f"two keys are the text {name!r}",
                    "convert the keys with str()",
                )  # fmt: skip
            plain[name] = _walk(item, (*path, key), parts, place, levels)
        return {ESCAPE: plain} if ESCAPE in plain else plain
    if isinstance(value, Media):
        parts.append(_media(value))
        return {ESCAPE: len(parts) - 1}
    if is_foreign(kind):
        from remotemedia import interop

        try:
            known = interop.plain(value)
        except Refused as error:
            path = (*path, *error.steps)
            raise _refuse(MarshalTypeError, path, place, error.why, error.hint) from None
        if known is not None:
            return _walk(known, path, parts, place, levels)
    part = None if isinstance(value, str) else _binary(value, path, place)
    if part is not None:
        parts.append(part)
        return {ESCAPE: len(parts) - 1}
    # Subclasses cross as what they derive from, whatever they say of themselves.
    for base, exact in _BASES:
        if isinstance(value, base):
            return _walk(exact(value), path, parts, place, levels)
    hint = (
        "use None, bool, int, float, str, bytes, arrays, Audio, Frame, or lists and dicts of these"
    )
    if hasattr(kind, "__fspath__"):
        hint = "pass a path as text: str(path)"
    why = f"{_named(kind)} is not a value that crosses to the native library"
    raise _refuse(MarshalTypeError, path, place, why, hint)


def _named(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _check_depth(path: Path, place: str, levels: int) -> None:
    if len(path) - levels >= MAX_DEPTH:
        raise _refuse(
            MarshalValueError,
            path,
            place,
            f"nested deeper than {MAX_DEPTH} levels, or a container that contains itself",
            "flatten it, or pass it as bytes",
        )


def _unicode(text: str, path: Path, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refuse(
            MarshalValueError,
            path,
            place,
            f"the text has a lone surrogate at index {error.start}",
            "pass it as bytes, or encode it with errors='replace'",
        ) from None
    return text


# --- binary parts -----------------------------------------------------------------------------

#: The element types of the buffer protocol, by format: DLPack's type code. Bits come from the size.
_FORMATS = {
    "?": 6,
    "b": 0,
    "h": 0,
    "i": 0,
    "l": 0,
    "q": 0,
    "n": 0,
    "B": 1,
    "H": 1,
    "I": 1,
    "L": 1,
    "Q": 1,
    "N": 1,
    "e": 2,
    "f": 2,
    "d": 2,
    "Zf": 5,
    "Zd": 5,
}
_BFLOAT16 = (4, 16)
_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"


def _media(media: Media) -> Part:
    view, memory = media._memoryview(), media._shown()
    if type(memory) is memoryview:
        memory = memory.tobytes()
    pts_us = None if media.pts is None else round(media.pts * 1_000_000)
    if isinstance(media, Audio):
        dtype = (2, 32) if view.format == "f" else (0, 16)
        meta = b'{"sample_rate":%d}' % media.sample_rate
        return Part("audio", memory, dtype, view.shape, meta, pts_us)
    assert isinstance(media, Frame), "there are no others"
    meta = b'{"format":"%b"}' % media.format.encode()
    return Part("video", memory, (1, 8), view.shape, meta, pts_us)


def _binary(value: Any, path: Path, place: str) -> Optional[Part]:
    """The part for an object with the buffer protocol or DLPack; None for anything else."""
    try:
        view: Any = memoryview(value)
    except (TypeError, ValueError, BufferError):
        numpy = sys.modules.get("numpy")
        kind = type(value)
        if kind is memoryview:
            raise _refuse(
                MarshalValueError, path, place, "the memoryview was released",
                "release it after the run",
            ) from None  # fmt: skip
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            if value.dtype.name == "bfloat16":
                # NumPy has no buffer of a type that is not its own.
                bits = numpy.asarray(value, order="C").view("uint16")
                return Part("tensor", bits, _BFLOAT16, value.shape)
            raise _refuse(
                MarshalTypeError,
                path,
                place,
                f"arrays of {value.dtype} do not cross",
                "convert it with .astype, for example to int64",
            ) from None
        if hasattr(kind, "__dlpack__"):
            from remotemedia import dlpack

            try:
                return Part("tensor", *dlpack.read(value))
            except Refused as error:
                raise _refuse(MarshalTypeError, path, place, error.why, error.hint) from error
        return None
    if hasattr(value, "mask"):
        raise _refuse(
            MarshalTypeError, path, place, "masked arrays do not cross",
            "fill them, so that no mask is lost: array.filled(...)",
        )  # fmt: skip
    own = view.c_contiguous and type(value) is not memoryview
    memory = value if own else view.tobytes()
    if isinstance(value, (bytes, bytearray)) or (
        type(value) is memoryview and view.format in ("B", "b", "c") and view.ndim == 1
    ):
        return Part("bytes", memory, (0, 0), (view.nbytes,))
    form = view.format
    code = _FORMATS.get(form)
    if code is None:
        form = form.lstrip("@=" + _NATIVE_ORDER)
        code = _FORMATS.get(form)
    if code is None:
        if form[:1] in "<>!" and _FORMATS.get(form[1:]) is not None and hasattr(value, "astype"):
            return _binary(_in_native_order(value), path, place)
        raise _refuse(
            MarshalTypeError,
            path,
            place,
            f"arrays of {getattr(value, 'dtype', view.format)} do not cross",
            "convert it with .astype, for example to float32",
        )
    dtype = (code, view.itemsize * 8)
    _remember(value, dtype)
    return Part("tensor", memory, dtype, view.shape)


def _remember(array: Any, dtype: tuple[int, int]) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(array) is numpy.ndarray and array.dtype.isbuiltin == 1:
        codes.setdefault(numpy.ndarray, {})[array.dtype] = dtype


#: The element types of NumPy's that were met, in DLPack's codes; by the class of its arrays, as
#: NumPy may not be there.
codes: dict[type, dict[Any, tuple[int, int]]] = {}


def _in_native_order(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder("="))


def read_only_view(array: Any) -> Any:
    """A view of a NumPy array that cannot be written to; None for another object."""
    if type(array) not in codes:
        return None
    view = array.view()
    view.setflags(False)
    return view


def part(array: Any) -> Part:
    """The part for a NumPy array in a form that has been met."""
    return Part("tensor", array, codes[type(array)][array.dtype], array.shape)


def as_part(given: Any) -> Part:
    """The same for a part, which it is already."""
    return given if type(given) is Part else part(given)


def same(part: Part) -> Any:
    """The array of a part that was not changed; it cannot be written to."""
    array = None if part.dtype == _BFLOAT16 else read_only_view(part.memory)
    if array is not None:
        return array
    memory: Any = memoryview(part.memory)
    return tensor(memory.cast("B").toreadonly(), part.dtype, part.shape)


def tensor(memory: Any, dtype: tuple[int, int], shape: tuple[int, ...]) -> Any:
    """An array on this memory: a NumPy array, or a memoryview where NumPy is not installed."""
    known = _dtypes.get(dtype)
    if known is not None:
        frombuffer, numpy_dtype = known
        array = frombuffer(memory, numpy_dtype)
        return array if len(shape) == 1 else array.reshape(shape)
    if dtype == _BFLOAT16:
        # Its import teaches NumPy the type.
        try:
            import ml_dtypes
            import numpy as extended
        except ImportError:
            raise MarshalTypeError(
                "NumPy has no bfloat16", hint="pip install ml_dtypes numpy"
            ) from None
        _dtypes[dtype] = (extended.frombuffer, extended.dtype(ml_dtypes.bfloat16))
        return tensor(memory, dtype, shape)
    code, bits = dtype
    name = {0: "int", 1: "uint", 2: "float", 5: "complex", 6: "bool"}[code]
    try:
        import numpy
    except ImportError:
        form: Any = {
            (0, 8): "b",
            (0, 16): "h",
            (0, 32): "i",
            (0, 64): "q",
            (1, 8): "B",
            (1, 16): "H",
            (1, 32): "I",
            (1, 64): "Q",
            (2, 32): "f",
            (2, 64): "d",
            (6, 8): "?",
        }.get(dtype)
        if form is None:
            raise MarshalTypeError(
                f"a tensor of {name}{bits} needs NumPy", hint="pip install numpy"
            ) from None
        return _cast(memory, form, shape)
    kind = numpy.dtype("bool" if code == 6 else f"{name}{bits}")
    _dtypes[dtype] = (numpy.frombuffer, kind)
    return tensor(memory, dtype, shape)


def _cast(memory: Any, form: str, shape: tuple[int, ...]) -> Any:
    # PyPy cannot read a view of cffi's memory that was cast to a shape of one dimension; nowhere
    # is there a shape without elements.
    return memory.cast(form, shape) if len(shape) > 1 and memory.nbytes else memory.cast(form)


#: What NumPy needs for an element type; filled as they are met, since NumPy may not be installed.
_dtypes: dict[tuple[int, int], tuple[Any, Any]] = {}
#: The same by the number that stands in a text.
_inline: dict[int, tuple[Any, Any]] = {}


def media(
    memory: Any,
    dtype: tuple[int, int],
    shape: tuple[int, ...],
    meta: Union[str, bytes],
    pts_us: Optional[int],
) -> Media:
    """Audio or a frame on this memory, a flat memoryview of bytes; see :class:`Part`."""
    about = json.loads(meta)
    pts = None if pts_us is None else pts_us / 1_000_000
    if "format" in about:
        return Frame(memory.cast("B", shape), about["format"], pts)
    form = "f" if dtype == (2, 32) else "h"
    # A memoryview cannot be cast to a shape without elements, but NumPy has one.
    samples = tensor(memory, dtype, shape) if 0 in shape else _cast(memory, form, shape)
    return Audio(samples, about["sample_rate"], pts)


# --- back ---------------------------------------------------------------------------------------


def decode(text: bytes, part: Callable[[int], Any]) -> Any:
    """The value of marshalled text of this process's making; ``part(i)`` gives the binary part
    number i."""
    return restore(marshal.loads(text), part)  # noqa: S302


def decode_json(text: str, part: Callable[[int], Any]) -> Any:
    """The same for JSON text."""
    value = json.loads(text)
    return restore(value, part) if '"$rm"' in text else value


_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def inline(code: int, data: bytes, shape: Optional[tuple[int, ...]] = None) -> Any:
    """The array whose bytes stand in the text; it has memory of its own."""
    known = _inline.get(code)
    if known is not None and shape is None:
        frombuffer, numpy_dtype = known
        return frombuffer(bytearray(data), numpy_dtype)
    dtype = code >> 8, code & 0xFF
    if shape is None:
        shape = (len(data) * 8 // dtype[1],)
    array = tensor(memoryview(bytearray(data)), dtype, shape)
    if dtype in _dtypes:
        _inline[code] = _dtypes[dtype]
    return array


def rows(code: int, data: bytes, shape: tuple[int, ...]) -> list[Any]:
    """The arrays whose bytes stand in the text as the rows of one; each has memory of its own."""
    known = _inline.get(code)
    if known is not None:
        frombuffer, numpy_dtype = known
        return list(map(_copied, frombuffer(data, numpy_dtype).reshape(shape)))
    size, shape = len(data) // shape[0], shape[1:]
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return [inline(code, piece, shape) for piece in pieces]


def empty_rows(count: int, like: Any) -> Any:
    """Room for so many NumPy arrays like this one, as the rows of one."""
    return sys.modules["numpy"].empty((count, *like.shape), like.dtype)


def is_small(array: Any) -> bool:
    """Whether a NumPy array, in a form that has been met, can be a row: it is to be copied."""
    known = codes.get(type(array), ())
    return array.dtype in known and 0 < array.nbytes <= _SMALL and array.ndim > 0


def restore(value: Any, part: Callable[[int], Any]) -> Any:
    """What a value with escapes stands for."""
    if type(value) is list:
        return [inline(*item) if type(item) is tuple else restore(item, part) for item in value]
    if type(value) is tuple:
        return inline(*value)
    if type(value) is not dict:
        return value
    if ESCAPE in value:
        content = value[ESCAPE]
        if type(content) is int:
            return part(content)
        if type(content) is str:
            return _FLOATS[content]
        if type(content) is list:
            # A long list of floats.
            return part(content[0]).tolist()
        value = content
    return {key: restore(item, part) for key, item in value.items()}
