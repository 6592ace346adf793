//! Requests the state of all sessions from siblings when this edge starts. It must not know what the state is.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tonic::Status;
use trunkline::edge::v1::SyncRequest;

use super::local_edge::LocalEdge;
use super::sibling_clients::SiblingClients;

/// Siblings that are asked: each knows everything unless it was cut off for a while, and not all of them were.
const MAX_SOURCES: usize = 3;
/// The time limit of syncing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Applies what some of the siblings know.
pub(super) async fn from_siblings(local: &impl LocalEdge, sibling_clients: &SiblingClients) {
    let (snapshot, own_id) = (local.current().load_full(), local.fleet().waiters().edge());
    let mut siblings: Vec<&str> =
        snapshot.siblings.keys().map(|edge| &**edge).filter(|edge| *edge != own_id).collect();
    siblings.shuffle(&mut rand::rng());
    let requests = stream::iter(&siblings).map(|edge| async move {
        let answered = sync_from(local, sibling_clients, edge).await;
        answered.inspect_err(
            |status| tracing::info!(edge, %status, "another edge does not share its state of sessions"),
        )
    });
    let answered =
        requests.buffer_unordered(MAX_SOURCES).filter(|answered| std::future::ready(answered.is_ok()));
    match tokio::time::timeout(TIMEOUT, answered.take(MAX_SOURCES).count()).await {
        Ok(count) if count > 0 || siblings.is_empty() => {}
        Ok(_) => tracing::warn!("no other edge shared its state of sessions"),
        Err(_) => tracing::warn!("other edges took too long to share their state of sessions"),
    }
}

async fn sync_from(
    local: &impl LocalEdge,
    sibling_clients: &SiblingClients,
    edge: &str,
) -> Result<(), Status> {
    let mut sibling = sibling_clients.to(edge).ok_or_else(|| Status::not_found("it is gone"))?;
    let mut parts = sibling.sync(SyncRequest {}).await?.into_inner();
    while let Some(part) = parts.message().await? {
        part.events.into_iter().for_each(|event| local.apply(event));
    }
    Ok(())
}
