//! What is read of resource files, and what is said of those that are wrong.

use super::*;

fn check(text: &str) -> String {
    match parse("team.yaml", text) {
        Ok(resources) => resources.iter().map(|r| format!("{} {}\n", r.kind.name, r.name)).collect(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_nests_too_deep_is_refused_before_it_is_parsed() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let refused = |text: &str| parse("f", text).unwrap_err().to_string();
    assert_eq!(refused(&format!("[\n{}]", "[".repeat(300_000))), "f:2: it nests more than 128 deep");
    assert_eq!(refused(&nested(129)), "f:1: it nests more than 128 deep");
    assert!(refused(&nested(3)).contains("must be a mapping"));
    let text = format!(r#"{{"kind":"Server","name":"x","title":"\"{}"}}"#, "[".repeat(500));
    assert!(parse("f", &text).is_ok(), "brackets in a text are text");
}

#[test]
fn several_documents_lists_and_short_names() {
    let text = "kind: Upstream\nname: time\nhttp: {url: 'http://x/mcp'}\nmeta: {labels: {team: core}}\n---\n---\n\
                - {kind: Server, name: servers/dev, tools: [{match: time/*}]}\n- {kind: Token, name: laptop}\n\
                ---\nkind: List\nitems:\n- {kind: Server, name: other}\n";
    assert_eq!(
        check(text),
        "Upstream upstreams/time\nServer servers/dev\nToken tokens/laptop\nServer servers/other\n"
    );
    assert_eq!(check(&format!("\u{feff}{text}")), check(text), "a byte order mark");
    assert_eq!(check(&text.replace('\n', "\r\n")), check(text), "the line ends of Windows");
    assert_eq!(
        check("base: &b {kind: Server}\n"),
        "team.yaml:1: document 1: `kind` is missing, as in `kind: Upstream`"
    );
    assert_eq!(
        check("- &b\n  kind: Server\n  name: a\n- <<: *b\n  name: b\n"),
        "Server servers/a\nServer servers/b\n"
    );
}

#[test]
fn json_documents_follow_one_another_as_jq_prints_them() {
    let pretty = "{\n  \"kind\": \"Server\",\n  \"name\": \"a\"\n}\n";
    let short = "{\"kind\":\"Server\",\"name\":\"b\"}\n[{\"kind\":\"Token\",\"name\":\"c\"}]\n";
    assert_eq!(check(&format!("{pretty}{short}")), "Server servers/a\nServer servers/b\nToken tokens/c\n");
    for (text, expected) in [
        (
            format!("{pretty}{}", pretty.replace("name", "nam")),
            "team.yaml:7: document 2: Server: unknown field `nam`; did you mean `name`?",
        ),
        (
            format!("{short}{{\"kind\":\"Server\",\n\"name\":\"x\",\"name\":\"y\"}}\n"),
            "team.yaml:4: document 3: `name` is given twice, first in line 4",
        ),
        (
            format!("{pretty}{{\"kind\": \"Server\",\n \"name\": b\n \"title\": 1}}\n"),
            "team.yaml:7: document 2: did not find expected ',' or '}'",
        ),
    ] {
        let said = check(&text);
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

#[test]
fn errors_name_file_line_and_field() {
    for (text, expected) in [
        ("name: x\n", "team.yaml:1: document 1: `kind` is missing, as in `kind: Upstream`"),
        (
            "kind: Upsteam\n",
            "team.yaml:1: document 1: unknown kind \"Upsteam\"; expected one of Upstream, Server, Tool, Resource, Prompt, Token, Team, Role; did you mean Upstream?",
        ),
        (
            "kind: Upstream\n",
            "team.yaml:1: document 1: Upstream: `name` is missing, as in `name: upstreams/…`",
        ),
        (
            "kind: Server\nname: dev\n---\nkind: Upstream\nname: time\nhttp: {ur: x}\n",
            "team.yaml:6: document 2: Upstream: unknown field `http.ur`; did you mean `url`?",
        ),
        (
            "kind: Upstream\nname: time\nlabels: {a: b}\nurl: x\n",
            "team.yaml:3: document 1: Upstream: unknown field `labels`; did you mean `meta.labels`?\n\
             team.yaml:4: document 1: Upstream: unknown field `url`; did you mean `http.url`?",
        ),
        (
            "kind: Server\nname: dev\ntools:\n- match: a/b\n- mach: c\n  alias: [d]\n",
            "team.yaml:5: document 1: Server: unknown field `tools[1].mach`; did you mean `match`?\n\
             team.yaml:6: document 1: Server: tools[1].alias: invalid type: sequence, expected a string",
        ),
        (
            "{\"kind\": \"Upstream\",\n\"name\": \"a\",\n\"mcp\": {\"eraPolicy\": \"legcy\"}}",
            "team.yaml:3: document 1: Upstream: mcp.eraPolicy: must be `auto`, `modern` or `legacy`, not \"legcy\"; did you mean legacy?",
        ),
        (
            "kind: Upstream\nname: a\nname: b\n",
            "team.yaml:3: document 1: `name` is given twice, first in line 2",
        ),
        (
            "kind: Upstream\nname: a\ncredential: s3cret\n",
            "team.yaml:3: document 1: Upstream: credential: must be a mapping",
        ),
        (
            "kind: Upstream\nname: a\ncredential:\n  bearer:\n    tokenFrom: env:s3cret\n",
            "team.yaml:5: document 1: Upstream: credential.bearer.tokenFrom: must be a mapping, such as {env: {name: NAME}}",
        ),
        ("kind: Server\nname: a\ntools: x\n", "team.yaml:3: document 1: Server: tools: must be a list"),
        ("kind: List\nitems: 5\n", "team.yaml:2: document 1: List: `items` must be a list of resources"),
        (
            "kind: List\nitems:\n- kind: Server\n  name: a/b\n",
            "team.yaml:4: document 1: Server: name: invalid server name \"a/b\"; a name has no /",
        ),
        (
            "apiVersion: v1\nkind: Upstream\nmetadata: {name: a}\nspec: {url: http://a}\n",
            "team.yaml:1: document 1: Upstream: there is no `apiVersion`, `metadata` or `spec` here: all fields stand at the top, labels \
             in `meta.labels`; `mcpctl explain upstream --example` prints such a file",
        ),
        (
            "kind: Upstream\nname: a\nusername: me\n",
            "team.yaml:3: document 1: Upstream: unknown field `username`; did you mean `credential.basic.username`?",
        ),
        (
            "kind: Server\nname: dev\ntools:\n\t- match: x\n",
            "team.yaml:4: document 1: it is indented with a tab; YAML wants spaces",
        ),
        (
            "kind: Server\nname: dev\ntools:\n- match: *\n",
            "team.yaml:4: document 1: did not find expected alphabetic or numeric character, while scanning an alias; put a text that \
             begins with such a character in quotes",
        ),
        (
            "kind: Upstream\nname: a\ncredential:\n  bearer:\n    token: ${TOKEN}\n",
            "team.yaml:5: document 1: Upstream: `credential.bearer.token` has ${TOKEN}, which would be stored as it stands: write \
             {fromEnv: TOKEN} for the variable, {fromFile: PATH} for the content of a file, or {literal: TEXT} where it is meant so",
        ),
    ] {
        assert_eq!(check(text), expected);
    }
    let head = "kind: Upstream\nname: time\n";
    let error = check(&format!("{head}disabled: perhaps\n"));
    assert!(error.starts_with("team.yaml:3: document 1: Upstream: disabled: "), "{error}");
    for odd in ["soon", "30", "[30s]"] {
        assert_eq!(
            check(&format!("{head}requestTimeout: {odd}\n")),
            "team.yaml:3: document 1: Upstream: requestTimeout: must be a duration in seconds, such as 30s"
        );
    }
    assert_eq!(
        check(&format!(
            "{head}title: 5\nmeta:\n  labels:\n    a: x\n    b: true\n    c.d/e: 1.5\n    f: [x]\n"
        )),
        "team.yaml:3: document 1: Upstream: title: must be a string: quote it\n\
         team.yaml:7: document 1: Upstream: meta.labels.b: must be a string: quote it\n\
         team.yaml:8: document 1: Upstream: meta.labels[\"c.d/e\"]: must be a string: quote it\n\
         team.yaml:9: document 1: Upstream: meta.labels.f: must be a string"
    );
    for text in ["kind: Server\nname: [x\n", "kind: Server\nname: \"x\n\n"] {
        let error = check(text);
        assert!(error.starts_with("team.yaml:2: document 1: ") && !error.contains("at line"), "{error}");
    }
}

#[test]
fn enums_are_written_in_words_or_by_their_names() {
    for word in ["legacy", "LEGACY", "ERA_POLICY_LEGACY"] {
        let text = format!("kind: Upstream\nname: a\nmcp: {{eraPolicy: {word}}}\n");
        let json = reflection::to_json(&parse("f", &text).unwrap()[0].message);
        assert_eq!(json["mcp"]["eraPolicy"], "ERA_POLICY_LEGACY", "{word}");
    }
}

#[test]
fn not_more_is_told_than_can_be_read() {
    let error = check(&"kind: Nothing\n---\n".repeat(30));
    assert_eq!(error.lines().count(), 21);
    assert!(error.ends_with("\nand 10 more"), "{error}");
}

#[test]
fn a_name_twice_names_both_places() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    std::fs::write(folder.path().join("a.yaml"), "kind: Server\nname: dev\n").unwrap();
    std::fs::write(folder.path().join("b/c.yml"), "---\n---\nkind: Server\nname: servers/dev\n").unwrap();
    std::fs::write(folder.path().join("README.md"), "not a resource").unwrap();
    let error = load(&[folder.path().to_owned()]).unwrap_err().to_string();
    let place = folder.path().display();
    assert_eq!(
        error,
        format!(
            "{place}/b/c.yml:4: document 2: servers/dev is already defined in {place}/a.yaml:2: document 1"
        )
    );
}

#[test]
fn whoever_wants_names_needs_no_secrets() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(
        file.path(),
        "kind: Upstream\nname: a\ncredential: {bearer: {token: {fromEnv: NO_SUCH_VARIABLE_HERE}}}\n",
    )
    .unwrap();
    let files = [file.path().to_owned()];
    assert!(
        load(&files).unwrap_err().to_string().contains("is from NO_SUCH_VARIABLE_HERE, which is not set")
    );
    assert_eq!(load_names(&files).unwrap()[0].name, "upstreams/a");
}

#[test]
fn what_is_observed_is_not_wanted() {
    let text = "kind: Upstream\nname: time\nmeta: {uid: u, etag: e}\nhttp: {url: u}\ncredential: {bearer: {}, version: v}\n\
                status: {reason: r}\n";
    let resource = &parse("f", text).unwrap()[0];
    let text = serde_yaml_ng::to_string(&desired(resource.kind, &resource.message)).unwrap();
    assert_eq!(text, "kind: Upstream\nname: upstreams/time\nhttp:\n  url: u\ncredential:\n  bearer: {}\n");
}
