//! All keys of the installation: what needs each, and new ones.

use trunkline::identity::v1::{
    Key, KeyNeed, KeyPurpose, KeyState, ListKeysRequest, ListKeysResponse, RotateKeysRequest,
    RotateKeysResponse,
};

use super::Registry;
use super::rpc::{Call, Rpc};
use crate::clock;
use crate::error::Error;
use crate::store::keys::Purpose;
use crate::sync::{KeyCare, KeyReport, KeyUse, Need};

/// Those that are replaced here.
const ROTATED: [KeyPurpose; 3] = [KeyPurpose::Data, KeyPurpose::Signing, KeyPurpose::Sealing];

impl Rpc for ListKeysRequest {
    type Response = ListKeysResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        Ok(ListKeysResponse { keys: call.registry.keys().await? })
    }
}

impl Rpc for RotateKeysRequest {
    type Response = RotateKeysResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let known = |number: &i32| KeyPurpose::try_from(*number).ok().filter(|known| ROTATED.contains(known));
        let asked: Option<Vec<KeyPurpose>> = self.purposes.iter().map(known).collect();
        let asked = asked.ok_or_else(|| {
            let text =
                "must be data, signing or sealing; the master key is replaced by starting with another";
            Error::field("purposes", text)
        })?;
        for purpose in ROTATED.into_iter().filter(|known| asked.is_empty() || asked.contains(known)) {
            call.registry.rotate(purpose).await?;
        }
        let mut tx = call.registry.store().write().await?;
        tx.touch();
        let revision = tx.commit().await?;
        Ok(RotateKeysResponse { keys: call.registry.keys().await?, revision })
    }
}

impl Registry {
    async fn rotate(&self, purpose: KeyPurpose) -> Result<(), Error> {
        match purpose {
            KeyPurpose::Data => self.inner.vault.rotate().await.map_err(Error::internal),
            KeyPurpose::Signing => self.inner.signer.rotate_signing().await.map_err(Error::internal),
            KeyPurpose::Sealing => self.inner.signer.rotate_sealing().await.map_err(Error::internal),
            KeyPurpose::Master | KeyPurpose::Unspecified => Ok(()),
        }
    }

    async fn keys(&self) -> Result<Vec<Key>, Error> {
        let (vault, signer) = (self.inner.vault.clone(), self.inner.signer.clone());
        let care = KeyCare::new(self.store().clone(), vault, signer);
        let (fingerprint, data_keys) = care.master().await.map_err(Error::internal)?;
        let master = Key {
            id: fingerprint,
            purpose: KeyPurpose::Master.into(),
            state: KeyState::Active.into(),
            create_time: None,
            needs: vec![shown_need(Need { what: "data keys", count: data_keys, ..Need::default() })],
        };
        let others = care.report().await.map_err(Error::internal)?;
        Ok(std::iter::once(master).chain(others.into_iter().map(shown)).collect())
    }
}

fn shown(report: KeyReport) -> Key {
    let purpose = match report.purpose {
        Purpose::Data => KeyPurpose::Data,
        Purpose::Signing => KeyPurpose::Signing,
        Purpose::Sealing => KeyPurpose::Sealing,
    };
    let state = match report.state {
        KeyUse::Active => KeyState::Active,
        KeyUse::Pending => KeyState::Pending,
        KeyUse::Retiring => KeyState::Retiring,
    };
    Key {
        id: report.name,
        purpose: purpose.into(),
        state: state.into(),
        create_time: Some(clock::timestamp(report.create_us)),
        needs: report.needs.into_iter().map(shown_need).collect(),
    }
}

fn shown_need(need: Need) -> KeyNeed {
    KeyNeed {
        what: need.what.to_owned(),
        count: i64::try_from(need.count).unwrap_or(i64::MAX),
        until_time: need.until_us.map(clock::timestamp),
        names: need.names,
    }
}
