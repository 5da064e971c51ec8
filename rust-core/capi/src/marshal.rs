//! Values in Python's marshal format, version 2: what RM_MARSHAL stands for.
//!
//! CPython and PyPy write and read it in C and RPython, ten times as fast as JSON, and with every
//! type told apart. Version 2 has been the same since Python 2.5. Of it this takes None, bool, int,
//! float, str, list, tuple and dict with str keys; everything else is refused, bytes included,
//! since marshal writes every buffer as bytes. Objects with the key "$rm" mean what they mean in
//! JSON; and a list with the number of a binary part in there is a long list of floats, which are
//! that part's.

use remotemedia_runtime::memory::{comes_again, expect, no_memory};
use remotemedia_runtime::{Code, DType, Error, Limits, List, Map, Result, Tensor, Value};
use std::iter::once;
use std::sync::Arc;

const ESCAPE: &str = "$rm";

/// From how many floats on a list of nothing else is written as a binary part.
const LONG: usize = 8192;

/// Tensors and bytes of up to so many bytes can stand in the text itself: to copy them costs less
/// than a view that keeps memory alive.
pub const SMALL: usize = 16 << 10;

fn refuse(why: impl Into<String>) -> Error {
    Error::new(Code::Argument, why)
}

/// Reads a value; `parts` are what its references mean. Without them no dict is special.
pub fn read(bytes: &[u8], parts: Option<&[Value]>, max_depth: usize) -> Result<Value> {
    let mut reader = Reader::new(bytes, parts);
    let value = reader.value(max_depth, false)?;
    reader.end()?;
    Ok(value)
}

