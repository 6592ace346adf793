//! Files below a folder, and nothing else: no link leads out of it, and what is no file is not opened.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use mcp::border::text_without_mark;
use zeroize::Zeroizing;

use super::document::{Document, MAX_BYTES};

/// The folder below which the files of teams are.
const TEAMS: &str = "teams";

/// Reads a file without a byte order mark and the newlines at its end. What belongs to a team is below the folder of the team, also
/// after links are followed.
pub(super) fn read(folder: &Path, path: &str) -> Result<Document, String> {
    let path = Path::new(path);
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            _ => return Err("the path is none below the folder".to_owned()),
        }
    }
    let root = match parts.as_slice() {
        [teams, team, _, ..] if *teams == TEAMS => real(&folder.join(TEAMS).join(team))?,
        _ => real(folder)?,
    };
    let outside = || "the path leads out of its folder".to_owned();
    if !root.starts_with(real(folder)?) {
        return Err(outside());
    }
    let file = real(&folder.join(path))?;
    if !file.starts_with(&root) {
        return Err(outside());
    }
    read_regular(&file)
}

/// The path without links.
fn real(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| unreadable(&error))
}

fn read_regular(path: &Path) -> Result<Document, String> {
    let found = path.symlink_metadata().map_err(|error| unreadable(&error))?;
    // To open a pipe waits for who writes into it, and a device may have no end.
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    file.take(MAX_BYTES as u64 + 3).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() > MAX_BYTES + 2 {
        return Err(format!("the file is larger than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "the file is no UTF-8 text".to_owned())?;
    let text = text_without_mark(text).trim_end_matches(['\r', '\n']);
    // It may be about to be written.
    if text.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok(Document::Text(Zeroizing::new(text.to_owned())))
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "the control plane may not read the file".to_owned(),
        kind => format!("the file cannot be read: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn said(folder: &Path, path: &str) -> String {
        match read(folder, path) {
            Ok(document) => document.secret("").unwrap_or_else(|error| error),
            Err(error) => error,
        }
    }

    #[test]
    fn files_below_the_folder_are_read_and_nothing_else_is() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("secrets");
        std::fs::create_dir_all(folder.join("teams/core")).unwrap();
        std::fs::create_dir_all(folder.join("teams/other")).unwrap();
        for (path, text) in [
            ("secrets/plain", "\u{feff}s3cret\r\n\n"),
            ("outside", "stolen"),
            ("secrets/teams/core/own", "core"),
            ("secrets/teams/other/own", "other"),
            ("secrets/empty", "\n"),
        ] {
            std::fs::write(outer.path().join(path), text).unwrap();
        }
        std::fs::write(folder.join("bytes"), [0xff, 0xfe]).unwrap();
        symlink(outer.path().join("outside"), folder.join("escape")).unwrap();
        symlink("../outside", folder.join("escape2")).unwrap();
        symlink("../other/own", folder.join("teams/core/theirs")).unwrap();
        symlink("/dev/zero", folder.join("zero")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
        let out = "the path leads out of its folder";
        for (path, expected) in [
            ("plain", "s3cret"),
            ("teams/core/own", "core"),
            ("empty", "the file is empty"),
            ("escape", out),
            ("escape2", out),
            ("zero", out),
            ("teams/core/theirs", out),
            ("../outside", "the path is none below the folder"),
            ("teams/../../outside", "the path is none below the folder"),
            ("/etc/hostname", "the path is none below the folder"),
            ("pipe", "it is no regular file"),
            ("teams", "it is no regular file"),
            ("gone", "the file does not exist"),
            ("bytes", "the file is no UTF-8 text"),
        ] {
            assert_eq!(said(&folder, path), expected, "{path}");
        }
        assert!(said(&folder, "loop").starts_with("the file cannot be read"));
    }

    #[test]
    fn a_mount_of_kubernetes_is_read_and_so_is_what_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["..1", "..2"] {
            std::fs::create_dir_all(folder.path().join(version).join("teams/core")).unwrap();
            std::fs::write(folder.path().join(version).join("token"), version).unwrap();
            std::fs::write(folder.path().join(version).join("teams/core/token"), version).unwrap();
        }
        symlink("..1", folder.path().join("..data")).unwrap();
        symlink("..data/token", folder.path().join("token")).unwrap();
        symlink("..data/teams", folder.path().join("teams")).unwrap();
        assert_eq!(
            (said(folder.path(), "token"), said(folder.path(), "teams/core/token")),
            ("..1".into(), "..1".into())
        );
        symlink("..2", folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        assert_eq!(
            (said(folder.path(), "token"), said(folder.path(), "teams/core/token")),
            ("..2".into(), "..2".into())
        );
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fits"), "x".repeat(MAX_BYTES) + "\r\n").unwrap();
        std::fs::write(folder.path().join("large"), "x".repeat(MAX_BYTES + 1)).unwrap();
        std::fs::write(folder.path().join("huge"), "x".repeat(1 << 20)).unwrap();
        assert_eq!(said(folder.path(), "fits").len(), MAX_BYTES);
        assert_eq!(said(folder.path(), "large"), "it is larger than 65536 bytes");
        assert_eq!(said(folder.path(), "huge"), "the file is larger than 65536 bytes");
    }
}
