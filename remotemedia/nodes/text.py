"""Nodes that work on text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Literal, Optional

from remotemedia.core.node import BuiltinNode
from remotemedia.core.schema import did_you_mean
from remotemedia.errors import NodeError
from remotemedia.inputs import kind

__all__ = ["TextProcessorNode"]

Operation = Literal[
    "uppercase",
    "lowercase",
    "reverse",
    "word_count",
    "char_count",
    "title_case",
    "remove_spaces",
    "first_word",
    "last_word",
]

#: White space for CPython's ``split``, but not for every Python's.
_SEPARATORS = dict.fromkeys(range(0x1C, 0x20), " ")


def _words(text: str) -> list[str]:
    return text.translate(_SEPARATORS).split()


_OPERATIONS: dict[str, Callable[[str], Any]] = {
    "uppercase": str.upper,
    "lowercase": str.lower,
    "reverse": lambda text: text[::-1],
    "word_count": lambda text: len(_words(text)),
    "char_count": len,
    "title_case": str.title,
    "remove_spaces": lambda text: text.replace(" ", ""),
    "first_word": lambda text: (_words(text) or [""])[0],
    "last_word": lambda text: (_words(text) or [""])[-1],
}

_HINT = 'send text, or {"text": ..., "operations": [...]}'


class TextProcessorNode(BuiltinNode, builtin=True):
    """Applies operations to each text and gives their results by name.

    Takes text, or ``{"text": ..., "operations": [...]}`` to choose for this text; gives
    ``{"text": the text as it came, "results": {operation: result}}``.

    Args:
        operations: what to find out about each text, in this order.
    """

    def __init__(self, *, operations: Sequence[Operation] = (), name: Optional[str] = None) -> None:
        super().__init__(name)
        self.operations = list(operations)

    def process(self, value: Any) -> dict[str, Any]:
        operations: list[Any] = list(self.operations)
        if isinstance(value, dict):
            for key in value:
                if key not in ("text", "operations"):
                    hint = did_you_mean(key, ("text", "operations"), "")
                    raise NodeError(f'unknown key "{key}"', hint=hint)
            if "text" not in value:
                raise NodeError('the map has no "text"', hint=_HINT)
            if "operations" in value:
                operations = value["operations"]
                if not isinstance(operations, (list, tuple)):
                    raise NodeError(
                        f'"operations" is a list of names, not {kind(operations)}', hint=_HINT
                    )
            value = value["text"]
        _check(operations)
        if not isinstance(value, str):
            raise NodeError(f"takes text, got {kind(value)}", hint=_HINT)
        return {"text": value, "results": {name: _OPERATIONS[name](value) for name in operations}}


def _check(operations: Sequence[Any]) -> None:
    for name in operations:
        if not isinstance(name, str):
            raise NodeError(
                f"an operation is the name of one, not {kind(name)}",
                hint=did_you_mean("", _OPERATIONS, ""),
            )
        if name not in _OPERATIONS:
            raise NodeError(
                f'there is no operation "{name}"', hint=did_you_mean(name, _OPERATIONS, "")
            )
