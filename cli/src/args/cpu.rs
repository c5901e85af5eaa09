//! On which of the host's processors vCPUs run, and what their guest is told of them.

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use clap::{ArgAction, Args};
use firstlight_base::VcpuId;
use firstlight_boot::platform::{Cpu, OperatingPoint, Topology};
use firstlight_vmm::{CpuSet, HostCpus, VcpuAffinity, VcpuPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// What the vCPUs are to their guest.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "vCPUs")]
pub(crate) struct CpuArgs {
    /// The host's processors to run on: 0-3 for all vCPUs, 0=2,3:1=4 for single ones
    ///
    /// Takes the kvm engine.
    #[arg(long, value_name = "CPUS", value_parser = affinity)]
    cpu_affinity: Option<VcpuAffinity>,
    /// vCPUs that share a cluster, e.g. 0-1; may be repeated
    ///
    /// This, their capacities and their frequencies are told to a guest with a device tree.
    #[arg(long = "cpu-cluster", value_name = "VCPUS", action = ArgAction::Append)]
    #[arg(value_parser = CpuSet::from_str)]
    cpu_clusters: Vec<CpuSet>,
    /// How much vCPUs do beside each other, the fastest doing 1024, e.g. 0=512,1=1024
    #[arg(long, value_name = "VCPU=N,...", value_parser = capacities)]
    cpu_capacity: Option<BTreeMap<u32, u32>>,
    /// The frequencies in kHz that vCPUs can run at, e.g. 0=1000000,2000000:1=1500000
    #[arg(long, value_name = "VCPU=KHZ,...", value_parser = frequencies)]
    cpu_frequencies: Option<BTreeMap<u32, Vec<u32>>>,
    /// Tell the guest the clusters, capacities and frequencies of the host's processors that the
    /// vCPUs run on
    ///
    /// A vCPU that --cpu-affinity does not name runs on the processor with its own number. What
    /// --cpu-cluster, --cpu-capacity and --cpu-frequencies say goes before what the host says.
    #[arg(long)]
    host_cpu_topology: bool,
}

/// How the host's scheduler is to treat them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "vCPUs")]
pub(crate) struct SchedulingArgs {
    /// vCPUs that run before everything on the host that is not real-time, e.g. 0-1
    ///
    /// They have the policy SCHED_RR and level 6, which takes CAP_SYS_NICE or an RLIMIT_RTPRIO.
    /// Takes the kvm engine.
    #[arg(long, value_name = "VCPUS", value_parser = CpuSet::from_str)]
    rt_cpus: Option<CpuSet>,
    /// Let no other program run on a core beside a vCPU (core scheduling of Linux 5.14)
    ///
    /// Takes the kvm engine.
    #[arg(long)]
    core_scheduling: bool,
}

impl SchedulingArgs {
    /// How the vCPUs of a guest with that many are run.
    pub(crate) fn policy(&self, guest: &CpuArgs, cpus: u32) -> VcpuPolicy {
        let realtime = self.rt_cpus.iter().flatten();
        VcpuPolicy {
            affinity: guest.affinity(cpus),
            realtime: realtime.map(VcpuId).collect(),
            core_scheduling: self.core_scheduling,
        }
    }
}

impl CpuArgs {
    /// Where the vCPUs of a guest with that many run. Where they are told what the host's
    /// processors are, each is on its own.
    fn affinity(&self, cpus: u32) -> VcpuAffinity {
        let given = self.cpu_affinity.clone().unwrap_or_default();
        if !self.host_cpu_topology {
            return given;
        }
        match given {
            VcpuAffinity::Global(_) => given,
            VcpuAffinity::Anywhere | VcpuAffinity::PerVcpu(_) => {
                let own = (0..cpus).map(|number| (VcpuId(number), CpuSet::from_iter([number])));
                let mut each = BTreeMap::from_iter(own);
                if let VcpuAffinity::PerVcpu(given) = given {
                    each.extend(given);
                }
                VcpuAffinity::PerVcpu(each)
            }
        }
    }

    /// What a guest with that many vCPUs is told of them.
    pub(crate) fn topology(&self, cpus: u32, host: &HostCpus) -> Result<Topology, Failure> {
        self.check(cpus)?;
        let mut told = if self.host_cpu_topology {
            self.of_host(cpus, host)?
        } else {
            Told::default()
        };
        if !self.cpu_clusters.is_empty() {
            told.clusters = self.cpu_clusters.clone();
        }
        told.capacity.extend(self.cpu_capacity.iter().flatten());
        let frequencies = self.cpu_frequencies.clone();
        told.frequencies.extend(frequencies.unwrap_or_default());
        Ok(told.into_topology())
    }

    /// Every vCPU that is spoken of is there, and none is in two clusters.
    fn check(&self, cpus: u32) -> Result<(), Failure> {
        let clustered = self.cpu_clusters.iter().flatten();
        let capacity = self.cpu_capacity.iter().flat_map(BTreeMap::keys).copied();
        let frequencies = self.cpu_frequencies.iter().flatten();
        let mut all = clustered
            .clone()
            .map(|number| (number, "--cpu-cluster"))
            .chain(capacity.map(|number| (number, "--cpu-capacity")))
            .chain(frequencies.map(|(&number, _)| (number, "--cpu-frequencies")));
        if let Some((number, option)) = all.find(|&(number, _)| number >= cpus) {
            return Err(wrong(format!(
                "{option} speaks of vCPU {number}, but there are {cpus}, counted from 0"
            )));
        }
        let mut seen = BTreeSet::new();
        match clustered.into_iter().find(|&number| !seen.insert(number)) {
            Some(number) => Err(wrong(format!(
                "--cpu-cluster puts vCPU {number} into two clusters"
            ))),
            None => Ok(()),
        }
    }

    /// What the host says of the processors that each vCPU runs on.
    fn of_host(&self, cpus: u32, host: &HostCpus) -> Result<Told, Failure> {
        let facts = Facts::ask(host)?;
        let policy = VcpuPolicy {
            affinity: self.affinity(cpus),
            ..VcpuPolicy::default()
        };
        check_policy(&policy, cpus, host)?;
        let mut told = Told::default();
        let mut clusters: BTreeMap<usize, CpuSet> = BTreeMap::new();
        for number in 0..cpus {
            let vcpu = VcpuId(number);
            let on = Runs {
                vcpu,
                on: policy.affinity.of(vcpu).expect("each has its place"),
            };
            let capacity = on.common("capacities", |cpu| facts.capacity.get(&cpu))?;
            told.capacity
                .extend(capacity.map(|&capacity| (number, capacity)));
            let frequencies = on.common("frequencies", |cpu| facts.frequencies.get(&cpu))?;
            told.frequencies
                .extend(frequencies.map(|frequencies| (number, frequencies.clone())));
            if let Some(cluster) = on.common("clusters", |cpu| facts.cluster_of(cpu))? {
                let members = clusters.entry(cluster).or_default();
                *members = members.iter().chain([number]).collect();
            }
        }
        told.clusters = clusters.into_values().collect();
        Ok(told)
    }
}

/// Refuses what is known beforehand to be impossible.
pub(crate) fn check_policy(policy: &VcpuPolicy, cpus: u32, host: &HostCpus) -> Result<(), Failure> {
    if policy.is_default() {
        return Ok(());
    }
    let online = host.online();
    let online = online.map_err(|error| Failure::of(ExitStatus::Host, &error))?;
    policy
        .check(cpus, online.as_ref())
        .map_err(|error| Failure::of(ExitStatus::Usage, &error))
}

fn wrong(what: String) -> Failure {
    Failure::new(ExitStatus::Usage, what)
}

/// What the host says of its processors.
struct Facts {
    clusters: Vec<CpuSet>,
    capacity: BTreeMap<u32, u32>,
    frequencies: BTreeMap<u32, Vec<u32>>,
}

impl Facts {
    fn ask(host: &HostCpus) -> Result<Self, Failure> {
        let ask = || {
            Ok(Self {
                clusters: host.get_host_cpu_clusters()?,
                capacity: host.get_host_cpu_capacity()?,
                frequencies: host.get_host_cpu_frequencies_khz()?,
            })
        };
        ask().map_err(|error: firstlight_vmm::HostCpuError| {
            let what = "cannot find out what the host's processors are";
            Failure::because(ExitStatus::Host, what, &error)
        })
    }

    fn cluster_of(&self, cpu: u32) -> Option<usize> {
        let mut clusters = self.clusters.iter();
        clusters.position(|cluster| cluster.contains(cpu))
    }
}

/// A vCPU and where it runs.
struct Runs<'a> {
    vcpu: VcpuId,
    on: &'a CpuSet,
}

