//! The product's engine behind PyO3: what a binding of the same library would cost without a C ABI.
//!
//! It does what the product's own binding does: reads manifests through [`Runtime::load`], drives a
//! run on the calling thread with the interpreter's lock released and looks for signals every
//! 50 ms, lends arrays, and gives the metrics to who asks for them. Only the way between Python and
//! the engine is another: there is no text, values are made from objects and objects from values.

use crate::values::{read, write};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;
use remotemedia_runtime::{Error, Limits, Plan, Progress, Run, Runtime, Value};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the engine works before Python gets to look for signals.
const SLICE: Duration = Duration::from_millis(50);

create_exception!(pyo3_reference, EngineError, PyException, "(message, the error as JSON)");

fn raise(error: Error) -> PyErr {
    EngineError::new_err((error.to_string(), error.to_json().to_string()))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(remotemedia_nodes::registry(), Limits::default()))
}

/// A manifest that was read and found good.
#[pyclass(frozen)]
pub struct Engine {
    plan: Arc<Plan>,
}

impl Engine {
    fn input(&self, items: &Bound<'_, PyAny>) -> PyResult<Value> {
        // The batch itself is no level of the user's.
        read(items, runtime().limits().value_depth + 1)
    }

    fn start(&self, input: &Value, timeout: Option<f64>) -> PyResult<Run> {
        let timeout = timeout.map(Duration::from_secs_f64);
        Run::new(self.plan.clone(), input, timeout).map_err(raise)
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new(manifest: &str) -> PyResult<Self> {
        Ok(Engine { plan: runtime().load(manifest.as_bytes()).map_err(raise)? })
    }

    /// Runs it on a list of items, or on a dict from the ids of source nodes to lists.
    #[pyo3(signature = (items, timeout=None))]
    fn run(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Outcome> {
        let run = self.start(&self.input(items)?, timeout)?;
        loop {
            let until = Instant::now() + SLICE;
            match py.detach(|| run.drive(Some(until))).map_err(raise)? {
                Progress::Pending => py.check_signals()?,
                Progress::Done(outputs) => {
                    let outputs = write(py, outputs)?.cast_into::<PyList>()?.unbind();
                    return Ok(Outcome { outputs, run: Mutex::new(run) });
                }
            }
        }
    }

    /// Runs it `times` times on the same items without coming back to Python: the engine alone.
    fn spin<'py>(
        &self,
        py: Python<'py>,
        items: &Bound<'py, PyAny>,
        times: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let input = self.input(items)?;
        let mut last = Value::Null;
        py.detach(|| {
            for _ in 0..times {
                match self.start(&input, None)?.drive(None).map_err(raise)? {
                    Progress::Done(outputs) => last = outputs,
                    Progress::Pending => unreachable!("without a limit it goes on to the end"),
                }
            }
            Ok::<_, PyErr>(())
        })?;
        write(py, last)
    }
}

/// What a run gave.
#[pyclass(frozen)]
pub struct Outcome {
    #[pyo3(get)]
    outputs: Py<PyList>,
    run: Mutex<Run>,
}

#[pymethods]
impl Outcome {
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        write(py, self.run.lock().unwrap_or_else(PoisonError::into_inner).report().map_err(raise)?)
    }
}
