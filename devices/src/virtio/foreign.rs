//! A device that another process serves: what its transport has to know of it, and nothing of what it
//! does.

use super::{Device, DeviceKind, Features, read_bytes};
use alloc::vec::Vec;

/// What a driver sees of a device that is served elsewhere, as that process has told.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// The features that are its own.
    pub features: u64,
    /// What its queues can be.
    pub queue_features: Features,
    /// The largest size of each queue, in order.
    pub queue_sizes: Vec<u16>,
    /// Its configuration, which no driver changes.
    pub config: Vec<u8>,
}

impl Device for Foreign {
    fn kind(&self) -> DeviceKind {
        self.kind
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_features(&self) -> Features {
        self.queue_features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config, offset, data);
    }
}
