//! Resource files as people have them: secrets by reference, errors with file and line, and files that are applied again.

use std::process::Output;

use serde_json::Value;

use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};

/// What was said, first on stdout and then on stderr, and the exit code.
fn said(output: &Output) -> (String, i32) {
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    (text, output.status.code().unwrap_or(-1))
}

fn write(gateway: &Gateway, name: &str, text: &str) {
    let path = gateway.folder().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn etag(gateway: &Gateway, kind: &str, name: &str) -> String {
    let shown: Value =
        serde_json::from_str(&gateway.ctl_args(&["get", kind, name, "-o", "json"]).await).unwrap();
    shown["meta"]["etag"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_given_by_reference_and_never_shown() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    let file = |token: &str| {
        format!(
            "kind: Upstream\nname: a\nhttp:\n  url: {}\ncredential:\n  bearer:\n    token: {token}\n",
            upstream.url()
        )
    };
    write(&gateway, "team/key", "s3cret-one\n");
    write(&gateway, "team/a.yaml", &file("{fromFile: key}"));
    gateway.ctl("apply -f team/a.yaml").await;
    let sent = async |secret: &str| {
        gateway.ctl("refresh upstream a").await;
        let heads: Vec<_> = upstream.received("tools/list").into_iter().map(|r| r.head).collect();
        assert!(heads.iter().any(|head| head.contains(&format!("Bearer {secret}\r\n"))), "{heads:?}");
    };
    sent("s3cret-one").await;
    assert_eq!(gateway.ctl("apply -f team/a.yaml").await, "  upstreams/a unchanged\n");
    assert_eq!(gateway.ctl("diff -f team/a.yaml").await, "");

    write(&gateway, "team/key", "s3cret-two");
    let (text, code) = said(&gateway.try_ctl(&["diff", "-f", "team/a.yaml"]).await);
    assert!(text.contains("\n-  secret: (as stored)\n+  secret: (changed)\n") && code == 1, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(gateway.ctl("apply -f team/a.yaml").await, "~ upstreams/a updated\n");
    sent("s3cret-two").await;
    let exported = gateway.ctl("export").await;
    assert!(!exported.contains("s3cret"), "{exported}");

    // What cannot be resolved is not stored, and says where it stands.
    for (token, why) in [
        ("${TOKEN}", "has ${TOKEN}, which would be stored as it stands: write {fromEnv: TOKEN} "),
        ("{fromEnv: NO_SUCH_VARIABLE}", "is from NO_SUCH_VARIABLE, which is not set in the environment"),
        (
            "{fromFle: key}",
            "has `fromFle`, and must have one of fromEnv, fromFile and literal; did you mean fromFile?",
        ),
        ("{fromFile: gone}", "is from team/gone, which cannot be read: No such file or directory"),
    ] {
        write(&gateway, "team/a.yaml", &file(token));
        let (text, code) = said(&gateway.try_ctl(&["apply", "-f", "team"]).await);
        let place = "error: team/a.yaml:7: document 1: Upstream: `credential.bearer.token` ";
        assert!(text.starts_with(&format!("{place}{why}")) && code == 2, "{text}");
    }
    assert!(
        gateway.ctl("delete -f team/a.yaml --yes").await.contains("upstreams/a deleted"),
        "no secret is needed"
    );

    // From stdin, paths start in the working directory; what is literal is taken as it stands.
    let mut child = gateway.spawn_ctl(&["apply", "-f", "-"]);
    let text =
        file("{fromFile: team/key}") + "---\n" + &file("{literal: '${TOKEN}'}").replace("name: a", "name: b");
    tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(said(&output), ("+ upstreams/a created\n+ upstreams/b created\n".to_owned(), 0));
    for secret in ["s3cret-two", "${TOKEN}"] {
        eventually("the secret is sent", PATIENCE, || async {
            let heads: Vec<_> = upstream.received("tools/list").into_iter().map(|r| r.head).collect();
            let is_sent = heads.iter().any(|head| head.contains(&format!("Bearer {secret}\r\n")));
            if is_sent { Ok(()) } else { Err(format!("{heads:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_applied_twice_on_sqlite() {
    a_file_may_be_applied_twice(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_applied_twice_on_postgres() {
    a_file_may_be_applied_twice(Store::Postgres).await;
}

async fn a_file_may_be_applied_twice(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --disabled").await;
    let fetched = gateway.ctl("get upstream a -o yaml").await;
    write(&gateway, "a.yaml", &fetched);
    let before = etag(&gateway, "upstream", "a").await;
    assert_eq!(gateway.ctl("apply -f a.yaml").await, "  upstreams/a unchanged\n");
    assert_eq!(etag(&gateway, "upstream", "a").await, before, "what is unchanged keeps its etag");

    write(&gateway, "a.yaml", &fetched.replace("disabled: true", "disabled: true\ntitle: One"));
    assert_eq!(gateway.ctl("apply -f a.yaml").await, "~ upstreams/a updated\n");
    assert_eq!(gateway.ctl("apply -f a.yaml").await, "  upstreams/a unchanged\n", "only its etag is stale");

    write(&gateway, "a.yaml", &fetched.replace("disabled: true", "disabled: true\ntitle: Two"));
    let line = fetched.lines().position(|line| line.trim_start().starts_with("etag:")).unwrap() + 1;
    assert_eq!(
        said(&gateway.try_ctl(&["apply", "-f", "a.yaml"]).await),
        (
            format!(
                "error: a.yaml:{line}: document 1: upstreams/a was changed since this file was fetched; fetch it again with \
                 `mcpctl get upstream a -o yaml`, or remove its `meta.etag` to apply it all the same\n"
            ),
            6
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_of_files_is_named_with_its_line() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let upstream = "kind: Upstream\nname: a\nhttp: {url: 'http://127.0.0.1:1/mcp'}\ndisabled: true\n";
    write(
        &gateway,
        "team/a.yaml",
        &format!(
            "{upstream}requestTimeout: 7200s\n---\n# who calls it\nkind: Server\nname: dev\ntools:\n- match: a/*\n- match: b/x\n"
        ),
    );
    write(
        &gateway,
        "team/b.json",
        "[\n  {\"kind\": \"Token\", \"name\": \"t\",\n   \"scope\": {\"servers\": [\"servers/dev\",\n     \"servers/none\"]}}\n]\n",
    );
    write(&gateway, "team/notes.txt", "nothing of ours");
    let refused = async |arguments: &[&str]| said(&gateway.try_ctl(arguments).await);
    let (text, code) = refused(&["apply", "-f", "team"]).await;
    assert!(
        text.starts_with("error: team/a.yaml:5: document 1: Upstream: requestTimeout ") && code == 2,
        "{text}"
    );
    write(
        &gateway,
        "team/a.yaml",
        &format!(
            "{upstream}---\n# who calls it\nkind: Server\nname: dev\ntools:\n- match: a/*\n- match: b/x\n"
        ),
    );
    assert_eq!(
        refused(&["apply", "-f", "team"]).await,
        (
            "error: team/a.yaml:11: document 2: Server: tools[1].match of servers/dev refers to upstreams/b, which does not exist; create it first\n  \
             team/b.json:4: document 1: Token: scope.servers[1] of tokens/t refers to servers/none, which does not exist; create it first\n"
                .to_owned(),
            6
        )
    );
    assert_eq!(
        refused(&["apply", "-f", "team/a.yaml", "-f", "team/*.yaml"]).await,
        (
            "error: team/a.yaml:2: document 1: upstreams/a is already defined in team/a.yaml:2: document 1\n  \
             team/a.yaml:8: document 2: servers/dev is already defined in team/a.yaml:8: document 2\n"
                .to_owned(),
            2
        )
    );
    std::fs::write(gateway.folder().join("utf16.yaml"), b"\xff\xfek\0").unwrap();
    for (arguments, said) in [
        (&["apply", "-f", "https://example.com/a.yaml"][..], "-f takes files, and no URLs; fetch it first"),
        (&["apply", "-f", "gone.yaml"], "cannot read gone.yaml: No such file or directory"),
        (&["apply", "-f", "utf16.yaml"], "utf16.yaml is not UTF-8; save it as that"),
        (&["apply", "-f", "*.toml"], "no file matches *.toml"),
        (&["apply", "-f", "-", "-f", "-"], "-f - is given twice; stdin can be read once"),
        (&["apply", "-f", "-"], "the files contain no resources"),
    ] {
        let (text, code) = refused(arguments).await;
        assert!(text.starts_with(&format!("error: {said}")) && code == 2, "{text}");
    }
    write(&gateway, "team/a.yaml", &format!("{upstream}---\n{}", upstream.replace("name: a", "name: b")));
    write(
        &gateway,
        "list.yaml",
        "kind: List\nitems:\n- kind: Server\n  name: dev\n  tools: [{match: b/x}]\n",
    );
    assert_eq!(
        gateway.ctl("apply -f team/*.yaml -f list.yaml").await,
        "+ upstreams/a created\n+ upstreams/b created\n+ servers/dev created\n"
    );
    let (text, code) = refused(&["apply", "-f", "list.yaml", "--set", "defualt"]).await;
    assert!(
        text.starts_with("warning: set defualt is new; did you mean --set default?\n") && code == 6,
        "{text}"
    );
}
