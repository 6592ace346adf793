//! Tells other replicas that the registry moved, and hears it from them. Losing it costs only time: everyone
//! also asks the database every few seconds.
//!
//! It must not know what moved.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use crate::store::Store;

const CHANNEL: &str = "trunkline:revision";
const RETRY: Duration = Duration::from_secs(2);
/// Without an answer for so long Redis is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// The channel over which replicas notify each other.
#[derive(Debug, Clone)]
pub enum Notifications {
    /// Nothing: there is one replica, or asking is enough.
    None,
    /// PostgreSQL's notifications, at this URL.
    Postgres(SecretString),
    /// Redis, at this URL.
    Redis(SecretString),
}

impl Notifications {
    /// Tells and hears for ever.
    pub async fn run(self, store: Store) {
        match self {
            Self::None => {}
            Self::Postgres(url) => {
                tokio::join!(notify_postgres(&store), listen_postgres(&store, url.expose_secret()));
            }
            Self::Redis(url) => match redis::Client::open(url.expose_secret()) {
                Ok(client) => {
                    tokio::join!(publish_redis(&store, &client), subscribe_redis(&store, &client));
                }
                Err(error) => {
                    tracing::error!(%error, "--redis-url is not a valid Redis URL; replicas poll the database instead")
                }
            },
        }
    }
}

async fn notify_postgres(store: &Store) {
    let mut committed = store.committed();
    while committed.changed().await.is_ok() {
        let revision = *committed.borrow_and_update();
        if let Err(error) = store.notify_postgres(revision).await {
            tracing::debug!(%error, "cannot notify other replicas of a revision");
        }
    }
}

async fn listen_postgres(store: &Store, url: &str) {
    loop {
        if let Err(error) = store.listen_postgres(url).await {
            tracing::debug!(%error, "receiving no notifications from other replicas");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn publish_redis(store: &Store, client: &redis::Client) {
    let mut committed = store.committed();
    let mut connection = None;
    while committed.changed().await.is_ok() {
        let revision = *committed.borrow_and_update();
        if connection.is_none() {
            connection = client.get_connection_manager().await.ok();
        }
        let Some(connection) = &mut connection else { continue };
        let told: redis::RedisResult<()> =
            redis::cmd("PUBLISH").arg(CHANNEL).arg(revision).query_async(connection).await;
        if let Err(error) = told {
            tracing::debug!(%error, "cannot notify other replicas of a revision");
        }
    }
}

/// Listens for ever. That Redis is lost is said once, and that it is back.
async fn subscribe_redis(store: &Store, client: &redis::Client) {
    let server = client.get_connection_info().addr().to_string();
    let mut is_lost = false;
    loop {
        let lost = match timeout(PATIENCE, connect_redis(client)).await {
            Ok(Ok(pubsub)) => {
                if std::mem::take(&mut is_lost) {
                    tracing::info!("Redis is back");
                }
                follow_redis(store, pubsub).await;
                "it ended the connection".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no response within {} s", PATIENCE.as_secs()),
        };
        if !std::mem::replace(&mut is_lost, true) {
            tracing::warn!(
                "Redis is lost (--redis-url, {server}: {lost}); changes of other control planes are noticed later"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn connect_redis(client: &redis::Client) -> redis::RedisResult<PubSub> {
    let mut pubsub = client.get_async_pubsub().await?;
    pubsub.subscribe(CHANNEL).await?;
    Ok(pubsub)
}

/// Hears of revisions until the connection breaks.
async fn follow_redis(store: &Store, mut pubsub: PubSub) {
    // What was said before this listened.
    store.recheck();
    let mut messages = pubsub.on_message();
    while messages.next().await.is_some() {
        store.recheck();
    }
}
