//! Follows the registry and publishes a new snapshot for every revision, at once when it is quiet and
//! coalesced when it is not.
//!
//! It must not know who receives snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use delta::Items;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use trunkline::TypeTable as _;
use trunkline::edge::v1::{SealingKey, TrustBundle, VerificationKey};
use trunkline::registry::v1::{Credential, Upstream};

use super::content::Snapshot;
use super::database_health::DatabaseHealth;
use super::holders::Owner;
use super::projector::{Projector, TooLarge};
use crate::auth::keys::{ALGORITHM, CLIENT_AUDIENCE, KeyError, Ring, Signer};
use crate::auth::vault::{Sealed, Vault, VaultError};
use crate::domain::{Kind, credential, secret_reference};
use crate::references::{FIRST_READ, References};
use crate::store::rights::Standing;
use crate::store::{Row, Store, StoreError};

/// How long a snapshot waits for secrets that are kept elsewhere, once there is one: what was taken away waits with it.
const NEXT_READ: Duration = Duration::from_millis(200);
/// Between the first snapshot and the next, when changes come one after another.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest interval, reached while changes keep coming.
const LONGEST: Duration = Duration::from_millis(400);
/// The interval between checks of the database when no change is announced, and after a failure.
const CHECK: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

/// Builds and publishes snapshots.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    vault: Arc<Vault>,
    signer: Arc<Signer>,
    references: Arc<References>,
    /// The upstreams whose credentials refer to secrets that are elsewhere.
    referring: BTreeMap<String, Referring>,
    elsewhere: watch::Receiver<u64>,
    max_age: Duration,
    projector: Projector,
    revision: i64,
    siblings: watch::Receiver<Arc<Items>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    fresh: DatabaseHealth,
}

/// An upstream whose credential refers to secrets that are elsewhere.
#[derive(Debug)]
struct Referring {
    upstream: Upstream,
    credential: Credential,
    /// The credential with the secrets that were sent last, and what tells them from others.
    sent: Option<(Credential, String)>,
}

/// A snapshot could not be built.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The registry cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The data keys cannot be read.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// The time to coalesce changes: none after a quiet time, longer and longer in a storm.
#[derive(Debug)]
struct Throttle {
    pause: Duration,
    last: Option<Instant>,
}

impl Throttle {
    const START: Self = Self { pause: SHORTEST, last: None };

    /// Computes the delay of the next snapshot.
    fn wait(&mut self, now: Instant) -> Duration {
        let gap = self.last.map_or(LONGEST, |last| now.saturating_duration_since(last));
        let wait = self.pause.saturating_sub(gap);
        self.last = Some(now + wait);
        wait
    }

    /// Takes the number of revisions that were coalesced. Changes that come one at a time are not delayed further.
    fn coalesced(&mut self, revisions: i64) {
        self.pause = if revisions > 2 { (self.pause * 2).min(LONGEST) } else { SHORTEST };
    }
}

impl Publisher {
    /// Builds the first snapshot. Edges believe bearers for `max_age` after they last heard of us; `siblings` are the
    /// edges that reach each other; `references` knows the secrets that are kept elsewhere.
    pub async fn start(
        store: Store,
        vault: Arc<Vault>,
        signer: Arc<Signer>,
        references: Arc<References>,
        max_age: Duration,
        siblings: watch::Receiver<Arc<Items>>,
    ) -> Result<Self, PublishError> {
        let (revision, rows) = store.all().await?;
        let mut publisher = Self {
            store,
            vault,
            signer,
            elsewhere: references.changes(),
            references,
            referring: BTreeMap::new(),
            max_age,
            projector: Projector::default(),
            revision: 0,
            siblings,
            snapshots: watch::Sender::new(Arc::default()),
            fresh: DatabaseHealth::default(),
        };
        publisher.publish(revision, &rows).await?;
        // Edges that come back must not be told that a server is gone.
        while publisher.projector.is_behind() {
            publisher.send();
        }
        Ok(publisher)
    }

    /// The newest snapshot, whenever it changes.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// Returns the health of the database, by which the newest snapshot is known to be the newest.
    pub fn database_health(&self) -> DatabaseHealth {
        self.fresh.clone()
    }

