//! AES-256-GCM with a random nonce in front: the one place where something is encrypted.
//!
//! It must not know what the bytes mean or where keys are kept.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of every key.
pub const KEY_BYTES: usize = 32;

/// A symmetric key. Its bytes are wiped on drop and never shown.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// It was not sealed by this key for this context, or was altered since.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot decrypt the sealed bytes")]
pub struct OpenError;

impl Key {
    /// A key of these bytes; `None` where there are not 32.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
        Some(Self { bytes: Zeroizing::new(bytes) })
    }

    /// A random key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random(bytes.as_mut());
        Self { bytes }
    }

    /// The bytes, to be sealed or handed to edges.
    pub fn expose(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Nonce and ciphertext. `context` is authenticated, and must be repeated to open them.
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let mut sealed = plaintext.to_vec();
        self.cipher()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .expect("the text is shorter than 64 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// The reverse of [`Self::seal`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length =
            self.cipher().open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| OpenError)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.expose()).expect("the key has 32 bytes"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Fills `bytes` with randomness from the operating system.
pub fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed_for_the_context() {
        let key = Key::generate();
        let sealed = key.seal(b"a", b"secret");
        assert_eq!(key.open(b"a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open(b"b", &sealed), Err(OpenError));
        assert_eq!(Key::generate().open(b"a", &sealed), Err(OpenError));
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert_eq!(key.open(b"a", &altered), Err(OpenError), "byte {position}");
            assert_eq!(key.open(b"a", &sealed[..position]), Err(OpenError), "cut at {position}");
        }
    }

    #[test]
    fn shows_nothing() {
        assert_eq!(format!("{:?}", Key::generate()), "Key(…)");
    }
}
