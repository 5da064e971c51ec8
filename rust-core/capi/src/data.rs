//! `rm_data` and `rm_view`.

use crate::abi::{RM_OK, rm_status};
use crate::error::rm_error;
use crate::guard::{Out, bytes, fields, guard, text};
use crate::handle::{Handle, Head, Kind, borrow, release, share};
use remotemedia_runtime::memory::{expect, room};
use remotemedia_runtime::{
    Audio, Buffer, Code, DType, Error, Frame, Limits, PixelFormat, Result, Storage, Tensor, Value,
    json,
};
use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Kind of a value: JSON, with binary parts beside it or without.
pub const RM_JSON: u32 = 0;
/// Kind of a value: text, in `data` as UTF-8.
pub const RM_TEXT: u32 = 1;
/// Kind of a value: raw bytes.
pub const RM_BYTES: u32 = 2;
/// Kind of a value: an array of numbers.
pub const RM_TENSOR: u32 = 3;
/// Kind of a value: sound.
pub const RM_AUDIO: u32 = 4;
/// Kind of a value: a frame of video, or another image.
pub const RM_VIDEO: u32 = 5;
/// Flag of a view: nobody else reads the memory, so it may be written to.
pub const RM_WRITABLE: u32 = 1;
/// A view's `pts_us` where there is no presentation time.
pub const RM_NO_PTS: i64 = i64::MIN;

/// What the library calls when it has read your memory for the last time (rule 7).
pub type rm_release_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// One immutable value: JSON, text, bytes, a tensor, audio or a frame of video.
///
/// A batch of items is one rm_data too: a JSON array. JSON has no bytes, arrays of numbers, NaN or
/// infinities; those stand in the text as an object with the single key "$rm":
///   {"$rm": 3}                 the value children[3] of the view
///   {"$rm": "NaN"}             that float; also "Infinity" and "-Infinity"
///   {"$rm": {"$rm": 1}}        the object inside as it stands: so is an object of yours written
///                              that has this key
///
/// Ownership: reference-counted; what you receive is a reference of your own; free it. Immutable:
/// any thread may read it.
///
/// Functions: rm_data_new, rm_data_view, rm_data_retain, rm_data_free, rm_data_from_dlpack,
/// rm_data_to_dlpack.
#[cfg_attr(all(), repr(C))]
pub struct rm_data {
    head: Head,
    value: Value,
    form: OnceLock<Result<Form>>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_data {
    const KIND: Kind = Kind::Data;
}

/// The parts of a value, to make an rm_data of or to read one. Fields are only ever added at the
/// end. Set `struct_size` to sizeof(rm_view) and everything you do not use to 0 or NULL,
/// but `pts_us` of audio and frames without a time to RM_NO_PTS.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rm_view {
    /// sizeof(rm_view) of the side that made the struct.
    pub struct_size: u32,
    /// RM_JSON, RM_TEXT, RM_BYTES, RM_TENSOR, RM_AUDIO or RM_VIDEO.
    pub kind: u32,
    /// RM_AUDIO, RM_VIDEO: presentation time (for audio that of the first frame) in microseconds.
    /// 0 is a time: write RM_NO_PTS where there is none.
    pub pts_us: i64,
    /// RM_JSON: the value. RM_AUDIO: `{"sample_rate": 16000}`. RM_VIDEO: `{"format": "rgb24"}`, or
    /// "bgr24" (3 channels), "rgba", "bgra" (4), "gray" (1). Others: empty.
    pub json: *const c_char,
    /// Length of `json` in bytes.
    pub json_len: usize,
    /// The text, the bytes or the first element; NULL only if there is nothing.
    pub data: *mut c_void,
    /// Length of the text, the bytes or all elements together, in bytes.
    pub byte_len: u64,
    /// Length of each dimension. RM_AUDIO: (frames) or (frames, channels). RM_VIDEO: (height, width,
    /// channels), or (height, width) for gray; rows from top to bottom, sides of 1 to 65,536.
    pub shape: *const i64,
    /// Distance of neighbours in each dimension, in elements; NULL: C-contiguous. Never NULL in a
    /// view that the library filled, unless ndim is 0.
    pub strides: *const i64,
    /// Number of dimensions, 0 to 64.
    pub ndim: i32,
    /// Where the memory is, in DLPack's codes; 1 (or 0) is the CPU, the only one there is so far.
    pub device_type: i32,
    /// Which device of that type.
    pub device_id: i32,
    /// DLPack's DLDataTypeCode: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool. RM_AUDIO:
    /// float of 32 bits in -1..1, or int of 16. RM_VIDEO: uint of 8.
    pub dtype_code: u8,
    /// Bits of an element.
    pub dtype_bits: u8,
    /// 1.
    pub dtype_lanes: u16,
    /// RM_JSON: the values that the text refers to.
    pub children: *const *mut rm_data,
    /// How many.
    pub child_count: u32,
    /// RM_WRITABLE or 0; ignored in what you pass in.
    pub flags: u32,
    /// RM_TENSOR in the parts of a call: a number below 2^31 by which you know it, or 0. Where it
    /// comes out as it went in, whole and unchanged, the text has minus that number in the place of
    /// a part's index (not in JSON). In rm_call_exchange such a part is lent, see there.
    pub tag: u32,
    /// 0.
    pub reserved: u32,
}

