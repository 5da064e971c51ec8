"""Where memory is short there is an error, and the process lives on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("resource")
np = pytest.importorskip("numpy")

SETUP = """
import resource
import numpy as np
from remotemedia import Audio, Pipeline, RemoteMediaError
from remotemedia import native
from remotemedia.nodes import *

def refused(node, item, more):
    pipeline = Pipeline("limits", [node])
    pipeline.run_sync([])
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (more << 20), resource.RLIM_INFINITY))
    try:
        pipeline.run_sync([item], use_rust=True)
    except (RemoteMediaError, MemoryError) as error:
        print("refused:", error)
    else:
        print("there was enough")
"""

CASES = {
    "mix": """
        samples = np.zeros((1_000_000, 64), np.int16)
        refused(AudioResampleNode(target_rate=48_000, mono=True), Audio(samples, 48_000), 50)
    """,
    "resample": """
        samples = np.zeros((1_000_000, 64), np.float32)
        refused(AudioResampleNode(target_rate=48_000), Audio(samples, 24_000), 100)
    """,
    "resampler": """
        samples = np.zeros(1_000, np.float32)
        refused(AudioResampleNode(target_rate=767_999), Audio(samples, 768_000), 100)
    """,
    "level": """
        samples = np.zeros((1_000_000, 64), np.int16)
        refused(AudioLevelNode(), Audio(samples, 48_000), 100)
    """,
    "speech": """
        samples = np.zeros((1_000_000, 64), np.int16)
        refused(VoiceActivityNode(), Audio(samples, 48_000), 100)
    """,
    "chunks": """
        samples = np.zeros(20_000_000, np.int16)
        refused(AudioChunkerNode(chunk_size=1), Audio(samples, 48_000), 1_000)
    """,
    "floats": "refused(MultiplyNode(factor=2.0), np.zeros(30_000_000, np.float32), 50)",
    "integers": "refused(AddNode(addend=2), np.zeros(30_000_000, np.int32), 50)",
    "quotients": """
        node = CalculatorNode(operation="divide", operand=2)
        refused(node, np.zeros(30_000_000, np.int32), 50)
    """,
    "text": 'refused(TextProcessorNode(operations=["uppercase"]), "x" * 50_000_000, 220)',
    "large text": 'refused(PassThroughNode(), "x" * 100_000_000, 150)',
}


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
@pytest.mark.parametrize("case", CASES)
def test_memory_that_is_not_there_is_an_error(case: str) -> None:
    script = SETUP + textwrap.dedent(CASES[case])
    # One arena, as others would reserve address space at their first use.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: "), done.stdout
