//! Tokens, and one scope for each set of permissions among them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Permissions, Scope, Token};
use super::accepted::AcceptedResources;
use super::{ByName, decode};

/// The built tokens by name and by uid, and their scopes by permissions.
#[derive(Debug, Default)]
pub(super) struct ScopeCache {
    tokens: ByName<Arc<Token>>,
    by_uid: Arc<ByName<Arc<Token>>>,
    scopes: HashMap<Permissions, Arc<Scope>>,
}

impl ScopeCache {
    /// Returns the tokens by uid.
    pub(super) fn tokens(&self) -> Arc<ByName<Arc<Token>>> {
        Arc::clone(&self.by_uid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.scopes.values()
    }

    pub(super) fn len(&self) -> usize {
        self.scopes.len()
    }

    /// Builds the tokens that changed, and drops scopes without a token. Returns how many were dropped.
    pub(super) fn update(&mut self, accepted: &AcceptedResources, changed: &HashSet<Box<str>>) -> usize {
        if changed.is_empty() {
            return 0;
        }
        for name in changed {
            self.tokens.remove(name);
            if let Some(resource) = accepted.get(StreamType::Token, name) {
                let token = self.token(&decode(resource));
                self.tokens.insert(name.clone(), Arc::new(token));
            }
        }
        let by_uid = self.tokens.values().map(|token| (token.uid.clone(), Arc::clone(token)));
        self.by_uid = Arc::new(by_uid.collect());
        let before = self.scopes.len();
        let used: HashSet<*const Scope> = self.tokens.values().map(|t| Arc::as_ptr(&t.scope)).collect();
        self.scopes.retain(|_, scope| used.contains(&Arc::as_ptr(scope)));
        before - self.scopes.len()
    }

    fn token(&mut self, message: &wire::Token) -> Token {
        Token {
            name: message.name.as_str().into(),
            uid: message.uid.as_str().into(),
            expires: message.expire_time.map(|time| u64::try_from(time.seconds).unwrap_or(0)),
            revoked: message.revoked,
            scope: self.scope(permissions(message)),
        }
    }

    fn scope(&mut self, permissions: Permissions) -> Arc<Scope> {
        if let Some(scope) = self.scopes.get(&permissions) {
            return Arc::clone(scope);
        }
        let scope = Arc::new(Scope::new(permissions.clone()));
        self.scopes.insert(permissions, Arc::clone(&scope));
        scope
    }
}

/// Sorts and deduplicates, so that equal sets compare equal.
fn permissions(message: &wire::Token) -> Permissions {
    let set = |values: &[String], prefix: &str| {
        let ids = values.iter().map(|value| Box::from(value.strip_prefix(prefix).unwrap_or(value)));
        let mut set: Vec<Box<str>> = ids.collect();
        set.sort_unstable();
        set.dedup();
        set
    };
    Permissions {
        servers: set(&message.servers, "servers/"),
        tools: set(&message.tools, ""),
        resources: set(&message.resources, ""),
        prompts: set(&message.prompts, ""),
    }
}
