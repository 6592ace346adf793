//! Seals of the audit log: signatures over where it is, and over where it begins. Who has the database alone cannot make one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::keys::{KeyError, Signer};
use crate::clock;
use crate::store::audit::{AuditHead, Cut};

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
    /// Of an end, its number; of a start, that of the last seal before it. Seals of before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nr: Option<i64>,
}

/// What is read of a seal that is not to be believed.
#[derive(Deserialize)]
struct SaidClaims {
    nr: Option<i64>,
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

    /// Signs. `number`: of an end, that of the seal; of a start, that of the last seal before it.
    pub fn seal(
        &self,
        place: SealedPlace,
        sequence: i64,
        hash: &str,
        number: i64,
    ) -> Result<String, KeyError> {
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
            nr: Some(number),
        };
        Ok(self.signer.sign(&claims)?.0)
    }

    /// Signs where the chain ends, with the number of the seal.
    pub fn seal_end(&self, head: &AuditHead) -> Result<String, KeyError> {
        self.seal(SealedPlace::End, head.sequence, &head.hash, head.seals)
    }

    /// Signs where the chain begins once records are gone, with the number of the last seal that was before. Before seals were numbered it was
    /// none.
    pub fn seal_start(&self, cut: &Cut) -> Result<String, KeyError> {
        let number = self.number(cut.last_seal.as_ref().unwrap_or(&cut.before)).unwrap_or_default();
        self.seal(SealedPlace::Start, cut.first, &cut.hash, number)
    }

    /// Checks a seal.
    pub fn check(&self, seal: &str, place: SealedPlace, sequence: i64, hash: &str) -> SealProof {
        if jsonwebtoken::decode_header(seal).is_err() {
            return SealProof::Fails;
        }
        if !self.is_of_known_key(seal) {
            return SealProof::Unknown;
        }
        match self.signer.verify_ended::<SealClaims>(seal, AUDIENCE) {
            Ok(claims) if claims.sub == place && claims.seq == sequence && claims.hash == hash => {
                SealProof::Holds
            }
            _ => SealProof::Fails,
        }
    }

    /// The number that a seal signs; of a key that is gone, the one that it says. `None`: it has none.
    pub fn number(&self, seal: &str) -> Option<i64> {
        match self.signer.verify_ended::<SealClaims>(seal, AUDIENCE) {
            Ok(claims) => claims.nr,
            Err(_) if self.is_of_known_key(seal) => None,
            Err(_) => {
                let said = URL_SAFE_NO_PAD.decode(seal.split('.').nth(1)?).ok()?;
                serde_json::from_slice::<SaidClaims>(&said).ok()?.nr
            }
        }
    }

    fn is_of_known_key(&self, seal: &str) -> bool {
        let kid = jsonwebtoken::decode_header(seal).ok().and_then(|head| head.kid);
        self.signer.ring().signing.iter().any(|key| Some(&key.key_id) == kid.as_ref())
    }

    /// Tells whether a seal is of the key that signs now.
    pub fn is_newest(&self, seal: &str) -> bool {
        let kid = jsonwebtoken::decode_header(seal).ok().and_then(|head| head.kid);
        self.signer.ring().signing.last().is_some_and(|key| Some(&key.key_id) == kid.as_ref())
    }
}
