//! An edge in this process, and what a client says to it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use egress::{CheckedResolver, Class, Range, Rule};
use tokio::sync::watch;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::config::published::PublishedNames;
use trunkline_edge_proxy::context::EdgeState;
use trunkline_edge_proxy::fleet::Fleet;
use trunkline_edge_proxy::fleet::Waiters;
use trunkline_edge_proxy::listener;
use trunkline_edge_proxy::observe::{ConnectionTransport, Metrics};
use trunkline_edge_proxy::snapshot::Current;
use trunkline_edge_proxy::snapshot::client::Link;
use trunkline_edge_proxy::transport::ClientPort;
use trunkline_edge_proxy::usage::Shard;

use super::{Keys, PATIENCE, TestSnapshot};

pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) current: Arc<Current>,
    pub(crate) keys: Keys,
    pub(crate) snapshot: TestSnapshot,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) shared: Arc<EdgeState>,
    /// The bearer that its clients present.
    pub(crate) bearer: String,
    /// Where it asks for approvals.
    pub(crate) control_plane: watch::Sender<Option<Link>>,
    drain: watch::Sender<bool>,
    pub(crate) client: reqwest::Client,
    scheme: &'static str,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The messages of a stream, or the one message of a JSON answer.
    pub(crate) fn messages(&self) -> Vec<String> {
        if !self.header("content-type").starts_with("text/event-stream") {
            return vec![self.body.clone()];
        }
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    pub(crate) fn error_code(&self) -> i64 {
        let message: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        message["error"]["code"].as_i64().unwrap()
    }
}

impl Edge {
    /// An edge whose one upstream is at `url`.
    pub(crate) fn start(url: &str) -> Self {
        Self::limited(url, Limits::default())
    }

    pub(crate) fn limited(url: &str, limits: Limits) -> Self {
        Self::named(url, limits, &PublishedNames::default())
    }

    pub(crate) fn named(url: &str, limits: Limits, published: &PublishedNames) -> Self {
        Self::among(url, limits, published, Keys::new(), |_, _| Fleet::alone(Arc::new(Waiters::new("edge"))))
    }

    /// An edge that finds its one upstream with `resolver`.
    pub(crate) fn resolving(url: &str, resolver: CheckedResolver) -> Self {
        let (limits, published) = (Limits::default(), PublishedNames::default());
        let alone = |_: &_, _: &_| Fleet::alone(Arc::new(Waiters::new("edge")));
        Self::assemble(url, limits, &published, Keys::new(), alone, resolver, ClientPort::default())
    }

    /// An edge whose client port takes this.
    pub(crate) fn with_port(url: &str, limits: Limits, published: &PublishedNames, port: ClientPort) -> Self {
        let alone = |_: &_, _: &_| Fleet::alone(Arc::new(Waiters::new("edge")));
        let loopback = Rule::new(vec![Range::Class(Class::Loopback)], Vec::new());
        let resolver = CheckedResolver::system(loopback);
        Self::assemble(url, limits, published, Keys::new(), alone, resolver, port)
    }

    /// An edge whose others are what `fleet` makes of its snapshot and its numbers.
    pub(crate) fn among(
        url: &str,
        limits: Limits,
        published: &PublishedNames,
        keys: Keys,
        fleet: impl FnOnce(&Arc<Current>, &Arc<Metrics>) -> Fleet,
    ) -> Self {
        let loopback = Rule::new(vec![Range::Class(Class::Loopback)], Vec::new());
        let resolver = CheckedResolver::system(loopback);
        Self::assemble(url, limits, published, keys, fleet, resolver, ClientPort::default())
    }