const NOTHING: rm_view = rm_view {
    struct_size: size_of::<rm_view>() as u32,
    kind: RM_JSON,
    pts_us: RM_NO_PTS,
    json: null(),
    json_len: 0,
    data: null_mut(),
    byte_len: 0,
    shape: null(),
    strides: null(),
    ndim: 0,
    device_type: 0,
    device_id: 0,
    dtype_code: 0,
    dtype_bits: 0,
    dtype_lanes: 0,
    children: null(),
    child_count: 0,
    flags: 0,
    tag: 0,
    reserved: 0,
};

/// What a view of a value points to, made when somebody first looks.
struct Form {
    /// With a NUL behind it that is not counted.
    json: Vec<u8>,
    strides: Vec<i64>,
    children: Vec<Arc<rm_data>>,
    pointers: Vec<*mut rm_data>,
}

// SAFETY: the pointers are those of `children`, which are Send and Sync.
unsafe impl Send for Form {}
// SAFETY: as above.
unsafe impl Sync for Form {}

impl rm_data {
    pub(crate) fn new(value: Value) -> Arc<rm_data> {
        Arc::new(rm_data { head: Head::new(Kind::Data), value, form: OnceLock::new() })
    }

    /// A value of JSON text that the library made.
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Arc<rm_data>> {
        let text = value.to_string();
        Ok(rm_data::new(json::parse(text.as_bytes(), &[], Limits::VALUE_DEPTH)?))
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    fn form(&self) -> Result<&Form> {
        self.form.get_or_init(|| Form::of(&self.value)).as_ref().map_err(Clone::clone)
    }
}

impl Form {
    fn of(value: &Value) -> Result<Form> {
        let mut children = Vec::new();
        let strides = strides(value);
        let mut json = match value {
            Value::Bytes(_) | Value::Tensor(_) | Value::Audio(_) | Value::Frame(_) => {
                metadata(value)
            }
            other => json::write(other, &mut children)?,
        };
        json.push(0);
        let children: Vec<Arc<rm_data>> = children.into_iter().map(rm_data::new).collect();
        let pointers = children.iter().map(|child| Arc::as_ptr(child).cast_mut()).collect();
        Ok(Form { json, strides, children, pointers })
    }
}

/// The strides of a C-contiguous array, in elements.
pub(crate) fn contiguous(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for dimension in (1..shape.len()).rev() {
        // A dimension of length 0 may have neighbours of any length.
        strides[dimension - 1] = i64::saturating_mul(strides[dimension], shape[dimension].max(1));
    }
    strides
}

/// Makes a value.
///
/// With `release` NULL everything is copied. Otherwise bytes, tensors, audio and frames that are
/// C-contiguous and aligned are used where they are, and must stay as they are, until
/// `release(user_data)` (rule 7); everything else is copied and released before this returns.
///
/// Fails with RM_E_JSON for text that is not JSON, an integer beyond 64 bits, a key that stands
/// twice, or a reference to a child that is not there; RM_E_LIMIT for nesting beyond 100 levels;
/// RM_E_UTF8; RM_E_UNSUPPORTED for an element type or a device that is not known; RM_E_ARGUMENT
/// for parts that do not fit each other.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_new(
    view: *const rm_view,
    release: rm_release_fn,
    user_data: *mut c_void,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: rule 4: a view and what it points to.
        let view = unsafe { read_view(view)? };
        // SAFETY: as above.
        let (value, memory) = unsafe { make(&view, release.is_some())? };
        // Nothing can fail from here on, so release is called exactly if this succeeds.
        if let Some(release) = release {
            let release = Release { release, user_data };
            match memory {
                Some(memory) => drop(memory.release.set(release)),
                None => drop(release),
            }
        }
        Ok(out.set(rm_data::new(value)))
    })
}

