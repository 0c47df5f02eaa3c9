//! The host's settings that containers need, below /proc/sys/net; and the way back to what they were.
//!
//! What stays when the container goes is recorded first, and changed back only where nobody has changed it since.

use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::state::StateDirectory;
use rustix::fs::OFlags;

const SYS_NET: &str = "/proc/sys/net";
const HINT: &str = "/proc/sys must be writable for --net bridge";

/// Whether the setting has this value, of a digit. One that is not there has none.
pub fn is(key: &str, value: &str) -> bool {
    let mut found = [0; 4];
    let length = file::open(CWD, &path(key), OFlags::RDONLY).and_then(|file| rustix::io::read(file, &mut found));
    length.is_ok_and(|length| found[..length].trim_ascii_end() == value.as_bytes())
}

/// Sets it.
pub fn write(key: &str, value: &str) -> Result<()> {
    let path = path(key);
    file::write(CWD, &path, value).context(format_args!("write {value} to {path}"), HINT)
}

/// What makes the host forward IPv4, and IPv6.
pub const FORWARD4: &str = "ipv4/ip_forward";
pub const FORWARD6: &str = "ipv6/conf/all/forwarding";

/// Whether the host forwards because of kontena alone.
pub fn has_switched_on(root: &StateDirectory, key: &str) -> bool {
    !root.shared(&format!("net sysctl {key} 0 ")).is_empty()
}

/// Makes the host forward IPv4.
pub fn forward_ipv4(root: &StateDirectory) -> Result<()> {
    change(root, FORWARD4, "0", "1")
}

/// Makes the host forward IPv6.
///
/// A host that forwards takes no notice of router advertisements, and forgets what it has from them, its default route
/// for one, unless accept_ra is 2: networking/ip-sysctl.rst. It goes on as it did.
pub fn forward_ipv6(root: &StateDirectory) -> Result<()> {
    let links = file::open(CWD, &path("ipv6/conf"), OFlags::DIRECTORY).and_then(file::names);
    for link in links.at(format_args!("read {SYS_NET}/ipv6/conf"))? {
        // A link may go at any time.
        if link != "all" && link != "lo" {
            change(root, &format!("ipv6/conf/{link}/accept_ra"), "1", "2")?;
        }
    }
    change(root, FORWARD6, "0", "1")
}

/// Changes `from` to `to`, until [`undo`].
fn change(root: &StateDirectory, key: &str, from: &str, to: &str) -> Result<()> {
    if !is(key, from) {
        return Ok(());
    }
    root.record_shared(&format!("net sysctl {key} {from} {to}"))?;
    write(key, to)
}

/// Changes back what was recorded as `what`.
pub fn undo(what: &str) -> Result<()> {
    let mut words = what.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(key), Some(from), Some(to)) if is(key, to) => write(key, from),
        _ => Ok(()),
    }
}

fn path(key: &str) -> String {
    format!("{SYS_NET}/{key}")
}
