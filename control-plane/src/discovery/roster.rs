//! The roster: the edges that other edges may reach, read from the table of edges, whichever replica they are connected to.
//!
//! It must not know the stream. An edge that left stays for a moment, so that one that only reconnects is not
//! forgotten by the others, and one that was deleted goes at once.

use std::sync::Arc;
use std::time::Duration;

use delta::Items;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use trunkline::edge::v1::{Sibling, StreamType};

use crate::clock;
use crate::snapshot::content;
use crate::store::edges::{Edges, SiblingRow};

/// The interval between reads of the table, the only place where other replicas announce their edges.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Edges that connect within this time are published together.
const COALESCE: Duration = Duration::from_millis(100);
/// The shortest interval between two publications: the size of each grows with the number of edges.
const MIN_INTERVAL: Duration = Duration::from_millis(400);
/// The time that an edge stays on the roster after its last heartbeat.
const GRACE: Duration = Duration::from_secs(60);
/// After a start, edges that were there so long ago have the time of `GRACE` to come back: they may have lost
/// every control plane, and must not lose each other.
const ABSENCE: Duration = Duration::from_secs(86_400);

/// The roster of one replica.
#[derive(Debug)]
pub struct Roster {
    edges: Edges,
    started_us: i64,
    siblings: watch::Sender<Arc<Items>>,
}

impl Roster {
    /// The roster as the table has it now.
    ///
    /// # Errors
    /// Fails when the table cannot be read.
    pub async fn start(edges: Edges) -> sqlx::Result<Self> {
        let roster =
            Self { edges, started_us: clock::now_us(), siblings: watch::Sender::new(Arc::default()) };
        roster.poll().await?;
        Ok(roster)
    }

    /// The edges, whenever they change.
    pub fn siblings(&self) -> watch::Receiver<Arc<Items>> {
        self.siblings.subscribe()
    }

    /// Follows the table for ever; `changed` says that a poll is due.
    pub async fn run(self, mut changed: watch::Receiver<u64>) {
        loop {
            if matches!(timeout(POLL_INTERVAL, changed.changed()).await, Ok(Ok(()))) {
                sleep(COALESCE).await;
                changed.borrow_and_update();
            }
            match self.poll().await {
                Ok(false) => {}
                Ok(true) => sleep(MIN_INTERVAL).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the table of edges; edges do not learn of each other");
                    sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    /// Reads the table. Returns whether it names other edges than before.
    async fn poll(&self) -> sqlx::Result<bool> {
        let since = since(clock::now_us(), self.started_us);
        let rows = self.edges.siblings(since).await?;
        Ok(self.siblings.send_if_modified(|known| {
            let items = items(&rows, known);
            let differs = **known != items;
            if differs {
                *known = Arc::new(items);
            }
            differs
        }))
    }
}

/// Edges that were seen since then are there.
fn since(now_us: i64, started_us: i64) -> i64 {
    let grace = clock::duration_us(GRACE);
    if now_us - started_us < grace { started_us - clock::duration_us(ABSENCE) } else { now_us - grace }
}

/// The items of these edges. Those that `known` has already are shared with it, so that nobody compares them again.
fn items(rows: &[SiblingRow], known: &Items) -> Items {
    let item = |row: &SiblingRow| {
        let name = format!("siblings/{}", row.id);
        let sibling = Sibling {
            name: name.clone(),
            address: row.address.clone(),
            certificate_sha256: bytes(&row.certificate),
        };
        let item = content::item(StreamType::Sibling, &name, 0, sibling.encode_to_vec());
        match known.get_key_value(&*name).filter(|(_, known)| ***known == item) {
            Some((name, item)) => (name.clone(), item.clone()),
            None => (name.into(), Arc::new(item)),
        }
    };
    rows.iter().map(item).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_stays_for_a_minute_and_longer_after_a_start() {
        let second = 1_000_000;
        assert_eq!(since(1_000 * second, 100 * second), 940 * second);
        assert!(since(1_000 * second, 990 * second) < 0);
    }

    #[test]
    fn a_sign_of_life_changes_nothing() {
        let row = |seen_us| SiblingRow {
            id: "e".to_owned(),
            address: "a:1".to_owned(),
            certificate: "07".repeat(32),
            seen_us,
        };
        let first = items(&[row(1)], &Items::new());
        let second = items(&[row(2)], &first);
        assert!(Arc::ptr_eq(&first["siblings/e"], &second["siblings/e"]));
        assert_eq!(bytes(&row(1).certificate), [7; 32]);
        assert_eq!(first.keys().map(|name| &**name).collect::<Vec<_>>(), ["siblings/e"]);
    }
}
