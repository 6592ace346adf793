//! Feeds rows of the log to a catalogue, and reads the states of upstreams; what for is no matter here.

use std::collections::BTreeMap;

use prost::Message as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use trunkline::identity::v1::Team;
use trunkline::registry::v1::{Prompt, Resource, Server, Tool, Upstream, UpstreamState};

use super::{Row, Store, StoreError};
use crate::domain::{Catalogue, Kind};

/// The status of an upstream, in so far as its state is in it.
#[derive(Clone, PartialEq, prost::Message)]
struct ObservedState {
    #[prost(enumeration = "UpstreamState", tag = "1")]
    state: i32,
}

/// An upstream, in so far as its state is in it.
#[derive(Clone, PartialEq, prost::Message)]
struct ObservedUpstream {
    #[prost(message, optional, tag = "11")]
    status: Option<ObservedState>,
}

impl Store {
    /// The states of all upstreams as they were observed, by name.
    pub async fn upstream_states(&self) -> Result<BTreeMap<String, UpstreamState>, StoreError> {
        let rows = sqlx::query("select name, status from resources where kind = $1 and deleted = 0")
            .bind(Kind::Upstream.as_str())
            .fetch_all(self.pool())
            .await?;
        let state = |row: &AnyRow| -> Result<(String, UpstreamState), StoreError> {
            let (name, status): (String, Vec<u8>) = (row.try_get("name")?, row.try_get("status")?);
            let observed = ObservedUpstream::decode(status.as_slice());
            let observed = observed.map_err(|source| StoreError::Decode { name: name.clone(), source })?;
            let state = observed.status.unwrap_or_default().state();
            let probed = state != UpstreamState::Unspecified;
            Ok((name, if probed { state } else { UpstreamState::Pending }))
        };
        rows.iter().map(state).collect()
    }
}

impl Row {
    /// Takes this row, or its end, into a catalogue.
    pub fn apply_to(&self, catalogue: &mut Catalogue) -> Result<(), StoreError> {
        if self.deleted {
            catalogue.remove(self.kind, &self.name);
            return Ok(());
        }
        match self.kind {
            Kind::Upstream => catalogue.put_upstream(&self.message::<Upstream>()?),
            Kind::Tool => catalogue.put_tool(&self.message::<Tool>()?),
            Kind::Resource => catalogue.put_resource(&self.message::<Resource>()?),
            Kind::Prompt => catalogue.put_prompt(&self.message::<Prompt>()?),
            Kind::Server => catalogue.put_server(&self.message::<Server>()?),
            Kind::Team => catalogue.put_team(&self.message::<Team>()?),
            Kind::Token | Kind::Role => {}
        }
        Ok(())
    }
}
