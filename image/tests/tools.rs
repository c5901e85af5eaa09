//! Containers that the usual tools make: U-Boot's `mkimage`, Android's `mkbootimg`, binutils'
//! `objcopy` as it joins sections to an EFI stub.
//!
//! A tool that is not installed is skipped, and the test says so.

use firstlight_image::testing::{arm64_image, elf64};
use firstlight_image::{Architecture, Image, Limits};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of this test's own, with a kernel and what goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the build's own folder");
        let this = Self(path);
        this.write("kernel", &arm64_image().len(70_000).build());
        this.write("ramdisk", b"070701 and so on");
        this.write("tree", b"\xd0\x0d\xfe\xed and so on");
        this
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).expect("the build's own folder");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("what was written")
    }

    /// Runs a tool in the folder; false where it is not installed.
    fn run(&self, tool: &str, arguments: &[&str]) -> bool {
        let status = Command::new(tool)
            .args(arguments)
            .current_dir(&self.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match status {
            Ok(status) => {
                assert!(status.success(), "{tool} {arguments:?}: {status}");
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: {tool} is not installed");
                false
            }
            Err(error) => panic!("cannot start {tool}: {error}"),
        }
    }
}

fn open(file: &[u8]) -> Image<'_> {
    Image::open(file, &Limits::default()).expect("a kernel")
}

#[test]
fn what_mkimage_makes_is_opened() {
    let folder = Folder::new("mkimage");
    let common = ["-A", "arm64", "-O", "linux", "-n", "a name"];
    let mkimage = |options: &[&str]| folder.run("mkimage", &[&common[..], options].concat());
    if !mkimage(&["-T", "kernel", "-C", "none", "-d", "kernel", "plain"]) {
        return;
    }
    let kernel = folder.read("kernel");
    let file = folder.read("plain");
    let image = open(&file);
    assert_eq!(image.to_string(), "uImage → arm64 Image");
    assert_eq!(image.kernel().bytes(), kernel);

    for (tool, options, name, shown) in [
        ("gzip", &["-kf"][..], "gz", "gzip"),
        ("bzip2", &["-kf"], "bz2", "bzip2"),
        ("lzop", &["-kf"], "lzo", "lzo"),
        ("zstd", &["-qkf"], "zst", "zstd"),
        ("lz4", &["-qkfm"], "lz4", "lz4 (frames)"),
    ] {
        if !folder.run(tool, &[options, &["kernel"]].concat()) {
            continue;
        }
        let packed = format!("kernel.{name}");
        let codec = shown.split(' ').next().expect("a word");
        assert!(mkimage(&[
            "-T", "kernel", "-C", codec, "-d", &packed, "packed"
        ]));
        let file = folder.read("packed");
        let image = open(&file);
        assert_eq!(image.to_string(), format!("uImage → {shown} → arm64 Image"));
        assert_eq!(image.kernel().bytes(), kernel);
    }

    assert!(mkimage(&[
        "-T",
        "multi",
        "-C",
        "none",
        "-d",
        "kernel:ramdisk:tree",
        "multi"
    ]));
    let file = folder.read("multi");
    let image = open(&file);
    assert_eq!(image.architecture(), Architecture::Arm64);
    assert_eq!(image.kernel().bytes(), kernel);
    let parts = image.parts();
    assert_eq!(image.part(&parts.initrds[0]), folder.read("ramdisk"));
    let tree = parts.device_tree.expect("a device tree");
    assert_eq!(image.part(&tree), folder.read("tree"));
}

#[test]
fn what_mkbootimg_makes_is_opened() {
    let folder = Folder::new("mkbootimg");
    let long = "console=ttyAMA0 ".repeat(60);
    // Older ones of the tool do not know version 4.
    for version in ["0", "1", "2", "3"] {
        let made = folder.run(
            "mkbootimg",
            &[
                "--header_version",
                version,
                "--kernel",
                "kernel",
                "--ramdisk",
                "ramdisk",
                "--dtb",
                "tree",
                "--cmdline",
                long.trim(),
                "-o",
                "boot",
            ],
        );
        if !made {
            return;
        }
        let file = folder.read("boot");
        let image = open(&file);
        assert_eq!(
            image.to_string(),
            format!("Android boot image v{version} → arm64 Image")
        );
        assert_eq!(image.kernel().bytes(), folder.read("kernel"));
        let parts = image.parts();
        assert_eq!(parts.cmdline.as_deref(), Some(long.trim()));
        assert_eq!(image.part(&parts.initrds[0]), folder.read("ramdisk"));
        let tree = parts.device_tree.as_ref().map(|tree| image.part(tree));
        let expected = (version == "2").then(|| folder.read("tree"));
        assert_eq!(tree, expected.as_deref());
    }
}

/// The way that the UAPI Group's text shows, before there was `ukify`.
#[test]
fn what_objcopy_joins_is_opened() {
    let folder = Folder::new("objcopy");
    let kernel = elf64().segment(0x100_0000, b"code", 4).build();
    folder.write("linux", &kernel);
    folder.write("cmdline", b"root=/dev/vda quiet\n");
    let stub = STUBS.iter().find(|path| Path::new(path).exists());
    let Some(stub) = stub else {
        eprintln!("skipped: no EFI stub of systemd is installed");
        return;
    };
    let made = folder.run(
        "objcopy",
        &[
            "--add-section",
            ".cmdline=cmdline",
            "--change-section-vma",
            ".cmdline=0x150000000",
            "--add-section",
            ".initrd=ramdisk",
            "--change-section-vma",
            ".initrd=0x153000000",
            "--add-section",
            ".linux=linux",
            "--change-section-vma",
            ".linux=0x152000000",
            stub,
            "uki",
        ],
    );
    if made {
        let file = folder.read("uki");
        let image = open(&file);
        assert_eq!(image.to_string(), "UKI x86-64 → ELF64 x86-64");
        assert_eq!(image.kernel().bytes(), kernel);
        let parts = image.parts();
        assert_eq!(parts.cmdline.as_deref(), Some("root=/dev/vda quiet"));
        assert_eq!(image.part(&parts.initrds[0]), folder.read("ramdisk"));
    }
}

const STUBS: [&str; 2] = [
    "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    "/usr/lib/gummiboot/linuxx64.efi.stub",
];
