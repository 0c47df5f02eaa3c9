//! `cargo xtask completions`: what bash, zsh and fish need to complete kontena's command lines, in dist/completions/. It is made
//! of kontena's own help texts, so that there is one source for both, and tried in the shells that are installed.

use crate::arch::Arch;
use crate::dist;
use crate::setup;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// A verb, or kontena itself.
struct Verb {
    name: String,
    about: String,
    options: Vec<Opt>,
    /// What its positional arguments are: `name`, `rootfs`, `command`.
    positionals: Vec<String>,
}

struct Opt {
    short: Option<String>,
    long: String,
    about: String,
    /// What its value is called, where it has one.
    value: Option<String>,
}

/// Values that can be listed, by the names of their options.
const VALUES: [(&str, &str); 7] = [
    ("--format", "table json"),
    ("--publish-via", "nft relay"),
    ("--restart", "no on-failure always unless-stopped"),
    ("--log-driver", "cri none"),
    ("--seccomp", "default unconfined"),
    ("--health-on-failure", "none kill restart"),
    ("--net", "bridge none host"),
];

/// What values that are files or directories are called.
const FILES: [&str; 4] = ["dir", "file", "volume", "device"];

/// `cargo xtask completions`
pub fn completions() -> Result<ExitCode> {
    let arch = Arch::native()?;
    let kontena = dist::small(arch)?.join("kontena");
    let verbs = read_help(&kontena)?;
    let directory = dist::small_dir(arch).join("completions");
    fs::create_dir_all(&directory)?;
    for (name, text) in [("kontena.bash", bash(&verbs)?), ("_kontena", zsh(&verbs)?), ("kontena.fish", fish(&verbs)?)] {
        let path = directory.join(name);
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    try_out(&directory, &kontena)
}

fn help(kontena: &Path, verb: &str) -> Result<String> {
    let mut command = Command::new(kontena);
    command.args([verb, "--help"].iter().filter(|word| !word.is_empty()));
    let output = command.output().with_context(|| kontena.display().to_string())?;
    ensure!(output.status.success(), "{verb} --help: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// kontena itself first, and then its verbs.
fn read_help(kontena: &Path) -> Result<Vec<Verb>> {
    let text = help(kontena, "")?;
    let mut verbs = vec![parse("", "", &text)];
    for (name, about) in entries(&text, "Commands:") {
        verbs.push(parse(&name, &about, &help(kontena, &name)?));
    }
    ensure!(verbs.len() > 10, "kontena --help lists {} verbs: has its form changed?", verbs.len() - 1);
    Ok(verbs)
}

fn parse(name: &str, about: &str, text: &str) -> Verb {
    let usage = text.lines().next().unwrap_or_default();
    let mut options = Vec::new();
    for (names, about) in entries(text, "Options:").into_iter().filter(|(names, _)| !names.starts_with("--help")) {
        let (short, long) = match names.split_once(", ") {
            Some((short, long)) => (Some(short.to_owned()), long.to_owned()),
            None => (None, names),
        };
        // [-p <ports...>], or [--net <mode>].
        let shown = short.as_deref().unwrap_or(&long);
        let value = usage.split_once(&format!("[{shown} <")).and_then(|(_, rest)| rest.split_once('>'));
        let value = value.map(|(value, _)| value.trim_end_matches("...").to_owned());
        options.push(Opt { short, long, about, value });
    }
    let positionals = entries(text, "Positional Arguments:").into_iter().map(|(name, _)| name).collect();
    Verb { name: name.into(), about: about.into(), options, positionals }
}

/// The entries of a section of a help text: what is left, and what is said of it.
fn entries(text: &str, section: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.is_empty()) {
        match line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            // What is left has no two spaces in it, unless it is so long that there is only one behind it.
            Some(entry) => {
                let (left, about) = entry.split_once("  ").unwrap_or_else(|| {
                    let end = entry.rfind("--").and_then(|at| Some(at + entry[at..].find(' ')?)).unwrap_or(entry.len());
                    entry.split_at(end)
                });
                all.push((left.trim().into(), about.trim().into()));
            }
            None => {
                if let Some((_, about)) = all.last_mut() {
                    let separator = if about.is_empty() { "" } else { " " };
                    *about += &format!("{separator}{}", line.trim());
                }
            }
        }
    }
    all
}

impl Opt {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.short.as_deref().into_iter().chain([&*self.long])
    }

    fn values(&self) -> Option<&'static str> {
        VALUES.iter().find(|(name, _)| *name == self.long).map(|(_, values)| *values)
    }

    fn is_file(&self) -> bool {
        self.value.as_ref().is_some_and(|value| FILES.contains(&&**value))
    }
}

