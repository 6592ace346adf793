//! Whole numbers beside numbers with a fraction, compared as what they are. It must not know where they come from.

use std::cmp::Ordering;

/// 2 to the 63, the first that is no whole number of 64 bits.
const LIMIT: f64 = 9_223_372_036_854_775_808.0;

/// How a whole number compares with another number, exactly. `None`: the other is none.
pub(super) fn compare(a: i64, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        None
    } else if b >= LIMIT {
        Some(Ordering::Less)
    } else if b < -LIMIT {
        Some(Ordering::Greater)
    } else {
        let fraction = b.fract();
        let by_fraction = if fraction > 0.0 {
            Ordering::Less
        } else if fraction < 0.0 {
            Ordering::Greater
        } else {
            Ordering::Equal
        };
        Some(a.cmp(&(b.trunc() as i64)).then(by_fraction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_exactly() {
        for (a, b, expected) in [
            (1, 1.0, Some(Ordering::Equal)),
            (1, 1.5, Some(Ordering::Less)),
            (-1, -1.5, Some(Ordering::Greater)),
            (i64::MAX, LIMIT, Some(Ordering::Less)),
            (i64::MIN, -LIMIT, Some(Ordering::Equal)),
            ((1 << 53) + 1, 9_007_199_254_740_992.0, Some(Ordering::Greater)),
            (0, f64::INFINITY, Some(Ordering::Less)),
            (0, f64::NEG_INFINITY, Some(Ordering::Greater)),
            (0, f64::NAN, None),
        ] {
            assert_eq!(compare(a, b), expected, "{a} with {b}");
        }
    }
}
