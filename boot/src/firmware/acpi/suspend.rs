//! The device that a system tells when it goes to sleep without turning anything off, and when it has
//! woken, and what of it is said to the machine (Intel, "Low Power S0 Idle", document 329651; Microsoft,
//! "Modern Standby firmware notifications"; Linux, `drivers/acpi/x86/s2idle.c`).

use crate::platform::Pc;
use acpi_tables::Aml;
use acpi_tables::aml::{
    Arg, BufferData, Device, EISAName, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, IO, If, Local, Method, Name, ONE, OpRegion, OpRegionSpace, Path,
    ResourceTemplate, Return, Store, Uuid, ZERO,
};
use alloc::vec;
use alloc::vec::Vec;

/// By which interface systems speak to it: Linux by the first on Intel's processors and by the second
/// on AMD's. In both, the same functions say the same.
const INTERFACES: [&str; 2] = [
    "C4EB40A0-6CD2-11E2-BCFD-0800200C9A66",
    "11E00D56-CE64-47CE-837B-1F898F9AA461",
];
/// The functions: which there are, and that the system goes to sleep, and that it has woken.
const QUERY: u8 = 0;
const ENTRY: u8 = 5;
const EXIT: u8 = 6;
const FUNCTIONS: u8 = 1 << QUERY | 1 << ENTRY | 1 << EXIT;

/// The device, whose port is written.
pub(super) fn controller(code: &mut Vec<u8>) {
    let hid = EISAName::new("PNP0D80");
    let port = IO::new(Pc::SUSPEND_NOTICE.0, Pc::SUSPEND_NOTICE.0, 1, 1);
    let resources = ResourceTemplate::new(vec![&port]);
    let at = Pc::SUSPEND_NOTICE.0;
    let region = OpRegion::new("SLPR".into(), OpRegionSpace::SystemIO, &at, &ONE);
    let field = Field::new(
        "SLPR".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"SLPB", 8)],
    );
    let names = [
        Name::new("_HID".into(), &hid),
        Name::new("_UID".into(), &ZERO),
        Name::new("_CRS".into(), &resources),
    ];
    let mut children: Vec<&dyn Aml> = names.iter().map(|name| -> &dyn Aml { name }).collect();
    children.extend([&region as &dyn Aml, &field, &Told]);
    Device::new(Path::new("_SB_.SLPC"), children).to_aml_bytes(code);
}

/// `_DSM` (ACPI 6.5, section 9.1.1): interface, revision, function and what more there is to say.
struct Told;

impl Aml for Told {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let port = Path::new("SLPB");
        let (is_known, interface, function) = (Local(0), Arg(0), Arg(2));
        let forget = Store::new(&is_known, &ZERO);
        let know = Store::new(&is_known, &ONE);
        let [intel, microsoft] = INTERFACES.map(Uuid::new);
        let [by_intel, by_microsoft] =
            [&intel, &microsoft].map(|uuid| Equal::new(&interface, uuid));
        let [of_intel, of_microsoft] =
            [&by_intel, &by_microsoft].map(|is| If::new(is, vec![&know]));

        let (functions, nothing) = (BufferData::new(vec![FUNCTIONS]), BufferData::new(vec![0]));
        let tell_functions = Return::new(&functions);
        let (sleep, wake) = (Store::new(&port, &ONE), Store::new(&port, &ZERO));
        let [is_query, is_entry, is_exit] =
            [&QUERY, &ENTRY, &EXIT].map(|number| Equal::new(&function, number));
        let query = If::new(&is_query, vec![&tell_functions]);
        let entry = If::new(&is_entry, vec![&sleep]);
        let exit = If::new(&is_exit, vec![&wake]);
        let was_known = Equal::new(&is_known, &ONE);
        let known = If::new(&was_known, vec![&query, &entry, &exit]);
        let end = Return::new(&nothing);
        let steps: Vec<&dyn Aml> = vec![&forget, &of_intel, &of_microsoft, &known, &end];
        Method::new("_DSM".into(), 4, true, steps).to_aml_bytes(sink);
    }
}
