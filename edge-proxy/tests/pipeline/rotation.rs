//! Keys that are rotated while clients call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use trunkline::edge::v1 as wire;

use crate::legacy::CALL;
use crate::support::{Edge, Keys, Upstream, eventually, initialize, json};

const CLIENTS: usize = 4;
const ROTATIONS: u32 = 12;
/// Keys of the last rotations that are still good, as a control plane keeps them.
const KEPT: usize = 3;

/// Calls in one session for as long as its keys are kept, then begins another with the newest bearer.
async fn call_on(
    edge: Arc<Edge>,
    newest: Arc<Mutex<(u32, String)>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
) {
    let send = |bearer: String, session: Option<String>, body: String| {
        let request = edge.bare("POST", "dev", &body).header("authorization", format!("Bearer {bearer}"));
        let request = session.into_iter().fold(request, |request, id| request.header("mcp-session-id", id));
        async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
            response
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let (begun, bearer) = newest.lock().unwrap().clone();
        let opened = send(bearer.clone(), None, initialize("2025-11-25", "{}")).await;
        let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        // One rotation less than are kept: the next may be published while a call is on its way.
        while newest.lock().unwrap().0 < begun + KEPT as u32 - 1 && !stop.load(Ordering::Relaxed) {
            let answer = send(bearer.clone(), Some(session.clone()), CALL.to_owned()).await;
            assert_eq!(answer.text().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_without_a_refused_call() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
    })
    .await;
    let edge = Arc::new(Edge::start(&upstream.url));
    let newest = Arc::new(Mutex::new((0, edge.keys.bearer("all"))));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(call_on(
                Arc::clone(&edge),
                Arc::clone(&newest),
                Arc::clone(&stop),
                Arc::clone(&calls),
            ))
        })
        .collect();
    let mut resources = edge.snapshot.clone();
    for rotation in 1..=ROTATIONS {
        let keys = Keys::named(&format!("r{rotation}"));
        let trust = &mut resources.resources.trust_bundles[0];
        trust.verification_keys.insert(0, keys.public());
        trust.verification_keys.truncate(KEPT + 1);
        trust
            .sealing_keys
            .insert(0, wire::SealingKey { key_id: 100 + rotation, key: vec![rotation as u8; 32] });
        trust.sealing_keys.truncate(KEPT + 1);
        edge.current.publish(resources.compile());
        *newest.lock().unwrap() = (rotation, keys.bearer("all"));
        let before = calls.load(Ordering::Relaxed);
        let enough = || {
            let ended = clients.iter().any(tokio::task::JoinHandle::is_finished);
            ended || calls.load(Ordering::Relaxed) >= before + 4 * CLIENTS
        };
        eventually("clients call on with the keys of now", enough).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no call was refused");
    }
}
