//! The names of the containers on a bridge, in the /etc/hosts of each of them.
//!
//! A launcher writes the file of its own container, by the fd that the init has passed on, whenever the leases of
//! addresses change. The containers on a bridge are in the leases and the journals, so nothing else has to be
//! remembered, or removed. Must not touch another container's file: a hostile container can make that write(2) wait.

use crate::config::bridge::Bridge;
use crate::config::names::is_name;
use crate::error::{Context, Result};
use crate::print;
use crate::resources::etc_files::lines_for;
use crate::state::StateDirectory;
use rustix::fd::OwnedFd;
use rustix::fs::ftruncate;
use rustix::io::pwrite;

/// The /etc/hosts of a container on a bridge with names.
pub struct Names<'a> {
    file: OwnedFd,
    /// The container's own lines.
    own: String,
    /// The bytes that were written last.
    length: usize,
    bridge: Bridge,
    root: &'a StateDirectory,
    /// While it is open, signals tell of changes.
    _leases: Option<OwnedFd>,
}

impl<'a> Names<'a> {
    /// Tells the containers on the bridge of this one, and this one of them.
    pub fn open(file: OwnedFd, own: String, bridge: Bridge, root: &'a StateDirectory) -> Result<Self> {
        // Before the first look: what changes after it comes as a signal.
        let leases = root.watch_leases().inspect_err(print::complain).ok();
        let mut names = Self { file, own, length: 0, bridge, root, _leases: leases };
        names.update().map(|()| names)
    }

    /// Writes the file anew.
    pub fn update(&mut self) -> Result<()> {
        let text = self.text();
        write(&self.file, &text, self.length)?;
        self.length = text.len();
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = self.own.clone();
        for (record, address) in self.root.residents("", &|address| self.bridge.has_any(&[address])) {
            let addresses = record.network.addresses();
            // It may hold more leases, as for --ip6.
            if addresses.first() == Some(&address) && is_name(&record.name) && !has_name(&text, &record.name) {
                text += &lines_for(&addresses, &record.name);
            }
        }
        text
    }
}

/// Whether the text of a /etc/hosts has the name already. So no container can be named `localhost` for another, nor in
/// the place of one that was given by --add-host.
fn has_name(text: &str, name: &str) -> bool {
    let names = text.lines().flat_map(|line| line.split_ascii_whitespace().skip(1));
    { names }.any(|known| known.eq_ignore_ascii_case(name))
}

/// Writes a /etc/hosts that had `length` bytes. Empty lines cover the rest of the old text, so nobody reads a part of
/// it behind the new one.
pub fn write(file: &OwnedFd, text: &str, length: usize) -> Result<()> {
    let mut covering = text.as_bytes().to_vec();
    covering.resize(length.max(text.len()), b'\n');
    pwrite(file, &covering, 0)
        .and_then(|_| ftruncate(file, text.len() as u64))
        .at(format_args!("write the container's /etc/hosts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_file_are_its_words_behind_the_address() {
        let text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n10.88.0.2\tweb\n";
        for name in ["localhost", "LocalHost", "ip6-localhost", "web"] {
            assert!(has_name(text, name), "{name}");
        }
        for name in ["127.0.0.1", "::1", "local", "we", "web2", ""] {
            assert!(!has_name(text, name), "{name}");
        }
    }
}
