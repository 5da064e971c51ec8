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
import sysconfig
import time
from pathlib import Path
from typing import Any, Callable, Optional

import coldstart
import numpy
import peers
from harness import Case, Worker, digest, measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"

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


def build_reference() -> None:
    """Builds pyo3_reference for this interpreter, and makes it importable."""
    folder = HERE / "pyo3_reference"
    target = Path(os.environ.get("CARGO_TARGET_DIR", BUILD / "pyo3_reference"))
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
    environment = {**os.environ, "PYO3_PYTHON": sys.executable}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    names = {"darwin": "libpyo3_reference.dylib", "win32": "pyo3_reference.dll"}
    built = target / "release" / names.get(sys.platform, "libpyo3_reference.so")
    place = target / "module"
    place.mkdir(exist_ok=True)
    suffix = ".pyd" if sys.platform == "win32" else sysconfig.get_config_var("EXT_SUFFIX")
    shutil.copy(built, place / f"pyo3_reference{suffix}")
    sys.path.insert(0, str(place))


def why(error: Exception) -> str:
    lines = str(error).strip().split("\n")
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return f"{kind}{lines[-1]}"[:200]


def gather(only: Optional[str]) -> tuple[list[Case], dict[str, str], list[Worker]]:
    """The cases, the version or the absence of every peer, and the processes."""
    given = peers.inputs()
    right = {name: digest(peers.expected(name, items)) for name, items in given.items()}
    given["layers"] = given["numbers"]
    cases: list[Case] = []
    versions: dict[str, str] = {}
    workers: list[Worker] = []

    def add(contender: str, workload: str, sample: Callable[[int], dict[str, Any]]) -> None:
        if only is None or only in workload:
            cases.append(Case(workload, contender, sample, right.get(workload)))

    for peer in peers.HERE:
        say(f"preparing {peer.__name__}")
        try:
            if peer is peers.pyo3:
                build_reference()
            versions[peer.__name__], works = peer({k: v for k, v in given.items() if k in right})
        except (ImportError, OSError, subprocess.CalledProcessError) as error:
            versions[peer.__name__] = f"not installed ({why(error)})"
            continue
        for (contender, workload), work in works.items():
            add(contender, workload, local(work, given[workload]))
    for peer in peers.APART:
        name = peer.__name__
        say(f"preparing {name}")
        folder = PYTHONS.get(name)
        python = os.environ.get(f"BENCH_{name.upper()}_PYTHON") or sys.executable
        if folder is not None and (folder / "bin" / "python").exists():
            python = str(folder / "bin" / "python")
        try:
            worker = Worker(python, name)
        except (OSError, RuntimeError) as error:
            versions[name] = f"not installed ({why(error)})"
            continue
        workers.append(worker)
        versions[name] = worker.hello["version"]
        for contender, workload in worker.hello["cases"]:
            add(contender, workload, remote(worker, contender, workload))
    return cases, versions, workers


def local(work: Any, items: list[Any]) -> Callable[[int], dict[str, Any]]:
    from harness import timed

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
    return [
        {
            "contender": case.contender,
            "failed": case.failed,
            "median_us": case.median / items * 1e6 if case.times else None,
            "min_us": case.least / items * 1e6 if case.times else None,
            "ratio": case.median / base.median if base and case.times else None,
            "equal": case.equal if case.expected is not None else None,
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
                "equal": few.equal and many.equal,
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


def goals(cases: list[Case], nodes: list[dict[str, Any]], starts: list[dict[str, Any]]) -> Any:
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
    chain, reference = ("numbers", "asyncio.Queue chain"), ("numbers", "PyO3 reference")
    goal("numbers, sync: time / asyncio.Queue chain's", 0.7, ratio(numbers, chain))
    goal("numbers, sync: time / PyO3 reference's", 1.5, ratio(numbers, reference))
    goal("3.84 MB / 3.84 KB, await", 1.2, ratio(("large array", "ours, await"), awaited))
    for row in nodes:
        if row["contender"].startswith("ours"):
            goal("one more node, per item, in ns", 60, row["median_ns"])
    goal(
        "100,000 floats: json's time / ours, at least", 20,
        ratio(("list", "json, both ways"), ("list", "ours, sync")), most=False,
    )  # fmt: skip
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
            "contender|median|min|ratio|equal|same memory",
            [
                [row["contender"], f"failed: {row['failed']}", "", "", "", ""]
                if row["failed"]
                else [
                    row["contender"], number(row["median_us"]), number(row["min_us"]),
                    number(row["ratio"]), word(row["equal"]),
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
    cases, report["versions"], workers = gather(wanted.only)
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
    report["engine"] = engine() if whole and not wanted.no_engine else []
    report["goals"] = goals(cases, report["slopes"], report["cold_start"])

    wanted.output.mkdir(parents=True, exist_ok=True)
    (wanted.output / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (wanted.output / "bench.md").write_text(text, encoding="utf-8")
    print(text)
    unequal = [f"{c.workload}: {c.contender}" for c in cases if c.times and not c.equal]
    if unequal:
        raise SystemExit("results differ: " + ", ".join(unequal))


if __name__ == "__main__":
    main()
