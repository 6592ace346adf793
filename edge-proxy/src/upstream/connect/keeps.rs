//! Whether an upstream keeps its connections open after a response, told from what became of those before.
//!
//! Pure. Some servers close a connection after each response without saying so, at once or a moment later: a request on it
//! is lost, and may not be sent again unless that does no harm. It must not know connections.

use std::time::{Duration, Instant};

use super::Retry;

/// A connection that is open for so long after a response is kept; one that is closed before was closed because of it.
const SETTLING: Duration = Duration::from_millis(200);
/// The time for which connections are not used again.
const DISTRUST: Duration = Duration::from_secs(600);

/// What is known of the connections of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Nothing yet, or one was closed without a word. Requests that may be sent again tell more.
    Unproven {
        /// The time when one was closed without a word.
        struck: Option<Instant>,
    },
    /// One was used again some time after a response.
    Proven,
    /// It closes them without a word.
    Never {
        /// The time until which that is believed.
        until: Instant,
    },
}

/// How a connection was closed that said nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// With a request on it.
    InUse,
    /// Unused, so long after its last response.
    Idle(Duration),
}

/// How a connection was unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idle {
    /// For how long.
    pub lasted: Duration,
    /// After which kind of request.
    pub after: Retry,
}

impl Default for Keeps {
    fn default() -> Self {
        Self::Unproven { struck: None }
    }
}

impl Keeps {
    /// Whether a request may use a connection that was idle for so long.
    pub(super) fn may_reuse(self, idle: Duration, retry: Retry) -> bool {
        match self {
            Self::Proven => true,
            Self::Unproven { .. } => retry == Retry::Safe || idle >= SETTLING,
            Self::Never { .. } => false,
        }
    }

    /// After a response on a connection that was unused before as `idle` says. Only one that was kept after a request that may
    /// not be sent again tells of those: some servers close connections after calls, and not after pings.
    pub(super) fn answered(self, idle: Idle) -> Self {
        match self {
            Self::Unproven { .. } if idle.lasted >= SETTLING && idle.after == Retry::IfUnsent => Self::Proven,
            other => other,
        }
    }

    /// After a connection, open since `opened`, was closed without a word. One that was opened before another was closed tells
    /// nothing more: a server that restarts closes all that it has.
    pub(super) fn closed(self, closed: Closed, opened: Instant, now: Instant) -> Self {
        let counts = match (self, closed) {
            (Self::Never { .. }, _) => false,
            (_, Closed::InUse) => true,
            // Servers close idle connections sooner or later.
            (Self::Proven, Closed::Idle(_)) => false,
            (Self::Unproven { .. }, Closed::Idle(idle)) => idle < SETTLING,
        };
        match self {
            _ if !counts => self,
            Self::Unproven { struck: Some(struck) } if opened > struck => {
                Self::Never { until: now + DISTRUST }
            }
            Self::Unproven { struck: Some(_) } => self,
            _ => Self::Unproven { struck: Some(now) },
        }
    }

    /// What is still believed at this time.
    pub(super) fn at(self, now: Instant) -> Self {
        match self {
            Self::Never { until } if until <= now => Self::Unproven { struck: Some(until) },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const UNPROVEN: Keeps = Keeps::Unproven { struck: None };

    #[test]
    fn a_request_that_may_not_run_twice_uses_what_is_proven() {
        let now = Instant::now();
        let struck = Keeps::Unproven { struck: Some(now) };
        let never = Keeps::Never { until: now + MS(1) };
        for (keeps, idle, retry, expected) in [
            (UNPROVEN, MS(0), Retry::Safe, true),
            (UNPROVEN, MS(0), Retry::IfUnsent, false),
            (UNPROVEN, MS(199), Retry::IfUnsent, false),
            (UNPROVEN, MS(200), Retry::IfUnsent, true),
            (struck, MS(0), Retry::IfUnsent, false),
            (Keeps::Proven, MS(0), Retry::IfUnsent, true),
            (never, MS(900), Retry::IfUnsent, false),
            (never, MS(900), Retry::Safe, false),
        ] {
            assert_eq!(keeps.may_reuse(idle, retry), expected, "{keeps:?} {idle:?} {retry:?}");
        }
    }

    #[test]
    fn two_connections_in_a_row_that_close_early_are_enough() {
        let start = Instant::now();
        let at = |ms| start + MS(ms);
        let once = UNPROVEN.closed(Closed::Idle(MS(30)), at(0), at(30));
        assert_eq!(once, Keeps::Unproven { struck: Some(at(30)) });
        // The rest of those that a restart closed.
        assert_eq!(once.closed(Closed::InUse, at(1), at(31)), once);
        let never = once.closed(Closed::InUse, at(40), at(50));
        assert_eq!(never, Keeps::Never { until: at(50) + DISTRUST });
        assert_eq!(never.at(at(60)), never);
        let again = never.at(at(50) + DISTRUST);
        assert!(matches!(again, Keeps::Unproven { struck: Some(_) }), "{again:?}");
    }

    #[test]
    fn only_what_is_kept_after_calls_tells_of_calls() {
        let struck = Keeps::Unproven { struck: Some(Instant::now()) };
        for (lasted, after, expected) in [
            (MS(200), Retry::IfUnsent, Keeps::Proven),
            (MS(199), Retry::IfUnsent, struck),
            (MS(9_000), Retry::Safe, struck),
        ] {
            assert_eq!(struck.answered(Idle { lasted, after }), expected, "{lasted:?} {after:?}");
        }
    }

    #[test]
    fn connections_that_are_closed_after_a_while_tell_nothing() {
        let now = Instant::now();
        assert_eq!(UNPROVEN.closed(Closed::Idle(MS(200)), now, now), UNPROVEN);
        assert_eq!(Keeps::Proven.closed(Closed::Idle(MS(1)), now, now), Keeps::Proven);
        let struck = Keeps::Proven.closed(Closed::InUse, now, now);
        assert_eq!(struck, Keeps::Unproven { struck: Some(now) });
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Answered(Idle),
        Closed(Closed, u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..300u64, prop_oneof![Just(Retry::Safe), Just(Retry::IfUnsent)])
                .prop_map(|(ms, after)| Step::Answered(Idle { lasted: MS(ms), after })),
            (0..300u64).prop_map(|age| Step::Closed(Closed::InUse, age)),
            (0..300u64, 0..300u64).prop_map(|(idle, age)| Step::Closed(Closed::Idle(MS(idle)), age)),
            (0..900_000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happened: what may not run twice is never sent on a connection that has just answered, unless one was seen
        /// to live on, and not to be closed in use since.
        #[test]
        fn nothing_is_risked_before_it_is_proven(steps in prop::collection::vec(step(), 0..40)) {
            let mut now = Instant::now() + MS(1_000);
            let (mut keeps, mut lived) = (Keeps::default(), false);
            for step in steps {
                keeps = match step {
                    Step::Answered(idle) => {
                        let before = keeps.at(now);
                        let tells = idle.lasted >= MS(200) && idle.after == Retry::IfUnsent;
                        lived |= tells && before.may_reuse(idle.lasted, Retry::Safe);
                        before.answered(idle)
                    }
                    Step::Closed(how, age) => {
                        lived &= how != Closed::InUse;
                        keeps.at(now).closed(how, now - MS(age), now)
                    }
                    Step::Wait(ms) => {
                        now += MS(ms);
                        keeps.at(now)
                    }
                };
                prop_assert!(!keeps.may_reuse(MS(0), Retry::IfUnsent) || lived, "{keeps:?}");
            }
        }
    }
}
