//! The rpcs that show and rotate the keys with which bearers are signed.

use serde_json::json;
use trunkline::identity::v1::{
    ListSigningKeysRequest, ListSigningKeysResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    SigningKey,
};

use super::Registry;
use super::rpc::{Call, Rpc};
use crate::auth::keys::ALGORITHM;
use crate::clock;
use crate::error::Error;
use crate::store::audit::Deed;

impl Rpc for ListSigningKeysRequest {
    type Response = ListSigningKeysResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        Ok(ListSigningKeysResponse { signing_keys: call.registry.signing_keys() })
    }
}

impl Rpc for RotateSigningKeyRequest {
    type Response = RotateSigningKeyResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        call.registry.inner.signer.rotate_signing().await.map_err(Error::internal)?;
        let mut tx = call.registry.store().write().await?;
        tx.touch();
        let key_id = call.registry.signing_keys().first().map(|key| key.key_id.clone()).unwrap_or_default();
        tx.record(Deed {
            resource: format!("signingKeys/{key_id}"),
            after: Some(json!({ "keyId": key_id })),
            ..Deed::default()
        });
        let revision = tx.commit().await?;
        Ok(RotateSigningKeyResponse {
            signing_key: call.registry.signing_keys().into_iter().next(),
            revision,
        })
    }
}

impl Registry {
    /// The newest first, which is the one that signs.
    fn signing_keys(&self) -> Vec<SigningKey> {
        let ring = self.inner.signer.ring();
        let newest_first = ring.signing.iter().rev().enumerate();
        newest_first
            .map(|(index, key)| SigningKey {
                key_id: key.key_id.clone(),
                algorithm: ALGORITHM.to_owned(),
                create_time: Some(clock::timestamp(key.create_us)),
                active: index == 0,
                public_jwk_json: key.public_jwk.clone(),
            })
            .collect()
    }
}
