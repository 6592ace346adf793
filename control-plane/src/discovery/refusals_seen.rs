//! What edges refuse, as far as it exists for who looks. It must not know what else is told of edges.

use std::collections::HashMap;
use std::sync::Arc;

use trunkline::discovery::v1::{EdgeRefusal, EdgeStatus};

use crate::domain::{Kind, names};
use crate::error::Error;
use crate::rights::{Ownership, Rights};
use crate::store::Store;

/// The reason of a refusal, which may name other resources, for those who do not see everything.
const UNTOLD: &str = "its reason is told to those who hold registry.all";

/// Somebody who looks at edges.
#[derive(Debug, Clone)]
pub(super) struct Onlooker {
    store: Store,
    rights: Arc<Rights>,
    /// Whose upstreams, servers and so on are, as far as that was looked up.
    known: HashMap<String, Option<Ownership>>,
}

impl Onlooker {
    pub(super) fn new(store: Store, rights: Arc<Rights>) -> Self {
        Self { store, rights, known: HashMap::new() }
    }

    /// Takes off what does not exist for them.
    pub(super) async fn cut(&mut self, edge: &mut EdgeStatus) -> Result<(), Error> {
        if self.rights.sees_all() {
            return Ok(());
        }
        for refusal in std::mem::take(&mut edge.refusals) {
            if self.sees(&refusal).await? {
                edge.refusals.push(without_reason(refusal));
            }
        }
        Ok(())
    }

    async fn sees(&mut self, refusal: &EdgeRefusal) -> Result<bool, Error> {
        let name = refusal.refusal.as_ref().map(|refusal| refusal.name.clone()).unwrap_or_default();
        let (kind, name) = match (names::kind_of(&name), names::upstream_id(&name)) {
            (None, _) => return Ok(false),
            (Some(_), Some(upstream)) => (Kind::Upstream, names::upstream(upstream)),
            (Some(kind), None) => (kind, name),
        };
        if !self.known.contains_key(&name) {
            let ownership = self.store.ownership(kind, &name).await?;
            self.known.insert(name.clone(), ownership);
        }
        Ok(self.known.get(&name).and_then(Option::as_ref).is_some_and(|of| self.rights.sees(of)))
    }
}

fn without_reason(mut refusal: EdgeRefusal) -> EdgeRefusal {
    if let Some(refusal) = &mut refusal.refusal {
        UNTOLD.clone_into(&mut refusal.reason);
    }
    refusal
}
