//! DLPack (https://dmlc.github.io/dlpack): tensors of other libraries in, and ours out, uncopied.

use crate::abi::rm_status;
use crate::data::{contiguous, dimensions, gather, in_order, rm_data, size_of_shape};
use crate::error::rm_error;
use crate::guard::{Out, guard, quiet};
use crate::handle::share;
use remotemedia_runtime::{Buffer, Code, DType, Error, Result, Storage, Tensor, Value};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

/// DLPack's version: of another major one, only the fields up to `flags` have a meaning.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLPackVersion {
    /// 1.
    pub major: u32,
    /// Any.
    pub minor: u32,
}

/// Where memory is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLDevice {
    /// DLPack's DLDeviceType: 1 is the CPU.
    pub device_type: i32,
    /// Which device of that type.
    pub device_id: i32,
}

/// The type of an element.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLDataType {
    /// DLPack's DLDataTypeCode: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool.
    pub code: u8,
    /// Bits of an element.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// An array of numbers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DLTensor {
    /// The memory; NULL only if there are no elements.
    pub data: *mut c_void,
    /// Where that is.
    pub device: DLDevice,
    /// Number of dimensions.
    pub ndim: i32,
    /// The type of the elements.
    pub dtype: DLDataType,
    /// Length of each dimension.
    pub shape: *mut i64,
    /// Distance of neighbours in each dimension, in elements; NULL: C-contiguous.
    pub strides: *mut i64,
    /// From `data` to the first element, in bytes.
    pub byte_offset: u64,
}

/// A tensor with its owner: whoever has received it calls `deleter` once, when done with it.
#[repr(C)]
pub struct DLManagedTensorVersioned {
    /// The version that the producer writes.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Gives the tensor back; NULL: nothing is to be done for that.
    pub deleter: Option<unsafe extern "C" fn(tensor: *mut DLManagedTensorVersioned)>,
    /// Bit 0 (1): must not be written to. Bit 1 (2): a copy, which the consumer alone has.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

const MAJOR: u32 = 1;
const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;
const CPU: i32 = 1;

/// Makes a value of a tensor of another library's, and takes it over: its deleter is called exactly
/// once, on any thread, after the last reader is done. Memory that is C-contiguous and aligned is
/// used where it is, and must stay as it is until then; otherwise the elements are copied, and the
/// deleter is called before this returns. The memory is written to only if its flags say that it is
/// a copy, and not that it is read-only.
///
/// If this fails the tensor is as it was, and still yours. Fails with RM_E_UNSUPPORTED for a device
/// other than the CPU, an element type that is not known (see rm_view), more than one lane, or a
/// major version other than 1; RM_E_ARGUMENT for a shape that no array can have, or memory that is
/// NULL; RM_E_LIMIT if there is not enough memory for a copy.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_from_dlpack(
    tensor: *mut DLManagedTensorVersioned,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: by contract NULL or a tensor.
        let tensor = unsafe { take(tensor)? };
        Ok(out.set(rm_data::new(Value::Tensor(Arc::new(tensor)))))
    })
}

/// Lends a tensor, audio's samples or a frame's pixels as a DLPack tensor of version 1, uncopied.
/// Whoever gets it calls its deleter, once and from any thread; until then it keeps the memory
/// alive, and counts as an rm_data.
///
/// It is flagged as read-only unless `data` is the only reference to memory that may be written to:
/// then you may write to it once you have freed `data`. Fails with RM_E_ARGUMENT for another kind
/// of value.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_to_dlpack(
    data: *const rm_data,
    out: *mut *mut DLManagedTensorVersioned,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        if out.is_null() {
            return Err(Error::new(Code::Argument, "the argument out is NULL"));
        }
        // SAFETY: not NULL, and by rule 2 a place for a pointer.
        unsafe { *out = null_mut() };
        // SAFETY: rule 4.
        let tensor = lend(unsafe { share(data)? })?;
        // SAFETY: as above.
        unsafe { *out = tensor };
        Ok(crate::abi::RM_OK)
    })
}

