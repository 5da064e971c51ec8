"""Pipelines: nodes and the connections between them."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from os import PathLike, fspath
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Callable, Optional, Union
from weakref import ref

from remotemedia import native
from remotemedia.core.node import (
    BuiltinNode,
    Node,
    changes,
    has_python,
    is_builtin,
    short_name,
)
from remotemedia.core.schema import MAX_DEPTH, did_you_mean, escaped
from remotemedia.errors import (
    LibraryNotFoundError,
    ManifestError,
    RemoteMediaError,
)
from remotemedia.inputs import normalise_input, normalise_timeout
from remotemedia.result import Result

if TYPE_CHECKING:
    from types import CoroutineType, FrameType

    from remotemedia.core import manifest as reader
    from remotemedia.core.engine import Feed, Run
    from remotemedia.core.host import HostNode
    from remotemedia.core.hosted import Hosted, HostedStream
    from remotemedia.core.session import Backend, Opening

    _Work = CoroutineType[None, None, Result]

__all__ = ["Pipeline"]


#: Types of parameters that cannot be changed in place.
_FIXED = {type(None), bool, int, float, str}


class Pipeline:
    """Nodes and the connections between them, which can be run any number of times::

        pipeline = Pipeline("sums")
        pipeline.add_node(PassThroughNode(name="in"))
        pipeline.add_node(CalculatorNode(operation="add", operand=5))
        pipeline.run_sync([1, 2, 3])  # [6, 7, 8]

    The nodes form a chain, in the order in which they were added, until :meth:`connect` is used;
    from then on the connections are those that were made with it, and no others.

    It may be changed between runs, and run from several threads. Runs take turns if there is a
    node of yours among its nodes, as that is one object.

    Args:
        name: goes into the manifest's metadata.
        nodes: the first nodes.
        description: goes into the manifest's metadata.
    """

    #: For how many microseconds :meth:`run` may work on the thread of the event loop, about, before
    #: it moves to another one; 0 for not at all. A pipeline with a heavy node never does. May be
    #: set on a pipeline, or on the class for all of them.
    inline_us: int = native.INLINE_US

    def __init__(
        self,
        name: str,
        nodes: Optional[Iterable[Node]] = None,
        description: Optional[str] = None,
    ) -> None:
        given: object = name
        if not isinstance(given, str):
            raise TypeError(
                f"the name of a pipeline is text, not {given!r}; "
                'its nodes come second: Pipeline("name", [...])'
            )
        created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._metadata: dict[str, Any] = {"name": name, "created_at": created_at}
        if description is not None:
            self._metadata["description"] = description
        self._nodes: list[Node] = []
        #: By place the id and the type of nodes that come from a manifest, as it spells them.
        self._spelled: dict[int, tuple[str, str]] = {}
        self._connections: Optional[list[tuple[int, int]]] = None
        self._queues: dict[tuple[int, int], dict[str, Any]] = {}
        self._turns = _Turns()
        self._ready: Optional[_Ready] = None
        #: What runs it natively, for as long as nothing was changed since this mark.
        self._quick: tuple[object, Any] = None, None
        for node in nodes or ():
            self.add_node(node)

    # --- what it consists of ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name."""
        return str(self._metadata.get("name") or "pipeline")

    @property
    def description(self) -> Optional[str]:
        """The description."""
        return self._metadata.get("description")

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order in which they were added."""
        return tuple(self._nodes)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the nodes: ``<name>_<index>``, or what the manifest had that it came from."""
        return tuple(name for name, _ in self._named())

    def _named(self) -> list[tuple[str, str]]:
        """The id and the type of each node."""
        return [
            self._spelled.get(place, (f"{node.name}_{place}", node.node_type))
            for place, node in enumerate(self._nodes)
        ]

    @property
    def connections(self) -> tuple[tuple[str, str], ...]:
        """The connections, as pairs of ids."""
        ids = self.ids
        return tuple((ids[start], ids[end]) for start, end in self._edges())

    def add_node(self, node: Node, **options: Any) -> Pipeline:
        """Adds a node object.

        Args:
            node: the node.
            options: how it is to be treated, see :meth:`Node.options`.

        Returns:
            The pipeline, so that calls can be chained.

        Raises:
            ManifestError: if the node is in this pipeline already.
            TypeError: if it is no node, or has no method ``process``.
        """
        given: object = node
        if not isinstance(given, Node):
            hint = "; call it to make one" if isinstance(given, type) else ""
            raise TypeError(
                f"a node is an object of a class derived from Node, not {given!r}{hint}"
            )
        if not (has_python(node) or is_builtin(node)):
            raise TypeError(
                f"{type(node).__name__} has no method process, which takes the values of a node"
            )
        if any(node is other for other in self._nodes):
            raise ManifestError(
                f'the node "{node.name}" is in this pipeline already',
                node_type=node.node_type,
                hint="make another node of this type",
            )
        # Past a method or an attribute of this name that the node may have.
        Node.options(node, **options)
        self._nodes.append(node)
        changes.mark = object()
        return self

    def connect(
        self,
        source: Union[Node, str],
        target: Union[Node, str],
        queue: Optional[dict[str, Any]] = None,
    ) -> Pipeline:
        """Connects two nodes, given as objects or by their ids.

        Args:
            source: what gives the values.
            target: what takes them.
            queue: how the connection's queue is made: ``items``, ``bytes`` and ``ms`` bound it, and
                ``policy`` says what happens when it is full: ``"block"``, ``"drop_oldest"``,
                ``"drop_newest"`` or ``"error"``. With ``use_rust=False`` there are no queues, as
                the Python engine takes an item through all nodes before the next.

        Returns:
            The pipeline, so that calls can be chained.

        Raises:
            ManifestError: if one of them is not in this pipeline. Connections that make no sense
                together, such as a cycle, are found by :meth:`validate` and before a run.
        """
        edge = self._place(source), self._place(target)
        if queue is not None:
            # A copy, as it cannot be changed without a trace.
            self._queues[edge] = dict(queue) if isinstance(queue, dict) else queue
        self._connections = [*(self._connections or ()), edge]
        changes.mark = object()
        return self

    def _place(self, node: Union[Node, str]) -> int:
        if isinstance(node, str):
            ids = self.ids
            if node in ids:
                return ids.index(node)
            named = [ids[place] for place, other in enumerate(self._nodes) if other.name == node]
            hint = f'did you mean "{named[0]}"?' if named else None
            hint = hint or did_you_mean(node, ids, "add the nodes first, with add_node")
            raise ManifestError(f'there is no node with the id "{node}"', hint=hint)
        for place, other in enumerate(self._nodes):
            if node is other:
                return place
        raise ManifestError(
            f"the node {node!r} is not in this pipeline", hint="add it first, with add_node"
        )

    def _edges(self) -> list[tuple[int, int]]:
        if self._connections is not None:
            return self._connections
        return [(place, place + 1) for place in range(len(self._nodes) - 1)]

    # --- as a manifest ----------------------------------------------------------------------------

    def serialize(self) -> str:
        """The pipeline as a manifest, JSON text.

        Raises:
            ManifestError: if a parameter cannot be written as JSON.
        """
        return json.dumps(self._document(of_users=True), ensure_ascii=False)

    def _document(self, of_users: bool) -> dict[str, Any]:
        """The manifest as a dict; the parameters of users' nodes may be anything, so they are in
        it only on demand."""
        problems: list[ManifestError] = []
        nodes = []
        for place, (node, (node_id, node_type)) in enumerate(zip(self._nodes, self._named())):
            params: dict[str, Any] = {}
            if of_users or is_builtin(node):
                at = f"/nodes/{place}/params"
                try:
                    params = _plain(node.params, at, 3)
                except ManifestError as problem:
                    problem.node, problem.node_type = node_id, node_type
                    problems.append(problem)
            options = node.__dict__.get("_options", {})
            nodes.append({"id": node_id, "node_type": node_type, "params": params, **options})
        if problems:
            from remotemedia.core import manifest as reader

            raise reader.from_problems(problems)
        connections = [
            {
                "from": start,
                "to": end,
                **({"queue": self._queues[edge]} if edge in self._queues else {}),
            }
            for (start, end), edge in zip(self.connections, self._edges())
        ]
        return {
            "version": "v1",
            "metadata": dict(self._metadata),
            "nodes": nodes,
            "connections": connections,
        }

    @classmethod
    def from_manifest(
        cls, manifest: native.Manifest, node_types: Iterable[type[Node]] = ()
    ) -> Pipeline:
        """The pipeline that a manifest describes.

        Args:
            manifest: JSON text, the same as a dict, or the path of a file.
            node_types: classes of your own that the manifest may name.

        Raises:
            ManifestError: with every problem in ``causes``.
            OSError: if a manifest's file cannot be read.
        """
        import remotemedia.nodes  # noqa: F401  they register themselves
        from remotemedia.core import manifest as reader
        from remotemedia.core.engine import described

        types = reader.builtin_types()
        classes: dict[str, type[Node]] = dict(BuiltinNode.registry)
        for kind in node_types:
            if not (isinstance(kind, type) and issubclass(kind, Node)):
                raise TypeError(f"a node type is a class derived from Node, not {kind!r}")
            classes[short_name(kind.__name__)] = kind
            types[short_name(kind.__name__)] = None
        document, plan = reader.read(native.manifest_text(manifest), types)
        metadata = document.get("metadata", {})
        pipeline = cls(metadata.get("name") or "pipeline")
        pipeline._metadata = metadata
        problems = []
        for place, node in enumerate(plan.nodes):
            kind = classes[reader.find_type(node.node_type, types) or ""]
            try:
                made = kind(**node.params)
            except Exception as error:  # noqa: BLE001  users' code may raise anything
                problem = ManifestError(
                    described(error),
                    node=node.id,
                    node_type=node.node_type,
                    pointer=f"/nodes/{place}/params",
                    hint=f"the parameters are the arguments of {kind.__name__}",
                )
                problem.__cause__ = error
                problems.append(problem)
                continue
            made.name = node.id.removesuffix(f"_{place}") or node.id
            options = document["nodes"][place]
            pipeline.add_node(
                made, **{key: options[key] for key in reader.SETTINGS if key in options}
            )
            pipeline._spelled[place] = node.id, node.node_type
        if problems:
            raise reader.from_problems(problems)
        ids = [node.id for node in plan.nodes]
        pipeline._connections = [
            (ids.index(edge["from"]), ids.index(edge["to"]))
            for edge in document.get("connections", ())
        ]
        pipeline._queues = {
            edge: connection["queue"]
            for edge, connection in zip(pipeline._connections, document.get("connections", ()))
            if "queue" in connection
        }
        return pipeline

    def validate(self) -> None:
        """Checks the pipeline without running it.

        Raises:
            ManifestError: with every problem in ``causes``.
        """
        ready = self._prepare()
        if ready.users or not native.is_available():
            ready.plan()
        else:
            ready.prepared()

    # --- running ----------------------------------------------------------------------------------

    async def run(
        self, input_data: Any = None, use_rust: bool = True, timeout: Optional[float] = None
    ) -> Result:
        """Runs the pipeline on these items.

        Args:
            input_data: an iterable of items, which go to every source node (one that nothing is
                connected to), or a dict from the ids of source nodes to iterables. None is no
                items.
            use_rust: whether to run in the native library, which asks nodes of your own for what
                they have to do. Without the library the pipeline runs in the Python engine, with
                the same results, and a warning says so once in a process. False is the Python
                engine, without a warning.
            timeout: the time for all of it, in seconds.

        Returns:
            The outputs of all sinks (nodes that lead nowhere), in the order of the nodes.

        Raises:
            ManifestError: the nodes and connections make no pipeline, or ``use_rust=False`` meets
                nodes that exist only in the native library.
            MarshalError: an item is not a value that can cross to the native library, or the
                input is not a list of items.
            NodeError: a node failed; says which node, which item and why.
            RunTimeoutError: the time ran out.
            LibraryNotFoundError: there is no native library, and a node exists only there.
        """
        mark, prepared = self._quick
        if mark is not changes.mark or not use_rust:
            items, timeout = normalise_input(input_data), normalise_timeout(timeout)
            ready = self._prepare()
            if not self._native(ready, use_rust):
                from remotemedia.core.engine import Batch

                run = ready.run(Batch(ready.plan(), items), timeout, loop=True)
                return await (self._turns.work(run) if ready.users else run.execute())
            prepared, input_data = self._remember(ready), items
        done = prepared.start(input_data, timeout, 0 if prepared.heavy else self.inline_us)
        return done if isinstance(done, Result) else await done.finish_async()

    def run_sync(
        self, input_data: Any = None, use_rust: bool = True, timeout: Optional[float] = None
    ) -> Result:
        """As :meth:`run`, for code without an event loop."""
        mark, prepared = self._quick
        if mark is changes.mark and use_rust:
            result: Result = prepared.run(input_data, timeout)
            return result
        items, timeout = normalise_input(input_data), normalise_timeout(timeout)
        ready = self._prepare()
        if self._native(ready, use_rust):
            return self._remember(ready).run(items, timeout)
        from remotemedia.core.engine import Batch, drive

        run = ready.run(Batch(ready.plan(), items), timeout)
        return drive(self._turns.work(run) if ready.users else run.execute())

    def open(
        self,
        *,
        use_rust: bool = True,
        window: int = 64,
        timeout: Optional[float] = None,
        stall: Optional[float] = 5.0,
    ) -> Opening:
        """Opens a session, in which items are pushed and outputs pulled while the pipeline runs::

            with pipeline.open() as run:
                run.push(1)
                run.end()
                for output in run:
                    print(output.value)

        With ``async with`` it is the same for asyncio: ``await run.send(1)``, ``async for``. The
        nodes are initialized when the block begins; when it is left, a run that has not ended is
        cancelled.

        Args:
            use_rust: as for :meth:`run`.
            window: how many items may be inside at once, counted from the oldest that is not
                processed yet or has outputs that have not been pulled. While it is full, ``push``
                waits.
            timeout: the time for all of it, in seconds.
            stall: after how many seconds without progress a session in which somebody waits says
                in the log what it waits for, once; None is never.

        Raises:
            ManifestError: as for :meth:`run`.
        """
        from remotemedia.core.session import Opening

        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ValueError(f"window is a number of items from 1, not {window!r}")
        timeout, stall = normalise_timeout(timeout), normalise_timeout(stall)
        ready = self._prepare()
        runs_natively = self._native(ready, use_rust)
        prepared = self._native_way(ready) if runs_natively else None
        plan = None if runs_natively else ready.plan()

        def start(loop: bool) -> Backend:
            if isinstance(prepared, native.Prepared):
                from remotemedia.core.native_stream import NativeStream

                return NativeStream(prepared, window, timeout, loop)
            if prepared is not None:
                return prepared.open(window, timeout, loop)
            assert plan is not None
            from remotemedia.core.stream import Stream

            stream = Stream(plan, window)
            run = ready.run(stream, timeout, loop)
            stream.begin(run, self._turns.work(run) if ready.users else run.execute())
            return stream

        return Opening(start, stall)

    def _prepare(self) -> _Ready:
        """What a run needs, made anew if anything has changed."""
        mark = changes.mark
        state = (
            len(self._nodes),
            self._connections,
            repr(self._queues) if self._queues else None,
            [
                repr(node.__dict__["_options"])
                for node in self._nodes
                if "_options" in node.__dict__
            ],
            [
                (node.name, repr(dict(node.params)) if is_builtin(node) else None)
                for node in self._nodes
            ],
        )
        ready = self._ready
        if ready is None or ready.state != state:
            ready = self._ready = _Ready(self, state)
        ready.mark = mark
        return ready

    def _native_way(self, ready: _Ready) -> Union[native.Prepared, Hosted]:
        """What runs it natively."""
        if not ready.users:
            return ready.prepared()
        if ready.way is None:
            from remotemedia.core.hosted import Hosted

            ready.way = Hosted(ready.prepared(), ready.hosted(), self._turns.enter)
        return ready.way

    def _remember(self, ready: _Ready) -> Union[native.Prepared, Hosted]:
        """The same; remembered if nobody can change a node without a trace."""
        prepared = self._native_way(ready)
        builtin = filter(is_builtin, self._nodes)
        if all(type(value) in _FIXED for node in builtin for value in node.params.values()):
            self._quick = ready.mark, prepared
        return prepared

    def _native(self, ready: _Ready, use_rust: bool) -> bool:
        """Whether the native library is to run it. Says so if it is not, though it was asked to."""
        if use_rust and native.is_available():
            return True
        if not use_rust:
            ready.refuse_media()
        elif ready.media:
            raise LibraryNotFoundError(f"{ready.only_native()}, and {_why_missing()}")
        else:
            _tell_missing()
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_turns": None, "_ready": None, "_quick": (None, None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turns=_Turns())

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}: {', '.join(self.ids) or 'no nodes'}>"


