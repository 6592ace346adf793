//! `message` against tables and against serde_json.

use mcp::json::JsonError;
use mcp::message::{Envelope, EnvelopeError, Kind, MAX_BATCH, span, split_batch};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::strategies;

fn parse(text: &str) -> Result<Envelope<'_>, EnvelopeError> {
    Envelope::parse(text.as_bytes())
}

#[test]
fn kinds_of_messages() {
    let cases = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","id":"x","method":"ping","params":{}}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#, Kind::Response),
        (" {\n\"result\" : 1 , \"id\" : 2 , \"jsonrpc\" : \"2.0\" }\r\n", Kind::Response),
    ];
    for (text, kind) in cases {
        assert_eq!(parse(text).unwrap().kind(), kind, "{text}");
    }
}

#[test]
fn parts_are_what_was_written() {
    let text = r#"{"future":[1],"jsonrpc":"2.0","params":{"b":123456789012345678901234567890,"a":1.50},
        "method":"tools\/c\u0061ll","id":123456789012345678901234567890}"#;
    let envelope = parse(text).unwrap();
    assert_eq!(envelope.id, Some("123456789012345678901234567890"));
    assert_eq!(envelope.method.as_deref(), Some("tools/call"));
    assert_eq!(envelope.params, Some(r#"{"b":123456789012345678901234567890,"a":1.50}"#));
    let at = span(text.as_bytes(), envelope.params.unwrap());
    assert_eq!(&text[at], envelope.params.unwrap());
}

#[test]
fn an_id_is_any_number_as_it_was_written() {
    for id in ["1.0", "1e2", "-7", "0.5E-3", "7"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(parse(&text).unwrap().id, Some(id));
    }
}

/// What is looked at alone is told by what is not null; what is relayed must not have it.
#[test]
fn null_members_are_absent_to_who_looks_and_refused_where_it_is_relayed() {
    let cases = [
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"m"}}"#, Kind::Response),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null,"result":null,"error":null}"#,
            Kind::Request,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/progress","result":null,"error":null}"#,
            Kind::Notification,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":{},"error":null}"#, Kind::Response),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":null,"error":null}"#,
            Kind::Response,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":null,"result":null,"error":{}}"#, Kind::Response),
    ];
    for (text, kind) in cases {
        assert_eq!(Envelope::look(text.as_bytes()).unwrap().kind(), kind, "{text}");
        assert_eq!(parse(text), Err(EnvelopeError::Null), "{text}");
    }
    assert_eq!(parse(r#"{"jsonrpc":"2.0","id":1,"result":null}"#).unwrap().result, Some("null"));
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#;
    assert_eq!(Envelope::look(text.as_bytes()).unwrap().params, None);
}

#[test]
fn an_error_is_relayed_if_every_sdk_reads_it() {
    for (error, is_readable) in [
        (r#"{"code":-32000,"message":"m"}"#, true),
        (r#"{"message":"\ud800","data":null,"code":9007199254740991,"more":1}"#, true),
        ("{}", false),
        (r#"{"code":"-32000","message":"m"}"#, false),
        (r#"{"code":1.0,"message":"m"}"#, false),
        (r#"{"code":9007199254740992,"message":"m"}"#, false),
        (r#"{"code":1}"#, false),
        (r#"{"code":1,"message":null}"#, false),
        (r#"{"code":1,"code":2,"message":"m"}"#, false),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#);
        let read = parse(&text).map(|envelope| envelope.error);
        assert_eq!(read, if is_readable { Ok(Some(error)) } else { Err(EnvelopeError::Error) }, "{error}");
        assert_eq!(Envelope::look(text.as_bytes()).unwrap().error, Some(error));
    }
}

#[test]
fn what_is_refused_and_why() {
    let syntax = |at, expected| EnvelopeError::Json(JsonError::Syntax { at, expected });
    let cases = [
        ("", syntax(0, "a value")),
        ("hello", syntax(0, "a value")),
        ("7", EnvelopeError::NotObject),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, EnvelopeError::Batch),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#, syntax(41, "the end")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, syntax(39, "',' or '}'")),
        (r#"{"jsonrpc":"2.0","id":01,"method":"ping"}"#, syntax(23, "',' or '}'")),
        (r#"{"id":1,"method":"ping"}"#, EnvelopeError::Version),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, EnvelopeError::Version),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, EnvelopeError::Version),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, EnvelopeError::Id),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, EnvelopeError::Id),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, EnvelopeError::Id),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, EnvelopeError::Id),
        (r#"{"jsonrpc":"2.0","result":{}}"#, EnvelopeError::NoId),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, EnvelopeError::Shape),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{},"error":null}"#, EnvelopeError::Shape),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, EnvelopeError::Method),
        (r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, EnvelopeError::Method),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, EnvelopeError::Params),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, EnvelopeError::Error),
        (r#"{"jsonrpc":"2.0","id":1,"result":[ ]}"#, EnvelopeError::Result),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":null}}"#, EnvelopeError::Null),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments" : null}}"#,
            EnvelopeError::Null,
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, EnvelopeError::Shape),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, EnvelopeError::Shape),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, EnvelopeError::Shape),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#, EnvelopeError::Repeated("method")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#, EnvelopeError::Repeated("method")),
    ];
    for (text, error) in cases {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    let latin = [b"{\"jsonrpc\":\"2.0\",\"id\":\"".as_slice(), b"\xe9\",\"method\":\"ping\"}"].concat();
    assert_eq!(Envelope::parse(&latin), Err(EnvelopeError::Utf8 { at: 23 }));
}

#[test]
fn codes_tell_unreadable_from_wrong() {
    assert_eq!(parse("{").unwrap_err().code(), -32700);
    assert_eq!(parse("{}").unwrap_err().code(), -32600);
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(parse(&nested(1_024)).is_ok());
    assert_eq!(parse(&nested(1_025)), Err(EnvelopeError::Json(JsonError::Depth { at: 1_057 })));
    assert!(matches!(parse(&nested(1_000_000)), Err(EnvelopeError::Json(JsonError::Depth { .. }))));
}

/// Arrays and objects, `true` for objects, in each other, with more before and after the inner one.
fn nest(levels: &[bool]) -> String {
    let open = levels.iter().map(|object| if *object { "{\"a\":[{}],\"b\":" } else { "[0,[],{}," });
    let close = levels.iter().rev().map(|object| if *object { ",\"c\":[[]]}" } else { ",{\"d\":{}}]" });
    open.chain(["1"]).chain(close).collect()
}

#[test]
fn batches_are_taken_apart() {
    let source = br#" [ {"a":1} , 2,"x" ] "#;
    let parts: Vec<_> = split_batch(source).unwrap().into_iter().map(|range| &source[range]).collect();
    assert_eq!(parts, [&br#"{"a":1}"#[..], b"2", b"\"x\""]);
    assert_eq!(split_batch(b"[]"), Err(EnvelopeError::EmptyBatch));
    assert!(matches!(split_batch(b"{}"), Err(EnvelopeError::Json(_))));
    assert!(matches!(split_batch(b"[1,]"), Err(EnvelopeError::Json(_))));
    let long = |length: usize| format!("[{}]", vec!["1"; length].join(","));
    assert_eq!(split_batch(long(MAX_BATCH).as_bytes()).unwrap().len(), MAX_BATCH);
    assert_eq!(split_batch(long(MAX_BATCH + 1).as_bytes()), Err(EnvelopeError::LongBatch));
}

#[test]
#[should_panic(expected = "a part lies in its source")]
fn span_of_something_else_panics() {
    let _range = span(b"abc", "xyz");
}

/// What serde_json says of the members of a message.
fn oracle(source: &[u8]) -> Option<std::collections::HashMap<String, Box<RawValue>>> {
    serde_json::from_slice(source).ok()
}

proptest! {
    #[test]
    fn whatever_serde_json_reads_is_read_alike(value in strategies::value(), before in strategies::space()) {
        let text = format!("{before}{{\"jsonrpc\":\"2.0\",{before}\"id\":7,\"result\":{before}{value}{before}}}");
        prop_assert!(oracle(text.as_bytes()).is_some());
        prop_assert_eq!(Envelope::look(text.as_bytes()).unwrap().result, Some(&*value));
    }

    #[test]
    fn damaged_messages_are_judged_alike(
        value in strategies::value(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut source = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{value}}}").into_bytes();
        let at = at.index(source.len());
        if cut { source.truncate(at) } else { source[at] = byte }
        let readable = !matches!(
            Envelope::parse(&source), Err(EnvelopeError::Json(_) | EnvelopeError::Utf8 { .. }));
        // What starts as a batch is not read on.
        prop_assume!(!source.starts_with(b"["));
        let strict = serde_json::from_slice::<&RawValue>(&source).is_ok();
        prop_assert_eq!(readable, strict, "{}", String::from_utf8_lossy(&source));
    }

    /// Levels beyond those of one word are told apart as the first ones are.
    #[test]
    fn deep_values_are_read_as_others_read_them(
        levels in prop::collection::vec(any::<bool>(), 100..600), damaged in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut value = nest(&levels);
        if let Some(at) = damaged {
            let closers: Vec<usize> = value.match_indices([']', '}']).map(|(at, _)| at).collect();
            let at = closers[at.index(closers.len())];
            let other = if &value[at..=at] == "]" { "}" } else { "]" };
            value.replace_range(at..=at, other);
        }
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{value}}}");
        prop_assert_eq!(parse(&text).is_ok(), damaged.is_none());
        prop_assert_eq!(oracle(text.as_bytes()).is_some(), damaged.is_none());
    }

    #[test]
    fn any_bytes_are_survived(source in prop::collection::vec(any::<u8>(), 0..200)) {
        let _verdict = Envelope::parse(&source);
        let _verdict = split_batch(&source);
    }

    #[test]
    fn strings_say_what_serde_json_says(raw in strategies::string()) {
        let expected: Option<String> = serde_json::from_str(&raw).ok();
        prop_assert_eq!(mcp::json::string(&raw).ok().map(|s| s.into_owned()), expected);
    }

    #[test]
    fn quote_and_string_undo_each_other(text in any::<String>()) {
        let quoted = mcp::json::quote(&text);
        prop_assert_eq!(&*mcp::json::string(&quoted).unwrap(), &text);
        prop_assert_eq!(serde_json::from_str::<Value>(&quoted).unwrap(), Value::from(text));
    }
}

/// Readers that ignore case could disagree with us on these.
#[test]
fn a_member_in_another_case_is_refused() {
    let cases = [
        (r#"{"jsonrpc":"2.0","id":1,"ID":2,"result":{}}"#, "ID", "id"),
        (r#"{"jsonrpc":"2.0","Result":{},"id":1,"result":{}}"#, "Result", "result"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"re\u0053ult":{}}"#, "reSult", "result"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"reſult":{}}"#, "reſult", "result"),
        (r#"{"jsonRPC":"2.0","jsonrpc":"2.0","method":"a"}"#, "jsonRPC", "jsonrpc"),
    ];
    for (text, found, member) in cases {
        let error = EnvelopeError::Variant { found: found.to_owned(), member };
        assert_eq!(parse(text), Err(error), "{text}");
    }
    let error = parse(r#"{"jsonrpc":"2.0","id":1,"ID":2,"result":{}}"#).unwrap_err();
    assert_eq!(error.to_string(), r#"member "ID" differs from "id" in case only"#);
    // What is within params, results and errors is not the envelope's.
    parse(r#"{"jsonrpc":"2.0","id":1,"result":{"ID":1,"Method":2},"ids":3,"x":4}"#).unwrap();
}

const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

proptest! {
    /// Whatever is spelled in another case, escaped or not and wherever it stands, is refused; other names are not.
    #[test]
    fn every_other_case_is_refused(
        member in prop::sample::select(&MEMBERS), upper: u8, escaped: u16, first: bool, other in "[a-zA-Z_]{1,9}"
    ) {
        let spelled: String = member
            .chars()
            .enumerate()
            .map(|(at, c)| if upper >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let write = |name: &str| -> String {
            let letter = |(at, c): (usize, char)| match escaped >> at & 1 {
                1 => format!("\\u{:04x}", c as u32),
                _ => c.to_string(),
            };
            name.chars().enumerate().map(letter).collect()
        };
        let message = |name: &str| {
            let (more, known) = (format!(r#""{}":7"#, write(name)), r#""jsonrpc":"2.0","id":1,"result":{}"#);
            if first { format!("{{{more},{known}}}") } else { format!("{{{known},{more}}}") }
        };
        let text = message(&spelled);
        let variant = EnvelopeError::Variant { found: spelled.clone(), member };
        prop_assert_eq!(spelled != member, parse(&text) == Err(variant));
        let known = MEMBERS.iter().any(|member| member.eq_ignore_ascii_case(&other));
        prop_assert!(known || parse(&message(&other)).is_ok());
    }
}