    /// Publishes for ever.
    pub async fn run(mut self) {
        let mut revisions = self.store.revisions();
        let mut throttle = Throttle::START;
        loop {
            // A change may not have been announced: the timeout checks for one.
            let said = tokio::select! {
                said = tokio::time::timeout(CHECK, revisions.changed()) => said,
                Ok(()) = self.siblings.changed() => {
                    self.send();
                    continue;
                }
                Ok(()) = self.elsewhere.changed() => {
                    let referring: Vec<String> = self.referring.keys().cloned().collect();
                    referring.iter().for_each(|name| self.put_referring(name));
                    self.send();
                    continue;
                }
            };
            if matches!(said, Ok(Ok(()))) {
                sleep(throttle.wait(Instant::now())).await;
                revisions.borrow_and_update();
            }
            let before = self.revision;
            while let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "cannot read the registry; edges do not receive changes");
                sleep(RETRY).await;
            }
            throttle.coalesced(self.revision - before);
            self.finish().await;
        }
    }

    /// Publishes what takes long, one after the other, and whatever changes meanwhile before it.
    async fn finish(&mut self) {
        while self.projector.is_behind() {
            tokio::task::yield_now().await;
            let before = self.revision;
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "cannot read the registry; edges do not receive changes");
                sleep(RETRY).await;
            } else if self.revision == before {
                self.send();
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), PublishError> {
        let (revision, rows) = self.store.changes_since(self.revision).await?;
        if revision == self.revision {
            self.fresh.confirm();
            return Ok(());
        }
        // Confirmed when it is published: a replica that cannot is not ready, and its edges go to another.
        self.publish(revision, &rows).await
    }

    async fn publish(&mut self, revision: i64, rows: &[Row]) -> Result<(), PublishError> {
        self.vault.load().await?;
        self.signer.load().await?;
        for row in rows {
            // One row that cannot be read must not keep all others from edges.
            if let Err(error) = self.projector.apply(row) {
                tracing::error!(name = row.name, %error, "cannot publish a resource; edges keep its last version");
            }
        }
        self.open_secrets(rows).await?;
        self.take_people(revision, rows).await?;
        self.projector.put_trust(revision, &trust(&self.signer, &self.signer.ring(), self.max_age));
        self.revision = revision;
        self.fresh.confirm();
        let projected = self.projector.projected();
        tracing::debug!(revision, rows = rows.len(), projected, "published");
        self.send();
        Ok(())
    }

    /// Who is connected is no part of the registry, so edges that come and go make snapshots of the same revision.
    fn send(&mut self) {
        self.projector.put_siblings(&self.siblings.borrow_and_update().clone());
        self.snapshots.send_replace(Arc::new(self.projector.snapshot(self.revision)));
        for TooLarge { kind, name, reason } in self.projector.take_too_large() {
            tracing::error!(
                kind = kind.name(),
                name,
                reason,
                "cannot publish a resource; edges keep its last version"
            );
        }
    }

    /// Takes in what changed of people since the last snapshot: who owns something, which roles anybody has, and what was lost.
    async fn take_people(&mut self, revision: i64, rows: &[Row]) -> Result<(), PublishError> {
        let changed = self.store.principals_since(self.revision).await?;
        let wanted = self.projector.wanted_owners(&changed);
        self.take_owners(revision, wanted).await?;
        let lost = self.store.withdrawals_since(self.revision).await?;
        let is_first = self.revision == 0;
        if is_first
            || !changed.is_empty()
            || !lost.is_empty()
            || rows.iter().any(|row| row.kind == Kind::Role)
        {
            let in_use = self.store.roles_in_use().await?;
            self.projector.put_roles_in_use(revision, in_use.into_iter().collect());
        }
        self.projector.put_withdrawals(revision, lost, false);
        // What is too old to matter leaves the table without a trace.
        let count = usize::try_from(self.store.withdrawal_count().await?).unwrap_or_default();
        if count != self.projector.withdrawal_count() {
            let all = self.store.withdrawals_since(0).await?;
            self.projector.put_withdrawals(revision, all, true);
        }
        Ok(())
    }

    async fn take_owners(&mut self, revision: i64, wanted: BTreeSet<String>) -> Result<(), PublishError> {
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let found = self.store.standings_named(&names).await?.into_iter();
        let mut found: BTreeMap<_, _> = found.map(|found| (found.rights.name.clone(), found)).collect();
        for name in &wanted {
            let owner = found.remove(name);
            self.projector.put_owner(revision, name, owner.as_ref().map(Owner::from));
        }
        Ok(())
    }

    /// A credential changes with its upstream, so only those of changed upstreams are read.
    async fn open_secrets(&mut self, rows: &[Row]) -> Result<(), PublishError> {
        let mut changed = Vec::new();
        for row in rows.iter().filter(|row| row.kind == Kind::Upstream) {
            let before = self.referring.remove(&row.name);
            let upstream: Upstream = if row.deleted { Upstream::default() } else { row.message()? };
            let opened = match upstream.disabled || upstream.credential.is_none() {
                true => None,
                false => open_secret(&self.store, &self.vault, &upstream).await?,
            };
            self.references.want(&row.name, opened.as_ref());
            match opened {
                Some(credential) if !secret_reference::references(&credential).is_empty() => {
                    changed.push(row.name.clone());
                    let is_same = |before: &Referring| {
                        before.credential == credential && before.upstream.reach == upstream.reach
                    };
                    let sent = before.filter(is_same).and_then(|before| before.sent);
                    self.referring.insert(row.name.clone(), Referring { upstream, credential, sent });
                }
                Some(credential) => self.projector.put_secret(row.revision, &row.name, &credential),
                None => {}
            }
        }
        if !changed.is_empty() {
            // Otherwise edges would lose for a moment what they hold, at each start and each change of a reference.
            let at_most = if self.revision == 0 { FIRST_READ } else { NEXT_READ };
            self.references.read_wanted(at_most).await;
            changed.iter().for_each(|name| self.put_referring(name));
        }
        Ok(())
    }

    /// Takes in the secrets that an upstream refers to, as they were read last. What cannot be used does not replace what was sent
    /// before; while there is neither, the upstream is not called.
    fn put_referring(&mut self, name: &str) {
        let Some(referring) = self.referring.get_mut(name) else { return };
        if let Ok(filled) = self.references.look(&referring.credential) {
            let tag = self.vault.tag(&credential::context(name), &filled.encode_to_vec());
            referring.sent = Some((filled, tag));
        }
        self.projector.put_referred(&referring.upstream, referring.sent.clone());
    }
}

