//! `mcpctl expose` over HTTP+SSE and WebSocket, and with variables from headers.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::client::{ChangeNotice, ClientError, ClientInfo, Endpoint, Reach, Session, Transport, probe};
use mcp::method::Method;
use mcp::revision::Revision;
use mcpctl::bridge::expose::{self, Running, Settings};

use crate::support::{expose, program, settings};

fn endpoint(running: &Running, scheme: &str, path: &str, secret: Option<&'static str>) -> Endpoint {
    let secret = secret.map(|value| (HeaderName::from_static("x-secret"), HeaderValue::from_static(value)));
    let url = format!("{scheme}://{}{path}", running.address.unwrap()).parse().unwrap();
    Endpoint {
        url,
        headers: HeaderMap::from_iter(secret),
        timeout: Duration::from_secs(30),
        reach: Reach::System,
    }
}

fn info() -> ClientInfo {
    ClientInfo { name: "t".to_owned(), version: "1".to_owned() }
}

async fn open(endpoint: &Endpoint, transport: Transport) -> Session {
    Session::open(endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap()
}

async fn call(session: &Session, tool: &str) -> Result<String, ClientError> {
    session.request("tools/call", &format!(r#"{{"name":"{tool}","arguments":{{}}}}"#)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_transports_are_offered_beside_the_new_one() {
    let running = expose(&[]).await;
    let sse = endpoint(&running, "http", "/sse", None);
    let ws = endpoint(&running, "ws", "/ws", None);
    for (endpoint, transport) in [(sse, Transport::HttpSse), (ws, Transport::WebSocket)] {
        let found = probe(&endpoint, &info()).await.verdict.unwrap();
        assert_eq!((found.transport, found.server_name.as_str()), (transport, "fixture"));
        let (a, b) = (open(&endpoint, transport).await, open(&endpoint, transport).await);
        let mut notices = a.listen().await.unwrap();
        assert_eq!(a.list_all(Method::ToolsList, 100).await.unwrap().len(), 8);
        let mut progress = 0;
        let params = r#"{"name":"count","arguments":{},"_meta":{"progressToken":"mine"}}"#;
        let told = |_: &str, params: Option<&str>| {
            progress +=
                usize::from(params.is_some_and(|params| params.contains(r#""progressToken": "mine""#)));
        };
        let (counted, pid) =
            tokio::join!(a.request_streaming("tools/call", params, &[], told), call(&b, "pid"));
        assert!(counted.unwrap().contains("counted"));
        assert_eq!((progress, pid.unwrap()), (3, call(&a, "pid").await.unwrap()), "they share one child");
        let died = call(&b, "die").await.unwrap_err();
        assert!(matches!(died, ClientError::Rpc { code: -31_202, .. }), "{died}");
        // After a restart of the child, clients are told that lists may have changed.
        assert_eq!(notices.next().await, Some(Ok(ChangeNotice::Tools)));
        assert!(call(&a, "pid").await.is_ok(), "the connection outlives the child");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_value_of_a_header_has_a_child_of_its_own() {
    let settings = Settings { env_from_headers: vec!["SECRET=X-Secret".parse().unwrap()], ..settings(0) };
    let running = expose::start(program(&[]), settings).await.unwrap();
    assert_eq!(running.ready().await.unwrap(), "starts with its first client");
    let ask = async |secret, scheme: &str, path: &str, transport| {
        let session = open(&endpoint(&running, scheme, path, secret), transport).await;
        let env = call(&session, "env").await.unwrap();
        let pid = call(&session, "pid").await.unwrap();
        session.close().await;
        (env, pid)
    };
    let (env, first) = ask(Some("s3cret-a"), "http", "/mcp", Transport::StreamableHttp).await;
    assert!(env.contains("s3cret-a"), "{env}");
    let (env, second) = ask(Some("s3cret-b"), "http", "/sse", Transport::HttpSse).await;
    assert!(env.contains("s3cret-b"), "{env}");
    let (env, third) = ask(Some("s3cret-a"), "ws", "/ws", Transport::WebSocket).await;
    assert!(env.contains("s3cret-a") && first == third && first != second, "{env}");
    assert!(ask(None, "http", "/sse", Transport::HttpSse).await.0.contains("none"));
    assert!(!format!("{running:?}").contains("s3cret"), "values are never shown");

    // A session belongs to its instance: with another header value it is unknown.
    let http = reqwest::Client::new();
    let url = running.url().unwrap();
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let opened =
        crate::support::post(&http, &url, hello).header("x-secret", "s3cret-a").send().await.unwrap();
    let session = opened.headers()["mcp-session-id"].clone();
    let ping = crate::support::post(&http, &url, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let ping = ping.header("mcp-session-id", session).header("x-secret", "s3cret-b");
    assert_eq!(ping.send().await.unwrap().status(), 404);
    running.stop().await;
}
