//! The program from outside: exit codes, one line on stderr, data on stdout.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output};

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
    command.args(line.split(' ')).current_dir(folder).env("MCPCTL_CONFIG", folder.join("mcpctl.yaml"));
    command.env_remove("MCPCTL_CONTEXT").stdin(std::process::Stdio::null());
    command
}

fn mcpctl(folder: &Path, line: &str) -> Output {
    command(folder, line).output().unwrap()
}

/// Runs a command line. Returns the exit code, stdout and stderr.
fn check(folder: &Path, line: &str) -> (i32, String, String) {
    said(&mcpctl(folder, line))
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn without_a_context_every_command_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["get upstreams", "describe server dev", "export", "usage", "delete token laptop"] {
        let (code, out, talk) = check(folder.path(), line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}");
        assert!(
            talk.starts_with("error: no control plane is configured") && talk.contains("mcpctl dev"),
            "{talk}"
        );
        assert_eq!(talk.lines().count(), 1, "{talk}");
    }
}

#[test]
fn an_absent_control_plane_is_unavailable_and_trouble_for_diff() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let set =
        format!("config set-context test --control http://127.0.0.1:{port} --edge http://127.0.0.1:{port}");
    assert_eq!(check(folder.path(), &set).0, 0);
    let (code, _, talk) = check(folder.path(), "get upstreams");
    assert_eq!(code, 7, "{talk}");
    assert!(talk.contains("is unavailable: ") && talk.lines().count() == 1, "{talk}");
    std::fs::write(folder.path().join("a.yaml"), "kind: Server\nname: dev\n").unwrap();
    assert_eq!(check(folder.path(), "diff -f a.yaml").0, 2);
    assert_eq!(check(folder.path(), "call dev x").0, 3);
}

#[test]
fn a_proxy_that_is_not_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(check(folder.path(), "config set-context far --control http://control.invalid:4445").0, 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
    command.args(["get", "upstreams"]).env("MCPCTL_CONFIG", folder.path().join("mcpctl.yaml"));
    for name in ["https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "MCPCTL_CONTEXT"] {
        command.env_remove(name);
    }
    let output = command.env("HTTPS_PROXY", "http://user:s3cret@127.0.0.1:1").output().unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{talk}");
    assert!(
        talk.contains("HTTPS_PROXY is set, and not used for control planes") && !talk.contains("s3cret"),
        "{talk}"
    );
}

#[test]
fn contexts_are_kept_listed_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let set = "config set-context one --control http://127.0.0.1:1 --admin-token-file token";
    assert_eq!(check(folder.path(), set), (0, String::new(), "context one created".to_owned()));
    assert_eq!(check(folder.path(), set).2, "context one updated");
    assert_eq!(check(folder.path(), "config set-context two --edge http://127.0.0.1:2").0, 0);
    assert_eq!(check(folder.path(), "config current-context").1, "one");
    assert_eq!(check(folder.path(), "config use-context two").2, "context two is the current context");
    assert_eq!(check(folder.path(), "config get-contexts -o name").1, "one\ntwo");
    let table = check(folder.path(), "config get-contexts").1;
    assert!(table.contains("two") && table.contains('*') && !table.contains("s3cret"), "{table}");
    assert_eq!(check(folder.path(), "config use-context three").0, 3);
    let renamed = check(folder.path(), "config rename-context two second");
    assert!(renamed.0 == 0 && renamed.2.starts_with("context two is called second now"), "{renamed:?}");
    assert_eq!(check(folder.path(), "config current-context").1, "second");
    assert_eq!(check(folder.path(), "config rename-context second one").0, 6);
    assert_eq!(check(folder.path(), "config rename-context zoo two").0, 3);
    assert_eq!(check(folder.path(), "config rename-context second two").0, 0);
    assert_eq!(check(folder.path(), "config view -o jsonpath={.contexts.two.edge}").1, "http://127.0.0.1:2");
    let viewed = check(folder.path(), "config view").1;
    assert!(
        viewed.starts_with("currentContext: two\ncontexts:\n  one:\n    control: http://127.0.0.1:1\n"),
        "{viewed}"
    );
    assert_eq!(check(folder.path(), "config delete-context two").2, "context two deleted");
    assert_eq!(check(folder.path(), "config current-context").0, 3);
    assert_eq!(check(folder.path(), "config set-context bad --edge ftp://x").0, 2);
}

