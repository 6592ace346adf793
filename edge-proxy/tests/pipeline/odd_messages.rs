//! Upstreams that say what they mean in odd ways, on all paths between the eras: what has one meaning reaches the client as
//! valid MCP under its own id, and what has none is an error that quotes it. Every call is made once.

use axum::body::Body;
use axum::response::Response;
use mcp::quirk::Quirk;

use crate::eras::{ask, legacy_only, modern_only, open_body, open_stream};
use crate::support::{Edge, Recorded, Reply, Upstream, events, json, modern, status};

/// How a server answers a request of this id, and the quirk that it is.
type OddAnswer = (fn(&str) -> String, Quirk);

/// The id of every call, which upstreams of the modern era see as it is.
const ID: &str = "7";

/// A client and an upstream, by the eras that they speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    SameLegacy,
    SameModern,
    LegacyOnModern,
    ModernOnLegacy,
}

const PATHS: [Path; 4] = [Path::SameLegacy, Path::SameModern, Path::LegacyOnModern, Path::ModernOnLegacy];

impl Path {
    fn edge(self, upstream: &Upstream) -> Edge {
        match self {
            Self::SameLegacy | Self::ModernOnLegacy => legacy_only(upstream),
            Self::SameModern | Self::LegacyOnModern => modern_only(upstream),
        }
    }

    async fn call(self, edge: &Edge, tool: &str, more: &str) -> Reply {
        let params = format!(r#""name":"{tool}","arguments":{{}}"#);
        match self {
            Self::SameLegacy | Self::LegacyOnModern => {
                let session = edge.session("2025-11-25", "{}").await;
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":{ID},"method":"tools/call","params":{{{params},"_meta":{{"a":1{more}}}}}}}"#
                );
                edge.post(&[("mcp-session-id", &session)], &body).await
            }
            Self::SameModern | Self::ModernOnLegacy => {
                let body = ask(ID, "tools/call", &format!("{params},"), "{}", more);
                edge.post(&modern("tools/call", Some(tool)), &body).await
            }
        }
    }
}

type Answer = fn(&str) -> Response;

/// Makes the same call on every path to an upstream that answers so; returns the last message and the edge.
async fn on_all_paths(answer: Answer) -> Vec<(Path, String, Edge)> {
    let mut answered = Vec::new();
    for path in PATHS {
        let upstream = Upstream::start(move |request: &Recorded| answer(&request.id())).await;
        let edge = path.edge(&upstream);
        let reply = path.call(&edge, "u_echo", "").await;
        assert_eq!(upstream.calls("tools/call").len(), 1, "{path:?}: {}", reply.body);
        answered.push((path, reply.messages().pop().unwrap(), edge));
    }
    answered
}

/// A response with this raw id, whose result is told from all others.
fn response(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"resultType":"complete","k":1}}}}"#)
}

fn labelled(label: Option<&str>, body: impl Into<Body>) -> Response {
    let response = Response::builder();
    let response = label.into_iter().fold(response, |response, label| response.header("content-type", label));
    response.body(body.into()).unwrap()
}

