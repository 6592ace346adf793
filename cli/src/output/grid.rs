//! Grids of text: titles, and rows of cells below them. Pure.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width, presets};

/// No column is cut to less than this: what is shorter says nothing.
const LEAST: u16 = 12;

/// So many columns are always shown.
const KEPT: usize = 2;

/// The title of the column that says why a state is what it is.
const REASON: &str = "REASON";

/// A space at each side of a cell.
const PADDING: u16 = 2;

/// Cells, and what their columns are called.
#[derive(Debug)]
pub struct Grid {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
    /// The columns that may be cut where there is no room.
    elastic: Vec<bool>,
}

/// Which columns are shown, and how wide they are. It only grows, so that rows that follow stand below their titles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    shown: Vec<usize>,
    widths: Vec<u16>,
    /// The columns that say nothing but zero so far.
    zero: Vec<bool>,
}

impl Grid {
    /// Makes a grid in which every cell stays on its line.
    pub fn new(titles: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Self {
        let printable =
            |row: Vec<String>| row.iter().map(|cell| printable::line(cell).into_owned()).collect();
        let elastic = vec![false; titles.len()];
        Self { titles, rows: rows.map(printable).collect(), elastic }
    }

    /// Says which columns may be cut.
    pub fn with_elastic(self, elastic: Vec<bool>) -> Self {
        Self { elastic, ..self }
    }

    /// Adds a column.
    pub(super) fn add(&mut self, title: String, cells: impl Iterator<Item = String>) {
        self.titles.push(title);
        self.elastic.push(true);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(printable::line(&cell).into_owned());
        }
    }

    /// Renders it alone, without the columns that are empty.
    pub fn render(&self, headers: bool, limit: Option<u16>) -> String {
        let filled =
            |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*column].is_empty());
        let shown = (0..self.titles.len()).filter(filled).collect();
        let mut layout = Layout { shown, widths: Vec::new(), zero: Vec::new() };
        layout.grow(self, headers);
        layout.render(self, headers, limit)
    }

    /// How narrow a column of this width may become.
    fn least(&self, (column, width): (usize, u16)) -> u16 {
        let title = u16::try_from(self.titles[column].len()).unwrap_or(u16::MAX);
        if self.elastic[column] { width.min(title.max(LEAST)) } else { width }
    }

    fn pick(&self, row: &[String], shown: &[usize]) -> Row {
        let mut row = Row::from(shown.iter().map(|&column| row[column].clone()));
        row.max_height(1);
        row
    }

    fn table(&self, shown: &[usize], headers: bool) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if headers {
            table.set_header(self.pick(&self.titles, shown));
        }
        table.add_rows(self.rows.iter().map(|row| self.pick(row, shown)));
        table
    }
}

impl Layout {
    /// Shows all columns, as wide as this grid needs them.
    pub(super) fn of(grid: &Grid, headers: bool) -> Self {
        let shown = (0..grid.titles.len()).collect();
        let mut layout = Self { shown, widths: Vec::new(), zero: Vec::new() };
        layout.grow(grid, headers);
        layout
    }

    /// Makes room for a grid.
    pub(super) fn grow(&mut self, grid: &Grid, headers: bool) {
        self.widths.resize(self.shown.len(), 1);
        let needed = grid.table(&self.shown, headers).column_max_content_widths();
        for (width, needed) in self.widths.iter_mut().zip(needed) {
            *width = needed.max(*width);
        }
        self.zero.resize(grid.titles.len(), true);
        for row in &grid.rows {
            self.zero
                .iter_mut()
                .zip(row)
                .for_each(|(zero, cell)| *zero &= ["", "0"].contains(&cell.as_str()));
        }
    }

    /// Renders a grid in these columns. Where they are wider than `limit`, those that say nothing but zero are left out, then
    /// texts are cut, and where that is not enough, more columns are left out, which is said below.
    pub(super) fn render(&self, grid: &Grid, headers: bool, limit: Option<u16>) -> String {
        if grid.rows.is_empty() && !headers {
            return String::new();
        }
        let fitted = self.fitted(grid, limit);
        let shown: Vec<_> = fitted.iter().map(|(column, _)| *column).collect();
        let mut table = grid.table(&shown, headers);
        for (column, (_, width)) in table.column_iter_mut().zip(&fitted) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(PADDING))));
        }
        let line = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n";
        let text: String = table.lines().map(line).collect();
        let left_out = self.shown.iter().filter(|column| !shown.contains(column));
        let left_out: Vec<_> = left_out.map(|column| grid.titles[*column].as_str()).collect();
        match left_out.is_empty() || !headers {
            true => text,
            false => format!("{text}(no room for {})\n", left_out.join(", ")),
        }
    }

    /// The columns that there is room for, and how wide they are then.
    fn fitted(&self, grid: &Grid, limit: Option<u16>) -> Vec<(usize, u16)> {
        let mut columns: Vec<_> = self.shown.iter().copied().zip(self.widths.iter().copied()).collect();
        let Some(limit) = limit else { return columns };
        while total(columns.iter().map(|(_, width)| *width)) > limit
            && let Some(at) =
                columns.iter().rposition(|(column, _)| self.zero[*column]).filter(|at| *at >= KEPT)
        {
            columns.remove(at);
        }
        let least = |columns: &[(usize, u16)]| total(columns.iter().map(|one| grid.least(*one)));
        while columns.len() > KEPT && least(&columns) > limit {
            // Why something is not as it should be is left out last.
            let is_reason = columns.len() > KEPT + 1
                && columns.last().is_some_and(|(column, _)| grid.titles[*column] == REASON);
            columns.remove(columns.len() - 1 - usize::from(is_reason));
        }
        let mut excess = total(columns.iter().map(|(_, width)| *width)).saturating_sub(limit);
        for one in columns.iter_mut().rev() {
            let cut = excess.min(one.1.saturating_sub(grid.least(*one)));
            one.1 -= cut;
            excess -= cut;
        }
        columns
    }
}

