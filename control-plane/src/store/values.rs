//! The values of statements that are about many rows at once.
//!
//! It must not know the tables.

/// The largest number of rows in one statement: far fewer values than SQLite (32,766) and PostgreSQL (65,535) take.
pub(super) const ROWS: usize = 250;

/// Rows of so many placeholders, after those of `before` other values: `($2, $3), ($4, $5)`.
pub(super) fn rows(before: usize, columns: usize, rows: usize) -> String {
    let row = |row: usize| format!("({})", list(before + row * columns, columns));
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// So many placeholders, after those of `before` other values: `$2, $3`.
pub(super) fn list(before: usize, count: usize) -> String {
    (1..=count).map(|place| format!("${}", before + place)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_are_numbered_through() {
        assert_eq!(super::rows(1, 2, 2), "($2, $3), ($4, $5)");
        assert_eq!(super::list(0, 1), "$1");
        assert_eq!(super::list(3, 0), "");
    }
}
