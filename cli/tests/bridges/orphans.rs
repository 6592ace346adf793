//! No process is left behind, however `mcpctl expose` ends.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Far less than the servers run that nobody ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Processes whose command line holds this word, by id.
fn alive(word: &str) -> Vec<(Pid, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if let (true, Ok(id)) = (command.contains(word), entry.file_name().to_string_lossy().parse()) {
            found.push((Pid::from_raw(id).unwrap(), command));
        }
    }
    found
}

/// Starts `mcpctl expose` with a child that has a stubborn grandchild, and waits until it is ready.
async fn start(word: &str, more: &[&str]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcpctl"))
        .args(["expose", "--era", "legacy", "--", "python3", &crate::support::script(), "--grandchild"])
        .args(more)
        .arg(word)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/mcp"), "{url}");
    // mcpctl, the reaper, the server and its child.
    assert_eq!(alive(word).len(), 4, "{:?}", alive(word));
    child
}

async fn all_gone(word: &str) {
    let started = Instant::now();
    while !alive(word).is_empty() {
        assert!(started.elapsed() < PATIENCE, "left behind: {:?}", alive(word));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn sigkill_leaves_no_orphan() {
    let word = format!("--orphan-kill-{}", std::process::id());
    let mut child = start(&word, &[]).await;
    send(&child, Signal::KILL);
    child.wait().await.unwrap();
    all_gone(&word).await;
}

#[tokio::test]
async fn a_server_that_does_not_listen_is_killed_all_the_same() {
    let word = format!("--orphan-deaf-{}", std::process::id());
    let mut child = start(&word, &["--deaf"]).await;
    send(&child, Signal::KILL);
    child.wait().await.unwrap();
    all_gone(&word).await;
}

#[tokio::test]
async fn sigterm_ends_everything_and_waits_for_it() {
    let word = format!("--orphan-term-{}", std::process::id());
    let mut child = start(&word, &[]).await;
    send(&child, Signal::TERM);
    assert!(child.wait().await.unwrap().success());
    all_gone(&word).await;
}

#[tokio::test]
async fn a_reaper_that_is_killed_takes_the_server_along() {
    let word = format!("--orphan-reaper-{}", std::process::id());
    let mut child = start(&word, &["--deaf"]).await;
    for (reaper, _) in alive(&word).into_iter().filter(|(_, command)| command.contains(" reap ")) {
        kill_process(reaper, Signal::KILL).unwrap();
    }
    send(&child, Signal::KILL);
    child.wait().await.unwrap();
    let server =
        || alive(&word).into_iter().filter(|(_, c)| c.contains("stdio_server.py")).collect::<Vec<_>>();
    let started = Instant::now();
    while !server().is_empty() {
        assert!(started.elapsed() < PATIENCE, "left behind: {:?}", server());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nothing else knows the stubborn grandchild any more: the test ends it.
    for (id, _) in alive(&word) {
        let _ = kill_process(id, Signal::KILL);
    }
}
