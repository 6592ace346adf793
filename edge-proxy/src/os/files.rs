//! Files in the data directory: written whole or not at all, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::clock;

/// Makes the data directory, for its owner alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Replaces `path`: a reader finds the old content or the new, also after the power failed. Two writes of one path at once are
/// for the caller to prevent.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    // Of the whole name: `a.b` and `a.c` are written beside each other.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let mut file = private(beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads `path`; `None` where there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes `path`, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a file out of the way that cannot be used: `snapshot` as `snapshot.bad-…`, `snapshot.key` as `snapshot.key.bad-…`.
pub(crate) fn move_aside(path: &Path, error: &str) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".bad-{}", clock::now()));
    let renamed = fs::rename(path, &aside);
    tracing::error!(
        path = %path.display(),
        aside = %Path::new(&aside).display(),
        moved = renamed.is_ok(),
        error,
        "a file cannot be used; it is moved aside, and made anew"
    );
}

fn private(path: &Path) -> io::Result<File> {
    // A file left over from a crash may have been made by another program, with other rights.
    remove(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        make_folder(&data).unwrap();
        make_folder(&data).unwrap();
        let path = data.join("file");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        fs::write(data.join("file.new"), b"left over").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    }

    #[test]
    fn files_that_differ_in_their_extension_do_not_meet_while_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        // What the first is written to is in the way: the second is written all the same.
        fs::create_dir(folder.path().join("file.one.new")).unwrap();
        write(&folder.path().join("file.one"), b"1").unwrap_err();
        write(&folder.path().join("file.two"), b"2").unwrap();
    }
}
