//! By which credential commands go on: whoever signs in and out, changes a password, or has a key and no file at all.

use serde_json::json;

use crate::people::{PASSWORD, Person, printed_link};
use crate::support::fake::{self, Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::verbs::told;

const ANN: &str = "users/ann@example.org";

/// The first administrator, signed in.
async fn ann(gateway: &Gateway) -> Person<'_> {
    let ann = Person::new(gateway, "ann").await;
    let link = printed_link(gateway).await;
    ann.ok(&format!("login --link {link} --email ann@example.org"), PASSWORD).await;
    ann
}

async fn run(person: &Person<'_>, line: &str, stdin: &str) -> (String, String, i32) {
    told(&person.run(&line.split_whitespace().collect::<Vec<_>>(), stdin).await)
}

async fn sessions(gateway: &Gateway) -> usize {
    let listed = gateway.ctl("get sessions ann@example.org -o json").await;
    serde_json::from_str::<Vec<serde_json::Value>>(&listed).unwrap().len()
}

fn said(text: impl Into<String>, talk: impl Into<String>, code: i32) -> (String, String, i32) {
    (text.into(), talk.into(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_may_be_nobodys_and_its_keys_give_no_more_than_it_has() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let ann = ann(&gateway).await;
    ann.ok("create service-account bot --owner= --role viewer", "").await;
    ann.ok("create service-account theirs --role viewer", "").await;
    let owner = async |name: &str| {
        let shown = ann.ok(&format!("get service-account {name} -o json"), "").await;
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["owner"].clone()
    };
    assert_eq!([owner("bot").await, owner("theirs").await], [json!(null), json!("users/ann@example.org")]);
    let (_, talk, code) = run(&ann, "create api-key bot --role administrator", "").await;
    let more = "which gives more than serviceAccounts/bot may: it has roles/viewer, and not ";
    assert!(talk.contains(more) && code == 2, "{talk}");
    // Whoever may not make one of nobody's has made none.
    let eve = Person::new(&gateway, "eve").await;
    gateway.ctl("create team core").await;
    let key = ann.ok("create service-account lead --role viewer", "").await;
    assert!(key.contains("serviceAccounts/lead"), "{key}");
    ann.ok("add member core serviceAccounts/lead --owner", "").await;
    let key = ann.ok("create api-key lead", "").await;
    let line = "create service-account hers --team core --role developer --owner=";
    let refused = eve.run_with(&line.split(' ').collect::<Vec<_>>(), "", Some(key.trim())).await;
    let (_, talk, code) = told(&refused);
    assert_eq!(
        (talk.as_str(), code),
        (
            "error: --owner '' takes the permission people.write everywhere, which the caller does not have; without --owner you answer for it yourself\n",
            4
        )
    );
    let (_, _, code) = run(&ann, "get service-account hers", "").await;
    assert_eq!(code, 3, "nothing was made");
    ann.ok("create api-key bot --role viewer", "").await;
    let (_, talk, _) = run(&ann, "get api-keys", "").await;
    assert_eq!(talk, "you have no API keys; `mcpctl get api-keys SERVICE-ACCOUNT` lists those of one\n");
    let (_, talk, code) = run(&ann, "revoke api-key bot", "").await;
    assert!(talk.contains("`mcpctl get api-keys SERVICE-ACCOUNT` those of one") && code == 3, "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_is_signed_out_whatever_else_is_set() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let ann = ann(&gateway).await;
    let key = ann.ok("create api-key --role viewer --expires 30d", "").await;
    let with_key = async |line: &str| {
        told(&ann.run_with(&line.split(' ').collect::<Vec<_>>(), "", Some(key.trim())).await)
    };
    let (shown, _, code) = with_key("whoami").await;
    assert!(shown.contains(" (TRUNKLINE_API_KEY), limited to viewer\n"), "{shown}");
    assert_eq!((code, sessions(&gateway).await), (0, 1));
    let goes_on = "commands go on with the API key in TRUNKLINE_API_KEY\n";
    assert_eq!(with_key("logout").await, said(format!("{ANN} signed out\n"), goes_on, 0));
    assert_eq!(sessions(&gateway).await, 0);

    // The admin token of the context counts again, and that is said; whoever wants may take it out.
    std::fs::write(gateway.folder().join("admin"), gateway.admin_token()).unwrap();
    ann.ok("config set-context home --admin-token-file admin", "").await;
    ann.ok("login --email ann@example.org", PASSWORD).await;
    let table = ann.ok("config get-contexts", "").await;
    let cells: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(cells[1].contains(&"ann@example.org"), "{table}");
    let goes_on = "context home goes on as system/administrator by its admin token; to take that out, run `mcpctl config set-context \
                   home --clear admin-token`\n";
    assert_eq!(run(&ann, "logout", "").await, said(format!("{ANN} signed out\n"), goes_on, 0));
    assert_eq!(ann.json("whoami").await["principal"], "system/administrator");
    let both = run(&ann, "config set-context home --clear edge --edge http://127.0.0.1:1", "").await;
    assert_eq!(both, said("", "error: --edge sets what --clear takes out; give one of them\n", 2));
    let cleared = run(&ann, "config set-context home --clear admin-token", "").await;
    assert_eq!(cleared, said("", "context home updated\n", 0));
    let (talk, code) = ann.fails("whoami", "").await;
    assert!(talk.starts_with("error: nobody is signed in at the control plane at ") && code == 4, "{talk}");

    // A context that goes away takes its session along, and one person may end all of theirs.
    ann.ok("login --email ann@example.org", PASSWORD).await;
    let other = Person::new(&gateway, "laptop").await;
    other.ok("login --email ann@example.org", PASSWORD).await;
    assert_eq!(sessions(&gateway).await, 2);
    let deleted = run(&other, "config delete-context home", "").await;
    assert_eq!(deleted, said("", format!("context home deleted\n{ANN} signed out\n"), 0));
    assert_eq!(sessions(&gateway).await, 1);
    let other = Person::new(&gateway, "laptop").await;
    other.ok("login --email ann@example.org", PASSWORD).await;
    assert_eq!(
        run(&ann, "logout --all", "").await,
        said(format!("{ANN} signed out on every device\n"), "", 0)
    );
    assert_eq!(sessions(&gateway).await, 0);
    let ended = format!("{ANN} signed out; the session had ended already\n");
    assert_eq!(run(&other, "logout", "").await, said(ended, "", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_changes_their_own_password_also_by_a_script() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let ann = ann(&gateway).await;
    let file = |name: &str, text: &str| std::fs::write(gateway.folder().join(name), text).unwrap();
    file("old", PASSWORD);
    file("new", "second horse battery\n");
    let changed = format!("the password of {ANN} is changed; their other sessions are signed out\n");
    let by_files = run(&ann, "change-password --password-file old --new-password-file new", "").await;
    assert_eq!(by_files, said(&changed, "", 0));
    let lines = "second horse battery\nthird horse battery\n";
    assert_eq!(run(&ann, "change-password", lines).await, said(&changed, "", 0));
    assert_eq!(
        run(&ann, "change-password", lines).await,
        said("", "error: the password of now is wrong\n", 4)
    );
    let (_, talk, code) = run(&ann, "change-password", "third horse battery\nshort\n").await;
    assert!(
        talk.starts_with("error: the new password must have at least 12 characters") && code == 2,
        "{talk}"
    );
    let (_, talk, code) = run(&ann, "change-password", "third horse battery\n").await;
    let ends = "error: stdin ends before a password that is needed: write one in each line, or name files\n";
    assert_eq!((talk.as_str(), code), (ends, 2));

    // One that must be changed is changed where somebody signs in, on the next line of stdin or from a file.
    let chosen = "another password must be chosen before anything else\n";
    ann.ok("logout", "").await;
    gateway.ctl("update user ann@example.org --must-change-password").await;
    let (shown, talk, code) =
        run(&ann, "login --email ann@example.org", "third horse battery\nfourth horse battery\n").await;
    assert!(shown.starts_with(&format!("signed in as {ANN} until ")), "{shown}");
    assert_eq!((talk.as_str(), code), (chosen, 0));
    gateway.ctl("update user ann@example.org --must-change-password").await;
    file("old", "fourth horse battery");
    file("new", "fifth horse battery");
    // The context knows who it was.
    let (_, talk, code) = run(&ann, "login --password-file old --new-password-file new", "").await;
    assert_eq!((talk.as_str(), code), (chosen, 0));
    assert_eq!(ann.json("whoami").await["principal"], ANN);
    ann.ok("logout", "").await;
    let nobody = "error: nobody is signed in in this context; say who signs in with --email\n";
    assert_eq!(run(&ann, "login", PASSWORD).await, said("", nobody, 2));
    let nobody = "error: nobody is signed in in this context; run `mcpctl login` first: keys and the admin token have no password\n";
    assert_eq!(run(&ann, "change-password", lines).await, said("", nobody, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_two_urls_are_enough() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, request| {
        let body = r#"{"content":[{"type":"text","text":"hello"}]}"#;
        vec![fake::json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{body}}}"#, fake::id(request)))]
    })
    .await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create service-account ci --role administrator").await;
    let key = gateway.ctl("create api-key ci").await.trim().to_owned();
    gateway.admin.settled().await;
    let urls = [
        ("MCPCTL_CONTROL", format!("http://{}", gateway.control_address())),
        ("MCPCTL_EDGE", format!("http://{}", gateway.edge_address(0))),
    ];
    let [control, edge] = urls;
    let mut environment = vec![("MCPCTL_CONFIG", "none.yaml".to_owned()), control, edge];
    let nobody = told(&gateway.try_ctl_in(&["get", "servers"], &environment).await);
    assert_eq!((nobody.0.as_str(), nobody.2), ("", 4), "{}", nobody.1);
    // Nothing of a file goes to a gateway that is named beside it.
    let beside = told(&gateway.try_ctl_in(&["get", "servers"], &environment[1..]).await);
    assert_eq!((beside.0.as_str(), beside.2), ("", 4), "{}", beside.1);
    environment.push(("TRUNKLINE_API_KEY", key));
    let run = async |line: &str| {
        told(&gateway.try_ctl_in(&line.split(' ').collect::<Vec<_>>(), &environment).await)
    };
    assert_eq!(run("get servers -o name").await, said("servers/dev\n", "", 0));
    assert_eq!(run("call dev fake_echo").await, said("hello\n", "", 0));
    let (bearer, talk, code) = run("create token build --server dev").await;
    assert!(bearer.trim().split('.').count() == 3 && code == 0, "{bearer}{talk}");
    let unsaved = "MCPCTL_CONTROL or MCPCTL_EDGE is set, and nothing is saved for that gateway; unset it, or name a context with --context";
    assert!(
        talk.contains(&format!("warning: the bearer of tokens/build is not saved; keep it: {unsaved}\n")),
        "{talk}"
    );
    let signing_in = run("login --email ann@example.org").await;
    assert_eq!(signing_in, said("", format!("error: {unsaved}\n"), 2));
    let (shown, _, _) = run("whoami -o json").await;
    let caller: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(caller["principal"], json!("serviceAccounts/ci"));
    assert!(!gateway.folder().join("none.yaml").exists());
    let (options, _, _) = run("options").await;
    for variable in [
        "MCPCTL_CONTROL",
        "MCPCTL_EDGE",
        "MCPCTL_CA_FILE",
        "MCPCTL_CLIENT_CERT",
        "TRUNKLINE_API_KEY",
        "TRUNKLINE_TOKEN",
    ] {
        assert!(options.contains(&format!("\n  {variable}\n")), "{options}");
    }
}
