//! What upstreams say on the stream of a session and not in the response to the call that it is about.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use mcp::quirk::Quirk;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::streams::until;
use crate::support::{Edge, json, speaks, status};

/// An upstream that answers calls in JSON, and says everything else on the stream of the session.
#[derive(Clone, Default)]
struct Aside {
    opened: Arc<AtomicUsize>,
    /// The streams, by session.
    streams: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>,
    /// Who waits for the answer to a question, by its id.
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Value>>>>,
    /// Lets one call after the other end.
    told: Arc<Notify>,
}

impl Aside {
    async fn edge(&self) -> Edge {
        let router = Router::new().fallback(take).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut edge = Edge::start(&url);
        speaks(&mut edge.snapshot, "legacy");
        edge.publish();
        edge
    }

    fn stream(&self, session: &str) -> Response {
        let (sender, mut said) = mpsc::unbounded_channel();
        self.streams.lock().unwrap().insert(session.to_owned(), sender);
        let events = futures_util::stream::poll_fn(move |cx| {
            said.poll_recv(cx).map(|said| said.map(Ok::<_, Infallible>))
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        response.body(Body::from_stream(events)).unwrap()
    }

    fn say(&self, session: &str, message: &str) {
        self.streams.lock().unwrap()[session].send(format!("data: {message}\n\n")).unwrap();
    }

    /// Asks what the client's roots are, and waits for the answer.
    async fn ask(&self, session: &str, id: &str) -> Value {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id.to_owned(), answer);
        self.say(session, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"roots/list"}}"#));
        answered.await.unwrap()
    }

    /// Tells how far it is, or asks what the call says, and answers when it is told.
    async fn call(&self, session: &str, request: &Value) -> Response {
        let id = &request["id"];
        let token = &request["params"]["_meta"]["progressToken"];
        if !token.is_null() {
            let progress = format!(r#"{{"progressToken":{token},"progress":1}}"#);
            self.say(
                session,
                &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{progress}}}"#),
            );
            self.told.notified().await;
        }
        let answer = match request["params"]["arguments"]["ask"].as_str() {
            Some(question) => self.ask(session, question).await,
            None => Value::Null,
        };
        json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"answer":{answer}}}}}"#))
    }
}

async fn take(State(aside): State<Aside>, request: Request) -> Response {
    let session = request.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let session = session.unwrap_or_default();
    let verb = request.method().clone();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (verb.as_str(), message["method"].as_str()) {
        ("GET", _) => aside.stream(&session),
        ("POST", Some("initialize")) => {
            let (id, version) = (&message["id"], &message["params"]["protocolVersion"]);
            let facts = format!(r#"{{"protocolVersion":{version},"capabilities":{{"logging":{{}}}}}}"#);
            let mut opened = json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{facts}}}"#));
            let session = format!("s{}", aside.opened.fetch_add(1, Ordering::Relaxed));
            opened.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            opened
        }
        ("POST", Some("tools/call")) => aside.call(&session, &message).await,
        ("POST", None) => {
            let asked = aside.waiting.lock().unwrap().remove(message["id"].as_str().unwrap());
            asked.unwrap().send(message).unwrap();
            status(202, "")
        }
        _ => status(202, ""),
    }
}

fn call(id: &str, more: &str) -> String {
    let params = format!(r#"{{"name":"u_echo"{more}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call","params":{params}}}"#)
}

#[tokio::test]
async fn progress_on_the_stream_of_a_session_reaches_its_call() {
    for capabilities in ["{}", r#"{"roots":{}}"#] {
        let aside = Aside::default();
        let edge = aside.edge().await;
        let session = edge.session("2025-11-25", capabilities).await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut calls = Vec::new();
        for id in ["a", "b", "c"] {
            let body = call(id, &format!(r#","_meta":{{"progressToken":"of {id}"}}"#));
            let mut stream = edge.request("POST", &headers, &body).send().await.unwrap();
            let seen = until(&mut stream, r#""progress":1"#).await;
            assert!(seen.contains(&format!(r#""progressToken":"of {id}""#)), "{capabilities}: {seen}");
            calls.push((id, stream));
        }
        assert_eq!(edge.metrics.upstream_quirk(Quirk::ProgressAside).get(), 3, "{capabilities}");
        for (id, stream) in calls {
            aside.told.notify_one();
            let rest = stream.text().await.unwrap();
            assert!(
                rest.contains(&format!(r#""id":"{id}","result":{{"content":[],"answer":null}}"#)),
                "{rest}"
            );
            assert!(!rest.contains("progress"), "{rest}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_before_the_response_begins_is_answered() {
    let aside = Aside::default();
    let edge = aside.edge().await;
    let session = edge.session("2025-11-25", r#"{"roots":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    let body = call("a", r#","arguments":{"ask":"q"}"#);
    let mut stream = edge.request("POST", &headers, &body).send().await.unwrap();
    let seen = until(&mut stream, "roots/list").await;
    let asked = seen.lines().find_map(|line| line.strip_prefix("data: {")).unwrap();
    let asked: Value = serde_json::from_str(&format!("{{{asked}")).unwrap();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#, asked["id"]);
    assert_eq!(edge.post(&headers, &answer).await.status, 202);
    let rest = stream.text().await.unwrap();
    assert!(rest.contains(r#""answer":{"id":"q","jsonrpc":"2.0","result":{"roots":[]}}"#), "{rest}");
}

#[tokio::test]
async fn what_is_said_in_a_session_of_many_reaches_none_of_them() {
    let aside = Aside::default();
    let edge = aside.edge().await;
    let session = edge.session("2025-11-25", "{}").await;
    let body = call("a", r#","_meta":{"progressToken":"t"}"#);
    let mut stream = edge.request("POST", &[("mcp-session-id", &session)], &body).send().await.unwrap();
    let seen = until(&mut stream, r#""progress":1"#).await;
    assert!(seen.contains(r#""progressToken":"t""#), "{seen}");
    aside.say(
        "s0",
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"of whom?"}}"#,
    );
    aside.say(
        "s0",
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":2}}"#,
    );
    let refused = aside.ask("s0", "q").await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    aside.told.notify_one();
    let rest = stream.text().await.unwrap();
    let messages: Vec<&str> = rest.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(messages, [r#"{"jsonrpc":"2.0","id":"a","result":{"content":[],"answer":null}}"#]);
}
