//! Changes of YAML: an entry is a few lines of their own. Pure; it must not know what the members mean.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use super::{EntryChange, indentation, indented, line_start, next_line, replaced};

/// What a text says.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let document: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| {
        // The error itself may quote a secret.
        let place = error.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
        format!("it is no YAML{place}")
    })?;
    match serde_json::to_value(document) {
        Ok(Value::Null) => Ok(Map::new().into()),
        Ok(value) => Ok(value),
        Err(_) => Err("it has keys that are no texts".to_owned()),
    }
}

/// The text with the change.
pub(super) fn apply(text: &str, change: &EntryChange<'_>) -> Result<String, String> {
    let odd = || "it is written in an unusual way".to_owned();
    let root = tree(text).ok_or_else(odd)?;
    let Some(root) = root else {
        return Ok(change
            .entry
            .map_or_else(|| text.to_owned(), |entry| appended(text, text.len(), change, entry)));
    };
    let NodeKind::Map { pairs, .. } = &root.kind else { return Err(odd()) };
    let Some((key, held)) = pairs.iter().find(|(key, _)| key.is(change.at)) else {
        return Ok(change
            .entry
            .map_or_else(|| text.to_owned(), |entry| appended(text, root.end, change, entry)));
    };
    let found = held.pairs().iter().position(|(key, _)| key.is(change.name));
    Ok(match (found, change.entry) {
        (None, None) => text.to_owned(),
        (None, Some(entry)) => insert(text, key, held, change.name, entry),
        (Some(at), None) => remove(text, key, held, at),
        (Some(at), Some(entry)) => replace(text, held, at, change.name, entry),
    })
}

/// A node, and where it is in the text.
struct Node {
    start: usize,
    /// Where its last word ends.
    end: usize,
    kind: NodeKind,
}

enum NodeKind {
    Text(String),
    Map { is_flow: bool, pairs: Vec<(Node, Node)> },
    Other,
}

impl Node {
    fn is(&self, name: &str) -> bool {
        matches!(&self.kind, NodeKind::Text(text) if text == name)
    }

    fn pairs(&self) -> &[(Node, Node)] {
        if let NodeKind::Map { pairs, .. } = &self.kind { pairs } else { &[] }
    }

    fn is_flow(&self) -> bool {
        matches!(self.kind, NodeKind::Map { is_flow: true, .. })
    }
}

/// The only document of a text; `Some(None)` if it is empty, `None` if it cannot be read.
fn tree(text: &str) -> Option<Option<Node>> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        // Marks count characters.
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        text,
        end: 0,
    };
    loop {
        match reader.parser.next_event()?.ok()? {
            (Event::StreamEnd, _) => return Some(None),
            (Event::DocumentStart(_), _) => break,
            _ => {}
        }
    }
    let (event, span) = reader.parser.next_event()?.ok()?;
    let root = reader.node(event, span)?;
    let is_null = root.start >= root.end && matches!(root.kind, NodeKind::Text(_));
    Some((!is_null).then_some(root))
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    bytes: Vec<usize>,
    text: &'t str,
    /// Where the last word so far ends.
    end: usize,
}

impl Reader<'_> {
    fn range(&self, span: Span) -> Range<usize> {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(self.text.len());
        byte(span.start.index())..byte(span.end.index())
    }

    /// Takes note of a word. Of one that ends in white space, such as a text of many lines, the white space is left out.
    fn word(&mut self, range: &Range<usize>) {
        let word = self.text[range.clone()].trim_end();
        if !word.is_empty() {
            self.end = self.end.max(range.start + word.len());
        }
    }

    fn node(&mut self, event: Event<'_>, span: Span) -> Option<Node> {
        let range = self.range(span);
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                let is_there = style != ScalarStyle::Plain || !text.is_empty();
                if is_there {
                    self.word(&range);
                }
                NodeKind::Text(text.into_owned())
            }
            Event::Alias(_) => {
                self.word(&range);
                NodeKind::Other
            }
            Event::MappingStart(..) => self.map(range.start)?,
            Event::SequenceStart(..) => self.list()?,
            _ => return None,
        };
        Some(Node { start: range.start, end: self.end, kind })
    }

    fn map(&mut self, start: usize) -> Option<NodeKind> {
        let is_flow = self.text[start..].starts_with('{');
        let mut pairs = Vec::new();
        loop {
            match self.parser.next_event()?.ok()? {
                (Event::MappingEnd, span) => {
                    self.close(span, '}');
                    return Some(NodeKind::Map { is_flow, pairs });
                }
                (event, span) => {
                    let key = self.node(event, span)?;
                    let (event, span) = self.parser.next_event()?.ok()?;
                    pairs.push((key, self.node(event, span)?));
                }
            }
        }
    }

    fn list(&mut self) -> Option<NodeKind> {
        loop {
            match self.parser.next_event()?.ok()? {
                (Event::SequenceEnd, span) => {
                    self.close(span, ']');
                    return Some(NodeKind::Other);
                }
                (event, span) => drop(self.node(event, span)?),
            }
        }
    }

    /// Takes note of a bracket. Where there is none, the end of a block is where the next thing begins.
    fn close(&mut self, span: Span, bracket: char) {
        let start = self.range(span).start;
        if self.text[start..].starts_with(bracket) {
            self.end = self.end.max(start + bracket.len_utf8());
        }
    }
}

