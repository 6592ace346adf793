//! The key of the copy on disk: given by the operator, or made once and kept beside the copy.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::os::files;

/// AES-256-GCM.
pub struct DiskKey(LessSafeKey);

/// The reason that there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key is not 32 bytes in Base64.
    #[error(
        "--snapshot-key is not 32 bytes in Base64; make one with `openssl rand -base64 32`, or leave it out"
    )]
    Malformed,
    /// The file could not be read or written.
    #[error("the key of the copy on disk: {0}")]
    File(#[from] std::io::Error),
}

const FILE: &str = "snapshot.key";

impl DiskKey {
    /// Returns the key that was given, else the one in `folder`, which is made if there is none.
    pub fn get(given: Option<&Secret>, folder: &Path) -> Result<DiskKey, KeyError> {
        if let Some(given) = given {
            return DiskKey::parse(given.expose().as_bytes());
        }
        let path = folder.join(FILE);
        if let Some(stored) = files::read(&path)? {
            match DiskKey::parse(&Zeroizing::new(stored)) {
                // The copy is fetched anew.
                Err(KeyError::Malformed) => files::move_aside(&path, "not 32 bytes in Base64"),
                key => return key,
            }
        }
        let fresh: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        files::write(&path, Zeroizing::new(BASE64_STANDARD.encode(*fresh)).as_bytes())?;
        DiskKey::new(&*fresh)
    }

    fn parse(text: &[u8]) -> Result<DiskKey, KeyError> {
        let bytes = BASE64_STANDARD.decode(text.trim_ascii()).map_err(|_| KeyError::Malformed)?;
        DiskKey::new(&Zeroizing::new(bytes))
    }

    fn new(bytes: &[u8]) -> Result<DiskKey, KeyError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| KeyError::Malformed)?;
        Ok(DiskKey(LessSafeKey::new(key)))
    }

    pub(super) fn aead(&self) -> &LessSafeKey {
        &self.0
    }
}

impl std::fmt::Debug for DiskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskKey(…)")
    }
}
