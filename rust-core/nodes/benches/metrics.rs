//! What counting and timing every step costs: to be run twice, see benchmarks/README.md.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use remotemedia_runtime::{Audio, Limits, Progress, Run, Runtime, Tensor, Value};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

/// A chain of nodes, given by their types and parameters.
fn chain(nodes: &[(&str, Json)]) -> String {
    let described = nodes.iter().enumerate().map(|(at, (node_type, params))| {
        json!({"id": format!("n{at}"), "node_type": node_type, "params": params})
    });
    let edges =
        (1..nodes.len()).map(|at| json!({"from": format!("n{}", at - 1), "to": format!("n{at}")}));
    let (nodes, connections) = (described.collect::<Vec<_>>(), edges.collect::<Vec<_>>());
    json!({"version": "v1", "nodes": nodes, "connections": connections}).to_string()
}

/// Ten seconds of noise at 48 kHz, in pieces of 20 ms.
fn pieces() -> Value {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let piece = |_| {
        let samples: Vec<f32> = (0..960).map(|_| next()).collect();
        let tensor = Tensor::from_vec(samples, &[960]);
        Value::Audio(Arc::new(Audio::new(tensor, 48_000, None).unwrap()))
    };
    Value::list((0..500).map(piece).collect())
}

fn costs(c: &mut Criterion) {
    let runtime = Runtime::new(remotemedia_nodes::registry(), Limits::default());
    let numbers = || Value::list((0..1_000).map(Value::Int).collect());
    let pass = |count| vec![("PassThrough", json!({})); count];
    let speech =
        vec![("AudioResample", json!({"target_rate": 16_000})), ("VoiceActivity", json!({}))];
    let mut group = c.benchmark_group("an item");
    for (name, nodes, items) in [
        ("3 nodes that pass it on", pass(3), numbers()),
        ("33 nodes that pass it on", pass(33), numbers()),
        ("20 ms resampled and searched for speech", speech, pieces()),
    ] {
        let Value::List(list) = &items else { unreachable!() };
        group.throughput(Throughput::Elements(list.len() as u64));
        let plan = runtime.load(chain(&nodes).as_bytes()).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let run = Run::new(plan.clone(), &items, None).unwrap();
                let Ok(Progress::Done(outputs)) = run.drive(None) else { panic!("not done") };
                outputs
            });
        });
    }
}

criterion_group! {
    name = metrics;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = costs
}
criterion_main!(metrics);
