//! What requests and answers carry, as both ends know it.

use clap::ValueEnum;
use firstlight_vmm::SwapStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a client asks for of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SwapAction {
    Out,
    In,
}

/// The body of `PUT /firstlight/swap`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwapRequest {
    pub(super) action: SwapAction,
}

/// The answer to all of `/firstlight/swap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SwapReport {
    /// Whether memory is out.
    pub(super) out: bool,
    /// How much of the guest's memory the host has in memory.
    pub(super) resident_bytes: u64,
    /// How much is in the file.
    pub(super) swapped_bytes: u64,
    /// How much can not be swapped.
    pub(super) left_out_bytes: u64,
    /// How much held zeros only, and took no room in the file.
    pub(super) zero_bytes: u64,
    /// How often somebody waited for a page since memory went out.
    pub(super) faults: u64,
    /// How many pages the file could not give back.
    pub(super) lost_pages: u64,
    /// What went out last.
    pub(super) went_out: Moved,
    /// What came in last, beside what was waited for.
    pub(super) came_in: Moved,
}

/// Memory that was moved, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

impl From<(u64, Duration)> for Moved {
    fn from((bytes, took): (u64, Duration)) -> Self {
        Self {
            bytes,
            seconds: took.as_secs_f64(),
        }
    }
}

impl From<&SwapStatus> for SwapReport {
    fn from(status: &SwapStatus) -> Self {
        Self {
            out: status.out,
            resident_bytes: status.resident,
            swapped_bytes: status.swapped,
            left_out_bytes: status.left_out,
            zero_bytes: status.zeros,
            faults: status.faults,
            lost_pages: status.lost,
            went_out: status.went_out.into(),
            came_in: status.came_in.into(),
        }
    }
}

/// The body of `PATCH /firstlight/battery`, and the answer to all of it: what `--battery` takes, by its keys.
pub(super) type BatteryFields = BTreeMap<String, Value>;

/// The answer to `GET /firstlight/suspension`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SuspensionReport {
    pub(super) state: SuspensionState,
}

/// Whether a guest sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SuspensionState {
    /// It runs
    Awake,
    /// It sleeps
    Suspended,
}

/// The answer to `GET /`, as Firecracker gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceInfo {
    pub(super) app_name: String,
    pub(super) id: String,
    pub(super) state: String,
    pub(super) vmm_version: String,
}

/// What is wrong with a request, as Firecracker says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) fault_message: String,
}
