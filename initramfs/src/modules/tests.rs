//! Tests of finding and ordering modules, on trees of small files.

use super::*;
use std::fmt::Write;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const KERNEL: Kernel<'_> = Kernel {
    architecture: Architecture::X86_64,
    version: Some("6.1-test"),
};

/// A module with those strings in its `.modinfo`: a file header, three section headers (none, the
/// names, `.modinfo`), and the two sections.
fn module(strings: &[&str]) -> Vec<u8> {
    let names = b"\0.modinfo\0";
    let mut info = Vec::new();
    for text in ["vermagic=6.1-test SMP mod_unload"].iter().chain(strings) {
        info.extend_from_slice(text.as_bytes());
        info.push(0);
    }
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([1, 0, 62, 0]); // ET_REL, EM_X86_64
    file.extend([0; 20]);
    file.extend(64_u64.to_le_bytes()); // e_shoff
    file.extend([0; 10]);
    for field in [64_u16, 3, 1] {
        file.extend(field.to_le_bytes()); // e_shentsize, e_shnum, e_shstrndx
    }
    let mut section = |name: u32, offset: usize, len: usize| {
        file.extend(name.to_le_bytes());
        file.extend([0; 20]);
        file.extend((offset as u64).to_le_bytes());
        file.extend((len as u64).to_le_bytes());
        file.extend([0; 24]);
    };
    section(0, 0, 0);
    section(0, 256, names.len());
    section(1, 256 + names.len(), info.len());
    file.extend(names);
    file.extend(info);
    file
}

/// A tree with the files of those names.
fn tree(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, contents) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    folder
}

/// The names in the order of loading, or what went wrong, without the folder's name.
fn order(folder: &TempDir, wanted: &[&str]) -> String {
    let of =
        ModuleTree::open(folder.path(), None).and_then(|tree| tree.load_order(wanted, &KERNEL));
    match of {
        Ok(modules) => {
            let names: Vec<String> = modules.into_iter().map(|module| module.name).collect();
            names.join(" ")
        }
        Err(error) => said(folder, &error),
    }
}

fn said(folder: &TempDir, error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    let folder = fs::canonicalize(folder.path()).unwrap();
    text.replace(&*folder.to_string_lossy(), "TREE")
}

#[test]
fn a_module_comes_behind_what_it_needs_and_only_once() {
    let folder = tree(&[
        (
            "net/9pnet-virtio.ko",
            &module(&["depends=9pnet,virtio_ring,virtio"]),
        ),
        ("virtio_ring.ko", &module(&["depends=virtio"])),
        ("net/9pnet.ko", &module(&["depends="])),
        ("virtio.ko", &module(&[])),
    ]);
    let expected = "9pnet virtio virtio_ring 9pnet_virtio";
    assert_eq!(order(&folder, &["9pnet_virtio", "virtio"]), expected);
    assert_eq!(order(&folder, &["9pnet-virtio"]), expected);
}

#[test]
fn what_is_built_in_is_left_out() {
    let folder = tree(&[
        (
            "modules.builtin",
            b"kernel/drivers/virtio/virtio-ring.ko\nkernel/lib/zlib.ko\n",
        ),
        ("kernel/blk.ko", &module(&["depends=virtio_ring"])),
    ]);
    assert_eq!(order(&folder, &["blk", "zlib"]), "blk");
    let tree = ModuleTree::open(folder.path(), None).unwrap();
    assert!(tree.knows("virtio_ring") && tree.knows("blk") && !tree.knows("other"));
}

#[test]
fn a_kernel_with_everything_built_in_has_a_tree_too() {
    let folder = tree(&[("modules.builtin", b"kernel/fs/ext4/ext4.ko\n")]);
    assert_eq!(order(&folder, &["ext4"]), "");
    assert_eq!(order(&folder, &["xfs"]), "the kernel has no module xfs");
}

#[test]
fn an_unknown_module_is_named_with_the_one_that_needs_it() {
    let folder = tree(&[("a.ko", &module(&["depends=b"]))]);
    assert_eq!(order(&folder, &["c"]), "the kernel has no module c");
    assert_eq!(
        order(&folder, &["a"]),
        "the kernel has no module b, which a needs"
    );
}

