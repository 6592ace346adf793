//! Secrets of Kubernetes (`GET /api/v1/namespaces/{namespace}/secrets/{name}`), read as the service account of the control plane.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::document::Document;
use super::requests;

/// The API of a cluster, and the account that it is asked by.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) api: Url,
    /// The file of the account's token, which the cluster replaces from time to time.
    pub(super) token_file: PathBuf,
    /// The namespace of the account.
    pub(super) namespace: String,
}

/// The name of the store in errors.
const STORE: &str = "kubernetes";

#[derive(Deserialize)]
struct SecretObject {
    /// In base64. None of one that is empty.
    data: Option<BTreeMap<String, String>>,
}

impl Cluster {
    /// Reads all keys of a Secret.
    pub(super) async fn read(&self, name: &str) -> Result<Document, String> {
        let url = url(&self.api, &self.namespace, name)?;
        let token = requests::token(&self.token_file, "Bearer ").await;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, token.map_err(|error| format!("{STORE}: {error}"))?);
        parse(&requests::get(&self.client, STORE, url, headers).await?)
    }
}

fn url(api: &Url, namespace: &str, name: &str) -> Result<Url, String> {
    let mut url = api.clone();
    {
        let mut segments = url.path_segments_mut().map_err(|()| "its address has no path".to_owned())?;
        segments.pop_if_empty().extend(["api", "v1", "namespaces", namespace, "secrets", name]);
    }
    Ok(url)
}

fn parse(answer: &[u8]) -> Result<Document, String> {
    let answer: SecretObject =
        serde_json::from_slice(answer).map_err(|_| format!("{STORE} did not answer with a Secret"))?;
    let text = |value: String| {
        let bytes = STANDARD.decode(value).map_err(|_| "is no base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8 text")?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    };
    let data = answer.data.unwrap_or_default();
    Ok(Document::Keys(data.into_iter().map(|(key, value)| (key, text(value))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_decoded_or_said_to_be_none_and_never_quoted() {
        let secret = r#"{"kind":"Secret","data":{"key":"czNjcmV0Cg==","bytes":"//4=","bad":"s3cret!"}}"#;
        let document = parse(secret.as_bytes()).unwrap();
        assert_eq!(document.secret("key").unwrap(), "s3cret");
        assert_eq!(document.secret("bytes").unwrap_err(), "its key \"bytes\" is no UTF-8 text");
        assert_eq!(document.secret("bad").unwrap_err(), "its key \"bad\" is no base64");
        let empty = parse(br#"{"kind":"Secret"}"#).unwrap();
        assert_eq!(empty.secret("key").unwrap_err(), "it has no key \"key\"");
        assert!(!parse(b"s3cret").unwrap_err().contains("s3cret"));
    }

    #[test]
    fn the_path_is_that_of_a_secret_in_the_namespace() {
        let api = "https://10.0.0.1:443".parse().unwrap();
        let expected = "https://10.0.0.1/api/v1/namespaces/ns/secrets/trunkline-secret-a";
        assert_eq!(url(&api, "ns", "trunkline-secret-a").unwrap().as_str(), expected);
    }
}
