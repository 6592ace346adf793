//! Passwords: hashed with argon2id, a few at a time. It must not know whose they are.
//!
//! Whether there is a password or none, whoever presents one waits for the same work.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use super::aead::random;

/// The memory that one hash takes [KiB]: the first choice of OWASP for argon2id with one lane.
const MEMORY_KIB: u32 = 19_456;
/// Passes over that memory.
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Hashes that are computed at the same time.
const WORKERS: usize = 2;
/// Those who may wait for that, or be in it.
const SEATS: usize = 32;
/// The same for devices that are known: whoever takes all the others does not keep their owners out.
const KNOWN_SEATS: usize = 8;
/// Of those, one address has so many at most, and one account one.
const SEATS_OF_ADDRESS: usize = 4;

/// The least length of a password, in characters.
const MIN_CHARACTERS: usize = 12;
/// The greatest, in bytes.
const MAX_BYTES: usize = 1_024;

/// What a password is verified against where there is none: no password has this hash.
static NOBODYS: LazyLock<String> = LazyLock::new(|| {
    let zeros = |bytes: usize| "A".repeat((bytes * 4).div_ceil(3));
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}", zeros(SALT_BYTES), zeros(HASH_BYTES))
});

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct Passwords {
    workers: Arc<Semaphore>,
    seats: Semaphore,
    known_seats: Semaphore,
    taken: Mutex<HashMap<String, usize>>,
}

/// A place among those whose passwords are looked at, until it is dropped.
#[derive(Debug)]
pub struct Seat<'a> {
    passwords: &'a Passwords,
    /// Of whom it is counted.
    keys: Vec<String>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.passwords.give_back(&self.keys);
    }
}

/// A password cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting.
    #[error("too many passwords are being verified")]
    Crowded,
    /// The library failed, or a stored hash is not one.
    #[error("cannot hash a password: {0}")]
    Hash(String),
}

/// What is wrong with a password that somebody chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitPassword {
    /// It is too short.
    #[error("must have at least {MIN_CHARACTERS} characters")]
    Short,
    /// It is too long.
    #[error("must have at most {MAX_BYTES} bytes")]
    Long,
    /// It is the address that everybody knows.
    #[error("must not be the email address")]
    Email,
}

/// Whether a password is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It is not, or there is none.
    No,
    /// It is.
    Yes,
    /// It is, and its hash was made with other parameters than those of now.
    Outdated,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            workers: Arc::new(Semaphore::new(WORKERS)),
            seats: Semaphore::new(SEATS),
            known_seats: Semaphore::new(KNOWN_SEATS),
            taken: Mutex::default(),
        }
    }
}

impl Passwords {
    /// Takes a place for an account, from an address where that says something, without waiting for one. An account has one, and another
    /// for devices that are known, so that nobody else keeps its owner out. Whoever has proved something else says no account.
    pub fn seat(
        &self,
        account: Option<&str>,
        address: Option<IpAddr>,
        is_known_device: bool,
    ) -> Result<Seat<'_>, PasswordError> {
        let seats = if is_known_device { &self.known_seats } else { &self.seats };
        let permit = seats.try_acquire().map_err(|_| PasswordError::Crowded)?;
        let of_account = account.map(|account| (format!("{is_known_device} {account}"), 1));
        let of_address = address.map(|address| (format!("address {address}"), SEATS_OF_ADDRESS));
        let bounds = of_account.into_iter().chain(of_address);
        let keys = self.take(bounds.collect())?;
        Ok(Seat { passwords: self, keys, _permit: permit })
    }

    /// Counts a place for each of these, if none has as many already.
    fn take(&self, bounds: Vec<(String, usize)>) -> Result<Vec<String>, PasswordError> {
        let mut taken = self.taken();
        if bounds.iter().any(|(key, most)| taken.get(key).is_some_and(|count| count >= most)) {
            return Err(PasswordError::Crowded);
        }
        let keys: Vec<String> = bounds.into_iter().map(|(key, _)| key).collect();
        keys.iter().for_each(|key| *taken.entry(key.clone()).or_default() += 1);
        Ok(keys)
    }

    fn give_back(&self, keys: &[String]) {
        let mut taken = self.taken();
        for key in keys {
            match taken.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(taken.remove(key)),
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes a password that somebody chose.
    pub async fn hash(&self, _seat: &Seat<'_>, password: &str) -> Result<String, PasswordError> {
        self.work(password, |password| {
            let mut salt = [0; SALT_BYTES];
            random(&mut salt);
            let hash = hasher()?.hash_password_with_salt(password, &salt);
            Ok(hash.map_err(|error| PasswordError::Hash(error.to_string()))?.to_string())
        })
        .await
    }

    /// Compares a password with a stored hash. Empty: there is none.
    pub async fn verify(
        &self,
        _seat: &Seat<'_>,
        password: &str,
        phc: &str,
    ) -> Result<Verified, PasswordError> {
        let is_there = !phc.is_empty();
        let phc = if is_there { phc } else { &NOBODYS }.to_owned();
        let verified = self.work(password, move |password| verify(password, &phc)).await?;
        Ok(if is_there { verified } else { Verified::No })
    }

    async fn work<T: Send + 'static>(
        &self,
        password: &str,
        work: impl FnOnce(&[u8]) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let failed = |error: &dyn std::fmt::Display| PasswordError::Hash(error.to_string());
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|error| failed(&error))?;
        // Whoever goes away meanwhile does not make room for another: the work goes on.
        let done = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            work(&password)
        });
        let done = done.await;
        done.map_err(|error| failed(&error))?
    }
}

