//! The whole control plane over a socket: what is created through the API is read from the stream, as an edge would.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[path = "support/edge_end.rs"]
mod edge_end;

use std::collections::{BTreeMap, BTreeSet};

use control::{Control, upstream_at, with_bearer};
use edge_end::{EdgeEnd, Held, holds};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Code;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::fleet_service_client::FleetServiceClient;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, DeleteEdgeRequest, Edge, EdgeStatus, EnrollEdgeRequest, GetEdgeRequest,
    ListEdgesRequest, RenewEdgeCredentialRequest, RolloutState, WatchRolloutRequest,
};
use trunkline::edge;
use trunkline::edge::v1::StreamType;
use trunkline::identity::v1::signing_key_service_client::SigningKeyServiceClient;
use trunkline::identity::v1::team_service_client::TeamServiceClient;
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{
    CreateTeamRequest, CreateTokenRequest, DeleteTokenRequest, InviteMemberRequest, RemoveMemberRequest,
    RotateSigningKeyRequest, Team, Token,
};
use trunkline::registry::v1::credential::Kind as Form;
use trunkline::registry::v1::server_service_client::ServerServiceClient;
use trunkline::registry::v1::tool_service_client::ToolServiceClient;
use trunkline::registry::v1::{
    BearerCredential, CreateToolRequest, Credential, DeleteServerRequest, Member, Server, Tool,
    UpdateServerRequest, Upstream,
};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9/mcp";

async fn connect(control: &Control, id: &str) -> EdgeEnd {
    let credential = control.enrol(id).await;
    EdgeEnd::connect(&control.channel, id, &credential, Held::new()).await.unwrap()
}

fn titled(title: &str) -> Server {
    Server { title: title.to_owned(), ..Default::default() }
}

async fn edge_status(control: &Control, name: &str) -> EdgeStatus {
    let request = control.admin(GetEdgeRequest { name: name.to_owned() });
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    fleet.get_edge(request).await.unwrap().into_inner().edge.unwrap()
}

