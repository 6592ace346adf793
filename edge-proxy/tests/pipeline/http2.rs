//! HTTP/2 at the client port where clients are slow, hostile or gone: its bounds are those of HTTP/1.1, stream by stream.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trunkline_edge_proxy::config::limits::Limits;

use crate::streams::until;
use crate::support::tls::{Authority, Tls, connect};
use crate::support::{Edge, PATIENCE, Upstream, eventually, initialize, json, never};
use crate::tls::{answering, secure};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"u_echo","arguments":{}}}"#;

/// The kinds of frames, and the error, that the tests meet (RFC 9113, sections 6 and 7).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A client of HTTP/2 that says exactly what it is told to.
struct Client {
    send: SendRequest<Bytes>,
    host: String,
    bearer: String,
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn open(edge: &Edge, server: &Authority) -> Self {
        let stream = connect(edge, server, None, "h2").await.unwrap();
        // A stream that is not read takes no more than its own window from the others.
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(65_535).initial_connection_window_size(1 << 20);
        let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let (host, bearer) = (format!("localhost:{}", edge.address.port()), edge.bearer.clone());
        Self { send, host, bearer, ended: tokio::spawn(connection) }
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.host))
            .header("authorization", format!("Bearer {}", self.bearer))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
    }

    /// The status of the answer, and its body.
    async fn say(
        &mut self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<(u16, RecvStream), h2::Error> {
        let request = request.body(()).unwrap();
        let mut ready = tokio::time::timeout(PATIENCE, self.send.clone().ready()).await.unwrap()?;
        let (response, mut sending) = ready.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        let response = tokio::time::timeout(PATIENCE, response).await.expect("no answer")?;
        Ok((response.status().as_u16(), response.into_body()))
    }

    /// A session of its own.
    async fn session(&mut self) -> String {
        let request = self.request("POST", "/servers/dev/mcp").body(()).unwrap();
        let mut ready = self.send.clone().ready().await.unwrap();
        let (response, mut sending) = ready.send_request(request, false).unwrap();
        sending.send_data(initialize("2025-11-25", "{}").into(), true).unwrap();
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }

    /// Waits for a GOAWAY without an error. What the client says after it may find the connection closed.
    async fn is_sent_away(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.ended).await.expect("the connection goes on");
        let reason = ended.unwrap().err().and_then(|error| error.reason());
        assert!(matches!(reason, None | Some(Reason::NO_ERROR)), "{reason:?}");
    }

    fn call(&self, session: &str) -> http::request::Builder {
        self.request("POST", "/servers/dev/mcp").header("mcp-session-id", session)
    }
}

/// Reads a body to its end, with room for more all the time.
async fn read(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(chunk) = tokio::time::timeout(PATIENCE, body.data()).await.expect("nothing comes") {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(text).unwrap())
}

/// Reads a body without making room for more, until it ends.
async fn read_nothing(body: &mut RecvStream) -> Option<Reason> {
    loop {
        match tokio::time::timeout(PATIENCE, body.data()).await.expect("the stream goes on") {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.reason(),
            None => return None,
        }
    }
}

