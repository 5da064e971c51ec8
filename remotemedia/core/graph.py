"""A manifest as a drawing, in the text formats of Mermaid and Graphviz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _label(node: Mapping[str, Any]) -> str:
    lines = [node["id"], node["node_type"]]
    lines += [f"{key} = {_short(value)}" for key, value in node.get("params", {}).items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def _edges(manifest: Mapping[str, Any]) -> list[tuple[int, int]]:
    place = {node["id"]: index for index, node in enumerate(manifest["nodes"])}
    connections = manifest.get("connections", ())
    return [(place[edge["from"]], place[edge["to"]]) for edge in connections]


def mermaid(manifest: Mapping[str, Any]) -> str:
    """A Mermaid flowchart of a valid manifest."""
    lines = ["flowchart LR"]
    for index, node in enumerate(manifest["nodes"]):
        label = _label(node).replace("&", "#amp;").replace('"', "#quot;")
        label = label.replace("<", "#lt;").replace(">", "#gt;").replace("\n", "<br/>")
        lines.append(f'    n{index}["{label}"]')
    lines += [f"    n{start} --> n{end}" for start, end in _edges(manifest)]
    return "\n".join(lines) + "\n"


def dot(manifest: Mapping[str, Any]) -> str:
    """A Graphviz digraph of a valid manifest."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    name = (manifest.get("metadata") or {}).get("name") or "pipeline"
    lines = [f"digraph {quoted(name)} {{", "    rankdir=LR", "    node [shape=box]"]
    for index, node in enumerate(manifest["nodes"]):
        lines.append(f"    n{index} [label={quoted(_label(node))}]")
    lines += [f"    n{start} -> n{end}" for start, end in _edges(manifest)]
    return "\n".join([*lines, "}"]) + "\n"
