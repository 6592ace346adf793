//! The table, and how it compares with the bars we set ourselves. It must not know how anything was measured.

use std::fmt;
use std::time::Duration;

use crate::cell::{Cell, Era, Target, Work};
use crate::load::Measured;

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
        self.rows.iter().try_for_each(|row| write_row(f, row))?;
        writeln!(f)?;
        self.bars().into_iter().try_for_each(|bar| writeln!(f, "{bar}"))
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let (nginx, trunkline) = (Row::cpu(&row.nginx), Row::cpu(&row.trunkline));
    let rate = |rounds: &[Measured]| median(rounds.iter().map(|m| m.per_second));
    let p50 = |rounds: &[Measured]| median(rounds.iter().map(|m| m.p50_us));
    write!(
        f,
        "{:34} {:7.1} {nginx:7.1} {trunkline:9.1} {:6.2} | {:8.0} {:8.0} | {:9.0} {:9.0} {:9.0} | ",
        row.cell.label(),
        Row::cpu(&row.direct),
        trunkline / nginx,
        rate(&row.nginx),
        rate(&row.trunkline),
        p50(&row.nginx),
        p50(&row.trunkline),
        median(row.trunkline.iter().map(|m| m.p99_us)),
    )?;
    if row.file.is_empty() { writeln!(f, "{:>10}", "-") } else { writeln!(f, "{:10.1}", Row::cpu(&row.file)) }
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
        write!(f, "{mark}  {what:64} {is:8.2}{unit} (at most {at_most}{unit})")
    }
}

impl Report {
    fn row(&self, era: Era, work: Work, connections: usize) -> &Row {
        let wanted = Cell { era, work, connections };
        self.rows.iter().find(|row| row.cell == wanted).unwrap()
    }

    fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for (era, name) in [(Era::Legacy, "session"), (Era::Modern, "2026-07-28")] {
            let call = |bytes| self.row(era, Work::Call { bytes, sse: false }, 16);
            let small = call(200);
            bars.push(Bar {
                what: format!("call of 200 B, {name}: times the nginx hop"),
                is: Row::cpu(&small.trunkline) / Row::cpu(&small.nginx),
                at_most: 2.5,
                unit: "",
            });
            bars.push(Bar {
                what: format!("call of 4 KB, {name}: more than 200 B"),
                is: Row::cpu(&call(4 << 10).trunkline) - Row::cpu(&small.trunkline),
                at_most: 10.0,
                unit: " µs",
            });
            let list = self.row(era, Work::List { tools: 1_000 }, 8);
            bars.push(Bar {
                what: format!("list of 1,000 tools, {name}: times nginx serving the same bytes"),
                is: Row::cpu(&list.trunkline) / Row::cpu(&list.file),
                at_most: 1.5,
                unit: "",
            });
        }
        let millis = |times: &[Duration]| median(times.iter().map(|t| t.as_secs_f64() * 1e3));
        let start = millis(&self.start);
        bars.push(Bar {
            what: "start of the edge's process to its first answered call".to_owned(),
            is: start,
            at_most: 300.0,
            unit: " ms",
        });
        let apply = millis(&self.apply);
        bars.push(Bar {
            what: "mcpctl apply --wait, three edges, the program's own start included".to_owned(),
            is: apply,
            at_most: 200.0,
            unit: " ms",
        });
        bars
    }
}
