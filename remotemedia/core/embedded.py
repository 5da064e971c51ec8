"""Nodes of the native library's among nodes that are written in Python.

Where a pipeline has both, the Python engine runs it, and for each node that exists only natively an
:class:`Embedded` stands in: a session of its own with the library, open for as long as the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from remotemedia import native
from remotemedia.core.catalog import entry
from remotemedia.core.engine import Several
from remotemedia.core.node import Node
from remotemedia.errors import NodeError, RemoteMediaError

if TYPE_CHECKING:
    from remotemedia.core.native_stream import NativeStream

__all__ = ["Embedded"]


class Embedded(Node):
    """Stands for a native node. A heavy one works in a thread, so that an event loop stays free.

    If it fails with a value and the run goes on (``on_error``), it begins anew, without what it
    held.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self._type = node.node_type
        self._now = dict(node.params)
        self._stream: Optional[NativeStream] = None
        if (entry(self._type) or {}).get("heavy"):
            # Of the object, as the class stands for all types.
            self.__dict__["runs_in"] = "thread"

    @property
    def params(self) -> Mapping[str, Any]:
        return self._now

    @property
    def node_type(self) -> str:
        return self._type

    def initialize(self) -> None:
        from remotemedia.core.native_stream import NativeStream

        node = {"id": "node", "node_type": self._type, "params": self._now}
        manifest = json.dumps({"version": "v1", "nodes": [node], "connections": []})
        stream = NativeStream(native.prepare(manifest.encode()), 1, None, loop=False)
        self._stream = stream
        self._within(lambda: stream.work("begin", None) and stream.try_pull(0))

    def process(self, value: Any) -> Several:
        stream = self._open()
        return Several(self._within(lambda: stream.process(value)))

    def flush(self) -> Several:
        stream = self._open()
        return Several(self._within(stream.flush))

    def interrupt(self) -> None:
        self._open().interrupt()

    def _set_params(self, params: dict[str, Any]) -> None:
        stream = self._open()
        self._within(lambda: stream.set("node", params))
        self._now.update(params)

    def cleanup(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _open(self) -> NativeStream:
        if self._stream is None:
            self.initialize()
        assert self._stream is not None
        return self._stream

    def _within(self, work: Any) -> Any:
        """The errors of the session as those of the node."""
        try:
            return work()
        except RemoteMediaError as error:
            self.cleanup()
            raise NodeError(error.message, code=error.code, hint=error.hint) from None
        except BaseException:
            self.cleanup()
            raise
