//! The master key: from the environment, or a file that only its owner reads.
//!
//! It must not know what is sealed with it.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mcp::border::text_without_mark;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::aead::Key;

/// Of the key of hashes.
const TAG_CONTEXT: &[u8] = b"trunkline versions of secrets";

/// A master key and the name it has within what it sealed.
#[derive(Clone, Debug)]
pub struct MasterKey {
    pub(super) id: u32,
    pub(super) key: Key,
}

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// It is not the base64 form of 32 bytes.
    #[error(
        "the master key in {origin} must be 32 bytes in base64; generate one with `openssl rand -base64 32`"
    )]
    Form {
        /// Where it came from.
        origin: String,
    },
    /// There is none, and something is sealed with it.
    #[error(
        "{path} is missing, and the database is sealed with it; restore the file, or pass the key as TRUNKLINE_MASTER_KEY"
    )]
    Lost {
        /// The file.
        path: String,
    },
    /// Others can read the file.
    #[error(
        "{path} is readable by other users; run `chmod 600 {path}`, and rotate the key if someone may have read it"
    )]
    Exposed {
        /// The file.
        path: String,
    },
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
}

impl MasterKey {
    /// Parses the base64 form. `origin` is named in the error.
    pub fn parse(text: &str, origin: &str) -> Result<Self, MasterKeyError> {
        let form = || MasterKeyError::Form { origin: origin.to_owned() };
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| form())?);
        Ok(Self::new(Key::new(&bytes).ok_or_else(form)?))
    }

    /// Loads the key from configuration where it is given, else from the file `path`. That is generated when it is missing,
    /// unless something `is_sealed` with it: then only the lost key is of use.
    pub fn load(
        configured: Option<&SecretString>,
        path: &Path,
        is_sealed: bool,
    ) -> Result<Self, MasterKeyError> {
        match configured {
            Some(text) => Self::parse(text.expose_secret(), "TRUNKLINE_MASTER_KEY"),
            None => {
                if is_sealed && !path.exists() {
                    return Err(MasterKeyError::Lost { path: path.display().to_string() });
                }
                let text = read_or_create(path, || STANDARD.encode(Key::generate().expose()))?;
                Self::parse(&text, &path.display().to_string())
            }
        }
    }

    /// Tells values of a context apart, by a hash that is keyed.
    pub(super) fn tag(&self, context: &str, value: &[u8]) -> String {
        // Of a key of its own: what is derived from the master key seals nothing.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key.expose()), TAG_CONTEXT);
        let mut tag = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()));
        tag.update(&(context.len() as u64).to_be_bytes());
        tag.update(context.as_bytes());
        tag.update(value);
        URL_SAFE_NO_PAD.encode(&tag.sign().as_ref()[..12])
    }

    fn new(key: Key) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.expose());
        let mut id = [0; 4];
        id.copy_from_slice(&digest.as_ref()[..4]);
        Self { id: u32::from_be_bytes(id), key }
    }
}

/// The trimmed content of a file of mode 0600, which is created with `make` where it is missing.
pub fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> String,
) -> Result<Zeroizing<String>, MasterKeyError> {
    let failed = |source| MasterKeyError::Io { path: path.display().to_string(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            Err(MasterKeyError::Exposed { path: path.display().to_string() })
        }
        Ok(_) => {
            let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
            Ok(Zeroizing::new(text_without_mark(&text).trim().to_owned()))
        }
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            let text = Zeroizing::new(make());
            write_private(path, &text).map_err(failed)?;
            Ok(text)
        }
        Err(other) => Err(failed(other)),
    }
}

/// Writes a file whole, or not at all: half of a secret would be taken for one at the next start.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let write = || {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        // Never over another one.
        std::fs::hard_link(&part, path)
    };
    let written = write();
    let _ = std::fs::remove_file(&part);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generates_once_and_privately() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = MasterKey::load(None, &path, false).unwrap();
        let again = MasterKey::load(None, &path, false).unwrap();
        assert_eq!(first.id, again.id);
        let other = tempfile::tempdir().unwrap();
        let lost = MasterKey::load(None, &other.path().join("master.key"), true);
        assert!(matches!(lost, Err(MasterKeyError::Lost { .. })), "{lost:?}");
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        // As an editor may write it.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{text}\r\n")).unwrap();
        assert_eq!(MasterKey::load(None, &path, false).unwrap().id, first.id);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKey::load(None, &path, false), Err(MasterKeyError::Exposed { .. })));
    }

    #[test]
    fn tags_differ_by_value_context_and_key() {
        let key = |text: &str| MasterKey::parse(&STANDARD.encode(text.repeat(32)), "test").unwrap();
        let tag = key("a").tag("c", b"value");
        assert_eq!(tag, key("a").tag("c", b"value"));
        for other in [key("a").tag("c", b"other"), key("a").tag("cv", b"alue"), key("b").tag("c", b"value")] {
            assert_ne!(tag, other);
        }
    }

    #[test]
    fn refuses_other_lengths() {
        for text in ["", "c2hvcnQ=", "not base64"] {
            let error = MasterKey::parse(text, "TRUNKLINE_MASTER_KEY").unwrap_err().to_string();
            assert!(error.contains("32 bytes in base64"), "{error}");
        }
    }
}
