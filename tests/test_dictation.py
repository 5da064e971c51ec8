"""The example that writes down what is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import needed

needed("pocketsphinx")


def test_it_hears_the_words(root: Path) -> None:
    """Faster than spoken; PocketSphinx is right about most of these words."""
    done = subprocess.run(
        [sys.executable, root / "examples/dictation/run.py", "--speed", "50"],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, rate = done.stdout.splitlines()
    assert done.stderr == ""
    assert [line.split()[0] for line in lines] == [
        f"austen-{n}.wav" for n in ("0870", "0880", "0920")
    ]
    assert "had he married a more amiable woman" in lines[2]
    found = re.fullmatch(r"word error rate: (\d+)% \((\d+) of 49 words\)", rate)
    assert found and int(found[1]) <= 40
