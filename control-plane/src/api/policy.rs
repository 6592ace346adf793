//! What is allowed, and why. Decisions are made by what edges are sent, with the code that edges are held to.
//!
//! It must not know how roles and memberships are kept.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use access::decide::{Reason, Request, Unknown};
use access::explain::{Explanation, explain};
use access::method::Methods;
use access::rule::Fact;
use access::world::{Held, Pair, World};
use prost_types::Timestamp;
use serde::de::IgnoredAny;
use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::policy::v1::{Decision, ExplainAccessRequest, ExplainAccessResponse, Ground, Remedy};

use super::Registry;
use super::crud::check_name;
use super::rpc::{Call, Rpc};
use crate::clock;
use crate::domain::{Kind, Violations};
use crate::error::Error;
use crate::rights::{ADMINISTRATOR, Rights, roles};
use crate::snapshot::Published;
use crate::snapshot::content::Snapshot;

/// The method that is meant where none is named.
const METHOD: &str = "tools/call";
/// Bytes of the arguments of a request that is asked about.
const MAX_ARGUMENTS: usize = 64 * 1024;
/// Methods that name a tool, a prompt or a URI.
pub(super) const WITH_TARGET: [&str; 6] = [
    METHOD,
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
];
/// What is said in the place of what does not exist for the caller.
pub(super) const HIDDEN: &str = "a grant that does not exist for you";
/// The same of a rule. What it does is told: who is refused, or held back, would learn it anyway.
const HIDDEN_RULE: &str = "a rule that does not exist for you";
/// The field of one.
const RULES: &str = "rules";

impl Rpc for ExplainAccessRequest {
    type Response = ExplainAccessResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let mut request = read(&self, &call.caller)?;
        let snapshot = call.registry.snapshot();
        let published = Published::read(&snapshot);
        let mut world = published.grants();
        let is_own = call.add_principal(&published, &mut world, &request.principal).await?;
        if let Some(meant) = published.server(&request.server, request.target.as_deref()) {
            world.servers.insert(request.server.clone(), meant.server);
            request.templates = meant.templates;
        }
        let mut found = explain(&world, &request);
        // What one may call exists for oneself, also where one would not find it here.
        let is_known = is_own && found.decision.granted();
        let has_rules = found.decision.grounds.iter().any(is_rule);
        let is_seen = (is_known && !has_rules) || call.exists(Kind::Server, &request.server).await?;
        if !is_known && !is_seen {
            world.servers.clear();
            found = explain(&world, &request);
        }
        if !is_seen {
            found.decision.grounds.iter_mut().filter(|ground| is_rule(ground)).for_each(hide);
        }
        let found = call.masked(found).await?;
        Ok(ExplainAccessResponse { decision: Some(told(found, &request, published.revision())) })
    }
}

fn is_rule(ground: &access::decide::Ground) -> bool {
    ground.field.starts_with(RULES)
}

/// What a rule says is for those who see the server.
fn hide(ground: &mut access::decide::Ground) {
    let (text, field, note) = match is_rule(ground) {
        true => (HIDDEN_RULE, RULES, effect_of_hidden(ground)),
        false => (HIDDEN, "", ""),
    };
    let (text, field, note) = (text.to_owned(), field.to_owned(), note.to_owned());
    *ground = access::decide::Ground { text, field, note, holds: ground.holds, ..Default::default() };
}

/// What becomes of a request by a rule of which nothing else is told.
fn effect_of_hidden(ground: &access::decide::Ground) -> &'static str {
    let effect = ground.text.split(' ').next().unwrap_or_default();
    match (ground.holds, ground.note.is_empty(), effect) {
        (true, true, _) => "",
        (true, false, "mask") if ground.note.starts_with("masks ") => "masks some of the result",
        (true, false, _) => "it depends on what the request brings",
        (false, _, "approve") if ground.note.starts_with("needs an approval ") => {
            "needs an approval by a rule"
        }
        (false, ..) => "",
    }
}

