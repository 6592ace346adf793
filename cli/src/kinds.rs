//! The table of kinds. A new kind of resource is a new row here, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use schema::rules;

use crate::error::{Error, Result};
use crate::output::table::{Cell, Column};
use crate::parse::as_shown;
use crate::reflection;
use crate::suggest::did_you_mean;

/// A kind of resource, and how it is presented.
#[derive(Debug)]
pub struct Kind {
    /// Its name in files: `kind: Upstream`.
    pub name: &'static str,
    /// Its singular on the command line, and with `_` for `-` in requests.
    pub singular: &'static str,
    /// Its plural on the command line, with `_` for `-` in requests, and in lower camel case in names.
    pub plural: &'static str,
    /// Short forms on the command line.
    pub aliases: &'static [&'static str],
    /// The full name of its message.
    pub message: &'static str,
    /// The full name of its service.
    pub service: &'static str,
    /// True for the kinds in the catalogue of an upstream.
    pub catalogued: bool,
    /// Its field in `admin.v1.Manifest`; `None` for a kind that cannot be applied.
    pub manifest: Option<&'static str>,
    /// The columns of its table.
    pub columns: &'static [Column],
    /// More columns, for `-o wide`.
    pub wide: &'static [Column],
}

/// The fields of each kind that only Trunkline writes, in their JSON spelling, with dots.
static OBSERVED: LazyLock<BTreeMap<&str, BTreeSet<String>>> = LazyLock::new(|| {
    let paths = |kind: &Kind| {
        let found = rules::find(&reflection::message(kind.message), |rules| rules.output_only);
        found.into_iter().map(|(path, _)| path).collect()
    };
    KINDS.iter().map(|kind| (kind.name, paths(kind))).collect()
});

/// The columns of a catalogue entry.
const ENTRY: [Column; 4] = [
    Column("NAME", "name", Cell::Id),
    Column("STATE", "state", Cell::Enum("ENTRY_STATE_")),
    Column("TITLE", "title", Cell::Text),
    Column("DESCRIPTION", "description", Cell::Line),
];

/// What `-o wide` adds for entries of a catalogue.
const WIDE_ENTRY: [Column; 4] = [
    Column("LABELS", "meta.labels", Cell::Pairs),
    Column("SET", "meta.applySet", Cell::Text),
    Column("REVISION", "meta.revision", Cell::Text),
    Column("UID", "meta.uid", Cell::Text),
];

/// What `-o wide` adds for resources that say whose they are.
const WIDE: [Column; 7] = [
    Column("LABELS", "meta.labels", Cell::Pairs),
    Column("OWNER", "meta.owner", Cell::Text),
    Column("TEAM", "meta.team", Cell::Id),
    Column("VISIBILITY", "meta.visibility", Cell::Enum("VISIBILITY_")),
    Column("SET", "meta.applySet", Cell::Text),
    Column("REVISION", "meta.revision", Cell::Text),
    Column("UID", "meta.uid", Cell::Text),
];

/// The same of tokens, which may have certificates in the place of a bearer.
const WIDE_OF_TOKENS: [Column; 8] = [
    Column("CERTIFICATES", "certificates", Cell::Texts),
    Column("LABELS", "meta.labels", Cell::Pairs),
    Column("OWNER", "meta.owner", Cell::Text),
    Column("TEAM", "meta.team", Cell::Id),
    Column("VISIBILITY", "meta.visibility", Cell::Enum("VISIBILITY_")),
    Column("SET", "meta.applySet", Cell::Text),
    Column("REVISION", "meta.revision", Cell::Text),
    Column("UID", "meta.uid", Cell::Text),
];

