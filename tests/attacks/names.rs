//! Requests by foreign names and from foreign pages, and requests that two readers would read differently: on every
//! listener that speaks HTTP.

use crate::support::PATIENCE;
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::raw;

/// A request that tries something, without its first line: its header lines, and what is refused.
const ATTACKS: [(&str, &str); 24] = [
    ("Host: evil.example\r\n", HOST),
    ("Host: localhost.evil.example\r\n", HOST),
    ("Host: localhost:80@evil.example\r\n", HOST),
    ("Host: localhost#@evil.example\r\n", HOST),
    ("Host: localhost/\r\n", HOST),
    ("Host: localhost:\r\n", HOST),
    ("Host: \r\n", HOST),
    ("X-Nothing: x\r\n", HOST),
    ("Host: localhost\r\nHost: localhost\r\n", "the header Host occurs more than once"),
    ("Host: localhost\r\nHost: evil.example\r\n", "the header Host occurs more than once"),
    (
        "Host: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "the header Authorization occurs more than once",
    ),
    (
        "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n",
        "the header Origin occurs more than once",
    ),
    (
        "Host: localhost\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\n",
        "the header Content-Type occurs more than once",
    ),
    (
        "Host: localhost\r\nMcp-Session-Id: a\r\nX: y\r\nMcp-Session-Id: b\r\n",
        "the header Mcp-Session-Id occurs more than once",
    ),
    (
        "Host: localhost\r\nMCP-Protocol-Version: 2025-06-18\r\nmcp-protocol-version: 2025-06-18\r\n",
        "the header MCP-Protocol-Version occurs more than once",
    ),
    (
        "Host: localhost\r\nLast-Event-ID: 1\r\nLast-Event-ID: 2\r\n",
        "the header Last-Event-ID occurs more than once",
    ),
    ("Host: localhost\r\nOrigin: http://evil.example\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: null\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: http://localhost:80@evil.example\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: http://localhost:1#@evil.example\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: http://localhost.evil.example\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: http://localhost/\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: file://localhost\r\n", ORIGIN),
    ("Host: localhost\r\nOrigin: ws://localhost\r\n", ORIGIN),
];
const HOST: &str = "this Host is not allowed";
const ORIGIN: &str = "this Origin is not allowed";

/// Sends a request and returns its status, its `Access-Control-Allow-Origin` and its body.
async fn ask(address: &str, line: &str, headers: &str) -> (u16, Option<String>, String) {
    let request = format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    let answer = String::from_utf8(raw(address, request.as_bytes(), PATIENCE).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{headers:?}: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let allowed = head.lines().find_map(|line| line.strip_prefix("access-control-allow-origin: "));
    (status, allowed.map(str::to_owned), body.to_owned())
}

#[tokio::test]
async fn foreign_hosts_pages_and_repeated_headers_are_refused_by_every_listener() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let (edge, control) = (gateway.edge_address(0), gateway.control_address());
    let metrics = gateway.metrics_url(0);
    let operations = metrics.strip_prefix("http://").unwrap().split('/').next().unwrap();
    for (headers, reason) in ATTACKS {
        let is_repeated = reason.starts_with("the header");
        for path in ["/servers/dev/mcp", "/servers/dev/sse", "/servers/dev/ws", "/tunnels/any"] {
            let (status, allowed, body) = ask(edge, &format!("GET {path}"), headers).await;
            assert_eq!(status, if is_repeated { 400 } else { 403 }, "{path} {headers:?}: {body}");
            assert_eq!(allowed, None, "{path} {headers:?}");
            assert!(body.contains(reason), "{path} {headers:?}: {body}");
        }
        for path in ["/healthz", "/readyz", "/metrics", "/config", "/snapshot", "/nothing"] {
            let answer = ask(operations, &format!("GET {path}"), headers).await;
            let text = format!("{reason}; see --allowed-host and --allowed-origin\n");
            assert_eq!(answer, (403, None, text), "operations {path} {headers:?}");
        }
        for path in
            ["/healthz", "/readyz", "/metrics", "/trunkline.registry.v1.UpstreamService/ListUpstreams", "/x"]
        {
            let (status, allowed, body) = ask(control, &format!("GET {path}"), headers).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let told = (body["code"].as_str(), body["details"][0]["reason"].as_str());
            assert_eq!(told, (Some("PERMISSION_DENIED"), Some("NAME_NOT_ALLOWED")), "{path} {headers:?}");
            assert_eq!(body["message"], format!("{reason}; see --allowed-host"), "{path} {headers:?}");
            assert_eq!((status, allowed), (403, None), "control plane {path} {headers:?}");
        }
    }
    let good = "Host: localhost:1\r\nOrigin: http://127.0.0.1:3000\r\n";
    assert_eq!(ask(operations, "GET /healthz", good).await, (200, None, "ok\n".to_owned()));
    assert_eq!(ask(operations, "GET /healthz", "Host: 10.0.0.7:4446\r\n").await.0, 200, "a probe by address");
    assert_eq!(ask(control, "GET /healthz", good).await, (200, None, "ok\n".to_owned()));
    let (status, allowed, _) = ask(edge, "GET /servers/dev/mcp", good).await;
    assert_eq!((status, allowed.as_deref()), (401, Some("http://127.0.0.1:3000")));
}

