//! People and service accounts: what their bearers must be like, what they see on every transport, and that nothing but the
//! uid says whose a session is.

use serde_json::{Value, json};

use crate::eras::ask;
use crate::support::{
    Edge, Keys, Reply, Socket, Sse, TestSnapshot, Upstream, gid, json as answer, modern, pair, person_claims,
    role, team, uid_of,
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
const ANN: &str = "users/ann@example.org";

/// An edge with roles and teams, and a server of each kind of owner beside `dev`, which is nobody's.
fn world(url: &str) -> Edge {
    let mut edge = Edge::start(url);
    grants(&mut edge.snapshot);
    edge.publish();
    edge
}

fn grants(snapshot: &mut TestSnapshot) {
    let resources = &mut snapshot.resources;
    resources.grants = vec![
        role("developer", true, false),
        role("viewer", false, false),
        role("admin", true, true),
        team("core", &["servers/dev"], &["u_echo", "u_safe"]),
        team("web", &["servers/dev"], &["u_o*"]),
    ];
    let server = |id: &str| {
        let mut server = resources.servers[0].clone();
        (server.name, server.uid) = (format!("servers/{id}"), format!("s-{id}"));
        server
    };
    let (mut mine, mut public, mut of_team) = (server("mine"), server("public"), server("team"));
    mine.owner_uid = uid_of(ANN);
    public.public = true;
    of_team.team_gid = gid("core");
    resources.servers.extend([mine, public, of_team]);
}

fn echoing() -> impl Future<Output = Upstream> {
    Upstream::start(|request| {
        answer(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
}

/// The tools that somebody sees at a server; the status where they may not even know of it.
type Seen = Result<Vec<String>, u16>;

/// Who, with which pairs of a role and a team, and what they see at `dev`, at Ann's server, at the public one, at the team's.
type Case<'a> = (&'a str, &'a [[&'a str; 2]], [Seen; 4]);

async fn tools(edge: &Edge, bearer: &str, server: &str) -> Seen {
    let request = edge.bare("POST", server, &ask("1", "tools/list", "", "{}", "")).bearer_auth(bearer);
    let request = modern("tools/list", None)
        .into_iter()
        .fold(request, |request, (name, value)| request.header(name, value));
    let reply = Reply::of(request).await;
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    match body["result"]["tools"].as_array() {
        Some(tools) => Ok(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()),
        None => Err(reply.status),
    }
}

#[tokio::test]
async fn people_see_what_their_roles_and_teams_give_and_what_is_theirs() {
    let edge = world("http://127.0.0.1:9/mcp");
    let all = || Ok(["u_echo", "u_other", "u_region", "u_safe"].map(str::to_owned).to_vec());
    let some = |tools: &[&str]| Ok(tools.iter().map(|tool| (*tool).to_owned()).collect::<Vec<_>>());
    let none = Err(404);
    let (developer, viewer, admin) = ("developer", "viewer", "admin");
    let core = ["u_echo", "u_safe"];
    let cases: [Case<'_>; 8] = [
        (ANN, &[], [none.clone(), none.clone(), none.clone(), none.clone()]),
        (ANN, &[[viewer, "core"]], [none.clone(), none.clone(), none.clone(), none.clone()]),
        (ANN, &[[developer, "core"]], [some(&core), all(), all(), some(&core)]),
        (ANN, &[[developer, "web"]], [some(&["u_other"]), all(), all(), none.clone()]),
        (
            "serviceAccounts/ci",
            &[[developer, "web"], [developer, "core"]],
            [some(&["u_echo", "u_other", "u_safe"]), none.clone(), all(), some(&core)],
        ),
        // Who is shown a team's things is not let in by what they may do elsewhere.
        (
            "users/bob",
            &[[viewer, "core"], [developer, ""]],
            [none.clone(), none.clone(), all(), none.clone()],
        ),
        ("users/eve", &[[admin, ""]], [all(), all(), all(), all()]),
        ("users/eve", &[[admin, "web"]], [some(&["u_other"]), none.clone(), all(), none]),
    ];
    for (name, pairs, expected) in cases {
        let bearer = edge.keys.person(name, 0, pairs);
        for (server, expected) in ["dev", "mine", "public", "team"].into_iter().zip(expected) {
            assert_eq!(tools(&edge, &bearer, server).await, expected, "{name} {pairs:?} at {server}");
        }
    }
    assert_eq!(tools(&edge, &edge.keys.person("users/eve", 0, &[["admin", ""]]), "gone").await, Err(404));
}

#[tokio::test]
async fn a_bearer_of_a_person_is_whole_or_not_valid() {
    let edge = world("http://127.0.0.1:9/mcp");
    let good = person_claims(ANN, 3, &[["developer", "core"]]);
    let post = async |claims: &Value| {
        Reply::of(edge.by(&edge.keys.sign(claims.clone()), "POST", &[], LIST)).await.status
    };
    // Without a session a legacy list is refused, once its sender is known.
    assert_eq!(post(&good).await, 400);
    let many = |count: usize| {
        let pairs = (0..count).map(|number| json!([gid("developer"), format!("t{number:010}")]));
        Value::Array(pairs.collect())
    };
    for (claim, value, status) in [
        ("gr", many(128), 404),
        ("gr", many(129), 401),
        ("gr", json!([]), 404),
        ("gr", Value::Null, 401),
        ("gr", json!("developer__"), 401),
        ("gr", json!(["developer__", "core_______"]), 401),
        ("gr", json!([["developer__"]]), 401),
        ("gr", json!([["developer__", "core_______", ""]]), 401),
        ("gr", json!([["", "core_______"]]), 401),
        ("gr", json!([["developer__", "core"]]), 401),
        ("gr", json!([["developer_!", ""]]), 401),
        ("gr", json!([[7, ""]]), 401),
        ("gr", json!([[{"role": "developer__"}, ""]]), 401),
        ("ep", json!(0), 400),
        ("ep", json!(i64::MAX), 400),
        ("ep", json!(-1), 401),
        ("ep", json!(9_223_372_036_854_775_808_u64), 401),
        ("ep", json!(1.5), 401),
        ("ep", json!("3"), 401),
        ("ep", Value::Null, 401),
        ("uid", json!(""), 401),
        ("uid", json!("u".repeat(65)), 401),
        ("uid", json!(["u"]), 401),
        ("uid", Value::Null, 401),
        ("exp", json!(1), 401),
        ("exp", Value::Null, 401),
        ("jti", Value::Null, 401),
        ("sub", json!("users/"), 401),
        ("sub", json!("users/a/b"), 401),
        ("sub", json!("serviceAccounts/"), 401),
        ("sub", json!("people/ann"), 401),
        ("iss", json!("j"), 401),
        ("aud", json!("b"), 401),
    ] {
        let mut claims = good.clone();
        claims[claim] = value.clone();
        assert_eq!(post(&claims).await, status, "{claim}: {value}");
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(post(&claims).await, 401, "without {claim}");
        }
    }
    let foreign = Keys::new().person(ANN, 3, &[["developer", "core"]]);
    assert_eq!(Reply::of(edge.by(&foreign, "POST", &[], LIST)).await.status, 401);
}

