//! Principals that presented a bearer, verified and admitted on the snapshot in force: when they come, and again whenever
//! rights may have ended meanwhile, over every transport.
//!
//! It must not know what is asked for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::worker::{WorkerState, asked};
use crate::audit::Asked;
use crate::error::Failure;
use crate::identity::{self, Presented, Principal};
use crate::policy::{self, Caller, Denied, Facts};
use crate::snapshot::Snapshot;

/// A principal whose bearer was verified on the snapshot that was in force, and is kept here.
pub struct Authenticated {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    principal: Arc<Principal>,
    facts: Facts,
}

impl Authenticated {
    /// Verifies what a client at `address`, if that is known, presented, on the snapshot in force and now.
    ///
    /// # Errors
    /// If there is nothing, it is not valid, or no bearer is believed.
    pub fn now(
        worker: &WorkerState,
        presented: Presented<'_>,
        address: Option<IpAddr>,
    ) -> Result<Self, Failure> {
        let (current, now) = (&worker.shared.environment.current, worker.now());
        if !current.is_trust_fresh(now) {
            return Err(Failure::TrustStale);
        }
        let snapshot = current.load_full();
        let principal = match presented {
            Presented { bearer: None, certificate: Some(certificate) } => {
                identity::principal_of(&snapshot, certificate)?
            }
            Presented { bearer, .. } => worker.bearers.authenticate(&snapshot.trust, bearer)?,
        };
        Ok(Self { snapshot, principal, facts: Facts { address, now } })
    }

    /// The principal.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Admits it to the server with this id.
    ///
    /// # Errors
    /// If its rights are not in force, or do not allow the server.
    pub fn admit(&self, worker: &WorkerState, server: &str) -> Result<Caller<'_>, Failure> {
        policy::admit(&self.snapshot, &self.principal, server, self.facts)
            .map_err(|denied| self.refused(worker, server, denied).of_server())
    }

    /// Works out what it may see of the server with this id, which `admit` said takes a while.
    pub async fn prepare(&self, server: &str) {
        policy::prepare(&self.snapshot, &self.principal, server, self.facts).await;
    }

    /// Admits it again, to the server that had this id and uid when it was admitted first.
    ///
    /// # Errors
    /// If its rights are no longer in force, or do not allow the same server.
    pub fn admit_again(&self, worker: &WorkerState, server: [&str; 2]) -> Result<Caller<'_>, Failure> {
        policy::admit_again(&self.snapshot, &self.principal, server, self.facts)
            .map_err(|denied| self.refused(worker, server[0], denied).of_server())
    }

    /// Records that it was not admitted.
    fn refused(&self, worker: &WorkerState, server: &str, denied: Denied) -> Denied {
        // Who is refused whatever the server is may have made its name up.
        let server = if self.snapshot.servers.views(server).is_some() { server } else { "" };
        let asked = Asked { server, ..asked(&self.principal, self.facts, &self.snapshot) };
        worker.record_refusal(asked, &denied);
        denied
    }

    /// The time that its rights have left, if they expire.
    pub fn remaining(&self) -> Option<Duration> {
        policy::remaining(&self.snapshot, &self.principal, self.facts.now)
    }
}
