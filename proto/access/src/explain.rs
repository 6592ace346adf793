//! A decision with what would turn it, each change tried before it is told. It must not know who asks, nor what they may see.

use crate::change::{Change, Edit, List};
use crate::decide::{Decision, Ground, Reason, Request, decide};
use crate::ruled::{field_of, id_at};
use crate::targets::family;
use crate::window::Window;
use crate::world::{Family, Held, Token, World};

/// A decision, and what would turn it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// What would turn it, the smallest change first. None where it is allowed.
    pub remedies: Vec<Remedy>,
    /// The rates and quotas that count the request.
    pub limits: Vec<String>,
}

/// Changes of one resource that turn a decision together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The changes.
    pub changes: Vec<Change>,
    /// The command that makes them. Empty: there is none.
    pub command: String,
}

impl Remedy {
    /// The resource that changes.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.changes.first().map_or("", |change| &change.resource)
    }

    /// The fields that change.
    #[must_use]
    pub fn field(&self) -> String {
        self.changes.iter().map(Change::field).collect::<Vec<_>>().join(", ")
    }

    /// The changes in words.
    #[must_use]
    pub fn text(&self) -> String {
        self.changes.iter().map(Change::text).collect::<Vec<_>>().join("; ")
    }
}

/// Remedies that are told of at most.
const MAX_REMEDIES: usize = 4;
/// Changes that one has at most: as many as there are things to refuse a request for.
const MAX_CHANGES: usize = 8;
/// How long a token is prolonged.
const PROLONGED_S: i64 = 30 * 86_400;

/// Decides about a request, and finds what would turn the decision.
#[must_use]
pub fn explain(world: &World, request: &Request) -> Explanation {
    let decision = decide(world, request);
    let mut remedies = match decision.refused {
        None => Vec::new(),
        Some(_) => candidates(world, request)
            .into_iter()
            .filter_map(|first| complete(world, request, first))
            .collect(),
    };
    remedies.sort_by_key(|remedy: &Remedy| remedy.changes.len());
    remedies.truncate(MAX_REMEDIES);
    let is_counted = [Family::Tools, Family::Resources, Family::Prompts]
        .iter()
        .any(|family| family.used_by() == request.method);
    let limits = world.tokens.get(&request.principal).filter(|_| is_counted);
    Explanation {
        decision,
        remedies,
        limits: limits.map(|token| token.conditions.limits.clone()).unwrap_or_default(),
    }
}

/// Goes on changing the same resource until the request is allowed.
fn complete(before: &World, request: &Request, first: Change) -> Option<Remedy> {
    let (mut world, mut changes) = (before.clone(), vec![first]);
    changes[0].apply(&mut world);
    while !decide(&world, request).allowed() {
        if changes.len() == MAX_CHANGES {
            return None;
        }
        let next =
            candidates(&world, request).into_iter().find(|next| next.resource == changes[0].resource)?;
        next.apply(&mut world);
        changes.push(next);
    }
    changes.iter_mut().for_each(|change| place_before(before, request, change));
    Some(Remedy { command: Change::command(&world, &changes), changes })
}

/// A rule was found where others were gone already: where it stands is told as it is before any change.
fn place_before(before: &World, request: &Request, change: &mut Change) {
    let Edit::Rule { id, field } = &mut change.edit else { return };
    let server = before.servers.get(&request.server);
    if let Some(there) = server.and_then(|server| field_of(&server.rules, id)) {
        *field = there;
    }
}

