//! Leaf 0xd: which processor states XSAVE knows, and how large each is (Intel SDM volume 1,
//! chapter 13).
//!
//! A kernel adds the sizes up itself and stops in the middle of its start when the sum is not
//! what the processor says. So a state is offered only where its size makes sense, the sums are
//! made of what is offered, and no feature is offered whose state is not.

use super::{EXTENDED_FEATURES, FEATURES, Leaves, STRUCTURED_FEATURES};

const STATES: u32 = 0xd;
const TILES: u32 = 0x1d;
const TILE_MULTIPLIER: u32 = 0x1e;

/// Leaf 1, ECX.
const XSAVE: u32 = 1 << 26;

/// Leaf 0xd, index 1, EAX.
const XSAVEOPT: u32 = 1 << 0;
const XSAVEC: u32 = 1 << 1;
const XGETBV_1: u32 = 1 << 2;
const XSAVES: u32 = 1 << 3;
const XFD: u32 = 1 << 4;

/// The x87 and SSE states, which lie in the legacy region; then the header.
const LEGACY_STATES: u64 = 0b11;
const LEGACY_LEN: u32 = 512;
const HEADER_LEN: u32 = 64;
const FIRST_OFFSET: u32 = LEGACY_LEN + HEADER_LEN;

/// Bits of XCR0.
const AVX: u64 = 1 << 2;
const MPX: u64 = 0b11 << 3;
const AVX512: u64 = 0b111 << 5;
const PKRU: u64 = 1 << 9;
const AMX: u64 = 0b11 << 17;

/// States that only come together, with those that they build on.
const TOGETHER: &[(u64, u64)] = &[(MPX, 0), (AVX512, AVX), (AMX, 0)];

/// Makes leaf 0xd agree with itself and with the features of other leaves.
pub(super) fn agree(leaves: &mut Leaves) {
    let offered = offered_states(leaves);
    match offered {
        Some(offered) => put(leaves, offered),
        None => {
            leaves.remove(STATES);
            if let Some(features) = leaves.get_mut(FEATURES, 0) {
                features.ecx &= !XSAVE;
            }
        }
    }
    hide_features_without_state(leaves, offered.map_or(0, |offered| offered.user));
}

/// What is offered: states for XCR0, states for the supervisor's XSS, and instructions.
#[derive(Clone, Copy, Debug)]
struct Offered {
    user: u64,
    supervisor: u64,
    instructions: u32,
}

fn offered_states(leaves: &Leaves) -> Option<Offered> {
    let has_xsave = leaves
        .get(FEATURES, 0)
        .is_some_and(|features| features.ecx & XSAVE != 0);
    let main = leaves.get(STATES, 0).filter(|_| has_xsave)?;
    let user = states_with_sense(leaves, mask(main.eax, main.edx), Kind::User);
    let mut instructions = 0;
    let mut supervisor = 0;
    if let Some(second) = leaves.get(STATES, 1) {
        instructions = second.eax & (XSAVEOPT | XSAVEC | XGETBV_1 | XSAVES | XFD);
        if instructions & XSAVEC == 0 {
            // The supervisor's form compacts, too; a processor with it alone does not exist.
            instructions &= !XSAVES;
        }
        if user & AMX == 0 {
            // It holds back AMX's large state, and has nothing else to hold back.
            instructions &= !XFD;
        }
        if instructions & XSAVES != 0 {
            supervisor = states_with_sense(leaves, mask(second.ecx, second.edx), Kind::Supervisor);
        }
    }
    Some(Offered {
        user,
        supervisor,
        instructions,
    })
}

fn mask(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn halves(mask: u64) -> (u32, u32) {
    let [low, high] =
        [mask & u64::from(u32::MAX), mask >> 32].map(|half| u32::try_from(half).expect("32 bits"));
    (low, high)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Supervisor,
}

/// The states of `claimed` that have a size, and an offset where they are the user's, and all of
/// whose companions have, too.
fn states_with_sense(leaves: &Leaves, claimed: u64, kind: Kind) -> u64 {
    let alone = match kind {
        Kind::User => LEGACY_STATES,
        Kind::Supervisor => 0,
    };
    let sized = bits(claimed & !LEGACY_STATES)
        .filter(|&state| has_sense(leaves, state, kind))
        .fold(alone, |mask, state| mask | 1 << state);
    match kind {
        Kind::User => TOGETHER.iter().fold(sized, |mask, &(states, needs)| {
            let whole = states | needs;
            if mask & whole == whole {
                mask
            } else {
                mask & !states
            }
        }),
        Kind::Supervisor => sized,
    }
}

fn has_sense(leaves: &Leaves, state: u32, kind: Kind) -> bool {
    const SUPERVISOR: u32 = 1 << 0;
    leaves.get(STATES, state).is_some_and(|leaf| {
        let fits = leaf.ebx.checked_add(leaf.eax).is_some();
        leaf.eax != 0
            && match kind {
                Kind::User => leaf.ecx & SUPERVISOR == 0 && leaf.ebx >= FIRST_OFFSET && fits,
                Kind::Supervisor => leaf.ecx & SUPERVISOR != 0 && leaf.ebx == 0,
            }
    })
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| mask >> bit & 1 != 0)
}

