//! Things are killed under load, and what was lost is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::fake::{Fake, Step, id, json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

/// An upstream with a tool that answers at once and one that takes its time.
async fn upstream() -> Fake {
    Fake::start(&format!("[{},{}]", tool("quick"), tool("slow")), |name, request| {
        let pause = if name == "slow" { Duration::from_millis(1500) } else { Duration::ZERO };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"done"}}]}}}}"#,
            id(request)
        );
        vec![Step::Wait(pause), json(200, &body)]
    })
    .await
}

async fn gateway(store: Store, edges: usize, upstream: &Fake) -> (Gateway, String) {
    let gateway = Gateway::start(store, edges).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("load", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, bearer)
}

/// Sessions that call without pause until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    tasks: JoinSet<Result<(), String>>,
}

impl Load {
    async fn start(url: &str, bearer: &str, sessions: usize) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..sessions {
            let client = Client::open(url, bearer).await.unwrap();
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    succeeds(&client, "quick").await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            });
        }
        Self { stop, calls, tasks }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Waits until this many more calls have been answered.
    async fn goes_on(&self) {
        let goal = self.calls() + 50;
        eventually("the load goes on", PATIENCE, || async {
            if self.calls() >= goal { Ok(()) } else { Err(format!("{} of {goal}", self.calls())) }
        })
        .await;
    }

    /// Ends it; not one call may have failed.
    async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
        self.calls()
    }
}

async fn succeeds(client: &Client, tool: &str) -> Result<(), String> {
    let answer = client.call(tool, "{}").await?;
    let fine = answer.status == 200 && answer.json()["result"]["content"][0]["text"] == "done";
    if fine { Ok(()) } else { Err(format!("{answer:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_dies_under_load_on_sqlite() {
    the_control_plane_dies_under_load(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_dies_under_load_on_postgres() {
    the_control_plane_dies_under_load(Store::Postgres).await;
}

async fn the_control_plane_dies_under_load(store: Store) {
    let upstream = upstream().await;
    let (mut gateway, bearer) = gateway(store, 2, &upstream).await;
    let load = Load::start(&gateway.url(0, "dev"), &bearer, 8).await;
    load.goes_on().await;

    gateway.kill_control();
    load.goes_on().await;

    // Meanwhile the other edge starts again, from its disk alone: new sessions, and those of before.
    let before = Client::open(&gateway.url(1, "dev"), &bearer).await.unwrap();
    gateway.on_disk(1).await;
    gateway.kill_edge(1);
    gateway.start_edge(1).await;
    let fresh = eventually("the restarted edge serves from disk", PATIENCE, || {
        let url = gateway.url(1, "dev");
        let bearer = bearer.clone();
        async move { Client::open(&url, &bearer).await }
    })
    .await;
    succeeds(&fresh, "quick").await.unwrap();
    succeeds(&before, "quick").await.unwrap();
    load.goes_on().await;

    // Back again, the next change reaches everyone.
    gateway.start_control().await;
    gateway.all_connected().await;
    let file = gateway.folder().join("token.yaml");
    let yaml = "kind: Token\nname: tokens/load\nscope:\n  servers: [servers/dev]\n  tools: [quick]\n";
    std::fs::write(&file, yaml).unwrap();
    let output = gateway.try_ctl(&["apply", "-f", file.to_str().unwrap(), "--wait"]).await;
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains("edges/e0") && talk.contains("edges/e1"), "no line per edge: {talk}");
    for edge in 0..2 {
        let client = Client::open(&gateway.url(edge, "dev"), &bearer).await.unwrap();
        assert_eq!(client.tools().await.unwrap(), ["quick"]);
    }
    let calls = load.finish().await;
    assert!(calls > 150, "hardly a load: {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_drains_finishes_what_it_began() {
    let upstream = upstream().await;
    let (mut gateway, bearer) = gateway(Store::Sqlite, 2, &upstream).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let elsewhere = client.at(&gateway.url(1, "dev"));
    let slow = tokio::spawn({
        let client = client.clone();
        async move { succeeds(&client, "slow").await }
    });
    eventually("the slow call is under way", PATIENCE, || async {
        if upstream.received("tools/call").is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    gateway.stop_edge(0);
    slow.await.unwrap().unwrap();
    // The session is not lost with the edge that opened it.
    succeeds(&elsewhere, "quick").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_keeps_its_catalogue() {
    let upstream = upstream().await;
    let (gateway, bearer) = gateway(Store::Sqlite, 1, &upstream).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    succeeds(&client, "quick").await.unwrap();
    drop(upstream);
    let output = gateway.try_ctl(&["get", "upstreams", "-o", "name"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "upstreams/fake");
    assert_eq!(client.tools().await.unwrap(), ["quick", "slow"]);
}
