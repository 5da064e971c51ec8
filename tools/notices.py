"""Writes THIRD-PARTY-NOTICES and holds what the library is built from to deny.toml.

    python tools/notices.py            write the file
    python tools/notices.py --check    compare it instead

Reads what cargo has already fetched (`cargo fetch --locked`): needs no network, and no cargo-deny.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
NOTICES = ROOT / "THIRD-PARTY-NOTICES"
RULE = "=" * 80
INTRODUCTION = """\
RemoteMedia is licensed under MIT OR Apache-2.0. Its native library contains the
packages listed here, each under its own licence. Where a package offers a choice,
RemoteMedia takes the one whose text stands below. The sources of all of them,
unmodified, are to be had under the addresses given.
"""


def cargo(*arguments: str) -> str:
    command = [os.environ.get("CARGO", "cargo"), *arguments, "--locked", "--offline"]
    return subprocess.run(
        command, cwd=ROOT / "rust-core", stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def packages() -> list[dict[str, Any]]:
    """Every package of the workspace's lock file that is not the workspace's own."""
    metadata = json.loads(cargo("metadata", "--format-version", "1"))
    found = [package for package in metadata["packages"] if package["source"]]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def shipped() -> set[tuple[str, str]]:
    """Name and version of what is linked into the library, on any platform."""
    tree = cargo(
        *("tree", "--package", "remotemedia-capi", "--edges", "normal,no-proc-macro"),
        *("--target", "all", "--prefix", "none", "--no-dedupe", "--format", "{p}"),
    )
    pairs = (line.split()[:2] for line in tree.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version in pairs}


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether an SPDX expression can be met with the given licences."""

    def truth(match: re.Match[str]) -> str:
        word = match[0]
        return word.lower() if word in {"AND", "OR"} else str(word in licences)

    terms = re.sub(r"[\w.+-]+( WITH [\w.-]+)?", truth, expression.replace("/", " OR "))
    return bool(eval(terms, {"__builtins__": {}}))  # only True, False, and, or, ()


def problems(found: list[dict[str, Any]]) -> list[str]:
    """What deny.toml does not allow."""
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    licences = set(rules["licenses"]["allow"])
    banned = {ban["crate"] for ban in rules["bans"]["deny"]}
    bad = []
    for package in found:
        name = f"{package['name']} {package['version']}"
        if not allowed(package["license"] or "none", licences):
            bad.append(f"{name}: its licence, {package['license']}, is not in deny.toml")
        if package["name"] in banned:
            bad.append(f"{name}: banned in deny.toml")
        if not package["source"].startswith("registry+"):
            bad.append(f"{name}: not from the registry but from {package['source']}")
    return bad


def licence_texts(package: dict[str, Any]) -> list[str]:
    """The licence texts that apply; of a choice, the shortest usual one."""
    folder = Path(package["manifest_path"]).parent
    texts = {
        path.name.upper(): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.iterdir())
        if re.match(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE)", path.name, re.IGNORECASE)
        and path.is_file()
    }
    mit = [name for name in texts if "MIT" in name]
    if "AND" not in package["license"].split() and mit:
        texts = {name: texts[name] for name in texts if name in mit or name == "NOTICE"}
    if not texts and "Apache-2.0" in package["license"]:
        texts = {"": (ROOT / "LICENSE-APACHE").read_text(encoding="utf-8")}
    if not texts:
        raise SystemExit(f"{package['name']}: no licence text found in its package")
    return ["\n".join(map(str.rstrip, text.strip().splitlines())) for text in texts.values()]


def notices(found: list[dict[str, Any]]) -> str:
    """The whole file: the list, then every distinct text once with the packages it covers."""
    lines = [INTRODUCTION]
    by_text: dict[str, list[str]] = {}
    for package in found:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}  ({package['license']})\n    {package['repository'] or ''}".rstrip())
        for text in licence_texts(package):
            by_text.setdefault(text, []).append(name)
    for text, names in by_text.items():
        lines += ["", RULE, "\n".join(names), RULE, "", text]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    found = packages()
    bad = problems(found)
    linked = shipped()
    inside = [package for package in found if (package["name"], package["version"]) in linked]
    text = notices(inside)
    if "--check" not in arguments:
        NOTICES.write_text(text, encoding="utf-8")
    elif not NOTICES.exists() or NOTICES.read_text(encoding="utf-8") != text:
        bad.append(f"{NOTICES.name} is out of date: run `make notices`")
    if bad:
        raise SystemExit("\n".join(bad))
    print(f"{len(found)} packages, {len(inside)} of them in the library: licences allowed")


if __name__ == "__main__":
    main(sys.argv[1:])
