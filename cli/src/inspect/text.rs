//! What there is to tell about an image, in words.

use super::facts::{BzImageFacts, ElfFacts, EntryFacts, Facts, SegmentFacts};
use super::more::{LinuxImageFacts, MultibootFacts, MultibootHeader, PartFacts, PartsFacts};
use crate::failure::printable;
use crate::json::Hex;
use firstlight_base::Gpa;
use firstlight_boot::Protocol;
use firstlight_boot::draw::Size;

/// Lines of a name and what there is to say about it, below a heading.
struct Section {
    text: String,
}

impl Section {
    fn new(heading: &str) -> Self {
        Self {
            text: format!("{heading}\n"),
        }
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        self.text.push_str(&format!("  {name:<16}  {value}\n"));
    }

    fn line_if(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }
}

pub(super) fn facts(facts: &Facts) -> String {
    let sections = [
        Some(summary(facts)),
        Some(entries(facts)),
        needs(facts),
        (!facts.parts.is_empty()).then(|| carried(&facts.parts)),
        (!facts.profiles.is_empty()).then(|| profiles(facts)),
        facts.bzimage.as_ref().map(header),
        facts.arm64.as_ref().map(linux_image),
        facts.riscv.as_ref().map(linux_image),
        facts.elf.as_ref().map(elf),
        facts.multiboot.as_ref().map(multiboot),
    ];
    let texts: Vec<String> = sections
        .into_iter()
        .flatten()
        .map(|section| section.text)
        .collect();
    printable(&texts.join("\n"))
}

fn summary(facts: &Facts) -> Section {
    let mut section = Section::new(&facts.file);
    section.line("is", &facts.image);
    section.line("for", &facts.architecture);
    section.line_if("kernel", facts.kernel_version.as_deref());
    section.line("size", bytes(facts.size));
    if let [_, .., innermost] = facts.layers.as_slice() {
        section.line("unpacked", bytes(innermost.size));
    }
    section.line_if("not unpacked", facts.not_unpacked.as_deref());
    section
}

fn entries(facts: &Facts) -> Section {
    let mut section = Section::new("Ways in, the default first");
    if facts.entries.is_empty() {
        let none = format!(
            "a kernel for {} like this cannot be booted here",
            facts.architecture
        );
        section.line("none", none);
    }
    for entry in &facts.entries {
        let at = match (entry.address, entry.offset, entry.real_mode_offset) {
            (Some(at), _, _) => format!("at {}", address(at)),
            (None, Some(offset), _) => format!("at its load address + {:#x}", offset.0),
            (None, None, Some(offset)) => format!("at its real-mode code + {:#x}", offset.0),
            (None, None, None) => String::new(),
        };
        let how = match entry.unpack {
            "host" => "",
            _ => "the kernel unpacks itself",
        };
        section.line(entry.protocol, format!("{at:<28}  {how}").trim_end());
    }
    section
}

/// What a kernel needs; what firmware needs is not said in it.
fn needs(facts: &Facts) -> Option<Section> {
    let first = facts.entries.first()?;
    if first.protocol == Protocol::Firmware.name() {
        return None;
    }
    let mut section = Section::new("Needs");
    let memory = facts.memory_needed.map_or_else(
        || "more than fits below 3 GiB".to_owned(),
        |bytes| {
            format!(
                "at least {}, and what an initial ramdisk takes",
                Size(bytes)
            )
        },
    );
    section.line("memory", memory);
    let limit = format!("at most {} bytes", first.cmdline_limit);
    section.line("command line", limit);
    section.line("initial ramdisk", initrd_limit(first));
    Some(section)
}

fn initrd_limit(entry: &EntryFacts) -> String {
    entry.initrd_limit.map_or_else(
        || "anywhere".into(),
        |limit| format!("not above {}", address(limit)),
    )
}

/// What the image carries beside the kernel.
fn carried(parts: &PartsFacts) -> Section {
    let mut section = Section::new("Carries");
    section.line_if("command line", parts.cmdline.as_deref());
    for initrd in &parts.initrds {
        section.line("initial ramdisk", part(initrd));
    }
    section.line_if("device tree", parts.device_tree.as_ref().map(part));
    section
}

fn part(part: &PartFacts) -> String {
    format!(
        "{}, {} at offset {:#x}",
        part.name,
        bytes(part.range.size),
        part.range.offset
    )
}

fn profiles(facts: &Facts) -> Section {
    let mut section = Section::new("Profiles, the default first");
    for (number, profile) in facts.profiles.iter().enumerate() {
        let names = [profile.id.as_deref(), profile.title.as_deref()];
        let names: Vec<_> = names.into_iter().flatten().collect();
        section.line(&format!("profile {number}"), names.join(": "));
    }
    section
}

