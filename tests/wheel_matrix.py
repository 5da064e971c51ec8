"""Installs one wheel file under every Python of this machine and tests it there.

    python tests/wheel_matrix.py dist/remotemedia-0.1.0-py3-none-linux_x86_64.whl

Every Python gets an environment of its own, with the wheel and pytest (CPython with numpy, PyPy
without), and runs tests/wheel and the conformance cases from outside the source tree.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
SELECTION = [TESTS / "wheel", *sorted(TESTS.glob("test_conformance*.py"))]
OLDEST = (3, 9)
ABOUT = (
    "import json, platform, sys;"
    "print(json.dumps([platform.python_implementation(), sys.version_info[:3]]))"
)


class Interpreter(NamedTuple):
    implementation: str
    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return f"{self.implementation} {'.'.join(map(str, self.version))}"


def interpreters() -> list[Interpreter]:
    """Every Python on the PATH and below pyenv's folder, each once."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [*pyenv.glob("versions/*/bin/python")]
    for folder in os.get_exec_path():
        if Path(folder) != pyenv / "shims":
            names = sorted(Path(folder).glob("*py*3*"))
            candidates += [p for p in names if re.fullmatch(r"(python|pypy)3(\.\d+)?", p.name)]
    found = {}
    for path in candidates:
        try:
            about = subprocess.run([path, "-c", ABOUT], capture_output=True, check=True, timeout=30)
            implementation, version = json.loads(about.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if tuple(version) >= OLDEST:
            found.setdefault(
                (implementation, *version), Interpreter(implementation, tuple(version), str(path))
            )
    return [found[key] for key in sorted(found)]


def check(interpreter: Interpreter, wheel: Path, digest: str, folder: Path) -> tuple[bool, str]:
    """Install the wheel under one Python, test it, and say how that went."""
    start = time.monotonic()
    home = folder / str(interpreter).replace(" ", "-")
    python = str(home / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    numpy = [] if interpreter.implementation == "PyPy" else ["numpy"]
    test = [python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, SELECTION)]
    env = {**os.environ, "REMOTEMEDIA_WHEEL": str(wheel)}
    for command in (
        [interpreter.path, "-m", "venv", str(home)],
        [*install, str(wheel), "pytest>=8", "pytest-timeout"],
        *([[*install, "--only-binary", ":all:", name] for name in numpy]),
        test,
    ):
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            return False, f"FAILED\n{done.stdout}"
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
        return False, "FAILED: the wheel file has changed"
    summary = done.stdout.strip().splitlines()[-1].strip("= ")
    summary = re.sub(r" in [\d.]+s.*", "", summary)
    return True, f"ok {time.monotonic() - start:4.0f} s  {summary}{', numpy' if numpy else ''}"


def main(arguments: list[str]) -> int:
    (name,) = arguments
    wheel = Path(name).resolve()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    print(f"  {wheel.name}\n  sha256 {digest}")
    pythons = interpreters()
    with tempfile.TemporaryDirectory(prefix="wheels-") as folder, ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda python: check(python, wheel, digest, Path(folder)), pythons)
        good = True
        for python, (passed, text) in zip(pythons, results):
            print(f"  {python!s:26}{text}", flush=True)
            good &= passed
    if not any(python.implementation == "PyPy" for python in pythons):
        print(f"  {'PyPy':26}SKIPPED: pypy3 is not installed")
        good &= os.environ.get("CI") != "true"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
