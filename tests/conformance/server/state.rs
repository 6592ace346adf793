//! `requestState`: what the server must remember between two rounds, sealed so that nobody can change it.

use rmcp::ErrorData;
use rmcp::model::{RequestStateCodec, SealOptions};
use serde_json::Value;

/// Every replica of the fixture seals with the same key, as a stateless server behind a balancer has to.
const KEY: &[u8] = b"conformance fixture, not a secret";

pub(crate) struct State(RequestStateCodec);

impl State {
    pub(crate) fn new() -> Self {
        Self(RequestStateCodec::try_new(KEY).expect("the key is long enough"))
    }

    pub(crate) fn seal(&self, tool: &str, state: &Value) -> String {
        self.0.seal_with(state.to_string().as_bytes(), &SealOptions::new().associated_data(tool.as_bytes()))
    }

    pub(crate) fn open(&self, tool: &str, sealed: &str) -> Result<Value, ErrorData> {
        let invalid = || ErrorData::invalid_params("requestState is not what this server sent", None);
        let state = self.0.open_with(sealed, tool.as_bytes()).map_err(|_| invalid())?;
        serde_json::from_slice(&state).map_err(|_| invalid())
    }
}
