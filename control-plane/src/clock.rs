//! The one place where the wall clock is read, and its conversions to protobuf.
//!
//! It must not know what the time is used for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

const MICROS: i64 = 1_000_000;

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds since the Unix epoch, as protobuf has it.
pub fn timestamp(us: i64) -> Timestamp {
    let nanos = i32::try_from(us.rem_euclid(MICROS) * 1_000).unwrap_or(0);
    Timestamp { seconds: us.div_euclid(MICROS), nanos }
}

/// The reverse of [`timestamp`], truncated to microseconds.
pub fn micros(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(MICROS).saturating_add(i64::from(at.nanos) / 1_000)
}

/// A duration in microseconds, as far as it fits.
pub fn duration_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A protobuf duration that is neither negative nor out of range.
pub fn duration(value: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_return() {
        for us in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(micros(&timestamp(us)), us);
        }
    }
}
