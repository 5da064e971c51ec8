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

from remotemedia import native

# The first test builds the library; a program has a limit of its own.
pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(
    path.stem for path in (ROOT / "tests/c").glob("*.c") if "int main(void)" in path.read_text()
)
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted((ROOT / "tests/conformance").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
NAME = "libremotemedia.so.1"
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
    """A folder with the library of a test build."""
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
    shutil.copy(next(name for name in files if name.endswith(".so")), folder / NAME)
    return folder


@pytest.fixture(scope="session")
def build(
    tool: Callable[[str], str], library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Compiles a C program, warnings being errors, and links it with the test build."""
    gcc, folder = tool("gcc"), tmp_path_factory.mktemp("bin")

    def build(source: str, *flags: str, library: Path = library) -> Path:
        program = folder / f"{Path(source).stem}{len(os.listdir(folder))}"
        link = [f"-I{ROOT}/include", f"-L{library}", f"-Wl,-rpath,{library}", f"-l:{NAME}"]
        done = run(gcc, *STRICT, *flags, ROOT / source, "-o", program, *link, "-pthread")
        assert done.returncode == 0, done.stderr
        return program

    return build


@pytest.fixture(scope="session")
def sanitized(build: Callable[..., Path]) -> Run:
    """Runs a program of tests/c under the sanitizers, which first prove that they would tell."""

    def sanitized(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
        program = build(f"tests/c/{name}.c", *SANITIZE)
        assert b"__asan_init" in program.read_bytes()
        return run(program, *arguments)

    lost = sanitized("leak", "lose")
    assert lost.returncode != 0
    assert "LeakSanitizer: detected memory leaks" in lost.stderr, lost.stderr
    assert "10 object(s)" in lost.stderr and "in lose_some" in lost.stderr, lost.stderr
    kept = sanitized("leak")
    assert (kept.returncode, kept.stderr) == (0, "")
    return sanitized


def keeps_its_promises(name: str, done: subprocess.CompletedProcess[str], skips: int = 0) -> None:
    source = (ROOT / f"tests/c/{name}.c").read_text()
    promises = re.findall(r"^    RUN\((\w+)\);$", source, re.MULTILINE)
    kept = re.findall(r"^ok (\w+)$", done.stdout, re.MULTILINE)
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


@pytest.mark.parametrize("name", ["call", "data", "dlpack", "node", "run", "session"])
def test_promises_under_valgrind(name: str, build: Callable[..., Path]) -> None:
    """The third witness: it also sees reads of uninitialised memory, in Rust as well."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        pytest.skip("valgrind is not installed")
    command = [valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full"]
    command += ["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]
    keeps_its_promises(name, run(*command, build(f"tests/c/{name}.c", "-g")))


def test_every_function_is_exercised() -> None:
    declared = (ROOT / "include/remotemedia_cffi.h").read_text()
    code = "".join(path.read_text() for path in (ROOT / "tests/c").glob("*.[ch]"))
    functions = set(re.findall(r"\b(rm_\w+)\(", declared))
    assert functions - set(re.findall(r"\b(rm_\w+)\b", code)) == set()
    assert len(functions) > 25


def manifest_of(case: dict[str, Any]) -> bytes:
    """The ways in which a case may give its manifest; tests/test_conformance.py explains them."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "repeat" in case:
        before, what, times, after = case["repeat"]
        return (before + what * times + after).encode()
    if "build" in case:
        return "".join(
            part
            if isinstance(part, str)
            else ",".join(part[0].replace("#", f"{n:05}") for n in range(part[1]))
            for part in case["build"]
        ).encode()
    return (case["text"] if "text" in case else json.dumps(case["manifest"])).encode()


def told(error: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wanted to be known of an error; None stands for what is not there."""
    found = {key: error.get(key) for key in wanted if key != "causes"}
    if "causes" in error or "causes" in wanted:
        causes = error.get("causes", [])
        hopes = [*wanted.get("causes", []), *({} for _ in causes)]
        found["causes"] = [told(cause, hope) for cause, hope in zip(causes, hopes)]
    return found


@pytest.fixture(scope="session")
def run_case(build: Callable[..., Path]) -> Run:
    """Runs a case with the installed library: a test build knows more node types."""
    program = build("tests/c/run_case.c", *SANITIZE, library=Path(native.library_path()).parent)
    return lambda *names: run(program, *names)


@pytest.mark.parametrize("case", CASES)
def test_conformance(case: dict[str, Any], run_case: Run, tmp_path: Path) -> None:
    names = [tmp_path / "manifest.json", tmp_path / "input.json"]
    names[0].write_bytes(manifest_of(case))
    if case.get("input") is None:
        del names[1]
    else:
        names[1].write_text(json.dumps(case["input"]))
    done = run_case(*names)
    assert (done.returncode, done.stderr) == (0, "")
    got = json.loads(done.stdout)
    if "error" in case:
        assert told(got["error"], case["error"]) == case["error"]
    else:  # as texts, in which 1 is not 1.0, 0.0 is not -0.0, and keys have an order
        assert json.dumps(got) == json.dumps({"output": case["output"]})


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

    done = run(program, "README.md", "not-there.wav", cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "RM_E_JSON" in done.stderr


def test_gain_example(build: Callable[..., Path]) -> None:
    recording = ROOT / "examples/data/austen-0880.wav"
    program = build("examples/c/gain.c", *SANITIZE, "-lm")
    peaks = []
    for gain in ["0", "-6.5"]:
        done = run(program, gain, recording)
        assert (done.returncode, done.stderr) == (0, "")
        [level] = json.loads(done.stdout)
        peaks.append(level["peak_db"])
    assert peaks[0] - peaks[1] == pytest.approx(6.5, abs=1e-4)

    refused = run(program, "50", recording)
    assert refused.returncode == 1
    assert "/nodes/1/params/db" in refused.stderr and "from -100 to 40" in refused.stderr


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
