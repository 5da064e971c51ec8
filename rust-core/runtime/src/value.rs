//! What travels between nodes.
//!
//! A [`Value`] is cheap to clone: everything large sits behind a reference count, so a value that
//! goes to several nodes is shared and not copied.

use crate::error::{Code, Error, Result};
use crate::memory::{Block, Buffer, is_only, room};
use indexmap::IndexMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

/// A map with text keys that remembers the order of insertion.
pub type Map = IndexMap<Arc<str>, Value>;

/// One value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: JSON's `null`, Python's `None`.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number that fits in 64 bits with a sign.
    Int(i64),
    /// A whole number above `i64::MAX` that fits in 64 bits without a sign.
    UInt(u64),
    /// A float; NaN and the infinities included.
    Float(f64),
    /// Unicode text.
    Text(Arc<str>),
    /// Values in order.
    List(Arc<List>),
    /// Values by name, in order of insertion.
    Map(Arc<Map>),
    /// Raw bytes.
    Bytes(Arc<Buffer>),
    /// An array of numbers.
    Tensor(Arc<Tensor>),
    /// Sound.
    Audio(Arc<Audio>),
    /// An image: a frame of video, or one that stands alone.
    Frame(Arc<Frame>),
}

impl Value {
    /// A text value.
    pub fn text(text: impl AsRef<str>) -> Self {
        Value::Text(Arc::from(text.as_ref()))
    }

    /// A list value.
    pub fn list(items: Vec<Value>) -> Self {
        Value::List(Arc::new(List(Items::Values(items))))
    }

    /// The list of the floats in an array; `None` if that is no array of float64 of one dimension.
    pub fn list_of_floats(floats: Tensor) -> Option<Self> {
        if floats.dtype != DType::F64 || floats.shape.len() != 1 {
            return None;
        }
        let array = Arc::new(floats.labelled(0));
        let items = Items::Floats { array, values: OnceLock::new() };
        Some(Value::List(Arc::new(List(items))))
    }

