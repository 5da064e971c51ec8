"""Manifest v1 for the Python engine: strict reading, with every problem reported at once.

The twin of ``rust-core/runtime/src/manifest.rs`` and of the reader in ``json.rs``: the same
problems, in the same order and the same words. Only what is wrong with text that is not JSON at
all is told in the words of Python's ``json``.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

from remotemedia.core import schema
from remotemedia.core.catalog import catalog, entry
from remotemedia.core.schema import MAX_DEPTH, Problems, escaped, shorten
from remotemedia.errors import ManifestError
from remotemedia.inputs import kind

__all__ = [
    "OnError",
    "Plan",
    "PlanNode",
    "Types",
    "builtin_types",
    "plan",
    "read",
    "read_json",
]

MAX_BYTES = 1 << 20
MAX_NODES = 1_000
MAX_CONNECTIONS = 10_000

#: Node types by name, without the ending ``Node``: the schema of the parameters, or None for
#: parameters that nobody checks.
Types = Mapping[str, Optional[Mapping[str, Any]]]


def builtin_types() -> dict[str, Optional[Mapping[str, Any]]]:
    """The types that every manifest may name."""
    return {name: entry["params"] for name, entry in catalog().items()}


class OnError(NamedTuple):
    """What happens when a node fails with a value."""

    #: After the last attempt: ``"fail"``, ``"skip"`` or ``"passthrough"``.
    then: str = "fail"
    #: How often the node is called again.
    retries: int = 0
    #: The pause before the first of these calls, in seconds; before each further one it doubles.
    backoff: float = 0.0


#: How a node takes the values of several connections: ``"any"``, ``"zip"``, ``"latest"``, or the
#: tolerance in seconds within which presentation times are the same.
Join = Union[str, float]


class PlanNode:
    """A node of a :class:`Plan`."""

    __slots__ = ("consumers", "id", "inputs", "join", "node_type", "on_error", "params", "timeout")

    def __init__(self, id: str, node_type: str, params: Mapping[str, Any]) -> None:
        self.id = id
        #: As the manifest spells it.
        self.node_type = node_type
        self.params = params
        #: Places of the upstream nodes, in the order of the connections.
        self.inputs: list[int] = []
        #: How many connections lead away; none for a sink.
        self.consumers = 0
        self.join: Join = "any"
        self.on_error = OnError()
        #: The time for one value in seconds, or None for as long as it takes.
        self.timeout: Optional[float] = None


class Plan:
    """A manifest that was found good."""

    __slots__ = ("nodes", "order")

    def __init__(self, nodes: list[PlanNode], order: list[int]) -> None:
        self.nodes = nodes
        #: Every place once, upstream before downstream; where the graph leaves a choice, the node
        #: that stands first in the manifest.
        self.order = order


def read(text: bytes, types: Types) -> tuple[dict[str, Any], Plan]:
    """Reads a manifest: the document, and what follows from it.

    Raises:
        ManifestError: with all the problems in ``causes`` if there are several.
    """
    if len(text) > MAX_BYTES:
        raise ManifestError(
            f"the manifest has {len(text)} bytes; the limit is {MAX_BYTES}",
            code="RM_E_LIMIT",
            pointer="",
            hint="pass data as input, not in the manifest",
        )
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"the manifest is not UTF-8 at byte {error.start}",
            code="RM_E_UTF8",
            pointer="",
            hint="a manifest is JSON text (RFC 8259) in UTF-8",
        ) from None
    document, problems = read_json(decoded)
    return document, _checked(document, types, problems)


def plan(document: Mapping[str, Any], types: Types) -> Plan:
    """The same for a manifest that is there as a dict."""
    return _checked(document, types, Problems())


def _checked(document: Any, types: Types, problems: Problems) -> Plan:
    made = _Reader(types, problems).read(document)
    if problems.count or made is None:
        raise from_problems(problems.kept, problems.count)
    return made


def from_problems(problems: list[ManifestError], count: Optional[int] = None) -> ManifestError:
    """One error for all the problems of a manifest; ``count`` is how many there are if these are
    only the first. A single problem stands for itself."""
    first = problems[0]
    if len(problems) == 1:
        return first
    return ManifestError(
        f"the manifest has {count or len(problems)} problems; the first: {first.message}",
        code=first.code,
        node=first.node,
        node_type=first.node_type,
        pointer=first.pointer,
        hint=first.hint,
        causes=tuple(problems),
    )


# --- JSON -----------------------------------------------------------------------------------------


class _NotJson(Exception):
    """Something that Python's reader would let pass."""