#[test]
fn modules_that_need_each_other_are_named() {
    let folder = tree(&[
        ("a.ko", &module(&["depends=b"])),
        ("b.ko", &module(&["depends=c"])),
        ("c.ko", &module(&["depends=b"])),
    ]);
    assert_eq!(
        order(&folder, &["a"]),
        "modules need each other: b needs c needs b"
    );
}

#[test]
fn a_chain_without_end_is_refused() {
    let names: Vec<String> = (0..100).map(|number| format!("m{number}.ko")).collect();
    let files: Vec<Vec<u8>> = (0..100)
        .map(|number| module(&[&format!("depends=m{}", number + 1)]))
        .collect();
    let list: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&files)
        .map(|(name, file)| (name.as_str(), file.as_slice()))
        .collect();
    assert_eq!(
        order(&tree(&list), &["m0"]),
        "m0 needs a chain of more than 64 modules"
    );
}

#[test]
fn what_is_wanted_before_a_module_is_loaded_where_it_exists() {
    let folder = tree(&[
        (
            "a.ko",
            &module(&["softdep=pre: b nonesuch post: c", "softdep=post: d pre: e"]),
        ),
        ("b.ko", &module(&[])),
        ("c.ko", &module(&[])),
        ("d.ko", &module(&[])),
        // It wants back what wants it.
        ("e.ko", &module(&["softdep=pre: a"])),
    ]);
    assert_eq!(order(&folder, &["a"]), "b e a");
}

#[test]
fn an_alias_is_looked_up_in_the_list() {
    let ext4 = module(&["softdep=pre: crypto-crc32c"]);
    let list = b"# Aliases\nalias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c-generic\n";
    let folder = tree(&[
        ("modules.alias", list),
        ("ext4.ko", &ext4),
        ("crc32c-generic.ko", &module(&[])),
        ("crc32c-intel.ko", &module(&[])),
    ]);
    assert_eq!(order(&folder, &["ext4"]), "crc32c_generic ext4");
}

#[test]
fn an_alias_is_found_without_a_list() {
    let ext4 = module(&["softdep=pre: crypto-crc32c"]);
    let folder = tree(&[
        ("fs/ext4.ko", &ext4),
        (
            "crypto/crc32c-generic.ko",
            &module(&["alias=crc32c", "alias=crypto-crc32c"]),
        ),
        ("crypto/broken.ko", b"\x7fELF"),
    ]);
    assert_eq!(order(&folder, &["ext4"]), "crc32c_generic ext4");
    // One of another name counts where there is none of this.
    fs::rename(
        folder.path().join("crypto/crc32c-generic.ko"),
        folder.path().join("crypto/checksum.ko"),
    )
    .unwrap();
    assert_eq!(order(&folder, &["ext4"]), "checksum ext4");
    let info = b"crc32c_generic.license=GPL\0crc32c_generic.alias=crypto-crc32c\0";
    fs::write(folder.path().join("modules.builtin.modinfo"), info).unwrap();
    assert_eq!(order(&folder, &["ext4"]), "ext4");
}

#[test]
fn a_module_for_another_kernel_is_refused_with_both_versions() {
    let other = module(&[]);
    let folder = tree(&[("a.ko", &other)]);
    let open = ModuleTree::open(folder.path(), None).unwrap();
    let refused = |architecture, version| {
        let kernel = Kernel {
            architecture,
            version,
        };
        let error = open.load_order(&["a"], &kernel).unwrap_err();
        said(&folder, &error)
    };
    assert_eq!(
        refused(Architecture::X86_64, Some("6.2")),
        "TREE/a.ko is for kernel 6.1-test, and this is 6.2"
    );
    assert_eq!(
        refused(Architecture::Arm64, None),
        "TREE/a.ko is for x86-64, and the kernel for arm64"
    );
}

/// Packed by zstd as one raw block (RFC 8878, sections 3.1.1.1 and 3.1.1.2).
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut packed = b"\x28\xb5\x2f\xfd\xa0".to_vec(); // one segment, its size in four bytes
    packed.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    let header = u32::try_from(bytes.len()).unwrap() << 3 | 1; // raw, the last
    packed.extend(&header.to_le_bytes()[..3]);
    packed.extend(bytes);
    packed
}

