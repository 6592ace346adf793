//! What runs here: this control plane and its database.

use trunkline::admin::v1::{DatabaseKind, GetSystemRequest, GetSystemResponse, System};

use super::rpc::{Call, Rpc};
use crate::clock;
use crate::error::Error;

impl Rpc for GetSystemRequest {
    type Response = GetSystemResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (store, run) = (call.registry.store(), &call.registry.inner.run);
        let database_kind = if store.is_sqlite() { DatabaseKind::Sqlite } else { DatabaseKind::Postgresql };
        let system = System {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(clock::timestamp(run.start_us)),
            replica: run.replica.clone(),
            database_kind: database_kind.into(),
            schema_version: store.schema_version().await?,
            revision: store.revision().await?,
            egress: call.registry.egress_rule().to_string(),
            // Last, so that it is as fresh as can be.
            time: Some(clock::timestamp(clock::now_us())),
        };
        Ok(GetSystemResponse { system: Some(system) })
    }
}
