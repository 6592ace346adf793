//! An upstream that records what it is sent, byte for byte, and answers what the test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::Notify;

/// One request, whole.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) verb: String,
    /// The path and query.
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn method(&self) -> String {
        self.json()["method"].as_str().unwrap_or_default().to_owned()
    }

    /// The raw id.
    pub(crate) fn id(&self) -> String {
        self.json()["id"].to_string()
    }
}

type Answer = dyn Fn(&Recorded) -> Response + Send + Sync;

pub(crate) struct Upstream {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Upstream {
    /// Answers handshakes by itself, and everything else by `answer`.
    pub(crate) async fn start(answer: impl Fn(&Recorded) -> Response + Send + Sync + 'static) -> Self {
        let sessions = AtomicU64::new(0);
        Self::raw(move |request| match request.method().as_str() {
            "initialize" => {
                let session = format!("up-{}", sessions.fetch_add(1, Ordering::Relaxed));
                let version = request.json()["params"]["protocolVersion"].clone();
                let body = format!(
                    r#"{{"result":{{"protocolVersion":{version},"capabilities":{{}},"serverInfo":{{"name":"u","version":"1"}}}},"jsonrpc":"2.0","id":{}}}"#,
                    request.id()
                );
                let mut response = json(&body);
                response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
                response
            }
            method if method.starts_with("notifications/") => status(202, ""),
            _ if request.verb == "DELETE" => status(200, ""),
            _ => answer(request),
        })
        .await
    }

    /// Answers everything by `answer`.
    pub(crate) async fn raw(answer: impl Fn(&Recorded) -> Response + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (recorded, answer): (_, Arc<Answer>) = (Arc::clone(&requests), Arc::new(answer));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (recorded, answer) = (Arc::clone(&recorded), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let (verb, path) = (head.method.to_string(), head.uri.to_string());
                let request = Recorded { verb, path, headers: head.headers, body };
                recorded.lock().unwrap().push(request.clone());
                answer(&request)
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url: format!("http://{address}/mcp"), requests }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    /// The request with this body, which may still be on its way.
    pub(crate) async fn received(&self, body: &str) -> Recorded {
        for _ in 0..1_200 {
            if let Some(found) = self.requests().into_iter().find(|request| request.body == body) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the upstream was never sent {body}; it was sent {:#?}", self.requests());
    }

    /// Requests of this method.
    pub(crate) fn calls(&self, method: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.method() == method).collect()
    }
}

pub(crate) fn json(body: &str) -> Response {
    Response::builder().header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap()
}

pub(crate) fn status(status: u16, body: &str) -> Response {
    Response::builder().status(status).body(Body::from(body.to_owned())).unwrap()
}

/// A stream of these messages, each in an event.
pub(crate) fn events(messages: &[String]) -> Response {
    let body: String =
        messages.iter().map(|message| format!("event: message\ndata: {message}\n\n")).collect();
    Response::builder().header("content-type", "text/event-stream").body(Body::from(body)).unwrap()
}

/// A stream that never ends, and says nothing.
pub(crate) fn never() -> Response {
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
    let response = Response::builder().header("content-type", "text/event-stream");
    response.body(Body::from_stream(never)).unwrap()
}

/// An empty result, as soon as `told`.
pub(crate) fn once_told(told: &Arc<Notify>, request: &Recorded) -> Response {
    let message = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id());
    let told = Arc::clone(told);
    let answer = futures_util::stream::once(async move {
        told.notified().await;
        Ok::<_, std::convert::Infallible>(bytes::Bytes::from(message))
    });
    Response::builder().header("content-type", "application/json").body(Body::from_stream(answer)).unwrap()
}
