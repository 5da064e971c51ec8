"""An image as a value."""

from __future__ import annotations

from typing import Any, Optional

from remotemedia.media import Media

__all__ = ["Frame"]

#: The pixel formats, by FFmpeg's and PyAV's names, with their numbers of channels.
CHANNELS = {"gray": 1, "rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4}
#: How many pixels a side may have: the limit of the native library.
MAX_SIDE = 65_536


class Frame(Media):
    """An image: a frame of video, or one that stands alone.

    Args:
        pixels: an object with the buffer protocol, as a rule a NumPy array, of shape (height,
            width, channels), or (height, width) if the format is gray; rows from top to bottom,
            sides of 1 to 65,536; uint8; C-contiguous.
        format: what the bytes of a pixel mean: ``"gray"`` (1 channel), ``"rgb24"``, ``"bgr24"``
            (3), ``"rgba"`` or ``"bgra"`` (4).
        pts: presentation time in seconds, or None.

    Raises:
        TypeError: for pixels of another type, or without the buffer protocol.
        ValueError: for another format, a shape that is not the format's, or a side or a time out
            of range.
    """

    __slots__ = ("_format",)

    def __init__(self, pixels: Any, format: str = "rgb24", pts: Optional[float] = None) -> None:
        channels = CHANNELS.get(format) if isinstance(format, str) else None
        if channels is None:
            from remotemedia.core.schema import did_you_mean

            hint = did_you_mean(str(format), CHANNELS, f"known are: {', '.join(CHANNELS)}")
            raise ValueError(f"there is no pixel format {format!r}; {hint}")
        try:
            view: Any = memoryview(pixels)
        except TypeError:
            raise TypeError(
                f"pixels are an array, not {type(pixels).__name__}; "
                "make one with numpy.asarray(pixels, 'uint8')"
            ) from None
        if view.format != "B":
            raise TypeError(
                f"pixels are uint8, not format {view.format!r}; scale them to 0..255 and convert "
                "with .astype('uint8')"
            )
        if view.ndim not in (2, 3):
            raise ValueError(
                f"pixels have the shape (height, width, channels) or (height, width), "
                f"not {view.shape}"
            )
        given = view.shape[2] if view.ndim == 3 else 1
        if given != channels:
            fitting = [name for name, count in CHANNELS.items() if count == given]
            meant = f"; with {given} it may be {' or '.join(fitting)}" if fitting else ""
            if view.ndim == 3 and view.shape[0] == channels:
                meant = "; where channels come first, use numpy.moveaxis(pixels, 0, 2).copy()"
            raise ValueError(
                f"{format} has {channels} channel{'s' * (channels > 1)}, and pixels of shape "
                f"{view.shape} have {given}{meant}"
            )
        for name, side in zip(("height", "width"), view.shape):
            if not 1 <= side <= MAX_SIDE:
                raise ValueError(f"the {name} of a frame is 1 to {MAX_SIDE} pixels, not {side}")
        if not view.c_contiguous:
            raise ValueError("pixels are C-contiguous; use numpy.ascontiguousarray")
        super().__init__(pixels, view, pts)
        self._format = str.__str__(format)

    @property
    def pixels(self) -> Any:
        """The pixels: what was given, or a NumPy array for a frame that comes from a node.

        Without NumPy installed that is a memoryview.
        """
        return self._shown()

    @property
    def format(self) -> str:
        """What the bytes of a pixel mean, by FFmpeg's name."""
        return self._format

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return int(self._view.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self._view.shape[0])

    @property
    def channels(self) -> int:
        """Bytes of a pixel."""
        return CHANNELS[self._format]

    def __reduce__(self) -> Any:
        # A copy has pixels of its own, writable, wherever they were.
        memory = bytearray(self._view.tobytes())
        return _rebuild, (memory, self._view.shape, self._format, self._pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return self._format == other._format and self._pts == other._pts and self._same_array(other)

    __hash__ = None

    def __repr__(self) -> str:
        pts = "" if self._pts is None else f", pts={self._pts:.3f} s"
        return f"Frame({self.width}x{self.height}, {self._format}{pts})"


def _rebuild(memory: bytearray, shape: tuple[int, ...], format: str, pts: Optional[float]) -> Frame:
    view: Any = memoryview(memory)
    return Frame(view.cast("B", shape), format, pts)
