//! What can be asked of a running guest.

use crate::control::SuspensionState;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Control a guest that runs, by the socket of its --api-sock
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CtlArgs {
    /// The guest's socket
    #[arg(long, value_name = "PATH")]
    pub(crate) api_sock: PathBuf,
    /// How to show the answer
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub(crate) format: CtlFormat,
    #[command(subcommand)]
    pub(crate) verb: CtlVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CtlFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum CtlVerb {
    /// Move the guest's memory to the folder of its --swap, and back
    #[command(subcommand)]
    Swap(SwapVerb),
    /// Show its battery, or set what of it is said, as --battery takes it
    Battery {
        /// What is to be set
        #[arg(value_name = "KEY=VALUE,...")]
        words: Option<String>,
    },
    /// Tell whether its system sleeps, where it was started with --suspend-notice
    Suspension {
        /// Wait until it is so
        #[arg(long, value_enum, value_name = "STATE")]
        wait: Option<SuspensionState>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum SwapVerb {
    /// Page out all that is in memory; what the guest touches comes back by itself
    Out,
    /// Bring everything back
    In,
    /// Tell how much is where
    Status,
}
