//! What the tests of the options' values share: one table a parser. Must not be part of what is shipped.

use crate::error::Parsed;
use std::fmt::Debug;

/// Asserts that each of the `good` texts stands for its value, and that each of the `bad` ones is refused with `hint`.
#[track_caller]
pub fn check<T: PartialEq + Debug>(
    parse: impl Fn(&'static str) -> Parsed<T>,
    good: impl IntoIterator<Item = (&'static str, T)>,
    bad: &[&'static str],
    hint: &str,
) {
    for (text, value) in good {
        assert_eq!(parse(text), Ok(value), "{text:?}");
    }
    for text in bad {
        assert_eq!(parse(text), Err(hint), "{text:?}");
    }
}
