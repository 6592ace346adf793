//! The hosts, one row each: where an entry stands in the host's file, how it is written, and how it names its bearer. Pure.

use super::places::{HostPlace, Root};

/// A host, or a library that a program is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Host {
    /// Claude Desktop; with --via http, Claude Code
    Claude,
    /// Claude Desktop
    ClaudeDesktop,
    /// Claude Code
    ClaudeCode,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    Vscode,
    /// Windsurf
    Windsurf,
    /// Zed
    Zed,
    /// Gemini CLI
    Gemini,
    /// Codex
    Codex,
    /// Goose
    Goose,
    /// LM Studio
    LmStudio,
    /// Cline
    Cline,
    /// Junie, and AI Assistant in JetBrains IDEs
    Jetbrains,
    /// The FastMCP client (Python)
    Fastmcp,
    /// The MCP SDK for Python
    Python,
    /// The MCP SDK for TypeScript
    Typescript,
}

/// How a host reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Via {
    /// By its URL
    Http,
    /// By running `mcpctl connect`
    Stdio,
}

/// The transport of a connection by URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wire {
    /// Streamable HTTP
    Http,
    /// HTTP+SSE, for hosts and libraries that support nothing newer
    Sse,
}

/// The syntax of a host's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON, with comments and commas at the end of lists.
    Jsonc,
    Toml,
    Yaml,
}

/// How an entry with a URL names its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BearerForm {
    /// By a variable of the environment: what stands before and after its name.
    Variable(&'static str, &'static str),
    /// By a variable that the entry must list, too.
    Listed,
    /// By the name of a variable, in a member of its own; anything else is rejected.
    NameOnly,
    /// By an input, for which the host asks.
    Input,
    /// Not at all: the entry holds the bearer itself.
    Literal,
}

/// The member that holds the URL, and what `type` says.
pub(super) type UrlMember = (&'static str, Option<&'static str>);

/// How an entry with a URL is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct UrlForm {
    pub(super) http: UrlMember,
    pub(super) sse: Option<UrlMember>,
    pub(super) bearer: BearerForm,
}

/// How an entry with a command is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct StdioForm {
    pub(super) kind: Option<&'static str>,
    pub(super) command: &'static str,
    pub(super) env: &'static str,
}

/// A host.
#[derive(Debug)]
pub(super) struct HostSpec {
    pub(super) host: Host,
    /// Its name, as its maker writes it.
    pub(super) title: &'static str,
    pub(super) syntax: Syntax,
    /// The member of the file that holds the servers.
    pub(super) at: &'static str,
    /// `None`: it runs commands only.
    pub(super) url: Option<UrlForm>,
    pub(super) stdio: StdioForm,
    pub(super) via: Via,
    /// Where its file may be, best first.
    pub(super) places: &'static [HostPlace],
    /// The same in words, with the file of a project where there is one.
    pub(super) place: &'static str,
    /// What its user must do for a changed file to count.
    pub(super) then: &'static str,
}

const COMMAND: StdioForm = StdioForm { kind: None, command: "command", env: "env" };
const TYPED_COMMAND: StdioForm = StdioForm { kind: Some("stdio"), ..COMMAND };
/// The member has the name of what it holds.
const URL: UrlForm = UrlForm { http: ("url", None), sse: None, bearer: BearerForm::Literal };
const TYPED_URL: UrlForm =
    UrlForm { http: ("url", Some("http")), sse: Some(("url", Some("sse"))), bearer: BearerForm::Literal };

/// As most hosts are, which took it from Claude Desktop; its row says the rest.
const RUNS_COMMANDS: HostSpec = HostSpec {
    host: Host::ClaudeDesktop,
    title: "",
    syntax: Syntax::Jsonc,
    at: "mcpServers",
    url: None,
    stdio: COMMAND,
    via: Via::Stdio,
    places: &[],
    place: "",
    then: "",
};
/// The same for those that take a URL and name its bearer.
const TAKES_URLS: HostSpec = HostSpec { via: Via::Http, ..RUNS_COMMANDS };

