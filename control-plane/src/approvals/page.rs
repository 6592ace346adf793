//! The page that tells people what a call waits for: `GET /approvals/{id}`. Whoever knows the id is told how far it is, and nothing of
//! the call.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use inbound::ConnectionHandle;
use trunkline::policy::v1::ApprovalState;

use super::is_id;
use crate::clock;
use crate::store::Store;

/// Nothing is loaded, sent or run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// A page that changes by itself is asked for again so often, in seconds.
const REFRESH: u32 = 5;

/// The route.
pub fn router(store: Store) -> Router {
    Router::new().route("/approvals/{id}", get(show)).with_state(store)
}

async fn show(
    State(store): State<Store>,
    Path(id): Path<String>,
    connection: Option<Extension<ConnectionHandle>>,
) -> Response {
    // Whoever asks proves nothing, and takes no more of the database than others leave.
    let place = match &connection {
        Some(Extension(connection)) => connection.public_request().map(Some),
        None => Some(None),
    };
    let Some(_place) = place else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many requests\n")
            .into_response();
    };
    let now_us = clock::now_us();
    let found = if is_id(&id) { store.approval(&id).await } else { Ok(None) };
    let (status, html) = match found {
        Ok(found) => match found.map(|row| row.state_at(now_us)).and_then(|state| text(state, &id)) {
            Some(html) => (StatusCode::OK, html),
            None => (StatusCode::NOT_FOUND, gone()),
        },
        Err(error) => {
            tracing::warn!(%error, "cannot show an approval");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                document("Not known", &["The control plane cannot read it now; try again."], true),
            )
        }
    };
    let mut response = (status, Html(html)).into_response();
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is said of an approval; `None`: the same as of one that never was.
fn text(state: ApprovalState, id: &str) -> Option<String> {
    let command = |verb: &str| format!("<code>mcpctl approvals {verb} {id}</code>");
    Some(match state {
        ApprovalState::Pending => {
            let decide = format!(
                "Somebody else than the caller decides: {} shows the call, then {} or {}.",
                command("show"),
                command("approve"),
                command("deny")
            );
            document(
                "Waiting for approval",
                &["A tool call is held back until it is approved.", &decide, "This page follows by itself."],
                true,
            )
        }
        ApprovalState::Approved => document(
            "Approved",
            &["The call may be made now, once. Go back to your client and go on, or make the call again."],
            true,
        ),
        ApprovalState::Denied => {
            document("Denied", &["The call is refused. Your client says why, if a reason was given."], false)
        }
        ApprovalState::Used => document("Done", &["The call was approved, and has been made."], false),
        ApprovalState::Expired | ApprovalState::Unspecified => return None,
    })
}

fn gone() -> String {
    document(
        "Not there",
        &["There is no such approval, or its time is over. Make the call again to ask anew."],
        false,
    )
}

/// `lines` are HTML.
fn document(title: &str, lines: &[&str], refreshes: bool) -> String {
    let refresh = if refreshes {
        format!("<meta http-equiv=\"refresh\" content=\"{REFRESH}\">")
    } else {
        String::new()
    };
    let lines: String = lines.iter().map(|line| format!("<p>{line}</p>\n")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\">{refresh}<title>{title}</title></head>\n\
         <body><main>\n<h1>{title}</h1>\n{lines}</main></body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_how_far_it_is_and_what_is_over_never_was() {
        let of = |state| text(state, "0123");
        assert!(of(ApprovalState::Pending).unwrap().contains("<code>mcpctl approvals approve 0123</code>"));
        assert!(of(ApprovalState::Pending).unwrap().contains("http-equiv=\"refresh\""));
        assert!(!of(ApprovalState::Denied).unwrap().contains("http-equiv=\"refresh\""));
        assert_eq!(of(ApprovalState::Expired), None);
        for state in
            [ApprovalState::Pending, ApprovalState::Approved, ApprovalState::Denied, ApprovalState::Used]
        {
            let html = of(state).unwrap();
            assert!(!html.contains("<script") && !html.contains("style"), "{html}");
        }
    }
}
