//! Tokens, and one scope for each set of permissions among them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Budget, PageLimits, Permissions, Scope, Servers, Token};
use super::accepted::AcceptedResources;
use super::{ByName, decode};

/// The built tokens by name and scopes by permissions, all over the same servers.
#[derive(Debug)]
pub(super) struct ScopeCache {
    tokens: ByName<Arc<Token>>,
    scopes: HashMap<Permissions, Arc<Scope>>,
    servers: Servers,
    limits: PageLimits,
    budget: Budget,
}

impl ScopeCache {
    pub(super) fn new(limits: PageLimits, budget: Budget) -> ScopeCache {
        ScopeCache {
            tokens: ByName::new(),
            scopes: HashMap::new(),
            servers: Servers::default(),
            limits,
            budget,
        }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Returns the tokens by uid.
    pub(super) fn tokens(&self) -> ByName<Arc<Token>> {
        self.tokens.values().map(|token| (token.uid.clone(), Arc::clone(token))).collect()
    }

    /// Moves every scope to other servers. Views of servers that stayed the same are inherited.
    pub(super) fn move_to(&mut self, servers: Servers) {
        self.servers = servers;
        let earlier = std::mem::take(&mut self.scopes);
        for (permissions, scope) in &earlier {
            self.scope(permissions.clone()).inherit(scope);
        }
        for token in self.tokens.values_mut() {
            if let Some(scope) = self.scopes.get(token.scope.permissions()) {
                *token = Arc::new(Token {
                    name: token.name.clone(),
                    uid: token.uid.clone(),
                    expires: token.expires,
                    revoked: token.revoked,
                    scope: Arc::clone(scope),
                });
            }
        }
    }

    /// Builds the tokens that changed, and drops scopes without a token.
    pub(super) fn update(&mut self, accepted: &AcceptedResources, changed: &HashSet<Box<str>>) {
        for name in changed {
            self.tokens.remove(name);
            if let Some(resource) = accepted.get(StreamType::Token, name) {
                let token = self.token(&decode(resource));
                self.tokens.insert(name.clone(), Arc::new(token));
            }
        }
        if !changed.is_empty() {
            let used: HashSet<*const Scope> = self.tokens.values().map(|t| Arc::as_ptr(&t.scope)).collect();
            self.scopes.retain(|_, scope| used.contains(&Arc::as_ptr(scope)));
        }
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
        let budget = self.budget.clone();
        let scope = Arc::new(Scope::new(permissions.clone(), self.servers.clone(), self.limits, budget));
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
