//! Random graphs, random chunks, random answers of a host: what comes out, and what error, is
//! always what a naive interpreter finds that knows nothing of stages, queues and threads.

use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    AsyncNode, BoxFuture, Context, Error, Instance, Limits, Node, NodeType, Options, Output, Plan,
    Progress, Pushed, Registry, Result, Run, Runtime, Task, TaskCall, Value, Want,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Steele, Lea and Flood's SplitMix64.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0, 0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Int(number) => *number as u64,
        Value::List(items) => items.iter().fold(7, |hash, item| mix(hash, number(item))),
        other => panic!("{other:?}"),
    }
}

/// What a node does: gives none, one or two numbers made of what it gets, of its seed and, with
/// state, of how much it has got; fails on one value in so many.
#[derive(Clone, Deserialize, JsonSchema)]
struct Model {
    seed: u64,
    stateful: bool,
    /// 0: never.
    fails: u64,
    #[serde(skip)]
    count: u64,
}

impl Model {
    fn process(&mut self, value: &Value) -> Result<Vec<Value>> {
        let state = if self.stateful { self.count } else { 0 };
        self.count += 1;
        let hash = mix(mix(self.seed, number(value)), state);
        if self.fails > 0 && hash.is_multiple_of(self.fails) {
            return Err(Error::node(format!("hash {hash}")));
        }
        let given = [1, 1, 1, 0, 2][(hash % 5) as usize];
        Ok((0..given).map(|at| Value::Int((mix(hash, at) >> 1) as i64)).collect())
    }

    fn flush(&mut self) -> Vec<Value> {
        match self.stateful {
            true => vec![Value::Int((mix(self.seed, self.count) >> 1) as i64)],
            false => Vec::new(),
        }
    }
}

/// How many nodes are between initialize and cleanup.
static LIVE: AtomicI64 = AtomicI64::new(0);

impl Node for Model {
    fn initialize(&mut self) -> Result<()> {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        Model::process(self, &value)?.into_iter().for_each(|value| cx.emit(value));
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        Model::flush(self).into_iter().for_each(|value| cx.emit(value));
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Waits(Model);

impl AsyncNode for Waits {
    fn initialize(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Node::initialize(&mut self.0) })
    }

    fn process<'a>(
        &'a mut self,
        value: Value,
        out: &'a mut Vec<Value>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            out.extend(self.0.process(&value)?);
            Ok(())
        })
    }

    fn flush<'a>(&'a mut self, out: &'a mut Vec<Value>) -> BoxFuture<'a, Result<()>> {
        out.extend(self.0.flush());
        Box::pin(async { Ok(()) })
    }

    fn cleanup(&mut self) -> Result<()> {
        Node::cleanup(&mut self.0)
    }
}

fn runtime() -> Runtime {
    let about =
        |name, heavy| About { name, summary: "", takes: "", gives: "", heavy, example: json!({}) };
    let make = |model: &Model| Instance::new(model.clone());
    let mut registry = Registry::default();
    registry.add([
        NodeType::new::<Model>(about("Cheap", false), make),
        NodeType::new::<Model>(about("Heavy", true), make),
        NodeType::new::<Model>(about("Crew", true), make).stateless(),
        NodeType::new::<Model>(about("Wait", false), |p| Instance::new_async(Waits(p.clone()))),
        NodeType::host("Host"),
    ]);
    Runtime::new(registry, Limits::default())
}

/// A graph as the naive interpreter knows it.
struct Graph {
    models: Vec<Model>,
    joins: Vec<&'static str>,
    /// What happens to a value on which the node fails.
    on_error: Vec<&'static str>,
    /// Upstream nodes in the order of the connections.
    inputs: Vec<Vec<usize>>,
    plan: Arc<Plan>,
}

