//! What device and driver say about ports (virtio 1.2, section 5.3.6.2).

use super::ScreenSize;
use alloc::string::String;
use alloc::vec::Vec;

/// What a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A terminal.
    Console,
    /// A stream of bytes, which programs in the guest find by this name.
    Named(String),
}

/// The ports of a console device.
#[derive(Clone, Debug)]
pub struct Ports {
    ports: Vec<Port>,
    size: Option<ScreenSize>,
    driver_is_ready: bool,
}

#[derive(Clone, Debug)]
struct Port {
    kind: PortKind,
    /// What the driver is to be told.
    owed: Owed,
    /// Whether it can be used, as the driver says.
    ready: bool,
    /// Whether somebody in the guest uses it.
    open: bool,
}

bitflags::bitflags! {
    /// Messages for the driver, in the order in which they go out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Owed: u8 {
        const ADD = 1 << 0;
        const CONSOLE = 1 << 1;
        const NAME = 1 << 2;
        const SIZE = 1 << 3;
        const OPEN = 1 << 4;
    }
}

/// `event` of `struct virtio_console_control`.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

impl Ports {
    /// How many bytes a message from the driver has.
    pub const MESSAGE: usize = 8;

    /// Ports that the driver has not heard of.
    #[must_use]
    pub fn new(kinds: impl IntoIterator<Item = PortKind>, size: Option<ScreenSize>) -> Self {
        let ports = kinds.into_iter().map(|kind| Port {
            kind,
            owed: Owed::empty(),
            ready: false,
            open: false,
        });
        Self {
            ports: ports.collect(),
            size,
            driver_is_ready: false,
        }
    }

    /// The driver has been reset: it has not heard of any port.
    pub fn reset(&mut self) {
        for port in &mut self.ports {
            port.owed = Owed::empty();
            port.ready = false;
            port.open = false;
        }
        self.driver_is_ready = false;
    }

    /// Takes a message from the driver. One that makes no sense is dropped.
    pub fn receive(&mut self, message: &[u8; Self::MESSAGE]) {
        let [a, b, c, d, event, event_high, value, value_high] = *message;
        let id = u32::from_le_bytes([a, b, c, d]);
        let event = u16::from_le_bytes([event, event_high]);
        let said_yes = u16::from_le_bytes([value, value_high]) == 1;
        if event == DEVICE_READY {
            return self.driver_says_ready(said_yes);
        }
        let size = self.size;
        let Some(port) = usize::try_from(id)
            .ok()
            .and_then(|id| self.ports.get_mut(id))
        else {
            return;
        };
        match event {
            // Also where the device is not said to be ready before: a Linux that has slept knows its ports, and
            // goes on with them after a reset (`virtcons_restore`).
            PORT_READY if said_yes && !port.ready => port.introduce(size),
            PORT_READY => {}
            PORT_OPEN if port.ready => port.open = said_yes,
            _ => {}
        }
    }

    /// Ports are added once: "The device MUST NOT specify a port which exists" (section 5.3.6.2.1).
    fn driver_says_ready(&mut self, ready: bool) {
        if ready && !self.driver_is_ready {
            self.driver_is_ready = true;
            for port in &mut self.ports {
                port.owed |= Owed::ADD;
            }
        }
    }

    /// The next message for the driver.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        let (id, port) = (0..)
            .zip(&mut self.ports)
            .find(|(_, port)| !port.owed.is_empty())?;
        let owed = port.owed.iter().next()?;
        port.owed -= owed;
        Some(port.message(id, owed, self.size))
    }

    /// Whether there is a message for the driver.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.ports.iter().any(|port| !port.owed.is_empty())
    }

    /// Whether somebody in the guest takes a port's bytes.
    #[must_use]
    pub fn is_open(&self, port: usize) -> bool {
        self.ports.get(port).is_some_and(|port| port.open)
    }

    /// The console's screen has another size.
    pub fn resize(&mut self, size: ScreenSize) {
        self.size = Some(size);
        for port in &mut self.ports {
            if port.ready && port.kind == PortKind::Console {
                port.owed |= Owed::SIZE;
            }
        }
    }
}

impl Port {
    /// The driver has set the port up: it is told what it is.
    fn introduce(&mut self, size: Option<ScreenSize>) {
        self.ready = true;
        self.owed |= Owed::OPEN;
        self.owed |= match &self.kind {
            PortKind::Console if size.is_some() => Owed::CONSOLE | Owed::SIZE,
            PortKind::Console => Owed::CONSOLE,
            PortKind::Named(_) => Owed::NAME,
        };
    }

    fn message(&self, id: u32, what: Owed, size: Option<ScreenSize>) -> Vec<u8> {
        let (event, value) = match what {
            Owed::ADD => (PORT_ADD, 0),
            Owed::CONSOLE => (CONSOLE_PORT, 1),
            Owed::NAME => (PORT_NAME, 1),
            Owed::SIZE => (RESIZE, 1),
            _ => (PORT_OPEN, 1u16),
        };
        let mut message = Vec::from(id.to_le_bytes());
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        match (&self.kind, size) {
            (PortKind::Named(name), _) if what == Owed::NAME => message.extend(name.bytes()),
            // As documented; Linux read the rows first until 2025.
            (PortKind::Console, Some(size)) if what == Owed::SIZE => {
                message.extend(size.columns.to_le_bytes());
                message.extend(size.rows.to_le_bytes());
            }
            _ => {}
        }
        message
    }
}