fn linux_image(image: &LinuxImageFacts) -> Section {
    let mut section = Section::new("Image header");
    section.line_if("version", image.header_version.as_deref());
    section.line("text offset", format!("{:#x}", image.text_offset.0));
    let size = image
        .image_size
        .map_or_else(|| "what it does not say".to_owned(), bytes);
    section.line("takes memory of", size);
    section.line_if("pages of", image.page_size.map(aligned));
    section.line_if(
        "may lie",
        image.anywhere.map(|anywhere| {
            if anywhere {
                "anywhere"
            } else {
                "at the beginning of memory"
            }
        }),
    );
    section.line("EFI stub", if image.efi_stub { "yes" } else { "no" });
    section
}

fn multiboot(headers: &MultibootFacts) -> Section {
    let mut section = Section::new("Multiboot");
    section.line_if(
        "version 1",
        headers.version_1.as_ref().map(multiboot_header),
    );
    section.line_if(
        "version 2",
        headers.version_2.as_ref().map(multiboot_header),
    );
    section.line_if("broken", headers.broken.as_deref());
    section
}

fn multiboot_header(header: &MultibootHeader) -> String {
    let mut said = vec![format!("at offset {:#x}", header.offset.0)];
    said.push(header.load.map_or_else(
        || "loaded as the ELF file says".to_owned(),
        |load| format!("loaded at {}", address(load)),
    ));
    said.extend(
        header
            .entry
            .map(|entry| format!("entered at {}", address(entry))),
    );
    said.extend(header.relocatable.then(|| "relocatable".to_owned()));
    said.join(", ")
}

fn header(header: &BzImageFacts) -> Section {
    let mut section = Section::new("Setup header");
    section.line("boot protocol", &header.protocol_version);
    section.line("relocatable", if header.relocatable { "yes" } else { "no" });
    section.line_if("preferred at", header.pref_address.map(address));
    section.line_if("aligned to", header.kernel_alignment.map(aligned));
    section.line_if("at least to", header.min_alignment.map(aligned));
    let window = header.init_size.map(|size| bytes(u64::from(size)));
    section.line_if("starts within", window);
    section.line(
        "command line",
        format!("at most {} bytes", header.cmdline_size),
    );
    let initrd = format!("not above {}", address(header.initrd_addr_max));
    section.line("initial ramdisk", initrd);
    section.line("load flags", header.loadflags.join(" "));
    section.line("more load flags", header.xloadflags.join(" "));
    section.line("real-mode part", bytes(header.setup_size));
    let protected = &header.protected_mode;
    let protected = format!(
        "{} at offset {:#x}",
        bytes(protected.size),
        protected.offset
    );
    section.line("protected part", protected);
    if let Some(payload) = &header.payload {
        let range = &payload.range;
        let stream = format!(
            "{}, {} at offset {:#x}",
            payload.codec,
            bytes(range.size),
            range.offset
        );
        section.line("payload", stream);
        section.line_if("claims to become", payload.unpacked_size.map(bytes));
    }
    section
}

fn elf(elf: &ElfFacts) -> Section {
    let mut section = Section::new(&elf.format);
    section.line("type", elf.kind);
    section.line("entry", address(elf.entry));
    if let (Some(start), Some(end)) = (elf.start, elf.end) {
        let span = format!(
            "{}..{}, {}",
            address(start),
            address(end),
            Size(end.0.saturating_sub(start.0))
        );
        section.line("runs at", span);
    }
    if let Some(pvh) = &elf.pvh {
        section.line("PVH entry", address(pvh.entry));
        let range = pvh.relocatable.as_ref().map(|range| {
            format!(
                "{} to {}, aligned to {}",
                address(range.min),
                address(range.max),
                Size(u64::from(range.alignment))
            )
        });
        section.line(
            "PVH may lie",
            range.as_deref().unwrap_or("where it was linked"),
        );
    }
    section.line_if(
        "relocations",
        elf.relocations.as_ref().map(|table| {
            format!(
                "{} of 64 bits, {} inverse of 32 bits, {} of 32 bits",
                table.r64, table.inverse32, table.r32
            )
        }),
    );
    for (number, segment) in elf.segments.iter().enumerate() {
        section.line(&format!("segment {number}"), self::segment(segment));
    }
    section
}

fn segment(segment: &SegmentFacts) -> String {
    let in_file = if segment.file_size == segment.memory_size {
        String::new()
    } else {
        format!(", {} in the file", Size(segment.file_size))
    };
    format!(
        "{}  {}  {:>9}{in_file}",
        address(segment.physical),
        segment.flags,
        Size(segment.memory_size).to_string(),
    )
}

fn address(at: Hex) -> Gpa {
    Gpa::new(at.0)
}

fn aligned(alignment: u32) -> Size {
    Size(u64::from(alignment))
}

/// A number of bytes to be grasped, and exactly.
fn bytes(count: u64) -> String {
    if count < 1024 {
        format!("{count} bytes")
    } else {
        format!("{} ({count} bytes)", Size(count))
    }
}
