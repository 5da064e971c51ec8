"""What a run gave."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from operator import is_
from typing import Any, Optional

from remotemedia.core.schema import did_you_mean

__all__ = ["Result"]


#: How many outputs the text of a result shows.
_SHOWN = 20


def _short(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"<array of {value.dtype}, shape {tuple(value.shape)}>"
    if isinstance(value, (dict, list, tuple, str, bytes)):
        from reprlib import Repr

        brief = Repr()
        brief.maxstring = brief.maxother = 200
        brief.maxdict = brief.maxlist = brief.maxtuple = _SHOWN
        return brief.repr(value)
    return repr(value)


class Result(list[Any]):
    """The outputs of a run: a list, with what else there is to know about the run.

    The list holds the outputs of all sinks (nodes that lead nowhere), in the order in which the
    sinks stand in the manifest. It may be changed; :attr:`by_node` stays what the run gave.
    """

    __slots__ = ("__weakref__", "_made", "_report")

    def __init__(self, outputs: list[Any], engine: str, *read: Any) -> None:
        """For the engines: ``read`` is a function that gives the metrics, and its arguments."""
        list.__init__(self, outputs)
        #: One for all, as every step costs a short run.
        self._made: tuple[Any, ...] = (outputs, engine, *read)
        #: Not there before somebody asks.
        self._report: Mapping[str, Any]

    @property
    def engine(self) -> str:
        """Which engine ran it: ``"native"`` or ``"python"``."""
        return str(self._made[1])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Counts and times of the run.

        ``{"items", "items_done", "time_us", "sinks": {id: outputs}, "nodes": {id: {"node_type",
        "items_in", "items_out", "time_us"}}}``; times in microseconds. For a node that waits the
        time includes the waiting.
        """
        if not hasattr(self, "_report"):
            _, _, function, *arguments = self._made
            self._report = function(*arguments)
        return self._report

    @property
    def by_node(self) -> dict[str, list[Any]]:
        """The outputs of each sink, by its id."""
        by_node = _ByNode()
        start = 0
        for node, count in self.metrics["sinks"].items():
            by_node[node] = self._made[0][start : start + count]
            start += count
        return by_node

    def __repr__(self) -> str:
        """Short, whatever the outputs are: ``asyncio.run`` makes text of what it runs. ``str()``
        gives all of it."""
        shown = [_short(value) for value in islice(self, _SHOWN)]
        if len(self) > _SHOWN:
            shown.append(f"... {len(self)} outputs")
        return f"[{', '.join(shown)}]"

    def __str__(self) -> str:
        return list.__repr__(self)

    def __reduce__(self) -> Any:
        # A copy in another process has the outputs and the metrics, but no handle of the library.
        outputs = self._made[0]
        same = len(self) == len(outputs) and all(map(is_, self, outputs))
        changed = None if same else list(self)
        return _rebuild, (outputs, self.engine, self.metrics, changed)


class _ByNode(dict[str, list[Any]]):
    def __missing__(self, node: str) -> list[Any]:
        # A sink's id is its name and its place.
        named = [known for known in self if known.rpartition("_")[0] == node]
        hint = f'did you mean "{named[0]}"?' if named else did_you_mean(str(node), self, "")
        raise KeyError(f"there is no sink {node!r}, but {', '.join(map(repr, self))}; {hint}")


def _rebuild(
    outputs: list[Any], engine: str, report: Mapping[str, Any], changed: Optional[list[Any]]
) -> Result:
    result = Result(outputs, engine, lambda: report)
    if changed is not None:
        result[:] = changed
    return result
