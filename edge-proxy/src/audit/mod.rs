//! What is recorded of calls: what policy refuses, and calls that are let in where that is asked for. It goes to a control plane, in whose
//! chain it is kept; until then it is here, bounded.
//!
//! It must not know requests, nor what decides about them.

mod reporter;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use inbound::{Coalescer, Recurring, Repeated};
use trunkline::admin::v1::{AuditKind, AuditRecord};

pub use reporter::AuditReporter;

use crate::observe::Metrics;
use crate::os::clock;

/// Records that wait for a control plane.
const MOST_WAITING: usize = 10_000;
/// How long refusals that are alike are one record.
const WINDOW_US: i64 = 60_000_000;
/// Refusals that are told apart within a minute.
const MOST_REFUSALS: usize = 1_000;
/// Refusals of one principal that are told apart within a minute: nobody hides those of others, or fills the log.
const MOST_REFUSALS_OF_ONE: usize = 20;
/// Longest name of what was asked for, in bytes.
const MAX_RESOURCE: usize = 1_024;
/// What counts as one where there are too many kinds.
const OTHER: &str = "other";

/// Something that a caller asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name and uid of the principal.
    pub principal: (&'a str, &'a str),
    /// Where the client is, if that is known.
    pub address: Option<IpAddr>,
    /// The id of the server. Empty: there is none of the name that was asked for.
    pub server: &'a str,
    /// The method. Empty: any.
    pub method: &'a str,
    /// What was asked of the server, as the client named it. Empty: nothing.
    pub target: &'a str,
    /// The rule that refused it. Empty: none.
    pub rule: &'a str,
    /// The revision by which it was decided.
    pub revision: i64,
}

/// A refusal, as those that are alike have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RefusedCall {
    actor: Box<str>,
    actor_uid: Box<str>,
    address: Option<IpAddr>,
    method: Box<str>,
    resource: Box<str>,
    reason: &'static str,
    rule: Box<str>,
    revision: i64,
}

/// What is recorded here, and not at a control plane yet.
#[derive(Debug)]
pub struct AuditLog {
    /// Whether calls that are let in are looked at for any reason: all that most calls cost.
    looks_at_calls: AtomicBool,
    records_calls: AtomicBool,
    fails_closed: AtomicBool,
    /// The records that wait, so that who asks for it takes no lock.
    waiting: AtomicUsize,
    pending: Mutex<Unshipped>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Unshipped {
    refusals: Coalescer<RefusedCall>,
    waiting: VecDeque<AuditRecord>,
    /// Records for which there was no room, and that no record tells yet.
    lost: u64,
}

impl AuditLog {
    /// Records refusals alone, and lets calls in whatever becomes of its records.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let refusals = Coalescer::new(MOST_REFUSALS, MOST_REFUSALS_OF_ONE, WINDOW_US);
        Self {
            looks_at_calls: AtomicBool::new(false),
            records_calls: AtomicBool::new(false),
            fails_closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            pending: Mutex::new(Unshipped { refusals, waiting: VecDeque::new(), lost: 0 }),
            metrics,
        }
    }

    /// Records calls too, with the digest of their arguments.
    pub fn record_calls(&self) {
        self.records_calls.store(true, Ordering::Relaxed);
        self.looks_at_calls.store(true, Ordering::Relaxed);
    }

    /// Lets no call in while there is no room for what is recorded of it.
    pub fn fail_closed(&self) {
        self.fails_closed.store(true, Ordering::Relaxed);
        self.looks_at_calls.store(true, Ordering::Relaxed);
    }

    /// Whether calls that are let in matter at all.
    pub fn looks_at_calls(&self) -> bool {
        self.looks_at_calls.load(Ordering::Relaxed)
    }

    /// Whether calls are recorded.
    pub fn is_recording_calls(&self) -> bool {
        self.records_calls.load(Ordering::Relaxed)
    }

    /// Whether no call is to be let in.
    pub fn is_closed(&self) -> bool {
        self.fails_closed.load(Ordering::Relaxed) && self.waiting.load(Ordering::Relaxed) >= MOST_WAITING
    }

