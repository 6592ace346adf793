//! The shares that edges have of rates: together never more than the rate, and moved to where calls come.
//!
//! A share that was given stays in force until its edge asks again, or its time is over, so that what one edge loses is given to
//! another only afterwards. Likewise with the calls that may come at once: what no edge has fills a pool, from which an edge that begins is
//! given. Pure. It must not know tokens, nor how edges are asked.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long an edge may use its share without a word.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// A share is given to others only after so long: the answer took its time.
pub(super) const KEPT: Duration = Duration::from_secs(12);
/// Buckets that are kept at most; an edge that asks for a further one gets nothing.
const MAX_BUCKETS: usize = 100_000;

/// A rate, or the part of it that is this replica's to give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SharedRate {
    /// Calls a second.
    pub(super) per_second: f64,
    /// Calls that may come at once.
    pub(super) burst: f64,
}

/// The share of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GrantedShare {
    /// Thousandths of a call a second.
    pub(super) milli_per_second: i64,
    /// Calls that may come at once.
    pub(super) burst: i64,
}

/// The shares of all rates.
#[derive(Debug, Default)]
pub(super) struct RateShares {
    buckets: HashMap<String, SharedBucket>,
}

#[derive(Debug)]
struct SharedBucket {
    edges: BTreeMap<String, EdgeShare>,
    /// The calls that may come at once and are no edge's.
    pool: f64,
    filled: Instant,
}

#[derive(Debug)]
struct EdgeShare {
    /// What it was given last, and what may be in force.
    given: f64,
    in_force: f64,
    burst: f64,
    /// What calls it expects.
    wanted: f64,
    seen: Instant,
}

impl RateShares {
    /// Gives `edge`, which is a run of one, its share of a bucket, in which it expects `wanted` calls soon.
    pub(super) fn give(
        &mut self,
        bucket: &str,
        edge: &str,
        rate: SharedRate,
        wanted: i64,
        now: Instant,
    ) -> GrantedShare {
        if !self.buckets.contains_key(bucket) && !self.has_room(now) {
            return GrantedShare::default();
        }
        let new = || SharedBucket { edges: BTreeMap::new(), pool: rate.burst, filled: now };
        let shared = self.buckets.entry(bucket.to_owned()).or_insert_with(new);
        shared.fill(rate, now);
        shared.give(edge, rate, wanted as f64, now)
    }

    /// What all edges but `edge` expect of a bucket, and what all go by, in calls a second, now that `edge` has heard the last answer.
    pub(super) fn standing(&self, bucket: &str, edge: &str, now: Instant) -> (f64, f64) {
        let Some(shared) = self.buckets.get(bucket) else { return (0.0, 0.0) };
        let there = || shared.edges.iter().filter(|(_, share)| share.is_there(now));
        let others = there().filter(|(name, _)| *name != edge);
        let goes_by =
            |(name, share): (&String, &EdgeShare)| if name == edge { share.given } else { share.in_force };
        (others.map(|(_, share)| share.wanted).sum(), there().map(goes_by).sum())
    }

    /// Forgets the buckets that no edge has a share of, where there are too many.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.buckets.len() >= MAX_BUCKETS {
            self.buckets.retain(|_, bucket| bucket.edges.values().any(|edge| edge.is_there(now)));
        }
        self.buckets.len() < MAX_BUCKETS
    }
}

impl SharedBucket {
    /// Lets go of edges that are gone, and fills the pool with what no edge has of the rate.
    fn fill(&mut self, rate: SharedRate, now: Instant) {
        let (shares, bursts) = self.in_force();
        let free = (rate.per_second - shares).max(0.0);
        let time = now.saturating_duration_since(self.filled).as_secs_f64();
        self.pool = (self.pool + free * time).min(rate.burst - bursts);
        self.filled = now;
        self.edges.retain(|_, edge| edge.is_there(now));
    }

    fn in_force(&self) -> (f64, f64) {
        self.edges
            .values()
            .fold((0.0, 0.0), |(share, burst), edge| (share + edge.in_force, burst + edge.burst))
    }

