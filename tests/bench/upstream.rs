//! An upstream that costs next to nothing, as a process of its own so that its cost is not ours: Streamable HTTP of both
//! eras, HTTP+SSE, and WebSocket. It must not know who calls it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::serve::ListenerExt as _;
use mcp::message::Envelope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::fake::header;
use crate::support::process::Process;
use crate::support::wire::{LEGACY, MODERN};
use crate::support::{PATIENCE, eventually, free_port};

/// How many tools there are where nothing says so.
const TEN: usize = 10;

/// The running process.
pub(crate) struct Upstream {
    process: Process,
    address: String,
    sockets: String,
}

impl Upstream {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where it speaks WebSocket.
    pub(crate) fn sockets(&self) -> &str {
        &self.sockets
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts this program again, as an upstream.
pub(crate) async fn start(folder: &Path) -> Upstream {
    let [address, sockets] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["upstream", &address, &sockets]);
    let process = Process::start("upstream", command, folder);
    eventually("the upstream listens", PATIENCE, || async {
        let listens = async |address| TcpStream::connect(address).await.map(drop).map_err(|e| e.to_string());
        listens(&address).await?;
        listens(&sockets).await
    })
    .await;
    Upstream { process, address, sockets }
}

/// Serves until killed: as many tools as the path says (`/10`); ten also as the stream `/events`, and as a WebSocket at the
/// other address.
pub(crate) fn run(address: &str, sockets: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::new(Shared::default());
        tokio::spawn(serve_sockets(TcpListener::bind(sockets).await.unwrap(), Arc::clone(&shared)));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
}

#[derive(Default)]
struct Shared {
    /// Lists of tools, by how many there are.
    lists: Mutex<HashMap<usize, Arc<str>>>,
    /// The streams of HTTP+SSE, by the number in the address that is posted to.
    streams: Mutex<HashMap<usize, mpsc::UnboundedSender<String>>>,
}

impl Shared {
    fn list(&self, count: usize) -> Arc<str> {
        let mut lists = self.lists.lock().unwrap();
        Arc::clone(lists.entry(count).or_insert_with(|| tools(count).into()))
    }
}

/// Definitions of about 350 bytes each.
fn tools(count: usize) -> String {
    let description = "Gives back what it is given. ".repeat(6);
    let name = |index| match index {
        0 => "echo".to_owned(),
        1 => "echo_sse".to_owned(),
        _ => format!("tool_{index:04}"),
    };
    let tool = |index| {
        format!(
            r#"{{"name":"{}","description":"{description}","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string","description":"What to give back"}}}},"required":["text"]}}}}"#,
            name(index)
        )
    };
    format!("[{}]", (0..count).map(tool).collect::<Vec<_>>().join(","))
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut buffer = Vec::with_capacity(128 << 10);
    loop {
        let (end, length) = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = std::str::from_utf8(&buffer[..at]).ok()?;
                let length: usize = header(head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
                break (at + 4, length);
            }
            read(&mut stream, &mut buffer).await?;
        };
        while buffer.len() < end + length {
            read(&mut stream, &mut buffer).await?;
        }
        let head = std::str::from_utf8(&buffer[..end]).ok()?;
        if head.starts_with("GET /events ") {
            return tell(stream, &shared).await;
        }
        let answer = answer(head, &buffer[end..end + length], &shared);
        buffer.drain(..end + length);
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(64 << 10);
    stream.read_buf(buffer).await.ok().filter(|count| *count > 0).map(drop)
}

/// A stream of HTTP+SSE: first where to post, then the answers to what is posted there.
async fn tell(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let number = {
        let mut streams = shared.streams.lock().unwrap();
        let number = streams.len();
        streams.insert(number, sender);
        number
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = chunk(&format!("event: endpoint\ndata: /posts/{number}\n\n"));
    stream.write_all(format!("{head}{first}").as_bytes()).await.ok()?;
    while let Some(message) = answers.recv().await {
        stream.write_all(chunk(&event(&message)).as_bytes()).await.ok()?;
    }
    None
}

async fn serve_sockets(listener: TcpListener, shared: Arc<Shared>) {
    let upgrade = |upgrade: WebSocketUpgrade| async {
        upgrade.protocols(["mcp"]).on_upgrade(|socket| frames(socket, shared))
    };
    let router = axum::Router::new().route("/", axum::routing::any(upgrade));
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn frames(mut socket: WebSocket, shared: Arc<Shared>) {
    while let Some(Ok(frame)) = socket.recv().await {
        let answer = match &frame {
            Frame::Text(text) => said(text.as_bytes(), &shared.list(TEN), false),
            _ => None,
        };
        if let Some(Answer { message, .. }) = answer
            && socket.send(Frame::Text(message.into())).await.is_err()
        {
            return;
        }
    }
}

fn answer(head: &str, body: &[u8], shared: &Shared) -> String {
    if head.starts_with("DELETE") {
        return status("200 OK");
    }
    if !head.starts_with("POST") || head.starts_with("POST /events ") {
        return status("405 Method Not Allowed");
    }
    let number = |prefix| head.strip_prefix(prefix)?.split(' ').next()?.parse::<usize>().ok();
    let tools = shared.list(number("POST /").unwrap_or(TEN));
    let modern = header(head, "mcp-protocol-version") == Some(MODERN);
    let answer = said(body, &tools, modern);
    if let Some(number) = number("POST /posts/") {
        let streams = shared.streams.lock().unwrap();
        if let (Some(stream), Some(answer)) = (streams.get(&number), answer) {
            let _: Result<(), _> = stream.send(answer.message);
        }
        return status("202 Accepted");
    }
    let Some(Answer { message, kind }) = answer else { return status("202 Accepted") };
    match kind {
        Kind::Json => json("200 OK", &message, ""),
        Kind::Session => json("200 OK", &message, "mcp-session-id: one-for-all\r\n"),
        Kind::Unknown => json("404 Not Found", &message, ""),
        Kind::Events => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk(&event(&message))
        ),
    }
}

/// What is said to a request.
struct Answer {
    message: String,
    kind: Kind,
}

/// How it is said over Streamable HTTP.
enum Kind {
    Json,
    Session,
    Events,
    Unknown,
}

/// The answer to a message, if it has one.
fn said(body: &[u8], tools: &str, modern: bool) -> Option<Answer> {
    let message = Envelope::parse(body).unwrap();
    let id = message.id?;
    let params = message.params.unwrap_or_default();
    let kind = if modern { r#""resultType":"complete","# } else { "" };
    let fresh = if modern { r#","ttlMs":0,"cacheScope":"public""# } else { "" };
    let about = r#""capabilities":{"tools":{}}"#;
    let answer = |kind, result: &str| {
        Some(Answer { message: format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#), kind })
    };
    match message.method.as_deref().unwrap_or_default() {
        "tools/call" => {
            let text = between(params, r#""text":""#, '"');
            let how = if params.contains(r#""echo_sse""#) { Kind::Events } else { Kind::Json };
            answer(how, &format!(r#"{{{kind}"content":[{{"type":"text","text":"{text}"}}]}}"#))
        }
        "tools/list" => answer(Kind::Json, &format!(r#"{{{kind}"tools":{tools}{fresh}}}"#)),
        "server/discover" if modern => answer(
            Kind::Json,
            &format!(
                r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],{about},"ttlMs":0,"cacheScope":"public"}}"#
            ),
        ),
        "initialize" => answer(
            Kind::Session,
            &format!(
                r#"{{"protocolVersion":"{LEGACY}",{about},"serverInfo":{{"name":"fast","version":"1"}}}}"#
            ),
        ),
        "ping" => answer(Kind::Json, "{}"),
        _ => Some(Answer {
            message: format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#),
            kind: Kind::Unknown,
        }),
    }
}

fn status(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")
}

fn json(status: &str, message: &str, headers: &str) -> String {
    let length = message.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{message}"
    )
}

fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn between<'a>(text: &'a str, start: &str, end: char) -> &'a str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(part, _)| part)
}
