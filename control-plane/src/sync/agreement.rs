//! Whether the control planes that share the database agree on where upstreams may be: what one of them finds is shown by all, so
//! an upstream would be unreachable for as long as the strictest of them looks after it.
//!
//! It must not know what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use egress::Rule;

use crate::clock;
use crate::store::replicas::{ReplicaRow, Replicas};

/// The interval at which a control plane says that it runs.
const BEAT: Duration = Duration::from_secs(5);
/// One that has not said so for so long does not run.
const SILENCE: Duration = Duration::from_secs(30);

/// Compares the rule of this control plane with those of the others.
#[derive(Debug)]
pub struct Agreement {
    table: Replicas,
    own: ReplicaRow,
    /// Those that were warned about, with the rule that they had.
    known: BTreeSet<String>,
}

impl Agreement {
    /// Compares with what `own` says of this control plane.
    pub fn new(table: Replicas, own: ReplicaRow) -> Self {
        Self { table, own, known: BTreeSet::new() }
    }

    /// Says that this control plane runs, and warns once about each other one that has another rule, for ever.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.compare().await {
                tracing::debug!(%error, "cannot compare the egress rules of control planes");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn compare(&mut self) -> sqlx::Result<()> {
        self.table.beat(&self.own, clock::now_us() - clock::duration_us(SILENCE)).await?;
        let all = self.table.all().await?;
        for other in differing(&self.own, &all) {
            if self.known.insert(other.id.clone()) {
                tracing::warn!(
                    "{} has another egress rule than this control plane ({}, here {}): upstreams may become unreachable for all; \
                     start both with the same --egress-allow and --egress-deny",
                    other.place,
                    other.egress,
                    self.own.egress
                );
            }
        }
        self.known.retain(|id| all.iter().any(|other| other.id == *id));
        Ok(())
    }
}

fn differing<'a>(own: &ReplicaRow, all: &'a [ReplicaRow]) -> impl Iterator<Item = &'a ReplicaRow> {
    all.iter().filter(move |other| other.id != own.id && !agree(&own.egress, &other.egress))
}

/// Tells whether two rules allow the same, in whatever order they name it.
fn agree(one: &str, other: &str) -> bool {
    let rules = (one.parse::<Rule>(), other.parse::<Rule>());
    let (Ok(first), Ok(second)) = rules else { return one == other };
    first.options_to_allow(&second).is_none() && second.options_to_allow(&first).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn replica(id: &str, egress: &str) -> ReplicaRow {
        ReplicaRow { id: id.to_owned(), place: format!("at {id}"), egress: egress.to_owned() }
    }

    #[test]
    fn the_order_of_a_rule_means_nothing() {
        assert!(agree("public addresses, private, loopback", "public addresses, loopback, private"));
        assert!(!agree("public addresses, loopback", "public addresses"));
        assert!(!agree("public addresses", "public addresses; never 8.8.8.8"));
        assert!(agree("of later", "of later") && !agree("of later", "public addresses"));
    }

    #[tokio::test]
    async fn those_are_named_once_that_run_with_another_rule() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let table = Replicas::new(&store);
        let mut here = Agreement::new(table.clone(), replica("a", "public addresses"));
        table.beat(&replica("b", "public addresses, loopback"), 0).await.unwrap();
        table.beat(&replica("c", "public addresses"), 0).await.unwrap();
        here.compare().await.unwrap();
        here.compare().await.unwrap();
        assert_eq!(here.known, ["b".to_owned()].into());
        table.leave("b").await.unwrap();
        here.compare().await.unwrap();
        assert_eq!(here.known, BTreeSet::new());
        table.beat(&here.own, i64::MAX).await.unwrap();
        assert_eq!(table.all().await.unwrap(), [], "who is silent is forgotten");
    }
}
