//! The life of a container as it was asked for: when it is started again, what its health and its readiness are, how it
//! is asked to end, and what becomes of its output.
//!
//! Each function parses the text of one option, and returns its value or a hint of one line. Must not touch the system.

use crate::error::Parsed;
use crate::gather::Gather;
use crate::text::{bytes, c_text, number, place_of, word_at};
use linux_raw_sys::general::SIGTERM;
use std::ffi::CStr;
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

/// `--restart`, and its text for `inspect`.
#[derive(Clone, Copy)]
pub struct RestartOption {
    pub policy: Restart,
    pub text: &'static str,
}

/// `--health-*`.
pub struct Health {
    /// What is run.
    pub command: Vec<&'static CStr>,
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
    /// `list` shows it.
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

/// `start` of a container that has a name and a record already.
#[derive(Clone, Copy)]
pub struct Again {
    /// `--attach`.
    pub attach: bool,
    /// Whether what is typed goes to the container.
    pub takes_input: bool,
}

/// Everything about a container's life.
pub struct Life {
    /// `start`, and not `run`.
    pub again: Option<Again>,
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
    /// `--restart`.
    pub restart: RestartOption,
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
pub const DETACH_KEYS: &[u8] = b"\x10\x11";
/// The highest number for `--notify-fd`: kontena's own fds are above it.
pub const LAST_NOTIFY_FD: u32 = 255;

impl Log {
    /// Small, since it is in memory on most machines.
    pub const DEFAULT: Self = Self { max_size: 1 << 20, max_files: 2 };
}

impl Life {
    /// Whether the caller stays until the end, and not only until the container runs.
    pub fn is_attached(&self) -> bool {
        self.again.map_or(!self.detach, |again| again.attach)
    }

