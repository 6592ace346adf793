//! Changes of TOML: an entry is a table of its own. Pure; it must not know what the members mean.

use std::ops::Range;

use serde_json::Value;
use toml_edit::{Document, InlineTable, Item, Key, Table, Value as Toml};

use super::{EntryChange, line_start, next_line, replaced};
use crate::toml;

/// What a text says.
pub(super) fn read(text: &str) -> Result<Value, String> {
    toml::read(text).map_err(broken)
}

fn broken(why: String) -> String {
    format!("it is no TOML: {why}")
}

/// The text with the change: a new entry comes last, and one that is there is replaced where it stands.
pub(super) fn apply(text: &str, change: &EntryChange<'_>) -> Result<String, String> {
    let document = toml::parse(text).map_err(broken)?;
    let old = document.get(change.at).and_then(|held| held.get(change.name));
    let mut blocks = old.map_or_else(Vec::new, |old| blocks(text, &document, change, old));
    if old.is_some() && blocks.is_empty() {
        return Err(format!("write the entry as a table of its own, [{}]", header(change)));
    }
    let new = change.entry.map(|entry| rendered(change, entry));
    blocks.sort_by_key(|block| block.start);
    let mut text = text.to_owned();
    for (index, block) in blocks.iter().enumerate().rev() {
        text = match &new {
            Some(new) if index == 0 => replaced(&text, block.start, block.end, new),
            _ => without(&text, block),
        };
    }
    Ok(match new {
        Some(new) if blocks.is_empty() => appended(&text, &new),
        _ => text,
    })
}

fn appended(text: &str, new: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let gap = if text.is_empty() { "" } else { "\n" };
    format!("{text}{end}{gap}{new}")
}

/// Cuts lines out, and the empty line before them if no other lines follow on.
fn without(text: &str, block: &Range<usize>) -> String {
    let (before, after) = (&text[..block.start], &text[block.end..]);
    let has_gap = before.ends_with("\n\n") && (after.is_empty() || after.starts_with('\n'));
    replaced(text, block.start - usize::from(has_gap), block.end, "")
}

/// The lines of an entry: a table with its header and those below it, or one line within the table that holds it.
fn blocks(text: &str, document: &Document<&str>, change: &EntryChange<'_>, old: &Item) -> Vec<Range<usize>> {
    let lines = |start: usize, end: usize| line_start(text, start)..next_line(text, end);
    match old {
        Item::Table(table) => {
            let mut found = Vec::new();
            headed(table, &mut found);
            found.into_iter().map(|range| lines(range.start, range.end)).collect()
        }
        Item::Value(value) => {
            let holder = document.get(change.at).and_then(Item::as_table);
            let key = holder.and_then(|holder| holder.key(change.name)).and_then(Key::span);
            let is_line = key
                .as_ref()
                .is_some_and(|key| text[line_start(text, key.start)..key.start].trim().is_empty());
            match (key, value.span()) {
                (Some(key), Some(value)) if is_line => vec![lines(key.start, value.end)],
                _ => Vec::new(),
            }
        }
        Item::None | Item::ArrayOfTables(_) => Vec::new(),
    }
}

/// From the header to the last value, of a table and of those below it.
fn headed(table: &Table, found: &mut Vec<Range<usize>>) {
    if let Some(header) = table.span().filter(|_| !table.is_implicit() && !table.is_dotted()) {
        found.push(header.start..last_value(table).unwrap_or(header.end).max(header.end));
    }
    for (_, item) in table {
        match item {
            Item::Table(inner) => headed(inner, found),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|inner| headed(inner, found)),
            Item::Value(_) | Item::None => {}
        }
    }
}

/// Where the last value ends that stands under the header of a table.
fn last_value(table: &Table) -> Option<usize> {
    let end = |item: &Item| match item {
        Item::Value(Toml::InlineTable(inner)) if inner.is_dotted() => last_dotted(inner),
        Item::Value(value) => value.span().map(|span| span.end),
        Item::Table(inner) if inner.is_dotted() => last_value(inner),
        Item::Table(_) | Item::ArrayOfTables(_) | Item::None => None,
    };
    table.iter().filter_map(|(_, item)| end(item)).max()
}

fn last_dotted(table: &InlineTable) -> Option<usize> {
    table.iter().filter_map(|(_, value)| value.span().map(|span| span.end)).max()
}

fn header(change: &EntryChange<'_>) -> String {
    format!("{}.{}", Key::new(change.at), Key::new(change.name))
}

/// A table with its header.
fn rendered(change: &EntryChange<'_>, entry: &Value) -> String {
    let mut text = format!("[{}]\n", header(change));
    for (name, value) in entry.as_object().into_iter().flatten() {
        if let Some(value) = to_toml(value) {
            text.push_str(&format!("{} = {value}\n", Key::new(name)));
        }
    }
    text
}

/// The value in TOML, which has no `null`.
fn to_toml(value: &Value) -> Option<Toml> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(said) => (*said).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.into(),
        Value::Array(list) => list.iter().filter_map(to_toml).collect(),
        Value::Object(map) => {
            let members = map.iter().filter_map(|(name, value)| Some((Key::new(name), to_toml(value)?)));
            members.collect::<InlineTable>().into()
        }
    })
}
