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
async fn an_import_names_variables_without_values_and_sigterm_ends_what_it_runs() {
    let word = format!("--orphan-import-{}", std::process::id());
    let folder = tempfile::tempdir().unwrap();
    // A control plane that never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mcpctl = || {
        let mut mcpctl = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
        mcpctl.env("MCPCTL_CONFIG", folder.path().join("mcpctl.yaml")).env_remove("MCPCTL_CONTEXT");
        mcpctl.env("IMPORTED_KEY", "s3cret-value").stdin(Stdio::null());
        mcpctl
    };
    let control = format!("http://{}", listener.local_addr().unwrap());
    let context = mcpctl().args(["config", "set-context", "here", "--control", &control]).output().await;
    assert!(context.unwrap().status.success());
    let arguments = ["-u", &crate::support::script(), "--key=${IMPORTED_KEY}", &word];
    let file = serde_json::json!({"mcpServers": {
        "kept": {"command": "python3", "args": arguments},
        // One that ends at once, and is being started again.
        "broken": {"command": "false", "args": [&word]},
        "unset": {"command": "true", "args": ["${IMPORTED_NOWHERE}"]},
    }});
    let path = folder.path().join("hosts.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let mut import = mcpctl();
    import.arg("import").arg(&path).arg("--expose").stderr(Stdio::piped());
    let mut import = import.spawn().unwrap();
    let mut lines = BufReader::new(import.stderr.take().unwrap()).lines();
    let (mut said, mut is_restarting) = (Vec::new(), false);
    while !(is_restarting && said.iter().any(|line: &String| line.contains("; listening at "))) {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        is_restarting = line.starts_with("[broken] restarting");
        said.push(line);
    }
    send(&import, Signal::TERM);
    // One server was not imported.
    assert_eq!(tokio::time::timeout(PATIENCE, import.wait()).await.unwrap().unwrap().code(), Some(1));
    all_gone(&word).await;
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push(line);
    }
    let said = said.join("\n");
    assert!(said.contains("--key=${IMPORTED_KEY}") && !said.contains("s3cret-value"), "{said}");
    assert!(said.contains("server unset: skipped: ${IMPORTED_NOWHERE} is not set"), "{said}");
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
