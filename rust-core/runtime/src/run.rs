//! A plan in motion.
//!
//! [`Run::drive`] works on the thread that calls it, item by item and within an item node by node
//! in the order of the plan, and can stop between any two steps and go on later. A thread that
//! waits for a run is the thread that drives it, so a graph of nodes that compute needs no other
//! thread, no channel and no wake-up. Only for nodes that wait a tokio runtime is built, and that
//! one runs on the driving thread too.

use crate::error::{Code, Error, Result};
use crate::manifest::{Plan, PlanNode};
use crate::node::{BoxFuture, Context, Instance};
use crate::schema::did_you_mean;
use crate::value::Value;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Ends a run from another thread.
#[derive(Default)]
pub struct Control {
    cancelled: AtomicBool,
    notify: Notify,
}

impl Control {
    /// Cancels the run: whoever drives it gets `RM_E_CANCELLED` at the next step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn timed_out() -> Error {
        Error::new(Code::Timeout, "the run's time is over")
            .hint("allow more time, or give it less to do")
    }
}

/// How far a run has come.
#[derive(Debug)]
pub enum Progress {
    /// It is complete. These are the outputs of all sinks, in the order in which the sinks stand
    /// in the manifest.
    Done(Value),
    /// The time for this slice is over; drive it again.
    Pending,
}

/// One execution of a [`Plan`].
pub struct Run {
    plan: Arc<Plan>,
    slots: Vec<Slot>,
    input: Vec<Option<Arc<Vec<Value>>>>,
    items: usize,
    control: Arc<Control>,
    started: Instant,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    /// The end of the last step: the beginning of the next.
    clock: Instant,
    phase: Phase,
    /// The item in work, and the place in the plan's order.
    item: usize,
    at: usize,
    step: Step,
    /// What the node at that place has still to process, in reverse.
    inbox: Vec<Value>,
    /// How many values there are for the item in work: in the inbox, in what nodes gave, and in
    /// the results.
    alive: usize,
    pending: Option<Pending>,
    waiter: Option<tokio::runtime::Runtime>,
}

struct Slot {
    instance: Option<Instance>,
    initialized: bool,
    /// What the node gave for the item in work.
    out: Vec<Value>,
    /// How many of its consumers have yet to take that.
    unread: usize,
    /// For a sink: everything it gave.
    results: Vec<Value>,
    items_in: u64,
    items_out: u64,
    time: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Initialize,
    Items,
    Flush,
    Over,
}

/// Where in its work the node in turn is.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Enter,
    Values,
    Leave,
}

/// What a node is asked to do.
enum Call {
    Initialize,
    Process(Value),
    Flush,
}

struct Pending {
    future: BoxFuture<'static, (Result<()>, Vec<Value>)>,
    initialize: bool,
}

impl Run {
    /// Prepares a run on this input: a list, whose items go to every source node, or a map from
    /// the ids of source nodes to lists. Nothing runs before [`Run::drive`].
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for an input of another shape.
    pub fn new(plan: Arc<Plan>, input: &Value, timeout: Option<Duration>) -> Result<Run> {
        let input = distribute(&plan, input)?;
        let items = input.iter().flatten().map(|list| list.len()).max().unwrap_or(0);
        let slots = plan.nodes.iter().map(|_| Slot {
            instance: None,
            initialized: false,
            out: Vec::new(),
            unread: 0,
            results: Vec::new(),
            items_in: 0,
            items_out: 0,
            time: Duration::ZERO,
        });
        let now = Instant::now();
        Ok(Run {
            slots: slots.collect(),
            plan,
            input,
            items,
            control: Arc::default(),
            started: now,
            // A time beyond what the clock can say is no limit.
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            timeout,
            clock: now,
            phase: Phase::Initialize,
            item: 0,
            at: 0,
            step: Step::Enter,
            inbox: Vec::new(),
            alive: 0,
            pending: None,
            waiter: None,
        })
    }

