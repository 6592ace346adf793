//! Changes that people can make to turn a decision: what they do to a world, and the commands that make them.

use std::fmt::Write as _;

use crate::text::time;
use crate::world::{Family, Pair, Scope, World};

/// A change of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The resource: `tokens/{token}`, `teams/{team}`, or `servers/{server}` for its rules.
    pub resource: String,
    /// What is done to it.
    pub edit: Edit,
}

/// What is done to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// One more in a list.
    Add(List, String),
    /// Another window in the place of this one.
    Window(usize, String),
    /// A time before which it is not valid.
    NotBefore(i64),
    /// A time at which it ends.
    Expiry(i64),
    /// One more member: `users/{user}` or `serviceAccounts/{service_account}`.
    Member(String),
    /// A rule less.
    Rule {
        /// Its id among all rules.
        id: String,
        /// Where it stands: `rules[2]`.
        field: String,
    },
    /// The approval of the call that a rule holds back.
    Approval {
        /// Where that rule stands: `rules[2]`.
        field: String,
    },
}

/// A list of a token or a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `scope.servers`.
    Servers,
    /// `scope.tools`, `scope.resources` or `scope.prompts`.
    Targets(Family),
    /// `conditions.methods`.
    Methods,
    /// `conditions.from`.
    From,
}

/// The role that members have, unless another one is said.
const MEMBERS_ROLE: &str = "roles/developer";
/// Values that a command names at most.
const MAX_VALUES: usize = 16;

impl Change {
    /// The field that changes.
    #[must_use]
    pub fn field(&self) -> String {
        match &self.edit {
            Edit::Add(List::Servers, _) => "scope.servers".to_owned(),
            Edit::Add(List::Targets(family), _) => format!("scope.{}", family.list()),
            Edit::Add(List::Methods, _) => "conditions.methods".to_owned(),
            Edit::Add(List::From, _) => "conditions.from".to_owned(),
            Edit::Window(at, _) => format!("conditions.windows[{at}]"),
            Edit::NotBefore(_) => "conditions.notBefore".to_owned(),
            Edit::Expiry(_) => "expireTime".to_owned(),
            Edit::Member(_) => "members".to_owned(),
            Edit::Rule { field, .. } | Edit::Approval { field } => field.clone(),
        }
    }

