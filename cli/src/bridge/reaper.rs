//! The reaper: a copy of this program between `mcpctl expose` and the command, so that no orphan process is left behind.
//!
//! It leads a process group with the command in it, and forwards stdin. When its stdin ends, because the parent closed it or
//! was killed, even with SIGKILL, it ends the whole group. The command is started through a second step that asks the kernel
//! to kill it when the reaper dies. Nothing here needs `unsafe`: the process concerned asks the kernel itself, before it
//! becomes the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, getpid, getppid, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::output::eprint;

/// Time allowed for a server to end once its stdin is closed (MCP, "Shutdown").
const GRACE: Duration = Duration::from_secs(2);
/// Time allowed after SIGTERM, before SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(3);

/// Arguments of the hidden `reap` command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Become the command, as a child of this process, and die with it
    #[arg(long, value_name = "PID")]
    child_of: Option<i32>,
    /// Command to run, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Returns the path of this program, which stays valid when its file is replaced.
pub fn this_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("mcpctl"))
}

/// Runs the reaper, or its second step.
pub async fn run(args: Args) -> Result<u8> {
    match args.child_of {
        Some(parent) => Err(become_command(parent, &args.command)),
        None => watch(&args.command).await,
    }
}

/// Replaces this process by the command. Returns only on failure.
fn become_command(parent: i32, command: &[OsString]) -> Error {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return Error::failure(format!("cannot set the parent death signal: {error}"));
    }
    if getppid() != Pid::from_raw(parent) {
        return Error::failure("the reaper has already ended");
    }
    let error = std::process::Command::new(&command[0]).args(&command[1..]).exec();
    Error::failure(format!("cannot run {}: {error}", command[0].display()))
}

async fn watch(command: &[OsString]) -> Result<u8> {
    if getpgrp() != getpid() {
        return Err(Error::usage("`mcpctl reap` is internal: it must lead its own process group"));
    }
    // The SIGTERM for the group must not end the reaper before the group.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = Command::new(this_program())
        .args(["reap", "--child-of", &getpid().as_raw_nonzero().to_string(), "--"])
        .args(command)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| Error::failure("the command has no stdin"))?;
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        status = child.wait() => eprint(format!("command ended: {}", status?)),
        () = pass_on(&mut stdin, &mut input) => end(&mut child, input).await,
        _ = terminate.recv() => end(&mut child, input).await,
    }
    // This kills everything the command left behind in the group, and this process with it.
    let _ = kill_process_group(getpid(), Signal::KILL);
    Ok(0)
}

/// Forwards stdin until it ends. A command may close its own stdin and go on running.
async fn pass_on(stdin: &mut tokio::io::Stdin, input: &mut tokio::process::ChildStdin) {
    if tokio::io::copy(stdin, input).await.is_err() {
        // Only the end of the parent's side counts: keep reading, and discard the data.
        let _ = tokio::io::copy(stdin, &mut tokio::io::sink()).await;
    }
}

async fn end(child: &mut tokio::process::Child, mut input: tokio::process::ChildStdin) {
    let _ = input.shutdown().await;
    drop(input);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = kill_process_group(getpid(), Signal::TERM);
        let _ = tokio::time::timeout(TERM_GRACE, child.wait()).await;
    }
}
