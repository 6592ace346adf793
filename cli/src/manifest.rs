//! Resource files: `kind: Upstream`, then the fields of the message. Parsing is strict, and errors name the place.
//!
//! It knows no control plane: paths and text go in, resources come out.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mcp::border::text_without_mark;
use prost_reflect::{DynamicMessage, Kind as FieldKind, MessageDescriptor, Value as Field};
use serde::Deserialize as _;
use serde_json::{Value, json};
use serde_yaml_ng::Value as Document;

use crate::error::{Error, Result};
use crate::kinds::{Kind, is_observed};
use crate::reflection;
use crate::suggest::nearest;

/// Maximum number of resources in `ApplyResources`; a larger set is refused before it is sent.
const MAX_RESOURCES: usize = 10_000;

/// Levels of lists and mappings in a document, as the parser has it.
const MAX_DEPTH: usize = 128;

/// A resource from a file.
#[derive(Debug)]
pub struct Resource {
    pub kind: &'static Kind,
    pub message: DynamicMessage,
    pub name: String,
    place: String,
}

/// Reads the given files, folders (recursively) and stdin (`-`).
pub fn load(paths: &[PathBuf]) -> Result<Vec<Resource>> {
    let mut resources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            resources.extend(parse("stdin", &text)?);
            continue;
        }
        let mut files = Vec::new();
        collect_files(path, path, &mut files)?;
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
            resources.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    check_unique(&resources)?;
    Ok(resources)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("cannot read {}: {error}", path.display()))
}

fn collect_files(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result {
    if !path.is_dir() {
        let is_resource = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if path == root || is_resource {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(path).and_then(Iterator::collect);
    let mut paths: Vec<_> =
        entries.map_err(|e| unreadable(path, &e))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            collect_files(root, &path, files)?;
        }
    }
    Ok(())
}

fn check_unique(resources: &[Resource]) -> Result {
    if resources.len() > MAX_RESOURCES {
        return Err(Error::usage(format!(
            "the files contain {} resources; the maximum is {MAX_RESOURCES}",
            resources.len()
        )));
    }
    let mut places = BTreeMap::new();
    for resource in resources {
        if let Some(other) = places.insert(&resource.name, &resource.place) {
            return Err(Error::usage(format!(
                "{}: {} is already defined in {other}",
                resource.place, resource.name
            )));
        }
    }
    Ok(())
}

/// Parses the documents of a file. A document is a resource or a list of resources.
pub fn parse(file: &str, text: &str) -> Result<Vec<Resource>> {
    check_depth(text).map_err(|why| Error::usage(format!("{file}: {why}")))?;
    let mut resources = Vec::new();
    let text = text_without_mark(text);
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = format!("{file} document {}", index + 1);
        let document = Document::deserialize(document).map_err(|e| Error::usage(format!("{place}: {e}")))?;
        match document {
            Document::Null => {}
            Document::Sequence(items) => {
                for item in items {
                    resources.push(parse_resource(item, &place)?);
                }
            }
            one => resources.push(parse_resource(one, &place)?),
        }
    }
    Ok(resources)
}

