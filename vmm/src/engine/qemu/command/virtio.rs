//! The virtio devices, in the slots in which KVM's machines have them.

use crate::{Devices, Disk, Transport};
use serde_json::json;

/// The options that make `devices`.
pub(super) fn options(devices: &Devices) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    let mut slot = 0;
    let mut device = |kind: &str, more: &str| {
        let place = match devices.transport {
            // Slot 0 is the bridge's.
            Transport::Pci => format!(
                "virtio-{kind}-pci,disable-legacy=on,bus=pcie.0,addr={:#x}",
                slot + 1
            ),
            Transport::Mmio => format!("virtio-{kind}-device,bus=virtio-mmio-bus.{slot}"),
        };
        slot += 1;
        ("-device", format!("{place}{more}"))
    };
    for (number, disk) in devices.disks.iter().enumerate() {
        options.push(("-blockdev", block(disk, number)));
        let more = format!(",drive=disk{number},serial=firstlight-{number}");
        options.push(device("blk", &more));
    }
    if devices.rng {
        options.push(device("rng", ""));
    }
    if !options.is_empty() {
        // Its transports in memory are those of before virtio 1 otherwise.
        options.push(("-global", "virtio-mmio.force-legacy=false".to_owned()));
    }
    options
}

/// A disk's file, in JSON: a name in it may have any letter.
fn block(disk: &Disk, number: usize) -> String {
    let file = if is_block_device(disk) {
        "host_device"
    } else {
        "file"
    };
    json!({
        "driver": "raw",
        "node-name": format!("disk{number}"),
        "read-only": disk.readonly,
        "discard": "unmap",
        "file": {
            "driver": file,
            "filename": disk.path.to_string_lossy(),
        },
    })
    .to_string()
}

fn is_block_device(disk: &Disk) -> bool {
    use std::os::unix::fs::FileTypeExt;
    disk.path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_block_device())
}
