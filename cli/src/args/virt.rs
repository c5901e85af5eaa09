//! What arm64 and riscv64 machines can be asked for.

use clap::{ArgAction, Args, ValueEnum};
use firstlight_boot::platform::Gic;
use firstlight_boot::{FdtPosition, Hardware};
use std::path::PathBuf;

/// Their device tree, and what it tells of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Machines with a device tree (arm64, riscv64)")]
pub(crate) struct VirtArgs {
    /// A device tree blob
    ///
    /// It takes the place of the machine's own; only memory, command line, initial ramdisk and seeds
    /// are put into it. An x86 kernel gets it as it is, beside its ACPI tables.
    #[arg(long, value_name = "FILE")]
    pub(crate) dtb: Option<PathBuf>,
    /// A device tree overlay to put over the machine's tree; may be given several times
    #[arg(long = "dtb-overlay", value_name = "FILE", action = ArgAction::Append)]
    pub(crate) overlays: Vec<PathBuf>,
    /// Write the device tree that the guest gets to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) dump_dtb: Option<PathBuf>,
    /// Where in memory the device tree lies
    #[arg(long, value_enum, default_value = "after-payload")]
    dtb_position: PositionArg,
    /// The version of an arm64 machine's interrupt controller [default: the newest there is]
    #[arg(long, value_enum)]
    gic: Option<GicArg>,
    /// Give arm64 vCPUs no performance monitoring unit
    #[arg(long)]
    no_pmu: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PositionArg {
    /// At the beginning of memory
    Start,
    /// At the end of memory
    End,
    /// Behind the kernel and its initial ramdisk
    AfterPayload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GicArg {
    #[value(name = "2")]
    V2,
    #[value(name = "3")]
    V3,
}

impl VirtArgs {
    /// What is asked for of a machine that would otherwise have what `offered` says.
    pub(crate) fn hardware(&self, offered: Hardware) -> Hardware {
        let gic = match (self.gic, offered.gic) {
            (None, offered) => offered,
            (Some(GicArg::V2), _) => Gic::V2,
            (Some(GicArg::V3), Gic::V3 { its }) => Gic::V3 { its },
            (Some(GicArg::V3), Gic::V2) => Gic::V3 { its: true },
        };
        Hardware {
            gic,
            pmu: offered.pmu && !self.no_pmu,
            ..offered
        }
    }

    /// Where the tree lies.
    pub(crate) fn position(&self) -> FdtPosition {
        match self.dtb_position {
            PositionArg::Start => FdtPosition::Start,
            PositionArg::End => FdtPosition::End,
            PositionArg::AfterPayload => FdtPosition::AfterPayload,
        }
    }
}