impl Graph {
    fn random(rng: &mut Rng, kinds: &[&'static str], fails: bool) -> Graph {
        let count = 1 + rng.below(9);
        // Where the nodes stand in the manifest has nothing to do with their order.
        let mut place: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            place.swap(at, rng.below(at + 1));
        }
        let mut inputs = vec![Vec::new(); count];
        let mut connections = Vec::new();
        for to in 1..count {
            for _ in 0..rng.below(4) {
                let (from, to) = (place[rng.below(to)], place[to]);
                if !inputs[to].contains(&from) {
                    inputs[to].push(from);
                    let mut connection =
                        json!({"from": format!("n{from}"), "to": format!("n{to}")});
                    if rng.one_in(6) {
                        connection["queue"] = json!({"items": 1 + rng.below(3)});
                    }
                    connections.push(connection);
                }
            }
        }
        let (mut models, mut joins, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut nodes = Vec::new();
        for (at, inputs) in inputs.iter().enumerate() {
            let kind = kinds[rng.below(kinds.len())];
            let model = Model {
                seed: rng.next() >> 1,
                stateful: kind != "Crew" && rng.one_in(2),
                fails: if fails && rng.one_in(3) { 5 + rng.next() % 40 } else { 0 },
                count: 0,
            };
            let params =
                json!({"seed": model.seed, "stateful": model.stateful, "fails": model.fails});
            let mut node = json!({"id": format!("n{at}"), "node_type": kind, "params": params});
            let (mut join, mut on_error) = ("any", "fail");
            if inputs.len() > 1 && rng.one_in(3) {
                join = ["zip", "latest"][rng.below(2)];
                node["join"] = json!(join);
            }
            if rng.one_in(4) {
                on_error = ["skip", "passthrough"][rng.below(2)];
                node["on_error"] = json!(on_error);
            }
            if kind == "Crew" {
                node["parallelism"] = json!(2 + rng.below(3));
            }
            nodes.push(node);
            models.push(model);
            joins.push(join);
            errors.push(on_error);
        }
        let manifest = json!({"version": "v1", "nodes": nodes, "connections": connections});
        let plan = runtime().load(manifest.to_string().as_bytes()).unwrap();
        Graph { models, joins, on_error: errors, inputs, plan }
    }

    fn sources(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|&node| self.inputs[node].is_empty()).collect()
    }

    /// Always the first in the manifest of those whose inputs are done.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        while order.len() < self.inputs.len() {
            let free = |&node: &usize| {
                !order.contains(&node) && self.inputs[node].iter().all(|from| order.contains(from))
            };
            order.push((0..self.inputs.len()).find(free).unwrap());
        }
        order
    }

    /// What comes out for these items, each for all sources or for one, and how it ends.
    fn interpret(
        &self,
        items: &[(u64, Option<usize>)],
    ) -> (Vec<Output>, Option<(String, Option<u64>)>) {
        let mut models = self.models.clone();
        let mut held: Vec<Vec<VecDeque<Value>>> =
            self.inputs.iter().map(|inputs| vec![VecDeque::new(); inputs.len()]).collect();
        let order = self.order();
        let mut outputs = Vec::new();
        for sweep in 0..=items.len() {
            let item = items.get(sweep);
            let seq = item.map(|_| sweep as u64);
            let mut given: Vec<Vec<Value>> = vec![Vec::new(); models.len()];
            for &node in &order {
                let mut inbox = Vec::new();
                if self.inputs[node].is_empty() {
                    if let Some(&(value, only)) = item
                        && only.is_none_or(|only| only == node)
                    {
                        inbox.push(Value::Int(value as i64));
                    }
                } else if self.joins[node] == "any" {
                    for &from in &self.inputs[node] {
                        inbox.extend(given[from].iter().cloned());
                    }
                } else {
                    let held = &mut held[node];
                    for (queue, &from) in held.iter_mut().zip(&self.inputs[node]) {
                        queue.extend(given[from].iter().cloned());
                    }
                    if self.joins[node] == "zip" {
                        while held.iter().all(|queue| !queue.is_empty()) {
                            inbox.push(Value::list(
                                held.iter_mut().map(|queue| queue.pop_front().unwrap()).collect(),
                            ));
                        }
                    } else {
                        let firsts: Vec<Value> = held[0].drain(..).collect();
                        let latest: Option<Vec<Value>> =
                            held[1..].iter().map(|queue| queue.back().cloned()).collect();
                        for first in firsts {
                            if let Some(latest) = &latest {
                                let all = [vec![first], latest.clone()].concat();
                                inbox.push(Value::list(all));
                            }
                        }
                    }
                }
                for value in inbox {
                    match (models[node].process(&value), self.on_error[node]) {
                        (Ok(values), _) => given[node].extend(values),
                        (Err(_), "skip") => {}
                        (Err(_), "passthrough") => given[node].push(value),
                        (Err(error), _) => {
                            let place = format!("n{node} {}", error.message);
                            return (outputs, Some((place, seq)));
                        }
                    }
                }
                if item.is_none() {
                    given[node].extend(models[node].flush());
                }
            }
            for (node, values) in given.into_iter().enumerate() {
                if !self.inputs.iter().any(|inputs| inputs.contains(&node)) {
                    let output = |value| Output { node, item: seq, value };
                    outputs.extend(values.into_iter().map(output));
                }
            }
        }
        (outputs, None)
    }
}

