use super::VirtioDevice;
use crate::{DeviceError, Disk};
pub(crate) fn disk(disk: &Disk, number: usize) -> Result<VirtioDevice, DeviceError> {
    let _ = (disk, number);
    todo!()
}
