//! Conditions of tokens: on every transport and in every era, in what is listed and in what may be called.

use serde_json::{Value, json};

use crate::eras::ask;
use crate::support::{Edge, Reply, Socket, Sse, Upstream, initialize, json as answer, modern};
use crate::withdrawn::closed_window;

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;

/// Answers everything, as an upstream does that has nothing to say.
pub(crate) async fn upstream() -> Upstream {
    Upstream::start(|request| {
        answer(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
    .await
}

pub(crate) fn value(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"))
}

/// Every way to a server, and what each is refused with.
async fn doors(edge: &Edge) -> Vec<(&'static str, Reply)> {
    let bearer = format!("Bearer {}", edge.bearer);
    let listed = ask("1", "tools/list", "", "{}", "");
    let mut doors = vec![
        ("a legacy request", edge.post(&[], &initialize("2025-11-25", "{}")).await),
        ("a modern request", edge.post(&modern("tools/list", None), &listed).await),
        ("a stream of events", Reply::of(edge.request("GET", &[], "")).await),
    ];
    for (what, method, path) in
        [("a ticket", "POST", "/servers/dev/ws/ticket"), ("HTTP+SSE", "GET", "/servers/dev/sse")]
    {
        let request = edge.at(method, path, "").header("authorization", &bearer);
        doors.push((what, Reply::of(request).await));
    }
    doors
}

#[tokio::test]
async fn what_does_not_hold_is_refused_at_every_door_with_the_reason() {
    let refused = [
        ("not_yet_valid", "this token is not valid yet"),
        ("address_not_allowed", "this token may not be used from this address"),
        ("outside_time_window", "this token may not be used at this time"),
    ];
    for (reason, message) in refused {
        let mut edge = Edge::start(&upstream().await.url);
        drop(Socket::open(&edge).await);
        let access = edge.snapshot.access();
        match reason {
            "not_yet_valid" => {
                access.not_before = Some(prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 });
            }
            "address_not_allowed" => access.from = vec!["192.0.2.0/24".into(), "::1".into()],
            _ => access.windows = vec![closed_window()],
        }
        edge.publish();
        let error = json!({"code": -31012, "message": message, "data": {"reason": reason}});
        for (what, reply) in doors(&edge).await {
            assert_eq!((reply.status, &value(&reply.body)["error"]), (403, &error), "{what}");
            let retry_after: Option<u64> = reply.header("retry-after").parse().ok();
            // It opens on another day.
            let expected = reason == "outside_time_window";
            assert_eq!(retry_after.is_some_and(|after| after > 3_600), expected, "{what}: {retry_after:?}");
        }
        let bearer = format!("Bearer {}", edge.bearer);
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "mcp")];
        let (status, body) = Socket::connect(&edge, "/servers/dev/ws", &headers).await.err().unwrap();
        assert_eq!((status, &value(&body)["error"]), (403, &error));
        // Whoever may not even ask learns of no server.
        let unknown = edge.bare("POST", "none", LIST).bearer_auth(&edge.bearer);
        assert_eq!(Reply::of(unknown).await.status, 403);
    }
}

#[tokio::test]
async fn what_holds_is_let_in_at_every_door() {
    let mut edge = Edge::start(&upstream().await.url);
    let access = edge.snapshot.access();
    access.not_before = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    access.from = vec!["192.0.2.0/24".into(), "127.0.0.0/8".into()];
    access.windows = vec!["daily 00:00-24:00 Europe/Berlin".into(), closed_window()];
    access.methods = vec!["*".into()];
    edge.publish();
    assert_eq!(edge.post(&[], &initialize("2025-11-25", "{}")).await.status, 200);
    let listed = edge.post(&modern("tools/list", None), &ask("1", "tools/list", "", "{}", "")).await;
    assert_eq!(listed.body.matches("inputSchema").count(), 4, "{}", listed.body);
    let ticket = edge.at("POST", "/servers/dev/ws/ticket", "").bearer_auth(&edge.bearer);
    assert_eq!(Reply::of(ticket).await.status, 200);
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    let mut sse = Sse::session(&edge, "2024-11-05", "{}").await;
    let listed = socket.ask(LIST).await;
    assert!(listed.contains("u_echo"), "{listed}");
    assert_eq!(value(&sse.ask(LIST).await), value(&listed));
}

