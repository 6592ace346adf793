//! Upstreams that forget their sessions, in the many ways in which servers say so. No call runs twice that may not.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::response::Response;
use mcp::quirk::Quirk;

use crate::support::{
    Edge, META, Recorded, Reply, Upstream, edge_before, events, eventually, json, mcp, modern, never, status,
};

/// Refuses a request.
type Refuse = fn(&Recorded) -> Response;

/// How an upstream refuses what is in a session that it does not know.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    refuse: Refuse,
    /// Whether it gives its sessions ids.
    ids: bool,
    /// Whether it has `ping`.
    ping: bool,
    /// Whether it may have done something before, since it does not name the session: then only what is safe to repeat is
    /// repeated.
    broke: bool,
}

impl Way {
    const fn new(name: &'static str, refuse: Refuse) -> Self {
        Self { name, refuse, ids: true, ping: true, broke: false }
    }
}

const NO_ID: &str = "null";

/// What comes in the place of an answer, or nothing.
const NOTHINGS: [(&str, Refuse); 8] = [
    ("200 and nothing", |_| status(200, "")),
    ("202 and nothing", |_| status(202, "")),
    ("204 and nothing", |_| status(204, "")),
    ("a page", page),
    ("a redirect elsewhere", |_| {
        let mut response = status(302, "sign in");
        response.headers_mut().insert("location", "https://login.example/".parse().unwrap());
        response
    }),
    ("a stream that ends", |_| events(&[])),
    ("a connection that is cut", cut),
    ("a body that is cut", |_| {
        let broken = futures_util::stream::iter([Ok("{\"jsonrpc\""), Err("cut")]);
        let mut response = Response::new(axum::body::Body::from_stream(broken));
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    }),
];

fn page(_: &Recorded) -> Response {
    let mut response = status(200, "<html><body>Please sign in</body></html>");
    response.headers_mut().insert("content-type", "text/html".parse().unwrap());
    response
}

/// Cuts the connection without a word.
fn cut(_: &Recorded) -> Response {
    std::panic::resume_unwind(Box::new("cut"))
}

fn pong(request: &Recorded) -> Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

fn error(status: u16, id: &str, code: i64, text: &str) -> Response {
    let mut response =
        json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#));
    *response.status_mut() = status.try_into().unwrap();
    response
}

const WAYS: &[Way] = &[
    Way::new("400, a text", |_| status(400, "Invalid or missing session ID")),
    Way::new("400, an error without an id", |_| {
        error(400, NO_ID, -32000, "Bad Request: that session is not known")
    }),
    Way {
        broke: true,
        ..Way::new("400, an error of another id", |_| error(400, r#""server-error""#, -32020, "Unsupported"))
    },
    Way::new("401", |_| status(401, "unknown session")),
    Way::new("403", |_| status(403, "Unknown session")),
    Way::new("404 with an id", |_| status(404, "Session not found")),
    Way::new("406", |_| status(406, "Unknown session")),
    Way::new("409", |_| status(409, "Unknown session")),
    Way { broke: true, ..Way::new("410", |_| status(410, "")) },
    Way::new("422", |_| status(422, "Unprocessable Entity: Expected initialize request")),
    Way::new("200, an error", |request| error(200, &request.id(), -32600, "Session not found")),
    Way::new("200, another error", |request| error(200, &request.id(), -32002, "Server not initialized")),
    Way::new("200, a stream", |request| {
        let id = request.id();
        events(&[format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"Unknown session"}}}}"#
        )])
    }),
    Way {
        ids: false,
        ..Way::new("no ids", |request| error(200, &request.id(), -32002, "Server not initialized"))
    },
    Way { ping: false, ..Way::new("no ping", |_| status(400, "Bad Request: unknown session")) },
    Way { broke: true, ..Way::new("500", |_| status(500, "Unknown session")) },
    Way { broke: true, ..Way::new("503", |_| status(503, "Unknown session")) },
    Way {
        broke: true,
        ..Way::new("500, an error", |_| error(500, NO_ID, -32603, "Cannot read properties of undefined"))
    },
    Way {
        broke: true,
        ..Way::new("404, no method", |request| error(404, &request.id(), -32601, "Method not found"))
    },
    Way {
        broke: true,
        ..Way::new("404, no such method", |request| {
            let method = request.method();
            error(404, &request.id(), -32601, &format!("Method {method} not found"))
        })
    },
    Way {
        ping: false,
        broke: true,
        ..Way::new("404, no method and no ping", |request| {
            error(404, &request.id(), -32601, "Method not found")
        })
    },
    Way {
        broke: true,
        ..Way::new("404, no request", |request| error(404, &request.id(), -32600, "Invalid Request"))
    },
    Way {
        broke: true,
        ..Way::new("404, another error", |request| error(404, &request.id(), -32001, "Not Found"))
    },
];