/// Fills a view of a value; set `out->struct_size` first. What it points to is borrowed and lives
/// as long as `data`; to keep a child, retain it.
///
/// A value of the kinds RM_JSON and RM_TEXT has its JSON in `json`; text has it in `data` as well,
/// as it is. Fails with RM_E_LIMIT for JSON nested beyond 200 levels, which nodes could make.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_view(
    data: *const rm_data,
    out: *mut rm_view,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 4: NULL or a view whose size is set.
        let size = unsafe { view_size(out)? };
        let write = |view: &rm_view| {
            let view = rm_view { struct_size: size as u32, ..*view };
            // SAFETY: the caller's struct has `size` bytes, and ours has no fewer.
            unsafe {
                std::ptr::copy_nonoverlapping((&raw const view).cast(), out.cast::<u8>(), size)
            }
        };
        write(&NOTHING);
        // SAFETY: rule 4.
        let data = unsafe { borrow(data)? };
        write(&describe(data)?);
        Ok(RM_OK)
    })
}

/// Another reference to the same value; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_retain(data: *const rm_data) -> *mut rm_data {
    // SAFETY: rule 4.
    unsafe { share(data) }.map_or(null_mut(), |data| Arc::into_raw(data).cast_mut())
}

/// Gives a reference back.
#[unsafe(no_mangle)]
pub extern "C" fn rm_data_free(data: *mut rm_data) {
    // SAFETY: rule 3.
    unsafe { release(data) }
}

fn describe(data: &rm_data) -> Result<rm_view> {
    let form = data.form()?;
    Ok(rm_view {
        json: form.json.as_ptr().cast(),
        json_len: form.json.len() - 1,
        children: form.pointers.as_ptr(),
        child_count: form.children.len() as u32,
        ..describe_memory(&data.value, &form.strides)
    })
}

/// The view of a value's memory, without its JSON.
pub(crate) fn describe_memory(value: &Value, strides: &[i64]) -> rm_view {
    let mut view = NOTHING;
    let mut memory = |kind, bytes: &[u8]| {
        view.kind = kind;
        view.data = bytes.as_ptr().cast_mut().cast();
        view.byte_len = bytes.len() as u64;
    };
    match value {
        Value::Text(text) => memory(RM_TEXT, text.as_bytes()),
        Value::Bytes(buffer) => memory(RM_BYTES, buffer.bytes()),
        Value::Tensor(tensor) => memory(RM_TENSOR, tensor.bytes()),
        Value::Audio(audio) => {
            memory(RM_AUDIO, audio.samples().bytes());
            view.pts_us = audio.pts_us().unwrap_or(RM_NO_PTS);
        }
        Value::Frame(frame) => {
            memory(RM_VIDEO, frame.pixels().bytes());
            view.pts_us = frame.pts_us().unwrap_or(RM_NO_PTS);
        }
        _ => {}
    }
    if let Some(tensor) = value.as_array() {
        view.shape = tensor.shape().as_ptr();
        view.strides = strides.as_ptr();
        view.ndim = tensor.shape().len() as i32;
        view.device_type = 1;
        view.dtype_code = tensor.dtype().code;
        view.dtype_bits = tensor.dtype().bits;
        view.dtype_lanes = 1;
    }
    view
}