class _Ready:
    """A pipeline as it was at some time, ready to be run."""

    def __init__(self, pipeline: Pipeline, state: Any) -> None:
        self.state = state
        self.mark: object = None
        self.nodes = pipeline.nodes
        #: Nodes that only Python has, and nodes that Python does not have.
        self.users = [node for node in self.nodes if not is_builtin(node)]
        self.media = [node for node in self.nodes if is_builtin(node) and not has_python(node)]
        self._document = pipeline._document(of_users=False)
        self._prepared: Optional[native.Prepared] = None
        self._plan: Optional[reader.Plan] = None
        self._hosted: Optional[list[HostNode]] = None
        self.way: Optional[Hosted] = None

    def only_native(self) -> str:
        return f"the nodes {_listed(self.media)} exist only in the native library"

    def refuse_media(self) -> None:
        """For the Python engine alone, which has no media nodes."""
        if not self.media:
            return
        text, hint = self.only_native(), "run the pipeline with use_rust=True"
        place = next(place for place, node in enumerate(self.nodes) if node is self.media[0])
        node = self._document["nodes"][place]
        raise ManifestError(
            text,
            code="RM_E_UNSUPPORTED",
            node=node["id"],
            node_type=node["node_type"],
            pointer=f"/nodes/{place}",
            hint=hint,
        )

    def prepared(self) -> native.Prepared:
        """For the native library."""
        if self._prepared is None:
            document = dict(self._document)
            types: dict[str, set[str]] = {}
            if self.users:
                from remotemedia.core.host import does

                # What is wrong is found in the whole of it.
                self.plan()
                builtin = {short_name(node.node_type) for node in self.nodes if is_builtin(node)}
                document["nodes"] = entries = []
                for node, entry in zip(self.nodes, self._document["nodes"]):
                    if not is_builtin(node):
                        # Its time is taken where it works.
                        entry = {key: entry[key] for key in entry if key != "timeout"}
                        if short_name(node.node_type) in builtin:
                            entry["node_type"] += " in Python"
                        types.setdefault(entry["node_type"], set()).update(does(node))
                    entries.append(entry)
            self._prepared = native.Prepared(
                _text(document),
                [{"name": name, "tasks": sorted(tasks)} for name, tasks in types.items()],
            )
        return self._prepared

    def hosted(self) -> list[HostNode]:
        """The nodes that are written in Python."""
        if self._hosted is None:
            from remotemedia.core.host import HostNode

            self._hosted = [
                HostNode(
                    place,
                    planned.id,
                    planned.node_type,
                    planned.timeout,
                    planned.on_error != ("fail", 0, 0),
                    node,
                )
                for place, (node, planned) in enumerate(zip(self.nodes, self.plan().nodes))
                if not is_builtin(node)
            ]
        return self._hosted

    def plan(self) -> reader.Plan:
        """For the Python engine."""
        if self._plan is None:
            from remotemedia.core import manifest as reader

            types = reader.builtin_types()
            if self.users:
                types.update((short_name(node.node_type), None) for node in self.users)
                self._plan = reader.plan(self._document, types)
            else:
                self._plan = reader.read(_text(self._document), types)[1]
        return self._plan

    def run(self, feed: Feed, timeout: Optional[float], loop: bool = False) -> Run:
        """A run in the Python engine: with a fresh object for every built-in node."""
        from remotemedia.core.engine import Run

        plan = self.plan()
        nodes = []
        for node, planned in zip(self.nodes, plan.nodes):
            nodes.append(type(node)(**planned.params) if is_builtin(node) else node)
        return Run(plan, nodes, feed, timeout, loop)


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _no() -> bool:
    return False


