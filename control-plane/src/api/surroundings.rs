//! What the states of resources follow from, read when somebody asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use trunkline::registry::v1::UpstreamState;

use super::Registry;
use super::catalogue::CatalogueAtRevision;
use crate::clock;
use crate::domain::{KindRules, Surroundings};
use crate::error::Error;
use crate::store::Tx;

/// The age until which the states of upstreams are taken as they were read.
const FRESH: Duration = Duration::from_secs(1);

type States = Arc<BTreeMap<String, UpstreamState>>;

/// The states of all upstreams, as they were read last. They are observed, and no revision tells of them.
#[derive(Debug, Default)]
pub(super) struct SeenStates(Mutex<Option<(Instant, States)>>);

/// The surroundings of the resources of a kind.
pub(super) struct Known {
    now_us: i64,
    catalogue: Arc<CatalogueAtRevision>,
    upstream_states: States,
}

impl Known {
    /// Lends them.
    pub(super) fn around(&self) -> Surroundings<'_> {
        let Self { now_us, catalogue, upstream_states } = self;
        Surroundings { now_us: *now_us, catalogue: &catalogue.catalogue, upstream_states }
    }
}

impl Registry {
    /// Reads what the states of a kind follow from.
    pub(super) async fn known<K: KindRules>(&self) -> Result<Known, Error> {
        let catalogue = if K::SEES_CATALOGUE { self.catalogue().await? } else { Arc::default() };
        let upstream_states =
            if K::SEES_UPSTREAM_STATES { self.upstream_states().await? } else { Arc::default() };
        Ok(Known { now_us: clock::now_us(), catalogue, upstream_states })
    }

    /// Reads what the states of all kinds follow from.
    pub(super) async fn known_of_all(&self) -> Result<Known, Error> {
        let (catalogue, upstream_states) = (self.catalogue().await?, self.upstream_states().await?);
        Ok(Known { now_us: clock::now_us(), catalogue, upstream_states })
    }

    /// The same as a write leaves it, which nobody else may see yet.
    pub(super) async fn known_within(&self, tx: &mut Tx) -> Result<Known, Error> {
        let (catalogue, upstream_states) = (self.catalogue_within(tx).await?, self.upstream_states().await?);
        Ok(Known { now_us: tx.now_us(), catalogue, upstream_states })
    }

    async fn upstream_states(&self) -> Result<States, Error> {
        let mut seen = self.inner.upstream_states.0.lock().await;
        match &*seen {
            Some((at, states)) if at.elapsed() < FRESH => Ok(states.clone()),
            _ => {
                let states = Arc::new(self.store().upstream_states().await?);
                *seen = Some((Instant::now(), states.clone()));
                Ok(states)
            }
        }
    }
}
