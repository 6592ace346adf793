//! `FleetService`: shows the edges, and how far they are.
//!
//! It must not know the stream.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use trunkline::common::v1::Permission;
use trunkline::discovery::v1::fleet_service_server::FleetService;
use trunkline::discovery::v1::{
    DeleteEdgeRequest, DeleteEdgeResponse, GetEdgeRequest, GetEdgeResponse, ListEdgesRequest,
    ListEdgesResponse, WatchRolloutRequest, WatchRolloutResponse,
};

use super::announcement::is_edge_id;
use super::fleet::{EdgeProgress, Fleet};
use super::page::Pages;
use super::refusals_seen::Onlooker;
use super::rollout::Rollout;
use crate::auth::caller::Caller;
use crate::auth::vault::Vault;
use crate::error::Error;
use crate::store::Store;
use crate::store::edges::EdgeRow;

/// Edges read from the table at one time.
const MAX_PAGE: i64 = 1_000;
/// The interval at which the table is read, which knows the edges of other replicas, while somebody waits for them.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Progress is gathered for so long before all edges are looked at again, for each edge there is.
const GATHER_PER_EDGE: Duration = Duration::from_micros(20);

/// The service.
#[derive(Debug, Clone)]
pub struct FleetApi {
    fleet: Arc<Fleet>,
    store: Store,
    pages: Pages,
    stop: CancellationToken,
}

impl FleetApi {
    /// Shows this fleet until `stop`.
    pub fn new(fleet: Arc<Fleet>, store: Store, vault: Arc<Vault>, stop: CancellationToken) -> Self {
        Self { fleet, store, pages: Pages::new(vault, "page of edges"), stop }
    }

    fn onlooker<T>(&self, request: &Request<T>) -> Onlooker {
        Onlooker::new(self.store.clone(), Caller::rights(request))
    }