/// What a value of each kind has in the field `json`, without its NUL.
pub(crate) fn metadata(value: &Value) -> Vec<u8> {
    match value {
        Value::Audio(audio) => format!("{{\"sample_rate\":{}}}", audio.sample_rate()).into_bytes(),
        Value::Frame(frame) => format!("{{\"format\":\"{}\"}}", frame.format().name()).into_bytes(),
        _ => Vec::new(),
    }
}

pub(crate) fn strides(value: &Value) -> Vec<i64> {
    value.as_array().map_or_else(Vec::new, |tensor| contiguous(tensor.shape()))
}

/// How many bytes of the caller's view can be used.
unsafe fn view_size(view: *const rm_view) -> Result<usize> {
    let wrong = |why: &str| Err(Error::new(Code::Argument, why));
    if view.is_null() || !view.is_aligned() {
        return wrong("the view is NULL or not aligned");
    }
    // SAFETY: not NULL, and the size comes first in every version of the struct.
    let size = unsafe { (*view).struct_size } as usize;
    match size {
        // The first version of the struct is the smallest there is.
        size if size >= size_of::<rm_view>() => Ok(size_of::<rm_view>()),
        _ => wrong("the view's struct_size is not set to sizeof(rm_view)"),
    }
}

/// A copy of the caller's view.
unsafe fn read_view(view: *const rm_view) -> Result<rm_view> {
    // SAFETY: by contract NULL or a view; its size was checked.
    unsafe {
        view_size(view)?;
        Ok(*view)
    }
}

/// The value of a view of bytes, a tensor, audio or a frame, with the caller's memory where it is.
///
/// # Safety
/// Every part of the view is what the header says, and its memory stays for as long as the value.
pub(crate) unsafe fn lent(view: *const rm_view) -> Result<Value> {
    // SAFETY: by contract.
    unsafe {
        let view = read_view(view)?;
        match view.kind {
            RM_BYTES | RM_TENSOR | RM_AUDIO | RM_VIDEO => Ok(make(&view, true)?.0),
            _ => {
                let message = "a part is bytes, a tensor, audio or a frame";
                Err(Error::new(Code::Argument, message))
            }
        }
    }
}

/// The same with a copy of the memory; but a tensor with a tag is lent until its tag stands in
/// `released`.
///
/// # Safety
/// Every part of the view is what the header says.
pub(crate) unsafe fn copied(view: *const rm_view, released: &Released) -> Result<Value> {
    // SAFETY: by contract.
    unsafe {
        let view = read_view(view)?;
        if view.kind != RM_TENSOR || view.tag == 0 {
            return Ok(make(&view, false)?.0);
        }
        let (value, memory) = make(&view, true)?;
        let tell = Tell { tag: view.tag, released: released.clone() };
        match memory {
            Some(memory) => drop(memory.tell.set(tell)),
            // It was copied.
            None => drop(tell),
        }
        Ok(value)
    }
}

/// The tags of what was lent and is not used any more.
pub(crate) type Released = Arc<Mutex<Vec<u32>>>;

/// Puts a tag there when this is dropped.
struct Tell {
    tag: u32,
    released: Released,
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).push(self.tag);
    }
}

/// A value of these parts, with the caller's memory if it is used where it is.
///
/// # Safety
/// Every part of the view is what the header says.
unsafe fn make(view: &rm_view, borrow: bool) -> Result<(Value, Option<Arc<Foreign>>)> {
    let len = usize::try_from(view.byte_len).unwrap_or(usize::MAX);
    // SAFETY: by contract.
    unsafe {
        match view.kind {
            RM_JSON => {
                let children = children(view)?;
                let json = text(view.json, view.json_len, "json")?;
                // A batch of items, or a map of batches, wraps the values themselves.
                Ok((json::parse(json.as_bytes(), &children, Limits::VALUE_DEPTH + 2)?, None))
            }
            RM_TEXT => {
                let text = text(view.data.cast_const().cast(), len, "data")?;
                expect(len)?;
                Ok((Value::text(text), None))
            }
            RM_BYTES => {
                let (buffer, memory) = buffer(bytes(view.data.cast(), len, "data")?, 1, borrow)?;
                Ok((Value::Bytes(Arc::new(buffer)), memory))
            }
            RM_TENSOR => {
                if view.tag > i32::MAX as u32 {
                    let message = format!("the tag {} is not below 2^31", view.tag);
                    return Err(Error::new(Code::Argument, message));
                }
                let (tensor, memory) = tensor(view, borrow)?;
                // What was copied is another one.
                let label = if memory.is_some() { view.tag } else { 0 };
                Ok((Value::Tensor(Arc::new(tensor.labelled(label))), memory))
            }
            RM_AUDIO => {
                let rate = sample_rate(text(view.json, view.json_len, "json")?)?;
                let pts = (view.pts_us != RM_NO_PTS).then_some(view.pts_us);
                let (samples, memory) = tensor(view, borrow)?;
                Ok((Value::Audio(Arc::new(Audio::new(samples, rate, pts)?)), memory))
            }
            RM_VIDEO => {
                let format = pixel_format(text(view.json, view.json_len, "json")?)?;
                let pts = (view.pts_us != RM_NO_PTS).then_some(view.pts_us);
                let (pixels, memory) = tensor(view, borrow)?;
                Ok((Value::Frame(Arc::new(Frame::new(pixels, format, pts)?)), memory))
            }
            other => Err(Error::new(Code::Argument, format!("there is no kind {other} of value"))),
        }
    }
}

