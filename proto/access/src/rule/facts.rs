//! What rules are true of. It must not know expressions.

use std::net::IpAddr;

/// Something about a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// It will be known when there is a request: what depends on it is left open.
    #[default]
    Later,
    /// There is none, or nobody knows it: what depends on it cannot be decided.
    Absent,
    /// It is known.
    Is(T),
}

/// Who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// `caller.name`: the id alone, `ci` or `ann@example.org`.
    pub name: String,
    /// `caller.kind`: `token`, `user` or `service_account`.
    pub kind: String,
    /// `caller.teams`: ids of the teams that they are in, or that the owner of the token is in; sorted, each once.
    pub teams: Vec<String>,
}

impl Caller {
    /// A principal by its name, such as `tokens/ci`, in teams by their ids; sorted, each once.
    #[must_use]
    pub fn of(principal: &str, teams: Vec<String>) -> Self {
        let (collection, name) = principal.split_once('/').unwrap_or(("", principal));
        let kind = match collection {
            "users" => "user",
            "serviceAccounts" => "service_account",
            _ => "token",
        };
        Self { name: name.to_owned(), kind: kind.to_owned(), teams }
    }
}

/// What is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// What clients see: a name, a URI or a URI template.
    pub name: &'a str,
    /// What clients that learned it earlier may still call it.
    pub former: Option<&'a str>,
    /// Whether it is below no prefix, so that no pattern but `*` makes an `allow` true for it.
    pub leads_out: bool,
    /// Of a template: the URI that it produces. `Absent`: it is no template.
    pub produced: Fact<&'a str>,
    /// `tool.upstream`: the id of the upstream.
    pub upstream: &'a str,
    /// `tool.read_only`, as clients are shown it. See [`Target::hints`].
    pub read_only: bool,
    /// `tool.destructive`, as clients are shown it.
    pub destructive: bool,
    /// What its upstream says of it, whatever a server makes of that: rules of a team look at this too.
    pub own: OwnFacts<'a>,
}

/// What an upstream says of something that a server exposes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnFacts<'a> {
    /// The name, URI or URI template.
    pub name: &'a str,
    /// See [`Target::leads_out`].
    pub leads_out: bool,
    /// Where [`Target::produced`] is a URI: the same as the upstream knows it.
    pub produced: &'a str,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether it destroys.
    pub destructive: bool,
}

impl<'a> Target<'a> {
    /// `read_only` and `destructive` of a tool with these `readOnlyHint` and `destructiveHint`. Without hints a tool is taken for one that
    /// destroys, as the specification has it. Resources and prompts are only read: `(true, false)`.
    #[must_use]
    pub fn hints(read_only: Option<bool>, destructive: Option<bool>) -> (bool, bool) {
        let read_only = read_only.unwrap_or(false);
        (read_only, !read_only && destructive.unwrap_or(true))
    }

    /// The target under the names by which its upstream knows it.
    pub(super) fn by_own_names(self) -> Self {
        let OwnFacts { name, leads_out, produced, .. } = self.own;
        let produced = match self.produced {
            Fact::Is(_) => Fact::Is(produced),
            other => other,
        };
        Self { name, former: None, leads_out, produced, ..self }
    }
}

/// All that rules can look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// `server`: the id of the server.
    pub server: &'a str,
    /// What is called.
    pub target: Target<'a>,
    /// `method`.
    pub method: &'a str,
    /// `args`: the bytes of `params.arguments`. `Absent`: the request has none.
    pub arguments: Fact<&'a [u8]>,
    /// `source.ip`: the address of the client.
    pub source: Fact<IpAddr>,
    /// `now`: seconds since 1970. `None`: known later.
    pub now_s: Option<i64>,
}

impl Facts<'_> {
    /// As rules of a team see them: who writes a server makes a tool no more harmless than its upstream says that it is.
    pub(super) fn for_team(self) -> Self {
        let Target { read_only, destructive, own, .. } = self.target;
        let (read_only, destructive) = (read_only && own.read_only, destructive || own.destructive);
        Self { target: Target { read_only, destructive, ..self.target }, ..self }
    }
}
