use super::*;
use firstlight_boot::Pc;
use firstlight_boot::platform::{VirtArm64, VirtRiscv64};

fn pc() -> Platform {
    Platform::Pc(Pc::new(1 << 30, 1))
}

#[test]
fn a_command_line_without_a_console_is_told_so() {
    let told = explain("root=/dev/vda quiet", &pc());
    assert!(told[0].starts_with("no console= at all"), "{told:?}");
    assert!(told[1].starts_with("no early console"), "{told:?}");
    assert!(told[2].starts_with("quiet hides"), "{told:?}");
}

#[test]
fn a_console_that_the_machine_lacks_is_told_so() {
    let told = explain("console=tty0 console=hvc0", &pc());
    assert!(
        told[0].contains("none of which this machine has"),
        "{told:?}"
    );
}

#[test]
fn a_command_line_with_everything_in_order_is_repeated() {
    let told = explain("console=ttyS0,115200 earlyprintk=ttyS0", &pc());
    assert_eq!(
        told,
        [
            "the kernel was told console=ttyS0,115200",
            "early console: earlyprintk=ttyS0"
        ]
    );
}

#[test]
fn an_arm_machines_port_has_another_name() {
    let arm = Platform::VirtArm64(VirtArm64::new(1 << 30, 1));
    let told = |cmdline| explain(cmdline, &arm)[0].clone();
    assert_eq!(
        told("console=ttyAMA0"),
        "the kernel was told console=ttyAMA0"
    );
    assert!(told("console=ttyS0").ends_with("add console=ttyAMA0"));
    assert!(told("").contains("device tree"));
}

#[test]
fn a_riscv_machines_early_console_is_the_firmwares() {
    let riscv = Platform::VirtRiscv64(VirtRiscv64::new(1 << 30, 1));
    let told = explain("console=ttyS0", &riscv);
    assert!(told[1].contains("add earlycon=sbi"), "{told:?}");
}
