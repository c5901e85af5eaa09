//! Shares, as guests use them, and as some try to.

use super::*;
use crate::Tag;
use crate::virtio::testing::Driver;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const READDIRPLUS: u32 = 44;

const ROOT: u64 = tree::ROOT;
const AMPLE: Quota = Quota {
    nodes: 1000,
    handles: 1000,
    files: 1000,
};

/// A guest, and beside what is shared with it something that is not.
struct Guest {
    driver: Driver,
    server: Server,
    folder: TempDir,
}

type Answered = Result<Vec<u8>, Errno>;

impl Guest {
    fn new(readonly: bool, quota: Quota) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("shared")).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let share = Share {
            path: folder.path().join("shared"),
            tag: Tag::new("shared").unwrap(),
            readonly,
            is_still: false,
        };
        let server = Server::open(&share, quota).map_err(|error| error.to_string());
        Self {
            driver: Driver::new(2),
            server: server.unwrap(),
            folder,
        }
    }

    fn writing() -> Self {
        Self::new(false, AMPLE)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("shared").join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn secret(&self) -> String {
        fs::read_to_string(self.folder.path().join("secret")).unwrap()
    }

    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Answered {
        let mut bytes = Vec::new();
        let len = u32::try_from(40 + body.len()).unwrap();
        bytes.extend([len, opcode].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend([77, node].into_iter().flat_map(u64::to_le_bytes));
        let [uid, gid] = [
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        ];
        bytes.extend([uid, gid, 1, 0].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(body);
        self.driver.request(1, &bytes, 0x1_0000);
        self.driver.ring(&mut self.server, 1);
        let mut done = self.driver.done(1);
        let answer = done.pop().expect("a request comes back");
        let Some((header, rest)) = answer.split_first_chunk::<16>() else {
            // What is only told to be forgotten has no answer.
            return Ok(answer);
        };
        let [a, b, c, d, e, f, g, h, unique @ ..] = *header;
        assert_eq!(u32::from_le_bytes([a, b, c, d]) as usize, answer.len());
        assert_eq!(u64::from_le_bytes(unique), 77);
        match i32::from_le_bytes([e, f, g, h]) {
            0 => Ok(rest.to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    fn look_up(&mut self, node: u64, name: &str) -> Result<u64, Errno> {
        let entry = self.ask(LOOKUP, node, &text(name))?;
        Ok(number(&entry, 0))
    }

    fn open(&mut self, node: u64, flags: u32) -> Result<u64, Errno> {
        let opened = self.ask(OPEN, node, &words(&[flags, 0]))?;
        Ok(number(&opened, 0))
    }

    fn read(&mut self, handle: u64, offset: u64, size: u32) -> Answered {
        self.ask(READ, 0, &part(handle, offset, size))
    }

    fn write(&mut self, handle: u64, offset: u64, bytes: &[u8]) -> Answered {
        let len = u32::try_from(bytes.len()).unwrap();
        let body = [part(handle, offset, len), bytes.to_vec()].concat();
        self.ask(WRITE, 0, &body)
    }

    /// The names in a folder, with their nodes where they are told.
    fn list(&mut self, node: u64, plus: bool) -> Result<BTreeMap<String, u64>, Errno> {
        let handle = number(&self.ask(OPENDIR, node, &words(&[0, 0]))?, 0);
        let (opcode, entry) = if plus {
            (READDIRPLUS, 128)
        } else {
            (READDIR, 0)
        };
        let (mut names, mut offset) = (BTreeMap::new(), 0);
        loop {
            let list = self.ask(opcode, node, &part(handle, offset, 512))?;
            let mut rest = &list[..];
            if rest.is_empty() {
                return Ok(names);
            }
            while !rest.is_empty() {
                let id = if plus { number(rest, 0) } else { 0 };
                offset = number(rest, entry + 8);
                let len = usize::try_from(number(rest, entry + 16) & 0xffff).unwrap();
                let name = &rest[entry + 24..][..len];
                names.insert(String::from_utf8(name.to_vec()).unwrap(), id);
                rest = &rest[(entry + 24 + len).next_multiple_of(8)..];
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn part(handle: u64, offset: u64, size: u32) -> Vec<u8> {
    [longs(&[handle, offset]), words(&[size, 0, 0, 0, 0, 0])].concat()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..][..8].try_into().unwrap())
}

/// A change of the fields that `valid` names, to `mode` or `size`.
fn setting(valid: u32, mode: u32, size: u64) -> Vec<u8> {
    let mut body = words(&[valid, 0]);
    body.extend(longs(&[0, size, 0, 0, 0, 0]));
    body.extend(words(&[0, 0, 0, mode, 0, 0, 0, 0]));
    body
}

fn new_file(name: &str, flags: u32, mode: u32) -> Vec<u8> {
    [words(&[flags, mode, 0, 0]), text(name)].concat()
}

#[test]
fn a_file_is_read_and_written() {
    let mut guest = Guest::writing();
    guest.put("file", "from the host");
    let file = guest.look_up(ROOT, "file").unwrap();
    let handle = guest.open(file, 2).unwrap();
    assert_eq!(guest.read(handle, 5, 100).unwrap(), b"the host");
    assert_eq!(guest.read(handle, 100, 100).unwrap(), b"");
    let written = guest.write(handle, 9, b"guest!").unwrap();
    assert_eq!(written, [6, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(guest.text("file"), "from the guest!");
    guest.ask(SETATTR, file, &setting(1 << 3, 0, 4)).unwrap();
    assert_eq!(guest.text("file"), "from");
    let created = guest
        .ask(CREATE, ROOT, &new_file("new", 0o101, 0o640))
        .unwrap();
    guest.write(number(&created, 128), 0, b"text").unwrap();
    assert_eq!(guest.text("new"), "text");
    let mode = fs::metadata(guest.path("new"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777 & !0o640, 0);
    guest.ask(UNLINK, ROOT, &text("new")).unwrap();
    assert!(!guest.path("new").exists());
    assert_eq!(guest.ask(STATFS, ROOT, &[]).unwrap().len(), 80);
}

#[test]
fn a_folder_tells_all_that_is_in_it() {
    let mut guest = Guest::writing();
    let mut expected: Vec<String> = (0..100).map(|number| format!("file {number}")).collect();
    for name in &expected {
        guest.put(name, "");
    }
    expected.extend([".".to_owned(), "..".to_owned()]);
    expected.sort();
    for plus in [false, true] {
        let list = guest.list(ROOT, plus).unwrap();
        assert_eq!(Vec::from_iter(list.keys().cloned()), expected);
        for (name, node) in list {
            let is_told = plus && !name.starts_with('.');
            assert_eq!(node != 0, is_told, "{name}");
            if is_told {
                assert_eq!(guest.look_up(ROOT, &name), Ok(node));
            }
        }
    }
}

/// On file systems that count a folder's entries, places move when one is removed.
#[test]
fn a_folder_is_emptied_while_it_is_read() {
    let mut guest = Guest::writing();
    for number in 0..200 {
        guest.put(&format!("file {number}"), "");
    }
    let handle = number(&guest.ask(OPENDIR, ROOT, &words(&[0, 0])).unwrap(), 0);
    let mut offset = 0;
    loop {
        let list = guest
            .ask(READDIR, ROOT, &part(handle, offset, 512))
            .unwrap();
        let mut rest = &list[..];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            offset = number(rest, 8);
            let len = usize::try_from(number(rest, 16) & 0xffff).unwrap();
            let name = str::from_utf8(&rest[24..][..len]).unwrap();
            if !name.starts_with('.') {
                guest.ask(UNLINK, ROOT, &text(name)).unwrap();
            }
            rest = &rest[(24 + len).next_multiple_of(8)..];
        }
    }
    assert_eq!(fs::read_dir(guest.path("")).unwrap().count(), 0);
    // From its beginning again, and with what has come meanwhile.
    guest.put("new", "");
    let list = guest.ask(READDIR, ROOT, &part(handle, 0, 512)).unwrap();
    assert!(list.windows(3).any(|bytes| bytes == b"new"));
}

#[test]
fn folders_links_and_names_are_made_and_moved() {
    let mut guest = Guest::writing();
    let folder = [words(&[0o755, 0]), text("folder")].concat();
    let folder = number(&guest.ask(MKDIR, ROOT, &folder).unwrap(), 0);
    guest.put("folder/file", "text");
    let file = guest.look_up(folder, "file").unwrap();
    guest
        .ask(LINK, ROOT, &[longs(&[file]), text("other")].concat())
        .unwrap();
    assert_eq!(guest.text("other"), "text");
    let link = [text("link"), text("../secret")].concat();
    let link = number(&guest.ask(SYMLINK, ROOT, &link).unwrap(), 0);
    assert_eq!(guest.ask(READLINK, link, &[]).unwrap(), b"../secret");
    let moved = [longs(&[ROOT]), text("folder"), text("moved")].concat();
    guest.ask(RENAME, ROOT, &moved).unwrap();
    assert_eq!(guest.look_up(ROOT, "moved"), Ok(folder));
    assert_eq!(guest.look_up(folder, "file"), Ok(file));
    assert_eq!(guest.look_up(ROOT, "folder"), Err(Errno::NOENT));
}

#[test]
fn no_name_leads_out_of_the_share() {
    let mut guest = Guest::writing();
    fs::create_dir(guest.path("folder")).unwrap();
    let folder = guest.look_up(ROOT, "folder").unwrap();
    for name in ["", ".", "..", "/", "../secret", "/etc/passwd", "folder/.."] {
        for node in [ROOT, folder] {
            assert_eq!(guest.look_up(node, name), Err(Errno::INVAL), "{name}");
            let bodies = [
                (UNLINK, text(name)),
                (MKDIR, [words(&[0o755, 0]), text(name)].concat()),
                (MKNOD, [words(&[0o644, 0, 0, 0]), text(name)].concat()),
                (CREATE, new_file(name, 2, 0o644)),
                (SYMLINK, [text(name), text("target")].concat()),
                (LINK, [longs(&[folder]), text(name)].concat()),
                (RENAME, [longs(&[ROOT]), text(name), text("new")].concat()),
                (
                    RENAME,
                    [longs(&[ROOT]), text("folder"), text(name)].concat(),
                ),
            ];
            for (opcode, body) in bodies {
                let refused = guest.ask(opcode, node, &body);
                assert_eq!(refused, Err(Errno::INVAL), "{opcode} {name}");
            }
        }
    }
    assert_eq!(guest.secret(), "secret");
    assert!(guest.path("folder").is_dir());
}

#[test]
fn no_link_is_followed_here() {
    let mut guest = Guest::writing();
    symlink("../secret", guest.path("file")).unwrap();
    symlink("..", guest.path("up")).unwrap();
    symlink("/proc/self/root", guest.path("magic")).unwrap();
    for (name, target) in [
        ("file", "../secret"),
        ("up", ".."),
        ("magic", "/proc/self/root"),
    ] {
        let link = guest.look_up(ROOT, name).unwrap();
        assert_eq!(guest.ask(READLINK, link, &[]).unwrap(), target.as_bytes());
        assert_eq!(guest.open(link, 0), Err(Errno::LOOP));
        assert_eq!(guest.open(link, 0o1002), Err(Errno::LOOP));
        assert_eq!(guest.look_up(link, "secret"), Err(Errno::NOTDIR));
        assert_eq!(guest.list(link, false), Err(Errno::NOTDIR));
        let emptied = guest.ask(SETATTR, link, &setting(1 << 3, 0, 0));
        assert_eq!(emptied, Err(Errno::LOOP));
        // Whatever becomes of the link's own mode, it is not the file's.
        let _ = guest.ask(SETATTR, link, &setting(1, 0o777, 0));
        let opened = guest.ask(CREATE, ROOT, &new_file(name, 0o102, 0o644));
        assert_eq!(opened, Err(Errno::LOOP));
        let through = guest.ask(MKDIR, link, &[words(&[0o755, 0]), text("new")].concat());
        assert_eq!(through, Err(Errno::NOTDIR));
    }
    assert_eq!(guest.secret(), "secret");
    let mode = fs::metadata(guest.folder.path().join("secret")).unwrap();
    assert_ne!(mode.permissions().mode() & 0o777, 0o777);
}

/// Somebody on the host, or the guest by another share, puts a link where a folder was.
#[test]
fn a_folder_that_became_a_link_is_not_gone_through() {
    let quota = Quota {
        handles: 2,
        ..AMPLE
    };
    for quota in [AMPLE, quota] {
        let mut guest = Guest::new(false, quota);
        fs::create_dir(guest.path("folder")).unwrap();
        let folder = guest.look_up(ROOT, "folder").unwrap();
        for name in ["a", "b", "c", "d"] {
            guest.put(name, "");
            guest.look_up(ROOT, name).unwrap();
        }
        fs::rename(guest.path("folder"), guest.path("old")).unwrap();
        symlink("..", guest.path("folder")).unwrap();
        let found = guest.look_up(folder, "secret");
        assert!(
            matches!(found, Err(Errno::NOENT | Errno::STALE)),
            "{found:?}"
        );
        let made = guest.ask(CREATE, folder, &new_file("new", 0o102, 0o644));
        assert!(!guest.folder.path().join("new").exists(), "{made:?}");
    }
}

#[test]
fn a_read_only_share_is_not_changed() {
    let mut guest = Guest::new(true, AMPLE);
    guest.put("file", "text");
    let file = guest.look_up(ROOT, "file").unwrap();
    let handle = guest.open(file, 0).unwrap();
    assert_eq!(guest.read(handle, 0, 9).unwrap(), b"text");
    for flags in [1, 2, 0o1000, 0o1001, 0o2001] {
        assert_eq!(guest.open(file, flags), Err(Errno::ROFS), "{flags:o}");
    }
    let bodies = [
        (SETATTR, file, setting(1 << 3, 0, 0)),
        (SETATTR, file, setting(1, 0o777, 0)),
        (UNLINK, ROOT, text("file")),
        (MKDIR, ROOT, [words(&[0o755, 0]), text("new")].concat()),
        (
            MKNOD,
            ROOT,
            [words(&[0o644, 0, 0, 0]), text("new")].concat(),
        ),
        (CREATE, ROOT, new_file("new", 2, 0o644)),
        (CREATE, ROOT, new_file("file", 0, 0o644)),
        (SYMLINK, ROOT, [text("new"), text("target")].concat()),
        (LINK, ROOT, [longs(&[file]), text("new")].concat()),
        (
            RENAME,
            ROOT,
            [longs(&[ROOT]), text("file"), text("new")].concat(),
        ),
        (
            45,
            ROOT,
            [longs(&[ROOT, 0]), text("file"), text("new")].concat(),
        ),
        (43, file, [longs(&[handle, 0, 9]), words(&[0, 0])].concat()),
    ];
    for (opcode, node, body) in bodies {
        assert_eq!(guest.ask(opcode, node, &body), Err(Errno::ROFS), "{opcode}");
    }
    for handle in [handle, 0, 2, u64::MAX] {
        assert_eq!(guest.write(handle, 0, b"new"), Err(Errno::ROFS));
    }
    assert_eq!(guest.text("file"), "text");
    assert_eq!(fs::read_dir(guest.path("")).unwrap().count(), 1);
}

#[test]
fn a_handle_does_what_it_was_opened_for() {
    let mut guest = Guest::writing();
    guest.put("file", "text");
    let file = guest.look_up(ROOT, "file").unwrap();
    let reads = guest.open(file, 0).unwrap();
    assert_eq!(guest.write(reads, 0, b"new"), Err(Errno::BADF));
    let folder = number(&guest.ask(OPENDIR, ROOT, &words(&[0, 0])).unwrap(), 0);
    assert_eq!(guest.read(folder, 0, 9), Err(Errno::ISDIR));
    let listed = guest.ask(READDIR, ROOT, &part(reads, 0, 512));
    assert_eq!(listed, Err(Errno::NOTDIR));
    assert_eq!(guest.open(ROOT, 0), Err(Errno::ISDIR));
    assert_eq!(guest.text("file"), "text");
}

#[test]
fn numbers_that_were_not_given_are_nobodys() {
    let mut guest = Guest::writing();
    guest.put("file", "text");
    let file = guest.look_up(ROOT, "file").unwrap();
    for node in [0, file + 1, u64::MAX] {
        assert_eq!(guest.look_up(node, "file"), Err(Errno::STALE));
        assert_eq!(guest.ask(GETATTR, node, &[0; 16]), Err(Errno::STALE));
        assert_eq!(guest.open(node, 0), Err(Errno::STALE));
        let of_nobody = [longs(&[node]), text("file"), text("new")].concat();
        assert_eq!(guest.ask(RENAME, ROOT, &of_nobody), Err(Errno::STALE));
    }
    for handle in [0, 1, 5, u64::MAX] {
        assert_eq!(guest.read(handle, 0, 9), Err(Errno::BADF));
        assert_eq!(guest.write(handle, 0, b"new"), Err(Errno::BADF));
    }
    // What was forgotten is nobody's either, and its number not another file's.
    guest.ask(FORGET, file, &longs(&[1])).unwrap();
    assert_eq!(guest.open(file, 0), Err(Errno::STALE));
    assert_ne!(guest.look_up(ROOT, "file").unwrap(), file);
    // The share itself is not forgotten.
    guest.ask(FORGET, ROOT, &longs(&[u64::MAX])).unwrap();
    assert!(guest.look_up(ROOT, "file").is_ok());
}

#[test]
fn a_guest_takes_no_more_of_the_host_than_it_may() {
    let quota = Quota {
        nodes: 20,
        handles: 4,
        files: 3,
    };
    let mut guest = Guest::new(false, quota);
    let before = descriptors();
    let names: Vec<_> = (0..30).map(|number| format!("f{number}")).collect();
    fs::create_dir(guest.path("folder")).unwrap();
    let folder = guest.look_up(ROOT, "folder").unwrap();
    for name in &names {
        guest.put(&format!("folder/{name}"), name);
    }
    let found: Vec<_> = names
        .iter()
        .map(|name| guest.look_up(folder, name))
        .collect();
    let (known, refused) = found.split_at(19);
    assert!(refused.iter().all(|one| *one == Err(Errno::NFILE)));
    assert!(descriptors() <= before + 4);
    // Those whose descriptors were given up are found again.
    for (node, name) in known.iter().zip(&names) {
        let handle = guest.open(node.unwrap(), 0).unwrap();
        assert_eq!(guest.read(handle, 0, 9).unwrap(), name.as_bytes());
        guest.ask(18, 0, &longs(&[handle, 0, 0])).unwrap();
    }
    assert!(descriptors() <= before + 4);
    let file = known[0].unwrap();
    let opened: Vec<_> = (0..5).map(|_| guest.open(file, 0)).collect();
    assert!(opened[..3].iter().all(Result::is_ok));
    assert_eq!(opened[3..], [Err(Errno::NFILE); 2]);
    let made = guest.ask(CREATE, folder, &new_file("new", 0o102, 0o644));
    assert_eq!(made, Err(Errno::NFILE));
    assert!(!guest.path("folder/new").exists());
    // A list has them all, whether or not there is a number for each.
    guest.server.stopped();
    let folder = guest.look_up(ROOT, "folder").unwrap();
    let list = guest.list(folder, true).unwrap();
    assert_eq!(list.len(), 32);
    assert_eq!(list.values().filter(|node| **node != 0).count(), 19);
}

/// How many descriptors this process has; other tests have some, too, but not of this folder's.
fn descriptors() -> usize {
    let here = Path::new("/proc/self/fd");
    let links = fs::read_dir(here).unwrap().flatten();
    let links = links.filter_map(|link| fs::read_link(link.path()).ok());
    links
        .filter(|link| link.to_string_lossy().contains("/shared/folder/f"))
        .count()
}

#[test]
fn what_the_driver_was_told_is_forgotten_with_it() {
    let mut guest = Guest::writing();
    guest.put("file", "text");
    let file = guest.look_up(ROOT, "file").unwrap();
    let handle = guest.open(file, 0).unwrap();
    guest.server.stopped();
    assert_eq!(guest.read(handle, 0, 9), Err(Errno::BADF));
    assert_eq!(guest.open(file, 0), Err(Errno::STALE));
}

#[test]
fn what_is_no_file_is_not_opened_here() {
    let mut guest = Guest::writing();
    let fifo = [words(&[0o010_644, 0, 0, 0]), text("fifo")].concat();
    let fifo = number(&guest.ask(MKNOD, ROOT, &fifo).unwrap(), 0);
    for flags in [0, 1, 2] {
        assert_eq!(guest.open(fifo, flags), Err(Errno::NXIO));
        let created = guest.ask(CREATE, ROOT, &new_file("fifo", flags, 0o644));
        assert_eq!(created, Err(Errno::NXIO));
    }
    // Character and block devices: /dev/mem would be the first.
    for kind in [0o020_666, 0o060_666] {
        let device = [words(&[kind, 0x101, 0, 0]), text("device")].concat();
        assert_eq!(guest.ask(MKNOD, ROOT, &device), Err(Errno::PERM));
    }
    assert!(!guest.path("device").exists());
}

#[test]
fn nobody_on_the_host_becomes_somebody_else_by_a_guests_program() {
    let mut guest = Guest::writing();
    guest.put("file", "");
    let file = guest.look_up(ROOT, "file").unwrap();
    for bits in [0o4755, 0o2755, 0o6755] {
        let set = guest.ask(SETATTR, file, &setting(1, bits, 0));
        assert_eq!(set, Err(Errno::PERM));
        let made = guest.ask(CREATE, ROOT, &new_file("new", 0o102, bits));
        assert_eq!(made, Err(Errno::PERM));
        let made = [words(&[0o100_000 | bits, 0, 0, 0]), text("new")].concat();
        assert_eq!(guest.ask(MKNOD, ROOT, &made), Err(Errno::PERM));
    }
    guest.ask(SETATTR, file, &setting(1, 0o1755, 0)).unwrap();
    let mode = fs::metadata(guest.path("file")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o1755);
    assert!(!guest.path("new").exists());
}

#[test]
fn of_the_kernels_own_file_systems_nothing_is_seen() {
    let share = |path: &str| Share {
        path: path.into(),
        tag: Tag::new("a").unwrap(),
        readonly: false,
        is_still: false,
    };
    let refused = Server::open(&share("/proc"), AMPLE).err().unwrap();
    assert!(refused.to_string().contains("kernel's own"), "{refused}");
    let mut guest = Guest::writing();
    guest.server = Server::open(&share("/"), AMPLE).ok().unwrap();
    let proc = guest.look_up(ROOT, "proc").unwrap();
    let own = std::process::id().to_string();
    for name in ["self", "1", &own, "mounts"] {
        assert_eq!(guest.look_up(proc, name), Err(Errno::NOENT));
    }
    for plus in [false, true] {
        let list = guest.list(proc, plus).unwrap();
        assert_eq!(Vec::from_iter(list.keys()), [".", ".."]);
    }
    let made = guest.ask(MKDIR, proc, &[words(&[0o755, 0]), text("a")].concat());
    assert_eq!(made, Err(Errno::ROFS));
    let set = guest.ask(SETATTR, proc, &setting(1, 0o777, 0));
    assert_eq!(set, Err(Errno::ROFS));
}

#[test]
fn what_is_no_folder_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let refusal = |name: &str| {
        let share = Share {
            path: folder.path().join(name),
            tag: Tag::new("a").unwrap(),
            readonly: true,
            is_still: false,
        };
        let error = super::share(&share, 0, 1).unwrap_err();
        (error.is_usage(), error.to_string())
    };
    let (is_usage, text) = refusal("file");
    assert!(is_usage && text.contains("is no folder"), "{text}");
    let (is_usage, text) = refusal("missing");
    assert!(!is_usage && text.contains("cannot share"), "{text}");
}

/// Whatever is asked, nothing outside of the share changes, and the next request is answered.
#[test]
fn no_request_brings_the_server_down() {
    let mut guest = Guest::new(false, Quota { files: 16, ..AMPLE });
    guest.put("file", "text");
    let init = [words(&[7, 31, 4096, u32::MAX]), vec![0; 48]].concat();
    assert_eq!(guest.ask(INIT, 0, &init).unwrap().len(), 64);
    let nodes = [0, ROOT, 2, 3, u64::MAX];
    let mut random = 1_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 33
    };
    for round in 0..4000_u64 {
        let opcode = u32::try_from(round % 56).unwrap();
        let len = usize::try_from(next() % 120).unwrap();
        let mut body: Vec<u8> = (0..len)
            .map(|_| match next() % 4 {
                0 => u8::try_from(next() % 256).unwrap(),
                1 => u8::try_from(next() % 4).unwrap(),
                _ => 0,
            })
            .collect();
        body.extend(b"file\0../secret\0");
        let node = nodes[usize::try_from(next() % 5).unwrap()];
        let _ = guest.ask(opcode, node, &body);
    }
    assert_eq!(guest.secret(), "secret");
    let outside: Vec<_> = fs::read_dir(guest.folder.path()).unwrap().collect();
    assert_eq!(outside.len(), 2);
    assert_eq!(guest.ask(STATFS, ROOT, &[]).unwrap().len(), 80);
}
