//! Connections to upstreams over HTTP: warm ones in pools, and responses within bounds.
//!
//! It must not know what is sent on them.

mod content_coding;
mod http_pool;
mod http_response;
mod keeps;
mod redirects;
mod upstream_connection;

pub(super) use self::http_pool::{HttpPool, Retry};
pub(super) use self::http_response::HttpResponse;
pub(super) use self::redirects::Redirect;