class _Doubled(dict[str, Any]):
    """An object in which a key stands twice, with all that was written in it."""

    pairs: list[tuple[str, Any]]


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL
)  # fmt: skip


def read_json(text: str) -> tuple[Any, Problems]:
    """Reads JSON text; keys that stand twice are handed back as problems.

    Raises:
        ManifestError: with the code ``RM_E_JSON``, or ``RM_E_LIMIT`` for deep nesting.
    """
    deep, closing = _too_deep(text)
    try:
        if deep is not None:
            # Good so far, with a number for the value that is too deep?
            found, _, _ = _loads(text[:deep] + "0" + closing)
            raise ManifestError(
                f"the JSON is nested deeper than {MAX_DEPTH} levels",
                code="RM_E_LIMIT",
                pointer=_last(found),
                hint="flatten the parameters, or pass data as input",
            )
        document, large, doubled = _loads(text)
    except json.JSONDecodeError as error:
        raise _not_json(
            f"the text is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except _NotJson as error:
        raise _not_json(f"the text is not JSON: {error}") from None
    if large is not None:
        digits = large if len(large) <= 40 else f"{large[:20]}... ({len(large)} digits)"
        raise _not_json(f"the integer {digits} does not fit in 64 bits")
    problems = Problems()
    if doubled:
        _report_doubled(document, "", problems)
    return document, problems


def _not_json(message: str) -> ManifestError:
    hint = "a manifest is JSON text (RFC 8259) in UTF-8"
    return ManifestError(message, code="RM_E_JSON", pointer="", hint=hint)


def _too_deep(text: str) -> tuple[Optional[int], str]:
    """Where the first bracket stands that is nested too deep, and what closes those around it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None, ""
    closing: list[str] = []
    for token in _TOKENS.finditer(text):
        bracket = token.group()
        if bracket in ("[", "{"):
            if len(closing) == MAX_DEPTH:
                return token.start(), "".join(reversed(closing))
            closing.append("]" if bracket == "[" else "}")
        elif bracket in ("]", "}") and closing:
            closing.pop()
    return None, ""


def _loads(text: str) -> tuple[Any, Optional[str], bool]:
    """The value, the first integer beyond 64 bits, and whether a key stands twice somewhere."""
    large: list[str] = []
    doubled: list[_Doubled] = []

    def integer(literal: str) -> Any:
        if literal == "-0":
            return -0.0
        if len(literal) > 20:
            large.append(literal)
            return real(literal)
        number = int(literal)
        if not -(2**63) <= number < 2**64:
            large.append(literal)
        return number

    def real(literal: str) -> float:
        number = float(literal)
        if number - number != 0.0:
            raise _NotJson("a number is out of range")
        return number

    def constant(name: str) -> Any:
        raise _NotJson(f"{name} is not a number there")

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(entries)
        if len(made) == len(entries):
            return made
        made = _Doubled(made)
        made.pairs = entries
        doubled.append(made)
        return made

    value = json.loads(
        text, parse_int=integer, parse_float=real, parse_constant=constant, object_pairs_hook=pairs
    )
    if "\\u" in text and any(escape.group(1) for escape in _ESCAPES.finditer(text)):
        raise _NotJson("a lone surrogate in a text")
    return value, large[0] if large else None, bool(doubled)


def _last(value: Any) -> str:
    """A pointer to the innermost of the last values."""
    pointer = ""
    while isinstance(value, (list, dict)):
        if isinstance(value, list):
            pointer += f"/{len(value) - 1}"
            value = value[-1]
        else:
            pairs = value.pairs if isinstance(value, _Doubled) else list(value.items())
            pointer += "/" + escaped(pairs[-1][0])
            value = pairs[-1][1]
    return pointer


def _report_doubled(value: Any, pointer: str, problems: Problems) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _report_doubled(item, f"{pointer}/{index}", problems)
    elif isinstance(value, dict):
        seen = set()
        for key, item in value.pairs if isinstance(value, _Doubled) else value.items():
            at = f"{pointer}/{escaped(key)}"
            _report_doubled(item, at, problems)
            if key in seen:
                message = f'the key "{key}" stands twice in one object'
                problems.append(ManifestError(message, pointer=at, hint="remove one of the two"))
            seen.add(key)


# --- the document ---------------------------------------------------------------------------------

_Edge = tuple[int, int, int]

#: What a manifest may say of any node, besides its parameters.
SETTINGS = ("join", "on_error", "timeout", "parallelism")
#: A schema for each of what is not an object, and for each entry of what is one.
_JOIN = {"enum": ["any", "zip", "latest", {"by_pts": 0.02}]}
_BY_PTS = {"type": "number", "minimum": 0}
_ON_ERROR = {"enum": ["fail", "skip", "passthrough", {"retry": 3, "backoff": 0.1}]}
_RETRIES = {
    "retry": {"type": "integer", "minimum": 1, "maximum": 100},
    "backoff": {"type": "number", "minimum": 0, "maximum": 3600},
}
_TIMEOUT = {"type": "number", "exclusiveMinimum": 0}
_PARALLELISM = {"type": "integer", "minimum": 1, "maximum": 64}
_QUEUE: dict[str, Mapping[str, Any]] = {
    "items": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    "bytes": {"type": "integer", "minimum": 1},
    "ms": {"type": "integer", "minimum": 0},
    "policy": {"enum": ["block", "drop_oldest", "drop_newest", "error"]},
}


class _Reader:
    def __init__(self, types: Types, problems: Problems) -> None:
        self.types = types
        self.problems = problems

    def problem(self, message: str, pointer: str, hint: str, code: Optional[str] = None) -> None:
        self.problems.append(ManifestError(message, code=code, pointer=pointer, hint=hint))

    def read(self, document: Any) -> Optional[Plan]:
        if not isinstance(document, dict):
            message = f"a manifest is an object, not {kind(document)}"
            self.problem(message, "", '{"version": "v1", "nodes": [...], "connections": [...]}')
            return None
        self.known_keys(document, "", ("version", "metadata", "nodes", "connections"))
        if "version" not in document:
            self.problem("the manifest has no version", "", 'add "version": "v1"')
        elif document["version"] != "v1":
            message = f'the version is {_brief(document["version"])}; this library reads "v1"'
            self.problem(message, "/version", 'set it to "v1"')
        self.metadata(document)
        read = self.nodes(document)
        if read is None:
            return None
        nodes, ids = read
        before = self.problems.count
        edges = self.connections(document, ids)
        if self.problems.count == before:
            self.joins(document["nodes"], nodes, edges)
        return self.assemble(nodes, edges)

    def known_keys(self, found: Mapping[str, Any], pointer: str, known: tuple[str, ...]) -> None:
        for key in found:
            if key not in known:
                hint = self.problems.did_you_mean(key, known, "")
                self.problem(f'unknown key "{key}"', f"{pointer}/{escaped(key)}", hint)

    def metadata(self, document: Mapping[str, Any]) -> None:
        metadata = document.get("metadata", {})
        if not isinstance(metadata, dict):
            message = f'"metadata" is an object, not {kind(metadata)}'
            self.problem(message, "/metadata", 'remove it, or write {"name": "..."}')
            return
        # Other keys belong to whoever writes the manifest.
        for key in ("name", "description", "created_at"):
            value = metadata.get(key)
            if value is not None and not isinstance(value, str):
                message = f'"{key}" is text, not {kind(value)}'
                self.problem(message, f"/metadata/{key}", "put it in quotes")

    def nodes(
        self, document: Mapping[str, Any]
    ) -> Optional[tuple[list[Optional[PlanNode]], dict[str, int]]]:
        """The nodes, an unusable one as None, and the place of each id."""
        hint = 'add "nodes": [{"id": "...", "node_type": "...", "params": {}}]'
        if "nodes" not in document:
            self.problem("the manifest has no nodes", "", hint)
            return None
        nodes = document["nodes"]
        if not isinstance(nodes, list):
            self.problem(f'"nodes" is a list, not {kind(nodes)}', "/nodes", hint)
            return None
        if not nodes:
            self.problem("the manifest has no nodes", "/nodes", hint)
            return None
        if len(nodes) > MAX_NODES:
            self.too_many("nodes", len(nodes), MAX_NODES)
            return None
        ids: dict[str, int] = {}
        return [self.node(index, node, ids) for index, node in enumerate(nodes)], ids

    def too_many(self, what: str, count: int, limit: int) -> None:
        message = f"the manifest has {count} {what}; the limit is {limit}"
        hint = "split the pipeline, or raise the limit of the runtime"
        self.problem(message, f"/{what}", hint, "RM_E_LIMIT")

    def node(self, index: int, node: Any, ids: dict[str, int]) -> Optional[PlanNode]:
        at = f"/nodes/{index}"
        if not isinstance(node, dict):
            message = f"a node is an object, not {kind(node)}"
            self.problem(message, at, '{"id": "...", "node_type": "..."}')
            return None
        self.known_keys(node, at, ("id", "node_type", "params", *SETTINGS))
        id = self.name(node, at, "id", "a name of its own")
        node_type = self.name(node, at, "node_type", "one of the types of node")
        first = self.problems.count
        if id is not None:
            if id in ids:
                message = f'the id "{id}" is taken by /nodes/{ids[id]}'
                self.problem(message, f"{at}/id", "give every node an id of its own")
            else:
                ids[id] = index
        params = None if node_type is None else self.params(node_type, node, at)
        made = PlanNode(id or "", node_type or "", params or {})
        self.settings(made, node, at)
        for problem in self.problems.kept[first:]:
            problem.node = id
            problem.node_type = node_type
        if params is None or id is None or node_type is None:
            return None
        return made

    def name(self, found: Mapping[str, Any], at: str, key: str, what: str) -> Optional[str]:
        """The text of a key that must be there and must not be empty."""
        hint = f'"{key}" is {what}, as text'
        if key not in found:
            self.problem(f'"{key}" is missing', at, hint)
        elif not isinstance(found[key], str):
            self.problem(f'"{key}" is text, not {kind(found[key])}', f"{at}/{key}", hint)
        elif not found[key]:
            self.problem(f'"{key}" is empty', f"{at}/{key}", hint)
        else:
            return str(found[key])
        return None

    def params(
        self, node_type: str, node: Mapping[str, Any], at: str
    ) -> Optional[Mapping[str, Any]]:
        name = find_type(node_type, self.types)
        if name is None:
            otherwise = "no node types are known"
            hint = self.problems.did_you_mean(node_type, self.types, otherwise)
            self.problem(f'there is no node type "{node_type}"', f"{at}/node_type", hint)
        params = node.get("params", {})
        if not isinstance(params, dict):
            message = f'"params" is an object, not {kind(params)}'
            hint = 'write the parameters as {"name": value}'
            self.problem(message, f"{at}/params", hint)
            return None
        if name is None:
            return None
        known = self.types[name]
        before = self.problems.count
        if known is not None:
            schema.check(known, params, f"{at}/params", self.problems)
        return None if self.problems.count > before else params

    def settings(self, made: PlanNode, node: Mapping[str, Any], at: str) -> None:
        """What a manifest may say of any node, besides its parameters."""
        if "join" in node:
            join = node["join"]
            if not isinstance(join, dict):
                if self.fits(_JOIN, node, "join", at):
                    made.join = join
            elif self.entries(join, f"{at}/join", {"by_pts": _BY_PTS}, required="by_pts"):
                made.join = float(join["by_pts"])
        if "on_error" in node:
            policy = node["on_error"]
            if not isinstance(policy, dict):
                if self.fits(_ON_ERROR, node, "on_error", at):
                    made.on_error = OnError(policy)
            elif self.entries(policy, f"{at}/on_error", _RETRIES, required="retry"):
                backoff = float(policy.get("backoff", 0.1))
                made.on_error = OnError("fail", policy["retry"], backoff)
        if "timeout" in node and self.fits(_TIMEOUT, node, "timeout", at):
            made.timeout = float(node["timeout"])
        if "parallelism" in node and self.fits(_PARALLELISM, node, "parallelism", at):
            name = find_type(made.node_type, self.types)
            # Of a type of the user's nobody knows, and so its nodes take one value at a time.
            known = (entry(name) or {}) if name and self.types[name] is not None else {}
            if node["parallelism"] > 1 and name is not None and not known.get("stateless"):
                self.problem(
                    '"parallelism" is for node types that are known to keep no state, '
                    f"and {made.node_type} is not",
                    f"{at}/parallelism",
                    "remove it, or set it to 1",
                )

    def queue(self, connection: Mapping[str, Any], at: str) -> None:
        """The queue of a connection. In this engine there is none: it processes an item to its end
        before the next."""
        if "queue" not in connection:
            return
        queue, at = connection["queue"], f"{at}/queue"
        if isinstance(queue, dict):
            self.entries(queue, at, _QUEUE)
        else:
            message = f'"queue" is an object, not {kind(queue)}'
            self.problem(message, at, '{"items": 64, "policy": "block"}')

    def entries(
        self,
        found: Mapping[str, Any],
        at: str,
        known: Mapping[str, Mapping[str, Any]],
        required: Optional[str] = None,
    ) -> bool:
        """Checks an object of settings; whether it is good."""
        before = self.problems.count
        self.known_keys(found, at, tuple(known))
        for key in known:
            if key in found:
                self.fits(known[key], found, key, at)
        if required is not None and required not in found:
            hint = f'add "{required}": {schema.expectation(known[required])}'
            self.problem(f'"{required}" is missing', at, hint)
        return self.problems.count == before

    def fits(
        self, expected: Mapping[str, Any], found: Mapping[str, Any], key: str, at: str
    ) -> bool:
        before = self.problems.count
        schema.check_value(expected, found[key], f"{at}/{key}", key, self.problems)
        return self.problems.count == before

    def connections(self, document: Mapping[str, Any], ids: dict[str, int]) -> list[_Edge]:
        """Pairs of places in the list of nodes, with the index of the connection."""
        connections = document.get("connections", [])
        if not isinstance(connections, list):
            message = f'"connections" is a list, not {kind(connections)}'
            self.problem(message, "/connections", '[{"from": "...", "to": "..."}]')
            return []
        if len(connections) > MAX_CONNECTIONS:
            self.too_many("connections", len(connections), MAX_CONNECTIONS)
            return []
        edges: dict[tuple[int, int], int] = {}
        for index, connection in enumerate(connections):
            at = f"/connections/{index}"
            if not isinstance(connection, dict):
                message = f"a connection is an object, not {kind(connection)}"
                self.problem(message, at, '{"from": "...", "to": "..."}')
                continue
            self.known_keys(connection, at, ("from", "to", "queue"))
            start = self.end(connection, at, "from", ids)
            end = self.end(connection, at, "to", ids)
            self.queue(connection, at)
            if start is None or end is None:
                continue
            if (start, end) in edges:
                self.problem("the same connection stands twice", at, "remove one of the two")
            else:
                edges[start, end] = index
        return [(start, end, index) for (start, end), index in edges.items()]

    def end(
        self, connection: Mapping[str, Any], at: str, key: str, ids: dict[str, int]
    ) -> Optional[int]:
        id = self.name(connection, at, key, "the id of a node")
        if id is not None and id not in ids:
            hint = self.problems.did_you_mean(id, ids, "there are no nodes with an id")
            self.problem(f'there is no node with the id "{id}"', f"{at}/{key}", hint)
        return None if id is None else ids.get(id)

    def joins(self, found: list[Any], nodes: list[Optional[PlanNode]], edges: list[_Edge]) -> None:
        """Finds joins where nothing is to be joined."""
        for place, node in enumerate(nodes):
            if node is None or "join" not in found[place]:
                continue
            inputs = sum(end == place for _, end, _ in edges)
            if inputs < 2:
                problem = ManifestError(
                    '"join" is for nodes with several incoming connections, '
                    f'and "{node.id}" has {inputs}',
                    node=node.id,
                    node_type=node.node_type,
                    pointer=f"/nodes/{place}/join",
                    hint=f'remove it, or connect more nodes to "{node.id}"',
                )
                self.problems.append(problem)

    def assemble(self, nodes: list[Optional[PlanNode]], edges: list[_Edge]) -> Optional[Plan]:
        before, after = _neighbours(len(nodes), edges)
        order, cycle = _sorted(before, after)
        if cycle:
            self.report_cycles(cycle, nodes, edges)
            return None
        good = [node for node in nodes if node is not None]
        if len(good) < len(nodes):
            return None
        for node, upstream, downstream in zip(good, before, after):
            node.inputs = upstream
            node.consumers = len(downstream)
        return Plan(good, order)

    def report_cycles(
        self, cycle: list[int], nodes: list[Optional[PlanNode]], edges: list[_Edge]
    ) -> None:
        """Reports this cycle, drops the connection that closes it, and looks for the next."""
        while cycle:
            self.report_cycle(cycle, nodes, edges)
            if self.problems.full:
                return
            closing = (cycle[-1], cycle[0])
            edges = [edge for edge in edges if edge[:2] != closing]
            _, cycle = _sorted(*_neighbours(len(nodes), edges))

    def report_cycle(
        self, cycle: list[int], nodes: list[Optional[PlanNode]], edges: list[_Edge]
    ) -> None:
        def id(place: int) -> str:
            node = nodes[place]
            return f"/nodes/{place}" if node is None else node.id

        names = shorten(" -> ".join(map(id, [*cycle, cycle[0]])), 1_000)
        closing = [index for start, end, index in edges if (start, end) == (cycle[-1], cycle[0])]
        at = f"/connections/{closing[0]}" if closing else ""
        problem = ManifestError(
            f"the nodes form a cycle: {names}",
            pointer=at,
            hint="remove one of the connections of the cycle",
        )
        first = nodes[cycle[0]]
        if first is not None:
            problem.node, problem.node_type = first.id, first.node_type
        self.problems.append(problem)


def find_type(node_type: str, types: Types) -> Optional[str]:
    """The name under which a type is known; ``PassThrough`` and ``PassThroughNode`` are the
    same."""
    if node_type in types:
        return node_type
    if node_type.endswith("Node") and node_type[:-4] in types:
        return node_type[:-4]
    return None


def _neighbours(count: int, edges: list[_Edge]) -> tuple[list[list[int]], list[list[int]]]:
    """For every node those that it waits for, and those that wait for it."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for start, end, _ in edges:
        before[end].append(start)
        after[start].append(end)
    return before, after


def _sorted(before: list[list[int]], after: list[list[int]]) -> tuple[list[int], list[int]]:
    """The nodes in the order of the plan, and a cycle of some if there is one."""
    waiting = [len(upstream) for upstream in before]
    free = [place for place, count in enumerate(waiting) if count == 0]
    order = []
    while free:
        place = heapq.heappop(free)
        order.append(place)
        for follower in after[place]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(free, follower)
    return order, _find_cycle(before, waiting) if len(order) < len(before) else []


def _find_cycle(before: list[list[int]], waiting: list[int]) -> list[int]:
    """A cycle among the nodes that still wait for another, in the direction of the connections,
    beginning with its first node in the manifest."""
    walk = [next(place for place, count in enumerate(waiting) if count > 0)]
    seen = set(walk)
    while True:
        # A node that waits has an upstream node that waits, so the walk ends in a cycle.
        following = next(place for place in before[walk[-1]] if waiting[place] > 0)
        if following in seen:
            cycle = walk[walk.index(following) :][::-1]
            first = cycle.index(min(cycle))
            return cycle[first:] + cycle[:first]
        walk.append(following)
        seen.add(following)


def _brief(value: Any) -> str:
    if isinstance(value, str) and len(value) <= 40:
        return f'"{value}"'
    if type(value) is int and value < 2**63:
        return str(value)
    return kind(value)
