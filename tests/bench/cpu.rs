//! The CPU time of a process and its children, from `/proc`. It must not know what they do.

use std::collections::HashMap;
use std::time::Duration;

/// The process of this name that this program started.
pub(crate) fn child(name: &str) -> Option<u32> {
    let is_it = |pid: &u32| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        program.file_name().is_some_and(|found| found == name) && parent(*pid) == Some(std::process::id())
    };
    processes().find(is_it)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// User and system time of the threads of a process and of everything below it, to the nanosecond. For short windows.
pub(crate) fn used(pid: u32) -> Duration {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for child in processes() {
        if let Some(parent) = parent(child) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut open = vec![pid];
    let mut total = 0;
    while let Some(process) = open.pop() {
        total += nanoseconds(process);
        open.extend(children.remove(&process).unwrap_or_default());
    }
    Duration::from_nanos(total)
}

/// User and system time of a process alone, in ticks of 10 ms, with that of threads that have ended.
pub(crate) fn used_by_all(pid: u32) -> Duration {
    let stat = stat(pid).unwrap_or_default();
    let ticks = |index: usize| stat.get(index).and_then(|ticks| ticks.parse::<u32>().ok()).unwrap_or(0);
    Duration::from_millis(10) * (ticks(11) + ticks(12))
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// What is known of a process, after its name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// How long the threads of a process ran. Those that have ended are not counted; the ones that serve do not end.
fn nanoseconds(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ran = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(|thread| ran(thread.path())).sum()
}
