//! Logs: what a container in the background writes is kept, line by line, whatever the disk and the readers do.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, Host, Program, wait_for, wait_until};

/// `kontena logs OPTIONS job`
fn logs<'a>(host: &'a Host, options: &[&str]) -> Program<'a> {
    host.kontena().arg("logs").args(options).arg("job")
}

/// How many bytes a container's launcher has read.
fn read_of(job: &Background<'_>) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", job.launcher())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// The sizes of a container's logs, the one that is written first.
fn sizes(job: &Background<'_>) -> Vec<u64> {
    let names = std::iter::once("log".to_owned()).chain((1..).map(|number| format!("log.{number}")));
    names.map_while(|name| fs::metadata(job.directory().join(name)).ok()).map(|file| file.len()).collect()
}

/// Asserts that lines are consecutive numbers, from `first` on if it is set; returns the last one.
#[track_caller]
fn assert_numbered(text: &str, first: Option<u64>) -> u64 {
    let mut last = first.map(|first| first - 1);
    for line in text.lines() {
        let number: u64 = line.parse().unwrap_or_else(|_| panic!("{line:?} is no number"));
        assert!(last.is_none_or(|last| number == last + 1), "{number} comes after {last:?}");
        last = Some(number);
    }
    last.expect("no line")
}

#[test]
fn lines_are_in_the_cri_format() {
    let host = Host::new();
    let job = host.background("job", &[], "echo one; echo two >&2; echo; printf 'no end'");
    assert_eq!(job.end(), 0);
    let lines: Vec<_> = job.log().into_iter().map(|line| (line.stream, line.tag, line.text)).collect();
    let line = |stream: &str, tag: &str, text: &str| (stream.to_owned(), tag.to_owned(), text.to_owned());
    let (mut out, err): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(stream, ..)| stream == "stdout");
    assert_eq!(out.pop(), Some(line("stdout", "P", "no end")), "the last line has no end");
    assert!(logs(&host, &[]).run().ok().ends_with("no end"), "nor does logs add one");
    assert_eq!(out, [line("stdout", "F", "one"), line("stdout", "F", "")]);
    assert_eq!(err, [line("stderr", "F", "two")]);
    let now = fs::read_to_string("/proc/uptime").is_ok();
    assert!(now && job.log().windows(2).all(|pair| pair[0].time.len() == pair[1].time.len()));
    // Nobody else reads them.
    let mode = host.says("stat", &["-c", "%a %u", job.directory().join("log").to_str().unwrap()]);
    assert_eq!(mode, "600 0\n");
}

/// A step of a script: it waits until the test has taken that one by [`go_on`].
fn until(step: &str) -> String {
    format!("until [ -e /host/{step} ]; do sleep 0.02; done")
}

fn go_on(host: &Host, step: &str) {
    fs::write(host.directory().join(step), "").unwrap();
}

