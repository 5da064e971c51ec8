//! Work that somebody else does for a stage: the host, or several instances of one node. It is
//! handed out in order, may come back in any order, and goes on in order.

use crate::error::{Code, Error, Result};
use crate::layout::Role;
use crate::manifest::OnError;
use crate::metrics::bump;
use crate::node::Instance;
use crate::run::Shared;
use crate::stage::{Body, Call, Failure, Next, Turn, backoff_of, too_many_values};
use crate::value::Value;
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::time::Instant;

/// One call of a node that the host implements. It is answered with [`crate::Run::finish`].
#[derive(Debug)]
pub struct Task {
    /// The node's place in the manifest.
    pub node: usize,
    /// Its number among the tasks of this node.
    pub id: u64,
    /// The number of the item in work; None before the first and after the last.
    pub item: Option<u64>,
    /// What the node has to do.
    pub call: TaskCall,
}

/// What a node of the host's has to do. The contract is that of [`crate::node`]: values come in
/// order; no call but [`TaskCall::Process`] comes before all earlier ones of its node are answered.
#[derive(Debug)]
pub enum TaskCall {
    /// To acquire what it needs. These are its parameters.
    Initialize(Json),
    /// To process a value. The answer is what it emits.
    Process(Value),
    /// To emit what it still holds, at the end of input.
    Flush,
    /// To forget what it holds, if it is not to be kept: what was in flight was discarded.
    Interrupt,
    /// To go on with these parameters.
    Set(Json),
    /// To release what it holds. The last call.
    Cleanup,
}

/// A task that has come back.
pub(crate) struct Finished {
    pub id: u64,
    pub at: Instant,
    pub result: Result<Vec<Value>>,
    pub instance: Option<Instance>,
}

/// A task to be handed out.
pub(crate) struct Issued {
    pub id: u64,
    pub seq: u64,
    pub call: Call,
    /// Who is to do it, if not the host.
    pub instance: Option<Instance>,
}

/// The tasks of a stage that are under way, in order.
pub(crate) struct Desk {
    /// How many tasks may be out at once.
    capacity: usize,
    /// The number of the first entry.
    base: u64,
    entries: VecDeque<Entry>,
    /// How many tasks are out, or are to be tried again.
    pub open: usize,
    /// A call that has to wait until all tasks have come back.
    held: Option<Call>,
    pub issued: Vec<Issued>,
    /// Instances without work.
    pub crew: Vec<Instance>,
    last_finish: Instant,
}

struct Entry {
    seq: u64,
    state: State,
    /// What was to be processed, if that may be needed again.
    kept: Option<Value>,
    process: bool,
    tries: u32,
    since: Instant,
}

enum State {
    Out,
    /// It is to be tried again then.
    Again(Instant),
    Back(Result<Vec<Value>>),
    /// Not a task, but the end of a sweep.
    End,
}

impl Desk {
    /// How many values of one node the host may have at once: one if it may have to be tried again,
    /// as those after it would come before.
    pub fn window(on_error: OnError) -> usize {
        match on_error {
            OnError::Retry(..) => 1,
            _ => 64,
        }
    }

    pub fn new(capacity: usize, now: Instant) -> Self {
        Desk {
            capacity,
            base: 0,
            entries: VecDeque::new(),
            open: 0,
            held: None,
            issued: Vec::new(),
            crew: Vec::new(),
            last_finish: now,
        }
    }

    /// Whether there is room for the values of another sweep.
    pub fn has_room(&self) -> bool {
        self.open < self.capacity && self.entries.len() < 2 * self.capacity && self.held.is_none()
    }

    /// The oldest sweep that is under way.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// When the next task is to be handed out again.
    fn again(&self) -> Option<Instant> {
        let again = |entry: &Entry| match entry.state {
            State::Again(time) => Some(time),
            _ => None,
        };
        self.entries.iter().filter_map(again).min()
    }

    /// Everything that a sweep has to do is handed out.
    pub fn end_sweep(&mut self, seq: u64) {
        let (kept, since) = (None, self.last_finish);
        let entry = Entry { seq, state: State::End, kept, process: false, tries: 0, since };
        self.entries.push_back(entry);
    }