    /// A map value with these entries, in this order.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Arc::from(key.as_ref()), value));
        Value::Map(Arc::new(entries.collect()))
    }

    /// A whole number; [`Value::Int`] where it fits, else [`Value::UInt`]. `None` beyond 64 bits.
    pub fn int(number: i128) -> Option<Self> {
        match i64::try_from(number) {
            Ok(small) => Some(Value::Int(small)),
            Err(_) => u64::try_from(number).ok().map(Value::UInt),
        }
    }

    /// What a person calls this kind of value, with its article: "a number", "audio".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::UInt(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Bytes(_) => "bytes",
            Value::Tensor(_) => "a tensor",
            Value::Audio(_) => "audio",
            Value::Frame(_) => "a frame",
        }
    }

    /// Whether it has memory that nobody else reads, and that may be written to.
    pub fn is_writable(&self) -> bool {
        match self {
            Value::Tensor(tensor) => is_only(tensor) && tensor.is_writable(),
            Value::Audio(audio) => is_only(audio) && audio.samples.is_writable(),
            Value::Frame(frame) => is_only(frame) && frame.pixels.is_writable(),
            _ => false,
        }
    }

    /// The array that it is, or that it consists of: audio's samples, a frame's pixels.
    pub fn as_array(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(tensor) => Some(tensor),
            Value::Audio(audio) => Some(&audio.samples),
            Value::Frame(frame) => Some(&frame.pixels),
            _ => None,
        }
    }

    /// How many lists and maps are nested in one another; 0 for what is neither.
    pub fn depth(&self) -> usize {
        let deepest = match self {
            Value::List(items) if items.floats().is_some() => None,
            Value::List(items) => items.iter().map(Value::depth).max(),
            Value::Map(map) => map.values().map(Value::depth).max(),
            _ => return 0,
        };
        1 + deepest.unwrap_or(0)
    }

    /// How many bytes of memory it keeps, about; shared ones count every time.
    pub fn weight(&self) -> usize {
        let content = match self {
            Value::Text(text) => text.len(),
            Value::List(items) if items.floats().is_some() => items.len() * size_of::<Value>(),
            Value::List(items) => items.iter().map(Value::weight).sum(),
            Value::Map(map) => map.iter().map(|(key, value)| key.len() + value.weight()).sum(),
            Value::Bytes(bytes) => bytes.bytes().len(),
            Value::Tensor(_) | Value::Audio(_) | Value::Frame(_) => {
                self.as_array().map_or(0, |array| array.bytes().len())
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => 0,
        };
        size_of::<Value>() + content
    }

    /// When it is to be presented, in microseconds, for what knows that.
    pub fn pts_us(&self) -> Option<i64> {
        match self {
            Value::Audio(audio) => audio.pts_us(),
            Value::Frame(frame) => frame.pts_us(),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The audio, or a node's error that says what came instead.
    ///
    /// # Errors
    /// `RM_E_NODE` for every other kind.
    pub fn as_audio(&self) -> Result<&Arc<Audio>> {
        match self {
            Value::Audio(audio) => Ok(audio),
            other => Err(Error::node(format!("takes audio, got {}", other.kind()))
                .hint("decode files with AudioDecode first; pass samples as Audio")),
        }
    }
}

impl PartialEq for Value {
    /// Equal in kind and content. Floats compare as numbers, so NaN differs from itself.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::UInt(a), Value::UInt(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => a[..] == b[..],
            (Value::Map(a), Value::Map(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a.bytes() == b.bytes(),
            (Value::Tensor(a), Value::Tensor(b)) => a == b,
            (Value::Audio(a), Value::Audio(b)) => a == b,
            (Value::Frame(a), Value::Frame(b)) => a == b,
            _ => false,
        }
    }
}

/// Values in order: a slice of them. A list of nothing but floats may be an array, of which these
/// values are made when somebody looks at them; what only hands it on does without.
pub struct List(Items);

enum Items {
    Values(Vec<Value>),
    Floats { array: Arc<Tensor>, values: OnceLock<Vec<Value>> },
}

impl List {
    /// How many values.
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Values(values) => values.len(),
            Items::Floats { array, .. } => array.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The array, if it is one.
    pub fn floats(&self) -> Option<&Arc<Tensor>> {
        match &self.0 {
            Items::Values(_) => None,
            Items::Floats { array, .. } => Some(array),
        }
    }
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        match &self.0 {
            Items::Values(values) => values,
            Items::Floats { array, values } => values.get_or_init(|| {
                let floats = array.bytes().as_chunks().0.iter();
                floats.map(|float| Value::Float(f64::from_ne_bytes(*float))).collect()
            }),
        }
    }
}

impl From<List> for Vec<Value> {
    fn from(list: List) -> Self {
        match list.0 {
            Items::Values(values) => values,
            Items::Floats { .. } => list.to_vec(),
        }
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The type of a tensor's elements, in DLPack's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    /// DLPack's `DLDataTypeCode`: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool.
    pub code: u8,
    /// Bits of one element.
    pub bits: u8,
}

impl DType {
    /// 32-bit float.
    pub const F32: DType = DType { code: 2, bits: 32 };
    /// 64-bit float.
    pub const F64: DType = DType { code: 2, bits: 64 };
    /// Signed 16-bit integer.
    pub const I16: DType = DType { code: 0, bits: 16 };
    /// Unsigned 8-bit integer.
    pub const U8: DType = DType { code: 1, bits: 8 };

    /// The type with these codes, if it is one that tensors can have.
    ///
    /// # Errors
    /// `RM_E_UNSUPPORTED` for sub-byte types, vectors and unknown codes.
    pub fn new(code: u8, bits: u8, lanes: u16) -> Result<Self> {
        let known = match code {
            0 | 1 => matches!(bits, 8 | 16 | 32 | 64),
            2 => matches!(bits, 16 | 32 | 64),
            4 => bits == 16,
            5 => matches!(bits, 64 | 128),
            6 => bits == 8,
            _ => false,
        };
        if known && lanes == 1 {
            Ok(DType { code, bits })
        } else {
            Err(Error::new(
                Code::Unsupported,
                format!("no tensor has the element type code {code}, {bits} bits, {lanes} lanes"),
            )
            .hint("DLPack int, uint, float, bfloat, complex and bool with one lane are known"))
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        usize::from(self.bits) / 8
    }

    /// NumPy's name for it, for example `float32`.
    pub fn name(self) -> String {
        match self.code {
            0 => format!("int{}", self.bits),
            1 => format!("uint{}", self.bits),
            2 => format!("float{}", self.bits),
            4 => format!("bfloat{}", self.bits),
            5 => format!("complex{}", self.bits),
            _ => "bool".to_owned(),
        }
    }
}

/// An element type that Rust knows by itself.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The same type in DLPack's codes.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($type:ty => $code:literal $bits:literal),* $(,)?) => {
        $(impl Element for $type { const DTYPE: DType = DType { code: $code, bits: $bits }; })*
    };
}
elements!(i8 => 0 8, i16 => 0 16, i32 => 0 32, i64 => 0 64, u8 => 1 8, u16 => 1 16, u32 => 1 32,
          u64 => 1 64, f32 => 2 32, f64 => 2 64);

/// A C-contiguous array of numbers in native byte order.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Box<[i64]>,
    buffer: Buffer,
    label: u32,
}

