//! The terminated sessions on disk: they stay terminated when every edge was stopped at once and none is left to ask.
//!
//! It must not know who terminated them.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{EndedSession, SessionId, SessionOwner, TerminatedSessions};
use crate::os::{clock, files};

/// The interval of writes.
const EVERY: Duration = Duration::from_secs(2);
/// What the file begins with. No session id is like it: those are random UUIDs, with a version in the seventh byte.
const HEADER: &[u8; 8] = b"ended-2\n";
/// The bytes of a session id, of its expiry (seconds since the Unix epoch) and of its owner, the most significant byte
/// first.
const RECORD: usize = 16 + 8 + 8;
/// The bytes of a session in a file without a header, as releases before this one wrote it: it has no owner.
const OLD_RECORD: usize = 16 + 8;

/// Keeps the file up to date.
#[derive(Debug)]
pub struct TerminatedFile {
    path: PathBuf,
    sessions: Arc<TerminatedSessions>,
    /// The changes that the file has.
    written: u64,
    /// A write that has begun. It goes on where nobody waits for it any more.
    writing: Option<Writing>,
}

/// A write of the file, with the changes that it writes.
#[derive(Debug)]
struct Writing {
    changes: u64,
    task: JoinHandle<io::Result<()>>,
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
        Self { path, sessions, written, writing: None }
    }

    /// Writes the file after every change, for ever.
    pub async fn run(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            self.save().await;
        }
    }

    /// Writes the file if anything changed. Where the last save was given up while it wrote, that write ends first: both write
    /// the same file.
    pub async fn save(&mut self) {
        self.finish().await;
        let changes = self.sessions.changes();
        if changes == self.written {
            return;
        }
        let (path, sessions) = (self.path.clone(), Arc::clone(&self.sessions));
        let write = move || files::write(&path, &encode(&sessions.all(clock::now())));
        self.writing = Some(Writing { changes, task: tokio::task::spawn_blocking(write) });
        self.finish().await;
    }

    /// Waits for the write that has begun, if there is one.
    async fn finish(&mut self) {
        let Some(Writing { changes, task }) = &mut self.writing else { return };
        match task.await {
            Ok(Ok(())) => self.written = *changes,
            Ok(Err(error)) => tracing::error!(%error, "cannot write the list of ended sessions"),
            Err(error) => tracing::error!(%error, "writing the list of ended sessions was interrupted"),
        }
        self.writing = None;
    }
}

fn encode(sessions: &[(SessionId, EndedSession)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER.len() + sessions.len() * RECORD);
    bytes.extend_from_slice(HEADER);
    for (session_id, EndedSession { expires, owner }) in sessions {
        bytes.extend_from_slice(session_id);
        bytes.extend_from_slice(&expires.to_be_bytes());
        bytes.extend_from_slice(&owner.0.to_be_bytes());
    }
    bytes
}

fn read(path: &Path, terminated: &TerminatedSessions, now: u64) -> io::Result<()> {
    let bytes = files::read(path)?.unwrap_or_default();
    let (records, length) = match bytes.strip_prefix(HEADER) {
        Some(records) => (records, RECORD),
        None => (&*bytes, OLD_RECORD),
    };
    let records = records.chunks_exact(length);
    let rest = records.remainder();
    for (session_id, ended) in records.filter_map(decode).filter(|(_, ended)| ended.expires > now) {
        terminated.terminate(session_id, ended, now);
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it ends within a record"))
    }
}

fn decode(record: &[u8]) -> Option<(SessionId, EndedSession)> {
    let (session_id, rest) = record.split_first_chunk::<16>()?;
    let (expires, owner) = rest.split_first_chunk::<8>()?;
    let owner = owner
        .first_chunk::<8>()
        .map_or(SessionOwner::default(), |owner| SessionOwner(u64::from_be_bytes(*owner)));
    Some((*session_id, EndedSession { expires: u64::from_be_bytes(*expires), owner }))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// An edge that stops saves once more, and may have given up a save just then.
    #[test]
    fn a_save_that_was_given_up_ends_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        // What blocks is done one after the other, in the order in which it came.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let terminated = Arc::new(TerminatedSessions::default());
            let mut file = TerminatedFile::load(path.clone(), Arc::clone(&terminated));
            let ended = EndedSession { expires: u64::MAX, owner: SessionOwner(7) };
            terminated.terminate([1; 16], ended, 0);
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            assert!(file.save().now_or_never().is_none(), "the write has to wait");
            // Whatever is written after the first write stays.
            let moved = path.with_extension("moved");
            let (from, to) = (path.clone(), moved.clone());
            let moving = tokio::task::spawn_blocking(move || std::fs::rename(from, to));
            let mut again = std::pin::pin!(file.save());
            assert!(again.as_mut().now_or_never().is_none(), "the first write has not ended");
            go.send(()).unwrap();
            again.await;
            busy.await.unwrap().unwrap();
            moving.await.unwrap().unwrap();
            assert!(moved.exists() && !path.exists(), "nothing was left for a second write");
        });
    }

    #[test]
    fn what_was_written_is_read_but_for_what_expired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        let (kept, old) = ([1; 16], [2; 16]);
        let ended = |expires| EndedSession { expires, owner: SessionOwner(7) };
        files::write(&path, &encode(&[(kept, ended(100)), (old, ended(50))])).unwrap();
        let terminated = TerminatedSessions::default();
        read(&path, &terminated, 50).unwrap();
        assert_eq!(terminated.all(0), [(kept, ended(100))]);
    }

    #[test]
    fn what_the_release_before_wrote_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        std::fs::write(&path, [&[1; 16], &100u64.to_be_bytes()[..], &[2; 16], &50u64.to_be_bytes()].concat())
            .unwrap();
        let terminated = TerminatedSessions::default();
        read(&path, &terminated, 50).unwrap();
        let ended = EndedSession { expires: 100, owner: SessionOwner::default() };
        assert_eq!(terminated.all(0), [([1; 16], ended)]);
    }

    #[test]
    fn a_damaged_file_costs_only_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.ended");
        let terminated = TerminatedSessions::default();
        read(&path, &terminated, 0).unwrap();
        let ended = EndedSession { expires: 100, owner: SessionOwner::default() };
        let mut bytes = encode(&[([1; 16], ended)]);
        bytes.push(7);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path, &terminated, 0).unwrap_err();
        assert_eq!(error.to_string(), "it ends within a record");
        assert!(terminated.contains(&[1; 16]));
    }
}
