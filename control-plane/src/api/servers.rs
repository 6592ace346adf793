//! Rpcs of virtual servers beyond the standard ones: the entries that one exposes.

use trunkline::common::v1::Permission;
use trunkline::registry::v1::{ListServerEntriesRequest, ListServerEntriesResponse, Server, ServerEntry};

use super::rpc::{Call, Rpc};
use crate::domain::members::{self, Exposed};
use crate::error::Error;

impl Rpc for ListServerEntriesRequest {
    type Response = ListServerEntriesResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let server: Server = call.get(&self.name).await?;
        let known = call.registry.catalogue().await?;
        let exposure = members::evaluate(&server, &known.catalogue);
        let entry = |exposed: Exposed<'_>| ServerEntry {
            kind: exposed.word().to_owned(),
            // Whoever sees a server sees what it exposes, and not whose that is.
            target: if call.caller.reads(Permission::RegistryRead, exposed.ownership) {
                exposed.entry.name.clone()
            } else {
                String::new()
            },
            exposed_name: exposed.exposed_name,
        };
        let entries = exposure.entries.into_iter().map(entry).collect();
        Ok(ListServerEntriesResponse { entries })
    }
}
