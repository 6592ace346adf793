//! The folders in which a user's own files are.

use std::path::PathBuf;

/// Returns the user's data folder (`$XDG_DATA_HOME`, else `~/.local/share`).
pub fn data_home() -> PathBuf {
    home("XDG_DATA_HOME", ".local/share")
}

/// Returns the user's folder for what can be made again (`$XDG_CACHE_HOME`, else `~/.cache`).
pub fn cache_home() -> PathBuf {
    home("XDG_CACHE_HOME", ".cache")
}

/// Returns the user's folder for settings (`$XDG_CONFIG_HOME`, else `~/.config`).
pub(super) fn config_home() -> PathBuf {
    home("XDG_CONFIG_HOME", ".config")
}

fn home(variable: &str, otherwise: &str) -> PathBuf {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(path) => path.into(),
        None => std::env::home_dir().unwrap_or_default().join(otherwise),
    }
}
