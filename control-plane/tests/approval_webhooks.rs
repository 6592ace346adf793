//! Webhooks about approvals, both ways, on both databases: what the operator's end is told, and what is taken from it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/api.rs"]
mod api;
#[path = "support/approvals.rs"]
mod approvals;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Api;
use approvals::Office;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use database::Database;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use trunkline_control_plane::approvals::signature::{HEADERS, SecretFile, TOLERANCE};
use trunkline_control_plane::clock;

suite! {
    what_is_asked_and_what_becomes_of_it_is_told_with_a_signature,
    what_was_not_taken_is_told_again,
    a_decision_is_taken_once_from_who_can_sign,
    what_is_not_signed_decides_nothing,
    what_cannot_be_decided_is_said,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_b3RoZXIgc2VjcmV0IHRoYXQgbm9ib2R5IGtub3dz";

/// The operator's end: it keeps what it is told, and answers as it was told to.
#[derive(Clone, Default)]
struct Hook {
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

async fn hear(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> StatusCode {
    hook.heard.lock().unwrap().push((headers, body));
    hook.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::NO_CONTENT)
}

impl Hook {
    /// Answers at the URL that is returned.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(hear)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// What it has heard, once that are so many.
    async fn heard(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        for _ in 0..1_200 {
            let heard = self.heard.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it heard {:?} and not {count}", self.heard.lock().unwrap());
    }
}

fn secret(folder: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

/// An office that tells this hook, and takes what is signed.
async fn office(database: &Database, folder: &TempDir, url: Option<&str>) -> Office {
    let file = secret(folder, "secret", SECRET);
    Office::open_with(database, |config| {
        config.approvals.approval_webhook_url = url.map(|url| url.parse().unwrap());
        config.approvals.approval_webhook_secret_file = Some(file);
    })
    .await
}

/// A webhook to a control plane, signed with a secret. Answers the status and the body.
async fn send(
    addr: SocketAddr,
    file: &std::path::Path,
    (id, time_s): (&str, i64),
    body: &str,
) -> (u16, Value) {
    let signature = SecretFile::open(file).unwrap().read().unwrap().sign(id, time_s, body.as_bytes());
    let [id_header, time_header, signature_header] = HEADERS;
    let request = reqwest::Client::new()
        .post(format!("http://{addr}/webhooks/approvals"))
        .header(id_header, id)
        .header(time_header, time_s.to_string())
        .header(signature_header, signature)
        .body(body.to_owned());
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

fn now_s() -> i64 {
    clock::now_us() / 1_000_000
}

async fn asked(office: &Office, number: i64) -> (Value, String) {
    let mut call = office.call_of("tokens/ci").await;
    call["argumentsJson"] = json!({"number": number}).to_string().into();
    let name = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
    (call, name)
}

async fn state(office: &Office, name: &str) -> Value {
    office.ask("admin", "GetApproval", json!({"name": name})).await.1["approval"].clone()
}

async fn what_is_asked_and_what_becomes_of_it_is_told_with_a_signature(database: Database) {
    let (hook, folder) = (Hook::default(), TempDir::new().unwrap());
    let url = hook.start().await;
    let office = office(&database, &folder, Some(&url)).await;
    let (call, name) = asked(&office, 1).await;
    let heard = hook.heard(1).await;
    let secrets = SecretFile::open(&folder.path().join("secret")).unwrap().read().unwrap();
    let (headers, body) = &heard[0];
    assert_eq!(secrets.verify(headers, body, now_s()), Ok(format!("{}.pending", &name[10..]).as_str()));
    let told: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(told["type"], "approval.requested");
    assert_eq!(told["data"]["url"], format!("https://trunkline.example.org/{name}"));
    assert_eq!(told["data"]["approval"], state(&office, &name).await, "as people who decide see it");
    assert_eq!(told["data"]["approval"]["argumentsJson"], r#"{"number":1}"#);

    office.decide("max", &name, "APPROVED", "Fine.").await.unwrap();
    let told: Value = serde_json::from_slice(&hook.heard(2).await[1].1).unwrap();
    assert_eq!(told["type"], "approval.decided");
    let approval = &told["data"]["approval"];
    assert_eq!(
        (&approval["decidedBy"], &approval["comment"]),
        (&json!("serviceAccounts/max"), &json!("Fine."))
    );
    assert_eq!(approval["argumentsJson"], Value::Null);
    office.used(&call).await;
    let heard = hook.heard(3).await;
    let told: Value = serde_json::from_slice(&heard[2].1).unwrap();
    assert_eq!(told["type"], "approval.used");
    let ids: std::collections::BTreeSet<_> =
        heard.iter().map(|(headers, _)| &headers[HEADERS[0]]).map(|id| id.to_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

async fn what_was_not_taken_is_told_again(database: Database) {
    let (hook, folder) = (Hook::default(), TempDir::new().unwrap());
    hook.answers.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let url = hook.start().await;
    let office = office(&database, &folder, Some(&url)).await;
    let (_, name) = asked(&office, 1).await;
    let heard = hook.heard(2).await;
    let ids: Vec<_> =
        heard.iter().map(|(headers, _)| headers[HEADERS[0]].to_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [format!("{}.pending", &name[10..]), format!("{}.pending", &name[10..])]);
    // What nobody heard of in time is told no more.
    hook.answers.lock().unwrap().extend([StatusCode::BAD_GATEWAY; 2]);
    asked(&office, 2).await;
    hook.heard(3).await;
    database.run("update approvals set expires = created + 1 where state = 1 and told = 0").await;
    for _ in 0..1_200 {
        let metrics =
            reqwest::get(format!("http://{}/metrics", office.api.addr)).await.unwrap().text().await.unwrap();
        if metrics.contains("trunkline_control_approval_webhooks_total{outcome=\"given-up\"} 1\n") {
            assert!(
                metrics.contains("trunkline_control_approval_webhooks_total{outcome=\"delivered\"} 1\n"),
                "{metrics}"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it was not given up");
}

async fn a_decision_is_taken_once_from_who_can_sign(database: Database) {
    let folder = TempDir::new().unwrap();
    let office = office(&database, &folder, None).await;
    let file = folder.path().join("secret");
    let (call, name) = asked(&office, 1).await;
    let body =
        json!({"approval": name, "decision": "approve", "comment": "Fine.", "by": "slack:U123"}).to_string();
    let now = now_s();
    let taken = send(office.api.addr, &file, ("msg_1", now), &body).await;
    assert_eq!(taken, (200, json!({"approval": name, "state": "approved"})));
    let approved = state(&office, &name).await;
    assert_eq!(
        (&approved["state"], &approved["decidedBy"], &approved["comment"]),
        (&json!("APPROVAL_STATE_APPROVED"), &json!("system/webhook"), &json!("Fine. (slack:U123)"))
    );
    let filter = json!({"filter": {"resource": name, "actor": "system/webhook"}});
    let records = office.api.raw("admin.v1.AuditService/ListAuditRecords", &filter.to_string()).await.1;
    let after: Value = serde_json::from_str(records["records"][0]["afterJson"].as_str().unwrap()).unwrap();
    assert_eq!((&after["state"], &after["onBehalfOf"]), (&json!("approved"), &json!("slack:U123")));

    // Nobody brings a decision back by sending it again.
    office.decide("max", &name, "DENIED", "No.").await.unwrap();
    let again = send(office.api.addr, &file, ("msg_1", now), &body).await;
    assert_eq!(again, (200, json!({"approval": name, "state": "denied", "repeated": true})));
    assert_eq!(office.used(&call).await["approval"]["state"], "APPROVAL_STATE_DENIED");
    let (_, other) = asked(&office, 2).await;
    let body = json!({"approval": other, "decision": "deny"}).to_string();
    let repeated = send(office.api.addr, &file, ("msg_1", now), &body).await;
    assert_eq!(repeated.1["repeated"], true, "an id is good for one decision, whatever it is about");
    assert_eq!(state(&office, &other).await["state"], "APPROVAL_STATE_PENDING");
    let denied = send(office.api.addr, &file, ("msg_2", now), &body).await;
    assert_eq!(denied, (200, json!({"approval": other, "state": "denied"})));
}

async fn what_is_not_signed_decides_nothing(database: Database) {
    let folder = TempDir::new().unwrap();
    let office = office(&database, &folder, None).await;
    let (good, wrong) = (folder.path().join("secret"), secret(&folder, "other", OTHER));
    let (_, name) = asked(&office, 1).await;
    let body = json!({"approval": name, "decision": "approve"}).to_string();
    let now = now_s();
    for (file, time_s) in [(&wrong, now), (&good, now - TOLERANCE - 60), (&good, now + TOLERANCE + 60)] {
        let (status, said) = send(office.api.addr, file, ("msg_1", time_s), &body).await;
        assert_eq!(status, 401, "{said}");
    }
    let url = format!("http://{}/webhooks/approvals", office.api.addr);
    let unsigned = reqwest::Client::new().post(&url).body(body.clone()).send().await.unwrap();
    assert_eq!(unsigned.status().as_u16(), 401);
    // Of another body, with the signature of this one.
    let signature = SecretFile::open(&good).unwrap().read().unwrap().sign("msg_1", now, b"{}");
    let [id, time, sign] = HEADERS;
    let moved = reqwest::Client::new()
        .post(&url)
        .header(id, "msg_1")
        .header(time, now.to_string())
        .header(sign, signature);
    assert_eq!(moved.body(body.clone()).send().await.unwrap().status().as_u16(), 401);
    assert_eq!(state(&office, &name).await["state"], "APPROVAL_STATE_PENDING");
    // A secret that replaces another is good at once, and the one that it replaces no longer.
    std::fs::write(&good, OTHER).unwrap();
    assert_eq!(send(office.api.addr, &wrong, ("msg_1", now), &body).await.0, 200);

    let closed = Api::start().await;
    assert_eq!(
        send(closed.addr, &wrong, ("msg_2", now), &body).await.0,
        404,
        "nothing is there without a secret"
    );
}

async fn what_cannot_be_decided_is_said(database: Database) {
    let folder = TempDir::new().unwrap();
    let office = office(&database, &folder, None).await;
    let file = folder.path().join("secret");
    let (_, name) = asked(&office, 1).await;
    let never = format!("approvals/{}", "0".repeat(32));
    let long = format!(r#"{{"approval":"{name}","decision":"deny","comment":"{}"}}"#, "x".repeat(64 << 10));
    for (number, (body, status)) in [
        (json!({"approval": never, "decision": "approve"}).to_string(), 404),
        (json!({"approval": "servers/dev", "decision": "approve"}).to_string(), 404),
        (json!({"approval": name, "decision": "maybe"}).to_string(), 400),
        (json!({"approval": name, "decision": "approve", "comment": "x".repeat(501)}).to_string(), 400),
        ("{".to_owned(), 400),
        (long, 413),
    ]
    .into_iter()
    .enumerate()
    {
        let (answered, said) = send(office.api.addr, &file, (&format!("msg_{number}"), now_s()), &body).await;
        assert_eq!(answered, status, "{said}");
        assert!(said["message"].is_string(), "{said}");
    }
    assert_eq!(state(&office, &name).await["state"], "APPROVAL_STATE_PENDING");
    office.decide("max", &name, "DENIED", "").await.unwrap();
    let body = json!({"approval": name, "decision": "approve"}).to_string();
    let (status, said) = send(office.api.addr, &file, ("msg_9", now_s()), &body).await;
    assert_eq!(
        (status, said["message"].as_str().unwrap()),
        (409, format!("{name} is denied already; nothing is left to decide").as_str())
    );
}
