//! The handshake: `initialize` in the legacy era, `server/discover` in the modern one.

use std::borrow::Cow;
use std::time::Duration;

use ::http::HeaderValue;
use tokio::time::timeout;

use super::error::ClientError;
use super::http::HttpClient;
use super::rpc::{RpcClient, SessionHeaders};
use crate::json::{self, JsonError, quote};
use crate::meta;
use crate::method::Method;
use crate::quirk::Quirk;
use crate::revision::{Era, Revision};
use crate::version_refusal::VersionRefusal;

/// Bytes of capabilities, and of instructions, that are taken.
const MAX_CAPABILITIES_BYTES: usize = 64 << 10;
const MAX_INSTRUCTIONS_BYTES: usize = 64 << 10;
/// Bytes of a name, and of a version, that are taken.
const MAX_NAME_BYTES: usize = 1_024;
/// Longest wait for the ping that shows whether a revision is taken.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

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

/// What shows that a server takes the revision that it agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The first request of the caller.
    FirstRequest,
    /// A ping, where the server agreed to what it was offered, as those do that look at no offer.
    Ping,
}

/// The revisions of one handshake.
struct Offers {
    tried: Vec<Revision>,
    /// How the first of them was refused.
    refused: Option<ClientError>,
}

/// Opens a session with `initialize` and `notifications/initialized`. Offers the newest revision; to a server that refuses it
/// instead of offering another, be it afterwards, those that it names, or else the older ones in turn, each once.
pub(super) async fn initialize(rpc: &mut RpcClient, proof: Proof) -> Result<ServerFacts, ClientError> {
    let mut offers = Offers { tried: Vec::new(), refused: None };
    loop {
        let (result, session) = offers.open(rpc).await?;
        let members = ["protocolVersion", "capabilities", "serverInfo", "instructions"];
        let [version, capabilities, info, instructions] = json::members(&result, members)?;
        let revision = agreed(&rpc.http, version)?;
        let proves = proof == Proof::Ping && revision == rpc.revision;
        rpc.revision = revision;
        rpc.negotiated = true;
        rpc.session = session;
        if let Some(cookies) = &rpc.session.cookies {
            rpc.http.quirks.note(Quirk::AffinityCookies, || rpc.http.sanitize(&cookie_names(cookies)));
        }
        let Some(refused) = begin(rpc, proves).await? else {
            offers.note(rpc);
            return facts(&rpc.http, "initialize", vec![revision], capabilities, info, instructions);
        };
        offers.tried.push(revision);
        rpc.delete().await;
        (rpc.negotiated, rpc.session) = (false, SessionHeaders::default());
        rpc.revision = offers.after(refused)?;
    }
}

impl Offers {
    /// Offers revisions until the server agrees to one. Returns the result of `initialize` and what the session is told by.
    async fn open(&mut self, rpc: &mut RpcClient) -> Result<(String, SessionHeaders), ClientError> {
        loop {
            let params = format!(
                r#"{{"protocolVersion":{},"capabilities":{},"clientInfo":{}}}"#,
                quote(rpc.revision.as_str()),
                rpc.capabilities,
                rpc.info.json()
            );
            self.tried.push(rpc.revision);
            match rpc.call_initialize(Method::Initialize.as_str(), &params).await {
                Ok(opened) => return Ok(opened),
                Err(error) => rpc.revision = self.after(error)?,
            }
        }
    }

    /// The revision to offer after the last one was refused so; the first refusal, if none is left.
    fn after(&mut self, refused: ClientError) -> Result<Revision, ClientError> {
        let next = said(&refused).and_then(|said| said.instead(&self.tried));
        let first = self.refused.get_or_insert(refused);
        next.ok_or_else(|| first.clone())
    }

    fn note(self, rpc: &RpcClient) {
        if let Some(refused) = self.refused {
            rpc.http.quirks.note(Quirk::RefusesNewerVersions, || refused.to_string());
        }
    }
}

/// The revision that a server agreed to, given raw.
fn agreed(http: &HttpClient, version: Option<&str>) -> Result<Revision, ClientError> {
    let version = version.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
    Revision::agreed(&version).ok_or_else(|| match &*version {
        "" => ClientError::Version { offered: String::new() },
        version => ClientError::Version { offered: http.sanitize(version) },
    })
}

