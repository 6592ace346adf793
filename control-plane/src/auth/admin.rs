//! The administrator's bearer: one secret, compared in constant time.
//!
//! It must not know what administrators may do.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use super::aead::random;
use super::master::{MasterKeyError, read_or_create};

/// The bearer that every administrative rpc needs.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// `None`: it is switched off.
    token: Option<SecretString>,
}

/// What switches it off, in the place of a token.
const OFF: &str = "off";

impl AdminToken {
    /// Loads the token from configuration where it is given, else from `<data_dir>/admin-token`, which is generated when missing.
    pub fn load(configured: Option<&SecretString>, data_dir: &Path) -> Result<Self, AdminTokenError> {
        if configured.is_some_and(|token| token.expose_secret() == OFF) {
            return Ok(Self { token: None });
        }
        let path = data_dir.join("admin-token");
        let (token, origin) = match configured {
            Some(token) => (token.clone(), "TRUNKLINE_ADMIN_TOKEN (--admin-token)".to_owned()),
            None => (read_or_create(&path, random_token)?.as_str().into(), path.display().to_string()),
        };
        match is_strong(token.expose_secret()) {
            true => Ok(Self { token: Some(token) }),
            false => Err(AdminTokenError::Weak { origin }),
        }
    }

    /// Compares a bearer with the token, in constant time.
    pub fn matches(&self, presented: &str) -> bool {
        let Some(token) = &self.token else { return false };
        let ours = digest(&SHA256, token.expose_secret().as_bytes());
        let theirs = digest(&SHA256, presented.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).is_ok()
    }

    /// The bearer, to be handed to the person who started the program. Empty: it is switched off.
    pub fn expose(&self) -> &str {
        self.token.as_ref().map_or("", |token| token.expose_secret())
    }

    /// Tells whether it is switched off.
    pub fn is_off(&self) -> bool {
        self.token.is_none()
    }
}

/// The admin token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// Anybody could guess it, or no header can carry it.
    #[error(
        "the admin token in {origin} must be at least {MIN_CHARS} visible ASCII characters; generate one with \
         `openssl rand -base64 32`, or remove it, and one is generated; `off` switches it off"
    )]
    Weak {
        /// Where it came from.
        origin: String,
    },
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] MasterKeyError),
}

/// The least length of an admin token.
const MIN_CHARS: usize = 16;

fn is_strong(token: &str) -> bool {
    token.len() >= MIN_CHARS && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// 32 random bytes in a form that fits into a header.
pub fn random_token() -> String {
    let mut bytes = [0; 32];
    random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The hex of a hash of a random token: what is stored instead of it.
pub fn token_hash(token: &str) -> String {
    use std::fmt::Write;
    digest(&SHA256, token.as_bytes()).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::load(None, folder.path()).unwrap();
        assert!(token.matches(token.expose()));
        assert!(!token.matches(""));
        assert!(!token.matches(&format!("{}x", token.expose())));
        let again = AdminToken::load(None, folder.path()).unwrap();
        assert!(again.matches(token.expose()));
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn switched_off_it_matches_nothing_and_is_not_generated() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::load(Some(&"off".into()), folder.path()).unwrap();
        assert!(token.is_off());
        for presented in ["", "off"] {
            assert!(!token.matches(presented), "{presented:?}");
        }
        assert_eq!(token.expose(), "");
        assert!(!folder.path().join("admin-token").exists());
    }

    #[test]
    fn a_token_that_anybody_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for weak in ["", " ", "short", "sixteen spaces in", "a-token-with-an-é-in-it"] {
            let error = AdminToken::load(Some(&weak.into()), folder.path()).unwrap_err().to_string();
            assert!(
                error.starts_with("the admin token in TRUNKLINE_ADMIN_TOKEN (--admin-token) must be"),
                "{error}"
            );
        }
        let path = folder.path().join("admin-token");
        AdminToken::load(None, folder.path()).unwrap();
        std::fs::write(&path, "\n").unwrap();
        let error = AdminToken::load(None, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the admin token in {} must be", path.display())), "{error}");
    }
}
