//! The one place where a caller's access is decided, and where a `Permit` is made: a principal is admitted to a server,
//! and then checked for each target.
//!
//! It must not know HTTP or upstream connections. What is not allowed is reported as unknown.

mod active;
mod conditions;
mod denied;
mod obligations;
mod permit;
mod readable;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use mcp::method::Method;
use mcp::uri::{CanonicalUri, UriTemplate, naming};

pub use active::{ActivePermit, ActivePermits, SharedPermit};
pub use conditions::Facts;
pub use denied::{Denied, Reason, RuleDenial};
pub use obligations::{ApprovalRule, Masks};
pub use permit::Permit;
pub use readable::ReadableUris;
pub use rules::Arguments;

use self::rules::Judgement;
use crate::identity::{Principal, PrincipalKind};
use crate::route::{Destination, NamedTarget};
use crate::snapshot::{Conditions, MethodSet, NoView, Scope, Snapshot, Token, TokenLimit, View};

/// A principal at one server, whose rights are in force. Only `admit` makes one, and no target is permitted without.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    principal: &'a Arc<Principal>,
    view: &'a Arc<View>,
    /// The conditions of its token, where that has any.
    conditions: Option<&'a Conditions>,
    scope: &'a Arc<Scope>,
    limits: &'a [TokenLimit],
    facts: Facts,
}

/// Rights that are in force.
struct RightsInForce<'a> {
    scope: &'a Arc<Scope>,
    conditions: Option<&'a Conditions>,
    limits: &'a [TokenLimit],
}

impl<'a> Caller<'a> {
    /// The principal.
    pub fn principal(&self) -> &'a Arc<Principal> {
        self.principal
    }

    /// The part of the server that it sees.
    pub fn view(&self) -> &'a Arc<View> {
        self.view
    }

    /// The scope of its rights.
    pub fn scope(&self) -> &'a Arc<Scope> {
        self.scope
    }

    /// The rates and quotas of its token, in the order in which they are checked.
    pub fn limits(&self) -> &'a [TokenLimit] {
        self.limits
    }

    /// The methods that it may use.
    pub fn methods(&self) -> MethodSet {
        self.conditions.map_or(MethodSet::ALL, |conditions| conditions.methods)
    }

    /// Returns whether it may use `method` at all.
    pub fn may_use(&self, method: Method) -> bool {
        self.conditions.is_none_or(|conditions| conditions.methods.contains(method))
    }

    /// The facts that it was admitted on.
    pub fn facts(&self) -> Facts {
        self.facts
    }
}

/// Admits `principal` to the server with this id, if its rights are in force and allow the server.
pub fn admit<'a>(
    snapshot: &'a Snapshot,
    principal: &'a Arc<Principal>,
    server: &str,
    facts: Facts,
) -> Result<Caller<'a>, Denied> {
    let (view, rights) = in_force(snapshot, principal, &facts)
        .map_err(Denied::Condition)
        .and_then(|rights| visible(snapshot, principal, rights, server))
        .inspect_err(|denied| denied.log(principal, &facts, server, None))?;
    let RightsInForce { scope, conditions, limits } = rights;
    Ok(Caller { principal, view, conditions, scope, limits, facts })
}

/// Admits `principal` again, to the server that had this id and uid when it was admitted first.
pub fn admit_again<'a>(
    snapshot: &'a Snapshot,
    principal: &'a Arc<Principal>,
    [server, uid]: [&str; 2],
    facts: Facts,
) -> Result<Caller<'a>, Denied> {
    let caller = admit(snapshot, principal, server, facts)?;
    if *caller.view.server.uid == *uid { Ok(caller) } else { Err(Denied::NotFound) }
}

/// Works out what a principal may see of the server with this id where that takes a while. Whether it may is not said.
pub async fn prepare(snapshot: &Snapshot, principal: &Principal, server: &str, facts: Facts) {
    let (Ok(rights), Some(views)) = (in_force(snapshot, principal, &facts), snapshot.servers.views(server))
    else {
        return;
    };
    let caller = views.depend_on_caller().then(|| rules::who_calls(principal, rights.scope));
    views.prepare(rights.scope, caller).await;
}

/// Checks that `caller` may use a method, whatever it is about.
pub fn check_method(caller: &Caller<'_>, method: Method) -> Result<(), Denied> {
    if caller.may_use(method) {
        return Ok(());
    }
    Denied::Method.log(caller.principal, &caller.facts, &caller.view.server.id, Some(method.as_str()));
    Err(Denied::Method)
}

