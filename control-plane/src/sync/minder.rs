//! Minds every upstream: one task each, on the one replica that holds the lease; but those that dial in on the replica to which
//! they did.
//!
//! It must not know what is asked or stored.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use mcp::client::{ChangeNotice, Notices};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use trunkline::registry::v1::{Upstream, UpstreamState};

use super::fetch::{Conversation, Failure, NO_TUNNEL};
use super::handle::{Handle, RefreshError};
use super::record::{Announced, store_failure};
use crate::clock;
use crate::domain::Kind;
use crate::domain::upstream::dials_in;
use crate::store::leases::{Lease, Leases};
use crate::store::{Row, StoreError};

/// The lease is renewed three times within its life.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// Announcements that come together are answered together.
const GATHER: Duration = Duration::from_millis(100);
/// Between two tries with an upstream that does not answer.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(120);
const REFRESH: Duration = Duration::from_secs(300);
/// How late an upstream that dials in may be asked until its status is not believed any more.
const GRACE: Duration = Duration::from_secs(30);

/// Starts and stops the tasks.
#[derive(Debug)]
pub struct Minder {
    handle: Handle,
    leases: Leases,
    revision: i64,
    tasks: HashMap<String, Task>,
    /// The upstreams that dial in, by name, with their uids.
    dialling: HashMap<String, String>,
}

#[derive(Debug)]
struct Task {
    /// Uid and spec: another one needs another task.
    spec: (String, Vec<u8>),
    task: JoinHandle<()>,
    duty: Duty,
}

/// What there is to do about an upstream at this replica.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Duty {
    /// It is reached from here.
    Mind(Option<Lease>),
    /// It dials in elsewhere, or not at all: to see to it that its status does not say for ever what once was.
    Watch,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Minder {
    /// Minds upstreams over `handle`, while this replica holds the lease.
    pub fn new(handle: Handle, leases: Leases) -> Self {
        Self { handle, leases, revision: 0, tasks: HashMap::new(), dialling: HashMap::new() }
    }

    /// Minds for ever.
    pub async fn run(mut self) {
        let mut moved = self.handle.store().moved();
        let mut tunnels = self.handle.tunnels().changes();
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease: Option<Lease> = None;
        loop {
            tokio::select! {
                _ = renew.tick() => lease = self.renew(lease).await,
                changed = moved.changed() => if changed.is_err() { return },
                // The sender is held by the handle.
                _ = tunnels.changed() => self.look_at_those_that_dial(lease.as_ref()).await,
            }
            moved.borrow_and_update();
            if let Err(error) = self.catch_up(lease.as_ref()).await {
                tracing::warn!(%error, "changed upstreams are minded late");
            }
        }
    }

    /// Takes or keeps the lease. Where it is lost, all tasks end, and start anew when it is back.
    async fn renew(&mut self, held: Option<Lease>) -> Option<Lease> {
        let lease = match self.leases.take("sync", LEASE).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the lease on upstreams cannot be renewed");
                None
            }
        };
        if lease != held {
            self.tasks.clear();
            self.dialling.clear();
            self.revision = 0;
        }
        lease
    }

    /// A tunnel came or went.
    async fn look_at_those_that_dial(&mut self, lease: Option<&Lease>) {
        let unsettled = |(name, uid): (&String, &String)| {
            let held = self.handle.tunnels().has(uid);
            let duty = if held { Some(Duty::Mind(None)) } else { lease.map(|_| Duty::Watch) };
            let task = self.tasks.get(name);
            let settled = duty.is_none_or(|duty| task.is_some_and(|task| task.does(&duty)));
            (!settled).then(|| name.clone())
        };
        for name in self.dialling.iter().filter_map(unsettled).collect::<Vec<_>>() {
            let looked = match self.handle.store().get(Kind::Upstream, &name).await {
                Ok(Some(row)) => self.mind(row, lease),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                tracing::warn!(%error, upstream = name, "an upstream that dialled in is asked late");
            }
        }
    }

    async fn catch_up(&mut self, lease: Option<&Lease>) -> Result<(), StoreError> {
        let store = self.handle.store().clone();
        let (revision, rows) = match self.revision {
            0 => store.all().await?,
            known => store.changes_since(known).await?,
        };
        for row in rows.into_iter().filter(|row| row.kind == Kind::Upstream) {
            self.mind(row, lease)?;
        }
        if self.revision == 0 {
            let dialling: HashSet<&str> = self.dialling.values().map(String::as_str).collect();
            self.handle.tunnels().retain(|uid| dialling.contains(uid));
        }
        self.revision = revision;
        Ok(())
    }

    fn mind(&mut self, row: Row, lease: Option<&Lease>) -> Result<(), StoreError> {
        let gone = row.deleted || row.message::<Upstream>()?.disabled;
        self.note_dialling(&row, gone)?;
        let duty = if gone { None } else { self.duty(&row, lease)? };
        let Some(duty) = duty else {
            self.tasks.remove(&row.name);
            self.handle.unheard(&row.name);
            return Ok(());
        };
        let spec = (row.uid.clone(), row.body.clone());
        if self.tasks.get(&row.name).is_none_or(|task| task.spec != spec || !task.does(&duty)) {
            let (handle, name) = (self.handle.clone(), row.name.clone());
            let task = match duty.clone() {
                Duty::Mind(lease) => tokio::spawn(async move { one(handle, name, lease).await }),
                Duty::Watch => tokio::spawn(async move { watch(handle, name).await }),
            };
            self.tasks.insert(row.name, Task { spec, task, duty });
        }
        Ok(())
    }

    /// What is to be done here; `None`: another replica does it.
    fn duty(&self, row: &Row, lease: Option<&Lease>) -> Result<Option<Duty>, StoreError> {
        if !self.dialling.contains_key(&row.name) {
            return Ok(lease.map(|lease| Duty::Mind(Some(lease.clone()))));
        }
        if !self.handle.is_away(row)? {
            return Ok(Some(Duty::Mind(None)));
        }
        Ok(lease.map(|_| Duty::Watch))
    }

    /// Remembers who dials in, and ends the tunnels of those that may not any more.
    fn note_dialling(&mut self, row: &Row, gone: bool) -> Result<(), StoreError> {
        let dials = !gone && dials_in(&row.message()?);
        let before = match dials {
            true => self.dialling.insert(row.name.clone(), row.uid.clone()),
            false => self.dialling.remove(&row.name),
        };
        if let Some(uid) = before.filter(|uid| !dials || *uid != row.uid) {
            self.handle.tunnels().retain(|key| key != uid);
        }
        Ok(())
    }
}

