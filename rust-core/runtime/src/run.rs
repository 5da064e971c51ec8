//! A plan in motion.
//!
//! A run is a sequence of sweeps: each item that is pushed starts one, and at the end of input
//! there is one more in which the nodes are flushed. Its stages ([`crate::layout`]) hand each other
//! what their nodes gave through bounded queues, so that the order of everything follows from the
//! plan and not from who was faster. A batch is a run whose whole input is there from the start.
//!
//! A run of cheap nodes needs no other thread, no channel and no wake-up: whoever pushes, pulls or
//! waits does the work. Stages that are heavy or wait run on the workers of the process
//! ([`crate::pool`]), and who waits parks. Both take turns at the same stages by the same rules.
//! One lock guards what they share; it is held to take a turn and to hand on what it has given,
//! never while a node is at work.

use crate::batch::Batch;
pub use crate::control::Control;
use crate::control::unwinding;
use crate::error::{Code, Error, Problems, Result};
use crate::host::{Finished, Issued, task, unknown_node};
pub use crate::host::{Task, TaskCall};
use crate::layout::{Layout, Role};
use crate::manifest::{Join, OnError, Plan, PlanNode};
use crate::metrics::{NodeMetrics, QueueMetrics, StageMetrics};
use crate::node::{Context, Instance};
use crate::pool;
use crate::queue::{Packet, Queue};
use crate::schema::did_you_mean;
use crate::stage::{
    Body, Call, Failure, Settings, Turn, call_async, earlier, renew, sleep, too_slow, wrong_kind,
};
use crate::value::{List, Value};
use serde_json::{Map as JsonMap, Value as Json};
use std::any::Any;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::iter::repeat;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The numbers of the tasks that initialize and clean up.
const INITIALIZE: u64 = u64::MAX;
const CLEANUP: u64 = u64::MAX - 1;

/// How many packets a stage takes from a connection for one turn.
const TURN: usize = 32;

/// How far a run has come.
#[derive(Debug)]
pub enum Progress {
    /// It is complete. These are the outputs of all sinks, in the order in which the sinks stand
    /// in the manifest.
    Done(Value),
    /// The time for this slice is over; drive it again.
    Pending,
}

/// How a run that is fed piece by piece behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many items may be inside at once: pushed, and not yet through all nodes or with outputs
    /// that were not pulled. At least 1.
    pub window: usize,
    /// The time for all of it.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Options { window: 64, timeout: None }
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in, with this number.
    Accepted(u64),
    /// The window is full; the item was not taken.
    Full,
}

/// What a sink gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The sink's place in the manifest.
    pub node: usize,
    /// The number of the item that it comes from; None for what was flushed.
    pub item: Option<u64>,
    /// The value.
    pub value: Value,
}

/// What somebody waits for, besides the end of the run, which always ends the waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want(u8);

impl Want {
    /// Nothing but the end of the run.
    pub const END: Want = Want(1);
    /// An output to pull.
    pub const OUTPUT: Want = Want(2);
    /// Room in the window.
    pub const ROOM: Want = Want(4);
    /// A task for the host.
    pub const WORK: Want = Want(8);
    /// Something that a waiting thread can do itself.
    const JOB: Want = Want(16);
    /// All nodes initialized.
    pub const BEGUN: Want = Want(32);

    /// This or that.
    pub const fn or(self, other: Want) -> Want {
        Want(self.0 | other.0)
    }

    const fn has(self, other: Want) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a run calls when it has something to report.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// One execution of a [`Plan`], usable from several threads at once.
///
/// A batch is made with [`Run::new`] and worked on with [`Run::drive`]. A run that is fed piece by
/// piece is made with [`Run::open`]: [`Run::try_push`], [`Run::end`], [`Run::try_pull`] and
/// [`Run::wait`]. Where the plan has nodes that the host implements, [`Run::take_work`] and
/// [`Run::finish`] belong to both.
///
/// Outputs come by item, and within an item in the order of the sinks in the manifest. When a node
/// fails, the outputs of all items before come out first and that item has none; if several nodes
/// fail, the error is that of the first item, and there of the node that is first in the order of
/// the plan. So neither depends on timing.
///
/// Dropped before its end, it is cancelled; this waits until the nodes in work are done with their
/// values and all are cleaned up, so that nobody uses the memory of the input any more. Nodes of
/// the host's that are initialized are then the host's to clean up, since nobody is left to hand it
/// the task.
///
/// A batch of nodes that compute one after the other takes a straight way ([`crate::batch`]), with
/// the same results.
pub struct Run {
    control: Arc<Control>,
    way: Way,
}

enum Way {
    /// One stage; whoever drives it has it for the time.
    Straight(Mutex<Batch>),
    Staged(Staged),
}

/// A run as those have it for whom it is worked on. Dropped, it is cancelled.
struct Staged(Arc<Shared>);

/// The whole input of a source.
type Items = Arc<List>;

/// What belongs to a run and to those who work for it.
pub(crate) struct Shared {
    pub plan: Arc<Plan>,
    pub control: Arc<Control>,
    /// Whether all its input was there from the start and all its outputs come at the end.
    pub batch: bool,
    pub deadline: Option<Instant>,
    pub nodes: Box<[NodeMetrics]>,
    pub stages: Box<[StageMetrics]>,
    links: Box<[QueueMetrics]>,
    /// How many items were pushed.
    items: AtomicU64,
    /// Whether all nodes are initialized.
    begun: AtomicBool,
    started: Instant,
    timeout: Option<Duration>,
    window: u64,
    /// Who works, if not those who wait.
    pool: Option<&'static Handle>,
    /// A forked child has the run of its parent, but none of the threads.
    process: u32,
    state: Mutex<State>,
    parked: Condvar,
}

struct State {
    phase: Phase,
    /// Whether somebody is initializing or cleaning up.
    busy: bool,
    /// Where in the order of the plan that is.
    at: usize,
    /// The host's node that is being initialized or cleaned up.
    awaited: Option<usize>,
    cells: Vec<Cell>,
    /// What a stage works with, unless somebody is working with it.
    bodies: Vec<Option<Box<Body>>>,
    /// For every link.
    queues: Vec<Queue>,
    /// Stages that are ready for those who wait.
    ready: BinaryHeap<usize>,
    /// How many stages and members of crews are at work.
    running: usize,
    /// How many stages have done everything.
    through: usize,
    /// The number of the flush sweep; `u64::MAX` before the end of input.
    last: u64,
    outputs: VecDeque<Output>,
    /// What sinks gave for sweeps that are not yet through elsewhere.
    early: BTreeMap<(u64, usize), Vec<Output>>,
    /// All sweeps below this have left the last stage.
    collected: u64,
    failed: Option<Failure>,
    ending: Option<Ending>,
    /// The first failure of a cleanup.
    unclean: Option<Error>,
    outcome: Option<Result<(), Error>>,
    /// What a batch gave, or true once that was told.
    result: Option<Value>,
    told: bool,
    tasks: VecDeque<Task>,
    /// What those who are parked wait for, and what the notification is to be called for.
    parked: Want,
    armed: Want,
    notify: Option<Notify>,
    /// The earliest time for which an alarm is set.
    alarm: Option<Instant>,
    later: Later,
}

/// What is to be done once the lock is free.
#[derive(Default)]
struct Later {
    wake: bool,
    call: bool,
    stages: Vec<usize>,
    jobs: Vec<(usize, Issued)>,
    lifecycle: bool,
    dropped: Vec<Packet>,
    outputs: Vec<Output>,
}

/// What is known of a stage while its body is away, and while it is not.
struct Cell {
    running: bool,
    /// Whether it stands in a list of ready stages, or has a task.
    scheduled: bool,
    /// It has failed.
    dead: bool,
    /// It has done everything.
    through: bool,
    /// As in [`Body`].
    seq: u64,
    working: bool,
    done: u64,
    /// It has nothing to do before this time.
    later: Option<Instant>,
    /// Of a desk: whether it can take more, and its oldest sweep.
    room: bool,
    oldest: Option<u64>,
    finished: Vec<Finished>,
    settings: Vec<Settings>,
    /// The parameters that were set, by the node's place in the stage.
    params: Vec<(usize, Json)>,
    /// Tasks that the host has, if its time for each is limited; and when the first of them became
    /// the first.
    taken: VecDeque<u64>,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Initialize,
    Work,
    Cleanup,
    Over,
}

/// Why a run ends.
enum Ending {
    Done,
    /// In its turn.
    Failed(Error),
    /// There and then; nobody is waited for.
    Stopped(Error),
}

/// What there is to do for a thread that waits.
enum Job {
    Lifecycle,
    Turn(Box<Body>, Vec<Finished>),
}

impl Run {
    /// Prepares a batch on this input: a list, whose items go to every source node, or a map from
    /// the ids of source nodes to lists. Nothing runs before [`Run::drive`].
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for an input of another shape; `RM_E_INTERNAL` if there are no threads for
    /// nodes that need them.
    pub fn new(plan: Arc<Plan>, input: &Value, timeout: Option<Duration>) -> Result<Run> {
        if Batch::suits(&plan) {
            let control = Arc::<Control>::default();
            let batch = Batch::new(plan, input, timeout, control.clone())?;
            return Ok(Run { control, way: Way::Straight(Mutex::new(batch)) });
        }
        let mut inputs = vec![None; plan.nodes.len()];
        distribute(&plan, input, |node, items| inputs[node] = Some(items))?;
        let items = inputs.iter().flatten().map(|list| list.len()).max().unwrap_or(0) as u64;
        let stages = &plan.layout.stages;
        // A single stage that computes has nobody to run beside.
        let alone = stages.len() == 1 && stages[0].role == Role::Sync;
        let threaded = plan.layout.threaded && !alone;
        Run::start(plan, threaded, Options { window: usize::MAX, timeout }, Some((inputs, items)))
    }

