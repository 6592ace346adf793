//! The HTTP headers of the modern era, derived from a message and from tool definitions seen before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::header::{METHOD, MirroredParam, NAME, PROTOCOL_VERSION};
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::{json, meta};

/// Maximum number of tools whose mirrored parameters are kept.
const MAX_TOOLS: usize = 10_000;

/// The parameters that tools want mirrored in headers, by tool.
#[derive(Debug, Default)]
pub struct MirroredParams(Mutex<HashMap<String, Vec<MirroredParam>>>);

impl MirroredParams {
    /// Records the mirrored parameters in a result of `tools/list`.
    pub fn learn(&self, result: Option<&str>) {
        let Some([Some(list)]) = result.and_then(|result| json::members(result, ["tools"]).ok()) else {
            return;
        };
        let mut tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A definition that cannot be read here is for the host to report.
        let _ = json::each_element::<json::JsonError>(list, |tool| {
            let [name, schema] = json::members(tool, ["name", "inputSchema"])?;
            let (Some(name), Some(schema)) = (name, schema) else { return Ok(()) };
            let (name, params) =
                (json::string(name)?, mcp::header::mirrored_params(schema).unwrap_or_default());
            if params.is_empty() {
                tools.remove(name.as_ref());
            } else if tools.len() < MAX_TOOLS {
                tools.insert(name.into_owned(), params);
            }
            Ok(())
        });
    }

    /// Builds the headers of a message.
    pub fn headers(&self, message: &Envelope<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let method = message.method.as_deref().unwrap_or_default();
        let mut put = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        if let Some(version) = version(message).and_then(|version| HeaderValue::from_str(&version).ok()) {
            put(PROTOCOL_VERSION, version);
        }
        if let Ok(method) = HeaderValue::from_str(method) {
            put(METHOD, method);
        }
        let member = Method::parse(method).and_then(|method| method.mirrored_target().member());
        let params = message.params.unwrap_or("{}");
        let named = member.and_then(|member| json::members(params, [member]).ok().and_then(|[raw]| raw));
        let named = named.and_then(|raw| json::string(raw).ok());
        if let Some(named) = &named {
            put(NAME, mcp::header::encode_value(named));
        }
        if let (Some(tool), Ok([Some(arguments)])) = (named, json::members(params, ["arguments"])) {
            let tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mirrored =
                tools.get(tool.as_ref()).and_then(|known| mcp::header::mirror(arguments, known).ok());
            headers.extend(mirrored.into_iter().flatten());
        }
        headers
    }
}

/// Returns whether a message is of the modern era, in which messages name their revision.
pub fn is_modern(message: &Envelope<'_>) -> bool {
    version(message).is_some()
}

fn version(message: &Envelope<'_>) -> Option<String> {
    let [meta] = json::members(message.params?, [meta::META]).ok()?;
    let [version] = json::members(meta?, [meta::PROTOCOL_VERSION]).ok()?;
    Some(json::string(version?).ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_the_body_says() {
        let tools = MirroredParams::default();
        let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
        tools.learn(Some(&format!(
            r#"{{"tools":[{{"name":"run","inputSchema":{schema}}},{{"name":"plain","inputSchema":{{}}}}]}}"#
        )));
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run","arguments":{"region":"eu"},
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let message = Envelope::parse(body.as_bytes()).unwrap();
        assert!(is_modern(&message));
        let headers = tools.headers(&message);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(
            [text("mcp-protocol-version"), text("mcp-method"), text("mcp-name")],
            ["2026-07-28", "tools/call", "run"]
        );
        assert_eq!(text("mcp-param-region"), "eu");
    }
}
