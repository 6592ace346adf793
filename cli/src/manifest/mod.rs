//! Resource files: `kind: Upstream`, then the fields of the message. Parsing is strict, and errors name file, line and field.
//!
//! It knows no control plane: paths and text go in, resources come out.

mod elsewhere;
mod fields;
mod places;
mod secrets;
mod sources;
mod stream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcp::border::text_without_mark;
use prost_reflect::{DynamicMessage, Value as Field};
use schema::words;
use serde::Deserialize as _;
use serde_yaml_ng::Value as Document;

use crate::error::{Error, Result};
use crate::kinds::{Kind, is_observed, short_name};
use crate::reflection;
use fields::Wrong;
use places::{Places, Step, steps};
use secrets::SecretSource;
use stream::YamlPart;

/// Maximum number of resources in `ApplyResources`; a larger set is refused before it is sent.
const MAX_RESOURCES: usize = 10_000;

/// Levels of lists and mappings in a document, as the parser has it.
const MAX_DEPTH: usize = 128;

/// So many errors are told at once.
const MAX_ERRORS: usize = 20;

/// A resource from a file.
#[derive(Debug)]
pub struct Resource {
    pub kind: &'static Kind,
    pub message: DynamicMessage,
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a value stands.
#[derive(Debug, Clone)]
pub struct Place {
    file: Arc<Located>,
    /// Counted from 0.
    document: usize,
    /// From the root of the document to the value.
    within: Vec<Step>,
}

/// A file, and the places in it.
#[derive(Debug)]
struct Located {
    label: String,
    places: Places,
}

impl Place {
    /// `FILE:LINE: document N` of a field of the value, such as `tools[1].match`; empty: of the value itself.
    pub fn of(&self, path: &str) -> String {
        let line = self.line(path).map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: document {}", self.file.label, self.document + 1)
    }

    fn line(&self, path: &str) -> Option<usize> {
        let path: Vec<_> = self.within.iter().cloned().chain(steps(path)).collect();
        self.file.places.line(self.document, &path)
    }

    fn item(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { within: self.within.iter().cloned().chain(steps).collect(), ..self.clone() }
    }
}

/// Reads the given files, folders (recursively), patterns and stdin (`-`).
pub fn load(paths: &[PathBuf]) -> Result<Vec<Resource>> {
    load_with(paths, true)
}

/// Reads the same, for their names: secrets are not looked up.
pub fn load_names(paths: &[PathBuf]) -> Result<Vec<Resource>> {
    load_with(paths, false)
}

fn load_with(paths: &[PathBuf], with_secrets: bool) -> Result<Vec<Resource>> {
    let mut reader = Reader::default();
    for text in sources::read(paths)? {
        let secrets = if with_secrets { SecretSource::Folder(&text.folder) } else { SecretSource::None };
        reader.read(&text.label, &text.text, secrets);
    }
    reader.check_unique();
    reader.finish()
}

/// Parses the documents of a file. A document is a resource, a list of resources or a `List`.
pub fn parse(file: &str, text: &str) -> Result<Vec<Resource>> {
    let mut reader = Reader::default();
    reader.read(file, text, SecretSource::Folder(Path::new("")));
    reader.finish()
}

/// The resources so far, and what is wrong with others.
#[derive(Default)]
struct Reader {
    resources: Vec<Resource>,
    errors: Vec<String>,
}

impl Reader {
    fn finish(mut self) -> Result<Vec<Resource>> {
        if self.errors.is_empty() {
            return Ok(self.resources);
        }
        let more = self.errors.len().saturating_sub(MAX_ERRORS);
        self.errors.truncate(MAX_ERRORS);
        if more > 0 {
            self.errors.push(format!("and {more} more"));
        }
        Err(Error::usage(self.errors.join("\n")))
    }

    fn check_unique(&mut self) {
        let count = self.resources.len();
        if count > MAX_RESOURCES {
            self.errors.push(format!(
                "the files contain {count} resources, and at most {MAX_RESOURCES} are taken at once; give parts of them, such as one \
                 folder after the other (to prune, each with a --set of its own)"
            ));
        }
        let mut places = BTreeMap::new();
        for resource in &self.resources {
            let place = resource.place.of("name");
            if let Some(other) = places.get(&resource.name) {
                self.errors.push(format!("{place}: {} is already defined in {other}", resource.name));
            } else {
                places.insert(&resource.name, place);
            }
        }
    }

