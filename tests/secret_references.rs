//! Secrets by reference, whole: `mcpctl` writes the references, the control plane reads them, edges send what was read, and a
//! rotation costs no call. And keys, which are listed and replaced.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::fake::{Fake, header, id, json as answer_json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

/// Writes a file as a secret is to be rotated: whole, or not at all.
fn rotate(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A gateway whose control plane was started with a folder of secrets and a variable.
async fn start(store: Store) -> Gateway {
    let mut gateway = Gateway::start(store, 0).await;
    let secrets = gateway.folder().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let options = ["--secret-dir", secrets.to_str().unwrap()];
    gateway.configure_control(&options, &[("TRUNKLINE_SECRET_GITHUB", "s3cret-env")]);
    gateway.stop_control();
    gateway.start_control().await;
    gateway.add_edge(&[]).await;
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_no_call() {
    let gateway = start(Store::Sqlite).await;
    let file = gateway.folder().join("secrets/token");
    rotate(&file, "s3cret-one\n");
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, request| {
        let sent = header(&request.head, "authorization").unwrap_or_default();
        // As a provider does while both are good.
        let is_known = ["Bearer s3cret-one", "Bearer s3cret-two"].contains(&sent);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, id(request));
        vec![answer_json(if is_known { 200 } else { 401 }, &answer)]
    })
    .await;
    gateway.ctl(&format!("create upstream a --url {} --bearer-from file:token", upstream.url())).await;
    gateway.admin.create_server("dev", &["a/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let (is_over, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let calling = {
        let (is_over, failed) = (Arc::clone(&is_over), Arc::clone(&failed));
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let answer = client.call("echo", "{}").await.unwrap();
                let is_good = answer.status == 200 && answer.json()["result"]["content"].is_array();
                failed.fetch_add(usize::from(!is_good), Ordering::Relaxed);
            }
        })
    };
    let called_with = |secret: &str| {
        let secret = format!("Bearer {secret}");
        let calls = upstream.received("tools/call");
        let is_sent = calls.iter().any(|call| header(&call.head, "authorization") == Some(secret.as_str()));
        if is_sent { Ok(()) } else { Err(format!("{} calls", calls.len())) }
    };
    eventually("it is called with the first", PATIENCE, || async { called_with("s3cret-one") }).await;
    rotate(&file, "s3cret-two\n");
    eventually("it is called with the second", PATIENCE, || async { called_with("s3cret-two") }).await;
    is_over.store(true, Ordering::Relaxed);
    calling.await.unwrap();
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    let said = gateway.control_said();
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_written_shown_and_kept() {
    let gateway = start(Store::Sqlite).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    let create =
        format!("create upstream a --url {} --bearer-from env:TRUNKLINE_SECRET_GITHUB", upstream.url());
    gateway.ctl(&create).await;
    let heads: Vec<_> = upstream.received("tools/list").into_iter().map(|request| request.head).collect();
    assert!(heads.iter().any(|head| head.contains("Bearer s3cret-env\r\n")), "{heads:?}");
    let described = gateway.ctl("describe upstream a").await;
    assert!(described.contains("a bearer token (from env:TRUNKLINE_SECRET_GITHUB)"), "{described}");
    let exported = gateway.ctl("export").await;
    let reference = "  bearer:\n    tokenFrom:\n      env:\n        name: TRUNKLINE_SECRET_GITHUB\n";
    assert!(exported.contains(reference) && !exported.contains("s3cret"), "{exported}");
    let path = gateway.folder().join("a.yaml");
    std::fs::write(&path, &exported).unwrap();
    assert_eq!(gateway.ctl("apply -f a.yaml").await, "  upstreams/a unchanged\n");
    std::fs::write(&path, exported.replace("SECRET_GITHUB", "SECRET_GITLAB")).unwrap();
    let diff = gateway.try_ctl(&["diff", "-f", "a.yaml"]).await;
    let diff = String::from_utf8(diff.stdout).unwrap();
    assert!(diff.contains("TRUNKLINE_SECRET_GITLAB"), "{diff}");
    // What is not there is said, and nothing is sent without it.
    gateway.ctl("update upstream a --bearer-from env:TRUNKLINE_SECRET_GITLAB").await;
    let status = || async {
        let shown = gateway.ctl_args(&["get", "upstream", "a", "-o", "json"]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let reason = shown["status"]["reason"].as_str().unwrap_or_default().to_owned();
        let unset = "TRUNKLINE_SECRET_GITLAB is not set at the control plane";
        if reason.contains(unset) { Ok(()) } else { Err(reason) }
    };
    eventually("its status says that the variable is not set", PATIENCE, status).await;
    let refused =
        gateway.try_ctl(&["update", "upstream", "a", "--bearer-from", "env:TRUNKLINE_MASTER_KEY"]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("names an option of the control plane"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_and_replaced() {
    let gateway = start(Store::Sqlite).await;
    gateway.admin.create_server("dev", &["*/*"]).await;
    gateway.admin.create_token("t", "dev", &["*"]).await;
    let keys = async || -> Vec<(String, String)> {
        let shown: Value =
            serde_json::from_str(&gateway.ctl_args(&["keys", "list", "-o", "json"]).await).unwrap();
        let keys = shown["keys"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
        let pairs = keys.iter().map(|key| (text(&key["purpose"]), text(&key["state"])));
        pairs
            .map(|(purpose, state)| (purpose.replace("key_purpose_", ""), state.replace("key_state_", "")))
            .collect()
    };
    let pair = |purpose: &str, state: &str| (purpose.to_owned(), state.to_owned());
    let fresh: Vec<_> =
        ["master", "data", "signing", "sealing"].map(|purpose| pair(purpose, "active")).into();
    assert_eq!(keys().await, fresh);
    let listed = gateway.ctl("keys list").await;
    let titles: Vec<&str> = listed.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["ID", "PURPOSE", "STATE", "CREATED", "NEEDED", "BY"]);
    assert!(listed.contains("1 token without an end") && listed.contains("2 keys"), "{listed}");
    let rotated = gateway.try_ctl(&["keys", "rotate", "signing"]).await;
    let said = String::from_utf8(rotated.stderr).unwrap();
    assert!(
        said.contains("is needed until these tokens, which have no end, are issued anew or revoked: t"),
        "{said}"
    );
    gateway.ctl("keys rotate").await;
    let states = keys().await;
    for expected in [pair("signing", "retiring"), pair("data", "pending"), pair("sealing", "pending")] {
        assert!(states.contains(&expected), "{states:?}");
    }
}
