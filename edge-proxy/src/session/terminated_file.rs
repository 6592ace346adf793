//! The terminated sessions on disk: they stay terminated when every edge was stopped at once and none is left to ask.
//!
//! It must not know who terminated them.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{SessionId, TerminatedSessions};
use crate::os::{clock, files};

/// The interval of writes.
const EVERY: Duration = Duration::from_secs(2);
/// The bytes of a session id and of its expiry: seconds since the Unix epoch, the most significant byte first.
const RECORD: usize = 16 + 8;

/// Keeps the file up to date.
#[derive(Debug)]
pub struct TerminatedFile {
    path: PathBuf,
    sessions: Arc<TerminatedSessions>,
    written: u64,
}

impl TerminatedFile {
    /// Adds the sessions in the file to `sessions`. A file that cannot be read costs only what is in it.
    pub fn load(path: PathBuf, sessions: Arc<TerminatedSessions>) -> Self {
        match read(&path, &sessions, clock::now()) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot read the list of ended sessions");
            }
        }
        let written = sessions.changes();
        Self { path, sessions, written }
    }

    /// Writes the file after every change, for ever.
    pub async fn run(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            self.save().await;
        }
    }

    /// Writes the file if anything changed.
    pub async fn save(&mut self) {
        let changes = self.sessions.changes();
        if changes == self.written {
            return;
        }
        let (path, sessions) = (self.path.clone(), Arc::clone(&self.sessions));
        let writing = move || files::write(&path, &encode(&sessions.all(clock::now())));
        match tokio::task::spawn_blocking(writing).await {
            Ok(Ok(())) => self.written = changes,
            Ok(Err(error)) => tracing::error!(%error, "cannot write the list of ended sessions"),
            Err(error) => tracing::error!(%error, "writing the list of ended sessions was interrupted"),
        }
    }
}

fn encode(ended: &[(SessionId, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ended.len() * RECORD);
    for (session_id, expires) in ended {
        bytes.extend_from_slice(session_id);
        bytes.extend_from_slice(&expires.to_be_bytes());
    }
    bytes
}

fn read(path: &Path, terminated: &TerminatedSessions, now: u64) -> io::Result<()> {
    let bytes = files::read(path)?.unwrap_or_default();
    let (records, rest) = bytes.as_chunks::<RECORD>();
    for record in records {
        let (session_id, expires) = record.split_at(16);
        if let (Ok(session_id), Ok(expires)) =
            (session_id.try_into(), expires.try_into().map(u64::from_be_bytes))
            && expires > now
        {
            terminated.terminate(session_id, expires, now);
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it ends within a record"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_but_for_what_expired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        let (kept, old) = ([1; 16], [2; 16]);
        files::write(&path, &encode(&[(kept, 100), (old, 50)])).unwrap();
        let terminated = TerminatedSessions::default();
        read(&path, &terminated, 50).unwrap();
        assert_eq!(terminated.all(0), [(kept, 100)]);
    }

    #[test]
    fn a_damaged_file_costs_only_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        let terminated = TerminatedSessions::default();
        read(&path, &terminated, 0).unwrap();
        let mut bytes = encode(&[([1; 16], 100)]);
        bytes.push(7);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path, &terminated, 0).unwrap_err();
        assert_eq!(error.to_string(), "it ends within a record");
        assert!(terminated.contains(&[1; 16]));
    }
}
