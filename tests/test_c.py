"""The library from C: the programs in tests/c, the conformance cases, the examples.

The programs run against a library built with the feature `testing`, under AddressSanitizer,
LeakSanitizer and UndefinedBehaviorSanitizer. Rust itself needs no instrumentation for that: it
allocates with malloc, which the sanitizer replaces.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(
    path.stem for path in (ROOT / "tests/c").glob("*.c") if "int main(void)" in path.read_text()
)
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted((ROOT / "tests/conformance").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
SANITIZE = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("timeout", 110)
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", **options
    )


@pytest.fixture(scope="session")
def library(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library of a test build, under both of its names."""
    command = [tool("cargo"), "build", "--quiet", "--locked", "--package", "remotemedia-capi"]
    command += ["--features", "testing", "--message-format", "json-render-diagnostics"]
    built = run(*command, cwd=ROOT / "rust-core", timeout=1800)
    assert built.returncode == 0, built.stderr
    files = [
        name
        for message in map(json.loads, built.stdout.splitlines())
        if "cdylib" in message.get("target", {}).get("crate_types", ())
        for name in message.get("filenames", ())
    ]
    folder = tmp_path_factory.mktemp("lib")
    shutil.copy(next(name for name in files if name.endswith(".so")), folder / "libremotemedia.so")
    (folder / "libremotemedia.so.1").symlink_to("libremotemedia.so")
    return folder


@pytest.fixture(scope="session")
def build(
    tool: Callable[[str], str], library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Compiles a C program, warnings being errors."""
    gcc, folder = tool("gcc"), tmp_path_factory.mktemp("bin")

    def build(source: str, *flags: str) -> Path:
        program = folder / f"{Path(source).stem}{len(os.listdir(folder))}"
        link = [f"-I{ROOT}/include", f"-L{library}", f"-Wl,-rpath,{library}"]
        command = [gcc, *STRICT, *flags, ROOT / source, "-o", program, *link]
        done = run(*command, "-lremotemedia", "-pthread")
        assert done.returncode == 0, done.stderr
        return program

    return build


@pytest.fixture(scope="session")
def sanitized(build: Callable[..., Path]) -> Run:
    """Runs a program of tests/c under the sanitizers, which first prove that they would tell."""
    programs: dict[str, Path] = {}

    def sanitized(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
        if name not in programs:
            programs[name] = build(f"tests/c/{name}.c", *SANITIZE)
            assert b"__asan_init" in programs[name].read_bytes()
        return run(programs[name], *arguments)

    lost = sanitized("leak", "lose")
    assert lost.returncode != 0
    assert "LeakSanitizer: detected memory leaks" in lost.stderr, lost.stderr
    assert "rm_data_new" in lost.stderr, lost.stderr
    kept = sanitized("leak")
    assert (kept.returncode, kept.stderr) == (0, "")
    return sanitized


def keeps_its_promises(name: str, done: subprocess.CompletedProcess[str], skips: int = 0) -> None:
    promises = re.findall(r"^    RUN\((\w+)\);$", (ROOT / f"tests/c/{name}.c").read_text(), re.M)
    kept = re.findall(r"^ok (\w+)$", done.stdout, re.M)
    assert done.returncode == 0, f"after {kept}: {done.stderr}"
    assert done.stderr == ""  # nor does the library print anything
    assert [promise for promise in promises if promise in kept] == kept
    assert len(kept) == len(promises) - skips


@pytest.mark.parametrize("name", PROGRAMS)
def test_promises(name: str, sanitized: Run) -> None:
    keeps_its_promises(name, sanitized(name), skips=1 if name == "fork" else 0)


def test_forks_without_a_sanitizer(build: Callable[..., Path]) -> None:
    """A fork in the middle of an allocation is nothing that AddressSanitizer survives."""
    keeps_its_promises("fork", run(build("tests/c/fork.c")))


@pytest.mark.parametrize("name", ["data", "run"])
def test_promises_under_valgrind(name: str, build: Callable[..., Path]) -> None:
    """The third witness: it also sees reads of uninitialised memory, in Rust as well."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        pytest.skip("valgrind is not installed")
    command = [valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full"]
    keeps_its_promises(name, run(*command, build(f"tests/c/{name}.c", "-g")))


def test_every_function_is_exercised() -> None:
    header = (ROOT / "include/remotemedia.h").read_text()
    code = "".join(path.read_text() for path in (ROOT / "tests/c").glob("*.[ch]"))
    functions = set(re.findall(r"\b(rm_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    assert functions - set(re.findall(r"\b(rm_\w+)\b", code)) == set()
    assert len(functions) > 25


def as_json(text: str) -> str:
    """JSON for comparing: 1 is not 1.0, 0.0 is not -0.0, and keys have an order."""
    return repr(json.loads(text))


def agrees(error: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the error has all that is wanted; None is wanted for what must not be there."""
    wanted = dict(wanted)
    pairs = zip(error.get("causes", []), wanted.pop("causes", []))
    return all(error.get(key) == wanted[key] for key in wanted) and all(
        agrees(cause, wanted_cause) for cause, wanted_cause in pairs
    )


@pytest.mark.parametrize("case", CASES)
def test_conformance(case: dict[str, Any], sanitized: Run, tmp_path: Path) -> None:
    manifest, items = tmp_path / "manifest.json", tmp_path / "input.json"
    text = case["text"] if "text" in case else json.dumps(case["manifest"])
    manifest.write_bytes(text.encode("utf-8", "surrogatepass"))
    names = [manifest]
    if case.get("input") is not None:
        items.write_text(json.dumps(case["input"]))
        names.append(items)
    done = sanitized("run_case", *names)
    assert (done.returncode, done.stderr) == (0, "")
    got = json.loads(done.stdout)
    if "error" in case:
        assert "error" in got, f"no error, but {got}"
        assert agrees(got["error"], case["error"]), f"{got['error']}\n{case['error']}"
        assert len(got["error"].get("causes", [])) == len(case["error"].get("causes", []))
    else:
        assert as_json(done.stdout) == as_json(json.dumps({"output": case["output"]}))


def test_arithmetic_example(build: Callable[..., Path]) -> None:
    done = run(build("examples/c/arithmetic.c"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [6, 7, 8]


def test_speech_example(build: Callable[..., Path]) -> None:
    recordings = sorted((ROOT / "examples/data").glob("*.wav"))
    program = build("examples/c/speech.c")
    done = run(program, "examples/speech/speech.json", *recordings, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stderr  # the progress line
    found = json.loads(done.stdout)
    assert len(found) == 2 * len(recordings)
    assert all(result["segments"] for result in found[: len(recordings)])

    done = run(program, "examples/speech/speech.json", "not-there.wav", cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "RM_E_IO" in done.stderr


def test_a_program_against_the_installed_library(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The line that the example's comment gives, for those who have installed the package."""
    config = run(sys.executable, "-m", "remotemedia", "config", "--cflags", "--libs")
    assert config.returncode == 0, config.stderr
    source, program = ROOT / "examples/c/arithmetic.c", tmp_path / "arithmetic"
    done = run(tool("gcc"), source, "-o", program, *shlex.split(config.stdout))
    assert done.returncode == 0, done.stderr
    assert json.loads(run(program).stdout) == [6, 7, 8]
