//! What a write says of whose things are, and what it hands on: nobody gives what they do not have, nor makes a server reach what its
//! owner does not.

use std::collections::HashSet;

use tonic::Code;
use trunkline::common::v1::{Permission, Visibility};
use trunkline::identity::v1::Team;
use trunkline::registry::v1::Server;

use super::guard::Found;
use super::write::Write;
use crate::domain::members::{self, Target};
use crate::domain::scope::{self, ALL};
use crate::domain::{Catalogue, Kind, KindRules, Reference, Violations, names};
use crate::error::Error;
use crate::rights::transfer::{NotTheirsToGive, check_transfer};
use crate::rights::{ADMINISTRATOR, Ownership, permission_set};
use crate::store::Row;

const CALL: Permission = Permission::ServersCall;

/// Whether somebody may let others call a server.
enum Calling {
    Allowed,
    /// They see it, and may not call it themselves.
    Refused(String),
    /// It does not exist for them.
    Unknown,
}

impl Write<'_> {
    /// What a person makes, and gives to no team, is theirs.
    pub(super) fn give_owner<K: KindRules>(&self, message: &mut K) {
        let caller = &self.call.caller;
        if !K::HAS_OWNER || caller.name == ADMINISTRATOR || caller.name.is_empty() {
            return;
        }
        let meta = message.meta_slot().get_or_insert_default();
        if meta.owner.is_empty() && meta.team.is_empty() {
            meta.owner.clone_from(&caller.name);
        }
    }

    /// Remembers who makes a token, and who had it and gives it away: they may have kept its bearer.
    pub(super) async fn note_makers(&mut self, row: &Row, old: Option<&Row>) -> Result<(), Error> {
        let whose = |row: &Row| (row.ownership.owner.clone(), row.ownership.team.clone());
        if row.kind != Kind::Token || old.is_some_and(|old| whose(old) == whose(row)) {
            return Ok(());
        }
        let caller = self.call.caller.uid.clone();
        self.tx.note_token_maker(&row.uid, &caller).await?;
        if let Some(old) = old
            && let Some(before) = self.tx.principal(&old.ownership.owner).await?
        {
            self.tx.note_token_maker(&row.uid, &before.uid).await?;
        }
        Ok(())
    }

    /// Checks that the caller may make a resource belong as it says.
    pub(super) async fn check_ownership<K: KindRules>(
        &mut self,
        message: &K,
        before: Option<&K>,
        prefix: &str,
    ) -> Result<(), Error> {
        if !K::HAS_OWNER {
            return self.check_may_write_under(message).await;
        }
        let (was, is) = (before.map(KindRules::ownership), message.ownership());
        check_transfer(&self.call.caller, K::KIND.write(), was.as_ref(), &is)
            .map_err(|error| not_theirs(&error, message.name()))?;
        if is.owner.is_empty() || was.is_some_and(|was| was.owner == is.owner) {
            return Ok(());
        }
        // Who has a name later must not inherit what was given to nobody.
        if !self.principals.contains(&is.owner) {
            if !self.tx.has_principal(&is.owner).await? {
                return Err(no_such_owner(message.name(), &is.owner, prefix));
            }
            self.principals.insert(is.owner);
        }
        Ok(())
    }

    /// The same of what has no owner of its own. That there is no such upstream is told later, in the same words as that it does not
    /// exist for the caller.
    async fn check_may_write_under<K: KindRules>(&mut self, message: &K) -> Result<(), Error> {
        let (caller, write) = (self.call.caller.clone(), K::KIND.write());
        if caller.holds_for_all(write) {
            return Ok(());
        }
        let (name, of) = match names::upstream_id(message.name()).map(names::upstream) {
            Some(upstream) if K::KIND.in_catalogue() => {
                let of = self.ownership_of_upstream(&upstream).await?;
                (upstream, of)
            }
            _ => (message.name().to_owned(), message.ownership()),
        };
        let is_hidden = K::KIND.in_catalogue() && !caller.sees(&of);
        if is_hidden || caller.may(write, &of) { Ok(()) } else { Err(Error::denied(write, &name)) }
    }

    /// Checks that an upstream exists for the caller before it is told what is under it.
    pub(super) async fn check_parent(&mut self, kind: Kind, name: &str, prefix: &str) -> Result<(), Error> {
        if !kind.in_catalogue() || self.call.caller.sees_all() {
            return Ok(());
        }
        let Some(target) = names::upstream_id(name).map(names::upstream) else { return Ok(()) };
        let reference = Reference { field: format!("{prefix}name"), target, required: true };
        self.check_exist(vec![(name.to_owned(), reference)]).await
    }

    /// Checks that the caller may call themselves what a scope lets others call.
    pub(super) async fn check_scope<K: KindRules>(
        &mut self,
        message: &K,
        before: Option<&K>,
        prefix: &str,
    ) -> Result<(), Error> {
        let Some(given) = message.scope().filter(|_| !self.call.caller.holds_for_all(CALL)) else {
            return Ok(());
        };
        let stays = before.filter(|before| before.ownership() == message.ownership());
        if stays.and_then(KindRules::scope).is_some_and(|before| scope::contains(before, given)) {
            return Ok(());
        }
        let (mut violations, mut unknown) = (Violations::default(), Vec::new());
        for (index, server) in given.servers.iter().enumerate() {
            let field = format!("{prefix}scope.servers[{index}]");
            match self.calling(server, K::KIND == Kind::Team).await? {
                Calling::Allowed => {}
                Calling::Refused(problem) => violations.add(field, problem),
                Calling::Unknown => {
                    let reference = Reference { field, target: server.clone(), required: true };
                    unknown.push((message.name().to_owned(), reference));
                }
            }
        }
        match violations.is_empty() {
            true => self.check_exist(unknown).await,
            false => Err(Error::broken(Code::PermissionDenied, "PERMISSION_DENIED", violations)
                .with("permission", permission_set::name(CALL))
                .with("name", message.name())),
        }
    }

    /// Whether the caller may let others call a server. A team has no owner whose rights bound it, so `for_team` counts only what stays
    /// theirs: neither what is public today, nor what another team lends them.
    async fn calling(&mut self, server: &str, for_team: bool) -> Result<Calling, Error> {
        let (call, all) = (permission_set::name(CALL), permission_set::name(Permission::RegistryAll));
        if server == ALL {
            return Ok(Calling::Refused(format!("is every server: that takes {call} and {all}")));
        }
        if !for_team && self.is_lent(server).await? {
            return Ok(Calling::Allowed);
        }
        let Found::Seen(row) = self.look(Kind::Server, server).await? else { return Ok(Calling::Unknown) };
        let (caller, of) = (&self.call.caller, &row.ownership);
        let is_public = !for_team && of.visibility == Visibility::Public && caller.holds(CALL);
        if caller.owns(of) || is_public || caller.may(CALL, of) {
            return Ok(Calling::Allowed);
        }
        let text = format!(
            "is {server}, which you may not call yourself: that takes {call}, as its owner or in its team"
        );
        Ok(Calling::Refused(text))
    }

    /// Whether the caller may call a server of others because a team of theirs may.
    pub(super) async fn is_lent(&mut self, server: &str) -> Result<bool, Error> {
        let lent = match self.lent.take() {
            Some(lent) => lent,
            None => self.find_lent().await?,
        };
        let is_lent = lent.contains(server) || lent.contains(ALL);
        self.lent = Some(lent);
        Ok(is_lent)
    }

    async fn find_lent(&mut self) -> Result<HashSet<String>, Error> {
        let caller = self.call.caller.clone();
        let mut lent = HashSet::new();
        for team in caller.seen_teams().filter(|team| caller.in_team(team).contains(CALL)) {
            let row = self.tx.get(Kind::Team, team).await?;
            let team = row.map(|row| row.message::<Team>()).transpose()?;
            lent.extend(team.and_then(|team| team.scope).into_iter().flat_map(|scope| scope.servers));
        }
        Ok(lent)
    }
}

