//! `kontena volume`: the named volumes, and which containers use them.
//!
//! Must not look into a volume, but to remove it.

use crate::commands::for_each_name;
use crate::commands::table::Table;
use crate::config::Format;
use crate::config::volumes::{DATA, is_anonymous};
use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::json::Json;
use crate::print;
use crate::resources::volumes;
use crate::state::StateDirectory;
use rustix::io::Errno;

/// What to do with volumes.
pub enum Act {
    /// Make them, or one without a name of its own.
    Create,
    /// List all: how that is printed; `None` for the names alone.
    List(Option<Format>),
    /// Print them as JSON.
    Inspect,
    /// Remove them.
    Remove,
    /// Remove those that no container uses.
    Prune {
        /// Those with names, too.
        all: bool,
    },
}

/// Does it.
pub fn act(state: &StateDirectory, directory: &str, names: &[&str], act: &Act) -> Result<()> {
    let path = |name: &str| format!("{directory}/{name}");
    let done = |name: &str| print::answer(&format!("{name}\n"));
    match act {
        Act::Create if names.is_empty() => {
            let name = crate::text::random_name::<64>();
            volumes::create(&path(name)).and_then(|_| done(name))
        }
        Act::Create => for_each_name(names, &mut |name| volumes::create(&path(name)).and_then(|_| done(name))),
        Act::List(format) => list(state, directory, *format),
        Act::Inspect => {
            let all = volumes::names(directory)?;
            let known = |name: &&&str| all.iter().any(|other| other == **name);
            let found: Vec<&str> = names.iter().filter(known).copied().list();
            let missing: Vec<&str> = names.iter().filter(|name| !known(name)).copied().list();
            print::answer(&document(state, directory, &found)?)?;
            for_each_name(&missing, &mut |name| Err(no_such_volume(name)))
        }
        Act::Remove => for_each_name(names, &mut |name| match volumes::remove(&path(name)) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Err(no_such_volume(name)),
            Err(error) if error.errno() == Some(Errno::AGAIN) => {
                let users = users(state, &path(name))?.join(", ");
                let users = if users.is_empty() { "a container of another --root" } else { &users };
                let hint = format!("{users} uses it: stop it first");
                Err(Error::usage(format_args!("volume {name} is in use"), &hint))
            }
            removed => removed.and_then(|()| done(name)),
        }),
        Act::Prune { all } => {
            let names = volumes::names(directory)?;
            let names: Vec<&str> = names.iter().map(|name| &**name).filter(|name| *all || is_anonymous(name)).list();
            for_each_name(&names, &mut |name| match volumes::remove(&path(name)) {
                // It is in use, or another process has been faster.
                Err(error) if matches!(error.errno(), Some(Errno::AGAIN | Errno::NOENT)) => Ok(()),
                removed => removed.and_then(|()| done(name)),
            })
        }
    }
}

fn no_such_volume(name: &str) -> Error {
    Error::usage(format_args!("no such volume: {name}"), "see kontena volume ls")
}

/// The running containers of this state directory that use a volume.
fn users(state: &StateDirectory, path: &str) -> Result<Vec<String>> {
    let mut all = state.all()?;
    all.retain(|container| container.is_running && container.volumes.iter().any(|volume| volume.path == path));
    Ok(all.into_iter().map(|container| container.name).list())
}

fn list(state: &StateDirectory, directory: &str, format: Option<Format>) -> Result<()> {
    let names = volumes::names(directory)?;
    let names: Vec<&str> = names.iter().map(|name| &**name).list();
    let text = match format {
        None => names.iter().map(|name| format!("{name}\n")).text(),
        Some(Format::Json) => document(state, directory, &names)?,
        Some(Format::Table) => {
            let mut table = Table::new(&["NAME", "CONTAINERS"]);
            for name in names {
                let users = users(state, &format!("{directory}/{name}"))?.join(", ");
                table.add(vec![name.into(), if users.is_empty() { "-".into() } else { users }]);
            }
            table.print()
        }
    };
    print::answer(&text)
}

fn document(state: &StateDirectory, directory: &str, names: &[&str]) -> Result<String> {
    let mut found = Ok(());
    let text = Json::document(|json| {
        json.array(|json| {
            for name in names {
                let path = format!("{directory}/{name}");
                let users = users(state, &path).unwrap_or_else(|error| {
                    found = Err(error);
                    Vec::new()
                });
                json.object(|json| {
                    json.text("name", name).text("mountpoint", &format!("{path}/{DATA}"));
                    json.boolean("anonymous", is_anonymous(name)).texts("containers", users);
                });
            }
        });
    });
    found.map(|()| text)
}
