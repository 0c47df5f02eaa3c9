//! kontena's verbs and options as data, from the launcher's own table, and two things made from it: docs/options.md
//! (`cargo xtask options`) and the manual pages (`cargo xtask man`). completions.rs makes the completions.

use crate::{host, setup};
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::fs;
use std::process::{Command, ExitCode};

/// Turns the launcher's `table.rs` into tables without the setters.
macro_rules! table {
    (
        verbs { $($verb:ident $([$verb_of:literal])? $name:literal $alias:literal $takes:ident($usage:literal)
            $about:literal $note:literal $example:literal $manual:literal;)* }
        $($topic:literal { $([$($of:ident)* $(; $option_of:literal)?]
            $long:literal $(-$short:ident)? $kind:ident $(($value:literal))?
            $help:literal => $set:expr;)* })*
    ) => {
        use super::{Kind, Opt, Verb};

        pub const VERBS: &[Verb] = &[$(Verb {
            id: stringify!($verb),
            name: $name,
            alias: $alias,
            usage: $usage,
            about: $about,
            note: $note,
            example: $example,
            manual: $manual,
        }),*];

        pub const OPTIONS: &[Opt] = &[$($(Opt {
            topic: $topic,
            verbs: &[$(stringify!($of)),*],
            long: $long,
            short: concat!($(stringify!($short))?),
            kind: Kind::$kind,
            value: concat!($($value)?),
            help: $help,
        }),*),*];
    };
}

#[path = "../../launcher/src/cli/table.rs"]
mod table;

/// A verb.
pub struct Verb {
    id: &'static str,
    pub name: &'static str,
    /// Its other name, or nothing.
    pub alias: &'static str,
    /// What stands behind it and its options.
    pub usage: &'static str,
    pub about: &'static str,
    note: &'static str,
    example: &'static str,
    /// The manual page's additions to the help.
    manual: &'static str,
}

/// An option.
pub struct Opt {
    topic: &'static str,
    verbs: &'static [&'static str],
    /// Without dashes.
    pub long: &'static str,
    /// A letter, or nothing.
    pub short: &'static str,
    pub kind: Kind,
    /// What its value is called.
    value: &'static str,
    pub help: &'static str,
}

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Switch,
    Value,
    Values,
    Optional,
}

/// The options before the verb, which argh reads: `launcher/src/cli/mod.rs`.
pub const GLOBAL: [Opt; 4] = [
    global("root", Kind::Value, "DIR", "Directory of the state (default: /run/kontena, or one of the user)"),
    global(
        "volumepath",
        Kind::Value,
        "DIR",
        "Directory of named volumes (default: /var/lib/kontena/volumes, or one of the user)",
    ),
    global("version", Kind::Switch, "", "Print the version"),
    global("help", Kind::Switch, "", "List the commands"),
];

const fn global(long: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Opt {
    Opt { topic: "Options", verbs: &[], long, short: "", kind, value, help }
}

const ABOUT: &str = "A small container runtime";

/// All verbs.
pub fn verbs() -> &'static [Verb] {
    table::VERBS
}

impl Verb {
    /// Its options.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> {
        table::OPTIONS.iter().filter(|option| self.has(option))
    }

    /// Whether it has an option. `create` has those of `run`, too.
    fn has(&self, option: &Opt) -> bool {
        option.verbs.contains(&self.id) || self.id == "Create" && option.verbs.contains(&"Run")
    }

    fn text(&self) -> String {
        [self.note, self.manual].iter().filter(|text| !text.is_empty()).map(|text| format!("{text}\n")).collect()
    }
}

impl Opt {
    /// `-p`, where there is one, and `--publish`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let short = Some(self.short).filter(|short| !short.is_empty());
        short.map(|short| format!("-{short}")).into_iter().chain([format!("--{}", self.long)])
    }

    /// `-p, --publish PORTS`
    fn shown(&self) -> String {
        let names = self.names().collect::<Vec<_>>().join(", ");
        match self.kind {
            Kind::Switch => names,
            Kind::Value | Kind::Values => format!("{names} {}", self.value),
            Kind::Optional => format!("{names}[={}]", self.value),
        }
    }

    /// The name of its value, if it needs one.
    pub fn value(&self) -> Option<&'static str> {
        Some(self.value).filter(|_| matches!(self.kind, Kind::Value | Kind::Values))
    }

    /// The values that it can have, where they can be listed: `no|on-failure[:N]`, and not `MODE`.
    pub fn choices(&self) -> Option<String> {
        let constant = |word: &&str| !word.is_empty();
        let cut = |word: &'static str| {
            let end = word.find(|c: char| c == '[' || c.is_ascii_uppercase()).unwrap_or(word.len());
            &word[..end]
        };
        let words: Vec<&str> = self.value.split('|').map(cut).filter(constant).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Whether its value is, or begins with, a path.
    pub fn is_file(&self) -> bool {
        ["DIR", "FILE", "VOLUME", "DEVICE"].contains(&self.value)
    }
}

