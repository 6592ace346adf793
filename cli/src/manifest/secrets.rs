//! Secrets of files, which are given by reference: `{fromEnv: NAME}`, `{fromFile: PATH}` or `{literal: TEXT}`. What looks like a
//! variable of a shell, or a reference to what the control plane reads elsewhere, is refused: it would be stored as it stands. Nothing
//! here says what a secret is.

use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use mcp::border::text_without_mark;
use schema::rules;
use serde_json::{Map, Value};
use serde_yaml_ng::{Mapping, Value as Document};

use super::elsewhere::{mapping_for, mapping_of, written};
use super::fields::Wrong;
use crate::kinds::{KINDS, Kind};
use crate::reflection;
use crate::suggest::did_you_mean;

/// The secrets of each kind: its name, and the parts of the path, of which `*` is every member of a mapping.
static SECRETS: LazyLock<Vec<(&str, Vec<String>)>> = LazyLock::new(|| {
    let paths = |kind: &'static Kind| {
        let found = rules::find(&reflection::message(kind.message), |rules| rules.secret);
        found.into_iter().map(|(path, field)| {
            let mut parts: Vec<_> = path.split('.').map(str::to_owned).collect();
            parts.extend(field.is_map().then(|| "*".to_owned()));
            (kind.name, parts)
        })
    };
    KINDS.iter().filter(|kind| kind.manifest.is_some()).flat_map(paths).collect()
});

/// The forms of a reference.
const FORMS: [&str; 3] = ["fromEnv", "fromFile", "literal"];

/// Larger files hold no secret.
const MAX_BYTES: u64 = 1 << 20;

/// Where secrets come from.
#[derive(Clone, Copy)]
pub(super) enum SecretSource<'a> {
    /// The environment of this process, and files from this folder on.
    Folder(&'a Path),
    /// Nowhere: they are not needed.
    None,
}

/// Puts the secrets in the places of their references. Returns what is wrong with them.
pub(super) fn resolve(kind: &Kind, fields: &mut Value, source: SecretSource<'_>) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (_, parts) in SECRETS.iter().filter(|(of, _)| *of == kind.name) {
        descend(fields, parts, String::new(), &mut |path, value| match secret(value, parts, source) {
            Ok(secret) => *value = Value::String(secret),
            Err(why) => wrong.push(Wrong::new(path, format!("`{path}` {why}"))),
        });
    }
    wrong
}

/// Visits the values at a path, in whatever case its members are written.
fn descend(value: &mut Value, path: &[String], at: String, visit: &mut dyn FnMut(&str, &mut Value)) {
    let Some((first, rest)) = path.split_first() else {
        if !value.is_null() {
            visit(&at, value);
        }
        return;
    };
    for (key, value) in value.as_object_mut().into_iter().flatten() {
        let is_any = first == "*";
        if is_any || plain(key) == plain(first) {
            let at = match (is_any, at.is_empty()) {
                (true, _) => format!("{at}[{key:?}]"),
                (_, true) => key.clone(),
                _ => format!("{at}.{key}"),
            };
            descend(value, rest, at, visit);
        }
    }
}

/// Puts references to variables in the places of the secrets that a document of `id` has left out, and returns their names.
pub(super) fn refer(kind: &Kind, id: &str, document: &mut Mapping) -> Vec<String> {
    let mut names = Vec::new();
    for (_, parts) in SECRETS.iter().filter(|(of, _)| *of == kind.name) {
        put_references(document, parts, id, &mut names);
    }
    names
}