    /// Forgets the sweeps below this one. True if there were any.
    pub fn discard(&mut self, floor: u64) -> bool {
        let had = self.entries.len();
        while let Some(entry) = self.entries.front().filter(|entry| entry.seq < floor) {
            self.open -= usize::from(matches!(entry.state, State::Out | State::Again(_)));
            self.entries.pop_front();
            self.base += 1;
        }
        let (stay, gone) =
            std::mem::take(&mut self.issued).into_iter().partition(|issued| issued.seq >= floor);
        self.issued = stay;
        let gone: Vec<Issued> = gone;
        self.crew.extend(gone.into_iter().filter_map(|issued| issued.instance));
        self.entries.len() < had
    }

    /// A number that tells this attempt at this entry from all others.
    fn id(&self, place: usize) -> u64 {
        ((self.base + place as u64) << 8) | u64::from(self.entries[place].tries)
    }

    /// What nobody has to be asked for.
    fn add_done(&mut self, seq: u64) {
        let (state, since) = (State::Back(Ok(Vec::new())), self.last_finish);
        let entry = Entry { seq, state, kept: None, process: false, tries: 0, since };
        self.entries.push_back(entry);
    }

    fn add(&mut self, seq: u64, kept: Option<Value>, call: Call, instance: Option<Instance>) {
        let process = matches!(call, Call::Process(_));
        let since = Instant::now();
        self.entries.push_back(Entry { seq, state: State::Out, kept, process, tries: 0, since });
        self.open += 1;
        let id = self.id(self.entries.len() - 1);
        self.issued.push(Issued { id, seq, call, instance });
    }
}

impl Body {
    /// Takes what has come back, hands on what is complete, and hands out what there is to do.
    pub fn pump(&mut self, run: &Shared, finished: Vec<Finished>) -> Result<Turn, Failure> {
        if self.seen != run.control.changes() {
            // What was discarded makes room.
            self.look_up(run)?;
        }
        for finished in finished {
            self.take_back(run, finished);
        }
        self.hand_out_again(run);
        loop {
            self.hand_on(run)?;
            let Some(desk) = &mut self.desk else { return Ok(Turn::Idle) };
            if let Some(call) = desk.held.take_if(|_| desk.open == 0) {
                self.hand_out_alone(run, call);
                continue;
            }
            let out_of_hands =
                matches!(run.role(self.number), Role::Crew(_)) && desk.crew.is_empty();
            if desk.held.is_some() || desk.open >= desk.capacity || out_of_hands {
                break;
            }
            if !self.working && desk.entries.len() >= 2 * desk.capacity {
                break;
            }
            match self.next(run)? {
                Next::Call(_, Call::Process(value)) => self.hand_out(run, value),
                Next::Call(_, call) => {
                    if let Some(desk) = &mut self.desk {
                        desk.held = Some(call);
                    }
                }
                Next::Idle | Next::Share | Next::Later(_) => break,
            }
        }
        // The last steps may have been the ends of sweeps.
        self.hand_on(run)?;
        let desk = self.desk.as_ref();
        self.done = desk.and_then(|desk| desk.oldest()).unwrap_or(self.seq);
        Ok(desk.and_then(|desk| desk.again()).map_or(Turn::Idle, Turn::Later))
    }

    fn hand_out(&mut self, run: &Shared, value: Value) {
        let Some(desk) = &mut self.desk else { return };
        let node = self.slots[0].node;
        bump(&run.nodes[node].items_in, 1);
        let kept = (run.plan.nodes[node].on_error != OnError::Fail).then(|| value.clone());
        let instance = desk.crew.pop();
        desk.add(self.seq, kept, Call::Process(value), instance);
    }

    /// Hands out a call that concerns every instance.
    fn hand_out_alone(&mut self, run: &Shared, call: Call) {
        let Some(desk) = &mut self.desk else { return };
        let seq = self.seq;
        if run.role(self.number) == Role::Host {
            let tasks = run.plan.nodes[self.slots[0].node].known.tasks();
            let is_done = match call {
                Call::Flush => !tasks.flush,
                Call::Interrupt => !tasks.interrupt,
                _ => false,
            };
            match is_done {
                true => desk.add_done(seq),
                false => desk.add(seq, None, call, None),
            }
            return;
        }
        for instance in std::mem::take(&mut desk.crew) {
            let call = match &call {
                Call::Set(settings) => Call::Set(settings.clone()),
                Call::Interrupt => Call::Interrupt,
                _ => Call::Flush,
            };
            desk.add(seq, None, call, Some(instance));
        }
    }

