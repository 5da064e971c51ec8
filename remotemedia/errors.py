"""What can go wrong, as exceptions.

Every exception of this package derives from :class:`RemoteMediaError` and says where it happened.
Each is also the built-in exception that fits, so ``except ValueError`` or ``except TimeoutError``
work as anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

__all__ = [
    "LibraryNotFoundError",
    "ManifestError",
    "MarshalError",
    "NodeError",
    "RemoteMediaError",
    "RunCancelledError",
    "RunEndedError",
    "RunTimeoutError",
]


class RemoteMediaError(Exception):
    """The base of all errors here.

    ``str(error)`` is one text with the place, the reason and the remedy; the attributes hold the
    parts, each None where it does not apply.
    """

    #: Name of the code in the C header, for example ``"RM_E_NODE"``.
    code: str
    #: The reason, in one sentence.
    message: str
    #: Id of the node concerned.
    node: Optional[str]
    #: Type of that node, as the manifest spells it.
    node_type: Optional[str]
    #: Index of the input item in work, from 0.
    item: Optional[int]
    #: JSON pointer (RFC 6901) into the manifest, or into the input where the input is wrong.
    pointer: Optional[str]
    #: What to do about it.
    hint: Optional[str]
    #: What led to it; for a manifest with several problems, one error for each.
    causes: tuple[RemoteMediaError, ...]

    default_code = "RM_E_INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        node: Optional[str] = None,
        node_type: Optional[str] = None,
        item: Optional[int] = None,
        pointer: Optional[str] = None,
        hint: Optional[str] = None,
        causes: tuple[RemoteMediaError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.node = node
        self.node_type = node_type
        self.item = item
        self.pointer = pointer
        self.hint = hint
        self.causes = causes

    def __str__(self) -> str:
        place = []
        if self.node is not None:
            place.append(f"node {self.node!r}" + (f" ({self.node_type})" if self.node_type else ""))
        if self.item is not None:
            place.append(f"item {self.item}")
        if self.pointer and self.node is None:
            place.append(_short(self.pointer))
        text = ", ".join(place) + ": " + self.message if place else self.message
        if self.hint and len(self.causes) < 2:
            text += f"\n  hint: {self.hint}"
        for cause in self.causes:
            where = f"{_short(cause.pointer)}: " if cause.pointer else ""
            text += f"\n  - {where}{cause.message}" + (f" ({cause.hint})" if cause.hint else "")
        return text

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.message, {**self.__dict__})


def _short(pointer: str) -> str:
    return pointer if len(pointer) <= 80 else f"{pointer[:40]}...{pointer[-30:]}"


def _rebuild(kind: type[RemoteMediaError], message: str, state: dict[str, Any]) -> RemoteMediaError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class LibraryNotFoundError(RemoteMediaError, ImportError):
    """The native library is missing, cannot be loaded, or has another ABI version."""

    default_code = "RM_E_UNSUPPORTED"


class ManifestError(RemoteMediaError, ValueError):
    """A manifest or a pipeline does not describe something that can run. See ``causes``."""

    default_code = "RM_E_MANIFEST"


class MarshalError(RemoteMediaError):
    """A value cannot cross to the native side and back as it is.

    Always also a TypeError, a ValueError or an OverflowError.
    """

    default_code = "RM_E_ARGUMENT"


class MarshalTypeError(MarshalError, TypeError):
    """A value is of a type that does not cross."""


class MarshalValueError(MarshalError, ValueError):
    """A value of a good type cannot cross: too deep, cyclic, not Unicode."""


class MarshalOverflowError(MarshalError, OverflowError, ValueError):
    """An integer does not fit in 64 bits."""


class NodeError(RemoteMediaError, RuntimeError):
    """A node failed. For a Python node ``__cause__`` is the exception that it raised."""

    default_code = "RM_E_NODE"


class RunTimeoutError(RemoteMediaError, TimeoutError):
    """A run was not complete in the time it was given."""

    default_code = "RM_E_TIMEOUT"


class RunCancelledError(RemoteMediaError):
    """A run was cancelled, as a rule from another thread."""

    default_code = "RM_E_CANCELLED"


class RunEndedError(RemoteMediaError, EOFError):
    """A session has nothing more to give, or takes nothing more: it has ended or was closed."""

    default_code = "RM_E_CLOSED"


class Refused(Exception):
    """A value does not cross. For this package alone: whoever knows where the value stands makes a
    :class:`MarshalTypeError` of it."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        #: From the value to the part of it that does not cross.
        self.steps: tuple[str, ...] = ()


_OF_VALUES = {"RM_E_ARGUMENT", "RM_E_JSON", "RM_E_UTF8", "RM_E_LIMIT"}


def from_details(
    details: Mapping[str, Any], kind: type[RemoteMediaError] = RemoteMediaError
) -> RemoteMediaError:
    """The exception for an error of the native library.

    ``details`` is the error's JSON object; ``kind`` is the class where the code does not say.
    """
    code = details["code"]
    if code == "RM_E_TIMEOUT":
        kind = RunTimeoutError
    elif code == "RM_E_CANCELLED":
        kind = RunCancelledError
    elif code == "RM_E_CLOSED":
        kind = RunEndedError
    elif "node" in details and kind is not ManifestError:
        kind = NodeError
    elif issubclass(kind, MarshalError) and code not in _OF_VALUES:
        kind = RemoteMediaError
    causes = tuple(from_details(cause, kind) for cause in details.get("causes", ()))
    parts = {
        key: details.get(key) for key in ("code", "node", "node_type", "item", "pointer", "hint")
    }
    return kind(details["message"], causes=causes, **parts)
