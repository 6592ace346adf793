//! The bounds of what an edge reports: a batch past one is refused, and a record past one is set aside.
//!
//! It must not know what is counted, nor what happens to a batch.

use std::net::IpAddr;
use std::time::Duration;

use trunkline::telemetry::v1::{ReportUsageRequest, UsageOutcome, UsageRecord};

use crate::clock;
use crate::error::Error;

/// Longest name of a run, in bytes.
const MAX_RUN_ID: usize = 128;
/// Records of a batch.
const MAX_RECORDS: usize = 2_000;
/// Longest name of a server or a token, in bytes.
const MAX_NAME: usize = 128;
/// Longest method, in bytes.
const MAX_METHOD: usize = 64;
/// Longest name of a target, in bytes: as long as those of resources may be.
const MAX_TARGET: usize = 2_048;

/// What was set aside of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetAside {
    /// The number of records.
    pub(super) records: u64,
    /// The first of the reasons, without a value of the edge's making.
    pub(super) reason: &'static str,
}

/// Checks a batch, and sets aside the records that cannot be counted. Fails where the batch itself is not one.
pub(super) fn check(
    batch: &mut ReportUsageRequest,
    now_us: i64,
    retention: Duration,
) -> Result<Option<SetAside>, Error> {
    if batch.run_id.is_empty() || batch.run_id.len() > MAX_RUN_ID {
        return Err(Error::field("run_id", format!("must have 1 to {MAX_RUN_ID} bytes")));
    }
    if batch.sequence < 1 {
        return Err(Error::field("sequence", "must count up from 1"));
    }
    if batch.records.len() > MAX_RECORDS {
        return Err(Error::field("records", format!("has more than {MAX_RECORDS} entries")));
    }
    let oldest_us = now_us.saturating_sub(clock::duration_us(retention));
    let is_too_old = batch.end_time.as_ref().is_some_and(|end| clock::micros(end) < oldest_us);
    let mut set_aside: Option<SetAside> = None;
    batch.records.retain(|record| {
        let reason = if is_too_old { Some("it ended before --usage-retention") } else { problem(record) };
        let Some(reason) = reason else { return true };
        set_aside.get_or_insert(SetAside { records: 0, reason }).records += 1;
        false
    });
    Ok(set_aside)
}

