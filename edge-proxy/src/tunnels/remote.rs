//! The tunnels to siblings, as they report them. It must not know how siblings are reached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trunkline::edge::v1::TunnelChanged;

/// States that are kept; past it, closed tunnels are forgotten.
const MAX_KNOWN: usize = 65_536;

/// The states of tunnels by upstream and edge.
type StatesByUpstream = HashMap<Box<str>, HashMap<Box<str>, State>>;

/// The last reported state of each tunnel to a sibling.
#[derive(Debug)]
pub(super) struct RemoteTunnels {
    states: Mutex<StatesByUpstream>,
    changed: watch::Sender<()>,
}

/// The reported state of one tunnel.
#[derive(Debug)]
struct State {
    open: bool,
    at_us: u64,
    /// Set when the tunnel is no longer open.
    retired: CancellationToken,
}

/// A sibling that reported a tunnel, and the time of the report.
#[derive(Debug, Clone)]
pub(super) struct TunnelHolder {
    pub(super) edge: Box<str>,
    /// Set when it reports that the tunnel is no longer open.
    pub(super) retired: CancellationToken,
    at_us: u64,
}

impl Default for RemoteTunnels {
    fn default() -> Self {
        Self { states: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl RemoteTunnels {
    /// Applies a report. The latest counts, in whatever order they arrive.
    pub(super) fn apply(&self, event: TunnelChanged) {
        let TunnelChanged { upstream, edge, open, changed_us } = event;
        let mut states = self.lock();
        if let Some(known) = states.get_mut(upstream.as_str()).and_then(|edges| edges.get_mut(edge.as_str()))
        {
            if known.at_us > changed_us {
                return;
            }
            known.report(open, changed_us);
            drop(states);
            self.changed.send_replace(());
            return;
        }
        if count(&states) >= MAX_KNOWN {
            retain_states(&mut states, |_, _, states| states.open);
            if count(&states) >= MAX_KNOWN {
                return tracing::warn!("too many tunnels at other edges to track them all");
            }
        }
        let state = State { open, at_us: changed_us, retired: CancellationToken::new() };
        states.entry(upstream.into()).or_default().insert(edge.into(), state);
        drop(states);
        self.changed.send_replace(());
    }

    /// Forgets upstreams and edges that are gone.
    pub(super) fn retain(&self, upstream: impl Fn(&str) -> bool, edge: impl Fn(&str) -> bool) {
        retain_states(&mut self.lock(), |found, by, _| upstream(found) && edge(by));
    }

    /// Marks a tunnel closed that its sibling turned out not to have, unless that has reported another state since: it
    /// was restarted, or its report is on the way.
    pub(super) fn mark_closed(&self, upstream: &str, holder: &TunnelHolder) {
        let mut all = self.lock();
        let states = all.get_mut(upstream).and_then(|edges| edges.get_mut(&holder.edge));
        if let Some(states) = states.filter(|states| states.at_us == holder.at_us) {
            states.report(false, holder.at_us);
        }
    }

    /// The siblings that have a tunnel to an upstream, the latest report first.
    pub(super) fn holders(&self, upstream: &str) -> Vec<TunnelHolder> {
        let states = self.lock();
        let open = states.get(upstream).into_iter().flatten().filter(|(_, states)| states.open);
        let holders = open.map(|(edge, state)| TunnelHolder {
            edge: edge.clone(),
            retired: state.retired.clone(),
            at_us: state.at_us,
        });
        let mut holders: Vec<_> = holders.collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.at_us));
        holders
    }

    /// Returns all states.
    pub(super) fn all(&self) -> Vec<TunnelChanged> {
        let all = self.lock();
        let event = |upstream: &str, edge: &str, states: &State| TunnelChanged {
            upstream: upstream.to_owned(),
            edge: edge.to_owned(),
            open: states.open,
            changed_us: states.at_us,
        };
        all.iter()
            .flat_map(|(upstream, edges)| {
                edges.iter().map(move |(edge, states)| event(upstream, edge, states))
            })
            .collect()
    }

    /// Watches for reports.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, StatesByUpstream> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&mut self, open: bool, at_us: u64) {
        match (self.open, open) {
            (true, false) => self.retired.cancel(),
            (false, true) => self.retired = CancellationToken::new(),
            _ => {}
        }
        (self.open, self.at_us) = (open, at_us);
    }
}

