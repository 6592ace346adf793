//! Where the values of a YAML or JSON text stand: the line of each, by document and path. Pure; it must not know what the
//! values mean. A text that it cannot read has no places.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

use super::stream::YamlPart;

/// Merged mappings are followed so far; an anchor may be within itself.
const MAX_MERGES: usize = 8;

/// The places of a text.
#[derive(Debug, Default)]
pub(super) struct Places {
    nodes: Vec<Node>,
    /// The root of each document.
    documents: Vec<Option<usize>>,
    /// The keys that are there twice.
    pub(super) duplicates: Vec<Duplicate>,
}

/// A key that a mapping has twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    /// The document, counted from 0.
    pub(super) document: usize,
    pub(super) key: String,
    /// The lines of the first one and of this one.
    pub(super) lines: [usize; 2],
}

/// A step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug)]
struct Node {
    line: usize,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Nothing,
    Items(Vec<Entry>),
    Members(Vec<Entry>),
}

/// An item of a list, whose key is empty, or a member of a mapping.
#[derive(Debug)]
struct Entry {
    key: String,
    line: usize,
    node: usize,
}

/// A list or mapping that has not ended yet.
struct Open {
    node: usize,
    /// The key whose value comes next, and its line.
    key: Option<(String, usize)>,
    /// The keys so far, and their lines.
    known: HashMap<String, usize>,
}

#[derive(Default)]
struct Builder {
    places: Places,
    anchors: HashMap<usize, usize>,
    open: Vec<Open>,
}

impl Places {
    /// Finds the places of a text, of which these are the parts.
    pub(super) fn of(parts: &[YamlPart<'_>]) -> Self {
        let mut builder = Builder::default();
        for part in parts {
            // Each part counts its anchors anew.
            builder.anchors.clear();
            for event in Parser::new_from_str(part.text) {
                let Ok((event, span)) = event else { return Self::default() };
                builder.take(event, part.before + span.start.line());
            }
        }
        builder.places
    }

    /// The line of a value, or of what holds it where it is not there; that of a member is the line of its key.
    pub(super) fn line(&self, document: usize, path: &[Step]) -> Option<usize> {
        let mut node = (*self.documents.get(document)?)?;
        let mut line = self.nodes.get(node)?.line;
        for step in path {
            let Some(entry) = self.entry(node, step, MAX_MERGES) else { break };
            (line, node) = (entry.line, entry.node);
        }
        Some(line)
    }

    fn entry(&self, node: usize, step: &Step, merges: usize) -> Option<&Entry> {
        match (&self.nodes.get(node)?.held, step) {
            (Held::Items(items), Step::Index(index)) => items.get(*index),
            (Held::Members(members), Step::Key(key)) => {
                let same = members.iter().find(|member| member.key == *key);
                let alike = || members.iter().find(|member| plain(&member.key) == plain(key));
                same.or_else(alike).or_else(|| self.merged(members, step, merges))
            }
            _ => None,
        }
    }

    /// Looks into what is merged into a mapping: `<<: *anchor`, or a list of such.
    fn merged(&self, members: &[Entry], step: &Step, merges: usize) -> Option<&Entry> {
        let merges = merges.checked_sub(1)?;
        members.iter().filter(|member| member.key == "<<").find_map(|member| {
            match &self.nodes.get(member.node)?.held {
                Held::Items(items) => items.iter().find_map(|item| self.entry(item.node, step, merges)),
                _ => self.entry(member.node, step, merges),
            }
        })
    }
}

/// A key in whatever case it is written: `eraPolicy` is `era_policy`.
fn plain(key: &str) -> String {
    key.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::DocumentStart(_) => {
                self.open.clear();
                self.places.documents.push(None);
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).copied();
                let node = known.unwrap_or_else(|| self.add(line, Held::Nothing, 0));
                self.attach(node, line, "");
            }
            Event::Scalar(text, _, anchor, _) => {
                let node = self.add(line, Held::Nothing, anchor);
                self.attach(node, line, &text);
            }
            Event::SequenceStart(anchor, _) => self.begin(Held::Items(Vec::new()), anchor, line),
            Event::MappingStart(anchor, _) => self.begin(Held::Members(Vec::new()), anchor, line),
            Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    fn add(&mut self, line: usize, held: Held, anchor: usize) -> usize {
        let node = self.places.nodes.len();
        self.places.nodes.push(Node { line, held });
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
        node
    }

