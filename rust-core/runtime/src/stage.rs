//! A stage at work: sweep by sweep, and within a sweep node by node in the order of the plan.
//!
//! A [`Body`] has all that the nodes of a stage need, so that whoever has it can work without a
//! lock. It can stop between any two steps and go on later, on another thread as well.

use crate::control::Control;
use crate::error::{Code, Error, Result};
use crate::host::Desk;
use crate::join::Held;
use crate::layout::{Input, Role, Stage};
use crate::manifest::{Join, OnError, Plan, PlanNode};
use crate::metrics::bump;
use crate::node::{Context, Instance};
use crate::queue::Packet;
use crate::registry::Factory;
use crate::run::{Output, Shared, panicked};
use crate::value::{List, Value};
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long what is done may be kept before it is handed on: so that cheap sweeps are handed on
/// together, and dear ones one by one.
const SHARE: Duration = Duration::from_micros(50);

/// What a node is asked to do.
pub(crate) enum Call {
    Initialize,
    Process(Value),
    Flush,
    Interrupt,
    Set(Settings),
}

/// Parameters for a node from a sweep on.
#[derive(Clone)]
pub(crate) struct Settings {
    pub from: u64,
    pub slot: usize,
    pub params: Json,
    pub factory: Factory,
}

/// What went wrong, and where in the order of things.
pub(crate) struct Failure {
    pub seq: u64,
    /// The place of the node in the order of the plan.
    pub rank: usize,
    /// Already with its place.
    pub error: Error,
    /// It ends the run there and then, and not in its turn: a cancellation, or the time is over.
    pub stops: bool,
}

impl Failure {
    pub fn is_before(&self, other: &Failure) -> bool {
        (self.seq, self.rank) < (other.seq, other.rank)
    }
}

/// Why a stage stopped working.
#[derive(Debug)]
pub(crate) enum Turn {
    /// There is nothing it may do.
    Idle,
    /// What it has done should be handed on.
    Share,
    /// The time for this slice is over.
    Slice,
    /// There is nothing to do before this time.
    Later(Instant),
}

pub(crate) struct Slot {
    /// Its place in the plan.
    pub node: usize,
    pub instance: Option<Instance>,
    pub initialized: bool,
    /// What the node gave for the sweep in work.
    pub out: Vec<Value>,
    /// How many nodes of the stage have yet to take that.
    unread: usize,
    /// For a sink of a batch: everything it gave.
    pub results: Vec<Value>,
    /// For a source of a batch: everything it gets.
    pub input: Option<Arc<List>>,
    /// What waits for its partners.
    held: Option<Box<Held>>,
}

/// Where in its work the node in turn is.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Enter,
    Values,
    Leave,
}

pub(crate) enum Next {
    Call(usize, Call),
    Idle,
    Share,
    Later(Instant),
}

pub(crate) struct Body {
    pub number: usize,
    pub slots: Vec<Slot>,
    /// What came over each connection from another stage.
    pub ports: Vec<VecDeque<Packet>>,
    /// What is to go over each connection to another stage.
    pub made: Vec<Vec<Packet>>,
    /// What sinks gave, if the run is not a batch.
    pub outputs: Vec<Output>,
    /// The sweep in work, or the next.
    pub seq: u64,
    /// Whether a sweep is in work.
    pub working: bool,
    /// All sweeps below this are through.
    pub done: u64,
    /// The number of the flush sweep, once there is one.
    pub last: u64,
    /// Sweeps below this may be begun,
    pub limit: u64,
    /// so many of them,
    pub budget: usize,
    /// until they have made so many bytes.
    pub bytes: usize,
    /// Parameters to come, by sweep.
    pub settings: VecDeque<Settings>,
    /// Who does the work, if not the stage itself.
    pub desk: Option<Box<Desk>>,
    /// Calls to be made before the next step.
    before: VecDeque<(usize, Call)>,
    /// The node in turn, and where in its work it is.
    at: usize,
    step: Step,
    /// What the node in turn has still to process, in reverse.
    inbox: Vec<Value>,
    /// How many values there are for the sweep in work: in the inbox, in what nodes gave, and in
    /// the results.
    alive: usize,
    /// The end of the last step: the beginning of the next.
    pub clock: Instant,
    /// When what was done was last handed on.
    pub shared: Instant,
    /// [`Control::changes`] that were seen, and the sweeps that are discarded.
    pub seen: u32,
    floor: u64,
    /// The value in work is to be tried again then.
    later: Option<Instant>,
    tries: u32,
}

