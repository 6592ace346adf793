//! A command as a stream of MCP messages: lines in, lines out, stderr passed through with a prefix.
//!
//! It must not look into messages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::secrets::Secrets;
use mcp::stdio::{LineDecoder, LineError, encode};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bridge::reaper;
use crate::complete;
use crate::output::eprint;

/// Maximum size of a message from the command.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Capacity of the queues to and from the command, in messages.
const QUEUE: usize = 256;
const MAX_STDERR_LINE: usize = 8 << 10;
/// Time allowed for the child to end. The reaper needs less, even in the worst case.
const END_GRACE: Duration = Duration::from_secs(8);

/// A command to run, its environment and its label.
#[derive(Clone)]
pub struct Program {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Environment variables added to those of this process.
    pub env: Vec<(String, String)>,
    /// Prefix of its stderr lines.
    pub label: String,
    /// The `mcpctl` binary that runs as its reaper.
    pub reaper: PathBuf,
}

/// Leaves out the variables, which may hold secrets.
impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("command", &self.command)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A running command.
#[derive(Debug)]
pub struct Child {
    /// Messages to its stdin. Dropping all senders closes stdin, which ends the command.
    pub input: mpsc::Sender<Bytes>,
    /// Messages from its stdout, until that is closed.
    pub output: mpsc::Receiver<Bytes>,
    ended: JoinHandle<()>,
}

impl Program {
    /// Describes a command. Its label defaults to the file name of the command.
    pub fn new(command: Vec<OsString>, label: Option<String>) -> Self {
        let own =
            command.first().map(|word| Path::new(word).file_name().unwrap_or(word).display().to_string());
        let label = label.or(own).unwrap_or_default();
        Self { command, env: Vec::new(), label, reaper: reaper::this_program() }
    }

    /// Checks that the command exists, so that a typo is reported at once.
    pub fn exists(&self) -> bool {
        let Some(word) = self.command.first().map(Path::new) else { return false };
        if word.components().count() > 1 {
            return word.is_file();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(word).is_file())
    }

    /// Returns the secrets that its stderr lines must not contain: the values of its variables, which clients sent. What
    /// else is in its environment is its user's own.
    pub(crate) fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        self.env.iter().for_each(|(_, value)| secrets.add_header(value.as_bytes()));
        secrets
    }

    /// Starts the command under a reaper, in a process group of its own.
    pub fn spawn(&self) -> std::io::Result<Child> {
        let mut process = Command::new(&self.reaper)
            .args(["reap", "--"])
            .args(&self.command)
            .env_remove(complete::VARIABLE)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (input, to_write) = mpsc::channel(QUEUE);
        let (to_handle, output) = mpsc::channel(QUEUE);
        if let Some(stdin) = process.stdin.take() {
            tokio::spawn(write(stdin, to_write));
        }
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(read(stdout, to_handle, self.label.clone()));
        }
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(pass_stderr(stderr, self.label.clone(), self.secrets()));
        }
        let group = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let ended = tokio::spawn(async move {
            let _ = process.wait().await;
            // The reaper has ended its group, unless it was killed itself.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
        });
        Ok(Child { input, output, ended })
    }
}

impl Child {
    /// Closes stdin and waits for the command to end.
    pub async fn end(self) {
        let Self { input, output, ended } = self;
        drop(input);
        drop(output);
        let _ = tokio::time::timeout(END_GRACE, ended).await;
    }
}

async fn write(mut stdin: ChildStdin, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        if stdin.write_all(&encode(&message)).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

async fn read(stdout: impl AsyncRead + Unpin, messages: mpsc::Sender<Bytes>, label: String) {
    let mut lines = LineReader::new(stdout, MAX_MESSAGE_BYTES);
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => {
                if messages.send(line).await.is_err() {
                    return;
                }
            }
            Err(error) => eprint(format!("[{label}] dropped a message: {error}")),
        }
    }
}

async fn pass_stderr(stderr: impl AsyncRead + Unpin, label: String, secrets: Secrets) {
    let mut lines = LineReader::new(stderr, MAX_STDERR_LINE);
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => eprint(stderr_line(&label, &secrets, &line)),
            Err(_) => eprint(format!("[{label}] (line too long)")),
        }
    }
}

fn stderr_line(label: &str, secrets: &Secrets, line: &[u8]) -> String {
    format!("[{label}] {}", secrets.redact(&String::from_utf8_lossy(line)))
}

/// A reader that splits a byte stream into lines.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    decoder: LineDecoder,
    buffer: BytesMut,
    ended: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of at most `max_line_bytes`.
    pub fn new(source: R, max_line_bytes: usize) -> Self {
        Self { source, decoder: LineDecoder::new(max_line_bytes), buffer: BytesMut::new(), ended: false }
    }

    /// Reads the next line. `Err` is a line that was too long, `None` the end of the stream.
    pub async fn next(&mut self) -> Option<Result<Bytes, LineError>> {
        loop {
            if let Some(line) = self.decoder.next().transpose() {
                return Some(line);
            }
            if self.ended {
                return self.decoder.finish().map(Ok);
            }
            self.buffer.reserve(64 << 10);
            self.ended = !matches!(self.source.read_buf(&mut self.buffer).await, Ok(read) if read > 0);
            self.decoder.push(self.buffer.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_is_taken_out_of_stderr() {
        let mut program = Program::new(vec!["server".into()], None);
        program.env.push(("TOKEN".to_owned(), "Bearer s3cret-value".to_owned()));
        for (said, shown) in [
            ("starting", "[server] starting"),
            ("no access with s3cret-value", "[server] no access with [redacted]"),
            ("GET /?token=s3cret%2Dvalue", "[server] GET /?token=[redacted]"),
        ] {
            assert_eq!(stderr_line(&program.label, &program.secrets(), said.as_bytes()), shown);
        }
    }
}
