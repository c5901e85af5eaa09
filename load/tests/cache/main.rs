//! The cache as its users see it: what is kept, when it is used again, and what becomes of it.

mod source;

use firstlight_base::{Gpa, GpaRange, GuestMem};
use firstlight_boot::{BootPlan, Request, plan};
use firstlight_image::{Image, Limits};
use firstlight_load::{Backing, Cache, GuestMemory, Kind, Layer, Opened, Sources, place};
use source::{Source, kernel, settle};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, io, thread};

fn cache(source: &Source) -> Cache {
    Cache::open(&source.folder().join("cache"), Cache::BOUND).expect("a fresh folder")
}

/// Asks for the source's layers; `None` where they had to be unpacked.
fn get(cache: &Cache, source: &Source) -> Opened {
    let file = File::open(source.path()).expect("the source is there");
    cache
        .get(Kind::Image, &file, source.path(), || source.take_apart())
        .expect("the kernel unpacks")
}

/// The file of the only entry.
fn data(cache: &Cache) -> PathBuf {
    let mut found = files(cache);
    found.retain(|path| path.extension().is_some_and(|ending| ending == "data"));
    assert_eq!(found.len(), 1, "one entry: {found:?}");
    found.remove(0)
}

fn files(cache: &Cache) -> Vec<PathBuf> {
    let found = fs::read_dir(cache.folder()).expect("the cache's folder");
    found.map(|entry| entry.expect("an entry").path()).collect()
}

fn planned(opened: &Opened) -> BootPlan {
    let image = Image::reopen(opened.layers.for_image()).expect("the layers of an image");
    plan(&image, &Request::default()).expect("it fits")
}

/// Guest memory with the kernel in it: from the cache's file where there is one.
fn placed(opened: &Opened) -> (BootPlan, GuestMemory) {
    let plan = planned(opened);
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private).expect("memory");
    let sources = Sources {
        layers: &opened.layers.bytes(),
        kept: &Vec::from_iter(opened.layers.file()),
        ..Sources::default()
    };
    place(&plan, &sources, &memory).expect("the plan was made for it");
    (plan, memory)
}

/// All that the plan puts into memory.
fn contents(plan: &BootPlan, memory: &GuestMemory) -> Vec<Vec<u8>> {
    plan.pieces()
        .iter()
        .filter(|piece| piece.range.end() <= Gpa::new(512 << 20))
        .map(|piece| read(memory, piece.range))
        .collect()
}

fn read(memory: &GuestMemory, range: GpaRange) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.len()).expect("a test's memory is small")];
    memory.read(range.start(), &mut bytes).expect("RAM");
    bytes
}

/// The lines of this process's memory map that name `file`.
fn mappings_of(file: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("a Linux host");
    let name = file.to_string_lossy().into_owned();
    maps.lines().filter(|line| line.contains(&name)).count()
}

#[test]
fn what_was_unpacked_once_is_found_again_byte_for_byte() {
    let source = Source::new(&kernel(1));
    let cache = cache(&source);
    let first = get(&cache, &source);
    assert!(!first.hit && first.note.is_none(), "{:?}", first.note);
    let again = cache.get(
        Kind::Image,
        &File::open(source.path()).unwrap(),
        source.path(),
        || -> Result<Vec<Layer>, ()> { panic!("it is kept, and need not be unpacked") },
    );
    let again = again.unwrap();
    assert!(again.hit);
    let unpacked = source.take_apart().unwrap();
    for opened in [&first, &again] {
        let layers = opened.layers.bytes();
        assert!(unpacked.iter().map(Layer::bytes).eq(layers.iter().copied()));
        assert!(opened.layers.file().is_some(), "this host grants leases");
    }
    let entries = cache.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].source, source.path());
    assert!(entries[0].current && entries[0].on_disk < entries[0].len);
}

#[test]
fn a_kept_kernel_is_mapped_and_the_guest_sees_the_same_as_if_it_were_copied() {
    let source = Source::new(&kernel(2));
    let cache = cache(&source);
    let copied = Opened::without_cache(source.take_apart().unwrap());
    let (plan, by_copy) = placed(&copied);
    get(&cache, &source);
    let kept = get(&cache, &source);
    let (same_plan, by_map) = placed(&kept);
    assert_eq!(plan.pieces(), same_plan.pieces());
    let file = data(&cache);
    assert!(mappings_of(&file) > 1, "the view and the guest's memory");
    assert_eq!(contents(&plan, &by_copy), contents(&plan, &by_map));
    // The guest's memory needs neither layers nor the cache any more.
    drop(kept);
    cache.clear().unwrap();
    assert_eq!(contents(&plan, &by_copy), contents(&plan, &by_map));
}

