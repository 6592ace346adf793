//! The status of an upstream that dials in, while no tunnel of it is open here: no replica may have one, and nobody says so.
//!
//! It must not know how upstreams are probed.

use std::time::Duration;

use tokio::time::sleep;
use trunkline::registry::v1::{Upstream, UpstreamState};

use super::catalogue_sync::{CatalogueSync, RefreshError};
use super::record::store_failure;
use super::supervisor::{MAX_BACKOFF, interval_of, jitter};
use crate::clock;
use crate::importers::{Failure, NO_TUNNEL};

/// The delay after which a status counts as out of date.
const GRACE: Duration = Duration::from_secs(30);

/// Checks from time to time that some replica supervises an upstream that dials in.
pub(super) async fn expire_status(sync: CatalogueSync, name: String) {
    loop {
        let row = match sync.row(&name).await {
            Ok(row) => row,
            Err(RefreshError::NotFound(_) | RefreshError::Disabled(_)) => return,
            Err(error) => {
                tracing::debug!(%error, upstream = name, "cannot check an upstream; retrying");
                sleep(jitter(MAX_BACKOFF)).await;
                continue;
            }
        };
        let Ok(upstream) = row.message::<Upstream>() else { return };
        let (since_us, overdue_after) = overdue(&upstream, row.update_us);
        if clock::now_us() - since_us > clock::duration_us(overdue_after) {
            let failure = Failure::new(UpstreamState::Unreachable, NO_TUNNEL);
            if let Err(error) = store_failure(sync.store(), &row, failure).await {
                tracing::debug!(%error, upstream = name, "cannot check an upstream; retrying");
            }
        }
        sleep(jitter(overdue_after)).await;
    }
}

/// Since when, and after how long, an upstream that dials in counts as gone which nobody has probed.
fn overdue(upstream: &Upstream, update_us: i64) -> (i64, Duration) {
    let status = upstream.status.clone().unwrap_or_default();
    let whole = interval_of(upstream) * 2 + GRACE;
    match status.state() {
        UpstreamState::Ready => (status.refresh_time.as_ref().map_or(0, clock::micros), whole),
        UpstreamState::Unspecified | UpstreamState::Pending => (update_us, GRACE),
        // It is known already.
        _ => (i64::MAX, whole),
    }
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::UpstreamStatus;

    use super::*;

    #[test]
    fn what_no_replica_has_probed_is_overdue_soon() {
        let overdue = |state: UpstreamState| {
            let refresh_time = Some(clock::timestamp(7));
            let status = UpstreamStatus { state: state.into(), refresh_time, ..UpstreamStatus::default() };
            overdue(&Upstream { status: Some(status), ..Upstream::default() }, 9)
        };
        let whole = Duration::from_secs(2 * 300) + GRACE;
        assert_eq!(overdue(UpstreamState::Ready), (7, whole));
        assert_eq!(overdue(UpstreamState::Pending), (9, GRACE));
        assert_eq!(overdue(UpstreamState::Unreachable), (i64::MAX, whole));
    }
}
