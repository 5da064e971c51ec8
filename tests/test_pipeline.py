"""Pipelines: built, written, read, checked and run."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from remotemedia import (
    ManifestError,
    MarshalError,
    Node,
    NodeError,
    Pipeline,
    RemoteMediaError,
    RunTimeoutError,
    native,
)
from remotemedia.core.pipeline import _Turns
from remotemedia.nodes import (
    AddNode,
    AudioLevelNode,
    BufferNode,
    DelayNode,
    MultiplyNode,
    TextProcessorNode,
)
from remotemedia.nodes.base import PassThroughNode
from remotemedia.nodes.calculator import CalculatorNode

needs_library = pytest.mark.skipif(
    not native.is_available(), reason="the native library is missing"
)


class Shout(Node):
    def __init__(self, mark: str = "!", name: Any = None) -> None:
        super().__init__(name)
        self.mark = mark

    def process(self, value: Any) -> Any:
        return f"{value}{self.mark}"


def example() -> Pipeline:
    pipeline = Pipeline(name="test")
    pipeline.add_node(PassThroughNode(name="pass1"))
    pipeline.add_node(CalculatorNode(name="calc", operation="add", operand=5))
    pipeline.add_node(PassThroughNode(name="pass2"))
    return pipeline


# --- the example of a user ------------------------------------------------------------------------


@needs_library
def test_it_runs_natively() -> None:
    result = asyncio.run(example().run(input_data=[1, 2, 3], use_rust=True))
    assert result == [6, 7, 8]
    assert result.engine == "native"
    assert result.by_node == {"pass2_2": [6, 7, 8]}
    empty = asyncio.run(example().run(input_data=[], use_rust=True))
    assert (empty, empty.engine) == ([], "native")


def test_it_runs_in_python() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = asyncio.run(example().run([1, 2, 3], use_rust=False))
    assert result == [6, 7, 8]
    assert result.engine == "python"
    assert example().run_sync([1, 2, 3], use_rust=False) == [6, 7, 8]


WITHOUT_LIBRARY = """
    import asyncio, warnings
    from remotemedia import LibraryNotFoundError, Pipeline
    from remotemedia.nodes import AudioLevelNode, CalculatorNode, PassThroughNode

    def make():
        calc = CalculatorNode(name="calc", operation="add", operand=5)
        return Pipeline("test", [PassThroughNode(name="pass1"), calc])

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [make().run_sync([1, 2, 3]), asyncio.run(make().run([1, 2, 3]))]
        make().validate()
    assert results == [[6, 7, 8]] * 2, results
    assert [result.engine for result in results] == ["python"] * 2
    [warning] = seen
    assert warning.category is RuntimeWarning, warning
    assert warning.filename == __file__, warning
    try:
        Pipeline("media", [AudioLevelNode(name="loud")]).run_sync([])
    except LibraryNotFoundError as error:
        assert "'loud' (AudioLevelNode)" in str(error), error
    else:
        raise AssertionError
