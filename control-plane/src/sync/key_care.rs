//! Keys after they were replaced: what needs them still, how that gets less, and their end.
//!
//! It must not know when keys are replaced, nor how they seal and sign.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trunkline::identity::v1::Token;

use crate::auth::credential::LIFETIME;
use crate::auth::keys::{ACCESS_LIFETIME, KeyError, Signer};
use crate::auth::vault::{Sealed, Vault, VaultError};
use crate::clock;
use crate::domain::page::Order;
use crate::domain::{Kind, credential};
use crate::store::keys::{Keys, Purpose, StoredKey};
use crate::store::{Page, SecretRow, Store, StoreError, Viewer};

/// A page of a list is sealed with a data key; who reads on later than this begins anew.
const PAGES_KEPT: Duration = Duration::from_secs(15 * 60);
/// What was signed just before the key was replaced may be stored a little later.
const LATE: Duration = Duration::from_secs(3_600);
/// For so long edges believe the handles that they gave out: sessions live a week.
const HANDLES_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// The most names that are told.
const NAMES: usize = 20;

/// Looks after keys.
#[derive(Debug, Clone)]
pub struct KeyCare {
    store: Store,
    keys: Keys,
    vault: Arc<Vault>,
    signer: Arc<Signer>,
}

/// A key, and what needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReport {
    /// What it is for.
    pub purpose: Purpose,
    /// Counts up within its purpose.
    pub id: u32,
    /// What people know it by.
    pub name: String,
    /// Whether it is used for what is new.
    pub state: KeyUse,
    /// The time of creation.
    pub create_us: i64,
    /// What needs it.
    pub needs: Vec<Need>,
}

/// Whether a key is used for what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// It is.
    Active,
    /// It will be.
    Pending,
    /// It was.
    Retiring,
}

/// Something that needs a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub what: &'static str,
    /// How many. 0: that is not known.
    pub count: usize,
    /// Until when, at the latest.
    pub until_us: Option<i64>,
    /// Those that need it until somebody does something.
    pub names: Vec<String>,
}

