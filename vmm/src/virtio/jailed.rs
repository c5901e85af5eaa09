//! Devices of ours that a process in a jail serves: what is left of them here.

use super::backend::Handover;
use super::front_end::FrontEnd;
use super::{Backend, FrontEndError, Io};
use crate::jail::{Inmate, Process};
use crate::reports::Reports;
use crate::{DeviceError, RunError};
use firstlight_devices::virtio::{Device, QueueError};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// The way to a device's process.
pub(super) struct Jailed {
    front_end: FrontEnd,
    /// `None` when its end has been reported.
    process: Option<Process>,
    reports: Arc<Reports>,
}

impl Jailed {
    /// Starts a process for `inmate`, which is `file` on the host, and is called `device` and looks like `chip`. When
    /// the process ends, the run does.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Jail`] where it cannot be started, or walled up.
    pub(super) fn start(
        (device, chip): (&str, &dyn Device),
        (inmate, file): (Inmate, OwnedFd),
        reports: &Arc<Reports>,
    ) -> Result<Self, DeviceError> {
        let (mut process, socket) = Process::start(device, inmate, file)?;
        let front_end = match FrontEnd::of_our_own(socket, chip) {
            Ok(front_end) => front_end,
            Err(FrontEndError::Lost(_)) => return Err(process.bury().into()),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            front_end,
            process: Some(process),
            reports: Arc::clone(reports),
        })
    }

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
