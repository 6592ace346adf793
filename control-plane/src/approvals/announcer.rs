//! Tells the operator's webhook of approvals: when one is asked for, and what becomes of it. The table is the queue; whichever replica
//! holds the lease sends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunkline::policy::v1::{Approval, ApprovalState};
use url::Url;

use super::Approvals;
use super::counters::WebhookEvent;
use super::signature::{HEADERS, SecretFile, Secrets};
use crate::clock;
use crate::domain::reflect;
use crate::store::approvals::Untold;
use crate::store::leases::Leases;
use crate::store::{Store, StoreError};

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// The lease outlives a round that is late.
const LEASE: Duration = Duration::from_secs(60);
/// So many are sent at the same time.
const AT_ONCE: i64 = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// After the first try that failed, and at most; it doubles in between.
const BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];
/// What became of an approval is told for so long after its time is over.
const TOLD_AFTER: Duration = Duration::from_secs(3_600);

/// Tells the webhook.
#[derive(Debug, Clone)]
pub struct Announcer {
    store: Store,
    leases: Leases,
    url: Url,
    secrets: SecretFile,
    approvals: Approvals,
    client: Client,
}

impl Announcer {
    /// Tells the webhook at `url`, with signatures by these secrets.
    pub fn new(
        store: Store,
        leases: Leases,
        (url, secrets): (Url, SecretFile),
        approvals: Approvals,
    ) -> Result<Arc<Self>, reqwest::Error> {
        let client =
            Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        let client =
            client.no_proxy().user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Arc::new(Self { store, leases, url, secrets, approvals, client }))
    }

    /// Tells it, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.round(clock::now_us()).await {
                // There may be more.
                Ok(told) if told > 0 => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "cannot tell the webhook of approvals; retrying"),
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Tells of some. Returns how many it has told.
    async fn round(&self, now_us: i64) -> Result<usize, StoreError> {
        if !self.store.has_untold_approvals(now_us).await?
            || self.leases.take("approval webhook", LEASE).await?.is_none()
        {
            return Ok(0);
        }
        let secrets = match self.secrets.read() {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::warn!(error, "cannot sign what the webhook is told of approvals");
                return Ok(0);
            }
        };
        let untold = self.store.untold_approvals(now_us, AT_ONCE).await?;
        let told = join_all(untold.iter().map(|one| self.tell(one, &secrets, now_us))).await;
        Ok(told.into_iter().collect::<Result<Vec<bool>, _>>()?.into_iter().filter(|told| *told).count())
    }

    /// Tells of one. Returns whether that is done with.
    async fn tell(&self, untold: &Untold, secrets: &Secrets, now_us: i64) -> Result<bool, StoreError> {
        let (row, counters) = (&untold.row, &self.approvals.counters);
        if row.state_at(now_us) != row.state {
            // It is over, and about to be ended.
            return Ok(false);
        }
        let is_over = now_us > row.expire_us + clock::duration_us(TOLD_AFTER);
        // Nobody can decide any more about what nobody heard of.
        if is_over || (untold.is_first && row.state == ApprovalState::Expired) {
            counters.count(WebhookEvent::GivenUp);
            tracing::warn!(
                approval = row.name(),
                tries = untold.tries,
                "the webhook was not told of an approval in time"
            );
            self.store.note_told(row).await?;
            return Ok(true);
        }
        let (id, body) = event(untold, &self.approvals, now_us);
        match self.send(&id, body, secrets, now_us / 1_000_000).await {
            Ok(()) => {
                counters.count(WebhookEvent::Delivered);
                self.store.note_told(row).await?;
                Ok(true)
            }
            Err(error) => {
                counters.count(WebhookEvent::Failed);
                let after = backoff(untold.tries);
                tracing::warn!(
                    approval = row.name(),
                    error,
                    retry_s = after.as_secs(),
                    "cannot tell the webhook of an approval"
                );
                self.store.note_untold(row, untold.tries + 1, now_us + clock::duration_us(after)).await?;
                Ok(false)
            }
        }
    }

    async fn send(&self, id: &str, body: String, secrets: &Secrets, time_s: i64) -> Result<(), String> {
        let [id_header, time_header, signature_header] = HEADERS;
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header(id_header, id)
            .header(time_header, time_s.to_string())
            .header(signature_header, secrets.sign(id, time_s, body.as_bytes()))
            .body(body);
        let answer = request.send().await.map_err(|error| problem(&error).to_owned())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err("it has too much to do (429)".to_owned()),
            status => Err(format!("it answered {}", status.as_u16())),
        }
    }
}

