use proptest::prelude::*;
use trunkline::common::v1::Meta;
use trunkline::registry::v1::{Tool, ToolHints, Upstream, UpstreamState, UpstreamStatus};

use super::*;
use crate::domain::{KindRules, reflect};

fn tool() -> Tool {
    let labels = [("team".to_owned(), "core".to_owned()), ("a.b".to_owned(), "c".to_owned())].into();
    Tool {
        name: "upstreams/git/tools/git_status".to_owned(),
        meta: Some(Meta {
            labels,
            revision: 7,
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Meta::default()
        }),
        tool_name: "git_status".to_owned(),
        description: "Shows the working tree status".to_owned(),
        hints: Some(ToolHints { read_only: Some(true), ..ToolHints::default() }),
        ..Tool::default()
    }
}

fn passes<K: KindRules>(filter: &str, message: &K) -> bool {
    let parsed = Filter::parse(filter, &reflect::descriptor::<K>())
        .unwrap_or_else(|error| panic!("{filter}: {error:?}"));
    let mut texts = message.search();
    texts.push(message.name());
    parsed.matches(&reflect::dynamic(message), &texts)
}

#[test]
fn messages_that_pass() {
    for filter in [
        "",
        "git",
        "STATUS",
        "\"working tree\"",
        "tool_name = git_status",
        "tool_name = git_*",
        "tool_name:STAT",
        "labels.team = core",
        "labels.team = \"core\" AND NOT disabled",
        "labels:team",
        "labels.\"a.b\" = c",
        "labels.a.b = c",
        "labels.team != other",
        "meta.revision >= 7",
        "meta.revision < 8",
        "meta.create_time > 2020-01-01T00:00:00Z",
        "hints.read_only",
        "hints.read_only = true",
        "-disabled",
        "hints:*",
        "nothing OR git",
        "git tree",
        "git AND (nothing OR status)",
        "name = upstreams/git/*",
        "NOT stale_time:*",
        "labels.absent != x",
        "git AND nothing OR tree",
    ] {
        assert!(passes(filter, &tool()), "{filter}");
    }
    let status = UpstreamStatus { state: UpstreamState::Ready.into(), ..UpstreamStatus::default() };
    let upstream = Upstream {
        status: Some(status),
        request_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Upstream::default()
    };
    for filter in [
        "status.state = READY",
        "status.state = UPSTREAM_STATE_READY",
        "status.state = ready",
        "status.state != unreachable",
        "requestTimeout >= 60s",
        "status.state != UNREACHABLE",
        "request_timeout >= 60s",
    ] {
        assert!(passes(filter, &upstream), "{filter}");
    }
}

#[test]
fn messages_that_do_not_pass() {
    for filter in [
        "nothing",
        "tool_name = git",
        "labels.team = other",
        "labels:absent",
        "disabled",
        "meta.revision > 7",
        "hints.destructive",
        "stale_time:*",
        "git AND nothing",
        "NOT git",
        "labels.absent = \"\"",
        "hints.destructive = false",
    ] {
        assert!(!passes(filter, &tool()), "{filter}");
    }
}

#[test]
fn invalid_filters() {
    for filter in [
        "(",
        ")",
        "(git",
        "git)",
        "AND",
        "a AND",
        "NOT",
        "a OR",
        "= 1",
        "titel = x",
        "disabled = maybe",
        "meta.revision = x",
        "meta.create_time > yesterday",
        "\"open",
        "labels = x",
        "meta = x",
        "tool_name =",
        "hints.read_only > true",
        "a & b",
        &"(".repeat(100),
        &"a ".repeat(2_000),
    ] {
        let error = Filter::parse(filter, &reflect::descriptor::<Tool>());
        assert!(error.is_err(), "{filter}");
    }
    let error = Filter::parse("mcp.eraPolicy = old", &reflect::descriptor::<Upstream>()).unwrap_err();
    let said = &error.into_vec()[0].description;
    assert_eq!(said, "`mcp.eraPolicy` must be `auto`, `modern` or `legacy`, not `old`");
}

#[test]
fn labels_for_the_index() {
    let labels = |text: &str| Filter::parse(text, &reflect::descriptor::<Tool>()).unwrap().labels();
    assert_eq!(labels("labels.team = core AND git"), [("team".to_owned(), "core".to_owned())]);
    assert_eq!(labels("meta.labels.team = core"), [("team".to_owned(), "core".to_owned())]);
    for none in
        ["labels.team = c*", "labels.team = core OR git", "NOT labels.team = core", "labels.team != core"]
    {
        assert!(labels(none).is_empty(), "{none}");
    }
}

#[test]
fn what_is_asked_for_is_known() {
    let mentions = |text: &str| {
        Filter::parse(text, &reflect::descriptor::<Tool>()).unwrap().mentions(&["state", "reason"])
    };
    for yes in ["state = READY", "git OR NOT (disabled AND state != STALE)", "reason:sessions"] {
        assert!(mentions(yes), "{yes}");
    }
    for no in ["", "state", "labels.state = READY", "name = ready"] {
        assert!(!mentions(no), "{no}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,60}|[a-z.:=<>!()\"' *-]{0,40}") {
        let _ = Filter::parse(&text, &reflect::descriptor::<Tool>());
    }

    #[test]
    fn not_is_the_opposite(value in "[a-z_]{1,12}") {
        let tool = tool();
        prop_assert_ne!(passes(&format!("tool_name = {value:?}"), &tool), passes(&format!("tool_name != {value:?}"), &tool));
        prop_assert_ne!(passes(&format!("{value:?}"), &tool), passes(&format!("NOT {value:?}"), &tool));
    }
}
