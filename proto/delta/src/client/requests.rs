//! The requests of a client, each within the size that a server reads.
//!
//! It must not know when they are sent.

use std::collections::BTreeMap;

use trunkline::TypeTable;
use trunkline::discovery::v1::{Edge, Refusal as WireRefusal, StreamResourcesRequest};

use super::resource::Refusal;
use crate::MAX_REQUEST_BYTES;

/// Bytes of names, versions and reasons in one request, with room for what surrounds them.
const MAX_CONTENT: usize = MAX_REQUEST_BYTES / 2;
/// The bytes that surround a pair of texts in a request, at most.
const FRAMING: usize = 16;
/// The longest reason of a refusal, in bytes.
const MAX_REASON: usize = 1_024;

/// Claims what a client holds of a type and subscribes to all of it, in as many requests as that takes: the last one
/// subscribes.
pub(super) fn subscriptions<T: TypeTable>(
    kind: T,
    versions: BTreeMap<String, String>,
    edge: Option<Edge>,
) -> Vec<StreamResourcesRequest> {
    let request = || StreamResourcesRequest { type_url: kind.url().to_owned(), ..Default::default() };
    let mut requests = vec![StreamResourcesRequest { edge, ..request() }];
    let mut bytes = 0;
    for (name, version) in versions {
        let size = name.len() + version.len() + FRAMING;
        if bytes > 0 && bytes + size > MAX_CONTENT {
            requests.push(request());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = requests.last_mut() {
            last.initial_versions.insert(name, version);
        }
    }
    if let Some(last) = requests.last_mut() {
        last.subscribe.push("*".to_owned());
    }
    requests
}

/// Answers a response. Reasons are cut off where they are long, or where many refusals share one request: the names have to
/// be in it.
pub(super) fn answer<T>(type_url: String, nonce: String, refusals: &[Refusal<T>]) -> StreamResourcesRequest {
    let names: usize = refusals.iter().map(|refusal| refusal.name.len() + FRAMING).sum();
    let left = MAX_CONTENT.saturating_sub(names);
    let longest = left.checked_div(refusals.len()).map_or(MAX_REASON, |share| share.min(MAX_REASON));
    let refusal = |refusal: &Refusal<T>| {
        let end = refusal.reason.floor_char_boundary(longest);
        WireRefusal { name: refusal.name.clone(), reason: refusal.reason[..end].to_owned() }
    };
    StreamResourcesRequest {
        type_url,
        response_nonce: nonce,
        refusals: refusals.iter().map(refusal).collect(),
        ..Default::default()
    }
}
