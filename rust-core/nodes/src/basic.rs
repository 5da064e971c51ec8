//! Nodes that move values and do not look into them.

use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    AsyncNode, BoxFuture, Code, Context, Error, Instance, Limits, Node, NodeType, Result, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// `PassThrough`: hands on what it gets.
pub fn pass_through() -> NodeType {
    let about = About {
        name: "PassThrough",
        summary: "Hands on every value unchanged and uncopied.",
        takes: "any value",
        gives: "the same value",
        heavy: false,
        example: json!({"params": {}, "input": [1, "two", null], "output": [1, "two", null]}),
    };
    NodeType::new::<NoParams>(about, |_| Instance::new(PassThrough))
}

struct PassThrough;

impl Node for PassThrough {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        cx.emit(value);
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
struct BufferParams {
    /// How many values make a list.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000_000))]
    buffer_size: u32,
}

fn ten() -> u32 {
    10
}

/// `Buffer`: collects values into lists.
pub fn buffer() -> NodeType {
    let about = About {
        name: "Buffer",
        summary: "Collects values into lists of buffer_size; the last list may be shorter.",
        takes: "any value",
        gives: "lists of values",
        heavy: false,
        example: json!({"params": {"buffer_size": 2}, "input": [1, 2, 3],
                        "output": [[1, 2], [3]]}),
    };
    NodeType::new::<BufferParams>(about, |params| {
        Instance::new(Buffer { size: params.buffer_size as usize, held: Vec::new() })
    })
}

struct Buffer {
    size: usize,
    held: Vec<Value>,
}

impl Node for Buffer {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        // What it holds is walked recursively, so buffers behind buffers end somewhere.
        let most = 2 * Limits::VALUE_DEPTH;
        if value.depth() >= most {
            let message = format!("the list would be nested deeper than {most} levels");
            return Err(Error::new(Code::Limit, message));
        }
        self.held.push(value);
        if self.held.len() >= self.size {
            cx.emit(Value::list(std::mem::take(&mut self.held)));
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        if !self.held.is_empty() {
            cx.emit(Value::list(std::mem::take(&mut self.held)));
        }
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
struct DelayParams {
    /// How long each value is held, in seconds.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 3600.0))]
    seconds: f64,
}

/// `Delay`: hands on each value after a time.
pub fn delay() -> NodeType {
    let about = About {
        name: "Delay",
        summary: "Hands on each value after a time, for pacing; values wait one after the other.",
        takes: "any value",
        gives: "the same value",
        heavy: false,
        example: json!({"params": {"seconds": 0.001}, "input": [1], "output": [1]}),
    };
    NodeType::new::<DelayParams>(about, |params| {
        Instance::new_async(Delay(Duration::from_secs_f64(params.seconds)))
    })
}

struct Delay(Duration);

impl AsyncNode for Delay {
    fn process<'a>(
        &'a mut self,
        value: Value,
        out: &'a mut Vec<Value>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            tokio::time::sleep(self.0).await;
            out.push(value);
            Ok(())
        })
    }
}