impl Task {
    /// Whether it does this. One that minds an upstream whose last tunnel went is left to say so, and ends by itself.
    fn does(&self, duty: &Duty) -> bool {
        let says_so = *duty == Duty::Watch && self.duty == Duty::Mind(None);
        (self.duty == *duty || says_so) && !self.task.is_finished()
    }
}

/// Looks from time to time whether somebody minds an upstream that dials in.
async fn watch(handle: Handle, name: String) {
    loop {
        let row = match handle.row(&name).await {
            Ok(row) => row,
            Err(RefreshError::NotFound(_) | RefreshError::Disabled(_)) => return,
            Err(error) => {
                tracing::debug!(%error, upstream = name, "not watched for a moment");
                sleep(jitter(LONGEST)).await;
                continue;
            }
        };
        let Ok(upstream) = row.message::<Upstream>() else { return };
        let forsaken = interval_of(&upstream) * 2 + GRACE;
        let status = upstream.status.unwrap_or_default();
        let asked = status.refresh_time.as_ref().map_or(0, clock::micros);
        let overdue = clock::now_us() - asked > clock::duration_us(forsaken);
        if overdue && status.state() == UpstreamState::Ready {
            let failure = Failure::new(UpstreamState::Unreachable, NO_TUNNEL);
            if let Err(error) = store_failure(handle.store(), &row, failure).await {
                tracing::debug!(%error, upstream = name, "not watched for a moment");
            }
        }
        sleep(jitter(forsaken)).await;
    }
}