/// The ways in which servers refuse what is in a session that they do not know, and those in which they say nothing.
fn ways() -> impl Iterator<Item = Way> {
    let unanswered = NOTHINGS.iter().flat_map(|(name, nothing)| {
        [true, false].map(|ping| Way { broke: true, ping, ..Way::new(name, *nothing) })
    });
    WAYS.iter().copied().chain(unanswered)
}

/// An upstream whose sessions can be forgotten, and that counts the calls that ran.
struct Forgetful {
    upstream: Upstream,
    known: Arc<Mutex<HashSet<String>>>,
    ran: Arc<AtomicUsize>,
}

impl Forgetful {
    async fn start(way: Way) -> Self {
        Self::answering(way, done).await
    }

    async fn answering(way: Way, answer: impl Fn(&Recorded) -> Response + Send + Sync + 'static) -> Self {
        let (known, ran) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicUsize::new(0)));
        let (sessions, count, opened) = (Arc::clone(&known), Arc::clone(&ran), AtomicUsize::new(0));
        let upstream = Upstream::raw(move |request| {
            if request.verb == "GET" {
                return status(405, "");
            }
            let knows =
                |request: &Recorded| sessions.lock().unwrap().contains(request.header("mcp-session-id"));
            match request.method().as_str() {
                "initialize" => {
                    let id = match way.ids {
                        true => format!("s{}", opened.fetch_add(1, Ordering::Relaxed)),
                        false => String::new(),
                    };
                    sessions.lock().unwrap().insert(id.clone());
                    initialized(request, &id)
                }
                _ if !knows(request) => (way.refuse)(request),
                "ping" if way.ping => pong(request),
                "ping" => error(200, &request.id(), -32601, "Method not found"),
                "tools/call" => {
                    count.fetch_add(1, Ordering::Relaxed);
                    answer(request)
                }
                _ => status(202, ""),
            }
        })
        .await;
        Self { upstream, known, ran }
    }

    fn edge(&self) -> Edge {
        edge_before(&self.upstream, "legacy")
    }

    /// Forgets all sessions, as a restart does.
    fn forget(&self) {
        self.known.lock().unwrap().clear();
    }

    fn opened(&self) -> usize {
        self.upstream.calls("initialize").len()
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::Relaxed)
    }
}

fn initialized(request: &Recorded, id: &str) -> Response {
    let version = request.json()["params"]["protocolVersion"].clone();
    let mut response = json(&format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":{version},"capabilities":{{}}}}}}"#,
        request.id()
    ));
    if !id.is_empty() {
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
    }
    response
}

/// A client of either era, which calls a tool.
enum Client<'a> {
    Legacy(&'a Edge, String),
    Modern(&'a Edge),
}

impl<'a> Client<'a> {
    async fn of(edge: &'a Edge, era: &str, capabilities: &str) -> Self {
        match era {
            "legacy" => Self::Legacy(edge, edge.session("2025-11-25", capabilities).await),
            _ => Self::Modern(edge),
        }
    }

    async fn call(&self, tool: &str) -> Reply {
        let call = |meta: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}"{meta}}}}}"#
            )
        };
        match self {
            Self::Legacy(edge, session) => edge.post(&[("mcp-session-id", session)], &call("")).await,
            Self::Modern(edge) => {
                edge.post(&modern("tools/call", Some(tool)), &call(&format!(",{META}"))).await
            }
        }
    }
}

/// The result of a call.
fn done(request: &Recorded) -> Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
}

