//! How much memory a process takes, from `/proc`, and the middle of some times. It must not know what they are of.

use std::time::Duration;

/// Memory that is resident, and the most there ever was.
pub(crate) fn megabytes(pid: u32) -> String {
    format!("{:.0} MiB (at most {:.0})", resident(pid), mebibytes(pid, "VmHWM:"))
}

/// Memory that is resident, in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    mebibytes(pid, "VmRSS:")
}

fn mebibytes(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// The middle one, in milliseconds.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
