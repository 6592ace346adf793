//! Files that only their owner can read, replaced as a whole.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Brings what was renamed in the folder of a file to disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces a file by one that only its owner can read, or leaves it as it is.
pub(super) fn replace_private(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("yaml.{}", std::process::id()));
    let write = || {
        let mut file = open_private(&temporary)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| _ = std::fs::remove_file(&temporary))?;
    sync_folder(path)
}

/// Opens a file that only its owner can read.
pub(super) fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
