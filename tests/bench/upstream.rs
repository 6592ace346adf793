//! An upstream that costs next to nothing, as a process of its own so that its cost is not ours. It must not
//! know who calls it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mcp::message::Envelope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::fake::header;
use crate::support::process::Process;
use crate::support::wire::{LEGACY, MODERN};
use crate::support::{PATIENCE, eventually, free_port};

/// The running process.
pub(crate) struct Upstream {
    process: Process,
    address: String,
}

impl Upstream {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts this program again, as an upstream.
pub(crate) async fn start(folder: &Path) -> Upstream {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["upstream", &address]);
    let process = Process::start("upstream", command, folder);
    eventually("the upstream listens", PATIENCE, || async {
        TcpStream::connect(&address).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    Upstream { process, address }
}

/// Serves until killed: `/ten` with ten tools, `/thousand` with a thousand.
pub(crate) fn run(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        let lists = Arc::new(Lists { ten: tools(10), thousand: tools(1_000) });
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&lists)));
        }
    });
}

struct Lists {
    ten: String,
    thousand: String,
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

async fn serve(mut stream: TcpStream, lists: Arc<Lists>) -> Option<()> {
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
        let answer = answer(head, &buffer[end..end + length], &lists);
        buffer.drain(..end + length);
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(64 << 10);
    stream.read_buf(buffer).await.ok().filter(|count| *count > 0).map(drop)
}

fn answer(head: &str, body: &[u8], lists: &Lists) -> String {
    if head.starts_with("DELETE") {
        return "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
    }
    if !head.starts_with("POST") {
        return "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n".to_owned();
    }
    let Ok(message) = Envelope::parse(body) else {
        return "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned();
    };
    let Some(id) = message.id else {
        return "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned();
    };
    let params = message.params.unwrap_or_default();
    let modern = header(head, "mcp-protocol-version") == Some(MODERN);
    let kind = if modern { r#""resultType":"complete","# } else { "" };
    let fresh = if modern { r#","ttlMs":0,"cacheScope":"public""# } else { "" };
    let about = r#""capabilities":{"tools":{}}"#;
    match message.method.as_deref().unwrap_or_default() {
        "tools/call" => {
            let text = between(params, r#""text":""#, '"');
            let result = format!(r#"{{{kind}"content":[{{"type":"text","text":"{text}"}}]}}"#);
            if params.contains(r#""echo_sse""#) { sse(id, &result) } else { json(id, &result, "") }
        }
        "tools/list" => {
            let thousand = head.starts_with("POST /thousand");
            let tools = if thousand { &lists.thousand } else { &lists.ten };
            json(id, &format!(r#"{{{kind}"tools":{tools}{fresh}}}"#), "")
        }
        "server/discover" => json(
            id,
            &format!(
                r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],{about},"ttlMs":0,"cacheScope":"public"}}"#
            ),
            "",
        ),
        "initialize" => {
            let result = format!(
                r#"{{"protocolVersion":"{LEGACY}",{about},"serverInfo":{{"name":"fast","version":"1"}}}}"#
            );
            json(id, &result, "mcp-session-id: one-for-all\r\n")
        }
        "ping" => json(id, "{}", ""),
        _ => {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#);
            format!(
                "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
    }
}

fn json(id: &str, result: &str, headers: &str) -> String {
    let length = r#"{"jsonrpc":"2.0","id":,"result":}"#.len() + id.len() + result.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"
    )
}

fn sse(id: &str, result: &str) -> String {
    let event = format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n");
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
        event.len()
    )
}

fn between<'a>(text: &'a str, start: &str, end: char) -> &'a str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(part, _)| part)
}
