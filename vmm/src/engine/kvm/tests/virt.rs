//! The machines that no x86 host runs, with exits that are played back.

use super::*;
use firstlight_base::{GpaRange, Irq};
use firstlight_boot::platform::{Gic, RiscvIrqchip, VirtArm64, VirtRiscv64};
use firstlight_boot::{Hardware, Request};
use firstlight_hv::{Aia, SbiCall};
use firstlight_image::testing::{arm64_image, firmware, riscv_image};
use firstlight_image::{Image, Limits as ImageLimits};

/// A plan for the kernel on a machine of `hardware` with 2 vCPUs.
fn planned(kernel: &[u8], hardware: Hardware) -> BootPlan {
    let image = Image::open(kernel, &ImageLimits::default()).unwrap();
    let request = Request {
        cpus: 2,
        hardware,
        ..Request::default()
    };
    firstlight_boot::plan(&image, &request).unwrap()
}

fn arm64(gic: Gic) -> BootPlan {
    let hardware = Hardware {
        gic,
        ..Hardware::default()
    };
    planned(&arm64_image().build(), hardware)
}

fn riscv64(irqchip: RiscvIrqchip) -> BootPlan {
    let hardware = Hardware {
        irqchip,
        ..Hardware::default()
    };
    planned(&riscv_image().build(), hardware)
}

/// Runs the first vCPU through `steps`; with all that was done to the machine, and the console.
fn run(plan: &BootPlan, steps: impl IntoIterator<Item = Step>) -> (Ending, Vec<Record>, String) {
    let script = Script::new().vcpu(VcpuId::BOOT, steps);
    let machine = machine(&script, plan, &Equipment::default()).unwrap();
    let (mut console, person) = Person::at_a_console();
    let machine = Machine::new(machine);
    let ending = machine.run(plan, &Limits::default(), &mut console).unwrap();
    drop(console);
    (ending, script.record(), person.saw())
}

const SHUTDOWN: Step = Step::SystemEvent(SystemEvent::Shutdown);

fn write(range: GpaRange, offset: u64, value: u32) -> Step {
    Step::MmioWrite {
        at: Gpa::new(range.start().get() + offset),
        data: value.to_le_bytes().to_vec(),
    }
}

fn write_byte(range: GpaRange, offset: u64, value: u8) -> Step {
    Step::MmioWrite {
        at: Gpa::new(range.start().get() + offset),
        data: vec![value],
    }
}

fn read(range: GpaRange, offset: u64) -> Step {
    Step::MmioRead {
        at: Gpa::new(range.start().get() + offset),
        width: 4,
    }
}

fn made(record: &[Record]) -> Vec<&Record> {
    let is_made = |record: &&Record| {
        matches!(
            record,
            Record::CreateIrqchip(_) | Record::CreateVcpus(..) | Record::SetState(..)
        )
    };
    record.iter().filter(is_made).collect()
}

#[test]
fn an_arm64_machine_is_made_as_its_plan_says() {
    let distributor = Gpa::new(0x0800_0000);
    let v2 = Irqchip::GicV2 {
        distributor,
        cpu_interface: Gpa::new(0x0801_0000),
    };
    let v3 = |its| Irqchip::GicV3 {
        distributor,
        redistributors: Gpa::new(0x080a_0000),
        its,
    };
    for (gic, irqchip) in [
        (Gic::V2, v2),
        (Gic::V3 { its: false }, v3(None)),
        (Gic::V3 { its: true }, v3(Some(Gpa::new(0x0808_0000)))),
    ] {
        let plan = arm64(gic);
        let (ending, record, _) = run(&plan, [SHUTDOWN]);
        assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
        let pmu_only = Features {
            pmu: true,
            el2: false,
        };
        let boot = Box::new(plan.boot_vcpu().clone());
        assert_eq!(
            made(&record),
            [
                &Record::CreateIrqchip(irqchip),
                &Record::CreateVcpus(2, pmu_only),
                &Record::SetState(VcpuId::BOOT, boot),
            ]
        );
    }
}

#[test]
fn an_arm64_guest_prints_and_asks_for_a_reset() {
    let print = b"hi\n".map(|byte| write_byte(VirtArm64::UART, 0, byte));
    let reset = Step::SystemEvent(SystemEvent::Reset);
    let (ending, _, seen) = run(&arm64(Gic::V2), print.into_iter().chain([reset]));
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
    assert_eq!(seen, "hi\n");
}

#[test]
fn an_arm64_guest_gets_its_serial_interrupt_by_a_level() {
    const INTERRUPT_MASK: u64 = 0x38;
    const INTERRUPT_CLEAR: u64 = 0x44;
    const TRANSMIT: u32 = 1 << 5;
    let steps = [
        write(VirtArm64::UART, INTERRUPT_MASK, TRANSMIT),
        write_byte(VirtArm64::UART, 0, b'\n'),
        write(VirtArm64::UART, INTERRUPT_CLEAR, TRANSMIT),
        SHUTDOWN,
    ];
    let (_, record, _) = run(&arm64(Gic::V2), steps);
    let driven = record
        .iter()
        .filter(|record| matches!(record, Record::Irq(..)));
    let line = VirtArm64::UART_IRQ;
    assert_eq!(
        driven.collect::<Vec<_>>(),
        [&Record::Irq(line, true), &Record::Irq(line, false)]
    );
}

