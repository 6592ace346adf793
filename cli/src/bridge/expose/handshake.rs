//! The handshake with a child: `initialize` or `server/discover`, and the information it returns.

use std::time::Duration;

use bytes::Bytes;
use mcp::border::ids;
use mcp::json::{self, JsonError};
use mcp::message::Envelope;
use mcp::meta;
use mcp::revision::{Era, Revision};

use crate::bridge::child::Child;
use crate::bridge::expose::child_output::{OutputReader, Recovered, UnreadableOutput};

/// The raw id of the first request.
const FIRST_ID: &str = "0";
/// The silence after which a child that frames its messages otherwise is given up.
const QUIET: Duration = Duration::from_secs(2);

/// The information from a child's handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The unchanged result of `initialize` or `server/discover`.
    pub result: String,
    /// The revision to speak with the child.
    pub revision: Revision,
}

impl ServerInfo {
    /// Describes the server for people: name, version and revision.
    pub fn describe(&self) -> String {
        let info = |object: &str| {
            let [name, version] = json::members(object, ["name", "version"]).ok()?;
            let text = |raw: Option<&str>| Some(json::string(raw?).ok()?.into_owned());
            Some(format!("{} {}", text(name)?, text(version).unwrap_or_default()))
        };
        let [legacy, meta] = json::members(&self.result, ["serverInfo", meta::META]).unwrap_or_default();
        let modern =
            meta.and_then(|meta| json::members(meta, [meta::SERVER_INFO]).ok().and_then(|[info]| info));
        let who = legacy.or(modern).and_then(info).unwrap_or_else(|| "unnamed server".into());
        format!("{who} ({})", self.revision.as_str())
    }
}

/// The reason why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// The child refused, for this reason.
    Refused(String),
    /// What the child writes cannot be read.
    Unreadable(String),
}

/// Performs the handshake with a new child. `None` means that the child ended. `on_unreadable` hears of the first line
/// that is no message.
pub async fn handshake(
    child: &mut Child,
    reader: &mut OutputReader,
    era: Era,
    mut on_unreadable: impl FnMut(&str),
) -> Option<Result<ServerInfo, HandshakeError>> {
    child.input.send(first_request(era)).await.ok()?;
    let mut has_told = false;
    // What the last line says, if nothing can follow that is read.
    let mut hopeless: Option<String> = None;
    loop {
        let line = match hopeless.take() {
            None => child.output.recv().await?,
            Some(said) => match tokio::time::timeout(QUIET, child.output.recv()).await {
                Ok(line) => line?,
                Err(_) => return Some(Err(HandshakeError::Unreadable(said))),
            },
        };
        let message = match Envelope::parse(&line) {
            Ok(_) => {
                reader.on_message();
                line
            }
            Err(error) => match reader.recover(&line, error, Some(FIRST_ID)) {
                Recovered::Message(message) => message,
                Recovered::Partial => continue,
                Recovered::Unreadable(answer)
                    if answer.is_in_place() && ids::claimed(&answer.source) == Some(0) =>
                {
                    return Some(Err(HandshakeError::Unreadable(answer.said)));
                }
                Recovered::Unreadable(UnreadableOutput { said, is_hopeless, .. }) => {
                    if !std::mem::replace(&mut has_told, true) {
                        on_unreadable(&said);
                    }
                    hopeless = is_hopeless.then_some(said);
                    continue;
                }
            },
        };
        let Ok(message) = Envelope::parse(&message) else { continue };
        if let Some(answer) = answer(&message, era) {
            if answer.is_ok() && era == Era::Legacy {
                let done = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
                child.input.send(done).await.ok()?;
            }
            return Some(answer.map_err(HandshakeError::Refused));
        }
    }
}

