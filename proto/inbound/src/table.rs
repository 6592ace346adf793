//! Which connections are open and which is closed for a newer one: a state machine without sockets, clocks or locks.
//!
//! A connection is unauthenticated until a request on it has been authenticated. Those that are not may have a part of
//! the places only, and the oldest of them makes room for a newer one: so whoever just connected always has a while to
//! authenticate, however many connect.
//!
//! One that has authenticated counts for its holder, who may have as many as are still free (dynamic thresholds, as in the
//! [budget for bodies](crate::BodyBudget)): one holder alone has half of the places at most, two have a third each. Past
//! that one of its own makes room, which has no request in progress; if there is none, the new one is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The number of a connection, in the order of arrival.
pub type ConnectionId = u64;

/// Places that a [kept](HolderId::is_kept) holder may have for as long as there is any.
const KEPT_EACH: usize = 8;
/// Connections of a holder that are looked at for one without a request in progress.
const LOOKED_AT: usize = 256;

/// The bounds of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of those that have not authenticated.
    pub max_unauthenticated: usize,
    /// Maximum number of those of one address; of IPv6, of one /64, which is what one subscriber has.
    pub max_unauthenticated_per_address: usize,
    /// Places that only kept holders may have once they have authenticated; others have them for as long as they have not.
    pub kept: usize,
    /// Networks whose addresses may have any number, such as those of load balancers. What comes from there counts for no
    /// holder, because it brings requests of many.
    pub balancers: Vec<IpNet>,
}

impl ConnectionLimits {
    /// Bounds for a listener whose callers authenticate: three quarters of the places are for those that have not yet, and
    /// a sixteenth is kept.
    pub fn authenticated(max_connections: usize, per_address: usize, balancers: Vec<IpNet>) -> Self {
        let max_connections = max_connections.max(2);
        Self {
            max_connections,
            max_unauthenticated: max_connections - max_connections.div_ceil(4),
            max_unauthenticated_per_address: per_address.max(1),
            kept: max_connections / 16,
            balancers,
        }
    }

    /// Bounds for a listener that asks nobody who they are: the oldest connection makes room for the newest.
    pub fn open(max_connections: usize) -> Self {
        let max_connections = max_connections.max(1);
        Self {
            max_connections,
            max_unauthenticated: max_connections,
            max_unauthenticated_per_address: usize::MAX,
            kept: 0,
            balancers: Vec::new(),
        }
    }
}

/// Who authenticated a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HolderId {
    /// A keyed hash of who it is.
    pub hash: u64,
    /// True if places are kept for it.
    pub is_kept: bool,
}

/// The reason that a connection is closed for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// It is the oldest of its address, which has too many.
    Address,
    /// It is the oldest of all, of which there are too many.
    Oldest,
}

/// A connection that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub id: ConnectionId,
    /// The connection that is closed for it.
    pub evicted: Option<(ConnectionId, Eviction)>,
}

/// What became of a connection that has authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authenticated {
    /// It has a place, for which this other connection of its holder is closed.
    Placed(Option<ConnectionId>),
    /// Its holder has as many as it may. The connection is forgotten.
    Refused,
    /// It had authenticated before, or is closed.
    Unchanged,
}

/// Every place is taken by a connection that has authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("every connection that is open has authenticated")]
pub struct Full;

/// The open connections of a listener.
#[derive(Debug)]
pub struct ConnectionTable {
    limits: ConnectionLimits,
    next: ConnectionId,
    /// The oldest first.
    unauthenticated: BTreeMap<ConnectionId, IpAddr>,
    by_address: HashMap<IpAddr, BTreeSet<ConnectionId>>,
    /// Those that have authenticated, and who each counts for.
    authenticated: HashMap<ConnectionId, Option<HolderId>>,
    by_holder: HashMap<HolderId, Held>,
}

/// The connections of a holder.
#[derive(Debug, Default)]
struct Held {
    connections: BTreeSet<ConnectionId>,
    /// Where to go on looking for one without a request in progress.
    next: ConnectionId,
}

