//! The texts that `-f` names: files, folders, patterns and stdin.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A text, and where it is from.
pub(super) struct Text {
    /// Its name in messages.
    pub(super) label: String,
    /// The folder that paths in it start from.
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

/// Reads what is named, in order.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Text>> {
    let (mut texts, mut has_stdin) = (Vec::new(), false);
    for path in paths {
        if path.as_os_str() == "-" {
            if std::mem::replace(&mut has_stdin, true) {
                return Err(Error::usage("-f - is given twice; stdin can be read once"));
            }
            texts.push(stdin()?);
            continue;
        }
        for file in files(path)? {
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            texts.push(Text { label: file.display().to_string(), folder, text });
        }
    }
    Ok(texts)
}

fn stdin() -> Result<Text> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable(Path::new("stdin"), &error))?;
    Ok(Text { label: "stdin".to_owned(), folder: PathBuf::new(), text })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    if error.kind() == ErrorKind::InvalidData {
        return Error::usage(format!("{} is not UTF-8; save it as that", path.display()));
    }
    Error::usage(format!("cannot read {}: {error}", path.display()))
}

/// The files that a word names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let word = path.to_string_lossy();
    if ["http://", "https://"].iter().any(|scheme| word.starts_with(scheme)) {
        return Err(Error::usage(format!(
            "-f takes files, and no URLs; fetch it first, as in `curl -fsSL {word} | mcpctl apply -f -`"
        )));
    }
    let named =
        if !path.exists() && word.contains(['*', '?']) { matching(path)? } else { vec![path.to_owned()] };
    let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
    for path in named {
        collect(&path, &path, &mut files, &mut folders)?;
    }
    Ok(files)
}

/// Collects a file, or the resource files below a folder. A folder that is met again by a link is not entered again.
fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>, folders: &mut BTreeSet<PathBuf>) -> Result {
    if !path.is_dir() {
        let is_resource = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if path == root || is_resource {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let same = std::fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
    if !folders.insert(same) {
        return Ok(());
    }
    for path in listed(path)? {
        if !is_hidden(&path) {
            collect(root, &path, files, folders)?;
        }
    }
    Ok(())
}

/// What is in a folder, sorted.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
    let entries = entries.map_err(|error| unreadable(folder, &error))?;
    let mut paths: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The paths that match a pattern, for shells that do not expand it.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part_text = part.as_os_str().to_string_lossy();
        if !matches!(part, Component::Normal(_)) || !part_text.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in found {
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            if !here.is_dir() {
                continue;
            }
            let names = listed(here)?.into_iter().filter(|path| !is_hidden(path));
            let names =
                names.filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
            next.extend(names.filter(|name| matches(&part_text, name)).map(|name| folder.join(name)));
        }
        found = next;
    }
    found.retain(|path| path.exists());
    if found.is_empty() {
        return Err(Error::usage(format!("no file matches {}", pattern.display())));
    }
    Ok(found)
}

/// Whether a name matches a pattern of `*` (any characters) and `?` (one).
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < name.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(c) if *c == '?' || *c == name[at] => (at, of) = (at + 1, of + 1),
            // The last star takes one more.
            _ => match &mut star {
                Some((before, taken)) => {
                    *taken += 1;
                    (at, of) = (*taken, *before + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "ab", true),
            ("a?", "a", false),
            ("?é", "xé", true),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_patterns_and_links_name_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["a.yaml", "b/c.json", "b/d.txt", "b/.hidden.yaml"] {
            std::fs::create_dir_all(root.join("b")).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();
        let named = |word: &str| -> Vec<String> {
            let found = files(&root.join(word)).unwrap();
            found.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
        };
        assert_eq!(named(""), ["a.yaml", "b/c.json"]);
        assert_eq!(named("*/*.json"), ["b/c.json"]);
        assert_eq!(named("b/d.txt"), ["b/d.txt"]);
        let error = files(&root.join("*.toml")).unwrap_err().to_string();
        assert!(error.starts_with("no file matches "), "{error}");
        let error = files(Path::new("https://example.com/a.yaml")).unwrap_err().to_string();
        assert!(error.contains("curl -fsSL https://example.com/a.yaml | mcpctl apply -f -"), "{error}");
    }
}
