//! The URIs of a resource that was read, which upstreams with equal URIs are told apart by.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::method::Method;
use mcp::splice::Splice;
use mcp::uri::naming;

/// Exposes the URI of each content in the result of a read, be it listed or not.
pub(in crate::upstream::mcp) fn expose<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    result: &str,
    method: Method,
    prefix: &str,
) -> Result<Splice<'a>, JsonError> {
    if method != Method::ResourcesRead || prefix.is_empty() {
        return Ok(edits);
    }
    let [contents] = json::members(result, ["contents"])?;
    let Some(contents) = contents.filter(|contents| contents.starts_with('[')) else { return Ok(edits) };
    let mut edits = Some(edits);
    json::each_element::<JsonError>(contents, |content| {
        if let Some(uri) = content
            .starts_with('{')
            .then(|| json::members(content, ["uri"]))
            .transpose()?
            .and_then(|[uri]| uri)
            && let Ok(own) = json::string(uri)
        {
            let exposed = json::quote(&naming::expose(prefix, &own));
            edits = edits.take().map(|edits| edits.replace(span(message, uri), exposed));
        }
        Ok(())
    })?;
    Ok(edits.unwrap_or_default())
}
