//! A plan as JSON, schema `firstlight.plan/1`: documented in `docs/json.md`.

use crate::args::GuestArgs;
use crate::json::{Hex, Span, to_text};
use firstlight_base::VcpuState;
use firstlight_base::x86::{DescriptorTable, Mode, Registers, Segment};
use firstlight_boot::draw::{self, Place};
use firstlight_boot::{BootPlan, Content, Relocate};
use serde::Serialize;
use std::collections::BTreeMap;

/// The plan as text.
pub(super) fn plan(plan: &BootPlan, args: &GuestArgs) -> String {
    to_text(&Plan {
        schema: "firstlight.plan/1",
        kernel: args.kernel().display().to_string(),
        image: plan.image(),
        protocol: plan.protocol().name(),
        cmdline: plan.cmdline(),
        cmdline_is_default: args.cmdline_is_default(),
        memory: args.memory,
        cpus: plan.platform().cpus(),
        ram: plan
            .platform()
            .ram()
            .iter()
            .map(|&range| Span::of(range))
            .collect(),
        moved: (plan.moved() != 0).then(|| Hex(plan.moved())),
        relocate: plan.relocate().map(Shift::of),
        map: map(plan),
        e820: e820(plan),
        devices: devices(plan),
        boot_vcpu: Vcpu::of(plan.boot_vcpu()),
    })
}

#[derive(Serialize)]
struct Plan<'a> {
    schema: &'static str,
    kernel: String,
    image: &'a str,
    protocol: &'static str,
    cmdline: &'a str,
    cmdline_is_default: bool,
    memory: u64,
    cpus: u32,
    ram: Vec<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relocate: Option<Shift>,
    map: Vec<Part<'a>>,
    e820: Vec<Told>,
    devices: Vec<Device>,
    boot_vcpu: Vcpu,
}

#[derive(Serialize)]
struct Shift {
    shift: Hex,
    layer: usize,
    places_64: u64,
    places_inverse_32: u64,
    places_32: u64,
}

impl Shift {
    fn of(relocate: &Relocate) -> Self {
        let (places_64, places_inverse_32, places_32) = relocate.places.counts();
        Self {
            shift: Hex(relocate.shift),
            layer: relocate.layer,
            places_64,
            places_inverse_32,
            places_32,
        }
    }
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(flatten)]
    span: Span,
    name: &'a str,
    class: &'static str,
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Source>,
}

#[derive(Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
enum Source {
    Plan { len: u64 },
    Image { layer: usize, offset: u64, len: u64 },
    Initrd,
    Module { number: usize },
    Nothing,
}

fn map(plan: &BootPlan) -> Vec<Part<'_>> {
    let parts = draw::rows(plan).into_iter().map(|row| Part {
        span: Span::of(row.range),
        name: row.name(),
        class: row.class.name(),
        why: row.why(),
        content: row.piece.map(|piece| match &piece.content {
            Content::Bytes(bytes) => Source::Plan {
                len: bytes.len() as u64,
            },
            &Content::Image { layer, offset, len } => Source::Image { layer, offset, len },
            Content::Initrd => Source::Initrd,
            &Content::Module(number) => Source::Module { number },
            Content::Window => Source::Nothing,
        }),
    });
    parts.collect()
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    span: Span,
    #[serde(rename = "type")]
    number: u32,
    kind: String,
}

fn e820(plan: &BootPlan) -> Vec<Told> {
    let told = plan.e820().iter().map(|entry| Told {
        span: Span::of(entry.range),
        number: entry.kind as u32,
        kind: entry.kind.to_string(),
    });
    told.collect()
}

#[derive(Serialize)]
struct Device {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Ports>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Span>,
    irq: Option<u32>,
}

#[derive(Serialize)]
struct Ports {
    base: Hex,
    count: u16,
}

fn devices(plan: &BootPlan) -> Vec<Device> {
    let devices = draw::devices(plan.platform()).into_iter().map(|device| {
        let (ports, memory) = match device.place {
            Place::Ports(base, count) => {
                let base = Hex(u64::from(base.0));
                (Some(Ports { base, count }), None)
            }
            Place::Memory(range) => (None, Some(Span::of(range))),
        };
        Device {
            name: device.name,
            ports,
            memory,
            irq: device.irq.map(|irq| irq.0),
        }
    });
    devices.collect()
}

#[derive(Serialize)]
struct Vcpu {
    architecture: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    registers: BTreeMap<&'static str, Hex>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    segments: BTreeMap<&'static str, Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tables: BTreeMap<&'static str, Table>,
}

impl Vcpu {
    fn of(state: &VcpuState) -> Self {
        let plain = |architecture| Self {
            architecture,
            mode: None,
            registers: hex(draw::registers::named(state)),
            segments: BTreeMap::new(),
            tables: BTreeMap::new(),
        };
        match state {
            VcpuState::X86(registers) => Self {
                architecture: "x86",
                mode: Some(match registers.mode() {
                    Mode::Bits16 => 16,
                    Mode::Bits32 => 32,
                    Mode::Bits64 => 64,
                }),
                registers: hex(draw::registers::general(registers)),
                segments: segments(registers),
                tables: tables(registers),
            },
            VcpuState::Arm64(_) => plain("arm64"),
            VcpuState::Riscv64(_) => plain("riscv64"),
        }
    }
}

fn hex(named: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, Hex> {
    let named = named.into_iter();
    named.map(|(name, value)| (name, Hex(value))).collect()
}

#[derive(Serialize)]
struct Descriptor {
    selector: Hex,
    base: Hex,
    limit: Hex,
    access: Hex,
}

fn segments(registers: &Registers) -> BTreeMap<&'static str, Descriptor> {
    let descriptor = |segment: Segment| Descriptor {
        selector: Hex(u64::from(segment.selector)),
        base: Hex(segment.base),
        limit: Hex(u64::from(segment.limit)),
        access: Hex(u64::from(segment.access)),
    };
    let named = registers.segments().into_iter();
    named
        .map(|(name, segment)| (name, descriptor(segment)))
        .collect()
}

#[derive(Serialize)]
struct Table {
    base: Hex,
    limit: Hex,
}

fn tables(registers: &Registers) -> BTreeMap<&'static str, Table> {
    let table = |table: DescriptorTable| Table {
        base: Hex(table.base),
        limit: Hex(u64::from(table.limit)),
    };
    BTreeMap::from([("gdt", table(registers.gdt)), ("idt", table(registers.idt))])
}