/// The width of columns that are so wide, with what is between them.
fn total(widths: impl Iterator<Item = u16>) -> u16 {
    widths
        .fold(0, |sum: u16, width| sum.saturating_add(width).saturating_add(PADDING))
        .saturating_sub(PADDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: &[[&str; 3]]) -> Grid {
        let owned = |row: &[&str; 3]| row.iter().map(|cell| (*cell).to_owned()).collect();
        let titles = ["NAME", "WHY", "SO"].map(str::to_owned).to_vec();
        Grid::new(titles, rows.iter().map(owned)).with_elastic(vec![false, true, true])
    }

    #[test]
    fn only_texts_are_cut_the_last_one_first() {
        let grid =
            grid(&[["a-name-of-its-own", "because of something long", "therefore nothing"], ["b", "", "x"]]);
        assert_eq!(
            grid.render(true, None),
            "NAME               WHY                        SO\n\
             a-name-of-its-own  because of something long  therefore nothing\n\
             b                                             x\n"
        );
        assert_eq!(
            grid.render(true, Some(60)),
            "NAME               WHY                        SO\n\
             a-name-of-its-own  because of something long  therefore…\n\
             b                                             x\n"
        );
        for (limit, longest) in [(60, 60), (50, 50), (40, 40), (10, 37)] {
            let text = grid.render(false, Some(limit));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(longest), "{limit}: {text}");
            assert!(text.contains("a-name-of-its-own  ") && text.lines().count() == 2, "{text}");
        }
    }

    #[test]
    fn where_cutting_is_not_enough_columns_are_left_out() {
        let titles = ["NAME", "STATE", "TOOLS", "URL", "REASON"].map(str::to_owned).to_vec();
        let row =
            ["time", "unreachable", "12", "http://127.0.0.1:9000/mcp", "connection refused by the host"];
        let elastic = vec![false, false, false, true, true];
        let grid = Grid::new(titles, [row.map(str::to_owned).to_vec()].into_iter()).with_elastic(elastic);
        for (width, expected) in [
            (
                50,
                "NAME  STATE        TOOLS  REASON\ntime  unreachable  12     connection refused by…\n(no room for URL)\n",
            ),
            (34, "NAME  STATE        REASON\ntime  unreachable  connection…\n(no room for TOOLS, URL)\n"),
            (20, "NAME  STATE\ntime  unreachable\n(no room for TOOLS, URL, REASON)\n"),
        ] {
            assert_eq!(grid.render(true, Some(width)), expected);
        }
        assert!(grid.render(false, Some(20)).lines().all(|line| line.len() <= 20));
    }

    #[test]
    fn columns_of_zeros_make_room_before_texts_are_cut() {
        let titles = ["NAME", "STATE", "TOOLS", "PROMPTS", "REASON"].map(str::to_owned).to_vec();
        let row = ["time", "degraded", "3", "0", "`time/nope` selects nothing"].map(str::to_owned).to_vec();
        let grid = Grid::new(titles, [row].into_iter()).with_elastic(vec![false, false, false, false, true]);
        assert_eq!(
            grid.render(true, Some(60)),
            "NAME  STATE     TOOLS  PROMPTS  REASON\n\
             time  degraded  3      0        `time/nope` selects nothing\n"
        );
        assert_eq!(
            grid.render(true, Some(52)),
            "NAME  STATE     TOOLS  REASON\n\
             time  degraded  3      `time/nope` selects nothing\n(no room for PROMPTS)\n"
        );
    }

    #[test]
    fn rows_that_follow_stand_below_their_titles() {
        let first = grid(&[["alpha", "", "x"]]);
        let mut layout = Layout::of(&first, true);
        assert_eq!(layout.render(&first, true, None), "NAME   WHY  SO\nalpha       x\n");
        let second = grid(&[["b", "why", "y"]]);
        layout.grow(&second, true);
        assert_eq!(layout.render(&second, false, None), "b      why  y\n");
        let third = grid(&[["c", "because", "z"]]);
        layout.grow(&third, true);
        assert_eq!(layout.render(&third, false, None), "c      because  z\n");
        assert_eq!(layout.render(&second, false, None), "b      why      y\n");
    }

    #[test]
    fn empty_columns_and_titles_are_left_out() {
        assert_eq!(grid(&[["a", "", "x"]]).render(true, None), "NAME  SO\na     x\n");
        assert_eq!(grid(&[["a", "", "x"]]).render(false, None), "a  x\n");
        assert_eq!(grid(&[]).render(true, None), "NAME  WHY  SO\n");
        assert_eq!(grid(&[]).render(false, None), "");
    }
}