    fn give(&mut self, name: &str, rate: SharedRate, wanted: f64, now: Instant) -> GrantedShare {
        let mut edge = self.edges.remove(name).unwrap_or_else(|| EdgeShare::new(now));
        // It asks again, so it has heard the last answer.
        edge.in_force = edge.given;
        (edge.wanted, edge.seen) = (wanted.max(0.0), now);
        let others = self.in_force().0;
        let all_wanted = self.edges.values().map(|other| other.wanted).sum::<f64>() + edge.wanted;
        let even = 1.0 / (self.edges.len() + 1) as f64;
        let by_use = if all_wanted > 0.0 { edge.wanted / all_wanted } else { even };
        let target = rate.per_second * (even + by_use) / 2.0;
        let given = target.min(rate.per_second - others).max(0.0);
        let milli_per_second = (given * 1_000.0).floor();
        self.give_burst(&mut edge, rate, milli_per_second / 1_000.0);
        edge.given = milli_per_second / 1_000.0;
        edge.in_force = edge.in_force.max(edge.given);
        let burst = if milli_per_second > 0.0 { edge.burst.floor() } else { 0.0 };
        self.edges.insert(name.to_owned(), edge);
        GrantedShare { milli_per_second: milli_per_second as i64, burst: burst as i64 }
    }

    /// One that begins is given of the pool, which edges may use at once; one that has a share earns more by itself.
    fn give_burst(&mut self, edge: &mut EdgeShare, rate: SharedRate, given: f64) {
        if given <= 0.0 {
            return;
        }
        let target = (rate.burst * given / rate.per_second).max(1.0);
        if edge.given > 0.0 {
            edge.burst = target;
            return;
        }
        // One call at least: without it there would be none at all.
        edge.burst = target.min(self.pool.max(1.0));
        self.pool -= edge.burst;
    }
}

impl EdgeShare {
    fn new(now: Instant) -> Self {
        Self { given: 0.0, in_force: 0.0, burst: 0.0, wanted: 0.0, seen: now }
    }

    fn is_there(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) < KEPT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: SharedRate = SharedRate { per_second: 10.0, burst: 10.0 };

    #[test]
    fn one_edge_has_all_and_two_share_by_use() {
        let (mut shares, start) = (RateShares::default(), Instant::now());
        let mut give = |edge: &str, wanted: i64, seconds: u64| {
            let share = shares.give("b", edge, TEN, wanted, start + Duration::from_secs(seconds));
            (share.milli_per_second, share.burst)
        };
        assert_eq!(give("a", 5, 0), (10_000, 10));
        // What the first has is the second's only once the first has heard of it.
        assert_eq!(give("b", 5, 0), (0, 0));
        assert_eq!(give("a", 5, 1), (5_000, 5));
        assert_eq!(give("b", 5, 1), (0, 0));
        assert_eq!(give("a", 5, 2), (5_000, 5));
        assert_eq!(give("b", 5, 2), (5_000, 1), "the burst was the first's");
        assert_eq!(give("b", 5, 3), (5_000, 5), "and is earned");
        assert_eq!(give("a", 0, 4), (2_500, 2));
        assert_eq!(give("a", 0, 5), (2_500, 2));
        assert_eq!(give("b", 5, 5), (7_500, 7));
        // The first says nothing more.
        assert_eq!(give("b", 5, 16), (7_500, 7));
        assert_eq!(give("b", 5, 17), (10_000, 10));
    }

    proptest! {
        /// Whatever edges come, go and hear late: together they never have more than the rate.
        #[test]
        fn shares_never_add_up_to_more_than_the_rate(
            steps in proptest::collection::vec((0usize..5, 0i64..100, 0u64..4_000, any::<bool>()), 1..200),
        ) {
            let (mut shares, mut now) = (RateShares::default(), Instant::now());
            // What each edge goes by: its share, until when, and the answer that it has not heard, with the time at which it asked.
            type Edge = (i64, Instant, Option<(i64, Instant)>);
            let mut edges: Vec<Edge> = vec![(0, now, None); 5];
            for (edge, wanted, pause, hears) in steps {
                now += Duration::from_millis(pause);
                if let (_, _, Some((late, asked))) = edges[edge] {
                    edges[edge] = (late, asked + TTL, None);
                }
                let given = shares.give("b", &format!("e{edge}"), TEN, wanted, now).milli_per_second;
                if hears {
                    edges[edge] = (given, now + TTL, None);
                } else {
                    edges[edge].2 = Some((given, now));
                }
                let in_force = edges.iter().filter(|(_, until, _)| now < *until);
                let sum: i64 = in_force.map(|(share, _, _)| share).sum();
                prop_assert!(sum <= 10_000, "{} {:?}", sum, edges);
            }
        }
    }
}