    /// Hands out once more what failed, if its time has come.
    fn hand_out_again(&mut self, run: &Shared) {
        let by_host = run.role(self.number) == Role::Host;
        let Some(desk) = &mut self.desk else { return };
        if desk.again().is_none() {
            return;
        }
        let now = Instant::now();
        for place in 0..desk.entries.len() {
            let id = desk.id(place);
            let entry = &mut desk.entries[place];
            if let State::Again(time) = entry.state
                && time <= now
                && (by_host || !desk.crew.is_empty())
                && let Some(value) = &entry.kept
            {
                (entry.state, entry.since) = (State::Out, now);
                let call = Call::Process(value.clone());
                let instance = desk.crew.pop();
                let seq = entry.seq;
                desk.issued.push(Issued { id, seq, call, instance });
            }
        }
    }

    fn take_back(&mut self, run: &Shared, finished: Finished) {
        let last = self.last;
        let Some(desk) = &mut self.desk else { return };
        desk.crew.extend(finished.instance);
        let (number, tries) = (finished.id >> 8, finished.id & 0xff);
        let place = number.checked_sub(desk.base).map(|place| place as usize);
        let Some(entry) = place.and_then(|place| desk.entries.get_mut(place)) else { return };
        if u64::from(entry.tries) != tries || !matches!(entry.state, State::Out) {
            return;
        }
        let node = self.slots[0].node;
        let (node, metrics) = (&run.plan.nodes[node], &run.nodes[node]);
        // Work on a value begins when it is there and the one before it is done.
        let begun = match run.role(self.number) {
            Role::Host => entry.since.max(desk.last_finish),
            _ => entry.since,
        };
        let spent = finished.at.saturating_duration_since(begun);
        desk.last_finish = desk.last_finish.max(finished.at);
        bump(&metrics.nanos, spent.as_nanos() as u64);
        if entry.process {
            metrics.histogram.add(spent.as_nanos() as u64);
        }
        let result = match finished.result {
            Err(error) if entry.process && error.code != Code::Panic => {
                bump(&metrics.errors, 1);
                let item = run.item_of(entry.seq, last);
                run.tell(self.slots[0].node, item, entry.tries, &error);
                match (node.on_error, entry.kept.clone()) {
                    (OnError::Skip, _) => Ok(Vec::new()),
                    (OnError::PassThrough, Some(value)) => Ok(vec![value]),
                    (OnError::Retry(most, backoff), Some(_)) if entry.tries < most => {
                        bump(&metrics.retries, 1);
                        let wait = backoff_of(backoff, entry.tries);
                        entry.tries += 1;
                        let now = Instant::now();
                        entry.state = State::Again(now.checked_add(wait).unwrap_or(now));
                        return;
                    }
                    _ => Err(error),
                }
            }
            result => result,
        };
        if let Ok(values) = &result {
            bump(&metrics.items_out, values.len() as u64);
        }
        entry.state = State::Back(result);
        desk.open -= 1;
    }

    /// Hands on what is complete, as far as it is next in the order.
    fn hand_on(&mut self, run: &Shared) -> Result<(), Failure> {
        loop {
            let Some(desk) = &mut self.desk else { return Ok(()) };
            let complete = |entry: &Entry| matches!(entry.state, State::Back(_) | State::End);
            if !desk.entries.front().is_some_and(complete) {
                return Ok(());
            }
            let Some(entry) = desk.entries.pop_front() else { return Ok(()) };
            desk.base += 1;
            match entry.state {
                State::Back(Ok(mut values)) => {
                    let out = &mut self.slots[0].out;
                    out.append(&mut values);
                    if out.len() > run.plan.values {
                        let error = too_many_values(run.plan.values);
                        return Err(self.fail_in(run, 0, entry.seq, error));
                    }
                }
                State::Back(Err(error)) => return Err(self.fail_in(run, 0, entry.seq, error)),
                _ => self.deliver(run, 0, entry.seq),
            }
        }
    }
}

/// As a task for the host.
pub(crate) fn task(node: usize, issued: Issued, last: u64) -> Task {
    let call = match issued.call {
        Call::Process(value) => TaskCall::Process(value),
        Call::Set(settings) => TaskCall::Set(settings.params),
        Call::Interrupt => TaskCall::Interrupt,
        Call::Initialize | Call::Flush => TaskCall::Flush,
    };
    let item = (issued.seq != last).then_some(issued.seq);
    Task { node, id: issued.id, item, call }
}

/// What a host says of a task that was not its to do.
pub(crate) fn unknown_node() -> Error {
    Error::new(Code::Argument, "the node is not one that the host implements")
}
