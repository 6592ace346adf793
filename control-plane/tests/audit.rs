//! The audit log as it is written and read over the API, on both databases: every change leaves one record, no secret is in any, and nobody
//! fills it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;
#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/upstream.rs"]
mod upstream;

use std::time::Duration;

use api::Api;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::Database;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};
use trunkline::admin::v1::audit_service_client::AuditServiceClient;
use trunkline::admin::v1::{
    AuditFilter, AuditKind, AuditRecord, ExportAuditRequest, ReportAuditRequest, ReportAuditResponse,
    VerifyAuditRequest,
};
use trunkline::discovery::v1::EnrollEdgeRequest;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline_control_plane::config::Config;

suite!(
    every_change_leaves_one_record_and_no_secret,
    what_people_do_about_themselves_is_recorded,
    an_import_is_one_record,
    records_are_found_by_what_they_say,
    who_lacks_the_permission_gets_nothing,
    refusals_and_guesses_are_told_and_fill_nothing,
    a_change_goes_on_without_its_record_and_that_is_said,
    a_change_fails_with_its_record_where_that_is_wanted,
    an_edge_records_what_it_sees_once_and_nothing_else,
);

const PASSWORD: &str = "canary-correct-horse";
const CANARY: &str = "canary-3f19c2";
const PATIENCE: Duration = Duration::from_secs(60);

async fn start_on(database: &Database, change: impl FnOnce(&mut Config)) -> Api {
    let url = database.url().to_owned();
    let start = Api::start_with(|config| {
        config.database_url = Some(url.into());
        config.keys.master_key = Some(STANDARD.encode([7; 32]).into());
        change(config);
    });
    start.await
}

async fn start(database: &Database) -> Api {
    start_on(database, |_| ()).await
}

async fn call(api: &Api, bearer: &str, rpc: &str, body: Value) -> (StatusCode, Value) {
    let authorization = if bearer.is_empty() { String::new() } else { format!("Bearer {bearer}") };
    api.raw_as(&authorization, rpc, &body.to_string()).await
}

async fn ok(api: &Api, bearer: &str, rpc: &str, body: Value) -> Value {
    let (status, answer) = call(api, bearer, rpc, body).await;
    assert_eq!(status, StatusCode::OK, "{rpc}: {answer}");
    answer
}

/// The records that match, the oldest first.
async fn records(api: &Api, filter: Value) -> Vec<Value> {
    let body = json!({ "filter": filter, "pageSize": 1_000 });
    let answer = ok(api, &api.admin, "admin.v1.AuditService/ListAuditRecords", body).await;
    let mut records = answer["records"].as_array().cloned().unwrap_or_default();
    records.reverse();
    records
}

