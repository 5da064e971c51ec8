//! `AudioLevel`: how loud a recording is.

use super::{STRIDE, check_finite};
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{Context, Instance, Node, NodeType, Result, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Clone, Deserialize, JsonSchema)]
struct Params {
    /// Below this RMS level a recording has a low volume; in dBFS.
    #[serde(default = "default_low_volume")]
    #[schemars(range(min = -200.0, max = 0.0))]
    low_volume_threshold_db: f64,
    /// Below this RMS level a recording is silent; in dBFS.
    #[serde(default = "default_silence")]
    #[schemars(range(min = -200.0, max = 0.0))]
    silence_threshold_db: f64,
}

fn default_low_volume() -> f64 {
    -20.0
}

fn default_silence() -> f64 {
    -60.0
}

/// `AudioLevel`: measures the RMS and the peak over all samples of all channels.
///
/// 0 dBFS is a sample value of 1 (int16: 32,768), so a full-scale sine has an RMS of -3.01 dBFS and
/// a full-scale square wave 0. Digital silence and empty audio have the level -infinity. NaN and
/// infinite samples are errors.
pub fn audio_level() -> NodeType {
    let about = About {
        name: "AudioLevel",
        summary: "Measures how loud each recording is, over all its samples.",
        takes: "audio",
        gives: "{rms_db, peak_db, is_low_volume, is_silence}; levels in dBFS, where a sample \
                value of 1 is 0, and -Infinity for digital silence and empty audio",
        heavy: true,
        example: json!({"params": {"low_volume_threshold_db": -20, "silence_threshold_db": -60}}),
    };
    NodeType::new::<Params>(about, |params| Instance::new(Level(params.clone())))
}

struct Level(Params);

impl Node for Level {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let audio = value.as_audio()?;
        let samples = audio.to_f32()?;
        check_finite(&samples, audio.channels())?;
        let (mut sum, mut peak) = (0.0_f64, 0.0_f32);
        for part in samples.chunks(STRIDE) {
            sum += part.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>();
            peak = part.iter().fold(peak, |peak, s| peak.max(s.abs()));
            cx.check()?;
        }
        let rms_db = 10.0 * (sum / samples.len().max(1) as f64).log10();
        cx.emit(Value::map([
            ("rms_db", Value::Float(rms_db)),
            ("peak_db", Value::Float(20.0 * f64::from(peak).log10())),
            ("is_low_volume", Value::Bool(rms_db < self.0.low_volume_threshold_db)),
            ("is_silence", Value::Bool(rms_db < self.0.silence_threshold_db)),
        ]));
        Ok(())
    }
}
