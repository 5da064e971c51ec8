//! A plan in motion.
//!
//! [`Run::drive`] works on the thread that calls it, item by item and within an item node by node
//! in the order of the plan, and can stop between any two steps and go on later. A thread that
//! waits for a run is the thread that drives it, so a graph of nodes that compute needs no other
//! thread, no channel and no wake-up. Only for nodes that wait a tokio runtime is built, and that
//! one runs on the driving thread too.

use crate::clock::{LOOK, Share, ticks};
use crate::error::{Code, Error, Result};
use crate::manifest::{Plan, PlanNode};
use crate::node::{AsyncNode, BoxFuture, Context, Instance};
use crate::schema::did_you_mean;
use crate::value::Value;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

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
    items: usize,
    control: Arc<Control>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    /// The counter at the end of the last step, which is the beginning of the next; and at the last
    /// look at the system's clock.
    clock: u64,
    looked: u64,
    /// Time spent in this run, but for the slice that is going on.
    spent: Share,
    phase: Phase,
    /// The item in work, and the place in the plan's order.
    item: usize,
    at: usize,
    step: Step,
    /// What the node at that place has still to process, in reverse.
    inbox: Vec<Value>,
    /// How many values there are for the item in work: in the inbox, and in what nodes gave.
    alive: usize,
    pending: Option<Pending>,
    waiter: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
struct Slot {
    /// For a source: all that it is to process.
    input: Option<Arc<Vec<Value>>>,
    instance: Option<Instance>,
    initialized: bool,
    /// What the node gave for the item in work; for a sink, everything it gave.
    out: Vec<Value>,
    /// How many of its consumers have yet to take that.
    unread: usize,
    items_in: u64,
    items_out: u64,
    ticks: u64,
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

/// How long to work.
#[derive(Clone, Copy)]
struct Slice {
    until: Option<Instant>,
    /// How far the counter may go on between looks at the clock.
    look: u64,
}

/// A call to a node that waits.
struct Pending {
    future: BoxFuture<'static, (Result<()>, Vec<Value>)>,
    initialize: bool,
}

impl Pending {
    fn new(instance: &Arc<Mutex<Box<dyn AsyncNode>>>, call: Call) -> Pending {
        let instance = instance.clone();
        let initialize = matches!(call, Call::Initialize);
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
        Pending { future, initialize }
    }
}

impl Run {
    /// Prepares a run on this input: a list, whose items go to every source node, or a map from
    /// the ids of source nodes to lists. Nothing runs before [`Run::drive`].
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for an input of another shape.
    pub fn new(plan: Arc<Plan>, input: &Value, timeout: Option<Duration>) -> Result<Run> {
        let slots = distribute(&plan, input)?;
        let lists = slots.iter().filter_map(|slot| slot.input.as_ref());
        let items = lists.map(|list| list.len()).max().unwrap_or(0);
        let now = Instant::now();
        Ok(Run {
            plan,
            slots,
            items,
            control: Arc::default(),
            // A time beyond what the clock can say is no limit.
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            timeout,
            clock: 0,
            looked: 0,
            spent: Share::default(),
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
    /// The clock is looked at every few microseconds.
    ///
    /// # Errors
    /// What ended the run, with the node and the item where there is one. After an error, as after
    /// [`Progress::Done`], every node has been cleaned up and driving on is `RM_E_CLOSED`.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<Progress> {
        if self.phase == Phase::Over {
            return Err(Error::new(Code::Closed, "the run is over"));
        }
        let began = (Instant::now(), ticks());
        if self.pending.is_none() {
            self.clock = began.1;
        }
        self.looked = began.1;
        let over = |end: Option<Instant>| end.is_some_and(|end| end <= began.0);
        let look = if over(until) || over(self.deadline) { 0 } else { LOOK };
        let slice = Slice { until, look };
        let advanced = catch_unwind(AssertUnwindSafe(|| self.advance(slice)))
            .unwrap_or_else(|panic| Err(self.located(panicked(panic), self.current())));
        let result = match advanced {
            Ok(false) => Ok(Progress::Pending),
            Ok(true) => match self.clean_up() {
                None => Ok(Progress::Done(self.outputs())),
                Some(error) => Err(error),
            },
            Err(error) => Err(match self.clean_up() {
                Some(other) => {
                    log::warn!("cleanup after an error failed as well: {other}");
                    error.caused_by(other)
                }
                None => error,
            }),
        };
        self.spent.add(began);
        result
    }

    /// Counts and times so far, as [`Plan::report`] has them.
    pub fn report(&self) -> Value {
        self.plan.describe(&self.counts())
    }

    /// The same, packed: numbers of 64 bits that [`Plan::report`] reads.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = Vec::with_capacity(3 + 3 * self.slots.len());
        counts.extend([self.items as u64, self.item as u64, self.spent.all()]);
        for slot in &self.slots {
            counts.extend([slot.items_in, slot.items_out, self.spent.nanos(slot.ticks)]);
        }
        counts
    }

    fn outputs(&mut self) -> Value {
        let sinks = self.plan.nodes.iter().zip(&mut self.slots);
        let mut results =
            sinks.filter(|(node, _)| node.consumers == 0).map(|(_, slot)| &mut slot.out);
        let mut outputs = results.next().map_or(Vec::new(), std::mem::take);
        results.for_each(|more| outputs.append(more));
        Value::list(outputs)
    }

    /// True when there is nothing left to do, false when the time for this slice is over.
    fn advance(&mut self, slice: Slice) -> Result<bool> {
        loop {
            if self.pending.is_some() && !self.resume(slice.until)? {
                return Ok(false);
            }
            let Some(node) = self.current() else {
                if self.end_sweep() {
                    return Ok(true);
                }
                continue;
            };
            let over = match self.step {
                Step::Enter if self.phase == Phase::Initialize => {
                    self.step = Step::Leave;
                    self.call(node, Call::Initialize, slice)?
                }
                Step::Enter => {
                    self.gather(node)?;
                    self.step = Step::Values;
                    continue;
                }
                Step::Values if !self.inbox.is_empty() => self.process(node, slice)?,
                Step::Values => {
                    self.step = Step::Leave;
                    if self.phase != Phase::Flush {
                        continue;
                    }
                    self.call(node, Call::Flush, slice)?
                }
                Step::Leave => {
                    self.slots[node].unread = self.plan.nodes[node].consumers;
                    self.at += 1;
                    self.step = Step::Enter;
                    continue;
                }
            };
            if over {
                return Ok(false);
            }
        }
    }

    /// Whether the time for this slice is over, at the end of a step.
    ///
    /// # Errors
    /// The run is to end.
    #[inline]
    fn look_up(&mut self, slice: Slice) -> Result<bool> {
        if self.control.is_cancelled() {
            return Err(self.cancelled());
        }
        if self.clock.wrapping_sub(self.looked) < slice.look {
            return Ok(false);
        }
        self.looked = self.clock;
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(self.out_of_time());
        }
        Ok(slice.until.is_some_and(|until| now >= until))
    }