pub static KINDS: [Kind; 12] = [
    Kind {
        name: "Upstream",
        singular: "upstream",
        plural: "upstreams",
        aliases: &["up"],
        message: "trunkline.registry.v1.Upstream",
        service: "trunkline.registry.v1.UpstreamService",
        catalogued: false,
        manifest: Some("upstream"),
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "status.state", Cell::Enum("UPSTREAM_STATE_")),
            Column("TOOLS", "status.toolCount", Cell::Number),
            Column("RESOURCES", "status.resourceCount", Cell::Number),
            Column("PROMPTS", "status.promptCount", Cell::Number),
            Column("URL", "", Cell::Address),
            Column("AGE", "meta.createTime", Cell::Age),
            Column("REASON", "status.reason", Cell::Text),
        ],
        wide: &[
            Column("ERA", "status.probe", Cell::Eras),
            Column("LABELS", "meta.labels", Cell::Pairs),
            Column("OWNER", "meta.owner", Cell::Text),
            Column("TEAM", "meta.team", Cell::Id),
            Column("VISIBILITY", "meta.visibility", Cell::Enum("VISIBILITY_")),
            Column("SET", "meta.applySet", Cell::Text),
            Column("REVISION", "meta.revision", Cell::Text),
            Column("UID", "meta.uid", Cell::Text),
        ],
    },
    Kind {
        name: "Server",
        singular: "server",
        plural: "servers",
        aliases: &["srv"],
        message: "trunkline.registry.v1.Server",
        service: "trunkline.registry.v1.ServerService",
        catalogued: false,
        manifest: Some("server"),
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "status.state", Cell::Enum("SERVER_STATE_")),
            Column("TITLE", "title", Cell::Text),
            Column("TOOLS", "status.toolCount", Cell::Number),
            Column("RESOURCES", "status.resourceCount", Cell::Number),
            Column("PROMPTS", "status.promptCount", Cell::Number),
            Column("AGE", "meta.createTime", Cell::Age),
            Column("REASON", "status.reason", Cell::Text),
        ],
        wide: &[
            Column("UNRESOLVED", "status.unresolved", Cell::List),
            Column("CONFLICTS", "status.conflicts", Cell::List),
            Column("LABELS", "meta.labels", Cell::Pairs),
            Column("OWNER", "meta.owner", Cell::Text),
            Column("TEAM", "meta.team", Cell::Id),
            Column("VISIBILITY", "meta.visibility", Cell::Enum("VISIBILITY_")),
            Column("SET", "meta.applySet", Cell::Text),
            Column("REVISION", "meta.revision", Cell::Text),
            Column("UID", "meta.uid", Cell::Text),
        ],
    },
    Kind {
        name: "Tool",
        singular: "tool",
        plural: "tools",
        aliases: &[],
        message: "trunkline.registry.v1.Tool",
        service: "trunkline.registry.v1.ToolService",
        catalogued: true,
        manifest: Some("tool"),
        columns: &ENTRY,
        wide: &WIDE_ENTRY,
    },
    Kind {
        name: "Resource",
        singular: "resource",
        plural: "resources",
        aliases: &["res"],
        message: "trunkline.registry.v1.Resource",
        service: "trunkline.registry.v1.ResourceService",
        catalogued: true,
        manifest: Some("resource_entry"),
        columns: &ENTRY,
        wide: &WIDE_ENTRY,
    },
    Kind {
        name: "Prompt",
        singular: "prompt",
        plural: "prompts",
        aliases: &[],
        message: "trunkline.registry.v1.Prompt",
        service: "trunkline.registry.v1.PromptService",
        catalogued: true,
        manifest: Some("prompt"),
        columns: &ENTRY,
        wide: &WIDE_ENTRY,
    },
    Kind {
        name: "Token",
        singular: "token",
        plural: "tokens",
        aliases: &["tok"],
        message: "trunkline.identity.v1.Token",
        service: "trunkline.identity.v1.TokenService",
        catalogued: false,
        manifest: Some("token"),
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "state", Cell::Enum("TOKEN_STATE_")),
            Column("SERVERS", "scope.servers", Cell::List),
            Column("TOOLS", "scope.tools", Cell::List),
            Column("RESOURCES", "scope.resources", Cell::List),
            Column("PROMPTS", "scope.prompts", Cell::List),
            Column("CONDITIONS", "conditions", Cell::Conditions),
            Column("EXPIRES", "expireTime", Cell::Until),
            Column("LAST USED", "lastUseTime", Cell::Age),
            Column("AGE", "meta.createTime", Cell::Age),
            Column("REASON", "reason", Cell::Text),
            Column("MATCH NOTHING", "unmatched", Cell::Texts),
        ],
        wide: &WIDE_OF_TOKENS,
    },
    Kind {
        name: "Team",
        singular: "team",
        plural: "teams",
        aliases: &[],
        message: "trunkline.identity.v1.Team",
        service: "trunkline.identity.v1.TeamService",
        catalogued: false,
        manifest: Some("team"),
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("TITLE", "title", Cell::Text),
            Column("MEMBERS", "status.memberCount", Cell::Number),
            Column("OWNERS", "status.owners", Cell::List),
            Column("AGE", "meta.createTime", Cell::Age),
        ],
        wide: &WIDE,
    },
    Kind {
        name: "Role",
        singular: "role",
        plural: "roles",
        aliases: &[],
        message: "trunkline.identity.v1.Role",
        service: "trunkline.identity.v1.RoleService",
        catalogued: false,
        manifest: Some("role"),
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("TITLE", "title", Cell::Text),
            Column("BUILT IN", "builtIn", Cell::Text),
            Column("PERMISSIONS", "permissions", Cell::Texts),
        ],
        wide: &WIDE,
    },
    Kind {
        name: "Edge",
        singular: "edge",
        plural: "edges",
        aliases: &[],
        message: "trunkline.discovery.v1.EdgeStatus",
        service: "trunkline.discovery.v1.FleetService",
        catalogued: false,
        manifest: None,
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "state", Cell::Enum("EDGE_STATE_")),
            Column("SINCE", "stateTime", Cell::Age),
            Column("ADDRESS", "clientAddress", Cell::Text),
            Column("VERSION", "version", Cell::Text),
            Column("ACKED", "ackedRevision", Cell::Number),
            Column("LAG", "lag", Cell::Text),
            Column("REFUSED", "refusals", Cell::Refusals),
            Column("REFUSED ENROLLMENTS", "refusedEnrollments.count", Cell::Text),
        ],
        wide: &[
            Column("SENT", "sentRevision", Cell::Number),
            Column("SIBLING ADDRESS", "siblingAddress", Cell::Text),
            Column("EGRESS", "egress", Cell::Text),
        ],
    },
    Kind {
        name: "JoinToken",
        singular: "join-token",
        plural: "join-tokens",
        aliases: &[],
        message: "trunkline.discovery.v1.JoinToken",
        service: "trunkline.discovery.v1.EnrollmentService",
        catalogued: false,
        manifest: None,
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "state", Cell::Enum("JOIN_TOKEN_STATE_")),
            Column("USES", "", Cell::Uses),
            Column("FOR EDGE", "edge", Cell::Id),
            Column("ENROLLED EDGES", "enrolledEdges", Cell::List),
            Column("EXPIRES", "expireTime", Cell::Until),
            Column("AGE", "createTime", Cell::Age),
        ],
        wide: &[],
    },
    Kind {
        name: "User",
        singular: "user",
        plural: "users",
        aliases: &[],
        message: "trunkline.identity.v1.User",
        service: "trunkline.identity.v1.UserService",
        catalogued: false,
        manifest: None,
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("STATE", "state", Cell::Enum("USER_STATE_")),
            Column("TITLE", "title", Cell::Text),
            Column("ROLES", "bindings", Cell::Bindings),
            Column("TEAMS", "teams", Cell::List),
            Column("SIGNED IN", "lastSignInTime", Cell::Age),
            Column("AGE", "createTime", Cell::Age),
        ],
        wide: &[Column("EMAIL", "email", Cell::Text), Column("UID", "uid", Cell::Text)],
    },
    Kind {
        name: "ServiceAccount",
        singular: "service-account",
        plural: "service-accounts",
        aliases: &["sa"],
        message: "trunkline.identity.v1.ServiceAccount",
        service: "trunkline.identity.v1.ServiceAccountService",
        catalogued: false,
        manifest: None,
        columns: &[
            Column("NAME", "name", Cell::Id),
            Column("TITLE", "title", Cell::Text),
            Column("OWNER", "owner", Cell::Id),
            Column("TEAM", "team", Cell::Id),
            Column("DISABLED", "disabled", Cell::Text),
            Column("SUSPENDED", "suspended", Cell::Text),
            Column("ROLES", "bindings", Cell::Bindings),
            Column("AGE", "createTime", Cell::Age),
        ],
        wide: &[Column("UID", "uid", Cell::Text)],
    },
];

