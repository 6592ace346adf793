//! References to secrets that are kept elsewhere, as flags and people write them: `env:NAME`, `file:PATH[#KEY]`,
//! `vault:MOUNT/data/PATH#KEY` and `kubernetes:NAME/KEY`. Nothing is read here: the control plane does that.

use serde_json::{Value, json};

/// The forms, for who wrote another.
const FORMS: &str = "env:NAME, file:PATH, vault:MOUNT/data/PATH#KEY or kubernetes:NAME/KEY";

/// Reads a reference.
pub fn parse(text: &str) -> Result<Value, String> {
    let form = || format!("expected {FORMS}");
    let (store, place) = text.split_once(':').ok_or_else(form)?;
    match store {
        _ if place.is_empty() => Err(form()),
        "env" => Ok(json!({ "env": { "name": place } })),
        "file" => Ok(match place.split_once('#') {
            Some((path, key)) => json!({ "file": { "path": path, "key": key } }),
            None => json!({ "file": { "path": place } }),
        }),
        "vault" => vault(place).ok_or_else(|| {
            "expected vault:MOUNT/data/PATH#KEY, such as vault:secret/data/github#token".to_owned()
        }),
        "kubernetes" => {
            match place.split_once('/') {
                Some((name, key)) if !name.is_empty() && !key.is_empty() => {
                    Ok(json!({ "kubernetes": { "name": name, "key": key } }))
                }
                _ => Err("expected kubernetes:NAME/KEY, such as kubernetes:trunkline-secret-github/token"
                    .to_owned()),
            }
        }
        _ => Err(form()),
    }
}

fn vault(place: &str) -> Option<Value> {
    let (place, key) = place.rsplit_once('#')?;
    let (mount, path) = place.split_once("/data/")?;
    let is_whole = [mount, path, key].iter().all(|part| !part.is_empty());
    is_whole.then(|| json!({ "vault": { "mount": mount, "path": path, "key": key } }))
}

/// Reads `NAME=REFERENCE`.
pub fn parse_named(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, reference)) if !name.is_empty() => Ok((name.to_owned(), parse(reference)?)),
        _ => Err(format!("expected NAME=REFERENCE, where REFERENCE is {FORMS}")),
    }
}

/// A reference, as its flag takes it. `None`: there is none.
pub fn shown(reference: &Value) -> Option<String> {
    let (store, place) = reference.as_object()?.iter().next()?;
    let text = |field: &str| place[field].as_str().unwrap_or_default();
    let with_key =
        |shown: String| if text("key").is_empty() { shown } else { format!("{shown}#{}", text("key")) };
    Some(match store.as_str() {
        "env" => format!("env:{}", text("name")),
        "file" => with_key(format!("file:{}", text("path"))),
        "vault" => {
            let mount = if text("mount").is_empty() { "secret" } else { text("mount") };
            with_key(format!("vault:{mount}/data/{}", text("path")))
        }
        _ => format!("kubernetes:{}/{}", text("name"), text("key")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_as_it_was_written() {
        for text in [
            "env:TRUNKLINE_SECRET_GITHUB",
            "file:github/token",
            "file:github.json#token",
            "vault:secret/data/trunkline/github#token",
            "vault:kv/team/data/github#token",
            "kubernetes:trunkline-secret-github/token",
        ] {
            assert_eq!(shown(&parse(text).unwrap()).as_deref(), Some(text));
        }
        let default = json!({"vault": {"path": "a", "key": "k"}});
        assert_eq!(shown(&default).as_deref(), Some("vault:secret/data/a#k"));
        assert_eq!(shown(&Value::Null), None);
        assert_eq!(parse_named("X-Key=env:A").unwrap().0, "X-Key");
    }

    #[test]
    fn what_is_no_reference_is_refused_and_not_repeated() {
        for text in [
            "s3cret",
            "env:",
            "vault:secret/s3cret#k",
            "vault:secret/data/s3cret",
            "vault:/data/s3cret#k",
            "kubernetes:s3cret",
            "kubernetes:/s3cret",
            "https://s3cret",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("expected ") && !error.contains("s3cret"), "{text}: {error}");
        }
        assert!(parse_named("env:A").is_err() && parse_named("=env:A").is_err());
    }
}
