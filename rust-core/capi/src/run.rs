//! `rm_run`.

use crate::abi::{RM_AGAIN, rm_status};
use crate::data::{NO_OUTPUT, Output, input, rm_data, rm_output, rm_view};
use crate::error::rm_error;
use crate::guard::{Out, bytes, guard, quiet, timeout};
use crate::handle::{Handle, Head, Kind, borrow, borrow_inherited, release, share};
use crate::pipeline::{input_value, rm_pipeline};
use crate::runtime::Ticket;
use remotemedia_runtime::{Code, Control, Error, Progress, Result, Run, Value};
use std::ffi::c_char;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// What a poll may take: long enough for a short graph, short enough for an event loop.
const POLL: Duration = Duration::from_micros(100);

/// A pipeline in motion, for hosts that want to look up now and then: for signals, for a progress
/// bar, for a button that says stop. rm_pipeline_run is this in one call.
///
/// The thread that waits for a run does its work; between waits a run stands still. Ownership:
/// yours from rm_run_start; free it at any time, which ends it. Threads: any; one may wait while
/// others cancel.
///
/// Functions: rm_run_start, rm_pipeline_call, rm_run_wait, rm_run_report, rm_run_cancel, rm_run_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_run {
    head: Head,
    control: Arc<Control>,
    state: Mutex<State>,
    /// What rm_pipeline_call has handed out.
    output: OnceLock<Output>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_run {
    const KIND: Kind = Kind::Run;
}

struct State {
    run: Box<Run>,
    /// Books the run with its runtime until it is over.
    ticket: Option<Ticket>,
}

impl rm_run {
    pub(crate) fn start(
        pipeline: &rm_pipeline,
        input: &Value,
        timeout: Option<Duration>,
    ) -> Result<Arc<rm_run>> {
        let run = Run::new(pipeline.plan.clone(), input, timeout)?;
        let control = run.control();
        let ticket = pipeline.runtime.enter(control.clone())?;
        let state = Mutex::new(State { run: Box::new(run), ticket: Some(ticket) });
        Ok(Arc::new(rm_run { head: Head::new(Kind::Run), control, state, output: OnceLock::new() }))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
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
                    report.set(rm_data::new(self.state()?.run.report()));
                }
                Ok(result.set(rm_data::new(outputs)))
            }
        }
    }

    fn drive(&self, until: Option<Instant>) -> Result<Progress> {
        let mut state = self.state()?;
        let progress = state.run.drive(until);
        if !matches!(progress, Ok(Progress::Pending)) {
            state.ticket = None;
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

/// rm_run_start and the first rm_run_wait in one call, with the input and the outputs as they are:
/// for hosts to which every call and every object costs.
///
/// `kind` is RM_JSON, RM_MARSHAL or RM_MARSHAL_PLAIN, the format of `text`, which holds the input
/// as for rm_pipeline_run; `parts` are views, all as large as the struct_size of the first says, of
/// the bytes, tensors, audio and frames that it refers to by index.
/// Parts that are C-contiguous and aligned are used where they are: the memory must stay as it is
/// until the run is freed and no thread waits for it any more, and for as long as there are results
/// that may refer to it.
///
/// Works for up to `slice_us` microseconds; -1 is without end, 0 does nothing yet. RM_OK: complete,
/// and `output` is filled; what it points to lives as long as the run. RM_AGAIN: there is more to
/// do; go on with rm_run_wait. In both cases the run is yours. Failures as for rm_pipeline_run;
/// RM_E_ARGUMENT, RM_E_JSON, RM_E_UTF8 and RM_E_LIMIT also for an input that cannot be read.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_call(
    pipeline: *const rm_pipeline,
    kind: u32,
    text: *const c_char,
    len: usize,
    parts: *const rm_view,
    part_count: u32,
    timeout_ms: i64,
    slice_us: i64,
    output: *mut rm_output,
    out: *mut *mut rm_run,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        let wrong = |why: &str| Err(Error::new(Code::Argument, why));
        if output.is_null() || !output.is_aligned() {
            return wrong("the argument output is NULL or not aligned");
        }
        // SAFETY: not NULL, and the size comes first in every version of the struct.
        if (unsafe { (*output).struct_size } as usize) < size_of::<rm_output>() {
            return wrong("the output's struct_size is not set to sizeof(rm_output)");
        }
        // SAFETY: the caller's struct is no smaller than ours.
        unsafe { *output = NO_OUTPUT };
        if part_count > 0 && (parts.is_null() || !parts.is_aligned()) {
            return wrong("the argument parts is NULL or not aligned");
        }
        // SAFETY: rules 4 and 6, and what is said above of the parts.
        let (pipeline, input) = unsafe {
            let (pipeline, text) = (borrow(pipeline)?, bytes(text.cast(), len, "text")?);
            (pipeline, input(kind, text, parts, part_count, pipeline.value_depth())?)
        };
        let run = rm_run::start(pipeline, &input, timeout(timeout_ms))?;
        drop(input);
        if slice_us == 0 {
            out.set(run);
            return Ok(RM_AGAIN);
        }
        let slice = u64::try_from(slice_us).ok().map(Duration::from_micros);
        match run.drive(slice.and_then(|slice| Instant::now().checked_add(slice)))? {
            Progress::Pending => {
                out.set(run);
                Ok(RM_AGAIN)
            }
            Progress::Done(outputs) => {
                let made = Output::new(outputs, kind)?;
                // SAFETY: the caller's struct is no smaller than ours.
                unsafe { *output = run.output.get_or_init(|| made).describe() };
                Ok(out.set(run))
            }
        }
    })
}

/// Works on a run for up to `timeout_ms`, or a little longer: a node is not stopped in the middle
/// of a value. 0 works for about 100 microseconds.
///
/// RM_OK: complete, and `result` and `report` (may be NULL) are as for rm_pipeline_run. RM_AGAIN:
/// there is more to do; wait again. After RM_OK or a failure the run is over: waiting again is
/// RM_E_CLOSED. RM_E_BUSY: another thread is waiting. Other failures as for rm_pipeline_run.
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
/// "items_in", "items_out", "time_us"}}}`. Times are in microseconds; for a node that waits the
/// time includes the waiting. RM_E_BUSY while another thread is waiting for the run. May be asked
/// in a forked child of a run from before.
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
        let report = run.state()?.run.report();
        Ok(out.set(rm_data::new(report)))
    })
}

/// Ends a run: whoever waits for it, or waits next, gets RM_E_CANCELLED as soon as the node in
/// work is done with its value. NULL, and a run that is over, are left alone.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_cancel(run: *mut rm_run) {
    quiet((), || {
        // SAFETY: rule 4.
        if let Ok(run) = unsafe { share(run.cast_const()) } {
            run.control.cancel();
        }
    });
}

/// Gives a run back and, unless it is over, ends it; its nodes are cleaned up. Who is waiting for
/// it gets RM_E_CANCELLED.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_free(run: *mut rm_run) {
    rm_run_cancel(run);
    // SAFETY: rule 3.
    unsafe { release(run) }
}
