//! Secrets by reference: reads what credentials refer to in stores that the operator opened, keeps what was read, and says when it
//! changed.
//!
//! It must not know who refers to what, nor who is sent the secrets.

mod document;
mod files;
mod kubernetes;
mod reading;
mod requests;
mod stores;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use trunkline::registry::v1::{Credential, SecretReference};

use crate::clock;
use crate::domain::{Violations, credential, secret_reference};

pub use stores::{Stores, UnusableStore};

use reading::Reading;
use stores::{Place, Source};

/// The most places that are read at the same time.
const CONCURRENCY: usize = 8;
/// A place is not read again within this time because an upstream refused what was read there.
const SUSPECTED_AGAIN: Duration = Duration::from_secs(5);
/// How long is waited for places that were never read, before it is gone on without them, where nobody else waits meanwhile.
pub const FIRST_READ: Duration = Duration::from_secs(5);
/// How long reading a place may take.
const READ: Duration = Duration::from_secs(15);
/// What nobody refers to is kept for so long.
const UNUSED: Duration = Duration::from_secs(60);
/// The longest pause of the task that reads.
const IDLE: Duration = Duration::from_secs(3_600);

/// What credentials refer to, as it was read last.
#[derive(Debug)]
pub struct References {
    stores: Stores,
    refresh: Duration,
    room: Semaphore,
    known: Mutex<Readings>,
    wake: Notify,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Readings {
    entries: BTreeMap<Source, Reading>,
    /// The places that upstreams refer to, by the name of the upstream.
    wanted: BTreeMap<String, BTreeSet<Source>>,
    /// The upstreams for which something changed since that was asked for.
    affected: BTreeSet<String>,
}

/// A credential whose secrets cannot be had, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(String);

impl References {
    /// Nothing is read yet. Vault and Kubernetes are asked again at each `refresh`.
    pub fn new(stores: Stores, refresh: Duration) -> Self {
        Self {
            stores,
            refresh,
            room: Semaphore::new(CONCURRENCY),
            known: Mutex::default(),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// The stores that are open.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Moves whenever something else was read, or could be read no more, or again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The upstreams for which something changed since this was last called.
    pub fn take_affected(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().affected)
    }

    /// Has what an upstream refers to kept up to date. With no credential, or one without references: no more.
    pub fn want(&self, upstream: &str, credential: Option<&Credential>) {
        let sources: BTreeSet<Source> = credential.map(|held| self.sources(held)).unwrap_or_default();
        let mut known = self.lock();
        for source in &sources {
            known.entries.entry(source.clone()).or_insert_with(Reading::new);
        }
        match sources.is_empty() {
            true => drop(known.wanted.remove(upstream)),
            false => drop(known.wanted.insert(upstream.to_owned(), sources)),
        }
        drop(known);
        self.wake.notify_one();
    }

    /// The credential with what was read last in the places of references; where that cannot be sent, with what could be.
    pub fn look(&self, credential: &Credential) -> Result<Credential, Unresolved> {
        let sources = self.sources(credential);
        let mut known = self.lock();
        match self.filled(credential, &known, Reading::secret) {
            Ok(filled) => {
                let looked_at = known.entries.iter_mut().filter(|(source, _)| sources.contains(source));
                looked_at.for_each(|(_, entry)| entry.prove());
                Ok(filled)
            }
            Err(why) => self.filled(credential, &known, Reading::proven_secret).map_err(|_| why),
        }
    }

    fn filled(
        &self,
        credential: &Credential,
        known: &Readings,
        secret: impl Fn(&Reading, &Place<'_>) -> Result<String, String>,
    ) -> Result<Credential, Unresolved> {
        let filled = secret_reference::fill(credential, |reference| {
            let place = self.stores.place(reference)?;
            let entry = known.entries.get(&place.source).ok_or_else(|| "it was not read yet".to_owned())?;
            secret(entry, &place)
        });
        let filled = filled.map_err(|(field, why)| Unresolved(format!("{field}: {why}")))?;
        check(credential, &filled)?;
        Ok(filled)
    }

    /// The same, after what was never read is read.
    pub async fn resolve(&self, credential: &Credential) -> Result<Credential, Unresolved> {
        self.read_old(&self.sources(credential), FIRST_READ).await;
        self.look(credential)
    }

    /// What cannot be read any more of what a credential refers to, or not be sent, and since when; what was read before is used.
    pub fn trouble(&self, credential: &Credential) -> Option<String> {
        let known = self.lock();
        let trouble = |(field, reference): (String, &SecretReference)| {
            let place = self.stores.place(reference).ok()?;
            let trouble = known.entries.get(&place.source)?.trouble()?;
            let since = clock::timestamp(trouble.since_us);
            Some(format!(
                "{field} cannot be read since {since}: {}; what was read before is used",
                trouble.text
            ))
        };
        let unread = secret_reference::references(credential).into_iter().find_map(trouble);
        unread.or_else(|| self.unusable(credential, &known))
    }

    /// Why a credential is not made of what was read last, but of what was read before.
    fn unusable(&self, credential: &Credential, known: &Readings) -> Option<String> {
        let why = self.filled(credential, known, Reading::secret).err()?;
        self.filled(credential, known, Reading::proven_secret).ok()?;
        let sources = self.sources(credential);
        let since_us =
            sources.iter().filter_map(|source| Some(known.entries.get(source)?.changed_us())).max()?;
        let since = clock::timestamp(since_us);
        Some(format!("{why} (since {since}); what was read before is used"))
    }

    /// Reads again what a credential refers to, because an upstream refused it.
    pub fn suspect(&self, credential: &Credential) {
        let sources = self.sources(credential);
        let now = Instant::now();
        let mut known = self.lock();
        for source in &sources {
            if let Some(entry) = known.entries.get_mut(source) {
                entry.suspect(now, SUSPECTED_AGAIN);
            }
        }
        drop(known);
        self.wake.notify_one();
    }

    /// Reads what upstreams refer to and was never read. It is waited for `at_most` so long.
    pub async fn read_wanted(&self, at_most: Duration) {
        let wanted: BTreeSet<Source> = self.lock().wanted.values().flatten().cloned().collect();
        self.read_old(&wanted, at_most).await;
    }

    /// Reads again and again what upstreams refer to, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let (due, next) = self.due(Instant::now());
            for source in due {
                let references = Arc::clone(&self);
                tokio::spawn(async move { references.read(source, Instant::now()).await });
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// What is to be read now, which counts as being read from now on, and when to look again.
    fn due(&self, now: Instant) -> (Vec<Source>, Instant) {
        let mut known = self.lock();
        let Readings { entries, wanted, .. } = &mut *known;
        let wanted: BTreeSet<&Source> = wanted.values().flatten().collect();
        entries.retain(|source, entry| wanted.contains(source) || !entry.is_unused(now, UNUSED));
        let mut due = Vec::new();
        let mut next = now + IDLE;
        for (source, entry) in entries.iter_mut().filter(|(source, _)| wanted.contains(source)) {
            if entry.begin(now) {
                due.push(source.clone());
            } else if let Some(at) = entry.due_at() {
                next = next.min(at);
            }
        }
        (due, next)
    }

    async fn read_old(&self, sources: &BTreeSet<Source>, at_most: Duration) {
        let now = Instant::now();
        let old: Vec<Source> = {
            let mut known = self.lock();
            let mut is_old = |source: &&Source| {
                let entry = known.entries.entry((*source).clone()).or_insert_with(Reading::new);
                entry.touch(now);
                entry.is_old(now)
            };
            sources.iter().filter(|source| is_old(source)).cloned().collect()
        };
        let reading =
            futures_util::stream::iter(old).for_each_concurrent(CONCURRENCY, |source| self.read(source, now));
        // What takes longer is read by the task that reads.
        let _ = timeout(at_most, reading).await;
    }

    /// Reads a place, unless somebody else has since it was `asked` for.
    async fn read(&self, source: Source, asked: Instant) {
        let Some(turn) = self.lock().entries.get(&source).map(Reading::turn) else { return };
        let _turn = turn.lock().await;
        if self.lock().entries.get(&source).is_none_or(|entry| entry.is_read_since(asked)) {
            return;
        }
        let read = async {
            let _room = match source.is_remote() {
                true => self.room.acquire().await.ok(),
                false => None,
            };
            let late = || Err("it cannot be read in time".to_owned());
            timeout(READ, self.stores.read(&source)).await.unwrap_or_else(|_| late())
        };
        let found = read.await;
        let why = found.as_ref().err().cloned();
        let pause = if source.is_remote() { Some(self.refresh) } else { source.pause() };
        let mut known = self.lock();
        let is_other = match known.entries.get_mut(&source) {
            Some(entry) => entry.put(found, Instant::now(), clock::now_us(), pause),
            None => false,
        };
        if !is_other {
            drop(known);
            self.wake.notify_one();
            return;
        }
        match why {
            Some(why) => {
                tracing::warn!(?source, why, "cannot read a secret that is kept elsewhere; it is tried again")
            }
            None => tracing::debug!(?source, "read a secret that is kept elsewhere"),
        }
        let Readings { wanted, affected, .. } = &mut *known;
        let using = wanted.iter().filter(|(_, sources)| sources.contains(&source));
        affected.extend(using.map(|(upstream, _)| upstream.clone()));
        drop(known);
        self.changes.send_modify(|count| *count += 1);
        self.wake.notify_one();
    }

    fn sources(&self, credential: &Credential) -> BTreeSet<Source> {
        let references = secret_reference::references(credential);
        references.into_iter().filter_map(|(_, from)| Some(self.stores.place(from).ok()?.source)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks secrets that were read as those are that people write.
fn check(referring: &Credential, filled: &Credential) -> Result<(), Unresolved> {
    let mut violations = Violations::default();
    credential::validate(filled, &mut violations);
    match violations.into_vec().into_iter().next() {
        None => Ok(()),
        Some(wrong) => {
            let field = secret_reference::references(referring).into_iter().map(|(field, _)| field).next();
            let field = field.unwrap_or(wrong.field);
            Err(Unresolved(format!("{field}: what was read {}", wrong.description)))
        }
    }
}

/// Where a reference leads, for who checks it.
impl Stores {
    /// Why a reference leads nowhere: its store is not open, or not there.
    pub fn refusal(&self, reference: &SecretReference) -> Option<String> {
        self.place(reference).err()
    }
}

#[cfg(test)]
mod tests;
