//! The lock of a data directory: two programs in one of them would destroy each other's work.
//!
//! The lock goes with the process, however that ends; the file stays, and says who holds it.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// More than this is not what a program of ours wrote.
const MAX_HOLDER: u64 = 1024;

/// A data directory that this process has to itself, until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// The reason that a data directory was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}; stop that first, or use another --data-dir", of.display())]
    InUse {
        /// The directory or the file.
        of: PathBuf,
        /// The process, as it says itself.
        holder: String,
    },
    /// The directory cannot be made, or its file cannot be opened or locked.
    #[error("cannot use {}: {error}", path.display())]
    Failed {
        /// The directory or the file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

impl DirectoryLock {
    /// Locks a directory for one program of a role, and makes it where there is none: programs of different roles may share it.
    /// `address` is told to whoever wants it next.
    pub fn take(folder: &Path, role: &str, address: impl Display) -> Result<Self, LockError> {
        make_private(folder).map_err(|error| LockError::Failed { path: folder.to_owned(), error })?;
        Self::lock(&folder.join(format!("{role}.lock")), folder, &holder(address))
    }

    /// Locks a file by one beside it, since others may lock the file itself in their own way.
    pub fn take_beside(path: &Path, address: impl Display) -> Result<Self, LockError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        Self::lock(Path::new(&name), path, &holder(address))
    }

    fn lock(path: &Path, of: &Path, holder: &str) -> Result<Self, LockError> {
        let failed = |error| LockError::Failed { path: path.to_owned(), error };
        let mut file = open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::InUse { of: of.to_owned(), holder: read(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        write(&mut file, holder).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Only its owner reads what is in it.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn holder(address: impl Display) -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let program = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{program}, process {}, on {address}", std::process::id())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not truncated: what is in it is of whoever holds the lock.
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write(file: &mut File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(holder.as_bytes())
}

/// Who holds the lock. Between its lock and its first word a process has no name.
fn read(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER).read_to_string(&mut text);
    if read.is_err() || text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(folder.path(), "edge", "127.0.0.1:1").unwrap();
        let refused = DirectoryLock::take(folder.path(), "edge", "127.0.0.1:2").unwrap_err().to_string();
        let (start, pid) = (format!("{} is in use by startup-", folder.path().display()), std::process::id());
        let end = format!(", process {pid}, on 127.0.0.1:1; stop that first, or use another --data-dir");
        assert!(refused.starts_with(&start) && refused.ends_with(&end), "{refused}");
        let _other = DirectoryLock::take(folder.path(), "control-plane", "127.0.0.1:2").unwrap();
        drop(first);
        DirectoryLock::take(folder.path(), "edge", "127.0.0.1:2").unwrap();
    }

    #[test]
    fn a_file_is_locked_by_one_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let _first = DirectoryLock::take_beside(&path, "here").unwrap();
        assert!(matches!(
            DirectoryLock::take_beside(&path, "there"),
            Err(LockError::InUse { of, .. }) if of == path
        ));
        assert!(folder.path().join("registry.db.lock").exists() && !path.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let _lock = DirectoryLock::take(&folder.path().join("a/b"), "edge", "here").unwrap();
        let mode = std::fs::metadata(folder.path().join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let below_a_file = folder.path().join("a/b/edge.lock/c");
        let error = DirectoryLock::take(&below_a_file, "edge", "here").unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot use {}: ", below_a_file.display())), "{error}");
    }
}
