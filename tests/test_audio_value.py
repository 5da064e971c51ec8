"""Audio as a value: what it lets in, and that it stays good."""

from __future__ import annotations

import array
import copy
import pickle
from typing import Any

import pytest

from remotemedia import Audio

SAMPLES = array.array("f", [0.0] * 8)


@pytest.mark.parametrize("rate", [16_000, 16_000.0])
@pytest.mark.parametrize("pts", [None, 0, -1.5, 2**62 // 10**6])
def test_good_ones(rate: float, pts: Any) -> None:
    audio = Audio(SAMPLES, rate, pts)
    assert type(audio.sample_rate) is int
    assert (audio.sample_rate, audio.pts) == (16_000, pts)
    assert pickle.loads(pickle.dumps(audio)) == copy.deepcopy(audio) == audio


def test_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    audio = Audio(SAMPLES, numpy.int64(8000), numpy.float64(0.5))
    assert (type(audio.sample_rate), type(audio.pts)) == (int, float)
    assert Audio(SAMPLES, numpy.float64(8000)).sample_rate == 8000


@pytest.mark.parametrize("rate", [0, -1, 768_001, 1e300, 44_100.5, True, "8000", None])
def test_bad_rates(rate: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="sample_rate is"):
        Audio(SAMPLES, rate)


@pytest.mark.parametrize(
    "pts", [float("nan"), float("inf"), 1e13, -(2**62), 10**400, True, "0", [0]]
)
def test_bad_times(pts: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="pts is"):
        Audio(SAMPLES, 8000, pts)


@pytest.mark.parametrize("name", ["sample_rate", "pts"])
def test_it_stays_good(name: str) -> None:
    audio: Any = Audio(SAMPLES, 8000, 0.5)
    with pytest.raises(AttributeError):
        setattr(audio, name, "x")
    assert (audio.sample_rate, audio.pts) == (8000, 0.5)