impl Tensor {
    /// A tensor on this memory.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if a dimension is negative or the shape does not fill the buffer exactly.
    pub fn new(dtype: DType, shape: &[i64], buffer: Buffer) -> Result<Self> {
        let wrong = |why: String| Err(Error::new(Code::Argument, why));
        let mut bytes = dtype.size();
        for &length in shape {
            let next = usize::try_from(length).ok().and_then(|length| bytes.checked_mul(length));
            match next {
                Some(next) => bytes = next,
                None => return wrong(format!("the shape {shape:?} is not one an array can have")),
            }
        }
        let held = buffer.bytes().len();
        if held != bytes {
            return wrong(format!(
                "{} of shape {shape:?} takes {bytes} bytes, the buffer holds {held}",
                dtype.name()
            ));
        }
        Ok(Tensor { dtype, shape: shape.into(), buffer, label: 0 })
    }

    /// The same with a number by which the host knows it, from 1. It is not handed on to what is
    /// made of the tensor.
    pub fn labelled(self, label: u32) -> Self {
        Tensor { label, ..self }
    }

    /// That number, or 0.
    pub fn label(&self) -> u32 {
        self.label
    }

    /// A tensor made of these elements.
    ///
    /// # Panics
    /// If the shape does not take exactly these elements: a bug of the caller.
    pub fn from_vec<T: Element>(elements: Vec<T>, shape: &[i64]) -> Self {
        let tensor = Tensor::new(T::DTYPE, shape, Buffer::new(elements));
        tensor.expect("the shape fits the elements")
    }

    /// A tensor in memory of the pool's, which holds anything until `fill` has overwritten it.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if there is not enough memory; what `fill` gives.
    pub fn build<T: Element>(
        shape: &[i64],
        fill: impl FnOnce(&mut [T]) -> Result<()>,
    ) -> Result<Self> {
        let elements: i64 = shape.iter().product();
        let mut block = Block::try_new((elements as usize).saturating_mul(size_of::<T>()))?;
        fill(bytemuck::cast_slice_mut(block.bytes_mut()))?;
        Tensor::new(T::DTYPE, shape, Buffer::new(block))
    }

