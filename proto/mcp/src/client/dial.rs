//! Reaches a server by other connections than to the host of its URL. It must not know where they lead.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use ::http::{Request, Response, Uri, header};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::Body;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection that HTTP/1.1 is spoken on.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Opens connections to one server. Cheap to clone.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Dialling + Send + Sync>);

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// The error of a request on a dialled connection.
pub(super) enum DialError {
    /// No connection.
    Unreachable(io::Error),
    /// It broke.
    Broken(hyper::Error),
}

impl Dial {
    /// `dial` opens one connection.
    pub fn new<F, C>(dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<C>> + Send + 'static,
        C: Connection + 'static,
    {
        Self(Arc::new(move || {
            let dialling = dial();
            Box::pin(async move { Ok(Box::new(dialling.await?) as Box<dyn Connection>) })
        }))
    }

    /// Sends one request on a connection of its own: such requests are rare.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, DialError> {
        let stream = (self.0)().await.map_err(DialError::Unreachable)?;
        let (mut sender, connection) =
            http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(DialError::Broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a dialled connection ended early");
            }
        });
        let host = request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
        if let Some(host) = host {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        let path = request.uri().path_and_query().cloned().map(Uri::from);
        *request.uri_mut() = path.unwrap_or_default();
        sender.send_request(request).await.map_err(DialError::Broken)
    }
}

/// Converts a response into one of `reqwest`.
pub(super) fn into_reqwest(response: Response<Incoming>) -> reqwest::Response {
    response.map(Body::wrap).into()
}

/// Builds a request as `reqwest` would send it.
pub(super) fn request(
    method: ::http::Method,
    url: &url::Url,
    headers: ::http::HeaderMap,
    body: Bytes,
) -> Result<Request<Body>, ::http::Error> {
    let mut request = Request::builder().method(method).uri(url.as_str()).body(Body::from(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}
