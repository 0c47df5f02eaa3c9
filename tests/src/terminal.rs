//! A program on a terminal of its own, as a person has it: typed to, read from, resized; pty(7).
//!
//! A shell leads the terminal's session and stays when the program has ended, so that the test sees in which state that
//! has left the terminal, however it went.

use crate::{Program, patience, sys, wait_for, wait_until};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Instant;

/// The shell prints this when the program has ended.
const ENDED: &str = "[ended ";

/// It is the program's parent, stays when the terminal's keys send signals, and has the PATH that kontena must not
/// have.
const LEADER: &str =
    "trap : INT QUIT TSTP HUP; (unset PATH; exec \"$@\"); printf '[ended %s]' $?; while :; do read -r _; done";

/// A program on a terminal. Dropped, all on it are killed or hung up.
#[derive(Debug)]
pub struct Terminal {
    leader: Child,
    master: File,
    /// Held open, so that the end of a program does not hang up the terminal.
    slave: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
    original: Modes,
}

/// The modes of a terminal: input, output, control and local flags, and the control characters; termios(3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes([u32; 4], Vec<u8>);

impl Modes {
    fn of(terminal: &OwnedFd) -> Self {
        // The kernel's NCCS; the C library's further ones have no meaning.
        const CHARACTERS: usize = 19;
        let termios = tcgetattr(terminal).unwrap();
        let flags = [
            termios.input_flags.bits(),
            termios.output_flags.bits(),
            termios.control_flags.bits(),
            termios.local_flags.bits(),
        ];
        Self(flags, termios.control_chars[..CHARACTERS].to_vec())
    }
}

impl Terminal {
    /// Starts the program on a terminal of this size.
    ///
    /// # Panics
    /// If there is no terminal, or no program.
    #[track_caller]
    pub fn start(program: Program<'_>, (rows, columns): (u16, u16)) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("the tests need /dev/ptmx");
        let original = Modes::of(&pty.slave);
        let stdio = || pty.slave.try_clone().unwrap();
        let leader = program.spawn_by("sh", &["-c", LEADER, "sh"], |command| {
            command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm");
            sys::take_terminal(command);
        });
        let master = File::from(pty.master);
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, ours) = (master.try_clone().unwrap(), output.clone());
        spawn(move || {
            let mut buffer = [0; 65536];
            // EIO: nobody has the other end any more.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                ours.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { leader, master, slave: pty.slave, output, original }
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[track_caller]
    pub fn type_in(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    /// The same with arbitrary bytes.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[track_caller]
    pub fn type_bytes(&self, bytes: &[u8]) {
        (&self.master).write_all(bytes).unwrap();
    }

    /// Starts to type a megabyte: more than fits anywhere. If nobody reads it, a terminal that is not raw drops the
    /// rest, so typing ends.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn flood(&self) {
        let mut master = self.master.try_clone().unwrap();
        spawn(move || master.write_all(&vec![b'x'; 1 << 20]));
    }

    /// All that was written to it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// The same without carriage returns: each terminal on the way has added one.
    pub fn lines(&self) -> String {
        self.text().replace('\r', "")
    }

    /// Waits until `text` has been written to it; returns the output so far.
    ///
    /// # Panics
    /// When the program ends before, and at the deadline.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let seen = self.text();
            if seen.contains(text) {
                return seen;
            }
            assert!(start.elapsed() < patience(), "waited in vain for {text:?} on the terminal: {seen}");
            assert!(!seen.contains(ENDED) || self.text().contains(text), "ended without {text:?}: {seen}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Runs a command in the shell on this terminal, and returns its output. The output must not be blank.
    ///
    /// # Panics
    /// If it does not come to its end.
    #[track_caller]
    pub fn ask(&self, command: &str) -> String {
        // Not as they are typed, or the echo would be taken for the answer.
        let before = self.text().len();
        self.type_in(&format!("echo '<''<'; {command}; echo '>''>'\n"));
        wait_for(&format!("the answer to {command}, after {}", self.text()), || {
            let text = self.text();
            let (_, rest) = text.get(before..)?.split_once("<<\r\n")?;
            Some(rest.split_once(">>")?.0.trim().replace('\r', ""))
        })
    }

    /// Changes its size.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        sys::set_window_size(&self.master, rows, columns).unwrap();
    }

    /// Its modes before the program was started.
    pub fn original_modes(&self) -> Modes {
        self.original.clone()
    }

    /// Its modes.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn modes(&self) -> Modes {
        Modes::of(&self.slave)
    }

    /// The mode and the owner of its file.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn owner(&self) -> (u32, u32) {
        let stat = nix::sys::stat::fstat(&self.slave).unwrap();
        (stat.st_mode, stat.st_uid)
    }

    /// Changes them.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn change_modes(&self, change: impl FnOnce(&mut Termios)) {
        let mut termios = tcgetattr(&self.slave).unwrap();
        change(&mut termios);
        tcsetattr(&self.slave, SetArg::TCSANOW, &termios).unwrap();
    }

    /// Whether input reaches the program unchanged.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Waits until the program has made it raw.
    #[track_caller]
    pub fn wait_until_raw(&self) {
        wait_until("a raw terminal", || self.is_raw());
    }

    /// The program itself, as the test sees its pid.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn program(&self) -> Pid {
        let leader = self.leader.id();
        let children = fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap();
        let first = children.split_whitespace().next().unwrap_or_else(|| panic!("it has ended: {}", self.text()));
        Pid::from_raw(first.parse().unwrap())
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.program(), signal).unwrap();
    }

    /// The program's exit status, when it has ended; as the shell has it: 128+n where signal n ended it.
    pub fn status(&self) -> Option<i32> {
        let text = self.text();
        text.rsplit_once(ENDED)?.1.split_once(']')?.0.parse().ok()
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn finish(&self) -> i32 {
        let status = wait_for("the end of the program on the terminal", || self.status().or_else(|| self.give_up()));
        assert!(status >= 0, "the end of the program on the terminal: {}", self.text());
        status
    }

    /// Hangs up the terminal, as a closed connection does.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn hang_up(&mut self) {
        // The leader's end hangs it up for all.
        self.leader.kill().unwrap();
        let _ = self.leader.wait();
    }

    fn give_up(&self) -> Option<i32> {
        // So that the message shows the screen.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.leader.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')).then_some(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}
