//! Completion of command lines, as shells ask for it: what is known of the words so far decides what is asked of whom.
//!
//! It must never disturb whoever types: it says nothing of what goes wrong, and gives up soon.

mod bash;
mod cache;
pub mod line;
mod question;

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use clap::{Arg, Command, ValueHint};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Elvish, Fish, Powershell, Shells, Zsh};

use crate::args::{self, GlobalArgs};
use crate::commands::{Invocation, sets};
use crate::kinds::{KINDS, Kind};
use line::TypedLine;
use question::{Offered, Question};

/// The variable that asks this program to complete, and says for which shell. A more common name may be set for another
/// reason, and every command would fail.
pub const VARIABLE: &str = "MCPCTL_COMPLETE";

const SHELLS: Shells<'_> = Shells(&[&bash::Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers a shell. Returns whether one has asked.
pub fn run() -> bool {
    let words = line::typed();
    let mut given: Vec<OsString> = std::env::args_os().take(1).collect();
    if let Some(words) = &words {
        given.push("--".into());
        given.extend(words.iter().map(OsString::from));
    }
    let line = Arc::new(TypedLine::read(&args::command(), words.as_deref().unwrap_or_default()));
    let environment = CompleteEnv::with_factory(|| attach(args::command(), &mut Vec::new(), &line));
    let completed = environment.var(VARIABLE).shells(SHELLS).try_complete(given, current_folder().as_deref());
    match completed {
        Ok(asked) => asked,
        Err(_) if words.is_some() => true,
        Err(error) => error.exit(),
    }
}

