"""Takes times side by side.

A case is one contender at one workload: a function that does the work n times. In each round every
case has its turn, in changing order, so that whatever else the machine does meets all of them.
Compared are medians, and ratios to a contender that is named; the minimum tells how quiet it was.

A contender that brings an interpreter or threads of its own lives in a process of its own, see
`Worker`; it takes its times itself, when it is told to, so it alternates like the others.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional, Union

#: Does the work this often and gives the last result.
Work = Callable[[int], Any]
#: By contender and workload the work, or why there is none.
Works = dict[tuple[str, str], Union[Work, str]]

#: How long a sample takes, about, and at most how many calls it is.
SAMPLE_SECONDS = 0.02
SAMPLE_CALLS = 20_000


class Timed(NamedTuple):
    """The result of work that took its time itself, as it is done by a program of its own."""

    seconds: float
    result: Any


def digest(value: Any) -> str:
    """Equal for equal values of equal types, also in another process."""
    state = hashlib.sha256()

    def feed(value: Any) -> None:
        if hasattr(value, "dtype"):
            state.update(f"array {value.dtype} {value.shape} ".encode())
            state.update(value.tobytes())
        elif isinstance(value, (list, tuple)):
            state.update(f"list {len(value)} ".encode())
            if all(type(item) in (int, float) for item in value):
                state.update(repr(list(value)).encode())
            else:
                for item in value:
                    feed(item)
        else:
            state.update(f"{type(value).__name__} {value!r} ".encode())

    feed(value)
    return state.hexdigest()


def repeated(call: Callable[[], Any]) -> Work:
    """Work that is a call."""

    def work(calls: int) -> Any:
        for _ in itertools.repeat(None, calls):
            result = call()
        return result

    return work


def awaited(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> Work:
    """Work that is awaited, one after the other in one task."""

    async def many(calls: int) -> Any:
        for _ in itertools.repeat(None, calls):
            result = await call()
        return result

    return lambda calls: loop.run_until_complete(many(calls))


def paced(call: Callable[[], Any], pause: float) -> Work:
    """Work that comes now and then: the time is that of the calls, without the pauses before."""

    def work(calls: int) -> Any:
        seconds = 0.0
        for _ in itertools.repeat(None, calls):
            time.sleep(pause)
            begun = time.perf_counter()
            result = call()
            seconds += time.perf_counter() - begun
        return Timed(seconds, result)

    return work


def paced_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any], pause: float) -> Work:
    """The same where it is awaited."""

    async def many(calls: int) -> Any:
        seconds = 0.0
        for _ in itertools.repeat(None, calls):
            await asyncio.sleep(pause)
            begun = time.perf_counter()
            result = await call()
            seconds += time.perf_counter() - begun
        return Timed(seconds, result)

    return lambda calls: loop.run_until_complete(many(calls))


def shares(result: Any, given: Any) -> Optional[bool]:
    """Whether the arrays that came out lie where those that went in do; None without arrays."""
    if not isinstance(result, list):
        return None
    pairs = [(out, into) for out, into in zip(result, given) if hasattr(out, "ctypes")]
    if not pairs:
        return None
    return all(out.ctypes.data == into.ctypes.data for out, into in pairs)


def timed(work: Work, calls: int, given: Any) -> dict[str, Any]:
    """One sample, after a call that is not counted if a sample is many."""
    if calls > 1:
        work(1)
    begun = time.perf_counter()
    result = work(calls)
    seconds = time.perf_counter() - begun
    if isinstance(result, Timed):
        seconds, result = result
    return {"seconds": seconds, "digest": digest(result), "shared": shares(result, given)}


@dataclass
class Case:
    """A contender at a workload, and what was seen of it."""

    workload: str
    contender: str
    sample: Callable[[int], dict[str, Any]]
    #: The digest of what the result has to be; None if nobody knows, as all have to agree on it.
    expected: Optional[str] = None
    #: How many calls a sample has, and at most.
    calls: int = 1
    most: int = SAMPLE_CALLS
    #: Seconds per call, by round.
    times: list[float] = field(default_factory=list)
    #: The digests of the results.
    digests: set[str] = field(default_factory=set)
    shared: Optional[bool] = None
    #: Why it takes no part, or no more.
    missing: Optional[str] = None
    failed: Optional[str] = None

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def least(self) -> float:
        return min(self.times)

    def turn(self, calls: int) -> float:
        seen = self.sample(calls)
        self.digests.add(seen["digest"])
        self.shared = seen["shared"]
        return float(seen["seconds"]) / calls

    def attempt(self, step: Callable[[], None]) -> None:
        """A contender that fails is out, and the others go on."""
        if self.missing is None and self.failed is None:
            try:
                step()
            except Exception as error:  # noqa: BLE001  peers' code may raise anything
                self.failed = f"{type(error).__name__}: {error}".split("\n")[0][:200]

    def calibrate(self) -> None:
        once = self.turn(1)
        once = min(once, self.turn(max(1, min(50, self.most, int(SAMPLE_SECONDS / 10 / once)))))
        self.calls = max(1, min(self.most, int(SAMPLE_SECONDS / once)))


def measure(cases: list[Case], rounds: int, say: Callable[[str], None]) -> None:
    for case in cases:
        case.attempt(case.calibrate)
    gc.collect()
    # What was imported is not searched for garbage again and again while it is measured.
    gc.freeze()
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        start = number * len(cases) // rounds
        for case in cases[start:] + cases[:start]:
            case.attempt(lambda case=case: case.times.append(case.turn(case.calls)))
    gc.unfreeze()


class Unavailable(Exception):
    """A contender's process could not begin."""


class Worker:
    """A process that has one contender: started with a Python of its choice."""

    def __init__(self, python: str, peer: str) -> None:
        self.process = subprocess.Popen(
            [python, os.path.join(os.path.dirname(__file__), "worker.py"), peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.hello = self._answer()
        except RuntimeError as error:
            self.close()
            raise Unavailable(error) from None

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def sample(self, contender: str, workload: str, calls: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([contender, workload, calls]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def serve(open_peer: Callable[[], tuple[str, Works, dict[str, Any]]]) -> None:
    """The other end of a worker. `open_peer` gives the version, the works, and the inputs by
    workload."""
    # Whatever a peer prints does not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        version, works, inputs = open_peer()
    except Exception as error:  # noqa: BLE001
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"version": version, "cases": list(works)})
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        contender, workload, calls = json.loads(line)
        try:
            work: Any = works[contender, workload]
            answer(timed(work, calls, inputs.get(workload, ())))
        except Exception as error:  # noqa: BLE001
            answer({"error": f"{type(error).__name__}: {error}"})
