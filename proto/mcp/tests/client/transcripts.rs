//! What the client says, word for word.

use mcp::client::{Session, Transport, probe};
use mcp::revision::Revision;

use crate::scripted_server::{Asked, ScriptedServer, events, info, json};

const MODERN_META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"test","version":"0"}}"#;

fn header<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    asked.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_legacy_server_is_probed() {
    let server = ScriptedServer::start(|asked| {
        asked.handshake().unwrap_or_else(|| {
            json(
                400,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#,
            )
        })
    })
    .await;
    let found = probe(&server.endpoint, &info()).await.verdict.unwrap();
    assert_eq!(found.modern, None);
    assert_eq!(found.legacy.map(|side| side.version), Some(Revision::V2025_06_18));

    let asked = server.asked();
    let bodies: Vec<_> = asked.iter().map(|a| (a.verb.as_str(), a.body.as_str())).collect();
    let discover =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{MODERN_META}}}}}"#);
    assert_eq!(
        bodies,
        [
            ("POST", discover.as_str()),
            (
                "POST",
                r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#
            ),
            ("POST", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
            ("DELETE", ""),
        ]
    );
    let versions: Vec<_> = asked.iter().map(|a| header(a, "mcp-protocol-version")).collect();
    assert_eq!(versions, [Some("2026-07-28"), None, Some("2025-06-18"), Some("2025-06-18")]);
    let sessions: Vec<_> = asked.iter().map(|a| header(a, "mcp-session-id")).collect();
    assert_eq!(sessions, [None, None, Some("s-1"), Some("s-1")]);
    assert!(asked.iter().all(|a| header(a, "authorization") == Some("Bearer header-secret")));
    assert!(asked[..3].iter().all(|a| header(a, "accept") == Some("application/json, text/event-stream")));
    assert_eq!(header(&asked[0], "mcp-method"), Some("server/discover"));
    assert_eq!(header(&asked[1], "mcp-method"), None);
}

#[tokio::test]
async fn a_modern_call_repeats_itself_in_headers() {
    let server = ScriptedServer::start(|asked| {
        let result = match asked.is("server/discover") {
            true => r#"{"supportedVersions":["2099-01-01","2026-07-28"],"capabilities":{"x":1.0}}"#,
            false => r#"{"content":[]}"#,
        };
        json(200, asked.result(result))
    })
    .await;
    let session =
        Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST, info()).await.unwrap();
    assert_eq!(session.server().capabilities, r#"{"x":1.0}"#);
    let mirrored = mcp::header::mirrored_params(
        r#"{"properties":{"n":{"type":"integer","x-mcp-header":"N"},"s":{"type":"string","x-mcp-header":"S"}}}"#,
    )
    .unwrap();
    let params = r#"{"name":"né","arguments":{"n":1e2},"_meta":{"progressToken":7}}"#;
    session.request_streaming("tools/call", params, &mirrored, |_, _| {}).await.unwrap();
    session.close().await;

    let asked = server.asked();
    assert_eq!(asked.len(), 2, "no session, no DELETE");
    let meta = MODERN_META.replace("{\"io.", "{\"progressToken\":7,\"io.");
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"né","arguments":{{"n":1e2}},{meta}}}}}"#
    )
    .replacen("{\"progressToken\":7,\"io.", "{\"progressToken\":7,\"io.", 1);
    assert_eq!(asked[1].body, body);
    assert_eq!(header(&asked[1], "mcp-method"), Some("tools/call"));
    assert_eq!(header(&asked[1], "mcp-name"), Some("=?base64?bsOp?="));
    assert_eq!(header(&asked[1], "mcp-param-n"), Some("100"));
    assert_eq!(header(&asked[1], "mcp-param-s"), None);
}

#[tokio::test]
async fn server_requests_receive_responses() {
    let server = ScriptedServer::start(|asked| {
        let stream = format!(
            "data: {}\n\ndata: {}\n\ndata: {}\n\n",
            r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#,
            match asked.is("tools/call") {
                true => asked.result("{}"),
                false => String::new(),
            }
        );
        asked.handshake().unwrap_or_else(|| match asked.is("tools/call") {
            true => events(stream),
            false => json(202, ""),
        })
    })
    .await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    assert_eq!(session.request("tools/call", r#"{"name":"x"}"#).await.as_deref(), Ok("{}"));
    let answers: Vec<_> = server.asked().into_iter().skip(3).map(|asked| asked.body).collect();
    assert_eq!(
        answers,
        [
            r#"{"jsonrpc":"2.0","id":"p","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"this client does not support this request"}}"#
        ]
    );
}

#[tokio::test]
async fn a_stream_that_breaks_is_taken_up_where_it_ended() {
    let server = ScriptedServer::start(|asked| {
        let start = "id: e1\nretry: 10\ndata:\n\nid: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n";
        asked.handshake().unwrap_or_else(|| match asked.verb.as_str() {
            "GET" => events("id: e3\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"late\":true}}\n\n"),
            _ => events(start),
        })
    })
    .await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    assert_eq!(session.request("tools/call", r#"{"name":"x"}"#).await.as_deref(), Ok(r#"{"late":true}"#));
    let last = server.asked().pop().unwrap();
    assert_eq!(header(&last, "last-event-id"), Some("e2"));
    assert_eq!(header(&last, "mcp-session-id"), Some("s-1"));
}

#[tokio::test]
async fn an_upstream_of_the_future_is_asked_again_in_our_words() {
    let server = ScriptedServer::start(|asked| {
        let error = format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32022,"message":"no","data":{{"supported":["2099-01-01"]}}}}}}"#,
            asked.id()
        );
        json(400, error)
    })
    .await;
    let error = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST, info())
        .await
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "error -32022: no");
    assert_eq!(server.asked().len(), 1);
}
