//! Sealed handles: values that a client is given to send back, and that only an edge can read or make.
//!
//! It must not know what is in a handle. AES-256-GCM with the keys of the trust bundle; the text is base64url of
//! key id, nonce and ciphertext, so visible ASCII.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::snapshot::Trust;

/// Longer handles are refused unread.
const MAX_TEXT: usize = 64 << 10;
const KEY_ID_LEN: usize = 4;

/// The use and the owner of a handle. A handle opens only under the binding that it was sealed under.
#[derive(Debug, Clone, Copy)]
pub struct HandleBinding<'a> {
    /// The use, which keeps handles of one kind from being used as another.
    pub purpose: Purpose,
    /// The uid of the virtual server.
    pub server: &'a str,
    /// The uid of the principal.
    pub principal: &'a str,
    /// Further values that must agree, such as method and name.
    pub about: &'a [&'a str],
}

/// The kinds of handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A legacy session id.
    Session = 1,
    /// A cursor of a list.
    Cursor = 2,
    /// The `requestState` of a modern upstream.
    RequestState = 3,
    /// The id of a request from an upstream to a client.
    ServerRequest = 4,
    /// The id of an event that a client may resume from.
    Event = 5,
    /// The id of a task.
    Task = 6,
    /// The state of a call that waits for its client's answers.
    Parked = 7,
    /// The address that messages to a client's connection are posted to.
    PostAddress = 8,
    /// A ticket that a browser opens a WebSocket with.
    Ticket = 9,
    /// What a call waits for that a rule holds back, or that it has begun.
    HeldCall = 10,
}

/// The reason that a handle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The trust bundle has no sealing key.
    #[error("this edge has no key for sealing handles")]
    NoKey,
    /// The random source or the cipher failed.
    #[error("sealing failed")]
    Cipher,
}

/// Seals `content` under `binding`.
pub fn seal(trust: &Trust, binding: HandleBinding<'_>, content: &[u8]) -> Result<String, SealError> {
    let key = trust.sealing.keys.first().ok_or(SealError::NoKey)?;
    let mut nonce = [0u8; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Cipher)?;
    let mut sealed = content.to_vec();
    key.key
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(binding.bytes()),
            &mut sealed,
        )
        .map_err(|_| SealError::Cipher)?;
    let mut bytes = Vec::with_capacity(KEY_ID_LEN + NONCE_LEN + sealed.len());
    bytes.extend_from_slice(&key.id.to_be_bytes());
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Opens a handle. Returns its content if it was sealed under exactly this binding.
pub fn open(trust: &Trust, binding: HandleBinding<'_>, text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (key_id, rest) = bytes.split_first_chunk::<KEY_ID_LEN>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let id = u32::from_be_bytes(*key_id);
    let key = trust.sealing.keys.iter().find(|key| key.id == id)?;
    let mut content = sealed.to_vec();
    let length = key
        .key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(binding.bytes()), &mut content)
        .ok()?
        .len();
    content.truncate(length);
    Some(content)
}

/// Joins parts, each preceded by its length.
pub fn join<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    join_all(&parts)
}

/// Joins parts with the hash that rules judged the arguments of a call by; as `join` does where there is none.
pub fn join_judged<const N: usize>(judged_by: Option<u128>, parts: [&[u8]; N]) -> Vec<u8> {
    let mut content = join(parts);
    if let Some(hash) = judged_by {
        content.extend_from_slice(&join([&hash.to_be_bytes()]));
    }
    content
}

/// Splits what `join_judged` joined.
pub fn split_judged<const N: usize>(content: &[u8]) -> Option<(Option<u128>, [&[u8]; N])> {
    if let Some(parts) = split(content) {
        return Some((None, parts));
    }
    let mut parts = split_all(content)?;
    let hash = parts.pop()?.try_into().ok()?;
    Some((Some(u128::from_be_bytes(hash)), parts.try_into().ok()?))
}

