"""The check of a node's parameters against the schema of its type, and "did you mean".

The twin of ``rust-core/runtime/src/schema.rs``: the same problems in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from remotemedia.errors import ManifestError

__all__ = ["as_json", "check", "closest", "did_you_mean", "escaped"]

_Schema = Mapping[str, Any]


def closest(word: str, names: Iterable[str]) -> Optional[str]:
    """Of ``names``, the one most like ``word``, if any is like enough: at most a third of the
    longer one's letters, or one but not the only one, inserted, dropped, changed or swapped with a
    neighbour, not counting upper and lower case."""
    best = None
    least = None
    for name in names:
        # Absurdly long words are like nothing; the distance takes time by the product of lengths.
        if max(len(_bytes(word)), len(_bytes(name))) > 200:
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
    """The optimal string alignment distance."""
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]


def did_you_mean(word: str, names: Iterable[str], otherwise: str) -> str:
    """The hint for an unknown name: the closest known one, or all of them."""
    names = list(names)
    name = closest(word, names)
    if name is not None:
        return f'did you mean "{name}"?'
    return "known are: " + ", ".join(names) if names else otherwise


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


def check(schema: _Schema, params: Mapping[str, Any], pointer: str) -> list[ManifestError]:
    """Checks parameters against the schema of a node type; returns every problem.

    ``pointer`` is where the parameters stand in the manifest.
    """
    properties = schema.get("properties", {})
    problems: list[ManifestError] = []
    for key, value in params.items():
        at = f"{pointer}/{escaped(key)}"
        if key in properties:
            _check_value(properties[key], value, at, key, problems)
        else:
            hint = did_you_mean(key, properties, "this node has no parameters")
            problems.append(ManifestError(f'there is no parameter "{key}"', pointer=at, hint=hint))
    for name in schema.get("required", ()):
        if name not in params:
            hint = f'add "{name}": {_expectation(properties[name])}'
            problems.append(
                ManifestError(f'the parameter "{name}" is missing', pointer=pointer, hint=hint)
            )
    return problems


def _check_value(
    schema: _Schema, value: Any, at: str, name: str, problems: list[ManifestError]
) -> None:
    def fail(message: str, hint: Optional[str] = None) -> None:
        hint = hint or f"{name}: {_expectation(schema)}"
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
                _check_value(schema["items"], item, f"{at}/{index}", name, problems)


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
    text = as_json(value)
    return text if len(text) <= 60 else text[:57] + "..."


_WORDS = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "an object",
}


def _expectation(schema: _Schema) -> str:
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
        words += f", each {_expectation(schema['items'])}"
    if schema.get("minItems", 0) >= 1:
        words += ", not empty"
    if schema.get("minLength", 0) >= 1:
        words += ", not empty"
    return words
