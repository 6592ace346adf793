//! Which connections are open and which is closed for a newer one: a state machine without sockets, clocks or locks.
//!
//! A connection is unauthenticated until a request on it has been authenticated. Those that are not may have a part of
//! the places only, and the oldest of them makes room for a newer one: so whoever just connected always has a while to
//! authenticate, however many connect.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The number of a connection, in the order of arrival.
pub type ConnectionId = u64;

/// The bounds of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of those that have not authenticated.
    pub max_unauthenticated: usize,
    /// Maximum number of those of one address; of IPv6, of one /64, which is what one subscriber has.
    pub max_unauthenticated_per_address: usize,
    /// Networks whose addresses may have any number, such as those of load balancers.
    pub balancers: Vec<IpNet>,
}

impl ConnectionLimits {
    /// Bounds for a listener whose callers authenticate: three quarters of the places are for those that have not yet.
    pub fn authenticated(max_connections: usize, per_address: usize, balancers: Vec<IpNet>) -> Self {
        let max_connections = max_connections.max(2);
        Self {
            max_connections,
            max_unauthenticated: max_connections - max_connections.div_ceil(4),
            max_unauthenticated_per_address: per_address.max(1),
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
            balancers: Vec::new(),
        }
    }
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
    authenticated: HashSet<ConnectionId>,
}

impl ConnectionTable {
    /// Creates an empty table.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            next: 0,
            unauthenticated: BTreeMap::new(),
            by_address: HashMap::new(),
            authenticated: HashSet::new(),
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
            self.remove(oldest);
        }
        let id = self.next;
        self.next += 1;
        let subscriber = subscriber(address);
        self.unauthenticated.insert(id, subscriber);
        self.by_address.entry(subscriber).or_default().insert(id);
        Ok(Opened { id, evicted })
    }

    /// Notes that a connection has authenticated. Returns false if it had before, or is closed.
    pub fn authenticate(&mut self, id: ConnectionId) -> bool {
        self.remove(id) && self.authenticated.insert(id)
    }

    /// Forgets a connection that has ended; one that was evicted is forgotten already.
    pub fn close(&mut self, id: ConnectionId) {
        if !self.authenticated.remove(&id) {
            self.remove(id);
        }
    }

    /// Evicts the oldest connection that has not authenticated.
    pub fn evict_oldest(&mut self) -> Option<ConnectionId> {
        let oldest = *self.unauthenticated.first_key_value()?.0;
        self.remove(oldest);
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

    /// Finds the oldest connection of an address that has as many as it may.
    fn oldest_of_crowded(&self, address: IpAddr) -> Option<ConnectionId> {
        if self.limits.balancers.iter().any(|network| network.contains(&address)) {
            return None;
        }
        let open = self.by_address.get(&subscriber(address))?;
        if open.len() < self.limits.max_unauthenticated_per_address { None } else { open.first().copied() }
    }

    /// Removes a connection from those that have not authenticated. Returns whether it was one.
    fn remove(&mut self, id: ConnectionId) -> bool {
        let Some(address) = self.unauthenticated.remove(&id) else { return false };
        if let Some(open) = self.by_address.get_mut(&address) {
            open.remove(&id);
            if open.is_empty() {
                self.by_address.remove(&address);
            }
        }
        true
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

    #[test]
    fn the_oldest_that_has_not_authenticated_makes_room_and_others_never_do() {
        let mut table = table(4, 4);
        let edge = table.open(v4(1)).unwrap().id;
        assert!(table.authenticate(edge));
        let strangers: Vec<_> = (0..3).map(|_| table.open(v4(2)).unwrap()).collect();
        assert!(strangers.iter().all(|opened| opened.evicted.is_none()));
        let newest = table.open(v4(3)).unwrap();
        assert_eq!(newest.evicted, Some((strangers[0].id, Eviction::Oldest)));
        // A place is left for whoever authenticates: now all four are taken.
        assert!(table.authenticate(newest.id));
        assert!(!table.authenticate(newest.id));
        assert!(!table.authenticate(strangers[0].id));
        for opened in &strangers[1..] {
            assert!(table.authenticate(opened.id));
        }
        assert_eq!(table.open(v4(2)), Err(Full));
        table.close(edge);
        assert_eq!(table.open(v4(2)).unwrap().evicted, None);
    }

    #[test]
    fn an_address_takes_places_from_itself_only() {
        let mut table = table(100, 2);
        let other = table.open(v4(1)).unwrap().id;
        let first = table.open(v4(2)).unwrap().id;
        table.open(v4(2)).unwrap();
        assert_eq!(table.open(v4(2)).unwrap().evicted, Some((first, Eviction::Address)));
        assert!(table.authenticate(other));
    }

    #[test]
    fn those_that_authenticated_do_not_count_for_their_address() {
        let mut table = table(100, 1);
        for _ in 0..20 {
            let opened = table.open(v4(1)).unwrap();
            assert_eq!(opened.evicted, None);
            assert!(table.authenticate(opened.id));
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
        Authenticate(usize),
        Close(usize),
        EvictOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..4).prop_map(Step::Open),
            3 => any::<usize>().prop_map(Step::Authenticate),
            2 => any::<usize>().prop_map(Step::Close),
            1 => Just(Step::EvictOldest),
        ]
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_happens_and_who_authenticated_stays(
            steps in prop::collection::vec(step(), 0..200),
            max in 2usize..12,
            per_address in 1usize..6,
        ) {
            let limits = ConnectionLimits::authenticated(max, per_address, Vec::new());
            let mut table = ConnectionTable::new(limits.clone());
            // The model: what is open, in order of arrival, with its address and whether it has authenticated.
            let mut open: Vec<(ConnectionId, u8, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Open(address) => match table.open(v4(address)) {
                        Ok(Opened { id, evicted }) => {
                            if let Some((gone, why)) = evicted {
                                let candidates = open.iter().filter(|(_, from, proven)| {
                                    !proven && (why == Eviction::Oldest || *from == address)
                                });
                                prop_assert_eq!(candidates.map(|(id, ..)| *id).min(), Some(gone));
                                open.retain(|(id, ..)| *id != gone);
                            }
                            prop_assert!(open.iter().all(|(before, ..)| *before < id));
                            open.push((id, address, false));
                        }
                        Err(Full) => {
                            prop_assert!(open.len() == max && open.iter().all(|(_, _, proven)| *proven));
                        }
                    },
                    Step::Authenticate(which) if !open.is_empty() => {
                        let at = which % open.len();
                        prop_assert_eq!(table.authenticate(open[at].0), !open[at].2);
                        open[at].2 = true;
                    }
                    Step::Close(which) if !open.is_empty() => {
                        let (id, ..) = open.remove(which % open.len());
                        table.close(id);
                        table.close(id);
                    }
                    Step::EvictOldest => {
                        let oldest = open.iter().find(|(_, _, proven)| !proven).map(|(id, ..)| *id);
                        prop_assert_eq!(table.evict_oldest(), oldest);
                        open.retain(|(id, ..)| Some(*id) != oldest);
                    }
                    Step::Authenticate(_) | Step::Close(_) => {}
                }
                let strangers = open.iter().filter(|(_, _, proven)| !proven);
                prop_assert_eq!(table.unauthenticated(), strangers.clone().count());
                prop_assert_eq!(table.authenticated(), open.len() - table.unauthenticated());
                prop_assert!(table.unauthenticated() <= limits.max_unauthenticated);
                prop_assert!(open.len() <= max);
                for address in 0..4 {
                    let count = strangers.clone().filter(|(_, from, _)| *from == address).count();
                    prop_assert!(count <= per_address);
                }
            }
        }
    }
}