#[tokio::test]
async fn a_token_that_is_suspended_is_not_valid() {
    let mut edge = Edge::start(&upstream().await.url);
    edge.snapshot.access().suspended = true;
    edge.publish();
    for (what, reply) in doors(&edge).await {
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, r#"Bearer error="invalid_token""#),
            "{what}"
        );
    }
    edge.snapshot.access().suspended = false;
    edge.publish();
    assert_eq!(edge.post(&[], &initialize("2025-11-25", "{}")).await.status, 200);
}

/// A client of an edge of its own, and how it speaks.
pub(crate) struct Client {
    edge: Edge,
    by: Channel,
}

enum Channel {
    Legacy(String),
    Modern,
    Socket(Socket),
    ModernSocket(Socket),
    Sse(Sse),
}

impl Client {
    /// A client of each transport and era, at edges that `change` has changed.
    async fn all(change: impl Fn(&mut Edge)) -> Vec<(&'static str, Self)> {
        Self::all_at(&upstream().await, change).await
    }

    /// The same, over this upstream.
    pub(crate) async fn all_at(upstream: &Upstream, change: impl Fn(&mut Edge)) -> Vec<(&'static str, Self)> {
        let edge = || {
            let mut edge = Edge::start(&upstream.url);
            change(&mut edge);
            edge.publish();
            edge
        };
        let (legacy, socket, open, sse) = (edge(), edge(), edge(), edge());
        let session = Channel::Legacy(legacy.session("2025-11-25", "{}").await);
        let spoken = Channel::Socket(Socket::session(&socket, "2025-06-18", "{}").await);
        let modern = Channel::ModernSocket(Socket::open(&open).await);
        let stream = Channel::Sse(Sse::session(&sse, "2024-11-05", "{}").await);
        vec![
            ("streamable, legacy", Self { edge: legacy, by: session }),
            ("streamable, modern", Self { edge: edge(), by: Channel::Modern }),
            ("websocket, legacy", Self { edge: socket, by: spoken }),
            ("websocket, modern", Self { edge: open, by: modern }),
            ("HTTP+SSE", Self { edge: sse, by: stream }),
        ]
    }

    fn is_modern(&self) -> bool {
        matches!(self.by, Channel::Modern | Channel::ModernSocket(_))
    }

    /// The answer to a request, the first message where there are several.
    pub(crate) async fn ask(&mut self, method: &str, params: &str, name: Option<&str>) -> Value {
        let params_alone = params.trim_end_matches(',');
        let legacy = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params_alone}}}}}"#);
        let body = ask("1", method, params, "{}", "");
        let edge = &self.edge;
        let answer = match &mut self.by {
            Channel::Legacy(session) => {
                edge.post(&[("mcp-session-id", session)], &legacy).await.messages().remove(0)
            }
            Channel::Modern => edge.post(&modern(method, name), &body).await.messages().remove(0),
            Channel::Socket(socket) => socket.ask(&legacy).await,
            Channel::ModernSocket(socket) => socket.ask(&body).await,
            Channel::Sse(sse) => sse.ask(&legacy).await,
        };
        value(&answer)
    }
}