/// What is wrong with the upstreams that the members of a server name, in so far as that is new: those of others are not for it.
pub(super) fn foreign_upstreams(
    before: Option<&Server>,
    after: &Server,
    prefix: &str,
    catalogue: &Catalogue,
) -> Violations {
    let before = before.filter(|before| before.ownership() == after.ownership());
    let own = catalogue.selecting_as(after);
    let known: HashSet<&str> = before.into_iter().flat_map(literals).map(|(_, id)| id).collect();
    let mut violations = Violations::default();
    for (field, id) in literals(after).filter(|(_, id)| !known.contains(id)) {
        let foreign = |upstream: &&_| !members::may_use(&own, upstream, true);
        if catalogue.upstreams(id).any(|upstream| foreign(&upstream)) {
            let text = format!(
                "selects from upstreams/{id}, which is not for a server {}: make the upstream public, or give both the \
                 same owner or team",
                whose(&own)
            );
            violations.add(format!("{prefix}{field}"), text);
        }
    }
    violations
}

/// The upstreams that members name without a pattern, with the fields that do.
fn literals(server: &Server) -> impl Iterator<Item = (String, &str)> {
    members::lists(server).into_iter().flat_map(|(kind, list)| {
        list.iter().enumerate().filter_map(move |(index, member)| {
            let target = Target::parse(&member.r#match)?;
            let field = format!("{}[{index}].match", kind.collection());
            (!glob::is_pattern(target.upstream)).then_some((field, target.upstream))
        })
    })
}

fn whose(of: &Ownership) -> String {
    match (of.owner.as_str(), of.team.as_str()) {
        (owner, "") => format!("of {owner}"),
        ("", team) => format!("of {team}"),
        (owner, team) => format!("of {owner} in {team}"),
    }
}

fn not_theirs(error: &NotTheirsToGive, name: &str) -> Error {
    let needed = match error {
        NotTheirsToGive::Publish => Permission::RegistryPublish,
        NotTheirsToGive::Team { write, .. } => *write,
        NotTheirsToGive::Owner | NotTheirsToGive::OutOfReach => Permission::RegistryAll,
    };
    Error::new(Code::PermissionDenied, "PERMISSION_DENIED", format!("{name}: {error}"))
        .with("permission", permission_set::name(needed))
        .with("name", name)
}

fn no_such_owner(name: &str, owner: &str, prefix: &str) -> Error {
    let mut violations = Violations::default();
    let text = format!("of {name} is {owner}, who does not exist; create them first");
    violations.add(format!("{prefix}meta.owner"), text);
    Error::broken(Code::FailedPrecondition, "REFERENCE_NOT_FOUND", violations).with("targets", owner)
}
