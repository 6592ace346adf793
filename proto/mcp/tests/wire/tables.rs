//! The tables of the protocol, as the specification has them.

use mcp::error::render;
use mcp::method::{Form, Method, Sender, Target};
use mcp::revision::{Era, Revision};

#[test]
fn revisions_are_told_by_date() {
    for revision in Revision::ALL {
        assert_eq!(Revision::parse(revision.as_str()), Some(revision));
    }
    assert_eq!(Revision::parse("2025-01-01"), None);
    assert!(Revision::ALL.is_sorted());
    assert_eq!(Revision::LATEST.era(), Era::Modern);
    assert_eq!(Revision::LATEST_LEGACY.era(), Era::Legacy);
}

#[test]
fn initialize_negotiates_legacy_revisions_only() {
    let answers = ["2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28", "1999-01-01"]
        .map(|asked| Revision::negotiate_legacy(asked).as_str());
    assert_eq!(answers, ["2024-11-05", "2025-06-18", "2025-11-25", "2025-11-25", "2025-11-25"]);
}

/// The client's requests of each revision: `mcp.md` has no other source than the specification's schemas.
#[test]
fn every_revision_has_its_requests() {
    let common = [
        "completion/complete",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "tools/call",
        "tools/list",
    ];
    let legacy = ["initialize", "logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe"];
    let tasks = ["tasks/cancel", "tasks/get", "tasks/list", "tasks/result"];
    let modern = ["server/discover", "subscriptions/listen", "tasks/cancel", "tasks/get", "tasks/update"];
    for revision in Revision::ALL {
        let mut expected = common.to_vec();
        expected.extend(if revision.era() == Era::Modern { modern } else { legacy });
        if revision == Revision::V2025_11_25 {
            expected.extend(tasks);
        }
        expected.sort_unstable();
        let mut found: Vec<_> = Method::ALL
            .iter()
            .filter(|m| m.is_in(revision) && m.form() == Form::Request && m.sender() != Sender::Server)
            .map(|m| m.as_str())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{revision}");
    }
}

#[test]
fn the_modern_server_asks_nothing() {
    let asks =
        |m: &&Method| m.is_in_era(Era::Modern) && m.form() == Form::Request && m.sender() == Sender::Server;
    assert_eq!(Method::ALL.iter().find(asks), None);
}

#[test]
fn methods_are_told_by_name() {
    for method in Method::ALL {
        assert_eq!(Method::parse(method.as_str()), Some(*method));
        assert_eq!(method.form() == Form::Notification, method.as_str().starts_with("notifications/"));
        assert_eq!(
            method.list_member().is_some(),
            method.as_str().ends_with("/list") && *method != Method::RootsList
        );
    }
    assert_eq!(Method::parse("tools/Call"), None);
}

#[test]
fn targets_are_named_and_mirrored() {
    assert_eq!(Method::ToolsCall.target().member(), Some("name"));
    assert_eq!(Method::ResourcesRead.mirrored_target(), Target::Uri);
    assert_eq!(Method::TasksGet.mirrored_target(), Target::TaskId);
    assert_eq!(Method::ResourcesSubscribe.target(), Target::Uri);
    assert_eq!(Method::ResourcesSubscribe.mirrored_target(), Target::None);
    assert_eq!(Method::CompletionComplete.target(), Target::Reference);
    assert_eq!(Method::CompletionComplete.mirrored_target(), Target::None);
    assert_eq!(Method::ToolsList.target().member(), None);
}

#[test]
fn errors_are_written_without_an_id_when_there_is_none() {
    assert_eq!(
        render(Some("\"a\""), -32602, "no \"x\"\n", Some(r#"{"uri":"u"}"#)),
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"no \"x\"\n","data":{"uri":"u"}}}"#
    );
    assert_eq!(
        render(None, -32700, "no", None),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#
    );
}