/// Checks a target of the server that `caller` was admitted to, and the arguments that it is used with. Returns the permit to use it
/// by this method.
pub fn check(
    caller: &Caller<'_>,
    method: Method,
    named: &NamedTarget<'_>,
    arguments: Arguments<'_>,
) -> Result<Permit, Denied> {
    check_method(caller, method)?;
    let permitted = decide(caller.view, named).and_then(|destination| {
        let judgement = match &caller.view.server.rules {
            None => Judgement::default(),
            Some(rules) => rules::judge(rules, caller, method, &destination, arguments)?,
        };
        Ok(Permit::to(destination, method, judgement))
    });
    permitted.inspect_err(|denied| {
        denied.log(caller.principal, &caller.facts, &caller.view.server.id, Some(&named.exposed));
    })
}

/// What a refusal is recorded as: what rules hide from whom the scope allows it looks out of scope to the caller alone.
pub fn recorded(caller: &Caller<'_>, named: &NamedTarget<'_>, denied: &Denied) -> Denied {
    let (view, is_unknown) = (caller.view, *denied == Denied::OutOfScope);
    let rules = view.server.rules.as_ref().filter(|_| is_unknown);
    let hiding = rules.and_then(|rules| {
        let mut known = named.destinations(&view.server).flatten();
        known.find_map(|destination| {
            let refusal = rules::hiding(rules, view, &destination)?;
            is_granted(caller, &destination).then(|| Denied::Rule(RuleDenial::of(&refusal)))
        })
    });
    hiding.unwrap_or_else(|| denied.clone())
}

/// Whether the scope of `caller` allows a destination, whatever rules say.
fn is_granted(caller: &Caller<'_>, destination: &Destination) -> bool {
    let Destination { list, entry, produced, .. } = destination;
    let former = former(destination);
    let uris: Vec<_> = produced.iter().chain(&former).collect();
    caller.scope.names(&caller.view.server, *list, entry, &uris)
}

/// Rules read the hour and the day alone, and in every time zone these change where a minute begins. In seconds.
const RULES_CLOCK: u64 = 60;

/// Checks a permit that was given with the view `known`: whether `caller` may still use the same target at the same
/// upstream. It was judged last at `judged_at`, in seconds since the Unix epoch.
fn check_again(
    caller: &Caller<'_>,
    permit: &Permit,
    known: &Arc<View>,
    judged_at: u64,
) -> Result<(), Denied> {
    check_method(caller, permit.method())?;
    // `decide` looks at nothing but the view and the target, and most changes leave a view as it is. Its server has the rules that
    // the arguments were judged by, and the address of a call stays what it was.
    let is_minute_over = caller.facts.now / RULES_CLOCK != judged_at / RULES_CLOCK;
    let needs_time =
        |view: &View| is_minute_over && view.server.rules.as_ref().is_some_and(|rules| rules.need_time());
    if Arc::ptr_eq(caller.view, known) && !needs_time(caller.view) {
        return Ok(());
    }
    let named = NamedTarget::of(permit.kind(), permit.exposed());
    let now = check(caller, permit.method(), &named, permit.arguments())?;
    // The name may have been given to another tool.
    if now.entry().upstream.uid != permit.entry().upstream.uid || now.original() != permit.original() {
        return Err(Denied::NotFound);
    }
    // What it began with goes on; more cannot be taken away from what was sent already.
    match Masks::added(now.masks(), permit.masks()) {
        Some(mask) => Err(Denied::Rule(RuleDenial::masked(mask))),
        None => Ok(()),
    }
}

/// The URIs by which `caller` may read resources of the upstream of a permit, for one message.
pub fn readable_at<'a>(caller: &Caller<'_>, permit: &'a Permit) -> ReadableUris<'a> {
    ReadableUris::new(Arc::clone(caller.view), &permit.entry().upstream)
}

/// The time that a principal has left at `now`, if its rights expire.
pub fn remaining(snapshot: &Snapshot, principal: &Principal, now: u64) -> Option<Duration> {
    conditions::remaining(principal, token(snapshot, principal), now)
}

