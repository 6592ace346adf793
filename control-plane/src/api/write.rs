//! The path of every write of a resource, one or ten thousand of them: checks, secrets, references and
//! collisions of exposed names, all within one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};

use egress::Rule;
use tonic::Code;
use trunkline::identity::v1::Team;
use trunkline::registry::v1::Server;

use super::Registry;
use super::guard::Found;
use super::ownership::foreign_upstreams;
use super::rpc::Call;
use super::rules::check_rules;
use super::secrets::SecretChange;
use crate::domain::credential::Moved;
use crate::domain::members::{self, Collision, Conflict, Exposure, LESS};
use crate::domain::nearest::nearest;
use crate::domain::{Catalogue, Kind, KindRules, Reference, Steps, Violations, meta, names, scope};
use crate::error::Error;
use crate::rights::Ownership;
use crate::store::{Membership, Row, Tx};

/// The number of missing resources of which an error says what may have been meant.
const ADVISED: usize = 20;
/// The number of referrers that an error names.
const REFERRERS_NAMED: usize = 10;
/// The steps in which all servers of a write are compared with what upstreams have, some 0.2 s: other writes wait meanwhile.
pub(super) const MAX_STEPS: usize = 4 * members::MAX_STEPS;
/// What to do about a resource that is used by others, where it was named to be deleted.
const DELETE_ANYWAY: &str = "; set `force` to delete it anyway";
/// The same where it is in the way of a prune, whose `force` is for something else.
pub(super) const DELETE_REFERRERS_FIRST: &str = ", so that prune leaves it alone; let what uses it refer to the new name if it was renamed, or else change or delete that first";

/// Checks an address that a resource says itself; a name is checked each time it is resolved.
pub(super) fn check_address<K: KindRules>(message: &K, rule: &Rule, violations: &mut Violations) {
    if let Some((field, address)) = message.literal_address()
        && let Err(refusal) = rule.check(address)
    {
        violations.add(field, format!("cannot be connected to: {refusal}"));
    }
}

/// A write that is under way.
pub(super) struct Write<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) registry: &'a Registry,
    pub(super) tx: Tx,
    /// Whose upstreams are, as far as that was looked up.
    pub(super) upstreams: HashMap<String, Ownership>,
    /// Names of principals that exist, as far as that was looked up.
    pub(super) principals: HashSet<String>,
    /// Servers that teams of the caller may call beside their own, once that was looked up.
    pub(super) lent: Option<HashSet<String>>,
    pub(super) violations: Violations,
    pending: Vec<(String, Reference)>,
    servers: Vec<(String, Option<Server>, Server)>,
    pub(super) teams: Vec<(String, Option<Team>, Team)>,
    deleted: Vec<String>,
    deleted_teams: Vec<String>,
    /// The tokens that were given client certificates, and which.
    pub(super) certificates: Vec<(String, String)>,
    /// What to do about what is used by others, and is to be deleted.
    pub(super) referrer_advice: &'static str,
}

impl<'a> Write<'a> {
    pub(super) async fn begin(call: &'a Call<'a>) -> Result<Self, Error> {
        let tx = call.registry.store().write().await?;
        Ok(Self {
            call,
            registry: call.registry,
            tx,
            upstreams: HashMap::new(),
            principals: HashSet::new(),
            lent: None,
            violations: Violations::default(),
            pending: Vec::new(),
            servers: Vec::new(),
            teams: Vec::new(),
            deleted: Vec::new(),
            deleted_teams: Vec::new(),
            certificates: Vec::new(),
            referrer_advice: DELETE_ANYWAY,
        })
    }

    /// Checks a message and stores it over `old`. What is wrong with its fields is gathered, under `prefix`,
    /// and told by `finish`.
    pub(super) async fn put<K: KindRules>(
        &mut self,
        mut message: K,
        old: Option<&Row>,
        set: Option<Membership<'_>>,
        prefix: &str,
    ) -> Result<Row, Error> {
        message.set_defaults();
        let before: Option<K> = old.map(Row::message).transpose()?;
        if before.is_none() {
            self.give_owner(&mut message);
        }
        let mut violations = self.wrong_fields(&message, before.as_ref());
        let moved = Moved::between(before.as_ref().and_then(KindRules::destination), message.destination());
        let change = self.split_secret(&mut message, old, moved.as_ref(), &mut violations).await?;
        self.violations.extend_under(prefix, violations);
        // Of what cannot be right, nobody asks whose it is.
        if self.violations.is_empty() {
            self.check_ownership(&message, before.as_ref(), prefix).await?;
            self.check_scope(&message, before.as_ref(), prefix).await?;
            self.check_references(&message, before.as_ref(), moved.is_some(), prefix)?;
            self.check_if_role(before.as_ref(), &message).await?;
            self.check_stays_under_rules(&message, before.as_ref()).await?;
            self.check_certificates(&message, before.as_ref())?;
            if before.is_none() {
                self.check_name_is_free(K::KIND, message.name()).await?;
            }
        }
        if let Some(before) = &before {
            message.note_write(before, self.tx.now_us());
        }

        self.remember(&message, before, prefix);
        self.upstreams.remove(message.name());
        let row = self.tx.put(&message, old, set).await?;
        self.note_makers(&row, old).await?;
        let version =
            message.secret().and_then(|slot| slot.as_ref()).map(|c| c.version.clone()).unwrap_or_default();
        self.registry.store_secret(&mut self.tx, &row.name, &row.uid, &version, change).await?;
        Ok(row)
    }

