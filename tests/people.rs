//! People as they come and go: the first administrator, invitations, sign-in, keys of programs, and the end of somebody's access, with
//! `mcpctl` alone.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, binary, eventually};
use crate::verbs::told;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// `mcpctl` of somebody else, with a context of their own.
pub(crate) struct Person<'a> {
    gateway: &'a Gateway,
    config: PathBuf,
}

impl<'a> Person<'a> {
    pub(crate) async fn new(gateway: &'a Gateway, name: &str) -> Self {
        let person = Self { gateway, config: gateway.folder().join(format!("{name}.yaml")) };
        let control = format!("http://{}", gateway.control_address());
        let mut arguments = vec!["config", "set-context", "home", "--control", &control];
        let edge = format!(
            "http://{}",
            if gateway.edge_count() > 0 { gateway.edge_address(0) } else { "127.0.0.1:1" }
        );
        arguments.extend(["--edge", &edge]);
        assert!(person.run(&arguments, "").await.status.success());
        person
    }

    pub(crate) async fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        self.run_with(arguments, stdin, None).await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], stdin: &str, key: Option<&str>) -> Output {
        let mut command = tokio::process::Command::new(binary("mcpctl"));
        command.args(arguments).env("MCPCTL_CONFIG", &self.config).env("NO_COLOR", "1").kill_on_drop(true);
        command.envs(key.map(|key| ("TRUNKLINE_API_KEY", key))).current_dir(self.gateway.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Who is not asked does not read.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap()
    }

    /// Runs what must succeed. Returns what it printed.
    pub(crate) async fn ok(&self, line: &str, stdin: &str) -> String {
        let output = self.run(&line.split_whitespace().collect::<Vec<_>>(), stdin).await;
        let (said, talk, code) = told(&output);
        assert_eq!(code, 0, "mcpctl {line}:\n{said}{talk}");
        said
    }

    /// Runs what must fail. Returns what it said, and the exit code.
    pub(crate) async fn fails(&self, line: &str, stdin: &str) -> (String, i32) {
        let output = self.run(&line.split_whitespace().collect::<Vec<_>>(), stdin).await;
        let (said, talk, code) = told(&output);
        assert_ne!(code, 0, "mcpctl {line}: {said}{talk}");
        (talk, code)
    }

    pub(crate) async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json"), "").await).unwrap()
    }
}