fn works(reply: &Reply) -> bool {
    reply.messages().last().is_some_and(|message| message.contains(r#""content":[]"#))
}

#[tokio::test]
async fn a_session_that_was_forgotten_heals_and_nothing_runs_twice() {
    for way in ways() {
        for era in ["legacy", "modern"] {
            let server = Forgetful::start(way).await;
            let edge = server.edge();
            let client = Client::of(&edge, era, "{}").await;
            for _ in 0..3 {
                assert!(works(&client.call("u_echo").await), "{era}, {}", way.name);
            }
            let (before, opened) = (server.ran(), server.opened());
            server.forget();
            let mut worked = 0;
            for _ in 0..10 {
                worked += usize::from(works(&client.call("u_echo").await));
            }
            assert_eq!(server.ran() - before, worked, "{era}, {}: each ran once", way.name);
            // A call that may have run before it was refused fails, once at this edge.
            let at_least = if way.broke { 9 } else { 10 };
            assert!(worked >= at_least, "{era}, {}: {worked} of 10", way.name);
            assert!((1..=2).contains(&(server.opened() - opened)), "{era}, {}", way.name);
            let noted = edge.metrics.upstream_quirk(Quirk::ForgetsSessions).get();
            assert_eq!(noted > 0, way.name != "404 with an id", "{era}, {}", way.name);
        }
    }
}

#[tokio::test]
async fn what_may_run_twice_is_repeated_wherever_the_upstream_broke() {
    for way in ways().filter(|way| way.broke) {
        for era in ["legacy", "modern"] {
            let server = Forgetful::start(way).await;
            let edge = server.edge();
            let client = Client::of(&edge, era, "{}").await;
            assert!(works(&client.call("u_safe").await));
            server.forget();
            for _ in 0..5 {
                assert!(works(&client.call("u_safe").await), "{era}, {}", way.name);
            }
            assert_eq!(server.ran(), 6, "{era}, {}", way.name);
        }
    }
}

/// Ways in which tools fail in sessions that live.
const FAILURES: &[fn(&Recorded) -> Response] = &[
    |_| error(400, NO_ID, -32000, "Bad Request: No valid session of the customer"),
    |_| status(400, "no session"),
    |_| status(401, "not for you"),
    |_| status(422, "session?"),
    |_| status(500, "Unknown session"),
    |request| error(200, &request.id(), -32002, "Server not initialized"),
    |request| error(200, &request.id(), -32602, "Unknown session"),
    |request| error(404, &request.id(), -32000, "record not found"),
    |request| error(404, &request.id(), -32602, "Unknown tool"),
    |request| error(404, &request.id(), -32000, "Checkout session cs_123 not found"),
    |request| {
        let id = request.id();
        status(404, &format!(r#"[{{"id":{id},"error":"record not found"}}]"#))
    },
    |request| {
        let id = request.id();
        let mut event =
            events(&[format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"none"}}}}"#)]);
        *event.status_mut() = http::StatusCode::NOT_FOUND;
        event
    },
    |request| error(404, &request.id(), -32601, "Method not found"),
];

#[tokio::test]
async fn a_tool_that_fails_in_a_living_session_runs_once_and_opens_none() {
    let fails = FAILURES.iter().chain(NOTHINGS.iter().map(|(_, nothing)| nothing));
    for (nth, fails) in fails.enumerate() {
        for era in ["legacy", "modern"] {
            let server = Forgetful::answering(WAYS[0], move |request| match request.body.contains("safe") {
                true => done(request),
                false => fails(request),
            })
            .await;
            let edge = server.edge();
            let client = Client::of(&edge, era, "{}").await;
            for _ in 0..6 {
                assert!(works(&client.call("u_safe").await), "{era}, {nth}");
                assert!(!works(&client.call("u_echo").await), "{era}, {nth}");
            }
            assert_eq!(server.ran(), 12, "{era}, {nth}");
            assert!(server.opened() <= 2, "{era}, {nth}");
            assert!(!server.upstream.calls("ping").is_empty(), "{era}, {nth}: nobody asked");
            assert_eq!(edge.metrics.upstream_quirk(Quirk::ForgetsSessions).get(), 0, "{era}, {nth}");
        }
    }
}

/// An upstream that refuses pings in words of its own. Calls fail as `fails` says in the sessions that are in the set, and those
/// whose body is `bad`.
async fn without_pings(fails: Refuse, bad: fn(&str) -> bool) -> (Upstream, Arc<Mutex<HashSet<String>>>) {
    let (lost, opened) = (Arc::<Mutex<HashSet<String>>>::default(), AtomicUsize::new(0));
    let gone = Arc::clone(&lost);
    let upstream = Upstream::raw(move |request| match request.method().as_str() {
        "initialize" => initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed))),
        "ping" => status(400, "no such method"),
        "tools/call" => {
            let session = request.header("mcp-session-id").to_owned();
            let refused = gone.lock().unwrap().contains(&session) || bad(&request.body);
            if refused { fails(request) } else { done(request) }
        }
        _ => status(202, ""),
    })
    .await;
    (upstream, lost)
}