/// Joins any number of parts, each preceded by its length.
pub fn join_all(parts: &[&[u8]]) -> Vec<u8> {
    let mut content = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        content.extend_from_slice(&(part.len() as u32).to_be_bytes());
        content.extend_from_slice(part);
    }
    content
}

/// Splits a joined content into its parts.
pub fn split<const N: usize>(mut content: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = [b"".as_slice(); N];
    for part in &mut parts {
        let (length, after) = content.split_first_chunk::<4>()?;
        (*part, content) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    }
    content.is_empty().then_some(parts)
}

/// Splits a joined content into any number of parts.
pub fn split_all(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !content.is_empty() {
        let (length, after) = content.split_first_chunk::<4>()?;
        let (part, rest) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        parts.push(part);
        content = rest;
    }
    Some(parts)
}

impl HandleBinding<'_> {
    /// Encodes every part with its length, so that no two bindings have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.purpose as u8];
        for part in [self.server, self.principal].iter().chain(self.about) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{Issuer, SealingKey, SealingKeys};

    /// Makes a trust bundle with sealing keys of these ids.
    pub(crate) fn trust(ids: &[u32]) -> Trust {
        let keys = ids.iter().map(|id| SealingKey { id: *id, key: key(*id as u8) }).collect();
        let generation = ids.iter().fold(1, |generation, id| generation * 31 + u64::from(*id));
        Trust {
            issuer: Issuer::default(),
            sealing: SealingKeys { keys, generation },
            max_age: std::time::Duration::from_secs(60),
        }
    }

    fn key(fill: u8) -> aws_lc_rs::aead::LessSafeKey {
        let unbound = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, &[fill; 32]).unwrap();
        aws_lc_rs::aead::LessSafeKey::new(unbound)
    }

    const MINE: HandleBinding<'static> =
        HandleBinding { purpose: Purpose::Session, server: "s", principal: "t", about: &["x"] };

    #[test]
    fn opens_with_an_older_key_after_rotation() {
        let handle = seal(&trust(&[1]), MINE, b"hello").unwrap();
        assert_eq!(open(&trust(&[2, 1]), MINE, &handle).as_deref(), Some(b"hello".as_slice()));
        assert_eq!(open(&trust(&[2]), MINE, &handle), None);
    }

    #[test]
    fn another_binding_does_not_open() {
        let handle = seal(&trust(&[1]), MINE, b"hello").unwrap();
        for other in [
            HandleBinding { purpose: Purpose::Cursor, ..MINE },
            HandleBinding { server: "st", principal: "", ..MINE },
            HandleBinding { principal: "u", ..MINE },
            HandleBinding { about: &[], ..MINE },
        ] {
            assert_eq!(open(&trust(&[1]), other, &handle), None, "{other:?}");
        }
    }

    #[test]
    fn a_handle_of_an_earlier_build_opens() {
        let handle = "AAAAAYJU6A3XNwvtM0JmX7KY-DnWku8I8fNV63Is06UDZvVW8Q";
        assert_eq!(open(&trust(&[1]), MINE, handle).as_deref(), Some(b"hello".as_slice()));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_what_is_changed_does_not(content: Vec<u8>, at: proptest::sample::Index, flip in 1u8..) {
            let trust = trust(&[7]);
            let handle = seal(&trust, MINE, &content).unwrap();
            prop_assert!(handle.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
            prop_assert_eq!(open(&trust, MINE, &handle), Some(content));
            let mut bytes = URL_SAFE_NO_PAD.decode(&handle).unwrap();
            let position = at.index(bytes.len());
            bytes[position] ^= flip;
            prop_assert_eq!(open(&trust, MINE, &URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn what_is_joined_is_split(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            let content = join([&a, &b, &c]);
            prop_assert_eq!(split(&content), Some([a.as_slice(), &b, &c]));
            prop_assert_eq!(split::<2>(&content), None);
            prop_assert_eq!(split::<4>(&content), None);
        }

        #[test]
        fn junk_never_opens(text: String) {
            prop_assert_eq!(open(&trust(&[1]), MINE, &text), None);
        }
    }
}
