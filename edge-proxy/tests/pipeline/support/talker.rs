//! An upstream whose connections are its sessions: HTTP+SSE at `/sse`, WebSocket at `/ws`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
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

/// A status, a label and a text.
type Accepted = (u16, &'static str, String);

#[derive(Clone)]
pub(crate) struct Talker {
    address: String,
    script: Arc<Script>,
    said: Said,
    lines: Arc<Mutex<Vec<mpsc::Sender<String>>>>,
    /// The connections of which it has forgotten the sessions, and the status with which it says so.
    forgotten: Arc<Mutex<(u16, HashSet<usize>)>>,
    /// The connections on which it refuses everything but handshakes, and the error with which it does.
    refused: Arc<Mutex<(&'static str, HashSet<usize>)>>,
    /// Events before the one that names the URL for messages, by type and data.
    before: Arc<Mutex<Vec<(&'static str, String)>>>,
    /// The status and the path with which it redirects what is posted.
    redirect: Arc<Mutex<Option<(u16, &'static str)>>>,
    /// The label of its streams, where it is another than it should be.
    label: Arc<Mutex<Option<&'static str>>>,
    /// With what status, label and text it accepts what is posted.
    accepts: Arc<Mutex<Option<Accepted>>>,
}

/// The two kinds of connection.
pub(crate) const KINDS: [UpstreamTransport; 2] = [UpstreamTransport::HttpSse, UpstreamTransport::Websocket];

impl Talker {
    /// Answers handshakes by itself, and everything else by `script`; `END` ends the connection, `POST:` begins what is said in
    /// the response to a post, and `BINARY:` what is sent in a binary frame.
    pub(crate) async fn start(script: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let talker = Self {
            address,
            script: Arc::new(script),
            said: Said::default(),
            lines: Arc::default(),
            forgotten: Arc::default(),
            refused: Arc::default(),
            before: Arc::default(),
            redirect: Arc::default(),
            label: Arc::default(),
            accepts: Arc::default(),
        };
        let router = Router::new()
            .route("/sse", get(stream))
            .route("/message", post(message))
            .route("/message/", post(message))
            .route("/elsewhere", post(message))
            .route("/ws", get(socket))
            .route("/led/{status}/{*to}", get(led))
            .with_state(talker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        talker
    }

    /// An edge before it, at this path.
    pub(crate) fn edge_at(&self, path: &str) -> Edge {
        let mut edge = Edge::limited(&format!("ws://{}{path}", self.address), Limits::default());
        super::mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(UpstreamTransport::Websocket);
        edge.publish();
        edge
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

    /// Forgets all sessions, whose streams stay open: what is posted in them is refused with this status from now on.
    pub(crate) fn forget(&self, status: u16) {
        *self.forgotten.lock().unwrap() = (status, (0..self.lines.lock().unwrap().len()).collect());
    }

    /// Forgets all sessions, whose connections stay open: what is asked in them is answered with this error from now on.
    pub(crate) fn forget_with(&self, error: &'static str) {
        *self.refused.lock().unwrap() = (error, (0..self.lines.lock().unwrap().len()).collect());
    }

    /// How a message is refused, if its session was forgotten.
    fn refusal(&self, line: usize, text: &str) -> Option<String> {
        let refused = self.refused.lock().unwrap();
        let is_refused = refused.1.contains(&line) && !text.contains(r#""method":"notifications/"#);
        is_refused.then(|| format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, id(text), refused.0))
    }

    /// Sends these events on each stream before the first that means something, by type and data.
    pub(crate) fn begin_with(&self, events: &[(&'static str, &str)]) {
        let events = events.iter().map(|(kind, data)| (*kind, (*data).to_owned())).collect();
        *self.before.lock().unwrap() = events;
    }

    /// Redirects what is posted where the stream says, from now on.
    pub(crate) fn redirect(&self, status: u16, path: &'static str) {
        *self.redirect.lock().unwrap() = Some((status, path));
    }

    /// Labels its streams so, from now on.
    pub(crate) fn label_streams(&self, label: &'static str) {
        *self.label.lock().unwrap() = Some(label);
    }

    /// Accepts what is posted with this status, label and text, from now on; with an answer in the place of the text where there is
    /// one.
    pub(crate) fn accept_with(&self, status: u16, label: &'static str, text: String) {
        *self.accepts.lock().unwrap() = Some((status, label, text));
    }

    fn open(&self) -> (usize, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(64);
        let mut lines = self.lines.lock().unwrap();
        lines.push(sender);
        (lines.len() - 1, receiver)
    }

    /// Takes a message. Returns what is said in the response to its post.
    async fn take(&self, line: usize, text: &str) -> Option<String> {
        if let Some(refusal) = self.refusal(line, text) {
            self.say(line, &refusal).await;
            return None;
        }
        self.said.lock().unwrap().push((line, text.to_owned()));
        let mut in_post = None;
        for answer in self.answers(text) {
            if answer == "END" {
                // The receiver ends when the last sender is gone.
                self.lines.lock().unwrap()[line] = mpsc::channel(1).0;
                return None;
            }
            match answer.strip_prefix("POST:") {
                Some(answer) => in_post = Some(answer.to_owned()),
                None => self.say(line, &answer).await,
            }
        }
        in_post
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

/// Redirects with this status.
async fn led(Path((status, to)): Path<(u16, String)>) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, [("location", format!("/{to}"))]).into_response()
}

async fn stream(State(talker): State<Talker>) -> Response {
    let (line, messages) = talker.open();
    let first = Event::default().event("endpoint").data(format!("message?line={line}"));
    let before = talker.before.lock().unwrap().clone();
    let before = before.into_iter().map(|(kind, data)| Event::default().event(kind).data(data));
    let first: VecDeque<Event> = before.chain([first]).collect();
    let events = unfold((first, messages), |(mut first, mut messages)| async {
        let event = match first.pop_front() {
            Some(first) => first,
            None => Event::default().event("message").data(messages.recv().await?),
        };
        Some((Ok::<_, Infallible>(event), (first, messages)))
    });
    let mut response = Sse::new(events).into_response();
    if let Some(label) = *talker.label.lock().unwrap() {
        response.headers_mut().insert("content-type", label.parse().unwrap());
    }
    response
}

async fn message(
    State(talker): State<Talker>,
    Query(query): Query<HashMap<String, usize>>,
    uri: axum::http::Uri,
    body: String,
) -> Response {
    let line = query["line"];
    let redirect = talker.redirect.lock().unwrap().filter(|_| uri.path() == "/message");
    if let Some((status, path)) = redirect {
        let mut redirected = super::status(status, "moved");
        redirected.headers_mut().insert("location", format!("{path}?line={line}").parse().unwrap());
        return redirected;
    }
    let (status, is_lost) = {
        let forgotten = talker.forgotten.lock().unwrap();
        (forgotten.0, forgotten.1.contains(&line))
    };
    if is_lost {
        return super::status(status, "No transport found for sessionId");
    }
    let answer = talker.take(line, &body).await;
    if let Some((status, label, text)) = talker.accepts.lock().unwrap().clone() {
        let mut accepted = super::status(status, &answer.unwrap_or(text));
        accepted.headers_mut().insert("content-type", label.parse().unwrap());
        return accepted;
    }
    match answer {
        Some(answer) => super::json(&answer),
        None => super::status(202, "Accepted"),
    }
}

async fn socket(State(talker): State<Talker>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["mcp"]).on_upgrade(|socket| talk(talker, socket))
}

async fn talk(talker: Talker, mut socket: WebSocket) {
    let (line, mut messages) = talker.open();
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => drop(talker.take(line, &text).await),
                Some(Ok(_)) => {}
                _ => return,
            },
            message = messages.recv() => match message {
                Some(message) => socket.send(frame(message)).await.unwrap(),
                None => return,
            },
        }
    }
}

fn frame(message: String) -> Message {
    match message.strip_prefix("BINARY:") {
        Some(binary) => Message::Binary(binary.to_owned().into()),
        None => Message::Text(message.into()),
    }
}