/// Does the host's work: computes in order, answers in any.
struct Host {
    models: HashMap<usize, Model>,
    /// Answers that were not yet given.
    done: Vec<(usize, u64, Result<Vec<Value>>)>,
    calls: HashMap<usize, Vec<&'static str>>,
}

impl Host {
    fn new(graph: &Graph) -> Host {
        let models = graph.models.iter().cloned().enumerate().collect();
        Host { models, done: Vec::new(), calls: HashMap::new() }
    }

    fn take(&mut self, tasks: Vec<Task>) {
        for Task { node, id, call, .. } in tasks {
            let model = self.models.get_mut(&node).unwrap();
            let (name, result) = match call {
                TaskCall::Initialize(params) => {
                    assert_eq!(params["seed"], model.seed);
                    ("initialize", Ok(Vec::new()))
                }
                TaskCall::Process(value) => ("process", model.process(&value)),
                TaskCall::Flush => ("flush", Ok(model.flush())),
                TaskCall::Cleanup => ("cleanup", Ok(Vec::new())),
                other => panic!("{other:?}"),
            };
            self.calls.entry(node).or_default().push(name);
            self.done.push((node, id, result));
        }
    }

    /// Answers some, in any order. False if there was nothing.
    fn answer(&mut self, run: &Run, rng: &mut Rng) -> bool {
        let mut any = false;
        while !(self.done.is_empty() || any && rng.one_in(3)) {
            let (node, id, result) = self.done.swap_remove(rng.below(self.done.len()));
            run.finish(node, id, result).unwrap();
            any = true;
        }
        any
    }
}

fn place(error: &Error) -> (String, Option<u64>) {
    (format!("{} {}", error.node.as_deref().unwrap_or("?"), error.message), error.item)
}

