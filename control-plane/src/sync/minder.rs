//! Minds every upstream: one task each, on the one replica that holds the lease.
//!
//! It must not know what is asked or stored.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use mcp::client::{ChangeNotice, Notices};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use trunkline::registry::v1::{Upstream, UpstreamState};

use super::fetch::Conversation;
use super::handle::{Handle, RefreshError};
use super::record::{Announced, store_failure};
use crate::clock;
use crate::domain::Kind;
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

/// Starts and stops the tasks.
#[derive(Debug)]
pub struct Minder {
    handle: Handle,
    leases: Leases,
    revision: i64,
    tasks: HashMap<String, Task>,
}

#[derive(Debug)]
struct Task {
    /// Uid and spec: another one needs another task.
    spec: (String, Vec<u8>),
    task: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Minder {
    /// Minds upstreams over `handle`, while this replica holds the lease.
    pub fn new(handle: Handle, leases: Leases) -> Self {
        Self { handle, leases, revision: 0, tasks: HashMap::new() }
    }

    /// Minds for ever.
    pub async fn run(mut self) {
        let mut moved = self.handle.store().moved();
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease: Option<Lease> = None;
        loop {
            tokio::select! {
                _ = renew.tick() => lease = self.renew(lease).await,
                changed = moved.changed() => if changed.is_err() { return },
            }
            moved.borrow_and_update();
            if let Some(lease) = &lease
                && let Err(error) = self.catch_up(lease).await
            {
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
            self.revision = 0;
        }
        lease
    }

    async fn catch_up(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let store = self.handle.store().clone();
        let (revision, rows) = match self.revision {
            0 => store.all().await?,
            known => store.changes_since(known).await?,
        };
        for row in rows.into_iter().filter(|row| row.kind == Kind::Upstream) {
            self.mind(row, lease)?;
        }
        self.revision = revision;
        Ok(())
    }

    fn mind(&mut self, row: Row, lease: &Lease) -> Result<(), StoreError> {
        if row.deleted || row.message::<Upstream>()?.disabled {
            self.tasks.remove(&row.name);
            self.handle.unheard(&row.name);
            return Ok(());
        }
        let spec = (row.uid.clone(), row.body.clone());
        if self.tasks.get(&row.name).is_none_or(|task| task.spec != spec) {
            let task = tokio::spawn(one(self.handle.clone(), row.name.clone(), lease.clone()));
            self.tasks.insert(row.name, Task { spec, task });
        }
        Ok(())
    }
}

/// Minds one upstream, until it is gone or the task is ended from outside.
async fn one(handle: Handle, name: String, lease: Lease) {
    let mut pause = SHORTEST;
    loop {
        let began = Instant::now();
        match round(&handle, &name, &lease).await {
            Ok(Round::Again) if began.elapsed() > LONGEST => pause = SHORTEST,
            Ok(Round::Due) => {
                pause = SHORTEST;
                continue;
            }
            Ok(Round::Again) => {}
            Err(RefreshError::NotFound(_) | RefreshError::Disabled(_)) => return,
            Err(error) => tracing::debug!(%error, upstream = name, "not minded for a moment"),
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
async fn round(handle: &Handle, name: &str, lease: &Lease) -> Result<Round, RefreshError> {
    let row = handle.row(name).await?;
    let upstream: Upstream = row.message()?;
    let interval = upstream.refresh_interval.as_ref().and_then(clock::duration).unwrap_or(REFRESH);
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
    lease: &Lease,
    conversation: &Conversation,
    mut notices: Option<Notices>,
    due: Instant,
) -> Result<Round, RefreshError> {
    let poke = handle.hear(&row.name);
    let mut announced = Announced::default();
    loop {
        let status = handle.fetch(row, conversation, Some(lease), announced).await?;
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
