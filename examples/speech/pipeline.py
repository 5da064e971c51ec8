"""Builds the pipeline of speech.json in Python, and prints its manifest.

python examples/speech/pipeline.py > my.json
remotemedia run my.json recording.flac
"""

from __future__ import annotations

from remotemedia import Pipeline
from remotemedia.nodes import (
    AudioDecodeNode,
    AudioLevelNode,
    AudioResampleNode,
    VoiceActivityNode,
)


def build() -> Pipeline:
    decode = AudioDecodeNode(name="decode")
    resample = AudioResampleNode(name="resample", target_rate=16_000, mono=True)
    speech = VoiceActivityNode(name="speech")
    level = AudioLevelNode(name="level")

    pipeline = Pipeline("speech", [decode, resample, speech, level])
    pipeline.connect(decode, resample)
    pipeline.connect(resample, speech)
    pipeline.connect(resample, level)
    return pipeline


if __name__ == "__main__":
    print(build().serialize())
