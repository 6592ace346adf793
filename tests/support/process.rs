//! A child process with everything it started: its output in a file, its end certain. It must not know what
//! it runs.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Killed with its process group when dropped; its output is shown when the test fails.
pub(crate) struct Process {
    name: String,
    child: Child,
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command in a process group of its own; output goes to `{folder}/{name}.log`.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name}: {command:?}: {e}"));
        let guard = guard(child.id());
        Self { name: name.to_owned(), child, guard, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Fails when it has ended; says so with its output.
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {status}:\n{}", self.name, self.output());
        }
    }

    /// SIGKILL to this process alone, as an out-of-memory killer would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, &self.pid().to_string());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        signal("TERM", &self.pid().to_string());
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < limit, "{} did not end within {limit:?} of SIGTERM", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let running = matches!(self.child.try_wait(), Ok(None));
        if running {
            // Politely first: `mcpctl expose` takes its child along.
            signal("TERM", &self.pid().to_string());
            let start = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(3) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        signal("KILL", &format!("-{}", self.pid()));
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            let (name, log) = (&self.name, self.log.display());
            eprintln!("--- {name} said last ---\n{}\n--- all of it is in {log} ---", tail.join("\n"));
        }
    }
}

/// Kills a process group as soon as this process is gone: one that is killed, as at its time limit, drops nothing.
pub(crate) fn guard(group: u32) -> Child {
    let mut guard = Command::new("sh");
    guard.args(["-c", &format!("read -r _; kill -s KILL -- -{group}")]).process_group(0);
    // The end of its input is the end of whoever holds the other side, which is this process alone.
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Through the shell's own `kill`, since calling it ourselves would need `unsafe`.
fn signal(name: &str, target: &str) {
    let command = format!("kill -s {name} -- {target}");
    let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// Every process below this one.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if stat(child).is_some_and(|(_, its_parent)| its_parent == parent) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

/// Whether a process is there, and not a zombie that nobody has waited for.
pub(crate) fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// The state and the parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything: what counts comes after it.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
