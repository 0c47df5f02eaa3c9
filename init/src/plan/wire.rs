//! How a Plan is laid out in bytes: integers, strings, lists and structs, one behind the other.
//!
//! One declaration of a struct makes both its writer and its reader. Must not know any of those structs.

use core::ffi::CStr;

/// Opens every Plan; changes with the format, so that a launcher and an init of two builds never misread each other.
const MAGIC: u32 = u32::from_le_bytes(if cfg!(feature = "oci") { *b"kb09" } else { *b"kp09" });

/// The bytes that a Plan is written to.
pub trait Writer {
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]);
    /// How many bytes there are.
    fn length(&self) -> usize;
    /// Puts a number, little-endian, in the place of the four bytes from `at` on.
    fn patch(&mut self, at: usize, number: u32);
}

/// Something that can stand in a Plan. Integers are little-endian, strings end with NUL.
pub trait Wire<'a>: Copy {
    /// Appends this to `out`.
    fn put(&self, out: &mut impl Writer);
    /// Reads one from the front of `from`; `None` where the block is cut short or malformed.
    fn get(from: &mut &'a [u8]) -> Option<Self>;
}

macro_rules! wire_integers {
    ($($integer:ty),*) => {$(
        impl Wire<'_> for $integer {
            fn put(&self, out: &mut impl Writer) {
                out.append(&self.to_le_bytes());
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
wire_integers!(u8, u16, u32, u64);

impl<'a> Wire<'a> for &'a CStr {
    fn put(&self, out: &mut impl Writer) {
        out.append(self.to_bytes_with_nul());
    }
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        let text = CStr::from_bytes_until_nul(from).ok()?;
        *from = from.get(text.to_bytes_with_nul().len()..)?;
        Some(text)
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn put(&self, out: &mut impl Writer) {
        (self.len() as u32).put(out);
        out.append(self);
    }
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        let length = u32::get(from)?;
        let (bytes, rest) = from.split_at_checked(length as usize)?;
        *from = rest;
        Some(bytes)
    }
}

/// A list of `T`: items of the launcher's, or a stretch of a Plan that is decoded as it is walked.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    /// What the launcher puts in.
    Items(&'a [T]),
    /// What the init finds: how many, and their bytes.
    Block(u32, &'a [u8]),
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self::Items(&[])
    }
}

impl<'a, T: Wire<'a>> List<'a, T> {
    /// How many items.
    pub fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Block(count, _) => *count as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> Items<'a, T> {
        Items(*self)
    }
}

/// What is left of a [`List`].
#[derive(Clone)]
pub struct Items<'a, T>(List<'a, T>);

impl<'a, T: Wire<'a>> Iterator for Items<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            List::Items(items) => items.split_off_first().copied(),
            List::Block(_, block) => T::get(block),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for List<'a, T> {
    fn put(&self, out: &mut impl Writer) {
        (self.len() as u32).put(out);
        // The number of their bytes, which is known when they are written.
        let place = out.length();
        0u32.put(out);
        let start = out.length();
        self.iter().for_each(|item| item.put(out));
        out.patch(place, (out.length() - start) as u32);
    }
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        let (count, block) = (u32::get(from)?, <&[u8]>::get(from)?);
        // Walked once here, so that nobody who iterates later can meet a malformed item.
        let mut walk = block;
        for _ in 0..count {
            T::get(&mut walk)?;
        }
        walk.is_empty().then_some(Self::Block(count, block))
    }
}

/// Declares structs that are written and read field by field, in the order they stand in.
macro_rules! wire_structs {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(<$life:lifetime>)? { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name $(<$life>)? { $($(#[$doc])* pub $field: $type,)* }

        impl<'a> Wire<'a> for $name $(<$life>)? {
            fn put(&self, out: &mut impl Writer) {
                $(self.$field.put(out);)*
            }
            fn get(from: &mut &'a [u8]) -> Option<Self> {
                Some(Self { $($field: Wire::get(from)?,)* })
            }
        }
    )*};
}
pub(super) use wire_structs;

/// Appends a whole Plan, or Joining, to `out`.
pub fn encode<'a>(plan: &impl Wire<'a>, out: &mut impl Writer) {
    MAGIC.put(out);
    plan.put(out);
}

/// Reads one in place; `None` where the block is not a whole one of this version.
pub fn decode<'a, T: Wire<'a>>(mut block: &'a [u8]) -> Option<T> {
    if u32::get(&mut block)? != MAGIC {
        return None;
    }
    T::get(&mut block)
}
