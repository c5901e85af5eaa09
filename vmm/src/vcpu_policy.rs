//! On which of the host's processors, and how, vCPUs are run.

mod thread;

use crate::cpu_set::CpuSet;
use firstlight_base::VcpuId;
use rustix::io::Errno;
use rustix::thread::{
    CoreSchedulingScope, CpuSet as Mask, Pid, create_core_scheduling_cookie, gettid,
    pull_core_scheduling_cookie, sched_setaffinity,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};

/// How the host's scheduler is to treat the threads of the vCPUs. The [default](Self::default) is
/// like any other thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuPolicy {
    /// Where they run.
    pub affinity: VcpuAffinity,
    /// Which run before everything that is not real-time (`SCHED_RR` of sched(7)).
    pub realtime: BTreeSet<VcpuId>,
    /// Whether only vCPUs of this guest share a core with them
    /// (`Documentation/admin-guide/hw-vuln/core-scheduling.rst`).
    pub core_scheduling: bool,
}

/// On which of the host's processors vCPUs run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VcpuAffinity {
    /// Wherever the host's scheduler puts them.
    #[default]
    Anywhere,
    /// All on these.
    Global(CpuSet),
    /// Each on its own; one that is not named runs anywhere.
    PerVcpu(BTreeMap<VcpuId, CpuSet>),
}

impl VcpuAffinity {
    /// Where `vcpu` runs; `None` is anywhere.
    #[must_use]
    pub fn of(&self, vcpu: VcpuId) -> Option<&CpuSet> {
        match self {
            Self::Anywhere => None,
            Self::Global(cpus) => Some(cpus),
            Self::PerVcpu(cpus) => cpus.get(&vcpu),
        }
    }

    fn sets(&self) -> Vec<&CpuSet> {
        match self {
            Self::Anywhere => Vec::new(),
            Self::Global(cpus) => vec![cpus],
            Self::PerVcpu(cpus) => cpus.values().collect(),
        }
    }

    fn named(&self) -> impl Iterator<Item = VcpuId> {
        let named = match self {
            Self::Anywhere | Self::Global(_) => None,
            Self::PerVcpu(cpus) => Some(cpus.keys().copied()),
        };
        named.into_iter().flatten()
    }
}

/// The level of real-time vCPUs, of 1 to 99: that of crosvm, below what a host that is set up for
/// real time gives its own threads.
const REALTIME_LEVEL: i32 = 6;

impl VcpuPolicy {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Finds what cannot be of a guest with that many vCPUs on a host with these processors
    /// online, as far as that is known before it runs.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] for the first that is found.
    pub fn check(&self, vcpus: u32, online: Option<&CpuSet>) -> Result<(), PolicyError> {
        let pinned = self.affinity.named().map(|vcpu| (vcpu, "pinned"));
        let realtime = self.realtime.iter().map(|&vcpu| (vcpu, "real-time"));
        for (vcpu, what) in pinned.chain(realtime) {
            if vcpu.0 >= vcpus {
                return Err(PolicyError::NoSuchVcpu { vcpu, what, vcpus });
            }
        }
        for cpus in self.affinity.sets() {
            if cpus.is_empty() {
                return Err(PolicyError::Nowhere);
            }
            mask(cpus)?;
            if let Some(online) = online
                && let Some(cpu) = cpus.iter().find(|&cpu| !online.contains(cpu))
            {
                let online = online.clone();
                return Err(PolicyError::NotOnline { cpu, online });
            }
        }
        Ok(())
    }

    /// The policy for one run of a guest.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        Enforcement {
            policy: self.clone(),
            first: Mutex::default(),
        }
    }
}

/// A [`VcpuPolicy`] while one guest runs: each vCPU's thread applies it to itself.
#[derive(Debug)]
pub struct Enforcement {
    policy: VcpuPolicy,
    /// The thread that was first to have a cookie of core scheduling, which the others share.
    first: Mutex<Option<Pid>>,
}

