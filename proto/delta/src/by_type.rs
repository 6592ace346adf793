//! A value for each type of a table.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use trunkline::TypeTable;

/// A value for each type of `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByType<T, V> {
    /// In the order of `T::ALL`.
    values: Vec<V>,
    types: PhantomData<T>,
}

impl<T: TypeTable, V> ByType<T, V> {
    /// Iterates over the values, in push order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter()
    }
}

impl<T: TypeTable, V: Default> Default for ByType<T, V> {
    fn default() -> Self {
        Self { values: T::ALL.iter().map(|_| V::default()).collect(), types: PhantomData }
    }
}

impl<T: TypeTable, V> Index<T> for ByType<T, V> {
    type Output = V;

    fn index(&self, kind: T) -> &V {
        &self.values[kind.index()]
    }
}

impl<T: TypeTable, V> IndexMut<T> for ByType<T, V> {
    fn index_mut(&mut self, kind: T) -> &mut V {
        &mut self.values[kind.index()]
    }
}