/// `cargo xtask options`: writes docs/options.md.
pub fn write() -> Result<ExitCode> {
    let path = host::root().join("docs/options.md");
    fs::write(&path, document()?)?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// All verbs, and all options by topic with the verbs that have them.
fn document() -> Result<String> {
    let escaped = |text: &str| text.replace('|', "\\|");
    let mut text = String::from(
        "# Commands and options\n\n`cargo xtask options` makes this page from `launcher/src/cli/table.rs`.\n\n\
         | command | |\n|---|---|\n",
    );
    for verb in verbs() {
        let alias = if verb.alias.is_empty() { String::new() } else { format!(" (`{}`)", verb.alias) };
        let usage = format!("kontena {} {}", verb.name, verb.usage);
        writeln!(text, "| `{}`{alias} | {} |", escaped(usage.trim_end()), escaped(verb.about))?;
    }
    text += "\nBefore the command:\n\n| option | |\n|---|---|\n";
    for option in &GLOBAL {
        writeln!(text, "| `{}` | {} |", escaped(&option.shown()), escaped(option.help))?;
    }
    let mut topic = "";
    for option in table::OPTIONS {
        if option.topic != topic {
            topic = option.topic;
            writeln!(text, "\n## {topic}\n\n| option | commands | |\n|---|---|---|")?;
        }
        let names: Vec<&str> = verbs().iter().filter(|verb| verb.has(option)).map(|verb| verb.name).collect();
        let names = if names.len() == verbs().len() { "all".into() } else { names.join(", ") };
        writeln!(text, "| `{}` | {names} | {} |", escaped(&option.shown()), escaped(option.help))?;
    }
    Ok(text)
}

/// `cargo xtask man`: writes a page for kontena and one for each verb into target/man/.
pub fn man() -> Result<ExitCode> {
    let directory = host::target_dir().join("man");
    fs::create_dir_all(&directory)?;
    let mut commands = String::from(".SH COMMANDS\n");
    for verb in verbs() {
        writeln!(commands, ".TP\n\\fBkontena\\-{}\\fR(1)\n{}", verb.name, roff(verb.about))?;
    }
    let mut pages = vec![("kontena".to_owned(), page("kontena", ABOUT, "COMMAND [ARG...]", "", &GLOBAL, &commands)?)];
    for verb in verbs() {
        let example = format!(".SH EXAMPLES\n.EX\n{}\n.EE\n.SH SEE ALSO\n\\fBkontena\\fR(1)\n", roff(verb.example));
        let name = format!("kontena-{}", verb.name);
        let page = page(&name, verb.about, verb.usage, &verb.text(), verb.options(), &example)?;
        pages.push((name, page));
    }
    for (name, text) in pages {
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, text)?;
        println!("{}", path.display());
        if setup::installed("groff") {
            let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output()?;
            ensure!(output.stderr.is_empty(), "groff: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn page<'a>(
    name: &str,
    about: &str,
    usage: &str,
    text: &str,
    options: impl IntoIterator<Item = &'a Opt>,
    end: &str,
) -> Result<String> {
    let mut page = format!(
        ".TH {} 1 \"\" \"kontena {}\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n\\fB{}\\fR [OPTIONS] {}\n",
        name.to_uppercase().replace('-', "\\-"),
        env!("CARGO_PKG_VERSION"),
        roff(name),
        roff(about),
        roff(&name.replacen('-', " ", 1)),
        roff(usage),
    );
    write!(page, ".SH DESCRIPTION\n{}.\n", roff(about))?;
    for paragraph in text.lines() {
        writeln!(page, ".PP\n{}", roff(paragraph))?;
    }
    let mut topic = "";
    for option in options {
        if option.topic != topic {
            topic = option.topic;
            writeln!(
                page,
                "{} {}",
                if topic == "Options" { ".SH" } else { ".SS" },
                topic.replace("Options", "OPTIONS")
            )?;
        }
        writeln!(page, ".TP\n\\fB{}\\fR\n{}.", roff(&option.shown()), roff(option.help))?;
    }
    page += end;
    Ok(page)
}

/// Text for roff(7), to which a backslash, a dash, and a dot or quote at the start of a line mean something.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_what_the_table_says() {
        let path = host::root().join("docs/options.md");
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(document().is_ok_and(|text| text == written), "run cargo xtask options");
    }

    #[test]
    fn choices_are_what_is_not_a_name() {
        let choices = |long| table::OPTIONS.iter().find(|option| option.long == long).and_then(Opt::choices);
        assert_eq!(choices("restart").as_deref(), Some("no on-failure always unless-stopped"));
        assert_eq!(choices("userns").as_deref(), Some("host auto keep-id map="));
        assert_eq!(choices("net").as_deref(), Some("bridge none host"));
        assert_eq!(choices("publish"), None);
        assert_eq!(choices("detach"), None);
    }
}
