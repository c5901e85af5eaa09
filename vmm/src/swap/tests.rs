//! Against the host's own userfaultfd, where the test may have it.

use super::*;
use firstlight_base::{Gpa, GpaRange, GuestMem, MIB};
use firstlight_load::Backing;
use std::sync::atomic::{AtomicBool, Ordering};

const LEN: u64 = 16 * MIB;

fn memory(backing: Backing) -> Arc<GuestMemory> {
    let range = GpaRange::new(Gpa::new(0), LEN).unwrap();
    Arc::new(GuestMemory::allocate(&[range], backing).unwrap())
}

/// Nothing where the host does not let the test.
fn is_possible() -> bool {
    match Userfault::new() {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: no userfaultfd with UFFDIO_MOVE here: {error}");
            false
        }
    }
}

fn fill(memory: &GuestMemory, pages: Range<u64>) {
    for page in pages {
        memory.write(Gpa::new(page * PAGE), &content(page)).unwrap();
    }
}

fn content(page: u64) -> Vec<u8> {
    vec![u8::try_from(page % 251 + 1).unwrap(); PAGE_LEN]
}

fn assert_filled(memory: &GuestMemory, pages: Range<u64>) {
    let mut found = vec![0; PAGE_LEN];
    for page in pages {
        memory.read(Gpa::new(page * PAGE), &mut found).unwrap();
        assert!(found == content(page), "page {page}");
    }
}

#[test]
fn what_goes_out_leaves_memory_and_comes_back_as_it_was() {
    if !is_possible() {
        return;
    }
    let memory = memory(Backing::Private);
    fill(&memory, 0..1024);
    for page in 1024..1280 {
        memory.write(Gpa::new(page * PAGE), &[0]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let swap = Swap::new(Arc::clone(&memory), folder.path()).unwrap();
    let status = swap.page_out().unwrap();
    assert!(status.out);
    assert_eq!(status.swapped, 1024 * PAGE);
    assert_eq!(status.left_out, 0);
    assert!(status.zeros >= 256 * PAGE, "{status:?}");
    assert_eq!(status.resident, 0);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    assert_filled(&memory, 0..100);
    let status = swap.status().unwrap();
    assert!(status.faults > 0 && status.resident >= 100 * PAGE);
    let status = swap.page_in().unwrap();
    assert_eq!((status.out, status.swapped), (false, 0));
    assert_filled(&memory, 0..1024);
    assert_eq!(status.lost, 0);
}

#[test]
fn writers_go_on_while_memory_goes_out_and_in() {
    if !is_possible() {
        return;
    }
    const WRITERS: u64 = 3;
    const PAGES: u64 = 1024;
    let memory = memory(Backing::Private);
    let folder = tempfile::tempdir().unwrap();
    let swap = Swap::new(Arc::clone(&memory), folder.path()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (memory, over) = (&memory, &over);
            scope.spawn(move || {
                let mut expected = vec![0_u64; usize::try_from(PAGES).unwrap()];
                let mut random = writer + 1;
                while !over.load(Ordering::Relaxed) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let page = random % PAGES;
                    let at = Gpa::new((writer * PAGES + page) * PAGE + page * 8 % PAGE);
                    let mut found = [0; 8];
                    memory.read(at, &mut found).unwrap();
                    let slot = &mut expected[usize::try_from(page).unwrap()];
                    assert_eq!(u64::from_ne_bytes(found), *slot, "page {page} of {writer}");
                    *slot = random;
                    memory.write(at, &random.to_ne_bytes()).unwrap();
                }
            });
        }
        for _ in 0..20 {
            swap.page_out().unwrap();
            swap.page_out().unwrap();
            swap.page_in().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if !is_possible() {
        return;
    }
    let memory = memory(Backing::Private);
    fill(&memory, 0..600);
    let full = || File::options().read(true).write(true).open("/dev/full");
    let swap = Swap::with(
        Arc::clone(&memory),
        Box::new(move || full().map_err(SwapError::Write)),
    );
    let swap = swap.unwrap();
    let error = swap.page_out().unwrap_err();
    assert!(
        matches!(&error, SwapError::Write(error) if error.kind() == io::ErrorKind::StorageFull)
    );
    assert!(!swap.status().unwrap().out);
    assert_filled(&memory, 0..600);
}

#[test]
fn what_the_guest_gives_away_is_zeros_afterwards() {
    if !is_possible() {
        return;
    }
    let memory = memory(Backing::Private);
    fill(&memory, 0..64);
    let folder = tempfile::tempdir().unwrap();
    let swap = Swap::new(Arc::clone(&memory), folder.path()).unwrap();
    swap.page_out().unwrap();
    let given = GpaRange::new(Gpa::new(8 * PAGE), 16 * PAGE).unwrap();
    memory.discard(given).unwrap();
    assert_eq!(swap.status().unwrap().swapped, 48 * PAGE);
    let mut found = [1; 16];
    memory.read(given.start(), &mut found).unwrap();
    assert_eq!(found, [0; 16]);
    swap.page_in().unwrap();
    assert_filled(&memory, 0..8);
    assert_filled(&memory, 24..64);
}

#[test]
fn memory_that_is_shared_is_left_where_it_is() {
    if !is_possible() {
        return;
    }
    let memory = memory(Backing::Shared);
    fill(&memory, 0..64);
    let folder = tempfile::tempdir().unwrap();
    let swap = Swap::new(Arc::clone(&memory), folder.path()).unwrap();
    let status = swap.page_out().unwrap();
    assert_eq!((status.swapped, status.left_out), (0, LEN));
    assert_filled(&memory, 0..64);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = Swap::new(memory(Backing::Private), Path::new("/nowhere/at all")).unwrap_err();
    let RunError::Swap(error) = error else {
        panic!("{error}");
    };
    assert!(error.to_string().ends_with("/nowhere/at all"), "{error}");
}

#[test]
fn a_swap_that_is_dropped_brings_all_back() {
    if !is_possible() {
        return;
    }
    let memory = memory(Backing::Private);
    fill(&memory, 0..300);
    let folder = tempfile::tempdir().unwrap();
    let swap = Swap::new(Arc::clone(&memory), folder.path()).unwrap();
    swap.page_out().unwrap();
    drop(swap);
    assert_filled(&memory, 0..300);
}
