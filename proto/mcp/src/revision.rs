//! The revisions of the protocol and their two eras.
//!
//! It must not know what a revision changed: that stands where it matters, as data ([`crate::method`]).

/// A dated revision of the protocol, in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05: HTTP+SSE.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, batches.
    V2025_03_26,
    /// 2025-06-18: structured content, elicitation, the version header.
    V2025_06_18,
    /// 2025-11-25: priming and polling of streams, URL elicitation, experimental tasks.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

/// The two families of revisions, which differ in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// With an `initialize` handshake.
    Legacy,
    /// Stateless: every request carries its version and capabilities.
    Modern,
}

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];
    /// The newest one.
    pub const LATEST: Self = Self::V2026_07_28;
    /// The newest one with an `initialize` handshake.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;
    /// What a Streamable HTTP request without a version header is taken for.
    pub const WITHOUT_HEADER: Self = Self::V2025_03_26;

    /// The revision of this date.
    #[must_use]
    pub fn parse(date: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == date)
    }

    /// The legacy revision that a server answers `initialize` with. Spaces around it mean nothing, and 2024-10-07, which SDKs
    /// still list, differs from 2024-11-05 in nothing that is used here.
    #[must_use]
    pub fn agreed(date: &str) -> Option<Self> {
        match date.trim() {
            "2024-10-07" => Some(Self::V2024_11_05),
            date => Self::parse(date).filter(|revision| revision.era() == Era::Legacy),
        }
    }

    /// The dates of the modern revisions, oldest first: a JSON array.
    #[must_use]
    pub fn modern_json() -> String {
        let modern = Self::ALL.into_iter().filter(|revision| revision.era() == Era::Modern);
        let quoted: Vec<String> = modern.map(|revision| format!("\"{}\"", revision.as_str())).collect();
        format!("[{}]", quoted.join(","))
    }

    /// Its date.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The era it belongs to.
    #[must_use]
    pub const fn era(self) -> Era {
        match self {
            Self::V2026_07_28 => Era::Modern,
            _ => Era::Legacy,
        }
    }

    /// What to answer an `initialize` that asks for `requested`: the same where it is a legacy revision we know, else
    /// our newest one.
    #[must_use]
    pub fn negotiate_legacy(requested: &str) -> Self {
        Self::parse(requested).filter(|r| r.era() == Era::Legacy).unwrap_or(Self::LATEST_LEGACY)
    }
}

impl Era {
    /// The era of a date, known here as a revision or not; `None` for what has not the form of one.
    #[must_use]
    pub fn of(date: &str) -> Option<Self> {
        let is_date = date.len() == 10
            && date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        // Dates of this form sort as text.
        let era = if date < Revision::V2026_07_28.as_str() { Self::Legacy } else { Self::Modern };
        is_date.then_some(era)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
