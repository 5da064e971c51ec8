"""The command ``remotemedia``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional, TextIO

from remotemedia import native
from remotemedia.audio import Audio
from remotemedia.errors import RemoteMediaError
from remotemedia.frame import Frame

#: After how many seconds a run is long enough for a progress line.
_LONG = 1.0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command. Returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    # What the library has to say about the files, such as that one is damaged.
    logging.basicConfig(format="remotemedia: %(message)s", level=logging.WARNING)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("remotemedia: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone, as in `remotemedia nodes | head`; keep the exit quiet as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RemoteMediaError, OSError) as error:
        print(f"remotemedia: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remotemedia", description="Pipelines of media and data nodes, run natively."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Parser
    )

    def command(
        name: str, run: Callable[[argparse.Namespace], int], about: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=run)
        return added

    run = command("run", _run, "Run a manifest; prints a JSON line for every output.")
    run.epilog = "example: remotemedia run speech.json one.wav two.mp3 --audio segments"
    run.add_argument("manifest", help="the manifest's file")
    run.add_argument("input", nargs="*", help="files; their paths are the items")
    run.add_argument("--json", metavar="ITEMS", help="the items as a JSON list; - reads stdin")
    run.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="the time for all of it")
    run.add_argument("--output", metavar="FILE", help="write the lines to a file")
    run.add_argument(
        "--audio", metavar="FOLDER", help="write audio to WAV files in this new folder"
    )
    run.add_argument("--metrics", action="store_true", help="print counts and times to stderr")

    validate = command("validate", _validate, "Check a manifest; prints every problem.")
    validate.add_argument("manifest", help="the manifest's file")

    nodes = command("nodes", _nodes, "List the node types, or describe one.")
    nodes.add_argument("type", nargs="?", help="a node type, with or without the ending Node")

    graph = command("graph", _graph, "Draw a manifest, as text for Mermaid or Graphviz.")
    graph.add_argument("manifest", help="the manifest's file")
    graph.add_argument("--format", choices=("mermaid", "dot"), default="mermaid")

    command("doctor", _doctor, "Show versions, the native library, and what is missing.")

    config = command("config", _config, "Print what a C compiler needs to use the library.")
    config.add_argument("--cflags", action="store_true", help="flags to compile with")
    config.add_argument("--libs", action="store_true", help="flags to link with")
    return parser


class _Parser(argparse.ArgumentParser):
    """Takes options before, between and behind the files."""

    _inside = False

    # One signature for the two overloads of the base.
    def parse_known_args(  # pyright: ignore
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        # Looked up when somebody asks, as that takes longer than a run.
        from remotemedia import __version__

        print(f"remotemedia {__version__}")
        parser.exit()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return seconds


# --- run ------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    items = list(arguments.input)
    if arguments.json is not None:
        if items:
            print("remotemedia run: give files or --json, not both", file=sys.stderr)
            return 2
        try:
            text = sys.stdin.read() if arguments.json == "-" else arguments.json
            items = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            print(f"remotemedia run: --json is not JSON: {error}", file=sys.stderr)
            return 2
        if not isinstance(items, (list, dict)):
            print("remotemedia run: --json takes a list of items: [...]", file=sys.stderr)
            return 2
    if arguments.audio is not None:
        os.makedirs(arguments.audio, exist_ok=True)
        if os.listdir(arguments.audio):
            print(f"remotemedia run: the folder {arguments.audio} is not empty", file=sys.stderr)
            return 2
    if native.is_available():
        progress = _Progress(sys.stderr)
        try:
            prepared = native.prepare(native.read_file(arguments.manifest))
            result = prepared.run(items, arguments.timeout, progress)
        finally:
            progress.clear()
    else:
        from remotemedia.core.pipeline import Pipeline

        pipeline = Pipeline.from_manifest(native.read_file(arguments.manifest))
        result = pipeline.run_sync(items, timeout=arguments.timeout)
    if arguments.output is None:
        _write(result.by_node, sys.stdout, arguments.audio)
    else:
        with open(arguments.output, "w", encoding="utf-8") as file:
            _write(result.by_node, file, arguments.audio)
    if arguments.metrics:
        print(json.dumps(result.metrics, indent=1), file=sys.stderr)
    return 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


class _Progress:
    """A line that says how far a long run is, on a terminal only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False
        self._start = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        seconds = time.monotonic() - self._start
        if seconds >= _LONG and self._stream.isatty():
            self._stream.write(f"\r{done} of {total} items, {seconds:.0f} s ")
            self._stream.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r\033[K")


def _write(by_node: dict[str, list[Any]], stream: TextIO, folder: Optional[str]) -> None:
    ascii_only = not (stream.encoding or "ascii").lower().startswith("utf")
    taken: set[str] = set()
    for node, outputs in by_node.items():
        # A node's id may hold anything; a file's name may not.
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in node)
        while name in taken:
            name += "_"
        taken.add(name)
        for number, output in enumerate(outputs):
            names = _names(folder, f"{name}_{number}")
            line = {"node": node, "value": _jsonable(output, names)}
            stream.write(json.dumps(line, ensure_ascii=ascii_only) + "\n")
    stream.flush()


