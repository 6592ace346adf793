//! Windows: how they are written, and when they are open, where clocks change as well.

use access::window::{Window, Windows};
use jiff::Timestamp;
use proptest::prelude::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

#[test]
fn windows_are_read_and_shown() {
    for (text, shown) in [
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "Mon-Fri 08:00-18:00 Europe/Berlin"),
        ("mon,WED 8:00-9:30 europe/berlin", "Mon,Wed 08:00-09:30 Europe/Berlin"),
        ("Sun-Tue 00:00-24:00 UTC", "Sun-Tue 00:00-24:00 UTC"),
        ("Sun,Mon,Tue 00:00-24:00 UTC", "Sun-Tue 00:00-24:00 UTC"),
        ("Sat,Sun,Wed,Sat 22:00-06:00 America/Santiago", "Wed,Sat-Sun 22:00-06:00 America/Santiago"),
        ("daily 23:59-00:00 Australia/Lord_Howe", "daily 23:59-00:00 Australia/Lord_Howe"),
        ("Mon-Sun 01:00-02:00 UTC", "daily 01:00-02:00 UTC"),
        ("Wed-Tue 01:00-02:00 UTC", "daily 01:00-02:00 UTC"),
        ("  Fri  08:00-18:00\tEtc/GMT+5 ", "Fri 08:00-18:00 Etc/GMT+5"),
    ] {
        assert_eq!(window(text).to_string(), shown, "{text}");
    }
}