fn token<'a>(snapshot: &'a Snapshot, principal: &Principal) -> Option<&'a Token> {
    match &principal.kind {
        PrincipalKind::Token => snapshot.tokens.get(&principal.uid).map(AsRef::as_ref),
        PrincipalKind::Person(_) => None,
        PrincipalKind::Certificate(certificate) => {
            let token = snapshot.token_of(certificate.identities())?;
            (token.uid == principal.uid).then_some(&**token)
        }
    }
}

/// Finds the rights of a principal, if they are in force. Whatever goes on after its request comes here again, so that what was
/// withdrawn meanwhile ends it.
fn in_force<'a>(
    snapshot: &'a Snapshot,
    principal: &Principal,
    facts: &Facts,
) -> Result<RightsInForce<'a>, Reason> {
    match &principal.kind {
        PrincipalKind::Token => {
            let token = token(snapshot, principal).ok_or(Reason::NoToken)?;
            of_token(principal, token, facts)
        }
        PrincipalKind::Certificate(_) => {
            let token = token(snapshot, principal).ok_or(Reason::NotNamed)?;
            of_token(principal, token, facts)
        }
        PrincipalKind::Person(grants) => {
            conditions::check_person(principal, facts)?;
            let scope = snapshot.grants.scope(grants).ok_or(Reason::Withdrawn)?;
            Ok(RightsInForce { scope, conditions: None, limits: &[] })
        }
    }
}

fn of_token<'a>(principal: &Principal, token: &'a Token, facts: &Facts) -> Result<RightsInForce<'a>, Reason> {
    conditions::check(principal, token, facts)?;
    let (conditions, limits) = (token.conditions.as_deref(), &*token.limits);
    Ok(RightsInForce { scope: &token.scope, conditions, limits })
}

fn visible<'a>(
    snapshot: &'a Snapshot,
    principal: &Principal,
    rights: RightsInForce<'a>,
    server: &str,
) -> Result<(&'a Arc<View>, RightsInForce<'a>), Denied> {
    let views = snapshot.servers.views(server).ok_or(Denied::NotFound)?;
    let view = match views.depend_on_caller() {
        true => views.view_of(rights.scope, rules::who_calls(principal, rights.scope)),
        false => views.view(rights.scope),
    };
    let view = view.map_err(|none| match none {
        NoView::OutOfScope => Denied::OutOfScope,
        NoView::Pending => Denied::Pending,
    })?;
    Ok((view, rights))
}

/// Finds the first destination of a target that `view` lists; if there is none, the first that produces it where its URI
/// is allowed. So a URI leads to what the caller sees listed. It must look at nothing else: `check_again` takes a view that
/// is the same for a decision that is the same. What depends on more is a condition of the caller, or a rule.
fn decide(view: &View, named: &NamedTarget<'_>) -> Result<Destination, Denied> {
    let (mut denied, mut by_uri) = (Denied::NotFound, None);
    for destination in named.destinations(&view.server) {
        match destination {
            Ok(destination) if is_hidden(view, &destination) => return Err(Denied::OutOfScope),
            Ok(destination) if is_listed(view, &destination) => return Ok(destination),
            Ok(destination) if by_uri.is_none() && is_uri_allowed(view, &destination) => {
                by_uri = Some(destination);
            }
            Ok(_) => denied = Denied::OutOfScope,
            Err(problem) => denied = Denied::NotCanonical(problem),
        }
    }
    by_uri.ok_or(denied)
}

/// Whether rules of the server refuse it whatever a request is like. Then it leads nowhere else either.
fn is_hidden(view: &View, destination: &Destination) -> bool {
    view.server.rules.as_ref().is_some_and(|rules| rules::hide(rules, view, destination))
}

fn is_listed(view: &View, destination: &Destination) -> bool {
    view.visible.of(destination.list).contains(destination.position)
}

fn is_uri_allowed(view: &View, destination: &Destination) -> bool {
    let (Some(uri), visible) = (&destination.produced, &view.visible) else { return false };
    let template = destination.position;
    visible.allows_uri(template, &[uri])
        || former(destination).is_some_and(|former| visible.allows_uri(template, &[uri, &former]))
}

/// The produced URI as it was before `ui://` was kept: scopes may still name it so.
fn former(destination: &Destination) -> Option<CanonicalUri> {
    let entry = &destination.entry;
    let uri = naming::former(&entry.uri_prefix, destination.original.as_deref()?)?;
    UriTemplate::new(&entry.former()?).uri(&uri)?.ok()
}
