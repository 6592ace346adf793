//! Connections that are sessions: HTTP+SSE and WebSocket servers, and some that are not what they say.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue};
use mcp::client::{ChangeNotice, ClientError, Endpoint, Findings, Reach, Session, Transport, Url, probe};
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use tokio::sync::mpsc;

use crate::scripted_server::{info, quirk_names};

/// What a server says to a message: any number of messages.
type Script = Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

#[derive(Clone)]
struct Server {
    script: Script,
    said: Arc<Mutex<Vec<String>>>,
    streams: Arc<Mutex<Vec<mpsc::Sender<String>>>>,
    /// What the first event says; `{}` becomes the number of the stream.
    place: &'static str,
    subprotocol: bool,
    at: Url,
}

impl Server {
    async fn start(
        place: &'static str,
        script: impl Fn(&str) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = Url::parse(&format!("http://{}/sse", listener.local_addr().unwrap())).unwrap();
        let (said, streams) = (Arc::default(), Arc::default());
        let server = Self { script: Arc::new(script), said, streams, place, subprotocol: true, at };
        let router = Router::new()
            .route("/sse", get(stream))
            .route("/message", axum::routing::post(message))
            .route("/ws", get(socket))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn endpoint(&self, path: &str, scheme: &str) -> Endpoint {
        let mut url = self.at.clone();
        url.set_path(path);
        let url = Url::parse(&url.as_str().replacen("http", scheme, 1)).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer header-secret"));
        Endpoint { url, headers, timeout: Duration::from_millis(1500), reach: Reach::System }
    }

    fn sse(&self) -> Endpoint {
        self.endpoint("/sse", "http")
    }

    fn ws(&self) -> Endpoint {
        self.endpoint("/ws", "ws")
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    fn answer(&self, text: &str) -> Vec<String> {
        self.said.lock().unwrap().push(text.to_owned());
        (self.script)(text)
    }
}

async fn stream(State(server): State<Server>, headers: HeaderMap) -> Response {
    assert_eq!(headers["accept"], "text/event-stream");
    assert_eq!(headers["authorization"], "Bearer header-secret");
    let (sender, messages) = mpsc::channel(64);
    let number = {
        let mut streams = server.streams.lock().unwrap();
        streams.push(sender);
        streams.len() - 1
    };
    let place = server.place.replace("{}", &number.to_string());
    let events = unfold((Some(place), messages), |(place, mut messages)| async {
        let event = match place {
            Some(place) => Event::default().event("endpoint").data(place),
            None => Event::default().event("message").data(messages.recv().await?),
        };
        Some((Ok::<_, Infallible>(event), (None, messages)))
    });
    Sse::new(events).into_response()
}

async fn message(
    State(server): State<Server>,
    Query(query): Query<std::collections::HashMap<String, usize>>,
    headers: HeaderMap,
    body: String,
) -> http::StatusCode {
    assert_eq!(headers["authorization"], "Bearer header-secret");
    let stream = server.streams.lock().unwrap()[query["s"]].clone();
    for answer in server.answer(&body) {
        if answer == "END" {
            *server.streams.lock().unwrap() = Vec::new();
            break;
        }
        stream.send(answer).await.unwrap();
    }
    http::StatusCode::ACCEPTED
}

async fn socket(State(server): State<Server>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    assert_eq!(headers["authorization"], "Bearer header-secret");
    let upgrade = if server.subprotocol { upgrade.protocols(["mcp"]) } else { upgrade };
    upgrade.on_upgrade(move |socket| talk(server, socket))
}

async fn talk(server: Server, mut socket: WebSocket) {
    while let Some(Ok(frame)) = socket.recv().await {
        let Message::Text(text) = frame else { continue };
        for answer in server.answer(&text) {
            let frame = match answer.as_str() {
                "END" => Message::Close(Some(CloseFrame { code: 1011, reason: "enough".into() })),
                "BINARY" => Message::Binary(b"{}".as_slice().into()),
                text => Message::Text(text.into()),
            };
            socket.send(frame).await.unwrap();
        }
    }
}

fn id(message: &str) -> &str {
    mcp::message::Envelope::parse(message.as_bytes()).unwrap().id.unwrap()
}

fn result(message: &str, result: &str) -> String {
    format!(r#"{{"result":{result},"jsonrpc":"2.0","id":{}}}"#, id(message))
}

/// A server of the legacy era that knows one tool, `x`.
fn legacy(message: &str) -> Vec<String> {
    let method = |name: &str| message.contains(&format!(r#""method":"{name}""#));
    if method("server/discover") {
        return vec![format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"Method not found"}}}}"#,
            id(message)
        )];
    }
    if method("initialize") {
        let facts = r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"old","version":"1"}}"#;
        return vec![result(message, facts)];
    }
    if method("tools/list") {
        let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned();
        return vec![changed, result(message, r#"{"tools":[{"name":"x"}]}"#)];
    }
    if method("tools/call") {
        let ping = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#.to_owned();
        let roots = r#"{"jsonrpc":"2.0","id":3,"method":"roots/list"}"#.to_owned();
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
        return vec![ping, roots, progress.to_owned(), result(message, r#"{"content":[],"n":1.0}"#)];
    }
    Vec::new()
}

async fn conversation(endpoint: &Endpoint, transport: Transport) -> Vec<String> {
    let session = Session::open(endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap();
    assert_eq!((session.revision(), session.is_sessionful()), (Revision::V2024_11_05, true));
    let mut notices = session.listen().await.unwrap();
    assert_eq!(session.list_all(Method::ToolsList, 10).await.unwrap(), [r#"{"name":"x"}"#]);
    let heard = futures_util::StreamExt::next(&mut notices).await;
    assert_eq!(heard, Some(Ok(ChangeNotice::Tools)));
    let mut told = Vec::new();
    let on = |method: &str, _: Option<&str>| told.push(method.to_owned());
    let answered = session.request_streaming("tools/call", r#"{"name":"x"}"#, &[], on).await;
    assert_eq!(answered.as_deref(), Ok(r#"{"content":[],"n":1.0}"#));
    session.close().await;
    assert_eq!(session.request("ping", "{}").await, Err(ClientError::SESSION_LOST));
    told
}

#[tokio::test]
async fn both_kinds_of_line_carry_a_whole_conversation() {
    let server = Server::start("/message?s={}", legacy).await;
    for (endpoint, transport) in [(server.sse(), Transport::HttpSse), (server.ws(), Transport::WebSocket)] {
        server.said.lock().unwrap().clear();
        assert_eq!(conversation(&endpoint, transport).await, ["notifications/progress"]);
        let mut said = server.said();
        // The answers to what it asked may overtake nothing but each other's posts.
        said.sort_unstable();
        let mut expected = [
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":"p","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"this client does not support this request"}}"#,
        ];
        expected.sort_unstable();
        // What the server asked may still be on its way to it when the answer is there.
        assert!(said.iter().all(|said| expected.contains(&said.as_str())), "{said:#?}");
        assert!(said.len() >= 4, "{said:#?}");
    }
}

#[tokio::test]
async fn a_probe_tells_what_it_tried() {
    let server = Server::start("message?s={}", legacy).await;
    let Findings { attempts, verdict, quirks } = probe(&server.sse(), &info()).await;
    let found = verdict.unwrap();
    assert_eq!((found.transport, quirks), (Transport::HttpSse, vec![]));
    assert_eq!((found.server_name.as_str(), found.modern), ("old", None));
    let legacy_side = found.legacy.unwrap();
    assert_eq!((legacy_side.version, legacy_side.sessionful), (Revision::V2024_11_05, true));
    let tried: Vec<_> = attempts
        .iter()
        .map(|tried| {
            let error = tried.error.as_ref().map(ToString::to_string);
            (tried.transport.as_str(), tried.handshake.as_str(), error)
        })
        .collect();
    let refused = Some("HTTP 405: no text".to_owned());
    assert_eq!(
        tried,
        [
            ("streamable-http", "server/discover", refused.clone()),
            ("streamable-http", "initialize", refused),
            ("http+sse", "initialize", None)
        ]
    );

    let mut plain = Server::start("", legacy).await;
    let Findings { verdict, quirks, .. } = probe(&plain.ws(), &info()).await;
    assert_eq!((verdict.unwrap().transport, quirks), (Transport::WebSocket, vec![]));
    plain = Server { subprotocol: false, ..plain };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    plain.at.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let router = Router::new().route("/ws", get(socket)).with_state(plain.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let Findings { verdict, quirks, .. } = probe(&plain.ws(), &info()).await;
    assert!(verdict.is_ok());
    assert_eq!(quirk_names(&quirks), ["no-subprotocol"]);
}

#[tokio::test]
async fn a_websocket_speaks_the_modern_era_as_well() {
    let server = Server::start("", |message| {
        if message.contains("server/discover") {
            return vec![result(message, r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#)];
        }
        if message.contains("subscriptions/listen") {
            return vec![
                r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#.to_owned(),
                r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#.to_owned(),
            ];
        }
        Vec::new()
    })
    .await;
    let found = probe(&Endpoint { timeout: Duration::from_millis(200), ..server.ws() }, &info()).await;
    let found = found.verdict.unwrap();
    assert_eq!((found.transport, found.legacy), (Transport::WebSocket, None));
    let session = Session::open(&server.ws(), Transport::WebSocket, Revision::LATEST, info()).await.unwrap();
    assert_eq!(session.revision().era(), Era::Modern);
    let mut notices = session.listen().await.unwrap();
    assert_eq!(futures_util::StreamExt::next(&mut notices).await, Some(Ok(ChangeNotice::Prompts)));
    let asked = server.said().pop().unwrap();
    assert!(asked.contains(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#), "{asked}");
}

#[tokio::test]
async fn a_websocket_that_closes_on_what_it_does_not_know_speaks_the_legacy_era() {
    let server = Server::start("", |message| {
        if message.contains("server/discover") { vec!["END".to_owned()] } else { legacy(message) }
    })
    .await;
    let found = probe(&server.ws(), &info()).await.verdict.unwrap();
    assert_eq!((found.transport, found.modern), (Transport::WebSocket, None));
    assert_eq!(found.legacy.unwrap().version, Revision::V2024_11_05);
    assert_eq!(conversation(&server.ws(), Transport::WebSocket).await, ["notifications/progress"]);
}

#[tokio::test]
async fn a_server_that_sends_us_elsewhere_is_left() {
    for place in ["http://127.0.0.1:1/message", "//localhost/message", "http://[/"] {
        let server = Server::start(place, legacy).await;
        let error = Session::open(&server.sse(), Transport::HttpSse, Revision::LATEST_LEGACY, info()).await;
        let error = error.err().unwrap();
        assert!(matches!(&error, ClientError::Protocol(why) if why.contains("its endpoint")), "{error}");
        assert!(server.said().is_empty());
    }
}

#[tokio::test]
async fn a_line_that_breaks_tells_everybody_who_waits() {
    for answer in ["END", "TOO MUCH"] {
        let server = Server::start("/message?s={}", move |message| match message.contains("tools/call") {
            true if answer == "END" => vec![answer.to_owned()],
            true => vec!["not json".to_owned(); 1_001],
            false => legacy(message),
        })
        .await;
        for (endpoint, transport) in [(server.sse(), Transport::HttpSse), (server.ws(), Transport::WebSocket)]
        {
            let session = Session::open(&endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap();
            let mut notices = session.listen().await.unwrap();
            let error = session.request("tools/call", r#"{"name":"x"}"#).await.unwrap_err();
            assert!(matches!(error, ClientError::Broken(_) | ClientError::Protocol(_)), "{answer}: {error}");
            let told = futures_util::StreamExt::next(&mut notices).await;
            assert_eq!(told, Some(Err(error.clone())), "{answer}");
            assert_eq!(session.request("ping", "{}").await, Err(error), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_is_no_message_ends_nothing_and_answers_are_matched_by_value() {
    let server = Server::start("/message?s={}", |message| {
        let mut said = legacy(message);
        if message.contains("tools/call") {
            let respelt = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, id(message));
            said = vec!["ping - 2026".to_owned(), "BINARY".to_owned(), "[7]".to_owned(), respelt];
        }
        said
    })
    .await;
    for (endpoint, transport) in [(server.sse(), Transport::HttpSse), (server.ws(), Transport::WebSocket)] {
        let session = Session::open(&endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap();
        let answered = session.request("tools/call", r#"{"name":"x"}"#).await;
        assert_eq!(answered.as_deref(), Ok("{}"));
        let quirks = session.quirks();
        let expected: &[&str] = match transport {
            Transport::WebSocket => &["binary-frames", "ids-respelt", "unreadable-messages"],
            _ => &["ids-respelt", "unreadable-messages"],
        };
        assert_eq!(quirk_names(&quirks), expected);
        assert!(quirks.last().unwrap().first.contains("ping - 2026"), "{quirks:?}");
    }
}

#[tokio::test]
async fn an_unreadable_answer_ends_the_call_that_it_is_for() {
    let server = Server::start("/message?s={}", |message| match message.contains("tools/call") {
        true => vec![format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"n":1e}}}}"#, id(message))],
        false => legacy(message),
    })
    .await;
    for (endpoint, transport) in [(server.sse(), Transport::HttpSse), (server.ws(), Transport::WebSocket)] {
        let session = Session::open(&endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap();
        let error = session.request("tools/call", r#"{"name":"x"}"#).await.unwrap_err();
        assert!(matches!(&error, ClientError::Protocol(why) if why.contains("1e")), "{error}");
        assert_eq!(session.list_all(Method::ToolsList, 10).await.unwrap(), [r#"{"name":"x"}"#]);
    }
}

/// A server that notifies of more than could be kept while a list is fetched and nobody reads.
#[tokio::test]
async fn changes_that_nobody_reads_are_kept_once_and_end_nothing() {
    let server = Server::start("/message?s={}", |message| {
        if !message.contains("tools/list") {
            return legacy(message);
        }
        let padding = "x".repeat(1_000);
        let notify = |method: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"x":"{padding}"}}}}"#)
        };
        let mut said = Vec::new();
        for _ in 0..500 {
            said.extend(["message", "tools/list_changed", "prompts/list_changed"].map(notify));
        }
        said.push(result(message, r#"{"tools":[{"name":"x"}]}"#));
        said
    })
    .await;
    for (endpoint, transport) in [(server.sse(), Transport::HttpSse), (server.ws(), Transport::WebSocket)] {
        let endpoint = Endpoint { timeout: Duration::from_secs(60), ..endpoint };
        let session = Session::open(&endpoint, transport, Revision::LATEST_LEGACY, info()).await.unwrap();
        let mut notices = session.listen().await.unwrap();
        for _ in 0..2 {
            assert_eq!(session.list_all(Method::ToolsList, 10).await.unwrap(), [r#"{"name":"x"}"#]);
        }
        let mut next = async || futures_util::StreamExt::next(&mut notices).await;
        assert_eq!(next().await, Some(Ok(ChangeNotice::Tools)));
        assert_eq!(next().await, Some(Ok(ChangeNotice::Prompts)));
        assert!(futures_util::FutureExt::now_or_never(next()).is_none());
        session.close().await;
        assert_eq!(next().await, Some(Err(ClientError::SESSION_LOST)));
    }
}
