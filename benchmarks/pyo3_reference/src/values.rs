//! Python's objects as the engine's values and back. Arrays and bytes are lent, not copied.

use numpy::npyffi::flags::NPY_ARRAY_WRITEABLE;
use numpy::npyffi::{NpyTypes, PY_ARRAY_API, get_type_object, npy_intp};
use numpy::prelude::*;
use numpy::{Complex32, Complex64, PyArrayDescr, PyUntypedArray, dtype};
use pyo3::exceptions::{PyOverflowError, PyRecursionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use remotemedia_runtime::{Buffer, DType, Map, Storage, Tensor, Value};
use std::sync::Arc;

/// The value of an object, which may be nested `depth` levels deep.
pub fn read(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    let below = || depth.checked_sub(1).ok_or_else(|| PyRecursionError::new_err("nested too deep"));
    if object.is_exact_instance_of::<PyInt>() {
        read_int(object)
    } else if object.is_exact_instance_of::<PyFloat>() {
        Ok(Value::Float(object.extract()?))
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        let depth = below()?;
        let items = list.iter().map(|item| read(&item, depth));
        Ok(Value::list(items.collect::<PyResult<_>>()?))
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        Ok(Value::text(text.to_str()?))
    } else if let Ok(bool) = object.cast_exact::<PyBool>() {
        Ok(Value::Bool(bool.is_true()))
    } else if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        let depth = below()?;
        let mut map = Map::with_capacity(dict.len());
        for (key, item) in dict.iter() {
            map.insert(key.cast::<PyString>()?.to_str()?.into(), read(&item, depth)?);
        }
        Ok(Value::Map(Arc::new(map)))
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        let depth = below()?;
        let items = tuple.iter().map(|item| read(&item, depth));
        Ok(Value::list(items.collect::<PyResult<_>>()?))
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        let lent =
            Lent { start: bytes.as_ptr(), len: bytes.len(), _owner: object.clone().unbind() };
        Ok(Value::Bytes(Arc::new(Buffer::new(lent))))
    } else if let Ok(array) = object.cast::<PyUntypedArray>() {
        read_array(array)
    } else {
        let message = format!("{} is not a value that crosses", object.get_type().name()?);
        Err(PyTypeError::new_err(message))
    }
}

fn read_int(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(number) = object.extract() {
        return Ok(Value::Int(number));
    }
    match object.extract() {
        Ok(number) => Ok(Value::UInt(number)),
        Err(_) => Err(PyOverflowError::new_err("an int does not fit in 64 bits")),
    }
}

fn read_array(array: &Bound<'_, PyUntypedArray>) -> PyResult<Value> {
    let element = array.dtype();
    let native = element.is_native_byteorder().unwrap_or(true);
    if !array.is_c_contiguous() || !native {
        return Err(PyValueError::new_err("only C-contiguous arrays in native byte order"));
    }
    let code = match element.kind() {
        b'i' => 0,
        b'u' => 1,
        b'f' => 2,
        b'c' => 5,
        b'b' => 6,
        _ => return Err(PyTypeError::new_err(format!("arrays of {element} do not cross"))),
    };
    let size = element.itemsize();
    let invalid = |error: remotemedia_runtime::Error| PyValueError::new_err(error.to_string());
    let bits = u8::try_from(8 * size).map_err(|_| PyTypeError::new_err("too large elements"))?;
    let element = DType::new(code, bits, 1).map_err(invalid)?;
    // SAFETY: the pointer is that of an array object.
    let start = unsafe { (*array.as_array_ptr()).fields.data };
    let lent = Lent {
        start: start.cast(),
        len: array.len() * size,
        _owner: array.clone().into_any().unbind(),
    };
    // SAFETY: as many as the array has dimensions; npy_intp is i64 here, which is checked below.
    let shape = unsafe { std::slice::from_raw_parts(array.shape().as_ptr().cast(), array.ndim()) };
    let tensor = Tensor::new(element, shape, Buffer::new(lent)).map_err(invalid)?;
    Ok(Value::Tensor(Arc::new(tensor)))
}

const _: () = assert!(size_of::<npy_intp>() == size_of::<i64>());

/// Memory of an object's. Whoever lends it leaves it as it is.
struct Lent {
    start: *const u8,
    len: usize,
    _owner: Py<PyAny>,
}

// SAFETY: the memory is only read, and lives as long as its owner, which any thread may hold.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Storage for Lent {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the owner has so many bytes there.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// The object for a value.
pub fn write(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::UInt(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => PyFloat::new(py, number).into_any(),
        Value::Text(text) => PyString::new(py, &text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes.bytes()).into_any(),
        Value::List(items) => {
            let items = Arc::try_unwrap(items).map_or_else(|items| items.to_vec(), Vec::from);
            let objects = items.into_iter().map(|item| write(py, item));
            let objects: Vec<_> = objects.collect::<PyResult<_>>()?;
            PyList::new(py, objects)?.into_any()
        }
        Value::Frame(_) => return Err(PyTypeError::new_err("frames do not cross here")),
        Value::Map(map) => {
            let dict = PyDict::new(py);
            for (key, item) in Arc::unwrap_or_clone(map) {
                dict.set_item(&*key, write(py, item)?)?;
            }
            dict.into_any()
        }
        Value::Tensor(tensor) => write_array(py, tensor)?,
        Value::Audio(_) => return Err(PyTypeError::new_err("no workload has audio")),
    })
}

/// Holds the memory of an array that came out.
#[pyclass(frozen)]
struct Memory {
    _tensor: Arc<Tensor>,
}

fn write_array(py: Python<'_>, mut tensor: Arc<Tensor>) -> PyResult<Bound<'_, PyAny>> {
    let element = tensor.dtype();
    let element = match (element.code, element.bits) {
        (0, 8) => dtype::<i8>(py),
        (0, 16) => dtype::<i16>(py),
        (0, 32) => dtype::<i32>(py),
        (0, 64) => dtype::<i64>(py),
        (1, 8) => dtype::<u8>(py),
        (1, 16) => dtype::<u16>(py),
        (1, 32) => dtype::<u32>(py),
        (1, 64) => dtype::<u64>(py),
        (2, 32) => dtype::<f32>(py),
        (2, 64) => dtype::<f64>(py),
        (5, 64) => dtype::<Complex32>(py),
        (5, 128) => dtype::<Complex64>(py),
        (6, 8) => dtype::<bool>(py),
        _ => PyArrayDescr::new(py, element.name())?,
    };
    let writable = Arc::get_mut(&mut tensor).is_some_and(|tensor| tensor.is_writable());
    let flags = if writable { NPY_ARRAY_WRITEABLE } else { 0 };
    let dims = tensor.shape().as_ptr().cast_mut().cast();
    let (ndim, data) = (tensor.shape().len() as i32, tensor.bytes().as_ptr().cast_mut().cast());
    let memory = Bound::new(py, Memory { _tensor: tensor })?.into_any();
    // SAFETY: the shape and the data are the tensor's, which the array's base keeps; dims is only
    // read. The references to the element type and to the base are handed over.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            get_type_object(py, NpyTypes::PyArray_Type),
            element.into_dtype_ptr(),
            ndim,
            dims,
            std::ptr::null_mut(),
            data,
            flags,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        match PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), memory.into_ptr()) {
            0 => Ok(array),
            _ => Err(PyErr::fetch(py)),
        }
    }
}
