"""Everything that `make bench` measures, into build/bench.md and build/bench.json.

    python benchmarks/compare.py [--rounds N] [--only WORKLOAD] [--no-engine] [--output FOLDER]

README.md in this folder says what the tables mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

import coldstart
import numpy
import peers
import reference
import steady
import streams
from harness import Case, Unavailable, Worker, digest, measure, timed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"

STREAMED = "GStreamer, identity, in C"
ELEMENT = "GStreamer, Python element"
#: By workload: the title, the base of the ratios, how many items a call has.
WORKLOADS = {
    "array": ("A float32 array of 960, one at a time, three pass-through nodes", "PyAV, anull", 1),
    "large array": ("The same with an array of 3.84 MB", "PyAV, anull", 1),
    "numbers": ("[1, 2, 3] through pass, add 5, pass", "asyncio.Queue chain", 1),
    "layers": ("Where the time of the numbers goes: from the inside to the outside", None, 1),
    "list": ("100,000 floats as a list in one item", "json, both ways", 1),
    "batch": ("1,000 arrays of 960 in one call, per array", "asyncio.Queue chain", 1_000),
    "3 nodes": ("10,000 numbers through 3 nodes, per number", None, peers.ITEMS),
    "33 nodes": ("10,000 numbers through 33 nodes, per number", None, peers.ITEMS),
    "stream, one": ("An array of 960, in and out one at a time, streaming", STREAMED, 1),
    "stream": ("100,000 arrays, streaming, 64 inside at once, per array", STREAMED, streams.STREAM),
    "stream, many": ("The same, 1,000 in and 1,000 out, per array", STREAMED, streams.STREAM),
    "live": (
        f"An array of 960 after {streams.PAUSE * 1e3:g} ms of quiet, in and out, streaming",
        "GStreamer, identity",
        1,
    ),
    "stream of numbers, one": ("A float, in and out one at a time, streaming", STREAMED, 1),
    "stream of numbers": (
        "100,000 floats, streaming, 64 inside at once, per float",
        STREAMED,
        streams.STREAM,
    ),
    "stream of numbers, many": (
        "The same, 1,000 in and 1,000 out, per float",
        STREAMED,
        streams.STREAM,
    ),
    "python node": ("An array of 960, the node in the middle in Python", ELEMENT, 1),
    "python node, batch": ("1,000 of them in one call, per array", ELEMENT, 1_000),
    "branches": ("Recordings resampled in two branches, per call", "ours, one core", 1),
    "stages": ("Recordings resampled four times in a row, per call", "ours, one core", 1),
}
READING = (
    "Times in microseconds: the median of the rounds, and the least. Ratio: to the time of the "
    "contender in the title's brackets, by medians. Compare ratios; times depend on the machine "
    "and its other tenants."
)
#: Where a contender that is not installed here may be: the interpreter that tools put there.
PYTHONS = {"gstreamer": BUILD / "gstreamer", "mediapipe": BUILD / "mediapipe"}


def say(text: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{text:<60}", end=end, file=sys.stderr, flush=True)


# --- what takes part ----------------------------------------------------------------------------


def why(error: Exception) -> str:
    lines = str(error).strip().split("\n")
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return f"{kind}{lines[-1]}"[:200]


def gather(
    only: Optional[str],
) -> tuple[list[Case], dict[str, str], list[Worker], list[str]]:
    """The cases, the version or the absence of every peer, the processes, and who broke."""
    cases: list[Case] = []
    versions: dict[str, str] = {}
    workers: list[Worker] = []
    broken: list[str] = []

    def prepare(module: Any) -> None:
        given = module.inputs()
        right = {name: digest(module.expected(name, items)) for name, items in given.items()}

        def add(contender: str, workload: str, sample: Any, missing: Optional[str] = None) -> None:
            if only is None or only in workload:
                case = Case(workload, contender, sample, right.get(workload), missing=missing)
                if workload == "live":
                    case.most = streams.LIVE
                cases.append(case)

        for peer in (*module.HERE, *module.APART):
            name = f"{module.__name__}.{peer.__name__}"
            say(f"preparing {name}")
            try:
                if peer is peers.pyo3:
                    reference.build()
                if peer in module.HERE:
                    versions[name], works = peer(given)
                    for (contender, workload), work in works.items():
                        sample = local(work, given.get(workload, ()))
                        add(contender, workload, sample, work if isinstance(work, str) else None)
                    continue
                workers.append(Worker(python_of(peer.__name__), name))
                versions[name] = workers[-1].hello["version"]
                for contender, workload in workers[-1].hello["cases"]:
                    add(contender, workload, remote(workers[-1], contender, workload))
            except (ImportError, OSError, subprocess.CalledProcessError, Unavailable) as error:
                versions[name] = f"not installed ({why(error)})"
            except Exception as error:  # noqa: BLE001  the others go on
                versions[name] = f"BROKEN ({why(error)})"
                broken.append(f"{name}: {why(error)}")

    for module in (peers, streams):
        prepare(module)
    return cases, versions, workers, broken


def python_of(name: str) -> str:
    """The interpreter for a peer."""
    python = PYTHONS.get(name, BUILD) / "bin" / "python"
    here = str(python) if python.exists() else sys.executable
    return os.environ.get(f"BENCH_{name.upper()}_PYTHON") or here


def local(work: Any, items: Any) -> Callable[[int], dict[str, Any]]:
    return lambda calls: timed(work, calls, items)


def remote(worker: Worker, contender: str, workload: str) -> Callable[[int], dict[str, Any]]:
    return lambda calls: worker.sample(contender, workload, calls)


# --- tables -------------------------------------------------------------------------------------


def rows_of(cases: list[Case], workload: str) -> list[dict[str, Any]]:
    _, base_name, items = WORKLOADS[workload]
    mine = [case for case in cases if case.workload == workload]
    base = next((c for c in mine if c.contender == base_name and not c.failed), None)
    if workload != "layers":
        mine.sort(key=lambda case: case.median if case.times else float("inf"))

    def equal(case: Case) -> Optional[bool]:
        right = {case.expected} if case.expected else base.digests if base else set()
        return case.digests == right if right and case.times else None

    return [
        {
            "contender": case.contender,
            "failed": f"failed: {case.failed}" if case.failed else case.missing,
            "median_us": case.median / items * 1e6 if case.times else None,
            "min_us": case.least / items * 1e6 if case.times else None,
            "per_second": items / case.median if case.times else None,
            "ratio": case.median / base.median if base and case.times else None,
            "equal": equal(case),
            "same_memory": case.shared,
        }
        for case in mine
    ]


def slopes(cases: list[Case]) -> list[dict[str, Any]]:
    """What one more node costs an item, from the differences within each round."""
    found = []
    for few in (case for case in cases if case.workload == "3 nodes"):
        pairs = (c for c in cases if (c.workload, c.contender) == ("33 nodes", few.contender))
        many = next(pairs, None)
        if many is None or few.failed or many.failed:
            continue
        costs = [
            (long - short) / 30 / peers.ITEMS * 1e9 for short, long in zip(few.times, many.times)
        ]
        found.append(
            {
                "contender": few.contender,
                "median_ns": statistics.median(costs),
                "min_ns": (many.least - few.least) / 30 / peers.ITEMS * 1e9,
                "equal": few.digests == many.digests == {few.expected},
            }
        )
    return sorted(found, key=lambda row: row["median_ns"])


def cold(rounds: int) -> list[dict[str, Any]]:
    seen: dict[str, list[dict[str, float]]] = {what: [] for what in coldstart.STARTS}
    failed: dict[str, str] = {}
    environment = coldstart.environment()
    for number in range(rounds + 1):
        say(f"cold starts, {number} of {rounds}")
        for what in coldstart.STARTS:
            if what not in failed:
                try:
                    one = coldstart.sample(what, environment)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failed[what] = why(error)
                    continue
                if number:  # the first one writes bytecode and fills the disk's cache
                    seen[what].append(one)
    rows = []
    for what, samples in seen.items():
        row: dict[str, Any] = {"contender": what, "failed": failed.get(what)}
        if samples and what not in failed:
            for step in ("import", "first"):
                times = [sample[step] * 1e3 for sample in samples]
                row[f"{step}_median_ms"], row[f"{step}_min_ms"] = (
                    statistics.median(times),
                    min(times),
                )
        rows.append(row)
    return rows


def engine() -> list[dict[str, Any]]:
    """Runs the engine's own benchmarks and reads what criterion writes."""
    results = BUILD / "criterion"
    shutil.rmtree(results, ignore_errors=True)
    say("the engine's own parts: cargo bench")
    command = "cargo bench --locked --quiet --package remotemedia-runtime --bench engine"
    done = subprocess.run(
        command.split(),
        cwd=ROOT / "rust-core",
        env={**os.environ, "CRITERION_HOME": str(results)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    rows = []
    for path in sorted(results.glob("**/new/estimates.json")):
        about = json.loads((path.parent / "benchmark.json").read_text())
        elements = ((about["throughput"] or {}).get("Elements")) or 1
        times = json.loads((path.parent / "sample.json").read_text())
        each = [time / count for time, count in zip(times["times"], times["iters"])]
        rows.append(
            {
                "part": about["full_id"],
                "median_ns": statistics.median(each),
                "min_ns": min(each),
                "per_element_ns": statistics.median(each) / elements if elements > 1 else None,
            }
        )
    return rows


def goals(
    cases: list[Case],
    nodes: list[dict[str, Any]],
    starts: list[dict[str, Any]],
    runs: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """What was set out to be reached; those whose contender is missing are left out."""
    times = {(c.workload, c.contender): c.median for c in cases if c.times and not c.failed}
    found: list[dict[str, Any]] = []

    def goal(text: str, limit: float, value: Optional[float], most: bool = True) -> None:
        if value is not None:
            reached = value <= limit if most else value >= limit
            found.append({"goal": text, "limit": limit, "value": value, "reached": reached})

    def ratio(a: tuple[str, str], b: tuple[str, str]) -> Optional[float]:
        return times[a] / times[b] if a in times and b in times else None

    awaited, sync = ("array", "ours, await"), ("array", "ours, sync")
    numbers = ("numbers", "ours, sync")
    goal("array, await: time / PyAV's", 0.5, ratio(awaited, ("array", "PyAV, anull")))
    goal(
        "array: GStreamer's time / await, at least", 8,
        ratio(("array", "GStreamer, identity"), awaited), most=False,
    )  # fmt: skip
    goal("array: sync / await", 1.0, ratio(sync, awaited))
    goal("numbers, sync, in us", 8, times[numbers] * 1e6 if numbers in times else None)
    chain, engine = ("numbers", "asyncio.Queue chain"), ("numbers", "PyO3, same engine")
    goal("numbers, sync: time / asyncio.Queue chain's", 0.7, ratio(numbers, chain))
    goal("numbers, sync: time / that of the same engine behind PyO3", 1.5, ratio(numbers, engine))
    goal("3.84 MB / 3.84 KB, await", 1.2, ratio(("large array", "ours, await"), awaited))
    for row in nodes:
        if row["contender"].startswith("ours"):
            goal("one more node, per item, in ns", 60, row["median_ns"])
    goal(
        "100,000 floats: json's time / ours, at least", 20,
        ratio(("list", "json, both ways"), ("list", "ours, sync")), most=False,
    )  # fmt: skip
    for workload, words in (
        ("stream, one", "streaming, one at a time"),
        ("live", f"streaming, after {streams.PAUSE * 1e3:g} ms of quiet"),
    ):
        for contender in ("push and pull", "send and recv"):
            goal(
                f"{words}: GStreamer's time from Python / {contender}, at least", 5,
                ratio((workload, "GStreamer, identity"), (workload, f"ours, {contender}")),
                most=False,
            )  # fmt: skip
    for kind, words in ((streams.ARRAYS, "arrays"), (streams.NUMBERS, "floats")):
        streaming = (kind, "ours, push and pull")
        goal(f"streaming {words}: time / GStreamer's in C", 1.0, ratio(streaming, (kind, STREAMED)))
        for text, workload, contender, least in (
            ("push and pull", *streaming, 0.3),
            ("push_many and pull_many", f"{kind}, many", "ours, push_many and pull_many", 1),
        ):
            if (workload, contender) in times:
                rate = streams.STREAM / times[workload, contender] / 1e6
                goal(f"{text}, million {words} a second, at least", least, rate, most=False)
    for (workload, contender), time_ in times.items():
        if workload == "python node, batch" and contender.startswith("ours, sync"):
            goal("a node in Python, per item, in us", 5, time_ / 1_000 * 1e6)
            goal(
                "a node in Python: GStreamer's time / ours, at least", 6,
                ratio((workload, ELEMENT), (workload, contender)), most=False,
            )  # fmt: skip
    for workload, least in (("branches", 1.7), ("stages", 1.6)):
        one, all_ = (workload, "ours, one core"), (workload, "ours, all cores")
        if (os.cpu_count() or 1) > 1:
            text = f"{workload}: one core's time / that of all, at least"
            goal(text, least, ratio(one, all_), most=False)
    for row in runs:
        if row["contender"].startswith("ours") and not row["failed"]:
            what = f"a million runs, {row['workload']}"
            goal(f"{what}: growth in KB", 1_024, row["rss_growth_kb"])
            goal(f"{what}: page faults per run", 0.001, row["faults_per_run"])
            goal(f"{what}: objects left", 0, row["handles_left"])
            goal(f"{what}: calls into the library per run", 3, sum(row["calls"].values()))
    for row in starts:
        if row["contender"].startswith("ours") and not row["failed"]:
            goal("import, in ms", 15, row["import_median_ms"])
            goal("first result after it, in ms", 2, row["first_median_ms"])
    for wheel in (ROOT / "dist").glob("*.whl"):
        goal("wheel, in MB", 8, wheel.stat().st_size / 1e6)
    return found


def table(head: str, rows: list[list[str]]) -> list[str]:
    titles = head.split("|")
    aligned = ["---", *["---:"] * (len(titles) - 1)]
    lines = [titles, aligned, *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)]


def number(value: Optional[float], digits: int = 2) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.{digits}f}"


def word(value: Optional[bool]) -> str:
    return "" if value is None else "yes" if value else "NO"


def markdown(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        "# Benchmarks",
        "",
        f"{report['when']}, {report['rounds']} rounds. {READING}",
        "",
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
        *(f"- {name}: {version}" for name, version in report["versions"].items()),
    ]
    if report["goals"]:
        lines += ["", "## Goals"]
        lines += table(
            "goal|limit|measured|reached",
            [
                [g["goal"], f"{g['limit']:g}", number(g["value"]), word(g["reached"])]
                for g in report["goals"]
            ],
        )
    for workload, content in report["workloads"].items():
        title, base, _ = WORKLOADS[workload]
        lines += ["", f"## {title}" + (f" [{base}]" if base else "")]
        lines += table(
            "contender|median|min|per second|ratio|equal|same memory",
            [
                [row["contender"], row["failed"], "", "", "", "", ""]
                if row["failed"]
                else [
                    row["contender"], number(row["median_us"]), number(row["min_us"]),
                    number(row["per_second"], 0), number(row["ratio"]), word(row["equal"]),
                    {True: "yes", False: "no", None: ""}[row["same_memory"]],
                ]
                for row in content
            ],
        )  # fmt: skip
    if report["slopes"]:
        lines += ["", "## One more node, per item, in nanoseconds"]
        lines += table(
            "contender|median|min|equal",
            [
                [
                    r["contender"],
                    number(r["median_ns"], 1),
                    number(r["min_ns"], 1),
                    word(r["equal"]),
                ]
                for r in report["slopes"]
            ],
        )
    if report["steady"]:
        lines += ["", "## One of a million runs, after 10,000"]
        lines += table(
            "contender|workload|growth, KB|page faults per run|objects left|calls per run",
            [
                [r["contender"], r["workload"], f"failed: {r['failed']}", "", "", ""]
                if r["failed"]
                else [
                    r["contender"], r["workload"], number(r["rss_growth_kb"], 0),
                    number(r["faults_per_run"], 5), number(r["handles_left"], 0),
                    ", ".join(f"{name} {n:g}" for name, n in (r["calls"] or {}).items()),
                ]
                for r in report["steady"]
            ],
        )  # fmt: skip
    if report["cold_start"]:
        lines += ["", "## From a fresh interpreter, in milliseconds"]
        lines += table(
            "contender|import|min|first result|min",
            [
                [row["contender"], f"not installed ({row['failed']})", "", "", ""]
                if row["failed"]
                else [
                    row["contender"],
                    *(
                        number(row[f"{step}_{of}_ms"])
                        for step in ("import", "first")
                        for of in ("median", "min")
                    ),
                ]
                for row in report["cold_start"]
            ],
        )
    if report["engine"]:
        lines += ["", "## The engine's own parts, without Python, in nanoseconds"]
        lines += table(
            "part|median|min|per element",
            [
                [r["part"], *(number(r[k], 1) for k in ("median_ns", "min_ns", "per_element_ns"))]
                for r in report["engine"]
            ],
        )
    return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search(r"model name\s*: (.*)", info.read_text())
        model = named[1] if named else model
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False)
    load = (
        " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else ""
    )
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, "
        f"NumPy {numpy.__version__}",
        "Rust": rustc.stdout.strip(),
        "load before": load,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", help="only workloads with this in their name")
    parser.add_argument("--no-engine", action="store_true", help="without cargo bench")
    parser.add_argument("--output", type=Path, default=BUILD)
    wanted = parser.parse_args()

    report: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "rounds": wanted.rounds,
        "machine": machine(),
    }
    cases, report["versions"], workers, broken = gather(wanted.only)
    try:
        measure(cases, wanted.rounds, say)
    finally:
        for worker in workers:
            worker.close()
    whole = wanted.only is None
    report["workloads"] = {
        name: rows_of(cases, name)
        for name in WORKLOADS
        if any(case.workload == name for case in cases)
    }
    report["slopes"] = slopes(cases)
    report["cold_start"] = cold(wanted.rounds) if whole else []
    if whole:
        say(f"{steady.RUNS:,} runs, one after the other")
    report["steady"] = steady.rows() if whole else []
    report["engine"] = engine() if whole and not wanted.no_engine else []
    report["goals"] = goals(cases, report["slopes"], report["cold_start"], report["steady"])

    wanted.output.mkdir(parents=True, exist_ok=True)
    (wanted.output / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (wanted.output / "bench.md").write_text(text, encoding="utf-8")
    print(text)
    rows = [(name, row) for name, rows in report["workloads"].items() for row in rows]
    broken += [f"{name}: {row['contender']} differs" for name, row in rows if row["equal"] is False]
    broken += [f"{case.workload}: {case.contender} {case.failed}" for case in cases if case.failed]
    broken += [f"{r['contender']}: {r['failed']}" for r in report["steady"] if r["failed"]]
    if broken:
        raise SystemExit("\n".join(["Not as it should be:", *broken]))


if __name__ == "__main__":
    main()
