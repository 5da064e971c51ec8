//! The threads on which the runs of this process work, made when they are first needed.
//!
//! A forked child has none of its parent's threads, so it makes a pool of its own. Nothing here
//! waits for a lock: a thread that is no more in the child may have held it at the fork.

use crate::error::{Code, Error, Result};
use std::future::poll_fn;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::runtime::{Builder, Handle};

/// How many pools there may be in a line of forks.
const GENERATIONS: usize = 64;

/// A pool, and the process that made it.
static POOLS: [OnceLock<(u32, Handle)>; GENERATIONS] = [const { OnceLock::new() }; GENERATIONS];
/// How many places are taken: each is filled once, by who took it.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

fn find(process: u32) -> Option<&'static Handle> {
    POOLS.iter().filter_map(OnceLock::get).find(|pool| pool.0 == process).map(|pool| &pool.1)
}

/// The workers of this process: as many as there are processors.
///
/// # Errors
/// `RM_E_INTERNAL` if the system gives no thread.
pub(crate) fn workers() -> Result<&'static Handle> {
    let process = std::process::id();
    if let Some(pool) = find(process) {
        return Ok(pool);
    }
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(Code::Internal, format!("no thread could be started: {why}"))
            .hint("raise the limits of the process on threads and on memory")
    };
    // tokio panics where the system has no thread left to give.
    let probe = std::thread::Builder::new().name("remotemedia".to_owned()).spawn(|| {});
    let probe = probe.map_err(|error| failed(&error))?;
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(1, usize::from))
            .thread_name("remotemedia")
            .enable_time()
            // A turn may take long, so timers are looked at after each.
            .event_interval(1)
            .build()
    };
    let built = catch_unwind(build).map_err(|_| failed(&"the system has none left"))?;
    let runtime = built.map_err(|error| failed(&error))?;
    // It has nothing to say.
    let _ = probe.join();
    let place = TAKEN.fetch_add(1, Ordering::Relaxed);
    if let Some(place) = POOLS.get(place) {
        // Nobody else has this place.
        let _ = place.set((process, runtime.handle().clone()));
    }
    let pool = find(process).ok_or_else(|| failed(&"this process is forked too deep"))?;
    if pool.id() == runtime.handle().id() {
        // The workers live as long as the process.
        std::mem::forget(runtime);
    } else {
        // Another thread was faster.
        runtime.shutdown_background();
    }
    Ok(pool)
}

/// Lets others have this worker, and idle workers this task.
///
/// Not `tokio::task::yield_now`: that puts the task aside until its worker has nothing else to do,
/// where no other worker finds it. A stage that hands on what it has made would stand still until
/// that is through all the stages behind it.
pub(crate) async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
