//! What decisions are made by: servers, tokens, the grants of roles and teams, and people with what they hold. A value, with everything
//! in it by name. It must not know where it was read from.

use std::collections::{BTreeMap, BTreeSet};

use crate::rule::Rules;
use crate::text::time;

/// Everything that a decision looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Virtual servers by name: `servers/{server}`.
    pub servers: BTreeMap<String, Server>,
    /// Tokens by name: `tokens/{token}`.
    pub tokens: BTreeMap<String, Token>,
    /// What people and service accounts hold, by name: `users/{user}`, `serviceAccounts/{service_account}`. Who is disabled is not here.
    pub people: BTreeMap<String, Held>,
    /// What roles give at edges, by name: `roles/{role}`.
    pub roles: BTreeMap<String, Role>,
    /// What teams give, by name: `teams/{team}`.
    pub teams: BTreeMap<String, Scope>,
}

/// A virtual server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// The identity of its owner. Empty: nobody.
    pub owner_uid: String,
    /// The team whose members may see it: `teams/{team}`. Empty: none.
    pub team: String,
    /// Whether everybody who may call servers at all may call it.
    pub public: bool,
    /// Its tools.
    pub tools: Vec<Entry>,
    /// Its resources.
    pub resources: Vec<Entry>,
    /// Its templates of resources.
    pub templates: Vec<Entry>,
    /// Its prompts.
    pub prompts: Vec<Entry>,
    /// Its rules, then those of its team, named `servers/{server}/rules/{rule}` and `teams/{team}/rules/{rule}`.
    pub rules: Rules,
}

/// One thing that a server exposes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// What clients see: a name, a URI or a URI template.
    pub name: String,
    /// What scopes may still call it.
    pub former: Option<String>,
    /// Whether it is below no prefix, so that no pattern but `*` matches it.
    pub leads_out: bool,
    /// The id of the upstream that it is of.
    pub upstream: String,
    /// Whether it only reads, as clients are shown it.
    pub read_only: bool,
    /// Whether it destroys, as clients are shown it.
    pub destructive: bool,
    /// What its upstream says of it.
    pub own: OwnEntry,
}

/// What an upstream says of something that a server exposes, whatever the server makes of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnEntry {
    /// The name, URI or URI template.
    pub name: String,
    /// Whether no pattern but `*` matches it.
    pub leads_out: bool,
    /// Of a template that produces the URI of a request: that URI, as the upstream knows it.
    pub produced: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether it destroys.
    pub destructive: bool,
}

/// A set of permissions. An empty list allows nothing; `*` stands for any characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// `servers/{server}`, or `*`.
    pub servers: Vec<String>,
    /// Exposed names of tools.
    pub tools: Vec<String>,
    /// Exposed URIs and URI templates.
    pub resources: Vec<String>,
    /// Exposed names of prompts.
    pub prompts: Vec<String>,
}

/// What one bearer may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// What it may do.
    pub scope: Scope,
    /// What must hold beside.
    pub conditions: Conditions,
    /// What it may do at most: what its owner holds. `None`: it has no owner.
    pub ceiling: Option<Held>,
    /// When it ends, in seconds since 1970. `None`: never.
    pub expires_s: Option<i64>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether its owner is disabled.
    pub suspended: bool,
}

/// What must hold beside a scope, as people wrote it. What cannot be read allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conditions {
    /// Patterns of methods. Empty: all.
    pub methods: Vec<String>,
    /// Ranges of addresses of clients. Empty: any.
    pub from: Vec<String>,
    /// When it begins, in seconds since 1970. `None`: at once.
    pub not_before_s: Option<i64>,
    /// Weekly times. Empty: always.
    pub windows: Vec<String>,
    /// Rates and quotas.
    pub limits: Vec<String>,
}

/// What somebody holds by roles and teams.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Who that is, by name. Empty: a team.
    pub name: String,
    /// Who that is, by the identity that servers have as their owner's. Empty: a team.
    pub uid: String,
    /// What they hold.
    pub pairs: BTreeSet<Pair>,
}

/// A role's grant, in a team's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// `roles/{role}`. Empty: no role is asked for.
    pub role: String,
    /// `teams/{team}`. Empty: everywhere.
    pub team: String,
}

/// What a role gives at edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether who has it may call servers.
    pub may_call: bool,
    /// Whether that goes for every server, where they have it everywhere.
    pub every_server: bool,
}

/// The kinds of what servers expose, as scopes list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Tools.
    Tools,
    /// Resources, and templates of them.
    Resources,
    /// Prompts.
    Prompts,
}

impl Family {
    /// The method that uses one. Without it none is shown.
    #[must_use]
    pub const fn used_by(self) -> &'static str {
        match self {
            Self::Tools => "tools/call",
            Self::Resources => "resources/read",
            Self::Prompts => "prompts/get",
        }
    }

    /// The list of a scope that is about them.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Prompts => "prompts",
        }
    }
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        let all = || vec!["*".to_owned()];
        Self { servers: all(), tools: all(), resources: all(), prompts: all() }
    }

    /// The list that is about these.
    #[must_use]
    pub fn of(&self, family: Family) -> &[String] {
        match family {
            Family::Tools => &self.tools,
            Family::Resources => &self.resources,
            Family::Prompts => &self.prompts,
        }
    }
}

impl Token {
    /// The token as it is where and when its conditions hold.
    #[must_use]
    pub fn at_any_time(mut self) -> Self {
        self.conditions.from.clear();
        self.conditions.windows.clear();
        self.conditions.not_before_s = None;
        self
    }

    /// What it depends on where, when and how often it may be used, in words.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let Conditions { from, windows, limits, not_before_s, .. } = &self.conditions;
        let from = (!from.is_empty()).then(|| format!("from {}", from.join(", ")));
        let begin = not_before_s.map(|begin| format!("not before {}", time(begin)));
        let end = self.expires_s.map(|end| format!("until {}", time(end)));
        let own = [from, begin, end].into_iter().flatten();
        own.chain(windows.iter().cloned()).chain(limits.iter().cloned()).collect()
    }
}

impl World {
    /// What a pair gives; `None` where its role or its team gives nothing any more.
    #[must_use]
    pub fn role(&self, pair: &Pair) -> Option<Role> {
        if !pair.team.is_empty() && !self.teams.contains_key(&pair.team) {
            return None;
        }
        match (pair.role.as_str(), pair.team.as_str()) {
            ("", "") => None,
            ("", _) => Some(Role { may_call: true, every_server: false }),
            (role, _) => self.roles.get(role).copied(),
        }
    }
}