    fn assemble(
        url: &str,
        limits: Limits,
        published: &PublishedNames,
        keys: Keys,
        fleet: impl FnOnce(&Arc<Current>, &Arc<Metrics>) -> Fleet,
        resolver: CheckedResolver,
        port: ClientPort,
    ) -> Self {
        let scheme = if port.tls.is_some() { "https" } else { "http" };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let snapshot = TestSnapshot::new(&keys, url);
        let current = Arc::new(Current::new());
        current.publish(snapshot.compile());
        current.note_contact(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let fleet = fleet(&current, &metrics);
        let waiters = Arc::clone(fleet.waiters());
        let shared = EdgeState::new(
            Arc::clone(&current),
            limits,
            published,
            address,
            Arc::clone(&metrics),
            fleet,
            resolver,
        );
        let (control_plane, link) = watch::channel(None);
        let shared = Arc::new(shared.unwrap().with_client_port(port).with_control_plane(link));
        let (drain, draining) = watch::channel(false);
        // Two workers, so that what must not depend on the worker is seen not to.
        for _ in 0..2 {
            let (listener, shared, draining) =
                (listener.try_clone().unwrap(), Arc::clone(&shared), draining.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let usage = Rc::new(Shard::detached());
                runtime.block_on(listener::serve(listener, shared, usage, draining)).unwrap();
            });
        }
        let bearer = keys.bearer("all");
        let client = client();
        Self {
            address,
            current,
            keys,
            snapshot,
            metrics,
            waiters,
            shared,
            bearer,
            control_plane,
            drain,
            client,
            scheme,
        }
    }

    /// Makes its client a person, who is in the team `core` as a `developer`, and by that may use all of `servers/dev`.
    pub(crate) fn become_person(&mut self) {
        self.bearer = self.keys.person("users/ann", 3, &[["developer", "core"]]);
        self.snapshot.resources.grants =
            vec![super::role("developer", true, false), super::team("core", &["servers/dev"], &["*"])];
        self.publish();
    }

    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    pub(crate) fn publish(&self) {
        self.current.publish(self.snapshot.compile());
    }

    pub(crate) fn url(&self, server: &str) -> String {
        format!("{}/servers/{server}/mcp", self.host())
    }

    pub(crate) fn host(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Waits until nothing is left of what clients opened.
    pub(crate) async fn nothing_is_left(&self) {
        let left = || {
            let metrics = &self.metrics;
            let sessions =
                ConnectionTransport::ALL.iter().map(|one| metrics.client_sessions(*one).get()).sum::<i64>();
            [metrics.streams.get(), metrics.in_flight.get(), sessions, self.waiters.len() as i64]
        };
        for _ in 0..2_400 {
            if left() == [0; 4] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("streams, requests, sessions and waiters are left: {:?}", left());
    }

    /// A request with the bearer of its clients: that of `tokens/all`, unless it was changed.
    pub(crate) fn request(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> reqwest::RequestBuilder {
        self.by(&self.bearer, method, headers, body)
    }

    /// A request with this bearer.
    pub(crate) fn by(
        &self,
        bearer: &str,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> reqwest::RequestBuilder {
        self.bare(method, "dev", body).bearer_auth(bearer).headers(map(headers))
    }

    /// A request without a bearer.
    pub(crate) fn bare(&self, method: &str, server: &str, body: &str) -> reqwest::RequestBuilder {
        self.at(method, &format!("/servers/{server}/mcp"), body)
    }

    /// A request to any path, without a bearer.
    pub(crate) fn at(&self, method: &str, path: &str, body: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.host());
        let request = self.client.request(method.parse().unwrap(), url).body(body.to_owned());
        request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
    }

    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        reply(self.request("POST", headers, body)).await
    }

    /// The id of a new session that declares `capabilities`.
    pub(crate) async fn session(&self, revision: &str, capabilities: &str) -> String {
        self.session_by(&self.bearer, revision, capabilities).await
    }

    /// The id of a new session with this bearer.
    pub(crate) async fn session_by(&self, bearer: &str, revision: &str, capabilities: &str) -> String {
        let body = super::initialize(revision, capabilities);
        let opened = reply(self.by(bearer, "POST", &[], &body)).await;
        assert_eq!(opened.status, 200, "{opened:?}");
        opened.header("mcp-session-id").to_owned()
    }
}

pub(crate) async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply { status, headers, body: response.text().await.unwrap() }
}

impl Reply {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        reply(request).await
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
}

fn map(headers: &[(&str, &str)]) -> http::HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (http::HeaderName::try_from(*name).unwrap(), http::HeaderValue::from_str(value).unwrap())
        })
        .collect()
}
