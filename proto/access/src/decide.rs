//! The decision about one request, looked for in the plainest way: what edges compile is held to it.
//!
//! The order is that of the edge: whether the credential is in force, the address, the time, the method, the server, the target. It must
//! not know how anything is made fast.

use std::net::IpAddr;

use crate::address::AddressRange;
use crate::limit::Limit;
use crate::method::Methods;
use crate::rule::Fact;
use crate::ruled;
use crate::targets::{Exposed, exposed, family, fits};
use crate::text::time;
use crate::window::Window;
use crate::world::{Conditions, Family, Held, Role, Scope, Server, Token, World};

/// A request, as an edge would get it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Who makes it: `tokens/{token}`, `users/{user}` or `serviceAccounts/{service_account}`.
    pub principal: String,
    /// `servers/{server}`.
    pub server: String,
    /// The method.
    pub method: String,
    /// The exposed name or URI. `None`: it names none.
    pub target: Option<String>,
    /// Of a URI: the exposed templates that produce it.
    pub templates: Vec<String>,
    /// The address of the client, where it is known.
    pub address: Option<IpAddr>,
    /// When, in seconds since 1970.
    pub now_s: i64,
    /// The bytes of its arguments. `Later`: any.
    pub arguments: Fact<Vec<u8>>,
    /// Whether rules may not look at the time: it is about all of them.
    pub at_any_time: bool,
    /// Whether rules may not look at the address: it is about all of them.
    pub from_anywhere: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is nobody of this name, or they are disabled.
    UnknownPrincipal,
    /// The token was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its owner is disabled.
    Suspended,
    /// Its time has not begun.
    NotYetValid,
    /// A limit of it cannot be read.
    UnreadableLimit,
    /// No range of addresses has that of the client.
    AddressNotAllowed,
    /// No window is open.
    OutsideTimeWindow,
    /// The method is not among those of the token.
    MethodNotGranted,
    /// There is no such server.
    UnknownServer,
    /// Nothing grants the server.
    ServerNotGranted,
    /// The server exposes no such thing.
    UnknownTarget,
    /// Nothing grants the target.
    TargetNotGranted,
    /// A rule refuses it, or none allows it that must.
    DeniedByRule,
    /// A rule cannot be decided.
    UndecidableRule,
    /// Nothing refuses it, and a rule holds it back until somebody approves it.
    ApprovalNeeded,
}

/// Whether a request is allowed, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Why it is refused. `None`: it is allowed.
    pub refused: Option<Reason>,
    /// What was looked at, in order. The last one of a refusal is what refused it.
    pub grounds: Vec<Ground>,
    /// What lets them at the server, in words: `teams/core as developer`.
    pub through: Vec<String>,
    /// Rules that refuse it or not, depending on what is not known of it, and one that holds it back: `servers/{server}/rules/{rule}`.
    /// They have not refused it.
    pub open: Vec<String>,
    /// What those look at that is not known.
    pub depends_on: Unknown,
    /// The rules of the server that bind what is asked for, or may, by where they stand among all: each that is true or may be and is no
    /// `allow`, and each `allow` that may be true where no other is. Empty where it is refused.
    pub binding: Vec<usize>,
}

/// What is not known of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Its arguments.
    pub arguments: bool,
    /// The address that it comes from.
    pub address: bool,
    /// When it comes.
    pub time: bool,
}

/// A grant or condition that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// What has it: `tokens/ci`, `teams/core`, `roles/developer`, `servers/dev`.
    pub resource: String,
    /// Its field, such as `scope.tools[0]`.
    pub field: String,
    /// What it says.
    pub text: String,
    /// Whether it allows the request.
    pub holds: bool,
    /// Why it does not, where that is more than what it says.
    pub note: String,
}

impl Reason {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPrincipal => "unknown_principal",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::NotYetValid => "not_yet_valid",
            Self::UnreadableLimit => "policy_error",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::OutsideTimeWindow => "outside_time_window",
            Self::MethodNotGranted => "method_not_granted",
            Self::UnknownServer => "unknown_server",
            Self::ServerNotGranted => "server_not_granted",
            Self::UnknownTarget => "unknown_target",
            Self::TargetNotGranted => "target_not_granted",
            Self::DeniedByRule => "denied_by_rule",
            Self::UndecidableRule => "policy_error",
            Self::ApprovalNeeded => "approval_needed",
        }
    }
}

impl Decision {
    /// Whether the request is allowed.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        self.refused.is_none()
    }

    /// Whether it is within the rights of who makes it: it needs nothing more than an approval, if that.
    #[must_use]
    pub const fn granted(&self) -> bool {
        matches!(self.refused, None | Some(Reason::ApprovalNeeded))
    }
}