    /// Records that something was refused.
    pub fn refuse(&self, asked: &Asked<'_>, reason: &'static str) {
        let now_us = now_us();
        let refusal = RefusedCall::of(asked, reason);
        let mut pending = self.lock();
        if let Some(first) = pending.refusals.note(refusal, now_us) {
            self.wait(&mut pending, first.record(1, now_us));
        }
    }

    /// Records that a call was let in, with the digest of its arguments, and the approval that was used up for it, if any.
    pub fn call(&self, asked: &Asked<'_>, arguments: Option<&str>, approval: &str) {
        let mut record = RefusedCall::of(asked, "").record(1, now_us());
        record.kind = AuditKind::Call.into();
        record.approval = approval.to_owned();
        record.arguments_sha256 =
            arguments.map(|text| digest(&SHA256, text.as_bytes()).as_ref().to_vec()).unwrap_or_default();
        self.wait(&mut self.lock(), record);
    }

    /// Takes so many records that wait, the oldest first; `all`: what is repeated is told now.
    pub fn take(&self, most: usize, all: bool) -> Vec<AuditRecord> {
        let mut pending = self.lock();
        for Repeated { key, count, last_us } in pending.refusals.take(now_us(), all) {
            self.wait(&mut pending, key.record(count, last_us));
        }
        let lost = std::mem::take(&mut pending.lost);
        let mut taken = Vec::with_capacity(most.min(pending.waiting.len() + 1));
        if lost > 0 {
            taken.push(missing(lost));
        }
        let rest = (most - taken.len()).min(pending.waiting.len());
        taken.extend(pending.waiting.drain(..rest));
        self.waiting.store(pending.waiting.len(), Ordering::Relaxed);
        taken
    }

    /// Counts records that will never be at a control plane. A later record tells it.
    pub fn lose(&self, records: u64) {
        self.metrics.audit_dropped.add(records);
        self.lock().lost += records;
    }

