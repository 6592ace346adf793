//! The handshake: `initialize` in the legacy era, `server/discover` in the modern one.

use ::http::HeaderValue;

use super::error::ClientError;
use super::http::HttpClient;
use super::rpc::{RpcClient, SessionHeaders};
use crate::json::{self, JsonError, quote};
use crate::meta;
use crate::method::Method;
use crate::quirk::Quirk;
use crate::revision::{Era, Revision};

/// Bytes of capabilities, and of instructions, that are taken.
const MAX_CAPABILITIES_BYTES: usize = 64 << 10;
const MAX_INSTRUCTIONS_BYTES: usize = 64 << 10;
/// Bytes of a name, and of a version, that are taken.
const MAX_NAME_BYTES: usize = 1_024;

/// A server's description of itself, each part of which is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// The revisions of the era in question that both sides speak, newest first.
    pub versions: Vec<Revision>,
    /// Its capabilities, a raw JSON object.
    pub capabilities: String,
    /// Its name; empty where it does not say.
    pub name: String,
    /// Its version; empty where it does not say.
    pub version: String,
    /// Its instructions.
    pub instructions: Option<String>,
}

/// Opens a session with `initialize` and `notifications/initialized`.
pub(super) async fn initialize(rpc: &mut RpcClient) -> Result<ServerFacts, ClientError> {
    let (result, session) = offer_versions(rpc).await?;
    let members = ["protocolVersion", "capabilities", "serverInfo", "instructions"];
    let [version, capabilities, info, instructions] = json::members(&result, members)?;
    let version = version.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
    let revision = Revision::parse(&version).filter(|r| r.era() == Era::Legacy);
    let revision = revision.ok_or_else(|| match &*version {
        "" => ClientError::Version { offered: String::new() },
        version => ClientError::Version { offered: rpc.http.sanitize(version) },
    })?;
    rpc.revision = revision;
    rpc.negotiated = true;
    rpc.session = session;
    if let Some(cookies) = &rpc.session.cookies {
        rpc.http.quirks.note(Quirk::AffinityCookies, || rpc.http.sanitize(&cookie_names(cookies)));
    }
    let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    match rpc.notify(initialized.as_slice().into()).await {
        Err(unreachable @ ClientError::Unreachable(_)) => return Err(unreachable),
        // It says that we are ready, and nothing hangs on it: servers that refuse it answer all the same.
        Err(refused) => rpc.http.quirks.note(Quirk::RefusesInitialized, || refused.to_string()),
        Ok(()) => {}
    }
    facts(&rpc.http, "initialize", vec![revision], capabilities, info, instructions)
}

/// Offers the newest revision; to a server that refuses it instead of offering another, those that it names, or else the
/// older ones in turn. Returns the result of `initialize` and what the session is told by.
async fn offer_versions(rpc: &mut RpcClient) -> Result<(String, SessionHeaders), ClientError> {
    let mut tried = Vec::new();
    let mut first: Option<ClientError> = None;
    loop {
        let params = format!(
            r#"{{"protocolVersion":{},"capabilities":{{}},"clientInfo":{}}}"#,
            quote(rpc.revision.as_str()),
            rpc.info.json()
        );
        tried.push(rpc.revision);
        let error = match rpc.call_initialize(Method::Initialize.as_str(), &params).await {
            Ok(opened) => {
                if let Some(refused) = first {
                    rpc.http.quirks.note(Quirk::RefusesNewerVersions, || refused.to_string());
                }
                return Ok(opened);
            }
            Err(error) => error,
        };
        let next = version_instead(&error, &tried);
        let first = first.get_or_insert(error);
        match next {
            Some(next) => rpc.revision = next,
            None => return Err(first.clone()),
        }
    }
}

/// The revision to offer after those that were `tried`, by how the server refused the last one: the newest that it names;
/// where it speaks of versions and lists none, the next older one. `None`: its error is about something else, or it speaks
/// none of ours.
fn version_instead(refused: &ClientError, tried: &[Revision]) -> Option<Revision> {
    let (text, data) = match refused {
        ClientError::Rpc { message, data, .. } => (message, data.as_deref().unwrap_or_default()),
        ClientError::Http { status: 400, excerpt } => (excerpt, ""),
        _ => return None,
    };
    let legacy = Revision::ALL.into_iter().filter(|r| r.era() == Era::Legacy).rev();
    let mut left = legacy.filter(|revision| !tried.contains(revision));
    let mut named = left.clone().filter(|r| [text, data].iter().any(|said| said.contains(r.as_str())));
    named.next().or_else(|| {
        let names_none = text.to_ascii_lowercase().contains("version") && !data.contains("\"supported\"");
        names_none.then(|| left.next()).flatten()
    })
}

