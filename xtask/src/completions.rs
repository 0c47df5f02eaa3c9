//! `cargo xtask completions`: what bash, zsh and fish need to complete kontena's command lines, in dist/completions/.
//! It is made of the launcher's table of options, and tried in the shells that are installed.

use crate::arch::Arch;
use crate::dist;
use crate::options::{GLOBAL, Opt, Verb, verbs};
use crate::setup;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// `cargo xtask completions`
pub fn completions() -> Result<ExitCode> {
    let arch = Arch::native()?;
    let kontena = dist::small(arch)?.join("kontena");
    let help = Command::new(&kontena).arg("--help").output()?;
    let help = String::from_utf8_lossy(&help.stdout);
    let listed: Vec<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  --")?.split([' ', ',']).next()).collect();
    let known: Vec<&str> = GLOBAL.iter().map(|option| option.long).collect();
    ensure!(listed == known, "kontena --help lists {listed:?}, and GLOBAL in options.rs {known:?}");
    let directory = dist::small_dir(arch).join("completions");
    fs::create_dir_all(&directory)?;
    for (name, text) in [("kontena.bash", bash()?), ("_kontena", zsh()?), ("kontena.fish", fish()?)] {
        let path = directory.join(name);
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    try_out(&directory, &kontena)
}

fn bash() -> Result<String> {
    let mut text = String::from(
        "# kontena's completion for bash: source it, or put it into /usr/share/bash-completion/completions/kontena.\n\
         _kontena() {\n    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at i\n    \
         COMPREPLY=()\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n            \
         --root|--volumepath) ((i++)) ;;\n            -*) ;;\n            *) verb=${COMP_WORDS[i]} at=$i; \
         break ;;\n        esac\n    \
         done\n    case $before in\n",
    );
    let mut valued = Vec::new();
    for option in GLOBAL.iter().chain(verbs().iter().flat_map(Verb::options)) {
        let pattern = option.names().collect::<Vec<_>>().join("|");
        if option.value().is_none() || valued.contains(&pattern) {
            continue;
        }
        match option.choices() {
            Some(words) => {
                writeln!(text, "        {pattern}) COMPREPLY=($(compgen -W '{words}' -- \"$word\")); return ;;")?
            }
            None if option.is_file() => {
                writeln!(text, "        {pattern}) COMPREPLY=($(compgen -f -- \"$word\")); return ;;")?;
            }
            None => {}
        }
        valued.push(pattern);
    }
    text += "    esac\n    case $verb in\n";
    let all: Vec<&str> = verbs().iter().map(|verb| verb.name).collect();
    let names = words(GLOBAL.iter());
    writeln!(text, "        '') COMPREPLY=($(compgen -W '{} {names}' -- \"$word\")) ;;", all.join(" "))?;
    for verb in verbs() {
        let names = words(verb.options());
        let what = match argument(verb) {
            Argument::Rootfs => "-f",
            Argument::Name => "-W \"$(kontena list -q 2>/dev/null)\"",
            Argument::Words(words) => &format!("-W '{words}'"),
            Argument::None => "-W ''",
        };
        writeln!(
            text,
            "        {}) if [[ $word == -* ]]; then COMPREPLY=($(compgen -W '{names}' -- \"$word\")); \
             else COMPREPLY=($(compgen {what} -- \"$word\")); fi ;;",
            pattern(verb)
        )?;
    }
    text += "    esac\n}\ncomplete -o filenames -F _kontena kontena\n";
    Ok(text)
}

fn words<'a>(options: impl Iterator<Item = &'a Opt>) -> String {
    options.flat_map(Opt::names).collect::<Vec<_>>().join(" ")
}

/// A verb, and what else it goes by.
fn pattern(verb: &Verb) -> String {
    [verb.name, verb.alias].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join("|")
}

/// The kind of a verb's first argument.
enum Argument {
    Rootfs,
    Name,
    /// One of these.
    Words(String),
    None,
}

fn argument(verb: &Verb) -> Argument {
    match verb.usage.trim_start_matches('[') {
        usage if usage.starts_with("ROOTFS") => Argument::Rootfs,
        usage if usage.starts_with("NAME") => Argument::Name,
        usage if usage.contains('|') => Argument::Words(usage.split(' ').next().unwrap_or_default().replace('|', " ")),
        _ => Argument::None,
    }
}

fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh() -> Result<String> {
    let mut text = String::from(
        "#compdef kontena\n# kontena's completion for zsh: put it into a directory of $fpath.\n\n\
         _kontena_names() { local names=(${(f)\"$(kontena list -q 2>/dev/null)\"}); compadd -a names }\n\n\
         _kontena() {\n    local state line curcontext=$curcontext\n    local -a verbs=(\n",
    );
    // After a colon, and in brackets, these two must be escaped.
    let escaped = |text: &str| quoted(text).replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    for verb in verbs() {
        writeln!(text, "        '{}:{}'", verb.name, escaped(verb.about))?;
    }
    text += "    )\n    _arguments -C \\\n";
    let option_line = |text: &mut String, indent: &str, option: &Opt| -> Result<()> {
        for name in option.names() {
            let value = match (option.value(), option.choices()) {
                (None, _) => String::new(),
                (Some(_), Some(words)) => format!(":{}:({words})", option.long),
                (Some(_), None) if option.is_file() => format!(":{}:_files", option.long),
                (Some(_), None) => format!(":{}: ", option.long),
            };
            writeln!(text, "{indent}'*{name}[{}]{value}' \\", escaped(option.help))?;
        }
        Ok(())
    };
    for option in &GLOBAL {
        option_line(&mut text, "        ", option)?;
    }
    text += "        '1: :->verb' '*:: :->rest'\n    case $state in\n        verb) _describe verb verbs \
             ;;\n        rest)\n            \
             case $line[1] in\n";
    for verb in verbs() {
        writeln!(text, "                {}) _arguments -S \\", pattern(verb))?;
        for option in verb.options() {
            option_line(&mut text, "                    ", option)?;
        }
        let rest = match argument(verb) {
            Argument::Rootfs => "'1:rootfs:_files' '*::command:_normal'",
            Argument::Name if verb.usage.contains("COMMAND") => "'1:name:_kontena_names' '*::command:_normal'",
            Argument::Name => "'*:name:_kontena_names'",
            Argument::Words(words) => &format!("'1:command:({words})' '*: :'"),
            Argument::None => "'*: :'",
        };
        writeln!(text, "                    {rest} ;;")?;
    }
    text += "            esac ;;\n    esac\n}\n\n_kontena \"$@\"\n";
    Ok(text)
}

fn fish() -> Result<String> {
    let all: Vec<String> = verbs().iter().map(|verb| pattern(verb).replace('|', " ")).collect();
    let mut text = String::from(
        "# kontena's completion for fish: put it into ~/.config/fish/completions/ or \
         /usr/share/fish/vendor_completions.d/.\n\
         complete -c kontena -f\n",
    );
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let none = format!("not __fish_seen_subcommand_from {}", all.join(" "));
    let option = |text: &mut String, condition: &str, option: &Opt| -> Result<()> {
        write!(text, "complete -c kontena -n '{condition}'")?;
        if !option.short.is_empty() {
            write!(text, " -s {}", option.short)?;
        }
        write!(text, " -l {}", option.long)?;
        match (option.value(), option.choices()) {
            (None, _) => {}
            (Some(_), Some(words)) => write!(text, " -x -a '{words}'")?,
            (Some(_), None) if option.is_file() => write!(text, " -r -F")?,
            (Some(_), None) => write!(text, " -x")?,
        }
        writeln!(text, " -d '{}'", escaped(option.help))?;
        Ok(())
    };
    for one in &GLOBAL {
        option(&mut text, &none, one)?;
    }
    for verb in verbs() {
        writeln!(text, "complete -c kontena -n '{none}' -a {} -d '{}'", verb.name, escaped(verb.about))?;
        let condition = format!("__fish_seen_subcommand_from {}", pattern(verb).replace('|', " "));
        for one in verb.options() {
            option(&mut text, &condition, one)?;
        }
        match argument(verb) {
            Argument::Rootfs => writeln!(text, "complete -c kontena -n '{condition}' -F")?,
            Argument::Name => {
                writeln!(text, "complete -c kontena -n '{condition}' -a '(kontena list -q 2>/dev/null)'")?
            }
            Argument::Words(words) => writeln!(text, "complete -c kontena -n '{condition}' -a '{words}'")?,
            Argument::None => {}
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
        "source {}/kontena.fish; complete -C 'kontena lo'; complete -C 'kontena run --restart on'; \
         complete -C 'kontena stop --ti'",
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
