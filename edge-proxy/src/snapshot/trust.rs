//! The keys and terms that bearers and sealed handles are verified by.

use std::collections::HashMap;
use std::time::Duration;

/// The keys and terms that bearers and sealed handles are verified by. The default accepts nothing.
#[derive(Debug, Default)]
pub struct Trust {
    /// The control plane as the issuer of bearers.
    pub issuer: Issuer,
    /// The keys of sealed handles.
    pub sealing: SealingKeys,
    /// The time that bearers are believed after the last contact with a control plane.
    pub max_age: Duration,
}

/// An issuer of credentials: the claims that they must have, and the keys that they are signed with.
#[derive(Debug, Default)]
pub struct Issuer {
    /// The required `iss` of a credential.
    pub name: Box<str>,
    /// The required `aud` of a bearer.
    pub audience: Box<str>,
    /// Public keys by `kid`.
    pub keys: HashMap<Box<str>, VerificationKey>,
    /// A hash of all of the above. What is cached of a verified bearer is good for one generation.
    pub generation: u64,
}

/// The AES-256-GCM keys of sealed handles.
#[derive(Debug, Default)]
pub struct SealingKeys {
    /// The first seals, all open.
    pub keys: Vec<SealingKey>,
    /// A hash of the keys. What is cached of an opened handle is good for one generation.
    pub generation: u64,
}

/// A public key and its algorithm.
pub struct VerificationKey {
    /// The only algorithm accepted with it.
    pub algorithm: jsonwebtoken::Algorithm,
    /// The key.
    pub key: jsonwebtoken::DecodingKey,
}

/// A symmetric key that seals handles.
pub struct SealingKey {
    /// Names the key within a handle.
    pub id: u32,
    /// The key.
    pub key: aws_lc_rs::aead::LessSafeKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}