/// Decides about a request.
#[must_use]
pub fn decide(world: &World, request: &Request) -> Decision {
    let mut look = Look { world, request, decision: Decision::default() };
    let found = match (world.tokens.get(&request.principal), world.people.get(&request.principal)) {
        (Some(token), _) => look.token(token),
        (None, Some(held)) => look.person(held),
        (None, None) => {
            look.refuse(Reason::UnknownPrincipal, &request.principal, "", "", "it does not exist")
        }
    };
    Decision { refused: found.err(), ..look.decision }
}

/// A decision under way.
struct Look<'a> {
    world: &'a World,
    request: &'a Request,
    decision: Decision,
}

/// What grants targets of a server: the scope of a resource.
struct Grantor<'a> {
    resource: &'a str,
    /// `None`: all that the server exposes.
    scope: Option<&'a Scope>,
}

type Found<T = ()> = Result<T, Reason>;

impl<'a> Look<'a> {
    fn token(&mut self, token: &'a Token) -> Found {
        self.in_force(token)?;
        self.readable_limits(&token.conditions)?;
        self.address(&token.conditions)?;
        self.time(&token.conditions)?;
        self.method(&token.conditions, &self.request.method, Reason::MethodNotGranted)?;
        let server = self.server()?;
        let own = self.of_scope(token)?;
        let ceiling = token.ceiling.as_ref().map(|held| self.reach(held, server)).transpose()?;
        let Some((family, exposed)) = self.target(server)? else { return Ok(()) };
        self.method(&token.conditions, family.used_by(), Reason::TargetNotGranted)?;
        self.granted(&[own], family, &exposed)?;
        ceiling.map_or(Ok(()), |grantors| self.granted(&grantors, family, &exposed))?;
        self.ruled(server, token.ceiling.as_ref(), family, &exposed)
    }

    fn person(&mut self, held: &'a Held) -> Found {
        let server = self.server()?;
        let grantors = self.reach(held, server)?;
        let Some((family, exposed)) = self.target(server)? else { return Ok(()) };
        self.granted(&grantors, family, &exposed)?;
        self.ruled(server, Some(held), family, &exposed)
    }

