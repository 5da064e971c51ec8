"""What a run gave, whatever is done to it."""

from __future__ import annotations

import copy
import pickle

import pytest

from remotemedia import Pipeline, Result
from remotemedia.nodes import AddNode, MultiplyNode, PassThroughNode


def forked() -> Result:
    start = PassThroughNode(name="start")
    plus, times = AddNode(name="plus", addend=1), MultiplyNode(name="times", factor=10)
    pipeline = Pipeline("p", [start, plus, times]).connect(start, plus).connect(start, times)
    return pipeline.run_sync([2, 1], use_rust=False)


def test_by_node_stays_what_the_run_gave() -> None:
    result = forked()
    expected = {"plus_1": [3, 2], "times_2": [20, 10]}
    result.sort()
    result.pop()
    assert result == [2, 3, 10]
    assert result.by_node == expected
    for other in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert (other, other.by_node, other.engine) == (result, expected, "python")
    assert pickle.loads(pickle.dumps(forked())).by_node == expected


@pytest.mark.parametrize(("asked", "meant"), [("plus", "plus_1"), ("tims_2", "times_2")])
def test_an_unknown_sink(asked: str, meant: str) -> None:
    by_node = forked().by_node
    with pytest.raises(KeyError) as caught:
        by_node[asked]
    text = str(caught.value)
    assert f'did you mean "{meant}"?' in text
    assert "plus_1" in text and "times_2" in text
    assert by_node.get(asked) is None
    assert asked not in by_node


class Loud:
    """An array whose text nobody should ask for."""

    dtype, shape = "float32", (3,)

    def __repr__(self) -> str:
        raise AssertionError("asked for")


def test_its_text_is_short() -> None:
    assert repr(Result([1, "a", {"b": [1.5]}], "native")) == "[1, 'a', {'b': [1.5]}]"
    long = Result(list(range(1000)), "native")
    assert repr(long).endswith("18, 19, ... 1000 outputs]")
    assert str(long) == str(list(range(1000)))
    # asyncio.run makes text of its task, and so of what that gives.
    assert repr(Result([Loud()], "native")) == "[<array of float32, shape (3,)>]"
