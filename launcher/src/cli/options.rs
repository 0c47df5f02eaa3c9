//! The types of the table of options (`table.rs`), and the parser that reads a command line by it.
//!
//! The texts of a row are one string, separated by NULs: a row of 32 bytes instead of 64. Must not know what any option
//! is for.

use crate::cli::engine;
use crate::cli::given::Given;
use crate::cli::refused;
use crate::cli::table::{MISSING, TOPICS, VERBS, Verb};
use crate::config::wrong;
use crate::error::{Error, Parsed, Result};
use crate::gather::Gather;
use crate::text::place_of;
use argh::CommandInfo;
use std::ffi::OsString;

/// Turns `table.rs` into the launcher's tables: [`Verb`], VERBS, COMMANDS and TOPICS.
macro_rules! table {
    (
        verbs { $($verb:ident $([$verb_of:literal])? $name:literal $alias:literal $takes:ident($usage:literal)
            $about:literal $note:literal $example:literal $manual:literal;)* }
        $($topic:literal { $([$($of:ident)* $(; $option_of:literal)?]
            $long:literal $(-$short:ident)? $kind:ident $(($value:literal))?
            $help:literal => $set:expr;)* })*
    ) => {
        use crate::cli::given::*;
        use crate::cli::options::{self, Entry, Kind, Opt, Takes, Topic};
        use crate::config::names;
        use crate::config::network;
        use crate::config::publish;
        use crate::config::capabilities;
        use crate::config;
        use crate::config::devices;
        use crate::config::labels;
        use crate::config::lifecycle;
        use crate::config::limits;
        use crate::config::process;
        use crate::config::security::{self, Security};
        use crate::config::systemd;
        use crate::config::userns;
        use crate::config::volumes;
        use argh::CommandInfo;

        /// What kontena can be asked to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Verb { $(#[allow(missing_docs)] $verb),* }

        /// The verbs of this kontena.
        pub static VERBS: &[Entry] = &[$($(#[cfg(feature = $verb_of)])? Entry {
            verb: Verb::$verb,
            takes: Takes::$takes,
            info: CommandInfo { name: $name, short: &'\0', description: $about },
            text: concat!($alias, "\0", $usage, "\0", $note, "\0", $example),
        }),*];

        /// Their names and descriptions, for argh.
        pub static COMMANDS: &[&CommandInfo] = &{
            let mut commands = [&VERBS[0].info; VERBS.len()];
            let mut index = 0;
            while index < commands.len() {
                commands[index] = &VERBS[index].info;
                index += 1;
            }
            commands
        };

        /// The options of this kontena.
        pub static TOPICS: &[Topic] = &[$(Topic {
            title: $topic,
            options: &[$($(#[cfg(feature = $option_of)])? Opt {
                text: concat!($long, "\0", $($value,)? "\0", $help),
                short: concat!($(stringify!($short),)? "\0").as_bytes()[0],
                kind: Kind::$kind,
                verbs: 0 $(| 1 << Verb::$of as u32)*,
                set: $set,
            }),*],
        }),*];

        /// The verbs and options of another kontena, on each line the Cargo feature, the name, and the alias or the
        /// letter.
        pub const MISSING: &str = {
            const ROWS: &[&str] = &[
                $(#[cfg(not(all($(feature = $verb_of)?)))]
                concat!($($verb_of,)? " ", $name, " ", $alias, "\n"),)*
                $($(#[cfg(not(all($(feature = $option_of)?)))]
                concat!($($option_of,)? " --", $long, " " $(, "-", stringify!($short))?, "\n"),)*)*
            ];
            const JOINED: [u8; options::length(ROWS)] = options::join(ROWS);
            match str::from_utf8(&JOINED) {
                Ok(rows) => rows,
                Err(_) => unreachable!(),
            }
        };
    };
}

/// How many bytes the rows have.
pub const fn length(mut rows: &[&str]) -> usize {
    let mut length = 0;
    while let [row, rest @ ..] = rows {
        (length, rows) = (length + row.len(), rest);
    }
    length
}