/// The values that a JSON text may refer to.
///
/// # Safety
/// `children` is NULL or points to that many pointers to rm_data.
unsafe fn children(view: &rm_view) -> Result<Vec<Value>> {
    if view.child_count == 0 {
        return Ok(Vec::new());
    }
    if view.children.is_null() || !view.children.is_aligned() {
        return Err(Error::new(Code::Argument, "children is NULL, but child_count is not 0"));
    }
    // SAFETY: by contract.
    let pointers = unsafe { std::slice::from_raw_parts(view.children, view.child_count as usize) };
    // SAFETY: rule 4.
    pointers.iter().map(|child| unsafe { borrow(*child) }.map(|data| data.value.clone())).collect()
}

fn sample_rate(json: &str) -> Result<u32> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Meta {
        sample_rate: u32,
    }
    let meta: Meta = described(json, "the metadata of audio", "{\"sample_rate\": 16000}")?;
    Ok(meta.sample_rate)
}

fn pixel_format(json: &str) -> Result<PixelFormat> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Meta {
        format: String,
    }
    let meta: Meta = described(json, "the metadata of a frame", "{\"format\": \"rgb24\"}")?;
    PixelFormat::named(&meta.format)
}

fn described<T: serde::de::DeserializeOwned>(json: &str, name: &str, example: &str) -> Result<T> {
    fields(json, name).map_err(|mut e| {
        e.code = Code::Argument;
        e.hint(format!("write {example}"))
    })
}

/// # Safety
/// `data`, `shape` and `strides` are what the header says.
unsafe fn tensor(view: &rm_view, borrow: bool) -> Result<(Tensor, Option<Arc<Foreign>>)> {
    let wrong = |why: String| Err(Error::new(Code::Argument, why));
    if !matches!(view.device_type, 0 | 1) {
        let message = format!("memory on the device type {} cannot be read", view.device_type);
        return Err(Error::new(Code::Unsupported, message).hint("copy it to the CPU first"));
    }
    let dimensions = dimensions(view.ndim)?;
    let dtype = DType::new(view.dtype_code, view.dtype_bits, view.dtype_lanes)?;
    // SAFETY: by contract each points to `ndim` numbers.
    let (shape, strides) = unsafe {
        let read = |start: *const i64| match start.is_null() || !start.is_aligned() {
            true => None,
            false => Some(std::slice::from_raw_parts(start, dimensions)),
        };
        (read(view.shape), read(view.strides))
    };
    let shape = match shape {
        Some(shape) => shape,
        None if dimensions == 0 => &[],
        None => return wrong("shape is NULL, but ndim is not 0".to_owned()),
    };
    let expected = size_of_shape(dtype, shape)?;
    if view.byte_len != expected as u64 {
        return wrong(format!(
            "{} of shape {shape:?} takes {expected} bytes, but byte_len is {}",
            dtype.name(),
            view.byte_len
        ));
    }
    if expected > 0 && view.data.is_null() {
        return wrong("data is NULL".to_owned());
    }
    let (buffer, memory) = match strides {
        Some(strides) if expected > 0 && !in_order(shape, strides) => {
            // SAFETY: by contract shape and strides stay inside the caller's memory.
            let gathered =
                unsafe { gather(view.data.cast(), dtype.size(), shape, strides, expected)? };
            buffer(&gathered, dtype.size(), false)?
        }
        // SAFETY: by contract `data` has that many bytes.
        _ => buffer(unsafe { bytes(view.data.cast(), expected, "data")? }, dtype.size(), borrow)?,
    };
    Ok((Tensor::new(dtype, shape, buffer)?, memory))
}

