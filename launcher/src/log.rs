//! What a container in the background writes, kept in files of the CRI's log format, and read again by `logs`.
//!
//! `ROOT/NAME/log` is written, and renamed to `log.1` when it is large, what was that to `log.2`, and so on. A line is
//! `TIME STREAM TAG TEXT`, where TAG is F for a whole line and P for a part of one. The writer never waits for a reader, and
//! a disk that is full costs the lines that do not fit, which the log says when there is room again. Must not know where the
//! bytes come from.

use crate::error::{Context, Result};
use crate::file;
use crate::life::Log as Limits;
use crate::sys;
use crate::time::Moment;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::WatchFlags;
use rustix::fs::{AtFlags, OFlags, fstat, ftruncate, renameat, statat, unlinkat};
use std::collections::VecDeque;

/// The name of the file that is written.
const LOG: &str = "log";
/// A longer line is written in parts, so that nobody has to hold it.
const LONGEST: usize = 16 * 1024;

/// Which output of the container's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The log of a container that runs, for its launcher.
pub struct Writer {
    directory: OwnedFd,
    file: OwnedFd,
    limits: Limits,
    size: u64,
    /// What has been written of each stream's last line, which lacks its end.
    parts: [Vec<u8>; 2],
    /// How many lines did not fit since the disk is full, which the log does not say yet.
    lost: u64,
}

impl Writer {
    /// Opens the log in a container's directory; goes on with the one that is there.
    pub fn open(directory: OwnedFd, limits: Limits) -> Result<Self> {
        let file = create(&directory).context(format_args!("open the container's log"), "")?;
        let size = fstat(&file).map_or(0, |stat| stat.st_size as u64);
        Ok(Self { directory, file, limits, size, parts: [Vec::new(), Vec::new()], lost: 0 })
    }

    /// Writes what has come from a stream: its lines, and of the last one what is longer than a line may be.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let head = head(stream);
        let mut part = std::mem::take(&mut self.parts[stream as usize]);
        let mut text = Vec::with_capacity(bytes.len() + 4096);
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let length = end.min(LONGEST - part.len());
            let (line, behind) = rest.split_at(length);
            rest = behind;
            let tag = match rest.split_first() {
                Some((b'\n', behind)) => {
                    rest = behind;
                    'F'
                }
                _ if part.len() + length == LONGEST => 'P',
                _ => {
                    part.extend_from_slice(line);
                    continue;
                }
            };
            let start = text.len();
            put(&mut text, &head, tag, &[&part, line]);
            part.clear();
            if self.size + text.len() as u64 > self.limits.max_size {
                // The line begins the next file.
                let line = text.split_off(start);
                self.append(&text);
                text = line;
                if self.size > 0 {
                    self.rotate();
                }
            }
            if text.len() >= 64 * 1024 {
                self.append(&text);
                text.clear();
            }
        }
        self.parts[stream as usize] = part;
        self.append(&text);
    }

    /// Writes what lacks its end, and what is to be said of lost lines: there will be no more of it.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.parts[stream as usize].is_empty() {
                self.write(stream, b"\n");
            }
        }
        let note = self.note();
        if self.append_lines(&note) {
            self.lost = 0;
        }
    }

    /// What is said where lines are lost; nothing where none are.
    fn note(&self) -> Vec<u8> {
        let mut note = Vec::new();
        if self.lost > 0 {
            let told = format!("kontena: {} lines are lost here: the disk was full", self.lost);
            put(&mut note, &head(Stream::Stderr), 'F', &[told.as_bytes()]);
        }
        note
    }

    /// Whole lines; behind what is to be said of those that are lost.
    fn append(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let (size, note) = (self.size, self.note());
        let whole = [&note, text].concat();
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.append_lines(&whole) {
            self.lost = 0;
        } else if let written = (self.size - size) as usize
            && written > note.len()
        {
            self.lost = lines(&whole[written..]);
        } else {
            // The note alone would be all that fits, again and again.
            self.cut(size);
            self.lost += lines(text);
        }
    }

    /// As many whole lines as there is room for: half a line would be read as one. `false` where that is not all.
    fn append_lines(&mut self, text: &[u8]) -> bool {
        let mut rest = text;
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(length @ 1..) => rest = &rest[length..],
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        let written = &text[..text.len() - rest.len()];
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.size += whole as u64;
        if whole < written.len() {
            self.cut(self.size);
        }
        rest.is_empty()
    }

    fn cut(&mut self, size: u64) {
        self.size = size;
        let _ = ftruncate(&self.file, size);
    }

    fn rotate(&mut self) {
        let last = self.limits.max_files - 1;
        for number in (0..last).rev() {
            let _ = renameat(&self.directory, &*name(number), &self.directory, &*name(number + 1));
        }
        if last == 0 {
            let _ = unlinkat(&self.directory, LOG, AtFlags::empty());
        }
        // Where no other can be made, the one there is goes on, under its new name.
        if let Ok(file) = create(&self.directory) {
            (self.file, self.size) = (file, 0);
        }
    }
}

