"""DLPack from Python: what has nothing but ``__dlpack__`` comes in; audio and frames go out; and
the C ABI's tensors are NumPy's, and NumPy's the C ABI's."""

from __future__ import annotations

import copy
import ctypes
import gc
import sys
import weakref
from typing import Any

import pytest
from conftest import PASS, Cross, needed

from remotemedia import Audio, Frame, MarshalError, native

numpy = needed("numpy")

NUMPY = tuple(map(int, numpy.__version__.split(".")[:2]))
CPYTHON = sys.implementation.name == "cpython"
capsules = pytest.mark.skipif(not CPYTHON, reason="capsules are CPython's")


class Foreign:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def address(array: Any) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint8", "uint32", "float16", "float32", "complex128"]
)
@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3)])
def test_it_crosses_uncopied(dtype: str, shape: tuple[int, ...], cross: Cross) -> None:
    array = numpy.arange(numpy.prod(shape)).astype(dtype).reshape(shape)
    if dtype == "bool" and NUMPY < (1, 25):
        pytest.skip("this NumPy gives no booleans through DLPack")
    (back,) = cross({"a": Foreign(array)})
    assert back["a"].dtype == array.dtype and numpy.array_equal(back["a"], array)
    assert back["a"].shape == shape
    if array.size:
        assert address(back["a"]) == address(array)


def test_strides_are_gathered(cross: Cross) -> None:
    array = numpy.arange(24).reshape(4, 6)
    for view in (array.T, array[::2, 1::2], numpy.asfortranarray(array)):
        (back,) = cross(Foreign(view))
        assert numpy.array_equal(back, view)


def test_the_memory_outlives_its_producer() -> None:
    if not native.is_available():
        pytest.skip("the native library is missing")
    gc.collect()
    before = native.handles()
    (back,) = native.run_manifest(PASS, [Foreign(numpy.arange(100_000))])
    gc.collect()
    assert back.sum() == 4_999_950_000
    del back
    gc.collect()
    assert native.handles() == before


class Elsewhere(Foreign):
    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("nobody reads it from there")


def test_another_device_is_named_with_its_place(cross: Cross) -> None:
    with pytest.raises(MarshalError, match="Elsewhere is on CUDA") as caught:
        cross(1, {"a": [Elsewhere(numpy.arange(3))]})
    assert isinstance(caught.value, TypeError)
    assert caught.value.pointer == "/1/a/0" and ".cpu()" in str(caught.value.hint)


def test_what_its_producer_refuses_is_said(cross: Cross) -> None:
    class Unwilling(Foreign):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it requires gradient, use tensor.detach()")

    with pytest.raises(MarshalError, match=r"tensor\.detach") as caught:
        cross([Unwilling(numpy.arange(3))])
    assert caught.value.pointer == "/0/0"


# --- capsules -------------------------------------------------------------------------------------

from remotemedia.dlpack import _Tensor, _Versioned  # noqa: E402


