//! Translates results and errors between the eras: members of one era are spliced in or out.
//!
//! It must not know where they come from.

use bytes::Bytes;
use mcp::error as codes;
use mcp::json::{self, JsonError};
use mcp::message::span;
use mcp::method::Method;
use mcp::splice::Splice;
use memchr::memmem;

/// Adds the members that results of the modern era have: their type, and cache hints where they may be cached.
pub(in crate::upstream::mcp) fn to_modern<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    result: &str,
    method: Method,
) -> Result<Splice<'a>, JsonError> {
    let [kind, ttl, scope] = json::members(result, ["resultType", "ttlMs", "cacheScope"])?;
    let mut edits = edits;
    let mut added = Vec::new();
    match kind {
        Some(kind) => edits = edits.replace(span(message, kind), r#""complete""#),
        None => added.push(r#""resultType":"complete""#),
    }
    if method == Method::ResourcesRead {
        added.extend(ttl.is_none().then_some(r#""ttlMs":0"#));
        match scope {
            Some(scope) => edits = edits.replace(span(message, scope), r#""private""#),
            None => added.push(r#""cacheScope":"private""#),
        }
    }
    if added.is_empty() {
        return Ok(edits);
    }
    let mut empty = true;
    json::each_member(result, |_, _| {
        empty = false;
        Ok(())
    })?;
    let at = span(message, result).start + 1;
    Ok(edits.replace(at..at, added.join(",") + if empty { "" } else { "," }))
}

/// Removes structured content that is no object, which the legacy era does not have, and keeps it as text.
pub(in crate::upstream::mcp) fn to_legacy<'a>(
    edits: Splice<'a>,
    message: &Bytes,
    result: &str,
    method: Method,
) -> Result<Splice<'a>, JsonError> {
    if method != Method::ToolsCall || memmem::find(result.as_bytes(), b"structuredContent").is_none() {
        return Ok(edits);
    }
    let [structured, content] = json::members(result, ["structuredContent", "content"])?;
    let Some(structured) = structured.filter(|structured| !structured.starts_with('{')) else {
        return Ok(edits);
    };
    let mut changes: Vec<(&str, Option<&str>)> = vec![("structuredContent", None)];
    let content = content.filter(|content| content.starts_with('[')).unwrap_or("[]");
    let with_text = match has_text(content)? {
        true => None,
        false => Some(append(content, &format!(r#"{{"type":"text","text":{}}}"#, json::quote(structured)))),
    };
    if let Some(content) = &with_text {
        changes.push(("content", Some(content)));
    }
    Ok(edits.replace(span(message, result), json::set_members(result, &changes)?))
}

fn has_text(content: &str) -> Result<bool, JsonError> {
    let mut found = false;
    json::each_element::<JsonError>(content, |block| {
        found |= json::members(block, ["type"])? == [Some(r#""text""#)];
        Ok(())
    })?;
    Ok(found)
}

/// Returns `array` with one more element.
fn append(array: &str, element: &str) -> String {
    let inner = array.trim_end().strip_suffix(']').unwrap_or(array);
    let separator = if inner.trim_end().ends_with('[') { "" } else { "," };
    format!("{inner}{separator}{element}]")
}

/// Translates an error of a legacy upstream: an unknown resource is an invalid parameter, with the client's URI.
pub(in crate::upstream::mcp) fn error_to_modern(
    error: &str,
    code: i64,
    uri: &str,
) -> Result<Option<String>, JsonError> {
    if code != codes::RESOURCE_NOT_FOUND {
        return Ok(None);
    }
    let [data] = json::members(error, ["data"])?;
    with_uri(error, codes::INVALID_PARAMS, data, uri).map(Some)
}

/// Translates an error of a modern upstream: an invalid URI is an unknown resource.
pub(in crate::upstream::mcp) fn error_to_legacy(
    error: &str,
    code: i64,
    method: Method,
    uri: &str,
) -> Result<Option<String>, JsonError> {
    let [data] = json::members(error, ["data"])?;
    let names_uri = data
        .filter(|data| data.starts_with('{'))
        .is_some_and(|data| json::members(data, ["uri"]).is_ok_and(|[uri]| uri.is_some()));
    if method != Method::ResourcesRead || code != codes::INVALID_PARAMS || !names_uri {
        return Ok(None);
    }
    with_uri(error, codes::RESOURCE_NOT_FOUND, data, uri).map(Some)
}

fn with_uri(error: &str, code: i64, data: Option<&str>, uri: &str) -> Result<String, JsonError> {
    let (code, uri) = (code.to_string(), json::quote(uri));
    let data = data.filter(|data| data.starts_with('{')).unwrap_or("{}");
    let data = json::set_members(data, &[("uri", Some(&uri))])?;
    json::set_members(error, &[("code", Some(&code)), ("data", Some(&data))])
}