pub struct Reader<'a> {
    rest: &'a [u8],
    parts: Option<&'a [Value]>,
    /// How many entries there may still be in lists: no more than there are bytes.
    entries: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], parts: Option<&'a [Value]>) -> Self {
        // The text itself, which Python gives double the room when it is full, and what is made of it.
        comes_again(bytes.len().saturating_mul(4));
        Reader { rest: bytes, parts, entries: bytes.len() }
    }

    /// That was all.
    pub fn end(&self) -> Result<()> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(refuse("there is something behind the marshalled value")),
        }
    }

    /// The entries of a list, each up to `depth` levels deep; None if there is no list next.
    pub fn list(&mut self, depth: usize) -> Result<Option<Vec<Value>>> {
        match self.opens()? {
            Some(count) => self.entries(count, depth).map(Some),
            None => Ok(None),
        }
    }

    /// How many entries the list has that comes next.
    pub fn opens(&mut self) -> Result<Option<usize>> {
        match self.rest.first() {
            Some(b'[' | b'(') => {
                self.take(1)?;
                self.count().map(Some)
            }
            _ => Ok(None),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| refuse("the marshalled value ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn count(&mut self) -> Result<usize> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        match count <= self.rest.len() {
            true => Ok(count),
            false => Err(refuse("the marshalled value ends too early")),
        }
    }

    fn text(&mut self) -> Result<Arc<str>> {
        let len = self.count()?;
        let text = std::str::from_utf8(self.take(len)?);
        expect(len)?;
        text.map(Arc::from).map_err(|_| Error::new(Code::Utf8, "text with a lone surrogate"))
    }

    fn entries(&mut self, count: usize, depth: usize) -> Result<Vec<Value>> {
        // Every entry has a byte of its own, so counts cannot make us allocate more than came,
        // however they are nested.
        self.entries = self
            .entries
            .checked_sub(count)
            .ok_or_else(|| refuse("the marshalled value ends too early"))?;
        let mut items = Vec::with_capacity(count);
        while items.len() < count {
            self.floats(&mut items, count);
            if items.len() < count {
                items.push(self.value(depth, false)?);
            }
        }
        Ok(items)
    }

    /// A value up to `depth` levels deep. `literal`: a dict here is taken as it stands.
    pub fn value(&mut self, depth: usize, literal: bool) -> Result<Value> {
        let [kind] = self.array()?;
        let below = || {
            depth
                .checked_sub(1)
                .ok_or_else(|| Error::new(Code::Limit, "the value is nested deeper than the limit"))
        };
        Ok(match kind {
            b'N' => Value::Null,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            b'i' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'l' => self.long()?,
            b'g' => Value::Float(f64::from_le_bytes(self.array()?)),
            b'u' => Value::Text(self.text()?),
            b'[' | b'(' => {
                let depth = below()?;
                let count = self.count()?;
                match self.floats_alone(count)? {
                    Some(list) => list,
                    None => Value::list(self.entries(count, depth)?),
                }
            }
            b'{' => self.dict(below()?, literal)?,
            other => {
                let message = format!("marshal type {:?} is not a value here", char::from(other));
                return Err(refuse(message));
            }
        })
    }

    /// The long list of so many entries that comes next, if they are all floats. Nothing is made for
    /// each of them.
    fn floats_alone(&mut self, count: usize) -> Result<Option<Value>> {
        let (entries, _) = self.rest.as_chunks::<9>();
        if count < LONG || count > entries.len() {
            return Ok(None);
        }
        let mut others = 0;
        let array = Tensor::build(&[count as i64], |places: &mut [f64]| {
            for (place, &[kind, a, b, c, d, e, f, g, h]) in places.iter_mut().zip(entries) {
                others |= kind ^ b'g';
                *place = f64::from_le_bytes([a, b, c, d, e, f, g, h]);
            }
            Ok(())
        })?;
        if others != 0 {
            return Ok(None);
        }
        self.rest = &self.rest[9 * count..];
        Ok(Value::list_of_floats(array))
    }

    /// Reads the floats that come next, until there are `count` items: lists of nothing else are
    /// common, and long.
    fn floats(&mut self, items: &mut Vec<Value>, count: usize) {
        if self.rest.first() != Some(&b'g') {
            return;
        }
        let (entries, _) = self.rest.as_chunks::<9>();
        let most = entries.len().min(count - items.len());
        let floats = entries[..most].iter().take_while(|entry| entry[0] == b'g').count();
        // Of known length, so that nothing is checked for each.
        items.extend(entries[..floats].iter().map(|&[_, a, b, c, d, e, f, g, h]| {
            Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h]))
        }));
        self.rest = &self.rest[9 * floats..];
    }

    fn long(&mut self) -> Result<Value> {
        let count = i32::from_le_bytes(self.array()?);
        let mut number = 0i128;
        if count.unsigned_abs() > 5 {
            return Err(refuse("an integer does not fit in 64 bits"));
        }
        for place in 0..count.unsigned_abs() {
            let digit = i128::from(u16::from_le_bytes(self.array()?));
            if digit > 0x7fff {
                return Err(refuse("a digit of an integer has more than 15 bits"));
            }
            number |= digit << (15 * place);
        }
        let number = if count < 0 { -number } else { number };
        Value::int(number).ok_or_else(|| refuse("an integer does not fit in 64 bits"))
    }

    fn dict(&mut self, depth: usize, literal: bool) -> Result<Value> {
        let mut map = Map::new();
        loop {
            match self.array()? {
                [b'0'] => return Ok(Value::Map(Arc::new(map))),
                [b'u'] => {}
                _ => return Err(refuse("a dict key is not text")),
            }
            let key = self.text()?;
            if &*key == ESCAPE
                && !literal
                && let Some(parts) = self.parts
            {
                let value = self.escaped(depth, parts)?;
                return match map.is_empty() && self.array()? == [b'0'] {
                    true => Ok(value),
                    false => Err(refuse("\"$rm\" does not stand alone")),
                };
            }
            let value = self.value(depth, false)?;
            if let (at, Some(_)) = map.insert_full(key, value) {
                let key = map.get_index(at).map_or("", |(key, _)| key);
                return Err(refuse(format!("the key {key:?} stands twice in one dict")));
            }
        }
    }

    /// What stands behind the key of the escape.
    fn escaped(&mut self, depth: usize, parts: &[Value]) -> Result<Value> {
        // The wrapper is ours and does not count as a level of the user's.
        match self.value(depth + 1, true)? {
            Value::Int(index) => {
                let part = usize::try_from(index).ok().and_then(|index| parts.get(index));
                part.cloned().ok_or_else(|| refuse(format!("there is no binary part {index}")))
            }
            map @ Value::Map(_) => Ok(map),
            Value::List(list) => match list[..] {
                [Value::Int(index)] => {
                    let part = usize::try_from(index).ok().and_then(|index| parts.get(index));
                    let list = part.and_then(|part| match part {
                        Value::Tensor(array) => Value::list_of_floats(Tensor::clone(array)),
                        _ => None,
                    });
                    list.ok_or_else(|| {
                        refuse(format!("the binary part {index} is no array of float64"))
                    })
                }
                _ => Err(refuse("\"$rm\" stands for something unknown")),
            },
            _ => Err(refuse("\"$rm\" stands for something unknown")),
        }
    }
}

