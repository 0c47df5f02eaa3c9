//! State directories, journals and their locks, without root, in a directory of each test's own.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A path where nothing is; whatever a test makes there goes with this.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("kontena-unit-{}-{test}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn mode(&self) -> u32 {
        fs::metadata(&self.0).unwrap().permissions().mode() & 0o7777
    }

    /// Here, a dead container holds nothing that would have to be given back.
    fn open(&self) -> StateDirectory {
        StateDirectory::open(self.path(), |journal| journal.close()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn exit(status: u8) -> Entry {
    Entry::Exit(ExitRecord::new(status, "a reason".into()))
}

const INIT: Init = Init { pid: 4711, since: 1, pid_namespace: 0 };

#[test]
fn a_missing_directory_is_made_and_removed_again() {
    let place = Place::new("missing");
    let state = place.open();
    assert_eq!(place.mode(), 0o700);
    assert!(state.mark().is_some() && state.all().unwrap().is_empty());
    // A second process sees the mark.
    let _ = place.open();
    state.leave();
    assert!(!place.0.exists());
}

#[test]
fn an_empty_directory_is_left_as_it_was() {
    let place = Place::new("empty");
    fs::create_dir(&place.0).unwrap();
    let before = place.mode();
    place.open().leave();
    assert_eq!((place.mode(), fs::read_dir(&place.0).unwrap().count()), (before, 0));
}

#[test]
fn other_directories_and_copies_are_refused() {
    let place = Place::new("other");
    fs::create_dir(&place.0).unwrap();
    fs::write(place.0.join("file"), "").unwrap();
    let refused = || StateDirectory::open(place.path(), |_| Ok(())).err().unwrap().to_string();
    assert!(refused().contains("not a state directory of kontena"), "{}", refused());
    // The mark of another inode.
    std::os::unix::fs::symlink("1 0", place.0.join(".kontena")).unwrap();
    assert!(refused().contains("not a state directory of kontena"), "{}", refused());
}

#[test]
fn a_journal_is_locked_as_long_as_its_launcher_lives() {
    let (place, name) = (Place::new("locked"), "web");
    let state = place.open();
    let mut journal = state.create(name).unwrap();
    assert!(state.find(name).err().unwrap().to_string().contains("no such container: web"));
    journal.append(Entry::Init(INIT)).unwrap();
    let other = place.open();
    assert_eq!(other.find(name).unwrap().running_init(), Some(INIT));
    assert!(other.create(name).err().unwrap().to_string().contains("running"));
    assert!(other.delete(name, false).err().unwrap().to_string().contains("running"));
    assert!(other.sweep_own().unwrap());
    drop(journal);
    // Its launcher was killed.
    let record = other.find(name).unwrap();
    assert_eq!((record.is_running, record.running_init()), (false, None));
    assert_eq!(record.exit.unwrap().status, KILLED);
    assert!(!other.sweep_own().unwrap());
    assert!(other.look(name).unwrap().is_none() && !place.0.join(name).exists());
}

#[test]
fn next_life_of_a_container_is_not_waited_for() {
    let (place, name) = (Place::new("lives"), "web");
    let state = place.open();
    let is_ending = |record: &ContainerRecord| record.exit.is_some();
    let mut journal = state.create(name).unwrap();
    journal.keep(b"a command").unwrap();
    for entry in [Entry::Init(INIT), exit(3)] {
        journal.append(entry).unwrap();
    }
    state.ask_to_stop(name).unwrap();
    std::thread::scope(|scope| {
        let wait = |is_this_life: fn(&StateDirectory, &ContainerRecord) -> bool| {
            let other = place.open();
            scope.spawn(move || other.wait_while(name, &|record| is_this_life(&other, record)).unwrap())
        };
        let waiting =
            [wait(|_, record| record.exit.is_some()), wait(|state, record| state.is_asked_to_stop(&record.name))];
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "its launcher is alive");
        drop(journal);
        let _next = state.reopen(name).unwrap();
        // Processes that wake up late, and processes that come late.
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        state.wait_while(name, &is_ending).unwrap();
        state.wait_while(name, &|_| state.is_asked_to_stop(name)).unwrap();
        assert!(state.find(name).unwrap().is_running);
    });
    state.wait_while("nosuch", &|_| true).unwrap();
}

#[test]
fn a_kept_record_stays_until_it_is_deleted() {
    let (place, name) = (Place::new("kept"), "web");
    let state = place.open();
    let mut journal = state.create(name).unwrap();
    for entry in [Entry::Kept, Entry::Init(INIT), exit(3)] {
        journal.append(entry).unwrap();
    }
    fs::write(place.0.join("web/log"), "").unwrap();
    fs::write(place.0.join("web/log.12"), "").unwrap();
    journal.close().unwrap();
    let record = state.find(name).unwrap();
    assert_eq!((record.is_running, record.init, record.exit.unwrap().status), (false, None, 3));
    assert_eq!(state.wait(name).unwrap().status, 3);
    assert!(state.create(name).err().unwrap().to_string().contains("kontena delete web"));
    state.delete(name, false).unwrap();
    state.delete(name, false).unwrap();
    assert!(state.all().unwrap().is_empty() && !place.0.join(name).exists());
}

#[test]
fn files_that_are_not_kontenas_are_left() {
    let place = Place::new("files");
    let state = place.open();
    let journal = state.create("web").unwrap();
    for file in ["log.x", "notes"] {
        fs::write(place.0.join("web").join(file), "").unwrap();
    }
    journal.close().unwrap();
    assert_eq!(fs::read_dir(place.0.join("web")).unwrap().count(), 2);
}

#[test]
fn a_journal_does_not_grow_with_what_counts_no_more() {
    let (place, file) = (Place::new("grow"), "web/journal");
    let state = place.open();
    let mut journal = state.create("web").unwrap();
    for restart in 1..100 {
        for entry in [Entry::Init(INIT), Entry::Health(restart % 2 == 0), exit(1), Entry::Restarts(restart)] {
            journal.append(entry).unwrap();
        }
        let read = ContainerRecord::parse("web", true, &fs::read_to_string(place.0.join(file)).unwrap());
        assert_eq!(&*read, journal.record());
        assert_eq!((read.restarts, read.is_restarting), (restart, true));
    }
    assert_eq!(fs::read_to_string(place.0.join(file)).unwrap().lines().count(), 4);
    assert!(state.find("web").unwrap().is_running);
}

#[test]
fn a_request_to_stop_is_for_one_container_of_a_name() {
    let place = Place::new("stop");
    let state = place.open();
    state.ask_to_stop("web").unwrap();
    let journal = state.create("web").unwrap();
    let directory = journal.directory().unwrap();
    let watch = stop::watch(&directory).unwrap();
    assert!(!stop::is_asked(&directory));
    state.ask_to_stop("web").unwrap();
    assert!(stop::is_asked(&directory));
    assert!(rustix::io::read(&watch, &mut [0; 64]).is_ok());
    // Its launcher was killed before it had written anything: the next one takes the directory over.
    drop(journal);
    let journal = state.create("web").unwrap();
    assert!(!stop::is_asked(&journal.directory().unwrap()));
}

#[test]
fn each_start_looks_after_a_few() {
    let place = Place::new("few");
    let state = place.open();
    for number in 0..20 {
        state.create(&format!("c{number}")).unwrap().append(Entry::Init(INIT)).unwrap();
    }
    let left = || state.all().unwrap().len();
    state.sweep_few();
    assert_eq!(left(), 12);
    state.sweep_few();
    state.sweep_few();
    assert_eq!(left(), 0);
}

#[test]
fn names_that_lead_elsewhere_are_no_containers() {
    let place = Place::new("names");
    let state = place.open();
    for name in ["", ".", "..", "../a", "/", ".swept", "a/b", "a b"] {
        assert!(state.look(name).unwrap().is_none(), "{name:?}");
    }
}

#[test]
fn a_kept_container_is_opened_again_for_its_next_life() {
    let (place, name) = (Place::new("again"), "web");
    let state = place.open();
    let error = |name: &str| state.reopen(name).err().unwrap().to_string();
    assert!(error(name).contains("no such container: web"));
    let mut journal = state.create(name).unwrap();
    journal.keep(b"a command").unwrap();
    journal.keep(b"another one").unwrap();
    assert_eq!(state.command(name).unwrap(), b"another one", "an image may have more volumes by now");
    assert!(error(name).contains("is running"));
    drop(journal);
    // Created, and never started.
    assert_eq!(state.find(name).unwrap().exit, None);
    assert!(!state.sweep_own().unwrap());
    assert!(state.wait(name).err().unwrap().to_string().contains("not been started"));

    state.ask_to_stop(name).unwrap();
    let mut journal = state.reopen(name).unwrap();
    assert!(state.find(name).unwrap().is_running && error(name).contains("is running"));
    assert!(!stop::is_asked(&journal.directory().unwrap()));
    for entry in [Entry::Init(INIT), exit(3), Entry::Restarts(1), Entry::Init(INIT)] {
        journal.append(entry).unwrap();
    }
    drop(journal);
    // Its launcher was killed: nothing of that run is in the next one.
    assert_eq!(state.find(name).unwrap().exit.unwrap().status, KILLED);
    let journal = state.reopen(name).unwrap();
    let record = state.find(name).unwrap();
    assert_eq!((record.init, record.exit, record.restarts, record.is_kept), (None, None, 0, true));
    journal.close().unwrap();
    assert_eq!(state.command(name).unwrap(), b"another one");
    state.delete(name, false).unwrap();
    assert!(!place.0.join(name).exists());
}
