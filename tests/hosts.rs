//! `mcpctl client-config --write`: the files of hosts get an entry, keep everything else, and give the entry back; and a client that is
//! started from what was written calls a tool.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};
use crate::support::upstreams::Upstreams;
use crate::support::{PATIENCE, binary, root, tool};

/// A host: its folder in a home, its file, and what its user has written there.
const HOSTS: [(&str, &str, &str, &str); 12] = [
    (
        "claude-desktop",
        ".config/Claude",
        "claude_desktop_config.json",
        "{\n  \"globalShortcut\": \"\",\n  \"mcpServers\": {\n    \"files\": {\"command\": \"npx\", \"args\": [\"-y\", \"files\"]}\n  }\n}",
    ),
    (
        "claude-code",
        "",
        ".claude.json",
        "{\"numStartups\":3,\"projects\":{\"/p\":{\"mcpServers\":{}}},\"mcpServers\":{\"a\":{\"command\":\"a\"}}}",
    ),
    (
        "cursor",
        ".cursor",
        "mcp.json",
        "{\n\t// mine\n\t\"mcpServers\": {\n\t\t\"a\": { \"url\": \"http://a\" }, // first\n\t},\n}\n",
    ),
    (
        "vscode",
        ".config/Code",
        "User/mcp.json",
        "{\r\n  \"inputs\": [\r\n    { \"id\": \"key\" }\r\n  ],\r\n  \"servers\": {\r\n    \"a\": { \"type\": \"http\", \"url\": \"http://a\" }\r\n  }\r\n}\r\n",
    ),
    ("windsurf", ".codeium", "windsurf/mcp_config.json", "{\n  \"mcpServers\": {\n    \"a\": {}\n  }\n}\n"),
    (
        "zed",
        ".config/zed",
        "settings.json",
        "// Zed settings\n//\n// See the documentation.\n{\n  \"ui_font_size\": 16, /* é */\n  \"context_servers\": {\n    // Others.\n    \"a\": { \"command\": \"a\", \"args\": [] }\n  },\n  \"theme\": \"One\"\n}\n",
    ),
    (
        "gemini",
        ".gemini",
        "settings.json",
        "\u{feff}{\n  \"mcpServers\": { \"a\": { \"command\": \"a\" } }\n}\n",
    ),
    (
        "codex",
        ".codex",
        "config.toml",
        "model = \"o\" # the best\n\n[mcp_servers.a]\ncommand = \"a\" # c\nargs = [\n  \"x\", # y\n]\n\n[tui]\ntheme = \"é\"\n",
    ),
    (
        "goose",
        ".config/goose",
        "config.yaml",
        "# mine\nGOOSE_PROVIDER: x # c\nextensions:\n  developer:\n    enabled: true\n    type: builtin # c\n# end\nGOOSE_MODE: auto\n",
    ),
    (
        "lm-studio",
        ".lmstudio",
        "mcp.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"a\" }\n  }\n}",
    ),
    (
        "cline",
        ".config/Code/User/globalStorage/saoudrizwan.claude-dev",
        "settings/cline_mcp_settings.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"a\", \"disabled\": true }\n  }\n}",
    ),
    (
        "jetbrains",
        ".junie",
        "mcp/mcp.json",
        "{\n  \"mcpServers\": {\n    \"a\": { \"command\": \"a\" }\n  }\n}\n",
    ),
];

/// A gateway with a server and a token, and a home folder beside it.
struct Desk {
    gateway: Gateway,
    home: PathBuf,
}

impl Desk {
    async fn start() -> Self {
        let gateway = Gateway::start(Store::Sqlite, 1).await;
        let home = gateway.folder().join("home");
        std::fs::create_dir(&home).unwrap();
        Self { gateway, home }
    }

    /// One whose server has nothing behind it.
    async fn with_token() -> Self {
        let desk = Self::start().await;
        desk.gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --disabled").await;
        desk.gateway.ctl("create server dev --tool a/*").await;
        desk.gateway.ctl("create token laptop --server dev --no-wait").await;
        desk
    }

    fn config(&self) -> PathBuf {
        self.gateway.folder().join("mcpctl.yaml")
    }

    /// Runs `mcpctl client-config` with the home folder.
    async fn run(&self, arguments: &str) -> Output {
        let mut command = tokio::process::Command::new(binary("mcpctl"));
        command.arg("client-config").args(arguments.split_whitespace()).env_clear();
        command.env("HOME", &self.home).env("MCPCTL_CONFIG", self.config()).env("NO_COLOR", "1");
        command.current_dir(&self.home).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    }