    /// What ends this run from another thread.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    /// Works until the run is complete, or until `until` has passed and at least one step is done.
    ///
    /// # Errors
    /// What ended the run, with the node and the item where there is one. After an error, as after
    /// [`Progress::Done`], every node has been cleaned up and driving on is `RM_E_CLOSED`.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<Progress> {
        if self.phase == Phase::Over {
            return Err(Error::new(Code::Closed, "the run is over"));
        }
        if self.pending.is_none() {
            self.clock = Instant::now();
        }
        let advanced = catch_unwind(AssertUnwindSafe(|| self.advance(until)))
            .unwrap_or_else(|panic| Err(self.located(panicked(panic), self.current())));
        match advanced {
            Ok(false) => Ok(Progress::Pending),
            Ok(true) => match self.clean_up() {
                None => Ok(Progress::Done(self.outputs())),
                Some(error) => Err(error),
            },
            Err(error) => {
                if let Some(other) = self.clean_up() {
                    log::warn!("cleanup after an error failed as well: {other}");
                    return Err(error.caused_by(other));
                }
                Err(error)
            }
        }
    }

    /// Counts and times so far, as [`Plan::report`] has them.
    pub fn report(&self) -> Value {
        self.plan.describe(&self.counts())
    }

    /// The same, packed: numbers of 64 bits that [`Plan::report`] reads.
    pub fn counts(&self) -> Vec<u64> {
        let nanos = |time: Duration| time.as_nanos() as u64;
        let mut counts = Vec::with_capacity(3 + 3 * self.slots.len());
        counts.extend([self.items as u64, self.item as u64, nanos(self.clock - self.started)]);
        for slot in &self.slots {
            counts.extend([slot.items_in, slot.items_out, nanos(slot.time)]);
        }
        counts
    }

    fn outputs(&mut self) -> Value {
        let sinks = self.plan.nodes.iter().zip(&mut self.slots);
        let mut results =
            sinks.filter(|(node, _)| node.consumers == 0).map(|(_, slot)| &mut slot.results);
        let mut outputs = results.next().map_or(Vec::new(), std::mem::take);
        results.for_each(|more| outputs.append(more));
        Value::list(outputs)
    }

    /// True when there is nothing left to do, false when the time for this slice is over.
    fn advance(&mut self, until: Option<Instant>) -> Result<bool> {
        loop {
            if self.control.is_cancelled() {
                let error = Error::new(Code::Cancelled, "the run was cancelled");
                return Err(self.located(error, self.current()));
            }
            if self.pending.is_some() {
                if !self.resume(until)? {
                    return Ok(false);
                }
            } else {
                let Some((node, call)) = self.next()? else { return Ok(true) };
                self.call(node, call)?;
                if self.pending.is_some() {
                    continue;
                }
            }
            if self.deadline.is_some_and(|deadline| self.clock >= deadline) {
                return Err(self.out_of_time());
            }
            if until.is_some_and(|until| self.clock >= until) {
                return Ok(false);
            }
        }
    }

    fn current(&self) -> Option<usize> {
        self.plan.order.get(self.at).copied()
    }

    fn out_of_time(&self) -> Error {
        let seconds = self.timeout.unwrap_or_default().as_secs_f64();
        let mut error = Control::timed_out();
        error.message = format!("the run was not complete after {seconds} s");
        self.located(error, self.current())
    }

    /// The next thing to do, or None at the end.
    fn next(&mut self) -> Result<Option<(usize, Call)>> {
        loop {
            let Some(node) = self.current() else {
                // A sweep through all nodes is complete.
                match self.phase {
                    Phase::Initialize => self.phase = Phase::Items,
                    Phase::Items => self.item += 1,
                    Phase::Flush | Phase::Over => return Ok(None),
                }
                self.alive = 0;
                if self.phase == Phase::Items && self.item >= self.items {
                    self.phase = Phase::Flush;
                }
                self.at = 0;
                continue;
            };
            match self.step {
                Step::Enter if self.phase == Phase::Initialize => {
                    self.step = Step::Leave;
                    return Ok(Some((node, Call::Initialize)));
                }
                Step::Enter => {
                    self.gather(node)?;
                    self.step = Step::Values;
                }
                Step::Values => match self.inbox.pop() {
                    Some(value) => {
                        self.alive -= 1;
                        return Ok(Some((node, Call::Process(value))));
                    }
                    None => {
                        self.step = Step::Leave;
                        if self.phase == Phase::Flush {
                            return Ok(Some((node, Call::Flush)));
                        }
                    }
                },
                Step::Leave => {
                    self.deliver(node);
                    self.at += 1;
                    self.step = Step::Enter;
                }
            }
        }
    }

    /// Fills the inbox, in reverse, with what the node has to process for the item in work.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if that would be too many values.
    fn gather(&mut self, node: usize) -> Result<()> {
        let inputs = &self.plan.nodes[node].inputs;
        let copied = |slot: &Slot| if slot.unread > 1 { slot.out.len() } else { 0 };
        self.alive += inputs.iter().map(|&upstream| copied(&self.slots[upstream])).sum::<usize>();
        if self.alive > self.plan.values {
            return Err(self.too_many(node));
        }
        if inputs.is_empty() && self.phase == Phase::Items {
            let items = self.input[node].as_ref();
            self.inbox.extend(items.and_then(|items| items.get(self.item)).cloned());
            self.alive += self.inbox.len();
        }
        for &upstream in inputs {
            let slot = &mut self.slots[upstream];
            slot.unread -= 1;
            match slot.unread {
                0 => self.inbox.append(&mut slot.out),
                _ => self.inbox.extend(slot.out.iter().cloned()),
            }
        }
        self.inbox.reverse();
        Ok(())
    }

    fn too_many(&self, node: usize) -> Error {
        let message = format!("one item became more than {} values", self.plan.values);
        let error = Error::new(Code::Limit, message)
            .hint("let fewer ways lead to one node, or give the item in parts");
        self.located(error, Some(node))
    }

    /// Makes what the node gave ready for its consumers, or part of the result.
    fn deliver(&mut self, node: usize) {
        let slot = &mut self.slots[node];
        slot.unread = self.plan.nodes[node].consumers;
        if slot.unread == 0 {
            slot.results.append(&mut slot.out);
        }
    }

    fn call(&mut self, node: usize, call: Call) -> Result<()> {
        let slot = &mut self.slots[node];
        let instance = slot.instance.get_or_insert_with(|| (self.plan.nodes[node].factory)());
        let initialize = matches!(call, Call::Initialize);
        slot.items_in += u64::from(matches!(call, Call::Process(_)));
        let result = match instance {
            Instance::Sync(instance) => {
                let had = slot.out.len();
                let mut cx = Context {
                    out: &mut slot.out,
                    control: &self.control,
                    deadline: self.deadline,
                    most: had + self.plan.values.saturating_sub(self.alive),
                };
                let result = match call {
                    Call::Initialize => instance.initialize(),
                    Call::Process(value) => instance.process(value, &mut cx),
                    Call::Flush => instance.flush(&mut cx),
                };
                let made = slot.out.len() - had;
                slot.items_out += made as u64;
                self.alive += made;
                result
            }
            Instance::Async(instance) => {
                let instance = instance.clone();
                let future = Box::pin(async move {
                    let mut instance = instance.lock().await;
                    let mut out = Vec::new();
                    let result = match call {
                        Call::Initialize => instance.initialize().await,
                        Call::Process(value) => instance.process(value, &mut out).await,
                        Call::Flush => instance.flush(&mut out).await,
                    };
                    (result, out)
                });
                self.pending = Some(Pending { future, initialize });
                return Ok(());
            }
        };
        self.called(node, initialize, result)
    }

    /// Waits for the node that waits. False when the time for this slice is over.
    fn resume(&mut self, until: Option<Instant>) -> Result<bool> {
        let Some(mut pending) = self.pending.take() else { return Ok(true) };
        let waiter = match self.waiter.take() {
            Some(waiter) => waiter,
            None => tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(
                |e| Error::new(Code::Internal, format!("tokio could not be started: {e}")),
            )?,
        };
        let end = [until, self.deadline].into_iter().flatten().min();
        let done = waiter.block_on(async {
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut pending.future => Some(done),
                () = self.control.notify.notified() => None,
                () = over => None,
            }
        });
        self.waiter = Some(waiter);
        let node = self.plan.order[self.at];
        match done {
            Some((result, mut out)) => {
                let slot = &mut self.slots[node];
                slot.items_out += out.len() as u64;
                self.alive += out.len();
                slot.out.append(&mut out);
                self.called(node, pending.initialize, result)?;
                Ok(true)
            }
            None if self.control.is_cancelled() => {
                let error = Error::new(Code::Cancelled, "the run was cancelled");
                Err(self.located(error, Some(node)))
            }
            None if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                Err(self.out_of_time())
            }
            None => {
                self.pending = Some(pending);
                Ok(false)
            }
        }
    }

    /// Books a call that has returned.
    fn called(&mut self, node: usize, initialize: bool, result: Result<()>) -> Result<()> {
        let now = Instant::now();
        let slot = &mut self.slots[node];
        slot.time += now - self.clock;
        self.clock = now;
        if self.alive > self.plan.values {
            return Err(self.too_many(node));
        }
        match result {
            Ok(()) => {
                slot.initialized |= initialize;
                Ok(())
            }
            Err(error) if error.code == Code::Timeout => Err(self.out_of_time()),
            Err(error) => Err(self.located(error, Some(node))),
        }
    }

    /// The error with the node and the item where it happened.
    fn located(&self, error: Error, node: Option<usize>) -> Error {
        let Some(node) = node else { return error };
        let PlanNode { id, node_type, .. } = &self.plan.nodes[node];
        let mut error = error;
        error.item = (self.phase == Phase::Items).then_some(self.item as u64);
        error.in_node(id, node_type)
    }

    /// Cleans up every node that was initialized, once; hands back the first failure.
    fn clean_up(&mut self) -> Option<Error> {
        if self.phase == Phase::Over {
            return None;
        }
        self.phase = Phase::Over;
        // Dropped first: a future holds its node.
        self.pending = None;
        self.input = Vec::new();
        self.inbox = Vec::new();
        let mut failure = None;
        for at in (0..self.plan.order.len()).rev() {
            let node = self.plan.order[at];
            let slot = &mut self.slots[node];
            if !std::mem::take(&mut slot.initialized) {
                continue;
            }
            let Some(mut instance) = slot.instance.take() else { continue };
            let cleaned = catch_unwind(AssertUnwindSafe(|| match &mut instance {
                Instance::Sync(instance) => instance.cleanup(),
                Instance::Async(instance) => match instance.try_lock() {
                    Ok(mut instance) => instance.cleanup(),
                    Err(_) => Err(Error::new(Code::Internal, "the node is still in use")),
                },
            }));
            if let Err(error) = cleaned.unwrap_or_else(|panic| Err(panicked(panic))) {
                let error = self.located(error, Some(node));
                failure.get_or_insert(error);
            }
        }
        failure
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(error) = self.clean_up() {
            log::warn!("cleanup of an abandoned run failed: {error}");
        }
    }
}