/// Requests of the methods that a client can be refused: the method, its params, and what names its target.
const REQUESTS: [(&str, &str, Option<&str>); 9] = [
    ("tools/list", "", None),
    ("tools/call", r#""name":"u_echo","#, Some("u_echo")),
    ("prompts/list", "", None),
    ("prompts/get", r#""name":"u_p","#, Some("u_p")),
    ("resources/list", "", None),
    ("resources/templates/list", "", None),
    ("resources/read", r#""uri":"u+file:///r","#, Some("u+file:///r")),
    (
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"u_p"},"argument":{"name":"a","value":""},"#,
        None,
    ),
    ("tasks/get", r#""taskId":"x","#, Some("x")),
];

#[tokio::test]
async fn a_method_that_is_not_granted_does_not_exist_on_any_transport() {
    for granted in [&["tools/*"][..], &["*/list"], &["resources/read", "prompts/*", "completion/*"]] {
        let named = |method: &str| {
            granted.iter().any(|pattern| match pattern.split_once('*') {
                Some((start, end)) => method.starts_with(start) && method.ends_with(end),
                None => *pattern == method,
            })
        };
        // Who may use something may see what there is.
        let allowed = |method: &str| {
            let used = match method {
                "tools/list" => "tools/call",
                "prompts/list" => "prompts/get",
                "resources/list" | "resources/templates/list" => "resources/read",
                _ => method,
            };
            named(method) || named(used)
        };
        let grant = |edge: &mut Edge| {
            edge.snapshot.access().methods = granted.iter().map(|one| (*one).into()).collect()
        };
        for (what, mut client) in Client::all(grant).await {
            for (method, params, name) in REQUESTS {
                let answer = client.ask(method, params, name).await;
                let is_missing = answer["error"]["code"] == -32601;
                // Nothing here makes tasks, so that nobody may ask about them.
                let expected = !allowed(method) || method.starts_with("tasks/");
                assert_eq!(is_missing, expected, "{what}, {granted:?}: {method} {answer}");
                if is_missing {
                    assert_eq!(
                        answer["error"],
                        json!({"code": -32601, "message": "method not found"}),
                        "{what}"
                    );
                }
            }
            // What is not used by any method is in no list.
            for (list, used_by) in
                [("tools", "tools/call"), ("prompts", "prompts/get"), ("resources", "resources/read")]
            {
                let listed = client.ask(&format!("{list}/list"), "", None).await;
                if let Some(listed) = listed["result"][list].as_array() {
                    assert_eq!(listed.is_empty(), !allowed(used_by), "{what}, {granted:?}: {list}");
                }
            }
        }
    }
}

#[tokio::test]
async fn capabilities_are_those_of_the_methods_that_are_granted() {
    let cases = [
        (
            &["*"][..],
            json!({"tools": {"listChanged": true}, "resources": {"listChanged": true, "subscribe": true},
            "prompts": {"listChanged": true}, "completions": {}, "logging": {}}),
        ),
        (&["tools/*"], json!({"tools": {"listChanged": true}})),
        (&["tools/list", "logging/setLevel"], json!({})),
        (&["tools/call", "logging/setLevel"], json!({"tools": {"listChanged": true}, "logging": {}})),
        (&["resources/read"], json!({"resources": {"listChanged": true}})),
        (&["resources/*"], json!({"resources": {"listChanged": true, "subscribe": true}})),
        (
            &["prompts/get", "completion/complete"],
            json!({"prompts": {"listChanged": true}, "completions": {}}),
        ),
        (&["completion/complete"], json!({})),
    ];
    for (granted, expected) in cases {
        let mut edge = Edge::start("http://127.0.0.1:9/mcp");
        let upstream = crate::support::mcp(&mut edge.snapshot.resources.upstreams[0]);
        upstream.legacy_capabilities_json =
            r#"{"tools":{},"prompts":{},"resources":{"subscribe":true},"completions":{},"logging":{}}"#
                .into();
        upstream.modern_versions.clear();
        edge.snapshot.access().methods = granted.iter().map(|method| (*method).into()).collect();
        edge.publish();
        let opened = edge.post(&[], &initialize("2025-11-25", "{}")).await;
        assert_eq!(value(&opened.body)["result"]["capabilities"], expected, "{granted:?}");
    }
}

#[tokio::test]
async fn the_handshake_and_a_ping_are_always_allowed() {
    let grant = |edge: &mut Edge| edge.snapshot.access().methods = vec!["tasks/list".into()];
    for (what, mut client) in Client::all(grant).await {
        if client.is_modern() {
            let found = client.ask("server/discover", "", None).await;
            assert_eq!(found["result"]["capabilities"], json!({}), "{what}: {found}");
        } else {
            assert_eq!(client.ask("ping", "", None).await["result"], json!({}), "{what}");
        }
    }
}

/// A stream of notifications is opened by a method in the modern era, and ends with the right to that.
#[tokio::test]
async fn a_stream_ends_with_the_method_that_opened_it() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let listen = ask("1", "subscriptions/listen", r#""notifications":{"toolsListChanged":true},"#, "{}", "");
    let headers = modern("subscriptions/listen", None);
    let mut stream = edge.request("POST", &headers, &listen).send().await.unwrap();
    crate::streams::until(&mut stream, "subscriptions/acknowledged").await;
    edge.snapshot.access().methods = vec!["tools/*".into()];
    edge.publish();
    let rest =
        tokio::time::timeout(crate::support::PATIENCE, stream.text()).await.expect("it goes on").unwrap();
    assert!(rest.contains(r#""resultType":"complete""#), "{rest}");
    let refused = edge.post(&headers, &listen).await;
    assert_eq!((refused.status, refused.error_code()), (404, -32601));
}
