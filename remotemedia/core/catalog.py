"""The catalogue of built-in nodes, as the native library has it."""

from __future__ import annotations

import json
import os
from typing import Any, Optional

__all__ = ["catalog", "entry"]

_catalog: dict[str, dict[str, Any]] = {}


def catalog() -> dict[str, dict[str, Any]]:
    """Every type by its name without ``Node``: ``name``, ``summary``, ``takes``, ``gives``,
    ``heavy``, ``params`` (a JSON Schema) and ``example``.

    It is generated from the native library, and a test compares the two.
    """
    if not _catalog:
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        with open(os.path.join(package, "nodes", "catalog.json"), encoding="utf-8") as file:
            _catalog.update((entry["name"], entry) for entry in json.load(file))
    return _catalog


def entry(name: str) -> Optional[dict[str, Any]]:
    """The entry of a type; ``PassThrough`` and ``PassThroughNode`` are the same."""
    found = catalog().get(name)
    if found is None and name.endswith("Node"):
        found = catalog().get(name[:-4])
    return found
