//! The edge's end of the stream: takes everything, or refuses what it is told to, and remembers what it holds.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use trunkline::TypeTable as _;
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::{Edge, Refusal, StreamResourcesRequest, StreamResourcesResponse};
use trunkline::edge::v1::StreamType;

use crate::control::with_bearer;

/// What an edge holds: version and bytes, by type and name.
pub(crate) type Held = BTreeMap<(StreamType, String), (String, Vec<u8>)>;

/// For anything that must happen: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct EdgeEnd {
    out: mpsc::Sender<StreamResourcesRequest>,
    inbound: Streaming<StreamResourcesResponse>,
    pub(crate) held: Held,
    pub(crate) refused: BTreeSet<String>,
}

impl EdgeEnd {
    /// Connects, saying that it holds `held`.
    pub(crate) async fn connect(
        channel: &Channel,
        id: &str,
        credential: &str,
        held: Held,
    ) -> Result<Self, Status> {
        let edge = Edge { id: id.to_owned(), ..Default::default() };
        Self::connect_as(channel, edge, credential, held).await
    }

    /// Connects as this edge, saying that it holds `held`.
    pub(crate) async fn connect_as(
        channel: &Channel,
        edge: Edge,
        credential: &str,
        held: Held,
    ) -> Result<Self, Status> {
        Self::connect_knowing(channel, edge, credential, held, StreamType::ALL).await
    }

    /// Connects as an edge that knows these types, in its own order.
    pub(crate) async fn connect_knowing(
        channel: &Channel,
        edge: Edge,
        credential: &str,
        held: Held,
        known: &[StreamType],
    ) -> Result<Self, Status> {
        let (out, requests) = mpsc::channel(32);
        for (position, &kind) in known.iter().enumerate() {
            let of_kind = held.iter().filter(|((of, _), _)| *of == kind);
            let request = StreamResourcesRequest {
                edge: (position == 0).then(|| edge.clone()),
                type_url: kind.url().to_owned(),
                subscribe: vec!["*".to_owned()],
                initial_versions: of_kind
                    .map(|((_, name), (version, _))| (name.clone(), version.clone()))
                    .collect(),
                ..Default::default()
            };
            out.send(request).await.unwrap();
        }
        let request = with_bearer(ReceiverStream::new(requests), credential);
        let mut client = DiscoveryServiceClient::new(channel.clone());
        let inbound = client.stream_resources(request).await?.into_inner();
        Ok(Self { out, inbound, held, refused: BTreeSet::new() })
    }

    /// The next response; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Result<StreamResourcesResponse, Status>> {
        tokio::time::timeout(PATIENCE, self.inbound.next()).await.unwrap()
    }

    /// Takes in a response and answers it. Says what it was, such as `+servers/a` or `-servers/a`.
    pub(crate) async fn take(&mut self, response: StreamResourcesResponse) -> Vec<String> {
        let Some(kind) = StreamType::parse(&response.type_url) else { return Vec::new() };
        let mut told = Vec::new();
        let mut refusals = Vec::new();
        for name in response.removed {
            told.push(format!("-{name}"));
            self.held.remove(&(kind, name));
        }
        for resource in response.resources {
            told.push(format!("+{}", resource.name));
            if self.refused.contains(&resource.name) {
                refusals.push(Refusal { name: resource.name, reason: "not to my taste".to_owned() });
            } else {
                self.held.insert((kind, resource.name), (resource.version, resource.body.unwrap().value));
            }
        }
        let answer = StreamResourcesRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            refusals,
            ..Default::default()
        };
        // After the end of the stream nobody listens.
        let _ = self.out.send(answer).await;
        told
    }

    /// Takes responses until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Held) -> bool) {
        while !done(&self.held) {
            let response = self.next().await.unwrap().unwrap();
            self.take(response).await;
        }
    }

    /// Takes responses up to the first sign of life, and says what came.
    pub(crate) async fn until_alive(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let response = self.next().await.unwrap().unwrap();
            if response.type_url.is_empty() {
                return told;
            }
            told.extend(self.take(response).await);
        }
    }

    /// Takes responses until the stream ends. Says how it did, and whether draining was announced last.
    pub(crate) async fn until_end(&mut self) -> (Option<Status>, bool) {
        let mut draining = false;
        loop {
            match self.next().await {
                None => return (None, draining),
                Some(Err(status)) => return (Some(status), draining),
                Some(Ok(response)) => {
                    draining = response.draining;
                    self.take(response).await;
                }
            }
        }
    }

    /// The bytes that it holds of a resource.
    pub(crate) fn body(&self, kind: StreamType, name: &str) -> &[u8] {
        &self.held[&(kind, name.to_owned())].1
    }
}

/// Whether this is held.
pub(crate) fn holds(held: &Held, kind: StreamType, name: &str) -> bool {
    held.contains_key(&(kind, name.to_owned()))
}
