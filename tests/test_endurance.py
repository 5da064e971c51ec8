"""In small what endurance.py does at length: runs and sessions that are broken off, processes that
end in the midst of them, and children."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import endurance
import pytest

from remotemedia import native

pytestmark = [
    pytest.mark.skipif(not native.is_available(), reason="the native library is missing"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals of POSIX"),
]

WAYS = [(scene, way) for scene, (_, ways) in endurance.SCENES.items() for way in ways.split()]
#: A batch of native nodes that do not wait is complete before anything happens.
KINDS = [kind for kind in endurance.KINDS if kind != "process"]


def tells(scene: str, way: str, kind: str) -> bool:
    """Ctrl-C just after a method has made a coroutine, and before that is in a task, leaves one
    that was never awaited, of which Python tells now and then: that is for the script alone."""
    return way == "ctrl-c" and "async" not in scene and kind == "async"


@pytest.mark.parametrize(("scene", "way"), WAYS)
def test_control_is_back_and_nothing_is_left(scene: str, way: str) -> None:
    for kind in KINDS:
        if ("batch" in scene and kind == "native") or tells(scene, way, kind):
            continue
        took = endurance.break_off(scene, way, kind, 5, 200 if "batch" in scene else 1)
        assert len(took) == 5
        # It is not to be measured here, but what waits for a time of its own would be longer.
        assert max(took) < 10


@pytest.mark.parametrize("scene", ["session", "async session"])
@pytest.mark.parametrize("way", ["cancel", "deadline", "interrupt", "ctrl-c"])
def test_however_much_is_inside(scene: str, way: str) -> None:
    for kind in ("waits", "async", "plain"):
        if tells(scene, way, kind):
            continue
        assert max(endurance.break_off(scene, way, kind, 1, 2_000)) < 10


def test_processes_of_nodes_end_with_the_run() -> None:
    for scene, way in (("session", "cancel"), ("async session", "ctrl-c"), ("batch", "timeout")):
        assert max(endurance.break_off(scene, way, "process", 1, 200)) < 10


@pytest.mark.parametrize("end", endurance.ENDS)
@pytest.mark.parametrize("shape", endurance.SHAPES)
def test_a_process_ends_cleanly(shape: str, end: str) -> None:
    # Every kind has its turn.
    number = endurance.SHAPES.index(shape) * len(endurance.ENDS) + list(endurance.ENDS).index(end)
    kinds = list(endurance.KINDS)
    for kind in {kinds[number % len(kinds)], kinds[(number + 4) % len(kinds)]}:
        endurance.clean(("leave", shape, end, kind), endurance.ENDS[end])


@pytest.mark.parametrize("how", endurance.LOOPS)
@pytest.mark.parametrize("kind", list(endurance.KINDS))
def test_a_loop_ends_before_the_session(how: str, kind: str) -> None:
    endurance.clean(("leave_loop", how, kind), 0)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_while_sessions_are_open(method: str) -> None:
    endurance.children(method, 1)


@pytest.mark.slow
def test_without_memory_that_is_written_and_executed(tmp_path: Path) -> None:
    missing = endurance.denied(tmp_path)
    if missing:
        pytest.skip(missing)
