//! One change of one entry in the text of a host's file: what is around it stays, byte for byte. Pure.
//!
//! The new text is read again, by another reader where there is one, and must say what was meant and nothing else; otherwise
//! the change is refused.

mod jsonc;
mod toml;
mod yaml;

use serde_json::{Map, Value};

use super::hosts::Syntax;

/// A change of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryChange<'a> {
    /// The member of the file that holds the servers.
    pub(super) at: &'a str,
    /// The name of the entry.
    pub(super) name: &'a str,
    /// The entry; `None` takes it away.
    pub(super) entry: Option<&'a Value>,
    /// An input with its `id`, of the list `inputs`, and what becomes of it.
    pub(super) input: Option<(&'a str, Option<&'a Value>)>,
}

/// The list of inputs in a file of Visual Studio Code.
pub(super) const INPUTS: &str = "inputs";

/// What a file says. A file without anything says nothing.
///
/// # Errors
/// Where it is broken.
pub(super) fn read(syntax: Syntax, text: &str) -> Result<Value, String> {
    match syntax {
        Syntax::Jsonc => jsonc::read(text),
        Syntax::Toml => toml::read(text),
        Syntax::Yaml => yaml::read(text),
    }
}

/// A file that has nothing but an entry.
pub(super) fn render(syntax: Syntax, change: &EntryChange<'_>) -> Result<String, String> {
    apply(syntax, "", change)
}

/// The text with the change. It is the same text if there is nothing to change.
///
/// # Errors
/// When the file is broken, or too odd for the change to be sure.
pub(super) fn apply(syntax: Syntax, text: &str, change: &EntryChange<'_>) -> Result<String, String> {
    let before = read(syntax, text)?;
    let expected = expected(&before, change)?;
    if before == expected {
        return Ok(text.to_owned());
    }
    let after = match syntax {
        Syntax::Jsonc => jsonc::apply(text, &before, change),
        Syntax::Toml => toml::apply(text, change),
        Syntax::Yaml => yaml::apply(text, change),
    }?;
    match read(syntax, &after).map(|said| without_empty(said, change.at)) {
        Ok(said) if said == without_empty(expected, change.at) => Ok(after),
        _ => {
            Err("it is written in a way that cannot be changed without a risk for the rest of it".to_owned())
        }
    }
}

/// The text without the member that holds the servers, if it is an empty one.
pub(super) fn without_holder(syntax: Syntax, text: &str, at: &str) -> String {
    let text_without = match syntax {
        Syntax::Jsonc => jsonc::without_empty(text, at),
        // TOML has none then, and YAML is rarely without others.
        Syntax::Toml | Syntax::Yaml => return text.to_owned(),
    };
    text_without.unwrap_or_else(|_| text.to_owned())
}

/// A file without the member that holds the servers, where it holds none: TOML says that by saying nothing.
fn without_empty(mut file: Value, at: &str) -> Value {
    if file[at].as_object().is_some_and(Map::is_empty)
        && let Some(root) = file.as_object_mut()
    {
        root.remove(at);
    }
    file
}

/// What the file must say after the change.
fn expected(before: &Value, change: &EntryChange<'_>) -> Result<Value, String> {
    let mut file = before.clone();
    let root = file.as_object_mut().ok_or("it is no object")?;
    match (root.get_mut(change.at), change.entry) {
        (Some(Value::Object(held)), Some(entry)) => drop(held.insert(change.name.to_owned(), entry.clone())),
        (Some(Value::Object(held)), None) => drop(held.remove(change.name)),
        (None | Some(Value::Null), Some(entry)) => {
            let held = Map::from_iter([(change.name.to_owned(), entry.clone())]);
            root.insert(change.at.to_owned(), held.into());
        }
        (None | Some(Value::Null), None) => {}
        (Some(_), _) => return Err(format!("`{}` holds no servers", change.at)),
    }
    if let Some((id, input)) = change.input {
        expect_input(root, id, input)?;
    }
    Ok(file)
}

fn expect_input(root: &mut Map<String, Value>, id: &str, input: Option<&Value>) -> Result<(), String> {
    if root.get(INPUTS).is_none_or(Value::is_null) {
        if let Some(input) = input {
            root.insert(INPUTS.to_owned(), vec![input.clone()].into());
        }
        return Ok(());
    }
    let list = root.get_mut(INPUTS).and_then(Value::as_array_mut).ok_or("`inputs` is no list")?;
    let at = list.iter().position(|known| known["id"] == id);
    match (at, input) {
        (Some(at), Some(input)) => list[at] = input.clone(),
        (Some(at), None) => drop(list.remove(at)),
        (None, Some(input)) => list.push(input.clone()),
        (None, None) => {}
    }
    Ok(())
}

/// The white space that a line begins with, of the line that `at` is in.
fn indentation(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the next line begins, or the text ends.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// A text with something in the place of a range.
fn replaced(text: &str, start: usize, end: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..start], &text[end..])
}

/// Lines with white space before each.
fn indented(lines: &str, indent: &str) -> String {
    lines.replace('\n', &format!("\n{indent}"))
}

#[cfg(test)]
mod tests;