    /// Opens a run that is fed piece by piece.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for a window of 0; `RM_E_INTERNAL` as for [`Run::new`].
    pub fn open(plan: Arc<Plan>, options: Options) -> Result<Run> {
        if options.window == 0 {
            let error = Error::new(Code::Argument, "a window of 0 lets nothing in");
            return Err(error.hint("let at least 1 item be inside"));
        }
        let threaded = plan.layout.threaded;
        Run::start(plan, threaded, options, None)
    }

    fn start(
        plan: Arc<Plan>,
        threaded: bool,
        options: Options,
        batch: Option<(Vec<Option<Items>>, u64)>,
    ) -> Result<Run> {
        let pool = match threaded {
            true => Some(pool::workers()?),
            false => None,
        };
        let now = Instant::now();
        let layout = &plan.layout;
        let desk = |role: Role| !matches!(role, Role::Sync | Role::Async);
        let cells = layout.stages.iter().map(|stage| Cell::new(desk(stage.role), now)).collect();
        let mut bodies: Vec<Option<Box<Body>>> = (layout.stages.iter().enumerate())
            .map(|(number, stage)| Some(Box::new(Body::new(number, stage, &plan, now))))
            .collect();
        let mut queues: Vec<Queue> =
            layout.links.iter().map(|link| Queue::new(link.bounds)).collect();
        let (is_batch, mut last, mut items) = (batch.is_some(), u64::MAX, 0);
        if let Some((input, count)) = batch {
            (last, items) = (count, count);
            for (queue, link) in queues.iter_mut().zip(&layout.links) {
                queue.upto = if link.from.is_none() { count + 1 } else { 0 };
            }
            for (items, &(stage, slot)) in input.into_iter().zip(&layout.places) {
                if let Some(body) = &mut bodies[stage] {
                    body.slots[slot].input = items;
                }
            }
        }
        let fresh = |count: usize| (0..count).map(|_| QueueMetrics::default()).collect();
        let shared = Arc::new(Shared {
            nodes: plan.nodes.iter().map(|_| NodeMetrics::default()).collect(),
            stages: layout.stages.iter().map(|_| StageMetrics::default()).collect(),
            links: fresh(layout.links.len()),
            control: Arc::default(),
            batch: is_batch,
            // A time beyond what the clock can say is no limit.
            deadline: options.timeout.and_then(|timeout| now.checked_add(timeout)),
            items: AtomicU64::new(items),
            begun: AtomicBool::new(false),
            started: now,
            timeout: options.timeout,
            window: options.window as u64,
            pool,
            process: std::process::id(),
            state: Mutex::new(State {
                phase: Phase::Initialize,
                busy: false,
                at: 0,
                awaited: None,
                cells,
                bodies,
                queues,
                ready: BinaryHeap::new(),
                running: 0,
                through: 0,
                last,
                outputs: VecDeque::new(),
                early: BTreeMap::new(),
                collected: 0,
                failed: None,
                ending: None,
                unclean: None,
                outcome: None,
                result: None,
                told: false,
                tasks: VecDeque::new(),
                parked: Want(0),
                armed: Want(0),
                notify: None,
                alarm: None,
                later: Later::default(),
            }),
            parked: Condvar::new(),
            plan,
        });
        shared.control.belongs_to(Arc::downgrade(&shared));
        if !is_batch {
            shared.settle(shared.lock());
        }
        Ok(Run { control: shared.control.clone(), way: Way::Staged(Staged(shared)) })
    }

    /// What the stages share, if there are several or the run is fed piece by piece.
    fn shared(&self) -> Option<&Arc<Shared>> {
        match &self.way {
            Way::Straight(_) => None,
            Way::Staged(Staged(shared)) => Some(shared),
        }
    }

    /// The same for what a batch is too late for.
    fn fed(&self) -> Result<&Arc<Shared>> {
        self.shared().filter(|shared| !shared.batch).ok_or_else(|| {
            Error::new(
                Code::Closed,
                "the run has its whole input, and gives its outputs at the end",
            )
            .hint("open a run to push items and to pull outputs")
        })
    }

