//! The CPU time of a process and its children, from `/proc`. It must not know what they do.

use std::collections::HashMap;
use std::time::Duration;

/// `utime + stime` is counted in ticks of 10 ms on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process and everything below it.
pub(crate) fn used(pid: u32) -> Duration {
    let mut children: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
    let mut total = stat(pid).map_or(0, |(_, ticks)| ticks);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some((parent, ticks)) = stat(child)
        {
            children.entry(parent).or_default().push((child, ticks));
        }
    }
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for (child, ticks) in children.remove(&parent).unwrap_or_default() {
            total += ticks;
            open.push(child);
        }
    }
    TICK * total
}

/// The parent and the ticks of a process.
fn stat(pid: u32) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything: what counts comes after it.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some((ticks(1)?, ticks(11)? + ticks(12)?))
}