fn put(leaves: &mut Leaves, offered: Offered) {
    let keep = offered.user | offered.supervisor;
    leaves.0.retain(|leaf| {
        leaf.function != STATES || leaf.index < 2 || leaf.index < 64 && keep >> leaf.index & 1 != 0
    });
    let end = bits(offered.user & !LEGACY_STATES)
        .filter_map(|state| leaves.get(STATES, state))
        .map(|leaf| leaf.ebx + leaf.eax)
        .fold(FIRST_OFFSET, u32::max);
    if let Some(main) = leaves.get_mut(STATES, 0) {
        (main.eax, main.edx) = halves(offered.user);
        main.ecx = end;
        // After a reset only the x87 state is switched on. KVM follows the guest from there.
        main.ebx = FIRST_OFFSET;
    }
    if let Some(second) = leaves.get_mut(STATES, 1) {
        second.eax = offered.instructions;
        (second.ecx, second.edx) = halves(offered.supervisor);
        // The compacted size, likewise; without a compacting instruction there is none.
        let compacts = offered.instructions & (XSAVEC | XSAVES) != 0;
        second.ebx = if compacts { FIRST_OFFSET } else { 0 };
    }
}

#[derive(Clone, Copy, Debug)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Features that need a state in XCR0: leaf, index, register, bits, states.
const FEATURES_WITH_STATE: &[(u32, u32, Register, u32, u64)] = &[
    // FMA, AVX, F16C.
    (FEATURES, 0, Register::Ecx, 1 << 12 | 1 << 28 | 1 << 29, AVX),
    // AVX2.
    (STRUCTURED_FEATURES, 0, Register::Ebx, 1 << 5, AVX),
    // VAES, VPCLMULQDQ.
    (STRUCTURED_FEATURES, 0, Register::Ecx, 1 << 9 | 1 << 10, AVX),
    // SHA512, SM3, SM4, AVX-VNNI, AVX-IFMA.
    (
        STRUCTURED_FEATURES,
        1,
        Register::Eax,
        0b111 | 1 << 4 | 1 << 23,
        AVX,
    ),
    // AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16.
    (
        STRUCTURED_FEATURES,
        1,
        Register::Edx,
        1 << 4 | 1 << 5 | 1 << 10,
        AVX,
    ),
    // XOP, FMA4.
    (EXTENDED_FEATURES, 0, Register::Ecx, 1 << 11 | 1 << 16, AVX),
    (STRUCTURED_FEATURES, 0, Register::Ebx, 1 << 14, MPX),
    // AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL.
    (
        STRUCTURED_FEATURES,
        0,
        Register::Ebx,
        0b11 << 16 | 1 << 21 | 0b111 << 26 | 0b11 << 30,
        AVX512,
    ),
    // AVX512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
    (
        STRUCTURED_FEATURES,
        0,
        Register::Ecx,
        1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14,
        AVX512,
    ),
    // AVX512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
    (
        STRUCTURED_FEATURES,
        0,
        Register::Edx,
        0b11 << 2 | 1 << 8 | 1 << 23,
        AVX512,
    ),
    // AVX512 BF16.
    (STRUCTURED_FEATURES, 1, Register::Eax, 1 << 5, AVX512),
    // AVX10.
    (STRUCTURED_FEATURES, 1, Register::Edx, 1 << 19, AVX512),
    // PKU, OSPKE.
    (STRUCTURED_FEATURES, 0, Register::Ecx, 0b11 << 3, PKRU),
    // AMX BF16, TILE, INT8.
    (
        STRUCTURED_FEATURES,
        0,
        Register::Edx,
        1 << 22 | 0b11 << 24,
        AMX,
    ),
    // AMX FP16.
    (STRUCTURED_FEATURES, 1, Register::Eax, 1 << 21, AMX),
    // AMX COMPLEX.
    (STRUCTURED_FEATURES, 1, Register::Edx, 1 << 8, AMX),
];

fn hide_features_without_state(leaves: &mut Leaves, offered: u64) {
    for &(function, index, register, features, states) in FEATURES_WITH_STATE {
        if offered & states == states {
            continue;
        }
        let Some(leaf) = leaves.get_mut(function, index) else {
            continue;
        };
        let register = match register {
            Register::Eax => &mut leaf.eax,
            Register::Ebx => &mut leaf.ebx,
            Register::Ecx => &mut leaf.ecx,
            Register::Edx => &mut leaf.edx,
        };
        *register &= !features;
    }
    if offered & AMX != AMX {
        leaves.remove(TILES);
        leaves.remove(TILE_MULTIPLIER);
    }
}
