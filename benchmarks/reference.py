"""Builds pyo3_reference. Its Cargo.lock is not enforced: the engine's crates are in it too, and may
have moved on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"


def build() -> None:
    """Builds pyo3_reference for this interpreter, and makes it importable."""
    folder = HERE / "pyo3_reference"
    target = Path(os.environ.get("CARGO_TARGET_DIR", BUILD / "pyo3_reference"))
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", str(target)]
    environment = {**os.environ, "PYO3_PYTHON": sys.executable}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    names = {"darwin": "libpyo3_reference.dylib", "win32": "pyo3_reference.dll"}
    built = target / "release" / names.get(sys.platform, "libpyo3_reference.so")
    place = target / "module"
    place.mkdir(exist_ok=True)
    suffix = ".pyd" if sys.platform == "win32" else sysconfig.get_config_var("EXT_SUFFIX")
    # Another process may have it loaded: what is copied over a mapped file changes under it.
    part = place / f"pyo3_reference.{os.getpid()}.part"
    shutil.copy(built, part)
    part.replace(place / f"pyo3_reference{suffix}")
    sys.path.insert(0, str(place))