#[test]
fn times_are_those_of_the_lines() {
    let host = Host::new();
    let now = || host.says("date", &["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).trim().to_owned();
    let before = now();
    let volume = format!("{}:/host", host.directory().display());
    let job = host.background("job", &["-v", &volume], &format!("echo one; {}; echo two", until("a")));
    job.wait_for_log("one");
    go_on(&host, "a");
    assert_eq!(job.end(), 0);
    let after = now();
    let times: Vec<String> = job.log().into_iter().map(|line| line.time).collect();
    assert!(before < times[0] && times[0] < times[1] && times[1] < after, "{before} {times:?} {after}");
    let out = logs(&host, &["-t"]).run().ok();
    assert_eq!(out, format!("{} one\n{} two\n", times[0], times[1]));
}

#[test]
fn streams_are_printed_to_their_own_fd() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let script = format!("for i in 1 2 3; do echo out $i; {}; echo err $i >&2; {}; done", until("o$i"), until("e$i"));
    let job = host.background("job", &["-v", &volume], &script);
    for i in 1..=3 {
        job.wait_for_log(&format!("out {i}"));
        go_on(&host, &format!("o{i}"));
        job.wait_for_log(&format!("err {i}"));
        go_on(&host, &format!("e{i}"));
    }
    assert_eq!(job.end(), 0);
    let outcome = logs(&host, &[]).run().code(0);
    assert_eq!(outcome.stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(outcome.stderr, "err 1\nerr 2\nerr 3\n");
    let order: Vec<String> = job.log().into_iter().map(|line| line.text).collect();
    assert_eq!(order, ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"]);
}

#[test]
fn long_lines_are_split() {
    let host = Host::new();
    for length in [16383usize, 16384, 16385, 100_000] {
        let script = format!("head -c {length} /dev/zero | tr '\\0' x; echo; echo next");
        let job = host.background("job", &[], &script);
        assert_eq!(job.end(), 0);
        let log = job.log();
        assert!(log.iter().all(|line| line.text.len() <= 16384));
        let (last, parts) = log.split_last().unwrap();
        assert_eq!((&*last.text, &*last.tag), ("next", "F"));
        let tags: String = parts.iter().map(|line| &*line.tag).collect();
        assert_eq!(tags, "P".repeat(parts.len() - 1) + "F");
        // One that is full may be written before it is known that nothing more comes.
        assert!([length.div_ceil(16384), 1 + length / 16384].contains(&parts.len()), "{length}: {}", parts.len());
        let text = "x".repeat(length) + "\nnext\n";
        assert!(logs(&host, &[]).run().ok() == text, "they are one line again");
        assert!(logs(&host, &["--tail", "2"]).run().ok() == text, "and count as one");
        assert_eq!(logs(&host, &["-n", "1"]).run().ok(), "next\n");
        let out = logs(&host, &["-t"]).run().ok();
        assert_eq!(out.lines().filter(|line| line.contains('Z')).count(), 2, "a line has one time");
        let _ = job.does("delete");
    }
}

#[test]
fn parts_of_both_streams_are_not_mixed() {
    let host = Host::new();
    // Each writes half of a line, and the other one's lines come in between.
    let script =
        "printf 'out begins, '; printf 'err begins, ' >&2; sleep 0.1; echo 'out ends'; sleep 0.1; echo 'err ends' >&2";
    let job = host.background("job", &[], script);
    assert_eq!(job.end(), 0);
    let outcome = logs(&host, &[]).run().code(0);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out begins, out ends\n", "err begins, err ends\n"));
    let volume = format!("{}:/host", host.directory().display());
    let (a, b) = (until("a"), until("b"));
    let script = format!("head -c 20000 /dev/zero | tr '\\0' o; {a}; echo between >&2; {b}; echo");
    let other = host.background("other", &["-v", &volume], &script);
    other.wait_for_log("stdout P");
    go_on(&host, "a");
    other.wait_for_log("between");
    go_on(&host, "b");
    assert_eq!(other.end(), 0);
    let tags: Vec<_> = other.log().into_iter().map(|line| (line.stream, line.tag)).collect();
    let tags: Vec<_> = tags.iter().map(|(stream, tag)| (&**stream, &**tag)).collect();
    assert_eq!(tags, [("stdout", "P"), ("stderr", "F"), ("stdout", "F")]);
    let outcome = host.kontena().args(["logs", "other"]).run().code(0);
    assert_eq!((outcome.stdout.len(), &*outcome.stderr), (20001, "between\n"));
}

#[test]
fn arbitrary_bytes_are_preserved() {
    let host = Host::new();
    let script = "i=1; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done; printf '\\0end\\n'";
    let job = host.background("job", &[], script);
    assert_eq!(job.end(), 0);
    let out = logs(&host, &[]).through("sh", &["-c", "\"$@\" | od -An -v -tx1 | tr -d ' \\n'", "sh"]).run().ok();
    let expected: String = (1..256u32).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(out, expected + "00656e640a");
    // A tty adds its own, as it does everywhere.
    let tty = host.background("tty", &["-t"], "echo line");
    assert_eq!(tty.end(), 0);
    assert_eq!(tty.logged(), "line\r\n");
}

#[test]
fn tail_and_since_select_lines() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let job = host.background("job", &["-v", &volume], &format!("seq 1 50; {}; sleep 1.2; seq 51 100", until("a")));
    job.wait_for_log("F 50\n");
    go_on(&host, "a");
    assert_eq!(job.end(), 0);
    for (options, first, count) in [
        (&["--tail", "10"][..], 91, 10),
        (&["-n", "100"], 1, 100),
        (&["-n1000"], 1, 100),
        (&["--tail=all"], 1, 100),
        (&["-n", "1"], 100, 1),
    ] {
        let out = logs(&host, options).run().ok();
        assert_eq!(assert_numbered(&out, Some(first)), 100, "{options:?}");
        assert_eq!(out.lines().count(), count, "{options:?}");
    }
    assert_eq!(logs(&host, &["--tail", "0"]).run().ok(), "");
    let times: Vec<String> = job.log().into_iter().map(|line| line.time).collect();
    assert_eq!(logs(&host, &["--since", &times[50]]).run().ok().lines().next(), Some("51"));
    assert_eq!(logs(&host, &["--since", &times[0]]).run().ok().lines().count(), 100);
    assert_eq!(logs(&host, &["--since", &times[50], "--tail", "3"]).run().ok(), "98\n99\n100\n");
    assert_eq!(logs(&host, &["--since", "2099-01-01"]).run().ok(), "");
    assert_eq!(logs(&host, &["--since", "1h"]).run().ok().lines().count(), 100);
    for bad in ["yesterday", "", "1", "-1h", "10x", "2026-13-01"] {
        let line = logs(&host, &["--since", bad]).run().refused(125);
        assert!(line.contains("--since"), "{line}");
    }
    for bad in ["x", "-1", "1.5"] {
        let line = logs(&host, &["--tail", bad]).run().refused(125);
        assert!(line.contains("--tail"), "{line}");
    }
}

#[test]
fn rotation_keeps_the_newest() {
    let host = Host::new();
    for (options, files, size) in [
        (&["--log-opt", "max-size=8k", "--log-opt", "max-file=3"][..], 3, 8 << 10),
        (&["--log-opt", "max-size=64k", "--log-opt", "max-file=1"], 1, 64 << 10),
        (&["--log-opt", "max-size=4096", "--log-opt", "max-file=5"], 5, 4096),
        (&[], 2, 1 << 20),
    ] {
        let job = host.background("job", options, "seq 1 60000");
        assert_eq!(job.end(), 0);
        let sizes = sizes(&job);
        assert_eq!(sizes.len(), files, "{options:?}: {sizes:?}");
        assert!(sizes.iter().all(|length| *length <= size), "{options:?}: {sizes:?}");
        assert!(sizes[1..].iter().all(|length| *length > size * 3 / 4), "{options:?}: {sizes:?}");
        assert_eq!(assert_numbered(&job.logged(), None), 60000);
        assert!(logs(&host, &[]).run().ok() == job.logged());
        let _ = job.does("delete");
    }
    // As large as it gets.
    let job = host.background("job", &["--log-opt", "max-size=-1"], "seq 1 200000");
    assert_eq!(job.end(), 0);
    assert_eq!((sizes(&job).len(), assert_numbered(&job.logged(), Some(1))), (1, 200_000));
    let _ = job.does("delete");
    for bad in
        ["max-size=0", "max-size=1k", "max-size=x", "max-file=0", "max-file=101", "max-file=x", "max-size", "", "tag=x"]
    {
        let line = host.sh(&["-d", "--log-opt", bad], "true").run().refused(125);
        assert!(line.contains(&format!("--log-opt \"{bad}\"")), "{line}");
    }
    let line = host.sh(&["-d", "--log-driver", "journald"], "true").run().refused(125);
    assert!(line.contains("journald") && line.contains("cri or none"), "{line}");
}

#[test]
fn long_lines_do_not_grow_the_log_beyond_its_size() {
    let host = Host::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do head -c 30000 /dev/zero | tr '\\0' x; echo; done";
    let job = host.background("job", &["--log-opt", "max-size=20k"], script);
    assert_eq!(job.end(), 0);
    // A part of a line is not cut once more.
    assert!(sizes(&job).iter().all(|size| *size <= 20 << 10), "{:?}", sizes(&job));
}

#[test]
fn follow_prints_new_lines_until_the_container_ends() {
    let host = Host::new();
    let job = host.background("job", &[], "trap 'echo ended; exit 3' TERM; echo begun; while :; do sleep 0.05; done");
    let mut follow = logs(&host, &["-f"]).start();
    follow.wait_for_output("begun\n");
    sleep(Duration::from_millis(100));
    assert!(!follow.has_ended());
    let _ = job.does("stop");
    assert_eq!(follow.finish().ok(), "begun\nended\n");
    // Of one that has ended, all there is.
    assert_eq!(logs(&host, &["-f"]).run().ok(), "begun\nended\n");
    assert_eq!(logs(&host, &["-f", "--tail", "1"]).run().ok(), "ended\n");
}

#[test]
fn follow_continues_after_a_restart() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let script = "n=$(cat /host/lives 2> /dev/null || echo 0); echo life $n; echo $((n + 1)) > /host/lives; exit 1";
    let _ = fs::remove_file(host.directory().join("lives"));
    let _job = host.background("job", &["-v", &volume, "--restart", "on-failure:3"], script);
    assert_eq!(logs(&host, &["-f"]).run().ok(), "life 0\nlife 1\nlife 2\nlife 3\n");
}

#[test]
fn follow_loses_no_line_across_rotations() {
    let host = Host::new();
    let script = "i=1; while [ $i -le 3000 ]; do echo $i; i=$((i + 1)); [ $((i % 20)) = 0 ] && sleep 0.01; done";
    let options = ["--log-opt", "max-size=4k", "--log-opt", "max-file=20"];
    for from in [&["-f"][..], &["-f", "--tail", "5"], &["-f"]] {
        let job = host.background("job", &options, script);
        let out = logs(&host, from).run().ok();
        assert_eq!(assert_numbered(&out, None), 3000);
        assert!(out.lines().count() > 1000, "{}", out.lines().count());
        assert_eq!(sizes(&job).len(), 20);
        let _ = job.does("delete");
    }
}

#[test]
fn logs_are_read_without_inotify() {
    // As with a user who has 128 of inotify(7) already: a user namespace of its own, whose root may have none.
    let host = Host::new();
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/host", shared.display());
    let job = host.background("job", &["-v", &volume], &format!("echo one; {}; echo two; exec sleep 600", until("go")));
    job.wait_for_log("one");
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let without = |options: &[&str]| logs(&host, options).through("unshare", &["-Ur", "sh", "-c", script, "sh"]);
    assert_eq!(without(&[]).run().ok(), "one\n");
    let mut following = without(&["-f"]).start();
    following.wait_for_output("one\n");
    fs::write(shared.join("go"), "").unwrap();
    following.wait_for_output("two\n");
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    assert_eq!(following.finish().ok(), "one\ntwo\n");
}

#[test]
fn flood_of_newlines_does_not_keep_the_launcher_busy() {
    // For each the log has a line of 41 bytes.
    let host = Host::new();
    let script = "head -c 1048576 /dev/zero | tr '\\0' '\\n' > /tmp/flood; while :; do cat /tmp/flood; done";
    let job = host.background("job", &["--tmpfs", "/tmp"], script);
    let read = || read_of(&job);
    wait_until("the flood", || read() > 64 << 10);
    let (before, begun) = (read(), std::time::Instant::now());
    sleep(Duration::from_secs(2));
    let rate = (read() - before) * 1000 / begun.elapsed().as_millis() as u64;
    assert!(rate < 400_000, "{rate} lines a second");
    // The signal ends it at once, and loses nothing that has arrived: every line is complete.
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    assert!(job.log().iter().all(|line| line.text.is_empty() && line.tag == "F"));
    // Ordinary lines are not held up: they are the container's own expense.
    let _ = job.does("delete");
    let job =
        host.background("job", &[], "exec yes this is an ordinary line as programs write them, of seventy characters");
    wait_until("the flood", || read_of(&job) > 64 << 10);
    let (before, begun) = (read_of(&job), std::time::Instant::now());
    sleep(Duration::from_secs(1));
    let rate = (read_of(&job) - before) * 1000 / begun.elapsed().as_millis() as u64;
    assert!(tests::instruments() != Path::new("/") || rate > 4_000_000, "{rate} bytes a second");
}

#[test]
fn follow_ends_when_the_launcher_is_killed() {
    let host = Host::new();
    for round in 0..10 {
        let driver = if round % 2 == 0 { "cri" } else { "none" };
        let job = host.background("job", &["--log-driver", driver], "echo begun; exec sleep 600");
        let follow = logs(&host, &["-f"]).start();
        sleep(Duration::from_millis(100));
        job.kill_launcher();
        let _ = follow.finish().code(0);
        let _ = job.does("delete");
    }
}

#[test]
fn follow_ends_with_its_reader_or_when_the_container_is_deleted() {
    let host = Host::new();
    let job = host.background("job", &[], "while :; do echo line; sleep 0.01; done");
    let _ = logs(&host, &["-f"]).through("sh", &["-c", "\"$@\" | head -n 3", "sh"]).run().ok();
    let follow = logs(&host, &["-f", "--tail", "0"]).start();
    wait_until("a line", || follow.stdout().contains("line"));
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    let _ = follow.finish().code(0);
    assert_eq!(job.status(), "gone");
}

#[test]
fn readers_do_not_block_the_container() {
    let host = Host::new();
    let job = host.background("job", &["--log-opt", "max-size=64k"], "seq 1 300000");
    // One that reads nothing.
    let stuck = logs(&host, &["-f"]).through("sh", &["-c", "\"$@\" | sleep 600", "sh"]).start();
    assert_eq!(job.end(), 0);
    assert_eq!(assert_numbered(&job.logged(), None), 300_000);
    drop(stuck);
}

#[test]
fn log_of_a_container_with_rm_is_readable_while_it_runs() {
    let host = Host::new();
    let _job = host.background("job", &["--rm"], "echo begun; exec sleep 600");
    wait_until("its output", || logs(&host, &[]).run().ok() == "begun\n");
    let _without = host.background("without", &["--rm", "--log-driver", "none"], "echo begun; exec sleep 600");
    let line = host.kontena().args(["logs", "without"]).run().refused(125);
    assert!(line.contains("without has no log") && line.contains("--log-driver none"), "{line}");
}

#[test]
fn log_driver_none_keeps_nothing() {
    let host = Host::new();
    let job = host.background("job", &["--log-driver", "none"], "seq 1 100000; exit 4");
    assert_eq!(job.end(), 4, "it is read all the same");
    assert_eq!(sizes(&job), [0; 0]);
    assert_eq!(logs(&host, &[]).run().ok(), "");
    let _ = job.does("delete");
    // An attached client sees it.
    let _ = host.background("job", &["--log-driver", "none", "-i"], "cat");
    assert_eq!(host.kontena().args(["attach", "job"]).input(b"seen\n").run().ok(), "seen\n");
}

/// How much the container writes: as much as is quick on this machine.
fn much() -> u64 {
    // In the virtual machine there is less of everything.
    if tests::instruments() == Path::new("/") { 1 << 30 } else { 32 << 20 }
}

#[test]
fn no_line_of_a_gigabyte_is_lost() {
    // Time, stream and tag.
    const HEAD: usize = "2026-01-31T13:00:00.123456789Z stdout F ".len();
    let host = Host::new();
    // Lines of 64 bytes, numbered; then it stops at once.
    let lines = much() / 64;
    let script = format!("exec seq -f '%063.0f' 1 {lines}");
    let job = host.background("job", &["--log-opt", "max-size=16m", "--log-opt", "max-file=100"], &script);
    let status = wait_for("the end of the container", || {
        let seen = job.seen()?;
        seen["exit"]["status"].as_i64().filter(|_| seen["status"] == "exited")
    });
    assert_eq!(status, 0);
    let sizes = sizes(&job);
    let kept: u64 = sizes.iter().sum();
    // All that is kept is there without a gap, up to the last line.
    let mut last = None;
    for number in (0..sizes.len()).rev() {
        let name = if number == 0 { "log".into() } else { format!("log.{number}") };
        for line in fs::read_to_string(job.directory().join(name)).unwrap().lines() {
            let number: u64 = line[HEAD..].parse().unwrap();
            assert!(last.is_none_or(|last| number == last + 1), "{number} comes after {last:?}");
            last = Some(number);
        }
    }
    assert_eq!(last, Some(lines));
    let all = lines * (64 + HEAD as u64);
    assert!(if sizes.len() == 100 { kept <= all } else { kept == all }, "{sizes:?}");
}

/// State on a file system of its own, with so much room.
fn small_state(host: &Host, size: &str) {
    let state = host.state();
    fs::create_dir(&state).unwrap();
    let options = format!("size={size},mode=700");
    host.inside(|| mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some(&*options)).unwrap());
}

