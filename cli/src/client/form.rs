//! A form of a server, filled in on the terminal: one question a property, and answers of the types in its schema.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use mcp::json;
use serde_json::{Map, Value, json};

/// What became of a form.
#[derive(Debug, Clone, PartialEq)]
pub enum Filled {
    Accepted(Map<String, Value>),
    Declined,
}

impl Filled {
    /// Returns it as the result of `elicitation/create`.
    pub fn result(self) -> String {
        match self {
            Self::Accepted(content) => json!({ "action": "accept", "content": content }).to_string(),
            Self::Declined => json!({ "action": "decline" }).to_string(),
        }
    }
}

/// Whether somebody reads questions here, and types.
pub fn can_be_asked() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for every property of a schema (raw JSON), in its order. The end of input declines.
pub fn ask(message: &str, schema: &str) -> Filled {
    say(&format!("The server asks: {}\n", printable::text(message).trim_end().replace('\n', "\n  ")));
    let properties = properties(schema);
    // A form without fields is a question all the same.
    if properties.is_empty() {
        let word = if is_of_approval(message) { "approved" } else { "accept" };
        return if agreed(word) { Filled::Accepted(Map::new()) } else { declined() };
    }
    say("(Enter alone takes the default or leaves it out; Ctrl-D declines)\n");
    let required: Value =
        serde_json::from_str(schema).map(|schema: Value| schema["required"].clone()).unwrap_or_default();
    let mut content = Map::new();
    for (name, property) in &properties {
        let is_required = required.as_array().is_some_and(|names| names.iter().any(|known| known == name));
        match answer(name, property, is_required) {
            None => return declined(),
            Some(Value::Null) => {}
            Some(value) => drop(content.insert(name.clone(), value)),
        }
    }
    Filled::Accepted(content)
}

/// Asks whether a call is approved that is held back until then.
pub fn ask_approved(message: &str) -> bool {
    say(&format!("{}\n", printable::line(message)));
    agreed("approved")
}

/// Whether an edge asks for the word that a call is approved: it says how that is done.
pub fn is_of_approval(message: &str) -> bool {
    message.contains("`mcpctl approvals approve ")
}

/// Asks a question of one word. Enter alone says no, as the end of input does.
fn agreed(word: &str) -> bool {
    say(&format!("  {word}? [y/N] "));
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
        say("\n");
    }
    truth(line.trim()) == Ok(Value::Bool(true))
}

/// The properties of a schema in its order, which a parsed one has lost.
fn properties(schema: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let [properties] = json::members(schema, ["properties"]).unwrap_or_default();
    let read = json::each_member(properties.unwrap_or("{}"), |key, property| {
        let property = serde_json::from_str(property).unwrap_or_default();
        found.push((json::string(key)?.into_owned(), property));
        Ok(())
    });
    if read.is_err() {
        found.clear();
    }
    found
}

fn declined() -> Filled {
    say("declined\n");
    Filled::Declined
}

/// Asks until there is an answer that fits. `None`: there will be none; null: it is left out.
fn answer(name: &str, property: &Value, is_required: bool) -> Option<Value> {
    loop {
        say(&format!("  {}: ", question(name, property, is_required)));
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
            say("\n");
            return None;
        }
        match read(property, line.trim(), is_required) {
            Ok(value) => return Some(value),
            Err(why) => say(&format!("  {}\n", printable::line(&why))),
        }
    }
}