    /// What ends this run from another thread.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    /// Works on a batch until it is complete, or until `until` has passed and at least one step is
    /// done. Where there are several stages other threads may do so at the same time; the result
    /// goes to one of them.
    ///
    /// # Errors
    /// `RM_E_BUSY` if another thread has all the work.
    /// What ended the run, with the node and the item where there is one. After an error, as after
    /// [`Progress::Done`], every node has been cleaned up and driving on is `RM_E_CLOSED`.
    pub fn drive(&self, until: Option<Instant>) -> Result<Progress> {
        let shared = match &self.way {
            Way::Straight(batch) => return only(batch)?.drive(until),
            Way::Staged(Staged(shared)) => shared,
        };
        if !shared.wait(Want::END, until) {
            return Ok(Progress::Pending);
        }
        let mut state = shared.lock();
        if std::mem::replace(&mut state.told, true) {
            return Err(closed());
        }
        match state.outcome.clone() {
            Some(Ok(())) | None => {
                Ok(Progress::Done(state.result.take().unwrap_or_else(|| Value::list(Vec::new()))))
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Pushes an item to every source node, or to the one with this id, unless the window is full.
    ///
    /// # Errors
    /// What has ended the run; `RM_E_CLOSED` after [`Run::end`] and for a batch; `RM_E_ARGUMENT` for
    /// an id that is not a source's.
    pub fn try_push(&self, item: Value, node: Option<&str>) -> Result<Pushed> {
        let shared = self.fed()?;
        let node = node.map(|id| source(&shared.plan, id)).transpose()?;
        let mut items = Some(item).into_iter();
        let number = shared.push(&mut items, node)?;
        Ok(match items.next() {
            None => Pushed::Accepted(number - 1),
            Some(_) => Pushed::Full,
        })
    }

    /// Pushes items as [`Run::try_push`] does, as many as there is room for, and gives their numbers;
    /// takes no more than that from the iterator.
    ///
    /// # Errors
    /// As [`Run::try_push`]; none if some of the items are in.
    pub fn try_push_many(
        &self,
        items: &mut impl ExactSizeIterator<Item = Value>,
        node: Option<&str>,
    ) -> Result<Range<u64>> {
        let shared = self.fed()?;
        let node = node.map(|id| source(&shared.plan, id)).transpose()?;
        let had = items.len();
        let next = shared.push(items, node)?;
        Ok(next - (had - items.len()) as u64..next)
    }

    /// Says that there are no more items. More than once is fine.
    ///
    /// # Errors
    /// What has ended the run.
    pub fn end(&self) -> Result<()> {
        let Some(shared) = self.shared() else { return Ok(()) };
        let mut state = shared.lock();
        if let Some(outcome) = &state.outcome {
            return outcome.clone();
        }
        if state.last == u64::MAX {
            state.last = shared.items.load(Relaxed);
            let upto = state.last + 1;
            shared.feed(&mut state, upto);
        }
        shared.settle(state);
        shared.work(None, Want(0));
        Ok(())
    }

    /// The next output, if there is one yet.
    ///
    /// # Errors
    /// After the last output: what ended the run, or `RM_E_CLOSED` if it is complete. A cancellation
    /// comes at once.
    pub fn try_pull(&self) -> Result<Option<Output>> {
        let mut outputs = Vec::new();
        self.try_pull_many(1, &mut outputs)?;
        Ok(outputs.pop())
    }

    /// Appends up to so many outputs.
    ///
    /// # Errors
    /// As [`Run::try_pull`]; none if there was an output.
    pub fn try_pull_many(&self, most: usize, outputs: &mut Vec<Output>) -> Result<()> {
        let shared = self.fed()?;
        if most == 0 {
            return Ok(());
        }
        let mut state = shared.lock();
        if state.outputs.is_empty() {
            drop(state);
            shared.work(None, Want::OUTPUT);
            state = shared.lock();
        }
        shared.ring(&mut state);
        let count = most.min(state.outputs.len());
        if count > 0 {
            outputs.extend(state.outputs.drain(..count));
            if shared.has_room(&state) {
                state.signal(Want::ROOM);
            }
        } else if let Some(outcome) = &state.outcome {
            return Err(outcome.clone().err().unwrap_or_else(closed));
        } else {
            state.arm(Want::OUTPUT);
        }
        shared.settle(state);
        Ok(())
    }

    /// How a run that was opened has ended, though there may be outputs that were not pulled. None
    /// before its end, and for a batch.
    pub fn outcome(&self) -> Option<Result<()>> {
        self.fed().ok().and_then(|shared| shared.lock().outcome.clone())
    }

    /// Waits until there is what is wanted, or the run is over, or `until` has passed. A run that
    /// needs no other threads is worked on meanwhile. False if the time is over; and for a batch that
    /// only [`Run::drive`] works on. After that the notification is called as [`Run::set_notify`] says.
    pub fn wait(&self, want: Want, until: Option<Instant>) -> bool {
        self.shared().is_some_and(|shared| shared.wait(want, until))
    }

    /// Sets what is called when there is something to report after there was nothing: when
    /// [`Run::try_pull`] gave None, [`Run::try_push`] Full, [`Run::take_work`] nothing,
    /// [`Run::wait`] false or [`Run::drive`] Pending, and that would now be otherwise. It is called from any thread, once
    /// each time, and must neither block nor call the run.
    pub fn set_notify(&self, notify: Option<Notify>) {
        let Some(shared) = self.shared() else { return };
        let mut state = shared.lock();
        let old = std::mem::replace(&mut state.notify, notify);
        shared.settle(state);
        drop(old);
    }

    /// Takes up to so many tasks for nodes of the host's. Each is to be answered with
    /// [`Run::finish`], in any order. After a run has ended because it was cancelled or its time
    /// was over there are still the tasks to clean up.
    pub fn take_work(&self, most: usize) -> Vec<Task> {
        let Some(shared) = self.shared() else { return Vec::new() };
        shared.work(None, Want::WORK);
        let mut state = shared.lock();
        let state_ = &mut *state;
        let count = most.min(state_.tasks.len());
        let tasks: Vec<Task> = state_.tasks.drain(..count).collect();
        for task in &tasks {
            if shared.plan.nodes[task.node].timeout.is_some()
                && let TaskCall::Process(_) = task.call
            {
                let cell = &mut state_.cells[shared.layout().places[task.node].0];
                if cell.taken.is_empty() {
                    cell.since = Instant::now();
                }
                cell.taken.push_back(task.id);
            }
        }
        if tasks.is_empty() && most > 0 {
            state.arm(Want::WORK);
        }
        shared.settle(state);
        tasks
    }

    /// Answers a task. An answer to a task that was forgotten, because the run was cancelled or
    /// what was in flight was discarded, is ignored.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for a node that the host does not implement.
    pub fn finish(&self, node: usize, id: u64, result: Result<Vec<Value>>) -> Result<()> {
        self.finish_many([(node, id, result)])
    }

    /// Answers tasks, each with its node, its number and what came of it.
    ///
    /// # Errors
    /// As [`Run::finish`]; the answers before that one are taken.
    pub fn finish_many(
        &self,
        answers: impl IntoIterator<Item = (usize, u64, Result<Vec<Value>>)>,
    ) -> Result<()> {
        let Some(shared) = self.shared() else { return Err(unknown_node()) };
        let mut state = shared.lock();
        let at = Instant::now();
        let known = answers.into_iter().try_for_each(|(node, id, result)| {
            let place = shared.layout().places.get(node);
            if !place.is_some_and(|&(stage, _)| shared.role(stage) == Role::Host) {
                return Err(unknown_node());
            }
            shared.answer(&mut state, node, Finished { id, at, result, instance: None });
            Ok(())
        });
        shared.settle(state);
        shared.work(None, Want(0));
        known
    }

    /// Discards what is in flight and keeps the run: items that were pushed and are not yet through,
    /// and outputs that were not pulled.
    ///
    /// What survives: the nodes, with their state, unless they forget it ([`crate::Node::interrupt`],
    /// which each is called with before its next value); the count of items; what nodes give at the
    /// end of input, even if that has begun; parameters that were set. A node that is at work
    /// on a value is not stopped, unless it waits or asks ([`crate::Context::check`]); what it gives is
    /// discarded, an error as well. After an error that has ended the run it does nothing.
    ///
    /// # Errors
    /// `RM_E_CLOSED` for a batch.
    pub fn interrupt(&self) -> Result<()> {
        let shared = self.fed()?;
        let mut state = shared.lock();
        if state.failed.is_some() || state.ending.is_some() {
            return Ok(());
        }
        let floor = shared.items.load(Relaxed);
        shared.control.discard(floor);
        let state_ = &mut *state;
        for (queue, metrics) in state_.queues.iter_mut().zip(&shared.links) {
            while let Some(packet) = queue.take(floor, metrics) {
                state_.later.dropped.push(packet);
            }
            queue.upto = queue.upto.max(floor);
        }
        state_.later.outputs.extend(state_.outputs.drain(..));
        let late = state_.early.split_off(&(floor, 0));
        let early = std::mem::replace(&mut state_.early, late);
        state_.later.outputs.extend(early.into_values().flatten());
        state_.tasks.retain(|task| task.item.is_none_or(|item| item >= floor));
        for cell in &mut state_.cells {
            cell.taken.clear();
            cell.later = None;
            cell.room = true;
        }
        for number in 0..state_.cells.len() {
            shared.schedule(state_, number);
        }
        state.collected = state.collected.max(floor);
        state.signal(Want::ROOM);
        shared.settle(state);
        shared.work(None, Want(0));
        Ok(())
    }

    /// Gives a node other parameters, from the next item on: these, and for the rest those that it
    /// has. In its place comes a fresh node, which is initialized before the old one is cleaned
    /// up; what that held is lost. A node of the host's gets [`TaskCall::Set`] instead.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for an id that is not there; `RM_E_MANIFEST` for parameters that the node
    /// type does not take, with a pointer into the parameters; `RM_E_CLOSED` for a batch, and after
    /// the end of input.
    pub fn set(&self, node: &str, params: &JsonMap<String, Json>) -> Result<()> {
        let shared = self.fed()?;
        let ids = shared.plan.nodes.iter().map(|node| node.id.as_str());
        let Some(place) = ids.clone().position(|id| id == node) else {
            let message = format!("there is no node with the id \"{node}\"");
            return Err(Error::new(Code::Argument, message).hint(did_you_mean(node, ids, "")));
        };
        let known = &shared.plan.nodes[place];
        let (stage, slot) = shared.layout().places[place];
        let mut state = shared.lock();
        if state.last != u64::MAX || state.outcome.is_some() {
            return Err(input_ended());
        }
        // What was set before, and has or has not reached the node, stays.
        let mut merged = state.params(stage, slot).unwrap_or_else(|| known.params.clone());
        if let Some(merged) = merged.as_object_mut() {
            merged.extend(params.iter().map(|(name, value)| (name.clone(), value.clone())));
            let mut problems = Problems::default();
            known.known.check(merged, "", &mut problems);
            if let Some(problem) = problems.into_error() {
                return Err(problem.in_node(&known.id, &known.node_type));
            }
        }
        let factory = known.known.prepare(merged.clone());
        let factory = factory.map_err(|error| error.in_node(&known.id, &known.node_type))?;
        let from = shared.items.load(Relaxed);
        let settings = Settings { from, slot, params: merged, factory };
        state.cells[stage].params.retain(|(at, _)| *at != slot);
        state.cells[stage].params.push((slot, settings.params.clone()));
        state.cells[stage].settings.push(settings);
        shared.settle(state);
        Ok(())
    }

    /// Counts and times so far. Never waits for anybody.
    ///
    /// `{"items", "items_done", "time_us", "sinks": {id: outputs}, "nodes": {id: {"node_type",
    /// "items_in", "items_out", "errors", "retries", "dropped", "time_us", "p50_us", "p99_us"}},
    /// "queues": [{"from", "to", "fill", "peak", "dropped"}]}`. Times are those of the nodes' calls;
    /// for a node that waits that includes the waiting. `p50_us` and `p99_us`: the time within which
    /// half, and 99 of 100, values were processed, to within a factor of 2. `dropped` counts values.
    /// A queue's `fill` and `peak` count packets, one for what an item put on the connection.
    ///
    /// # Errors
    /// `RM_E_BUSY` as for [`Run::drive`].
    pub fn report(&self) -> Result<Value> {
        Ok(match &self.way {
            Way::Straight(batch) => only(batch)?.report(),
            Way::Staged(Staged(shared)) => shared.plan.describe(&shared.counts()),
        })
    }

    /// The same, packed: numbers of 64 bits that [`Plan::report`] reads.
    ///
    /// # Errors
    /// As [`Run::report`].
    pub fn counts(&self) -> Result<Vec<u64>> {
        Ok(match &self.way {
            Way::Straight(batch) => only(batch)?.counts(),
            Way::Staged(Staged(shared)) => shared.counts(),
        })
    }

    /// What every stage is at, for a person who wonders why nothing moves:
    /// `{"phase", "items", "queued", "inside", "outputs", "stages": [{"nodes": [id], "state", "for",
    /// "node", "item", "since_us"}], "joins": {id: {id: count}}}`. `queued` is how many items no node
    /// has begun with. `state` is "running", "ready", "waiting", "done" or "failed"; `for` says for
    /// what it waits. `node` and `item` are those in work, and `since_us` how long ago that began.
    /// `joins`: how many values wait for partners, by node and connection; 0 while the node's stage
    /// is in work.
    pub fn diagnose(&self) -> Value {
        match &self.way {
            Way::Straight(batch) => match only(batch) {
                Ok(batch) => batch.diagnose(),
                Err(_) => Value::map([("phase", Value::text("work"))]),
            },
            Way::Staged(Staged(shared)) => shared.diagnose(),
        }
    }
}

/// A batch, unless somebody else is working on it.
fn only(batch: &Mutex<Batch>) -> Result<MutexGuard<'_, Batch>> {
    match batch.try_lock() {
        Ok(batch) => Ok(batch),
        // The nodes' panics are contained.
        Err(TryLockError::Poisoned(batch)) => Ok(batch.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::Busy, "another thread is waiting for this run"))
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let shared = &self.0;
        if shared.process != std::process::id() {
            // Those who worked for it are no more, and may have held anything.
            std::mem::forget(shared.clone());
            return;
        }
        let mut state = shared.lock();
        state.notify = None;
        if state.outcome.is_some() {
            return;
        }
        shared.control.set_cancelled();
        state.told = true;
        shared.settle(state);
        shared.wait(Want::END, None);
    }
}

impl Cell {
    fn new(desk: bool, now: Instant) -> Cell {
        Cell {
            running: false,
            scheduled: false,
            dead: false,
            through: false,
            seq: 0,
            working: false,
            done: 0,
            later: None,
            room: desk,
            oldest: None,
            finished: Vec::new(),
            settings: Vec::new(),
            params: Vec::new(),
            taken: VecDeque::new(),
            since: now,
        }
    }
}

impl State {
    /// There is now what somebody may wait for.
    fn signal(&mut self, what: Want) {
        if self.parked.has(what) {
            self.later.wake = true;
            self.parked = Want(0);
        }
        if self.armed.has(what) {
            self.later.call = true;
            self.armed = Want(0);
        }
    }