    /// Every edge there is, as the table has it.
    async fn read_all(&self) -> Result<Vec<EdgeRow>, Error> {
        let mut all: Vec<EdgeRow> = Vec::new();
        loop {
            let after = all.last().map(|last| last.id.clone()).unwrap_or_default();
            let page = self.fleet.rows(&after, MAX_PAGE).await?;
            let full = page.len() as i64 == MAX_PAGE;
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    /// Says since when those edges are behind whose replica publishes nothing: since the registry went on after what they have.
    async fn with_unpublished(
        &self,
        edges: Vec<EdgeProgress>,
        revision: i64,
    ) -> Result<Vec<EdgeProgress>, Error> {
        let mut moved = BTreeMap::new();
        for edge in edges.iter().filter(|edge| edge.lacks_unpublished(revision)) {
            if let Entry::Vacant(unknown) = moved.entry(edge.row.answered_revision) {
                unknown.insert(self.store.moved_after(edge.row.answered_revision).await?);
            }
        }
        let since = |edge: EdgeProgress| match moved.get(&edge.row.answered_revision) {
            Some(Some(moved_us)) if edge.lacks_unpublished(revision) => edge.behind_since(*moved_us),
            _ => edge,
        };
        Ok(edges.into_iter().map(since).collect())
    }

    async fn watch(
        self,
        revision: i64,
        mut onlooker: Onlooker,
        has_names: bool,
        out: mpsc::Sender<Result<WatchRolloutResponse, Status>>,
    ) {
        let mut rollout = Rollout::new(revision);
        let mut changed = self.fleet.changed();
        let (mut rows, mut next_read) = (Vec::new(), Instant::now());
        loop {
            changed.borrow_and_update();
            if Instant::now() >= next_read {
                rows = match self.read_all().await {
                    Ok(rows) => rows,
                    Err(error) => return drop(out.send(Err(error.into())).await),
                };
                next_read = Instant::now() + POLL_INTERVAL;
            }
            let fleet = self.fleet.standings(&rows);
            let (mut updates, over) = rollout.advance(&fleet);
            if !has_names && !updates.is_empty() {
                updates = vec![rollout.counted(&fleet)];
            }
            for mut response in updates {
                if let Some(edge) = &mut response.edge
                    && let Err(error) = onlooker.cut(edge).await
                {
                    return drop(out.send(Err(error.into())).await);
                }
                if out.send(Ok(response)).await.is_err() {
                    return;
                }
            }
            if over {
                return;
            }
            // Many edges get further one by one, and each time all are looked at.
            let gather = GATHER_PER_EDGE * u32::try_from(rows.len()).unwrap_or(u32::MAX);
            tokio::select! {
                _ = changed.changed() => sleep(gather.min(POLL_INTERVAL)).await,
                () = sleep_until(next_read) => {}
                () = out.closed() => return,
                () = self.stop.cancelled() => {
                    return drop(out.send(Err(Status::unavailable("the control plane is stopping"))).await);
                }
            }
        }
    }
}

fn id(name: &str) -> Result<&str, Error> {
    edge_of("name", name)
}

/// Reads the id in a field that names an edge.
pub(super) fn edge_of<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let id = name.strip_prefix("edges/").filter(|id| is_edge_id(id));
    id.ok_or_else(|| Error::field(field, format!("`{name}` is not of the form `edges/{{edge}}`")))
}

/// An edge whose stream is open would serve on, and hear of no revocation any more.
fn connected(name: &str) -> Error {
    let text = format!(
        "{name} is connected; once deleted it serves on what it has, without hearing of revocations, for --trust-max-age at \
         most; stop it first, or set `force`"
    );
    Error::new(Code::FailedPrecondition, "EDGE_CONNECTED", text).with("name", name)
}

fn not_found(name: &str) -> Error {
    Error::new(Code::NotFound, "EDGE_NOT_FOUND", format!("{name} does not exist")).with("name", name)
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    type WatchRolloutStream = Pin<Box<dyn Stream<Item = Result<WatchRolloutResponse, Status>> + Send>>;

    async fn list_edges(
        &self,
        request: Request<ListEdgesRequest>,
    ) -> Result<Response<ListEdgesResponse>, Status> {
        let mut onlooker = self.onlooker(&request);
        let request = request.into_inner();
        let (size, after) = (Pages::size(request.page_size)?, self.pages.after(&request.page_token)?);
        let revision = self.store.revision().await.map_err(Error::from)?;
        let mut found = self.fleet.list(&after, size + 1).await.map_err(Error::from)?;
        let next_page_token = self.pages.cut(&mut found, size, |edge| &edge.row.id)?;
        let found = self.with_unpublished(found, revision).await?;
        let mut edges: Vec<_> = found.iter().map(|standing| standing.status(revision)).collect();
        for edge in &mut edges {
            onlooker.cut(edge).await?;
        }
        Ok(Response::new(ListEdgesResponse { edges, next_page_token, revision }))
    }

    async fn get_edge(&self, request: Request<GetEdgeRequest>) -> Result<Response<GetEdgeResponse>, Status> {
        let mut onlooker = self.onlooker(&request);
        let name = request.into_inner().name;
        let found = self.fleet.get(id(&name)?).await.map_err(Error::from)?;
        let revision = self.store.revision().await.map_err(Error::from)?;
        let found = vec![found.ok_or_else(|| not_found(&name))?];
        let found = self.with_unpublished(found, revision).await?;
        let mut edge = found.first().map(|standing| standing.status(revision));
        if let Some(edge) = &mut edge {
            onlooker.cut(edge).await?;
        }
        Ok(Response::new(GetEdgeResponse { edge }))
    }

    async fn delete_edge(
        &self,
        request: Request<DeleteEdgeRequest>,
    ) -> Result<Response<DeleteEdgeResponse>, Status> {
        let DeleteEdgeRequest { name, validate_only, force } = request.into_inner();
        let id = id(&name)?;
        let found = self.fleet.get(id).await.map_err(Error::from)?.ok_or_else(|| not_found(&name))?;
        if found.connected && !force {
            return Err(connected(&name).into());
        }
        if !validate_only && !self.fleet.delete(id).await.map_err(Error::from)? {
            return Err(not_found(&name).into());
        }
        Ok(Response::new(DeleteEdgeResponse {}))
    }

    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let onlooker = self.onlooker(&request);
        let has_names = Caller::rights(&request).everywhere().contains(Permission::FleetRead);
        let newest = self.store.revision().await.map_err(Error::from)?;
        let revision = match request.into_inner().revision {
            0 => newest,
            requested if (1..=newest).contains(&requested) => requested,
            _ => return Err(Error::field("revision", format!("must be between 0 and {newest}")).into()),
        };
        let (out, answers) = mpsc::channel(16);
        tokio::spawn(self.clone().watch(revision, onlooker, has_names, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[cfg(test)]
mod tests {
    use super::is_edge_id;

    #[test]
    fn edge_ids() {
        for good in ["a", "1", "e1", "my-edge", &"a".repeat(63)] {
            assert!(is_edge_id(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "é", &"a".repeat(64)] {
            assert!(!is_edge_id(bad), "{bad}");
        }
    }
}