#[tokio::test]
async fn an_upstream_without_pings_is_opened_anew_and_what_may_not_run_twice_is_not_repeated() {
    for tool in ["u_echo", "u_safe"] {
        let (upstream, lost) = without_pings(|_| status(401, "unknown session"), |_| false).await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        assert!(works(&client.call(tool).await), "{tool}");
        let sent = |method| upstream.calls(method).len();
        let opened = sent("initialize");
        lost.lock().unwrap().extend((0..opened).map(|nth| format!("s{nth}")));
        let (before, mut worked) = (sent("tools/call"), 0);
        for _ in 0..6 {
            worked += usize::from(works(&client.call(tool).await));
        }
        // One call meets the loss of each session: it is repeated where it may run twice.
        if tool == "u_safe" {
            assert_eq!(worked, 6);
        } else {
            assert!(worked + opened >= 6, "{worked} worked");
            assert_eq!(sent("tools/call") - before, 6, "none was made again");
        }
        assert!(sent("initialize") <= opened + 2, "{}", sent("initialize"));
        assert!(sent("initialize") > 1);
    }
}

#[tokio::test]
async fn a_tool_that_speaks_of_sessions_opens_few_where_pings_tell_nothing() {
    let fails: [Refuse; 2] =
        [|request| error(200, &request.id(), -32602, "Unknown session"), |_| status(400, "Unknown session")];
    for (nth, fails) in fails.into_iter().enumerate() {
        let (upstream, _) = without_pings(fails, |body| body.contains("echo")).await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        for _ in 0..20 {
            assert!(works(&client.call("u_safe").await));
            assert!(!works(&client.call("u_echo").await));
        }
        assert_eq!(upstream.calls("tools/call").len(), 40, "{nth}: each was made once");
        // At most one a second, less often each time, on each worker.
        let most = [2, 20][nth];
        assert!(upstream.calls("initialize").len() <= most, "{nth}: {}", upstream.calls("initialize").len());
    }
}

#[tokio::test]
async fn an_upstream_without_pings_keeps_its_sessions_where_calls_fail() {
    // How it refuses calls, and pings.
    let refusals: [(Refuse, Refuse); 11] = [
        (|_| status(400, "Unsupported"), |_| status(400, "Unsupported")),
        (|_| status(401, "no session of that kind"), |_| status(401, "no session of that kind")),
        (
            |request| error(200, &request.id(), -32602, "Invalid request parameters"),
            |request| error(200, &request.id(), -32602, "Invalid request parameters"),
        ),
        (
            |request| error(422, &request.id(), -32600, "no such browser session"),
            |request| error(422, &request.id(), -32600, "no such browser session"),
        ),
        (|request| error(200, &request.id(), -32000, "no such customer"), |_| status(404, "Not Found")),
        (
            |request| error(200, &request.id(), -32000, "no such customer"),
            |_| error(404, NO_ID, -32600, "no such method"),
        ),
        (
            |request| error(200, &request.id(), -32000, "no such customer"),
            |_| status(400, "unknown method ping in this session"),
        ),
        (
            |request| error(200, &request.id(), -32000, "no such customer"),
            |request| error(200, &request.id(), -32602, "session field required"),
        ),
        (
            |request| error(404, &request.id(), -32601, "Unknown method tools/call"),
            |request| error(404, &request.id(), -32601, "Unknown method ping"),
        ),
        (page, |_| status(400, "no such method")),
        (|_| events(&[]), |request| error(404, &request.id(), -32601, "Unknown method ping")),
    ];
    for (nth, (refuse, of_ping)) in refusals.into_iter().enumerate() {
        for era in ["legacy", "modern"] {
            let (opened, used) = (AtomicUsize::new(0), Arc::<Mutex<HashSet<String>>>::default());
            let sessions = Arc::clone(&used);
            let upstream = Upstream::raw(move |request| match request.method().as_str() {
                "initialize" => initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed))),
                "ping" => of_ping(request),
                "tools/call" if request.body.contains("echo") => refuse(request),
                "tools/call" => {
                    sessions.lock().unwrap().insert(request.header("mcp-session-id").to_owned());
                    done(request)
                }
                _ => status(202, ""),
            })
            .await;
            let edge = edge_before(&upstream, "legacy");
            let client = Client::of(&edge, era, "{}").await;
            for _ in 0..6 {
                assert!(works(&client.call("u_safe").await), "{nth}, {era}");
                assert!(!works(&client.call("u_echo").await), "{nth}, {era}");
            }
            assert_eq!(upstream.calls("tools/call").len(), 12, "{nth}, {era}: each was made once");
            // Each of the two workers has one, and tries another once.
            let opened = upstream.calls("initialize").len();
            let kept = used.lock().unwrap().len();
            assert!(kept <= 2 && opened <= 4, "{nth}, {era}: {opened} opened, {kept} used");
        }
    }
}