    fn ruled(
        &mut self,
        server: &Server,
        held: Option<&Held>,
        family: Family,
        exposed: &[Exposed<'_>],
    ) -> Found {
        let caller = ruled::caller(self.world, &self.request.principal, held);
        let found = ruled::ruled(server, self.request, &caller, family, exposed);
        self.decision.grounds.extend(found.grounds);
        self.decision.open = found.open;
        self.decision.depends_on = found.depends_on;
        self.decision.binding = found.binding;
        found.refused.map_or(Ok(()), Err)
    }

    fn note(&mut self, holds: bool, resource: &str, field: &str, text: &str, note: &str) {
        let [resource, field, text, note] = [resource, field, text, note].map(str::to_owned);
        self.decision.grounds.push(Ground { resource, field, text, holds, note });
    }

    fn refuse<T>(&mut self, reason: Reason, resource: &str, field: &str, text: &str, note: &str) -> Found<T> {
        self.note(false, resource, field, text, note);
        Err(reason)
    }

    fn in_force(&mut self, token: &Token) -> Found {
        let (request, now) = (self.request, self.request.now_s);
        let name = &request.principal;
        if token.revoked {
            return self.refuse(Reason::Revoked, name, "revokeTime", "", "it is revoked, for ever");
        }
        if let Some(end) = token.expires_s {
            let (text, note) = (time(end), format!("it is {}", time(now)));
            if end <= now {
                return self.refuse(Reason::Expired, name, "expireTime", &text, &note);
            }
            self.note(true, name, "expireTime", &text, "");
        }
        if token.suspended {
            return self.refuse(Reason::Suspended, name, "suspendTime", "", "its owner is disabled");
        }
        if let Some(begin) = token.conditions.not_before_s {
            let (text, note) = (time(begin), format!("it is {}", time(now)));
            if now < begin {
                return self.refuse(Reason::NotYetValid, name, "conditions.notBefore", &text, &note);
            }
            self.note(true, name, "conditions.notBefore", &text, "");
        }
        Ok(())
    }

    fn readable_limits(&mut self, conditions: &Conditions) -> Found {
        let is_unreadable = |text: &&String| Limit::rate(text).is_err() && Limit::quota(text).is_err();
        match conditions.limits.iter().find(is_unreadable) {
            None => Ok(()),
            Some(text) => self.refuse(
                Reason::UnreadableLimit,
                &self.request.principal,
                "conditions.rates",
                text,
                "it cannot be read",
            ),
        }
    }

    /// One of a list must hold. Of those that do all are noted; where none does, each is, with why.
    fn one_of(
        &mut self,
        reason: Reason,
        field: &str,
        list: &[String],
        holds: impl Fn(&str) -> Result<(), String>,
    ) -> Found {
        if list.is_empty() {
            return Ok(());
        }
        let name = &self.request.principal;
        let found: Vec<_> = list.iter().map(|text| holds(text)).collect();
        let any = found.iter().any(Result::is_ok);
        for (at, (text, found)) in
            list.iter().zip(&found).enumerate().filter(|(_, (_, found))| found.is_ok() == any)
        {
            let note = found.as_ref().err().map_or("", String::as_str);
            self.note(any, name, &format!("{field}[{at}]"), text, note);
        }
        if any { Ok(()) } else { Err(reason) }
    }

    fn address(&mut self, conditions: &Conditions) -> Found {
        let address = self.request.address;
        let holds = |text: &str| {
            let range: AddressRange = text.parse().map_err(|_| UNREADABLE.to_owned())?;
            match address {
                None => Err("the address of the client is not known".to_owned()),
                Some(address) if range.contains(address) => Ok(()),
                Some(address) => Err(format!("the client is {}", address.to_canonical())),
            }
        };
        self.one_of(Reason::AddressNotAllowed, "conditions.from", &conditions.from, holds)
    }

    fn time(&mut self, conditions: &Conditions) -> Found {
        let now = self.request.now_s;
        let holds = |text: &str| {
            let window: Window = text.parse().map_err(|_| UNREADABLE.to_owned())?;
            if window.is_open(now) { Ok(()) } else { Err(window.shown(now)) }
        };
        self.one_of(Reason::OutsideTimeWindow, "conditions.windows", &conditions.windows, holds)
    }

    fn method(&mut self, conditions: &Conditions, method: &str, reason: Reason) -> Found {
        if Methods::ALWAYS.contains(&method) {
            return Ok(());
        }
        let noted = |ground: &Ground| ground.holds && ground.field.starts_with("conditions.methods");
        if self.request.method == method && self.decision.grounds.iter().any(noted) {
            return Ok(());
        }
        let holds = |text: &str| match Methods::new(&[text.to_owned()]) {
            Err(_) => Err(UNREADABLE.to_owned()),
            Ok(_) if Methods::covers(text, method) => Ok(()),
            Ok(_) => Err(format!("it is not {method}")),
        };
        self.one_of(reason, "conditions.methods", &conditions.methods, holds)
    }

    fn server(&mut self) -> Found<&'a Server> {
        let name = &self.request.server;
        match self.world.servers.get(name) {
            Some(server) => Ok(server),
            None => self.refuse(Reason::UnknownServer, name, "", "", "it does not exist"),
        }
    }

    /// Whether the scope of a token has the server.
    fn of_scope(&mut self, token: &'a Token) -> Found<Grantor<'a>> {
        let server = &self.request.server;
        let holds = |text: &str| if names_server(text, server) { Ok(()) } else { Err(String::new()) };
        if token.scope.servers.is_empty() {
            let name = &self.request.principal;
            return self.refuse(Reason::ServerNotGranted, name, "scope.servers", "", "it is empty");
        }
        self.one_of(Reason::ServerNotGranted, "scope.servers", &token.scope.servers, holds)?;
        self.decision.through.push(self.request.principal.clone());
        Ok(Grantor { resource: &self.request.principal, scope: Some(&token.scope) })
    }

    /// What lets somebody at the server, each in one of four ways: they may call every server, it is public, it is theirs, it is one of a
    /// team's.
    fn reach(&mut self, held: &'a Held, server: &'a Server) -> Found<Vec<Grantor<'a>>> {
        let roles: Vec<_> =
            held.pairs.iter().filter_map(|pair| Some((pair, self.world.role(pair)?))).collect();
        let everywhere = roles.iter().filter(|(pair, _)| pair.team.is_empty());
        let everywhere = everywhere.fold(Role::default(), |all, (_, role)| Role {
            may_call: all.may_call || role.may_call,
            every_server: all.every_server || role.every_server,
        });
        let may_call = roles.iter().any(|(_, role)| role.may_call);
        let name = self.request.server.as_str();
        let mut found = Vec::new();
        for (pair, role) in &roles {
            let text =
                if pair.team.is_empty() { "everywhere".to_owned() } else { format!("in {}", pair.team) };
            let (resource, field) =
                if pair.role.is_empty() { (&pair.team, "meta.name") } else { (&pair.role, "permissions") };
            let why = if role.may_call { "" } else { "it has not servers.call" };
            self.note(role.may_call, resource, field, &format!("servers.call {text}"), why);
            if pair.team.is_empty() && everywhere.may_call && role.every_server {
                self.note(true, &pair.role, "permissions", "registry.all everywhere", "");
                self.decision.through.push(pair.role.clone());
                found.push(Grantor { resource: &pair.role, scope: None });
            }
        }
        if may_call && server.public {
            self.note(true, name, "meta.visibility", "public", "");
            self.decision.through.push(format!("{name}, which is public"));
            found.push(Grantor { resource: name, scope: None });
        }
        if may_call && !server.owner_uid.is_empty() && server.owner_uid == held.uid {
            self.note(true, name, "meta.owner", &held.name, "");
            self.decision.through.push(format!("{name}, as its owner"));
            found.push(Grantor { resource: name, scope: None });
        }
        for (pair, _) in roles.iter().filter(|(pair, role)| !pair.team.is_empty() && role.may_call) {
            found.extend(self.by_team(&pair.team, &pair.role, server));
        }
        if found.is_empty() { self.no_reach(server, may_call) } else { Ok(found) }
    }