/// Feeds a run in random chunks, from one thread.
fn streamed(
    graph: &Graph,
    items: &[(u64, Option<usize>)],
    rng: &mut Rng,
) -> (Vec<Output>, Option<(String, Option<u64>)>) {
    let window = 1 + rng.below(20);
    let run = Run::open(graph.plan.clone(), Options { window, timeout: None }).unwrap();
    let mut host = Host::new(graph);
    let mut left = items.iter();
    let mut next = left.next();
    let mut outputs = Vec::new();
    let mut ended = false;
    let error = loop {
        match rng.below(4) {
            0 | 1 => {
                for _ in 0..=rng.below(window + 2) {
                    let Some(&(value, only)) = next else { break };
                    let id = only.map(|node| format!("n{node}"));
                    match run.try_push(Value::Int(value as i64), id.as_deref()) {
                        Ok(Pushed::Accepted(number)) => {
                            assert_eq!(number as usize, items.len() - left.len() - 1);
                            next = left.next();
                        }
                        Ok(Pushed::Full) => break,
                        Err(_) => break,
                    }
                }
                if next.is_none() && !ended {
                    ended = true;
                    let _ = run.end();
                }
            }
            2 => {
                let pulled = run.try_pull_many(1 + rng.below(5), &mut outputs);
                if let Err(error) = pulled {
                    break error;
                }
            }
            _ => {
                host.take(run.take_work(1 + rng.below(9)));
                host.answer(&run, rng);
                let want = match (next.is_some(), host.done.is_empty()) {
                    (_, false) => continue,
                    (true, true) => Want::OUTPUT.or(Want::WORK).or(Want::ROOM),
                    (false, true) => Want::OUTPUT.or(Want::WORK),
                };
                if next.is_none() && !ended {
                    continue;
                }
                // Nothing happens but what this thread does, or workers that have little to do.
                let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
                if !run.wait(want, Some(until)) {
                    panic!("nothing moves: {want:?}, {:?}", run.diagnose());
                }
            }
        }
    };
    check_host(&host);
    let over = error.code == remotemedia_runtime::Code::Closed;
    (outputs, (!over).then(|| place(&error)))
}

fn check_host(host: &Host) {
    for calls in host.calls.values() {
        assert_eq!(calls[0], "initialize");
        assert!(calls.iter().skip(1).all(|&call| call != "initialize"));
        assert_eq!(calls.iter().filter(|&&call| call == "cleanup").count(), 1, "{calls:?}");
        assert!(calls.iter().filter(|&&call| call == "flush").count() <= 1);
        assert_eq!(calls.last(), Some(&"cleanup"));
    }
}

/// The same as a batch: what every sink gave, one after the other.
fn batched(graph: &Graph, items: &[(u64, Option<usize>)], rng: &mut Rng) -> Result<Vec<Value>> {
    let all = Value::list(items.iter().map(|&(value, _)| Value::Int(value as i64)).collect());
    let run = Run::new(graph.plan.clone(), &all, None).unwrap();
    let mut host = Host::new(graph);
    let begun = std::time::Instant::now();
    loop {
        if begun.elapsed() > std::time::Duration::from_secs(20) {
            panic!("nothing moves: {:?}", run.diagnose());
        }
        let until = std::time::Instant::now() + std::time::Duration::from_micros(200);
        match run.drive(Some(until)) {
            Ok(Progress::Done(Value::List(outputs))) => {
                check_host(&host);
                return Ok(outputs.to_vec());
            }
            Ok(Progress::Done(other)) => panic!("{other:?}"),
            Ok(Progress::Pending) => {
                host.take(run.take_work(64));
                host.answer(&run, rng);
            }
            Err(error) => {
                check_host(&host);
                return Err(error);
            }
        }
    }
}

