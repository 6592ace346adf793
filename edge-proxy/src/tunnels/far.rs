//! Which other edges have tunnels, as they say it. It must not know how they are reached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use trunkline::edge::v1::TunnelChanged;

/// What is remembered of edges and upstreams; past it, what is closed is forgotten.
const MAX_KNOWN: usize = 65_536;

/// What edges said of upstreams.
type All = HashMap<Box<str>, HashMap<Box<str>, Said>>;

/// What other edges said last, by upstream and edge.
#[derive(Debug)]
pub(super) struct Far {
    said: Mutex<All>,
    changed: watch::Sender<()>,
}

/// What one edge said of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    open: bool,
    at_us: u64,
}

/// An edge that says it has a tunnel, and when it said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) edge: Box<str>,
    at_us: u64,
}

impl Default for Far {
    fn default() -> Self {
        Self { said: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Far {
    /// What was said later counts, whenever it is heard.
    pub(super) fn heard(&self, event: TunnelChanged) {
        let TunnelChanged { upstream, edge, open, said_us } = event;
        let mut said = self.lock();
        let known = said.get(upstream.as_str()).and_then(|edges| edges.get(edge.as_str())).copied();
        if known.is_some_and(|known| known.at_us > said_us) {
            return;
        }
        if known.is_none() && count(&said) >= MAX_KNOWN {
            keep(&mut said, |_, _, said| said.open);
            if count(&said) >= MAX_KNOWN {
                return tracing::warn!("too many tunnels at other edges to track them all");
            }
        }
        said.entry(upstream.into()).or_default().insert(edge.into(), Said { open, at_us: said_us });
        drop(said);
        self.changed.send_replace(());
    }

    /// Forgets what is about upstreams or edges that are gone.
    pub(super) fn retain(&self, upstream: impl Fn(&str) -> bool, edge: impl Fn(&str) -> bool) {
        keep(&mut self.lock(), |found, by, _| upstream(found) && edge(by));
    }

    /// An edge turned out to have no tunnel, unless it said something else since: it was started anew, or what it said is on its
    /// way.
    pub(super) fn mistaken(&self, upstream: &str, holder: &Holder) {
        let mut all = self.lock();
        let said = all.get_mut(upstream).and_then(|edges| edges.get_mut(&holder.edge));
        if let Some(said) = said.filter(|said| said.at_us == holder.at_us) {
            said.open = false;
        }
    }

    /// The edges that have a tunnel to an upstream, those first that said so last.
    pub(super) fn holders(&self, upstream: &str) -> Vec<Holder> {
        let said = self.lock();
        let open = said.get(upstream).into_iter().flatten().filter(|(_, said)| said.open);
        let mut holders: Vec<_> =
            open.map(|(edge, said)| Holder { edge: edge.clone(), at_us: said.at_us }).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.at_us));
        holders
    }

    /// Everything, as it was said.
    pub(super) fn all(&self) -> Vec<TunnelChanged> {
        let all = self.lock();
        let event = |upstream: &str, edge: &str, said: &Said| TunnelChanged {
            upstream: upstream.to_owned(),
            edge: edge.to_owned(),
            open: said.open,
            said_us: said.at_us,
        };
        all.iter()
            .flat_map(|(upstream, edges)| edges.iter().map(move |(edge, said)| event(upstream, edge, said)))
            .collect()
    }

    /// Changes with what is said.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(all: &All) -> usize {
    all.values().map(HashMap::len).sum()
}

fn keep(all: &mut All, wanted: impl Fn(&str, &str, &Said) -> bool) {
    all.retain(|upstream, edges| {
        edges.retain(|edge, said| wanted(upstream, edge, said));
        !edges.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(edge: &str, open: bool, said_us: u64) -> TunnelChanged {
        TunnelChanged { upstream: "u".to_owned(), edge: edge.to_owned(), open, said_us }
    }

    fn edges(far: &Far, upstream: &str) -> Vec<String> {
        far.holders(upstream).into_iter().map(|holder| holder.edge.into()).collect()
    }

    #[test]
    fn who_said_so_last_is_asked_first_and_who_was_mistaken_not_again() {
        let far = Far::default();
        for event in [said("a", true, 1), said("b", true, 2), said("c", true, 3), said("c", false, 4)] {
            far.heard(event);
        }
        assert_eq!(edges(&far, "u"), ["b", "a"]);
        assert_eq!(edges(&far, "v"), Vec::<String>::new());
        let b = far.holders("u")[0].clone();
        far.mistaken("u", &b);
        assert_eq!(edges(&far, "u"), ["a"]);
        far.heard(said("b", true, 5));
        assert_eq!(edges(&far, "u"), ["b", "a"]);
        // That was known of what it said before.
        far.mistaken("u", &b);
        assert_eq!(edges(&far, "u"), ["b", "a"]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let far = Far::default();
        (0..MAX_KNOWN).for_each(|edge| far.heard(said(&edge.to_string(), edge == 0, 1)));
        assert_eq!(far.all().len(), MAX_KNOWN);
        far.heard(said("new", true, 1));
        assert_eq!(edges(&far, "u").len(), 2);
        assert_eq!(far.all().len(), 2);
        far.retain(|upstream| upstream == "u", |edge| edge == "new");
        assert_eq!(edges(&far, "u"), ["new"]);
        far.retain(|_| false, |_| true);
        assert_eq!(far.all(), []);
    }

    proptest! {
        /// In whatever order it is heard, and however often, what was said last of each edge counts.
        #[test]
        fn the_order_of_hearing_means_nothing(
            opens in proptest::collection::vec((0u8..3, any::<bool>()), 1..20), seed: u64
        ) {
            use rand::seq::SliceRandom as _;
            use rand::{SeedableRng as _, rngs::StdRng};
            let event = |(at, (edge, open)): (usize, &(u8, bool))| said(&edge.to_string(), *open, at as u64);
            let events: Vec<_> = opens.iter().enumerate().map(event).collect();
            let mut shuffled = [events.clone(), events.clone()].concat();
            shuffled.shuffle(&mut StdRng::seed_from_u64(seed));
            let (in_order, in_disorder) = (Far::default(), Far::default());
            events.into_iter().for_each(|event| in_order.heard(event));
            shuffled.into_iter().for_each(|event| in_disorder.heard(event));
            prop_assert_eq!(edges(&in_order, "u"), edges(&in_disorder, "u"));
        }
    }
}
