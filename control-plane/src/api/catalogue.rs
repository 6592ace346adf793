//! The catalogue in memory, brought up to date from the log whenever somebody asks for it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use trunkline::identity::v1::Team;

use super::Registry;
use crate::domain::{Catalogue, Kind};
use crate::error::Error;
use crate::store::{Row, StoreError, Tx};

/// Owners of servers who have no part in the team of theirs, each with that team.
type Outsiders = BTreeSet<(String, String)>;

/// A catalogue, and the revision at which it is true.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogueAtRevision {
    pub(super) revision: i64,
    pub(super) catalogue: Catalogue,
}

impl CatalogueAtRevision {
    fn apply(&mut self, revision: i64, rows: &[Row], outsiders: Option<Outsiders>) -> Result<(), StoreError> {
        for row in rows {
            row.apply_to(&mut self.catalogue)?;
        }
        if let Some(outsiders) = outsiders {
            self.catalogue.put_outsiders(outsiders);
        }
        self.revision = revision;
        Ok(())
    }
}

impl Registry {
    /// The catalogue as it is now.
    pub(super) async fn catalogue(&self) -> Result<Arc<CatalogueAtRevision>, Error> {
        let cached = self.cached();
        let (revision, rows) = self.store().changes_since(cached.revision).await?;
        if revision == cached.revision {
            return Ok(cached);
        }
        let outsiders = self.outsiders(cached.revision, &rows).await?;
        self.advance(cached, revision, (&rows, outsiders))
    }

    /// Who has no part in the team of a server of theirs, unless that is as it was at a revision.
    async fn outsiders(&self, since: i64, rows: &[Row]) -> Result<Option<Outsiders>, Error> {
        let is_touched = |row: &Row| row.kind == Kind::Server;
        if !rows.iter().any(is_touched) && self.store().principals_since(since).await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.store().outsiders().await?))
    }

    /// The catalogue as a write sees it: with its own changes, which nobody else may see yet.
    pub(super) async fn catalogue_within(&self, tx: &mut Tx) -> Result<Arc<CatalogueAtRevision>, Error> {
        let cached = self.cached();
        let (revision, rows) = tx.changes_since(cached.revision).await?;
        let (own, committed): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| row.revision == revision);
        let outsiders = self.outsiders(cached.revision, &committed).await?;
        let cached = self.advance(cached, revision - 1, (&committed, outsiders))?;
        if !own.iter().any(|row| touches(&cached.catalogue, row)) {
            return Ok(cached);
        }
        let mut seen = CatalogueAtRevision::clone(&cached);
        seen.apply(revision, &own, None)?;
        Ok(Arc::new(seen))
    }

    fn cached(&self) -> Arc<CatalogueAtRevision> {
        self.inner.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what was read since `base`, unless somebody else was faster.
    fn advance(
        &self,
        base: Arc<CatalogueAtRevision>,
        revision: i64,
        (rows, outsiders): (&[Row], Option<Outsiders>),
    ) -> Result<Arc<CatalogueAtRevision>, Error> {
        if revision <= base.revision {
            return Ok(base);
        }
        // Only where somebody still reads the older one is it copied.
        let mut slot = self.inner.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.revision == base.revision {
            drop(base);
            Arc::make_mut(&mut slot).apply(revision, rows, outsiders)?;
            return Ok(slot.clone());
        }
        drop(slot);
        let mut newer = CatalogueAtRevision::clone(&base);
        newer.apply(revision, rows, outsiders)?;
        Ok(Arc::new(newer))
    }
}

/// Whether a row is to be seen in a catalogue. Of teams those are whose rules differ: most writes of teams are about something else.
fn touches(catalogue: &Catalogue, row: &Row) -> bool {
    match row.kind {
        Kind::Upstream | Kind::Server => true,
        Kind::Team => {
            let rules = row.message::<Team>().map(|team| if row.deleted { Vec::new() } else { team.rules });
            rules.is_ok_and(|rules| catalogue.team_rules(&row.name) != rules)
        }
        kind => kind.in_catalogue(),
    }
}
