"""Shared by all tests. They run against the installed package, never against the source tree."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any, Callable

import pytest

import remotemedia
from remotemedia import Pipeline, native

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is to run in the background without Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
#: A pipeline that changes nothing, and what runs it on items.
PASS = {"version": "v1", "nodes": [{"id": "n", "node_type": "PassThrough"}]}
Cross = Callable[..., "list[Any]"]


def pytest_report_header() -> str:
    return f"remotemedia: {Path(remotemedia.__file__).parent}"


def pytest_sessionstart() -> None:
    if CI and Path(remotemedia.__file__).resolve().parent.parent == ROOT:
        pytest.exit("the tests must run against the installed package", returncode=4)
    if CI and not native.is_available():
        pytest.exit("the native library cannot be loaded", returncode=4)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """`tool("gcc")`: its path. Without it the test is skipped, or fails where CI=true."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            (pytest.fail if CI else pytest.skip)(f"{name} is not installed")
        return path

    return find


def needed(name: str) -> Any:
    """An optional package. Without it the tests that ask are skipped, or fail where CI=true."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if CI:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed", allow_module_level=True)


class engine:
    """Which engine the tests of a module with :func:`either_engine` are to use."""

    rust = False


@pytest.fixture(params=[False, True], ids=["python", "native"])
def either_engine(request: pytest.FixtureRequest) -> None:
    """Lets tests run in both engines; those that are marked with ``python_engine`` in one."""
    if request.param and request.node.get_closest_marker("python_engine"):
        pytest.skip("it is about the Python engine")
    if request.param and not native.is_available():
        pytest.skip("there is no native library")
    engine.rust = request.param


async def cancel_at_random(opening: Any, count: int) -> None:
    """Sends numbers through a session that hands them on, and cancels half of those who wait, at
    any moment: all that was sent is received, in order."""
    sent, received = [], []
    generator = random.Random(5)
    async with opening as run:
        while len(received) < count:
            send = asyncio.ensure_future(run.send(len(sent)))
            recv = asyncio.ensure_future(run.recv())
            for _ in range(generator.randint(0, 6)):
                await asyncio.sleep(0)
            for task in (send, recv):
                if generator.random() < 0.5:
                    task.cancel()
            await asyncio.wait({send, recv}, timeout=0.001)
            for task in (send, recv):
                task.cancel()
            await asyncio.wait({send, recv})
            if not send.cancelled():
                sent.append(send.result())
            if not recv.cancelled():
                received.append(recv.result().item)
        assert not getattr(run._backend, "_futures", ())
        run.end()
        received += [output.item async for output in run]
    assert received == sent == list(range(len(sent)))


@pytest.fixture(params=["native", "python"])
def cross(request: pytest.FixtureRequest) -> Cross:
    """What a pipeline gives that changes nothing, in each engine."""
    if request.param == "python":
        return lambda *items: Pipeline.from_manifest(PASS).run_sync(list(items), use_rust=False)
    if not native.is_available():
        pytest.skip("the native library is missing")
    return lambda *items: native.run_manifest(PASS, list(items))
