//! Edges that know each other, in this process, over real sockets.

use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline::edge::v1 as wire;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::config::published::PublishedNames;
use trunkline_edge_proxy::fleet::Waiters;
use trunkline_edge_proxy::fleet::{Certificate, Fleet};

use super::{Edge, Keys};

/// Edges of one fleet, all before the same upstream.
pub(crate) struct TestFleet {
    url: String,
    keys: Keys,
    change: fn(&mut super::TestSnapshot),
    pub(crate) edges: Vec<Member>,
}

/// An edge of a fleet.
pub(crate) struct Member {
    edge: Edge,
    sibling: wire::Sibling,
    serving: DropGuard,
}

impl Deref for Member {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.edge
    }
}

impl TestFleet {
    /// Edges `e0`, `e1` and so on, who know each other when this returns.
    pub(crate) async fn start(url: &str, count: usize) -> Self {
        Self::changed(url, count, |_| {}).await
    }

    /// Starts a fleet with a snapshot that `change` has changed.
    pub(crate) async fn changed(url: &str, count: usize, change: fn(&mut super::TestSnapshot)) -> Self {
        let mut fleet = Self { url: url.to_owned(), keys: Keys::new(), change, edges: Vec::new() };
        for number in 0..count {
            fleet.edges.push(Member::start(&fleet, &format!("e{number}")));
        }
        fleet.publish().await;
        fleet
    }

    /// One more edge, of whom the others do not know yet.
    pub(crate) fn stranger(&self, id: &str) -> Member {
        Member::start(self, id)
    }

    /// Tells every edge of all edges, and waits until each has heard.
    pub(crate) async fn publish(&mut self) {
        let siblings: Vec<wire::Sibling> = self.edges.iter().map(|member| member.sibling.clone()).collect();
        self.edges.iter_mut().for_each(|member| member.publish(&siblings, self.change));
        for member in &self.edges {
            member.joined(siblings.len() - 1).await;
        }
    }
}

impl Member {
    fn start(fleet: &TestFleet, id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::load_or_create(folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sibling = wire::Sibling {
            name: format!("siblings/{id}"),
            address: listener.local_addr().unwrap().to_string(),
            certificate_sha256: certificate.fingerprint().to_vec(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let edge = Edge::among(
            &fleet.url,
            Limits::default(),
            &PublishedNames::default(),
            fleet.keys.clone(),
            |current, metrics| {
                let waiters = Arc::new(Waiters::new(id));
                let (current, metrics) = (Arc::clone(current), Arc::clone(metrics));
                Fleet::with_siblings(waiters, current, certificate, &Limits::default(), metrics, handle)
            },
        );
        let (stop, shared) = (CancellationToken::new(), Arc::clone(&edge.shared));
        let until = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                // Cut, not stopped in order.
                let never = CancellationToken::new();
                let _ = until.run_until_cancelled(Fleet::serve(listener, shared, never)).await;
            });
        });
        Self { edge, sibling, serving: stop.drop_guard() }
    }

    /// Cuts its connections with the others, for good.
    pub(crate) fn leave(self) {
        drop(self.serving);
    }

    /// What the others are told of it.
    pub(crate) fn sibling(&self) -> wire::Sibling {
        self.sibling.clone()
    }

    /// Where it takes calls of the others.
    pub(crate) fn sibling_address(&self) -> SocketAddr {
        self.sibling.address.parse().unwrap()
    }

    /// Tells this edge, and no other, who the edges are.
    pub(crate) fn publish(&mut self, siblings: &[wire::Sibling], change: fn(&mut super::TestSnapshot)) {
        self.edge.snapshot.resources.siblings = siblings.to_vec();
        change(&mut self.edge.snapshot);
        self.edge.publish();
        self.edge.current.set_complete();
    }

    /// Waits until it knows so many others, and has asked them what they know.
    pub(crate) async fn joined(&self, others: usize) {
        for _ in 0..1_200 {
            let known = self.edge.shared.environment.metrics.siblings_known.get();
            if known == others as i64 && self.edge.current.is_ready() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not get to know its siblings", self.sibling.name);
    }
}
