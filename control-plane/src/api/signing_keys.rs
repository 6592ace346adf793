//! The service that shows and rotates the keys with which bearers are signed.

use tonic::{Request, Response, Status};
use trunkline::identity::v1::signing_key_service_server::SigningKeyService;
use trunkline::identity::v1::{
    ListSigningKeysRequest, ListSigningKeysResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    SigningKey,
};

use super::Registry;
use crate::auth::keys::ALGORITHM;
use crate::clock;
use crate::error::Error;

#[tonic::async_trait]
impl SigningKeyService for Registry {
    async fn list_signing_keys(
        &self,
        _request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Ok(Response::new(ListSigningKeysResponse { signing_keys: self.signing_keys() }))
    }

    async fn rotate_signing_key(
        &self,
        _request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        self.inner.signer.rotate_signing().await.map_err(Error::internal)?;
        let mut tx = self.store().write().await.map_err(Error::from)?;
        tx.touch();
        let revision = tx.commit().await.map_err(Error::from)?;
        Ok(Response::new(RotateSigningKeyResponse {
            signing_key: self.signing_keys().into_iter().next(),
            revision,
        }))
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
