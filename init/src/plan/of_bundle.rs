//! A part of a Plan for containers of bundles. Built without bundles, it takes no bytes, and the compiler drops the
//! code for it.

use super::wire::{Wire, Writer};

/// One, or none.
#[derive(Clone, Copy, Debug)]
pub struct OfBundle<T>(Option<T>);

impl<T> OfBundle<T> {
    /// None.
    pub const NONE: Self = Self(None);

    /// One.
    pub const fn new(part: T) -> Self {
        Self(Some(part))
    }

    /// It, if there is one.
    pub const fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The same, to change it.
    pub const fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for OfBundle<T> {
    fn put(&self, out: &mut impl Writer) {
        u8::from(self.0.is_some()).put(out);
        if let Some(part) = &self.0 {
            part.put(out);
        }
    }
    #[inline(never)]
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(Self::NONE),
            1 => T::get(from).map(Self::new),
            _ => None,
        }
    }
}
