//! Records what changes nothing: refusals and sign-ins that failed. It keeps nobody waiting, and nobody can fill the disk by being
//! refused: what is alike is one record a minute, and what is ever different is told together past a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inbound::{Coalescer, Recurring};
use tokio::sync::Notify;
use trunkline::admin::v1::{AuditKind, AuditRecord};

use crate::clock;
use crate::store::audit::Author;
use crate::store::{Store, StoreError};

/// How long events that are alike are one record.
const WINDOW_US: i64 = 60_000_000;
/// Refusals of principals that are told apart within a minute.
const MOST_REFUSALS: usize = 500;
/// Refusals of one principal that are told apart within a minute, or of one address that nobody is known of.
const MOST_REFUSALS_OF_ONE: usize = 20;
/// Failed sign-ins that are told apart within a minute: anybody can cause them.
const MOST_SIGN_INS: usize = 20;
/// Failed sign-ins of one address that are told apart within a minute.
const MOST_SIGN_INS_OF_ONE: usize = 5;
/// Records that wait to be written.
const MOST_WAITING: usize = 4_096;
/// Records that are written at once.
const BATCH: usize = 500;
/// The interval at which windows are looked at.
const TICK: Duration = Duration::from_secs(1);
/// What counts as one where there are too many kinds.
const OTHER: &str = "other";

/// Something that somebody was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incident {
    kind: i32,
    actor: String,
    actor_uid: String,
    through: String,
    address: String,
    action: String,
    resource: String,
    reason: String,
}

impl Incident {
    /// What the author of a call was refused.
    pub fn refusal(author: &Author, resource: &str, reason: &str) -> Self {
        Self::new(AuditKind::Refusal, author, resource, reason)
    }

    /// A sign-in that failed. `who`: whose it would have been, as they say.
    pub fn sign_in(author: &Author, who: &str, reason: &str) -> Self {
        Self::new(AuditKind::SignIn, author, who, reason)
    }

    fn new(kind: AuditKind, author: &Author, resource: &str, reason: &str) -> Self {
        Self {
            kind: kind.into(),
            actor: author.actor.clone(),
            actor_uid: author.actor_uid.clone(),
            through: author.through.clone(),
            address: author.address.clone(),
            action: author.action.clone(),
            resource: resource.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn record(self, count: u64, time_us: i64) -> AuditRecord {
        AuditRecord {
            time: Some(clock::timestamp(time_us)),
            kind: self.kind,
            actor: self.actor,
            actor_uid: self.actor_uid,
            through: self.through,
            address: self.address,
            action: self.action,
            resource: self.resource,
            reason: self.reason,
            count: i64::try_from(count).unwrap_or(i64::MAX),
            ..AuditRecord::default()
        }
    }
}

impl Recurring for Incident {
    /// Who was refused; where that is not known, from where.
    type Actor = (String, String);

    fn actor(&self) -> (String, String) {
        let address = if self.actor.is_empty() { self.address.clone() } else { String::new() };
        (self.actor.clone(), address)
    }

    fn of_many(&self) -> Self {
        let (actor, address) = self.actor();
        Self { actor, address, actor_uid: self.actor_uid.clone(), ..self.other() }
    }

    fn other(&self) -> Self {
        let other = OTHER.to_owned();
        Self {
            kind: self.kind,
            actor: String::new(),
            actor_uid: String::new(),
            through: String::new(),
            address: String::new(),
            action: other.clone(),
            resource: other.clone(),
            reason: other,
        }
    }
}

/// Records what changes nothing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditRecorder {
    store: Store,
    pending: Arc<Mutex<Noted>>,
    wake: Arc<Notify>,
    /// One batch at a time, so that records stay in their order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Noted {
    refusals: Coalescer<Incident>,
    sign_ins: Coalescer<Incident>,
    waiting: VecDeque<AuditRecord>,
}

impl AuditRecorder {
    /// Records into this database.
    pub fn new(store: Store) -> Self {
        let pending = Noted {
            refusals: Coalescer::new(MOST_REFUSALS, MOST_REFUSALS_OF_ONE, WINDOW_US),
            sign_ins: Coalescer::new(MOST_SIGN_INS, MOST_SIGN_INS_OF_ONE, WINDOW_US),
            waiting: VecDeque::new(),
        };
        Self { store, pending: Arc::new(Mutex::new(pending)), wake: Arc::default(), turn: Arc::default() }
    }