fn problem(error: &reqwest::Error) -> &'static str {
    match error {
        error if error.is_timeout() => "it did not answer in time",
        error if error.is_connect() => "it cannot be reached, or its certificate is not trusted",
        _ => "it did not answer as HTTP",
    }
}

/// How long it is waited after so many tries that failed, and one more.
fn backoff(tries: i64) -> Duration {
    let doubled = BACKOFF[0].saturating_mul(1 << tries.clamp(0, 16));
    doubled.min(BACKOFF[1])
}

/// The id of a webhook, which is the same whenever it is sent, and its body.
fn event(untold: &Untold, approvals: &Approvals, now_us: i64) -> (String, String) {
    let row = &untold.row;
    let what = match row.state {
        ApprovalState::Pending | ApprovalState::Unspecified => "requested",
        ApprovalState::Approved | ApprovalState::Denied => "decided",
        ApprovalState::Used => "used",
        ApprovalState::Expired => "expired",
    };
    let mut approval = row.message(row.create_us);
    if row.state != ApprovalState::Pending {
        // Who decides must see them; whoever is told of the end need not.
        approval.arguments_json = String::new();
    }
    let mut data = json!({ "approval": to_json(&approval) });
    let page = approvals.page(&row.id);
    if !page.is_empty() {
        data["url"] = page.into();
    }
    let body = json!({ "type": format!("approval.{what}"), "timestamp": rfc3339(now_us), "data": data });
    (format!("{}.{}", row.id, crate::store::approvals::word(row.state)), body.to_string())
}

fn to_json(approval: &Approval) -> Value {
    let descriptor = reflect::pool().get_message_by_name("trunkline.policy.v1.Approval");
    let message =
        descriptor.and_then(|known| DynamicMessage::decode(known, approval.encode_to_vec().as_slice()).ok());
    message.and_then(|message| serde_json::to_value(&message).ok()).unwrap_or_default()
}

fn rfc3339(us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(us / 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::approvals::{ApprovalRow, Parties};

    fn untold(state: ApprovalState) -> Untold {
        let row = ApprovalRow {
            id: "0123".to_owned(),
            digest: "aa".to_owned(),
            state,
            parties: Parties::default(),
            server: "servers/dev".to_owned(),
            server_uid: "s".to_owned(),
            body: Approval {
                principal: "tokens/ci".to_owned(),
                arguments_json: r#"{"secret":1}"#.to_owned(),
                ..Approval::default()
            },
            create_us: 1_000_000,
            expire_us: 2_000_000,
            decide_us: 0,
            decided_by: String::new(),
            comment: String::new(),
            use_us: 0,
        };
        Untold { row, is_first: true, tries: 0 }
    }

    #[test]
    fn what_is_asked_is_told_with_arguments_and_what_became_of_it_without() {
        let approvals = Approvals { url: "https://t.example/".parse().ok(), ..Approvals::default() };
        let (id, body) = event(&untold(ApprovalState::Pending), &approvals, 1_500_000);
        assert_eq!(id, "0123.pending");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "approval.requested",
                "timestamp": "1970-01-01T00:00:01Z",
                "data": {
                    "approval": {
                        "name": "approvals/0123", "state": "APPROVAL_STATE_PENDING", "principal": "tokens/ci", "server": "servers/dev",
                        "argumentsJson": "{\"secret\":1}", "createTime": "1970-01-01T00:00:01Z",
                        "expireTime": "1970-01-01T00:00:02Z", "digest": "aa"
                    },
                    "url": "https://t.example/approvals/0123"
                }
            })
        );
        let (id, body) = event(&untold(ApprovalState::Denied), &Approvals::default(), 1_500_000);
        assert_eq!(id, "0123.denied");
        assert!(
            body.contains("approval.decided") && !body.contains("secret") && !body.contains("url"),
            "{body}"
        );
    }

    #[test]
    fn tries_get_rarer() {
        let seconds: Vec<u64> = [0, 1, 2, 5, 6, 60, i64::MAX].map(|tries| backoff(tries).as_secs()).into();
        assert_eq!(seconds, [5, 10, 20, 160, 300, 300, 300]);
    }
}
