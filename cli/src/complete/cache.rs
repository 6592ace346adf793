//! Answers to questions that were asked a moment ago: a shell asks again with every key.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Known;
use crate::context::cache_home;

/// An older answer is asked for again.
const LIFETIME: Duration = Duration::from_secs(5);

/// Where the answer to one question is kept.
pub(super) struct CachedAnswer(PathBuf);

impl CachedAnswer {
    /// `asked` is whom was asked for what.
    pub(super) fn to(asked: &[&str]) -> Self {
        let mut hasher = DefaultHasher::new();
        asked.hash(&mut hasher);
        let folder = cache_home().join("trunkline/completion");
        Self(folder.join(format!("{:016x}.json", hasher.finish())))
    }

    /// Returns the answer, if it is young.
    pub(super) fn read(&self) -> Option<Vec<Known>> {
        let age = std::fs::metadata(&self.0).ok()?.modified().ok()?.elapsed().ok()?;
        let text = std::fs::read(&self.0).ok().filter(|_| age < LIFETIME)?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps an answer, if that is possible.
    pub(super) fn write(&self, answer: &[Known]) {
        let written = || {
            let folder = self.0.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            forget(folder);
            let whole = self.0.with_extension(std::process::id().to_string());
            std::fs::write(&whole, serde_json::to_vec(answer)?)?;
            std::fs::rename(&whole, &self.0)
        };
        let _nobody_is_told: std::io::Result<()> = written();
    }
}

/// Removes what is not read any more.
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > 12 * LIFETIME) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