#[test]
fn what_a_guest_writes_stays_its_own() {
    let source = Source::new(&kernel(3));
    let cache = cache(&source);
    get(&cache, &source);
    let kept = get(&cache, &source);
    let (plan, one) = placed(&kept);
    let (_, other) = placed(&kept);
    let before = contents(&plan, &other);
    let kernel = plan.pieces().iter().max_by_key(|piece| piece.range.len());
    let at = kernel.unwrap().range.start().checked_add(0x2345).unwrap();
    one.write(at, b"written by the guest").unwrap();
    assert_ne!(contents(&plan, &one), before);
    assert_eq!(contents(&plan, &other), before);
    let again = get(&cache, &source);
    assert!(again.hit);
    assert_eq!(contents(&plan, &placed(&again).1), before);
}

#[test]
fn memory_that_is_shared_with_another_process_gets_copies() {
    let source = Source::new(&kernel(4));
    let cache = cache(&source);
    get(&cache, &source);
    let kept = get(&cache, &source);
    let plan = planned(&kept);
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Shared).unwrap();
    let sources = Sources {
        layers: &kept.layers.bytes(),
        kept: &Vec::from_iter(kept.layers.file()),
        ..Sources::default()
    };
    place(&plan, &sources, &memory).unwrap();
    let (_, private) = placed(&kept);
    assert_eq!(contents(&plan, &memory), contents(&plan, &private));
}

#[test]
fn a_source_that_has_changed_in_any_way_is_unpacked_anew() {
    let source = Source::new(&kernel(5));
    let cache = cache(&source);
    get(&cache, &source);
    let other = kernel(6);
    assert_eq!(other.len(), source.bytes().len());
    let mtime = || fs::metadata(source.path()).unwrap().modified().unwrap();

    let before = mtime();
    fs::write(source.path(), &other).unwrap();
    let file = File::options().write(true).open(source.path()).unwrap();
    // As `cp --preserve` and `touch -r` do: only the time of the change tells.
    file.set_modified(before).unwrap();
    settle(source.path());
    let opened = get(&cache, &source);
    assert!(!opened.hit, "same size, same time of writing");
    assert_eq!(opened.layers.bytes()[0], other);

    fs::write(source.path(), [&other[..], b"more"].concat()).unwrap();
    settle(source.path());
    assert!(!get(&cache, &source).hit, "another size");

    let aside = source.folder().join("aside");
    fs::copy(source.path(), &aside).unwrap();
    fs::rename(&aside, source.path()).unwrap();
    settle(source.path());
    assert!(!get(&cache, &source).hit, "another file of that name");

    File::options()
        .write(true)
        .open(source.path())
        .unwrap()
        .set_modified(before)
        .unwrap();
    settle(source.path());
    assert!(!get(&cache, &source).hit, "another time of writing");
    assert!(get(&cache, &source).hit);
}

#[test]
fn a_source_that_was_written_a_moment_ago_is_not_kept() {
    let source = Source::new(&kernel(7));
    let cache = cache(&source);
    for _ in 0..3 {
        fs::write(source.path(), source.bytes()).unwrap();
        let opened = get(&cache, &source);
        // On a host so busy that a tick has passed meanwhile, it may be.
        let age = fs::metadata(source.path())
            .unwrap()
            .modified()
            .unwrap()
            .elapsed();
        if age.is_ok_and(|age| age.as_millis() < 20) {
            assert!(!opened.hit && opened.layers.file().is_none());
            return;
        }
    }
    println!("skipped: this host is too busy to be asked within 20 ms");
}

