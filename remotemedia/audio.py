"""Sound as a value."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from remotemedia.media import Media

__all__ = ["Audio"]

#: Limits of the native library, checked here as well so that the error comes from where the
#: mistake is.
MAX_SAMPLE_RATE = 768_000
MAX_CHANNELS = 64


class Audio(Media):
    """Interleaved samples and how fast they go by.

    Args:
        samples: an object with the buffer protocol, as a rule a NumPy array, of shape (frames,)
            or (frames, channels); float32 in -1..1 or int16; C-contiguous.
        sample_rate: frames per second, 1 to 768,000 Hz.
        pts: presentation time of the first frame in seconds, or None.

    Raises:
        TypeError: for samples of another type, or without the buffer protocol.
        ValueError: for another shape, no or more than 64 channels, or a rate or a time out of
            range.
    """

    __slots__ = ("_sample_rate",)

    def __init__(self, samples: Any, sample_rate: float, pts: Optional[float] = None) -> None:
        try:
            view: Any = memoryview(samples)
        except TypeError:
            raise TypeError(
                f"audio samples are an array, not {type(samples).__name__}; "
                "make one with numpy.array(samples, 'float32')"
            ) from None
        if view.format not in ("f", "h"):
            raise TypeError(
                f"audio samples are float32 or int16, not format {view.format!r}; "
                "convert with .astype('float32')"
            )
        if view.ndim not in (1, 2):
            raise ValueError(
                f"audio samples have the shape (frames,) or (frames, channels), not {view.shape}"
            )
        if not view.c_contiguous:
            raise ValueError("audio samples are C-contiguous; use numpy.ascontiguousarray")
        if view.ndim == 2 and not 1 <= view.shape[1] <= MAX_CHANNELS:
            raise ValueError(
                f"audio has 1 to {MAX_CHANNELS} channels, not {view.shape[1]}; the shape is "
                "(frames, channels), so where channels come first use numpy.ascontiguousarray(x.T)"
            )
        if type(sample_rate) is not int and not _is_whole(sample_rate):
            raise TypeError(f"sample_rate is a whole number, not {sample_rate!r}")
        if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample_rate is 1 to {MAX_SAMPLE_RATE} Hz, not {sample_rate}")
        super().__init__(samples, view, pts)
        self._sample_rate = int(sample_rate)

    @property
    def sample_rate(self) -> int:
        """Frames per second."""
        return self._sample_rate

    @property
    def samples(self) -> Any:
        """The samples: what was given, or a NumPy array for audio that comes from a node.

        Without NumPy installed that is a memoryview.
        """
        return self._shown()

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return int(self._view.shape[0])

    @property
    def channels(self) -> int:
        """Samples per frame."""
        return int(self._view.shape[1]) if self._view.ndim == 2 else 1

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes a WAV file, sample by sample as they are: int16 as PCM, float32 as IEEE float.

        Raises:
            ValueError: for more than 4 GiB, which the format cannot hold.
            OSError: if the file cannot be written.
        """
        from remotemedia.wav import write_wav

        write_wav(path, self)

    def __reduce__(self) -> Any:
        # A copy has samples of its own, writable, wherever they were.
        view = self._view
        memory = bytearray(view.tobytes())
        return _rebuild, (memory, view.format, view.shape, self.sample_rate, self.pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
            return NotImplemented
        return (
            self.sample_rate == other.sample_rate
            and self.pts == other.pts
            and self._same_array(other)
        )

    __hash__ = None

    def __repr__(self) -> str:
        kind = "float32" if self._view.format == "f" else "int16"
        pts = "" if self.pts is None else f", pts={self.pts:.3f} s"
        channels = "mono" if self.channels == 1 else f"{self.channels} channels"
        return (
            f"Audio({self.duration:.3f} s, {self.sample_rate} Hz, {channels}, "
            f"{kind}, {self.frames} frames{pts})"
        )


def _is_whole(value: Any) -> bool:
    """Whether this is a whole number, be it a float such as 44100.0 or one of NumPy's."""
    if isinstance(value, float):
        return value.is_integer()
    return hasattr(type(value), "__index__") and not isinstance(value, bool)


def _rebuild(
    memory: bytearray, form: str, shape: tuple[int, ...], rate: int, pts: Optional[float]
) -> Audio:
    view: Any = memoryview(memory)
    if len(shape) == 1:
        return Audio(view.cast(form), rate, pts)
    if 0 in shape:
        # A memoryview cannot be cast to a shape without elements.
        import numpy

        return Audio(numpy.zeros(shape, "float32" if form == "f" else "int16"), rate, pts)
    return Audio(view.cast(form, shape), rate, pts)
