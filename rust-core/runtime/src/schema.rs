//! The check of a node's parameters against the JSON Schema of its type.
//!
//! Node types describe their parameters with schemars. What that makes for the parameters of a
//! node is a small part of JSON Schema, and this is the check of exactly that part:
//! `type` (one name or several), `enum`/`const`, `minimum`, `maximum`, `exclusiveMinimum`,
//! `exclusiveMaximum`, `minLength`, `items`, `minItems`, and for the object itself `properties`
//! and `required`. [`check_vocabulary`] refuses a schema that needs more, so nothing is ever
//! silently unchecked. The Python engine has the same check and must give the same answers.

use crate::error::{Code, Error, Problems, Result};
use crate::json::push_pointer;
use serde_json::{Map, Value as Json};

/// Of `names`, the one most like `word`, if any is like enough: at most a third of the longer
/// one's letters, or one but not the only one, inserted, dropped, changed or swapped with a
/// neighbour (optimal string alignment distance), not counting upper and lower case.
pub fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for name in names {
        // Absurdly long words are like nothing; the distance takes time by the product of lengths.
        if word.len() > 64 || name.len() > 64 {
            continue;
        }
        let distance = strsim::osa_distance(&folded, &name.to_lowercase());
        let longest = word.chars().count().max(name.chars().count());
        let near = distance <= (longest / 3).max(1) && distance < longest;
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// The hint for an unknown name: the closest known one, or all of them.
pub fn did_you_mean<'a>(
    word: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
    otherwise: &str,
) -> String {
    if let Some(name) = closest(word, names.clone()) {
        return format!("did you mean \"{name}\"?");
    }
    let all: Vec<&str> = names.into_iter().collect();
    match all.is_empty() {
        true => otherwise.to_owned(),
        false => shorten(format!("known are: {}", all.join(", ")), 1_000),
    }
}

/// The text if it has at most so many letters, else the beginning of it.
pub(crate) fn shorten(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most - 3).chain("...".chars()).collect(),
    }
}

/// Checks parameters against the schema of a node type; adds every problem to `problems`.
///
/// `pointer` is where the parameters stand in the manifest.
pub fn check(schema: &Json, params: &Map<String, Json>, pointer: &str, problems: &mut Problems) {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
    for (key, value) in params {
        let mut at = pointer.to_owned();
        push_pointer(&mut at, key);
        match properties.get(key) {
            Some(property) => check_value(property, value, &at, key, problems),
            None => {
                let known = properties.keys().map(String::as_str);
                let otherwise = "this node has no parameters";
                let hint = problems.hint(|| did_you_mean(key, known, otherwise));
                let message = format!("there is no parameter \"{key}\"");
                problems.push(Error::new(Code::Manifest, message).at(at).hint(hint));
            }
        }
    }
    for name in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !params.contains_key(name) {
            let message = format!("the parameter \"{name}\" is missing");
            let hint = format!("add \"{name}\": {}", expectation(&properties[name]));
            problems.push(Error::new(Code::Manifest, message).at(pointer).hint(hint));
        }
    }
}

/// Checks one value, which stands at `at` and is called `name`.
pub(crate) fn check_value(
    schema: &Json,
    value: &Json,
    at: &str,
    name: &str,
    problems: &mut Problems,
) {
    let fail = |message: String| {
        Error::new(Code::Manifest, message).at(at).hint(format!("{name}: {}", expectation(schema)))
    };
    if let Some(choices) = choices(schema) {
        if !choices.contains(&value) {
            let error = fail(format!("\"{name}\" cannot be {}", brief(value)));
            let near = value.as_str().and_then(|word| {
                closest(word, choices.iter().filter_map(|choice| choice.as_str()))
            });
            problems.push(match near {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            });
        }
        return;
    }
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|expected| is_type(expected, value)) {
        problems.push(fail(format!("\"{name}\" cannot be {}", brief(value))));
        return;
    }
    if let Some(number) = value.as_f64()
        && (bound(schema, "minimum").is_some_and(|least| number < least)
            || bound(schema, "exclusiveMinimum").is_some_and(|least| number <= least)
            || bound(schema, "maximum").is_some_and(|most| number > most)
            || bound(schema, "exclusiveMaximum").is_some_and(|most| number >= most))
    {
        problems.push(fail(format!("\"{name}\" is out of range: {}", brief(value))));
    }
    if let (Some(text), Some(least)) = (value.as_str(), bound(schema, "minLength"))
        && (text.chars().count() as f64) < least
    {
        problems.push(fail(format!("\"{name}\" is too short: {}", brief(value))));
    }
    if let Some(items) = value.as_array() {
        if bound(schema, "minItems").is_some_and(|least| (items.len() as f64) < least) {
            problems.push(fail(format!("\"{name}\" has too few entries: {}", items.len())));
        }
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                check_value(schema, item, &format!("{at}/{index}"), name, problems);
            }
        }
    }
}