    fn arm(&mut self, want: Want) {
        self.armed = self.armed.or(want).or(Want::END).or(Want::JOB);
    }

    fn params(&self, stage: usize, slot: usize) -> Option<Json> {
        let found = self.cells[stage].params.iter().find(|(at, _)| *at == slot);
        found.map(|(_, params)| params.clone())
    }

    /// Sweeps below this a stage may still do, after a failure.
    fn horizon(&self, first: usize) -> u64 {
        match &self.failed {
            None => u64::MAX,
            Some(failure) => failure.seq + u64::from(first < failure.rank),
        }
    }

    fn fail(&mut self, failure: Failure) {
        if self.failed.as_ref().is_none_or(|first| failure.is_before(first)) {
            self.failed = Some(failure);
        }
    }

    fn stop(&mut self, error: Error) {
        self.ending.get_or_insert(Ending::Stopped(error));
    }
}

impl Shared {
    /// As [`Run::counts`].
    fn counts(&self) -> Vec<u64> {
        let count = |number: &AtomicU64| number.load(Relaxed);
        let done = self.stages.iter().map(|stage| count(&stage.done)).min().unwrap_or(0);
        let items = count(&self.items);
        let clock = self.stages.iter().map(|stage| count(&stage.clock)).max();
        let mut counts = Vec::with_capacity(self.plan.counts());
        counts.extend([items, done.min(items), clock.unwrap_or(0)]);
        for node in &self.nodes {
            let [half, most] = node.histogram.quantiles([0.5, 0.99]);
            counts.extend([
                count(&node.items_in),
                count(&node.items_out),
                count(&node.errors),
                count(&node.retries),
                count(&node.dropped),
                count(&node.nanos),
                half.to_bits(),
                most.to_bits(),
            ]);
        }
        for queue in &self.links {
            counts.extend([count(&queue.fill), count(&queue.peak), count(&queue.dropped)]);
        }
        counts
    }

    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    pub fn role(&self, stage: usize) -> Role {
        self.layout().stages[stage].role
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    pub fn out_of_time(&self) -> Error {
        let seconds = self.timeout.unwrap_or_default().as_secs_f64();
        let mut error = Control::timed_out();
        error.message = format!("the run was not complete after {seconds} s");
        error
    }

    /// The number of the item that a sweep has; none before the first, and in the last one, in which
    /// nodes are flushed.
    pub fn item_of(&self, seq: u64, last: u64) -> Option<u64> {
        (seq != last && self.has_begun()).then_some(seq)
    }

    /// The error with the node and the item where it happened.
    pub fn located(&self, error: Error, node: usize, item: Option<u64>) -> Error {
        located(&self.plan, error, node, item)
    }

    /// Says why a node has failed that the run goes on without, or that is tried again, when that is
    /// counted: of a thousand times the first is heard. What it has failed with was tried again so
    /// many times.
    pub fn tell(&self, node: usize, item: Option<u64>, tries: u32, error: &Error) {
        let first = self.nodes[node].errors.load(Relaxed) == 1;
        let level = if first { log::Level::Warn } else { log::Level::Debug };
        let PlanNode { id, on_error, .. } = &self.plan.nodes[node];
        let then = match on_error {
            OnError::Fail => return,
            OnError::Retry(most, _) if *most <= tries => return,
            OnError::Skip => "the value is skipped",
            OnError::PassThrough => "the value goes on as it came",
            OnError::Retry(..) => "is tried again",
        };
        let item = item.map_or_else(String::new, |item| format!(" with item {item}"));
        log::log!(level, "node \"{id}\" failed{item}, and {then}: {error}");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No node's code runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a stage runs on the workers.
    fn on_pool(&self, stage: usize) -> bool {
        self.pool.is_some() && matches!(self.role(stage), Role::Sync | Role::Async)
    }

    /// Frees the lock, and does what had to wait for that.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.progress(&mut state);
        self.set_alarm(&mut state);
        if state.later.is_empty() {
            return;
        }
        let later = std::mem::take(&mut state.later);
        let notify = if later.call { state.notify.clone() } else { None };
        drop(state);
        if later.wake {
            self.parked.notify_all();
        }
        if let Some(pool) = self.pool {
            for stage in later.stages {
                pool.spawn(self.clone().serve(stage));
            }
            for (stage, issued) in later.jobs {
                pool.spawn(self.clone().do_job(stage, issued));
            }
            if later.lifecycle {
                let run = self.clone();
                pool.spawn(async move {
                    run.lifecycle(None).await;
                    run.work(None, Want(0));
                });
            }
        }
        if let Some(notify) = notify {
            notify();
        }
    }

    /// Goes on to the next phase, if it is time.
    fn progress(&self, state: &mut State) {
        if state.phase == Phase::Over {
            return;
        }
        if self.control.is_cancelled() {
            let stopped = matches!(state.ending, Some(Ending::Stopped(_)));
            if !stopped && state.running == 0 && !state.busy {
                let error = self.found(state, Control::cancelled());
                state.ending = Some(Ending::Stopped(error));
            }
            state.later.outputs.extend(state.outputs.drain(..));
        }
        if state.ending.is_none() {
            if state.failed.is_some() {
                if self.is_quiet(state)
                    && let Some(failure) = state.failed.take()
                {
                    state.ending = Some(Ending::Failed(failure.error));
                }
            } else if state.phase == Phase::Work && state.through == state.cells.len() {
                state.ending = Some(Ending::Done);
            }
        }
        if let Some(ending) = &state.ending {
            let stopped = matches!(ending, Ending::Stopped(_));
            if stopped && state.awaited.take().is_some() && state.phase == Phase::Cleanup {
                // It is not waited for any more.
                state.at -= 1;
            }
            if state.phase != Phase::Cleanup && state.running == 0 && !state.busy {
                state.phase = Phase::Cleanup;
                state.at = self.plan.order.len();
                state.awaited = None;
                state.tasks.clear();
                state.ready.clear();
            }
        }
        let lifecycle = matches!(state.phase, Phase::Initialize | Phase::Cleanup);
        if lifecycle && !state.busy && state.awaited.is_none() {
            match self.pool {
                Some(_) => {
                    state.busy = true;
                    state.later.lifecycle = true;
                }
                None => state.signal(Want::JOB),
            }
        }
    }

    /// Whether nothing more will be done for the sweeps before a failure.
    fn is_quiet(&self, state: &State) -> bool {
        if state.busy || state.awaited.is_some() {
            return false;
        }
        state.running == 0
            && (0..state.cells.len()).all(|number| {
                let cell = &state.cells[number];
                let horizon = state.horizon(self.layout().stages[number].first);
                let due = cell.later.is_some() && cell.seq < horizon && !cell.dead;
                let open = cell.oldest.is_some_and(|seq| seq < horizon) && !cell.dead;
                !due && !open && !self.is_ready(state, number)
            })
    }

    /// How far a stage may go, how many sweeps it may begin, and how many bytes it may make.
    fn allowance(&self, state: &State, number: usize) -> (u64, usize, usize) {
        let stage = &self.layout().stages[number];
        let mut limit = state.horizon(stage.first);
        let most = if stage.bounded { 1 } else { TURN };
        for &link in &stage.ins {
            limit = limit.min(state.queues[link].upto);
        }
        let (mut budget, mut bytes) = (most, usize::MAX);
        for &link in &stage.outs {
            if let Some((room, space)) = state.queues[link].room() {
                budget = budget.min(room);
                bytes = bytes.min(space);
            }
        }
        if self.batch && stage.outs.is_empty() && !stage.bounded {
            budget = usize::MAX;
        }
        (limit, budget, bytes)
    }

    fn is_ready(&self, state: &State, number: usize) -> bool {
        let cell = &state.cells[number];
        if cell.running || cell.dead || state.phase != Phase::Work || state.ending.is_some() {
            return false;
        }
        let due = |time: Instant| time <= Instant::now();
        let desk = !matches!(self.role(number), Role::Sync | Role::Async);
        if desk && (!cell.finished.is_empty() || cell.later.is_some_and(due)) {
            return true;
        }
        if desk && !cell.room {
            return false;
        }
        if cell.working && !desk {
            let horizon = state.horizon(self.layout().stages[number].first);
            return cell.seq < horizon && cell.later.is_none_or(due);
        }
        if cell.seq > state.last {
            return false;
        }
        let (limit, budget, _) = self.allowance(state, number);
        limit > cell.seq && budget > 0
    }

    /// Lets a stage be run, if it is ready.
    fn schedule(&self, state: &mut State, number: usize) {
        if state.cells[number].scheduled || !self.is_ready(state, number) {
            return;
        }
        state.cells[number].scheduled = true;
        if self.on_pool(number) {
            state.later.stages.push(number);
        } else {
            state.ready.push(number);
        }
    }

    /// Takes the body of a stage that is ready, with what it has to work on.
    fn take(&self, state: &mut State, number: usize) -> Option<(Box<Body>, Vec<Finished>)> {
        if !self.is_ready(state, number) {
            return None;
        }
        let (mut limit, budget, bytes) = self.allowance(state, number);
        let stage = &self.layout().stages[number];
        let most = if stage.bounded { 1 } else { TURN };
        for &link in &stage.ins {
            if let Some(seq) = state.queues[link].seq_at(most) {
                limit = limit.min(seq);
            }
        }
        let cell = &mut state.cells[number];
        let mut body = state.bodies[number].take()?;
        (body.limit, body.budget, body.bytes) = (limit, budget, bytes);
        body.last = state.last;
        body.settings.extend(cell.settings.drain(..));
        let finished = std::mem::take(&mut cell.finished);
        cell.running = true;
        state.running += 1;
        for (port, &link) in stage.ins.iter().enumerate() {
            let mut taken = false;
            while let Some(packet) = state.queues[link].take(limit, &self.links[link]) {
                body.ports[port].push_back(packet);
                taken = true;
            }
            if taken && let Some(from) = self.layout().links[link].from {
                self.schedule(state, self.layout().places[from].0);
            }
        }
        Some((body, finished))
    }

    /// Takes back the body of a stage, and hands on what it has made.
    fn give_back(&self, state: &mut State, mut body: Box<Body>, turn: Result<Turn, Failure>) {
        let number = body.number;
        let stage = &self.layout().stages[number];
        let metrics = &self.stages[number];
        let clock = body.clock.saturating_duration_since(self.started).as_nanos() as u64;
        metrics.clock.store(clock, Relaxed);
        metrics.node.store(0, Relaxed);
        state.running -= 1;
        let floor = self.control.floor();
        let (later, mut failure) = match turn {
            Ok(Turn::Later(time)) => (Some(time), None),
            Ok(_) => (None, None),
            Err(failure) => (None, Some(failure)),
        };
        for (lead, &link) in stage.outs.iter().enumerate() {
            let queue = &mut state.queues[link];
            for packet in body.made[lead].drain(..) {
                let seq = packet.seq;
                if seq < floor {
                    state.later.dropped.push(packet);
                } else if !queue.push(packet, &self.links[link], &mut state.later.dropped) {
                    let overflow = self.overflow(link, seq);
                    if failure.as_ref().is_none_or(|failure| overflow.is_before(failure)) {
                        failure = Some(overflow);
                    }
                    break;
                }
            }
        }
        let mut done = body.done.max(floor);
        if let Some(failure) = failure.as_ref().filter(|failure| !failure.stops) {
            // The stage goes sweep by sweep, though those without values leave no trace.
            done = failure.seq;
            body.outputs.retain(|output| output.item.unwrap_or(state.last) < failure.seq);
        }
        for &link in &stage.outs {
            // What stands before the failure in the order of the plan is through with that sweep.
            let before = failure.as_ref().is_some_and(|failure| {
                let from = self.layout().links[link].from;
                !failure.stops
                    && failure.seq >= floor
                    && from.is_some_and(|from| self.layout().ranks[from] < failure.rank)
            });
            let queue = &mut state.queues[link];
            queue.upto = queue.upto.max(done + u64::from(before));
        }
        let cell = &mut state.cells[number];
        cell.running = false;
        (cell.seq, cell.working, cell.done, cell.later) = (body.seq, body.working, done, later);
        metrics.done.store(done, Relaxed);
        if done > state.last && !std::mem::replace(&mut cell.through, true) {
            state.through += 1;
        }
        let mut issued = Vec::new();
        if let Some(desk) = &mut body.desk {
            // What was discarded meanwhile makes room when the stage is at work again.
            let discarded = |sweep: u64| self.control.discards(sweep);
            cell.room = desk.has_room() || desk.oldest().is_some_and(discarded);
            cell.oldest = desk.oldest();
            issued = std::mem::take(&mut desk.issued);
        }
        if let Some(failure) = failure {
            cell.dead = true;
            match failure.stops {
                true => state.stop(failure.error),
                false => state.fail(failure),
            }
        }
        self.collect(state, &mut body, floor);
        let node = body.slots[0].node;
        state.bodies[number] = Some(body);
        self.hand_out(state, number, node, issued);
        for &link in &stage.outs {
            self.schedule(state, self.layout().links[link].to_stage);
        }
        self.schedule(state, number);
    }

    fn overflow(&self, link: usize, seq: u64) -> Failure {
        let link = &self.layout().links[link];
        let (from, to) = (link.from.unwrap_or(link.to), link.to);
        let (from_id, to_id) = (&self.plan.nodes[from].id, &self.plan.nodes[to].id);
        let error =
            Error::new(Code::Limit, format!("the queue from \"{from_id}\" to \"{to_id}\" is full"))
                .hint("make it longer, or choose another policy");
        let error = self.located(error, from, Some(seq));
        Failure { seq, rank: self.layout().ranks[from], error, stops: false }
    }

    /// Takes what the sinks of a stage gave, and lets out what is next in the order.
    fn collect(&self, state: &mut State, body: &mut Body, floor: u64) {
        let stages = &self.layout().stages;
        if self.batch || stages[body.number].sinks == 0 {
            return;
        }
        let mut sinks = stages.iter().zip(&state.cells).filter(|(stage, _)| stage.sinks > 0);
        let upto = sinks.clone().map(|(_, cell)| cell.done).min().unwrap_or(0);
        let alone = sinks.nth(1).is_none();
        let had = state.outputs.len();
        for output in body.outputs.drain(..) {
            let seq = output.item.unwrap_or(state.last);
            if seq < floor {
                state.later.outputs.push(output);
            } else if alone {
                state.outputs.push_back(output);
            } else {
                state.early.entry((seq, output.node)).or_default().push(output);
            }
        }
        if upto > state.collected {
            state.collected = upto;
            while let Some(entry) = state.early.first_entry()
                && entry.key().0 < upto
            {
                state.outputs.extend(entry.remove());
            }
        }
        if state.outputs.len() > had {
            state.signal(Want::OUTPUT);
        }
        if self.has_room(state) {
            state.signal(Want::ROOM);
        }
    }

    /// Whether another item may come in.
    fn has_room(&self, state: &State) -> bool {
        let items = self.items.load(Relaxed);
        let oldest = state.outputs.front().map_or(u64::MAX, |out| out.item.unwrap_or(state.last));
        items - items.min(oldest).min(state.collected) < self.window
    }

    fn hand_out(&self, state: &mut State, number: usize, node: usize, issued: Vec<Issued>) {
        if issued.is_empty() {
            return;
        }
        if let Role::Crew(_) = self.role(number) {
            state.running += issued.len();
            state.later.jobs.extend(issued.into_iter().map(|issued| (number, issued)));
            return;
        }
        let (last, floor) = (state.last, self.control.floor());
        let issued = issued.into_iter().filter(|issued| issued.seq >= floor);
        state.tasks.extend(issued.map(|issued| task(node, issued, last)));
        state.signal(Want::WORK);
    }

    /// All sweeps below this have the input that they get.
    fn feed(&self, state: &mut State, upto: u64) {
        for &link in &self.layout().feeds {
            state.queues[link].upto = upto;
            self.schedule(state, self.layout().links[link].to_stage);
        }
    }

    /// Takes as many items as there is room for. The number of the next item.
    fn push(
        self: &Arc<Self>,
        items: &mut dyn Iterator<Item = Value>,
        node: Option<usize>,
    ) -> Result<u64> {
        let mut state = self.lock();
        if !self.has_room(&state) && self.pool.is_none() {
            drop(state);
            self.work(None, Want::ROOM);
            state = self.lock();
        }
        self.ring(&mut state);
        let begun = self.items.load(Relaxed);
        let mut number = begun;
        // What was discarded in a run that is stopped is no room for more.
        let refused = match (&state.outcome, &state.ending) {
            (Some(outcome), _) => Some(outcome.clone().err().unwrap_or_else(closed)),
            (None, Some(Ending::Stopped(error))) => Some(error.clone()),
            _ if self.control.is_cancelled() => Some(self.found(&state, Control::cancelled())),
            _ if self.batch || state.last != u64::MAX => Some(input_ended()),
            _ => None,
        };
        if let Some(error) = refused {
            self.settle(state);
            return Err(error);
        }
        let full = loop {
            if !self.has_room(&state) {
                break true;
            }
            let Some(item) = items.next() else { break false };
            let feeds = &self.layout().feeds;
            let links = &self.layout().links;
            let wanted = |link: usize| node.is_none_or(|node| links[link].to == node);
            let last = feeds.iter().rposition(|&link| wanted(link));
            let mut item = Some(item);
            for (place, &link) in feeds.iter().enumerate().filter(|&(_, &link)| wanted(link)) {
                let value = if Some(place) == last { item.take() } else { item.clone() };
                let values = value.into_iter().collect();
                let packet = Packet { seq: number, values, bytes: 0 };
                state.queues[link].push(packet, &self.links[link], &mut Vec::new());
            }
            number += 1;
            self.items.store(number, Relaxed);
        };
        if full {
            state.arm(Want::ROOM);
        }
        if number > begun {
            self.feed(&mut state, number);
        }
        self.settle(state);
        self.work(None, Want(0));
        Ok(number)
    }

    /// Takes the answer to a task.
    fn answer(&self, state: &mut State, node: usize, finished: Finished) {
        let (stage, _) = self.layout().places[node];
        let lifecycle = match state.phase {
            Phase::Initialize => INITIALIZE,
            _ => CLEANUP,
        };
        if finished.id == lifecycle && state.awaited == Some(node) {
            state.awaited = None;
            let error = finished.result.err().map(|error| self.located(error, node, None));
            match (state.phase, error) {
                (Phase::Initialize, None) => {
                    if let Some(body) = &mut state.bodies[stage] {
                        body.slots[0].initialized = true;
                    }
                    state.at += 1;
                }
                (Phase::Initialize, Some(error)) => {
                    let rank = self.layout().ranks[node];
                    state.fail(Failure { seq: 0, rank, error, stops: false });
                }
                (_, error) => {
                    if let Some(error) = error {
                        state.unclean.get_or_insert(error);
                    }
                    state.at -= 1;
                }
            }
        } else if state.outcome.is_none() {
            let cell = &mut state.cells[stage];
            if let Some(place) = cell.taken.iter().position(|&id| id == finished.id) {
                cell.taken.remove(place);
                if place == 0 {
                    cell.since = finished.at;
                }
            }
            cell.finished.push(finished);
            self.schedule(state, stage);
        }
    }

    /// Does what a waiting thread can do, until there is what is wanted, or nothing to do, or
    /// `until` has passed.
    fn work(self: &Arc<Self>, until: Option<Instant>, want: Want) {
        let mut first = true;
        loop {
            let mut state = self.lock();
            let over = !first && until.is_some_and(|until| Instant::now() >= until);
            first = false;
            let job = match over || self.is_there(&state, want) {
                true => None,
                false => self.next_job(&mut state),
            };
            match job {
                Some(Job::Lifecycle) => {
                    drop(state);
                    ready_now(self.lifecycle(until));
                }
                Some(Job::Turn(body, finished)) => {
                    self.settle(state);
                    self.turn(body, finished, until);
                }
                None => {
                    if !state.ready.is_empty() {
                        state.signal(Want::JOB);
                    }
                    return self.settle(state);
                }
            }
        }
    }

    fn next_job(&self, state: &mut State) -> Option<Job> {
        let lifecycle = matches!(state.phase, Phase::Initialize | Phase::Cleanup);
        if lifecycle && self.pool.is_none() && !state.busy && state.awaited.is_none() {
            state.busy = true;
            return Some(Job::Lifecycle);
        }
        while let Some(number) = state.ready.pop() {
            state.cells[number].scheduled = false;
            if let Some((body, finished)) = self.take(state, number) {
                return Some(Job::Turn(body, finished));
            }
        }
        None
    }

    /// Runs a stage on this thread.
    fn turn(
        self: &Arc<Self>,
        mut body: Box<Body>,
        finished: Vec<Finished>,
        until: Option<Instant>,
    ) {
        body.clock = Instant::now();
        body.shared = body.clock;
        let turn = catch_unwind(AssertUnwindSafe(|| match body.desk {
            Some(_) => body.pump(self, finished),
            None => body.advance(self, until),
        }));
        self.end_turn(body, turn);
    }

    /// Runs a stage on a worker, for as long as it is ready.
    async fn serve(self: Arc<Self>, number: usize) {
        loop {
            let seen = self.control.changes();
            match self.next_turn(number) {
                Err(None) => return,
                Err(Some(later)) => tokio::select! {
                    () = sleep(Some(later)) => {}
                    () = self.control.change_after(seen) => {}
                },
                Ok(mut body) => {
                    body.clock = Instant::now();
                    body.shared = body.clock;
                    let turn = match self.role(number) {
                        Role::Async => unwinding(body.advance_waiting(&self)).await,
                        _ => catch_unwind(AssertUnwindSafe(|| body.advance(&self, None))),
                    };
                    self.end_turn(body, turn);
                    self.work(None, Want(0));
                    pool::give_way().await;
                }
            }
        }
    }

    /// The body of a stage that has a task; if it is not ready, the time when it may be.
    fn next_turn(self: &Arc<Self>, number: usize) -> Result<Box<Body>, Option<Instant>> {
        let mut state = self.lock();
        let taken = self.take(&mut state, number);
        let next = taken.map(|(body, _)| body).ok_or_else(|| {
            let horizon = state.horizon(self.layout().stages[number].first);
            let works = state.phase == Phase::Work && state.ending.is_none();
            let cell = &mut state.cells[number];
            let waits = works && !cell.dead && cell.seq < horizon && !self.control.is_cancelled();
            let later = cell.later.filter(|_| waits);
            cell.scheduled = later.is_some();
            later
        });
        self.settle(state);
        next
    }

    /// Gives back the body of a stage after a turn.
    fn end_turn(
        self: &Arc<Self>,
        body: Box<Body>,
        turn: std::thread::Result<Result<Turn, Failure>>,
    ) {
        let turn = turn.unwrap_or_else(|panic| Err(body.panicked(self, panic)));
        let mut state = self.lock();
        self.give_back(&mut state, body, turn);
        self.settle(state);
    }

    /// Does a task with one of several instances.
    async fn do_job(self: Arc<Self>, number: usize, issued: Issued) {
        let node = self.layout().stages[number].nodes[0];
        let Issued { id, seq, call, instance } = issued;
        let begun = Instant::now();
        let known = &self.plan.nodes[node];
        let process = matches!(call, Call::Process(_));
        let limit = known.timeout.filter(|_| process).and_then(|time| begun.checked_add(time));
        let (done, instance) = match instance {
            Some(Instance::Sync(mut instance)) => {
                let deadline = earlier(self.deadline, limit);
                let call = || self.call_alone(&mut instance, call, seq, deadline);
                let done = catch_unwind(AssertUnwindSafe(call));
                (done.unwrap_or_else(|panic| Err(panicked(panic))), Instance::Sync(instance))
            }
            Some(Instance::Async(instance)) => {
                let work = unwinding(call_async(instance.clone(), call));
                let done = tokio::select! {
                    biased;
                    done = work => done.map_or_else(
                        |panic| Err(panicked(panic)),
                        |(result, out)| result.map(|()| out),
                    ),
                    () = self.discarded(seq) => Err(Control::cancelled()),
                    () = sleep(earlier(self.deadline, limit)) => {
                        Err(Error::new(Code::Timeout, "the time is over"))
                    }
                };
                (done, Instance::Async(instance))
            }
            other => (Err(wrong_kind()), other.unwrap_or(Instance::Host)),
        };
        let at = Instant::now();
        let late = limit.is_some_and(|limit| at >= limit);
        let result = match done {
            Err(error) if error.code == Code::Panic => Err(error),
            Err(error) if !(late && error.code == Code::Timeout) => Err(error),
            Ok(values) if !late => Ok(values),
            _ => Err(too_slow(known)),
        };
        {
            let mut state = self.lock();
            state.running -= 1;
            let item = (seq != state.last).then_some(seq);
            if self.deadline.is_some_and(|deadline| at >= deadline) {
                let error = self.located(self.out_of_time(), node, item);
                state.stop(error);
            } else if self.control.is_cancelled() {
                let error = self.located(Control::cancelled(), node, item);
                state.stop(error);
            }
            state.cells[number].finished.push(Finished {
                id,
                at,
                result,
                instance: Some(instance),
            });
            self.schedule(&mut state, number);
            self.settle(state);
        }
        self.work(None, Want(0));
    }

    fn call_alone(
        &self,
        instance: &mut Box<dyn crate::Node>,
        call: Call,
        seq: u64,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>> {
        let mut out = Vec::new();
        let most = self.plan.values;
        let mut cx = Context { out: &mut out, control: &self.control, deadline, seq, most };
        match call {
            Call::Process(value) => instance.process(value, &mut cx)?,
            Call::Flush => instance.flush(&mut cx)?,
            Call::Initialize => instance.initialize()?,
            Call::Interrupt => instance.interrupt(),
            Call::Set(settings) => renew(instance, &settings)?,
        }
        Ok(out)
    }

    /// Returns once the run is cancelled or this sweep is discarded.
    async fn discarded(&self, seq: u64) {
        loop {
            let seen = self.control.changes();
            if self.control.is_cancelled() || self.control.discards(seq) {
                return;
            }
            self.control.change_after(seen).await;
        }
    }

    /// Initializes or cleans up, as far as it goes.
    async fn lifecycle(self: &Arc<Self>, until: Option<Instant>) {
        let Some((mut bodies, mut at)) = self.bodies_to_initialize() else {
            return self.clean_up();
        };
        let step = unwinding(self.initialize(&mut bodies, &mut at, until)).await;
        let mut state = self.lock();
        state.bodies = bodies;
        (state.busy, state.at) = (false, at);
        match step {
            Ok(Ok(Some(node))) => {
                let call = TaskCall::Initialize(self.plan.nodes[node].params.clone());
                state.awaited = Some(node);
                state.tasks.push_back(Task { node, id: INITIALIZE, item: None, call });
                state.signal(Want::WORK);
            }
            Ok(Ok(None)) if at < self.plan.order.len() => {}
            Ok(Ok(None)) => {
                state.phase = Phase::Work;
                self.begun.store(true, Relaxed);
                state.signal(Want::BEGUN);
                for number in 0..state.cells.len() {
                    self.schedule(&mut state, number);
                }
            }
            Ok(Err(failure)) if failure.stops => state.stop(failure.error),
            Ok(Err(failure)) => state.fail(failure),
            Err(panic) => {
                let error = self.located(panicked(panic), self.plan.order[at], None);
                state.fail(Failure { seq: 0, rank: at, error, stops: false });
            }
        }
        self.settle(state);
    }

    fn bodies_to_initialize(&self) -> Option<(Vec<Option<Box<Body>>>, usize)> {
        let mut state = self.lock();
        let begins = state.phase == Phase::Initialize;
        begins.then(|| (std::mem::take(&mut state.bodies), state.at))
    }

    /// Cleans up in reverse, as far as it goes.
    fn clean_up(self: &Arc<Self>) {
        let mut state = self.lock();
        let mut at = state.at;
        let mut bodies = std::mem::take(&mut state.bodies);
        let waits = !matches!(state.ending, Some(Ending::Stopped(_)));
        for (cell, body) in state.cells.iter_mut().zip(&mut bodies) {
            if let Some(desk) = body.as_mut().and_then(|body| body.desk.as_mut()) {
                desk.crew.extend(cell.finished.drain(..).filter_map(|back| back.instance));
            }
        }
        let mut unclean = state.unclean.take();
        drop(state);
        let mut tasks = Vec::new();
        let mut awaited = None;
        while at > 0 {
            let node = self.plan.order[at - 1];
            let (stage, slot) = self.layout().places[node];
            let Some(body) = &mut bodies[stage] else { break };
            if self.role(stage) == Role::Host {
                let cleans_up = self.plan.nodes[node].known.tasks().cleanup;
                if std::mem::take(&mut body.slots[slot].initialized) && cleans_up {
                    tasks.push(Task { node, id: CLEANUP, item: None, call: TaskCall::Cleanup });
                    if waits {
                        awaited = Some(node);
                        break;
                    }
                }
            } else {
                clean_up(body, slot, |error| {
                    let error = self.located(error, node, None);
                    unclean.get_or_insert(error);
                });
            }
            at -= 1;
        }
        let mut state = self.lock();
        (state.busy, state.at, state.awaited, state.unclean) = (false, at, awaited, unclean);
        if !tasks.is_empty() {
            state.tasks.extend(tasks);
            state.signal(Want::WORK);
        }
        if at > 0 {
            state.bodies = bodies;
            return self.settle(state);
        }
        state.phase = Phase::Over;
        let queues = std::mem::take(&mut state.queues);
        let early = std::mem::take(&mut state.early);
        let unclean = state.unclean.take();
        let outcome = match (state.ending.take(), unclean) {
            (Some(Ending::Failed(error) | Ending::Stopped(error)), Some(unclean)) => {
                log::warn!("cleanup after an error failed as well: {unclean}");
                Err(error.caused_by(unclean))
            }
            (Some(Ending::Failed(error) | Ending::Stopped(error)), None) => Err(error),
            (_, Some(unclean)) => Err(unclean),
            (_, None) => Ok(()),
        };
        if self.batch && outcome.is_ok() {
            state.result = Some(results(&self.plan, &mut bodies));
        }
        state.outcome = Some(outcome);
        state.signal(Want::END.or(Want::OUTPUT).or(Want::ROOM).or(Want::WORK));
        self.settle(state);
        drop((bodies, queues, early));
    }

    /// Initializes nodes from `at` on. Stops before one of the host's, which it gives back, and
    /// when `until` has passed.
    async fn initialize(
        &self,
        bodies: &mut [Option<Box<Body>>],
        at: &mut usize,
        until: Option<Instant>,
    ) -> Result<Option<usize>, Failure> {
        let mut clock = Instant::now();
        while let Some(&node) = self.plan.order.get(*at) {
            let (stage, slot) = self.layout().places[node];
            let Some(body) = &mut bodies[stage] else { return Ok(None) };
            if self.role(stage) == Role::Host {
                if self.plan.nodes[node].known.tasks().initialize {
                    return Ok(Some(node));
                }
                body.slots[slot].initialized = true;
                *at += 1;
                continue;
            }
            if self.control.is_cancelled() {
                return Err(self.stopped(node, Control::cancelled()));
            }
            body.clock = clock;
            match self.role(stage) {
                Role::Async => body.call_waiting(self, slot, Call::Initialize).await?,
                Role::Crew(count) => self.initialize_crew(body, count).await?,
                _ => body.call(self, slot, Call::Initialize)?,
            }
            clock = body.clock;
            *at += 1;
            if self.deadline.is_some_and(|deadline| clock >= deadline) {
                return Err(self.stopped(node, self.out_of_time()));
            }
            if until.is_some_and(|until| clock >= until) {
                break;
            }
        }
        Ok(None)
    }

    fn stopped(&self, node: usize, error: Error) -> Failure {
        let error = self.located(error, node, None);
        Failure { seq: 0, rank: self.layout().ranks[node], error, stops: true }
    }

    /// Every instance takes the place of the only one while it is initialized.
    async fn initialize_crew(&self, body: &mut Body, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let instance = (self.plan.nodes[body.slots[0].node].factory)();
            let waits = matches!(instance, Instance::Async(_));
            body.slots[0].instance = Some(instance);
            match waits {
                true => body.call_waiting(self, 0, Call::Initialize).await?,
                false => body.call(self, 0, Call::Initialize)?,
            }
            body.slots[0].initialized = false;
            let instance = body.slots[0].instance.take();
            if let Some(desk) = &mut body.desk {
                desk.crew.extend(instance);
            }
        }
        Ok(())
    }

    /// Whether there is what is wanted.
    fn is_there(&self, state: &State, want: Want) -> bool {
        (want != Want(0) && state.outcome.is_some())
            || (want.has(Want::OUTPUT) && !state.outputs.is_empty())
            || (want.has(Want::ROOM) && self.has_room(state))
            || (want.has(Want::WORK) && !state.tasks.is_empty())
            || (want.has(Want::BEGUN) && self.has_begun())
    }

    fn wait(self: &Arc<Self>, want: Want, until: Option<Instant>) -> bool {
        let want = want.or(Want::END);
        loop {
            let mut state = self.lock();
            self.ring(&mut state);
            self.settle(state);
            self.work(until, want);
            let mut state = self.lock();
            if self.is_there(&state, want) {
                self.settle(state);
                return true;
            }
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                state.arm(want);
                self.settle(state);
                return false;
            }
            self.progress(&mut state);
            if self.has_job(&state) || !state.later.is_empty() {
                self.settle(state);
                continue;
            }
            state.parked = state.parked.or(want).or(Want::JOB);
            match earlier(until, self.next_alarm(&state)) {
                None => drop(self.parked.wait(state)),
                Some(end) => {
                    drop(self.parked.wait_timeout(state, end.saturating_duration_since(now)));
                }
            }
        }
    }