/// Reads a request, all of whose mistakes are told at once.
fn read(asked: &ExplainAccessRequest, caller: &Rights) -> Result<Request, Error> {
    let mut violations = Violations::default();
    let principal = match asked.principal.as_str() {
        "" if caller.name == ADMINISTRATOR => {
            violations.add("principal", "is required: the administrator's bearer calls no servers");
            String::new()
        }
        "" => caller.name.clone(),
        name => name.to_owned(),
    };
    let kinds = ["tokens/", "users/", "serviceAccounts/"];
    let is_one = kinds.iter().any(|kind| principal.strip_prefix(kind).is_some_and(|id| !id.is_empty()));
    if !asked.principal.is_empty() && !is_one {
        violations.add(
            "principal",
            "must be `tokens/{token}`, `users/{user}` or `serviceAccounts/{service_account}`",
        );
    }
    let address = read_address(&asked.from, &mut violations);
    let now_s = read_time(asked.time.as_ref(), &mut violations);
    let (method, target) = read_target(&asked.method, &asked.target, &mut violations);
    let is_named = target.is_some() || !WITH_TARGET.contains(&method.as_str());
    violations.require(is_named, "target", format!("is required: {method} names a tool, a prompt or a URI"));
    let arguments = read_arguments(&asked.arguments_json, asked.has_arguments, &mut violations);
    if violations.is_empty() {
        check_name(Kind::Server, &asked.server)?;
        let server = asked.server.clone();
        return Ok(Request {
            principal,
            server,
            method,
            target,
            address,
            now_s,
            arguments,
            from_anywhere: address.is_none(),
            ..Request::default()
        });
    }
    Err(Error::invalid(violations))
}

/// Reads the address of a client, where one is said.
pub(super) fn read_address(text: &str, violations: &mut Violations) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    text.parse().map_err(|_| violations.add("from", "must be an address such as 10.1.2.3")).ok()
}

/// Reads a time, in seconds since 1970. Where none is said it is now.
pub(super) fn read_time(time: Option<&Timestamp>, violations: &mut Violations) -> i64 {
    match time {
        Some(time) if (0..=253_402_300_799).contains(&time.seconds) => time.seconds,
        Some(_) => {
            violations.add("time", "must be a time between the years 1970 and 9999");
            0
        }
        None => clock::now_us() / 1_000_000,
    }
}

/// Reads the arguments, which a call may do without.
pub(super) fn read_arguments(text: &str, has_arguments: bool, violations: &mut Violations) -> Fact<Vec<u8>> {
    match (has_arguments, text) {
        (true, "") => Fact::Absent,
        (true, text) if text.len() > MAX_ARGUMENTS => {
            violations.add("arguments_json", "must be at most 64 KiB");
            Fact::Later
        }
        (true, text) if serde_json::from_str::<IgnoredAny>(text).is_err() => {
            violations.add("arguments_json", "must be a JSON object, such as {\"path\": \"/srv\"}");
            Fact::Later
        }
        (true, text) => Fact::Is(text.as_bytes().to_vec()),
        (false, "") => Fact::Later,
        (false, _) => {
            violations.add("has_arguments", "must be true where arguments_json is given");
            Fact::Later
        }
    }
}

/// Reads what is asked about: a method, and what it names. Empty: nothing.
pub(super) fn read_target(
    method: &str,
    target: &str,
    violations: &mut Violations,
) -> (String, Option<String>) {
    let method = if method.is_empty() { METHOD } else { method };
    if !Methods::KNOWN.contains(&method) {
        let why = Methods::new(&[method.to_owned()])
            .err()
            .map_or_else(|| "must be one method, such as tools/call".to_owned(), |error| error.to_string());
        violations.add("method", why);
    }
    let names_nothing = target.is_empty() || WITH_TARGET.contains(&method);
    violations.require(names_nothing, "target", format!("must be empty: {method} names nothing"));
    (method.to_owned(), Some(target.to_owned()).filter(|target| !target.is_empty()))
}