    fn read(&mut self, label: &str, text: &str, secrets: SecretSource<'_>) {
        if let Err((line, why)) = check_depth(text) {
            return self.errors.push(format!("{label}:{line}: {why}"));
        }
        let parts = stream::parts(text_without_mark(text));
        let places = Places::of(&parts);
        for places::Duplicate { document, key, lines: [first, line] } in &places.duplicates {
            let document = document + 1;
            self.errors.push(format!(
                "{label}:{line}: document {document}: `{key}` is given twice, first in line {first}"
            ));
        }
        if !places.duplicates.is_empty() {
            return;
        }
        let file = Arc::new(Located { label: label.to_owned(), places });
        let documents = parts.iter().flat_map(|part| {
            serde_yaml_ng::Deserializer::from_str(part.text).map(move |document| (part, document))
        });
        for (document, (part, parsed)) in documents.enumerate() {
            let place = Place { file: file.clone(), document, within: Vec::new() };
            let mut parsed = match Document::deserialize(parsed) {
                Ok(parsed) => parsed,
                Err(error) => return self.errors.push(broken(label, document, part, &error)),
            };
            match parsed.apply_merge() {
                Ok(()) => self.take_document(parsed, place, secrets),
                Err(error) => self.errors.push(format!("{}: {error}", place.of("<<"))),
            }
        }
    }

    fn take_document(&mut self, document: Document, place: Place, secrets: SecretSource<'_>) {
        match document {
            Document::Null => {}
            Document::Sequence(items) => self.take_items(items, &place, None, secrets),
            Document::Mapping(mut list) if list.get("kind").and_then(Document::as_str) == Some("List") => {
                match list.remove("items") {
                    Some(Document::Sequence(items)) => self.take_items(items, &place, Some("items"), secrets),
                    _ => self
                        .errors
                        .push(format!("{}: List: `items` must be a list of resources", place.of("items"))),
                }
            }
            one => self.take_resource(one, place, secrets),
        }
    }

    fn take_items(
        &mut self,
        items: Vec<Document>,
        place: &Place,
        under: Option<&str>,
        secrets: SecretSource<'_>,
    ) {
        for (index, item) in items.into_iter().enumerate() {
            let under = under.map(|key| Step::Key(key.to_owned()));
            self.take_resource(item, place.item(under.into_iter().chain([Step::Index(index)])), secrets);
        }
    }

    fn take_resource(&mut self, document: Document, place: Place, secrets: SecretSource<'_>) {
        match parse_resource(document, &place, secrets) {
            Ok(resource) => self.resources.push(resource),
            Err(mut wrong) => {
                wrong.sort_by_key(|one| place.line(&one.path));
                let lines = wrong.iter().map(|Wrong { path, why }| format!("{}: {why}", place.of(path)));
                self.errors.extend(lines);
            }
        }
    }
}

/// Says where a text is no YAML, and what is often the reason.
fn broken(label: &str, document: usize, part: &YamlPart<'_>, error: &serde_yaml_ng::Error) -> String {
    let (mut said, document, text) = (error.to_string(), document + 1, part.text);
    let Some(location) = error.location() else { return format!("{label}: document {document}: {said}") };
    let mut line = location.line();
    said = without_place(said, line);
    // What does not end is found at the end of the text, and begins elsewhere.
    if line > text.lines().count()
        && let Some((before, begin)) = said.split_once(" at line ")
        && let Some(begin) = begin.split(' ').next().and_then(|word| word.parse().ok())
    {
        (line, said) = (begin, before.to_owned());
    }
    let there = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if there.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') {
        "it is indented with a tab; YAML wants spaces".clone_into(&mut said);
    } else if said.contains("cannot start any token") || said.contains("an alias") {
        said.push_str("; put a text that begins with such a character in quotes");
    }
    format!("{label}:{}: document {document}: {said}", part.before + line)
}

