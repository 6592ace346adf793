//! Writes what was found of an upstream: one transaction, and only the differences.
//!
//! It must not know how upstreams are asked.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use trunkline::registry::v1::{ListStatus, Prompt, Resource, Tool, Upstream, UpstreamStatus};

use super::catalogue_sync::RefreshError;
use super::finding::{Imported, count, failed};
use super::import::{CatalogueEntry, Import, MAX_NAMES_BYTES};
use super::list_status::{self, Room};
use super::stale::{StaleEntry, superfluous};
use super::unfit;
use crate::clock;
use crate::domain::{Kind, names};
use crate::importers::{Failure, ListSelection, PROMPTS, TOOLS};
use crate::store::audit::Deed;
use crate::store::leases::Lease;
use crate::store::{Row, Store, Tx};

/// What is recorded that was done.
const IMPORT: &str = "import";

/// The entries that are stored of an upstream.
struct Stored {
    /// Those of the lists that were fetched.
    known: BTreeMap<(Kind, String), Row>,
    /// The tools, resources and prompts of other lists that are available, and stay so.
    others: [usize; 3],
    /// The bytes of their names.
    others_bytes: usize,
}

/// Stores a finding. Nothing is stored where the upstream was changed or deleted since `row` was read, or
/// where the lease went to another replica: whoever did that asks again.
pub(super) async fn store_import(
    store: &Store,
    row: &Row,
    lease: Option<&Lease>,
    finding: Imported,
) -> Result<UpstreamStatus, RefreshError> {
    let id = names::id(&row.name);
    // Before the write, during which others wait. For a few lists there is room beside what is stored of the others.
    let whole = finding.selection == ListSelection::All;
    let whole = whole.then(|| finding.import(id, MAX_NAMES_BYTES));
    let unfit = unfit::look(&finding.lists).await;
    let mut tx = store.write().await?;
    tx.by_itself();
    let current = current(&mut tx, row, lease).await?;
    let before: Upstream = current.message()?;
    let old = before.status.clone().unwrap_or_default();
    let stored = stored(&mut tx, &row.name, &finding.selection).await?;
    let room = MAX_NAMES_BYTES.saturating_sub(stored.others_bytes);
    let import = whole.unwrap_or_else(|| finding.import(id, room));
    let found = finding.status(&import, unfit, &old, tx.now_us());
    let written = write_catalogue(&mut tx, stored, import, &found.lists).await?;
    let [tool_count, resource_count, prompt_count] = written.available.map(count);
    let status = UpstreamStatus { tool_count, resource_count, prompt_count, ..found };
    let after = Upstream { status: Some(status.clone()), ..before.clone() };
    if written.changed || edges_see_a_difference(&before, &after) {
        if written.changed {
            tx.record(Deed {
                action: IMPORT.to_owned(),
                resource: row.name.clone(),
                before: Some(counts(&old)),
                after: Some(counts(&status)),
                ..Deed::default()
            });
        }
        tx.put_status(&current, &after).await?;
        tx.commit().await?;
    } else {
        drop(tx);
        store.observe(&row.name, &row.uid, &after).await?;
    }
    Ok(status)
}