/// Keys cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum KeyCareError {
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The table of keys failed.
    #[error("cannot read or write the keys: {0}")]
    Database(#[from] sqlx::Error),
    /// The data keys failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The other keys failed.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The keys as they are stored, and what is sealed with data keys.
struct Stored {
    data: Vec<StoredKey>,
    signing: Vec<StoredKey>,
    sealing: Vec<StoredKey>,
    secrets: Vec<SecretRow>,
}

/// The tokens that need a signing key.
#[derive(Debug, Default)]
struct TokensOfKey {
    /// Those that end, and the last end.
    ending: usize,
    end_us: i64,
    /// Those that do not.
    endless: Vec<String>,
}

impl KeyCare {
    /// Looks after the keys of a database.
    pub fn new(store: Store, vault: Arc<Vault>, signer: Arc<Signer>) -> Self {
        let keys = Keys::new(&store);
        Self { store, keys, vault, signer }
    }

    /// All keys, the newest of each purpose first.
    pub async fn report(&self) -> Result<Vec<KeyReport>, KeyCareError> {
        let stored = self.stored().await?;
        let tokens = self.tokens().await?;
        let now_us = clock::now_us();
        let data = reports(Purpose::Data, &stored.data, now_us, &|key, replaced| {
            data_needs(&stored, key, replaced, now_us)
        });
        let signing = reports(Purpose::Signing, &stored.signing, now_us, &|key, replaced| {
            signing_needs(&tokens, key, replaced, now_us)
        });
        let sealing = reports(Purpose::Sealing, &stored.sealing, now_us, &|_, replaced| {
            until("handles of clients", replaced, HANDLES_KEPT, now_us).into_iter().collect()
        });
        Ok(data.into_iter().chain(signing).chain(sealing).collect())
    }

    /// The fingerprint of the master key, and how many data keys it seals.
    pub async fn master(&self) -> Result<(String, usize), KeyCareError> {
        Ok((self.vault.master(), self.keys.list(Purpose::Data).await?.len()))
    }

    /// Seals with the active data key what is sealed with another, and forgets keys that were replaced and that nothing needs. Answers
    /// whether edges must be told.
    pub async fn round(&self) -> Result<bool, KeyCareError> {
        let data = self.keys.list(Purpose::Data).await?.len();
        let others =
            self.keys.list(Purpose::Signing).await?.len() + self.keys.list(Purpose::Sealing).await?.len();
        if data > 1 {
            self.reseal().await?;
        }
        // One of each: there is none that was replaced.
        if data + others > 3 { self.forget().await } else { Ok(false) }
    }

    /// Each value by itself, and only as it was read: who writes a new one meanwhile has sealed it already. What is not done when this
    /// ends is done the next time, by whoever does it.
    async fn reseal(&self) -> Result<(), KeyCareError> {
        let active = self.vault.active();
        let is_old = |sealed: &[u8]| Sealed::from_bytes(sealed).key_id().is_some_and(|id| id != active);
        let stored = self.stored().await?;
        for row in stored.secrets.iter().filter(|row| is_old(&row.sealed)) {
            let context = credential::context(&row.uid);
            match self.sealed_anew(&context, &row.sealed) {
                Ok(sealed) => self.store.reseal_secret(&row.name, &row.sealed, sealed.as_bytes()).await?,
                Err(error) => {
                    tracing::error!(%error, name = row.name, "cannot seal a secret with the new data key")
                }
            }
        }
        let signing = stored.signing.iter().map(|key| (Purpose::Signing, key));
        let sealing = stored.sealing.iter().map(|key| (Purpose::Sealing, key));
        for (purpose, key) in signing.chain(sealing).filter(|(_, key)| is_old(&key.sealed)) {
            let context = Signer::context(purpose, &key.name);
            let sealed = self.sealed_anew(&context, &key.sealed)?;
            self.keys.reseal(purpose, key.id, sealed.as_bytes()).await?;
        }
        Ok(())
    }

    fn sealed_anew(&self, context: &str, sealed: &[u8]) -> Result<Sealed, VaultError> {
        let plain = self.vault.open(context, &Sealed::from_bytes(sealed))?;
        self.vault.seal(context, &plain)
    }

    async fn forget(&self) -> Result<bool, KeyCareError> {
        let reports = self.report().await?;
        let unneeded = |report: &&KeyReport| report.state == KeyUse::Retiring && report.needs.is_empty();
        let mut edges_must_know = false;
        for report in reports.iter().filter(unneeded) {
            self.keys.delete(report.purpose, report.id).await?;
            tracing::info!(purpose = ?report.purpose, key = report.name, "deleted a key that nothing needs any more");
            edges_must_know |= report.purpose != Purpose::Data;
        }
        self.vault.load().await?;
        self.signer.load().await?;
        Ok(edges_must_know)
    }

    async fn stored(&self) -> Result<Stored, KeyCareError> {
        Ok(Stored {
            data: self.keys.list(Purpose::Data).await?,
            signing: self.keys.list(Purpose::Signing).await?,
            sealing: self.keys.list(Purpose::Sealing).await?,
            secrets: self.store.secrets().await?,
        })
    }

    /// The tokens whose bearers are still good, by the id of the key that signed them.
    async fn tokens(&self) -> Result<BTreeMap<String, TokensOfKey>, StoreError> {
        const PAGE: i64 = 1_000;
        let mut found: BTreeMap<String, TokensOfKey> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = Page {
                kind: Kind::Token,
                parent: None,
                order: Order::Name,
                descending: false,
                after,
                viewer: Viewer::of_everything(),
                labels: Vec::new(),
                limit: PAGE,
            };
            let rows = self.store.page(&page).await?;
            for row in &rows {
                note(&mut found, &row.message::<Token>()?, clock::now_us());
            }
            match rows.last().filter(|_| rows.len() as i64 == PAGE) {
                Some(last) => after = Some((0, last.name.clone())),
                None => return Ok(found),
            }
        }
    }
}

fn note(found: &mut BTreeMap<String, TokensOfKey>, token: &Token, now_us: i64) {
    let end_us = token.expire_time.as_ref().map(clock::micros);
    if token.revoke_time.is_some() || end_us.is_some_and(|end_us| end_us < now_us) {
        return;
    }
    let of_key = found.entry(token.key_id.clone()).or_default();
    match end_us {
        Some(end_us) => {
            of_key.ending += 1;
            of_key.end_us = of_key.end_us.max(end_us);
        }
        None => of_key.endless.push(token.name.clone()),
    }
}

/// What a key needs to stay for, given when it was replaced.
type Needs<'a> = &'a dyn Fn(&StoredKey, Option<i64>) -> Vec<Need>;

/// What is said of the keys of a purpose, the newest first.
fn reports(purpose: Purpose, keys: &[StoredKey], now_us: i64, needs: Needs<'_>) -> Vec<KeyReport> {
    (0..keys.len()).rev().map(|at| report(purpose, keys, at, now_us, needs)).collect()
}

/// What is said of the key at a position, of which the last is the newest.
fn report(purpose: Purpose, keys: &[StoredKey], at: usize, now_us: i64, needs: Needs<'_>) -> KeyReport {
    let key = &keys[at];
    let successors = keys[at + 1..].iter().map(|next| next.active_us);
    let replaced = successors.filter(|active_us| *active_us <= now_us).min();
    let state = match replaced {
        _ if key.active_us > now_us => KeyUse::Pending,
        Some(_) => KeyUse::Retiring,
        None => KeyUse::Active,
    };
    let name = if key.name.is_empty() { key.id.to_string() } else { key.name.clone() };
    KeyReport { purpose, id: key.id, name, state, create_us: key.create_us, needs: needs(key, replaced) }
}

