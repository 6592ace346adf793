//! Calls that wait until somebody approves them, apart from the rpcs: what a call is, when an approval is over, the page that says what is
//! waited for, and webhooks both ways.
//!
//! It must not know who may decide, nor the rules that hold calls back.

pub mod announcer;
pub mod call;
pub mod counters;
pub mod inbox;
pub mod keeper;
pub mod page;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use trunkline::policy::v1::ApprovalState;
use url::Url;

use counters::ApprovalCounters;

use crate::clock;
use crate::store::approvals::{ApprovalRow, word};

/// The principal that decides by webhook.
pub const WEBHOOK: &str = "system/webhook";
/// The longest comment.
pub const MAX_COMMENT: usize = 500;
/// Characters of an id.
const ID: usize = 32;

/// What is said at the start about approvals, and what is counted.
#[derive(Debug, Clone)]
pub struct Approvals {
    /// From asking to use.
    pub timeout: Duration,
    /// Where the page is. `None`: nowhere.
    pub url: Option<Url>,
    /// Whether somebody is told of them.
    pub are_told: bool,
    /// What is counted.
    pub counters: Arc<ApprovalCounters>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3_600), url: None, are_told: false, counters: Arc::default() }
    }
}

impl Approvals {
    /// The page of one; empty: there is none.
    pub fn page(&self, id: &str) -> String {
        self.url.as_ref().map(|base| page_url(base, id)).unwrap_or_default()
    }
}

fn page_url(base: &Url, id: &str) -> String {
    format!("{}/approvals/{id}", base.as_str().trim_end_matches('/'))
}

/// An id that nobody can guess. `None`: the system has no randomness to give.
pub fn new_id() -> Option<String> {
    let mut bytes = [0; ID / 2];
    rand::fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

/// Tells whether a text has the form of an id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Why nothing more is decided about one in a state.
pub fn over(row: &ApprovalRow, state: ApprovalState) -> String {
    let name = row.name();
    if state != ApprovalState::Approved {
        return format!("{name} is {} already; nothing is left to decide", word(state));
    }
    let until = clock::timestamp(row.expire_us - row.expire_us.rem_euclid(1_000_000));
    format!("{name} is approved already, by {}; it can be denied until {until}", row.decided_by)
}

/// What is wrong with a comment, if anything.
pub fn check_comment(comment: &str) -> Result<(), String> {
    let length = comment.chars().count();
    if length > MAX_COMMENT {
        return Err(format!("has {length} characters; the maximum is {MAX_COMMENT}"));
    }
    if comment.chars().any(char::is_control) { Err("has a control character".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_one_form_and_differ() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert!(is_id(&one) && is_id(&other) && one != other);
        for bad in ["", "a", &one[1..], &one.to_uppercase(), &format!("{}/", &one[1..])] {
            assert!(!is_id(bad) || bad == one, "{bad}");
        }
    }

    #[test]
    fn the_page_is_below_the_base_however_that_ends() {
        for base in ["https://t.example", "https://t.example/", "https://t.example/x/"] {
            let approvals = Approvals { url: base.parse().ok(), ..Approvals::default() };
            let expected = format!("{}/approvals/1", base.trim_end_matches('/'));
            assert_eq!(approvals.page("1"), expected);
        }
        assert_eq!(Approvals::default().page("1"), "");
    }

    #[test]
    fn comments_are_short_and_plain() {
        check_comment(&"é".repeat(MAX_COMMENT)).unwrap();
        assert!(check_comment(&"x".repeat(MAX_COMMENT + 1)).is_err() && check_comment("a\nb").is_err());
    }
}
