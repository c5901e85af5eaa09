//! What a guest's processors say of themselves: KVM's answer to what it supports, made to agree
//! with itself (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E).
//!
//! KVM describes the host's processor. The guest's has its own number of cores, its own timer, no
//! virtualisation, and states of which each has a size.

mod states;
#[cfg(test)]
mod tests;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Which of how many vCPUs; all are cores of one package, and the APIC ids count from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct VcpuPlace {
    pub(super) id: u32,
    pub(super) of: u32,
    /// Whether its local APIC is KVM's.
    pub(super) local_apic: bool,
}

/// What the guest's local timer can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// How fast the time stamp counter runs, where that is known.
    pub(super) tsc_khz: Option<u32>,
    /// Whether the local APIC's timer can wait for a value of the counter.
    pub(super) deadline: bool,
}

/// The leaves for one vCPU, made of those that KVM supports.
pub(super) fn for_guest(
    supported: &[kvm_cpuid_entry2],
    place: VcpuPlace,
    timer: Timer,
) -> Vec<kvm_cpuid_entry2> {
    let mut leaves = Leaves(supported.to_vec());
    guest_features(&mut leaves, place, timer);
    states::agree(&mut leaves);
    match leaves.vendor() {
        Vendor::Intel => {
            intel_cores(&mut leaves, place);
            tsc_frequency(&mut leaves, timer);
        }
        Vendor::Amd => {
            hide_what_only_intel_has(&mut leaves);
            amd_cores(&mut leaves, place);
        }
        Vendor::Other => intel_cores(&mut leaves, place),
    }
    apic_ids(&mut leaves, place);
    leaves.0
}

/// Leaf numbers, and in them the bits that are named here.
const VENDOR: u32 = 0;
const KVM_FEATURES: u32 = 0x4000_0001;
const FEATURES: u32 = 1;
const CACHES: u32 = 4;
const STRUCTURED_FEATURES: u32 = 7;
const APIC_IDS: u32 = 0xb;
const TSC: u32 = 0x15;
const FREQUENCIES: u32 = 0x16;
const APIC_IDS_V2: u32 = 0x1f;
const EXTENDED_FEATURES: u32 = 0x8000_0001;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_SVM: u32 = 0x8000_000a;
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const AMD_LEVELS: u32 = 0x8000_0026;

/// Leaf 1, ECX.
const VMX: u32 = 1 << 5;
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
/// What KVM offers a guest whose local APICs are its own (KVM, "KVM CPUID bits"): page faults that come later, ends of
/// interrupts in memory, waking and interrupting others by calls, polling, destinations of 15 bits.
const WITH_LOCAL_APIC: u32 =
    1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has several logical processors.
const HTT: u32 = 1 << 28;
/// Leaf 7, EDX.
const ARCH_CAPABILITIES: u32 = 1 << 29;
/// Leaf 0x80000001, ECX.
const CMP_LEGACY: u32 = 1 << 1;
const SVM: u32 = 1 << 2;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;

fn guest_features(leaves: &mut Leaves, place: VcpuPlace, timer: Timer) {
    if let Some(features) = leaves.get_mut(FEATURES, 0) {
        // KVM itself shows OSXSAVE when the guest has switched it on.
        features.ecx &= !(VMX | OSXSAVE | TSC_DEADLINE | X2APIC);
        features.ecx |= HYPERVISOR;
        set(&mut features.ecx, X2APIC, place.local_apic);
        if timer.deadline {
            features.ecx |= TSC_DEADLINE;
        }
    }
    if let Some(features) = leaves.get_mut(EXTENDED_FEATURES, 0) {
        features.ecx &= !SVM;
    }
    leaves.remove(AMD_SVM);
    if let Some(features) = leaves
        .get_mut(KVM_FEATURES, 0)
        .filter(|_| !place.local_apic)
    {
        features.eax &= !WITH_LOCAL_APIC;
    }
}

/// KVM offers the register of Intel's immunities (IA32_ARCH_CAPABILITIES) on every host; no AMD
/// processor has it, and some kernels stop over it.
fn hide_what_only_intel_has(leaves: &mut Leaves) {
    if let Some(features) = leaves.get_mut(STRUCTURED_FEATURES, 0) {
        features.edx &= !ARCH_CAPABILITIES;
    }
}

/// What every vendor's processors say of their number and of how many there are.
fn apic_ids(leaves: &mut Leaves, place: VcpuPlace) {
    let logical = match leaves.vendor() {
        // Intel counts the ids that there could be, AMD the processors.
        Vendor::Intel | Vendor::Other => place.of.next_power_of_two(),
        Vendor::Amd => place.of,
    };
    if let Some(features) = leaves.get_mut(FEATURES, 0) {
        let id = place.id & 0xff;
        features.ebx = features.ebx & 0xffff | logical.min(0xff) << 16 | id << 24;
        set(&mut features.edx, HTT, place.of > 1);
    }
    for leaf in [APIC_IDS, APIC_IDS_V2] {
        leaves.remove(leaf);
        if leaves.max_basic() >= leaf {
            put_levels(leaves, leaf, place);
        }
    }
}

/// Leaves 0xb and 0x1f: one thread in every core, all cores in one package.
fn put_levels(leaves: &mut Leaves, leaf: u32, place: VcpuPlace) {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let core_bits = place.of.next_power_of_two().trailing_zeros();
    let levels = [
        (0, 1, THREADS << 8),
        (core_bits, place.of, CORES << 8),
        (0, 0, 0),
    ];
    for (index, (shift, processors, kind)) in (0..).zip(levels) {
        leaves.push(kvm_cpuid_entry2 {
            function: leaf,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: processors,
            ecx: kind | index,
            edx: place.id,
            ..kvm_cpuid_entry2::default()
        });
    }
}

