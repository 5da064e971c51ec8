//! The audio nodes: real speech, signals whose result is known, and everything that is refused.

use remotemedia_runtime::{
    Audio, Buffer, Code, DType, Error, Limits, Progress, Run, Runtime, Tensor, Value,
};
use serde_json::{Value as Json, json};
use std::f64::consts::PI;
use std::sync::{Arc, Mutex, Once};

type Items = Result<Vec<Value>, Error>;

fn run(node_type: &str, params: Json, items: Vec<Value>) -> Items {
    let runtime = Runtime::new(remotemedia_nodes::registry(), Limits::default());
    let manifest = json!({"version": "v1",
                          "nodes": [{"id": "n", "node_type": node_type, "params": params}]});
    let plan = runtime.load(manifest.to_string().as_bytes())?;
    match Run::new(plan, &Value::list(items), None)?.drive(None)? {
        Progress::Done(outputs) => match outputs {
            Value::List(outputs) => Ok(outputs.to_vec()),
            other => panic!("not a list: {other:?}"),
        },
        Progress::Pending => panic!("pending"),
    }
}

fn one(node_type: &str, params: Json, item: Value) -> Value {
    let mut all = run(node_type, params, vec![item]).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refused(node_type: &str, params: Json, item: Value) -> Error {
    let error = run(node_type, params, vec![item]).unwrap_err();
    assert_eq!(error.node.as_deref(), Some("n"), "{error}");
    error
}

fn sound(value: &Value) -> &Audio {
    value.as_audio().unwrap()
}

fn float(samples: &[f32], channels: i64, rate: u32) -> Value {
    let shape = [samples.len() as i64 / channels, channels];
    let shape = if channels == 1 { &shape[..1] } else { &shape[..] };
    let tensor = Tensor::from_vec(samples.to_vec(), shape);
    Value::Audio(Arc::new(Audio::new(tensor, rate, Some(0)).unwrap()))
}

fn int16(samples: &[i16], channels: i64, rate: u32) -> Value {
    let tensor = Tensor::from_vec(samples.to_vec(), &[samples.len() as i64 / channels, channels]);
    Value::Audio(Arc::new(Audio::new(tensor, rate, Some(0)).unwrap()))
}

fn sine(frequency: f64, rate: u32, frames: usize) -> Vec<f32> {
    (0..frames).map(|n| (0.9 * phase(frequency, rate, n).sin()) as f32).collect()
}

fn phase(frequency: f64, rate: u32, n: usize) -> f64 {
    2.0 * PI * frequency * n as f64 / f64::from(rate)
}

/// Reproducible noise with an RMS of `level`.
fn noise(frames: usize, level: f32) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..frames).map(|_| next() * level * 3.0_f32.sqrt()).collect()
}

fn db(ratio: f64) -> f64 {
    10.0 * ratio.log10()
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64
}

