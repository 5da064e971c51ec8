"""Nodes of users: every kind of method, parameters, errors."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import pickle
import traceback
from dataclasses import dataclass
from typing import Any, Optional

import pytest

from remotemedia import Audio, ManifestError, MarshalError, Node, NodeError, Pipeline, native
from remotemedia.nodes import (
    AudioLevelNode,
    BufferNode,
    CalculatorNode,
    DelayNode,
    PassThroughNode,
    TextProcessorNode,
)

needs_library = pytest.mark.skipif(
    not native.is_available(), reason="the native library is missing"
)


def run(*nodes: Node, items: Any, how: str = "sync", **more: Any) -> Any:
    pipeline = Pipeline("p", nodes)
    if how == "sync":
        return pipeline.run_sync(items, use_rust=False, **more)
    return asyncio.run(pipeline.run(items, use_rust=False, **more))


class Plain(Node):
    def process(self, value: Any) -> Any:
        return value * 2 if value else None

    def flush(self) -> Any:
        return "end"


class Generator(Node):
    def process(self, value: Any) -> Any:
        for _ in range(value):
            yield value
        yield None

    def flush(self) -> Any:
        yield "end"
        yield None


class Async(Node):
    async def initialize(self) -> None:
        await asyncio.sleep(0)
        self.ready = True

    async def process(self, value: Any) -> Any:
        await asyncio.sleep(0.001)
        assert self.ready
        return value * 2 if value else None

    async def flush(self) -> Any:
        await asyncio.sleep(0)
        return "end"

    async def cleanup(self) -> None:
        await asyncio.sleep(0)
        self.ready = False


class AsyncGenerator(Node):
    async def process(self, value: Any) -> Any:
        for _ in range(value):
            await asyncio.sleep(0.001)
            yield value
        yield None

    async def flush(self) -> Any:
        yield "end"
        yield None


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Plain, [2, 4, "end"]),
        (Generator, [None, 1, None, 2, 2, None, "end", None]),
        (Async, [2, 4, "end"]),
        (AsyncGenerator, [None, 1, None, 2, 2, None, "end", None]),
    ],
)
def test_all_kinds(kind: type[Node], expected: Any, how: str, timeout: Any) -> None:
    result = run(kind(), items=[0, 1, 2], how=how, timeout=timeout)
    assert result == expected
    assert result.engine == "python"
    metrics = result.metrics["nodes"][f"{kind().name}_0"]
    assert (metrics["items_in"], metrics["items_out"]) == (3, len(expected))
    assert metrics["node_type"] == kind.__name__
    assert metrics["time_us"] > 0


def test_kinds_together() -> None:
    nodes = Plain(name="a"), AsyncGenerator(name="b"), PassThroughNode(), BufferNode(buffer_size=2)
    with pytest.raises(NodeError) as caught:
        run(*nodes, items=[1])
    assert (caught.value.node, caught.value.item) == ("b_1", None)
    assert isinstance(caught.value.__cause__, TypeError)


def test_functions_that_hide_what_they_are() -> None:
    def decorated(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Hidden(Node):
        process = decorated(AsyncGenerator.process)
        flush = decorated(Async.flush)

    assert run(Hidden(), items=[1]) == [1, None, "end"]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_sync_code_in_a_running_loop(how: str) -> None:
    async def main() -> Any:
        return Pipeline("p", [Plain(), Async()]).run_sync([1], use_rust=False)

    assert asyncio.run(main()) == [4, "endend", "end"]


def test_another_pipeline_in_a_node() -> None:
    inner = Pipeline("inner", [CalculatorNode(name="c", operation="divide", operand=0)])

    class Outer(Node):
        def process(self, value: Any) -> Any:
            return list(inner.run_sync([value], use_rust=False))

    with pytest.raises(NodeError) as caught:
        run(Outer(name="o"), items=[1])
    assert (caught.value.node, caught.value.message) == ("o_0", "division by zero")
    assert isinstance(caught.value.__cause__, NodeError)
    assert caught.value.__cause__.node == "c_0"


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("kind", ["plain", "generator", "async", "async generator"])
def test_an_exception_is_the_cause_with_its_traceback(kind: str, timeout: Any, how: str) -> None:
    class Failing(Node):
        def fail(self, value: Any) -> None:
            if value == 3:
                raise KeyError("here")

        def plain(self, value: Any) -> Any:
            self.fail(value)

        def generator(self, value: Any) -> Any:
            yield value
            self.fail(value)

        async def async_(self, value: Any) -> Any:
            await asyncio.sleep(0)
            self.fail(value)

        async def async_generator(self, value: Any) -> Any:
            yield value
            await asyncio.sleep(0)
            self.fail(value)

        def process(self, value: Any) -> Any:
            name = {"async": "async_"}.get(kind, kind.replace(" ", "_"))
            return getattr(self, name)(value)

    with pytest.raises(NodeError) as caught:
        run(PassThroughNode(), Failing(name="f"), items=[1, 2, 3, 4], how=how, timeout=timeout)
    error = caught.value
    assert (error.node, error.node_type, error.item) == ("f_1", "Failing", 2)
    assert error.message == "KeyError: 'here'"
    assert isinstance(error.__cause__, KeyError)
    assert "self.fail(value)" in "".join(traceback.format_tb(error.__cause__.__traceback__))


def test_an_error_of_the_nodes_own_is_that_error() -> None:
    class Refuses(Node):
        def process(self, value: Any) -> Any:
            raise NodeError("no", hint="say yes", code="RM_E_DENIED")

    with pytest.raises(NodeError) as caught:
        run(Refuses(name="r"), items=[1])
    error = caught.value
    assert (error.message, error.hint, error.code) == ("no", "say yes", "RM_E_DENIED")
    assert (error.node, error.item) == ("r_0", 0)
    assert error.__cause__ is None


def test_an_error_without_text() -> None:
    class Silent(Node):
        def process(self, value: Any) -> Any:
            raise RuntimeError

    with pytest.raises(NodeError, match="RuntimeError"):
        run(Silent(), items=[1])


def test_stop_iteration_is_an_error_like_any_other() -> None:
    class Stops(Node):
        def process(self, value: Any) -> Any:
            return next(iter(()))

    with pytest.raises(NodeError) as caught:
        run(Stops(), items=[1])
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("value", [object(), {1: 2}, [{1, 2}], 2**64, "\ud800"])
def test_a_value_that_cannot_cross_is_the_nodes_error(value: Any) -> None:
    class Gives(Node):
        def process(self, _: Any) -> Any:
            yield value

    with pytest.raises(NodeError, match="output") as caught:
        run(Gives(name="g"), items=[1])
    assert caught.value.node == "g_0"
    assert isinstance(caught.value.__cause__, MarshalError)


def test_a_node_without_process() -> None:
    class Empty(Node):
        def proces(self, value: Any) -> Any:
            return value

    class Level(AudioLevelNode):
        pass

    for node in (Empty(), Level()):
        with pytest.raises(TypeError, match=f"{type(node).__name__} has no method process"):
            Pipeline("p", [node])
    text = '{"version": "v1", "nodes": [{"id": "a", "node_type": "Empty"}]}'
    with pytest.raises(TypeError, match="Empty has no method process"):
        Pipeline.from_manifest(text, [Empty])
    node = Empty()
    node.process = node.proces  # type: ignore[method-assign]
    assert run(node, items=[1]) == [1]


def test_an_error_that_cannot_be_shown() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    class Fails(Node):
        def __init__(self, at: str) -> None:
            super().__init__("fails")
            if at == "__init__":
                raise Unspeakable
            self.at = at

        def process(self, value: Any) -> None:
            if self.at == "process":
                raise Unspeakable

        def cleanup(self) -> None:
            if self.at == "cleanup":
                raise Unspeakable

    for at, item in (("process", 0), ("cleanup", None)):
        with pytest.raises(NodeError, match="Unspeakable") as caught:
            run(Fails(at), items=[1])
        assert (caught.value.node, caught.value.item) == ("fails_0", item)
        assert isinstance(caught.value.__cause__, Unspeakable)
    node = {"id": "a", "node_type": "Fails", "params": {"at": "__init__"}}
    with pytest.raises(ManifestError, match="Unspeakable"):
        Pipeline.from_manifest({"version": "v1", "nodes": [node]}, [Fails])


@pytest.mark.parametrize("use_rust", [False, pytest.param(True, marks=needs_library)])
def test_the_first_reason_why_a_power_is_none(use_rust: bool) -> None:
    power = CalculatorNode(operation="power", operand=2.77)
    for value in (-1e308, -2, -0.5):
        with pytest.raises(NodeError, match="negative number to a fractional power"):
            Pipeline("p", [power]).run_sync([value], use_rust)
    with pytest.raises(NodeError, match="too large"):
        Pipeline("p", [power]).run_sync([1e308], use_rust)
    minus_infinity = Pipeline("p", [power]).run_sync([-math.inf], use_rust)
    assert minus_infinity == [math.inf]


# --- parameters -----------------------------------------------------------------------------------


class Args(Node):
    def __init__(
        self,
        path: str,
        size: int = 3,
        *,
        flag: bool = False,
        name: Optional[str] = None,
        **more: Any,
    ) -> None:
        super().__init__(name)
        self.path = path.upper()

    def process(self, value: Any) -> Any:
        return self.path


def test_params_are_the_arguments() -> None:
    assert Args("a").params == {"path": "a", "size": 3, "flag": False}
    assert list(Args("a", flag=True, x=1, size=2).params) == ["path", "size", "flag", "x"]
    node = Args("a", 4, name="other")
    assert node.params == {"path": "a", "size": 4, "flag": False}
    assert (node.name, node.path, node.node_type) == ("other", "A", "Args")
    with pytest.raises(TypeError):
        Args()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Args("a", 1, 2)  # type: ignore[call-arg, arg-type]


def test_params_of_unusual_constructors() -> None:
    class NoSuper(Node):
        def __init__(self, x: int) -> None:
            self.x = x

    assert (NoSuper(1).name, NoSuper(1).params) == ("no_super", {"x": 1})

    @dataclass
    class Data(Node):
        x: int
        y: list[int]

        def process(self, value: Any) -> Any:
            return value + self.x

    assert Data(1, y=[2]).params == {"x": 1, "y": [2]}
    assert run(Data(1, []), items=[1]) == [2]

    class Decorated(Node):
        @functools.wraps(Args.__init__)  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()

    assert Decorated("p", flag=True, extra=2).params == {
        "path": "p",
        "size": 3,
        "flag": True,
        "extra": 2,
    }

    class Star(Node):
        def __init__(self, *args: Any) -> None:
            pass

    assert Star().params == {}
    with pytest.raises(TypeError, match="needs a name"):
        Star(1)

    class Inherits(Args):
        pass

    assert Inherits("a").params["path"] == "a"
    assert Inherits("a").node_type == "Inherits"


def test_default_names() -> None:
    made = [type(name, (Node,), {})().name for name in ("ShoutNode", "HTTPFetch", "Mp3Out", "Node")]
    assert made == ["shout", "http_fetch", "mp3_out", "node"]
    assert CalculatorNode(operation="add", operand=1).name == "calculator"


def test_pickle() -> None:
    for node in (Args("a", 1), CalculatorNode(operation="add", operand=1, name="c")):
        other = pickle.loads(pickle.dumps(node))
        assert (other.params, other.name) == (node.params, node.name)


# --- the built-in nodes in Python -----------------------------------------------------------------


def test_builtin_nodes_work_by_themselves() -> None:
    assert CalculatorNode(operation="power", operand=2).process(3) == 9
    assert TextProcessorNode(operations=["reverse"]).process("ab")["results"] == {"reverse": "ba"}
    with pytest.raises(NodeError, match="division by zero"):
        CalculatorNode(operation="modulo", operand=0).process(1)


def test_delay_waits() -> None:
    result = run(DelayNode(seconds=0.02), items=[1, 2])
    assert result == [1, 2]
    assert result.metrics["time_us"] >= 40_000


ARRAYS = [
    ("int8", [1, -2, 100], "add", 27, None),
    ("int8", [1, -2, 101], "add", 27, "101 + 27 does not fit in int8"),
    ("uint8", [0, 1], "subtract", 1, "0 - 1 does not fit in uint8"),
    ("uint8", [5], "add", -1, "-1 does not fit in uint8"),
    ("uint8", [5], "divide", -1, None),
    ("uint8", [5], "divide", 300, None),
    ("int16", [181, -181], "power", 2, None),
    ("int16", [182], "power", 2, "182 ** 2 does not fit in int16"),
    ("int32", [7, -7], "modulo", -3, None),
    ("int64", [2**62], "multiply", 2, f"{2**62} * 2 does not fit in int64"),
    ("uint64", [2**63], "add", 1, None),
    ("uint64", [2**63], "multiply", 0.5, None),
    ("int64", [2], "power", -1, "whole numbers to a negative power are not whole"),
    ("int64", [2], "power", -1.0, None),
    ("int64", [-2], "power", 10**6, f"-2 ** {10**6} does not fit in int64"),
    ("int64", [1, 0, -1], "power", 10**6, None),
    ("int64", [], "add", 1, None),
    ("float32", [1.5, math.inf, math.nan, -0.0], "multiply", 2, None),
    ("float32", [1.0], "add", 1e300, None),
    ("float32", [0.1], "add", 0.1, None),
    ("float64", [-7.5, 7.5, 0.0, -0.0], "modulo", -2.0, None),
    ("float64", [-8.0], "power", 0.5, None),
    ("float64", [0.0], "power", -1, None),
    ("float64", [1.0], "divide", 0, "division by zero"),
    ("float32", [1.0], "modulo", 0.0, "division by zero"),
    ("bool", [True], "add", 1, "does not compute with arrays of bool"),
    ("float16", [1.0], "add", 1, "does not compute with arrays of float16"),
    ("complex64", [1.0], "add", 1, "does not compute with arrays of complex64"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("engine", ["native", "python"])
@pytest.mark.parametrize("case", ARRAYS, ids=lambda case: f"{case[0]}{case[1]} {case[2]} {case[3]}")
def test_arrays(case: Any, engine: str) -> None:
    numpy = pytest.importorskip("numpy")
    from remotemedia import native

    if engine == "native" and not native.is_available():
        pytest.skip("the native library is missing")
    dtype, values, operation, operand, message = case
    pipeline = Pipeline("p", [CalculatorNode(operation=operation, operand=operand)])
    array = numpy.array(values, dtype)
    if message is not None:
        with pytest.raises(NodeError) as caught:
            pipeline.run_sync([array], use_rust=engine == "native")
        assert caught.value.message == message
        assert caught.value.hint is not None or message == "division by zero"
        unsupported = message.startswith("does not compute")
        assert caught.value.code == ("RM_E_UNSUPPORTED" if unsupported else "RM_E_NODE")
        return
    # What NumPy itself gives.
    function = {"divide": "true_divide", "modulo": "remainder"}.get(operation, operation)
    with numpy.errstate(all="ignore"):
        whole = array.dtype.kind in "iu"
        floats = operation == "divide" or isinstance(operand, float)
        kind = array.dtype if not (whole and floats) else numpy.dtype("float64")
        # Python's float() first, as NumPy has it.
        right = kind.type(float(operand) if kind.kind == "f" else operand)
        expected = getattr(numpy, function)(array.astype(kind), right)
    for shape in ((-1,), (1, -1)) if values else ((0,),):
        [result] = pipeline.run_sync([array.reshape(shape)], use_rust=engine == "native")
        assert result.dtype == expected.dtype
        assert result.shape == expected.reshape(shape).shape
        assert result.tobytes() == expected.tobytes()


def test_array_scalars_and_byte_order() -> None:
    numpy = pytest.importorskip("numpy")
    pipeline = Pipeline("p", [CalculatorNode(operation="add", operand=1)])
    for value in (numpy.int16(4), numpy.array(4, ">i2"), numpy.array([[4, 0], [4, 0]], "i2")[:, 0]):
        [result] = pipeline.run_sync([value], use_rust=False)
        assert result.dtype == numpy.dtype("int16")
        assert result.shape == numpy.shape(value)
        assert (result == 5).all()


def test_audio_is_no_number() -> None:
    audio = Audio(memoryview(bytes(8)).cast("f"), 8000)
    with pytest.raises(NodeError, match="got audio"):
        run(CalculatorNode(operation="add", operand=1), items=[audio])
    assert run(PassThroughNode(), items=[audio]) == [audio]


def test_json_of_params_is_exact() -> None:
    node = CalculatorNode(operation="add", operand=1.0)
    assert '"operand": 1.0' in Pipeline("p", [node]).serialize()
    node.operand = -0.0
    text = Pipeline("p", [node]).serialize()
    assert math.copysign(1, json.loads(text)["nodes"][0]["params"]["operand"]) == -1
    assert repr(Pipeline.from_manifest(text).nodes[0].params["operand"]) == "-0.0"


class Odd(Node):
    def process(self, value: Any) -> Any:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


class OddLater(Odd):
    async def process(self, value: Any) -> Any:
        return super().process(value)


@pytest.mark.parametrize("use_rust", [True, False], ids=["native", "python"])
@pytest.mark.parametrize("make", [Odd, OddLater, None], ids=["plain", "async", "built in"])
@pytest.mark.parametrize(
    ("policy", "then"),
    [
        ("skip", "the value is skipped"),
        ("passthrough", "the value goes on as it came"),
        ({"retry": 1, "backoff": 0}, "is tried again"),
    ],
    ids=["skip", "passthrough", "retry"],
)
def test_why_a_node_failed_is_told_once(
    use_rust: bool, make: Any, policy: Any, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    if use_rust and not native.is_available():
        pytest.skip("needs the native library")
    node: Node = CalculatorNode(operation="divide", operand=0) if make is None else make()
    why = "division by zero" if make is None else "ValueError: 3 is odd"
    pipeline = Pipeline("p", [node.options(on_error=policy)])
    try:
        pipeline.run_sync([3, 3, 3], use_rust=use_rust)
    except NodeError:
        assert then == "is tried again"
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f'node "{pipeline.ids[0]}" failed with item 0, and {then}: {why}']