/// Waits until so many records match.
async fn until(api: &Api, filter: Value, count: usize) -> Vec<Value> {
    let look = async {
        loop {
            let found = records(api, filter.clone()).await;
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the records come")
}

async fn channel(api: &Api) -> Channel {
    Channel::from_shared(format!("http://{}", api.addr)).unwrap().connect().await.unwrap()
}

async fn client(api: &Api) -> AuditServiceClient<Channel> {
    AuditServiceClient::new(channel(api).await)
}

fn with_bearer<T>(message: T, bearer: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    request
}

/// What a verification finds: the break, if there is one.
async fn verify(api: &Api) -> Option<String> {
    let request = with_bearer(VerifyAuditRequest {}, &api.admin);
    let mut told = client(api).await.verify_audit(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(response) = told.message().await.unwrap() {
        last = Some(response);
    }
    let last = last.unwrap();
    assert!(last.done);
    last.first_break.map(|found| format!("{}: {}", found.sequence, found.reason))
}

/// Tells what a record did: it created (`+`), changed (`~`) or deleted (`-`) something.
fn deed(record: &Value) -> String {
    let is_there = |field: &str| record[field].as_str().is_some_and(|text| !text.is_empty());
    let sign = match (is_there("beforeJson"), is_there("afterJson")) {
        (false, true) => '+',
        (true, true) => '~',
        (true, false) => '-',
        (false, false) => '.',
    };
    format!("{sign} {}", record["resource"].as_str().unwrap_or_default())
}

/// Everything that is stored of records.
async fn stored(database: &Database) -> Vec<u8> {
    let mut connection = sqlx::AnyConnection::connect(database.url()).await.unwrap();
    let rows =
        sqlx::query("select body, actor, action, resource, reason from audit").fetch_all(&mut connection);
    let mut all = Vec::new();
    for row in rows.await.unwrap() {
        all.extend(row.get::<Vec<u8>, _>("body"));
        for column in ["actor", "action", "resource", "reason"] {
            all.extend(row.get::<String, _>(column).into_bytes());
        }
    }
    all
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Each change, and what it is recorded as.
fn changes() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let upstream =
        json!({"http": {"url": "http://127.0.0.1:9/mcp"}, "credential": {"bearer": {"token": CANARY}}});
    let apply = json!({"manifests": [
        {"server": {"name": "servers/a"}}, {"server": {"name": "servers/b", "meta": {"labels": {"x": "y"}}}},
    ]});
    let token = json!({"tokenId": "ci", "token": {"scope": {"servers": ["servers/dev"], "tools": ["*"]}}});
    let binding = json!({"principal": "users/ann@example.org", "binding": {"role": "roles/viewer"}});
    let member = json!({"team": "teams/core", "member": {"principal": "users/ann@example.org"}});
    let ann = || json!({"name": "users/ann@example.org"});
    vec![
        (
            "registry.v1.UpstreamService/CreateUpstream",
            json!({"upstreamId": "up", "noWait": true, "upstream": upstream}),
            vec!["+ upstreams/up"],
        ),
        (
            "registry.v1.UpstreamService/UpdateUpstream",
            json!({"upstream": {"name": "upstreams/up", "meta": {"labels": {"a": "b"}}}}),
            vec!["~ upstreams/up"],
        ),
        (
            "registry.v1.ServerService/CreateServer",
            json!({"serverId": "dev", "server": {}}),
            vec!["+ servers/dev"],
        ),
        ("identity.v1.TokenService/CreateToken", token, vec!["+ tokens/ci"]),
        ("identity.v1.TokenService/RevokeToken", json!({"name": "tokens/ci"}), vec!["~ tokens/ci"]),
        ("identity.v1.TokenService/DeleteToken", json!({"name": "tokens/ci"}), vec!["- tokens/ci"]),
        ("registry.v1.ServerService/DeleteServer", json!({"name": "servers/dev"}), vec!["- servers/dev"]),
        ("admin.v1.BulkService/ApplyResources", apply.clone(), vec!["+ servers/a", "+ servers/b"]),
        ("admin.v1.BulkService/ApplyResources", apply, vec![]),
        (
            "admin.v1.BulkService/DeleteResources",
            json!({"names": ["servers/a", "servers/b"]}),
            vec!["- servers/a", "- servers/b"],
        ),
        ("identity.v1.TeamService/CreateTeam", json!({"teamId": "core", "team": {}}), vec!["+ teams/core"]),
        (
            "identity.v1.UserService/CreateUser",
            json!({"user": {"email": "ann@example.org"}, "team": "teams/core"}),
            vec!["+ users/ann@example.org"],
        ),
        (
            "identity.v1.UserService/UpdateUser",
            json!({"user": {"name": "users/ann@example.org", "title": "Ann"}}),
            vec!["~ users/ann@example.org"],
        ),
        ("identity.v1.UserService/ResetPassword", ann(), vec!["~ users/ann@example.org"]),
        ("identity.v1.RoleService/BindRole", binding.clone(), vec!["~ users/ann@example.org"]),
        ("identity.v1.RoleService/UnbindRole", binding, vec!["~ users/ann@example.org"]),
        (
            "identity.v1.TeamService/RemoveMember",
            json!({"team": "teams/core", "principal": "users/ann@example.org"}),
            vec!["~ users/ann@example.org"],
        ),
        ("identity.v1.TeamService/AddMember", member, vec!["~ users/ann@example.org"]),
        (
            "identity.v1.RoleService/CreateRole",
            json!({"roleId": "caller", "role": {"permissions": ["servers.call"]}}),
            vec!["+ roles/caller"],
        ),
        ("identity.v1.RoleService/DeleteRole", json!({"name": "roles/caller"}), vec!["- roles/caller"]),
        ("identity.v1.UserService/DisableUser", ann(), vec!["~ users/ann@example.org"]),
        ("identity.v1.UserService/EnableUser", ann(), vec!["~ users/ann@example.org"]),
        (
            "identity.v1.TeamService/DeleteTeam",
            json!({"name": "teams/core", "force": true}),
            vec!["- teams/core"],
        ),
        ("identity.v1.UserService/DeleteUser", ann(), vec!["- users/ann@example.org"]),
        (
            "identity.v1.ServiceAccountService/CreateServiceAccount",
            json!({"serviceAccountId": "bot"}),
            vec!["+ serviceAccounts/bot"],
        ),
        (
            "identity.v1.ServiceAccountService/CreateApiKey",
            json!({"parent": "serviceAccounts/bot", "title": "ci"}),
            vec!["~ serviceAccounts/bot"],
        ),
        (
            "identity.v1.ServiceAccountService/UpdateServiceAccount",
            json!({"serviceAccount": {"name": "serviceAccounts/bot", "disabled": true}}),
            vec!["~ serviceAccounts/bot"],
        ),
        (
            "identity.v1.ServiceAccountService/DeleteServiceAccount",
            json!({"name": "serviceAccounts/bot"}),
            vec!["- serviceAccounts/bot"],
        ),
        (
            "registry.v1.UpstreamService/DeleteUpstream",
            json!({"name": "upstreams/up"}),
            vec!["- upstreams/up"],
        ),
        ("discovery.v1.EnrollmentService/CreateJoinToken", json!({}), vec!["+ joinTokens/"]),
        ("identity.v1.SigningKeyService/RotateSigningKey", json!({}), vec!["+ signingKeys/"]),
    ]
}

async fn every_change_leaves_one_record_and_no_secret(database: Database) {
    let api = start(&database).await;
    let (mut after, mut secrets) = (0, vec![CANARY.to_owned(), api.admin.clone()]);
    for (rpc, body, wanted) in changes() {
        let answer = ok(&api, &api.admin, rpc, body).await;
        for secret in ["/bearer", "/secret", "/link/secret", "/joinToken"] {
            secrets.extend(answer.pointer(secret).and_then(Value::as_str).map(str::to_owned));
        }
        let found = records(&api, json!({"afterSequence": after.to_string()})).await;
        let deeds: Vec<_> = found.iter().map(deed).collect();
        assert_eq!(deeds.len(), wanted.len(), "{rpc}: {found:?}");
        for (deed, wanted) in deeds.iter().zip(&wanted) {
            assert!(
                if wanted.ends_with('/') { deed.starts_with(wanted) } else { deed == wanted },
                "{rpc}: {found:?}"
            );
        }
        for record in &found {
            assert_eq!(record["kind"], "AUDIT_KIND_CHANGE", "{rpc}");
            assert_eq!(record["actor"], "system/administrator", "{rpc}");
            assert_eq!(record["action"], format!("trunkline.{rpc}"));
            assert_eq!(record["address"], "127.0.0.1", "{rpc}");
            after = record["sequence"].as_str().unwrap().parse::<i64>().unwrap();
        }
    }
    assert!(secrets.len() >= 6, "{secrets:?}");
    let stored = stored(&database).await;
    assert!(holds(&stored, "servers/dev"));
    for secret in secrets {
        assert!(!holds(&stored, &secret), "a secret is in the audit log");
    }
    assert_eq!(verify(&api).await, None);
    // What is only looked at, or tried, leaves none.
    ok(&api, &api.admin, "registry.v1.ServerService/ListServers", json!({})).await;
    let body = json!({"serverId": "dev", "server": {}, "validateOnly": true});
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", body).await;
    call(&api, &api.admin, "registry.v1.ServerService/DeleteServer", json!({"name": "servers/none"})).await;
    let left = records(&api, json!({"afterSequence": after.to_string()})).await;
    assert!(left.is_empty(), "{left:?}");
}

/// Creates a user who has chosen a password. Returns the session.
async fn person(api: &Api, email: &str, role: &str) -> String {
    let bindings = if role.is_empty() { json!([]) } else { json!([{"role": role}]) };
    let body = json!({"user": {"email": email, "bindings": bindings}});
    let made = ok(api, &api.admin, "identity.v1.UserService/CreateUser", body).await;
    let body = json!({"secret": made["link"]["secret"], "password": PASSWORD});
    let redeemed = ok(api, "", "identity.v1.SessionService/RedeemLink", body).await;
    redeemed["secret"].as_str().unwrap().to_owned()
}

async fn what_people_do_about_themselves_is_recorded(database: Database) {
    let api = start(&database).await;
    let session = person(&api, "ann@example.org", "").await;
    let redeemed = records(&api, json!({"action": "RedeemLink"})).await;
    let told: Vec<_> = redeemed
        .iter()
        .map(|record| (record["kind"].as_str().unwrap(), record["actor"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [("AUDIT_KIND_CHANGE", "users/ann@example.org"), ("AUDIT_KIND_SIGN_IN", "users/ann@example.org")]
    );
    assert!(redeemed[1]["through"].as_str().unwrap().starts_with("users/ann@example.org/sessions/"));
    assert!(!redeemed[1]["actorUid"].as_str().unwrap().is_empty());
    let body = json!({"password": PASSWORD, "newPassword": "canary-another-horse"});
    ok(&api, &session, "identity.v1.SessionService/ChangePassword", body).await;
    let changed = records(&api, json!({"action": "ChangePassword"})).await;
    assert_eq!(changed.len(), 1);
    assert_eq!(deed(&changed[0]), "~ users/ann@example.org");
    assert_eq!(changed[0]["through"], redeemed[1]["through"]);
    let body = json!({"email": "ann@example.org", "password": "canary-another-horse", "agent": "test"});
    let again = ok(&api, "", "identity.v1.SessionService/SignIn", body).await;
    let signed_in = records(&api, json!({"action": "SignIn"})).await;
    assert_eq!(signed_in.len(), 1);
    assert_eq!(
        (&signed_in[0]["kind"], &signed_in[0]["reason"]),
        (&json!("AUDIT_KIND_SIGN_IN"), &Value::Null)
    );
    ok(&api, again["secret"].as_str().unwrap(), "identity.v1.SessionService/SignOut", json!({})).await;
    assert_eq!(records(&api, json!({"action": "SignOut", "actor": "users/ann@example.org"})).await.len(), 1);
    let stored = stored(&database).await;
    for secret in [PASSWORD, "canary-another-horse", &session, again["secret"].as_str().unwrap()] {
        assert!(!holds(&stored, secret));
    }
}

async fn an_import_is_one_record(database: Database) {
    let api = start(&database).await;
    let names: Vec<String> = (0..40).map(|number| format!("tool_{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let upstream = upstream::Upstream::start(&names);
    let body = json!({"upstreamId": "many", "upstream": {"http": {"url": upstream.url()}}});
    ok(&api, &api.admin, "registry.v1.UpstreamService/CreateUpstream", body).await;
    let imported = until(&api, json!({"action": "import"}), 1).await;
    assert_eq!(imported.len(), 1, "{imported:?}");
    assert_eq!(
        (&imported[0]["actor"], &imported[0]["resource"]),
        (&json!("system/control-plane"), &json!("upstreams/many"))
    );
    let after: Value = serde_json::from_str(imported[0]["afterJson"].as_str().unwrap()).unwrap();
    assert_eq!(after, json!({"tools": 40, "resources": 0, "prompts": 0}));
    assert_eq!(
        records(&api, json!({"resource": "upstreams/many"})).await.len(),
        2,
        "the upstream, and what it has"
    );
}

async fn records_are_found_by_what_they_say(database: Database) {
    let api = start(&database).await;
    for id in ["a", "b", "c"] {
        let body = json!({"serverId": id, "server": {}});
        ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", body).await;
    }
    ok(&api, &api.admin, "registry.v1.ServerService/DeleteServer", json!({"name": "servers/b"})).await;
    let names =
        async |filter: Value| -> Vec<String> { records(&api, filter).await.iter().map(deed).collect() };
    assert_eq!(names(json!({"resource": "servers/b"})).await, ["+ servers/b", "- servers/b"]);
    assert_eq!(names(json!({"resource": "servers"})).await.len(), 4);
    assert_eq!(names(json!({"resource": "server"})).await.len(), 0, "a part of a name is no name");
    assert_eq!(names(json!({"action": "DeleteServer"})).await, ["- servers/b"]);
    assert_eq!(names(json!({"action": "trunkline.registry.v1.ServerService/DeleteServer"})).await.len(), 1);
    assert_eq!(names(json!({"action": "eleteServer"})).await.len(), 0);
    assert_eq!(names(json!({"actor": "system/administrator", "kind": "change"})).await.len(), 4);
    assert_eq!(names(json!({"actor": "' or ''='"})).await.len(), 0);
    let second = records(&api, json!({})).await[1]["time"].clone();
    assert_eq!(names(json!({"startTime": second})).await.len(), 3);
    assert_eq!(names(json!({"endTime": second})).await, ["+ servers/a"]);
    let rpc = "admin.v1.AuditService/ListAuditRecords";
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = ok(&api, &api.admin, rpc, json!({"pageSize": 3, "pageToken": token})).await;
        found.extend(page["records"].as_array().unwrap().iter().map(|record| record["sequence"].clone()));
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, ["4", "3", "2", "1"]);
    let (status, _) = call(&api, &api.admin, rpc, json!({"pageToken": "x"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let request =
        ExportAuditRequest { filter: Some(AuditFilter { after_sequence: 1, ..AuditFilter::default() }) };
    let mut parts =
        client(&api).await.export_audit(with_bearer(request, &api.admin)).await.unwrap().into_inner();
    let mut exported = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        exported.extend(part.records.into_iter().map(|record| record.sequence));
    }
    assert_eq!(exported, [2, 3, 4]);
}

async fn who_lacks_the_permission_gets_nothing(database: Database) {
    let api = start(&database).await;
    ok(&api, &api.admin, "identity.v1.TeamService/CreateTeam", json!({"teamId": "core", "team": {}})).await;
    let viewer = person(&api, "viewer@example.org", "roles/viewer").await;
    let in_team = person(&api, "team@example.org", "").await;
    let binding = json!({"principal": "users/team@example.org", "binding": {"role": "roles/auditor", "team": "teams/core"}});
    ok(&api, &api.admin, "identity.v1.RoleService/BindRole", binding).await;
    for bearer in [viewer.as_str(), in_team.as_str(), ""] {
        let (status, answer) = call(&api, bearer, "admin.v1.AuditService/ListAuditRecords", json!({})).await;
        assert!(matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED), "{answer}");
        assert_eq!(answer["records"], Value::Null);
        let refused = [Code::PermissionDenied, Code::Unauthenticated];
        let mut client = client(&api).await;
        let verified = client.verify_audit(with_bearer(VerifyAuditRequest {}, bearer)).await.unwrap_err();
        let exported =
            client.export_audit(with_bearer(ExportAuditRequest::default(), bearer)).await.unwrap_err();
        assert!(refused.contains(&verified.code()) && refused.contains(&exported.code()));
        let (_, batches) = mpsc::channel::<ReportAuditRequest>(1);
        let reported =
            client.report_audit(with_bearer(ReceiverStream::new(batches), bearer)).await.unwrap_err();
        assert_eq!(reported.code(), Code::Unauthenticated);
    }
    let auditor = person(&api, "auditor@example.org", "roles/auditor").await;
    let found = ok(&api, &auditor, "admin.v1.AuditService/ListAuditRecords", json!({})).await;
    assert!(!found["records"].as_array().unwrap().is_empty());
}

fn times(records: &[Value]) -> i64 {
    records.iter().map(|record| record["count"].as_str().unwrap().parse::<i64>().unwrap()).sum()
}

async fn refusals_and_guesses_are_told_and_fill_nothing(database: Database) {
    const REFUSED: i64 = 30;
    const GUESSED: i64 = 60;
    let api = start(&database).await;
    let viewer = person(&api, "viewer@example.org", "roles/viewer").await;
    for number in 0..REFUSED {
        let body = json!({"serverId": format!("s{number}"), "server": {}});
        let (status, _) = call(&api, &viewer, "registry.v1.ServerService/CreateServer", body).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    // What does not exist for somebody is no refusal: it is not told apart from what does not exist at all.
    call(&api, &viewer, "registry.v1.ServerService/GetServer", json!({"name": "servers/none"})).await;
    for number in 0..GUESSED {
        let body = json!({"email": format!("guess{number}@example.org"), "password": format!("canary-guess-{number}")});
        call(&api, "", "identity.v1.SessionService/SignIn", body).await;
    }
    let refusals = until(&api, json!({"kind": "refusal"}), 1).await;
    assert_eq!(refusals[0]["actor"], "users/viewer@example.org");
    assert_eq!(refusals[0]["reason"], "PERMISSION_DENIED");
    assert_eq!(refusals[0]["action"], "trunkline.registry.v1.ServerService/CreateServer");
    until(&api, json!({"kind": "sign-in", "reason": "SIGN_IN_REFUSED"}), 1).await;
    // All that was noted is written when it ends.
    api.running.drain().await;
    let api = start(&database).await;
    let refusals = records(&api, json!({"kind": "refusal"})).await;
    assert!(refusals.len() <= 4, "{refusals:?}");
    assert_eq!(times(&refusals), REFUSED);
    let mut guesses = records(&api, json!({"kind": "sign-in"})).await;
    guesses.retain(|record| record["reason"] != Value::Null);
    assert!(guesses.len() <= 44, "{}", guesses.len());
    assert_eq!(times(&guesses), GUESSED);
    assert!(guesses.iter().any(|record| record["resource"] == "users/guess0@example.org"), "{guesses:?}");
    assert!(!holds(&stored(&database).await, "canary-guess"));
    assert_eq!(verify(&api).await, None);
}

async fn a_change_goes_on_without_its_record_and_that_is_said(database: Database) {
    let api = start(&database).await;
    let create = |id: &str| json!({"serverId": id, "server": {}});
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("a")).await;
    database.run("alter table audit rename to audit_away").await;
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("b")).await;
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("c")).await;
    database.run("alter table audit_away rename to audit").await;
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("d")).await;
    let found = records(&api, json!({})).await;
    let told: Vec<_> = found.iter().map(|record| (record["kind"].as_str().unwrap(), deed(record))).collect();
    let change = |name: &str| ("AUDIT_KIND_CHANGE", format!("+ servers/{name}"));
    assert_eq!(told, [change("a"), ("AUDIT_KIND_GAP", ". ".to_owned()), change("d")]);
    assert_eq!((&found[1]["count"], &found[1]["actor"]), (&json!("2"), &json!("system/control-plane")));
    assert_eq!(verify(&api).await, None);
}

async fn a_change_fails_with_its_record_where_that_is_wanted(database: Database) {
    let api = start_on(&database, |config| config.audit.fail_closed = true).await;
    let create = |id: &str| json!({"serverId": id, "server": {}});
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("a")).await;
    database.run("alter table audit rename to audit_away").await;
    let (status, answer) =
        call(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("b")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(answer["details"][0]["reason"], "AUDIT_UNAVAILABLE");
    let listed = ok(&api, &api.admin, "registry.v1.ServerService/ListServers", json!({})).await;
    assert_eq!(listed["servers"].as_array().unwrap().len(), 1, "what is not recorded is not done");
    database.run("alter table audit_away rename to audit").await;
    ok(&api, &api.admin, "registry.v1.ServerService/CreateServer", create("b")).await;
    let told: Vec<_> = records(&api, json!({"kind": "change"})).await.iter().map(deed).collect();
    assert_eq!(told, ["+ servers/a", "+ servers/b"]);
}

async fn an_edge_records_what_it_sees_once_and_nothing_else(database: Database) {
    let api = start(&database).await;
    let join_token = api.running.create_join_token().await.unwrap();
    let request = EnrollEdgeRequest { join_token, edge_id: "one".to_owned(), ..Default::default() };
    let mut enrollment = EnrollmentServiceClient::new(channel(&api).await);
    let credential = enrollment.enroll_edge(request).await.unwrap().into_inner().credential;
    let enrolled = records(&api, json!({"action": "EnrollEdge"})).await;
    assert_eq!(deed(&enrolled[0]), "+ edges/one");
    assert!(enrolled[0]["actor"].as_str().unwrap().starts_with("joinTokens/"));
    let seen = |kind: AuditKind, actor: &str| AuditRecord {
        kind: kind.into(),
        actor: actor.to_owned(),
        edge: "edges/other".to_owned(),
        action: "tools/call".to_owned(),
        resource: "servers/dev/tools/x".to_owned(),
        reason: "outside_time_window".to_owned(),
        count: 2,
        ..AuditRecord::default()
    };
    let batch = ReportAuditRequest {
        run_id: "run".to_owned(),
        sequence: 1,
        records: vec![
            seen(AuditKind::Refusal, "tokens/ci"),
            seen(AuditKind::Change, "tokens/ci"),
            seen(AuditKind::SignIn, "users/ann@example.org"),
            seen(AuditKind::Refusal, "system/administrator"),
        ],
    };
    let (out, batches) = mpsc::channel(4);
    // Sent twice, because an answer may be lost.
    out.send(batch.clone()).await.unwrap();
    out.send(batch).await.unwrap();
    let request = with_bearer(ReceiverStream::new(batches), &credential);
    let mut answers: Streaming<ReportAuditResponse> =
        client(&api).await.report_audit(request).await.unwrap().into_inner();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.acked_sequence, answer.set_aside_records), (1, 3));
    }
    let found = records(&api, json!({"kind": "refusal"})).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["edge"], &found[0]["actor"]), (&json!("edges/one"), &json!("tokens/ci")));
    assert_eq!((&found[0]["count"], &found[0]["reason"]), (&json!("2"), &json!("outside_time_window")));
    assert_eq!(verify(&api).await, None);
}
