use mcp::revision::Revision;
use mcp::version_refusal::{VersionRefusal, refuses_revision};

fn error(code: i64, rest: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},{rest}}}}}"#)
}

#[test]
fn a_refusal_is_about_the_revision_where_it_says_so() {
    for (body, expected) in [
        ("Unsupported MCP-Protocol-Version".to_owned(), true),
        ("bad protocol_version 2025-11-25".to_owned(), true),
        (
            error(-32000, r#""message":"Bad Request: Unsupported protocol version (supported versions: x)""#),
            true,
        ),
        (error(-32602, r#""message":"unknown protocolVersion""#), true),
        (error(-32022, r#""message":"no""#), true),
        (error(-32602, r#""message":"Invalid request parameters""#), false),
        (error(-32000, r#""message":"this version of the server is broken""#), false),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"text":"protocol version"}}"#.to_owned(), false),
        ("<h1>Django Version: 4.2</h1>".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(refuses_revision(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn the_newest_revision_that_is_named_is_offered_or_else_the_next_older_one() {
    use Revision as R;
    let all: Vec<R> = R::ALL.into_iter().filter(|revision| *revision != R::LATEST).rev().collect();
    for (text, data, tried, expected) in [
        ("supported versions: 2024-11-05, 2025-03-26", "", &all[..1], Some(R::V2025_03_26)),
        ("unsupported 2025-11-25; I speak 2024-11-05", "", &all[..1], Some(R::V2024_11_05)),
        ("no", r#"{"supported":["2025-06-18"]}"#, &all[..1], Some(R::V2025_06_18)),
        ("Unsupported protocol version", "", &all[..1], Some(R::V2025_06_18)),
        ("Unsupported protocol version", "", &all[..2], Some(R::V2025_03_26)),
        ("Unsupported protocol version", "", &all[..], None),
        ("Unsupported protocol version", r#"{"supported":["2099-01-01"]}"#, &all[..1], None),
        ("only 2026-07-28", "", &all[..1], None),
        ("no room", "", &all[..1], None),
    ] {
        let said = VersionRefusal { code: None, text, data };
        assert_eq!(said.instead(tried), expected, "{text} {data}");
    }
}
