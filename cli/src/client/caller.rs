//! Whose bearer is presented to an edge, and where it came from, so that every error can say so.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::fields::read_text;
use crate::context::{Context, SavedToken, Secret};
use crate::error::{Error, Result};
use crate::suggest::did_you_mean;

/// The longest bearer that is sent. Those of Trunkline have a few hundred bytes, and edges read 64 KiB of headers.
const MAX_BEARER_BYTES: usize = 16 << 10;

/// The longest id of a token.
const MAX_NAME_BYTES: usize = 63;

/// The variable that holds a bearer, here and for hosts.
pub const VARIABLE: &str = "TRUNKLINE_TOKEN";
/// What it was called before, when hosts had another. Who sets both means this program by it.
pub const EARLIER_VARIABLE: &str = "TRUNKLINE_BEARER";

/// The flags of every command that calls a server.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CallerFlags {
    /// Saved token to use [default: the first that was made of those that may call the server and what is asked for; those that
    /// name the server come before those for every server]
    #[arg(long, value_name = "NAME", conflicts_with = "bearer_file")]
    pub token: Option<String>,
    /// File with the bearer to use instead of that of a saved token; - reads stdin. Without it, TRUNKLINE_TOKEN is used if it is
    /// set
    #[arg(long, value_name = "FILE")]
    pub bearer_file: Option<PathBuf>,
}

/// What a caller asks a server for.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Nothing in particular.
    Anything,
    /// A tool, by its exposed name or its upstream's own.
    Tool(&'a str),
    /// A resource, by its exposed URI.
    Resource(&'a str),
    /// A prompt, by its exposed name or its upstream's own.
    Prompt(&'a str),
}

impl<'a> Wanted<'a> {
    /// What kind of thing it is.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Anything => "server",
            Self::Tool(_) => "tool",
            Self::Resource(_) => "resource",
            Self::Prompt(_) => "prompt",
        }
    }

    /// What is done with it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Anything | Self::Tool(_) => "call",
            Self::Resource(_) => "read",
            Self::Prompt(_) => "get",
        }
    }

    /// By what word it is asked for.
    pub fn word(self) -> &'a str {
        match self {
            Self::Anything => "",
            Self::Tool(word) | Self::Resource(word) | Self::Prompt(word) => word,
        }
    }
}

impl CallerFlags {
    /// Whether the bearer is read from stdin.
    pub fn reads_stdin(&self) -> bool {
        self.bearer_file.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub bearer: Secret,
    pub source: BearerSource,
}

/// Where a bearer came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BearerSource {
    /// A file that was named.
    File(PathBuf),
    /// This variable.
    Environment(&'static str),
    /// A saved token.
    Saved { name: String, file: PathBuf },
    /// Whoever is signed in at the control plane.
    SignedIn(String),
    /// There is none: an edge is shown the certificate in this file.
    Certificate(PathBuf),
    /// Nowhere: there is none.
    Nobody,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            BearerSource::File(path) if path.as_os_str() == "-" => f.write_str("the bearer from stdin"),
            BearerSource::File(path) => write!(f, "the bearer in {}", path.display()),
            BearerSource::Nobody => f.write_str("no bearer"),
            BearerSource::Certificate(path) => write!(f, "the certificate in {}", path.display()),
            BearerSource::SignedIn(who) => write!(f, "the access of {who}"),
            BearerSource::Environment(variable) => write!(f, "the bearer in {variable}"),
            BearerSource::Saved { name, file } => write!(f, "token {name} (saved in {})", file.display()),
        }
    }
}

impl Caller {
    fn saved(name: &str, token: &SavedToken, file: &Path) -> Self {
        let source = BearerSource::Saved { name: name.to_owned(), file: file.to_owned() };
        Self { bearer: token.bearer.clone(), source }
    }

    /// Who it is, without where that is saved.
    pub(super) fn brief(&self) -> String {
        match &self.source {
            BearerSource::Saved { name, .. } => format!("token {name}"),
            BearerSource::SignedIn(who) => who.clone(),
            _ => self.to_string(),
        }
    }

    /// Whoever a variable of the environment has the bearer of, if one is set.
    pub fn of_environment() -> Result<Option<Self>> {
        let found = in_environment()?;
        Ok(found.map(|(variable, bearer)| Self { bearer, source: BearerSource::Environment(variable) }))
    }

