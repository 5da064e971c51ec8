"""What a run costs when it is one of a million: memory, page faults, calls into the library.

    python benchmarks/steady.py [--runs N]                     all, as a table of JSON objects
    python benchmarks/steady.py CONTENDER WORKLOAD RUNS        one, in this process
    python benchmarks/steady.py calls WORKLOAD                 ours, with every call counted

Every measurement has a process of its own. Counted is after a warm-up; where the system does not
tell, it is None.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional

from harness import digest

RUNS = 1_000_000
WARM_UP = 10_000
WORKLOADS = ("numbers", "array")
CONTENDERS = ("ours, sync", "PyO3, same engine")


def prepared(contender: str, workload: str) -> Callable[[], Any]:
    import peers
    import reference

    if contender.startswith("PyO3"):
        reference.build()
    items = peers.inputs()[workload]
    module = peers.pyo3 if contender.startswith("PyO3") else peers.remotemedia
    _, works = module({workload: items})
    work: Any = works[contender, workload]
    assert digest(work(1)) == digest(peers.expected(workload, items))
    return lambda: work(1_000)


def resident() -> Optional[int]:
    """Bytes of this process that are in memory."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * int(os.sysconf("SC_PAGE_SIZE"))


def faults() -> Optional[int]:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def handles() -> int:
    from remotemedia import native

    return sum(native.handles().values())


def grown(before: Optional[int], after: Optional[int]) -> Optional[int]:
    return None if before is None or after is None else after - before


def measure(contender: str, workload: str, runs: int) -> dict[str, Any]:
    thousand = prepared(contender, workload)
    for _ in range(WARM_UP // 1_000):
        thousand()
    gc.collect()
    ours = contender.startswith("ours")
    alive = handles() if ours else 0
    before, had = resident(), faults()
    for _ in range(runs // 1_000):
        thousand()
    after, have = resident(), faults()
    gc.collect()
    missed = grown(had, have)
    return {
        "rss_growth_kb": None if before is None or after is None else (after - before) / 1024,
        "faults_per_run": None if missed is None else missed / runs,
        "handles_left": handles() - alive if ours else None,
    }


# --- calls into the library -----------------------------------------------------------------------


class Library:
    """The library with every call counted."""

    def __init__(self, lib: Any, counts: Counter[str]) -> None:
        self.lib = lib
        self.counts = counts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.lib, name)
        if not name.startswith("rm_") or not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self.counts[name] += 1
            return found(*arguments)

        call.name = name  # type: ignore[attr-defined]
        setattr(self, name, call)
        return call


class Cffi:
    """cffi's ffi object, whose libraries count. Destructors are calls too."""

    def __init__(self, ffi: Any) -> None:
        self.ffi = ffi
        self.counts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.ffi, name)
        setattr(self, name, found)
        return found

    def dlopen(self, *arguments: Any) -> Library:
        return Library(self.ffi.dlopen(*arguments), self.counts)

    def addressof(self, owner: Any, *names: str) -> Any:
        return self.ffi.addressof(owner.lib if isinstance(owner, Library) else owner, *names)

    def gc(self, cdata: Any, destructor: Any, *size: int) -> Any:
        if isinstance(destructor, self.ffi.CData):
            function = destructor

            def destructor(pointer: Any) -> None:
                self.counts["a destructor"] += 1
                function(pointer)

        return self.ffi.gc(cdata, destructor, *size)


def count(workload: str, runs: int = 1_000) -> dict[str, float]:
    """Calls per run, by name."""
    import remotemedia._ffi as generated

    cffi = Cffi(generated.ffi)
    generated.ffi = cffi
    thousand = prepared("ours, sync", workload)
    thousand()
    if not cffi.counts:
        raise RuntimeError("no call was seen: the library was not opened through remotemedia._ffi")
    gc.collect()
    cffi.counts.clear()
    thousand()
    return {name: number / runs for name, number in sorted(cffi.counts.items())}


# --- all ------------------------------------------------------------------------------------------


def child(*arguments: Any) -> Any:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().split("\n")[-1])
    return json.loads(done.stdout)


def rows(runs: int = RUNS) -> list[dict[str, Any]]:
    found = []
    for workload in WORKLOADS:
        for contender in CONTENDERS:
            row: dict[str, Any] = {"contender": contender, "workload": workload, "failed": None}
            try:
                row.update(child(contender, workload, runs))
                row["calls"] = child("calls", workload) if contender.startswith("ours") else None
            except RuntimeError as error:
                row["failed"] = str(error)
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", nargs="*")
    parser.add_argument("--runs", type=int, default=RUNS)
    wanted = parser.parse_args()
    if not wanted.one:
        for row in rows(wanted.runs):
            print(json.dumps(row))
    elif wanted.one[0] == "calls":
        print(json.dumps(count(wanted.one[1])))
    else:
        contender, workload, runs = wanted.one
        print(json.dumps(measure(contender, workload, int(runs))))


if __name__ == "__main__":
    main()