/// Waits until the launcher of `job` has read, and made what it can of, all that was written.
fn wait_until_read(job: &Background) {
    let fds = format!("/proc/{}/fd", job.launcher());
    let has_bytes = |path: &Path| {
        let Ok(pipe) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) else { return false };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap();
        fds[0].revents().unwrap().contains(PollFlags::POLLIN)
    };
    wait_until("all to be read", || {
        let paths = fs::read_dir(&fds).unwrap().flatten().map(|entry| entry.path());
        let is_pipe = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
        let stat = || fs::read_to_string(format!("/proc/{}/stat", job.launcher())).unwrap();
        !paths.filter(is_pipe).any(|path| has_bytes(&path)) && stat().contains(") S ")
    });
}

/// The log as the host itself sees it, which is not there for the test.
fn printed(host: &Host) -> (String, String) {
    let outcome = logs(host, &[]).run().code(0);
    (outcome.stdout, outcome.stderr)
}

#[test]
fn full_disk_neither_kills_nor_blocks_and_is_reported() {
    let host = Host::new();
    small_state(&host, "256k");
    let volume = format!("{}:/host", host.directory().display());
    let script =
        "seq 1 100000; echo before; until [ -e /host/go ]; do sleep 0.05; done; echo after; sleep 0.2; echo last";
    let options = ["-v", &volume, "--log-opt", "max-size=-1", "--restart", "no"];
    let job = host.background("job", &options, script);
    // It has written all, which does not fit.
    wait_until("it to have written all", || {
        let processes = job.processes();
        processes.len() >= 2 && printed(&host).0.lines().count() > 1000 && {
            let is_there =
                |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n");
            processes.iter().any(is_there)
        }
    });
    wait_until_read(&job);
    let (out, err) = printed(&host);
    let kept = assert_numbered(&out, Some(1));
    assert!(kept < 100_000 && err.is_empty(), "{kept} {err}");
    assert_eq!(job.status(), "running");
    // It can still be dealt with.
    assert_eq!(job.exec(&["echo", "in"]).run().ok(), "in\n");
    // With room again, the log says what is missing.
    let state = host.state();
    let remount = |size: &str| {
        let options = format!("size={size}");
        host.inside(|| mount(None::<&str>, &state, None::<&str>, MsFlags::MS_REMOUNT, Some(&*options)).unwrap());
    };
    remount("1m");
    fs::write(host.directory().join("go"), "").unwrap();
    assert_eq!(job.end(), 0);
    let (out, err) = printed(&host);
    let (numbers, rest): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.parse::<u64>().is_ok());
    assert_eq!(numbers.len() as u64, kept);
    assert_eq!(rest, ["after", "last"]);
    // All that were written, but those that are there.
    assert_eq!(err, format!("kontena: {} lines lost here: the disk was full\n", 100_001 - kept));
    let _ = job.does("delete");
}

