//! Nodes that work on text.

use remotemedia_runtime::memory;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::schema::did_you_mean;
use remotemedia_runtime::{Context, Error, Instance, Node, NodeType, Result, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct TextParams {
    /// What to find out about each text, in this order.
    #[serde(default)]
    operations: Vec<Operation>,
}

/// `TextProcessor`: facts about texts.
pub fn text_processor() -> NodeType {
    let about = About {
        name: "TextProcessor",
        summary: "Applies operations to each text and gives their results by name.",
        takes: "text, or {\"text\": ..., \"operations\": [...]} to choose for this text",
        gives: "{\"text\": the text as it came, \"results\": {operation: result}}",
        heavy: false,
        example: json!({
            "params": {"operations": ["uppercase", "word_count"]},
            "input": ["two words", {"text": "three", "operations": ["reverse"]}],
            "output": [
                {"text": "two words", "results": {"uppercase": "TWO WORDS", "word_count": 2}},
                {"text": "three", "results": {"reverse": "eerht"}},
            ],
        }),
    };
    NodeType::new::<TextParams>(about, |params| {
        Instance::new(TextProcessor { operations: params.operations.clone() })
    })
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Operation {
    Uppercase,
    Lowercase,
    Reverse,
    WordCount,
    CharCount,
    TitleCase,
    RemoveSpaces,
    FirstWord,
    LastWord,
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Uppercase,
        Operation::Lowercase,
        Operation::Reverse,
        Operation::WordCount,
        Operation::CharCount,
        Operation::TitleCase,
        Operation::RemoveSpaces,
        Operation::FirstWord,
        Operation::LastWord,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::Uppercase => "uppercase",
            Operation::Lowercase => "lowercase",
            Operation::Reverse => "reverse",
            Operation::WordCount => "word_count",
            Operation::CharCount => "char_count",
            Operation::TitleCase => "title_case",
            Operation::RemoveSpaces => "remove_spaces",
            Operation::FirstWord => "first_word",
            Operation::LastWord => "last_word",
        }
    }

    /// The operation that a value names.
    fn of(value: &Value) -> Result<Self> {
        let Some(name) = value.as_text() else {
            let message = format!("an operation is the name of one, not {}", value.kind());
            let hint = did_you_mean("", Self::ALL.map(Self::name), "");
            return Err(Error::node(message).hint(hint));
        };
        Self::ALL.into_iter().find(|operation| operation.name() == name).ok_or_else(|| {
            Error::node(format!("there is no operation \"{name}\"")).hint(did_you_mean(
                name,
                Self::ALL.map(Self::name),
                "",
            ))
        })
    }

    /// What Python's `str` gives.
    fn apply(self, text: &str) -> Value {
        let count = |count: usize| Value::Int(count as i64);
        match self {
            Operation::Uppercase => Value::text(text.to_uppercase()),
            Operation::Lowercase => Value::text(text.to_lowercase()),
            Operation::Reverse => Value::text(text.chars().rev().collect::<String>()),
            Operation::WordCount => count(words(text).count()),
            Operation::CharCount => count(text.chars().count()),
            Operation::TitleCase => Value::text(title(text)),
            Operation::RemoveSpaces => Value::text(text.replace(' ', "")),
            Operation::FirstWord => Value::text(words(text).next().unwrap_or_default()),
            Operation::LastWord => Value::text(words(text).next_back().unwrap_or_default()),
        }
    }
}

struct TextProcessor {
    operations: Vec<Operation>,
}

impl Node for TextProcessor {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let (text, chosen) = match &value {
            Value::Map(_) => request(&value)?,
            text => (text, None),
        };
        let Some(plain) = text.as_text() else {
            return Err(Error::node(format!("takes text, got {}", text.kind())).hint(HINT));
        };
        let operations = chosen.as_ref().unwrap_or(&self.operations);
        let mut results = Vec::new();
        for operation in operations {
            // A text grows to twice its room, and is copied once.
            memory::expect(plain.len().saturating_mul(4))?;
            results.push((operation.name(), operation.apply(plain)));
            cx.check()?;
        }
        cx.emit(Value::map([("text", text.clone()), ("results", Value::map(results))]));
        Ok(())
    }
}