/// The rows in one: each by itself would take 16 bytes more.
pub const fn join<const LENGTH: usize>(mut rows: &[&str]) -> [u8; LENGTH] {
    let (mut all, mut at) = ([0; LENGTH], 0);
    while let [row, rest @ ..] = rows {
        all.split_at_mut(at).1.split_at_mut(row.len()).0.copy_from_slice(row.as_bytes());
        (at, rows) = (at + row.len(), rest);
    }
    all
}

/// Why this kontena lacks a verb or an option that others have.
fn missing(name: &str) -> Option<Error> {
    if MISSING.is_empty() {
        return None;
    }
    let mut rows = MISSING.lines().filter_map(|row| row.split_once(' '));
    let (feature, _) = rows.find(|(_, names)| !name.is_empty() && place_of(name, names).is_some())?;
    Some(Error::without(format_args!("{name}"), feature))
}

/// An option.
pub struct Opt {
    /// Its name, the name of its value, and its help, separated by NULs.
    pub text: &'static str,
    /// Its letter; 0 if it has none.
    pub short: u8,
    /// Whether it has a value.
    pub kind: Kind,
    /// The verbs that have it: bit n stands for verb n.
    pub verbs: u32,
    /// Sets it. The hint says what the value should have been.
    pub set: fn(&mut Given, &'static str) -> Parsed<()>,
}

/// Whether an option has a value, and how often it may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No value; any number of times.
    Switch,
    /// A value; once.
    Value,
    /// A value each time; any number of times.
    Values,
    /// A value after `=`, or none; once.
    Optional,
}

/// The options of one topic.
pub struct Topic {
    /// The heading in the help.
    pub title: &'static str,
    /// Its options, in the order in which they are set.
    pub options: &'static [Opt],
}

/// A verb.
pub struct Entry {
    /// Which one it is.
    pub verb: Verb,
    /// Its arguments besides options.
    pub takes: Takes,
    /// Its name and description.
    pub info: CommandInfo,
    /// Its alias, its usage, a note, and an example, separated by NULs.
    pub text: &'static str,
}

/// The arguments of a verb besides options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One name.
    One,
    /// Any number of names; options may stand among them.
    Many,
    /// A rootfs or a name, and a command. Options end at the first of them.
    Command,
}

/// The arguments of a verb, sorted.
pub struct Line<'a> {
    /// The options: their place among the options of the verb, and their value. In the order of the table.
    pub options: Vec<(usize, &'static Opt, &'a str)>,
    /// The names.
    pub names: Vec<&'a str>,
    /// For a verb that takes a command: everything from the first argument that is not an option. Need not be UTF-8.
    pub command: &'a [OsString],
    /// Whether `--help` is among the options.
    pub wants_help: bool,
}

/// Part `index` of texts that are separated by NULs.
fn part(text: &'static str, index: usize) -> &'static str {
    text.split('\0').nth(index).unwrap_or_default()
}

impl Opt {
    /// Whether this is its name. The lengths differ most often, so they are compared first.
    pub fn is(&self, name: &str) -> bool {
        self.text.as_bytes().get(name.len()) == Some(&0) && self.text.starts_with(name)
    }

    /// Its name, without dashes.
    pub fn name(&self) -> &'static str {
        part(self.text, 0)
    }

    /// The name of its value.
    pub fn value(&self) -> &'static str {
        part(self.text, 1)
    }

    /// Its help.
    pub fn help(&self) -> &'static str {
        part(self.text, 2)
    }
}