fn create(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    file::open(directory, LOG, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
}

/// The log that was put aside `number` times.
fn name(number: u32) -> String {
    if number == 0 { LOG.into() } else { format!("{LOG}.{number}") }
}

/// What stands before the tag of a line that is written now.
fn head(stream: Stream) -> String {
    let (seconds, nanoseconds) = sys::realtime();
    format!("{} {} ", Moment(seconds, nanoseconds), if stream == Stream::Stdout { "stdout" } else { "stderr" })
}

fn put(text: &mut Vec<u8>, head: &str, tag: char, line: &[&[u8]]) {
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(&[tag as u8, b' ']);
    line.iter().for_each(|part| text.extend_from_slice(part));
    text.push(b'\n');
}

/// What `logs` is to print.
pub struct Wanted {
    /// Nothing that was written before.
    pub since: Option<Moment>,
    /// Of what was written so far, so many lines at the end.
    pub tail: Option<usize>,
    /// Whether to print the time of each line.
    pub timestamps: bool,
}

/// Takes a line, or a part of one, of a stream.
pub type Print<'a> = dyn FnMut(Stream, &[u8]) + 'a;

/// Reads a container's log.
pub struct Reader<'a> {
    directory: OwnedFd,
    wanted: &'a Wanted,
    file: Option<OwnedFd>,
    /// What was read of a line that lacks its end.
    part: Vec<u8>,
    /// Whether what was printed last of each stream lacks its end.
    is_open: [bool; 2],
}

impl<'a> Reader<'a> {
    /// Of the container whose files are in `directory`.
    pub fn new(directory: OwnedFd, wanted: &'a Wanted) -> Self {
        Self { directory, wanted, file: None, part: Vec::new(), is_open: [false; 2] }
    }

    /// Gives `print` what there is: for each line its stream, and its text with its end, where it has one.
    pub fn print(&mut self, print: &mut Print<'_>) {
        let Some(tail) = self.wanted.tail else {
            self.print_all(print);
            return;
        };
        let mut last: VecDeque<Vec<(Stream, Vec<u8>)>> = VecDeque::new();
        let mut is_whole = true;
        self.print_all(&mut |stream, text| {
            let part = (stream, text.to_vec());
            match last.back_mut() {
                Some(line) if !is_whole => line.push(part),
                _ => last.push_back(vec![part]),
            }
            is_whole = text.ends_with(b"\n");
            if last.len() > tail {
                last.pop_front();
            }
        });
        last.iter().flatten().for_each(|(stream, text)| print(*stream, text));
    }

    /// The files that were put aside, the oldest first, and the one that is written.
    fn print_all(&mut self, print: &mut Print<'_>) {
        let oldest = || (1..100).take_while(|number| self.number(*number).is_some()).last().unwrap_or(0);
        loop {
            let number = oldest();
            let file = file::open(&self.directory, &name(number), OFlags::RDONLY).ok();
            // Unless they were put aside once more in between, and there is an older one now.
            if oldest() == number {
                self.file = file;
                break;
            }
        }
        self.print_more(print);
    }

    /// Prints what has come since, also where the log was put aside meanwhile.
    pub fn print_more(&mut self, print: &mut Print<'_>) {
        loop {
            let ours = self.file.as_ref().and_then(|file| fstat(file).ok()).map(number_of);
            let place = ours.and_then(|_| (0..100).find(|place| self.number(*place) == ours));
            // What is not in the current file will not get any more, and neither will one that is gone.
            self.read(print);
            let next = match place {
                Some(0) => return,
                Some(place) => file::open(&self.directory, &name(place - 1), OFlags::RDONLY),
                None => {
                    let oldest = (0..100).take_while(|place| self.number(*place).is_some()).last();
                    file::open(&self.directory, &name(oldest.unwrap_or(0)), OFlags::RDONLY)
                }
            };
            // Unless they were all renamed once more in between: then there is another one between the two.
            match next {
                Ok(next) if place.is_none_or(|place| self.number(place) == ours) => self.file = Some(next),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// The number of the inode of a log, where there is one.
    fn number(&self, place: u32) -> Option<(u64, u64)> {
        statat(&self.directory, &*name(place), AtFlags::empty()).ok().map(number_of)
    }

    fn read(&mut self, print: &mut Print<'_>) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = self.file.as_ref().map(|file| rustix::io::read(file, &mut buffer[..]));
            let Some(Ok(length @ 1..)) = read else { return };
            let mut rest = &buffer[..length];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let mut line = std::mem::take(&mut self.part);
                line.extend_from_slice(&rest[..end]);
                self.print_line(&line, print);
                rest = &rest[end + 1..];
            }
            self.part.extend_from_slice(rest);
        }
    }

    /// `TIME STREAM TAG TEXT`; a line that is none, as one cut short by a crash, is passed over.
    fn print_line(&mut self, line: &[u8], print: &mut Print<'_>) {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return,
        };
        let time = str::from_utf8(time).unwrap_or_default();
        if self.wanted.since.is_some_and(|since| Moment::parse(time).is_none_or(|written| written < since)) {
            return;
        }
        let is_open = &mut self.is_open[stream as usize];
        let mut whole = Vec::with_capacity(text.len() + 64);
        if self.wanted.timestamps && !*is_open {
            whole.extend_from_slice(time.as_bytes());
            whole.push(b' ');
        }
        whole.extend_from_slice(text);
        *is_open = tag == b"P";
        if !*is_open {
            whole.push(b'\n');
        }
        print(stream, &whole);
    }

    /// An fd that can be read from when there may be more: something in the directory has changed.
    pub fn watch(&self, directory: &str) -> rustix::io::Result<OwnedFd> {
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        file::watch(directory, changes)
    }
}

fn number_of(stat: rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
