//! The contract a node fulfils.
//!
//! In a run a node is initialized once, processes its values one after the other, is flushed once
//! at the end of input, and is cleaned up once: after success, and just as well after an error, a
//! timeout, a cancellation or a panic, its own or another node's. A node whose `initialize` failed
//! is not cleaned up. A run has its own instance of every node, so a node needs no locks.

use crate::control::Control;
use crate::error::{Code, Error, Result};
use crate::registry::{Factory, NodeType};
use crate::value::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

/// A node that computes. It does not wait for anything.
pub trait Node: Send {
    /// Acquires what the node needs, for example a model.
    fn initialize(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes one value and emits any number of values.
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()>;

    /// At the end of input: emits what the node still holds.
    fn flush(&mut self, _cx: &mut Context) -> Result<()> {
        Ok(())
    }

    /// What is in flight was discarded ([`crate::Run::interrupt`]): forgets what it holds of it, if
    /// it is not to be kept.
    fn interrupt(&mut self) {}

    /// Releases what the node holds.
    fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A boxed future, as traits with `async` methods need it to be usable behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node that waits: for time, for a connection, for somebody's answer.
///
/// Its futures run on the threads of a tokio runtime with time enabled, and are dropped where they
/// stand when the run is cancelled or its time is over, when the time for the value is over, and
/// when what is in flight is discarded.
pub trait AsyncNode: Send {
    /// As [`Node::initialize`].
    fn initialize(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// As [`Node::process`]; what it emits is appended to `out`.
    fn process<'a>(
        &'a mut self,
        value: Value,
        out: &'a mut Vec<Value>,
    ) -> BoxFuture<'a, Result<()>>;

    /// As [`Node::flush`].
    fn flush<'a>(&'a mut self, _out: &'a mut Vec<Value>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// As [`Node::interrupt`].
    fn interrupt(&mut self) {}

    /// As [`Node::cleanup`].
    fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A node of a run.
pub enum Instance {
    /// One that computes.
    Sync(Box<dyn Node>),
    /// One that waits. The lock is never contended: it lets a future own the node for a while and
    /// leaves the node behind when the future is dropped.
    Async(Arc<tokio::sync::Mutex<Box<dyn AsyncNode>>>),
    /// One that the host implements: it fulfils the same contract, call by call, through
    /// [`crate::Run::take_work`] and [`crate::Run::finish`].
    Host,
}

/// What a node is to the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Cheap,
    Heavy,
    Async,
    Host,
}

impl Kind {
    /// Of the nodes that this factory makes.
    pub fn of(known: &NodeType, factory: &Factory) -> Kind {
        match factory() {
            Instance::Sync(_) if known.about().heavy => Kind::Heavy,
            Instance::Sync(_) => Kind::Cheap,
            Instance::Async(_) => Kind::Async,
            Instance::Host => Kind::Host,
        }
    }
}

impl Instance {
    /// Wraps a node that computes.
    pub fn new(node: impl Node + 'static) -> Self {
        Instance::Sync(Box::new(node))
    }

    /// Wraps a node that waits.
    pub fn new_async(node: impl AsyncNode + 'static) -> Self {
        Instance::Async(Arc::new(tokio::sync::Mutex::new(Box::new(node))))
    }
}

/// What a node may do while it processes.
pub struct Context<'a> {
    pub(crate) out: &'a mut Vec<Value>,
    pub(crate) control: &'a Arc<Control>,
    /// When the run's time is over, or that for this value.
    pub(crate) deadline: Option<Instant>,
    /// The number of the sweep.
    pub(crate) seq: u64,
    /// How many values `out` may hold.
    pub(crate) most: usize,
}

impl Context<'_> {
    /// Hands a value to the nodes behind this one, or to the result if there are none.
    pub fn emit(&mut self, value: Value) {
        self.out.push(value);
    }

    /// To be asked every few milliseconds by a node that works for long on one value, and
    /// answered with `?`.
    ///
    /// # Errors
    /// `RM_E_CANCELLED` or `RM_E_TIMEOUT` once the run, or the work on this value, is over for one of
    /// these reasons;
    /// `RM_E_LIMIT` if the node has given more values than it may.
    pub fn check(&self) -> Result<()> {
        if self.out.len() > self.most {
            return Err(Error::new(Code::Limit, "too many values"));
        }
        wanted(self.control, self.deadline, self.seq)
    }

    /// What other threads may ask instead, and for longer than this call takes.
    pub fn watch(&self) -> Watch {
        Watch { control: self.control.clone(), deadline: self.deadline, seq: self.seq }
    }
}

/// Tells whether the work on a value is still wanted, as [`Context::check`] does, from any thread.
pub struct Watch {
    control: Arc<Control>,
    deadline: Option<Instant>,
    seq: u64,
}

impl Watch {
    /// As [`Context::check`], without the limit.
    ///
    /// # Errors
    /// `RM_E_CANCELLED` or `RM_E_TIMEOUT`.
    pub fn check(&self) -> Result<()> {
        wanted(&self.control, self.deadline, self.seq)
    }
}

fn wanted(control: &Control, deadline: Option<Instant>, seq: u64) -> Result<()> {
    if control.is_cancelled() {
        return Err(Control::cancelled());
    }
    if control.discards(seq) {
        return Err(Error::new(Code::Cancelled, "what was in flight was discarded"));
    }
    match deadline {
        Some(deadline) if Instant::now() >= deadline => Err(Control::timed_out()),
        _ => Ok(()),
    }
}
