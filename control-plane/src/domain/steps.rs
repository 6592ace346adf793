//! How much may be compared: patterns take time in proportion to what they are compared with, and others wait meanwhile. It must not
//! know what is compared.

/// The steps that are left. A step looks at a byte, more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    left: usize,
    taken: usize,
}

impl Steps {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self { left: most, taken: 0 }
    }

    /// Takes some of them. Answers whether there were so many; where not, none is left.
    #[must_use]
    pub fn take(&mut self, steps: usize) -> bool {
        let is_enough = steps <= self.left;
        let steps = steps.min(self.left);
        self.left -= steps;
        self.taken += steps;
        is_enough
    }

    /// How many were taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_until_none_is_left() {
        let mut steps = Steps::new(10);
        assert!(steps.take(4) && steps.take(6));
        assert_eq!((steps.taken(), steps.left()), (10, 0));
        let mut steps = Steps::new(10);
        assert!(!steps.take(11));
        assert!(!steps.take(1), "what was too much takes what there is");
        assert_eq!(steps.taken(), 10);
    }
}
