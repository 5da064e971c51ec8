"""Cases that every engine runs, with the same results and the same errors.

A case has a ``manifest``, or its text as ``text``, ``hex`` (bytes), ``repeat`` (``[before, what,
how often, after]``) or ``build`` (texts, and ``[what, how often]`` with the number from 00000 on in
the place of ``#``, separated by commas); an ``input``; and the ``output`` (and ``by_node``) or the
``error``, which may take some ``seconds``, else ten. Floats that JSON lacks stand as
``{"$rm": "NaN"}``, see ``rust-core/runtime/src/json.rs``. An error without a message may be told in
the engine's own words; everything else is exact.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from remotemedia import Pipeline, RemoteMediaError, Result, native

FOLDER = Path(__file__).parent / "conformance"
Engine = Callable[[bytes, Any], Result]


def cases() -> list[Any]:
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        for case in json.loads(file.read_text(encoding="utf-8")):
            found.append(pytest.param(case, id=f"{file.stem}: {case['name']}"))
    return found


@pytest.fixture(scope="module", params=["native", "python"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "python":
        return lambda text, items: Pipeline.from_manifest(text).run_sync(items, use_rust=False)
    if not native.is_available():
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("the native library is missing")
    return native.run_manifest


@pytest.mark.parametrize("case", cases())
def test_case(engine: Engine, case: dict[str, Any]) -> None:
    text = manifest(case)
    items = restore(case.get("input"))
    started = time.perf_counter()
    if "error" in case:
        with pytest.raises(RemoteMediaError) as caught:
            engine(text, items)
        assert told(caught.value, case["error"]) == case["error"]
        assert time.perf_counter() - started < case.get("seconds", 10.0)
    else:
        result = engine(text, items)
        assert exact(list(result)) == exact(restore(case["output"]))
        if "by_node" in case:
            assert exact(result.by_node) == exact(case["by_node"])


def manifest(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "repeat" in case:
        before, what, times, after = case["repeat"]
        return f"{before}{what * times}{after}".encode()
    if "build" in case:
        return "".join(map(built, case["build"])).encode()
    if "text" in case:
        return str(case["text"]).encode()
    return json.dumps(case["manifest"]).encode()


def built(part: Any) -> str:
    """A part of a manifest that is too large to be written here."""
    if isinstance(part, str):
        return part
    return ",".join(part[0].replace("#", f"{number:05}") for number in range(part[1]))


def restore(value: Any) -> Any:
    """The value that JSON with escapes stands for."""
    if isinstance(value, list):
        return [restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$rm"}:
        if isinstance(value["$rm"], str):
            return float(value["$rm"].replace("Infinity", "inf"))
        value = value["$rm"]
    return {key: restore(item) for key, item in value.items()}


def exact(value: Any) -> str:
    """A text in which 1 is not 1.0 or True, 0.0 is not -0.0, NaN is NaN and order counts."""
    return json.dumps(value)


def told(error: RemoteMediaError, expected: dict[str, Any]) -> dict[str, Any]:
    """What the case asks of an error."""
    found = {key: getattr(error, key) for key in expected if key != "causes"}
    if error.causes or "causes" in expected:
        hoped = [*expected.get("causes", ()), *({} for _ in error.causes)]
        found["causes"] = [told(cause, hope) for cause, hope in zip(error.causes, hoped)]
    return found


def test_there_are_enough_bad_manifests() -> None:
    bad = json.loads((FOLDER / "bad_manifests.json").read_text(encoding="utf-8"))
    assert len(bad) >= 60
    assert all({"code", "pointer", "node", "hint"} <= set(case["error"]) for case in bad)
