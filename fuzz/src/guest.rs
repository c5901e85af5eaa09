//! What every plan has to be, and a plan carried out.

use firstlight_base::{Gpa, GpaRange};
use firstlight_boot::{BootPlan, Content, E820Kind};
use firstlight_image::Image;
use firstlight_load::{Backing, GuestMemory, PlaceError, Sources, place};

/// Checks every promise that a plan makes by being there.
pub(crate) fn check(plan: &BootPlan) {
    let ram = plan.platform().ram();
    for piece in plan.pieces() {
        let in_ram = ram.iter().any(|ram| ram.contains(piece.range));
        assert!(in_ram, "{piece:?} is not in RAM");
        let len = match &piece.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Image { len, .. } => *len,
            Content::Initrd | Content::Module(_) | Content::Window => 0,
        };
        assert!(len <= piece.range.len(), "{piece:?} overflows");
    }
    for pair in plan.pieces().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    for pair in plan.e820().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{pair:?}");
    }
    for entry in plan.e820() {
        let in_ram = ram.iter().any(|ram| ram.contains(entry.range));
        assert!(in_ram || entry.kind != E820Kind::Ram, "{entry:?}");
    }
    let entry =
        GpaRange::new(Gpa::new(plan.boot_vcpu().pc()), 1).expect("it is not the last address");
    let entered = plan
        .pieces()
        .iter()
        .find(|piece| piece.range.contains(entry));
    assert!(entered.is_some(), "nothing lies at the entry {entry}");
}

/// Puts the plan into memory of its own; says whether it could be.
pub(crate) fn carry_out(plan: &BootPlan, image: &Image<'_>) -> bool {
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)
        .expect("memory that nobody touches costs nothing");
    let layers: Vec<&[u8]> = image.layers().iter().map(|layer| layer.bytes()).collect();
    let sources = Sources {
        layers: &layers,
        ..Sources::default()
    };
    match place(plan, &sources, &memory) {
        Ok(()) => true,
        Err(error) => {
            assert!(
                !matches!(error, PlaceError::OutsideRam(_)),
                "a plan stays in its RAM: {error}"
            );
            false
        }
    }
}
