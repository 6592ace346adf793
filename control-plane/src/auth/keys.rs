//! The keys that edges hold: they verify bearers with the public signing keys, and share the sealing keys.
//!
//! It must not know what is signed, nor when keys are to be rotated.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::aead::Key;
use super::vault::{Sealed, Vault, VaultError};
use crate::clock;
use crate::store::keys::{Keys, NewKey, Purpose, StoredKey};

/// `aud` of the bearers of clients.
pub const CLIENT_AUDIENCE: &str = "trunkline";
/// `alg` of every key.
pub const ALGORITHM: &str = "ES256";
/// The number of sealing keys that are kept. Handles sealed with older ones no longer open.
const SEALING_KEYS_KEPT: usize = 4;
/// Until a new sealing key seals: every edge can open with it by then.
pub const SEALING_ACTIVATION: Duration = Duration::from_secs(60);

/// Signs, verifies, and keeps the keys for it.
#[derive(Debug)]
pub struct Signer {
    keys: Keys,
    vault: Arc<Vault>,
    issuer: String,
    ring: ArcSwap<Ring>,
    /// Those who load take turns: what was read before a rotation must not replace what was read after it.
    loading: Mutex<()>,
}

/// The keys at one moment.
#[derive(Debug, Default)]
pub struct Ring {
    /// The oldest first; the last one signs.
    pub signing: Vec<SigningKey>,
    /// The one that seals first, then the others, the newest first.
    pub sealing: Vec<SealingKey>,
}

/// A key that signs, or signed.
pub struct SigningKey {
    /// `kid`.
    pub key_id: String,
    /// The public half (RFC 7517).
    pub public_jwk: String,
    /// The time of creation.
    pub create_us: i64,
    private: EncodingKey,
    public: DecodingKey,
}

/// A key that all edges share.
#[derive(Debug)]
pub struct SealingKey {
    /// Names it within a handle.
    pub id: u32,
    /// The key.
    pub key: Key,
    /// The time of creation.
    pub create_us: i64,
    /// True once it may seal.
    pub active: bool,
}

/// A key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database failed.
    #[error("cannot read or write the keys: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored key is not what it should be.
    #[error("the stored key {0} is damaged")]
    Damaged(String),
    /// Nothing can be signed.
    #[error("no signing key exists")]
    NoKey,
    /// The library failed to sign.
    #[error("cannot sign: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The text to verify is not valid.
    #[error("not valid: {0}")]
    Invalid(String),
}

/// The claims of a client's bearer. It has no `exp`: the end is in the resource, so that it can be edited.
#[derive(Debug, Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct BearerClaims {
    /// The issuer.
    pub iss: String,
    /// [`CLIENT_AUDIENCE`].
    pub aud: String,
    /// `tokens/{token}`.
    pub sub: String,
    /// The uid of the token.
    pub jti: String,
    /// The time of issue, in seconds since the Unix epoch.
    pub iat: i64,
}

/// How long a bearer of a person or service account is good.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(3_600);

/// The claims of a bearer with which a person or service account calls servers.
#[derive(Debug, Clone, Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct AccessClaims {
    /// The issuer.
    pub iss: String,
    /// [`CLIENT_AUDIENCE`].
    pub aud: String,
    /// `users/{user}` or `serviceAccounts/{service_account}`.
    pub sub: String,
    /// The uid of the principal.
    pub uid: String,
    /// Names this bearer.
    pub jti: String,
    /// The time of issue, in seconds since the Unix epoch.
    pub iat: i64,
    /// The end, in seconds since the Unix epoch.
    pub exp: i64,
    /// The epoch of the principal: what was withdrawn in a later one is not held.
    pub ep: i64,
    /// The ids of the grants of a role and of the team in which it is held; of none, everywhere.
    pub gr: Vec<(String, String)>,
}

