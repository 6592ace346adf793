//! Who gains and who loses which tool by a write: what edges would be sent before and after it, as far as it touches them, and what is
//! decided by that.
//!
//! It must not know how a decision is made, nor how what edges are sent is made.

mod told;
mod touched;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::difference::{Difference, difference};
use access::world::World;
use trunkline::admin::v1::{ApplyResourcesResponse, Change};

use self::told::Audience;
use self::touched::{Rows, Touched};
use super::catalogue::CatalogueAtRevision;
use super::policy::held;
use super::rpc::Call;
use super::write::evaluate;
use crate::domain::{Catalogue, Kind, Steps};
use crate::error::Error;
use crate::snapshot::content::Snapshot;
use crate::snapshot::{Owner, Published, excerpt};
use crate::store::rights::Standing;
use crate::store::{Row, StoreError, Tx};

/// Servers, tokens and people that are looked at, of each.
const MAX_LOOKED_AT: usize = 10_000;
/// Decisions that are made: about a second of work.
const MAX_DECISIONS: usize = 400_000;
/// The steps of finding what servers expose, before and after, about a second of each.
const MAX_STEPS: usize = 1_000_000_000;
/// What something that is exposed costs beside being found, in steps.
const ENTRY_COST: usize = 1_000;
/// The kinds that decide beside the catalogue.
const DECIDING: [Kind; 4] = [Kind::Server, Kind::Token, Kind::Team, Kind::Role];

/// What the answer follows from.
pub(super) struct AccessQuestion {
    catalogue: Arc<CatalogueAtRevision>,
    /// What edges are sent at present.
    sent: Arc<Snapshot>,
    /// What the write has written.
    written: Vec<Row>,
    /// Before and after it.
    rows: [Rows; 2],
    standings: [BTreeMap<String, Standing>; 2],
    servers: BTreeSet<String>,
    tokens: BTreeSet<String>,
    people: BTreeSet<String>,
    /// Whether somebody was left out, because there are too many.
    cut: bool,
    now_us: i64,
    audience: Audience,
}

impl Call<'_> {
    /// Reads what who gains and who loses something by a write follows from, when all of it is written. `None`: it touches nothing.
    pub(super) async fn access_question(
        &self,
        tx: &mut Tx,
        changes: &[Change],
    ) -> Result<Option<AccessQuestion>, Error> {
        let touched = Touched::by(changes);
        if touched.is_empty() {
            return Ok(None);
        }
        let (store, catalogue) = (self.registry.store(), self.registry.catalogue().await?);
        let (_, written) = tx.changes_since(tx.revision() - 1).await?;
        let before = touched::rows(store.all_of(&DECIDING).await?);
        let after = touched::overlaid(&before, &written);
        let mut cut = false;
        let rows = [before, after];
        let mut servers = touched.servers(&rows)?;
        let mut tokens = touched.tokens(&rows);
        let asked = touched.people(&rows)?;
        cut |= shorten(&mut servers) | shorten(&mut tokens);
        let mut people = BTreeSet::new();
        if let Some(asked) = &asked {
            let limit = i64::try_from(MAX_LOOKED_AT + 1).unwrap_or(i64::MAX);
            people.extend(store.holders_of(asked, limit).await?);
            cut |= shorten(&mut people);
        }
        let owners = owners(&rows, &servers, &tokens);
        let names: Vec<&str> = owners.iter().chain(&people).map(String::as_str).collect();
        let before = by_name(store.standings_named(&names).await?);
        let after = match touched.changes_people() {
            true => by_name(tx.standings_named(&names).await?),
            false => before.clone(),
        };
        let standings = [before, after];
        // Of a team that is looked at in part only nobody can tell whether all of it gains or loses the same.
        let teams = asked.filter(|_| !cut);
        let audience = Audience::of(self, &rows, &standings, &people, teams.as_ref());
        let now_us = tx.now_us();
        Ok(Some(AccessQuestion {
            catalogue,
            sent: self.registry.snapshot(),
            written,
            rows,
            standings,
            servers,
            tokens,
            people,
            cut,
            now_us,
            audience,
        }))
    }
}

impl AccessQuestion {
    /// Adds the answer to what is answered otherwise. What was written stays written where there is none, and then more may be missing.
    pub(super) async fn answered(self, answer: ApplyResourcesResponse) -> ApplyResourcesResponse {
        let worked_out = tokio::task::spawn_blocking(move || {
            let found = self.difference()?;
            Ok::<_, StoreError>((found, self.audience))
        });
        match worked_out.await {
            Ok(Ok((found, audience))) => audience.told(found, answer),
            Ok(Err(error)) => incomplete(answer, &error),
            Err(error) => incomplete(answer, &error),
        }
    }

    fn difference(&self) -> Result<Difference, StoreError> {
        let before = self.catalogue.catalogue.clone();
        let mut after = before.clone();
        for row in &self.written {
            row.apply_to(&mut after)?;
        }
        let known = [&before, &after].map(|one| affordable(&self.servers, one, Steps::new(MAX_STEPS)));
        let servers: BTreeSet<String> = known[0].intersection(&known[1]).cloned().collect();
        let cut = self.cut || servers.len() < self.servers.len();
        let [before, after] = [self.world(before, &servers, 0)?, self.world(after, &servers, 1)?];
        let found = difference(before, after, self.now_us / 1_000_000, MAX_DECISIONS);
        Ok(Difference { cut: found.cut || cut, ..found })
    }