    /// What it printed; it must succeed.
    async fn said(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why it failed, and its exit code.
    async fn refused(&self, arguments: &str) -> (String, i32) {
        let output = self.run(arguments).await;
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The copies of a file that are beside it.
fn copies(file: &Path) -> Vec<PathBuf> {
    let name = format!("{}.trunkline-", file.file_name().unwrap().to_str().unwrap());
    let folder = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    folder.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name)).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_takes_an_entry_and_gives_it_back() {
    let desk = Desk::with_token().await;
    for (host, folder, name, before) in HOSTS {
        let file = desk.write(Path::new(folder).join(name).to_str().unwrap(), before);
        let shown = file.display();
        let planned = desk.said(&format!("dev --for {host} --write --dry-run")).await;
        assert!(planned.ends_with(&format!("dev added to {shown} (dry run)\n")), "{planned}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

        let write = format!("dev --for {host} --write");
        assert_eq!(desk.said(&write).await, format!("dev added to {shown}\n"));
        let after = std::fs::read_to_string(&file).unwrap();
        assert!(!after.contains("eyJ"), "{after}");
        let [copy] = &*copies(&file) else { panic!("{:?}", copies(&file)) };
        assert_eq!((std::fs::read_to_string(copy).unwrap(), mode(copy)), (before.to_owned(), 0o600));
        assert_eq!(desk.said(&write).await, format!("dev unchanged in {shown}\n"));
        assert_eq!((copies(&file).len(), std::fs::read_to_string(&file).unwrap()), (1, after));

        let listed: Value =
            serde_json::from_str(&desk.said(&format!("--list --for {host} -o json")).await).unwrap();
        let entry = &listed[0]["entries"][0];
        assert_eq!((&listed[0]["file"], &entry["server"]), (&json!(file), &json!("servers/dev")), "{listed}");

        assert_eq!(
            desk.said(&format!("dev --for {host} --remove")).await,
            format!("dev removed from {shown}\n")
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "{host}");
        let (error, code) = desk.refused(&format!("dev --for {host} --remove")).await;
        assert!(error.contains("has no entry dev; none of its entries leads to Trunkline"), "{error}");
        assert_eq!(code, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind_and_copies_do_not_pile_up() {
    let desk = Desk::with_token().await;
    let before = "{\n  \"a\": 1\n}\n";
    let file = desk.write(".cursor/mcp.json", before);
    for _ in 0..3 {
        desk.said("dev --for cursor --write").await;
        desk.said("dev --for cursor --remove").await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }
    let kept: Vec<_> = copies(&file).iter().map(|copy| std::fs::read_to_string(copy).unwrap()).collect();
    assert_eq!((kept.len(), kept.iter().filter(|text| *text == before).count()), (3, 2), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_without_a_file_get_one_and_those_that_are_not_there_do_not() {
    let desk = Desk::with_token().await;
    for (host, folder, name, _) in HOSTS {
        let (error, code) = desk.refused(&format!("dev --for {host} --write")).await;
        assert!(error.contains("is not installed here: there is no ") && error.contains("--file"), "{error}");
        assert_eq!(code, 3);
        let marker = if host == "claude-code" { ".claude" } else { folder };
        std::fs::create_dir_all(desk.home.join(marker)).unwrap();
        let output = desk.run(&format!("dev --for {host} --write")).await;
        let file = desk.home.join(folder).join(name);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("dev added to {}\n", file.display()));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.contains("was made for it"), name.contains('/'), "{told}");
        assert!(file.exists() && copies(&file).is_empty());
        std::fs::remove_dir_all(&desk.home).unwrap();
        std::fs::create_dir(&desk.home).unwrap();
    }
    let list = desk.said("--list").await;
    assert_eq!(list.lines().filter(|line| line.contains("not installed")).count(), HOSTS.len(), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_others_or_broken_is_left_alone() {
    let desk = Desk::with_token().await;
    let write = "dev --for cursor --write";
    let foreign = "{\"mcpServers\": {\"dev\": {\"url\": \"https://else/mcp\"}}}";
    let file = desk.write(".cursor/mcp.json", foreign);
    let shown = file.display();
    let (error, code) = desk.refused(write).await;
    assert_eq!(
        (error, code),
        (
            format!(
                "error: {shown} has an entry dev that does not lead to Trunkline, and is left alone; add --replace to replace it, or \
                 --name to add another\n"
            ),
            6
        )
    );
    let (error, code) = desk.refused("dev --for cursor --remove").await;
    assert_eq!(
        (error, code),
        (
            format!(
                "error: entry dev of {shown} does not lead to Trunkline, and is left alone; remove it there\n"
            ),
            6
        )
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), foreign);
    desk.said("dev --for cursor --write --name trunkline").await;
    let (error, _) = desk.refused("trunklin --for cursor --remove").await;
    assert!(error.contains("did you mean trunkline?; those that lead to Trunkline are trunkline"), "{error}");
    desk.said("dev --for cursor --write --replace").await;
    let said: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(said["mcpServers"]["dev"]["url"].as_str().unwrap().ends_with("/servers/dev/mcp"), "{said}");

    for broken in ["{\"mcpServers\": {\"a\": s3cret}}", "{\"mcpServers\": [1]}", "[]"] {
        std::fs::write(&file, broken).unwrap();
        let output = desk.run(write).await;
        let (printed, told) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(told.contains(&format!("{shown} is left alone: ")) && !told.contains("s3cret"), "{told}");
        // What to paste.
        assert!(printed.contains("${env:TRUNKLINE_TOKEN}"), "{printed}");
        assert_eq!(
            (output.status.code(), std::fs::read_to_string(&file).unwrap()),
            (Some(2), broken.to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_is_written_only_when_asked_for_and_only_for_its_owner() {
    let desk = Desk::with_token().await;
    let real = desk.write("dotfiles/mcp.json", "{}\n");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir(desk.home.join(".cursor")).unwrap();
    let link = desk.home.join(".cursor/mcp.json");
    std::os::unix::fs::symlink(&real, &link).unwrap();

    desk.said("dev --for cursor --write").await;
    assert_eq!((mode(&real), std::fs::read_link(&link).unwrap()), (0o644, real.clone()));
    let output = desk.run("dev --for cursor --write --show-bearer").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("can be read by its owner only") && told.contains("keep it secret"), "{told}");
    assert_eq!(mode(&real), 0o600);
    assert!(std::fs::read_to_string(&real).unwrap().contains("Bearer eyJ"));
    // The difference shows no bearer that goes.
    let planned = desk.said("dev --for cursor --remove --dry-run").await;
    assert!(planned.contains("Bearer …") && !planned.contains("eyJ"), "{planned}");

    for (arguments, sentence) in [
        (
            "dev --for codex --write --show-bearer",
            "--show-bearer has no effect on codex, which rejects bearers in its file",
        ),
        ("dev --for python --write", "--write has no effect on python"),
        ("dev --for python --via stdio", "--via stdio has no effect on python"),
        ("dev --for claude --write", "say --for claude-desktop or --for claude-code"),
        ("dev --for zed --via http", "add --show-bearer to include it, or use --via stdio"),
        ("dev --for cursor --dry-run", "--dry-run has no effect without --write or --remove"),
    ] {
        let (error, code) = desk.refused(arguments).await;
        assert!(error.contains(sentence), "{arguments}: {error}");
        assert_eq!(code, 2, "{arguments}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_started_from_what_was_written_calls_a_tool() {
    let desk = Desk::start().await;
    let upstreams = Upstreams::start(desk.gateway.folder()).await;
    let (_, url) = &upstreams.urls[0];
    desk.gateway.ctl(&format!("create upstream time --url {url}")).await;
    desk.gateway.ctl("create server dev --tool time/*").await;
    desk.gateway.ctl("create token laptop --server dev").await;
    let bearer = desk.gateway.ctl("config get-bearer laptop").await;
    for (host, at, file) in [
        ("claude-desktop", "mcpServers", "desktop.json"),
        ("cursor", "mcpServers", "cursor.json"),
        ("codex", "mcp_servers", "codex.toml"),
        ("goose", "extensions", "goose.yaml"),
        ("goose --via stdio", "extensions", "goose-stdio.yaml"),
    ] {
        desk.said(&format!("dev --for {host} --write --file {file}")).await;
        let order = json!({
            "file": desk.home.join(file), "at": at, "name": "dev",
            "call": { "name": "time_get_current_time", "arguments": { "timezone": "UTC" } },
        });
        let mut client = tokio::process::Command::new(tool("python/bin/python"));
        client.arg(root().join("tests/clients/client_host.py")).arg(order.to_string());
        client.env("TRUNKLINE_TOKEN", bearer.trim()).env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
        client.env_remove("MCPCTL_CONFIG").env_remove("MCPCTL_CONTEXT").kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, client.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && said.contains("UTC"),
            "{host}: {said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
