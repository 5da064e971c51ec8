//! `VoiceActivity`: where in a recording somebody speaks.
//!
//! The detector is the crate `earshot` 1.2 (MIT or Apache-2.0): a small recurrent network over
//! log-mel bands, in Rust, its 40 kB of weights part of the library. Its release 0.1 (BSD-3), a port
//! of the WebRTC detector, was measured beside it and put aside. Frames taken for speech, 10 s of
//! noise and the three recordings in `examples/data`:
//!
//! | | 1.2, score 0.5 or more | 0.1, quality | 0.1, very aggressive |
//! |---|---|---|---|
//! | white noise at -40, -30, -20 dBFS | 0.5, 1.1, 0.6 % | 0.8, 100, 100 % | 0, 65, 100 % |
//! | pink noise at -40, -30, -20 dBFS | 0, 0.5, 0.6 % | 7, 99, 100 % | 0.6, 74, 100 % |
//! | mains hum | 1.1 % | 100 % | 0 % |
//! | read speech, pauses included | 91, 81, 92 % | 95, 89, 94 % | 90, 81, 90 % |
//!
//! Speech in silence or in pink noise 10 dB below it is found in 87 to 91 % of its frames, with no
//! frame of the rest taken for speech; the minimum durations close the gaps. It needs a usable
//! level: speech 20 dB quieter is found (88 %), 40 dB quieter mostly not (30 %). Steady voice-like
//! tones (a sawtooth at 150 Hz) are taken for speech.

use super::resample::{Quality, Resampler, resample};
use super::slice;
use earshot::Detector;
use remotemedia_runtime::memory::room;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{Context, Instance, Node, NodeType, Result, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// The rate that the detector listens at, in Hz.
const RATE: u32 = 16_000;
/// Samples in one of its frames: 16 ms.
const FRAME: usize = 256;
/// How far the score may fall below the threshold before speech that has begun is over. Scores
/// dip within words.
const HYSTERESIS: f32 = 0.1;

#[derive(Clone, Deserialize, JsonSchema)]
struct Params {
    /// The score from which a frame of 16 ms is speech. Lower finds quieter speech, higher takes
    /// less noise for speech.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 0.0, max = 1.0))]
    threshold: f64,
    /// Speech shorter than this is left out, in milliseconds.
    #[serde(default = "default_min_speech_ms")]
    #[schemars(range(min = 0, max = 60_000))]
    min_speech_ms: u32,
    /// A pause shorter than this does not end a segment, in milliseconds.
    #[serde(default = "default_min_silence_ms")]
    #[schemars(range(min = 0, max = 60_000))]
    min_silence_ms: u32,
    /// What is added to both ends of a segment, in milliseconds; neighbours share what is between
    /// them.
    #[serde(default = "default_padding_ms")]
    #[schemars(range(min = 0, max = 60_000))]
    padding_ms: u32,
    /// Whether each segment comes with its audio.
    #[serde(default)]
    include_audio: bool,
}

fn default_threshold() -> f64 {
    0.5
}

fn default_min_speech_ms() -> u32 {
    250
}

fn default_min_silence_ms() -> u32 {
    200
}

fn default_padding_ms() -> u32 {
    48
}

/// `VoiceActivity`: finds the speech in recordings.
///
/// Any rate and any number of channels will do: the detector hears them mixed to mono at 16 kHz,
/// clipped to -1..1. Times are exact to its frames of 16 ms.
pub fn voice_activity() -> NodeType {
    let about = About {
        name: "VoiceActivity",
        summary: "Finds the speech in each recording.",
        takes: "audio",
        gives: "{duration, speech_duration, segments: [{start, end}]}, in seconds from the start \
                of the recording; with include_audio each segment has its audio, at the \
                recording's own rate, type and channels, with its own time if the recording has \
                one",
        heavy: true,
        example: json!({"params": {"threshold": 0.5, "min_silence_ms": 200}}),
    };
    NodeType::new::<Params>(about, |params| {
        Instance::new(VoiceActivity {
            params: params.clone(),
            detector: Detector::default_boxed(),
            resampler: None,
        })
    })
}

struct VoiceActivity {
    params: Params,
    /// Reset for every item.
    detector: Box<Detector>,
    /// The one of the last item, for the next of the same rate.
    resampler: Option<Resampler>,
}

impl Node for VoiceActivity {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let audio = value.as_audio()?;
        let mono = resample(audio, RATE, Quality::High, true, &mut self.resampler, cx)?;
        self.detector.reset();
        let mut scores = room(mono.len().div_ceil(FRAME))?;
        for frame in mono.chunks(FRAME) {
            cx.check()?;
            let mut whole = [0.0; FRAME];
            for (slot, sample) in whole.iter_mut().zip(frame) {
                *slot = sample.clamp(-1.0, 1.0);
            }
            scores.push(self.detector.predict_f32(&whole));
        }

        // In whole microseconds, rounded to nearest.
        let seconds = |frames: usize| {
            let rate = u128::from(audio.sample_rate());
            ((frames as u128 * 1_000_000 + rate / 2) / rate) as f64 / 1e6
        };
        let own = |at: usize| {
            let exact = at as u128 * u128::from(audio.sample_rate()) / u128::from(RATE);
            (exact as usize).min(audio.frames())
        };
        let (mut segments, mut speech) = (Vec::new(), 0);
        for (from, to) in find(&scores, &self.params) {
            let (from, to) = (own(from), own(to));
            speech += to - from;
            let mut segment =
                vec![("start", Value::Float(seconds(from))), ("end", Value::Float(seconds(to)))];
            if self.params.include_audio {
                segment.push(("audio", slice(audio, from, to)?));
            }
            segments.push(Value::map(segment));
        }
        cx.emit(Value::map([
            ("duration", Value::Float(seconds(audio.frames()))),
            ("speech_duration", Value::Float(seconds(speech))),
            ("segments", Value::list(segments)),
        ]));
        Ok(())
    }
}

