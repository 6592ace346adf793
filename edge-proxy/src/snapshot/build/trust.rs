//! The trust bundle, with its keys parsed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Fingerprint, Issuer, SealingKey, SealingKeys, Trust, VerificationKey};
use super::accepted::AcceptedResources;
use super::{InvalidResource, decode};

/// Returns the accepted trust bundle, or the default one, which accepts nothing.
pub(super) fn of(accepted: &AcceptedResources) -> Arc<Trust> {
    let bundle = accepted.get(StreamType::TrustBundle, "default");
    bundle.and_then(|accepted| convert(&decode(accepted)).ok()).map(Arc::new).unwrap_or_default()
}

pub(super) fn convert(bundle: &wire::TrustBundle) -> Result<Trust, InvalidResource> {
    Ok(Trust {
        issuer: issuer(bundle)?,
        sealing: SealingKeys {
            keys: sealing_keys(&bundle.sealing_keys)?,
            generation: sealing_generation(&bundle.sealing_keys),
        },
        max_age: max_age(bundle)?,
    })
}

fn issuer(bundle: &wire::TrustBundle) -> Result<Issuer, InvalidResource> {
    let missing = |field: &'static str, value: &str| match value {
        "" => Err(InvalidResource::Empty { field }),
        _ => Ok(()),
    };
    missing("issuer", &bundle.issuer)?;
    missing("audience", &bundle.audience)?;
    Ok(Issuer {
        name: bundle.issuer.as_str().into(),
        audience: bundle.audience.as_str().into(),
        keys: verification_keys(&bundle.verification_keys)?,
        generation: issuer_generation(bundle),
    })
}

fn verification_keys(
    keys: &[wire::VerificationKey],
) -> Result<HashMap<Box<str>, VerificationKey>, InvalidResource> {
    let bad = |problem| InvalidResource::Field { field: "verification_keys", problem };
    let mut parsed = HashMap::with_capacity(keys.len());
    for wire::VerificationKey { key_id, algorithm, public_jwk_json } in keys {
        if algorithm != "ES256" {
            return Err(bad(format!(
                "has {key_id:?} with the algorithm {algorithm:?}; only ES256 is supported"
            )));
        }
        let jwk: Jwk = serde_json::from_str(public_jwk_json)
            .map_err(|_| bad(format!("has {key_id:?}, which is not a public key (RFC 7517)")))?;
        let key = DecodingKey::from_jwk(&jwk)
            .map_err(|_| bad(format!("has {key_id:?}, which is not an ES256 key")))?;
        let key = VerificationKey { algorithm: Algorithm::ES256, key };
        if parsed.insert(key_id.as_str().into(), key).is_some() {
            return Err(bad(format!("has {key_id:?} twice")));
        }
    }
    Ok(parsed)
}

fn sealing_keys(keys: &[wire::SealingKey]) -> Result<Vec<SealingKey>, InvalidResource> {
    let bad = |problem| InvalidResource::Field { field: "sealing_keys", problem };
    let mut parsed: Vec<SealingKey> = Vec::with_capacity(keys.len());
    for key in keys {
        let unbound = UnboundKey::new(&AES_256_GCM, &key.key)
            .map_err(|_| bad(format!("has {}, which is not of 32 bytes", key.key_id)))?;
        if parsed.iter().any(|known| known.id == key.key_id) {
            return Err(bad(format!("has {} twice", key.key_id)));
        }
        parsed.push(SealingKey { id: key.key_id, key: LessSafeKey::new(unbound) });
    }
    if parsed.is_empty() {
        return Err(InvalidResource::Empty { field: "sealing_keys" });
    }
    Ok(parsed)
}

fn max_age(bundle: &wire::TrustBundle) -> Result<Duration, InvalidResource> {
    let given = bundle.max_age.and_then(|age| Duration::try_from(age).ok());
    let positive = given.filter(|age| age.as_secs() > 0);
    positive.ok_or(InvalidResource::Field { field: "max_age", problem: "is not at least a second".into() })
}

fn issuer_generation(bundle: &wire::TrustBundle) -> u64 {
    let start = Fingerprint::new().part(bundle.issuer.as_bytes()).part(bundle.audience.as_bytes());
    let keys = bundle.verification_keys.iter().fold(start, |fingerprint, key| {
        fingerprint.part(key.key_id.as_bytes()).part(key.public_jwk_json.as_bytes())
    });
    keys.finish_short()
}

fn sealing_generation(keys: &[wire::SealingKey]) -> u64 {
    let all = keys
        .iter()
        .fold(Fingerprint::new(), |fingerprint, key| fingerprint.number(key.key_id.into()).part(&key.key));
    all.finish_short()
}