impl Entry {
    /// Its alias, or nothing.
    pub fn alias(&self) -> &'static str {
        part(self.text, 0)
    }

    /// Its arguments besides options, as its usage line shows them.
    pub fn usage(&self) -> &'static str {
        part(self.text, 1)
    }

    /// More about it, or nothing.
    pub fn note(&self) -> &'static str {
        part(self.text, 2)
    }

    /// A command line.
    pub fn example(&self) -> &'static str {
        part(self.text, 3)
    }

    /// Its bits in [`Opt::verbs`]: `create` has the options of `run`, and its own.
    pub fn bit(&self) -> u32 {
        1 << self.verb as u32 | if self.verb == Verb::Create { 1 << Verb::Run as u32 } else { 0 }
    }

    /// Its options.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> {
        let bit = self.bit();
        TOPICS.iter().flat_map(|topic| topic.options).filter(move |option| option.verbs & bit != 0)
    }

    /// A mistake in its arguments.
    fn mistake(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::usage(what, &format!("see kontena {} --help", self.info.name))
    }

    /// The option of this name, `--name` or `-n`, and its place among the options of this verb.
    pub fn find(&self, name: &str) -> Result<(usize, &'static Opt)> {
        let (long, letter) = match (name.strip_prefix("--"), name.as_bytes()) {
            // docker's name, and runc's.
            (Some("network"), _) => ("net", 0),
            (Some("cwd"), _) if cfg!(feature = "oci") => ("workdir", 0),
            (Some("cap"), _) if cfg!(feature = "oci") => ("cap-add", 0),
            (Some("cpu-share"), _) if cfg!(feature = "oci") => ("cpu-shares", 0),
            (Some(long), _) => (long, 0),
            (None, [_, letter]) => ("", *letter),
            _ => ("", 0),
        };
        let is_it = |option: &Opt| if letter == 0 { option.is(long) } else { option.short == letter };
        let found = self.options().enumerate().find(|(_, option)| is_it(option));
        found.ok_or_else(|| {
            // Of run, and of what else has a rootfs.
            if self.usage().starts_with("ROOTFS")
                && let Some(reason) = refused::reason(name.trim_start_matches('-'))
            {
                return Error::usage(format_args!("{name}"), reason);
            }
            if let Some(error) = missing(name) {
                return error;
            }
            let Some(usage) = before_verb(name) else {
                return self.mistake(format_args!("unknown option {name}"));
            };
            let verb = self.info.name;
            let hint = format!("it stands before the command: kontena {usage} {verb}");
            Error::usage(format_args!("{name} behind {verb}"), &hint)
        })
    }

    /// Sorts the arguments of this verb. Values are not judged yet.
    pub fn read<'a>(&self, args: &'a [OsString]) -> Result<Line<'a>> {
        let mut line = Line { options: Vec::with_capacity(16), names: Vec::new(), command: &[], wants_help: false };
        let mut takes_command = self.takes == Takes::Command;
        let mut rest = args;
        while let Some((arg, behind)) = rest.split_first() {
            let is_option = arg.as_encoded_bytes().starts_with(b"-") && arg != "-";
            if takes_command && (arg == "--" || !is_option) {
                let given = line.options.iter().map(|(_, option, _)| option.name());
                takes_command = !engine::has_its_options(self.verb, given, behind);
            }
            if arg == "--" || takes_command && !is_option {
                line.command = if arg == "--" { behind } else { rest };
                break;
            }
            rest = behind;
            let text = utf8(arg)?;
            if !is_option {
                line.names.push(text);
            } else if text.starts_with("--") {
                let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
                self.take(&mut line, name, value, &mut rest)?;
            } else {
                // One letter, as -p, with or without a value behind it; several if the first ones are switches, as -it.
                let mut letters = &text[1..];
                while let Some(letter) = letters.chars().next() {
                    letters = &letters[letter.len_utf8()..];
                    let value = Some(letters).filter(|letters| !letters.is_empty());
                    if self.take(&mut line, &format!("-{letter}"), value, &mut rest)? != Kind::Switch {
                        break;
                    }
                }
            }
        }
        if !takes_command {
            for arg in std::mem::take(&mut line.command) {
                line.names.push(utf8(arg)?);
            }
        }
        let most = match self.takes {
            Takes::Nothing => 0,
            Takes::One => 1,
            Takes::Many | Takes::Command => usize::MAX,
        };
        match line.names.get(most) {
            Some(name) if !line.wants_help => Err(self.mistake(format_args!("unexpected argument {name}"))),
            _ => Ok(line),
        }
    }

    /// Adds an option to `line`. A value that it needs and that was not given with it is the next of the `rest`.
    fn take<'a>(
        &self,
        line: &mut Line<'a>,
        name: &str,
        mut value: Option<&'a str>,
        rest: &mut &'a [OsString],
    ) -> Result<Kind> {
        let (place, option) = self.find(name)?;
        match (option.kind, value) {
            (Kind::Switch, Some(text)) if name.starts_with("--") => {
                return Err(Error::usage(format_args!("{name}={text}"), &format!("{name} takes no value")));
            }
            (Kind::Value | Kind::Values, None) => {
                let Some((next, behind)) = rest.split_first() else {
                    return Err(self.mistake(format_args!("{name} needs a value: {name} {}", option.value())));
                };
                (value, *rest) = (Some(utf8(next)?), behind);
            }
            _ => {}
        }
        let end = line.options.partition_point(|(other, ..)| *other <= place);
        let is_again = end > 0 && line.options[end - 1].0 == place;
        if is_again && matches!(option.kind, Kind::Value | Kind::Optional) {
            return Err(self.mistake(format_args!("--{} is given twice", option.name())));
        }
        line.wants_help |= option.is("help");
        line.options.insert(end, (place, option, value.unwrap_or_default()));
        Ok(option.kind)
    }
}

