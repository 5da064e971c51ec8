//! Values as JSON text with the binary parts beside it.
//!
//! JSON has no bytes, arrays of numbers, NaN or infinities. Those stand in the text as an object
//! with the single key `"$rm"`:
//!
//! | text | value |
//! |---|---|
//! | `{"$rm": 3}` | the binary part number 3 of the list beside the text |
//! | `{"$rm": "NaN"}`, `{"$rm": "Infinity"}`, `{"$rm": "-Infinity"}` | that float |
//! | `{"$rm": {...}}` | the object inside as it stands: how a user's object that has a key `"$rm"` is written |
//!
//! So the text is plain JSON for every parser, and no object of a user's is ever special.

use crate::error::{Code, Error, Problems, Result};
use crate::limits::Limits;
use crate::memory::{expect, no_memory};
use crate::value::{Map, Value};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{self, Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

const ESCAPE: &str = "$rm";

/// Reads JSON text (UTF-8, RFC 8259) into a value.
///
/// # Errors
/// `RM_E_JSON` for text that is not JSON, an integer beyond 64 bits, a key that stands twice in
/// an object, or a `"$rm"` that means nothing; `RM_E_LIMIT` for nesting beyond `max_depth`. Each
/// with a JSON pointer where there is a place to point to.
pub fn parse(text: &[u8], children: &[Value], max_depth: usize) -> Result<Value> {
    let reader = Reader::new(children, max_depth, false);
    reader.read(text)
}

/// Like [`parse`], but escapes mean nothing and doubled keys are handed back as problems, so that
/// a manifest's reader can report them together with the others.
pub(crate) fn parse_plain(text: &[u8], max_depth: usize) -> Result<(Value, Problems)> {
    let reader = Reader::new(&[], max_depth, true);
    let value = reader.read(text)?;
    Ok((value, reader.doubled.into_inner()))
}

/// Appends a segment to a JSON pointer (RFC 6901).
pub fn push_pointer(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
}

/// A place in the text, on the stack of the reader.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn pointer(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Key(parent, key) => {
                let mut pointer = parent.pointer();
                push_pointer(&mut pointer, key);
                pointer
            }
            Path::Index(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
}

struct Reader<'c> {
    children: &'c [Value],
    max_depth: usize,
    plain: bool,
    /// Keys that stand twice.
    doubled: RefCell<Problems>,
    /// What the visitors found wrong; serde's own errors carry no more than a text.
    fault: RefCell<Option<Error>>,
    /// Whether a number was read as a float that may have been written as an integer.
    large: Cell<bool>,
}

impl<'c> Reader<'c> {
    fn new(children: &'c [Value], max_depth: usize, plain: bool) -> Self {
        Reader {
            children,
            max_depth: max_depth.min(2 * Limits::VALUE_DEPTH),
            plain,
            doubled: RefCell::default(),
            fault: RefCell::default(),
            large: Cell::new(false),
        }
    }

    fn read(&self, text: &[u8]) -> Result<Value> {
        let mut source = serde_json::Deserializer::from_slice(text);
        // Sound since every list and map is counted before it is entered; with "$rm" around each
        // object that makes at most twice `max_depth` levels of the text.
        source.disable_recursion_limit();
        let seed = Seed { reader: self, path: &Path::Root, depth: 0, literal: false };
        let read = seed.deserialize(&mut source).and_then(|value| source.end().map(|()| value));
        let value = read.map_err(|e| {
            let fault = self.fault.borrow_mut().take();
            fault.unwrap_or_else(|| Error::new(Code::Json, format!("the text is not JSON: {e}")))
        })?;
        if self.large.get()
            && let Some(digits) = large_integer(text)
        {
            return Err(Error::new(
                Code::Json,
                format!("the integer {} does not fit in 64 bits", shorten(digits)),
            )
            .hint("write it as a float, or as text"));
        }
        Ok(value)
    }

