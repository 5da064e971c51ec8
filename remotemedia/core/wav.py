"""Audio to WAV files (RIFF/WAVE, Multimedia Programming Interface 1.0, 1991)."""

from __future__ import annotations

import os
import struct
import sys
from typing import Union

from remotemedia.audio import Audio

_PCM = 1
_IEEE_FLOAT = 3


def write_wav(path: Union[str, os.PathLike[str]], audio: Audio) -> None:
    """Writes audio to a WAV file, sample by sample as it is: int16 as PCM, float32 as IEEE float.

    Raises:
        ValueError: for more than 4 GiB, which the format cannot hold.
        OSError: if the file cannot be written.
    """
    view = audio._memoryview()
    samples = view.tobytes()
    if sys.byteorder == "big":
        import array

        swapped = array.array(view.format, samples)
        swapped.byteswap()
        samples = swapped.tobytes()
    if len(samples) > 0xFFFF_FFFF - 36:
        raise ValueError(f"a WAV file holds up to 4 GiB, not {len(samples)} bytes; split the audio")
    width = view.itemsize
    frame = width * audio.channels
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16,
        _PCM if width == 2 else _IEEE_FLOAT, audio.channels, audio.sample_rate,
        audio.sample_rate * frame, frame, 8 * width, b"data", len(samples),
    )  # fmt: skip
    with open(path, "wb") as file:
        file.write(header)
        file.write(samples)