    fn has_job(&self, state: &State) -> bool {
        let lifecycle = matches!(state.phase, Phase::Initialize | Phase::Cleanup);
        let idle = self.pool.is_none() && !state.busy && state.awaited.is_none();
        !state.ready.is_empty() || (lifecycle && idle)
    }

    /// When something is to be done though nothing happens.
    fn next_alarm(&self, state: &State) -> Option<Instant> {
        if state.phase == Phase::Over {
            return None;
        }
        // Those who are at work see to the run's time themselves.
        let mut next = self.deadline.filter(|_| state.running == 0 && !state.busy);
        for (number, cell) in state.cells.iter().enumerate() {
            if !self.on_pool(number) && !cell.running {
                next = earlier(next, cell.later);
            }
            next = earlier(next, self.host_limit(number, cell));
        }
        next
    }

    /// When the value that the host has in work takes too long.
    fn host_limit(&self, number: usize, cell: &Cell) -> Option<Instant> {
        cell.taken.front()?;
        let node = self.layout().stages[number].nodes[0];
        cell.since.checked_add(self.plan.nodes[node].timeout?)
    }

    /// Does what was to be done by now.
    fn ring(&self, state: &mut State) {
        if state.phase == Phase::Over {
            return;
        }
        let mut now = None;
        let mut is_due = |time: Instant| *now.get_or_insert_with(Instant::now) >= time;
        if state.running == 0
            && !state.busy
            && !matches!(state.ending, Some(Ending::Stopped(_)))
            && self.deadline.is_some_and(&mut is_due)
        {
            let error = self.found(state, self.out_of_time());
            state.ending = Some(Ending::Stopped(error));
        }
        for number in 0..state.cells.len() {
            let cell = &mut state.cells[number];
            if self.host_limit(number, cell).is_some_and(&mut is_due)
                && let Some(id) = cell.taken.pop_front()
            {
                let (at, node) = (Instant::now(), self.layout().stages[number].nodes[0]);
                cell.since = at;
                let result = Err(too_slow(&self.plan.nodes[node]));
                cell.finished.push(Finished { id, at, result, instance: None });
            }
            if !cell.finished.is_empty() || cell.later.is_some_and(&mut is_due) {
                self.schedule(state, number);
            }
        }
    }

