//! The thread on which a virtio device serves its queues while a driver runs it.

use super::backend::{Backend, Handover, Io, Stopping};
use crate::RunError;
use crate::bell::Bell;
use firstlight_devices::virtio::{Cause, Chain, Queue, QueueError, Start};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::error::Error;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How a device reaches its driver.
pub(crate) trait Interrupt: Send + Sync {
    /// Interrupts.
    fn raise(&self, cause: Cause);

    /// The device cannot go on: its driver has to reset it.
    fn break_down(&self, error: &dyn Error);
}

/// A device's backend, and its thread where it runs.
pub(crate) struct Runner {
    name: String,
    memory: Arc<GuestMemory>,
    /// A doorbell for each queue.
    bells: Vec<Arc<Bell>>,
    stop: Arc<Bell>,
    /// Whether that rings, for a thread that does not wait.
    stopping: Arc<AtomicBool>,
    state: Mutex<State>,
    /// Where its thread may run: not where the vCPU is pinned whose write starts it.
    affinity: Option<CpuSet>,
}

enum State {
    Idle(Box<dyn Backend>),
    Running(JoinHandle<Box<dyn Backend>>),
    /// Between the two, after them, and where the host gave no thread.
    Absent,
}

impl Runner {
    /// A backend that waits for its driver, and has so many queues.
    pub(crate) fn new(
        name: &str,
        backend: Box<dyn Backend>,
        queues: usize,
        memory: &Arc<GuestMemory>,
    ) -> Result<Self, RunError> {
        let bells = (0..queues).map(|_| Bell::new().map(Arc::new));
        Ok(Self {
            name: name.to_owned(),
            memory: Arc::clone(memory),
            bells: bells.collect::<Result<_, _>>()?,
            stop: Arc::new(Bell::new()?),
            stopping: Arc::default(),
            state: Mutex::new(State::Idle(backend)),
            affinity: sched_getaffinity(None).ok(),
        })
    }

    /// The doorbells, by queue.
    pub(crate) fn bells(&self) -> &[Arc<Bell>] {
        &self.bells
    }

    /// Lets the backend serve the queues of `start`. A device whose queues cannot be served breaks down;
    /// one that has no backend any more does nothing. Starts and stops come in the order in which the
    /// chip asked for them.
    pub(crate) fn start(&self, start: &Start, interrupt: &Arc<dyn Interrupt>) {
        let mut state = self.state();
        let backend = match mem::replace(&mut *state, State::Absent) {
            State::Idle(backend) => backend,
            State::Absent => return,
            State::Running(_) => unreachable!("a driver starts a device that has stopped"),
        };
        let queues = start.queues.iter().map(|setup| {
            let setup = setup.as_ref();
            setup
                .map(|setup| Queue::start(setup, &*self.memory))
                .transpose()
        });
        let queues: Result<Vec<_>, _> = queues.collect();
        let work = Work {
            start: start.clone(),
            backend,
            queues: match queues {
                Ok(queues) => queues,
                Err(error) => {
                    interrupt.break_down(&error);
                    Vec::new()
                }
            },
            bells: self.bells.clone(),
            stop: Arc::clone(&self.stop),
            stopping: Arc::clone(&self.stopping),
            memory: Arc::clone(&self.memory),
            interrupt: Arc::clone(interrupt),
            affinity: self.affinity,
        };
        let spawned = thread::Builder::new()
            .name(self.name.clone())
            .stack_size(STACK)
            .spawn(move || work.run());
        // Where the host has no thread to give, the guest finds a device that does not answer.
        if let Ok(thread) = spawned {
            *state = State::Running(thread);
        }
    }

    /// Stops the backend, if it runs, and waits for it.
    pub(crate) fn stop(&self) {
        self.stop_in(&mut self.state());
    }

