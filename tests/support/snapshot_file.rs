//! Comparison of a text with a file that is reviewed. It must not know what the text says.

use std::collections::BTreeSet;
use std::path::Path;

/// Compares a text with its file, or writes the file if `UPDATE_MESSAGES` is set. `command` runs this comparison.
pub(crate) fn compare(path: &Path, text: &str, command: &str) {
    if std::env::var_os("UPDATE_MESSAGES").is_some() {
        return std::fs::write(path, text).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let diff = |from: &str, to: &str, sign: char| -> String {
        let to: BTreeSet<&str> = to.lines().collect();
        from.lines().filter(|line| !to.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    assert!(
        known == text,
        "{} differs; read the changes, then run `UPDATE_MESSAGES=1 {command}`:\n{}{}",
        path.display(),
        diff(&known, text, '-'),
        diff(text, &known, '+')
    );
}
