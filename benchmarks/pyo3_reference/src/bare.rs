//! The least that runs `[1, 2, 3]` and arrays through three nodes behind PyO3: a floor.
//!
//! As in the product the nodes are boxed, values are converted on the way in and out, the
//! interpreter's lock is released while nodes run, and an array is neither copied nor handed back
//! as the same object: out comes a view on its memory. What it lacks is everything else: checks,
//! errors with a place, metrics, time limits, cancellation, a graph.

use numpy::ndarray::ArrayView1;
use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyList};

enum Value {
    Int(i64),
    Float(f64),
    List(Vec<Value>),
    Tensor(Tensor),
}

/// Memory of `owner`'s.
struct Tensor {
    start: *const f32,
    len: usize,
    owner: Py<PyAny>,
}

// SAFETY: the memory is only read, and lives as long as `owner`, which any thread may hold.
unsafe impl Send for Tensor {}

trait Node: Send + Sync {
    fn process(&self, value: Value) -> PyResult<Value>;
}

struct PassThrough;

impl Node for PassThrough {
    fn process(&self, value: Value) -> PyResult<Value> {
        Ok(value)
    }
}

struct Add(i64);

impl Node for Add {
    fn process(&self, value: Value) -> PyResult<Value> {
        match value {
            Value::Int(number) => match number.checked_add(self.0) {
                Some(sum) => Ok(Value::Int(sum)),
                None => Err(PyValueError::new_err("the sum does not fit in 64 bits")),
            },
            Value::Float(number) => Ok(Value::Float(number + self.0 as f64)),
            _ => Err(PyTypeError::new_err("add takes numbers")),
        }
    }
}

fn read(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_exact_instance_of::<PyInt>() {
        Ok(Value::Int(value.extract()?))
    } else if value.is_exact_instance_of::<PyFloat>() {
        Ok(Value::Float(value.extract()?))
    } else if let Ok(list) = value.cast::<PyList>() {
        Ok(Value::List(list.iter().map(|item| read(&item)).collect::<PyResult<_>>()?))
    } else if let Ok(array) = value.cast::<PyArray1<f32>>() {
        if !array.is_c_contiguous() {
            return Err(PyValueError::new_err("only contiguous arrays"));
        }
        let owner = value.clone().unbind();
        Ok(Value::Tensor(Tensor { start: array.data(), len: array.len(), owner }))
    } else {
        Err(PyTypeError::new_err("not a value that crosses"))
    }
}

fn write(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::List(items) => {
            let items: Vec<_> =
                items.into_iter().map(|item| write(py, item)).collect::<PyResult<_>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Tensor(Tensor { start, len, owner }) => {
            // SAFETY: `owner` has `len` elements there, and lives as long as the new array.
            unsafe {
                let view = ArrayView1::from_shape_ptr(len, start);
                PyArray1::borrow_from_array(&view, owner.into_bound(py)).into_any()
            }
        }
    })
}

/// Nodes in a chain.
#[pyclass(frozen)]
pub struct Pipeline {
    nodes: Vec<Box<dyn Node>>,
}

#[pymethods]
impl Pipeline {
    /// "pass", or a number to add, for each node.
    #[new]
    fn new(nodes: Vec<String>) -> PyResult<Self> {
        let node = |name: &String| -> PyResult<Box<dyn Node>> {
            Ok(match name.as_str() {
                "pass" => Box::new(PassThrough),
                number => Box::new(Add(number.parse()?)),
            })
        };
        Ok(Pipeline { nodes: nodes.iter().map(node).collect::<PyResult<_>>()? })
    }

    fn run<'py>(
        &self,
        py: Python<'py>,
        items: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyList>> {
        let items: Vec<Value> = items.iter().map(|item| read(&item)).collect::<PyResult<_>>()?;
        let nodes = &self.nodes;
        let chain = |item| nodes.iter().try_fold(item, |value, node| node.process(value));
        let done = py.detach(|| items.into_iter().map(chain).collect::<PyResult<Vec<_>>>())?;
        let done: Vec<_> =
            done.into_iter().map(|value| write(py, value)).collect::<PyResult<_>>()?;
        PyList::new(py, done)
    }
}
