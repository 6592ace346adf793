//! What somebody holds by roles and teams: a person, a service account, or the owner of a token.
//!
//! It must not know where roles and teams are kept, nor which of them were withdrawn.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Permissions, Server};

/// What somebody holds by roles and teams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HeldRights {
    /// The uid by which servers name them as their owner; empty where none does.
    pub owner: Box<str>,
    /// True if they may call servers at all, so those that are public, and their own.
    pub may_call: bool,
    /// True if they may call every server.
    pub every_server: bool,
    /// The teams as whose members they may call servers, in order.
    pub teams: Vec<Arc<TeamRights>>,
    /// The names of all teams that they are in, in order, for rules that look at them.
    pub member_of: Vec<Box<str>>,
}

/// What the members of a team may call.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TeamRights {
    /// The id by which servers name the team as theirs.
    pub gid: Box<str>,
    /// Its name alone, as in `teams/{team}`.
    pub id: Box<str>,
    /// Servers beside the team's own, and what is allowed at all of them.
    pub permissions: Permissions,
}

impl HeldRights {
    /// Returns what they allow at `server`; `None` if they do not allow it at all.
    pub fn at(&self, server: &Server) -> Option<Cow<'_, Permissions>> {
        let is_theirs = !server.owner_uid.is_empty() && self.owner == server.owner_uid;
        if self.every_server || (self.may_call && (server.public || is_theirs)) {
            return Some(Cow::Borrowed(Permissions::all()));
        }
        let mut reaching =
            self.teams.iter().filter(|team| team.reaches(server)).map(|team| &team.permissions);
        let first = reaching.next()?;
        let mut rest = reaching.peekable();
        if rest.peek().is_none() {
            return Some(Cow::Borrowed(first));
        }
        Some(Cow::Owned(rest.fold(first.clone(), union)))
    }
}

impl Hash for TeamRights {
    /// A team has few versions at once, and thousands of members whose rights are hashed with it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gid.hash(state);
    }
}

impl TeamRights {
    fn reaches(&self, server: &Server) -> bool {
        (!server.team_gid.is_empty() && self.gid == server.team_gid) || self.permissions.allow(&server.id)
    }
}

/// What one of two allows.
fn union(mut all: Permissions, more: &Permissions) -> Permissions {
    let add = |all: &mut Vec<Box<str>>, more: &[Box<str>]| {
        all.extend_from_slice(more);
        all.sort_unstable();
        all.dedup();
        // Nothing is more than everything, and what allows the same is to be equal.
        if all.iter().any(|glob| **glob == *"*") {
            *all = vec!["*".into()];
        }
    };
    add(&mut all.servers, &more.servers);
    add(&mut all.tools, &more.tools);
    add(&mut all.resources, &more.resources);
    add(&mut all.prompts, &more.prompts);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(gid: &str, servers: &[&str], tools: &[&str]) -> Arc<TeamRights> {
        let set = |values: &[&str]| values.iter().map(|value| Box::from(*value)).collect();
        let permissions = Permissions { servers: set(servers), tools: set(tools), ..Permissions::default() };
        Arc::new(TeamRights { gid: gid.into(), id: gid.into(), permissions })
    }

    fn server(owner: &str, team: &str, public: bool) -> Server {
        Server {
            id: "dev".into(),
            owner_uid: owner.into(),
            team_gid: team.into(),
            public,
            ..Server::default()
        }
    }

    fn tools(held: &HeldRights, server: &Server) -> Option<Vec<String>> {
        held.at(server).map(|allowed| allowed.tools.iter().map(|glob| glob.to_string()).collect())
    }

    #[test]
    fn each_ground_reaches_what_it_is_about_and_nothing_else() {
        let all = Some(vec!["*".to_owned()]);
        let nobody = HeldRights::default();
        for server in [server("", "", false), server("", "", true), server("u", "t", true)] {
            assert_eq!(tools(&nobody, &server), None, "who may call nothing, whatever it is");
        }
        let ann = HeldRights { owner: "u".into(), may_call: true, ..HeldRights::default() };
        assert_eq!(tools(&ann, &server("u", "", false)), all);
        assert_eq!(tools(&ann, &server("v", "", false)), None);
        assert_eq!(tools(&ann, &server("", "", false)), None, "what is nobody's");
        assert_eq!(tools(&ann, &server("", "", true)), all);
        let admin = HeldRights { every_server: true, ..HeldRights::default() };
        assert_eq!(tools(&admin, &server("", "", false)), all);
        let member = HeldRights { teams: vec![team("t", &["dev"], &["a"])], ..HeldRights::default() };
        assert_eq!(tools(&member, &server("", "t", false)), Some(vec!["a".into()]));
        assert_eq!(tools(&member, &server("", "", false)), Some(vec!["a".into()]), "by its id");
        let elsewhere = Server { id: "other".into(), ..server("", "s", false) };
        assert_eq!(tools(&member, &elsewhere), None);
        let both =
            HeldRights { teams: vec![team("s", &["*"], &["b"]), team("t", &[], &["a", "b"])], ..member };
        assert_eq!(tools(&both, &server("", "t", false)), Some(vec!["a".into(), "b".into()]));
        assert_eq!(tools(&both, &elsewhere), Some(vec!["b".into()]));
    }
}
