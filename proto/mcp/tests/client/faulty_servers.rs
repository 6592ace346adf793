//! Servers that do not keep to the protocol: a precise error, in bounded memory and time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use mcp::client::{
    ClientError, Endpoint, MAX_MESSAGE_BYTES, ProbeError, Reach, Session, Transport, Url, probe,
};
use mcp::method::Method;
use mcp::revision::Revision;

use crate::scripted_server::{Answer, Asked, ScriptedServer, endless, events, info, json, stalling, text};

async fn probed(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (ProbeError, Vec<Asked>) {
    let server = ScriptedServer::start(script).await;
    let error = probe(&server.endpoint, &info()).await.verdict.unwrap_err();
    (error, server.asked())
}

/// What was tried, in order.
fn tried(asked: &[Asked]) -> Vec<&'static str> {
    let one = |asked: &Asked| match asked.verb.as_str() {
        "GET" => "GET",
        _ if asked.is("server/discover") => "server/discover",
        _ if asked.is("initialize") => "initialize",
        _ => "other",
    };
    asked.iter().map(one).collect()
}

#[tokio::test]
async fn nobody_is_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = ScriptedServer::start(|_| json(200, "")).await;
    let mut url = server.endpoint.url.clone();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    drop(listener);
    let error = probe(&Endpoint { url, ..server.endpoint }, &info()).await.verdict.unwrap_err();
    assert!(matches!(&error, ProbeError::Unreachable(_)), "{error:?}");
    assert_eq!(error.to_string(), "cannot connect: Connection refused (os error 111)");
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let (error, asked) = probed(|_| {
        let challenge = "Bearer realm=\"x\", got=\"header-secret\"".to_owned();
        (401, vec![("www-authenticate", challenge)], "no".into())
    })
    .await;
    assert_eq!(error.to_string(), "HTTP 401: not authorized (Bearer realm=\"x\", got=\"[redacted]\")");
    assert_eq!(tried(&asked), ["server/discover", "initialize", "GET"]);
}

#[tokio::test]
async fn a_web_page_is_not_a_server_and_its_text_loses_our_secrets() {
    let (error, _) =
        probed(|_| text(404, "<h1>Not found</h1>\r\n\u{1b}[31m query-secret Bearer header-secret")).await;
    let excerpt = "<h1>Not found</h1> \\u{1b}[31m [redacted] [redacted]".to_owned();
    assert_eq!(error, ProbeError::NotMcp { status: 404, excerpt });
    let (error, _) = probed(|_| text(200, "hello")).await;
    let excerpt = "content type \"text/html\" instead of application/json or text/event-stream".to_owned();
    assert_eq!(error, ProbeError::NotMcp { status: 200, excerpt });
}

