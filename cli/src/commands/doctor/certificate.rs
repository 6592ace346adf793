//! How long a certificate is good for. Reads as much of it as that takes, and no more: whether it can be trusted, whoever
//! connects finds out.

use std::time::Duration;

use reqwest::tls::TlsInfo;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use url::Url;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns when the certificate at an https URL ends.
pub(super) async fn end_at(url: &Url, patience: Duration) -> Option<OffsetDateTime> {
    let client = reqwest::Client::builder().timeout(patience).no_proxy().tls_info(true);
    let client = client.danger_accept_invalid_certs(true).redirect(reqwest::redirect::Policy::none());
    let response = client.build().ok()?.get(url.join("/healthz").ok()?).send().await.ok()?;
    end_of(response.extensions().get::<TlsInfo>()?.peer_certificate()?)
}

/// Returns the end of the validity of a certificate (DER).
fn end_of(certificate: &[u8]) -> Option<OffsetDateTime> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // The serial number, the algorithm and the issuer come before the validity.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, end) = element(validity)?;
    let (kind, end, _) = element(end)?;
    point_in_time(kind, std::str::from_utf8(end).ok()?)
}

/// Splits off the first element of DER: its type, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (length, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(l, _)| l.len() <= 4)?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*kind, content, rest))
}

/// Reads `YYMMDDhhmmssZ`, or the same with four digits of the year.
fn point_in_time(kind: u8, text: &str) -> Option<OffsetDateTime> {
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = digits.split_at_checked(match kind {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    })?;
    let year: i32 = year.parse().ok()?;
    let year = match kind {
        UTC_TIME if year < 50 => year + 2000,
        UTC_TIME => year + 1900,
        _ => year,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_spellings() {
        let at = |kind, text| point_in_time(kind, text).map(OffsetDateTime::unix_timestamp);
        assert_eq!(at(UTC_TIME, "270115080000Z"), Some(1_800_000_000));
        assert_eq!(at(GENERALIZED_TIME, "20270115080000Z"), Some(1_800_000_000));
        assert_eq!(at(UTC_TIME, "991231235959Z").map(|seconds| seconds < 1_000_000_000), Some(true));
        for wrong in ["", "Z", "2701", "27011508000Z", "271315080000Z"] {
            assert_eq!(at(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for wrong in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\x00", &[0x30; 64]] {
            assert_eq!(end_of(wrong), None, "{wrong:?}");
        }
    }
}