    /// Whoever presents the certificate of a context, if that has one.
    pub fn of_certificate(context: &Context) -> Option<Self> {
        let source = BearerSource::Certificate(context.client_cert.clone()?);
        Some(Self { bearer: Secret::default(), source })
    }

    /// Returns the value of `authorization`; `None` where a certificate is presented alone.
    pub fn authorization(&self) -> Result<Option<HeaderValue>> {
        if matches!(self.source, BearerSource::Certificate(_)) {
            return Ok(None);
        }
        let value = HeaderValue::from_str(&format!("Bearer {}", self.bearer.expose()));
        let mut value = value.map_err(|_| {
            Error::usage(format!("{self} contains characters that are not allowed in an HTTP header"))
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Returns who may call, best first: the one that was named, or the saved tokens that cover what is wanted, in the order in
/// which they were made. There is at least one.
pub fn callers(
    context: &Context,
    file: &Path,
    server: &str,
    wanted: Wanted<'_>,
    flags: &CallerFlags,
) -> Result<Vec<Caller>> {
    if let Some(path) = &flags.bearer_file {
        let bearer = checked(&read_text(path)?, &path.display().to_string())?;
        return Ok(vec![Caller { bearer, source: BearerSource::File(path.clone()) }]);
    }
    if let Some(name) = &flags.token {
        let (name, token) = context.saved_token(name, file)?;
        return Ok(vec![Caller::saved(name, token, file)]);
    }
    let mut left_out = None;
    if let Some((variable, bearer)) = in_environment()? {
        match of_others(context, &bearer, server) {
            None => return Ok(vec![Caller { bearer, source: BearerSource::Environment(variable) }]),
            Some(token) => {
                left_out = Some(format!("{variable} has the bearer of token {token}, which may not"))
            }
        }
    }
    let saved = candidates(context, server, wanted);
    let callers: Vec<_> = saved.into_iter().map(|(name, token)| Caller::saved(name, token, file)).collect();
    match left_out {
        _ if !callers.is_empty() => Ok(callers),
        Some(left_out) => Err(Error::not_found(format!(
            "no token in {} may call server {server}, and {left_out}; create one with `mcpctl create token NAME --server {server}`",
            file.display()
        ))),
        None => Err(none_covers(context, file, server)),
    }
}

/// Returns the bearer that a variable holds, if one is set.
fn in_environment() -> Result<Option<(&'static str, Secret)>> {
    let set =
        |name: &&str| std::env::var_os(name).is_some_and(|value| !value.to_string_lossy().trim().is_empty());
    let Some(variable) = [EARLIER_VARIABLE, VARIABLE].into_iter().find(set) else { return Ok(None) };
    let bearer = checked(&std::env::var(variable).unwrap_or_default(), variable)?;
    Ok(Some((variable, bearer)))
}

/// The saved token whose bearer this is, if it may not call a server: the variable is set for a host and another server.
fn of_others<'a>(context: &'a Context, bearer: &Secret, server: &str) -> Option<&'a str> {
    let mut saved = context.tokens.iter();
    saved.find(|(_, token)| token.bearer == *bearer && !token.may_call(server)).map(|(name, _)| name.as_str())
}

/// Returns the saved token for a server: the named one, or else the first that was made of those that may call it.
pub fn saved<'a>(
    context: &'a Context,
    file: &Path,
    server: &str,
    named: Option<&str>,
) -> Result<(&'a str, &'a SavedToken)> {
    if let Some(name) = named {
        return context.saved_token(name, file);
    }
    let first = candidates(context, server, Wanted::Anything).into_iter().next();
    first.ok_or_else(|| none_covers(context, file, server))
}

/// Returns the saved tokens that may call a server: those that cover what is wanted before those that only may; of each, those
/// that name the server before those for every server, and the first that was made first.
fn candidates<'a>(context: &'a Context, server: &str, wanted: Wanted<'_>) -> Vec<(&'a str, &'a SavedToken)> {
    let all = context.tokens.iter().map(|(name, token)| (name.as_str(), token));
    let mut found: Vec<_> = all.filter(|(_, token)| token.may_call(server)).collect();
    let is_for_all = |token: &SavedToken| !token.servers.iter().any(|s| s == server);
    found.sort_by_key(|(_, token)| (rank(token, wanted), is_for_all(token), made(token)));
    found
}

