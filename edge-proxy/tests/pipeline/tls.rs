//! TLS at the client port: the same journeys as without, certificates that are read anew, and handshakes that fail or never end.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::config::published::PublishedNames;
use trunkline_edge_proxy::transport::ClientPort;

use crate::streams::until;
use crate::support::tls::{Authority, Tls, connect, https};
use crate::support::{Edge, PATIENCE, Reply, Sse, Upstream, eventually, initialize, json};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"u_echo","arguments":{}}}"#;

pub(crate) async fn answering() -> Upstream {
    Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
    .await
}

/// An edge that speaks TLS, whose client trusts it.
pub(crate) fn secure(url: &str, limits: Limits, tls: &Tls, server: &Authority, http1_only: bool) -> Edge {
    let mut edge = Edge::with_port(url, limits, &PublishedNames::default(), tls.port());
    edge.client = https(server, None, http1_only);
    edge
}

/// A session over Streamable HTTP and one over HTTP+SSE: what comes back, and by which protocol.
async fn journey(edge: &mut Edge) -> (Vec<Version>, Vec<String>) {
    let (mut versions, mut answers) = (Vec::new(), Vec::new());
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    for body in [LIST, CALL] {
        let response = edge.request("POST", &headers, body).send().await.unwrap();
        versions.push(response.version());
        answers.push(response.text().await.unwrap());
    }
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    versions.push(stream.version());
    until(&mut stream, "id: 0").await;
    let prompts = edge.snapshot.resources.servers[0].prompts.pop();
    edge.publish();
    answers.push(until(&mut stream, "list_changed").await);
    edge.snapshot.resources.servers[0].prompts.extend(prompts);
    edge.publish();
    let ended = Reply::of(edge.request("DELETE", &headers, "")).await;
    answers.push(ended.status.to_string());
    let mut sse = Sse::session(edge, "2024-11-05", "{}").await;
    answers.push(sse.ask(LIST).await);
    answers.push(sse.ask(CALL).await);
    (versions, answers)
}

#[tokio::test]
async fn the_same_is_said_over_http2_and_over_http1_with_tls_as_without() {
    let (upstream, server) = (answering().await, Authority::new());
    let tls = Tls::new(&server, None, false);
    let mut plain = Edge::start(&upstream.url);
    let (versions, expected) = journey(&mut plain).await;
    assert_eq!(versions, [Version::HTTP_11; 3]);
    for (http1_only, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
        let mut edge = secure(&upstream.url, Limits::default(), &tls, &server, http1_only);
        let (versions, answers) = journey(&mut edge).await;
        assert_eq!((versions, &answers), (vec![version; 3], &expected));
        edge.client = https(&server, None, http1_only);
        edge.nothing_is_left().await;
    }
}

#[tokio::test]
async fn browsers_are_told_to_keep_to_https_and_to_frame_nothing() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    for http1_only in [true, false] {
        let edge = secure("http://127.0.0.1:9/mcp", Limits::default(), &tls, &server, http1_only);
        let reply = edge.post(&[], &initialize("2025-11-25", "{}")).await;
        assert_eq!(reply.status, 200);
        for (name, value) in [
            ("strict-transport-security", "max-age=60"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "frame-ancestors 'none'"),
        ] {
            assert_eq!(reply.header(name), value, "{name}");
        }
    }
    // Over HTTP without TLS it means nothing; pages are told the rest.
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let page = format!("http://{}", edge.address);
    let reply = edge.post(&[("origin", &page)], &initialize("2025-11-25", "{}")).await;
    assert_eq!(
        (reply.status, reply.header("x-content-type-options"), reply.header("strict-transport-security")),
        (200, "nosniff", "")
    );
}