class _Turn:
    """A run's turn to use the nodes of a pipeline."""

    def __init__(self, turns: dict[_Turn, None], loop: bool) -> None:
        self._turns = turns
        self._here = os.getpid(), get_ident()
        self._loop = loop
        #: That of a run on this thread: Ctrl-C cannot come between the end of its block and that of
        #: the turn.
        self.block = Lock()
        #: Whether the run goes on; one that never began does not.
        self.lasts: Callable[[], bool] = self.block.locked

    def begin(self, run: HostedStream) -> None:
        """It is the turn of this run, which is not kept: one that was forgotten has ended."""
        self._turns[self] = None
        known = ref(run)

        def lasts() -> bool:
            run = known()
            return run is not None and not run.has_let_go()

        self.lasts = lasts

    def has_come(self) -> bool:
        """Whether all runs that came before have ended.

        Raises:
            RemoteMediaError: if it can never come.
        """
        turns = self._turns
        # Others forget those that have not begun yet.
        turns[self] = None
        for other in list(turns):
            if other is self:
                break
            # After a fork, what another thread of the parent had begun will never end here.
            if not other.lasts() or other._here[0] != self._here[0]:
                turns.pop(other, None)
                continue
            # Waiting for something that this very thread does would be for ever.
            if other in _around.get() or (other._here == self._here and not self._loop):
                raise _busy()
            return False
        return True

    def leave(self) -> None:
        """The run has ended, and is forgotten."""
        self.lasts = _no
        self._turns.pop(self, None)

    def go_out(self) -> None:
        """This code is not part of the run any more."""
        around = _around.get()
        _around.set(() if around == (self,) else _without(self, around))

    def go_into(self) -> None:
        """From here on this code is part of the run."""
        around = _around.get()
        if around:
            around = _without(self, [turn for turn in around if turn.lasts()])
        _around.set((*around, self))


