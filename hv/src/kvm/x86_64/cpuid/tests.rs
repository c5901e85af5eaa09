//! The filter over leaves that were seen, and over some that a processor could have.

use super::*;

const SEEN: [&str; 3] = [
    include_str!("svm-under-tcg.txt"),
    include_str!("without-hardware.txt"),
    include_str!("intel-server.txt"),
];
const SVM_UNDER_TCG: usize = 0;
const WITHOUT_HARDWARE: usize = 1;
const INTEL_SERVER: usize = 2;

const ALONE: VcpuPlace = VcpuPlace {
    id: 0,
    of: 1,
    local_apic: true,
};
const TIMER: Timer = Timer {
    tsc_khz: Some(2_596_128),
    deadline: true,
};

fn seen(which: usize) -> Leaves {
    let lines = SEEN[which].lines().filter(|line| !line.starts_with('#'));
    Leaves(lines.map(parse).collect())
}

fn parse(line: &str) -> kvm_cpuid_entry2 {
    let numbers: Vec<u32> = line
        .split(' ')
        .map(|number| u32::from_str_radix(number, 16).unwrap())
        .collect();
    let [function, index, flags, eax, ebx, ecx, edx] = numbers[..] else {
        panic!("seven numbers in {line:?}");
    };
    kvm_cpuid_entry2 {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        ..kvm_cpuid_entry2::default()
    }
}

fn guest(which: usize, place: VcpuPlace) -> Leaves {
    guest_of(&seen(which), place)
}

fn guest_of(supported: &Leaves, place: VcpuPlace) -> Leaves {
    Leaves(for_guest(&supported.0, place, TIMER))
}

/// What a kernel adds up when it starts its floating-point unit, and stops over when it is wrong.
fn assert_states_add_up(leaves: &Leaves) {
    let features = leaves.get(1, 0).unwrap();
    let avx = features.ecx >> 28 & 1 != 0;
    if features.ecx >> 26 & 1 == 0 {
        assert!(!avx, "no AVX without XSAVE");
        assert!(leaves.get(0xd, 0).is_none());
        return;
    }
    let main = *leaves.get(0xd, 0).unwrap();
    let second = *leaves.get(0xd, 1).unwrap();
    let mut end = 576;
    for state in (2..32).filter(|state| main.eax >> state & 1 != 0) {
        let leaf = leaves.get(0xd, state).unwrap();
        assert!(leaf.eax != 0 && leaf.ebx >= 576, "state {state} has a size");
        end = end.max(leaf.eax + leaf.ebx);
    }
    assert_eq!(main.ecx, end);
    assert!(main.ebx <= main.ecx);
    assert_eq!(avx, main.eax >> 2 & 1 != 0, "AVX comes with its state");
    let (compacts, saves) = (second.eax >> 1 & 1 != 0, second.eax >> 3 & 1 != 0);
    assert_eq!(second.ebx != 0, compacts, "a compacted size needs XSAVEC");
    assert!(compacts || !saves, "XSAVES needs XSAVEC");
    assert!(saves || second.ecx == 0, "supervisor states need XSAVES");
    for leaf in leaves.0.iter().filter(|leaf| leaf.function == 0xd) {
        let offered = main.eax | second.ecx | 0b11;
        assert!(offered >> leaf.index & 1 != 0, "state {}", leaf.index);
    }
}

#[test]
fn states_add_up_on_every_processor_seen() {
    for which in 0..SEEN.len() {
        assert_states_add_up(&guest(which, ALONE));
    }
}

#[test]
fn states_add_up_without_any_one_of_the_leaves() {
    for which in 0..SEEN.len() {
        let supported = seen(which);
        for left_out in 0..supported.0.len() {
            let mut rest = supported.clone();
            let leaf = rest.0.remove(left_out);
            if leaf.function == 1 || (leaf.function, leaf.index) == (0xd, 1) {
                continue;
            }
            assert_states_add_up(&guest_of(&rest, ALONE));
        }
    }
}

#[test]
fn states_add_up_whatever_one_bit_of_their_leaves_says() {
    for bit in 0..128 {
        let supported = seen(INTEL_SERVER);
        for index in 0..supported.0.len() {
            let mut changed = supported.clone();
            let leaf = &mut changed.0[index];
            if leaf.function != 0xd {
                continue;
            }
            let registers = [&mut leaf.eax, &mut leaf.ebx, &mut leaf.ecx, &mut leaf.edx];
            let [eax, ebx, ecx, edx] = registers;
            *[eax, ebx, ecx, edx][bit / 32] ^= 1 << (bit % 32);
            assert_states_add_up(&guest_of(&changed, ALONE));
        }
    }
}

#[test]
fn a_size_for_an_instruction_that_is_not_there_is_taken_away() {
    let mut supported = seen(SVM_UNDER_TCG);
    supported.get_mut(0xd, 1).unwrap().ebx = 0x348;
    let leaves = guest_of(&supported, ALONE);
    assert_eq!(leaves.get(0xd, 1).unwrap().ebx, 0);
}

