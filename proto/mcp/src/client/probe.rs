//! What an endpoint is: which eras it speaks, and what it can do in each.

use std::sync::Arc;

use super::channel::Channel;
use super::endpoint::{ClientInfo, Endpoint};
use super::error::{ClientError, ProbeError};
use super::handshake::{ServerFacts, discover, initialize};
use super::http::Http;
use crate::error::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
use crate::revision::Revision;

/// What an endpoint was found to be. At least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What it is in the modern era.
    pub modern: Option<ModernSide>,
    /// What it is in the legacy era.
    pub legacy: Option<LegacySide>,
    /// Its name; empty where it does not say.
    pub server_name: String,
    /// Its version; empty where it does not say.
    pub server_version: String,
    /// How it wants to be used.
    pub instructions: Option<String>,
    /// How messages travel.
    pub transport: Transport,
}

/// The modern side of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModernSide {
    /// The revisions that both sides speak, newest first.
    pub versions: Vec<Revision>,
    /// Raw JSON object.
    pub capabilities: String,
}

/// The legacy side of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacySide {
    /// What was negotiated.
    pub version: Revision,
    /// Raw JSON object.
    pub capabilities: String,
    /// Whether it gives out session ids.
    pub sessionful: bool,
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// One URL, POST and sometimes GET.
    StreamableHttp,
}

/// Finds out what an endpoint is. `server/discover` is tried first, because it runs nothing on servers that do not know
/// it; then `initialize`, because the answer to the first does not tell whether the second works.
///
/// # Errors
/// When neither works; the text is that of the handshake that came further.
pub async fn probe(endpoint: &Endpoint, info: &ClientInfo) -> Result<Probe, ProbeError> {
    let http = Arc::new(Http::new(endpoint, info)?);
    let modern = modern_side(http.clone(), info).await;
    if let Err(error) = modern.as_ref()
        && !says_legacy(error)
    {
        return Err(error.clone().into());
    }
    match (modern, legacy_side(http, info).await) {
        (modern, Ok(legacy)) => Ok(together(modern.ok(), Some(legacy))),
        (Ok(modern), Err(error)) => {
            tracing::debug!(%error, "no legacy side");
            Ok(together(Some(modern), None))
        }
        // A server of another time: what it said first is what is wrong.
        (Err(error @ ClientError::Rpc { code: UNSUPPORTED_VERSION, .. }), Err(_)) => Err(error.into()),
        (Err(_), Err(error)) => Err(error.into()),
    }
}

async fn modern_side(http: Arc<Http>, info: &ClientInfo) -> Result<ServerFacts, ClientError> {
    discover(&mut Channel::new(http, info.clone(), Revision::LATEST)).await
}

async fn legacy_side(http: Arc<Http>, info: &ClientInfo) -> Result<(ServerFacts, bool), ClientError> {
    let mut channel = Channel::new(http, info.clone(), Revision::LATEST_LEGACY);
    let facts = initialize(&mut channel).await;
    channel.delete().await;
    Ok((facts?, channel.session_id.is_some()))
}

/// Whether a failed `server/discover` leaves `initialize` worth trying. An outage, missing credentials and what only
/// modern servers say do not.
fn says_legacy(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::Unauthorized { .. } => false,
        // What stands before a server that is down says these; 500 is also what some say to unknown methods.
        ClientError::Http { status, .. } => !matches!(status, 429 | 502..=504),
        ClientError::Rpc { code, .. } => !matches!(*code, HEADER_MISMATCH | MISSING_CAPABILITY),
        _ => true,
    }
}

fn together(modern: Option<ServerFacts>, legacy: Option<(ServerFacts, bool)>) -> Probe {
    let said = modern.iter().chain(legacy.iter().map(|(facts, _)| facts));
    let mut named = said.clone().filter(|facts| !facts.name.is_empty());
    let (server_name, server_version) =
        named.next().map(|facts| (facts.name.clone(), facts.version.clone())).unwrap_or_default();
    Probe {
        server_name,
        server_version,
        instructions: said.clone().find_map(|facts| facts.instructions.clone()),
        transport: Transport::StreamableHttp,
        modern: modern.map(|facts| ModernSide { versions: facts.versions, capabilities: facts.capabilities }),
        legacy: legacy.and_then(|(facts, sessionful)| {
            let version = *facts.versions.first()?;
            Some(LegacySide { version, capabilities: facts.capabilities, sessionful })
        }),
    }
}
