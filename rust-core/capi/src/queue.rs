//! `rm_queue` and `rm_event`.

use crate::abi::{RM_AGAIN, RM_OK, rm_status};
use crate::data::rm_data;
use crate::error::rm_error;
use crate::guard::{Out, guard, quiet, timeout};
use crate::handle::{Handle, Head, Kind, borrow, release, share};
use remotemedia_runtime::{Code, Error, Value};
use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many events a queue holds; the oldest give way.
const CAPACITY: usize = 1000;

/// Type of an event: a message for the log. `data` is JSON:
/// `{"level": 1 to 5, "target": "...", "message": "...", "dropped": n}`, where n counts the events
/// that were lost just before this one because nobody fetched them.
pub const RM_EVENT_LOG: u32 = 1;

/// Takes the place of a callback, for hosts that must not be called from foreign threads: events
/// are fetched, many at a time, by a thread of the host's choice. It holds up to 1,000 events;
/// beyond that the oldest are dropped and counted.
///
/// Ownership: yours from rm_queue_new; free it at any time; who is waiting then gets RM_E_CLOSED.
/// Threads: any, at the same time.
///
/// Functions: rm_queue_new, rm_queue_next, rm_queue_pending, rm_queue_log, rm_queue_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_queue {
    head: Head,
    waiting: Mutex<Waiting>,
    filled: Condvar,
    pending: AtomicU32,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// How many were lost before the first of them.
    dropped: i64,
    closed: bool,
}

struct Event {
    level: i32,
    target: Box<str>,
    message: Box<str>,
}

impl Event {
    fn into_data(self, dropped: i64) -> Arc<rm_data> {
        rm_data::new(Value::map([
            ("level", Value::Int(self.level.into())),
            ("target", Value::text(self.target)),
            ("message", Value::text(self.message)),
            ("dropped", Value::Int(dropped)),
        ]))
    }
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_queue {
    const KIND: Kind = Kind::Queue;
}

/// One event. Fields are only ever added at the end; types that you do not know are to be ignored,
/// and freed.
#[repr(C)]
pub struct rm_event {
    /// sizeof(rm_event) of the side that made the struct.
    pub struct_size: u32,
    /// RM_EVENT_LOG.
    pub r#type: u32,
    /// What it is about; yours to free.
    pub data: *mut rm_data,
}

impl rm_queue {
    pub(crate) fn log(&self, level: i32, target: &str, message: &str) {
        let event = Event { level, target: target.into(), message: message.into() };
        let mut waiting = self.waiting();
        if waiting.events.len() >= CAPACITY {
            waiting.events.pop_front();
            waiting.dropped += 1;
        }
        waiting.events.push_back(event);
        self.pending.store(waiting.events.len() as u32, Ordering::Relaxed);
        drop(waiting);
        self.filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an empty queue.
#[unsafe(no_mangle)]
pub extern "C" fn rm_queue_new(out: *mut *mut rm_queue, error: *mut *mut rm_error) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        let (waiting, filled) = (Mutex::default(), Condvar::new());
        let (head, pending) = (Head::new(Kind::Queue), AtomicU32::new(0));
        Ok(out.set(Arc::new(rm_queue { head, waiting, filled, pending })))
    })
}

/// Where a queue counts the events that it holds, to be read at no cost (as volatile: the library
/// writes it from other threads); NULL for NULL. Lives as long as the queue. The count may be a moment old: whoever reads 0 and needs to be sure asks
/// rm_queue_next.
#[unsafe(no_mangle)]
pub extern "C" fn rm_queue_pending(queue: *const rm_queue) -> *const u32 {
    quiet(null(), || {
        // SAFETY: rule 4.
        unsafe { borrow(queue) }.map_or(null(), |queue| queue.pending.as_ptr().cast_const())
    })
}

/// Fetches up to `capacity` events into the array `out`; set the struct_size of its first entry.
/// Waits up to `timeout_ms` for the first one. RM_OK: `count` events. RM_AGAIN: none came.
#[unsafe(no_mangle)]
pub extern "C" fn rm_queue_next(
    queue: *mut rm_queue,
    timeout_ms: i64,
    out: *mut rm_event,
    capacity: u32,
    count: *mut u32,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        let wrong = |why: &str| Err(Error::new(Code::Argument, why));
        if count.is_null() {
            return wrong("the argument count is NULL");
        }
        // SAFETY: not NULL, and by rule 2 a place for a number.
        unsafe { *count = 0 };
        if out.is_null() || !out.is_aligned() || capacity == 0 {
            return wrong("out is NULL or not aligned, or capacity is 0");
        }
        // SAFETY: not NULL, and the size comes first in every version of the struct.
        let size = unsafe { (*out).struct_size };
        if (size as usize) < size_of::<rm_event>() {
            return wrong("struct_size of the first event is not set to sizeof(rm_event)");
        }
        // SAFETY: rule 4.
        let queue = unsafe { share(queue.cast_const())? };
        let until = timeout(timeout_ms).and_then(|time| Instant::now().checked_add(time));
        let mut waiting = queue.waiting();
        while waiting.events.is_empty() {
            if waiting.closed {
                return Err(Error::new(Code::Closed, "the queue was freed"));
            }
            waiting = match until {
                None => queue.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(RM_AGAIN);
                    }
                    let waited = queue.filled.wait_timeout(waiting, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let fetched = waiting.events.len().min(capacity as usize);
        let mut dropped = std::mem::take(&mut waiting.dropped);
        for (index, event) in waiting.events.drain(..fetched).enumerate() {
            let data = Arc::into_raw(event.into_data(std::mem::take(&mut dropped))).cast_mut();
            let event = rm_event { struct_size: size, r#type: RM_EVENT_LOG, data };
            // SAFETY: by contract there are `capacity` entries of `size` bytes each. Fields that
            // only a newer host knows are 0.
            unsafe {
                let entry = out.byte_add(index * size as usize);
                entry.cast::<u8>().write_bytes(0, size as usize);
                entry.write_unaligned(event);
            }
        }
        queue.pending.store(waiting.events.len() as u32, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { *count = fetched as u32 };
        Ok(RM_OK)
    })
}

/// An rm_log_fn that puts the message on a queue: pass it to rm_set_log with the queue as
/// user_data.
#[unsafe(no_mangle)]
pub extern "C" fn rm_queue_log(
    user_data: *mut c_void,
    level: i32,
    target: *const c_char,
    target_len: usize,
    message: *const c_char,
    message_len: usize,
) {
    quiet((), || {
        // SAFETY: user_data is a queue, by contract; texts as rule 6 says.
        unsafe {
            let queue = share(user_data.cast_const().cast::<rm_queue>());
            let target = crate::guard::text(target, target_len, "target");
            let message = crate::guard::text(message, message_len, "message");
            if let (Ok(queue), Ok(target), Ok(message)) = (queue, target, message) {
                queue.log(level, target, message);
            }
        }
    });
}

/// Gives a queue back, with the events that are still in it.
#[unsafe(no_mangle)]
pub extern "C" fn rm_queue_free(queue: *mut rm_queue) {
    quiet((), || {
        // SAFETY: rule 4. In a forked child nobody waits any more.
        if let Ok(queue) = unsafe { share(queue.cast_const()) } {
            queue.waiting().closed = true;
            queue.filled.notify_all();
        }
    });
    // SAFETY: rule 3.
    unsafe { release(queue) }
}