/// Writes a value; its binary parts are appended to `parts`. Tells as well whether any object with
/// the key of the escape is in the text.
///
/// # Errors
/// `RM_E_LIMIT` if it is nested deeper than twice [`Limits::VALUE_DEPTH`].
pub fn write(value: &Value, parts: &mut Vec<Value>) -> Result<(Vec<u8>, bool)> {
    let mut writer = Writer::new(false, 64, parts);
    writer.value(value)?;
    Ok(writer.done())
}

/// The same for a pair of a value and of bytes, which are these numbers, each in 8 bytes: the only
/// bytes that are written as such.
///
/// # Errors
/// As [`write`].
pub fn write_pair(
    value: &Value,
    numbers: &[u64],
    parts: &mut Vec<Value>,
) -> Result<(Vec<u8>, bool)> {
    let room = usize::max(512, 64 + 8 * numbers.len());
    let mut writer = Writer::new(false, room, parts);
    writer.out.extend(b"(\x02\0\0\0");
    writer.value(value)?;
    writer.out.push(b's');
    writer.count(8 * numbers.len())?;
    writer.out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Ok(writer.done())
}

/// A long list of nothing but floats as an array; None for any other list.
fn floats(list: &List) -> Result<Option<Arc<Tensor>>> {
    if list.len() < LONG {
        return Ok(None);
    }
    if let Some(floats) = list.floats() {
        return Ok(Some(floats.clone()));
    }
    if !list.iter().all(|item| matches!(item, Value::Float(_))) {
        return Ok(None);
    }
    let array = Tensor::build(&[list.len() as i64], |places: &mut [f64]| {
        for (place, item) in places.iter_mut().zip(list.iter()) {
            if let Value::Float(value) = item {
                *place = *value;
            }
        }
        Ok(())
    })?;
    Ok(Some(Arc::new(array)))
}

/// The tensor that a value is, if it may stand in a text; one that was lent stands there as its
/// label.
pub fn small(value: &Value) -> Option<&Tensor> {
    match value {
        Value::Tensor(tensor) if tensor.label() == 0 && tensor.bytes().len() <= SMALL => {
            Some(tensor)
        }
        _ => None,
    }
}

/// Whether tensors of one dimension or more can be the rows of one.
pub fn are_alike(tensors: &[&Tensor]) -> bool {
    let Some((first, rest)) = tensors.split_first() else { return false };
    let alike = |other: &&Tensor| other.dtype() == first.dtype() && other.shape() == first.shape();
    !first.is_empty() && !first.shape().is_empty() && rest.iter().all(alike)
}

/// Writes a text piece by piece.
pub struct Writer<'a> {
    out: Vec<u8>,
    parts: &'a mut Vec<Value>,
    /// Whether small tensors and bytes stand in the text.
    inline: bool,
    escaped: bool,
}

impl<'a> Writer<'a> {
    /// The text has room for so many bytes at first. Binary parts are appended to `parts`. `inline`: bytes of up to 16 KiB stand in the text as
    /// such, and tensors as a tuple of their element type, of their bytes, and of their shape unless
    /// they have one dimension.
    pub fn new(inline: bool, room: usize, parts: &'a mut Vec<Value>) -> Self {
        Writer { out: Vec::with_capacity(room), parts, inline, escaped: false }
    }

