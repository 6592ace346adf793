//! Sessions of the legacy era: unguessable ids, and a bound on their number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcp::revision::Revision;

use crate::bridge::expose::multiplexer::ClientId;
use crate::bridge::expose::share::Source;

/// Maximum number of sessions; one address has half of them when alone.
pub const MAX_SESSIONS: usize = 2_000;
/// Idle time after which a session may be evicted for a new one of its address, or where there are too many for any.
const MIN_IDLE: Duration = Duration::from_secs(300);

/// The open sessions, by id.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    open: OpenSession,
    source: Source,
    used: Instant,
}

/// What a request must know of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSession {
    /// Its client.
    pub client: ClientId,
    /// The revision that was agreed on.
    pub revision: Revision,
}

impl Sessions {
    /// Opens a session for a client of `source`. Returns its id and the client that was evicted for it.
    pub fn open(
        &self,
        client: ClientId,
        revision: Revision,
        source: Source,
    ) -> Option<(String, Option<ClientId>)> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut evicted = None;
        if !source.has_room(MAX_SESSIONS, sessions.values().map(|session| session.source)) {
            let is_full = sessions.len() >= MAX_SESSIONS;
            let candidates = sessions.iter().filter(|(_, session)| is_full || session.source == source);
            let oldest = candidates.min_by_key(|(_, session)| session.used);
            let oldest = oldest.filter(|(_, session)| session.used.elapsed() >= MIN_IDLE)?.0.clone();
            evicted = sessions.remove(&oldest).map(|session| session.open.client);
        }
        // Version 4: 122 bits of the operating system's randomness.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let open = OpenSession { client, revision };
        sessions.insert(id.clone(), Session { open, source, used: Instant::now() });
        Some((id, evicted))
    }

    /// Finds a session, and marks it as used.
    pub fn find(&self, id: &str) -> Option<OpenSession> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        session.used = Instant::now();
        Some(session.open)
    }

    /// Closes a session and returns its client.
    pub fn close(&self, id: &str) -> Option<ClientId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id).map(|session| session.open.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_sessions_to_others() {
        let sessions = Sessions::default();
        let (client, revision) = (1, Revision::V2025_11_25);
        let fill = |source| {
            std::iter::repeat_with(|| sessions.open(client, revision, source))
                .take_while(Option::is_some)
                .count()
        };
        assert_eq!(fill(Source::address(1)), MAX_SESSIONS / 2);
        let (id, evicted) = sessions.open(client, revision, Source::address(2)).unwrap();
        assert_eq!((evicted, sessions.find(&id)), (None, Some(OpenSession { client, revision })));
        assert!(sessions.open(client, revision, Source::address(1)).is_none());
        assert_eq!(sessions.close(&id), Some(client));
    }
}
