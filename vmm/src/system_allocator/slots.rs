//! Functions on PCI, and what they are.

use super::{AllocateError, Holder, Pool, Resource, Room};
use firstlight_devices::pci::Address;
use std::collections::BTreeMap;

/// Which functions are taken, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    last_bus: u8,
    taken: BTreeMap<Address, Holder>,
}

impl Slots {
    pub(super) const fn new(last_bus: u8) -> Self {
        Self {
            last_bus,
            taken: BTreeMap::new(),
        }
    }

    pub(super) fn allocate(&mut self, bus: u8, holder: Holder) -> Result<Address, AllocateError> {
        let first = u8::from(bus == 0);
        let mut devices = (first..).map_while(|device| Address::new(bus, device, 0));
        match devices.find(|&address| self.is_unused(address)) {
            Some(address) => self.reserve(address, holder).map(|()| address),
            None => Err(AllocateError::Exhausted {
                pool: Pool::Pci { bus },
                room: Room { len: 1, align: 1 },
                holder,
                free: Vec::new(),
            }),
        }
    }

    pub(super) fn reserve(
        &mut self,
        address: Address,
        holder: Holder,
    ) -> Result<(), AllocateError> {
        if address.bus() > self.last_bus {
            return Err(AllocateError::NoBus {
                at: address,
                holder,
                last_bus: self.last_bus,
            });
        }
        if let Some(by) = self.taken.get(&address) {
            return Err(AllocateError::Taken {
                wanted: Resource::Pci(address),
                holder,
                taken: Resource::Pci(address),
                by: by.clone(),
            });
        }
        self.taken.insert(address, holder);
        Ok(())
    }

    pub(super) fn free(&mut self, address: Address) -> Result<Holder, AllocateError> {
        self.taken.remove(&address).ok_or(AllocateError::NotGiven {
            what: Resource::Pci(address),
            given: None,
        })
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = (Address, &str)> {
        self.taken
            .iter()
            .map(|(&address, holder)| (address, &**holder))
    }

    /// Whether no function of this device, of which `address` is the first, is taken.
    fn is_unused(&self, address: Address) -> bool {
        let next = self.taken.range(address..).next();
        next.is_none_or(|(next, _)| {
            (next.bus(), next.device()) != (address.bus(), address.device())
        })
    }
}
