//! What the states of resources follow from, read when somebody asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use trunkline::registry::v1::UpstreamState;

use super::Registry;
use super::catalogue::CatalogueAtRevision;
use super::rpc::Call;
use crate::clock;
use crate::domain::{KindRules, People, SeesPeople, Surroundings};
use crate::error::Error;
use crate::rights::Rights;
use crate::store::Tx;

/// The age until which the states of upstreams are taken as they were read.
const FRESH: Duration = Duration::from_secs(1);

type States = Arc<BTreeMap<String, UpstreamState>>;

/// The states of all upstreams, as they were read last. They are observed, and no revision tells of them.
#[derive(Debug, Default)]
pub(super) struct SeenStates(Mutex<Option<(Instant, States)>>);

/// What is known of people, as it was read last.
#[derive(Debug, Default)]
pub(super) struct SeenPeople {
    owners_and_uses: Mutex<Option<PeopleAtRevision>>,
    members: Mutex<Option<PeopleAtRevision>>,
}

/// What is known of people at a revision. Uses of tokens take none, so that it grows old besides.
#[derive(Debug)]
struct PeopleAtRevision {
    at: Instant,
    revision: i64,
    people: Arc<People>,
}

/// The surroundings of the resources of a kind.
pub(super) struct Known {
    now_us: i64,
    catalogue: Arc<CatalogueAtRevision>,
    upstream_states: States,
    people: Arc<People>,
    viewer: Arc<Rights>,
}

impl Known {
    /// Lends them.
    pub(super) fn around(&self) -> Surroundings<'_> {
        let Self { now_us, catalogue, upstream_states, people, viewer } = self;
        Surroundings { now_us: *now_us, catalogue: &catalogue.catalogue, upstream_states, people, viewer }
    }
}

impl Call<'_> {
    /// Reads what the states of a kind follow from.
    pub(super) async fn known<K: KindRules>(&self) -> Result<Known, Error> {
        let registry = self.registry;
        let catalogue = if K::SEES_CATALOGUE { registry.catalogue().await? } else { Arc::default() };
        let upstream_states =
            if K::SEES_UPSTREAM_STATES { registry.upstream_states().await? } else { Arc::default() };
        let people = registry.people(K::SEES_PEOPLE).await?;
        Ok(Known { people, ..self.as_seen(clock::now_us(), catalogue, upstream_states) })
    }

    /// Reads what the states of all kinds follow from.
    pub(super) async fn known_of_all(&self) -> Result<Known, Error> {
        let (catalogue, states) = (self.registry.catalogue().await?, self.registry.upstream_states().await?);
        let people = self.registry.all_people().await?;
        Ok(Known { people, ..self.as_seen(clock::now_us(), catalogue, states) })
    }

    /// The same as a write leaves it, which nobody else may see yet.
    pub(super) async fn known_within(&self, tx: &mut Tx) -> Result<Known, Error> {
        let registry = self.registry;
        let (catalogue, states) = (registry.catalogue_within(tx).await?, registry.upstream_states().await?);
        let people = registry.all_people().await?;
        Ok(Known { people, ..self.as_seen(tx.now_us(), catalogue, states) })
    }

    fn as_seen(&self, now_us: i64, catalogue: Arc<CatalogueAtRevision>, upstream_states: States) -> Known {
        Known { now_us, catalogue, upstream_states, people: Arc::default(), viewer: self.caller.clone() }
    }
}

impl Registry {
    /// What a kind looks at of people, and of what they use.
    async fn people(&self, sees: SeesPeople) -> Result<Arc<People>, Error> {
        let slot = match sees {
            SeesPeople::Nothing => return Ok(Arc::default()),
            SeesPeople::OwnersAndUses => &self.inner.people.owners_and_uses,
            SeesPeople::Members => &self.inner.people.members,
        };
        let revision = *self.store().revisions().borrow();
        let mut seen = slot.lock().await;
        if let Some(seen) =
            seen.as_ref().filter(|seen| seen.revision == revision && seen.at.elapsed() < FRESH)
        {
            return Ok(seen.people.clone());
        }
        let people = Arc::new(match sees {
            SeesPeople::Members => self.store().members_of_teams().await?,
            SeesPeople::Nothing | SeesPeople::OwnersAndUses => self.store().owners_and_uses().await?,
        });
        *seen = Some(PeopleAtRevision { at: Instant::now(), revision, people: people.clone() });
        Ok(people)
    }

    async fn all_people(&self) -> Result<Arc<People>, Error> {
        let members = self.people(SeesPeople::Members).await?;
        let others = self.people(SeesPeople::OwnersAndUses).await?;
        Ok(Arc::new(People { teams: members.teams.clone(), ..(*others).clone() }))
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
