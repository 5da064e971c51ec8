//! What only test builds export: things that go wrong on purpose.

use crate::abi::rm_status;
use crate::error::rm_error;
use crate::guard::guard;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{Context, Instance, Node, NodeType, Result, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Panics. Proves that a panic ends at the boundary.
#[unsafe(no_mangle)]
pub extern "C" fn rm_test_panic(error: *mut *mut rm_error) -> rm_status {
    guard(error, || panic!("on purpose"))
}

#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum When {
    Initialize,
    Process,
    Flush,
    Cleanup,
    Never,
}

#[derive(Deserialize, JsonSchema)]
struct Params {
    when: When,
}

/// A node that panics when it is told to, and one that keeps the processor busy.
pub fn types() -> Vec<NodeType> {
    let about = |name, summary| About {
        name,
        summary,
        takes: "any value",
        gives: "the same value",
        heavy: false,
        example: json!({"params": {"when": "never"}, "input": [1], "output": [1]}),
    };
    vec![
        NodeType::new::<Params>(about("TestPanic", "Panics."), |p| Instance::new(Panics(p.when))),
        NodeType::new::<Params>(about("TestSpin", "Takes a millisecond for a value."), |_| {
            Instance::new(Spins)
        }),
    ]
}

struct Panics(When);

impl Panics {
    fn here(&self, when: When) -> Result<()> {
        assert!(self.0 != when, "on purpose");
        Ok(())
    }
}

impl Node for Panics {
    fn initialize(&mut self) -> Result<()> {
        self.here(When::Initialize)
    }

    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        cx.emit(value);
        self.here(When::Process)
    }

    fn flush(&mut self, _: &mut Context) -> Result<()> {
        self.here(When::Flush)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.here(When::Cleanup)
    }
}

struct Spins;

impl Node for Spins {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(1));
        cx.emit(value);
        Ok(())
    }
}
