"""How a node takes the values of several connections together: the joins of a manifest.

The twin of the joins in ``rust-core/runtime``. A join holds what has yet no partner, from item to
item; :meth:`take` gets what the connections have for one item, and gives the lists of values that
the node is to process.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Optional

from remotemedia.core.manifest import Join
from remotemedia.errors import NodeError
from remotemedia.inputs import kind

__all__ = ["Joined", "join", "pts_of"]


class Joined:
    """The state of a join in a run."""

    def __init__(self, inputs: int) -> None:
        #: By connection, the values that wait for partners.
        self.waiting: list[deque[Any]] = [deque() for _ in range(inputs)]
        #: How many values were given up, as they had no partner.
        self.dropped = 0

    def take(self, given: list[list[Any]]) -> list[Any]:
        """The lists to be processed, now that each connection has given these."""
        for queue, values in zip(self.waiting, given):
            queue.extend(values)
        return self._matched()

    def _matched(self) -> list[Any]:
        raise NotImplementedError

    def held(self) -> int:
        """How many values wait for partners."""
        return sum(map(len, self.waiting))

    def finish(self) -> None:
        """At the end of input: what has no partner now will never have one."""
        self.dropped += self.held()
        self.clear()

    def clear(self) -> None:
        """Forgets what waits."""
        for queue in self.waiting:
            queue.clear()


class Zip(Joined):
    """One value of each connection makes a list."""

    def _matched(self) -> list[Any]:
        return [
            [queue.popleft() for queue in self.waiting] for _ in range(min(map(len, self.waiting)))
        ]


class Latest(Joined):
    """Each value of the first connection makes a list, with the latest of every other."""

    def take(self, given: list[list[Any]]) -> list[Any]:
        first, *others = given
        for queue, values in zip(self.waiting[1:], others):
            if values:
                queue.clear()
                queue.append(values[-1])
        latest = self.waiting[1:]
        if all(latest):
            return [[value, *(queue[0] for queue in latest)] for value in first]
        self.dropped += len(first)
        return []

    def finish(self) -> None:
        # The latest values were used, or could have been.
        self.clear()


class ByPts(Joined):
    """Values whose presentation times are those of the first connection's, within a tolerance."""

    def __init__(self, inputs: int, tolerance: float) -> None:
        super().__init__(inputs)
        self.tolerance = tolerance

    def take(self, given: list[list[Any]]) -> list[Any]:
        for value in (value for values in given for value in values):
            if pts_of(value) is None:
                raise NodeError(f'"by_pts" joins values that have a pts, got {kind(value)}')
        return super().take(given)

    def _matched(self) -> list[Any]:
        made = []
        first, *others = self.waiting
        while all(self.waiting):
            time = first[0].pts
            for queue in others:
                while queue and queue[0].pts < time - self.tolerance:
                    queue.popleft()
                    self.dropped += 1
            if not all(self.waiting):
                break
            if any(queue[0].pts > time + self.tolerance for queue in others):
                first.popleft()
                self.dropped += 1
            else:
                made.append([queue.popleft() for queue in self.waiting])
        return made


def join(how: Join, inputs: int) -> Optional[Joined]:
    """The join of a node with so many connections; None if it takes each value as it comes."""
    if how == "any":
        return None
    if isinstance(how, str):
        return {"zip": Zip, "latest": Latest}[how](inputs)
    return ByPts(inputs, how)


def pts_of(value: Any) -> Optional[float]:
    """The presentation time of a value in seconds; None for one that has none."""
    pts: Optional[float] = getattr(value, "pts", None)
    return pts