/// Refusals of a call that ran and broke its session, which the upstream has for whatever comes after.
const AFTERWARDS: &[Refuse] = &[
    |request| error(200, &request.id(), -32000, "Connection closed"),
    |request| error(400, &request.id(), -32000, "Connection closed"),
    |request| error(404, &request.id(), -32000, "Connection closed"),
    |request| error(200, &request.id(), -32001, "Request timed out"),
    |request| error(200, &request.id(), -32002, "The command has exited"),
    |_| status(400, "failed"),
    |_| status(408, ""),
    |_| status(422, "Session terminated"),
    |_| status(401, "Session expired"),
    |request| error(404, &request.id(), -32000, "the browser is closed"),
    |request| error(404, &request.id(), -32601, "Method not found"),
];
/// Refusals of pings: those after a call, and those of servers that have none.
const OF_PINGS: &[Option<Refuse>] = &[
    None,
    Some(|_| status(400, "no such method")),
    Some(|_| status(404, "")),
    Some(|_| status(401, "")),
    Some(|request| error(200, &request.id(), -32600, "Invalid Request")),
];

#[tokio::test]
async fn a_call_that_broke_its_session_is_not_made_again() {
    let afterwards = AFTERWARDS.iter().chain(NOTHINGS.iter().map(|(_, nothing)| nothing));
    for (nth, fails) in afterwards.enumerate() {
        for (kind, of_ping) in OF_PINGS.iter().enumerate() {
            let (ran, broken) = (Arc::<AtomicUsize>::default(), Mutex::<HashSet<String>>::default());
            let (count, opened) = (Arc::clone(&ran), AtomicUsize::new(0));
            let upstream = Upstream::raw(move |request| {
                let session = request.header("mcp-session-id");
                let is_broken = broken.lock().unwrap().contains(session);
                match request.method().as_str() {
                    "initialize" => {
                        initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed)))
                    }
                    "ping" if of_ping.is_some() => of_ping.unwrap()(request),
                    "ping" | "tools/call" if is_broken => fails(request),
                    "tools/call" if request.body.contains("safe") => done(request),
                    "tools/call" => {
                        count.fetch_add(1, Ordering::Relaxed);
                        broken.lock().unwrap().insert(session.to_owned());
                        fails(request)
                    }
                    "ping" => pong(request),
                    _ => status(202, ""),
                }
            })
            .await;
            let edge = edge_before(&upstream, "legacy");
            let client = Client::of(&edge, "legacy", "{}").await;
            for calls in 1..=3 {
                // Where a ping is refused in words of its own, nobody knows whether the session is lost: it stays.
                let heals = of_ping.is_none();
                let safe = client.call("u_safe").await;
                assert!(works(&safe) || calls > 1 && !heals, "{nth}, {kind}: {safe:?}");
                assert!(!works(&client.call("u_echo").await), "{nth}, {kind}");
                assert!(ran.load(Ordering::Relaxed) <= calls, "{nth}, {kind}: it ran twice");
            }
        }
    }
}

