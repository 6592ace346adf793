//! Completion of `mcpctl` in the shells that people use: what is offered, and that it comes through their own machinery.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::fake::{Fake, Received, Step, id, json};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{Terminal, WIDE};
use crate::support::wire::LEGACY;
use crate::support::{PATIENCE, binary, eventually};

const TOOLS: &str = r#"[{"name":"now","description":"Tells the time.","inputSchema":{"type":"object","required":["zone"],
    "properties":{"zone":{"type":"string"},"mode":{"type":"string","enum":["short","long"]}}}}]"#;

async fn upstream() -> Fake {
    Fake::scripted(TOOLS, answer).await
}

fn answer(request: &Received) -> Option<Vec<Step>> {
    let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = match message["method"].as_str()? {
        "initialize" => format!(
            r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}},"resources":{{}},"prompts":{{}}}},"serverInfo":{{"name":"fake","version":"1"}}}}"#
        ),
        "server/discover" => return Some(vec![json(404, "no")]),
        "resources/list" => r#"{"resources":[{"uri":"file:///a","name":"a"}]}"#.to_owned(),
        "resources/templates/list" => r#"{"resourceTemplates":[]}"#.to_owned(),
        "prompts/list" => {
            r#"{"prompts":[{"name":"greet","arguments":[{"name":"who","required":true}]}]}"#.to_owned()
        }
        _ => return None,
    };
    Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
}

