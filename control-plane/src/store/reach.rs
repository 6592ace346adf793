//! Whether PostgreSQL can be reached: a connection beside the pool finds out within seconds, where whoever wants one of the pool
//! waits in vain for as long as he may.

use std::time::Duration;

use sqlx::{AnyConnection, Connection as _};

use super::Store;
use super::open::{TOO_MANY_CONNECTIONS, comes_later, reason, server};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Without an answer for so long it is lost. One that is only busy answers sooner.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Looks after PostgreSQL for ever.
    pub async fn watch_reach(self, url: String) {
        let mut connection = None;
        loop {
            let lost = match tokio::time::timeout(PATIENCE, ask(&mut connection, &url)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) if is_gone(&error) => Some(reason(&error)),
                // It answers, and says no to this connection: those of the pool may be open.
                Ok(Err(_)) => None,
                Err(_) => {
                    connection = None;
                    Some(format!("no response within {} s", PATIENCE.as_secs()))
                }
            };
            self.note_lost(lost.map(|reason| format!("PostgreSQL at {}: {reason}", server(&url))));
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn note_lost(&self, lost: Option<String>) {
        self.inner.lost.send_if_modified(|known| {
            match (&known, &lost) {
                (None, Some(lost)) => tracing::warn!("the database is lost ({lost})"),
                (Some(_), None) => tracing::info!("the database is back"),
                _ => {}
            }
            let is_news = *known != lost;
            *known = lost;
            is_news
        });
    }

    /// Waits until the database is lost. Returns which one it is, and why.
    pub async fn lost(&self) -> String {
        let mut lost = self.inner.lost.subscribe();
        let lost = lost.wait_for(Option::is_some).await.map(|lost| lost.clone().unwrap_or_default());
        match lost {
            Ok(lost) => lost,
            // The sender is as old as `self`.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Whether a server is not there, or starts or stops. One with too many connections is there.
fn is_gone(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    comes_later(error) && code.as_deref() != Some(TOO_MANY_CONNECTIONS)
}

async fn ask(connection: &mut Option<AnyConnection>, url: &str) -> sqlx::Result<()> {
    if let Some(mut open) = connection.take()
        && open.ping().await.is_ok()
    {
        *connection = Some(open);
        return Ok(());
    }
    *connection = Some(AnyConnection::connect(url).await?);
    Ok(())
}
