//! Errors that quote an upstream never show the credential that it was called with, wherever it repeats it and wherever the
//! quote is cut.

use axum::body::Body;
use axum::response::Response;
use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{Edge, KINDS, META, Recorded, Reply, Talker, Upstream, id, mcp, modern};

/// A key in the query of the upstream's URL.
const KEY: &str = "sk-live-0123456789abcdef0123456789abcdef";
/// Characters before the key: a quote of 80 is cut before it, within its beginning, within, and after.
const BEFORE: [usize; 6] = [0, 36, 60, 72, 75, 90];

fn shows_nothing(reply: &Reply, what: &str) {
    assert!(reply.body.contains("error"), "{what}: {reply:?}");
    for part in [&KEY[..4], &KEY[KEY.len() - 6..]] {
        assert!(!reply.body.contains(part), "{what} shows {part}: {reply:?}");
    }
}

fn respond(headers: &[(&str, &str)], body: String) -> Response {
    let response = headers.iter().fold(Response::builder(), |r, (name, value)| r.header(*name, *value));
    response.body(Body::from(body)).unwrap()
}

/// What an upstream says in a response, with the key in it.
fn said(kind: usize, padded: &str) -> Response {
    const JSON: (&str, &str) = ("content-type", "application/json");
    const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
    let result = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#);
    match kind {
        0 => respond(&[JSON], result(padded)),
        1 => respond(&[EVENTS], format!("data: {}\n\n", result(padded))),
        2 => respond(&[JSON], format!("{padded} is no message")),
        3 => respond(&[EVENTS], format!("data: {padded} is no message\n\n")),
        4 => respond(&[JSON, ("content-encoding", padded)], "{}".to_owned()),
        5 => respond(&[("content-type", padded)], padded.to_owned()),
        _ => respond(&[JSON], format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{padded}"#)),
    }
}

#[tokio::test]
async fn no_error_about_a_response_shows_the_key_that_it_repeats() {
    for kind in 0..7 {
        for before in BEFORE {
            let padded = format!("{}{KEY}", "x".repeat(before));
            let upstream = Upstream::raw(move |_: &Recorded| said(kind, &padded)).await;
            let mut edge = Edge::start(&format!("{}?key={KEY}", upstream.url));
            mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
            edge.publish();
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#
            );
            let reply = edge.post(&modern("tools/call", Some("u_echo")), &call).await;
            shows_nothing(&reply, &format!("{kind} {before}"));
        }
    }
}

#[tokio::test]
async fn no_error_about_a_channel_shows_the_key_that_it_repeats() {
    for kind in KINDS {
        for before in [0, 75] {
            for is_claimed in [true, false] {
                let padded = format!("{}{KEY}", "x".repeat(before));
                let talker = Talker::start(move |message| match is_claimed {
                    true => vec![format!(r#"{{"jsonrpc":"2.0","id":{},"result":{padded}}}"#, id(message))],
                    false => vec![format!("{padded} is no message"); 1_001],
                })
                .await;
                let mut edge = Edge::limited(&format!("{}?key={KEY}", talker.url(kind)), Limits::default());
                mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(kind);
                edge.publish();
                let session = edge.session("2025-11-25", "{}").await;
                let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"u_echo"}}"#;
                let reply = edge.post(&[("mcp-session-id", &session)], call).await;
                shows_nothing(&reply, &format!("{kind:?} {before} {is_claimed}"));
            }
        }
    }
}