    /// The same tensor with `f` applied to every element: in place if nobody else reads it, else
    /// in memory of the pool's. `check` is asked now and then whether to go on.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if there is not enough memory; what `check` gives.
    ///
    /// # Panics
    /// If the elements are not of this type: a bug of the caller.
    pub fn map<T: Element>(
        mut self,
        check: &dyn Fn() -> Result<()>,
        f: impl Fn(T) -> T,
    ) -> Result<Self> {
        assert!(self.dtype == T::DTYPE, "the element type is known");
        if let Some(bytes) = self.buffer.bytes_mut()
            && let Ok(elements) = bytemuck::try_cast_slice_mut::<u8, T>(bytes)
        {
            for part in elements.chunks_mut(Tensor::STRIDE) {
                part.iter_mut().for_each(|element| *element = f(*element));
                check()?;
            }
            self.label = 0;
            return Ok(self);
        }
        let from = self.bytes().chunks(Tensor::STRIDE * size_of::<T>());
        Tensor::build(&self.shape, |to: &mut [T]| {
            for (to, from) in to.chunks_mut(Tensor::STRIDE).zip(from) {
                let from = from.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = f(from));
                check()?;
            }
            Ok(())
        })
    }

    /// Elements that a loop may handle before it asks whether to go on: a few milliseconds' work
    /// at the most.
    pub const STRIDE: usize = 1 << 18;

    /// The tensors along the first axis, each with memory of its own.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if there is no axis or no element.
    pub fn rows(&self) -> Result<Vec<Self>> {
        let (dtype, shape) = (self.dtype, &self.shape);
        if shape.is_empty() || self.is_empty() {
            let message = format!("a tensor of shape {shape:?} has no rows");
            return Err(Error::new(Code::Argument, message));
        }
        let size = self.bytes().len() / shape[0] as usize;
        let rows = self.bytes().chunks_exact(size);
        rows.map(|row| Tensor::new(dtype, &shape[1..], Buffer::copy_of(row)?)).collect()
    }

    /// The part `range` of the first dimension, without a copy.
    ///
    /// # Panics
    /// If there is no first dimension, or the range does not lie within it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut shape = self.shape.clone();
        let rows = shape[0] as usize;
        let row = self.bytes().len().checked_div(rows).unwrap_or(0);
        assert!(range.end <= rows, "a range within the tensor");
        shape[0] = range.len() as i64;
        let buffer = self.buffer.slice(range.start * row..range.end * row);
        Tensor { dtype: self.dtype, shape, buffer, label: 0 }
    }

    /// Whether nobody else reads its memory, and that may be written to.
    pub fn is_writable(&self) -> bool {
        self.buffer.is_writable()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The length of each dimension; empty for a single number.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.bytes().len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The elements, if they are of this type and the memory is aligned for it.
    pub fn elements<T: Element>(&self) -> Option<&[T]> {
        if self.dtype == T::DTYPE { bytemuck::try_cast_slice(self.bytes()).ok() } else { None }
    }
}

impl PartialEq for Tensor {
    /// Equal in type, shape and bits.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

/// Sound: interleaved samples and how fast they go by.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    samples: Tensor,
    sample_rate: u32,
    pts_us: Option<i64>,
}

impl Audio {
    /// The highest sample rate in Hz that audio may have.
    pub const MAX_SAMPLE_RATE: u32 = 768_000;
    /// The most channels that audio may have.
    pub const MAX_CHANNELS: usize = 64;

    /// Audio from samples of shape (frames,) or (frames, channels), float32 in -1..1 or int16.
    ///
    /// `pts_us` is the presentation time of the first frame in microseconds.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for another shape or type, a rate outside 1..=768,000 Hz or channels
    /// outside 1..=64.
    pub fn new(samples: Tensor, sample_rate: u32, pts_us: Option<i64>) -> Result<Self> {
        let wrong = |why: String| Err(Error::new(Code::Argument, why));
        if samples.dtype != DType::F32 && samples.dtype != DType::I16 {
            return wrong(format!(
                "audio samples are float32 or int16, not {}",
                samples.dtype.name()
            ));
        }
        let channels = match samples.shape() {
            [_] => 1,
            [_, channels] => *channels,
            shape => {
                return wrong(format!(
                    "audio samples have the shape (frames,) or (frames, channels), not {shape:?}"
                ));
            }
        };
        if !(1..=Audio::MAX_CHANNELS as i64).contains(&channels) {
            return wrong(format!(
                "audio has 1 to {} channels, not {channels}",
                Self::MAX_CHANNELS
            ));
        }
        if !(1..=Audio::MAX_SAMPLE_RATE).contains(&sample_rate) {
            return wrong(format!(
                "a sample rate is 1 to {} Hz, not {sample_rate}",
                Self::MAX_SAMPLE_RATE
            ));
        }
        Ok(Audio { samples, sample_rate, pts_us })
    }

    /// The samples, interleaved.
    pub fn samples(&self) -> &Tensor {
        &self.samples
    }

    /// Frames per second.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Presentation time of the first frame in microseconds.
    pub fn pts_us(&self) -> Option<i64> {
        self.pts_us
    }

    /// Samples per frame.
    pub fn channels(&self) -> usize {
        self.samples.shape().get(1).map_or(1, |&channels| channels as usize)
    }

    /// Samples per channel.
    pub fn frames(&self) -> usize {
        self.samples.shape()[0] as usize
    }

