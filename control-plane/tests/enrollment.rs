//! Enrolment over a socket: who has a join token does not become an edge that is enrolled, and what has ended opens nothing
//! more, on any replica.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[path = "support/edge_end.rs"]
mod edge_end;

use control::{Control, with_bearer};
use edge_end::{EdgeEnd, Held, PATIENCE, holds};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::fleet_service_client::FleetServiceClient;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteEdgeRequest, DeleteJoinTokenRequest, Edge,
    EdgeStatus, EnrollEdgeRequest, GetEdgeRequest, GetJoinTokenRequest, JoinToken, ListEdgesRequest,
    ListJoinTokensRequest, RenewEdgeCredentialRequest,
};
use trunkline::edge::v1::StreamType;
use trunkline::registry::v1::Server;
use trunkline::telemetry::v1::usage_service_client::UsageServiceClient;
use trunkline::telemetry::v1::{ReportUsageRequest, ReportUsageResponse};

fn enrolment(control: &Control) -> EnrollmentServiceClient<tonic::transport::Channel> {
    EnrollmentServiceClient::new(control.channel.clone())
}

async fn join_token(control: &Control, max_uses: i32, edge: &str) -> CreateJoinTokenResponse {
    let request =
        CreateJoinTokenRequest { max_uses: Some(max_uses), edge: edge.to_owned(), ..Default::default() };
    enrolment(control).create_join_token(control.admin(request)).await.unwrap().into_inner()
}

async fn enroll_with(control: &Control, request: EnrollEdgeRequest) -> Result<String, Status> {
    Ok(enrolment(control).enroll_edge(request).await?.into_inner().credential)
}

async fn enroll(control: &Control, id: &str, join_token: &str) -> Result<String, Status> {
    let request =
        EnrollEdgeRequest { join_token: join_token.to_owned(), edge_id: id.to_owned(), ..Default::default() };
    enroll_with(control, request).await
}

async fn connect(control: &Control, id: &str, credential: &str) -> EdgeEnd {
    let mut edge = EdgeEnd::connect(&control.channel, id, credential, Held::new()).await.unwrap();
    edge.until_alive().await;
    edge
}

async fn edge_status(control: &Control, id: &str) -> EdgeStatus {
    let request = control.admin(GetEdgeRequest { name: format!("edges/{id}") });
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    fleet.get_edge(request).await.unwrap().into_inner().edge.unwrap()
}

async fn delete_edge(control: &Control, id: &str) {
    let request =
        control.admin(DeleteEdgeRequest { name: format!("edges/{id}"), force: true, ..Default::default() });
    FleetServiceClient::new(control.channel.clone()).delete_edge(request).await.unwrap();
}

async fn get_join_token(control: &Control, name: &str) -> Result<JoinToken, Status> {
    let request = control.admin(GetJoinTokenRequest { name: name.to_owned() });
    Ok(enrolment(control).get_join_token(request).await?.into_inner().join_token.unwrap())
}

async fn renew(control: &Control, credential: &str) -> Result<String, Status> {
    let request = with_bearer(RenewEdgeCredentialRequest {}, credential);
    Ok(enrolment(control).renew_edge_credential(request).await?.into_inner().credential)
}

/// An open stream of usage.
struct Reports {
    out: mpsc::Sender<ReportUsageRequest>,
    acknowledged: Streaming<ReportUsageResponse>,
}

impl Reports {
    /// Opens a stream, and reports one batch.
    async fn open(control: &Control, credential: &str) -> Result<Self, Status> {
        let (out, batches) = mpsc::channel(4);
        out.send(batch(1)).await.unwrap();
        let request = with_bearer(ReceiverStream::new(batches), credential);
        let mut client = UsageServiceClient::new(control.channel.clone());
        let mut acknowledged = client.report_usage(request).await?.into_inner();
        assert_eq!(acknowledged.message().await?.unwrap().acked_sequence, 1);
        Ok(Self { out, acknowledged })
    }

    async fn end(&mut self) -> Status {
        let next = tokio::time::timeout(PATIENCE, self.acknowledged.message()).await.unwrap();
        next.unwrap_err()
    }
}