class _Unversioned(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager_ctx", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class Made:
    """A producer that makes its capsules itself, of whatever is written to ``tensor``."""

    def __init__(
        self, memory: Any, code: int, bits: int, shape: tuple[int, ...], old: bool
    ) -> None:
        self.memory = memory
        self.name = b"dltensor" if old else b"dltensor_versioned"
        self.managed: Any = _Unversioned() if old else _Versioned()
        if not old:
            self.managed.major = 1
        self.dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = self.tensor = self.managed.tensor
        tensor.data = address(memory)
        tensor.device_type, tensor.ndim = 1, len(shape)
        tensor.code, tensor.bits, tensor.lanes = code, bits, 1
        tensor.shape = self.dims
        self.read = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        if options and self.name == b"dltensor":
            raise TypeError("no options here")
        self.read += 1
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(ctypes.addressof(self.managed), self.name, None)


@capsules
@pytest.mark.parametrize("old", [False, True])
def test_bfloat16_crosses_uncopied(old: bool, cross: Cross) -> None:
    """As tensors of PyTorch and JAX have it, and NumPy's from_dlpack does not."""
    bfloat16 = needed("ml_dtypes").bfloat16
    array = numpy.array([[1.5, -2.0, 0.25], [3.0, 4.0, 5.0]], bfloat16)
    (back,) = cross(Made(array, 4, 16, (2, 3), old))
    assert back.dtype == bfloat16 and back.shape == (2, 3)
    assert address(back) == address(array) and back.tolist() == array.tolist()
    assert cross(Made(array, 4, 16, (0, 3), old))[0].shape == (0, 3)
    assert cross(Made(array, 4, 16, (), old))[0] == 1.5


@capsules
def test_whatever_else_a_capsule_holds_is_refused(cross: Cross) -> None:
    memory = numpy.zeros(64, "uint8")

    def refused(words: str, **changes: Any) -> None:
        made = Made(memory, 10, 8, (2, 3), changes.pop("old", False))
        if "major" in changes:
            made.managed.major = changes.pop("major")
        if "strides" in changes:
            made.strides = (ctypes.c_int64 * 2)(*changes.pop("strides"))
            made.tensor.strides = made.strides
        for name, value in changes.items():
            setattr(made.tensor, name, value)
        with pytest.raises(MarshalError, match=words) as caught:
            cross(["x", made])
        assert caught.value.pointer == "/0/1" and caught.value.hint

    refused("type code 10, which")  # float8_e4m3fn
    refused("type code 10, which", old=True)
    refused("int4, which", code=0, bits=4)
    refused("4 lanes", code=2, bits=32, lanes=4)
    refused("on CUDA", device_type=2)
    refused(r"DLPack 2\.0", major=2)
    refused("not C-contiguous", code=4, bits=16, strides=(1, 2))


@capsules
def test_without_numpy_the_capsule_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from remotemedia import dlpack

    array = numpy.arange(6, dtype="int32").reshape(2, 3)
    monkeypatch.setitem(sys.modules, "numpy", None)
    memory, dtype, shape = dlpack.read(Foreign(array))
    assert (dtype, shape) == ((0, 32), (2, 3))
    assert ctypes.addressof(memory) == address(array)
    assert bytes(memory) == array.tobytes()
    # It is the capsule that keeps it alive.
    alive = weakref.ref(array)
    del array
    assert alive() is not None and memory[4:8] == b"\1\0\0\0"
    del memory
    assert alive() is None


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_tensors_of_others(name: str, cross: Cross) -> None:
    other = pytest.importorskip(name)
    if name == "torch":
        for dtype in (other.float32, other.int64, other.bool, other.bfloat16):
            tensor = other.arange(6).reshape(2, 3).to(dtype)
            (back,) = cross(tensor)
            assert back.astype("float64").tolist() == tensor.double().tolist()
            assert back.ctypes.data == tensor.data_ptr()
    else:
        for dtype in ("float32", "int32", "bool", "bfloat16"):
            tensor = other.numpy.arange(6).reshape(2, 3).astype(dtype)
            (back,) = cross(tensor)
            assert str(back.dtype) == dtype
            assert back.astype("float64").tolist() == tensor.astype("float32").tolist()
            assert back.ctypes.data == tensor.unsafe_buffer_pointer()


# --- audio and frames as arrays of others ---------------------------------------------------------

MEDIA = {
    "audio": lambda: Audio(numpy.linspace(-1, 1, 12, dtype="float32").reshape(6, 2), 8_000),
    "int16": lambda: Audio(numpy.arange(12, dtype="int16"), 8_000),
    "frame": lambda: Frame(numpy.arange(24, dtype="uint8").reshape(2, 4, 3)),
    "gray": lambda: Frame(numpy.arange(24, dtype="uint8").reshape(4, 6), "gray"),
}


def array_of(media: Any) -> Any:
    return media.samples if isinstance(media, Audio) else media.pixels


@pytest.mark.parametrize("name", MEDIA)
def test_numpy_reads_audio_and_frames(name: str) -> None:
    media = MEDIA[name]()
    array = array_of(media)
    same = numpy.asarray(media)
    assert same.dtype == array.dtype and same.shape == array.shape
    assert address(same) == address(array)
    for copied in (numpy.array(media), media.__array__(copy=True)):
        assert numpy.array_equal(copied, array) and address(copied) != address(array)
    wide = numpy.asarray(media, dtype="float64")
    assert wide.dtype == "float64" and numpy.array_equal(wide, array.astype("float64"))
    assert address(media.__array__(array.dtype, copy=False)) == address(array)
    with pytest.raises(ValueError, match="copy is False"):
        media.__array__("float64", copy=False)
    assert float(numpy.max(media)) == array.max()


@pytest.mark.parametrize("name", MEDIA)
def test_dlpack_reads_audio_and_frames(name: str) -> None:
    media = MEDIA[name]()
    array = array_of(media)
    assert media.__dlpack_device__() == (1, 0)
    same = numpy.from_dlpack(media)
    assert numpy.array_equal(same, array) and address(same) == address(array)


@pytest.mark.parametrize("name", MEDIA)
def test_dlpack_never_lends_what_is_read_only_as_writable(name: str) -> None:
    if not native.is_available():
        pytest.skip("the native library is missing")
    given = MEDIA[name]()
    (media,) = native.run_manifest(PASS, [given])
    assert not array_of(media).flags.writeable
    same = numpy.from_dlpack(media)
    assert numpy.array_equal(same, array_of(given))
    # Consumers that know no versions cannot be told, and get a copy; unless they will not have one.
    capsule = media.__dlpack__()
    assert '"dltensor"' in repr(capsule)
    with pytest.raises(BufferError, match="read-only"):
        media.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="CPU"):
        media.__dlpack__(dl_device=(2, 0))
    if NUMPY >= (2, 1):
        assert address(same) == address(array_of(given)) and not same.flags.writeable
        assert '"dltensor_versioned"' in repr(media.__dlpack__(max_version=(1, 0), copy=False))


