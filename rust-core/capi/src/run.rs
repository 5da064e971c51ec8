//! `rm_run`.

use crate::abi::{RM_AGAIN, rm_status};
use crate::call::Output;
use crate::data::{Released, rm_data};
use crate::error::rm_error;
use crate::guard::{Out, guard, quiet, timeout};
use crate::handle::{Handle, Head, Kind, borrow_inherited, release, share};
use crate::pipe::{Pipe, pipe};
use crate::pipeline::{input_value, rm_pipeline, too_deep};
use crate::runtime::Ticket;
use remotemedia_runtime::{Code, Error, Progress, Result, Run, Value};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// What a poll may take: long enough for a short graph, short enough for an event loop.
const POLL: Duration = Duration::from_micros(100);

/// A pipeline in motion, for hosts that want to look up now and then: for signals, for a progress
/// bar, for a button that says stop. rm_pipeline_run is this in one call.
///
/// A run of rm_run_start has its whole input; one of rm_run_open is fed piece by piece. The thread
/// that waits for a run, pushes or pulls does its work; between that it stands still. Only where
/// there are several nodes one of which is heavy, and where one waits, do those work on threads of
/// the library's. Ownership: yours; free it at any time, which ends it. Threads: any, at the same
/// time.
///
/// Functions: rm_run_start, rm_call_run, rm_call_wait, rm_run_wait, rm_run_report, rm_run_cancel,
/// rm_run_open, rm_run_push, rm_run_end, rm_run_pull, rm_call_exchange, rm_run_fd, rm_run_interrupt,
/// rm_run_set, rm_run_diagnose, rm_run_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_run {
    head: Head,
    run: Run,
    /// How deep an item may be nested.
    depth: usize,
    /// Held by who waits. Books the run with its runtime until it is over, if that can be closed.
    ticket: Mutex<Option<Ticket>>,
    /// What rm_call_run has handed out.
    output: OnceLock<Output>,
    /// Tasks that there was no room for when it began.
    left: Mutex<Option<Output>>,
    /// For hosts with an event loop.
    pipe: OnceLock<Option<Pipe>>,
    /// The tags of what was lent in exchanges and is not used any more.
    pub(crate) released: Released,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_run {
    const KIND: Kind = Kind::Run;
}

impl rm_run {
    pub(crate) fn start(
        pipeline: &rm_pipeline,
        input: &Value,
        timeout: Option<Duration>,
    ) -> Result<Arc<rm_run>> {
        let run = Run::new(pipeline.plan.clone(), input, timeout)?;
        let ticket = pipeline.runtime.enter(run.control())?;
        Ok(rm_run::new(run, ticket, pipeline))
    }

    /// An object for a run of this pipeline, which may have begun or be over.
    pub(crate) fn new(run: Run, ticket: Option<Ticket>, pipeline: &rm_pipeline) -> Arc<rm_run> {
        Arc::new(rm_run {
            head: Head::new(Kind::Run),
            run,
            depth: pipeline.value_depth(),
            ticket: Mutex::new(ticket),
            output: OnceLock::new(),
            left: Mutex::new(None),
            pipe: OnceLock::new(),
            released: Released::default(),
        })
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Fails for an item that is nested too deep: a node may nest what it is given, so an output may
    /// be too deep to go in again.
    pub(crate) fn check_depth(&self, item: &Value) -> Result<()> {
        match item.depth() > self.depth {
            true => Err(too_deep(self.depth)),
            false => Ok(()),
        }
    }

    /// It is over, so its runtime need not wait for it.
    pub(crate) fn leave(&self) {
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Where a byte stands whenever there is something to do; made when first asked for. Since
    /// something may have come before that, there is a byte in it from the start.
    pub(crate) fn descriptor(&self) -> i64 {
        let pipe = self.pipe.get_or_init(|| {
            let (pipe, writer) = pipe().ok()?;
            writer.ring();
            self.run.set_notify(Some(Arc::new(move || writer.ring())));
            Some(pipe)
        });
        pipe.as_ref().map_or(-1, Pipe::descriptor)
    }

    /// Keeps what a call hands out for as long as the run lives.
    pub(crate) fn keep(&self, output: Output) -> &Output {
        self.output.get_or_init(|| output)
    }

    /// Keeps tasks for the first exchange.
    pub(crate) fn leave_for_exchange(&self, tasks: Output) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(tasks);
    }

    pub(crate) fn left_for_exchange(&self) -> Option<Output> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn waiting(&self) -> Result<MutexGuard<'_, Option<Ticket>>> {
        match self.ticket.try_lock() {
            Ok(ticket) => Ok(ticket),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(Code::Busy, "another thread is waiting for this run"))
            }
            // The engine contains panics, so this is one of ours.
            Err(TryLockError::Poisoned(_)) => {
                Err(Error::new(Code::Closed, "the run was closed by a panic"))
            }
        }
    }

    pub(crate) fn wait(
        &self,
        until: Option<Instant>,
        result: Out<rm_data>,
        report: Out<rm_data>,
    ) -> Result<rm_status> {
        match self.drive(until)? {
            Progress::Pending => Ok(RM_AGAIN),
            Progress::Done(outputs) => {
                if report.wanted() {
                    report.set(rm_data::new(self.run.report()?));
                }
                Ok(result.set(rm_data::new(outputs)))
            }
        }
    }

    pub(crate) fn drive(&self, until: Option<Instant>) -> Result<Progress> {
        let mut ticket = self.waiting()?;
        let progress = self.run.drive(until);
        if !matches!(progress, Ok(Progress::Pending)) {
            *ticket = None;
        }
        progress
    }
}