#[test]
fn full_disk_is_reported_at_the_end() {
    let host = Host::new();
    small_state(&host, "64k");
    let volume = format!("{}:/host", host.directory().display());
    let script = "seq 1 20000; until [ -e /host/go ]; do sleep 0.05; done";
    let job = host.background("job", &["-v", &volume], script);
    wait_until("it to have written all", || {
        job.processes()
            .iter()
            .any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n"))
    });
    wait_until_read(&job);
    let state = host.state();
    host.inside(|| mount(None::<&str>, &state, None::<&str>, MsFlags::MS_REMOUNT, Some("size=1m")).unwrap());
    fs::write(host.directory().join("go"), "").unwrap();
    assert_eq!(job.end(), 0);
    let (out, err) = printed(&host);
    let kept = assert_numbered(&out, Some(1));
    assert_eq!(err, format!("kontena: {} lines lost here: the disk was full\n", 20_000 - kept));
}

#[test]
fn full_disk_does_not_prevent_a_restart() {
    let host = Host::new();
    small_state(&host, "64k");
    let volume = format!("{}:/host", host.directory().display());
    let script = "echo life >> /host/lives; seq 1 20000; exit 1";
    let job = host.background("job", &["-v", &volume, "--restart", "on-failure:4"], script);
    wait_until("its end", || !job.leaf().exists() && job.status() != "running");
    assert_eq!(fs::read_to_string(host.directory().join("lives")).unwrap().lines().count(), 5);
    assert_eq!(job.end(), 1);
    let _ = job.does("delete");
    assert_eq!(host.list().len(), 0);
}

