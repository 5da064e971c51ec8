"""Arrays of other libraries through DLPack's Python protocol, uncopied.

NumPy reads most of them. What it cannot read (bfloat16, for one), or all where it is not
installed, is read from the capsule itself: https://dmlc.github.io/dlpack.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

from remotemedia.errors import Refused

__all__ = ["read"]

#: DLPack's codes of devices whose memory the CPU reads: its own, and that pinned or managed for
#: CUDA and ROCm.
_READABLE = (1, 3, 11, 13)
_DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI", 15: "WebGPU"}
#: By DLPack's code of an element type, the bits that cross.
_CROSSING = {
    0: (8, 16, 32, 64),
    1: (8, 16, 32, 64),
    2: (16, 32, 64),
    4: (16,),
    5: (64, 128),
    6: (8,),
}
_NAMES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


def read(value: Any) -> tuple[Any, tuple[int, int], tuple[int, ...]]:
    """The memory of an array with ``__dlpack__``.

    Returns:
        An object whose buffer is the memory, C-contiguous; DLPack's type code and the bits of an
        element; the shape.

    Raises:
        Refused: if it is on another device, or of a type that does not cross.
    """
    _check_device(value)
    try:
        import numpy

        array = numpy.asarray(numpy.from_dlpack(value), order="C")
    except Exception:  # noqa: BLE001  producers raise what they like; the capsule tells what it is
        return _from_capsule(value)
    code = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}[array.dtype.kind]
    return array, (code, array.dtype.itemsize * 8), array.shape


def _check_device(value: Any) -> None:
    try:
        device = int(value.__dlpack_device__()[0])
    except Exception:  # noqa: BLE001  without it the capsule tells
        return
    if device not in _READABLE:
        name = _DEVICES.get(device, "another device")
        raise Refused(
            f"{type(value).__name__} is on {name} (DLPack's device type {device})",
            "copy it to the CPU first, for example with .cpu()",
        )


def _from_capsule(value: Any) -> tuple[Any, tuple[int, int], tuple[int, ...]]:
    name = type(value).__name__
    pythonapi = getattr(ctypes, "pythonapi", None)
    if pythonapi is None:
        # As on PyPy.
        raise Refused(f"{name} cannot be read through DLPack", "pass it as a NumPy array")
    try:
        try:
            capsule = value.__dlpack__(max_version=(1, 0))
        except TypeError:
            capsule = value.__dlpack__()
    except Exception as error:
        raise Refused(
            f"{name} cannot be read through DLPack: {error}", "pass it as a NumPy array"
        ) from error
    address = pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    try:
        if pythonapi.PyCapsule_IsValid(ctypes.py_object(capsule), b"dltensor_versioned"):
            versioned = _Versioned.from_address(address(capsule, b"dltensor_versioned"))
            if versioned.major != 1:
                version = f"{versioned.major}.{versioned.minor}"
                raise Refused(
                    f"{name} comes as DLPack {version}, and only 1.x is read",
                    "pass it as a NumPy array",
                )
            tensor = versioned.tensor
        else:
            tensor = _Tensor.from_address(address(capsule, b"dltensor"))
    except ValueError as error:
        raise Refused(
            f"{name} cannot be read through DLPack: {error}", "pass it as a NumPy array"
        ) from error
    if tensor.device_type not in _READABLE:
        device = _DEVICES.get(tensor.device_type, "another device")
        raise Refused(
            f"{name} is on {device} (DLPack's device type {tensor.device_type})",
            "copy it to the CPU first",
        )
    dtype = (tensor.code, tensor.bits)
    if tensor.bits not in _CROSSING.get(tensor.code, ()) or tensor.lanes != 1:
        known = _NAMES.get(tensor.code)
        what = f"{known}{tensor.bits}" if known else f"DLPack's type code {tensor.code}"
        raise Refused(
            f"{name} has elements of {what} with {tensor.lanes} lanes, which do not cross"
            if tensor.lanes != 1
            else f"{name} has elements of {what}, which do not cross",
            "convert it, for example to float32",
        )
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    size = tensor.bits // 8
    length = math.prod(shape) * size
    if not length:
        return b"", dtype, shape
    if tensor.strides and not _in_order(shape, tensor.strides):
        raise Refused(f"{name} is not C-contiguous", "make it so first, with .contiguous()")
    memory: Any = (ctypes.c_char * length).from_address(tensor.data + tensor.byte_offset)
    # The producer's memory is there for as long as its capsule is.
    memory.owner = capsule
    return memory, dtype, shape


def _in_order(shape: tuple[int, ...], strides: Any) -> bool:
    expected = 1
    for i in reversed(range(len(shape))):
        if shape[i] != 1 and strides[i] != expected:
            return False
        expected *= shape[i]
    return True