#[tokio::test]
async fn calls_that_fail_together_open_one_session() {
    let server = Forgetful::start(WAYS[0]).await;
    let edge = server.edge();
    let client = Client::of(&edge, "legacy", "{}").await;
    let calls = || futures_util::future::join_all((0..24).map(|_| client.call("u_echo")));
    assert!(calls().await.iter().all(works));
    let opened = server.opened();
    server.forget();
    assert!(calls().await.iter().all(works));
    assert_eq!(server.ran(), 48);
    assert!(server.opened() - opened <= 2, "one on each worker");
}

#[tokio::test]
async fn an_upstream_that_opens_no_session_any_more_is_left_in_peace() {
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (refusing, opened) = (Arc::clone(&refuses), AtomicUsize::new(0));
    let upstream = Upstream::raw(move |request| match request.method().as_str() {
        _ if refusing.load(Ordering::Relaxed) => status(401, "the credential has expired"),
        "initialize" => initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed))),
        "tools/call" => done(request),
        _ => status(202, ""),
    })
    .await;
    let edge = edge_before(&upstream, "legacy");
    let client = Client::of(&edge, "legacy", "{}").await;
    assert!(works(&client.call("u_echo").await));
    let before = upstream.calls("initialize").len();
    refuses.store(true, Ordering::Relaxed);
    for _ in 0..40 {
        let refused = client.call("u_echo").await;
        assert_eq!(refused.error_code(), -31104, "what the upstream said stands: {refused:?}");
    }
    // At most one a second, less often each time, on each worker.
    assert!(upstream.calls("initialize").len() - before < 20);
    refuses.store(false, Ordering::Relaxed);
    assert!(works(&client.call("u_echo").await), "the session was kept");
}

/// Nobody knows there whether a session is lost, and another is no better.
#[tokio::test]
async fn an_upstream_that_answers_no_ping_keeps_its_session_where_tools_answer_nothing() {
    for (name, nothing) in NOTHINGS {
        let (opened, used) = (AtomicUsize::new(0), Arc::<Mutex<HashSet<String>>>::default());
        let sessions = Arc::clone(&used);
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" => initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed))),
            "tools/call" if request.body.contains("safe") => {
                sessions.lock().unwrap().insert(request.header("mcp-session-id").to_owned());
                done(request)
            }
            "tools/call" | "ping" => nothing(request),
            _ => status(202, ""),
        })
        .await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        for _ in 0..10 {
            assert!(works(&client.call("u_safe").await), "{name}");
            assert!(!works(&client.call("u_echo").await), "{name}");
        }
        assert_eq!(upstream.calls("tools/call").len(), 20, "{name}: each was made once");
        assert!(used.lock().unwrap().len() <= 2, "{name}: each worker keeps its own");
        // At most one a second, less often each time, on each worker.
        assert!(upstream.calls("initialize").len() < 20, "{name}");
    }
}

/// A call and a ping may be cut by chance.
#[tokio::test]
async fn a_session_that_answers_again_after_another_was_opened_is_kept() {
    for (name, nothing) in NOTHINGS {
        let (opened, odd) = (AtomicUsize::new(0), Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let is_odd = Arc::clone(&odd);
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" => {
                is_odd.store(false, Ordering::Relaxed);
                initialized(request, &format!("s{}", opened.fetch_add(1, Ordering::Relaxed)))
            }
            "tools/call" | "ping" if is_odd.load(Ordering::Relaxed) => nothing(request),
            "tools/call" => done(request),
            "ping" => pong(request),
            _ => status(202, ""),
        })
        .await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        let sessions = || upstream.calls("initialize").len();
        let mut tried = None;
        // A worker that has no session yet opens one, and its call works.
        for _ in 0..3 {
            assert!(works(&client.call("u_echo").await), "{name}");
            odd.store(true, Ordering::Relaxed);
            let before = sessions();
            if !works(&client.call("u_echo").await) {
                tried = Some(before);
                break;
            }
        }
        let tried = tried.expect("no call failed");
        assert_eq!(sessions(), tried + 1, "{name}: another was tried");
        for _ in 0..4 {
            assert!(works(&client.call("u_echo").await), "{name}");
        }
        let calls = upstream.calls("tools/call");
        let tried = format!("s{tried}");
        assert!(calls.iter().all(|call| call.header("mcp-session-id") != tried), "{name}: the first is kept");
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_on_pings_delays_few_calls() {
    let upstream = Upstream::raw(|request| match request.method().as_str() {
        "initialize" => initialized(request, "s"),
        "ping" => never(),
        "tools/call" if request.body.contains("safe") => done(request),
        "tools/call" => error(200, &request.id(), -32602, "bad arguments"),
        _ => status(202, ""),
    })
    .await;
    let edge = edge_before(&upstream, "legacy");
    let client = Client::of(&edge, "legacy", "{}").await;
    assert!(works(&client.call("u_safe").await));
    for _ in 0..20 {
        assert_eq!(client.call("u_echo").await.error_code(), -32602);
    }
    assert_eq!(upstream.calls("tools/call").len(), 21);
    assert!((1..10).contains(&upstream.calls("ping").len()), "{}", upstream.calls("ping").len());
}

