//! Which sessions ended, on disk: they stay so when every edge was stopped at once and none is left to be asked.
//!
//! It must not know who ended them.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::session::{Jti, Terminated};
use crate::worker::Shared;
use crate::{clock, files};

/// How often what changed is written.
const EVERY: Duration = Duration::from_secs(2);
/// The name of a session, and when it would expire: seconds since the Unix epoch, the most significant byte first.
const RECORD: usize = 16 + 8;

/// Keeps the file.
pub struct Ended {
    path: PathBuf,
    shared: Arc<Shared>,
    written: u64,
}

impl Ended {
    /// What ended before this edge was started is in force when this returns. A file that cannot be read costs only what is in it.
    pub fn recall(path: PathBuf, shared: Arc<Shared>) -> Self {
        match read(&path, &shared.terminated, clock::now()) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot read the list of ended sessions");
            }
        }
        let written = shared.terminated.changes();
        Self { path, shared, written }
    }

    /// Writes what changes, for ever.
    pub async fn keep(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            self.write().await;
        }
    }

    /// Writes what changed.
    pub async fn write(&mut self) {
        let changes = self.shared.terminated.changes();
        if changes == self.written {
            return;
        }
        let (path, shared) = (self.path.clone(), Arc::clone(&self.shared));
        let writing = move || files::write(&path, &encode(&shared.terminated.all(clock::now())));
        match tokio::task::spawn_blocking(writing).await {
            Ok(Ok(())) => self.written = changes,
            Ok(Err(error)) => tracing::error!(%error, "cannot write the list of ended sessions"),
            Err(error) => tracing::error!(%error, "writing the list of ended sessions was interrupted"),
        }
    }
}

fn encode(ended: &[(Jti, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ended.len() * RECORD);
    for (jti, expires) in ended {
        bytes.extend_from_slice(jti);
        bytes.extend_from_slice(&expires.to_be_bytes());
    }
    bytes
}

fn read(path: &Path, terminated: &Terminated, now: u64) -> io::Result<()> {
    let bytes = files::read(path)?.unwrap_or_default();
    let (records, rest) = bytes.as_chunks::<RECORD>();
    for record in records {
        let (jti, expires) = record.split_at(16);
        if let (Ok(jti), Ok(expires)) = (jti.try_into(), expires.try_into().map(u64::from_be_bytes))
            && expires > now
        {
            terminated.terminate(jti, expires, now);
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
        let terminated = Terminated::default();
        read(&path, &terminated, 50).unwrap();
        assert_eq!(terminated.all(0), [(kept, 100)]);
    }

    #[test]
    fn a_damaged_file_costs_only_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        let terminated = Terminated::default();
        read(&path, &terminated, 0).unwrap();
        let mut bytes = encode(&[([1; 16], 100)]);
        bytes.push(7);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path, &terminated, 0).unwrap_err();
        assert_eq!(error.to_string(), "it ends within a record");
        assert!(terminated.contains(&[1; 16]));
    }
}
