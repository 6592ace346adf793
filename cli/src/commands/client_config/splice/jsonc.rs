//! Changes of JSON with comments and commas at the end of lists. Pure; it must not know what the members mean.

use std::ops::Range;

use jsonc_parser::ast::{self, Object};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::Serialize as _;
use serde_json::{Map, Value};

use super::{EntryChange, INPUTS, indentation, indented, line_start, next_line, replaced};
use crate::commands::import::jsonc::to_json;

/// What a text says.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let json = to_json(text);
    if json.trim().is_empty() {
        return Ok(Map::new().into());
    }
    serde_json::from_str(&json).map_err(|error| format!("it is no JSON: {error}"))
}

/// The text with the change.
pub(super) fn apply(text: &str, before: &Value, change: &EntryChange<'_>) -> Result<String, String> {
    let path = [change.at, change.name];
    let old = &before[change.at][change.name];
    let mut text = match change.entry {
        Some(new) => update(text.to_owned(), &path, old, new)?,
        None => set(text, &path, None)?,
    };
    if let Some((id, input)) = change.input {
        text = set_input(&text, id, input)?;
    }
    Ok(text)
}

/// The text without a member that is an object with nothing in it, not even a comment.
pub(super) fn without_empty(text: &str, name: &str) -> Result<String, String> {
    let is_empty = with_root(text, |root| {
        let held = root.and_then(|root| root.get(name)).and_then(|member| member.value.as_object());
        let within = held.map(|held| &text[held.range.start + 1..held.range.end - 1]);
        Ok(within.is_some_and(|within| within.trim().is_empty()))
    })?;
    if is_empty { set(text, &[name], None) } else { Ok(text.to_owned()) }
}

/// Changes what differs, member by member, so that comments within stay, too.
fn update(text: String, path: &[&str], old: &Value, new: &Value) -> Result<String, String> {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return if old == new { Ok(text) } else { set(&text, path, Some(new)) };
    };
    let mut text = text;
    for (name, value) in after {
        let path: Vec<_> = path.iter().copied().chain([name.as_str()]).collect();
        text = update(text, &path, before.get(name).unwrap_or(&Value::Null), value)?;
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        let path: Vec<_> = path.iter().copied().chain([name.as_str()]).collect();
        text = set(&text, &path, None)?;
    }
    Ok(text)
}

/// Sets what stands at a path, or takes it away.
fn set(text: &str, path: &[&str], value: Option<&Value>) -> Result<String, String> {
    with_root(text, |root| match root {
        Some(root) => set_in(text, root, path, value),
        None => Ok(value.map_or_else(|| text.to_owned(), |value| created(text, &nested(path, value)))),
    })
}

/// Does something with the object that a text is; `None` if it has nothing but comments.
fn with_root<T>(
    text: &str,
    action: impl FnOnce(Option<&Object<'_>>) -> Result<T, String>,
) -> Result<T, String> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options);
    let parsed = parsed.map_err(|error| {
        format!("it is no JSON at line {} column {}", error.line_display(), error.column_display())
    })?;
    match &parsed.value {
        None => action(None),
        Some(ast::Value::Object(root)) => action(Some(root)),
        Some(_) => Err("it is no object".to_owned()),
    }
}

fn set_in(text: &str, object: &Object<'_>, path: &[&str], value: Option<&Value>) -> Result<String, String> {
    let Some((first, rest)) = path.split_first() else { return Ok(text.to_owned()) };
    // Of members of the same name, the last counts.
    let found = object.properties.iter().rposition(|member| member.name.as_str() == *first);
    match (found.map(|at| (at, &object.properties[at].value)), rest, value) {
        (None, _, None) => Ok(text.to_owned()),
        (None, rest, Some(value)) => Ok(insert(text, &members(object), Some(first), &nested(rest, value))),
        (Some((at, _)), [], None) => Ok(remove(text, &members(object), at)),
        (Some((_, ast::Value::Object(inner))), rest, value) if !rest.is_empty() => {
            set_in(text, inner, rest, value)
        }
        (Some((_, old)), rest, Some(value)) if rest.is_empty() || old.as_null_keyword().is_some() => {
            Ok(replace(text, old, &nested(rest, value)))
        }
        (Some(_), ..) => Err(format!("`{first}` has no members")),
    }
}