fn say(text: &str) {
    // There is no one to tell if stderr is closed.
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Writes a question in one line: the name, its type, what it means and its default.
fn question(name: &str, property: &Value, is_required: bool) -> String {
    let text = |key: &str| property[key].as_str().filter(|text| !text.is_empty());
    let kind = match choices(property) {
        choices if choices.is_empty() => text("type").unwrap_or("string").to_owned(),
        choices => {
            let several = if property["type"] == "array" { ", separated by commas" } else { "" };
            choices.iter().map(|choice| choice.shown()).collect::<Vec<_>>().join("|") + several
        }
    };
    let optional = if is_required { "" } else { ", optional" };
    let means = text("description").or(text("title")).filter(|means| *means != name);
    let means = means.map(|means| format!(" - {means}")).unwrap_or_default();
    let default = match &property["default"] {
        Value::Null => String::new(),
        Value::String(text) => format!(" [{text}]"),
        value => format!(" [{value}]"),
    };
    printable::line(&format!("{name} ({kind}{optional}){means}{default}")).into_owned()
}

/// Reads an answer as the schema wants it. Null: it is left out.
fn read(property: &Value, text: &str, is_required: bool) -> Result<Value, String> {
    if text.is_empty() {
        return match &property["default"] {
            Value::Null if is_required => Err("an answer is required".to_owned()),
            default => Ok(default.clone()),
        };
    }
    let choices = choices(property);
    match property["type"].as_str() {
        Some("array") => several(property, &choices, text),
        _ if !choices.is_empty() => chosen(&choices, text),
        Some("boolean") => truth(text),
        Some(kind @ ("number" | "integer")) => number(property, kind, text),
        _ => string(property, text),
    }
}

fn truth(text: &str) -> Result<Value, String> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" => Ok(true.into()),
        "n" | "no" | "false" => Ok(false.into()),
        _ => Err("answer yes or no".to_owned()),
    }
}

fn number(property: &Value, kind: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not of type {kind}");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let number = value.as_f64().ok_or_else(wrong)?;
    if kind == "integer" && !(value.is_i64() || value.is_u64()) {
        return Err(wrong());
    }
    if let Some(least) = property["minimum"].as_f64().filter(|least| number < *least) {
        return Err(format!("it must be {least} or more"));
    }
    match property["maximum"].as_f64().filter(|most| number > *most) {
        Some(most) => Err(format!("it must be {most} or less")),
        None => Ok(value),
    }
}

fn string(property: &Value, text: &str) -> Result<Value, String> {
    let length = text.chars().count() as u64;
    if let Some(least) = property["minLength"].as_u64().filter(|least| length < *least) {
        return Err(format!("it must have {least} characters or more"));
    }
    if let Some(most) = property["maxLength"].as_u64().filter(|most| length > *most) {
        return Err(format!("it must have {most} characters or less"));
    }
    let fits = match property["format"].as_str() {
        Some("email") => text.split_once('@').is_some_and(|(who, host)| !who.is_empty() && !host.is_empty()),
        Some("uri") => url::Url::parse(text).is_ok(),
        _ => true,
    };
    match property["format"].as_str().filter(|_| !fits) {
        Some(format) => Err(format!("{text:?} is not of format {format}")),
        None => Ok(text.into()),
    }
}

/// A value that may be chosen, and its title.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    value: String,
    title: Option<String>,
}

impl Choice {
    fn shown(&self) -> String {
        match self.title.as_ref().filter(|title| **title != self.value) {
            Some(title) => format!("{} ({title})", self.value),
            None => self.value.clone(),
        }
    }

    fn is(&self, text: &str) -> bool {
        let same = |word: &str| word.eq_ignore_ascii_case(text);
        same(&self.value) || self.title.as_deref().is_some_and(same)
    }
}

/// The values that may be chosen, in each of the ways in which schemas of forms write them.
fn choices(property: &Value) -> Vec<Choice> {
    let property = if property["type"] == "array" { &property["items"] } else { property };
    let titled = ["oneOf", "anyOf"].iter().find_map(|keyword| property[keyword].as_array());
    if let Some(parts) = titled {
        let choice = |part: &Value| {
            Some(Choice {
                value: part["const"].as_str()?.to_owned(),
                title: part["title"].as_str().map(str::to_owned),
            })
        };
        return parts.iter().filter_map(choice).collect();
    }
    let title = |index: usize| property["enumNames"][index].as_str().map(str::to_owned);
    let values = property["enum"].as_array().into_iter().flatten().enumerate();
    let values = values.filter_map(|(index, value)| Some((index, value.as_str()?)));
    values.map(|(index, value)| Choice { value: value.to_owned(), title: title(index) }).collect()
}

