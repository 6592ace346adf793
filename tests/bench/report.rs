//! The table, and how it compares with the bars we set ourselves. It must not know how anything was measured.

use std::fmt;
use std::time::Duration;

use crate::cell::{Cell, Era, Target, Under, Work};
use crate::load::Measured;
use crate::withdrawals::Withdrawals;

/// One row: the rounds of each target.
pub(crate) struct Row {
    cell: Cell,
    direct: Vec<Measured>,
    nginx: Vec<Measured>,
    file: Vec<Measured>,
    trunkline: Vec<Measured>,
}

impl Row {
    pub(crate) fn new(cell: Cell) -> Self {
        Self { cell, direct: Vec::new(), nginx: Vec::new(), file: Vec::new(), trunkline: Vec::new() }
    }

    pub(crate) fn add(&mut self, target: &Target, measured: Measured) {
        match target {
            Target::Direct { .. } => self.direct.push(measured),
            Target::Nginx { .. } => self.nginx.push(measured),
            Target::NginxFile { .. } => self.file.push(measured),
            Target::Trunkline { .. } => self.trunkline.push(measured),
        }
    }

    fn cpu(rounds: &[Measured]) -> f64 {
        median(rounds.iter().map(|m| m.cpu_us))
    }
}

/// What one costs of another, compared round by round: what else the machine does changes from one to the next.
fn ratio(rounds: &[Measured], with: &[Measured]) -> f64 {
    median(rounds.iter().zip(with).map(|(one, other)| one.cpu_us / other.cpu_us))
}

/// How much more one costs than another, in the same way.
fn difference(rounds: &[Measured], with: &[Measured]) -> f64 {
    median(rounds.iter().zip(with).map(|(one, other)| one.cpu_us - other.cpu_us))
}

/// The middle of some numbers; of an even count, the lower one of the two. NaN of none.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Everything of one run.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) start: Vec<Duration>,
    pub(crate) apply: Vec<Duration>,
    pub(crate) withdrawals: Vec<Withdrawals>,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU time of the process per call in µs (direct: of the upstream); medians of {} round(s) of {:?}, taking turns; {} cores",
            self.rounds,
            self.window,
            std::thread::available_parallelism().map_or(0, usize::from),
        )?;
        writeln!(
            f,
            "\n{:34} {:>7} {:>7} {:>9} {:>6} | {:>8} {:>8} | {:>9} {:>9} {:>9} | {:>9}",
            "",
            "direct",
            "nginx",
            "trunkline",
            "ratio",
            "nginx/s",
            "trunk/s",
            "nginx p50",
            "trunk p50",
            "trunk p99",
            "nginx file"
        )?;
        let is_plain = |row: &&Row| row.cell.compared_with().is_none();
        self.rows.iter().filter(is_plain).try_for_each(|row| write_row(f, row))?;
        writeln!(
            f,
            "\nThe same call on other roads through the edge; ratio to the edge's CPU on the same-era road above\n{:66} {:>9} {:>6} | {:>8} {:>9} {:>9} {:>9}",
            "", "trunkline", "ratio", "trunk/s", "trunk p50", "trunk p99", "longest"
        )?;
        self.rows.iter().filter(|row| !is_plain(row)).try_for_each(|row| self.write_road(f, row))?;
        if !self.withdrawals.is_empty() {
            writeln!(
                f,
                "\nWithdrawals, three edges under load: from before the request to the first refusal at each, and to the end of a stream"
            )?;
        }
        self.withdrawals.iter().try_for_each(|kind| writeln!(f, "{kind}"))?;
        writeln!(f)?;
        self.bars().into_iter().try_for_each(|bar| writeln!(f, "{bar}"))
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let (nginx, trunkline) = (Row::cpu(&row.nginx), Row::cpu(&row.trunkline));
    write!(
        f,
        "{:34} {:7.1} {nginx:7.1} {trunkline:9.1} {:6.2} | {:8.0} {:8.0} | {:9.0} {:9.0} {:9.0} | ",
        row.cell.label(),
        Row::cpu(&row.direct),
        ratio(&row.trunkline, &row.nginx),
        rate(&row.nginx),
        rate(&row.trunkline),
        p50(&row.nginx),
        p50(&row.trunkline),
        p99(&row.trunkline),
    )?;
    if row.file.is_empty() { writeln!(f, "{:>10}", "-") } else { writeln!(f, "{:10.1}", Row::cpu(&row.file)) }
}

