//! Folders in which the processes of a test write: what failed leaves its logs. It must not know what runs there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A folder under `target/journeys` with the name of the test. Removed when dropped, unless the test fails.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Takes the name of the thread, which is that of the test; a second one gets a number.
    pub(crate) fn new() -> Self {
        let test = std::thread::current().name().unwrap_or("main").replace("::", ".");
        let journeys = journeys();
        std::fs::create_dir_all(&journeys).unwrap();
        for number in 1.. {
            let name = if number == 1 { test.clone() } else { format!("{test}.{number}") };
            let path = journeys.join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Of a test that failed before, or of this one.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        unreachable!("numbers do not end");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the logs of this test's processes are in {} ---", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Where the folders are. `tests/run.py` empties it before a run, and names at the end what is left in it.
pub(crate) fn journeys() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("journeys")
}
