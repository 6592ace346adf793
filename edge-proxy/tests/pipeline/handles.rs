//! Handles that somebody changed, cut or made up: each is refused in the documented way and counted, and the one it was made
//! from is as good as before.

use trunkline_edge_proxy::observe::Rejection;

use crate::support::{Edge, Reply, Sse};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// A handle with each of its characters changed, one at a time, and cut at each length.
fn altered(handle: &str) -> Vec<String> {
    let changed = (0..handle.len()).map(|at| {
        let other = if handle.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &handle[..at], &handle[at + 1..])
    });
    let cut = (1..handle.len()).map(|length| handle[..length].to_owned());
    changed.chain(cut).chain([format!("{handle}A"), format!("{handle}{handle}")]).collect()
}

fn unknown_sessions(edge: &Edge) -> u64 {
    edge.metrics.rejected(Rejection::UnknownSession).get()
}

#[tokio::test]
async fn a_session_id_is_good_as_it_was_given_and_in_no_other_way() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2025-11-25", "{}").await;
    let (wrong, before) = (altered(&session), unknown_sessions(&edge));
    for wrong in &wrong {
        let reply = edge.post(&[("mcp-session-id", wrong)], PING).await;
        assert_eq!((reply.status, reply.error_code()), (404, -31010), "{wrong}");
    }
    assert_eq!(unknown_sessions(&edge) - before, wrong.len() as u64);
    assert_eq!(edge.post(&[("mcp-session-id", &session)], PING).await.status, 200);
    // A handle of another kind is none of this one.
    let client = Sse::session(&edge, "2024-11-05", "{}").await;
    let handle = client.endpoint.rsplit('/').next().unwrap().to_owned();
    assert_eq!(edge.post(&[("mcp-session-id", &handle)], PING).await.status, 404);
}

#[tokio::test]
async fn an_address_of_a_stream_is_good_as_it_was_given_and_in_no_other_way() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Sse::session(&edge, "2024-11-05", "{}").await;
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let (folder, handle) = client.endpoint.rsplit_once('/').unwrap();
    let (wrong, before) = (altered(handle), unknown_sessions(&edge));
    for wrong in &wrong {
        let posted = edge.at("POST", &format!("{folder}/{wrong}"), PING).header("authorization", &bearer);
        let reply = Reply::of(posted).await;
        assert_eq!((reply.status, reply.error_code()), (404, -31010), "{wrong}");
    }
    assert_eq!(unknown_sessions(&edge) - before, wrong.len() as u64);
    assert!(client.ask(PING).await.contains(r#""result":{}"#));
}

#[tokio::test]
async fn answers_to_what_nobody_asked_change_nothing() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    for id in ["1", "null", r#""x""#, &format!(r#""{session}""#)] {
        let reply = edge.post(&headers, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)).await;
        assert_eq!((reply.status, reply.error_code()), (400, -32600), "{id}");
    }
    assert_eq!(edge.post(&headers, PING).await.status, 200);
    edge.nothing_is_left().await;
}