#[tokio::test]
async fn pages_are_told_apart_over_http2_as_over_http1() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let published = PublishedNames {
        allowed_origins: vec!["https://app.example.com".into()],
        ..PublishedNames::default()
    };
    let mut edge = Edge::with_port("http://127.0.0.1:9/mcp", Limits::default(), &published, tls.port());
    edge.client = https(&server, None, false);
    let body = initialize("2025-11-25", "{}");
    let allowed = edge.post(&[("origin", "https://app.example.com")], &body).await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (200, "https://app.example.com")
    );
    let foreign = edge.post(&[("origin", "https://evil.example.com")], &body).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, ""));
    let host = edge.post(&[("host", "evil.example.com")], &body).await;
    assert_eq!(host.status, 403, "{host:?}");
}

#[tokio::test]
async fn websockets_work_over_tls() {
    let (upstream, server) = (answering().await, Authority::new());
    let tls = Tls::new(&server, None, false);
    let edge = secure(&upstream.url, Limits::default(), &tls, &server, true);
    let stream = connect(&edge, &server, None, "http/1.1").await.unwrap();
    let mut request =
        format!("wss://localhost:{}/servers/dev/ws", edge.address.port()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", edge.bearer).parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text(initialize("2025-06-18", "{}"))).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(answer.to_text().unwrap().contains(r#""protocolVersion":"2025-06-18""#), "{answer}");
    edge.drain();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1012);
                break;
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_is_read_anew_while_calls_run_and_none_fails() {
    let (upstream, [before, after]) = (answering().await, [(); 2].map(|()| Authority::new()));
    let mut tls = Tls::new(&before, None, false);
    let edge = secure(&upstream.url, Limits::default(), &tls, &before, false);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    // Rubbish changes nothing.
    tls.break_certificate();
    assert_eq!(edge.post(&headers, CALL).await.status, 200);
    let calls = async {
        let mut done = 0;
        // On the connection that there is, and on new ones of those who trust both.
        while done < 200 {
            assert_eq!(edge.post(&headers, CALL).await.status, 200);
            done += 1;
            tokio::task::yield_now().await;
        }
    };
    let ((), ()) = tokio::join!(calls, tls.replace(&after, None));
    assert_eq!(edge.post(&headers, CALL).await.status, 200, "the connection of before goes on");
    assert!(connect(&edge, &before, None, "h2").await.is_err(), "new connections see the new certificate");
    connect(&edge, &after, None, "h2").await.unwrap();
    eventually("it is counted", || edge.metrics.tls_handshakes_failed.get() == 1).await;
}

#[tokio::test]
async fn who_never_finishes_a_handshake_takes_the_place_of_their_own_address_only() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let mut limits = Limits::default();
    limits.connections.max_unauthenticated_per_address = 4;
    let edge = secure("http://127.0.0.1:9/mcp", limits, &tls, &server, false);
    let session = edge.session("2025-11-25", "{}").await;
    let mut strangers = Vec::new();
    for number in 0..40 {
        let mut stranger = TcpStream::connect(edge.address).await.unwrap();
        // Some say nothing, some begin a record and say no more.
        if number % 2 == 0 {
            stranger.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        strangers.push(stranger);
    }
    let closed = || edge.shared.connections.closed(inbound::CloseReason::TooManyFromAddress);
    eventually("all but four are closed", || closed() == 36).await;
    eventually("their places are free", || edge.metrics.connections.get() == 5).await;
    assert_eq!(edge.shared.connections.unauthenticated(), 4);
    assert_eq!(edge.shared.connections.authenticated(), 1);
    let reply = edge.post(&[("mcp-session-id", &session)], LIST).await;
    assert_eq!(reply.status, 200, "who has authenticated keeps their place");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_or_is_none_is_over() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let mut limits = Limits::default();
    limits.connections.authentication_timeout = Duration::from_secs(1);
    let edge = secure("http://127.0.0.1:9/mcp", limits, &tls, &server, false);
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = TcpStream::connect(edge.address).await.unwrap();
        stranger.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{begun:?}");
        assert!(!rest.starts_with(b"HTTP"), "{begun:?}");
    }
    eventually("what is no handshake is counted", || edge.metrics.tls_handshakes_failed.get() == 1).await;
    eventually("nobody is left", || edge.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_handshakes() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let mut limits = Limits::default();
    limits.connections.authentication_timeout = Duration::from_secs(3_600);
    let edge = secure("http://127.0.0.1:9/mcp", limits, &tls, &server, false);
    let mut stranger = TcpStream::connect(edge.address).await.unwrap();
    eventually("it is accepted", || edge.metrics.connections.get() == 1).await;
    edge.drain();
    let ended = tokio::time::timeout(PATIENCE, stranger.read(&mut [0; 8])).await.expect("it is closed");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_balancer_says_who_connects_before_the_handshake() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let mut limits =
        Limits { client_address: inbound::ClientAddressSource::ProxyProtocol, ..Limits::default() };
    limits.connections.balancer_addresses = vec!["127.0.0.1/32".parse().unwrap()];
    let mut edge = Edge::with_port("http://127.0.0.1:9/mcp", limits, &PublishedNames::default(), tls.port());
    edge.snapshot.access().from = vec!["192.0.2.7".into()];
    edge.publish();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x34\x00\x50";
    stream.write_all(header).await.unwrap();
    let mut stream = crate::support::tls::handshake(stream, &server, None, "http/1.1").await.unwrap();
    let body = initialize("2025-11-25", "{}");
    let request = format!(
        "POST /servers/dev/mcp HTTP/1.1\r\nhost: localhost:{}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         accept: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        edge.address.port(),
        edge.bearer,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// An edge that takes bearers as passwords of HTTP Basic.
fn taking_basic(tls: Option<&Tls>, balancers: &[&str]) -> Edge {
    let balancers = balancers.iter().map(|network| network.parse().unwrap()).collect();
    let rule = inbound::TransportRule { is_tls: tls.is_some(), allows_plain: false, balancers };
    let port = tls.map_or_else(ClientPort::default, Tls::port);
    let port = ClientPort { basic: Some(rule), ..port };
    Edge::with_port("http://127.0.0.1:9/mcp", Limits::default(), &PublishedNames::default(), port)
}

#[tokio::test]
async fn a_bearer_is_a_password_of_http_basic_where_nobody_can_listen() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let mut secure = taking_basic(Some(&tls), &[]);
    secure.client = https(&server, None, false);
    let body = initialize("2025-11-25", "{}");
    let ask = async |edge: &Edge, password: &str, headers: &[(&str, &str)]| {
        let mut request = edge.bare("POST", "dev", &body).basic_auth("anybody", Some(password));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = Reply::of(request).await;
        let reason = serde_json::from_str::<serde_json::Value>(&reply.body).unwrap();
        (reply.status, reason["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(&secure, &secure.bearer, &[]).await.0, 200);
    assert_eq!(ask(&secure, "wrong", &[]).await, (401, "bearer_invalid".to_owned()));
    let page = ("origin", "https://localhost");
    let from_page = ask(&secure, &secure.bearer, &[page]).await;
    assert_eq!(from_page.0, 403, "browsers send passwords whichever page asks: {from_page:?}");
    let (local, balanced) = (taking_basic(None, &[]), taking_basic(None, &["127.0.0.0/8"]));
    assert_eq!(ask(&local, &local.bearer, &[]).await.0, 200);
    let not_here = (403, "basic_not_here".to_owned());
    assert_eq!(ask(&local, &local.bearer, &[("x-forwarded-proto", "http")]).await, not_here);
    assert_eq!(ask(&balanced, &balanced.bearer, &[]).await, not_here);
    assert_eq!(ask(&balanced, &balanced.bearer, &[("x-forwarded-proto", "https")]).await.0, 200);
    let off = Edge::start("http://127.0.0.1:9/mcp");
    assert_eq!(ask(&off, &off.bearer, &[]).await, (401, "bearer_invalid".to_owned()));
    for (edge, challenges) in [(&local, 2), (&off, 1)] {
        let reply = Reply::of(edge.bare("POST", "dev", &body)).await;
        let told: Vec<_> = reply.headers.get_all("www-authenticate").iter().collect();
        assert_eq!((reply.status, told.len()), (401, challenges), "{told:?}");
    }
}