fn bash(verbs: &[Verb]) -> Result<String> {
    let names = |verb: &Verb| verb.options.iter().flat_map(Opt::names).collect::<Vec<_>>().join(" ");
    let mut text = String::from(
        "# kontena's completion for bash: source it, or put it into /usr/share/bash-completion/completions/kontena.\n\
         _kontena() {\n    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at i\n    \
         COMPREPLY=()\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n            \
         --root) ((i++)) ;;\n            -*) ;;\n            *) verb=${COMP_WORDS[i]} at=$i; break ;;\n        esac\n    \
         done\n    case $before in\n",
    );
    let mut valued = Vec::new();
    for option in verbs.iter().flat_map(|verb| &verb.options) {
        let pattern = option.names().collect::<Vec<_>>().join("|");
        if option.value.is_none() || valued.contains(&pattern) {
            continue;
        }
        match option.values() {
            Some(values) => {
                writeln!(text, "        {pattern}) COMPREPLY=($(compgen -W '{values}' -- \"$word\")); return ;;")?
            }
            None if option.is_file() => {
                writeln!(text, "        {pattern}) COMPREPLY=($(compgen -f -- \"$word\")); return ;;")?;
            }
            None => {}
        }
        valued.push(pattern);
    }
    text += "    esac\n    case $verb in\n";
    let all: Vec<&str> = verbs[1..].iter().map(|verb| &*verb.name).collect();
    writeln!(text, "        '') COMPREPLY=($(compgen -W '{} {}' -- \"$word\")) ;;", all.join(" "), names(&verbs[0]))?;
    for verb in &verbs[1..] {
        let names = names(verb);
        let what = match &verb.positionals[..] {
            [first, ..] if first == "rootfs" => "-f",
            [first, ..] if first == "name" => "-W \"$(kontena list -q 2>/dev/null)\"",
            _ => "-W ''",
        };
        writeln!(
            text,
            "        {}) if [[ $word == -* ]]; then COMPREPLY=($(compgen -W '{names} --help' -- \"$word\")); \
             else COMPREPLY=($(compgen {what} -- \"$word\")); fi ;;",
            pattern(&verb.name)
        )?;
    }
    text += "    esac\n}\ncomplete -o filenames -F _kontena kontena\n";
    Ok(text)
}

/// A verb, and what else it goes by.
fn pattern(verb: &str) -> String {
    match verb {
        "list" => "list|ls".into(),
        "delete" => "delete|rm".into(),
        _ => verb.into(),
    }
}

fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh(verbs: &[Verb]) -> Result<String> {
    let mut text = String::from(
        "#compdef kontena\n# kontena's completion for zsh: put it into a directory of $fpath.\n\n\
         _kontena_names() { local names=(${(f)\"$(kontena list -q 2>/dev/null)\"}); compadd -a names }\n\n\
         _kontena() {\n    local state line curcontext=$curcontext\n    local -a verbs=(\n",
    );
    // Behind a colon, and in brackets, those two are to be escaped.
    let escaped = |text: &str| quoted(text).replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    for verb in &verbs[1..] {
        writeln!(text, "        '{}:{}'", verb.name, escaped(&verb.about))?;
    }
    text += "    )\n    _arguments -C \\\n";
    let option_lines = |text: &mut String, indent: &str, verb: &Verb| -> Result<()> {
        for option in &verb.options {
            for name in option.names() {
                let value = match (&option.value, option.values()) {
                    (None, _) => String::new(),
                    (Some(value), Some(values)) => format!(":{value}:({values})"),
                    (Some(value), None) if option.is_file() => format!(":{value}:_files"),
                    (Some(value), None) => format!(":{value}: "),
                };
                writeln!(text, "{indent}'*{name}[{}]{value}' \\", escaped(&option.about))?;
            }
        }
        Ok(())
    };
    option_lines(&mut text, "        ", &verbs[0])?;
    text += "        '1: :->verb' '*:: :->rest'\n    case $state in\n        verb) _describe verb verbs ;;\n        rest)\n            \
             case $line[1] in\n";
    for verb in &verbs[1..] {
        writeln!(text, "                {}) _arguments -S \\", pattern(&verb.name))?;
        option_lines(&mut text, "                    ", verb)?;
        let rest = match &verb.positionals[..] {
            [first, second] if first == "rootfs" && second == "command" => "'1:rootfs:_files' '*::command:_normal'",
            [first] if first == "rootfs" => "'1:rootfs:_files' '*::command:_normal'",
            [first, ..] if first == "name" && verb.name == "exec" => "'1:name:_kontena_names' '*::command:_normal'",
            [first, ..] if first == "name" => "'*:name:_kontena_names'",
            _ => "'*: :'",
        };
        writeln!(text, "                    '--help[display usage information]' {rest} ;;")?;
    }
    text += "            esac ;;\n    esac\n}\n\n_kontena \"$@\"\n";
    Ok(text)
}