/// Finds the reason that a record cannot be counted.
fn problem(record: &UsageRecord) -> Option<&'static str> {
    let is_text = |text: &str, longest| text.len() <= longest && text.bytes().all(|b| b.is_ascii_graphic());
    let is_address = |text: &str| text.is_empty() || text.parse::<IpAddr>().is_ok();
    let is_name = |text: &str| !text.is_empty() && is_text(text, MAX_NAME);
    let sums = [record.duration_us, record.request_bytes, record.response_bytes];
    let checks = [
        (is_name(&record.server), "`server` is not a name"),
        (is_text(&record.token, MAX_NAME), "`token` is not a name"),
        (!record.method.is_empty() && is_text(&record.method, MAX_METHOD), "`method` is not a method"),
        (is_text(&record.target, MAX_TARGET), "`target` is not a name"),
        (UsageOutcome::try_from(record.outcome).is_ok(), "`outcome` is unknown"),
        (record.calls > 0, "`calls` is less than 1"),
        (sums.iter().all(|sum| *sum >= 0), "a sum is negative"),
        (is_address(&record.last_address), "`last_address` is not an address"),
    ];
    checks.into_iter().find_map(|(is_good, reason)| (!is_good).then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_800_000_000_000_000;
    const RETENTION: Duration = Duration::from_secs(90 * 86_400);

    fn record() -> UsageRecord {
        UsageRecord {
            server: "servers/dev".to_owned(),
            method: "tools/call".to_owned(),
            calls: 1,
            ..Default::default()
        }
    }

    fn batch(records: Vec<UsageRecord>) -> ReportUsageRequest {
        ReportUsageRequest { run_id: "run".to_owned(), sequence: 1, records, ..Default::default() }
    }

    #[test]
    fn what_edges_send_is_counted() {
        let longest = UsageRecord {
            server: format!("servers/{}", "s".repeat(63)),
            token: format!("tokens/{}", "t".repeat(63)),
            target: "x".repeat(MAX_TARGET),
            outcome: UsageOutcome::Cancelled.into(),
            calls: i64::MAX,
            ..record()
        };
        let folded = UsageRecord { server: "other".into(), token: "other".into(), ..record() };
        let mut batch = batch(vec![record(), longest, folded]);
        let before = batch.clone();
        assert_eq!(check(&mut batch, NOW_US, RETENTION).unwrap(), None);
        assert_eq!(batch, before);
    }

    #[test]
    fn a_bad_record_is_set_aside_and_the_others_are_counted() {
        let bad = [
            UsageRecord { server: String::new(), ..record() },
            UsageRecord { server: "s".repeat(MAX_NAME + 1), ..record() },
            UsageRecord { server: "servers/\u{1b}[2J".into(), ..record() },
            UsageRecord { token: "t".repeat(MAX_NAME + 1), ..record() },
            UsageRecord { token: "a b".into(), ..record() },
            UsageRecord { method: String::new(), ..record() },
            UsageRecord { method: "m".repeat(MAX_METHOD + 1), ..record() },
            UsageRecord { target: "x".repeat(MAX_TARGET + 1), ..record() },
            UsageRecord { target: "é".into(), ..record() },
            UsageRecord { outcome: 99, ..record() },
            UsageRecord { calls: 0, ..record() },
            UsageRecord { calls: -1, ..record() },
            UsageRecord { duration_us: -1, ..record() },
            UsageRecord { request_bytes: -1, ..record() },
            UsageRecord { response_bytes: i64::MIN, ..record() },
            UsageRecord { last_address: "192.0.2.1 or so".into(), ..record() },
        ];
        for bad in &bad {
            let mut batch = batch(vec![record(), bad.clone(), record()]);
            let set_aside = check(&mut batch, NOW_US, RETENTION).unwrap().expect("one");
            assert_eq!((set_aside.records, batch.records.len()), (1, 2), "{bad:?}");
        }
        let mut all = batch(bad.to_vec());
        let expected = SetAside { records: bad.len() as u64, reason: "`server` is not a name" };
        assert_eq!(check(&mut all, NOW_US, RETENTION).unwrap(), Some(expected));
    }

    #[test]
    fn what_would_be_forgotten_at_once_is_set_aside() {
        let ends = |us: i64| ReportUsageRequest {
            end_time: Some(clock::timestamp(us)),
            ..batch(vec![record(), record()])
        };
        let oldest = NOW_US - clock::duration_us(RETENTION);
        assert_eq!(check(&mut ends(oldest), NOW_US, RETENTION).unwrap(), None);
        // A clock that runs ahead costs nothing: what ends in the future is counted as of now.
        assert_eq!(check(&mut ends(i64::MAX), NOW_US, RETENTION).unwrap(), None);
        for end in [oldest - 1, 0, i64::MIN] {
            let set_aside = check(&mut ends(end), NOW_US, RETENTION).unwrap().expect("both");
            assert_eq!(set_aside.records, 2);
        }
    }

    #[test]
    fn a_batch_that_is_none_is_refused() {
        let good = batch(vec![record()]);
        let bad = [
            ("run_id", ReportUsageRequest { run_id: String::new(), ..good.clone() }),
            ("run_id", ReportUsageRequest { run_id: "r".repeat(MAX_RUN_ID + 1), ..good.clone() }),
            ("sequence", ReportUsageRequest { sequence: 0, ..good.clone() }),
            ("records", batch(vec![record(); MAX_RECORDS + 1])),
        ];
        for (field, mut batch) in bad {
            let error = check(&mut batch, NOW_US, RETENTION).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }
}
