//! The sessions of the legacy era: ids that cannot be guessed, and a bound on how many there are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bridge::expose::multiplexer::ClientId;

/// How many sessions there may be.
pub const MAX_SESSIONS: usize = 1_000;
/// One that has been idle for so long may make room for another.
const MIN_IDLE: Duration = Duration::from_secs(300);

/// Who is there.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    client: ClientId,
    used: Instant,
}

impl Sessions {
    /// Lets a client in; gives back its session's id, and the client that had to make room.
    pub fn open(&self, client: ClientId) -> Option<(String, Option<ClientId>)> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut evicted = None;
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            let oldest = oldest.filter(|(_, session)| session.used.elapsed() >= MIN_IDLE)?.0.clone();
            evicted = sessions.remove(&oldest).map(|session| session.client);
        }
        // Version 4: 122 bits of the operating system's randomness.
        let id = uuid::Uuid::new_v4().simple().to_string();
        sessions.insert(id.clone(), Session { client, used: Instant::now() });
        Some((id, evicted))
    }

    /// The client behind an id.
    pub fn find(&self, id: &str) -> Option<ClientId> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        session.used = Instant::now();
        Some(session.client)
    }

    /// Lets a client go.
    pub fn close(&self, id: &str) -> Option<ClientId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id).map(|session| session.client)
    }
}
