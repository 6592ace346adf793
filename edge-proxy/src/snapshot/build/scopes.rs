//! Tokens, and one scope for each set of rights among them.

use std::collections::HashSet;
use std::sync::Arc;

use mcp::method::Method;
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Grants, MethodSet, Permissions, Rights, Scopes, Token, TokenLimit};
use super::accepted::AcceptedResources;
use super::unusable::Unusable;
use super::{ByName, conditions, decode, grants};

/// The built tokens by name and by uid, and the scopes of everybody.
#[derive(Debug, Default)]
pub(super) struct ScopeCache {
    tokens: ByName<Arc<Token>>,
    by_uid: Arc<ByName<Arc<Token>>>,
    by_certificate: Arc<ByName<Option<Arc<Token>>>>,
    /// Names of tokens that may do no more than their owner.
    ceilings: HashSet<Box<str>>,
    scopes: Arc<Scopes>,
}

impl ScopeCache {
    /// Returns the tokens by uid.
    pub(super) fn tokens(&self) -> Arc<ByName<Arc<Token>>> {
        Arc::clone(&self.by_uid)
    }

    /// Those of these tokens that go on, and in place of the others that they are revoked. `None`: all go on.
    pub(super) fn without_ended(&self, tokens: &ByName<Arc<Token>>) -> Option<ByName<Arc<Token>>> {
        let goes_on =
            |token: &Token| token.revoked || self.by_uid.get(&token.uid).is_some_and(|now| !now.revoked);
        if tokens.values().all(|token| goes_on(token)) {
            return None;
        }
        let left = tokens.iter().filter_map(|(uid, token)| match self.by_uid.get(uid) {
            Some(now) if now.revoked => Some((uid.clone(), Arc::clone(now))),
            now => now.is_some().then(|| (uid.clone(), Arc::clone(token))),
        });
        Some(left.collect())
    }

    /// Returns the tokens by the identities of certificates that they name; `None` where several do.
    pub(super) fn certificates(&self) -> Arc<ByName<Option<Arc<Token>>>> {
        Arc::clone(&self.by_certificate)
    }

    /// The scopes of everybody.
    pub(super) fn scopes(&self) -> &Arc<Scopes> {
        &self.scopes
    }

    /// Builds the tokens that changed, and those whose owners may hold other rights if `regranted`.
    pub(super) fn update(
        &mut self,
        accepted: &AcceptedResources,
        mut changed: HashSet<Box<str>>,
        regranted: bool,
        grants: &Grants,
        unusable: &mut Unusable,
    ) {
        if regranted {
            changed.extend(self.ceilings.iter().cloned());
        }
        if changed.is_empty() {
            return;
        }
        for name in changed {
            self.ceilings.remove(&name);
            let resource = accepted.get(StreamType::Token, &name);
            let mut problems = Vec::new();
            let token = resource.map(|resource| self.token(decode(resource), grants, &mut problems));
            unusable.note(StreamType::Token, &name, problems);
            match token {
                Some(token) => drop(self.tokens.insert(name, Arc::new(token))),
                None => drop(self.tokens.remove(&name)),
            }
        }
        let by_uid = self.tokens.values().map(|token| (token.uid.clone(), Arc::clone(token)));
        self.by_uid = Arc::new(by_uid.collect());
        self.by_certificate = Arc::new(by_certificate(self.tokens.values()));
    }

    fn token(&mut self, message: wire::Token, grants: &Grants, problems: &mut Vec<String>) -> Token {
        let wire::Token { name, uid, expire_time, revoked, servers, tools, resources, prompts, access } =
            message;
        let plain = wire::Access { servers, tools, resources, prompts, ..wire::Access::default() };
        // What the fields before say counts for nothing where there is this one.
        let access = access.unwrap_or(plain);
        let limits = TokenLimit::of(&access.limits);
        let conditions = conditions::of(&access, problems);
        let methods = conditions.as_ref().map_or(MethodSet::ALL, |conditions| conditions.methods);
        let mut all_of = vec![Rights::Listed(permissions(&access, methods, problems))];
        if let Some(wire::Ceiling { owner_uid, pairs }) = access.ceiling {
            let pairs: Vec<_> = pairs.into_iter().map(grants::pair).collect();
            all_of.push(Rights::Held(grants.held(&owner_uid, &pairs.iter().collect::<Vec<_>>())));
            self.ceilings.insert(name.as_str().into());
        }
        Token {
            name: name.into(),
            uid: uid.into(),
            expires: expire_time.map(|time| u64::try_from(time.seconds).unwrap_or(0)),
            revoked,
            scope: self.scopes.of(all_of),
            conditions: conditions.map(Box::new),
            limits,
            certificates: access.certificates.iter().map(|identity| identity.as_str().into()).collect(),
        }
    }
}

/// Finds who names which certificates. One that was revoked is over for ever, so that another token may take its place.
fn by_certificate<'a>(tokens: impl Iterator<Item = &'a Arc<Token>>) -> ByName<Option<Arc<Token>>> {
    let mut named = ByName::<Option<Arc<Token>>>::new();
    for token in tokens.filter(|token| !token.revoked) {
        for identity in &token.certificates {
            let of_another = named
                .get(identity)
                .is_some_and(|known| known.as_ref().is_none_or(|known| known.uid != token.uid));
            named.insert(identity.clone(), (!of_another).then(|| Arc::clone(token)));
        }
    }
    named
}

/// Reads permissions. Those for what no method may use are left out, so that it is in no list either.
fn permissions(access: &wire::Access, methods: MethodSet, problems: &mut Vec<String>) -> Permissions {
    let used_by = |method, globs| if methods.contains(method) { set(globs) } else { Vec::new() };
    Permissions {
        servers: servers(&access.servers, problems),
        tools: used_by(Method::ToolsCall, &access.tools),
        resources: used_by(Method::ResourcesRead, &access.resources),
        prompts: used_by(Method::PromptsGet, &access.prompts),
    }
}

/// Reads the ids of servers, or `*`. What is neither allows none.
pub(super) fn servers(names: &[String], problems: &mut Vec<String>) -> Vec<Box<str>> {
    let mut ids = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let id = name.strip_prefix("servers/").filter(|id| !id.is_empty() && !id.contains(['/', '*']));
        match id.or((name == "*").then_some("*")) {
            Some(id) => ids.push(id.to_owned()),
            None => problems.push(format!("servers[{at}]: {name:?} is neither * nor servers/{{server}}")),
        }
    }
    set(&ids)
}

/// Sorts and deduplicates, so that equal sets compare equal.
pub(super) fn set(values: &[String]) -> Vec<Box<str>> {
    let mut set: Vec<Box<str>> = values.iter().map(|value| value.as_str().into()).collect();
    set.sort_unstable();
    set.dedup();
    set
}
