//! Every host, in every form that it has.

use clap::ValueEnum as _;
use serde_json::Value;

use super::form::Form;
use super::host_file::HostFile;
use super::hosts::{HOSTS, Syntax, Via, Wire};
use super::places::System;
use super::*;
use crate::commands::import::file::{self, Asked, EntryState, HostServer};
use crate::commands::import::transport::Transport;

const URL: &str = "http://127.0.0.1:4444/servers/dev/mcp";
const PROGRAM: &str = "/opt/bin/mcpctl";

fn flags(via: Option<Via>, transport: Option<Wire>, show_bearer: bool) -> FormFlags {
    FormFlags { via, transport, show_bearer, ..FormFlags::default() }
}

fn snippet(spec: &'static HostSpec, flags: &FormFlags) -> Result<Snippet<'static>> {
    let form = flags.form(spec)?;
    let url: &'static str =
        if form.wire == Wire::Sse { "http://127.0.0.1:4444/servers/dev/sse" } else { URL };
    Snippet::new(
        spec,
        form,
        Parts {
            server: "dev",
            name: "dev",
            url,
            token: "laptop",
            is_named: true,
            bearer: form.shows_bearer.then_some("s3cret"),
            variable: VARIABLE,
            config: Path::new("/data/mcpctl.yaml"),
            context: Some("dev"),
            program: Path::new(PROGRAM),
        },
    )
}

/// The forms that a host has.
fn forms(spec: &'static HostSpec) -> Vec<(Form, Snippet<'static>)> {
    let mut found = Vec::new();
    for via in [Via::Stdio, Via::Http] {
        for transport in [None, Some(Wire::Sse)] {
            for shown in [false, true] {
                let flags = flags(Some(via), transport, shown);
                found.extend(flags.form(spec).ok().map(|form| (form, snippet(spec, &flags).unwrap())));
            }
        }
    }
    found
}

#[test]
fn every_host_gets_its_own_form() {
    let mut text = String::new();
    for spec in &HOSTS {
        let snippet = snippet(spec, &FormFlags::default()).unwrap();
        text.push_str(&format!("==== {}\n{}", spec.host.name(), snippet.render().unwrap().trim_end()));
        text.push_str(&format!("\n---- {}\n", snippet.advice()));
    }
    insta::assert_snapshot!("hosts", text);
}

#[test]
fn every_other_form_is_that_of_its_host() {
    let mut text = String::new();
    for spec in &HOSTS {
        for (form, snippet) in forms(spec) {
            let how = format!("{:?} {:?} {}", form.via, form.wire, form.shows_bearer).to_lowercase();
            text.push_str(&format!("{} {how}: {}\n", spec.host.name(), snippet.entry()));
        }
    }
    insta::assert_snapshot!("forms", text);
}

#[test]
fn every_library_gets_a_program() {
    let mut text = String::new();
    for (host, wire, bearer) in [
        (Host::Fastmcp, Wire::Http, None),
        (Host::Python, Wire::Http, Some("s3cret")),
        (Host::Python, Wire::Sse, None),
        (Host::Typescript, Wire::Http, None),
        (Host::Typescript, Wire::Sse, Some("s3cret")),
    ] {
        let program = programs::render(host, wire, &wire.address(URL), bearer, VARIABLE).unwrap();
        let advice = programs::advice(host, "laptop", bearer.is_some(), VARIABLE);
        text.push_str(&format!("==== {}\n{program}---- {advice}\n", host.name()));
    }
    insta::assert_snapshot!("programs", text);
}

#[test]
fn what_is_written_is_what_import_reads() {
    for spec in &HOSTS {
        for (form, snippet) in forms(spec) {
            let text = splice::apply(spec.syntax, "", &snippet.change(snippet.entry())).unwrap();
            let said = splice::read(spec.syntax, &text).unwrap();
            let asked = Asked { is_gemini: spec.host == Host::Gemini, ..Asked::default() };
            let entries = file::parse(&said, asked).unwrap();
            let [entry] = entries.as_slice() else { panic!("{text}") };
            match (&entry.state, form.via) {
                // What runs `mcpctl connect` leads to a gateway, whichever it is.
                (EntryState::LeftOut(why), Via::Stdio) => {
                    assert_eq!(why.to_string(), "it leads to server dev of Trunkline");
                    assert!(text.contains("connect") && text.contains("/data/mcpctl.yaml"), "{text}");
                }
                (EntryState::Server(HostServer { id, transport, .. }), Via::Http) => {
                    let Transport::Http { url, headers } = transport else { panic!("{text}") };
                    assert_eq!((id.as_str(), url.as_str()), ("dev", &*form.wire.address(URL)));
                    let has_bearer =
                        headers.get("Authorization").is_some_and(|value| value.starts_with("Bearer "));
                    assert!(has_bearer || spec.host == Host::Codex, "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_bearer_is_only_there_when_asked_for() {
    for spec in &HOSTS {
        for (form, snippet) in forms(spec) {
            let rendered = snippet.render().unwrap();
            assert_eq!(rendered.contains("s3cret"), form.shows_bearer, "{rendered}");
            assert_eq!(snippet.advice().contains("keep it secret"), form.shows_bearer);
        }
    }
}

/// What a flag does to a host: the entry that it makes, or the sentence that refuses it.
fn effect(host: Host, flags: &FormFlags) -> std::result::Result<String, String> {
    let host = flags.meant(host);
    match host.spec() {
        Some(spec) => snippet(spec, flags)
            .map(|snippet| format!("{} {}", host.name(), snippet.document()))
            .map_err(|error| error.to_string()),
        None => flags
            .program(host)
            .map(|wire| {
                let bearer = flags.show_bearer.then_some("s3cret");
                programs::render(host, wire, &wire.address(URL), bearer, VARIABLE).unwrap()
            })
            .map_err(|error| error.to_string()),
    }
}

#[test]
fn every_flag_has_an_effect_or_names_the_hosts_with_one() {
    for host in Host::value_variants() {
        let plain = effect(*host, &FormFlags::default()).unwrap();
        for (flag, given) in [
            ("--via http", flags(Some(Via::Http), None, false)),
            ("--via stdio", flags(Some(Via::Stdio), None, false)),
            ("--transport", flags(None, Some(Wire::Sse), false)),
            ("--show-bearer", flags(None, None, true)),
        ] {
            let default = match (host, host.spec().map(|spec| spec.via)) {
                (Host::Claude, _) | (_, Some(Via::Stdio)) => "--via stdio",
                (_, Some(Via::Http) | None) => "--via http",
            };
            match effect(*host, &given) {
                Ok(text) => {
                    assert!(text != plain || flag == default, "{host:?} {flag}: {text}")
                }
                Err(error) => {
                    let has_flag = error.contains(flag) || error.contains("--show-bearer");
                    let names_one = error.contains("cursor") || error.contains("claude-code");
                    assert!(has_flag && names_one, "{host:?} {flag}: {error}");
                }
            }
        }
        for given in [
            flags(Some(Via::Stdio), Some(Wire::Sse), false),
            flags(Some(Via::Stdio), None, true),
            FormFlags { variable: Some("X".into()), ..flags(None, None, true) },
        ] {
            effect(*host, &given).unwrap_err();
        }
    }
}

#[test]
fn what_its_user_has_added_to_an_entry_stays() {
    let old: Value = serde_json::json!({
        "command": "mcpctl", "args": ["connect", "dev"], "env": {"MCPCTL_CONFIG": "/old", "LANG": "C"},
        "autoApprove": ["now"], "disabled": true
    });
    let spec = Host::Cline.spec().unwrap();
    let stdio = snippet(spec, &FormFlags::default()).unwrap();
    let merged = snippet::merged(&old, stdio.entry());
    assert_eq!(merged["autoApprove"], old["autoApprove"]);
    assert_eq!((&merged["disabled"], &merged["env"]["LANG"]), (&true.into(), &"C".into()));
    assert_eq!(merged["env"]["MCPCTL_CONFIG"], "/data/mcpctl.yaml");
    let by_url = snippet(spec, &flags(None, None, true)).unwrap();
    let merged = snippet::merged(&old, by_url.entry());
    assert!(merged.get("command").is_none() && merged.get("env").is_none(), "{merged}");
    assert_eq!(snippet::merged(&merged, by_url.entry()), merged);
}

#[test]
fn the_table_of_the_documentation_has_every_host() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for spec in &HOSTS {
        let syntax = match spec.syntax {
            Syntax::Jsonc => "JSON",
            Syntax::Toml => "TOML",
            Syntax::Yaml => "YAML",
        };
        let row = format!("| `{}` | {} | {syntax}, `{}` |", spec.host.name(), spec.title, spec.at);
        assert!(guide.contains(&row), "docs/OPERATIONS.md has no row {row}");
    }
}

#[test]
fn every_host_has_its_file_on_every_system() {
    for system in [System::Linux, System::MacOs, System::Windows] {
        for spec in &HOSTS {
            let home = tempfile::tempdir().unwrap();
            let none = |_: &str| None;
            let machine = Machine { system, home: home.path().to_owned(), variable: &none };
            let files = machine.files(spec.places);
            assert!(files.iter().all(|file| !file.is_installed && !file.exists), "{files:?}");
            std::fs::create_dir_all(&files[0].folder).unwrap();
            let installed = machine.files(spec.places).into_iter().find(|file| file.is_installed).unwrap();
            let snippet = snippet(spec, &FormFlags::default()).unwrap();
            let file = HostFile::read(&installed.path).unwrap();
            let text = splice::apply(spec.syntax, &file.text, &snippet.change(snippet.entry())).unwrap();
            file.replace(&text, false).unwrap();
            let found: Vec<_> = machine.files(spec.places).into_iter().filter(|file| file.exists).collect();
            assert_eq!(found.len(), 1);
            let said = splice::read(spec.syntax, &HostFile::read(&found[0].path).unwrap().text).unwrap();
            assert_eq!(&said[spec.at]["dev"], snippet.entry());
        }
    }
}