impl Line<'static> {
    /// Sets the options.
    pub fn set(&self, given: &mut Given) -> Result<()> {
        self.options.iter().try_for_each(|(_, option, text)| {
            (option.set)(given, text).map_err(|hint| {
                let shown = if option.is("env") { key(text) } else { text };
                wrong(&format!("--{}", option.name()), shown, hint)
            })
        })
    }

    /// Whether it has the option of this name.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(_, option, _)| option.is(name))
    }

    /// The name of the first option that begins with `prefix`.
    pub fn first(&self, prefix: &str) -> Option<&'static str> {
        self.options.iter().map(|(_, option, _)| option.name()).find(|name| name.starts_with(prefix))
    }
}

/// The verb of this name or alias.
pub fn verb(name: &str) -> Option<&'static Entry> {
    VERBS.iter().find(|verb| verb.info.name == name || !name.is_empty() && verb.alias() == name)
}

/// The option of this name that stands before the verb, with its value. `--help` stands anywhere.
fn before_verb(name: &str) -> Option<&'static str> {
    ["--root DIR", "--volumepath DIR", "--version"].into_iter().find(|usage| usage.split(' ').next() == Some(name))
}

/// Checks an argument that stands before the verb, and is none. Values are not judged yet.
pub fn check_before_verb(text: &str) -> Result<()> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if before_verb(name).is_some() || matches!(text, "help" | "--help" | "-h") {
        return Ok(());
    }
    if name.starts_with('-') {
        let hint = "options of a command stand behind it; see kontena --help";
        return Err(Error::usage(format_args!("unknown option {name}"), hint));
    }
    if let Some(error) = missing(text) {
        return Err(error);
    }
    if cfg!(feature = "oci") && matches!(text, "checkpoint" | "restore") {
        return Err(Error::usage(format_args!("{text}"), "kontena does not checkpoint containers").with_status(1));
    }
    let mut names: Vec<_> = VERBS.iter().map(|verb| verb.info.name).list();
    // One with another ending, or with letters that are swapped.
    if let Some(nearest) = names.iter().position(|name| difference(name, text) <= 2) {
        names[..=nearest].rotate_right(1);
    }
    Err(Error::usage(format_args!("unknown command \"{text}\""), &format!("give one of {}", names.join(", "))))
}

/// How many letters one of the words has and the other has not; a swap of two counts for nothing.
fn difference(one: &str, other: &str) -> usize {
    let lacks = |a: &str, b: &str| a.chars().filter(|letter| !b.contains(*letter)).count();
    lacks(one, other) + lacks(other, one) + one.len().abs_diff(other.len())
}

/// An argument that has to be text.
pub fn utf8(arg: &OsString) -> Result<&str> {
    arg.to_str().ok_or_else(|| {
        let text = arg.to_string_lossy();
        let shown = if text.starts_with("--") && !text.starts_with("--env=") { &text } else { key(&text) };
        Error::usage(format_args!("option \"{shown}\""), "not UTF-8: options are text")
    })
}

/// `KEY=` of `KEY=VALUE`, for errors: the value of a variable may be a secret, and errors go to logs.
fn key(text: &str) -> &str {
    text.split_inclusive('=').next().unwrap_or_default()
}
