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
            r#"{"result":1,"id":"own","jsonrpc":"2.0"}"#,
            &[IdsMissing, NoVersionMember, NullMembers],
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

/// What stands in a message where the protocol has no `null` is absent; what is somebody's own keeps every byte.
#[test]
fn what_is_null_for_absent_is_left_out() {
    let cases = [
        (r#""id":1,"result":{},"error":null"#, r#""id":1,"result":{}"#),
        (r#""id":1,"result":null,"method":null"#, r#""id":1,"result":null"#),
        (r#""id":1,"result":[ ]"#, r#""id":1,"result":{}"#),
        (
            r#""id":1,"result":null,"error":{"code":1,"message":"m"}"#,
            r#""id":1,"error":{"code":1,"message":"m"}"#,
        ),
        (r#""method":"notifications/initialized","params":null"#, r#""method":"notifications/initialized""#),
        (r#""method":"vendor/x","params":null,"id":1"#, r#""method":"vendor/x","id":1"#),
        (
            r#""id":1,"method":"tools/call","params":{"name":"t","arguments":null,"_meta":{"progressToken":null,"x":null},"task":null}"#,
            r#""id":1,"method":"tools/call","params":{"name":"t","_meta":{"x":null}}"#,
        ),
        (
            r#""id":1,"method":"tools/call","params":{"name":"t","arguments":{"name":null},"_meta":null}"#,
            r#""id":1,"method":"tools/call","params":{"name":"t","arguments":{"name":null}}"#,
        ),
        (
            r#""id":1,"method":"sampling/createMessage","params":{"systemPrompt":null,"modelPreferences":{"hints":[{"name":null}]},"messages":[{"role":"user","content":{"type":"text","text":"t","annotations":null}}]}"#,
            r#""id":1,"method":"sampling/createMessage","params":{"modelPreferences":{"hints":[{}]},"messages":[{"role":"user","content":{"type":"text","text":"t"}}]}"#,
        ),
        (
            r#""id":1,"result":{"content":[{"type":"text","text":"t","annotations":{"audience":null,"priority":1},"_meta":null},{"type":"resource","resource":{"uri":"a:b","mimeType":null,"text":""}}],"structuredContent":null,"isError":null}"#,
            r#""id":1,"result":{"content":[{"type":"text","text":"t","annotations":{"priority":1}},{"type":"resource","resource":{"uri":"a:b","text":""}}]}"#,
        ),
        (
            r#""id":1,"result":{"content":null,"_meta":null,"structuredContent":{"title":null,"content":[null]}}"#,
            r#""id":1,"result":{"content":null,"structuredContent":{"title":null,"content":[null]}}"#,
        ),
        (
            r#""id":1,"result":{"resultType":"complete","content":[],"structuredContent":null,"_meta":null}"#,
            r#""id":1,"result":{"resultType":"complete","content":[],"structuredContent":null}"#,
        ),
        (
            r#""id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"m","mode":null}}},"requestState":null}"#,
            r#""id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"m"}}}}"#,
        ),
        (
            r#""id":1,"result":{"action":"accept","content":{"name":null},"_meta":null}"#,
            r#""id":1,"result":{"action":"accept","content":{"name":null}}"#,
        ),
        (
            r#""method":"notifications/message","params":{"level":"info","logger":null,"data":{"message":null}}"#,
            r#""method":"notifications/message","params":{"level":"info","data":{"message":null}}"#,
        ),
    ];
    for (odd, strict) in cases {
        let source = format!(r#"{{"jsonrpc":"2.0",{odd}}}"#);
        for from in [SERVER, Peer::Client] {
            let mended = mended(source.clone(), from).unwrap_or_else(|error| panic!("{source}: {error}"));
            let text = std::str::from_utf8(&mended.message).unwrap();
            assert_eq!(text, format!(r#"{{"jsonrpc":"2.0",{strict}}}"#));
            assert_eq!(mended.quirks, NullMembers.into(), "{source}");
        }
    }
}

#[test]
fn what_is_somebodys_own_may_be_null() {
    for message in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"description":null},"vendor":null,"_meta":{"title":null}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"a","ttl":null}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":null}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","method":"vendor/looked","params":{"title":null,"_meta":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"arguments":null,"_meta":null}}}"#,
    ] {
        assert!(Envelope::parse(message.as_bytes()).is_ok(), "{message}");
    }
}

#[test]
fn errors_that_no_sdk_reads_are_completed() {
    let long = "x".repeat(2_000);
    let cases = [
        (r#"{"code":"-32000","message":"m"}"#, r#"{"code":-32000,"message":"m"}"#),
        (r#"{"code":-32e3,"message":"m","data":{"a":1}}"#, r#"{"code":-32000,"message":"m","data":{"a":1}}"#),
        (r#"{"message":"m"}"#, r#"{"message":"m","code":-32603}"#),
        (r#"{"code":null,"message":"m","data":null}"#, r#"{"code":-32603,"message":"m","data":null}"#),
        (
            r#"{"code":"E_NONE","message":"m"}"#,
            r#"{"code":-32603,"message":"m","data":{"code":"E_NONE","message":"m"}}"#,
        ),
        (r#"{"code":1.5,"message":"m","data":7}"#, r#"{"code":-32603,"message":"m","data":7}"#),
        (r#"{"code":1,"data":"why"}"#, r#"{"code":1,"data":"why","message":"why"}"#),
        (r#"{"code":1,"message":null}"#, r#"{"code":1,"message":"{\"code\":1,\"message\":null}"}"#),
        (
            r#"{"code":1,"message":{"en":"no"}}"#,
            r#"{"code":1,"message":"{\"en\":\"no\"}","data":{"code":1,"message":{"en":"no"}}}"#,
        ),
        (
            r#"{"message":"m","detail":"d"}"#,
            r#"{"message":"m","detail":"d","code":-32603,"data":{"message":"m","detail":"d"}}"#,
        ),
        ("{}", r#"{"code":-32603,"message":"{}"}"#),
        ("\"no\"", r#"{"code":-32603,"message":"no"}"#),
        ("500", r#"{"code":-32603,"message":"500","data":500}"#),
        (r#"["no"]"#, r#"{"code":-32603,"message":"[\"no\"]","data":["no"]}"#),
    ];
    for (odd, strict) in cases {
        let mended = mended(format!(r#"{{"jsonrpc":"2.0","id":1,"error":{odd}}}"#), SERVER).unwrap();
        assert_eq!(mended.message, format!(r#"{{"jsonrpc":"2.0","id":1,"error":{strict}}}"#));
        assert_eq!(mended.quirks, OddErrors.into(), "{odd}");
    }
    let cut =
        mended(format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":["{long}"]}}}}"#), SERVER);
    assert!(std::str::from_utf8(&cut.unwrap().message).unwrap().contains("x…\",\"data\""));
    // A text may be an error of anything.
    for source in [r#"{"error":"invalid_token"}"#, r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"code":2}}"#]
    {
        assert_eq!(
            mended(source, SERVER).unwrap_err().error,
            Envelope::parse(source.as_bytes()).unwrap_err()
        );
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
        Just("\"params\":{\"_meta\":null}".to_owned()),
        Just("\"result\":{\"content\":[{\"_meta\":null}],\"x\":NaN},\"error\":null".to_owned()),
        strategies::value().prop_map(|value| format!("\"error\":{value}")),
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

    /// Whatever an error is, what is made of it is what every SDK reads.
    #[test]
    fn what_is_made_of_an_error_has_a_code_and_a_message(
        code in strategies::value(), message in strategies::value(), data in strategies::value()
    ) {
        for error in [
            format!(r#"{{"code":{code},"message":{message},"data":{data}}}"#),
            format!(r#"{{"code":{code}}}"#),
            format!(r#"{{"message":{message},"x":{data}}}"#),
            code,
        ] {
            let source = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#));
            let Err(refused) = Envelope::parse(&source) else { continue };
            let Ok(mended) = mend(&source, refused, SERVER) else { continue };
            let read: serde_json::Value = serde_json::from_slice(&mended.message).unwrap();
            prop_assert!(read["error"]["code"].is_number() && read["error"]["message"].is_string(), "{}", read);
        }
    }

    /// A member that is null goes, wherever it stands, and what is beside it keeps its bytes.
    #[test]
    fn nulls_go_and_the_rest_stays(value in strategies::value(), first: bool) {
        let members = |list: &[&str]| list.join(",");
        let kept = format!(r#""structuredContent":{{"a":{value}}}"#);
        let list = if first { ["\"_meta\":null", &kept] } else { [&kept, "\"isError\":null"] };
        let source = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{}}}}}"#, members(&list));
        let mended = mended(source, SERVER).unwrap();
        let envelope = Envelope::parse(&mended.message).unwrap();
        prop_assert_eq!(envelope.result, Some(&*format!("{{{kept}}}")));
    }

    /// The result of an answer keeps its bytes, whatever is mended around it.
    #[test]
    fn nothing_else_changes(value in strategies::value(), around in 0..4_usize) {
        prop_assume!(value != "null" && !value.trim_start_matches('[').trim_start().starts_with(']'));
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