"""


def test_without_the_library_it_runs_in_python_and_says_so_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(WITHOUT_LIBRARY))
    environment = {**os.environ, "REMOTEMEDIA_LIBRARY": str(tmp_path / "none.so")}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)


def test_imports_are_light() -> None:
    code = """
        import sys
        import remotemedia
        from remotemedia.nodes import CalculatorNode
        pipeline = remotemedia.Pipeline("p", [CalculatorNode(operation="add", operand=1)])
        pipeline.serialize()
        assert pipeline.run_sync([1], use_rust=False) == [2]
        heavy = {"numpy", "asyncio", "inspect", "logging", "dataclasses", "typing_extensions"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# --- as a manifest --------------------------------------------------------------------------------


def test_serialize() -> None:
    manifest = json.loads(example().serialize())
    assert manifest["version"] == "v1"
    assert manifest["metadata"]["name"] == "test"
    assert manifest["metadata"]["created_at"].endswith("Z")
    assert manifest["nodes"] == [
        {"id": "pass1_0", "node_type": "PassThroughNode", "params": {}},
        {
            "id": "calc_1",
            "node_type": "CalculatorNode",
            "params": {"operation": "add", "operand": 5},
        },
        {"id": "pass2_2", "node_type": "PassThroughNode", "params": {}},
    ]
    assert manifest["connections"] == [
        {"from": "pass1_0", "to": "calc_1"},
        {"from": "calc_1", "to": "pass2_2"},
    ]


def test_serialize_has_the_defaults_and_the_description() -> None:
    pipeline = Pipeline("p", [MultiplyNode(), BufferNode(), DelayNode()], description="what it is")
    manifest = json.loads(pipeline.serialize())
    assert manifest["metadata"]["description"] == pipeline.description == "what it is"
    assert [node["params"] for node in manifest["nodes"]] == [
        {"factor": 2.0},
        {"buffer_size": 10},
        {"seconds": 0.0},
    ]
    assert pipeline.ids == ("multiply_0", "buffer_1", "delay_2")


@pytest.mark.parametrize("form", ["text", "bytes", "dict", "path"])
def test_round_trip(form: str, tmp_path: Path) -> None:
    text = example().serialize()
    path = tmp_path / "pipeline.json"
    path.write_text(text, encoding="utf-8")
    forms = {"text": text, "bytes": text.encode(), "dict": json.loads(text), "path": path}
    pipeline = Pipeline.from_manifest(forms[form])
    assert pipeline.serialize() == text
    assert pipeline.name == "test"
    assert [node.name for node in pipeline.nodes] == ["pass1", "calc", "pass2"]
    assert pipeline.run_sync([1], use_rust=False) == [6]


def test_round_trip_keeps_what_is_foreign() -> None:
    manifest = {
        "version": "v1",
        "metadata": {"team": {"a": [1]}, "created_at": "2020-01-01T00:00:00Z"},
        "nodes": [
            {"id": "Ä x", "node_type": "Calculator", "params": {"operand": 1, "operation": "add"}},
            {"id": "other", "node_type": "PassThrough", "params": {}},
        ],
        "connections": [],
    }
    pipeline = Pipeline.from_manifest(manifest)
    assert json.loads(pipeline.serialize()) == manifest
    assert pipeline.run_sync([1], use_rust=False).by_node == {"Ä x": [2], "other": [1]}


def test_own_types_in_a_manifest() -> None:
    pipeline = Pipeline("own", [Shout("?", name="s"), PassThroughNode()])
    text = pipeline.serialize()
    with pytest.raises(ManifestError) as caught:
        Pipeline.from_manifest(text)
    assert caught.value.pointer == "/nodes/0/node_type"
    back = Pipeline.from_manifest(text, node_types=[Shout])
    assert back.serialize() == text
    assert back.run_sync(["a"]) == ["a?"]
    with pytest.raises(ManifestError, match="mork") as caught:
        Pipeline.from_manifest(text.replace('"mark"', '"mork"'), [Shout])
    assert caught.value.pointer == "/nodes/0/params"
    assert (caught.value.node, caught.value.node_type) == ("s_0", "Shout")
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(ManifestError) as caught:
        Pipeline.from_manifest(text.replace('"Shout"', '"Shut"'), [Shout])
    assert caught.value.hint == 'did you mean "Shout"?'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "nan"),
        (2**64, "64 bits"),
        (object(), "object"),
        ({1: 2}, "not text"),
        ("\ud800", "surrogate"),
        ([[{"a": {1, 2}}]], "set"),
    ],
)
def test_what_a_manifest_cannot_hold(value: Any, why: str) -> None:
    node: Any = MultiplyNode(name="m")
    node.factor = value
    for act in (Pipeline("p", [node]).serialize, Pipeline("p", [node]).validate):
        with pytest.raises(ManifestError, match=why) as caught:
            act()
        assert caught.value.pointer is not None
        assert caught.value.pointer.startswith("/nodes/0/params/factor")
        assert caught.value.node == "m_0"


def test_own_nodes_run_with_any_parameters() -> None:
    pipeline = Pipeline("p", [Shout(mark=object)])  # type: ignore[arg-type]
    assert pipeline.run_sync(["a"], use_rust=False) == ["a<class 'object'>"]
    with pytest.raises(ManifestError, match="type is not a parameter"):
        pipeline.serialize()


# --- nodes and connections ------------------------------------------------------------------------


def test_connections_of_ones_own() -> None:
    source, plus, times = (
        PassThroughNode(name="s"),
        AddNode(name="a", addend=1),
        MultiplyNode(name="m", factor=10),
    )
    pipeline = Pipeline("p", [source, plus, times])
    assert pipeline.connections == (("s_0", "a_1"), ("a_1", "m_2"))
    pipeline.connect(source, plus).connect("s_0", "m_2")
    assert pipeline.connections == (("s_0", "a_1"), ("s_0", "m_2"))
    result = pipeline.run_sync([1, 2], use_rust=False)
    assert result.by_node == {"a_1": [2, 3], "m_2": [10, 20]}
    pipeline.add_node(PassThroughNode(name="t"))
    assert pipeline.run_sync([1], use_rust=False) == [2, 10, 1]


