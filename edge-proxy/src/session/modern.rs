//! The checks of a modern request: its `_meta` and its headers, in the order of the specification.
//!
//! It must not know which tools there are.

use http::HeaderMap;
use mcp::header::{self, METHOD, NAME, PROTOCOL_VERSION};
use mcp::json;
use mcp::meta;
use mcp::method::{Method, Target};
use mcp::revision::{Era, Revision};

use crate::error::Failure;
use crate::snapshot::ToolFacts;
use crate::transport::Message;

/// Checks that `_meta` and the headers, where there are any, agree with the body. Returns the revision.
pub fn check(headers: Option<&HeaderMap>, message: &Message<'_>) -> Result<Revision, Failure> {
    let version = required_meta(message)?;
    if let Some(headers) = headers
        && single(headers, PROTOCOL_VERSION)? != version
    {
        return Err(mismatch("MCP-Protocol-Version does not match _meta"));
    }
    let revision = Revision::parse(&version).filter(|revision| revision.era() == Era::Modern);
    let revision = revision.ok_or(Failure::Version { requested: version })?;
    if let Some(headers) = headers {
        let method = message.envelope.method.as_deref().unwrap_or_default();
        if single(headers, METHOD)? != method {
            return Err(mismatch("Mcp-Method does not match the body"));
        }
        check_name(headers, message)?;
    }
    Ok(revision)
}

fn required_meta(message: &Message<'_>) -> Result<String, Failure> {
    let missing = |key: &str| bad_meta(format!("params._meta[{key:?}] is required"));
    let version = message.params.version.ok_or_else(|| missing(meta::PROTOCOL_VERSION))?;
    let version = json::string(version)
        .map_err(|_| bad_meta(format!("{:?} must be a string", meta::PROTOCOL_VERSION)))?;
    let capabilities = message.params.capabilities.ok_or_else(|| missing(meta::CLIENT_CAPABILITIES))?;
    if !capabilities.starts_with('{') {
        return Err(bad_meta(format!("{:?} must be an object", meta::CLIENT_CAPABILITIES)));
    }
    Ok(version.into_owned())
}

fn check_name(headers: &HeaderMap, message: &Message<'_>) -> Result<(), Failure> {
    let raw = match message.method.map_or(Target::None, Method::mirrored_target) {
        Target::Name => message.params.name,
        Target::Uri => message.params.uri,
        Target::TaskId => task_id(message),
        _ => return Ok(()),
    };
    // A missing member is reported where the message is routed.
    let Some(named) = raw.and_then(|raw| json::string(raw).ok()) else { return Ok(()) };
    if single(headers, NAME)? != named {
        return Err(mismatch("Mcp-Name does not match the body"));
    }
    Ok(())
}

/// Returns the raw `taskId` of a request about a task.
pub fn task_id<'a>(message: &Message<'a>) -> Option<&'a str> {
    let [id] = json::members(message.envelope.params?, ["taskId"]).ok()?;
    id
}

/// Decodes a header that must be there exactly once.
fn single(headers: &HeaderMap, name: &'static str) -> Result<String, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => header::decode_value(value)
            .map(|text| text.into_owned())
            .map_err(|error| mismatch(&format!("{name}: {error}"))),
        (None, _) => Err(mismatch(&format!("the header {name} is required"))),
        (Some(_), Some(_)) => Err(mismatch(&format!("the header {name} is repeated"))),
    }
}

fn mismatch(message: &str) -> Failure {
    Failure::Header(message.to_owned())
}

fn bad_meta(message: String) -> Failure {
    Failure::Params { message, bad_request: true }
}

/// Checks the `Mcp-Param-*` headers of a call against its arguments.
pub fn check_arguments(headers: &HeaderMap, message: &Message<'_>, tool: &ToolFacts) -> Result<(), Failure> {
    if tool.mirrored.is_empty() {
        return Ok(());
    }
    let arguments = message.params.arguments.unwrap_or("{}");
    header::verify(headers, arguments, &tool.mirrored).map_err(|error| mismatch(&error.to_string()))
}
