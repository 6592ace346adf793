//! What an edge knows of sessions, whole: what it streams to one that starts, and what it asks for when it starts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tonic::Status;
use trunkline::edge::v1::{RecallRequest, SessionEvent};

use super::channels::Channels;
use super::hear::hear;
use crate::clock;
use crate::session::event;
use crate::worker::Shared;

/// Events in one message.
const IN_ONE: usize = 1_000;
/// What one edge knows, all know; those that were cut off for a while are outvoted by so many.
const ENOUGH: usize = 3;
/// How long asking may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks some of the others what they know, and puts it in force here.
pub(super) async fn from_others(shared: &Shared, channels: &Channels) {
    let (snapshot, mine) = (shared.current.load_full(), shared.peers.held().edge());
    let mut others: Vec<&str> =
        snapshot.peers.keys().map(|edge| &**edge).filter(|edge| *edge != mine).collect();
    others.shuffle(&mut rand::rng());
    let asked = stream::iter(&others).map(|edge| async move {
        let answered = from(shared, channels, edge).await;
        answered
            .inspect_err(|status| tracing::info!(edge, %status, "another edge does not say what it knows"))
    });
    let answered = asked.buffer_unordered(ENOUGH).filter(|answered| std::future::ready(answered.is_ok()));
    match tokio::time::timeout(PATIENCE, answered.take(ENOUGH).count()).await {
        Ok(count) if count > 0 || others.is_empty() => {}
        Ok(_) => tracing::warn!("no other edge could say what it knows of sessions"),
        Err(_) => tracing::warn!("other edges took too long to say what they know of sessions"),
    }
}

async fn from(shared: &Shared, channels: &Channels, edge: &str) -> Result<(), Status> {
    let mut other = channels.to(edge).ok_or_else(|| Status::not_found("it is gone"))?;
    let mut parts = other.recall(RecallRequest {}).await?.into_inner();
    while let Some(part) = parts.message().await? {
        part.events.into_iter().for_each(|event| hear(shared, event));
    }
    Ok(())
}

/// Such events as lead to what this edge knows.
pub(super) fn everything(shared: &Arc<Shared>) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<> {
    let now = clock::now();
    let ended = shared.terminated.all(now);
    let subscribed = shared.subscriptions.all(now);
    let ended = ended.into_iter().map(|(jti, expires)| event::ended(&jti, expires));
    let subscribed = subscribed.into_iter().flat_map(|(jti, expires, uris)| {
        let of_one = uris.iter().map(|uri| event::subscribed(&jti, expires, uri));
        of_one.collect::<Vec<_>>()
    });
    let mut events = ended.chain(subscribed).chain(shared.levels.all(now)).peekable();
    std::iter::from_fn(move || events.peek().is_some().then(|| events.by_ref().take(IN_ONE).collect()))
}
