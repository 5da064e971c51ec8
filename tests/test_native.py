"""The binding: what each function of remotemedia.native promises."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from remotemedia import (
    ManifestError,
    MarshalError,
    NodeError,
    RemoteMediaError,
    RunTimeoutError,
    native,
)

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")


def manifest(*nodes: Any, chain: bool = True) -> dict[str, Any]:
    """A chain of nodes, each a type or a type with parameters."""
    entries = []
    for index, node in enumerate(nodes):
        node_type, params = node if isinstance(node, tuple) else (node, {})
        entries.append({"id": f"n{index}", "node_type": node_type, "params": params})
    ids = [entry["id"] for entry in entries]
    edges = [{"from": a, "to": b} for a, b in zip(ids, ids[1:])] if chain else []
    return {"version": "v1", "nodes": entries, "connections": edges}


ADD_5 = manifest("PassThrough", ("Calculator", {"operation": "add", "operand": 5}), "PassThrough")
SLOW = manifest(("Delay", {"seconds": 0.02}))


def test_runs_and_tells_what_it_did() -> None:
    result = native.run_manifest(ADD_5, [1, 2, 3])
    assert result == [6, 7, 8]
    assert result.engine == "native"
    assert result.by_node == {"n2": [6, 7, 8]}
    assert result.metrics["items"] == result.metrics["items_done"] == 3
    assert result.metrics["nodes"]["n1"]["items_in"] == 3
    assert result.metrics["nodes"]["n1"]["time_us"] >= 0
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result and copy.by_node == result.by_node and copy.engine == "native"


def test_no_items_are_no_outputs() -> None:
    for items in (None, [], (), iter(())):
        assert native.run_manifest(ADD_5, items) == []


def test_a_manifest_is_text_or_bytes_or_a_dict_or_a_path(tmp_path: Path) -> None:
    text = json.dumps(ADD_5)
    path = tmp_path / "pipeline.json"
    path.write_text(text)
    for form in (text, "  \n" + text, text.encode(), ADD_5, path, str(path)):
        assert native.run_manifest(form, [1]) == [6]
    for missing in (tmp_path / "missing.json", "missing.json"):
        with pytest.raises(FileNotFoundError):
            native.run_manifest(missing)
    with pytest.raises(OSError, match="not a regular file"):
        native.run_manifest(tmp_path)
    path.write_text(" " * (1 << 21))
    with pytest.raises(ManifestError) as caught:
        native.run_manifest(path)
    assert caught.value.code == "RM_E_LIMIT"
    with pytest.raises(ManifestError, match="not JSON") as caught:
        native.run_manifest("neither")
    assert caught.value.code == "RM_E_JSON"
    with pytest.raises(TypeError, match="not int"):
        native.run_manifest(5)  # type: ignore[arg-type]
    for bad in ({"version": object()}, {"version": float("nan")}):
        with pytest.raises(ManifestError, match="cannot be written as JSON"):
            native.run_manifest(bad)


@pytest.mark.parametrize("items", ["abc", b"abc", 5, 1.5, {1, 2}, object()])
def test_input_that_is_no_list_of_items_is_refused(items: Any) -> None:
    with pytest.raises(MarshalError) as caught:
        native.run_manifest(ADD_5, items)
    assert isinstance(caught.value, TypeError) and "list" in str(caught.value)


def test_the_same_text_is_read_once() -> None:
    text = json.dumps(manifest("PassThrough", ("Add", {"addend": 17})))
    before = native.stats()["manifests_parsed"]
    for _ in range(50):
        native.run_manifest(text, [1])
    assert native.stats()["manifests_parsed"] == before + 1


def test_an_error_says_which_node_which_item_and_why() -> None:
    with pytest.raises(NodeError) as caught:
        native.run_manifest(ADD_5, [1, 2, "three"])
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.code, error.node, error.node_type, error.item) == (
        "RM_E_NODE", "n1", "Calculator", 2,
    )  # fmt: skip
    assert error.hint
    assert str(error).startswith("node 'n1' (Calculator), item 2: ")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.item == 2


def test_all_problems_of_a_manifest_come_at_once() -> None:
    bad = manifest(("Calclator", {}), ("Calculator", {"operation": "ad"}))
    bad["conections"] = []
    with pytest.raises(ManifestError) as caught:
        native.run_manifest(bad)
    assert isinstance(caught.value, ValueError)
    assert [problem.pointer for problem in caught.value.causes] == [
        "/conections", "/nodes/0/node_type", "/nodes/1/params/operation", "/nodes/1/params",
    ]  # fmt: skip
    for problem in caught.value.causes:
        assert problem.message in str(caught.value) and problem.hint


def test_a_time_limit_holds() -> None:
    begun = time.monotonic()
    with pytest.raises(RunTimeoutError) as caught:
        native.run_manifest(SLOW, range(1000), timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.node, caught.value.code) == ("n0", "RM_E_TIMEOUT")
    assert time.monotonic() - begun < 5
    for wrong in (-1, float("nan")):
        with pytest.raises(MarshalError, match="timeout"):
            native.run_manifest(SLOW, [1], timeout=wrong)
    assert native.run_manifest(ADD_5, [1], timeout=1e300) == [6]


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    native.prepare(SLOW).run(
        list(range(10)), progress=lambda done, total: seen.append((done, total))
    )
    assert seen and seen == sorted(seen) and all(total == 10 for _, total in seen)


def test_a_progress_function_that_raises_ends_the_run() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        native.prepare(SLOW).run(range(1000), progress=stop)
    gc.collect()
    assert native.handles()["rm_run"] == 0


def test_ctrl_c_at_any_moment_leaves_nothing_behind() -> None:
    code = """
        import gc, random, signal, time
        from remotemedia import native

        class Stop(Exception):
            pass

        def handler(*_):
            if armed:
                raise Stop

        armed = False
        signal.signal(signal.SIGALRM, handler)
        prepared = native.prepare(MANIFEST)
        prepared.run([1, b"x"])
        deadline = time.monotonic() + 3
        stops = 0
        while time.monotonic() < deadline:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
                while True:
                    prepared.run([1, b"x", "y" * 1000])
            except Stop:
                armed = False
                stops += 1
        gc.collect()
        left = native.handles()
        assert stops > 100, stops
        print({name: count for name, count in left.items() if count > 1})
    """
    chain = json.dumps(manifest("PassThrough", "PassThrough", "PassThrough"))
    code = textwrap.dedent(code).replace("MANIFEST", repr(chain))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{}\n", "")


class TestAsync:
    def test_twins(self) -> None:
        async def main() -> None:
            text = json.dumps(ADD_5)
            assert await native.run_manifest_async(text, [1]) == [6]
            assert await native.execute_pipeline_with_input(text, [1, 2]) == [6, 7]
            assert await native.execute_pipeline(text) == []
            with pytest.raises(NodeError):
                await native.run_manifest_async(text, ["x"])

        asyncio.run(main())

    def test_the_loop_stays_free_during_long_work(self) -> None:
        async def main() -> int:
            ticks = 0
            task = asyncio.ensure_future(native.run_manifest_async(SLOW, range(10)))
            while not task.done():
                await asyncio.sleep(0.005)
                ticks += 1
            assert await task == list(range(10))
            return ticks

        assert asyncio.run(main()) > 5

    def test_cancelling_the_task_cancels_the_run(self) -> None:
        async def main() -> None:
            task = asyncio.ensure_future(native.run_manifest_async(SLOW, range(100_000)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        begun = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - begun < 5
        gc.collect()
        assert native.handles()["rm_run"] == 0

    def test_many_at_once(self) -> None:
        async def main() -> None:
            prepared = native.prepare(manifest(("Delay", {"seconds": 0.001}), "PassThrough"))
            runs = [prepared.run_async([n, n + 1]) for n in range(50)]
            assert await asyncio.gather(*runs) == [[n, n + 1] for n in range(50)]

        asyncio.run(main())


def test_one_pipeline_serves_many_threads() -> None:
    prepared = native.prepare(ADD_5)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(300):
                assert prepared.run([number, n]) == [number + 5, n + 5]
        except Exception as error:  # noqa: BLE001  reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_is_left_behind() -> None:
    def round_trip() -> None:
        prepared = native.prepare(ADD_5)
        assert prepared.run([1, 2, 3]).metrics
        with pytest.raises(NodeError):
            prepared.run(["x", b"y"])
        with pytest.raises(ManifestError):
            native.prepare("[]")

    round_trip()
    gc.collect()
    before = native.handles()
    for _ in range(50):
        round_trip()
    gc.collect()
    assert native.handles() == before


def test_a_prepared_pipeline_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(native.prepare(ADD_5))).run([1]) == [6]


def test_the_catalogue() -> None:
    nodes = {entry["name"]: entry for entry in native.list_nodes()}
    assert {"PassThrough", "Calculator", "AudioDecode", "VoiceActivity"} <= set(nodes)
    for name, entry in nodes.items():
        assert all(entry[key] for key in ("summary", "takes", "gives", "example")), name
        assert native.node_schema(name) == native.node_schema(name + "Node") == entry["params"]
    with pytest.raises(RemoteMediaError, match="Calculatr") as caught:
        native.node_schema("Calculatr")
    assert caught.value.hint == 'did you mean "Calculator"?'


def test_both_spellings_name_the_same_type() -> None:
    for name in ("Multiply", "MultiplyNode"):
        assert native.run_manifest(manifest((name, {"factor": 3})), [2]) == [6]


def test_the_log_goes_to_logging(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = Path(__file__).parent.parent / "examples" / "data" / "austen-0880.wav"
    native.set_log_level(logging.DEBUG)
    try:
        with caplog.at_level(logging.DEBUG, "remotemedia"):
            native.run_manifest(manifest("AudioDecode"), [str(clip)])
    finally:
        native.set_log_level(logging.WARNING)
    assert caplog.records
    assert all(record.name.startswith("remotemedia") for record in caplog.records)
    assert capfd.readouterr() == ("", "")
