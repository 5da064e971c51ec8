//! How often a run asks the allocator: counts, which are the same on every machine.

use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    Buffer, Context, DType, Instance, Limits, Node, NodeType, Plan, Progress, Registry, Result,
    Run, Runtime, Tensor, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    /// Allocations of this thread; to give memory back or to shrink it is none.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn counted() {
    // Not there any more when a thread ends.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator does the work; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted();
        // SAFETY: as the caller's.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Deserialize, JsonSchema)]
struct NoParams {}

struct Pass;

impl Node for Pass {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        cx.emit(value);
        Ok(())
    }
}

/// A chain of nodes that pass on what they get.
fn chain(nodes: usize) -> Arc<Plan> {
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
    let ids: Vec<_> = (0..nodes).map(|at| format!("pass_{at}")).collect();
    let connections =
        ids.windows(2).map(|ends| serde_json::json!({"from": ends[0], "to": ends[1]}));
    let nodes = ids.iter().map(|id| serde_json::json!({"id": id, "node_type": "Pass"}));
    let manifest = serde_json::json!({
        "version": "v1",
        "nodes": nodes.collect::<Vec<_>>(),
        "connections": connections.collect::<Vec<_>>(),
    });
    Runtime::new(registry, Limits::default()).load(manifest.to_string().as_bytes()).unwrap()
}

/// How often a run on so many of these items allocates, from its making to its end.
fn allocations(plan: &Arc<Plan>, item: &Value, items: usize) -> usize {
    let input = Value::list(vec![item.clone(); items]);
    let before = COUNT.get();
    let run = Run::new(plan.clone(), &input, None).unwrap();
    let Ok(Progress::Done(Value::List(outputs))) = run.drive(None) else { panic!("it ends") };
    drop(run);
    let count = COUNT.get() - before;
    assert_eq!(outputs[..], vec![item.clone(); items]);
    count
}

fn kinds() -> [(&'static str, Value); 3] {
    let tensor = Tensor::new(DType::F32, &[960], Buffer::copy_of(&[0; 960 * 4]).unwrap());
    [
        ("a number", Value::Int(1)),
        ("text", Value::text("one")),
        ("an array", Value::Tensor(Arc::new(tensor.unwrap()))),
    ]
}

#[test]
fn one_more_item_allocates_nothing() {
    let plan = chain(3);
    for (kind, item) in kinds() {
        let (few, many) = (allocations(&plan, &item, 1_000), allocations(&plan, &item, 64_000));
        // The list of the outputs doubles six times from 1,000 to 64,000; nothing else grows.
        assert!(many <= few + 6, "{kind}: {few} for 1,000 items, {many} for 64,000");
    }
}

#[test]
fn a_run_of_one_item_allocates_little() {
    for (kind, item) in kinds() {
        let [three, four] = [3, 4].map(|nodes| allocations(&chain(nodes), &item, 1));
        assert!(three <= 9, "{kind}: {three} with 3 nodes");
        // The place for what the node gives. A node that holds something is a second one.
        assert!(four <= three + 1, "{kind}: {three} with 3 nodes, {four} with 4");
    }
}