fn bound(schema: &Json, key: &str) -> Option<f64> {
    schema.get(key).and_then(Json::as_f64)
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The values allowed, if they are listed. Enums whose variants carry documentation come from
/// schemars as `oneOf` with a `const` each.
fn choices(schema: &Json) -> Option<Vec<&Json>> {
    if let Some(Json::Array(all)) = schema.get("enum") {
        return Some(all.iter().collect());
    }
    let variants = schema.get("oneOf")?.as_array()?;
    variants.iter().map(|variant| variant.get("const")).collect()
}

fn is_type(name: &str, value: &Json) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn brief(value: &Json) -> String {
    shorten(value.to_string(), 60)
}

/// What a value must be, in words: "an integer from 1 to 100".
pub(crate) fn expectation(schema: &Json) -> String {
    if let Some(choices) = choices(schema) {
        let all: Vec<String> = choices.iter().map(|choice| choice.to_string()).collect();
        return format!("one of {}", all.join(", "));
    }
    let names: Vec<&str> = types(schema)
        .iter()
        .map(|name| match *name {
            "null" => "null",
            "boolean" => "true or false",
            "integer" => "an integer",
            "number" => "a number",
            "string" => "text",
            "array" => "a list",
            _ => "an object",
        })
        .collect();
    let mut words = names.join(" or ");
    let show = |key| schema.get(key).map(Json::to_string);
    let least = show("minimum").or_else(|| show("exclusiveMinimum").map(|n| format!("above {n}")));
    let most = show("maximum").or_else(|| show("exclusiveMaximum").map(|n| format!("below {n}")));
    match (least, most) {
        (Some(least), Some(most)) => words += &format!(" from {least} to {most}"),
        (Some(least), None) if least.starts_with("above") => words += &format!(" {least}"),
        (Some(least), None) => words += &format!(" of at least {least}"),
        (None, Some(most)) if most.starts_with("below") => words += &format!(" {most}"),
        (None, Some(most)) => words += &format!(" of at most {most}"),
        (None, None) => {}
    }
    if let Some(items) = schema.get("items") {
        words += &format!(", each {}", expectation(items));
    }
    if bound(schema, "minItems").is_some_and(|least| least >= 1.0) {
        words += ", not empty";
    }
    if bound(schema, "minLength").is_some_and(|least| least >= 1.0) {
        words += ", not empty";
    }
    words
}

/// The first parameter that may be left out and has no default.
pub fn without_default(schema: &Json) -> Option<&str> {
    let required = schema.get("required").and_then(Json::as_array);
    let required = |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
    let properties = schema.get("properties").and_then(Json::as_object)?;
    let mut lacking =
        properties.iter().filter(|(name, p)| !required(name) && p.get("default").is_none());
    lacking.next().map(|(name, _)| name.as_str())
}

/// The parameters that may be left out, with the values that they then have.
pub fn defaults(schema: &Json) -> Map<String, Json> {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let default = |(name, p): (&String, &Json)| Some((name.clone(), p.get("default")?.clone()));
    properties.filter_map(default).collect()
}

/// Whether [`check`] can work with a schema that somebody else has written.
///
/// # Errors
/// `RM_E_ARGUMENT`, with what it cannot work with.
pub fn check_foreign(schema: &Json) -> Result<()> {
    let wrong = |message: String| Err(Error::new(Code::Argument, message));
    let hint = "describe each parameter in \"properties\", and name in \"required\" those that \
                must be there";
    let properties = match (schema.as_object(), schema.get("properties")) {
        (None, _) => return wrong("the schema of the parameters is not an object".to_owned()),
        (_, None) => &Map::new(),
        (_, Some(Json::Object(properties))) => properties,
        _ => return wrong("the schema's \"properties\" is not an object".to_owned()),
    };
    if let Some((name, _)) = properties.iter().find(|(_, property)| !property.is_object()) {
        return wrong(format!("the schema of the parameter \"{name}\" is not an object"));
    }
    if let Some(word) = check_vocabulary(schema) {
        let message =
            format!("the schema of the parameters uses what the check does not know: {word}");
        return Err(Error::new(Code::Argument, message).hint(hint));
    }
    let required = schema.get("required").map_or(Some(&[][..]), |all| all.as_array().map(|a| &**a));
    let known = |name: &Json| name.as_str().is_some_and(|name| properties.contains_key(name));
    match required.is_some_and(|names| names.iter().all(known)) {
        true => Ok(()),
        false => {
            let message = "the schema's \"required\" is not a list of names from \"properties\"";
            Err(Error::new(Code::Argument, message).hint(hint))
        }
    }
}

/// The first word of a schema that [`check`] does not know, with its place.
pub fn check_vocabulary(schema: &Json) -> Option<String> {
    const KNOWN: &[&str] = &[
        "$schema",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "enum",
        "oneOf",
        "const",
        "default",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "items",
        "minItems",
        "format",
        "additionalProperties",
    ];
    let object = schema.as_object()?;
    for (key, value) in object {
        if !KNOWN.contains(&key.as_str()) {
            return Some(key.clone());
        }
        let below: Vec<&Json> = match key.as_str() {
            "properties" => value.as_object().into_iter().flat_map(Map::values).collect(),
            "items" => vec![value],
            "oneOf" if choices(schema).is_none() => return Some("oneOf".to_owned()),
            _ => Vec::new(),
        };
        if let Some(found) = below.into_iter().find_map(check_vocabulary) {
            return Some(format!("{key}: {found}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_closest_name_is_close() {
        let names = ["PassThrough", "Calculator", "Buffer"];
        assert_eq!(closest("calclator", names), Some("Calculator"));
        assert_eq!(closest("PassTrhough", names), Some("PassThrough"));
        assert_eq!(closest("Zebra", names), None);
        assert_eq!(closest("b", ["a"]), None);
        assert_eq!(closest(&"x".repeat(100_000), names), None);
    }

    #[test]
    fn every_problem_is_found_with_its_place_and_remedy() {
        let schema = json!({
            "type": "object",
            "properties": {
                "rate": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"enum": ["fast", "slow"]},
                "names": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["rate"],
        });
        let params = json!({"mode": "fsat", "names": [1], "speed": 1});
        let mut problems = Problems::default();
        check(&schema, params.as_object().unwrap(), "/nodes/0/params", &mut problems);
        let seen: Vec<_> = problems
            .since(0)
            .iter()
            .map(|p| (p.pointer.as_deref().unwrap(), p.hint.as_deref().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                ("/nodes/0/params/mode", "did you mean \"fast\"?"),
                ("/nodes/0/params/names/0", "names: text"),
                ("/nodes/0/params/speed", "known are: rate, mode, names"),
                ("/nodes/0/params", "add \"rate\": an integer from 1 to 10"),
            ]
        );
    }

    #[test]
    fn a_schema_that_needs_more_is_refused() {
        let schema = json!({"properties": {"a": {"anyOf": []}}});
        assert_eq!(check_vocabulary(&schema), Some("properties: anyOf".to_owned()));
    }
}