    fn wait(&self, pending: &mut Unshipped, record: AuditRecord) {
        if pending.waiting.len() >= MOST_WAITING {
            pending.lost += 1;
            self.metrics.audit_dropped.add(1);
            return;
        }
        pending.waiting.push_back(record);
        self.waiting.store(pending.waiting.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Unshipped> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recurring for RefusedCall {
    type Actor = Box<str>;

    fn actor(&self) -> Box<str> {
        self.actor.clone()
    }

    fn of_many(&self) -> Self {
        let Self { actor, actor_uid, .. } = self.clone();
        Self { actor, actor_uid, ..self.other() }
    }

    fn other(&self) -> Self {
        Self {
            actor: OTHER.into(),
            actor_uid: "".into(),
            address: None,
            method: OTHER.into(),
            resource: OTHER.into(),
            reason: OTHER,
            rule: "".into(),
            revision: self.revision,
        }
    }
}

impl RefusedCall {
    fn of(asked: &Asked<'_>, reason: &'static str) -> Self {
        let (actor, actor_uid) = asked.principal;
        let server = asked.server;
        let resource = match (server, asked.target) {
            ("", _) => String::new(),
            (_, "") => format!("servers/{server}"),
            (_, target) => format!("servers/{server}/{target}"),
        };
        // Control planes set aside what has such characters, and clients may ask for what they like.
        let mut resource: String = resource.chars().filter(|letter| !letter.is_control()).collect();
        resource.truncate(resource.floor_char_boundary(MAX_RESOURCE));
        Self {
            actor: actor.into(),
            actor_uid: actor_uid.into(),
            address: asked.address,
            method: asked.method.into(),
            resource: resource.into(),
            reason,
            rule: asked.rule.into(),
            revision: asked.revision,
        }
    }

    fn record(self, count: u64, time_us: i64) -> AuditRecord {
        AuditRecord {
            time: Some(timestamp(time_us)),
            kind: AuditKind::Refusal.into(),
            actor: self.actor.into(),
            actor_uid: self.actor_uid.into(),
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            action: self.method.into(),
            resource: self.resource.into(),
            reason: self.reason.to_owned(),
            rule: self.rule.into(),
            revision: self.revision,
            count: i64::try_from(count).unwrap_or(i64::MAX),
            ..AuditRecord::default()
        }
    }
}

fn missing(records: u64) -> AuditRecord {
    AuditRecord {
        time: Some(timestamp(now_us())),
        kind: AuditKind::Gap.into(),
        count: i64::try_from(records).unwrap_or(i64::MAX),
        ..AuditRecord::default()
    }
}

fn now_us() -> i64 {
    i64::try_from(clock::now_us()).unwrap_or(i64::MAX)
}

fn timestamp(us: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str) -> Asked<'_> {
        Asked {
            principal: ("tokens/ci", "uid"),
            address: "192.0.2.7".parse().ok(),
            server: "dev",
            method: "tools/call",
            target,
            rule: "",
            revision: 7,
        }
    }

    #[test]
    fn one_principal_does_not_hide_the_refusals_of_others() {
        let log = log();
        let names: Vec<String> = (0..100).map(|number| format!("tool{number}")).collect();
        names.iter().for_each(|name| log.refuse(&asked(name), "out_of_scope"));
        log.refuse(&Asked { principal: ("tokens/other", "uid2"), ..asked("tool0") }, "out_of_scope");
        let taken = log.take(200, false);
        let of = |actor: &str| taken.iter().filter(|record| record.actor == actor).collect::<Vec<_>>();
        let [many, one] = [of("tokens/ci"), of("tokens/other")];
        assert_eq!((many.len(), many[20].resource.as_str()), (21, "other"));
        assert_eq!((one.len(), one[0].resource.as_str()), (1, "servers/dev/tool0"));
    }

    fn log() -> AuditLog {
        AuditLog::new(Arc::default())
    }

    #[test]
    fn refusals_that_are_alike_are_told_at_once_and_then_counted() {
        let log = log();
        for _ in 0..100 {
            log.refuse(&asked("x"), "out_of_scope");
        }
        log.refuse(&asked("y"), "out_of_scope");
        let told: Vec<_> =
            log.take(10, false).into_iter().map(|record| (record.resource, record.count)).collect();
        assert_eq!(told, [("servers/dev/x".to_owned(), 1), ("servers/dev/y".to_owned(), 1)]);
        let rest = log.take(10, true);
        assert_eq!((rest.len(), rest[0].count, rest[0].kind()), (1, 99, AuditKind::Refusal));
    }

    #[test]
    fn what_clients_ask_for_is_bounded_and_fills_nothing() {
        let log = log();
        for number in 0..5_000 {
            log.refuse(&asked(&format!("{number}\u{1b}[2J\n")), "out_of_scope");
        }
        let told = log.take(usize::MAX / 2, true);
        assert_eq!(told.len(), MOST_REFUSALS_OF_ONE + 2, "each at first, and the others together");
        assert_eq!(told.iter().map(|record| record.count).sum::<i64>(), 5_000);
        assert!(told.iter().all(|record| !record.resource.contains(char::is_control)));
        log.refuse(&asked(&"é".repeat(MAX_RESOURCE)), "out_of_scope");
        assert!(log.take(1, false)[0].resource.len() <= MAX_RESOURCE);
    }

    #[test]
    fn without_room_records_are_counted_and_calls_refused_where_that_is_wanted() {
        let log = log();
        log.record_calls();
        for _ in 0..MOST_WAITING {
            assert!(!log.is_closed());
            log.call(&asked("x"), Some("{}"), "approvals/a");
        }
        assert!(!log.is_closed(), "nobody has asked for that");
        log.fail_closed();
        assert!(log.is_closed());
        log.call(&asked("x"), None, "");
        let taken = log.take(2, false);
        assert_eq!((taken[0].kind(), taken[0].count), (AuditKind::Gap, 1));
        assert_eq!(taken[1].kind(), AuditKind::Call);
        let digest = digest(&SHA256, b"{}");
        assert_eq!(taken[1].arguments_sha256, digest.as_ref());
        assert!(!log.is_closed());
        assert_eq!(log.metrics.audit_dropped.get(), 1);
    }
}
