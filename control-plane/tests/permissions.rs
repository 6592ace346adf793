//! The gate over a real socket: every rpc of the contract with every kind of credential.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};

/// Rpcs that take an edge's credential, and the one that reads a join token from its request.
const EDGE: [&str; 3] = [
    "discovery.v1.DiscoveryService/StreamResources",
    "discovery.v1.EnrollmentService/RenewEdgeCredential",
    "telemetry.v1.UsageService/ReportUsage",
];
const JOIN: &str = "discovery.v1.EnrollmentService/EnrollEdge";

fn reason(error: &Value) -> &str {
    error["details"][0]["reason"].as_str().unwrap_or_default()
}

/// The reasons by which the gate itself refuses.
fn is_refused(error: &Value) -> bool {
    ["ADMIN_REQUIRED", "EDGE_CREDENTIAL_REQUIRED", "EDGE_CREDENTIAL_INVALID"].contains(&reason(error))
}

async fn enrol(api: &Api) -> String {
    let made = api.raw("discovery.v1.EnrollmentService/CreateJoinToken", "{}").await.1;
    let join = json!({"joinToken": made["joinToken"], "edgeId": "e1"}).to_string();
    api.raw_as("", JOIN, &join).await.1["credential"].as_str().unwrap().to_owned()
}

fn rpcs() -> Vec<String> {
    let contract = DescriptorPool::decode(trunkline::DESCRIPTORS).unwrap();
    let methods = contract.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|m| format!("{}/{}", m.parent_service().full_name(), m.name())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_takes_its_own_credential_only() {
    let api = Api::start().await;
    let edge = format!("Bearer {}", enrol(&api).await);
    let admin = format!("Bearer {}", api.admin);
    for rpc in rpcs() {
        let rpc = rpc.strip_prefix("trunkline.").unwrap();
        let (is_edge, is_join) = (EDGE.contains(&rpc), rpc == JOIN);
        // A field that does not exist: whoever is let in is told so, and changes nothing.
        let body = r#"{"noSuchField": 1}"#;
        for (kind, bearer, is_let_in) in [
            ("nobody", "", is_join),
            ("stranger", "Bearer wrong", is_join),
            ("edge", edge.as_str(), is_join || is_edge),
            ("administrator", admin.as_str(), !is_edge),
        ] {
            let answer = api.raw_as(bearer, rpc, body).await.1;
            if rpc.starts_with("edge.v1.SiblingService/") {
                assert_eq!(
                    answer["code"], "NOT_FOUND",
                    "edges serve it, the control plane does not: {answer}"
                );
                continue;
            }
            assert_eq!(!is_refused(&answer), is_let_in, "{rpc} as {kind}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_begins_as_an_open_one_is_not_open() {
    let api = Api::start().await;
    for path in [format!("{JOIN}Again"), format!("{JOIN}/"), "discovery.v1.DiscoveryService/Other".to_owned()]
    {
        let answer = api.raw_as("", &path, "{}").await.1;
        assert_eq!(reason(&answer), "ADMIN_REQUIRED", "{path}");
    }
}