impl Body {
    /// How many values wait for their partners at a node that joins, by connection.
    pub fn held(&self, slot: usize) -> Option<impl Iterator<Item = usize> + '_> {
        Some(self.slots.get(slot)?.held.as_ref()?.counts())
    }

    pub fn new(number: usize, stage: &Stage, plan: &Plan, now: Instant) -> Body {
        let slot = |&node| Slot {
            node,
            instance: None,
            initialized: false,
            out: Vec::new(),
            unread: 0,
            results: Vec::new(),
            input: None,
            held: None,
        };
        Body {
            number,
            slots: stage.nodes.iter().map(slot).collect(),
            ports: stage.ins.iter().map(|_| VecDeque::new()).collect(),
            made: stage.outs.iter().map(|_| Vec::new()).collect(),
            outputs: Vec::new(),
            seq: 0,
            working: false,
            done: 0,
            last: u64::MAX,
            limit: 0,
            budget: 0,
            bytes: 0,
            settings: VecDeque::new(),
            desk: match stage.role {
                Role::Sync | Role::Async => None,
                // What the host has in hand no queue can hold back, or drop.
                Role::Host if stage.bounded => Some(Box::new(Desk::new(1, now))),
                Role::Host => {
                    let most = Desk::window(plan.nodes[stage.nodes[0]].on_error);
                    Some(Box::new(Desk::new(most, now)))
                }
                Role::Crew(count) => Some(Box::new(Desk::new(count, now))),
            },
            before: VecDeque::new(),
            at: 0,
            step: Step::Enter,
            inbox: Vec::new(),
            alive: 0,
            clock: now,
            shared: now,
            seen: 0,
            floor: 0,
            later: None,
            tries: 0,
        }
    }

    /// Works by calls, until there is nothing to do or `until` has passed and at least one step is
    /// done.
    pub fn advance(&mut self, run: &Shared, until: Option<Instant>) -> Result<Turn, Failure> {
        let end = match (until, run.deadline) {
            (Some(until), Some(deadline)) => Some(until.min(deadline)),
            (until, deadline) => until.or(deadline),
        };
        loop {
            match self.next(run)? {
                Next::Call(slot, call) => self.call(run, slot, call)?,
                Next::Idle => return Ok(Turn::Idle),
                Next::Share => return Ok(Turn::Share),
                Next::Later(time) => return Ok(Turn::Later(time)),
            }
            if end.is_some_and(|end| self.clock >= end) {
                self.check_time(run)?;
                return Ok(Turn::Slice);
            }
        }
    }

    /// Works by futures, until there is nothing to do.
    pub async fn advance_waiting(&mut self, run: &Shared) -> Result<Turn, Failure> {
        loop {
            match self.next(run)? {
                Next::Call(slot, call) => self.call_waiting(run, slot, call).await?,
                Next::Idle => return Ok(Turn::Idle),
                Next::Share => return Ok(Turn::Share),
                Next::Later(time) => return Ok(Turn::Later(time)),
            }
            self.check_time(run)?;
        }
    }

    fn check_time(&self, run: &Shared) -> Result<(), Failure> {
        match run.deadline.is_some_and(|deadline| self.clock >= deadline) {
            true => Err(self.stop(run, run.out_of_time())),
            false => Ok(()),
        }
    }

    /// Looks what has changed: the run may be cancelled, or what is in flight discarded.
    pub fn look_up(&mut self, run: &Shared) -> Result<(), Failure> {
        self.seen = run.control.changes();
        if run.control.is_cancelled() {
            return Err(self.stop(run, Control::cancelled()));
        }
        let floor = run.control.floor();
        if floor == self.floor {
            return Ok(());
        }
        self.floor = floor;
        for port in &mut self.ports {
            port.retain(|packet| packet.seq >= floor);
        }
        for made in &mut self.made {
            made.retain(|packet| packet.seq >= floor);
        }
        self.outputs.retain(|output| output.item.is_none_or(|item| item >= floor));
        if self.seq < floor {
            self.seq = floor;
            self.leave_sweep();
        }
        for (at, slot) in self.slots.iter_mut().enumerate() {
            slot.held = None;
            self.before.push_back((at, Call::Interrupt));
        }
        self.done = self.done.max(floor);
        if let Some(desk) = &mut self.desk
            && desk.discard(floor)
        {
            self.slots[0].out.clear();
        }
        Ok(())
    }

    /// Forgets what there is of the sweep in work.
    fn leave_sweep(&mut self) {
        self.working = false;
        (self.at, self.step, self.alive) = (0, Step::Enter, 0);
        (self.later, self.tries) = (None, 0);
        self.inbox.clear();
        for slot in &mut self.slots {
            slot.unread = 0;
            if self.desk.is_none() {
                slot.out.clear();
            }
        }
    }

    /// The next thing to do.
    pub fn next(&mut self, run: &Shared) -> Result<Next, Failure> {
        loop {
            if run.control.changes() != self.seen {
                self.look_up(run)?;
            }
            if let Some((slot, call)) = self.before.pop_front() {
                return Ok(Next::Call(slot, call));
            }
            if !self.working {
                if !self.has_sweep(run) {
                    return Ok(Next::Idle);
                }
                continue;
            }
            if self.at == self.slots.len() {
                if self.end_sweep(run) {
                    return Ok(Next::Share);
                }
                continue;
            }
            match self.step {
                Step::Enter => {
                    self.gather(run)?;
                    self.step = Step::Values;
                }
                Step::Values => {
                    if let Some(later) = self.later {
                        if self.clock < later {
                            return Ok(Next::Later(later));
                        }
                        self.later = None;
                    }
                    match self.inbox.pop() {
                        Some(value) => {
                            self.alive -= 1;
                            return Ok(Next::Call(self.at, Call::Process(value)));
                        }
                        None => {
                            self.step = Step::Leave;
                            if self.seq == self.last {
                                return Ok(Next::Call(self.at, Call::Flush));
                            }
                        }
                    }
                }
                Step::Leave => {
                    match &mut self.desk {
                        Some(desk) => desk.end_sweep(self.seq),
                        None => self.deliver(run, self.at, self.seq),
                    }
                    self.at += 1;
                    self.step = Step::Enter;
                }
            }
        }
    }

    /// Begins the next sweep in which there is anything to do, if it may.
    fn has_sweep(&mut self, run: &Shared) -> bool {
        if self.seq >= self.limit || self.seq > self.last {
            return false;
        }
        let mut next = self.last;
        for port in &self.ports {
            if let Some(packet) = port.front() {
                next = next.min(packet.seq);
            }
        }
        if run.batch && next > self.seq {
            let seq = self.seq as usize;
            let more = |slot: &Slot| slot.input.as_ref().is_some_and(|list| seq < list.len());
            if self.slots.iter().any(more) {
                next = self.seq;
            }
        }
        if next >= self.limit {
            self.seq = self.limit;
            self.done = if self.desk.is_some() { self.done } else { self.limit };
            return false;
        }
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        self.seq = next;
        self.working = true;
        while self.settings.front().is_some_and(|settings| settings.from <= next) {
            if let Some(settings) = self.settings.pop_front() {
                self.before.push_back((settings.slot, Call::Set(settings)));
            }
        }
        run.stages[self.number].seq.store(next, Relaxed);
        true
    }

    /// True if what was done should be handed on.
    fn end_sweep(&mut self, run: &Shared) -> bool {
        self.working = false;
        self.at = 0;
        self.alive = 0;
        self.seq += 1;
        if self.desk.is_some() {
            return false;
        }
        self.done = self.seq;
        if run.layout().stages[self.number].sinks > 1 && !run.batch {
            // Sorted as the sinks stand in the manifest; stable.
            let item = |output: &Output| output.item.unwrap_or(u64::MAX);
            self.outputs.sort_by_key(|output| (item(output), output.node));
        }
        if self.bytes == 0 {
            self.budget = 0;
        }
        self.clock - self.shared >= SHARE
            && (!self.outputs.is_empty() || self.made.iter().any(|made| !made.is_empty()))
    }

    /// Fills the inbox, in reverse, with what the node in turn has to process.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if that would be too many values.
    fn gather(&mut self, run: &Shared) -> Result<(), Failure> {
        let at = self.at;
        let inputs = &run.layout().stages[self.number].inputs[at];
        for &input in inputs {
            if let Input::Local(from) = input
                && self.slots[from].unread > 1
            {
                self.alive += self.slots[from].out.len();
            }
        }
        if self.alive > run.plan.values {
            return Err(self.too_many(run, at));
        }
        let join = run.plan.nodes[self.slots[at].node].join;
        let mut held = (join != Join::Any).then(|| {
            self.slots[at].held.take().unwrap_or_else(|| Box::new(Held::new(inputs.len())))
        });
        for (number, &input) in inputs.iter().enumerate() {
            match input {
                Input::Local(from) => {
                    let slot = &mut self.slots[from];
                    slot.unread -= 1;
                    match slot.unread {
                        0 => self.inbox.append(&mut slot.out),
                        _ => self.inbox.extend(slot.out.iter().cloned()),
                    }
                }
                Input::Feed(_) if self.slots[at].input.is_some() => {
                    let items = self.slots[at].input.as_ref();
                    let item = items.and_then(|items| items.get(self.seq as usize)).cloned();
                    self.alive += usize::from(item.is_some());
                    self.inbox.extend(item);
                }
                Input::Port(port) | Input::Feed(port) => {
                    let port = &mut self.ports[port];
                    if port.front().is_some_and(|packet| packet.seq == self.seq)
                        && let Some(mut packet) = port.pop_front()
                    {
                        self.alive += packet.values.len();
                        if self.inbox.is_empty() {
                            self.inbox = packet.values;
                        } else {
                            self.inbox.append(&mut packet.values);
                        }
                    }
                }
            }
            if let Some(held) = &mut held {
                self.alive -= self.inbox.len();
                let added = held.add(join, number, &mut self.inbox);
                added.map_err(|error| self.fail(run, at, error))?;
            }
        }
        if let Some(mut held) = held {
            let metrics = &run.nodes[self.slots[at].node];
            let joined = held.join(join, self.seq == self.last, &mut self.inbox, run.plan.values);
            bump(&metrics.dropped, held.take_dropped());
            self.slots[at].held = Some(held);
            joined.map_err(|error| self.fail(run, at, error))?;
            self.alive += self.inbox.len();
        }
        self.inbox.reverse();
        if self.alive > run.plan.values {
            return Err(self.too_many(run, at));
        }
        Ok(())
    }

    /// Makes what the node gave ready for its consumers, or part of the result.
    pub fn deliver(&mut self, run: &Shared, at: usize, seq: u64) {
        let stage = &run.layout().stages[self.number];
        let slot = &mut self.slots[at];
        let (readers, leads) = (stage.readers[at], &stage.leads[at]);
        slot.unread = readers;
        if leads.is_empty() {
            if readers > 0 {
                return;
            }
            if run.batch {
                slot.results.append(&mut slot.out);
            } else {
                let item = (seq != self.last).then_some(seq);
                let node = slot.node;
                let outputs = slot.out.drain(..).map(|value| Output { node, item, value });
                self.outputs.extend(outputs);
            }
            return;
        }
        if slot.out.is_empty() {
            return;
        }
        for (number, &lead) in leads.iter().enumerate() {
            let values = if readers == 0 && number + 1 == leads.len() {
                std::mem::take(&mut slot.out)
            } else {
                self.alive += slot.out.len();
                slot.out.clone()
            };
            let packet = Packet::new(seq, values);
            self.bytes = self.bytes.saturating_sub(packet.bytes);
            self.made[lead].push(packet);
        }
    }

    /// Calls a node that computes.
    pub fn call(&mut self, run: &Shared, at: usize, call: Call) -> Result<(), Failure> {
        let slot = &mut self.slots[at];
        let node = &run.plan.nodes[slot.node];
        let metrics = &run.nodes[slot.node];
        run.stages[self.number].node.store(slot.node as u64 + 1, Relaxed);
        let instance = slot.instance.get_or_insert_with(|| (node.factory)());
        let Instance::Sync(instance) = instance else {
            return Err(self.fail(run, at, wrong_kind()));
        };
        let had = slot.out.len();
        let mut limit = None;
        let mut kept = None;
        let what = What::of(&call);
        let result = match call {
            Call::Process(value) => {
                bump(&metrics.items_in, 1);
                if node.on_error != OnError::Fail {
                    kept = Some(value.clone());
                }
                limit = node.timeout.and_then(|time| self.clock.checked_add(time));
                let mut cx = Context {
                    out: &mut slot.out,
                    control: &run.control,
                    deadline: earlier(run.deadline, limit),
                    seq: self.seq,
                    most: had + run.plan.values.saturating_sub(self.alive),
                };
                instance.process(value, &mut cx)
            }
            Call::Flush => instance.flush(&mut Context {
                out: &mut slot.out,
                control: &run.control,
                deadline: run.deadline,
                seq: self.seq,
                most: had + run.plan.values.saturating_sub(self.alive),
            }),
            Call::Initialize => instance.initialize(),
            Call::Interrupt => {
                instance.interrupt();
                Ok(())
            }
            Call::Set(settings) => renew(instance, &settings),
        };
        self.called(run, at, what, result, had, kept, limit)
    }

    /// Calls a node that waits.
    pub async fn call_waiting(
        &mut self,
        run: &Shared,
        at: usize,
        call: Call,
    ) -> Result<(), Failure> {
        let slot = &mut self.slots[at];
        let node = &run.plan.nodes[slot.node];
        let metrics = &run.nodes[slot.node];
        run.stages[self.number].node.store(slot.node as u64 + 1, Relaxed);
        let instance = slot.instance.get_or_insert_with(|| (node.factory)());
        let Instance::Async(instance) = instance else {
            return Err(self.fail(run, at, wrong_kind()));
        };
        let instance = instance.clone();
        let had = slot.out.len();
        let (mut limit, mut kept) = (None, None);
        let what = What::of(&call);
        if let Call::Process(value) = &call {
            bump(&metrics.items_in, 1);
            kept = (node.on_error != OnError::Fail).then(|| value.clone());
            self.clock = Instant::now();
            limit = node.timeout.and_then(|time| self.clock.checked_add(time));
        }
        let mut future = std::pin::pin!(call_async(instance, call));
        let end = earlier(run.deadline, limit);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut future => break Some(done),
                () = run.control.change_after(self.seen) => {
                    self.seen = run.control.changes();
                    if run.control.is_cancelled() {
                        return Err(self.stop(run, Control::cancelled()));
                    }
                    if run.control.discards(self.seq) {
                        // Seen again by the next step.
                        self.seen = self.seen.wrapping_sub(1);
                        return Ok(());
                    }
                    self.unseen(run);
                },
                () = sleep(end) => break None,
            }
        };
        let result = match done {
            Some((result, mut out)) => {
                self.slots[at].out.append(&mut out);
                result
            }
            None => Err(Error::new(Code::Timeout, "the time is over")),
        };
        self.called(run, at, what, result, had, kept, limit)
    }

    /// A change that did not concern the call in work concerns what comes after it.
    fn unseen(&mut self, run: &Shared) {
        if run.control.floor() != self.floor {
            self.before.clear();
            self.floor = run.control.floor();
            for at in 0..self.slots.len() {
                self.before.push_back((at, Call::Interrupt));
            }
        }
    }

    /// Books a call that has returned.
    #[allow(clippy::too_many_arguments)]
    fn called(
        &mut self,
        run: &Shared,
        at: usize,
        what: What,
        result: Result<()>,
        had: usize,
        kept: Option<Value>,
        limit: Option<Instant>,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let spent = now - self.clock;
        self.clock = now;
        let slot = &mut self.slots[at];
        let metrics = &run.nodes[slot.node];
        bump(&metrics.nanos, spent.as_nanos() as u64);
        if what == What::Process {
            metrics.histogram.add(spent.as_nanos() as u64);
        }
        let made = slot.out.len() - had;
        self.alive += made;
        if self.alive > run.plan.values {
            return Err(self.too_many(run, at));
        }
        let late = limit.is_some_and(|limit| now >= limit);
        if result.is_ok() && !late {
            bump(&metrics.items_out, made as u64);
            slot.initialized |= what == What::Initialize;
            self.tries = 0;
            return Ok(());
        }
        let error = match result {
            _ if run.deadline.is_some_and(|deadline| now >= deadline) => {
                return Err(self.stop(run, run.out_of_time()));
            }
            Err(error) if error.code == Code::Cancelled && run.control.is_cancelled() => {
                return Err(self.stop(run, error));
            }
            // The next step leaves it behind.
            _ if what == What::Process && run.control.discards(self.seq) => return Ok(()),
            Err(error) if !(late && error.code == Code::Timeout) => error,
            _ => too_slow(&run.plan.nodes[slot.node]),
        };
        if what != What::Process {
            return Err(self.fail(run, at, error));
        }
        bump(&metrics.errors, 1);
        slot.out.truncate(had);
        self.alive -= made;
        run.tell(slot.node, run.item_of(self.seq, self.last), self.tries, &error);
        match (run.plan.nodes[slot.node].on_error, kept) {
            (OnError::Skip, _) => {}
            (OnError::PassThrough, Some(value)) => {
                slot.out.push(value);
                self.alive += 1;
                bump(&metrics.items_out, 1);
            }
            (OnError::Retry(most, backoff), Some(value)) if self.tries < most => {
                bump(&metrics.retries, 1);
                self.later = now.checked_add(backoff_of(backoff, self.tries));
                self.tries += 1;
                self.inbox.push(value);
                self.alive += 1;
            }
            _ => return Err(self.fail(run, at, error)),
        }
        Ok(())
    }

    fn too_many(&self, run: &Shared, at: usize) -> Failure {
        self.fail(run, at, too_many_values(run.plan.values))
    }

    /// A failure of the node at this place.
    pub fn fail(&self, run: &Shared, at: usize, error: Error) -> Failure {
        self.fail_in(run, at, self.seq, error)
    }

    /// The same, in another sweep than that in work.
    pub fn fail_in(&self, run: &Shared, at: usize, seq: u64, error: Error) -> Failure {
        let node = self.slots[at].node;
        let error = run.located(error, node, run.item_of(seq, self.last));
        Failure { seq, rank: run.layout().ranks[node], error, stops: false }
    }

    /// The end of the run while the node in turn is at work.
    pub fn stop(&self, run: &Shared, error: Error) -> Failure {
        let at = self.at.min(self.slots.len() - 1);
        Failure { stops: true, ..self.fail(run, at, error) }
    }

    /// A panic of the node in turn.
    pub fn panicked(&self, run: &Shared, panic: Box<dyn std::any::Any + Send>) -> Failure {
        let at = self.at.min(self.slots.len() - 1);
        self.fail(run, at, panicked(panic))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Initialize,
    Process,
    Other,
}