    fn begin(&mut self, held: Held, anchor: usize, line: usize) {
        let node = self.add(line, held, anchor);
        self.attach(node, line, "");
        self.open.push(Open { node, key: None, known: HashMap::new() });
    }

    /// Puts a node where it stands: as the root, an item, a key or the value of the last key.
    fn attach(&mut self, node: usize, line: usize, text: &str) {
        let Some(open) = self.open.last_mut() else {
            if let Some(root) = self.places.documents.last_mut() {
                *root = Some(node);
            }
            return;
        };
        match &mut self.places.nodes[open.node].held {
            Held::Items(items) => items.push(Entry { key: String::new(), line, node }),
            Held::Members(members) => match open.key.take() {
                None => open.key = Some((text.to_owned(), line)),
                Some((key, line)) => {
                    match open.known.get(&key) {
                        // Mappings and lists can be keys, too, and have no text.
                        Some(first) if !key.is_empty() => self.places.duplicates.push(Duplicate {
                            document: self.places.documents.len().saturating_sub(1),
                            key: key.clone(),
                            lines: [*first, line],
                        }),
                        _ => drop(open.known.insert(key.clone(), line)),
                    }
                    members.push(Entry { key, line, node });
                }
            },
            Held::Nothing => {}
        }
    }
}

/// Reads a path such as `tools[2].match` or `meta.labels["a.b"]`.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let (mut steps, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        let (step, after) = first_step(rest);
        steps.push(step);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

