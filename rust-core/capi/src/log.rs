//! The log.

use crate::abi::{RM_OK, rm_status};
use crate::error::rm_error;
use crate::guard::guard;
use crate::handle::{generation, share};
use crate::queue::{rm_queue, rm_queue_log};
use log::{LevelFilter, Log, Metadata, Record};
use remotemedia_runtime::{Code, Error};
use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Level of a message: something failed.
pub const RM_LOG_ERROR: i32 = 1;
/// Level of a message: something is not as it should be.
pub const RM_LOG_WARN: i32 = 2;
/// Level of a message: something worth knowing happened.
pub const RM_LOG_INFO: i32 = 3;
/// Level of a message: for who looks for a fault.
pub const RM_LOG_DEBUG: i32 = 4;
/// Level of a message: everything.
pub const RM_LOG_TRACE: i32 = 5;

/// Receives the messages of the library, from any thread, several at once. `target` says which
/// part speaks. The texts are borrowed for the call and end in no NUL.
pub type rm_log_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        target_len: usize,
        message: *const c_char,
        message_len: usize,
    ),
>;

enum Sink {
    None,
    Host(
        unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize, *const c_char, usize),
        *mut c_void,
    ),
    /// A queue of ours, kept alive for as long as it is the sink.
    Queue(Arc<rm_queue>),
}

// SAFETY: by contract the host's function and its user_data may be used from any thread.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

/// The sink of this process. A fork gets one of its own, since a thread that is no more may have
/// held the lock.
fn sink() -> &'static RwLock<Sink> {
    static CURRENT: AtomicPtr<(u32, RwLock<Sink>)> = AtomicPtr::new(null_mut());
    loop {
        let current = CURRENT.load(Ordering::Acquire);
        // SAFETY: it is NULL or came from a Box that is never freed.
        if let Some((made_in, sink)) = unsafe { current.as_ref() }
            && *made_in == generation()
        {
            return sink;
        }
        let fresh = Box::into_raw(Box::new((generation(), RwLock::new(Sink::None))));
        if CURRENT.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: it was not published, so nobody else has it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

/// The level of a message. What other crates call an error is a detail here: a node decides what
/// the user is to know, and says it itself or fails.
fn level_of(record: &Record) -> i32 {
    match record.target().starts_with("remotemedia") {
        true => record.level() as i32,
        false => (record.level() as i32).max(RM_LOG_DEBUG),
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let (level, target) = (level_of(record), record.target());
        if level > log::max_level() as i32 {
            return;
        }
        // Only rm_set_log writes; a message of that very moment is lost rather than waited for.
        let Ok(sink) = sink().try_read() else { return };
        match &*sink {
            Sink::None => {}
            Sink::Queue(queue) => queue.log(level, target, &record.args().to_string()),
            Sink::Host(log, user_data) => {
                let message = record.args().to_string();
                // SAFETY: rm_set_log's contract; the texts live for the call.
                unsafe {
                    log(
                        *user_data,
                        level,
                        target.as_ptr().cast(),
                        target.len(),
                        message.as_ptr().cast(),
                        message.len(),
                    );
                }
            }
        }
    }

    fn flush(&self) {}
}

/// Makes the log of Rust crates the library's; once per process.
pub(crate) fn install() {
    // If a Rust program that links this crate has a logger of its own, that one stays.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Off);
    }
}

/// Sends the library's messages up to `max_level` (0 none, RM_LOG_ERROR to RM_LOG_TRACE all) to
/// `log`, process-wide; NULL: nowhere, as at first. Nothing is ever written to stdout or stderr.
/// When this returns, the function that was set before is not running and will not be called
/// again; so do not call it from there. A queue that is set with rm_queue_log is kept alive.
#[unsafe(no_mangle)]
pub extern "C" fn rm_set_log(
    log: rm_log_fn,
    user_data: *mut c_void,
    max_level: i32,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        let level = match max_level {
            0 => LevelFilter::Off,
            RM_LOG_ERROR => LevelFilter::Error,
            RM_LOG_WARN => LevelFilter::Warn,
            RM_LOG_INFO => LevelFilter::Info,
            RM_LOG_DEBUG => LevelFilter::Debug,
            RM_LOG_TRACE => LevelFilter::Trace,
            other => {
                let message = format!("a log level is 0 to {RM_LOG_TRACE}, not {other}");
                return Err(Error::new(Code::Argument, message));
            }
        };
        let new = match log {
            None => Sink::None,
            Some(log)
                if std::ptr::fn_addr_eq(
                    log,
                    rm_queue_log as unsafe extern "C" fn(_, _, _, _, _, _),
                ) =>
            {
                // SAFETY: rule 4: user_data is a queue.
                Sink::Queue(unsafe { share(user_data.cast_const().cast())? })
            }
            Some(log) => Sink::Host(log, user_data),
        };
        let level = if log.is_some() { level } else { LevelFilter::Off };
        let old = {
            let mut sink = sink().write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *sink, new)
        };
        drop(old);
        log::set_max_level(level);
        Ok(RM_OK)
    })
}
