//! The ways to a server: every transport, in every era that it carries. It must not know what is asked, nor what the answer should be.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use mcp::header::encode_value;
use mcp::revision::Era;
use mcp::sse::Decoder;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::PATIENCE;
use crate::support::wire::{LEGACY, MODERN};

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Streamable,
    Sse,
    WebSocket,
}

/// A transport, and the era that is spoken over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) transport: Transport,
    pub(super) era: Era,
}

pub(super) const WAYS: [Way; 5] = [
    Way { transport: Transport::Streamable, era: Era::Legacy },
    Way { transport: Transport::Streamable, era: Era::Modern },
    Way { transport: Transport::Sse, era: Era::Legacy },
    Way { transport: Transport::WebSocket, era: Era::Legacy },
    Way { transport: Transport::WebSocket, era: Era::Modern },
];

/// What an edge said.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Of HTTP; 0 on a connection.
    pub(super) status: u16,
    /// The message. Null: there was none.
    pub(super) message: Value,
}

/// Connections that everybody shares. Idle ones are dropped before an edge ends them.
pub(super) fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(PATIENCE).pool_idle_timeout(Duration::from_secs(1));
    client.no_proxy().build().unwrap()
}

/// Somebody at a server.
#[derive(Clone, Copy)]
pub(super) struct Visitor<'a> {
    pub(super) http: &'a reqwest::Client,
    /// The addresses of the edges.
    pub(super) edges: &'a [String],
    pub(super) server: &'a str,
    pub(super) bearer: &'a str,
}

type Failed = String;

/// An open way.
pub(super) struct Line<'a> {
    visitor: Visitor<'a>,
    way: Way,
    end: End,
    last_id: u64,
}

#[expect(clippy::large_enum_variant, reason = "there are few of them")]
enum End {
    /// Every message is a request, in this session where there is one.
    Requests {
        session: Option<String>,
    },
    Sse {
        path: String,
        events: Events,
    },
    Socket(Box<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>>),
}

/// A stream of events.
pub(super) struct Events {
    response: reqwest::Response,
    decoder: Decoder,
}

impl Events {
    fn new(response: reqwest::Response) -> Self {
        Self { response, decoder: Decoder::new(1 << 20) }
    }

    /// The data of the next event that has any.
    async fn next(&mut self) -> Result<String, Failed> {
        loop {
            match self.decoder.next().map_err(|error| error.to_string())? {
                Some(event) if event.data.is_empty() => {}
                Some(event) => return Ok(String::from_utf8_lossy(&event.data).into_owned()),
                None => {
                    let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
                    let chunk = chunk.map_err(|_| "nothing came")?.map_err(|error| format!("{error:?}"))?;
                    self.decoder.push(chunk.ok_or("the stream ended")?);
                }
            }
        }
    }

    /// The next message that answers this request, or acknowledges a subscription.
    async fn answer(&mut self, id: u64) -> Result<Value, Failed> {
        loop {
            let message = self.next().await?;
            let message: Value = serde_json::from_str(&message).map_err(|error| error.to_string())?;
            if answers(&message, id) {
                return Ok(message);
            }
        }
    }
}

fn answers(message: &Value, id: u64) -> bool {
    message["method"] == "notifications/subscriptions/acknowledged"
        || message["method"].is_null() && (message["id"] == id || message["id"].is_null())
}

impl Visitor<'_> {
    fn url(&self, edge: usize, door: &str) -> String {
        format!("http://{}/servers/{}/{door}", self.edges[edge], self.server)
    }

    async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<reqwest::Response, Failed> {
        let request = self.http.post(url).bearer_auth(self.bearer).body(body);
        let request = request.header("content-type", "application/json");
        let request = request.header("accept", "application/json, text/event-stream");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.map_err(|error| format!("{error:?}"))
    }

    /// Opens a stream of events.
    pub(super) async fn get(
        &self,
        edge: usize,
        door: &str,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::Response, Failed> {
        let request = self.http.get(self.url(edge, door)).bearer_auth(self.bearer);
        let request = request.header("accept", "text/event-stream");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.map_err(|error| format!("{error:?}"))
    }
}