fn batch(sequence: i64) -> ReportUsageRequest {
    ReportUsageRequest { run_id: "run".to_owned(), sequence, ..Default::default() }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn edge_unknown() -> (Code, String) {
    (Code::Unauthenticated, "EDGE_UNKNOWN".to_owned())
}

/// Whatever a credential opens is refused.
async fn opens_nothing(control: &Control, id: &str, credential: &str) {
    let stream = EdgeEnd::connect(&control.channel, id, credential, Held::new()).await.err().unwrap();
    assert_eq!(reason(&stream), edge_unknown());
    assert_eq!(reason(&renew(control, credential).await.unwrap_err()), edge_unknown());
    assert_eq!(reason(&Reports::open(control, credential).await.err().unwrap()), edge_unknown());
}

#[tokio::test]
async fn a_join_token_takes_over_no_edge_that_is_enrolled() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let mut edge = connect(&control, "e1", &credential).await;
    let stolen = join_token(&control, 3, "").await;
    let error = enroll(&control, "e1", &stolen.join_token).await.unwrap_err();
    assert_eq!(reason(&error), (Code::AlreadyExists, "EDGE_EXISTS".to_owned()));
    assert_eq!(
        error.message(),
        "edge `e1` is enrolled already, and a join token alone does not replace it; choose another id with \
         --edge-id, or have an administrator end that enrolment with `mcpctl create join-token --edge e1` or \
         `mcpctl delete edge e1`"
    );
    // A credential of another edge proves nothing, nor does what is no credential.
    let other = control.enrol("e2").await;
    for credential in [other.as_str(), "x", &format!("{credential}x"), &stolen.join_token] {
        let request = EnrollEdgeRequest {
            join_token: stolen.join_token.clone(),
            edge_id: "e1".to_owned(),
            credential: credential.to_owned(),
            ..Default::default()
        };
        assert_eq!(enroll_with(&control, request).await.unwrap_err().code(), Code::AlreadyExists);
    }
    assert_eq!(get_join_token(&control, &stolen.name).await.unwrap().uses, 0, "nothing was used up");

    // The edge goes on with its stream and its credential.
    control.server("later", Server::default()).await;
    edge.until(|held| holds(held, StreamType::Server, "servers/later")).await;
    renew(&control, &credential).await.unwrap();
    let status = edge_status(&control, "e1").await;
    assert!(status.connected);
    let refused = status.refused_enrollments.unwrap();
    assert_eq!((refused.count, &refused.last_join_token), (5, &stolen.name));
    let address: std::net::IpAddr = refused.last_address.parse().unwrap();
    assert!(address.is_loopback() && refused.last_time.is_some());
    assert_eq!(edge_status(&control, "e2").await.refused_enrollments, None);
    let enrollments = |outcome: &str| format!("trunkline_control_enrollments_total{{outcome=\"{outcome}\"}}");
    let metrics = control.metrics().await;
    for (outcome, count) in [("enrolled", 2), ("edge_exists", 5), ("replaced", 0)] {
        let line = format!("{} {count}", enrollments(outcome));
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn an_enrollment_that_is_replaced_ends_on_every_replica() {
    let control = Control::start().await;
    let other = control.replica().await;
    let first = control.enrol("e1").await;
    let mut here = connect(&control, "e1", &first).await;
    let mut usage_here = Reports::open(&control, &first).await.unwrap();
    let mut usage_there = Reports::open(&other, &first).await.unwrap();
    let bound = join_token(&other, 1, "edges/e1").await;

    // The other replica replaces it.
    let second = enroll(&other, "e1", &bound.join_token).await.unwrap();
    for status in [here.until_end().await.0.unwrap(), usage_here.end().await, usage_there.end().await] {
        assert_eq!(reason(&status), edge_unknown());
    }
    for replica in [&control, &other] {
        opens_nothing(replica, "e1", &first).await;
    }
    let mut edge = connect(&other, "e1", &second).await;
    let status = edge_status(&control, "e1").await;
    assert_eq!(status.join_token, bound.name);

    // With its own credential and a join token it enrols anew, and the credential before ends.
    let open = join_token(&control, 1, "").await;
    let request = EnrollEdgeRequest {
        join_token: open.join_token.clone(),
        edge_id: "e1".to_owned(),
        credential: second.clone(),
        ..Default::default()
    };
    let third = enroll_with(&control, request).await.unwrap();
    assert_eq!(reason(&edge.until_end().await.0.unwrap()), edge_unknown());
    // No later enrolment revives an earlier one.
    delete_edge(&other, "e1").await;
    let fourth = control.enrol("e1").await;
    for ended in [&first, &second, &third] {
        opens_nothing(&control, "e1", ended).await;
    }
    connect(&other, "e1", &fourth).await;
    let listed = get_join_token(&control, &open.name).await.unwrap();
    assert_eq!((listed.uses, listed.enrolled_edges.len()), (1, 0), "that enrolment has ended");
}

#[tokio::test]
async fn a_deleted_edge_reports_and_receives_nothing_more_on_any_replica() {
    let control = Control::start().await;
    let other = control.replica().await;
    let credential = control.enrol("e1").await;
    let mut there = connect(&other, "e1", &credential).await;
    let third = control.replica().await;
    let mut idle = Reports::open(&other, &credential).await.unwrap();
    let mut busy = Reports::open(&third, &credential).await.unwrap();
    delete_edge(&control, "e1").await;
    // Whether its batch or the end comes first, the batch is not counted.
    busy.out.send(batch(2)).await.unwrap();
    for status in [busy.end().await, idle.end().await, there.until_end().await.0.unwrap()] {
        assert_eq!(reason(&status), edge_unknown());
    }
    for replica in [&control, &other] {
        opens_nothing(replica, "e1", &credential).await;
    }
    let again = control.enrol("e1").await;
    let mut reports = Reports::open(&control, &again).await.unwrap();
    // The same run goes on behind the last batch that was stored.
    reports.out.send(batch(2)).await.unwrap();
    assert_eq!(reports.acknowledged.message().await.unwrap().unwrap().acked_sequence, 2);
}

#[tokio::test]
async fn a_refused_join_token_says_to_nobody_but_the_administrator_why() {
    let control = Control::start().await;
    let (used, bound, revoked) = (
        join_token(&control, 1, "").await,
        join_token(&control, 1, "edges/e9").await,
        join_token(&control, 0, "").await,
    );
    enroll(&control, "e1", &used.join_token).await.unwrap();
    enroll(&control, "e2", &revoked.join_token).await.unwrap();
    let request = control.admin(DeleteJoinTokenRequest { name: revoked.name.clone(), ..Default::default() });
    enrolment(&control).delete_join_token(request).await.unwrap();
    let mut statuses = Vec::new();
    for token in [&used.join_token, &bound.join_token, &revoked.join_token, "tlj_guess", ""] {
        // Of an id that is enrolled as of one that is not.
        for id in ["e1", "e3"] {
            let status = enroll(&control, id, token).await.unwrap_err();
            statuses.push((status.code(), status.message().to_owned(), status.details().to_vec()));
        }
    }
    assert_eq!(statuses[0].0, Code::Unauthenticated);
    statuses.dedup();
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert_eq!(edge_status(&control, "e1").await.refused_enrollments, None, "strangers write nothing");
    // Who enrolled with a token that was revoked stays.
    assert_eq!(edge_status(&control, "e2").await.join_token, revoked.name);
    assert_eq!(get_join_token(&control, &revoked.name).await.unwrap_err().code(), Code::NotFound);
    let again = control.admin(DeleteJoinTokenRequest { name: revoked.name.clone(), ..Default::default() });
    assert_eq!(enrolment(&control).delete_join_token(again).await.unwrap_err().code(), Code::NotFound);
    for name in ["joinTokens/", "joinTokens/a/b", "edges/e1", "joinTokens/-"] {
        assert_eq!(get_join_token(&control, name).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
}

#[tokio::test]
async fn join_tokens_are_good_for_one_edge_unless_said_otherwise_and_listed_without_their_secret() {
    let control = Control::start().await;
    let request = control.admin(CreateJoinTokenRequest::default());
    let once = enrolment(&control).create_join_token(request).await.unwrap().into_inner();
    let (often, bound) = (join_token(&control, 0, "").await, join_token(&control, 2, "edges/e9").await);
    enroll(&control, "e1", &once.join_token).await.unwrap();
    assert_eq!(enroll(&control, "e2", &once.join_token).await.unwrap_err().code(), Code::Unauthenticated);
    for id in ["e2", "e3"] {
        enroll(&control, id, &often.join_token).await.unwrap();
    }

    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = control.admin(ListJoinTokensRequest { page_size: 2, page_token });
        let page = enrolment(&control).list_join_tokens(request).await.unwrap().into_inner();
        assert!(page.join_tokens.len() <= 2);
        listed.extend(page.join_tokens);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(listed.is_sorted_by(|a, b| a.name < b.name), "{listed:?}");
    let named = |name: &str| listed.iter().find(|token| token.name == name).unwrap();
    let facts =
        |token: &JoinToken| (token.max_uses, token.uses, token.edge.clone(), token.enrolled_edges.join(" "));
    assert_eq!(listed.len(), 3);
    assert_eq!(facts(named(&once.name)), (1, 1, String::new(), "edges/e1".to_owned()));
    assert_eq!(facts(named(&often.name)), (0, 2, String::new(), "edges/e2 edges/e3".to_owned()));
    assert_eq!(facts(named(&bound.name)), (2, 0, "edges/e9".to_owned(), String::new()));
    assert_eq!(named(&once.name).expire_time, once.expire_time);
    let shown = format!("{listed:?}");
    for created in [&once, &often, &bound] {
        let secret = created.join_token.strip_prefix("tlj_").unwrap();
        assert!(secret.len() >= 43 && !shown.contains(secret), "256 bits, shown once");
    }
    let foreign = ListEdgesRequest { page_size: 1, ..Default::default() };
    let mut fleet = FleetServiceClient::new(control.channel.clone());
    let foreign = fleet.list_edges(control.admin(foreign)).await.unwrap().into_inner().next_page_token;
    for page_token in ["x".to_owned(), foreign] {
        let request = control.admin(ListJoinTokensRequest { page_size: 2, page_token });
        let error = enrolment(&control).list_join_tokens(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    for (max_uses, edge) in [(-1, ""), (1, "e1"), (1, "edges/E1"), (1, "tokens/e1")] {
        let request =
            CreateJoinTokenRequest { max_uses: Some(max_uses), edge: edge.to_owned(), ..Default::default() };
        let error = enrolment(&control).create_join_token(control.admin(request)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{max_uses} {edge}");
    }
}

#[tokio::test]
async fn a_lost_response_costs_no_join_token() {
    let control = Control::start().await;
    let token = join_token(&control, 1, "").await.join_token;
    let request = EnrollEdgeRequest {
        join_token: token,
        edge_id: "e1".to_owned(),
        request_id: "a random text".to_owned(),
        ..Default::default()
    };
    let lost = enroll_with(&control, request.clone()).await.unwrap();
    let credential = enroll_with(&control, request.clone()).await.unwrap();
    connect(&control, "e1", &credential).await;
    // Both are of one enrolment.
    renew(&control, &lost).await.unwrap();
    let guess = EnrollEdgeRequest { request_id: "another".to_owned(), ..request.clone() };
    assert_eq!(enroll_with(&control, guess).await.unwrap_err().code(), Code::Unauthenticated);
    let long = EnrollEdgeRequest { request_id: "x".repeat(129), ..request };
    assert_eq!(enroll_with(&control, long).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_edge_speaks_for_itself_alone() {
    let control = Control::start().await;
    let (one, two) = (control.enrol("e1").await, control.enrol("e2").await);
    let edge = connect(&control, "e1", &one).await;
    // It does not become another edge, nor get another name, by what it says.
    let mut other = EdgeEnd::connect(&control.channel, "e1", &two, Held::new()).await.unwrap();
    assert_eq!(
        reason(&other.until_end().await.0.unwrap()),
        (Code::PermissionDenied, "EDGE_MISMATCH".to_owned())
    );
    // A renewed credential is of the same edge.
    let renewed = renew(&control, &two).await.unwrap();
    let mut other = EdgeEnd::connect(&control.channel, "e1", &renewed, Held::new()).await.unwrap();
    assert_eq!(other.until_end().await.0.unwrap().code(), Code::PermissionDenied);
    assert!(edge_status(&control, "e1").await.connected);
    assert!(!edge_status(&control, "e2").await.connected);
    // Whoever has its credential may end its stream, and is still nobody else.
    let mut renamed = EdgeEnd::connect(&control.channel, "e3", &one, Held::new()).await.unwrap();
    assert_eq!(renamed.until_end().await.0.unwrap().code(), Code::PermissionDenied);
    drop(edge);
    // What it reports is its own: a run of the same name of another edge begins anew.
    Reports::open(&control, &one).await.unwrap();
    let mut reports = Reports::open(&control, &two).await.unwrap();
    reports.out.send(batch(2)).await.unwrap();
    assert_eq!(reports.acknowledged.message().await.unwrap().unwrap().acked_sequence, 2);
}

#[tokio::test]
async fn who_announces_the_address_and_certificate_of_another_edge_takes_nothing_from_it() {
    let control = Control::start().await;
    let announced = |id: &str| Edge {
        id: id.to_owned(),
        sibling_address: "e1.example:4447".to_owned(),
        sibling_certificate_sha256: vec![7; 32],
        ..Default::default()
    };
    let (one, two) = (control.enrol("e1").await, control.enrol("e2").await);
    let mut first = EdgeEnd::connect_as(&control.channel, announced("e1"), &one, Held::new()).await.unwrap();
    first.until(|held| holds(held, StreamType::Sibling, "siblings/e1")).await;
    let told = first.body(StreamType::Sibling, "siblings/e1").to_vec();
    let mut copy = EdgeEnd::connect_as(&control.channel, announced("e2"), &two, Held::new()).await.unwrap();
    copy.until(|held| holds(held, StreamType::Sibling, "siblings/e2")).await;
    first.until(|held| holds(held, StreamType::Sibling, "siblings/e2")).await;
    assert_eq!(first.body(StreamType::Sibling, "siblings/e1"), told, "others go on finding it as before");
}

#[tokio::test]
async fn texts_of_an_edge_are_short_and_printable() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let token = join_token(&control, 0, "").await.join_token;
    for id in ["", "E1", "e 1", "e1\n", "\u{1b}[2J", "e\u{202e}1", "../e1", &"e".repeat(64)] {
        assert_eq!(enroll(&control, id, &token).await.unwrap_err().code(), Code::InvalidArgument, "{id:?}");
    }
    let good = Edge { id: "e1".to_owned(), version: "1.2.3".to_owned(), ..Default::default() };
    for bad in ["\u{1b}]0;owned\u{7}", "a\nb", "a b", "\u{9b}2J", &"x".repeat(4_096)] {
        let bad = bad.to_owned();
        for edge in [
            Edge { id: bad.clone(), ..good.clone() },
            Edge { version: bad.clone(), ..good.clone() },
            Edge { client_address: bad.clone(), ..good.clone() },
            Edge { sibling_address: format!("{bad}:1"), ..good.clone() },
        ] {
            let mut refused =
                EdgeEnd::connect_as(&control.channel, edge, &credential, Held::new()).await.unwrap();
            let status = refused.until_end().await.0.unwrap();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(!status.message().contains(&bad), "{status:?}");
        }
    }
    for bad in ["\u{1b}]0;owned\u{7}", "a\nb", "\u{9b}2J", &"x".repeat(4_097)] {
        let edge = Edge { egress: bad.to_owned(), ..good.clone() };
        let mut refused =
            EdgeEnd::connect_as(&control.channel, edge, &credential, Held::new()).await.unwrap();
        let status = refused.until_end().await.0.unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(!status.message().contains(bad), "{status:?}");
    }
    let status = edge_status(&control, "e1").await;
    assert_eq!((status.version.as_str(), status.egress.as_str(), status.connected), ("", "", false));
    let egress = "public addresses, loopback; never 10.0.0.0/8";
    let good = Edge { egress: egress.to_owned(), ..good };
    let mut edge = EdgeEnd::connect_as(&control.channel, good, &credential, Held::new()).await.unwrap();
    edge.until_alive().await;
    assert_eq!(edge_status(&control, "e1").await.egress, egress);
}
