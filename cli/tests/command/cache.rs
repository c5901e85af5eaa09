//! What is kept unpacked, as people see it.

use crate::kernels::vmlinuz;
use crate::run::{Run, file, folder, program, run};
use firstlight_image::Codec;
use firstlight_image::testing::{cpio, pack};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

fn with_cache(folder: &Path, words: &[&str]) -> Run {
    let mut command = program();
    command.args(words).env("FIRSTLIGHT_CACHE", folder);
    run(command)
}

/// A file as [`file`] makes it, old enough that another change would be seen.
fn settled(name: &str, bytes: &[u8]) -> String {
    let file = file(name, bytes);
    // There is no event for this but time.
    thread::sleep(Duration::from_millis(25));
    file
}

#[test]
fn what_was_unpacked_is_listed_used_again_and_removed() {
    let kernel = settled("cached_kernel", &vmlinuz().build());
    let cache = folder("cached").join("images");
    let first = with_cache(&cache, &["-v", "plan", &kernel]);
    assert!(first.stderr.contains("unpacking"), "{first:#?}");
    let again = with_cache(&cache, &["-v", "plan", &kernel]);
    assert!(again.stderr.contains("was unpacked before"), "{again:#?}");
    assert!(!again.stderr.contains("unpacking"), "{again:#?}");
    assert_eq!(first.stdout, again.stdout);

    let list = with_cache(&cache, &["cache", "list"]).succeeded();
    assert!(list.contains("1 entry") && list.contains(&kernel), "{list}");
    let cleared = with_cache(&cache, &["cache", "clear"]).succeeded();
    assert!(cleared.starts_with("1 entry removed"), "{cleared}");
    let list = with_cache(&cache, &["cache", "list"]).succeeded();
    assert!(list.contains("0 entries"), "{list}");
}

#[test]
fn without_a_cache_everything_is_the_same_and_the_reason_is_told_when_asked_for() {
    let kernel = settled("uncached_kernel", &vmlinuz().build());
    let no_folder = settled("no_folder", b"this is a file");
    let quiet = with_cache(Path::new(&no_folder), &["plan", &kernel]);
    assert!(quiet.stderr.is_empty(), "{quiet:#?}");
    let told = with_cache(Path::new(&no_folder), &["-v", "plan", &kernel]);
    assert_eq!(told.stdout, quiet.stdout);
    assert!(
        told.stderr.contains("nothing is kept unpacked"),
        "{told:#?}"
    );
    with_cache(Path::new(&no_folder), &["cache", "list"]).failed_with(1, &["cannot use the cache"]);
}

#[test]
fn a_compressed_ramdisk_is_planned_as_large_as_it_is_unpacked() {
    let kernel = settled("initrd_kernel", &vmlinuz().build());
    let archive = cpio(&[("data", &[b'x'; 600_000])]);
    let packed = settled("initrd_packed", &pack(Codec::Gzip, &archive));
    let cache = folder("initrds").join("images");
    let size = |words: &[&str]| {
        let all = [
            &["plan", &kernel, "--initrd", &packed, "--format", "json"],
            words,
        ]
        .concat();
        let plan = with_cache(&cache, &all).succeeded();
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
        let map = plan["map"].as_array().expect("a map").clone();
        let initrd = map.into_iter().find(|part| part["name"] == "initrd");
        let range = initrd.expect("a ramdisk is planned for");
        let address = |end: &str| {
            let text = range[end].as_str().expect("an address is a string");
            u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
        };
        address("end") - address("start")
    };
    let unpacked = size(&[]);
    assert_eq!(unpacked, archive.len() as u64);
    let packed_len = fs::metadata(&packed).expect("it was written").len();
    assert_eq!(size(&["--unpack", "guest"]), packed_len);
}
