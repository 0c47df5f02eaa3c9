//! The log of a container in the background: files in the CRI's log format, which `logs` reads.
//!
//! `ROOT/NAME/log` is written, and renamed to `log.1` when it is large, what was that to `log.2`, and so on. A line is
//! `TIME STREAM TAG TEXT`, where TAG is F for a whole line and P for a part of one. The writer never waits for a
//! reader, and a full disk costs the lines that do not fit, which the log says later. Must not know the bytes' source.

use crate::config::lifecycle::Log as Limits;
use crate::error::{Context, Result};
use crate::file;
use crate::gather::Gather;
use crate::sys;
use crate::text;
use crate::time::Moment;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::WatchFlags;
use rustix::fs::{AtFlags, OFlags, fstat, ftruncate, statat};
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

/// The log of a running container, for its launcher.
pub struct Writer {
    directory: OwnedFd,
    file: OwnedFd,
    limits: Limits,
    size: u64,
    /// The part of each stream's last line that lacks its end.
    parts: [Vec<u8>; 2],
    /// Whether the last line of each stream has been written without its end, which comes with the next one.
    is_cut: [bool; 2],
    /// How many lines did not fit since the disk is full, which the log does not say yet.
    lost: u64,
}

impl Writer {
    /// Opens the log in a container's directory; continues an existing one.
    pub fn open(directory: OwnedFd, limits: Limits) -> Result<Self> {
        let file = create(&directory).at(format_args!("open the container's log"))?;
        let size = fstat(&file).map_or(0, |stat| stat.st_size as u64);
        Ok(Self { directory, file, limits, size, parts: [Vec::new(), Vec::new()], is_cut: [false; 2], lost: 0 })
    }