    /// Sets an alarm for those who wait to be notified.
    fn set_alarm(self: &Arc<Self>, state: &mut State) {
        if state.notify.is_none() || state.armed == Want(0) {
            return;
        }
        let Some(next) = self.next_alarm(state) else { return };
        if state.alarm.is_some_and(|alarm| alarm <= next) {
            return;
        }
        match pool::workers() {
            Ok(pool) => {
                state.alarm = Some(next);
                let run = Arc::downgrade(self);
                pool.spawn(async move {
                    sleep(Some(next)).await;
                    if let Some(run) = run.upgrade() {
                        run.lock().alarm = None;
                        run.look_up();
                    }
                });
            }
            Err(error) => log::error!("a run cannot notify of the time: {error}"),
        }
    }

    /// Somebody else has changed something, or time has passed.
    pub fn look_up(self: &Arc<Self>) {
        let mut state = self.lock();
        self.ring(&mut state);
        self.progress(&mut state);
        if self.has_job(&state) {
            state.signal(Want::JOB);
        }
        self.settle(state);
    }

    /// The error with the place where the run stands, though nobody is at work.
    fn found(&self, state: &State, error: Error) -> Error {
        if let Some(node) = state.awaited {
            return self.located(error, node, None);
        }
        for (number, cell) in state.cells.iter().enumerate() {
            let body = state.bodies.get(number).and_then(Option::as_ref);
            if let Some(body) = body.filter(|_| cell.working) {
                return body.stop(self, error).error;
            }
            if let Some(seq) = cell.oldest {
                let node = self.layout().stages[number].nodes[0];
                return self.located(error, node, (seq != state.last).then_some(seq));
            }
        }
        error
    }

