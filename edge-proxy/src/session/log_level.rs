//! Log levels, ordered by severity. It must not know who logs.

use mcp::json;

const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A log level. A smaller one lets more messages through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogLevel(usize);

impl LogLevel {
    /// Parses a level from raw JSON.
    pub fn parse(raw: &str) -> Option<Self> {
        let name = json::string(raw).ok()?;
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// The level's name.
    pub fn as_str(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_severity() {
        let level = |name: &str| LogLevel::parse(&json::quote(name)).unwrap();
        assert!(NAMES.map(level).is_sorted());
        assert!(NAMES.iter().all(|name| level(name).as_str() == *name));
        assert_eq!((LogLevel::parse("\"loud\""), LogLevel::parse("1")), (None, None));
    }
}