    /// Notes what somebody was refused.
    pub fn note(&self, incident: Incident) {
        let now_us = clock::now_us();
        let mut pending = self.lock();
        let events = match incident.kind == i32::from(AuditKind::SignIn) {
            true => &mut pending.sign_ins,
            false => &mut pending.refusals,
        };
        if let Some(first) = events.note(incident, now_us) {
            self.wait(&mut pending, first.record(1, now_us));
            self.wake.notify_one();
        }
    }

    /// Writes what is noted, for ever.
    pub async fn run(self) {
        loop {
            // Apart from this task, which ends with the program: what is under way then is written to its end.
            let this = self.clone();
            let _ = tokio::spawn(async move { this.write(false).await }).await;
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Writes what is to be told by now; `all`: all that was noted.
    pub async fn write(&self, all: bool) {
        let _turn = self.turn.lock().await;
        self.close_windows(all);
        loop {
            let batch: Vec<_> = self.lock().waiting.iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return;
            }
            let count = batch.len();
            match self.store.append_audit(batch).await {
                Ok(()) => drop(self.lock().waiting.drain(..count)),
                Err(error) => return self.give_up(&error, all),
            }
        }
    }

    fn close_windows(&self, all: bool) {
        let now_us = clock::now_us();
        let mut pending = self.lock();
        let mut repeated = pending.refusals.take(now_us, all);
        repeated.extend(pending.sign_ins.take(now_us, all));
        for repeated in repeated {
            self.wait(&mut pending, repeated.key.record(repeated.count, repeated.last_us));
        }
    }

    fn wait(&self, pending: &mut Noted, record: AuditRecord) {
        if pending.waiting.len() < MOST_WAITING {
            pending.waiting.push_back(record);
        } else {
            self.store.audit_health().count_dropped(1, &"too many records wait to be written");
        }
    }

    /// What cannot be written waits, until there is too much of it or no more time.
    fn give_up(&self, error: &StoreError, all: bool) {
        if !all {
            tracing::debug!(%error, "cannot write the audit log; retrying");
            return;
        }
        let lost = std::mem::take(&mut self.lock().waiting).len();
        self.store.audit_health().count_dropped(u64::try_from(lost).unwrap_or(u64::MAX), error);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(who: (&str, &str), what: &str) -> Incident {
        let (actor, address) = (who.0.to_owned(), who.1.to_owned());
        Incident::refusal(&Author { actor, address, ..Author::default() }, what, "PERMISSION_DENIED")
    }

    /// Whoever is refused ever something else hides nobody's refusals but their own, be it known who they are or not.
    #[test]
    fn one_caller_hides_nothing_of_others() {
        let mut refusals = Coalescer::new(MOST_REFUSALS, MOST_REFUSALS_OF_ONE, WINDOW_US);
        for who in [("users/ann@example.org", "192.0.2.1"), ("", "192.0.2.2")] {
            let told = (0..2 * MOST_REFUSALS)
                .filter_map(|number| refusals.note(refused(who, &format!("servers/{number}")), 0));
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), MOST_REFUSALS_OF_ONE + 1, "{who:?}");
            let last = told.last().unwrap();
            assert_eq!((&*last.actor, &*last.resource), (who.0, OTHER));
            assert_eq!(
                last.address.is_empty(),
                !who.0.is_empty(),
                "of whom nobody knows who they are: from where"
            );
        }
        for who in [("users/bob@example.org", "192.0.2.1"), ("", "192.0.2.3")] {
            let told = refusals.note(refused(who, "servers/dev"), 0).unwrap();
            assert_eq!((&*told.actor, &*told.address, &*told.resource), (who.0, who.1, "servers/dev"));
        }
    }
}
