//! Updates of a board's image, by the very script of docs/board.md in BusyBox's ash: that the old image runs again when
//! the new one does not become ready, and that a board which loses its power at any moment boots one of the two.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use tests::{Background, Host, Outcome, Program, Running, images, instruments, launcher, provided, wait_until};

/// The script is in the first block of this.
const DOCUMENTATION: &str = include_str!("../../docs/board.md");

/// Where the page of `web` is.
const PAGE: &str = "127.0.0.1:80";
/// What the page of the demo says, and what that of its successor says.
const OLD: &str = "Hello from kontena";
const NEW: &str = "Hello from update2";

/// kontena as the script finds it: with the state directory and the cgroup of the host of this boot.
const KONTENA: &str = r#"
for word; do
    shift
    set -- "$@" "$word"
    [ "$word" != run ] || set -- "$@" --cgroup-parent "$PARENT"
done
exec "$KONTENA" --root "$STATE" "$@"
"#;

/// The data partition of a board, which outlives its boots.
struct Board {
    directory: PathBuf,
}

impl Board {
    /// With the script, the images `old.erofs` and `new.erofs`, and nothing installed.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kontena-test-{}-board{number}", std::process::id());
        let board = Self { directory: std::env::temp_dir().join(name) };
        let bin = board.directory.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let script = DOCUMENTATION.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
        fs::write(board.directory.join("web.sh"), script).unwrap();
        let kontena = bin.join("kontena");
        fs::write(&kontena, format!("#!{}{KONTENA}", bin.join("sh").display())).unwrap();
        fs::set_permissions(&kontena, Permissions::from_mode(0o755)).unwrap();
        // The applets of the script; flock is not in Debian's.
        for applet in ["sh", "dirname", "timeout", "sync", "readlink", "ln", "mv"] {
            symlink(provided("KONTENA_DEBIAN_ROOTFS").join("usr/bin/busybox"), bin.join(applet)).unwrap();
        }
        symlink(instruments().join("usr/bin/flock"), bin.join("flock")).unwrap();
        board.image("old.erofs", &[]);
        board.image("new.erofs", &[(OLD, NEW)]);
        board
    }

    /// An image of the demo in which texts are replaced by others of the same length.
    fn image(&self, name: &str, changes: &[(&str, &str)]) {
        let mut bytes = fs::read(images().join("demo.erofs")).unwrap();
        // feature_compat of struct erofs_super_block: no checksum of the first block.
        bytes[1024 + 8] &= !1;
        for (from, to) in changes {
            assert_eq!(from.len(), to.len());
            let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
            assert!(!found.is_empty(), "{from}");
            found.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
        }
        fs::write(self.directory.join(name), bytes).unwrap();
    }

    /// The script on the host of this boot.
    fn script<'a>(&self, host: &'a Host, arguments: &[&str]) -> Program<'a> {
        let bin = self.directory.join("bin");
        let program = host.program(bin.join("sh")).arg(self.directory.join("web.sh")).args(arguments);
        program
            .env("PATH", bin)
            .env("KONTENA", launcher())
            .env("STATE", host.state())
            .env("PARENT", host.cgroup_parent_option())
    }

    /// Lets the script give an image up after so many seconds, instead of the documented minute.
    fn give_up_after(&self, seconds: u64) {
        let file = self.directory.join("web.sh");
        let script = fs::read_to_string(&file).unwrap();
        assert!(script.contains("timeout 60 "));
        fs::write(&file, script.replace("timeout 60 ", &format!("timeout {seconds} "))).unwrap();
    }

    fn update(&self, host: &Host, file: &str) -> Outcome {
        self.script(host, &["update", file]).run()
    }

    /// Installs the old image, and puts data into its volume.
    fn install(&self, host: &Host) {
        assert_eq!(self.update(host, "old.erofs").ok(), "web\n");
        self.assert_boots(host, OLD);
        fs::write(self.directory.join("volumes/data/_data/kept"), "data").unwrap();
    }

    /// The file that the next boot starts.
    fn link(&self) -> String {
        fs::read_link(self.directory.join("web.erofs")).unwrap().to_str().unwrap().to_owned()
    }

    /// Asserts that `page` is served, and that the next boot starts the image that has it.
    #[track_caller]
    fn assert_boots(&self, host: &Host, page: &str) {
        assert!(host.get(PAGE).unwrap().contains(page), "not {page}");
        assert_eq!(self.link(), if page == OLD { "old.erofs" } else { "new.erofs" });
    }

    /// Asserts that the running container has the data.
    #[track_caller]
    fn assert_kept(&self, host: &Host) {
        let web = Background::new(host, "web");
        let root = PathBuf::from(format!("/proc/{}/root", web.init()));
        assert_eq!(fs::read_to_string(root.join("var/lib/web/kept")).unwrap(), "data");
    }

    /// Asserts that the update to `file` fails, and that the old image serves as before, after this boot and the next.
    #[track_caller]
    fn assert_refused(&self, host: &Host, file: &str) -> Outcome {
        let outcome = self.update(host, file).code(1);
        assert!(
            outcome.stderr.contains(&format!("web.sh: {file} does not become ready: old.erofs stays")),
            "{outcome}"
        );
        self.assert_boots(host, OLD);
        self.assert_kept(host);
        outcome
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// For the report, past what libtest keeps of a test that passes.
fn figure(what: &str, time: Duration) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "figure: {what}: {} ms", time.as_millis()).unwrap();
}

