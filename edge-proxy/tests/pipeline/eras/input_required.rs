//! Questions of a modern upstream, put to a legacy client on the stream of its call, and the rounds that follow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::eras::{modern_only, next_message, open_stream, result};
use crate::support::{Edge, PATIENCE, Recorded, Upstream, eventually, json};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","arguments":{"a":1.50}}}"#;
const CAN: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{}}"#;

/// Wants this first, and is content with any answer.
async fn wanting(input: &'static str) -> Upstream {
    Upstream::raw(move |request| {
        let answered = request.body.contains("inputResponses");
        json(&result(request, if answered { r#"{"content":[]}"# } else { input }))
    })
    .await
}

fn id_of(message: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(message).unwrap();
    message["id"].as_str().unwrap().to_owned()
}

const DONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

#[tokio::test]
async fn a_legacy_client_is_asked_on_its_stream_and_answers_from_any_connection() {
    let upstream = wanting(
        r#"{"resultType":"input_required","inputRequests":{"k\u00e9":{"method":"elicitation/create","params":{"message":"?","n":1.50}},"s":{"method":"sampling/createMessage","params":{}}},"requestState":"up\u00e9"}"#,
    )
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", CAN).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("POST", &headers, CALL).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let asked = next_message(&mut stream).await;
    let elicitation = id_of(&asked);
    assert_eq!(
        asked,
        format!(
            r#"{{"jsonrpc":"2.0","id":"{elicitation}","method":"elicitation/create","params":{{"message":"?","n":1.50}}}}"#
        )
    );
    let sampling = id_of(&next_message(&mut stream).await);
    for (id, answer) in
        [(&sampling, r#"{"role":"assistant"}"#), (&elicitation, r#"{"action":"accept","x":2.50}"#)]
    {
        let told =
            edge.post(&headers, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{answer}}}"#)).await;
        assert_eq!((told.status, told.body.as_str()), (202, ""));
    }
    assert_eq!(next_message(&mut stream).await, DONE);
    assert_eq!(stream.chunk().await.unwrap(), None);
    let calls = upstream.calls("tools/call");
    let (first, second) = (&calls[0], &calls[1]);
    assert_ne!(first.id(), second.id());
    let responses = r#""inputResponses":{"s":{"role":"assistant"},"k\u00e9":{"action":"accept","x":2.50}},"requestState":"up\u00e9""#;
    let expected = first.body.strip_suffix("}}").unwrap().replacen(&first.id(), &second.id(), 1);
    assert_eq!(second.body, format!("{expected},{responses}}}}}"));
    let late = format!(r#"{{"jsonrpc":"2.0","id":"{sampling}","result":{{}}}}"#);
    assert_eq!(edge.post(&headers, &late).await.status, 400);
}

#[tokio::test]
async fn a_client_without_the_feature_receives_the_reason_that_the_call_cannot_be_made() {
    let upstream = wanting(
        r#"{"resultType":"input_required","inputRequests":{"r":{"method":"roots/list"}},"requestState":"s"}"#,
    )
    .await;
    let edge = modern_only(&upstream);
    let undeclared = edge.session("2025-11-25", CAN).await;
    let reply = edge.post(&[("mcp-session-id", &undeclared)], CALL).await;
    let told = |why: &str| {
        let text = format!("upstream u: needs input that this client cannot give: roots/list, {why}");
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":true}}}}"#
        )
    };
    assert_eq!((reply.status, reply.body), (200, told("which the client does not declare")));
    let deaf = edge.session("2025-11-25", r#"{"roots":{}}"#).await;
    let request = edge.bare("POST", "dev", CALL);
    let mut request = request.header("authorization", format!("Bearer {}", edge.keys.bearer("all")));
    request = request.header("mcp-session-id", &deaf);
    let mut request = request.build().unwrap();
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let reply = reqwest::Client::new().execute(request).await.unwrap().text().await.unwrap();
    assert_eq!(reply, told("because the client accepts no stream"));
    let prompt = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"u_p"}}"#;
    let reply = edge.post(&[("mcp-session-id", &undeclared)], prompt).await;
    assert_eq!(reply.error_code(), -31111);
    assert!(reply.body.contains(r#""reason":"input_unavailable""#), "{}", reply.body);
}

#[tokio::test]
async fn an_error_of_the_client_cancels_where_the_protocol_can_express_it() {
    let upstream = wanting(
        r#"{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"url","url":"https://x.y/"}}}}"#,
    )
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", CAN).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("POST", &headers, CALL).send().await.unwrap();
    let asked = next_message(&mut stream).await;
    let message: serde_json::Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(message["params"]["elicitationId"].as_str().map(str::len), Some(36), "{asked}");
    let no = format!(r#"{{"jsonrpc":"2.0","id":"{}","error":{{"code":-1,"message":"no"}}}}"#, id_of(&asked));
    assert_eq!(edge.post(&headers, &no).await.status, 202);
    assert_eq!(next_message(&mut stream).await, DONE);
    let sent = upstream.calls("tools/call").pop().unwrap();
    assert!(sent.body.ends_with(r#""inputResponses":{"k":{"action":"cancel"}}}}"#), "{}", sent.body);
}

#[tokio::test]
async fn an_upstream_that_only_wants_to_be_asked_again_is_but_not_for_ever() {
    let upstream = Upstream::raw(|request| {
        let settled = request.body.contains(r#""name":"echo""#) && request.body.contains("requestState");
        let wants = r#"{"resultType":"input_required","requestState":"s"}"#;
        json(&result(request, if settled { r#"{"content":[]}"# } else { wants }))
    })
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(edge.post(&headers, CALL).await.body, DONE);
    let sent = upstream.calls("tools/call").pop().unwrap();
    assert!(sent.body.ends_with(r#","requestState":"s"}}"#) && !sent.body.contains("inputResponses"));
    let never = edge.post(&headers, &CALL.replace("u_echo", "u_other")).await;
    assert!(never.body.contains("it asked for input 10 times"), "{}", never.body);
    assert_eq!(upstream.calls("tools/call").len(), 12);
}

/// An upstream that answers its first call when it is told to, and knows whether anybody still listened.
struct Slow {
    upstream: Upstream,
    answers: Arc<Notify>,
    heard: Arc<Mutex<Option<bool>>>,
}

/// The end of an answer: it was not heard, unless it was said before.
struct Ended(Arc<Mutex<Option<bool>>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().unwrap().get_or_insert(false);
    }
}

impl Slow {
    async fn start() -> Self {
        let (answers, heard, calls) = (Arc::new(Notify::new()), Arc::default(), AtomicUsize::new(0));
        let (told, ended) = (Arc::clone(&answers), Arc::clone(&heard));
        let upstream = Upstream::raw(move |request: &Recorded| {
            if calls.fetch_add(1, Ordering::Relaxed) > 0 {
                return json(&result(request, r#"{"content":[]}"#));
            }
            let (told, ended) = (Arc::clone(&told), Ended(Arc::clone(&ended)));
            let last = format!("data: {}\n\n", result(request, "{}"));
            let body = futures_util::stream::once(async move {
                told.notified().await;
                *ended.0.lock().unwrap() = Some(true);
                Ok::<_, std::convert::Infallible>(last)
            });
            let body = axum::body::Body::from_stream(body);
            axum::response::Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        });
        Self { upstream: upstream.await, answers, heard }
    }

    /// An edge before it that waits for as long as it takes.
    fn edge(&self) -> Edge {
        let mut edge = modern_only(&self.upstream);
        edge.snapshot.resources.upstreams[0].request_timeout =
            Some(prost_types::Duration { seconds: PATIENCE.as_secs() as i64, nanos: 0 });
        edge.publish();
        edge
    }

    /// A client that hangs up once its call has arrived.
    async fn hang_up(&self, edge: &Edge, headers: &[(&str, &str)]) {
        let call = tokio::spawn(edge.request("POST", headers, CALL).send());
        eventually("the call arrives", || !self.upstream.requests().is_empty()).await;
        call.abort();
    }

    async fn was_heard(&self) -> bool {
        eventually("the answer ends", || self.heard.lock().unwrap().is_some()).await;
        self.heard.lock().unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_legacy_client_that_hangs_up_has_not_cancelled() {
    let slow = Slow::start().await;
    let edge = slow.edge();
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    slow.hang_up(&edge, &headers).await;
    eventually("the edge sees it", || edge.metrics.connections.get() == 0).await;
    // By the time that another call is answered, the upstream would have seen it as well.
    assert_eq!(edge.post(&headers, CALL).await.body, DONE);
    slow.answers.notify_one();
    assert!(slow.was_heard().await);
}

#[tokio::test]
async fn a_legacy_client_that_cancels_closes_the_stream_of_a_modern_upstream() {
    let slow = Slow::start().await;
    let edge = slow.edge();
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    slow.hang_up(&edge, &headers).await;
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(edge.post(&headers, cancelled).await.status, 202);
    assert!(!slow.was_heard().await);
}

#[tokio::test]
async fn notifications_of_a_modern_upstream_reach_a_legacy_client_during_its_call() {
    let upstream = Upstream::raw(|request| {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
        open_stream(&format!("data: {progress}\n\ndata: {}\n\n", result(request, r#"{"content":[]}"#)))
    })
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-06-18", "{}").await;
    let call = CALL.replace(r#""name""#, r#""_meta":{"progressToken":"p"},"name""#);
    let reply = edge.post(&[("mcp-session-id", &session)], &call).await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
    assert_eq!(reply.messages(), [progress, DONE]);
}
