//! Tickets for browsers, which cannot send `Authorization` when they open a WebSocket: a sealed bearer, good for one
//! server, a minute and one use.
//!
//! It must not know sockets.

use std::sync::{Mutex, PoisonError};

use inbound::Holder;

use super::seal::{self, HandleBinding, Purpose, SealError};
use crate::collections::{NoRoom, SharedMap};
use crate::snapshot::Trust;

/// The lifetime of a ticket, in seconds.
pub const LIFETIME: u64 = 60;
/// Used tickets that are kept.
const MAX_SPENT: usize = 65_536;

/// The content of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The bearer that it stands for.
    pub bearer: String,
    /// The time of its end, in seconds since the Unix epoch.
    pub expires: u64,
    /// The number that is unique among all tickets.
    pub(super) number: [u8; 16],
}

impl Ticket {
    /// Creates a ticket for a bearer.
    pub fn new(bearer: &str, now: u64) -> Self {
        Self {
            bearer: bearer.to_owned(),
            expires: now.saturating_add(LIFETIME),
            number: *uuid::Uuid::new_v4().as_bytes(),
        }
    }

    /// Seals the ticket for the server with this id and uid.
    pub fn seal(&self, trust: &Trust, server: &str, uid: &str) -> Result<String, SealError> {
        let content = seal::join([&self.number, &self.expires.to_be_bytes(), self.bearer.as_bytes()]);
        seal::seal(trust, binding(uid, &[server]), &content)
    }

    /// Opens a ticket for that server, unless it has expired.
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

/// The token is known only once the ticket is open, from the bearer in it.
fn binding<'a>(uid: &'a str, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::Ticket, server: uid, principal: "", about }
}

/// Tickets that were used at any edge and have not expired yet.
#[derive(Debug)]
pub struct UsedTickets(Mutex<SharedMap<[u8; 16], u64>>);

impl Default for UsedTickets {
    fn default() -> Self {
        Self(Mutex::new(SharedMap::new(MAX_SPENT)))
    }
}

impl UsedTickets {
    /// Uses a ticket of the principal with this uid. Returns false if it was used before.
    ///
    /// # Errors
    /// If there is no room to note that it is.
    pub fn spend(&self, ticket: &Ticket, principal: &str, now: u64) -> Result<bool, NoRoom> {
        self.used(ticket.number, principal, ticket.expires, now)
    }

    /// Notes that the ticket of this number was used at some edge. Returns as `spend` does.
    ///
    /// # Errors
    /// If there is no room.
    pub fn used(&self, number: [u8; 16], principal: &str, expires: u64, now: u64) -> Result<bool, NoRoom> {
        let mut used_tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used_tickets.get(&number).is_some() {
            return Ok(false);
        }
        let is_of_use = |expires: &u64| *expires > now;
        used_tickets
            .get_or_insert_with(number, Holder::of(principal), now, is_of_use, || expires)
            .map(|_| true)
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
        let used_tickets = UsedTickets::default();
        let ticket = Ticket::new("b", 0);
        assert_eq!(used_tickets.spend(&ticket, "first", 0), Ok(true));
        assert_eq!(used_tickets.spend(&ticket, "first", 0), Ok(false));
        for _ in 1..MAX_SPENT / 2 {
            assert_eq!(used_tickets.spend(&Ticket::new("b", 0), "first", 0), Ok(true));
        }
        assert_eq!(used_tickets.spend(&Ticket::new("b", 0), "first", 0), Err(NoRoom::Share));
        let other = |name: &&String| Holder::of(name.as_str()) != Holder::of("first");
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let other = names.iter().find(other).unwrap();
        assert_eq!(used_tickets.spend(&Ticket::new("b", 0), other, 0), Ok(true), "others use theirs");
        let later = Ticket::new("b", LIFETIME);
        assert_eq!(used_tickets.spend(&later, "first", LIFETIME), Ok(true));
        assert_eq!(used_tickets.0.lock().unwrap().iter().count(), 1);
    }
}
