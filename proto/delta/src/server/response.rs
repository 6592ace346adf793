//! Responses on their way to a client: what is the client's own, and the resources, which all clients share.

use std::sync::Arc;

use bytes::BufMut;
use prost::Message as _;
use prost_types::Timestamp;
use trunkline::discovery::v1::StreamResourcesResponse;

use crate::Item;

/// The type of a response that only says that the client waits for its turn. No client knows it, and each passes over a type
/// that it does not know.
const WAITING: &str = "type.googleapis.com/trunkline.discovery.v1.Waiting";

/// A response that is to be sent.
#[derive(Debug, PartialEq)]
pub struct OutgoingResponse {
    /// All of it but the resources.
    head: StreamResourcesResponse,
    resources: Vec<Arc<Item>>,
}

impl OutgoingResponse {
    /// Creates a response of `head` and resources, of which the head has none.
    pub(super) fn new(head: StreamResourcesResponse, resources: Vec<Arc<Item>>) -> Self {
        Self { head, resources }
    }

    /// Creates a response for a client that waits for its turn. It is no sign that nothing is newer, so its time is none from
    /// which a client may count.
    pub fn waiting() -> Self {
        let head = StreamResourcesResponse {
            type_url: WAITING.to_owned(),
            send_time: Some(Timestamp::default()),
            ..Default::default()
        };
        Self::new(head, Vec::new())
    }

    /// Sets the time at which it is sent, unless it has one.
    pub fn set_send_time(&mut self, time: Timestamp) {
        self.head.send_time.get_or_insert(time);
    }

    /// The resources that it carries.
    pub fn resources(&self) -> &[Arc<Item>] {
        &self.resources
    }

    /// The size of its message, encoded, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.resources.iter().map(|item| item.field().len()).sum::<usize>()
    }

    /// Writes its message, encoded: fields may come in any order, so the resources are copied as they are.
    pub fn encode(&self, out: &mut impl BufMut) {
        // Only a buffer that is too small fails, and this one grows.
        let _ = self.head.encode(out);
        self.resources.iter().for_each(|item| out.put_slice(item.field()));
    }
}
