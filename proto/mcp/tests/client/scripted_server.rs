//! A server that answers what it was told to, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use mcp::client::{ClientInfo, Endpoint, QuirkNote, Reach, Url};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// What is answered: status, headers, body. [`SILENCE`] as a status: nothing is ever answered.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, Body);

pub(crate) const SILENCE: u16 = 0;

type Script = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

#[derive(Clone)]
pub(crate) struct ScriptedServer {
    pub(crate) endpoint: Endpoint,
    asked: Arc<Mutex<VecDeque<Asked>>>,
}

impl ScriptedServer {
    /// Starts one that answers by `script`.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let asked = Arc::new(Mutex::new(VecDeque::new()));
        let router = Router::new().fallback(answer).with_state((script, asked.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp?key=query-secret", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer header-secret"));
        let endpoint = Endpoint {
            url: Url::parse(&url).unwrap(),
            headers,
            timeout: Duration::from_millis(1500),
            reach: Reach::System,
        };
        Self { endpoint, asked }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().cloned().collect()
    }
}

async fn answer(
    State((script, asked)): State<(Script, Arc<Mutex<VecDeque<Asked>>>)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let question = Asked {
        verb: head.method.to_string(),
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    asked.lock().unwrap().push_back(question.clone());
    let (status, headers, body) = script(&question);
    if status == SILENCE {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap()
}

pub(crate) fn info() -> ClientInfo {
    ClientInfo { name: "test".to_owned(), version: "0".to_owned() }
}

/// The names of quirks.
pub(crate) fn quirk_names(quirks: &[QuirkNote]) -> Vec<&'static str> {
    quirks.iter().map(|note| note.quirk.as_str()).collect()
}

pub(crate) fn json(status: u16, body: impl Into<Body>) -> Answer {
    (status, vec![("content-type", "application/json; charset=utf-8".to_owned())], body.into())
}

pub(crate) fn events(body: impl Into<Body>) -> Answer {
    (200, vec![("content-type", "text/event-stream".to_owned())], body.into())
}

pub(crate) fn text(status: u16, body: &str) -> Answer {
    (status, vec![("content-type", "text/html".to_owned())], body.to_owned().into())
}

/// A body without an end, in pieces of `piece`.
pub(crate) fn endless(piece: Bytes) -> Body {
    Body::from_stream(futures_util::stream::repeat_with(move || {
        Ok::<_, std::convert::Infallible>(piece.clone())
    }))
}

/// A body that sends `start` and then nothing more, without ending.
pub(crate) fn stalling(start: &str) -> Body {
    use futures_util::StreamExt as _;
    let start = Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(start.as_bytes()));
    Body::from_stream(futures_util::stream::iter([start]).chain(futures_util::stream::pending()))
}

impl Asked {
    /// Whether the body holds this method.
    pub(crate) fn is(&self, method: &str) -> bool {
        self.body.contains(&format!("\"method\":\"{method}\""))
    }

    /// The id of the body, raw.
    pub(crate) fn id(&self) -> String {
        let envelope = mcp::message::Envelope::parse(self.body.as_bytes()).unwrap();
        envelope.id.unwrap_or_default().to_owned()
    }

    /// A good answer to the body.
    pub(crate) fn result(&self, result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, self.id())
    }

    /// A good handshake of a legacy server with a session, to what belongs to it.
    pub(crate) fn handshake(&self) -> Option<Answer> {
        if self.is("initialize") {
            let result = self.result(
                r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"liar","version":"1"}}"#,
            );
            let (status, mut headers, body) = json(200, result);
            headers.push(("mcp-session-id", "s-1".to_owned()));
            return Some((status, headers, body));
        }
        (self.is("notifications/initialized") || self.verb == "DELETE").then(|| json(202, ""))
    }
}
