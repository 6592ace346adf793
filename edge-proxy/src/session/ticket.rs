//! Tickets: with what a browser opens a WebSocket, where it cannot send `Authorization`. A sealed bearer, good for one
//! server, a minute and one use.
//!
//! It must not know sockets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;

/// How long a ticket is good for, in seconds.
pub const LIFETIME: u64 = 60;
/// Used tickets that are remembered.
const MAX_SPENT: usize = 65_536;

/// What a ticket was made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The bearer that it stands for.
    pub bearer: String,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// Names it among all.
    pub(super) number: [u8; 16],
}

impl Ticket {
    /// A new ticket for a bearer.
    pub fn new(bearer: &str, now: u64) -> Self {
        Self {
            bearer: bearer.to_owned(),
            expires: now.saturating_add(LIFETIME),
            number: *uuid::Uuid::new_v4().as_bytes(),
        }
    }

    /// The ticket as a client is given it, for the server with this id and uid.
    pub fn seal(&self, trust: &Trust, server: &str, uid: &str) -> Result<String, SealError> {
        let content = seal::join([&self.number, &self.expires.to_be_bytes(), self.bearer.as_bytes()]);
        seal::seal(trust, binding(uid, &[server]), &content)
    }

    /// The ticket that a client brought to that server, unless it is too old.
    pub fn open(trust: &Trust, server: &str, uid: &str, text: &str, now: u64) -> Option<Self> {
        let content = seal::open(trust, binding(uid, &[server]), text)?;
        let [number, expires, bearer] = seal::split(&content)?;
        let ticket = Self {
            bearer: String::from_utf8(bearer.to_vec()).ok()?,
            expires: u64::from_be_bytes(expires.try_into().ok()?),
            number: number.try_into().ok()?,
        };
        (now < ticket.expires).then_some(ticket)
    }
}

/// Which token it is for is known only once it is open: the bearer in it says so.
fn binding<'a>(uid: &'a str, about: &'a [&'a str]) -> Binding<'a> {
    Binding { purpose: Purpose::Ticket, server: uid, token: "", about }
}

/// Tickets that were used on any edge and have not ended yet.
#[derive(Debug, Default)]
pub struct Spent(Mutex<HashMap<[u8; 16], u64>>);

impl Spent {
    /// Uses a ticket. False where it was used before, or so many were that nobody can say.
    pub fn spend(&self, ticket: &Ticket, now: u64) -> bool {
        self.used(ticket.number, ticket.expires, now)
    }

    /// Notes that the ticket of this number was used, wherever. False as for `spend`.
    pub fn used(&self, number: [u8; 16], expires: u64, now: u64) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MAX_SPENT {
            spent.retain(|_, expires| *expires > now);
            if spent.len() >= MAX_SPENT {
                return false;
            }
        }
        spent.insert(number, expires).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    #[test]
    fn a_ticket_opens_for_its_server_until_it_ends() {
        let trust = trust(&[1]);
        let ticket = Ticket::new("b", 100);
        let text = ticket.seal(&trust, "dev", "s-dev").unwrap();
        assert_eq!(Ticket::open(&trust, "dev", "s-dev", &text, 159).as_ref(), Some(&ticket));
        assert_eq!(Ticket::open(&trust, "dev", "s-dev", &text, 160), None);
        assert_eq!(Ticket::open(&trust, "dev", "s-new", &text, 100), None);
        assert_eq!(Ticket::open(&trust, "ved", "s-dev", &text, 100), None);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
    }

    #[test]
    fn a_ticket_is_used_once_and_what_is_remembered_stays_bounded() {
        let spent = Spent::default();
        let ticket = Ticket::new("b", 0);
        assert!(spent.spend(&ticket, 0));
        assert!(!spent.spend(&ticket, 0));
        for _ in 1..MAX_SPENT {
            assert!(spent.spend(&Ticket::new("b", 0), 0));
        }
        assert!(!spent.spend(&Ticket::new("b", 0), 0));
        assert!(spent.spend(&Ticket::new("b", LIFETIME), LIFETIME));
        assert_eq!(spent.0.lock().unwrap().len(), 1);
    }
}
