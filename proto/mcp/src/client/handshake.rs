//! The handshake: `initialize` in the legacy era, `server/discover` in the modern one.

use super::error::ClientError;
use super::http::HttpClient;
use super::rpc::RpcClient;
use crate::json::{self, JsonError, quote};
use crate::meta;
use crate::method::Method;
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
    let params = format!(
        r#"{{"protocolVersion":{},"capabilities":{{}},"clientInfo":{}}}"#,
        quote(rpc.revision.as_str()),
        rpc.info.json()
    );
    let (result, session_id) = rpc.call_initialize(Method::Initialize.as_str(), &params).await?;
    let members = ["protocolVersion", "capabilities", "serverInfo", "instructions"];
    let [version, capabilities, info, instructions] = json::members(&result, members)?;
    let version = json::string(version.unwrap_or("\"\""))?;
    let revision = Revision::parse(&version).filter(|r| r.era() == Era::Legacy).ok_or_else(|| {
        let version = rpc.http.sanitize(&version);
        ClientError::Protocol(format!("initialize returned protocol version {version:?}"))
    })?;
    rpc.revision = revision;
    rpc.negotiated = true;
    rpc.session_id = session_id;
    let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    rpc.notify(initialized.as_slice().into()).await?;
    facts(&rpc.http, "initialize", vec![revision], capabilities, info, instructions)
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
    let capabilities = capabilities.unwrap_or("{}");
    check_size(method, "capabilities", capabilities, MAX_CAPABILITIES_BYTES)?;
    json::each_member(capabilities, |_, _| Ok::<_, JsonError>(()))?;
    let [name, version] = json::members(info.unwrap_or("{}"), ["name", "version"])?;
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

fn check_size(method: &'static str, part: &str, text: &str, max: usize) -> Result<(), ClientError> {
    match text.len() {
        bytes if bytes > max => Err(ClientError::Protocol(format!(
            "{method} returned {part} of {bytes} bytes; the maximum is {max}"
        ))),
        _ => Ok(()),
    }
}