    fn diagnose(&self) -> Value {
        let state = self.lock();
        let now = self.started.elapsed().as_nanos() as u64;
        let id = |node: usize| Value::text(&self.plan.nodes[node].id);
        let stages = self.layout().stages.iter().enumerate().map(|(number, stage)| {
            let (cell, metrics) = (&state.cells[number], &self.stages[number]);
            let (word, why) = self.state_of(&state, number);
            let node = metrics.node.load(Relaxed).checked_sub(1).filter(|_| cell.running);
            let seq = match cell.oldest {
                Some(seq) => Some(seq),
                None => (cell.running || cell.working).then(|| metrics.seq.load(Relaxed)),
            };
            let item = seq.filter(|&seq| seq != state.last);
            let since = now.saturating_sub(metrics.clock.load(Relaxed)) as f64 / 1_000.0;
            Value::map([
                ("nodes", Value::list(stage.nodes.iter().map(|&node| id(node)).collect())),
                ("state", Value::text(word)),
                ("for", why.map_or(Value::Null, Value::text)),
                ("node", node.map_or(Value::Null, |node| id(node as usize))),
                ("item", item.map_or(Value::Null, |item| Value::Int(item as i64))),
                ("since_us", Value::Float(since)),
            ])
        });
        let nodes = self.plan.nodes.iter().zip(&self.layout().places);
        let joins =
            nodes.filter(|(node, _)| node.join != Join::Any).map(|(node, &(stage, slot))| {
                let body = state.bodies.get(stage).and_then(Option::as_ref);
                let held = body.and_then(|body| body.held(slot)).into_iter().flatten();
                let inputs = node.inputs.iter().map(|&input| &self.plan.nodes[input].id);
                let counts = inputs.zip(held.chain(repeat(0)));
                (&node.id, Value::map(counts.map(|(id, count)| (id, Value::Int(count as i64)))))
            });
        let items = self.items.load(Relaxed);
        let begun = self.layout().feeds.iter().map(|&link| {
            let stage = self.layout().links[link].to_stage;
            let cell = &state.cells[stage];
            match cell.running {
                true => self.stages[stage].seq.load(Relaxed) + 1,
                false => cell.seq + u64::from(cell.working),
            }
        });
        let queued = items - begun.min().unwrap_or(0).min(items);
        let oldest = state.outputs.front().map_or(u64::MAX, |out| out.item.unwrap_or(state.last));
        let inside = items - items.min(oldest).min(state.collected);
        let phase = match state.phase {
            Phase::Initialize => "initialize",
            Phase::Work => "work",
            Phase::Cleanup => "cleanup",
            Phase::Over => "over",
        };
        Value::map([
            ("phase", Value::text(phase)),
            ("items", Value::Int(items as i64)),
            ("queued", Value::Int(queued as i64)),
            ("inside", Value::Int(inside as i64)),
            ("outputs", Value::Int(state.outputs.len() as i64)),
            ("stages", Value::list(stages.collect())),
            ("joins", Value::map(joins)),
        ])
    }

