//! The life of a container as it was asked for: when it is started again, what its health and its readiness are, how it is
//! asked to end, and what becomes of its output.
//!
//! Every function takes the text of one option and gives a value or one clear line. Must not touch the system.

use crate::config::{bytes, c_string, number, wrong};
use crate::error::{Error, Result};
use crate::options::Run;
use linux_raw_sys::general::SIGTERM;
use std::ffi::CString;
use std::time::Duration;

/// When a container is started again that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When its exit status is not 0; so many times at most.
    OnFailure(Option<u32>),
    /// Always, unless somebody has stopped it.
    Always,
}

/// `--health-*`.
pub struct Health {
    /// What is run.
    pub command: Vec<CString>,
    /// Between the end of a run and the next.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// How many failures in a row make it unhealthy.
    pub retries: u32,
    /// How long from the start failures do not count.
    pub start_period: Duration,
    /// What is done then.
    pub on_failure: OnFailure,
}

/// `--health-on-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is told by `list`.
    None,
    /// The container is killed.
    Kill,
    /// The same, and it is started again whatever `--restart` says.
    Restart,
}

/// How it is known that a container is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// By a newline on an fd.
    Fd,
    /// By `READY=1`; sd_notify(3).
    Notify,
    /// By a published TCP port that takes a connection.
    Port,
}

/// What becomes of the output of a container in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The size in bytes at which the log is put aside for a new one.
    pub max_size: u64,
    /// How many there are, the one that is written included.
    pub max_files: u32,
}

/// Everything about a container's life.
pub struct Life {
    /// `-d`.
    pub detach: bool,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `--rm`.
    pub rm: bool,
    /// `--detach-keys`.
    pub detach_keys: Vec<u8>,
    /// `--restart`, and its text.
    pub restart: (Restart, String),
    /// `--stop-signal`.
    pub stop_signal: u32,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: u64,
    /// `--health-cmd` and its kin.
    pub health: Option<Health>,
    /// `--wait-ready`.
    pub wait_ready: Option<Ready>,
    /// `--notify-fd`.
    pub notify_fd: Option<u32>,
    /// `--sdnotify`.
    pub sdnotify: bool,
    /// `--log-driver` and `--log-opt`.
    pub log: Option<Log>,
}

/// How long a container has to end unless `--stop-timeout` says otherwise, in seconds: docker's.
pub const STOP_TIMEOUT: u64 = 10;
/// How container and terminal part unless `--detach-keys` says otherwise: docker's.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";
/// The highest number that `--notify-fd` may give: those that kontena needs itself are above it.
pub const LAST_NOTIFY_FD: u32 = 255;

/// What `run` was told of it; `publishes_tcp` where it publishes a TCP port.
pub fn parse(run: &Run, publishes_tcp: bool) -> Result<Life> {
    let text = Option::as_deref;
    let notify_fd = text(&run.notify_fd).map(notify_fd).transpose()?;
    let ready = match (notify_fd, run.sdnotify) {
        (Some(_), _) => Some(Ready::Fd),
        (None, true) => Some(Ready::Notify),
        (None, false) => publishes_tcp.then_some(Ready::Port),
    };
    if run.wait_ready && !run.detach {
        return Err(Error::usage(format_args!("--wait-ready"), "it is for -d: in the foreground nobody waits"));
    }
    if run.wait_ready && ready.is_none() {
        let hint = "there is nothing to wait for: give --notify-fd N, --sdnotify, or publish a TCP port";
        return Err(Error::usage(format_args!("--wait-ready"), hint));
    }
    Ok(Life {
        detach: run.detach,
        tty: run.tty,
        interactive: run.interactive,
        rm: run.rm,
        detach_keys: detach_keys(text(&run.detach_keys).unwrap_or(DETACH_KEYS))?,
        restart: match text(&run.restart) {
            Some(text) => (restart(text)?, text.into()),
            None => (Restart::No, "no".into()),
        },
        stop_signal: text(&run.stop_signal).map(|text| signal("--stop-signal", text)).unwrap_or(Ok(SIGTERM))?,
        stop_timeout: text(&run.stop_timeout)
            .map(|text| seconds("--stop-timeout", text))
            .unwrap_or(Ok(STOP_TIMEOUT))?,
        health: health(run)?,
        wait_ready: ready.filter(|_| run.wait_ready),
        notify_fd,
        sdnotify: run.sdnotify,
        log: log(text(&run.log_driver).unwrap_or("cri"), &run.log_opt)?,
    })
}