impl ConnectionTable {
    /// Creates an empty table.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            next: 0,
            unauthenticated: BTreeMap::new(),
            by_address: HashMap::new(),
            authenticated: HashMap::new(),
            by_holder: HashMap::new(),
        }
    }

    /// Opens a connection from `address`, and says which one must be closed for it.
    ///
    /// # Errors
    /// If there is none that could be closed.
    pub fn open(&mut self, address: IpAddr) -> Result<Opened, Full> {
        let address = address.to_canonical();
        let evicted = match self.oldest_of_crowded(address) {
            Some(oldest) => Some((oldest, Eviction::Address)),
            None if self.is_crowded() => {
                let oldest = self.unauthenticated.first_key_value().map(|(oldest, _)| *oldest);
                Some((oldest.ok_or(Full)?, Eviction::Oldest))
            }
            None => None,
        };
        if let Some((oldest, _)) = evicted {
            self.remove_unauthenticated(oldest);
        }
        let id = self.next;
        self.next += 1;
        self.unauthenticated.insert(id, address);
        self.by_address.entry(subscriber(address)).or_default().insert(id);
        Ok(Opened { id, evicted })
    }

    /// Notes that `holder` has authenticated on a connection. `is_idle` tells whether a connection has no request in
    /// progress.
    pub fn authenticate(
        &mut self,
        id: ConnectionId,
        holder: HolderId,
        is_idle: impl Fn(ConnectionId) -> bool,
    ) -> Authenticated {
        let Some(address) = self.remove_unauthenticated(id) else { return Authenticated::Unchanged };
        let counts_for = (!self.is_balancer(address)).then_some(holder);
        let mut evicted = None;
        if !self.has_room(holder, counts_for) {
            evicted = counts_for.and_then(|holder| self.idle_of(holder, is_idle));
            let Some(evicted) = evicted else { return Authenticated::Refused };
            self.close(evicted);
        }
        self.authenticated.insert(id, counts_for);
        if let Some(holder) = counts_for {
            self.by_holder.entry(holder).or_default().connections.insert(id);
        }
        Authenticated::Placed(evicted)
    }

    /// Forgets a connection that has ended; one that was evicted is forgotten already.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(counts_for) = self.authenticated.remove(&id) else {
            self.remove_unauthenticated(id);
            return;
        };
        if let Some(holder) = counts_for
            && let Some(held) = self.by_holder.get_mut(&holder)
        {
            held.connections.remove(&id);
            if held.connections.is_empty() {
                self.by_holder.remove(&holder);
            }
        }
    }

    /// Evicts the oldest connection that has not authenticated.
    pub fn evict_oldest(&mut self) -> Option<ConnectionId> {
        let oldest = *self.unauthenticated.first_key_value()?.0;
        self.remove_unauthenticated(oldest);
        Some(oldest)
    }

    /// Counts the connections that have not authenticated.
    pub fn unauthenticated(&self) -> usize {
        self.unauthenticated.len()
    }

    /// Counts the connections that have authenticated.
    pub fn authenticated(&self) -> usize {
        self.authenticated.len()
    }

    fn is_crowded(&self) -> bool {
        let all = self.unauthenticated.len() + self.authenticated.len();
        self.unauthenticated.len() >= self.limits.max_unauthenticated || all >= self.limits.max_connections
    }

    fn is_balancer(&self, address: IpAddr) -> bool {
        self.limits.balancers.iter().any(|network| network.contains(&address))
    }

    /// Finds the oldest connection of an address that has as many as it may.
    fn oldest_of_crowded(&self, address: IpAddr) -> Option<ConnectionId> {
        if self.is_balancer(address) {
            return None;
        }
        let open = self.by_address.get(&subscriber(address))?;
        if open.len() < self.limits.max_unauthenticated_per_address { None } else { open.first().copied() }
    }

    /// Returns whether one more connection on which `holder` has authenticated has a place. Those that have not
    /// authenticated take none: they make room.
    fn has_room(&self, holder: HolderId, counts_for: Option<HolderId>) -> bool {
        let taken = self.authenticated.len() + 1;
        let Some(free) = self.limits.max_connections.checked_sub(taken) else { return false };
        let held = counts_for
            .map_or(0, |holder| self.by_holder.get(&holder).map_or(0, |held| held.connections.len()) + 1);
        if holder.is_kept {
            return held <= free.max(KEPT_EACH);
        }
        free.checked_sub(self.limits.kept).is_some_and(|free| held <= free)
    }

    /// Finds a connection of a holder that has no request in progress: the oldest first, and then in turn.
    fn idle_of(&mut self, holder: HolderId, is_idle: impl Fn(ConnectionId) -> bool) -> Option<ConnectionId> {
        let held = self.by_holder.get_mut(&holder)?;
        let (before, after) = (held.connections.range(..held.next), held.connections.range(held.next..));
        for id in after.chain(before).take(LOOKED_AT) {
            held.next = id + 1;
            if is_idle(*id) {
                return Some(*id);
            }
        }
        None
    }

    /// Removes a connection from those that have not authenticated. Returns its address if it was one.
    fn remove_unauthenticated(&mut self, id: ConnectionId) -> Option<IpAddr> {
        let address = self.unauthenticated.remove(&id)?;
        let subscriber = subscriber(address);
        if let Some(open) = self.by_address.get_mut(&subscriber) {
            open.remove(&id);
            if open.is_empty() {
                self.by_address.remove(&subscriber);
            }
        }
        Some(address)
    }
}

