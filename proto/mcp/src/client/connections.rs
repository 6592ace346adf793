//! The connections to a server: kept for further requests, or, where it closes them without saying so, one for each.
//!
//! It must not know what is sent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response};

use super::endpoint::{Endpoint, Reach};
use super::error::ClientError;
use super::quirk_log::QuirkLog;
use super::resolve::Names;
use crate::endpoint::is_loopback;
use crate::fault::Fault;
use crate::quirk::Quirk;

/// Requests that broke on a kept connection and were answered on another, after which none is kept any more.
const MAX_BREAKS: u32 = 2;

/// The connections to a server.
pub(super) struct Connections {
    agent: HeaderValue,
    kept: Client,
    /// Made when it is needed first.
    single: OnceLock<Client>,
    breaks: AtomicU32,
    quirks: Arc<QuirkLog>,
}

impl Connections {
    pub(super) fn new(
        endpoint: &Endpoint,
        agent: HeaderValue,
        quirks: Arc<QuirkLog>,
    ) -> Result<Self, ClientError> {
        let kept = client(endpoint, &agent, true).map_err(|e| ClientError::Unreachable(reason(e)))?;
        Ok(Self { agent, kept, single: OnceLock::new(), breaks: AtomicU32::new(0), quirks })
    }

    /// Sends a request. One that may be repeated and breaks before it is answered is sent once more, on a connection of
    /// its own: the server had closed the one that it was sent on.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: Request,
        may_repeat: bool,
    ) -> Result<Response, reqwest::Error> {
        if self.breaks.load(Ordering::Relaxed) >= MAX_BREAKS {
            return self.single(endpoint)?.execute(request).await;
        }
        let again = may_repeat.then(|| request.try_clone()).flatten();
        let error = match self.kept.execute(request).await {
            Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => error,
            other => return other,
        };
        let Some(again) = again else { return Err(error) };
        let response = self.single(endpoint)?.execute(again).await?;
        if self.breaks.fetch_add(1, Ordering::Relaxed) + 1 == MAX_BREAKS {
            self.quirks.note(Quirk::ClosesConnections, || reason(error));
        }
        Ok(response)
    }

    fn single(&self, endpoint: &Endpoint) -> Result<&Client, reqwest::Error> {
        match self.single.get() {
            Some(client) => Ok(client),
            None => {
                let client = client(endpoint, &self.agent, false)?;
                Ok(self.single.get_or_init(|| client))
            }
        }
    }
}

/// Speaks HTTP/1.1 only, as edges do: what works here works there.
fn client(endpoint: &Endpoint, agent: &HeaderValue, keeps: bool) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder().http1_only();
    if !keeps {
        builder = builder.pool_max_idle_per_host(0);
    }
    if let Reach::Resolved(resolver) = &endpoint.reach {
        builder = builder.dns_resolver(Names(Arc::clone(resolver))).no_proxy();
    }
    if let Reach::Trusting(material) = &endpoint.reach {
        builder = material.put_into(builder)?;
    }
    if is_loopback(&endpoint.url) {
        builder = builder.no_proxy();
    }
    builder
        .user_agent(agent.clone())
        .redirect(Policy::none())
        .connect_timeout(endpoint.timeout)
        .tcp_keepalive(Duration::from_secs(30))
        .build()
}

/// The innermost cause, which is the one that says something, without the URL.
pub(super) fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if let Some(fault) = Fault::of(&error) {
        return fault.to_string();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