/// Says that we are ready. Returns how the server refuses the revision that it agreed to, if it does.
async fn begin(rpc: &RpcClient, proves: bool) -> Result<Option<ClientError>, ClientError> {
    let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let refused = match rpc.notify(initialized.as_slice().into()).await {
        Err(unreachable @ ClientError::Unreachable(_)) => return Err(unreachable),
        refused => refused.err(),
    };
    let asks = proves || refused.as_ref().is_some_and(is_about_revision);
    if asks && let Some(error) = refused_revision(rpc).await {
        return Ok(Some(error));
    }
    // Nothing hangs on it: servers that refuse it answer all the same.
    if let Some(refused) = refused {
        rpc.http.quirks.note(Quirk::RefusesInitialized, || refused.to_string());
    }
    Ok(None)
}

/// How a server refuses the revision that it agreed to, told from a ping. On a channel no message names the revision.
async fn refused_revision(rpc: &RpcClient) -> Option<ClientError> {
    if rpc.channel.is_some() {
        return None;
    }
    let ping = timeout(PING_TIMEOUT, rpc.call_once(Method::Ping.as_str(), "{}")).await;
    ping.ok()?.err().filter(is_about_revision)
}

/// Whether the revision is what a server refuses.
pub(super) fn is_about_revision(error: &ClientError) -> bool {
    said(error).is_some_and(|said| said.is_about_revision())
}

/// What a server says in a refusal that may be about the revision.
fn said(error: &ClientError) -> Option<VersionRefusal<'_>> {
    match error {
        ClientError::Rpc { code, message, data, .. } => Some(VersionRefusal {
            code: Some(*code),
            text: message,
            data: data.as_deref().unwrap_or_default(),
        }),
        ClientError::Http { status: 400..=499, excerpt } => {
            let said = VersionRefusal { code: None, text: excerpt, data: "" };
            // Pages of all kinds speak of versions.
            (error.status() == Some(400) || said.is_about_revision()).then_some(said)
        }
        _ => None,
    }
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
    let versions = match versions.unwrap_or("[]") {
        // One of them, where a list should be.
        date if date.starts_with('"') => common(&format!("[{date}]")),
        list => common(list),
    }?;
    let Some(newest) = versions.first() else {
        return Err(ClientError::Protocol(
            "server/discover returned no supported protocol version".to_owned(),
        ));
    };
    rpc.revision = *newest;
    rpc.negotiated = true;
    let meta = meta.filter(|raw| raw.starts_with('{')).unwrap_or("{}");
    let [info] = json::members(meta, [meta::SERVER_INFO])?;
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
    let kept = bounded(capabilities)?;
    let info = info.filter(|raw| raw.starts_with('{')).unwrap_or("{}");
    let [name, version] = json::members(info, ["name", "version"])?;
    let too_long = |part: &str, length: usize, max: usize| {
        let says = || format!("{method} returned {part} of {length} bytes; {max} are taken");
        http.quirks.note(Quirk::LongSelfDescription, says);
    };
    if kept.len() < capabilities.len() {
        too_long("capabilities", capabilities.len(), MAX_CAPABILITIES_BYTES);
    }
    let text = |part: &str, raw: Option<&str>, max: usize| {
        let text = json::string(raw?).ok()?;
        if text.len() > max {
            too_long(part, text.len(), max);
        }
        // A secret is found as a whole only: it is taken out before the end is cut off.
        let mut text = http.redact(&text[..text.floor_char_boundary(2 * max)]);
        text.truncate(text.floor_char_boundary(max));
        Some(text)
    };
    Ok(ServerFacts {
        versions,
        name: text("a name", name, MAX_NAME_BYTES).unwrap_or_default(),
        version: text("a version", version, MAX_NAME_BYTES).unwrap_or_default(),
        instructions: text("instructions", instructions, MAX_INSTRUCTIONS_BYTES),
        capabilities: kept.into_owned(),
    })
}

/// Capabilities without those for which there is no room, the longest: what is known of is short.
fn bounded(capabilities: &str) -> Result<Cow<'_, str>, JsonError> {
    let mut members = Vec::new();
    json::each_member(capabilities, |key, value| {
        members.push((key, value));
        Ok(())
    })?;
    if capabilities.len() <= MAX_CAPABILITIES_BYTES {
        return Ok(Cow::Borrowed(capabilities));
    }
    members.sort_by_key(|(key, value)| key.len() + value.len());
    let mut kept = String::from("{");
    for (key, value) in members {
        if kept.len() + key.len() + value.len() + 3 > MAX_CAPABILITIES_BYTES {
            break;
        }
        let comma = if kept.len() > 1 { "," } else { "" };
        kept.extend([comma, key, ":", value]);
    }
    kept.push('}');
    Ok(Cow::Owned(kept))
}

/// The names of cookies, without their values.
fn cookie_names(cookies: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(cookies.as_bytes());
    let names = text.split("; ").map(|cookie| cookie.split_once('=').map_or(cookie, |(name, _)| name));
    names.collect::<Vec<_>>().join(", ")
}
