//! A file of a host: read whole, and replaced whole or not at all. It must not know what it says.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::{Error, Exit, Result};

/// Symbolic links that lead to one another at most.
const MAX_LINKS: usize = 40;
const MARK: &str = "\u{feff}";
/// The form of the time in the name of a copy.
const TIME: &str = "00000000T000000Z";
/// Copies that are kept besides the first, which is from before any change: the newest.
const NEWEST: usize = 2;

/// A file that was read.
#[derive(Debug)]
pub(super) struct HostFile {
    /// Its path, as it was named.
    pub(super) path: PathBuf,
    /// What symbolic links lead to.
    target: PathBuf,
    /// What it held; `None` if there was none.
    bytes: Option<Vec<u8>>,
    /// Its text, without a byte order mark, with `\n` where all its lines end in `\r\n`.
    pub(super) text: String,
    has_mark: bool,
    has_returns: bool,
}

/// What became of a file.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The copy of what it held before.
    pub(super) backup: Option<PathBuf>,
    /// The folder that was made for it.
    pub(super) made: Option<PathBuf>,
}

impl HostFile {
    /// Reads a file. One that does not exist has no text.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let target = followed(path);
        let bytes = match std::fs::read(&target) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::failure(format!("cannot read {}: {error}", path.display()))),
        };
        let text = std::str::from_utf8(bytes.as_deref().unwrap_or_default()).map_err(|_| {
            Error::usage(format!("{} is left alone: it is not UTF-8; save it as UTF-8", path.display()))
        })?;
        let has_mark = text.starts_with(MARK);
        let text = text.trim_start_matches(MARK);
        let newlines = text.matches('\n').count();
        let has_returns = newlines > 0 && text.matches("\r\n").count() == newlines;
        let text = if has_returns { text.replace("\r\n", "\n") } else { text.to_owned() };
        Ok(Self { path: path.to_owned(), target, text, has_mark, has_returns, bytes })
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self) -> bool {
        self.bytes.is_some()
    }

    /// Replaces the text, and keeps what was there beside it. Where `is_private`, only the owner can read it afterwards.
    ///
    /// # Errors
    /// When the file has changed since it was read, or cannot be written; it is then as it was.
    pub(super) fn replace(&self, text: &str, is_private: bool) -> Result<Replaced> {
        let failed = |error: std::io::Error| {
            Error::failure(format!("cannot write {}: {error}; it is as it was", self.path.display()))
        };
        let made = self.make_folder().map_err(failed)?;
        let backup = self.back_up().map_err(failed)?;
        let temporary = self.beside(&format!("trunkline-{}", std::process::id()));
        // Of an earlier process of this number, if it is there.
        let _ = std::fs::remove_file(&temporary);
        let written = self.write(&temporary, text, is_private).map_err(failed);
        let outcome = written.and_then(|()| self.check()).and_then(|()| {
            let renamed = std::fs::rename(&temporary, &self.target);
            renamed.and_then(|()| sync_folder(&self.target)).map_err(failed)
        });
        if outcome.is_err() {
            for left in std::iter::once(&temporary).chain(&backup) {
                let _ = std::fs::remove_file(left);
            }
        }
        outcome?;
        self.forget_backups();
        Ok(Replaced { backup, made })
    }

    /// What the file held before it was changed here for the first time, if there is a copy of that.
    pub(super) fn first_text(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.backups().first()?).ok()?;
        Some(text.trim_start_matches(MARK).to_owned())
    }

    /// The copies beside the file, the oldest first.
    fn backups(&self) -> Vec<PathBuf> {
        let beside = std::fs::read_dir(folder_of(&self.target)).into_iter().flatten().flatten();
        let mut found: Vec<_> = beside.map(|file| file.path()).filter(|path| self.is_backup(path)).collect();
        // Those of one second have numbers, which are given anew.
        found.sort_by_cached_key(|path| path.metadata().and_then(|it| it.modified()).ok());
        found
    }

    fn is_backup(&self, path: &Path) -> bool {
        let [own, name] =
            [&self.target, path].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
        let time = name.strip_prefix(&*own).and_then(|end| end.strip_prefix(".trunkline-"));
        let (time, number) = time.map(|time| time.split_once('-').unwrap_or((time, "2"))).unwrap_or_default();
        time.len() == TIME.len()
            && time
                .bytes()
                .zip(TIME.bytes())
                .all(|(is, form)| is == form || (form == b'0' && is.is_ascii_digit()))
            && number.parse::<u32>().is_ok()
    }

    /// Removes the copies between the first and the newest.
    fn forget_backups(&self) {
        let backups = self.backups();
        let newest = backups.len().saturating_sub(NEWEST);
        for path in backups.get(1..newest).unwrap_or_default() {
            // One that stays does no harm.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Makes a file private that stays as it is otherwise.
    pub(super) fn make_private(&self) -> Result {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let metadata = std::fs::metadata(&self.target)?;
            if metadata.permissions().mode() & 0o077 != 0 {
                std::fs::set_permissions(&self.target, std::fs::Permissions::from_mode(0o600))?;
            }
        }
        Ok(())
    }

    /// Whether nobody else has changed the file meanwhile.
    fn check(&self) -> Result {
        let now = match std::fs::read(&self.target) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if now == self.bytes {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::new(
            Exit::Conflict,
            format!("{path} was changed meanwhile, and is left alone; run this again"),
        ))
    }

    fn make_folder(&self) -> std::io::Result<Option<PathBuf>> {
        let folder = folder_of(&self.target);
        if folder.is_dir() {
            return Ok(None);
        }
        std::fs::create_dir_all(folder)?;
        Ok(Some(folder.to_owned()))
    }

    /// Keeps a copy of the file, with the time in its name.
    fn back_up(&self) -> std::io::Result<Option<PathBuf>> {
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = OffsetDateTime::now_utc().format(format).map_err(std::io::Error::other)?;
        let mut number = 1;
        loop {
            let end = if number == 1 { String::new() } else { format!("-{number}") };
            let path = self.beside(&format!("trunkline-{time}{end}"));
            match private(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    return Ok(Some(path));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A path beside the file.
    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{end}"));
        self.target.with_file_name(name)
    }

    fn write(&self, path: &Path, text: &str, is_private: bool) -> std::io::Result<()> {
        let text = if self.has_returns { text.replace('\n', "\r\n") } else { text.to_owned() };
        let mut file = private(self.exists() || is_private).open(path)?;
        let mark = if self.has_mark { MARK } else { "" };
        file.write_all(mark.as_bytes())?;
        file.write_all(text.as_bytes())?;
        if self.exists() {
            self.keep_owner(&file, is_private)?;
        }
        file.sync_all()
    }

    /// Gives a file the owner and the permissions of the one that it replaces.
    #[cfg(unix)]
    fn keep_owner(&self, file: &File, is_private: bool) -> std::io::Result<()> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
        let (old, new) = (std::fs::metadata(&self.target)?, file.metadata()?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
        let mode = old.permissions().mode() & if is_private { 0o600 } else { 0o7777 };
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }

    #[cfg(not(unix))]
    fn keep_owner(&self, file: &File, _is_private: bool) -> std::io::Result<()> {
        file.set_permissions(std::fs::metadata(&self.target)?.permissions())
    }
}

/// Options for a new file, which only its owner can read where `is_private`.
fn private(is_private: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    options
}

/// What a path leads to, whether that exists or not.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = std::fs::read_link(&path) else { break };
        path = folder_of(&path).join(next);
    }
    path
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Brings what was renamed to disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_keeps_its_mark_line_ends_permissions_and_link_and_a_copy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        std::fs::write(&real, "\u{feff}a\r\nb\r\n").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        let file = HostFile::read(&link).unwrap();
        assert_eq!(file.text, "a\nb\n");
        let replaced = file.replace("a\nc\n", false).unwrap();
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "\u{feff}a\r\nc\r\n");
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("real.json"));
        assert_eq!(mode(&real), 0o640);
        let backup = replaced.backup.unwrap();
        assert_eq!(std::fs::read_to_string(&backup).unwrap(), "\u{feff}a\r\nb\r\n");
        assert_eq!(mode(&backup), 0o600);
        assert!(replaced.made.is_none());
        // A second within the same second has a copy of its own.
        let again = HostFile::read(&link).unwrap().replace("d\n", true).unwrap();
        assert_ne!(again.backup.unwrap(), backup);
        assert_eq!(mode(&real), 0o600);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 4);
    }

    #[test]
    fn of_many_copies_the_first_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let other = folder.path().join("f.trunkline-20260101T000000Z.mine");
        for path in [&path, &other] {
            std::fs::write(path, "0").unwrap();
        }
        for number in 1..=5 {
            HostFile::read(&path).unwrap().replace(&number.to_string(), false).unwrap();
        }
        let file = HostFile::read(&path).unwrap();
        assert_eq!((file.text.as_str(), file.first_text().as_deref()), ("5", Some("0")));
        let mut kept: Vec<_> =
            file.backups().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        kept.sort();
        assert_eq!(kept, ["0", "3", "4"]);
        assert!(other.exists());
    }

    #[test]
    fn line_ends_of_both_kinds_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mixed");
        std::fs::write(&path, "a\r\nb\n").unwrap();
        let file = HostFile::read(&path).unwrap();
        assert_eq!(file.text, "a\r\nb\n");
        file.replace("a\r\nb\nc\n", false).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\r\nb\nc\n");
    }

    #[test]
    fn a_file_that_is_not_there_is_made_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/new.json");
        let file = HostFile::read(&path).unwrap();
        assert!(!file.exists() && file.text.is_empty());
        let replaced = file.replace("x", true).unwrap();
        assert_eq!(replaced.made.unwrap(), folder.path().join("a/b"));
        assert!(replaced.backup.is_none());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_was_changed_meanwhile_or_is_no_text_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let file = HostFile::read(&path).unwrap();
        std::fs::write(&path, "b").unwrap();
        let error = file.replace("c", false).unwrap_err();
        assert_eq!(error.exit, Exit::Conflict);
        assert!(error.to_string().contains("was changed meanwhile"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b");
        std::fs::write(&path, b"\xff\xfe{\0").unwrap();
        let error = HostFile::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("it is not UTF-8; save it as UTF-8"), "{error}");
    }
}