/// Refuses JSON that nests deeper than documents may: the parser takes time in proportion to the square of the depth to say so.
fn check_depth(text: &str) -> std::result::Result<(), String> {
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
            return Err(format!("line {line} nests more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

fn parse_resource(document: Document, place: &str) -> Result<Resource> {
    let invalid = |why: String| Error::usage(format!("{place}: {why}"));
    let Document::Mapping(mut fields) = document else {
        return Err(invalid("a resource must be a mapping with a `kind`".into()));
    };
    let kind =
        fields.remove("kind").ok_or_else(|| invalid("`kind` is missing, as in `kind: Upstream`".into()))?;
    let kind = kind.as_str().ok_or_else(|| invalid("`kind` must be a string".into()))?;
    let kind = Kind::from_manifest(kind).map_err(|error| invalid(error.to_string()))?;
    let json = serde_json::to_value(Document::Mapping(fields)).map_err(|error| invalid(error.to_string()))?;
    let descriptor = reflection::message(kind.message);
    check_fields(&descriptor, &json, "").map_err(|why| invalid(format!("{kind}: {why}")))?;
    let mut message =
        DynamicMessage::deserialize(descriptor, json).map_err(|e| invalid(format!("{kind}: {e}")))?;
    let word = reflection::text(&message, "name");
    if word.is_empty() {
        return Err(invalid(format!("{kind}: `name` is missing, as in `name: {}/…`", kind.plural)));
    }
    let name = kind.full_name(&word).map_err(|error| invalid(format!("{kind}: name: {error}")))?;
    message.set_field_by_name("name", Field::String(name.clone()));
    Ok(Resource { kind, message, name, place: place.to_owned() })
}

/// Finds the first field that is unknown or has the wrong type, and names its whole path.
fn check_fields(message: &MessageDescriptor, json: &Value, path: &str) -> std::result::Result<(), String> {
    let Value::Object(members) = json else { return Err(format!("{path}: must be a mapping")) };
    for (key, value) in members {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let field = message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key));
        let Some(field) = field else { return Err(unknown_field(message, key, &path)) };
        match (field.kind(), value) {
            (FieldKind::Message(inner), Value::Object(_)) if is_trunkline(&inner) && !field.is_map() => {
                check_fields(&inner, value, &path)?;
            }
            (FieldKind::Message(inner), Value::Array(items)) if is_trunkline(&inner) && field.is_list() => {
                for (index, item) in items.iter().enumerate() {
                    check_fields(&inner, item, &format!("{path}[{index}]"))?;
                }
            }
            _ => {
                DynamicMessage::deserialize(message.clone(), json!({ key: value }))
                    .map_err(|e| format!("{path}: {e}"))?;
            }
        }
    }
    Ok(())
}

/// Returns whether a message is part of the Trunkline API. Google's messages have a JSON form of their own.
fn is_trunkline(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("trunkline.")
}

fn unknown_field(message: &MessageDescriptor, key: &str, path: &str) -> String {
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    match nearest(key, names.iter().map(String::as_str)) {
        Some(name) => format!("unknown field `{path}`; did you mean `{name}`?"),
        None => format!("unknown field `{path}`"),
    }
}

/// Returns the desired state of a resource: its fields without those that are only observed.
pub fn desired(kind: &Kind, message: &DynamicMessage) -> serde_yaml_ng::Mapping {
    let mut document = reflection::document(kind.name, message);
    remove_observed(kind, &mut document, "");
    document
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
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match parse("team.yaml", text) {
            Ok(resources) => resources.iter().map(|r| format!("{} {}\n", r.kind.name, r.name)).collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_nests_too_deep_is_refused_before_it_is_parsed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let refused = |text: &str| parse("f", text).unwrap_err().to_string();
        assert_eq!(refused(&format!("[\n{}]", "[".repeat(300_000))), "f: line 2 nests more than 128 deep");
        assert_eq!(refused(&nested(129)), "f: line 1 nests more than 128 deep");
        assert!(refused(&nested(3)).contains("must be a mapping"));
        let text = format!(r#"{{"kind":"Server","name":"x","title":"\"{}"}}"#, "[".repeat(500));
        assert!(parse("f", &text).is_ok(), "brackets in a text are text");
    }

    #[test]
    fn several_documents_lists_and_short_names() {
        let text = "kind: Upstream\nname: time\nhttp: {url: 'http://x/mcp'}\nmeta: {labels: {team: core}}\n---\n---\n\
                    - {kind: Server, name: servers/dev, tools: [{match: time/*}]}\n- {kind: Token, name: laptop}\n";
        assert_eq!(check(text), "Upstream upstreams/time\nServer servers/dev\nToken tokens/laptop\n");
        assert_eq!(check(&format!("\u{feff}{text}")), check(text), "a byte order mark");
    }

    #[test]
    fn errors_name_file_document_and_field() {
        let head = "kind: Upstream\nname: time\n";
        for (text, expected) in [
            ("name: x\n", "team.yaml document 1: `kind` is missing, as in `kind: Upstream`"),
            (
                "kind: Upsteam\n",
                "team.yaml document 1: unknown kind \"Upsteam\"; did you mean Upstream?; expected one of Upstream, Server, Tool, Resource, Prompt, Token",
            ),
            (
                "kind: Upstream\n",
                "team.yaml document 1: Upstream: `name` is missing, as in `name: upstreams/…`",
            ),
            (
                "kind: Server\nname: dev\n---\nkind: Upstream\nname: time\nhttp: {ur: x}\n",
                "team.yaml document 2: Upstream: unknown field `http.ur`; did you mean `url`?",
            ),
            (
                "kind: Server\nname: dev\ntools: [{match: a/b}, {mach: c}]\n",
                "team.yaml document 1: Server: unknown field `tools[1].mach`; did you mean `match`?",
            ),
        ] {
            assert_eq!(check(text), expected);
        }
        let error = check(&format!("{head}disabled: perhaps\n"));
        assert!(error.starts_with("team.yaml document 1: Upstream: disabled: "), "{error}");
        let error = check(&format!("{head}requestTimeout: soon\n"));
        assert!(error.starts_with("team.yaml document 1: Upstream: requestTimeout: "), "{error}");
        let error = check("kind: [");
        assert!(error.starts_with("team.yaml document 1: "), "{error}");
    }

    #[test]
    fn a_name_twice_names_both_places() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("a.yaml"), "kind: Server\nname: dev\n").unwrap();
        std::fs::write(folder.path().join("b/c.yml"), "kind: Server\nname: servers/dev\n").unwrap();
        std::fs::write(folder.path().join("README.md"), "not a resource").unwrap();
        let error = load(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("b/c.yml document 1: servers/dev is already defined in ")
                && error.contains("a.yaml document 1")
        );
    }

    #[test]
    fn what_is_observed_is_not_wanted() {
        let text = "kind: Upstream\nname: time\nmeta: {uid: u, etag: e}\nhttp: {url: u}\ncredential: {bearer: {}, version: v}\n\
                    status: {reason: r}\n";
        let resource = &parse("f", text).unwrap()[0];
        let text = serde_yaml_ng::to_string(&desired(resource.kind, &resource.message)).unwrap();
        assert_eq!(
            text,
            "kind: Upstream\nname: upstreams/time\nhttp:\n  url: u\ncredential:\n  bearer: {}\n"
        );
    }
}