impl Enforcement {
    /// Makes the calling thread run as `vcpu` is to.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] where the host refuses.
    pub fn apply(&self, vcpu: VcpuId) -> Result<(), PolicyError> {
        if let Some(cpus) = self.policy.affinity.of(vcpu) {
            pin(vcpu, cpus)?;
        }
        if self.policy.core_scheduling {
            self.share_cores()?;
        }
        if self.policy.realtime.contains(&vcpu) {
            thread::run_round_robin(REALTIME_LEVEL)
                .map_err(|source| PolicyError::Realtime { vcpu, source })?;
        }
        Ok(())
    }

    fn share_cores(&self) -> Result<(), PolicyError> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let me = gettid();
        let shared = match *first {
            Some(first) => pull_core_scheduling_cookie(first, CoreSchedulingScope::Thread),
            None => create_core_scheduling_cookie(me, CoreSchedulingScope::Thread),
        };
        match shared {
            Ok(()) => {
                first.get_or_insert(me);
                Ok(())
            }
            // This host's cores run one thread each, so there is nobody to share one with
            // (`sched_core_share_pid` of Linux).
            Err(Errno::NODEV) => Ok(()),
            Err(error) => Err(PolicyError::CoreScheduling(error.into())),
        }
    }
}

fn pin(vcpu: VcpuId, cpus: &CpuSet) -> Result<(), PolicyError> {
    sched_setaffinity(None, &mask(cpus)?).map_err(|error| PolicyError::Pin {
        vcpu,
        cpus: cpus.clone(),
        source: error.into(),
    })
}

fn mask(cpus: &CpuSet) -> Result<Mask, PolicyError> {
    let mut mask = Mask::new();
    for cpu in cpus {
        let index = usize::try_from(cpu).unwrap_or(usize::MAX);
        if index >= Mask::MAX_CPU {
            return Err(PolicyError::TooHigh { cpu });
        }
        mask.set(index);
    }
    Ok(mask)
}

/// vCPUs cannot be run as was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A vCPU that there is not.
    #[error("vCPU {vcpu} is to be {what}, but there are {vcpus}, counted from 0")]
    NoSuchVcpu {
        /// Its number.
        vcpu: VcpuId,
        /// What it is to be.
        what: &'static str,
        /// How many there are.
        vcpus: u32,
    },
    /// A vCPU without a processor.
    #[error("a vCPU is to be pinned to no processor at all")]
    Nowhere,
    /// A processor of the host that nothing runs on.
    #[error("processor {cpu} of the host is not online; {online} are")]
    NotOnline {
        /// Its number.
        cpu: u32,
        /// Those that are.
        online: CpuSet,
    },
    /// A processor of the host beyond those that can be chosen among.
    #[error(
        "no vCPU can be pinned to processor {cpu}: it is beyond the first {}",
        Mask::MAX_CPU
    )]
    TooHigh {
        /// Its number.
        cpu: u32,
    },
    /// The host does not let the vCPU run there.
    #[error("cannot pin vCPU {vcpu} to the host's processors {cpus}")]
    Pin {
        /// Which vCPU.
        vcpu: VcpuId,
        /// Where it is to run.
        cpus: CpuSet,
        /// What the host said.
        source: io::Error,
    },
    /// The host does not make the vCPU real-time.
    #[error(
        "cannot make vCPU {vcpu} real-time, which takes CAP_SYS_NICE or an RLIMIT_RTPRIO (ulimit \
         -r) of at least {REALTIME_LEVEL}"
    )]
    Realtime {
        /// Which vCPU.
        vcpu: VcpuId,
        /// What the host said.
        source: io::Error,
    },
    /// The host cannot keep others off the vCPUs' cores.
    #[error("cannot keep other programs off the vCPUs' cores (CONFIG_SCHED_CORE)")]
    CoreScheduling(#[source] io::Error),
    /// The engine has no threads of vCPUs that a policy could be applied to.
    #[error("{engine} decides itself where and how its vCPUs run")]
    Engine {
        /// The engine's name.
        engine: &'static str,
    },
}

#[cfg(test)]
mod tests;