    /// The samples as float32 in -1..1; int16 is divided by 32,768.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if they must be copied and there is not enough memory.
    pub fn to_f32(&self) -> Result<std::borrow::Cow<'_, [f32]>> {
        if let Some(samples) = self.samples.elements::<f32>() {
            return Ok(samples.into());
        }
        let scale = |sample: i16| f32::from(sample) / 32_768.0;
        let bytes = self.samples.bytes();
        let mut out = room(self.samples.len())?;
        match self.samples.elements::<i16>() {
            Some(samples) => out.extend(samples.iter().map(|&s| scale(s))),
            // Memory from outside may be misaligned for its type; then it is read bytewise.
            None if self.samples.dtype == DType::F32 => {
                let read = |b: &[u8]| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
                out.extend(bytes.chunks_exact(4).map(read));
            }
            None => {
                let read = |b: &[u8]| scale(i16::from_ne_bytes([b[0], b[1]]));
                out.extend(bytes.chunks_exact(2).map(read));
            }
        }
        Ok(out.into())
    }
}

/// What the bytes of a pixel mean, named as FFmpeg and PyAV do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Brightness alone.
    Gray,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Red, green, blue, alpha.
    Rgba,
    /// Blue, green, red, alpha.
    Bgra,
}

impl PixelFormat {
    /// All there are.
    pub const ALL: [PixelFormat; 5] = [
        PixelFormat::Gray,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Rgba,
        PixelFormat::Bgra,
    ];

    /// The format with this name.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if there is none, with the names that there are.
    pub fn named(name: &str) -> Result<Self> {
        let known = PixelFormat::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| {
            let names = PixelFormat::ALL.map(PixelFormat::name).join(", ");
            Error::new(Code::Argument, format!("there is no pixel format {name:?}"))
                .hint(format!("known are: {names}"))
        })
    }

    /// FFmpeg's name.
    pub fn name(self) -> &'static str {
        match self {
            PixelFormat::Gray => "gray",
            PixelFormat::Rgb24 => "rgb24",
            PixelFormat::Bgr24 => "bgr24",
            PixelFormat::Rgba => "rgba",
            PixelFormat::Bgra => "bgra",
        }
    }

    /// Bytes of a pixel.
    pub fn channels(self) -> usize {
        match self {
            PixelFormat::Gray => 1,
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => 3,
            PixelFormat::Rgba | PixelFormat::Bgra => 4,
        }
    }
}

/// An image: rows of pixels from top to bottom, and what their bytes mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pixels: Tensor,
    format: PixelFormat,
    pts_us: Option<i64>,
}

impl Frame {
    /// The most pixels that a side may have.
    pub const MAX_SIDE: i64 = 65_536;

    /// A frame of pixels of shape (height, width, channels), or (height, width) if the format has
    /// one channel; uint8.
    ///
    /// `pts_us` is the presentation time in microseconds.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for another shape or type, channels that are not the format's, or a side
    /// outside 1..=65,536.
    pub fn new(pixels: Tensor, format: PixelFormat, pts_us: Option<i64>) -> Result<Self> {
        let wrong = |why: String| Err(Error::new(Code::Argument, why));
        if pixels.dtype != DType::U8 {
            return wrong(format!("pixels are uint8, not {}", pixels.dtype.name()));
        }
        let (height, width, channels) = match *pixels.shape() {
            [height, width] => (height, width, 1),
            [height, width, channels] => (height, width, channels),
            ref shape => {
                return wrong(format!(
                    "pixels have the shape (height, width, channels) or (height, width), \
                     not {shape:?}"
                ));
            }
        };
        if channels != format.channels() as i64 {
            return wrong(format!(
                "{} has {} channels, not {channels}",
                format.name(),
                format.channels()
            ));
        }
        for (name, side) in [("height", height), ("width", width)] {
            if !(1..=Frame::MAX_SIDE).contains(&side) {
                return wrong(format!(
                    "the {name} of a frame is 1 to {} pixels, not {side}",
                    Frame::MAX_SIDE
                ));
            }
        }
        Ok(Frame { pixels, format, pts_us })
    }