/// The hosts. The page of each is named in docs/OPERATIONS.md.
pub(super) static HOSTS: [HostSpec; 12] = [
    HostSpec {
        host: Host::ClaudeDesktop,
        title: "Claude Desktop",
        places: &[
            // From the Microsoft Store, where %APPDATA% is not what the program sees.
            HostPlace::on_windows(
                Root::LocalData,
                "Packages/Claude_pzs8sxrjxfjjc",
                "Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude/claude_desktop_config.json",
            ),
            HostPlace::new(Root::Config, "Claude", "Claude/claude_desktop_config.json"),
        ],
        place: "claude_desktop_config.json (Settings, Developer, Edit Config)",
        then: "Claude Desktop reads its file when it starts, and may write it when it ends: if it is running, quit it and run this again.",
        ..RUNS_COMMANDS
    },
    HostSpec {
        host: Host::ClaudeCode,
        title: "Claude Code",
        url: Some(UrlForm { bearer: BearerForm::Variable("${", "}"), ..TYPED_URL }),
        stdio: TYPED_COMMAND,
        places: &[
            HostPlace::new(Root::Variable("CLAUDE_CONFIG_DIR"), "", ".claude.json"),
            HostPlace::new(Root::Home, ".claude", ".claude.json"),
            HostPlace::new(Root::Home, ".claude.json", ".claude.json"),
        ],
        place: "~/.claude.json, or .mcp.json of a project",
        then: "Claude Code reads it when it starts.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Cursor,
        title: "Cursor",
        url: Some(UrlForm { sse: Some(("url", None)), bearer: BearerForm::Variable("${env:", "}"), ..URL }),
        places: &[HostPlace::new(Root::Home, ".cursor", ".cursor/mcp.json")],
        place: "~/.cursor/mcp.json, or .cursor/mcp.json of a project",
        then: "Cursor reads it when it changes; Settings, MCP shows what became of it.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Vscode,
        title: "Visual Studio Code",
        at: "servers",
        url: Some(UrlForm { bearer: BearerForm::Input, ..TYPED_URL }),
        stdio: TYPED_COMMAND,
        places: &[
            HostPlace::new(Root::Config, "Code", "Code/User/mcp.json"),
            HostPlace::new(Root::Config, "Code - Insiders", "Code - Insiders/User/mcp.json"),
            HostPlace::new(Root::Config, "VSCodium", "VSCodium/User/mcp.json"),
        ],
        place: "the user's mcp.json (MCP: Open User Configuration), or .vscode/mcp.json of a project",
        then: "Visual Studio Code starts it from the lens above the entry, or at the next chat.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Windsurf,
        title: "Windsurf",
        url: Some(UrlForm {
            http: ("serverUrl", None),
            sse: Some(("serverUrl", None)),
            bearer: BearerForm::Variable("${env:", "}"),
        }),
        places: &[HostPlace::new(Root::Home, ".codeium", ".codeium/windsurf/mcp_config.json")],
        place: "~/.codeium/windsurf/mcp_config.json",
        then: "Press Refresh in Windsurf's list of MCP servers.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Zed,
        title: "Zed",
        at: "context_servers",
        url: Some(URL),
        places: &[
            HostPlace::on_unix(Root::UnixConfig, "zed", "zed/settings.json"),
            HostPlace::on_windows(Root::Config, "Zed", "Zed/settings.json"),
        ],
        place: "settings.json (zed: open settings file), or .zed/settings.json of a project",
        then: "Zed reads it when it changes.",
        ..RUNS_COMMANDS
    },
    HostSpec {
        host: Host::Gemini,
        title: "Gemini CLI",
        url: Some(UrlForm {
            http: ("httpUrl", None),
            sse: Some(("url", None)),
            bearer: BearerForm::Variable("${", "}"),
        }),
        places: &[HostPlace::new(Root::Home, ".gemini", ".gemini/settings.json")],
        place: "~/.gemini/settings.json, or .gemini/settings.json of a project",
        then: "Gemini CLI reads it when it starts.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Codex,
        title: "Codex",
        syntax: Syntax::Toml,
        at: "mcp_servers",
        url: Some(UrlForm { bearer: BearerForm::NameOnly, ..URL }),
        places: &[
            HostPlace::new(Root::Variable("CODEX_HOME"), "", "config.toml"),
            HostPlace::new(Root::Home, ".codex", ".codex/config.toml"),
        ],
        place: "~/.codex/config.toml, or .codex/config.toml of a project",
        then: "Codex reads it when it starts.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::Goose,
        title: "Goose",
        syntax: Syntax::Yaml,
        at: "extensions",
        url: Some(UrlForm { http: ("uri", Some("streamable_http")), sse: None, bearer: BearerForm::Listed }),
        stdio: StdioForm { kind: Some("stdio"), command: "cmd", env: "envs" },
        places: &[
            HostPlace::on_unix(Root::UnixConfig, "goose", "goose/config.yaml"),
            HostPlace::on_windows(Root::Config, "Block/goose", "Block/goose/config/config.yaml"),
        ],
        place: "~/.config/goose/config.yaml",
        then: "Goose reads it when a session starts.",
        ..TAKES_URLS
    },
    HostSpec {
        host: Host::LmStudio,
        title: "LM Studio",
        url: Some(URL),
        places: &[
            HostPlace::new(Root::Home, ".lmstudio", ".lmstudio/mcp.json"),
            HostPlace::new(Root::Home, ".cache/lm-studio", ".cache/lm-studio/mcp.json"),
        ],
        place: "~/.lmstudio/mcp.json (Program, Install, Edit mcp.json)",
        then: "LM Studio reads it when it changes.",
        ..RUNS_COMMANDS
    },
    HostSpec {
        host: Host::Cline,
        title: "Cline",
        url: Some(UrlForm { http: ("url", Some("streamableHttp")), ..TYPED_URL }),
        places: &[
            HostPlace::new(
                Root::Config,
                "Code/User/globalStorage/saoudrizwan.claude-dev",
                "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            ),
            HostPlace::new(Root::Home, ".cline", ".cline/data/settings/cline_mcp_settings.json"),
        ],
        place: "cline_mcp_settings.json (MCP Servers, Configure)",
        then: "Cline reads it when it changes.",
        ..RUNS_COMMANDS
    },
    HostSpec {
        host: Host::Jetbrains,
        title: "Junie",
        url: Some(URL),
        places: &[
            HostPlace::new(Root::Home, ".junie", ".junie/mcp/mcp.json"),
            HostPlace::new(Root::Config, "JetBrains", "").with_file_in(Root::Home, ".junie/mcp/mcp.json"),
        ],
        place: "~/.junie/mcp/mcp.json, or .junie/mcp/mcp.json of a project",
        then: "Junie reads it when it starts. AI Assistant has no file: paste what is printed without --write into Settings, Tools, AI Assistant, Model Context Protocol.",
        ..RUNS_COMMANDS
    },
];

impl Host {
    /// Its row; `None` for libraries, and for the name that means two hosts.
    pub(super) fn spec(self) -> Option<&'static HostSpec> {
        HOSTS.iter().find(|spec| spec.host == self)
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Wire {
    /// Returns the URL of this transport for a server whose Streamable HTTP is at `url`.
    pub(super) fn address(self, url: &str) -> String {
        match (self, url.strip_suffix("/mcp")) {
            (Self::Sse, Some(server)) => format!("{server}/sse"),
            _ => url.to_owned(),
        }
    }
}

impl UrlForm {
    /// The members for a transport; `None` where the host has none.
    pub(super) fn members(&self, wire: Wire) -> Option<UrlMember> {
        if wire == Wire::Sse { self.sse } else { Some(self.http) }
    }
}

impl BearerForm {
    /// Whether it names a variable of the environment.
    pub(super) fn is_variable(self) -> bool {
        matches!(self, Self::Variable(..) | Self::Listed | Self::NameOnly)
    }
}

/// The names of the hosts that are so, for messages.
pub(super) fn names(is_so: impl Fn(&HostSpec) -> bool) -> String {
    let names: Vec<_> = HOSTS.iter().filter(|spec| is_so(spec)).map(|spec| spec.host.name()).collect();
    names.join(", ")
}
