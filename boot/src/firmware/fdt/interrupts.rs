//! How nodes say which interrupt lines are theirs.

use super::handle;
use super::node::Node;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::Irq;

/// The controller that lines end at.
#[derive(Clone, Copy)]
pub(super) enum Controller {
    /// A generic interrupt controller (`interrupt-controller/arm,gic.yaml`, `arm,gic-v3.yaml`).
    Gic,
    /// A platform-level interrupt controller (`interrupt-controller/sifive,plic-1.0.0.yaml`).
    Plic,
    /// The lines of an advanced interrupt architecture (`interrupt-controller/riscv,aplic.yaml`).
    Aplic,
}

/// When a line means an interrupt.
#[derive(Clone, Copy)]
pub(super) enum Trigger {
    /// When it rises (`IRQ_TYPE_EDGE_RISING`).
    Edge = 1,
    /// While it is high (`IRQ_TYPE_LEVEL_HIGH`).
    Level = 4,
}

impl Controller {
    /// How many cells an address below it has.
    pub(super) const fn address_cells(self) -> u32 {
        match self {
            Self::Gic => 2,
            Self::Plic | Self::Aplic => 0,
        }
    }

    /// What `interrupts` says of a line.
    pub(super) fn line(self, irq: Irq, trigger: Trigger) -> Vec<u32> {
        /// A shared peripheral interrupt.
        const SPI: u32 = 0;
        match self {
            Self::Gic => vec![SPI, irq.0, trigger as u32],
            Self::Plic => vec![irq.0],
            Self::Aplic => vec![irq.0, trigger as u32],
        }
    }

    /// How an `interrupt-map` refers to a line, which is active while it is high.
    pub(super) fn mapped(self, irq: Irq) -> Vec<u32> {
        let address = (0..self.address_cells()).map(|_| 0);
        [handle::CONTROLLER]
            .into_iter()
            .chain(address)
            .chain(self.line(irq, Trigger::Level))
            .collect()
    }
}

impl Node {
    /// A riscv64 tree names the controller in each node and not in the root: Linux would take it for
    /// the parent of the harts' own controllers, its own parents, and find neither (`of_irq_init`).
    pub(super) fn interrupt(self, controller: Controller, irq: Irq, trigger: Trigger) -> Self {
        let node = match controller {
            Controller::Gic => self,
            Controller::Plic | Controller::Aplic => {
                self.set("interrupt-parent", handle::CONTROLLER)
            }
        };
        node.set("interrupts", controller.line(irq, trigger))
    }

    /// A controller whose lines are said in that many cells.
    pub(super) fn controls(self, interrupt_cells: u32) -> Self {
        self.flag("interrupt-controller")
            .set("#interrupt-cells", interrupt_cells)
    }
}
