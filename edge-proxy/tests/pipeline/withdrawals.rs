//! What people lose, in force on what runs and at every edge at once, without a new bearer; and what a new bearer gives back.
//!
//! Each way to lose something, on each transport, is among those of `withdrawn`.

use prost::Message as _;
use trunkline::edge::v1 as wire;
use trunkline_edge_proxy::snapshot::build::{Builder, Candidate};
use trunkline_edge_proxy::snapshot::{Budget, PageLimits};

use crate::streams::until;
use crate::support::{
    Edge, PATIENCE, Reply, Socket, Sse, TestFleet, TestSnapshot, Upstream, json, role, team, withdrawal,
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
const ANN: &str = "users/ann";
const PAIRS: [[&str; 2]; 2] = [["developer", "core"], ["viewer", "web"]];

fn grants(snapshot: &mut TestSnapshot) {
    snapshot.resources.grants = vec![
        role("developer", true, false),
        role("viewer", false, false),
        team("core", &["servers/dev"], &["*"]),
        team("web", &["servers/dev"], &["u_safe"]),
    ];
}

fn world() -> Edge {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    grants(&mut edge.snapshot);
    edge.publish();
    edge
}

/// The status of a list, and how many tools it has.
async fn list(edge: &Edge, bearer: &str, session: &str) -> (u16, usize) {
    let reply = Reply::of(edge.by(bearer, "POST", &[("mcp-session-id", session)], LIST)).await;
    (reply.status, reply.body.matches("inputSchema").count())
}

#[tokio::test]
async fn a_bearer_of_before_ends_and_one_of_after_and_other_people_go_on() {
    let mut edge = world();
    let [before, after] = [3, 4].map(|epoch| edge.keys.person(ANN, epoch, &PAIRS));
    let other = edge.keys.person("users/bob", 3, &PAIRS);
    let mut sockets = Vec::new();
    for bearer in [&before, &after, &other] {
        let session = edge.session_by(bearer, "2025-11-25", "{}").await;
        let mut listening = edge.by(bearer, "GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
        until(&mut listening, "id: 0").await;
        let socket = Socket::session_by(&edge, bearer, "2025-06-18", "{}").await;
        let sse = Sse::session_by(&edge, bearer, "2024-11-05", "{}").await;
        sockets.push((bearer, session, listening, socket, sse));
    }
    edge.snapshot.resources.withdrawals = vec![withdrawal(ANN, 4, &[])];
    edge.publish();
    let mut sockets = sockets.into_iter();
    let (bearer, session, listening, mut socket, mut sse) = sockets.next().unwrap();
    assert_eq!(list(&edge, bearer, &session).await, (401, 0));
    assert_eq!(socket.closed().await, 1008);
    let ended = async {
        while sse.event().await.is_some() {}
        listening.text().await.unwrap()
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the streams go on");
    for (bearer, session, _listening, mut socket, mut sse) in sockets {
        assert_eq!(list(&edge, bearer, &session).await, (200, 4));
        let pong = r#"{"jsonrpc":"2.0","id":"p","result":{}}"#;
        assert_eq!((socket.ask(PING).await, sse.ask(PING).await), (pong.to_owned(), pong.to_owned()));
    }
    // The session of before is theirs, so it goes on with the bearer of after.
    assert_eq!(list(&edge, &after, &session).await, (200, 4));
}

#[tokio::test]
async fn a_pair_that_is_lost_leaves_the_others_and_what_is_gained_needs_a_new_bearer() {
    let mut edge = world();
    let both = [["developer", "core"], ["developer", "web"]];
    let bearer = edge.keys.person(ANN, 3, &both);
    let session = edge.session_by(&bearer, "2025-11-25", "{}").await;
    assert_eq!(list(&edge, &bearer, &session).await, (200, 4));
    let mut after = async |lost: &[(i64, [&str; 2])], bearer: &str| {
        edge.snapshot.resources.withdrawals = vec![withdrawal(ANN, 0, lost)];
        edge.publish();
        list(&edge, bearer, &session).await
    };
    let removed = [(4, ["", "core"])];
    assert_eq!(after(&removed, &bearer).await, (200, 1), "only the other team is left");
    assert_eq!(after(&[(4, ["viewer", "core"])], &bearer).await, (200, 4), "another role");
    assert_eq!(after(&[(4, ["developer", ""])], &bearer).await, (200, 4), "the same role, everywhere");
    assert_eq!(after(&[(3, ["", "core"])], &bearer).await, (200, 4), "before the bearer was signed");
    assert_eq!(after(&[(4, ["", "core"]), (4, ["developer", "web"])], &bearer).await, (404, 0));
    // What was lost before they were added anew is not what the new bearer says.
    let renewed = edge.keys.person(ANN, 4, &both);
    edge.snapshot.resources.withdrawals = vec![withdrawal(ANN, 0, &removed)];
    edge.publish();
    assert_eq!(list(&edge, &renewed, &session).await, (200, 4));
    assert_eq!(list(&edge, &bearer, &session).await, (200, 1));
}

#[tokio::test]
async fn a_role_that_is_edited_narrows_and_widens_every_bearer_that_names_it() {
    let mut edge = world();
    let bearer = edge.keys.person(ANN, 0, &[["developer", "core"], ["viewer", ""]]);
    let session = edge.session_by(&bearer, "2025-11-25", "{}").await;
    let mut socket = Socket::session_by(&edge, &bearer, "2025-06-18", "{}").await;
    let mut after = async |developer: (bool, bool), viewer: (bool, bool)| {
        let grants = &mut edge.snapshot.resources.grants;
        grants[0] = role("developer", developer.0, developer.1);
        grants[1] = role("viewer", viewer.0, viewer.1);
        edge.publish();
        list(&edge, &bearer, &session).await
    };
    assert_eq!(after((true, false), (false, false)).await, (200, 4));
    assert_eq!(
        after((false, false), (true, false)).await,
        (404, 0),
        "everywhere is not in the team: that is a pair"
    );
    assert_eq!(after((true, true), (false, false)).await, (200, 4), "all, but in one team");
    assert_eq!(
        after((false, true), (false, true)).await,
        (404, 0),
        "who may call nothing may not call everything"
    );
    assert_eq!(socket.closed().await, 1008);
    assert_eq!(after((true, false), (false, false)).await, (200, 4), "it was given back");
}

#[tokio::test]
async fn what_is_lost_is_lost_at_every_edge_and_sessions_move_between_those_that_do_not_know_yet() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
    })
    .await;
    let mut fleet = TestFleet::changed(&upstream.url, 2, grants).await;
    let bearer = fleet.edges[0].keys.person(ANN, 3, &PAIRS);
    let session = fleet.edges[0].session_by(&bearer, "2025-11-25", "{}").await;
    for edge in &fleet.edges {
        assert_eq!(list(edge, &bearer, &session).await, (200, 4));
    }
    let siblings = [fleet.edges[0].sibling(), fleet.edges[1].sibling()];
    fleet.edges[1].publish(&siblings, |snapshot| {
        grants(snapshot);
        snapshot.resources.withdrawals = vec![withdrawal(ANN, 0, &[(4, ["", "core"])])];
    });
    assert_eq!(list(&fleet.edges[0], &bearer, &session).await, (200, 4));
    assert_eq!(list(&fleet.edges[1], &bearer, &session).await, (404, 0));
    fleet.edges[0].publish(&siblings, |snapshot| {
        grants(snapshot);
        snapshot.resources.withdrawals = vec![withdrawal(ANN, 4, &[])];
    });
    assert_eq!(list(&fleet.edges[0], &bearer, &session).await, (401, 0));
    let renewed = fleet.edges[0].keys.person(ANN, 4, &PAIRS);
    for edge in &fleet.edges {
        assert_eq!(list(edge, &renewed, &session).await, (200, 4));
    }
}

