"""Nodes that move values and do not look into them."""

from __future__ import annotations

from typing import Any, Optional

from remotemedia.core.node import BuiltinNode

__all__ = ["BufferNode", "DelayNode", "PassThroughNode"]


class PassThroughNode(BuiltinNode, builtin=True):
    """Hands on every value unchanged and uncopied."""

    def __init__(self, *, name: Optional[str] = None) -> None:
        super().__init__(name)

    def process(self, value: Any) -> Any:
        # Yielded, as None is a value like any other here.
        yield value


class BufferNode(BuiltinNode, builtin=True):
    """Collects values into lists of buffer_size; the last list may be shorter.

    Args:
        buffer_size: how many values make a list.
    """

    def __init__(self, *, buffer_size: int = 10, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.buffer_size = buffer_size

    def initialize(self) -> None:
        self._held: list[Any] = []

    def process(self, value: Any) -> Optional[list[Any]]:
        self._held.append(value)
        return self.flush() if len(self._held) >= self.buffer_size else None

    def flush(self) -> Optional[list[Any]]:
        held, self._held = self._held, []
        return held or None


class DelayNode(BuiltinNode, builtin=True):
    """Hands on each value after a time, for pacing; values wait one after the other.

    Args:
        seconds: how long each value is held.
    """

    def __init__(self, *, seconds: float = 0.0, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.seconds = seconds

    async def process(self, value: Any) -> Any:
        from asyncio import sleep

        await sleep(self.seconds)
        yield value
