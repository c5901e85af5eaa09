use super::*;
use firstlight_boot::{Protocol, ProtocolChoice, Request, plan};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits};

fn exported(protocol: Protocol) -> (BootPlan, Vec<u8>, GuestMemory) {
    let kernel = elf64()
        .entry(0x100_0010)
        .pvh(0x100_0020)
        .segment(0x100_0000, &[0x90; 0x1234], 0x5000)
        .build();
    let image = Image::open(&kernel, &Limits::default()).expect("the builders build images");
    let request = Request {
        memory: 64 << 20,
        initrd: Some(0x2345),
        cmdline: "console=ttyS0".into(),
        protocol: ProtocolChoice::Only(protocol),
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("it fits");
    let initrd = [7; 0x2345];
    let layers: Vec<&[u8]> = image.layers().iter().map(|layer| layer.bytes()).collect();
    let sources = Sources {
        layers: &layers,
        initrd: &initrd,
        ..Sources::default()
    };
    let bytes = igvm(&plan, &sources).expect("the format has words for it");
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private).unwrap();
    place(&plan, &sources, &memory).unwrap();
    (plan, bytes, memory)
}

#[test]
fn pages_read_back_are_the_memory_of_the_plan_and_nothing_else_is_in_it() {
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        let (plan, bytes, memory) = exported(protocol);
        let file = IgvmFile::new_from_binary(&bytes, None).unwrap();
        let loaded = GuestMemory::allocate(plan.platform().ram(), Backing::Private).unwrap();
        for directive in file.directives() {
            if let IgvmDirectiveHeader::PageData { gpa, data, .. } = directive {
                loaded.write(Gpa::new(*gpa), data).unwrap();
            }
        }
        let (mut ours, mut theirs) = (vec![0; PAGE_BYTES], vec![0; PAGE_BYTES]);
        for at in (0..64 << 20).step_by(PAGE_BYTES) {
            memory.read(Gpa::new(at), &mut ours).unwrap();
            loaded.read(Gpa::new(at), &mut theirs).unwrap();
            assert!(ours == theirs, "the page at {at:#x}");
        }
    }
}

#[test]
fn registers_read_back_are_the_plans() {
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        let (plan, bytes, _) = exported(protocol);
        let registers = plan.boot_vcpu().x86().expect("an x86 guest");
        let file = IgvmFile::new_from_binary(&bytes, None).unwrap();
        let contexts: Vec<_> = file
            .directives()
            .iter()
            .filter_map(|directive| match directive {
                IgvmDirectiveHeader::X64NativeVpContext { context, .. } => Some(context),
                _ => None,
            })
            .collect();
        let [context] = contexts.as_slice() else {
            panic!("one processor starts: {contexts:?}");
        };
        let gprs = &registers.gprs;
        assert_eq!(
            [context.rip, context.rsi, context.rbx, context.rflags],
            [gprs.rip, gprs.rsi, gprs.rbx, gprs.rflags]
        );
        assert_eq!(
            [context.cr0, context.cr3, context.cr4, context.efer],
            [
                registers.cr0.bits(),
                registers.cr3,
                registers.cr4.bits(),
                registers.efer.bits()
            ]
        );
        assert_eq!(context.gdtr_base, registers.gdt.base);
        assert_eq!(context.gdtr_limit, registers.gdt.limit);
        assert_eq!(context.code_attributes, registers.cs.access);
        assert_eq!(context.code_attributes & 0xf00, 0, "bits 8 to 11 are zero");
        assert_eq!(context.data_selector, registers.ds.selector);
    }
}

#[test]
fn all_memory_that_the_guest_is_told_of_is_required() {
    let (plan, bytes, _) = exported(Protocol::Linux64);
    let file = IgvmFile::new_from_binary(&bytes, None).unwrap();
    let required: u64 = file
        .directives()
        .iter()
        .map(|directive| match directive {
            IgvmDirectiveHeader::RequiredMemory {
                number_of_bytes, ..
            } => u64::from(*number_of_bytes),
            _ => 0,
        })
        .sum();
    let told: u64 = plan
        .e820()
        .iter()
        .filter(|entry| entry.kind != E820Kind::Reserved)
        .map(|entry| entry.range.len())
        .sum();
    assert_eq!(required, told);
}

#[test]
fn data_segments_that_differ_are_refused_by_name() {
    let registers = Registers {
        es: Segment::data32(0x28),
        ..Registers::default()
    };
    let refused = context(&registers);
    assert!(
        matches!(refused, Err(IgvmError::Register { register: "es", .. })),
        "{refused:?}"
    );
}
