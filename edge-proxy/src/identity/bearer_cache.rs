//! The bearers that one worker has verified. It must not know what a principal may do.

use std::cell::RefCell;
use std::sync::Arc;

use super::Principal;
use super::credentials::verify_bearer;
use crate::collections::TwoGenerationCache;
use crate::error::Failure;
use crate::snapshot::Trust;

/// The last used bearers that one worker keeps at least; at most twice as many.
const CAPACITY: usize = 10_000;

/// The bearers that one worker has verified, by their whole text, so that no two are taken for each other.
#[derive(Debug)]
pub struct BearerCache {
    bearers: RefCell<TwoGenerationCache<Box<str>, CachedBearer>>,
}

#[derive(Debug)]
struct CachedBearer {
    principal: Arc<Principal>,
    /// The generation of the issuer that it was verified by.
    issuer: u64,
}

impl Default for BearerCache {
    fn default() -> Self {
        Self { bearers: RefCell::new(TwoGenerationCache::new(CAPACITY)) }
    }
}

impl BearerCache {
    /// Returns the principal of a bearer whose signature is valid. What it may do, and until when, is for `policy` to say.
    pub fn authenticate(&self, trust: &Trust, bearer: Option<&str>) -> Result<Arc<Principal>, Failure> {
        let bearer = bearer.ok_or(Failure::Bearer { presented: false })?;
        if let Some(principal) = self.cached(trust, bearer) {
            return Ok(principal);
        }
        let principal = verify_bearer(trust, bearer).ok_or(Failure::Bearer { presented: true })?;
        let principal = Arc::new(principal);
        let cached = CachedBearer { principal: Arc::clone(&principal), issuer: trust.issuer.generation };
        self.bearers.borrow_mut().insert(bearer.into(), cached);
        Ok(principal)
    }

    fn cached(&self, trust: &Trust, bearer: &str) -> Option<Arc<Principal>> {
        let is_current = |cached: &CachedBearer| cached.issuer == trust.issuer.generation;
        let principal = |cached: &mut CachedBearer| is_current(cached).then(|| Arc::clone(&cached.principal));
        self.bearers.borrow_mut().with(bearer, principal)?
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

    use super::*;
    use crate::snapshot::{Issuer, SealingKeys, VerificationKey};

    /// An issuer, with what it signs with.
    struct Signer(rcgen::KeyPair);

    impl Signer {
        fn new() -> Self {
            Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
        }

        fn issuer(&self, generation: u64) -> Issuer {
            let key = DecodingKey::from_ec_der(self.0.public_key_raw());
            let key = VerificationKey { algorithm: Algorithm::ES256, key };
            Issuer { name: "i".into(), audience: "a".into(), keys: [("k".into(), key)].into(), generation }
        }

        fn bearer(&self, uid: &str) -> String {
            let header = Header { kid: Some("k".into()), ..Header::new(Algorithm::ES256) };
            let claims = serde_json::json!({"iss": "i", "aud": "a", "sub": "tokens/t", "jti": uid});
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&self.0.serialize_der()))
                .unwrap()
        }
    }

    #[test]
    fn a_bearer_is_verified_again_when_its_issuers_keys_change_and_not_when_sealing_keys_do() {
        let (signer, other) = (Signer::new(), Signer::new());
        let (cache, bearer) = (BearerCache::default(), signer.bearer("u"));
        let trust = |issuer, sealing| Trust {
            issuer,
            sealing: SealingKeys { keys: Vec::new(), generation: sealing },
            ..Trust::default()
        };
        let verify = |trust: &Trust| cache.authenticate(trust, Some(&bearer));
        let first = verify(&trust(signer.issuer(1), 1)).unwrap();
        assert!(Arc::ptr_eq(&first, &verify(&trust(signer.issuer(1), 2)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &verify(&trust(signer.issuer(2), 2)).unwrap()));
        assert!(verify(&trust(other.issuer(3), 2)).is_err(), "it was verified with a key that is gone");
    }

    #[test]
    fn the_ten_thousand_and_first_bearer_evicts_none_that_is_in_use() {
        let (signer, cache) = (Signer::new(), BearerCache::default());
        let trust = Trust { issuer: signer.issuer(1), ..Trust::default() };
        let hot = signer.bearer("hot");
        let verify = |bearer: &str| cache.authenticate(&trust, Some(bearer)).unwrap();
        let first = verify(&hot);
        for number in 0..=CAPACITY {
            // As if verified: the signatures of so many take long.
            let principal = Arc::new(Principal { uid: number.to_string().into(), ..(*first).clone() });
            let cached = CachedBearer { principal, issuer: trust.issuer.generation };
            cache.bearers.borrow_mut().insert(number.to_string().into(), cached);
            if number % 1_000 == 0 {
                assert!(Arc::ptr_eq(&first, &verify(&hot)), "after {number}");
            }
        }
        assert!(Arc::ptr_eq(&first, &verify(&hot)));
        assert_eq!(&*verify("10000").uid, "10000", "each is itself");
    }
}
