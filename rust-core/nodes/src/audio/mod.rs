//! Sound: decoding, resampling, levels, chunks and speech.
//!
//! Every node takes float32 and int16 samples, of shape (frames,) or (frames, channels), and holds
//! nothing between items: each item is a recording of its own, and the same item gives the same
//! result wherever it stands in the input.

use remotemedia_runtime::{Audio, Error, Result, Tensor, Value};
use std::sync::Arc;

mod chunk;
mod decode;
mod level;
mod resample;
mod speech;

pub use chunk::audio_chunker;
pub use decode::audio_decode;
pub use level::audio_level;
pub use resample::audio_resample;
pub use speech::voice_activity;

/// Samples that a loop may handle before it asks whether the run is over: well below a
/// millisecond's work.
const STRIDE: usize = 1 << 18;

/// A value made of float32 samples; interleaved in frames of `channels`, or flat.
fn audio(
    samples: Vec<f32>,
    channels: Option<usize>,
    rate: u32,
    pts_us: Option<i64>,
) -> Result<Value> {
    let total = samples.len();
    let shape: &[i64] = match channels {
        None => &[total as i64],
        Some(channels) => &[(total / channels) as i64, channels as i64],
    };
    let audio = Audio::new(Tensor::from_vec(samples, shape), rate, pts_us)?;
    Ok(Value::Audio(Arc::new(audio)))
}

/// The time of a frame of this audio in microseconds, if the audio has a time; rounded to nearest.
fn pts_at(audio: &Audio, frame: usize) -> Option<i64> {
    let rate = u128::from(audio.sample_rate());
    let offset = (frame as u128 * 1_000_000 + rate / 2) / rate;
    audio.pts_us()?.checked_add(i64::try_from(offset).ok()?)
}

/// The frames `from..to` of this audio, with its type, shape and rate, and their own time.
fn slice(audio: &Audio, from: usize, to: usize) -> Result<Value> {
    let samples = audio.samples().slice(from..to);
    let part = Audio::new(samples, audio.sample_rate(), pts_at(audio, from))?;
    Ok(Value::Audio(Arc::new(part)))
}

/// Refuses NaN and the infinities, which would spread over everything around them.
///
/// # Errors
/// `RM_E_NODE` that names the first of them.
fn check_finite(samples: &[f32], channels: usize) -> Result<()> {
    match samples.iter().position(|sample| !sample.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::node(format!(
            "the audio holds {} at frame {}, channel {}",
            samples[at],
            at / channels,
            at % channels
        ))
        .hint("samples must be numbers, nominally in -1..1")),
    }
}
