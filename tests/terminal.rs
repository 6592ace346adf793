//! `mcpctl` on a terminal: what is on the screen, narrow and wide, and that the terminal is left as it was.

use std::process::Command;

use crate::support::binary;
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, Size, Terminal, WIDE};

const CONTEXTS: &str = "currentContext: here
contexts:
  here:
    control: http://127.0.0.1:4445
    edge: http://127.0.0.1:4444
  elsewhere:
    control: https://control.example.com:4445
";

const TABLE: &str = "\
NAME       CURRENT  CONTROL PLANE                     EDGE
elsewhere           https://control.example.com:4445
here       *        http://127.0.0.1:4445             http://127.0.0.1:4444";

/// `mcpctl` with a context file of its own, and without a gateway.
fn mcpctl(line: &str) -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mcpctl.yaml");
    std::fs::write(&file, CONTEXTS).unwrap();
    let mut command = Command::new(binary("mcpctl"));
    command.args(line.split_whitespace()).env_clear().env("MCPCTL_CONFIG", file);
    (folder, command)
}

/// What a command shows on a terminal, and what it wrote there.
async fn shown(line: &str, size: Size, environment: &[(&str, &str)]) -> (i32, String, String) {
    let (_folder, command) = mcpctl(line);
    let mut terminal = Terminal::start(command, size, environment);
    let code = terminal.ended().await;
    (code, terminal.screen(), terminal.raw())
}

#[tokio::test]
async fn a_table_is_the_same_on_every_terminal_and_in_a_pipe() {
    let (_folder, mut command) = mcpctl("config get-contexts");
    let piped = command.output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap().trim_end(), TABLE);
    let (code, wide, _) = shown("config get-contexts", WIDE, &[]).await;
    assert_eq!((code, wide.as_str()), (0, TABLE));
    let (code, _, written) = shown("config get-contexts", NARROW, &[]).await;
    assert_eq!((code, written.replace("\r\n", "\n").trim_end()), (0, TABLE));
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    let line = "get upstreams --nonsense";
    let (code, coloured, written) = shown(line, WIDE, &[]).await;
    assert_eq!(code, 2);
    assert!(written.contains("\u{1b}["), "{written:?}");
    let (_folder, mut command) = mcpctl(line);
    let piped = command.output().unwrap();
    assert_eq!(String::from_utf8(piped.stderr).unwrap().trim_end(), coloured);
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (code, screen, written) = shown(line, WIDE, &[plain]).await;
        assert_eq!((code, screen), (2, coloured.clone()), "{plain:?}");
        assert!(!written.contains('\u{1b}'), "{plain:?}: {written:?}");
    }
}

#[tokio::test]
async fn progress_is_gone_when_the_answer_is_there() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    for size in [NARROW, WIDE] {
        // Nothing listens there, so that there is something to wait for and then a sentence about it.
        let line = ["probe", "http://127.0.0.1:1/mcp"];
        let mut terminal = gateway.terminal(&line, size, &[]);
        let code = terminal.ended().await;
        assert_ne!(code, 0);
        let piped = gateway.try_ctl(&line).await;
        let said = String::from_utf8(piped.stdout).unwrap() + &String::from_utf8(piped.stderr).unwrap();
        let one_line = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(one_line(&terminal.screen()), one_line(&said));
        let mut dumb = gateway.terminal(&line, size, &[("TERM", "dumb")]);
        assert_eq!(dumb.ended().await, code);
        assert!(!dumb.raw().contains('\u{1b}'), "{:?}", dumb.raw());
    }
}

#[tokio::test]
async fn what_is_typed_arrives() {
    let mut command = Command::new("sh");
    command.args(["-c", "printf 'name? '; read -r name; echo \"hello $name\"; exit 3"]);
    let mut terminal = Terminal::start(command, NARROW, &[]);
    terminal.wait_for("name?").await;
    terminal.type_line("world");
    assert_eq!(terminal.ended().await, 3);
    assert_eq!(terminal.screen(), "name? world\nhello world");
}
