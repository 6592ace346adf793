//! The audit log as its reader meets it: what was made, refused and called is there, and whatever is done to it is found.

use std::process::Command;

use serde_json::Value;

use crate::support::fake::{Fake, id, json as answer_json, tool as definition};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

const CANARY: &str = "canary-7d1b40";

/// Runs a statement in the database of the gateway, as whoever has it could.
fn in_database(gateway: &Gateway, sql: &str) {
    let mut command = match gateway.database() {
        Some(url) => {
            let mut command = Command::new("psql");
            command.args([url, "-q", "-c", sql]);
            command
        }
        None => {
            let mut command = Command::new("python3");
            let script = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], timeout=60); d.executescript(sys.argv[2]); d.close()";
            command.args(["-c", script]).arg(gateway.folder().join("control/registry.db")).arg(sql);
            command
        }
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The records of a kind, as `mcpctl audit` prints them.
async fn records(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.ctl(&format!("audit --kind {kind} -o json")).await;
    serde_json::from_str(&text).unwrap()
}

async fn until(gateway: &Gateway, kind: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let found = eventually("the records are there", PATIENCE, || async {
        let found = records(gateway, kind).await;
        if holds(&found) { Ok(found) } else { Err(format!("{found:?}")) }
    });
    found.await
}

async fn what_happens_is_recorded_and_what_is_tampered_with_is_found(store: Store) {
    let gateway = Gateway::start_with(store, 1, &["--audit-calls", "digest"]).await;
    let fake = Fake::start(&format!("[{}, {}]", definition("echo"), definition("other")), |_, request| {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, id(request));
        vec![answer_json(200, &answer)]
    })
    .await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("ci", "dev", &["echo"]).await;
    gateway.admin.settled().await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let called = client.call("echo", &format!(r#"{{"text":"{CANARY}"}}"#)).await.unwrap();
    assert_eq!(called.status, 200, "{called:?}");
    for _ in 0..3 {
        client.call("other", "{}").await.unwrap();
    }

    let text = gateway.ctl("audit --action CreateToken").await;
    assert!(text.starts_with("NUMBER "), "{text}");
    let nothing = gateway.try_ctl(&["audit", "--actor", "tokens/cy"]).await;
    let (printed, said) =
        (String::from_utf8(nothing.stdout).unwrap(), String::from_utf8(nothing.stderr).unwrap());
    assert_eq!((printed.as_str(), said.as_str()), ("", "no records\n"));
    assert!(
        text.contains("system/administrator") && text.contains("tokens/ci") && text.contains("created"),
        "{text}"
    );
    let refused = until(&gateway, "refusal", |found| !found.is_empty()).await;
    assert_eq!(refused[0]["actor"], "tokens/ci");
    assert_eq!(refused[0]["resource"], "servers/dev/other");
    assert_eq!(refused[0]["reason"], "out_of_scope");
    assert_eq!(refused[0]["edge"], "edges/e0");
    let calls = until(&gateway, "call", |found| !found.is_empty()).await;
    assert_eq!(calls[0]["resource"], "servers/dev/echo");
    assert_eq!(calls[0]["action"], "tools/call");
    let exported = gateway.ctl("audit export").await;
    assert!(exported.lines().count() >= 6, "{exported}");
    assert!(exported.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    for secret in [CANARY, &bearer, gateway.admin_token()] {
        assert!(!exported.contains(secret), "a secret is in the audit log");
    }
    let line: Value = serde_json::from_str(exported.lines().nth(2).unwrap()).unwrap();
    let sequence = line["sequence"].as_str().unwrap();
    let shown = gateway.ctl(&format!("audit show {sequence}")).await;
    assert!(shown.contains(&format!("Number:     {sequence}\n")), "{shown}");

    let intact = gateway.ctl("audit verify").await;
    assert!(intact.starts_with("intact: records 1 to "), "{intact}");
    in_database(&gateway, "update audit set actor = 'users/eve@example.org' where sequence = 2");
    let broken = gateway.try_ctl(&["audit", "verify"]).await;
    assert_eq!(broken.status.code(), Some(1));
    let said = String::from_utf8_lossy(&broken.stdout).into_owned();
    assert!(said.starts_with("broken at record 2: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_recorded_and_what_is_tampered_with_is_found_on_sqlite() {
    what_happens_is_recorded_and_what_is_tampered_with_is_found(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_recorded_and_what_is_tampered_with_is_found_on_postgresql() {
    what_happens_is_recorded_and_what_is_tampered_with_is_found(Store::Postgres).await;
}