/// Changes that may turn what refuses a request first, the smallest first.
fn candidates(world: &World, request: &Request) -> Vec<Change> {
    let decision = decide(world, request);
    let token = world.tokens.get(&request.principal);
    let held = token.map_or_else(|| world.people.get(&request.principal), |token| token.ceiling.as_ref());
    let of_token = |edit: Edit| Change { resource: request.principal.clone(), edit };
    match (decision.refused, token) {
        (Some(Reason::Expired), Some(_)) => {
            vec![of_token(Edit::Expiry(request.now_s.saturating_add(PROLONGED_S)))]
        }
        (Some(Reason::NotYetValid), Some(_)) => vec![of_token(Edit::NotBefore(request.now_s))],
        (Some(Reason::AddressNotAllowed), Some(_)) => {
            let address = request.address.map(|address| address.to_canonical().to_string());
            address.map(|address| of_token(Edit::Add(List::From, address))).into_iter().collect()
        }
        (Some(Reason::OutsideTimeWindow), Some(token)) => {
            widened(token, request.now_s).into_iter().map(of_token).collect()
        }
        (Some(Reason::MethodNotGranted), Some(_)) => {
            vec![of_token(Edit::Add(List::Methods, request.method.clone()))]
        }
        (Some(Reason::ServerNotGranted), _) => {
            let own = token.filter(|token| !has_server(&token.scope.servers, &request.server));
            match own {
                Some(_) => vec![of_token(Edit::Add(List::Servers, request.server.clone()))],
                None => held.map(|held| into_reach(world, request, held)).unwrap_or_default(),
            }
        }
        (Some(Reason::TargetNotGranted), _) => grants(world, request, &decision),
        (Some(Reason::DeniedByRule | Reason::UndecidableRule), _) => {
            without_rule(world, request, &decision).into_iter().collect()
        }
        (Some(Reason::ApprovalNeeded), _) => {
            let approved = decision.grounds.last().map(approval);
            approved.into_iter().chain(without_rule(world, request, &decision)).collect()
        }
        _ => Vec::new(),
    }
}

fn has_server(servers: &[String], server: &str) -> bool {
    servers.iter().any(|named| named == "*" || named == server)
}

/// Each window as wide as it must be.
fn widened(token: &Token, now_s: i64) -> Vec<Edit> {
    let windows = token.conditions.windows.iter().enumerate();
    let read = windows.filter_map(|(at, text)| Some((at, text.parse::<Window>().ok()?.widened(now_s)?)));
    read.map(|(at, window)| Edit::Window(at, window.to_string())).collect()
}

/// What brings a server into the reach of somebody: they join its team, or a team of theirs gets it.
fn into_reach(world: &World, request: &Request, held: &Held) -> Vec<Change> {
    let Some(server) = world.servers.get(&request.server) else { return Vec::new() };
    let mut found = Vec::new();
    if world.teams.contains_key(&server.team) && !held.name.is_empty() {
        found.push(Change { resource: server.team.clone(), edit: Edit::Member(held.name.clone()) });
    }
    let teams = held.pairs.iter().map(|pair| &pair.team).filter(|team| world.teams.contains_key(*team));
    let mut teams: Vec<_> = teams.collect();
    teams.dedup();
    found.extend(teams.into_iter().map(|team| Change {
        resource: team.clone(),
        edit: Edit::Add(List::Servers, request.server.clone()),
    }));
    found
}

/// A rule less: the one that refuses.
fn without_rule(world: &World, request: &Request, decision: &Decision) -> Option<Change> {
    let (server, refusing) = (world.servers.get(&request.server)?, decision.grounds.last()?);
    let id = id_at(&server.rules, &refusing.resource, &refusing.field)?.to_owned();
    Some(Change {
        resource: refusing.resource.clone(),
        edit: Edit::Rule { id, field: refusing.field.clone() },
    })
}

/// The approval that a rule waits for.
fn approval(holding: &Ground) -> Change {
    let (resource, field) = (holding.resource.clone(), holding.field.clone());
    Change { resource, edit: Edit::Approval { field } }
}

/// What grants the target: another name in the scope that refused it, or the method without which nothing is shown.
fn grants(world: &World, request: &Request, decision: &Decision) -> Vec<Change> {
    let Some(server) = world.servers.get(&request.server) else { return Vec::new() };
    let (Some(family), Some(target)) = (family(server, request), &request.target) else { return Vec::new() };
    let Some(refusing) = decision.grounds.last() else { return Vec::new() };
    let edit = match refusing.field.starts_with("conditions.methods") {
        true => Edit::Add(List::Methods, family.used_by().to_owned()),
        false => Edit::Add(List::Targets(family), target.clone()),
    };
    vec![Change { resource: refusing.resource.clone(), edit }]
}
