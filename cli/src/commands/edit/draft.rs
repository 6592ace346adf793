//! The file that an editor opens: only its owner reads it, and it stays until it is discarded.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// A text that was written looks so much older than it is, so that saving it again is seen even at once.
const AGE: Duration = Duration::from_secs(2);

/// The file.
pub(super) struct Draft {
    path: PathBuf,
    written: Option<SystemTime>,
}

/// What an editor left.
pub(super) struct Saved {
    pub(super) text: String,
    /// Whether the file was saved, be it with the same text.
    pub(super) is_new: bool,
}

impl Draft {
    /// Names a file among the temporary ones.
    pub(super) fn new(kind: &str) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let path = std::env::temp_dir().join(format!("mcpctl-edit-{kind}-{}.yaml", &id[..12]));
        Self { path, written: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the text at once: whoever is killed meanwhile leaves the one or the other.
    pub(super) fn write(&mut self, text: &str) -> Result {
        let new = self.path.with_extension("yaml.new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.set_modified(SystemTime::now() - AGE)?;
            std::fs::rename(&new, &self.path)?;
            file.metadata()?.modified()
        };
        let written = write().inspect_err(|_| _ = std::fs::remove_file(&new));
        self.written = Some(written.map_err(|error| failed("write", &self.path, &error))?);
        Ok(())
    }

    /// Returns what is in the file now.
    pub(super) fn read(&self) -> Result<Saved> {
        let read = || {
            let file = File::open(&self.path)?;
            let is_new = Some(file.metadata()?.modified()?) != self.written;
            Ok(Saved { text: std::io::read_to_string(file)?, is_new })
        };
        read().map_err(|error: std::io::Error| failed("read", &self.path, &error))
    }

    /// Removes the file: nothing in it is missed.
    pub(super) fn discard(&self) {
        // It is among the temporary files, where somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::failure(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn saving_is_seen_and_nobody_else_reads_it() {
        let mut draft = Draft::new("upstream");
        draft.write("a").unwrap();
        let saved = draft.read().unwrap();
        assert_eq!((saved.text.as_str(), saved.is_new), ("a", false));
        assert_eq!(std::fs::metadata(draft.path()).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(draft.path(), "a").unwrap();
        assert!(draft.read().unwrap().is_new);
        draft.discard();
        assert!(draft.read().is_err() && !draft.path().exists());
    }
}