fn example(name: &str) -> String {
    format!("{}/../../examples/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> String {
    format!("{}/../../tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn bytes(content: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(Arc::new(Buffer::new(content.into())))
}

fn decoded(path: &str) -> Value {
    one("AudioDecode", json!({}), Value::text(path))
}

const CLIPS: [(&str, usize); 3] =
    [("austen-0870.wav", 113_600), ("austen-0880.wav", 47_840), ("austen-0920.wav", 96_800)];

/// The samples of a plain WAV file of 16 bits with a header of 44 bytes, read by hand.
fn pcm(name: &str) -> Vec<f32> {
    let file = std::fs::read(example(name)).unwrap();
    let samples = file[44..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
    samples.map(|s| f32::from(s) / 32_768.0).collect()
}

// --- AudioDecode ---

#[test]
fn wav_is_decoded_exactly_from_a_path_and_from_bytes() {
    for (name, frames) in CLIPS {
        let value = decoded(&example(name));
        let audio = sound(&value);
        assert_eq!((audio.sample_rate(), audio.pts_us()), (16_000, Some(0)));
        assert_eq!(audio.samples().shape(), [frames as i64]);
        assert_eq!(audio.to_f32().unwrap(), pcm(name));
        let content = std::fs::read(example(name)).unwrap();
        assert_eq!(one("AudioDecode", json!({}), bytes(content)), value);
    }
    let value = decoded(&fixture("pcm24.wav"));
    assert_eq!((sound(&value).frames(), sound(&value).sample_rate()), (7_200, 24_000));
}

#[test]
fn the_other_formats_have_the_samples_and_the_exact_length() {
    let original = &pcm("austen-0880.wav")[3_200..27_200];
    assert_eq!(sound(&decoded(&fixture("speech.flac"))).to_f32().unwrap(), original);
    // The encoders lose 10.4 and 10.7 dB at these rates; a sample of delay would leave 3.
    for name in ["speech.mp3", "speech.ogg"] {
        let value = decoded(&fixture(name));
        let samples = sound(&value).to_f32().unwrap();
        assert_eq!(samples.len(), original.len(), "{name}");
        let loss = |shift: usize| -> f64 {
            let pairs = samples[shift..].iter().zip(original);
            let wrong: Vec<f32> = pairs.map(|(a, b)| a - b).collect();
            db(power(original) / power(&wrong))
        };
        assert!(loss(0) > 10.0, "{name}: {}", loss(0));
        assert!(loss(0) > loss(1) + 3.0, "{name}: {} {}", loss(0), loss(1));
    }
    let value = decoded(&fixture("speech-stereo.mp3"));
    let audio = sound(&value);
    assert_eq!((audio.samples().shape(), audio.sample_rate()), (&[66_150, 2][..], 44_100));
    let channel = |n: usize| -> Vec<f32> {
        audio.to_f32().unwrap().iter().skip(n).step_by(2).copied().collect()
    };
    // Joint stereo at 48 kbit/s keeps the 6 dB between the channels roughly.
    let halved = db(power(&channel(0)) / power(&channel(1)));
    assert!((halved - 6.02).abs() < 1.5, "{halved}");
}

#[test]
fn what_cannot_be_decoded_is_refused_with_a_reason_and_a_remedy() {
    let wav = std::fs::read(example("austen-0880.wav")).unwrap();
    let cases: Vec<(Value, Code, &str, &str)> = vec![
        (Value::text("no/such.wav"), Code::Io, "no/such.wav: No such file", "working directory"),
        (Value::text(env!("CARGO_MANIFEST_DIR")), Code::Io, "this is a folder", "one file"),
        (Value::text("/dev/zero"), Code::Io, "/dev/zero: this is not a regular file", "one file"),
        (Value::text("a\0b"), Code::Io, "", ""),
        (bytes([]), Code::Node, "the 0 bytes: there is nothing in it", "empty"),
        (bytes(*b"this is text and no sound"), Code::Node, "not a known format", "FLAC"),
        (bytes(&wav[..30]), Code::Node, "ends before any sound", "cut off"),
        (bytes(&wav[..44]), Code::Node, "promises 47840 frames, none are there", "repair"),
        (Value::text(fixture("speech.opus")), Code::Node, "codec", "Opus"),
        (Value::Int(5), Code::Node, "takes a path or bytes, got an integer", "as text"),
    ];
    for (item, code, message, hint) in cases {
        let error = refused("AudioDecode", json!({}), item.clone());
        assert_eq!(error.code, code, "{item:?}: {error}");
        assert!(error.message.contains(message), "{item:?}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{item:?}: {error}");
    }
}

#[test]
fn a_recording_longer_than_allowed_is_refused() {
    let path = Value::text(example("austen-0880.wav"));
    assert!(run("AudioDecode", json!({"max_seconds": 3}), vec![path.clone()]).is_ok());
    let error = refused("AudioDecode", json!({"max_seconds": 2}), path);
    assert_eq!(error.code, Code::Limit);
    assert!(error.message.contains("longer than 2 seconds"), "{error}");
}

#[test]
fn headers_that_lie_do_no_harm() {
    let original = pcm("austen-0880.wav");
    let wav = std::fs::read(example("austen-0880.wav")).unwrap();
    // Written to a pipe, without knowing the length: all of it is read.
    for length in [u32::MAX, 0x7fff_f000] {
        let mut piped = wav.clone();
        piped[4..8].copy_from_slice(&length.saturating_add(36).to_le_bytes());
        piped[40..44].copy_from_slice(&length.to_le_bytes());
        assert_eq!(sound(&one("AudioDecode", json!({}), bytes(piped))).to_f32().unwrap(), original);
    }
    // Cut off, in the middle of a sample: all whole frames are read.
    let cut = one("AudioDecode", json!({}), bytes(&wav[..44 + 2 * 10_000 + 1]));
    assert_eq!(sound(&cut).to_f32().unwrap(), &original[..10_000]);
    // Rates and channels that no audio has.
    for (at, with) in [(24, [0; 4]), (24, [0xff; 4]), (22, [0, 0, 0x80, 0x3e])] {
        let mut wrong = wav.clone();
        wrong[at..at + 4].copy_from_slice(&with);
        assert_eq!(refused("AudioDecode", json!({}), bytes(wrong)).code, Code::Node);
    }
    // A sound file without sound, as written by those who had none to write.
    let mut none = wav[..44].to_vec();
    none[4..8].copy_from_slice(&36_u32.to_le_bytes());
    none[40..44].copy_from_slice(&0_u32.to_le_bytes());
    assert_eq!(sound(&one("AudioDecode", json!({}), bytes(none))).frames(), 0);
}

/// Keeps the warnings of the library, for the test below.
struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let text = record.args().to_string();
        if record.level() == log::Level::Warn && text.contains("left out") {
            self.0.lock().unwrap().push(text);
        }
    }

    fn flush(&self) {}
}

static LOG: Log = Log(Mutex::new(Vec::new()));

#[test]
fn damage_in_the_middle_costs_what_is_damaged_and_is_warned_of() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_logger(&LOG).unwrap());
    log::set_max_level(log::LevelFilter::Warn);
    let mut flac = std::fs::read(fixture("speech.flac")).unwrap();
    for byte in &mut flac[15_000..15_020] {
        *byte ^= 0x5a;
    }
    let value = one("AudioDecode", json!({}), bytes(flac));
    let samples = sound(&value).to_f32().unwrap();
    let lost = 24_000 - samples.len();
    assert!((1..=2 * 4_608).contains(&lost), "{lost}");
    let original = &pcm("austen-0880.wav")[3_200..27_200];
    assert_eq!(samples[..4_000], original[..4_000]);
    assert_eq!(samples[samples.len() - 4_000..], original[20_000..]);
    let warnings = LOG.0.lock().unwrap();
    let ours: Vec<_> = warnings.iter().filter(|w| w.contains(&format!("{lost} frames"))).collect();
    assert_eq!(ours.len(), 1, "{warnings:?}");
}

