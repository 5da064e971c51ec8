"""Writes down what is said, while it is said.

    pip install "remotemedia[dictation]"
    python examples/dictation/run.py [--speed FACTOR] [RECORDING.wav...]

A recording stands for the microphone: its sound comes in pieces of 20 ms, as fast as it was spoken
(or FACTOR times as fast). Without arguments it takes the recordings in examples/data.

    microphone -> blocks of 0.3 s -> 16 kHz -> recogniser -> text
                                        \\-> voice activity -/

Resampling and voice activity are nodes of the native library. Collecting blocks and recognising
speech are Python: the latter with PocketSphinx, in a thread of its own. Printed are the text of
each utterance and how long after its last word it was there; and, where the words are known (a .txt
beside the recording), the word error rate.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np

from remotemedia import Audio, Node, Pipeline
from remotemedia.nodes import AudioDecodeNode, AudioResampleNode, VoiceActivityNode

HERE = Path(__file__).resolve().parent
RATE = 16_000
PIECE = 0.02
BLOCK = 0.3
#: An utterance ends after so many blocks without speech.
PAUSE = 2


class Blocks(Node):
    """Collects audio into blocks, which are long enough to tell speech from noise."""

    def __init__(self, seconds: float = BLOCK, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.seconds = seconds

    def initialize(self) -> None:
        self.held: list[Audio] = []

    def process(self, audio: Audio) -> Optional[Audio]:
        self.held.append(audio)
        if sum(piece.duration for piece in self.held) + PIECE / 2 < self.seconds:
            return None
        return self.flush()

    def flush(self) -> Optional[Audio]:
        held, self.held = self.held, []
        if not held:
            return None
        samples = np.concatenate([piece.samples for piece in held])
        return Audio(samples, held[0].sample_rate, pts=held[0].pts)


class Recogniser(Node, thread=True):
    """Takes pairs of a block and of what voice activity found in it; gives for each utterance its
    text, and where in the recording it ended, in seconds."""

    def initialize(self) -> None:
        from pocketsphinx import Config, Decoder

        self.decoder = Decoder(Config(samprate=RATE, loglevel="FATAL"))
        #: How many blocks without speech end the utterance; 0 if nobody speaks.
        self.left = 0
        self.before: Optional[Audio] = None
        self.end = 0.0

    def process(self, pair: list[Any]) -> Iterator[dict[str, Any]]:
        block, activity = pair
        speech = activity["segments"]
        if speech:
            if not self.left:
                self.decoder.start_utt()
                # A first sound may be too short to be noticed.
                self.hear(self.before)
            self.left = PAUSE
            self.end = (block.pts or 0.0) + speech[-1]["end"]
        if self.left:
            self.hear(block)
            if not speech:
                self.left -= 1
                if not self.left:
                    yield from self.finish()
        self.before = block

    def hear(self, block: Optional[Audio]) -> None:
        if block is not None:
            pcm = (np.clip(block.samples.reshape(-1), -1, 1) * 32767).astype("<i2")
            self.decoder.process_raw(pcm.tobytes(), False, False)

    def flush(self) -> Iterator[dict[str, Any]]:
        if self.left:
            yield from self.finish()

    def finish(self) -> Iterator[dict[str, Any]]:
        self.decoder.end_utt()
        found = self.decoder.hyp()
        if found is not None and found.hypstr:
            yield {"text": found.hypstr, "end": self.end}


def pipeline() -> Pipeline:
    blocks, recogniser = Blocks(), Recogniser().options(join="zip")
    resample = AudioResampleNode(target_rate=RATE, mono=True)
    voice = VoiceActivityNode(min_speech_ms=50)
    made = Pipeline("dictation", [blocks, resample, voice, recogniser])
    made.connect(blocks, resample).connect(resample, voice)
    return made.connect(resample, recogniser).connect(voice, recogniser)


async def dictate(recording: Path, speed: float) -> str:
    [audio] = await Pipeline("recording", [AudioDecodeNode()]).run([str(recording)])
    size = round(PIECE * audio.sample_rate)
    texts = []
    async with pipeline().open() as run:
        began = time.monotonic()

        async def speak() -> None:
            for number, start in enumerate(range(0, len(audio.samples), size)):
                piece = audio.samples[start : start + size]
                # When its last sample was spoken.
                due = began + (start + len(piece)) / audio.sample_rate / speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await run.send(Audio(piece, audio.sample_rate, pts=number * PIECE))
            run.end()

        speaker = asyncio.ensure_future(speak())
        async for output in run:
            text, end = output.value["text"], output.value["end"]
            late = time.monotonic() - began - end / speed
            print(f"{recording.name} {end:6.2f} s  {late * 1000:5.0f} ms later: {text}", flush=True)
            texts.append(text)
        await speaker
    return " ".join(texts)


def word_error_rate(said: str, heard: str) -> tuple[int, int]:
    """How many words would have to be changed, added or removed (the distance of Levenshtein), and
    how many were said."""
    words, found = said.split(), heard.split()
    row = list(range(len(found) + 1))
    for count, word in enumerate(words, 1):
        before, row[0] = row[0], count
        for place, other in enumerate(found, 1):
            change = before + (word != other)
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, change)
    return row[-1], len(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast as spoken")
    options = parser.parse_args()
    wrong = said = 0
    for recording in options.recordings or sorted((HERE.parent / "data").glob("*.wav")):
        heard = asyncio.run(dictate(recording, options.speed))
        known = recording.with_suffix(".txt")
        if known.exists():
            errors, words = word_error_rate(known.read_text(encoding="utf-8"), heard)
            wrong, said = wrong + errors, said + words
    if said:
        print(f"word error rate: {wrong / said:.0%} ({wrong} of {said} words)")


if __name__ == "__main__":
    main()