    fn by_team(&mut self, team: &'a str, role: &str, server: &Server) -> Option<Grantor<'a>> {
        let (name, scope) = (self.request.server.as_str(), self.world.teams.get(team)?);
        let is_own = server.team == team;
        if is_own {
            self.note(true, name, "meta.team", team, "");
        }
        let named = scope.servers.iter().enumerate().filter(|(_, text)| names_server(text, name));
        let named: Vec<_> = named.collect();
        for (at, text) in &named {
            self.note(true, team, &format!("scope.servers[{at}]"), text, "");
        }
        if !is_own && named.is_empty() {
            return None;
        }
        let role = role.strip_prefix("roles/").unwrap_or(role);
        let through = if role.is_empty() { team.to_owned() } else { format!("{team} as {role}") };
        self.decision.through.push(through);
        Some(Grantor { resource: team, scope: Some(scope) })
    }

    fn no_reach<T>(&mut self, server: &Server, may_call: bool) -> Found<T> {
        let name = &self.request.server;
        let (field, text) = match server.team.as_str() {
            "" => ("meta.visibility", ""),
            team => ("meta.team", team),
        };
        let why = match (may_call, text) {
            (false, _) => "no role that is held here has servers.call",
            (true, "") => "it is not public, and neither its owner nor a team of theirs",
            (true, _) => "they are not in this team, and no team of theirs has the server",
        };
        self.refuse(Reason::ServerNotGranted, name, field, text, why)
    }

    /// What the request names of the server, and of which family it is. `None`: it names nothing.
    fn target(&mut self, server: &'a Server) -> Found<Option<(Family, Vec<Exposed<'a>>)>> {
        let (request, name) = (self.request, &self.request.server);
        let (Some(family), Some(target)) = (family(server, request), &request.target) else {
            return Ok(None);
        };
        let found = exposed(server, family, target, &request.templates);
        if found.is_empty() {
            return self.refuse(
                Reason::UnknownTarget,
                name,
                family.list(),
                target,
                "it exposes no such name",
            );
        }
        self.note(true, name, family.list(), target, "");
        Ok(Some((family, found)))
    }

    /// Whether one of several scopes grants the target.
    fn granted(&mut self, grantors: &[Grantor<'a>], family: Family, exposed: &[Exposed<'a>]) -> Found {
        let target = self.request.target.clone().unwrap_or_default();
        let (mut any, mut last) = (false, None);
        for Grantor { resource, scope } in grantors {
            let Some(scope) = scope else {
                any = true;
                continue;
            };
            for (at, glob) in scope.of(family).iter().enumerate() {
                if exposed.iter().any(|exposed| fits(glob, exposed)) {
                    any = true;
                    self.note(true, resource, &format!("scope.{}[{at}]", family.list()), glob, "");
                }
            }
            last = Some((*resource, *scope));
        }
        let Some((resource, scope)) = last.filter(|_| !any) else { return Ok(()) };
        let text = shortened(scope.of(family));
        let note = if text.is_empty() { "it is empty".to_owned() } else { format!("none matches {target}") };
        self.refuse(Reason::TargetNotGranted, resource, &format!("scope.{}", family.list()), &text, &note)
    }
}

const UNREADABLE: &str = "it cannot be read, and so allows nothing";

fn names_server(text: &str, server: &str) -> bool {
    text == "*" || text == server
}

/// The first of a list, and how many more there are.
fn shortened(list: &[String]) -> String {
    const SHOWN: usize = 5;
    let first = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > SHOWN { format!("{first} and {} more", list.len() - SHOWN) } else { first }
}
