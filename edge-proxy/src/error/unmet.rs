//! Conditions of a token that do not hold, as its client is told of them. It must not know how they are evaluated.

/// A condition that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The time of the token has not begun.
    #[error("this token is not valid yet")]
    NotYetValid,
    /// The token may not be used from where the request came.
    #[error("this token may not be used from this address")]
    Address,
    /// The token may not be used at this time.
    #[error("this token may not be used at this time")]
    Window {
        /// The seconds until it may; `None` where it never may.
        opens_in: Option<u64>,
    },
}

impl Unmet {
    /// The `data.reason` of the error.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotYetValid => "not_yet_valid",
            Self::Address => "address_not_allowed",
            Self::Window { .. } => "outside_time_window",
        }
    }

    /// The seconds after which it holds.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::Window { opens_in } => opens_in,
            Self::NotYetValid | Self::Address => None,
        }
    }
}