#[test]
fn an_entry_that_was_tampered_with_is_made_anew() {
    type Tampering = (&'static str, fn(&Path));
    let tamper: [Tampering; 6] = [
        ("truncated", |data| {
            let file = File::options().write(true).open(data).unwrap();
            file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
        }),
        ("grown", |data| {
            let file = File::options().write(true).open(data).unwrap();
            file.set_len(file.metadata().unwrap().len() + 4096).unwrap();
        }),
        ("written to, its time put back", |data| {
            use std::os::unix::fs::FileExt;
            let file = File::options().write(true).open(data).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"!", 5 << 20).unwrap();
            file.set_modified(before).unwrap();
        }),
        ("writable", |_| {}),
        ("removed", |data| fs::remove_file(data).unwrap()),
        ("another file of the same bytes", |data| {
            let aside = data.with_extension("aside");
            fs::copy(data, &aside).unwrap();
            fs::rename(&aside, data).unwrap();
        }),
    ];
    for (how, tamper) in tamper {
        let source = Source::new(&kernel(8));
        let cache = cache(&source);
        get(&cache, &source);
        let data = data(&cache);
        fs::set_permissions(&data, Permissions::from_mode(0o600)).unwrap();
        tamper(&data);
        if how != "writable" && data.exists() {
            fs::set_permissions(&data, Permissions::from_mode(0o400)).unwrap();
        }
        let rebuilt = get(&cache, &source);
        assert!(!rebuilt.hit, "{how}");
        let unpacked = source.take_apart().unwrap();
        let layers = rebuilt.layers.bytes();
        assert!(
            unpacked.iter().map(Layer::bytes).eq(layers.iter().copied()),
            "{how}"
        );
        drop(rebuilt);
        assert!(get(&cache, &source).hit, "{how}: made anew, and kept");
    }
}

#[test]
fn an_entry_of_another_owner_or_another_version_is_not_used() {
    let source = Source::new(&kernel(9));
    let cache = cache(&source);
    get(&cache, &source);
    let data = data(&cache);
    if std::os::unix::fs::chown(&data, Some(12345), None).is_ok() {
        // What is remembered is made to fit, so that only the owner is wrong.
        let link = data.with_extension("");
        let stat = fs::metadata(&data).unwrap();
        let text = format!(
            "{:x}-{:x}-{:x}_{:x}-{:x}_{:x}",
            stat.ino(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(text, &link).unwrap();
        assert!(!get(&cache, &source).hit);
        assert!(get(&cache, &source).hit);
    } else {
        println!("skipped: only root gives files away");
    }
    for path in files(&cache) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (_, stamp) = name.split_once('-').unwrap();
        fs::rename(&path, path.with_file_name(format!("k0-{stamp}"))).unwrap();
    }
    assert!(!get(&cache, &source).hit);
}

#[test]
fn of_many_who_come_at_once_one_unpacks_and_all_find_the_same() {
    const RACERS: usize = 8;
    let source = Source::new(&kernel(10));
    let cache = cache(&source);
    let unpacked = AtomicUsize::new(0);
    let start = Barrier::new(RACERS);
    thread::scope(|scope| {
        let racer = || {
            let file = File::open(source.path()).unwrap();
            start.wait();
            let opened = cache.get(Kind::Image, &file, source.path(), || {
                unpacked.fetch_add(1, Ordering::Relaxed);
                source.take_apart()
            });
            let opened = opened.unwrap();
            assert!(opened.note.is_none(), "{:?}", opened.note);
            assert_eq!(opened.layers.bytes()[0], source.bytes());
        };
        let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(racer)).collect();
        for racer in racers {
            racer.join().unwrap();
        }
    });
    assert_eq!(unpacked.load(Ordering::Relaxed), 1);
    assert_eq!(files(&cache).len(), 2, "{:?}", files(&cache));
}

#[test]
fn who_fails_to_unpack_leaves_nothing_behind_and_nobody_waiting() {
    let source = Source::new(&kernel(11));
    let cache = cache(&source);
    let file = File::open(source.path()).unwrap();
    let failed = cache.get(Kind::Image, &file, source.path(), || Err("broken"));
    assert_eq!(failed.err(), Some("broken"));
    assert!(files(&cache).is_empty());
    // As after a crash: somebody had begun, and is no more.
    get(&cache, &source);
    let new = data(&cache).with_extension("new");
    cache.clear().unwrap();
    fs::write(&new, b"the beginning of an entry").unwrap();
    let opened = get(&cache, &source);
    assert!(!opened.hit && opened.layers.file().is_some());
    assert!(!new.exists());
}

#[test]
fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
    let sources: Vec<Source> = (20..23).map(|seed| Source::new(&kernel(seed))).collect();
    let folder = sources[0].folder().join("cache");
    let large = Cache::open(&folder, Cache::BOUND).unwrap();
    get(&large, &sources[0]);
    let each = large.list().unwrap()[0].on_disk;
    let cache = Cache::open(&folder, 2 * each + each / 2).unwrap();
    get(&cache, &sources[1]);
    // The first was made before, but used after the second.
    let first = data_of(&cache, &sources[0]);
    let later = fs::metadata(&first).unwrap().modified().unwrap();
    set_used(&data_of(&cache, &sources[1]), later - 2 * DAY);
    set_used(&first, later - DAY);
    get(&cache, &sources[2]);
    let kept: Vec<PathBuf> = cache
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.source)
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.contains(&sources[0].path().to_path_buf()));
    assert!(kept.contains(&sources[2].path().to_path_buf()));

    let tiny = Cache::open(&folder, 1000).unwrap();
    let opened = get(&tiny, &sources[1]);
    assert!(opened.layers.file().is_none());
    let note = opened.note.unwrap().to_string();
    assert!(
        note.ends_with("bytes are more than the 1000 that the cache may have"),
        "{note}"
    );
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