/// Returns the lines that make a shell complete the commands of this program.
pub fn registration(shell: &str) -> std::io::Result<String> {
    let own = std::env::args_os().next().unwrap_or_default();
    let own = std::path::PathBuf::from(own);
    let program = match current_folder() {
        Some(folder) if own.components().count() > 1 => folder.join(own),
        _ => own,
    };
    let unknown = || std::io::Error::other(format!("{shell} is not known here"));
    let mut script = Vec::new();
    let shells = SHELLS;
    let completer = shells.completer(shell).ok_or_else(unknown)?;
    completer.write_registration(VARIABLE, "mcpctl", "mcpctl", &program.to_string_lossy(), &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

fn current_folder() -> Option<std::path::PathBuf> {
    std::env::current_dir().ok()
}

/// What can stand in a place of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CompletionPlace {
    Contexts,
    SavedTokens,
    /// Servers that can be called.
    Servers,
    /// Resources of a kind.
    Names(&'static str),
    /// Resources of the kind that was typed before.
    Selection,
    /// Kinds, several with commas, or a kind and a name.
    Kinds,
    /// The same, and what else `get` lists.
    KindsAndSets,
    /// A kind, and a field of it with dots.
    Topic,
    /// Catalogue entries of upstreams, and patterns of them.
    Entries(&'static str),
    /// What the typed servers expose.
    Exposed(&'static str),
    /// What a server offers its callers.
    Offers(Offered),
    /// The arguments of what was typed.
    Arguments(Offered),
    Sets,
    /// Fields of the kind that was typed.
    Fields,
    /// What can be waited for.
    Conditions,
    /// What roles can hold.
    Permissions,
}

/// Lets every argument know what can stand there. Options are offered where one is begun, or where nothing else can stand.
fn attach(command: Command, path: &mut Vec<String>, line: &Arc<TypedLine>) -> Command {
    let place = path.join(" ");
    let command = match line.is_option {
        true => command,
        false => command.disable_help_flag(true).disable_version_flag(true),
    };
    let command = command.mut_args(|arg| {
        let is_hidden = arg.is_hide_set() || !line.is_option && !arg.is_positional();
        with_completer(arg, &place, line).hide(is_hidden)
    });
    command.mut_subcommands(|inner| {
        path.push(inner.get_name().to_owned());
        let inner = attach(inner, path, line);
        path.pop();
        inner
    })
}

fn with_completer(arg: Arg, path: &str, line: &Arc<TypedLine>) -> Arg {
    if let Some(place) = place_of(path, arg.get_id().as_str()) {
        let line = line.clone();
        return arg.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(place, &line, typed)));
    }
    let names = arg.get_value_names().unwrap_or_default();
    match names.first().map(|name| name.as_str()) {
        Some("FILE") => arg.value_hint(ValueHint::FilePath),
        Some("DIR") => arg.value_hint(ValueHint::DirPath),
        Some(name) if name.starts_with("FILE|") => arg.value_hint(ValueHint::AnyPath),
        _ => arg,
    }
}

/// Returns what can stand for an argument of a command.
fn place_of(path: &str, id: &str) -> Option<CompletionPlace> {
    let words: Vec<_> = path.split(' ').collect();
    Some(match (words.as_slice(), id) {
        (_, "context")
        | (["config", "use-context" | "delete-context" | "rename-context" | "set-context"], "name") => {
            CompletionPlace::Contexts
        }
        (["config", "get-bearer" | "set-bearer"], "name") | (["config", "delete-bearer"], "names") => {
            CompletionPlace::SavedTokens
        }
        (["call" | "read" | "prompt" | "ping" | "connect" | "client-config"], "token") => {
            CompletionPlace::SavedTokens
        }
        (["call" | "read" | "prompt" | "ping" | "connect" | "client-config"], "server") => {
            CompletionPlace::Servers
        }
        (["call"], "tool") => CompletionPlace::Offers(Offered::Tools),
        (["call"], "pairs") => CompletionPlace::Arguments(Offered::Tools),
        (["read"], "uri") => CompletionPlace::Offers(Offered::Resources),
        (["prompt"], "name") => CompletionPlace::Offers(Offered::Prompts),
        (["prompt"], "pairs") => CompletionPlace::Arguments(Offered::Prompts),
        (["usage"] | ["access", "check"], "token") => CompletionPlace::Names("token"),
        (["access", "check"], "user") | (["reset-password"], "name") => CompletionPlace::Names("user"),
        (["access", "check"], "service_account") => CompletionPlace::Names("service-account"),
        (["access", "check"], "tool") => CompletionPlace::Exposed("tool"),
        (["access", "check"], "resource") => CompletionPlace::Exposed("resource"),
        (["access", "check"], "prompt") => CompletionPlace::Exposed("prompt"),
        (["create" | "update", "role"], "permissions") => CompletionPlace::Permissions,
        (_, "team") => CompletionPlace::Names("team"),
        (_, "role" | "roles") => CompletionPlace::Names("role"),
        (["create" | "update", "token"], "tools") => CompletionPlace::Exposed("tool"),
        (["create" | "update", "token"], "resources") => CompletionPlace::Exposed("resource"),
        (["create" | "update", "token"], "prompts") => CompletionPlace::Exposed("prompt"),
        (["create" | "update", "server"], "tools") => CompletionPlace::Entries("tool"),
        (["create" | "update", "server"], "resources") => CompletionPlace::Entries("resource"),
        (["create" | "update", "server"], "prompts") => CompletionPlace::Entries("prompt"),
        (_, "server" | "servers") => CompletionPlace::Names("server"),
        (["update", kind], "name" | "names") => CompletionPlace::Names(kind_of(kind)?.singular),
        (["create", kind], "name") if kind_of(kind)?.catalogued => CompletionPlace::Names("upstream"),
        (["create", "join-token"], "edge") => CompletionPlace::Names("edge"),
        (["probe"], "target") | (["lint"], "names") | (["expose"], "register") => {
            CompletionPlace::Names("upstream")
        }
        (
            ["get" | "describe" | "delete" | "revoke" | "refresh" | "edit" | "wait" | "disable" | "enable"],
            "name" | "names" | "words",
        ) => CompletionPlace::Selection,
        (["get"], "kind") => CompletionPlace::KindsAndSets,
        (["describe" | "delete" | "edit" | "wait"], "kind") => CompletionPlace::Kinds,
        (["explain"], "topic") => CompletionPlace::Topic,
        (["wait"], "condition") => CompletionPlace::Conditions,
        (_, "set") => CompletionPlace::Sets,
        (_, "order_by" | "filter" | "sort_by" | "field" | "path") => CompletionPlace::Fields,
        _ => return None,
    })
}

fn kind_of(word: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| [kind.singular, kind.plural].contains(&word) || kind.aliases.contains(&word))
}

/// Returns what can stand in a place and begins as it was typed.
fn candidates(place: CompletionPlace, line: &TypedLine, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let global = GlobalArgs {
        config: line.option("config").map(Into::into),
        context: line.option("context").map(str::to_owned),
        output: None,
        timeout: Some(question::LIMIT),
    };
    let Ok(invocation) = Invocation::new(global) else { return Vec::new() };
    let known = known(place, line, typed, &invocation);
    let fitting = known.into_iter().filter(|(value, _)| value.starts_with(typed));
    let candidate = |(value, help): (String, String)| {
        let help = Some(help).filter(|help| !help.is_empty());
        CompletionCandidate::new(value).help(help.map(Into::into))
    };
    fitting.map(candidate).collect()
}

/// A value, and what it is.
type Known = (String, String);

fn known(place: CompletionPlace, line: &TypedLine, typed: &str, invocation: &Invocation) -> Vec<Known> {
    let ask = |question: Question| question::answer(invocation, &question);
    let bare = |value: String| -> Known { (value, String::new()) };
    let tokens = || invocation.context().map(|context| context.tokens).unwrap_or_default();
    match place {
        CompletionPlace::Contexts => {
            let contexts = invocation.context_file.read().unwrap_or_default().contexts;
            contexts.into_iter().map(|(name, context)| (name, context.control.unwrap_or_default())).collect()
        }
        CompletionPlace::SavedTokens => {
            tokens().into_iter().map(|(name, token)| (name, token.servers.join(", "))).collect()
        }
        CompletionPlace::Servers => {
            let saved = tokens().into_values().flat_map(|token| token.servers).filter(|server| server != "*");
            let mut names: Vec<_> = saved.map(bare).chain(ask(Question::Names("server"))).collect();
            names.sort();
            names.dedup_by(|a, b| a.0 == b.0);
            names
        }
        CompletionPlace::Names(kind) => ask(Question::Names(kind)),
        CompletionPlace::Selection => selection(line, typed, &ask),
        CompletionPlace::Kinds => kinds(typed, &ask),
        CompletionPlace::KindsAndSets => {
            let others = ["all", sets::WORD].map(|word| bare(word.to_owned()));
            kinds(typed, &ask).into_iter().chain(others).collect()
        }
        CompletionPlace::Topic => topics(typed),
        CompletionPlace::Entries(kind) => entries(kind, typed, &ask),
        CompletionPlace::Exposed(kind) => {
            let servers = line.options("servers").chain(line.options("server"));
            servers.flat_map(|server| ask(Question::Exposed { server: server.to_owned(), kind })).collect()
        }
        CompletionPlace::Offers(offered) => offers(line, offered).map(ask).unwrap_or_default(),
        CompletionPlace::Arguments(offered) => arguments(line, offered).map(ask).unwrap_or_default(),
        CompletionPlace::Sets => ask(Question::Sets),
        CompletionPlace::Fields => fields(line),
        CompletionPlace::Conditions => {
            let conditions = ["state=ready", "deleted", "synced", "revision=", "jsonpath="];
            conditions.map(|condition| bare(condition.to_owned())).to_vec()
        }
        CompletionPlace::Permissions => schema::permissions::names().into_iter().map(bare).collect(),
    }
}

fn offers(line: &TypedLine, offered: Offered) -> Option<Question> {
    Some(Question::Offers { server: line.positional(0)?.to_owned(), offered })
}

fn arguments(line: &TypedLine, offered: Offered) -> Option<Question> {
    let (server, name) = (line.positional(0)?.to_owned(), line.positional(1)?.to_owned());
    Some(Question::Arguments { server, offered, name })
}

/// Names of the kind that was typed; those of catalogue entries begin with their upstream.
fn selection(line: &TypedLine, typed: &str, ask: &impl Fn(Question) -> Vec<Known>) -> Vec<Known> {
    let word = line.path.get(1).map(String::as_str).or_else(|| line.positional(0));
    if line.path.first().is_some_and(|verb| verb == "get") && word.is_some_and(sets::are_meant) {
        return ask(Question::Sets);
    }
    let Some(kind) = word.and_then(kind_of) else { return Vec::new() };
    match kind.catalogued {
        true => entries(kind.singular, typed, ask),
        false => ask(Question::Names(kind.singular)),
    }
}

/// Kinds, after those with a comma that are typed; and `KIND/NAME`.
fn kinds(typed: &str, ask: &impl Fn(Question) -> Vec<Known>) -> Vec<Known> {
    let before = typed.rfind(',').map_or(0, |comma| comma + 1);
    let (before, word) = typed.split_at(before);
    let found = match word.split_once('/') {
        Some((kind, name)) => {
            let names = kind_of(kind).map(|kind| match kind.catalogued {
                true => entries(kind.singular, name, ask),
                false => ask(Question::Names(kind.singular)),
            });
            let named = |(name, help): Known| (format!("{kind}/{name}"), help);
            names.unwrap_or_default().into_iter().map(named).collect()
        }
        None => KINDS.iter().map(|kind| (kind.plural.to_owned(), String::new())).collect::<Vec<_>>(),
    };
    found.into_iter().map(|(word, help)| (format!("{before}{word}"), help)).collect()
}

/// Kinds, or the fields below what is typed.
fn topics(typed: &str) -> Vec<Known> {
    let Some((path, _)) = typed.rsplit_once('.') else {
        return KINDS.iter().map(|kind| (kind.singular.to_owned(), String::new())).collect();
    };
    let mut words = path.split('.');
    let kind = words.next().and_then(kind_of);
    let message =
        words.try_fold(kind.map(|kind| crate::reflection::message(kind.message)), |message, word| {
            let field =
                message.as_ref()?.fields().find(|field| field.json_name() == word || field.name() == word)?;
            Some(Some(field.kind().as_message()?.clone()))
        });
    let Some(Some(message)) = message else { return Vec::new() };
    message.fields().map(|field| (format!("{path}.{}", field.json_name()), String::new())).collect()
}

/// Upstreams until one is typed, and then its entries of a kind.
fn entries(kind: &'static str, typed: &str, ask: &impl Fn(Question) -> Vec<Known>) -> Vec<Known> {
    match typed.split_once('/') {
        Some((upstream, _)) => ask(Question::Entries { kind, upstream: upstream.to_owned() }),
        None => {
            let upstreams = ask(Question::Names("upstream")).into_iter();
            upstreams.map(|(name, help)| (name + "/", help)).collect()
        }
    }
}

/// The fields of the kind that was typed.
fn fields(line: &TypedLine) -> Vec<Known> {
    let Some(kind) = line.positional(0).and_then(kind_of) else { return Vec::new() };
    let message = crate::reflection::message(kind.message);
    let mut found = Vec::new();
    for field in message.fields() {
        let inner = field.kind().as_message().filter(|_| !field.is_map() && !field.is_list()).cloned();
        let is_whole = inner.as_ref().is_none_or(|inner| inner.full_name().starts_with("google."));
        match inner.filter(|_| !is_whole) {
            Some(inner) => {
                found.extend(inner.fields().map(|part| format!("{}.{}", field.json_name(), part.json_name())))
            }
            None => found.push(field.json_name().to_owned()),
        }
    }
    found.into_iter().map(|path| (path, String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every argument that names something is completed, wherever it is.
    #[test]
    fn arguments_that_name_something_are_completed() {
        fn check(command: &Command, path: &str, missing: &mut Vec<String>) {
            for arg in
                command.get_arguments().filter(|arg| arg.get_num_args().is_none_or(|n| n.takes_values()))
            {
                let names = arg.get_value_names().unwrap_or_default();
                let is_name = ["name", "names", "server", "token", "set"].contains(&arg.get_id().as_str())
                    || names.first().is_some_and(|name| name == "NAME");
                let is_known = !arg.get_possible_values().is_empty() || arg.is_hide_set();
                if is_name && !is_known && place_of(path, arg.get_id().as_str()).is_none() {
                    missing.push(format!("{path}: {}", arg.get_id()));
                }
            }
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                check(inner, format!("{path} {}", inner.get_name()).trim(), missing);
            }
        }
        let mut missing = Vec::new();
        check(&args::command(), "", &mut missing);
        // New names, and what is no name.
        let free = [
            "create upstream: name",
            "create server: name",
            "create token: name",
            "create service-account: name",
            "create team: name",
            "create role: name",
            "expose: label",
            "expose: hosts",
            "import: id",
            "import: only",
            "client-config: name",
            "client-config: variable",
            "audit: actor",
            "audit: action",
            "audit: resource",
            "audit export: actor",
            "audit export: action",
            "audit export: resource",
        ];
        missing.retain(|place| !free.contains(&place.as_str()));
        assert!(missing.is_empty(), "without completion: {missing:?}");
    }

    #[test]
    fn kinds_are_offered_alone_after_commas_and_before_names() {
        let ask = |question: Question| match question {
            Question::Names(kind) => vec![(format!("a-{kind}"), String::new())],
            _ => Vec::new(),
        };
        let offered = |typed: &str| {
            let known = kinds(typed, &ask).into_iter().map(|(word, _)| word);
            known.filter(|word| word.starts_with(typed)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(offered("ser"), "servers service-accounts");
        assert_eq!(offered("upstreams,serve"), "upstreams,servers");
        assert_eq!(offered("server/"), "server/a-server");
        assert_eq!(offered("tools/a"), "tools/a-upstream/");
        assert_eq!(offered("nonsense/"), "");
    }

    #[test]
    fn topics_are_fields_of_any_depth() {
        let offered = |typed: &str| topics(typed).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert!(offered("up").contains(&"upstream".to_owned()));
        assert!(offered("upstream.").contains(&"upstream.http".to_owned()));
        assert_eq!(offered("upstream.http."), ["upstream.http.url"]);
        assert_eq!(offered("upstream.http.url."), [""; 0]);
        assert_eq!(offered("nonsense."), [""; 0]);
    }

    #[test]
    fn fields_are_those_of_the_kind() {
        let line = TypedLine::read(
            &args::command(),
            &["mcpctl", "get", "upstreams", "--filter", ""].map(str::to_owned),
        );
        let fields: Vec<_> = fields(&line).into_iter().map(|(path, _)| path).collect();
        for path in ["name", "status.state", "meta.createTime", "meta.labels"] {
            assert!(fields.iter().any(|field| field == path), "{path}: {fields:?}");
        }
    }
}
