//! Sessions of the legacy era: unguessable ids, and a bound on their number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bridge::expose::multiplexer::ClientId;

/// Maximum number of sessions.
pub const MAX_SESSIONS: usize = 1_000;
/// Idle time after which a session may be evicted for a new one.
const MIN_IDLE: Duration = Duration::from_secs(300);

/// The open sessions, by id.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    client: ClientId,
    used: Instant,
}

impl Sessions {
    /// Opens a session. Returns its id and the client that was evicted for it.
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

    /// Finds the client of a session, and marks the session as used.
    pub fn find(&self, id: &str) -> Option<ClientId> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        session.used = Instant::now();
        Some(session.client)
    }

    /// Closes a session and returns its client.
    pub fn close(&self, id: &str) -> Option<ClientId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id).map(|session| session.client)
    }
}
