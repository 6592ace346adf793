//! `mcpctl edit`: whatever an editor leaves, nothing is stored that is not meant, and nothing that was written is lost.

use std::path::PathBuf;

use crate::support::binary;
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, WIDE};
use crate::verbs::{json, told};

/// An editor that does one of these steps each time that it is opened.
struct Scripted<'a> {
    gateway: &'a Gateway,
    command: String,
}

impl<'a> Scripted<'a> {
    /// A step is a line of shell, in which `$1` is the file.
    fn new(gateway: &'a Gateway, steps: &[&str]) -> Self {
        let folder = gateway.folder().join("editor");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("tmp")).unwrap();
        for (number, step) in steps.iter().enumerate() {
            std::fs::write(folder.join(format!("step.{}", number + 1)), step).unwrap();
        }
        let script = "cd editor; n=$(($(cat round 2>/dev/null || echo 0) + 1)); echo $n > round\n\
                      cp \"$1\" seen.$n; . ./step.$n\n";
        std::fs::write(folder.join("run.sh"), script).unwrap();
        Self { gateway, command: format!("sh {}", folder.join("run.sh").display()) }
    }

    fn environment(&self) -> [(&'static str, String); 3] {
        let mcpctl = binary("mcpctl");
        let path = format!("{}:{}", mcpctl.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let files = self.gateway.folder().join("editor/tmp").display().to_string();
        [("VISUAL", self.command.clone()), ("TMPDIR", files), ("PATH", path)]
    }

    /// Runs `mcpctl edit` in pipes.
    async fn edit(&self, what: &str) -> (String, String, i32) {
        let line: Vec<_> = std::iter::once("edit").chain(what.split_whitespace()).collect();
        told(&self.gateway.try_ctl_in(&line, &self.environment()).await)
    }

    /// Runs it on a terminal, where somebody can mend what is wrong. Returns what the terminal got.
    async fn edit_attended(&self, server: &str) -> (String, i32) {
        let environment = self.environment();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut terminal = self.gateway.terminal(&["edit", "server", server], WIDE, &environment);
        let code = terminal.ended().await;
        let plain = ["\u{1b}[1m", "\u{1b}[31m", "\u{1b}[0m"];
        let text = plain.iter().fold(terminal.raw(), |text, colour| text.replace(colour, ""));
        (text.replace("\r\n", "\n"), code)
    }

    /// What the editor was given the first, the second, … time.
    fn seen(&self, number: usize) -> String {
        std::fs::read_to_string(self.gateway.folder().join(format!("editor/seen.{number}"))).unwrap()
    }

    /// The files that are left.
    fn kept(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.gateway.folder().join("editor/tmp")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_changes_what_it_is_given() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev --title Old --label team=core").await;
    let editor = Scripted::new(&gateway, &["sed -i 's/^title: Old/title: New/' \"$1\""]);
    let told = editor.edit("server dev").await;
    assert_eq!(told, ("servers/dev edited\n".into(), "  title: Old -> New\n".into(), 0));
    let etag = json(&gateway, "get server dev").await["meta"]["etag"].as_str().unwrap().to_owned();
    let seen = editor.seen(1);
    assert!(
        seen.starts_with(
            "# servers/dev: save the file to store what you change; leave it as it is, or empty it, to store nothing.\n\
             kind: Server\nname: servers/dev\nmeta:\n  etag: "
        ) && seen.contains("  labels:\n    team: core\ntitle: Old\n"),
        "{seen}"
    );

    for nothing in ["true", ": > \"$1\"", "echo >> \"$1\""] {
        let editor = Scripted::new(&gateway, &[nothing]);
        let told = editor.edit("server dev").await;
        assert_eq!(told, ("servers/dev unchanged\n".into(), String::new(), 0), "{nothing}");
        assert_eq!(editor.kept(), Vec::<PathBuf>::new());
    }
    let server = json(&gateway, "get server dev").await;
    assert_eq!(server["meta"]["etag"], etag.as_str());

    let editor = Scripted::new(&gateway, &["sed -i 's/^title: New/title: Newer/' \"$1\""]);
    let (printed, _, code) = editor.edit("server dev -o name").await;
    assert_eq!((printed.as_str(), code), ("servers/dev\n", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_opens_the_file_again_and_giving_up_keeps_it() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev --title Old").await;
    let misspelt = "sed -i 's/^title:/titel:/' \"$1\"";
    let long = format!("sed -i 's/^titel: .*/title: {}/' \"$1\"", "x".repeat(200));
    let mended = "sed -i 's/^title: .*/title: Mended/' \"$1\"";
    let editor = Scripted::new(&gateway, &[misspelt, &long, mended]);
    let (said, code) = editor.edit_attended("dev").await;
    assert!(said.contains("servers/dev edited\n") && code == 0, "{said}");
    let (second, third) = (editor.seen(2), editor.seen(3));
    assert!(
        second.starts_with("# Nothing was stored:\n#   mcpctl-edit-server-")
            && second.contains("unknown field `titel`; did you mean `title`?\n# Mend it and save the file;"),
        "{second}"
    );
    assert!(
        third.starts_with("# Nothing was stored:\n#   ")
            && third.contains("the maximum is 128")
            && !third.contains("unknown field"),
        "{third}"
    );
    assert_eq!(editor.kept(), Vec::<PathBuf>::new());

    // An editor that leaves the same again mends nothing.
    let editor = Scripted::new(&gateway, &["sed -i 's/^title:/titel:/' \"$1\"", "touch \"$1\""]);
    let (said, code) = editor.edit_attended("dev").await;
    let kept = editor.kept();
    assert_eq!((code, kept.len()), (2, 1), "{said}");
    let end = format!("did you mean `title`?; what you wrote is kept in {}\n", kept[0].display());
    assert!(said.contains("error: ") && said.ends_with(&end), "{said}");
    assert!(std::fs::read_to_string(&kept[0]).unwrap().contains("\ntitel: Mended\n"));
    assert_eq!(json(&gateway, "get server dev").await["title"], "Mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_the_first_mistake_ends_it_and_the_file_is_kept() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev --title Old").await;
    let long = format!("sed -i 's/^title: .*/title: {}/' \"$1\"", "x".repeat(200));
    for (step, why, written) in [
        ("echo 'titel: New' >> \"$1\"", "unknown field `titel`; did you mean `title`?", "\ntitel: New\n"),
        (long.as_str(), "the maximum is 128", "\ntitle: xxx"),
        (
            "sed -i 's/^name: .*/name: other/' \"$1\"",
            "the file is about servers/other; `edit` changes servers/dev alone",
            "\nname: other\n",
        ),
        (
            "printf -- '---\\nkind: Server\\nname: b\\n' >> \"$1\"",
            "the file has 2 resources; it must have servers/dev alone",
            "\nname: b\n",
        ),
    ] {
        // There is no second step: an editor that is opened again fails.
        let editor = Scripted::new(&gateway, &[step]);
        let (printed, said, code) = editor.edit("server dev").await;
        let kept = editor.kept();
        assert_eq!((printed.as_str(), code, kept.len()), ("", 2, 1), "{said}");
        let end = format!("; what you wrote is kept in {}\n", kept[0].display());
        assert!(said.contains(why) && said.ends_with(&end), "{said}");
        let text = std::fs::read_to_string(&kept[0]).unwrap();
        assert!(text.starts_with("# Nothing was stored:\n#   ") && text.contains(written), "{text}");
    }
    assert_eq!(json(&gateway, "get server dev").await["title"], "Old");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_stored_meanwhile_is_kept_on_sqlite() {
    what_somebody_else_stored_meanwhile_is_kept(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_stored_meanwhile_is_kept_on_postgres() {
    what_somebody_else_stored_meanwhile_is_kept(Store::Postgres).await;
}

async fn what_somebody_else_stored_meanwhile_is_kept(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    gateway.ctl("create server dev --title Old").await;
    let theirs = "mcpctl update server dev --description theirs > /dev/null 2>&1\n\
                  sed -i 's/^title: Old/title: Mine/' \"$1\"";
    let editor = Scripted::new(&gateway, &[theirs, "touch \"$1\""]);
    let told = editor.edit("server dev").await;
    assert_eq!(told, ("servers/dev edited\n".into(), "  title: Old -> Mine\n".into(), 0));
    let second = editor.seen(2);
    assert!(
        second.starts_with(
            "# Nothing was stored: servers/dev was changed while you edited it:\n#   description: theirs (new)\n\
             # Below is what you changed, together with that."
        ) && second.contains("\ntitle: Mine\ndescription: theirs\n"),
        "{second}"
    );
    let server = json(&gateway, "get server dev").await;
    assert_eq!((&server["title"], &server["description"]), (&"Mine".into(), &"theirs".into()));

    // Who does not save the file again stores nothing, and loses nothing.
    let both = "mcpctl update server dev --title Theirs > /dev/null 2>&1\n\
                sed -i 's/^title: Mine/title: Other/' \"$1\"";
    let editor = Scripted::new(&gateway, &[both, "true"]);
    let (said, code) = editor.edit_attended("dev").await;
    let kept = editor.kept();
    let expected = |kept: &[PathBuf]| {
        let file = kept[0].display();
        format!("error: servers/dev was changed while you edited it; what you wrote is kept in {file}\n")
    };
    assert!(said.ends_with(&expected(&kept)) && code == 6, "{said}");
    let second = editor.seen(2);
    assert!(second.contains("# You both changed title: below is what you wrote.\n"), "{second}");
    assert!(std::fs::read_to_string(&kept[0]).unwrap().contains("\ntitle: Other\n"));
    assert_eq!(json(&gateway, "get server dev").await["title"], "Theirs");

    // Without a terminal nobody decides whose title it is.
    let both = "mcpctl update server dev --title Third > /dev/null 2>&1\n\
                sed -i 's/^title: Theirs/title: Other/' \"$1\"";
    let editor = Scripted::new(&gateway, &[both]);
    let told = editor.edit("server dev").await;
    assert_eq!(told, (String::new(), expected(&editor.kept()), 6));
    assert_eq!(json(&gateway, "get server dev").await["title"], "Third");

    // What is gone cannot be edited.
    let gone = "mcpctl delete server dev > /dev/null 2>&1; sed -i 's/^title: .*/title: Other/' \"$1\"";
    let editor = Scripted::new(&gateway, &[gone]);
    let (_, said, code) = editor.edit("server dev").await;
    assert!(
        code == 3 && said.contains("servers/dev does not exist") && said.contains("is kept in"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_and_are_not_in_the_file() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --bearer s3cret --no-wait").await;
    let version = async || json(&gateway, "get upstream a").await["credential"]["version"].clone();
    let before = version().await;
    let editor =
        Scripted::new(&gateway, &["stat -c %a \"$1\" > mode; sed -i 's/^http:/title: T\\nhttp:/' \"$1\""]);
    let told = editor.edit("upstream a").await;
    assert_eq!(told, ("upstreams/a edited\n".into(), "  title: T (new)\n".into(), 0));
    assert_eq!(std::fs::read_to_string(gateway.folder().join("editor/mode")).unwrap(), "600\n");
    let seen = editor.seen(1);
    assert!(seen.contains("credential:\n  bearer: {}\n") && !seen.contains("s3cret"), "{seen}");
    assert!(
        seen.contains("# Secrets are not shown; where they are empty, they stay what they are.\n"),
        "{seen}"
    );
    assert_eq!(version().await, before);

    let editor = Scripted::new(&gateway, &["sed -i 's/bearer: {}/bearer: {token: new}/' \"$1\""]);
    let told = editor.edit("upstream a").await;
    assert_eq!(told, ("upstreams/a edited\n".into(), "  credential: another secret\n".into(), 0));
    assert_ne!(version().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_edited_is_said() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl("create server dev").await;
    let cases = [
        ("edge e0", Some("true"), "edges cannot be edited; run `mcpctl describe edge e0` to look at it", 2),
        (
            "server dev",
            None,
            "there is no terminal to edit at; set EDITOR to a program that changes the file, or use `mcpctl update` or `mcpctl apply`",
            2,
        ),
        ("server dev", Some("false"), "the editor `false` failed (exit status: 1)", 1),
        (
            "server dev",
            Some("no-such-editor 2> /dev/null"),
            "the editor `no-such-editor 2> /dev/null` cannot be run; set EDITOR to one that is installed",
            1,
        ),
    ];
    for (what, editor, why, expected) in cases {
        let line: Vec<_> = std::iter::once("edit").chain(what.split_whitespace()).collect();
        let environment: Vec<_> = editor.map(|editor| ("EDITOR", editor.to_owned())).into_iter().collect();
        let told = told(&gateway.try_ctl_in(&line, &environment).await);
        assert_eq!(told, (String::new(), format!("error: {why}\n"), expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_has_the_terminal_and_its_keys() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev --title Old").await;
    let asks = "printf 'title? '; read -r title; sed -i \"s/^title: .*/title: $title/\" \"$1\"";
    for (size, title) in [(NARROW, "Narrow"), (WIDE, "Wide")] {
        let editor = Scripted::new(&gateway, &[asks]);
        let environment = editor.environment();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut terminal = gateway.terminal(&["edit", "server", "dev"], size, &environment);
        terminal.wait_for("title?").await;
        terminal.type_line(title);
        assert_eq!(terminal.ended().await, 0);
        assert!(terminal.screen().contains("servers/dev edited\n  title: "), "{}", terminal.screen());
        assert_eq!(json(&gateway, "get server dev").await["title"], title);
    }

    // Ctrl-C is for the editor, and an editor that it ends has stored nothing.
    let editor = Scripted::new(&gateway, &[asks]);
    let environment = editor.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut terminal = gateway.terminal(&["edit", "server", "dev"], WIDE, &environment);
    terminal.wait_for("title?").await;
    terminal.type_keys("\u{3}");
    assert_eq!(terminal.ended().await, 1);
    assert!(terminal.screen().contains("error: the editor `sh "), "{}", terminal.screen());
    assert_eq!(editor.kept(), Vec::<PathBuf>::new());
    assert_eq!(json(&gateway, "get server dev").await["title"], "Wide");
}
