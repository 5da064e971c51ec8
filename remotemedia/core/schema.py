"""The check of a node's parameters against the schema of its type, and "did you mean".

The twin of ``rust-core/runtime/src/schema.rs``: the same problems in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from remotemedia.errors import ManifestError

__all__ = [
    "MAX_DEPTH",
    "Problems",
    "as_json",
    "check",
    "check_value",
    "closest",
    "did_you_mean",
    "escaped",
    "expectation",
    "shorten",
]

#: How deep a manifest may be nested, its parameters included.
MAX_DEPTH = 64

_Schema = Mapping[str, Any]


class Problems:
    """The problems of a manifest: the first :attr:`KEPT`, and the number of all."""

    #: How many are kept and reported. A hostile manifest may have as many as it has letters.
    KEPT = 50

    def __init__(self) -> None:
        self.kept: list[ManifestError] = []
        self.count = 0

    def append(self, problem: ManifestError) -> None:
        self.count += 1
        if len(self.kept) < self.KEPT:
            self.kept.append(problem)

    @property
    def full(self) -> bool:
        """Whether the next one will not be kept."""
        return len(self.kept) == self.KEPT

    def did_you_mean(self, word: str, names: Iterable[str], otherwise: str) -> str:
        """As :func:`did_you_mean`, which is dear, for a problem that will be kept."""
        return "" if self.full else did_you_mean(word, names, otherwise)


def closest(word: str, names: Iterable[str]) -> Optional[str]:
    """Of ``names``, the one most like ``word``, if any is like enough: at most a third of the
    longer one's letters, or one but not the only one, inserted, dropped, changed or swapped with a
    neighbour, not counting upper and lower case."""
    best = None
    least = None
    # Absurdly long words are like nothing.
    if len(word) > 64 or len(_bytes(word)) > 64:
        return None
    for name in names:
        if len(name) > 64 or len(_bytes(name)) > 64:
            continue
        distance = _distance(word.lower(), name.lower())
        longest = max(len(word), len(name))
        near = distance <= max(longest // 3, 1) and distance < longest
        if near and (least is None or distance < least):
            least, best = distance, name
    return best


def _bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")


def _distance(a: str, b: str) -> int:
    """The optimal string alignment distance, a column of its table at a time in the bits of
    integers (Hyyrö, "A bit-vector algorithm for computing Levenshtein and Damerau edit
    distances", 2003)."""
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for place, x in enumerate(a):
        places[x] = places.get(x, 0) | 1 << place
    everything, last = (1 << len(a)) - 1, 1 << len(a) - 1
    distance, more, less = len(a), everything, 0
    diagonal = same_before = 0
    for y in b:
        same = places.get(y, 0)
        swapped = ((~diagonal & same) << 1) & same_before
        diagonal = ((((same & more) + more) ^ more) | same | less | swapped) & everything
        up = less | ~(diagonal | more) & everything
        down = diagonal & more
        distance += bool(up & last) - bool(down & last)
        up = up << 1 | 1
        more = (down << 1 | ~(diagonal | up)) & everything
        less = up & diagonal
        same_before = same
    return distance


def did_you_mean(word: str, names: Iterable[str], otherwise: str) -> str:
    """The hint for an unknown name: the closest known one, or all of them."""
    names = list(names)
    name = closest(word, names)
    if name is not None:
        return f'did you mean "{name}"?'
    return shorten("known are: " + ", ".join(names), 1_000) if names else otherwise


def shorten(text: str, most: int) -> str:
    """The text if it has at most so many letters, else the beginning of it."""
    return text if len(text) <= most else text[: most - 3] + "..."


def escaped(segment: str) -> str:
    """A segment of a JSON pointer (RFC 6901)."""
    return segment.replace("~", "~0").replace("/", "~1")


def as_json(value: Any) -> str:
    """A JSON value as the native library writes it."""
    if isinstance(value, float):
        # The same digits as Python's; exponents differ in when and how they are written.
        digits, _, exponent = repr(value).partition("e")
        if exponent == "-05":
            sign = "-" if digits.startswith("-") else ""
            return sign + "0.0000" + digits.lstrip("-").replace(".", "")
        return f"{digits}e{int(exponent):+}" if exponent else digits
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    if isinstance(value, dict):
        entries = (f"{as_json(key)}:{as_json(item)}" for key, item in value.items())
        return "{" + ",".join(entries) + "}"
    return json.dumps(value, ensure_ascii=False)


def check(schema: _Schema, params: Mapping[str, Any], pointer: str, problems: Problems) -> None:
    """Checks parameters against the schema of a node type; adds every problem to ``problems``.

    ``pointer`` is where the parameters stand in the manifest.
    """
    properties = schema.get("properties", {})
    for key, value in params.items():
        at = f"{pointer}/{escaped(key)}"
        if key in properties:
            check_value(properties[key], value, at, key, problems)
        else:
            hint = problems.did_you_mean(key, properties, "this node has no parameters")
            problems.append(ManifestError(f'there is no parameter "{key}"', pointer=at, hint=hint))
    for name in schema.get("required", ()):
        if name not in params:
            hint = f'add "{name}": {expectation(properties[name])}'
            problems.append(
                ManifestError(f'the parameter "{name}" is missing', pointer=pointer, hint=hint)
            )


def check_value(schema: _Schema, value: Any, at: str, name: str, problems: Problems) -> None:
    """Checks one value; adds every problem to ``problems``."""

    def fail(message: str, hint: Optional[str] = None) -> None:
        hint = hint or f"{name}: {expectation(schema)}"
        problems.append(ManifestError(message, pointer=at, hint=hint))

    choices = _choices(schema)
    if choices is not None:
        if value not in choices:
            texts = [choice for choice in choices if isinstance(choice, str)]
            near = closest(value, texts) if isinstance(value, str) else None
            fail(f'"{name}" cannot be {_brief(value)}', near and f'did you mean "{near}"?')
        return
    types = _types(schema)
    if types and not any(_is_type(expected, value) for expected in types):
        fail(f'"{name}" cannot be {_brief(value)}')
        return
    if _is_type("number", value) and not _in_range(schema, value):
        fail(f'"{name}" is out of range: {_brief(value)}')
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        fail(f'"{name}" is too short: {_brief(value)}')
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            fail(f'"{name}" has too few entries: {len(value)}')
        if "items" in schema:
            for index, item in enumerate(value):
                check_value(schema["items"], item, f"{at}/{index}", name, problems)


def _in_range(schema: _Schema, number: Any) -> bool:
    return not (
        number < schema.get("minimum", number)
        or number > schema.get("maximum", number)
        or ("exclusiveMinimum" in schema and number <= schema["exclusiveMinimum"])
        or ("exclusiveMaximum" in schema and number >= schema["exclusiveMaximum"])
    )


def _types(schema: _Schema) -> list[str]:
    names = schema.get("type", [])
    return [names] if isinstance(names, str) else names


def _choices(schema: _Schema) -> Optional[list[Any]]:
    """The values allowed, if they are listed, be it as constants one by one."""
    if "enum" in schema:
        return list(schema["enum"])
    if "oneOf" in schema:
        return [variant["const"] for variant in schema["oneOf"]]
    return None


_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def _is_type(name: str, value: Any) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _brief(value: Any) -> str:
    """A JSON value in at most 60 letters."""
    return shorten(as_json(value), 60)


_WORDS = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "an object",
}


def expectation(schema: _Schema) -> str:
    """What a value must be, in words: "an integer from 1 to 100"."""
    choices = _choices(schema)
    if choices is not None:
        return "one of " + ", ".join(map(as_json, choices))
    words = " or ".join(_WORDS[name] for name in _types(schema))

    def bound(inclusive: str, exclusive: str, word: str) -> Optional[str]:
        if inclusive in schema:
            return as_json(schema[inclusive])
        return f"{word} {as_json(schema[exclusive])}" if exclusive in schema else None

    least = bound("minimum", "exclusiveMinimum", "above")
    most = bound("maximum", "exclusiveMaximum", "below")
    if least is not None and most is not None:
        words += f" from {least} to {most}"
    elif least is not None:
        words += f" {least}" if least.startswith("above") else f" of at least {least}"
    elif most is not None:
        words += f" {most}" if most.startswith("below") else f" of at most {most}"
    if "items" in schema:
        words += f", each {expectation(schema['items'])}"
    if schema.get("minItems", 0) >= 1:
        words += ", not empty"
    if schema.get("minLength", 0) >= 1:
        words += ", not empty"
    return words