    fn wrong_fields<K: KindRules>(&self, message: &K, before: Option<&K>) -> Violations {
        let mut violations = Violations::default();
        if let Err(error) = names::parse(K::KIND, message.name()) {
            violations.add("name", error.to_string());
        }
        message.validate(&mut violations);
        if !K::HAS_OWNER {
            meta::validate_unowned(message.meta(), &mut violations);
        }
        scope::check_bytes(message.scope(), before.and_then(KindRules::scope), &mut violations);
        // What is there already must not stand in the way of an edit; it is checked when it is connected to.
        if before.and_then(KindRules::literal_address) != message.literal_address() {
            check_address(message, self.registry.egress_rule(), &mut violations);
        }
        violations
    }

    async fn split_secret<K: KindRules>(
        &mut self,
        message: &mut K,
        old: Option<&Row>,
        moved: Option<&Moved>,
        violations: &mut Violations,
    ) -> Result<SecretChange, Error> {
        let name = message.name().to_owned();
        let Some(slot) = message.secret() else { return Ok(SecretChange::Keep) };
        let stored = if old.is_some() { self.tx.secret(&name).await? } else { None };
        self.registry.split_secret(slot, stored.as_ref(), moved, violations)
    }

    /// Only what this write adds is checked: what was forced away before must not stand in the way of an edit.
    fn remember<K: KindRules>(&mut self, message: &K, before: Option<K>, prefix: &str) {
        let known: HashSet<String> =
            before.iter().flat_map(KindRules::all_references).map(|reference| reference.target).collect();
        let own = names::kind_of(message.name()).filter(|kind| kind.in_catalogue());
        let parent = own.and_then(|_| names::upstream_id(message.name())).map(|id| Reference {
            field: "name".to_owned(),
            target: format!("upstreams/{id}"),
            required: true,
        });
        let added = message.all_references().into_iter().filter(|reference| reference.required).chain(parent);
        let added = added.filter(|reference| !known.contains(&reference.target)).map(|reference| {
            let field = format!("{prefix}{}", reference.field);
            (message.name().to_owned(), Reference { field, ..reference })
        });
        self.pending.extend(added);
        if let Some(server) = message.exposes() {
            let before = before.as_ref().and_then(KindRules::exposes);
            self.servers.push((prefix.to_owned(), before.cloned(), server.clone()));
        }
        if let Some(team) = message.rules_servers() {
            let before = before.as_ref().and_then(KindRules::rules_servers);
            self.teams.push((prefix.to_owned(), before.cloned(), team.clone()));
        }
    }

    /// Deletes a resource. Whether others still refer to it is looked at by `finish`, unless forced.
    pub(super) async fn delete(&mut self, row: &Row, force: bool) -> Result<(), Error> {
        if !force {
            self.deleted.push(row.name.clone());
        }
        self.upstreams.remove(&row.name);
        match row.kind {
            Kind::Team => {
                self.deleted_teams.push(row.name.clone());
                self.empty_team(row, force).await?;
            }
            Kind::Role => self.unbind_role(row, force).await?,
            _ => {}
        }
        Ok(self.tx.delete(row).await?)
    }

    /// The checks that need the whole write to be there.
    pub(super) async fn finish(mut self) -> Result<Tx, Error> {
        if !self.violations.is_empty() {
            return Err(Error::invalid(self.violations));
        }
        let pending = std::mem::take(&mut self.pending);
        self.check_exist(pending).await?;
        self.check_referrers().await?;
        for team in std::mem::take(&mut self.deleted_teams) {
            self.check_owns_nothing(&team).await?;
        }
        self.check_certificates_unique().await?;
        self.check_names().await?;
        self.check_team_rules().await?;
        Ok(self.tx)
    }

