//! Devices of ours that a process in a jail serves: what is left of them here.

use super::backend::Handover;
use super::front_end::FrontEnd;
use super::{Backend, FrontEndError, Io, VirtioDevice};
use crate::jail::{Inmate, Process};
use crate::reports::Reports;
use crate::{DeviceError, RunError};
use firstlight_devices::virtio::{Device, QueueError};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// The device that is called `name` and looks like `chip`, with a process for `inmate`, which is `file` on the host.
/// When the process ends, the run does.
///
/// # Errors
///
/// [`DeviceError::Jail`] where it cannot be started, or walled up.
pub(super) fn jailed(
    name: String,
    chip: impl Device + 'static,
    (inmate, file): (Inmate, OwnedFd),
    reports: &Arc<Reports>,
) -> Result<VirtioDevice, DeviceError> {
    let (mut process, socket) = Process::start(&name, inmate, file)?;
    let front_end = match FrontEnd::of_our_own(socket, &chip) {
        Ok(front_end) => front_end,
        Err(FrontEndError::Lost(_)) => return Err(process.bury().into()),
        Err(error) => return Err(error.into()),
    };
    let jailed = Jailed {
        front_end,
        process: Some(process),
        reports: Arc::clone(reports),
    };
    Ok(VirtioDevice::new(name, chip, jailed))
}

/// The way to a device's process.
struct Jailed {
    front_end: FrontEnd,
    /// `None` when its end has been reported.
    process: Option<Process>,
    reports: Arc<Reports>,
}

impl Jailed {
    /// Reports the process's end, once.
    fn look_after(&mut self) {
        if self.front_end.is_lost()
            && let Some(mut process) = self.process.take()
        {
            let ended = DeviceError::from(process.bury());
            self.reports.report(Err(RunError::from(ended)));
        }
    }
}

impl Backend for Jailed {
    fn serves_elsewhere(&self) -> bool {
        self.front_end.serves_elsewhere()
    }

    fn hand_over(&mut self, queues: &Handover<'_>) -> Result<(), FrontEndError> {
        let handed = self.front_end.hand_over(queues);
        self.look_after();
        handed
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        self.front_end.waits()
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        self.front_end.rung(queue, io)
    }

    fn ready(&mut self, ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        let done = self.front_end.ready(ready, io);
        self.look_after();
        done
    }

    fn stopped(&mut self) {
        self.front_end.stopped();
        self.look_after();
    }
}