/// Leaf 4: every core has its first and second cache for itself, and all share the third.
fn intel_cores(leaves: &mut Leaves, place: VcpuPlace) {
    let ids = place.of.next_power_of_two() - 1;
    for cache in leaves.each_mut(CACHES) {
        if cache.eax & 0x1f == 0 {
            continue;
        }
        let shared_by = if level(cache.eax) < 3 { 0 } else { ids };
        cache.eax = cache.eax & 0x3fff | shared_by << 14 | ids.min(0x3f) << 26;
    }
}

/// Leaves 0x80000001, 0x80000008, 0x8000001d and 0x8000001e: as on Intel.
fn amd_cores(leaves: &mut Leaves, place: VcpuPlace) {
    // Levels that nobody here speaks of: leaf 0xb has the same.
    leaves.remove(AMD_LEVELS);
    let others = place.of - 1;
    let mut extensions = false;
    if let Some(features) = leaves.get_mut(EXTENDED_FEATURES, 0) {
        set(&mut features.ecx, CMP_LEGACY, place.of > 1);
        extensions = features.ecx & TOPOLOGY_EXTENSIONS != 0;
    }
    if let Some(sizes) = leaves.get_mut(AMD_SIZES, 0) {
        let id_bits = place.of.next_power_of_two().trailing_zeros();
        sizes.ecx = sizes.ecx & !0xf0ff | id_bits << 12 | others & 0xff;
    }
    if !extensions {
        leaves.remove(AMD_CACHES);
        leaves.remove(AMD_TOPOLOGY);
        return;
    }
    for cache in leaves.each_mut(AMD_CACHES) {
        if cache.eax & 0x1f == 0 {
            continue;
        }
        let shared_by = if level(cache.eax) < 3 { 0 } else { others };
        cache.eax = cache.eax & 0x3fff | shared_by << 14;
    }
    if let Some(topology) = leaves.get_mut(AMD_TOPOLOGY, 0) {
        topology.eax = place.id;
        // The core's number; one thread in it; node 0 of one.
        topology.ebx = place.id & 0xff;
        topology.ecx = 0;
        topology.edx = 0;
    }
}

/// A cache's level, which both vendors have in the same bits.
fn level(eax: u32) -> u32 {
    eax >> 5 & 7
}

/// Leaves 0x15 and 0x16, for kernels that do not ask KVM's own clock.
///
/// The "crystal" they are told of is the counter itself, so that its frequency is exact. A kernel
/// may take the crystal for the local timer's, too; so they get the leaves only where that timer
/// waits for values of the counter.
fn tsc_frequency(leaves: &mut Leaves, timer: Timer) {
    let Some(khz) = timer.tsc_khz.filter(|&khz| khz != 0 && timer.deadline) else {
        return;
    };
    // The frequency in Hz has to fit, and from 4.29 GHz it does so only in halves.
    let ratio = if khz > u32::MAX / 1000 { 2 } else { 1 };
    let Some(crystal) = (khz / ratio).checked_mul(1000) else {
        return;
    };
    leaves.raise_max_basic(FREQUENCIES);
    leaves.remove(TSC);
    leaves.push(kvm_cpuid_entry2 {
        function: TSC,
        eax: 1,
        ebx: ratio,
        ecx: crystal,
        ..kvm_cpuid_entry2::default()
    });
    leaves.remove(FREQUENCIES);
    leaves.push(kvm_cpuid_entry2 {
        function: FREQUENCIES,
        eax: (khz / 1000) & 0xffff,
        ebx: (khz / 1000) & 0xffff,
        ecx: 100,
        ..kvm_cpuid_entry2::default()
    });
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on {
        *register |= bit;
    } else {
        *register &= !bit;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Intel,
    Amd,
    Other,
}

/// CPUID leaves in the making.
#[derive(Clone, Debug)]
struct Leaves(Vec<kvm_cpuid_entry2>);

impl Leaves {
    fn get(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.0
            .iter()
            .find(|leaf| leaf.function == function && leaf.index == index)
    }

    fn get_mut(&mut self, function: u32, index: u32) -> Option<&mut kvm_cpuid_entry2> {
        self.each_mut(function).find(|leaf| leaf.index == index)
    }

    fn each_mut(&mut self, function: u32) -> impl Iterator<Item = &mut kvm_cpuid_entry2> {
        self.0
            .iter_mut()
            .filter(move |leaf| leaf.function == function)
    }

    fn remove(&mut self, function: u32) {
        self.0.retain(|leaf| leaf.function != function);
    }

    fn push(&mut self, leaf: kvm_cpuid_entry2) {
        self.0.push(leaf);
    }

    fn vendor(&self) -> Vendor {
        let Some(leaf) = self.get(VENDOR, 0) else {
            return Vendor::Other;
        };
        let mut name = [0; 12];
        for (to, register) in name.chunks_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
            to.copy_from_slice(&register.to_le_bytes());
        }
        match &name {
            b"GenuineIntel" => Vendor::Intel,
            b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
            _ => Vendor::Other,
        }
    }

    fn max_basic(&self) -> u32 {
        self.get(VENDOR, 0).map_or(0, |leaf| leaf.eax)
    }

    fn raise_max_basic(&mut self, to: u32) {
        if let Some(leaf) = self.get_mut(VENDOR, 0) {
            leaf.eax = leaf.eax.max(to);
        }
    }
}
