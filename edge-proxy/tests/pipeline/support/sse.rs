//! A client of HTTP+SSE that says exactly what it is told to.

use super::{Edge, PATIENCE, Reply};

pub(crate) struct Sse {
    client: reqwest::Client,
    host: String,
    bearer: String,
    stream: reqwest::Response,
    read: String,
    /// Where it posts.
    pub(crate) endpoint: String,
}

impl Sse {
    /// Opens a stream with the bearer of `tokens/{token}`.
    pub(crate) async fn open(edge: &Edge, token: &str) -> Self {
        Self::open_by(edge, &edge.keys.bearer(token)).await
    }

    /// Opens a stream with this bearer.
    pub(crate) async fn open_by(edge: &Edge, bearer: &str) -> Self {
        let bearer = format!("Bearer {bearer}");
        let stream =
            edge.at("GET", "/servers/dev/sse", "").header("authorization", &bearer).send().await.unwrap();
        assert_eq!(stream.status(), 200, "{}", stream.text().await.unwrap());
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        let (client, host) = (edge.client.clone(), edge.host());
        let mut opened = Self { client, host, bearer, stream, read: String::new(), endpoint: String::new() };
        let (event, endpoint) = opened.event().await.unwrap();
        assert_eq!(event, "endpoint");
        opened.endpoint = endpoint;
        opened
    }

    /// The same, with the handshake behind it.
    pub(crate) async fn session(edge: &Edge, revision: &str, capabilities: &str) -> Self {
        Self::session_by(edge, &edge.bearer, revision, capabilities).await
    }

    pub(crate) async fn session_by(edge: &Edge, bearer: &str, revision: &str, capabilities: &str) -> Self {
        let mut opened = Self::open_by(edge, bearer).await;
        opened.initialize(revision, capabilities).await;
        opened
    }

    pub(crate) async fn initialize(&mut self, revision: &str, capabilities: &str) {
        let answer = self.ask(&super::initialize(revision, capabilities)).await;
        assert!(answer.contains(&format!(r#""protocolVersion":"{revision}""#)), "{answer}");
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    }

    /// Posts to another edge from now on.
    pub(crate) fn post_to(&mut self, edge: &Edge) {
        self.host = edge.host();
    }

    pub(crate) async fn post(&self, body: &str) -> Reply {
        let request = self.client.post(format!("{}{}", self.host, self.endpoint)).body(body.to_owned());
        Reply::of(request.header("content-type", "application/json").header("authorization", &self.bearer))
            .await
    }

    /// Posts what must be taken.
    pub(crate) async fn say(&self, body: &str) {
        let reply = self.post(body).await;
        assert_eq!((reply.status, reply.body.as_str()), (202, ""), "{body}");
    }

    /// Posts a message, and reads the next that comes.
    pub(crate) async fn ask(&mut self, body: &str) -> String {
        self.say(body).await;
        self.next().await
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> String {
        let (event, data) = self.event().await.expect("the stream ended");
        assert_eq!(event, "message");
        data
    }

    /// The next event; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<(String, String)> {
        loop {
            while let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                if let Some(data) = field("data: ") {
                    return Some((field("event: ").unwrap_or_default(), data));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.stream.chunk()).await;
            let chunk = chunk.expect("nothing came").unwrap_or_default()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}
