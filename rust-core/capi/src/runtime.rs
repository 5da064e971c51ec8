//! `rm_runtime`.

use crate::abi::{RM_AGAIN, RM_OK, rm_status};
use crate::data::rm_data;
use crate::error::rm_error;
use crate::guard::{Out, fields, guard, text, timeout};
use crate::handle::{Handle, Head, Kind, generation, live, release, share};
use remotemedia_runtime::schema::did_you_mean;
use remotemedia_runtime::{Code, Control, Error, Limits, Result, Runtime};
use serde_json::json;
use std::collections::HashMap;
use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Node types, limits and remembered manifests: what pipelines are loaded with.
///
/// Where a function takes a runtime, NULL means the process's default one, which always exists,
/// has every limit at its default and cannot be closed.
///
/// Ownership: yours from rm_runtime_new; free it. Pipelines keep what they need of it, so free in
/// any order. Threads: any, at the same time.
///
/// Functions: rm_runtime_new, rm_runtime_add_node, rm_runtime_query, rm_runtime_close,
/// rm_runtime_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_runtime {
    head: Head,
    runtime: Runtime,
    /// Whether it is the process's default one.
    default: bool,
    work: Mutex<Work>,
    idle: Condvar,
}

/// The runs that are going on.
#[derive(Default)]
struct Work {
    closed: bool,
    next: u64,
    runs: HashMap<u64, Arc<Control>>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_runtime {
    const KIND: Kind = Kind::Runtime;
}

impl rm_runtime {
    fn new(limits: Limits, default: bool) -> Self {
        #[cfg_attr(not(feature = "testing"), allow(unused_mut))]
        let mut registry = remotemedia_nodes::registry();
        #[cfg(feature = "testing")]
        registry.add(crate::testing::types());
        rm_runtime {
            head: Head::new(Kind::Runtime),
            runtime: Runtime::new(registry, limits),
            default,
            work: Mutex::default(),
            idle: Condvar::new(),
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        // A panic while it is held leaves the map whole.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books a run for as long as the ticket lives. The default runtime, which cannot be closed,
    /// has no need of it.
    pub(crate) fn enter(self: &Arc<Self>, control: Arc<Control>) -> Result<Option<Ticket>> {
        if self.default {
            return Ok(None);
        }
        let mut work = self.work();
        if work.closed {
            return Err(Error::new(Code::Closed, "the runtime was closed"));
        }
        work.next += 1;
        let number = work.next;
        work.runs.insert(number, control);
        Ok(Some(Ticket { runtime: self.clone(), number }))
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match !self.default && self.work().closed {
            true => Err(Error::new(Code::Closed, "the runtime was closed")),
            false => Ok(()),
        }
    }
}

/// A run's place among those that are going on.
pub(crate) struct Ticket {
    runtime: Arc<rm_runtime>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // In a forked child another thread may have held the lock for ever.
        if let Ok(mut work) =
            self.runtime.work.try_lock().or_else(|_| match self.runtime.head.here() {
                true => Ok::<_, ()>(self.runtime.work()),
                false => Err(()),
            })
        {
            work.runs.remove(&self.number);
            if work.runs.is_empty() {
                self.runtime.idle.notify_all();
            }
        }
    }
}

/// The runtime behind a pointer, or the default one.
///
/// # Safety
/// As [`crate::handle::borrow`].
pub(crate) unsafe fn runtime_or_default(runtime: *const rm_runtime) -> Result<Arc<rm_runtime>> {
    if !runtime.is_null() {
        // SAFETY: by contract.
        return unsafe { share(runtime) };
    }
    // No lock: one that another thread held at a fork would stay locked in the child.
    static DEFAULT: AtomicPtr<(u32, Arc<rm_runtime>)> = AtomicPtr::new(null_mut());
    loop {
        let current = DEFAULT.load(Ordering::Acquire);
        // SAFETY: it is NULL or came from a Box that is never freed.
        if let Some((made_in, runtime)) = unsafe { current.as_ref() }
            && *made_in == generation()
        {
            return Ok(runtime.clone());
        }
        let fresh = Arc::new(rm_runtime::new(Limits::default(), true));
        let fresh = Box::into_raw(Box::new((generation(), fresh)));
        if DEFAULT.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: it was not published, so nobody else has it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

/// Makes a runtime. `options_json` (NULL with length 0: all defaults) may set
/// `{"limits": {"manifest_bytes": 1048576, "manifest_depth": 64, "nodes": 1000,
/// "connections": 10000, "value_depth": 100, "values": 1000000}}`. `values` is how many values one
/// item may have become at any moment, between the nodes and in the result. RM_E_ARGUMENT for more
/// than 100 levels, 100,000 nodes or 1,000,000 connections.
#[unsafe(no_mangle)]
pub extern "C" fn rm_runtime_new(
    options_json: *const c_char,
    len: usize,
    out: *mut *mut rm_runtime,
    error: *mut *mut rm_error,
) -> rm_status {
    #[derive(serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        limits: Limits,
    }
    guard(error, || {
        // SAFETY: rules 2 and 6.
        let (out, options) = unsafe { (Out::new(out), text(options_json, len, "options_json")?) };
        out.required("out")?;
        let options = match options {
            "" => Options::default(),
            text => fields(text, "options_json")?,
        };
        options.limits.check()?;
        Ok(out.set(Arc::new(rm_runtime::new(options.limits, false))))
    })
}

/// Asks a runtime about itself. `what` is one of
///   nodes      a list with an entry for every node type: name, summary, takes, gives, heavy,
///              params (JSON Schema) and example
///   schema:T   the JSON Schema of the parameters of the node type T
///   limits     the limits in force
///   stats      {"manifests_parsed": n}: without those that were remembered
///   memory     the pool of the process: taken, reused (counts of blocks), held_bytes, held_blocks
///   handles    how many objects of each type are alive in the process
#[unsafe(no_mangle)]
pub extern "C" fn rm_runtime_query(
    runtime: *mut rm_runtime,
    what: *const c_char,
    len: usize,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 2, 4 and 6.
        let (out, what) = unsafe { (Out::new(out), text(what, len, "what")?) };
        out.required("out")?;
        if what == "handles" {
            let count = live();
            return Ok(out.set(rm_data::from_json(&count)?));
        }
        // SAFETY: rule 4.
        let runtime = unsafe { runtime_or_default(runtime)? };
        let registry = runtime.runtime.registry();
        let answer = match what.split_once(':').unwrap_or((what, "")) {
            ("nodes", "") => registry.to_json(),
            ("limits", "") => json!(runtime.runtime.limits()),
            ("memory", "") => remotemedia_runtime::memory::statistics(),
            ("stats", "") => json!({"manifests_parsed": runtime.runtime.manifests_parsed()}),
            ("schema", name) => match registry.get(name) {
                Some(found) => found.schema().clone(),
                None => {
                    let hint = did_you_mean(name, registry.names(), "no node types are known");
                    let message = format!("there is no node type \"{name}\"");
                    return Err(Error::new(Code::Argument, message).hint(hint));
                }
            },
            _ => {
                let known = "known are: nodes, schema:T, limits, stats, memory, handles";
                let message = format!("a runtime cannot tell \"{what}\"");
                return Err(Error::new(Code::Argument, message).hint(known));
            }
        };
        Ok(out.set(rm_data::from_json(&answer)?))
    })
}

/// Ends a runtime: pipelines of it cannot be made or run any more, nor node types added
/// (RM_E_CLOSED), and runs that are going on are cancelled. Waits for them up to `timeout_ms`;
/// RM_AGAIN if some are left then. A run that nobody is waiting for is left: it is over once it is
/// waited for, pulled from or freed. Nor is an rm_task waited for: its node is cleaned up when it is
/// finished. Closing again is fine; the default runtime (NULL) is RM_E_ARGUMENT. Do not call it from a
/// callback.
#[unsafe(no_mangle)]
pub extern "C" fn rm_runtime_close(
    runtime: *mut rm_runtime,
    timeout_ms: i64,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 4.
        let runtime = unsafe { share(runtime.cast_const())? };
        let until = timeout(timeout_ms).and_then(|time| Instant::now().checked_add(time));
        let mut work = runtime.work();
        work.closed = true;
        work.runs.values().for_each(|control| control.cancel());
        while !work.runs.is_empty() {
            work = match until {
                None => runtime.idle.wait(work).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(RM_AGAIN);
                    }
                    let waited = runtime.idle.wait_timeout(work, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(RM_OK)
    })
}

/// Gives a runtime back. Without rm_runtime_close its pipelines and runs go on.
#[unsafe(no_mangle)]
pub extern "C" fn rm_runtime_free(runtime: *mut rm_runtime) {
    // SAFETY: rule 3.
    unsafe { release(runtime) }
}
