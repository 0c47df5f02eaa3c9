//! A profile of an engine's: for kontena as JSON, for libseccomp as rules, and the calls that show its edges.

use crate::arch::Arch;
use crate::host;
use anyhow::{Context, Result};
use linux_raw_sys::ptrace::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

/// A profile for an architecture.
pub struct Profile {
    /// The file's name.
    pub name: &'static str,
    /// What it is for.
    pub arch: &'static Arch,
    /// `linux.seccomp`.
    pub json: Value,
    /// The same for libseccomp; see filters/libseccomp.c.
    pub rules: String,
    /// SECCOMP_RET_* of calls without a rule.
    pub default: u32,
    /// By the names of calls, the arguments that their rules look at, and the values.
    edges: BTreeMap<String, BTreeMap<usize, BTreeSet<u64>>>,
}

/// Operators in the order of libseccomp's numbers, from 1 on.
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

impl Profile {
    /// The one of a config.json in tests/configs.
    pub fn read(name: &'static str, arch: &'static Arch) -> Result<Self> {
        let path = host::root().join("tests/configs").join(name).with_extension("json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut config: Value = serde_json::from_str(&text)?;
        let mut json = config["linux"]["seccomp"].take();
        if arch.name != "x86_64" {
            json["architectures"] = json!([format!("SCMP_ARCH_{}", arch.name.to_uppercase())]);
        }
        let default = action(&json["defaultAction"], &json["defaultErrnoRet"])?;
        let mut profile =
            Self { name, arch, json, rules: format!("default {default}\n"), default, edges: BTreeMap::new() };
        for other in array(&profile.json["architectures"]) {
            let other = other.as_str().context("an architecture")?.trim_start_matches("SCMP_ARCH_").to_lowercase();
            writeln!(profile.rules, "arch {other}")?;
        }
        for rule in array(&profile.json["syscalls"]).to_vec() {
            profile.add(&rule)?;
        }
        Ok(profile)
    }

    /// Adds a rule as runc does: conditions on one argument are rules of their own.
    fn add(&mut self, rule: &Value) -> Result<()> {
        let action = action(&rule["action"], &rule["errnoRet"])?;
        let (mut conditions, mut arguments) = (Vec::new(), BTreeSet::new());
        let mut is_repeated = false;
        for condition in array(&rule["args"]) {
            let operator = condition["op"].as_str().context("an operator")?.trim_start_matches("SCMP_CMP_");
            let number = 1 + OPERATORS.iter().position(|known| *known == operator).context("an operator")?;
            let argument = condition["index"].as_u64().context("an index")?;
            let [value, second] = ["value", "valueTwo"].map(|name| condition[name].as_u64().unwrap_or(0));
            is_repeated |= !arguments.insert(argument);
            conditions.push((argument as usize, value, second, format!(" {argument} {number} {value} {second}")));
        }
        for name in array(&rule["names"]) {
            let name = name.as_str().context("a name")?;
            let edges = self.edges.entry(name.into()).or_default();
            for (argument, value, second, _) in &conditions {
                edges.entry(*argument).or_default().extend([*value, *second]);
            }
            let mut put = |conditions: &str| writeln!(self.rules, "rule {action} {name}{conditions}");
            if is_repeated {
                conditions.iter().try_for_each(|(.., text)| put(text))?;
            } else {
                put(&conditions.iter().map(|(.., text)| text.as_str()).collect::<String>())?;
            }
        }
        Ok(())
    }

    /// The profile's names that have this number.
    pub fn names_at(&self, known: Option<&BTreeMap<String, i32>>, number: u32) -> Vec<String> {
        let known = known.into_iter().flatten();
        known.filter(|(_, known)| **known == number as i32).map(|(name, _)| name.clone()).collect()
    }

    /// Arguments of calls with these names: all edges of those that a rule looks at, each with each of another, and
    /// some for calls that none does.
    pub fn arguments(&self, names: &[String]) -> Vec<[u64; 6]> {
        let mut edges: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for (argument, values) in names.iter().filter_map(|name| self.edges.get(name)).flatten() {
            let near = values.iter().flat_map(|value| {
                let high = [1 << 32, 1 << 63, 0xffff_ffff << 32].map(|bits| value | bits);
                let near = [*value, value.wrapping_sub(1), value.wrapping_add(1), !value, value << 1, value << 32];
                [&near[..], &high].concat()
            });
            let bits = (0..64).map(|bit| 1 << bit);
            let all = near.chain(bits).chain([0, u64::from(u32::MAX), u64::MAX]);
            edges.entry(*argument).or_default().extend(all);
        }
        let mut all = vec![[0; 6], [1; 6], [u64::MAX; 6], [1 << 32; 6], [0x1_0000; 6]];
        // socketcall and ipc of i386 tell by their first argument what they do.
        all.extend((0..32).map(|first| [first, 0, 0, 0, 0, 0]));
        for (argument, values) in &edges {
            let before = all.clone();
            for value in values {
                all.extend(before.iter().map(|arguments| {
                    let mut arguments = *arguments;
                    arguments[*argument] = *value;
                    arguments
                }));
            }
        }
        all
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// SECCOMP_RET_*, which are libseccomp's numbers, too.
fn action(action: &Value, errno: &Value) -> Result<u32> {
    let errno = errno.as_u64().unwrap_or(1) as u32;
    Ok(match action.as_str().context("an action")? {
        "SCMP_ACT_ALLOW" => SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => SECCOMP_RET_ERRNO | errno,
        "SCMP_ACT_TRACE" => SECCOMP_RET_TRACE | errno,
        "SCMP_ACT_LOG" => SECCOMP_RET_LOG,
        "SCMP_ACT_TRAP" => SECCOMP_RET_TRAP,
        "SCMP_ACT_NOTIFY" => SECCOMP_RET_USER_NOTIF,
        "SCMP_ACT_KILL_PROCESS" => SECCOMP_RET_KILL_PROCESS,
        _ => SECCOMP_RET_KILL_THREAD,
    })
}