/// How many dimensions a tensor has, if that is possible.
pub(crate) fn dimensions(ndim: i32) -> Result<usize> {
    match ndim {
        0..=64 => Ok(ndim as usize),
        _ => {
            Err(Error::new(Code::Argument, format!("a tensor has 0 to 64 dimensions, not {ndim}")))
        }
    }
}

/// How many bytes the elements of an array take.
pub(crate) fn size_of_shape(dtype: DType, shape: &[i64]) -> Result<usize> {
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, &length| {
        usize::try_from(length).ok().and_then(|length| bytes.checked_mul(length))
    });
    bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| {
        Error::new(Code::Argument, format!("the shape {shape:?} is not one an array can have"))
    })
}

/// Whether an array that has elements is C-contiguous. The strides of a dimension of length 1 mean
/// nothing.
pub(crate) fn in_order(shape: &[i64], strides: &[i64]) -> bool {
    let wanted = contiguous(shape);
    shape.iter().zip(strides.iter().zip(&wanted)).all(|(&length, (a, b))| length == 1 || a == b)
}

/// The elements of a strided array in C order.
///
/// # Safety
/// Every element that shape and strides lead to can be read.
pub(crate) unsafe fn gather(
    start: *const u8,
    size: usize,
    shape: &[i64],
    strides: &[i64],
    expected: usize,
) -> Result<Vec<u8>> {
    let mut out = room(expected)?;
    let mut index = vec![0i64; shape.len()];
    while out.len() < expected {
        let offset: i64 = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
        // SAFETY: by contract.
        out.extend_from_slice(unsafe {
            std::slice::from_raw_parts(start.offset(offset as isize * size as isize), size)
        });
        for dimension in (0..shape.len()).rev() {
            index[dimension] += 1;
            if index[dimension] < shape[dimension] {
                break;
            }
            index[dimension] = 0;
        }
    }
    Ok(out)
}

/// A buffer with these bytes: on the caller's memory if that may be used and is aligned for
/// elements of `size` bytes, else on a copy.
fn buffer(bytes: &[u8], size: usize, borrow: bool) -> Result<(Buffer, Option<Arc<Foreign>>)> {
    if borrow && bytes.as_ptr().addr().is_multiple_of(size.min(8)) && !bytes.is_empty() {
        let (start, len) = (bytes.as_ptr(), bytes.len());
        let memory =
            Arc::new(Foreign { start, len, release: OnceLock::new(), tell: OnceLock::new() });
        return Ok((Buffer::new(Shared(memory.clone())), Some(memory)));
    }
    Ok((Buffer::copy_of(bytes)?, None))
}

/// Memory of the host's.
struct Foreign {
    start: *const u8,
    len: usize,
    /// Set once everything else has succeeded; called when this is dropped.
    release: OnceLock<Release>,
    /// Who is told then, of memory that was lent by its tag.
    tell: OnceLock<Tell>,
}

// SAFETY: the memory stays as it is until the release, and by rule 7 that may come on any thread.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

struct Shared(Arc<Foreign>);

impl Storage for Shared {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the host keeps the memory until the release, which comes with the last Arc.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.len) }
    }
}

/// The host's release, called when this is dropped.
struct Release {
    release: unsafe extern "C" fn(*mut c_void),
    user_data: *mut c_void,
}

// SAFETY: by rule 7 the release may come on any thread.
unsafe impl Send for Release {}
// SAFETY: nothing reads it through a shared reference.
unsafe impl Sync for Release {}

impl Drop for Release {
    fn drop(&mut self) {
        // SAFETY: rule 7; this is dropped once.
        unsafe { (self.release)(self.user_data) };
    }
}