    /// Stops the backend for good, and lets go of all that it has of the host.
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        self.stop_in(&mut state);
        *state = State::Absent;
    }

    fn stop_in(&self, state: &mut State) {
        *state = match mem::replace(state, State::Absent) {
            State::Running(thread) => {
                self.stopping.store(true, Ordering::Relaxed);
                self.stop.ring();
                match thread.join() {
                    Ok(backend) => State::Idle(backend),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            other => other,
        };
        self.stop.answer();
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Rings the doorbell of `queue`.
    pub(crate) fn ring(&self, queue: u16) {
        if let Some(bell) = self.bells.get(usize::from(queue)) {
            bell.ring();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A backend's thread does little: requests go between files and guest memory.
const STACK: usize = 256 << 10;

/// What a backend's thread has.
struct Work {
    start: Start,
    backend: Box<dyn Backend>,
    queues: Vec<Option<Queue>>,
    bells: Vec<Arc<Bell>>,
    stop: Arc<Bell>,
    stopping: Arc<AtomicBool>,
    memory: Arc<GuestMemory>,
    interrupt: Arc<dyn Interrupt>,
    affinity: Option<CpuSet>,
}

/// What a wait found.
struct Woken {
    stop: bool,
    bells: Vec<usize>,
    backend: Vec<PollFlags>,
}

impl Work {
    fn run(mut self) -> Box<dyn Backend> {
        if let Some(affinity) = &self.affinity {
            // Without it the device is slower, not wrong.
            let _ = sched_setaffinity(None, affinity);
        }
        self.backend.started(self.start.features);
        self.hand_over();
        for (bell, _) in self.running() {
            bell.ring();
        }
        let mut chain = Chain::new();
        loop {
            let woken = self.wait();
            if woken.stop {
                self.backend.stopped();
                return self.backend;
            }
            if let Err(error) = self.serve(&woken, &mut chain) {
                self.interrupt.break_down(&error);
                // Nothing is served any more until the driver resets.
                self.queues.clear();
            }
        }
    }

    /// Lets somebody else have the queues, where he is to serve them and the driver has made them well.
    fn hand_over(&mut self) {
        if !self.backend.serves_elsewhere() || self.queues.is_empty() {
            return;
        }
        self.queues.clear();
        let queues = Handover {
            start: &self.start,
            memory: &self.memory,
            bells: &self.bells,
        };
        if let Err(error) = self.backend.hand_over(&queues) {
            self.interrupt.break_down(&error);
        }
    }

    /// The doorbells of queues that are served.
    fn running(&self) -> impl Iterator<Item = (&Arc<Bell>, usize)> {
        let queues = self.queues.iter().zip(0..);
        let served = queues.filter_map(|(queue, number)| queue.as_ref().map(|_| number));
        served.filter_map(|number| Some((self.bells.get(number)?, number)))
    }

    fn wait(&self) -> Woken {
        let served: Vec<_> = self.running().collect();
        let bells = served.iter().map(|(bell, _)| bell.as_fd());
        let mut fds: Vec<_> = [self.stop.as_fd()]
            .into_iter()
            .chain(bells)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        if !served.is_empty() || self.backend.serves_elsewhere() {
            fds.extend(self.backend.waits());
        }
        while let Err(error) = poll(&mut fds, None) {
            assert_eq!(
                error,
                Errno::INTR,
                "descriptors of our own can be waited for"
            );
        }
        let mut ready = fds.iter().map(PollFd::revents);
        let stop = ready.next().is_some_and(|ready| !ready.is_empty());
        let rang = served.iter().zip(ready.by_ref());
        Woken {
            stop,
            bells: rang
                .filter(|(_, ready)| !ready.is_empty())
                .map(|((_, number), _)| *number)
                .collect(),
            backend: ready.collect(),
        }
    }

    fn serve(&mut self, woken: &Woken, chain: &mut Chain) -> Result<(), QueueError> {
        let mut io = Io {
            memory: &self.memory,
            queues: &mut self.queues,
            bells: &self.bells,
            interrupt: &*self.interrupt,
            stopping: Stopping::Flag(&self.stopping),
            chain,
        };
        for &queue in &woken.bells {
            if let Some(bell) = self.bells.get(queue) {
                bell.answer();
            }
            self.backend.rung(queue, &mut io)?;
        }
        if woken.backend.iter().any(|ready| !ready.is_empty()) {
            self.backend.ready(&woken.backend, &mut io)?;
        }
        Ok(())
    }
}