impl What {
    fn of(call: &Call) -> What {
        match call {
            Call::Initialize => What::Initialize,
            Call::Process(_) => What::Process,
            _ => What::Other,
        }
    }
}

/// Makes a call to a node that waits; what it gave comes with the result.
pub(crate) async fn call_async(
    instance: Arc<tokio::sync::Mutex<Box<dyn crate::node::AsyncNode>>>,
    call: Call,
) -> (Result<()>, Vec<Value>) {
    let mut instance = instance.lock().await;
    let mut out = Vec::new();
    let result = match call {
        Call::Initialize => instance.initialize().await,
        Call::Process(value) => instance.process(value, &mut out).await,
        Call::Flush => instance.flush(&mut out).await,
        Call::Interrupt => {
            instance.interrupt();
            Ok(())
        }
        Call::Set(settings) => match (settings.factory)() {
            Instance::Async(fresh) => match Arc::into_inner(fresh) {
                Some(fresh) => {
                    let mut fresh = fresh.into_inner();
                    match fresh.initialize().await {
                        Ok(()) => std::mem::replace(&mut *instance, fresh).cleanup(),
                        failed => failed,
                    }
                }
                None => Err(wrong_kind()),
            },
            _ => Err(wrong_kind()),
        },
    };
    (result, out)
}