#[test]
fn avx512_goes_as_a_whole_when_one_of_its_states_has_no_size() {
    let mut supported = seen(INTEL_SERVER);
    supported.get_mut(0xd, 6).unwrap().eax = 0;
    let leaves = guest_of(&supported, ALONE);
    assert_states_add_up(&leaves);
    assert_eq!(leaves.get(0xd, 0).unwrap().eax, 0x207);
    let features = leaves.get(7, 0).unwrap();
    assert_eq!(features.ebx >> 16 & 1, 0, "AVX512F");
    assert_eq!(features.ebx >> 5 & 1, 1, "AVX2 stays");
    assert_eq!(
        guest(INTEL_SERVER, ALONE).get(7, 0).unwrap().ebx >> 16 & 1,
        1
    );
}

#[test]
fn amx_without_its_states_is_hidden_and_so_is_what_holds_it_back() {
    let leaves = guest(INTEL_SERVER, ALONE);
    let amx = 1 << 22 | 1 << 24 | 1 << 25;
    assert_eq!(seen(INTEL_SERVER).get(7, 0).unwrap().edx & amx, amx);
    assert_eq!(leaves.get(7, 0).unwrap().edx & amx, 0);
    assert_eq!(leaves.get(7, 1).unwrap().eax >> 21 & 1, 0, "AMX-FP16");
    assert!(leaves.get(0x1d, 0).is_none());
    assert_eq!(leaves.get(0xd, 1).unwrap().eax >> 4 & 1, 0, "XFD");
}

#[test]
fn amx_with_its_states_stays() {
    let mut supported = seen(INTEL_SERVER);
    supported.get_mut(0xd, 0).unwrap().eax |= 0b11 << 17;
    for (index, eax, ebx) in [(17, 0x40, 0xac0), (18, 0x2000, 0xb00)] {
        supported.push(kvm_cpuid_entry2 {
            function: 0xd,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax,
            ebx,
            ecx: 2,
            ..kvm_cpuid_entry2::default()
        });
    }
    let leaves = guest_of(&supported, ALONE);
    assert_states_add_up(&leaves);
    assert_eq!(leaves.get(0xd, 0).unwrap().ecx, 0x2b00);
    assert_eq!(leaves.get(7, 0).unwrap().edx >> 24 & 1, 1);
    assert_eq!(leaves.get(0xd, 1).unwrap().eax >> 4 & 1, 1, "XFD");
}

#[test]
fn without_xsave_there_are_no_states_and_nothing_that_needs_one() {
    let leaves = guest(WITHOUT_HARDWARE, ALONE);
    assert!(seen(WITHOUT_HARDWARE).get(0xd, 2).is_some());
    assert!(leaves.0.iter().all(|leaf| leaf.function != 0xd));
}

#[test]
fn supervisor_states_come_only_with_the_instruction_that_saves_them() {
    let with = guest(INTEL_SERVER, ALONE);
    assert_eq!(with.get(0xd, 1).unwrap().ecx, 0x1800);
    let mut supported = seen(INTEL_SERVER);
    // XSAVEOPT, XGETBV with ECX = 1, XSAVES.
    supported.get_mut(0xd, 1).unwrap().eax = 0b1101;
    let without = guest_of(&supported, ALONE);
    let second = without.get(0xd, 1).unwrap();
    assert_eq!((second.eax, second.ebx, second.ecx), (0b101, 0, 0));
    assert!(without.get(0xd, 0xb).is_none());
}

#[test]
fn the_guest_sees_a_hypervisor_and_no_virtualisation_of_its_own() {
    for which in 0..SEEN.len() {
        let leaves = guest(which, ALONE);
        let features = leaves.get(1, 0).unwrap();
        assert_eq!(features.ecx >> 31, 1, "a hypervisor");
        assert_eq!(features.ecx >> 21 & 1, 1, "x2APIC");
        assert_eq!(features.ecx >> 5 & 1, 0, "VMX");
        assert_eq!(leaves.get(0x8000_0001, 0).unwrap().ecx >> 2 & 1, 0, "SVM");
        assert!(leaves.get(0x8000_000a, 0).is_none());
        let signature = leaves.get(0x4000_0000, 0).unwrap();
        let name = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes);
        assert_eq!(name.as_flattened(), b"KVMKVMKVM\0\0\0");
    }
}

#[test]
fn the_register_of_immunities_is_intels_only() {
    let offered = |leaves: &Leaves| leaves.get(7, 0).unwrap().edx >> 29 & 1 != 0;
    for which in 0..SEEN.len() {
        assert!(offered(&seen(which)));
        assert_eq!(offered(&guest(which, ALONE)), which == INTEL_SERVER);
    }
}

#[test]
fn the_deadline_timer_is_there_when_the_local_apic_is_in_the_kernel() {
    let supported = seen(INTEL_SERVER);
    for deadline in [false, true] {
        let timer = Timer { deadline, ..TIMER };
        let leaves = Leaves(for_guest(&supported.0, ALONE, timer));
        let bit = leaves.get(1, 0).unwrap().ecx >> 24 & 1;
        assert_eq!(bit, u32::from(deadline));
        assert_eq!(leaves.get(0x15, 0).is_some(), deadline);
    }
}