impl Registry {
    /// What edges are sent at present.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }
}

impl Call<'_> {
    /// Whether a resource exists for the caller.
    pub(super) async fn exists(&self, kind: Kind, name: &str) -> Result<bool, Error> {
        match self.find(kind, name).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds a principal to a world, if it exists for the caller. Returns whether it is themselves or a token of theirs; about others they
    /// may ask only with `access.explain`, whether those exist or not.
    async fn add_principal(
        &self,
        published: &Published<'_>,
        world: &mut World,
        name: &str,
    ) -> Result<bool, Error> {
        if name.starts_with("tokens/") {
            return self.add_token(published, world, name).await;
        }
        let is_own = name == self.caller.name;
        self.check_may_ask(is_own)?;
        let found = self.registry.store().standings_named(&[name]).await?.pop();
        if let Some(standing) = found.filter(|standing| !standing.is_disabled)
            && (is_own || self.sees_person(&standing.rights))
        {
            world.people.insert(name.to_owned(), held(&standing.rights));
        }
        Ok(is_own)
    }

    async fn add_token(
        &self,
        published: &Published<'_>,
        world: &mut World,
        name: &str,
    ) -> Result<bool, Error> {
        let owner = match self.find(Kind::Token, name).await {
            Ok(row) => Some(row.ownership.owner),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_own = owner.as_ref().is_some_and(|owner| *owner == self.caller.name);
        self.check_may_ask(is_own)?;
        if let (Some(owner), Some(mut token)) = (owner, published.token(name)) {
            if let Some(ceiling) = &mut token.ceiling {
                ceiling.name = owner;
            }
            world.tokens.insert(name.to_owned(), token);
        }
        Ok(is_own)
    }

    fn check_may_ask(&self, is_own: bool) -> Result<(), Error> {
        match is_own || self.caller.holds(Permission::AccessExplain) {
            true => Ok(()),
            false => Err(Error::lacks(Permission::AccessExplain)),
        }
    }

    /// Whether the caller sees somebody: everybody, or who has a part in a team in which they see people.
    pub(super) fn sees_person(&self, rights: &Rights) -> bool {
        let sees_in = |team: &str| self.caller.in_team(team).contains(Permission::PeopleRead);
        self.caller.everywhere().contains(Permission::PeopleRead) || rights.seen_teams().any(sees_in)
    }

    /// Takes out what names a role or a team that does not exist for the caller.
    async fn masked(&self, mut found: Explanation) -> Result<Explanation, Error> {
        if self.caller.sees_all() {
            return Ok(found);
        }
        let texts = found.decision.grounds.iter().flat_map(|ground| [&ground.resource, &ground.text]);
        let changed = found.remedies.iter().map(|remedy| remedy.resource());
        let texts: Vec<&str> = texts.map(String::as_str).chain(changed).collect();
        let hidden = self.hidden(&texts).await?;
        for ground in &mut found.decision.grounds {
            if names(&ground.resource, &hidden) || names(&ground.text, &hidden) {
                hide(ground);
            }
        }
        found.remedies.retain(|remedy| !hidden.contains(remedy.resource()));
        Ok(found)
    }

    /// The roles and teams that texts name and that do not exist for the caller.
    pub(super) async fn hidden(&self, texts: &[&str]) -> Result<BTreeSet<String>, Error> {
        let named: BTreeSet<&str> = texts.iter().flat_map(|text| words(text)).collect();
        let mut hidden = BTreeSet::new();
        for name in named {
            let kind = match name.split_once('/') {
                Some(("teams", _)) => Kind::Team,
                Some(("roles", _)) if roles::permissions_of(name).is_none() => Kind::Role,
                _ => continue,
            };
            let is_theirs = self.caller.teams().contains(name)
                || self.caller.roles().iter().any(|held| held.role == name);
            if !is_theirs && !self.exists(kind, name).await? {
                hidden.insert(name.to_owned());
            }
        }
        Ok(hidden)
    }
}

/// What somebody holds at edges.
pub(super) fn held(rights: &Rights) -> Held {
    let pairs = rights.grants().into_iter().map(|(role, team)| Pair { role, team });
    Held { name: rights.name.clone(), uid: rights.uid.clone(), pairs: pairs.collect() }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ','])
}