/// Begins a run; arguments as for rm_pipeline_run. Nothing happens before rm_run_wait.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_start(
    pipeline: *const rm_pipeline,
    input: *const rm_data,
    timeout_ms: i64,
    out: *mut *mut rm_run,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: rule 4.
        let pipeline = unsafe { share(pipeline)? };
        // SAFETY: as above.
        let input = unsafe { input_value(input, &pipeline)? };
        Ok(out.set(rm_run::start(&pipeline, &input, timeout(timeout_ms))?))
    })
}

/// Works on a run for up to `timeout_ms`, or a little longer: a node is not stopped in the middle
/// of a value. 0 works for about 100 microseconds.
///
/// RM_OK: complete, and `result` and `report` (may be NULL) are as for rm_pipeline_run. RM_AGAIN:
/// there is more to do; wait again. After RM_OK or a failure the run is over: waiting again is
/// RM_E_CLOSED. RM_E_BUSY: another thread is waiting. Other failures as for rm_pipeline_run.
///
/// A run of rm_run_open is complete when its input has ended and all is through; its outputs are
/// pulled, and the `result` is an empty array.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_wait(
    run: *mut rm_run,
    timeout_ms: i64,
    result: *mut *mut rm_data,
    report: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let (result, report) = unsafe { (Out::new(result), Out::new(report)) };
        result.required("result")?;
        // SAFETY: rule 4.
        let run = unsafe { share(run.cast_const())? };
        let slice = timeout(timeout_ms).map(|time| time.max(POLL));
        let until = slice.and_then(|slice| Instant::now().checked_add(slice));
        run.wait(until, result, report)
    })
}

/// Counts and times of a run so far, or of a run that is over:
/// `{"items", "items_done", "time_us", "sinks": {id: outputs}, "nodes": {id: {"node_type",
/// "items_in", "items_out", "errors", "retries", "dropped", "time_us", "p50_us", "p99_us"}},
/// "queues": [{"from", "to", "fill", "peak", "dropped"}]}`. Times are in microseconds; for a node
/// that waits the time includes the waiting. Half, and 99 of 100, of the values took no longer than
/// `p50_us` and `p99_us`, to within a factor of 2. The `dropped` of a node and of a queue count
/// values; `fill` and `peak` count what items put on the connection, one for each item.
///
/// RM_E_BUSY while another thread is waiting for a run of rm_run_start whose nodes compute one
/// after the other. May be asked in a forked child of a run from before.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_report(
    run: *mut rm_run,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: rule 4.
        let run = unsafe { borrow_inherited(run.cast_const())? };
        Ok(out.set(rm_data::new(run.run.report()?)))
    })
}

/// Ends a run: whoever waits for it, pushes or pulls, or does so next, gets RM_E_CANCELLED as soon as
/// the node in work is done with its value. What was not pulled is discarded. NULL, and a run that is
/// over, are left alone.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_cancel(run: *mut rm_run) {
    quiet((), || {
        // SAFETY: rule 4.
        if let Ok(run) = unsafe { share(run.cast_const()) } {
            run.run.control().cancel();
        }
    });
}

/// Gives a run back and, unless it is over, ends it; its nodes are cleaned up. Who is waiting for
/// it gets RM_E_CANCELLED. Waits until the nodes in work are done with their values.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_free(run: *mut rm_run) {
    rm_run_cancel(run);
    // SAFETY: rule 3.
    unsafe { release(run) }
}
