//! The authenticator over a real socket: every rpc of the contract with every kind of credential, over JSON and over gRPC.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

/// Rpcs that take an edge's credential, those that read a secret from their request, and those about the caller. They are listed here
/// and not read from the contract, so that a wrong declaration fails. All others take a permission.
const EDGE: [&str; 8] = [
    "admin.v1.AuditService/ReportAudit",
    "discovery.v1.DiscoveryService/StreamResources",
    "discovery.v1.EnrollmentService/RenewEdgeCredential",
    "policy.v1.ApprovalService/ContinueApproval",
    "policy.v1.ApprovalService/ReturnApproval",
    "policy.v1.ApprovalService/UseApproval",
    "policy.v1.LimitService/LeaseLimits",
    "telemetry.v1.UsageService/ReportUsage",
];
const ANYONE: [&str; 2] = ["identity.v1.SessionService/SignIn", "identity.v1.SessionService/RedeemLink"];
const SELF: [&str; 10] = [
    "identity.v1.SessionService/SignOut",
    "identity.v1.SessionService/GetCaller",
    "identity.v1.SessionService/ChangePassword",
    "identity.v1.SessionService/ListSessions",
    "identity.v1.SessionService/RevokeSession",
    "identity.v1.SessionService/CreateAccessBearer",
    "identity.v1.SessionService/CreateSignInLink",
    "policy.v1.ApprovalService/DecideApproval",
    "policy.v1.ApprovalService/GetApproval",
    "policy.v1.ApprovalService/ListApprovals",
];
const JOIN: &str = "discovery.v1.EnrollmentService/EnrollEdge";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Json,
    Grpc,
}

/// Who presents a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Stranger,
    Client,
    Joining,
    Upstream,
    Edge,
    /// Signed in, and has no role.
    Person,
    /// The API key of somebody who has everything.
    Key,
    /// The API key of the same, which is limited to a role that holds nothing that changes anything.
    LimitedKey,
    Administrator,
}

fn reason(error: &Value) -> &str {
    error["details"][0]["reason"].as_str().unwrap_or_default()
}

/// Tells whether the authenticator itself refused.
fn is_refused(reason: &str) -> bool {
    [
        "ADMIN_REQUIRED",
        "ADMIN_INVALID",
        "SESSION_INVALID",
        "API_KEY_INVALID",
        "PERMISSION_DENIED",
        "EDGE_CREDENTIAL_REQUIRED",
        "EDGE_CREDENTIAL_INVALID",
    ]
    .contains(&reason)
}

/// Makes one credential of each kind.
async fn credentials(api: &Api) -> Vec<(Caller, String)> {
    let text = async |rpc: &str, body: Value, field: &str| {
        let answer = api.raw(rpc, &body.to_string()).await.1;
        answer[field].as_str().unwrap_or_else(|| panic!("{rpc}: {answer}")).to_owned()
    };
    let join =
        text("discovery.v1.EnrollmentService/CreateJoinToken", json!({"maxUses": 2}), "joinToken").await;
    let edge = text(JOIN, json!({"joinToken": join, "edgeId": "e1"}), "credential").await;
    let dials_in = json!({"upstreamId": "u", "noWait": true, "upstream": {"tunnel": {}}});
    api.ok("registry.v1.UpstreamService/CreateUpstream", dials_in).await;
    let named = json!({"name": "upstreams/u"});
    let tunnel = text("registry.v1.UpstreamService/CreateTunnelCredential", named, "credential").await;
    let token = json!({"tokenId": "t", "token": {"scope": {"servers": ["*"]}}});
    let client = text("identity.v1.TokenService/CreateToken", token, "bearer").await;
    let user = json!({"user": {"email": "ann@example.org"}});
    let invited = api.raw("identity.v1.UserService/CreateUser", &user.to_string()).await.1;
    let link = json!({"secret": invited["link"]["secret"], "password": "correct horse battery"});
    let person = text(ANYONE[1], link, "secret").await;
    let bindings = json!([{"role": "roles/administrator"}]);
    let account = json!({"serviceAccountId": "ci", "serviceAccount": {"bindings": bindings}});
    api.ok("identity.v1.ServiceAccountService/CreateServiceAccount", account).await;
    let keys = "identity.v1.ServiceAccountService/CreateApiKey";
    let key = text(keys, json!({"parent": "serviceAccounts/ci"}), "secret").await;
    let limited = json!({"parent": "serviceAccounts/ci", "role": "roles/viewer"});
    let limited = text(keys, limited, "secret").await;
    let bearers = [
        (Caller::Anonymous, String::new()),
        (Caller::Stranger, "wrong".to_owned()),
        (Caller::Client, client),
        (Caller::Joining, join),
        (Caller::Upstream, tunnel),
        (Caller::Edge, edge),
        (Caller::Person, person),
        (Caller::Key, key),
        (Caller::LimitedKey, limited),
        (Caller::Administrator, api.admin.clone()),
    ];
    let presented = |bearer: String| if bearer.is_empty() { bearer } else { format!("Bearer {bearer}") };
    bearers.map(|(caller, bearer)| (caller, presented(bearer))).into()
}

