//! What a guest's scheduler is told of its vCPUs.

use alloc::vec::Vec;

/// How the vCPUs belong together, and how fast each is. The [default](Self::default) says nothing:
/// all are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Which vCPUs share a cluster, by number; those in none are in one of their own, the last.
    pub clusters: Vec<Vec<u32>>,
    /// What is known of single vCPUs.
    pub cpus: Vec<Cpu>,
}

/// What is told of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// Its capacity relative to others, the fastest having 1024 (`capacity-dmips-mhz` of
    /// `Documentation/devicetree/bindings/cpu/cpu-capacity.txt`).
    pub capacity: Option<u32>,
    /// The frequencies it can run at, ascending.
    pub operating_points: Vec<OperatingPoint>,
}

/// A frequency and what it takes (`opp-v2.yaml` of Linux's device tree bindings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatingPoint {
    /// In Hz.
    pub hz: u64,
    /// In microvolts, where it is known.
    pub microvolts: Option<u32>,
}