/// A token as control planes have sent it since the first release, byte for byte: `tokens/old` for all tools of `servers/dev`.
const RECORDED: &[u8] =
    b"\x0a\x0atokens/old\x12\x07uid-old\x1a\x06\x08\x80\xae\x99\xa4\x0f\x2a\x0bservers/dev\x32\x03u_*\x3a\x01*\x42\x01*";

/// What an edge of that release knows of a token.
#[derive(Clone, PartialEq, prost::Message)]
struct FirstToken {
    #[prost(string, repeated, tag = "5")]
    servers: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    tools: Vec<String>,
}

#[tokio::test]
async fn tokens_of_before_are_what_they_were_and_new_ones_allow_nothing_at_an_edge_of_before() {
    use delta::client::Sink as _;
    use trunkline::edge::v1::StreamType;
    let mut edge = world();
    let mut builder = Builder::new(PageLimits::default(), Budget::default());
    edge.snapshot.resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
    let candidate = |body: &[u8]| Candidate {
        kind: StreamType::Token,
        name: "tokens/old".to_owned(),
        version: body.len().to_string(),
        body: bytes::Bytes::copy_from_slice(body),
    };
    builder.accept(candidate(RECORDED)).unwrap();
    let snapshot = builder.compile(1).snapshot;
    let token = &snapshot.tokens["uid-old"];
    assert!(token.conditions.is_none() && !token.revoked, "it has what it had");
    assert_eq!((&*token.name, token.expires), ("tokens/old", Some(4_102_444_800)));
    edge.current.publish(snapshot);
    let bearer = edge.keys.bearer("old");
    let session = edge.session_by(&bearer, "2025-11-25", "{}").await;
    assert_eq!(list(&edge, &bearer, &session).await, (200, 4));

    let mut newer = wire::Token::decode(RECORDED).unwrap();
    assert_eq!(newer.encode_to_vec(), RECORDED);
    edge.snapshot.access().methods = vec!["tools/*".into()];
    newer = edge.snapshot.resources.tokens[0].clone();
    let known = FirstToken::decode(&*newer.encode_to_vec()).unwrap();
    assert_eq!(known, FirstToken::default(), "what it cannot read gives it nothing");
}