def _names(folder: Optional[str], output: str) -> Iterator[Optional[str]]:
    """Paths for the audio in one output, as many as there may be."""
    part = 0
    while True:
        yield None if folder is None else os.path.join(folder, f"{output}_{part}.wav")
        part += 1


def _jsonable(value: Any, names: Iterator[Optional[str]]) -> Any:
    """The value as JSON: audio and frames as a description (with the file, if written), arrays as
    nested lists, bytes as base64, and floats that JSON lacks as ``{"$rm": "NaN"}``."""
    if isinstance(value, Audio):
        about = {"sample_rate": value.sample_rate, "channels": value.channels,
                 "frames": value.frames}  # fmt: skip
        path = next(names)
        if path is None:
            return about
        value.save(path)
        return {"file": path, **about}
    if isinstance(value, Frame):
        return {"width": value.width, "height": value.height, "format": value.format}
    if isinstance(value, dict):
        return {key: _jsonable(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item, names) for item in value]
    if isinstance(value, bytes):
        import base64

        return {"bytes": base64.b64encode(value).decode()}
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist(), names)
    if isinstance(value, float) and value - value != 0.0:
        name = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        return {"$rm": name}
    return value


# --- the others -----------------------------------------------------------------------------------


def _validate(arguments: argparse.Namespace) -> int:
    from remotemedia.core.pipeline import Pipeline
    from remotemedia.errors import ManifestError

    try:
        if native.is_available():
            nodes = len(native.prepare(native.read_file(arguments.manifest)).info["nodes"])
        else:
            pipeline = Pipeline.from_manifest(native.read_file(arguments.manifest))
            pipeline.validate()
            nodes = len(pipeline.nodes)
    except ManifestError as error:
        for problem in error.causes or (error,):
            hint = f" ({problem.hint})" if problem.hint else ""
            place = f"{arguments.manifest}: {problem.pointer}".rstrip(": ")
            print(f"{place}: {problem.message}{hint}")
        return 1
    print(f"{arguments.manifest}: good, {nodes} node{'' if nodes == 1 else 's'}")
    return 0


def _catalogue() -> list[dict[str, Any]]:
    if native.is_available():
        return native.list_nodes()
    from remotemedia.core.catalog import catalog

    return list(catalog().values())


def _nodes(arguments: argparse.Namespace) -> int:
    entries = _catalogue()
    if arguments.type is None:
        width = max(len(entry["name"]) for entry in entries)
        for entry in entries:
            print(f"{entry['name']:<{width}}  {entry['summary']}")
        return 0
    wanted = arguments.type
    short = wanted.removesuffix("Node")
    for entry in entries:
        if entry["name"].lower() == short.lower():
            _describe(entry)
            return 0
    from remotemedia.core.schema import did_you_mean

    hint = did_you_mean(wanted, [entry["name"] for entry in entries], "")
    print(f'remotemedia: there is no node type "{wanted}" ({hint})', file=sys.stderr)
    return 1