/// The tensor, which is ours if this succeeds, and untouched otherwise.
///
/// # Safety
/// `managed` is NULL or a tensor as DLPack says.
unsafe fn take(managed: *mut DLManagedTensorVersioned) -> Result<Tensor> {
    let wrong = |why: String| Err(Error::new(Code::Argument, why));
    if managed.is_null() || !managed.is_aligned() {
        return wrong("the tensor is NULL or not aligned".to_owned());
    }
    // SAFETY: by contract; in every version of the struct the version comes first.
    let version = unsafe { (*managed).version };
    if version.major != MAJOR {
        let message = format!("a tensor of DLPack {}.{}", version.major, version.minor);
        return Err(Error::new(Code::Unsupported, message)
            .hint("ask its producer for version 1; this one is still yours to delete"));
    }
    // SAFETY: by contract, and of this version.
    let (flags, given) = unsafe { ((*managed).flags, (*managed).dl_tensor) };
    if given.device.device_type != CPU {
        let message =
            format!("memory on the device type {} cannot be read", given.device.device_type);
        return Err(Error::new(Code::Unsupported, message).hint("copy it to the CPU first"));
    }
    let dtype = DType::new(given.dtype.code, given.dtype.bits, given.dtype.lanes)?;
    let dimensions = dimensions(given.ndim)?;
    if dimensions > 0 && (given.shape.is_null() || !given.shape.is_aligned()) {
        return wrong("shape is NULL or not aligned, but ndim is not 0".to_owned());
    }
    // SAFETY: by contract each points to `ndim` numbers, where it points to anything.
    let (shape, strides) = unsafe {
        let read = |start: *const i64| match dimensions > 0 && !start.is_null() {
            true => std::slice::from_raw_parts(start, dimensions),
            false => &[],
        };
        (read(given.shape), read(given.strides))
    };
    let len = size_of_shape(dtype, shape)?;
    if len > 0 && given.data.is_null() {
        return wrong("data is NULL".to_owned());
    }
    let start = given.data.cast_const().cast::<u8>().wrapping_add(given.byte_offset as usize);
    let copy = if len == 0 {
        Some(Buffer::copy_of(&[])?)
    } else if !strides.is_empty() && !in_order(shape, strides) {
        // SAFETY: by contract shape and strides stay inside the memory.
        Some(Buffer::copy_of(&unsafe { gather(start, dtype.size(), shape, strides, len)? })?)
    } else if !start.addr().is_multiple_of(dtype.size().min(8)) {
        // SAFETY: by contract there are so many bytes.
        Some(Buffer::copy_of(unsafe { std::slice::from_raw_parts(start, len) })?)
    } else {
        None
    };
    let shape = shape.to_vec();
    // From here on nothing fails: the shape fits the bytes, as was just found.
    let writable = flags & IS_COPIED != 0 && flags & READ_ONLY == 0;
    let taken = Taken { managed, start: start.cast_mut(), len, writable };
    Tensor::new(dtype, &shape, copy.unwrap_or_else(|| Buffer::new(taken)))
}

/// The memory of a tensor that was taken over.
struct Taken {
    managed: *mut DLManagedTensorVersioned,
    start: *mut u8,
    /// Not 0 where the bytes are asked for.
    len: usize,
    writable: bool,
}

// SAFETY: nobody else has the tensor, and DLPack has deleters that may be called on any thread.
unsafe impl Send for Taken {}
// SAFETY: through a shared reference the memory is only read.
unsafe impl Sync for Taken {}

impl Storage for Taken {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is there until the deleter is called.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        // SAFETY: as above; it is a copy that the producer made for its consumer.
        self.writable.then(|| unsafe { std::slice::from_raw_parts_mut(self.start, self.len) })
    }

    fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: the tensor was taken over, so it is there, and this is its last user.
        unsafe {
            if let Some(deleter) = (*self.managed).deleter {
                deleter(self.managed);
            }
        }
    }
}

/// A tensor that was lent, and what it points to.
struct Lent {
    managed: DLManagedTensorVersioned,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _data: Arc<rm_data>,
}

fn lend(data: Arc<rm_data>) -> Result<*mut DLManagedTensorVersioned> {
    let value = data.value();
    let Some(tensor) = value.as_array() else {
        let message = format!("DLPack has arrays, and this is {}", value.kind());
        return Err(Error::new(Code::Argument, message)
            .hint("hand over a tensor, audio or a frame; rm_data_view shows the others"));
    };
    // C's reference and ours.
    let alone = Arc::strong_count(&data) == 2 && value.is_writable();
    let mut lent = Box::new(Lent {
        shape: tensor.shape().to_vec(),
        strides: contiguous(tensor.shape()),
        managed: DLManagedTensorVersioned {
            version: DLPackVersion { major: MAJOR, minor: 0 },
            manager_ctx: null_mut(),
            deleter: Some(give_back),
            flags: if alone { 0 } else { READ_ONLY },
            dl_tensor: DLTensor {
                data: match tensor.is_empty() {
                    true => null_mut(),
                    false => tensor.bytes().as_ptr().cast_mut().cast(),
                },
                device: DLDevice { device_type: CPU, device_id: 0 },
                ndim: tensor.shape().len() as i32,
                dtype: DLDataType {
                    code: tensor.dtype().code,
                    bits: tensor.dtype().bits,
                    lanes: 1,
                },
                shape: null_mut(),
                strides: null_mut(),
                byte_offset: 0,
            },
        },
        _data: data,
    });
    lent.managed.dl_tensor.shape = lent.shape.as_mut_ptr();
    lent.managed.dl_tensor.strides = lent.strides.as_mut_ptr();
    let lent = Box::into_raw(lent);
    // SAFETY: it was just made. What the consumer gets is a part of it, and leads back to the whole.
    unsafe {
        (*lent).managed.manager_ctx = lent.cast();
        Ok(&raw mut (*lent).managed)
    }
}

/// The deleter of a tensor that was lent. Touches only what is the same in every version.
unsafe extern "C" fn give_back(managed: *mut DLManagedTensorVersioned) {
    if !managed.is_null() {
        // SAFETY: by DLPack's contract this is called once, with what was lent.
        quiet((), || unsafe { drop(Box::from_raw((*managed).manager_ctx.cast::<Lent>())) });
    }
}
