"""The audio nodes against independent libraries: soundfile, soxr, scipy and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest

from remotemedia import Audio, native

np = pytest.importorskip("numpy")

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ["austen-0870.wav", "austen-0880.wav", "austen-0920.wav"]

pytestmark = pytest.mark.skipif(not native.is_available(), reason="needs the native library")


def run(node_type: str, items: list[Any], **params: Any) -> list[Any]:
    node = {"id": "n", "node_type": node_type, "params": params}
    return list(native.run_manifest({"version": "v1", "nodes": [node]}, items))


def one(node_type: str, item: Any, **params: Any) -> Any:
    (result,) = run(node_type, [item], **params)
    return result


def clip(name: str) -> Path:
    return ROOT / "examples" / "data" / name


def fixture(name: str) -> Path:
    return ROOT / "tests" / "data" / name


def speech(name: str) -> Any:
    """The samples of a clip as int16, read by the standard library."""
    import wave

    with wave.open(str(clip(name))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)


def sine(frequency: float, rate: int, frames: int) -> Any:
    return 0.9 * np.sin(2 * np.pi * frequency / rate * np.arange(frames))


def noise(frames: int, dbfs: float, seed: int = 1) -> Any:
    samples = np.random.default_rng(seed).standard_normal(frames) * 10 ** (dbfs / 20)
    return samples.astype(np.float32)


def db(signal: Any, error: Any) -> float:
    """How far the error is below the signal."""
    error = np.asarray(error, dtype=float)
    return float(10 * np.log10(np.mean(np.square(signal)) / max(np.mean(error**2), 1e-30)))


# --- AudioDecode ---


@pytest.mark.parametrize("name", [*CLIPS, "pcm24.wav", "speech.flac"])
def test_lossless_formats_decode_as_soundfile_has_them(name: str) -> None:
    sf = pytest.importorskip("soundfile")
    path = clip(name) if name in CLIPS else fixture(name)
    expected, rate = sf.read(path, dtype="float32")
    for item in (str(path), path.read_bytes()):
        audio = one("AudioDecode", item)
        assert isinstance(audio, Audio)
        assert (audio.sample_rate, audio.pts) == (rate, 0.0)
        assert audio.samples.dtype == np.float32
        np.testing.assert_array_equal(audio.samples, expected)


@pytest.mark.parametrize("name", ["speech.mp3", "speech-stereo.mp3", "speech.ogg"])
def test_lossy_formats_decode_as_soundfile_has_them(name: str) -> None:
    sf = pytest.importorskip("soundfile")
    if name.endswith("mp3") and "MP3" not in sf.available_formats():
        pytest.skip("this libsndfile does not read MP3")
    expected, rate = sf.read(fixture(name), dtype="float32")
    audio = one("AudioDecode", str(fixture(name)))
    assert audio.sample_rate == rate
    assert audio.samples.shape == expected.shape
    assert np.abs(audio.samples - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("format", "subtype", "channels"),
    [
        ("WAV", "PCM_U8", 1),
        ("WAV", "PCM_16", 2),
        ("WAV", "PCM_24", 6),
        ("WAV", "PCM_32", 1),
        ("WAV", "FLOAT", 2),
        ("WAV", "DOUBLE", 1),
        ("WAV", "ALAW", 1),
        ("WAV", "ULAW", 2),
        ("WAVEX", "PCM_16", 4),
        ("FLAC", "PCM_16", 2),
        ("FLAC", "PCM_24", 8),
        ("FLAC", "PCM_S8", 1),
    ],
)
def test_every_sample_type_is_read_back(
    tmp_path: Path, format: str, subtype: str, channels: int
) -> None:
    sf = pytest.importorskip("soundfile")
    samples = noise(5_000 * channels, -20).reshape(-1, channels)
    path = tmp_path / "noise"
    sf.write(path, samples, 22_050, format=format, subtype=subtype)
    expected, _ = sf.read(path, dtype="float32")
    audio = one("AudioDecode", str(path))
    assert audio.sample_rate == 22_050
    np.testing.assert_array_equal(audio.samples, expected)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("frames", [1, 1_000, 44_100, 50_001])
def test_lossy_lengths_are_exact(tmp_path: Path, rate: int, frames: int) -> None:
    sf = pytest.importorskip("soundfile")
    samples = sine(440, rate, frames).astype(np.float32)
    for format, subtype in [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]:
        if format not in sf.available_formats():
            continue
        path = tmp_path / f"{format}-{frames}"
        sf.write(path, samples, rate, format=format, subtype=subtype)
        expected, _ = sf.read(path, dtype="float32")
        audio = one("AudioDecode", str(path))
        assert audio.samples.shape == expected.shape, format
        assert np.abs(audio.samples - expected).max() < 1e-3, format


# --- AudioResample ---


@pytest.mark.parametrize(
    ("source", "target"),
    [(44_100, 16_000), (48_000, 16_000), (16_000, 44_100), (8_000, 48_000), (44_100, 47_999)],
)
def test_resampling_is_that_of_the_whole_spectrum(source: int, target: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    # Noise below the edge of every passband in play, so that only the samples differ; and faded at
    # both ends, because scipy takes it for periodic.
    frames = 2 * source
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(frames))
    spectrum[np.fft.rfftfreq(frames, 1 / source) > 0.4 * min(source, target)] = 0
    samples = np.fft.irfft(spectrum, frames)
    fade = np.minimum(1, np.minimum(np.arange(frames), np.arange(frames)[::-1]) / (0.1 * source))
    samples = (0.1 * samples / samples.std() * np.sin(np.pi / 2 * fade) ** 2).astype(np.float32)

    result = one("AudioResample", Audio(samples, source), target_rate=target).samples
    expected = signal.resample(samples.astype(np.float64), 2 * target)
    assert result.shape == expected.shape
    assert db(expected, result - expected) > 120


@pytest.mark.parametrize("frames", [0, 1, 1_000, 44_100, 44_101])
@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (16_000, 44_100)])
def test_resampled_speech_agrees_with_soxr(source: int, target: int, frames: int) -> None:
    soxr = pytest.importorskip("soxr")
    samples = speech("austen-0870.wav").astype(np.float32) / 32_768
    samples = soxr.resample(samples, 16_000, source)[:frames]
    result = one("AudioResample", Audio(samples, source), target_rate=target).samples
    assert result.shape == (-(-frames * target // source),)
    if frames > 1_000:
        expected = soxr.resample(samples.astype(np.float64), source, target, quality="VHQ")
        both = min(len(result), len(expected))
        assert abs(len(result) - len(expected)) <= 1
        # The two filters end at slightly different frequencies.
        assert db(expected[:both], result[:both] - expected[:both]) > 40


@pytest.mark.parametrize("frequency", [100.3, 997.3, 6543.2])
def test_a_resampled_sine_is_the_ideal_sine(frequency: float) -> None:
    item = Audio(sine(frequency, 44_100, 441_000).astype(np.float32), 44_100)
    result = one("AudioResample", item, target_rate=16_000, quality="high").samples
    assert result.shape == (160_000,)
    ideal = sine(frequency, 16_000, 160_000)
    middle = slice(2_000, -2_000)
    assert db(ideal[middle], result[middle] - ideal[middle]) > 140


def test_a_resampled_spectrum_has_no_aliases() -> None:
    signal = pytest.importorskip("scipy.signal")
    frames = 44_100 * 4
    sweep = signal.chirp(np.arange(frames) / 44_100, 8_200, 4, 21_900).astype(np.float32)
    item = Audio(np.ascontiguousarray(0.9 * sweep), 44_100)
    # A sweep has energy outside its range at its ends only.
    for quality, least in [("low", 60), ("medium", 110), ("high", 120)]:
        result = one("AudioResample", item, target_rate=16_000, quality=quality).samples
        assert db(0.9 * sweep, result[4_000:-4_000]) > least, quality


def test_resampling_keeps_channels_apart_and_mixes_on_request() -> None:
    both = np.stack([sine(440, 48_000, 48_000), sine(1_000, 48_000, 48_000)], axis=1)
    both = np.ascontiguousarray(both, dtype=np.float32)
    result = one("AudioResample", Audio(both, 48_000, 1.5), target_rate=16_000)
    assert result.samples.shape == (16_000, 2)
    assert result.pts == 1.5
    for channel in range(2):
        alone = Audio(np.ascontiguousarray(both[:, channel]), 48_000)
        alone = one("AudioResample", alone, target_rate=16_000).samples
        np.testing.assert_array_equal(result.samples[:, channel], alone)
    mixed = one("AudioResample", Audio(both, 48_000), target_rate=16_000, mono=True).samples
    np.testing.assert_allclose(mixed, result.samples.mean(axis=1), atol=1e-6)


# --- AudioLevel ---


@pytest.mark.parametrize("name", CLIPS)
def test_levels_are_what_numpy_computes(name: str) -> None:
    samples = speech(name)
    scaled = samples.astype(np.float64) / 32_768
    rms = 20 * np.log10(np.sqrt(np.mean(scaled**2)))
    for item in (samples, scaled.astype(np.float32), np.stack([samples, samples], axis=1)):
        level = one("AudioLevel", Audio(item, 16_000))
        assert list(level) == ["rms_db", "peak_db", "is_low_volume", "is_silence"]
        assert level["rms_db"] == pytest.approx(rms, abs=1e-6)
        assert level["peak_db"] == pytest.approx(20 * np.log10(np.abs(scaled).max()), abs=1e-6)
        assert level["is_low_volume"] is bool(rms < -20)
        assert level["is_silence"] is False


def test_digital_silence_is_infinitely_quiet() -> None:
    for frames in (0, 100):
        level = one("AudioLevel", Audio(np.zeros(frames, np.float32), 8_000))
        assert level == {
            "rms_db": -np.inf,
            "peak_db": -np.inf,
            "is_low_volume": True,
            "is_silence": True,
        }


# --- AudioChunker ---


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("channels", [None, 1, 2])
def test_chunks_put_together_are_the_recording(dtype: str, channels: Optional[int]) -> None:
    samples = np.arange(1_300 * (channels or 1)).astype(dtype)
    samples = samples if channels is None else samples.reshape(-1, channels)
    chunks = run("AudioChunker", [Audio(samples, 16_000, 2.0)], chunk_size=512)
    assert [chunk.samples.shape[0] for chunk in chunks] == [512, 512, 276]
    assert all(chunk.samples.dtype == samples.dtype for chunk in chunks)
    assert all(chunk.sample_rate == 16_000 for chunk in chunks)
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), samples)
    assert [chunk.pts for chunk in chunks] == pytest.approx([2.0, 2.032, 2.064])


# --- VoiceActivity ---


def segments(samples: Any, rate: int = 16_000, **params: Any) -> list[tuple[float, float]]:
    result = one("VoiceActivity", Audio(samples, rate), **params)
    found = [(segment["start"], segment["end"]) for segment in result["segments"]]
    total = sum(end - start for start, end in found)
    assert result["duration"] == pytest.approx(samples.shape[0] / rate)
    assert result["speech_duration"] == pytest.approx(total)
    previous = 0.0
    for start, end in found:
        assert previous <= start < end <= result["duration"]
        previous = end
    return found


def loud(samples: Any) -> tuple[float, float]:
    """From when to when a clip is loud: within 25 dB of its loudest 20 ms."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320).astype(float)
    power = (frames**2).mean(axis=1)
    (at,) = np.nonzero(power > power.max() * 10**-2.5)
    return at[0] * 0.02, (at[-1] + 1) * 0.02


