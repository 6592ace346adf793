//! Paths into documents, in the notation of kubectl, which become queries of RFC 9535: `.a.b`, `labels.a\.b`, `items[*]`,
//! `a-b`, `..name`, `[?(@.x=="y")]`. Pure.
//!
//! A name may be written as in the contract (`create_time`), and `labels` and `annotations` of a resource are short for
//! those in its `meta`, as in filters.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use schema::contract::pool;
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::suggest::did_you_mean;

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    query: JsonPath,
    from_root: bool,
    /// The names that it begins with, up to the first step that is none.
    names: Vec<String>,
}

/// Why a path or a template is not understood, and where: the number of characters before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    pub at: usize,
    pub why: String,
}

impl Misread {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }

    /// The same in a text that begins so many characters earlier.
    pub(super) fn after(self, characters: usize) -> Self {
        Self { at: self.at + characters, why: self.why }
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {}", self.why, self.at + 1)
    }
}

impl FieldPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, Misread> {
        let mut translation = Translation::of(text);
        translation.skip_spaces();
        let from_root = translation.peek() == Some('$');
        if matches!(translation.peek(), Some('$' | '@')) {
            translation.at += 1;
        }
        translation.steps(false)?;
        translation.skip_spaces();
        if translation.peek().is_some() {
            return Err(translation.unexpected());
        }
        let query = parse(&translation.query, 0, text)?;
        Ok(Self { query, from_root, names: translation.names })
    }

    /// Returns what it leads to, from here or from the top.
    pub fn values<'v>(&self, here: &'v Value, root: &'v Value) -> Vec<&'v Value> {
        self.query.query(if self.from_root { root } else { here }).all()
    }

    /// Returns the first name.
    pub(super) fn first_name(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    /// Checks that a message has the fields that it names.
    pub fn check(&self, message: &MessageDescriptor) -> Result<(), String> {
        let mut at = Some(message.clone());
        for (depth, name) in self.names.iter().enumerate() {
            let Some(message) = at.filter(|_| depth > 0 || name != "kind") else { return Ok(()) };
            let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
            let Some(field) = field else {
                let fields: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
                let hint = did_you_mean(name, fields.iter().map(String::as_str));
                return Err(format!("{} has no field {name}{hint}", message.name()));
            };
            let is_plain = !field.is_map() && !field.is_list();
            at = match field.kind() {
                // A time or a duration is a text.
                Kind::Message(inner) if is_plain && !inner.full_name().starts_with("google.") => Some(inner),
                _ => None,
            };
        }
        Ok(())
    }
}

/// Writes a value as a word of a line.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn parse(query: &str, at: usize, text: &str) -> Result<JsonPath, Misread> {
    JsonPath::parse(query).map_err(|_| Misread::new(at, format!("`{text}` is not understood")))
}

/// A query of RFC 9535 that is being written.
struct Translation {
    characters: Vec<char>,
    at: usize,
    query: String,
    names: Vec<String>,
    /// Whether all steps so far were names.
    only_names: bool,
    /// Whether the next step is one from a resource.
    at_resource: bool,
}