/// The lines of an entry.
fn lines(name: &str, entry: &Value) -> String {
    let map = Map::from_iter([(name.to_owned(), entry.clone())]);
    let text = serde_yaml_ng::to_string(&map).unwrap_or_default();
    text.trim_end().to_owned()
}

/// An entry in one line.
fn flow(name: &str, entry: &Value) -> String {
    format!("{}: {entry}", Value::from(name))
}

/// Puts the member that holds entries after the last line that says something.
fn appended(text: &str, end: usize, change: &EntryChange<'_>, entry: &Value) -> String {
    let held = Map::from_iter([(change.name.to_owned(), entry.clone())]);
    after(text, end, &lines(change.at, &held.into()))
}

/// Puts lines after the line that `at` is in.
fn after(text: &str, at: usize, lines: &str) -> String {
    let next = next_line(text, at);
    let has_end = next == 0 || text[..next].ends_with('\n');
    let lead = if has_end { "" } else { "\n" };
    replaced(text, next, next, &format!("{lead}{lines}\n"))
}

/// The white space before the members of a map: that of those which it has, else a step more than that of its key.
fn indent(text: &str, key: &Node, held: &Node) -> String {
    match held.pairs().first() {
        Some((first, _)) => indentation(text, first.start).to_owned(),
        None => format!("{}  ", indentation(text, key.start)),
    }
}

fn insert(text: &str, key: &Node, held: &Node, name: &str, entry: &Value) -> String {
    let indent = indent(text, key, held);
    let block = format!("{indent}{}", indented(&lines(name, entry), &indent));
    match (held.pairs().last(), held.is_flow()) {
        (Some((_, last)), true) => replaced(text, last.end, last.end, &format!(", {}", flow(name, entry))),
        (Some((_, last)), false) => after(text, last.end, &block),
        // `{}`, which gives way to lines.
        (None, true) => {
            let text = replaced(text, held.start, held.end, "");
            let bare = text[..held.start].trim_end().len();
            after(&replaced(&text, bare, held.start, ""), bare, &block)
        }
        (None, false) => after(text, key.end, &block),
    }
}

fn remove(text: &str, key: &Node, held: &Node, at: usize) -> String {
    let pairs = held.pairs();
    let (name, value) = &pairs[at];
    if held.is_flow() {
        return match (pairs.get(at + 1), at.checked_sub(1).map(|before| &pairs[before].1)) {
            (Some((next, _)), _) => replaced(text, name.start, next.start, ""),
            (None, Some(before)) => replaced(text, before.end, value.end, ""),
            (None, None) => replaced(text, name.start, value.end, ""),
        };
    }
    let without = replaced(text, line_start(text, name.start), next_line(text, value.end), "");
    if pairs.len() > 1 {
        return without;
    }
    let colon = text[key.end..].find(':').map_or(key.end, |colon| key.end + colon + 1);
    replaced(&without, colon, colon, " {}")
}

fn replace(text: &str, held: &Node, at: usize, name: &str, entry: &Value) -> String {
    let (key, value) = &held.pairs()[at];
    if held.is_flow() {
        return replaced(text, key.start, value.end, &flow(name, entry));
    }
    let indent = indentation(text, key.start);
    let (start, end) = (line_start(text, key.start), next_line(text, value.end));
    let last = if text[..end].ends_with('\n') { "\n" } else { "" };
    replaced(text, start, end, &format!("{indent}{}{last}", indented(&lines(name, entry), indent)))
}
