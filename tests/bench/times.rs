//! Two times of the whole: from the start of an edge to its first answered call, and of `apply --wait`. It must
//! not know the table.

use std::time::{Duration, Instant};

use crate::support::gateway::Gateway;
use crate::support::wire::Client;

/// From the start of the process to the first call answered, again and again.
pub(crate) async fn process_start(gateway: &mut Gateway, bearer: &str, repeats: usize) -> Vec<Duration> {
    let client = Client::new(&gateway.url(0, "ten"), bearer);
    let mut times = Vec::new();
    for _ in 0..repeats {
        gateway.stop_edge(0);
        let start = Instant::now();
        gateway.spawn_edge(0);
        while !client.call("echo", r#"{"text":"hi"}"#).await.is_ok_and(|answer| answer.status == 200) {
            assert!(start.elapsed() < Duration::from_secs(30), "the edge does not answer");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(start.elapsed());
    }
    gateway.all_connected().await;
    times
}

/// `mcpctl apply --wait` of one edit, from its start to its end.
pub(crate) async fn apply(gateway: &Gateway, repeats: usize) -> Vec<Duration> {
    let file = gateway.folder().join("server.yaml");
    let mut times = Vec::new();
    for index in 0..repeats {
        let yaml = format!(
            "kind: Server\nname: servers/ten\ninstructions: Edition {index}.\nnameStyle: NAME_STYLE_UNPREFIXED\ntools: [{{match: ten/*}}]\n"
        );
        std::fs::write(&file, yaml).unwrap();
        let start = Instant::now();
        gateway.ctl_args(&["apply", "-f", file.to_str().unwrap(), "--wait"]).await;
        times.push(start.elapsed());
    }
    times
}
