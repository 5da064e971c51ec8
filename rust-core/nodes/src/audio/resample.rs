//! `AudioResample`: changes the sample rate.

use super::{audio, check_finite};
use remotemedia_runtime::memory::{expect, room};
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{Audio, Code, Context, Error, Instance, Node, NodeType, Result, Value};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How good, and how dear.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Quality {
    Low,
    Medium,
    #[default]
    High,
}

impl Quality {
    /// Length of the filter in samples of the lower rate, at least, and its window.
    fn filter(self) -> (usize, WindowFunction) {
        match self {
            Quality::Low => (64, WindowFunction::Hann),
            Quality::Medium => (256, WindowFunction::BlackmanHarris),
            Quality::High => (1024, WindowFunction::BlackmanHarris2),
        }
    }
}

#[derive(Clone, Deserialize, JsonSchema)]
struct Params {
    /// The sample rate to give, in Hz.
    #[schemars(range(min = 1, max = 768_000))]
    target_rate: u32,
    /// The quality of the filter.
    #[serde(default)]
    quality: Quality,
    /// Whether to average the channels into one.
    #[serde(default)]
    mono: bool,
}

/// `AudioResample`: changes the sample rate.
///
/// The result has exactly ceil(frames * target_rate / rate) frames, begins where the recording
/// begins, and lets frequencies pass that both rates can hold. The quality is the length of the
/// filter: longer comes closer to the limit frequency, and rings longer at a click. The time it
/// takes is much the same. Measured from 44.1 kHz to 16 kHz, whose limit is 8 kHz:
///
/// | quality | noise, 997 Hz / 6.5 kHz | 0.3 dB down at | aliases just above 8 kHz / from 8.1 kHz |
/// |---|---|---|---|
/// | low | -110 / -92 dB | 7.85 kHz | -50 / -77 dB |
/// | medium | -152 / -137 dB | 7.70 kHz | -121 / -136 dB |
/// | high | -152 / -152 dB | 7.87 kHz | -152 / -157 dB |
///
/// Noise is the difference from the ideal sine; -152 dB is the rounding of float32. Memory grows
/// with the smallest numbers that have the ratio of the two rates: 10 MB for 44,100 to 47,999 Hz,
/// and with 767,999 to 768,000 Hz, the worst case, 400 MB.
///
/// # Errors
/// `RM_E_NODE` for NaN and infinite samples, `RM_E_UNSUPPORTED` for rates more than a factor of
/// 1,024 apart, `RM_E_LIMIT` if there is no memory for the result.
pub fn audio_resample() -> NodeType {
    let about = About {
        name: "AudioResample",
        summary: "Changes the sample rate of each recording, and mixes it to mono if asked.",
        takes: "audio",
        gives: "float32 audio of ceil(frames * target_rate / rate) frames, without delay; audio \
                that fits already is handed on unchanged",
        heavy: true,
        example: json!({"params": {"target_rate": 16000, "quality": "high", "mono": true}}),
    };
    NodeType::new::<Params>(about, |params| {
        Instance::new(Resample { params: params.clone(), resampler: None })
    })
}

struct Resample {
    params: Params,
    /// The one of the last item, for the next of the same rate.
    resampler: Option<Resampler>,
}

impl Node for Resample {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let source = value.as_audio()?;
        let Params { target_rate, quality, mono } = self.params;
        let mix = mono && source.channels() > 1;
        if source.sample_rate() == target_rate && !mix {
            cx.emit(value);
            return Ok(());
        }
        let flat = mix || source.samples().shape().len() == 1;
        let channels = if mix { 1 } else { source.channels() };
        let samples = resample(source, target_rate, quality, mix, &mut self.resampler, cx)?;
        cx.emit(audio(samples, (!flat).then_some(channels), target_rate, source.pts_us())?);
        Ok(())
    }
}

