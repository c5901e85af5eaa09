//! The names that rust-vmm's linux-loader has too, asked to do the same as it does.

use firstlight_base::Gpa;
use firstlight_boot::cmdline::{self as our_cmdline, Cmdline as OurCmdline};
use linux_loader::cmdline::{self as their_cmdline, Cmdline as TheirCmdline};
use proptest::prelude::*;
use vm_memory::GuestAddress;

/// Something that is done to a command line.
#[derive(Clone, Debug)]
enum Step {
    Insert(String, String),
    InsertMultiple(String, Vec<String>),
    InsertStr(String),
    InsertInitArgs(String),
    AddDevice(u64, u64, u32, Option<u32>),
}

/// Text of the characters that the rules speak of, and some that they do not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c =\"-]{0,8}",
        "(a| -- |--|\"| |=){0,6}",
        "\"[a-c ]{0,4}\"",
        "[\\PC\\n\\t\0]{0,3}",
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        Just(0),
        Just(1 << 30),
        (0_u64..70).prop_map(|n| n << 7),
        any::<u64>()
    ];
    prop_oneof![
        (text(), text()).prop_map(|(key, value)| Step::Insert(key, value)),
        (text(), prop::collection::vec(text(), 0..3))
            .prop_map(|(key, values)| Step::InsertMultiple(key, values)),
        text().prop_map(Step::InsertStr),
        text().prop_map(Step::InsertInitArgs),
        (size, any::<u64>(), any::<u32>(), any::<Option<u32>>())
            .prop_map(|(size, base, irq, id)| Step::AddDevice(size, base, irq, id)),
    ]
}

fn our(step: &Step, line: &mut OurCmdline) -> our_cmdline::Result<()> {
    match step {
        Step::Insert(key, value) => line.insert(key, value),
        Step::InsertMultiple(key, values) => line.insert_multiple(key.clone(), values),
        Step::InsertStr(text) => line.insert_str(text),
        Step::InsertInitArgs(text) => line.insert_init_args(text),
        &Step::AddDevice(size, base, irq, id) => {
            line.add_virtio_mmio_device(size, Gpa::new(base), irq, id)
        }
    }
}

fn their(step: &Step, line: &mut TheirCmdline) -> their_cmdline::Result<()> {
    match step {
        Step::Insert(key, value) => line.insert(key, value),
        Step::InsertMultiple(key, values) => line.insert_multiple(key.clone(), values),
        Step::InsertStr(text) => line.insert_str(text),
        Step::InsertInitArgs(text) => line.insert_init_args(text),
        &Step::AddDevice(size, base, irq, id) => {
            line.add_virtio_mmio_device(size, GuestAddress(base), irq, id)
        }
    }
}

/// Errors by their names, which are the same.
fn told<T: PartialEq, A: std::fmt::Debug, B: std::fmt::Debug>(
    ours: Result<T, A>,
    theirs: Result<T, B>,
) -> (Result<T, String>, Result<T, String>) {
    (
        ours.map_err(|error| format!("{error:?}")),
        theirs.map_err(|error| format!("{error:?}")),
    )
}