    /// The pixels: (height, width, channels) or (height, width).
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// What their bytes mean.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Presentation time in microseconds.
    pub fn pts_us(&self) -> Option<i64> {
        self.pts_us
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.pixels.shape()[0] as usize
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.pixels.shape()[1] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(shape: &[i64]) -> Tensor {
        let elements: i64 = shape.iter().product();
        Tensor::from_vec(vec![7u8; elements as usize], shape)
    }

    #[test]
    fn a_frame_has_the_shape_of_its_format() {
        for format in PixelFormat::ALL {
            assert_eq!(PixelFormat::named(format.name()).unwrap(), format);
            let shape = [2, 3, format.channels() as i64];
            let frame = Frame::new(pixels(&shape), format, Some(5)).unwrap();
            assert_eq!((frame.height(), frame.width(), frame.pts_us()), (2, 3, Some(5)));
            assert_eq!((frame.pixels().shape(), frame.format()), (&shape[..], format));
            let flat = Frame::new(pixels(&[2, 3]), format, None);
            assert_eq!(flat.is_ok(), format == PixelFormat::Gray);
        }
        let error = PixelFormat::named("rgb").unwrap_err();
        assert!(error.hint.as_deref().unwrap().contains("gray, rgb24, bgr24, rgba, bgra"));
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (tensor, told) in [
            (pixels(&[4]), "not [4]"),
            (pixels(&[1, 1, 1, 3]), "not [1, 1, 1, 3]"),
            (pixels(&[2, 3, 4]), "rgb24 has 3 channels, not 4"),
            (pixels(&[0, 3, 3]), "the height of a frame is 1 to 65536 pixels, not 0"),
            (pixels(&[3, 0, 3]), "the width of a frame is 1 to 65536 pixels, not 0"),
            (pixels(&[65_537, 1, 3]), "not 65537"),
            (pixels(&[1, 65_537, 3]), "not 65537"),
            (Tensor::from_vec(vec![0f32; 3], &[1, 1, 3]), "pixels are uint8, not float32"),
        ] {
            let error = Frame::new(tensor, PixelFormat::Rgb24, None).unwrap_err();
            assert!(error.message.contains(told), "{told}: {}", error.message);
            assert_eq!(error.code, Code::Argument);
        }
        assert!(Frame::new(pixels(&[65_536, 1]), PixelFormat::Gray, None).is_ok());
    }

    #[test]
    fn a_list_of_floats_is_as_any_other() {
        let floats = vec![0.5, -0.0, f64::NEG_INFINITY, 1e300];
        let array = Tensor::from_vec(floats.clone(), &[4]);
        let list = Value::list_of_floats(array.clone().labelled(7)).unwrap();
        let plain = Value::list(floats.into_iter().map(Value::Float).collect());
        assert_eq!((list.depth(), list.weight()), (plain.depth(), plain.weight()));
        let (Value::List(a), Value::List(b)) = (&list, &plain) else { unreachable!() };
        assert!(a.len() == 4 && !a.is_empty());
        assert!(matches!(&a.0, Items::Floats { values, .. } if values.get().is_none()));
        assert!(a.floats().is_some_and(|floats| **floats == array && floats.label() == 0));
        assert!(b.floats().is_none());
        assert_eq!(list, plain);
        assert_eq!(format!("{list:?}"), format!("{plain:?}"));
        let values = [list, plain].map(|list| match list {
            Value::List(list) => Vec::from(Arc::into_inner(list).unwrap()),
            other => panic!("{other:?}"),
        });
        assert_eq!(values[0], values[1]);
        let none = Value::list_of_floats(Tensor::from_vec(Vec::<f64>::new(), &[0])).unwrap();
        assert_eq!(none, Value::list(vec![]));
        for other in [Tensor::from_vec(vec![1.0f64], &[1, 1]), Tensor::from_vec(vec![1.0f32], &[1])]
        {
            assert!(Value::list_of_floats(other).is_none());
        }
    }

    #[test]
    fn only_the_last_reader_of_a_value_may_write_to_it() {
        let frame = || Frame::new(pixels(&[2, 3, 3]), PixelFormat::Rgb24, None).unwrap();
        let audio = || Audio::new(Tensor::from_vec(vec![0f32; 4], &[4]), 8_000, None).unwrap();
        for value in [
            Value::Tensor(Arc::new(pixels(&[4]))),
            Value::Audio(Arc::new(audio())),
            Value::Frame(Arc::new(frame())),
        ] {
            assert!(value.is_writable(), "{}", value.kind());
            let other = value.clone();
            assert!(!value.is_writable() && !other.is_writable());
            drop(other);
            assert!(value.is_writable());
            let part = value.as_array().unwrap().slice(0..1);
            assert!(!value.is_writable());
            drop(part);
            assert!(value.is_writable());
        }
        assert!(!Value::Null.is_writable() && Value::Null.as_array().is_none());
    }
}
