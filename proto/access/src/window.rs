//! Weekly times in which something is valid, each with days, times and a time zone. It must not know what time it is.
//!
//! A window is asked about the local time: what the clocks skip in spring is never reached, and what they show twice in autumn is inside
//! both times. The time zones are those that were compiled in, so that every machine has the same.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::text::{nearest, quoted};

/// A weekly time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    days: Days,
    /// Seconds after the beginning of the local day, up to a whole day.
    from: i64,
    /// Not after `from`: of the day after.
    until: i64,
    zone: TimeZone,
}

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It has not the three parts.
    #[error("{0} is no window; write days, times and a time zone, such as Mon-Fri 08:00-18:00 Europe/Berlin")]
    Parts(String),
    /// The first part.
    #[error("{0} are no days; write daily, or days such as Mon-Fri or Sat,Sun")]
    Days(String),
    /// The second part.
    #[error("{0} are no times; write two, such as 08:00-18:00, at most 00:00-24:00")]
    Times(String),
    /// It ends when it begins.
    #[error("{0} ends when it begins; write 00:00-24:00 for whole days")]
    Empty(String),
    /// The third part.
    #[error("{text} is no time zone{}", hint(.nearest))]
    Zone {
        /// As written.
        text: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => "; write the name of one, such as Europe/Berlin, or UTC".to_owned(),
    }
}

/// Days of the week: a bit for each, Monday's the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Days(u8);

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: i64 = 86_400;
/// How far is looked for a change: a whole year of clock changes, and more.
const HORIZON: i64 = 400 * DAY;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl Days {
    const ALL: Self = Self(0x7f);

    /// Whether it has a day, counted from any Monday.
    fn has(self, day: i64) -> bool {
        self.0 & (1 << day.rem_euclid(7)) != 0
    }

    fn read(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("daily") {
            return Some(Self::ALL);
        }
        text.split(',').try_fold(Self(0), |days, part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            let span = (last - first).rem_euclid(7);
            Some((0..=span).fold(days, |days, ahead| Self(days.0 | 1 << (first + ahead).rem_euclid(7))))
        })
    }
}

fn day(name: &str) -> Option<i64> {
    let at = NAMES.iter().position(|day| day.eq_ignore_ascii_case(name))?;
    i64::try_from(at).ok()
}

impl fmt::Display for Days {
    /// Days in a row as a range, from the first one on whose eve is not among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("daily");
        }
        let firsts = (0..7).filter(|day| self.has(*day) && !self.has(day - 1));
        for (at, first) in firsts.enumerate() {
            let last = (first..first + 7).take_while(|day| self.has(*day)).last().unwrap_or(first);
            f.write_str(if at == 0 { "" } else { "," })?;
            f.write_str(NAMES[first.rem_euclid(7) as usize])?;
            if last != first {
                write!(f, "-{}", NAMES[last.rem_euclid(7) as usize])?;
            }
        }
        Ok(())
    }
}

impl Window {
    /// Whether it is open at this second, counted from 1970.
    #[must_use]
    pub fn is_open(&self, now_s: i64) -> bool {
        self.local(now_s).is_some_and(|(day, second)| self.has(day, second))
    }

    /// The first second after this one at which it is otherwise. `None`: there is none.
    #[must_use]
    pub fn next_change(&self, now_s: i64) -> Option<i64> {
        if self.days == Days::ALL && self.until - self.from == DAY {
            return None;
        }
        let (open, end) = (self.is_open(now_s), now_s.checked_add(HORIZON)?);
        let mut at = now_s;
        loop {
            at = self.next_edge(at)?;
            if at >= end || self.is_open(at) != open {
                return Some(at);
            }
        }
    }

    /// What the clocks of its zone show at a second: `Sat 10:00`.
    #[must_use]
    pub fn shown(&self, now_s: i64) -> String {
        match self.local(now_s) {
            Some((day, second)) => format!("{} {}", NAMES[day.rem_euclid(7) as usize], clock(second)),
            None => "no time that a clock shows".to_owned(),
        }
    }

    /// The window with as little more as makes it open at a second: the day, or hours on its days. Where it is open, itself.
    #[must_use]
    pub fn widened(&self, now_s: i64) -> Option<Self> {
        const HOUR: i64 = 3_600;
        let (day, second) = self.local(now_s)?;
        let (hour, next) = (second - second % HOUR, second - second % HOUR + HOUR);
        let with_day = Self { days: Days(self.days.0 | 1 << day.rem_euclid(7)), ..self.clone() };
        let later = |of: &Self| Self { until: next, ..of.clone() };
        let earlier = |of: &Self| Self { from: hour, ..of.clone() };
        let tried = [
            self.clone(),
            with_day.clone(),
            later(self),
            earlier(self),
            later(&with_day),
            earlier(&with_day),
        ];
        let keeps = |window: &Self| window.from <= self.from && window.end() >= self.end();
        let open = tried.into_iter().filter(|window| window.from != window.until && keeps(window));
        let length = |window: &Self| (window.end() - window.from) * i64::from(window.days.0.count_ones());
        open.filter(|window| window.is_open(now_s)).min_by_key(length)
    }