    /// Writes output of a stream: its whole lines, and the parts of one that is too long. Returns their number.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> usize {
        if std::mem::take(&mut self.is_cut[stream as usize]) {
            self.write_lines(stream, b"\n", b'F');
        }
        self.write_lines(stream, bytes, b'F')
    }

    /// The same, with `whole` as the tag of each line that has its end.
    fn write_lines(&mut self, stream: Stream, bytes: &[u8], whole: u8) -> usize {
        // As it stands before each line, but for its tag.
        let head = head(stream);
        let tag_at = head.len() - 2;
        let mut part = std::mem::take(&mut self.parts[stream as usize]);
        let mut text = Vec::with_capacity(bytes.len() + 4096);
        let (mut rest, mut lines) = (bytes, 0);
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let length = end.min(LONGEST - part.len());
            let (line, behind) = rest.split_at(length);
            rest = behind;
            let tag = match rest.split_first() {
                Some((b'\n', behind)) => {
                    rest = behind;
                    whole
                }
                _ if part.len() + length == LONGEST => b'P',
                _ => {
                    part.extend_from_slice(line);
                    continue;
                }
            };
            let start = text.len();
            lines += 1;
            text.extend_from_slice(&head);
            text[start + tag_at] = tag;
            text.extend_from_slice(&part);
            text.extend_from_slice(line);
            text.push(b'\n');
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
        lines
    }

    /// Writes lines without their end, and the note on lost lines: the container has ended.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.parts[stream as usize].is_empty() {
                self.write_lines(stream, b"\n", b'P');
                self.is_cut[stream as usize] = true;
            }
        }
        let note = self.note();
        if self.append_lines(&note) {
            self.lost = 0;
        }
    }

    /// The note about lost lines; empty if there are none.
    fn note(&self) -> Vec<u8> {
        if self.lost == 0 {
            return Vec::new();
        }
        let told = format!("kontena: {} lines lost here: the disk was full\n", self.lost);
        [&*head(Stream::Stderr), told.as_bytes()].concat()
    }

    /// Appends whole lines, after the note about lost ones.
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
            let _ = file::rename(&self.directory, &name(number), &name(number + 1));
        }
        if last == 0 {
            file::remove(&self.directory, LOG, AtFlags::empty());
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

/// The fields before a whole line that is written now.
fn head(stream: Stream) -> Vec<u8> {
    let (seconds, nanoseconds) = sys::realtime();
    let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    format!("{} {stream} F ", Moment(seconds, nanoseconds)).into_bytes()
}

/// The part of a log that `logs` prints, and how.
pub struct Wanted {
    /// Nothing that was written before.
    pub since: Option<Moment>,
    /// Of the lines so far, only so many at the end.
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
    /// The part of a line that was read without its end.
    part: Vec<u8>,
    /// Whether the last printed line of each stream lacks its end.
    is_open: [bool; 2],
}

impl<'a> Reader<'a> {
    /// Of the container whose files are in `directory`.
    pub fn new(directory: OwnedFd, wanted: &'a Wanted) -> Self {
        Self { directory, wanted, file: None, part: Vec::new(), is_open: [false; 2] }
    }

    /// Whether there is one. While it is put aside, for a moment only the older file has a name.
    pub fn has_log(&self) -> bool {
        self.number(0).or_else(|| self.number(1)).is_some()
    }

    /// Calls `print` for each line so far, with its stream, and its text with its end if it has one.
    pub fn print(&mut self, print: &mut Print<'_>) {
        let Some(tail) = self.wanted.tail else {
            self.print_all(print);
            return;
        };
        let mut last: VecDeque<Vec<(Stream, Vec<u8>)>> = VecDeque::new();
        let mut is_open = [false; 2];
        self.print_all(&mut |stream, text| {
            let goes_on = std::mem::replace(&mut is_open[stream as usize], !text.ends_with(b"\n"));
            let part = (stream, text.to_vec());
            // A line of the other stream may stand between two parts.
            match last.iter_mut().rfind(|line| line.first().is_some_and(|(of, _)| *of == stream)) {
                Some(line) if goes_on => line.push(part),
                // It began before the last lines.
                None if goes_on => {}
                _ => last.push_back(vec![part]),
            }
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

    /// Prints the lines that have come since, even if the log was rotated meanwhile.
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
        let name = file::c_path(&name(place)).ok()?;
        statat(&self.directory, &*name, AtFlags::empty()).ok().map(number_of)
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

/// The last lines of a log, as text that a terminal shows and does not obey.
pub fn last_lines(directory: OwnedFd) -> String {
    /// Of the log; escaped, it still fits into one message to a client.
    const MOST: usize = 2048;
    let wanted = Wanted { since: None, tail: Some(10), timestamps: false };
    let mut bytes = Vec::new();
    Reader::new(directory, &wanted).print(&mut |_, text| bytes.extend_from_slice(text));
    let end = bytes.get(bytes.len().saturating_sub(MOST)..).unwrap_or_default();
    text::from_bytes(end).lines().map(|line| text::printable(line) + "\n").text()
}

fn number_of(stat: rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::file::CWD;
    use std::fs;
    use std::path::PathBuf;

    const ALL: Wanted = Wanted { since: None, tail: None, timestamps: false };

    /// A container's directory.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kontena-log-{}-{name}", std::process::id()));
            assert!(fs::create_dir(&path).is_ok());
            Self(path)
        }

        fn open(&self) -> OwnedFd {
            file::open(CWD, self.0.to_str().unwrap_or_default(), OFlags::DIRECTORY).expect("the directory")
        }

        fn set(&self, name: &str, content: &str) {
            assert!(fs::write(self.0.join(name), content).is_ok());
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort_unstable();
            names
        }

        /// What `logs` prints: o for stdout, e for stderr, and the text.
        fn logs(&self, wanted: &Wanted) -> String {
            printed(|print| Reader::new(self.open(), wanted).print(print))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn printed(read: impl FnOnce(&mut Print<'_>)) -> String {
        let mut text = String::new();
        read(&mut |stream, bytes| {
            text += if stream == Stream::Stdout { "o:" } else { "e:" };
            text += &String::from_utf8_lossy(bytes);
        });
        text
    }

    fn writer(directory: &Directory, max_size: u64, max_files: u32) -> Writer {
        Writer::open(directory.open(), Limits { max_size, max_files }).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn lines_of_the_cri_are_read() {
        let directory = Directory::new("cri");
        for (log, wanted) in [
            ("", ""),
            ("1970-01-01T00:00:01Z stdout F a b\n", "o:a b\n"),
            ("1970-01-01T00:00:01Z stderr F \n", "e:\n"),
            ("T stdout P a\nT stderr F x\nT stdout P b\nT stdout F c\n", "o:ae:x\no:bo:c\n"),
            // An unknown tag ends a line, as F does.
            ("T stdout F:more a\n", "o:a\n"),
            // What is cut short by a crash, or is no line, is passed over.
            ("\nT\nT stdout\nT stdout F\nT stdin F x\n  \nT stdout F a\n", "o:a\n"),
            ("T stdout F a\nT stdout F b", "o:a\n"),
            ("T stdout F é\0\u{1b}\n", "o:é\0\u{1b}\n"),
        ] {
            directory.set("log", log);
            assert_eq!(directory.logs(&ALL), wanted, "{log:?}");
        }
    }

    #[test]
    fn tail_and_since_choose_whole_lines() {
        let directory = Directory::new("tail");
        let log = "\
            1970-01-01T00:00:01Z stdout F one\n\
            1970-01-01T00:00:02.5Z stdout P t\n\
            1970-01-01T00:00:02.6Z stderr F error\n\
            1970-01-01T00:00:02.7Z stdout F wo\n\
            1970-01-01T00:00:03Z stdout P three\n\
            no-time stdout F !\n";
        directory.set("log", log);
        let all = "o:one\no:te:error\no:wo\no:threeo:!\n";
        let (two, error, three) = ("o:to:wo\n", "e:error\n", "o:threeo:!\n");
        for (tail, wanted) in [
            (0, String::new()),
            (1, three.into()),
            (2, format!("{error}{three}")),
            (3, format!("{two}{error}{three}")),
            (4, format!("o:one\n{two}{error}{three}")),
            (usize::MAX, format!("o:one\n{two}{error}{three}")),
        ] {
            assert_eq!(directory.logs(&Wanted { tail: Some(tail), ..ALL }), wanted, "--tail {tail}");
        }
        for (since, wanted) in [
            (Moment(0, 0), "o:one\no:te:error\no:wo\no:three"),
            (Moment(2, 600_000_000), "e:error\no:wo\no:three"),
            (Moment(3, 0), "o:three"),
            (Moment(4, 0), ""),
        ] {
            assert_eq!(directory.logs(&Wanted { since: Some(since), ..ALL }), wanted, "--since {since}");
        }
        assert_eq!(directory.logs(&ALL), all);
        let wanted = Wanted { tail: Some(3), timestamps: true, ..ALL };
        let stamped =
            "o:1970-01-01T00:00:02.5Z to:wo\ne:1970-01-01T00:00:02.6Z error\no:1970-01-01T00:00:03Z threeo:!\n";
        assert_eq!(directory.logs(&wanted), stamped);
    }

    #[test]
    fn last_lines_are_harmless_and_few() {
        let directory = Directory::new("last");
        assert_eq!(last_lines(directory.open()), "");
        let many: String = (0..20).map(|number| format!("T stdout F {number}\n")).collect();
        directory.set("log", &format!("{many}T stderr F a\u{1b}[2Jb\nT stdout P end\n"));
        assert_eq!(last_lines(directory.open()), "12\n13\n14\n15\n16\n17\n18\n19\na\\x1b[2Jb\nend\n");
        directory.set("log", &format!("T stdout F {}\n", "\u{1b}".repeat(10_000)));
        assert!(last_lines(directory.open()).len() <= 4 * 2048);
    }

    #[test]
    fn reader_follows_a_log_that_is_put_aside() {
        let directory = Directory::new("follow");
        assert!(!Reader::new(directory.open(), &ALL).has_log());
        directory.set("log.2", "T stdout F 1\n");
        directory.set("log.1", "T stdout F 2\n");
        let mut reader = Reader::new(directory.open(), &ALL);
        assert!(reader.has_log(), "for a moment only the older file has a name");
        directory.set("log", "T stdout F 3\nT stdout F fo");
        assert_eq!(printed(|print| reader.print(print)), "o:1\no:2\no:3\n");
        assert_eq!(printed(|print| reader.print_more(print)), "");
        // The rest of the line that was not all there.
        directory.set("log", "T stdout F 3\nT stdout F four\n");
        assert_eq!(printed(|print| reader.print_more(print)), "o:four\n");
        for (from, to) in [("log.1", "log.2"), ("log", "log.1")] {
            assert!(fs::rename(directory.0.join(from), directory.0.join(to)).is_ok());
        }
        directory.set("log", "T stderr F 5\n");
        assert_eq!(printed(|print| reader.print_more(print)), "e:5\n");
        // All of its own are gone.
        directory.set("log.new", "T stdout F 7\n");
        directory.set("log.1", "T stdout F 6\n");
        assert!(fs::rename(directory.0.join("log.new"), directory.0.join("log")).is_ok());
        let _ = fs::remove_file(directory.0.join("log.2"));
        assert_eq!(printed(|print| reader.print_more(print)), "o:6\no:7\n");
    }

    #[test]
    fn writer_splits_long_lines_and_the_reader_joins_them() {
        let directory = Directory::new("parts");
        let mut writer = writer(&directory, u64::MAX, 1);
        let long = "x".repeat(2 * LONGEST + 5);
        for (text, lines) in [
            ("a\nb", 1),
            ("c\n", 1),
            ("\n\n", 2),
            (&*long, 2),
            ("y\n", 1),
            // As long as a line may be, and not longer.
            (&format!("{}\n", &long[..LONGEST]), 1),
            ("end", 0),
        ] {
            assert_eq!(writer.write(Stream::Stdout, text.as_bytes()), lines, "{text:.9}");
            assert_eq!(writer.write(Stream::Stderr, b"e\n"), 1);
        }
        writer.finish();
        let text = directory.logs(&ALL).replace("e:e\n", "").replace("o:", "");
        assert_eq!(
            text,
            format!("a\nbc\n\n\n{long}y\n{}\nend", &long[..LONGEST]),
            "the last line stays without its end"
        );
        // The next run begins a line of its own.
        writer.write(Stream::Stdout, b"more\n");
        assert_eq!(directory.logs(&Wanted { tail: Some(2), ..ALL }), "o:endo:\no:more\n");
        // Opened again, it goes on.
        self::writer(&directory, u64::MAX, 1).write(Stream::Stdout, b"again\n");
        assert_eq!(directory.logs(&Wanted { tail: Some(2), ..ALL }), "o:more\no:again\n");
    }

    #[test]
    fn log_has_so_many_files_of_such_a_size() {
        let text: String = (0..200).map(|number| format!("{number:060}\n")).collect();
        for (max_files, names) in [(1, &["log"][..]), (3, &["log", "log.1", "log.2"])] {
            let directory = Directory::new(&format!("size-{max_files}"));
            writer(&directory, 4096, max_files).write(Stream::Stdout, text.as_bytes());
            assert_eq!(directory.names(), names);
            let size = |name: &String| fs::metadata(directory.0.join(name)).map_or(0, |file| file.len());
            assert!(directory.names().iter().map(size).all(|size| (1..=4096).contains(&size)));
            let kept = directory.logs(&ALL).replace("o:", "");
            assert!(text.ends_with(&kept) && kept.len() > 1000 * max_files as usize, "{kept}");
        }
    }

    #[test]
    fn disk_that_is_full_costs_lines_and_says_how_many() {
        let directory = Directory::new("full");
        let mut writer = writer(&directory, u64::MAX, 2);
        let full = file::open(CWD, "/dev/full", OFlags::WRONLY).expect("/dev/full");
        let file = std::mem::replace(&mut writer.file, full);
        writer.write(Stream::Stdout, b"lost\nlost\n");
        writer.write(Stream::Stderr, b"lost\nopen");
        writer.file = file;
        writer.write(Stream::Stdout, b"kept\n");
        writer.finish();
        let note = "e:kontena: 3 lines lost here: the disk was full\n";
        assert_eq!(directory.logs(&ALL), format!("{note}o:kept\ne:open"));
    }
}