    /// What decisions look at before the write, or after it.
    fn world(
        &self,
        catalogue: Catalogue,
        servers: &BTreeSet<String>,
        side: usize,
    ) -> Result<World, StoreError> {
        let (rows, standings) = (&self.rows[side], &self.standings[side]);
        let is_asked = |row: &&Row| match row.kind {
            Kind::Server => servers.contains(&row.name),
            Kind::Token => self.tokens.contains(&row.name),
            _ => true,
        };
        let tools = self.written.iter().filter(|row| side == 1 && row.kind == Kind::Tool);
        let rows: Vec<&Row> = rows.values().filter(is_asked).chain(tools).collect();
        let owners = rows.iter().map(|row| row.ownership.owner.clone()).filter(|owner| !owner.is_empty());
        let owners = owners.map(|name| {
            let owner = standings.get(&name).map(Owner::from);
            (name, owner)
        });
        let snapshot = excerpt(catalogue, &self.sent, &rows, owners.collect())?;
        let published = Published::read(&snapshot);
        let mut world = published.grants();
        world.tokens = published.tokens_after("").map(|(name, token)| (name.to_owned(), token)).collect();
        let servers = servers.iter();
        world.servers =
            servers.filter_map(|name| Some((name.clone(), published.whole_server(name)?))).collect();
        let people = self.people.iter().filter_map(|name| standings.get(name));
        let people = people.filter(|standing| !standing.is_disabled).map(|standing| &standing.rights);
        world.people = people.map(|rights| (rights.name.clone(), held(rights))).collect();
        Ok(world)
    }
}

/// The servers of which can be found what they expose, in so many steps. One that does not exist takes none.
fn affordable(servers: &BTreeSet<String>, catalogue: &Catalogue, mut left: Steps) -> BTreeSet<String> {
    let is_affordable = |name: &&String| {
        let Some(server) = catalogue.server(name) else { return true };
        let exposure = evaluate(server, catalogue, &mut left);
        left.take(exposure.entries.len().saturating_mul(ENTRY_COST).saturating_add(1))
    };
    servers.iter().filter(is_affordable).cloned().collect()
}

fn incomplete(answer: ApplyResourcesResponse, error: &dyn std::error::Error) -> ApplyResourcesResponse {
    tracing::warn!(%error, "cannot work out who gains and who loses by a change; the change is not affected");
    ApplyResourcesResponse { access_changes_cut: true, ..answer }
}

/// Leaves out what is too much. Answers whether it was.
fn shorten(names: &mut BTreeSet<String>) -> bool {
    match names.iter().nth(MAX_LOOKED_AT).cloned() {
        Some(first) => !names.split_off(&first).is_empty(),
        None => false,
    }
}

fn owners(rows: &[Rows; 2], servers: &BTreeSet<String>, tokens: &BTreeSet<String>) -> BTreeSet<String> {
    let rows = rows.iter().flat_map(BTreeMap::values);
    let asked = rows.filter(|row| servers.contains(&row.name) || tokens.contains(&row.name));
    asked.map(|row| row.ownership.owner.clone()).filter(|owner| !owner.is_empty()).collect()
}

fn by_name(standings: Vec<Standing>) -> BTreeMap<String, Standing> {
    standings.into_iter().map(|standing| (standing.rights.name.clone(), standing)).collect()
}

#[cfg(test)]
mod tests {
    use trunkline::common::v1::{Meta, Visibility};
    use trunkline::registry::v1::{Member, Server, Tool, Upstream};

    use super::*;

    /// Ten thousand servers of a thousand tools each take no longer than a few.
    #[test]
    fn servers_that_would_take_too_long_are_left_out() {
        let mut catalogue = Catalogue::default();
        let meta = Some(Meta { visibility: Visibility::Public.into(), ..Meta::default() });
        catalogue.put_upstream(&Upstream { name: "upstreams/up".to_owned(), meta, ..Upstream::default() });
        for number in 0..10 {
            catalogue.put_tool(&Tool { name: format!("upstreams/up/tools/t{number}"), ..Tool::default() });
        }
        let names = ["servers/a", "servers/b", "servers/c"].map(str::to_owned);
        for name in &names {
            let tools = vec![Member { r#match: "up/*".to_owned(), ..Member::default() }];
            catalogue.put_server(&Server { name: name.clone(), tools, ..Server::default() });
        }
        let servers = BTreeSet::from(names).into_iter().chain(["servers/gone".to_owned()]).collect();
        let found = |steps: usize| {
            affordable(&servers, &catalogue, Steps::new(steps)).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(found(MAX_STEPS).len(), 4);
        assert_eq!(found(25 * ENTRY_COST), ["servers/a", "servers/b", "servers/gone"]);
        assert_eq!(found(0), ["servers/gone"]);
    }
}
