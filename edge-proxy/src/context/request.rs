//! The state of one request from the point where the caller is known. It must not know what the request asks for.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use mcp::json;
use mcp::method::Method;

use super::authenticated::Authenticated;
use super::permits::StreamPermit;
use super::worker::{WorkerState, asked};
use crate::audit::Asked;
use crate::error::Failure;
use crate::identity::{Presented, Principal};
use crate::limits::{Charge, Counted, LimitsLeft};
use crate::policy::{self, Caller, Denied, Permit};
use crate::route::NamedTarget;
use crate::session::{ConnectionSession, HandleOwner};
use crate::snapshot::{Server, Snapshot, View};
use crate::usage::Account;

/// The state of one request from the point where the caller is known.
pub struct RequestContext<'a> {
    /// The worker that serves it.
    pub worker: &'a Rc<WorkerState>,
    /// The snapshot that it is served from, whatever is published meanwhile.
    pub snapshot: &'a Arc<Snapshot>,
    /// The caller, at the server that the request is for.
    pub caller: Caller<'a>,
    /// What the caller presented.
    pub presented: Presented<'a>,
    /// The transport that it arrived by.
    pub arrival: Arrival<'a>,
    /// The time of its arrival.
    pub started: Instant,
    /// What is left of the limits that it was counted in, for a transport that tells it.
    pub limits_left: &'a RefCell<LimitsLeft>,
}