fn interval_of(upstream: &Upstream) -> Duration {
    upstream.refresh_interval.as_ref().and_then(clock::duration).unwrap_or(REFRESH)
}

/// Minds one upstream, until it is gone, cannot be reached from here any more, or the task is ended from outside.
async fn one(handle: Handle, name: String, lease: Option<Lease>) {
    let mut pause = SHORTEST;
    loop {
        let began = Instant::now();
        match round(&handle, &name, lease.as_ref()).await {
            Ok(Round::Again) if began.elapsed() > LONGEST => pause = SHORTEST,
            Ok(Round::Due) => {
                pause = SHORTEST;
                continue;
            }
            Ok(Round::Again) => {}
            Err(RefreshError::NotFound(_) | RefreshError::Disabled(_)) => return,
            Err(error) => tracing::debug!(%error, upstream = name, "not minded for a moment"),
        }
        // Whoever has no tunnel is asked again when one opens.
        if let Ok(row) = handle.row(&name).await
            && handle.is_away(&row).unwrap_or(false)
        {
            let away = Failure::new(UpstreamState::Unreachable, NO_TUNNEL);
            if store_failure(handle.store(), &row, away).await.is_ok() {
                return;
            }
        }
        let poke = handle.hear(&name);
        tokio::select! {
            () = sleep(jitter(pause)) => {}
            () = poke.notified() => {}
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// How a round ended.
enum Round {
    /// Its time was over.
    Due,
    /// Something broke.
    Again,
}

/// Probes, listens, fetches, and fetches again at every announcement until the next probe is due.
async fn round(handle: &Handle, name: &str, lease: Option<&Lease>) -> Result<Round, RefreshError> {
    let row = handle.row(name).await?;
    let upstream: Upstream = row.message()?;
    let interval = interval_of(&upstream);
    let conversation = match handle.begin(&row).await {
        Ok(conversation) => conversation,
        Err(failure) => {
            store_failure(handle.store(), &row, failure).await?;
            return Ok(Round::Again);
        }
    };
    // First listen, then ask: so no announcement falls between the two.
    let notices = conversation.listen().await;
    let ended = listen(handle, &row, lease, &conversation, notices, Instant::now() + jitter(interval)).await;
    conversation.close().await;
    ended
}

async fn listen(
    handle: &Handle,
    row: &Row,
    lease: Option<&Lease>,
    conversation: &Conversation,
    mut notices: Option<Notices>,
    due: Instant,
) -> Result<Round, RefreshError> {
    let poke = handle.hear(&row.name);
    let mut announced = Announced::default();
    loop {
        let status = handle.fetch(row, conversation, lease, announced).await?;
        if status.state() != UpstreamState::Ready {
            return Ok(Round::Again);
        }
        let Some(notices) = &mut notices else {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = poke.notified() => {}
            }
            return Ok(Round::Due);
        };
        announced = tokio::select! {
            () = tokio::time::sleep_until(due) => return Ok(Round::Due),
            () = poke.notified() => return Ok(Round::Due),
            heard = next_change(notices) => match heard {
                Some(announced) => announced,
                None => return Ok(Round::Again),
            },
        };
        gather(notices, &mut announced).await;
    }
}

/// The next announcement about a list; `None` when the stream ends.
async fn next_change(notices: &mut Notices) -> Option<Announced> {
    loop {
        let mut announced = Announced::default();
        if note(&mut announced, &notices.next().await?.ok()?) {
            return Some(announced);
        }
    }
}

/// What else is announced within a moment.
async fn gather(notices: &mut Notices, announced: &mut Announced) {
    let end = Instant::now() + GATHER;
    while let Ok(Some(Ok(notice))) = timeout_at(end, notices.next()).await {
        note(announced, &notice);
    }
}

fn note(announced: &mut Announced, notice: &ChangeNotice) -> bool {
    match notice {
        ChangeNotice::Tools => announced.tools = true,
        ChangeNotice::Resources => announced.resources = true,
        ChangeNotice::Prompts => announced.prompts = true,
        ChangeNotice::Resource { .. } => return false,
    }
    true
}

/// A tenth more or less, so that upstreams are not all asked at once.
fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.9..1.1))
}
