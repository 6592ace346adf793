//! Supervises every upstream: a task for each, on the replica that holds the lease; for one that dials in, on the replica
//! that it dialled.
//!
//! It must not know what is fetched or stored.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use trunkline::registry::v1::{Upstream, UpstreamState, UpstreamStatus};

use super::catalogue_sync::{CatalogueSync, Fetch, RefreshError};
use super::expiry::expire_status;
use super::pace::Pace;
use super::record::store_failure;
use crate::clock;
use crate::domain::Kind;
use crate::domain::upstream::{dials_in, is_exposed};
use crate::importers::{Announced, Announcements, Failure, ListSelection, NO_TUNNEL};
use crate::store::leases::{Lease, Leases};
use crate::store::{Row, StoreError};

/// The lease is renewed three times within its life.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// The shortest and the longest pause between two attempts at an upstream that does not answer.
const MIN_BACKOFF: Duration = Duration::from_secs(2);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(120);
const REFRESH: Duration = Duration::from_secs(300);
/// The shortest and the longest pause until lists are fetched again of which some failed.
const MIN_LIST_RETRY: Duration = Duration::from_secs(30);
const MAX_LIST_RETRY: Duration = Duration::from_secs(300);
/// The interval at which is looked whether a command that is exposed still runs.
const LIVENESS: Duration = Duration::from_secs(5);

/// The lease of this replica, and until when it is held for all that is known here.
#[derive(Debug)]
struct HeldLease {
    lease: Lease,
    until: Instant,
}

/// Starts and stops the tasks.
#[derive(Debug)]
pub struct Supervisor {
    sync: CatalogueSync,
    leases: Leases,
    revision: i64,
    tasks: HashMap<String, Task>,
    /// The upstreams that dial in, by name, with their uids.
    dialling: HashMap<String, String>,
}

#[derive(Debug)]
struct Task {
    /// Uid and spec. When either changes, the task is replaced.
    spec: (String, Vec<u8>),
    task: JoinHandle<()>,
    duty: Duty,
}

