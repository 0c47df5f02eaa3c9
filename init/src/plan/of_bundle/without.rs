//! In place of the part for containers of bundles, where kontena is built without bundles.

use super::wire::{Wire, Writer};
use core::marker::PhantomData;

/// None.
#[derive(Clone, Copy, Debug)]
pub struct OfBundle<T>(PhantomData<T>);

impl<T> OfBundle<T> {
    /// None.
    pub const NONE: Self = Self(PhantomData);

    /// None.
    pub const fn get(&self) -> Option<&T> {
        None
    }

    /// None.
    pub const fn get_mut(&mut self) -> Option<&mut T> {
        None
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for OfBundle<T> {
    fn put(&self, _: &mut impl Writer) {}
    fn get(_: &mut &'a [u8]) -> Option<Self> {
        Some(Self::NONE)
    }
}
