//! The named volumes of a container: made, filled, and locked as long as it lives.
//!
//! Must not know how a volume is filled.

use crate::config::volumes::Named;
use crate::container::lifecycle::Container;
use crate::error::Result;
use crate::resources::volumes::{self, Wanted};
use crate::spawn::sources::Place;
use crate::state::{Entry, VolumeRecord};
use crate::text::split_last;

impl Container {
    /// Makes and fills the named volumes, which needs the root and the maps; in the journal first.
    pub(super) fn open_volumes(&mut self) -> Result<()> {
        let Some(mounts) = &mut self.mounts else { return Ok(()) };
        for (index, volume) in self.config.volumes.iter().enumerate() {
            let (Some(Named { is_anonymous, copies, .. }), Some(source)) = (volume.named, volume.source) else {
                continue;
            };
            let data = source.to_string_lossy();
            let (path, _) = split_last(&data, b'/').unwrap_or_default();
            self.journal.append(Entry::Volume(VolumeRecord { is_own: is_anonymous, path: path.into() }))?;
            if let Some(root) = mounts.iter().find(|mount| mount.place == Place::Root) {
                let wanted = Wanted { path, target: volume.target, root: &root.fd, copies };
                self.locks.push(volumes::hold(&wanted)?);
            }
            mounts.push(self.sources.add_named(index, source, self.maps.as_ref())?);
        }
        Ok(())
    }
}