/// The power goes: all processes of the host end at once, and with them its /run and its cgroups. The host's end waits
/// for `updates`, which this process has to reap.
fn lose_power(host: Host, updates: Vec<Running>) {
    scope(|scope| {
        let _ = scope.spawn(|| drop(host));
        drop(updates);
    });
}

#[test]
fn update_serves_the_new_image_and_keeps_the_data() {
    let board = Board::new();
    let host = Host::new();
    board.install(&host);
    // How long the page is away.
    let (done, mut longest) = (AtomicBool::new(false), Duration::ZERO);
    let longest = scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Instant::now();
            while !done.load(Ordering::Relaxed) {
                if host.get(PAGE).is_ok() {
                    longest = longest.max(seen.elapsed());
                    seen = Instant::now();
                }
                sleep(Duration::from_millis(1));
            }
            longest
        });
        sleep(Duration::from_millis(50));
        assert_eq!(board.update(&host, "new.erofs").ok(), "web\n");
        wait_until("the new page", || host.get(PAGE).is_ok_and(|page| page.contains(NEW)));
        sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    figure("an update, from the last page of the old image to the first of the new", longest);
    board.assert_boots(&host, NEW);
    board.assert_kept(&host);
    // And back, as with any other file.
    let _ = board.update(&host, "old.erofs").ok();
    board.assert_boots(&host, OLD);
    let _ = board.update(&host, "new.erofs").ok();
    lose_power(host, Vec::new());
    let host = Host::new();
    let (start, boot) = (Instant::now(), board.script(&host, &["start"]).start());
    wait_until("the page", || host.get(PAGE).is_ok());
    figure("web.sh start after a boot, to the first page", start.elapsed());
    assert_eq!(boot.finish().ok(), "web\n");
    board.assert_boots(&host, NEW);
    board.assert_kept(&host);
}

#[test]
fn update_to_a_broken_image_brings_the_old_one_back() {
    let board = Board::new();
    let host = Host::new();
    board.install(&host);
    let whole = fs::read(board.directory.join("new.erofs")).unwrap();

    board.image("exits.erofs", &[("daemon off;", "daemon odd;")]);
    let outcome = board.assert_refused(&host, "exits.erofs");
    assert!(outcome.stderr.contains("web ended with 1 before it was ready"), "{outcome}");

    // The program's first bytes, those of an ELF file.
    let mut bytes = whole.clone();
    let programs: Vec<usize> = (4096..bytes.len()).filter(|at| bytes[*at..].starts_with(b"\x7fELF")).collect();
    programs.into_iter().for_each(|at| bytes[at..at + 64].fill(0xff));
    fs::write(board.directory.join("spoilt.erofs"), bytes).unwrap();
    let outcome = board.assert_refused(&host, "spoilt.erofs");
    assert!(outcome.stderr.contains("/usr/sbin/nginx"), "{outcome}");

    // Those that are cut short, or cannot be mounted, stop nothing.
    let before = Background::new(&host, "web").init();
    fs::write(board.directory.join("cut.erofs"), &whole[..whole.len() / 8192 * 4096]).unwrap();
    fs::write(board.directory.join("empty.erofs"), "").unwrap();
    fs::write(board.directory.join("zeros.erofs"), [&b"hsqs"[..], &[0; 4096]].concat()).unwrap();
    // Its first block is not what its checksum says.
    let mut bytes = fs::read(images().join("demo.erofs")).unwrap();
    bytes[1024 + 64] ^= 1;
    fs::write(board.directory.join("flipped.erofs"), bytes).unwrap();
    for file in ["cut.erofs", "empty.erofs", "zeros.erofs", "flipped.erofs"] {
        let _ = board.assert_refused(&host, file);
        assert_eq!(Background::new(&host, "web").init(), before, "{file}");
    }
    let outcome = board.update(&host, "nosuch.erofs").code(1);
    assert!(outcome.stderr.contains("nosuch.erofs"), "{outcome}");
    board.assert_boots(&host, OLD);
    assert_eq!(Background::new(&host, "web").init(), before);
    let _ = board.script(&host, &[]).run().code(1);
}

