//! The virtio devices, in the slots in which KVM's machines have them.

use super::Handed;
use crate::devices::mac;
use crate::virtio::{STATUS_PORT, address_of};
use crate::{Devices, Disk, ForeignDevice, ForeignKind, Net, Transport};
use serde_json::json;

/// What QEMU has for a shared folder, which is served by us.
const SHARE: &str = "vhost-user-fs";

/// The same for a disk, whose name on a bus of virtio's own ends here.
const FOREIGN_DISK: &str = "vhost-user-blk";

/// The options that make `devices`, with sockets of those that are handed over.
pub(super) fn options(devices: &Devices, handed: &Handed) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    let mut slot = 0;
    let mut device = |kind: &str, more: &str| {
        // One that came with virtio 1 has nothing of before.
        let modern = if kind == SHARE {
            ""
        } else {
            ",disable-legacy=on"
        };
        let place = match devices.transport {
            // Slot 0 is the bridge's.
            Transport::Pci => format!("{kind}-pci{modern},bus=pcie.0,addr={:#x}", slot + 1),
            Transport::Mmio if kind == FOREIGN_DISK => {
                format!("{kind},bus=virtio-mmio-bus.{slot}")
            }
            Transport::Mmio => format!("{kind}-device,bus=virtio-mmio-bus.{slot}"),
        };
        slot += 1;
        ("-device", format!("{place}{more}"))
    };
    for (number, disk) in devices.disks.iter().enumerate() {
        options.push(("-blockdev", block(disk, number)));
        // Firmware tries them in their order.
        let order = match handed.flash {
            Some(_) => format!(",bootindex={number}"),
            None => String::new(),
        };
        let more = format!(",drive=disk{number},serial=firstlight-{number}{order}");
        options.push(device("virtio-blk", &more));
    }
    for (number, (share, socket)) in devices.shares.iter().zip(&handed.shares).enumerate() {
        options.push(("-chardev", format!("socket,id=share{number},fd={socket}")));
        let tag = share.tag.name().replace(',', ",,");
        let more = format!(",queue-size=512,chardev=share{number},tag={tag}");
        options.push(device(SHARE, &more));
    }
    for (number, foreign) in devices.foreign.iter().enumerate() {
        let ForeignDevice { kind, socket } = foreign;
        let path = socket.to_string_lossy().replace(',', ",,");
        options.push(("-chardev", format!("socket,id=foreign{number},path={path}")));
        match kind {
            ForeignKind::Block => {
                options.push(device(FOREIGN_DISK, &format!(",chardev=foreign{number}")));
            }
            ForeignKind::Fs(tag) => {
                let tag = tag.name().replace(',', ",,");
                options.push(device(
                    SHARE,
                    &format!(",chardev=foreign{number},tag={tag}"),
                ));
            }
            ForeignKind::Net(mac) => {
                let netdev = format!("vhost-user,id=foreignnet{number},chardev=foreign{number}");
                options.push(("-netdev", netdev));
                let mac = text_of(mac.unwrap_or_else(|| address_of(number)));
                let more = format!(",netdev=foreignnet{number},mac={mac}");
                options.push(device("virtio-net", &more));
            }
        }
    }
    for (number, net) in devices.nets.iter().enumerate() {
        options.push(("-netdev", network(net, number)));
        let mac = text_of(mac(u8::try_from(number).unwrap_or(u8::MAX)));
        options.push(device(
            "virtio-net",
            &format!(",netdev=net{number},mac={mac}"),
        ));
    }
    if devices.has_console() {
        options.push(device("virtio-serial", ",id=ports"));
    }
    let ports = [
        (handed.virtio_console, "hvc", "virtconsole,nr=0".to_owned()),
        (
            handed.status,
            "status",
            format!("virtserialport,nr=1,name={STATUS_PORT}"),
        ),
    ];
    for (socket, name, port) in ports {
        if let Some(socket) = socket {
            options.push(("-chardev", format!("socket,id={name},fd={socket}")));
            options.push(("-device", format!("{port},bus=ports.0,chardev={name}")));
        }
    }
    if devices.rng {
        options.push(device("virtio-rng", ""));
    }
    if devices.balloon {
        options.push(device("virtio-balloon", ",free-page-reporting=on"));
    }
    if devices.watchdog {
        let slot = match devices.transport {
            Transport::Pci => devices.names().len(),
            // Alone on the bus.
            Transport::Mmio => 1,
        };
        options.push(("-device", format!("i6300esb,bus=pcie.0,addr={slot:#x}")));
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

fn network(net: &Net, number: usize) -> String {
    match net {
        Net::User => format!("user,id=net{number}"),
        Net::Tap(name) => {
            let name = name.replace(',', ",,");
            format!("tap,id=net{number},ifname={name},script=no,downscript=no")
        }
    }
}

/// A card's address as QEMU reads it.
fn text_of([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn is_block_device(disk: &Disk) -> bool {
    use std::os::unix::fs::FileTypeExt;
    disk.path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_block_device())
}