/// This replica's duty towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Duty {
    /// Keep its catalogue current: it is reached from here.
    Supervise(Option<Lease>),
    /// It dials in elsewhere or not at all: mark its status as out of date in time.
    ExpireStatus,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Supervisor {
    /// Creates a supervisor that runs while this replica holds the lease.
    pub fn new(sync: CatalogueSync, leases: Leases) -> Self {
        Self { sync, leases, revision: 0, tasks: HashMap::new(), dialling: HashMap::new() }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        let mut revisions = self.sync.store().revisions();
        let mut tunnels = self.sync.tunnels().changes();
        let mut elsewhere = self.sync.references().changes();
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held: Option<HeldLease> = None;
        loop {
            let lease = held.as_ref().map(|held| held.lease.clone());
            tokio::select! {
                _ = renew.tick() => held = self.renew(held).await,
                changed = revisions.changed() => if changed.is_err() { return },
                // The sender lives as long as `self.sync`.
                _ = tunnels.changed() => self.review_dialling(lease.as_ref()).await,
                _ = elsewhere.changed() => self.wake_affected(),
            }
            revisions.borrow_and_update();
            if let Err(error) = self.catch_up(held.as_ref().map(|held| &held.lease)).await {
                tracing::warn!(%error, "cannot supervise the upstreams that changed; retrying");
            }
        }
    }

    /// Takes or keeps the lease. Where it is lost, all tasks end, and start anew when it is back.
    async fn renew(&mut self, held: Option<HeldLease>) -> Option<HeldLease> {
        let before = held.as_ref().map(|held| held.lease.clone());
        let held = renewed(held, Instant::now(), self.leases.take("sync", LEASE).await);
        if held.as_ref().map(|held| &held.lease) != before.as_ref() {
            self.tasks.drain().for_each(|(name, _)| self.sync.unsubscribe(&name));
            self.dialling.clear();
            self.revision = 0;
        }
        held
    }

    /// Has upstreams probed with the secrets that were read elsewhere, and what was read said in their status.
    fn wake_affected(&self) {
        for upstream in self.sync.references().take_affected() {
            self.sync.wake(&upstream);
        }
    }

    /// Reacts to a tunnel that opened or closed.
    async fn review_dialling(&mut self, lease: Option<&Lease>) {
        let unsettled = |(name, uid): (&String, &String)| {
            let held = self.sync.tunnels().has(uid);
            let duty = if held { Some(Duty::Supervise(None)) } else { lease.map(|_| Duty::ExpireStatus) };
            let task = self.tasks.get(name);
            let settled = duty.is_none_or(|duty| task.is_some_and(|task| task.covers(&duty)));
            (!settled).then(|| name.clone())
        };
        for name in self.dialling.iter().filter_map(unsettled).collect::<Vec<_>>() {
            let supervised = match self.sync.store().get(Kind::Upstream, &name).await {
                Ok(Some(row)) => self.supervise(row, lease),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = supervised {
                tracing::warn!(%error, upstream = name, "cannot read an upstream that dialled in; its refresh is delayed");
            }
        }
    }

    async fn catch_up(&mut self, lease: Option<&Lease>) -> Result<(), StoreError> {
        let store = self.sync.store().clone();
        let (revision, rows) = match self.revision {
            0 => store.all().await?,
            known => store.changes_since(known).await?,
        };
        for row in rows.into_iter().filter(|row| row.kind == Kind::Upstream) {
            self.supervise(row, lease)?;
        }
        if self.revision == 0 {
            let dialling: HashSet<&str> = self.dialling.values().map(String::as_str).collect();
            self.sync.tunnels().retain(|uid| dialling.contains(uid));
        }
        self.revision = revision;
        Ok(())
    }

    fn supervise(&mut self, row: Row, lease: Option<&Lease>) -> Result<(), StoreError> {
        let gone = row.deleted || row.message::<Upstream>()?.disabled;
        self.track_dialling(&row, gone)?;
        let duty = if gone { None } else { self.duty(&row, lease)? };
        let Some(duty) = duty else {
            self.tasks.remove(&row.name);
            self.sync.unsubscribe(&row.name);
            return Ok(());
        };
        let spec = (row.uid.clone(), row.body.clone());
        if self.tasks.get(&row.name).is_none_or(|task| task.spec != spec || !task.covers(&duty)) {
            let (sync, name) = (self.sync.clone(), row.name.clone());
            let task = match duty.clone() {
                Duty::Supervise(lease) => tokio::spawn(async move { supervise_one(sync, name, lease).await }),
                Duty::ExpireStatus => tokio::spawn(async move { expire_status(sync, name).await }),
            };
            self.tasks.insert(row.name, Task { spec, task, duty });
        }
        Ok(())
    }

    /// Decides the duty of this replica. `None`: another replica has it.
    fn duty(&self, row: &Row, lease: Option<&Lease>) -> Result<Option<Duty>, StoreError> {
        if !self.dialling.contains_key(&row.name) {
            return Ok(lease.map(|lease| Duty::Supervise(Some(lease.clone()))));
        }
        if !self.sync.is_away(row)? {
            return Ok(Some(Duty::Supervise(None)));
        }
        Ok(lease.map(|_| Duty::ExpireStatus))
    }

    /// Tracks the upstreams that dial in, and closes the tunnels of those that no longer may.
    fn track_dialling(&mut self, row: &Row, gone: bool) -> Result<(), StoreError> {
        let dials = !gone && dials_in(&row.message()?);
        let before = match dials {
            true => self.dialling.insert(row.name.clone(), row.uid.clone()),
            false => self.dialling.remove(&row.name),
        };
        if let Some(uid) = before.filter(|uid| !dials || *uid != row.uid) {
            self.sync.tunnels().retain(|key| key != uid);
        }
        Ok(())
    }
}

/// The lease after it was asked for at `asked`. A database that does not answer takes away no lease that is held for longer.
fn renewed(
    held: Option<HeldLease>,
    asked: Instant,
    answer: sqlx::Result<Option<Lease>>,
) -> Option<HeldLease> {
    match answer {
        Ok(lease) => lease.map(|lease| HeldLease { lease, until: asked + LEASE }),
        Err(error) => {
            let held = held.filter(|held| Instant::now() < held.until);
            tracing::warn!(%error, held = held.is_some(), "cannot renew the lease on upstreams");
            held
        }
    }
}

impl Task {
    /// Tells whether it does this duty. A task whose upstream lost its last tunnel is left to record that, and ends by itself.
    fn covers(&self, duty: &Duty) -> bool {
        let is_winding_down = *duty == Duty::ExpireStatus && self.duty == Duty::Supervise(None);
        (self.duty == *duty || is_winding_down) && !self.task.is_finished()
    }
}

/// How often an upstream is probed.
pub(super) fn interval_of(upstream: &Upstream) -> Duration {
    upstream.refresh_interval.as_ref().and_then(clock::duration).unwrap_or(REFRESH)
}

/// Supervises one upstream, until it is deleted, can no longer be reached from here, or the task is aborted.
async fn supervise_one(sync: CatalogueSync, name: String, lease: Option<Lease>) {
    let (mut pause, mut pace) = (MIN_BACKOFF, Pace::default());
    loop {
        let began = Instant::now();
        match import_until_due(&sync, &name, lease.as_ref(), &mut pace).await {
            Ok(Outcome::Retry) if began.elapsed() > MAX_BACKOFF => pause = MIN_BACKOFF,
            Ok(Outcome::Due) => {
                pause = MIN_BACKOFF;
                continue;
            }
            Ok(Outcome::Retry) => {}
            Err(RefreshError::NotFound(_) | RefreshError::Disabled(_)) => return,
            Err(error) => tracing::debug!(%error, upstream = name, "cannot supervise an upstream; retrying"),
        }
        // One without a tunnel is probed again when a tunnel opens.
        if let Ok(row) = sync.row(&name).await
            && sync.is_away(&row).unwrap_or(false)
        {
            let away = Failure::new(UpstreamState::Unreachable, NO_TUNNEL);
            if store_failure(sync.store(), &row, away).await.is_ok() {
                return;
            }
        }
        let wake = sync.subscribe(&name);
        tokio::select! {
            () = sleep(jitter(pause)) => {}
            () = wake.notified() => {}
        }
        pause = (pause * 2).min(MAX_BACKOFF);
    }
}

/// The outcome of one round.
enum Outcome {
    /// Its time was over.
    Due,
    /// Something broke.
    Retry,
}

/// Probes, listens, fetches, and fetches again at every announcement until the next probe is due.
async fn import_until_due(
    sync: &CatalogueSync,
    name: &str,
    lease: Option<&Lease>,
    pace: &mut Pace,
) -> Result<Outcome, RefreshError> {
    let row = sync.row(name).await?;
    let upstream: Upstream = row.message()?;
    let interval = interval_of(&upstream);
    let session = match sync.open(&row).await {
        Ok(session) => session,
        Err(failure) => {
            store_failure(sync.store(), &row, failure).await?;
            return Ok(Outcome::Retry);
        }
    };
    // Listening starts before the first import, so that no announcement falls between the two.
    let announcements = session.watch().await;
    let due = Instant::now() + jitter(interval);
    let fetch = |fetch| sync.fetch(&row, session.as_ref(), lease, fetch).boxed();
    let gone = gone(sync, &upstream);
    let ended = listen(&fetch, &sync.subscribe(name), announcements, gone, due, pace).await;
    session.close().await;
    ended
}

/// Ends when a command that is exposed no longer runs. Nobody else is looked after so closely.
async fn gone(sync: &CatalogueSync, upstream: &Upstream) {
    if !is_exposed(upstream) || dials_in(upstream) {
        return std::future::pending().await;
    }
    loop {
        sleep(jitter(LIVENESS)).await;
        if !sync.is_listening(upstream).await {
            return;
        }
    }
}

/// Fetches the lists now, at every announcement, and again and again while one of them is in trouble, until the next probe is due,
/// somebody wakes it, or it is `gone`.
async fn listen<'a>(
    fetch: &(dyn Fn(Fetch) -> BoxFuture<'a, Result<UpstreamStatus, RefreshError>> + Sync),
    wake: &Notify,
    mut announcements: Option<Announcements>,
    gone: impl Future<Output = ()> + Send,
    due: Instant,
    pace: &mut Pace,
) -> Result<Outcome, RefreshError> {
    let mut next = Fetch::ALL;
    let mut list_retry = MIN_LIST_RETRY;
    let mut gone = pin!(gone);
    loop {
        let began = Instant::now();
        let status = fetch(next).await?;
        let took = began.elapsed();
        if status.state() != UpstreamState::Ready {
            return Ok(Outcome::Retry);
        }
        let retry = retry(&status);
        let retry_at = if retry.is_some() { Instant::now() + jitter(list_retry) } else { due };
        let heard = async {
            match &mut announcements {
                Some(announcements) => announcements.next().await,
                None => std::future::pending().await,
            }
        };
        let mut announced = tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => return Ok(Outcome::Due),
            () = wake.notified() => return Ok(Outcome::Due),
            () = &mut gone => return Ok(Outcome::Due),
            () = tokio::time::sleep_until(retry_at) => {
                list_retry = (list_retry * 2).min(MAX_LIST_RETRY);
                next = retry.unwrap_or(Fetch::ALL);
                continue;
            }
            heard = heard => match heard {
                Some(announced) => announced,
                None => return Ok(Outcome::Retry),
            },
        };
        list_retry = MIN_LIST_RETRY;
        let now = Instant::now();
        if let Some(announcements) = &mut announcements {
            coalesce(announcements, &mut announced, now + pace.wait(now, took)).await;
        }
        next = Fetch { selection: ListSelection::All, announced };
    }
}