    /// The text, and whether there is anything in it that stands for something else.
    pub fn done(self) -> (Vec<u8>, bool) {
        (self.out, self.escaped)
    }

    /// A list begins, of so many entries.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if those are more than a list can have.
    pub fn open(&mut self, count: usize) -> Result<()> {
        self.out.push(b'[');
        self.count(count)
    }

    pub fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => self.small(small),
            Err(_) => self.long(value.into()),
        }
    }

    /// # Errors
    /// `RM_E_LIMIT` if it is nested deeper than twice [`Limits::VALUE_DEPTH`].
    pub fn value(&mut self, value: &Value) -> Result<()> {
        self.at(value, 2 * Limits::VALUE_DEPTH)
    }

    fn at(&mut self, value: &Value, depth: usize) -> Result<()> {
        let below = || {
            depth.checked_sub(1).ok_or_else(|| {
                let levels = 2 * Limits::VALUE_DEPTH;
                Error::new(Code::Limit, format!("the result is nested deeper than {levels} levels"))
            })
        };
        match value {
            Value::Null => self.out.push(b'N'),
            Value::Bool(value) => self.out.push(if *value { b'T' } else { b'F' }),
            Value::Int(value) => self.int(*value),
            Value::UInt(value) => self.long((*value).into()),
            Value::Float(value) => self.float(*value),
            Value::Text(text) => self.text(text)?,
            Value::List(items) => {
                let depth = below()?;
                if let Some(array) = floats(items)? {
                    self.escape();
                    self.out.extend(b"[\x01\0\0\0");
                    self.small(self.parts.len() as i32);
                    self.out.push(b'0');
                    self.parts.push(Value::Tensor(array));
                    return Ok(());
                }
                self.open(items.len())?;
                // A float takes 9 bytes. Most values take no more, so this is room for a long list.
                let room = items.len().saturating_mul(9);
                self.out.try_reserve(room).map_err(|_| no_memory(room))?;
                for item in items.iter() {
                    match item {
                        Value::Float(value) => self.float(*value),
                        item => self.at(item, depth)?,
                    }
                }
            }
            Value::Map(map) => {
                let depth = below()?;
                let escape = map.contains_key(ESCAPE);
                if escape {
                    self.escape();
                }
                self.out.push(b'{');
                for (key, item) in map.iter() {
                    self.text(key)?;
                    self.at(item, depth)?;
                }
                self.out.push(b'0');
                if escape {
                    self.out.push(b'0');
                }
            }
            Value::Tensor(tensor) if tensor.label() != 0 => {
                self.escape();
                // Below 2^31, as was checked where it came in.
                self.small(-(tensor.label() as i32));
                self.out.push(b'0');
            }
            Value::Bytes(bytes) if self.inline && bytes.bytes().len() <= SMALL => {
                self.bytes(once(bytes.bytes()))?;
            }
            Value::Tensor(tensor) if self.inline && small(value).is_some() => {
                self.tensor(tensor.dtype(), tensor.shape(), &[tensor])?;
            }
            Value::Bytes(_) | Value::Tensor(_) | Value::Audio(_) | Value::Frame(_) => {
                self.escape();
                self.small(self.parts.len() as i32);
                self.out.push(b'0');
                self.parts.push(value.clone());
            }
        }
        Ok(())
    }

    /// Tensors that are alike, as the rows of one.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if they are too many.
    pub fn rows(&mut self, rows: &[&Tensor]) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let shape = [&[rows.len() as i64], first.shape()].concat();
        self.tensor(first.dtype(), &shape, rows)
    }

    /// A tensor that stands in the text, whose bytes are those of these, one after the other.
    fn tensor(&mut self, dtype: DType, shape: &[i64], pieces: &[&Tensor]) -> Result<()> {
        self.escaped = true;
        self.out.push(b'(');
        self.count(if shape.len() == 1 { 2 } else { 3 })?;
        self.small(i32::from(dtype.code) << 8 | i32::from(dtype.bits));
        self.bytes(pieces.iter().map(|piece| piece.bytes()))?;
        if shape.len() != 1 {
            self.out.push(b'(');
            self.count(shape.len())?;
            shape.iter().for_each(|&size| self.int(size));
        }
        Ok(())
    }

    /// The beginning of an object whose only key is that of the escape.
    fn escape(&mut self) {
        self.escaped = true;
        self.out.extend(b"{u\x03\0\0\0$rm");
    }

    fn float(&mut self, value: f64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.out.extend([b'g', a, b, c, d, e, f, g, h]);
    }

    fn small(&mut self, number: i32) {
        self.out.push(b'i');
        self.out.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: i128) {
        let mut rest = number.unsigned_abs();
        let count = (128 - rest.leading_zeros()).div_ceil(15) as i32;
        self.out.push(b'l');
        self.out.extend((if number < 0 { -count } else { count }).to_le_bytes());
        while rest > 0 {
            self.out.extend(((rest & 0x7fff) as u16).to_le_bytes());
            rest >>= 15;
        }
    }

    fn count(&mut self, len: usize) -> Result<()> {
        let count = i32::try_from(len)
            .map_err(|_| Error::new(Code::Limit, "more than 2**31 entries in one value"))?;
        self.out.extend(count.to_le_bytes());
        Ok(())
    }

    /// Bytes, which come in pieces.
    fn bytes<'b>(&mut self, pieces: impl Iterator<Item = &'b [u8]> + Clone) -> Result<()> {
        let len = pieces.clone().map(<[u8]>::len).sum();
        self.out.push(b's');
        self.count(len)?;
        self.out.try_reserve(len).map_err(|_| no_memory(len))?;
        pieces.for_each(|piece| self.out.extend(piece));
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.out.push(b'u');
        self.count(text.len())?;
        self.out.try_reserve(text.len()).map_err(|_| no_memory(text.len()))?;
        self.out.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remotemedia_runtime::Buffer;

    #[test]
    fn what_is_written_is_read() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-1),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::UInt(u64::MAX),
            Value::Float(-0.0),
            Value::text("e\u{301}\0"),
            Value::list(vec![Value::list(vec![]), Value::map([("", Value::Null)])]),
            Value::map([("$rm", Value::Int(0))]),
            Value::map([("a", Value::map([("$rm", Value::map([("$rm", Value::Null)]))]))]),
        ];
        let value = Value::list(values.to_vec());
        let mut parts = Vec::new();
        let (bytes, escaped) = write(&value, &mut parts).unwrap();
        assert!(escaped);
        assert_eq!(format!("{:?}", read(&bytes, Some(&parts), 100).unwrap()), format!("{value:?}"));
        let plain = format!("{:?}", read(&bytes, None, 100).unwrap());
        assert_ne!(plain, format!("{value:?}"), "escapes mean nothing there");
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end], Some(&parts), 100).is_err(), "{end}");
        }
    }

    #[test]
    fn long_lists_of_floats_are_arrays() {
        for (len, last, long) in [
            (LONG, Value::Float(-0.0), 1),
            (LONG - 1, Value::Float(f64::NAN), 0),
            (LONG, Value::Int(1), 0),
        ] {
            let mut items: Vec<_> = (1..len).map(|n| Value::Float(1.0 / n as f64)).collect();
            items.push(last);
            let value = Value::list(vec![Value::Null, Value::list(items)]);
            let mut parts = Vec::new();
            let (bytes, escaped) = write(&value, &mut parts).unwrap();
            assert_eq!((parts.len(), escaped), (long, long == 1));
            let back = read(&bytes, Some(&parts), 100).unwrap();
            assert_eq!(format!("{back:?}"), format!("{value:?}"));
        }
        let one = Tensor::new(DType::F32, &[1], Buffer::copy_of(&[0; 4]).unwrap()).unwrap();
        let parts = [Value::Tensor(Arc::new(one))];
        for index in [b"i\0\0\0\0", b"i\x01\0\0\0"] {
            let bytes = [b"{u\x03\0\0\0$rm[\x01\0\0\0", &index[..], b"0"].concat();
            assert!(read(&bytes, Some(&parts), 100).is_err());
        }
    }

    #[test]
    fn a_long_list_of_floats_is_read_as_an_array() {
        let float = |n: usize| [b"g", &f64::to_le_bytes(1.0 / n as f64)[..]].concat();
        let text = |entries: &[Vec<u8>]| {
            let count = (entries.len() as u32).to_le_bytes();
            [b"[", &count[..], &entries.concat()].concat()
        };
        let floats: Vec<_> = (0..LONG).map(float).collect();
        let is_array = |value: &Value| match value {
            Value::List(list) => list.floats().is_some(),
            other => panic!("{other:?}"),
        };
        let read_plain = |bytes: &[u8], depth| read(bytes, None, depth);
        let long = read_plain(&text(&floats), 1).unwrap();
        assert!(is_array(&long));
        let expected = (0..LONG).map(|n| Value::Float(1.0 / n as f64)).collect();
        assert_eq!(long, Value::list(expected));
        assert!(!is_array(&read_plain(&text(&floats[1..]), 1).unwrap()), "it is not long");
        for place in [0, LONG / 2, LONG - 1] {
            for other in
                [&b"i\x01\0\0\0"[..], b"T", b"u\x04\0\0\0four", b"u\x10\0\0\0gggggggggggggggg"]
            {
                let mut entries = floats.clone();
                entries[place] = other.to_vec();
                let mixed = read_plain(&text(&entries), 1).unwrap();
                assert!(!is_array(&mixed));
                let Value::List(list) = mixed else { unreachable!() };
                assert!(list.len() == LONG && !matches!(list[place], Value::Float(_)));
                let before = if place == 0 { LONG - 1 } else { place - 1 };
                assert_eq!(list[before], Value::Float(1.0 / before as f64));
            }
        }
        // The levels and the bytes are those of any other list.
        assert_eq!(read_plain(&text(&floats), 0).unwrap_err().code, Code::Limit);
        let whole = text(&floats);
        for end in [whole.len() - 1, whole.len() - 9, whole.len() / 2] {
            assert!(read_plain(&whole[..end], 1).is_err(), "{end}");
        }
        assert!(read_plain(&[&whole[..], b"N"].concat(), 1).is_err());
        let two = text(&[whole.clone(), whole]);
        let Value::List(two) = read_plain(&two, 2).unwrap() else { panic!("a list") };
        assert!(two.iter().all(is_array) && two.len() == 2);
    }

    #[test]
    fn the_escape_is_no_level() {
        let wrap = |inner, _| Value::map([("$rm", inner)]);
        for (levels, good) in [(100, true), (101, false)] {
            let value = (0..levels).fold(Value::Null, wrap);
            let (bytes, _) = write(&value, &mut Vec::new()).unwrap();
            assert_eq!(read(&bytes, Some(&[]), 100).ok(), good.then_some(value));
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        for bytes in [
            &b"s\x01\0\0\0x"[..],
            b"c",
            b"y",
            b"<\0\0\0\0",
            b"l\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0",
            b"[\xff\xff\xff\xff",
            b"[\xff\xff\xff\x7f",
            b"{N0",
            b"{u\x03\0\0\0$rmi\0\0\0\0",
            b"{u\x03\0\0\0$rmi\0\0\0\x000",
            b"NN",
            b"l\x01\0\0\0\0\x80",
            b"{u\x01\0\0\0aNu\x01\0\0\0aN0",
            b"{u\x01\0\0\0aNu\x03\0\0\0$rmi\0\0\0\x000",
            b"{u\x03\0\0\0$rmi\xff\xff\xff\xff0",
            b"u\x03\0\0\0\xed\xa0\x80",
        ] {
            assert!(read(bytes, Some(&[]), 100).is_err(), "{bytes:?}");
        }
        // A hundred lists within each other, each of which claims all the bytes that there are.
        let greedy = [b"[\0\0\0\x01".repeat(90), vec![b'N'; 1 << 24]].concat();
        assert!(read(&greedy, Some(&[]), 100).is_err());
        let deep = [b"[\x01\0\0\0".repeat(101), b"N".to_vec()].concat();
        assert_eq!(read(&deep, Some(&[]), 100).unwrap_err().code, Code::Limit);
    }
}
