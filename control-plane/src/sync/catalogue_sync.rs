//! Probes upstreams and imports their catalogues, whoever asks for it: a service, or the supervisor.
//!
//! It must not know when an upstream is due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress::{CheckedResolver, Rule};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use trunkline::registry::v1::{Credential, Upstream, UpstreamState, UpstreamStatus};
use tunnel::Tunnels;

use super::finding::{Imported, failed};
use super::import::MAX_NAMES_BYTES;
use super::own_bearer;
use super::record::{store_failure, store_import};
use super::unfit;
use crate::auth::keys::Signer;
use crate::auth::vault::Vault;
use crate::clock;
use crate::domain::upstream::dials_in;
use crate::domain::{Kind, names};
use crate::importers::{Announced, Failure, ImportSession, Importer, ListSelection, importer, is_listening};
use crate::references::References;
use crate::snapshot;
use crate::store::leases::Lease;
use crate::store::{Row, Store, StoreError};

/// An upstream that is slower than this to give out its whole catalogue counts as not answering.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(120);
/// The id under which the entries of an upstream are looked at that has no name yet.
const UNNAMED: &str = "probed";

/// Probes upstreams and imports their catalogues. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CatalogueSync {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Arc<Vault>,
    signer: Arc<Signer>,
    tunnels: Arc<Tunnels>,
    resolver: Arc<CheckedResolver>,
    references: Arc<References>,
    concurrency: Semaphore,
    wakers: Mutex<HashMap<String, Arc<Notify>>>,
}

/// What is fetched of a catalogue, and what was announced that led to it.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub(super) selection: ListSelection,
    pub(super) announced: Announced,
}

impl Fetch {
    /// Everything, because it is due.
    pub(super) const ALL: Self = Self {
        selection: ListSelection::All,
        announced: Announced { tools: false, resources: false, prompts: false },
    };
}

