//! Writes what was found of an upstream: one transaction, and only the differences.
//!
//! It must not know how upstreams are asked.

use std::collections::{BTreeMap, HashSet};

use trunkline::registry::v1::{ListStatus, Upstream, UpstreamStatus};

use super::catalogue_sync::RefreshError;
use super::finding::{Imported, count, failed};
use super::import::{CatalogueEntry, Import};
use super::list_status::{self, Room};
use super::stale::{StaleEntry, superfluous};
use crate::clock;
use crate::domain::{Kind, names};
use crate::importers::Failure;
use crate::store::leases::Lease;
use crate::store::{Row, Store, Tx};

/// Stores a finding. Nothing is stored where the upstream was changed or deleted since `row` was read, or
/// where the lease went to another replica: whoever did that asks again.
pub(super) async fn store_import(
    store: &Store,
    row: &Row,
    lease: Option<&Lease>,
    finding: Imported,
) -> Result<UpstreamStatus, RefreshError> {
    let mut tx = store.write().await?;
    let current = current(&mut tx, row, lease).await?;
    let before: Upstream = current.message()?;
    let old = before.status.clone().unwrap_or_default();
    let (found, import) = finding.status(names::id(&row.name), &old, tx.now_us());
    let written = write_catalogue(&mut tx, &row.name, import, &found.lists).await?;
    let [tool_count, resource_count, prompt_count] = written.available.map(count);
    let status = UpstreamStatus { tool_count, resource_count, prompt_count, ..found };
    let after = Upstream { status: Some(status.clone()), ..before.clone() };
    if written.changed || edges_see_a_difference(&before, &after) {
        tx.put_status(&current, &after).await?;
        tx.commit().await?;
    } else {
        drop(tx);
        store.observe(&row.name, &row.uid, &after).await?;
    }
    Ok(status)
}

/// Stores that an upstream cannot be used now. Its catalogue and what is known of it stay.
pub(super) async fn store_failure(
    store: &Store,
    row: &Row,
    failure: Failure,
) -> Result<UpstreamStatus, RefreshError> {
    let current = store.get(Kind::Upstream, &row.name).await?.filter(|current| same_spec(current, row));
    let mut upstream: Upstream =
        current.ok_or_else(|| RefreshError::NotFound(row.name.clone()))?.message()?;
    let old = upstream.status.clone().unwrap_or_default();
    let status = failed(&old, failure, clock::now_us());
    upstream.status = Some(status.clone());
    store.observe(&row.name, &row.uid, &upstream).await?;
    Ok(status)
}

async fn current(tx: &mut Tx, row: &Row, lease: Option<&Lease>) -> Result<Row, RefreshError> {
    if let Some(lease) = lease
        && !lease.is_current(tx.connection()).await.map_err(crate::store::StoreError::from)?
    {
        return Err(RefreshError::Overtaken(row.name.clone()));
    }
    let current = tx.get(Kind::Upstream, &row.name).await?;
    let current = current.ok_or_else(|| RefreshError::NotFound(row.name.clone()))?;
    if same_spec(&current, row) { Ok(current) } else { Err(RefreshError::Overtaken(row.name.clone())) }
}

fn same_spec(current: &Row, row: &Row) -> bool {
    current.uid == row.uid && current.body == row.body
}

/// Compares what edges can see. The time of the last import is not part of it.
fn edges_see_a_difference(before: &Upstream, after: &Upstream) -> bool {
    let seen = |upstream: &Upstream| {
        let status = upstream.status.clone().unwrap_or_default();
        let probe = status.probe.unwrap_or_default();
        let changes = [status.tools_change_count, status.resources_change_count, status.prompts_change_count];
        (probe.transport, probe.modern, probe.legacy, changes)
    };
    seen(before) != seen(after)
}

/// What was written.
struct Written {
    /// Whether anything was.
    changed: bool,
    /// The tools, resources and prompts that are available now.
    available: [usize; 3],
}

