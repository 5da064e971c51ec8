//! What is too much, too deep or takes too long, and ends in time.

use remotemedia_runtime::{
    Audio, Buffer, Code, Error, Limits, Progress, Run, Runtime, Tensor, Value,
};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn run(limits: Limits, manifest: &Json, item: Value, timeout: Option<u64>) -> Result<Value, Error> {
    let runtime = Runtime::new(remotemedia_nodes::registry(), limits);
    let plan = runtime.load(manifest.to_string().as_bytes())?;
    let timeout = timeout.map(Duration::from_millis);
    match Run::new(plan, &Value::list(vec![item]), timeout)?.drive(None)? {
        Progress::Done(outputs) => Ok(outputs),
        Progress::Pending => panic!("pending"),
    }
}

fn node(node_type: &str, params: Json) -> Json {
    json!({"version": "v1", "nodes": [{"id": "n", "node_type": node_type, "params": params}]})
}

#[test]
fn limits_are_raised_only_so_far() {
    assert!(Limits::default().check().is_ok());
    let most = Limits { nodes: 100_000, connections: 1_000_000, ..Limits::default() };
    assert!(most.check().is_ok());
    for limits in [
        Limits { nodes: 100_001, ..most },
        Limits { connections: 1_000_001, ..most },
        Limits { manifest_depth: 101, ..most },
    ] {
        assert_eq!(limits.check().unwrap_err().code, Code::Argument);
    }
}

#[test]
fn buffers_behind_buffers_nest_only_so_deep() {
    let chain = |count: usize| {
        let nodes: Vec<Json> = (0..count)
            .map(|n| json!({"id": n.to_string(), "node_type": "Buffer", "params": {"buffer_size": 1}}))
            .collect();
        let edges: Vec<Json> =
            (1..count).map(|n| json!({"from": (n - 1).to_string(), "to": n.to_string()})).collect();
        json!({"version": "v1", "nodes": nodes, "connections": edges})
    };
    let limits = Limits::default();
    assert!(run(limits, &chain(200), Value::Null, None).is_ok());
    let error = run(limits, &chain(900), Value::Null, None).unwrap_err();
    assert_eq!((error.code, error.node.as_deref()), (Code::Limit, Some("200")));
}

#[test]
fn a_node_that_gives_too_much_is_stopped_while_it_gives() {
    let samples = Tensor::from_vec(vec![0i16; 10_000], &[10_000]);
    let audio = Value::Audio(Arc::new(Audio::new(samples, 8_000, None).unwrap()));
    let manifest = node("AudioChunker", json!({"chunk_size": 1}));
    let limits = Limits { values: 9_999, ..Limits::default() };
    let error = run(limits, &manifest, audio.clone(), None).unwrap_err();
    assert_eq!((error.code, error.item), (Code::Limit, Some(0)));
    assert_eq!(error.message, "one item became more than 9999 values");
    assert!(run(Limits { values: 10_000, ..limits }, &manifest, audio, None).is_ok());
}

#[test]
fn decoded_samples_take_only_so_much_memory() {
    let wav = |samples: u32| {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        bytes.extend(8_000_u32.to_le_bytes());
        bytes.extend(8_000_u32.to_le_bytes());
        bytes.extend(b"\x01\0\x08\0data");
        bytes.extend(samples.to_le_bytes());
        bytes.resize(bytes.len() + samples as usize, 128);
        let length = bytes.len() as u32 - 8;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        Value::Bytes(Arc::new(Buffer::new(bytes)))
    };
    let manifest = node("AudioDecode", json!({"max_megabytes": 1}));
    assert!(run(Limits::default(), &manifest, wav(250_000), None).is_ok());
    let error = run(Limits::default(), &manifest, wav(250_001), None).unwrap_err();
    assert_eq!(error.code, Code::Limit);
    assert!(error.message.ends_with("take more than 1 MB"), "{error}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("max_megabytes")));
}

#[test]
fn a_time_limit_ends_work_on_one_large_value() {
    let power = node("Calculator", json!({"operation": "power", "operand": 1.5}));
    let tensor = || Tensor::from_vec(vec![1.5f64; 20_000_000], &[20_000_000]);
    let shared = Value::Tensor(Arc::new(tensor()));
    let operations: Vec<&str> = ["title_case", "reverse"].repeat(50);
    let text = node("TextProcessor", json!({"operations": operations}));
    let integers = Value::Tensor(Arc::new(Tensor::from_vec(vec![3i64; 20_000_000], &[20_000_000])));
    for (manifest, item) in [
        (&power, shared.clone()),
        (&power, Value::Tensor(Arc::new(tensor()))),
        (&power, integers),
        (&text, Value::text("ab ".repeat(300_000))),
    ] {
        let begun = Instant::now();
        let error = run(Limits::default(), manifest, item, Some(30)).unwrap_err();
        assert_eq!(error.code, Code::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[test]
fn times_of_speech_are_whole_microseconds() {
    let samples = Tensor::from_vec(vec![0i16; 89_610], &[89_610]);
    let audio = Value::Audio(Arc::new(Audio::new(samples, 44_100, None).unwrap()));
    let found = run(Limits::default(), &node("VoiceActivity", json!({})), audio, None).unwrap();
    let text = remotemedia_runtime::json::write(&found, &mut Vec::new()).unwrap();
    let found: Json = serde_json::from_slice(&text).unwrap();
    assert_eq!(found[0]["duration"], 2.031_973);
}