const HINT: &str = "send text, or {\"text\": ..., \"operations\": [...]}";

/// The text of a map, and the operations if it has some.
fn request(value: &Value) -> Result<(&Value, Option<Vec<Operation>>)> {
    const KEYS: [&str; 2] = ["text", "operations"];
    let Value::Map(map) = value else { return Ok((value, None)) };
    if let Some(key) = map.keys().find(|key| !KEYS.contains(&&***key)) {
        return Err(Error::node(format!("unknown key \"{key}\"")).hint(did_you_mean(key, KEYS, "")));
    }
    let Some(text) = map.get("text") else {
        return Err(Error::node("the map has no \"text\"").hint(HINT));
    };
    let operations = match map.get("operations") {
        None => None,
        Some(Value::List(names)) => Some(names.iter().map(Operation::of).collect::<Result<_>>()?),
        Some(other) => {
            let message = format!("\"operations\" is a list of names, not {}", other.kind());
            return Err(Error::node(message).hint(HINT));
        }
    };
    Ok((text, operations))
}

/// The words as Python's `split()` finds them: its white space is Unicode's and four separators
/// of ASCII.
fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    let space = |c: char| c.is_whitespace() || matches!(c, '\x1c'..='\x1f');
    text.split(space).filter(|word| !word.is_empty())
}

/// Every letter that follows a letter in lower case, the others in title case.
fn title(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut lower = lower.chars();
    let mut after_letter = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        // The whole text is put in lower case at once, as the end of a word has its own sigma.
        let length = c.to_lowercase().count();
        let small = lower.by_ref().take(length);
        match after_letter {
            true => titled.extend(small),
            false => {
                small.for_each(drop);
                push_title(c, &mut titled);
            }
        }
        after_letter = is_cased(c);
    }
    titled
}

/// Appends a letter in title case: what the upper case is to a whole word, this is to its first
/// letter.
fn push_title(c: char, out: &mut String) {
    let single = match c {
        // Two letters in one, and letters with an iota below, have a form of their own.
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        'ᾀ'..='ᾯ' => char::from_u32(c as u32 | 8).unwrap_or(c),
        'ᾳ' | 'ᾼ' => 'ᾼ',
        'ῃ' | 'ῌ' => 'ῌ',
        'ῳ' | 'ῼ' => 'ῼ',
        // Georgian has capitals for whole words only.
        'ა'..='ჿ' => c,
        'ŉ' => return out.push_str("ʼN"),
        _ => {
            for (at, upper) in c.to_uppercase().enumerate() {
                match upper {
                    _ if at == 0 => out.push(upper),
                    'Ι' => out.push('\u{345}'),
                    _ => out.extend(upper.to_lowercase()),
                }
            }
            return;
        }
    };
    out.push(single);
}

/// Whether it has Unicode's property Cased: upper, lower or title case.
fn is_cased(c: char) -> bool {
    let title =
        matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | 'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ');
    title || c.is_lowercase() || c.is_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_case_is_pythons() {
        for (text, expected) in [
            ("hello wORLD it's", "Hello World It'S"),
            ("ßtraße ǆ ŉ ﬃ", "Sstraße ǅ ʼN Ffi"),
            ("ὈΔΥΣΣΕΎΣ ᾳ ᾲ", "Ὀδυσσεύς ᾼ Ὰ\u{345}"),
            ("i\u{307} İi ქართ 3d", "I\u{307} İi ქართ 3D"),
        ] {
            assert_eq!(title(text), expected);
        }
    }

    #[test]
    fn words_are_split_as_python_splits() {
        let text = "\u{1c}a\u{a0}b\u{85}\u{3000}c\u{200b}d ";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c\u{200b}d"]);
        assert_eq!(words(" \t").next_back(), None);
    }
}
