//! The line between the guest's console port and the session.

use crate::bell::Bell;
use crate::{ConsoleOutput, RunError};
use firstlight_devices::virtio::console::ScreenSize;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// So many typed bytes wait for the guest at most.
const MOST_INPUT: usize = 4096;

/// A line: what is typed goes one way, what the guest prints the other.
#[derive(Debug)]
pub(crate) struct ConsoleLine {
    output: OnceLock<ConsoleOutput>,
    input: Mutex<Input>,
    /// Rings when something was typed, or the screen has another size.
    typed: Bell,
    /// Rings when there is room for more.
    room: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Input {
    waiting: VecDeque<u8>,
    /// Whether bytes had no room when they were typed.
    more_waits: bool,
    size: Option<ScreenSize>,
}

impl ConsoleLine {
    /// A line to a screen of this size, if it has one; it rings `room` where typed bytes had none, and
    /// have it now.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host has no descriptors left.
    pub(crate) fn new(size: Option<ScreenSize>, room: &Arc<Bell>) -> Result<Arc<Self>, RunError> {
        Ok(Arc::new(Self {
            output: OnceLock::new(),
            input: Mutex::new(Input {
                size,
                ..Input::default()
            }),
            typed: Bell::new()?,
            room: Arc::clone(room),
        }))
    }

    /// Where the guest's bytes go from now on; before, and without it, they go nowhere.
    pub(crate) fn connect(&self, output: &ConsoleOutput) {
        // A machine is started once.
        let _ = self.output.set(output.clone());
    }

    /// Takes as many of the typed bytes as there is room for, and says how many.
    pub(crate) fn send(&self, bytes: &[u8]) -> usize {
        let mut input = self.input();
        let taken = bytes.len().min(MOST_INPUT - input.waiting.len());
        input.waiting.extend(bytes.iter().take(taken));
        input.more_waits |= taken < bytes.len();
        self.typed.ring();
        taken
    }

    /// The screen has another size. The guest hears of it where the screen had one.
    pub(crate) fn resize(&self, size: ScreenSize) {
        let mut input = self.input();
        if input.size.is_some() {
            input.size = Some(size);
            self.typed.ring();
        }
    }

    /// How large the screen is, if it has a size.
    pub(super) fn size(&self) -> Option<ScreenSize> {
        self.input().size
    }

    /// Prints what the guest wrote. While nobody reads it the device waits, as at the end of a slow
    /// serial line.
    pub(super) fn print(&self, bytes: &[u8]) {
        if let Some(output) = self.output.get() {
            output.write(bytes);
        }
    }

    /// What is readable when something was typed.
    pub(super) fn typed(&self) -> BorrowedFd<'_> {
        self.typed.as_fd()
    }

    /// It was heard that something was typed.
    pub(super) fn answer(&self) {
        self.typed.answer();
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input().waiting.is_empty()
    }

    /// Up to `most` of the typed bytes.
    pub(super) fn take_input(&self, most: usize) -> Vec<u8> {
        let mut input = self.input();
        let len = most.min(input.waiting.len());
        let bytes = input.waiting.drain(..len).collect();
        if std::mem::take(&mut input.more_waits) {
            self.room.ring();
        }
        bytes
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