/// What is fetched again before everything is due: the lists that are in trouble. `None`: none is.
fn retry(status: &UpstreamStatus) -> Option<Fetch> {
    let troubled = status.lists.iter().filter(|list| !list.trouble.is_empty());
    let troubled: BTreeSet<String> = troubled.map(|list| list.list.clone()).collect();
    let selection = ListSelection::Only(troubled);
    (selection != ListSelection::Only(BTreeSet::new())).then_some(Fetch { selection, ..Fetch::ALL })
}

/// Adds the announcements until `end`.
async fn coalesce(announcements: &mut Announcements, announced: &mut Announced, end: Instant) {
    while let Ok(Some(later)) = timeout_at(end, announcements.next()).await {
        announced.merge(later);
    }
}

/// Varies a duration by a tenth, so that upstreams are not all probed at once.
pub(super) fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::stream;
    use trunkline::registry::v1::ListStatus;

    use super::*;

    /// A status in which one list is in trouble, or none.
    fn status(trouble: &str) -> UpstreamStatus {
        let list = ListStatus { trouble: trouble.to_owned(), ..Default::default() };
        UpstreamStatus { state: UpstreamState::Ready.into(), lists: vec![list], ..Default::default() }
    }

    /// The times of the fetches until the next probe is due, in seconds, where those of `troubled` find a list in trouble.
    async fn fetches(
        troubled: fn(usize) -> bool,
        announcements: Option<Announcements>,
        due: Duration,
    ) -> Vec<f64> {
        let (began, times) = (Instant::now(), Mutex::new(Vec::new()));
        let fetch = |fetch: Fetch| {
            let mut times = times.lock().unwrap();
            times.push(began.elapsed().as_secs_f64());
            // What is neither the first nor announced is about the lists in trouble.
            let is_whole = times.len() == 1 || fetch.announced != Announced::default();
            assert_eq!(fetch.selection == ListSelection::All, is_whole, "{fetch:?}");
            let trouble = if troubled(times.len()) { "HTTP 500" } else { "" };
            async move { Ok(status(trouble)) }.boxed()
        };
        let due = began + due;
        let gone = std::future::pending();
        let ended = listen(&fetch, &Notify::new(), announcements, gone, due, &mut Pace::default()).await;
        assert!(matches!(ended, Ok(Outcome::Due)));
        assert!(Instant::now() >= due);
        times.into_inner().unwrap()
    }

    /// The pauses between times.
    fn pauses(times: &[f64]) -> Vec<f64> {
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn lists_in_trouble_are_fetched_again_less_often_each_time() {
        let pauses = pauses(&fetches(|_| true, None, Duration::from_secs(3_000)).await);
        assert!(pauses.len() >= 9, "{pauses:?}");
        for (pause, expected) in pauses.iter().zip([30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0]) {
            assert!((expected * 0.9..expected * 1.1 + 0.01).contains(pause), "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_are_whole_are_left_alone_until_the_next_probe() {
        assert_eq!(fetches(|_| false, None, Duration::from_secs(3_000)).await.len(), 1);
        let healed = fetches(|nth| nth == 1, None, Duration::from_secs(3_000)).await;
        assert_eq!(healed.len(), 2, "{healed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_is_fetched_at_once_and_the_pause_begins_anew() {
        let once = async {
            sleep(Duration::from_secs(50)).await;
            Announced { tools: true, ..Announced::default() }
        };
        let announcements = stream::once(once).chain(stream::pending()).boxed();
        let times = fetches(|_| true, Some(announcements), Duration::from_secs(100)).await;
        // At 0, after some 30 s, what is announced at 50 s, and some 30 s after that.
        assert_eq!(times.len(), 4, "{times:?}");
        assert!((50.0..51.0).contains(&times[2]), "{times:?}");
        assert!((26.0..34.0).contains(&(times[3] - times[2])), "{times:?}");
    }

    #[test]
    fn only_the_lists_in_trouble_are_asked_again() {
        let list = |list: &str, trouble: &str| ListStatus {
            list: list.to_owned(),
            trouble: trouble.to_owned(),
            ..Default::default()
        };
        let status = |trouble| UpstreamStatus {
            lists: vec![list("tools/list", ""), list("prompts/list", trouble)],
            ..Default::default()
        };
        assert!(retry(&status("")).is_none());
        let selection = retry(&status("HTTP 500: no")).unwrap().selection;
        assert!(selection.has("prompts/list") && !selection.has("tools/list"), "{selection:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_takes_no_lease_away_before_its_end() {
        let lease = |token| Lease { name: "sync", token };
        let token = |held: &Option<HeldLease>| held.as_ref().map(|held| held.lease.token);
        let silent = || Err(sqlx::Error::PoolTimedOut);
        let held = renewed(None, Instant::now(), Ok(Some(lease(1))));
        tokio::time::advance(LEASE - Duration::from_secs(1)).await;
        let held = renewed(held, Instant::now(), silent());
        assert_eq!(token(&held), Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(token(&renewed(held, Instant::now(), silent())), None);

        let held = renewed(None, Instant::now(), Ok(Some(lease(1))));
        assert_eq!(token(&renewed(held, Instant::now(), Ok(None))), None, "another replica has it");
        let held = renewed(None, Instant::now(), Ok(Some(lease(1))));
        assert_eq!(token(&renewed(held, Instant::now(), Ok(Some(lease(2))))), Some(2));
    }
}