    fn fail<E: de::Error>(&self, error: Error) -> E {
        *self.fault.borrow_mut() = Some(error);
        E::custom("see fault")
    }

    fn too_deep(&self, path: &Path) -> Error {
        let message = format!("the JSON is nested deeper than {} levels", self.max_depth);
        Error::new(Code::Limit, message).at(path.pointer())
    }
}

/// The first integer literal in the text that fits neither i64 nor u64. The text is known to be
/// JSON.
fn large_integer(text: &[u8]) -> Option<&str> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < text.len()
                    && matches!(text[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                {
                    at += 1;
                }
                let literal = std::str::from_utf8(&text[start..at]).ok()?;
                let integer = !literal.contains(['.', 'e', 'E']);
                if integer && literal.parse::<i64>().is_err() && literal.parse::<u64>().is_err() {
                    return Some(literal);
                }
            }
            _ => at += 1,
        }
    }
    None
}

fn shorten(digits: &str) -> Cow<'_, str> {
    match digits.len() {
        0..=40 => digits.into(),
        length => format!("{}... ({length} digits)", &digits[..20]).into(),
    }
}

#[derive(Clone, Copy)]
struct Seed<'a, 'c> {
    reader: &'a Reader<'c>,
    path: &'a Path<'a>,
    depth: usize,
    /// Whether an object here is taken as it stands, even with the key of the escape.
    literal: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl Seed<'_, '_> {
    fn check_depth<E: de::Error>(&self) -> Result<(), E> {
        if self.depth < self.reader.max_depth {
            Ok(())
        } else {
            Err(self.reader.fail(self.reader.too_deep(self.path)))
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::UInt(value), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= 9.2e18 {
            self.reader.large.set(true);
        }
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        expect(value.len()).map_err(|error| self.reader.fail(error))?;
        Ok(Value::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        loop {
            let path = Path::Index(self.path, list.len());
            let seed = Seed { path: &path, depth: self.depth + 1, literal: false, ..self };
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::list(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let reader = self.reader;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<Cow<str>>()? {
            let path = Path::Key(self.path, &key);
            let below = Seed { path: &path, depth: self.depth + 1, literal: false, ..self };
            if key == ESCAPE && !self.literal && !reader.plain {
                let value =
                    entries.next_value_seed(EscapeSeed(Seed { path: self.path, ..below }))?;
                let alone = map.is_empty() && entries.next_key::<de::IgnoredAny>()?.is_none();
                return if alone { Ok(value) } else { Err(reader.fail(misused(self.path))) };
            }
            let value = entries.next_value_seed(below)?;
            if map.insert(Arc::from(&*key), value).is_some() {
                let message = format!("the key \"{key}\" stands twice in one object");
                let code = if reader.plain { Code::Manifest } else { Code::Json };
                let error = Error::new(code, message).at(path.pointer());
                let error = error.hint("remove one of the two");
                if !reader.plain {
                    return Err(reader.fail(error));
                }
                reader.doubled.borrow_mut().push(error);
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }
}

/// Reads what stands behind the key of the escape.
struct EscapeSeed<'a, 'c>(Seed<'a, 'c>);

fn misused(path: &Path) -> Error {
    let message = "\"$rm\" stands for a binary part, a float that JSON lacks or an escaped object";
    Error::new(Code::Json, message)
        .at(path.pointer())
        .hint("write an object of your own that has this key as {\"$rm\": {...}}")
}

impl<'de> DeserializeSeed<'de> for EscapeSeed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EscapeSeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("what \"$rm\" stands for")
    }

    fn visit_u64<E: de::Error>(self, index: u64) -> Result<Value, E> {
        let Seed { reader, path, depth, .. } = self.0;
        let child = usize::try_from(index).ok().and_then(|index| reader.children.get(index));
        let Some(child) = child else {
            let held = reader.children.len();
            let message =
                format!("the text refers to binary part {index}, but there are {held} beside it");
            return Err(reader.fail(Error::new(Code::Json, message).at(path.pointer())));
        };
        // The object that refers to it does not count as a level.
        if depth - 1 + child.depth() > reader.max_depth {
            return Err(reader.fail(reader.too_deep(path)));
        }
        Ok(child.clone())
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Value, E> {
        match name {
            "NaN" => Ok(Value::Float(f64::NAN)),
            "Infinity" => Ok(Value::Float(f64::INFINITY)),
            "-Infinity" => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => Err(self.0.reader.fail(misused(self.0.path))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        // The wrapper is ours and does not count as a level of the user's.
        Seed { literal: true, depth: self.0.depth - 1, ..self.0 }.visit_map(entries)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Err(self.0.reader.fail(misused(self.0.path)))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Err(self.0.reader.fail(misused(self.0.path)))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Err(self.0.reader.fail(misused(self.0.path)))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.0.reader.fail(misused(self.0.path)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.0.reader.fail(misused(self.0.path)))
    }
}

/// Writes a value as JSON text; its binary parts are appended to `children`.
///
/// # Errors
/// `RM_E_LIMIT` if it is nested deeper than twice [`Limits::VALUE_DEPTH`]: nodes may wrap what
/// they are given, but not without end.
pub fn write(value: &Value, children: &mut Vec<Value>) -> Result<Vec<u8>> {
    let found = RefCell::new(std::mem::take(children));
    let mut text = Growing(Vec::with_capacity(64));
    let mut out = serde_json::Serializer::new(&mut text);
    let written = Writer { value, children: &found, depth: 0 }.serialize(&mut out);
    *children = found.into_inner();
    written.map_err(|error| {
        if error.is_io() {
            return no_memory(text.0.len());
        }
        let depth = 2 * Limits::VALUE_DEPTH;
        Error::new(Code::Limit, format!("the result is nested deeper than {depth} levels"))
    })?;
    Ok(text.0)
}

/// Text that fails to grow where there is not enough memory.
struct Growing(Vec<u8>);

impl std::io::Write for Growing {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        // One more for the NUL that C gets.
        self.0.try_reserve(more.len() + 1).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        self.0.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Writer<'a> {
    value: &'a Value,
    children: &'a RefCell<Vec<Value>>,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn below(self, value: &'a Value) -> Self {
        Writer { value, depth: self.depth + 1, ..self }
    }
}

impl Serialize for Writer<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if self.depth > 2 * Limits::VALUE_DEPTH {
            return Err(ser::Error::custom("too deep"));
        }
        match self.value {
            Value::Null => out.serialize_unit(),
            Value::Bool(value) => out.serialize_bool(*value),
            Value::Int(value) => out.serialize_i64(*value),
            Value::UInt(value) => out.serialize_u64(*value),
            Value::Float(value) if value.is_finite() => out.serialize_f64(*value),
            Value::Float(value) if value.is_nan() => escape(out, "NaN"),
            Value::Float(value) => escape(out, if *value > 0.0 { "Infinity" } else { "-Infinity" }),
            Value::Text(text) => out.serialize_str(text),
            Value::List(items) => out.collect_seq(items.iter().map(|item| self.below(item))),
            Value::Map(map) if map.contains_key(ESCAPE) => escape(out, Entries { map, at: *self }),
            Value::Map(map) => Entries { map, at: *self }.serialize(out),
            Value::Bytes(_) | Value::Tensor(_) | Value::Audio(_) | Value::Frame(_) => {
                let mut children = self.children.borrow_mut();
                children.push(self.value.clone());
                escape(out, children.len() - 1)
            }
        }
    }
}

struct Entries<'a> {
    map: &'a Map,
    at: Writer<'a>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.map.iter().map(|(key, value)| (&**key, self.at.below(value))))
    }
}

fn escape<S: Serializer>(out: S, content: impl Serialize) -> Result<S::Ok, S::Error> {
    let mut object = out.serialize_map(Some(1))?;
    object.serialize_entry(ESCAPE, &content)?;
    object.end()
}

/// The same value as plain JSON, for parameters: no binary parts, no NaN, no escapes.
pub(crate) fn to_plain(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::UInt(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => (&**text).into(),
        Value::List(items) => items.iter().map(to_plain).collect(),
        Value::Map(map) => {
            let entries = map.iter().map(|(key, value)| (key.to_string(), to_plain(value)));
            Json::Object(entries.collect())
        }
        Value::Bytes(_) | Value::Tensor(_) | Value::Audio(_) | Value::Frame(_) => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Buffer;

    fn read(text: &str) -> Result<Value> {
        parse(text.as_bytes(), &[], 100)
    }

    fn round(value: Value) -> String {
        let mut children = Vec::new();
        let text = write(&value, &mut children).unwrap();
        let back = parse(&text, &children, 100).unwrap();
        assert_eq!(format!("{value:?}"), format!("{back:?}"));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn scalars_keep_their_kind() {
        assert_eq!(round(Value::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(round(Value::UInt(u64::MAX)), "18446744073709551615");
        assert_eq!(round(Value::Float(1.0)), "1.0");
        assert_eq!(round(Value::Float(5e-324)), "5e-324");
        assert_eq!(round(Value::Float(f64::NAN)), r#"{"$rm":"NaN"}"#);
        assert_eq!(round(Value::Float(f64::NEG_INFINITY)), r#"{"$rm":"-Infinity"}"#);
    }

    #[test]
    fn no_object_of_a_users_is_special() {
        let inner = Value::map([("$rm", Value::Int(0))]);
        assert_eq!(round(inner.clone()), r#"{"$rm":{"$rm":0}}"#);
        round(Value::map([("$rm", inner.clone()), ("b", inner)]));
        round(Value::map([("$rm", Value::map([("a", Value::Null)]))]));
        round(Value::list(vec![
            Value::Bytes(Arc::new(Buffer::new(vec![1u8, 2]))),
            Value::text("x"),
        ]));
    }

    #[test]
    fn the_escape_is_no_level() {
        let deep = |n: usize| {
            let wrap = |inner, _| Value::map([("$rm", inner)]);
            (0..n).fold(Value::Null, wrap)
        };
        round(deep(100));
        let text = write(&deep(101), &mut Vec::new()).unwrap();
        let error = parse(&text, &[], 100).unwrap_err();
        assert_eq!((error.code, error.pointer.as_ref().unwrap().len()), (Code::Limit, 400));
        let endless = r#"{"$rm":"#.repeat(100_000);
        assert_eq!(read(&endless).unwrap_err().code, Code::Limit);
    }

    #[test]
    fn escapes_that_mean_nothing_are_errors_with_their_place() {
        for text in [
            r#"[{"$rm":"nan"}]"#,
            r#"[{"$rm":0,"a":1}]"#,
            r#"[{"a":1,"$rm":0}]"#,
            r#"[{"$rm":[]}]"#,
            r#"[{"$rm":null}]"#,
            r#"[{"$rm":-1}]"#,
            r#"[{"$rm":0}]"#,
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.code, error.pointer.as_deref()), (Code::Json, Some("/0")), "{text}");
        }
    }

    #[test]
    fn large_integers_doubled_keys_and_depth_are_errors() {
        assert!(read("18446744073709551616").unwrap_err().message.contains("64 bits"));
        assert!(read("-9223372036854775809").unwrap_err().message.contains("64 bits"));
        assert_eq!(read("1e300").unwrap(), Value::Float(1e300));
        let text = r#"["99999999999999999999", 1e19]"#;
        assert!(read(text).is_ok());
        let error = read(r#"{"a":{"b/":1,"b/":2}}"#).unwrap_err();
        assert_eq!(error.pointer.as_deref(), Some("/a/b~1"));
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(read(&deep(100)).is_ok());
        assert_eq!(read(&deep(101)).unwrap_err().code, Code::Limit);
        assert_eq!(read(&deep(1_000_000)).unwrap_err().code, Code::Limit);
    }
}