/// Leaves out the columns of a line that is named already.
fn without_place(mut said: String, line: usize) -> String {
    let place = format!(" at line {line} column ");
    while let Some((before, after)) = said.split_once(&place) {
        said = before.to_owned() + after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    said
}

/// Refuses JSON that nests deeper than documents may: the parser takes time in proportion to the square of the depth to say so.
fn check_depth(text: &str) -> std::result::Result<(), (usize, String)> {
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(());
    }
    let (mut depth, mut line, mut in_string, mut escaped) = (0_usize, 1, false, false);
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err((line, format!("it nests more than {MAX_DEPTH} deep")));
        }
    }
    Ok(())
}

fn parse_resource(
    document: Document,
    place: &Place,
    secrets: SecretSource<'_>,
) -> std::result::Result<Resource, Vec<Wrong>> {
    let wrong = |path: &str, why: String| vec![Wrong::new(path, why)];
    let Document::Mapping(mut fields) = document else {
        return Err(wrong("", "a resource must be a mapping with a `kind`".into()));
    };
    let kind =
        fields.remove("kind").ok_or_else(|| wrong("", "`kind` is missing, as in `kind: Upstream`".into()))?;
    let kind = kind.as_str().ok_or_else(|| wrong("kind", "`kind` must be a string".into()))?;
    let kind = Kind::from_manifest(kind).map_err(|error| wrong("kind", error.to_string()))?;
    let of_kind = |mut wrong: Vec<Wrong>| {
        wrong.iter_mut().for_each(|one| one.why = format!("{kind}: {}", one.why));
        wrong
    };
    let mut json = serde_json::to_value(Document::Mapping(fields))
        .map_err(|error| wrong("", format!("{kind}: {error}")))?;
    if let Some(of_kubernetes) = fields::of_kubernetes(kind.singular, &json) {
        return Err(of_kind(vec![of_kubernetes]));
    }
    let mut found = secrets::resolve(kind, &mut json, secrets);
    let descriptor = reflection::message(kind.message);
    // What is wrong with a secret is said once, and without its value.
    let known: Vec<String> = found.iter().map(|one| one.path.clone()).collect();
    let is_known = |one: &Wrong| known.iter().any(|path| steps(path).starts_with(&steps(&one.path)));
    found.extend(fields::check(&descriptor, &json).into_iter().filter(|one| !is_known(one)));
    if !found.is_empty() {
        return Err(of_kind(found));
    }
    words::to_names(&descriptor, &mut json).map_err(|unknown| of_kind(wrong("", unknown.to_string())))?;
    let mut message = DynamicMessage::deserialize(descriptor, json)
        .map_err(|error| of_kind(wrong("", error.to_string())))?;
    let word = reflection::text(&message, "name");
    if word.is_empty() {
        return Err(of_kind(wrong("", format!("`name` is missing, as in `name: {}/…`", kind.plural))));
    }
    let name = kind.full_name(&word).map_err(|error| of_kind(wrong("name", format!("name: {error}"))))?;
    message.set_field_by_name("name", Field::String(name.clone()));
    Ok(Resource { kind, message, name, place: place.clone() })
}

/// Returns the desired state of a resource: its fields without those that are only observed.
pub fn desired(kind: &Kind, message: &DynamicMessage) -> serde_yaml_ng::Mapping {
    let mut document = reflection::document(kind.name, message);
    remove_observed(kind, &mut document, "");
    document
}

/// Puts references to variables in the places of the secrets of a resource, which are never read back. Returns the variables.
pub fn refer_to_secrets(kind: &Kind, document: &mut serde_yaml_ng::Mapping) -> Vec<String> {
    let id = document.get("name").and_then(Document::as_str).map(short_name).unwrap_or_default();
    secrets::refer(kind, &id, document)
}

fn remove_observed(kind: &Kind, mapping: &mut serde_yaml_ng::Mapping, prefix: &str) {
    mapping.retain(|key, value| {
        let path = format!("{prefix}{}", key.as_str().unwrap_or_default());
        if let Document::Mapping(inner) = value
            && !is_observed(kind, &path)
        {
            remove_observed(kind, inner, &format!("{path}."));
            return !(inner.is_empty() && path == "meta");
        }
        !is_observed(kind, &path)
    });
}

#[cfg(test)]
mod tests;