/// The link that the control plane printed.
pub(crate) async fn printed_link(gateway: &Gateway) -> String {
    eventually("a link is printed", PATIENCE, || async {
        let said = gateway.control_said();
        let found = said.split_whitespace().find(|word| word.starts_with("tll_")).map(str::to_owned);
        found.ok_or(said)
    })
    .await
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_and_go_on_sqlite() {
    people_come_and_go(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_and_go_on_postgres() {
    people_come_and_go(Store::Postgres).await;
}

async fn people_come_and_go(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    // The first administrator, by the link of the first start.
    let ann = Person::new(&gateway, "ann").await;
    let link = printed_link(&gateway).await;
    let said = ann.ok(&format!("login --link {link} --email ann@example.org"), PASSWORD).await;
    assert!(said.starts_with("signed in as users/ann@example.org until "), "{said}");
    assert_eq!(mode(&ann.config), 0o600);
    let (_, code) = ann.fails(&format!("login --link {link} --email eve@example.org"), PASSWORD).await;
    assert_eq!(code, 4);
    let me = ann.json("whoami").await;
    assert_eq!(me["principal"], "users/ann@example.org");
    assert_eq!(me["bindings"][0]["role"], "roles/administrator");

    // She invites somebody, who chooses a password and signs in again later.
    let invited = ann.ok("create user bob@example.org --title Bob --role viewer", "").await;
    let bob = Person::new(&gateway, "bob").await;
    let (said, code) = bob.fails("login --email bob@example.org", PASSWORD).await;
    assert_eq!((said.as_str(), code), ("error: the email address or the password is wrong\n", 4));
    let (said, _) = bob.fails(&format!("login --link {}", invited.trim()), "too short").await;
    assert!(said.contains("password must have at least 12 characters"), "{said}");
    bob.ok(&format!("login --link {}", invited.trim()), PASSWORD).await;
    assert_eq!(bob.ok("logout", "").await, "users/bob@example.org signed out\n");
    let (said, code) = bob.fails("get servers", "").await;
    assert!(said.contains("run `mcpctl login --email EMAIL`"), "{said}");
    assert_eq!(code, 4);
    bob.ok("login --email bob@example.org", PASSWORD).await;
    bob.ok("get servers", "").await;
    let (said, code) = bob.fails("create server dev --tool time/*", "").await;
    assert_eq!(code, 4);
    assert!(
        said.contains("this takes the permission servers.write, which the caller does not have"),
        "{said}"
    );

    // What there is of people.
    let users = ann.ok("get users", "").await;
    let rows: Vec<Vec<_>> = users.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[2][..4], ["bob@example.org", "active", "Bob", "viewer"], "{users}");
    ann.ok("update user bob@example.org --title Robert", "").await;
    let shown = ann.ok("describe user bob@example.org", "").await;
    assert!(shown.contains("Robert") && shown.contains("viewer"), "{shown}");
    assert_eq!(ann.json("get sessions bob@example.org").await.as_array().unwrap().len(), 1);

    // Bob leaves.
    assert_eq!(ann.ok("disable user bob@example.org", "").await, "users/bob@example.org disabled\n");
    let (said, code) = bob.fails("whoami", "").await;
    assert_eq!(
        (said.as_str(), code),
        ("error: the session has ended; sign in again with `mcpctl login`\n", 4)
    );
    ann.ok("enable user bob@example.org", "").await;
    let reset = ann.ok("reset-password bob@example.org", "").await;
    bob.ok(&format!("login --link {}", reset.trim()), "another horse battery").await;
    let (said, code) = ann.fails("delete user ann@example.org", "").await;
    assert_eq!(code, 6);
    assert!(said.contains("users/ann@example.org is the last active administrator"), "{said}");
    ann.ok("delete user bob@example.org", "").await;
    let (_, code) = ann.fails("get user bob@example.org", "").await;
    assert_eq!(code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_administer_by_keys_on_sqlite() {
    programs_administer_by_keys(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_administer_by_keys_on_postgres() {
    programs_administer_by_keys(Store::Postgres).await;
}

async fn programs_administer_by_keys(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    gateway.ctl("create service-account ci --role viewer --title builds").await;
    let key = gateway.ctl("create api-key ci --title nightly --expires 30d").await;
    let program = Person::new(&gateway, "program").await;
    let run = async |line: &str| {
        let arguments: Vec<_> = line.split_whitespace().collect();
        told(&program.run_with(&arguments, "", Some(key.trim())).await)
    };
    let (said, _, code) = run("whoami -o json").await;
    assert_eq!(code, 0);
    let me: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(me["principal"], "serviceAccounts/ci");
    assert_eq!(run("get servers").await.2, 0);
    assert_eq!(run("create server dev --tool time/*").await.2, 4);
    let keys: Value = serde_json::from_str(&gateway.ctl("get api-keys ci -o json").await).unwrap();
    assert_eq!(keys[0]["title"], "nightly");
    gateway.ctl("disable service-account ci").await;
    assert_eq!(run("whoami").await.2, 4);
    gateway.ctl("enable service-account ci").await;
    assert_eq!(run("whoami").await.2, 0);
    let name = keys[0]["name"].as_str().unwrap();
    assert_eq!(gateway.ctl(&format!("revoke api-key {name}")).await, format!("{name} revoked\n"));
    let (_, talk, code) = run("whoami").await;
    assert_eq!(code, 4);
    assert!(talk.contains("the API key is unknown, revoked or expired"), "{talk}");
    gateway.ctl("delete service-account ci").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_admin_token_people_alone_get_in() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    let ann = Person::new(&gateway, "ann").await;
    let link = printed_link(&gateway).await;
    ann.ok(&format!("login --link {link} --email ann@example.org"), PASSWORD).await;
    drop(ann);
    gateway.stop_control();
    // The variable has the token; the option counts.
    gateway.configure_control(&["--admin-token", "off"], &[]);
    gateway.spawn_control();
    let ann = Person { gateway: &gateway, config: gateway.folder().join("ann.yaml") };
    eventually("she is let in", PATIENCE, || async {
        let output = ann.run(&["whoami"], "").await;
        if output.status.success() { Ok(()) } else { Err(told(&output).1) }
    })
    .await;
    let output = gateway.try_ctl(&["whoami"]).await;
    assert_eq!(told(&output).2, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_token_is_nobodys_and_whoami_says_so() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let said = gateway.ctl("whoami").await;
    assert!(said.contains("system/administrator") && said.contains("the admin token"), "{said}");
}