/// Packed by gzip as one stored block (RFC 1952; RFC 1951, section 3.2.4).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    let len = u16::try_from(bytes.len()).unwrap();
    packed.extend(len.to_le_bytes());
    packed.extend((!len).to_le_bytes());
    packed.extend(bytes);
    let check = bytes.iter().fold(u32::MAX, |check, &byte| {
        (0..8).fold(check ^ u32::from(byte), |check, _| {
            check >> 1 ^ (0xedb8_8320 & 0_u32.wrapping_sub(check & 1))
        })
    });
    packed.extend((!check).to_le_bytes());
    packed.extend(u32::from(len).to_le_bytes());
    packed
}

#[test]
fn packed_modules_are_unpacked() {
    let (plain, cut) = (module(&[]), zstd(&module(&[])));
    let folder = tree(&[
        ("a.ko.zst", &zstd(&plain)),
        ("b.ko.gz", &gzip(&plain)),
        ("cut.ko.zst", &cut[..cut.len() - 1]),
        ("text.ko.xz", b"text"),
    ]);
    let open = ModuleTree::open(folder.path(), None).unwrap();
    let modules = open.load_order(&["a", "b"], &KERNEL).unwrap();
    assert!(modules.iter().all(|module| module.image == plain));
    let cut = order(&folder, &["cut"]);
    assert!(cut.starts_with("cannot unpack TREE/cut.ko.zst: "), "{cut}");
    assert_eq!(
        order(&folder, &["text"]),
        "TREE/text.ko.xz is no module: it is no 64-bit ELF file"
    );
}

#[test]
fn files_that_are_no_modules_are_told_apart() {
    let folder = tree(&[
        ("empty.ko", b""),
        ("text.ko", b"text"),
        ("elf.ko", b"\x7fELF\x02\x01"),
    ]);
    fs::create_dir(folder.path().join("folder.ko")).unwrap();
    symlink("folder.ko", folder.path().join("to-a-folder.ko")).unwrap();
    symlink("/dev/zero", folder.path().join("zero.ko")).unwrap();
    symlink("loop.ko", folder.path().join("loop.ko")).unwrap();
    symlink("text.ko", folder.path().join("inside.ko")).unwrap();
    let huge = File::create(folder.path().join("huge.ko")).unwrap();
    huge.set_len(SIZE_MAX + 1).unwrap();
    for (name, expected) in [
        ("empty", "TREE/empty.ko is empty"),
        (
            "text",
            "TREE/text.ko is no module: it is no 64-bit ELF file",
        ),
        (
            "inside",
            "TREE/inside.ko is no module: it is no 64-bit ELF file",
        ),
        ("elf", "TREE/elf.ko is no module: it is cut off"),
        ("folder", "the kernel has no module folder"),
        ("to_a_folder", "TREE/folder.ko is no file"),
        (
            "zero",
            "TREE/zero.ko is a link to /dev/zero, outside the tree",
        ),
        ("huge", "TREE/huge.ko has more than 268435456 bytes"),
    ] {
        assert!(
            order(&folder, &[name]).starts_with(expected),
            "{}",
            order(&folder, &[name])
        );
    }
    assert!(order(&folder, &["loop"]).starts_with("cannot read TREE/loop.ko: "));
}

