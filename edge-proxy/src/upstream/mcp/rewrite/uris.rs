//! Prefixes the URIs of a resource that was read, so that upstreams with equal URIs can be told apart.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::method::Method;
use mcp::splice::Splice;

/// Prefixes the URI of each content in the result of a read.
pub(in crate::upstream::mcp) fn prefix<'a>(
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
            && uri.starts_with('"')
        {
            let quoted = json::quote(prefix);
            let start = span(message, uri).start + 1;
            let inner = quoted[1..quoted.len() - 1].to_owned();
            edits = edits.take().map(|edits| edits.replace(start..start, inner));
        }
        Ok(())
    })?;
    Ok(edits.unwrap_or_default())
}
