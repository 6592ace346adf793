//! What arguments of a tool can be, as far as its schema says so. It must not know JSON Schema.

use std::collections::BTreeMap;

/// What a value can be. By default: anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Of which kinds it can be.
    pub kinds: Kinds,
    /// The values that it can have. `None`: any of its kinds.
    pub values: Option<Vec<Constant>>,
    /// Members that it can have. `None`: any.
    pub members: Option<BTreeMap<String, Shape>>,
    /// Those of its members that are always there.
    pub required: Vec<String>,
    /// What items of a list can be. `None`: anything.
    pub items: Option<Box<Shape>>,
}

/// A value that is no list and no object.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Double(f64),
    /// A string.
    Text(String),
}

/// A set of kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// `null`.
    pub const NULL: Self = Self(1);
    /// `true` and `false`.
    pub const BOOL: Self = Self(2);
    /// Whole numbers.
    pub const INT: Self = Self(4);
    /// Numbers with a fraction.
    pub const DOUBLE: Self = Self(8);
    /// Strings.
    pub const TEXT: Self = Self(16);
    /// Lists.
    pub const LIST: Self = Self(32);
    /// Objects.
    pub const MAP: Self = Self(64);
    /// All numbers.
    pub const NUMBER: Self = Self(4 | 8);
    /// All.
    pub const ALL: Self = Self(127);

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same, where numbers of both kinds are taken for each other.
    pub(super) const fn with_all_numbers(self) -> Self {
        if self.and(Self::NUMBER).is_empty() { self } else { self.or(Self::NUMBER) }
    }

    /// For people.
    pub(super) fn shown(self) -> String {
        const WORDS: [(Kinds, &str); 6] = [
            (Kinds::NULL, "null"),
            (Kinds::BOOL, "true or false"),
            (Kinds::NUMBER, "a number"),
            (Kinds::TEXT, "a string"),
            (Kinds::LIST, "a list"),
            (Kinds::MAP, "an object"),
        ];
        if self == Self::ALL {
            return "anything".to_owned();
        }
        let words = WORDS.iter().filter(|(kind, _)| !self.and(*kind).is_empty()).map(|(_, word)| *word);
        words.collect::<Vec<_>>().join(" or ")
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self { kinds: Kinds::ALL, values: None, members: None, required: Vec::new(), items: None }
    }
}

impl Constant {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kinds {
        match self {
            Self::Null => Kinds::NULL,
            Self::Bool(_) => Kinds::BOOL,
            Self::Int(_) => Kinds::INT,
            Self::Double(_) => Kinds::DOUBLE,
            Self::Text(_) => Kinds::TEXT,
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Text(value) => crate::text::quoted(value),
        }
    }
}
