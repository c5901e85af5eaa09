//! What the host says in sysfs of a function that a guest is to have.

use super::{HostPciAddress, VfioError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A function that can be handed to a guest, as far as sysfs tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(super) at: HostPciAddress,
    /// Its folder in sysfs.
    pub(super) folder: PathBuf,
    /// The number of its IOMMU group.
    pub(super) group: u32,
    /// Whether it can be reset by itself.
    pub(super) can_reset: bool,
}

/// The driver by which the host hands functions over.
const DRIVER: &str = "vfio-pci";
/// Those of bridges, which have nothing of their group's devices.
const HARMLESS: [&str; 3] = ["pcieport", "shpchp", "pci-stub"];

impl HostPciAddress {
    /// Looks for the function, and whether it can be had.
    ///
    /// # Errors
    ///
    /// [`VfioError`] where it cannot: what has to be done is said.
    pub(crate) fn find(self) -> Result<Found, VfioError> {
        self.find_in(Path::new("/sys"))
    }

    fn find_in(self, sysfs: &Path) -> Result<Found, VfioError> {
        let folder = sysfs.join("bus/pci/devices").join(self.to_string());
        if !folder.exists() {
            return Err(VfioError::Missing(self));
        }
        let failed = |source| VfioError::Sysfs { at: self, source };
        let group_folder = folder.join("iommu_group");
        let Some(group) = last_name(&group_folder).map_err(failed)? else {
            return Err(VfioError::NoIommu(self));
        };
        let group = group.parse().map_err(|_digits| {
            let strange = format!("its IOMMU group is called {group:?}");
            failed(io::Error::other(strange))
        })?;
        let driver = last_name(&folder.join("driver")).map_err(failed)?;
        if driver.as_deref() != Some(DRIVER) {
            return Err(VfioError::NotBound { at: self, driver });
        }
        let others = others(&group_folder).map_err(failed)?;
        if !others.is_empty() {
            return Err(VfioError::Shared {
                at: self,
                group,
                others,
            });
        }
        let can_reset = folder.join("reset").exists();
        Ok(Found {
            at: self,
            folder,
            group,
            can_reset,
        })
    }
}

/// The name of what a link leads to; `None` where there is no link.
fn last_name(link: &Path) -> io::Result<Option<String>> {
    match fs::read_link(link) {
        Ok(target) => {
            let name = target.file_name().unwrap_or_default();
            Ok(Some(name.to_string_lossy().into_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The devices of a group that the host itself uses, each with its driver.
fn others(group: &Path) -> io::Result<Vec<String>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(group.join("devices"))? {
        let entry = entry?;
        let Some(driver) = last_name(&entry.path().join("driver"))? else {
            continue;
        };
        if driver != DRIVER && !HARMLESS.contains(&driver.as_str()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            others.push(format!("{name} ({driver})"));
        }
    }
    others.sort_unstable();
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const AT: &str = "0000:00:04.0";

    /// A sysfs with functions of these drivers, all in group 7.
    fn host(functions: &[(&str, Option<&str>)]) -> TempDir {
        let sysfs = tempfile::tempdir().unwrap();
        let devices = sysfs.path().join("bus/pci/devices");
        let group = sysfs.path().join("kernel/iommu_groups/7");
        fs::create_dir_all(group.join("devices")).unwrap();
        for (name, driver) in functions {
            let folder = devices.join(name);
            fs::create_dir_all(&folder).unwrap();
            symlink(&group, folder.join("iommu_group")).unwrap();
            symlink(&folder, group.join("devices").join(name)).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../drivers/{driver}"), folder.join("driver")).unwrap();
            }
        }
        sysfs
    }

    fn find(sysfs: &TempDir) -> Result<Found, VfioError> {
        AT.parse::<HostPciAddress>().unwrap().find_in(sysfs.path())
    }

    #[test]
    fn a_function_that_vfio_pci_has_is_found() {
        let sysfs = host(&[
            (AT, Some("vfio-pci")),
            ("0000:00:04.1", Some("vfio-pci")),
            ("0000:00:04.2", None),
            ("0000:00:01.0", Some("pcieport")),
        ]);
        let found = find(&sysfs).unwrap();
        assert_eq!((found.group, found.at.to_string().as_str()), (7, AT));
        assert!(found.folder.ends_with(AT));
    }

    #[test]
    fn who_has_it_is_said_and_how_to_change_that() {
        let text = |driver| find(&host(&[(AT, driver)])).unwrap_err().to_string();
        let bound = text(Some("nvme"));
        assert!(bound.contains("bound to the driver nvme"), "{bound}");
        assert!(bound.contains("drivers/nvme/unbind"), "{bound}");
        let unbound = text(None);
        assert!(
            unbound.contains("bound to no driver") && !unbound.contains("unbind"),
            "{unbound}"
        );
    }

    #[test]
    fn a_group_that_the_host_uses_is_refused_with_its_devices() {
        let sysfs = host(&[
            (AT, Some("vfio-pci")),
            ("0000:00:04.1", Some("snd_hda_intel")),
            ("0000:00:04.2", Some("i801_smbus")),
        ]);
        match find(&sysfs) {
            Err(VfioError::Shared {
                group: 7, others, ..
            }) => {
                assert_eq!(
                    others,
                    ["0000:00:04.1 (snd_hda_intel)", "0000:00:04.2 (i801_smbus)"]
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_there_or_has_no_iommu_is_said_so() {
        let sysfs = host(&[]);
        assert!(matches!(find(&sysfs), Err(VfioError::Missing(_))));
        let sysfs = host(&[(AT, Some("vfio-pci"))]);
        let link = sysfs
            .path()
            .join("bus/pci/devices")
            .join(AT)
            .join("iommu_group");
        fs::remove_file(&link).unwrap();
        assert!(matches!(find(&sysfs), Err(VfioError::NoIommu(_))));
        symlink("../groups/seven", &link).unwrap();
        assert!(matches!(find(&sysfs), Err(VfioError::Sysfs { .. })));
    }
}
