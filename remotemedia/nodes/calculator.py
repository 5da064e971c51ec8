"""Nodes that compute with numbers, as Python does, and with arrays of numbers, as NumPy does.

Whole numbers stay whole and are exact, within 64 bits; dividing gives a float. An array keeps its
element type, and the operand adapts to it; whole numbers that are divided, or meet a float, become
float64. What would silently go wrong in NumPy, a whole number that wraps around or a division by
zero, is an error.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Literal, Optional, Union

from remotemedia.core.node import BuiltinNode
from remotemedia.errors import NodeError
from remotemedia.inputs import is_array, kind

__all__ = ["AddNode", "CalculatorNode", "MultiplyNode"]

Operation = Literal["add", "subtract", "multiply", "divide", "power", "modulo"]
Number = Union[int, float]


class CalculatorNode(BuiltinNode, builtin=True):
    """Computes value + operand, or another operation, as Python does.

    Args:
        operation: what to do with each value.
        operand: the number on the right.
    """

    def __init__(
        self, *, operation: Operation, operand: Number, name: Optional[str] = None
    ) -> None:
        super().__init__(name)
        self.operation = operation
        self.operand = operand

    def process(self, value: Any) -> Any:
        return _compute(self.operation, value, self.operand)


class MultiplyNode(BuiltinNode, builtin=True):
    """Multiplies each value by a factor.

    Args:
        factor: what each value is multiplied by.
    """

    def __init__(self, *, factor: Number = 2.0, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.factor = factor

    def process(self, value: Any) -> Any:
        return _compute("multiply", value, self.factor)


class AddNode(BuiltinNode, builtin=True):
    """Adds a number to each value.

    Args:
        addend: what is added to each value.
    """

    def __init__(self, *, addend: Number = 0.0, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.addend = addend

    def process(self, value: Any) -> Any:
        return _compute("add", value, self.addend)


#: For each operation its symbol, Python's function and the name of NumPy's.
_OPERATIONS: dict[str, tuple[str, Any, str]] = {
    "add": ("+", operator.add, "add"),
    "subtract": ("-", operator.sub, "subtract"),
    "multiply": ("*", operator.mul, "multiply"),
    "divide": ("/", operator.truediv, "true_divide"),
    "power": ("**", operator.pow, "power"),
    "modulo": ("%", operator.mod, "remainder"),
}


def _compute(operation: str, left: Any, right: Number) -> Any:
    array = is_array(left)
    if not array and not isinstance(left, (int, float)):
        raise NodeError(
            f"takes a number or an array of numbers, got {kind(left)}",
            hint="send each number as its own item, or an array",
        )
    if operation in ("divide", "modulo") and right == 0:
        raise NodeError("division by zero")
    if array:
        return _array(operation, left, right)
    whole = operation != "divide" and (operation != "power" or right >= 0)
    if whole and isinstance(left, int) and isinstance(right, int):
        hint = "write the parameter as a float to compute with floats"
        return _whole(operation, int(left), right, -(2**63), 2**64 - 1, "64 bits", hint)
    finite = math.isfinite(left) and math.isfinite(right)
    if operation == "power" and finite and left < 0 and right % 1:
        raise NodeError(
            "a negative number to a fractional power is not a real number",
            hint="use a whole power, or positive numbers",
        )
    try:
        result = _OPERATIONS[operation][1](left, right)
    except ZeroDivisionError:
        raise NodeError("division by zero") from None
    except OverflowError:
        result = math.inf
    # Not every Python raises OverflowError for every power.
    if operation == "power" and finite and math.isinf(result):
        raise NodeError("the power is too large for a float", hint="a float ends at about 1.8e308")
    return result


def _whole(
    operation: str, left: int, right: int, least: int, most: int, what: str, hint: str
) -> int:
    """The exact result, if it lies in these bounds."""
    symbol, function, _ = _OPERATIONS[operation]
    # A power beyond this is not worth its computation.
    if operation != "power" or right <= 64 or abs(left) <= 1:
        result: int = function(left, right)
        if least <= result <= most:
            return result
    raise NodeError(f"{left} {symbol} {right} does not fit in {what}", hint=hint)


def _array(operation: str, value: Any, right: Number) -> Any:
    import numpy

    array = numpy.asarray(value)
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == numpy.float16:
        raise NodeError(
            f"does not compute with arrays of {dtype}",
            code="RM_E_UNSUPPORTED",
            hint="convert the array to float32, float64 or an integer type",
        )
    if dtype.kind == "f" or isinstance(right, float) or operation == "divide":
        with numpy.errstate(all="ignore"):
            floats = array.astype(dtype if dtype.kind == "f" else numpy.float64)
            function = getattr(numpy, _OPERATIONS[operation][2])
            return numpy.asarray(function(floats, floats.dtype.type(float(right))))
    if operation == "power" and right < 0:
        raise NodeError(
            "whole numbers to a negative power are not whole",
            hint="write the parameter as a float",
        )
    bounds = numpy.iinfo(dtype)
    least, most = int(bounds.min), int(bounds.max)
    hint = "convert the array to a wider type, or write the parameter as a float"
    if not least <= right <= most:
        raise NodeError(f"{right} does not fit in {dtype}", hint=hint)
    result = [
        _whole(operation, left, right, least, most, str(dtype), hint)
        for left in array.ravel().tolist()
    ]
    return numpy.array(result, dtype).reshape(array.shape)