#[tokio::test]
async fn a_client_that_makes_no_room_loses_the_stream_and_no_other() {
    let (upstream, server) = (
        Upstream::start(|request| {
            let text = if request.body.contains("large") { "x".repeat(1 << 20) } else { String::new() };
            let id = request.id();
            json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"text":"{text}"}}}}"#))
        })
        .await,
        Authority::new(),
    );
    let tls = Tls::new(&server, None, false);
    // Past this, a client has ten seconds more.
    let limits = Limits { send_timeout: Duration::from_secs(1), ..Limits::default() };
    let edge = secure(&upstream.url, limits, &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    let session = client.session().await;
    let large = CALL.replace("{}", r#"{"what":"large"}"#);
    let (status, mut slow) = client.say(client.call(&session), &large).await.unwrap();
    assert_eq!(status, 200);
    // Others go on meanwhile, as large as it, on a window of their own.
    let (status, body) = client.say(client.call(&session), CALL).await.unwrap();
    assert_eq!((status, read(body).await.is_ok()), (200, true));
    assert_eq!(read_nothing(&mut slow).await, Some(Reason::CANCEL));
    drop(slow);
    let (status, body) = client.say(client.call(&session), CALL).await.unwrap();
    assert_eq!(status, 200);
    assert!(read(body).await.unwrap().contains(r#""id":2"#));
    assert!(!client.ended.is_finished());
}

#[tokio::test]
async fn who_reads_slowly_gets_it_all() {
    let (upstream, server) = (
        Upstream::start(|request| {
            let (id, text) = (request.id(), "x".repeat(1 << 20));
            json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"text":"{text}"}}}}"#))
        })
        .await,
        Authority::new(),
    );
    let tls = Tls::new(&server, None, false);
    let edge = secure(&upstream.url, Limits::default(), &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    let session = client.session().await;
    let mut bodies = Vec::new();
    for _ in 0..8 {
        let (status, body) = client.say(client.call(&session), CALL).await.unwrap();
        assert_eq!(status, 200);
        bodies.push(body);
    }
    // One after another, though all were begun before: none takes the window of the connection from the others for good.
    for body in bodies {
        let text = read(body).await.unwrap();
        assert!(text.len() > 1 << 20 && text.ends_with(r#""}}"#), "{}", text.len());
    }
}

#[tokio::test]
async fn a_reset_ends_the_call_and_a_lost_connection_all_of_them() {
    let (upstream, server) = (Upstream::start(|_| never()).await, Authority::new());
    let tls = Tls::new(&server, None, false);
    let mut edge = secure(&upstream.url, Limits::default(), &tls, &server, false);
    edge.snapshot.resources.upstreams[0].request_timeout =
        Some(prost_types::Duration { seconds: 600, nanos: 0 });
    edge.publish();
    let mut client = Client::open(&edge, &server).await;
    let session = client.session().await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        let request = client.call(&session).body(()).unwrap();
        let mut ready = client.send.clone().ready().await.unwrap();
        let (response, mut sending) = ready.send_request(request, false).unwrap();
        sending.send_data(CALL.into(), true).unwrap();
        begun.push((response, sending));
    }
    eventually("the calls are in flight", || edge.metrics.in_flight.get() == 3).await;
    let (_, mut sending) = begun.pop().unwrap();
    sending.send_reset(Reason::CANCEL);
    eventually("one has ended", || edge.metrics.in_flight.get() == 2).await;
    client.ended.abort();
    eventually("all have ended", || edge.metrics.in_flight.get() == 0).await;
    eventually("the connection has ended", || edge.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_takes_no_more() {
    let (upstream, server) = (answering().await, Authority::new());
    let tls = Tls::new(&server, None, false);
    let edge = secure(&upstream.url, Limits::default(), &tls, &server, false);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    until(&mut stream, "id: 0").await;
    let mut client = Client::open(&edge, &server).await;
    client.session().await;
    edge.drain();
    let rest = tokio::time::timeout(PATIENCE, stream.text()).await.expect("the stream goes on");
    assert!(rest.is_ok(), "it ends as streams end: {rest:?}");
    client.is_sent_away().await;
    let refused = client.say(client.call(&session), CALL).await.map(|(status, _)| status);
    assert!(refused.is_err(), "{refused:?}");
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_its_time() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let limits = Limits { header_timeout: Duration::from_millis(500), ..Limits::default() };
    let edge = secure("http://127.0.0.1:9/mcp", limits, &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    client.session().await;
    client.is_sent_away().await;
}

#[tokio::test]
async fn websockets_are_spoken_over_http1_only() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let edge = secure("http://127.0.0.1:9/mcp", Limits::default(), &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    let request = client.request("GET", "/servers/dev/ws").header("sec-websocket-version", "13");
    let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (status, body) = client.say(request, "").await.unwrap();
    assert_eq!(status, 426);
    assert!(read(body).await.unwrap().contains("upgrade_needed"));
    let mut extended = client.request("CONNECT", "/servers/dev/ws").header("sec-websocket-version", "13");
    extended.extensions_mut().unwrap().insert(h2::ext::Protocol::from_static("websocket"));
    assert!(!client.send.is_extended_connect_protocol_enabled());
    let refused = client.say(extended, "").await.map(|(status, _)| status);
    assert!(refused.is_err(), "{refused:?}");
    // A connection that names nothing but a host.
    let mut client = Client::open(&edge, &server).await;
    let tunnel = Request::builder().method("CONNECT").uri(client.host.clone());
    let refused = client.say(tunnel, "").await.map(|(status, _)| status);
    assert!(matches!(refused, Ok(400..=499) | Err(_)), "{refused:?}");
}

#[tokio::test]
async fn bodies_and_heads_have_the_bounds_of_http1() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let limits = Limits { max_body_bytes: 10_000, max_header_bytes: 8_192, ..Limits::default() };
    let edge = secure("http://127.0.0.1:9/mcp", limits, &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(10_000));
    let (status, body) = client.say(client.request("POST", "/servers/dev/mcp"), &large).await.unwrap();
    assert_eq!(status, 413);
    assert!(read(body).await.unwrap().contains("body_too_large"));
    let head = client.request("POST", "/servers/dev/mcp").header("x-large", "x".repeat(9_000));
    let refused = client.say(head, &initialize("2025-11-25", "{}")).await.map(|(status, _)| status);
    assert!(matches!(refused, Ok(431) | Err(_)), "{refused:?}");
    assert_eq!(
        client
            .say(client.request("POST", "/servers/dev/mcp"), &initialize("2025-11-25", "{}"))
            .await
            .unwrap()
            .0,
        200
    );
}

#[tokio::test]
async fn a_refusal_waits_for_a_client_that_is_still_writing() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let edge = secure("http://127.0.0.1:9/mcp", Limits::default(), &tls, &server, false);
    let mut client = Client::open(&edge, &server).await;
    client.bearer = "wrong".to_owned();
    for length in [100, 100_000] {
        let request = client.request("POST", "/servers/dev/mcp").body(()).unwrap();
        let mut ready = client.send.clone().ready().await.unwrap();
        let (response, mut sending) = ready.send_request(request, false).unwrap();
        // An edge that answered now would have done so by the end of the other request.
        let other = client.say(client.request("POST", "/servers/dev/mcp"), "{}").await.unwrap();
        assert_eq!(other.0, 401);
        sending.send_data(vec![b' '; length].into(), false).unwrap();
        let other = client.say(client.request("POST", "/servers/dev/mcp"), "{}").await.unwrap();
        assert_eq!(other.0, 401);
        assert!(sending.poll_reset(&mut Context::from_waker(Waker::noop())).is_pending(), "told to stop");
        sending.send_data(Bytes::from_static(b"{}"), true).unwrap();
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 401);
        assert!(read(response.into_body()).await.unwrap().contains("bearer_invalid"));
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends frames after the preface, and returns the error of the GOAWAY that comes. What is not read any more may take it along.
async fn goaway(edge: &Edge, server: &Authority, frames: &[u8]) -> Option<u32> {
    let stream = connect(edge, server, None, "h2").await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, b"")].concat();
        let _ = writer.write_all(&hello).await;
        let _ = writer.write_all(frames).await;
        let _ = writer.flush().await;
        std::future::pending().await
    };
    let read = async {
        loop {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            reader.read_exact(&mut payload).await.ok()?;
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    };
    tokio::select! {
        found = tokio::time::timeout(PATIENCE, read) => found.expect("the connection goes on"),
        never = write => never,
    }
}

#[tokio::test]
async fn floods_end_the_connection_and_nobody_is_asked() {
    let server = Authority::new();
    let tls = Tls::new(&server, None, false);
    let edge = secure("http://127.0.0.1:9/mcp", Limits::default(), &tls, &server, false);
    // `GET / HTTP/2` of `localhost` in HPACK.
    let request = b"\x82\x86\x84\x41\x09localhost";
    let mut resets = Vec::new();
    for stream in (1..2_000).step_by(2) {
        resets.extend(frame(HEADERS, 4, stream, request));
        resets.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    assert_eq!(goaway(&edge, &server, &resets).await, Some(ENHANCE_YOUR_CALM));
    // A list of headers of a mebibyte: in frames without end.
    let long = [b"\x00\x01a\x7f\xa1\x1e".as_slice(), &[b'x'; 4_000]].concat();
    let mut headers = frame(HEADERS, 1, 1, request);
    for _ in 0..256 {
        headers.extend(frame(CONTINUATION, 0, 1, &long));
    }
    let ended = goaway(&edge, &server, &headers).await;
    assert!(matches!(ended, None | Some(ENHANCE_YOUR_CALM)), "{ended:?}");
    eventually("the connections have ended", || edge.metrics.connections.get() == 0).await;
    assert_eq!(edge.metrics.in_flight.get(), 0);
}