#[tokio::test]
async fn a_session_of_one_conversation_is_read_on_after_it_healed() {
    let server = Forgetful::start(WAYS[0]).await;
    let edge = server.edge();
    let client = Client::of(&edge, "legacy", r#"{"roots":{}}"#).await;
    assert!(works(&client.call("u_echo").await));
    server.forget();
    assert!(works(&client.call("u_echo").await));
    let streams = server.upstream.requests().into_iter().filter(|request| request.verb == "GET");
    let streams: HashSet<String> =
        streams.map(|request| request.header("mcp-session-id").to_owned()).collect();
    assert!(streams.len() >= 2, "the server stream of each session is opened: {streams:?}");
}

#[tokio::test]
async fn a_long_answer_with_404_is_about_its_call() {
    for era in ["legacy", "modern"] {
        let server = Forgetful::answering(WAYS[0], |request| {
            let (id, long) = (request.id(), "y".repeat(300_000));
            let error = format!(r#"{{"code":-32000,"message":"no such record","data":"{long}"}}"#);
            status(404, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
        })
        .await;
        let edge = server.edge();
        let client = Client::of(&edge, era, "{}").await;
        assert!(!works(&client.call("u_echo").await), "{era}");
        assert_eq!(server.ran(), 1, "{era}");
    }
}

#[tokio::test]
async fn a_server_stream_that_is_not_given_now_is_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::raw(move |request| match request.method().as_str() {
        "initialize" => initialized(request, "s"),
        "tools/call" => done(request),
        _ if request.verb != "GET" => status(202, ""),
        _ => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => status(409, "Only one stream is allowed"),
            1 => status(503, "starting"),
            _ => never(),
        },
    })
    .await;
    let edge = edge_before(&upstream, "legacy");
    let client = Client::of(&edge, "legacy", r#"{"roots":{}}"#).await;
    assert!(works(&client.call("u_echo").await));
    let streams = || upstream.requests().into_iter().filter(|request| request.verb == "GET").count();
    eventually("the stream is asked for until it is given", || streams() == 3).await;
}

#[tokio::test]
async fn a_session_is_pinned_by_the_cookies_that_it_was_opened_with() {
    let upstream = Upstream::raw(|request| match request.method().as_str() {
        "initialize" => {
            let mut response = initialized(request, "s");
            for cookie in ["NODE=7; Path=/; HttpOnly", "gone=1; Max-Age=0", "more=x"] {
                response.headers_mut().append("set-cookie", cookie.parse().unwrap());
            }
            response
        }
        _ if request.header("cookie") != "NODE=7; more=x" => status(404, "another node"),
        "tools/call" => done(request),
        _ => status(202, ""),
    })
    .await;
    let edge = edge_before(&upstream, "legacy");
    for era in ["legacy", "modern"] {
        let client = Client::of(&edge, era, "{}").await;
        for _ in 0..4 {
            assert!(works(&client.call("u_echo").await), "{era}");
        }
    }
    let opened = upstream.calls("initialize");
    assert!(opened.len() <= 4 && opened.iter().all(|request| request.header("cookie").is_empty()));
    assert_eq!(edge.metrics.upstream_quirk(Quirk::AffinityCookies).get(), opened.len() as u64);
}

#[tokio::test]
async fn a_handshake_is_as_large_as_any_answer_and_a_notification_may_be_answered_at_length() {
    let upstream = Upstream::raw(|request| match request.method().as_str() {
        "initialize" => {
            let version = request.json()["params"]["protocolVersion"].clone();
            let (id, long) = (request.id(), "x".repeat(400_000));
            json(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":{version},"capabilities":{{}},"instructions":"{long}"}}}}"#
            ))
        }
        "tools/call" => done(request),
        _ => status(404, &"y".repeat(400_000)),
    })
    .await;
    let edge = edge_before(&upstream, "legacy");
    let client = Client::of(&edge, "legacy", "{}").await;
    assert!(works(&client.call("u_echo").await));
    assert!(edge.metrics.upstream_quirk(Quirk::RefusesInitialized).get() > 0);
}

#[tokio::test]
async fn odd_answers_to_a_handshake_cost_no_call() {
    let ways: [(&str, Refuse, &str); 4] = [
        ("a stream that stays open", |_| never(), "s"),
        ("an id with a space", |_| status(202, ""), "s 1"),
        ("no id", |_| status(202, ""), ""),
        ("a redirect that leads nowhere", |_| status(307, ""), "s"),
    ];
    for (way, answer, id) in ways {
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" => initialized(request, id),
            "notifications/initialized" => answer(request),
            "tools/call" if request.header("mcp-session-id") == id => done(request),
            _ => status(400, "whose session?"),
        })
        .await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        for _ in 0..3 {
            assert!(works(&client.call("u_echo").await), "{way}");
        }
        // Servers that count in 32 bits can take every id, and those for which 0 is none.
        for request in upstream.requests().iter().filter(|request| request.body.contains("\"id\"")) {
            let id = request.json()["id"].as_u64().unwrap();
            assert!((1..1 << 31).contains(&id), "{way}: {id}");
        }
    }
}

