"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remotemedia import native
from remotemedia.cli import main

pytestmark = pytest.mark.skipif(not native.is_available(), reason="the native library is missing")

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def speech(root: Path) -> str:
    return str(root / "examples" / "speech" / "speech.json")


@pytest.fixture
def arithmetic(root: Path) -> str:
    return str(root / "examples" / "arithmetic" / "arithmetic.json")


@pytest.fixture
def clip(root: Path) -> str:
    return str(root / "examples" / "data" / "austen-0880.wav")


def written(tmp_path: Path, *nodes: dict[str, Any]) -> str:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"version": "v1", "nodes": list(nodes)}))
    return str(path)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_items(arithmetic: str, capsys: Captured) -> None:
    assert main(["run", arithmetic, "--json", "[1, 2, 3]"]) == 0
    assert lines(capsys.readouterr().out) == [{"node": "pass2", "value": n} for n in (6, 7, 8)]


def test_run_stdin_and_metrics(arithmetic: str) -> None:
    command = [sys.executable, "-m", "remotemedia", "run", arithmetic, "--json", "-", "--metrics"]
    done = subprocess.run(command, input="[1]", capture_output=True, text=True, check=True)
    assert lines(done.stdout) == [{"node": "pass2", "value": 6}]
    assert json.loads(done.stderr)["nodes"]["calc"]["items_in"] == 1


def test_run_files_to_a_file(speech: str, clip: str, tmp_path: Path, capsys: Captured) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["run", speech, clip, clip, "--output", str(output)]) == 0
    assert capsys.readouterr() == ("", "")
    found = lines(output.read_text())
    assert [line["node"] for line in found] == ["speech", "speech", "level", "level"]
    assert found[0]["value"]["segments"]


def test_audio_goes_to_wav_files(clip: str, tmp_path: Path, capsys: Captured) -> None:
    soundfile = pytest.importorskip("soundfile")
    manifest = written(tmp_path, {"id": "de/code", "node_type": "AudioDecode"})
    folder = tmp_path / "sound"
    assert main(["run", manifest, clip, "--audio", str(folder)]) == 0
    (line,) = lines(capsys.readouterr().out)
    about = line["value"]
    assert about == {
        "file": str(folder / "de_code_0_0.wav"),
        "frames": 47840,
        "channels": 1,
        "sample_rate": 16000,
    }
    ours, rate = soundfile.read(about["file"], dtype="float32")
    theirs, _ = soundfile.read(clip, dtype="float32")
    assert rate == 16000 and (ours == theirs).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_wav_files_hold_every_sample(dtype: str, channels: int, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    soundfile = pytest.importorskip("soundfile")
    from remotemedia import Audio
    from remotemedia.wav import write_wav

    samples = numpy.arange(-3000, 3000).reshape(-1, channels) if channels > 1 else numpy.arange(999)
    samples = samples.astype(dtype) / (1 if dtype == "int16" else 4000)
    samples = samples.astype(dtype)
    write_wav(tmp_path / "x.wav", Audio(samples, 22_050))
    back, rate = soundfile.read(tmp_path / "x.wav", dtype=dtype)
    assert rate == 22_050 and numpy.array_equal(back, samples)
    assert (
        soundfile.info(tmp_path / "x.wav").subtype == {"int16": "PCM_16", "float32": "FLOAT"}[dtype]
    )


def test_values_that_json_lacks(tmp_path: Path, capsys: Captured) -> None:
    manifest = written(tmp_path, {"id": "n", "node_type": "PassThrough"})
    assert main(["run", manifest, "--json", "[NaN, -Infinity, 1.5]"]) == 0
    values = [line["value"] for line in lines(capsys.readouterr().out)]
    assert values == [{"$rm": "NaN"}, {"$rm": "-Infinity"}, 1.5]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--json", "[1"], 2, "not JSON"),
        (["--json", "5"], 2, "a list of items"),
        (["a.wav", "--json", "[]"], 2, "not both"),
        (["--json", '[{"a": 1, "a": 2}]'], 2, "stands twice"),
        (["--json", "[" * 100_000], 2, "not JSON"),
        (["--json", '["x"]'], 1, "node 'calc' (Calculator), item 0: "),
        (["--json", '{"nobody": [1]}'], 1, "nobody"),
        (["--json", "[1]", "--output", "/nonexistent/folder/x"], 1, "No such file"),
    ],
)
def test_run_failures(
    arguments: list[str], status: int, words: str, arithmetic: str, capsys: Captured
) -> None:
    assert main(["run", arithmetic, *arguments]) == status
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err


def test_a_manifest_that_is_missing(capsys: Captured) -> None:
    for command in ("run", "validate", "graph"):
        assert main([command, "missing.json"]) == 1
        assert "missing.json" in capsys.readouterr().err