fn rate(rounds: &[Measured]) -> f64 {
    median(rounds.iter().map(|m| m.per_second))
}

fn p50(rounds: &[Measured]) -> f64 {
    median(rounds.iter().map(|m| m.p50_us))
}

fn p99(rounds: &[Measured]) -> f64 {
    median(rounds.iter().map(|m| m.p99_us))
}

/// A bar, and where we stand.
struct Bar {
    what: String,
    is: f64,
    at_most: f64,
    unit: &'static str,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is <= self.at_most { "pass" } else { "FAIL" };
        let Self { what, is, at_most, unit } = self;
        write!(f, "{mark}  {what:91} {is:8.2}{unit} (at most {at_most}{unit})")
    }
}

impl Report {
    fn row(&self, wanted: Cell) -> Option<&Row> {
        self.rows.iter().find(|row| row.cell == wanted)
    }

    /// What a call costs on its road, of what it costs on the same-era one.
    fn detour(&self, row: &Row) -> f64 {
        let plain = row.cell.compared_with().and_then(|plain| self.row(plain));
        plain.map_or(f64::NAN, |plain| ratio(&row.trunkline, &plain.trunkline))
    }

    fn write_road(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        let rounds = &row.trunkline;
        writeln!(
            f,
            "{:34} {:31} {:9.1} {:6.2} | {:8.0} {:9.0} {:9.0} {:9.0}",
            row.cell.label(),
            row.cell.road(),
            Row::cpu(rounds),
            self.detour(row),
            rate(rounds),
            p50(rounds),
            p99(rounds),
            rounds.iter().map(|m| m.longest_us).fold(0.0, f64::max),
        )
    }

    /// The bars of what was measured.
    fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for (era, name) in [(Era::Legacy, "session"), (Era::Modern, "2026-07-28")] {
            let call = |bytes| self.row(Cell::plain(era, Work::Call { bytes, sse: false }, 16));
            bars.extend(call(200).map(|small| Bar {
                what: format!("call of 200 B, {name}: times the nginx hop"),
                is: ratio(&small.trunkline, &small.nginx),
                at_most: 2.5,
                unit: "",
            }));
            bars.extend(call(200).zip(call(4 << 10)).map(|(small, large)| Bar {
                what: format!("call of 4 KB, {name}: more than 200 B"),
                is: difference(&large.trunkline, &small.trunkline),
                at_most: 10.0,
                unit: " µs",
            }));
            let list = self.row(Cell::plain(era, Work::List { tools: 1_000 }, 8));
            bars.extend(list.map(|list| Bar {
                what: format!("list of 1,000 tools, {name}: times nginx serving the same bytes"),
                is: ratio(&list.trunkline, &list.file),
                at_most: 1.5,
                unit: "",
            }));
        }
        let roads = self.rows.iter().filter(|row| row.cell.compared_with().is_some());
        bars.extend(roads.map(|row| Bar {
            what: format!("{}, {}: times the same-era call", row.cell.label(), row.cell.road()),
            is: self.detour(row),
            at_most: if row.cell.under == Under::Nothing { 2.0 } else { 1.1 },
            unit: "",
        }));
        bars.extend(self.withdrawals.iter().map(|kind| Bar {
            what: format!("{}: to the first refusal and the end of a stream, p99", kind.what),
            is: kind.p99_ms(),
            at_most: 1_000.0,
            unit: " ms",
        }));
        let times = [
            ("start of the edge's process to its first answered call", &self.start, 300.0),
            ("mcpctl apply --wait, three edges, the program's own start included", &self.apply, 200.0),
        ];
        let measured = times.into_iter().filter(|(_, times, _)| !times.is_empty());
        bars.extend(measured.map(|(what, times, at_most)| Bar {
            what: what.to_owned(),
            is: median(times.iter().map(|time| time.as_secs_f64() * 1e3)),
            at_most,
            unit: " ms",
        }));
        bars
    }
}
