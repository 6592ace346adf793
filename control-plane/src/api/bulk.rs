//! The service that moves whole sets of resources: export at one revision, and apply at one revision or not
//! at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use trunkline::admin::v1::bulk_service_server::BulkService;
use trunkline::admin::v1::manifest::Resource as Any;
use trunkline::admin::v1::{
    ApplyResourcesRequest, ApplyResourcesResponse, ApplySet, Change, ChangeAction, DeleteResourcesRequest,
    DeleteResourcesResponse, ExportResourcesRequest, ExportResourcesResponse, ListApplySetsRequest,
    ListApplySetsResponse, Manifest,
};

use super::Registry;
use super::prune::{Prune, check_sets};
use super::rpc::Call;
use super::rules::read_rules;
use super::surroundings::Known;
use super::write::{DELETE_REFERRERS_FIRST, Write, check_etag, check_uid};
use crate::clock;
use crate::domain::{Kind, KindMessage as _, KindRules, Violations, each_kind, mask, names, token};
use crate::error::Error;
use crate::store::{ApplySetRow, Membership, Row};

pub(super) const MAX_MANIFESTS: usize = 10_000;
const DEFAULT_SET: &str = "default";
const MAX_SET: usize = 128;

#[tonic::async_trait]
impl BulkService for Registry {
    type ExportResourcesStream = Pin<Box<dyn Stream<Item = Result<ExportResourcesResponse, Status>> + Send>>;

    async fn export_resources(
        &self,
        request: Request<ExportResourcesRequest>,
    ) -> Result<Response<Self::ExportResourcesStream>, Status> {
        let call = Call::of(self, &request);
        let kinds = kinds(&call, &request.into_inner().kinds)?;
        let (revision, rows) = self.store().all().await.map_err(Error::from)?;
        let mut rows = seen(&call, rows);
        rows.retain(|row| kinds.contains(&row.kind));
        rows.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let (left_out, rows) = part_ended(rows)?;
        let answers = rows.into_iter().map(move |row| {
            let manifest = Some(bare(manifest(&row).map_err(Error::from)?));
            Ok(ExportResourcesResponse { manifest, revision, left_out: Vec::new() })
        });
        let last = ExportResourcesResponse { manifest: None, revision, left_out };
        let last = Some(last).filter(|last| !last.left_out.is_empty()).map(Ok);
        Ok(Response::new(Box::pin(stream::iter(answers.chain(last)))))
    }

    async fn apply_resources(
        &self,
        request: Request<ApplyResourcesRequest>,
    ) -> Result<Response<ApplyResourcesResponse>, Status> {
        let call = Call::of(self, &request);
        Ok(Response::new(call.apply(request.into_inner()).await?))
    }

    async fn delete_resources(
        &self,
        request: Request<DeleteResourcesRequest>,
    ) -> Result<Response<DeleteResourcesResponse>, Status> {
        let call = Call::of(self, &request);
        Ok(Response::new(call.delete_many(request.into_inner()).await?))
    }

    async fn list_apply_sets(
        &self,
        request: Request<ListApplySetsRequest>,
    ) -> Result<Response<ListApplySetsResponse>, Status> {
        let call = Call::of(self, &request);
        let mut sets = BTreeMap::<String, ApplySetRow>::new();
        // Each kind is read where it may be.
        for kind in call.readable(Kind::ALL) {
            for set in self.store().apply_sets(&[kind], &call.viewer(kind)).await.map_err(Error::from)? {
                match sets.get_mut(&set.name) {
                    Some(known) => {
                        known.count += set.count;
                        known.update_us = known.update_us.max(set.update_us);
                    }
                    None => drop(sets.insert(set.name.clone(), set)),
                }
            }
        }
        let apply_sets = sets.into_values().map(|set| ApplySet {
            name: set.name,
            count: set.count,
            update_time: Some(clock::timestamp(set.update_us)),
        });
        Ok(Response::new(ListApplySetsResponse { apply_sets: apply_sets.collect() }))
    }
}

