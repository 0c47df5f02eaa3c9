//! Iterators into lists and texts, one item after the other.
//!
//! `Iterator::collect` asks for the number of items first, to allocate once: for the few items of each list here, this
//! costs a hundred bytes of code at each place. Must not know what is listed.

/// The ends of a chain of iterators.
pub trait Gather: Iterator + Sized {
    /// All items.
    fn list(self) -> Vec<Self::Item> {
        let mut all = Vec::new();
        for item in self {
            all.push(item);
        }
        all
    }

    /// All items, up to the first error, which it returns.
    fn try_list<T, E>(self) -> Result<Vec<T>, E>
    where
        Self: Iterator<Item = Result<T, E>>,
    {
        let mut all = Vec::new();
        for item in self {
            all.push(item?);
        }
        Ok(all)
    }

    /// All items, one behind the other.
    fn text(self) -> String
    where
        Self::Item: AsRef<str>,
    {
        let mut all = String::new();
        for item in self {
            all.push_str(item.as_ref());
        }
        all
    }
}

impl<I: Iterator> Gather for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_listed_in_their_order() {
        assert_eq!("a b c".split(' ').list(), ["a", "b", "c"]);
        assert_eq!("a b c".split(' ').text(), "abc");
        assert!((0..0).list().is_empty());
    }

    #[test]
    fn first_error_ends_a_list() {
        let mut seen = 0;
        let mut numbers = ["1", "2", "x", "y"].into_iter().inspect(|_| seen += 1).map(str::parse::<u8>);
        assert_eq!(numbers.by_ref().take(2).try_list(), Ok(vec![1, 2]));
        assert!(numbers.try_list().is_err());
        assert_eq!(seen, 3);
    }
}