/// `no`, `on-failure[:N]`, `always` or `unless-stopped`, which are the same where no daemon comes up with the machine.
fn restart(text: &str) -> Result<Restart> {
    let hint = "not a policy: give no, on-failure, on-failure:N, always or unless-stopped";
    match text.split_once(':') {
        None if text == "no" => Ok(Restart::No),
        None if text == "on-failure" => Ok(Restart::OnFailure(None)),
        None if matches!(text, "always" | "unless-stopped") => Ok(Restart::Always),
        Some(("on-failure", times)) => match number(times).and_then(|times| u32::try_from(times).ok()) {
            Some(times) => Ok(Restart::OnFailure(Some(times))),
            None => Err(wrong("--restart", text, hint)),
        },
        _ => Err(wrong("--restart", text, hint)),
    }
}

fn notify_fd(text: &str) -> Result<u32> {
    let fd = number(text).and_then(|fd| u32::try_from(fd).ok()).filter(|fd| (3..=LAST_NOTIFY_FD).contains(fd));
    fd.ok_or_else(|| wrong("--notify-fd", text, "not an fd for it: give a number from 3 to 255"))
}

fn health(run: &Run) -> Result<Option<Health>> {
    let Some(command) = &run.health_cmd else {
        let others = [
            (&run.health_interval, "--health-interval"),
            (&run.health_timeout, "--health-timeout"),
            (&run.health_retries, "--health-retries"),
            (&run.health_start_period, "--health-start-period"),
            (&run.health_on_failure, "--health-on-failure"),
        ];
        return match others.iter().find(|(text, _)| text.is_some()) {
            Some((_, option)) => {
                Err(Error::usage(format_args!("{option}"), "it goes with --health-cmd: give that too"))
            }
            None => Ok(None),
        };
    };
    let hint = "not a command: give one for /bin/sh -c, or its words as [\"/bin/check\", \"now\"]";
    let command = match (command.as_bytes(), words(command)) {
        (_, Some(words)) => words,
        // What has a blank there is test(1).
        ([] | [b'['] | [b'[', b'!'..=255, ..], _) => return Err(wrong("--health-cmd", command, hint)),
        _ => ["/bin/sh", "-c", command].map(String::from).into(),
    };
    let time = |text: &Option<String>, option, default| match text {
        Some(text) => duration(option, text),
        None => Ok(Duration::from_secs(default)),
    };
    let retries = match &run.health_retries {
        Some(text) => number(text)
            .and_then(|retries| u32::try_from(retries).ok())
            .filter(|retries| *retries > 0)
            .ok_or_else(|| wrong("--health-retries", text, "not a number of failures: give 1 or more"))?,
        None => 3,
    };
    let on_failure = match run.health_on_failure.as_deref() {
        None | Some("none") => OnFailure::None,
        Some("kill") => OnFailure::Kill,
        Some("restart") => OnFailure::Restart,
        Some(text) => return Err(wrong("--health-on-failure", text, "not an action: give none, kill or restart")),
    };
    Ok(Some(Health {
        command: command.into_iter().map(c_string).collect::<Result<_>>()?,
        interval: time(&run.health_interval, "--health-interval", 30)?,
        timeout: time(&run.health_timeout, "--health-timeout", 30)?,
        retries,
        start_period: match &run.health_start_period {
            Some(text) if text == "0" => Duration::ZERO,
            text => time(text, "--health-start-period", 0)?,
        },
        on_failure,
    }))
}

/// A JSON array of strings, without \u escapes.
fn words(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.trim_ascii_start();
    let mut words = Vec::new();
    loop {
        let (mut word, mut chars) = (String::new(), rest.strip_prefix('"')?.chars());
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => word.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    c @ ('"' | '\\' | '/') => c,
                    _ => return None,
                }),
                c => word.push(c),
            }
        }
        words.push(word);
        rest = chars.as_str().trim_ascii_start();
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind.trim_ascii_start(),
            None => return (rest == "]").then_some(words),
        }
    }
}