#[test]
fn garbage_never_panics_hangs_or_takes_the_memory() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for name in ["pcm24.wav", "speech.flac", "speech.mp3", "speech.ogg"] {
        let original = std::fs::read(fixture(name)).unwrap();
        for round in 0..60 {
            let mut content = original.clone();
            for _ in 0..=random() % 8 {
                let end = if round % 2 == 0 { 200 } else { content.len() };
                content[random() % end] = [0, 255, random() as u8][random() % 3];
            }
            if round % 5 == 0 {
                content.truncate(random() % original.len());
            }
            if let Err(error) = run("AudioDecode", json!({}), vec![bytes(content)]) {
                assert_eq!(error.code, Code::Node, "{name}: {error}");
                assert!(error.hint.is_some(), "{name}: {error}");
                assert!(!error.message.contains("the decoder failed"), "{name}: {error}");
            }
        }
    }
}

// --- AudioResample ---

#[test]
fn resampling_gives_exactly_the_frames_that_fit() {
    let cases = [
        (44_100, 16_000, 441_000, 160_000),
        (44_100, 16_000, 441_001, 160_001),
        (48_000, 16_000, 48_000, 16_000),
        (8_000, 48_000, 801, 4_806),
        (44_100, 47_999, 44_100, 47_999),
        (47_999, 44_100, 1_000, 919),
        (44_100, 44_101, 100, 101),
        (16_000, 22_050, 1, 2),
        (44_100, 100, 44_100, 100),
        (16_000, 8_000, 0, 0),
    ];
    for (from, to, frames, expected) in cases {
        for quality in ["low", "medium", "high"] {
            let item = float(&vec![0.25; frames], 1, from);
            let value = one("AudioResample", json!({"target_rate": to, "quality": quality}), item);
            let audio = sound(&value);
            assert_eq!(audio.samples().shape(), [expected], "{from} -> {to}, {quality}");
            assert_eq!((audio.sample_rate(), audio.samples().dtype()), (to, DType::F32));
        }
    }
}