/// A panic as an error.
pub fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Error::new(Code::Panic, format!("panicked: {text}"))
        .hint("this is a bug in the library or in a node, not in the pipeline; please report it")
}

/// The items for every node, by its place in the manifest.
fn distribute(plan: &Plan, input: &Value) -> Result<Vec<Option<Arc<Vec<Value>>>>> {
    let sources = || plan.nodes.iter().filter(|node| node.is_source()).map(|node| node.id.as_str());
    match input {
        Value::List(items) => {
            let nodes = plan.nodes.iter();
            Ok(nodes.map(|node| node.is_source().then(|| items.clone())).collect())
        }
        Value::Map(by_node) => {
            let mut input = vec![None; plan.nodes.len()];
            for (id, items) in by_node.iter() {
                let mut pointer = String::new();
                crate::json::push_pointer(&mut pointer, id);
                let wrong = |message: String, hint: String| {
                    Err(Error::new(Code::Argument, message).at(pointer.clone()).hint(hint))
                };
                let Some(place) = plan.nodes.iter().position(|node| *node.id == **id) else {
                    let hint = did_you_mean(id, sources(), "");
                    let hint = format!("{hint}; to pass one map as an item, put it in a list");
                    return wrong(
                        format!("the input names a node \"{id}\" that is not there"),
                        hint,
                    );
                };
                let node = &plan.nodes[place];
                if !node.is_source() {
                    let sources: Vec<_> = sources().collect();
                    return wrong(
                        format!(
                            "the node \"{id}\" gets its values from other nodes, not from the input"
                        ),
                        format!("nodes that take input: {}", sources.join(", ")),
                    );
                }
                let Value::List(items) = items else {
                    return wrong(
                        format!("the input for \"{id}\" is a list of items, not {}", items.kind()),
                        "put the item in a list".to_owned(),
                    );
                };
                input[place] = Some(items.clone());
            }
            Ok(input)
        }
        other => Err(Error::new(
            Code::Argument,
            format!("the input is a list of items, not {}", other.kind()),
        )
        .at("")
        .hint("put the item in a list; or pass a map from the ids of source nodes to lists")),
    }
}
