//! Sets of methods. It must not know what a method does, nor who may use it.

use mcp::method::Method;

/// A set of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodSet(u64);

const _: () = assert!(Method::ALL.len() <= 64, "each method has a bit");

impl MethodSet {
    /// Every method.
    pub const ALL: MethodSet = MethodSet(u64::MAX);

    /// Creates the set of the methods for which `is_in` holds.
    pub fn of(is_in: impl Fn(Method) -> bool) -> MethodSet {
        let methods = Method::ALL.iter().filter(|method| is_in(**method));
        MethodSet(methods.fold(0, |bits, method| bits | bit(*method)))
    }

    /// Returns whether it has `method`.
    pub fn contains(self, method: Method) -> bool {
        self.0 & bit(method) != 0
    }
}

const fn bit(method: Method) -> u64 {
    1 << method as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_in_the_sets_that_are_made_of_it() {
        for one in Method::ALL {
            let set = MethodSet::of(|method| method == *one);
            assert!(Method::ALL.iter().all(|other| set.contains(*other) == (other == one)), "{one}");
            assert!(MethodSet::ALL.contains(*one));
        }
    }
}