#[test]
fn a_riscv64_machine_with_an_aia_has_it_from_the_hypervisor() {
    let plan = riscv64(RiscvIrqchip::Aia);
    let (ending, record, _) = run(&plan, [SHUTDOWN]);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    let aia = Aia {
        aplic: VirtRiscv64::APLIC,
        imsics: Gpa::new(0x2800_0000),
        sources: 96,
        identities: 255,
    };
    assert_eq!(made(&record)[0], &Record::CreateIrqchip(Irqchip::Aia(aia)));
}

#[test]
fn a_riscv64_machine_with_a_plic_has_it_on_the_board() {
    const UART: Irq = VirtRiscv64::UART_IRQ;
    const PENDING: u64 = 0x1000;
    const HART_1_ENABLE: u64 = 0x2000 + 3 * 0x80;
    const HART_1_CLAIM: u64 = 0x20_0000 + 3 * 0x1000 + 4;
    const INTERRUPT_ENABLE: u64 = 1;
    const TRANSMITTER_EMPTY: u8 = 1 << 1;
    let steps = [
        write(VirtRiscv64::PLIC, 4 * u64::from(UART.0), 1),
        write(VirtRiscv64::PLIC, HART_1_ENABLE, 1 << UART.0),
        write_byte(VirtRiscv64::UART, INTERRUPT_ENABLE, TRANSMITTER_EMPTY),
        read(VirtRiscv64::PLIC, PENDING),
        read(VirtRiscv64::PLIC, HART_1_CLAIM),
        write_byte(VirtRiscv64::UART, INTERRUPT_ENABLE, 0),
        write(VirtRiscv64::PLIC, HART_1_CLAIM, UART.0),
        write_byte(VirtRiscv64::UART, INTERRUPT_ENABLE, TRANSMITTER_EMPTY),
        write(VirtRiscv64::FINISHER, 0, 0x5555),
    ];
    let (ending, record, _) = run(&riscv64(RiscvIrqchip::Plic), steps);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    let irqchips = record
        .iter()
        .filter(|record| matches!(record, Record::CreateIrqchip(_)));
    assert_eq!(irqchips.count(), 0);
    let seen = record.iter().filter(|record| {
        matches!(
            record,
            Record::Pin(..) | Record::Answered(..) | Record::Irq(..)
        )
    });
    let answered = |word: u32| Record::Answered(VcpuId::BOOT, word.to_le_bytes().to_vec());
    let hart_1 = |high| Record::Pin(VcpuId(1), high);
    let expected = [
        hart_1(true),
        answered(1 << UART.0),
        hart_1(false),
        answered(UART.0),
        hart_1(true),
    ];
    assert_eq!(seen.cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn a_riscv64_guest_prints_by_its_execution_environment() {
    let byte = |byte: u8| {
        Step::SbiCall(SbiCall {
            extension: 0x4442_434e,
            function: 2,
            arguments: [byte.into(), 0, 0, 0, 0, 0],
        })
    };
    let steps = b"hi\n".map(byte).into_iter().chain([SHUTDOWN]);
    let (_, record, seen) = run(&riscv64(RiscvIrqchip::Plic), steps);
    assert_eq!(seen, "hi\n");
    let answered = Record::SbiAnswered(VcpuId::BOOT, [0, 0]);
    assert_eq!(record.iter().filter(|one| **one == answered).count(), 3);
}

#[test]
fn flash_is_hidden_from_the_guest_while_its_chips_answer() {
    const PE_ARM64: u16 = 0xaa64;
    let plan = planned(&firmware(PE_ARM64).build(), Hardware::default());
    let banks = VirtArm64::FLASH;
    let steps = [
        // To erase a block, see that it was, and read what is stored again.
        write(banks.variables, 0x4_0000, 0x0020_0020),
        write(banks.variables, 0x4_0000, 0x00d0_00d0),
        read(banks.variables, 0x4_0000),
        write(banks.variables, 0x4_0000, 0x00ff_00ff),
        read(banks.variables, 0x4_0000),
        read(banks.variables, 0),
        read(banks.code, 0),
        SHUTDOWN,
    ];
    let (ending, record, _) = run(&plan, steps);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    let both = vec![banks.code, banks.variables];
    assert!(record.contains(&Record::MapRom(both)));
    let shown = record.iter().filter_map(|record| match record {
        Record::ShowRom(range, is_shown) => Some((*range, *is_shown)),
        _ => None,
    });
    assert!(shown.eq([(banks.variables, false), (banks.variables, true)]));
    let answers = record.iter().filter_map(|record| match record {
        Record::Answered(_, data) => Some(data.as_slice()),
        _ => None,
    });
    let expected: [&[u8]; 4] = [&[0x80, 0, 0x80, 0], &[0xff; 4], &[0; 4], b"firm"];
    assert!(answers.eq(expected));
}