def test_mistakes_are_told() -> None:
    node = PassThroughNode(name="x")
    pipeline = Pipeline("p").add_node(node)
    with pytest.raises(ManifestError, match="already"):
        pipeline.add_node(node)
    for name in ([PassThroughNode()], None, 5):
        with pytest.raises(TypeError, match="the name of a pipeline is text"):
            Pipeline(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="call it"):
        pipeline.add_node(PassThroughNode)  # type: ignore[arg-type]
    with pytest.raises(ManifestError) as caught:
        pipeline.connect("x", node)
    assert caught.value.hint == 'did you mean "x_0"?'
    with pytest.raises(ManifestError, match="not in this pipeline"):
        pipeline.connect(node, PassThroughNode())
    with pytest.raises(ManifestError, match="no nodes"):
        Pipeline("empty").validate()
    with pytest.raises(ManifestError, match="no nodes"):
        Pipeline("empty").run_sync([], use_rust=False)
    with pytest.raises(ManifestError, match="cycle: x_0 -> x_0"):
        pipeline.connect(node, node).validate()
    with pytest.raises(TypeError):
        CalculatorNode("add", 5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        CalculatorNode(operation="add")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="its parameters: operation, operand"):
        CalculatorNode(operation="add", operand=1).operant = 2


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_validate_and_run_find_bad_parameters(use_rust: bool) -> None:
    pipeline = Pipeline("p", [CalculatorNode(name="c", operation="ad", operand=1)])  # type: ignore[arg-type]
    for act in (pipeline.validate, lambda: pipeline.run_sync([1], use_rust=use_rust)):
        with pytest.raises(ManifestError) as caught:
            act()
        assert caught.value.hint == 'did you mean "add"?'
        assert caught.value.pointer == "/nodes/0/params/operation"


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_a_change_after_a_run_counts(use_rust: bool) -> None:
    calc = CalculatorNode(operation="add", operand=5)
    text = TextProcessorNode()
    pipeline = Pipeline("p", [calc])
    assert pipeline.run_sync([1], use_rust) == [6]
    calc.operand = 7
    assert calc.params["operand"] == 7
    assert pipeline.run_sync([1], use_rust) == [8]
    calc.operand = 7.0
    assert repr(pipeline.run_sync([1], use_rust)[0]) == "8.0"
    calc.name = "other"
    assert list(pipeline.run_sync([1], use_rust).by_node) == ["other_0"]
    pipeline.add_node(MultiplyNode(factor=2))
    assert pipeline.run_sync([1], use_rust) == [16.0]
    pipeline = Pipeline("t", [text])
    assert pipeline.run_sync(["a"], use_rust)[0]["results"] == {}
    text.operations.append("uppercase")
    assert pipeline.run_sync(["a"], use_rust)[0]["results"] == {"uppercase": "A"}


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_input(use_rust: bool) -> None:
    pipeline = example()

    def run(items: Any) -> Any:
        return pipeline.run_sync(items, use_rust)

    assert run(None) == []
    assert run((1, 2)) == run(range(1, 3)) == run(i for i in (1, 2)) == [6, 7]
    assert run({"pass1_0": range(2)}) == [5, 6]
    assert run({1: 0, 2: 0}.keys()) == [6, 7]
    wrong: list[Any] = ["abc", b"abc", bytearray(b"a"), memoryview(b"a"), {1, 2}, 5, 1.5, object()]
    for items in wrong:
        with pytest.raises(MarshalError) as caught:
            run(items)
        assert isinstance(caught.value, TypeError)
        assert caught.value.hint is not None
        assert "list" in caught.value.hint
    with pytest.raises(MarshalError, match=r"input\[1\]\[0\]: int.* 64 bits|64 bits"):
        run([1, [2**64]])
    with pytest.raises(MarshalError, match=r"\[0\]\['a'\]"):
        run([{"a": object()}])
    for timeout in (-1, float("nan"), "1", True):
        with pytest.raises(MarshalError, match="timeout"):
            pipeline.run_sync([1], use_rust, timeout=timeout)  # type: ignore[arg-type]
    assert pipeline.run_sync([1], use_rust, timeout=float("inf")) == [6]


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_values_come_out_as_they_do_natively(use_rust: bool) -> None:
    class Name(str):
        pass

    given = [(1, (2,)), Name("x"), {"k": (None,)}, bytearray(b"ab"), memoryview(b"cd"), {"$rm": 1}]
    result = Pipeline("p", [PassThroughNode()]).run_sync(given, use_rust)
    assert result == [[1, [2]], "x", {"k": [None]}, b"ab", b"cd", {"$rm": 1}]
    assert [type(value) for value in result] == [list, str, dict, bytes, bytes, dict]
    result[0].append(3)
    assert given[0] == (1, (2,))


