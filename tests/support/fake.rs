//! An upstream that does exactly as told, byte by byte, lies included; it speaks both eras and keeps what it
//! was sent. It must not know the gateway, nor an HTTP library that would correct it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What the upstream does next on the connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Writes these bytes again and again, until the connection breaks.
    Flood(Vec<u8>),
    /// Says nothing for this long.
    Wait(Duration),
    /// Says nothing until this is notified.
    Until(Arc<Notify>),
    /// Closes the connection.
    Close,
}

type Script = dyn Fn(&Received) -> Option<Vec<Step>> + Send + Sync;

/// Listens until dropped.
pub(crate) struct Fake {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Serves `tools` (a JSON array); a call is answered as `script` says, given the tool's name.
    pub(crate) async fn start(
        tools: &str,
        script: impl Fn(&str, &Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::scripted(tools, move |request| {
            let message: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
            let name = message["params"]["name"].as_str().unwrap_or_default();
            (message["method"] == "tools/call").then(|| script(name, request))
        })
        .await
    }

    /// Serves `tools`; whatever `script` has an answer for is answered so.
    pub(crate) async fn scripted(
        tools: &str,
        script: impl Fn(&Received) -> Option<Vec<Step>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, tools): (_, Arc<str>) = (Arc::clone(&received), tools.into());
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, tools, script) = (Arc::clone(&log), Arc::clone(&tools), Arc::clone(&script));
                tokio::spawn(async move { serve(stream, &log, &tools, &*script).await });
            }
        });
        Self { address, received, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The requests of a method, in the order in which they arrived.
    pub(crate) fn received(&self, method: &str) -> Vec<Received> {
        let wanted = format!(r#""method":"{method}""#);
        self.received.lock().unwrap().iter().filter(|r| r.body.contains(&wanted)).cloned().collect()
    }

    /// Whether a session was ended.
    pub(crate) fn ended(&self, session: &str) -> bool {
        let ends =
            |r: &Received| r.head.starts_with("DELETE") && header(&r.head, "mcp-session-id") == Some(session);
        self.received.lock().unwrap().iter().any(ends)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Received>>,
    tools: &str,
    script: &Script,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let request = read_request(&mut stream, &mut buffer).await?;
        log.lock().unwrap().push(request.clone());
        for step in script(&request).unwrap_or_else(|| answer(&request, tools)) {
            match step {
                Step::Write(bytes) => stream.write_all(&bytes).await.ok()?,
                Step::Flood(bytes) => loop {
                    stream.write_all(&bytes).await.ok()?;
                },
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Until(told) => told.notified().await,
                Step::Close => return None,
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = header(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&buffer[end + 4..end + 4 + length]).into_owned();
                buffer.drain(..end + 4 + length);
                return Some(Received { head, body });
            }
        }
        let mut chunk = [0; 16 << 10];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        buffer.extend_from_slice(&chunk[..count]);
    }
}

/// A header's value in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn answer(request: &Received, tools: &str) -> Vec<Step> {
    if !request.head.starts_with("POST") {
        return vec![write("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")];
    }
    let message: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
    let modern = header(&request.head, "mcp-protocol-version") == Some(super::wire::MODERN);
    let capabilities = r#"{"tools":{"listChanged":false}}"#;
    let info = r#"{"name":"fake","version":"1"}"#;
    let result = match message["method"].as_str().unwrap_or_default() {
        "server/discover" => format!(
            r#"{{"resultType":"complete","supportedVersions":["{}"],"capabilities":{capabilities},"ttlMs":0,"cacheScope":"public","_meta":{{"io.modelcontextprotocol/serverInfo":{info}}}}}"#,
            super::wire::MODERN
        ),
        "initialize" => format!(
            r#"{{"protocolVersion":"{}","capabilities":{capabilities},"serverInfo":{info}}}"#,
            super::wire::LEGACY
        ),
        "tools/list" if modern => {
            format!(r#"{{"resultType":"complete","tools":{tools},"ttlMs":0,"cacheScope":"public"}}"#)
        }
        "tools/list" => format!(r#"{{"tools":{tools}}}"#),
        "ping" => "{}".to_owned(),
        method if method.starts_with("notifications/") => {
            return vec![write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")];
        }
        _ => {
            let error = format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"no"}}}}"#,
                message["id"]
            );
            return vec![json(404, &error)];
        }
    };
    vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]))]
}

pub(crate) fn write(text: &str) -> Step {
    Step::Write(text.as_bytes().to_vec())
}

/// A JSON answer whose length is true.
pub(crate) fn json(status: u16, body: &str) -> Step {
    write(&format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// The head of an event stream, closed by the end of the connection.
pub(crate) fn stream_head() -> Step {
    write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
}

/// The raw id of a request, as it was spelled.
pub(crate) fn id(request: &Received) -> String {
    let message: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
    message["id"].to_string()
}

/// A definition of a tool that takes anything.
pub(crate) fn tool(name: &str) -> String {
    format!(r#"{{"name":"{name}","description":"A tool.","inputSchema":{{"type":"object"}}}}"#)
}