fn chosen(choices: &[Choice], text: &str) -> Result<Value, String> {
    let found = choices.iter().find(|choice| choice.is(text));
    let all = || choices.iter().map(|choice| choice.value.as_str()).collect::<Vec<_>>().join(", ");
    found.map(|choice| choice.value.clone().into()).ok_or_else(|| format!("{text:?} is none of {}", all()))
}

fn several(property: &Value, choices: &[Choice], text: &str) -> Result<Value, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let values: Result<Vec<_>, _> = match choices {
        [] => Ok(parts.map(Value::from).collect()),
        choices => parts.map(|part| chosen(choices, part)).collect(),
    };
    let values = values?;
    if let Some(least) = property["minItems"].as_u64().filter(|least| (values.len() as u64) < *least) {
        return Err(format!("choose {least} or more"));
    }
    match property["maxItems"].as_u64().filter(|most| values.len() as u64 > *most) {
        Some(most) => Err(format!("choose {most} or less")),
        None => Ok(values.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_types_of_the_schema() {
        for (property, text, expected) in [
            (json!({ "type": "string" }), "12", Ok(json!("12"))),
            (json!({ "type": "integer" }), "12", Ok(json!(12))),
            (json!({ "type": "integer" }), "1.5", Err("\"1.5\" is not of type integer")),
            (json!({ "type": "number", "maximum": 2 }), "2.5", Err("it must be 2 or less")),
            (json!({ "type": "number", "minimum": 2 }), "-1", Err("it must be 2 or more")),
            (json!({ "type": "boolean" }), "Yes", Ok(json!(true))),
            (json!({ "type": "boolean" }), "maybe", Err("answer yes or no")),
            (json!({ "type": "string", "minLength": 3 }), "ab", Err("it must have 3 characters or more")),
            (json!({ "type": "string", "maxLength": 1 }), "ab", Err("it must have 1 characters or less")),
            (json!({ "type": "string", "format": "email" }), "a", Err("\"a\" is not of format email")),
            (json!({ "type": "string", "format": "uri" }), "http://a", Ok(json!("http://a"))),
            (json!({ "enum": ["red", "blue"], "enumNames": ["Red", "Sky"] }), "sky", Ok(json!("blue"))),
            (json!({ "oneOf": [{ "const": "a", "title": "One" }] }), "b", Err("\"b\" is none of a")),
            (json!({ "type": "array", "items": { "enum": ["a", "b"] } }), "b, a", Ok(json!(["b", "a"]))),
            (
                json!({ "type": "array", "minItems": 2, "items": { "enum": ["a"] } }),
                "a",
                Err("choose 2 or more"),
            ),
        ] {
            assert_eq!(read(&property, text, true), expected.map_err(str::to_owned), "{property} {text}");
        }
    }

    #[test]
    fn nothing_is_the_default_or_left_out() {
        assert_eq!(read(&json!({ "type": "integer", "default": 5 }), "", true), Ok(json!(5)));
        assert_eq!(read(&json!({ "type": "integer" }), "", false), Ok(Value::Null));
        assert_eq!(read(&json!({ "type": "integer" }), "", true), Err("an answer is required".to_owned()));
    }

    #[test]
    fn questions_say_what_is_expected_and_move_no_cursor() {
        let property = json!({ "type": "string", "description": "Who\u{1b}[2J\nyou are", "default": "me" });
        assert_eq!(question("name", &property, true), "name (string) - Who\\u{1b}[2J\\nyou are [me]");
        let property = json!({ "type": "array", "items": { "anyOf": [{ "const": "a", "title": "One" }] } });
        assert_eq!(question("kinds", &property, false), "kinds (a (One), separated by commas, optional)");
        assert_eq!(Filled::Declined.result(), r#"{"action":"decline"}"#);
        let names: Vec<_> =
            properties(r#"{"properties":{"b":{},"a":true}}"#).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