/// Percent-encodes all bytes of a catalogue id except `[A-Za-z0-9._~-]`.
const ID: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'~').remove(b'-');

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    /// Finds the kind that a file names.
    pub fn from_manifest(name: &str) -> Result<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name && kind.manifest.is_some()).ok_or_else(|| {
            let kinds: Vec<_> =
                KINDS.iter().filter(|kind| kind.manifest.is_some()).map(|kind| kind.name).collect();
            let hint = did_you_mean(name, kinds.iter().copied());
            Error::usage(format!("unknown kind {name:?}; expected one of {}{hint}", kinds.join(", ")))
        })
    }

    /// Finds the kind for a word of the table: singular, plural or alias.
    pub fn from_word(word: &str) -> &'static Self {
        let same =
            |kind: &&Self| [kind.singular, kind.plural].contains(&word) || kind.aliases.contains(&word);
        KINDS.iter().find(same).expect("callers pass words of this table")
    }

    /// Finds the kind that a person means: by singular, plural or alias, or as in files and names, whatever the capitals.
    pub fn find(word: &str) -> Option<&'static Self> {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
        let wanted = plain(word);
        KINDS.iter().find(|kind| {
            let mut words = [kind.singular, kind.plural].into_iter().chain(kind.aliases.iter().copied());
            words.any(|known| plain(known) == wanted)
        })
    }

    /// Finds the kind of a resource by its full name.
    pub fn of_resource(name: &str) -> Option<&'static Self> {
        let collection = name.rsplit('/').nth(1)?;
        KINDS.iter().find(|kind| kind.collection() == collection)
    }

    /// Returns the field of a response with one resource.
    pub fn field(&self) -> String {
        self.singular.replace('-', "_")
    }

    /// Returns the field of a response with a page of resources.
    pub fn list_field(&self) -> String {
        self.plural.replace('-', "_")
    }

    /// Returns its plural for people, such as `join tokens`.
    pub fn words(&self) -> String {
        self.plural.replace('-', " ")
    }

    /// Returns its segment in names, such as `joinTokens`.
    pub fn collection(&self) -> String {
        let (first, rest) = self.name.split_at(1);
        format!("{}{rest}s", first.to_ascii_lowercase())
    }

    /// Returns the parser for a kind on the command line.
    pub fn parser() -> impl TypedValueParser<Value = &'static Self> {
        Self::parser_of(|_| true)
    }

    /// Returns the parser for a kind that files can hold.
    pub fn parser_of_files() -> impl TypedValueParser<Value = &'static Self> {
        Self::parser_of(|kind| kind.manifest.is_some())
    }

    fn parser_of(is_taken: impl Fn(&Self) -> bool) -> impl TypedValueParser<Value = &'static Self> {
        let words = KINDS.iter().filter(|kind| is_taken(kind)).map(|kind| {
            PossibleValue::new(kind.plural).aliases(kind.aliases.iter().copied().chain([kind.singular]))
        });
        PossibleValuesParser::new(words).map(|word| Self::from_word(&word))
    }

    /// Returns the method for a verb, such as `GetUpstream` or `ListUpstreams`.
    pub fn method(&self, verb: &str) -> String {
        let plural = if verb == "List" { "s" } else { "" };
        format!("{}/{verb}{}{plural}", self.service, self.name)
    }

    /// An rpc of its service that not every kind has.
    pub fn rpc(&self, name: &str) -> String {
        format!("{}/{name}", self.service)
    }

    /// Expands `time`, `time/get_current_time` or `upstreams/time` to a full name.
    pub fn full_name(&self, word: &str) -> Result<String> {
        let collection = format!("{}/", self.collection());
        if !self.catalogued {
            let id = word.strip_prefix(&collection).unwrap_or(word);
            let wrong = |why| Err(Error::usage(format!("invalid {} name {word:?}; {why}", self.singular)));
            return match id {
                "" => wrong("a name is not empty"),
                id if id.contains('/') => wrong("a name has no /"),
                id => Ok(format!("{collection}{id}")),
            };
        }
        if let Some((_, id)) =
            word.strip_prefix("upstreams/").and_then(|rest| rest.split_once(&format!("/{collection}")))
            && !id.contains('/')
        {
            return Ok(word.to_owned());
        }
        match word.split_once('/') {
            Some((upstream, own)) if !upstream.is_empty() && !own.is_empty() => {
                let own = as_shown(own);
                Ok(format!("upstreams/{upstream}/{collection}{}", utf8_percent_encode(&own, &ID)))
            }
            _ => Err(Error::usage(format!("invalid {} name {word:?}; use UPSTREAM/NAME", self.singular))),
        }
    }
}