    /// A sweep through all nodes is complete. True if it was the last.
    fn end_sweep(&mut self) -> bool {
        match self.phase {
            Phase::Initialize => self.phase = Phase::Items,
            Phase::Items => self.item += 1,
            Phase::Flush | Phase::Over => return true,
        }
        if self.phase == Phase::Items && self.item >= self.items {
            self.phase = Phase::Flush;
        }
        (self.at, self.alive) = (0, 0);
        false
    }

    fn cancelled(&self) -> Error {
        self.located(Error::new(Code::Cancelled, "the run was cancelled"), self.current())
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
            let items = self.slots[node].input.as_ref();
            self.inbox.extend(items.and_then(|items| items.get(self.item)).cloned());
            self.alive += self.inbox.len();
        }
        for &upstream in inputs {
            let slot = &mut self.slots[upstream];
            slot.unread -= 1;
            match slot.unread {
                0 if self.inbox.is_empty() => std::mem::swap(&mut self.inbox, &mut slot.out),
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

    /// Lets the node process what is in the inbox. True when the time for this slice is over.
    fn process(&mut self, node: usize, slice: Slice) -> Result<bool> {
        while let Some(value) = self.inbox.pop() {
            self.alive -= 1;
            self.slots[node].items_in += 1;
            if self.call(node, Call::Process(value), slice)? {
                return Ok(true);
            }
            if self.pending.is_some() {
                break;
            }
        }
        Ok(false)
    }

    /// One step. True when the time for this slice is over.
    #[inline]
    fn call(&mut self, node: usize, call: Call, slice: Slice) -> Result<bool> {
        let slot = &mut self.slots[node];
        let instance = slot.instance.get_or_insert_with(|| (self.plan.nodes[node].factory)());
        let instance = match instance {
            Instance::Sync(instance) => instance,
            Instance::Async(instance) => {
                self.pending = Some(Pending::new(instance, call));
                return Ok(false);
            }
        };
        let had = slot.out.len();
        let mut cx = Context {
            out: &mut slot.out,
            control: &self.control,
            deadline: self.deadline,
            most: had + self.plan.values.saturating_sub(self.alive),
        };
        let result = match call {
            Call::Process(value) => instance.process(value, &mut cx),
            Call::Flush => instance.flush(&mut cx),
            Call::Initialize => {
                let result = instance.initialize();
                slot.initialized = result.is_ok();
                result
            }
        };
        self.called(node, had, result)?;
        self.look_up(slice)
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
                slot.initialized |= pending.initialize && result.is_ok();
                let had = slot.out.len();
                slot.out.append(&mut out);
                self.called(node, had, result)?;
                // Whoever waited has the time to look at the clock.
                self.looked = self.clock;
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(self.out_of_time());
                }
                Ok(until.is_none_or(|until| Instant::now() < until))
            }
            None if self.control.is_cancelled() => Err(self.cancelled()),
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
    #[inline(always)]
    fn called(&mut self, node: usize, had: usize, result: Result<()>) -> Result<()> {
        let now = ticks();
        let slot = &mut self.slots[node];
        slot.ticks += now.saturating_sub(self.clock);
        self.clock = now;
        let made = slot.out.len() - had;
        slot.items_out += made as u64;
        self.alive += made;
        if self.alive > self.plan.values {
            return Err(self.too_many(node));
        }
        match result {
            Ok(()) => Ok(()),
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
        self.slots.iter_mut().for_each(|slot| slot.input = None);
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

/// A slot for every node of the plan, with the items where there are any.
fn distribute(plan: &Plan, input: &Value) -> Result<Vec<Slot>> {
    let slot = |input| Slot { input, ..Slot::default() };
    let sources = || plan.nodes.iter().filter(|node| node.is_source()).map(|node| node.id.as_str());
    match input {
        Value::List(items) => {
            let nodes = plan.nodes.iter();
            Ok(nodes.map(|node| slot(node.is_source().then(|| items.clone()))).collect())
        }
        Value::Map(by_node) => {
            let mut slots: Vec<_> = plan.nodes.iter().map(|_| slot(None)).collect();
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
                slots[place].input = Some(items.clone());
            }
            Ok(slots)
        }
        other => Err(Error::new(
            Code::Argument,
            format!("the input is a list of items, not {}", other.kind()),
        )
        .at("")
        .hint("put the item in a list; or pass a map from the ids of source nodes to lists")),
    }
}