fn log(driver: &str, options: &[String]) -> Result<Option<Log>> {
    let mut log = Log { max_size: 1 << 20, max_files: 2 };
    for text in options {
        let wrong = |hint| wrong("--log-opt", text, hint);
        match text.split_once('=') {
            Some(("max-size", "-1")) => log.max_size = u64::MAX,
            Some(("max-size", size)) => {
                let hint = "not a size: give 4k or more, as max-size=10m, or -1 for no limit";
                log.max_size = bytes(size).filter(|size| *size >= 4096).ok_or_else(|| wrong(hint))?;
            }
            Some(("max-file", count)) => {
                let hint = "not a number of files: give 1 to 100, as max-file=3";
                let count = number(count).filter(|count| (1..=100).contains(count)).ok_or_else(|| wrong(hint))?;
                log.max_files = count as u32;
            }
            _ => return Err(wrong("give max-size=SIZE or max-file=N")),
        }
    }
    match driver {
        "cri" => Ok(Some(log)),
        "none" => Ok(None),
        _ => Err(wrong("--log-driver", driver, "not a driver: give cri or none")),
    }
}

/// Keys in docker's words, with commas between them: `ctrl-p,ctrl-q`, or characters. None where they are empty.
pub fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let key = |text: &str| match text.as_bytes() {
        [c] => Some(*c),
        [b'c', b't', b'r', b'l', b'-', c] => match c.to_ascii_lowercase() {
            c @ b'a'..=b'z' => Some(c - b'a' + 1),
            c @ b'@'..=b'_' => Some(c - b'@'),
            _ => None,
        },
        _ => None,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let hint = "not keys: give characters or ctrl-LETTER with commas between them, as ctrl-p,ctrl-q";
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| wrong("--detach-keys", text, hint))
}

/// Seconds, as stop takes them.
pub fn seconds(option: &str, text: &str) -> Result<u64> {
    let seconds = number(text).filter(|seconds| *seconds <= u32::MAX.into());
    seconds.ok_or_else(|| wrong(option, text, "not a time: give seconds, as 30"))
}

/// A time as docker takes it: `1m30s`, `500ms`, `2h`; at least a millisecond.
pub fn duration(option: &str, text: &str) -> Result<Duration> {
    let parse = || {
        let (mut rest, mut total) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (value, unit) = rest.split_at_checked(digits)?;
            let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
            let milliseconds = match unit.get(..letters)? {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            total = total.checked_add(Duration::from_millis(number(value)?.checked_mul(milliseconds)?))?;
            rest = unit.get(letters..)?;
        }
        // What poll(2) can wait for.
        Some(total).filter(|total| (1..=u64::from(u32::MAX)).contains(&(total.as_millis() as u64)))
    };
    parse().ok_or_else(|| wrong(option, text, "not a time: give numbers with ms, s, m or h behind them, as 1m30s"))
}

/// signal(7), in the order of their numbers, which is the same on every architecture that there is a kontena for.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// A signal by its name, with or without SIG, or its number.
pub fn signal(option: &str, text: &str) -> Result<u32> {
    const RTMIN: u32 = 34;
    const LAST: u32 = 64;
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let by_number = || number(text).and_then(|signal| u32::try_from(signal).ok());
    let by_name = || SIGNALS.iter().position(|known| *known == name).map(|place| place as u32 + 1);
    let real_time = || match name.strip_prefix("RTMIN") {
        Some("") => Some(RTMIN),
        Some(more) => more.strip_prefix('+').and_then(number).and_then(|more| RTMIN.checked_add(more.try_into().ok()?)),
        None => None,
    };
    let signal = by_number().or_else(by_name).or_else(real_time).filter(|signal| (1..=LAST).contains(signal));
    signal.ok_or_else(|| wrong(option, text, "not a signal: give a name of signal(7), as HUP, or a number"))
}

/// The name of a signal.
pub fn signal_name(signal: u32) -> String {
    match SIGNALS.get((signal as usize).wrapping_sub(1)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}