impl Runs<'_> {
    /// What `ask` says of all the processors that it runs on.
    fn common<T: PartialEq>(
        &self,
        what: &str,
        ask: impl Fn(u32) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let mut all = self.on.iter().map(ask);
        let first = all.next().flatten();
        if all.all(|other| other == first) {
            return Ok(first);
        }
        let Self { vcpu, on } = self;
        Err(wrong(format!(
            "--host-cpu-topology cannot tell what vCPU {vcpu} is: it runs on the host's processors \
             {on}, which have different {what}"
        )))
    }
}

/// What the guest is told, by vCPU.
#[derive(Default)]
struct Told {
    clusters: Vec<CpuSet>,
    capacity: BTreeMap<u32, u32>,
    frequencies: BTreeMap<u32, Vec<u32>>,
}

impl Told {
    fn into_topology(mut self) -> Topology {
        let described: BTreeSet<u32> = self
            .capacity
            .keys()
            .chain(self.frequencies.keys())
            .copied()
            .collect();
        let cpus = described.into_iter().map(|number| Cpu {
            number,
            capacity: self.capacity.remove(&number),
            operating_points: self
                .frequencies
                .remove(&number)
                .unwrap_or_default()
                .into_iter()
                .map(|khz| OperatingPoint {
                    hz: u64::from(khz) * 1000,
                    microvolts: None,
                })
                .collect(),
        });
        let cpus = cpus.collect();
        let clusters = self.clusters.iter();
        Topology {
            clusters: clusters.map(|cluster| cluster.iter().collect()).collect(),
            cpus,
        }
    }
}

