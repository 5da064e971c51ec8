//! Every node's own example runs and gives what it says.

use remotemedia_runtime::{Limits, Progress, Run, Runtime, Value, json};
use serde_json::Value as Json;

fn value(json: &Json) -> Value {
    json::parse(json.to_string().as_bytes(), &[], 100).unwrap()
}

#[test]
fn examples_give_what_they_say() {
    let runtime = Runtime::new(remotemedia_nodes::registry(), Limits::default());
    for entry in runtime.registry().to_json().as_array().unwrap() {
        let (name, example) = (&entry["name"], &entry["example"]);
        let manifest = serde_json::json!({
            "version": "v1",
            "nodes": [{"id": "n", "node_type": name, "params": example["params"]}],
        });
        let plan = runtime.load(manifest.to_string().as_bytes());
        let plan = plan.unwrap_or_else(|e| panic!("{name}: {e}"));
        if example["output"].is_null() {
            continue;
        }
        let run = Run::new(plan, &value(&example["input"]), None).unwrap();
        match run.drive(None) {
            Ok(Progress::Done(outputs)) => {
                assert_eq!(outputs, value(&example["output"]), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
