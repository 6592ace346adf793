//! The id of this edge: as configured, else one that is made once and kept.

use std::io;
use std::path::Path;

use crate::config::edge_id;
use crate::os::files;

const FILE: &str = "edge.id";
const LONGEST_HOST: usize = 40;

/// Returns the configured id, else the one kept in `folder`, else makes one of the host's name and keeps it.
pub(crate) fn load_or_create(configured: Option<&str>, folder: &Path) -> io::Result<String> {
    if let Some(id) = configured {
        return Ok(id.to_owned());
    }
    let path = folder.join(FILE);
    let kept = files::read(&path)?.and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(id) = kept.and_then(|text| edge_id(text.trim()).ok()) {
        return Ok(id);
    }
    let host =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|f| std::fs::read_to_string(f).ok());
    let id = make(&host.unwrap_or_default(), rand::random());
    files::write(&path, id.as_bytes())?;
    Ok(id)
}

fn make(host: &str, random: u32) -> String {
    let first = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let kept: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(LONGEST_HOST).collect();
    let host = kept.trim_matches('-');
    if host.is_empty() { format!("edge-{random:08x}") } else { format!("{host}-{random:08x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_valid_whatever_the_host_is_called() {
        for (host, expected) in [
            ("Web-1.example.com\n", "web-1-0000002a"),
            ("", "edge-0000002a"),
            ("-_-", "edge-0000002a"),
            ("bücher", "bcher-0000002a"),
            (&"x".repeat(80), &format!("{}-0000002a", "x".repeat(40))),
        ] {
            let made = make(host, 42);
            assert_eq!(made, expected);
            assert!(edge_id(&made).is_ok());
        }
    }

    #[test]
    fn a_made_id_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(None, folder.path()).unwrap();
        assert_eq!(load_or_create(None, folder.path()).unwrap(), first);
        assert_eq!(load_or_create(Some("e1"), folder.path()).unwrap(), "e1");
        std::fs::write(folder.path().join(FILE), "Not An Id").unwrap();
        assert_ne!(load_or_create(None, folder.path()).unwrap(), first);
    }
}
