//! Where the files of hosts are on each system. Pure: the system, the home folder and the variables are given.

use std::path::{Path, PathBuf};

/// What hosts tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    MacOs,
    Windows,
}

/// A folder that is elsewhere on each system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Home,
    /// That of programs: `$XDG_CONFIG_HOME`, `~/Library/Application Support`, `%APPDATA%`.
    Config,
    /// `$XDG_CONFIG_HOME` on macOS, too.
    UnixConfig,
    /// `%LOCALAPPDATA%`.
    LocalData,
    /// That of a variable of the environment, if it is set.
    Variable(&'static str),
}

/// Where the file of a host may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostPlace {
    systems: &'static [System],
    /// What is there when the host is installed.
    installed: (Root, &'static str),
    file: (Root, &'static str),
}

/// This machine, as far as hosts look at it.
pub(super) struct Machine<'a> {
    pub(super) system: System,
    pub(super) home: PathBuf,
    /// Values of variables.
    pub(super) variable: &'a dyn Fn(&str) -> Option<PathBuf>,
}

/// A file of a host, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFile {
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    /// Whether the host is installed, as far as its folder tells.
    pub(super) is_installed: bool,
    /// The folder that tells it.
    pub(super) folder: PathBuf,
}

const ALL: &[System] = &[System::Linux, System::MacOs, System::Windows];

impl HostPlace {
    pub(super) const fn new(root: Root, installed: &'static str, file: &'static str) -> Self {
        Self { systems: ALL, installed: (root, installed), file: (root, file) }
    }

    pub(super) const fn on_unix(root: Root, installed: &'static str, file: &'static str) -> Self {
        Self { systems: &[System::Linux, System::MacOs], ..Self::new(root, installed, file) }
    }

    pub(super) const fn on_windows(root: Root, installed: &'static str, file: &'static str) -> Self {
        Self { systems: &[System::Windows], ..Self::new(root, installed, file) }
    }

    /// The same, with a file that is elsewhere than the host.
    pub(super) const fn with_file_in(self, root: Root, file: &'static str) -> Self {
        Self { file: (root, file), ..self }
    }
}

impl Machine<'_> {
    /// The files that a host may have here, best first. Each is there once.
    pub(super) fn files(&self, places: &[HostPlace]) -> Vec<FoundFile> {
        let mut found: Vec<FoundFile> = Vec::new();
        for place in places.iter().filter(|place| place.systems.contains(&self.system)) {
            let (Some(folder), Some(path)) = (self.path(place.installed), self.path(place.file)) else {
                continue;
            };
            let (exists, is_installed) = (path.exists(), folder.exists());
            match found.iter_mut().find(|file| file.path == path) {
                Some(known) => known.is_installed |= is_installed,
                None => found.push(FoundFile { path, exists, is_installed, folder }),
            }
            // Who sets such a variable has moved the host, and what is elsewhere is not read.
            if matches!(place.file.0, Root::Variable(_)) {
                break;
            }
        }
        found
    }

    fn path(&self, (root, inside): (Root, &str)) -> Option<PathBuf> {
        let root = self.root(root)?;
        Some(inside.split('/').filter(|part| !part.is_empty()).fold(root, |path, part| path.join(part)))
    }

    fn root(&self, root: Root) -> Option<PathBuf> {
        let own = |name: &str, otherwise: &str| {
            let set =
                (self.variable)(name).filter(|path| path.is_absolute() || self.system == System::Windows);
            set.unwrap_or_else(|| joined(&self.home, otherwise))
        };
        Some(match (root, self.system) {
            (Root::Home, _) => self.home.clone(),
            (Root::Variable(name), _) => (self.variable)(name)?,
            (Root::Config, System::MacOs) => joined(&self.home, "Library/Application Support"),
            (Root::Config | Root::UnixConfig, System::Windows) => own("APPDATA", "AppData/Roaming"),
            (Root::LocalData, _) => own("LOCALAPPDATA", "AppData/Local"),
            (Root::Config | Root::UnixConfig, _) => own("XDG_CONFIG_HOME", ".config"),
        })
    }
}

