//! Which other edges have tunnels, as they say it. It must not know how they are reached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use trunkline::edge::v1::TunnelChanged;

/// What is remembered of edges and upstreams; past it, what is closed is forgotten.
const MAX_KNOWN: usize = 65_536;

/// What other edges said last.
#[derive(Debug)]
pub(super) struct Far {
    said: Mutex<HashMap<Key, Said>>,
    changed: watch::Sender<()>,
}

/// An upstream by its uid, and an edge by its id.
type Key = (Box<str>, Box<str>);

#[derive(Debug, Clone, Copy)]
struct Said {
    open: bool,
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
        let key = (upstream.into(), edge.into());
        if said.get(&key).is_some_and(|known| known.at_us > said_us) {
            return;
        }
        if said.len() >= MAX_KNOWN && !said.contains_key(&key) {
            said.retain(|_, said| said.open);
            if said.len() >= MAX_KNOWN {
                return tracing::warn!("there are more tunnels than this edge can know of");
            }
        }
        said.insert(key, Said { open, at_us: said_us });
        drop(said);
        self.changed.send_replace(());
    }

    /// An edge turned out to have no tunnel: it was started anew, or what it said is on its way.
    pub(super) fn mistaken(&self, upstream: &str, edge: &str) {
        if let Some(said) = self.lock().get_mut(&(upstream.into(), edge.into())) {
            said.open = false;
        }
    }

    /// The edges that have a tunnel to an upstream, those first that said so last.
    pub(super) fn edges(&self, upstream: &str) -> Vec<Box<str>> {
        let said = self.lock();
        let mut edges: Vec<_> =
            said.iter().filter(|((found, _), said)| **found == *upstream && said.open).collect();
        edges.sort_by_key(|(_, said)| std::cmp::Reverse(said.at_us));
        edges.into_iter().map(|((_, edge), _)| edge.clone()).collect()
    }

    /// Everything, as it was said.
    pub(super) fn all(&self) -> Vec<TunnelChanged> {
        let said = self.lock();
        let event = |((upstream, edge), said): (&Key, &Said)| TunnelChanged {
            upstream: upstream.to_string(),
            edge: edge.to_string(),
            open: said.open,
            said_us: said.at_us,
        };
        said.iter().map(event).collect()
    }

    /// Changes with what is said.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(edge: &str, open: bool, said_us: u64) -> TunnelChanged {
        TunnelChanged { upstream: "u".to_owned(), edge: edge.to_owned(), open, said_us }
    }

    #[test]
    fn who_said_so_last_is_asked_first_and_who_was_mistaken_not_again() {
        let far = Far::default();
        for event in [said("a", true, 1), said("b", true, 2), said("c", true, 3), said("c", false, 4)] {
            far.heard(event);
        }
        assert_eq!(far.edges("u"), ["b".into(), "a".into()]);
        assert_eq!(far.edges("v"), Vec::<Box<str>>::new());
        far.mistaken("u", "b");
        assert_eq!(far.edges("u"), ["a".into()]);
        far.heard(said("b", true, 5));
        assert_eq!(far.edges("u"), ["b".into(), "a".into()]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let far = Far::default();
        (0..MAX_KNOWN).for_each(|edge| far.heard(said(&edge.to_string(), edge == 0, 1)));
        assert_eq!(far.all().len(), MAX_KNOWN);
        far.heard(said("new", true, 1));
        assert_eq!(far.edges("u").len(), 2);
        assert_eq!(far.all().len(), 2);
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
            prop_assert_eq!(in_order.edges("u"), in_disorder.edges("u"));
        }
    }
}
