//! Files that are looked at from time to time, without reading them.
//!
//! It must not know what is in them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(60);

/// Files, and how they were when they were looked at last.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

/// Another one where a file was written to, or another file is in its place: which file it is, and when the system changed it
/// last. `cp -p` keeps other times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Files {
    /// Looks at files.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = stamps(&paths);
        Self { paths, seen }
    }

    /// Looks at them now. Answers which are others than at the last look, in the order in which they were given.
    pub(super) fn look(&mut self) -> Vec<bool> {
        let now = stamps(&self.paths);
        let changed = now.iter().zip(&self.seen).map(|(now, seen)| now != seen).collect();
        self.seen = now;
        changed
    }

    /// Waits until one is another than at the last look. Answers which are.
    pub(super) async fn changed(&mut self) -> Vec<bool> {
        loop {
            sleep(PAUSE).await;
            let changed = self.look();
            if changed.contains(&true) {
                return changed;
            }
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

/// `None`: there is no such file.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { device: found.dev(), inode: found.ino(), changed: (found.ctime(), found.ctime_nsec()) })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_replaced_or_gone_is_noticed_at_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["cert", "key", "new"] {
            std::fs::write(path(name), name).unwrap();
        }
        let mut files = Files::new(vec![path("cert"), path("key")]);
        {
            let mut changed = std::pin::pin!(files.changed());
            assert_eq!(changed.as_mut().now_or_never(), None);
            advance(PAUSE * 2).await;
            assert_eq!(changed.as_mut().now_or_never(), None, "nothing changed");
            std::fs::rename(path("new"), path("key")).unwrap();
            assert_eq!(changed.await, [false, true]);
        }
        std::fs::remove_file(path("cert")).unwrap();
        assert_eq!(files.changed().await, [true, false]);
        assert_eq!(files.look(), [false, false]);
        assert_eq!(files.changed().now_or_never(), None);
    }
}