#[test]
fn wrong_use_is_told_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    for line in
        ["get nonsense", "create upstream", "create upstream x", "create token x", "update server x", "call"]
    {
        let (code, out, talk) = check(folder.path(), line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {talk}");
    }
    let (code, _, talk) = check(folder.path(), "expose -- no-such-command-here");
    assert_eq!((code, talk.lines().count()), (3, 1), "{talk}");
    assert_eq!(check(folder.path(), "version").1, concat!("mcpctl ", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            check(folder.path(), &format!("completion {shell}")).1.contains("MCPCTL_COMPLETE"),
            "{shell}"
        );
    }
}

#[test]
fn importing_runs_nothing_unless_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"mcpServers": {"time": {"command": "touch", "args": ["ran"], "env": {"KEY": "s3cret"}}}}"#;
    std::fs::write(folder.path().join("claude.json"), text).unwrap();
    let (code, out, talk) = check(folder.path(), "import claude.json");
    assert_eq!((code, out.as_str()), (0, "KEY=\"$KEY\" mcpctl expose --register time -- touch ran"));
    assert!(talk.contains("were not run") && !talk.contains("s3cret"), "{talk}");
    assert!(!folder.path().join("ran").exists());
}

#[test]
fn what_cannot_be_imported_is_named_and_what_can_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    let command = "mcpctl expose --register a -- true -x";
    // A file, its content, the exit code, and what is printed or said.
    for (name, text, code, said) in [
        (
            "a.json",
            r#"{"mcp": {"a": {"command": ["true", "-x"]}, "b": {"url": 5}}}"#,
            1,
            "server b: skipped: `url` is a number",
        ),
        (
            "b.yaml",
            "mcpServers:\n  a: {command: true -x}\n  c: {command: d, disabled: true}\n",
            0,
            "server c: left out, since it is disabled",
        ),
        (
            "c.json",
            r#"{"mcpServers": [{"name": "a", "command": "true -x", "envFile": ".env"}]}"#,
            0,
            "server a: `envFile` is not taken along",
        ),
    ] {
        write(name, text.as_bytes());
        let (found, out, talk) = check(folder.path(), &format!("import {name}"));
        assert_eq!((found, out.as_str()), (code, command), "{name}: {talk}");
        assert!(talk.contains(said), "{name}: {talk}");
    }
    let utf16: Vec<u8> = "\u{feff}{\"mcpServers\": {\"a\": {\"url\": \"http://a\"}}}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    write("d.json", &utf16);
    assert_eq!(check(folder.path(), "import d.json --dry-run").1, "upstreams/a imported (dry run)");
    write("e.toml", b"[mcp_servers.a]\nurl = \"http://a\"\n");
    assert_eq!(check(folder.path(), "import e.toml --dry-run").1, "upstreams/a imported (dry run)");
    for (name, text, said) in [
        ("e.toml", "[mcp_servers.a\nurl = \"http://a\"\n", "invalid TOML: "),
        ("f.json", r#"{"a": 1}"#, "it has no servers at `mcpServers`, `servers`, "),
    ] {
        write(name, text.as_bytes());
        let (code, out, talk) = check(folder.path(), &format!("import {name}"));
        assert_eq!((code, out.as_str()), (2, ""), "{name}: {talk}");
        assert!(talk.contains(&format!("{name}: {said}")), "{talk}");
    }
}

/// Answers every connection with 401, and passes on the first line of what came.
fn deaf_edge() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, (asked, lines)) =
        (format!("http://{}", listener.local_addr().unwrap()), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.send(head.next().unwrap().unwrap()).unwrap();
            let length = head
                .by_ref()
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .filter_map(|line| {
                    line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                })
                .last();
            assert!(length.is_some());
            stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (url, lines)
}

#[test]
fn no_proxy_of_the_environment_stands_before_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let ((edge, asked), (proxy, proxied)) = (deaf_edge(), deaf_edge());
    let context = format!(
        "currentContext: test\ncontexts:\n  test:\n    edge: {edge}\n    tokens:\n      laptop: {{bearer: s3cret, servers: ['*']}}\n"
    );
    std::fs::write(folder.path().join("mcpctl.yaml"), context).unwrap();
    let message = folder.path().join("message");
    let params =
        r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    std::fs::write(
        &message,
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{params}}}\n"),
    )
    .unwrap();
    for arguments in [["call", "dev", "now"].as_slice(), &["connect", "dev"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
        command.args(arguments).env("MCPCTL_CONFIG", folder.path().join("mcpctl.yaml"));
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, &proxy);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("MCPCTL_CONTEXT");
        let output = command.stdin(std::fs::File::open(&message).unwrap()).output().unwrap();
        let lines: Vec<String> = asked.try_iter().collect();
        assert!(
            lines.iter().any(|line| line == "POST /servers/dev/mcp HTTP/1.1"),
            "{arguments:?}: {lines:?} {output:?}"
        );
    }
    assert_eq!(proxied.try_iter().next(), None);
}