    /// When it ends, counted from the day on which it begins.
    fn end(&self) -> i64 {
        if self.from < self.until { self.until } else { self.until + DAY }
    }

    /// The local day, counted from a Monday, and the second in it.
    fn local(&self, now_s: i64) -> Option<(i64, i64)> {
        let offset = self.zone.to_offset(Timestamp::from_second(now_s).ok()?);
        let local = now_s + i64::from(offset.seconds());
        // 1970 began on a Thursday.
        Some((local.div_euclid(DAY) + 3, local.rem_euclid(DAY)))
    }

    fn has(&self, day: i64, second: i64) -> bool {
        if self.from < self.until {
            return self.days.has(day) && (self.from..self.until).contains(&second);
        }
        (self.days.has(day) && second >= self.from) || (self.days.has(day - 1) && second < self.until)
    }

    /// The next second at which it may be otherwise: one of its times, midnight, or a change of the clocks.
    fn next_edge(&self, now_s: i64) -> Option<i64> {
        let now = Timestamp::from_second(now_s).ok()?;
        let (_, second) = self.local(now_s)?;
        let times = [self.from, self.until, DAY].into_iter().filter(|time| *time > second);
        let by_clock = now_s + times.min().unwrap_or(DAY) - second;
        let changes = self.zone.following(now).map(|change| change.timestamp().as_second());
        Some(changes.take(1).filter(|change| *change > now_s).fold(by_clock, i64::min))
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = parts[..] else { return Err(WindowError::Parts(quoted(text))) };
        let days = Days::read(days).ok_or_else(|| WindowError::Days(quoted(days)))?;
        let (from, until) = read_times(times).ok_or_else(|| WindowError::Times(quoted(times)))?;
        if from == until {
            return Err(WindowError::Empty(quoted(times)));
        }
        Ok(Self { days, from, until, zone: read_zone(zone)? })
    }
}

fn read_times(text: &str) -> Option<(i64, i64)> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (read_time(from)?, read_time(until)?);
    (from < DAY).then_some((from, until))
}

fn read_time(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    if !matches!(hours.len(), 1 | 2) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 3_600 + minutes * 60;
    (minutes < 60 && time <= DAY).then_some(time)
}

/// The time zone of this name.
pub(crate) fn read_zone(text: &str) -> Result<TimeZone, WindowError> {
    let found = ZONES.get(text).ok().filter(|zone| !zone.is_unknown());
    found.ok_or_else(|| WindowError::Zone { text: quoted(text), nearest: nearest_zone(text) })
}

/// The zone of that city, or the one that is written almost so.
fn nearest_zone(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let known: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
    let city = text.replace(' ', "_");
    let of_city = known
        .iter()
        .find(|name| name.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&city)));
    of_city.cloned().or_else(|| nearest(text, known.iter().map(String::as_str)).map(str::to_owned))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        write!(f, "{} {}-{} {zone}", self.days, clock(self.from), clock(self.until))
    }
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}", seconds / 3_600, seconds % 3_600 / 60)
}

/// Windows, of which one must be open. None of them is never open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// All of these.
    #[must_use]
    pub fn new(windows: Vec<Window>) -> Self {
        Self(windows)
    }

    /// Whether one is open at this second, counted from 1970.
    #[must_use]
    pub fn is_open(&self, now_s: i64) -> bool {
        self.0.iter().any(|window| window.is_open(now_s))
    }

    /// A later second up to which nothing changes: the first one at which it is otherwise. It looks 400 days ahead: where nothing changes
    /// until then it says when to ask again. `None`: it stays so for ever.
    #[must_use]
    pub fn next_change(&self, now_s: i64) -> Option<i64> {
        let end = now_s.checked_add(HORIZON)?;
        if !self.is_open(now_s) {
            return self.0.iter().filter_map(|window| window.next_change(now_s)).min();
        }
        let mut at = now_s;
        while at < end {
            let mut last = at;
            for window in self.0.iter().filter(|window| window.is_open(at)) {
                last = last.max(window.next_change(at)?);
            }
            if last == at {
                return Some(at);
            }
            at = last;
        }
        Some(at)
    }
}
