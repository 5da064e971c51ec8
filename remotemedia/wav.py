"""Audio to WAV files.

RIFF/WAVE as in Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft,
1991), with the extension for float samples of Microsoft's New Multimedia Data Types 3.0 (1994).
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
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
    if len(samples) > 0xFFFF_FFFF - 64:
        raise ValueError(f"a WAV file holds up to 4 GiB, not {len(samples)} bytes; split the audio")
    width = view.itemsize
    frame = width * audio.channels
    code = _PCM if width == 2 else _IEEE_FLOAT
    form = struct.pack(
        "<HHIIHH",
        code, audio.channels, audio.sample_rate, audio.sample_rate * frame, frame, 8 * width,
    )  # fmt: skip
    chunks = [(b"fmt ", form)]
    if code == _IEEE_FLOAT:
        # What is not PCM states the size of its extension, none here, and its length in frames.
        chunks = [(b"fmt ", form + b"\0\0"), (b"fact", struct.pack("<I", audio.frames))]
    header = b"WAVE" + b"".join(n + struct.pack("<I", len(c)) + c for n, c in chunks)
    padding = b"\0" * (len(samples) % 2)
    total = len(header) + 8 + len(samples) + len(padding)
    header = b"RIFF" + struct.pack("<I", total) + header + b"data" + struct.pack("<I", len(samples))
    with open(path, "wb") as file:
        file.write(header)
        file.write(samples + padding)
