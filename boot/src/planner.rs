//! From an image and a request to a sound plan.

pub(crate) mod firmware;
mod pc;
mod pmem;
mod virt;

pub(crate) use pc::{check_cmdline, check_no_list};

use crate::platform::VirtioMmio;
use crate::protocol::flat::{self, Rules};
use crate::{BootPlan, PlanError, Request};
use core::ops::RangeInclusive;
use firstlight_image::Image;

/// Works out how `image` is booted as `request` wants it.
///
/// # Errors
///
/// [`PlanError`] with the rule that is broken and the numbers that break it.
pub fn plan(image: &Image<'_>, request: &Request) -> Result<BootPlan, PlanError> {
    if let Some(firmware) = image.firmware() {
        return firmware::plan(image, firmware, request);
    }
    match Rules::of(image.architecture()) {
        Some(rules) => virt::plan(&flat::kernel(image, rules, request)?, rules, request),
        None => pc::plan(image, request),
    }
}

/// A machine of some size within limits.
fn check_size(
    request: &Request,
    most_cpus: u32,
    memory: RangeInclusive<u64>,
) -> Result<(), PlanError> {
    if !(1..=most_cpus).contains(&request.cpus) {
        return Err(PlanError::Cpus {
            asked: request.cpus,
            most: most_cpus,
        });
    }
    if !memory.contains(&request.memory) {
        return Err(PlanError::Memory {
            asked: request.memory,
            least: *memory.start(),
            most: *memory.end(),
        });
    }
    Ok(())
}

/// As many virtio transports as are wanted, of those that the machine can have.
fn transports(request: &Request, all: VirtioMmio) -> Result<Option<VirtioMmio>, PlanError> {
    let asked = request.hardware.virtio;
    if asked > all.count {
        let most = all.count;
        return Err(PlanError::Transports { asked, most });
    }
    Ok(all.first(asked))
}

/// A command line that the kernel takes whole.
fn check_bytes(cmdline: &str, limit: u64) -> Result<(), PlanError> {
    let len = cmdline.len() as u64;
    if len > limit {
        return Err(PlanError::CmdlineTooLong { len, limit });
    }
    match cmdline.find('\0') {
        Some(at) => Err(PlanError::CmdlineNul { at }),
        None => Ok(()),
    }
}