/// A token's bearer that names grants, or a person's that names a token, is no more than it is.
#[tokio::test]
async fn nobody_becomes_somebody_else_by_what_a_bearer_says_beside() {
    let edge = world("http://127.0.0.1:9/mcp");
    let mut claims = person_claims(ANN, 0, &[]);
    claims["jti"] = json!("uid-all");
    assert_eq!(Reply::of(edge.by(&edge.keys.sign(claims), "POST", &[], LIST)).await.status, 404);
    let mut claims = person_claims("tokens/some", 0, &[["admin", ""]]);
    claims["jti"] = json!("uid-some");
    assert_eq!(tools(&edge, &edge.keys.sign(claims.clone()), "dev").await, Ok(vec!["u_echo".to_owned()]));
    claims["jti"] = json!("uid-none");
    assert_eq!(tools(&edge, &edge.keys.sign(claims), "dev").await, Err(401));
}

#[tokio::test]
async fn every_transport_shows_a_person_what_they_may_call_and_no_more() {
    let upstream = echoing().await;
    let edge = world(&upstream.url);
    let bearer = edge.keys.person(ANN, 0, &[["developer", "core"]]);
    let call = |tool: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
    };
    let session = edge.session_by(&bearer, "2025-11-25", "{}").await;
    let mut socket = Socket::session_by(&edge, &bearer, "2025-06-18", "{}").await;
    let mut sse = Sse::session_by(&edge, &bearer, "2024-11-05", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let unknown = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"unknown tool: u_other"}}"#;
    for (body, sees, calls) in [(LIST.to_owned(), 2, 0), (call("u_echo"), 0, 1), (call("u_other"), 0, 0)] {
        let posted = Reply::of(edge.by(&bearer, "POST", &headers, &body)).await.messages().remove(0);
        for answer in [posted, socket.ask(&body).await, sse.ask(&body).await] {
            assert_eq!(answer.matches("inputSchema").count(), sees, "{answer}");
            assert_eq!(answer.matches(r#""content":[]"#).count(), calls, "{answer}");
            assert!(sees + calls > 0 || answer == unknown, "{answer}");
        }
    }
    let modern_call = ask("1", "tools/call", r#""name":"u_other","#, "{}", "");
    let headers = modern("tools/call", Some("u_other"));
    let reply = Reply::of(edge.by(&bearer, "POST", &headers, &modern_call)).await;
    assert_eq!(reply.body, unknown);
    let mut modern_socket = Socket::open_by(&edge, &bearer).await;
    assert_eq!(modern_socket.ask(&modern_call).await, unknown);
}

#[tokio::test]
async fn a_session_goes_on_with_a_renewed_bearer_and_with_nobody_elses() {
    let upstream = echoing().await;
    let edge = world(&upstream.url);
    let pairs = [["developer", "core"]];
    let bearer = edge.keys.person(ANN, 0, &pairs);
    let session = edge.session_by(&bearer, "2025-11-25", "{}").await;
    let mut renewed = person_claims(ANN, 4, &[["developer", "core"], ["developer", "web"]]);
    renewed["jti"] = json!("another session");
    renewed["exp"] = json!(renewed["exp"].as_u64().unwrap() + 600);
    let renewed = edge.keys.sign(renewed);
    let list =
        async |bearer: &str| Reply::of(edge.by(bearer, "POST", &[("mcp-session-id", &session)], LIST)).await;
    assert_eq!(list(&bearer).await.body.matches("inputSchema").count(), 2);
    assert_eq!(list(&renewed).await.body.matches("inputSchema").count(), 3, "what they have gained since");
    // Another's of the same rights, and of the same name in another life.
    assert_eq!(list(&edge.keys.person("users/bob", 0, &pairs)).await.status, 404);
    let mut reborn = person_claims(ANN, 0, &pairs);
    reborn["uid"] = json!("another");
    assert_eq!(list(&edge.keys.sign(reborn)).await.status, 404);
    assert_eq!(list(&edge.keys.bearer("all")).await.status, 404);
}

#[tokio::test]
async fn a_token_may_do_no_more_than_its_owner() {
    let mut edge = world("http://127.0.0.1:9/mcp");
    let bearer = edge.keys.bearer("all");
    edge.snapshot.access().servers = vec!["*".into()];
    let mut ceiling = async |owner: &str, pairs: Vec<_>| {
        let owner_uid = if owner.is_empty() { String::new() } else { uid_of(owner) };
        edge.snapshot.access().ceiling = Some(trunkline::edge::v1::Ceiling { owner_uid, pairs });
        edge.publish();
        [
            tools(&edge, &bearer, "dev").await.map(|tools| tools.len()),
            tools(&edge, &bearer, "mine").await.map(|tools| tools.len()),
            tools(&edge, &bearer, "public").await.map(|tools| tools.len()),
            tools(&edge, &bearer, "team").await.map(|tools| tools.len()),
        ]
    };
    let none = Err(404);
    assert_eq!(ceiling(ANN, vec![pair("developer", "core")]).await, [Ok(2), Ok(4), Ok(4), Ok(2)]);
    assert_eq!(ceiling("users/bob", vec![pair("developer", "web")]).await, [Ok(1), none, Ok(4), none]);
    assert_eq!(ceiling("", vec![pair("", "core")]).await, [Ok(2), none, Ok(4), Ok(2)]);
    assert_eq!(ceiling(ANN, vec![pair("viewer", "core")]).await, [none; 4]);
    assert_eq!(ceiling("users/eve", vec![pair("admin", "")]).await, [Ok(4); 4]);
}

/// Each may hold half of what there is: two people do not share one share, and one with two clients has one.
#[tokio::test]
async fn what_is_bounded_is_counted_by_person() {
    let limits = trunkline_edge_proxy::config::limits::Limits {
        max_streams_per_token: 1,
        ..trunkline_edge_proxy::config::limits::Limits::default()
    };
    let mut edge = Edge::limited("http://127.0.0.1:9/mcp", limits);
    grants(&mut edge.snapshot);
    edge.publish();
    let pairs = [["developer", "core"]];
    let open = async |bearer: &str| {
        let session = edge.session_by(bearer, "2025-11-25", "{}").await;
        edge.by(bearer, "GET", &[("mcp-session-id", &session)], "").send().await.unwrap()
    };
    let (ann, bob) = (edge.keys.person(ANN, 0, &pairs), edge.keys.person("users/bob", 0, &pairs));
    let renewed = edge.keys.person(ANN, 1, &pairs);
    let (first, other) = (open(&ann).await, open(&bob).await);
    assert_eq!([first.status(), other.status()], [200, 200]);
    assert_eq!(open(&renewed).await.status(), 429);
}
