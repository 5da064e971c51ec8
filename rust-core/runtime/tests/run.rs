//! What a run promises: order, lifecycle on every way out, slices, time limits, cancellation.

use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    AsyncNode, BoxFuture, Code, Context, Error, Instance, Limits, Node, NodeType, Options, Plan,
    Progress, Pushed, Registry, Result, Run, Runtime, Value, Want,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the nodes of each test were asked to do, on whatever thread.
static TRACES: Mutex<Vec<Vec<String>>> = Mutex::new(Vec::new());

thread_local! {
    /// The place of this test's trace.
    static TRACE: usize = {
        let mut traces = TRACES.lock().unwrap();
        traces.push(Vec::new());
        traces.len() - 1
    };
}

fn traced() -> Vec<String> {
    std::mem::take(&mut TRACES.lock().unwrap()[TRACE.with(|&place| place)])
}

#[derive(Deserialize, JsonSchema, Clone)]
struct Params {
    name: String,
    /// Where to write down what happens.
    trace: usize,
    /// Where it goes wrong: "initialize", "process", "flush", "cleanup", each also with "panic".
    #[serde(default)]
    fails: String,
    /// Emits every value this often.
    #[serde(default = "one")]
    times: usize,
}

fn one() -> usize {
    1
}

/// Writes down what it is asked to do; appends its name to text.
struct Tracer(Params);

impl Tracer {
    fn step(&self, step: &str) -> Result<()> {
        TRACES.lock().unwrap()[self.0.trace].push(format!("{} {step}", self.0.name));
        match self.0.fails.split_once(' ') {
            None if self.0.fails == step => Err(Error::node(format!("no {step}"))),
            Some((at, _)) if at == step => panic!("in {step}"),
            _ => Ok(()),
        }
    }

    fn give(&self, value: &Value) -> Vec<Value> {
        let text = format!("{}{}", value.as_text().unwrap_or("?"), self.0.name);
        vec![Value::text(text); self.0.times]
    }
}

impl Node for Tracer {
    fn initialize(&mut self) -> Result<()> {
        self.step("initialize")
    }

    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        self.step("process")?;
        self.give(&value).into_iter().for_each(|value| cx.emit(value));
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        self.step("flush")?;
        cx.emit(Value::text(format!("!{}", self.0.name)));
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        self.step("cleanup")
    }
}

/// The same, waiting in between.
struct Waiter(Tracer);

impl AsyncNode for Waiter {
    fn initialize(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.initialize() })
    }

    fn process<'a>(
        &'a mut self,
        value: Value,
        out: &'a mut Vec<Value>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.0.step("process")?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            out.extend(self.0.give(&value));
            Ok(())
        })
    }

    fn cleanup(&mut self) -> Result<()> {
        self.0.cleanup()
    }
}

/// Never done, but willing to stop.
struct Endless;

