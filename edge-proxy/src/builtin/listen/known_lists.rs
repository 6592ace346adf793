//! The lists as the reader of one stream knows them.

use std::sync::Arc;

use crate::policy::Caller;
use crate::snapshot::{MethodSet, Scope, Server, View};

/// The lists as the reader of one stream knows them.
pub(super) struct KnownLists {
    view: Arc<View>,
    scope: Arc<Scope>,
    methods: MethodSet,
}

impl KnownLists {
    /// Starts with the lists that `caller` sees.
    pub(super) fn new(caller: &Caller<'_>) -> Self {
        Self { view: Arc::clone(caller.view()), scope: Arc::clone(caller.scope()), methods: caller.methods() }
    }

    /// The server whose lists they are.
    pub(super) fn server(&self) -> &Server {
        &self.view.server
    }

    /// Moves to the lists that `caller` sees now. Returns which of tools, resources and prompts the reader must be told
    /// of; `None` if its view is the one that it was, as after every change that does not concern it.
    pub(super) fn move_to(&mut self, caller: &Caller<'_>) -> Option<[bool; 3]> {
        if Arc::ptr_eq(caller.view(), &self.view) && caller.methods() == self.methods {
            return None;
        }
        let now = Self::new(caller);
        let is_same_view = Arc::ptr_eq(&now.view, &self.view);
        let rescoped = now.scope != self.scope && !is_same_view;
        let (before, after) = (generations(&self.view.server), generations(&now.view.server));
        *self = now;
        Some([0, 1, 2].map(|at| rescoped || before[at] != after[at]))
    }
}

fn generations(server: &Server) -> [u64; 3] {
    [server.tools_generation, server.resources_generation, server.prompts_generation]
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use delta::client::Sink as _;
    use trunkline::edge::v1::StreamType;

    use super::*;
    use crate::identity::{Principal, PrincipalKind};
    use crate::policy::{self, Facts};
    use crate::snapshot::Snapshot;
    use crate::snapshot::build::Resources;
    use crate::snapshot::build::tests::{builder, entry, fixture, server, token};

    fn admit<'a>(snapshot: &'a Snapshot, principal: &'a Arc<Principal>) -> Caller<'a> {
        let facts = Facts { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), now: 1 };
        policy::admit(snapshot, principal, "dev", facts).unwrap()
    }

    #[test]
    fn only_a_change_of_what_the_caller_sees_is_looked_at() {
        let (uid, name) = ("uid-some".into(), "tokens/some".into());
        let principal = Arc::new(Principal::new(PrincipalKind::Token, uid, name, None));
        let mut resources = fixture();
        let mut builder = builder(&resources);
        let first = builder.compile(1).snapshot;
        let mut known = KnownLists::new(&admit(&first, &principal));
        let mut after = |resources: &Resources| {
            resources.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
            let snapshot = builder.compile(2).snapshot;
            let moved = known.move_to(&admit(&snapshot, &principal));
            (moved, known.move_to(&admit(&snapshot, &principal)))
        };

        resources.servers.push(server("other", vec![entry("t", "upstreams/time/tools/now")]));
        resources.tokens.push(token("more", &["*"]));
        resources.tokens[0].tools.clear();
        assert_eq!(after(&resources), (None, None), "another server, and other tokens");

        let renamed = entry("time_reset", "upstreams/time/tools/set");
        resources.servers[0].tools[1] = renamed;
        assert_eq!(after(&resources), (Some([true, false, false]), None), "a tool of the server");

        resources.tokens[1].tools.push("time_reset".into());
        assert_eq!(after(&resources), (Some([true; 3]), None), "its own token");
        builder.remove(StreamType::Token, "tokens/more");
        let snapshot = builder.compile(3).snapshot;
        assert_eq!(known.move_to(&admit(&snapshot, &principal)), None);
    }
}