/// Whether a text names one of these.
pub(super) fn names(text: &str, hidden: &BTreeSet<String>) -> bool {
    words(text).any(|word| hidden.contains(word))
}

/// The decision as the contract has it.
fn told(found: Explanation, request: &Request, revision: i64) -> Decision {
    let Explanation { decision, remedies, limits } = found;
    let is_open = decision.refused.is_none() && !decision.open.is_empty();
    let depends_on = decision.depends_on;
    let text = sentence(&decision, request);
    let remedies = remedies.into_iter().map(|remedy| Remedy {
        resource: remedy.resource().to_owned(),
        field: remedy.field(),
        change: remedy.text(),
        command: remedy.command,
    });
    let grounds = decision.grounds.into_iter().map(|ground| Ground {
        resource: ground.resource,
        field: ground.field,
        text: ground.text,
        holds: ground.holds,
        note: ground.note,
    });
    Decision {
        allowed: decision.refused.is_none(),
        reason: decision.refused.map_or_else(String::new, |reason| reason.as_str().to_owned()),
        text,
        grounds: grounds.collect(),
        remedies: remedies.collect(),
        revision,
        limits,
        depends_on_arguments: is_open && (depends_on.arguments || !depends_on.address),
        depends_on_address: is_open && depends_on.address,
    }
}

/// What it depends on, in words.
fn unknown(of: Unknown) -> &'static str {
    match (of.arguments, of.address) {
        (true, true) => "the arguments and the address",
        (false, true) => "the address",
        _ => "the arguments",
    }
}

fn sentence(decision: &access::decide::Decision, request: &Request) -> String {
    let Request { principal, server, method, target, .. } = request;
    let what = target.as_deref().unwrap_or(method);
    match decision.refused {
        None if !decision.open.is_empty() => {
            let unknown = unknown(decision.depends_on);
            format!("{principal} may use {what} at {server}, depending on {unknown}")
        }
        None => format!("{principal} may use {what} at {server}"),
        Some(Reason::UnknownPrincipal) => format!("{principal} does not exist, or is disabled"),
        Some(Reason::Revoked) => format!("{principal} is revoked"),
        Some(Reason::Expired) => format!("{principal} has expired"),
        Some(Reason::Suspended) => format!("the owner of {principal} is disabled"),
        Some(Reason::NotYetValid) => format!("{principal} is not valid yet"),
        Some(Reason::UnreadableLimit) => format!("a limit of {principal} cannot be read"),
        Some(Reason::AddressNotAllowed) => match request.address {
            Some(address) => format!("{principal} may not be used from {}", address.to_canonical()),
            None => format!("{principal} may not be used from everywhere, and no address is given"),
        },
        Some(Reason::OutsideTimeWindow) => format!("{principal} is not valid at this time of the week"),
        Some(Reason::MethodNotGranted) => format!("{principal} may not use {method}"),
        Some(Reason::UnknownServer) => format!("{server} does not exist"),
        Some(Reason::ServerNotGranted) => format!("nothing lets {principal} use {server}"),
        Some(Reason::UnknownTarget) => format!("{server} exposes no {what}"),
        Some(Reason::TargetNotGranted) => format!("nothing lets {principal} use {what} at {server}"),
        Some(Reason::DeniedByRule) => format!("a rule refuses {what} at {server} to {principal}"),
        Some(Reason::ApprovalNeeded) => {
            format!("{principal} may use {what} at {server} once somebody else approves the call")
        }
        Some(Reason::UndecidableRule) => format!("a rule about {what} at {server} cannot be decided"),
    }
}
