use bytes::Bytes;
use mcp::border::{Mended, Peer, Unreadable, mend};
use mcp::message::{Envelope, EnvelopeError};
use mcp::quirk::Quirk::{self, *};
use mcp::secrets::Secrets;
use proptest::prelude::*;

use crate::strategies;

const SERVER: Peer<'_> = Peer::Server { open: None };
const OPEN: Peer<'_> = Peer::Server { open: Some("\"own\"") };

fn mended(source: impl Into<Bytes>, from: Peer<'_>) -> Result<Mended, Unreadable> {
    let source = source.into();
    let error = Envelope::parse(&source).expect_err("only what does not parse is mended");
    mend(&source, error, from)
}

#[test]
fn what_has_one_meaning_is_mended() {
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let cases: &[(&str, Peer<'_>, &str, &[Quirk])] = &[
        ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", SERVER, RESULT, &[ByteOrderMark]),
        (
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            Peer::Client,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            &[ByteOrderMark],
        ),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\0\n\0", SERVER, RESULT, &[]),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\0",
            Peer::Client,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            &[],
        ),
        (r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#, SERVER, RESULT, &[ListOfOne]),
        (
            r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":1,"result":{}}]"#,
            OPEN,
            RESULT,
            &[Batches],
        ),
        (
            r#" [{"jsonrpc":"2.0","id":1,"result":{}} , {"jsonrpc":"2.0","method":"x"}]"#,
            OPEN,
            RESULT,
            &[Batches],
        ),
        (
            r#" [ {"id":1,"result":{} , "jsonrpc":2.0} ] "#,
            SERVER,
            r#"{"id":1,"result":{} , "jsonrpc":"2.0"}"#,
            &[ListOfOne, NoVersionMember],
        ),
        (r#"{"id":1,"result":{}}"#, SERVER, r#"{"id":1,"result":{},"jsonrpc":"2.0"}"#, &[NoVersionMember]),
        (r#"{"jsonrpc":null,"id":1,"result":{}}"#, SERVER, RESULT, &[NoVersionMember]),
        (r#"{"jsonrpc":2.0,"id":1,"result":{}}"#, SERVER, RESULT, &[NoVersionMember]),
        (r#"{"jsonrpc":2,"id":1,"result":{}}"#, SERVER, RESULT, &[NoVersionMember]),
        (r#"{"jsonrpc":"1.0","id":1,"result":{}}"#, SERVER, RESULT, &[NoVersionMember]),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":[]}"#,
            SERVER,
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{}}"#,
            &[NullMembers],
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[ ]}"#,
            Peer::Client,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}"#,
            &[NullMembers],
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"notifications/x"}"#,
            Peer::Client,
            r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
            &[NullMembers],
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \"Infinity"}}"#,
            SERVER,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":null,"b":[null,null],"c":"NaN \"Infinity"}}"#,
            &[NonFinite],
        ),
        (
            r#"{"id":1,"result":NaN}"#,
            SERVER,
            r#"{"id":1,"result":null,"jsonrpc":"2.0"}"#,
            &[NonFinite, NoVersionMember],
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            OPEN,
            r#"{"jsonrpc":"2.0","id":"own","result":{}}"#,
            &[IdsMissing],
        ),
        (
            r#"{"jsonrpc":"2.0","result":{}}"#,
            OPEN,
            r#"{"jsonrpc":"2.0","result":{},"id":"own"}"#,
            &[IdsMissing],
        ),
        (
            r#"{"result":1,"method":null,"id":null,"params":null,"error":null}"#,
            OPEN,
            r#"{"result":1,"method":null,"id":"own","params":null,"error":null,"jsonrpc":"2.0"}"#,
            &[IdsMissing, NoVersionMember],
        ),
    ];
    for (source, from, message, quirks) in cases {
        let mended =
            mended(source.as_bytes().to_vec(), *from).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(std::str::from_utf8(&mended.message).unwrap(), *message, "{source}");
        assert_eq!(mended.quirks, quirks.iter().copied().collect(), "{source}");
        Envelope::parse(&mended.message).unwrap();
    }
}