/// Checks a password that somebody chose, whose address is `email`.
pub fn check(password: &str, email: &str) -> Result<(), UnfitPassword> {
    if password.chars().count() < MIN_CHARACTERS {
        return Err(UnfitPassword::Short);
    }
    if password.len() > MAX_BYTES {
        return Err(UnfitPassword::Long);
    }
    if password.eq_ignore_ascii_case(email) { Err(UnfitPassword::Email) } else { Ok(()) }
}

fn verify(password: &[u8], phc: &str) -> Result<Verified, PasswordError> {
    let hash = PasswordHash::new(phc).map_err(|error| PasswordError::Hash(error.to_string()))?;
    if hasher()?.verify_password(password, &hash).is_err() {
        return Ok(Verified::No);
    }
    Ok(if is_current(phc) { Verified::Yes } else { Verified::Outdated })
}

/// Tells whether a hash was made with the parameters of now.
fn is_current(phc: &str) -> bool {
    phc.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES));
    let params = params.map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_verified_by_its_hash_and_nothing_by_none() {
        let passwords = Passwords::default();
        let seat = passwords.seat(None, None, false).unwrap();
        let phc = passwords.hash(&seat, "correct horse battery").await.unwrap();
        assert!(is_current(&phc), "{phc}");
        let verify = async |password: &str, phc: &str| passwords.verify(&seat, password, phc).await.unwrap();
        assert_eq!(verify("correct horse battery", &phc).await, Verified::Yes);
        assert_eq!(verify("correct horse batterz", &phc).await, Verified::No);
        assert_eq!(verify("correct horse battery", "").await, Verified::No);
        assert_ne!(passwords.hash(&seat, "correct horse battery").await.unwrap(), phc, "salted");
    }

    #[test]
    fn a_hash_of_other_parameters_is_to_be_made_anew() {
        let weak = Params::new(8_192, 1, 1, Some(HASH_BYTES)).unwrap();
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, weak);
        let phc = weak.hash_password_with_salt(b"correct horse", b"0123456789abcdef").unwrap().to_string();
        assert_eq!(verify(b"correct horse", &phc).unwrap(), Verified::Outdated);
        assert_eq!(verify(b"other horse", &phc).unwrap(), Verified::No);
    }

    #[test]
    fn nobodys_hash_takes_the_same_work() {
        assert!(is_current(&NOBODYS));
        assert_eq!(verify(b"anything", &NOBODYS).unwrap(), Verified::No);
        assert!(verify(b"anything", "no hash").is_err());
    }

    #[test]
    fn as_many_wait_as_there_are_seats_and_known_devices_have_their_own() {
        let passwords = Passwords::default();
        let of = |number: usize| passwords.seat(Some(&number.to_string()), None, false);
        let taken: Vec<_> = (0..SEATS).map(|number| of(number).unwrap()).collect();
        assert!(matches!(of(SEATS), Err(PasswordError::Crowded)));
        assert!(passwords.seat(Some("ann"), None, true).is_ok());
        drop(taken);
        assert!(of(SEATS).is_ok());
    }

    #[test]
    fn an_account_has_one_seat_and_an_address_a_few() {
        let passwords = Passwords::default();
        let here: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let is_free =
            |account: &str, address, is_known| passwords.seat(Some(account), address, is_known).is_ok();
        let first = passwords.seat(Some("vic"), here, true).unwrap();
        assert!(!is_free("vic", None, true) && is_free("vic", None, false) && is_free("ann", None, true));
        let more: Vec<_> =
            ["a", "b", "c"].map(|account| passwords.seat(Some(account), here, false).unwrap()).into();
        assert!(!is_free("d", here, false) && !is_free("d", here, true) && is_free("d", None, false));
        drop((first, more));
        assert!(is_free("vic", here, true) && is_free("d", here, false));
        assert!(passwords.taken().is_empty(), "nothing is kept of who is not there");
    }

    #[test]
    fn passwords_have_a_length_and_are_not_the_address() {
        assert_eq!(check("elevenchars", "a@example.org"), Err(UnfitPassword::Short));
        assert_eq!(check("twelve chars", "a@example.org"), Ok(()));
        assert_eq!(check("ññññññññññññ", "a@example.org"), Ok(()));
        assert_eq!(check(&"x".repeat(1_025), "a@example.org"), Err(UnfitPassword::Long));
        assert_eq!(check("Ann@Example.org", "ann@example.org"), Err(UnfitPassword::Email));
    }
}