/// Lists the rpcs of the contract, without `trunkline.`.
fn rpcs() -> Vec<String> {
    let contract = DescriptorPool::decode(trunkline::DESCRIPTORS).unwrap();
    let methods = contract.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let names = methods.map(|m| format!("{}/{}", m.parent_service().full_name(), m.name()));
    names.map(|rpc| rpc.strip_prefix("trunkline.").unwrap().to_owned()).collect()
}

/// Tells whether a viewer may call an rpc: it reads the registry, tokens or usage, or looks at each resource that it is about.
fn is_for_viewers(rpc: &str) -> bool {
    const READ: [&str; 19] = [
        "discovery.v1.FleetService/WatchRollout",
        "admin.v1.BulkService/ApplyResources",
        "admin.v1.BulkService/DeleteResources",
        "admin.v1.BulkService/ExportResources",
        "admin.v1.BulkService/ListApplySets",
        "identity.v1.ServiceAccountService/GetServiceAccount",
        "identity.v1.ServiceAccountService/ListServiceAccounts",
        "identity.v1.ServiceAccountService/ListApiKeys",
        "identity.v1.TokenService/GetToken",
        "identity.v1.TokenService/ListTokens",
        "identity.v1.TeamService/GetTeam",
        "identity.v1.TeamService/ListTeams",
        "identity.v1.TeamService/ListMembers",
        "identity.v1.RoleService/GetRole",
        "identity.v1.RoleService/ListRoles",
        "policy.v1.PolicyService/ExplainAccess",
        "identity.v1.RoleService/ListPermissions",
        "telemetry.v1.UsageService/QueryUsage",
        "telemetry.v1.UsageService/ListLastUses",
    ];
    let is_of_registry = rpc.starts_with("registry.v1.") && (rpc.contains("/Get") || rpc.contains("/List"));
    is_of_registry || READ.contains(&rpc)
}

/// Calls with a request that cannot be read: whoever is let in is told so, and changes nothing. Returns the reason of
/// the refusal, if any, and whether the rpc is unknown.
async fn call(api: &Api, transport: Transport, bearer: &str, rpc: &str) -> (String, bool) {
    match transport {
        Transport::Json => {
            let error = api.raw_as(bearer, rpc, r#"{"noSuchField": 1}"#).await.1;
            (reason(&error).to_owned(), error["code"] == "NOT_FOUND")
        }
        Transport::Grpc => {
            let status = api.grpc_as(bearer, rpc, &[0xff]).await;
            assert_ne!(status.code(), Code::Ok, "{rpc} read a request that is not a message");
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            (reason, status.code() == Code::Unimplemented)
        }
    }
}

async fn every_rpc_takes_its_own_credential_only(transport: Transport) {
    let api = Api::start().await;
    let credentials = credentials(&api).await;
    for rpc in rpcs() {
        for (caller, bearer) in &credentials {
            let (reason, is_unknown) = call(&api, transport, bearer, &rpc).await;
            let is_let_in = match rpc.as_str() {
                // Edges serve it to each other, the control plane does not.
                rpc if rpc.starts_with("edge.v1.SiblingService/") => {
                    assert!(is_unknown || is_refused(&reason), "{rpc} as {caller:?} is served: {reason}");
                    continue;
                }
                JOIN => true,
                rpc if ANYONE.contains(&rpc) => true,
                rpc if EDGE.contains(&rpc) => *caller == Caller::Edge,
                rpc if SELF.contains(&rpc) => {
                    let principals = [Caller::Person, Caller::Key, Caller::LimitedKey, Caller::Administrator];
                    principals.contains(caller)
                }
                rpc => {
                    let is_limited = *caller == Caller::LimitedKey && is_for_viewers(rpc);
                    is_limited || [Caller::Key, Caller::Administrator].contains(caller)
                }
            };
            assert_eq!(!is_refused(&reason), is_let_in, "{rpc} as {caller:?}: {reason:?}");
            assert!(!is_unknown, "{rpc} is not served");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_takes_its_own_credential_only_over_json() {
    every_rpc_takes_its_own_credential_only(Transport::Json).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_takes_its_own_credential_only_over_grpc() {
    every_rpc_takes_its_own_credential_only(Transport::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_begins_as_an_open_one_is_not_open() {
    let api = Api::start().await;
    for path in [format!("{JOIN}Again"), format!("{JOIN}/"), "discovery.v1.DiscoveryService/Other".to_owned()]
    {
        for transport in [Transport::Json, Transport::Grpc] {
            let (reason, _) = call(&api, transport, "", &path).await;
            assert_eq!(reason, "ADMIN_REQUIRED", "{path} over {transport:?}");
        }
    }
}
