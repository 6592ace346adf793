//! What a client hands on by the names of its server reaches the upstream by the upstream's own.

use crate::eras::{ask, legacy_only, modern_only, open_stream};
use crate::streams::until;
use crate::support::{Edge, Recorded, Reply, Upstream, eventually, id, json, modern, status};

const CAN: &str = r#"{"elicitation":{}}"#;
/// What a client may pass on, and what its upstream is sent of it.
const GIVEN: &str = r#"{"a":"u+file:///r","b":[1.50,{"c":"u+file:///t/1"}],"text":"see u+file:///r","none":"u+file:///elsewhere","own":"file:///r","u+file:///r":null}"#;
const SENT: &str = r#"{"a":"file:///r","b":[1.50,{"c":"file:///t/1"}],"text":"see u+file:///r","none":"u+file:///elsewhere","own":"file:///r","u+file:///r":null}"#;

fn done(request: &Recorded) -> axum::response::Response {
    json(&format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","content":[]}}}}"#,
        request.id()
    ))
}

/// Calls a tool in an era of clients.
async fn call(edge: &Edge, era: &str, params: &str, tool: &str) -> Reply {
    let params = format!(r#""name":"{tool}",{params}"#);
    if era == "modern" {
        let body = ask("7", "tools/call", &format!("{params},"), CAN, "");
        return edge.post(&modern("tools/call", Some(tool)), &body).await;
    }
    let session = edge.session("2025-11-25", "{}").await;
    let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{{params}}}}}"#);
    edge.post(&[("mcp-session-id", &session)], &body).await
}

#[tokio::test]
async fn a_uri_that_is_an_argument_is_the_upstreams_own() {
    for before in [legacy_only, modern_only] {
        let upstream = Upstream::start(done).await;
        let edge = before(&upstream);
        for era in ["legacy", "modern"] {
            let called = upstream.calls("tools/call").len();
            let reply = call(&edge, era, &format!(r#""arguments":{GIVEN}"#), "u_echo").await;
            assert!(reply.status == 200 && reply.body.contains("content"), "{reply:?}");
            let sent = upstream.calls("tools/call").remove(called).body;
            assert!(sent.contains(&format!(r#""name":"echo","arguments":{SENT}"#)), "{era}: {sent}");
        }
    }
}

#[tokio::test]
async fn a_uri_that_the_caller_may_not_read_stays_as_it_is() {
    let upstream = Upstream::start(done).await;
    let edge = modern_only(&upstream);
    let body = ask("7", "tools/call", &format!(r#""name":"u_echo","arguments":{GIVEN},"#), "{}", "");
    let request = edge.bare("POST", "dev", &body).bearer_auth(edge.keys.bearer("some"));
    let headers = modern("tools/call", Some("u_echo"));
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    assert_eq!(Reply::of(request).await.status, 200);
    assert!(upstream.calls("tools/call")[0].body.contains(GIVEN));
}

#[tokio::test]
async fn a_header_repeats_the_argument_that_is_sent() {
    let upstream = Upstream::start(done).await;
    let edge = modern_only(&upstream);
    let body = ask("7", "tools/call", r#""name":"u_region","arguments":{"region":"u+file:///r"},"#, "{}", "");
    let mut headers = modern("tools/call", Some("u_region"));
    headers.push(("mcp-param-region", "u+file:///r"));
    assert_eq!(edge.post(&headers, &body).await.status, 200);
    let sent = &upstream.calls("tools/call")[0];
    assert_eq!(sent.json()["params"]["arguments"]["region"], "file:///r");
    assert_eq!(sent.header("mcp-param-region"), "file:///r");
}

/// An upstream of either era that asks once.
async fn asking(era: &'static str) -> Upstream {
    let asks = r#""params":{"message":"?","requestedSchema":{}}"#;
    Upstream::start(move |request| match era {
        _ if request.verb == "GET" => status(405, ""),
        _ if request.method().is_empty() => status(202, ""),
        "legacy" => open_stream(&format!(
            "data: {{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\",{asks}}}\n\n"
        )),
        _ if !request.json()["params"]["inputResponses"].is_null() => done(request),
        _ => json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"input_required","inputRequests":{{"question-1":{{"method":"elicitation/create",{asks}}}}},"requestState":"s"}}}}"#,
            request.id()
        )),
    })
    .await
}

#[tokio::test]
async fn a_uri_that_is_an_answer_is_the_upstreams_own() {
    let answer = |content: &str| format!(r#"{{"action":"accept","content":{content}}}"#);
    for (upstream_era, before) in [("legacy", legacy_only as fn(&Upstream) -> Edge), ("modern", modern_only)]
    {
        for era in ["legacy", "modern"] {
            let upstream = asking(upstream_era).await;
            let edge = before(&upstream);
            // Both are kept until the upstream has its answer.
            let _stream = if era == "legacy" {
                let session = edge.session("2025-11-25", CAN).await;
                let headers = [("mcp-session-id", session.as_str())];
                let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"u_echo"}}"#;
                let mut stream = edge.request("POST", &headers, body).send().await.unwrap();
                let seen = until(&mut stream, "elicitation/create").await;
                let question = seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                let answer =
                    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, id(question), answer(GIVEN));
                assert_eq!(edge.post(&headers, &answer).await.status, 202);
                Some(stream)
            } else {
                let asked = call(&edge, era, r#""arguments":{}"#, "u_echo").await;
                let asked: serde_json::Value =
                    serde_json::from_str(asked.messages().last().unwrap()).unwrap();
                let state = asked["result"]["requestState"].as_str().expect("it is asked");
                let input = format!(
                    r#""arguments":{{}},"inputResponses":{{"question-1":{}}},"requestState":"{state}""#,
                    answer(GIVEN)
                );
                let body = ask("7", "tools/call", &format!(r#""name":"u_echo",{input},"#), CAN, "");
                let retry = edge.request("POST", &modern("tools/call", Some("u_echo")), &body);
                tokio::spawn(async move { drop(retry.send().await) });
                None
            };
            let has_answer =
                || upstream.requests().iter().any(|request| request.body.contains(&answer(SENT)));
            eventually(&format!("a {era} client answers a {upstream_era} upstream"), has_answer).await;
            assert!(!upstream.requests().iter().any(|request| request.body.contains(&answer(GIVEN))));
        }
    }
}
