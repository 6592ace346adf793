//! Feeds rows of the log to a catalogue; what the catalogue is for is no matter here.

use trunkline::registry::v1::{Prompt, Resource, Tool, Upstream};

use super::{Row, StoreError};
use crate::domain::{Catalogue, Kind};

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
            Kind::Server | Kind::Token => {}
        }
        Ok(())
    }
}
