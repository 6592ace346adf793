//! The nine types of resource on the stream, in the order in which additions are made.

/// A type of resource of package `trunkline.edge.v1`. The numbers are those of the copy on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What is presented to an upstream.
    Secret = 0,
    /// What bearers and handles are believed by.
    TrustBundle = 1,
    /// Another edge, as edges reach each other.
    EdgePeer = 8,
    /// Where calls go.
    Upstream = 2,
    /// A tool of an upstream.
    Tool = 3,
    /// A resource or a template of an upstream.
    Resource = 4,
    /// A prompt of an upstream.
    Prompt = 5,
    /// What a bearer may do.
    Token = 6,
    /// A virtual server.
    Server = 7,
}

const TYPE_PREFIX: &str = "type.googleapis.com/trunkline.edge.v1.";

impl Kind {
    /// All of them, in the order in which additions are made.
    pub const ALL: [Kind; 9] = [
        Kind::Secret,
        Kind::TrustBundle,
        Kind::EdgePeer,
        Kind::Upstream,
        Kind::Tool,
        Kind::Resource,
        Kind::Prompt,
        Kind::Token,
        Kind::Server,
    ];

    /// The name of its message.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Secret => "Secret",
            Kind::TrustBundle => "TrustBundle",
            Kind::EdgePeer => "EdgePeer",
            Kind::Upstream => "Upstream",
            Kind::Tool => "Tool",
            Kind::Resource => "Resource",
            Kind::Prompt => "Prompt",
            Kind::Token => "Token",
            Kind::Server => "Server",
        }
    }

    /// Its type URL on the stream.
    pub fn type_url(self) -> String {
        format!("{TYPE_PREFIX}{}", self.as_str())
    }

    /// The type that a type URL names, where an edge knows it.
    pub fn from_type_url(url: &str) -> Option<Kind> {
        let name = url.strip_prefix(TYPE_PREFIX)?;
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The type with this number in the file on disk.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_and_numbers_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_type_url(&kind.type_url()), Some(kind));
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_type_url("type.googleapis.com/trunkline.edge.v1.Policy"), None);
        assert_eq!(Kind::from_type_url("Tool"), None);
        assert_eq!(Kind::from_number(9), None);
    }
}