@pytest.mark.parametrize("name", CLIPS)
def test_speech_is_found_from_its_first_to_its_last_loud_sound(name: str) -> None:
    samples = speech(name)
    start, end = loud(samples)
    found = segments(samples)
    assert found[0][0] == pytest.approx(start, abs=0.25)
    assert found[-1][1] == pytest.approx(end, abs=0.35)
    assert sum(b - a for a, b in found) > 0.85 * (end - start)


@pytest.mark.parametrize("dbfs", [-90, -60, -40])
def test_silence_and_quiet_noise_have_no_segments(dbfs: float) -> None:
    assert segments(np.zeros(80_000, np.float32)) == []
    white = noise(160_000, dbfs)
    assert segments(white) == []
    spectrum = np.fft.rfft(white) / np.maximum(1, np.arange(80_001)) ** 0.5
    pink = np.fft.irfft(spectrum)
    pink = (pink / pink.std() * 10 ** (dbfs / 20)).astype(np.float32)
    assert segments(pink) == []


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dbfs", [None, -60])
def test_appended_silence_is_left_out(name: str, dbfs: Optional[float]) -> None:
    samples = speech(name).astype(np.float32) / 32_768
    pause = np.zeros(48_000, np.float32) if dbfs is None else noise(48_000, dbfs)
    seconds = len(samples) / 16_000
    alone = segments(samples)
    found = segments(np.concatenate([pause, samples, pause]))
    assert 2.9 < found[0][0] < 3 + alone[0][0] + 0.15
    assert 3 + alone[-1][1] - 0.15 < found[-1][1] < 3 + seconds + 0.25


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_the_audio_of_a_segment_is_the_recordings_own(rate: int) -> None:
    soxr = pytest.importorskip("soxr")
    samples = soxr.resample(speech("austen-0880.wav").astype(np.float32) / 32_768, 16_000, rate)
    stereo = np.ascontiguousarray(np.stack([samples, 0.5 * samples], axis=1), dtype=np.float32)
    result = one("VoiceActivity", Audio(stereo, rate, 10.0), include_audio=True)
    assert result["segments"]
    for segment in result["segments"]:
        start, end = round(segment["start"] * rate), round(segment["end"] * rate)
        audio = segment["audio"]
        assert audio.sample_rate == rate
        assert audio.pts == pytest.approx(10 + segment["start"], abs=1e-6)
        np.testing.assert_array_equal(audio.samples, stereo[start:end])


def test_the_same_recording_gives_the_same_segments() -> None:
    a, b = (Audio(speech(name), 16_000) for name in CLIPS[:2])
    results = run("VoiceActivity", [a, b, a])
    assert results[0] == results[2] == one("VoiceActivity", a)
    assert results[1] == one("VoiceActivity", b)
