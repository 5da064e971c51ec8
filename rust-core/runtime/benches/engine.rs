//! The engine's own parts, without a host: `cargo bench -p remotemedia-runtime --bench engine`.
#![allow(missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use criterion::{criterion_group, criterion_main};
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    Block, Buffer, Context, DType, Instance, Limits, Node, NodeType, Progress, Registry, Result,
    Run, Runtime, Storage, Tensor, Value, json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::hint::black_box;
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct NoParams {}

struct Pass;

impl Node for Pass {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        cx.emit(value);
        Ok(())
    }
}

fn runtime() -> Runtime {
    let about = About {
        name: "Pass",
        summary: "",
        takes: "",
        gives: "",
        heavy: false,
        example: serde_json::json!({}),
    };
    let mut registry = Registry::default();
    registry.add([NodeType::new::<NoParams>(about, |_| Instance::new(Pass))]);
    Runtime::new(registry, Limits::default())
}

fn chain(nodes: usize) -> String {
    let ids: Vec<_> = (0..nodes).map(|at| format!("pass_{at}")).collect();
    let connections =
        ids.windows(2).map(|ends| serde_json::json!({"from": ends[0], "to": ends[1]}));
    let nodes = ids.iter().map(|id| serde_json::json!({"id": id, "node_type": "Pass"}));
    serde_json::json!({
        "version": "v1",
        "nodes": nodes.collect::<Vec<_>>(),
        "connections": connections.collect::<Vec<_>>(),
    })
    .to_string()
}

fn array(elements: usize) -> Value {
    let dtype = DType::new(2, 32, 1).unwrap();
    let buffer = Buffer::new(Block::try_new(elements * 4).expect("there is memory"));
    Value::Tensor(Tensor::new(dtype, &[elements as i64], buffer).unwrap().into())
}

fn runs(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("run");
    let numbers = |count: usize| Value::list((0..count as i64).map(Value::Int).collect());
    let inputs = [
        ("3 numbers", 3, numbers(3)),
        ("1,000 numbers", 1_000, numbers(1_000)),
        ("10,000 numbers", 10_000, numbers(10_000)),
        ("1 array of 3.84 KB", 1, Value::list(vec![array(960)])),
        ("1 array of 3.84 MB", 1, Value::list(vec![array(960_000)])),
        ("1,000 arrays of 3.84 KB", 1_000, Value::list(vec![array(960); 1_000])),
    ];
    // The difference between 3 nodes and 33, by 30, is what one more node costs.
    for nodes in [3, 33] {
        let plan = runtime.load(chain(nodes).as_bytes()).unwrap();
        for (name, count, input) in &inputs {
            group.throughput(Throughput::Elements(*count));
            group.bench_with_input(
                BenchmarkId::new(format!("{nodes} nodes"), name),
                input,
                |b, input| {
                    b.iter(|| {
                        let run = Run::new(plan.clone(), input, None).unwrap();
                        let Ok(Progress::Done(output)) = run.drive(None) else { panic!() };
                        output
                    });
                },
            );
        }
    }
}

fn manifests(c: &mut Criterion) {
    let mut group = c.benchmark_group("manifest of 3 nodes");
    let text = chain(3);
    let known = runtime();
    group.bench_function("read", |b| {
        let (registry, limits) = (known.registry(), known.limits());
        b.iter(|| remotemedia_runtime::Plan::load(text.as_bytes(), &registry, limits).unwrap());
    });
    known.load(text.as_bytes()).unwrap();
    group.bench_function("remembered", |b| b.iter(|| known.load(text.as_bytes()).unwrap()));
}

fn texts(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    let depth = Limits::VALUE_DEPTH;
    let floats = (0..100_000).map(|number| Value::Float(f64::from(number) / 7.0));
    let values = [
        ("[1,2,3]", 3, Value::list(vec![Value::Int(1), Value::Int(2), Value::Int(3)])),
        ("100,000 floats", 100_000, Value::list(floats.collect())),
    ];
    for (name, count, value) in values {
        let text = json::write(&value, &mut Vec::new()).unwrap();
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("read", name), |b| {
            b.iter(|| json::parse(black_box(&text), &[], depth).unwrap());
        });
        group.bench_function(BenchmarkId::new("write", name), |b| {
            b.iter(|| json::write(black_box(&value), &mut Vec::new()).unwrap());
        });
    }
}

/// Writing to a block that the pool had, against one that the system has just given.
fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    for (name, len) in [("4 KiB", 4 << 10), ("3.84 MB", 3_840_000), ("16 MiB", 16 << 20)] {
        let source = vec![1u8; len];
        group.bench_function(BenchmarkId::new("copy into a block of the pool", name), |b| {
            drop(Block::try_new(len).expect("there is memory"));
            b.iter(|| Buffer::copy_of(black_box(&source)));
        });
        group.bench_function(BenchmarkId::new("copy into fresh memory", name), |b| {
            // Dropped after the measurement, so the allocator has none to give again.
            b.iter_batched(
                || (),
                |()| Buffer::new(black_box(&source).clone()),
                BatchSize::NumIterations(8),
            );
        });
    }
    group.bench_function("a block of 4 KiB, taken and given back", |b| {
        b.iter(|| Block::try_new(4 << 10).expect("there is memory").bytes().len());
    });
}

criterion_group! {
    name = engine;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = runs, manifests, texts, memory
}
criterion_main!(engine);
