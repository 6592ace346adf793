//! The status of an upstream as it changes: its state, since when, why, and what became of it before. Pure.

use trunkline::registry::v1::{StatusEvent, Upstream, UpstreamState, UpstreamStatus};

use crate::clock;

/// The events that are kept.
const MAX_EVENTS: usize = 20;
/// The characters of a reason that an event keeps.
const MAX_TEXT: usize = 300;

/// The status after `old` of an upstream that is in this state, for this reason.
pub fn changed(old: &UpstreamStatus, state: UpstreamState, reason: String, now_us: i64) -> UpstreamStatus {
    let since = old.state_time.filter(|_| old.state() == state);
    let mut events = old.events.clone();
    note(&mut events, state, &reason, now_us);
    UpstreamStatus {
        state: state.into(),
        state_time: since.or_else(|| Some(clock::timestamp(now_us))),
        reason,
        events,
        ..old.clone()
    }
}

fn note(events: &mut Vec<StatusEvent>, state: UpstreamState, reason: &str, now_us: i64) {
    let (text, time) = (beginning(reason), Some(clock::timestamp(now_us)));
    match events.last_mut().filter(|last| last.state() == state && last.text == text) {
        // It answers again and again, which is nothing new.
        Some(_) if state == UpstreamState::Ready => {}
        Some(last) => {
            last.count = last.count.saturating_add(1);
            last.time = time;
        }
        None => events.push(StatusEvent { time, state: state.into(), text, count: 1, first_time: time }),
    }
    let superfluous = events.len().saturating_sub(MAX_EVENTS);
    events.drain(..superfluous);
}

fn beginning(reason: &str) -> String {
    match reason.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// The status of an upstream after people have changed it from `before`: what was observed of it as it was says nothing of it as
/// it is. `None`: nothing of that kind was changed.
pub(super) fn after_write(before: &Upstream, after: &Upstream, now_us: i64) -> Option<UpstreamStatus> {
    let moved = before.reach != after.reach || before.credential != after.credential;
    let (state, reason) = match (before.disabled, after.disabled) {
        (false, true) => (UpstreamState::Disabled, "it was disabled"),
        (true, false) => (UpstreamState::Pending, "it was enabled, and is probed next"),
        (false, false) if moved => {
            (UpstreamState::Pending, "its address or its credential was changed, and it is probed next")
        }
        _ => return None,
    };
    Some(changed(&before.status.clone().unwrap_or_default(), state, reason.to_owned(), now_us))
}

/// Puts the state right that follows from other fields.
pub(super) fn evaluate(upstream: &mut Upstream) {
    let created = upstream.meta.as_ref().and_then(|meta| meta.create_time);
    let status = upstream.status.get_or_insert_default();
    match (upstream.disabled, status.state()) {
        (true, UpstreamState::Disabled) => {}
        (true, _) => {
            status.set_state(UpstreamState::Disabled);
            status.reason = "it is disabled".to_owned();
        }
        (false, UpstreamState::Unspecified) => {
            status.set_state(UpstreamState::Pending);
            status.state_time = status.state_time.or(created);
        }
        (false, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::HttpReach;
    use trunkline::registry::v1::upstream::Reach;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn texts(status: &UpstreamStatus) -> Vec<(UpstreamState, &str, i32)> {
        status.events.iter().map(|event| (event.state(), event.text.as_str(), event.count)).collect()
    }

    #[test]
    fn what_is_met_again_is_counted_and_what_answers_again_is_nothing_new() {
        let (ready, away) = (UpstreamState::Ready, UpstreamState::Unreachable);
        let mut status = UpstreamStatus::default();
        for (second, (state, reason)) in
            [(ready, ""), (ready, ""), (away, "refused"), (away, "refused"), (away, "timeout"), (ready, "")]
                .into_iter()
                .enumerate()
        {
            let now_us = i64::try_from(second).unwrap() * SECOND;
            status = changed(&status, state, reason.to_owned(), now_us);
        }
        let expected = [(ready, "", 1), (away, "refused", 2), (away, "timeout", 1), (ready, "", 1)];
        assert_eq!(texts(&status), expected);
        let refused = &status.events[1];
        let at = |second| Some(clock::timestamp(second * SECOND));
        assert_eq!((refused.first_time, refused.time, status.state_time), (at(2), at(3), at(5)));
    }

    #[test]
    fn events_are_bounded() {
        let mut status = UpstreamStatus::default();
        for nth in 0..50 {
            let reason = format!("{nth}{}", "é".repeat(1_000));
            status = changed(&status, UpstreamState::Unreachable, reason, nth);
        }
        assert_eq!(status.events.len(), MAX_EVENTS);
        assert!(status.events[0].text.starts_with("30é"));
        assert!(status.events.iter().all(|event| event.text.chars().count() == MAX_TEXT + 1));
    }

    #[test]
    fn what_was_observed_before_a_change_says_nothing_of_what_is_there_now() {
        let reach = |url: &str| Some(Reach::Http(HttpReach { url: url.to_owned() }));
        let ready = changed(&UpstreamStatus::default(), UpstreamState::Ready, String::new(), 1);
        let before = Upstream { reach: reach("http://a"), status: Some(ready), ..Upstream::default() };
        let titled = Upstream { title: "t".to_owned(), ..before.clone() };
        assert_eq!(after_write(&before, &titled, 2), None);
        let moved = Upstream { reach: reach("http://b"), ..before.clone() };
        assert_eq!(after_write(&before, &moved, 2).unwrap().state(), UpstreamState::Pending);
        let disabled = Upstream { disabled: true, ..moved.clone() };
        let status = after_write(&before, &disabled, 2).unwrap();
        assert_eq!(texts(&status)[1], (UpstreamState::Disabled, "it was disabled", 1));
        let disabled = Upstream { status: Some(status), ..disabled };
        assert_eq!(after_write(&disabled, &moved, 3).unwrap().state(), UpstreamState::Pending);
    }

    #[test]
    fn rows_of_earlier_versions_have_states_too() {
        let evaluated = |mut upstream: Upstream| {
            evaluate(&mut upstream);
            let status = upstream.status.unwrap();
            (status.state(), status.reason)
        };
        assert_eq!(evaluated(Upstream::default()), (UpstreamState::Pending, String::new()));
        let ready = UpstreamStatus { state: UpstreamState::Ready.into(), ..UpstreamStatus::default() };
        let disabled = Upstream { disabled: true, status: Some(ready), ..Upstream::default() };
        assert_eq!(evaluated(disabled), (UpstreamState::Disabled, "it is disabled".to_owned()));
    }
}
