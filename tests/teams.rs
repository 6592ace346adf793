//! Teams and roles, by the commands that people type, on both databases.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};

/// What a command printed and said, and how it ended.
async fn told(gateway: &Gateway, line: &str) -> (String, String, i32) {
    let output = gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

async fn get(gateway: &Gateway, line: &str) -> Value {
    serde_json::from_str(&gateway.ctl(&format!("get {line} -o json")).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_is_made_filled_and_taken_apart_on_sqlite() {
    a_team_is_made_filled_and_taken_apart(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_is_made_filled_and_taken_apart_on_postgres() {
    a_team_is_made_filled_and_taken_apart(Store::Postgres).await;
}

async fn a_team_is_made_filled_and_taken_apart(store: Store) {
    let gateway = Gateway::start(store, 1).await;
    assert_eq!(gateway.ctl("create team core --title Core").await, "teams/core created\n");
    let (secret, said, code) = told(&gateway, "invite core Ann@example.org --owner").await;
    assert!(secret.starts_with("tll_") && secret.lines().count() == 1, "{secret}");
    let shown = "Ann@example.org is invited. With this link, good once until ";
    assert!(said.starts_with(shown) && said.contains("mcpctl login --link"), "{said}");
    assert_eq!(code, 0);
    gateway.ctl("invite core bob@example.org").await;
    let (_, said, code) = told(&gateway, "invite core bob@example.org").await;
    let expected = "bob@example.org is a user already; run `mcpctl add member core bob@example.org`";
    assert!(said.contains(expected), "{said}");
    assert_ne!(code, 0);

    let added = gateway.ctl("add member core bob@example.org --role viewer").await;
    let expected = "users/bob@example.org is a member of teams/core\n";
    assert_eq!(added, expected);
    let members = get(&gateway, "members core").await;
    let short: Vec<_> =
        members.as_array().unwrap().iter().map(|m| (&m["principal"], &m["owner"], &m["role"])).collect();
    // Fields that have their default are left out, as in every document.
    let (viewer, none) = (json!("roles/viewer"), Value::Null);
    assert_eq!(
        short,
        [
            (&json!("users/ann@example.org"), &json!(true), &none),
            (&json!("users/bob@example.org"), &none, &viewer),
        ]
    );
    assert_eq!(
        gateway.ctl("get members core -o name").await,
        "users/ann@example.org\nusers/bob@example.org\n"
    );
    let table = gateway.ctl("get teams").await;
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().take(4).collect();
    assert_eq!(row, ["core", "Core", "2", "ann@example.org"]);
    let described = gateway.ctl("describe team core").await;
    assert!(described.contains("Members:") && described.contains("users/ann@example.org"), "{described}");

    // People are in no file: applying one neither adds nor removes them.
    std::fs::write(gateway.folder().join("core.yaml"), gateway.ctl("export teams").await).unwrap();
    assert!(!std::fs::read_to_string(gateway.folder().join("core.yaml")).unwrap().contains("ann@"));
    gateway.ctl("apply -f core.yaml").await;
    assert_eq!(get(&gateway, "members core").await.as_array().unwrap().len(), 2);

    assert_eq!(
        gateway.ctl("remove member core bob@example.org").await,
        "users/bob@example.org removed from teams/core\n"
    );
    let (_, said, code) = told(&gateway, "delete team core").await;
    assert!(said.contains("teams/core has 1 member and"), "{said}");
    assert_ne!(code, 0);
    gateway.ctl("delete team core --force --yes").await;
    assert_eq!(gateway.ctl("get teams -o name").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_made_bound_and_taken_back_on_sqlite() {
    a_role_is_made_bound_and_taken_back(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_made_bound_and_taken_back_on_postgres() {
    a_role_is_made_bound_and_taken_back(Store::Postgres).await;
}

async fn a_role_is_made_bound_and_taken_back(store: Store) {
    let gateway = Gateway::start(store, 1).await;
    gateway.ctl("create team core").await;
    gateway.ctl("invite core ann@example.org").await;
    let made = gateway.ctl("create role caller --permission registry.read --permission servers.call").await;
    assert_eq!(made, "roles/caller created\n");
    let names =
        "roles/administrator\nroles/auditor\nroles/caller\nroles/developer\nroles/team-owner\nroles/viewer\n";
    assert_eq!(gateway.ctl("get roles -o name").await, names);
    let exported = gateway.ctl("export roles").await;
    assert!(exported.contains("caller") && !exported.contains("administrator"), "{exported}");
    let (_, said, code) = told(&gateway, "update role viewer --title mine").await;
    assert!(said.contains("roles/viewer is built in, and cannot be changed"), "{said}");
    assert_ne!(code, 0);

    let bound = gateway.ctl("bind role caller ann@example.org").await;
    assert_eq!(bound, "users/ann@example.org has caller everywhere\n");
    let bound = gateway.ctl("bind role caller ann@example.org --team core").await;
    assert_eq!(bound, "users/ann@example.org has caller in core\n");
    gateway.ctl("update role caller --permission registry.read --yes").await;
    assert_eq!(get(&gateway, "role caller").await["permissions"], json!(["registry.read"]));
    let (_, said, code) = told(&gateway, "delete role caller").await;
    assert!(said.contains("roles/caller is the role of 1"), "{said}");
    assert_ne!(code, 0);
    let unbound = gateway.ctl("unbind role caller ann@example.org").await;
    assert_eq!(unbound, "users/ann@example.org no longer has caller everywhere\n");
    gateway.ctl("delete role caller --force --yes").await;
    let (_, said, _) = told(&gateway, "unbind role caller ann@example.org --team core").await;
    assert!(said.contains("roles/caller, which does not exist"), "{said}");
}