/// Puts a node with other parameters in the place of this one.
pub(crate) fn renew(instance: &mut Box<dyn crate::Node>, settings: &Settings) -> Result<()> {
    let Instance::Sync(mut fresh) = (settings.factory)() else { return Err(wrong_kind()) };
    fresh.initialize()?;
    std::mem::replace(instance, fresh).cleanup()
}

pub(crate) fn wrong_kind() -> Error {
    Error::new(Code::Internal, "the node type makes nodes of several kinds")
}

pub(crate) fn too_many_values(most: usize) -> Error {
    Error::new(Code::Limit, format!("one item became more than {most} values"))
        .hint("let fewer ways lead to one node, or give the item in parts")
}

pub(crate) fn too_slow(node: &PlanNode) -> Error {
    let seconds = node.timeout.unwrap_or_default().as_secs_f64();
    Error::new(Code::Timeout, format!("the value took longer than {seconds} s"))
        .hint("allow more time with \"timeout\", or give the node less to do")
}

/// How long to wait after so many repetitions.
pub(crate) fn backoff_of(first: Duration, repeated: u32) -> Duration {
    first.checked_mul(1u32.checked_shl(repeated).unwrap_or(u32::MAX)).unwrap_or(Duration::MAX)
}

pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}

pub(crate) async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
