//! MCP by hand, for what no SDK would send: exact bytes out, exact bytes back. It must not know the gateway.

use std::time::Duration;

use mcp::sse::Decoder;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// The newest revision with sessions, and the newest without.
pub(crate) const LEGACY: &str = "2025-11-25";
pub(crate) const MODERN: &str = "2026-07-28";

/// One HTTP answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The JSON-RPC message in it: the body, or the data of the last event of a stream.
    pub(crate) fn message(&self) -> Vec<u8> {
        let kind = self.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return self.body.clone();
        }
        let text = std::str::from_utf8(&self.body).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).rfind(|d| !d.trim().is_empty());
        data.unwrap_or_default().trim_start().as_bytes().to_vec()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.message())
            .unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The code of the JSON-RPC error in it.
    pub(crate) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {}", self.json()))
    }
}

/// An answer that is a stream of events.
pub(crate) struct Stream {
    response: reqwest::Response,
    decoder: Decoder,
}

impl Stream {
    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Value, String> {
        loop {
            match self.decoder.next().map_err(|e| e.to_string())? {
                Some(event) if event.data.is_empty() => {}
                Some(event) => return serde_json::from_slice(&event.data).map_err(|e| e.to_string()),
                None => {
                    let chunk = self.response.chunk().await.map_err(|e| format!("{e:?}"))?;
                    self.decoder.push(chunk.ok_or("the stream ended")?);
                }
            }
        }
    }
}

/// A client of one virtual server.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    bearer: String,
    session: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str, bearer: &str) -> Self {
        // Idle connections are dropped before the shortest `--header-timeout` of any test ends them.
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .pool_idle_timeout(Duration::from_secs(1))
            .no_proxy()
            .build()
            .unwrap();
        Self { http, url: url.to_owned(), bearer: bearer.to_owned(), session: None }
    }

    /// A client with a session of the legacy era.
    pub(crate) async fn open(url: &str, bearer: &str) -> Result<Self, String> {
        Self::open_with(url, bearer, "{}").await
    }

    /// The same, of a client that declares these capabilities.
    pub(crate) async fn open_with(url: &str, bearer: &str, capabilities: &str) -> Result<Self, String> {
        let mut client = Self::new(url, bearer);
        let hello = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{{"name":"wire","version":"1"}}}}}}"#
        );
        let answer = client.post(&hello, &[]).await?;
        if answer.status != 200 {
            return Err(format!("initialize: {answer:?}"));
        }
        client.session = answer.headers.get("mcp-session-id").map(|v| v.to_str().unwrap().to_owned());
        let answer = client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, &[]).await?;
        if answer.status == 202 { Ok(client) } else { Err(format!("initialized: {answer:?}")) }
    }

    /// Opens the stream of this session.
    pub(crate) async fn listen(&self) -> reqwest::Response {
        let request = self.http.get(&self.url).header("accept", "text/event-stream");
        let request = request.header("authorization", format!("Bearer {}", self.bearer));
        let session = self.session.as_deref().unwrap_or_default();
        request.header("mcp-session-id", session).send().await.unwrap()
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The same client talking to another address of the same gateway.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Posts a body as it is; `extra` headers replace the usual ones.
    pub(crate) async fn post(&self, body: &str, extra: &[(&str, &str)]) -> Result<Answer, String> {
        self.send(reqwest::Method::POST, body.as_bytes().to_vec(), extra).await
    }

    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        body: Vec<u8>,
        extra: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let response = self.request(method, body, extra).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| format!("{e:?}"))?.to_vec();
        Ok(Answer { status, headers, body })
    }

    async fn request(
        &self,
        method: reqwest::Method,
        body: Vec<u8>,
        extra: &[(&str, &str)],
    ) -> Result<reqwest::Response, String> {
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            headers.insert(reqwest::header::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        };
        set("content-type", "application/json");
        set("accept", "application/json, text/event-stream");
        set("authorization", &format!("Bearer {}", self.bearer));
        if let Some(session) = &self.session {
            set("mcp-session-id", session);
            set("mcp-protocol-version", LEGACY);
        }
        extra.iter().for_each(|(name, value)| set(name, value));
        let request = self.http.request(method, &self.url).headers(headers).body(body);
        request.send().await.map_err(|e| format!("{e:?}"))
    }

    /// `tools/call` in a session, whose answer is read message by message.
    pub(crate) async fn stream(&self, name: &str, arguments: &str) -> Result<Stream, String> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
        );
        self.read(&body).await
    }

    /// Any request, whose answer is read message by message.
    pub(crate) async fn read(&self, body: &str) -> Result<Stream, String> {
        self.read_with(body, &[]).await
    }

    /// The same with `extra` headers.
    pub(crate) async fn read_with(&self, body: &str, extra: &[(&str, &str)]) -> Result<Stream, String> {
        let response = self.request(reqwest::Method::POST, body.as_bytes().to_vec(), extra).await?;
        Ok(Stream { response, decoder: Decoder::new(1 << 20) })
    }

    /// `tools/call` in the era of this client.
    pub(crate) async fn call(&self, name: &str, arguments: &str) -> Result<Answer, String> {
        if self.session.is_some() {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
            );
            return self.post(&body, &[]).await;
        }
        self.modern("tools/call", &format!(r#""name":"{name}","arguments":{arguments}"#), Some(name)).await
    }

    /// A request of the modern era; `params` are the members of the object besides `_meta`.
    pub(crate) async fn modern(
        &self,
        method: &str,
        params: &str,
        name: Option<&str>,
    ) -> Result<Answer, String> {
        let comma = if params.is_empty() { "" } else { "," };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{comma}{}}}}}"#,
            modern_meta()
        );
        let mut extra = vec![("mcp-protocol-version", MODERN), ("mcp-method", method)];
        extra.extend(name.map(|name| ("mcp-name", name)));
        self.post(&body, &extra).await
    }

    /// The names of the tools listed, in order.
    pub(crate) async fn tools(&self) -> Result<Vec<String>, String> {
        let answer = match self.session {
            Some(_) => self.post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#, &[]).await?,
            None => self.modern("tools/list", "", None).await?,
        };
        if answer.status != 200 {
            return Err(format!("tools/list: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        let tools = answer.json()["result"]["tools"].as_array().cloned().ok_or("no tools")?;
        Ok(tools.iter().map(|tool| tool["name"].as_str().unwrap_or_default().to_owned()).collect())
    }
}

/// The `_meta` member that every request of the modern era carries.
pub(crate) fn modern_meta() -> String {
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"wire","version":"1"}}}}"#
    )
}

/// Sends bytes over a connection of its own, and returns what came back until the end or `limit`.
pub(crate) async fn raw(address: &str, bytes: &[u8], limit: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    let _ = tokio::time::timeout(limit, read).await;
    answer
}
