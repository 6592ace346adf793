//! Replaces blocks of content that a client's revision does not know by blocks that it does. It must not know eras.
//!
//! Audio came with 2025-03-26 and becomes an embedded resource; links to resources came with 2025-06-18 and become text.

use bytes::Bytes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, span};
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::splice::Splice;
use memchr::memmem;

/// Returns a revision whose clients do not know every kind of block.
pub(in crate::upstream::mcp) fn outdated(revision: Revision) -> Option<Revision> {
    (revision < Revision::V2025_06_18).then_some(revision)
}

/// Returns a response without blocks that a client of `revision` does not know. Unreadable content stays as it is.
pub(in crate::upstream::mcp) fn downgrade(message: Bytes, method: Method, revision: Revision) -> Bytes {
    let has = |word: &[u8]| memmem::find(&message, word).is_some();
    if !has(b"resource_link") && !has(b"audio") {
        return message;
    }
    downgraded(&message, method, revision).ok().flatten().unwrap_or(message)
}

/// Returns the message with unknown blocks replaced; `None` where there are none.
fn downgraded(message: &Bytes, method: Method, revision: Revision) -> Result<Option<Bytes>, JsonError> {
    let Ok(Envelope { result: Some(result), .. }) = Envelope::parse(message) else { return Ok(None) };
    let mut edits = Vec::new();
    for block in blocks(result, method)? {
        if let Some(replacement) = downgraded_block(block, revision, edits.len())? {
            edits.push((span(message, block), replacement));
        }
    }
    let splice =
        edits.into_iter().fold(Splice::new(), |splice, (at, replacement)| splice.replace(at, replacement));
    Ok((!splice.is_empty()).then(|| splice.apply(message)))
}

/// Returns the blocks of a tool's result or of a prompt's messages.
fn blocks(result: &str, method: Method) -> Result<Vec<&str>, JsonError> {
    let mut blocks = Vec::new();
    match method {
        Method::ToolsCall => {
            let [content] = json::members(result, ["content"])?;
            collect_objects(content, &mut blocks)?;
        }
        Method::PromptsGet => {
            let mut messages = Vec::new();
            let [list] = json::members(result, ["messages"])?;
            collect_objects(list, &mut messages)?;
            for message in messages {
                let [content] = json::members(message, ["content"])?;
                collect_objects(content, &mut blocks)?;
            }
        }
        _ => {}
    }
    Ok(blocks)
}

/// Collects the object that `raw` is, or the objects in its array.
fn collect_objects<'a>(raw: Option<&'a str>, found: &mut Vec<&'a str>) -> Result<(), JsonError> {
    match raw {
        Some(object) if object.starts_with('{') => found.push(object),
        Some(array) if array.starts_with('[') => json::each_element::<JsonError>(array, |element| {
            found.extend(element.starts_with('{').then_some(element));
            Ok(())
        })?,
        _ => {}
    }
    Ok(())
}

/// Returns the replacement of a block for an older revision; `None` where the revision knows it. `number` tells audio
/// blocks apart.
fn downgraded_block(block: &str, revision: Revision, number: usize) -> Result<Option<String>, JsonError> {
    let [kind, annotations] = json::members(block, ["type", "annotations"])?;
    let annotations = annotations.map(|raw| format!(r#","annotations":{raw}"#)).unwrap_or_default();
    Ok(match kind {
        Some(r#""audio""#) if revision < Revision::V2025_03_26 => {
            let [data, kind] = json::members(block, ["data", "mimeType"])?;
            let (data, kind) = (data.unwrap_or(r#""""#), kind.unwrap_or(r#""audio/*""#));
            let resource = format!(r#"{{"uri":"audio:///{number}","mimeType":{kind},"blob":{data}}}"#);
            Some(format!(r#"{{"type":"resource","resource":{resource}{annotations}}}"#))
        }
        Some(r#""resource_link""#) => {
            let [uri, name, title] = json::members(block, ["uri", "name", "title"])?;
            let text = |raw: Option<&str>| raw.and_then(|raw| json::string(raw).ok().map(|t| t.into_owned()));
            let uri = text(uri).unwrap_or_default();
            let named = text(title).or_else(|| text(name)).filter(|name| *name != uri);
            let text = named.map_or_else(|| uri.clone(), |name| format!("{name}: {uri}"));
            Some(format!(r#"{{"type":"text","text":{}{annotations}}}"#, json::quote(&text)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str =
        r#"{"type":"resource_link","uri":"file:///é","name":"n","annotations":{"priority":1.50}}"#;
    const AUDIO: &str = r#"{"type":"audio","data":"AA==","mimeType":"audio/wav"}"#;
    const TEXT: &str = r#"{"type":"text","text":"audio, resource_link"}"#;
    const AS_TEXT: &str = r#"{"type":"text","text":"n: file:///é","annotations":{"priority":1.50}}"#;
    const EMBEDDED: &str =
        r#"{"type":"resource","resource":{"uri":"audio:///0","mimeType":"audio/wav","blob":"AA=="}}"#;

    fn downgrade_result(result: &str, method: Method, revision: Revision) -> String {
        let message: Bytes = format!(r#"{{"jsonrpc":"2.0","id":1, "result":{result}}}"#).into();
        let out = match outdated(revision) {
            Some(revision) => downgrade(message, method, revision),
            None => message,
        };
        let out = String::from_utf8(out.to_vec()).unwrap();
        let inner = out.strip_prefix(r#"{"jsonrpc":"2.0","id":1, "result":"#).unwrap();
        inner.strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn each_revision_gets_blocks_that_it_knows() {
        let result = |audio: &str, link: &str| {
            format!(r#"{{"content":[{TEXT},{audio} , {link}],"structuredContent":{{"n":1e400}}}}"#)
        };
        let whole = result(AUDIO, LINK);
        for (revision, expected) in [
            (Revision::V2024_11_05, result(EMBEDDED, AS_TEXT)),
            (Revision::V2025_03_26, result(AUDIO, AS_TEXT)),
            (Revision::V2025_06_18, whole.clone()),
            (Revision::V2025_11_25, whole.clone()),
        ] {
            assert_eq!(downgrade_result(&whole, Method::ToolsCall, revision), expected, "{revision}");
        }
    }

    #[test]
    fn prompts_have_blocks_and_other_results_none() {
        let prompt = |block: &str| format!(r#"{{"messages":[{{"role":"user","content":{block}}}]}}"#);
        let old = Revision::V2024_11_05;
        assert_eq!(downgrade_result(&prompt(AUDIO), Method::PromptsGet, old), prompt(EMBEDDED));
        assert_eq!(downgrade_result(&prompt(AUDIO), Method::ResourcesRead, old), prompt(AUDIO));
        for odd in [r#"{"content":"audio"}"#, r#"{"content":["audio",1]}"#, r#"["audio"]"#] {
            let message: Bytes = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{odd}}}"#).into();
            assert_eq!(downgrade(message.clone(), Method::ToolsCall, old), message, "{odd}");
        }
    }
}
