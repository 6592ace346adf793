//! The account of one call, which counts it once, however it ends. It must not know what a call is.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::{CallRecord, Outcome, Shard};
use crate::identity::Principal;
use crate::snapshot::{Entry, Server};

/// A call in progress. Dropping it counts it.
pub struct Account {
    usage: Rc<Shard>,
    server: Arc<Server>,
    principal: Arc<Principal>,
    method: &'static str,
    entry: Option<Arc<Entry>>,
    /// Where the client is, if that is known.
    address: Option<IpAddr>,
    started: Instant,
    request_bytes: u64,
    /// Bytes of the answer so far.
    pub response_bytes: u64,
    /// The outcome; `Cancelled` until another is set, because a client that goes away sets none.
    pub outcome: Outcome,
}

impl Account {
    /// Opens the account of a call that came at this time and from this address.
    pub fn open(
        usage: &Rc<Shard>,
        server: &Arc<Server>,
        principal: &Arc<Principal>,
        method: &'static str,
        (started, address): (Instant, Option<IpAddr>),
        request_bytes: usize,
    ) -> Self {
        Self {
            usage: Rc::clone(usage),
            server: Arc::clone(server),
            principal: Arc::clone(principal),
            method,
            entry: None,
            address,
            started,
            request_bytes: request_bytes as u64,
            response_bytes: 0,
            outcome: Outcome::Cancelled,
        }
    }

    /// Sets the entry that the call led to.
    pub fn leads_to(&mut self, entry: &Arc<Entry>) {
        self.entry = Some(Arc::clone(entry));
    }

    /// Sets the outcome, and adds the bytes of the answer.
    pub fn ended(&mut self, outcome: Outcome, response_bytes: usize) {
        self.outcome = outcome;
        self.response_bytes += response_bytes as u64;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.usage.record(CallRecord {
            server: &self.server.name,
            token: &self.principal.name,
            method: self.method,
            target: self.entry.as_ref().map_or("", |entry| &entry.target),
            outcome: self.outcome,
            duration: self.started.elapsed(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            address: self.address,
        });
    }
}
