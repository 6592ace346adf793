//! Requests that an upstream redirects: followed within its origin, with the same method and body, and remembered.
//!
//! It must not know what the requests are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode, Uri};
use mcp::redirect::{self, MAX_REDIRECTS, NotFollowed};
use mcp::session_loss::Refusal;
use url::{Position, Url};

use super::http_pool::{HttpPool, Retry};
use super::http_response::HttpResponse;
use crate::error::Fault;

/// Largest body of a redirect that is read.
const MAX_BODY: usize = 64 << 10;

/// Where an upstream has sent requests.
#[derive(Default)]
pub(super) struct Redirected {
    /// Whether the upstream answers where it is registered.
    settled: Cell<bool>,
    to: RefCell<Option<Uri>>,
    /// Whether a redirect was logged that is not followed.
    refused: Cell<bool>,
}

impl Redirected {
    pub(super) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// The next request is sent in a way that can follow.
    #[cold]
    pub(super) fn unsettle(&self) {
        self.settled.set(false);
    }

    /// Notes where a request was answered; `None` for where the upstream is registered.
    fn note(&self, to: Option<&Uri>, proves: bool) {
        *self.to.borrow_mut() = to.cloned();
        self.settled.set(to.is_none() && proves);
    }
}

impl HttpPool {
    /// The path and query that requests go to.
    pub(in crate::upstream) fn target(&self) -> Uri {
        self.redirected.to.borrow().clone().unwrap_or_else(|| self.target.clone())
    }

    /// Sends a request, as `send` does, where it may be redirected. `first` is the response to it where it is registered, if it
    /// was sent there already.
    #[cold]
    pub(super) async fn send_redirected(
        self: &Rc<Self>,
        mut first: Option<HttpResponse>,
        method: &Method,
        headers: &HeaderMap,
        body: &Bytes,
        retry: Retry,
        timeout: Duration,
    ) -> Result<HttpResponse, Fault> {
        let mut known = self.redirected.to.borrow().clone().filter(|_| first.is_none());
        let mut to = known.clone();
        let mut hops = 0;
        loop {
            let target = to.as_ref().unwrap_or(&self.target);
            let mut response = match first.take() {
                Some(response) => response,
                None => self.send_to(target, method, headers, body.clone(), retry, timeout).await?,
            };
            let status = response.status;
            // It may be no longer there. What may not run twice is not sent elsewhere, as it may be answered so; the next is.
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
                && known.take().is_some()
            {
                if retry == Retry::Safe {
                    to = None;
                    continue;
                }
                if !is_answer(&mut response).await {
                    self.redirected.note(None, false);
                }
            }
            if !redirect::is_redirect(status.as_u16()) {
                if status.is_success() {
                    self.redirected.note(to.as_ref(), *method == Method::POST);
                }
                return Ok(response);
            }
            hops += 1;
            let redirect = Redirect { target, status, headers: &response.headers, hops, retry };
            let Some(next) = redirect.next_target(self) else { return Ok(response) };
            to = Some(next);
            known = None;
            // Read to its end, so that its connection can be used again.
            if let Err(fault) = response.collect(MAX_BODY).await {
                tracing::debug!(%fault, "cannot read the body of a redirect");
            }
        }
    }
}

/// A response that redirects a request.
pub(in crate::upstream) struct Redirect<'a> {
    /// Where the request went.
    pub target: &'a Uri,
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    /// How often it was redirected, this time included.
    pub hops: usize,
    /// Whether the request may be sent twice.
    pub retry: Retry,
}

impl Redirect<'_> {
    /// Returns where the request goes on; `None` where it does not. A redirect that nothing follows is logged.
    #[cold]
    pub(in crate::upstream) fn next_target(&self, pool: &HttpPool) -> Option<Uri> {
        let followed = self.followed(pool);
        if let Err(reason) = &followed
            && !pool.redirected.refused.replace(true)
        {
            let reason = reason.quoted(pool.quirks.secrets());
            tracing::warn!(upstream = &*pool.upstream, reason, "an upstream redirects");
        }
        followed.ok()
    }

    fn followed(&self, pool: &HttpPool) -> Result<Uri, NotFollowed> {
        if self.hops > MAX_REDIRECTS {
            return Err(NotFollowed::Loop);
        }
        let target = self.target;
        let malformed = || NotFollowed::Malformed(target.to_string().into_bytes().into());
        let base = Url::parse(&format!("{}{target}", pool.origin)).map_err(|_| malformed())?;
        let location = self.headers.get(LOCATION).map(http::HeaderValue::as_bytes);
        let status = self.status.as_u16();
        let followed = match redirect::follow(&base, status, location)? {
            followed if self.retry == Retry::IfUnsent => followed.unless_it_ran(&base, status)?,
            followed => followed,
        };
        pool.quirks.note(followed.quirk, followed.url.path());
        let next = &followed.url[Position::BeforePath..Position::AfterQuery];
        next.parse().map_err(|_| malformed())
    }
}

/// Whether a response with a status that is no success answers the request by its id, or cannot be read.
#[cold]
async fn is_answer(response: &mut HttpResponse) -> bool {
    let status = response.status.as_u16();
    let read = response.buffer(MAX_BODY).await;
    read.map_or(true, |body| Refusal::read(status, &body).has_number)
}
