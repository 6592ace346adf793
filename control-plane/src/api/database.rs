//! Answers where the database is lost: at once, and not when whoever wanted a connection gives up.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Code;

use super::json;
use crate::auth::caller::Caller;
use crate::error::Error;
use crate::store::Store;

/// Answers administrators as soon as the database is lost. Edges try again by themselves, and strangers are not told.
pub async fn give_up_without_database(State(store): State<Store>, request: Request, next: Next) -> Response {
    if !matches!(request.extensions().get(), Some(Caller::Principal(_))) {
        return next.run(request).await;
    }
    let headers = request.headers().clone();
    let lost = tokio::select! {
        response = next.run(request) => return response,
        lost = store.lost() => lost,
    };
    let message = format!("the control plane cannot reach its database ({lost})");
    json::refuse(&headers, &Error::new(Code::Unavailable, "STORE_UNAVAILABLE", message).into())
}