    /// Checks that what resources refer to exists for the caller.
    pub(super) async fn check_exist(&mut self, references: Vec<(String, Reference)>) -> Result<(), Error> {
        let mut missing = Violations::default();
        let mut targets = BTreeSet::new();
        for (referrer, reference) in references {
            let kind = names::kind_of(&reference.target);
            let found = match kind {
                Some(kind) => self.exists(kind, &reference.target).await?,
                None => false,
            };
            if !found {
                let kind = kind.filter(|_| targets.len() < ADVISED);
                let advice = self.advice(kind, &reference.target).await?;
                let target = &reference.target;
                let text = format!("of {referrer} refers to {target}, which does not exist; {advice}");
                missing.add(reference.field, text);
                targets.insert(reference.target);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let targets: Vec<String> = targets.into_iter().collect();
        Err(Error::broken(Code::FailedPrecondition, "REFERENCE_NOT_FOUND", missing)
            .with("targets", targets.join(",")))
    }

    async fn exists(&mut self, kind: Kind, target: &str) -> Result<bool, Error> {
        Ok(match self.look(kind, target).await? {
            Found::Seen(_) => true,
            Found::Hidden => kind == Kind::Server && self.is_lent(target).await?,
            Found::Nothing => false,
        })
    }

    /// What to do about a resource that does not exist.
    async fn advice(&mut self, kind: Option<Kind>, target: &str) -> Result<String, Error> {
        let Some(kind) = kind.filter(|kind| !kind.in_catalogue()) else {
            return Ok("create it first".to_owned());
        };
        let known = self.tx.names(kind, &self.call.viewer(kind)).await?;
        let near = nearest(names::id(target), known.iter().map(|name| names::id(name)));
        Ok(near.map_or("create it first".to_owned(), |near| {
            format!("did you mean {}/{near}?", kind.collection())
        }))
    }

    async fn check_referrers(&mut self) -> Result<(), Error> {
        for name in std::mem::take(&mut self.deleted) {
            let by = self.tx.referrers(&name).await?;
            if !by.is_empty() {
                let by = self.named_as_seen(by).await?;
                let text = format!("{name} is used by {by}{}", self.referrer_advice);
                return Err(Error::new(Code::FailedPrecondition, "RESOURCE_REFERENCED", text)
                    .with("name", name)
                    .with("referrers", by));
            }
        }
        Ok(())
    }

    /// Refuses a name that others still use, since what had it was deleted with force: they would select, or let others call, whatever has it
    /// next. Whoever may change all of them may create it.
    async fn check_name_is_free(&mut self, kind: Kind, name: &str) -> Result<(), Error> {
        if !matches!(kind, Kind::Upstream | Kind::Server) {
            return Ok(());
        }
        let by = self.tx.referrers(name).await?;
        let mut others = Vec::new();
        for referrer in by {
            let Some(of) = names::kind_of(&referrer) else { continue };
            let Some(row) = self.tx.get(of, &referrer).await? else { continue };
            if !self.call.caller.may(of.write(), &self.ownership(&row).await?) {
                others.push(referrer);
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        let by = self.named_as_seen(others).await?;
        let text = format!(
            "{name} existed before and is still used by {by}, so that only who may change that creates it again; choose another name"
        );
        Err(Error::new(Code::FailedPrecondition, "NAME_STILL_USED", text)
            .with("name", name)
            .with("referrers", by))
    }

    /// Names those that exist for the caller, and counts the others.
    pub(super) async fn named_as_seen(&mut self, all: Vec<String>) -> Result<String, Error> {
        let mut seen = Vec::new();
        for name in &all {
            let row = match names::kind_of(name) {
                Some(kind) if seen.len() < REFERRERS_NAMED => self.look(kind, name).await?.seen(),
                _ => None,
            };
            seen.extend(row.map(|row| row.name));
        }
        // Whose names are too many, and whose may not be told, are counted together.
        let more = all.len() - seen.len();
        Ok(match (seen.join(", "), more) {
            (named, 0) => named,
            (named, more) if named.is_empty() => format!("{more} resources that you may not see"),
            (named, more) => format!("{named} and {more} more"),
        })
    }

    /// Refuses exposed names that this write makes collide.
    async fn check_names(&mut self) -> Result<(), Error> {
        let servers = std::mem::take(&mut self.servers);
        if servers.is_empty() {
            return Ok(());
        }
        let known = self.registry.catalogue_within(&mut self.tx).await?;
        let mut left = Steps::new(MAX_STEPS);
        for (prefix, before, after) in &servers {
            // Requests that write nothing go on meanwhile.
            tokio::task::yield_now().await;
            let foreign = foreign_upstreams(before.as_ref(), after, prefix, &known.catalogue);
            if !foreign.is_empty() {
                return Err(Error::broken(Code::FailedPrecondition, "UPSTREAM_NOT_USABLE", foreign));
            }
            let exposed = evaluate(after, &known.catalogue, &mut left);
            let exposed_before = before.as_ref().map(|before| evaluate(before, &known.catalogue, &mut left));
            let was_too_much = exposed_before.as_ref().is_some_and(|before| before.too_much.is_some());
            if let Some(field) = exposed.too_much.as_ref().filter(|_| !was_too_much) {
                return Err(too_much(&format!("{prefix}{field}")));
            }
            let known_before = before.as_ref().zip(exposed_before.as_ref());
            check_rules(known_before, (after, &exposed), prefix)?;
            if let Some(before) = known_before {
                self.check_stays_covered(before, (after, &exposed), &known.catalogue, &mut left)?;
            }
            let before = exposed_before.map(|before| before.conflicts);
            let entries = |conflict: &Conflict| {
                (conflict.exposed_name.clone(), conflict.kept.clone(), conflict.left_out.clone())
            };
            let before: HashSet<_> = before.iter().flatten().map(entries).collect();
            let mut new = exposed.conflicts;
            new.retain(|new| !before.contains(&entries(new)));
            if let Some(first) = new.first() {
                let mut violations = Violations::default();
                for Conflict { collision, exposed_name, kept, left_out, field } in new.iter().take(20) {
                    let text = match collision {
                        Collision::Name => format!(
                            "{kept} and {left_out} would both be exposed as `{exposed_name}`; give one of them an `alias`"
                        ),
                        Collision::Uri => format!(
                            "URIs of `{exposed_name}` lead to {kept}, which is older, so {left_out} cannot be exposed; \
                             select only one of them, or expose URIs with prefixes"
                        ),
                    };
                    violations.add(format!("{prefix}{field}"), text);
                }
                return Err(Error::broken(Code::FailedPrecondition, "EXPOSED_NAME_COLLISION", violations)
                    .with("exposed_name", first.exposed_name.clone())
                    .with("first", first.kept.clone())
                    .with("second", first.left_out.clone()));
            }
        }
        Ok(())
    }
}

/// What a server exposes, in so many steps of those that are left for the whole write.
pub(super) fn evaluate<'a>(server: &'a Server, catalogue: &'a Catalogue, left: &mut Steps) -> Exposure<'a> {
    let mut steps = Steps::new(left.left().min(members::MAX_STEPS));
    let exposure = members::evaluate_within(server, catalogue, &mut steps);
    let _is_enough = left.take(steps.taken());
    exposure
}

/// The members of a server, or of all servers that are written at once, take too long to be compared.
pub(super) fn too_much(field: &str) -> Error {
    let mut violations = Violations::default();
    let text = format!(
        "takes too long to be compared with what upstreams have; {LESS}, or write fewer servers at once"
    );
    violations.add(field, text);
    Error::broken(Code::FailedPrecondition, "TOO_MUCH_TO_MATCH", violations)
}

/// Refuses a lost race: an etag that is sent must be the one there is.
pub(super) fn check_etag(name: &str, sent: &str, row: Option<&Row>) -> Result<(), Error> {
    let current = row.map(Row::etag).unwrap_or_default();
    if sent.is_empty() || sent == current {
        return Ok(());
    }
    let text = match row {
        Some(_) => format!("{name} has changed since its etag was read; read it again and retry"),
        None => {
            format!("{name} has an etag, but does not exist any more; remove `meta.etag` to create it anew")
        }
    };
    Err(Error::new(Code::Aborted, "ETAG_MISMATCH", text).with("name", name).with("etag", current))
}

/// Refuses to take one resource for another: what is sent with an etag is of the resource that there is.
pub(super) fn check_uid(name: &str, etag: &str, sent: &str, row: Option<&Row>) -> Result<(), Error> {
    let Some(row) = row.filter(|row| !etag.is_empty() && !sent.is_empty() && row.uid != sent) else {
        return Ok(());
    };
    let text = format!(
        "{name} exists, and is another resource than the one that was read; remove `meta.etag` to write over it"
    );
    Err(Error::new(Code::Aborted, "ETAG_MISMATCH", text)
        .with("name", name)
        .with("etag", row.etag())
        .with("uid", row.uid.clone()))
}

/// The name of a new resource from the parts of a create request.
pub(super) fn new_name(
    kind: Kind,
    parent: Option<&str>,
    id_field: &str,
    id: &str,
    given: &str,
) -> Result<String, Error> {
    let mut violations = Violations::default();
    violations.require(!id.is_empty(), id_field, "is required");
    let name = if let Some(parent) = parent {
        if let Err(error) = names::parse(Kind::Upstream, parent) {
            violations.add("parent", error.to_string());
        }
        format!("{parent}/{}/{id}", kind.collection())
    } else {
        format!("{}/{id}", kind.collection())
    };
    if violations.is_empty()
        && let Err(error) = names::parse(kind, &name)
    {
        violations.add(id_field, error.to_string());
    }
    let agrees = given.is_empty() || given == name;
    violations.require(agrees, "name", format!("is `{given}`, but must be `{name}`, as the ids say"));
    if violations.is_empty() { Ok(name) } else { Err(Error::invalid(violations)) }
}
