//! The checks of the fuzz targets in `fuzz/`, each tried here on noise and on what is nearly right.

mod batch;
mod cuts;
mod endpoint;
mod entry;
mod envelope;
mod event_reader;
mod inflate;
mod mend;
mod mentions;
mod mirror;
mod redirect;
mod scan;
mod sse;
mod uri;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies::{object, value};

fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..64)
}

/// A text whose end is cut off at times.
fn cut(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    (text, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(text, at, whole)| {
        let mut bytes = text.into_bytes();
        if !whole && !bytes.is_empty() {
            bytes.truncate(at.index(bytes.len()));
        }
        bytes
    })
}

fn message() -> impl Strategy<Value = String> {
    (value(), "[a-z/]{0,20}", object()).prop_map(|(id, method, params)| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    })
}

fn schema() -> impl Strategy<Value = String> {
    (value(), "(string|integer|number)", "[a-z \"]{0,4}").prop_map(|(other, kind, header)| {
        let header = mcp::json::quote(&header);
        format!(
            r#"{{"properties":{{"a":{{"type":"{kind}","x-mcp-header":{header}}},"b":{other}}},"x":{other}}}"#
        )
    })
}

/// An answer that is odd at its members or around them.
fn odd() -> impl Strategy<Value = String> {
    (
        "(\u{feff}|\\[)?",
        "(\"jsonrpc\":(2.0|null|\"1.0\"),)?",
        "(\"id\":(null|7|7.0|\"7\"),)?",
        prop_oneof![value(), "\\{\"(_meta|content|name)\":null\\}"],
        "(NaN|-Infinity|1)",
        "(\\]|\0| )?",
    )
        .prop_map(|(before, version, id, result, number, after)| {
            let member = match number.as_str() {
                "1" => format!("\"error\":{result},\"result\":null"),
                number => format!("\"result\":[{result},{number}]"),
            };
            format!("{before}{{{version}{id}{member}}}{after}")
        })
}

/// A message that mentions URIs where that is looked for, and around it.
fn mentioning() -> impl Strategy<Value = String> {
    let uri = "\"[a-z]{1,3}:(\\\\/|/|\\\\u0061|[ -!#-\\[\\]-~]){0,6}\"|7|null";
    let block = (uri, uri, value()).prop_map(|(link, page, other)| {
        format!(
            r#"{{"type":"resource_link","uri":{link},"_meta":{{"ui":{{"resourceUri":{page}}}}}}},{{"type":"resource","resource":{{"uri":{link},"x":{other}}}}},{other}"#
        )
    });
    let inside = "(content|contents|messages|inputRequests|_meta)";
    (inside, vec(block, 0..3), any::<bool>(), any::<bool>()).prop_map(
        |(inside, blocks, is_result, nested)| {
            let blocks = format!("[{}]", blocks.join(","));
            let blocks = if nested { format!(r#"[{{"content":{blocks}}}]"#) } else { blocks };
            let outside = if is_result { r#""result""# } else { r#""method":"m","params""# };
            format!(r#"{{"jsonrpc":"2.0","id":1,{outside}:{{"{inside}":{blocks}}}}}"#)
        },
    )
}

/// A tool with a schema of anything.
fn tool() -> impl Strategy<Value = String> {
    (value(), value(), value()).prop_map(|(schema, properties, annotations)| {
        format!(
            r#"{{"name":"t","inputSchema":{{"type":{schema},"properties":{{"a":{properties}}}}},"outputSchema":{schema},"annotations":{annotations}}}"#
        )
    })
}

proptest! {
    #[test]
    fn batches(source in prop_oneof![noise(), cut(vec(message(), 0..4).prop_map(|parts| format!("[{}]", parts.join(","))))]) {
        batch::check(&source);
    }

    #[test]
    fn endpoints(data in prop_oneof![noise(), cut("(https?:)?(//)?[a-z@:\\[\\]\\\\.]{0,12}[/?#]?[ -~\t\n]{0,24}")]) {
        endpoint::check(&data);
    }

    #[test]
    fn entries(definition in prop_oneof![".{0,24}", object(), tool()]) {
        entry::check(&definition);
    }

    #[test]
    fn inflated(chunk: u8, body in prop_oneof![noise(), vec(any::<u8>(), 0..64).prop_map(|rest| [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &rest].concat())]) {
        inflate::check((chunk, &body));
    }

    #[test]
    fn mended(source in prop_oneof![noise(), cut(message()), cut(odd())]) {
        mend::check(&source);
    }

    #[test]
    fn redirects(location in prop_oneof![noise(), cut("(https?:)?(//)?[a-z@:\\[\\]\\\\.]{0,12}[/?#]?[ -~\t\n]{0,24}")]) {
        redirect::check(&location);
    }

    #[test]
    fn envelopes(source in prop_oneof![noise(), cut(message())]) {
        envelope::check(&source);
    }

    #[test]
    fn cuts(name: u8, source in prop_oneof![noise(), cut(object()), cut(message())]) {
        cuts::check((name, source));
    }

    #[test]
    fn mentions(method: u8, source in prop_oneof![noise(), cut(message()), cut(mentioning())]) {
        mentions::check((method, source));
    }

    #[test]
    fn mirrors(text in prop_oneof![noise(), cut(object()), cut(schema())], header in "[ -~]{0,12}") {
        mirror::check((text, header.into_bytes()));
    }

    #[test]
    fn scans(source in prop_oneof![noise(), cut(value()), cut("[\\[\\]{}\",:0-9eE.+\\- \\\\utrfalsn]{0,12}")]) {
        scan::check(&source);
    }

    #[test]
    fn events(size: u8, stream in prop_oneof![noise(), cut("((data|event|id|retry|)[: ]{0,2}[a-z0-9]{0,30}(\r|\n|\r\n){1,2}){0,8}")]) {
        sse::check((size % 16, stream));
    }

    #[test]
    fn bodies(
        size in 0..16_u8,
        body in prop_oneof![
            noise(),
            cut("(\u{feff}|\n)?((data|event|id|)[: ]{0,2}[a-z{}]{0,9}(\r|\n|\r\n){1,2}|[{}\\[\\]\"\\\\a ]{0,12}){0,5}"),
            cut(vec(message(), 0..3).prop_map(|parts| parts.join("\n"))),
        ],
    ) {
        event_reader::check((size, body));
    }

    #[test]
    fn uris(
        template in "[a-z:/]{0,6}(\\{[+?#/]?v\\}[a-z/.?]{0,4}){0,2}",
        text in prop_oneof![
            ".{0,24}",
            "(\\.|\\.\\.|/|\\\\|%2e|%2E|%2F|%25|%c0%ae|%EF%BC%8E|\\?|#|;|:|@|a|\t|\u{ff0e}|\u{2025}|%){0,8}",
        ],
    ) {
        uri::check((&template, &text));
    }
}
