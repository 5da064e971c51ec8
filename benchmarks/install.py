"""Installs what the benchmarks compare with; says so of what cannot be installed.

Debian's packages are those of debian-packages.txt; as root only. Pip's peers go into this
interpreter's environment, MediaPipe into one of its own in build/mediapipe, and for GStreamer,
which comes with the system's Python, build/gstreamer is made.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
SYSTEM = "/usr/bin/python3"


def lines(name: str) -> list[str]:
    """What a list of packages holds."""
    content = (HERE / name).read_text().splitlines()
    return [line for line in content if line and not line.startswith("#")]


def attempt(name: str, *commands: list[str]) -> None:
    print(f"  {name:<26}", end="", flush=True)
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            print(f"not installed: {error}")
            return
        if done.returncode:
            said = (done.stderr or done.stdout).strip().split("\n")
            print(f"not installed: {said[-1]}")
            return
    print("ok")


def main() -> None:
    tool = str(HERE.parent / "tools" / "debian-packages")
    attempt("Debian's packages", [tool, *lines("debian-packages.txt")])
    for line in lines("requirements.txt"):
        attempt(line, [sys.executable, *PIP, line])

    environment = BUILD / "mediapipe"
    wanted = str(HERE / "requirements-mediapipe.txt")
    attempt(
        "mediapipe, on its own",
        [sys.executable, "-m", "venv", str(environment)],
        [str(environment / "bin" / "python"), *PIP, "--requirement", wanted],
    )

    environment = BUILD / "gstreamer"
    python = str(environment / "bin" / "python")
    check = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0')"
    attempt(
        "GStreamer, of the system",
        [SYSTEM, "-c", check],
        [SYSTEM, "-m", "venv", "--system-site-packages", str(environment)],
        [python, *PIP, "--requirement", str(HERE / "requirements-gstreamer.txt")],
    )


if __name__ == "__main__":
    main()