fn compare(name: &str, rounds: u64, kinds: &[&'static str], fails: bool) {
    let base = std::env::var("GRAPHS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = match base {
        Some(seed) => seed..seed + 1,
        None => 0..rounds,
    };
    for seed in seeds {
        let mut rng = Rng(mix(seed, kinds.len() as u64));
        let graph = Graph::random(&mut rng, kinds, fails);
        let sources = graph.sources();
        let items: Vec<(u64, Option<usize>)> = (0..rng.below(80))
            .map(|_| {
                let only = rng.one_in(4).then(|| sources[rng.below(sources.len())]);
                (rng.next() >> 1, only)
            })
            .collect();
        let expected = graph.interpret(&items);
        let found = streamed(&graph, &items, &mut rng);
        assert_eq!(found, expected, "{name}, seed {seed}: streamed");

        let items: Vec<_> = items.iter().map(|&(value, _)| (value, None)).collect();
        let (outputs, error) = graph.interpret(&items);
        let found = batched(&graph, &items, &mut rng);
        match (found, error) {
            (Ok(found), None) => {
                let mut expected = outputs;
                expected.sort_by_key(|output| output.node);
                let expected: Vec<Value> =
                    expected.into_iter().map(|output| output.value).collect();
                assert_eq!(found, expected, "{name}, seed {seed}: batch");
            }
            (Err(found), Some(error)) => {
                assert_eq!(place(&found), error, "{name}, seed {seed}: batch");
            }
            (found, expected) => {
                panic!("{name}, seed {seed}: {found:?} instead of {expected:?}");
            }
        }
    }
}

#[test]
fn cheap_nodes() {
    compare("cheap", 400, &["Cheap"], false);
    compare("cheap failing", 400, &["Cheap"], true);
}

#[test]
fn nodes_of_the_host() {
    compare("host", 300, &["Cheap", "Host"], false);
    compare("host failing", 300, &["Cheap", "Host"], true);
}

/// However many tasks the host has when what is in flight is discarded, the run goes on.
#[test]
fn an_interruption_makes_room_for_the_host() {
    let manifest = json!({"version": "v1", "nodes": [{"id": "h", "node_type": "Host"}]});
    let plan = runtime().load(manifest.to_string().as_bytes()).unwrap();
    for pushed in [1, 63, 64, 65, 200] {
        let run = Run::open(plan.clone(), Options { window: 1_000, timeout: None }).unwrap();
        let initialize = run.take_work(1).remove(0);
        run.finish(initialize.node, initialize.id, Ok(Vec::new())).unwrap();
        for item in 0..pushed {
            run.try_push(Value::Int(item), None).unwrap();
        }
        let taken = run.take_work(1_000);
        assert_eq!(taken.len(), pushed.min(64) as usize);
        run.interrupt().unwrap();
        run.try_push(Value::Int(-1), None).unwrap();
        let fresh = run.take_work(1_000);
        assert!(matches!(fresh[0].call, TaskCall::Interrupt), "{fresh:?}");
        assert!(fresh.len() == 2 && fresh[1].item == Some(pushed as u64), "{fresh:?}");
        // A late answer is for nobody.
        run.finish(taken[0].node, taken[0].id, Ok(vec![Value::Int(0)])).unwrap();
        run.finish(fresh[0].node, fresh[0].id, Ok(Vec::new())).unwrap();
        run.finish(fresh[1].node, fresh[1].id, Ok(vec![Value::Int(7)])).unwrap();
        let output = run.try_pull().unwrap().unwrap();
        assert_eq!((output.item, output.value), (Some(pushed as u64), Value::Int(7)));
    }
}

#[test]
fn nodes_with_threads() {
    compare("threads", 300, &["Cheap", "Heavy", "Wait"], false);
    compare("threads failing", 300, &["Cheap", "Heavy", "Wait"], true);
}

#[test]
fn nodes_of_every_kind() {
    let every = ["Cheap", "Heavy", "Wait", "Host", "Crew"];
    compare("every", 300, &every, false);
    compare("every failing", 300, &every, true);
}

#[test]
fn every_node_is_cleaned_up() {
    // In a process of its own for the count, if the tests run so; else it is approximate only
    // while others run, so it waits for them.
    compare("count", 50, &["Cheap", "Heavy", "Wait", "Crew"], true);
    let begun = std::time::Instant::now();
    while LIVE.load(Ordering::Relaxed) != 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
fn the_interpreter_is_not_trivial() {
    let mut rng = Rng(1);
    let (mut outputs, mut errors) = (0, 0);
    for _ in 0..50 {
        let graph = Graph::random(&mut rng, &["Cheap"], true);
        let items: Vec<_> = (0..40).map(|_| (rng.next() >> 1, None)).collect();
        let (given, error) = graph.interpret(&items);
        outputs += given.len();
        errors += usize::from(error.is_some());
    }
    assert!(outputs > 1_000 && errors > 10, "{outputs} {errors}");
    let _: Json = json!(null);
}