async fn write_catalogue(
    tx: &mut Tx,
    upstream: &str,
    import: Import,
    lists: &[ListStatus],
) -> Result<Written, RefreshError> {
    let mut known: BTreeMap<(Kind, String), Row> = BTreeMap::new();
    for row in tx.children(upstream).await? {
        known.insert((row.kind, row.name.clone()), row);
    }
    let mut left = import.names_left;
    let tools = write_kind(tx, import.tools, &mut known, lists, &mut left).await?;
    let resources = write_kind(tx, import.resources, &mut known, lists, &mut left).await?;
    let prompts = write_kind(tx, import.prompts, &mut known, lists, &mut left).await?;
    Ok(Written { changed: tools.0 | resources.0 | prompts.0, available: [tools.1, resources.1, prompts.1] })
}

/// Writes what is new or different, and what vanished. Answers whether anything was, and how many entries are available.
async fn write_kind<N: CatalogueEntry>(
    tx: &mut Tx,
    listed: BTreeMap<String, N>,
    known: &mut BTreeMap<(Kind, String), Row>,
    lists: &[ListStatus],
    names_left: &mut usize,
) -> Result<(bool, usize), RefreshError> {
    let mut changed = false;
    let available = listed.len();
    for (name, mut entry) in listed {
        let Some(row) = known.remove(&(N::KIND, name)) else {
            tx.put(&entry, None, None).await?;
            changed = true;
            continue;
        };
        let mut stored: N = row.message()?;
        let same = stored.definition() == entry.definition() && stored.position() == entry.position();
        if same && stored.stale().is_none() {
            continue;
        }
        std::mem::swap(stored.definition(), entry.definition());
        *stored.position() = *entry.position();
        *stored.stale() = None;
        stored.set_defaults();
        tx.put(&stored, Some(&row), None).await?;
        changed = true;
    }
    let mut room = Room::beside(available, *names_left);
    let kept = keep::<N>(known, lists, tx.now_us(), &mut room)?;
    *names_left = room.bytes();
    Ok((changed | mark_vanished::<N>(tx, known).await?, available + kept))
}

/// Leaves those entries as they are that were not read because their list is in trouble. Answers how many.
fn keep<N: CatalogueEntry>(
    known: &mut BTreeMap<(Kind, String), Row>,
    lists: &[ListStatus],
    now_us: i64,
    room: &mut Room,
) -> Result<usize, RefreshError> {
    let mut kept = Vec::new();
    for (key, row) in known.iter().filter(|(key, _)| key.0 == N::KIND) {
        let mut entry: N = row.message()?;
        let available = entry.stale().is_none() && list_status::keeps(lists, entry.list(), now_us);
        if available && room.take(&row.name) {
            kept.push(key.clone());
        }
    }
    for key in &kept {
        known.remove(key);
    }
    Ok(kept.len())
}

/// Marks what is no longer listed as stale, and deletes what is stale for too long, or too much. Answers whether anything was.
async fn mark_vanished<N: CatalogueEntry>(
    tx: &mut Tx,
    known: &BTreeMap<(Kind, String), Row>,
) -> Result<bool, RefreshError> {
    let mut changed = false;
    let mut stale = Vec::new();
    for row in known.values().filter(|row| row.kind == N::KIND) {
        let mut entry: N = row.message()?;
        let since_us = entry.stale().as_ref().map_or(tx.now_us(), clock::micros);
        let labelled = entry.meta().is_some_and(|meta| !meta.labels.is_empty());
        let changed_by_people = entry.is_disabled() || labelled || !row.apply_set.is_empty();
        stale.push((StaleEntry { since_us, changed_by_people }, row));
    }
    let superfluous = superfluous(stale, tx.now_us());
    let deleted: HashSet<&str> = superfluous.iter().map(|row| row.name.as_str()).collect();
    for row in &superfluous {
        tx.delete(row).await?;
        changed = true;
    }
    let vanished = known.values().filter(|row| row.kind == N::KIND && !deleted.contains(row.name.as_str()));
    for row in vanished {
        let mut stored: N = row.message()?;
        if stored.stale().is_none() {
            *stored.stale() = Some(clock::timestamp(tx.now_us()));
            tx.put(&stored, Some(row), None).await?;
            changed = true;
        }
    }
    Ok(changed)
}
