//! Seals the secrets of resources, and opens them again for those who need them.

use prost::Message;
use rand::Rng as _;
use trunkline::registry::v1::{Credential, Upstream};
use zeroize::Zeroizing;

use super::Registry;
use crate::auth::vault::Sealed;
use crate::domain::Violations;
use crate::domain::credential::{self, Moved};
use crate::error::Error;
use crate::store::{SecretRow, Tx};

/// The effect of a write on the secret of a resource.
pub(super) enum SecretChange {
    /// Nothing.
    Keep,
    /// There is none any more.
    Remove,
    /// There is a new one, in the clear.
    Replace(Credential),
}

impl Registry {
    /// Parts a credential that somebody wrote from its secrets, giving empty ones the value that is stored, unless it
    /// would be sent elsewhere.
    pub(super) fn split_secret(
        &self,
        slot: &mut Option<Credential>,
        stored: Option<&SecretRow>,
        moved: Option<&Moved>,
        violations: &mut Violations,
    ) -> Result<SecretChange, Error> {
        let Some(written) = slot else {
            return Ok(stored.map_or(SecretChange::Keep, |_| SecretChange::Remove));
        };
        let kept = stored.map(|row| self.open_secret(row)).transpose()?;
        credential::keep(written, kept.as_ref(), moved, violations);
        let whole = credential::split(written);
        match stored.zip(kept) {
            Some((row, kept)) if kept.kind == whole.kind => {
                written.version.clone_from(&row.version);
                Ok(SecretChange::Keep)
            }
            _ => {
                written.version = format!("{:016x}", rand::rng().random::<u64>());
                Ok(SecretChange::Replace(whole))
            }
        }
    }

    /// Stores what `split_secret` decided.
    pub(super) async fn store_secret(
        &self,
        tx: &mut Tx,
        name: &str,
        uid: &str,
        version: &str,
        change: SecretChange,
    ) -> Result<(), Error> {
        match change {
            SecretChange::Keep => {}
            SecretChange::Remove => tx.delete_secret(name).await?,
            SecretChange::Replace(whole) => {
                let plain = Zeroizing::new(whole.encode_to_vec());
                let sealed =
                    self.inner.vault.seal(&credential::context(uid), &plain).map_err(Error::internal)?;
                let (name, uid, version) = (name.to_owned(), uid.to_owned(), version.to_owned());
                tx.put_secret(&SecretRow { name, uid, version, sealed: sealed.into_bytes() }).await?;
            }
        }
        Ok(())
    }

    /// The credential of an upstream, secrets and all; `None` also where it changed since the upstream was read, and may
    /// be meant for another URL.
    pub(super) async fn secret_of(&self, upstream: &Upstream) -> Result<Option<Credential>, Error> {
        let row = self.store().secret(&upstream.name).await?;
        row.filter(|row| row.is_of(upstream)).map(|row| self.open_secret(&row)).transpose()
    }

    fn open_secret(&self, row: &SecretRow) -> Result<Credential, Error> {
        let sealed = Sealed::from_bytes(row.sealed.clone());
        let plain =
            self.inner.vault.open(&credential::context(&row.uid), &sealed).map_err(Error::internal)?;
        Credential::decode(plain.as_slice()).map_err(Error::internal)
    }
}