#[test]
fn log_of_a_killed_launcher_is_readable_until_it_is_deleted() {
    let host = Host::new();
    let job = host.background("job", &[], "echo line; printf 'half a line'; exec sleep 600");
    job.wait_for_log("line");
    job.kill_launcher();
    assert_eq!(logs(&host, &[]).run().ok(), "line\n");
    host.prune();
    assert_eq!(logs(&host, &[]).run().ok(), "line\n");
    // A crash in the midst of a line.
    let log = job.directory().join("log");
    let text = fs::read_to_string(&log).unwrap();
    for cut in 0..text.len() {
        fs::write(&log, &text[..cut]).unwrap();
        let _ = logs(&host, &[]).run().code(0);
        let _ = logs(&host, &["-f", "-t", "--tail", "1"]).run().code(0);
    }
    fs::write(&log, "x\n \n  \n   \nno time stdout F x\n1970-01-01T00:00:00.0Z stdin F x\n\n").unwrap();
    let _ = logs(&host, &["--since", "1m", "-t"]).run().code(0);
    let _ = job.does("delete");
    assert!(!job.directory().exists());
}

#[test]
fn nginx_logs_to_stdout_as_another_user() {
    let host = Host::new();
    let configuration = host.directory().join("nginx.conf");
    let text = "daemon off; pid /tmp/nginx.pid; error_log /dev/stderr notice; events {}
        http { access_log /dev/stdout; client_body_temp_path /tmp/body; server { listen 8080; root /var/www; } }\n";
    fs::write(&configuration, text).unwrap();
    let volume = format!("{}:/etc/nginx/nginx.conf:ro", configuration.display());
    for tty in [&[][..], &["-t"]] {
        let options = ["-d", "--name", "job", "-u", "101:101", "-v", &volume, "-p", "8080:8080", "--wait-ready"];
        let _ = host.run(&[&options[..], tty].concat(), host.demo(), &["/usr/sbin/nginx"]).run().ok();
        host.get("127.0.0.1:8080").unwrap();
        let job = Background::new(&host, "job");
        job.wait_for_log("GET / HTTP/1.0");
        let log = job.log();
        let notices = log.iter().filter(|line| line.text.contains("[notice]"));
        let expected = if tty.is_empty() { "stderr" } else { "stdout" };
        assert!(notices.clone().count() > 0 && notices.clone().all(|line| line.stream == expected), "{log:?}");
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
    // Once more, in a user namespace.
    let options = ["-d", "--name", "job", "--net", "none", "--userns", "map=0:300000:65536", "--tmpfs", "/tmp"];
    let image = tests::images().join("demo.erofs");
    let intruder = format!("{}:/run/intruder:ro", tests::intruder().display());
    let program = host.run(
        &[&options[..], &["-v", &intruder]].concat(),
        image,
        &["/run/intruder", "write", "/dev/stdout", "out\n", "/dev/stderr", "err\n"],
    );
    let _ = program.run().ok();
    let job = Background::new(&host, "job");
    assert_eq!(job.end(), 0, "{:?}", job.log());
    let lines: Vec<_> = job.log().into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["out", "err"]);
}

#[test]
fn signal_ends_logs_follow() {
    let host = Host::new();
    let _job = host.background("job", &[], "echo begun; exec sleep 600");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut follow = logs(&host, &["-f"]).start();
        follow.wait_for_output("begun");
        follow.signal(signal);
        let _ = follow.finish().code(-(signal as i32));
    }
}