fn joined(home: &Path, inside: &str) -> PathBuf {
    inside.split('/').fold(home.to_owned(), |path, part| path.join(part))
}

/// The system that this program was built for.
pub(super) const fn system() -> System {
    if cfg!(target_os = "macos") {
        System::MacOs
    } else if cfg!(windows) {
        System::Windows
    } else {
        System::Linux
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosts::{HOSTS, Host};
    use super::*;

    /// The files of every host under a home folder, with `~` for it.
    fn files(system: System, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(PathBuf::from(found.1))
        };
        let machine = Machine { system, home: "/h".into(), variable: &variable };
        let of = |spec: &super::super::hosts::HostSpec| {
            let files = machine.files(spec.places).into_iter();
            let paths: Vec<_> =
                files.map(|file| file.path.display().to_string().replacen("/h/", "~/", 1)).collect();
            format!("{}: {}", spec.host.name(), paths.join(" | "))
        };
        HOSTS.iter().map(of).collect()
    }

    #[test]
    fn every_system_has_its_own_places() {
        assert_eq!(
            files(System::Linux, &[]),
            [
                "claude-desktop: ~/.config/Claude/claude_desktop_config.json",
                "claude-code: ~/.claude.json",
                "cursor: ~/.cursor/mcp.json",
                "vscode: ~/.config/Code/User/mcp.json | ~/.config/Code - Insiders/User/mcp.json | ~/.config/VSCodium/User/mcp.json",
                "windsurf: ~/.codeium/windsurf/mcp_config.json",
                "zed: ~/.config/zed/settings.json",
                "gemini: ~/.gemini/settings.json",
                "codex: ~/.codex/config.toml",
                "goose: ~/.config/goose/config.yaml",
                "lm-studio: ~/.lmstudio/mcp.json | ~/.cache/lm-studio/mcp.json",
                "cline: ~/.config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json | ~/.cline/data/settings/cline_mcp_settings.json",
                "jetbrains: ~/.junie/mcp/mcp.json",
            ]
        );
        let mac = files(System::MacOs, &[("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(mac[0], "claude-desktop: ~/Library/Application Support/Claude/claude_desktop_config.json");
        assert!(mac[3].starts_with("vscode: ~/Library/Application Support/Code/User/mcp.json |"), "{mac:?}");
        assert_eq!((&*mac[5], &*mac[8]), ("zed: /x/zed/settings.json", "goose: /x/goose/config.yaml"));
        let windows = files(System::Windows, &[("APPDATA", "/h/R")]);
        assert_eq!(
            windows[0],
            "claude-desktop: ~/AppData/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude/claude_desktop_config.json | ~/R/Claude/claude_desktop_config.json"
        );
        assert_eq!(
            (&*windows[5], &*windows[8], &*windows[2]),
            (
                "zed: ~/R/Zed/settings.json",
                "goose: ~/R/Block/goose/config/config.yaml",
                "cursor: ~/.cursor/mcp.json"
            )
        );
    }

    #[test]
    fn variables_move_what_they_are_for() {
        let moved = [("XDG_CONFIG_HOME", "/x"), ("CODEX_HOME", "/c"), ("CLAUDE_CONFIG_DIR", "/d")];
        let linux = files(System::Linux, &moved);
        assert_eq!(linux[1], "claude-code: /d/.claude.json");
        assert_eq!(linux[5], "zed: /x/zed/settings.json");
        assert_eq!(linux[7], "codex: /c/config.toml");
    }

    #[test]
    fn a_host_is_installed_where_its_folder_is() {
        let home = tempfile::tempdir().unwrap();
        let none = |_: &str| None;
        let machine = Machine { system: System::Linux, home: home.path().to_owned(), variable: &none };
        let junie = Host::Jetbrains.spec().unwrap();
        assert!(!machine.files(junie.places)[0].is_installed);
        std::fs::create_dir_all(home.path().join(".config/JetBrains")).unwrap();
        let found = machine.files(junie.places);
        assert_eq!(found.len(), 1);
        assert!(found[0].is_installed && !found[0].exists);
    }
}
