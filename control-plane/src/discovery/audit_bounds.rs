//! The bounds of what an edge records: a batch past one is refused, and a record past one is set aside. An edge says what it has seen, and
//! nothing in the place of others: neither changes nor sign-ins, nor which edge it is.
//!
//! It must not know what happens to a batch.

use std::net::IpAddr;

use trunkline::admin::v1::{AuditKind, AuditRecord, ReportAuditRequest};

use crate::approvals;
use crate::clock;
use crate::domain::{Kind, names, principal};
use crate::error::Error;
use crate::store::approvals::APPROVALS;

/// Longest name of a run, in bytes.
const MAX_RUN_ID: usize = 128;
/// Records of a batch.
const MAX_RECORDS: usize = 1_000;
/// Longest name of a principal, in bytes.
const MAX_ACTOR: usize = 300;
/// Longest uid, reason and method, in bytes.
const MAX_WORD: usize = 64;
/// Longest name of a rule, in bytes.
const MAX_RULE: usize = 256;
/// Longest name of what was called, in bytes.
const MAX_RESOURCE: usize = 2_048;
/// Records that are older than a day are of no time that an edge knows: it keeps none for so long.
const OLDEST_US: i64 = 86_400_000_000;

/// Checks a batch of an edge, sets aside the records that cannot be right, and keeps of the others what an edge can know. Returns how many
/// were set aside, and why the first of them was.
pub(super) fn check(
    batch: &mut ReportAuditRequest,
    edge: &str,
    now_us: i64,
) -> Result<Option<(u64, &'static str)>, Error> {
    if batch.run_id.is_empty() || batch.run_id.len() > MAX_RUN_ID || batch.run_id.contains(char::is_control) {
        return Err(Error::field(
            "run_id",
            format!("must have 1 to {MAX_RUN_ID} bytes, none of them control characters"),
        ));
    }
    if batch.sequence < 1 {
        return Err(Error::field("sequence", "must count up from 1"));
    }
    if batch.records.len() > MAX_RECORDS {
        return Err(Error::field("records", format!("has more than {MAX_RECORDS} entries")));
    }
    let mut set_aside: Option<(u64, &'static str)> = None;
    batch.records.retain(|record| {
        let Some(reason) = problem(record) else { return true };
        set_aside.get_or_insert((0, reason)).0 += 1;
        false
    });
    for record in &mut batch.records {
        *record = known(std::mem::take(record), edge, now_us);
    }
    Ok(set_aside)
}

/// What an edge can know of a record, and that it is of this edge.
fn known(record: AuditRecord, edge: &str, now_us: i64) -> AuditRecord {
    let time_us = record.time.as_ref().map_or(now_us, clock::micros);
    AuditRecord {
        time: Some(clock::timestamp(time_us.clamp(now_us - OLDEST_US, now_us))),
        kind: record.kind,
        actor: record.actor,
        actor_uid: record.actor_uid,
        address: record.address,
        action: record.action,
        resource: record.resource,
        reason: record.reason,
        rule: record.rule,
        revision: record.revision,
        edge: format!("edges/{edge}"),
        arguments_sha256: record.arguments_sha256,
        count: record.count,
        approval: record.approval,
        ..AuditRecord::default()
    }
}

/// Finds the reason that a record cannot be right.
fn problem(record: &AuditRecord) -> Option<&'static str> {
    let is_text =
        |text: &str, longest| text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic());
    // Clients may ask for whatever they like.
    let is_line = |text: &str| text.len() <= MAX_RESOURCE && !text.contains(char::is_control);
    let kind = record.kind();
    let is_known = matches!(kind, AuditKind::Refusal | AuditKind::Call | AuditKind::Gap);
    let hash = record.arguments_sha256.len();
    let is_method = |text: &str| text.is_empty() || is_text(text, MAX_WORD);
    let checks = [
        (is_known, "`kind` is not a refusal, a call or a gap"),
        (is_actor(&record.actor), "`actor` is not a principal"),
        (is_text(&record.actor_uid, MAX_WORD), "`actor_uid` is not a uid"),
        (
            record.address.is_empty() || record.address.parse::<IpAddr>().is_ok(),
            "`address` is not an address",
        ),
        (is_method(&record.action), "`action` is not a method"),
        (is_line(&record.resource), "`resource` is not a name"),
        (is_text(&record.reason, MAX_WORD), "`reason` is not a reason"),
        (is_text(&record.rule, MAX_RULE), "`rule` is not a rule"),
        (record.revision >= 0, "`revision` is negative"),
        (record.count > 0, "`count` is less than 1"),
        (
            record.approval.is_empty() || (is_approval(&record.approval) && kind == AuditKind::Call),
            "`approval` is not of a call",
        ),
        (hash == 0 || (hash == 32 && kind == AuditKind::Call), "`arguments_sha256` is not of a call"),
    ];
    checks.into_iter().find_map(|(is_good, reason)| (!is_good).then_some(reason))
}