/// Waits until a replica has heard that an edge is connected, wherever it is.
async fn until_connected(control: &Control, name: &str) {
    let look = async {
        while !edge_status(control, name).await.connected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(edge_end::PATIENCE, look).await.unwrap();
}

/// How each edge ends up with a revision, by name.
async fn rollout(control: &Control, revision: i64) -> BTreeMap<String, RolloutState> {
    let request = control.admin(WatchRolloutRequest { revision });
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    let mut news = fleet.watch_rollout(request).await.unwrap().into_inner();
    let mut states = BTreeMap::new();
    while let Some(news) = news.next().await {
        let news = news.unwrap();
        states.insert(news.edge.clone().unwrap_or_default().name, news.state());
    }
    states
}

#[tokio::test]
async fn what_is_created_reaches_edges_and_what_is_deleted_leaves_them() {
    let control = Control::start().await;
    let mut edge = connect(&control, "e1").await;
    edge.until(|held| holds(held, StreamType::TrustBundle, "default")).await;
    let trust = edge::v1::TrustBundle::decode(edge.body(StreamType::TrustBundle, "default")).unwrap();
    assert_eq!((trust.verification_keys.len(), trust.sealing_keys.len()), (1, 1));
    assert_eq!(trust.max_age.unwrap().seconds, 86_400);

    create_everything(&control).await;
    let token = control.token("laptop", "servers/dev").await.token.unwrap();
    edge.until(|held| {
        holds(held, StreamType::Server, "servers/dev") && holds(held, StreamType::Token, "tokens/laptop")
    })
    .await;
    let seen = edge::v1::Upstream::decode(edge.body(StreamType::Upstream, "upstreams/up")).unwrap();
    assert_eq!((seen.url.as_str(), seen.has_secret), (NOWHERE, true));
    let secret = edge::v1::Secret::decode(edge.body(StreamType::Secret, "upstreams/up")).unwrap();
    let header = edge::v1::SecretParameter { name: "authorization".into(), value: "Bearer s3cret".into() };
    assert_eq!(secret.headers, [header]);
    let server = edge::v1::Server::decode(edge.body(StreamType::Server, "servers/dev")).unwrap();
    let entry = edge::v1::Entry {
        exposed_name: "up_echo".to_owned(),
        target: "upstreams/up/tools/echo".to_owned(),
        ..Default::default()
    };
    assert_eq!((server.title.as_str(), server.tools), ("dev", vec![entry]));
    let seen = edge::v1::Token::decode(edge.body(StreamType::Token, "tokens/laptop")).unwrap();
    assert_eq!((seen.uid, seen.revoked), (token.meta.unwrap().uid, false));
    assert_eq!(seen.servers, ["servers/dev"]);

    let request = DeleteTokenRequest { name: "tokens/laptop".to_owned(), ..Default::default() };
    let mut tokens = TokenServiceClient::new(control.channel.clone());
    tokens.delete_token(control.admin(request)).await.unwrap();
    edge.until(|held| !holds(held, StreamType::Token, "tokens/laptop")).await;
}

/// An upstream with a credential, a tool of it, and a server that exposes the tool.
async fn create_everything(control: &Control) {
    let kind = Some(Form::Bearer(BearerCredential { token: "s3cret".to_owned(), ..Default::default() }));
    let credential = Some(Credential { kind, ..Default::default() });
    control.upstream("up", Upstream { credential, ..upstream_at(NOWHERE) }, false).await;
    let definition_json = r#"{"name":"echo","inputSchema":{"type":"object"}}"#.to_owned();
    let request = CreateToolRequest {
        parent: "upstreams/up".to_owned(),
        tool_id: "echo".to_owned(),
        tool: Some(Tool { definition_json, ..Default::default() }),
        ..Default::default()
    };
    ToolServiceClient::new(control.channel.clone()).create_tool(control.admin(request)).await.unwrap();
    let member = Member { r#match: "up/*".to_owned(), ..Default::default() };
    control.server("dev", Server { tools: vec![member], ..titled("dev") }).await;
}

/// Types are pushed in the order of each side's own table, and the last one tells that all are subscribed to: it stays the last.
#[tokio::test]
async fn an_edge_that_knows_nothing_of_people_is_sent_what_it_knows() {
    assert_eq!(StreamType::ALL.last(), Some(&StreamType::Server));
    let of_before = [
        StreamType::Secret,
        StreamType::TrustBundle,
        StreamType::Sibling,
        StreamType::Upstream,
        StreamType::Tool,
        StreamType::Resource,
        StreamType::Prompt,
        StreamType::Token,
        StreamType::Server,
    ];
    let control = Control::start().await;
    create_everything(&control).await;
    control.token("laptop", "servers/dev").await;
    let mut teams = TeamServiceClient::new(control.channel.clone());
    let team =
        CreateTeamRequest { team_id: "core".to_owned(), team: Some(Team::default()), ..Default::default() };
    teams.create_team(control.admin(team)).await.unwrap();
    let invite = InviteMemberRequest {
        team: "teams/core".to_owned(),
        email: "ann@example.org".to_owned(),
        member: None,
    };
    teams.invite_member(control.admin(invite)).await.unwrap();
    let remove = RemoveMemberRequest {
        team: "teams/core".to_owned(),
        principal: "users/ann@example.org".to_owned(),
        force: false,
    };
    teams.remove_member(control.admin(remove)).await.unwrap();

    let edge = Edge { id: "e1".to_owned(), ..Default::default() };
    let credential = control.enrol("e1").await;
    let mut old =
        EdgeEnd::connect_knowing(&control.channel, edge, &credential, Held::new(), &of_before).await.unwrap();
    old.until(|held| holds(held, StreamType::Server, "servers/dev")).await;
    old.until_alive().await;
    let types: BTreeSet<_> = old.held.keys().map(|(kind, _)| *kind).collect();
    assert!(!types.contains(&StreamType::Grant) && !types.contains(&StreamType::Withdrawal), "{types:?}");
    let token = edge::v1::Token::decode(old.body(StreamType::Token, "tokens/laptop")).unwrap();
    assert_eq!((token.servers, token.access), (vec!["servers/dev".to_owned()], None));
    // It acknowledges what it is sent, and so hears of removals.
    let request = DeleteTokenRequest { name: "tokens/laptop".to_owned(), ..Default::default() };
    let mut tokens = TokenServiceClient::new(control.channel.clone());
    let gone = tokens.delete_token(control.admin(request)).await.unwrap().into_inner().revision;
    old.until(|held| !holds(held, StreamType::Token, "tokens/laptop")).await;
    old.until_alive().await;
    assert!(edge_status(&control, "edges/e1").await.acked_revision >= gone);
}

#[tokio::test]
async fn a_rollout_ends_when_every_edge_has_acknowledged() {
    let control = Control::start().await;
    let mut edges = Vec::new();
    for id in ["e1", "e2", "e3"] {
        let mut edge = connect(&control, id).await;
        edges.push(tokio::spawn(async move {
            edge.until(|held| holds(held, StreamType::Server, "servers/last")).await;
        }));
    }
    let all = ["edges/e1", "edges/e2", "edges/e3"];
    let acknowledged: BTreeMap<_, _> =
        all.map(|name| (name.to_owned(), RolloutState::Acknowledged)).into_iter().collect();
    for number in 0..3 {
        let revision = control.server(&format!("s{number}"), titled("x")).await;
        assert_eq!(rollout(&control, revision).await, acknowledged);
        assert!(edge_status(&control, "edges/e2").await.acked_revision >= revision);
    }
    control.server("last", titled("x")).await;
    for edge in edges {
        edge.await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_is_shown_until_the_resource_is_mended() {
    let control = Control::start().await;
    let mut edge = connect(&control, "e1").await;
    edge.until_alive().await;
    edge.refused.insert("servers/odd".to_owned());
    let revision = control.server("odd", titled("odd")).await;
    let good = control.server("good", titled("good")).await;
    edge.until(|held| holds(held, StreamType::Server, "servers/good")).await;
    let all = |state| BTreeMap::from([("edges/e1".to_owned(), state)]);
    // What is refused is no part of the change that came after it, and does not hold that back.
    assert_eq!(rollout(&control, good).await, all(RolloutState::Acknowledged));
    assert_eq!(rollout(&control, revision).await, all(RolloutState::Refused));
    let status = edge_status(&control, "edges/e1").await;
    let [refusal] = &status.refusals[..] else { panic!("{status:?}") };
    let told = refusal.refusal.clone().unwrap();
    assert_eq!((told.name.as_str(), told.reason.as_str()), ("servers/odd", "not to my taste"));
    assert_eq!(refusal.type_url, StreamType::Server.url());
    assert_eq!(refusal.revision, revision);
    assert!(status.acked_revision >= good && status.sent_revision >= good, "{status:?}");
    assert_eq!(status.lag, Some(prost_types::Duration::default()));

    // A change of the same resource that is refused again is a change that is refused.
    let request = UpdateServerRequest {
        server: Some(Server { name: "servers/odd".to_owned(), ..titled("as odd") }),
        ..Default::default()
    };
    let mut servers = ServerServiceClient::new(control.channel.clone());
    let updated = servers.update_server(control.admin(request)).await.unwrap().into_inner();
    let again = updated.server.unwrap().meta.unwrap().revision;
    let response = edge.next().await.unwrap().unwrap();
    edge.take(response).await;
    assert_eq!(rollout(&control, again).await, all(RolloutState::Refused));

    edge.refused.clear();
    let request = UpdateServerRequest {
        server: Some(Server { name: "servers/odd".to_owned(), ..titled("even") }),
        ..Default::default()
    };
    servers.update_server(control.admin(request)).await.unwrap();
    edge.until(|held| holds(held, StreamType::Server, "servers/odd")).await;
    assert_eq!(rollout(&control, 0).await, all(RolloutState::Acknowledged));
    assert_eq!(edge_status(&control, "edges/e1").await.refusals, []);
}

#[tokio::test]
async fn a_deleted_edge_is_refused() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let mut edge = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
    edge.until_alive().await;
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    let listed = fleet.list_edges(control.admin(ListEdgesRequest::default())).await.unwrap().into_inner();
    assert_eq!((listed.edges[0].name.as_str(), listed.edges[0].connected), ("edges/e1", true));
    let delete = |validate_only, force| {
        control.admin(DeleteEdgeRequest { name: "edges/e1".to_owned(), validate_only, force })
    };
    // While it is connected, only by force: from any replica, and also where nothing would be deleted.
    let other = control.replica().await;
    until_connected(&other, "edges/e1").await;
    for validate_only in [true, false] {
        let mut fleet = FleetServiceClient::new(other.channel.clone());
        let refused = fleet.delete_edge(delete(validate_only, false)).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (
                Code::FailedPrecondition,
                "edges/e1 is connected; once deleted it serves on what it has, without hearing of revocations, for \
                 --trust-max-age at most; stop it first, or set `force`"
            )
        );
    }
    fleet.delete_edge(delete(true, true)).await.unwrap();
    assert!(edge_status(&control, "edges/e1").await.connected);
    fleet.delete_edge(delete(false, true)).await.unwrap();
    assert_eq!(edge.until_end().await.0.unwrap().code(), Code::Unauthenticated);
    let again = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.err().unwrap();
    assert_eq!(again.code(), Code::Unauthenticated);
    let renewal = with_bearer(RenewEdgeCredentialRequest {}, &credential);
    let mut enrolment = EnrollmentServiceClient::new(control.channel.clone());
    assert_eq!(enrolment.renew_edge_credential(renewal).await.unwrap_err().code(), Code::Unauthenticated);
    // Enrolled again, it is another edge of the same name: the old credential stays refused.
    let mut edge = connect(&control, "e1").await;
    edge.until_alive().await;
    let old = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.err().unwrap();
    assert_eq!(old.code(), Code::Unauthenticated);
}

/// Connects an edge that others can reach.
async fn connect_sibling(control: &Control, id: &str) -> EdgeEnd {
    let edge = Edge {
        id: id.to_owned(),
        sibling_address: format!("{id}.example:4447"),
        sibling_certificate_sha256: vec![7; 32],
        ..Default::default()
    };
    let credential = control.enrol(id).await;
    EdgeEnd::connect_as(&control.channel, edge, &credential, Held::new()).await.unwrap()
}

#[tokio::test]
async fn edges_are_told_of_each_other_by_every_control_plane() {
    let control = Control::start().await;
    let other = control.replica().await;
    let (mut here, mut there) = (connect_sibling(&control, "e1").await, connect_sibling(&other, "e2").await);
    let sibling = |id: &str| format!("siblings/{id}");
    let both = |held: &Held| ["e1", "e2"].iter().all(|id| holds(held, StreamType::Sibling, &sibling(id)));
    here.until(both).await;
    there.until(both).await;
    let seen = edge::v1::Sibling::decode(there.body(StreamType::Sibling, "siblings/e1")).unwrap();
    let expected = edge::v1::Sibling {
        name: "siblings/e1".into(),
        address: "e1.example:4447".into(),
        certificate_sha256: vec![7; 32],
    };
    assert_eq!(seen, expected);
    assert_eq!(edge_status(&other, "edges/e1").await.sibling_address, "e1.example:4447");

    // One that leaves stays for a while; one that is deleted goes at once. Neither is a change of the registry.
    let before = edge_status(&control, "edges/e2").await.acked_revision;
    drop(here);
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    let request =
        control.admin(DeleteEdgeRequest { name: "edges/e1".to_owned(), force: true, ..Default::default() });
    assert!(holds(&there.held, StreamType::Sibling, "siblings/e1"));
    fleet.delete_edge(request).await.unwrap();
    there.until(|held| !holds(held, StreamType::Sibling, "siblings/e1")).await;
    assert!(holds(&there.held, StreamType::Sibling, "siblings/e2"));
    assert_eq!(edge_status(&control, "edges/e2").await.acked_revision, before);
}

#[tokio::test]
async fn an_edge_that_cannot_be_reached_or_known_is_told_to_nobody() {
    let control = Control::start().await;
    for (id, address, certificate) in [("e1", "", 32), ("e2", "host", 32), ("e3", "host:1", 31)] {
        let edge = Edge {
            id: id.to_owned(),
            sibling_address: address.to_owned(),
            sibling_certificate_sha256: vec![7; certificate],
            ..Default::default()
        };
        let credential = control.enrol(id).await;
        let mut edge = EdgeEnd::connect_as(&control.channel, edge, &credential, Held::new()).await.unwrap();
        edge.until_alive().await;
    }
    let mut reached = connect_sibling(&control, "e4").await;
    reached.until(|held| holds(held, StreamType::Sibling, "siblings/e4")).await;
    assert_eq!(reached.held.keys().filter(|(kind, _)| *kind == StreamType::Sibling).count(), 1);
}

#[tokio::test]
async fn an_edge_that_connects_again_keeps_its_credential() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let mut first = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
    first.until_alive().await;
    let mut second = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
    second.until_alive().await;
    // Not UNAUTHENTICATED, at which edges throw their credential away.
    assert_eq!(first.until_end().await.0.unwrap().code(), Code::Aborted);
    assert!(edge_status(&control, "edges/e1").await.connected);
}

#[tokio::test]
async fn reconnecting_receives_only_what_differs() {
    let control = Control::start().await;
    for id in ["changed", "gone", "same"] {
        control.server(id, titled(id)).await;
    }
    // Writes in quick succession are published together: another edge that has the last proves that all are out.
    connect(&control, "e2").await.until(|held| holds(held, StreamType::Server, "servers/same")).await;
    let credential = control.enrol("e1").await;
    let mut edge = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
    assert_eq!(edge.until_alive().await, ["+default", "+servers/changed", "+servers/gone", "+servers/same"]);
    let held = edge.held.clone();
    drop(edge);

    let mut servers = ServerServiceClient::new(control.channel.clone());
    let delete = DeleteServerRequest { name: "servers/gone".to_owned(), ..Default::default() };
    servers.delete_server(control.admin(delete)).await.unwrap();
    let server = Some(Server { name: "servers/changed".to_owned(), ..titled("another") });
    let update = UpdateServerRequest { server, ..Default::default() };
    servers.update_server(control.admin(update)).await.unwrap();
    let newest = control.server("new", titled("new")).await;
    connect(&control, "e3").await.until(|held| holds(held, StreamType::Server, "servers/new")).await;
    let mut edge = EdgeEnd::connect(&control.channel, "e1", &credential, held).await.unwrap();
    assert_eq!(edge.until_alive().await, ["+servers/changed", "+servers/new", "-servers/gone"]);
    assert!(edge_status(&control, "edges/e1").await.acked_revision >= newest);

    let held = edge.held.clone();
    drop(edge);
    let mut edge = EdgeEnd::connect(&control.channel, "e1", &credential, held).await.unwrap();
    assert_eq!(edge.until_alive().await, [""; 0]);
}

#[tokio::test]
async fn draining_is_announced_before_the_stream_ends() {
    let control = Control::start().await;
    let mut edge = connect(&control, "e1").await;
    edge.until_alive().await;
    let (end, ()) = tokio::join!(edge.until_end(), control.running.drain());
    let (status, draining) = end;
    assert!(status.is_none() && draining, "{status:?}");
}

#[tokio::test]
async fn bearers_stay_valid_when_the_signing_key_is_rotated() {
    let control = Control::start().await;
    control.server("dev", titled("dev")).await;
    let old = control.token("old", "servers/dev").await.bearer;
    let credential = control.enrol("e1").await;
    let mut keys = SigningKeyServiceClient::new(control.channel.clone());
    keys.rotate_signing_key(control.admin(RotateSigningKeyRequest {})).await.unwrap();
    let new = control.token("new", "servers/dev").await.bearer;
    // The credentials of edges are signed with the same keys.
    let mut edge = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
    edge.until(|held| {
        holds(held, StreamType::Token, "tokens/new") && holds(held, StreamType::Token, "tokens/old")
    })
    .await;
    let trust = edge::v1::TrustBundle::decode(edge.body(StreamType::TrustBundle, "default")).unwrap();
    let (old_key, new_key) = (key_of(&trust, &old).unwrap(), key_of(&trust, &new).unwrap());
    assert_ne!(old_key, new_key);
    assert_eq!(trust.verification_keys.len(), 2);
}

/// The key of the bundle that verifies a bearer, as an edge finds it.
fn key_of(trust: &edge::v1::TrustBundle, bearer: &str) -> Option<String> {
    let kid = jsonwebtoken::decode_header(bearer).unwrap().kid.unwrap();
    let key = trust.verification_keys.iter().find(|key| key.key_id == kid)?;
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_str(&key.public_jwk_json).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_required_spec_claims(&["iss", "aud", "sub"]);
    rules.set_issuer(&[&trust.issuer]);
    rules.set_audience(&[&trust.audience]);
    rules.validate_exp = false;
    let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let claims = jsonwebtoken::decode::<serde_json::Value>(bearer, &public, &rules).unwrap().claims;
    assert!(claims.get("exp").is_none(), "{claims}");
    Some(kid)
}

#[tokio::test]
async fn strangers_get_nothing() {
    let control = Control::start().await;
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    assert_eq!(
        fleet.list_edges(ListEdgesRequest::default()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let credential = control.enrol("e1").await;
    let request = with_bearer(ListEdgesRequest::default(), &credential);
    assert_eq!(fleet.list_edges(request).await.unwrap_err().code(), Code::Unauthenticated);
    let mut enrolment = EnrollmentServiceClient::new(control.channel.clone());
    let join = |join_token: &str, id: &str| EnrollEdgeRequest {
        join_token: join_token.to_owned(),
        edge_id: id.to_owned(),
        ..Default::default()
    };
    let refused = enrolment.enroll_edge(join("guess", "e2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // A join token is good for as many edges as it was made for.
    let request = control.admin(CreateJoinTokenRequest { max_uses: Some(1), ..Default::default() });
    let once = enrolment.create_join_token(request).await.unwrap().into_inner().join_token;
    enrolment.enroll_edge(join(&once, "e2")).await.unwrap();
    let refused = enrolment.enroll_edge(join(&once, "e3")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // An edge is who it enrolled as.
    let mut other = EdgeEnd::connect(&control.channel, "e3", &credential, Held::new()).await.unwrap();
    assert_eq!(other.until_end().await.0.unwrap().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_kept_on_disk_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let control = Control::start().await;
    let data = control.folder.path().join("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.contains(&data.join("registry.db")), "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn tokens_that_are_about_to_end_are_counted() {
    let control = Control::start().await;
    control.server("dev", titled("dev")).await;
    for (id, days) in [("soon", 1), ("later", 30)] {
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(days * 86_400);
        let token = Token { expire_time: Some(end.into()), ..Token::default() };
        let request =
            CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
        let mut tokens = TokenServiceClient::new(control.channel.clone());
        tokens.create_token(control.admin(request)).await.unwrap();
    }
    control.token("never", "servers/dev").await;
    let counted = async {
        loop {
            let metrics = control.metrics().await;
            let has = |line: &str| metrics.lines().any(|found| found == line);
            if has("trunkline_control_tokens 3") {
                assert!(has("trunkline_control_tokens_expiring 1"), "{metrics}");
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(edge_end::PATIENCE, counted).await.unwrap();
}