/// The addresses that count as one: an address of IPv4, a /64 of IPv6.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn table(max_connections: usize, per_address: usize) -> ConnectionTable {
        ConnectionTable::new(ConnectionLimits::authenticated(max_connections, per_address, Vec::new()))
    }

    fn holder(hash: u64) -> HolderId {
        HolderId { hash, is_kept: false }
    }

    const KEPT: HolderId = HolderId { hash: 0, is_kept: true };

    /// Authenticates a connection; none has a request in progress.
    fn place(table: &mut ConnectionTable, id: ConnectionId, holder: HolderId) -> Authenticated {
        table.authenticate(id, holder, |_| true)
    }

    #[test]
    fn the_oldest_that_has_not_authenticated_makes_room_and_others_never_do() {
        let mut table = table(4, 4);
        let edge = table.open(v4(1)).unwrap().id;
        assert_eq!(place(&mut table, edge, KEPT), Authenticated::Placed(None));
        let strangers: Vec<_> = (0..3).map(|_| table.open(v4(2)).unwrap()).collect();
        assert!(strangers.iter().all(|opened| opened.evicted.is_none()));
        let newest = table.open(v4(3)).unwrap();
        assert_eq!(newest.evicted, Some((strangers[0].id, Eviction::Oldest)));
        // A place is left for whoever authenticates: now all four are taken.
        assert_eq!(place(&mut table, newest.id, KEPT), Authenticated::Placed(None));
        assert_eq!(place(&mut table, newest.id, KEPT), Authenticated::Unchanged);
        assert_eq!(place(&mut table, strangers[0].id, KEPT), Authenticated::Unchanged);
        for opened in &strangers[1..] {
            assert_eq!(place(&mut table, opened.id, KEPT), Authenticated::Placed(None));
        }
        assert_eq!(table.open(v4(2)), Err(Full));
        table.close(edge);
        assert_eq!(table.open(v4(2)).unwrap().evicted, None);
    }

    /// Opens connections on which `holder` authenticates, until one has no place. Returns them.
    fn fill(table: &mut ConnectionTable, address: IpAddr, holder: HolderId) -> Vec<ConnectionId> {
        let mut placed = Vec::new();
        loop {
            let Ok(Opened { id, .. }) = table.open(address) else { return placed };
            match table.authenticate(id, holder, |_| false) {
                Authenticated::Placed(None) => placed.push(id),
                refused => {
                    assert_eq!(refused, Authenticated::Refused);
                    return placed;
                }
            }
        }
    }

    #[test]
    fn a_holder_has_what_is_left_for_others_and_some_places_are_kept() {
        // A sixteenth is 6; of the other 94 the first has half, the second half of what is left.
        let mut table = table(100, 10);
        let first = fill(&mut table, v4(1), holder(1));
        assert_eq!((first.len(), fill(&mut table, v4(1), holder(2)).len()), (47, 23));
        for hash in 3..30 {
            fill(&mut table, v4(1), holder(hash));
        }
        assert!((90..=94).contains(&table.authenticated()), "{}", table.authenticated());
        // However many holders there are, one for whom places are kept comes in, and has as many as it needs.
        let before = table.authenticated();
        assert_eq!(fill(&mut table, v4(1), KEPT).len(), KEPT_EACH.min(100 - before));
        // Places come back.
        for id in first {
            table.close(id);
        }
        assert!(!fill(&mut table, v4(1), holder(40)).is_empty());
    }

    #[test]
    fn past_its_share_a_holder_loses_one_of_its_own_that_is_idle() {
        let mut table = table(100, 10);
        let other = table.open(v4(1)).unwrap().id;
        assert_eq!(place(&mut table, other, holder(2)), Authenticated::Placed(None));
        let ours = fill(&mut table, v4(1), holder(1));
        let mut next = |idle: &dyn Fn(ConnectionId) -> bool| {
            let id = table.open(v4(1)).unwrap().id;
            table.authenticate(id, holder(1), idle)
        };
        // The oldest of those that are idle; then the next; what is busy stays, and what another holds.
        assert_eq!(next(&|id| id != ours[0]), Authenticated::Placed(Some(ours[1])));
        assert_eq!(next(&|_| true), Authenticated::Placed(Some(ours[2])));
        assert_eq!(next(&|id| id == ours[0]), Authenticated::Placed(Some(ours[0])));
        assert_eq!(next(&|id| id == other), Authenticated::Refused);
        assert_eq!(table.authenticated(), 1 + ours.len());
    }

    #[test]
    fn what_a_balancer_brings_counts_for_nobody_and_leaves_what_is_kept() {
        let limits = ConnectionLimits::authenticated(100, 1, vec!["192.0.2.1/32".parse().unwrap()]);
        let mut table = ConnectionTable::new(limits);
        assert_eq!(fill(&mut table, v4(1), holder(1)).len(), 94);
        let administrator = table.open(v4(2)).unwrap().id;
        assert_eq!(place(&mut table, administrator, KEPT), Authenticated::Placed(None));
        assert_eq!(fill(&mut table, v4(1), KEPT).len(), 5);
    }

    #[test]
    fn an_address_takes_places_from_itself_only() {
        let mut table = table(100, 2);
        let other = table.open(v4(1)).unwrap().id;
        let first = table.open(v4(2)).unwrap().id;
        table.open(v4(2)).unwrap();
        assert_eq!(table.open(v4(2)).unwrap().evicted, Some((first, Eviction::Address)));
        assert_eq!(place(&mut table, other, holder(1)), Authenticated::Placed(None));
    }

    #[test]
    fn those_that_authenticated_do_not_count_for_their_address() {
        let mut table = table(100, 1);
        for _ in 0..20 {
            let opened = table.open(v4(1)).unwrap();
            assert_eq!(opened.evicted, None);
            assert_eq!(place(&mut table, opened.id, holder(1)), Authenticated::Placed(None));
        }
    }

    #[test]
    fn a_balancer_may_have_any_number_and_an_ipv6_subscriber_counts_once() {
        let limits = ConnectionLimits::authenticated(100, 1, vec!["192.0.2.0/24".parse().unwrap()]);
        let mut table = ConnectionTable::new(limits);
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
        for address in [v4(1), v4(1), mapped, mapped] {
            assert_eq!(table.open(address).unwrap().evicted, None, "{address}");
        }
        let first = table.open("2001:db8::1".parse().unwrap()).unwrap();
        let same = table.open("2001:db8::ffff".parse().unwrap()).unwrap();
        assert_eq!(same.evicted, Some((first.id, Eviction::Address)));
        assert_eq!(table.open("2001:db8:0:1::1".parse().unwrap()).unwrap().evicted, None);
    }

    #[test]
    fn a_listener_that_asks_nobody_prefers_the_newest() {
        let mut table = ConnectionTable::new(ConnectionLimits::open(2));
        let first = table.open(v4(1)).unwrap().id;
        table.open(v4(1)).unwrap();
        assert_eq!(table.open(v4(1)).unwrap().evicted, Some((first, Eviction::Oldest)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Open(u8),
        /// A connection, the holder, and the part of all connections that has a request in progress.
        Authenticate(usize, u64, u64),
        Close(usize),
        EvictOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..4).prop_map(Step::Open),
            6 => (any::<usize>(), 0u64..4, 1u64..4).prop_map(|(at, who, busy)| Step::Authenticate(at, who, busy)),
            2 => any::<usize>().prop_map(Step::Close),
            1 => Just(Step::EvictOldest),
        ]
    }

    /// A connection as the model knows it.
    #[derive(Debug, Clone, Copy)]
    struct Open {
        id: ConnectionId,
        address: u8,
        /// The number of the holder, once it has authenticated.
        holder: Option<u64>,
    }

    /// Connections from here come through a balancer.
    const BALANCER: u8 = 3;

    fn who(number: u64) -> HolderId {
        HolderId { hash: number, is_kept: number == 0 }
    }

    /// Counts what a holder has, and what is free.
    fn share(open: &[Open], max: usize, holder: u64) -> (usize, usize) {
        let counts = |open: &&Open| open.holder == Some(holder) && open.address != BALANCER;
        let authenticated = open.iter().filter(|open| open.holder.is_some()).count();
        (open.iter().filter(counts).count(), max - authenticated)
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_happens(
            steps in prop::collection::vec(step(), 0..300),
            max in 2usize..40,
            per_address in 1usize..6,
        ) {
            let balancer = IpNet::from(v4(BALANCER));
            let limits = ConnectionLimits::authenticated(max, per_address, vec![balancer]);
            let mut table = ConnectionTable::new(limits.clone());
            // The model: what is open, in order of arrival.
            let mut open: Vec<Open> = Vec::new();
            for step in steps {
                match step {
                    Step::Open(address) => match table.open(v4(address)) {
                        Ok(Opened { id, evicted }) => {
                            if let Some((gone, why)) = evicted {
                                let candidates = open.iter().filter(|open| {
                                    open.holder.is_none() && (why == Eviction::Oldest || open.address == address)
                                });
                                prop_assert_eq!(candidates.map(|open| open.id).min(), Some(gone));
                                open.retain(|open| open.id != gone);
                            }
                            prop_assert!(open.iter().all(|before| before.id < id));
                            open.push(Open { id, address, holder: None });
                        }
                        Err(Full) => {
                            prop_assert!(open.len() == max && open.iter().all(|open| open.holder.is_some()));
                        }
                    },
                    Step::Authenticate(which, number, busy) if !open.is_empty() => {
                        let at = which % open.len();
                        let Open { id, address, holder } = open[at];
                        let is_idle = |id: ConnectionId| !id.is_multiple_of(busy);
                        let mine = |open: &Open| open.holder == Some(number) && open.address != BALANCER;
                        match table.authenticate(id, who(number), is_idle) {
                            Authenticated::Unchanged => prop_assert!(holder.is_some()),
                            Authenticated::Refused => {
                                prop_assert!(holder.is_none());
                                // Nothing of its own could make room, and who has nothing is let in while there is room.
                                let idle = open.iter().any(|open| mine(open) && is_idle(open.id));
                                prop_assert!(address == BALANCER || !idle);
                                let (held, free) = share(&open, max, number);
                                prop_assert!(free <= limits.kept + 1 || (held + 1 > free - 1 - limits.kept));
                                prop_assert!(number != 0 || free == 0 || (held >= KEPT_EACH && held + 1 > free - 1));
                                open.remove(at);
                            }
                            Authenticated::Placed(evicted) => {
                                prop_assert!(holder.is_none());
                                open[at].holder = Some(number);
                                if let Some(gone) = evicted {
                                    let found = open.iter().position(|open| open.id == gone).unwrap();
                                    prop_assert!(mine(&open[found]) && is_idle(gone) && gone != id);
                                    open.remove(found);
                                } else if number != 0 {
                                    // It leaves as much as it has, and what is kept.
                                    let (held, free) = share(&open, max, number);
                                    prop_assert!(free >= limits.kept);
                                    prop_assert!(address == BALANCER || held <= free - limits.kept);
                                }
                            }
                        }
                    }
                    Step::Close(which) if !open.is_empty() => {
                        let Open { id, .. } = open.remove(which % open.len());
                        table.close(id);
                        table.close(id);
                    }
                    Step::EvictOldest => {
                        let oldest = open.iter().find(|open| open.holder.is_none()).map(|open| open.id);
                        prop_assert_eq!(table.evict_oldest(), oldest);
                        open.retain(|open| Some(open.id) != oldest);
                    }
                    Step::Authenticate(..) | Step::Close(_) => {}
                }
                let strangers = open.iter().filter(|open| open.holder.is_none());
                prop_assert_eq!(table.unauthenticated(), strangers.clone().count());
                prop_assert_eq!(table.authenticated(), open.len() - table.unauthenticated());
                prop_assert!(table.unauthenticated() <= limits.max_unauthenticated);
                prop_assert!(open.len() <= max);
                for address in 0..BALANCER {
                    let count = strangers.clone().filter(|open| open.address == address).count();
                    prop_assert!(count <= per_address);
                }
                for number in 1..4 {
                    // Half of the places, whoever comes and goes.
                    prop_assert!(share(&open, max, number).0 <= max / 2);
                }
            }
        }
    }
}