/// How far below the sine the difference from the ideal sine is, in dB, edges left out.
fn snr(samples: &[f32], frequency: f64, rate: u32) -> f64 {
    let edge = samples.len() / 10;
    let ideal = sine(frequency, rate, samples.len());
    let pairs = samples.iter().zip(&ideal).map(|(a, b)| a - b);
    let wrong: Vec<f32> = pairs.skip(edge).take(samples.len() - 2 * edge).collect();
    db(power(&ideal) / power(&wrong))
}

#[test]
fn a_sine_stays_the_ideal_sine_in_level_and_in_time() {
    for (quality, least) in [("low", 100.0), ("medium", 140.0), ("high", 140.0)] {
        let item = float(&sine(997.3, 44_100, 88_200), 1, 44_100);
        let value = one("AudioResample", json!({"target_rate": 16_000, "quality": quality}), item);
        let snr = snr(&sound(&value).to_f32().unwrap(), 997.3, 16_000);
        assert!(snr > least, "{quality}: {snr}");
    }
    for (from, to) in [(16_000, 44_100), (8_000, 48_000), (48_000, 44_100), (44_100, 47_999)] {
        let item = float(&sine(997.3, from, from as usize), 1, from);
        let value = one("AudioResample", json!({"target_rate": to}), item);
        let snr = snr(&sound(&value).to_f32().unwrap(), 997.3, to);
        assert!(snr > 140.0, "{from} -> {to}: {snr}");
    }
    let item = float(&sine(440.0, 44_100, 441_000), 1, 44_100);
    let value = one("AudioResample", json!({"target_rate": 16_000}), item);
    let samples = sound(&value).to_f32().unwrap();
    assert_eq!(samples.len(), 160_000);
    let level = db(power(&samples) / (0.81 / 2.0));
    assert!(level.abs() < 0.001, "{level}");
}

#[test]
fn what_the_lower_rate_cannot_hold_is_gone() {
    for (quality, most) in [("low", -70.0), ("medium", -115.0), ("high", -140.0)] {
        for frequency in [8_123.7, 9_999.1, 21_111.3] {
            let item = float(&sine(frequency, 44_100, 44_100), 1, 44_100);
            let params = json!({"target_rate": 16_000, "quality": quality});
            let value = one("AudioResample", params, item);
            let samples = sound(&value).to_f32().unwrap();
            let alias = db(power(&samples[3_000..13_000]) / (0.81 / 2.0));
            assert!(alias < most, "{quality} at {frequency}: {alias}");
        }
    }
}

#[test]
fn an_impulse_stays_where_it_is() {
    for quality in ["low", "medium", "high"] {
        for (from, to, at, expected) in
            [(44_100, 16_000, 22_050, 8_000), (16_000, 48_000, 500, 1_500), (44_100, 47_999, 0, 0)]
        {
            let mut samples = vec![0.0; 44_100];
            samples[at] = 1.0;
            let params = json!({"target_rate": to, "quality": quality});
            let value = one("AudioResample", params, float(&samples, 1, from));
            let samples = sound(&value).to_f32().unwrap();
            let peak = (0..samples.len()).max_by(|&a, &b| samples[a].total_cmp(&samples[b]));
            assert_eq!(peak, Some(expected), "{from} -> {to}, {quality}");
        }
    }
}

#[test]
fn channels_are_resampled_apart_or_averaged() {
    let (left, right) = (sine(440.0, 48_000, 48_000), sine(1_000.0, 48_000, 48_000));
    let both: Vec<f32> = left.iter().zip(&right).flat_map(|(&l, &r)| [l, r]).collect();
    let stereo = float(&both, 2, 48_000);
    let value = one("AudioResample", json!({"target_rate": 16_000}), stereo.clone());
    assert_eq!(sound(&value).samples().shape(), [16_000, 2]);
    let samples = sound(&value).to_f32().unwrap();
    for (channel, (samples_in, frequency)) in [(&left, 440.0), (&right, 1_000.0)].iter().enumerate()
    {
        let out: Vec<f32> = samples.iter().skip(channel).step_by(2).copied().collect();
        assert!(snr(&out, *frequency, 16_000) > 140.0);
        let alone = float(samples_in, 1, 48_000);
        let alone = one("AudioResample", json!({"target_rate": 16_000}), alone);
        assert_eq!(sound(&alone).to_f32().unwrap(), out);
    }
    let mixed = one("AudioResample", json!({"target_rate": 16_000, "mono": true}), stereo.clone());
    assert_eq!(sound(&mixed).samples().shape(), [16_000]);
    for (n, &sample) in sound(&mixed).to_f32().unwrap().iter().enumerate() {
        assert!((sample - (samples[2 * n] + samples[2 * n + 1]) / 2.0).abs() < 1e-6);
    }
    let mixed = one("AudioResample", json!({"target_rate": 48_000, "mono": true}), stereo);
    assert_eq!(sound(&mixed).to_f32().unwrap()[7], (both[14] + both[15]) / 2.0);
}