def test_validate(speech: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["validate", speech]) == 0
    assert capsys.readouterr().out == f"{speech}: good, 4 nodes\n"
    bad = written(tmp_path, {"id": "a", "node_type": "Adt"}, {"id": "a", "node_type": "Add"})
    assert main(["validate", bad]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f'{bad}: /nodes/0/node_type: there is no node type "Adt" (did you mean "Add"?)',
        f'{bad}: /nodes/1/id: the id "a" is taken by /nodes/0 (give every node an id of its own)',
    ]


def test_nodes(capsys: Captured) -> None:
    assert main(["nodes"]) == 0
    listed = capsys.readouterr().out
    for entry in native.list_nodes():
        assert entry["name"] in listed and entry["summary"] in listed
        assert main(["nodes", entry["name"] + "Node"]) == 0
        described = capsys.readouterr().out
        for name in entry["params"]["properties"]:
            assert name in described
        assert "null" not in described or "null" in json.dumps(entry)
    assert main(["nodes", "audioresample"]) == 0
    assert "target_rate: integer from 1 to 768000, required" in capsys.readouterr().out
    assert main(["nodes", "Calculatr"]) == 1
    assert 'did you mean "Calculator"?' in capsys.readouterr().err


def test_graph(arithmetic: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["graph", arithmetic]) == 0
    assert capsys.readouterr().out == (
        "flowchart LR\n"
        '    n0["pass1<br/>PassThrough"]\n'
        '    n1["calc<br/>Calculator<br/>operation = add<br/>operand = 5"]\n'
        '    n2["pass2<br/>PassThrough"]\n'
        "    n0 --> n1\n"
        "    n1 --> n2\n"
    )
    odd = written(tmp_path, {"id": 'a"<b>\\', "node_type": "PassThrough"})
    assert main(["graph", odd, "--format", "dot"]) == 0
    assert r'n0 [label="a\"<b>\\\nPassThrough"]' in capsys.readouterr().out


def test_doctor(capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert native.library_path() in out and "self-test good" in " ".join(out.split())


def test_doctor_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(native, "_library", None)
    monkeypatch.setenv("REMOTEMEDIA_LIBRARY", "/nonexistent/lib.so")
    assert main(["doctor"]) == 1
    assert "REMOTEMEDIA_LIBRARY" in capsys.readouterr().out
    # What needs no library goes on working.
    assert main(["nodes", "Calculator"]) == 0


def test_config(capsys: Captured) -> None:
    assert main(["config", "--cflags"]) == 0
    include = capsys.readouterr().out.strip()
    assert Path(include[2:], "remotemedia.h").is_file()
    assert main(["config"]) == 0
    both = capsys.readouterr().out
    assert include in both and "-l:libremotemedia" in both


def test_options_stand_anywhere(speech: str, clip: str, tmp_path: Path) -> None:
    for order in (
        [speech, clip, "--output", "x", "--timeout", "60"],
        [speech, "--output", "x", clip, "--timeout", "60"],
        ["--timeout", "60", "--output", "x", speech, clip],
    ):
        arguments = [str(tmp_path / "x") if word == "x" else word for word in order]
        assert main(["run", *arguments]) == 0
        assert len(lines((tmp_path / "x").read_text())) == 2


def test_no_audio_is_overwritten(clip: str, tmp_path: Path, capsys: Captured) -> None:
    decode, one = {"id": "d", "node_type": "AudioDecode"}, {"target_rate": 8000}
    sinks = [{"id": name, "node_type": "AudioResample", "params": one} for name in ("a b", "a_b")]
    path = tmp_path / "two.json"
    edges = [{"from": "d", "to": name} for name in ("a b", "a_b")]
    path.write_text(json.dumps({"version": "v1", "nodes": [decode, *sinks], "connections": edges}))
    folder = tmp_path / "sound"
    assert main(["run", str(path), clip, clip, "--audio", str(folder)]) == 0
    files = {line["value"]["file"] for line in lines(capsys.readouterr().out)}
    assert len(files) == len(list(folder.iterdir())) == 4
    assert main(["run", str(path), clip, "--audio", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_damage_is_told(root: Path, clip: str, tmp_path: Path, capfd: Captured) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(Path(clip).read_bytes()[:20_000])
    manifest = written(tmp_path, {"id": "d", "node_type": "AudioDecode"})
    command = [sys.executable, "-m", "remotemedia", "run", manifest, str(cut)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cut.wav" in done.stderr and "missing" in done.stderr


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("remotemedia 0.")


def test_wrong_usage(capsys: Captured) -> None:
    for arguments in ([], ["dance"], ["run"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: remotemedia" in capsys.readouterr().err
