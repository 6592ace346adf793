//! Requests of an upstream that the edge answers by itself, such as pings: answered, a few at a time, and no further than
//! the upstream takes the answers. Ids and event ids that are too long to be kept are refused.

use std::time::Duration;

use ::mcp::quirk::Quirk;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use crate::eras::{open_body, open_stream};
use crate::support::{
    Edge, KINDS, META, PATIENCE, Recorded, Reply, Talker, Upstream, events, eventually, id, json, mcp,
    modern, never, result, status,
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
/// More than there are places for answers, by far.
const MANY: usize = 2_000;

fn ping(number: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"ping"}}"#)
}

fn pong(number: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)
}

fn is_answer(request: &Recorded) -> bool {
    request.verb == "POST" && request.method().is_empty()
}

fn answers(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| is_answer(request)).count()
}

/// The eras of the clients whose calls are asked back by a legacy upstream.
#[derive(Debug, Clone, Copy)]
enum Client {
    Legacy,
    Modern,
}

const CLIENTS: [Client; 2] = [Client::Legacy, Client::Modern];

fn legacy_only(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
    edge.publish();
    edge
}

async fn call(edge: &Edge, client: Client) -> Reply {
    match client {
        Client::Legacy => {
            let session = edge.session("2025-11-25", "{}").await;
            edge.post(&[("mcp-session-id", &session)], CALL).await
        }
        Client::Modern => {
            let body = CALL.replace(r#"{"name""#, &format!(r#"{{{META},"name""#));
            edge.post(&modern("tools/call", Some("u_echo")), &body).await
        }
    }
}

#[tokio::test]
async fn an_upstream_that_takes_its_answers_gets_them_all() {
    for client in CLIENTS {
        let upstream = Upstream::start(|request| {
            if is_answer(request) {
                return status(202, "");
            }
            let mut messages: Vec<String> = (0..100).map(ping).collect();
            messages.push(result(&request.body, "{}"));
            events(&messages)
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, client).await;
        let last = reply.messages().pop().unwrap();
        assert!(last.contains(r#""result""#), "{client:?}: {last}");
        eventually("all pings are answered", || answers(&upstream) == 100).await;
        let sent: Vec<String> =
            upstream.requests().into_iter().filter(is_answer).map(|request| request.body).collect();
        assert_eq!(sent, (0..100).map(pong).collect::<Vec<_>>(), "{client:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_take_its_answers_loses_the_call() {
    for client in CLIENTS {
        let upstream = Upstream::start(|request| {
            if is_answer(request) {
                return never();
            }
            let pings: String = (0..MANY).map(|number| format!("data: {}\n\n", ping(number))).collect();
            open_stream(&pings)
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, client).await;
        let last = reply.messages().pop().unwrap();
        assert_eq!(
            last,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31105,"message":"upstream u: sent a response that is not valid MCP: it makes requests, and does not take the responses in time","data":{"reason":"upstream_malformed","upstream":"u"}}}"#,
            "{client:?}"
        );
        assert!(answers(&upstream) <= 2, "{client:?}: {} connections", answers(&upstream));
    }
}

#[tokio::test]
async fn pings_on_the_stream_of_a_session_are_answered_one_at_a_time() {
    let upstream = Upstream::start(|request| match (&*request.verb, is_answer(request)) {
        ("GET", _) => {
            let pings: String = (0..MANY).map(|number| format!("data: {}\n\n", ping(number))).collect();
            open_stream(&pings)
        }
        (_, true) => never(),
        _ => json(&result(&request.body, "{}")),
    })
    .await;
    let edge = legacy_only(&upstream);
    let session = edge.session("2025-11-25", r#"{"sampling":{}}"#).await;
    let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
    assert!(reply.body.contains(r#""result""#), "{}", reply.body);
    let streams = || upstream.requests().iter().filter(|request| request.verb == "GET").count();
    // The stream ends where an answer is not taken, and is opened again.
    eventually("the stream is opened again", || streams() >= 2).await;
    assert!(answers(&upstream) <= 2 * streams(), "{} connections", answers(&upstream));
}

#[tokio::test]
async fn only_messages_are_read_on_the_stream_of_a_session() {
    for label in ["text/event-stream", "text/plain"] {
        let upstream = Upstream::start(move |request| match (&*request.verb, is_answer(request)) {
            ("GET", _) => open_body(
                label,
                &format!(
                    ": hello\n\nevent: heartbeat\ndata: {}\n\ndata: alive\n\ndata: {}\n\n",
                    ping(1),
                    ping(2)
                ),
            ),
            (_, true) => status(202, ""),
            _ => json(&result(&request.body, "{}")),
        })
        .await;
        let edge = legacy_only(&upstream);
        let session = edge.session("2025-11-25", r#"{"sampling":{}}"#).await;
        let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
        assert!(reply.body.contains(r#""result""#), "{}", reply.body);
        let sent = upstream.received(&pong(2)).await;
        assert_eq!((sent.verb.as_str(), answers(&upstream)), ("POST", 1), "{label}");
        assert!(edge.metrics.upstream_quirk(Quirk::ForeignEvents).get() > 0, "{label}");
    }
}

/// A WebSocket upstream that is called, and from then on pings and does not read. Says when its connection ended.
async fn pinging() -> (String, mpsc::Receiver<()>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let (ended, ends) = mpsc::channel(4);
    let router = axum::Router::new().fallback(move |upgrade: WebSocketUpgrade| {
        let ended = ended.clone();
        async move {
            let talk = move |mut socket: axum::extract::ws::WebSocket| async move {
                while let Some(Ok(Message::Text(text))) = socket.recv().await {
                    if text.contains("initialize\"") {
                        let facts = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
                        socket.send(Message::Text(result(&text, facts).into())).await.unwrap();
                    }
                    if text.contains("tools/call") {
                        break;
                    }
                }
                let (mut sink, _unread) = socket.split();
                let request = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(1_000));
                while sink.send(Message::Text(request.clone().into())).await.is_ok() {}
                ended.send(()).await.unwrap();
            };
            upgrade.protocols(["mcp"]).on_upgrade(talk)
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, ends)
}

#[tokio::test]
async fn a_websocket_that_pings_and_does_not_read_ends() {
    for capabilities in ["{}", r#"{"sampling":{}}"#] {
        let (url, mut ends) = pinging().await;
        let mut edge = Edge::start(&url);
        mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(KINDS[1]);
        edge.publish();
        let session = edge.session("2025-11-25", capabilities).await;
        let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
        assert!(matches!(reply.error_code(), -31105 | -31102), "{}", reply.body);
        let ended = tokio::time::timeout(PATIENCE, ends.recv()).await;
        assert_eq!(ended, Ok(Some(())), "the edge reads on and on");
    }
}

#[tokio::test]
async fn ids_that_are_too_long_to_be_kept_are_refused() {
    const REFUSAL: &str =
        r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"the id is longer than 1024 bytes"}}"#;
    let question = |length: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{}","method":"sampling/createMessage","params":{{"message":"?"}}}}"#,
            "i".repeat(length)
        )
    };
    let asking = question(5_000);
    let script = {
        let asking = asking.clone();
        move |message: &str| vec![asking.clone(), result(message, "{}")]
    };
    for client in CLIENTS {
        let script = script.clone();
        let upstream = Upstream::start(move |request| {
            if is_answer(request) { status(202, "") } else { events(&script(&request.body)) }
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, client).await;
        let messages = reply.messages();
        assert!(messages.len() == 1 && messages[0].contains(r#""result""#), "{client:?}: {messages:?}");
        upstream.received(REFUSAL).await;
    }
    for kind in KINDS {
        for capabilities in ["{}", r#"{"sampling":{}}"#] {
            let talker = Talker::start(script.clone()).await;
            let edge = talker.edge(kind);
            let session = edge.session("2025-11-25", capabilities).await;
            let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
            assert!(reply.body.contains(r#""result""#) && !reply.body.contains("iiii"), "{}", reply.body);
            talker.heard(REFUSAL).await;
        }
    }
    // One that fits is relayed as ever.
    let asking = question(1_000);
    let upstream = Upstream::start(move |_| open_stream(&format!("data: {asking}\n\n"))).await;
    let edge = legacy_only(&upstream);
    let session = edge.session("2025-11-25", r#"{"sampling":{}}"#).await;
    let mut stream = edge.request("POST", &[("mcp-session-id", &session)], CALL).send().await.unwrap();
    assert!(crate::streams::until(&mut stream, "sampling/createMessage").await.contains("data: "));
}

#[tokio::test]
async fn ids_and_progress_tokens_of_clients_are_short() {
    let upstream = Upstream::start(|request| json(&result(&request.body, "{}"))).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let long = format!(r#""{}""#, "i".repeat(1_023));
    let reply = edge.post(&headers, &CALL.replace(r#""id":1"#, &format!(r#""id":{long}"#))).await;
    assert_eq!((reply.status, reply.error_code()), (400, -32600), "{}", reply.body);
    assert!(reply.body.contains("the id has 1025 bytes, of which 1024 are allowed"), "{}", reply.body);
    let token = format!(r#"{{"_meta":{{"progressToken":{long}}},"name""#);
    let reply = edge.post(&headers, &CALL.replace(r#"{"name""#, &token)).await;
    assert_eq!(reply.error_code(), -32602, "{}", reply.body);
    assert!(
        reply.body.contains("params._meta.progressToken has 1025 bytes, of which 1024 are allowed"),
        "{}",
        reply.body
    );
    assert_eq!(upstream.calls("tools/call").len(), 0);
    let fits = format!(r#""{}""#, "i".repeat(1_022));
    let reply = edge.post(&headers, &CALL.replace(r#""id":1"#, &format!(r#""id":{fits}"#))).await;
    assert_eq!((reply.status, id(&reply.body)), (200, fits));
}

#[tokio::test]
async fn a_stream_with_event_ids_that_are_too_long_is_not_resumed() {
    for (length, resumed) in [(100, true), (5_000, false)] {
        let event = format!(
            "id: {}\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"data\":1}}}}\n\n",
            "e".repeat(length)
        );
        let upstream = Upstream::start(move |_| {
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(event.clone().into())
                .unwrap()
        })
        .await;
        let edge = legacy_only(&upstream);
        let session = edge.session("2025-11-25", "{}").await;
        let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
        assert_eq!(
            reply.body.contains("\nid: ") || reply.body.starts_with("id: "),
            resumed,
            "{}",
            reply.body
        );
        assert_eq!(reply.body.contains("upstream_interrupted"), !resumed, "{}", reply.body);
    }
}

/// Answers `initialize` with these headers.
async fn opening(headers: Vec<(&'static str, String)>) -> Upstream {
    Upstream::raw(move |request| {
        let answer = match request.method().as_str() {
            "initialize" => r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#,
            method if method.starts_with("notifications/") => return status(202, ""),
            _ => "{}",
        };
        let mut response = json(&result(&request.body, answer));
        for (name, value) in &headers {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            response.headers_mut().append(*name, value);
        }
        response
    })
    .await
}

#[tokio::test]
async fn session_ids_that_cannot_be_sent_back_open_no_session() {
    for odd in ["s".repeat(4_097), "é".to_owned(), "a\tb".to_owned()] {
        let upstream = opening(vec![("mcp-session-id", odd.clone())]).await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, Client::Legacy).await;
        let message = r#""message":"upstream u: cannot open a session: its Mcp-Session-Id is not at most 4096 visible ASCII characters""#;
        assert!(reply.error_code() == -31107 && reply.body.contains(message), "{odd}: {}", reply.body);
        assert_eq!(upstream.calls("tools/call").len(), 0);
    }
    let same = |id: String| (id.clone(), Some(id));
    // Spaces are taken; an empty one is none.
    for (fine, sent) in [same("s".repeat(4_096)), same("a b".to_owned()), (String::new(), None)] {
        let upstream = opening(vec![("mcp-session-id", fine)]).await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, Client::Legacy).await;
        assert!(reply.body.contains(r#""result""#), "{}", reply.body);
        let call = upstream.calls("tools/call").remove(0);
        assert_eq!(call.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned()), sent);
    }
}

#[tokio::test]
async fn headers_of_an_upstream_do_not_reach_clients() {
    let odd = [
        ("set-cookie", "a=b"),
        ("mcp-session-id", "theirs"),
        ("mcp-protocol-version", "1"),
        ("access-control-allow-origin", "*"),
        ("location", "http://elsewhere"),
        ("www-authenticate", "Basic"),
        ("retry-after", "1"),
        ("x-secret", "s"),
        ("server", "theirs"),
        ("content-encoding", "identity"),
        ("last-modified", "x"),
        ("alt-svc", "h3"),
        ("strict-transport-security", "max-age=1"),
    ];
    let upstream = opening(odd.map(|(name, value)| (name, value.to_owned())).to_vec()).await;
    let plain = opening(Vec::new()).await;
    for client in CLIENTS {
        let names = async |upstream: &Upstream| {
            let reply = call(&legacy_only(upstream), client).await;
            assert!(reply.body.contains(r#""result""#), "{}", reply.body);
            let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
            names.sort();
            (names, format!("{:?}", reply.headers).contains("theirs"))
        };
        assert_eq!(names(&upstream).await, (names(&plain).await.0, false), "{client:?}");
    }
}

/// How often an upstream that trickles sends something: often enough that no silence ends it.
const TRICKLE: Duration = Duration::from_millis(100);

/// A body of `begin` and then `more`, again and again.
fn trickling(kind: &str, begin: &str, more: &'static str) -> Response {
    let begin = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(begin.to_owned())]);
    let more = futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(TRICKLE).await;
        Some((Ok(more.to_owned()), ()))
    });
    Response::builder()
        .header("content-type", kind)
        .body(axum::body::Body::from_stream(begin.chain(more)))
        .unwrap()
}

#[tokio::test]
async fn a_response_that_trickles_ends_in_time() {
    let (json, events) = ("application/json", "text/event-stream");
    for (what, trickles, kind, more) in [
        ("a JSON response", "tools/call", json, " "),
        ("initialize as JSON", "initialize", json, " "),
        ("initialize as a stream", "initialize", events, ": still there\n"),
    ] {
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            method if method == trickles => trickling(kind, "", more),
            "initialize" => crate::support::json(&result(
                &request.body,
                r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#,
            )),
            _ => status(202, ""),
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, Client::Legacy).await;
        assert_eq!(reply.error_code(), -31102, "{what}: {}", reply.body);
    }
}

/// Says that it was dropped: with the connection.
struct Ends(mpsc::Sender<()>);
impl Drop for Ends {
    fn drop(&mut self) {
        let _full: Result<(), _> = self.0.try_send(());
    }
}

#[tokio::test]
async fn what_follows_a_response_is_not_read_for_long() {
    let (ended, mut ends) = mpsc::channel(4);
    for rest in ["", ": and more\n\n"] {
        let ended = ended.clone();
        let upstream = Upstream::start(move |request| {
            let ends = Ends(ended.clone());
            let begin = format!("data: {}\n\n", result(&request.body, "{}"));
            let more = futures_util::stream::unfold(ends, move |ends| async move {
                tokio::time::sleep(TRICKLE).await;
                Some((Ok::<_, std::convert::Infallible>(rest.to_owned()), ends))
            });
            let begin = futures_util::stream::iter([Ok(begin)]);
            let body = axum::body::Body::from_stream(begin.chain(more));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = call(&edge, Client::Legacy).await;
        assert!(reply.body.contains(r#""result""#), "{}", reply.body);
        let ended = tokio::time::timeout(PATIENCE, ends.recv()).await;
        assert_eq!(ended, Ok(Some(())), "the edge reads on and on");
    }
}

#[tokio::test]
async fn a_call_asks_its_client_as_often_as_it_likes() {
    const ASKED: usize = 300;
    let ask = |number: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"elicitation/create","params":{{"message":"?"}}}}"#
        )
    };
    let cancelled = |number: usize| {
        let spelt = format!("\"{number}\"");
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{spelt}}}}}"#)
    };
    let upstream = Upstream::start(move |request| {
        let mut messages: Vec<String> = (0..ASKED).map(ask).collect();
        messages.extend([cancelled(0), cancelled(ASKED - 1), result(&request.body, "{}")]);
        events(&messages)
    })
    .await;
    let edge = legacy_only(&upstream);
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let messages = edge.post(&[("mcp-session-id", &session)], CALL).await.messages();
    let (asked, rest): (Vec<_>, Vec<_>) = messages
        .iter()
        .filter(|message| !message.is_empty())
        .partition(|message| message.contains("/create"));
    assert_eq!(asked.len(), ASKED);
    // The latest requests alone are known by the id that the client was given.
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(
        rest[0].contains("notifications/cancelled") && rest[0].contains(&id(asked[ASKED - 1])),
        "{rest:?}"
    );
    assert!(rest[1].contains(r#""result""#), "{rest:?}");
}