/// The folder of `mcpctl dev` may be removed at any time, and takes no other gateway along.
#[test]
fn contexts_of_other_gateways_are_not_in_the_folder_of_dev() {
    let home = tempfile::tempdir().unwrap();
    let check = |line: &str| {
        let mut command = command(home.path(), line);
        command.env_remove("MCPCTL_CONFIG").env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        said(&command.env("HOME", home.path()).output().unwrap())
    };
    let folder = home.path().join(".local/share/trunkline");
    let (dev, own) = (folder.join("mcpctl.yaml"), home.path().join(".config/trunkline/mcpctl.yaml"));
    std::fs::create_dir_all(&folder).unwrap();
    let token = "{bearer: a.b.c, servers: [dev]}";
    let context = format!("{{control: 'http://127.0.0.1:1', tokens: {{laptop: {token}}}}}");
    std::fs::write(&dev, format!("currentContext: dev\ncontexts: {{dev: {context}}}\n")).unwrap();
    assert_eq!(check("config get-bearer laptop"), (0, "a.b.c".to_owned(), String::new()));
    assert_eq!(check("config delete-bearer laptop --yes").0, 0);
    assert!(!own.exists() && !std::fs::read_to_string(&dev).unwrap().contains("a.b.c"));

    let before = std::fs::read_to_string(&dev).unwrap();
    let talk = "context prod created\n\
                the current context is still dev; `mcpctl config use-context prod` changes that";
    assert_eq!(
        check("config set-context prod --control https://prod.example"),
        (0, String::new(), talk.to_owned())
    );
    assert_eq!(std::fs::read_to_string(&dev).unwrap(), before);
    assert_eq!(check("config get-contexts -o name").1, "dev\nprod");
    assert_eq!(check("config current-context").1, "dev");
    let (code, _, talk) = check("get upstreams");
    let advice = "check that it is running, or start one with `mcpctl dev`";
    assert!(code == 7 && talk.ends_with(advice), "{talk}");
    assert_eq!(check("config use-context prod").0, 0);
    assert_eq!(std::fs::read_to_string(&dev).unwrap(), before);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(check("config get-contexts -o name").1, "prod");
    assert_eq!(check("config current-context").1, "prod");
}

/// A host's file as people have it: built-in extensions, two servers of one name, our own entries, secrets in arguments.
#[test]
fn what_is_imported_is_printed_without_secrets_and_the_rest_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(check(folder.path(), "config set-context test --edge http://127.0.0.1:1").0, 0);
    let goose = "extensions:\n  developer: {type: builtin, enabled: true}\n  db:\n    type: stdio\n    cmd: pg-mcp\n    args: [--url, 'postgres://u:hunter2@h/db', --token, hunter2]\n    envs: {DB: '${DB_URL:-x}'}\n  dev: {type: streamable_http, uri: 'http://127.0.0.1:1/servers/dev/mcp'}\n";
    std::fs::write(folder.path().join("config.yaml"), goose).unwrap();
    let (code, out, talk) = check(folder.path(), "import config.yaml");
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            r#"DB="${DB_URL:-x}" mcpctl expose --register db -- pg-mcp --url "postgres://u:${PASSWORD}@h/db" --token "${PASSWORD}""#
        ),
        "{talk}"
    );
    for told in [
        "server developer: left out, since it is a part of its host",
        "server dev: left out, since it leads to server dev of Trunkline",
        "Secrets among the arguments are printed as variables: PASSWORD.",
    ] {
        assert!(talk.contains(told), "{talk}");
    }

    let claude = r#"{"projects": {"/a": {"mcpServers": {"db": {"command": "a"}}}, "/b": {"mcpServers": {"db": {"command": "b"}}}}}"#;
    std::fs::write(folder.path().join("claude.json"), claude).unwrap();
    let (code, out, talk) = check(folder.path(), "import claude.json");
    assert_eq!((code, out.as_str()), (1, "mcpctl expose --register db -- a"), "{talk}");
    assert!(
        talk.contains("import it under another one with `--only projects./b.mcpServers.db --as NAME`"),
        "{talk}"
    );
    let line = "import claude.json --only projects./b.mcpServers.db --as other";
    let (code, out, talk) = check(folder.path(), line);
    assert_eq!((code, out.as_str()), (0, "mcpctl expose --register other -- b"), "{talk}");
    let (code, _, talk) = check(folder.path(), "import claude.json --only db --as other");
    assert!(
        code == 2 && talk.starts_with("error: --as other is one name, and --only leaves 2 servers: db, db; "),
        "{talk}"
    );
}
