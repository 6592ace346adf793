//! Subscriptions whose right ends: their streams end, or go on without them, and the upstream is no longer asked.

use super::without_client::OpenStreams;
use super::{OF_TOOLS, WITHDRAWALS, Withdrawal, before_that, rest};
use crate::eras::ask;
use crate::streams::until;
use crate::support::{Edge, Recorded, Socket, Sse, Upstream, eventually, json, mcp, modern, speaks};

const SUBSCRIBE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
/// What modern clients subscribe by. Without it their streams end, and not only what is told there.
const SUBSCRIBING: &str = "subscriptions/listen";
const ACKNOWLEDGED: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{}}\n\n";

/// Each way in which the right to a resource ends, and whether the right to the server ends with it.
fn withdrawals() -> Vec<(Withdrawal, bool)> {
    let all = WITHDRAWALS.into_iter().filter(|(what, ..)| !OF_TOOLS.contains(what));
    let narrowed: Withdrawal =
        ("the scope is narrowed", |edge| edge.snapshot.resources.tokens[0].resources.clear(), 0);
    let removed: Withdrawal =
        ("the resource leaves the server", |edge| edge.snapshot.resources.servers[0].resources.clear(), 0);
    let taken: Withdrawal = (
        "reading is taken",
        |edge| edge.snapshot.access().methods = vec!["tools/*".into(), SUBSCRIBING.into()],
        0,
    );
    let narrower = [narrowed, removed, taken];
    all.map(|one| (one, true)).chain(narrower.map(|one| (one, false))).collect()
}

async fn telling(streams: &OpenStreams) -> Upstream {
    let streams = streams.clone();
    let answer = move |request: &Recorded| match (request.verb.as_str(), request.method().as_str()) {
        ("GET", _) => streams.open(": \n\n"),
        (_, "subscriptions/listen") => streams.open(ACKNOWLEDGED),
        _ => json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id())),
    };
    Upstream::start(answer).await
}

fn edge_before(upstream: &Upstream, what: &str, era: &str) -> Edge {
    let mut edge = before_that(upstream, what);
    let mcp = mcp(&mut edge.snapshot.resources.upstreams[0]);
    let tells = r#"{"tools":{},"resources":{"subscribe":true}}"#;
    (mcp.modern_capabilities_json, mcp.legacy_capabilities_json) = (tells.into(), tells.into());
    speaks(&mut edge.snapshot, era);
    edge.publish();
    edge
}

#[tokio::test]
async fn a_tokens_subscription_at_a_legacy_upstream_ends_on_every_transport() {
    end_on_every_transport("legacy", |what| !what.starts_with("person:")).await;
}

#[tokio::test]
async fn a_tokens_subscription_at_a_modern_upstream_ends_on_every_transport() {
    end_on_every_transport("modern", |what| !what.starts_with("person:")).await;
}

#[tokio::test]
async fn a_persons_subscription_ends_on_every_transport() {
    for era in ["legacy", "modern"] {
        end_on_every_transport(era, |what| what.starts_with("person:")).await;
    }
}

/// Takes each of these rights from whoever is subscribed on every transport. The streams end, and the upstream is told.
async fn end_on_every_transport(era: &str, is_meant: fn(&str) -> bool) {
    for ((what, withdraw, _), ends_all) in withdrawals().into_iter().filter(|((what, ..), _)| is_meant(what))
    {
        let streams = OpenStreams::default();
        let upstream = telling(&streams).await;
        let mut edge = edge_before(&upstream, what, era);

        let session = edge.session("2025-06-18", "{}").await;
        let headers = [("mcp-session-id", session.as_str())];
        assert_eq!(edge.post(&headers, SUBSCRIBE).await.status, 200);
        let standing = edge.request("GET", &headers, "").send().await.unwrap();
        let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
        assert!(socket.ask(SUBSCRIBE).await.contains(r#""result":{}"#));
        let mut sse = Sse::session(&edge, "2024-11-05", "{}").await;
        assert!(sse.ask(SUBSCRIBE).await.contains(r#""result":{}"#));
        let wanted = r#""notifications":{"resourceSubscriptions":["u+file:///r"]},"#;
        let listen = ask("1", "subscriptions/listen", wanted, "{}", "");
        let headers = modern("subscriptions/listen", None);
        let mut listening = edge.request("POST", &headers, &listen).send().await.unwrap();
        until(&mut listening, "subscriptions/acknowledged").await;
        let mut modern_socket = Socket::open(&edge).await;
        assert!(modern_socket.ask(&listen).await.contains("subscriptions/acknowledged"));
        eventually("everybody is subscribed", || streams.count() == 5).await;

        withdraw(&mut edge);
        edge.publish();
        streams.none_is_left().await;
        if era == "legacy" {
            let ended = || upstream.requests().iter().filter(|request| request.verb == "DELETE").count();
            eventually("the upstream's sessions are ended", || ended() >= 5).await;
        }
        if ends_all {
            rest(standing).await;
            let closing = rest(listening).await;
            assert!(closing.contains(r#""resultType":"complete""#), "{what}: {closing}");
            assert_eq!([socket.closed().await, modern_socket.closed().await], [1008; 2], "{what}");
            while sse.event().await.is_some() {}
            edge.nothing_is_left().await;
        } else {
            assert_eq!(edge.metrics.streams.get(), 5, "{what}: what else is told goes on");
        }
    }
}