/// The samples of this audio at another rate, interleaved, or averaged over the channels.
/// `cached` is a resampler to use if it fits, and to be left for the next time.
///
/// # Errors
/// `RM_E_NODE` for NaN and infinite samples; as [`Resampler::new`] and [`Context::check`].
pub(super) fn resample(
    source: &Audio,
    to: u32,
    quality: Quality,
    mix: bool,
    cached: &mut Option<Resampler>,
    cx: &Context,
) -> Result<Vec<f32>> {
    let (from, channels) = (source.sample_rate(), source.channels());
    let samples = source.to_f32()?;
    check_finite(&samples, channels)?;
    let average =
        |frame: &[f32]| (frame.iter().map(|&s| f64::from(s)).sum::<f64>() / channels as f64) as f32;
    if from == to {
        let mut out = room(if mix { source.frames() } else { samples.len() })?;
        match mix {
            true => out.extend(samples.chunks_exact(channels).map(average)),
            false => out.extend_from_slice(&samples),
        }
        return Ok(out);
    }
    let mut fitting = cached.take().filter(|r| r.key == (from, to, quality));
    let resampler = match &mut fitting {
        Some(resampler) => resampler,
        None => fitting.insert(Resampler::new(from, to, quality)?),
    };
    let made = if mix { 1 } else { channels };
    let frames = length(source.frames(), from, to)?;
    let mut out = room(frames.saturating_mul(made))?;
    out.resize(frames * made, 0.0);
    for channel in 0..made {
        let read = |at: usize| match mix {
            true => average(&samples[at * channels..][..channels]),
            false => samples[at * channels + channel],
        };
        let out = out[channel..].iter_mut().step_by(made);
        resampler.run(source.frames(), read, out, cx)?;
    }
    *cached = fitting;
    Ok(out)
}

/// How many frames come of `frames`: ceil(frames * to / from).
fn length(frames: usize, from: u32, to: u32) -> Result<usize> {
    let exact = (frames as u128 * u128::from(to)).div_ceil(u128::from(from));
    usize::try_from(exact).map_err(|_| Error::new(Code::Limit, "the result is too long"))
}

/// Resamples one channel after the other, by way of the spectrum of overlapping blocks
/// (rubato's `Fft`), computed in 64 bits.
pub(super) struct Resampler {
    key: (u32, u32, Quality),
    fft: Fft<f64>,
    input: Vec<f64>,
    output: Vec<f64>,
}

impl Resampler {
    /// The widest change of rate, either way. What bounds the memory: a block of the higher rate
    /// is at most 1,536,000 samples long.
    const WIDEST: u32 = 1024;

    /// A resampler between these rates.
    ///
    /// # Errors
    /// `RM_E_UNSUPPORTED` for rates more than a factor of 1,024 apart.
    fn new(from: u32, to: u32, quality: Quality) -> Result<Self> {
        let (lower, higher) = (from.min(to), from.max(to));
        if higher > lower * Self::WIDEST {
            return Err(Error::new(
                Code::Unsupported,
                format!("{from} Hz to {to} Hz is a change of more than {} times", Self::WIDEST),
            )
            .hint("check the two rates; if they are meant, resample in two steps"));
        }
        // A block is a whole number of periods of the two rates. An even number of samples on
        // both sides puts the middle of the filter, and with it the delay, on a sample of both.
        let (least, window) = quality.filter();
        let period = lower / gcd(lower, higher);
        let blocks = least.div_ceil(period as usize).next_multiple_of(2);
        let input = from as usize / gcd(lower, higher) as usize * blocks;
        // About 270 bytes for each sample of the longer block: 400 MB for the longest.
        expect(input.max((input as u64 * u64::from(to) / u64::from(from)) as usize) * 300)?;
        let fft = Fft::new_custom(from as usize, to as usize, input, 1, 1, window, FixedSync::Both)
            .map_err(|e| Error::node(format!("{from} Hz to {to} Hz: {e}")))?;
        let (input, output) = (vec![0.0; fft.fft_size_in()], vec![0.0; fft.fft_size_out()]);
        Ok(Resampler { key: (from, to, quality), fft, input, output })
    }

    /// Resamples the `frames` samples that `read` gives and fills `out` with the result.
    fn run<'a>(
        &mut self,
        frames: usize,
        read: impl Fn(usize) -> f32,
        out: impl ExactSizeIterator<Item = &'a mut f32>,
        cx: &Context,
    ) -> Result<()> {
        self.fft.reset();
        // The first samples that come out lie before the beginning.
        let mut early = self.fft.output_delay();
        let (mut at, mut out) = (0, out);
        while out.len() > 0 {
            cx.check()?;
            for slot in &mut self.input {
                *slot = if at < frames { f64::from(read(at)) } else { 0.0 };
                at += 1;
            }
            let wrong = |e: &dyn std::fmt::Display| Error::node(format!("resampling: {e}"));
            let (given, made) = (self.input.len(), self.output.len());
            let input = SequentialSlice::new(&self.input, 1, given).map_err(|e| wrong(&e))?;
            let mut output =
                SequentialSlice::new_mut(&mut self.output, 1, made).map_err(|e| wrong(&e))?;
            self.fft.process_into_buffer(&input, &mut output, None).map_err(|e| wrong(&e))?;
            let late = early.min(made);
            early -= late;
            for (&sample, slot) in self.output[late..].iter().zip(out.by_ref()) {
                *slot = sample as f32;
            }
        }
        Ok(())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