#[test]
fn what_is_no_window_is_refused_with_what_to_write() {
    let parts = |text: &str| {
        format!(
            "{text:?} is no window; write days, times and a time zone, such as Mon-Fri 08:00-18:00 Europe/Berlin"
        )
    };
    let days = |text: &str| format!("{text:?} are no days; write daily, or days such as Mon-Fri or Sat,Sun");
    let times =
        |text: &str| format!("{text:?} are no times; write two, such as 08:00-18:00, at most 00:00-24:00");
    let zone = |text: &str, hint: &str| format!("{text:?} is no time zone; {hint}");
    let name = "write the name of one, such as Europe/Berlin, or UTC";
    for (text, expected) in [
        ("", parts("")),
        ("Mon-Fri 08:00-18:00", parts("Mon-Fri 08:00-18:00")),
        ("Mon - Fri 08:00-18:00 UTC", parts("Mon - Fri 08:00-18:00 UTC")),
        ("Monday 08:00-18:00 UTC", days("Monday")),
        ("Mon-Tue-Wed 08:00-18:00 UTC", days("Mon-Tue-Wed")),
        ("Mon, 08:00-18:00 UTC", days("Mon,")),
        ("Mon-daily 08:00-18:00 UTC", days("Mon-daily")),
        ("Mon 8-18 UTC", times("8-18")),
        ("Mon 08:00 UTC", times("08:00")),
        ("Mon 08:60-09:00 UTC", times("08:60-09:00")),
        ("Mon 24:00-09:00 UTC", times("24:00-09:00")),
        ("Mon 08:00-24:01 UTC", times("08:00-24:01")),
        ("Mon 08:00-25:00 UTC", times("08:00-25:00")),
        ("Mon +8:00-09:00 UTC", times("+8:00-09:00")),
        ("Mon 08:0-09:00 UTC", times("08:0-09:00")),
        (
            "Mon 00:00-00:00 UTC",
            "\"00:00-00:00\" ends when it begins; write 00:00-24:00 for whole days".to_owned(),
        ),
        ("Mon 08:00-18:00 Europe/Atlantis", zone("Europe/Atlantis", name)),
        ("Mon 08:00-18:00 Europe/Berln", zone("Europe/Berln", "did you mean Europe/Berlin?")),
        ("Mon 08:00-18:00 berlin", zone("berlin", "did you mean Europe/Berlin?")),
        ("Mon 08:00-18:00 +02:00", zone("+02:00", name)),
        ("Mon 08:00-18:00 Etc/Unknown", zone("Etc/Unknown", name)),
    ] {
        assert_eq!(text.parse::<Window>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_window_is_open_by_the_clocks_of_its_zone() {
    let office = window("Mon-Fri 08:00-18:00 Europe/Berlin");
    for (time, expected) in [
        ("2026-11-30T06:59:59Z", false),
        ("2026-11-30T07:00:00Z", true),
        ("2026-11-30T16:59:59Z", true),
        ("2026-11-30T17:00:00Z", false),
        ("2026-07-01T06:00:00Z", true),
        ("2026-07-01T16:00:00Z", false),
        ("2026-12-05T09:00:00Z", false),
    ] {
        assert_eq!(office.is_open(at(time)), expected, "{time}");
    }
    assert_eq!(office.next_change(at("2026-12-04T16:00:00Z")), Some(at("2026-12-04T17:00:00Z")));
    assert_eq!(office.next_change(at("2026-12-04T17:00:00Z")), Some(at("2026-12-07T07:00:00Z")));
}

#[test]
fn past_midnight_it_belongs_to_the_day_it_begins() {
    let night = window("Fri 22:00-06:00 UTC");
    for (time, expected) in [
        ("2026-12-04T05:00:00Z", false),
        ("2026-12-04T21:59:59Z", false),
        ("2026-12-04T22:00:00Z", true),
        ("2026-12-05T05:59:59Z", true),
        ("2026-12-05T06:00:00Z", false),
        ("2026-12-05T22:00:00Z", false),
    ] {
        assert_eq!(night.is_open(at(time)), expected, "{time}");
    }
    assert_eq!(night.next_change(at("2026-12-04T22:00:00Z")), Some(at("2026-12-05T06:00:00Z")));
    let minute = window("Sun 23:59-00:00 UTC");
    assert!(minute.is_open(at("2026-12-06T23:59:59Z")) && !minute.is_open(at("2026-12-07T00:00:00Z")));
}

#[test]
fn what_the_clocks_skip_is_outside() {
    // On 29 March 2026 the clocks of Berlin go from 02:00 to 03:00.
    let skipped = window("Sun 02:00-03:00 Europe/Berlin");
    assert!(skipped.is_open(at("2026-03-22T01:30:00Z")));
    assert!(!skipped.is_open(at("2026-03-29T00:59:59Z")) && !skipped.is_open(at("2026-03-29T01:00:00Z")));
    assert_eq!(
        skipped.next_change(at("2026-03-22T02:00:00Z")),
        Some(at("2026-04-05T00:00:00Z")),
        "a week is left out"
    );
    let into = window("daily 01:00-02:30 Europe/Berlin");
    assert_eq!(
        into.next_change(at("2026-03-29T00:00:00Z")),
        Some(at("2026-03-29T01:00:00Z")),
        "it ends with what is skipped"
    );
    // On 4 October 2026 those of Lord Howe go from 02:00 to 02:30.
    let half = window("Sun 02:00-02:30 Australia/Lord_Howe");
    assert!(!half.is_open(at("2026-10-03T15:29:59Z")) && !half.is_open(at("2026-10-03T15:30:00Z")));
    // On 6 September 2026 those of Santiago go from midnight to 01:00.
    let midnight = window("Sat 22:00-00:30 America/Santiago");
    assert_eq!(midnight.next_change(at("2026-09-06T03:00:00Z")), Some(at("2026-09-06T04:00:00Z")));
}

#[test]
fn what_the_clocks_show_twice_is_inside_both_times() {
    // On 25 October 2026 the clocks of Berlin go from 03:00 back to 02:00.
    let twice = window("Sun 02:00-02:30 Europe/Berlin");
    for (time, expected) in [
        ("2026-10-25T00:00:00Z", true),
        ("2026-10-25T00:30:00Z", false),
        ("2026-10-25T01:00:00Z", true),
        ("2026-10-25T01:30:00Z", false),
    ] {
        assert_eq!(twice.is_open(at(time)), expected, "{time}");
    }
    assert_eq!(
        twice.next_change(at("2026-10-25T00:30:00Z")),
        Some(at("2026-10-25T01:00:00Z")),
        "they go back"
    );
    // On 5 April 2026 those of Lord Howe go from 02:00 back to 01:30.
    let half = window("Sun 01:30-02:00 Australia/Lord_Howe");
    assert_eq!(
        half.next_change(at("2026-04-04T14:30:00Z")),
        Some(at("2026-04-04T15:30:00Z")),
        "an hour in all"
    );
    // On 4 April 2026 those of Santiago go from midnight back to 23:00.
    let eve = window("Sat 23:00-24:00 America/Santiago");
    assert_eq!(
        eve.next_change(at("2026-04-05T02:00:00Z")),
        Some(at("2026-04-05T04:00:00Z")),
        "two hours in all"
    );
}

#[test]
fn windows_are_open_where_one_is() {
    let now = at("2026-12-04T09:00:00Z");
    let days = Windows::new(
        ["Fri 08:00-12:00 UTC", "Fri 11:00-18:00 UTC", "Sat 00:00-24:00 UTC"].map(window).to_vec(),
    );
    assert!(days.is_open(now) && !days.is_open(now - 2 * 3_600));
    assert_eq!(days.next_change(now), Some(at("2026-12-04T18:00:00Z")));
    assert_eq!(days.next_change(at("2026-12-04T18:00:00Z")), Some(at("2026-12-05T00:00:00Z")));
    assert_eq!(Windows::default().next_change(now), None);
    assert!(!Windows::default().is_open(now));
    let always = Windows::new(vec![window("daily 00:00-24:00 Europe/Berlin"), window("Mon 08:00-09:00 UTC")]);
    assert_eq!((always.is_open(now), always.next_change(now)), (true, None));
}

#[test]
fn two_zones_may_leave_a_gap_for_some_weeks_of_a_year() {
    // Six hours lie between them, but for the weeks in which only one of them has changed its clocks.
    let both = ["daily 08:00-20:00 Europe/Berlin", "daily 14:00-02:00 America/New_York"].map(window).to_vec();
    let both = Windows::new(both);
    let (now, gap) = (at("2026-11-30T12:00:00Z"), both.next_change(at("2026-11-30T12:00:00Z")).unwrap());
    assert!(both.is_open(now) && !both.is_open(gap));
    assert_eq!(gap, at("2027-03-15T06:00:00Z"));
}

#[test]
fn a_window_is_widened_no_more_than_it_must_be() {
    for (text, now, widened) in [
        ("Mon-Fri 08:00-18:00 UTC", "2026-12-04T09:00:00Z", "Mon-Fri 08:00-18:00 UTC"),
        ("Mon-Fri 08:00-18:00 UTC", "2026-12-05T09:00:00Z", "Mon-Sat 08:00-18:00 UTC"),
        ("Mon-Fri 08:00-18:00 UTC", "2026-12-04T18:30:00Z", "Mon-Fri 08:00-19:00 UTC"),
        ("Mon-Fri 08:30-18:00 UTC", "2026-12-04T07:30:00Z", "Mon-Fri 07:00-18:00 UTC"),
        ("Mon-Fri 08:00-18:00 UTC", "2026-12-04T23:30:00Z", "Mon-Fri 08:00-24:00 UTC"),
        ("Mon-Fri 08:00-18:00 UTC", "2026-12-05T07:30:00Z", "Mon-Sat 07:00-18:00 UTC"),
        ("Tue 00:00-04:43 UTC", "2026-12-05T21:10:00Z", "Tue,Sat 00:00-22:00 UTC"),
        ("Fri 22:00-06:00 UTC", "2026-12-05T06:10:00Z", "Fri 22:00-07:00 UTC"),
        ("Fri 22:00-06:00 UTC", "2026-12-05T23:10:00Z", "Fri-Sat 22:00-06:00 UTC"),
    ] {
        assert_eq!(window(text).widened(at(now)).unwrap().to_string(), widened, "{text} {now}");
    }
}

const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
    "UTC",
    "Asia/Kathmandu",
    "Africa/Casablanca",
];

prop_compose! {
    fn written()(days in "(Mon|Tue|Sat|Sun)(-(Mon|Fri|Sun))?(,(Wed|Thu))?|daily", from in 0..1_440u32, until in 1..=1_440u32,
                 zone in prop::sample::select(&ZONES[..])) -> String {
        let until = if from == until { until + 1 } else { until };
        format!("{days} {:02}:{:02}-{:02}:{:02} {zone}", from / 60, from % 60, until / 60, until % 60)
    }
}

/// A time of four years, often within days of a change of the clocks of Berlin, Lord Howe or Santiago.
fn some_time() -> impl Strategy<Value = i64> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-04-05T03:00:00Z",
        "2026-09-06T04:00:00Z",
    ];
    let near = (prop::sample::select(changes.map(at).to_vec()), -200_000..200_000i64)
        .prop_map(|(change, off)| change + off);
    prop_oneof![at("2025-01-01T00:00:00Z")..at("2029-01-01T00:00:00Z"), near]
}