/// How resources are applied.
#[derive(Clone, Copy)]
struct Manner<'a> {
    set: Membership<'a>,
    /// Whether what is silent about whose a resource is takes it away.
    exact_ownership: bool,
}

/// The fields that say whose a resource is.
const OWNERSHIP: [&str; 3] = ["meta.owner", "meta.team", "meta.visibility"];

fn masked(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

impl Call<'_> {
    async fn apply(&self, request: ApplyResourcesRequest) -> Result<ApplyResourcesResponse, Error> {
        let set = if request.apply_set.is_empty() { DEFAULT_SET } else { &request.apply_set };
        check_request(&request.manifests, set)?;
        self.check_may_write_kinds(request.manifests.iter().filter_map(kind_and_name).map(|(kind, _)| kind))?;
        let set = Membership { name: set, take_over: request.take_over };
        let before = self.known_of_all().await?;
        for manifest in &request.manifests {
            match &manifest.resource {
                Some(Any::Server(server)) => read_rules(server),
                Some(Any::Team(team)) => read_rules(team),
                _ => continue,
            }
            // What takes long, taken together, lets others go on.
            tokio::task::yield_now().await;
        }
        let mut write = Write::begin(self).await?;
        let prune = Prune::begin(&mut write, set.name, &request).await?;
        let mut changes = write.apply_all(&request, set).await?;
        check_sets(&changes, set.name, set.take_over)?;
        if let Some(prune) = prune {
            let wanted = changes.iter().map(|change| change.name.clone()).collect();
            changes.extend(write.delete_all(&prune.leaving(&wanted)?).await?);
        }
        let mut tx = write.finish().await?;
        let after = self.known_within(&mut tx).await?;
        for change in &mut changes {
            add_state(change.before.as_mut(), &before);
            add_state(change.after.as_mut(), &after);
        }
        let access = match request.with_access_changes {
            true => self.access_question(&mut tx, &changes).await?,
            false => None,
        };
        let changed = changes.iter().any(|change| change.action() != ChangeAction::Unchanged);
        let revision = match request.validate_only {
            true => {
                let revision = tx.revision() - i64::from(!changed);
                // Whoever writes waits for no answer.
                drop(tx);
                revision
            }
            false => tx.commit().await?,
        };
        let answer = ApplyResourcesResponse { revision, changes, ..ApplyResourcesResponse::default() };
        Ok(match access {
            Some(question) => question.answered(answer).await,
            None => answer,
        })
    }
}

