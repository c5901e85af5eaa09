//! ACPI tables that a user gives (ACPI specification 6.5, section 5.2.6).

use alloc::string::String;
use alloc::vec::Vec;
use firstlight_base::Reader;

/// A whole table: its header and what is behind it, with a right length and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTable(Vec<u8>);

/// Bytes that are no table to be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiTableError {
    /// There is no whole header.
    #[error(
        "it has {len} bytes, and an ACPI table has a header of {}",
        AcpiTable::HEADER_LEN
    )]
    Short {
        /// How many there are.
        len: usize,
    },
    /// The signature is not four letters or digits.
    #[error(
        "it begins with {found}, where an ACPI table has a signature of four capital letters or digits"
    )]
    Signature {
        /// What is there, as a person reads it.
        found: String,
    },
    /// The header has another length.
    #[error("its header says that it has {told} bytes, but it has {len}")]
    Length {
        /// How many the header says.
        told: u32,
        /// How many there are.
        len: usize,
    },
    /// The bytes do not add up.
    #[error(
        "its bytes add up to {sum:#04x}, and those of an ACPI table to 0: its checksum is wrong"
    )]
    Checksum {
        /// What they add up to.
        sum: u8,
    },
    /// The machine has such a table, and can have one.
    #[error("it is a table {signature}, which the machine makes itself")]
    Ours {
        /// Its signature.
        signature: String,
    },
}

impl AcpiTable {
    /// How many bytes the header has.
    pub const HEADER_LEN: usize = 36;

    /// What the machine makes, or what is not in the list of tables: there is one of each.
    const OURS: [&[u8; 4]; 7] = [
        b"DSDT", b"FACP", b"APIC", b"MCFG", b"FACS", b"XSDT", b"RSDT",
    ];

    /// `bytes` as a table.
    ///
    /// # Errors
    ///
    /// [`AcpiTableError`] where they are none, or one that the machine makes itself.
    pub fn new(bytes: Vec<u8>) -> Result<Self, AcpiTableError> {
        let len = bytes.len();
        let short = AcpiTableError::Short { len };
        let reader = Reader::new(&bytes);
        if len < Self::HEADER_LEN {
            return Err(short);
        }
        let (Some(signature), Ok(told)) = (bytes.first_chunk::<4>(), reader.u32_le(4)) else {
            return Err(short);
        };
        let is_sign = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let shown = signature.escape_ascii();
        if !signature.iter().all(is_sign) {
            let found = alloc::format!("\"{shown}\"");
            return Err(AcpiTableError::Signature { found });
        }
        if usize::try_from(told) != Ok(len) {
            return Err(AcpiTableError::Length { told, len });
        }
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if sum != 0 {
            return Err(AcpiTableError::Checksum { sum });
        }
        if Self::OURS.contains(&signature) {
            let signature = alloc::format!("{shown}");
            return Err(AcpiTableError::Ours { signature });
        }
        Ok(Self(bytes))
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl acpi_tables::Aml for AcpiTable {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::string::ToString;

    /// A table with this signature and these bytes behind the header.
    pub(crate) fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        bytes.extend(u32::try_from(36 + body.len()).unwrap().to_le_bytes());
        bytes.extend([1, 0]);
        bytes.extend(b"AUTHORHISTABLE\x01\0\0\0MAKE\x01\0\0\0");
        bytes.extend(body);
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[9] = sum.wrapping_neg();
        bytes
    }

    #[test]
    fn a_right_table_is_taken_as_it_is() {
        let bytes = table(b"SSDT", &[0x08, b'N', b'A', b'M', b'E', 0x01]);
        assert_eq!(AcpiTable::new(bytes.clone()).unwrap().bytes(), bytes);
        AcpiTable::new(table(b"OEM1", &[])).unwrap();
    }

    #[test]
    fn a_table_cut_anywhere_is_refused() {
        let whole = table(b"SSDT", &[0x08, b'N', b'A', b'M', b'E', 0x01]);
        for len in 0..whole.len() {
            let error = AcpiTable::new(whole[..len].to_vec()).unwrap_err();
            match len {
                ..36 => assert_eq!(error, AcpiTableError::Short { len }),
                _ => assert_eq!(error, AcpiTableError::Length { told: 42, len }),
            }
        }
        let longer = [whole, [0].to_vec()].concat();
        assert!(matches!(
            AcpiTable::new(longer),
            Err(AcpiTableError::Length { .. })
        ));
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said() {
        let said = |bytes| AcpiTable::new(bytes).unwrap_err().to_string();
        let mut wrong = table(b"SSDT", b"x");
        wrong[36] = b'y';
        assert!(said(wrong).contains("add up to 0x01"));
        assert!(said(table(b"ss\n\xff", b"")).contains(r#"begins with "ss\n\xff""#));
        for ours in AcpiTable::OURS {
            assert!(said(table(ours, b"")).contains("the machine makes itself"));
        }
    }
}
