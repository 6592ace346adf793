//! Envelope encryption: secrets are sealed by data keys, and data keys by the master key.
//!
//! Sealing and opening are synchronous and touch no database; `load` and `rotate` do. It must not know
//! what the secrets are.

use std::collections::BTreeMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::aead::Key;
use super::master::MasterKey;
use crate::clock;
use crate::store::keys::{Keys, NewKey, Purpose, StoredKey};

const FORMAT: u8 = 1;
/// Format and key id.
const HEAD_BYTES: usize = 5;
const DATA_KEY_CONTEXT: &[u8] = b"trunkline data key";

/// Until a new data key seals: every replica has loaded it by then.
pub const ACTIVATION: Duration = Duration::from_secs(60);

/// Sealed bytes: format, key id, nonce, ciphertext. What is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// Seals and opens secrets.
#[derive(Debug)]
pub struct Vault {
    keys: Keys,
    master: MasterKey,
    ring: ArcSwap<Ring>,
    /// Those who load take turns: what was read before a rotation must not replace what was read after it.
    loading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Ring {
    active: u32,
    keys: BTreeMap<u32, Key>,
}

/// A secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The bytes are not in the form that `seal` gives.
    #[error("the sealed bytes are malformed")]
    Malformed,
    /// The data key is not known to this process (yet).
    #[error("unknown data key {0}")]
    UnknownKey(u32),
    /// Another context, or altered bytes.
    #[error("cannot decrypt the sealed bytes")]
    Refused,
    /// The data keys were sealed with another master key.
    #[error(
        "the stored keys were sealed with another master key; start with that key (TRUNKLINE_MASTER_KEY, or \
         master.key in the data directory), or pass it as TRUNKLINE_PREVIOUS_MASTER_KEY to rotate to the new one"
    )]
    OtherMasterKey,
    /// The database failed.
    #[error("cannot read or write the keys: {0}")]
    Database(#[from] sqlx::Error),
}

impl Sealed {
    /// Reads the form that `as_bytes` gives.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes to store.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The data key that sealed it. `None`: it is malformed.
    pub fn key_id(&self) -> Option<u32> {
        self.parts().ok().map(|(id, _)| id)
    }

    fn new(key_id: u32, text: &[u8]) -> Self {
        Self([&[FORMAT], &key_id.to_be_bytes()[..], text].concat())
    }

    fn parts(&self) -> Result<(u32, &[u8]), VaultError> {
        let (head, text) = self.0.split_at_checked(HEAD_BYTES).ok_or(VaultError::Malformed)?;
        match head {
            [FORMAT, a, b, c, d] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), text)),
            _ => Err(VaultError::Malformed),
        }
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Vault {
    /// Loads the data keys, making the first one where there is none. Those that were sealed with
    /// `previous` are sealed again with `master`.
    pub async fn open_keys(
        keys: Keys,
        master: MasterKey,
        previous: Option<&MasterKey>,
    ) -> Result<Self, VaultError> {
        let vault = Self { keys, master, ring: ArcSwap::default(), loading: Mutex::default() };
        if let Some(previous) = previous {
            vault.change_master(previous).await?;
        }
        vault.load().await?;
        if vault.ring.load().keys.is_empty() {
            vault.add(clock::now_us()).await?;
            vault.load().await?;
        }
        Ok(vault)
    }

    /// Seals `plaintext`. `context` says what it is of, and must be repeated to open it.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        let ring = self.ring.load();
        let key = ring.keys.get(&ring.active).ok_or(VaultError::UnknownKey(ring.active))?;
        Ok(Sealed::new(ring.active, &key.seal(context.as_bytes(), plaintext)))
    }

    /// The reverse of [`Self::seal`].
    pub fn open(&self, context: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (id, text) = sealed.parts()?;
        let ring = self.ring.load();
        let key = ring.keys.get(&id).ok_or(VaultError::UnknownKey(id))?;
        key.open(context.as_bytes(), text).map_err(|_| VaultError::Refused)
    }

    /// The fingerprint of the master key.
    pub fn master(&self) -> String {
        format!("{:08x}", self.master.id)
    }

    /// The data key that seals.
    pub fn active(&self) -> u32 {
        self.ring.load().active
    }

    /// Tells values of a context apart, and nothing else of them: the same at every replica.
    pub fn tag(&self, context: &str, value: &[u8]) -> String {
        self.master.tag(context, value)
    }

    /// Reads the data keys again, so that those made by other replicas are known.
    pub async fn load(&self) -> Result<(), VaultError> {
        let _turn = self.loading.lock().await;
        let rows = self.keys.list(Purpose::Data).await?;
        let mut ring = Ring::default();
        let now = clock::now_us();
        for row in rows {
            if row.active_us <= now {
                ring.active = row.id;
            }
            ring.keys.insert(row.id, self.open_data_key(&row)?);
        }
        self.ring.store(ring.into());
        Ok(())
    }

    /// Makes a new data key. It seals once every replica has had the time to load it; the old ones open what they sealed as long as
    /// there is something. Where a new one waits already, that is it.
    pub async fn rotate(&self) -> Result<(), VaultError> {
        let rows = self.keys.list(Purpose::Data).await?;
        if rows.iter().any(|row| row.active_us > clock::now_us()) {
            return self.load().await;
        }
        self.add(clock::now_us() + clock::duration_us(ACTIVATION)).await?;
        self.load().await
    }

    async fn add(&self, active_us: i64) -> Result<(), VaultError> {
        let sealed =
            Sealed::new(self.master.id, &self.master.key.seal(DATA_KEY_CONTEXT, Key::generate().expose()));
        let new =
            NewKey { name: String::new(), sealed: sealed.into_bytes(), public: String::new(), active_us };
        Ok(self.keys.add(Purpose::Data, &new).await?)
    }

    async fn change_master(&self, previous: &MasterKey) -> Result<(), VaultError> {
        for row in self.keys.list(Purpose::Data).await? {
            let sealed = Sealed::from_bytes(row.sealed);
            let (id, text) = sealed.parts()?;
            if id == previous.id && id != self.master.id {
                let key = previous.key.open(DATA_KEY_CONTEXT, text).map_err(|_| VaultError::Refused)?;
                let again = Sealed::new(self.master.id, &self.master.key.seal(DATA_KEY_CONTEXT, &key));
                self.keys.reseal(Purpose::Data, row.id, again.as_bytes()).await?;
            }
        }
        Ok(())
    }

    fn open_data_key(&self, row: &StoredKey) -> Result<Key, VaultError> {
        let sealed = Sealed::from_bytes(row.sealed.clone());
        let (master, text) = sealed.parts()?;
        if master != self.master.id {
            return Err(VaultError::OtherMasterKey);
        }
        let bytes = self.master.key.open(DATA_KEY_CONTEXT, text).map_err(|_| VaultError::Refused)?;
        Key::new(&bytes).ok_or(VaultError::Malformed)
    }
}
