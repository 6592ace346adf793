//! The state that all threads of an edge share. It must not know the order of the request pipeline.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use egress::CheckedResolver;
use inbound::{BodyBudget, ClientAddresses, Connections, Shares};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};

use super::permits::{InFlightPermit, StreamCounts};
use crate::approvals::Approvals;
use crate::audit::AuditLog;
use crate::collections::NoRoom;
use crate::config::limits::Limits;
use crate::config::published::PublishedNames;
use crate::error::Failure;
use crate::fleet::Fleet;
use crate::limits::LimitTable;
use crate::observe::{Bound, Metrics};
use crate::os::clock;
use crate::session::{
    EndedCalls, EndedSession, LogLevels, SessionId, Subscriptions, TerminatedSessions, UsedTickets,
};
use crate::snapshot::Current;
use crate::snapshot::client::Link;
use crate::transport::{ClientPort, OriginPolicy};
use crate::upstream::{Environment, Places, SessionCommand, SessionLosses};

/// Orders that may wait for one worker.
const WORKER_QUEUE: usize = 1_024;

/// The state that all threads of an edge share.
pub struct EdgeState {
    /// The parts that calls to upstreams use, too.
    pub environment: Arc<Environment>,
    /// The hosts and origins that requests may name.
    pub origin_policy: OriginPolicy,
    /// Sessions that were ended before they expired.
    pub terminated: Arc<TerminatedSessions>,
    /// The resources that legacy sessions are subscribed to.
    pub subscriptions: Subscriptions,
    /// Tickets that were used.
    pub used_tickets: UsedTickets,
    /// The log levels that legacy sessions have set.
    pub levels: LogLevels,
    /// Requests in flight, by token.
    pub in_flight: Shares,
    /// Open streams, by token.
    pub streams: Arc<StreamCounts>,
    /// What is left of the limits of tokens.
    pub limits: Arc<LimitTable>,
    /// Where approvals are asked for.
    pub approvals: Approvals,
    /// What is recorded of calls.
    pub audit: Arc<AuditLog>,
    /// What the client port takes.
    pub client_port: ClientPort,
    /// Open client connections.
    pub connections: Connections,
    /// Where their requests come from.
    pub client_addresses: Arc<ClientAddresses>,
    workers: Mutex<Vec<mpsc::Sender<SessionCommand>>>,
}

impl EdgeState {
    /// Creates the state of the edge that `fleet` names, which listens on `address` and connects to upstreams where
    /// `resolver` says.
    ///
    /// # Errors
    /// If the platform's trusted certificates cannot be had.
    pub fn new(
        current: Arc<Current>,
        limits: Limits,
        published: &PublishedNames,
        address: SocketAddr,
        metrics: Arc<Metrics>,
        fleet: Fleet,
        resolver: CheckedResolver,
    ) -> Result<Self, rustls::Error> {
        use rustls_platform_verifier::ConfigVerifierExt as _;
        let mut tls = ClientConfig::with_platform_verifier()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connections = limits.connections.connections();
        let balancers = limits.connections.balancer_addresses.clone();
        let client_addresses = Arc::new(ClientAddresses::new(limits.client_address, balancers));
        let environment = Environment {
            bodies: Arc::new(BodyBudget::new(limits.max_body_memory_bytes)),
            current,
            limits,
            metrics,
            fleet: Arc::new(fleet),
            tunnels: Arc::default(),
            exclusive_sessions: Arc::default(),
            session_losses: SessionLosses::default(),
            ended_calls: EndedCalls::default(),
            places: Places::default(),
            resolver,
            tls: Arc::new(tls),
        };
        Ok(Self {
            origin_policy: OriginPolicy::new(published, address),
            terminated: Arc::default(),
            subscriptions: Subscriptions::default(),
            used_tickets: UsedTickets::default(),
            levels: LogLevels::default(),
            in_flight: Shares::default(),
            streams: Arc::default(),
            limits: Arc::new(LimitTable::new(Arc::clone(&environment.metrics))),
            approvals: Approvals::new(watch::channel(None).1, Arc::clone(&environment.metrics)),
            audit: Arc::new(AuditLog::new(Arc::clone(&environment.metrics))),
            client_port: ClientPort::default(),
            connections,
            client_addresses,
            workers: Mutex::default(),
            environment: Arc::new(environment),
        })
    }

    /// Has the client port take this.
    pub fn with_client_port(self, client_port: ClientPort) -> Self {
        Self { client_port, ..self }
    }

    /// Has approvals asked for where `link` leads.
    pub fn with_control_plane(self, link: watch::Receiver<Option<Link>>) -> Self {
        let approvals = Approvals::new(link, Arc::clone(&self.environment.metrics));
        Self { approvals, ..self }
    }

    /// Admits one more request in flight, unless there are too many.
    pub fn in_flight_permit(&self) -> Result<InFlightPermit<'_>, Failure> {
        InFlightPermit::acquire(self)
    }

    /// Returns the failure of a request for which there is no room within this bound, and counts it.
    pub fn no_room(&self, of: Bound, no_room: NoRoom) -> Failure {
        let of_token = no_room == NoRoom::Share;
        if of_token {
            self.environment.metrics.shares_refused(of).inc();
        }
        Failure::TooMany { of, of_token }
    }

    /// Ends a session on this edge.
    pub fn end(&self, session_id: SessionId, ended: EndedSession) {
        self.terminated.terminate(session_id, ended, clock::now());
        self.subscriptions.end(&session_id);
        self.levels.end(&session_id);
    }

    /// Sends a command to every worker, each of which may have the call or session that it is about.
    pub fn send_to_workers(&self, command: &SessionCommand) {
        for worker in &*self.workers.lock().unwrap_or_else(PoisonError::into_inner) {
            if worker.try_send(command.clone()).is_err() {
                tracing::warn!("lost a message to a worker: its queue is full");
            }
        }
    }

    /// Registers a worker, and returns its queue of commands.
    pub(super) fn register_worker(&self) -> mpsc::Receiver<SessionCommand> {
        let (sender, receiver) = mpsc::channel(WORKER_QUEUE);
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| !worker.is_closed());
        workers.push(sender);
        receiver
    }
}
