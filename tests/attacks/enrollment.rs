//! After an edge's place: whoever has a join token gets no edge's secrets or requests, and everybody sees that it was tried.

use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::{Edge, EnrollEdgeRequest, StreamResourcesRequest};

use crate::support::fake::{Fake, id, json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

/// An upstream whose tool answers at once.
async fn upstream() -> Fake {
    Fake::start(&format!("[{}]", tool("quick")), |_, request| {
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"done"}}],"resultType":"complete"}}}}"#,
            id(request)
        );
        vec![json(200, &answer)]
    })
    .await
}

/// An attacker who can reach the control plane.
struct Attacker(Channel);

impl Attacker {
    async fn new(gateway: &Gateway) -> Self {
        let address = format!("http://{}", gateway.control_address());
        Self(Channel::from_shared(address).unwrap().connect().await.unwrap())
    }

    async fn enroll(&self, edge: &str, join_token: &str) -> Result<String, Status> {
        let request = EnrollEdgeRequest {
            join_token: join_token.to_owned(),
            edge_id: edge.to_owned(),
            ..Default::default()
        };
        Ok(EnrollmentServiceClient::new(self.0.clone()).enroll_edge(request).await?.into_inner().credential)
    }

    /// Opens the stream as an edge, and returns how it ends.
    async fn stream_as(&self, edge: &str, credential: &str) -> Status {
        let first = StreamResourcesRequest {
            edge: Some(Edge { id: edge.to_owned(), ..Default::default() }),
            type_url: "type.googleapis.com/trunkline.edge.v1.Secret".to_owned(),
            subscribe: vec!["*".to_owned()],
            ..Default::default()
        };
        let mut request = Request::new(tokio_stream::once(first));
        request.metadata_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        let stream = DiscoveryServiceClient::new(self.0.clone()).stream_resources(request).await;
        match stream {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        }
    }
}

async fn calls_go_on(clients: &[Client]) {
    for client in clients {
        let answer = client.call("quick", "{}").await.unwrap().json();
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
    }
}

async fn a_join_token_takes_over_no_edge(store: Store) {
    let upstream = upstream().await;
    let gateway = Gateway::start(store, 2).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let mut clients = Vec::new();
    for edge in 0..2 {
        clients.push(Client::open(&gateway.url(edge, "dev"), &bearer).await.unwrap());
    }
    calls_go_on(&clients).await;
    assert!(!gateway.ctl("get edges").await.contains("REFUSED ENROLLMENTS"));

    let join_token = gateway.ctl("create join-token --max-uses 0 --ttl 10m").await;
    let attacker = Attacker::new(&gateway).await;
    let refused = attacker.enroll("e0", join_token.trim()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(
        refused.message(),
        "edge `e0` is enrolled already, and a join token alone does not replace it; choose another id with \
         --edge-id, or have an administrator end that enrolment with `mcpctl create join-token --edge e0` or \
         `mcpctl delete edge e0`"
    );
    // It becomes an edge of its own, and no other one.
    let own = attacker.enroll("mine", join_token.trim()).await.unwrap();
    let status = attacker.stream_as("e0", &own).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");

    // The edge has noticed nothing: its stream goes on, and so do calls.
    calls_go_on(&clients).await;
    gateway.admin.create_server("later", &["fake/*"]).await;
    gateway.admin.settled().await;
    for edge in 0..2 {
        let said = gateway.edge(edge).output();
        assert!(!said.contains("no stream from the control plane"), "{said}");
    }
    seen_by_everybody(&gateway).await;

    // Revoked, the join token enrols nobody; the edge that it enrolled ends when it is deleted.
    let listed = gateway.ctl("get join-tokens -o name").await;
    for name in listed.lines() {
        gateway.ctl(&format!("delete join-token {name}")).await;
    }
    assert_eq!(attacker.enroll("e3", join_token.trim()).await.unwrap_err().code(), Code::Unauthenticated);
    gateway.ctl("delete edge mine").await;
    assert_eq!(attacker.stream_as("mine", &own).await.code(), Code::Unauthenticated);
    calls_go_on(&clients).await;
}

/// The attempt is in the list, in the description, in the log and in the metrics.
async fn seen_by_everybody(gateway: &Gateway) {
    let table = gateway.ctl("get edges").await;
    let refused: Vec<(&str, &str)> =
        table.lines().map(|l| (l.split(' ').next().unwrap(), l.rsplit(' ').next().unwrap())).collect();
    assert!(table.lines().next().unwrap().ends_with("REFUSED ENROLLMENTS"), "{table}");
    assert!(refused.contains(&("e0", "1")) && !refused.contains(&("e1", "1")), "{table}");
    let json = gateway.ctl("get join-tokens -o json").await;
    let tokens: serde_json::Value = serde_json::from_str(&json).unwrap();
    let enrolled = |token: &&serde_json::Value| token["enrolledEdges"][0] == "edges/mine";
    let token = tokens.as_array().unwrap().iter().find(enrolled).unwrap_or_else(|| panic!("{json}"));
    let name = token["name"].as_str().unwrap();
    assert_eq!(token["uses"], 1, "what is refused uses nothing up");
    let described = gateway.ctl("describe edge e0").await;
    let refused = described.split("\nRefused enrolments under its id\n").nth(1).unwrap_or_default();
    let words: Vec<_> =
        refused.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["Number: 1", "From: 127.0.0.1", &format!("With: {name}")] {
        assert!(words.iter().any(|found| found == line), "{line}: {described}");
    }
    let log = gateway.control_said();
    let line =
        log.lines().find(|line| line.contains("refused an enrolment")).unwrap_or_else(|| panic!("{log}"));
    let id = name.rsplit('/').next().unwrap();
    for part in [" WARN ", r#"edge="e0""#, "127.0.0.1", id, "the edge is enrolled already"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let url = format!("http://{}/metrics", gateway.control_address());
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    let line = "trunkline_control_enrollments_total{outcome=\"edge_exists\"} 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_takes_over_no_edge_on_sqlite() {
    a_join_token_takes_over_no_edge(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_takes_over_no_edge_on_postgresql() {
    a_join_token_takes_over_no_edge(Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_lost_its_disk_needs_the_administrators_word() {
    let mut gateway = Gateway::start(Store::Sqlite, 1).await;
    let data = gateway.folder().join("edge0");
    // With its expired credential and a join token it is still itself.
    gateway.stop_edge(0);
    let path = data.join("edge.credential");
    let mut stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    stored["expires"] = 1.into();
    std::fs::write(&path, stored.to_string()).unwrap();
    gateway.start_edge(0).await;
    gateway.all_connected().await;
    let log = gateway.control_said();
    assert!(log.contains("edge enrolled again; its enrolment before has ended"), "{log}");

    gateway.kill_edge(0);
    std::fs::remove_dir_all(&data).unwrap();
    gateway.start_edge(0).await;
    eventually("the edge says why it cannot enrol", PATIENCE, || async {
        let said = gateway.edge(0).output();
        let refused = "refused to enrol this edge: edge `e0` is enrolled already";
        if said.contains(refused) { Ok(()) } else { Err(said) }
    })
    .await;
    gateway.kill_edge(0);
    let join_token = gateway.ctl("create join-token --edge e0").await;
    gateway.give_join_token(0, join_token.trim());
    gateway.start_edge(0).await;
    gateway.all_connected().await;
}
