//! The straight way through a plan whose nodes compute and are one stage: a batch that is worked on
//! by one thread at a time, item by item and within an item node by node in the order of the plan.
//! It can stop between any two steps and go on later.
//!
//! What comes out is what [`crate::Run`] finds in every other way; here it costs least, as there is
//! nobody to share anything with.

use crate::clock::{LOOK, Share, ticks};
use crate::control::Control;
use crate::error::{Code, Error, Result};
use crate::layout::Role;
use crate::manifest::{Join, OnError, Plan, PlanNode};
use crate::metrics::{COUNTED, Histogram};
use crate::node::{Context, Instance};
use crate::run::{Progress, closed, distribute, located, panicked};
use crate::stage::{too_many_values, wrong_kind};
use crate::value::{List, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A whole input on its way through a plan.
pub(crate) struct Batch {
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
}

#[derive(Default)]
struct Slot {
    /// For a source: all that it is to process.
    input: Option<Arc<List>>,
    instance: Option<Instance>,
    initialized: bool,
    /// What the node gave for the item in work; for a sink, everything it gave.
    out: Vec<Value>,
    /// How many of its consumers have yet to take that.
    unread: usize,
    items_in: u64,
    items_out: u64,
    errors: u64,
    ticks: u64,
    /// Values by the ticks that they took.
    histogram: Histogram,
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

impl Batch {
    /// Whether this way is open to a plan.
    pub fn suits(plan: &Plan) -> bool {
        let plain = |node: &PlanNode| {
            node.join == Join::Any && node.on_error == OnError::Fail && node.timeout.is_none()
        };
        let stages = &plan.layout.stages;
        stages.len() == 1 && stages[0].role == Role::Sync && plan.nodes.iter().all(plain)
    }

    /// As [`crate::Run::new`].
    pub fn new(
        plan: Arc<Plan>,
        input: &Value,
        timeout: Option<Duration>,
        control: Arc<Control>,
    ) -> Result<Batch> {
        let mut slots: Vec<_> = plan.nodes.iter().map(|_| Slot::default()).collect();
        distribute(&plan, input, |node, items| slots[node].input = Some(items))?;
        let lists = slots.iter().filter_map(|slot| slot.input.as_ref());
        let items = lists.map(|list| list.len()).max().unwrap_or(0);
        Ok(Batch {
            plan,
            slots,
            items,
            control,
            // A time beyond what the clock can say is no limit.
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
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
        })
    }

    /// As [`crate::Run::drive`]. The clock is looked at every few microseconds.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<Progress> {
        if self.phase == Phase::Over {
            return Err(closed());
        }
        let began = (Instant::now(), ticks());
        self.clock = began.1;
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

    /// As [`crate::Run::counts`].
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = Vec::with_capacity(self.plan.counts());
        let all = self.spent.time.as_nanos() as u64;
        counts.extend([self.items as u64, self.item as u64, all]);
        let rate = self.spent.rate();
        for slot in &self.slots {
            let nanos = (slot.ticks as f64 * rate) as u64;
            counts.extend([slot.items_in, slot.items_out, slot.errors, 0, 0, nanos]);
            let quantiles = slot.histogram.quantiles([0.5, 0.99]);
            counts.extend(quantiles.map(|quantile| (quantile * rate).to_bits()));
        }
        counts.resize(self.plan.counts(), 0);
        counts
    }

    /// As [`crate::Run::report`].
    pub fn report(&self) -> Value {
        self.plan.describe(&self.counts())
    }

    /// As [`crate::Run::diagnose`].
    pub fn diagnose(&self) -> Value {
        let (phase, state) = match self.phase {
            Phase::Initialize => ("initialize", "ready"),
            Phase::Items | Phase::Flush => ("work", "ready"),
            Phase::Over => ("over", "done"),
        };
        let id = |node: usize| Value::text(&self.plan.nodes[node].id);
        let item = (self.phase == Phase::Items).then_some(Value::Int(self.item as i64));
        let stage = Value::map([
            ("nodes", Value::list((0..self.plan.nodes.len()).map(id).collect())),
            ("state", Value::text(state)),
            ("for", Value::Null),
            ("node", self.current().map_or(Value::Null, id)),
            ("item", item.unwrap_or(Value::Null)),
            ("since_us", Value::Null),
        ]);
        Value::map([
            ("phase", Value::text(phase)),
            ("items", Value::Int(self.items as i64)),
            ("queued", Value::Int((self.items - self.item) as i64)),
            ("inside", Value::Int((self.items - self.item) as i64)),
            ("outputs", Value::Int(0)),
            ("stages", Value::list(vec![stage])),
            ("joins", Value::map::<&str>([])),
        ])
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
        self.located(Control::cancelled(), self.current())
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
        self.located(too_many_values(self.plan.values), Some(node))
    }

    /// Lets the node process what is in the inbox. True when the time for this slice is over.
    fn process(&mut self, node: usize, slice: Slice) -> Result<bool> {
        while let Some(value) = self.inbox.pop() {
            self.alive -= 1;
            self.slots[node].items_in += 1;
            if self.call(node, Call::Process(value), slice)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One step. True when the time for this slice is over.
    #[inline]
    fn call(&mut self, node: usize, call: Call, slice: Slice) -> Result<bool> {
        let slot = &mut self.slots[node];
        let instance = slot.instance.get_or_insert_with(|| (self.plan.nodes[node].factory)());
        let Instance::Sync(instance) = instance else { return Err(wrong_kind()) };
        let had = slot.out.len();
        let mut cx = Context {
            out: &mut slot.out,
            control: &self.control,
            deadline: self.deadline,
            seq: self.item as u64,
            most: had + self.plan.values.saturating_sub(self.alive),
        };
        let process = matches!(call, Call::Process(_));
        let result = match call {
            Call::Process(value) => instance.process(value, &mut cx),
            Call::Flush => instance.flush(&mut cx),
            Call::Initialize => {
                let result = instance.initialize();
                slot.initialized = result.is_ok();
                result
            }
        };
        self.called(node, had, process, result)?;
        self.look_up(slice)
    }

    /// Books a call that has returned.
    #[inline(always)]
    fn called(&mut self, node: usize, had: usize, process: bool, result: Result<()>) -> Result<()> {
        let now = if COUNTED { ticks() } else { self.clock };
        let slot = &mut self.slots[node];
        let spent = now.saturating_sub(self.clock);
        slot.ticks += spent;
        if process {
            slot.histogram.add(spent);
        }
        self.clock = now;
        let made = slot.out.len() - had;
        slot.items_out += made as u64;
        self.alive += made;
        if self.alive > self.plan.values {
            return Err(self.too_many(node));
        }
        let deadline = self.deadline;
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match result {
            Ok(()) => Ok(()),
            // A node may have found on its own that somebody takes too long.
            Err(error) if error.code == Code::Timeout && late() => Err(self.out_of_time()),
            Err(error) => {
                let stopped = error.code == Code::Cancelled && self.control.is_cancelled();
                slot.errors += u64::from(process && !stopped);
                Err(self.located(error, Some(node)))
            }
        }
    }

    /// The error with the node and the item where it happened.
    fn located(&self, error: Error, node: Option<usize>) -> Error {
        let item = (self.phase == Phase::Items).then_some(self.item as u64);
        match node {
            Some(node) => located(&self.plan, error, node, item),
            None => error,
        }
    }

    /// Cleans up every node that was initialized, once; hands back the first failure.
    fn clean_up(&mut self) -> Option<Error> {
        if self.phase == Phase::Over {
            return None;
        }
        self.phase = Phase::Over;
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
                _ => Err(wrong_kind()),
            }));
            if let Err(error) = cleaned.unwrap_or_else(|panic| Err(panicked(panic))) {
                let error = self.located(error, Some(node));
                failure.get_or_insert(error);
            }
        }
        failure
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(error) = self.clean_up() {
            log::warn!("cleanup of an abandoned run failed: {error}");
        }
    }
}
