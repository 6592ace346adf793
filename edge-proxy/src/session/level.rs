//! Log levels, in the order of how much they hold back. It must not know who logs.

use mcp::json;

const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A log level; the smaller, the more is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(usize);

impl Level {
    /// The level that raw JSON names.
    pub fn parse(raw: &str) -> Option<Self> {
        let name = json::string(raw).ok()?;
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_severity() {
        let level = |name: &str| Level::parse(&json::quote(name)).unwrap();
        assert!(NAMES.map(level).is_sorted());
        assert!(NAMES.iter().all(|name| level(name).as_str() == *name));
        assert_eq!((Level::parse("\"loud\""), Level::parse("1")), (None, None));
    }
}
