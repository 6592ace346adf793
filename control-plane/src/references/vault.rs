//! Vault's KV engine of version 2 (`GET /v1/{mount}/data/{path}`), of which the newest version is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Client;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::document::Document;
use super::requests;

/// A Vault and how it is asked.
#[derive(Debug)]
pub(super) struct KvEngines {
    pub(super) client: Client,
    pub(super) address: Url,
    pub(super) token_file: PathBuf,
}

/// The name of the store in errors.
const STORE: &str = "vault";

#[derive(Deserialize)]
struct KvAnswer {
    data: KvVersion,
}

#[derive(Deserialize)]
struct KvVersion {
    /// None of a version that was deleted.
    data: Option<BTreeMap<String, Value>>,
}

impl KvEngines {
    /// Reads all keys of a secret.
    pub(super) async fn read(&self, mount: &str, path: &str) -> Result<Document, String> {
        let url = url(&self.address, mount, path)?;
        let token =
            requests::token(&self.token_file, "").await.map_err(|error| format!("{STORE}: {error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert("x-vault-token", token);
        // Of an agent of Vault, which asks for it against requests that a page makes.
        headers.insert("x-vault-request", reqwest::header::HeaderValue::from_static("true"));
        parse(&requests::get(&self.client, STORE, url, headers).await?)
    }
}

fn url(address: &Url, mount: &str, path: &str) -> Result<Url, String> {
    let mut url = address.clone();
    {
        let mut segments = url.path_segments_mut().map_err(|()| "its address has no path".to_owned())?;
        segments.pop_if_empty().push("v1").extend(mount.split('/')).push("data").extend(path.split('/'));
    }
    Ok(url)
}

fn parse(answer: &[u8]) -> Result<Document, String> {
    let answer: KvAnswer = serde_json::from_slice(answer)
        .map_err(|_| format!("{STORE} did not answer as a KV engine of version 2 does"))?;
    let keys = answer.data.data.ok_or_else(|| "its newest version is deleted".to_owned())?;
    let text = |value: Value| match value {
        Value::String(text) => Ok(Zeroizing::new(text)),
        _ => Err("is no text"),
    };
    Ok(Document::Keys(keys.into_iter().map(|(key, value)| (key, text(value))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_one_of_version_2() {
        let at =
            |address: &str, mount, path| url(&address.parse().unwrap(), mount, path).unwrap().to_string();
        assert_eq!(at("http://v:8200", "secret", "a/b c"), "http://v:8200/v1/secret/data/a/b%20c");
        assert_eq!(at("http://v/vault/", "kv/team", "a"), "http://v/vault/v1/kv/team/data/a");
    }

    #[test]
    fn an_answer_is_read_or_said_to_be_none_and_never_quoted() {
        let version = r#"{"request_id":"r","lease_duration":0,"data":{"data":{"key":"s3cret","n":1},"metadata":{"version":2}}}"#;
        let document = parse(version.as_bytes()).unwrap();
        assert_eq!(document.secret("key").unwrap(), "s3cret");
        assert_eq!(document.secret("n").unwrap_err(), "its key \"n\" is no text");
        assert_eq!(document.secret("x").unwrap_err(), "it has no key \"x\"");
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z"}}}"#;
        assert_eq!(parse(deleted.as_bytes()).unwrap_err(), "its newest version is deleted");
        for other in ["s3cret", r#"{"data":{"data":"s3cret"}}"#, r#"{"errors":["s3cret"]}"#] {
            let error = parse(other.as_bytes()).unwrap_err();
            assert!(!error.contains("s3cret") && error.contains("KV engine of version 2"), "{error}");
        }
        // An engine of version 1 has the keys where version 2 has an object.
        assert!(parse(br#"{"data":{"key":"s3cret"}}"#).is_err());
    }
}
