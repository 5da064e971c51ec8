"""The catalogue of nodes: the native library, the file in the package and the classes agree."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from remotemedia import Pipeline, native, nodes
from remotemedia.core.catalog import catalog, entry
from remotemedia.core.node import BuiltinNode

EVERY = sorted(nodes.__all__)


def test_the_file_is_that_of_the_native_library() -> None:
    if not native.is_available():
        pytest.skip("the native library is missing")
    assert json.dumps(list(catalog().values())) == json.dumps(native.list_nodes())


def test_every_type_has_a_class_and_every_class_a_type() -> None:
    assert set(EVERY) == {f"{name}Node" for name in catalog()}
    assert {f"{name}Node" for name in BuiltinNode.registry} == set(EVERY)
    assert entry("PassThrough") is entry("PassThroughNode") is not None
    assert entry("Node") is None


@pytest.mark.parametrize("name", EVERY)
def test_constructor_and_schema_have_the_same_parameters(name: str) -> None:
    known = entry(name)
    assert known is not None
    schema = known["params"]
    signature = inspect.signature(getattr(nodes, name).__init__)
    parameters = dict(list(signature.parameters.items())[1:])
    assert parameters.pop("name").default is None
    assert list(parameters) == list(schema["properties"])
    for key, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        required = parameter.default is inspect.Parameter.empty
        assert required == (key in schema.get("required", [])), key
        if not required:
            default = parameter.default
            default = list(default) if isinstance(default, tuple) else default
            assert json.dumps(default) == json.dumps(schema["properties"][key]["default"]), key


@pytest.mark.parametrize("name", EVERY)
def test_every_argument_reaches_params_and_back(name: str) -> None:
    known = entry(name)
    assert known is not None
    required = {
        key: known["params"]["properties"][key].get("enum", [16_000])[0]
        for key in known["params"].get("required", [])
    }
    node: Any = getattr(nodes, name)(name="x", **required)
    assert list(node.params) == list(known["params"]["properties"])
    assert "name" not in node.params
    for key, value in node.params.items():
        assert getattr(node, key) == value
    pipeline = Pipeline("all", [node])
    pipeline.validate()
    assert Pipeline.from_manifest(pipeline.serialize()).nodes[0].params == node.params
    for key in node.params:
        setattr(node, key, None)
        assert node.params[key] is None


@pytest.mark.parametrize("name", EVERY)
def test_every_example_runs(name: str) -> None:
    known = entry(name)
    assert known is not None
    example = known["example"]
    manifest = {
        "version": "v1",
        "nodes": [{"id": "n", "node_type": name, "params": example["params"]}],
    }
    pipeline = Pipeline.from_manifest(manifest)
    pipeline.validate()
    if "output" in example:
        assert pipeline.run_sync(example["input"], use_rust=False) == example["output"]
