"""The log of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["logger"]


def logger() -> Logger:
    """``logging.getLogger("remotemedia")``, which writes nothing to stderr by itself."""
    # Imported when there is something to say.
    import logging

    found = logging.getLogger("remotemedia")
    if not any(isinstance(handler, logging.NullHandler) for handler in found.handlers):
        # Without a handler anywhere, logging itself would write to stderr.
        found.addHandler(logging.NullHandler())
    return found
