//! The nine types of resource on the stream, in the order in which additions are made.

/// A type of resource of package `trunkline.edge.v1`. The numbers are those of the copy on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamType {
    /// A credential that is presented to an upstream.
    Secret = 0,
    /// The keys and terms that bearers and handles are verified by.
    TrustBundle = 1,
    /// An edge of the fleet.
    Sibling = 8,
    /// An upstream that calls go to.
    Upstream = 2,
    /// A tool of an upstream.
    Tool = 3,
    /// A resource or a template of an upstream.
    Resource = 4,
    /// A prompt of an upstream.
    Prompt = 5,
    /// A token and its permissions.
    Token = 6,
    /// A virtual server.
    Server = 7,
}

const TYPE_PREFIX: &str = "type.googleapis.com/trunkline.edge.v1.";

impl StreamType {
    /// All types, in the order in which additions are made.
    pub const ALL: [StreamType; 9] = [
        StreamType::Secret,
        StreamType::TrustBundle,
        StreamType::Sibling,
        StreamType::Upstream,
        StreamType::Tool,
        StreamType::Resource,
        StreamType::Prompt,
        StreamType::Token,
        StreamType::Server,
    ];

    /// The name of its message.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamType::Secret => "Secret",
            StreamType::TrustBundle => "TrustBundle",
            StreamType::Sibling => "Sibling",
            StreamType::Upstream => "Upstream",
            StreamType::Tool => "Tool",
            StreamType::Resource => "Resource",
            StreamType::Prompt => "Prompt",
            StreamType::Token => "Token",
            StreamType::Server => "Server",
        }
    }

    /// Its type URL on the stream.
    pub fn type_url(self) -> String {
        format!("{TYPE_PREFIX}{}", self.as_str())
    }

    /// Parses a type URL, if this edge knows the type.
    pub fn from_type_url(url: &str) -> Option<StreamType> {
        let name = url.strip_prefix(TYPE_PREFIX)?;
        StreamType::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the type with this number in the file on disk.
    pub fn from_number(number: u8) -> Option<StreamType> {
        StreamType::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_and_numbers_lead_back() {
        for kind in StreamType::ALL {
            assert_eq!(StreamType::from_type_url(&kind.type_url()), Some(kind));
            assert_eq!(StreamType::from_number(kind as u8), Some(kind));
        }
        assert_eq!(StreamType::from_type_url("type.googleapis.com/trunkline.edge.v1.Policy"), None);
        assert_eq!(StreamType::from_type_url("Tool"), None);
        assert_eq!(StreamType::from_number(9), None);
    }
}