async fn start() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = upstream().await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/* --resource fake/* --prompt fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    gateway.admin.settled().await;
    (gateway, upstream)
}

/// The environment of a shell in which `mcpctl` is this one, for this gateway.
fn prepared(gateway: &Gateway, program: &str) -> Command {
    let mut command = Command::new(program);
    let own = binary("mcpctl");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", own.parent().unwrap().display()));
    command.env("MCPCTL_CONFIG", gateway.folder().join("mcpctl.yaml")).env("HOME", gateway.folder());
    command.env("XDG_CACHE_HOME", gateway.folder().join("cache")).env_remove("MCPCTL_CONTEXT");
    command.current_dir(gateway.folder());
    command
}

/// What is offered for the last word, as fish is told.
fn offered(gateway: &Gateway, line: &str) -> Vec<String> {
    let mut command = prepared(gateway, binary("mcpctl").to_str().unwrap());
    let words: Vec<_> = line.split(' ').collect();
    let output = command.env("MCPCTL_COMPLETE", "fish").arg("--").args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().map(|line| line.split('\t').next().unwrap().to_owned());
    words.filter(|word| !word.starts_with('-')).collect()
}

/// Waits until something is offered: a machine may be too busy to answer in time.
async fn eventually_offered(gateway: &Gateway, line: &str, expected: &[&str]) {
    eventually(&format!("{line:?} is completed"), PATIENCE, || {
        let offered = offered(gateway, line);
        async move { if offered == expected { Ok(()) } else { Err(format!("{offered:?}")) } }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_values_are_offered_wherever_they_can_stand() {
    let (gateway, _upstream) = start().await;
    let file = gateway.folder().join("team.yaml");
    std::fs::write(file, "kind: Server\nname: applied\n").unwrap();
    gateway.ctl("apply -f team.yaml --set team").await;
    for (line, expected) in [
        ("mcpctl compl", &["completion"][..]),
        ("mcpctl get up", &["upstreams"]),
        ("mcpctl get upstreams f", &["fake"]),
        ("mcpctl get tools f", &["fake/"]),
        ("mcpctl get tools fake/", &["fake/now"]),
        ("mcpctl describe server ", &["applied", "dev"]),
        ("mcpctl delete edge ", &["e0"]),
        ("mcpctl revoke token l", &["laptop"]),
        ("mcpctl update token l", &["laptop"]),
        ("mcpctl create join-token --edge ", &["e0"]),
        ("mcpctl create server x --tool fake/", &["fake/now"]),
        ("mcpctl create token x --server dev --tool f", &["fake_now"]),
        ("mcpctl apply -f x --set ", &["team"]),
        ("mcpctl apply -f te", &["team.yaml"]),
        ("mcpctl --context ", &["test"]),
        ("mcpctl config use-context t", &["test"]),
        ("mcpctl get upstreams -o ya", &["yaml"]),
        ("mcpctl create upstream x --era m", &["modern"]),
        ("mcpctl get upstreams --order-by na", &["name"]),
        ("mcpctl call d", &["dev"]),
        ("mcpctl call dev f", &["fake_now"]),
        ("mcpctl call dev fake_now ", &["mode=short", "mode=long", "zone="]),
        ("mcpctl call dev --token l", &["laptop"]),
        ("mcpctl prompt dev fake_greet w", &["who="]),
        ("mcpctl client-config d", &["dev"]),
    ] {
        eventually_offered(&gateway, line, expected).await;
    }
    let cached = std::fs::read_dir(gateway.folder().join("cache/trunkline/completion")).unwrap();
    assert!(cached.count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_not_said_to_whoever_types() {
    let mut gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.kill_control();
    for line in ["mcpctl get upstreams ", "mcpctl call dev ", "mcpctl --context gone get upstreams "] {
        assert_eq!(offered(&gateway, line), [""; 0], "{line}");
    }
    std::fs::write(gateway.folder().join("mcpctl.yaml"), "rubbish: [").unwrap();
    assert_eq!(offered(&gateway, "mcpctl config use-context t"), [""; 0]);
}

/// The lines that make an interactive shell complete, and how it is started.
fn shells() -> Vec<(&'static str, &'static [&'static str], &'static [&'static str])> {
    vec![
        ("bash", &["--norc", "--noprofile", "-i"], &["PS1='ready '", "source <(mcpctl completion bash)"]),
        (
            "zsh",
            &["-f", "-i"],
            &["PS1='ready '", "autoload -Uz compinit", "compinit -u -D", "source <(mcpctl completion zsh)"],
        ),
        (
            "fish",
            &["--no-config", "-i"],
            &["function fish_prompt; echo -n 'ready '; end", "mcpctl completion fish | source"],
        ),
    ]
}

/// Types a line and Tab until the shell has completed it.
async fn completes(terminal: &mut Terminal, typed: &str, expected: &str) {
    const BACK_TO_THE_START: &str = "\u{15}";
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        terminal.type_keys(&format!("{BACK_TO_THE_START}{typed}\t"));
        let seen = async {
            while !terminal.screen().replace('\n', "").contains(expected) {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), seen).await.is_ok() {
            break;
        }
        assert!(tokio::time::Instant::now() < limit, "{typed:?} is not completed:\n{}", terminal.screen());
    }
    terminal.type_keys(BACK_TO_THE_START);
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_names_on_the_line() {
    let (gateway, _upstream) = start().await;
    for (shell, options, lines) in shells() {
        // Only bash is everywhere.
        if shell != "bash" && Command::new(shell).arg("--version").output().is_err() {
            continue;
        }
        let mut command = prepared(&gateway, shell);
        command.args(options);
        let mut terminal = Terminal::start(command, WIDE, &[]);
        for line in lines {
            terminal.type_line(line);
        }
        terminal.wait_for("ready").await;
        for (typed, expected) in [
            ("mcpctl get upstreams f", "mcpctl get upstreams fake"),
            ("mcpctl call dev fake_n", "mcpctl call dev fake_now"),
            ("mcpctl call dev fake_now zo", "mcpctl call dev fake_now zone="),
            ("mcpctl call dev fake_now mode=sh", "mcpctl call dev fake_now mode=short"),
            ("mcpctl get tools fake/n", "mcpctl get tools fake/now"),
            ("mcpctl --context=te", "mcpctl --context=test"),
        ] {
            completes(&mut terminal, typed, expected).await;
        }
        terminal.type_line("exit");
        terminal.ended().await;
    }
}

#[test]
fn every_shell_is_told_how_it_is_installed() {
    for (shell, sign, line) in [
        ("bash", "complete -o", "#   source <(mcpctl completion bash)"),
        ("zsh", "#compdef mcpctl", "#   source <(mcpctl completion zsh)"),
        ("fish", "complete --keep-order", "#   mcpctl completion fish | source"),
        ("powershell", "Register-ArgumentCompleter", "#   mcpctl completion powershell | Out-String"),
        ("pwsh", "Register-ArgumentCompleter", "#   mcpctl completion powershell | Out-String"),
        ("elvish", "edit:completion:arg-completer", "#   eval (mcpctl completion elvish | slurp)"),
    ] {
        let output = Command::new(binary("mcpctl")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{shell}");
        assert!(script.contains(sign) && script.contains(line), "{shell}: {script}");
        assert!(script.contains("MCPCTL_COMPLETE"), "{shell}: {script}");
    }
}