#[test]
fn audio_that_fits_is_handed_on_uncopied() {
    for item in [float(&[0.5, 0.25], 1, 16_000), int16(&[1, 2, 3], 1, 16_000)] {
        let value =
            one("AudioResample", json!({"target_rate": 16_000, "mono": true}), item.clone());
        assert!(Arc::ptr_eq(value.as_audio().unwrap(), item.as_audio().unwrap()));
    }
    let item = int16(&[1, 2, 3, 4], 2, 16_000);
    let value = one("AudioResample", json!({"target_rate": 16_000}), item.clone());
    assert!(Arc::ptr_eq(value.as_audio().unwrap(), item.as_audio().unwrap()));
}

#[test]
fn int16_is_resampled_as_its_float32_equal() {
    let samples: Vec<i16> = (0..8_000).map(|n| (n * 37 % 20_000 - 10_000) as i16).collect();
    let floats: Vec<f32> = samples.iter().map(|&s| f32::from(s) / 32_768.0).collect();
    let params = json!({"target_rate": 11_025});
    let a = one("AudioResample", params.clone(), int16(&samples, 2, 8_000));
    assert_eq!(a, one("AudioResample", params, float(&floats, 2, 8_000)));
}

#[test]
fn each_item_is_a_recording_of_its_own() {
    let (a, b) = (float(&noise(5_000, 0.3), 1, 44_100), float(&noise(3_000, 0.2), 1, 8_000));
    for (node, params) in [
        ("AudioResample", json!({"target_rate": 16_000})),
        ("AudioLevel", json!({})),
        ("AudioChunker", json!({"chunk_size": 5_000})),
        ("VoiceActivity", json!({"threshold": 0.1})),
    ] {
        let all = run(node, params, vec![a.clone(), b.clone(), a.clone(), a.clone()]).unwrap();
        assert_eq!(all.len(), 4, "{node}");
        assert!(all[0] == all[2] && all[0] == all[3] && all[0] != all[1], "{node}");
    }
}

#[test]
fn absurd_rates_are_refused_at_once() {
    for (from, to) in [(44_100, 1), (1, 48_000), (768_000, 700)] {
        let item = float(&[0.0; 10], 1, from);
        let error = refused("AudioResample", json!({"target_rate": to}), item);
        assert_eq!(error.code, Code::Unsupported, "{error}");
        assert!(error.hint.as_deref().unwrap().contains("two steps"));
    }
    for to in [json!(0), json!(768_001), json!(16e3 + 0.5), json!("16k")] {
        let item = float(&[0.0; 10], 1, 8_000);
        let error = run("AudioResample", json!({"target_rate": to}), vec![item]).unwrap_err();
        assert_eq!(error.code, Code::Manifest, "{error}");
    }
}

#[test]
fn samples_that_are_no_numbers_are_refused_with_their_place() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let item = float(&[0.0, 0.0, 0.0, wrong], 2, 8_000);
        for (node, params) in [
            ("AudioResample", json!({"target_rate": 16_000})),
            ("AudioLevel", json!({})),
            ("VoiceActivity", json!({})),
        ] {
            let error = refused(node, params, item.clone());
            assert_eq!(error.code, Code::Node);
            assert!(error.message.ends_with("at frame 1, channel 1"), "{error}");
        }
    }
}

#[test]
fn every_node_says_what_it_takes() {
    for node in ["AudioResample", "AudioLevel", "AudioChunker", "VoiceActivity"] {
        let params = if node == "AudioResample" { json!({"target_rate": 1}) } else { json!({}) };
        let error = refused(node, params, Value::text("speech.wav"));
        assert_eq!(error.message, "takes audio, got text");
    }
}

// --- AudioLevel ---