    fn state_of(&self, state: &State, number: usize) -> (&'static str, Option<String>) {
        let (cell, stage) = (&state.cells[number], &self.layout().stages[number]);
        let id = |node: usize| format!("\"{}\"", self.plan.nodes[node].id);
        let waiting = |what: String| ("waiting", Some(what));
        if cell.dead {
            return ("failed", None);
        }
        if cell.running {
            return ("running", None);
        }
        if cell.through || state.phase == Phase::Over {
            return ("done", None);
        }
        if state.phase != Phase::Work {
            return match state.awaited {
                Some(node) => waiting(format!("the host at {}", id(node))),
                None => ("ready", None),
            };
        }
        if self.is_ready(state, number) {
            return ("ready", None);
        }
        if cell.later.is_some() {
            return waiting("the time to try again".to_owned());
        }
        if cell.oldest.is_some() {
            let node = id(stage.nodes[0]);
            return match self.role(number) {
                Role::Host => waiting(format!("the host at {node}")),
                _ => ("running", None),
            };
        }
        for &link in &stage.outs {
            if state.queues[link].room().is_some_and(|(items, bytes)| items == 0 || bytes == 0) {
                return waiting(format!("room at {}", id(self.layout().links[link].to)));
            }
        }
        for &link in &stage.ins {
            if state.queues[link].upto <= cell.seq {
                return match self.layout().links[link].from {
                    Some(from) => waiting(id(from)),
                    None => waiting("an item".to_owned()),
                };
            }
        }
        ("ready", None)
    }
}

impl Later {
    fn is_empty(&self) -> bool {
        !self.wake
            && !self.call
            && !self.lifecycle
            && self.stages.is_empty()
            && self.jobs.is_empty()
            && self.dropped.is_empty()
            && self.outputs.is_empty()
    }
}

/// The result of a future that waits for nothing.
fn ready_now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("nodes that wait have threads to wait on"),
    }
}

/// Cleans up a node, if it was initialized; with several instances, each of them.
fn clean_up(body: &mut Body, slot: usize, mut failed: impl FnMut(Error)) {
    let one = std::mem::take(&mut body.slots[slot].initialized);
    let one = body.slots[slot].instance.take().filter(|_| one);
    let crew = body.desk.as_mut().map(|desk| std::mem::take(&mut desk.crew));
    for mut instance in crew.into_iter().flatten().chain(one) {
        let cleaned = catch_unwind(AssertUnwindSafe(|| match &mut instance {
            Instance::Sync(instance) => instance.cleanup(),
            Instance::Async(instance) => match instance.try_lock() {
                Ok(mut instance) => instance.cleanup(),
                Err(_) => Err(Error::new(Code::Internal, "the node is still in use")),
            },
            Instance::Host => Ok(()),
        }));
        if let Err(error) = cleaned.unwrap_or_else(|panic| Err(panicked(panic))) {
            failed(error);
        }
    }
}

/// What the sinks of a batch gave, in the order in which they stand in the manifest.
fn results(plan: &Plan, bodies: &mut [Option<Box<Body>>]) -> Value {
    let mut all = Vec::new();
    for (node, &(stage, slot)) in plan.nodes.iter().zip(&plan.layout.places) {
        if node.consumers == 0
            && let Some(body) = &mut bodies[stage]
        {
            match all.is_empty() {
                true => all = std::mem::take(&mut body.slots[slot].results),
                false => all.append(&mut body.slots[slot].results),
            }
        }
    }
    Value::list(all)
}

pub(crate) fn closed() -> Error {
    Error::new(Code::Closed, "the run is over")
}

fn input_ended() -> Error {
    Error::new(Code::Closed, "the input has ended")
}

/// The error with the node and the item where it happened.
pub(crate) fn located(plan: &Plan, mut error: Error, node: usize, item: Option<u64>) -> Error {
    let PlanNode { id, node_type, .. } = &plan.nodes[node];
    error.item = item;
    error.in_node(id, node_type)
}

/// A panic as an error.
pub fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Error::new(Code::Panic, format!("panicked: {text}"))
        .hint("this is a bug in the library or in a node, not in the pipeline; please report it")
}

/// The place of the source node with this id.
fn source(plan: &Plan, id: &str) -> Result<usize> {
    let sources = || plan.nodes.iter().filter(|node| node.is_source()).map(|node| node.id.as_str());
    let wrong = |message: String, hint: String| Err(Error::new(Code::Argument, message).hint(hint));
    match plan.nodes.iter().position(|node| node.id == id) {
        Some(place) if plan.nodes[place].is_source() => Ok(place),
        Some(_) => {
            let sources: Vec<_> = sources().collect();
            wrong(not_a_source(id), format!("nodes that take input: {}", sources.join(", ")))
        }
        None => wrong(not_there(id), did_you_mean(id, sources(), "")),
    }
}

fn not_there(id: &str) -> String {
    format!("the input names a node \"{id}\" that is not there")
}

fn not_a_source(id: &str) -> String {
    format!("the node \"{id}\" gets its values from other nodes, not from the input")
}

/// Gives every source node its items; nodes are named by their places in the manifest.
pub(crate) fn distribute(
    plan: &Plan,
    input: &Value,
    mut give: impl FnMut(usize, Arc<List>),
) -> Result<()> {
    match input {
        Value::List(items) => {
            let sources = plan.nodes.iter().enumerate().filter(|(_, node)| node.is_source());
            sources.for_each(|(place, _)| give(place, items.clone()));
            Ok(())
        }
        Value::Map(by_node) => {
            for (id, items) in by_node.iter() {
                let mut pointer = String::new();
                crate::json::push_pointer(&mut pointer, id);
                let place = source(plan, id).map_err(|mut error| {
                    if plan.nodes.iter().all(|node| *node.id != **id) {
                        let hint = error.hint.take().unwrap_or_default();
                        error.hint =
                            Some(format!("{hint}; to pass one map as an item, put it in a list"));
                    }
                    error.at(pointer.clone())
                })?;
                let Value::List(items) = items else {
                    let kind = items.kind();
                    let message = format!("the input for \"{id}\" is a list of items, not {kind}");
                    return Err(Error::new(Code::Argument, message)
                        .at(pointer)
                        .hint("put the item in a list"));
                };
                give(place, items.clone());
            }
            Ok(())
        }
        other => Err(Error::new(
            Code::Argument,
            format!("the input is a list of items, not {}", other.kind()),
        )
        .at("")
        .hint("put the item in a list; or pass a map from the ids of source nodes to lists")),
    }
}