/// The segments in samples of the detector's rate, from the scores of its frames.
fn find(scores: &[f32], params: &Params) -> Vec<(usize, usize)> {
    let samples = |ms: u32| ms as usize * (RATE as usize / 1000);
    let (least, pause) = (samples(params.min_speech_ms), samples(params.min_silence_ms));
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut speaking = false;
    for (at, &score) in scores.iter().enumerate() {
        let threshold = params.threshold as f32 - if speaking { HYSTERESIS } else { 0.0 };
        speaking = score >= threshold;
        if speaking {
            let (from, to) = (at * FRAME, (at + 1) * FRAME);
            match found.last_mut() {
                Some(last) if from == last.1 || from - last.1 < pause => last.1 = to,
                _ => found.push((from, to)),
            }
        }
    }
    found.retain(|(from, to)| to - from >= least);

    let (padding, end) = (samples(params.padding_ms), scores.len() * FRAME);
    for at in 0..found.len() {
        let before = if at == 0 { 0 } else { found[at - 1].1 };
        found[at].0 = found[at].0.saturating_sub(padding).max(before);
        let room = match found.get(at + 1) {
            Some(next) => (next.0 - found[at].1) / 2,
            None => end - found[at].1,
        };
        found[at].1 += padding.min(room);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(min_speech_ms: u32, min_silence_ms: u32, padding_ms: u32) -> Params {
        Params { threshold: 0.5, min_speech_ms, min_silence_ms, padding_ms, include_audio: false }
    }

    /// Scores from digits in tenths; the segments in frames.
    fn found(scores: &str, params: Params) -> Vec<(f64, f64)> {
        let scores: Vec<f32> = scores.bytes().map(|b| f32::from(b - b'0') / 10.0).collect();
        let frames = |samples: usize| samples as f64 / FRAME as f64;
        find(&scores, &params).iter().map(|&(from, to)| (frames(from), frames(to))).collect()
    }

    #[test]
    fn a_dip_within_the_hysteresis_goes_on_and_a_start_needs_the_threshold() {
        assert_eq!(found("0046494300", params(0, 0, 0)), [(3.0, 7.0)]);
    }

    #[test]
    fn short_pauses_are_bridged_before_short_speech_is_left_out() {
        // 16 ms a frame: a pause of 2 frames is 32 ms.
        assert_eq!(found("9990099900009000", params(0, 33, 0)), [(0.0, 8.0), (12.0, 13.0)]);
        assert_eq!(found("9990099900009000", params(17, 33, 0)), [(0.0, 8.0)]);
        assert_eq!(found("9990099900009000", params(17, 32, 0)), [(0.0, 3.0), (5.0, 8.0)]);
    }

    #[test]
    fn padding_stays_inside_and_neighbours_share_their_gap() {
        assert_eq!(found("0990000990", params(0, 0, 16)), [(0.0, 4.0), (6.0, 10.0)]);
        assert_eq!(found("0990000990", params(0, 0, 500)), [(0.0, 5.0), (5.0, 10.0)]);
        assert_eq!(found("0000", params(0, 0, 500)), []);
    }
}