fn level(item: Value) -> (f64, f64, bool, bool) {
    let Value::Map(map) = one("AudioLevel", json!({}), item) else { panic!("not a map") };
    let keys: Vec<_> = map.keys().map(|key| &**key).collect();
    assert_eq!(keys, ["rms_db", "peak_db", "is_low_volume", "is_silence"]);
    match (&map["rms_db"], &map["peak_db"], &map["is_low_volume"], &map["is_silence"]) {
        (Value::Float(rms), Value::Float(peak), Value::Bool(low), Value::Bool(silent)) => {
            (*rms, *peak, *low, *silent)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn levels_of_known_signals() {
    let none = f64::NEG_INFINITY;
    let near = |a: f64, b: f64| a == b || (a - b).abs() < 0.01;
    let cases = [
        (float(&[1.0, -1.0], 1, 8_000), (0.0, 0.0, false, false)),
        (float(&sine(100.0, 8_000, 8_000), 1, 8_000), (-3.93, -0.92, false, false)),
        (int16(&[-32_768, 0], 2, 8_000), (-3.01, 0.0, false, false)),
        (float(&[0.05; 64], 1, 8_000), (-26.02, -26.02, true, false)),
        (float(&[0.0005; 64], 1, 8_000), (-66.02, -66.02, true, true)),
        (float(&[0.0; 64], 1, 8_000), (none, none, true, true)),
        (float(&[], 1, 8_000), (none, none, true, true)),
        (float(&[10.0], 1, 8_000), (20.0, 20.0, false, false)),
    ];
    for (item, (rms, peak, low, silent)) in cases {
        let got = level(item);
        assert!(near(got.0, rms) && near(got.1, peak), "{got:?}");
        assert_eq!((got.2, got.3), (low, silent), "{got:?}");
    }
    for (params, low) in [(-0.1, true), (-6.1, false)] {
        let params = json!({"low_volume_threshold_db": params});
        let Value::Map(map) = one("AudioLevel", params, float(&[0.5], 1, 8_000)) else { panic!() };
        assert_eq!(map["is_low_volume"], Value::Bool(low));
    }
}

// --- AudioChunker ---

#[test]
fn chunks_keep_everything_and_know_their_time() {
    let samples: Vec<i16> = (0..2_600).collect();
    let tensor = Tensor::from_vec(samples, &[1_300, 2]);
    let item = Value::Audio(Arc::new(Audio::new(tensor, 44_100, Some(2_000_000)).unwrap()));
    let chunks = run("AudioChunker", json!({}), vec![item]).unwrap();
    let mut next = 0;
    let expected = [(512, 2_000_000), (512, 2_011_610), (276, 2_023_220)];
    assert_eq!(chunks.len(), 3);
    for (chunk, (frames, pts)) in chunks.iter().zip(expected) {
        let audio = sound(chunk);
        assert_eq!(audio.samples().shape(), [frames, 2]);
        assert_eq!((audio.sample_rate(), audio.pts_us()), (44_100, Some(pts)));
        for &sample in audio.samples().elements::<i16>().unwrap() {
            assert_eq!(sample, next);
            next += 1;
        }
    }
    assert_eq!(next, 2_600);

    let item = float(&[0.5; 10], 1, 8_000);
    let whole = one("AudioChunker", json!({"chunk_size": 10}), item.clone());
    assert!(Arc::ptr_eq(whole.as_audio().unwrap(), item.as_audio().unwrap()));
    let fives = run("AudioChunker", json!({"chunk_size": 5}), vec![item]).unwrap();
    assert_eq!(fives.iter().map(|c| sound(c).frames()).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(run("AudioChunker", json!({}), vec![float(&[], 1, 8_000)]).unwrap(), []);
}

// --- VoiceActivity ---

type Segments = Vec<(f64, f64)>;

fn speech(params: Json, item: Value) -> (f64, f64, Segments) {
    let Value::Map(map) = one("VoiceActivity", params, item) else { panic!("not a map") };
    let Value::List(all) = &map["segments"] else { panic!("not a list") };
    let number = |value: &Value| match value {
        Value::Float(number) => *number,
        other => panic!("{other:?}"),
    };
    let segments = all.iter().map(|segment| match segment {
        Value::Map(map) => (number(&map["start"]), number(&map["end"])),
        other => panic!("{other:?}"),
    });
    (number(&map["duration"]), number(&map["speech_duration"]), segments.collect())
}

/// The second in which each clip begins to speak and ceases, by ear and by its level.
const SPOKEN: [(f64, f64); 3] = [(0.25, 6.8), (0.25, 2.8), (0.25, 5.85)];

#[test]
fn speech_is_found_where_it_is() {
    for ((name, frames), (start, end)) in CLIPS.iter().zip(SPOKEN) {
        let (duration, total, segments) = speech(json!({}), float(&pcm(name), 1, 16_000));
        assert_eq!(duration, *frames as f64 / 16_000.0);
        assert_eq!(segments.len(), 1, "{name}: {segments:?}");
        assert!((segments[0].0 - start).abs() < 0.15, "{name}: {segments:?}");
        assert!((segments[0].1 - end).abs() < 0.15, "{name}: {segments:?}");
        assert!((total - (segments[0].1 - segments[0].0)).abs() < 1e-9);
    }
}

#[test]
fn silence_and_noise_are_no_speech() {
    for samples in [vec![0.0; 80_000], noise(80_000, 0.0001), noise(80_000, 0.01), vec![]] {
        let seconds = samples.len() as f64 / 16_000.0;
        let found = speech(json!({}), float(&samples, 1, 16_000));
        assert_eq!(found, (seconds, 0.0, vec![]));
    }
}

#[test]
fn silence_around_speech_is_left_out() {
    let clip = pcm("austen-0880.wav");
    let silence = vec![0.0; 32_000];
    let all = [&silence[..], &clip, &silence, &clip, &silence].concat();
    let (duration, _, segments) = speech(json!({}), float(&all, 1, 16_000));
    assert_eq!(duration, 11.98);
    assert_eq!(segments.len(), 2, "{segments:?}");
    for ((start, end), offset) in segments.iter().zip([2.0, 6.99]) {
        assert!((start - offset - 0.25).abs() < 0.2, "{segments:?}");
        assert!((end - offset - 2.8).abs() < 0.2, "{segments:?}");
    }
    let joined = speech(json!({"min_silence_ms": 5_000}), float(&all, 1, 16_000)).2;
    assert_eq!(joined, [(segments[0].0, segments[1].1)]);
    let none = speech(json!({"min_speech_ms": 4_000}), float(&all, 1, 16_000)).2;
    assert_eq!(none, []);
    let padded = speech(json!({"padding_ms": 148}), float(&all, 1, 16_000)).2;
    assert!((segments[0].0 - padded[0].0 - 0.1).abs() < 1e-9, "{padded:?}");
}

#[test]
fn any_rate_and_channels_will_do_and_the_audio_comes_as_it_was() {
    let (_, _, expected) = speech(json!({}), float(&pcm("austen-0880.wav"), 1, 16_000));
    let (start, end) = expected[0];
    for rate in [8_000, 22_050, 44_100, 48_000] {
        let clip = float(&pcm("austen-0880.wav"), 1, 16_000);
        let clip = one("AudioResample", json!({"target_rate": rate}), clip);
        let samples: Vec<i16> = sound(&clip)
            .to_f32()
            .unwrap()
            .iter()
            .flat_map(|&s| [(s * 32_767.0) as i16; 2])
            .collect();
        let tensor = Tensor::from_vec(samples.clone(), &[samples.len() as i64 / 2, 2]);
        let item = Value::Audio(Arc::new(Audio::new(tensor, rate, Some(500_000)).unwrap()));
        let Value::Map(map) = one("VoiceActivity", json!({"include_audio": true}), item) else {
            panic!("not a map")
        };
        let Value::List(segments) = &map["segments"] else { panic!("not a list") };
        assert_eq!(segments.len(), 1, "{rate}");
        let Value::Map(segment) = &segments[0] else { panic!("not a map") };
        let (Value::Float(from), Value::Float(to)) = (&segment["start"], &segment["end"]) else {
            panic!("{segment:?}")
        };
        // Of 8 kHz the detector hears no more than 4 kHz.
        let off = if rate == 8_000 { 0.2 } else { 0.05 };
        assert!((from - start).abs() < off && (to - end).abs() < off, "{rate}: {from} {to}");
        let audio = sound(&segment["audio"]);
        let first = (from * f64::from(rate)).round() as usize;
        let last = (to * f64::from(rate)).round() as usize;
        assert_eq!(audio.samples().elements::<i16>().unwrap(), &samples[2 * first..2 * last]);
        assert_eq!((audio.channels(), audio.sample_rate()), (2, rate));
        let pts = 500_000.0 + from * 1e6;
        assert!((audio.pts_us().unwrap() as f64 - pts).abs() <= 0.5 + 1e-6);
    }
}