#[test]
fn every_leaf_that_counts_processors_counts_the_same() {
    for which in 0..SEEN.len() {
        for of in (1..=17).chain([31, 32, 33, 64, 128, 254, 255]) {
            for id in [0, of / 2, of - 1] {
                assert_place(
                    which,
                    VcpuPlace {
                        id,
                        of,
                        local_apic: true,
                    },
                );
            }
        }
    }
}

fn assert_place(which: usize, place: VcpuPlace) {
    let VcpuPlace { id, of, .. } = place;
    let leaves = guest(which, place);
    let features = leaves.get(1, 0).unwrap();
    assert_eq!(features.ebx >> 24, id, "the APIC id of leaf 1");
    assert!(features.ebx >> 16 & 0xff >= of, "room for every id");
    assert_eq!(features.edx >> 28 & 1 != 0, of > 1);
    let id_bits = of.next_power_of_two().trailing_zeros();
    for function in [0xb, 0x1f] {
        if leaves.max_basic() < function {
            assert!(leaves.get(function, 0).is_none());
            continue;
        }
        let level = |index| {
            let leaf = leaves.get(function, index).unwrap();
            assert_eq!(leaf.edx, id, "the APIC id of leaf {function:#x}");
            assert_eq!(leaf.flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
            (leaf.eax, leaf.ebx, leaf.ecx)
        };
        assert_eq!(level(0), (0, 1, 0x100));
        assert_eq!(level(1), (id_bits, of, 0x201));
        assert_eq!(level(2), (0, 0, 2));
    }
    if which == INTEL_SERVER {
        let cache = |index| leaves.get(4, index).unwrap().eax;
        assert_eq!(cache(0) >> 26, (of.next_power_of_two() - 1).min(63));
        assert_eq!(cache(2) >> 14 & 0xfff, 0, "its own second cache");
        assert!(cache(3) >> 14 & 0xfff >= of - 1, "all share the third");
        assert_eq!(cache(4), 0, "the end of the list");
    } else {
        let sizes = leaves.get(0x8000_0008, 0).unwrap();
        assert_eq!(sizes.ecx & 0xff, of - 1);
        assert_eq!(sizes.ecx >> 12 & 0xf, id_bits);
        let legacy = leaves.get(0x8000_0001, 0).unwrap().ecx >> 1 & 1;
        assert_eq!(legacy != 0, of > 1);
    }
    if which == WITHOUT_HARDWARE {
        let cache = |index| leaves.get(0x8000_001d, index).unwrap().eax >> 14 & 0xfff;
        assert_eq!((cache(0), cache(2), cache(3)), (0, 0, of - 1));
    }
}

#[test]
fn what_is_about_threads_and_nodes_says_one_of_each() {
    let mut supported = seen(WITHOUT_HARDWARE);
    supported.push(kvm_cpuid_entry2 {
        function: 0x8000_001e,
        eax: 77,
        ebx: 0x105,
        ecx: 0x703,
        ..kvm_cpuid_entry2::default()
    });
    let leaves = guest_of(
        &supported,
        VcpuPlace {
            id: 3,
            of: 4,
            local_apic: true,
        },
    );
    let topology = leaves.get(0x8000_001e, 0).unwrap();
    assert_eq!((topology.eax, topology.ebx, topology.ecx), (3, 3, 0));
}

#[test]
fn a_kernel_computes_the_frequency_without_an_overflow() {
    for khz in [1_000_000, 2_596_128, 4_294_967, 4_294_968, 5_700_000] {
        let timer = Timer {
            tsc_khz: Some(khz),
            ..TIMER
        };
        let leaves = Leaves(for_guest(&seen(INTEL_SERVER).0, ALONE, timer));
        let leaf = leaves.get(0x15, 0).unwrap();
        let crystal_khz = leaf.ecx / 1000;
        let told = crystal_khz.checked_mul(leaf.ebx).unwrap() / leaf.eax;
        assert!(khz.abs_diff(told) <= 1, "{khz} kHz told as {told}");
        assert_eq!(leaves.get(0x16, 0).unwrap().eax, khz / 1000);
    }
}

#[test]
fn a_counter_of_unknown_frequency_is_not_spoken_of() {
    for tsc_khz in [None, Some(0)] {
        let timer = Timer { tsc_khz, ..TIMER };
        let leaves = for_guest(&seen(INTEL_SERVER).0, ALONE, timer);
        assert!(leaves.iter().all(|leaf| leaf.function != 0x15));
    }
}

#[test]
fn no_leaf_comes_twice_and_kvm_can_hold_them() {
    for which in 0..SEEN.len() {
        let leaves = guest(
            which,
            VcpuPlace {
                id: 1,
                of: 2,
                local_apic: true,
            },
        );
        let mut names: Vec<_> = leaves
            .0
            .iter()
            .map(|leaf| (leaf.function, leaf.index))
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count < kvm_bindings::KVM_MAX_CPUID_ENTRIES);
    }
}