#[tokio::test]
async fn a_response_in_a_batch_is_the_response() {
    fn batch(request: &Recorded, result: &str, in_events: bool) -> Response {
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
        let response = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id());
        let batch = format!("[{notification},{response}]");
        if in_events { events(&[batch]) } else { json(&batch) }
    }
    for in_events in [false, true] {
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" => {
                batch(request, r#"{"protocolVersion":"2025-03-26","capabilities":{}}"#, in_events)
            }
            "tools/call" => batch(request, r#"{"content":[]}"#, in_events),
            _ => status(202, ""),
        })
        .await;
        let edge = edge_before(&upstream, "legacy");
        let client = Client::of(&edge, "legacy", "{}").await;
        for _ in 0..2 {
            assert!(works(&client.call("u_echo").await), "{in_events}");
        }
        assert_eq!(upstream.calls("tools/call").len(), 2);
        assert!(edge.metrics.upstream_quirk(Quirk::Batches).get() > 0);
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_revisions_is_offered_the_one_it_settled_on() {
    let cases = [("2025-11-25", &["2025-06-18"][..]), ("2025-03-26", &["2025-03-26", "2025-06-18"])];
    // Some refuse what they do not speak at once, and some after they agreed to it.
    let cases = cases
        .into_iter()
        .flat_map(|(clients, offered)| [true, false].map(|at_once| (clients, offered, at_once)));
    for (clients, offered, at_once) in cases {
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" if at_once && !request.body.contains("2025-06-18") => {
                error(400, &request.id(), -32602, "Unsupported protocol version")
            }
            "initialize" => initialized(request, "s"),
            _ if request.header("mcp-protocol-version") != "2025-06-18" => {
                error(400, NO_ID, -32000, "Bad Request: Unsupported protocol version")
            }
            "tools/call" => done(request),
            _ => status(202, ""),
        })
        .await;
        let mut edge = Edge::start(&upstream.url);
        let settled = mcp(&mut edge.snapshot.resources.upstreams[0]);
        settled.modern_versions.clear();
        settled.legacy_version = "2025-06-18".into();
        edge.publish();
        let session = edge.session(clients, "{}").await;
        let reply = Client::Legacy(&edge, session).call("u_echo").await;
        assert!(works(&reply), "{clients}: {reply:?}");
        let sent: Vec<String> = upstream
            .calls("initialize")
            .iter()
            .map(|request| request.json()["params"]["protocolVersion"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(sent, offered, "{clients}, {at_once}");
        let noted = edge.metrics.upstream_quirk(Quirk::RefusesNewerVersions).get();
        assert_eq!(noted, offered.len() as u64 - 1, "{clients}, {at_once}");
    }
}