impl AccessClaims {
    /// The claims of a bearer that begins now, and ends before `end_us`.
    pub fn new(
        name: &str,
        uid: &str,
        epoch: i64,
        grants: Vec<(String, String)>,
        end_us: Option<i64>,
    ) -> Self {
        let now_us = clock::now_us();
        let end_us = (now_us + clock::duration_us(ACCESS_LIFETIME)).min(end_us.unwrap_or(i64::MAX));
        Self {
            iss: String::new(),
            aud: CLIENT_AUDIENCE.to_owned(),
            sub: name.to_owned(),
            uid: uid.to_owned(),
            jti: uuid::Uuid::now_v7().to_string(),
            iat: now_us / 1_000_000,
            exp: end_us / 1_000_000,
            ep: epoch,
            gr: grants,
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Loads the keys, making the first of each purpose where there is none.
    pub async fn open(keys: Keys, vault: Arc<Vault>, issuer: String) -> Result<Self, KeyError> {
        let signer = Self { keys, vault, issuer, ring: ArcSwap::default(), loading: Mutex::default() };
        signer.load().await?;
        if signer.ring().signing.is_empty() {
            signer.add_signing().await?;
        }
        if signer.ring().sealing.is_empty() {
            signer.add_sealing(clock::now_us()).await?;
        }
        signer.load().await?;
        Ok(signer)
    }

    /// The keys as last loaded.
    pub fn ring(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    /// The issuer, as in `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Reads the keys again, so that those of other replicas are known.
    pub async fn load(&self) -> Result<(), KeyError> {
        let _turn = self.loading.lock().await;
        let signing = self.keys.list(Purpose::Signing).await?;
        let sealing = self.keys.list(Purpose::Sealing).await?;
        let now = clock::now_us();
        let mut ring = Ring {
            signing: signing.iter().map(|row| self.read_signing(row)).collect::<Result<_, _>>()?,
            sealing: sealing.iter().rev().map(|row| self.read_sealing(row, now)).collect::<Result<_, _>>()?,
        };
        // Stable: the newest active one comes first, and those that may not seal yet come behind it.
        ring.sealing.sort_by_key(|key| !key.active);
        self.ring.store(ring.into());
        Ok(())
    }

    /// Signs the bearer of a token. Answers the bearer and the id of the key.
    pub fn sign_token(&self, name: &str, uid: &str) -> Result<(String, String), KeyError> {
        self.sign(&BearerClaims {
            iss: self.issuer.clone(),
            aud: CLIENT_AUDIENCE.to_owned(),
            sub: name.to_owned(),
            jti: uid.to_owned(),
            iat: clock::now_us() / 1_000_000,
        })
    }

    /// Signs the bearer of a person or service account.
    pub fn sign_access(&self, claims: AccessClaims) -> Result<String, KeyError> {
        let signed = self.sign(&AccessClaims { iss: self.issuer.clone(), ..claims })?;
        Ok(signed.0)
    }

    /// Signs any claims with the newest key. Answers the JWT and the id of the key.
    pub fn sign(&self, claims: &impl Serialize) -> Result<(String, String), KeyError> {
        let ring = self.ring.load();
        let key = ring.signing.last().ok_or(KeyError::NoKey)?;
        let header = Header { kid: Some(key.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let signed = jsonwebtoken::encode(&header, claims, &key.private).map_err(KeyError::Sign)?;
        Ok((signed, key.key_id.clone()))
    }

    /// The claims of a JWT that one of our keys signed for `audience` and that has not ended.
    pub fn verify<C: DeserializeOwned>(&self, jwt: &str, audience: &str) -> Result<C, KeyError> {
        self.claims(jwt, &self.rules(audience))
    }

    /// The claims of a JWT that one of our keys signed for `audience`, also if it has ended.
    pub fn verify_ended<C: DeserializeOwned>(&self, jwt: &str, audience: &str) -> Result<C, KeyError> {
        let mut rules = self.rules(audience);
        rules.validate_exp = false;
        self.claims(jwt, &rules)
    }

    /// Returns `tokens/{token}` whose bearer this is, if one of our keys signed it, whatever became of the token.
    pub fn token_of(&self, bearer: &str) -> Option<String> {
        let mut rules = self.rules(CLIENT_AUDIENCE);
        rules.required_spec_claims.remove("exp");
        rules.validate_exp = false;
        self.claims::<BearerClaims>(bearer, &rules).ok().map(|claims| claims.sub)
    }

    fn rules(&self, audience: &str) -> Validation {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[audience]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        rules
    }

    fn claims<C: DeserializeOwned>(&self, jwt: &str, rules: &Validation) -> Result<C, KeyError> {
        let invalid = |error: jsonwebtoken::errors::Error| KeyError::Invalid(error.to_string());
        let kid = jsonwebtoken::decode_header(jwt).map_err(invalid)?.kid;
        let ring = self.ring.load();
        let key = ring
            .signing
            .iter()
            .find(|key| Some(&key.key_id) == kid.as_ref())
            .ok_or_else(|| KeyError::Invalid("signed with an unknown key".to_owned()))?;
        jsonwebtoken::decode::<C>(jwt, &key.public, rules).map(|data| data.claims).map_err(invalid)
    }

    /// Makes a new signing key, which signs from now on. Edges must be told by a new revision.
    pub async fn rotate_signing(&self) -> Result<(), KeyError> {
        self.add_signing().await?;
        self.load().await
    }

    /// Makes a new sealing key, which seals after [`SEALING_ACTIVATION`], and forgets the oldest ones; where a new one waits already, that
    /// is it. Edges must be told by a new revision.
    pub async fn rotate_sealing(&self) -> Result<(), KeyError> {
        let mut rows = self.keys.list(Purpose::Sealing).await?;
        let known = rows.len();
        rows.retain(|row| row.active_us != i64::MAX);
        if rows.len() < known {
            return self.load().await;
        }
        self.add_sealing(i64::MAX).await?;
        for old in rows.iter().rev().skip(SEALING_KEYS_KEPT - 1) {
            self.keys.delete(Purpose::Sealing, old.id).await?;
        }
        self.load().await
    }

    /// Lets sealing keys seal whose time has come. Answers whether edges must be told.
    pub async fn activate_sealing(&self) -> Result<bool, KeyError> {
        let now = clock::now_us();
        let due = now - clock::duration_us(SEALING_ACTIVATION);
        let ring = self.ring();
        let waiting: Vec<_> = ring.sealing.iter().filter(|key| !key.active && key.create_us <= due).collect();
        for key in &waiting {
            self.keys.activate(Purpose::Sealing, key.id, now).await?;
        }
        self.load().await?;
        Ok(!waiting.is_empty())
    }

    /// The context in which the secret half of a key is sealed.
    pub fn context(purpose: Purpose, name: &str) -> String {
        match purpose {
            Purpose::Signing => signing_context(name),
            Purpose::Sealing | Purpose::Data => SEALING_CONTEXT.to_owned(),
        }
    }

    async fn add_signing(&self) -> Result<(), KeyError> {
        let damaged = |_| KeyError::Damaged("generated just now".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(damaged)?;
        let private = pair.to_pkcs8v1().map_err(damaged)?;
        let (key_id, public) = public_jwk(pair.public_key().as_ref());
        let sealed = self.vault.seal(&signing_context(&key_id), private.as_ref())?.into_bytes();
        let new = NewKey { name: key_id, sealed, public, active_us: clock::now_us() };
        Ok(self.keys.add(Purpose::Signing, &new).await?)
    }

    async fn add_sealing(&self, active_us: i64) -> Result<(), KeyError> {
        let sealed = self.vault.seal(SEALING_CONTEXT, Key::generate().expose())?.into_bytes();
        let new = NewKey { name: String::new(), sealed, public: String::new(), active_us };
        Ok(self.keys.add(Purpose::Sealing, &new).await?)
    }

    fn read_signing(&self, row: &StoredKey) -> Result<SigningKey, KeyError> {
        let private =
            self.vault.open(&signing_context(&row.name), &Sealed::from_bytes(row.sealed.clone()))?;
        let jwk: jsonwebtoken::jwk::Jwk =
            serde_json::from_str(&row.public).map_err(|_| KeyError::Damaged(row.name.clone()))?;
        Ok(SigningKey {
            key_id: row.name.clone(),
            public_jwk: row.public.clone(),
            create_us: row.create_us,
            private: EncodingKey::from_ec_der(&private),
            public: DecodingKey::from_jwk(&jwk).map_err(|_| KeyError::Damaged(row.name.clone()))?,
        })
    }

    fn read_sealing(&self, row: &StoredKey, now: i64) -> Result<SealingKey, KeyError> {
        let bytes = self.vault.open(SEALING_CONTEXT, &Sealed::from_bytes(row.sealed.clone()))?;
        let key = Key::new(&bytes).ok_or_else(|| KeyError::Damaged(row.id.to_string()))?;
        Ok(SealingKey { id: row.id, key, create_us: row.create_us, active: row.active_us <= now })
    }
}

const SEALING_CONTEXT: &str = "trunkline sealing key";

fn signing_context(key_id: &str) -> String {
    format!("trunkline signing key {key_id}")
}

/// Key id and JWK of an uncompressed point. The id is derived from the key, so that equal keys are told apart
/// by nothing, and different ones always.
fn public_jwk(point: &[u8]) -> (String, String) {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, point);
    let key_id = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]);
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let jwk = format!(
        r#"{{"kty":"EC","use":"sig","alg":"{ALGORITHM}","kid":"{key_id}","crv":"P-256","x":"{x}","y":"{y}"}}"#
    );
    (key_id, jwk)
}
