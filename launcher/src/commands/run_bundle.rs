//! `run --bundle`: creates a container, starts it, waits for its end in the foreground, and deletes it, like the
//! commands of these names.
//!
//! If `run` is killed, the container stays as after `create` and `start`. Must not do more than they do.

use crate::commands::bundle;
use crate::commands::exec::Joined;
use crate::config::Config;
use crate::container::{self, HandedOver};
use crate::error::Result;
use crate::spawn::clone::decode_plan;
use crate::state::ContainerRecord;
use crate::supervise::message::Message;
use crate::supervise::terminal;
use kontena_init::plan::TERMINAL;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

/// Runs the container of a bundle. Returns its exit status; with `-d`, 0.
pub fn run(state: &str, config: &'static Config) -> Result<u8> {
    container::look_at_preserved(config.preserve_fds)?;
    let Some(bundle) = &config.bundle else { return Ok(0) };
    let size = if config.lends_terminal() { terminal::size() } else { None };
    let HandedOver { init, plan, terminal, events, supervision, root } = container::hand_over(state, config, size)?;
    let container = root.find(config.name)?;
    let started = bundle::start(root, &container);
    if started.is_ok() && !bundle.stays {
        return Ok(0);
    }
    let ended = started.and_then(|()| {
        let mut joined = Joined { process: decode_plan(&plan)?.process, events, supervision };
        let Some(master) = terminal else { return joined.wait(&init) };
        // Without this fd the terminal would hang up when the payload closes it, to open it again by /dev/console.
        let _slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        joined.attach(&init, Some(Message::Fd(master, TERMINAL)), true)
    });
    if bundle.keeps && ended.is_ok() {
        return ended;
    }
    // Another process may have deleted it. If the terminal has hung up, the container may still run.
    let is_it = |now: &ContainerRecord| (now.init, now.handed_over) == (container.init, container.handed_over);
    let deleted = match root.look(config.name) {
        Ok(Some(now)) if is_it(&now) => bundle::delete(root, &now, true),
        looked => looked.map(drop),
    };
    ended.and_then(|status| deleted.map(|()| status))
}
