//! Nothing is lost by accident: what deletes much asks first, what is refused deletes nothing, and a trial changes nothing.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::{PATIENCE, binary, eventually, free_port};

/// What a command said, and how it ended.
fn said(output: &Output) -> (String, i32) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (text, output.status.code().unwrap_or(-1))
}

/// The same, with what it printed before that.
fn whole(output: &Output) -> (String, String, i32) {
    let (text, code) = said(output);
    (String::from_utf8_lossy(&output.stdout).into_owned(), text, code)
}

fn write_upstreams(path: &Path, ids: &[&str]) {
    let one = |id: &&str| {
        format!("kind: Upstream\nname: {id}\nhttp: {{url: 'http://127.0.0.1:1/mcp'}}\ndisabled: true\n")
    };
    std::fs::write(path, ids.iter().map(one).collect::<Vec<_>>().join("---\n")).unwrap();
}

async fn names(gateway: &Gateway, kind: &str) -> Vec<String> {
    let listed = gateway.ctl(&format!("get {kind} -o name")).await;
    listed.lines().map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pruned_by_accident_on_sqlite() {
    nothing_is_pruned_by_accident(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pruned_by_accident_on_postgres() {
    nothing_is_pruned_by_accident(Store::Postgres).await;
}

async fn nothing_is_pruned_by_accident(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let file = gateway.folder().join("team.yaml");
    write_upstreams(&file, &["a", "b", "c", "d"]);
    gateway.ctl("apply -f team.yaml --set team").await;

    std::fs::create_dir(gateway.folder().join("empty")).unwrap();
    let refused =
        gateway.try_ctl(&["apply", "-f", "empty", "--prune", "--set", "team", "--yes", "--force"]).await;
    assert_eq!(
        said(&refused),
        (
            "error: the files contain no resources, so that --prune would delete the whole set; \
             run `mcpctl delete` to delete resources\n"
                .to_owned(),
            2
        )
    );

    write_upstreams(&file, &["a"]);
    let refused = gateway.try_ctl(&["apply", "-f", "team.yaml", "--prune", "--set", "team", "--yes"]).await;
    assert_eq!(
        said(&refused),
        (
            "error: prune would delete 3 of the 4 resources of set team: upstreams/b, upstreams/c, upstreams/d; \
             add --force to delete them anyway\n"
                .to_owned(),
            6
        )
    );

    write_upstreams(&file, &["a", "b", "c"]);
    let refused = gateway.try_ctl(&["apply", "-f", "team.yaml", "--prune", "--set", "team"]).await;
    assert_eq!(
        said(&refused),
        (
            "- upstreams/d\nerror: this deletes 1 resource of set team, and nobody can be asked here; \
             nothing was changed; add --yes to confirm\n"
                .to_owned(),
            2
        )
    );
    assert_eq!(names(&gateway, "upstreams").await, ["a", "b", "c", "d"]);

    // Where nothing goes, nobody is asked.
    write_upstreams(&file, &["a", "b", "c", "d"]);
    gateway.ctl("apply -f team.yaml --prune --set team").await;
    write_upstreams(&file, &["a", "b", "c"]);
    assert_eq!(
        gateway.ctl("apply -f team.yaml --prune --set team --yes").await,
        "  upstreams/a unchanged\n  upstreams/b unchanged\n  upstreams/c unchanged\n- upstreams/d deleted\n"
    );

    let refused = gateway.try_ctl(&["apply", "-f", "team.yaml", "--set", "tem"]).await;
    assert_eq!(
        said(&refused),
        (
            "warning: set tem is new; did you mean --set team?\n\
             error: set team has applied upstreams/a, upstreams/b, upstreams/c; add --set team to change them there, \
             or add --take-over to move them to set tem\n"
                .to_owned(),
            6
        )
    );
    // What was made by hand and is the same belongs to nobody afterwards either.
    gateway.ctl("create upstream own --url http://127.0.0.1:1/mcp --disabled").await;
    let own = gateway.ctl("get upstream own -o yaml").await;
    std::fs::write(gateway.folder().join("own.yaml"), own).unwrap();
    gateway.ctl("apply -f own.yaml").await;
    write_upstreams(&file, &["e"]);
    gateway.ctl("apply -f team.yaml --prune --yes").await;
    assert_eq!(names(&gateway, "upstreams").await, ["a", "b", "c", "e", "own"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_deleted_or_none_on_sqlite() {
    many_are_deleted_or_none(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_deleted_or_none_on_postgres() {
    many_are_deleted_or_none(Store::Postgres).await;
}

async fn many_are_deleted_or_none(store: Store) {
    let gateway = Gateway::start(store, 1).await;
    let file = gateway.folder().join("team.yaml");
    write_upstreams(&file, &["a", "b"]);
    gateway.ctl("apply -f team.yaml").await;
    gateway.ctl("create server dev --tool a/*").await;

    let (text, code) = said(&gateway.try_ctl(&["delete", "upstream", "b", "nosuch"]).await);
    assert!(text.starts_with("error: upstreams/nosuch does not exist"), "{text}");
    assert_eq!(code, 3);
    assert_eq!(
        said(&gateway.try_ctl(&["delete", "upstream", "b", "a"]).await),
        ("error: upstreams/a is used by servers/dev; add --force to delete it anyway\n".to_owned(), 6)
    );
    let (text, code) = said(&gateway.try_ctl(&["delete", "-f", "team.yaml"]).await);
    assert!(text.contains("add --force") && code == 6, "{text}");
    std::fs::write(gateway.folder().join("server.yaml"), "kind: Server\nname: dev\n").unwrap();
    assert_eq!(
        said(&gateway.try_ctl(&["delete", "-f", "team.yaml", "-f", "server.yaml"]).await),
        (
            "- upstreams/a\n- upstreams/b\n- servers/dev\nerror: this deletes 3 resources, and nobody can be asked here; \
             nothing was changed; add --yes to confirm\n"
                .to_owned(),
            2
        )
    );
    assert_eq!(gateway.ctl("delete upstream b --dry-run").await, "upstreams/b deleted (dry run)\n");
    assert_eq!(names(&gateway, "upstreams").await, ["a", "b"]);
    assert_eq!(
        gateway.ctl("delete -f team.yaml -f server.yaml --yes").await,
        "upstreams/a deleted\nupstreams/b deleted\nservers/dev deleted\n"
    );
    assert_eq!(names(&gateway, "upstreams").await, [""; 0]);

    trials_change_nothing(&gateway).await;
}

/// Edges and join tokens are no resources of the registry, and have the same verbs.
async fn trials_change_nothing(gateway: &Gateway) {
    let before = names(gateway, "join-tokens").await;
    assert_eq!(gateway.ctl("create join-token --dry-run").await, "join token created (dry run)\n");
    assert_eq!(names(gateway, "join-tokens").await, before);
    let token = before.first().unwrap();
    let line = format!("delete join-token {token} --dry-run");
    assert_eq!(gateway.ctl(&line).await, format!("joinTokens/{token} deleted (dry run)\n"));
    let connected = "error: edges/e0 is connected; once deleted it serves on what it has, without hearing of revocations, for \
                     --trust-max-age at most; stop it first, or add --force\n";
    for line in [["delete", "edge", "e0"].as_slice(), &["delete", "edge", "e0", "--dry-run"]] {
        assert_eq!(said(&gateway.try_ctl(line).await), (connected.to_owned(), 6));
    }
    assert_eq!(gateway.ctl("delete edge e0 --force --dry-run").await, "edges/e0 deleted (dry run)\n");
    let (text, code) = said(&gateway.try_ctl(&["delete", "edge", "e0", "nosuch", "--force"]).await);
    assert!(text.starts_with("error: edges/nosuch does not exist") && code == 3, "{text}");
    assert_eq!(
        said(&gateway.try_ctl(&["delete", "join-token", token, "--force"]).await),
        ("error: --force has no meaning for join tokens; leave it out\n".to_owned(), 2)
    );
    gateway.ctl("create join-token").await;
    let new = names(gateway, "join-tokens").await.into_iter().find(|name| !before.contains(name)).unwrap();
    assert_eq!(gateway.ctl(&format!("revoke join-token {new}")).await, format!("joinTokens/{new} revoked\n"));
    assert_eq!(
        (names(gateway, "join-tokens").await, names(gateway, "edges").await),
        (before, vec!["e0".to_owned()])
    );
}

/// The ports of a `mcpctl dev`, and its folder.
struct Dev {
    folder: Folder,
    edge: u16,
    control: u16,
}

impl Dev {
    fn new() -> Self {
        Self { folder: Folder::new(), edge: free_port(), control: free_port() }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self) -> std::path::PathBuf {
        self.data().join("mcpctl.yaml")
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(binary("mcpctl"));
        command.arg("dev").arg("--data-dir").arg(self.data());
        let ports =
            [("--edge-listen", self.edge), ("--control-listen", self.control), ("--ops-listen", free_port())];
        for (option, port) in ports {
            command.args([option, &format!("127.0.0.1:{port}")]);
        }
        command
    }

    /// Its file may be there from before.
    async fn start(&self, name: &str) -> Process {
        let mut process = Process::start(name, self.command(), self.folder.path());
        eventually("mcpctl dev is ready", PATIENCE, || {
            process.assert_alive();
            let said = process.output();
            async move { if said.contains("Trunkline is ready") { Ok(()) } else { Err(said) } }
        })
        .await;
        process
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = std::process::Command::new(binary("mcpctl"));
        command.args(arguments).env("MCPCTL_CONFIG", self.file()).env("NO_COLOR", "1");
        command.stdin(std::process::Stdio::null()).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_keeps_the_bearers() {
    let dev = Dev::new();
    let mut first = dev.start("first").await;
    assert!(dev.ctl(&["create", "token", "laptop", "--server", "*"]).status.success());
    let before = std::fs::read_to_string(dev.file()).unwrap();
    assert!(before.contains("laptop"), "{before}");

    // While it runs, nobody else gets as far as its files.
    let (text, code) = said(&dev.command().output().unwrap());
    let holder = format!(
        "is in use by mcpctl, process {}, on 127.0.0.1:{}; stop that first, or start this one with another --data-dir, \
         --edge-listen, --control-listen and --ops-listen\n",
        first.pid(),
        dev.control
    );
    assert!(text.ends_with(&holder) && code == 1, "{text}");
    assert_eq!(std::fs::read_to_string(dev.file()).unwrap(), before);

    first.kill();
    let taken = std::net::TcpListener::bind(("127.0.0.1", dev.edge)).unwrap();
    let (text, code) = said(&dev.command().output().unwrap());
    assert!(text.contains("cannot start the edge: ") && code == 1, "{text}");
    assert_eq!(std::fs::read_to_string(dev.file()).unwrap(), before, "byte for byte");
    drop(taken);

    let _again = dev.start("again").await;
    let bearer = dev.ctl(&["config", "get-bearer", "laptop"]);
    assert!(bearer.status.success(), "{bearer:?}");
    // One that was killed could not revoke the join token of its edge; the next one has.
    let (tokens, _, code) = whole(&dev.ctl(&["get", "join-tokens", "-o", "name"]));
    assert_eq!((tokens.lines().count(), code), (1, 0), "{tokens}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_hides_no_context_and_a_killed_one_loses_none() {
    let dev = Dev::new();
    std::fs::create_dir(dev.data()).unwrap();
    let text = "currentContext: prod\ncontexts:\n  prod:\n    control: http://127.0.0.1:1\n";
    std::fs::write(dev.file(), text).unwrap();
    // A control plane that waits for its database starts for as long as one likes.
    let mut command = dev.command();
    command.env("TRUNKLINE_DATABASE_URL", format!("postgres://127.0.0.1:{}/none", free_port()));
    command.args(["--log", "info"]);
    let mut starting = Process::start("starting", command, dev.folder.path());
    eventually("it starts", PATIENCE, || {
        starting.assert_alive();
        let said = starting.output();
        async move { if said.contains("waiting for PostgreSQL") { Ok(()) } else { Err(said) } }
    })
    .await;
    assert_eq!(std::fs::read_to_string(dev.file()).unwrap(), text);
    std::fs::write(dev.folder.path().join("bearer"), "e30.e30.e30").unwrap();
    let bearer = dev.folder.path().join("bearer");
    let save = ["config", "set-bearer", "gift", "--file", bearer.to_str().unwrap()];
    assert!(dev.ctl(&save).status.success());
    starting.kill();
    let printed = |line: &[&str]| {
        let (text, warnings, code) = whole(&dev.ctl(line));
        assert_eq!((warnings.as_str(), code), ("", 0), "{line:?}");
        text
    };
    assert_eq!(printed(&["config", "get-bearer", "gift"]), "e30.e30.e30\n");

    let mut running = dev.start("running").await;
    let told = format!(
        "The current context of {} is dev now; when this ends, it is prod again.",
        dev.file().display()
    );
    eventually("it says what it has switched", PATIENCE, || {
        let said = running.output();
        let is_told = said.contains(&told);
        async move { if is_told { Ok(()) } else { Err(said) } }
    })
    .await;
    assert_eq!(printed(&["config", "current-context"]), "dev\n");
    assert!(running.terminate(PATIENCE).success());
    assert_eq!(printed(&["config", "current-context"]), "prod\n");
    assert_eq!(printed(&["config", "get-bearer", "gift"]), "e30.e30.e30\n");
}

#[test]
fn a_bearer_is_not_saved_where_nobody_looks() {
    let dev = Dev::new();
    let bearer = dev.folder.path().join("bearer");
    std::fs::write(&bearer, "e30.e30.e30").unwrap();
    let (text, code) = said(&dev.ctl(&["config", "set-bearer", "gift", "--file", bearer.to_str().unwrap()]));
    let advice = "run `mcpctl config set-context NAME --control URL --edge URL` first";
    assert_eq!((text, code), (format!("error: no context in {}; {advice}\n", dev.file().display()), 2));
    assert!(!dev.file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_dev_that_was_deleted_or_lost_comes_back_by_itself() {
    let dev = Dev::new();
    let mut first = dev.start("first").await;
    let connected = async || {
        eventually("the edge is connected", PATIENCE, || async {
            let (text, _, _) = whole(&dev.ctl(&["get", "edges", "-o", "json"]));
            if text.contains("\"connected\": true") { Ok(()) } else { Err(text) }
        })
        .await;
    };
    for _ in 0..2 {
        let (text, code) = said(&dev.ctl(&["delete", "edge", "local"]));
        assert!(text.contains("stop it first, or add --force") && code == 6, "{text}");
        let deleted = whole(&dev.ctl(&["delete", "edge", "local", "--force"]));
        assert_eq!(deleted, ("edges/local deleted\n".to_owned(), String::new(), 0));
        connected().await;
    }
    assert!(dev.ctl(&["create", "token", "laptop", "--server", "*"]).status.success());
    let revoked = whole(&dev.ctl(&["revoke", "token", "laptop"]));
    assert_eq!(revoked, ("tokens/laptop revoked\n".to_owned(), String::new(), 0));
    let (again, _, code) = whole(&dev.ctl(&["revoke", "token", "laptop"]));
    assert!(again.starts_with("tokens/laptop was revoked already, ") && code == 0, "{again}");
    assert!(first.terminate(PATIENCE).success());
    std::fs::remove_dir_all(dev.data().join("edge")).unwrap();
    let _second = dev.start("second").await;
    connected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_steps_lead_to_the_gateway_that_printed_them() {
    let dev = Dev::new();
    let mut command = dev.command();
    command.env("MCPCTL_CONFIG", dev.folder.path().join("prod.yaml")).env("MCPCTL_CONTEXT", "prod");
    let running = Process::start("elsewhere", command, dev.folder.path());
    let steps = format!(
        "Next, in another terminal:\n\n  export MCPCTL_CONFIG={}\n  export MCPCTL_CONTEXT=dev\n  mcpctl expose ",
        dev.file().display()
    );
    eventually("it says what to do next", PATIENCE, || {
        let said = running.output();
        let is_told = said.contains(&steps);
        async move { if is_told { Ok(()) } else { Err(said) } }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_names_the_edges_that_do_not_hear_of_it() {
    let mut gateway = Gateway::start(Store::Sqlite, 1).await;
    for token in ["one", "two", "three"] {
        gateway.ctl(&format!("create token {token} --server * --no-save")).await;
    }
    let revoked = |token: &str, warning: String| (format!("tokens/{token} revoked\n"), warning, 0);
    let said = whole(&gateway.try_ctl(&["revoke", "token", "one"]).await);
    assert_eq!(said, revoked("one", String::new()));
    gateway.kill_edge(0);
    let until = "until it hears of this, for --trust-max-age of the control plane at most (24h unless set)\n";
    // Whether or not the control plane has noticed.
    let warning =
        format!("warning: not acknowledged by edges/e0, which may go on accepting the token: each {until}");
    let said = whole(&gateway.try_ctl(&["revoke", "token", "two", "--timeout", "1s"]).await);
    assert_eq!(said, revoked("two", warning));
    gateway.ctl("delete edge e0 --force").await;
    let warning = format!(
        "warning: no edge is connected; one that runs without reaching the control plane may go on accepting the token {until}"
    );
    let said = whole(&gateway.try_ctl(&["revoke", "token", "three"]).await);
    assert_eq!(said, revoked("three", warning));
}

#[test]
fn a_context_with_bearers_is_not_deleted_without_a_question() {
    let folder = Folder::new();
    let file = folder.path().join("mcpctl.yaml");
    let text = "contexts:\n  dev:\n    control: http://127.0.0.1:1\n    tokens:\n      laptop:\n        bearer: s3cret\n";
    std::fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(binary("mcpctl"));
    command.args(["config", "delete-context", "dev"]).env("MCPCTL_CONFIG", &file);
    let refused = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(
        said(&refused),
        (
            "error: context dev holds the only copy of the bearers of laptop, and nobody can be asked here; \
             nothing was changed; add --yes to confirm\n"
                .to_owned(),
            2
        )
    );
    let asked = |answer: &str| {
        let (mut terminal, side) = pty_process::blocking::open().unwrap();
        let command = pty_process::blocking::Command::new(binary("mcpctl"));
        let command = command.args(["config", "delete-context", "dev"]).env("MCPCTL_CONFIG", &file);
        let mut child = command.spawn(side).unwrap();
        terminal.write_all(answer.as_bytes()).unwrap();
        let status = child.wait().unwrap();
        // Reading a terminal that nobody writes to any more ends with an error.
        let mut text = Vec::new();
        let _ = terminal.read_to_end(&mut text);
        (String::from_utf8_lossy(&text).into_owned(), status.code().unwrap())
    };
    let (text, code) = asked("n\n");
    assert!(text.contains("the bearers of laptop; continue? [y/N]") && code == 1, "{text}");
    assert!(text.contains("stopped; nothing was changed"), "{text}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("s3cret"));
    let (text, code) = asked("\u{4}");
    assert!(
        text.contains("continue? [y/N] \r\n")
            && text.contains("stopped; nothing was changed\r\n")
            && code == 1,
        "{text:?}"
    );
    let (text, code) = asked("yes\n");
    assert_eq!(code, 0, "{text}");
    let left: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(left["contexts"], serde_json::json!({}));
}
