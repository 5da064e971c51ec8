"""The wheel: its name, what is in it, what it asks for; and what the project is built from."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest

from remotemedia import native

Tool = Callable[[str], str]
KINDS = [
    r"remotemedia/(\w+/)*\w+\.py",
    r"remotemedia/py\.typed",
    r"remotemedia/nodes/catalog\.json",
    r"remotemedia/include/remotemedia\.h",
    r"remotemedia/_lib/(libremotemedia\.so\.\d+|libremotemedia\.\d+\.dylib|remotemedia\.dll)",
    r"remotemedia-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|top_level\.txt)",
    r"remotemedia-[\d.]+\.dist-info/licenses/(LICENSE-MIT|LICENSE-APACHE|THIRD-PARTY-NOTICES)",
]


@pytest.fixture(scope="module")
def wheel(root: Path) -> Path:
    """The one wheel in dist/."""
    wheels = sorted((root / "dist").glob("*.whl"))
    if not wheels and os.environ.get("CI") != "true":
        pytest.skip("no wheel in dist: run `make wheel`")
    (path,) = wheels
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def read(wheel: Path, suffix: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(suffix))
        return archive.read(name).decode()


def typed_version(root: Path) -> str:
    text = (root / "rust-core" / "Cargo.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    assert match
    return match[1]


def test_one_wheel_serves_every_python(wheel: Path, root: Path) -> None:
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("remotemedia", typed_version(root), "py3", "none")
    assert platform != "any"
    facts = email.message_from_string(read(wheel, ".dist-info/WHEEL"))
    assert facts["Root-Is-Purelib"] == "false"
    assert facts.get_all("Tag") == [f"py3-none-{platform}"]


def test_the_wheel_holds_what_it_should_and_nothing_else(names: list[str]) -> None:
    assert [name for name in names if not any(re.fullmatch(kind, name) for kind in KINDS)] == []
    for kind in KINDS[1:5]:
        assert len([name for name in names if re.fullmatch(kind, name)]) == 1, kind
    assert "remotemedia/_ffi.py" in names
    assert len([name for name in names if "/licenses/" in name]) == 3


def test_the_wheel_holds_every_module(names: list[str], root: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "remotemedia/**.py", "remotemedia/*.py"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert set(listed.stdout.split()) <= set(names)


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= 8 * 2**20


def test_the_wheel_asks_for_cffi_and_nothing_else(wheel: Path, root: Path) -> None:
    metadata = email.message_from_string(read(wheel, ".dist-info/METADATA"))
    required = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert len(required) == 1
    assert re.match(r"cffi\b.*CPython", required[0])
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert metadata["Version"] == typed_version(root)
    assert "remotemedia = remotemedia.cli:main" in read(wheel, "entry_points.txt")


def test_no_path_of_the_building_machine_is_in_the_wheel(wheel: Path, root: Path) -> None:
    places = [str(root), str(Path.home() / ".cargo")]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert [p for p in places if len(p) > 4 and p.encode() in content] == [], name


def test_the_version_is_the_same_everywhere(root: Path) -> None:
    header = (root / "include" / "remotemedia.h").read_text(encoding="utf-8")
    major = re.search(r"^#define RM_ABI_MAJOR (\d+)$", header, re.MULTILINE)
    assert major
    assert native.version() == typed_version(root)
    assert str(native.build_info()["abi"]).partition(".")[0] == major[1]
    if sys.platform == "linux":
        assert Path(native.library_path()).name == f"libremotemedia.so.{major[1]}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
def test_how_the_library_is_linked(tool: Tool) -> None:
    library = native.library_path()
    dynamic = subprocess.run(
        [tool("readelf"), "--dynamic", library], capture_output=True, text=True, check=True
    ).stdout
    assert f"[{Path(library).name}]" in next(x for x in dynamic.splitlines() if "SONAME" in x)
    assert "NODELETE" in dynamic
    needed = set(re.findall(r"\(NEEDED\).*\[(\w+)[.\w-]*\]", dynamic))
    assert needed <= {"libc", "libm", "libgcc_s", "ld", "libdl", "libpthread", "librt"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
def test_only_our_own_names_are_exported(tool: Tool, root: Path) -> None:
    command = [tool("nm"), "--dynamic", "--defined-only", native.library_path()]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in table.splitlines()}
    declarations = (root / "include" / "remotemedia_cffi.h").read_text(encoding="utf-8")
    assert exported == set(re.findall(r"^(?!typedef)\w.*?\b(rm_\w+)\(", declarations, re.MULTILINE))


@pytest.mark.parametrize("absent", ["numpy", "asyncio", "logging", "cffi", "remotemedia._ffi"])
def test_importing_pulls_in_little(absent: str, tmp_path: Path) -> None:
    code = f"import sys, remotemedia; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)


@pytest.fixture(scope="module")
def crates(root: Path, tool: Tool) -> list[dict[str, Any]]:
    """Everything that the lock file names, as cargo has fetched it."""
    command = [tool("cargo"), "metadata", "--format-version", "1", "--locked", "--offline"]
    done = subprocess.run(command, cwd=root / "rust-core", capture_output=True, check=True)
    packages: list[dict[str, Any]] = json.loads(done.stdout)["packages"]
    return packages


def test_nothing_is_downloaded_while_building_or_running(crates: list[dict[str, Any]]) -> None:
    clients = {"curl", "hf-hub", "hyper", "minreq", "native-tls", "reqwest", "rustls", "ureq"}
    assert clients.isdisjoint(crate["name"] for crate in crates)


def test_every_crate_comes_from_the_registry_or_from_here(crates: list[dict[str, Any]]) -> None:
    sources = {str(crate["source"]).partition("+")[0] for crate in crates}
    assert sources == {"None", "registry"}
    ours = {crate["version"] for crate in crates if crate["source"] is None}
    assert len(ours) == 1


def test_notices_and_licences_are_current(root: Path, tool: Tool) -> None:
    env = {**os.environ, "CARGO": tool("cargo")}
    command = [sys.executable, str(root / "tools" / "notices.py"), "--check"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
