//! The layer by which every call is somebody's: whatever it changes is recorded as theirs, and what it is refused is recorded too.
//!
//! It must not know the rpcs.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use inbound::ConnectionHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::audit::{AuditRecorder, Incident};
use crate::auth::caller::Caller;
use crate::rights::Rights;
use crate::store::audit::Author;

/// What clients call their requests by.
const REQUEST_ID: &str = "x-request-id";
/// The longest such name, in bytes.
const MAX_REQUEST_ID: usize = 128;
/// What is known of a resource that a call was about, in the details of an error.
const NAMES: [&str; 2] = ["name", "team"];

/// A layer for `axum::middleware::from_fn_with_state`: within, all changes are those of the caller.
pub async fn audited(State(recorder): State<AuditRecorder>, request: Request, next: Next) -> Response {
    let author = Arc::new(author_of(&request));
    let is_principal = matches!(request.extensions().get(), Some(Caller::Principal(_)));
    let response = author.clone().runs(next.run(request)).await;
    if is_principal && let Some(status) = Status::from_header_map(response.headers()) {
        note(&recorder, &author, &status);
    }
    response
}

/// Records what somebody was refused. That something does not exist for them is no refusal: it is the same as that it does not exist.
fn note(recorder: &AuditRecorder, author: &Author, status: &Status) {
    if !matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) {
        return;
    }
    let info = status.get_details_error_info();
    let reason = info.as_ref().map_or("PERMISSION_DENIED", |info| info.reason.as_str());
    let named = |key: &&str| info.as_ref().and_then(|info| info.metadata.get(*key)).cloned();
    let resource = NAMES.iter().find_map(named).unwrap_or_default();
    recorder.note(Incident::refusal(author, &resource, reason));
}

/// Records that somebody may not make a call at all.
pub(super) fn refused(
    recorder: &AuditRecorder,
    rights: &Rights,
    head: (&str, Option<IpAddr>, &HeaderMap),
    reason: &str,
) {
    let (path, address, headers) = head;
    recorder.note(Incident::refusal(&author(rights, path, address, headers), "", reason));
}

fn author_of(request: &Request) -> Author {
    let nobody = Arc::default();
    let rights = match request.extensions().get() {
        Some(Caller::Principal(rights)) => rights,
        _ => &nobody,
    };
    let address = request.extensions().get::<ConnectionHandle>().map(ConnectionHandle::address);
    let author = author(rights, request.uri().path(), address, request.headers());
    match request.extensions().get() {
        Some(Caller::Edge(claims)) => Author { actor: format!("edges/{}", claims.sub), ..author },
        _ => author,
    }
}

fn author(rights: &Rights, path: &str, address: Option<IpAddr>, headers: &HeaderMap) -> Author {
    let request_id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Author {
        actor: rights.name.clone(),
        actor_uid: rights.uid.clone(),
        through: rights.through.clone(),
        address: address.map(|address| address.to_string()).unwrap_or_default(),
        action: path.trim_start_matches('/').to_owned(),
        request_id: if request_id.len() <= MAX_REQUEST_ID { request_id.to_owned() } else { String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_who_calls_what_from_where() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "r-1".parse().unwrap());
        let address = "192.0.2.7".parse().ok();
        let found = author(&Rights::administrator(), "/trunkline.x.v1.S/Get", address, &headers);
        let wanted = Author {
            actor: "system/administrator".to_owned(),
            address: "192.0.2.7".to_owned(),
            action: "trunkline.x.v1.S/Get".to_owned(),
            request_id: "r-1".to_owned(),
            ..Author::default()
        };
        assert_eq!(found, wanted);
        headers.insert(REQUEST_ID, "r".repeat(MAX_REQUEST_ID + 1).parse().unwrap());
        assert_eq!(author(&Rights::administrator(), "/x", address, &headers).request_id, "");
    }
}