fn fish(verbs: &[Verb]) -> Result<String> {
    let all: Vec<String> = verbs[1..].iter().map(|verb| pattern(&verb.name).replace('|', " ")).collect();
    let mut text = String::from(
        "# kontena's completion for fish: put it into ~/.config/fish/completions/ or /usr/share/fish/vendor_completions.d/.\n\
         complete -c kontena -f\n",
    );
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let none = format!("not __fish_seen_subcommand_from {}", all.join(" "));
    let option = |text: &mut String, condition: &str, option: &Opt| -> Result<()> {
        write!(text, "complete -c kontena -n '{condition}'")?;
        if let Some(short) = &option.short {
            write!(text, " -s {}", short.trim_start_matches('-'))?;
        }
        write!(text, " -l {}", option.long.trim_start_matches('-'))?;
        match (&option.value, option.values()) {
            (None, _) => {}
            (Some(_), Some(values)) => write!(text, " -x -a '{values}'")?,
            (Some(_), None) if option.is_file() => write!(text, " -r -F")?,
            (Some(_), None) => write!(text, " -x")?,
        }
        writeln!(text, " -d '{}'", escaped(&option.about))?;
        Ok(())
    };
    for one in &verbs[0].options {
        option(&mut text, &none, one)?;
    }
    for verb in &verbs[1..] {
        writeln!(text, "complete -c kontena -n '{none}' -a {} -d '{}'", verb.name, escaped(&verb.about))?;
        let condition = format!("__fish_seen_subcommand_from {}", pattern(&verb.name).replace('|', " "));
        for one in &verb.options {
            option(&mut text, &condition, one)?;
        }
        match verb.positionals.first().map(String::as_str) {
            Some("rootfs") => writeln!(text, "complete -c kontena -n '{condition}' -F")?,
            Some("name") => writeln!(text, "complete -c kontena -n '{condition}' -a '(kontena list -q 2>/dev/null)'")?,
            _ => {}
        }
    }
    Ok(text)
}

/// Asks each shell that is installed what it would complete.
fn try_out(directory: &Path, kontena: &Path) -> Result<ExitCode> {
    let path = format!("{}:{}", kontena.parent().context("kontena's directory")?.display(), std::env::var("PATH")?);
    let bash = format!(
        "source {}/kontena.bash; COMP_WORDS=(kontena lo); COMP_CWORD=1; _kontena; echo \"${{COMPREPLY[@]}}\"; \
         COMP_WORDS=(kontena run --restart on); COMP_CWORD=3; _kontena; echo \"${{COMPREPLY[@]}}\"; \
         COMP_WORDS=(kontena stop --ti); COMP_CWORD=2; _kontena; echo \"${{COMPREPLY[@]}}\"",
        directory.display()
    );
    let fish = format!(
        "source {}/kontena.fish; complete -C 'kontena lo'; complete -C 'kontena run --restart on'; complete -C 'kontena stop --ti'",
        directory.display()
    );
    let zsh = format!(
        "autoload -U compinit; fpath=({} $fpath); compinit -D -u; autoload +X _kontena; whence -w _kontena",
        directory.display()
    );
    let mut failed = false;
    for (shell, script, expected) in [
        ("bash", &bash, &["logs", "on-failure", "--time"][..]),
        ("fish", &fish, &["logs", "on-failure", "--time"]),
        ("zsh", &zsh, &["_kontena: function"]),
    ] {
        if !setup::installed(shell) {
            eprintln!("- {shell} is not installed: its completion was not tried");
            continue;
        }
        let output = Command::new(shell).args(["-c", script]).env("PATH", &path).stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let ok = complaint.is_empty() && expected.iter().all(|word| told.contains(word));
        failed |= !ok;
        eprintln!("{} {shell}", if ok { "✓" } else { "✗" });
        if !ok {
            eprintln!("it was to complete {expected:?}:\n{told}{complaint}");
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