fn data_of(cache: &Cache, source: &Source) -> PathBuf {
    let ino = format!(
        "-{:x}-",
        fs::metadata(source.path())
            .expect("this test made it")
            .ino()
    );
    let of_source = |path: &PathBuf| {
        let name = path
            .file_name()
            .expect("this test made it")
            .to_str()
            .expect("this test made it");
        name.ends_with(".data") && name.contains(&ino)
    };
    files(cache)
        .into_iter()
        .find(of_source)
        .expect("this test made it")
}

/// Makes an entry look as if it had been made and used then. It is only listed afterwards.
fn set_used(data: &Path, when: std::time::SystemTime) {
    let file = File::open(data).expect("this test made it");
    file.set_times(fs::FileTimes::new().set_accessed(when).set_modified(when))
        .expect("this test made it");
    let link = data.with_extension("");
    let seconds = when
        .duration_since(std::time::UNIX_EPOCH)
        .expect("this test made it")
        .as_secs();
    let status = Command::new("touch")
        .args(["--no-dereference", "--date", &format!("@{seconds}")])
        .arg(link)
        .status();
    assert!(status.expect("this test made it").success());
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    let source = Source::new(&kernel(12));
    let folder = source.folder().join("shared");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let error = Cache::open(&folder, Cache::BOUND).unwrap_err().to_string();
    assert!(error.contains("only they can write to"), "{error}");
    let file = Cache::open(source.path(), Cache::BOUND)
        .unwrap_err()
        .to_string();
    assert!(file.contains("is no folder"), "{file}");
}

#[test]
fn clearing_leaves_what_is_not_the_caches() {
    let source = Source::new(&kernel(13));
    let cache = cache(&source);
    get(&cache, &source);
    let other = cache.folder().join("README");
    fs::write(&other, "not ours").unwrap();
    let cleared = cache.clear().unwrap();
    assert_eq!(cleared.entries, 1);
    assert!(cleared.on_disk > 0);
    assert_eq!(files(&cache), [other]);
    assert!(cache.list().unwrap().is_empty());
}

/// Runs `name`, a test of this file, again in a shell that `prepare`s for it.
fn again(name: &str, shell: &[&str], prepare: &str, folder: &Path) -> Option<String> {
    let (program, arguments) = shell.split_first().expect("a shell");
    let output = Command::new(program)
        .args(arguments)
        .arg(format!(
            "{prepare} && exec \"$0\" --exact {name} --nocapture"
        ))
        .arg(env::current_exe().expect("this test made it"))
        .env(AGAIN, folder)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.is_empty() {
        return None;
    }
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complained}");
    Some(said)
}

const AGAIN: &str = "FIRSTLIGHT_TEST_FOLDER";

/// A cache where nothing can be kept: the boot goes on, and it is said.
fn goes_without(folder: &Path, why: &str) {
    let source = Source::new(&kernel(14));
    let cache = Cache::open(folder, Cache::BOUND).expect("this test made it");
    let opened = get(&cache, &source);
    let note = opened.note.as_ref().expect("it says why");
    let cause = std::error::Error::source(note)
        .expect("what the host said")
        .to_string();
    assert!(cause.contains(why), "{note}: {cause}");
    assert!(opened.layers.file().is_none());
    assert_eq!(opened.layers.bytes()[0], source.bytes());
    assert!(files(&cache).is_empty(), "{:?}", files(&cache));
    placed(&opened);
}

