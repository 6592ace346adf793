//! What every stage of one request sees once the caller is known. It must not know what the request asks for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use mcp::json;

use crate::account::Account;
use crate::session::{ConnectionSession, Owner};
use crate::snapshot::{Snapshot, Token, View};
use crate::worker::Worker;

/// What every stage of one request sees.
pub struct Scene<'a> {
    /// The worker that serves it.
    pub worker: &'a Rc<Worker>,
    /// The snapshot that it is served from, whatever is published meanwhile.
    pub snapshot: &'a Arc<Snapshot>,
    /// Who is calling.
    pub token: &'a Arc<Token>,
    /// What the caller sees of the server.
    pub view: &'a Arc<View>,
    /// How it came.
    pub came: Came<'a>,
    /// When it came.
    pub started: Instant,
    /// The same, in seconds since the Unix epoch.
    pub now: u64,
}

/// How a message came.
#[derive(Clone, Copy)]
pub enum Came<'a> {
    /// By itself, with headers that say where it belongs.
    Alone(&'a HeaderMap),
    /// On a connection, and it belongs to the conversation that is held there.
    On(&'a ConnectionSession),
}

impl<'a> Scene<'a> {
    /// The headers it came with; none where the transport has none.
    pub fn headers(&self) -> Option<&'a HeaderMap> {
        match self.came {
            Came::Alone(headers) => Some(headers),
            Came::On(_) => None,
        }
    }

    /// Whom handles are sealed for.
    pub fn owner(&self) -> Owner<'a> {
        Owner { server: &self.view.server.uid, token: &self.token.uid }
    }

    /// An account for one call.
    pub fn account(&self, method: &'static str, request_bytes: usize) -> Account {
        Account::open(&self.worker.usage, &self.view.server, self.token, method, self.started, request_bytes)
    }

    /// How the server introduces itself: a JSON object.
    pub fn server_info(&self) -> String {
        let server = &self.view.server;
        let title = if server.title.is_empty() {
            String::new()
        } else {
            format!(r#""title":{},"#, json::quote(&server.title))
        };
        format!(r#"{{"name":{},{title}"version":"{}"}}"#, json::quote(&server.id), env!("CARGO_PKG_VERSION"))
    }
}