/// The transport that a message arrived by.
#[derive(Clone, Copy)]
pub enum Arrival<'a> {
    /// A request of its own, whose headers name the conversation.
    Request(&'a HeaderMap),
    /// A connection on which both sides speak, whose session is the conversation.
    Connection(&'a ConnectionSession),
}

impl<'a> RequestContext<'a> {
    /// Returns whether the snapshot is still the one in force, and the time the same second.
    pub fn is_current(&self) -> bool {
        let current = &self.worker.shared.environment.current;
        self.worker.now() == self.now() && Arc::ptr_eq(self.snapshot, &current.load())
    }

    /// Verifies what the caller presented again, on the snapshot in force and now.
    pub fn authenticate_again(&self) -> Result<Authenticated, Failure> {
        Authenticated::now(self.worker, self.presented, self.caller.facts().address)
    }

    /// Admits the caller again, for what is left of the request.
    pub fn admitted_again<'b>(&self, again: &'b Authenticated) -> Result<RequestContext<'b>, Failure>
    where
        'a: 'b,
    {
        let server = self.server();
        Ok(RequestContext {
            worker: self.worker,
            snapshot: &again.snapshot,
            caller: again.admit_again(self.worker, [&server.id, &server.uid])?,
            presented: self.presented,
            arrival: self.arrival,
            started: self.started,
            limits_left: self.limits_left,
        })
    }

    /// The headers of the request; none where the transport has none.
    pub fn headers(&self) -> Option<&'a HeaderMap> {
        match self.arrival {
            Arrival::Request(headers) => Some(headers),
            Arrival::Connection(_) => None,
        }
    }

    /// The principal and server that sealed handles are bound to.
    pub fn owner(&self) -> HandleOwner<'a> {
        HandleOwner { server: &self.server().uid, principal: &self.principal().uid }
    }

    /// The principal that makes the request.
    pub fn principal(&self) -> &'a Arc<Principal> {
        self.caller.principal()
    }

    /// The part of the server that the caller sees.
    pub fn view(&self) -> &'a Arc<View> {
        self.caller.view()
    }

    /// The server that the request is for.
    pub fn server(&self) -> &'a Arc<Server> {
        &self.view().server
    }

    /// The time of its arrival, in seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.caller.facts().now
    }

    /// Admits one more stream of the principal, unless it holds too many. On a connection there is nothing to admit,
    /// because the connection has a permit already.
    pub fn stream_permit(&self) -> Result<Option<StreamPermit>, Failure> {
        match self.arrival {
            Arrival::Request(_) => {
                let permit = self.worker.stream_permit(&self.principal().uid);
                permit.map(Some).ok_or(Failure::TooManyStreams)
            }
            Arrival::Connection(_) => Ok(None),
        }
    }

    /// Admits one more connection on which both sides speak, unless the principal holds too many, or the edge is stopping.
    pub fn connection_permit(&self) -> Result<StreamPermit, Failure> {
        if self.worker.is_draining() {
            return Err(Failure::Draining);
        }
        self.worker.stream_permit(&self.principal().uid).ok_or(Failure::TooManyStreams)
    }

    /// Records that policy refuses a method, whatever it is about. Returns the refusal.
    pub fn refused_method(&self, method: &str, denied: Denied) -> Denied {
        self.worker.record_refusal(self.asked(method, ""), &denied);
        denied
    }

    /// Records that policy refuses something of the server. Returns the refusal, as the caller may know it.
    pub fn refused(&self, method: &str, named: &NamedTarget<'_>, denied: Denied) -> Denied {
        let recorded = policy::recorded(&self.caller, named, &denied);
        // A URI that no template produces is a name of the client's own.
        let target = if matches!(denied, Denied::NotCanonical(_)) { "" } else { &*named.exposed };
        self.worker.record_refusal(self.asked(method, target), &recorded);
        denied
    }

    /// Records that a call is not made because it is not approved, or cannot be.
    pub fn unapproved(&self, target: &str, rule: &str, reason: &'static str) {
        let asked = Asked { rule, ..self.asked(Method::ToolsCall.as_str(), target) };
        self.worker.shared.audit.refuse(&asked, reason);
    }

    /// Returns whether a call that is let in is recorded.
    ///
    /// # Errors
    /// If there is no room for what is recorded, and no call is to be let in without.
    pub fn is_audited(&self) -> Result<bool, Failure> {
        let audit = &self.worker.shared.audit;
        if !audit.looks_at_calls() {
            return Ok(false);
        }
        if audit.is_closed() { Err(Failure::AuditUnavailable) } else { Ok(audit.is_recording_calls()) }
    }

    /// Records a call that is let in, by an approval if that was needed.
    #[cold]
    pub fn record_call(&self, method: &str, permit: &Permit, arguments: Option<&str>, approval: &str) {
        self.worker.shared.audit.call(&self.asked(method, permit.exposed()), arguments, approval);
    }

    fn asked<'b>(&'b self, method: &'b str, target: &'b str) -> Asked<'b> {
        let server = &self.server().id;
        Asked { server, method, target, ..asked(self.principal(), self.caller.facts(), self.snapshot) }
    }

    /// Takes one call from the limits of the principal, if it has any.
    ///
    /// # Errors
    /// If one of them is used up.
    pub fn charge(&self, permit: &Permit) -> Result<Option<Charge>, Failure> {
        let limits = self.caller.limits();
        if limits.is_empty() {
            return Ok(None);
        }
        let (token, server, target) = (&*self.principal().uid, &*self.server().id, &*permit.entry().exposed);
        let charge = self.worker.limits.charge(Counted { token, server, target }, limits);
        let charge = charge.inspect_err(|failure| {
            if let Failure::Limit { what, .. } = failure {
                let asked = self.asked(permit.method().as_str(), target);
                self.worker.shared.audit.refuse(&asked, what.as_str());
            }
        })?;
        *self.limits_left.borrow_mut() = charge.left();
        Ok(Some(charge))
    }

    /// Opens an account for one call.
    pub fn account(&self, method: &'static str, request_bytes: usize) -> Account {
        Account::open(
            &self.worker.usage,
            self.server(),
            self.principal(),
            method,
            (self.started, self.caller.facts().address),
            request_bytes,
        )
    }

    /// The server's `serverInfo`, a JSON object.
    pub fn server_info(&self) -> String {
        let server = self.server();
        let title = if server.title.is_empty() {
            String::new()
        } else {
            format!(r#""title":{},"#, json::quote(&server.title))
        };
        format!(r#"{{"name":{},{title}"version":"{}"}}"#, json::quote(&server.id), env!("CARGO_PKG_VERSION"))
    }
}