/// Shortens a full name for people: the reverse of [`Kind::full_name`].
pub fn short_name(name: &str) -> String {
    let parts: Vec<_> = name.split('/').collect();
    match parts.as_slice() {
        [_, id] => (*id).to_owned(),
        ["upstreams", upstream, _, id] => {
            format!("{upstream}/{}", percent_decode_str(id).decode_utf8_lossy())
        }
        _ => name.to_owned(),
    }
}

/// Returns whether a field (in its JSON spelling, with dots) is observed and so not part of the desired state.
pub fn is_observed(kind: &Kind, path: &str) -> bool {
    OBSERVED.get(kind.name).is_some_and(|paths| paths.contains(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_agrees_with_the_contract() {
        for kind in &KINDS {
            let message = reflection::message(kind.message);
            for verb in ["Get", "List", "Delete"] {
                assert!(reflection::method(&kind.method(verb)).is_some(), "{} {verb}", kind.name);
            }
            let list = reflection::method(&kind.method("List")).unwrap();
            assert!(list.output().get_field_by_name(&kind.list_field()).is_some(), "{}", kind.name);
            let get = reflection::method(&kind.method("Get")).unwrap();
            assert!(get.output().get_field_by_name(&kind.field()).is_some(), "{}", kind.name);
            for path in kind.columns.iter().chain(kind.wide).map(|c| c.1) {
                let mut at = Some(message.clone());
                for part in path.split('.').filter(|part| !part.is_empty()) {
                    let field = at.as_ref().and_then(|m| m.get_field_by_json_name(part));
                    let field = field.unwrap_or_else(|| panic!("{}: {path}", kind.name));
                    at = field.kind().as_message().cloned();
                }
            }
            if let Some(field) = kind.manifest {
                assert!(
                    reflection::message("trunkline.admin.v1.Manifest").get_field_by_name(field).is_some()
                );
            }
        }
    }

    #[test]
    fn what_is_observed_is_what_the_contract_says() {
        for (kind, path, expected) in [
            ("upstreams", "status", true),
            ("upstreams", "credential", false),
            ("upstreams", "credential.version", true),
            ("upstreams", "meta.etag", true),
            ("upstreams", "meta.labels", false),
            ("tools", "hints", true),
            ("tokens", "keyId", true),
            ("tokens", "expireTime", false),
        ] {
            assert_eq!(is_observed(Kind::from_word(kind), path), expected, "{kind} {path}");
        }
    }

    #[test]
    fn names_go_there_and_back() {
        let (upstream, tool, resource) =
            (Kind::from_word("upstream"), Kind::from_word("tools"), Kind::from_word("res"));
        assert_eq!(upstream.full_name("time").unwrap(), "upstreams/time");
        assert_eq!(upstream.full_name("upstreams/time").unwrap(), "upstreams/time");
        assert!(upstream.full_name("a/b").is_err());
        assert_eq!(tool.full_name("time/now").unwrap(), "upstreams/time/tools/now");
        assert_eq!(tool.full_name("upstreams/time/tools/now").unwrap(), "upstreams/time/tools/now");
        assert!(tool.full_name("now").is_err());
        assert_eq!(tool.full_name(r"evil/ev\u{1b}[2Jil").unwrap(), "upstreams/evil/tools/ev%1B%5B2Jil");
        let name = resource.full_name("files/file:///a b").unwrap();
        assert_eq!(name, "upstreams/files/resources/file%3A%2F%2F%2Fa%20b");
        assert_eq!(short_name(&name), "files/file:///a b");
        assert_eq!(Kind::of_resource(&name).unwrap().name, "Resource");
        let join_token = Kind::from_word("join-tokens");
        assert_eq!(join_token.full_name("1a2b").unwrap(), "joinTokens/1a2b");
        assert_eq!(Kind::of_resource("joinTokens/1a2b").unwrap().name, "JoinToken");
    }
}