/// `0-3` for all, or `0=2,3:1=4` for single ones, as crosvm has it.
fn affinity(text: &str) -> Result<VcpuAffinity, String> {
    let set = |text: &str| CpuSet::from_str(text).map_err(|error| error.to_string());
    if !text.contains('=') {
        return set(text).map(VcpuAffinity::Global);
    }
    let each = each(text, ':', set)?;
    let each = each
        .into_iter()
        .map(|(number, cpus)| (VcpuId(number), cpus));
    Ok(VcpuAffinity::PerVcpu(each.collect()))
}

fn capacities(text: &str) -> Result<BTreeMap<u32, u32>, String> {
    each(text, ',', |text| positive(text, "capacity"))
}

/// The frequencies of each, ascending.
fn frequencies(text: &str) -> Result<BTreeMap<u32, Vec<u32>>, String> {
    each(text, ':', |text| {
        let words = text
            .split(',')
            .map(|text| positive(text, "frequency in kHz"));
        let mut frequencies = words.collect::<Result<Vec<_>, _>>()?;
        frequencies.sort_unstable();
        frequencies.dedup();
        Ok(frequencies)
    })
}

/// What is said of single vCPUs: `NUMBER=WHAT`, with `between` between them.
fn each<T>(
    text: &str,
    between: char,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<BTreeMap<u32, T>, String> {
    let mut all = BTreeMap::new();
    for one in text.split(between) {
        let (number, what) = one
            .split_once('=')
            .ok_or_else(|| format!("{one:?} names no vCPU; behind its number comes an ="))?;
        let number = number
            .parse()
            .map_err(|error| format!("{number:?} is no number of a vCPU: {error}"))?;
        if all.insert(number, parse(what)?).is_some() {
            return Err(format!("vCPU {number} is spoken of twice"));
        }
    }
    Ok(all)
}

fn positive(text: &str, what: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err(format!("0 is no {what}")),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{text:?} is no {what}: {error}")),
    }
}

#[cfg(test)]
mod tests;
