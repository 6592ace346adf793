//! Upstreams that redirect: within their origin they are followed, and remembered; elsewhere nothing goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;
use mcp::quirk::Quirk;

use crate::support::{Edge, META, Recorded, Reply, Upstream, edge_before, json, modern, status};

const LEGACY: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo"}}"#;

fn to(code: u16, place: &str) -> Response {
    let mut response = status(code, "moved");
    response.headers_mut().insert("location", place.parse().unwrap());
    response
}

/// Answers as a server of both eras does.
fn answer(request: &Recorded) -> Response {
    let id = request.id();
    match request.method().as_str() {
        "initialize" => {
            let version = request.json()["params"]["protocolVersion"].clone();
            json(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":{version},"capabilities":{{}}}}}}"#
            ))
        }
        "tools/call" => json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)),
        _ => status(202, ""),
    }
}

async fn call(edge: &Edge, era: &str) -> Reply {
    call_tool(edge, era, "u_echo").await
}

async fn call_tool(edge: &Edge, era: &str, tool: &str) -> Reply {
    let body = LEGACY.replace("u_echo", tool);
    if era == "legacy" {
        let session = edge.session("2025-11-25", "{}").await;
        return edge.post(&[("mcp-session-id", &session)], &body).await;
    }
    let body = body.replace(r#""}}"#, &format!(r#"",{META}}}}}"#));
    edge.post(&modern("tools/call", Some(tool)), &body).await
}

fn works(reply: &Reply) -> bool {
    reply.body.contains(r#""content":[]"#)
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_the_same_body_and_remembered() {
    for (code, place) in
        [(301, "/mcp/"), (302, "/mcp/"), (307, "mcp/"), (308, "HOST/mcp/"), (307, "/mcp/?a=b")]
    {
        for era in ["legacy", "modern"] {
            let upstream = Upstream::raw(move |request| match request.path.as_str() {
                "/mcp" => to(code, &place.replace("HOST", &format!("http://{}", request.header("host")))),
                _ => answer(request),
            })
            .await;
            let edge = edge_before(&upstream, era);
            for _ in 0..6 {
                assert!(works(&call(&edge, era).await), "{code} {place} {era}");
            }
            let requests = upstream.requests();
            let (first, followed): (Vec<_>, Vec<_>) =
                requests.iter().partition(|request| request.path == "/mcp");
            assert!(first.len() <= 2, "{code} {place} {era}: each worker remembers");
            let query = place.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
            let expected = format!("/mcp/{query}");
            assert!(followed.iter().all(|request| request.path == expected && request.verb == "POST"));
            assert!(first.iter().all(|request| followed.iter().any(|then| then.body == request.body)));
            let ran = followed.iter().filter(|request| request.method() == "tools/call");
            assert_eq!(ran.count(), 6, "{code} {place} {era}: each ran once");
            assert_eq!(edge.metrics.upstream_quirk(Quirk::Redirects).get(), first.len() as u64);
        }
    }
}

/// Frameworks for web pages lead from what was done to a page with its result.
#[tokio::test]
async fn a_call_that_is_led_to_its_result_is_not_made_again() {
    for code in [301, 302] {
        for era in ["legacy", "modern"] {
            let upstream = Upstream::raw(move |request| match request.method().as_str() {
                "tools/call" => to(code, "/result"),
                _ => answer(request),
            })
            .await;
            let edge = edge_before(&upstream, era);
            for calls in 1..=4 {
                assert_eq!(call(&edge, era).await.error_code(), -31104, "{code} {era}");
                assert_eq!(upstream.calls("tools/call").len(), calls, "{code} {era}");
            }
        }
    }
}

/// Some servers answer what they did by a status that says that it is not there.
#[tokio::test]
async fn a_call_that_is_answered_where_it_was_led_is_not_made_again() {
    for code in [404, 405] {
        for era in ["legacy", "modern"] {
            let upstream =
                Upstream::raw(move |request| match (request.path.as_str(), request.method().as_str()) {
                    ("/mcp", _) => to(307, "/mcp/"),
                    (_, "tools/call") => {
                        let id = request.id();
                        let mut answer = json(&format!(
                            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no such record"}}}}"#
                        ));
                        *answer.status_mut() = code.try_into().unwrap();
                        answer
                    }
                    _ => answer(request),
                })
                .await;
            let edge = edge_before(&upstream, era);
            for calls in 1..=4 {
                let reply = call(&edge, era).await;
                assert!(reply.body.contains("no such record"), "{code} {era}: {reply:?}");
                let ran = upstream
                    .requests()
                    .into_iter()
                    .filter(|request| request.path == "/mcp/" && request.method() == "tools/call");
                assert_eq!(ran.count(), calls, "{code} {era}: each ran once");
            }
        }
    }
}

/// Nothing says that it was not handled, and what it did.
#[tokio::test]
async fn a_call_that_may_have_run_where_it_was_led_is_not_made_again() {
    // In a legacy session 404 says that the session is not known, before anything is done.
    for (code, era) in [(404, "modern"), (405, "modern"), (405, "legacy")] {
        let upstream =
            Upstream::raw(move |request| match (request.path.as_str(), request.method().as_str()) {
                ("/mcp", _) => to(307, "/mcp/"),
                (_, "tools/call") if request.body.contains("echo") => status(code, "not allowed"),
                _ => answer(request),
            })
            .await;
        let edge = edge_before(&upstream, era);
        // It is known where it leads.
        for _ in 0..4 {
            assert!(works(&call_tool(&edge, era, "u_safe").await), "{code} {era}");
        }
        for calls in 1..=4 {
            assert!(!works(&call(&edge, era).await), "{code} {era}");
            let ran = upstream.calls("tools/call").into_iter();
            let ran = ran.filter(|request| request.path == "/mcp/" && request.body.contains("echo"));
            assert_eq!(ran.count(), calls, "{code} {era}: each ran once");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_moved_back_is_found_again() {
    for (era, tool) in
        [("legacy", "u_echo"), ("legacy", "u_safe"), ("modern", "u_echo"), ("modern", "u_safe")]
    {
        let moved = Arc::new(AtomicBool::new(true));
        let is_moved = Arc::clone(&moved);
        let upstream =
            Upstream::raw(move |request| match (request.path.as_str(), is_moved.load(Ordering::Relaxed)) {
                ("/mcp", true) => to(307, "/mcp/"),
                ("/mcp/", false) => status(404, "gone"),
                _ => answer(request),
            })
            .await;
        let edge = edge_before(&upstream, era);
        let mut failed = 0;
        for moves in [false, true, false] {
            for _ in 0..6 {
                failed += usize::from(!works(&call_tool(&edge, era, tool).await));
            }
            moved.store(moves, Ordering::Relaxed);
        }
        // What may not run twice is not sent again, so that one call fails on each worker.
        let most = if tool == "u_echo" { 2 } else { 0 };
        assert!(failed <= most, "{era} {tool}: {failed} failed");
    }
}

/// The first call that meets it follows, by the rules that hold before: none fails, and each runs once.
#[tokio::test]
async fn an_upstream_that_begins_to_redirect_costs_no_call() {
    for (code, place, follows) in [
        (307, "/new", true),
        (308, "/new", true),
        (301, "/mcp/", true),
        (302, "/mcp/", true),
        (302, "/new", false),
    ] {
        for era in ["legacy", "modern"] {
            let moved = Arc::new(AtomicBool::new(false));
            let is_moved = Arc::clone(&moved);
            let upstream = Upstream::raw(move |request| match request.path.as_str() {
                "/mcp" if is_moved.load(Ordering::Relaxed) && request.method() == "tools/call" => {
                    to(code, place)
                }
                _ => answer(request),
            })
            .await;
            let edge = edge_before(&upstream, era);
            for _ in 0..6 {
                assert!(works(&call(&edge, era).await), "{code} {era}");
            }
            moved.store(true, Ordering::Relaxed);
            for number in 1..=6 {
                let reply = call(&edge, era).await;
                assert_eq!(works(&reply), follows, "{code} {place} {era}: {reply:?}");
                let calls = upstream.calls("tools/call");
                let ran = calls.iter().filter(|request| request.path == place);
                assert_eq!(ran.count(), if follows { number } else { 0 }, "{code} {place} {era}");
            }
            let redirected = upstream.calls("tools/call").len() - 12;
            assert!(
                if follows { redirected <= 2 } else { redirected == 0 },
                "{redirected}: each worker remembers"
            );
        }
    }
}

#[tokio::test]
async fn a_redirect_to_another_origin_or_without_end_is_not_followed() {
    let elsewhere = Upstream::raw(answer).await;
    let other = elsewhere.url.clone();
    let places: [(u16, String); 7] = [
        (307, other.clone()),
        (308, other.replace("127.0.0.1", "localhost")),
        (307, "https://127.0.0.1/mcp".into()),
        (303, "/mcp/".into()),
        (307, "/mcp".into()),
        (307, "/next".into()),
        (307, "http://[".into()),
    ];
    for (code, place) in places {
        for era in ["legacy", "modern"] {
            let place = place.clone();
            let upstream = Upstream::raw(move |request| match request.path.strip_prefix("/next") {
                // On and on.
                Some(so_far) => to(code, &format!("/next{so_far}x")),
                None if request.path == "/mcp/" => answer(request),
                None => to(code, &place),
            })
            .await;
            let edge = edge_before(&upstream, era);
            let refused = call(&edge, era).await;
            assert_eq!(refused.error_code(), -31104, "{code} {era}: {refused:?}");
            assert!(upstream.requests().len() <= 6, "{code} {era}: {}", upstream.requests().len());
        }
    }
    assert!(elsewhere.requests().is_empty(), "nothing goes elsewhere");
}