/// How well a token covers what is wanted; 0 is best.
fn rank(token: &SavedToken, wanted: Wanted<'_>) -> u8 {
    let (patterns, name, has_prefixes) = match wanted {
        Wanted::Anything => return 0,
        Wanted::Tool(name) => (&token.tools, name, true),
        Wanted::Resource(uri) => (&token.resources, uri, false),
        Wanted::Prompt(name) => (&token.prompts, name, true),
    };
    // What a token may use is not known of those that were saved by an earlier release, or handed over.
    let Some(patterns) = patterns else { return 1 };
    let end = format!("_{name}");
    match patterns {
        _ if patterns.iter().any(|pattern| glob::matches(pattern, name)) => 0,
        _ if has_prefixes && patterns.iter().any(|pattern| may_end_with(pattern, &end)) => 1,
        _ => 2,
    }
}

/// Whether a pattern matches some text with this end: a name behind the prefix of its upstream.
fn may_end_with(pattern: &str, end: &str) -> bool {
    match pattern.rsplit_once('*') {
        Some((_, tail)) => tail.ends_with(end) || end.ends_with(tail),
        None => pattern.ends_with(end),
    }
}

/// When a token was made. Those of which that is not known come last.
fn made(token: &SavedToken) -> OffsetDateTime {
    let told = token.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let issued = || OffsetDateTime::from_unix_timestamp(claims(&token.bearer)?["iat"].as_i64()?).ok();
    told.or_else(issued).unwrap_or(time::macros::datetime!(9999-12-31 0:00 UTC))
}

/// Returns what a bearer says of itself, unverified: only its edge can tell whether it is true.
pub fn claims(bearer: &Secret) -> Option<serde_json::Value> {
    let payload = bearer.expose().split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Returns the bearer in a text that came from `place`. It may be written as in the header.
pub fn checked(text: &str, place: &str) -> Result<Secret> {
    let text = text.trim();
    let bearer = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    if bearer.is_empty() {
        return Err(Error::usage(format!("{place} contains no bearer")));
    }
    if !bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::usage(format!(
            "{place} contains no bearer: one is a single word of letters, digits and signs"
        )));
    }
    if bearer.len() > MAX_BEARER_BYTES {
        return Err(Error::usage(format!(
            "{place} contains no bearer: it has {} bytes, and none has more than {MAX_BEARER_BYTES}",
            bearer.len()
        )));
    }
    Ok(Secret::new(bearer))
}

/// Returns the name to save a bearer under, which is the id of its token.
pub fn checked_name(name: String) -> Result<String> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_part) {
        true => Ok(name),
        false => Err(Error::usage(format!(
            "{name:?} is no name of a token; use a-z, 0-9 and -, {MAX_NAME_BYTES} characters at most"
        ))),
    }
}

/// The server that was perhaps meant, of those that saved tokens may call.
pub fn near_server(context: &Context, server: &str) -> String {
    let known = context.tokens.values().flat_map(|token| &token.servers).map(String::as_str);
    did_you_mean(server, known)
}