def _without(turn: _Turn, turns: Iterable[_Turn]) -> tuple[_Turn, ...]:
    return tuple(other for other in turns if other is not turn)


#: The turns of the runs with users' nodes that this code is part of: a node may not run its own
#: pipeline.
_around: ContextVar[tuple[_Turn, ...]] = ContextVar("remotemedia_around", default=())


class _Turns:
    """Lets one run at a time use the nodes of a pipeline, in the order in which they came.

    There is nothing to give back, which Ctrl-C at a bad moment could prevent: a turn knows itself
    whether its run goes on.
    """

    def __init__(self) -> None:
        #: In the order in which they came.
        self._turns: dict[_Turn, None] = {}
        #: A turn for another run, which is awaited in an event loop or not.
        self.enter: Callable[[bool], _Turn] = partial(_Turn, self._turns)

    def work(self, run: Run) -> _Work:
        """A run of the Python engine, when it is its turn; as long as it has time."""
        from remotemedia.core.engine import Batch

        turn = self.enter(run.loop)
        work: Any = self._in_turn(run, turn)
        turn.lasts = lambda: work.cr_frame is not None
        if not isinstance(run.feed, Batch):
            # Within the block of a session another run would wait for its end.
            turn.go_into()
        return work  # type: ignore[no-any-return]

    async def _in_turn(self, run: Run, turn: _Turn) -> Result:
        # Not asked before it has begun: what never begins would never end.
        pause = 0.0
        while not turn.has_come():
            if run.time_left() == 0:
                from remotemedia.core.engine import waited

                raise waited()
            if run.cancelled:
                raise run.cancellation()
            if run.loop:
                from asyncio import sleep

                await sleep(pause)
            else:
                time.sleep(pause)  # noqa: ASYNC251  there is no loop
            pause = min(pause * 1.1 + 1e-5, 0.01)
        turn.go_into()
        return await run.execute()


