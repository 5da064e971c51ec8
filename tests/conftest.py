"""Shared by all tests. They run against the installed package, never against the source tree."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

import remotemedia
from remotemedia import Pipeline, native

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


@pytest.fixture(params=["native", "python"])
def cross(request: pytest.FixtureRequest) -> Cross:
    """What a pipeline gives that changes nothing, in each engine."""
    if request.param == "python":
        return lambda *items: Pipeline.from_manifest(PASS).run_sync(list(items), use_rust=False)
    if not native.is_available():
        pytest.skip("the native library is missing")
    return lambda *items: native.run_manifest(PASS, list(items))