fn first_step(path: &str) -> (Step, &str) {
    if let Some(quoted) = path.strip_prefix("[\"") {
        let end = quoted.find("\"]").unwrap_or(quoted.len());
        let key = quoted[..end].replace("\\\"", "\"").replace("\\\\", "\\");
        return (Step::Key(key), quoted.get(end + 2..).unwrap_or_default());
    }
    if let Some((inner, after)) = path.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let step = inner.parse().map_or_else(|_| Step::Key(inner.to_owned()), Step::Index);
        return (step, after);
    }
    // A bracket that does not close is part of a key.
    let end =
        path.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[')).map_or(path.len(), |(at, _)| at);
    (Step::Key(path[..end].to_owned()), &path[end..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(text: &str) -> Places {
        Places::of(&[YamlPart { text, before: 0 }])
    }

    fn line(text: &str, document: usize, path: &str) -> Option<usize> {
        places(text).line(document, &steps(path))
    }

    #[test]
    fn paths_are_read_step_by_step() {
        let key = |text: &str| Step::Key(text.to_owned());
        for (path, expected) in [
            ("", vec![]),
            ("name", vec![key("name")]),
            ("tools[2].match", vec![key("tools"), Step::Index(2), key("match")]),
            (r#"meta.labels["a.b\"c"].x"#, vec![key("meta"), key("labels"), key("a.b\"c"), key("x")]),
            ("a[b].c", vec![key("a"), key("b"), key("c")]),
            ("[1][2]", vec![Step::Index(1), Step::Index(2)]),
            ("a[", vec![key("a"), key("[")]),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
    }

    #[test]
    fn lines_are_right_in_every_style() {
        let text = "\
# what it is
kind: Server
description: |
  two
  lines
tools:
- match: a/b
-
  match: c
meta: {labels: {x: y,
  z: w}}
---
# empty
---
base: &base
  one: 1
  list: &list [1,
    2]
other:
  <<: *base
  more: *list
";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            for (document, path, expected) in [
                (0, "", 2),
                (0, "description", 3),
                (0, "tools", 6),
                (0, "tools[0].match", 7),
                (0, "tools[1]", 9),
                (0, "tools[1].match.deeper", 9),
                (0, "tools[7]", 6),
                (0, "meta.labels.x", 10),
                (0, "meta.labels[\"z\"]", 11),
                (0, "nothing", 2),
                (2, "base.list[1]", 18),
                (2, "other.one", 16),
                (2, "other.more", 21),
                (2, "other.more[1]", 18),
            ] {
                assert_eq!(line(&text, document, path), Some(expected), "{document} {path}");
            }
            assert_eq!(line(&text, 3, ""), None);
        }
        let json = "[\n {\"kind\": \"Server\",\n  \"nameStyle\": 5}\n]";
        assert_eq!(line(json, 0, "[0].name_style"), Some(3), "in whatever case it is written");
    }

    #[test]
    fn a_key_twice_is_found_with_both_lines() {
        let duplicates = |text: &str| {
            let found = places(text).duplicates;
            found.into_iter().map(|one| (one.document, one.key, one.lines)).collect::<Vec<_>>()
        };
        assert_eq!(duplicates("a: 1\nb: {a: 1}\n---\nx: 1\ny: 2\nx: 3\n"), [(1, "x".to_owned(), [4, 6])]);
        assert_eq!(duplicates("{\"a\": 1,\n\"a\": 2}"), [(0, "a".to_owned(), [1, 2])]);
        assert_eq!(duplicates("{[a]: 1, [b]: 2}\n"), []);
    }

    #[test]
    fn an_anchor_within_itself_ends() {
        for text in ["a: &a\n  <<: *a\n", "a: &a [*a]\n", "a: &a {b: *a}\n"] {
            let _ = line(text, 0, "a.x.y.z");
        }
    }

    /// Writes a value in block or flow style; returns the lines of its members, by path.
    fn write(
        value: &serde_json::Value,
        depth: usize,
        path: &str,
        text: &mut String,
        lines: &mut Vec<(String, usize)>,
    ) {
        let serde_json::Value::Object(members) = value else {
            text.push_str(&format!(" {value}\n"));
            return;
        };
        text.push('\n');
        for (key, value) in members {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            lines.push((path.clone(), text.matches('\n').count() + 1));
            text.push_str(&format!("{}{key}:", " ".repeat(depth)));
            write(value, depth + 1, &path, text, lines);
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(serde_json::Value::from),
            "[a-z \"#:]{0,9}".prop_map(serde_json::Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop::collection::btree_map("[a-z]{1,4}", inner, 1..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[ab:\-&*<>|\[\]{},"'#!%\n\r\t \u{feff}é]*"#, path in r#"[a.\[\]"0-9]*"#) {
            let _ = line(&text, 0, &path);
        }

        #[test]
        fn what_is_written_is_found_where_it_is(values in prop::collection::vec(value(), 1..4), ends in prop_oneof![Just("\n"), Just("\r\n")]) {
            let (mut text, mut lines) = (String::new(), Vec::new());
            for value in &values {
                text.push_str("---");
                let mut found = Vec::new();
                write(value, 0, "", &mut text, &mut found);
                lines.push(found);
            }
            let places = places(&text.replace('\n', ends));
            prop_assert_eq!(places.documents.len(), values.len());
            for (document, found) in lines.iter().enumerate() {
                for (path, expected) in found {
                    prop_assert_eq!(places.line(document, &steps(path)), Some(*expected), "{} in\n{}", path, text);
                }
            }
        }

        #[test]
        fn json_is_found_where_it_is(value in value()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let places = places(&text);
            prop_assert_eq!(places.documents.len(), 1);
            if let serde_json::Value::Object(members) = &value {
                for key in members.keys() {
                    let expected = text.lines().position(|line| line.starts_with(&format!("  \"{key}\":"))).map(|at| at + 1);
                    prop_assert_eq!(places.line(0, &steps(key)), expected);
                }
            }
        }
    }
}