proptest! {
    #[test]
    fn a_command_line_grows_as_theirs_does(
        capacity in 0_usize..80,
        steps in prop::collection::vec(step(), 0..12),
    ) {
        let (ours, theirs) = (OurCmdline::new(capacity), TheirCmdline::new(capacity));
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(mut ours), Ok(mut theirs)) = (ours, theirs) else {
            return Ok(());
        };
        for step in &steps {
            let (our, their) = told(our(step, &mut ours), their(step, &mut theirs));
            prop_assert_eq!(our, their, "{:?}", step);
            let (our, their) = told(ours.as_cstring(), theirs.as_cstring());
            prop_assert_eq!(our, their, "after {:?}", step);
        }
        let (our, their) = told(Vec::try_from(ours), Vec::try_from(theirs));
        prop_assert_eq!(our, their);
    }

    #[test]
    fn a_whole_command_line_is_read_as_they_read_it(
        line in "([a-c=\"]| -- |--| |\t|\0|\u{e4}){0,24}",
        capacity in 0_usize..60,
        more in step(),
    ) {
        let (ours, theirs) = (
            OurCmdline::try_from(&line, capacity),
            TheirCmdline::try_from(&line, capacity),
        );
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(mut ours), Ok(mut theirs)) = (ours, theirs) else {
            return Ok(());
        };
        let (our_text, their_text) = told(ours.as_cstring(), theirs.as_cstring());
        prop_assert_eq!(our_text, their_text);
        // Where the line was parted shows where the next piece goes.
        let (done, theirs_done) = told(our(&more, &mut ours), their(&more, &mut theirs));
        prop_assert_eq!(done, theirs_done);
        let (our_text, their_text) = told(ours.as_cstring(), theirs.as_cstring());
        prop_assert_eq!(our_text, their_text);
    }

    #[test]
    fn what_was_checked_on_its_way_in_has_few_problems_left(
        steps in prop::collection::vec(step(), 0..8),
    ) {
        use our_cmdline::ProblemKind::{NoName, OpenQuote};
        let mut line = OurCmdline::new(200).expect("there is room");
        for step in &steps {
            let _ = our(step, &mut line);
        }
        for problem in line.problems() {
            prop_assert!(matches!(problem.kind, NoName | OpenQuote), "{}", problem);
        }
    }

    #[test]
    fn problems_lie_in_the_line_and_are_found_in_any_bytes(
        line in prop::collection::vec(any::<u8>(), 0..64),
        limit in 0_usize..70,
    ) {
        let found = our_cmdline::problems(&line, limit);
        prop_assert!(found.is_sorted_by_key(|problem| problem.at));
        for problem in &found {
            prop_assert!(problem.len > 0 && problem.at + problem.len <= line.len());
        }
        let too_long = found.iter().any(|problem| {
            matches!(problem.kind, our_cmdline::ProblemKind::PastLimit { .. })
        });
        prop_assert_eq!(too_long, line.len() > limit);
    }
}

#[cfg(feature = "vm-memory")]
mod configurators {
    //! The configurators, where both can work on the same kind of memory.

    use super::told;
    use firstlight_boot::configurator as ours;
    use firstlight_boot::configurator::BootConfigurator as _;
    use firstlight_boot::loader as our_loader;
    use linux_loader::configurator as theirs;
    use linux_loader::configurator::BootConfigurator as _;
    use linux_loader::loader as their_loader;
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
    use zerocopy::{FromBytes, IntoBytes};

    /// Two ranges of RAM with a hole between them.
    const RAM: [(u64, usize); 2] = [(0, 0x4000), (0x8000, 0x4000)];

    fn memory() -> GuestMemoryMmap {
        let ranges = RAM.map(|(at, len)| (GuestAddress(at), len));
        GuestMemoryMmap::from_ranges(&ranges).expect("some pages of memory")
    }