/// Sets an input, or takes it away.
fn set_input(text: &str, id: &str, input: Option<&Value>) -> Result<String, String> {
    let changed = with_root(text, |root| {
        let Some(ast::Value::Array(list)) =
            root.and_then(|root| root.get(INPUTS)).map(|member| &member.value)
        else {
            return Ok(None);
        };
        let has_id = |value: &ast::Value<'_>| {
            let known = value.as_object().and_then(|object| object.get_string("id"));
            known.is_some_and(|known| known.value == id)
        };
        let at = list.elements.iter().position(has_id);
        let items = list.elements.iter().map(|element| bytes(element.range())).collect();
        let block = Block::new(list.range.start, list.range.end, items);
        Ok(Some(match (at, input) {
            (Some(at), Some(input)) => replace(text, &list.elements[at], input),
            (Some(at), None) => remove(text, &block, at),
            (None, Some(input)) => insert(text, &block, None, input),
            (None, None) => text.to_owned(),
        }))
    })?;
    match (changed, input) {
        (Some(changed), _) => Ok(changed),
        (None, Some(input)) => set(text, &[INPUTS], Some(&vec![input.clone()].into())),
        (None, None) => Ok(text.to_owned()),
    }
}

fn bytes(range: jsonc_parser::common::Range) -> Range<usize> {
    range.start..range.end
}

/// A value within objects, one for each name.
fn nested(path: &[&str], value: &Value) -> Value {
    path.iter()
        .rev()
        .fold(value.clone(), |value, name| Value::Object(Map::from_iter([((*name).to_owned(), value)])))
}

/// What stands between two brackets.
struct Block {
    /// After the bracket that opens it.
    open: usize,
    /// Before the one that closes it.
    close: usize,
    items: Vec<Range<usize>>,
}

impl Block {
    fn new(start: usize, end: usize, items: Vec<Range<usize>>) -> Self {
        Self { open: start + 1, close: end - 1, items }
    }

    /// The comma after an item, which another item or the end follows.
    fn comma_after(&self, text: &str, item: usize) -> Option<usize> {
        let to = self.items.get(item + 1).map_or(self.close, |next| next.start);
        comma(text, self.items[item].end, to)
    }
}

fn members(object: &Object<'_>) -> Block {
    let items = object.properties.iter().map(|member| bytes(member.range)).collect();
    Block::new(object.range.start, object.range.end, items)
}