def _describe(entry: dict[str, Any]) -> None:
    print(f"{entry['name']}: {entry['summary']}")
    print(f"  takes  {entry['takes']}")
    print(f"  gives  {entry['gives']}")
    properties = entry["params"]["properties"]
    required = entry["params"].get("required", ())
    if properties:
        print("  parameters")
    for name, schema in properties.items():
        default = f"default {json.dumps(schema.get('default'))}"
        print(f"    {name}: {_kind(schema)}, {'required' if name in required else default}")
        if schema.get("description"):
            print(f"        {' '.join(schema['description'].split())}")
    print("  example")
    node = {"id": "n", "node_type": entry["name"], "params": entry["example"]["params"]}
    print(f"    {json.dumps(node)}")
    for key in ("input", "output"):
        if entry["example"].get(key) is not None:
            print(f"    {key:<6} {json.dumps(entry['example'][key])}")


def _kind(schema: dict[str, Any]) -> str:
    choices = schema.get("enum") or [one["const"] for one in schema.get("oneOf", ())]
    if choices:
        return "one of " + ", ".join(map(json.dumps, choices))
    kind = schema.get("type", "any")
    words = kind if isinstance(kind, str) else " or ".join(kind)
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    above = "above " if "exclusiveMinimum" in schema else ""
    below = "below " if "exclusiveMaximum" in schema else ""
    if low is not None and high is not None:
        words += f" from {above}{low} to {below}{high}"
    elif low is not None:
        words += f" {above or 'from '}{low}"
    elif high is not None:
        words += f" {below or 'up to '}{high}"
    return words


def _graph(arguments: argparse.Namespace) -> int:
    from remotemedia.core import graph
    from remotemedia.core.pipeline import Pipeline

    text = native.read_file(arguments.manifest)
    if native.is_available():
        native.prepare(text)
    else:
        Pipeline.from_manifest(text).validate()
    draw = graph.dot if arguments.format == "dot" else graph.mermaid
    print(draw(json.loads(text)), end="")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    import platform

    from remotemedia import __version__
    from remotemedia.errors import LibraryNotFoundError

    rows = [
        ("package", __version__),
        ("python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("platform", platform.platform()),
        ("library", native.library_path()),
    ]
    healthy = True
    try:
        info = native.build_info()
        rows.append(("  version", f"{info['version']} (ABI {info['abi']}, {info['profile']})"))
        if info["version"] != __version__:
            rows.append(
                ("  problem", "not the version of the package; install both from one wheel")
            )
            healthy = False
        result = native.run_manifest(
            {"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}, [1]
        )
        rows.append(("  self-test", "good" if result == [1] else f"failed: {result}"))
        healthy = healthy and result == [1]
    except LibraryNotFoundError as error:
        rows.append(("  problem", str(error)))
        rows.append(("", "pipelines run in the Python engine; media nodes do not run"))
        healthy = False
    for name, use in (("cffi", "needed"), ("numpy", "arrays")):
        try:
            module = __import__("_cffi_backend" if name == "cffi" else name)
            rows.append((name, str(module.__version__)))
        except ImportError:
            rows.append((name, f"missing ({use})"))
            healthy = healthy and name != "cffi"
    for name, value in rows:
        print(f"{name:<12}{value}")
    return 0 if healthy else 1


def _config(arguments: argparse.Namespace) -> int:
    include = os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")
    library = native.library_path()
    folder, name = os.path.split(library)
    words = []
    if arguments.cflags or not arguments.libs:
        words.append(f"-I{include}")
    if arguments.libs or not arguments.cflags:
        # By its file name: the wheel holds no link of the plain name, as archives cannot.
        words += [f"-L{folder}", f"-l:{name}", f"-Wl,-rpath,{folder}"]
    print(" ".join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