    fn contents(memory: &GuestMemoryMmap) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, len) in RAM {
            let mut part = vec![0; len];
            memory
                .read_slice(&mut part, GuestAddress(at))
                .expect("it is RAM");
            bytes.extend(part);
        }
        bytes
    }

    /// Whether something of `len` bytes at `at` is treated alike by both: it does not touch what
    /// linux-loader gets wrong, the ends of ranges and the hole.
    fn is_clear(at: u64, len: usize) -> bool {
        let end = at.saturating_add(len as u64);
        let within = |(start, len): (u64, usize)| at >= start && end < start + len as u64;
        let far_outside = at >= 0xc000;
        RAM.into_iter().any(within) || far_outside
    }

    fn address() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..0x9000,
            (0_u64..0xd0).prop_map(|n| n << 8),
            Just(u64::MAX),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(Vec<u64>, u64),
        Add(u64, Option<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let element = 1_u64..u64::MAX;
        let at = (0_u64..0x400).prop_map(|at| at * 4 + 0x1000);
        prop_oneof![
            1 => (prop::collection::vec(element.clone(), 0..3), at.clone())
                .prop_map(|(elements, at)| Step::Set(elements, at)),
            4 => (element, prop::option::of(at)).prop_map(|(element, at)| Step::Add(element, at)),
        ]
    }

    proptest! {
        #[test]
        fn lists_grow_as_theirs_do(
            steps in prop::collection::vec((step(), any::<bool>()), 0..12),
        ) {
            let header = 7_u32;
            let at = GuestAddress(0x7000);
            let mut our = ours::BootParams::new(&header, at);
            let mut their = theirs::BootParams::new(&header, at);
            for (step, for_modules) in steps {
                match (step, for_modules) {
                    (Step::Set(elements, at), false) => {
                        our.set_sections(&elements, GuestAddress(at));
                        their.set_sections(&elements, GuestAddress(at));
                    }
                    (Step::Set(elements, at), true) => {
                        our.set_modules(&elements, GuestAddress(at));
                        their.set_modules(&elements, GuestAddress(at));
                    }
                    (Step::Add(element, at), for_modules) => {
                        let at = at.map(GuestAddress);
                        let (our, their) = if for_modules {
                            told(our.add_module(&element, at), their.add_module(&element, at))
                        } else {
                            told(our.add_section(&element, at), their.add_section(&element, at))
                        };
                        prop_assert_eq!(our, their);
                    }
                }
                // Their list is there, and empty, once a first element has been refused.
                let filled = |list: Option<Vec<u8>>, start| list.filter(|_| Option::is_some(&start));
                prop_assert_eq!(our.sections_start, their.sections_start);
                prop_assert_eq!(our.modules_start, their.modules_start);
                prop_assert_eq!(
                    our.sections.clone(),
                    filled(their.sections.clone(), their.sections_start)
                );
                prop_assert_eq!(
                    our.modules.clone(),
                    filled(their.modules.clone(), their.modules_start)
                );
            }
            prop_assert_eq!((our.header, our.header_start), (their.header, their.header_start));
        }

        #[test]
        fn a_zero_page_goes_where_theirs_goes(at in address(), alignment in any::<u32>()) {
            let mut our_page = our_loader::bootparam::boot_params::default();
            our_page.hdr.kernel_alignment = alignment;
            let mut their_page = their_loader::bootparam::boot_params::default();
            their_page.hdr.kernel_alignment = alignment;
            let (ours_in, theirs_in) = (memory(), memory());
            let (our, their) = told(
                ours::linux::LinuxBootConfigurator::write_bootparams(
                    &ours::BootParams::new(&our_page, GuestAddress(at)),
                    &ours_in,
                ),
                theirs::linux::LinuxBootConfigurator::write_bootparams(
                    &theirs::BootParams::new(&their_page, GuestAddress(at)),
                    &theirs_in,
                ),
            );
            if is_clear(at, 4096) {
                prop_assert_eq!(our, their);
                prop_assert!(contents(&ours_in) == contents(&theirs_in));
            } else if our.is_err() {
                prop_assert!(contents(&ours_in) == contents(&memory()));
            }
        }

        #[test]
        fn what_a_pvh_guest_is_told_goes_where_theirs_goes(
            info_at in address(),
            map_at in address(),
            map_len in 0_usize..20,
            modules in prop::option::of((address(), 1_usize..8)),
        ) {
            use our_loader::elf::start_info as our_info;
            use their_loader::elf::start_info as their_info;
            let (ours_in, theirs_in) = (memory(), memory());
            let entry = |n: usize| (n as u64 + 1, 1_u32);

            let info = our_info::hvm_start_info { magic: 0x336e_c578, ..Default::default() };
            let mut our = ours::BootParams::new(&info, GuestAddress(info_at));
            let map: Vec<_> = (0..map_len).map(entry).map(|(addr, type_)| {
                our_info::hvm_memmap_table_entry { addr, size: addr, type_, reserved: 0 }
            }).collect();
            our.set_sections(&map, GuestAddress(map_at));

            let info = their_info::hvm_start_info { magic: 0x336e_c578, ..Default::default() };
            let mut their = theirs::BootParams::new(&info, GuestAddress(info_at));
            let map: Vec<_> = (0..map_len).map(entry).map(|(addr, type_)| {
                their_info::hvm_memmap_table_entry { addr, size: addr, type_, reserved: 0 }
            }).collect();
            their.set_sections(&map, GuestAddress(map_at));

            if let Some((at, len)) = modules {
                let list = vec![our_info::hvm_modlist_entry { paddr: 9, ..Default::default() }; len];
                our.set_modules(&list, GuestAddress(at));
                let list = vec![their_info::hvm_modlist_entry { paddr: 9, ..Default::default() }; len];
                their.set_modules(&list, GuestAddress(at));
            }
            let (our, their) = told(
                ours::pvh::PvhBootConfigurator::write_bootparams(&our, &ours_in),
                theirs::pvh::PvhBootConfigurator::write_bootparams(&their, &theirs_in),
            );
            let is_clear = is_clear(info_at, 56)
                && is_clear(map_at, map_len * 24)
                && modules.is_none_or(|(at, len)| is_clear(at, len * 32));
            if our.is_err() {
                prop_assert!(contents(&ours_in) == contents(&memory()), "nothing is written");
            }
            if is_clear {
                prop_assert_eq!(&our, &their);
            }
            if is_clear && our.is_ok() {
                prop_assert!(contents(&ours_in) == contents(&theirs_in));
            }
        }

        #[test]
        fn a_command_line_goes_where_theirs_goes(at in address(), words in "[a-z= ]{0,40}") {
            let our_line = our_loader::Cmdline::try_from(&words, 64).expect("it is short");
            let their_line = their_loader::Cmdline::try_from(&words, 64).expect("it is short");
            let (ours_in, theirs_in) = (memory(), memory());
            let (our, their) = told(
                our_loader::load_cmdline(&ours_in, GuestAddress(at), &our_line),
                their_loader::load_cmdline(&theirs_in, GuestAddress(at), &their_line),
            );
            prop_assert_eq!(&our, &their);
            if our.is_ok() {
                prop_assert!(contents(&ours_in) == contents(&theirs_in));
            } else {
                prop_assert!(contents(&ours_in) == contents(&memory()), "nothing is written");
            }
        }

        #[test]
        fn any_zero_page_means_the_same_to_both(bytes in prop::collection::vec(any::<u8>(), 4096)) {
            let our = our_loader::bootparam::boot_params::read_from_bytes(&bytes)
                .expect("it has 4096 bytes");
            let their = *<their_loader::bootparam::boot_params as vm_memory::ByteValued>::from_slice(&bytes)
                .expect("it has 4096 bytes");
            let (a, b) = (our.hdr, their.hdr);
            prop_assert_eq!({ a.init_size }, { b.init_size });
            prop_assert_eq!({ a.pref_address }, { b.pref_address });
            prop_assert_eq!({ a.xloadflags }, { b.xloadflags });
            prop_assert_eq!({ a.kernel_info_offset }, { b.kernel_info_offset });
            prop_assert_eq!({ our.ext_cmd_line_ptr }, { their.ext_cmd_line_ptr });
            prop_assert_eq!({ our.efi_info.efi_memmap_hi }, { their.efi_info.efi_memmap_hi });
            prop_assert_eq!({ our.e820_table[127].r#type }, { their.e820_table[127].r#type });
            prop_assert_eq!(
                { our.eddbuf[5].params.device_path },
                { their.eddbuf[5].params.device_path }
            );
            prop_assert_eq!(our.as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn what_ends_with_the_last_byte_of_ram_fits_though_they_refuse_it() {
        let at = GuestAddress(0x3000);
        let our = ours::linux::LinuxBootConfigurator::write_bootparams(
            &ours::BootParams::new(&our_loader::bootparam::boot_params::default(), at),
            &memory(),
        );
        let their = theirs::linux::LinuxBootConfigurator::write_bootparams(
            &theirs::BootParams::new(&their_loader::bootparam::boot_params::default(), at),
            &memory(),
        );
        assert_eq!(our, Ok(()));
        assert_eq!(
            their,
            Err(theirs::Error::Linux(
                theirs::linux::Error::ZeroPagePastRamEnd
            ))
        );
    }

    #[test]
    fn a_refused_module_list_leaves_memory_alone_though_they_have_written_half_by_then() {
        let hole = GuestAddress(0x5000);
        let (ours_in, theirs_in) = (memory(), memory());
        let mut our = ours::BootParams::new(&1_u8, GuestAddress(0));
        our.set_sections(&[2_u8], GuestAddress(1));
        our.set_modules(&[3_u8], hole);
        let our = ours::pvh::PvhBootConfigurator::write_bootparams(&our, &ours_in);
        let mut their = theirs::BootParams::new(&1_u8, GuestAddress(0));
        their.set_sections(&[2_u8], GuestAddress(1));
        their.set_modules(&[3_u8], hole);
        let their = theirs::pvh::PvhBootConfigurator::write_bootparams(&their, &theirs_in);
        let (our, their) = told(our, their);
        assert_eq!(our, their);
        assert!(our.is_err());
        assert!(contents(&ours_in).iter().all(|&byte| byte == 0));
        assert_eq!(contents(&theirs_in)[..2], [1, 2]);
    }
}