fn stream(events: &str) -> Response {
    labelled(Some("text/event-stream"), events.to_owned())
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// The streams of real servers that have the response in them.
#[tokio::test]
async fn a_stream_may_carry_what_is_no_message() {
    let cases: [(Answer, Quirk); 10] = [
        (|id| open_stream(&format!("data: {}\n", response(id))), Quirk::UnendedEvents),
        (|id| stream(&format!("data: {}\n", response(id))), Quirk::UnendedEvents),
        (
            |id| stream(&format!("event: ping\ndata: ping - 2026\n\n{}", event(&response(id)))),
            Quirk::ForeignEvents,
        ),
        // One that would parse, and would even be the response.
        (
            |id| {
                let other = response(id).replace(r#""k":1"#, r#""k":2"#);
                stream(&format!("event: heartbeat\ndata: {other}\n\n{}", event(&response(id))))
            },
            Quirk::ForeignEvents,
        ),
        (|id| stream(&(event("ping - 2026") + &event(&response(id)))), Quirk::UnreadableMessages),
        (|id| stream(&(event(r#"{"type":"heartbeat"}"#) + &event(&response(id)))), Quirk::UnreadableMessages),
        (
            |id| {
                let other = response("987654321").replace(r#""k":1"#, r#""k":2"#);
                stream(&(event(&other) + &event(&response(id))))
            },
            Quirk::UnreadableMessages,
        ),
        (
            |id| {
                let odd = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progressToken":2}}"#;
                stream(&(event(odd) + &event(&response(id))))
            },
            Quirk::UnreadableMessages,
        ),
        (
            |id| {
                let odd = r#"{"jsonrpc":"2.0","id":null,"method":"notifications/touched","params":[]}"#;
                stream(&(event(odd) + &event(&response(id))))
            },
            Quirk::NullMembers,
        ),
        // A response to something else, as its name tells only when the one to the call comes.
        (
            |id| {
                let unnamed = response("null").replace(r#""k":1"#, r#""k":2"#);
                stream(&(event(&unnamed) + &event(&response(id))))
            },
            Quirk::IdsMissing,
        ),
    ];
    for (number, (answer, quirk)) in cases.into_iter().enumerate() {
        for (path, message, edge) in on_all_paths(answer).await {
            is_answered(&message, &format!("{number} {path:?}"));
            assert_eq!(edge.metrics.upstream_quirk(quirk).get(), 1, "{number} {path:?}");
        }
    }
}

fn is_answered(message: &str, what: &str) {
    let value: serde_json::Value =
        serde_json::from_str(message).unwrap_or_else(|_| panic!("{what}: {message}"));
    assert_eq!(value["result"]["k"], 1, "{what}: {message}");
    assert_eq!(value["jsonrpc"], "2.0", "{what}: {message}");
    assert!(message.contains(&format!(r#""id":{ID}"#)), "{what}: {message}");
}

#[tokio::test]
async fn a_response_may_spell_its_id_in_another_way_or_leave_it_out() {
    let spellings: [OddAnswer; 5] = [
        (|id| format!("\"{id}\""), Quirk::IdsRespelt),
        (|id| format!("{id}.0"), Quirk::IdsRespelt),
        (|id| format!("\"{id}.0\""), Quirk::IdsRespelt),
        (|_| "null".to_owned(), Quirk::IdsMissing),
        (|_| String::new(), Quirk::IdsMissing),
    ];
    for (number, (spell, quirk)) in spellings.into_iter().enumerate() {
        for streamed in [false, true] {
            for path in PATHS {
                let upstream = Upstream::start(move |request: &Recorded| {
                    let spelt = spell(&request.id());
                    let body = match spelt.as_str() {
                        "" => response("0").replace(r#""id":0,"#, ""),
                        spelt => response(spelt),
                    };
                    if streamed { events(&[body]) } else { json(&body) }
                })
                .await;
                let edge = path.edge(&upstream);
                let reply = path.call(&edge, "u_echo", "").await;
                let what = format!("{number} {streamed} {path:?}");
                is_answered(&reply.messages().pop().unwrap(), &what);
                assert_eq!(edge.metrics.upstream_quirk(quirk).get(), 1, "{what}");
                assert_eq!(upstream.calls("tools/call").len(), 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn progress_may_spell_its_token_in_another_way() {
    for path in PATHS {
        let upstream = Upstream::start(|request: &Recorded| {
            let token = request.json()["params"]["_meta"]["progressToken"].to_string();
            let progress = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{token}","progress":1}}}}"#
            );
            events(&[progress, response(&request.id())])
        })
        .await;
        let edge = path.edge(&upstream);
        let messages = path.call(&edge, "u_echo", r#","progressToken":3"#).await.messages();
        assert!(
            messages.iter().any(|message| message.contains(r#""progressToken":3"#)),
            "{path:?}: {messages:?}"
        );
    }
}

#[tokio::test]
async fn what_has_one_meaning_is_mended() {
    let cases: [OddAnswer; 5] = [
        (|id| response(id).replace(r#""jsonrpc":"2.0","#, ""), Quirk::NoVersionMember),
        (|id| response(id).replace(r#""2.0""#, "2.0"), Quirk::NoVersionMember),
        (|id| format!("[{}]", response(id)), Quirk::ListOfOne),
        (|id| response(id).replace(r#""k":1"#, r#""v":NaN,"k":1,"w":[-Infinity]"#), Quirk::NonFinite),
        (|id| format!("\u{feff}{}", response(id)), Quirk::ByteOrderMark),
    ];
    for (number, (body, quirk)) in cases.into_iter().enumerate() {
        for streamed in [false, true] {
            for path in PATHS {
                let upstream = Upstream::start(move |request: &Recorded| {
                    let body = body(&request.id());
                    if streamed { stream(&event(&body)) } else { json(&body) }
                })
                .await;
                let edge = path.edge(&upstream);
                let reply = path.call(&edge, "u_echo", "").await;
                let what = format!("{number} {streamed} {path:?}");
                let message = reply.messages().pop().unwrap();
                // A decoder of events takes off the mark at the start of its stream, and data begins later.
                is_answered(&message, &what);
                assert!(!message.contains("NaN") && !message.contains("Infinity"), "{what}: {message}");
                assert_eq!(edge.metrics.upstream_quirk(quirk).get(), 1, "{what}");
            }
        }
    }
}

/// SDKs drop a whole message for one `null`, and their callers wait until they time out.
#[tokio::test]
async fn what_is_null_for_absent_does_not_reach_the_client() {
    let cases: [fn(&str) -> String; 3] = [
        |id| response(id).replace(r#""result""#, r#""error":null,"method":null,"params":null,"result""#),
        |id| response(id).replace(r#""k":1"#, r#""isError":null,"k":1,"_meta":null"#),
        |id| {
            let block = r#"[{"type":"text","text":"t","annotations":null,"_meta":{"progressToken":null}}]"#;
            response(id).replace("[]", block)
        },
    ];
    for (number, body) in cases.into_iter().enumerate() {
        for streamed in [false, true] {
            for path in PATHS {
                let upstream = Upstream::start(move |request: &Recorded| {
                    let body = body(&request.id());
                    if streamed { stream(&event(&body)) } else { json(&body) }
                })
                .await;
                let edge = path.edge(&upstream);
                let message = path.call(&edge, "u_echo", "").await.messages().pop().unwrap();
                let what = format!("{number} {streamed} {path:?}");
                is_answered(&message, &what);
                assert!(!message.contains("null"), "{what}: {message}");
                assert_eq!(edge.metrics.upstream_quirk(Quirk::NullMembers).get(), 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn errors_that_no_sdk_reads_reach_the_client_completed() {
    let cases = [
        (r#"{"code":"-32000","message":"m"}"#, r#"{"code":-32000,"message":"m"}"#),
        (r#"{"message":"m"}"#, r#"{"code":-32603,"message":"m"}"#),
        (r#""m""#, r#"{"code":-32603,"message":"m"}"#),
        (r#"{"code":-32000,"message":null,"data":"m"}"#, r#"{"code":-32000,"message":"m","data":"m"}"#),
    ];
    for (error, completed) in cases {
        for streamed in [false, true] {
            for path in PATHS {
                let upstream = Upstream::start(move |request: &Recorded| {
                    let body = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, request.id());
                    if streamed { stream(&event(&body)) } else { json(&body) }
                })
                .await;
                let edge = path.edge(&upstream);
                let message = path.call(&edge, "u_echo", "").await.messages().pop().unwrap();
                let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{ID},"error":{completed}}}"#);
                assert_eq!(parsed(&message), parsed(&answer), "{error} {streamed} {path:?}");
                assert!(edge.metrics.upstream_quirk(Quirk::OddErrors).get() > 0, "{error} {path:?}");
            }
        }
    }
}

/// A body in blocks that are not compressed (RFC 1951 section 3.2.4).
fn deflated(body: &str) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&[1], &length.to_le_bytes()[..], &(!length).to_le_bytes(), body.as_bytes()].concat()
}

fn encoded(coding: &str, label: &str, body: impl Into<Body>) -> Response {
    let response = Response::builder().header("content-type", label).header("content-encoding", coding);
    response.body(body.into()).unwrap()
}

#[tokio::test]
async fn a_body_may_carry_another_label_than_it_should() {
    let cases: [(Answer, Quirk); 13] = [
        // Those that stay open are told by how they begin.
        (|id| open_body("application/json", &event(&response(id))), Quirk::WrongLabel),
        (
            |id| open_body("application/json", &format!(": a comment\n\n{}", event(&response(id)))),
            Quirk::WrongLabel,
        ),
        (|id| open_body("text/plain", &event(&response(id))), Quirk::WrongLabel),
        (|id| open_body("text/event-stream", &response(id)), Quirk::WrongLabel),
        (|id| labelled(None, response(id)), Quirk::WrongLabel),
        (|id| labelled(Some("text/plain"), response(id)), Quirk::WrongLabel),
        (|id| labelled(Some("text/html; charset=utf-8"), format!("\n {}", response(id))), Quirk::WrongLabel),
        (|id| labelled(Some("text/event-stream"), response(id)), Quirk::WrongLabel),
        (|id| labelled(Some("application/json"), event(&response(id))), Quirk::WrongLabel),
        (|id| labelled(None, event(&response(id))), Quirk::WrongLabel),
        (|id| encoded("utf-8", "application/json", response(id)), Quirk::WrongLabel),
        (|id| encoded("deflate", "application/json", deflated(&response(id))), Quirk::UnaskedCoding),
        (|id| encoded("deflate", "text/event-stream", deflated(&event(&response(id)))), Quirk::UnaskedCoding),
    ];
    for (number, (answer, quirk)) in cases.into_iter().enumerate() {
        for (path, message, edge) in on_all_paths(answer).await {
            let what = format!("{number} {path:?}");
            is_answered(&message, &what);
            assert_eq!(edge.metrics.upstream_quirk(quirk).get(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_handshake_and_a_refusal_may_carry_another_label() {
    let forms: [fn(&str) -> Response; 5] = [
        |body| open_body("application/json", &event(body)),
        |body| open_body("text/event-stream", body),
        |body| open_body("text/plain", &event(body)),
        |body| labelled(Some("text/event-stream"), body.to_owned()),
        |body| labelled(None, body.to_owned()),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let upstream = Upstream::raw(move |request: &Recorded| match request.method().as_str() {
            "initialize" => form(&format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{"name":"u","version":"1"}}}}}}"#,
                request.id()
            )),
            "notifications/initialized" => status(202, ""),
            _ => {
                let error = r#""error":{"code":-32602,"message":"the words of the upstream"}"#;
                let mut refused = form(&format!(r#"{{"jsonrpc":"2.0","id":{},{error}}}"#, request.id()));
                *refused.status_mut() = http::StatusCode::BAD_REQUEST;
                refused
            }
        })
        .await;
        let edge = legacy_only(&upstream);
        let reply = Path::SameLegacy.call(&edge, "u_echo", "").await;
        assert!(reply.body.contains("the words of the upstream"), "{number}: {}", reply.body);
        assert!(edge.metrics.upstream_quirk(Quirk::WrongLabel).get() >= 1, "{number}");
    }
}

#[tokio::test]
async fn what_has_no_meaning_is_an_error_that_quotes_it() {
    let cases: [(Answer, &str); 11] = [
        (|_| json(&response("987654321")), "it answered request 987654321, but was asked"),
        (|_| stream(&event(&response("987654321"))), "it answered request 987654321, but was asked"),
        (|_| stream(&(event("no \u{1b}[31m message") + &event("second"))), "it says \\\"no "),
        (|_| json("no message"), "it says \\\"no message\\\""),
        (
            |_| labelled(Some("text/html"), "<html>none</html>"),
            "the content type is \\\"text/html\\\"; it says \\\"<html>none</html>\\\"",
        ),
        (|_| encoded("br", "application/json", "{}"), "its body is encoded as br, which was not asked for"),
        (
            |_| encoded("gzip", "application/json", response("7")),
            "its body is not compressed as its Content-Encoding says",
        ),
        (|_| stream(&event(&response("null")).repeat(2)), "it sent several responses without an id"),
        // The stream stays open: it was the response, and no other comes.
        (
            |id| open_stream(&event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"k":tru}}}}"#))),
            r#"\"k\":tru"#,
        ),
        // So does this one, which goes on without end.
        (|_| open_stream(&event("noise").repeat(1_001)), "it says \\\"noise\\\""),
        (
            |_| open_stream(&event(&response("987654321")).repeat(1_001)),
            "it answered request 987654321, but was asked",
        ),
    ];
    for (number, (answer, expected)) in cases.into_iter().enumerate() {
        for (path, message, _) in on_all_paths(answer).await {
            let what = format!("{number} {path:?}: {message}");
            assert!(message.contains("-31105") && message.contains(expected), "{what}");
            assert!(message.contains(&format!(r#""id":{ID}"#)) && !message.contains('\u{1b}'), "{what}");
        }
    }
}

/// A result that mentions a page, in the places that have URIs.
fn mentioning(id: &str, listed: &str, produced: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","k":1,"content":[{{"type":"resource_link", "uri":"{listed}","name":"file:///r"}},{{"type":"resource","resource":{{"uri":"{produced}","text":"file:///r"}}}},{{"type":"resource_link","uri":"https://elsewhere/r","name":"e"}},{{"type":"text","text":"file:///r"}}],"structuredContent":{{"uri":"file:///r"}}}}}}"#
    )
}

#[tokio::test]
async fn a_client_can_read_what_a_result_mentions() {
    for path in PATHS {
        for streamed in [false, true] {
            let upstream = Upstream::start(move |request: &Recorded| {
                let body = mentioning(&request.id(), "file:///r", "file:///t/1");
                if streamed { events(&[body]) } else { json(&body) }
            })
            .await;
            let edge = path.edge(&upstream);
            let message = path.call(&edge, "u_echo", "").await.messages().pop().unwrap();
            assert_eq!(message, mentioning(ID, "u+file:///r", "u+file:///t/1"), "{path:?} {streamed}");
        }
    }
}

#[tokio::test]
async fn a_client_can_read_what_it_is_asked_about() {
    let sampling = |uri: &str| {
        format!(
            r#""params":{{"messages":[{{"role":"user","content":{{"type":"resource_link","uri":"{uri}"}}}}],"maxTokens":1}}"#
        )
    };
    for path in PATHS {
        let upstream = Upstream::start(move |request: &Recorded| {
            let asked = sampling("file:///r");
            if request.method().is_empty() {
                return status(202, "");
            }
            match path {
                Path::SameLegacy | Path::ModernOnLegacy => {
                    open_stream(&event(&format!(r#"{{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage",{asked}}}"#)))
                }
                Path::SameModern | Path::LegacyOnModern => json(&format!(
                    r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"input_required","inputRequests":{{"q":{{"method":"sampling/createMessage",{asked}}}}},"requestState":"s"}}}}"#,
                    request.id()
                )),
            }
        })
        .await;
        let edge = path.edge(&upstream);
        let capabilities = r#"{"sampling":{}}"#;
        let request = match path {
            Path::SameLegacy | Path::LegacyOnModern => {
                let session = edge.session("2025-11-25", capabilities).await;
                let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"u_echo"}}"#;
                edge.request("POST", &[("mcp-session-id", &session)], body)
            }
            Path::SameModern | Path::ModernOnLegacy => {
                let body = ask(ID, "tools/call", r#""name":"u_echo","#, capabilities, "");
                edge.request("POST", &modern("tools/call", Some("u_echo")), &body)
            }
        };
        let mut response = request.send().await.unwrap();
        let mut seen = String::new();
        while !seen.contains("maxTokens") {
            let chunk = response.chunk().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("{path:?}: {seen}"));
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert!(seen.contains(r#""uri":"u+file:///r""#), "{path:?}: {seen}");
    }
}