fn none_covers(context: &Context, file: &Path, server: &str) -> Error {
    let saved = context.tokens.iter().map(|(name, token)| format!("{name} ({})", token.servers.join(", ")));
    let saved: Vec<_> = saved.take(20).collect();
    let (hint, has, file) = (near_server(context, server), saved.join(", "), file.display());
    if !hint.is_empty() {
        return Error::not_found(format!(
            "no token in {file} may call server {server}{hint}; saved there: {has}"
        ));
    }
    let has =
        if has.is_empty() { "no token is saved there".to_owned() } else { format!("saved there: {has}") };
    let create = match context.control {
        // Who runs a gateway of their own acts by its token, and need not sign in.
        Some(_) if context.session.is_none() && !(context.is_of_dev() && context.has_admin_token()) => {
            format!(
                "sign in with `mcpctl login`, create one with `mcpctl create token NAME --server {server}`, or "
            )
        }
        Some(_) => format!("create one with `mcpctl create token NAME --server {server}`, or "),
        None => String::new(),
    };
    Error::not_found(format!(
        "no token in {file} may call server {server}; {has}; {create}use a bearer that you were given: `mcpctl config set-bearer \
         NAME`, --bearer-file or {VARIABLE}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(servers: &[&str], tools: Option<&[&str]>, created: Option<&str>) -> SavedToken {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        SavedToken {
            bearer: Secret::new("s3cret"),
            servers: owned(servers),
            tools: tools.map(owned),
            created: created.map(str::to_owned),
            ..SavedToken::default()
        }
    }

    fn chosen(context: &Context, wanted: Wanted<'_>) -> String {
        let found = candidates(context, "dev", wanted);
        found.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }

    fn context(tokens: &[(&str, SavedToken)]) -> Context {
        let tokens = tokens.iter().map(|(name, token)| ((*name).to_owned(), token.clone())).collect();
        Context { tokens, ..Context::default() }
    }

    #[test]
    fn the_first_that_was_made_and_covers_what_is_wanted_is_used() {
        let all: Option<&[&str]> = Some(&["*"]);
        let context = context(&[
            ("alpha", token(&["dev"], all, Some("2026-02-01T00:00:00Z"))),
            ("narrow", token(&["dev"], Some(&["time_image"]), Some("2025-01-01T00:00:00Z"))),
            ("other", token(&["prod"], all, Some("2024-01-01T00:00:00Z"))),
            ("zlaptop", token(&["*"], Some(&["time_*"]), Some("2026-01-01T00:00:00.5Z"))),
        ]);
        assert_eq!(chosen(&context, Wanted::Anything), "narrow alpha zlaptop");
        assert_eq!(chosen(&context, Wanted::Tool("time_get_current_time")), "alpha zlaptop narrow");
        assert_eq!(chosen(&context, Wanted::Tool("time_image")), "narrow alpha zlaptop");
        // By the upstream's own name: `zlaptop` may have it with a prefix, and `alpha` whatever it is called.
        assert_eq!(chosen(&context, Wanted::Tool("get_current_time")), "alpha zlaptop narrow");
    }

    #[test]
    fn a_bearer_says_when_it_was_made_where_the_file_does_not() {
        let signed = |seconds: i64| {
            let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{seconds}}}"#));
            SavedToken { bearer: Secret::new(format!("h.{claims}.s")), ..token(&["dev"], None, None) }
        };
        let context = context(&[("a", token(&["dev"], None, None)), ("b", signed(2)), ("c", signed(1))]);
        assert_eq!(chosen(&context, Wanted::Tool("now")), "c b a");
    }

    #[test]
    fn a_token_that_names_the_server_comes_before_those_for_all() {
        let context = context(&[
            ("aaa", token(&["*"], None, Some("2025-01-01T00:00:00Z"))),
            ("dv2", token(&["dev"], Some(&["*"]), Some("2026-01-01T00:00:00Z"))),
            ("given", token(&["dev", "*"], None, None)),
        ]);
        assert_eq!(chosen(&context, Wanted::Anything), "dv2 given aaa");
        assert_eq!(chosen(&context, Wanted::Tool("now")), "dv2 given aaa");
    }

    #[test]
    fn a_bearer_of_another_server_is_not_presented() {
        let context = context(&[("laptop", token(&["dev"], None, None))]);
        let of_others = |text: &str, server: &str| of_others(&context, &Secret::new(text), server);
        assert_eq!(of_others("s3cret", "prod"), Some("laptop"));
        assert_eq!((of_others("s3cret", "dev"), of_others("of nobody here", "prod")), (None, None));
    }

    #[test]
    fn what_is_no_bearer_is_told_by_its_place() {
        assert_eq!(checked("Bearer a.b.c\n", "FILE").unwrap(), Secret::new("a.b.c"));
        let long = "s3cret".repeat(50_000);
        for (text, part) in [
            (" \n", "FILE contains no bearer"),
            ("s3cret\nmore", "a single word"),
            (&long, "it has 300000 bytes"),
        ] {
            let error = checked(text, "FILE").unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_server_without_a_token_says_what_is_there() {
        let context = context(&[("laptop", token(&["development"], None, None))]);
        let error =
            callers(&context, Path::new("FILE"), "developmnt", Wanted::Anything, &CallerFlags::default());
        assert_eq!(
            error.unwrap_err().to_string(),
            "no token in FILE may call server developmnt; did you mean development?; saved there: laptop (development)"
        );
    }
}
