//! What an edge says of itself when it connects, checked: others print it on terminals and in logs, and siblings connect to it.
//!
//! It must not know streams.

use trunkline::discovery::v1::Edge;

use crate::error::Error;

/// Longest version of an edge's program, in bytes.
const MAX_VERSION: usize = 64;
/// Longest URL at which clients reach an edge, in bytes.
const MAX_URL: usize = 512;
/// Longest address of an edge, a host name and a port, in bytes.
const MAX_ADDRESS: usize = 260;
/// Longest egress rule of an edge, in bytes.
const MAX_EGRESS: usize = 4_096;
const SHA256_LEN: usize = 32;
/// What is said of an id that [`is_edge_id`] does not accept.
pub(super) const EDGE_ID: &str = "cannot be the id of an edge: it has lower-case letters, digits and `-`, begins and ends with a \
                                  letter or a digit, and has at most 63 characters";

/// Tells whether an id matches `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub(super) fn is_edge_id(id: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match id.as_bytes() {
        [one] => plain(one),
        [first, middle @ .., last] => {
            plain(first)
                && plain(last)
                && middle.len() <= 61
                && middle.iter().all(|byte| plain(byte) || *byte == b'-')
        }
        [] => false,
    }
}

/// Checks the texts of an edge. Fails with the first one that is too long or has other characters than printable ASCII.
pub(super) fn check(edge: &Edge) -> Result<(), Error> {
    let texts = [
        ("edge.version", &edge.version, MAX_VERSION),
        ("edge.client_address", &edge.client_address, MAX_URL),
        ("edge.sibling_address", &edge.sibling_address, MAX_ADDRESS),
    ];
    let is_wrong =
        |text: &str, longest| text.len() > longest || !text.bytes().all(|byte| byte.is_ascii_graphic());
    match texts.into_iter().find(|(_, text, longest)| is_wrong(text, *longest)) {
        Some((field, _, longest)) => {
            let must = format!("must be at most {longest} bytes of printable ASCII without spaces");
            Err(Error::field(field, must))
        }
        None => check_egress(&edge.egress),
    }
}

/// Checks an egress rule, which has spaces in it.
fn check_egress(text: &str) -> Result<(), Error> {
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.len() <= MAX_EGRESS && is_printable {
        return Ok(());
    }
    Err(Error::field("edge.egress", format!("must be at most {MAX_EGRESS} bytes of printable ASCII")))
}

/// Reads the address and the certificate's fingerprint by which other edges reach it, where it has sent usable ones.
pub(super) fn sibling(edge: &Edge) -> Option<(String, String)> {
    let (host, port) = edge.sibling_address.rsplit_once(':')?;
    let fits = !host.is_empty() && port.parse::<u16>().is_ok();
    let certificate = &edge.sibling_certificate_sha256;
    let hex = || certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    (fits && certificate.len() == SHA256_LEN).then(|| (edge.sibling_address.clone(), hex()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_letters_digits_and_hyphens_within() {
        let longest = "e".repeat(63);
        for id in ["e", "0", "e-1", &longest] {
            assert!(is_edge_id(id), "{id:?}");
        }
        let long = "e".repeat(64);
        for id in ["", "-", "-e", "e-", "E", "e_1", "e.1", "é", "e\n", "e\u{1b}[2J", "e/..", &long] {
            assert!(!is_edge_id(id), "{id:?}");
        }
    }

    #[test]
    fn texts_are_short_and_printable() {
        let edge = |version: &str, client: &str, sibling: &str| Edge {
            version: version.to_owned(),
            client_address: client.to_owned(),
            sibling_address: sibling.to_owned(),
            ..Default::default()
        };
        for good in [edge("", "", ""), edge("0.1.0", "https://mcp.example", "[2001:db8::1]:4447")] {
            check(&good).unwrap();
        }
        for bad in ["a b", "a\n", "\u{1b}]0;title\u{7}", "\u{9b}2J", "a\u{202e}b", &"x".repeat(513)] {
            for (field, edge) in [
                ("edge.version", edge(bad, "", "")),
                ("edge.client_address", edge("", bad, "")),
                ("edge.sibling_address", edge("", "", bad)),
            ] {
                let error = check(&edge).unwrap_err().to_string();
                assert!(error.starts_with(field) && !error.contains(bad), "{bad:?}: {error}");
            }
        }
        let egress = |text: &str| check(&Edge { egress: text.to_owned(), ..Default::default() });
        for good in ["", "public addresses, loopback; never 10.0.0.0/8", &"x".repeat(4_096)] {
            egress(good).unwrap();
        }
        for bad in ["a\n", "\u{1b}]0;title\u{7}", "\u{9b}2J", "a\u{202e}b", &"x".repeat(4_097)] {
            let error = egress(bad).unwrap_err().to_string();
            assert!(error.starts_with("edge.egress") && !error.contains(bad), "{bad:?}: {error}");
        }
    }
}