impl Node for Endless {
    fn process(&mut self, _: Value, cx: &mut Context) -> Result<()> {
        loop {
            cx.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How many values [`Before`] has begun with.
static BEGUN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
/// How many values it gets.
const PIECES: usize = 4;

/// Takes long enough for each value to be handed on by itself.
struct Before;

impl Node for Before {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        *BEGUN.0.lock().unwrap() += 1;
        BEGUN.1.notify_all();
        std::thread::sleep(Duration::from_millis(1));
        cx.emit(value);
        Ok(())
    }
}

/// Is done with a value only when [`Before`], which gave it, has begun with the next.
struct Behind(usize);

impl Node for Behind {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        self.0 += 1;
        let next = (self.0 + 1).min(PIECES);
        let (begun, changed) = &BEGUN;
        let limit = Duration::from_secs(60);
        let waited = changed.wait_timeout_while(begun.lock().unwrap(), limit, |at| *at < next);
        if waited.unwrap().1.timed_out() {
            return Err(Error::node("the node before stands still"));
        }
        cx.emit(value);
        Ok(())
    }
}

fn runtime() -> Runtime {
    let about =
        |name| About { name, summary: "", takes: "", gives: "", heavy: false, example: json!({}) };
    let heavy = |name| About { heavy: true, ..about(name) };
    let mut registry = Registry::default();
    registry.add([
        NodeType::new::<Params>(about("Trace"), |p| Instance::new(Tracer(p.clone()))),
        NodeType::new::<Params>(about("Wait"), |p| Instance::new_async(Waiter(Tracer(p.clone())))),
        NodeType::new::<Params>(about("Endless"), |_| Instance::new(Endless)),
        NodeType::new::<Params>(heavy("Before"), |_| Instance::new(Before)),
        NodeType::new::<Params>(heavy("Behind"), |_| Instance::new(Behind(0))),
    ]);
    Runtime::new(registry, Limits::default())
}

/// A run of nodes given as (type, name, what fails) and connections given as "a b".
fn start(nodes: &[(&str, &str, &str)], edges: &[&str], input: &Json, timeout: Option<u64>) -> Run {
    let input = remotemedia_runtime::json::parse(input.to_string().as_bytes(), &[], 100).unwrap();
    Run::new(plan(nodes, edges), &input, timeout.map(Duration::from_millis)).unwrap()
}

fn plan(nodes: &[(&str, &str, &str)], edges: &[&str]) -> Arc<Plan> {
    let nodes: Vec<Json> = nodes
        .iter()
        .map(|(kind, name, fails)| {
            let params = json!({"name": name, "trace": TRACE.with(|&place| place), "fails": fails});
            json!({"id": name, "node_type": kind, "params": params})
        })
        .collect();
    let edges: Vec<Json> = edges
        .iter()
        .map(|edge| {
            let (from, to) = edge.split_once(' ').unwrap();
            json!({"from": from, "to": to})
        })
        .collect();
    let manifest = json!({"version": "v1", "nodes": nodes, "connections": edges}).to_string();
    runtime().load(manifest.as_bytes()).unwrap()
}

fn finish(run: &Run) -> Result<Vec<String>> {
    match run.drive(None)? {
        Progress::Pending => panic!("there was no limit"),
        Progress::Done(outputs) => match outputs {
            Value::List(list) => Ok(list.iter().map(|v| v.as_text().unwrap().to_owned()).collect()),
            other => panic!("{other:?}"),
        },
    }
}

const CHAIN: [&str; 2] = ["a b", "b c"];

fn chain(fails: [&str; 3]) -> [(&str, &str, &str); 3] {
    [("Trace", "a", fails[0]), ("Trace", "b", fails[1]), ("Trace", "c", fails[2])]
}

#[test]
fn every_node_is_initialized_processed_flushed_and_cleaned_up_once() {
    let run = start(&chain(["", "", ""]), &CHAIN, &json!(["x"]), None);
    assert_eq!(finish(&run).unwrap(), ["xabc", "!abc", "!bc", "!c"]);
    assert_eq!(
        traced(),
        [
            "a initialize",
            "b initialize",
            "c initialize",
            "a process",
            "b process",
            "c process",
            "a flush",
            "b process",
            "b flush",
            "c process",
            "c process",
            "c flush",
            "c cleanup",
            "b cleanup",
            "a cleanup",
        ]
    );
    assert_eq!(run.drive(None).unwrap_err().code, Code::Closed);
    drop(run);
    assert!(traced().is_empty());
}

#[test]
fn cleanup_follows_every_failure_and_the_error_says_where() {
    for (at, panics) in
        [("initialize", false), ("process", true), ("flush", false), ("flush", true)]
    {
        let fails = if panics { format!("{at} panic") } else { at.to_owned() };
        let run = start(&chain(["", &fails, ""]), &CHAIN, &json!(["x", "y"]), None);
        let error = finish(&run).unwrap_err();
        let code = if panics { Code::Panic } else { Code::Node };
        let item = (at == "process").then_some(0);
        assert_eq!((error.code, error.node.as_deref(), error.item), (code, Some("b"), item));
        assert_eq!(error.node_type.as_deref(), Some("Trace"));
        let cleaned: Vec<_> =
            traced().into_iter().filter(|line| line.contains("cleanup")).collect();
        // A node whose initialize failed holds nothing, and one after it never began.
        let expected: &[_] = match at {
            "initialize" => &["a cleanup"],
            _ => &["c cleanup", "b cleanup", "a cleanup"],
        };
        assert_eq!(cleaned, expected, "{fails}");
    }
}

/// A node that has a time for each value is worked on in another way than one that has not.
#[test]
fn a_failure_is_counted_in_every_way_of_running() {
    for options in [json!({}), json!({"timeout": 600})] {
        let params = json!({"name": "n", "fails": "process", "trace": TRACE.with(|&place| place)});
        let mut node = json!({"id": "n", "node_type": "Trace", "params": params});
        node.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let manifest = json!({"version": "v1", "nodes": [node]}).to_string();
        let plan = runtime().load(manifest.as_bytes()).unwrap();
        let run = Run::new(plan, &Value::list(vec![Value::text("x")]), None).unwrap();
        assert_eq!(finish(&run).unwrap_err().code, Code::Node);
        let report = remotemedia_runtime::json::write(&run.report().unwrap(), &mut Vec::new());
        let report = String::from_utf8(report.unwrap()).unwrap();
        let wanted = "\"items_in\":1,\"items_out\":0,\"errors\":1,\"retries\":0";
        assert!(report.contains(wanted), "{options}: {report}");
    }
}

#[test]
fn a_failing_cleanup_fails_the_run_but_not_the_other_cleanups() {
    for fails in ["cleanup", "cleanup panic"] {
        let run = start(&chain(["", fails, "cleanup"]), &CHAIN, &json!([]), None);
        let error = finish(&run).unwrap_err();
        assert_eq!(error.node.as_deref(), Some("c"));
        let trace = traced();
        assert_eq!(trace[trace.len() - 3..], ["c cleanup", "b cleanup", "a cleanup"]);
    }
    let run = start(&chain(["cleanup", "process", ""]), &CHAIN, &json!(["x"]), None);
    let error = finish(&run).unwrap_err();
    assert_eq!(error.node.as_deref(), Some("b"));
    assert_eq!(error.causes[0].node.as_deref(), Some("a"));
}

#[test]
fn values_come_by_item_and_then_by_the_order_of_connections() {
    let nodes = [("Trace", "s", ""), ("Trace", "l", ""), ("Trace", "r", ""), ("Trace", "join", "")];
    let edges = ["s r", "s l", "r join", "l join"];
    let run = start(&nodes, &edges, &json!(["1", "2"]), None);
    let outputs = finish(&run).unwrap();
    assert_eq!(
        outputs,
        [
            "1srjoin", "1sljoin", "2srjoin", "2sljoin", "!srjoin", "!rjoin", "!sljoin", "!ljoin",
            "!join",
        ]
    );
}

#[test]
fn sinks_stand_in_the_order_of_the_manifest_and_sources_get_their_own_items() {
    let nodes = [("Trace", "z", ""), ("Trace", "y", ""), ("Trace", "x", "")];
    let run = start(&nodes, &["y x"], &json!({"z": ["1"], "y": ["2", "3"]}), None);
    assert_eq!(finish(&run).unwrap(), ["1z", "!z", "2yx", "3yx", "!yx", "!x"]);
    let report = remotemedia_runtime::json::write(&run.report().unwrap(), &mut Vec::new()).unwrap();
    let report: Json = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["items"], 2);
    assert_eq!(report["sinks"], json!({"z": 2, "x": 4}));
    assert_eq!(report["nodes"]["y"]["items_in"], 2);
    assert_eq!(report["nodes"]["y"]["items_out"], 3);
}

