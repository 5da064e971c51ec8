"""Pipelines of media and data nodes at native speed, and nodes of your own in Python.

>>> from remotemedia import Pipeline
>>> from remotemedia.nodes import CalculatorNode, PassThroughNode
>>> pipeline = Pipeline("sums", [PassThroughNode(), CalculatorNode(operation="add", operand=5)])
>>> pipeline.run_sync([1, 2, 3])
[6, 7, 8]
"""

from typing import TYPE_CHECKING, Any

from remotemedia import native
from remotemedia.audio import Audio
from remotemedia.core.node import Node, node
from remotemedia.core.pipeline import Pipeline
from remotemedia.errors import (
    LibraryNotFoundError,
    ManifestError,
    MarshalError,
    NodeError,
    RemoteMediaError,
    RunCancelledError,
    RunEndedError,
    RunTimeoutError,
)
from remotemedia.frame import Frame
from remotemedia.result import Result

if TYPE_CHECKING:
    from remotemedia.core.session import AsyncSession, Output, Session

    __version__: str

__all__ = [
    "AsyncSession",
    "Audio",
    "Frame",
    "LibraryNotFoundError",
    "ManifestError",
    "MarshalError",
    "Node",
    "NodeError",
    "Output",
    "Pipeline",
    "RemoteMediaError",
    "Result",
    "RunCancelledError",
    "RunEndedError",
    "RunTimeoutError",
    "Session",
    "native",
    "node",
]


#: What few programs ask for by name, and so is imported when they do.
_SESSIONS = ("AsyncSession", "Output", "Session")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Read when somebody asks: looking up metadata takes longer than the rest of the import.
        from importlib.metadata import version

        return version("remotemedia")
    if name in _SESSIONS:
        from remotemedia.core import session

        return getattr(session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SESSIONS})
