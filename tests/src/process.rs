//! Programs that a test starts, each with a deadline: a test may fail, and never hang.

use crate::{Place, Terminal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// The deadline of everything: long enough for a machine under load, since no test is about speed. In seconds,
/// KONTENA_PATIENCE is the same for a machine that is emulated.
pub fn patience() -> Duration {
    let given = std::env::var("KONTENA_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(60))
}

/// Waits until `value` returns something.
///
/// # Panics
/// At the deadline, naming the condition.
#[track_caller]
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(start.elapsed() < patience(), "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until a condition is true.
///
/// # Panics
/// At the deadline, naming the condition.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Of several competing programs, the one that continues after all others were refused, and the errors of those.
///
/// # Panics
/// If there is none, or more than one.
#[track_caller]
pub fn winner_of<const N: usize>(all: [Running; N]) -> (Running, Vec<String>) {
    let mut running: Vec<Running> = all.into();
    let mut refused = Vec::new();
    wait_until("all others to be refused", || {
        for at in (0..running.len()).rev() {
            if running[at].has_ended() {
                refused.push(running.remove(at).finish().refused(125));
            }
        }
        running.len() <= 1
    });
    (running.pop().expect("one that goes on"), refused)
}

/// A program and the place to start it in.
pub struct Program<'a> {
    place: &'a Place,
    command: Command,
    input: Option<Vec<u8>>,
}

impl<'a> Program<'a> {
    pub(crate) fn new(place: &'a Place, program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { place, command, input: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Its stdin; empty by default.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes.into());
        self
    }

    /// What std's `Command` can do beyond this.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// The same, by another program that is given this one and its arguments.
    pub(crate) fn by(mut self, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(self.command.get_program()).args(self.command.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
        self
    }

    /// The same, by another program of the machine's that is given this one and its arguments, and this one's
    /// environment.
    #[must_use]
    pub fn through(self, program: &str, arguments: &[&str]) -> Self {
        self.by(program, arguments)
    }

    /// Starts another program that is given this one and its arguments, after `change`.
    #[track_caller]
    pub(crate) fn spawn_by(self, program: &str, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Child {
        let mut by = self.by(program, arguments);
        change(&mut by.command);
        let text = format!("{:?}", by.command);
        by.place.spawn(&mut by.command).unwrap_or_else(|error| panic!("start {text}: {error}"))
    }

    /// Starts it on a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn on_terminal(self) -> Terminal {
        Terminal::start(self, (24, 80))
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let text = format!("{:?}", self.command);
        let mut child = self.place.spawn(&mut self.command).unwrap_or_else(|error| panic!("start {text}: {error}"));
        let (stdout, stderr) = (child.stdout.take().map(Collector::new), child.stderr.take().map(Collector::new));
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input) {
            spawn(move || drop(stdin.write_all(&input)));
        }
        Running { child, stdout, stderr, text }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Collector>,
    stderr: Option<Collector>,
    text: String,
}

impl Running {
    /// Its pid, as the test sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended and was waited for.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).unwrap_or_else(|errno| panic!("{signal} to {}: {errno}", self.text));
    }

    /// The same, as nix has it.
    pub fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Its stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.as_ref().map(Collector::text).unwrap_or_default()
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.as_ref().map(Collector::text).unwrap_or_default()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until its stdout contains `text`.
    ///
    /// # Panics
    /// When it ends before, and at the deadline.
    #[track_caller]
    pub fn wait_for_output(&mut self, text: &str) {
        let mut ended = None;
        wait_until(&format!("{text:?} from {}", self.text), || {
            if self.has_ended() {
                ended.get_or_insert_with(Instant::now);
            }
            let seen = self.stdout().contains(text);
            // Its last output may still be unread when it has ended.
            let is_read = ended.is_some_and(|ended: Instant| ended.elapsed() > Duration::from_secs(5));
            assert!(seen || !is_read, "{} ended without {text:?}: {}{}", self.text, self.stdout(), self.stderr());
            seen
        });
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let status = wait_for(&format!("the end of {}\nso far: {}{}", self.text, self.stdout(), self.stderr()), || {
            self.child.try_wait().unwrap()
        });
        let collect = |collector: Option<Collector>| collector.map(Collector::finish).unwrap_or_default();
        Outcome {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: collect(self.stdout.take()),
            stderr: collect(self.stderr.take()),
            text: self.text.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What kontena's warning begins with where two containers write to one root.
pub const SHARED_ROOT: &str = "kontena: warning: another container writes to rootfs ";

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; -n where signal n ended it.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
    text: String,
}

impl Outcome {
    /// Asserts that it ended with `code`.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    #[must_use = "what it wrote may matter too"]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit status of {self}");
        self
    }

    /// Asserts that it exited with 0, and returns its stdout.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).stdout
    }

    /// Asserts that kontena refused with `code` and exactly one line on stderr, and returns the line. Before it, there
    /// may be the warning that other containers write to the same root, as those of a test often do.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "the exit status of {self}");
        let mut line = &*self.stderr;
        if line.starts_with(SHARED_ROOT) {
            line = line.split_once('\n').unwrap_or_default().1;
        }
        assert_eq!(line.lines().count(), 1, "one line on stderr: {self}");
        assert!(line.starts_with("kontena: ") && line.ends_with('\n'), "kontena's own words: {self}");
        assert!(line.len() < 1024 || self.text.len() > 1024, "a line that a person can read: {self}");
        line.trim_end().into()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\nstdout: {}\nstderr: {}", self.text, self.code, self.stdout, self.stderr)
    }
}

/// Reads a pipe to its end, so that nobody waits for room in it.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let ours = bytes.clone();
        let thread = spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                ours.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it. Something left behind that holds the pipe open is a defect that this finds.
    #[track_caller]
    fn finish(self) -> String {
        wait_until("the end of its output, which a process left behind holds open", || self.thread.is_finished());
        self.text()
    }
}