def test_arrays_are_not_a_list_of_items() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(MarshalError, match="not a tensor"):
        example().run_sync(numpy.zeros(3), use_rust=False)


# --- engines --------------------------------------------------------------------------------------


@needs_library
def test_an_own_node_runs_natively() -> None:
    pipeline = Pipeline("mine", [PassThroughNode(), Shout(name="loud")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pipeline.run_sync(["a"])
        assert (result, result.engine) == (["a!"], "native")
        result = pipeline.run_sync(["a"], use_rust=False)
        assert (result, result.engine) == (["a!"], "python")


@needs_library
def test_an_own_node_may_have_the_name_of_a_builtin_one() -> None:
    def process(self: Any, value: Any) -> Any:
        return value.upper()

    Namesake = type("PassThroughNode", (Node,), {"process": process})
    pipeline = Pipeline("p", [PassThroughNode(), Namesake(name="own"), AudioLevelNode()])
    with pytest.raises(NodeError) as caught:
        pipeline.run_sync([1])
    assert (caught.value.node, caught.value.node_type) == ("own_1", "PassThroughNode")
    assert Pipeline("p", [PassThroughNode(), Namesake()]).run_sync(["a"]) == ["A"]


def test_a_node_derived_from_a_builtin_is_an_own_node() -> None:
    class Doubled(CalculatorNode):
        def process(self, value: Any) -> Any:
            yield super().process(value)
            yield super().process(value)

    node = Doubled(operation="add", operand=1)
    node.anything = 1
    result = Pipeline("p", [node]).run_sync([1])
    assert result == [2, 2]


def test_the_python_engine_alone_refuses_media_nodes() -> None:
    pipeline = Pipeline("p", [AudioLevelNode(name="level"), Shout(name="shout")])
    pipeline.validate()
    with pytest.raises(ManifestError, match="level") as caught:
        pipeline.run_sync([], use_rust=False)
    error = caught.value
    assert (error.code, error.node) == ("RM_E_UNSUPPORTED", "level_0")
    assert (error.node_type, error.pointer) == ("AudioLevelNode", "/nodes/0")
    media = Pipeline("p", [PassThroughNode(), AudioLevelNode(name="level")])
    media.validate()
    with pytest.raises(ManifestError, match="level") as caught:
        media.run_sync([], use_rust=False)
    assert (caught.value.code, caught.value.node) == ("RM_E_UNSUPPORTED", "level_1")
    assert "use_rust=True" in str(caught.value.hint)


@needs_library
def test_an_error_in_the_native_run_stays_one() -> None:
    pipeline = Pipeline("p", [CalculatorNode(operation="divide", operand=0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RemoteMediaError, match="division by zero"):
            pipeline.run_sync([1])


# --- one pipeline, many runs ----------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_threads(own: bool, use_rust: bool) -> None:
    nodes: list[Node] = [BufferNode(buffer_size=3), PassThroughNode()]
    if own:
        nodes.append(Collect())
    pipeline = Pipeline("p", nodes)
    results: list[Any] = []

    def work(number: int) -> None:
        results.append((number, pipeline.run_sync([number] * 10, use_rust)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 16
    for number, result in results:
        expected = [[number] * 3] * 3 + [[number]]
        assert result == ([expected] if own else expected)


class Collect(Node):
    """Has state of a run."""

    def initialize(self) -> None:
        assert getattr(self, "held", None) is None
        self.held: Any = []

    def process(self, value: Any) -> None:
        self.held.append(value)

    def flush(self) -> Any:
        return self.held

    def cleanup(self) -> None:
        self.held = None


def test_runs_at_the_same_time_in_one_loop() -> None:
    class Slow(Collect):
        async def process(self, value: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0.001)
            self.held.append(value)

    pipeline = Pipeline("p", [Slow()])

    async def main() -> Any:
        return await asyncio.gather(*(pipeline.run([i, i]) for i in range(5)))

    assert asyncio.run(main()) == [[[i, i]] for i in range(5)]


@pytest.mark.parametrize("how", ["thread", "loop"])
def test_waiting_for_another_run_takes_time_too(how: str) -> None:
    class Slow(Node):
        async def process(self, value: Any) -> Any:
            await asyncio.sleep(0.2)
            return value

    pipeline = Pipeline("p", [Slow()])

    async def main() -> None:
        first = asyncio.ensure_future(pipeline.run([1], use_rust=False))
        await asyncio.sleep(0.02)
        second: Any = pipeline.run([2], False, 0.05)
        if how == "thread":
            second.close()
            loop = asyncio.get_running_loop()
            second = loop.run_in_executor(None, pipeline.run_sync, [2], False, 0.05)
        with pytest.raises(RunTimeoutError, match="another run"):
            await second
        assert await first == [1]
        assert await pipeline.run([3], use_rust=False, timeout=30) == [3]

    asyncio.run(main())


def test_a_pipeline_inside_itself_is_an_error_and_no_deadlock() -> None:
    class Recursive(Node):
        def process(self, value: Any) -> Any:
            return pipeline.run_sync([value])

    class AsyncRecursive(Node):
        async def process(self, value: Any) -> Any:
            return await pipeline.run([value])

    class Mixed(Node):
        async def process(self, value: Any) -> Any:
            return pipeline.run_sync([value])

    for kind in (Recursive, AsyncRecursive, Mixed):
        for timeout in (None, 5):
            pipeline = Pipeline("p", [kind()])
            with pytest.raises(RemoteMediaError, match="running already"):
                pipeline.run_sync([1], timeout=timeout)
            with pytest.raises(RemoteMediaError, match="running already"):
                asyncio.run(pipeline.run([1], timeout=timeout))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_ctrl_c_at_any_moment_does_not_lock_a_pipeline() -> None:
    code = """
        import random, signal, time
        from remotemedia import Node, Pipeline
        from remotemedia.core.pipeline import _around

        class Own(Node):
            def process(self, value):
                return value

        def handler(*_):
            if armed:
                raise KeyboardInterrupt

        armed = False
        signal.signal(signal.SIGALRM, handler)
        pipeline = Pipeline("p", [Own()])
        deadline = time.monotonic() + 2
        errors = []
        while time.monotonic() < deadline:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
                for _ in range(10_000):  # no endless loop: a finaliser may have got the exception
                    pipeline.run_sync([1], use_rust=False)
            except KeyboardInterrupt as error:
                armed = False
                errors.append(error)  # with all that its frames hold
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert pipeline.run_sync([1], use_rust=False, timeout=10) == [1]
        assert len(errors) > 100, len(errors)
        assert len(_around.get()) < 3 and len(pipeline._turns._turns) < 3
    """
    options = ["-W", "ignore::RuntimeWarning"]  # of a coroutine that was not even begun
    subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_the_middle_of_another_threads_run() -> None:
    code = """
        import os, threading
        from remotemedia import Node, Pipeline

        class Waits(Node):
            def process(self, value):
                if value:
                    here.set()
                    go_on.wait()
                return value

        here, go_on = threading.Event(), threading.Event()
        pipeline = Pipeline("p", [Waits()])
        thread = threading.Thread(target=pipeline.run_sync, args=([1], False))
        thread.start()
        here.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if pipeline.run_sync([0], use_rust=False, timeout=10) == [0] else 1)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        thread.join()
        assert status == 0, status
        assert pipeline.run_sync([0], use_rust=False, timeout=10) == [0]
    """
    options = ["-W", "ignore::DeprecationWarning"]
    subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_pickle_and_copy(use_rust: bool) -> None:
    pipeline = example()
    before = pipeline.run_sync([1], use_rust)
    for other in (pickle.loads(pickle.dumps(pipeline)), copy.deepcopy(pipeline)):
        assert other.serialize() == pipeline.serialize()
        assert other.run_sync([1], use_rust) == before == [6]
        assert other.nodes[0] is not pipeline.nodes[0]
    own = Pipeline("own", [Shout("?")])
    assert pickle.loads(pickle.dumps(own)).run_sync(["a"], use_rust=False) == ["a?"]


def test_it_shows_what_it_is() -> None:
    assert repr(example()) == "<Pipeline 'test': pass1_0, calc_1, pass2_2>"
    assert repr(example().nodes[1]) == "CalculatorNode(name='calc', operation='add', operand=5)"


def test_a_turn_that_another_has_forgotten_counts_from_when_it_is_looked_for() -> None:
    """Between that it is made and that it begins, it does not last, as if it were over."""
    turns = _Turns()
    first, second, third = (turns.enter(False) for _ in range(3))
    with second.block:
        assert second.has_come()
    with first.block:
        assert first.has_come()
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(lambda: turns.enter(False).has_come()).result()
        with third.block, pytest.raises(RemoteMediaError, match="running already"):
            third.has_come()
    assert turns.enter(False).has_come()