def test_subclasses_cross_as_what_they_are(cross: Cross) -> None:
    class Clip(Audio):
        pass

    class Still(Frame):
        pass

    clip, still = MEDIA["audio"](), MEDIA["frame"]()
    back = cross(Clip(clip.samples, 8_000), Still(still.pixels))
    assert [type(value) for value in back] == [Audio, Frame]
    assert back == [clip, still] == copy.deepcopy(back)


# --- the C ABI, with NumPy at the other end -------------------------------------------------------


@pytest.fixture
def library() -> Any:
    if not native.is_available():
        pytest.skip("the native library is missing")
    if NUMPY < (2, 1):
        pytest.skip("this NumPy knows no versions of DLPack")
    return native._load()


def pointer(capsule: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return get(capsule, b"dltensor_versioned")


class Lent:
    """What rm_data_to_dlpack gives, as a capsule that calls its deleter if nobody takes it."""

    def __init__(self, library: Any, slot: Any) -> None:
        out = library.ffi.new("DLManagedTensorVersioned **")
        library.check(library.lib.rm_data_to_dlpack, slot[0], out)
        self.address = int(library.ffi.cast("intptr_t", out[0]))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(self.address, b"dltensor_versioned", None)


def take_over(library: Any, array: Any) -> Any:
    """An rm_data of NumPy's own tensor."""
    capsule = array.__dlpack__(max_version=(1, 0))
    slot = library.out("data")
    tensor = library.ffi.cast("DLManagedTensorVersioned *", pointer(capsule))
    library.check(library.lib.rm_data_from_dlpack, tensor, slot)
    # Taken over: the capsule is not to call the deleter as well.
    set_name = ctypes.pythonapi.PyCapsule_SetName
    set_name.argtypes = (ctypes.py_object, ctypes.c_char_p)
    set_name(capsule, b"used_dltensor_versioned")
    return slot


@capsules
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "complex64", "complex128"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (6,), (2, 3, 4)])
def test_numpys_tensors_are_the_librarys_and_back(
    dtype: str, shape: tuple[int, ...], library: Any
) -> None:
    gc.collect()
    before = native.handles()
    array = numpy.arange(numpy.prod(shape)).astype(dtype).reshape(shape)
    references = sys.getrefcount(array)
    slot = take_over(library, array)
    assert sys.getrefcount(array) == references + (1 if array.size else 0)
    back = numpy.from_dlpack(Lent(library, slot))
    del slot
    assert back.dtype == array.dtype and back.shape == shape
    assert numpy.array_equal(back, array) and not (array.size and back.flags.writeable)
    if array.size:
        assert address(back) == address(array)
    del back
    gc.collect()
    assert sys.getrefcount(array) == references
    assert native.handles() == before


@capsules
def test_numpys_strides_are_gathered(library: Any) -> None:
    array = numpy.arange(24, dtype="int32").reshape(4, 6)
    for view in (array.T, array[::-1, ::2], numpy.broadcast_to(array[0], (3, 6))):
        slot = take_over(library, view)
        back = numpy.from_dlpack(Lent(library, slot))
        assert numpy.array_equal(back, view) and address(back) != address(view)
        assert back.flags.c_contiguous
