"""Turns include/remotemedia_cffi.h into remotemedia/_ffi.py (cffi, out-of-line ABI mode).

The text is cbindgen's second output, written beside the public header by `make header`. It is
taken as it stands: a line that cffi does not understand ends the build.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
DECLARATIONS = ROOT / "include" / "remotemedia_cffi.h"


def write(target: Path, declarations: Path = DECLARATIONS) -> None:
    """Write the cffi module `target` from `declarations`."""
    ffi = FFI()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            ffi.cdef(declarations.read_text(encoding="utf-8"))
        except Exception as error:
            raise SystemExit(f"{declarations}: cffi cannot read it: {error}") from error
    ffi.set_source("remotemedia._ffi", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.stem}.{os.getpid()}.part.py")
    ffi.emit_python_code(str(part))
    part.replace(target)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "remotemedia" / "_ffi.py")