#[test]
fn a_run_goes_on_where_a_slice_ended() {
    for kind in ["Trace", "Wait"] {
        let nodes = [(kind, "a", ""), (kind, "b", "")];
        let run = start(&nodes, &["a b"], &json!(["1", "2", "3"]), None);
        let mut slices = 0;
        let outputs = loop {
            match run.drive(Some(Instant::now())).unwrap() {
                Progress::Pending => slices += 1,
                Progress::Done(outputs) => break outputs,
            }
        };
        assert!(slices >= 8, "{kind}: {slices}");
        let whole = start(&nodes, &["a b"], &json!(["1", "2", "3"]), None);
        match whole.drive(None).unwrap() {
            Progress::Done(expected) => assert_eq!(outputs, expected),
            Progress::Pending => panic!("there was no limit"),
        }
    }
}

#[test]
fn a_time_limit_ends_nodes_that_wait_and_nodes_that_ask() {
    for kind in ["Wait", "Endless"] {
        let items: Vec<String> = vec!["x".to_owned(); 10_000];
        let run = start(&[(kind, "n", "")], &[], &json!(items), Some(30));
        let begun = Instant::now();
        let error = finish(&run).unwrap_err();
        assert_eq!((error.code, error.node.as_deref()), (Code::Timeout, Some("n")));
        assert!(error.item.is_some());
        assert!(begun.elapsed() < Duration::from_secs(5));
        if kind == "Wait" {
            assert_eq!(traced().last().unwrap(), "n cleanup");
        }
    }
}