/// Tells whether a name is of somebody whom edges know.
fn is_actor(name: &str) -> bool {
    let is_token = names::parse(Kind::Token, name).is_ok();
    let is_principal = principal::is_user(name) || principal::is_service_account(name) || is_token;
    name.is_empty() || name == "other" || (name.len() <= MAX_ACTOR && is_principal)
}

fn is_approval(name: &str) -> bool {
    name.strip_prefix(APPROVALS).is_some_and(approvals::is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_800_000_000_000_000;

    fn record() -> AuditRecord {
        AuditRecord {
            kind: AuditKind::Refusal.into(),
            actor: "tokens/ci".to_owned(),
            address: "192.0.2.1".to_owned(),
            action: "tools/call".to_owned(),
            resource: "servers/dev/tools/x".to_owned(),
            reason: "address_not_allowed".to_owned(),
            count: 3,
            time: Some(clock::timestamp(NOW_US - 5)),
            ..AuditRecord::default()
        }
    }

    fn batch(records: Vec<AuditRecord>) -> ReportAuditRequest {
        ReportAuditRequest { run_id: "run".to_owned(), sequence: 1, records }
    }

    #[test]
    fn an_edge_says_neither_who_it_is_nor_what_it_cannot_know() {
        let forged = AuditRecord {
            sequence: 7,
            edge: "edges/other".to_owned(),
            through: "users/ann@example.org/sessions/1".to_owned(),
            before_json: "{}".to_owned(),
            after_json: "{}".to_owned(),
            request_id: "r".to_owned(),
            hash: vec![1; 32],
            ..record()
        };
        let mut batch = batch(vec![forged]);
        assert_eq!(check(&mut batch, "one", NOW_US).unwrap(), None);
        assert_eq!(batch.records, [AuditRecord { edge: "edges/one".to_owned(), ..record() }]);
    }

    #[test]
    fn a_time_that_cannot_be_is_moved() {
        for (sent, kept) in [(NOW_US + 9, NOW_US), (0, NOW_US - OLDEST_US), (NOW_US - 9, NOW_US - 9)] {
            let mut batch = batch(vec![AuditRecord { time: Some(clock::timestamp(sent)), ..record() }]);
            check(&mut batch, "one", NOW_US).unwrap();
            assert_eq!(batch.records[0].time, Some(clock::timestamp(kept)));
        }
    }

    #[test]
    fn what_others_would_say_is_set_aside() {
        let approval = format!("{APPROVALS}{}", "0".repeat(32));
        let bad = [
            AuditRecord { kind: AuditKind::Change.into(), ..record() },
            AuditRecord { kind: AuditKind::SignIn.into(), ..record() },
            AuditRecord { kind: 99, ..record() },
            AuditRecord { actor: "system/administrator".to_owned(), ..record() },
            AuditRecord { actor: "system/control-plane".to_owned(), ..record() },
            AuditRecord { actor: "tokens/../x".to_owned(), ..record() },
            AuditRecord { actor: format!("tokens/{}", "t".repeat(MAX_ACTOR)), ..record() },
            AuditRecord { actor_uid: "\u{1b}".to_owned(), ..record() },
            AuditRecord { address: "here".to_owned(), ..record() },
            AuditRecord { action: "tools call".to_owned(), ..record() },
            AuditRecord { resource: "x".repeat(MAX_RESOURCE + 1), ..record() },
            AuditRecord { reason: "é".to_owned(), ..record() },
            AuditRecord { rule: "r".repeat(MAX_RULE + 1), ..record() },
            AuditRecord { revision: -1, ..record() },
            AuditRecord { count: 0, ..record() },
            AuditRecord { arguments_sha256: vec![0; 32], ..record() },
            AuditRecord { kind: AuditKind::Call.into(), arguments_sha256: vec![0; 31], ..record() },
            AuditRecord { kind: AuditKind::Call.into(), approval: "approvals/x".to_owned(), ..record() },
            AuditRecord { approval: approval.clone(), ..record() },
        ];
        for bad in &bad {
            let mut batch = batch(vec![record(), bad.clone()]);
            let (set_aside, _) = check(&mut batch, "one", NOW_US).unwrap().expect("one");
            assert_eq!((set_aside, batch.records.len()), (1, 1), "{bad:?}");
        }
        let call =
            AuditRecord { kind: AuditKind::Call.into(), arguments_sha256: vec![0; 32], approval, ..record() };
        let mut batch = batch(vec![call.clone()]);
        assert_eq!(check(&mut batch, "one", NOW_US).unwrap(), None);
        assert_eq!(batch.records[0].approval, call.approval);
    }

    #[test]
    fn a_batch_that_is_none_is_refused() {
        let good = batch(vec![record()]);
        for mut bad in [
            ReportAuditRequest { run_id: String::new(), ..good.clone() },
            ReportAuditRequest { run_id: "r\0".to_owned(), ..good.clone() },
            ReportAuditRequest { sequence: 0, ..good.clone() },
            batch(vec![record(); MAX_RECORDS + 1]),
        ] {
            let error = check(&mut bad, "one", NOW_US).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
        }
    }
}