/// The first comma that is in no comment.
fn comma(text: &str, from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    while at < to {
        let rest = &text[at..to];
        at += match rest.as_bytes() {
            [b',', ..] => return Some(at),
            [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
    }
    None
}

/// One step of indentation, as the file has it.
fn step(text: &str) -> &str {
    let lines = text.lines().filter(|line| line.trim_start().starts_with('"'));
    let indents = lines.map(|line| &line[..line.len() - line.trim_start().len()]);
    indents.filter(|indent| !indent.is_empty()).min_by_key(|indent| indent.len()).unwrap_or("  ")
}

/// Whether the file is written in one line.
fn is_flat(text: &str) -> bool {
    let text = text.trim();
    !text.contains('\n') && !text.trim_matches(['{', '}', ' ']).is_empty()
}

/// Puts an item at the end of a block.
fn insert(text: &str, block: &Block, name: Option<&str>, value: &Value) -> String {
    let Some(last) = block.items.last() else { return fill(text, block, name, value) };
    let comma = block.comma_after(text, block.items.len() - 1);
    let body = &text[block.open..block.close];
    if !body.contains('\n') {
        let lead = if comma.is_some() { " " } else { ", " };
        let at = comma.map_or(last.end, |comma| comma + 1);
        return replaced(text, at, at, &format!("{lead}{}", compact(name, value)));
    }
    let first = block.items[0].start;
    let indent = match text[line_start(text, first)..first].trim() {
        "" => indentation(text, first).to_owned(),
        _ => format!("{}{}", indentation(text, block.open), step(text)),
    };
    let end = block.open + body.trim_end().len();
    let mut item = format!("\n{indent}{}", indented(&pretty(name, value, step(text)), &indent));
    if comma.is_some() {
        item.push(',');
    }
    if !text[end..block.close].contains('\n') {
        item.push_str(&format!("\n{}", indentation(text, block.open)));
    }
    let text = replaced(text, end, end, &item);
    if comma.is_some() { text } else { replaced(&text, last.end, last.end, ",") }
}

/// Puts an item into a block that has none.
fn fill(text: &str, block: &Block, name: Option<&str>, value: &Value) -> String {
    let end = block.open + text[block.open..block.close].trim_end().len();
    if is_flat(text) {
        return replaced(text, end, end, &compact(name, value));
    }
    let outer = indentation(text, block.open);
    let indent = format!("{outer}{}", step(text));
    let item = indented(&pretty(name, value, step(text)), &indent);
    replaced(text, end, block.close, &format!("\n{indent}{item}\n{outer}"))
}

/// Takes an item away, with its comma and with the lines that it has to itself.
fn remove(text: &str, block: &Block, at: usize) -> String {
    let item = &block.items[at];
    let (before, after) = (&text[block.open..item.start], &text[item.end..block.close]);
    let is_alone = block.items.len() == 1;
    if is_alone && before.trim().is_empty() && after.trim().trim_start_matches(',').is_empty() {
        return replaced(text, block.open, block.close, "");
    }
    if let Some(comma) = block.comma_after(text, at) {
        // A comment may stand between the two.
        return match text[item.end..comma].trim() {
            "" => cut(text, item.start, comma + 1),
            _ => cut(&replaced(text, comma, comma + 1, ""), item.start, item.end),
        };
    }
    let Some(comma) = at.checked_sub(1).and_then(|before| block.comma_after(text, before)) else {
        return cut(text, item.start, item.end);
    };
    let between = &text[comma + 1..item.start];
    if between.trim().is_empty() && !between.contains('\n') {
        return replaced(text, comma, item.end, "");
    }
    replaced(&cut(text, item.start, item.end), comma, comma + 1, "")
}

/// Cuts a range out, with its line if nothing else is there.
fn cut(text: &str, start: usize, end: usize) -> String {
    let (line, next) = (line_start(text, start), next_line(text, end));
    let is_whole = text[line..start].trim().is_empty() && text[end..next].trim().is_empty();
    if is_whole && text[end..next].ends_with('\n') {
        return replaced(text, line, next, "");
    }
    let rest = &text[end..];
    let spaces = rest.len() - rest.trim_start_matches(' ').len();
    replaced(text, start, end + spaces, "")
}

/// Replaces a value.
fn replace(text: &str, old: &ast::Value<'_>, value: &Value) -> String {
    let range = bytes(old.range());
    let new = match is_flat(text) {
        true => compact(None, value),
        false => indented(&pretty(None, value, step(text)), indentation(text, range.start)),
    };
    replaced(text, range.start, range.end, &new)
}

/// A new object after whatever comments a file has.
fn created(text: &str, value: &Value) -> String {
    let comments = text.trim_end();
    let gap = if comments.is_empty() { "" } else { "\n" };
    format!("{comments}{gap}{}\n", pretty(None, value, "  "))
}

fn compact(name: Option<&str>, value: &Value) -> String {
    match name {
        Some(name) => format!("{}: {value}", Value::from(name)),
        None => value.to_string(),
    }
}

fn pretty(name: Option<&str>, value: &Value, step: &str) -> String {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(step.as_bytes());
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format));
    // A value in memory can always be written.
    let text = written.ok().and_then(|()| String::from_utf8(bytes).ok()).unwrap_or_else(|| value.to_string());
    match name {
        Some(name) => format!("{}: {text}", Value::from(name)),
        None => text,
    }
}