def _busy() -> RemoteMediaError:
    return RemoteMediaError(
        "the pipeline is running already, further up in this thread or task",
        code="RM_E_BUSY",
        hint="make a second pipeline, with nodes of its own",
    )


def _listed(nodes: Iterable[Node]) -> str:
    return ", ".join(f"{node.name!r} ({node.node_type})" for node in nodes)


_told_missing = False


def _tell_missing() -> None:
    """Warns that the native library is missing, once in a process."""
    global _told_missing
    if not _told_missing:
        _told_missing = True
        warnings.warn(
            f"pipelines run in the Python engine, which is slower: {_why_missing()}",
            RuntimeWarning,
            stacklevel=_outside(),
        )


def _outside() -> int:
    """The ``stacklevel`` with which the caller's warning points to the code that called this
    package, whatever of it lies between."""
    level = 1
    frame: Optional[FrameType] = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "remotemedia":
        level, frame = level + 1, frame.f_back
    return level


def _why_missing() -> str:
    try:
        native.version()
    except LibraryNotFoundError as error:
        return error.message
    return "the native library was missing a moment ago"


def _plain(value: Any, at: str, depth: int) -> Any:
    """A parameter as JSON has it."""

    def refused(why: str, code: Optional[str] = None) -> ManifestError:
        hint = "parameters are None, bools, 64-bit ints, finite floats, text, lists and dicts"
        return ManifestError(why, code=code, pointer=at, hint=hint)

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise refused("the text has a lone surrogate")
        return str(value)
    if isinstance(value, float):
        if value - value != 0.0:
            raise refused(f"JSON has no {float(value)!r}")
        return float(value)
    if hasattr(type(value), "__index__"):
        number = int(value)
        if not -(2**63) <= number < 2**64:
            raise refused(f"an int of {number.bit_length()} bits does not fit in 64 bits")
        return number
    if isinstance(value, PathLike):
        return _plain(fspath(value), at, depth)
    if depth >= MAX_DEPTH:
        why = f"the parameters are nested deeper than {MAX_DEPTH} levels"
        raise refused(why, "RM_E_LIMIT")
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{at}/{index}", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise refused(f"the key {key!r} is not text")
        return {
            str(key): _plain(item, f"{at}/{escaped(key)}", depth + 1) for key, item in value.items()
        }
    raise refused(f"{type(value).__qualname__} is not a parameter that a manifest can hold")
