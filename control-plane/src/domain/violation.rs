//! The violations of a message, field by field; not how they are reported.

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, such as `http.url` or `tools[2].match`.
    pub field: String,
    /// The violation, as a sentence without a full stop.
    pub description: String,
}

/// All that is wrong with a message, so that its author needs one round only.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Adds one unless the condition holds.
    pub fn require(&mut self, holds: bool, field: impl Into<String>, description: impl Into<String>) {
        if !holds {
            self.add(field, description);
        }
    }

    /// Adds one where a text has more characters than it may.
    pub fn at_most(&mut self, field: &str, text: &str, limit: usize) {
        let length = text.chars().count();
        self.require(length <= limit, field, format!("has {length} characters; the maximum is {limit}"));
    }

    /// Adds one where a value has more bytes than it may.
    pub fn at_most_bytes(&mut self, field: &str, text: &str, limit: usize) {
        let length = text.len();
        self.require(length <= limit, field, format!("has {length} bytes; the maximum is {limit}"));
    }

    /// Adds those of a part of the message, whose paths begin with `prefix`.
    pub fn extend_under(&mut self, prefix: &str, part: Self) {
        self.0.extend(part.0.into_iter().map(|v| Violation { field: format!("{prefix}{}", v.field), ..v }));
    }

    /// Tells whether there are no violations.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The list, in the order in which they were found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}