#[test]
fn what_may_be_meant_in_two_ways_is_not() {
    let cases = [
        ("ping - 2026-11-29", SERVER),
        ("", SERVER),
        ("\0", SERVER),
        ("7", SERVER),
        ("null", SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"text":"cut o"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}{"jsonrpc":"2.0","id":2,"result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#, SERVER),
        (r#"{"id":1,"ID":2,"result":{}}"#, SERVER),
        (r#"{"jsonrpc":"3.0","id":1,"result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":[1],"result":{}}"#, OPEN),
        (r#"{"jsonrpc":"2.0","id":true,"result":{}}"#, OPEN),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1}"#, SERVER),
        ("[]", SERVER),
        (r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{}}]"#, SERVER),
        (r#"[[{"jsonrpc":"2.0","id":1,"result":{}}]]"#, SERVER),
        (r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#, OPEN),
        (
            r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":1,"result":{}}]"#,
            Peer::Server { open: None },
        ),
        (r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","method":"y"}]"#, OPEN),
        (r#"[{"jsonrpc":"2.0","id":1,"result":{}},7]"#, OPEN),
        (r#"{NaN:1,"jsonrpc":"2.0","id":1,"result":{}}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":1,"result":NaNs}"#, SERVER),
        (r#"{"jsonrpc":"2.0","id":NaN,"result":1}"#, SERVER),
        (r#"{"id":1,"method":"ping"}"#, Peer::Client),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, Peer::Client),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, Peer::Client),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":NaN}}"#, Peer::Client),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, Peer::Client),
    ];
    for (source, from) in cases {
        let error = Envelope::parse(source.as_bytes()).unwrap_err();
        let unreadable = mended(source.as_bytes().to_vec(), from).expect_err(source);
        assert_eq!(unreadable.error, error, "{source}");
        assert_eq!(unreadable.length, source.len());
    }
    let latin = b"{\"id\":1,\"result\":\"caf\xe9\"}";
    assert_eq!(mended(latin.to_vec(), SERVER).unwrap_err().error, EnvelopeError::Utf8 { at: 21 });
}

#[test]
fn what_cannot_be_read_says_what_and_where() {
    for (source, text) in [
        (&b"ping - 2026"[..], r#"not JSON: byte 0: expected a value; it says "ping - 2026""#),
        (
            b"{\"id\":1,\"result\":\"caf\xe9\"}",
            "not UTF-8 from byte 21 on; it says \"{\"id\":1,\"result\":\"caf\u{fffd}\"}\"",
        ),
        (b"\x1b[2J", r#"not JSON: byte 0: expected a value; it says "\u{1b}[2J""#),
    ] {
        let unreadable = mended(source.to_vec(), SERVER).unwrap_err();
        assert_eq!(unreadable.quoted(source, &Secrets::default()), text);
    }
}

#[test]
fn deep_and_long_messages_cost_no_stack_and_no_square_of_time() {
    let nested = format!("{{\"id\":1,\"result\":{}", "[".repeat(1 << 20));
    mended(nested.into_bytes(), SERVER).unwrap_err();
    let numbers = format!("{{\"id\":1,\"result\":[{}0]}}", "NaN,".repeat(1 << 18));
    let mended = mended(numbers.into_bytes(), SERVER).unwrap();
    assert_eq!(mended.message.len(), "{\"id\":1,\"result\":[0],\"jsonrpc\":\"2.0\"}".len() + (5 << 18));
}

fn peer() -> impl Strategy<Value = Peer<'static>> {
    prop_oneof![Just(SERVER), Just(OPEN), Just(Peer::Client)]
}

/// Messages that are odd in several ways at once.
fn odd() -> impl Strategy<Value = String> {
    let version =
        prop::sample::select(vec!["", "\"jsonrpc\":\"2.0\",", "\"jsonrpc\":2.0,", "\"jsonrpc\":null,"]);
    let id = prop::sample::select(vec!["", "\"id\":null,", "\"id\":7.0,", "\"id\":\"x\",", "\"id\":{},"]);
    let method = prop::sample::select(vec![
        "",
        "\"method\":null,",
        "\"method\":\"a\",",
        "\"method\":\"notifications/a\",",
    ]);
    let rest = prop_oneof![
        Just("\"params\":[]".to_owned()),
        Just("\"params\":null,\"result\":null,\"error\":null".to_owned()),
        Just("\"result\":[NaN,-Infinity,{\"a\":NaN}]".to_owned()),
        strategies::value().prop_map(|value| format!("\"result\":{value}")),
    ];
    let around = prop::sample::select(vec![
        ("", ""),
        ("\u{feff}", ""),
        ("[", "]"),
        ("\u{feff} [", "] \0"),
        ("", "\0"),
    ]);
    (version, id, method, rest, around).prop_map(|(version, id, method, rest, (before, after))| {
        format!("{before}{{{version}{id}{method}{rest}}}{after}")
    })
}

proptest! {
    #[test]
    fn what_is_mended_parses_and_is_not_mended_again(source in odd(), from in peer()) {
        let source = Bytes::from(source);
        if let Err(error) = Envelope::parse(&source)
            && let Ok(mended) = mend(&source, error, from)
        {
            prop_assert!(Envelope::parse(&mended.message).is_ok());
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&mended.message).is_ok());
        }
    }

    /// The result of an answer keeps its bytes, whatever is mended around it.
    #[test]
    fn nothing_else_changes(value in strategies::value(), around in 0..4_usize) {
        let source = match around {
            0 => format!("{{\"id\":7,\"result\":{value}}}"),
            1 => format!("[{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{value}}}]"),
            2 => format!("\u{feff}{{\"result\":{value},\"jsonrpc\":2.0,\"id\":7}}"),
            _ => format!("{{\"jsonrpc\":\"2.0\",\"x\":NaN,\"result\":{value},\"id\":7}}"),
        };
        let mended = mended(source.into_bytes(), SERVER).unwrap();
        let envelope = Envelope::parse(&mended.message).unwrap();
        prop_assert_eq!(envelope.result, Some(&*value));
        prop_assert_eq!(envelope.id, Some("7"));
    }
}