fn put_references(holder: &mut Mapping, path: &[String], id: &str, names: &mut Vec<String>) {
    let Some((first, rest)) = path.split_first() else { return };
    let meant = |key: &Document| key.as_str().is_some_and(|key| first == "*" || plain(key) == plain(first));
    if !rest.is_empty() {
        let inner = holder.iter_mut().find(|(key, _)| meant(key));
        if let Some(inner) = inner.and_then(|(_, value)| value.as_mapping_mut()) {
            put_references(inner, rest, id, names);
        }
        return;
    }
    // What the control plane reads elsewhere is no secret of the file.
    let elsewhere = plain(&format!("{first}From"));
    if holder.keys().any(|key| key.as_str().is_some_and(|key| plain(key) == elsewhere)) {
        return;
    }
    let mut keys: Vec<_> = holder.keys().filter(|key| meant(key)).cloned().collect();
    if keys.is_empty() && first != "*" {
        keys.push(first.as_str().into());
    }
    for key in keys {
        let name = variable_of(id, key.as_str().unwrap_or_default());
        holder.insert(key, Document::Mapping(Mapping::from_iter([("fromEnv".into(), name.as_str().into())])));
        names.push(name);
    }
}

/// The variable for a secret of a resource: `UP_13_TOKEN`.
fn variable_of(id: &str, key: &str) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{id}_{key}").chars().map(part).collect()
}

fn plain(key: &str) -> String {
    key.replace('_', "").to_ascii_lowercase()
}

fn secret(value: &Value, at: &[String], source: SecretSource<'_>) -> Result<String, String> {
    match value {
        Value::String(_) if matches!(source, SecretSource::None) => Ok(String::new()),
        Value::String(text) => literal(text, at),
        Value::Object(reference) => referred(reference, at, source),
        _ => {
            Err("must be a text, {fromEnv: NAME}, {fromFile: PATH} or {literal: TEXT}; put numbers in quotes"
                .to_owned())
        }
    }
}

/// A text that stands for itself, and not for a secret that is elsewhere.
fn literal(text: &str, at: &[String]) -> Result<String, String> {
    if let Some(name) = variable(text) {
        return Err(format!(
            "has ${{{name}}}, which would be stored as it stands: write {{fromEnv: {name}}} for the variable, {{fromFile: PATH}} for the \
             content of a file, or {{literal: TEXT}} where it is meant so"
        ));
    }
    match mapping_for(text) {
        Some(mapping) => Err(format!(
            "is a reference to a secret, which would be stored as it stands: write `{}` for what the control plane reads there, or \
             {{literal: TEXT}} where it is meant so",
            written(at, mapping)
        )),
        None => Ok(text.to_owned()),
    }
}

fn referred(
    reference: &Map<String, Value>,
    at: &[String],
    source: SecretSource<'_>,
) -> Result<String, String> {
    let mut members = reference.iter();
    let (Some((form, value)), None) = (members.next(), members.next()) else {
        return Err("must have one of fromEnv, fromFile and literal".to_owned());
    };
    if !FORMS.contains(&form.as_str()) {
        let hint = match mapping_of(form) {
            Some(mapping) => format!("; write `{}` for what the control plane reads", written(at, mapping)),
            None => did_you_mean(form, FORMS),
        };
        return Err(format!("has `{form}`, and must have one of fromEnv, fromFile and literal{hint}"));
    }
    let word = value.as_str().ok_or_else(|| format!("must have a text as `{form}`"))?;
    match (source, form.as_str()) {
        (SecretSource::None, _) => Ok(String::new()),
        (_, "literal") => Ok(word.to_owned()),
        (_, "fromEnv") => from_environment(word),
        (SecretSource::Folder(folder), _) => from_file(&folder.join(word)),
    }
}

fn from_environment(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Err(format!("is from {name}, which is empty in the environment")),
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("is from {name}, which is not set in the environment"))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("is from {name}, which is no UTF-8")),
    }
}

/// Reads a file without a byte order mark and the newline at its end.
fn from_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    read.map_err(|error| format!("is from {shown}, which cannot be read: {error}"))?;
    match text_without_mark(&text).trim_end_matches(['\r', '\n']) {
        "" => Err(format!("is from {shown}, which is empty")),
        text => Ok(text.to_owned()),
    }
}

