//! Rpcs of virtual servers beyond the standard ones: the entries that one exposes.

use trunkline::registry::v1::{ListServerEntriesRequest, ListServerEntriesResponse, Server, ServerEntry};

use super::rpc::{Call, Rpc};
use crate::domain::members;
use crate::error::Error;

impl Rpc for ListServerEntriesRequest {
    type Response = ListServerEntriesResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let server: Server = call.registry.get(&self.name).await?;
        let known = call.registry.catalogue().await?;
        let entries = members::evaluate(&server, &known.catalogue)
            .entries
            .into_iter()
            .map(|exposed| ServerEntry {
                kind: exposed.word().to_owned(),
                target: exposed.entry.name.clone(),
                exposed_name: exposed.exposed_name,
            })
            .collect();
        Ok(ListServerEntriesResponse { entries })
    }
}
