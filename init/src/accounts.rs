//! Users and groups by name or number, in the text of /etc/passwd and /etc/group; passwd(5), group(5).
//!
//! Pure, so that `cargo test` runs it. Strict: a text that is no number of 32 bits and no name in the file is nobody,
//! and never root.

use crate::text;

/// A line of /etc/passwd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    pub name: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    /// `/` where the line names none.
    pub home: &'a [u8],
}

/// The line of a user, wanted by name or number.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Account(Account<'a>),
    /// There is a line of this name, which makes no sense.
    Malformed,
    Nothing,
}

/// Looks for a user: `name:password:uid:gid:comment:home:shell`.
pub fn account<'a>(passwd: &'a [u8], wanted: &[u8]) -> Found<'a> {
    let number_wanted = number(wanted);
    let mut found = Found::Nothing;
    for line in text::split(passwd, b'\n') {
        let [name, _, uid, gid, _, home] = fields(line);
        let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
            // A line that makes no sense is nobody's.
            if name == wanted && !name.is_empty() {
                found = Found::Malformed;
            }
            continue;
        };
        if number_wanted.map_or(name == wanted, |wanted| wanted == uid) && !name.is_empty() {
            let home = if home.is_empty() { b"/" } else { home };
            return Found::Account(Account { name, uid, gid, home });
        }
    }
    found
}

/// The gid of a group, by name or number: `name:password:gid:members`.
pub fn group(groups: &[u8], wanted: &[u8]) -> Option<u32> {
    let by_name = || {
        let line = text::split(groups, b'\n').map(fields).find(|[name, ..]| *name == wanted && !name.is_empty());
        line.and_then(|[_, _, gid, ..]| number(gid))
    };
    number(wanted).or_else(by_name)
}

/// The gids of the groups that a user is a member of. A line that makes no sense is nobody's group.
pub fn memberships<'a>(groups: &'a [u8], user: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    let is_member = move |members: &[u8]| text::split(members, b',').any(|member| member == user);
    let of_user = text::split(groups, b'\n').map(fields).filter(move |[_, _, _, members, ..]| is_member(members));
    of_user.filter_map(|[_, _, gid, ..]| number(gid))
}

/// A plain decimal number that can be an id; 4294967295 is `(uid_t)-1`, which the calls read as "leave it".
pub fn number(text: &[u8]) -> Option<u32> {
    text::number(text).filter(|number| *number != u32::MAX)
}

/// The first fields of a line; missing ones are empty.
#[inline(never)]
fn fields(line: &[u8]) -> [&[u8]; 6] {
    let mut fields = text::split(line, b':');
    core::array::from_fn(|_| fields.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbad:x:1:one::/:\nweb:x:33:34::/srv:\nbare:x:7:8\n\n:x:9:9::/:\n";
    const GROUP: &[u8] = b"root:x:0:\ntty:x:5:web,sync\nwww:x:34:\nodd:x:-1:web\nvideo:x:44:sync,web\n";

    fn found(name: &'static [u8], uid: u32, gid: u32, home: &'static [u8]) -> Found<'static> {
        Found::Account(Account { name, uid, gid, home })
    }

    #[test]
    fn user_is_found_by_name_and_by_number() {
        assert_eq!(account(PASSWD, b"web"), found(b"web", 33, 34, b"/srv"));
        assert_eq!(account(PASSWD, b"33"), found(b"web", 33, 34, b"/srv"));
        assert_eq!(account(PASSWD, b"bare"), found(b"bare", 7, 8, b"/"));
    }

    #[test]
    fn what_is_no_user_is_never_root() {
        assert_eq!(account(PASSWD, b"bad"), Found::Malformed);
        for nobody in [b"" as &[u8], b"WEB", b"we", b"9", b"-1", b"0x0", b" 0", b"4294967295", b"4294967296"] {
            assert_eq!(account(PASSWD, nobody), Found::Nothing, "{}", nobody.escape_ascii());
        }
        assert_eq!(account(b"", b"root"), Found::Nothing);
    }

    #[test]
    fn group_is_a_number_or_a_name_of_the_file() {
        assert_eq!([group(GROUP, b"tty"), group(GROUP, b"1234"), group(b"", b"0")], [Some(5), Some(1234), Some(0)]);
        assert_eq!([group(GROUP, b"odd"), group(GROUP, b""), group(GROUP, b"t"), group(GROUP, b"-5")], [None; 4]);
    }

    #[test]
    fn memberships_are_whole_names_with_good_gids() {
        assert_eq!(memberships(GROUP, b"web").collect::<Vec<_>>(), [5, 44]);
        assert_eq!(memberships(GROUP, b"we").count() + memberships(GROUP, b"root").count(), 0);
    }
}
