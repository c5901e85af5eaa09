//! What a machine's threads tell the session: how it stopped.

use crate::bell::Bell;
use crate::{RunError, Stop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a machine's threads leave word for the session.
#[derive(Debug)]
pub(crate) struct Reports {
    report: Mutex<Option<Result<Stop, RunError>>>,
    stopping: AtomicBool,
    bell: Arc<Bell>,
}

impl Reports {
    pub(crate) fn new() -> Result<Arc<Self>, RunError> {
        Ok(Arc::new(Self {
            report: Mutex::new(None),
            stopping: AtomicBool::new(false),
            bell: Arc::new(Bell::new()?),
        }))
    }

    /// What wakes the session.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Tells the session how the machine stopped. The first to say so is right; what others see is
    /// because of it.
    pub(crate) fn report(&self, report: Result<Stop, RunError>) {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(report);
        self.stop();
        self.bell.ring();
    }

    /// What has been reported, once.
    pub(crate) fn take(&self) -> Option<Result<Stop, RunError>> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Lets no vCPU run again.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}
