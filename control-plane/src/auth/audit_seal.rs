//! Seals of the audit log: signatures over where it is, and over where it begins. Who has the database alone cannot make one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::{KeyError, Signer};
use crate::clock;

/// `aud` of seals, so that nothing else that is signed can be taken for one.
const AUDIENCE: &str = "trunkline-audit";

/// What a seal says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealedPlace {
    /// The chain up to it has this hash.
    End,
    /// The chain begins with it, after a record of this hash.
    Start,
}

#[derive(Debug, Serialize, Deserialize)]
struct SealClaims {
    iss: String,
    aud: String,
    sub: SealedPlace,
    iat: i64,
    exp: i64,
    seq: i64,
    hash: String,
}

/// What a seal proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealProof {
    /// What it is asked for.
    Holds,
    /// Something else.
    Fails,
    /// Nothing: its key is gone.
    Unknown,
}

/// Makes and checks seals.
#[derive(Debug, Clone)]
pub struct AuditSeals {
    signer: Arc<Signer>,
}

impl AuditSeals {
    /// Seals with the signing keys.
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer }
    }

    /// Signs.
    pub fn seal(&self, place: SealedPlace, sequence: i64, hash: &str) -> Result<String, KeyError> {
        let now = clock::now_us() / 1_000_000;
        let claims = SealClaims {
            iss: self.signer.issuer().to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: place,
            iat: now,
            // Seals do not end; that they are of a known key is what counts.
            exp: now,
            seq: sequence,
            hash: hash.to_owned(),
        };
        Ok(self.signer.sign(&claims)?.0)
    }

    /// Checks a seal.
    pub fn check(&self, seal: &str, place: SealedPlace, sequence: i64, hash: &str) -> SealProof {
        let Ok(head) = jsonwebtoken::decode_header(seal) else { return SealProof::Fails };
        if !self.signer.ring().signing.iter().any(|key| Some(&key.key_id) == head.kid.as_ref()) {
            return SealProof::Unknown;
        }
        match self.signer.verify_ended::<SealClaims>(seal, AUDIENCE) {
            Ok(claims) if claims.sub == place && claims.seq == sequence && claims.hash == hash => {
                SealProof::Holds
            }
            _ => SealProof::Fails,
        }
    }

    /// Tells whether a seal is of the key that signs now.
    pub fn is_newest(&self, seal: &str) -> bool {
        let kid = jsonwebtoken::decode_header(seal).ok().and_then(|head| head.kid);
        self.signer.ring().signing.last().is_some_and(|key| Some(&key.key_id) == kid.as_ref())
    }
}