/// Asks a modern server what it speaks and what it can do.
pub(super) async fn discover(rpc: &mut RpcClient) -> Result<ServerFacts, ClientError> {
    let method = Method::ServerDiscover.as_str();
    let result = match rpc.call(method, "{}").await {
        Err(error) => match other_version(rpc, &error) {
            Some(revision) => {
                rpc.revision = revision;
                rpc.call(method, "{}").await?
            }
            None => return Err(error),
        },
        Ok(result) => result,
    };
    let members = ["supportedVersions", "capabilities", "_meta", "instructions"];
    let [versions, capabilities, meta, instructions] = json::members(&result, members)?;
    let versions = common(versions.unwrap_or("[]"))?;
    let Some(newest) = versions.first() else {
        return Err(ClientError::Protocol(
            "server/discover returned no supported protocol version".to_owned(),
        ));
    };
    rpc.revision = *newest;
    rpc.negotiated = true;
    let [info] = json::members(meta.unwrap_or("{}"), [meta::SERVER_INFO])?;
    facts(&rpc.http, method, versions, capabilities, info, instructions)
}

/// The revision to try instead, when a server refuses ours and names others.
fn other_version(rpc: &RpcClient, error: &ClientError) -> Option<Revision> {
    let ClientError::Rpc { code: crate::error::UNSUPPORTED_VERSION, data: Some(data), .. } = error else {
        return None;
    };
    let [supported] = json::members(data, ["supported"]).ok()?;
    common(supported?).ok()?.into_iter().find(|r| *r != rpc.revision)
}

/// The modern revisions of a raw JSON array that we speak, newest first.
fn common(array: &str) -> Result<Vec<Revision>, JsonError> {
    let mut versions = Vec::new();
    json::each_element(array, |raw| {
        let revision = json::string(raw).ok().and_then(|date| Revision::parse(&date));
        versions.extend(revision.filter(|r| r.era() == Era::Modern));
        Ok::<_, JsonError>(())
    })?;
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    Ok(versions)
}

/// Reads what a server says of itself. Its texts are for people, and lose the secrets that it was sent.
fn facts(
    http: &HttpClient,
    method: &'static str,
    versions: Vec<Revision>,
    capabilities: Option<&str>,
    info: Option<&str>,
    instructions: Option<&str>,
) -> Result<ServerFacts, ClientError> {
    let capabilities = match capabilities {
        Some(object) if object.starts_with('{') => object,
        other => {
            let says = || format!("{method} returned {}", http.sanitize(other.unwrap_or("none")));
            http.quirks.note(Quirk::CapabilitiesShape, says);
            "{}"
        }
    };
    check_size(method, "capabilities", capabilities, MAX_CAPABILITIES_BYTES)?;
    json::each_member(capabilities, |_, _| Ok::<_, JsonError>(()))?;
    let info = info.filter(|raw| raw.starts_with('{')).unwrap_or("{}");
    let [name, version] = json::members(info, ["name", "version"])?;
    let text = |part: &str, raw: Option<&str>, max| match raw.and_then(|raw| json::string(raw).ok()) {
        Some(text) => check_size(method, part, &text, max).map(|()| Some(http.redact(&text))),
        None => Ok(None),
    };
    Ok(ServerFacts {
        versions,
        capabilities: capabilities.to_owned(),
        name: text("a name", name, MAX_NAME_BYTES)?.unwrap_or_default(),
        version: text("a version", version, MAX_NAME_BYTES)?.unwrap_or_default(),
        instructions: text("instructions", instructions, MAX_INSTRUCTIONS_BYTES)?,
    })
}

/// The names of cookies, without their values.
fn cookie_names(cookies: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(cookies.as_bytes());
    let names = text.split("; ").map(|cookie| cookie.split_once('=').map_or(cookie, |(name, _)| name));
    names.collect::<Vec<_>>().join(", ")
}

fn check_size(method: &'static str, part: &str, text: &str, max: usize) -> Result<(), ClientError> {
    match text.len() {
        bytes if bytes > max => Err(ClientError::Protocol(format!(
            "{method} returned {part} of {bytes} bytes; the maximum is {max}"
        ))),
        _ => Ok(()),
    }
}