#[test]
fn update_to_a_silent_image_is_given_up() {
    let board = Board::new();
    let host = Host::new();
    board.install(&host);
    board.image("silent.erofs", &[("listen 80;", "listen 81;")]);
    let seconds = tests::patience().as_secs() / 12;
    board.give_up_after(seconds);
    let start = Instant::now();
    let _ = board.assert_refused(&host, "silent.erofs");
    assert!(start.elapsed() >= Duration::from_secs(seconds));
}

#[test]
fn update_without_power_boots_one_of_the_two() {
    let board = Board::new();
    let mut host = Host::new();
    board.install(&host);
    let (mut update, start) = (board.script(&host, &["update", "new.erofs"]).start(), Instant::now());
    // Its output is open for a moment longer: BusyBox's timeout looks once a second whether its command has ended.
    wait_until("the end of the update", || update.has_ended());
    let whole = start.elapsed();
    let _ = update.finish().ok();
    let _ = board.update(&host, "old.erofs").ok();
    let (moments, mut booted) = (tests::rounds(8), Vec::new());
    for moment in 0..=moments {
        let update = board.script(&host, &["update", "new.erofs"]).start();
        // The last moments are after its usual end.
        sleep(whole * 5 / 4 * u32::try_from(moment).unwrap() / u32::try_from(moments).unwrap());
        lose_power(host, vec![update]);
        host = Host::new();
        let _ = board.script(&host, &["start"]).run().ok();
        let page = if board.link() == "old.erofs" { OLD } else { NEW };
        board.assert_boots(&host, page);
        board.assert_kept(&host);
        booted.push(page);
        if page == NEW {
            let _ = board.update(&host, "old.erofs").ok();
        }
    }
    assert_eq!(booted.first(), Some(&OLD));
    assert!(booted.contains(&NEW), "no update has come to its end");
}

#[test]
fn update_that_was_killed_is_repaired_by_the_next() {
    let board = Board::new();
    let host = Host::new();
    board.install(&host);
    board.image("silent.erofs", &[("listen 80;", "listen 81;")]);
    board.give_up_after(tests::patience().as_secs() / 12);
    for (next, page) in [(&["start"][..], OLD), (&["update", "new.erofs"], NEW)] {
        let update = board.script(&host, &["update", "silent.erofs"]).start();
        wait_until("the new container", || host.get(PAGE).is_err());
        update.signal(Signal::SIGKILL);
        drop(update);
        assert_eq!(board.link(), "old.erofs");
        let _ = board.script(&host, next).run().ok();
        board.assert_boots(&host, page);
        board.assert_kept(&host);
    }
}

#[test]
fn updates_at_once_are_one_after_the_other() {
    let board = Board::new();
    let host = Host::new();
    board.install(&host);
    for _ in 0..tests::rounds(4) {
        let both = ["new.erofs", "old.erofs"].map(|file| board.script(&host, &["update", file]).start());
        for update in both {
            assert_eq!(update.finish().ok(), "web\n");
        }
        board.assert_boots(&host, if board.link() == "old.erofs" { OLD } else { NEW });
        board.assert_kept(&host);
    }
}
