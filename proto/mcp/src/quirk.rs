//! The quirks of servers: harmless deviations from the specification that are tolerated, counted and named.
//!
//! One list for the client, the edge, the bridges and the documentation. It must not know who met one, nor where.

macro_rules! quirks {
    ($($variant:ident = $name:literal: $text:literal, $cure:literal;)+) => {
        /// A harmless deviation of a server from the specification.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Quirk {
            $(#[doc = concat!("The server ", $text, ".")] $variant,)+
        }

        impl Quirk {
            /// All quirks.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, as in the contract, in metrics and in logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What the server does, as the rest of a sentence that begins with the server.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// What is done about it.
            #[must_use]
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure),+ }
            }
        }
    };
}

quirks! {
    NoDelete = "no-delete": "does not end sessions on `DELETE`",
        "forgets the session itself; waits 2 s at most";
    NoSubprotocol = "no-subprotocol": "answers a WebSocket without the subprotocol `mcp`", "goes on without it";
    ForeignEvents = "foreign-events": "sends events of types other than `message`, such as `ping` or `heartbeat`",
        "skips them, whatever their data";
    UnreadableMessages = "unreadable-messages": "sends texts that are no MCP message between messages",
        "skips up to 1,000 of them, or 1 MiB, before an answer; if none comes, quotes the first; one that bears the id of the call ends it with the quote";
    UnendedEvents = "unended-events": "leaves out the empty line after its last event",
        "takes that event if its data is a whole message; while the stream is open, after 250 ms";
    AnswersInPost = "answers-in-post": "HTTP+SSE: answers in the body of the POST",
        "takes the answer from there if it is one to an open call";
    ProgressAside = "progress-aside": "sends the progress of a call on the stream of its session and not in the response, as older Python SDKs do",
        "passes it on by its token; a session that several clients share has such a stream once a call wants progress";
    BinaryFrames = "binary-frames": "WebSocket: sends JSON in binary frames", "reads them as text if they are UTF-8";
    Redirects = "redirects": "redirects within its origin, such as `/mcp` to `/mcp/`",
        "follows 301, 302, 307 and 308 with the same method and body, up to 5, and remembers; what may not run twice follows 301 and 302 to the same path with a slash only, and is not sent again where it ended with 404 or 405 at the place that is remembered (the next call is); register the final URL to save the first hop. Requests for WebSockets are led on as well, each time anew";
    DowngradingRedirect = "downgrading-redirect": "redirects from `https` to `http` on its own host, as servers behind TLS do that do not know of it",
        "takes the path, stays on `https`";
    ClosesConnections = "closes-connections": "closes connections after an answer without saying so",
        "does not reuse its connections for calls that may not run twice";
    AffinityCookies = "affinity-cookies": "is behind a balancer that pins sessions by cookie",
        "sends the cookies of `initialize` back in that session, to that origin, from whichever edge a stream is resumed, a question answered or a task asked about";
    ForgetsSessions = "forgets-sessions": "forgets sessions without HTTP 404: refuses calls in other words, answers nothing or a page, redirects elsewhere, or cuts the connection; on HTTP+SSE and WebSocket, answers with errors",
        "pings; if the ping fails alike and a ping in a new session does not, goes on in that one, and repeats the call once if it was refused for its session or may run twice; other sessions of the edge are pinged before their next call; if the ping is refused in other words, opens a session anew, at most once a second, where an HTTP error of the call names it. Where the ping in the new session fails as well, the old one stays";
    IdsRespelt = "ids-respelt": "answers the id 7 as `\"7\"` or `7.0`",
        "matches by value; the client gets its own spelling";
    IdsMissing = "ids-missing": "answers with an `id` that is null or absent",
        "takes the answer where exactly one call is open on that exchange, on a connection that carried no other before; from then on each request has a connection of its own";
    NoVersionMember = "no-jsonrpc": "leaves `jsonrpc` out, or writes something else than \"2.0\"", "completes it";
    NullMembers = "null-members": "writes absent members as `null`, or `[]` for `{}`", "reads them as absent, as empty";
    OddErrors = "odd-errors": "sends errors without an integer `code` or a text `message`, or a bare text for one",
        "completes them: a code that is a number is written as one, else it is -32603; what else was said is in the message, or in `data`";
    ListOfOne = "list-of-one": "wraps a single message into an array", "takes it out";
    Batches = "batches": "answers in a batch, as 2025-03-26 allows",
        "takes the response out of it; notifications beside it reach nobody";
    NonFinite = "non-finite-numbers": "writes `NaN` or `Infinity`, which JSON does not have", "reads `null`";
    ByteOrderMark = "byte-order-mark": "begins with a byte order mark", "takes it off";
    PrettyPrinted = "pretty-printed": "stdio: writes a message over several lines", "joins them, up to 1 MiB";
    WrongLabel = "wrong-label": "sends JSON or events under another content type, or none", "looks at the first bytes";
    UnaskedCoding = "unasked-coding": "compresses with `gzip` or `deflate`, which was not asked for",
        "decodes, within the bound on answers; `br` and `zstd` are an error that names them";
    CapabilitiesShape = "capabilities-shape": "has `capabilities` that are absent, null or a list", "reads them as empty";
    UndeclaredLists = "undeclared-lists": "has tools and does not declare them", "asks for them once";
    ListShape = "list-shape": "has a list that is null, `{}` or missing, or that is an object or in another list",
        "reads it as empty, or the entries out of it";
    PagingLoops = "paging-loops": "pages a list without end", "keeps what came, and stops";
    ListsFail = "lists-fail": "fails to give one list while it gives others",
        "serves the others, keeps its last good entries for 24 hours, and asks again after 30 s to 5 min; `get upstream` has the reason";
    EntriesMended = "entries-mended": "has definitions that SDKs reject and that have one meaning",
        "lists them completed; they are stored as they came, and named in `status.warnings`";
    EntriesWithheld = "entries-withheld": "has definitions that cannot be read as valid",
        "does not list them, and names them; a call by name still goes through";
    RefusesInitialized = "refuses-initialized": "refuses `notifications/initialized`", "goes on";
    RefusesNewerVersions = "refuses-newer-versions": "refuses revisions that it does not know, instead of offering its own; or agrees to one, and refuses every request that names it",
        "offers what its error names, else older ones in turn; a probe pings where the offer was agreed to";
    LongSelfDescription = "long-self-description": "describes itself in more than 64 KiB of instructions or capabilities, or 1 KiB of a name or version",
        "cuts texts, and leaves out the longest capabilities, which are experimental ones";
}

impl Quirk {
    /// The quirk of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|quirk| quirk.as_str() == name)
    }
}

/// A set of quirks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks(u64);

impl Quirks {
    /// Adds a quirk; true when it was not there.
    pub fn note(&mut self, quirk: Quirk) -> bool {
        let before = self.0;
        self.0 |= bit(quirk);
        self.0 != before
    }

    /// Adds those of another set.
    pub fn merge(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether a quirk is there.
    #[must_use]
    pub fn contains(self, quirk: Quirk) -> bool {
        self.0 & bit(quirk) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are there, in the order of [`Quirk::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.iter().copied().filter(move |quirk| self.contains(*quirk))
    }

    /// The set as a word, a bit each: for atomics. The bits mean nothing outside of the process.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set of [`Self::bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Self {
        quirks.into_iter().fold(Self::default(), |mut set, quirk| {
            set.note(quirk);
            set
        })
    }
}

impl From<Quirk> for Quirks {
    fn from(quirk: Quirk) -> Self {
        Self(bit(quirk))
    }
}

const fn bit(quirk: Quirk) -> u64 {
    1 << quirk as u8
}

const _: () = assert!(Quirk::ALL.len() <= u64::BITS as usize, "a bit for each quirk");
