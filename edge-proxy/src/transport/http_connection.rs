//! The HTTP connection that a request came on, as far as a request may act on it: cut it, or upgrade it.
//!
//! It must not know what for.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use http::header::ORIGIN;
use inbound::{ClientAddresses, ConnectionHandle, ConnectionHolder, TransportRule};
use tokio::sync::Notify;

use crate::error::Failure;
use crate::identity::ClientCertificate;

/// The task that takes the connection over when it no longer speaks HTTP.
type Upgraded = Pin<Box<dyn Future<Output = ()>>>;

/// Whom a connection counts for.
#[derive(Debug, Clone, Copy, Hash)]
pub enum HolderIdentity<'a> {
    /// The token with this uid.
    Token(&'a str),
    /// The tunnel credential of the upstream with this uid.
    Tunnel(&'a str),
}

/// The HTTP connection of a client.
pub struct HttpConnection {
    handle: ConnectionHandle,
    addresses: Arc<ClientAddresses>,
    /// Where it came from, as far as it says so itself.
    address: Option<IpAddr>,
    is_tls: bool,
    certificate: Option<Arc<ClientCertificate>>,
    has_request: Cell<bool>,
    first: Notify,
    cut: Notify,
    upgraded: RefCell<Option<Upgraded>>,
}

impl HttpConnection {
    /// Creates the state of a connection from `address`, on which `addresses` tells where requests came from.
    pub fn new(handle: ConnectionHandle, addresses: Arc<ClientAddresses>, address: Option<IpAddr>) -> Self {
        Self {
            handle,
            addresses,
            address,
            is_tls: false,
            certificate: None,
            has_request: Cell::default(),
            first: Notify::new(),
            cut: Notify::new(),
            upgraded: RefCell::default(),
        }
    }

    /// Makes it one over TLS, of a client with this certificate, if it presented one.
    pub fn over_tls(self, certificate: Option<Arc<ClientCertificate>>) -> Self {
        Self { is_tls: true, certificate, ..self }
    }

    /// Creates the state of one stream of it, which is cut alone.
    pub fn stream(&self) -> Self {
        let (handle, addresses) = (self.handle.clone(), Arc::clone(&self.addresses));
        let (is_tls, certificate) = (self.is_tls, self.certificate.clone());
        Self { is_tls, certificate, ..Self::new(handle, addresses, self.address) }
    }

    /// The certificate that the client presented, for one request on it. Browsers present theirs whichever page asks, so for pages it
    /// counts for nothing.
    pub fn certificate(&self, headers: &HeaderMap) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref().filter(|_| !is_of_browser(headers))
    }

    /// Returns whether nobody can listen to one request on it, and it comes from no page: browsers send passwords whichever page asks.
    pub fn is_private(&self, rule: &TransportRule, headers: &HeaderMap) -> bool {
        let is_secure = self.is_tls || rule.is_secure(Some(self.handle.address()), headers);
        is_secure && !is_of_browser(headers)
    }

    /// The address of the client of one request on it, if it is known. A proxy's connection carries those of many.
    pub fn client_address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        self.addresses.of_request(self.address, headers)
    }

    /// Notes that `holder` has been authenticated on it: from now on it is not closed for those of others.
    pub fn set_authenticated(&self, holder: HolderIdentity<'_>) -> Result<(), Failure> {
        Ok(self.handle.set_authenticated(ConnectionHolder::new(holder))?)
    }

    /// Notes that a request has come.
    pub fn note_request(&self) {
        if !self.has_request.replace(true) {
            self.first.notify_one();
        }
    }

    /// Waits until the first request has come.
    pub async fn first_request(&self) {
        if !self.has_request.get() {
            self.first.notified().await;
        }
    }

    /// Cuts the connection off, whatever is half written.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Waits until the connection is cut off.
    pub async fn cut_off(&self) {
        self.cut.notified().await;
    }

    /// Leaves the connection to `upgraded`, once it no longer speaks HTTP.
    pub fn upgrade_to(&self, upgraded: impl Future<Output = ()> + 'static) {
        // Taken before the request has ended: from then on it is in use until the end.
        let in_progress = self.handle.begin_request();
        *self.upgraded.borrow_mut() = Some(Box::pin(async move {
            upgraded.await;
            drop(in_progress);
        }));
    }

    /// Returns the task that the connection was left to.
    pub fn upgraded(&self) -> Option<Upgraded> {
        self.upgraded.borrow_mut().take()
    }
}

impl std::fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConnection").finish_non_exhaustive()
    }
}

/// Whether a page may have asked for it: of images and links browsers do not say the origin.
fn is_of_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}