    /// The defaults.
    pub fn new() -> Self {
        Self {
            again: None,
            detach: false,
            tty: false,
            interactive: false,
            rm: false,
            detach_keys: DETACH_KEYS.into(),
            restart: RestartOption { policy: Restart::No, text: "no" },
            stop_signal: SIGTERM,
            stop_timeout: STOP_TIMEOUT,
            health: None,
            wait_ready: None,
            notify_fd: None,
            sdnotify: false,
            log: Some(Log::DEFAULT),
        }
    }
}

impl Health {
    /// docker's defaults, without a command.
    pub fn new() -> Self {
        Self {
            command: Vec::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            on_failure: OnFailure::None,
        }
    }
}

/// `no`, `on-failure[:N]`, `always` or `unless-stopped`, which are the same where no daemon comes up with the machine.
pub fn restart(text: &'static str) -> Parsed<RestartOption> {
    let policy = match text.split_once(':').unwrap_or((text, "")) {
        ("no", "") => Some(Restart::No),
        ("always" | "unless-stopped", "") => Some(Restart::Always),
        ("on-failure", "") => Some(Restart::OnFailure(None)),
        ("on-failure", times) => {
            number(times).and_then(|times| u32::try_from(times).ok()).map(|times| Restart::OnFailure(Some(times)))
        }
        _ => None,
    };
    let policy = policy.filter(|_| !text.ends_with(':'));
    let policy = policy.ok_or("not a restart policy: use no, on-failure, on-failure:N, always or unless-stopped")?;
    Ok(RestartOption { policy, text })
}

/// `--notify-fd`.
pub fn notify_fd(text: &str) -> Parsed<u32> {
    let fd = number(text).and_then(|fd| u32::try_from(fd).ok()).filter(|fd| (3..=LAST_NOTIFY_FD).contains(fd));
    fd.ok_or("not a valid fd: use a number from 3 to 255")
}

/// `--health-cmd`: for /bin/sh -c, or a JSON array of its words.
pub fn health_command(text: &str) -> Parsed<Vec<&'static CStr>> {
    let command = match (text.as_bytes(), words(text)) {
        (_, Some(words)) => words,
        // What has a blank there is test(1).
        ([] | [b'['] | [b'[', b'!'..=255, ..], _) => {
            return Err("not a command: use one for /bin/sh -c, or a JSON array: [\"/bin/check\", \"now\"]");
        }
        _ => ["/bin/sh", "-c", text].map(String::from).into(),
    };
    command.iter().map(|word| c_text(word)).try_list()
}

/// `--health-retries`.
pub fn retries(text: &str) -> Parsed<u32> {
    let retries = number(text).and_then(|retries| u32::try_from(retries).ok()).filter(|retries| *retries > 0);
    retries.ok_or("not a number of failures: use 1 or more")
}

/// `--health-start-period`, which may be none.
pub fn start_period(text: &str) -> Parsed<Duration> {
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { duration(text) }
}

/// `--health-on-failure`.
pub fn on_failure(text: &str) -> Parsed<OnFailure> {
    match text {
        "none" => Ok(OnFailure::None),
        "kill" => Ok(OnFailure::Kill),
        "restart" => Ok(OnFailure::Restart),
        _ => Err("not an action: use none, kill or restart"),
    }
}

/// A JSON array of strings, without \u escapes.
pub fn words(text: &str) -> Option<Vec<String>> {
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

/// `--log-driver`: whether there is a log.
pub fn log_driver(text: &str) -> Parsed<bool> {
    match text {
        "cri" => Ok(true),
        "none" => Ok(false),
        _ => Err("not a log driver: use cri or none"),
    }
}

/// `--log-opt`.
pub fn log_option(log: &mut Log, text: &str) -> Parsed<()> {
    match text.split_once('=') {
        Some(("max-size", "-1")) => log.max_size = u64::MAX,
        Some(("max-size", size)) => {
            let hint = "not a size: use 4k or more, for example max-size=10m, or -1 for no limit";
            log.max_size = bytes(size).filter(|size| *size >= 4096).ok_or(hint)?;
        }
        Some(("max-file", count)) => {
            let hint = "not a number of files: use 1 to 100, for example max-file=3";
            log.max_files = number(count).filter(|count| (1..=100).contains(count)).ok_or(hint)? as u32;
        }
        _ => return Err("use max-size=SIZE or max-file=N"),
    }
    Ok(())
}

/// Keys in docker's words, with commas between them: `ctrl-p,ctrl-q`, or characters. None where they are empty.
pub fn detach_keys(text: &str) -> Parsed<Vec<u8>> {
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
    let hint = "not keys: use characters or ctrl-LETTER, separated by commas, for example ctrl-p,ctrl-q";
    text.split(',').map(|text| key(text).ok_or(hint)).try_list()
}

/// Seconds, as stop takes them.
pub fn seconds(text: &str) -> Parsed<u64> {
    let seconds = number(text).filter(|seconds| *seconds <= u32::MAX.into());
    seconds.ok_or("not a time: use seconds, for example 30")
}

/// A time as docker takes it: `1m30s`, `500ms`, `2h`; at least a millisecond.
pub fn duration(text: &str) -> Parsed<Duration> {
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
        Some(total).filter(|total| (1..=u32::MAX.into()).contains(&total.as_millis()))
    };
    parse().ok_or("not a time: use numbers followed by ms, s, m or h, for example 1m30s")
}

/// signal(7), in the order of their numbers, which is the same on every architecture that there is a kontena for.
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT \
    STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// Their other names.
const SYNONYMS: [(&str, u32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// A signal by its name, with or without SIG, or its number; 0 is none, and only asks whether one could be sent.
pub fn signal(text: &str) -> Parsed<u32> {
    const RTMIN: u32 = 34;
    const RTMAX: u32 = 64;
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = |text| number(text).and_then(|signal| u32::try_from(signal).ok());
    let by_name = || place_of(name, SIGNALS).map(|place| place as u32 + 1);
    let by_synonym = || SYNONYMS.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal);
    let real_time = || match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(RTMIN),
        (_, Some("")) => Some(RTMAX),
        (Some(more), _) => RTMIN.checked_add(number(more.strip_prefix('+')?)?),
        (_, Some(less)) => RTMAX.checked_sub(number(less.strip_prefix('-')?)?),
        _ => None,
    };
    let real_time = || real_time().filter(|signal| *signal >= RTMIN);
    let signal = number(text).or_else(by_name).or_else(by_synonym).or_else(real_time);
    // The C library keeps the two between for itself; nptl(7).
    let signal = signal.filter(|signal| matches!(signal, 0..=31 | RTMIN..=RTMAX));
    signal.ok_or("not a signal: use a name of signal(7), for example HUP, or a number")
}

/// The same, for one that is to do something.
pub fn stop_signal(text: &str) -> Parsed<u32> {
    match signal(text)? {
        0 => Err("signal 0 does not stop anything: use another"),
        signal => Ok(signal),
    }
}

/// The name of a signal.
pub fn signal_name(signal: u32) -> String {
    match word_at((signal as usize).wrapping_sub(1), SIGNALS) {
        "" => format!("signal {signal}"),
        name => format!("SIG{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn restart_policies_are_dockers() {
        let hint = "not a restart policy: use no, on-failure, on-failure:N, always or unless-stopped";
        let good = [
            ("no", Restart::No),
            ("always", Restart::Always),
            ("unless-stopped", Restart::Always),
            ("on-failure", Restart::OnFailure(None)),
            ("on-failure:0", Restart::OnFailure(Some(0))),
            ("on-failure:4294967295", Restart::OnFailure(Some(u32::MAX))),
        ];
        let bad = ["", "No", "no:", "no:1", "always:", "always:3", "on-failure:", "on-failure:-1", "on-failure:1:2"];
        check(|text| restart(text).map(|restart| restart.policy), good, &bad, hint);
        check(|text| restart(text).map(|restart| restart.policy), [], &["on-failure:4294967296"], hint);
        // As it was written, for `inspect`.
        assert_eq!(restart("unless-stopped").map(|restart| restart.text), Ok("unless-stopped"));
    }

    #[test]
    fn health_commands_are_for_a_shell_or_a_list_of_words() {
        let command = |text: &str| {
            let words = health_command(text)?;
            Ok(words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        let good: [(&str, &[&str]); 6] = [
            ("true", &["/bin/sh", "-c", "true"]),
            ("[ -e /a ]", &["/bin/sh", "-c", "[ -e /a ]"]),
            (r#"["/bin/a"]"#, &["/bin/a"]),
            (r#"[ "/bin/a" , "b c", "" ]"#, &["/bin/a", "b c", ""]),
            (r#"["a\"\\\/\n\t"]"#, &["a\"\\/\n\t"]),
            (r#"["é,]"]"#, &["é,]"]),
        ];
        let bad = [
            "",
            "[",
            "[]",
            r#"["a"#,
            r#"["a""#,
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"["a"] "#,
            r#"["\u0041"]"#,
            r#"["a\"#,
            "['a']",
        ];
        let hint = "not a command: use one for /bin/sh -c, or a JSON array: [\"/bin/check\", \"now\"]";
        check(
            command,
            good.map(|(text, words)| (text, words.iter().map(|word| String::from(*word)).collect())),
            &bad,
            hint,
        );
    }

    #[test]
    fn times_are_dockers_and_fit_poll() {
        let good = [
            ("1ms", 1),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1s1s", 2_000),
            ("0h1ms", 1),
            ("4294967295ms", u32::MAX.into()),
        ];
        let bad = [
            "",
            "0s",
            "5",
            "s",
            "1d",
            "1 s",
            "-1s",
            "+1s",
            "1.5s",
            "1S",
            "4294967296ms",
            "99999999999999999999ms",
            // More milliseconds than 64 bits have.
            "18446744073709551615ms1s",
            "é",
        ];
        let hint = "not a time: use numbers followed by ms, s, m or h, for example 1m30s";
        check(duration, good.map(|(text, time)| (text, Duration::from_millis(time))), &bad, hint);
        let good = [("0", Duration::ZERO), ("0s", Duration::ZERO), ("1s", Duration::from_secs(1))];
        check(start_period, good, &["", "00", "0m", "5"], hint);
        let good = [("0", 0), ("30", 30), ("4294967295", u32::MAX.into())];
        check(seconds, good, &["", "-1", "+1", "1s", "1.5", "4294967296"], "not a time: use seconds, for example 30");
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let good = [
            ("0", 0),
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("31", 31),
            ("SYS", 31),
            ("unused", 31),
            ("IOT", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+30", 64),
            ("rtmax", 64),
            ("RTMAX-30", 34),
        ];
        let bad = [
            "",
            "SIG",
            "-1",
            "+9",
            "32",
            "33",
            "65",
            "SIGSIGTERM",
            "SIG15",
            "RTMIN+31",
            "RTMIN-1",
            "RTMIN+",
            "RTMAX-31",
            "RTMAX-65",
            "RTMAX+1",
            "TERM ",
        ];
        check(signal, good, &bad, "not a signal: use a name of signal(7), for example HUP, or a number");
        check(stop_signal, [("TERM", 15), ("64", 64)], &["0"], "signal 0 does not stop anything: use another");
        for number in 1..=31 {
            assert_eq!(signal(&signal_name(number)), Ok(number));
        }
        assert_eq!([0, 34, u32::MAX].map(signal_name), ["signal 0", "signal 34", "signal 4294967295"]);
    }

    #[test]
    fn choices_and_numbers_of_a_life_are_checked() {
        let good = [("none", OnFailure::None), ("kill", OnFailure::Kill), ("restart", OnFailure::Restart)];
        check(on_failure, good, &["", "cry", "Kill"], "not an action: use none, kill or restart");
        let good = [("cri", true), ("none", false)];
        check(log_driver, good, &["", "syslog", "CRI"], "not a log driver: use cri or none");
        let hint = "not a number of failures: use 1 or more";
        check(retries, [("1", 1), ("4294967295", u32::MAX)], &["", "0", "-1", "4294967296"], hint);
        let hint = "not a valid fd: use a number from 3 to 255";
        check(notify_fd, [("3", 3), ("255", 255)], &["", "2", "256", "-1", "x"], hint);
    }

    #[test]
    fn detach_keys_are_dockers() {
        let good: [(&str, &[u8]); 7] = [
            ("", b""),
            ("ctrl-p,ctrl-q", DETACH_KEYS),
            ("a", b"a"),
            ("ctrl-P,~", b"\x10~"),
            ("ctrl-@", b"\0"),
            ("ctrl-[,ctrl-_", b"\x1b\x1f"),
            (" ", b" "),
        ];
        let hint = "not keys: use characters or ctrl-LETTER, separated by commas, for example ctrl-p,ctrl-q";
        let bad = ["ctrl", "ctrl-", "ctrl-1", "ab", "a,", ",", "é", "ctrl-pp"];
        check(detach_keys, good.map(|(text, keys)| (text, keys.into())), &bad, hint);
    }

    #[test]
    fn log_options_set_one_bound_each() {
        let set = |text: &str| {
            let mut log = Log::DEFAULT;
            log_option(&mut log, text).map(|()| (log.max_size, log.max_files))
        };
        let Log { max_size, max_files } = Log::DEFAULT;
        let good = [
            ("max-size=4k", (4096, max_files)),
            ("max-size=4096", (4096, max_files)),
            ("max-size=-1", (u64::MAX, max_files)),
            ("max-file=1", (max_size, 1)),
            ("max-file=100", (max_size, 100)),
        ];
        let size = "not a size: use 4k or more, for example max-size=10m, or -1 for no limit";
        check(set, good, &["max-size=", "max-size=4095", "max-size=small", "max-size=-2"], size);
        let count = "not a number of files: use 1 to 100, for example max-file=3";
        check(set, [], &["max-file=", "max-file=0", "max-file=101", "max-file=-1"], count);
        check(set, [], &["", "max-size", "compress=true", "=1"], "use max-size=SIZE or max-file=N");
    }
}