#[test]
fn cancelling_ends_nodes_that_wait_and_nodes_that_ask() {
    for kind in ["Wait", "Endless"] {
        let items: Vec<String> = vec!["x".to_owned(); 10_000];
        let run = start(&[(kind, "n", "")], &[], &json!(items), None);
        let control = run.control();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            control.cancel();
        });
        assert_eq!(finish(&run).unwrap_err().code, Code::Cancelled);
        canceller.join().unwrap();
    }
}

#[test]
fn an_abandoned_run_is_cleaned_up() {
    let run = start(&[("Wait", "n", "")], &[], &json!(["x", "y"]), None);
    let begun = Instant::now();
    let mut seen = Vec::new();
    while seen.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(matches!(run.drive(Some(Instant::now())).unwrap(), Progress::Pending));
        seen.extend(traced());
    }
    drop(run);
    seen.extend(traced());
    assert_eq!(seen.last().map(String::as_str), Some("n cleanup"));
    assert_eq!(seen.iter().filter(|line| *line == "n cleanup").count(), 1);
}

#[test]
fn a_manifest_is_read_once() {
    let runtime = runtime();
    let text = |n: usize| {
        let params = json!({"name": "n", "trace": 0});
        let node = json!({"id": format!("n{n}"), "node_type": "Trace", "params": params});
        json!({"version": "v1", "nodes": [node]}).to_string()
    };
    for _ in 0..3 {
        runtime.load(text(0).as_bytes()).unwrap();
    }
    assert_eq!(runtime.manifests_parsed(), 1);
    // Many others push it out, but not the one in use.
    for n in 1..200 {
        runtime.load(text(n).as_bytes()).unwrap();
        runtime.load(text(0).as_bytes()).unwrap();
    }
    assert_eq!(runtime.manifests_parsed(), 200);
}

#[test]
fn who_only_looks_sees_at_once_that_the_time_is_over() {
    let timeout = Some(Duration::from_millis(1));
    let plan = plan(&[("Trace", "n", "")], &[]);
    let run = Run::open(plan, Options { window: 1, timeout }).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert!(run.wait(Want::END, Some(Instant::now())));
    assert_eq!(run.outcome().unwrap().unwrap_err().code, Code::Timeout);
}

#[test]
fn who_has_waited_in_vain_is_notified() {
    let plan = plan(&[("Trace", "n", "")], &[]);
    let run = Run::open(plan, Options { window: 1, timeout: None }).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    run.set_notify(Some(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    })));
    assert!(run.wait(Want::BEGUN, None));
    assert!(traced().contains(&"n initialize".to_owned()));
    assert_eq!(run.try_push(Value::text("x"), None).unwrap(), Pushed::Accepted(0));
    assert!(!run.wait(Want::ROOM, Some(Instant::now())));
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert!(run.try_pull().unwrap().is_some());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_run_that_was_cancelled_takes_nothing() {
    let plan = plan(&[("Trace", "n", "")], &[]);
    let run = Run::open(plan, Options::default()).unwrap();
    assert!(run.wait(Want::BEGUN, None));
    run.control().cancel();
    let error = run.try_push(Value::text("x"), None).unwrap_err();
    assert_eq!(error.code, Code::Cancelled);
    assert!(!traced().contains(&"n process x".to_owned()));
}

#[test]
fn a_heavy_node_goes_on_while_what_it_gave_is_in_work() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let items: Vec<_> = (0..PIECES).map(|number| number.to_string()).collect();
    let run = start(&[("Before", "a", ""), ("Behind", "b", "")], &["a b"], &json!(items), None);
    assert_eq!(finish(&run).unwrap(), items);
}