/// A catalogue could not be stored. That an upstream does not answer is no error: its status says so.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// There is no such upstream.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It is disabled, and left alone.
    #[error("{0} is disabled")]
    Disabled(String),
    /// It dials in, and no tunnel of it is open to this replica.
    #[error("{0} has no tunnel open to this control plane; it is probed by itself when one opens")]
    Away(String),
    /// It was changed while it was probed, or another replica took over.
    #[error("{0} was changed in the meantime; retry")]
    Overtaken(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CatalogueSync {
    /// Creates one that contacts at most `concurrency` upstreams at a time: those that dial in through `tunnels`, and the
    /// others at the addresses that `resolver` returns. `signer` knows the bearers that were issued here, and `references` the
    /// secrets that are kept elsewhere.
    pub fn new(
        store: Store,
        vault: Arc<Vault>,
        signer: Arc<Signer>,
        tunnels: Arc<Tunnels>,
        resolver: Arc<CheckedResolver>,
        references: Arc<References>,
        concurrency: usize,
    ) -> Self {
        let concurrency = Semaphore::new(concurrency);
        let wakers = Mutex::default();
        let inner = Inner { store, vault, signer, tunnels, resolver, references, concurrency, wakers };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the rule on the addresses of upstreams.
    pub fn egress_rule(&self) -> &Rule {
        self.inner.resolver.rule()
    }

    /// Returns the secrets that are kept elsewhere.
    pub fn references(&self) -> &Arc<References> {
        &self.inner.references
    }

    /// Probes an upstream, fetches its whole catalogue, and returns when that is stored.
    pub async fn refresh(&self, name: &str) -> Result<UpstreamStatus, RefreshError> {
        let row = self.row(name).await?;
        if self.is_away(&row)? {
            return Err(RefreshError::Away(name.to_owned()));
        }
        match self.open(&row).await {
            Ok(session) => {
                let stored = self.fetch(&row, session.as_ref(), None, Fetch::ALL).await;
                session.close().await;
                stored
            }
            Err(failure) => store_failure(self.store(), &row, failure).await,
        }
    }

    /// Probes an upstream and reads its lists, as [`Self::refresh`] does, and stores nothing. `credential` holds its secrets in
    /// the clear.
    pub async fn probe(&self, upstream: &Upstream, credential: Option<&Credential>) -> UpstreamStatus {
        let _room = self.inner.concurrency.acquire().await;
        let (nothing, now_us) = (UpstreamStatus::default(), clock::now_us());
        let opened = self.begin(upstream, credential).await;
        let session = match opened {
            Ok(session) => session,
            Err(failure) => return failed(&nothing, failure, now_us),
        };
        let (probed, lists) = (session.probed().clone(), within(session.fetch(&ListSelection::All)).await);
        session.close().await;
        match lists {
            Ok(lists) => {
                let id = if upstream.name.is_empty() { UNNAMED } else { names::id(&upstream.name) };
                let Fetch { selection, announced } = Fetch::ALL;
                let trouble = credential.and_then(|held| self.inner.references.trouble(held));
                let finding = Imported { probed, lists, selection, announced, trouble };
                let import = finding.import(id, MAX_NAMES_BYTES);
                let unfit = unfit::look(&finding.lists).await;
                finding.status(&import, unfit, &nothing, now_us)
            }
            Err(failure) => {
                let known =
                    UpstreamStatus { probe: Some(probed.report), attempts: probed.attempts, ..nothing };
                failed(&known, failure, now_us)
            }
        }
    }

    /// Tells whether something still listens where it is, as far as that can be told.
    pub(super) async fn is_listening(&self, upstream: &Upstream) -> bool {
        is_listening(upstream, &self.inner.resolver).await
    }

    fn importer(
        &self,
        upstream: &Upstream,
        credential: Option<&Credential>,
    ) -> Result<Box<dyn Importer>, Failure> {
        credential.map_or(Ok(()), |credential| own_bearer::refuse(&self.inner.signer, credential))?;
        importer(upstream, credential, &self.inner.tunnels, &self.inner.resolver)
    }

    /// Fetches an upstream soon, where it is supervised here. Returns whether it is.
    pub fn wake(&self, name: &str) -> bool {
        let wakers = self.inner.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = wakers.get(name);
        wake.inspect(|wake| wake.notify_one()).is_some()
    }

    /// Fetches an upstream soon, waiting for nothing, wherever it is supervised.
    pub async fn refresh_soon(&self, name: &str) -> Result<(), RefreshError> {
        self.row(name).await?;
        if !self.wake(name) {
            let (sync, name) = (self.clone(), name.to_owned());
            tokio::spawn(async move {
                if let Err(error) = sync.refresh(&name).await {
                    tracing::debug!(%error, upstream = name, "cannot refresh an upstream");
                }
            });
        }
        Ok(())
    }

    /// Returns what `wake` notifies for an upstream, until `unsubscribe`.
    pub(super) fn subscribe(&self, name: &str) -> Arc<Notify> {
        let mut wakers = self.inner.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.entry(name.to_owned()).or_default().clone()
    }

    pub(super) fn unsubscribe(&self, name: &str) {
        self.inner.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(super) fn tunnels(&self) -> &Arc<Tunnels> {
        &self.inner.tunnels
    }

    /// Tells whether it dials in, and has no tunnel open here. Another replica may reach it.
    pub(super) fn is_away(&self, row: &Row) -> Result<bool, StoreError> {
        Ok(dials_in(&row.message()?) && !self.inner.tunnels.has(&row.uid))
    }

    /// An upstream that may be probed.
    pub(super) async fn row(&self, name: &str) -> Result<Row, RefreshError> {
        let row = self.store().get(Kind::Upstream, name).await?;
        let row = row.ok_or_else(|| RefreshError::NotFound(name.to_owned()))?;
        let disabled = row.message::<Upstream>()?.disabled;
        if disabled { Err(RefreshError::Disabled(name.to_owned())) } else { Ok(row) }
    }

    /// Probes an upstream and begins a session.
    pub(super) async fn open(&self, row: &Row) -> Result<Box<dyn ImportSession>, Failure> {
        let _room = self.inner.concurrency.acquire().await;
        let unreadable = |error: StoreError| Failure::new(UpstreamState::Unspecified, error.to_string());
        let upstream: Upstream = row.message().map_err(unreadable)?;
        let credential = match upstream.credential {
            None => None,
            Some(_) => Some(self.credential(&upstream).await.map_err(unreadable)?.ok_or_else(|| {
                let reason = "cannot open the credential: it was sealed with another master key, or has just been changed";
                Failure::new(UpstreamState::Unauthorized, reason)
            })?),
        };
        self.begin(&upstream, credential.as_ref()).await
    }

    /// Probes an upstream with its credential as it is stored, which may refer to secrets that are elsewhere.
    async fn begin(
        &self,
        upstream: &Upstream,
        credential: Option<&Credential>,
    ) -> Result<Box<dyn ImportSession>, Failure> {
        let references = &self.inner.references;
        let filled = match credential {
            None => None,
            Some(credential) => Some(references.resolve(credential).await.map_err(|why| {
                Failure::new(UpstreamState::Unauthorized, format!("its credential cannot be had: {why}"))
            })?),
        };
        let importer = self.importer(upstream, filled.as_ref())?;
        let opened = within(importer.open()).await;
        if let (Err(failure), Some(credential)) = (&opened, credential)
            && failure.state == UpstreamState::Unauthorized
        {
            references.suspect(credential);
        }
        opened
    }

    /// Fetches the whole catalogue, or some of its lists, and stores it.
    pub(super) async fn fetch(
        &self,
        row: &Row,
        session: &dyn ImportSession,
        lease: Option<&Lease>,
        Fetch { selection, announced }: Fetch,
    ) -> Result<UpstreamStatus, RefreshError> {
        let permit = self.inner.concurrency.acquire().await;
        let lists = within(session.fetch(&selection)).await;
        drop(permit);
        match lists {
            Ok(lists) => {
                let upstream: Upstream = row.message()?;
                let trouble =
                    upstream.credential.as_ref().and_then(|held| self.inner.references.trouble(held));
                let probed = session.probed().clone();
                let finding = Imported { probed, lists, selection, announced, trouble };
                store_import(self.store(), row, lease, finding).await
            }
            Err(failure) => store_failure(self.store(), row, failure).await,
        }
    }

    async fn credential(&self, upstream: &Upstream) -> Result<Option<Credential>, StoreError> {
        snapshot::open_secret(self.store(), &self.inner.vault, upstream).await
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(CATALOGUE_TIMEOUT, asking).await.unwrap_or_else(|_| {
        let reason = format!("it did not return its catalogue within {CATALOGUE_TIMEOUT:?}");
        Err(Failure::new(UpstreamState::Unreachable, reason))
    })
}