fn data_needs(stored: &Stored, key: &StoredKey, replaced: Option<i64>, now_us: i64) -> Vec<Need> {
    let is_by = |sealed: &[u8]| Sealed::from_bytes(sealed).key_id() == Some(key.id);
    let secrets = stored.secrets.iter().filter(|row| is_by(&row.sealed)).count();
    let keys = stored.signing.iter().chain(&stored.sealing).filter(|key| is_by(&key.sealed)).count();
    let counted = [("secrets", secrets), ("keys", keys)].into_iter().filter(|(_, count)| *count > 0);
    let counted = counted.map(|(what, count)| Need { what, count, ..Need::default() });
    counted.chain(until("pages of lists", replaced, PAGES_KEPT, now_us)).collect()
}

fn signing_needs(
    tokens: &BTreeMap<String, TokensOfKey>,
    key: &StoredKey,
    replaced: Option<i64>,
    now_us: i64,
) -> Vec<Need> {
    let mut needs = Vec::new();
    if let Some(of_key) = tokens.get(&key.name) {
        if of_key.ending > 0 {
            let until_us = Some(of_key.end_us);
            needs.push(Need { what: "tokens", count: of_key.ending, until_us, names: Vec::new() });
        }
        if !of_key.endless.is_empty() {
            let names = of_key.endless.iter().take(NAMES).cloned().collect();
            needs.push(Need {
                what: "tokens without an end",
                count: of_key.endless.len(),
                until_us: None,
                names,
            });
        }
    }
    needs.extend(until("bearers of people", replaced, ACCESS_LIFETIME, now_us));
    needs.extend(until("credentials of edges", replaced, LIFETIME.saturating_add(LATE), now_us));
    needs
}

/// What needs a key for a while after it was replaced.
fn until(what: &'static str, replaced: Option<i64>, kept: Duration, now_us: i64) -> Option<Need> {
    let until_us = replaced? + clock::duration_us(kept);
    (until_us > now_us).then(|| Need { what, until_us: Some(until_us), ..Need::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_000_000 * SECOND;

    fn key(id: u32, name: &str, active_us: i64) -> StoredKey {
        let (name, create_us) = (name.to_owned(), active_us.min(NOW));
        StoredKey { id, name, sealed: Vec::new(), public: String::new(), create_us, active_us }
    }

    #[test]
    fn a_key_is_replaced_when_the_next_is_used() {
        let no_needs = |_: &StoredKey, _: Option<i64>| Vec::new();
        let state = |keys: &[StoredKey], at| report(Purpose::Data, keys, at, NOW, &no_needs).state;
        let pending = [key(1, "", 0), key(2, "", NOW + 1)];
        assert_eq!((state(&pending, 0), state(&pending, 1)), (KeyUse::Active, KeyUse::Pending));
        let done = [key(1, "", 0), key(2, "", NOW)];
        assert_eq!((state(&done, 0), state(&done, 1)), (KeyUse::Retiring, KeyUse::Active));
    }

    #[test]
    fn only_live_tokens_need_their_key() {
        let live = Token { name: "tokens/a".to_owned(), key_id: "k".to_owned(), ..Default::default() };
        let until = |us| Token { expire_time: Some(clock::timestamp(us)), ..live.clone() };
        let revoked = Token { revoke_time: Some(clock::timestamp(NOW)), ..live.clone() };
        let mut found = BTreeMap::new();
        for token in
            [&live, &until(NOW + 60 * SECOND), &until(NOW + 90 * SECOND), &until(NOW - SECOND), &revoked]
        {
            note(&mut found, token, NOW);
        }
        let needs = signing_needs(&found, &key(1, "k", 0), None, NOW);
        let expected = [
            Need { what: "tokens", count: 2, until_us: Some(NOW + 90 * SECOND), names: Vec::new() },
            Need {
                what: "tokens without an end",
                count: 1,
                until_us: None,
                names: vec!["tokens/a".to_owned()],
            },
        ];
        assert_eq!(needs, expected);
        assert_eq!(signing_needs(&found, &key(2, "other", 0), None, NOW), []);
    }

    #[test]
    fn what_lives_on_for_a_while_needs_a_key_for_that_long() {
        let none = BTreeMap::new();
        let whats = |replaced| {
            let needs = signing_needs(&none, &key(1, "k", 0), Some(replaced), NOW);
            needs.into_iter().map(|need| need.what).collect::<Vec<_>>()
        };
        assert_eq!(whats(NOW), ["bearers of people", "credentials of edges"]);
        assert_eq!(whats(NOW - 2 * 3_600 * SECOND), ["credentials of edges"]);
        assert_eq!(whats(NOW - 8 * 86_400 * SECOND), [""; 0]);
    }
}
