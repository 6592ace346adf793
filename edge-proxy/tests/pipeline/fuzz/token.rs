//! No text in `Authorization` is believed without a signature, and none makes the edge fail; likewise for session ids.

use std::sync::{Arc, LazyLock};

use trunkline::edge::v1::{SealingKey, TrustBundle, VerificationKey};
use trunkline_edge_proxy::identity::BearerCache;
use trunkline_edge_proxy::session::Conversation;
use trunkline_edge_proxy::snapshot::Snapshot;
use trunkline_edge_proxy::snapshot::build::{Resources, compile};

const NOW: u64 = 1_800_000_000;
/// The example key of RFC 7517, appendix A.1.
const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","alg":"ES256"}"#;

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let key = VerificationKey { key_id: "k".into(), algorithm: "ES256".into(), public_jwk_json: JWK.into() };
    let trust = TrustBundle {
        name: "default".into(),
        issuer: "trunkline".into(),
        audience: "trunkline".into(),
        verification_keys: vec![key],
        sealing_keys: vec![SealingKey { key_id: 1, key: vec![7; 32] }],
        max_age: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
    };
    let (snapshot, refusals) = compile(&Resources { trust_bundles: vec![trust], ..Default::default() });
    assert!(refusals.is_empty(), "{refusals:?}");
    snapshot
});

pub(crate) fn check(text: &str) {
    assert!(BearerCache::default().authenticate(&SNAPSHOT.trust, Some(text)).is_err());
    assert!(Conversation::open(&SNAPSHOT.trust, "server", "token", text, NOW).is_none());
}