impl Write<'_> {
    /// Applies the resources of a request. Returns what became of each, in their order.
    async fn apply_all(
        &mut self,
        request: &ApplyResourcesRequest,
        set: Membership<'_>,
    ) -> Result<Vec<Change>, Error> {
        let count = request.manifests.len();
        // What lives under an upstream comes after it, in whatever order they were sent.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|index| kind_and_name(&request.manifests[*index]).map(|(kind, _)| kind));
        let mut done: HashMap<usize, Change> = HashMap::new();
        for index in order {
            let Some(resource) = request.manifests[index].resource.clone() else { continue };
            done.insert(index, self.apply_one(resource, index, set, request).await?);
        }
        Ok((0..count).filter_map(|index| done.remove(&index)).collect())
    }

    async fn apply_one(
        &mut self,
        resource: Any,
        index: usize,
        set: Membership<'_>,
        request: &ApplyResourcesRequest,
    ) -> Result<Change, Error> {
        let kind = Kind::of_manifest(&resource).0;
        let prefix = format!("manifests[{index}].{}.", kind.manifest_field());
        let manner = Manner { set, exact_ownership: request.exact_ownership };
        let change = self.replace_any(resource, manner, &prefix).await?;
        if kind == Kind::Token && change.action() == ChangeAction::Created && !request.validate_only {
            return self.with_bearer(change).await;
        }
        Ok(change)
    }

    /// Makes one resource what the message says, output-only fields aside.
    async fn replace<K: KindRules>(
        &mut self,
        message: K,
        Manner { set, exact_ownership }: Manner<'_>,
        prefix: &str,
    ) -> Result<Change, Error> {
        let name = message.name().to_owned();
        let old = self.look_to_write(K::KIND, &name, prefix).await?;
        let uid = message.meta().map(|meta| meta.uid.clone()).unwrap_or_default();
        let etag = self.etag_of(&message, old.as_ref()).await?;
        let next = match &old {
            Some(row) => {
                let next = mask::update(&row.message::<K>()?, &message, Some(&masked(&["*"])));
                match exact_ownership {
                    false => next.map_err(Error::invalid)?,
                    true => mask::update(&next.map_err(Error::invalid)?, &message, Some(&masked(&OWNERSHIP)))
                        .map_err(Error::invalid)?,
                }
            }
            None => {
                let mut message = message;
                message.take_status();
                message
            }
        };
        let row = self.put(next, old.as_ref(), Some(set), prefix).await?;
        let action = match &old {
            None => ChangeAction::Created,
            Some(old) if old.revision == row.revision => ChangeAction::Unchanged,
            Some(_) => ChangeAction::Updated,
        };
        // A race that changes nothing is not lost: a file may be applied twice.
        if action != ChangeAction::Unchanged {
            check_uid(&name, &etag, &uid, old.as_ref())?;
            check_etag(&name, &etag, old.as_ref())?;
        }
        let before = old.as_ref().map(manifest).transpose()?;
        let after = Some(manifest(&row)?);
        let previous_set = old.map(|old| old.apply_set).filter(|old| *old != set.name).unwrap_or_default();
        Ok(Change { name, action: action.into(), before, after, bearer: String::new(), previous_set })
    }

    /// The etag that what is stored must have. That of a copy was read of another resource, or in another registry: of one that
    /// is new it says nothing, and one that is there already must not be taken for the other.
    async fn etag_of<K: KindRules>(&mut self, message: &K, old: Option<&Row>) -> Result<String, Error> {
        let Some(meta) = message.meta().filter(|meta| !meta.etag.is_empty()) else {
            return Ok(String::new());
        };
        if old.is_none() && !meta.uid.is_empty() {
            let last = self.tx.last_uid(K::KIND, message.name()).await?;
            return Ok(if last.as_ref() == Some(&meta.uid) { meta.etag.clone() } else { String::new() });
        }
        Ok(meta.etag.clone())
    }

    async fn with_bearer(&mut self, change: Change) -> Result<Change, Error> {
        // A name that is none was noted already, and ends the write.
        let Some(row) = self.tx.get(Kind::Token, &change.name).await? else { return Ok(change) };
        let (row, bearer) = self.sign(&row).await?;
        Ok(Change { after: Some(manifest(&row)?), bearer, ..change })
    }

    /// Deletes what is not wanted any more. Entries go with their upstreams.
    async fn delete_all(&mut self, rows: &[&Row]) -> Result<Vec<Change>, Error> {
        self.referrer_advice = DELETE_REFERRERS_FIRST;
        let mut changes = Vec::new();
        for row in rows {
            self.check_may_write(row).await?;
            changes.push(Change {
                name: row.name.clone(),
                action: ChangeAction::Deleted.into(),
                before: Some(manifest(row)?),
                ..Change::default()
            });
            self.delete(row, false).await?;
        }
        Ok(changes)
    }
}

