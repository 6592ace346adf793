//! Requests to stores that the operator named: with a token, bounded in time and size. What they answer is quoted nowhere.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use mcp::border::text_without_mark;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};
use url::Url;
use zeroize::Zeroizing;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer: a Secret of Kubernetes has at most 1 MiB, which base64 makes a third larger.
const MAX_ANSWER_BYTES: usize = 2 << 20;
const MAX_TOKEN_BYTES: u64 = 16 << 10;

/// A client of a store. With `authorities` (PEM) it trusts those alone, else those of the system.
pub(super) fn client(authorities: Option<&[u8]>) -> Result<Client, reqwest::Error> {
    let mut builder =
        Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
    if let Some(pem) = authorities {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem)?);
    }
    builder.no_proxy().user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION"))).build()
}

/// The answer to a request, as far as it succeeds. `store` names it in errors.
pub(super) async fn get(
    client: &Client,
    store: &str,
    url: Url,
    headers: HeaderMap,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let broken = |error: reqwest::Error| format!("{store} {}", problem(&error));
    let mut response = client.get(url).headers(headers).send().await.map_err(broken)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(format!("{store} answered 404: there is no such secret")),
        status => return Err(format!("{store} answered {}", status.as_u16())),
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("{store} answered more than {MAX_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Zeroizing::new(body.into()))
}

fn problem(error: &reqwest::Error) -> &'static str {
    match error {
        error if error.is_timeout() => "did not answer in time",
        error if error.is_connect() => "cannot be reached, or its certificate is not trusted",
        _ => "did not answer as HTTP",
    }
}

/// Reads a token from a file, for a header.
pub(super) async fn token(path: &Path, before: &str) -> Result<HeaderValue, String> {
    let path = path.to_owned();
    let read = move || -> std::io::Result<Zeroizing<String>> {
        use std::io::Read as _;
        let mut text = Zeroizing::new(String::new());
        let found = std::fs::symlink_metadata(path.canonicalize()?)?;
        if !found.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        std::fs::File::open(&path)?.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let read: std::io::Result<_> =
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let text = read.map_err(|error| format!("its token cannot be read: {}", error.kind()))?;
    let value = Zeroizing::new(format!("{before}{}", text_without_mark(&text).trim()));
    let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| "its token is none".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