/// The definition, by the calendar and the clock that people look at.
fn plainly(text: &str, now: i64) -> bool {
    let parts: Vec<&str> = text.split(' ').collect();
    let shown = jiff::tz::TimeZoneDatabase::bundled()
        .get(parts[2])
        .unwrap()
        .to_datetime(Timestamp::from_second(now).unwrap());
    let minute = i32::from(shown.hour()) * 60 + i32::from(shown.minute());
    let (from, until) = parts[1].split_once('-').unwrap();
    let read = |time: &str| time[..2].parse::<i32>().unwrap() * 60 + time[3..].parse::<i32>().unwrap();
    let (from, until) = (read(from), read(until));
    let is_in = |weekday: jiff::civil::Weekday| {
        let day = i32::from(weekday.to_monday_zero_offset());
        let number = |name: &str| {
            ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().position(|day| *day == name).unwrap()
                as i32
        };
        parts[0] == "daily"
            || parts[0].split(',').any(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                (day - number(first)).rem_euclid(7) <= (number(last) - number(first)).rem_euclid(7)
            })
    };
    match from < until {
        true => is_in(shown.weekday()) && from <= minute && minute < until,
        false => {
            (is_in(shown.weekday()) && from <= minute)
                || (is_in(shown.weekday().previous()) && minute < until)
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_fail(text in "\\PC{0,80}|[MTWFSmdonaily,-]{0,20} [0-9:-]{0,14} [A-Za-z/_+]{0,20}") {
        if let Ok(window) = text.parse::<Window>() {
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }
    }

    #[test]
    fn what_is_written_reads_back(text in written()) {
        let window = window(&text);
        prop_assert_eq!(window.to_string().parse(), Ok(window));
    }

    #[test]
    fn a_window_is_what_people_see_on_their_clocks(text in written(), now in some_time()) {
        prop_assert_eq!(window(&text).is_open(now), plainly(&text, now));
    }

    #[test]
    fn a_window_that_is_widened_is_open_and_takes_nothing_away(text in written(), now in some_time(), later in 0..700_000i64) {
        if let Some(wide) = window(&text).widened(now) {
            prop_assert!(wide.is_open(now));
            prop_assert!(wide.is_open(now + later) || !window(&text).is_open(now + later));
        }
    }

    #[test]
    fn no_time_makes_it_fail(text in written(), now in any::<i64>()) {
        let windows = Windows::new(vec![window(&text)]);
        let _ = (windows.is_open(now), windows.next_change(now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_changes_before_the_next_change(texts in prop::collection::vec(written(), 1..4), now in some_time()) {
        let windows = Windows::new(texts.iter().map(|text| window(text)).collect());
        let open = windows.is_open(now);
        let Some(change) = windows.next_change(now) else { return Ok(()) };
        prop_assert!(change > now);
        if change < now + 399 * 86_400 {
            prop_assert_ne!(windows.is_open(change), open);
        }
        prop_assert_eq!(windows.is_open(change - 1), open);
        // Minutes are whole in every zone.
        let minutes = (now.div_euclid(60) + 1) * 60..change.min(now + 20 * 86_400);
        for minute in minutes.step_by(60) {
            prop_assert_eq!(windows.is_open(minute), open, "{}", minute);
        }
    }
}
