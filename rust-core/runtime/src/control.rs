//! What reaches a run from other threads.

use crate::error::{Code, Error};
use crate::run::Shared;
use std::future::Future;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{OnceLock, Weak};
use tokio::sync::Notify;

/// Ends a run from another thread.
#[derive(Default)]
pub struct Control {
    cancelled: AtomicBool,
    /// Sweeps below this are discarded.
    floor: AtomicU64,
    /// Changes whenever one of the above does, so that whoever is at work looks at one number only.
    changes: AtomicU32,
    notify: Notify,
    run: OnceLock<Weak<Shared>>,
}

impl Control {
    /// Cancels the run: whoever waits for it, or waits next, gets `RM_E_CANCELLED` as soon as the
    /// nodes in work are done with their values.
    pub fn cancel(&self) {
        self.set_cancelled();
        if let Some(run) = self.run.get().and_then(Weak::upgrade) {
            run.look_up();
        }
    }

    pub(crate) fn set_cancelled(&self) {
        self.cancelled.store(true, Release);
        self.changed();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    /// Discards all sweeps below this one.
    pub(crate) fn discard(&self, floor: u64) {
        self.floor.store(floor, Release);
        self.changed();
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Acquire)
    }

    pub(crate) fn discards(&self, seq: u64) -> bool {
        seq < self.floor()
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// Returns once there was a change after this number.
    pub(crate) async fn change_after(&self, seen: u32) {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if self.changes() != seen {
                return;
            }
            notified.await;
        }
    }

    pub(crate) fn belongs_to(&self, run: Weak<Shared>) {
        // Set once, when the run is made.
        let _ = self.run.set(run);
    }

    pub(crate) fn cancelled() -> Error {
        Error::new(Code::Cancelled, "the run was cancelled")
    }

    pub(crate) fn timed_out() -> Error {
        Error::new(Code::Timeout, "the run's time is over")
            .hint("allow more time, or give it less to do")
    }
}

/// A future whose panics are results.
pub(crate) async fn unwinding<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}