impl Translation {
    fn of(text: &str) -> Self {
        let characters = text.chars().collect();
        let (query, names) = ("$".to_owned(), Vec::new());
        Self { characters, at: 0, query, names, only_names: true, at_resource: true }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> Misread {
        match self.peek() {
            Some(c) => Misread::new(self.at, format!("`{c}` is unexpected")),
            None => Misread::new(self.at, "something is missing"),
        }
    }

    /// Reads steps to the end of the path. In a filter, a path ends before an operator.
    fn steps(&mut self, in_filter: bool) -> Result<(), Misread> {
        let start = self.at;
        loop {
            match self.peek() {
                Some('.') => self.dotted(start, in_filter)?,
                Some('[') => self.bracket()?,
                Some(c) if self.at == start && !in_filter && !is_end(c, in_filter) => self.name(in_filter)?,
                Some(c) if !is_end(c, in_filter) => return Err(self.unexpected()),
                _ => return Ok(()),
            }
        }
    }

    /// Reads `.name`, `.*`, `..name` and `.[…]`; a dot alone is all.
    fn dotted(&mut self, start: usize, in_filter: bool) -> Result<(), Misread> {
        self.at += 1;
        if self.take_if('.') {
            self.query.push_str("..");
            self.only_names = false;
        }
        match self.peek() {
            Some('*') => {
                self.at += 1;
                self.only_names = false;
                self.step("[*]");
                Ok(())
            }
            Some('[') => self.bracket(),
            Some(c) if !is_end(c, in_filter) => self.name(in_filter),
            _ if self.at == start + 1 && self.query.len() == 1 => Ok(()),
            _ => Err(Misread::new(self.at, "a name is missing after the dot")),
        }
    }

    fn name(&mut self, in_filter: bool) -> Result<(), Misread> {
        let (start, mut name) = (self.at, String::new());
        while let Some(c) = self.peek().filter(|c| !".[".contains(*c) && !is_end(*c, in_filter)) {
            self.at += 1;
            match (c, self.peek()) {
                ('\\', Some(escaped)) => {
                    self.at += 1;
                    name.push(escaped);
                }
                _ => name.push(c),
            }
        }
        if name.is_empty() || name.contains(['\'', '"', '*', '{', '}']) {
            return Err(Misread::new(start, format!("`{name}` is no name; quote it, as in ['{name}'],")));
        }
        self.named(name);
        Ok(())
    }

    fn named(&mut self, name: String) {
        if self.at_resource && matches!(&*name, "labels" | "annotations") {
            self.query.push_str(r#"["meta"]"#);
            self.names.extend(self.only_names.then(|| "meta".to_owned()));
        }
        let quoted = Value::from(name.as_str()).to_string();
        let step = match camel_case(&name) {
            Some(other) => format!("[{quoted},{}]", Value::from(other)),
            None => format!("[{quoted}]"),
        };
        let at_list = self.names.is_empty() && name == "items" && self.only_names;
        self.step(&step);
        self.at_resource = at_list;
        if self.only_names {
            self.names.push(name);
        }
    }

    fn step(&mut self, step: &str) {
        self.query.push_str(step);
        self.at_resource = false;
    }

    /// Reads `[*]`, `[0]`, `[1:3]`, `['name']` and `[?(…)]`.
    fn bracket(&mut self) -> Result<(), Misread> {
        let start = self.at;
        let inner = self.until_closed(start)?;
        let first = inner.trim_start().chars().next();
        let step = match first {
            Some('?') => format!("[{}]", self.filter(start + 1, &inner)?),
            Some(c) if c.is_ascii_digit() || "-:*'\"".contains(c) => {
                format!("[{}]", inner.replace("\\.", "."))
            }
            _ => {
                let why = format!("`[{inner}]` is no number, *, slice, 'name' or ?(condition)");
                return Err(Misread::new(start, why));
            }
        };
        parse(&format!("${step}"), start, &format!("[{inner}]"))?;
        // The resources of a list are what `items[…]` selects.
        let at_resource = self.at_resource && self.names.len() == 1 && self.names[0] == "items";
        self.only_names = false;
        self.step(&step);
        self.at_resource = at_resource;
        Ok(())
    }

    /// Returns what is between this bracket and the one that closes it, and goes past it.
    fn until_closed(&mut self, start: usize) -> Result<String, Misread> {
        let (mut depth, mut quote) = (0, None);
        for at in start..self.characters.len() {
            match (quote, self.characters[at]) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, c @ ('\'' | '"')) => quote = Some(c),
                (None, '[') => depth += 1,
                (None, ']') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = at + 1;
                return Ok(self.characters[start + 1..at].iter().collect());
            }
        }
        Err(Misread::new(start, "`[` is not closed"))
    }

    /// Translates the paths in a condition.
    fn filter(&self, start: usize, condition: &str) -> Result<String, Misread> {
        let mut inner = Self::of(condition);
        inner.query.clear();
        let mut quote = None;
        while let Some(c) = inner.peek() {
            inner.at += 1;
            inner.query.push(c);
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '@' | '$') => {
                    inner.at_resource = self.names == ["items"] && self.only_names;
                    inner.operand().map_err(|error| error.after(start))?;
                }
                _ => {}
            }
        }
        Ok(inner.query)
    }

    /// Reads the rest of a path in a condition. One that is no operand asks whether something is set, and what has its default is
    /// not.
    fn operand(&mut self) -> Result<(), Misread> {
        let begin = self.query.len() - 1;
        let is_alone = ends_before_test(&self.query[..begin]);
        (self.names, self.only_names) = (Vec::new(), true);
        self.steps(true)?;
        let mut rest = self.characters[self.at..].iter().copied().skip_while(|c| c.is_whitespace());
        let is_compared = match rest.next() {
            Some('!') => rest.next() == Some('='),
            next => next.is_some_and(|c| "=<>".contains(c)),
        };
        if is_alone && !is_compared && self.only_names && has_default(&self.names) {
            let path = self.query.split_off(begin);
            self.query.push_str(&format!("({path} && {path} != false && {path} != 0 && {path} != \"\")"));
        }
        Ok(())
    }
}

/// Whether a path that comes after this is a test of its own, and neither compared nor given to a function.
fn ends_before_test(before: &str) -> bool {
    let before = before.trim_end();
    match before.strip_suffix('(') {
        Some(before) => !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'),
        None => before.is_empty() || before.ends_with(['?', '!', '&', '|']),
    }
}

/// Whether these are the names of fields. A key of a map is there or not, and one of two spellings cannot be compared.
fn has_default(names: &[String]) -> bool {
    static MAPS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let fields = pool().all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
        fields.filter(FieldDescriptor::is_map).map(|field| field.json_name().to_owned()).collect()
    });
    let Some((_, before)) = names.split_last() else { return false };
    !before.iter().any(|name| MAPS.contains(name)) && !names.iter().any(|name| camel_case(name).is_some())
}

/// Whether a path ends before this character.
fn is_end(c: char, in_filter: bool) -> bool {
    c.is_whitespace() || ")]".contains(c) || (in_filter && "=!<>&|,(".contains(c))
}

/// Turns the name of a field in the contract into that in JSON, if they differ.
fn camel_case(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let mut camel = parts.next()?.to_owned();
    for part in parts {
        let mut characters = part.chars();
        camel.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
    }
    (camel != name).then_some(camel)
}

#[cfg(test)]
mod tests;