fn check_request(manifests: &[Manifest], set: &str) -> Result<(), Error> {
    let mut violations = Violations::default();
    let count = manifests.len();
    violations.require(
        count <= MAX_MANIFESTS,
        "manifests",
        format!("has {count} resources; the maximum is {MAX_MANIFESTS}"),
    );
    violations.at_most("apply_set", set, MAX_SET);
    let is_word = !set.chars().any(|c| c.is_whitespace() || c.is_control());
    violations.require(is_word, "apply_set", "must have no blanks and no control characters");
    let mut seen = HashSet::new();
    for (index, manifest) in manifests.iter().enumerate() {
        let field = format!("manifests[{index}]");
        match kind_and_name(manifest) {
            None => violations.add(field, "contains no resource"),
            Some((kind, name)) => match names::parse(kind, name) {
                Err(error) => violations.add(field, format!("has no usable name: {error}")),
                Ok(_) => violations.require(seen.insert(name), field, format!("repeats {name}")),
            },
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
}

/// Parts the tokens that nobody can use any more from what else there is, by name: applied elsewhere, they would be valid again.
fn part_ended(rows: Vec<Row>) -> Result<(Vec<String>, Vec<Row>), Error> {
    let now_us = clock::now_us();
    let (mut ended, mut others) = (Vec::new(), Vec::new());
    for row in rows {
        match row.kind == Kind::Token && token::is_over(&row.message()?, now_us) {
            true => ended.push(row.name),
            false => others.push(row),
        }
    }
    Ok((ended, others))
}

/// The rows that exist for the caller. What is under an upstream is in the same list as that.
fn seen(call: &Call<'_>, mut rows: Vec<Row>) -> Vec<Row> {
    let reads = |row: &Row| call.caller.reads(row.kind.read(), &row.ownership);
    let upstreams = rows.iter().filter(|row| row.kind == Kind::Upstream && reads(row));
    let upstreams: HashSet<String> = upstreams.map(|row| row.name.clone()).collect();
    rows.retain(|row| match row.parent() {
        "" => reads(row),
        upstream => upstreams.contains(upstream),
    });
    rows
}

/// The kinds that are asked for, which the caller may read; where none is, those that they may read.
fn kinds(call: &Call<'_>, words: &[String]) -> Result<Vec<Kind>, Error> {
    if words.is_empty() {
        let exported: Vec<_> = Kind::ALL.iter().copied().filter(|kind| !kind.in_catalogue()).collect();
        return Ok(call.readable(&exported));
    }
    let mut violations = Violations::default();
    let mut kinds = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match Kind::parse(word) {
            Some(kind) => kinds.push(kind),
            None => {
                let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
                let text = format!("is `{word}`, which is no kind; use {}", known.join(", "));
                violations.add(format!("kinds[{index}]"), text);
            }
        }
    }
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    match kinds.iter().find(|kind| !call.caller.holds(kind.read())) {
        None => Ok(kinds),
        Some(kind) => Err(Error::lacks(kind.read())),
    }
}

fn kind_and_name(manifest: &Manifest) -> Option<(Kind, &str)> {
    manifest.resource.as_ref().map(Kind::of_manifest)
}

macro_rules! by_kind {
    ($($(#[$doc:meta])* $kind:ident {
        package: $package:ident, collection: $collection:literal, under_upstream: $under_upstream:literal,
        manifest: $variant:ident $field:literal, read: $read:ident, write: $write:ident,
        output_only: [$($output_only:ident),*],
    })*) => {
        impl Write<'_> {
            async fn replace_any(
                &mut self,
                resource: Any,
                manner: Manner<'_>,
                prefix: &str,
            ) -> Result<Change, Error> {
                match resource {
                    $(Any::$variant(message) => self.replace(message, manner, prefix).await,)*
                }
            }
        }

        fn manifest(row: &Row) -> Result<Manifest, crate::store::StoreError> {
            let resource = match row.kind {
                $(Kind::$kind => row.message::<trunkline::$package::v1::$kind>()?.into_manifest(),)*
            };
            Ok(Manifest { resource: Some(resource) })
        }

        /// Fills in what is not stored: the state.
        fn add_state(manifest: Option<&mut Manifest>, known: &Known) {
            match manifest.and_then(|manifest| manifest.resource.as_mut()) {
                $(Some(Any::$variant(message)) => message.evaluate(&known.around()),)*
                None => {}
            }
        }

        /// Takes off what is output only.
        fn bare(mut manifest: Manifest) -> Manifest {
            match &mut manifest.resource {
                $(Some(Any::$variant(message)) => strip(message),)*
                None => {}
            }
            manifest
        }
    };
}
each_kind!(by_kind);

fn strip<K: KindRules>(message: &mut K) {
    message.take_status();
    let slot = message.meta_slot();
    if let Some(meta) = slot.take() {
        *slot = Some(crate::domain::meta::writable(meta)).filter(|meta| *meta != Default::default());
    }
    if let Some(Some(credential)) = message.secret() {
        credential.version.clear();
    }
}