impl From<&Standing> for Owner {
    fn from(standing: &Standing) -> Self {
        let rights = &standing.rights;
        let teams = (!rights.sees_all()).then(|| rights.seen_teams().map(str::to_owned).collect());
        Self { uid: rights.uid.clone(), is_disabled: standing.is_disabled, grants: rights.grants(), teams }
    }
}

/// The credential of an upstream, secrets included; `None` where there is none that can be opened, and where it changed
/// since the upstream was read, and may be meant for another URL.
pub(crate) async fn open_secret(
    store: &Store,
    vault: &Vault,
    upstream: &Upstream,
) -> Result<Option<Credential>, StoreError> {
    let row = store.secret(&upstream.name).await?;
    let Some(row) = row.filter(|row| row.is_of(upstream)) else { return Ok(None) };
    let opened = vault.open(&credential::context(&row.uid), &Sealed::from_bytes(row.sealed));
    let credential = opened.ok().and_then(|bytes| Credential::decode(bytes.as_slice()).ok());
    if credential.is_none() {
        tracing::error!(name = row.name, "cannot decrypt the credential of an upstream");
    }
    Ok(credential)
}

fn trust(signer: &Signer, ring: &Ring, max_age: Duration) -> TrustBundle {
    TrustBundle {
        name: String::new(),
        issuer: signer.issuer().to_owned(),
        audience: CLIENT_AUDIENCE.to_owned(),
        verification_keys: ring
            .signing
            .iter()
            .map(|key| VerificationKey {
                key_id: key.key_id.clone(),
                algorithm: ALGORITHM.to_owned(),
                public_jwk_json: key.public_jwk.clone(),
            })
            .collect(),
        sealing_keys: ring
            .sealing
            .iter()
            .map(|key| SealingKey { key_id: key.id, key: key.key.expose().to_vec() })
            .collect(),
        max_age: prost_types::Duration::try_from(max_age).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_goes_at_once_and_storms_are_gathered() {
        let (mut throttle, mut now) = (Throttle::START, Instant::now());
        let mut wait = |throttle: &mut Throttle| {
            let wait = throttle.wait(now);
            now += wait;
            wait.as_millis()
        };
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(wait(&mut throttle));
            throttle.coalesced(10);
        }
        assert_eq!(waits, [0, 100, 200, 400, 400, 400]);
        throttle.coalesced(1);
        assert_eq!(wait(&mut throttle), 50);
        assert_eq!(throttle.wait(Instant::now() + LONGEST * 20), Duration::ZERO);
    }
}