#[tokio::test]
async fn grpc_by_a_foreign_name_is_refused_too_and_named_hosts_are_served() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    let control = gateway.control_address().to_owned();
    let list = "POST /trunkline.registry.v1.UpstreamService/ListUpstreams";
    let grpc = "Content-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 0\r\n";
    let foreign = format!("{list} HTTP/1.1\r\nHost: evil.example\r\n{grpc}Connection: close\r\n\r\n");
    let answer = String::from_utf8(raw(&control, foreign.as_bytes(), PATIENCE).await).unwrap();
    assert!(answer.contains("grpc-status: 7\r\n"), "{answer}");
    assert!(
        answer.contains("grpc-message: this%20Host%20is%20not%20allowed;%20see%20--allowed-host\r\n"),
        "{answer}"
    );

    assert_eq!(ask(&control, "GET /healthz", "Host: control.example\r\n").await.0, 403);
    gateway.stop_control();
    gateway.configure_control(&["--allowed-host", "control.example"], &[]);
    gateway.start_control().await;
    assert_eq!(ask(&control, "GET /healthz", "Host: control.example:9\r\n").await.0, 200);
    let page = "Host: control.example\r\nOrigin: https://control.example\r\n";
    assert_eq!(ask(&control, "GET /healthz", page).await.0, 200, "a page of its own");
    assert_eq!(ask(&control, "GET /healthz", "Host: other.example\r\n").await.0, 403);
}

#[tokio::test]
async fn a_head_with_a_bare_line_feed_is_refused_and_a_body_with_one_is_not() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let metrics = gateway.metrics_url(0);
    let operations = metrics.strip_prefix("http://").unwrap().split('/').next().unwrap();
    for (address, path) in [
        (gateway.edge_address(0), "/servers/dev/mcp"),
        (operations, "/nothing"),
        (gateway.control_address(), "/nothing"),
    ] {
        for head in [
            format!("GET {path} HTTP/1.1\nHost: localhost\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX: a\nAuthorization: Bearer b\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\n"),
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n\n\nGET {path} HTTP/1.1\nX: y\r\n\r\n"
            ),
        ] {
            let answer = raw(address, head.as_bytes(), PATIENCE).await;
            let answer = String::from_utf8(answer).unwrap();
            let last = answer.rfind("HTTP/1.1 ").map(|at| &answer[at..]).unwrap_or_default();
            assert!(last.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{address} {head:?}: {answer}");
        }
    }
    let body = "{\"jsonrpc\":\"2.0\",\n\"id\":1,\n\"method\":\"ping\"}\n";
    let headers =
        format!("Host: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let request = format!("POST /servers/dev/mcp HTTP/1.1\r\n{headers}");
    let answer = String::from_utf8(raw(gateway.edge_address(0), request.as_bytes(), PATIENCE).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_that_says_twice_how_long_its_body_is_is_refused_and_ends_the_connection() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    for (address, path) in [
        (gateway.edge_address(0), "/servers/dev/mcp"),
        (gateway.operations_address(0), "/healthz"),
        (gateway.control_address(), "/healthz"),
    ] {
        for both in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5",
        ] {
            // What one reader takes for a body is a request to the other.
            let smuggled = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{both}\r\n\r\n0\r\n\r\n{smuggled}");
            let answer = raw(address, request.as_bytes(), PATIENCE).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{address} {both}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{address} {both}: {answer}");
        }
    }
}

#[tokio::test]
async fn nobody_changes_the_protocol_of_http_1_0() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    for (address, path, status) in [
        (gateway.edge_address(0), "/servers/dev/ws", "400 Bad Request"),
        (gateway.edge_address(0), "/tunnels/any", "400 Bad Request"),
        (gateway.control_address(), "/tunnels/any", "403 Forbidden"),
    ] {
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = String::from_utf8(raw(address, request.as_bytes(), PATIENCE).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.0 {status}\r\n")), "{address} {path}: {answer}");
        assert!(answer.contains("an upgrade requires HTTP/1.1"), "{address} {path}: {answer}");
    }
}