/// The name of the first variable in a text: `${NAME}`, `${env:NAME}` or `${NAME:-default}`.
fn variable(text: &str) -> Option<&str> {
    let starts = text.match_indices("${").map(|(at, open)| at + open.len());
    starts.filter_map(|at| text[at..].split_once('}')).find_map(|(inner, _)| {
        let inner = inner.strip_prefix("env:").unwrap_or(inner);
        let name = inner.split_once(":-").map_or(inner, |(name, _)| name);
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        is_name.then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(credential: Value, source: SecretSource<'_>) -> Result<Value, Vec<String>> {
        let mut fields = json!({ "credential": credential });
        let wrong = resolve(Kind::from_word("upstream"), &mut fields, source);
        if wrong.is_empty() {
            Ok(fields["credential"].take())
        } else {
            Err(wrong.into_iter().map(|one| one.why).collect())
        }
    }

    #[test]
    fn every_form_is_resolved_wherever_a_secret_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "\u{feff}s3cret\r\n").unwrap();
        let file = json!({"fromFile": "key"});
        let literal = json!({"literal": "${X}"});
        for (credential, expected) in [
            (json!({"bearer": {"token": file}}), json!({"bearer": {"token": "s3cret"}})),
            (
                json!({"basic": {"username": "${u}", "password": literal}}),
                json!({"basic": {"username": "${u}", "password": "${X}"}}),
            ),
            (
                json!({"headers": {"headers": {"fromEnv": file, "X": "$y"}}}),
                json!({"headers": {"headers": {"fromEnv": "s3cret", "X": "$y"}}}),
            ),
            (
                json!({"queryParameter": {"parameter": "p", "value": {"fromEnv": "PATH"}}}),
                json!({"queryParameter": {"parameter": "p", "value": std::env::var("PATH").unwrap()}}),
            ),
            (json!({"query_parameter": {"value": file}}), json!({"query_parameter": {"value": "s3cret"}})),
            (json!({"bearer": {}}), json!({"bearer": {}})),
            (json!({"bearer": {"token": null}}), json!({"bearer": {"token": null}})),
        ] {
            assert_eq!(
                resolved(credential.clone(), SecretSource::Folder(folder.path())),
                Ok(expected),
                "{credential}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let place = folder.path().display();
        let forms = "must have one of fromEnv, fromFile and literal";
        for (token, why) in [
            (
                json!("s3cret ${env:TOKEN:-x}"),
                "has ${TOKEN}, which would be stored as it stands: write {fromEnv: TOKEN} for the variable, {fromFile: PATH} for the \
                 content of a file, or {literal: TEXT} where it is meant so"
                    .to_owned(),
            ),
            (json!({"fromEnv": "NO_SUCH_VARIABLE_HERE"}), "is from NO_SUCH_VARIABLE_HERE, which is not set in the environment".to_owned()),
            (json!({"fromFile": "empty"}), format!("is from {place}/empty, which is empty")),
            (
                json!({"fromFile": "gone"}),
                format!("is from {place}/gone, which cannot be read: No such file or directory (os error 2)"),
            ),
            (json!({"fromenv": "A"}), format!("has `fromenv`, and {forms}; did you mean fromEnv?")),
            (
                json!("vault:secret/data/s3cret#token"),
                "is a reference to a secret, which would be stored as it stands: write `tokenFrom: {vault: {mount: MOUNT, path: PATH, \
                 key: KEY}}` for what the control plane reads there, or {literal: TEXT} where it is meant so"
                    .to_owned(),
            ),
            (
                json!({"env": {"name": "A"}}),
                format!("has `env`, and {forms}; write `tokenFrom: {{env: {{name: NAME}}}}` for what the control plane reads"),
            ),
            (json!({"fromEnv": "A", "fromFile": "b"}), forms.to_owned()),
            (json!({}), forms.to_owned()),
            (json!({"literal": 5}), "must have a text as `literal`".to_owned()),
            (
                json!(12345),
                "must be a text, {fromEnv: NAME}, {fromFile: PATH} or {literal: TEXT}; put numbers in quotes".to_owned(),
            ),
        ] {
            let wrong = resolved(json!({"bearer": {"token": token}}), SecretSource::Folder(folder.path())).unwrap_err();
            assert_eq!(wrong, [format!("`credential.bearer.token` {why}")], "{token}");
        }
        let headers = json!({"headers": {"headers": {"X.Y": "${A}"}}});
        let wrong = resolved(headers.clone(), SecretSource::Folder(folder.path())).unwrap_err();
        assert!(wrong[0].starts_with("`credential.headers.headers[\"X.Y\"]` has ${A}, "), "{wrong:?}");
        let header = json!({"headers": {"headers": {"X": "env:A"}}});
        let wrong = resolved(header, SecretSource::Folder(folder.path())).unwrap_err();
        assert!(
            wrong[0].contains("`headersFrom: [{name: NAME, valueFrom: {env: {name: NAME}}}]`"),
            "{wrong:?}"
        );
        let meant = json!({"bearer": {"token": {"literal": "env:A"}}});
        assert_eq!(resolved(meant, SecretSource::None), Ok(json!({"bearer": {"token": ""}})));
        // Whoever deletes needs no secrets.
        assert_eq!(resolved(headers, SecretSource::None), Ok(json!({"headers": {"headers": {"X.Y": ""}}})));
    }

    #[test]
    fn secrets_that_were_left_out_are_referred_to() {
        let referred = |credential: &str| {
            let text = format!("kind: Upstream\nname: upstreams/up-13\ncredential: {credential}\n");
            let mut document: Mapping = serde_yaml_ng::from_str(&text).unwrap();
            let names = refer(Kind::from_word("upstream"), "up-13", &mut document);
            let said: Value = serde_json::to_value(&document["credential"]).unwrap();
            (said, names.join(" "))
        };
        let from = |name: &str| json!({ "fromEnv": name });
        for (credential, expected, names) in [
            ("{bearer: {}}", json!({"bearer": {"token": from("UP_13_TOKEN")}}), "UP_13_TOKEN"),
            (
                "{basic: {username: u, password: ''}}",
                json!({"basic": {"username": "u", "password": from("UP_13_PASSWORD")}}),
                "UP_13_PASSWORD",
            ),
            (
                "{headers: {headers: {X-Key: '', b: ''}}}",
                json!({"headers": {"headers": {"X-Key": from("UP_13_X_KEY"), "b": from("UP_13_B")}}}),
                "UP_13_X_KEY UP_13_B",
            ),
            (
                "{bearer: {tokenFrom: {env: {name: A}}}}",
                json!({"bearer": {"tokenFrom": {"env": {"name": "A"}}}}),
                "",
            ),
            (
                "{basic: {username: u, passwordFrom: {env: {name: A}}}}",
                json!({"basic": {"username": "u", "passwordFrom": {"env": {"name": "A"}}}}),
                "",
            ),
            (
                "{queryParameter: {parameter: p}}",
                json!({"queryParameter": {"parameter": "p", "value": from("UP_13_VALUE")}}),
                "UP_13_VALUE",
            ),
        ] {
            assert_eq!(referred(credential), (expected, names.to_owned()), "{credential}");
        }
    }

    #[test]
    fn what_only_looks_like_a_variable_is_a_secret() {
        for (text, name) in [
            ("a${TOKEN}b", Some("TOKEN")),
            ("${env:T_1}", Some("T_1")),
            ("${A:-x}", Some("A")),
            ("${ ${B}", Some("B")),
            ("$TOKEN", None),
            ("$2b$10$x", None),
            ("${}", None),
            ("${1}", None),
            ("${a-b}", None),
            ("${A", None),
        ] {
            assert_eq!(variable(text), name, "{text}");
        }
    }
}