/// An answer that is no stream.
pub(super) async fn whole(response: reqwest::Response) -> Result<Said, Failed> {
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| format!("{error:?}"))?;
    Ok(Said { status, message: serde_json::from_slice(&body).unwrap_or_default() })
}

pub(super) fn is_stream(response: &reqwest::Response) -> bool {
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

impl<'a> Line<'a> {
    /// Opens a way at an edge; `Err`: how the edge refused. A session is begun by `hello`.
    pub(super) async fn open(
        visitor: Visitor<'a>,
        way: Way,
        edge: usize,
    ) -> Result<Result<Self, Said>, Failed> {
        let end = match way.transport {
            Transport::Streamable => Ok(End::Requests { session: None }),
            Transport::Sse => sse(&visitor, edge).await?,
            Transport::WebSocket => socket(&visitor, edge).await?,
        };
        Ok(end.map(|end| Self { visitor, way, end, last_id: 0 }))
    }

    /// The session that `hello` began over Streamable HTTP.
    pub(super) fn session(&self) -> Option<&str> {
        match &self.end {
            End::Requests { session } => session.as_deref(),
            _ => None,
        }
    }

    /// `initialize`.
    pub(super) async fn hello(&mut self, edge: usize) -> Result<Said, Failed> {
        let client = json!({"name": "matrix", "version": "1"});
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client});
        self.ask(edge, "initialize", &params).await
    }

    /// Sends a request by way of an edge, and returns what is said to it. A connection that is at one edge stays there; what is
    /// posted for one may come by way of another.
    pub(super) async fn ask(&mut self, edge: usize, method: &str, params: &Value) -> Result<Said, Failed> {
        self.last_id += 1;
        let id = self.last_id;
        let params = if self.way.era == Era::Modern { with_meta(params) } else { params.clone() };
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let visitor = self.visitor;
        match &mut self.end {
            End::Requests { session } => {
                let headers = headers(self.way.era, session.as_deref(), method, &params);
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let response = visitor.post(&visitor.url(edge, "mcp"), &headers, message.to_string()).await?;
                if let Some(begun) = response.headers().get("mcp-session-id") {
                    *session = Some(begun.to_str().map_err(|error| error.to_string())?.to_owned());
                }
                if !is_stream(&response) {
                    return whole(response).await;
                }
                let status = response.status().as_u16();
                Ok(Said { status, message: Events::new(response).answer(id).await? })
            }
            End::Sse { path, events } => {
                let url = format!("http://{}{path}", visitor.edges[edge]);
                let response = visitor.post(&url, &[], message.to_string()).await?;
                if response.status() != 202 {
                    return whole(response).await;
                }
                Ok(Said { status: 0, message: events.answer(id).await? })
            }
            End::Socket(socket) => {
                let send = |message: &Value| Message::text(message.to_string());
                socket.send(send(&message)).await.map_err(|error| error.to_string())?;
                let message = frame(socket, id).await?;
                if !message["method"].is_null() {
                    // The subscription would go on beside what is asked next.
                    let params = json!({"requestId": id});
                    let cancelled =
                        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
                    socket.send(send(&cancelled)).await.map_err(|error| error.to_string())?;
                }
                Ok(Said { status: 0, message })
            }
        }
    }

    /// Begins a call over Streamable HTTP, and leaves its stream after the first event. Returns the id of that.
    pub(super) async fn break_off(&mut self, edge: usize, tool: &str) -> Result<Option<String>, Failed> {
        self.last_id += 1;
        let params = json!({"name": tool, "arguments": {}});
        let message = json!({"jsonrpc": "2.0", "id": self.last_id, "method": "tools/call", "params": params});
        let session = self.session().unwrap_or_default();
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", LEGACY)];
        let url = self.visitor.url(edge, "mcp");
        let response = self.visitor.post(&url, &headers, message.to_string()).await?;
        if !is_stream(&response) {
            return Ok(None);
        }
        let first = first_event(response).await?;
        Ok(first.lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)))
    }

    /// The first event of the stream that goes on after this one, as it is written; or how it is refused.
    pub(super) async fn resume(
        &self,
        edge: usize,
        last_event_id: &str,
    ) -> Result<Result<String, Said>, Failed> {
        let mut headers = vec![("last-event-id", last_event_id)];
        headers.extend(self.session().map(|session| ("mcp-session-id", session)));
        let response = self.visitor.get(edge, "mcp", &headers).await?;
        if is_stream(&response) {
            first_event(response).await.map(Ok)
        } else {
            whole(response).await.map(Err)
        }
    }
}

