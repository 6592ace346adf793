//! An upstream whose connections are its sessions: HTTP+SSE at `/sse`, WebSocket at `/ws`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::stream::unfold;
use tokio::sync::mpsc;
use trunkline::edge::v1::UpstreamTransport;
use trunkline_edge_proxy::config::limits::Limits;

use super::Edge;

type Script = dyn Fn(&str) -> Vec<String> + Send + Sync;

/// What it was sent, by connection.
type Said = Arc<Mutex<Vec<(usize, String)>>>;

#[derive(Clone)]
pub(crate) struct Talker {
    address: String,
    script: Arc<Script>,
    said: Said,
    lines: Arc<Mutex<Vec<mpsc::Sender<String>>>>,
}

/// The two kinds of connection.
pub(crate) const KINDS: [UpstreamTransport; 2] = [UpstreamTransport::HttpSse, UpstreamTransport::Websocket];

impl Talker {
    /// Answers handshakes by itself, and everything else by `script`; `END` ends the connection.
    pub(crate) async fn start(script: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let talker = Self { address, script: Arc::new(script), said: Said::default(), lines: Arc::default() };
        let router = Router::new()
            .route("/sse", get(stream))
            .route("/message", post(message))
            .route("/ws", get(socket))
            .with_state(talker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        talker
    }

    /// An edge before it.
    pub(crate) fn edge(&self, kind: UpstreamTransport) -> Edge {
        self.limited(kind, Limits::default())
    }

    pub(crate) fn limited(&self, kind: UpstreamTransport, limits: Limits) -> Edge {
        let mut edge = Edge::limited(&self.url(kind), limits);
        super::mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(kind);
        edge.publish();
        edge
    }

    /// Where it is.
    pub(crate) fn url(&self, kind: UpstreamTransport) -> String {
        match kind {
            UpstreamTransport::Websocket => format!("ws://{}/ws", self.address),
            _ => format!("http://{}/sse", self.address),
        }
    }

    /// What it was sent of this method, by connection.
    pub(crate) fn said(&self, method: &str) -> Vec<(usize, String)> {
        let method = format!(r#""method":"{method}""#);
        self.said.lock().unwrap().iter().filter(|(_, said)| said.contains(&method)).cloned().collect()
    }

    /// The connection on which this came, which may still be on its way.
    pub(crate) async fn heard(&self, message: &str) -> usize {
        for _ in 0..1_200 {
            let said = self.said.lock().unwrap().clone();
            if let Some((line, _)) = said.into_iter().find(|(_, said)| said == message) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it was never sent {message}, but {:#?}", self.said.lock().unwrap());
    }

    /// Says something on one connection.
    pub(crate) async fn say(&self, line: usize, message: &str) {
        let sender = self.lines.lock().unwrap()[line].clone();
        sender.send(message.to_owned()).await.unwrap();
    }

    /// Whether the other side has left a connection.
    pub(crate) fn is_left(&self, line: usize) -> bool {
        self.lines.lock().unwrap()[line].is_closed()
    }

    fn open(&self) -> (usize, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(64);
        let mut lines = self.lines.lock().unwrap();
        lines.push(sender);
        (lines.len() - 1, receiver)
    }

    async fn take(&self, line: usize, text: &str) {
        self.said.lock().unwrap().push((line, text.to_owned()));
        for answer in self.answers(text) {
            if answer == "END" {
                // The receiver ends when the last sender is gone.
                self.lines.lock().unwrap()[line] = mpsc::channel(1).0;
                return;
            }
            self.say(line, &answer).await;
        }
    }

    fn answers(&self, text: &str) -> Vec<String> {
        let message: serde_json::Value = serde_json::from_str(text).unwrap();
        match message["method"].as_str() {
            Some("initialize") => {
                let version = &message["params"]["protocolVersion"];
                let facts = format!(r#"{{"protocolVersion":{version},"capabilities":{{}}}}"#);
                vec![result(text, &facts)]
            }
            Some("notifications/initialized" | "notifications/cancelled") | None => Vec::new(),
            Some(_) => (self.script)(text),
        }
    }
}

/// The raw id of a message.
pub(crate) fn id(message: &str) -> String {
    serde_json::from_str::<serde_json::Value>(message).unwrap()["id"].to_string()
}

/// The answer to a message.
pub(crate) fn result(message: &str, result: &str) -> String {
    format!(r#"{{"result":{result},"jsonrpc":"2.0","id":{}}}"#, id(message))
}

async fn stream(State(talker): State<Talker>) -> Response {
    let (line, messages) = talker.open();
    let first = Event::default().event("endpoint").data(format!("message?line={line}"));
    let events = unfold((Some(first), messages), |(first, mut messages)| async {
        let event = match first {
            Some(first) => first,
            None => Event::default().event("message").data(messages.recv().await?),
        };
        Some((Ok::<_, Infallible>(event), (None, messages)))
    });
    Sse::new(events).into_response()
}

async fn message(
    State(talker): State<Talker>,
    Query(query): Query<HashMap<String, usize>>,
    body: String,
) -> http::StatusCode {
    talker.take(query["line"], &body).await;
    http::StatusCode::ACCEPTED
}

async fn socket(State(talker): State<Talker>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["mcp"]).on_upgrade(|socket| talk(talker, socket))
}

async fn talk(talker: Talker, mut socket: WebSocket) {
    let (line, mut messages) = talker.open();
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => talker.take(line, &text).await,
                Some(Ok(_)) => {}
                _ => return,
            },
            message = messages.recv() => match message {
                Some(message) => socket.send(Message::Text(message.into())).await.unwrap(),
                None => return,
            },
        }
    }
}
