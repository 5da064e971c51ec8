"""What the documentation shows is true: its Python runs and prints what the comments say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Callable

import pytest

from remotemedia import native

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")

PAGES = ["README.md", "docs/guide.md"]


def blocks(root: Path, page: str, language: str) -> list[str]:
    text = (root / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_python(
    page: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    found = blocks(root, page, "python")
    assert found
    for code in found:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, page, "exec"), {"__name__": "documentation"})
        printed = capsys.readouterr().out.splitlines()
        expected = re.findall(r"^\s*print\(.*\)  # (.*)$", code, re.MULTILINE)
        expected = [re.sub(r"  # .*", "", line) for line in expected]
        for line in expected:
            assert line in printed, (code, printed)


def test_the_problems_that_the_guide_shows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = next(code for code in blocks(root, "docs/guide.md", "python") if "Calclator" in code)
    exec(compile(code, "guide", "exec"), {})
    printed = capsys.readouterr().out
    assert printed and f"```\n{printed}```" in (root / "docs/guide.md").read_text(encoding="utf-8")


def test_the_table_of_the_nodes(root: Path) -> None:
    text = (root / "docs/guide.md").read_text(encoding="utf-8")
    table = text.split("| node | what it does |\n|---|---|\n")[1].split("\n\n")[0]
    nodes = native.list_nodes()
    assert table.splitlines() == [f"| `{node['name']}` | {node['summary']} |" for node in nodes]


@pytest.mark.parametrize("page", PAGES)
def test_c(page: str, root: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    (code,) = blocks(root, page, "c")
    (printed,) = re.findall(r"puts\(.*\); /\* (.*) \*/", code)
    source = tmp_path / "my.c"
    source.write_text(code)
    flags = subprocess.check_output(
        [sys.executable, "-m", "remotemedia", "config", "--cflags", "--libs"],
        text=True,
        cwd=tmp_path,
    ).split()
    warn = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    program = str(tmp_path / "my")
    subprocess.run([tool("gcc"), *warn, str(source), *flags, "-o", program], check=True)
    assert subprocess.check_output([program], text=True) == f"{printed}\n"


def test_the_table_of_the_readme(root: Path, tmp_path: Path) -> None:
    printed = subprocess.check_output(
        [sys.executable, str(root / "examples" / "speech" / "run.py")], text=True, cwd=tmp_path
    )
    assert printed in (root / "README.md").read_text(encoding="utf-8")


def test_examples_in_python(root: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return subprocess.check_output([sys.executable, *arguments], text=True, cwd=tmp_path)

    assert run(str(root / "examples/arithmetic/run.py")) == "[6, 7, 8] native\n"
    (tmp_path / "my.json").write_text(run(str(root / "examples/speech/pipeline.py")))
    clip = str(root / "examples/data/austen-0880.wav")
    made = native.run_manifest(tmp_path / "my.json", [clip])
    written = native.run_manifest(root / "examples/speech/speech.json", [clip])
    assert made == written


def test_the_readme_names_files_that_exist(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert os.path.exists(root / target), target


def test_no_path_of_this_machine(root: Path) -> None:
    # The wheel and the documentation are for others.
    for page in [*PAGES, "docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"]:
        text = (root / page).read_text(encoding="utf-8")
        assert str(root) not in text and str(Path.home()) + "/" not in text, page