fn count(all: &StatesByUpstream) -> usize {
    all.values().map(HashMap::len).sum()
}

fn retain_states(all: &mut StatesByUpstream, wanted: impl Fn(&str, &str, &State) -> bool) {
    all.retain(|upstream, edges| {
        edges.retain(|edge, states| wanted(upstream, edge, states));
        !edges.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states(edge: &str, open: bool, changed_us: u64) -> TunnelChanged {
        TunnelChanged { upstream: "u".to_owned(), edge: edge.to_owned(), open, changed_us }
    }

    fn edges(remote: &RemoteTunnels, upstream: &str) -> Vec<String> {
        remote.holders(upstream).into_iter().map(|holder| holder.edge.into()).collect()
    }

    #[test]
    fn the_latest_edge_is_tried_first_and_a_mistaken_one_not_again() {
        let remote = RemoteTunnels::default();
        for event in [states("a", true, 1), states("b", true, 2), states("c", true, 3), states("c", false, 4)]
        {
            remote.apply(event);
        }
        assert_eq!(edges(&remote, "u"), ["b", "a"]);
        assert_eq!(edges(&remote, "v"), Vec::<String>::new());
        let b = remote.holders("u")[0].clone();
        remote.mark_closed("u", &b);
        assert_eq!(edges(&remote, "u"), ["a"]);
        remote.apply(states("b", true, 5));
        assert_eq!(edges(&remote, "u"), ["b", "a"]);
        // That was known of an earlier report.
        remote.mark_closed("u", &b);
        assert_eq!(edges(&remote, "u"), ["b", "a"]);
    }

    #[test]
    fn a_way_through_an_edge_is_retired_once_that_edge_says_that_its_tunnel_ends() {
        let remote = RemoteTunnels::default();
        let way = || remote.holders("u")[0].retired.clone();
        remote.apply(states("a", true, 1));
        let first = way();
        remote.apply(states("a", true, 2));
        assert!(!first.is_cancelled());
        remote.apply(states("a", false, 3));
        assert!(first.is_cancelled());
        remote.apply(states("a", true, 4));
        let second = way();
        assert!(!second.is_cancelled());
        // What is late changes nothing.
        remote.apply(states("a", false, 3));
        assert!(!second.is_cancelled());
        let holder = remote.holders("u")[0].clone();
        remote.mark_closed("u", &holder);
        assert!(second.is_cancelled());
    }

    #[test]
    fn what_is_known_is_bounded() {
        let remote = RemoteTunnels::default();
        (0..MAX_KNOWN).for_each(|edge| remote.apply(states(&edge.to_string(), edge == 0, 1)));
        assert_eq!(remote.all().len(), MAX_KNOWN);
        remote.apply(states("new", true, 1));
        assert_eq!(edges(&remote, "u").len(), 2);
        assert_eq!(remote.all().len(), 2);
        remote.retain(|upstream| upstream == "u", |edge| edge == "new");
        assert_eq!(edges(&remote, "u"), ["new"]);
        remote.retain(|_| false, |_| true);
        assert_eq!(remote.all(), []);
    }

    proptest! {
        /// In whatever order reports arrive, and however often, the latest of each edge counts.
        #[test]
        fn the_order_of_hearing_means_nothing(
            opens in proptest::collection::vec((0u8..3, any::<bool>()), 1..20), seed: u64
        ) {
            use rand::seq::SliceRandom as _;
            use rand::{SeedableRng as _, rngs::StdRng};
            let event = |(at, (edge, open)): (usize, &(u8, bool))| states(&edge.to_string(), *open, at as u64);
            let events: Vec<_> = opens.iter().enumerate().map(event).collect();
            let mut shuffled = [events.clone(), events.clone()].concat();
            shuffled.shuffle(&mut StdRng::seed_from_u64(seed));
            let (in_order, in_disorder) = (RemoteTunnels::default(), RemoteTunnels::default());
            events.into_iter().for_each(|event| in_order.apply(event));
            shuffled.into_iter().for_each(|event| in_disorder.apply(event));
            prop_assert_eq!(edges(&in_order, "u"), edges(&in_disorder, "u"));
        }
    }
}