#[tokio::test]
async fn an_outage_says_nothing_about_the_era() {
    let (error, asked) = probed(|_| text(503, "come back later")).await;
    assert_eq!(error, ProbeError::Unavailable { status: 503, excerpt: "come back later".to_owned() });
    assert_eq!(tried(&asked), ["server/discover", "initialize", "GET"]);
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_not_followed() {
    let other = ScriptedServer::start(|_| json(200, "{}")).await;
    let location = other.endpoint.url.to_string();
    let (error, _) = probed(move |_| (307, vec![("location", location.clone())], "".into())).await;
    let named = other.endpoint.url.origin().ascii_serialization();
    assert!(
        matches!(&error, ProbeError::NotMcp { status: 307, excerpt } if excerpt.contains(&named)),
        "{error}"
    );
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_redirect_says_more_than_a_page_that_refuses_posts() {
    let (error, asked) = probed(|asked| match asked.verb.as_str() {
        "GET" => (302, vec![("location", "https://other.example/login".to_owned())], "".into()),
        _ => text(501, "<!DOCTYPE HTML>"),
    })
    .await;
    assert!(
        matches!(&error, ProbeError::NotMcp { status: 302, excerpt } if excerpt.contains("other.example")),
        "{error}"
    );
    assert_eq!(tried(&asked), ["server/discover", "initialize", "GET"]);
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_credentials() {
    let server = ScriptedServer::start(|asked| match asked.path.as_str() {
        "/mcp" => (308, vec![("location", "/other".to_owned())], "".into()),
        _ => asked.handshake().unwrap_or_else(|| json(404, "")),
    })
    .await;
    assert!(probe(&server.endpoint, &info()).await.verdict.is_ok());
    let last = server.asked().pop().unwrap();
    assert_eq!((last.verb.as_str(), last.path.as_str()), ("DELETE", "/other"));
    assert_eq!(last.headers["authorization"], "Bearer header-secret");
    assert_eq!(last.headers["user-agent"], "test/0");
}

#[tokio::test]
async fn a_key_in_the_path_is_not_repeated() {
    let mut endpoint = ScriptedServer::start(|asked| text(404, &format!("no {}", asked.path))).await.endpoint;
    endpoint.url.set_path("/k/0123456789abcdef/mcp");
    let error = probe(&endpoint, &info()).await.verdict.unwrap_err();
    assert_eq!(error.to_string(), "HTTP 404: not an MCP server: no /k/[redacted]/mcp");
}

#[tokio::test]
async fn messages_that_are_none() {
    let wrong = |body: &'static str| probed(move |_| json(200, body));
    let prefix = "violates the protocol: a message: ";
    assert_eq!(wrong("").await.0.to_string(), format!("{prefix}not JSON: byte 0: expected a value"));
    assert_eq!(
        wrong(r#"{"jsonrpc":"2.0","id":1}"#).await.0.to_string(),
        format!(
            "{prefix}a message must have exactly one of \"method\", \"result\" and \"error\"; it says \"{}\"",
            r#"{"jsonrpc":"2.0","id":1}"#
        )
    );
    assert_eq!(
        wrong(r#"{"jsonrpc":"2.0","id":99,"result":{}}"#).await.0.to_string(),
        "violates the protocol: answered request 99, but was asked 1"
    );
    assert_eq!(
        wrong(r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"1999-01-01"}}"#).await.0.to_string(),
        "offers protocol version \"1999-01-01\", which this release does not speak; this release speaks 2024-11-05 to 2026-07-28"
    );
    assert_eq!(
        wrong(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-7,"message":"go away"}}"#).await.0.to_string(),
        "error -7: go away"
    );
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let (error, _) = probed(move |_| events(endless(piece.clone()))).await;
    assert_eq!(error.to_string(), format!("a message is larger than {MAX_MESSAGE_BYTES} bytes"));
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let (error, _) = probed(move |_| json(200, endless(piece.clone()))).await;
    assert_eq!(error.to_string(), format!("a message is larger than {MAX_MESSAGE_BYTES} bytes"));
}

#[tokio::test]
async fn events_without_end_run_into_the_timeout() {
    let (error, _) = probed(move |_| events(endless(Bytes::from_static(b": keep-alive\n\n")))).await;
    assert_eq!(error.to_string(), "no response within 1.5s");
}

#[tokio::test]
async fn silence_runs_into_the_timeout_and_the_request_is_called_off() {
    let server = ScriptedServer::start(|asked| {
        asked.handshake().unwrap_or_else(|| events(stalling("id: 1\ndata:\n\n")))
    })
    .await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    let silent = session.request_streaming("tools/call", r#"{"name":"x"}"#, &[], |_, _| {}).await;
    assert_eq!(silent, Err(ClientError::Timeout(server.endpoint.timeout)));
    let last = server.asked().pop().unwrap();
    assert_eq!(
        last.body,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":"timeout"}}"#
    );
}

/// Counts what is listed, where one request may take as long as `timeout`.
async fn listed(
    timeout: Duration,
    script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> Result<usize, ClientError> {
    let server = ScriptedServer::start(move |asked| asked.handshake().unwrap_or_else(|| script(asked))).await;
    let endpoint = Endpoint { timeout, ..server.endpoint };
    let session =
        Session::open(&endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info()).await.unwrap();
    Ok(session.list_all(Method::ToolsList, 100).await?.len())
}

#[tokio::test]
async fn a_cursor_is_as_long_as_a_cursor_needs_to_be() {
    for (length, expected) in [
        (65_534, Ok(2)),
        (
            65_535,
            Err(ClientError::Protocol(
                "tools/list returned a cursor of 65537 bytes; the maximum is 65536".to_owned(),
            )),
        ),
    ] {
        let cursor = "c".repeat(length);
        let list = listed(Duration::from_secs(60), move |asked| {
            let (name, next) = match asked.body.contains("ccc") {
                true => ("second", String::new()),
                false => ("first", format!(r#","nextCursor":"{cursor}""#)),
            };
            json(200, asked.result(&format!(r#"{{"tools":[{{"name":"{name}"}}]{next}}}"#)))
        });
        assert_eq!(list.await, expected);
    }
}

#[tokio::test]
async fn pages_that_come_slowly_end_in_time() {
    let page = AtomicUsize::new(0);
    let list = listed(Duration::from_millis(400), move |asked| {
        let next = page.fetch_add(1, Ordering::Relaxed);
        let body = asked.result(&format!(r#"{{"tools":[],"nextCursor":"{next}"}}"#));
        let slow = async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok::<_, std::convert::Infallible>(Bytes::from(body))
        };
        json(200, axum::body::Body::from_stream(futures_util::stream::once(slow)))
    });
    assert!(matches!(list.await, Err(ClientError::Timeout(_))));
}

#[tokio::test]
async fn definitions_are_kept_byte_for_byte() {
    let definition = "{ \"name\":\"t\", \"n\":123456789012345678901234567890,\t\"x\":[1.50,\"\\u00e9\"] }";
    let page = format!("{{\"tools\":[ {definition} ]}}");
    let server = ScriptedServer::start(move |asked| {
        asked.handshake().unwrap_or_else(|| json(200, asked.result(&page)))
    })
    .await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    assert_eq!(session.list_all(Method::ToolsList, 100).await, Ok(vec![definition.to_owned()]));
}

#[tokio::test]
async fn a_server_of_another_time_says_so_first() {
    let (error, _) = probed(|asked| match asked.is("server/discover") {
        true => json(
            400,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"only 2099-01-01","data":{"supported":["2099-01-01"]}}}"#,
        ),
        false => text(404, ""),
    })
    .await;
    assert_eq!(error, ProbeError::Protocol("error -32022: only 2099-01-01".to_owned()));
}

#[tokio::test]
async fn a_modern_server_that_is_down_or_wants_credentials_is_not_told_that_it_knows_no_initialize() {
    for (status, expected) in [
        (503, ProbeError::Unavailable { status: 503, excerpt: "no".to_owned() }),
        (401, ProbeError::Unauthorized { status: 401, www_authenticate: None }),
    ] {
        let (error, _) = probed(move |asked| match asked.is("initialize") {
            true => {
                json(404, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#)
            }
            false => text(status, "no"),
        })
        .await;
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn a_get_that_is_refused_says_why() {
    for (status, expected) in
        [(405, ClientError::Unsupported), (409, ClientError::Busy), (404, ClientError::SESSION_LOST)]
    {
        let server =
            ScriptedServer::start(move |asked| asked.handshake().unwrap_or_else(|| text(status, ""))).await;
        let session =
            Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
                .await
                .unwrap();
        assert_eq!(session.listen().await.err(), Some(expected));
    }
}

#[test]
fn secrets_are_not_debugged() {
    let endpoint = Endpoint {
        url: Url::parse("https://user:password@example.com/mcp?key=secret").unwrap(),
        headers: [("x-key".parse().unwrap(), "secret".parse().unwrap())].into_iter().collect(),
        timeout: std::time::Duration::from_secs(1),
        reach: Reach::System,
    };
    assert_eq!(format!("{endpoint:?}"), "Endpoint { origin: \"https://example.com\", timeout: 1s, .. }");
}
