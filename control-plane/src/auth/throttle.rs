//! How often somebody may try to sign in. It must not know whether a try is right, nor whether there is such an account: what is counted
//! is the address that was given, as a hash.
//!
//! A device that somebody has signed in from counts for itself alone. Whoever guesses from elsewhere, from however many addresses, makes
//! everybody else wait, and never its owner.

use std::net::IpAddr;
use std::time::Duration;

use super::admin::token_hash;
use crate::clock;
use crate::store::failures::TryPace;
use crate::store::{Store, StoreError};

const SECOND: i64 = 1_000_000;
/// The pace of one account from one address, or from one known device.
const OF_PAIR: TryPace = TryPace::Doubling {
    free: 5,
    first_us: SECOND,
    longest_us: 15 * 60 * SECOND,
    forget_us: clock_us(FORGOTTEN),
};
/// The pace of one address, whatever the account.
const OF_ADDRESS: TryPace = TryPace::Window { most: 30, length_us: 60 * SECOND };
/// The pace of one account, from whatever address that is not a known device.
const OF_ACCOUNT: TryPace = TryPace::Window { most: 100, length_us: 3_600 * SECOND };

/// The pace of right tries of one account, or from one known device: each takes a place in which others wait.
const OF_RIGHT: TryPace = TryPace::Window { most: 60, length_us: 60 * SECOND };

/// Tries are forgotten after so long.
pub const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// Past so many keys, the oldest are forgotten.
pub const MOST_KEYS: i64 = 100_000;

/// Somebody who tries to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInAttempt {
    /// What it counts for, the narrowest first.
    keys: Vec<(String, TryPace)>,
    /// What it counts for if it is right.
    right: String,
}

impl SignInAttempt {
    /// A try for an account, from an address where that says something, with the hash of a device that is known for the account.
    pub fn new(email: &str, address: Option<IpAddr>, known_device: Option<&str>) -> Self {
        let account = &token_hash(email)[..32];
        if let Some(device) = known_device {
            let keys = vec![(format!("device {account} {device}"), OF_PAIR)];
            return Self { keys, right: format!("right {account} {device}") };
        }
        let place = address.map(|address| address.to_string()).unwrap_or_default();
        let mut keys = vec![(format!("pair {account} {place}"), OF_PAIR)];
        if address.is_some() {
            keys.push((format!("address {place}"), OF_ADDRESS));
        }
        keys.push((format!("account {account}"), OF_ACCOUNT));
        Self { keys, right: format!("right {account}") }
    }

    /// Counts the try, before it is looked at. Returns how long to wait where there may be none now.
    pub async fn begin(&self, store: &Store) -> Result<Option<Duration>, StoreError> {
        let now_us = clock::now_us();
        let right = (self.right.as_str(), OF_RIGHT);
        let all = self.keys.iter().map(|(key, pace)| (key.as_str(), *pace)).chain([right]);
        for (index, (key, pace)) in all.enumerate() {
            if let Some(until_us) = store.count_try(key, pace, now_us).await? {
                store.take_back_tries(&self.names(index)).await?;
                let wait = u64::try_from(until_us - now_us).unwrap_or_default();
                return Ok(Some(Duration::from_micros(wait)));
            }
        }
        Ok(None)
    }

    /// Says that the try was wrong.
    pub async fn failed(&self, store: &Store) -> Result<(), StoreError> {
        store.take_back_tries(&[&self.right]).await
    }

    /// Takes the try back, because it was right.
    pub async fn succeeded(&self, store: &Store) -> Result<(), StoreError> {
        let Some((pair, _)) = self.keys.first() else { return Ok(()) };
        store.forget_tries(pair).await?;
        store.take_back_tries(&self.names(self.keys.len())[1..]).await
    }

    fn names(&self, count: usize) -> Vec<&str> {
        self.keys[..count].iter().map(|(key, _)| key.as_str()).collect()
    }
}

/// A duration in microseconds, where it is known when this is compiled.
const fn clock_us(duration: Duration) -> i64 {
    duration.as_secs() as i64 * SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(attempt: &SignInAttempt) -> Vec<&str> {
        attempt.keys.iter().filter_map(|(key, _)| key.split(' ').next()).collect()
    }

    #[test]
    fn a_known_device_counts_for_itself_alone() {
        let here = Some("192.0.2.1".parse().unwrap());
        let stranger = SignInAttempt::new("ann@example.org", here, None);
        assert_eq!(kinds(&stranger), ["pair", "address", "account"]);
        let known = SignInAttempt::new("ann@example.org", here, Some("d"));
        assert_eq!(kinds(&known), ["device"]);
        assert_ne!(known, SignInAttempt::new("bob@example.org", here, Some("d")));
    }

    #[test]
    fn behind_a_balancer_nobody_counts_for_its_address() {
        assert_eq!(kinds(&SignInAttempt::new("ann@example.org", None, None)), ["pair", "account"]);
    }

    #[test]
    fn no_address_is_stored_as_it_was_given() {
        let attempt = SignInAttempt::new("ann@example.org", None, None);
        assert!(attempt.keys.iter().all(|(key, _)| !key.contains("ann")), "{attempt:?}");
    }
}
