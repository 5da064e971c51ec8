"""What audio and frames have in common: an array, and when it is to be presented."""

from __future__ import annotations

from typing import Any, Optional

__all__ = ["Media"]

#: How far from 0 a presentation time may be, in seconds; the library counts microseconds.
MAX_PTS = 2**62 / 1_000_000
#: From this version on NumPy's ``__dlpack__`` knows versions of the protocol.
_NUMPY_WITH_VERSIONS = (2, 1)


class Media:
    """An array of one meaning, and a presentation time. Immutable but for the array's content.

    NumPy, and whatever takes DLPack, reads it as the array, without a copy.
    """

    __slots__ = ("_array", "_pts", "_view")

    def __init__(self, array: Any, view: Any, pts: Optional[float]) -> None:
        if pts is not None:
            if isinstance(pts, bool) or not isinstance(pts, (int, float)):
                raise TypeError(f"pts is a number of seconds or None, not {pts!r}")
            if not -MAX_PTS <= pts <= MAX_PTS:
                raise ValueError(f"pts is within {MAX_PTS:.0f} seconds of 0, not {pts!r}")
        self._array = array
        self._view = view
        self._pts = None if pts is None else float(pts)

    @property
    def pts(self) -> Optional[float]:
        """Presentation time in seconds (for audio that of the first frame), or None."""
        return self._pts

    def _memoryview(self) -> Any:
        """The array as a memoryview; for this package."""
        return self._view

    def _shown(self) -> Any:
        """The array as users see it: what was given, or a NumPy array for what comes from a node;
        without NumPy installed that is a memoryview."""
        if type(self._array) is memoryview:
            try:
                self._array = self._numpy()
            except ImportError:
                return self._array
        return self._array

    def _numpy(self) -> Any:
        import numpy

        return numpy.asarray(self._view)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """The array for NumPy: the same memory, unless another dtype or a copy is asked for.

        Raises:
            ValueError: if ``copy`` is False and another dtype needs one.
        """
        array = self._numpy()
        if dtype is None or array.dtype == dtype:
            return array.copy() if copy else array
        if copy is False:
            raise ValueError(f"a copy is needed for {dtype}, and copy is False")
        return array.astype(dtype)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Optional[tuple[int, int]] = None,
        dl_device: Optional[tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any:
        """A DLPack capsule of the array: the same memory, unless it is read-only and the consumer
        takes no version of DLPack that can say so. Needs NumPy.

        Raises:
            BufferError: if ``copy`` is False and one is needed, or for a device but the CPU.
        """
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"this is on the CPU, and does not go to the device {dl_device}")
        import numpy

        array = self._numpy()
        options = {}
        version = tuple(int(part) for part in numpy.__version__.split(".")[:2])
        if max_version is not None and version >= _NUMPY_WITH_VERSIONS:
            options["max_version"] = max_version
        tells = max_version is not None and max_version[0] >= 1 and "max_version" in options
        if copy or not (tells or array.flags.writeable):
            if copy is False:
                raise BufferError(
                    "this is read-only, which DLPack can say from version 1 on: "
                    "pass max_version=(1, 0), or allow a copy"
                )
            array = array.copy()
        return array.__dlpack__(stream=stream, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's code of the device, and its number: the CPU, (1, 0)."""
        return (1, 0)

    def _same_array(self, other: Media) -> bool:
        ours, theirs = self._view, other._view
        return bool(
            ours.format == theirs.format
            and ours.shape == theirs.shape
            and ours.tobytes() == theirs.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]
