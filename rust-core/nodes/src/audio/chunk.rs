//! `AudioChunker`: cuts recordings into pieces of equal length.

use super::slice;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{Context, Instance, Node, NodeType, Result, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Params {
    /// How many frames make a chunk.
    #[serde(default = "default_chunk_size")]
    #[schemars(range(min = 1, max = 10_000_000))]
    chunk_size: u32,
}

fn default_chunk_size() -> u32 {
    512
}

/// `AudioChunker`: cuts recordings into pieces of equal length.
pub fn audio_chunker() -> NodeType {
    let about = About {
        name: "AudioChunker",
        summary: "Cuts each recording into chunks of chunk_size frames; the last may be shorter.",
        takes: "audio",
        gives: "audio of the same type, channels and rate, each chunk with its own time if \
                the recording has one; nothing for empty audio",
        heavy: true,
        example: json!({"params": {"chunk_size": 512}}),
    };
    NodeType::new::<Params>(about, |params| Instance::new(Chunker(params.chunk_size as usize)))
}

struct Chunker(usize);

impl Node for Chunker {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let audio = value.as_audio()?;
        let frames = audio.frames();
        // A recording that is one chunk is handed on as it is.
        if (1..=self.0).contains(&frames) {
            cx.emit(value);
            return Ok(());
        }
        for from in (0..frames).step_by(self.0) {
            cx.emit(slice(audio, from, frames.min(from + self.0))?);
            cx.check()?;
        }
        Ok(())
    }
}