/// The first event that is no comment.
async fn first_event(mut response: reqwest::Response) -> Result<String, Failed> {
    let mut text = String::new();
    loop {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
        let chunk = chunk.map_err(|_| "nothing came")?.map_err(|error| format!("{error:?}"))?;
        let chunk = chunk.ok_or_else(|| format!("the stream ended after {text:?}"))?;
        text.push_str(&String::from_utf8_lossy(&chunk));
        let mut events = text.split_inclusive("\n\n");
        if let Some(event) = events.find(|event| event.ends_with("\n\n") && !event.starts_with(':')) {
            return Ok(event.to_owned());
        }
    }
}

async fn sse(visitor: &Visitor<'_>, edge: usize) -> Result<Result<End, Said>, Failed> {
    let response = visitor.get(edge, "sse", &[]).await?;
    if !is_stream(&response) {
        return whole(response).await.map(Err);
    }
    let mut events = Events::new(response);
    let path = events.next().await?;
    Ok(Ok(End::Sse { path, events }))
}

async fn socket(visitor: &Visitor<'_>, edge: usize) -> Result<Result<End, Said>, Failed> {
    let url = visitor.url(edge, "ws").replace("http://", "ws://");
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let bearer = format!("Bearer {}", visitor.bearer).parse().map_err(|_| "a bearer that is no header")?;
    request.headers_mut().insert("authorization", bearer);
    request.headers_mut().insert("sec-websocket-protocol", "mcp".parse().map_err(|_| "no header")?);
    match connect_async(request).await {
        Ok((socket, _)) => Ok(Ok(End::Socket(Box::new(socket)))),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let message = serde_json::from_slice(body).unwrap_or_default();
            Ok(Err(Said { status: response.status().as_u16(), message }))
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn frame(
    socket: &mut WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    id: u64,
) -> Result<Value, Failed> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, socket.next()).await.map_err(|_| "nothing came")?;
        let frame = frame.ok_or("the socket was closed")?.map_err(|error| error.to_string())?;
        let Message::Text(text) = frame else { continue };
        let message: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if answers(&message, id) {
            return Ok(message);
        }
    }
}

/// What a client of the modern era says of itself with every request.
fn with_meta(params: &Value) -> Value {
    let mut params = params.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        "io.modelcontextprotocol/clientInfo": {"name": "matrix", "version": "1"},
    });
    params
}

fn headers(era: Era, session: Option<&str>, method: &str, params: &Value) -> Vec<(&'static str, String)> {
    if era == Era::Legacy {
        let session = session.map(|session| ("mcp-session-id", session.to_owned()));
        let version = session.is_some().then(|| ("mcp-protocol-version", LEGACY.to_owned()));
        return session.into_iter().chain(version).collect();
    }
    let mut headers = vec![("mcp-protocol-version", MODERN.to_owned()), ("mcp-method", method.to_owned())];
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return headers,
    };
    let name = encode_value(params[member].as_str().unwrap_or_default());
    headers.push(("mcp-name", name.to_str().unwrap().to_owned()));
    headers
}