/// What an upstream has: of an import, the numbers are recorded, and not each entry.
fn counts(status: &UpstreamStatus) -> Value {
    json!({ "tools": status.tool_count, "resources": status.resource_count, "prompts": status.prompt_count })
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

/// Reads what is stored of an upstream.
async fn stored(tx: &mut Tx, upstream: &str, selection: &ListSelection) -> Result<Stored, RefreshError> {
    let mut stored = Stored { known: BTreeMap::new(), others: [0; 3], others_bytes: 0 };
    for row in tx.children(upstream).await? {
        if selection == &ListSelection::All {
            stored.known.insert((row.kind, row.name.clone()), row);
            continue;
        }
        let (at, list, is_stale) = match row.kind {
            Kind::Tool => (0, TOOLS, row.message::<Tool>()?.stale_time.is_some()),
            Kind::Prompt => (2, PROMPTS, row.message::<Prompt>()?.stale_time.is_some()),
            _ => {
                let resource: Resource = row.message()?;
                (1, resource.list(), resource.stale_time.is_some())
            }
        };
        if selection.has(list) {
            stored.known.insert((row.kind, row.name.clone()), row);
        } else if !is_stale {
            stored.others[at] += 1;
            stored.others_bytes += row.name.len();
        }
    }
    Ok(stored)
}

async fn write_catalogue(
    tx: &mut Tx,
    stored: Stored,
    import: Import,
    lists: &[ListStatus],
) -> Result<Written, RefreshError> {
    let Stored { mut known, others, .. } = stored;
    let mut left = import.names_left;
    let tools = write_kind(tx, import.tools, &mut known, lists, &mut left).await?;
    let resources = write_kind(tx, import.resources, &mut known, lists, &mut left).await?;
    let prompts = write_kind(tx, import.prompts, &mut known, lists, &mut left).await?;
    Ok(Written {
        changed: tools.0 | resources.0 | prompts.0,
        available: [tools.1 + others[0], resources.1 + others[1], prompts.1 + others[2]],
    })
}

/// Writes what is new or different, and what vanished. Answers whether anything was, and how many entries are available.
async fn write_kind<N: CatalogueEntry>(
    tx: &mut Tx,
    listed: BTreeMap<String, N>,
    known: &mut BTreeMap<(Kind, String), Row>,
    lists: &[ListStatus],
    names_left: &mut usize,
) -> Result<(bool, usize), RefreshError> {
    let mut changes = Vec::new();
    let available = listed.len();
    for (name, mut entry) in listed {
        let Some(row) = known.remove(&(N::KIND, name)) else {
            changes.push((entry, None));
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
        changes.push((stored, Some(row)));
    }
    tx.put_many(&changes).await?;
    let mut room = Room::beside(available, *names_left);
    let kept = keep::<N>(known, lists, tx.now_us(), &mut room)?;
    *names_left = room.bytes();
    Ok((!changes.is_empty() | mark_vanished::<N>(tx, known).await?, available + kept))
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
    let mut marked = Vec::new();
    let vanished = known.values().filter(|row| row.kind == N::KIND && !deleted.contains(row.name.as_str()));
    for row in vanished {
        let mut stored: N = row.message()?;
        if stored.stale().is_none() {
            *stored.stale() = Some(clock::timestamp(tx.now_us()));
            marked.push((stored, Some(row.clone())));
        }
    }
    tx.put_many(&marked).await?;
    Ok(changed || !marked.is_empty())
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::ProbeReport;

    use super::*;
    use crate::importers::{Announced, FetchedList, Lists, Probed};

    const UPSTREAM: &str = "upstreams/up";

    fn list(entries: &[&str], trouble: Option<&str>) -> FetchedList {
        let entries = entries.iter().map(|&entry| entry.to_owned()).collect();
        FetchedList { asked: true, entries, trouble: trouble.map(str::to_owned) }
    }

    async fn record(store: &Store, lists: Lists, selection: ListSelection) -> UpstreamStatus {
        let row = store.get(Kind::Upstream, UPSTREAM).await.unwrap().unwrap();
        let probed = Probed { report: ProbeReport::default(), attempts: Vec::new() };
        let finding = Imported { probed, lists, selection, announced: Announced::default(), trouble: None };
        store_import(store, &row, None, finding).await.unwrap()
    }

    async fn stale(store: &Store, name: &str) -> bool {
        let row = store.get(Kind::Tool, &format!("{UPSTREAM}/tools/{name}")).await.unwrap().unwrap();
        row.message::<Tool>().unwrap().stale_time.is_some()
    }

    #[tokio::test]
    async fn what_is_stored_of_lists_that_were_not_fetched_stays() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let mut tx = store.write().await.unwrap();
        tx.put(&Upstream { name: UPSTREAM.to_owned(), ..Upstream::default() }, None, None).await.unwrap();
        tx.commit().await.unwrap();
        let schema = r#""inputSchema":{"type":"object"}"#;
        let (one, two) = (format!(r#"{{"name":"one",{schema}}}"#), format!(r#"{{"name":"two",{schema}}}"#));
        let lists = Lists {
            tools: list(&[&one, &two, "{}"], None),
            templates: list(&[r#"{"uriTemplate":"a:{b}","name":"t"}"#], None),
            prompts: list(&[], Some("HTTP 500: no")),
            ..Lists::default()
        };
        let first = record(&store, lists, ListSelection::All).await;
        let lists = Lists {
            tools: list(&[&one, "{}"], None),
            prompts: list(&[], Some("HTTP 500: no")),
            ..Lists::default()
        };
        let first = UpstreamStatus {
            refresh_time: first.refresh_time,
            ..record(&store, lists, ListSelection::All).await
        };
        assert_eq!((first.tool_count, first.resource_count, stale(&store, "two").await), (1, 0, true));
        assert_eq!(first.reason, "prompts/list: HTTP 500: no");

        // A list that is asked for again says nothing of others.
        let only = || ListSelection::Only([PROMPTS.to_owned()].into());
        let prompts =
            |entries: &[&str], trouble| Lists { prompts: list(entries, trouble), ..Lists::default() };
        let again = record(&store, prompts(&[], Some("HTTP 502: no")), only()).await;
        assert_eq!((again.tool_count, again.prompt_count, again.lists.len()), (1, 0, 2));
        assert_eq!((&again.warnings, again.reason.as_str()), (&first.warnings, "prompts/list: HTTP 502: no"));
        assert_eq!(again.probe.unwrap().quirks, ["lists-fail"]);

        let before = store.get(Kind::Upstream, UPSTREAM).await.unwrap().unwrap();
        let before = before.message::<Upstream>().unwrap().status.unwrap();
        let whole = record(&store, prompts(&[r#"{"name":"p"}"#, "7"], None), only()).await;
        assert_eq!((whole.tool_count, whole.prompt_count, whole.reason.as_str()), (1, 1, ""));
        assert_eq!(whole.refresh_time, before.refresh_time, "it was not fetched in full");
        assert_eq!(whole.probe.unwrap().quirks, [""; 0]);
        let about: Vec<_> = whole.warnings.iter().map(|warning| warning.split(':').next().unwrap()).collect();
        assert_eq!(about, ["prompts[1]", "tools[1]"]);
        assert!(!stale(&store, "one").await && stale(&store, "two").await);
    }
}