/// Reads the answer to the first request; `None` if a message is something else.
fn answer(message: &Envelope<'_>, era: Era) -> Option<Result<ServerInfo, String>> {
    if message.method.is_some() || ids::denotes(message.id?, 0).is_none() {
        return None;
    }
    let Some(result) = message.result else {
        return Some(Err(message.error.and_then(error_message).unwrap_or_else(|| "no reason given".into())));
    };
    let Some(revision) = revision(era, result) else {
        return Some(Err("it speaks no known revision of the protocol".into()));
    };
    Some(Ok(ServerInfo { result: result.to_owned(), revision }))
}

fn error_message(error: &str) -> Option<String> {
    let [message] = json::members(error, ["message"]).ok()?;
    Some(json::string(message?).ok()?.into_owned())
}

/// The method that a child is asked first.
pub fn first_method(era: Era) -> &'static str {
    match era {
        Era::Legacy => "initialize",
        Era::Modern => "server/discover",
    }
}

/// Declares sampling and elicitation on behalf of all clients. A client that has not declared them is never asked: the
/// multiplexer responds for it.
fn first_request(era: Era) -> Bytes {
    let info = concat!(r#"{"name":"mcpctl","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    Bytes::from(match era {
        Era::Legacy => format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{}","capabilities":{{"sampling":{{}},"elicitation":{{}}}},"clientInfo":{info}}}}}"#,
            Revision::LATEST_LEGACY.as_str()
        ),
        Era::Modern => format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{{"_meta":{{"{}":"{}","{}":{{}},"{}":{info}}}}}}}"#,
            meta::PROTOCOL_VERSION,
            Revision::LATEST.as_str(),
            meta::CLIENT_CAPABILITIES,
            meta::CLIENT_INFO,
        ),
    })
}

fn revision(era: Era, result: &str) -> Option<Revision> {
    let [legacy, modern] = json::members(result, ["protocolVersion", "supportedVersions"]).ok()?;
    match era {
        Era::Legacy => Revision::agreed(&json::string(legacy?).ok()?),
        Era::Modern => {
            let versions: Vec<String> = serde_json::from_str(modern?).ok()?;
            versions.iter().filter_map(|date| Revision::parse(date)).filter(|r| r.era() == Era::Modern).max()
        }
    }
}

/// The response to a client's `initialize`.
#[derive(Debug)]
pub struct Initialization<'m> {
    /// The capabilities that the client declared, as raw JSON.
    pub capabilities: &'m str,
    /// The revision that was agreed on.
    pub revision: Revision,
    pub response: Bytes,
}

/// Responds to `initialize` in a revision not older than `oldest`.
pub fn initialization<'m>(
    info: &ServerInfo,
    message: &Envelope<'m>,
    oldest: Revision,
) -> Result<Initialization<'m>, JsonError> {
    let [requested, capabilities] =
        json::members(message.params.unwrap_or("{}"), ["protocolVersion", "capabilities"])?;
    let requested = requested.and_then(|raw| json::string(raw).ok()).and_then(|date| Revision::parse(&date));
    // A child that speaks a revision can be presented in an older one: take the older of both.
    let revision = match requested {
        Some(older) if older < info.revision && older >= oldest => older,
        _ => info.revision,
    };
    let quoted = json::quote(revision.as_str());
    let result = json::set_members(&info.result, &[("protocolVersion", Some(&quoted))])?;
    let id = message.id.unwrap_or_default();
    let response = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into();
    Ok(Initialization { capabilities: capabilities.unwrap_or("{}"), revision, response })
}

/// Builds `list_changed` notifications for the kinds of lists that the child has.
pub fn list_changed(result: &str) -> Vec<Bytes> {
    let Ok([Some(capabilities)]) = json::members(result, ["capabilities"]) else { return Vec::new() };
    let kinds = ["tools", "resources", "prompts"];
    let offered = json::members(capabilities, kinds).unwrap_or_default();
    let notice =
        |kind| Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"notifications/{kind}/list_changed"}}"#));
    kinds
        .into_iter()
        .zip(offered)
        .filter(|(_, offered)| offered.is_some())
        .map(|(kind, _)| notice(kind))
        .collect()
}
