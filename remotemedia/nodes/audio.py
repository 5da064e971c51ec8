"""Nodes that work on sound. The native library runs them; they have no Python implementation."""

from __future__ import annotations

from typing import Literal, Optional

from remotemedia.core.node import BuiltinNode

__all__ = [
    "AudioChunkerNode",
    "AudioDecodeNode",
    "AudioLevelNode",
    "AudioResampleNode",
    "VoiceActivityNode",
]

Quality = Literal["low", "medium", "high"]


class AudioDecodeNode(BuiltinNode, builtin=True):
    """Decodes WAV, FLAC, MP3 and Ogg Vorbis: takes the path of a file as text, or the content of a
    file as bytes; gives float32 audio.

    Args:
        max_seconds: the longest recording to decode, in seconds. A small file can hold hours of
            silence.
        max_megabytes: the most memory that the samples may take, in megabytes; a sample of float32
            has 4 bytes.
    """

    def __init__(
        self,
        *,
        max_seconds: int = 36_000,
        max_megabytes: int = 4096,
        name: Optional[str] = None,
    ) -> None:
        super().__init__(name)
        self.max_seconds = max_seconds
        self.max_megabytes = max_megabytes


class AudioResampleNode(BuiltinNode, builtin=True):
    """Changes the sample rate of each recording, and mixes it to mono if asked.

    Args:
        target_rate: the sample rate to give, in Hz.
        quality: the quality of the filter.
        mono: whether to average the channels into one.
    """

    def __init__(
        self,
        *,
        target_rate: int,
        quality: Quality = "high",
        mono: bool = False,
        name: Optional[str] = None,
    ) -> None:
        super().__init__(name)
        self.target_rate = target_rate
        self.quality = quality
        self.mono = mono


class AudioLevelNode(BuiltinNode, builtin=True):
    """Measures how loud each recording is: gives ``rms_db``, ``peak_db``, ``is_low_volume`` and
    ``is_silence``.

    Args:
        low_volume_threshold_db: below this RMS level a recording has a low volume; in dBFS.
        silence_threshold_db: below this RMS level a recording is silent; in dBFS.
    """

    def __init__(
        self,
        *,
        low_volume_threshold_db: float = -20.0,
        silence_threshold_db: float = -60.0,
        name: Optional[str] = None,
    ) -> None:
        super().__init__(name)
        self.low_volume_threshold_db = low_volume_threshold_db
        self.silence_threshold_db = silence_threshold_db


class AudioChunkerNode(BuiltinNode, builtin=True):
    """Cuts each recording into chunks of chunk_size frames; the last may be shorter.

    Args:
        chunk_size: how many frames make a chunk.
    """

    def __init__(self, *, chunk_size: int = 512, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.chunk_size = chunk_size


class VoiceActivityNode(BuiltinNode, builtin=True):
    """Finds the speech in each recording: gives ``duration``, ``speech_duration`` and
    ``segments`` with ``start`` and ``end``, in seconds.

    Args:
        threshold: the score from which a frame of 16 ms is speech. Lower finds quieter speech,
            higher takes less noise for speech.
        min_speech_ms: speech shorter than this is left out, in milliseconds.
        min_silence_ms: a pause shorter than this does not end a segment, in milliseconds.
        padding_ms: what is added to both ends of a segment, in milliseconds; neighbours share
            what is between them.
        include_audio: whether each segment comes with its audio.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        min_speech_ms: int = 250,
        min_silence_ms: int = 200,
        padding_ms: int = 48,
        include_audio: bool = False,
        name: Optional[str] = None,
    ) -> None:
        super().__init__(name)
        self.threshold = threshold
        self.min_speech_ms = min_speech_ms
        self.min_silence_ms = min_silence_ms
        self.padding_ms = padding_ms
        self.include_audio = include_audio
