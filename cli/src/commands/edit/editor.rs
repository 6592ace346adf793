//! The editor of whoever is at the terminal, run as git and kubectl run it.

use std::io::IsTerminal as _;
use std::path::Path;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

/// What a shell says where a command does not exist, and where it cannot be run.
const NOT_RUN: [i32; 2] = [126, 127];

/// A command line for a shell, to which the file is added.
pub(super) struct Editor(String);

impl Editor {
    /// Finds the one that the environment names, or else `vi`, which needs a terminal.
    pub(super) fn find() -> Result<Self> {
        let named = |name: &&str| std::env::var(name).ok().filter(|line| !line.trim().is_empty());
        if let Some(line) = ["VISUAL", "EDITOR"].iter().find_map(named) {
            return Ok(Self(line));
        }
        if is_attended() {
            return Ok(Self("vi".to_owned()));
        }
        Err(Error::usage(
            "there is no terminal to edit at; set EDITOR to a program that changes the file, or use `mcpctl update` or `mcpctl apply`",
        ))
    }

    /// Opens a file, and waits until the editor ends.
    pub(super) async fn open(&self, path: &Path) -> Result {
        // Ctrl-C is for the editor. What is caught here, it gets as ever.
        let _caught = signal(SignalKind::interrupt())?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{} \"$@\"", self.0)).arg("editor").arg(path);
        let status =
            shell.status().await.map_err(|error| Error::failure(format!("cannot run a shell: {error}")))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) if NOT_RUN.contains(&code) => Err(Error::failure(format!(
                "the editor `{}` cannot be run; set EDITOR to one that is installed",
                self.0
            ))),
            _ => Err(Error::failure(format!("the editor `{}` failed ({status})", self.0))),
        }
    }
}

/// Whether somebody is there who sees what the editor shows.
pub(super) fn is_attended() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Does something that Ctrl-C ends: after an editor, it no longer ends this process.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err(Error::failure("interrupted")),
    }
}