#[test]
fn a_full_disk_costs_the_cache_and_nothing_else() {
    let name = "a_full_disk_costs_the_cache_and_nothing_else";
    if let Some(folder) = env::var_os(AGAIN) {
        return goes_without(Path::new(&folder), "No space left on device");
    }
    let source = Source::new(b"");
    let mount = format!(
        "mount -t tmpfs -o size=1m,mode=700 small '{}'",
        source.folder().display()
    );
    let shell = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    if again(name, &shell, &mount, source.folder()).is_none() {
        println!("skipped: this host lets nobody make namespaces");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_costs_the_cache_and_nothing_else() {
    let name = "a_folder_that_cannot_be_written_to_costs_the_cache_and_nothing_else";
    if let Some(folder) = env::var_os(AGAIN) {
        return goes_without(Path::new(&folder), "Read-only file system");
    }
    let source = Source::new(b"");
    let mount = format!(
        "mount -t tmpfs -o ro,mode=700 fixed '{}'",
        source.folder().display()
    );
    let shell = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    if again(name, &shell, &mount, source.folder()).is_none() {
        println!("skipped: this host lets nobody make namespaces");
    }
}

#[test]
fn a_limit_on_files_sizes_costs_the_cache_and_nothing_else() {
    let name = "a_limit_on_files_sizes_costs_the_cache_and_nothing_else";
    if let Some(folder) = env::var_os(AGAIN) {
        return goes_without(Path::new(&folder), "File too large");
    }
    let source = Source::new(b"");
    let folder = source.folder().join("cache");
    let said = again(name, &["sh", "-c"], "ulimit -f 8192", &folder);
    assert!(said.is_some(), "there is a shell");
}

#[test]
fn whoever_cuts_or_changes_a_mapped_entry_changes_nothing_for_those_who_use_it() {
    let source = Source::new(&kernel(15));
    let cache = cache(&source);
    get(&cache, &source);
    let changes = [
        ": > \"$0\"",
        "dd if=/dev/zero of=\"$0\" bs=1M count=8 conv=notrunc status=none",
    ];
    for change in changes {
        let kept = get(&cache, &source);
        let data = data(&cache);
        let (plan, memory) = placed(&kept);
        // Nothing of the guest's memory has been touched yet.
        fs::set_permissions(&data, Permissions::from_mode(0o600)).unwrap();
        let changed = Command::new("sh").args(["-c", change]).arg(&data).status();
        assert!(changed.unwrap().success());
        let unpacked = source.take_apart().unwrap();
        let layers = kept.layers.bytes();
        assert!(unpacked.iter().map(Layer::bytes).eq(layers.iter().copied()));
        let copied = Opened::without_cache(unpacked);
        let (_, by_copy) = placed(&copied);
        assert_eq!(contents(&plan, &memory), contents(&plan, &by_copy));
        // What is placed from the layers after that is right as well, and not mapped any more.
        let (_, later) = placed(&kept);
        assert_eq!(contents(&plan, &later), contents(&plan, &by_copy));
        let rebuilt = get(&cache, &source);
        assert!(!rebuilt.hit);
    }
}

#[test]
fn what_others_write_while_an_entry_is_cut_is_not_lost() {
    let source = Source::new(&kernel(17));
    let cache = cache(&source);
    get(&cache, &source);
    let kept = get(&cache, &source);
    let data = data(&cache);
    let (plan, memory) = placed(&kept);
    let kernel = plan.pieces().iter().max_by_key(|piece| piece.range.len());
    let start = kernel.unwrap().range.start();
    let cut = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3_u64 {
            let (memory, cut) = (&memory, &cut);
            scope.spawn(move || {
                let mut count = 0_u64;
                while !cut.load(Ordering::Relaxed) || count < 1000 {
                    let at = start
                        .checked_add(0x1000 * (writer + 3 * (count % 50)))
                        .unwrap();
                    count += 1;
                    memory.write(at, &count.to_le_bytes()).unwrap();
                    let mut back = [0; 8];
                    memory.read(at, &mut back).unwrap();
                    assert_eq!(u64::from_le_bytes(back), count);
                }
            });
        }
        fs::set_permissions(&data, Permissions::from_mode(0o600)).unwrap();
        let changed = Command::new("sh")
            .args(["-c", ": > \"$0\""])
            .arg(&data)
            .status();
        cut.store(true, Ordering::Relaxed);
        assert!(changed.unwrap().success());
    });
    assert_eq!(fs::metadata(&data).unwrap().len(), 0);
}

#[test]
fn limits_on_unpacking_hold_with_a_cache() {
    let source = Source::new(&kernel(16));
    let cache = cache(&source);
    let file = File::open(source.path()).unwrap();
    let limits = Limits {
        unpacked: 1000,
        ..Limits::default()
    };
    let refused = cache.get(Kind::Image, &file, source.path(), || {
        Layer::of_image(source.bytes().to_vec(), &limits)
    });
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("cannot unpack"), "{error}");
    assert!(files(&cache).is_empty());
}
