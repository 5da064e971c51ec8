"""How long it takes from nothing to the first result: one fresh interpreter per sample.

python benchmarks/coldstart.py WHAT    one sample, as JSON
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ours = """
import sys; sys.modules["numpy"] = None
from remotemedia import Pipeline
from remotemedia.nodes import CalculatorNode, PassThroughNode
"""
ours_first = """
nodes = [PassThroughNode(), CalculatorNode(operation="add", operand=5), PassThroughNode()]
assert Pipeline("sums", nodes).run_sync([1, 2, 3]) == [6, 7, 8]
"""
pyav = "import av, av.filter"
pyav_first = """
graph = av.filter.Graph()
source = graph.add_abuffer(sample_rate=48000, format="flt", layout="mono")
graph.link_nodes(source, *(graph.add("anull") for _ in range(3)), graph.add("abuffersink"))
graph.configure()
frame = av.AudioFrame(format="flt", layout="mono", samples=960)
frame.sample_rate = 48000
graph.push(frame)
graph.pull()
"""
#: By contender: what it imports, and what gives its first result.
STARTS = {
    "ours, without NumPy": (ours, ours_first),
    "import cffi's runtime": ("import _cffi_backend", ""),
    "import asyncio": ("import asyncio", ""),
    "import numpy": ("import numpy", ""),
    "PyAV, anull": (pyav, pyav_first),
}


def environment() -> dict[str, str]:
    """One in which bytecode is kept, in a folder of its own: whether it is kept here depends on how
    things were installed, and compiling takes longer than all the rest."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}


def sample(what: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().split("\n")[-1])
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def main(what: str) -> None:
    imports, first = (compile(code, what, "exec") for code in STARTS[what])
    names: dict[str, Any] = {}
    begun = time.perf_counter()
    exec(imports, names)
    imported = time.perf_counter()
    exec(first, names)
    done = time.perf_counter()
    print(json.dumps({"import": imported - begun, "first": done - imported}))


if __name__ == "__main__":
    main(sys.argv[1])