    /// The change in words.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.edit {
            Edit::Add(_, value) | Edit::Member(value) => format!("add {value}"),
            Edit::Window(_, window) => format!("replace it with {window}"),
            Edit::Rule { id, .. } => {
                format!("change or remove the rule {}", id.rsplit('/').next().unwrap_or_default())
            }
            Edit::Approval { .. } => "call it, have somebody else approve that, and call again".to_owned(),
            Edit::NotBefore(seconds) | Edit::Expiry(seconds) => format!("set it to {}", time(*seconds)),
        }
    }

    /// Makes it.
    pub fn apply(&self, world: &mut World) {
        if let Edit::Member(principal) = &self.edit {
            return self.join(world, principal);
        }
        if let Edit::Rule { id, .. } = &self.edit {
            return world.servers.values_mut().for_each(|server| server.rules = server.rules.without(id));
        }
        if let Edit::Approval { .. } = &self.edit {
            return world.servers.values_mut().for_each(|server| server.rules = server.rules.approved());
        }
        if let Some(scope) = world.teams.get_mut(&self.resource) {
            return self.apply_to(scope);
        }
        let Some(token) = world.tokens.get_mut(&self.resource) else { return };
        match &self.edit {
            Edit::Add(List::Methods, value) => token.conditions.methods.push(value.clone()),
            Edit::Add(List::From, value) => token.conditions.from.push(value.clone()),
            Edit::Window(at, window) => {
                if let Some(old) = token.conditions.windows.get_mut(*at) {
                    old.clone_from(window);
                }
            }
            Edit::NotBefore(seconds) => token.conditions.not_before_s = Some(*seconds),
            Edit::Expiry(seconds) => token.expires_s = Some(*seconds),
            Edit::Add(..) | Edit::Member(_) | Edit::Rule { .. } | Edit::Approval { .. } => {
                self.apply_to(&mut token.scope);
            }
        }
    }

    fn apply_to(&self, scope: &mut Scope) {
        let Edit::Add(list, value) = &self.edit else { return };
        match list {
            List::Servers => scope.servers.push(value.clone()),
            List::Targets(Family::Tools) => scope.tools.push(value.clone()),
            List::Targets(Family::Resources) => scope.resources.push(value.clone()),
            List::Targets(Family::Prompts) => scope.prompts.push(value.clone()),
            List::Methods | List::From => {}
        }
    }

    /// Who joins a team has the role of members in it, and so have the tokens that are theirs.
    fn join(&self, world: &mut World, principal: &str) {
        let pair = Pair { role: MEMBERS_ROLE.to_owned(), team: self.resource.clone() };
        let ceilings = world.tokens.values_mut().filter_map(|token| token.ceiling.as_mut());
        let theirs = ceilings.filter(|held| held.name == principal);
        world.people.get_mut(principal).into_iter().chain(theirs).for_each(|held| {
            held.pairs.insert(pair.clone());
        });
        world.roles.entry(MEMBERS_ROLE.to_owned()).or_default().may_call = true;
    }

    /// The command that makes these changes of one resource, which the world has already. Empty: it would be too long.
    pub(crate) fn command(world: &World, changes: &[Change]) -> String {
        let Some(first) = changes.first() else { return String::new() };
        let id = first.resource.split_once('/').map_or("", |(_, id)| id);
        if let Edit::Member(principal) = &first.edit {
            let who = principal.strip_prefix("users/").unwrap_or(principal);
            return format!("mcpctl add member {} {}", shell(id), shell(who));
        }
        if let Edit::Approval { .. } = &first.edit {
            return "mcpctl approvals list".to_owned();
        }
        if let Edit::Rule { .. } = &first.edit {
            let kind = if first.resource.starts_with("teams/") { "team" } else { "server" };
            return format!("mcpctl edit {kind} {}", shell(id));
        }
        let flags = match (world.tokens.get(&first.resource), world.teams.get(&first.resource)) {
            (Some(token), _) => {
                let mut flags = Vec::new();
                for change in changes {
                    match &change.edit {
                        Edit::Add(List::Servers, _) => list(&mut flags, "--server", &token.scope.servers),
                        Edit::Add(List::Targets(family), _) => targets(&mut flags, *family, &token.scope),
                        Edit::Add(List::Methods, _) => {
                            list(&mut flags, "--method", &token.conditions.methods)
                        }
                        Edit::Add(List::From, _) => list(&mut flags, "--from", &token.conditions.from),
                        Edit::Window(..) => list(&mut flags, "--window", &token.conditions.windows),
                        Edit::NotBefore(at) => flags.push(("--not-before", time(*at))),
                        Edit::Expiry(at) => flags.push(("--expires", time(*at))),
                        Edit::Member(_) | Edit::Rule { .. } | Edit::Approval { .. } => {}
                    }
                }
                flags
            }
            // A team without a scope gives everything of its own servers. Where one is set it must say all of that.
            (None, Some(scope)) => {
                let mut flags = Vec::new();
                list(&mut flags, "--server", &scope.servers);
                for family in [Family::Tools, Family::Resources, Family::Prompts] {
                    targets(&mut flags, family, scope);
                }
                flags
            }
            (None, None) => return String::new(),
        };
        if flags.len() > MAX_VALUES {
            return String::new();
        }
        let kind = if first.resource.starts_with("teams/") { "team" } else { "token" };
        flags.into_iter().fold(format!("mcpctl update {kind} {}", shell(id)), |mut line, (flag, value)| {
            let value =
                if flag == "--server" { value.strip_prefix("servers/").unwrap_or(&value) } else { &value };
            let _ = write!(line, " {flag} {}", shell(value));
            line
        })
    }
}

fn list(flags: &mut Vec<(&'static str, String)>, flag: &'static str, values: &[String]) {
    if flags.iter().all(|(known, _)| *known != flag) {
        flags.extend(values.iter().map(|value| (flag, value.clone())));
    }
}

fn targets(flags: &mut Vec<(&'static str, String)>, family: Family, scope: &Scope) {
    let flag = match family {
        Family::Tools => "--tool",
        Family::Resources => "--resource",
        Family::Prompts => "--prompt",
    };
    list(flags, flag, scope.of(family));
}

/// A word as a shell takes it for one. What does not print is not written into a command.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,=%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more() {
        for (word, expected) in [
            ("dev_write", "dev_write"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("ann@example.org", "ann@example.org"),
            ("*", "'*'"),
            ("Mon-Sat 08:00-18:00 UTC", "'Mon-Sat 08:00-18:00 UTC'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
            ("", "''"),
        ] {
            assert_eq!(shell(word), expected);
        }
    }
}
