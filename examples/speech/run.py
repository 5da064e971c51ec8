"""Runs speech.json on recordings and prints a table of what was found.

    python examples/speech/run.py [RECORDING...]

Without arguments it takes the recordings in examples/data.
"""

from __future__ import annotations

import sys
from pathlib import Path

from remotemedia import native

HERE = Path(__file__).resolve().parent


def main(recordings: list[str]) -> None:
    if not recordings:
        recordings = sorted(str(path) for path in (HERE.parent / "data").glob("*.wav"))
    result = native.run_manifest(HERE / "speech.json", recordings)

    # One value per recording from each of the two sinks.
    rows = zip(recordings, result.by_node["speech"], result.by_node["level"])
    print(f"{'recording':<20} {'length':>8} {'speech':>8} {'rms':>10} {'peak':>10}  segments")
    for recording, speech, level in rows:
        segments = [f"{part['start']:.2f}-{part['end']:.2f}" for part in speech["segments"]]
        print(
            f"{Path(recording).name:<20} {speech['duration']:>6.2f} s"
            f" {speech['speech_duration']:>6.2f} s {level['rms_db']:>6.1f} dB"
            f" {level['peak_db']:>7.1f} dB  {', '.join(segments) or 'none'}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
