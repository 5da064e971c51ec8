"""Builds the native library and puts it, its header and its cffi module into the package.

Everything that describes the package stands in pyproject.toml; here are the commands only. They
heed, beside what cargo itself heeds (CARGO_TARGET_DIR, CARGO_BUILD_TARGET, CARGO_NET_OFFLINE):

    CARGO                          the cargo to call
    REMOTEMEDIA_PREBUILT_LIBRARY   a library to wrap as it is, instead of calling cargo
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

import build_ffi  # noqa: E402

CARGO_HOME = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
TARGET = os.environ.get("CARGO_BUILD_TARGET", "")
MANIFEST = (ROOT / "rust-core" / "Cargo.toml").read_text(encoding="utf-8")


def typed_once(pattern: str, text: str = MANIFEST) -> str:
    """The one place in `text` that says what the pattern's group stands for."""
    match = re.search(pattern, text, re.MULTILINE)
    if not match:
        raise SystemExit(f"nothing matches {pattern!r}")
    return match[1]


VERSION = typed_once(r'^version = "(.+)"')
RUST_VERSION = typed_once(r'^rust-version = "(.+)"')


def library_name() -> str:
    """The file name that the library has in the package, with the ABI's major version."""
    header = build_ffi.DECLARATIONS.read_text(encoding="utf-8")
    major = typed_once(r"^#define RM_ABI_MAJOR (\d+)", header)
    system = TARGET or sys.platform
    if "win32" in system or "windows" in system:
        return "remotemedia.dll"
    if "darwin" in system:
        return f"libremotemedia.{major}.dylib"
    return f"libremotemedia.so.{major}"


def cargo_build() -> Path:
    """Build the library and say where it is."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(CARGO_HOME / "bin")])
    cargo = os.environ.get("CARGO") or shutil.which("cargo", path=path)
    way_out = (
        f"needs cargo with Rust {RUST_VERSION} or newer (rustup installs it); a wheel for your "
        "platform needs no Rust at all: pip install --only-binary remotemedia remotemedia"
    )
    if not cargo:
        raise SystemExit(f"remotemedia: cargo was not found: building from source {way_out}")
    # The file must not depend on where the crates' sources happen to lie.
    remap = f"build.rustflags=['--remap-path-prefix={CARGO_HOME}=/cargo']"
    command = [cargo, "build", "--release", "--locked", "--package", "remotemedia-capi"]
    command += ["--message-format", "json-render-diagnostics", "--config", remap]
    try:
        done = subprocess.run(command, cwd=ROOT / "rust-core", stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(f"remotemedia: {cargo} failed; building from source {way_out}") from None
    messages = map(json.loads, done.stdout.splitlines())
    files = [
        Path(file)
        for message in messages
        if "cdylib" in message.get("target", {}).get("crate_types", ())
        for file in message.get("filenames", ())
    ]
    return next(file for file in files if file.suffix in {".so", ".dylib", ".dll"})


class BuildNative(Command):
    """build_native: the library, the header and the cffi module."""

    description = "build the native library with cargo and put it into the package"
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: Any = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        package = (ROOT if self.editable_mode else Path(self.build_lib)) / "remotemedia"
        prebuilt = os.environ.get("REMOTEMEDIA_PREBUILT_LIBRARY")
        library, header, ffi = map(Path, self.outputs(package))
        place(Path(prebuilt) if prebuilt else cargo_build(), library)
        place(ROOT / "include" / "remotemedia.h", header)
        build_ffi.write(ffi)

    @staticmethod
    def outputs(package: Path) -> list[str]:
        names = [f"_lib/{library_name()}", "include/remotemedia.h", "_ffi.py"]
        return [str(package / name) for name in names]

    # What setuptools asks of a sub-command of build.

    def get_outputs(self) -> list[str]:
        return self.outputs(Path(self.build_lib) / "remotemedia")

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


def place(source: Path, target: Path) -> None:
    """Copy by rename: a process may have the old file mapped."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.copyfile(source, part)
    part.replace(target)


class Build(build):
    sub_commands: ClassVar[Any] = [*build.sub_commands, ("build_native", None)]


class Wheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        """One wheel for every Python: only the platform matters, and it is the library's."""
        given = super().get_tag()[2]
        machine = (TARGET or platform.machine()).partition("-")[0]
        if self.plat_name_supplied:
            return "py3", "none", given
        if sys.platform == "darwin":
            machine = "arm64" if machine in {"arm64", "aarch64"} else "x86_64"
            least = os.environ.get("MACOSX_DEPLOYMENT_TARGET")
            major, _, minor = (least or {"arm64": "11.0"}.get(machine, "10.12")).partition(".")
            return "py3", "none", f"macosx_{major}_{minor or 0}_{machine}"
        if TARGET and "linux" in TARGET:
            return "py3", "none", f"linux_{machine}"
        return "py3", "none", given


class NativeDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    version=VERSION,
    distclass=NativeDistribution,
    cmdclass={"build": Build, "build_native": BuildNative, "bdist_wheel": Wheel},
)
