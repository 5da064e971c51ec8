//! What the C ABI and cffi are compared with: bindings in PyO3, see the modules.

mod bare;
mod engine;
mod values;

use pyo3::pymodule;

#[pymodule]
mod pyo3_reference {
    #[pymodule_export]
    use super::bare::Pipeline;
    #[pymodule_export]
    use super::engine::{Engine, EngineError, Outcome};
}
