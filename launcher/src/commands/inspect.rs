//! `kontena inspect`: everything about containers, as JSON; from their journals, plans and leaf cgroups.

use crate::commands::for_each_container;
use crate::commands::list::write_summary;
use crate::config::capabilities;
use crate::config::lifecycle::signal_name;
use crate::error::Result;
use crate::json::Json;
use crate::net::Protected;
use crate::print;
use crate::resources::cgroup;
use crate::spawn::plan;
use crate::state::{ContainerRecord, StateDirectory};
use crate::text::from_bytes;
use kontena_init::filter;
use kontena_init::plan::{Mount, Plan, decode, mount_kind};
use std::ffi::CStr;

/// Prints an array with an object for each container.
pub fn inspect(state: &StateDirectory, names: &[&str]) -> Result<()> {
    let (protected, mut found) = (Protected::look(state), Ok(()));
    let text = Json::document(|json| {
        json.array(|json| {
            found = for_each_container(state, names, &mut |name| {
                let container = state.find(name)?;
                json.object(|json| {
                    write_summary(json, state, &container, &protected);
                    write_record(json, state, &container);
                    let directory = state.directory(name).ok();
                    let bytes = directory.and_then(|directory| plan::read(&directory).ok()).unwrap_or_default();
                    decode::<Plan<'_>>(&bytes).into_iter().for_each(|plan| write_plan(json, &plan));
                });
                Ok(())
            });
        });
    });
    print::answer(&text).and(found)
}

/// Writes what the record has beside the summary.
fn write_record(json: &mut Json, state: &StateDirectory, container: &ContainerRecord) {
    json.text("directory", &state.path(&container.name));
    if let Some(leaf) = container.cgroup_path() {
        json.text("cgroup", leaf);
        json.key("limits").object(|json| {
            for limit in cgroup::limits(leaf) {
                json.text(limit.0, &limit.1);
            }
        });
    }
    if !container.exposed.is_empty() {
        json.texts("exposed", &container.exposed);
    }
    if let Some(stop) = container.stop {
        json.text("stop_signal", &signal_name(stop.signal)).number("stop_timeout", stop.timeout);
    }
    if let Some(policy) = &container.restart {
        json.text("restart", policy);
    }
}

fn write_plan(json: &mut Json, plan: &Plan<'_>) {
    let rootfs = text(plan.root.source);
    json.text("rootfs", rootfs.strip_suffix("/.").unwrap_or(&rootfs)).text("hostname", &text(plan.hostname));
    json.boolean("read_only", plan.root_readonly == 1).boolean("user_namespace", plan.userns == 1);
    json.key("mounts").array(|json| {
        for mount in plan.volumes.iter() {
            json.object(|json| write_mount(json, &mount));
        }
    });
    let process = &plan.process;
    let user = text(process.user);
    json.text("user", if user.is_empty() { "root" } else { &user }).text("workdir", &text(process.cwd));
    json.texts("env", process.env.iter().map(text)).boolean("terminal", process.terminal == 1);
    json.texts("capabilities", capabilities::names(process.capabilities));
    json.boolean("no_new_privileges", process.no_new_privs == 1)
        .boolean("seccomp", process.seccomp & !filter::KEYS != 0);
}

fn write_mount(json: &mut Json, mount: &Mount<'_>) {
    let is_bind = matches!(mount.kind, mount_kind::BIND | mount_kind::KNOWN | mount_kind::TREE);
    json.text("type", if is_bind { "bind" } else { "tmpfs" }).text("target", &text(mount.target));
    if is_bind {
        json.text("source", &text(mount.source));
    }
}

fn text(text: &CStr) -> String {
    from_bytes(text.to_bytes())
}