#[test]
fn a_list_without_end_is_refused() {
    let folder = tree(&[("a.ko", &module(&[]))]);
    for list in ["modules.dep", "modules.builtin"] {
        let path = folder.path().join(list);
        let huge = File::create(&path).unwrap();
        huge.set_len(LIST_MAX + 1).unwrap();
        let expected = format!("TREE/{list} has more than 33554432 bytes");
        assert_eq!(order(&folder, &["a"]), expected);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_module_cut_off_anywhere_is_an_error() {
    let whole = module(&["depends="]);
    for len in 0..whole.len() {
        assert!(ModInfo::parse(&whole[..len]).is_err(), "{len}");
    }
    assert!(ModInfo::parse(&whole).is_ok());
}

#[test]
fn a_list_that_leads_out_of_the_tree_is_refused() {
    for line in ["../other.ko:", "/etc/other.ko: ", "kernel/../../other.ko:"] {
        let list = format!("kernel/a.ko:\n{line}\n");
        let folder = tree(&[
            ("modules.dep", list.as_bytes()),
            ("kernel/a.ko", &module(&[])),
        ]);
        assert_eq!(
            order(&folder, &["a"]),
            "line 2 of TREE/modules.dep names a file outside the tree"
        );
    }
}

#[test]
fn a_list_says_where_modules_are() {
    let folder = tree(&[
        (
            "modules.dep",
            b"kernel/a.ko: kernel/b.ko\nkernel/gone.ko:\n",
        ),
        ("kernel/a.ko", &module(&[])),
        ("kernel/hidden.ko", &module(&[])),
    ]);
    assert_eq!(order(&folder, &["a"]), "a");
    assert_eq!(
        order(&folder, &["hidden"]),
        "the kernel has no module hidden"
    );
    assert!(order(&folder, &["gone"]).starts_with("cannot read TREE/kernel/gone.ko: "));
}

#[test]
fn an_updated_module_comes_before_the_kernels_own() {
    let folder = tree(&[
        ("kernel/a.ko", &module(&["depends=old"])),
        ("updates/dkms/a.ko", &module(&[])),
    ]);
    assert_eq!(order(&folder, &["a"]), "a");
}

#[test]
fn a_tree_is_found_in_a_system() {
    for place in ["lib/modules", "usr/lib/modules", "."] {
        let file = format!("{place}/6.1-test/kernel/a.ko");
        let list = format!("{place}/6.1-test/modules.dep");
        let folder = tree(&[(&file, &module(&[])), (&list, b"kernel/a.ko:\n")]);
        let open = ModuleTree::open(folder.path(), Some("6.1-test")).unwrap();
        assert_eq!(open.version(), Some("6.1-test"));
        assert_eq!(order(&folder, &["a"]), "a");
        let error = ModuleTree::open(folder.path(), Some("7.0")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("has no modules of kernel 7.0, but of 6.1-test"),
            "{text}"
        );
    }
}

#[test]
fn of_several_kernels_one_must_be_named() {
    let a = module(&[]);
    let folder = tree(&[("lib/modules/1/a.ko", &a), ("usr/lib/modules/2/a.ko", &a)]);
    let error = ModuleTree::open(folder.path(), None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has modules of several kernels: 1, 2"),
        "{error}"
    );
    let open = ModuleTree::open(folder.path(), Some("2")).unwrap();
    assert!(open.knows("a"));
}

#[test]
fn a_folder_without_modules_is_refused() {
    let folder = tree(&[("readme", b"none")]);
    assert_eq!(order(&folder, &["a"]), "there are no modules in TREE");
    let missing = folder.path().join("missing");
    let error = ModuleTree::open(&missing, None).unwrap_err();
    assert!(error.to_string().starts_with("cannot read"), "{error}");
}

#[test]
fn the_tree_beside_a_kernel_is_found() {
    let folder = tree(&[
        ("boot/vmlinuz-6.1.0-50-amd64", b""),
        ("boot/vmlinux-6.2", b""),
        ("boot/vmlinuz-7", b""),
        ("boot/vmlinuz", b""),
        ("lib/modules/6.1.0-50-amd64/modules.dep", b""),
        ("usr/lib/modules/6.2/kernel/a.ko", b""),
        ("usr/lib/modules/8/vmlinuz", b""),
        ("usr/lib/modules/8/modules.builtin", b""),
    ]);
    symlink("boot/vmlinuz-6.1.0-50-amd64", folder.path().join("vmlinuz")).unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    let found = |kernel: &str| {
        let tree = beside(&folder.path().join(kernel))?;
        Some(
            tree.strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
        )
    };
    let found = |kernel: &str| found(kernel).unwrap_or_default();
    assert_eq!(
        found("boot/vmlinuz-6.1.0-50-amd64"),
        "lib/modules/6.1.0-50-amd64"
    );
    assert_eq!(found("vmlinuz"), "lib/modules/6.1.0-50-amd64");
    assert_eq!(found("boot/vmlinux-6.2"), "usr/lib/modules/6.2");
    assert_eq!(found("usr/lib/modules/8/vmlinuz"), "usr/lib/modules/8");
    for none in ["boot/vmlinuz-7", "boot/vmlinuz", "nonesuch"] {
        assert_eq!(found(none), "", "{none}");
    }
}
