//! Changed resources and lists, told across the eras: a modern client of a legacy upstream, and the other way round.

use ::mcp::quirk::Quirk;

use crate::eras::{ask, legacy_only, modern_only, next_message, open_stream};
use crate::support::{Edge, Recorded, Upstream, eventually, json, mcp, modern};
use trunkline::edge::v1 as wire;

const TELLS: &str = r#"{"resources":{"subscribe":true}}"#;

/// Tells of a changed resource as soon as it is asked to, in the one era that it speaks.
fn telling(request: &Recorded) -> axum::response::Response {
    // It leaves `jsonrpc` out, as some do.
    let told = r#"{"method":"notifications/resources/updated","params":{"uri":"file:///r"}}"#;
    // Events of other types say nothing, whatever their data, and neither does what is no message.
    let odd = format!(": a comment\n\nevent: heartbeat\ndata: {told}\n\ndata: alive\n\n");
    match (request.verb.as_str(), request.method().as_str()) {
        ("GET", _) => open_stream(&format!("{odd}data: {told}\n\n")),
        (_, "subscriptions/listen") => open_stream(&format!(
            "{odd}data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{}}}}\n\ndata: {told}\n\n"
        )),
        _ => json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id())),
    }
}

/// Tells of parts of a resource, of which the client may read the last.
fn telling_of_parts(request: &Recorded) -> axum::response::Response {
    let mut told = r#"data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}

"#
    .to_owned();
    for uri in ["file:///r/hidden", "file:///rest", "file:///r/part"] {
        let method = "notifications/resources/updated";
        told += &format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"uri\":\"{uri}\"}}}}\n\n"
        );
    }
    match (request.verb.as_str(), request.method().as_str()) {
        ("GET", _) | (_, "subscriptions/listen") => open_stream(&told),
        _ => json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id())),
    }
}

/// A server may name a part of what was subscribed to. Who may not read that part is not told.
#[tokio::test]
async fn a_listen_hears_of_the_parts_of_a_resource_that_it_may_read() {
    for modern_upstream in [false, true] {
        let upstream = Upstream::start(telling_of_parts).await;
        let mut edge = if modern_upstream { modern_only(&upstream) } else { legacy_only(&upstream) };
        let resources = &mut edge.snapshot.resources;
        let settings = mcp(&mut resources.upstreams[0]);
        (settings.legacy_capabilities_json, settings.modern_capabilities_json) = (TELLS.into(), TELLS.into());
        for (name, uri) in [("part", "file:///r/part"), ("rest", "file:///rest")] {
            resources.resources.push(wire::Resource {
                name: format!("upstreams/u/resources/{name}"),
                uri: uri.into(),
                definition_json: format!(r#"{{"uri":"{uri}","name":"{name}"}}"#),
                ..Default::default()
            });
            resources.servers[0].resources.push(wire::Entry {
                exposed_name: format!("u+{uri}"),
                target: format!("upstreams/u/resources/{name}"),
                uri_prefix: "u+".into(),
                ..Default::default()
            });
        }
        edge.publish();
        let wanted = r#""notifications":{"resourceSubscriptions":["u+file:///r"]},"#;
        let body = ask("1", "subscriptions/listen", wanted, "{}", "");
        let request = edge.request("POST", &modern("subscriptions/listen", None), &body);
        let mut stream = request.send().await.unwrap();
        assert!(next_message(&mut stream).await.contains("acknowledged"));
        assert_eq!(
            next_message(&mut stream).await,
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u+file:///r/part","_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#
        );
    }
}

/// What the server says of its resources in `server/discover` or `initialize`.
fn says_it_tells(body: &str) -> bool {
    body.contains(r#""resources":{"subscribe":true,"listChanged":true}"#)
}

#[tokio::test]
async fn a_modern_listen_hears_of_a_legacy_upstreams_resources() {
    let upstream = Upstream::start(telling).await;
    let mut edge = legacy_only(&upstream);
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json = TELLS.into();
    edge.publish();
    let discovered =
        edge.post(&modern("server/discover", None), &ask("1", "server/discover", "", "{}", "")).await;
    assert!(says_it_tells(&discovered.body), "{}", discovered.body);
    let wanted = r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["u+file:///r"]},"#;
    let body = ask("1", "subscriptions/listen", wanted, "{}", "");
    let request = edge.request("POST", &modern("subscriptions/listen", None), &body);
    let mut stream = request.send().await.unwrap();
    let subscription = r#""_meta":{"io.modelcontextprotocol/subscriptionId":1}"#;
    let notice = |method: &str, params: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{{params}{subscription}}}}}"#
        )
    };
    assert_eq!(next_message(&mut stream).await, notice("subscriptions/acknowledged", wanted));
    assert_eq!(next_message(&mut stream).await, notice("resources/updated", r#""uri":"u+file:///r","#));
    let subscribed = upstream.calls("resources/subscribe");
    assert_eq!((subscribed.len(), upstream.calls("subscriptions/listen").len()), (1, 0));
    assert_eq!(subscribed[0].json()["params"]["uri"], "file:///r");
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(next_message(&mut stream).await, notice("tools/list_changed", ""));
    assert!(edge.metrics.upstream_quirk(Quirk::ForeignEvents).get() > 0);
    drop(stream);
    ended(&upstream).await;
}

/// Waits until the session that watched is ended at the upstream.
async fn ended(upstream: &Upstream) {
    let is_ended = || upstream.requests().iter().any(|request| request.verb == "DELETE");
    eventually("the session at the upstream ends", is_ended).await;
}

#[tokio::test]
async fn a_legacy_session_hears_of_a_modern_upstreams_resources() {
    let upstream = Upstream::raw(telling).await;
    let mut edge: Edge = modern_only(&upstream);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json = TELLS.into();
    edge.publish();
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let opened = edge.post(&[], initialize).await;
    assert!(says_it_tells(&opened.body), "{}", opened.body);
    let headers = [("mcp-session-id", opened.header("mcp-session-id"))];
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    assert_eq!(&stream.chunk().await.unwrap().unwrap()[..], b": keep-alive\n\n");
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
    assert_eq!(edge.post(&headers, subscribe).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(
        next_message(&mut stream).await,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u+file:///r"}}"#
    );
    let listened = &upstream.calls("subscriptions/listen")[0].json()["params"]["notifications"];
    assert_eq!(*listened, serde_json::json!({"resourceSubscriptions": ["file:///r"]}));
    let legacy = ["initialize", "resources/subscribe"].map(|method| upstream.calls(method).len());
    assert_eq!(legacy, [0, 0]);
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(
        next_message(&mut stream).await,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
    );
    assert!(edge.metrics.upstream_quirk(Quirk::ForeignEvents).get() > 0);
}
